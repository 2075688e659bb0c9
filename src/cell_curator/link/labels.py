"""The cells of the image shown, as a Labels layer that can be painted.

What the user painted is found by comparing pixels with the array last seen, never by reading
paint events: undo and redo emit none. Each stroke goes to `Session.set_labels` after a pause.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.cell_types import CellTypes
from cell_curator.link.colors import RGBA, TYPE, color_cells
from cell_curator.link.image import pyramid

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

    from cell_curator.core.lazy import Lazy
    from cell_curator.session import Session

CELLS = "cells"
EACH = "cell"
"""Colouring in which every cell has a colour of its own."""

_OF_EACH = ("cluster", "verdict", TYPE)
"""Colourings that depend on nothing but the cell."""

Later = Callable[[Callable[[], None]], None]
"""Calls a function once after a pause; another call within the pause starts it anew."""


class LabelsBinder:
    """Keeps one Labels layer and one session's label image the same."""

    def __init__(self, session: Session, viewer: ViewerModel, *, later: Later) -> None:
        self._session = session
        self._viewer = viewer
        self._later = later
        self._seen: NDArray[np.int32] | None = None
        self._image_id: int | None = None
        self._stroke = False
        self._writing = False
        self._given: Any = None  # colormap, as the layer has it, and what it was made of
        self._shown: tuple[bytes, bytes] | None = None
        self.layer: Labels | None = None
        self.color_by = EACH

    @property
    def image_id(self) -> int | None:
        """The image whose cells are shown."""
        return self._image_id

    def show(self, image_id: int, labels: Any, affine: NDArray[np.float64], index: int) -> None:
        """Show another image's cells in a new layer at ``index`` of the layer list.

        A new layer, since assigning ``.data`` would leave the other image's undo history in place. A pyramid, of
        an image larger than memory, can be looked at and not painted on.
        """
        from napari.layers import Labels

        kept: dict[str, Any] = {}
        if self.layer is not None:
            names = ("opacity", "contour", "visible", "brush_size", "mode", "preserve_labels")
            kept = {name: getattr(self.layer, name) for name in names}
            self.remove()
        self._image_id = image_id
        large = isinstance(labels, list)
        self._seen = None if large else np.array(labels, np.int32)
        shown = labels if self._seen is None else self._seen.copy()
        layer = Labels(shown, name=CELLS, opacity=0.5, affine=affine, multiscale=large)
        self.layer = layer
        self._viewer.layers.insert(index, layer)
        for name, value in kept.items():
            setattr(layer, name, value)
        layer.editable = not (self._session.project.read_only or large)
        layer.events.paint.connect(self._touched)
        layer.events.set_data.connect(self._touched)
        layer.events.selected_label.connect(self._label_chosen)
        layer.mouse_drag_callbacks.append(self._follow_stroke)
        self.recolor()

    def remove(self) -> None:
        """Save what is painted and take the layer out of the viewer."""
        self.commit()
        layer, self.layer = self.layer, None
        self._image_id = None
        if layer is None:
            return
        layer.events.paint.disconnect(self._touched)
        layer.events.set_data.disconnect(self._touched)
        layer.events.selected_label.disconnect(self._label_chosen)
        layer.mouse_drag_callbacks.remove(self._follow_stroke)
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def commit(self) -> None:
        """Hand what was painted since the last time to the session."""
        if self.layer is None or self._seen is None or self._image_id is None:
            return
        data = np.asarray(self.layer.data)
        if np.array_equal(data, self._seen):
            return
        self._seen = data.astype(np.int32, copy=True)
        self._session.set_labels(self._image_id, self._seen.copy(), action="paint")
        self.refresh()

    def refresh(self) -> None:
        """Take over what the session holds now; napari's own undo does not record it."""
        if self.layer is None or self._image_id is None:
            return
        if self.layer.multiscale:
            view = cast("Lazy", self._session.label_view(self._image_id))
            index = self._viewer.layers.index(self.layer)
            return self.show(self._image_id, pyramid(view), self.layer.affine.affine_matrix, index)
        labels = self._session.labels(self._image_id)
        if not np.array_equal(labels, self.layer.data):
            self._writing = True
            try:
                with self.layer.block_history():
                    self.layer.data[...] = labels
                    self.layer.refresh()
            finally:
                self._writing = False
        self._seen = np.array(labels, np.int32)
        self.recolor()

    def recolor(self) -> None:
        """Colour every cell by `color_by`: each its own, by verdict, by cluster or by a measurement."""
        if self.layer is None or self._image_id is None:
            return
        from napari.utils.colormaps import DirectLabelColormap, label_colormap

        if self.color_by != EACH:
            labels, colors = self._colors(self._image_id)
            shown = labels.tobytes(), colors.tobytes()
            if self.layer.colormap is self._given and shown == self._shown:  # napari takes 40 ms to find out for itself
                return
            table: dict[int | None, Any] = {None: (1.0, 1.0, 1.0, 1.0), 0: (0.0, 0.0, 0.0, 0.0)}
            table.update(zip(labels.tolist(), colors, strict=True))
            self._set_colormap(DirectLabelColormap(color_dict=table))
            self._given, self._shown = self.layer.colormap, shown
        elif isinstance(self.layer.colormap, DirectLabelColormap):
            self._set_colormap(label_colormap())

    def _colors(self, image_id: int) -> tuple[NDArray[np.int64], RGBA]:
        """Labels of the cells of an image, and the colour of each ``(N, 4)``."""
        here = self._session.cells.of_image(image_id)
        # What is ranked over all cells needs them all.
        frame = here if self.color_by in _OF_EACH else self._session.cells.frame
        types = self._session.get(CellTypes)
        colors = color_cells(frame, self.color_by, types)[frame.index.get_indexer(here.index)]
        return here["label"].to_numpy(), colors

    def _set_colormap(self, colormap: Any) -> None:
        # napari announces the selected label with every new colormap; nobody chose it.
        self._writing = True
        try:
            self.layer.colormap = colormap  # type: ignore[union-attr]
        finally:
            self._writing = False

    def select(self, label: int | None) -> None:
        """Make ``label`` the one that is painted and shown as chosen."""
        if self.layer is None or label is None or self.layer.selected_label == label:
            return
        self._writing = True
        try:
            self.layer.selected_label = label
        finally:
            self._writing = False

    def _touched(self, _event: Any = None) -> None:
        # Fires for refreshes too; `commit` finds out whether a pixel changed (2 ms for 2048²).
        if not self._writing and not self._stroke:
            self._later(self.commit)

    def _follow_stroke(self, _layer: Any, event: Any) -> Generator[None, None, None]:
        # A long stroke is one edit: nothing is handed over while the button is down.
        self._stroke = True
        try:
            yield
            while event.type == "mouse_move":
                yield
        finally:
            self._stroke = False
            self._touched()

    def _label_chosen(self, _event: Any = None) -> None:
        if self._writing or self.layer is None or self._image_id is None:
            return
        cell_id = self._session.cell_at(self._image_id, int(self.layer.selected_label))
        if cell_id is not None:
            self._session.selection.set({cell_id})
