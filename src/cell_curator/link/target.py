"""What a preview is made of and where it is shown: an image of the project, or any image layer of the viewer.

Both kinds answer the same questions. Methods marked *any thread* may read files and compute; the others
touch the viewer and are for the main thread only.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.core.look import Study, study
from cell_curator.core.overview import Overview, overview
from cell_curator.core.preprocess import prepare
from cell_curator.core.preview import Preview, preview
from cell_curator.core.recipe import Recipe
from cell_curator.link.geometry import Region, visible_region
from cell_curator.link.prepared import PreparedLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from cell_curator.link.viewer_link import ViewerLink

View = tuple[Region, float]
_OVERVIEW_PX = 512
_WHOLE_PX = 36_000_000  # a larger image is never prepared whole for a look at it


class Target(Protocol):
    """What a preview is made of and where it is shown."""

    @property
    def key(self) -> Hashable:
        """Equal for the same pixels."""

    def source(self) -> tuple[Any, Overview]:
        """Pixels (C, Y, X), sliceable, and their overview. *Any thread.*

        Raises
        ------
        UserError
            If they cannot be read.
        """

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe as it holds for this image. *Any thread.*"""

    def view(self) -> View | None:
        """What is visible, and its pixels per screen pixel; None if nothing is."""

    def show(self, shown: Preview) -> bool:
        """Put a picture on the screen; False if the image is no longer there."""

    def turn(self, angle_deg: float) -> None:
        """Turn the image counter-clockwise to this angle."""


def whole(target: Target, recipe: Recipe, view: View | None) -> Preview:
    """The picture at full resolution: all of the image, or if it is large the visible part. *Any thread.*"""
    image, known = target.source()
    if isinstance(image, np.ndarray) and known.shape[0] * known.shape[1] <= _WHOLE_PX:
        prepared = prepare(image, recipe)
        return Preview(prepared.image, (0.0, 0.0), (1.0, 1.0), dict(prepared.used))
    return preview(image, recipe, region=None if view is None else view[0], whole=known)


def studied(target: Target, recipe: Recipe, view: View | None) -> Study:
    """Filmstrip, quality and direction of the visible part. *Any thread.*"""
    image, known = target.source()
    return study(image, recipe, region=None if view is None else view[0], whole=known)


@dataclass(frozen=True)
class ProjectTarget:
    """The image of the project that is on the screen."""

    link: ViewerLink
    image_id: int

    @property
    def key(self) -> Hashable:
        """The image."""
        return self.link.session.folder, self.image_id

    def source(self) -> tuple[Any, Overview]:
        """Pixels and overview, kept by the session."""
        session = self.link.session
        return session.pixels(self.image_id), session.overview(self.image_id)

    def recipe(self, recipe: Recipe) -> Recipe:
        """With the angle set by hand or found for the folder."""
        return self.link.session.recipe_for(self.image_id, recipe)

    def view(self) -> View | None:
        """What the camera sees of the image."""
        return self.link.visible() if self.link.labels.image_id == self.image_id else None

    def show(self, shown: Preview) -> bool:
        """Into the layer “prepared”."""
        if self.link.labels.image_id != self.image_id:
            return False
        self.link.show_prepared(self.image_id, shown.image, shown.scale, shown.translate)
        return True

    def turn(self, angle_deg: float) -> None:
        """With all that lies on it."""
        self.link.turn(self.image_id, angle_deg)


class LayerTarget:
    """Any image layer: 2-D, RGB, the current slice of a stack; NumPy, dask, zarr, or a pyramid of these.

    Nothing of the layer is changed. The turn is not shown, since the layer belongs to the user.
    """

    def __init__(self, viewer: ViewerModel, layer: Image, prepared: PreparedLayer) -> None:
        self._viewer, self._layer, self._prepared = viewer, layer, prepared
        levels = layer.data if layer.multiscale else [layer.data]
        planes = layer.ndim - 2
        at = [round(float(v)) for v in layer.world_to_data(viewer.dims.point[-layer.ndim :])][:planes]
        self._levels = [_plane(level, levels[0].shape, at, layer.rgb) for level in levels]
        self._flat = tuple(viewer.dims.displayed) == (viewer.dims.ndim - 2, viewer.dims.ndim - 1)
        self.key: Hashable = (id(layer), id(layer.data), tuple(at), self._flat)
        self._known: Overview | None = None

    @property
    def name(self) -> str:
        """What the layer is called."""
        return str(self._layer.name)

    @property
    def layer(self) -> Image | None:
        """The layer, if it is still in the viewer."""
        return self._layer if self._layer in self._viewer.layers else None

    def source(self) -> tuple[Any, Overview]:
        """The plane in view.

        Raises
        ------
        UserError
            If the viewer shows other axes than the last two, or a volume: a preview is one plane.
        """
        if not self._flat:
            raise UserError(
                "previews need the last two axes of the image; switch napari to 2D and put its axes in order again"
            )
        image = self._levels[0]
        if 0 in image.shape:
            raise UserError(f"the layer “{self.name}” holds no pixels; choose another")
        if self._known is None:
            # Of a pyramid the coarsest level that is not coarser than an overview.
            enough = [level for level in self._levels if min(level.shape[1:]) >= _OVERVIEW_PX]
            self._known = replace(overview(enough[-1] if enough else image), shape=tuple(image.shape[1:]))
        return image, self._known

    def recipe(self, recipe: Recipe) -> Recipe:
        """As it is."""
        return recipe

    def view(self) -> View | None:
        """What the camera sees of the plane; all where there is none to see, so that `source` says why."""
        camera = self._viewer.scene.camera
        height, width = self._levels[0].shape[1:]
        if not self._flat or 0 in (height, width):
            return (0, 0, height, width), 1.0
        return visible_region((height, width), self._affine(), camera.center, camera.zoom, self._viewer.canvas.size)

    def show(self, shown: Preview) -> bool:
        """Into a layer “prepared” above it."""
        if self._layer not in self._viewer.layers:
            return False
        index = self._viewer.layers.index(self._layer) + 1
        self._prepared.show(shown.image, self._affine(), scale=shown.scale, translate=shown.translate, index=index)
        return True

    def turn(self, angle_deg: float) -> None:
        """Left to the recipe."""

    def _affine(self) -> NDArray[np.float64]:
        """(3, 3) from pixels of the plane to the last two axes of the world."""
        origin, down, across = (
            np.asarray(self._layer.data_to_world((0,) * (self._layer.ndim - 2) + step))[-2:]
            for step in ((0, 0), (1, 0), (0, 1))
        )
        affine = np.eye(3)
        affine[:2, 0], affine[:2, 1], affine[:2, 2] = down - origin, across - origin, origin
        return affine


def _plane(data: Any, full: tuple[int, ...], at: list[int], rgb: bool) -> Any:
    """The plane at these indices of the first axes of ``full`` as (C, Y, X), in memory or lazily sliced.

    Empty where there are no pixels at all.
    """
    if 0 in data.shape:
        return np.zeros((1, 0, 0))
    # Axes of a pyramid's coarser levels may be shorter.
    index = tuple(min(max(i * own // whole, 0), own - 1) for i, own, whole in zip(at, data.shape, full, strict=False))
    if not isinstance(data, np.ndarray):
        import dask.array as da

        data = data if isinstance(data, da.Array) else da.from_array(data)  # zarr and its like read as they are sliced
    plane = data[index] if index else data
    return plane[..., :3].transpose(2, 0, 1) if rgb else plane[None]
