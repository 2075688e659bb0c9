"""The Batch dock: all images of the project worked on overnight, many at once, and what became of each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QModelIndex
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QTableView,
    QWidget,
)

from cell_curator.core.jobs import ItemState, Job, Progress
from cell_curator.core.words import number_of
from cell_curator.engines.cluster import Manpower, cores, workers_here
from cell_curator.widgets.batch_model import BatchModel
from cell_curator.widgets.controls import Fold
from cell_curator.widgets.dock import Connections, Dock
from cell_curator.workflow import by_crew, pieces_left, search_left

if TYPE_CHECKING:
    from cell_curator.session import Session

_CELLS, _ALL = "Find cells", "Find cells, score them, make the map"


class BatchDock(Dock):
    """A table of all images with the state of each, and what is to be done with them by how many workers."""

    title = "Batch"
    fills = True

    def build(self) -> None:
        """What to do, by whom, and the table."""
        self.step = QComboBox()
        self.step.addItems([_CELLS, _ALL])
        self.step.setToolTip("With the settings of the other tabs. Cells that you accepted or edited stay")
        self.again = QCheckBox("Also what is done already")
        self.again.setToolTip(
            "Else only images are worked on that are new, or whose file, recipe, model or settings changed"
        )
        self.workers = QSpinBox()
        self.workers.setRange(0, cores())
        self.workers.setSpecialValueText("as many as fit")
        self.workers.setToolTip(
            "How many images are worked on at once, each in a process of its own. They stand back for the window, "
            "but each takes a core, and memory for a network"
        )
        self.scheduler = QLineEdit()
        self.scheduler.setPlaceholderText("tcp://host:8786")
        self.scheduler.setToolTip("Address of a Dask cluster that does the work; empty: this computer")
        self.scheduler.textChanged.connect(lambda text: self.workers.setEnabled(not text.strip()))
        self.model = BatchModel(str(self.bench.viewer.theme))
        self.table = QTableView()
        self.table.setModel(self.model)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(24)
        columns = self.table.horizontalHeader()
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        columns.setStretchLastSection(True)
        columns.resizeSection(0, 128)
        columns.resizeSection(1, 84)
        self.table.setMinimumHeight(220)
        self.table.doubleClicked.connect(self._go_to)
        self.table.setToolTip("Double-click an image to see it")
        self.counts = QLabel()
        self.counts.setObjectName("quiet")
        self.counts.setWordWrap(True)
        self.retry = QPushButton("Retry failed")
        self.retry.setToolTip("Find the cells of the images that failed, now that the reason is mended")
        self.retry.clicked.connect(self._retry)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Do", self.step)
        form.addRow("", self.again)
        form.addRow("Workers", self.workers)
        elsewhere = QWidget()
        more = QFormLayout(elsewhere)
        more.setContentsMargins(0, 0, 0, 0)
        more.addRow("Cluster", self.scheduler)
        self.body.addLayout(form)
        self.body.addWidget(Fold("More: a cluster", elsewhere))
        self.body.addWidget(self.table, 1)
        self.body.addWidget(self.counts)
        self.body.addWidget(self.retry)
        self.primary.setText("Run on all images")
        self.primary.setToolTip("What is finished is stored image by image; after Cancel it goes on where it was")
        self.bench.runner.progressed.connect(self._progressed)
        self.bench.runner.started.connect(self._tally)
        self.bench.runner.ended.connect(self._refresh)
        self._tally()

    def act(self) -> None:
        """Work on all images."""
        session = self.session
        if session is None:
            return
        again = self.again.isChecked()
        whole = self.step.currentText() == _ALL
        work = partial(session.run, again=again) if whole else partial(search_left, session, again=again)
        self._start("Working on all images", work, again=again)

    def opened(self, session: Session, links: Connections) -> None:
        """Fill the table and follow the session and its job."""
        links.add(session.events.images_changed, self._refresh)
        self._refresh()

    def closed(self) -> None:
        """Empty the table."""
        self.model.show_images(())
        self._tally()

    def themed(self, theme: str) -> None:
        """Colours of states."""
        self.model.set_theme(theme)

    # ------------------------------------------------------------------ the job

    def _start(self, title: str, work: Callable[[], Job[Any]], **which: bool) -> None:
        session = self.session
        if session is None:
            return
        power = Manpower(self.workers.value(), self.scheduler.text().strip())

        def job() -> Job[Any]:  # in its thread: what is left is found by reading all files
            return (yield from by_crew(session, power, pieces_left(session, **which), work))

        self.run(title, job, self._done)

    def _retry(self) -> None:
        if self.session is not None:
            self._start("Retrying", partial(search_left, self.session, failed=True), failed=True)

    def _progressed(self, progress: Progress) -> None:
        news = progress.payload
        if isinstance(news, ItemState) and (row := self.model.note(news)) is not None:
            if news.state == "working":
                self.table.scrollTo(self.model.index(row, 0))
            self._tally()

    def _done(self, report: Any) -> str:
        done = getattr(report, "segmented", report)
        parts = [f"{number_of(done.done, 'image')} done"]
        parts += [f"{done.kept} were done already"] * bool(done.kept)
        if done.failed:
            name, reason = done.failed[0]
            more = f" (and {len(done.failed) - 1} more)" if len(done.failed) > 1 else ""
            self.jobs.show_error(f"{name}: {self.model.reason(name, reason)}{more}")
            parts.append(f"{len(done.failed)} failed")
        return ", ".join(parts)

    # ------------------------------------------------------------------ the table

    def _refresh(self, *_: Any) -> None:
        session = self.session
        if session is not None and not self.bench.runner.busy:  # what goes on is told by the job itself
            self.model.show_images(session.images)
            self._tally()

    def _tally(self, *_: Any) -> None:
        counts = self.model.counts()
        total = sum(counts.values())
        said = [f"{counts[state]} {state}" for state in ("waiting", "working", "done", "failed") if counts[state]]
        fits = workers_here(total)
        who = f" {fits} workers fit." if fits > 1 else ""
        self.counts.setText(f"{number_of(total, 'image')}: {', '.join(said)}.{who}" if total else "")
        self.retry.setVisible(bool(counts["failed"]))
        self.retry.setEnabled(not self.bench.runner.busy)

    def _go_to(self, index: QModelIndex) -> None:
        session = self.session
        if session is not None:
            name = self.model.name(index.row())
            session.show_image(next(record.image_id for record in session.images if record.name == name))
