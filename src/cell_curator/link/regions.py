"""The marked parts of the image shown, as a Shapes layer: drawing there marks, deleting there unmarks.

What the user drew is found by comparing the shapes with the session's regions, never by reading single events.
A region of the whole image is a frame round it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator import marking
from cell_curator.core.colors import VERDICT_COLORS, to_hex
from cell_curator.core.jobs import UserError
from cell_curator.core.regions import HOLDOUT, KINDS, REVIEWED, Region
from cell_curator.link.labels import CELLS

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Shapes

    from cell_curator.link.labels import Later
    from cell_curator.session import Session

REGIONS = "reviewed"
REGION_COLORS = {REVIEWED: to_hex(VERDICT_COLORS["accepted"]), HOLDOUT: to_hex(VERDICT_COLORS["locked"])}
"""As the verdicts of cells: accepted, locked."""
WORDS = {REVIEWED: "reviewed", HOLDOUT: "locked away"}
"""What stands beside a region in the image, so that nobody has to tell colours apart."""

_FACE = {REVIEWED: "00", HOLDOUT: "30"}  # opacity: a part that is locked away lies under a veil
_NEW = 0  # no region has this id
_LEAST_PX = 4.0
_EDGE_PX = 2.5  # width of a frame on the screen, whatever the zoom
_ROUND = 48  # corners that stand for an ellipse


class RegionsBinder:
    """Keeps one Shapes layer and the session's regions of the image shown the same."""

    def __init__(self, session: Session, viewer: ViewerModel, *, later: Later) -> None:
        self._session = session
        self._viewer = viewer
        self._later = later
        self._image_id: int | None = None
        self._shape = (0, 0)
        self._affine: NDArray[np.float64] = np.eye(3)
        self._writing = False
        self._kind = REVIEWED
        self.layer: Shapes | None = None

    @property
    def drawing(self) -> bool:
        """Whether the mouse draws regions now."""
        layer = self._there()
        return layer is not None and self._viewer.layers.selection.active is layer and str(layer.mode) != "pan_zoom"

    def show(self, image_id: int, shape: tuple[int, int], affine: NDArray[np.float64]) -> None:
        """Show another image's regions; there is a layer only where there are any."""
        self._commit_or_drop()
        self._image_id, self._shape, self._affine = image_id, shape, affine
        self.refresh()

    def turn(self, affine: NDArray[np.float64]) -> None:
        """Stand on the turned image."""
        self._affine = affine
        if self.layer is not None:
            self.layer.affine = affine

    def remove(self) -> None:
        """Hand over what is drawn and take the layer out of the viewer."""
        self._commit_or_drop()
        self._image_id = None
        self._drop()

    def draw(self, kind: str) -> None:
        """Put a rectangle into the user's hand: what is drawn next is of this kind."""
        if self._image_id is None:
            return
        if kind not in KINDS:
            raise ValueError(f"a region is one of {', '.join(KINDS)}, not {kind!r}")
        self.commit()
        layer = self._there() or self._add()
        layer.visible = True
        self._viewer.layers.selection.active = layer
        self._set_kind(kind)
        layer.mode = "add_rectangle"

    def put_down(self) -> None:
        """The mouse draws no more regions; the cells are the active layer again."""
        layer = self._there()
        if layer is None:
            return
        layer.mode = "pan_zoom"
        layer.selected_data = set()
        if self._viewer.layers.selection.active is layer:
            cells = [layer for layer in self._viewer.layers if layer.name == CELLS]
            self._viewer.layers.selection.active = cells[0] if cells else None

    def commit(self) -> None:
        """Hand what was drawn, moved or deleted since the last time to the session.

        Raises
        ------
        UserError
            If a region cannot be taken; the layer then shows what the session holds.
        """
        layer, image_id = self._there(), self._image_id
        if layer is None or image_id is None or layer._is_creating:
            return
        known = {region.region_id: region for region in self._session.regions(image_id)}
        drawn = self._drawn(layer)
        kept = {region_id for region_id, _, _ in drawn}
        gone = [region_id for region_id in known if region_id not in kept]
        moved = [item for item in drawn if item[0] in known and not self._same(known[item[0]], item[2])]
        new = [item for item in drawn if item[0] not in known]
        if not (gone or moved or new) and len(drawn) == layer.nshapes:
            return
        self._writing = True  # the session's news of this are no reason to draw anew
        try:
            for region_id in gone:
                marking.unmark_region(self._session, region_id)
            for region_id, _, corners in moved:
                marking.reshape(self._session, region_id, corners)
            for _, kind, corners in new:
                if np.ptp(corners, axis=0).min() >= _LEAST_PX:  # else a click
                    marking.mark(self._session, image_id, kind, corners)
        finally:
            self._writing = False
            self.refresh()

    def _commit_or_drop(self) -> None:
        with suppress(UserError):  # the image goes, and with it what could not be taken
            self.commit()

    def refresh(self, image_ids: frozenset[int] | None = None) -> None:
        """Draw what the session holds now, if it is about the image shown."""
        if self._writing or self._image_id is None or (image_ids is not None and self._image_id not in image_ids):
            return
        layer = self._there()
        if layer is not None and layer._is_creating:
            return  # `commit` comes when the drawing ends
        regions = self._session.regions(self._image_id)
        if layer is None and not regions:
            return
        layer = layer or self._add()
        self._writing = True
        try:
            self._fill(layer, regions)
        finally:
            self._writing = False

    def _fill(self, layer: Shapes, regions: tuple[Region, ...]) -> None:
        kinds = [region.kind for region in regions]
        layer.affine = self._affine
        layer.selected_data = set()
        layer.data = []
        corners = [self._corners(region) for region in regions]
        if regions:
            layer.add(
                corners,
                shape_type=["rectangle" if _is_rectangle(points) else "polygon" for points in corners],
                edge_width=self._edge,
                edge_color=[REGION_COLORS[kind] for kind in kinds],
                face_color=[
                    REGION_COLORS[region.kind] + (_FACE[region.kind] if region.corners else "00") for region in regions
                ],
            )
        words = _words(kinds, [tuple(points.min(axis=0)) for points in corners])
        layer.features = _features([region.region_id for region in regions], kinds, words)
        layer.selected_data = set()
        self._set_kind(self._kind)

    def _drawn(self, layer: Shapes) -> list[tuple[int, str, NDArray[np.float64]]]:
        """Region id, kind and corners of each shape with an area; copies of a region are new ones."""
        features, seen, drawn = layer.features, set(), []
        for index, (points, form) in enumerate(zip(layer.data, layer.shape_type, strict=True)):
            if form in ("line", "path") or len(points) < 3:
                continue
            known = index < len(features)
            region_id = int(features["region"].iloc[index]) if known else _NEW
            kind = str(features["kind"].iloc[index]) if known else self._kind
            if region_id in seen:
                region_id = _NEW
            seen.add(region_id)
            corners = _round(np.asarray(points, float)) if form == "ellipse" else np.asarray(points, float)
            drawn.append((region_id, kind if kind in KINDS else self._kind, corners[:, -2:]))
        return drawn

    def _same(self, region: Region, corners: NDArray[np.float64]) -> bool:
        mine = self._corners(region)
        return mine.shape == corners.shape and bool(np.allclose(mine, corners, atol=0.01))

    def _corners(self, region: Region) -> NDArray[np.float64]:
        if region.corners:
            return np.asarray(region.corners, float)
        bottom, right = np.array(self._shape) - 0.5  # pixel i spans i − ½ to i + ½
        return np.array([(-0.5, -0.5), (-0.5, right), (bottom, right), (bottom, -0.5)])

    @property
    def _edge(self) -> float:
        return float(_EDGE_PX / self._viewer.scene.camera.zoom)

    def _set_kind(self, kind: str) -> None:
        """What is drawn next is of this kind, and looks like it."""
        self._kind = kind
        layer = self._there()
        if layer is None:
            return
        layer.selected_data = set()  # else they would take the colour, too
        layer.current_edge_width = self._edge
        layer.current_edge_color = REGION_COLORS[kind]
        layer.current_face_color = REGION_COLORS[kind] + _FACE[kind]
        layer.feature_defaults = _features([_NEW], [kind])

    def _there(self) -> Shapes | None:
        """The layer; the user may have deleted it, which unmarks nothing."""
        if self.layer is not None and self.layer not in self._viewer.layers:
            self._let_go()
        return self.layer

    def _add(self) -> Shapes:
        from napari.layers import Shapes

        layer = Shapes(
            ndim=2,
            name=REGIONS,
            affine=self._affine,
            features=_features([], []),
            text={"string": "{word}", "anchor": "upper_left", "size": 10, "color": "white"},
        )
        active = self._viewer.layers.selection.active
        self._viewer.layers.append(layer)
        self._viewer.layers.selection.active = active  # the user's brush must not be taken away
        layer.events.data.connect(self._touched)
        self._viewer.scene.camera.events.zoom.connect(self._fit_edges)
        self.layer = layer
        self._set_kind(self._kind)
        return layer

    def _drop(self) -> None:
        layer = self._there()
        self._let_go()
        if layer is not None:
            self._viewer.layers.remove(layer)

    def _let_go(self) -> None:
        layer, self.layer = self.layer, None
        if layer is not None:
            layer.events.data.disconnect(self._touched)
            self._viewer.scene.camera.events.zoom.disconnect(self._fit_edges)

    def _fit_edges(self, _event: Any = None) -> None:
        layer = self._there()
        if layer is not None and not layer._is_creating:
            layer.edge_width = self._edge
            layer.current_edge_width = self._edge

    def _touched(self, event: Any) -> None:
        # Later, since napari is still in the middle of its drawing when it says so.
        if not self._writing and str(getattr(event.action, "value", event.action)) in ("added", "changed", "removed"):
            self._later(self.commit)


def _words(kinds: list[str], places: list[tuple[float, ...]]) -> list[str]:
    """What stands at each region; where several begin at one corner, the last one speaks for all."""
    words: list[str] = []
    for kind, place in zip(kinds, places, strict=True):
        earlier = [index for index in range(len(words)) if places[index] == place]
        said = [words[index] for index in earlier if words[index]]
        words.append(", ".join([*said, WORDS[kind]]) if WORDS[kind] not in said else ", ".join(said))
        for index in earlier:
            words[index] = ""
    return words


def _features(ids: list[int], kinds: list[str], words: list[str] | None = None) -> pd.DataFrame:
    """What belongs to each shape: its region, kind, and the word that stands beside it."""
    return pd.DataFrame(
        {
            "region": np.array(ids, np.int64),
            "kind": np.array(kinds, object),
            "word": np.array([WORDS[kind] for kind in kinds] if words is None else words, object),
        }
    )


def _is_rectangle(corners: NDArray[np.float64]) -> bool:
    if len(corners) != 4:
        return False
    first, second, third, fourth = corners
    along, across = second - first, fourth - first
    square = abs(float(along @ across)) <= 1e-6 * max(float(np.linalg.norm(along) * np.linalg.norm(across)), 1e-9)
    return square and bool(np.allclose(first + third, second + fourth))


def _round(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ellipse in a box as a polygon."""
    middle = box.mean(axis=0)
    along, across = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    angles = np.linspace(0, 2 * np.pi, _ROUND, endpoint=False)[:, None]
    ellipse: NDArray[np.float64] = middle + np.cos(angles) * along + np.sin(angles) * across
    return ellipse
