"""Patches of a session's cells, and what they are grouped by: images or wells, and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.doses import in_order
from cell_curator.core.groups import group_of
from cell_curator.core.jobs import ALONE, Job, Progress, UserError, retried, together
from cell_curator.core.large_cells import cut_lazily
from cell_curator.core.lazy import Lazy, is_large
from cell_curator.core.patches import Patches, PatchParameters, cut, stacked
from cell_curator.core.recipe import Channel, Recipe
from cell_curator.one_image import where

if TYPE_CHECKING:
    from cell_curator.session import Session


def cut_patches(session: Session, rows: pd.DataFrame) -> Job[tuple[Patches, NDArray[np.int64]]]:
    """Patches ``(N, P, P)`` of these cells to look at, image by image, and the cell ids in the same order."""
    shown = session.get(PatchParameters).model_copy(update={"channels": "prepared"})
    patches, rows = yield from cut_cells(session, rows.index.tolist(), shown)
    return patches, rows.index.to_numpy(np.int64)


def cut_cells(
    session: Session,
    ids: Sequence[int],
    parameters: PatchParameters | None = None,
    unread: list[tuple[str, str]] | None = None,
) -> Job[tuple[Patches, pd.DataFrame]]:
    """Patches of cells, image by image, and their rows as they were when each was cut, in the same order.

    Labels may be painted meanwhile: of each image, labels and rows are taken at one moment, and a cell that is
    gone by then has no patch. Of several channels, ``Patches.images`` is ``(N, C, P, P)``.

    Parameters
    ----------
    unread
        Takes (name, reason) of images that cannot be read, whose cells are left out; without it the first ends the job.

    Raises
    ------
    UserError
        If all channels are wanted, and images have different numbers of them.
    """
    parameters = parameters or session.get(PatchParameters)
    wanted = session.cells.frame["image"].reindex(list(ids)).dropna().astype("int64")
    parts: list[Patches] = []
    rows = [session.cells.frame.iloc[:0]]
    channels = _channels(session, wanted.unique().tolist(), parameters)
    members = {int(image_id): those.index for image_id, those in wanted.groupby(wanted)}

    def one(image_id: int) -> Job[tuple[Patches, pd.DataFrame]]:
        return _cut_image(session, image_id, members[image_id], parameters, channels)

    def take(_: int, made: tuple[Patches, pd.DataFrame]) -> None:
        parts.append(made[0])
        rows.append(made[1])

    def fail(image_id: int, error: UserError) -> None:
        assert unread is not None
        unread.append((session.image(image_id).name, str(error)))

    yield from together(
        members,
        lambda image_id: retried(partial(one, image_id)),
        take,
        at_once=(session.crew or ALONE).at_once,
        name=lambda image_id: session.image(image_id).name,
        failed=None if unread is None else fail,
    )
    size = parameters.size
    shape = (0, size, size) if channels == 1 else (0, channels, size, size)
    empty = Patches(np.zeros(shape, np.float32), np.zeros((0, size, size), bool), np.zeros(0, bool))
    names = ("images", "masks", "clipped")
    joined = Patches(*(np.concatenate([getattr(p, name) for p in (*parts, empty)]) for name in names))
    return joined, pd.concat(rows[1:]) if len(rows) > 1 else rows[0]


def _cut_image(
    session: Session, image_id: int, members: pd.Index[Any], parameters: PatchParameters, channels: int
) -> Job[tuple[Patches, pd.DataFrame]]:
    """The patches of these cells of one image, and their rows."""
    yield Progress(0.0)
    record, recipes = session.image(image_id), _recipes(session, image_id, channels)
    if session.crew is not None and not is_large(record.shape):
        labels, rows = _now(session, image_id, members)
        made: Patches = yield from session.crew.call(
            "cell_curator.one_image:patches_of",
            **where(record),
            recipes=recipes,
            labels=labels,
            values=rows["label"].tolist(),
            params=parameters,
        )
        return made, rows
    prepared = session.prepare(image_id)
    pictures = [session.prepare(image_id, recipe).image for recipe in recipes[1:]] or [prepared.image]
    labels, rows = _now(session, image_id, members)
    several = [_cut(picture, labels, rows, parameters, prepared.angle_deg) for picture in pictures]
    return (several[0] if channels == 1 else stacked(several)), rows


def _now(session: Session, image_id: int, members: pd.Index[Any]) -> tuple[Any, pd.DataFrame]:
    """Labels of an image and the rows of those of the cells that are there, at one moment."""
    with session.lock:
        labels, rows = session.label_view(image_id), session.cells.of_image(image_id)
    return labels, rows.loc[members.intersection(rows.index)]


def _cut(image: Any, labels: Any, rows: pd.DataFrame, parameters: PatchParameters, angle_deg: float) -> Patches:
    if isinstance(labels, Lazy):
        return cut_lazily(image, labels, rows, parameters, angle_deg)
    return cut(image, labels, rows["label"].tolist(), parameters, angle_deg)


def _channels(session: Session, image_ids: Sequence[int], parameters: PatchParameters) -> int:
    if parameters.channels == "prepared" or not image_ids:
        return 1
    counts = sorted({session.image(int(image_id)).shape[0] for image_id in image_ids})
    if len(counts) > 1:
        raise UserError(
            f"images have {' and '.join(map(str, counts))} channels; show the network the prepared channel "
            "only, or take out the images of the other kind"
        )
    return counts[0]


def _recipes(session: Session, image_id: int, count: int) -> list[Recipe]:
    """The recipe of an image, and where several channels are wanted one for each of them."""
    recipe = session.get(Recipe)
    several = range(count) if count > 1 else ()
    one_by_one = [recipe.model_copy(update={"channel": Channel(mode="index", index=n)}) for n in several]
    return [session.recipe_for(image_id, one) for one in (recipe, *one_by_one)]


def units_of(session: Session, rows: pd.DataFrame) -> tuple[NDArray[np.int64], str]:
    """Number of the image or well that each cell is from, and which of the two it is.

    Fields of one well belong together, as do planes of one file. Where a well holds images of several conditions,
    images count on their own.
    """
    records = {record.image_id: record for record in session.images}
    images = rows["image"].tolist()
    files = {image: str(records[image].path) for image in dict.fromkeys(images)}
    wells = {image: group_of(records[image].path) for image in files}
    owners: dict[str, set[str]] = {}
    for image, well in wells.items():
        owners.setdefault(well, set()).add(records[image].condition)
    names = wells if all(len(conditions) == 1 for conditions in owners.values()) else files
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names.values()))}
    units = np.array([numbers[names[image]] for image in images], np.int64)
    return units, "image" if names == files else "well"


def condition_numbers(
    session: Session, rows: pd.DataFrame, names: Sequence[str] | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number of each cell's condition among ``names`` (by default all there are), -1 for others, and the names."""
    known = tuple(names) if names is not None else tuple(in_order(r.condition for r in session.images))
    place = {name: number for number, name in enumerate(known)}
    return np.array([place.get(name, -1) for name in rows["condition"]], np.int64), known
