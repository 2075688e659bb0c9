"""The map: every cell of every image as a point beside the image, or in a viewer of its own.

What is drawn is a projection of the session's embedding and cell table: nothing is read back from
it but which point lies under the mouse. While a network learns, `preview` shows the map as it forms.
How points are drawn is the business of `map_dots` and `map_picture`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.cell_types import CellTypes
from cell_curator.link.colors import TYPE, color_cells
from cell_curator.link.geometry import Box, place_map
from cell_curator.link.map_dots import MAP, MOST, Dots
from cell_curator.link.map_moves import Moves
from cell_curator.link.map_picture import Picture

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel

    from cell_curator.io.records import StoredEmbedding
    from cell_curator.link.labels import Later
    from cell_curator.session import Session

__all__ = ["MAP", "PointsBinder"]

OWN_BOX: Box = (0.0, -1000.0, 1000.0, 0.0)
"""What the map stands beside in a viewer of its own."""

_DOTS = 90  # points across the height of a small map
_MANY = 3000  # cells; of more, each point is smaller
_REACH_PX = 7.0  # screen pixels within which a click still finds a point
_NEEDED = {TYPE: ("cell_type", "type_probability")}  # columns of a colouring that is no column
_SAME = 0.5  # a map on which fewer cells moved than this part is the same map


class PointsBinder:
    """Keeps the map of one viewer on the embedding of one session. ``later``: see `link.labels`."""

    def __init__(self, session: Session, viewer: ViewerModel, *, later: Later) -> None:
        self._session = session
        self._home = self.viewer = viewer
        self._later = later
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._sorted: NDArray[np.intp] = np.empty(0, np.intp)  # rows in the order of their cells
        self._index: pd.Index[int] | None = None
        self._at: NDArray[np.intp] = np.empty(0, np.intp)  # places of the cells in the table of `_index`
        self._drawn_from: tuple[Any, ...] = ()
        self._basis: tuple[Any, ...] = ()
        self._plain = np.empty((0, 4), np.float32)
        self._rejected = np.empty(0, bool)
        self._painted: Dots | Picture | None = None
        self._positions = np.empty((0, 2))
        self._beside: Box = (0.0, 0.0, 1.0, 1.0)
        self._preview: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self._last: StoredEmbedding | None = session.embedding
        self._drawn: Dots | Picture | None = None
        self._moves = Moves()
        self.moved: frozenset[int] = frozenset()
        """Cells that are elsewhere, or new, since the map was last brought up to date."""
        self.color_by = "cluster"

    @property
    def layer(self) -> Any:
        """The layer that is drawn: Points, or an Image of very many; None without a map."""
        return self._drawn.layer if self._drawn is not None else None

    @property
    def cell_ids(self) -> NDArray[np.int64]:
        """The cell of every point, in the order of the layer's data."""
        return self._ids

    @property
    def positions(self) -> NDArray[np.float64]:
        """World position of every point, ``(N, 2)`` in the order of `cell_ids`."""
        return self._positions

    # ------------------------------------------------------------------ what is shown, and where

    def show(self, box: Box) -> None:
        """Draw the embedding, if there is one, beside ``box``."""
        self._beside = box
        self._draw()

    def preview(self, cell_ids: NDArray[np.int64], map2d: NDArray[np.floating]) -> None:
        """Draw a map that is not finished, of some of the cells, in place of the one that is stored."""
        self._preview = np.asarray(cell_ids, np.int64), np.asarray(map2d, float)
        self._draw()

    def end_preview(self) -> None:
        """Back to what is stored."""
        if self._preview is not None:
            self._preview = None
            self._draw()

    @property
    def is_preview(self) -> bool:
        """Whether a map is shown that is not finished."""
        return self._preview is not None

    def move_to(self, viewer: ViewerModel | None) -> None:
        """Show the map in another viewer, or (None) beside the image again."""
        if self._drawn is not None:
            self._drawn.remove()
        self._drawn = None
        self._moves.remove()
        self.viewer = viewer or self._home
        self._draw()

    def follow_embedding(self) -> None:
        """Another map is stored: draw it; if it is the one before with some cells elsewhere, show where they went."""
        before, self._last = self._last, self._session.embedding
        self._preview = None
        self._draw()
        self.show_moves(before)

    def show_moves(self, before: StoredEmbedding | None) -> None:
        """Draw a line from where cells were on the map ``before`` to where they are; forget older lines."""
        now = self._session.embedding
        self._moves.remove()
        self.moved = frozenset()
        if before is None or now is None or before is now:
            return
        both, new, was = np.intersect1d(now.cell_id, before.cell_id, return_indices=True)
        elsewhere = np.any(now.map2d[new] != before.map2d[was], axis=1)
        if elsewhere.sum() >= _SAME * max(len(both), 1):
            return  # another map
        self.moved = frozenset(both[elsewhere].tolist()) | frozenset(np.setdiff1d(now.cell_id, before.cell_id).tolist())
        elsewhere &= np.isin(both, self._ids)
        if self._drawn is None or not elsewhere.any():
            return
        shown = np.asarray(now.map2d, float)[np.isin(now.cell_id, self._ids)]
        start = place_map(before.map2d[was[elsewhere]], self._box, like=shown)
        end = self._positions[self._rows_of(both[elsewhere])]
        self._moves.draw(self.viewer, start, end)

    def forget_moves(self) -> None:
        """Take the lines of moved cells away."""
        self._moves.remove()
        self.moved = frozenset()

    def remove(self) -> None:
        """Take the map out of the viewer."""
        drawn, self._drawn = self._drawn, None
        self._ids, self._positions, self._drawn_from = np.empty(0, np.int64), np.empty((0, 2)), ()
        self._painted = None
        self._moves.remove()
        if drawn is not None:
            drawn.remove()

    # ------------------------------------------------------------------ colours, and who is chosen

    def recolor(self) -> None:
        """Colour the points by `color_by` and refresh their features."""
        if self._drawn is None:
            return
        # Colours are ranked over all cells, so that hiding some never recolours the others.
        everything = self._session.cells.frame
        at = self._at if everything.index is self._index else everything.index.get_indexer(self._ids)
        unknown = self._preview is not None and self.color_by == "cluster" and not (everything["cluster"] >= 0).any()
        by, types = "condition" if unknown else self.color_by, self._session.get(CellTypes)
        basis = (by, types, at, *(everything[name].to_numpy() for name in _NEEDED.get(by, (by,))))
        again = not _same(basis, self._basis) or self._painted is not self._drawn or isinstance(self._drawn, Dots)
        if again:
            self._basis, self._plain = basis, color_cells(everything, by, types)[at].astype(np.float32)
        rejected = self._session.cells.where("verdict", "rejected")[at]
        if again or not np.array_equal(rejected, self._rejected):
            self._painted, self._rejected, colors = self._drawn, rejected, self._plain.copy()
            colors[rejected, 3] = 0.15
            features = {name: everything[name].to_numpy()[at] for name in ("cluster", "condition", "verdict")}
            self._drawn.color(colors, {"cell_id": self._ids, **features})
        self.highlight(self._session.selection.ids)

    def highlight(self, ids: frozenset[int]) -> None:
        """Draw the points of these cells larger and ringed."""
        if self._drawn is not None:
            self._drawn.choose(np.sort(self._rows_of(np.fromiter(ids, np.int64, len(ids)))))

    def _rows_of(self, cells: NDArray[np.int64]) -> NDArray[np.intp]:
        """The rows of those of these cells that are on the map."""
        if not len(self._ids):
            return np.empty(0, np.intp)
        place = np.searchsorted(self._ids, cells, sorter=self._sorted)
        rows = self._sorted[np.minimum(place, len(self._ids) - 1)]
        return rows[self._ids[rows] == cells]

    # ------------------------------------------------------------------ which point lies where

    def at(self, position: Any, viewer: Any = None) -> int | None:
        """The cell whose point lies nearest to a world position of a viewer, within a few screen pixels."""
        if viewer is not None and viewer is not self.viewer:
            return None
        layer = self.layer
        if layer is None or not layer.visible or not len(self._ids):
            return None
        away = self._positions - np.asarray(position, float)[-2:]
        distance = np.einsum("ij,ij->i", away, away)
        row = int(distance.argmin())
        reach = max(self._dot() / 2, _REACH_PX / self.viewer.scene.camera.zoom)
        return int(self._ids[row]) if distance[row] <= reach**2 else None

    def position(self, cell_id: int) -> tuple[float, float] | None:
        """World position of a cell's point."""
        rows = self._rows_of(np.array([cell_id]))
        if not len(rows) or self._drawn is None:
            return None
        y, x = self._positions[rows[0]]
        return float(y), float(x)

    # ------------------------------------------------------------------ inside

    @property
    def _box(self) -> Box:
        return self._beside if self.viewer is self._home else OWN_BOX

    def _dot(self) -> float:
        smaller = max(1.0, (len(self._ids) / _MANY) ** 0.5)
        return (self._box[2] - self._box[0]) / _DOTS / smaller

    def _draw(self) -> None:
        index = self._session.cells.frame.index
        there = self._drawn is not None and self._drawn.layer in self.viewer.layers
        made_of = (index, self._preview or self._session.embedding, self._box)
        # The very same cells and map as before: only their values may be others.
        if there and _same(made_of[:2], self._drawn_from[:2]) and made_of[2] == self._drawn_from[2]:
            self.recolor()
            return
        ids, map2d = self._wanted()
        at = index.get_indexer(ids)
        # drawn in the order of images, the last condition would lie above all others
        kept = np.random.default_rng(0).permutation(np.flatnonzero(at >= 0))
        ids = ids[kept].astype(np.int64)
        if not len(ids):
            self.remove()
            return
        same = np.array_equal(ids, self._ids)
        if not same:
            self._ids, self._sorted = ids, np.argsort(ids, kind="stable")
        self._index, self._at, self._drawn_from = index, at[kept], made_of
        self._positions = place_map(map2d[kept], self._box)
        if not there or not same:
            self._replace()
        else:
            self._drawn.move(self._positions, self._dot())
        self.recolor()

    def _wanted(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if self._preview is not None:
            return self._preview
        embedding = self._session.embedding
        if embedding is None:
            return np.empty(0, np.int64), np.empty((0, 2))
        return np.asarray(embedding.cell_id, np.int64), np.asarray(embedding.map2d, float)

    def _replace(self) -> None:
        if self._drawn is not None:
            self._drawn.remove()
        many = len(self._ids) > MOST
        make: Callable[..., Dots | Picture] = Picture if many else Dots
        more = (self._later,) if many else ()
        self._drawn = make(self.viewer, self._positions, self._dot(), *more)


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether what is drawn follows from the same things. Tables share the columns that a change leaves alone, so
    that a verdict on one of 500,000 cells is no reason to colour them all anew.
    """
    return len(one) == len(other) and all(map(_unchanged, one, other))


def _unchanged(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and np.may_share_memory(one, other)
    return one is other or (isinstance(one, str | CellTypes) and one == other)
