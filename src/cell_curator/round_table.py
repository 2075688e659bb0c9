"""The rounds of a project as a table, the effort between them, and what they say in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cell_curator.core.regions import REVIEWED, middles_in
from cell_curator.core.words import number_of
from cell_curator.editing import TOOLS
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.project_models import title

if TYPE_CHECKING:
    from cell_curator.session import Session

CORRECTIONS = frozenset(TOOLS) | {"paint"}
"""Actions of the journal that correct pixels; a rejected cell is a correction, too."""


FEW_JUDGED = 100
"""Locked cells below which a few points more or less say nothing: at 50 % AP the error is 5 points for 100 cells."""


@dataclass(frozen=True)
class RoundRow:
    """One row of the table; ``round_id`` 0 is the model before the first round. None where not known.

    AP is 0..1 on the images locked away, ``splits``, ``merges``, ``misses`` count cells there.
    """

    round_id: int
    title: str
    model: str
    parent: str
    examples: int
    cells: int
    ap50: float | None
    ap75: float | None
    ap90: float | None
    splits: int | None
    merges: int | None
    misses: int | None
    minutes: float | None
    edits_per_100: float | None
    in_use: bool
    usable: bool
    note: str


@dataclass(frozen=True)
class Effort:
    """Corrections since the last round, and the cells of the regions that were reviewed meanwhile."""

    edits: int
    cells: int

    @property
    def per_100(self) -> float | None:
        """Corrections for every 100 of these cells; None without cells."""
        return round(100 * self.edits / self.cells, 1) if self.cells else None


def table(session: Session) -> tuple[RoundRow, ...]:
    """All rounds, the oldest first, below the model they began with; empty before the first."""
    if not session.rounds:
        return ()
    used, first = session.get(SegmentParameters).model, session.rounds[0]
    start = str(first.detail.get("parent", ""))
    rows = [_row(0, title(session, start), start, "", {}, first.detail.get("before"), start == used)]
    for made in session.rounds:
        detail = made.detail
        parent = str(detail.get("parent_title", ""))
        rows.append(
            _row(made.round_id, detail["title"], made.model, parent, detail, detail.get("scores"), made.model == used)
        )
    return tuple(rows)


def _row(number: int, name: str, model: str, parent: str, detail: Any, scores: Any, in_use: bool) -> RoundRow:
    scores = scores or {}
    notes = [*detail.get("notes", ()), *([detail["note"]] if "note" in detail else ())]
    if detail.get("stopped") == "cancelled":
        notes.insert(0, "cancelled; the best so far was kept")
    if scores and detail.get("keep") == "best":
        notes.append("which pass was kept was decided on the locked images, which flatters the score a little")
    return RoundRow(
        number,
        name,
        model,
        parent,
        examples=len(detail.get("examples", ())),
        cells=int(detail.get("cells", 0)),
        **{key: scores.get(key) for key in ("ap50", "ap75", "ap90", "splits", "merges", "misses")},
        minutes=detail.get("minutes"),
        edits_per_100=detail.get("edits_per_100"),
        in_use=in_use,
        usable=bool(detail.get("usable", True)),
        note="; ".join(notes),
    )


def effort(session: Session) -> Effort:
    """What was corrected since the last round, in the images of which something was marked reviewed since.

    What was undone does not count.
    """
    journal = session.project.journal()
    rounds = journal.index[journal["action"] == "round"]
    since = journal[journal.index > (rounds.max() if len(rounds) else -1)]
    marks = [
        detail["image"]
        for action, detail in zip(since["action"], since["detail"], strict=True)
        if action == "mark" and detail["kind"] == REVIEWED and detail["added"]
    ]
    names = set(marks)
    edits = sum(
        _corrections(action, detail, names) for action, detail in zip(since["action"], since["detail"], strict=True)
    )
    cells = sum(_reviewed_cells(session, record.image_id) for record in session.images if record.name in names)
    return Effort(max(edits, 0), cells)


def sentence(session: Session) -> str:
    """What the rounds so far say, for a person."""
    rows = [row for row in table(session) if row.ap50 is not None]
    if not session.rounds:
        return "No round yet: mark what you reviewed, lock an image away, and start one."
    if len(rows) < 2:
        return "Lock an image away and mark it reviewed to see whether a round helped."
    scores = [row.ap50 for row in rows if row.ap50 is not None]
    parts = [f"AP@0.5 on the locked images went from {scores[0]:.0%} to {scores[-1]:.0%}"]
    efforts = [row.edits_per_100 for row in rows if row.edits_per_100 is not None]
    if len(efforts) > 1:
        way = "fell" if efforts[-1] < efforts[0] else "rose"
        parts.append(f"corrections per 100 cells {way} from {efforts[0]:.0f} to {efforts[-1]:.0f}")
    judged = [int(made.detail["scores"]["cells"]) for made in session.rounds if made.detail.get("scores")][-1]
    few = f" Only {judged} cells are locked away, so small differences mean little." if judged < FEW_JUDGED else ""
    return f"{'; '.join(parts)}. {_outlook(scores)}{few}"


def _outlook(scores: list[float]) -> str:
    """What another round may bring, if gains go on shrinking as they do."""
    gains = np.diff(scores)
    if gains[-1] < 0:
        return "The last round made it worse: go back, and look at what it learned from."
    shrink = min(1.0, gains[-1] / gains[-2]) if len(gains) > 1 and gains[-2] > 0 else 0.5
    points = min(100 * gains[-1] * shrink, 100 * (1 - scores[-1]))
    if points < 1:
        return "Another round will probably gain less than 1 point."
    return f"Another round will probably gain about {number_of(round(points), 'point')}."


def _corrections(action: str, detail: Any, images: set[str]) -> int:
    """+1 for a correction of one of these images, −1 where it was undone, else 0."""
    real = detail.get("of", action)
    sign = -1 if action == "undo" else 1
    if real in CORRECTIONS and detail.get("image") in images:
        return sign if detail.get("part", 0) == 0 else 0
    if real == "verdict" and action == real:
        pairs = zip(detail["images"], detail["verdicts"], strict=True)
        return sum(image in images and verdict == "rejected" for image, verdict in pairs)
    return 0


def _reviewed_cells(session: Session, image_id: int) -> int:
    rows = session.cells.of_image(image_id)
    rows = rows[rows["verdict"] != "rejected"]
    return int(middles_in(rows, session.marked(image_id, REVIEWED)).sum())
