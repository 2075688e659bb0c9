"""The cells of an image, each with its type and how likely it is, as a Mask R-CNN sees them.

An image of any size is shown in pieces that overlap by more than a cell, and cells are joined across them. There is
no limit on how many there are. If memory runs out, smaller pieces are tried.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.engines.cards import CARD, WEIGHTS
from cell_curator.engines.mask_rcnn.instances import Mask, Window, as_labels
from cell_curator.engines.mask_rcnn.material import planes_of, shrunk
from cell_curator.engines.mask_rcnn.model import About, load
from cell_curator.engines.processor import bfloat16_is_faster
from cell_curator.engines.segmenter import limited_threads
from cell_curator.engines.tiling import out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

_SMALLEST = 128  # px below which a piece is no longer halved
_RIM = 3.0  # px as shown to the network from the rim of a piece from which a box counts as cut
_CELLS_SHARED = 3.0  # how many typical cells neighbouring pieces have in common

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TypedCells:
    """The cells of one image.

    Parameters
    ----------
    labels
        ``(Y, X)`` int32, 1..n.
    types
        Names of the K types.
    score
        ``(n,)`` how likely each is a cell.
    likely
        ``(n, K)`` of which type it is, if it is one; rows add up to 1.
    notes
        Lines for the user.
    """

    labels: NDArray[np.int32]
    types: tuple[str, ...]
    score: NDArray[np.float64]
    likely: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of cells."""
        return len(self.score)

    def named(self) -> list[str]:
        """The likeliest type of each."""
        return [self.types[number] for number in self.likely.argmax(axis=1)] if self.count else []


def find(
    image: NDArray[Any],
    model: Path,
    *,
    score: float | None = None,
    drop_border: bool | None = None,
    threads: int = 0,
    name: str = "the image",
) -> Job[TypedCells]:
    """Find the cells of an image and their types.

    Parameters
    ----------
    image
        ``(Y, X)`` or ``(C, Y, X)``, prepared as those it learned from.
    model
        Folder of a trained model.
    score, drop_border
        How likely it must be a cell, and whether those that touch the border are left out; by default as in the
        model's parameters.

    Raises
    ------
    UserError
        The model cannot be read, or the image has nothing to see.
    """
    with limited_threads(threads):
        module, about = _loaded(model)
        said = {"score": score, "drop_border": drop_border}
        wanted = about.parameters.model_copy(update={key: value for key, value in said.items() if value is not None})
        return (yield from look(module, replace(about, parameters=wanted), image, name=name))


def _loaded(folder: Path) -> tuple[Any, About]:
    """The network, kept from image to image as long as its files stay the same."""
    try:
        stamp = tuple((folder / name).stat().st_mtime_ns for name in (WEIGHTS, CARD))
    except OSError:
        return load(folder)  # says what is wrong
    return _kept(folder, stamp)


@lru_cache(maxsize=1)
def _kept(folder: Path, stamp: tuple[int, ...]) -> tuple[Any, About]:
    return load(folder)


def look(module: Any, about: About, image: NDArray[Any], *, name: str = "the image") -> Job[TypedCells]:
    """As `find`, with a network that is loaded."""
    shape = (image.shape[-2], image.shape[-1])
    planes = shrunk(planes_of(image, name), about.factor)
    side = about.parameters.tile
    notes: tuple[str, ...] = ()
    while True:
        try:
            found, pieces = yield from _found(module, about, planes, shape, side)
            break
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if side // 2 < _SMALLEST:
                raise UserError(
                    f"{name}: memory ran out even with the smallest pieces; close other programs"
                ) from error
            side //= 2
            log.warning("memory ran out; looking at pieces of %d px", side)
            notes = (f"memory ran short, so the image was looked at in smaller pieces ({side} px)",)
    labels, kept = as_labels(found, shape, pieces, about.parameters.score)
    if about.parameters.drop_border:
        labels, kept = _inner(labels, kept)
    likely = np.array([mask.likely for mask in kept]).reshape(-1, len(about.types))
    total = likely.sum(axis=1, keepdims=True)
    scores = np.array([mask.score for mask in kept], np.float64)
    return TypedCells(labels, about.types, scores, likely / np.maximum(total, 1e-12), notes)


def _inner(labels: NDArray[np.int32], kept: list[Mask]) -> tuple[NDArray[np.int32], list[Mask]]:
    """Without the cells that touch the border."""
    rims = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    inside = [number for number in range(1, len(kept) + 1) if number not in set(rims.tolist())]
    numbers = np.zeros(len(kept) + 1, np.int32)
    numbers[inside] = np.arange(1, len(inside) + 1)
    made: NDArray[np.int32] = numbers[labels]
    return made, [kept[number - 1] for number in inside]


def _found(
    module: Any, about: About, planes: NDArray[np.float32], shape: tuple[int, int], side: int
) -> Job[tuple[list[Mask], list[Window]]]:
    """All finds in all pieces, in px of the image; and where the pieces lie in it."""
    import torch

    scales = (shape[0] / planes.shape[1], shape[1] / planes.shape[2])
    windows = list(_windows((planes.shape[1], planes.shape[2]), side, int(_CELLS_SHARED * about.parameters.cell_side)))
    masks: list[Mask] = []
    module.eval()
    for number, window in enumerate(windows):
        yield Progress(number / len(windows), "looking for cells")
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_faster()):
            finds = _raw(module, torch.from_numpy(np.ascontiguousarray(planes[:, *window])))
        masks += _masks(finds, window, planes.shape[1:], scales, shape, number)
    places: list[Window] = []
    for window in windows:
        rows, columns = (
            slice(round(part.start * by), round(part.stop * by)) for part, by in zip(window, scales, strict=True)
        )
        places.append((rows, columns))
    return masks, places


def _windows(shape: tuple[int, int], side: int, shared: int) -> Iterator[Window]:
    """Pieces that overlap by at least ``shared`` px, or a quarter of their side if that is less."""
    shared = min(shared, side // 2)
    cuts = []
    for length in shape:
        if length <= side:
            cuts.append([slice(0, length)])
            continue
        count = int(np.ceil((length - shared) / (side - shared)))
        cuts.append([slice(start, start + side) for start in np.linspace(0, length - side, count).astype(int).tolist()])
    for rows in cuts[0]:
        for columns in cuts[1]:
            yield rows, columns


def _raw(module: Any, piece: Tensor) -> dict[str, NDArray[Any]]:
    """Boxes, small masks ``(n, 1, 28, 28)`` and how likely each is a cell of each type, ``(n, K)``: all finds.

    torchvision drops of every box all types but one and says the same cell once for each type it may be. So each
    box is looked at again, for all types: what is said of the same cell is then the same.
    """
    from torchvision.models.detection.image_list import ImageList

    # torchvision's own transform leaves the size alone in training only
    images = ImageList(module.transform.batch_images([module.transform.normalize(piece)]), [tuple(piece.shape[-2:])])
    features = module.backbone(images.tensors)
    proposals, _ = module.rpn(images, features)
    heads = module.roi_heads
    found = heads(features, proposals, images.image_sizes)[0][0]
    again = heads.box_head(heads.box_roi_pool(features, [found["boxes"]], images.image_sizes))
    likely = heads.box_predictor(again)[0].float().softmax(dim=1)[:, 1:]
    return {
        "boxes": found["boxes"].float().numpy(),
        "masks": found["masks"].float().numpy(),
        "likely": likely.numpy().astype(np.float64),
    }


def _masks(
    found: dict[str, NDArray[Any]],
    window: Window,
    size: Sequence[int],
    scales: tuple[float, float],
    shape: tuple[int, int],
    piece: int,
) -> Iterator[Mask]:
    """The finds of a piece drawn in px of the image."""
    for box, likely, small in zip(found["boxes"], found["likely"], found["masks"], strict=True):
        rims = ((box[1], window[0].start, 0), (box[0], window[1].start, 0))
        ends = ((box[3], window[0].stop, size[0]), (box[2], window[1].stop, size[1]))
        cut = any(at < _RIM and start > 0 for at, start, _ in rims) or any(
            at > part.stop - part.start - _RIM and stop < length
            for (at, stop, length), part in zip(ends, window, strict=True)
        )
        drawn = _drawn(small[0], box, window, scales, shape)
        if drawn is None:
            continue
        top, left, pixels = drawn
        yield Mask(top, left, pixels, likely, piece, cut)


def _drawn(
    small: NDArray[np.float32],
    box: NDArray[np.float32],
    window: Window,
    scales: tuple[float, float],
    shape: tuple[int, int],
) -> tuple[int, int, NDArray[np.bool_]] | None:
    """A small mask stretched over its box in the image: top, left and pixels; None if nothing of it is there."""
    x0, y0, x1, y1 = (float(value) for value in box)
    y0, y1 = ((value + window[0].start) * scales[0] for value in (y0, y1))
    x0, x1 = ((value + window[1].start) * scales[1] for value in (x0, x1))
    top, left = max(0, int(np.floor(y0))), max(0, int(np.floor(x0)))
    bottom, right = min(shape[0], int(np.ceil(y1))), min(shape[1], int(np.ceil(x1)))
    if bottom <= top or right <= left:
        return None
    side = small.shape[0]
    # where the centre of each pixel lies in the small mask
    rows = ((np.arange(top, bottom) + 0.5 - y0) / max(y1 - y0, 1e-6) * side - 0.5).astype(np.float32)
    columns = ((np.arange(left, right) + 0.5 - x0) / max(x1 - x0, 1e-6) * side - 0.5).astype(np.float32)
    across, down = np.meshgrid(columns, rows)
    padded = cv2.remap(np.ascontiguousarray(small), across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    pixels = padded >= 0.5
    return (top, left, pixels) if pixels.any() else None
