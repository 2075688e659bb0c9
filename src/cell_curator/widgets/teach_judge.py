"""Step three of teaching: did it help? The rounds, which one is used, and two models side by side."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from cell_curator.comparing import Comparison, Disagreement, compare
from cell_curator.link.teaching import MODEL_COLORS, ModelOutlines
from cell_curator.round_table import sentence, table
from cell_curator.rounds import model_in_use, promote, roll_back, score_round
from cell_curator.widgets.controls import push_button
from cell_curator.widgets.teach_places import Place, PlacesList
from cell_curator.widgets.teach_plot import RoundsPlot
from cell_curator.widgets.teach_table import RoundsTable, row_in_words

if TYPE_CHECKING:
    from cell_curator.session import Session
    from cell_curator.widgets.dock import Connections, Dock

_AROUND_PX = 50.0  # what is shown round a disagreement, at least
_WITH_NEIGHBOURS = 2.0  # in sides of what differs
_SCORE_TIP = "Score the chosen round on what is locked away now: after a cancelled round, or when you locked more"


class Judging(QWidget):
    """The table of rounds with what can be done with the chosen one."""

    differ = Signal()
    """Differences of two models are listed now."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock = dock
        self._outlines: ModelOutlines | None = None
        self.said, self.about, self.legend = QLabel(), QLabel(), QLabel()
        self.about.setObjectName("quiet")
        for label in (self.said, self.about, self.legend):
            label.setWordWrap(True)
        self.table = RoundsTable()
        self.table.chosen.connect(self.fit)
        self.use = push_button("Use this model", "Find cells with the chosen model from now on", self._promote)
        self.back = push_button("Go back", "Use the model again that was used before", self._roll_back)
        self.compare = push_button(
            "Compare on this image", "The chosen and the used model's cells as outlines, and where they differ (T)",
            self._compare,
        )  # fmt: skip
        self.score = push_button("Score it", _SCORE_TIP, self._score)
        self.differences = PlacesList("Where the two models differ; click to go there (N, Shift+N)")
        self.enough = push_button("Show my cells again", "Take both models' outlines away", self.end_compare)
        self.plot = RoundsPlot(str(dock.bench.viewer.theme))
        self._lay_out()
        self.end_compare()

    def opened(self, session: Session, links: Connections) -> None:
        """Follow this session."""
        self._outlines = ModelOutlines(self._dock.bench.viewer)
        for signal in (session.events.rounds_changed, session.events.parameters_changed):
            links.add(signal, self.follow)
        links.add(session.events.current_changed, self.end_compare)
        self.follow()

    def closed(self) -> None:
        """Let go of the viewer."""
        self.end_compare()
        self._outlines = None

    def follow(self, *_: Any) -> None:
        """Show the rounds as they are now."""
        session = self._session
        if session is None:
            return
        rows = table(session)
        self.table.show_rows(rows)
        self.plot.show_rows(rows)
        self.said.setText(sentence(session))
        self.fit()

    def fit(self, *_: Any) -> None:
        """Offer what can be done with the chosen round now."""
        session, row, busy = self._session, self.table.row(), self._dock.bench.runner.busy
        rounds = session is not None and bool(session.rounds)
        for widget in (self.table, self.use, self.back, self.compare, self.score):
            widget.setVisible(rounds)
        self.about.setVisible(row is not None)
        self.about.setText("" if row is None else row_in_words(row))
        trained = row is not None and row.round_id > 0
        self.use.setEnabled(trained and row.usable and not row.in_use and not busy)
        self.back.setEnabled(rounds and not busy)
        self.score.setEnabled(trained and not busy)
        self.compare.setEnabled(self._pair() is not None and not busy)

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self.table.rounds.set_theme(theme)
        self.plot.set_theme(theme)

    def end_compare(self, *_: Any) -> None:
        """Take the models' outlines away, and show the user's own cells."""
        if self._outlines is not None:
            self._outlines.remove()
        self.legend.hide()
        self.enough.hide()
        self.differences.show_places(())

    # ------------------------------------------------------------------ parts

    def _lay_out(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        for row, parts in enumerate(
            (
                (self.said,),
                (self.table,),
                (self.about,),
                (self.use, self.back),
                (self.compare, self.score),
                (self.legend,),
                (self.differences,),
                (self.enough,),
                (self.plot,),
            )
        ):
            for column, part in enumerate(parts):
                grid.addWidget(part, row, column, 1, 2 // len(parts))
        grid.setColumnStretch(0, 1)
        grid.setColumnStretch(1, 1)

    @property
    def _session(self) -> Session | None:
        return self._dock.session

    def _pair(self) -> tuple[str, str] | None:
        """The model in use and the chosen one; if these are the same, the one it came from and it."""
        session, row = self._session, self.table.row()
        if session is None or row is None:
            return None
        used = model_in_use(session)
        if row.model != used:
            return used, row.model
        made = next((made for made in session.rounds if made.round_id == row.round_id), None)
        parent = "" if made is None else str(made.detail.get("parent", ""))
        return (parent, used) if parent and parent != used else None

    def _promote(self) -> None:
        session, row = self._session, self.table.row()
        if session is None or row is None:
            return
        self._dock.guard(partial(promote, session, row.round_id))
        if model_in_use(session) == row.model:
            self._dock.jobs.show_state(f"{row.title} finds cells from now on")

    def _roll_back(self) -> None:
        session = self._session
        title = self._dock.guard(partial(roll_back, session)) if session is not None else None
        if title is not None:
            self._dock.jobs.show_state(f"{title} finds cells again")

    def _score(self) -> None:
        session, row = self._session, self.table.row()
        if session is not None and row is not None:
            self._dock.run("Scoring", partial(score_round, session, row.round_id), lambda _: f"{row.title} is scored")

    def _compare(self) -> None:
        session, pair = self._session, self._pair()
        if session is None or pair is None or session.current_image is None:
            return
        self.end_compare()
        self._dock.run("Comparing", partial(compare, session, *pair, session.current_image), self._compared)

    def _compared(self, found: Comparison) -> str:
        link = self._dock.bench.link
        if link is None or self._outlines is None or link.labels.image_id != found.image_id:
            return "Another image is on screen by now; compare again"
        self._outlines.show((found.first, found.second), found.names, link.image.affine, link.labels.layer)
        counts = [len(set(masks[masks > 0].tolist())) for masks in (found.first, found.second)]
        self.legend.setText(
            " &nbsp; ".join(
                f'<span style="color: {color}">■</span>&nbsp;{name}: {count} cells'
                for color, name, count in zip(MODEL_COLORS, found.names, counts, strict=True)
            )
        )
        self.legend.show()
        self.enough.show()
        self.differences.show_places([_around(one) for one in found.queue])
        self.differ.emit()
        count = len(found.queue)
        return (
            f"{count} place{'s differ' if count != 1 else ' differs'}; N goes there"
            if count
            else "Both find the same cells"
        )


def _around(one: Disagreement) -> Place:
    """A disagreement with its neighbours."""
    half = max(_AROUND_PX, _WITH_NEIGHBOURS * math.sqrt(one.size))
    return Place(one.image_id, (one.y - half, one.x - half, one.y + half, one.x + half), one.text)
