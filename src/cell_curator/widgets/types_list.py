"""The types of cells as rows: key, colour, name, how many cells; a row that is pressed in is in the user's hand."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QButtonGroup, QGridLayout, QLabel, QLineEdit, QToolButton, QVBoxLayout, QWidget

from cell_curator.core.cell_types import LONGEST, CellTypes
from cell_curator.core.colors import NOISE_COLOR
from cell_curator.widgets.controls import WHITE_RING, push_button, swatch

if TYPE_CHECKING:
    import pandas as pd

MOST_KEYS = 9


class TypesList(QWidget):
    """Rows of types and a line for a new one. It only says what is wanted; ``show_types`` says what is."""

    taken = Signal(str)
    """A type was pressed; ``""`` is the row that takes types away."""
    added = Signal(str)
    renamed = Signal(str, str)
    removed = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.buttons: dict[str, QToolButton] = {}
        self.names: dict[str, QLineEdit] = {}
        self.counts: dict[str, QLabel] = {}
        self._group = QButtonGroup(self)
        self._group.setExclusive(False)
        self._types: tuple[str, ...] | None = None
        self._rows = QWidget()
        self._grid = QGridLayout(self._rows)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self._grid.setColumnStretch(1, 1)
        self.new = QLineEdit()
        self.new.setPlaceholderText("Name of a new type, for example HEK")
        self.new.setMaxLength(LONGEST)
        self.new.returnPressed.connect(self._add)
        self.add = push_button("Add", "Add a type of this name (Return)", self._add)
        below = QGridLayout()
        below.setSpacing(4)
        below.addWidget(self.new, 0, 0)
        below.addWidget(self.add, 0, 1)
        below.setColumnStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._rows)
        layout.addLayout(below)

    def show_types(self, types: CellTypes, counts: pd.DataFrame, in_hand: str | None) -> None:
        """Show these types, how many cells each has (see `core.cell_types.tally`), and which is in hand."""
        if types.names != self._types:
            self._types = types.names
            self._build(types)
        for name, button in self.buttons.items():
            button.setChecked(name == in_hand)
            hand, told = (
                (int(n) for n in counts.loc[name, ["by_hand", "predicted"]]) if name in counts.index else (0, 0)
            )
            self.counts[name].setText(f"{told:,} left" if not name else f"{hand:,} + {told:,}" if told else f"{hand:,}")

    def show_hand(self, in_hand: str | None) -> None:
        """Show which type is in hand."""
        for name, button in self.buttons.items():
            button.setChecked(name == in_hand)

    def edit_name(self) -> None:
        """Put the cursor into the name of the type in hand, else of the first."""
        wanted = [name for name, button in self.buttons.items() if button.isChecked() and name] or list(self.names)
        if wanted:
            self.names[wanted[0]].setFocus()
            self.names[wanted[0]].selectAll()
        else:
            self.new.setFocus()

    def _build(self, types: CellTypes) -> None:
        while (item := self._grid.takeAt(0)) is not None:
            item.widget().hide()
            item.widget().deleteLater()
        self.buttons, self.names, self.counts = {}, {}, {}
        for row, name in enumerate(types.names):
            key = str(row + 1) if row < MOST_KEYS else ""
            self._put(
                row,
                name,
                key,
                swatch(types.color(name), ring=WHITE_RING),
                f"Take “{name}” in hand: click cells, or drag across",
            )
            edit = QLineEdit(name)
            edit.setMaxLength(LONGEST)
            edit.setToolTip("Another name for this type and its cells (F2)")
            edit.returnPressed.connect(edit.clearFocus)
            edit.editingFinished.connect(partial(self._renamed, name, edit))
            self.names[name] = edit
            remove = QToolButton()
            remove.setText("✕")
            remove.setToolTip(f"Do without the type “{name}”; it must have no cells")
            remove.clicked.connect(partial(self._removed, name))
            self._grid.addWidget(edit, row, 1)
            self._grid.addWidget(remove, row, 3)
        if types.names:
            last = len(types.names)
            self._put(last, "", "0", swatch(NOISE_COLOR), "Take the type away from cells: click them, or drag across")
            self._grid.addWidget(QLabel("no type"), last, 1)

    def _put(self, row: int, name: str, key: str, icon: Any, tip: str) -> None:
        button = QToolButton()
        button.setObjectName("tool")
        button.setCheckable(True)
        button.setIcon(icon)
        button.setText(key)
        button.setMinimumWidth(48)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setToolTip(f"{tip} ({key})" if key else tip)
        button.clicked.connect(partial(self._taken, name))
        count = QLabel()
        count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        count.setToolTip("Cells that you typed + cells that were told by a model")
        self.buttons[name], self.counts[name] = button, count
        self._group.addButton(button)
        self._grid.addWidget(button, row, 0)
        self._grid.addWidget(count, row, 2)

    def _taken(self, name: str, *_: Any) -> None:
        self.taken.emit(name)

    def _removed(self, name: str, *_: Any) -> None:
        self.removed.emit(name)

    def _renamed(self, name: str, edit: QLineEdit) -> None:
        new = " ".join(edit.text().split())
        if new != name and self.names.get(name) is edit:
            self._types = None  # whatever becomes of it, the rows are made anew
            self.renamed.emit(name, new)

    def _add(self) -> None:
        name = self.new.text().strip()
        if name:
            self.new.clear()
            self.new.clearFocus()
            self.added.emit(name)
