"""Deciding on many cells at once, after a look at a random 24 of them; one step that can be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from cell_curator.core.cells import VERDICTS
from cell_curator.core.words import number_of
from cell_curator.widgets.controls import Choice, NumberEdit, push_button
from cell_curator.widgets.gallery import CellList, Gallery
from cell_curator.widgets.gallery_pictures import Look
from cell_curator.widgets.runner import Background

if TYPE_CHECKING:
    from cell_curator.session import Session

SHOWN = 24
ABOVE, CHOSEN, LISTED = "more suspicious than", "that are chosen", "of the list above"
_WORDS = {"rejected": "Reject", "accepted": "Accept"}
_LOOK = Look(size=56)


def cells_meant(
    session: Session, which: str, percent: float = 50.0, listed: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """The cells that a decision on many is about.

    Those above a score and those of a list are meant as far as nobody decided on them; chosen ones unless locked.
    """
    frame = session.cells.frame
    if which == CHOSEN:
        keep = frame.index.isin(list(session.selection.ids)) & (frame["verdict"] != "locked").to_numpy()
    else:
        keep = (frame["verdict"] == "proposed").to_numpy()
        if which == ABOVE:
            keep &= (frame["score"] >= percent / 100).to_numpy()
        else:
            keep &= frame.index.isin(np.asarray([] if listed is None else listed))
    return np.asarray(frame.index.to_numpy()[keep], np.int64)


class BulkRow(QWidget):
    """Which cells, and what is to become of them."""

    asked = Signal(str, str, float)
    """The verdict, one of `ABOVE`, `CHOSEN`, `LISTED`, and the percentage."""

    def __init__(self) -> None:
        super().__init__()
        self.which = Choice((ABOVE, CHOSEN, LISTED))
        self.which.setToolTip(
            "Chosen cells: with Shift and Ctrl in the gallery, by a lasso in the image (tool “Select” of Correct), "
            "or a cluster of the map"
        )
        self.percent = NumberEdit(float, minimum=0, maximum=100, step=5, unit="%")
        self.percent.set_value(90)
        self.percent.setToolTip("Suspicion from which cells are meant")
        self.reject = push_button(
            "✗ Reject these…", "Reject them all, after a look at some", lambda: self._ask("rejected")
        )
        self.accept = push_button(
            "✓ Accept these…", "Accept them all, after a look at some", lambda: self._ask("accepted")
        )
        first, second = QHBoxLayout(), QHBoxLayout()
        first.addWidget(QLabel("All cells"))
        first.addWidget(self.which, 1)
        second.addWidget(self.reject, 1)
        second.addWidget(self.accept, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(first)
        layout.addWidget(self.percent)
        layout.addLayout(second)
        self.which.changed.connect(lambda word: self.percent.setVisible(word == ABOVE))

    def _ask(self, verdict: str) -> None:
        self.asked.emit(verdict, self.which.value(), self.percent.value())


class BulkSheet(QWidget):
    """A random 24 of the cells that are meant, and the last word on them."""

    decided = Signal(object, str)
    """The cells and the verdict."""
    closed = Signal()

    def __init__(self, background: Background) -> None:
        super().__init__()
        self.cells: NDArray[np.int64] = np.empty(0, np.int64)
        self._verdict = VERDICTS[0]
        self._session: Session | None = None
        self._draws = 0
        self.title = QLabel()
        self.title.setObjectName("heading")
        self.title.setWordWrap(True)
        self.note = QLabel()
        self.note.setObjectName("quiet")
        self.note.setWordWrap(True)
        self.model = CellList()
        self.gallery = Gallery(self.model, background, _LOOK)
        self.yes = push_button("", "One step; U takes it back", self._say_yes)
        self.yes.setObjectName("primary")
        self.others = push_button("Show others", "Another random 24 of them", self._draw)
        self.no = push_button("Leave it", "Nothing changes (Esc)", self.closed.emit)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 6, 0)
        for widget in (self.title, self.note, self.gallery):
            layout.addWidget(widget, 1 if widget is self.gallery else 0)
        row = QHBoxLayout()
        row.addWidget(self.others, 1)
        row.addWidget(self.no, 1)
        layout.addLayout(row)
        layout.addWidget(self.yes)

    def show_cells(self, session: Session, cells: NDArray[np.int64], verdict: str) -> None:
        """Ask about these cells."""
        self._session, self.cells, self._verdict, self._draws = session, cells, verdict, 0
        count = len(cells)
        what = f"{_WORDS[verdict]} {number_of(count, 'cell')}"
        self.title.setText(f"{what}?")
        self.note.setText(
            f"These are {SHOWN} of them, by chance. Hover says what is suspicious."
            if count > SHOWN
            else "These are all of them. Hover says what is suspicious."
        )
        self.yes.setText(what)
        self.others.setVisible(count > SHOWN)
        self._draw()

    def clear(self) -> None:
        """Hold nothing."""
        self._session = None
        self.model.show_cells(None, ())

    def _draw(self) -> None:
        chance = np.random.default_rng(self._draws)
        self._draws += 1
        shown = self.cells if len(self.cells) <= SHOWN else chance.choice(self.cells, SHOWN, replace=False)
        self.model.show_cells(self._session, shown)

    def _say_yes(self, *_: Any) -> None:
        self.decided.emit(self.cells, self._verdict)
