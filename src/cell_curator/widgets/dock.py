"""The frame of every dock: what is open, the dock's own body, one primary button, one line of state.

A dock without a project says what to do first. `Dock` wires a widget to its workbench and lets
go of it when the widget is destroyed; the five docks only fill in the body.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from cell_curator.core.jobs import Job, UserError
from cell_curator.widgets import style
from cell_curator.widgets.controls import ElidedLabel, ignore_wheel
from cell_curator.widgets.job_line import JobLine
from cell_curator.widgets.workbench import Workbench, workbench_of

if TYPE_CHECKING:
    from cell_curator.session import Session

_WIDTH = 372


class Connections:
    """Signals a widget listens to, so that all can be let go at once."""

    def __init__(self) -> None:
        self._all: list[tuple[Any, Callable[..., Any]]] = []

    def add(self, signal: Any, slot: Callable[..., Any]) -> None:
        """Connect a psygnal signal; the slot runs in the main thread."""
        signal.connect(slot, thread="main")
        self._all.append((signal, slot))

    def add_napari(self, emitter: Any, slot: Callable[..., Any]) -> None:
        """Connect an event of napari's own kind."""
        emitter.connect(slot)
        self._all.append((emitter, slot))

    def clear(self, *_: Any) -> None:
        """Disconnect everything."""
        for signal, slot in self._all:
            with suppress(ValueError):  # the sender let go of it already
                signal.disconnect(slot)
        self._all.clear()


class Dock(QWidget):
    """Base of the docks. Sub-classes build their body and say what the primary button does."""

    title = ""
    fills = False
    """Whether the body has something that takes all the room there is."""
    keys: tuple[tuple[str, str], ...] = ()
    """(key, what it does) of this dock, for the list of all keys."""
    _wanted: QWidget | None = None

    def __init__(self, napari_viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.bench: Workbench = workbench_of(napari_viewer)
        self.setMinimumWidth(320)
        self._session_links = Connections()
        self._bench_links = Connections()
        self.header = Header(self.bench)
        self.jobs = JobLine(self.bench, self)
        self.primary = QPushButton()
        self.primary.setObjectName("primary")
        self.primary.clicked.connect(self._on_primary)
        self.body = QVBoxLayout()
        self.body.setContentsMargins(0, 0, 6, 0)
        self.body.setSpacing(6)
        self.pinned = QVBoxLayout()
        self.pinned.setContentsMargins(0, 0, 0, 0)
        self.pinned.setSpacing(6)
        self._assemble()
        self.build()
        if not self.fills:
            self.body.addStretch(1)
        self._bench_links.add(self.bench.session_changed, self._on_session)
        self._bench_links.add(self.bench.problem, self.jobs.show_error)
        self._bench_links.add_napari(self.bench.viewer.events.theme, self._on_theme)
        self.bench.runner.started.connect(self._fit_buttons)
        self.bench.runner.ended.connect(self._fit_buttons)
        self.destroyed.connect(partial(Connections.clear, self._session_links))
        self.destroyed.connect(partial(Connections.clear, self._bench_links))
        self.add_key("PgDown", partial(self.header.step, 1))
        self.add_key("PgUp", partial(self.header.step, -1))
        self._on_theme()
        self._on_session(self.bench.session)

    # what a dock fills in

    def build(self) -> None:
        """Put the dock's own widgets into `body`, what must stay in view into `pinned`, and name the primary button."""

    def act(self) -> None:
        """What the primary button does."""

    def opened(self, session: Session, links: Connections) -> None:
        """A project was opened: show it, and connect to its signals through ``links``."""

    def closed(self) -> None:
        """The project was closed."""

    def works_without_project(self) -> bool:
        """Whether the dock has something to do although no project is open."""
        return False

    def themed(self, theme: str) -> None:
        """Another theme was chosen: tell the parts that paint themselves."""

    # what a dock uses

    @property
    def session(self) -> Session | None:
        """The open session."""
        return self.bench.session

    def run(
        self,
        title: str,
        make_job: Callable[[], Job[Any]],
        done: Callable[[Any], str] | None = None,
        *,
        reading: bool = False,
    ) -> None:
        """Run a job; ``done`` turns its result into the line of state. ``reading``: it changes nothing."""
        self.jobs.run(title, make_job, done, reading=reading)

    def guard(self, action: Callable[[], Any]) -> Any:
        """Do something that may end in a `UserError`, which then stands in the dock."""
        self.jobs.show_error("")
        try:
            return action()
        except UserError as error:
            self.jobs.show_error(str(error))
            return None

    def add_key(self, key: str, slot: Callable[[], Any]) -> None:
        """A key that works anywhere in the window while this dock is in view."""
        shortcut = QShortcut(QKeySequence(key), self)
        shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
        shortcut.activated.connect(slot)
        shortcut.activatedAmbiguously.connect(slot)  # two docks in view that both know the key

    def bring(self, widget: QWidget) -> None:
        """Scroll to a part of the body, once it has its size."""
        self._wanted = widget
        QTimer.singleShot(0, self._bring_wanted)

    def _bring_wanted(self) -> None:
        if self._wanted is not None:
            self._scroll.ensureWidgetVisible(self._wanted)

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as a dock should be; the height is the window's business."""
        return QSize(_WIDTH, 560)

    def _assemble(self) -> None:
        content = QWidget()
        content.setLayout(self.body)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroll.setWidget(content)
        page = QWidget()
        layout = QVBoxLayout(page)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.header)
        layout.addWidget(line())
        layout.addLayout(self.pinned)
        layout.addWidget(self._scroll, 1)
        layout.addWidget(self.primary)
        self._pages = QStackedWidget()
        self._pages.addWidget(EmptyPage(self))
        self._pages.addWidget(page)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(8, 8, 8, 6)
        outer.setSpacing(4)
        outer.addWidget(self._pages, 1)
        outer.addWidget(self.jobs)

    def fit_page(self) -> None:
        """Show the body, or what to do first where there is nothing to work on."""
        self._pages.setCurrentIndex(0 if self.session is None and not self.works_without_project() else 1)
        self._fit_buttons()

    def _on_primary(self) -> None:
        self.guard(self.act)

    def _on_session(self, session: Session | None) -> None:
        self._session_links.clear()
        self.header.show_session(session, self._session_links)
        self.jobs.reset()
        if session is None:
            self.closed()
        else:
            self.opened(session, self._session_links)
        self.fit_page()

    def _on_theme(self, *_: Any) -> None:
        theme = str(self.bench.viewer.theme)
        self.setStyleSheet(style.sheet(theme))
        self.themed(theme)

    def _fit_buttons(self, *_: Any) -> None:
        self.primary.setEnabled(not self.bench.runner.busy and self.session is not None)


class Header(QWidget):
    """Project and image: which one, and the way to the next."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self.project = ElidedLabel()
        self.project.setObjectName("project")
        self.images = QComboBox()
        self.images.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.images.setMinimumContentsLength(10)
        self.images.setToolTip("The image on screen. Page Up and Page Down go to the previous and next one.")
        self.images.activated.connect(self._chosen)
        ignore_wheel(self.images)
        self.previous = _arrow("◀", "Previous image (Page Up)", partial(self.step, -1))
        self.next = _arrow("▶", "Next image (Page Down)", partial(self.step, 1))
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.previous)
        row.addWidget(self.images, 1)
        row.addWidget(self.next)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self.looking = QLabel()
        self.looking.setObjectName("error")
        self.looking.setWordWrap(True)
        self.looking.hide()
        layout.addWidget(self.project)
        layout.addWidget(self.looking)
        layout.addLayout(row)

    def show_session(self, session: Session | None, links: Connections) -> None:
        """Follow another session."""
        for widget in (self.images, self.previous, self.next):
            widget.setVisible(session is not None)
        only = "" if session is None else session.project.read_only
        self.looking.setText(f"Only to look at: {only}" if only else "")
        self.looking.setVisible(bool(only))
        if session is None:
            self.images.clear()
            return
        links.add(session.events.images_changed, self._fill)
        links.add(session.events.current_changed, self._follow)
        self.project.set_text(session.name)
        self.project.setToolTip(f"Project folder: {session.folder}")
        self._fill()

    def step(self, by: int, *_: Any) -> None:
        """Go to the next or previous image."""
        session = self._bench.session
        if session is None or not session.images:
            return
        ids = [record.image_id for record in session.images]
        at = ids.index(session.current_image) if session.current_image in ids else 0
        session.show_image(ids[min(max(at + by, 0), len(ids) - 1)])

    def _fill(self) -> None:
        session = self._bench.session
        if session is None:
            return
        entries = [(record.name, record.image_id) for record in session.images]
        if entries != [(self.images.itemText(i), self.images.itemData(i)) for i in range(self.images.count())]:
            self.images.clear()
            for name, image_id in entries:
                self.images.addItem(name, image_id)
        self._follow(session.current_image)

    def _follow(self, image_id: int | None) -> None:
        index = self.images.findData(image_id)
        if index != self.images.currentIndex():
            self.images.setCurrentIndex(index)
        self.previous.setEnabled(index > 0)
        self.next.setEnabled(0 <= index < self.images.count() - 1)

    def _chosen(self, index: int) -> None:
        if self._bench.session is not None:
            self._bench.session.show_image(self.images.itemData(index))


class EmptyPage(QWidget):
    """What to do first."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock = dock
        heading = QLabel("Open a folder of images, or try the sample.")
        heading.setObjectName("heading")
        heading.setWordWrap(True)
        text = QLabel(
            "Each sub-folder counts as one condition, for example “control” and “treated”. "
            "What you do is kept in a project folder beside the images; the images themselves are never changed."
        )
        text.setWordWrap(True)
        text.setObjectName("quiet")
        self.open = QPushButton("Open a folder…")
        self.open.setObjectName("primary")
        self.open.setToolTip("A folder of images, or a project folder (NAME.curator)")
        self.open.clicked.connect(self._open)
        self.sample = QPushButton("Try the sample")
        self.sample.setToolTip("Small synthetic images of nuclei on grooves, in a temporary folder")
        self.sample.clicked.connect(self._sample)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 12, 4, 4)
        layout.setSpacing(10)
        for widget in (heading, text, self.open, self.sample):
            layout.addWidget(widget)
        layout.addStretch(1)

    def _open(self) -> None:
        folder = choose_folder(self, "Open a folder of images or a project")
        if folder is not None:
            self._dock.guard(partial(self._dock.bench.open, folder, owner=self._dock))

    def _sample(self) -> None:
        self._dock.guard(partial(self._dock.bench.open_sample, owner=self._dock))


def choose_folder(parent: QWidget, title: str) -> Path | None:
    """Ask for a folder; None if the user thinks better of it."""
    chosen = QFileDialog.getExistingDirectory(parent, title)
    return Path(chosen) if chosen else None


def line() -> QWidget:
    """A thin line between parts of a dock."""
    widget = QWidget()
    widget.setObjectName("line")
    widget.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
    widget.setFixedHeight(1)
    return widget


def _arrow(text: str, tip: str, slot: Callable[..., Any]) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.clicked.connect(slot)
    return button
