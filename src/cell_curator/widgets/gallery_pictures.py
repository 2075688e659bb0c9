"""Pictures of cells: drawn in a background thread, image by image, and kept up to so many bytes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtGui import QPixmap

from cell_curator.core.jobs import UserError
from cell_curator.core.patches import Box, patch_thumbnail
from cell_curator.widgets.images_model import to_pixmap
from cell_curator.widgets.runner import Background

if TYPE_CHECKING:
    from cell_curator.session import Session

log = logging.getLogger(__name__)

PICTURE = 56
MOST_BYTES = 96_000_000
_BATCH = 48  # cells of an image
_TOGETHER = 6  # images, so that pictures come in soon and the window is not drawn for each
_THREADS = 2
_BYTES_A_PIXEL = 4
_AROUND = 0.3  # surroundings on each side, as a part of the cell's longer side

Key = tuple[int, int]
"""Cell id and revision."""


@dataclass(frozen=True)
class Look:
    """How a cell is drawn: edge in px, its outline, what is round it, and whether grey levels mean the same for all."""

    size: int = PICTURE
    outline: bool = True
    surroundings: bool = True
    shared_contrast: bool = True


@dataclass(frozen=True)
class _Drawn:
    image_id: int
    pictures: dict[Key, NDArray[np.uint8]]
    problem: str = ""


class Pictures(QObject):
    """The pictures made so far, those looked at last, up to ``most_bytes``."""

    arrived = Signal()
    failed = Signal(str)

    def __init__(self, background: Background, look: Look, most_bytes: int = MOST_BYTES) -> None:
        super().__init__()
        self.look = look
        self._background = background
        self._most = most_bytes
        self._kept: OrderedDict[Key, QPixmap] = OrderedDict()
        self._old: OrderedDict[Key, QPixmap] = OrderedDict()  # of another size, shown until the new ones come
        self._session: Session | None = None
        self._wanted: list[tuple[int, int]] = []
        self._hopeless: dict[int, str] = {}
        self._generation = 0
        self._busy = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(15)
        self._timer.timeout.connect(self._ask)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        """Bytes of all pictures at hand."""
        kept = (*self._kept.values(), *self._old.values())
        return sum(_BYTES_A_PIXEL * picture.width() * picture.height() for picture in kept)

    def get(self, cell: int, revision: int) -> QPixmap | None:
        """A picture, or None if it is not made yet."""
        key = (cell, revision)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        return self._old.get(key)

    def is_new(self, cell: int, revision: int) -> bool:
        """Whether the picture is there, and drawn as it should be now."""
        return (cell, revision) in self._kept

    def problem(self, image_id: int) -> str:
        """Why there can be no pictures of the cells of an image, or ""."""
        return self._hopeless.get(image_id, "")

    def try_again(self) -> None:
        """Images changed: what could not be read may be readable now."""
        if self._hopeless:
            self._hopeless.clear()
            self.arrived.emit()

    def want(self, session: Session | None, cells: Sequence[tuple[int, int]]) -> None:
        """Have pictures made of these ``(image, cell)``, in place of all that was wanted before."""
        if session is not self._session:
            self._session = session
            self.forget()
        self._wanted = [pair for pair in cells if pair[0] not in self._hopeless]
        if self._wanted and not self._busy and not self._timer.isActive():
            self._timer.start()

    def set_look(self, look: Look) -> None:
        """Draw otherwise from now on."""
        if look == self.look:
            return
        old = self._kept if look.size != self.look.size else OrderedDict()
        self.look = look
        self.forget()
        self._old = old

    def forget(self) -> None:
        """Drop all pictures, also those under way."""
        self._generation += 1
        self._kept, self._old = OrderedDict(), OrderedDict()
        self._hopeless.clear()

    def _ask(self) -> None:
        """Have the pictures made that are wanted: those of a few images, one batch at a time."""
        session, together = self._session, dict[int, list[int]]()
        if session is None or not self._wanted or self._busy:
            return
        for image, cell in self._wanted:
            if len(together) < _TOGETHER or image in together:
                together.setdefault(image, []).append(cell)
        generation, look = self._generation, self.look
        self._busy = True

        def one(part: tuple[int, list[int]]) -> _Drawn:
            return _drawn(session, part[0], part[1][:_BATCH], look)

        def compute() -> tuple[int, list[_Drawn]]:
            with ThreadPoolExecutor(_THREADS, thread_name_prefix="cell-curator-pictures") as pool:
                return generation, list(pool.map(one, together.items()))

        self._background(compute, self._made)

    def _made(self, made: tuple[int, list[_Drawn]]) -> None:
        self._busy = False
        generation, parts = made
        if generation != self._generation:
            self._timer.start()
            return
        done: set[int] = set()
        for part in parts:
            if part.problem:
                self._hopeless[part.image_id] = part.problem
                self.failed.emit(part.problem)
            for key, picture in part.pictures.items():
                self._kept[key] = to_pixmap(picture)
                self._old.pop(key, None)
                done.add(key[0])
        most = self._most // (_BYTES_A_PIXEL * self.look.size**2)
        while len(self._kept) + len(self._old) > max(most, 1):
            (self._old or self._kept).popitem(last=False)
        self._wanted = [pair for pair in self._wanted if pair[1] not in done and pair[0] not in self._hopeless]
        self.arrived.emit()
        self._ask()


def _drawn(session: Session, image_id: int, cells: Sequence[int], look: Look) -> _Drawn:
    try:
        return _Drawn(image_id, draw_cells(session, image_id, cells, look.size, look))
    except UserError as error:
        return _Drawn(image_id, {}, str(error))
    except Exception as error:  # a gallery without pictures is better than none
        log.exception("drawing cells failed")
        return _Drawn(image_id, {}, f"{type(error).__name__}: {error}")


def draw_cells(
    session: Session, image_id: int, cells: Sequence[int], size: int = PICTURE, look: Look | None = None
) -> dict[Key, NDArray[np.uint8]]:
    """Pictures of cells of one image, by (cell id, revision). May be called from any thread."""
    look = look or Look(size)
    image, labels, frame = session.prepared(image_id), session.label_view(image_id), session.cells.frame
    at = frame.index.get_indexer(list(cells))
    at = at[at >= 0]
    # of 100,000 rows a few by column take microseconds; rows with all their columns take milliseconds
    known = (frame[name].to_numpy()[at].tolist() for name in ("revision", "label", "top", "left", "bottom", "right"))
    pictures = {}
    for cell, revision, label, *box in zip(frame.index.to_numpy()[at].tolist(), *known, strict=True):
        pictures[cell, revision] = _draw(image, labels, tuple(box), label, size, look)
    return pictures


def _draw(
    image: NDArray[np.float32], labels: NDArray[np.int32], box: Box, label: int, size: int, look: Look
) -> NDArray[np.uint8]:
    top, left, bottom, right = box
    longer = max(bottom - top, right - left)
    margin = max(6, round(_AROUND * longer)) if look.surroundings else 2
    around = longer // 2 + margin + 2
    middle = (top + bottom) // 2, (left + right) // 2
    y0, x0 = (max(at - around, 0) for at in middle)
    part = np.s_[y0 : middle[0] + around, x0 : middle[1] + around]
    pixels, mask = image[part], labels[part]
    limits = (0.0, 1.0) if look.shared_contrast else _limits(pixels if look.surroundings else pixels[mask == label])
    if not look.surroundings:
        pixels = np.where(mask == label, pixels, limits[0])
    within = (top - y0, left - x0, bottom - y0, right - x0)
    outlined = mask if look.outline else None
    return patch_thumbnail(pixels, outlined, within, size, label=label, limits=limits, margin=margin)


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    """Nearly the darkest and nearly the brightest."""
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, (0.5, 99.8))
    return float(low), float(max(high, low + 1e-3))
