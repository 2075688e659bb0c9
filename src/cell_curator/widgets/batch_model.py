"""The images of a project and what becomes of each while all are worked on, as a Qt table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt
from qtpy.QtGui import QColor

from cell_curator.core.jobs import ItemState
from cell_curator.io.records import ImageRecord
from cell_curator.widgets import style

_HEADS = ("Image", "Condition", "State")
_FOUND = {"segmented": "done", "reviewed": "done", "failed": "failed"}
_SIGNS = {"waiting": "○", "working": "◐", "done": "●", "failed": "✕"}


class BatchModel(QAbstractTableModel):
    """Rows: images, in the order of the work. Columns: name, condition, state with the reason."""

    def __init__(self, theme: str = "dark") -> None:
        super().__init__()
        self._theme = theme
        self._images: list[tuple[str, str]] = []
        self._states: list[tuple[str, str]] = []
        self._rows: dict[str, int] = {}
        self._files: dict[str, str] = {}

    def show_images(self, records: Sequence[ImageRecord]) -> None:
        """Show these images as they are: done, failed, or waiting for somebody to find their cells."""
        images = [(record.name, record.condition) for record in records]
        self._files = {record.name: str(record.path) for record in records}
        states = [
            (_FOUND.get(one.state, "waiting"), self.reason(one.name, one.note) if one.state == "failed" else "")
            for one in records
        ]
        if images == self._images:
            self._states = states
            self._changed(0, len(images) - 1)
            return
        self.beginResetModel()
        self._images, self._states = images, states
        self._rows = {name: row for row, (name, _) in enumerate(images)}
        self.endResetModel()

    def note(self, news: ItemState) -> int | None:
        """Take over what became of one image; its row. What is done or failed stays so until it waits again."""
        row = self._rows.get(news.name)
        if row is None or (news.state == "working" and self._states[row][0] in ("done", "failed")):
            return None
        if self._states[row][0] == "failed" and news.state == "done":
            return None
        self._states[row] = (news.state, self.reason(news.name, news.reason))
        self._changed(row, row)
        return row

    def reason(self, name: str, text: str) -> str:
        """Why an image failed, without the path of its file: the row says which it is."""
        return text.removeprefix(f"{self._files.get(name, '')}: ")

    def counts(self) -> Counter[str]:
        """How many images are in each state."""
        return Counter(state for state, _ in self._states)

    def state(self, name: str) -> tuple[str, str]:
        """State of an image, and the reason if it failed."""
        return self._states[self._rows[name]]

    def name(self, row: int) -> str:
        """Name of the image in a row."""
        return self._images[row][0]

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self._theme = theme
        self._changed(0, len(self._images) - 1)

    # Qt's model interface

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of images."""
        return 0 if parent is not None and parent.isValid() else len(self._images)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(_HEADS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        """Column titles."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _HEADS[section]
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """Words and colours of a cell of the table."""
        if not index.isValid():
            return None
        state, why = self._states[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            said = f"{_SIGNS[state]} {state}" + (f": {why}" if why else "")
            return (*self._images[index.row()], said)[index.column()]
        if role == Qt.ItemDataRole.ToolTipRole:
            return why or self._images[index.row()][0]
        if role == Qt.ItemDataRole.ForegroundRole and index.column() == 2:
            named = {"failed": "error", "done": "good", "waiting": "quiet"}.get(state)
            return QColor(style.colors(self._theme)[named]) if named else None
        return None

    def _changed(self, first: int, last: int) -> None:
        if last >= first:
            self.dataChanged.emit(self.index(first, 0), self.index(last, len(_HEADS) - 1))
