"""The map: every cell of every image as a point beside the image.

The layer is a projection of the session's embedding and cell table: nothing is read back from
it but which point lies under the mouse. Points are told apart by the ``cell_id`` feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.colors import from_hex
from cell_curator.link.colors import SELECTED, color_cells
from cell_curator.link.geometry import Box, place_map

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Points

    from cell_curator.session import Session

MAP = "map"
_DOTS = 90  # points across the height of the map
_REACH_PX = 7.0  # screen pixels within which a click still finds a point


class PointsBinder:
    """Keeps the Points layer of one viewer on the embedding of one session."""

    def __init__(self, session: Session, viewer: ViewerModel) -> None:
        self._session = session
        self._viewer = viewer
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._rows: dict[int, int] = {}
        self._colors = np.empty((0, 4), np.float32)
        self._box: Box = (0.0, 0.0, 1.0, 1.0)
        self.layer: Points | None = None
        self.color_by = "cluster"

    @property
    def cell_ids(self) -> NDArray[np.int64]:
        """The cell of every point, in the order of the layer's data."""
        return self._ids

    def show(self, box: Box) -> None:
        """Draw the embedding, if there is one, beside ``box``."""
        self._box = box
        embedding = self._session.embedding
        known = self._session.cells.frame.index
        if embedding is None or not len(embedding.cell_id):
            self.remove()
            return
        kept = np.isin(embedding.cell_id, known)
        ids = np.asarray(embedding.cell_id)[kept]
        if not len(ids):
            self.remove()
            return
        data = place_map(np.asarray(embedding.map2d, float)[kept], box)
        same = np.array_equal(ids, self._ids)
        self._ids = ids.astype(np.int64)
        self._rows = {int(cell): row for row, cell in enumerate(self._ids)}
        layer = self.layer
        if layer is None or layer not in self._viewer.layers or not same:
            self._replace(data)
        elif not np.array_equal(layer.data, data):
            layer.data = data
        self.recolor()

    def recolor(self) -> None:
        """Colour the points by `color_by` and refresh their features."""
        if self.layer is None:
            return
        frame = self._session.cells.frame.loc[self._ids]
        self.layer.features = {
            "cell_id": self._ids,
            "cluster": frame["cluster"].to_numpy(),
            "condition": frame["condition"].to_numpy(),
            "verdict": frame["verdict"].to_numpy(),
        }
        # Colours are ranked over all cells, so that hiding some never recolours the others.
        everything = self._session.cells.frame
        colors = color_cells(everything, self.color_by)
        self._colors = colors[everything.index.get_indexer(self._ids)].astype(np.float32)
        self._colors[(frame["verdict"] == "rejected").to_numpy(), 3] = 0.15
        self.layer.face_color = self._colors
        self.highlight(self._session.selection.ids)

    def highlight(self, ids: frozenset[int]) -> None:
        """Draw the points of these cells larger and ringed."""
        layer = self.layer
        if layer is None:
            return
        rows = sorted(self._rows[cell] for cell in ids if cell in self._rows)
        dot = self._dot()
        size = np.full(len(self._ids), dot)
        border = self._colors.copy()
        size[rows] = 2.4 * dot
        border[rows, :3] = from_hex(SELECTED)
        border[rows, 3] = 1.0
        layer.selected_data = set()  # setting colours while points are selected would overwrite them
        layer.size = size
        layer.border_color = border
        layer.selected_data = set(rows)

    def at(self, position: tuple[float, float]) -> int | None:
        """The cell whose point lies nearest to a world position, within a few screen pixels."""
        layer = self.layer
        if layer is None or not layer.visible or not len(self._ids):
            return None
        distance = np.linalg.norm(np.asarray(layer.data) - np.asarray(position)[-2:], axis=1)
        row = int(distance.argmin())
        reach = max(self._dot() / 2, _REACH_PX / self._viewer.scene.camera.zoom)
        return int(self._ids[row]) if distance[row] <= reach else None

    def position(self, cell_id: int) -> tuple[float, float] | None:
        """World position of a cell's point."""
        row = self._rows.get(cell_id)
        if row is None or self.layer is None:
            return None
        y, x = self.layer.data[row]
        return float(y), float(x)

    def remove(self) -> None:
        """Take the map out of the viewer."""
        layer, self.layer = self.layer, None
        self._ids, self._rows = np.empty(0, np.int64), {}
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def _dot(self) -> float:
        return (self._box[2] - self._box[0]) / _DOTS

    def _replace(self, data: NDArray[np.float64]) -> None:
        from napari.layers import Points

        if self.layer is not None and self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)
        layer = Points(data, name=MAP, size=self._dot(), border_width=0.12, opacity=1.0)
        layer.editable = False  # a stray Delete must not take points out of the map
        self.layer = layer
        active = self._viewer.layers.selection.active
        self._viewer.layers.append(layer)
        if active is not None:  # a new layer becomes the active one; the user's brush must not be taken away
            self._viewer.layers.selection.active = active
