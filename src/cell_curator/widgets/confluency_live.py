"""The cover of the image on screen, while settings are changed.

As with previews of pictures, at most one is computed at a time, from a smaller copy of the image, and the newest
settings are next. When the hand rests the whole image follows, with the numbers that the table would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from cell_curator.core.confluency import Confluency, ConfluencyParameters, UnetCover, confluency, union_of_masks
from cell_curator.core.pixel_clusters import KmeansParameters, PixelModel, cleaned, cluster_pixels, preview
from cell_curator.core.steps import select_channel
from cell_curator.covering import Covered
from cell_curator.widgets.live import in_words
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from cell_curator.session import Session

_REST_MS = 300
_QUICK_PX = 400
_SHOWN_PX = 2048
_WHOLE_PX = 36_000_000  # a larger image is judged by its smaller copy until all images are


@dataclass(frozen=True)
class Judged:
    """What a network made of the image on screen, and where it is to be cut; that needs no second look."""

    made: Covered
    params: UnetCover


Asked = KmeansParameters | Judged | None
"""How the image is covered; None: by its cells."""


@dataclass(frozen=True)
class Shown:
    """The cover of one image, and pictures of it.

    ``groups`` and ``mask`` (Y, X) may be smaller than the image; ``groups`` and ``model`` are None where the method
    has none. ``whole``: whether the numbers are of the whole image, not of a smaller copy.
    """

    image_id: int
    cover: Confluency
    mask: NDArray[np.bool_]
    groups: NDArray[np.uint8] | None
    model: PixelModel | None
    whole: bool


class LiveCover(QObject):
    """Covers of the image of the session that is on the screen."""

    shown = Signal(object)
    """A `Shown` for the image on screen."""
    failed = Signal(str)

    def __init__(self, bench: Workbench, parent: QObject) -> None:
        super().__init__(parent)
        self._bench = bench
        self._asked = self._whole = 0
        self._busy = False
        self._wanted: tuple[Asked, ConfluencyParameters] | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._on_rest)

    def request(self, params: Asked, say: ConfluencyParameters) -> None:
        """Show what k-means or a network makes of the image on screen, or, without ``params``, what its cells cover."""
        self._wanted = params, say
        self._asked += 1
        self._rest.start()
        if params is not None:  # cells are as quickly looked at as a whole
            self._start()

    def stop(self) -> None:
        """Forget what is under way."""
        self._asked += 1
        self._wanted = None
        self._rest.stop()

    def _start(self) -> None:
        if not self._busy:
            self._busy = self._ask(self._bench.previews, partial(self._quick, self._asked), quick=True)

    def _on_rest(self) -> None:
        self._ask(self._bench.studies, partial(self._rested, self._asked), quick=False, topic="cover")

    def _ask(self, lane: Any, deliver: Any, *, quick: bool, **how: str) -> bool:
        session = self._bench.session
        if session is None or session.current_image is None or self._wanted is None:
            return False
        lane(partial(_covered, session, session.current_image, *self._wanted, quick=quick), deliver, **how)
        return True

    def _quick(self, number: int, made: Shown | str) -> None:
        self._busy = False
        if isinstance(made, str):
            self.failed.emit(made)
        elif number != self._whole:  # else the whole image was quicker
            self._show(made)
        if number != self._asked and self._wanted is not None and self._wanted[0] is not None:
            self._start()

    def _rested(self, number: int, made: Shown | str) -> None:
        if number != self._asked:
            return
        if isinstance(made, str):
            self.failed.emit(made)
        else:
            self._whole = number
            self._show(made)

    def _show(self, made: Shown) -> None:
        session, link = self._bench.session, self._bench.link
        if self._wanted is None or session is None or link is None:
            return
        if session.current_image == made.image_id == link.labels.image_id:
            self.shown.emit(made)


def _covered(session: Session, image_id: int, params: Asked, say: ConfluencyParameters, *, quick: bool) -> Shown | str:
    def work() -> Shown:
        size = session.image(image_id).pixel_size_um
        counting = session.counting_cells()
        cells = counting.loc[counting["image"] == image_id, "label"].tolist()
        if params is None:
            mask = union_of_masks(session.label_view(image_id), cells)
            found = confluency(mask, size, count=len(cells), params=say)
            return Shown(image_id, found, small(mask), None, None, whole=True)
        if isinstance(params, Judged):
            assert params.made.score is not None
            mask = cleaned(params.made.score, params.params)
            found = confluency(mask, size, count=len(cells) or params.made.count, params=say)
            return Shown(image_id, found, small(mask), None, None, whole=True)
        grey = select_channel(session.pixels(image_id), session.recipe_for(image_id).channel)
        if quick or grey.size > _WHOLE_PX:
            made, factor = preview(grey, params, _QUICK_PX if quick else _SHOWN_PX)
        else:
            made, factor = cluster_pixels(grey, params), 1.0
        found = confluency(made.mask, None if size is None else size * factor, count=len(cells) or None, params=say)
        shape = _shown_shape(grey.shape)
        return Shown(image_id, found, small(made.mask, shape), small(made.groups, shape), made.model, factor == 1.0)

    return in_words(work)


def _shown_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    factor = max(1.0, max(shape) / _SHOWN_PX)
    height, width = (max(1, round(side / factor)) for side in shape)
    return height, width


def small(picture: NDArray[Any], shape: tuple[int, int] | None = None) -> NDArray[Any]:
    """The picture as it is shown: all of an image in one size, so that layers are written over in place."""
    height, width = shape or _shown_shape(picture.shape)
    if (height, width) == picture.shape or not picture.size:
        return picture
    resized = cv2.resize(picture.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return resized.astype(picture.dtype)
