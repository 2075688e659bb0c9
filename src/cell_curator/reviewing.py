"""Knowing when the set is good enough: audits, the funnel, cells by reason, what verdicts teach; on a `Session`.

What an audit's cells were called is kept beside the verdicts, never among them, so that it cannot move the
ranking it judges. It counts the cells that count when the sample is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cell_curator.core import clean
from cell_curator.core.audit import CONFIDENCE, Audit, draw, interval, needed
from cell_curator.core.clean import CleanParameters, Step
from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.core.outliers import FLAGGED, REASONS, OutlierParameters, suspicions
from cell_curator.core.verdict_model import FEWEST, FEWEST_OF_A_KIND, Learned, learn
from cell_curator.doubtful_images import ImageReport, image_report
from cell_curator.io.project import Change
from cell_curator.session import Session

AUDIT = "Audit"
"""Name of the setting that holds the audit."""

BOUND = 0.02
"""Share of bad cells that `audit` names the way to, unless asked for another."""


@dataclass(frozen=True)
class AuditState:
    """How an audit stands.

    Parameters
    ----------
    cells
        Ids in the order to look at them; cells that are gone or were changed since are left out.
    verdicts
        Whether a cell is bad, by id, for those that were looked at.
    decided
        How many were looked at.
    bad
        How many are bad.
    interval
        Lowest and highest share of bad cells that agrees with it, 95 % confidence.
    population
        How many cells the sample stands for.
    left_out
        How many were drawn but are gone or changed since.
    more
        How many more cells, all of them good, until the share of bad ones is at most what was asked for.
    text
        For the user, and for a paper.
    """

    cells: tuple[int, ...]
    verdicts: Mapping[int, bool]
    decided: int
    bad: int
    interval: tuple[float, float]
    population: int
    left_out: int
    more: int
    text: str

    @property
    def next(self) -> int | None:
        """The first cell that nobody looked at, or None."""
        return next((cell for cell in self.cells if cell not in self.verdicts), None)


# ---------------------------------------------------------------------- audit


def start_audit(session: Session, n: int, seed: int = 0) -> AuditState:
    """Draw ``n`` of the cells that count by chance; an audit before it is put away.

    Raises
    ------
    UserError
        If no cell counts, or ``n`` is below 1.
    """
    rows = session.counting_cells()
    if not len(rows):
        raise UserError("there are no cells to audit; find cells first, or accept some")
    if n < 1:
        raise UserError("an audit needs at least one cell; ask for 100 or more")
    cells = draw(rows, n, seed)
    made = Audit(seed, cells, len(rows), tuple(int(v) for v in rows.loc[list(cells), "revision"]))
    _store(session, made, "audit", {"cells": list(cells), "seed": seed, "population": len(rows)})
    return _state(session, made)


def audit(session: Session, bound: float = BOUND) -> AuditState | None:
    """How the audit stands, and how many more cells it takes to say "at most ``bound``"; None if there is none."""
    made = _stored(session)
    return None if made is None else _state(session, made, bound)


def audit_verdict(session: Session, cell_id: int, bad: bool | None) -> None:
    """Call a cell of the audit bad or good, or take back what was said (None); one undoable step.

    Raises
    ------
    UserError
        If there is no audit, or the cell is not in it.
    """
    made = _stored(session)
    if made is None or cell_id not in made.cells:
        raise UserError(f"cell {cell_id} is not in the audit; start an audit first")
    session.history.do(_Judge(session, cell_id, bad))


@dataclass(frozen=True)
class _Judge:
    """What is said of one cell of the audit."""

    session: Session
    cell_id: int
    bad: bool | None

    @property
    def title(self) -> str:
        """What the user reads behind "Undo"."""
        return "audit verdict"

    @property
    def cells(self) -> frozenset[int]:
        """The cell."""
        return frozenset((self.cell_id,))

    def apply(self) -> _Judge:
        with self.session.lock:
            made = _stored(self.session)
            if made is None or self.cell_id not in made.cells:  # another audit was started since
                return self
            said = dict(made.verdicts)
            before = said.pop(self.cell_id, None)
            if self.bad is not None:
                said[self.cell_id] = self.bad
            _store(self.session, replace(made, verdicts=said), "audit verdict", {"cell": self.cell_id, "bad": self.bad})
        return _Judge(self.session, self.cell_id, before)


def _stored(session: Session) -> Audit | None:
    stored = session.setting(AUDIT)
    return None if stored is None else Audit.from_json(stored)


def _store(session: Session, made: Audit, action: str, detail: Mapping[str, object]) -> None:
    session.commit(Change(action, detail, settings={AUDIT: made.to_json()}))
    session.events.parameters_changed.emit(AUDIT)


def _state(session: Session, made: Audit, bound: float = BOUND) -> AuditState:
    now = session.cells.frame["revision"].reindex(list(made.cells)).to_numpy(np.float64)
    # a cell is as it was drawn, or it was judged before it was changed
    as_drawn = now == np.asarray(made.revisions, np.float64)
    kept = tuple(
        cell for cell, same in zip(made.cells, as_drawn.tolist(), strict=True) if same or cell in made.verdicts
    )
    verdicts = {cell: made.verdicts[cell] for cell in kept if cell in made.verdicts}
    bad, n = sum(verdicts.values()), len(verdicts)
    low, high = interval(bad, n)
    left_out = len(made.cells) - len(kept)
    more = needed(bad, n, bound)
    text = _text(bad, n, made, bound, left_out)
    return AuditState(kept, verdicts, n, bad, (low, high), made.population, left_out, more, text)


def _text(bad: int, n: int, made: Audit, bound: float, left_out: int) -> str:
    gone = f" {left_out} drawn cells are gone or were changed since and are left out." if left_out else ""
    more = needed(bad, n, bound)
    everything = f" To know it of so few, look at all {made.population:,}." if n + more > made.population else ""
    if not n:
        outlook = everything or f" {more:,} good ones and no bad one would show at most {bound:.1%}."
        return f"None of {len(made.cells)} cells looked at yet.{outlook}{gone}"
    if n == made.population:
        return f"{bad} of all {n:,} cells are bad ({bad / n:.1%}); every one of them was looked at.{gone}"
    low, high = interval(bad, n)
    said = (
        f"{bad} of {n} cells are bad ({bad / n:.1%}; {CONFIDENCE:.0%} confidence: {low:.1%} to {high:.1%}),"
        f" a random sample of {made.population:,}: at most {high:.1%} bad cells."
    )
    outlook = everything or (f" {more:,} more good ones would show at most {bound:.1%}." if more else "")
    return f"{said}{outlook}{gone}"


def record(session: Session) -> dict[str, Any]:
    """What is known of how clean the set is, as plain values to be kept beside the data."""
    frame, names = session.cells.frame, {image.image_id: image.name for image in session.images}
    made, found = _stored(session), image_report(session)
    images = None if found is None else _images(found, names)
    return {
        "cells_that_count": session.get(CleanParameters).model_dump(mode="json"),
        "funnel": [asdict(step) for step in funnel(session)],
        "audit": None if made is None else _audit_record(_state(session, made), made, frame, names),
        "images_that_look_wrong": images,
    }


def _images(found: ImageReport, names: Mapping[int, str]) -> dict[str, Any]:
    flagged = {names[image]: {flag.key: flag.text for flag in those} for image, those in found.flags.items()}
    unread = {names[image]: reason for image, reason in found.unread}
    return {"looked_at": found.looked_at, "flagged": flagged, "unread": unread}


def _audit_record(state: AuditState, made: Audit, frame: pd.DataFrame, names: Mapping[int, str]) -> dict[str, Any]:
    low, high = state.interval
    there = frame.reindex(list(state.cells))
    return {
        "sentence": state.text,
        "seed": made.seed,
        "population": state.population,
        "drawn": len(made.cells),
        "left_out": state.left_out,
        "judged": state.decided,
        "bad": state.bad,
        "low": low,
        "high": high,
        "confidence": CONFIDENCE,
        "cells": [
            {
                "cell_id": cell,
                "image": None if image != image else names.get(int(image)),
                "label": None if label != label else int(label),
                "bad": state.verdicts.get(cell),
            }
            for cell, image, label in zip(state.cells, there["image"], there["label"], strict=True)
        ],
    }


# ---------------------------------------------------------------------- cells


def funnel(session: Session) -> tuple[Step, ...]:
    """From the cells found to the cells that count."""
    return clean.funnel(session.cells.frame, session.get(CleanParameters), session.get(OutlierParameters))


def by_reason(session: Session, key: str) -> tuple[int, ...]:
    """Ids of the cells with a reason of `core.outliers.REASONS`, the most suspicious first.

    Raises
    ------
    UserError
        If there is no such reason.
    """
    if key not in REASONS:
        raise UserError(f"{key!r} is no reason; use one of {', '.join(REASONS)}")
    frame = session.cells.frame
    evidence = suspicions(frame, session.get(OutlierParameters))[key]
    chosen = evidence[evidence >= FLAGGED]
    return tuple(int(cell) for cell in chosen.sort_values(ascending=False, kind="stable").index)


def learned(session: Session) -> Learned | None:
    """What can be learned from the verdicts so far, or None while there are too few."""
    frame = session.cells.frame
    return learn(frame, frame["verdict"], session.get(OutlierParameters))


@dataclass(frozen=True)
class Ranking:
    """How likely each cell is bad, by cell id, and one line on how good that is."""

    likely: pd.Series[float]
    text: str


def rank_by_verdicts(session: Session) -> Job[Ranking]:
    """Learn from the verdicts so far, and say of every cell how likely it is bad.

    Raises
    ------
    UserError
        If there are too few verdicts.
    """
    yield Progress(0.0, "learning")
    made = learned(session)
    if made is None:
        raise UserError(f"it takes {FEWEST} verdicts, {FEWEST_OF_A_KIND} of each kind; accept or reject more cells")
    yield Progress(0.8, "ranking")
    return Ranking(made.probability(session.cells.frame), made.text)
