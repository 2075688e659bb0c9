"""The lasso: draw round points of the map, or round cells in the image, and they are selected.

It rests until it is switched on. While it is on, dragging draws in place of moving the view.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from psygnal import Signal

from cell_curator.core.words import number_of
from cell_curator.link.colors import SELECTED
from cell_curator.link.map_dots import add_quietly

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Vectors

    from cell_curator.session import Session

LASSO = "lasso"
_LINE_PX = 2.5  # on the screen
_STEP_PX = 3.0  # a hand that moves less adds nothing
_FEWEST = 3
_NOTHING = np.zeros((1, 2, 2))

Places = Callable[[Any], tuple[NDArray[np.int64], NDArray[np.float64]]]
"""Cells and their ``(N, 2)`` world positions in a viewer."""


class Lasso:
    """One gesture in the viewers it is attached to. ``places``: what can be caught in a viewer."""

    said = Signal(str)
    """What was caught; one line."""
    switched = Signal(bool)

    def __init__(self, session: Session, places: Places) -> None:
        self._session = session
        self._places = places
        self._on = False
        self._layer: Vectors | None = None

    @property
    def on(self) -> bool:
        """Whether dragging draws."""
        return self._on

    @on.setter
    def on(self, wanted: bool) -> None:
        if wanted != self._on:
            self._on = wanted
            self.switched.emit(wanted)

    def attach(self, viewer: ViewerModel) -> None:
        """Follow the mouse in this viewer."""
        viewer.mouse_drag_callbacks.append(self._on_press)

    def detach(self, viewer: ViewerModel) -> None:
        """Leave this viewer alone."""
        if self._on_press in viewer.mouse_drag_callbacks:
            viewer.mouse_drag_callbacks.remove(self._on_press)
        if self._layer is not None and self._layer in viewer.layers:
            viewer.layers.remove(self._layer)
        self._layer = None

    def catch(self, viewer: Any, outline: NDArray[np.float64], *, held: frozenset[str] = frozenset()) -> None:
        """Select what lies inside ``outline`` ``(N, 2)``; Shift adds to what is selected, Ctrl takes away."""
        cells, positions = self._places(viewer)
        caught = cells[inside(positions, outline)].tolist()
        now = self._session.selection.ids
        if "shift" in held:
            self._session.selection.set(now.union(caught))
        elif "control" in held:
            self._session.selection.set(now.difference(caught))
        else:
            self._session.selection.set(caught)
        count = len(self._session.selection.ids)
        self.said.emit(f"{number_of(count, 'cell')} selected" if caught else "No cell inside the line")

    def _on_press(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        held = frozenset(str(getattr(m, "name", m)).lower() for m in getattr(event, "modifiers", ()))
        if not self._on or getattr(event, "button", 1) != 1 or "alt" in held:
            return  # with Alt, napari zooms
        camera = viewer.scene.camera
        self._show(viewer, np.empty((0, 2)))  # before the view is held fast: napari frees it when a layer is added
        pan, camera.mouse_pan = camera.mouse_pan, False
        path, last = [np.asarray(event.position[-2:], float)], np.asarray(event.pos, float)
        try:
            yield
            while event.type == "mouse_move":
                if np.abs(np.asarray(event.pos, float) - last).max() >= _STEP_PX:
                    last = np.asarray(event.pos, float)
                    path.append(np.asarray(event.position[-2:], float))
                    self._show(viewer, np.array(path))
                yield
            if len(path) >= _FEWEST:
                self.catch(viewer, np.array(path), held=held)
        finally:
            camera.mouse_pan = pan
            if self._layer is not None:
                self._layer.visible = False

    def _show(self, viewer: Any, path: NDArray[np.float64]) -> None:
        """Draw the path and the line that would close it; as vectors, which napari draws in 10 ms."""
        from napari.layers import Vectors

        if self._layer is None or self._layer not in viewer.layers:
            self._layer = Vectors(_NOTHING, name=LASSO, edge_color=SELECTED, vector_style="line", visible=False)
            add_quietly(viewer, self._layer)
        steps = np.roll(path, -1, axis=0) - path
        self._layer.data = np.stack([path, steps], axis=1) if len(path) else _NOTHING
        if not self._layer.visible:  # setting it anew, or the width, takes as long as the data
            self._layer.edge_width = _LINE_PX / viewer.scene.camera.zoom
            self._layer.visible = True


def inside(points: NDArray[np.floating], outline: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of ``points`` ``(N, 2)`` lie inside the closed ``outline`` ``(M, 2)``, by the even-odd rule."""
    result = np.zeros(len(points), bool)
    if len(outline) < _FEWEST or not len(points):
        return result
    low, high = outline.min(axis=0), outline.max(axis=0)
    near = np.flatnonzero(((points >= low) & (points <= high)).all(axis=1))
    result[near] = _inside(np.ascontiguousarray(points[near], np.float64), np.ascontiguousarray(outline, np.float64))
    return result


@njit(cache=True)  # type: ignore[untyped-decorator]
def _inside(points: NDArray[np.float64], outline: NDArray[np.float64]) -> NDArray[np.bool_]:
    result = np.zeros(len(points), np.bool_)
    for n in range(len(points)):
        y, x = points[n]
        within = False
        j = len(outline) - 1
        for i in range(len(outline)):
            yi, xi, yj, xj = outline[i, 0], outline[i, 1], outline[j, 0], outline[j, 1]
            if (yi > y) != (yj > y) and x < (xj - xi) * (y - yi) / (yj - yi) + xi:
                within = not within
            j = i
        result[n] = within
    return result
