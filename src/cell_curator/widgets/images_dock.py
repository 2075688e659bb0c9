"""The Images dock: open a project, see its images, name their conditions, go from one to the next."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QItemSelectionModel, QModelIndex, QSize, Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QTableView,
)

from cell_curator.core.words import number_of
from cell_curator.widgets.controls import Fold
from cell_curator.widgets.dock import Connections, Dock, choose_folder
from cell_curator.widgets.exchange_panel import ExchangePanel
from cell_curator.widgets.images_missing import MissingImages
from cell_curator.widgets.images_model import ImagesModel

if TYPE_CHECKING:
    from cell_curator.session import Session

_THUMB = 40


class ImagesDock(Dock):
    """All images of the project in a table, and the ways to open one."""

    title = "Images"
    fills = True
    keys = (("Ctrl+Shift+O", "open a folder of images or a project"),)

    def build(self) -> None:
        """Table, what is known of the image on screen, and a line for a path."""
        self.setAcceptDrops(True)
        self.model = ImagesModel(self.bench.background)
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.table.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked | QAbstractItemView.EditTrigger.EditKeyPressed
        )
        self.table.setIconSize(QSize(_THUMB, _THUMB))
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(_THUMB + 6)
        columns = self.table.horizontalHeader()
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        columns.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for column, width in ((1, 84), (2, 46), (3, 80)):
            columns.resizeSection(column, width)
        columns.setMinimumSectionSize(40)
        self.table.setMinimumHeight(220)
        self.table.selectionModel().currentRowChanged.connect(self._row_chosen)
        self.model.condition_edited.connect(self._set_condition)

        self.facts = QLabel()
        self.facts.setObjectName("quiet")
        self.facts.setWordWrap(True)

        self.add = QPushButton("Add images…")
        self.add.setToolTip("Add another folder of images to this project")
        self.add.clicked.connect(self._add)
        self.remove = QPushButton("Remove…")
        self.remove.setToolTip("Take the chosen images and their cells out of the project; the files stay")
        self.remove.clicked.connect(self._remove)
        self.other = QPushButton("Open another…")
        self.other.setToolTip("Open another folder of images or project (Ctrl+Shift+O)")
        self.other.clicked.connect(self._open)
        buttons = QHBoxLayout()
        buttons.addWidget(self.add)
        buttons.addWidget(self.remove)
        buttons.addWidget(self.other)

        self.path = QLineEdit()
        self.path.setPlaceholderText("…or type the path of a folder and press Enter")
        self.path.setToolTip("A folder of images or a project (NAME.curator). You can also drop a folder on this dock.")
        self.path.returnPressed.connect(self._open_typed)
        self._pages.widget(0).layout().insertWidget(4, self.path)

        self.missing = MissingImages(self.bench, self.run)
        self.body.addWidget(self.missing)
        self.body.addWidget(self.table, 1)
        self.body.addWidget(self.facts)
        self.body.addLayout(buttons)
        self.exchange = ExchangePanel(self.bench, self.run, self.jobs.show_error)
        self.body.addWidget(Fold("Exchange with other programs", self.exchange))
        self.primary.setText("Run all steps on all images")
        self.primary.setToolTip(
            "Prepare every image, find the cells, mark the suspicious ones and make the map, with the settings "
            "of the other tabs"
        )
        self.add_key("Ctrl+Shift+O", self._open)

    def act(self) -> None:
        """Run the whole line."""
        session = self.session
        if session is not None:
            self.run("Running all steps", session.run, self._ran)

    def opened(self, session: Session, links: Connections) -> None:
        """Fill the table and follow the session."""
        self.model.show_session(session)
        self.missing.look()
        links.add(session.events.images_changed, self.missing.look)
        links.add(session.events.images_changed, self._refresh)
        links.add(session.events.cells_changed, self._refresh)
        links.add(session.events.current_changed, self._follow)
        self._follow(session.current_image)

    def _remove(self) -> None:
        session = self.session
        ids = self.model.image_ids(index.row() for index in self.table.selectionModel().selectedRows())
        if session is None or not ids:
            self.jobs.show_state("Choose images in the table first")
            return
        cells = int(session.cells.frame["image"].isin(ids).sum())
        question = (
            f"Take {number_of(len(ids), 'image')} and {number_of(cells, 'cell')} out of the project?"
            " This cannot be undone; the image files stay where they are."
        )
        yes = QMessageBox.StandardButton.Yes
        if QMessageBox.question(self, "Remove images", question) == yes:
            self.guard(partial(session.remove_images, ids))

    def closed(self) -> None:
        """Empty the table."""
        self.model.show_session(None)
        self.missing.show_missing(None)
        self.facts.setText("")

    def dragEnterEvent(self, event: Any) -> None:  # noqa: N802
        """Take folders and files."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:  # noqa: N802
        """Open what was dropped."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.open_path(paths[0])

    def open_path(self, path: Path | str) -> None:
        """Open a folder of images or a project; what is wrong with it stands in the dock."""
        self.guard(partial(self.bench.open, path, owner=self))

    def _ran(self, report: Any) -> str:
        cells = len(self.session.cells) if self.session is not None else 0
        failed = len(report.segmented.failed)
        if report.map is None:
            self.jobs.show_error("; ".join(report.notes))
        done = report.segmented
        text = f"{cells} cells in {done.done + done.kept} images, {report.flagged} suspicious"
        text += f"; {done.kept} images were done already" if done.kept else ""
        return text + (f"; {failed} images failed" if failed else "")

    def _open(self) -> None:
        folder = choose_folder(self, "Open a folder of images or a project")
        if folder is not None:
            self.open_path(folder)

    def _open_typed(self) -> None:
        if self.path.text().strip():
            self.open_path(self.path.text().strip())

    def _add(self) -> None:
        folder = choose_folder(self, "Add a folder of images")
        if folder is not None:
            self.guard(partial(self.bench.add_images, folder, owner=self))

    def _refresh(self, *_: Any) -> None:
        self.model.refresh()
        if self.session is not None:
            self._follow(self.session.current_image)

    def _follow(self, image_id: int | None) -> None:
        row = self.model.row_of(image_id)
        if row is None or image_id is None or self.session is None:
            return
        self.model.show_plane(image_id)
        if row != self.table.currentIndex().row():
            flags = QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Rows
            self.table.selectionModel().blockSignals(True)
            self.table.selectionModel().setCurrentIndex(self.model.index(row, 0), flags)
            self.table.selectionModel().blockSignals(False)
            self.table.viewport().update()
            self.table.scrollTo(self.model.index(row, 0))
        self.facts.setText(self.model.facts(row))

    def _row_chosen(self, current: QModelIndex, _previous: QModelIndex) -> None:
        if self.session is not None and current.isValid():
            self.session.show_image(self.model.image_id(current.row()))

    def _set_condition(self, rows: list[int], condition: str) -> None:
        if self.session is None:
            return
        chosen = {index.row() for index in self.table.selectionModel().selectedRows()}
        targets = chosen if set(rows) <= chosen else set(rows)
        self.guard(partial(self.session.set_condition, self.model.image_ids(targets), condition))
