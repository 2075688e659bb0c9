"""Saying of what type cells are with the mouse: a click on a cell, or a drag across several, is one undoable step."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from psygnal import Signal

from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of
from cell_curator.link.geometry import to_data
from cell_curator.typing_cells import give_type

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cell_curator.link.viewer_link import ViewerLink
    from cell_curator.session import Session


class TypePainter:
    """A type in the user's hand; with none, the mouse chooses cells as everywhere."""

    said = Signal(str)
    """What was done, or why not; one line."""
    taken = Signal(object)
    """The type now in hand, ``""`` for that which takes types away, or None."""

    def __init__(self, session: Session, link: ViewerLink) -> None:
        self._session, self._link = session, link
        self._in_hand: str | None = None

    @property
    def in_hand(self) -> str | None:
        """See `taken`."""
        return self._in_hand

    def take(self, name: str | None) -> None:
        """Take a type, ``""`` or nothing in hand."""
        if name == self._in_hand:
            return
        was, self._in_hand = self._in_hand, name
        callbacks, layer = self._link.viewer.mouse_drag_callbacks, self._link.labels.layer
        self._link.mouse_taken = name is not None
        if name is None:
            if self._on_press in callbacks:
                callbacks.remove(self._on_press)
        elif was is None:
            callbacks.append(self._on_press)
            if layer is not None:
                layer.mode = "pan_zoom"  # else the brush would paint as well
        self.taken.emit(name)

    def give(self, cells: list[int], name: str) -> None:
        """Say of what type cells are."""
        try:
            give_type(self._session, cells, name)
        except UserError as error:
            self.said.emit(str(error))
            return
        many = number_of(len(cells), "cell")
        self.said.emit(f"{many}: {name}" if name else f"{many}: no type")

    def _on_press(self, viewer: Any, event: Any) -> Generator[None, None, None]:
        held = {str(getattr(m, "name", m)).lower() for m in getattr(event, "modifiers", ())}
        layer = self._link.labels.layer
        if self._in_hand is None or layer is None or getattr(event, "button", 1) != 1 or "alt" in held:
            return  # with Alt, napari zooms
        if str(layer.mode) not in ("pan_zoom", "pick"):
            self.take(None)  # the user took napari's brush
            return
        camera, name = viewer.scene.camera, self._in_hand
        pan, camera.mouse_pan = camera.mouse_pan, False
        last, cells = _world(event), dict[int, None]()
        self._cross(last, last, cells)
        try:
            yield
            while event.type == "mouse_move":
                now = _world(event)
                self._cross(last, now, cells)
                last = now
                yield
        finally:
            camera.mouse_pan = pan
        self._session.selection.clear()
        if cells:
            self.give(list(cells), name)

    def _cross(self, start: NDArray[np.float64], stop: NDArray[np.float64], cells: dict[int, None]) -> None:
        """Add the cells under a line to those caught, and ring them all."""
        layer, image_id = self._link.labels.layer, self._link.labels.image_id
        if layer is None or image_id is None:
            return
        ends = to_data(self._link.image.affine, np.stack([start, stop]))
        steps = max(2, int(np.ceil(np.abs(ends[1] - ends[0]).max())) + 1)
        pixels = np.unique(np.round(np.linspace(ends[0], ends[1], steps)).astype(int), axis=0)
        pixels = pixels[((pixels >= 0) & (pixels < layer.data.shape)).all(axis=1)]
        before = len(cells)
        for label in np.unique(layer.data[tuple(pixels.T)]):
            cell = self._session.cell_at(image_id, int(label)) if label else None
            if cell is not None:
                cells[cell] = None
        if len(cells) != before:
            self._session.selection.set(set(cells))


def _world(event: Any) -> NDArray[np.float64]:
    return np.asarray(event.position[-2:], float)
