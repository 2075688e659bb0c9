"""`ViewerLink`: one session and one viewer, and the ways between them.

A round trip: a click on a point → `go_to` → the session's current image (the viewer loads it,
if it must) → the camera centres on the cell → the selection changes → its label is chosen, a
ring is drawn round it, and its point is highlighted. A click on a cell ends the same way, but
the camera stays where it is.

Loading happens where `background` puts it; layers are only touched in the main thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from cell_curator.core.jobs import UserError
from cell_curator.link.geometry import Region, to_data, to_world, visible_region
from cell_curator.link.image import ImageBinder, Loaded, load
from cell_curator.link.labels import LabelsBinder, Later
from cell_curator.link.map_lasso import Lasso
from cell_curator.link.points import PointsBinder
from cell_curator.link.regions import RegionsBinder
from cell_curator.link.ring import Ring

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel
    from numpy.typing import NDArray

    from cell_curator.session import Session

Background = Callable[[Callable[[], Any], Callable[[Any], None]], None]
"""Computes the first argument somewhere and hands its result to the second in the main thread."""

_CLICK_PX = 4.0
_CELL_PX = 60.0  # a cell of usual size that is gone to appears at least this large on the screen


def at_once(function: Callable[[], None]) -> None:
    """The `Later` that does not wait."""
    function()


def here(compute: Callable[[], Any], deliver: Callable[[Any], None]) -> None:
    """The `Background` that computes in this thread."""
    deliver(compute())


class ViewerLink:
    """Binds a session to a viewer until `unbind`.

    Parameters
    ----------
    session, viewer
        What is bound.
    later
        How a function is called after a pause (the docks use a Qt timer).
    background
        How pixels are loaded off the main thread (the docks use a Qt thread).
    """

    hovered = Signal(object)
    """The cell under the mouse on the map or in the image, or None."""
    failed = Signal(str)
    """An image could not be shown; one line for the user."""
    shown = Signal(int)
    """The image that is now in the viewer."""

    def __init__(
        self, session: Session, viewer: ViewerModel, *, later: Later = at_once, background: Background = here
    ) -> None:
        self.session = session
        self.viewer = viewer
        self.image = ImageBinder(viewer)
        self.labels = LabelsBinder(session, viewer, later=later)
        self.points = PointsBinder(session, viewer, later=later)
        self.lasso = Lasso(session, self._in_reach)
        self.mouse_taken = False
        """Whether another gesture has the mouse, so that a click chooses no cell."""
        self.regions = RegionsBinder(session, viewer, later=later)
        self._background = background
        self._ring = Ring(viewer)
        self._wanted: int | None = None
        self._goal: int | None = None
        self._view: tuple[Any, float] | None = None
        self._over: int | None = None
        self._fitted_zoom = 0.0
        # Everything that is connected here is disconnected in `unbind`.
        self._slots = (
            (session.events.current_changed, self._on_current),
            (session.events.labels_changed, self._on_labels),
            (session.events.cells_changed, self._on_cells),
            (session.events.embedding_changed, self._on_embedding),
            (session.events.images_changed, self._on_images),
            (session.events.regions_changed, self.regions.refresh),
            (session.selection.changed, self._on_selection),
        )
        for signal, slot in self._slots:
            signal.connect(slot, thread="main")
        self._follow_mouse(viewer)
        self._on_current(session.current_image)

    def unbind(self) -> None:
        """Save what is painted, let go of the session and take all layers out of the viewer."""
        for signal, slot in self._slots:
            signal.disconnect(slot, missing_ok=True)
        for one in {id(one): one for one in (self.points.viewer, self.viewer)}.values():
            self._leave_mouse(one)
        self._wanted = None
        self._clear()
        self._ring.unbind()

    def go_to(self, cell_id: int) -> None:
        """Show this cell: switch the image if it must be, centre the camera, select the cell."""
        if cell_id not in self.session.cells:
            return
        image_id = int(self.session.row(cell_id)["image"])
        self._goal = cell_id
        self.session.selection.set({cell_id})
        if image_id == self.labels.image_id:
            self._arrive()
        else:
            self.session.show_image(image_id)

    def back(self) -> None:
        """Return to the view from before the last `go_to`, or show everything."""
        if self._view is None:
            self._fit_view()
            return
        self.viewer.scene.camera.center, self.viewer.scene.camera.zoom = self._view
        self._view = None

    def place_map(self, viewer: ViewerModel | None) -> None:
        """Show the map in a viewer of its own, where clicks and the lasso work as here; None: beside the image."""
        before = self.points.viewer
        if before is not self.viewer:
            self._leave_mouse(before)
        self.points.move_to(viewer)
        if viewer is not None:
            self._follow_mouse(viewer)
            viewer.reset_view()
        self._fit_view()

    def color_points(self, by: str) -> None:
        """Colour the map by ``cluster``, ``condition``, ``image``, ``verdict``, ``corrected`` or a measurement."""
        self.points.color_by = by
        self.points.recolor()

    def color_cells(self, by: str) -> None:
        """Colour the cells in the image; ``cell`` gives each its own colour."""
        self.labels.color_by = by
        self.labels.recolor()

    def flush(self) -> None:
        """Hand over what was painted and drawn before something else looks at it."""
        self.labels.commit()
        self.regions.commit()

    # session → viewer

    def _on_current(self, image_id: int | None) -> None:
        self._wanted = image_id
        if image_id is None:
            self._clear()
        elif image_id != self.labels.image_id:
            self._background(partial(self._load, image_id), self._loaded)

    def _load(self, image_id: int) -> Loaded | tuple[int, str]:
        try:
            return load(self.session, image_id)
        except UserError as error:
            return image_id, str(error)

    def _loaded(self, loaded: Loaded | tuple[int, str]) -> None:
        if isinstance(loaded, tuple):
            if loaded[0] == self._wanted:
                self.failed.emit(loaded[1])
            return
        if loaded.image_id != self._wanted:
            return  # the user has moved on
        first = not self.image.layers
        before = self.image.box
        self.labels.commit()
        self.image.show(loaded)
        self.labels.show(loaded.image_id, loaded.labels, self.image.affine, len(self.image.layers))
        self.regions.show(loaded.image_id, self.image.shape, self.image.affine)
        self.points.show(self.image.box)
        self._draw_ring()
        if first or self.image.box != before:
            self._fit_view()
        if first:
            self.viewer.layers.selection.active = self.labels.layer
        self._choose_label()
        self._arrive()
        self.shown.emit(loaded.image_id)

    def _on_images(self) -> None:
        current = self.session.current_image
        if current != self._wanted:
            self._on_current(current)

    def _on_labels(self, image_id: int) -> None:
        if image_id == self.labels.image_id:
            self.labels.refresh()

    def _on_cells(self, _ids: Any) -> None:
        self.labels.recolor()
        self._draw_ring()
        if self.points.layer is not None:
            self.points.show(self.image.box)

    def _on_embedding(self) -> None:
        had = self.points.layer is not None
        self.points.follow_embedding()
        if self.points.layer is not None and not had:
            self._fit_view()

    def _on_selection(self, ids: frozenset[int]) -> None:
        self.points.highlight(ids)
        self._choose_label()
        self._draw_ring()

    def show_prepared(
        self,
        image_id: int,
        picture: Any,
        scale: tuple[float, float] = (1.0, 1.0),
        translate: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Put a picture of the prepared image, or of a part of it, into the viewer if the image is shown."""
        if image_id == self.labels.image_id:
            self.image.show_prepared(picture, scale, translate)

    def turn(self, image_id: int, angle_deg: float) -> None:
        """Turn the image shown, and all that lies on it, to this angle."""
        if image_id != self.labels.image_id or angle_deg == self.image.angle_deg:
            return
        before = self.image.box
        self.image.turn(angle_deg)
        if self.labels.layer is not None:
            self.labels.layer.affine = self.image.affine
        self.regions.turn(self.image.affine)
        self._draw_ring()
        if self.image.box != before:
            self.points.show(self.image.box)
            if self.viewer.scene.camera.zoom == self._fitted_zoom:  # the user has not zoomed in on something
                self._fit_view()

    def visible(self) -> tuple[Region, float] | None:
        """The part of the image that is in view, and its pixels per screen pixel."""
        camera = self.viewer.scene.camera
        return visible_region(self.image.shape, self.image.affine, camera.center, camera.zoom, self.viewer.canvas.size)

    def _here(self) -> pd.DataFrame:
        """Rows of the selected cells that lie in the image shown."""
        rows = self.session.cells.of_image(-1 if self.labels.image_id is None else self.labels.image_id)
        chosen = self.session.selection.ids
        return rows[[cell in chosen for cell in rows.index.tolist()]]

    def _choose_label(self) -> None:
        cells = self._here()
        if len(cells) == 1:
            self.labels.select(int(cells["label"].iloc[0]))

    def _arrive(self) -> None:
        goal, image = self._goal, self.labels.image_id
        if goal is None or goal not in self.session.cells or image is None:
            return
        row = self.session.row(goal)
        if int(row["image"]) != image:
            return
        self._goal = None
        camera = self.viewer.scene.camera
        if self._view is None:
            self._view = (camera.center, camera.zoom)
        y, x = to_world(self.image.affine, np.array([[row["y"], row["x"]]], float))[0]
        camera.center = (0.0, float(y), float(x))
        rows = self.session.cells.of_image(image)
        usual = float(np.maximum(rows["bottom"] - rows["top"], rows["right"] - rows["left"]).median())
        extent = max(row["bottom"] - row["top"], row["right"] - row["left"], usual)
        camera.zoom = max(camera.zoom, _CELL_PX / float(extent))

    def _fit_view(self) -> None:
        self.viewer.reset_view()
        self._fitted_zoom = self.viewer.scene.camera.zoom
        self._view = None

    def _draw_ring(self) -> None:
        self._ring.draw(self._here(), self.image.affine, len(self.image.layers) + 1)

    def _clear(self) -> None:
        self.labels.remove()
        self.regions.remove()
        self._ring.remove()
        self.points.remove()
        self.image.remove()

    # viewer → session

    def _follow_mouse(self, viewer: ViewerModel) -> None:
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.mouse_move_callbacks.append(self._on_move)
        self.lasso.attach(viewer)

    def _leave_mouse(self, viewer: ViewerModel) -> None:
        self.lasso.detach(viewer)
        for callbacks, callback in (
            (viewer.mouse_drag_callbacks, self._on_press),
            (viewer.mouse_move_callbacks, self._on_move),
        ):
            if callback in callbacks:
                callbacks.remove(callback)

    def _in_reach(self, viewer: Any) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Cells that can be caught in a viewer, and where: points of the map, and cells of the image shown."""
        cells, positions = [np.empty(0, np.int64)], [np.empty((0, 2))]
        if viewer is self.points.viewer and self.points.layer is not None and self.points.layer.visible:
            cells.append(self.points.cell_ids)
            positions.append(self.points.positions)
        if viewer is self.viewer and self.labels.image_id is not None:
            rows = self.session.cells.of_image(self.labels.image_id)
            cells.append(rows.index.to_numpy(np.int64))
            positions.append(to_world(self.image.affine, rows[["y", "x"]].to_numpy(float)))
        return np.concatenate(cells), np.concatenate(positions)

    def _on_press(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        if getattr(event, "button", 1) != 1 or self._is_drawing(viewer):
            return
        start = np.asarray(event.pos, float)
        yield
        while event.type == "mouse_move":
            yield
        if np.abs(np.asarray(event.pos, float) - start).max() <= _CLICK_PX:
            self._clicked(viewer, event)

    def _clicked(self, viewer: Any, event: Any) -> None:
        on_map = self.points.at(event.position, viewer)
        cell = on_map if on_map is not None else self._cell_at(event.position, viewer)
        modifiers = {str(getattr(m, "name", m)).lower() for m in getattr(event, "modifiers", ())}
        if modifiers & {"shift", "control"}:
            if cell is not None:
                self.session.selection.set(self.session.selection.ids ^ {cell})
        elif on_map is not None:
            self.go_to(on_map)
        elif cell is not None:
            self.session.selection.set({cell})
        elif viewer is not self.viewer or self._pixel(event.position) is not None:
            self.session.selection.clear()

    def _on_move(self, viewer: Any, event: Any) -> None:
        if getattr(event, "is_dragging", False):
            return
        over = self.points.at(event.position, viewer)
        if over is None:
            over = self._cell_at(event.position, viewer)
        if over != self._over:
            self._over = over
            self.hovered.emit(over)

    def _is_drawing(self, viewer: Any) -> bool:
        if self.lasso.on or self.mouse_taken:
            return True
        if viewer is not self.viewer:
            return False
        layer = self.labels.layer
        active = self.viewer.layers.selection.active
        painting = layer is not None and active is layer and str(layer.mode) not in ("pan_zoom", "pick")
        return painting or self.regions.drawing

    def _pixel(self, position: Any) -> tuple[int, int] | None:
        if self.labels.layer is None:
            return None
        y, x = to_data(self.image.affine, np.asarray([position[-2:]], float))[0]
        row, column = round(float(y)), round(float(x))
        height, width = self.image.shape
        return (row, column) if 0 <= row < height and 0 <= column < width else None

    def _cell_at(self, position: Any, viewer: Any) -> int | None:
        pixel = self._pixel(position) if viewer is self.viewer else None
        layer, image_id = self.labels.layer, self.labels.image_id
        if pixel is None or layer is None or image_id is None or not layer.visible:
            return None
        data = layer.data[0] if layer.multiscale else layer.data
        label = int(np.asarray(data[pixel]))
        return self.session.cell_at(image_id, label) if label else None
