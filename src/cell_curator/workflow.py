"""The arrows of the main line as jobs on a session: add → prepare → segment → score → map.

Each function is a generator (`core.jobs`) that stores what it has as it goes, image by image, so
that cancelling or a crash loses the image in hand and nothing else. They may be driven from
any thread. They decide nothing about looks and print nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cell_curator.adding import AddReport as AddReport
from cell_curator.adding import add_images as add_images
from cell_curator.adding import title_of
from cell_curator.adopting import adopt as adopt
from cell_curator.adopting import adopt_stack
from cell_curator.adopting import beside_decided as beside_decided
from cell_curator.core.jobs import Job, Progress, UserError, each, scaled
from cell_curator.core.orientation import common_angle
from cell_curator.core.outliers import OutlierParameters, score
from cell_curator.core.preprocess import vote
from cell_curator.core.recipe import Recipe
from cell_curator.core.turns import Turns, search_key
from cell_curator.engines.region import RegionLike
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, explain_channel, source_image
from cell_curator.engines.volumes import Stack, StackParameters, check_stack
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord
from cell_curator.kept_flows import forget, keep
from cell_curator.mapping import MapReport as MapReport
from cell_curator.mapping import cut_patches as cut_patches
from cell_curator.mapping import embed as embed
from cell_curator.mapping import recluster as recluster
from cell_curator.project_models import recipe_note, resolved
from cell_curator.remeasuring import remeasure
from cell_curator.resuming import cells_key, map_is_new, to_search
from cell_curator.series import check_complete, files, join

if TYPE_CHECKING:
    from cell_curator.session import Session


@dataclass(frozen=True)
class StepReport:
    """How many images were done, (name, reason) of those that failed, and lines for the user.

    ``kept`` are those that needed nothing done.
    """

    done: int
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    kept: int = 0


@dataclass(frozen=True)
class RunReport:
    """What each part of `run` said; ``map`` is None where there were too few cells (the note says so)."""

    segmented: StepReport
    flagged: int
    map: MapReport | None
    notes: tuple[str, ...]


def prepare_images(session: Session, image_ids: Sequence[int] | None = None) -> Job[StepReport]:
    """Apply the recipe to images and remember the angle of each."""
    yield from _share_angles(session)
    return (yield from _each_image(session, image_ids, lambda record: _prepare_image(session, record)))


def _prepare_image(session: Session, record: ImageRecord) -> Job[tuple[str, ...]]:
    yield Progress(0.0, "preparing")
    recipe = session.get(Recipe)
    prepared = session.prepare(record.image_id, recipe)
    new = replace(session.image(record.image_id), angle_deg=prepared.angle_deg, recipe_hash=recipe.hash)
    if new != session.image(record.image_id):
        session.commit(Change(images=(new,)))
    return prepared.notes


def _share_angles(session: Session) -> Job[None]:
    """Where all images of a folder are turned alike: find the angle of each folder, unless it is known."""
    recipe, turns = session.get(Recipe), session.get(Turns)
    folders: dict[str, list[ImageRecord]] = {}
    for record in session.images:
        folders.setdefault(str(record.path.parent), []).append(record)
    if not recipe.rotate.votes or (turns.found_for == search_key(recipe) and set(turns.shared) == set(folders)):
        return
    shared: dict[str, float] = {}
    for folder, records in folders.items():
        votes = []
        for index, record in enumerate(records):
            yield Progress(0.0, f"direction of the grooves: {index + 1} of {len(records)}")
            with suppress(UserError):  # said when it is this image's turn to be prepared
                votes.append(vote(session.pixels(record.image_id), recipe))
        shared[folder] = common_angle(angle for angle in votes if angle is not None) or 0.0
    session.put(turns.model_copy(update={"shared": shared, "found_for": search_key(recipe)}))


# ---------------------------------------------------------------------- cells


def segment(
    session: Session, image_ids: Sequence[int] | None = None, region: RegionLike | None = None
) -> Job[StepReport]:
    """Find the cells of images; cells a person accepted, edited or locked stay as they are.

    With a ``region`` (see `engines.segmenter.segment_image`) cells that are not wholly inside stay too. Planes of
    a stack are taken as `engines.volumes.StackParameters` say: in 3-D, all planes of a file are searched
    if one is asked for.
    """
    stack, chosen = session.get(StackParameters), _records(session, image_ids)
    if stack.method == "3-D" and any(record.axis for record in chosen):
        report = yield from _segment_in_3d(session, chosen, stack, region)
    elif stack.method == "stitch":
        report = yield from scaled(_segment_alike(session, chosen, region), 0.0, 0.97)
        there = {record.image_id for record in session.images}
        for planes in files(session, [record for record in chosen if record.axis and record.image_id in there]):
            yield Progress(0.97, f"{title_of(planes[0])}: cells that go on in the next plane")
            join(session, planes[0].image_id, stack.stitch_threshold)
    else:
        report = yield from segment_each(session, image_ids, region)
    note = recipe_note(session, session.get(SegmentParameters))
    return replace(report, notes=(note, *report.notes)) if note else report


def take_over(session: Session, image_id: int, found: Segmentation, parameters: SegmentParameters) -> None:
    """As `adopt`; and where planes are stitched, cells take the labels that they have in the planes beside."""
    stack = session.get(StackParameters)
    if not session.image(image_id).axis or stack.method != "stitch":
        key = cells_key(session, session.image(image_id)) if parameters == session.get(SegmentParameters) else ""
        return adopt(session, image_id, found, parameters, key)
    adopt(session, image_id, found, parameters.model_copy(update=_size(found)))
    join(session, image_id, stack.stitch_threshold, only=True)


def segment_each(
    session: Session, image_ids: Sequence[int] | None = None, region: RegionLike | None = None
) -> Job[StepReport]:
    """As `segment`, with every plane of a stack on its own."""
    yield from _share_angles(session)
    return (yield from _each_image(session, image_ids, lambda record: _segment_image(session, record, region)))


def _segment_alike(session: Session, chosen: Sequence[ImageRecord], region: RegionLike | None) -> Job[StepReport]:
    """As `segment_each`, but planes of one file have one diameter and polarity: those of the plane in the middle."""
    yield from _share_angles(session)
    sizes: dict[Path, dict[str, Any]] = {}
    middle = {planes[0].path: planes[len(planes) // 2].plane for planes in files(session, chosen)}
    first = {record.path: index for index, record in reversed(list(enumerate(chosen)))}
    order = sorted(chosen, key=lambda record: (first[record.path], abs(record.plane - middle[record.path])))

    def work(record: ImageRecord) -> Job[tuple[str, ...]]:
        known = sizes.setdefault(record.path, {}) if record.axis else None
        return (yield from _segment_image(session, record, region, known))

    return (yield from _each_image(session, [record.image_id for record in order], work))


def _size(found: Segmentation) -> dict[str, Any]:
    """Diameter and polarity with which cells were found, as parameters."""
    if not found.count or not found.diameter:
        return {}
    return {"diameter": found.diameter, "polarity": "dark" if found.inverted else "bright"}


def _segment_image(
    session: Session, record: ImageRecord, region: RegionLike | None, known: dict[str, Any] | None = None
) -> Job[tuple[str, ...]]:
    """``known`` is what earlier planes told of the cells' size; it is filled in by the first that has cells."""
    notes = yield from scaled(_prepare_image(session, record), 0.0, 0.1)
    number, parameters = record.image_id, session.get(SegmentParameters)
    used, made_from = parameters.model_copy(update=known), cells_key(session, record)
    image = source_image(lambda: session.prepared(number), lambda: session.pixels(number), parameters)
    engine = resolved(session, used)
    job = session.execute("cell_curator.engines.segmenter:segment_image", image=image, params=engine, region=region)
    found: Segmentation = yield from scaled(job, 0.1, 0.95)
    if known is not None and not known:
        known.update(_size(found))
    found = explain_channel(found, parameters, lambda: session.pixels(number))
    yield Progress(0.95, "measuring")
    keep(session, number, found, parameters)
    adopt(session, number, found, used.model_copy(update=known), made_from)
    return (*notes, *found.notes)


def _segment_in_3d(
    session: Session, chosen: Sequence[ImageRecord], stack: StackParameters, region: RegionLike | None
) -> Job[StepReport]:
    if region is not None:
        raise UserError("in 3-D whole stacks are looked at; take the region away, or stitch planes")
    yield from _share_angles(session)

    def work(planes: tuple[ImageRecord, ...]) -> Job[tuple[str, ...]]:
        if not planes[0].axis:
            return (yield from _segment_image(session, planes[0], None))
        return (yield from _segment_stack(session, planes, stack))

    return (yield from _each_file(session, files(session, chosen), work))


def _segment_stack(session: Session, planes: tuple[ImageRecord, ...], stack: StackParameters) -> Job[tuple[str, ...]]:
    parameters = session.get(SegmentParameters)
    check_stack(planes[0].path, planes[0].axis, parameters, stack)
    check_complete(planes)
    volume = np.zeros((len(planes), *planes[0].shape[1:]), np.float32)
    for index, (record, plane) in enumerate(zip(planes, volume, strict=True)):
        number, part = record.image_id, 0.1 / len(planes)
        yield from scaled(_prepare_image(session, record), part * index, part * (index + 1), f"plane {index + 1}: ")
        plane[:] = source_image(partial(session.prepared, number), partial(session.pixels, number), parameters)
    made_from = [cells_key(session, record) for record in planes]
    engine = resolved(session, parameters)
    job = session.execute("cell_curator.engines.volumes:segment_stack", volume=volume, params=engine, stack=stack)
    found: Stack = yield from scaled(job, 0.1, 0.95)
    yield Progress(0.95, "measuring")
    for record in planes:
        forget(session, record.image_id)
    adopt_stack(session, planes, found, parameters, stack, made_from)
    return found.notes


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


def run(session: Session, *, again: bool = False) -> Job[RunReport]:
    """The whole line for every image of the project; what would come out as it is already is not done ``again``."""
    records = _records(session, None)
    left = records if again else to_search(session, records)
    segmented = StepReport(0, ())
    if left:
        segmented = yield from scaled(segment(session, [record.image_id for record in left]), 0.0, 0.6)
    segmented = replace(segmented, kept=len(records) - len(left))
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
    except UserError as error:  # too few cells for a map: what was found is still worth having
        notes = (*notes, f"no map was made: {error}")
    return RunReport(segmented, flagged, made, notes)


def _records(session: Session, image_ids: Sequence[int] | None) -> list[ImageRecord]:
    """These images, or all."""
    records = list(session.images) if image_ids is None else [session.image(number) for number in image_ids]
    if not records:
        raise UserError("there are no images in this project yet; add a folder of images first")
    return records


def _each_image(session: Session, image_ids: Sequence[int] | None, work: Any) -> Job[StepReport]:
    """``work`` for every image; one that fails is marked and the others are done."""
    singly = [(record,) for record in _records(session, image_ids)]
    return (yield from _each_file(session, singly, lambda records: work(records[0])))


def _each_file(session: Session, files: Sequence[tuple[ImageRecord, ...]], work: Any) -> Job[StepReport]:
    """``work`` for every group of images."""
    failed: list[tuple[str, str]] = []
    notes: list[str] = []
    done = 0

    def name(records: tuple[ImageRecord, ...]) -> str:
        return records[0].name if len(records) == 1 else title_of(records[0])

    def one(records: tuple[ImageRecord, ...]) -> Job[None]:
        nonlocal done
        said = yield from work(records)
        notes.extend(f"{name(records)}: {line}" for line in said)
        done += len(records)

    def fail(records: tuple[ImageRecord, ...], error: UserError) -> None:
        failed.append((name(records), str(error)))
        # Some may have been taken out of the project meanwhile.
        there = [known for known in session.images if known.image_id in {record.image_id for record in records}]
        if there:
            marked = tuple(replace(record, state="failed", note=str(error)) for record in there)
            session.commit(Change("failed", {"image": name(records), "why": str(error)}, images=marked))

    yield from each(files, one, name=name, failed=fail)
    return StepReport(done, tuple(failed), tuple(notes))
