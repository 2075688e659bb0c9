"""The arrows of the main line as jobs on a session: add → prepare → segment → score → map.

Each function is a generator (`core.jobs`) that stores what it has as it goes, image by image, so
that cancelling or a crash loses the image in hand and nothing else. They may be driven from
any thread. They decide nothing about looks and print nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from cell_curator.adding import AddReport as AddReport
from cell_curator.adding import add_images as add_images
from cell_curator.adopting import adopt as adopt
from cell_curator.adopting import beside_decided as beside_decided
from cell_curator.core.jobs import ALONE, Crew, Hopeless, ItemState, Job, Progress, UserError, scaled
from cell_curator.core.outliers import OutlierParameters, score
from cell_curator.engines.blocks import count
from cell_curator.engines.cluster import Manpower, manned
from cell_curator.engines.memory import reuse_memory
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord
from cell_curator.mapping import MapReport as MapReport
from cell_curator.mapping import cut_patches as cut_patches
from cell_curator.mapping import embed as embed
from cell_curator.mapping import recluster as recluster
from cell_curator.remeasuring import remeasure
from cell_curator.resuming import map_is_new, to_search
from cell_curator.searching import StepReport as StepReport
from cell_curator.searching import chosen_records
from cell_curator.searching import prepare_images as prepare_images
from cell_curator.searching import segment as segment
from cell_curator.searching import segment_each as segment_each
from cell_curator.searching import take_over as take_over

if TYPE_CHECKING:
    from cell_curator.session import Session


T = TypeVar("T")


def by_crew(
    session: Session,
    power: Manpower | None,
    pieces: int,
    make: Callable[[], Job[T]],
    say: Callable[[str], object] | None = None,
) -> Job[T]:
    """A job on a session with a crew at its service for so many pieces of work, see `engines.cluster.manned`."""

    def served(crew: Crew) -> Job[T]:
        session.crew = None if crew is ALONE else crew
        if crew is ALONE:
            reuse_memory()
        try:
            return (yield from make())
        finally:
            session.crew = None

    return (yield from manned(power, pieces, served, say))


@dataclass(frozen=True)
class RunReport:
    """What each part of `run` said; ``map`` is None where there were too few cells (the note says so)."""

    segmented: StepReport
    flagged: int
    map: MapReport | None
    notes: tuple[str, ...]


def score_outliers(session: Session) -> Job[int]:
    """Score every cell and put the reasons into its flags; returns how many are flagged."""
    yield Progress(0.0, "scoring cells")
    if not len(session.cells):
        return 0
    yield from scaled(remeasure(session), 0.0, 0.9)
    frame = session.cells.frame
    scores = score(frame, session.get(OutlierParameters))
    with session.lock:  # cells may have been painted or judged meanwhile: only score and reasons are taken over
        now = session.cells.frame
        same = now["revision"] == frame["revision"].reindex(now.index)
        rows = now[same].assign(score=scores["score"], flags=scores["reasons"])
        flagged = int((rows["flags"] != "").sum())
        session.commit(Change("score", {"cells": len(rows), "flagged": flagged}, cells=rows))
    return flagged


# ---------------------------------------------------------------------- all of it


def search_left(session: Session, *, again: bool = False, failed: bool = False) -> Job[StepReport]:
    """Find the cells of every image of which they are not found yet, or would be others; or of all ``again``.

    ``failed``: only of images that failed. What is to be done is told beforehand, see `core.jobs.ItemState`.
    """
    yield Progress(0.0, "looking for what is done already")
    left = _left(session, again, failed)
    for record in left:
        yield Progress(0.0, record.name, ItemState(record.name, "waiting"))
    kept = 0 if failed else len(session.images) - len(left)
    if not left:
        return StepReport(0, (), kept=kept)
    return replace((yield from segment(session, [record.image_id for record in left])), kept=kept)


def _left(session: Session, again: bool, failed: bool) -> list[ImageRecord]:
    records = chosen_records(session, None)
    if failed:
        return [record for record in records if record.state == "failed"]
    return records if again else to_search(session, records)


def pieces_left(session: Session, *, again: bool = False, failed: bool = False) -> int:
    """How many pieces of work `search_left` has: images, and the blocks of large ones."""
    return sum(count(record.shape) for record in _left(session, again, failed))


def run(session: Session, *, again: bool = False) -> Job[RunReport]:
    """The whole line for every image of the project; what would come out as it is already is not done ``again``."""
    records = chosen_records(session, None)
    segmented = yield from scaled(search_left(session, again=again), 0.0, 0.6)
    flagged = yield from scaled(score_outliers(session), 0.6, 0.65)
    notes = segmented.notes
    if segmented.kept:
        notes = (f"{segmented.kept} of {len(records)} images were done already", *notes)
    stored = session.embedding
    if stored is not None and not again and map_is_new(session):
        space = str(stored.clustering.get("space", ""))
        scores = {name: value for name, value in stored.scores.items() if value is not None}
        kept = MapReport(len(stored.cell_id), len(stored.cluster_names), space, scores, ())
        return RunReport(segmented, flagged, kept, (*notes, "the map was made of these very cells already"))
    made: MapReport | None = None
    try:
        made = yield from scaled(embed(session), 0.65, 0.97)
        notes = (*notes, *made.notes)
        flagged = yield from scaled(score_outliers(session), 0.97, 1.0)  # the map has told more of each cell
    except Hopeless:
        raise
    except UserError as error:  # too few cells for a map: what was found is still worth having
        notes = (*notes, f"no map was made: {error}")
    return RunReport(segmented, flagged, made, notes)
