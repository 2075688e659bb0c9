"""What is heavy and the same for every image: read it, prepare it, find and measure its cells, cut them out.

Each function is a job that takes paths and parameters, so that it runs here or in a worker of a cluster and
gives the same. Nothing is stored and no project is known; `workflow` and `map_patches` take over what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.image_flags import ImageLook
from cell_curator.core.image_flags import look as look_of
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.measure import measure
from cell_curator.core.patches import Patches, PatchParameters, cut, stacked
from cell_curator.core.preprocess import prepare, vote
from cell_curator.core.recipe import Recipe
from cell_curator.engines.memory import reuse_memory
from cell_curator.engines.region import RegionLike
from cell_curator.engines.segmenter import (
    Segmentation,
    SegmentParameters,
    explain_channel,
    segment_image,
    source_image,
)
from cell_curator.engines.volumes import Stack, StackParameters, segment_stack
from cell_curator.io.blocks import open_image
from cell_curator.io.records import ImageRecord
from cell_curator.measured_channel import of_rule


@dataclass(frozen=True)
class Readied:
    """How one image was prepared: the turn that makes its grooves upright, and lines for the user."""

    angle_deg: float
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Looked:
    """What was found in one image; ``measured`` is `core.measure.measure` of its cells, if that was done already."""

    readied: Readied
    found: Segmentation
    measured: pd.DataFrame | None = None


def where(record: ImageRecord) -> dict[str, Any]:
    """How an image is found by the functions below."""
    return {"path": record.path, "plane": record.plane if record.axis else None}


def read_pixels(path: Path, plane: int | None) -> Any:
    """An image of a project, ``(C, Y, X)`` in the file's dtype; a large one is a `core.lazy.Lazy`.

    Raises
    ------
    UserError
        It is not where it was, or as `io.blocks.open_image`.
    """
    if not path.exists():
        raise UserError(f"{path}: the image is no longer there; move it back, or point to its new place (Images tab)")
    return open_image(path, plane)


def ready(path: Path, plane: int | None, recipe: Recipe) -> Job[Readied]:
    """Prepare one image, for its turn."""
    yield Progress(0.0, "preparing")
    made = prepare(read_pixels(path, plane), recipe)
    return Readied(made.angle_deg, made.notes)


def ballot(path: Path, plane: int | None, recipe: Recipe) -> Job[float | None]:
    """The turn that one image asks for, see `core.preprocess.vote`."""
    yield Progress(0.0, "direction of the grooves")
    return vote(read_pixels(path, plane), recipe)


def impression(path: Path, plane: int | None) -> Job[ImageLook]:
    """What tells whether an image is spoiled, see `core.image_flags`."""
    yield Progress(0.0, "looking")
    return look_of(read_pixels(path, plane))


def search(
    path: Path,
    plane: int | None,
    recipe: Recipe,
    params: SegmentParameters,
    region: RegionLike | None,
    rule: str,
    flows: bool,
) -> Job[Looked]:
    """Prepare one image, find its cells and measure them.

    Parameters
    ----------
    rule
        In which channel they are measured, see `measured_channel`.
    flows
        Whether what the network answered is given back, too; it is larger than all the rest.
    """
    yield Progress(0.0, "preparing")
    reuse_memory()
    pixels = read_pixels(path, plane)
    prepared = prepare(pixels, recipe)
    image = source_image(lambda: prepared.image, lambda: pixels, params)
    found = yield from scaled(segment_image(image, params, region), 0.1, 0.95)
    found = explain_channel(found, params, lambda: pixels)
    yield Progress(0.95, "measuring")
    measured = measure(found.labels, of_rule(pixels, rule))
    if not flows:
        found = replace(found, flow=found.flow[:, :0, :0], cell_probability=found.cell_probability[:0, :0])
    return Looked(Readied(prepared.angle_deg, prepared.notes), found, measured)


def search_stack(
    path: Path, recipes: Sequence[Recipe], params: SegmentParameters, stack: StackParameters
) -> Job[tuple[tuple[Readied, ...], Stack]]:
    """Prepare all planes of a stack, one recipe for each, and find its cells."""
    planes: list[NDArray[Any]] = []
    readied: list[Readied] = []
    for number, recipe in enumerate(recipes):
        yield Progress(0.1 * number / len(recipes), f"preparing plane {number + 1}")
        pixels = read_pixels(path, number)
        prepared = prepare(pixels, recipe)
        readied.append(Readied(prepared.angle_deg, prepared.notes))
        image = partial(np.asarray, prepared.image)
        planes.append(source_image(image, partial(np.asarray, pixels), params).astype(np.float32))
    found: Stack = yield from scaled(segment_stack(np.stack(planes), params, stack), 0.1, 1.0)
    return tuple(readied), found


def patches_of(
    path: Path,
    plane: int | None,
    recipes: Sequence[Recipe],
    labels: NDArray[np.int32],
    values: Sequence[int],
    params: PatchParameters,
) -> Job[Patches]:
    """Cut these cells out of one image.

    Parameters
    ----------
    recipes
        The first gives the turn, and the picture if it is the only one; of more, each of the others gives a channel.
    """
    yield Progress(0.0, "cutting patches")
    pixels = read_pixels(path, plane)
    first = prepare(pixels, recipes[0])
    pictures = [prepare(pixels, recipe).image for recipe in recipes[1:]] or [first.image]
    made = [cut(picture, labels, values, params, first.angle_deg) for picture in pictures]
    return made[0] if len(recipes) == 1 else stacked(made)
