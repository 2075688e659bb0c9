"""What a project holds, one frozen record each, and their rows in ``project.sqlite``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cells import COLUMNS
from cell_curator.core.regions import Region

_ROWS = 4096  # of the table of cells that are plain values at once


@dataclass(frozen=True)
class ImageRecord:
    """One image of the project.

    ``name`` is the path below the folder that was added, without suffix, and unique. ``shape`` is
    ``(C, Y, X)``. ``state`` is ``"new"``, ``"segmented"`` or ``"failed"`` (``note`` says why).
    ``angle_deg`` is the counter-clockwise turn of the last preparation, ``recipe_hash`` its recipe.
    One plane of a stack or frame of a time lapse has ``axis`` ``"Z"`` or ``"T"`` and ``plane`` its number,
    counted from 0; the planes of one file have the same ``path``. ``made_from`` is a key of all that its cells
    follow from, empty where they were found in part or not at all.
    """

    image_id: int
    name: str
    path: Path
    condition: str
    channel_names: tuple[str, ...]
    pixel_size_um: float | None
    shape: tuple[int, int, int]
    angle_deg: float | None = None
    state: str = "new"
    note: str = ""
    recipe_hash: str = ""
    labels_revision: int = 0
    axis: str = ""
    plane: int = 0
    made_from: str = ""


@dataclass(frozen=True)
class StoredEmbedding:
    """Latent positions of cells and the map drawn from them.

    ``cell_id``, ``revision`` are ``(N,)`` int64 (the revision each position was made from); ``latent``
    is ``(N, D)`` and ``map2d`` ``(N, 2)`` float32; ``detail`` holds scores, parameters and notes as plain JSON.
    """

    cell_id: NDArray[np.int64]
    revision: NDArray[np.int64]
    latent: NDArray[np.float32]
    map2d: NDArray[np.float32]
    detail: Mapping[str, Any]
    clustering: Mapping[str, Any]

    @property
    def cluster_names(self) -> dict[int, str]:
        """What the user calls each cluster number."""
        return {int(number): name for number, name in self.clustering.get("names", {}).items()}

    @property
    def cluster_notes(self) -> dict[int, str]:
        """What the user wrote about each cluster number."""
        return {int(number): text for number, text in self.clustering.get("cluster_notes", {}).items()}

    @property
    def network(self) -> str:
        """File of the network that made the map, below the project folder; "" if it was not kept."""
        return str(self.detail.get("network", ""))

    @property
    def scores(self) -> dict[str, float | None]:
        """How well the clusters are separated, in the space that ``clustering["space"]`` names."""
        return dict(self.clustering.get("scores", {}))


@dataclass(frozen=True)
class Round:
    """One round of retraining: the model it gave (a folder in the project's ``models/``) and what is known of it.

    ``time`` is UTC. ``detail`` is plain JSON: parent, examples, parameters, scores, minutes, effort.
    """

    round_id: int
    time: str
    model: str
    detail: Mapping[str, Any]


def cell_rows(frame: pd.DataFrame) -> Iterator[tuple[Any, ...]]:
    """Rows of the table ``cells`` as plain values; SQLite knows no NumPy scalars, and NaN is NULL there."""
    for start in range(0, len(frame), _ROWS):  # a large image has 80,000: five million values
        some = frame.iloc[start : start + _ROWS]
        columns: list[list[Any]] = [some.index.tolist()]
        for name in COLUMNS:
            # NaN alone differs from itself; asking pandas takes 15 ms for a single row.
            columns.append([None if value != value else value for value in some[name].tolist()])
        yield from zip(*columns, strict=True)


def image_to_row(record: ImageRecord) -> tuple[Any, ...]:
    """As the table ``images`` holds it."""
    return (
        record.image_id,
        record.name,
        str(record.path),
        record.condition,
        json.dumps(record.channel_names),
        record.pixel_size_um,
        *record.shape,
        record.angle_deg,
        record.state,
        record.note,
        record.recipe_hash,
        record.labels_revision,
        record.axis,
        record.plane,
        record.made_from,
    )


def image_from_row(row: sqlite3.Row) -> ImageRecord:
    """As `image_to_row` wrote it."""
    return ImageRecord(
        image_id=row["image_id"],
        name=row["name"],
        path=Path(row["path"]),
        condition=row["condition"],
        channel_names=tuple(json.loads(row["channel_names"])),
        pixel_size_um=row["pixel_size_um"],
        shape=(row["channels"], row["height"], row["width"]),
        angle_deg=row["angle_deg"],
        state=row["state"],
        note=row["note"],
        recipe_hash=row["recipe_hash"],
        labels_revision=row["labels_revision"],
        axis=row["axis"],
        plane=row["plane"],
        made_from=row["made_from"],
    )


def region_to_row(region: Region) -> tuple[Any, ...]:
    """As the table ``regions`` holds it."""
    return (region.region_id, region.image_id, region.kind, json.dumps(region.corners))


def region_from_row(row: sqlite3.Row) -> Region:
    """As `region_to_row` wrote it."""
    corners = tuple((y, x) for y, x in json.loads(row["corners"]))
    return Region(row["region_id"], row["image_id"], row["kind"], corners)
