"""How far the images of a folder or of a project are covered by cells: jobs that write confluency.csv and masks.

By k-means of pixels or by a network, see `covering`, or as the union of masks that there are already. What cover
is and how sure it is is in `core.confluency`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.confluency import (
    Confluency,
    ConfluencyParameters,
    CoverMethod,
    UnetCover,
    calibrate,
    confluency,
    time_in,
    union_of_masks,
)
from cell_curator.core.jobs import ALONE, Crew, Job, Progress, UserError, each, inline, retried, scaled, together
from cell_curator.core.pixel_clusters import KmeansParameters, PixelModel, fit, sample
from cell_curator.core.recipe import Channel, Recipe
from cell_curator.core.regions import REVIEWED
from cell_curator.core.steps import Grey, select_channel
from cell_curator.cover_report import CoverReport, CoverRow, written
from cell_curator.covering import Covered, Execute, Finder, by_groups, by_network, card_of, recipe_of
from cell_curator.engines.cards import ModelCard
from cell_curator.io.folders import Source, convert, label_files, make_folder
from cell_curator.io.images import find_images, natural_key, read_image, read_info, write_tiff
from cell_curator.io.labels import check_shape, read_labels
from cell_curator.io.records import ImageRecord
from cell_curator.one_image import where

if TYPE_CHECKING:
    from cell_curator.session import Session

_LEAST_MARKED = 1000  # px of an image that must be reviewed to say anything of its cover


def cover_folder(
    images: Path,
    out: Path,
    method: CoverMethod,
    say: ConfluencyParameters,
    *,
    channel: Channel | None = None,
    alike: bool = False,
    marked: Path | None = None,
    pixel_size_um: float | None = None,
    skip: Collection[str] = (),
    execute: Execute = inline,
    crew: Crew = ALONE,
) -> Job[CoverReport]:
    """Find how far each image is covered; write ``NAME.tif`` (0 and 255) for each, and confluency.csv.

    Parameters
    ----------
    alike
        Make the groups of pixels once, from all images, so that empty and full ones are judged as the others are.
        A network judges all images alike anyway.
    marked
        Folder of masks drawn by hand for some of the images, by which percentages are corrected.
    pixel_size_um
        Of images whose file does not say.
    skip
        Names of images that are left out, which errors.csv says.
    execute
        Runs what needs a network, by name, where there is no crew.
    crew
        Who looks at the images.

    Raises
    ------
    UserError
        As `io.folders.convert`, none of the images is usable, or the model is not.
    """
    by_hand = {} if marked is None else label_files(marked)
    conditions = dict(find_images(images))
    rows: dict[str, list[CoverRow]] = {}
    drawn: dict[str, float] = {}
    pairs: list[tuple[float, float]] = []
    chosen = channel or Channel()
    finder = Finder(method, chosen, card=card_of(method.model) if isinstance(method, UnetCover) else None)
    alike = alike and isinstance(method, KmeansParameters)
    if alike:
        assert isinstance(method, KmeansParameters)
        grey = (partial(_grey, path, number, chosen) for path, number in _planes(list(conditions)))
        finder = replace(finder, groups=(yield from scaled(_common(list(grey), method), 0.0, 0.4)))

    def one(source: Source, target: Path) -> Job[list[CoverRow]]:
        if source.stem in skip:
            raise UserError(f"{source.path}: left out, since it looks doubtful")
        if source.stem in by_hand and not (info := read_info(source.path)).axis:
            truth = read_labels(by_hand[source.stem])
            check_shape(truth, info.shape, by_hand[source.stem])
            drawn[source.stem] = 100.0 * float(union_of_masks(truth).mean())
        files: dict[str, Any] = {
            "path": source.path,
            "target": target,
            "stem": source.stem,
            "condition": conditions[source.path],
        }
        how: dict[str, Any] = {"finder": finder, "say": say, "pixel_size_um": pixel_size_um}
        if crew is ALONE:
            return (yield from cover_file(**files, **how, execute=execute))
        here: list[CoverRow] = yield from crew.call(f"{__name__}:cover_file", **files, **how)
        return here

    def take(source: Source, here: list[CoverRow]) -> None:
        rows[source.stem] = here
        if source.stem in drawn:
            pairs.append((here[0].as_found, drawn[source.stem]))

    report = yield from scaled(convert(images, out, one, take, crew), 0.4 if alike else 0.0, 1.0)
    _refuse_nothing(images, rows, report.failed)
    if marked is not None and not pairs:
        raise UserError(f"{marked}: holds no mask for any of the images; name masks as their images")
    taught = calibrate(*zip(*pairs, strict=True)) if pairs else None
    flat = [row for stem in report.done for row in rows[stem]]
    return written(out, CoverReport(tuple(flat), report.failed, method.threshold), say, taught)


def cover_file(
    path: Path,
    target: Path,
    stem: str,
    condition: str,
    finder: Finder,
    say: ConfluencyParameters,
    pixel_size_um: float | None,
    execute: Execute = inline,
) -> Job[list[CoverRow]]:
    """Find what is covered in each plane of one file, and write the mask."""
    info = read_info(path)
    size = info.pixel_size_um or pixel_size_um
    here: list[CoverRow] = []
    masks: list[NDArray[np.uint8]] = []
    for number in info.numbers:
        part = len(here) / len(info.numbers), (len(here) + 1) / len(info.numbers)
        made: Covered = yield from scaled(finder.find(read_image(path, number), execute), *part)
        found = confluency(made.mask, size, count=made.count, params=say)
        time = time_in(stem) if info.axis != "T" or number is None else float(number)
        here.append(CoverRow(stem, condition, time, number, found, found.percent, made.note))
        masks.append(made.mask.astype(np.uint8) * np.uint8(255))
    write_tiff(target, np.stack(masks) if info.axis else masks[0], pixel_size_um=size, axis=info.axis or "C")
    return here


def cover_masks(
    masks: Path, out: Path, say: ConfluencyParameters, *, pixel_size_um: float | None = None
) -> Job[CoverReport]:
    """Say how far the cells of each label image cover it; write confluency.csv.

    Raises
    ------
    UserError
        There are no label images, or none is usable.
    """
    files = dict(sorted(label_files(masks).items(), key=lambda pair: natural_key(pair[0])))
    make_folder(out)
    rows: dict[str, CoverRow] = {}
    failed: list[tuple[str, str]] = []

    def one(stem: str) -> Job[None]:
        labels = read_labels(files[stem])
        size = _pixel_size(files[stem]) or pixel_size_um
        condition = stem.split("/")[0] if "/" in stem else ""
        found = _of_labels(labels, None, size, say)
        rows[stem] = CoverRow(stem, condition, time_in(stem), None, found, found.percent)
        yield from ()

    yield from each(files, one, failed=lambda stem, error: failed.append((str(files[stem]), str(error))))
    _refuse_nothing(masks, rows, failed)
    return written(out, CoverReport(tuple(rows.values()), tuple(failed)), say, None)


def cover_project(
    session: Session, out: Path, say: ConfluencyParameters, method: CoverMethod | None = None
) -> Job[CoverReport]:
    """Say how far each image of a project is covered; write confluency.csv, and with a method masks.

    See `cover_image`. What a method finds is corrected by what was marked as reviewed: there the cells that
    count are the truth.

    Raises
    ------
    UserError
        No image of the project is usable, or the model is not.
    """
    make_folder(out)
    rows: dict[int, CoverRow] = {}
    failed: list[tuple[str, str]] = []
    pairs: list[tuple[float, float]] = []
    card = card_of(method.model, session) if isinstance(method, UnetCover) else None

    def one(record: ImageRecord) -> Job[tuple[Covered, CoverRow]]:
        return _in_project(session, record, say, method, card)

    def take(record: ImageRecord, found: tuple[Covered, CoverRow]) -> None:
        mask = found[0].mask
        rows[record.image_id] = found[1]
        if method is None:
            return
        known = session.marked(record.image_id, REVIEWED)
        if known.sum() >= _LEAST_MARKED:
            truth = union_of_masks(session.label_view(record.image_id), _counting(session, record.image_id))
            pairs.append((100.0 * float(mask[known].mean()), 100.0 * float(truth[known].mean())))
        target = out / f"{record.name}.tif"
        make_folder(target.parent)
        write_tiff(target, mask.astype(np.uint8) * 255, pixel_size_um=record.pixel_size_um)

    def note_failed(record: ImageRecord, error: UserError) -> None:
        failed.append((record.name, str(error)))

    yield from together(
        session.images,
        lambda record: retried(partial(one, record)),
        take,
        at_once=(session.crew or ALONE).at_once,
        name=lambda record: record.name,
        failed=note_failed,
    )
    _refuse_nothing(session.folder, rows, failed)
    report = CoverReport(tuple(rows.values()), tuple(failed), None if method is None else method.threshold)
    return written(out, report, say, calibrate(*zip(*pairs, strict=True)) if pairs else None)


def cover_image(
    session: Session, image_id: int, say: ConfluencyParameters, method: CoverMethod | None = None
) -> Job[tuple[Covered, CoverRow]]:
    """What is covered of one image of a project, and the numbers of it, not corrected.

    Without a method it is the union of the cells that count, see `core.clean`. k-means looks at the channel that the
    recipe chooses, a network at what it learned from. The count is that of the cells of the project, where it has
    some; else that of the network, if it tells one cell from another.

    Raises
    ------
    UserError
        The image cannot be read, cells were not looked for yet, or the model is not usable.
    """
    card = card_of(method.model, session) if isinstance(method, UnetCover) else None
    return (yield from _in_project(session, session.image(image_id), say, method, card))


def _in_project(
    session: Session, record: ImageRecord, say: ConfluencyParameters, method: CoverMethod | None, card: ModelCard | None
) -> Job[tuple[Covered, CoverRow]]:
    yield Progress(0.0)
    number, cells = record.image_id, _counting(session, record.image_id)
    if method is None:
        if record.state == "new" and not len(session.cells.of_image(number)):
            raise UserError(f"{record.name}: cells were not looked for yet; find them, or use another method")
        made = Covered(union_of_masks(session.label_view(number), cells), count=len(cells))
    elif session.crew is not None:
        learned = session.get(Recipe) if card is None else recipe_of(card)
        made = yield from session.crew.call(
            "cell_curator.covering:cover_of",
            **where(record),
            channel=session.recipe_for(number).channel,
            learned=session.recipe_for(number, learned),
            method=method,
            card=card,
        )
    elif isinstance(method, KmeansParameters):
        made = by_groups(select_channel(session.pixels(number), session.recipe_for(number).channel), method)
    else:
        assert card is not None
        raw = card.details.get("source") == "raw"
        image = (
            select_channel(session.pixels(number), session.recipe_for(number).channel)
            if raw
            else session.prepare(number, recipe_of(card)).image
        )
        made = yield from by_network(image, method, card, session.execute)
    count = len(cells) if cells or method is None else made.count
    found = confluency(made.mask, record.pixel_size_um, count=count, params=say)
    time = float(record.plane) if record.axis == "T" else time_in(record.name)
    plane = record.plane if record.axis else None
    return made, CoverRow(record.name, record.condition, time, plane, found, found.percent, made.note)


def _counting(session: Session, image_id: int) -> list[int]:
    """Labels of the cells of an image that count."""
    counting = session.counting_cells()
    labels: list[int] = counting.loc[counting["image"] == image_id, "label"].tolist()
    return labels


def _of_labels(
    labels: NDArray[np.int32], cells: list[int] | None, size: float | None, say: ConfluencyParameters
) -> Confluency:
    mask = union_of_masks(labels, cells)
    count = int(np.count_nonzero(np.unique(labels))) if cells is None else len(cells)
    return confluency(mask, size, count=count, params=say)


def _common(pictures: Sequence[Any], params: KmeansParameters) -> Job[PixelModel]:
    """Groups made from the pixels of all images that can be read; those that cannot are told of later."""
    samples: list[NDArray[np.float32]] = []

    def one(read: Any) -> Job[None]:
        samples.append(sample(read(), params))
        yield from ()

    yield from each(pictures, one, name=lambda _: "looking at all images", failed=lambda *_: None)
    return fit(samples, params)


def _planes(paths: Sequence[Path]) -> Iterator[tuple[Path, int | None]]:
    for path in paths:
        try:
            numbers = read_info(path).numbers
        except UserError:
            continue
        yield from ((path, number) for number in numbers)


def _grey(path: Path, plane: int | None, channel: Channel) -> Grey:
    return select_channel(read_image(path, plane), channel)


def _pixel_size(path: Path) -> float | None:
    return read_info(path).pixel_size_um if path.is_file() and path.suffix != ".npy" else None


def _refuse_nothing(where: Path, rows: Any, failed: Sequence[tuple[str, str]]) -> None:
    """Where every file failed, the first reason stands for all."""
    if not rows and failed:
        file, reason = failed[0]
        line = reason if reason.startswith(file) else f"{file}: {reason}"
        raise UserError(line if len(failed) == 1 else f"none of the {len(failed)} images of {where} was usable; {line}")
