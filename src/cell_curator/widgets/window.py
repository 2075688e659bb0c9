"""All docks in one window: the menu entry, and opening or photographing a project from code."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import (
    QApplication,
    QButtonGroup,
    QFrame,
    QGridLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from cell_curator.core.jobs import UserError
from cell_curator.session import Session
from cell_curator.widgets import style
from cell_curator.widgets.batch_dock import BatchDock
from cell_curator.widgets.confluency_dock import ConfluencyDock
from cell_curator.widgets.correct_dock import CorrectDock
from cell_curator.widgets.dock import Dock
from cell_curator.widgets.explore_dock import ExploreDock
from cell_curator.widgets.images_dock import ImagesDock
from cell_curator.widgets.patches_dock import PatchesDock
from cell_curator.widgets.preprocess_dock import PreprocessDock
from cell_curator.widgets.review_dock import ReviewDock
from cell_curator.widgets.segment_dock import SegmentDock
from cell_curator.widgets.teach_dock import TeachDock
from cell_curator.widgets.types_dock import TypesDock
from cell_curator.widgets.workbench import Workbench, workbench_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

DOCKS: tuple[type[Dock], ...] = (
    ImagesDock,
    PreprocessDock,
    SegmentDock,
    CorrectDock,
    TeachDock,
    ReviewDock,
    PatchesDock,
    ExploreDock,
    TypesDock,
    ConfluencyDock,
    BatchDock,
)
NAME = "Cell Curator"
_SETTLE_S = 20.0
_TITLES_A_ROW = 4


class AllDocks(QWidget):
    """All docks in one, in the order of the work; a row of titles brings one to the front."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.docks: dict[str, Dock] = {}
        self.titles: dict[str, QToolButton] = {}
        self.pages = QStackedWidget()
        self._group = QButtonGroup(self)
        self.top = QWidget()
        grid = QGridLayout(self.top)
        grid.setContentsMargins(5, 4, 5, 0)
        grid.setSpacing(2)
        for index, kind in enumerate(DOCKS):
            dock = kind(napari_viewer)
            self.docks[dock.title] = dock
            self.pages.addWidget(dock)
            grid.addWidget(self._title(dock.title), index // _TITLES_A_ROW, index % _TITLES_A_ROW)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.top)
        layout.addWidget(self.pages, 1)
        self._keys = KeyList(self)
        self._bench = workbench_of(napari_viewer)
        self._bench.viewer.events.theme.connect(self._on_theme)
        self._on_theme()
        self.show_dock(DOCKS[0].title)
        for key, slot in (("?", self._keys.toggle), ("Ctrl+.", self._bench.runner.cancel)):
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.setContext(Qt.ShortcutContext.WindowShortcut)
            shortcut.activated.connect(slot)

    def _title(self, title: str) -> QToolButton:
        button = QToolButton()
        button.setObjectName("tab")
        button.setText(title)
        button.setCheckable(True)
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: self.show_dock(title))
        self._group.addButton(button)
        self.titles[title] = button
        return button

    def _on_theme(self, *_: Any) -> None:
        self.setStyleSheet(style.tabs_sheet(str(self._bench.viewer.theme)))

    def show_dock(self, title: str) -> Dock:
        """Bring a dock to the front."""
        self.titles[title].setChecked(True)
        self.pages.setCurrentWidget(self.docks[title])
        return self.docks[title]

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as one dock."""
        return QSize(384, 600)


class KeyList(QFrame):
    """All keys, laid over the docks, those of the dock in front first; the same key closes it. Blocks nothing."""

    def __init__(self, tabs: AllDocks) -> None:
        super().__init__(tabs)
        self.setObjectName("keys")
        self.setAutoFillBackground(True)
        self._tabs = tabs
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.text.setContentsMargins(8, 4, 8, 8)
        self.scroll = QScrollArea()
        self.scroll.setWidgetResizable(True)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setWidget(self.text)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(1, 1, 1, 1)
        layout.addWidget(self.scroll)
        self.hide()

    def toggle(self) -> None:
        """Show or hide."""
        top = self._tabs.top.height()
        front = self._tabs.pages.currentWidget()
        self.text.setText(_table_of_keys(sorted(DOCKS, key=lambda kind: not isinstance(front, kind))))
        self.setGeometry(0, top, self._tabs.width(), self._tabs.height() - top)
        self.setVisible(not self.isVisible())
        self.raise_()


def _table_of_keys(kinds: list[type[Dock]]) -> str:
    rows = ["<tr><td colspan=2><b>Keys</b> (press ? again to close)</td></tr>"]
    for kind in kinds:
        rows.append(f"<tr><td colspan=2><br><b>{kind.title}</b></td></tr>")
        rows += [f"<tr><td><b>{key}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>" for key, text in kind.keys]
    rows.append(
        "<tr><td colspan=2><br><b>Everywhere</b></td></tr>"
        "<tr><td><b>Page Down</b></td><td>next image</td></tr>"
        "<tr><td><b>Page Up</b></td><td>previous image</td></tr>"
        "<tr><td><b>Ctrl+.</b></td><td>cancel what is running</td></tr>"
        "<tr><td><b>?</b></td><td>show or hide this list</td></tr>"
    )
    return f"<table cellspacing=3>{''.join(rows)}</table>"


def add_docks(viewer: Viewer) -> AllDocks:
    """Put all docks into a viewer's window."""
    docks = AllDocks(viewer)
    viewer.window.add_dock_widget(docks, name=NAME, area="right", add_vertical_stretch=False)
    return docks


def open_window(folder: Path | str | None = None, *, show: bool = True, run: bool = True) -> tuple[Viewer, AllDocks]:
    """Open napari with all docks and, if given, a project folder or a folder of images.

    Parameters
    ----------
    folder
        What to open.
    show
        Whether the window is put on the screen.
    run
        Whether to stay in napari's event loop until the window is closed.

    Raises
    ------
    UserError
        If the folder is not there, or is no project and holds no images.
    """
    import napari

    viewer = napari.Viewer(title=NAME, show=show)
    docks = add_docks(viewer)
    if folder is not None:
        try:
            workbench_of(viewer).open(folder)
        except UserError:
            viewer.close()
            raise
    if run:
        napari.run()
    return viewer, docks


def save_screenshot(
    folder: Path | str, png: Path | str, *, dock: str = "Explore", size: tuple[int, int] = (1600, 1000)
) -> Path:
    """Open a project, wait until it is drawn, write a picture of the whole window, and close it.

    Needs a screen; without one, run it under ``xvfb-run``.

    Parameters
    ----------
    folder
        A project folder.
    png
        Where to write the picture.
    dock
        Title of the dock in front.
    size
        Width and height of the window, px.
    """
    Session.open(folder).close()  # a clear error before any window is opened
    viewer, docks = open_window(folder, run=False)
    try:
        viewer.window.resize(*size)
        docks.show_dock(dock)
        settle(workbench_of(viewer))
        viewer.reset_view()
        return photograph(viewer, png)
    finally:
        viewer.close()


def photograph(viewer: Viewer, png: Path | str) -> Path:
    """Write a picture of the whole window as it stands."""
    png = Path(png)
    png.parent.mkdir(parents=True, exist_ok=True)
    _process_events(0.3)
    viewer.window.screenshot(str(png), flash=False, canvas_only=False)
    return png


def settle(bench: Workbench, timeout_s: float = _SETTLE_S) -> None:
    """Wait until no job runs and the image on screen is the session's, at most ``timeout_s``."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        _process_events(0.05)
        shown = bench.link.labels.image_id if bench.link is not None else None
        wanted = bench.session.current_image if bench.session is not None else None
        if not bench.runner.busy and shown == wanted:
            break
    _process_events(0.3)


def _process_events(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)
