"""How well types are told on what was held out: a sentence, and the table of what was taken for what."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QHeaderView, QLabel, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from cell_curator.core.cell_types import CellTypes
from cell_curator.core.colors import to_hex
from cell_curator.widgets.controls import swatch

if TYPE_CHECKING:
    import pandas as pd

_ROW = 24
_MOST_SEEN = 8
_STRONGEST = 170  # of 255, the colour of a row's largest share


class TypeScoresView(QWidget):
    """Rows are the true type, columns what was said; the diagonal is right."""

    def __init__(self) -> None:
        super().__init__()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.legend = QLabel("Rows: the true type. Columns: what was said.")
        self.legend.setObjectName("quiet")
        self.table = QTableWidget()
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QTableWidget.SelectionMode.NoSelection)
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.text)
        layout.addWidget(self.legend)
        layout.addWidget(self.table)
        self.hide()

    def show_scores(self, text: str, scores: Any, types: CellTypes) -> None:
        """Show what a training gave.

        Parameters
        ----------
        scores
            ``confusion`` and ``per_type`` as of `TypeScores` or `FinderScores`; None where nothing was held out.
        """
        self.show()
        self.text.setText(text)
        for part in (self.legend, self.table):
            part.setVisible(scores is not None)
        if scores is None:
            return
        counts: pd.DataFrame = scores.confusion
        self.table.setRowCount(len(counts.index))
        self.table.setColumnCount(len(counts.columns))
        self.table.setHorizontalHeaderLabels([str(name) for name in counts.columns])
        for row, name in enumerate(counts.index):
            head = QTableWidgetItem(swatch(types.color(name)), str(name))
            head.setToolTip(_one_type(str(name), scores.per_type))
            self.table.setVerticalHeaderItem(row, head)
            total = max(int(counts.loc[name].sum()), 1)
            for column, said in enumerate(counts.columns):
                count = int(counts.loc[name, said])
                item = QTableWidgetItem(f"{count:,}  ({100 * count / total:.0f} %)")
                item.setTextAlignment(int(Qt.AlignmentFlag.AlignCenter))
                color = QColor(to_hex(types.color(str(said))))
                color.setAlpha(round(_STRONGEST * count / total))
                item.setBackground(color)
                verb = "rightly said to be" if name == said else "taken for"
                item.setToolTip(f"{count:,} of {total:,} held-out cells of type {name}: {verb} {said}")
                self.table.setItem(row, column, item)
        self._fit()

    def _fit(self) -> None:
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        header.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.table.verticalHeader().setDefaultSectionSize(_ROW)
        rows = min(self.table.rowCount(), _MOST_SEEN)
        self.table.setFixedHeight(rows * _ROW + header.sizeHint().height() + 4)


def _one_type(name: str, per_type: pd.DataFrame) -> str:
    row = per_type.loc[name]
    precision, recall = (_percent(row[key]) for key in ("precision", "recall"))
    return (
        f"{name}: {int(row['cells']):,} held-out cells. Of them {recall} were found out; of those said to be {name}, "
        f"{precision} were."
    )


def _percent(value: float) -> str:
    return "none" if math.isnan(value) else f"{100 * value:.0f} %"
