"""What a person's own verdicts teach: how well it would tell good cells from bad, and a list in that order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from cell_curator.core.clean import DECIDED
from cell_curator.core.verdict_model import FEWEST, FEWEST_OF_A_KIND
from cell_curator.widgets.controls import Fold, push_button

if TYPE_CHECKING:
    from cell_curator.session import Session


class TaughtFold(Fold):
    """Says how many verdicts there are and, once learned from, how good it is."""

    asked = Signal()
    """Learn from the verdicts, and list the cells by what was learned."""

    def __init__(self) -> None:
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setObjectName("quiet")
        self.learn = push_button(
            "",
            "The cells that nobody decided on, those first that are like the ones you rejected",
            lambda: self.asked.emit(),
        )
        self._learned = ""
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.text)
        layout.addWidget(self.learn)
        super().__init__("What your verdicts teach", content)

    def show_session(self, session: Session) -> None:
        """Follow the verdicts."""
        bad = int(session.cells.where("verdict", "rejected").sum())
        good = sum(int(session.cells.where("verdict", verdict).sum()) for verdict in DECIDED)
        enough = bad + good >= FEWEST and min(bad, good) >= FEWEST_OF_A_KIND
        self.learn.setEnabled(enough)
        self.learn.setText(f"Rank by your {bad + good:,} verdicts")
        missing = (
            f"{bad + good} verdicts so far, {bad} of them “reject”. From {FEWEST} on, with {FEWEST_OF_A_KIND} of each "
            "kind, the rest can be ranked by what you rejected."
        )
        self.text.setText(self._learned or (missing if not enough else "Not learned from yet."))

    def show_learned(self, text: str) -> None:
        """Say how good what was learned is; empty forgets it."""
        self._learned = text
        self.text.setText(text)
