"""The clusters of the map as a table: colour, name, cells, a bar of conditions, and a note on the one chosen.

Says what was pressed by signals; what a click means is the dock's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QRect, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLineEdit,
    QStyledItemDelegate,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from cell_curator.core.colors import cluster_color, condition_colors
from cell_curator.widgets.controls import swatch
from cell_curator.widgets.legend import cluster_shares

if TYPE_CHECKING:
    from cell_curator.core.cells import CellTable
    from cell_curator.io.records import StoredEmbedding

SWATCH, NAME, CELLS, SHARES = range(4)
NONE = "in none"
"""What the cells in no cluster are called."""

_ROW = 24
_MOST_ROWS = 8
_BAR = 12  # px high
_BAR_WIDTH = 104


class ClusterTable(QWidget):
    """One row a cluster; a line below it for a note on the chosen one."""

    chosen = Signal(int)
    """A cluster was chosen."""
    opened = Signal(int)
    """A cluster was double-clicked: its gallery is wanted."""
    renamed = Signal(int, str)
    noted = Signal(int, str)

    def __init__(self) -> None:
        super().__init__()
        self._notes: dict[int, str] = {}
        self.table = QTableWidget()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setShowGrid(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_ROW)
        self.table.setItemDelegateForColumn(SHARES, _Shares(self.table))
        self.table.itemSelectionChanged.connect(self._row_chosen)
        self.table.cellDoubleClicked.connect(self._double_clicked)
        self.table.itemChanged.connect(self._edited)
        self.note = QLineEdit()
        self.note.setPlaceholderText("Choose a cluster to write a note on it")
        self.note.setToolTip("A note on the chosen cluster; it stays with the cluster when clusters are made again")
        self.note.editingFinished.connect(self._note_written)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.table)
        layout.addWidget(self.note)
        self._fit_note()

    @property
    def number(self) -> int | None:
        """The chosen cluster; -1 stands for the cells in none."""
        rows = self.table.selectionModel().selectedRows() if self.table.selectionModel() else []
        item = self.table.item(rows[0].row(), SWATCH) if rows else None
        return int(item.data(Qt.ItemDataRole.UserRole)) if item is not None else None

    def fill(self, cells: CellTable, embedding: StoredEmbedding) -> None:
        """Show the clusters as they are now; the chosen one stays."""
        kept, shares, names = self.number, cluster_shares(cells), embedding.cluster_names
        self._notes = embedding.cluster_notes
        conditions = [name for name in shares.columns if name != "cells"]
        self.table.blockSignals(True)
        self.table.setColumnCount(4)
        self.table.setHorizontalHeaderLabels(["", "Cluster", "Cells", "Conditions"])
        self.table.setColumnHidden(SHARES, len(conditions) < 2)
        colors = condition_colors(cells.coded("condition")[1])
        self.table.setRowCount(len(shares))
        for row, (index, values) in enumerate(shares.iterrows()):
            number = int(index)  # type: ignore[call-overload]
            self._fill_row(row, number, names.get(number, f"Cluster {number + 1}") if number >= 0 else NONE)
            count, bar = QTableWidgetItem(f"{int(values['cells']):,}"), QTableWidgetItem()
            count.setTextAlignment(int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter))
            bar.setData(Qt.ItemDataRole.UserRole, [(float(values[c]), colors[c]) for c in conditions])
            bar.setToolTip("\n".join(f"{values[c]:.0f} % {c or 'no condition'}" for c in conditions))
            for column, item in ((CELLS, count), (SHARES, bar)):
                item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
                self.table.setItem(row, column, item)
        self._fit(len(shares))
        self._show_chosen(kept)
        self.table.blockSignals(False)
        self._fit_note()

    def choose(self, number: int | None) -> None:
        """Mark a cluster without telling anybody."""
        self.table.blockSignals(True)
        self._show_chosen(number)
        self.table.blockSignals(False)
        self._fit_note()

    def rename(self) -> None:
        """Edit the name of the chosen cluster in its place."""
        rows = self.table.selectionModel().selectedRows()
        if rows and (self.number or 0) >= 0:
            self.table.editItem(self.table.item(rows[0].row(), NAME))

    def rows(self) -> dict[int, int]:
        """The row of each cluster."""
        items = (self.table.item(row, SWATCH) for row in range(self.table.rowCount()))
        return {int(item.data(Qt.ItemDataRole.UserRole)): row for row, item in enumerate(items) if item is not None}

    # ------------------------------------------------------------------ inside

    def _fill_row(self, row: int, number: int, name: str) -> None:
        color = QTableWidgetItem()
        color.setIcon(swatch(cluster_color(number), 14))
        color.setData(Qt.ItemDataRole.UserRole, number)
        color.setFlags(color.flags() & ~Qt.ItemFlag.ItemIsEditable)
        color.setToolTip("Double-click: the gallery of its cells")
        self.table.setItem(row, SWATCH, color)
        item = QTableWidgetItem(name)
        note = self._notes.get(number, "")
        hint = "Double-click or F2: another name" if number >= 0 else "Cells that belong to no cluster"
        item.setToolTip(f"{note}\n{hint}" if note else hint)
        if note:
            font = item.font()
            font.setItalic(True)
            item.setFont(font)
        if number < 0:
            item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
        self.table.setItem(row, NAME, item)

    def _fit(self, rows: int) -> None:
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(SHARES, QHeaderView.ResizeMode.Fixed)
        header.setMinimumSectionSize(26)
        self.table.setColumnWidth(SHARES, _BAR_WIDTH)
        self.table.setFixedHeight(min(max(rows, 2), _MOST_ROWS) * _ROW + header.sizeHint().height() + 6)

    def _show_chosen(self, number: int | None) -> None:
        row = self.rows().get(number) if number is not None else None
        if row is None:
            self.table.clearSelection()
        else:
            self.table.selectRow(row)

    def _row_chosen(self) -> None:
        self._fit_note()
        if self.number is not None:
            self.chosen.emit(self.number)

    def _double_clicked(self, row: int, column: int) -> None:
        number = self.number
        if number is None:
            return
        if column == NAME and number >= 0:
            self.table.editItem(self.table.item(row, NAME))
        else:
            self.opened.emit(number)

    def _edited(self, item: QTableWidgetItem) -> None:
        swatch_item = self.table.item(item.row(), SWATCH)
        if item.column() == NAME and swatch_item is not None:
            self.renamed.emit(int(swatch_item.data(Qt.ItemDataRole.UserRole)), item.text())

    def _note_written(self) -> None:
        number = self.number
        if number is not None and self.note.text().strip() != self._notes.get(number, ""):
            self.noted.emit(number, self.note.text())

    def _fit_note(self, *_: Any) -> None:
        number = self.number
        there = number is not None and number >= 0
        self.note.setEnabled(there)
        rows = self.rows()
        item = self.table.item(rows[number], NAME) if there and number in rows else None
        self.note.setPlaceholderText(
            f"Note on {item.text()}" if item is not None else "Choose a cluster to write a note on it"
        )
        if not self.note.hasFocus():
            self.note.setText(self._notes.get(number, "") if number is not None else "")


class _Shares(QStyledItemDelegate):
    """Draws how a cluster spreads over the conditions as one bar in their colours."""

    def paint(self, painter: Any, option: Any, index: Any) -> None:
        """Draw."""
        super().paint(painter, option, index)
        area = option.rect.adjusted(4, (option.rect.height() - _BAR) // 2, -4, 0)
        left, done = area.left(), 0.0
        for percent, color in index.data(Qt.ItemDataRole.UserRole) or ():
            done += percent
            right = area.left() + round(area.width() * done / 100)
            painter.fillRect(QRect(left, area.top(), right - left, _BAR), QColor.fromRgbF(*color))
            left = right
