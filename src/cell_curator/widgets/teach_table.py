"""The rounds as a table: what they learned from and how they scored; the one in use is marked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

from cell_curator.core.words import number_of
from cell_curator.round_table import RoundRow
from cell_curator.widgets import style

_ROWS_SEEN = 6
_UNKNOWN = "–"


@dataclass(frozen=True)
class _Column:
    title: str
    text: Callable[[RoundRow], str]
    tip: str
    best: Callable[[RoundRow], float | None] | None = None
    """What is compared where the best is to stand out; the highest is best."""


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{100 * value:.0f} %"


def _count(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.0f}"


def _minus(value: float | None) -> float | None:
    return None if value is None else -value


def _name(row: RoundRow) -> str:
    name = row.title if row.round_id else "Before"
    return f"● {name}" if row.in_use else name


# The first ones are in view in a narrow dock, the others are a scroll away.
_COLUMNS = (
    _Column("Model", _name, "● is the model that finds cells now"),
    _Column(
        "AP 0.5",
        lambda r: _percent(r.ap50),
        "Average precision on what is locked away, %: a cell counts as found if it and the true one share half of "
        "their common area (intersection over union 0.5). Higher is better",
        lambda r: r.ap50,
    ),
    _Column(
        "Splits",
        lambda r: _count(r.splits),
        "One true cell found as several, in all that is locked away. Lower is better",
    ),
    _Column("Merges", lambda r: _count(r.merges), "Several true cells found as one. Lower is better"),
    _Column("Misses", lambda r: _count(r.misses), "True cells not found. Lower is better", lambda r: _minus(r.misses)),
    _Column(
        "Effort",
        lambda r: _count(r.edits_per_100),
        "Corrections for every 100 cells that you reviewed before this round",
    ),
    _Column("AP 0.75", lambda r: _percent(r.ap75), "The same with 0.75, %: good outlines", lambda r: r.ap75),
    _Column("AP 0.9", lambda r: _percent(r.ap90), "The same with 0.9, %: nearly the true outlines", lambda r: r.ap90),
    _Column("Images", lambda r: _count(r.examples) if r.round_id else "", "Images it learned from"),
    _Column(
        "Cells",
        lambda r: _count(r.cells) if r.round_id else "",
        "Whole cells it learned from; those that the edge of a region cuts are left out",
    ),
    _Column("Minutes", lambda r: _minutes(r) if r.round_id else "", "How long the round took"),
)


def _minutes(row: RoundRow) -> str:
    return _UNKNOWN if row.minutes is None else f"{row.minutes:.1f}"


class RoundsModel(QAbstractTableModel):
    """Rows: the model before the first round, then the rounds. Columns: figures."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: tuple[RoundRow, ...] = ()
        self._best: list[set[int]] = [set() for _ in _COLUMNS]
        self._colors = style.colors("dark")

    def show_rows(self, rows: tuple[RoundRow, ...]) -> None:
        """Show other rounds."""
        self.beginResetModel()
        self.rows = rows
        self._best = [_best_rows(column, rows) for column in _COLUMNS]
        self.endResetModel()

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self._colors = style.colors(theme)

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of models."""
        return 0 if parent is not None and parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of figures."""
        return 0 if parent is not None and parent.isValid() else len(_COLUMNS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        """What a column is, and in its tooltip what that means."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return _COLUMNS[section].title
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"<p>{_COLUMNS[section].tip}</p>"
        return None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        """One cell of the table."""
        row, column = self.rows[index.row()], _COLUMNS[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(row)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"<p>{row_in_words(row)}</p>"
        if role == Qt.ItemDataRole.TextAlignmentRole and index.column():
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        if role == Qt.ItemDataRole.FontRole and ((row.in_use and not index.column()) or self._stands_out(index)):
            font = QFont()
            font.setBold(True)
            return font
        if role == Qt.ItemDataRole.ForegroundRole:
            if not row.usable:
                return QColor(self._colors["error"])
            return QColor(self._colors["good"]) if self._stands_out(index) else None
        return None

    def _stands_out(self, index: QModelIndex) -> bool:
        return index.row() in self._best[index.column()]


class RoundsTable(QTableView):
    """The table; `chosen` tells of the round that the user looks at."""

    chosen = Signal(object)
    """A `RoundRow`, or None."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = RoundsModel()
        self.setModel(self.rounds)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setShowGrid(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(24)
        head = self.horizontalHeader()
        head.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        head.setMinimumSectionSize(34)
        head.setHighlightSections(False)
        self.selectionModel().selectionChanged.connect(self._tell)

    def show_rows(self, rows: tuple[RoundRow, ...]) -> None:
        """Show other rounds; the same one stays chosen, a new one is chosen."""
        before, known = self.row(), {row.round_id for row in self.rounds.rows}
        new = [row.round_id for row in rows if row.round_id not in known]
        self.rounds.show_rows(rows)
        wanted = new[-1] if new else None if before is None else before.round_id
        for index, row in enumerate(rows):
            if row.round_id == wanted:
                self.selectRow(index)
                self.scrollTo(self.rounds.index(index, 0))
        seen = min(max(len(rows), 1), _ROWS_SEEN)
        bar = self.horizontalScrollBar().sizeHint().height()
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + 24 * seen + bar + 4)
        self._tell()

    def row(self) -> RoundRow | None:
        """The round that is chosen."""
        rows = self.selectionModel().selectedRows()
        return self.rounds.rows[rows[0].row()] if rows else None

    def sizeHint(self) -> QSize:  # noqa: N802
        """No wider than the dock."""
        return QSize(300, super().sizeHint().height())

    def _tell(self, *_: Any) -> None:
        self.chosen.emit(self.row())


def row_in_words(row: RoundRow) -> str:
    """What a round learned from, how long it took, and what is to be said of it."""
    if not row.round_id:
        return f"Before the first round: {row.title}"
    parts = [f"From {row.parent}", f"{row.cells} whole cells of {number_of(row.examples, 'image')}"]
    if row.minutes is not None:
        parts.append(f"{row.minutes:.1f} min")
    if row.edits_per_100 is not None:
        parts.append(f"{row.edits_per_100:.0f} corrections per 100 cells")
    if row.ap50 is None:
        parts.append("not scored")
    return ", ".join(parts) + (f"; {row.note}" if row.note else "")


def _best_rows(column: _Column, rows: tuple[RoundRow, ...]) -> set[int]:
    """Where the best figure of a column is, if some are worse."""
    if column.best is None:
        return set()
    values = {index: value for index, row in enumerate(rows) if (value := column.best(row)) is not None}
    if len(set(values.values())) < 2:
        return set()
    return {index for index, value in values.items() if value == max(values.values())}
