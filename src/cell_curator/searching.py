"""Looking for the cells of a project's images, one after the other or, by a crew, many at a time.

What is heavy is done in this process or in a worker (`one_image`); what was found is stored here, in the order of
the images, so that ids are the same whoever found the cells. An image that fails is marked, and the others are done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cell_curator.adding import title_of
from cell_curator.adopting import adopt, adopt_stack
from cell_curator.core.jobs import ALONE, Job, Progress, UserError, retried, scaled, together
from cell_curator.core.lazy import is_large
from cell_curator.core.orientation import common_angle
from cell_curator.core.preprocess import vote
from cell_curator.core.recipe import Recipe
from cell_curator.core.turns import Turns, search_key
from cell_curator.engines.region import RegionLike
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, explain_channel, source_image
from cell_curator.engines.volumes import Stack, StackParameters, check_stack
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord
from cell_curator.kept_flows import ON_DISK, forget, keep
from cell_curator.large_images import check_searchable, search_image
from cell_curator.measured_channel import channel_rule
from cell_curator.one_image import Looked, Readied, where
from cell_curator.project_models import recipe_note, resolved
from cell_curator.resuming import cells_key
from cell_curator.series import check_complete, files, join

if TYPE_CHECKING:
    from cell_curator.session import Session

Take = Callable[[], tuple[str, ...]]
"""Stores what was found and gives lines for the user; called in the order of the images."""

Planes = tuple[ImageRecord, ...]


@dataclass(frozen=True)
class StepReport:
    """How many images were done, (name, reason) of those that failed, and lines for the user.

    ``kept`` are those that needed nothing done.
    """

    done: int
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()
    kept: int = 0


# ---------------------------------------------------------------------- preparing


def prepare_images(session: Session, image_ids: Sequence[int] | None = None) -> Job[StepReport]:
    """Apply the recipe to images and remember the angle of each."""
    yield from _share_angles(session)

    def work(record: ImageRecord) -> Job[Take]:
        recipe = session.get(Recipe)
        made = yield from _readied(session, record, recipe)
        return partial(_prepared, session, record.image_id, made, recipe)

    return (yield from _each_image(session, chosen_records(session, image_ids), work))


def _readied(session: Session, record: ImageRecord, recipe: Recipe) -> Job[Readied]:
    yield Progress(0.0, "preparing")
    if session.crew is not None:
        own = session.recipe_for(record.image_id, recipe)
        made: Readied = yield from session.crew.call("cell_curator.one_image:ready", **where(record), recipe=own)
        return made
    prepared = session.prepare(record.image_id, recipe)
    return Readied(prepared.angle_deg, prepared.notes)


def _prepared(session: Session, image_id: int, made: Readied, recipe: Recipe) -> tuple[str, ...]:
    """Remember how an image was prepared."""
    new = replace(session.image(image_id), **_as_prepared(made, recipe))
    if new != session.image(image_id):
        session.commit(Change(images=(new,)))
    return made.notes


def _as_prepared(made: Readied, recipe: Recipe) -> dict[str, Any]:
    """What a record says of it."""
    return {"angle_deg": made.angle_deg, "recipe_hash": recipe.hash}


def _share_angles(session: Session) -> Job[None]:
    """Where all images of a folder are turned alike: find the angle of each folder, unless it is known."""
    recipe, turns = session.get(Recipe), session.get(Turns)
    folders: dict[str, list[ImageRecord]] = {}
    for record in session.images:
        folders.setdefault(str(record.path.parent), []).append(record)
    if not recipe.rotate.votes or (turns.found_for == search_key(recipe) and set(turns.shared) == set(folders)):
        return
    votes: dict[str, list[float | None]] = {folder: [] for folder in folders}
    voting = together(
        session.images,
        lambda record: _vote(session, record, recipe),
        lambda record, angle: votes[str(record.path.parent)].append(angle),
        at_once=(session.crew or ALONE).at_once,
        name=lambda record: f"direction of the grooves: {record.name}",
        failed=lambda *_: None,  # said when it is this image's turn to be prepared
    )
    yield from scaled(voting, 0.0, 0.0)
    shared = {
        folder: common_angle(angle for angle in angles if angle is not None) or 0.0 for folder, angles in votes.items()
    }
    session.put(turns.model_copy(update={"shared": shared, "found_for": search_key(recipe)}))


def _vote(session: Session, record: ImageRecord, recipe: Recipe) -> Job[float | None]:
    if session.crew is not None:
        found: float | None = yield from session.crew.call(
            "cell_curator.one_image:ballot", **where(record), recipe=recipe
        )
        return found
    yield Progress(0.0)
    return vote(session.pixels(record.image_id), recipe)


# ---------------------------------------------------------------------- cells


def segment(
    session: Session, image_ids: Sequence[int] | None = None, region: RegionLike | None = None
) -> Job[StepReport]:
    """Find the cells of images; cells a person accepted, edited or locked stay as they are.

    With a ``region`` (see `engines.segmenter.segment_image`) cells that are not wholly inside stay too. Planes of
    a stack are taken as `engines.volumes.StackParameters` say: in 3-D, all planes of a file are searched
    if one is asked for.
    """
    stack, chosen = session.get(StackParameters), chosen_records(session, image_ids)
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
    chosen = chosen_records(session, image_ids)
    last = {record.image_id for record in chosen[-ON_DISK:]}
    return (
        yield from _each_image(
            session, chosen, lambda record: _search(session, record, region, flows=record.image_id in last)
        )
    )


def _segment_alike(session: Session, chosen: Sequence[ImageRecord], region: RegionLike | None) -> Job[StepReport]:
    """As `segment_each`, but planes of one file have one diameter and polarity: those of the plane in the middle."""
    yield from _share_angles(session)
    sizes: dict[Path, dict[str, Any]] = {}
    middle = {planes[0].path: planes[len(planes) // 2].plane for planes in files(session, chosen)}
    first = {record.path: index for index, record in reversed(list(enumerate(chosen)))}
    order = sorted(chosen, key=lambda record: (first[record.path], abs(record.plane - middle[record.path])))
    before: dict[int, int] = {}
    seen: Counter[Path] = Counter()
    for record in order:
        before[record.image_id] = seen[record.path]
        seen[record.path] += 1
    over: Counter[Path] = Counter()
    last = {record.image_id for record in order[-ON_DISK:]}

    def work(record: ImageRecord) -> Job[Take]:
        known = sizes.setdefault(record.path, {}) if record.axis else None
        while known == {} and over[record.path] < before[record.image_id]:
            yield Progress(0.0, "waiting for the plane in the middle")
        return (yield from _search(session, record, region, known, record.image_id in last))

    def settled(planes: Planes) -> None:
        over[planes[0].path] += 1

    return (yield from _each_image(session, order, work, settled))


def _size(found: Segmentation) -> dict[str, Any]:
    """Diameter and polarity with which cells were found, as parameters."""
    if not found.count or not found.diameter:
        return {}
    return {"diameter": found.diameter, "polarity": "dark" if found.inverted else "bright"}


def _search(
    session: Session,
    record: ImageRecord,
    region: RegionLike | None,
    known: dict[str, Any] | None = None,
    flows: bool = True,
) -> Job[Take]:
    """Find the cells of one image.

    ``known`` is what earlier planes told of the cells' size; it is filled in by the first that has cells. ``flows``:
    whether what the network answered is kept; of many images only that of the last would stay.
    """
    if is_large(record.shape):
        check_searchable(record, region)
        return (yield from search_image(session, record, cells_key(session, record)))
    recipe, parameters = session.get(Recipe), session.get(SegmentParameters)
    used, number = parameters.model_copy(update=known), record.image_id
    if session.crew is None:
        looked, measured = (yield from _look(session, record, region, recipe, used)), ""
        made_from = cells_key(session, record)
    else:
        measured, made_from = channel_rule(session), cells_key(session, record)
        looked = yield from session.crew.call(
            "cell_curator.one_image:search",
            **where(record),
            recipe=session.recipe_for(number, recipe),
            params=resolved(session, used),
            region=region,
            rule=measured,
            flows=flows,
        )

    def take() -> tuple[str, ...]:
        found = looked.found
        if known is not None and not known:
            known.update(_size(found))
        if flows:
            keep(session, number, found, parameters)
        same = looked.measured is not None and channel_rule(session) == measured
        rows = looked.measured if same else None
        adopt(
            session, number, found, used.model_copy(update=known), made_from, rows, _as_prepared(looked.readied, recipe)
        )
        return (*looked.readied.notes, *found.notes)

    return take


def _look(
    session: Session, record: ImageRecord, region: RegionLike | None, recipe: Recipe, used: SegmentParameters
) -> Job[Looked]:
    """What is in an image, found by the session's own means; it is at hand afterwards."""
    number = record.image_id
    readied = yield from scaled(_readied(session, record, recipe), 0.0, 0.1)
    image = source_image(lambda: session.prepared(number), lambda: session.pixels(number), used)
    engine = resolved(session, used)
    job = session.execute("cell_curator.engines.segmenter:segment_image", image=image, params=engine, region=region)
    found: Segmentation = yield from scaled(job, 0.1, 0.95)
    found = explain_channel(found, used, lambda: session.pixels(number))
    yield Progress(0.95, "measuring")
    return Looked(readied, found)


def _segment_in_3d(
    session: Session, chosen: Sequence[ImageRecord], stack: StackParameters, region: RegionLike | None
) -> Job[StepReport]:
    if region is not None:
        raise UserError("in 3-D whole stacks are looked at; take the region away, or stitch planes")
    yield from _share_angles(session)

    def work(planes: Planes) -> Job[Take]:
        if not planes[0].axis:
            return (yield from _search(session, planes[0], None))
        return (yield from _search_stack(session, planes, stack))

    return (yield from _each_file(session, files(session, chosen), work))


def _search_stack(session: Session, planes: Planes, stack: StackParameters) -> Job[Take]:
    recipe, parameters = session.get(Recipe), session.get(SegmentParameters)
    check_stack(planes[0].path, planes[0].axis, parameters, stack)
    check_complete(planes)
    made_from = [cells_key(session, record) for record in planes]
    engine = resolved(session, parameters)
    if session.crew is None:
        readied, found = yield from _look_at_stack(session, planes, recipe, engine, stack)
    else:
        readied, found = yield from session.crew.call(
            "cell_curator.one_image:search_stack",
            path=planes[0].path,
            recipes=[session.recipe_for(record.image_id, recipe) for record in planes],
            params=engine,
            stack=stack,
        )

    def take() -> tuple[str, ...]:
        for record, made in zip(planes, readied, strict=True):
            _prepared(session, record.image_id, made, recipe)
            forget(session, record.image_id)
        adopt_stack(session, planes, found, parameters, stack, made_from)
        return tuple(found.notes)

    return take


def _look_at_stack(
    session: Session, planes: Planes, recipe: Recipe, engine: SegmentParameters, stack: StackParameters
) -> Job[tuple[list[Readied], Stack]]:
    volume = np.zeros((len(planes), *planes[0].shape[1:]), np.float32)
    readied: list[Readied] = []
    for index, (record, plane) in enumerate(zip(planes, volume, strict=True)):
        number, part = record.image_id, 0.1 / len(planes)
        prepared = _readied(session, record, recipe)
        readied.append((yield from scaled(prepared, part * index, part * (index + 1), f"plane {index + 1}: ")))
        plane[:] = source_image(partial(session.prepared, number), partial(session.pixels, number), engine)
    job = session.execute("cell_curator.engines.volumes:segment_stack", volume=volume, params=engine, stack=stack)
    found: Stack = yield from scaled(job, 0.1, 0.95)
    yield Progress(0.95, "measuring")
    return readied, found


# ---------------------------------------------------------------------- image by image


def chosen_records(session: Session, image_ids: Sequence[int] | None) -> list[ImageRecord]:
    """These images, or all.

    Raises
    ------
    UserError
        There are none.
    """
    records = list(session.images) if image_ids is None else [session.image(number) for number in image_ids]
    if not records:
        raise UserError("there are no images in this project yet; add a folder of images first")
    return records


def _each_image(
    session: Session,
    chosen: Sequence[ImageRecord],
    work: Callable[[ImageRecord], Job[Take]],
    settled: Callable[[Planes], None] | None = None,
) -> Job[StepReport]:
    """``work`` for every image; one that fails is marked and the others are done."""
    return (yield from _each_file(session, [(record,) for record in chosen], lambda planes: work(planes[0]), settled))


def _each_file(
    session: Session,
    groups: Sequence[Planes],
    work: Callable[[Planes], Job[Take]],
    settled: Callable[[Planes], None] | None = None,
) -> Job[StepReport]:
    """``work`` for every group of images; ``settled`` is told of each that was stored or failed, in order."""
    failed: list[tuple[str, str]] = []
    notes: list[str] = []
    done = 0

    def name(planes: Planes) -> str:
        return planes[0].name if len(planes) == 1 else title_of(planes[0])

    def take(planes: Planes, store: Take) -> None:
        nonlocal done
        notes.extend(f"{name(planes)}: {line}" for line in store())
        done += len(planes)
        if settled is not None:
            settled(planes)

    def fail(planes: Planes, error: UserError) -> None:
        failed.append((name(planes), str(error)))
        if settled is not None:
            settled(planes)
        # Some may have been taken out of the project meanwhile.
        there = [known for known in session.images if known.image_id in {record.image_id for record in planes}]
        if there:
            marked = tuple(replace(record, state="failed", note=str(error)) for record in there)
            session.commit(Change("failed", {"image": name(planes), "why": str(error)}, images=marked))

    def begin(planes: Planes) -> Job[Take]:
        return retried(partial(work, planes))

    crew = session.crew or ALONE
    yield from together(groups, begin, take, at_once=crew.at_once, name=name, failed=fail, told=True)
    return StepReport(done, tuple(failed), tuple(notes))
