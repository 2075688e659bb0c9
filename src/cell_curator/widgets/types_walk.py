"""Going through the cells that a model told, the least sure first, so that a person corrects where it pays most."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QWidget

from cell_curator.widgets.controls import ElidedLabel, push_button
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from cell_curator.session import Session

_NOWHERE = -1


class LeastSure(QWidget):
    """What is known of the chosen cell, and buttons to the next and the previous one."""

    going = Signal()
    """Before another cell is shown."""
    said = Signal(str)

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self._at = _NOWHERE
        self.about = ElidedLabel()
        self.previous = push_button("◀", "The cell before, less sure than this (Shift+N)", partial(self.step, -1))
        self.next = push_button("Least sure ▶", "The next of the cells that were told (N)", partial(self.step, 1))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        row.addWidget(self.previous)
        row.addWidget(self.about, 1)
        row.addWidget(self.next)

    def begin(self) -> None:
        """The next step is to the least sure cell."""
        self._at = _NOWHERE

    def step(self, by: int) -> None:
        """Go so many cells on."""
        session, link = self._bench.session, self._bench.link
        if session is None or link is None:
            return
        cells = told_cells(session)
        if not cells:
            self.said.emit("No cell was told by a model yet")
            return
        self._at = min(max(self._at + by, 0), len(cells) - 1)
        self.going.emit()
        link.go_to(cells[self._at])

    def go_on(self) -> None:
        """After a correction, which takes the cell out of those told: the next one has its place."""
        session = self._bench.session
        if session is not None and self._at != _NOWHERE and how_many_told(session):
            self.step(0)

    def show_session(self, session: Session) -> None:
        """Say what is known of the chosen cell, else how many there are to go through."""
        told, chosen = how_many_told(session), session.selection.ids
        cell = next(iter(chosen)) if len(chosen) == 1 else None
        if cell is None or cell not in session.cells:
            self.about.set_text(f"{told:,} cells told" if told else "")
        else:
            row = session.row(cell)
            sure = row["type_probability"]
            how = "typed by you" if sure != sure else f"{100 * sure:.0f} % sure"
            self.about.set_text(f"{row['cell_type']}, {how}" if row["cell_type"] else "no type")
        for button in (self.previous, self.next):
            button.setEnabled(told > 0)


def told_cells(session: Session) -> list[int]:
    """Cells whose type a model told, the least sure first."""
    sure = session.cells.frame["type_probability"].dropna().sort_values(kind="stable")
    return [int(cell) for cell in sure.index]


def how_many_told(session: Session) -> int:
    """Number of those cells."""
    return int(session.cells.frame["type_probability"].notna().sum())
