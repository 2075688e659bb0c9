"""What counts as covered, over the image: groups of pixels in their colours, and the edge of what is covered.

A click on the image, while it is wanted, says which group lies there. Nothing of the session is changed.
"""

from __future__ import annotations

from collections.abc import Collection, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from cell_curator.core.colors import cluster_color, from_hex
from cell_curator.link.geometry import to_data

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from cell_curator.link.viewer_link import ViewerLink

GROUPS, COVERED = "groups of pixels", "covered"
EDGE = "#ffffff"
"""Colour of the edge of what is covered."""

_CELL, _GROUND = 0.4, 0.12  # opacity of groups that are cells, and of the others
_CLICK_PX = 4.0
_SMALL_PX = 512


class CoverLayers:
    """Two layers that come and go; the cells of the project are hidden while groups of pixels are shown."""

    clicked = Signal(int)
    """The group of pixels, counted from 0, on which the user clicked."""

    def __init__(self, viewer: ViewerModel, link: ViewerLink) -> None:
        self._viewer, self._link = viewer, link
        self._layers: dict[str, Labels] = {}
        self._hidden: Labels | None = None
        self._cells: frozenset[int] = frozenset()
        self._listening = False

    def show(self, groups: NDArray[np.uint8] | None, mask: NDArray[np.bool_], cells: Collection[int]) -> None:
        """Show pictures of the image in view, which may be smaller than it.

        Parameters
        ----------
        groups
            (Y, X), counted from 0, or None where the method has none.
        mask
            (Y, X), what is covered.
        cells
            Groups that are cells.
        """
        if groups is None:
            self._drop(GROUPS)
            self._show_cells()
        else:
            self._hide_cells()
            self._put(GROUPS, groups + np.uint8(1))
            self._color(frozenset(cells), int(groups.max(initial=0)) + 1)
        self._put(COVERED, mask.astype(np.uint8))

    def choose(self, cells: Collection[int]) -> None:
        """Colour the groups as if these were the cells, before the edge follows."""
        layer = self._there(GROUPS)
        if layer is not None:
            self._color(frozenset(cells), int(layer.data.max(initial=1)))

    def blank(self) -> None:
        """Show nothing until the next `show`: another image lies below."""
        for layer in self._present():
            layer.data[...] = 0
            layer.refresh(extent=False, thumbnail=False, highlight=False)

    @property
    def visible(self) -> bool:
        """Whether the layers are drawn."""
        return any(layer.visible for layer in self._present())

    @visible.setter
    def visible(self, wanted: bool) -> None:
        for layer in self._present():
            layer.visible = wanted

    def listen(self, wanted: bool) -> None:
        """Say which group was clicked, in place of choosing cells; or no more."""
        if wanted == self._listening:
            return
        self._listening = self._link.mouse_taken = wanted
        callbacks = self._viewer.mouse_drag_callbacks
        if wanted:
            callbacks.append(self._on_press)
        elif self._on_press in callbacks:
            callbacks.remove(self._on_press)

    def remove(self) -> None:
        """Take everything out of the viewer; the cells of the project are shown again."""
        self.listen(False)
        for name in (GROUPS, COVERED):
            self._drop(name)
        self._show_cells()

    def _put(self, name: str, data: NDArray[np.uint8]) -> None:
        layer = self._there(name)
        place = self._link.image.affine @ _place(self._link.image.shape, data.shape)
        if layer is not None and layer.data.shape == data.shape:
            if not np.array_equal(layer.affine.affine_matrix, place):
                layer.affine = place
            np.copyto(layer.data, data)
            layer.refresh(extent=False, thumbnail=False, highlight=False)
            return
        from napari.layers import Labels

        shown = layer.visible if layer is not None else True
        self._drop(name)
        active = self._viewer.layers.selection.active
        layer = Labels(data.copy(), name=name, opacity=1.0, affine=place, visible=shown)
        layer.editable = False
        if name == COVERED:
            layer.contour = 1 if max(data.shape) < _SMALL_PX else 2
            _paint(layer, {1: (*from_hex(EDGE), 1.0)})
        self._layers[name] = layer
        self._viewer.layers.append(layer)
        self._viewer.layers.selection.active = active

    def _color(self, cells: frozenset[int], count: int) -> None:
        layer = self._there(GROUPS)
        if layer is not None:
            table = {n + 1: (*cluster_color(n), _CELL if n in cells else _GROUND) for n in range(count)}
            _paint(layer, table)

    def _there(self, name: str) -> Labels | None:
        layer = self._layers.get(name)
        return layer if layer is not None and layer in self._viewer.layers else None

    def _present(self) -> list[Labels]:
        return [layer for layer in map(self._there, (GROUPS, COVERED)) if layer is not None]

    def _drop(self, name: str) -> None:
        layer = self._there(name)
        self._layers.pop(name, None)
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _hide_cells(self) -> None:
        cells = self._link.labels.layer
        if cells is not None and cells.visible:
            self._hidden, cells.visible = cells, False

    def _show_cells(self) -> None:
        hidden, self._hidden = self._hidden, None
        if hidden is not None and self._link.labels.layer is not None:
            self._link.labels.layer.visible = True

    def _on_press(self, _viewer: Any, event: Any) -> Generator[None, None, None]:
        if getattr(event, "button", 1) != 1:
            return
        start = np.asarray(event.pos, float)
        yield
        while event.type == "mouse_move":
            yield
        layer = self._there(GROUPS)
        if layer is None or np.abs(np.asarray(event.pos, float) - start).max() > _CLICK_PX:
            return
        at = to_data(layer.affine.affine_matrix, np.asarray([event.position[-2:]], float))[0]
        row, column = (round(float(value)) for value in at)
        if 0 <= row < layer.data.shape[0] and 0 <= column < layer.data.shape[1]:
            self.clicked.emit(int(layer.data[row, column]) - 1)


def _paint(layer: Labels, colors: dict[int, tuple[float, ...]]) -> None:
    from napari.utils.colormaps import DirectLabelColormap

    table: dict[int | None, Any] = {None: (0.0, 0.0, 0.0, 0.0), 0: (0.0, 0.0, 0.0, 0.0), **colors}
    layer.colormap = DirectLabelColormap(color_dict=table)


def _place(shape: tuple[int, int], own: tuple[int, ...]) -> NDArray[np.float64]:
    """From pixels of a picture of ``own`` size to those of the image of ``shape``."""
    down, across = (whole / part for whole, part in zip(shape, own, strict=True))
    return np.array([(down, 0, (down - 1) / 2), (0, across, (across - 1) / 2), (0, 0, 1)])
