"""The image shown: one layer per raw channel, and the prepared image above them.

Pixels are loaded by `load` (any thread) and put into layers by `ImageBinder` (main thread). Of an image that is
larger than memory the layers hold a pyramid of which napari reads what is in view. This module knows nothing
of cells.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.lazy import Lazy
from cell_curator.core.preview import Preview, preview
from cell_curator.link.geometry import bounds, turn_affine
from cell_curator.link.prepared import PreparedLayer

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from cell_curator.io.records import ImageRecord
    from cell_curator.link.geometry import Box
    from cell_curator.session import Session

_COLORS = ("green", "magenta", "cyan", "yellow", "red", "blue")
_AFAR_PX = 1500  # longest side of the prepared image as it is shown of a large image at first
_CHUNK_PX = 1024  # side of the pieces that napari asks a large image for
_numbers = itertools.count()
_NAMED = {"red": "red", "green": "green", "blue": "blue"}


@dataclass(frozen=True)
class Loaded:
    """All pixels of one image, read and prepared off the main thread."""

    image_id: int
    shape: tuple[int, int]  # (Y, X)
    channels: tuple[Any, ...]  # each (Y, X), or a pyramid: a list of lazy (Y, X), the finest first
    limits: tuple[tuple[float, float], ...]
    highest: tuple[float, ...]
    names: tuple[str, ...]
    prepared: Preview  # of a large image as seen from afar
    labels: Any  # (Y, X) int32, or a pyramid
    angle_deg: float


def load(session: Session, image_id: int) -> Loaded:
    """Read what the viewer needs of one image. May be called from any thread.

    Raises
    ------
    UserError
        If the image cannot be read.
    """
    record, pixels = session.image(image_id), session.pixels(image_id)
    if isinstance(pixels, Lazy):
        return _load_large(session, record, pixels)
    prepared = session.prepare(image_id)
    return Loaded(
        image_id=image_id,
        shape=(pixels.shape[1], pixels.shape[2]),
        channels=tuple(pixels),
        limits=tuple(_limits(channel) for channel in pixels),
        highest=tuple(float(channel.max()) for channel in pixels),
        names=_unique(record.channel_names, len(pixels)),
        prepared=Preview(prepared.image, (0.0, 0.0), (1.0, 1.0)),
        labels=session.labels(image_id),
        angle_deg=prepared.angle_deg,
    )


def _load_large(session: Session, record: ImageRecord, pixels: Lazy) -> Loaded:
    """Nothing is gone over as a whole: what is seen at first comes from the coarsest levels."""
    coarse = pixels.levels[-1]
    seen = coarse.window((0, 0, *coarse.shape[1:]))
    recipe = session.recipe_for(record.image_id)
    step = max(2.0, max(pixels.shape[1:]) / _AFAR_PX)
    return Loaded(
        image_id=record.image_id,
        shape=(pixels.shape[1], pixels.shape[2]),
        channels=tuple(pyramid(pixels[index]) for index in range(len(pixels))),
        limits=tuple(_limits(channel) for channel in seen),
        highest=tuple(float(channel.max()) for channel in seen),
        names=_unique(record.channel_names, len(pixels)),
        prepared=preview(pixels, recipe, step=step, whole=session.overview(record.image_id)),
        labels=pyramid(cast("Lazy", session.label_view(record.image_id))),
        angle_deg=session.angle(record.image_id),
    )


def pyramid(image: Lazy) -> list[Any]:
    """``(Y, X)`` and its coarser levels as napari takes them: read as they come into view."""
    import dask.array as da

    levels = (image, *(level for level in image.levels if min(level.shape) > 1))
    made = [
        da.from_array(
            _Slices(level),
            chunks=tuple(min(_CHUNK_PX, side) for side in level.shape),
            name=f"cell-curator-{next(_numbers)}",
            meta=np.zeros((0, 0), level.dtype),
        )
        for level in levels
    ]
    return made if len(made) > 1 else [made[0], made[0][::2, ::2]]  # napari takes one level for no pyramid


class _Slices:
    """What dask wants of an array, and no more: it tries out what a `Lazy` refuses to do."""

    def __init__(self, image: Lazy) -> None:
        self.shape, self.dtype, self.ndim = image.shape, image.dtype, image.ndim
        self._image = image

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._image.sliced(key))


class ImageBinder:
    """Keeps the raw and prepared layers of one viewer on the image shown."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._channels: list[Image] = []
        self.prepared = PreparedLayer(viewer)
        self.shape: tuple[int, int] = (0, 0)
        self.angle_deg = 0.0
        self.affine: NDArray[np.float64] = np.eye(3)

    @property
    def prepared_layer(self) -> Image | None:
        """The layer of the prepared image, if there is one."""
        return self.prepared.layer

    @property
    def box(self) -> Box:
        """The box around the image as it stands in the viewer."""
        return bounds(self.shape, self.affine)

    @property
    def layers(self) -> list[Image]:
        """Raw layers first, prepared last."""
        return self._channels + ([self.prepared.layer] if self.prepared.layer is not None else [])

    def show(self, loaded: Loaded) -> None:
        """Show another image; layers of the same names are filled anew, so the user's choices stay."""
        self._place(loaded.shape, loaded.angle_deg)
        names = [layer.name for layer in self._channels]
        large = any(isinstance(channel, list) for channel in loaded.channels)
        large = large or any(layer.multiscale for layer in self._channels)
        if large or not self._is_ours(self._channels) or names != list(loaded.names):
            self._remove_layers(self._channels)
            self._channels = self._add_channels(loaded)
        for layer, data, limits, highest in zip(
            self._channels, loaded.channels, loaded.limits, loaded.highest, strict=True
        ):
            if layer.data is not data and not large:
                layer.data = data
            layer.contrast_limits_range = (min(0.0, limits[0]), max(highest, limits[1]))
            layer.contrast_limits = limits
            layer.affine = self.affine
        seen = loaded.prepared
        self.show_prepared(seen.image, seen.scale, seen.translate)

    def show_prepared(
        self,
        picture: NDArray[np.float32],
        scale: tuple[float, float] = (1.0, 1.0),
        translate: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Put ``(y, x)`` float32 in 0..1 into the prepared layer: the whole image, or a part of it."""
        self.prepared.show(picture, self.affine, scale=scale, translate=translate, index=len(self._channels))

    def turn(self, angle_deg: float) -> None:
        """Turn what is shown about the image's centre, counter-clockwise, to this angle."""
        before = self.affine
        self._place(self.shape, angle_deg)
        for layer in self._channels:
            layer.affine = self.affine
        self.prepared.turn(before, self.affine)

    def remove(self) -> None:
        """Take all layers out of the viewer."""
        self._remove_layers(self._channels)
        self._channels = []
        self.prepared.remove()
        self._place((0, 0), 0.0)

    def _place(self, shape: tuple[int, int], angle_deg: float) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.angle_deg = float(angle_deg)
        self.affine = turn_affine(self.shape, self.angle_deg)

    def _add_channels(self, loaded: Loaded) -> list[Image]:
        from napari.layers import Image

        layers = []
        for index, (name, data) in enumerate(zip(loaded.names, loaded.channels, strict=True)):
            alone = len(loaded.channels) == 1
            color = "gray" if alone else _NAMED.get(name.lower(), _COLORS[index % len(_COLORS)])
            blending = "translucent" if alone else "additive"
            # limits at once: else napari looks for them in the pixels
            limits = loaded.limits[index]
            layer = Image(
                data,
                name=name,
                colormap=color,
                blending=blending,
                contrast_limits=limits,
                multiscale=isinstance(data, list),
            )
            self._viewer.layers.insert(index, layer)
            layers.append(layer)
        return layers

    def _is_ours(self, layers: list[Image]) -> bool:
        # The user may have deleted a layer.
        return bool(layers) and all(layer in self._viewer.layers for layer in layers)

    def _remove_layers(self, layers: list[Image]) -> None:
        for layer in layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)


def _limits(channel: NDArray[Any]) -> tuple[float, float]:
    sample = channel[:: max(1, channel.shape[0] // 512), :: max(1, channel.shape[1] // 512)]
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(sample, [0.1, 99.8]))
    return low, high if high > low else low + 1.0


def _unique(names: tuple[str, ...], count: int) -> tuple[str, ...]:
    # napari renames twins, and then the names would never match again.
    names = tuple(names) if len(names) == count else tuple(f"channel {i + 1}" for i in range(count))
    names = tuple(name or f"channel {i + 1}" for i, name in enumerate(names))
    return names if len(set(names)) == count else tuple(f"{n} ({i + 1})" for i, n in enumerate(names))
