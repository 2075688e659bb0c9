"""What a project offers to learn from, what it locks away for scoring, and what is wrong with either.

Learned from is what lies in reviewed regions outside the locked ones; scored on is what lies in both.
Rejected cells are background there, and cells that the edge of a region cuts are ignored. Images are
shown to the learner as they are shown to the segmenter.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clean import DECIDED
from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.core.measure import median_diameter
from cell_curator.core.recipe import Recipe
from cell_curator.core.regions import HOLDOUT, REVIEWED, middles_in, whole_cells
from cell_curator.core.words import number_of
from cell_curator.doubtful_images import doubtful_in
from cell_curator.engines.segmenter import SegmentParameters, source_image
from cell_curator.engines.training_data import Example
from cell_curator.project_models import known

if TYPE_CHECKING:
    from cell_curator.session import Session

FEWEST = 5
"""Cells below which nothing can be learned, as in Cellpose."""

FEW = 50
"""Cells below which a model as a rule gains little."""

ODD_SIZES = 3.0
"""Factor between diameters from which the difference is worth a line."""


@dataclass(frozen=True)
class Finding:
    """One line before training: what is wrong, what to do, and whether training cannot start."""

    text: str
    remedy: str
    stops: bool = False

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


@dataclass(frozen=True)
class Counts:
    """Images with something to learn from and their cells; images locked away and reviewed, and theirs."""

    examples: int
    cells: int
    holdout_images: int
    holdout_cells: int


@dataclass(frozen=True)
class Given:
    """One image's part: the example, the image's id, a hash of its pixels, and cells lost at region edges."""

    example: Example
    image_id: int
    digest: str
    dtype: str
    cut: int
    recipe_hash: str

    @property
    def cells(self) -> int:
        """Number of whole cells."""
        return len(np.unique(self.example.labels)) - 1 if self.example.labels.any() else 0

    @property
    def diameter(self) -> float:
        """Median diameter of the cells as Cellpose measures it, px; 0 without cells."""
        return median_diameter([self.example.labels])


@dataclass(frozen=True)
class Gathered:
    """Everything marked: to learn from, to score on, images that could not be read (name, why), and leftovers.

    ``unmarked`` counts cells that a person decided outside all reviewed regions; ``unreviewed`` names
    images locked away of which nothing was reviewed.
    """

    train: tuple[Given, ...]
    holdout: tuple[Given, ...]
    failed: tuple[tuple[str, str], ...]
    unmarked: int
    unreviewed: tuple[str, ...]


def gather(session: Session) -> Job[Gathered]:
    """Read all images with marks."""
    train: list[Given] = []
    holdout: list[Given] = []
    failed: list[tuple[str, str]] = []
    unreviewed: list[str] = []
    marked = [record for record in session.images if session.regions(record.image_id)]
    for index, record in enumerate(marked):
        yield Progress(index / len(marked), f"{record.name} ({index + 1} of {len(marked)})")
        reviewed, locked = (session.marked(record.image_id, kind) for kind in (REVIEWED, HOLDOUT))
        if not (reviewed & locked).any() and locked.any():
            unreviewed.append(record.name)
        try:
            for inside, target in ((reviewed & ~locked, train), (reviewed & locked, holdout)):
                if inside.any():
                    target.append(_given(session, record.image_id, inside))
        except UserError as error:
            failed.append((record.name, str(error)))
    return Gathered(tuple(train), tuple(holdout), tuple(failed), _unmarked(session), tuple(unreviewed))


def counts(session: Session) -> Counts:
    """How much is marked, without reading images: a cell counts where its middle is."""
    found = {False: [0, 0], True: [0, 0]}
    for record in session.images:
        if not any(region.kind == REVIEWED for region in session.regions(record.image_id)):
            continue
        rows = session.cells.of_image(record.image_id)
        rows = rows[rows["verdict"] != "rejected"]
        reviewed, locked = (session.marked(record.image_id, kind) for kind in (REVIEWED, HOLDOUT))
        for held in (False, True):
            inside = reviewed & (locked if held else ~locked)
            if inside.any():
                found[held][0] += 1
                found[held][1] += int(middles_in(rows, inside).sum())
    return Counts(*found[False], *found[True])


def preflight(session: Session) -> Job[tuple[Finding, ...]]:
    """What should be known before training; see `findings`."""
    return findings(session, (yield from gather(session)))


def findings(session: Session, given: Gathered) -> tuple[Finding, ...]:
    """Everything worth saying of what was gathered, the worst first."""
    found = [
        *_unreadable(given),
        *_too_few(given),
        *_locked(given),
        *_uneven(session, given),
        *_spoiled(session, given),
    ]
    if given.unmarked:
        cells = number_of(given.unmarked, "cell")
        found.append(
            Finding(f"{cells} you decided lie outside all reviewed regions", "mark these regions reviewed to use them")
        )
    return tuple(sorted(found, key=lambda finding: not finding.stops))


def _given(session: Session, image_id: int, inside: NDArray[np.bool_]) -> Given:
    record, rows = session.image(image_id), session.cells.of_image(image_id)
    rejected = rows.loc[rows["verdict"] == "rejected", "label"].to_numpy()
    labels = session.labels(image_id)
    labels[np.isin(labels, rejected)] = 0
    whole, counting = whole_cells(labels, inside)
    pixels = session.pixels(image_id)
    image = source_image(
        lambda: session.prepared(image_id), lambda: session.pixels(image_id), session.get(SegmentParameters)
    )
    return Given(
        Example(record.name, np.asarray(image, np.float32), whole, counting),
        image_id,
        hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16],
        str(pixels.dtype),
        len(np.setdiff1d(np.unique(labels[inside]), np.unique(whole))),
        session.recipe_for(image_id).hash,
    )


def _unmarked(session: Session) -> int:
    """Cells that were edited or accepted where nothing is marked."""
    rows = session.cells.frame
    rows = rows[rows["verdict"].isin(DECIDED)]
    lost = 0
    for image_id in rows["image"].unique().tolist():
        there = middles_in(rows[rows["image"] == image_id], session.marked(image_id, REVIEWED))
        lost += int((~there).sum())
    return lost


def _unreadable(given: Gathered) -> list[Finding]:
    return [Finding(f"{name}: {why}", "it is left out of this round") for name, why in given.failed]


def _spoiled(session: Session, given: Gathered) -> list[Finding]:
    text = doubtful_in(session, {one.image_id for one in (*given.train, *given.holdout)}).text("")
    return [Finding(text, "they are used all the same; take back their marks to leave them out")] if text else []


def _too_few(given: Gathered) -> list[Finding]:
    cells, cut = sum(one.cells for one in given.train), sum(one.cut for one in given.train)
    if not given.train:
        return [Finding("nothing is marked as reviewed", "correct the cells of a region and mark it reviewed", True)]
    if not cells and cut:
        line = "the edges of the reviewed regions cut all cells in them"
        return [Finding(line, "mark larger regions, or whole images", True)]
    if cells < FEWEST:
        line = f"only {cells} whole cells are in reviewed regions"
        return [Finding(line, f"review more: {FEWEST} are needed, {FEW} or more are better", True)]
    found = []
    if cells < FEW:
        found.append(Finding(f"only {cells} whole cells to learn from", f"{FEW} or more are better"))
    if len(given.train) == 1:
        remedy = "review a part of another, or it will know this one only"
        found.append(Finding("all examples are of one image", remedy))
    empty = [one.example.name for one in given.train if not one.cells]
    if empty:
        line = f"no cell is in the reviewed regions of {_listed(empty)}"
        found.append(Finding(line, "they teach what is background; unmark them if cells are missing"))
    return found


def _locked(given: Gathered) -> list[Finding]:
    found = []
    if given.unreviewed:
        line = f"{_listed(given.unreviewed)} locked away but not reviewed"
        found.append(Finding(line, "correct and mark them reviewed, or they cannot score a model"))
    cells = [sum(one.cells for one in part) for part in (given.train, given.holdout)]
    if not cells[1]:
        found.append(Finding("no reviewed cell is locked away", "lock an image, or nobody can tell whether it helped"))
    elif cells[1] > cells[0]:
        line = f"more cells are locked away ({cells[1]}) than learned from ({cells[0]})"
        found.append(Finding(line, "review more images, or unlock some"))
    seen = {one.digest: one for one in given.train}
    for held in given.holdout:
        twin = seen.get(held.digest)
        if twin is not None and twin.image_id != held.image_id:
            line = f"{held.example.name} is locked away but has the same pixels as {twin.example.name}, which is not"
            found.append(Finding(line, "lock both or remove one, or the score is worth nothing", True))
    return found


def _uneven(session: Session, given: Gathered) -> list[Finding]:
    every = (*given.train, *given.holdout)
    found = []
    kinds = sorted({one.dtype for one in every})
    if len(kinds) > 1:
        line = f"images with different grey levels are mixed ({' and '.join(kinds)})"
        found.append(Finding(line, "each is scaled by itself; convert them alike if they look different"))
    sizes = {one.example.name: one.diameter for one in every if one.diameter}
    if sizes and max(sizes.values()) > ODD_SIZES * min(sizes.values()):
        small, large = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        line = f"cells measure {sizes[small]:.0f} px in {small} and {sizes[large]:.0f} px in {large}"
        found.append(Finding(line, "check that both show the same magnification"))
    return found + _base(session, given, sizes)


def _base(session: Session, given: Gathered, sizes: dict[str, float]) -> list[Finding]:
    """What does not fit the model that is to learn on."""
    parameters = session.get(SegmentParameters)
    card = next((card for card in known(session) if card.name == parameters.model), None)
    if card is None:
        return []
    found = []
    usual, median = float(card.details.get("diameter_px", 0.0)), float(np.median([*sizes.values()] or [0.0]))
    if usual and median and not 1 / ODD_SIZES <= median / usual <= ODD_SIZES:
        line = f"your cells measure {median:.0f} px, those of {card.title} {usual:.0f} px"
        found.append(Finding(line, "images are rescaled for it; fine detail may be lost, so compare the results"))
    made_with = card.details.get("recipe_hash")
    now = session.get(Recipe).hash if parameters.source == "prepared" else ""
    if made_with is not None and made_with != now:
        line = f"{card.title} learned on images that were prepared in another way"
        found.append(Finding(line, "go back to that recipe, or let it learn the new one in this round"))
    return found


def _listed(names: list[str] | tuple[str, ...]) -> str:
    """At most three names."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
