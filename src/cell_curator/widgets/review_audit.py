"""Audit: a blind look at a random sample, and how many bad cells that leaves at most."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QApplication, QGridLayout, QHBoxLayout, QLabel, QProgressBar, QVBoxLayout, QWidget

from cell_curator import reviewing
from cell_curator.core.audit import needed
from cell_curator.widgets.controls import NumberEdit, push_button
from cell_curator.widgets.review_card import CellCard
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from cell_curator.session import Session

_SIDE = 220
_FEWEST, _MOST = 10, 2000


class AuditPage(QWidget):
    """Takes the place of queue and gallery while a sample is looked at; shows no score, reason or verdict."""

    closed = Signal()

    def __init__(self, bench: Workbench, guard: Callable[[Callable[[], Any]], Any]) -> None:
        super().__init__()
        self._bench, self._guard = bench, guard
        self._at: int | None = None
        self.heading = QLabel("Audit")
        self.heading.setObjectName("heading")
        self.what = QLabel(
            "Cells drawn by chance from those that count, evenly over conditions and images. Say of each whether it "
            "is good or bad; scores and verdicts are hidden, and your answers change no cell."
        )
        self.what.setWordWrap(True)
        self.what.setObjectName("quiet")
        self.card = CellCard(bench.background, blind=True, side=_SIDE)
        self.good = push_button("✓ Good", "A good cell (A)", partial(self.judge, False))
        self.bad = push_button(
            "✗ Bad", "Not a good cell: wrong mask, debris, several cells… (R)", partial(self.judge, True)
        )
        self.bar = QProgressBar()
        self.bar.setFixedHeight(16)
        self.bar.setToolTip("Cells of the sample that you have judged")
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setObjectName("section")
        self.more = QLabel()
        self.more.setWordWrap(True)
        self.copy = push_button("Copy the sentence", "Put the result into the clipboard, for a paper", self._copy)
        self._assemble()

    def _assemble(self) -> None:
        self.size = NumberEdit(int, minimum=_FEWEST, maximum=_MOST, step=10, unit="cells")
        self.size.set_value(100)
        self.size.setToolTip("How many cells are drawn")
        self.bound = NumberEdit(float, minimum=0.1, maximum=20, step=0.1, unit="%")
        self.bound.set_value(2.0)
        self.bound.setToolTip("The share of bad cells that you want to stay below, at 95 % confidence")
        self.bound.changed.connect(self._fit)
        self.begin = push_button("Draw a sample", "Draw cells by chance and look at the first", self._begin)
        self.leave = push_button("Back to the queue", "The answers are kept (Esc)", self.closed.emit)
        grid = QGridLayout()
        grid.addWidget(QLabel("Sample"), 0, 0)
        grid.addWidget(self.size, 0, 1)
        grid.addWidget(QLabel("Bad at most"), 1, 0)
        grid.addWidget(self.bound, 1, 1)
        grid.addWidget(self.begin, 2, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        row = QHBoxLayout()
        row.addWidget(self.good, 1)
        row.addWidget(self.bad, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 6, 0)
        layout.setSpacing(6)
        layout.addWidget(self.heading)
        layout.addWidget(self.what)
        layout.addLayout(grid)
        layout.addWidget(self.card)
        layout.addLayout(row)
        for widget in (self.bar, self.result, self.more, self.copy):
            layout.addWidget(widget)
        layout.addStretch(1)
        layout.addWidget(self.leave)

    # ------------------------------------------------------------------ what the dock calls

    @property
    def cell(self) -> int | None:
        """The cell that is judged now."""
        return self._at

    def open(self) -> None:
        """Go on where the audit was left."""
        self._next()

    def judge(self, bad: bool) -> None:
        """Say of the cell at hand whether it is bad, and go on."""
        session, cell = self._session, self._at
        if session is not None and cell is not None:
            self._guard(partial(reviewing.audit_verdict, session, cell, bad))
            self._next(cell)

    def step(self, by: int) -> None:
        """Go to another cell of the sample, e.g. back to correct an answer."""
        state = self._state
        if state is not None and state.cells:
            at = state.cells.index(self._at) if self._at in state.cells else len(state.cells)
            self._show(state.cells[min(max(at + by, 0), len(state.cells) - 1)])

    def refresh(self, cell: int | None = None) -> None:
        """Cells or answers changed; ``cell``: the one to look at now."""
        state = self._state
        if state is not None and cell in state.cells:
            self._show(cell)
        elif state is not None and self._at is not None and self._at not in state.cells:
            self._next()
        else:
            self._fit()

    # ------------------------------------------------------------------ inside

    @property
    def _session(self) -> Session | None:
        return self._bench.session

    @property
    def _state(self) -> reviewing.AuditState | None:
        return reviewing.audit(self._session, self.bound.value() / 100) if self._session is not None else None

    def _begin(self) -> None:
        session = self._session
        if session is not None:
            state = self._state
            seed = 0 if state is None else 1 + len(state.cells) + state.decided  # another sample than the last
            self._guard(partial(reviewing.start_audit, session, int(self.size.value()), seed))
            self._next()

    def _next(self, after: int | None = None) -> None:
        """The next cell without an answer; after the last, those that were passed over."""
        state = self._state
        if state is None:
            self._show(None)
            return
        start = state.cells.index(after) + 1 if after in state.cells else 0
        order = (*state.cells[start:], *state.cells[:start])
        self._show(next((cell for cell in order if cell not in state.verdicts), None))

    def _show(self, cell: int | None) -> None:
        self._at = cell
        self.card.show_cell(self._session, cell)
        if cell is not None and self._bench.link is not None:
            self._bench.link.go_to(cell)
        self._fit()

    def _fit(self, *_: Any) -> None:
        state = self._state
        begun = state is not None and bool(state.cells)
        for widget in (self.card, self.bar, self.result, self.more, self.copy, self.good, self.bad):
            widget.setVisible(begun)
        self.begin.setText("Draw another" if begun else "Draw a sample")
        if state is None or not begun:
            return
        self.card.setVisible(self._at is not None)
        for button in (self.good, self.bad):
            button.setEnabled(self._at is not None)
        said = state.verdicts.get(self._at) if self._at is not None else None
        self.good.setText("✓ Good (as said before)" if said is False else "✓ Good")
        self.bad.setText("✗ Bad (as said before)" if said else "✗ Bad")
        self.bar.setRange(0, len(state.cells))
        judged = state.decided
        self.bar.setValue(judged)
        self.bar.setFormat(f"{judged} of {len(state.cells)} judged")
        low, high = state.interval
        self.result.setText(
            f"{state.bad} of {judged} bad: {_percent(state.bad / judged)} "
            f"(95 % interval {_percent(low)} to {_percent(high)})"
            if judged
            else "Nothing judged yet"
        )
        self.more.setText(self._what_is_missing(state))
        self.copy.setText("Copy the sentence")
        self.copy.setEnabled(judged > 0)

    def _what_is_missing(self, state: reviewing.AuditState) -> str:
        """How far it is to the bound."""
        bound = self.bound.value() / 100
        more = needed(state.bad, state.decided, bound)
        if not more:
            return f"At most {_percent(bound)} of the cells are bad, at 95 % confidence."
        left = len(state.cells) - state.decided
        there = f"; {left} are left in this sample" if left < more else ""
        return f"For “at most {_percent(bound)} bad”: {more:,} more cells, if all of them are good{there}."

    def _copy(self) -> None:
        state = self._state
        if state is not None:
            QApplication.clipboard().setText(state.text)
            self.copy.setText("Copied")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
