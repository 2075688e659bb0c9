"""The layer “prepared”: the whole prepared image, or only what is in view, at the resolution of the screen.

While a slider moves the picture is written over in place, which leaves napari nothing to do but draw.
A *swipe* hides the picture to the left of a line, so that the raw image shows there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

PREPARED = "prepared"
_COPIED_PX = 2_500_000  # a larger picture is shown as it is, since copying would be felt


class PreparedLayer:
    """Keeps one Image layer of a viewer on the prepared picture."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Image | None = None
        self._picture: NDArray[np.float32] | None = None
        self._shown: NDArray[np.float32] | None = None  # what the layer holds, if it is ours to write over
        self._swipe: float | None = None
        self._to_world: NDArray[np.float64] = np.eye(3)

    @property
    def layer(self) -> Image | None:
        """The layer, or None before the first picture and after the user deleted it."""
        return self._layer if self._layer is not None and self._layer in self._viewer.layers else None

    @property
    def picture(self) -> NDArray[np.float32] | None:
        """The picture as it was given, (y, x)."""
        return self._picture

    @property
    def swipe(self) -> float | None:
        """World x of the line left of which the raw image shows, or None."""
        return self._swipe

    @swipe.setter
    def swipe(self, x: float | None) -> None:
        if x != self._swipe:
            self._swipe = x
            if self._picture is not None and self.layer is not None:
                self._put(self._picture)

    def show(
        self,
        picture: NDArray[np.float32],
        affine: NDArray[np.float64],
        *,
        scale: tuple[float, float] = (1.0, 1.0),
        translate: tuple[float, float] = (0.0, 0.0),
        index: int,
    ) -> None:
        """Show ``(y, x)`` float32 in 0..1.

        Parameters
        ----------
        affine
            (3, 3): from pixels of the image to the world.
        scale, translate
            Pixels of the image that one pixel of the picture stands for, and where its first pixel lies.
        index
            Place in the layer list, for a new layer.
        """
        self._picture = picture
        place = np.array([(scale[0], 0, translate[0]), (0, scale[1], translate[1]), (0, 0, 1)])
        self._to_world = affine @ place
        if self.layer is None:
            from napari.layers import Image

            self._shown = None
            self._layer = Image(
                self._cut(picture), name=PREPARED, contrast_limits=(0, 1), visible=False, affine=self._to_world
            )
            active = self._viewer.layers.selection.active
            self._viewer.layers.insert(min(index, len(self._viewer.layers)), self._layer)
            if active is not None:  # a new layer becomes the active one; the user's choice must stay
                self._viewer.layers.selection.active = active
            return
        self._put(picture)
        self.place(self._to_world)

    def place(self, to_world: NDArray[np.float64]) -> None:
        """Move the picture: (3, 3) from its pixels to the world."""
        self._to_world = to_world
        layer = self.layer
        if layer is not None and not np.array_equal(layer.affine.affine_matrix, to_world):
            layer.affine = to_world

    def turn(self, before: NDArray[np.float64], after: NDArray[np.float64]) -> None:
        """Follow the image from one place in the world to another; the swipe's line stays where it is."""
        self.place(after @ np.linalg.inv(before) @ self._to_world)
        if self._swipe is not None and self._picture is not None and self.layer is not None:
            self._put(self._picture)

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self.layer is not None:
            self._viewer.layers.remove(self.layer)
        self._layer = self._picture = self._shown = None

    def _put(self, picture: NDArray[np.float32]) -> None:
        layer = self.layer
        assert layer is not None
        if self._shown is not None and self._shown.shape == picture.shape and layer.data is self._shown:
            np.copyto(self._shown, picture)
            self._hide_left(self._shown)
            layer.refresh(extent=False, thumbnail=False, highlight=False)
            return
        layer.data = self._cut(picture)

    def _cut(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        if picture.size > _COPIED_PX and self._swipe is None:
            self._shown = None
            return picture
        self._shown = picture.copy()
        self._hide_left(self._shown)
        return self._shown

    def _hide_left(self, picture: NDArray[np.float32]) -> None:
        """Make transparent what lies left of the swipe; napari draws NaN as nothing."""
        if self._swipe is None:
            return
        (down, across, start) = self._to_world[1]
        rows = np.arange(picture.shape[0], dtype=np.float32)[:, None] * np.float32(down) + np.float32(start)
        if down == 0.0 and across > 0.0:
            picture[:, : max(0, int(np.ceil((self._swipe - start) / across)))] = np.nan
        else:
            columns = np.arange(picture.shape[1], dtype=np.float32) * np.float32(across)
            picture[rows + columns < self._swipe] = np.nan
