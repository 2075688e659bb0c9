"""Patches of a session's cells, and what they are grouped by: images or wells, and conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.doses import in_order
from cell_curator.core.groups import group_of
from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.core.patches import Patches, PatchParameters, cut, stacked
from cell_curator.core.recipe import Channel, Recipe

if TYPE_CHECKING:
    from cell_curator.session import Session


def cut_patches(session: Session, rows: pd.DataFrame) -> Job[tuple[Patches, NDArray[np.int64]]]:
    """Patches ``(N, P, P)`` of these cells to look at, image by image, and the cell ids in the same order."""
    shown = session.get(PatchParameters).model_copy(update={"channels": "prepared"})
    patches, rows = yield from cut_cells(session, rows.index.tolist(), shown)
    return patches, rows.index.to_numpy(np.int64)


def cut_cells(
    session: Session, ids: Sequence[int], parameters: PatchParameters | None = None
) -> Job[tuple[Patches, pd.DataFrame]]:
    """Patches of cells, image by image, and their rows as they were when each was cut, in the same order.

    Labels may be painted meanwhile: of each image, labels and rows are taken at one moment, and a cell that is
    gone by then has no patch. Of several channels, ``Patches.images`` is ``(N, C, P, P)``.

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
    groups = list(wanted.groupby(wanted))
    for index, (image_id, members) in enumerate(groups):
        yield Progress(index / len(groups), session.image(int(image_id)).name)
        prepared = session.prepare(int(image_id))
        pictures = [prepared.image] if channels == 1 else _each_channel(session, int(image_id), channels)
        with session.lock:
            labels, now = session.label_view(int(image_id)), session.cells.of_image(int(image_id))
        rows.append(now.loc[members.index.intersection(now.index)])
        values = rows[-1]["label"].tolist()
        made = [cut(picture, labels, values, parameters, prepared.angle_deg) for picture in pictures]
        parts.append(made[0] if channels == 1 else stacked(made))
    size = parameters.size
    shape = (0, size, size) if channels == 1 else (0, channels, size, size)
    empty = Patches(np.zeros(shape, np.float32), np.zeros((0, size, size), bool), np.zeros(0, bool))
    names = ("images", "masks", "clipped")
    joined = Patches(*(np.concatenate([getattr(p, name) for p in (*parts, empty)]) for name in names))
    return joined, pd.concat(rows[1:]) if len(rows) > 1 else rows[0]


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


def _each_channel(session: Session, image_id: int, count: int) -> list[NDArray[np.float32]]:
    recipe = session.get(Recipe)
    one_by_one = [recipe.model_copy(update={"channel": Channel(mode="index", index=n)}) for n in range(count)]
    return [session.prepare(image_id, one).image for one in one_by_one]


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
