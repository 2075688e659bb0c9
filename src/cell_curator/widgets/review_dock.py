"""The Review dock: the most suspicious cells first; accept or reject them one key at a time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QItemSelectionModel, QModelIndex, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QLabel,
    QListView,
    QProgressBar,
    QSizePolicy,
    QToolButton,
)

from cell_curator.core.outliers import OutlierParameters
from cell_curator.core.recipe import Recipe
from cell_curator.widgets.controls import Choice, Fold, push_button
from cell_curator.widgets.dock import Connections, Dock
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.gallery import CELL_ROLE, CellDelegate, CellList

if TYPE_CHECKING:
    import pandas as pd

    from cell_curator.session import Session

_QUEUES = ("Suspicious cells", "All cells, worst first", "Rejected cells")
_NEXT = "→"


class ReviewDock(Dock):
    """A queue of cells with their reasons."""

    title = "Review"
    fills = True
    keys = (
        ("A", "accept the cell"),
        ("R", "reject the cell"),
        ("Right, Left", "next, previous cell"),
        ("U, Shift+U", "undo, redo"),
    )

    def build(self) -> None:
        """Queue, verdict buttons, progress."""
        self.queue = Choice(_QUEUES)
        self.queue.setToolTip("Which cells are listed")
        self.queue.changed.connect(self._fill)
        self.count = QLabel()
        self.count.setObjectName("quiet")
        top = QHBoxLayout()
        top.addWidget(self.queue, 1)
        top.addWidget(self.count)

        self.model = CellList(self.bench.background)
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setItemDelegate(CellDelegate(self.list))
        self.list.setUniformItemSizes(True)
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.list.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setMinimumHeight(190)
        self.list.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.list.selectionModel().currentChanged.connect(self._row_chosen)

        self.accept = push_button("✓ Accept", "This is a good cell (A)", partial(self._decide, "accepted"))
        self.reject = push_button("✗ Reject", "Leave this cell out of the map and the counts (R)", self._reject)
        self.next = push_button(f"Next {_NEXT}", "Go on without a verdict (Right)", partial(self.step, 1))
        self.undo = _tool("↶", partial(self._history, "undo"))
        self.redo = _tool("↷", partial(self._history, "redo"))
        verdicts = QHBoxLayout()
        verdicts.setSpacing(4)
        for widget in (self.accept, self.reject, self.next):
            verdicts.addWidget(widget, 1)
        verdicts.addWidget(self.undo)
        verdicts.addWidget(self.redo)

        self.bar = QProgressBar()
        self.bar.setFixedHeight(16)
        self.bar.setToolTip("Cells of this list that have a verdict")
        self.form = ParametersForm(OutlierParameters)
        self.more = Fold("What counts as suspicious", self.form)

        self.body.addLayout(top)
        self.body.addWidget(self.list, 1)
        self.body.addLayout(verdicts)
        self.body.addWidget(self.bar)
        self.body.addWidget(self.more)
        self.primary.setText("Look for suspicious cells")
        self.primary.setToolTip("Compare each cell with the others of its image and condition; nothing is deleted")
        for key, slot in (
            ("A", partial(self._decide, "accepted")),
            ("R", self._reject),
            ("Right", partial(self.step, 1)),
            ("Left", partial(self.step, -1)),
            ("U", partial(self._history, "undo")),
            ("Shift+U", partial(self._history, "redo")),
        ):
            self.add_key(key, slot)

    def act(self) -> None:
        """Score all cells."""
        session = self.session
        if session is None:
            return
        session.put(self.form.value())
        self.run("Looking for suspicious cells", session.score_outliers, self._scored)

    def opened(self, session: Session, links: Connections) -> None:
        """List the cells of this session and follow it."""
        self.form.set_value(session.get(OutlierParameters))
        links.add(session.events.cells_changed, self._cells_changed)
        links.add(session.events.parameters_changed, self._parameters_changed)
        links.add(session.selection.changed, self._follow_selection)
        links.add(session.history.changed, self._fit_history)
        self._fill()
        self._fit_history()

    def closed(self) -> None:
        """List nothing."""
        self.model.show_cells(None, ())

    def step(self, by: int) -> None:
        """Go to another cell of the list."""
        if not self.model.cell_ids:
            return
        row = self.list.currentIndex().row()
        self._go(min(max(row + by, 0), len(self.model.cell_ids) - 1))

    def _go(self, row: int) -> None:
        index = self.model.index(row)
        self.list.selectionModel().setCurrentIndex(index, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        self.list.scrollTo(index)

    def _reject(self, *_: Any) -> None:
        self._decide("rejected")

    def _decide(self, verdict: str, *_: Any) -> None:
        session, chosen = self.session, self.list.selectionModel().selectedIndexes()
        cells = [index.data(CELL_ROLE) for index in chosen]
        if session is None or not cells:
            return
        last = max(index.row() for index in chosen)
        self.guard(partial(session.set_verdict, cells, verdict))
        if last + 1 < len(self.model.cell_ids):
            self._go(last + 1)
        self._fit_progress()

    def _history(self, way: str, *_: Any) -> None:
        if self.session is not None:
            self.guard(getattr(self.session, way))

    def _fill(self, *_: Any) -> None:
        session = self.session
        if session is None:
            return
        rows = _listed(session.cells.frame, self.queue.value())
        self.model.show_cells(session, rows.index.tolist())
        self._fit_progress()

    def _scored(self, flagged: int) -> str:
        self.queue.set_value(_QUEUES[0])
        self._fill()
        if flagged:
            self._go(0)
        return f"{flagged} suspicious cells; the worst is first" if flagged else "No cell looks suspicious"

    def _row_chosen(self, current: QModelIndex, _previous: QModelIndex) -> None:
        cell = current.data(CELL_ROLE) if current.isValid() else None
        if cell is not None and self.bench.link is not None:
            self.bench.link.go_to(cell)

    def _follow_selection(self, ids: frozenset[int]) -> None:
        place = self.model.place_of(next(iter(ids))) if len(ids) == 1 else None
        if place is not None and place != self.list.currentIndex().row():
            selection = self.list.selectionModel()
            selection.blockSignals(True)
            selection.setCurrentIndex(self.model.index(place), QItemSelectionModel.SelectionFlag.ClearAndSelect)
            selection.blockSignals(False)
            self.list.viewport().update()
            self.list.scrollTo(self.model.index(place))

    def _cells_changed(self, ids: frozenset[int]) -> None:
        session = self.session
        if session is None:
            return
        known = self.model.cell_ids
        if not known or any(cell not in session.cells for cell in known):
            self._fill()
        else:
            self.model.refresh()
        self._fit_progress()

    def _parameters_changed(self, name: str) -> None:
        if name == Recipe.__name__:
            self.model.forget_pictures()

    def _fit_progress(self) -> None:
        session, listed = self.session, self.model.cell_ids
        if session is None:
            return
        table = session.cells.frame
        here = table.loc[[cell for cell in listed if cell in table.index], "verdict"]
        reviewed = int((here != "proposed").sum())
        self.bar.setRange(0, max(len(here), 1))
        self.bar.setValue(reviewed)
        self.bar.setFormat(f"{reviewed} of {len(here)} reviewed")
        rejected = int((table["verdict"] == "rejected").sum())
        self.count.setText(f"{rejected} rejected of {len(table)}")
        for button in (self.accept, self.reject, self.next):
            button.setEnabled(bool(listed))
        if not len(table):
            self.jobs.show_state("No cells yet: find cells in the Segment tab first")
        elif not listed and table["score"].isna().all():
            self.jobs.show_state("Not looked at yet: press the button above")

    def _fit_history(self) -> None:
        if self.session is None:
            return
        history = self.session.history
        for button, text, word, key in (
            (self.undo, history.undo_text, "Undo", "U"),
            (self.redo, history.redo_text, "Redo", "Shift+U"),
        ):
            button.setEnabled(bool(text))
            button.setToolTip(f"{word}: {text} ({key})" if text else f"Nothing to {word.lower()} ({key})")


def _listed(rows: pd.DataFrame, queue: str) -> pd.DataFrame:
    """The rows of a queue, worst first; equal ones in the order of their ids."""
    if queue == _QUEUES[0]:
        rows = rows[rows["flags"] != ""]
    elif queue == _QUEUES[2]:
        rows = rows[rows["verdict"] == "rejected"]
    return rows.iloc[np.argsort(-rows["score"].fillna(-1).to_numpy(), kind="stable")]


def _tool(text: str, slot: Any) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.clicked.connect(slot)
    return button
