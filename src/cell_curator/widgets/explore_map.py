"""The page of the Explore dock on which one walks on the map: colours, clusters, the lasso, the cell at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from cell_curator.core.cell_types import CellTypes
from cell_curator.link.colors import TYPE
from cell_curator.link.labels import EACH
from cell_curator.widgets.cell_looks import MEASUREMENTS
from cell_curator.widgets.controls import Choice, push_button
from cell_curator.widgets.explore_card import HoverCard
from cell_curator.widgets.explore_clusters import ClusterTable
from cell_curator.widgets.legend import Legend, scale_for, words_for
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from cell_curator.session import Session

COLORINGS = {
    "cluster": "cluster",
    "condition": "condition",
    "image": "image",
    "verdict": "verdict",
    "type": TYPE,
    "time of correction": "corrected",
    "suspicion": "score",
    "how badly it is drawn": "map_error",
    "how far from others": "map_isolation",
    **{name: column for name, column in MEASUREMENTS.items() if column not in ("map_error", "map_isolation")},
}


class MapPage(QWidget):
    """Acts on the map of the bench; what concerns other docks or jobs is told by signals."""

    gallery_asked = Signal(int)
    review_asked = Signal()
    refresh_asked = Signal()
    own_window_asked = Signal(bool)

    def __init__(self, bench: Workbench, back: Callable[[], Any]) -> None:
        super().__init__()
        self._bench = bench
        self.legend, self.clusters = Legend(), ClusterTable()
        self.card = HoverCard(bench.background, back)
        self.hint = QLabel()
        self.hint.setWordWrap(True)
        self.colors, self.actions = self._build_colors(), self._build_actions()
        self.stale = QLabel()
        self.stale.setWordWrap(True)
        self.refresh = push_button(
            "Update the map (F5)",
            "Look again at the cells that changed or are new, with the network of this map; all others stay where they "
            "are, and lines show which went where (F5)",
            self.refresh_asked.emit,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (
            self.hint,
            self.colors,
            self.legend,
            self.clusters,
            self.actions,
            self.stale,
            self.refresh,
            self.card,
        ):
            layout.addWidget(part)
        self.clusters.chosen.connect(self._choose_cluster)
        self.clusters.opened.connect(self.gallery_asked)

    def _build_colors(self) -> QWidget:
        self.coloring = Choice(list(COLORINGS))
        self.coloring.setToolTip("What the colour of a point means")
        self.coloring.changed.connect(self.recolor)
        self.both = QCheckBox("also in the image")
        self.both.setToolTip("Give the cells in the image the colours of their points")
        self.both.toggled.connect(self.recolor)
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Colour by"))
        row.addWidget(self.coloring, 1)
        row.addWidget(self.both)
        return made

    def _build_actions(self) -> QWidget:
        self.lasso = QPushButton("Lasso")
        self.lasso.setCheckable(True)
        self.lasso.setToolTip(
            "Draw round points of the map, or cells in the image, to choose them; Shift adds, Ctrl takes away (Shift+L)"
        )
        self.lasso.toggled.connect(self._switch_lasso)
        self.gallery = push_button(
            "Gallery", "Look at the cells of the chosen cluster in Review (Shift+G)", self.ask_gallery
        )
        self.review = push_button(
            "Check in Review",
            "Put the chosen cells into Review's queue, to mend or reject them (Shift+R)",
            self.review_asked.emit,
        )
        self.own = QPushButton("Own window")
        self.own.setCheckable(True)
        self.own.setToolTip("The map in a window of its own, or beside the image (F6)")
        self.own.clicked.connect(self.own_window_asked)
        made = QWidget()
        grid = QGridLayout(made)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        for index, button in enumerate((self.lasso, self.own, self.gallery, self.review)):
            grid.addWidget(button, index // 2, index % 2)
        return made

    # ------------------------------------------------------------------ what is shown

    def show_session(self, session: Session) -> None:
        """Show this session's map, or what to do first."""
        embedding = session.embedding
        there = embedding is not None
        for widget in (self.clusters, self.colors, self.legend, self.card, self.actions):
            widget.setVisible(there)
        self.hint.setVisible(not there)
        link = self._bench.link
        if not there and link is not None and link.points.is_preview:
            self.show_forming(session)
            return
        self.hint.setText(
            "No map yet. “Make the map” learns what the cells look like and puts each of them on a map, "
            "where cells that look alike lie close together."
            if len(session.cells)
            else "No cells yet: find cells in the Segment tab first."
        )
        if embedding is not None:
            self.clusters.fill(session.cells, embedding)
            self.fill_legend(session)
            self.card.show_cell(session, None)

    def show_forming(self, session: Session) -> None:
        """A map is seen that is not finished."""
        by = "colour: condition" if len(session.cells.coded("condition")[1]) > 1 else "one dot a cell"
        self.hint.setText(f"<b>The map as it forms</b>, of some of the cells ({by}).")
        self.hint.show()
        if session.embedding is None:
            self.fill_legend(session)
            self.legend.show()

    def fit_stale(self, session: Session, *, busy: bool) -> None:
        """Say how many cells the map does not know as they are."""
        stale = len(session.stale_ids()) if session.embedding else 0
        self.stale.setVisible(stale > 0)
        self.refresh.setVisible(stale > 0)
        self.refresh.setEnabled(not busy)
        self.stale.setText(
            f"{stale:,} {'cell is' if stale == 1 else 'cells are'} new or changed since the map was made."
        )

    def fill_legend(self, session: Session) -> None:
        """Words or a scale for the present colouring."""
        by, frame = COLORINGS[self.coloring.value()], session.cells.frame
        # The table says which cluster is which; the bars in it need the conditions.
        shown = "condition" if by == "cluster" and len(session.cells.coded("condition")[1]) > 1 else by
        names = {record.image_id: record.name for record in session.images}
        words = words_for(session.cells, shown, names, session.get(CellTypes))
        if words is not None:
            self.legend.show_words(words)
        elif by == "corrected":
            times = frame["corrected"].to_numpy(np.float64)
            self.legend.show_times(times)
        else:
            self.legend.show_scale(scale_for(frame, by))

    def recolor(self, *_: Any) -> None:
        """Bring map, image and legend into line with the choice."""
        by, link = COLORINGS[self.coloring.value()], self._bench.link
        if link is None or self._bench.session is None:
            return
        link.color_points(by)
        link.color_cells(by if self.both.isChecked() else EACH)
        self.fill_legend(self._bench.session)

    def follow_selection(self, session: Session) -> None:
        """Cells were chosen here or elsewhere."""
        self.card.show_cell(session, None)
        number = self.clusters.number
        if number is not None and session.selection.ids != self._cells_of(session, number):
            self.clusters.choose(None)

    # ------------------------------------------------------------------ what is done

    def ask_gallery(self) -> None:
        """The gallery of the chosen cluster."""
        if self.clusters.number is not None:
            self.gallery_asked.emit(self.clusters.number)

    def _switch_lasso(self, on: bool) -> None:
        if self._bench.link is None:
            return
        if on and self._bench.tools is not None:
            self._bench.tools.mode = "pick"
        self._bench.link.lasso.on = on

    def _choose_cluster(self, number: int) -> None:
        session = self._bench.session
        if session is not None:
            session.selection.set(self._cells_of(session, number))

    @staticmethod
    def _cells_of(session: Session, number: int) -> frozenset[int]:
        frame = session.cells.frame
        inside = (frame["cluster"] == number) & (frame["verdict"] != "rejected")
        return frozenset(frame.index[inside].tolist())
