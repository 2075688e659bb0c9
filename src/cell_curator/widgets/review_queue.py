"""The page of the Review dock on which cells are decided on: list, gallery, the cell at hand, what can be done."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from cell_curator.core.clean import CleanParameters
from cell_curator.core.outliers import OutlierParameters
from cell_curator.widgets.controls import Fold, push_button, stacked
from cell_curator.widgets.dock import line
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.gallery import CellList, Gallery
from cell_curator.widgets.review_bulk import BulkRow
from cell_curator.widgets.review_card import CellCard
from cell_curator.widgets.review_filter import FilterBar
from cell_curator.widgets.review_funnel import FunnelBars
from cell_curator.widgets.review_images import DoubtfulImages
from cell_curator.widgets.review_look import LookBar
from cell_curator.widgets.review_taught import TaughtFold
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from cell_curator.session import Session

ACTIONS = (
    ("accept", "✓ Accept", "A", "This is a good cell"),
    ("reject", "✗ Reject", "R", "Leave this cell out of the map and the counts"),
    ("split", "Split", "S", "Draw a line across the cell: it becomes two"),
    ("merge", "Merge", "M", "One with the neighbour it touches most; or the chosen cells become one"),
    ("again", "Find again", "G", "Look for cells here again, with the settings of Segment"),
    ("next", "Next →", "Space", "Go on without a verdict"),
    ("undo", "↶ Undo", "U", ""),
    ("redo", "↷ Redo", "Shift+U", ""),
)
"""Name, words on the button, key, and what it does."""

_COLUMNS = 4
_CARD_PX = 108


class QueuePage(QWidget):
    """Shows what the dock lists; what is pressed is told by signals."""

    acted = Signal(str)
    """The name of one of `ACTIONS`."""
    large_asked = Signal(bool)

    def __init__(self, model: CellList, bench: Workbench, run: Callable[..., None]) -> None:
        super().__init__()
        self.model, background = model, bench.background
        self.filter = FilterBar()
        self.gallery = Gallery(model, background)
        self.look = LookBar(self.gallery)
        self.large = QToolButton()
        self.large.setText("⤢ Large")
        self.large.setCheckable(True)
        self.large.setToolTip("The gallery in large, as a window of its own (L)")
        self.large.clicked.connect(self.large_asked)
        self.filter.sorting.addWidget(self.large)
        self.card = CellCard(background, side=_CARD_PX)
        self.bar = QProgressBar()
        self.bar.setFixedHeight(16)
        self.bar.setToolTip("Cells of this list that were decided on, corrected or taken away")
        self.funnel = FunnelBars()
        self.audit = QPushButton("Audit…")
        self.audit.setToolTip("How many bad cells are left? A blind look at some, with an exact answer")
        self.bulk = BulkRow()
        self.form = ParametersForm(OutlierParameters)
        self.counting = ParametersForm(CleanParameters)
        self.some = Fold("Filter and pictures", stacked(self.filter.more, self.look))
        self.many = Fold("Many at once", self.bulk)
        self.more = Fold("What is suspicious, and what counts", stacked(self.form, line(), self.counting))
        self.taught = TaughtFold()
        self.images = DoubtfulImages(bench, run)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        for part in (self.filter, self.some, self.gallery, self.card, self._build_buttons()):
            layout.addWidget(part, 1 if part is self.gallery else 0)
        row = QHBoxLayout()
        row.addWidget(self.bar, 1)
        row.addWidget(self.audit)
        layout.addLayout(row)
        for part in (self.funnel, self.many, self.taught, self.images, self.more):
            layout.addWidget(part)
        self._opened: Fold | None = None
        for fold in (self.some, self.many, self.taught, self.images, self.more):
            fold.toggled.connect(partial(self._fold_toggled, fold))

    def _build_buttons(self) -> QWidget:
        self.buttons: dict[str, QPushButton] = {}
        made = QWidget()
        grid = QGridLayout(made)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        for index, (name, title, key, tip) in enumerate(ACTIONS):
            self.buttons[name] = push_button(title, f"{tip} ({key})", partial(self.acted.emit, name))
            grid.addWidget(self.buttons[name], index // _COLUMNS, index % _COLUMNS)
        return made

    def _fold_toggled(self, fold: Fold, opened: bool) -> None:
        """What is opened at the lower end comes into view once it has its place."""
        self._opened = fold if opened else None
        QTimer.singleShot(0, self._reveal)

    def _reveal(self) -> None:
        area = self.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        if area is not None and self._opened is not None:
            area.ensureWidgetVisible(self._opened.content)

    def fit_card(self, session: Session) -> None:
        """Show the chosen cell, or else the current one of the list."""
        chosen = session.selection.ids
        self.card.show_cell(session, next(iter(chosen)) if len(chosen) == 1 else self.model.current)
        if len(chosen) > 1:
            self.card.show_cell(None, None)
            self.card.text.setText(f"<b>{len(chosen):,} cells are chosen</b><br>A, R and M are for all of them")

    def fit_progress(self, session: Session, listed: int) -> str:
        """Show how many of the ``listed`` cells are done with; returns what to do first, if there is nothing yet."""
        done = listed - int((~self.model.decided()).sum())
        self.bar.setRange(0, max(listed, 1))
        self.bar.setValue(done)
        self.bar.setFormat(f"{done:,} of {listed:,} reviewed")
        table = session.cells.frame
        known = len(table) > 0 and not table["score"].isna().all()
        self.filter.set_enabled_reasons(known, "Press “Look for suspicious cells” first")
        self.funnel.setVisible(len(table) > 0)
        if not len(table):
            return "No cells yet: find cells in the Segment tab first"
        return "" if listed or known else "Not looked at yet: press the button below"

    def fit_history(self, session: Session) -> None:
        """Say what can be taken back."""
        history = session.history
        for name, text, key in (("undo", history.undo_text, "U"), ("redo", history.redo_text, "Shift+U")):
            button = self.buttons[name]
            button.setEnabled(bool(text))
            button.setToolTip(f"{name.title()}: {text} ({key})" if text else f"Nothing to {name} ({key})")
