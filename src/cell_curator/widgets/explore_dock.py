"""The Explore dock: learn a map of all cells, group it, and walk from points to cells."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.colors import cluster_color
from cell_curator.core.embedding import MapParameters
from cell_curator.core.patches import PatchParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.link.labels import EACH
from cell_curator.widgets.cell_looks import MEASUREMENTS
from cell_curator.widgets.controls import Choice, Fold, swatch
from cell_curator.widgets.dock import Connections, Dock
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.gallery_pictures import draw_cells
from cell_curator.widgets.images_model import to_pixmap
from cell_curator.widgets.legend import Legend, cluster_shares, scale_for, words_for
from cell_curator.widgets.loss_plot import LossPlot

if TYPE_CHECKING:
    from cell_curator.core.jobs import Progress
    from cell_curator.session import Session

_PICTURE = 92
_CONDITIONS_THAT_FIT = 3
_COLORINGS = {
    "cluster": "cluster",
    "condition": "condition",
    "image": "image",
    "verdict": "verdict",
    "suspicion": "score",
    **MEASUREMENTS,
}
_FORMS = (
    ("Pictures of the cells", PatchParameters),
    ("Groups", ClusterParameters),
    ("Map", MapParameters),
    ("Learning", VaeParameters),
)


class ExploreDock(Dock):
    """Map settings, live learning curve, colours, clusters against conditions, and the cell under the mouse."""

    title = "Explore"
    keys = (("Home", "back to the map, where you were before a click on a point"),)

    def build(self) -> None:
        """Results first, settings folded below them."""
        self.body.addWidget(self._build_colors())
        self.body.addWidget(self.legend)
        self.body.addLayout(self._build_picture())
        self.body.addWidget(self._build_table())
        self.scores = QLabel()
        self.scores.setObjectName("quiet")
        self.scores.setWordWrap(True)
        self.body.addWidget(self.scores)
        self.plot = LossPlot(self.bench.viewer)
        self.curve = Fold("Learning curve", self.plot)
        self.body.addWidget(self.curve)
        self.forms = [ParametersForm(model) for _, model in _FORMS]
        settings = QWidget()
        layout = QVBoxLayout(settings)
        layout.setContentsMargins(0, 0, 0, 0)
        for (title, _), form in zip(_FORMS, self.forms, strict=True):
            heading = QLabel(title)
            heading.setObjectName("project")
            layout.addWidget(heading)
            layout.addWidget(form)
        self.settings = Fold("Settings of the map", settings)
        self.body.addWidget(self.settings)
        self.again = QPushButton("Group again")
        self.again.setToolTip("Keep the map and make new clusters with the settings under “Groups”")
        self.again.clicked.connect(partial(self.guard, self._regroup))
        self.body.addWidget(self.again)
        self.primary.setText("Make the map")
        self.primary.setToolTip("Learn what the cells look like, draw the map and find clusters")
        self.add_key("Home", self._back)
        self.bench.runner.progressed.connect(self._progressed)
        self.bench.runner.started.connect(self._fit_again)
        self.bench.runner.ended.connect(self._fit_again)

    def act(self) -> None:
        """Learn, draw and group."""
        session = self.session
        if session is None:
            return
        self._put()
        self.plot.clear()
        self.run("Making the map", session.embed, self._mapped)

    def opened(self, session: Session, links: Connections) -> None:
        """Show this session's map and settings."""
        for form, (_, model) in zip(self.forms, _FORMS, strict=True):
            form.set_value(session.get(model))
        links.add(session.events.embedding_changed, self._refresh)
        links.add(session.events.cells_changed, self._refresh)
        links.add(session.selection.changed, self._selected)
        if self.bench.link is not None:
            links.add(self.bench.link.hovered, self._show_cell)
        self.plot.clear()
        self._refresh()
        self._show_cell(None)

    def _build_colors(self) -> QWidget:
        self.coloring = Choice(list(_COLORINGS))
        self.coloring.setToolTip("What the colour of a point means")
        self.coloring.changed.connect(self._recolor)
        self.both = QCheckBox("also in the image")
        self.both.setToolTip("Give the cells in the image the colours of their points")
        self.both.toggled.connect(self._recolor)
        self.legend = Legend()
        self.colors = QWidget()
        row = QHBoxLayout(self.colors)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Colour by"))
        row.addWidget(self.coloring, 1)
        row.addWidget(self.both)
        return self.colors

    def _build_picture(self) -> QHBoxLayout:
        self.picture = QLabel()
        self.picture.setObjectName("picture")
        self.picture.setFixedSize(_PICTURE + 2, _PICTURE + 2)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.back = QPushButton("Back to the map")
        self.back.setToolTip("Return to where you were before the click on a point (Home)")
        self.back.clicked.connect(self._back)
        side = QVBoxLayout()
        side.addWidget(self.about, 1)
        side.addWidget(self.back)
        row = QHBoxLayout()
        row.addWidget(self.picture)
        row.addLayout(side, 1)
        return row

    def _build_table(self) -> QTableWidget:
        self.table = QTableWidget()
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setShowGrid(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(24)
        self.table.setToolTip("Of each cluster: its cells, and how they share the conditions. Click a row to select it")
        self.table.cellClicked.connect(self._row_clicked)
        return self.table

    def _put(self) -> None:
        for form in self.forms:
            self.session.put(form.value())  # type: ignore[union-attr]

    def _regroup(self) -> None:
        session = self.session
        if session is not None:
            self._put()
            self.run("Grouping the cells", session.recluster, self._mapped)

    def _mapped(self, report: Any) -> str:
        notes = f". {'; '.join(report.notes)}" if report.notes else ""
        return f"{report.cells} cells on the map in {report.clusters} clusters{notes}"

    def _progressed(self, progress: Progress) -> None:
        if self.plot.take(progress.payload):
            self.curve.set_open(True)

    def _refresh(self, *_: Any) -> None:
        session = self.session
        if session is None:
            return
        embedding = session.embedding
        there = embedding is not None
        for widget in (self.table, self.scores, self.again, self.colors, self.legend, self.back, self.picture):
            widget.setVisible(there)
        if embedding is None:
            self.about.setText(
                "No map yet. “Make the map” learns what the cells look like and puts each of them on a map, "
                "where cells that look alike lie close together."
                if len(session.cells)
                else "No cells yet: find cells in the Segment tab first."
            )
            return
        self._fill_table()
        self._fill_legend()
        self._show_cell(None)
        stale = len(session.stale_cells() & frozenset(session.counting_cells().index))
        self.scores.setText(_scores_text(embedding.clustering, embedding.scores, stale))

    def _fill_table(self) -> None:
        session = self.session
        if session is None or session.embedding is None:
            return
        shares, names = cluster_shares(session.cells.frame), session.embedding.cluster_names
        conditions = [name for name in shares.columns if name != "cells"]
        self.table.setColumnCount(2 + len(conditions))
        self.table.setHorizontalHeaderLabels(
            ["Cluster", "Cells", *(f"% {name}" if name else "%" for name in conditions)]
        )
        self.table.setRowCount(len(shares))
        for row, (number, values) in enumerate(shares.iterrows()):
            cluster = int(number)  # type: ignore[call-overload]
            word = names.get(cluster, f"Cluster {cluster + 1}") if cluster >= 0 else "in none"
            first = QTableWidgetItem(swatch(cluster_color(cluster)), word)
            first.setData(Qt.ItemDataRole.UserRole, cluster)
            self.table.setItem(row, 0, first)
            for column, text in enumerate([str(int(values["cells"])), *(f"{values[c]:.0f}" for c in conditions)], 1):
                item = QTableWidgetItem(text)
                item.setTextAlignment(int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter))
                self.table.setItem(row, column, item)
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        rows = min(max(len(shares), 2), 8)
        # More conditions than the dock is wide for bring a scroll bar, which must not cover the last row.
        bar = self.table.horizontalScrollBar().sizeHint().height() if len(conditions) > _CONDITIONS_THAT_FIT else 0
        self.table.setFixedHeight(rows * 24 + header.sizeHint().height() + bar + 6)

    def _fill_legend(self) -> None:
        session, by = self.session, _COLORINGS[self.coloring.value()]
        if session is None:
            return
        frame = session.cells.frame
        words = words_for(frame, by, {record.image_id: record.name for record in session.images})
        if words is None:
            self.legend.show_scale(scale_for(frame, by))
        else:
            self.legend.show_words(words)

    def _recolor(self, *_: Any) -> None:
        by, link = _COLORINGS[self.coloring.value()], self.bench.link
        if link is None:
            return
        link.color_points(by)
        link.color_cells(by if self.both.isChecked() else EACH)
        self._fill_legend()

    def _row_clicked(self, row: int, _column: int) -> None:
        item = self.table.item(row, 0)
        if self.session is not None and item is not None:
            frame = self.session.cells.frame
            self.session.selection.set(frame.index[frame["cluster"] == item.data(Qt.ItemDataRole.UserRole)])

    def _selected(self, ids: frozenset[int]) -> None:
        if len(ids) == 1:
            self._show_cell(next(iter(ids)))

    def _show_cell(self, cell: int | None) -> None:
        session = self.session
        if session is None or session.embedding is None:
            return
        if cell is None and len(session.selection.ids) == 1:
            cell = next(iter(session.selection.ids))
        if cell is None or cell not in session.cells:
            self.picture.clear()
            self.about.setText("Move over a point or a cell to see it here; click to go to it.")
            return
        row = session.row(cell)
        image = session.image(int(row["image"]))
        cluster = int(row["cluster"])
        name = session.embedding.cluster_names.get(cluster, f"Cluster {cluster + 1}") if cluster >= 0 else "no cluster"
        self.about.setText(f"<b>Cell {cell}</b> · {row['verdict']}<br>{image.name}<br>{name} · {row['area']:.0f} px²")
        self.bench.background(
            partial(draw_cells, session, image.image_id, [cell], _PICTURE), self._picture_made, topic="hover"
        )

    def _picture_made(self, pictures: dict[tuple[int, int], Any]) -> None:
        for picture in pictures.values():
            self.picture.setPixmap(to_pixmap(picture))

    def _back(self) -> None:
        if self.bench.link is not None:
            self.bench.link.back()

    def _fit_again(self, *_: Any) -> None:
        self.again.setEnabled(not self.bench.runner.busy)


def _scores_text(clustering: Any, scores: dict[str, float | None], stale: int) -> str:
    """How well the clusters are separated, with the space the figures were taken in."""
    space = "learned features" if clustering.get("space") == "latent" else "the two map coordinates"
    parts = [
        f"{title} {scores[name]:.2f}"
        for name, title in (("silhouette", "silhouette"), ("davies_bouldin", "Davies–Bouldin"))
        if scores.get(name) is not None
    ]
    if scores.get("calinski_harabasz") is not None:
        parts.append(f"Calinski–Harabasz {scores['calinski_harabasz']:.0f}")
    text = f"Separation of the clusters, measured on {space}: {', '.join(parts) or 'not defined'}."
    if not stale:
        return text
    return f"{text} {stale} {'cell is' if stale == 1 else 'cells are'} new or changed since the map was made."
