"""`ToolBox`: correcting cells by drawing on them, one gesture each.

press → move (the drawing is shown) → release → `editing.edit`, one undoable step on the session → the link
shows the new labels → `said` tells what was done, or why it was not.

The docks set `ToolBox.mode` and call `ToolBox.apply`; this module knows no buttons and no Qt.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from cell_curator.core.edits import counted, labels_in_box, labels_in_polygon
from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of
from cell_curator.editing import edit
from cell_curator.link.colors import SELECTED
from cell_curator.link.geometry import to_data

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Shapes

    from cell_curator.link.viewer_link import ViewerLink
    from cell_curator.session import Session

Points = NDArray[np.float64]

DRAWING = "drawing"
PICK = "pick"
_CLICK_PX = 4.0  # on the screen; a hand moves this much in a click
_LINE_PX = 3.0  # width of the drawing on the screen
_SEED_PX = 9.0  # half the width of the cross at a seed
_SEED = "#ffd400"  # not the colour of the ring, which lies round the same cell
_MEANT = 0.25  # share of an outline that a cell must fill for the outline to be its new one


@dataclass(frozen=True)
class Mode:
    """One way the mouse works on the cells. ``key`` is a proposal for the dock."""

    name: str
    title: str
    key: str
    tooltip: str


MODES = (
    Mode(PICK, "Pick", "V", "Click a cell to select it, drag to move the view"),
    Mode("split", "Split", "S", "Draw a line across a cell: it becomes two"),
    Mode("seeds", "Split by seeds", "W", "Drag from one part of a cell to the other, or click each and press Enter"),
    Mode("merge", "Merge", "J", "Drag across cells: they become one"),
    Mode("delete", "Delete", "K", "Click a cell, or drag across several: they are deleted"),
    Mode("delete inside", "Delete inside", "Shift+K", "Draw round cells: all inside are deleted"),
    Mode("redraw", "Redraw", "O", "Draw round a cell: this is its new outline; round nothing: a new cell"),
    Mode("select box", "Select", "B", "Drag a rectangle: the cells in it are selected; Shift adds"),
    Mode("select inside", "Select inside", "Shift+B", "Draw round cells: all inside are selected; Shift adds"),
)  # fmt: skip

ON_CELLS = ("merge", "delete", "fill holes", "smooth", "grow", "shrink", "separate pieces")
"""Tools that `ToolBox.apply` uses on the selected cells."""

VERDICTS: Mapping[str, str] = MappingProxyType(
    {"accept": "accepted", "reject": "rejected", "lock": "locked", "unlock": "edited", "reset": "proposed"}
)
"""Decisions that `ToolBox.apply` takes on the selected cells."""

_CLOSED = ("delete inside", "redraw", "select inside")


class ToolBox:
    """The mouse tools of one session in one viewer, until `unbind`.

    In all modes but ``pick`` the mouse draws, and the link's own clicks rest.
    """

    said = Signal(str)
    """What a gesture did, or why it did nothing; one line."""
    mode_changed = Signal(str)

    def __init__(self, session: Session, viewer: ViewerModel, link: ViewerLink) -> None:
        self.session = session
        self.viewer = viewer
        self.link = link
        self.options: dict[str, dict[str, Any]] = {"merge": {"bridge_px": 8.0}, "seeds": {"by": "shape"}}
        """Options by mode or tool, e.g. ``options["grow"] = {"px": 2}``."""
        self._mode = PICK
        self._drawing: Shapes | None = None
        self._seeds: list[Points] = []
        viewer.mouse_drag_callbacks.append(self._on_press)
        link.shown.connect(self._on_shown)

    def unbind(self) -> None:
        """Let go of the viewer."""
        self.mode = PICK
        self.link.shown.disconnect(self._on_shown, missing_ok=True)
        if self._on_press in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._on_press)
        if self._drawing is not None and self._drawing in self.viewer.layers:
            self.viewer.layers.remove(self._drawing)
        self._drawing = None

    # ------------------------------------------------------------------ modes

    @property
    def modes(self) -> tuple[Mode, ...]:
        """All modes, in the order of a tool bar."""
        return MODES

    @property
    def mode(self) -> str:
        """Name of the mode the mouse is in."""
        return self._mode

    @mode.setter
    def mode(self, name: str) -> None:
        if name not in {mode.name for mode in MODES}:
            raise ValueError(f"there is no mode {name!r}")
        self.cancel()
        if name == self._mode:
            return
        self._mode = name
        self._let_link_click(name == PICK)
        layer = self.link.labels.layer
        if name != PICK and layer is not None:
            layer.mode = "pan_zoom"  # else the brush would paint under the drawing
        self.mode_changed.emit(name)

    def _let_link_click(self, wanted: bool) -> None:
        callbacks, click = self.viewer.mouse_drag_callbacks, self.link._on_press
        if wanted and click not in callbacks:
            callbacks.append(click)
        elif not wanted and click in callbacks:
            callbacks.remove(click)

    def _on_shown(self, _image_id: int) -> None:
        self.cancel()

    # ------------------------------------------------------------------ acting

    def apply(self, tool: str, **options: Any) -> bool:
        """Use one of `ON_CELLS` or `VERDICTS` on the selected cells of the image shown.

        Returns whether something happened; `said` tells what, or why not.
        """
        if tool in VERDICTS:
            return self._decide(tool)
        return self._edit(tool, labels=self._selected_labels(), **{**self.options.get(tool, {}), **options})

    def finish(self) -> bool:
        """Split by the seeds set so far (Enter)."""
        seeds, self._seeds = self._seeds, []
        self._hide()
        if not seeds:
            return False
        return self._edit("split by seeds", points=np.stack(seeds), **self.options.get("seeds", {}))

    def cancel(self) -> None:
        """Forget what is drawn (Esc)."""
        self._seeds = []
        self._hide()

    def undo(self) -> bool:
        """Take the last step back; painting that is not handed over yet is handed over first."""
        return self._retrace("undo", self.session.history.undo_text)

    def redo(self) -> bool:
        """Do the last undone step again."""
        return self._retrace("redo", self.session.history.redo_text)

    def _retrace(self, way: str, title: str) -> bool:
        self.link.flush()
        moved: bool = getattr(self.session, way)()
        note = f"; {self.session.history.note}" if self.session.history.note else ""
        self.said.emit(f"{way}: {title}{note}" if moved else f"there is nothing to {way}")
        return moved

    def _decide(self, tool: str) -> bool:
        self.link.flush()
        cells = [i for i in self.session.selection.ids if i in self.session.cells]
        if not cells:
            self.said.emit("no cell is selected; click one first")
            return False
        self.session.set_verdict(cells, VERDICTS[tool])
        self.said.emit(f"{tool}: {number_of(len(cells), 'cell')}")
        return True

    def _edit(self, tool: str, **what: Any) -> bool:
        image_id = self.link.labels.image_id
        if image_id is None:
            self.said.emit("there is no image here; add or choose one first")
            return False
        try:
            self.link.flush()
            done = edit(self.session, image_id, tool, **what)
        except UserError as error:
            self.said.emit(str(error))
            return False
        if tool.startswith(("split", "merge", "redraw")):
            there = (self.session.cell_at(image_id, label) for label in done.labels)
            self.session.selection.set({cell for cell in (*done.cells, *there) if cell in self.session.cells})
        self.said.emit(done.text)
        return True

    def _selected_labels(self) -> list[int]:
        image_id = self.link.labels.image_id
        if image_id is None:
            return []
        rows = self.session.cells.of_image(image_id)
        return [int(label) for label in rows.loc[rows.index.isin(self.session.selection.ids), "label"]]

    # ------------------------------------------------------------------ drawing

    def _on_press(self, _viewer: Any, event: Any) -> Generator[None, None, None]:
        layer = self.link.labels.layer
        held = _held(event)
        if self._mode == PICK or layer is None or getattr(event, "button", 1) != 1 or "alt" in held:
            return  # with Alt, napari zooms
        if str(layer.mode) not in ("pan_zoom", "pick"):
            self.mode = PICK  # the user took napari's brush
            return
        mode, camera = self._mode, self.viewer.scene.camera
        self._layer()  # before the view is held fast: napari frees it when a layer is added
        pan, camera.mouse_pan = camera.mouse_pan, False
        path, start, far = [_world(event)], np.asarray(event.pos, float), 0.0
        try:
            yield
            while event.type == "mouse_move":
                path.append(_world(event))
                far = max(far, float(np.abs(np.asarray(event.pos, float) - start).max()))
                self._show(self._outline(mode, path))
                yield
        finally:
            camera.mouse_pan = pan
        clicked = far <= _CLICK_PX  # a loop ends where it began, and is no click
        self._hide()
        if mode == self._mode:
            self._drawn(mode, np.array(path[:1] if clicked else path), "shift" in held)

    def _drawn(self, mode: str, path: Points, shift: bool) -> None:
        """Do what the mode does with a drawing in world coordinates; one point is a click."""
        points = to_data(self.link.image.affine, path)
        if mode == "seeds":
            self._seed(points)
        elif mode.startswith("select"):
            self._select(mode, points, shift)
        elif mode == "redraw":
            self._edit(mode, points=points, labels=self._redrawn(points))
        else:
            self._edit(mode, points=points, **self.options.get(mode, {}))

    def _seed(self, points: Points) -> None:
        if len(points) > 1:
            self._seeds += [points[0], points[-1]]
            self.finish()
            return
        self._seeds.append(points[0])
        self._show(*(self._cross(seed) for seed in self._seeds), color=_SEED)
        self.said.emit(f"{number_of(len(self._seeds), 'seed')}; Enter splits, Esc forgets")

    def _select(self, mode: str, points: Points, shift: bool) -> None:
        self.link.flush()
        image_id = self.link.labels.image_id
        if image_id is None:
            return
        now = self.session.label_view(image_id)
        # On a turned image the rectangle of the screen is no rectangle of the data.
        upright = np.allclose(self.link.image.affine[:2, :2], np.eye(2))
        if mode == "select box" and upright:
            labels = labels_in_box(now, points[0], points[-1])
        elif mode == "select box":
            world = points @ self.link.image.affine[:2, :2].T
            corners = _rectangle(world[0], world[-1]) @ np.linalg.inv(self.link.image.affine[:2, :2]).T
            labels = labels_in_polygon(now, corners)
        else:
            labels = labels_in_polygon(now, points)
        rows = self.session.cells.of_image(image_id)
        found = set(rows.index[rows["label"].isin(labels)])
        self.session.selection.set(found | (self.session.selection.ids if shift else frozenset()))
        self.said.emit(f"{number_of(len(self.session.selection.ids), 'cell')} selected")

    def _redrawn(self, outline: Points) -> list[int]:
        """The cell that an outline is meant for: the one selected under it, or the one that fills most of it."""
        from skimage.draw import polygon

        image_id = self.link.labels.image_id
        if image_id is None or len(outline) < 3:
            return []
        now = self.session.label_view(image_id)
        inside = now[polygon(outline[:, 0], outline[:, 1], now.shape)]
        counts = counted(inside)
        selected = self._selected_labels()
        if len(selected) == 1 and selected[0] in counts:
            return selected
        best = max(counts, key=counts.__getitem__, default=0)
        return [best] if best and counts[best] >= _MEANT * len(inside) else []

    def _outline(self, mode: str, path: list[Points]) -> Points:
        """What is shown of a path: itself, closed, or as a rectangle."""
        if mode == "select box":
            return _rectangle(path[0], path[-1])
        points = np.array(path if mode != "seeds" else [path[0], path[-1]])
        return np.vstack([points, points[:1]]) if mode in _CLOSED else points

    def _cross(self, seed: Points) -> Points:
        """A small cross at a seed, in world coordinates, drawn in one go."""
        (y, x), size = _to_world(self.link.image.affine, seed), _SEED_PX / self.viewer.scene.camera.zoom
        return np.array([(y - size, x), (y + size, x), (y, x), (y, x - size), (y, x + size)])

    def _show(self, *paths: Points, color: str = SELECTED) -> None:
        layer = self._layer()
        layer.data = []
        layer.add_paths(list(paths), edge_color=color, edge_width=_LINE_PX / self.viewer.scene.camera.zoom)
        layer.visible = True

    def _hide(self) -> None:
        if self._drawing is not None and self._drawing.visible:
            self._drawing.visible = False  # what it held is replaced by the next drawing

    def _layer(self) -> Shapes:
        if self._drawing is None or self._drawing not in self.viewer.layers:
            from napari.layers import Shapes

            self._drawing = Shapes(name=DRAWING, ndim=2, visible=False)
            self._drawing.editable = False
            active = self.viewer.layers.selection.active
            self.viewer.layers.append(self._drawing)
            self.viewer.layers.selection.active = active
        return self._drawing


def _held(event: Any) -> set[str]:
    """Names of the modifier keys that are down, in small letters."""
    return {str(getattr(modifier, "name", modifier)).lower() for modifier in getattr(event, "modifiers", ())}


def _world(event: Any) -> Points:
    return np.asarray(event.position[-2:], float)


def _to_world(affine: NDArray[np.float64], point: Points) -> Points:
    return np.asarray(affine[:2, :2] @ point + affine[:2, 2])


def _rectangle(corner: Points, opposite: Points) -> Points:
    (top, left), (bottom, right) = corner, opposite
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left), (top, left)])
