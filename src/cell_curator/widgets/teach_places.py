"""A list of places worth a look: click one to go there, or walk through them with keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QListWidget, QListWidgetItem

_ROWS_SEEN = 6


@dataclass(frozen=True)
class Place:
    """``(top, left, bottom, right)`` px of an image, and the line that is read."""

    image_id: int
    box: tuple[float, float, float, float]
    text: str
    framed: bool = False
    """Whether the box itself is to be shown, not only its middle."""


class PlacesList(QListWidget):
    """Places, the first one most worth a look. Hidden while there are none."""

    chosen = Signal(object)
    """The place to go to."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self._places: tuple[Place, ...] = ()
        self.setToolTip(tip)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setUniformItemSizes(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.currentRowChanged.connect(self._go)
        self.itemClicked.connect(self._again)
        self.show_places(())

    @property
    def places(self) -> tuple[Place, ...]:
        """What is listed."""
        return self._places

    def show_places(self, places: Sequence[Place]) -> None:
        """List other places; none is chosen yet."""
        self.blockSignals(True)
        self.clear()
        self._places = tuple(places)
        for place in self._places:
            item = QListWidgetItem(place.text)
            item.setToolTip(place.text)
            self.addItem(item)
        self.setCurrentRow(-1)
        self.blockSignals(False)
        rows = min(max(len(self._places), 1), _ROWS_SEEN)
        self.setFixedHeight(max(self.sizeHintForRow(0), self.fontMetrics().height() + 4) * rows + 6)
        self.setVisible(bool(self._places))

    def step(self, by: int) -> None:
        """Go to the next or the previous place, round and round."""
        if self._places:
            at = self.currentRow()
            self.setCurrentRow((at + by) % len(self._places) if at >= 0 else 0 if by > 0 else len(self._places) - 1)

    def go(self) -> None:
        """Go to the chosen place once more, or to the first."""
        if self.currentRow() < 0:
            self.step(1)
        else:
            self._go(self.currentRow())

    def _go(self, row: int) -> None:
        if 0 <= row < len(self._places):
            self.chosen.emit(self._places[row])

    def _again(self, item: Any) -> None:
        # A click on the row that is chosen already: the user looked elsewhere meanwhile.
        self._go(self.row(item))
