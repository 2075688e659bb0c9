"""What the docks of one viewer share: the open session, its link to the viewer, and its worker.

There is one `Workbench` for each viewer (`workbench_of`). It opens and closes projects, runs
one job at a time, and ends threads and processes when the viewer's window goes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from psygnal import Signal
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.core.preview import warm_up
from cell_curator.link.tools import ToolBox
from cell_curator.link.viewer_link import ViewerLink
from cell_curator.session import Execute, Session
from cell_curator.widgets.runner import Background, JobRunner, deliver_queued

if TYPE_CHECKING:
    from napari.viewer import Viewer

_QUEUE_EVERY_MS = 30
_PAUSE_MS = 400  # a stroke is handed over this long after its last pixel

_BENCHES: WeakKeyDictionary[Any, Workbench] = WeakKeyDictionary()


def workbench_of(viewer: Any) -> Workbench:
    """The workbench of a viewer; made at the first call."""
    viewer = getattr(viewer, "__wrapped__", viewer)  # napari hands plugins a proxy
    if viewer not in _BENCHES:
        _BENCHES[viewer] = Workbench(viewer)
    return _BENCHES[viewer]


class Workbench:
    """One viewer's session and everything that serves it.

    Parameters
    ----------
    viewer
        A napari viewer with a window.
    execute
        How the session runs heavy functions; by default in one warm process of its own.
    """

    session_changed = Signal(object)
    """The session that is now open, or None."""
    problem = Signal(str)
    """Something went wrong outside any job; one line for the user."""

    def __init__(self, viewer: Viewer, *, execute: Execute | None = None) -> None:
        self.viewer = viewer
        self.runner = JobRunner()
        self.background = Background()
        self.previews, self.studies = Background(), Background()
        self.session: Session | None = None
        self.link: ViewerLink | None = None
        self.tools: ToolBox | None = None
        self._worker: Any = None
        self._closed = self._warm = False
        if execute is None:
            from cell_curator.engines.worker import Worker

            self._worker = Worker()
            execute = self._worker.call
        self._execute: Execute = execute
        self._pause = QTimer()
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._pause_over)
        self._after_pause: list[Callable[[], None]] = []
        for lane in self._lanes:
            lane.failed.connect(self._tell)
        self._queue = QTimer()
        self._queue.timeout.connect(deliver_queued)
        self._queue.start(_QUEUE_EVERY_MS)
        viewer.window._qt_window.destroyed.connect(self.close)
        QApplication.instance().aboutToQuit.connect(self.close)

    # ------------------------------------------------------------------ projects

    def open(self, path: Path | str, *, owner: object = None) -> None:
        """Open a project folder, or make one beside a folder of images and add them.

        Raises
        ------
        UserError
            If there is nothing there, or a job is running.
        """
        path = Path(path).expanduser()
        if not path.exists():
            raise UserError(f"{path}: there is no such folder; check the name")
        self._refuse_while_busy()
        if self.session is not None and path.resolve() == self.session.folder.resolve():
            self.close_session()  # or it could only be looked at, being open here
        if _is_project(path):
            self.adopt(Session.open(path, execute=self._execute))
            return
        session = Session.open_or_create(project_folder_for(path), execute=self._execute)
        self.adopt(session)
        self.add_images(path, owner=owner)

    def open_sample(self, *, owner: object = None) -> None:
        """Write the sample images into a temporary folder and open them."""
        self._refuse_while_busy()
        folder = Path(tempfile.mkdtemp(prefix="cell-curator-")) / "sample"
        self.runner.start(
            "Making the sample",
            lambda: _write_sample(folder),
            owner=owner,
            on_done=lambda made: self._open_made(made, owner),
        )

    def add_images(
        self, path: Path | str, *, owner: object = None, on_done: Callable[[Any], object] | None = None
    ) -> None:
        """Add a file or folder of images to the open project."""
        session = self.session
        if session is not None:
            self.run("Adding images", lambda: session.add_images(Path(path)), owner=owner, on_done=on_done)

    def adopt(self, session: Session) -> None:
        """Show this session in the viewer; the one before is closed."""
        self.close_session()
        self.session = session
        self.link = ViewerLink(session, self.viewer, later=self._later, background=self._load)
        self.link.failed.connect(self._tell)
        self.tools = ToolBox(session, self.viewer, self.link)
        self.session_changed.emit(session)

    def close_session(self) -> None:
        """Take the project out of the viewer and close it."""
        session, self.session = self.session, None
        if session is None:
            return
        self.runner.close()
        self._unbind()
        self.session_changed.emit(None)
        session.close()

    def warm_up_previews(self) -> None:
        """Compile what previews need, in the background, so that the first one is as fast as the next."""
        if not self._warm:
            self._warm = True
            self.previews(warm_up, lambda _: None)

    def run(
        self,
        title: str,
        make_job: Callable[[], Job[Any]],
        *,
        owner: object = None,
        on_done: Callable[[Any], object] | None = None,
        reading: bool = False,
    ) -> None:
        """Run a job on the session, with what was just painted taken into account.

        Raises
        ------
        UserError
            If another job is running, or the project can only be looked at and the job is not only ``reading``.
        """
        if self.session is not None and not reading:
            self.session.project.require_writable()
        if self.link is not None:
            self.link.flush()
        self.runner.start(title, make_job, owner=owner, on_done=on_done)

    @property
    def _lanes(self) -> tuple[Background, ...]:
        return self.background, self.previews, self.studies

    def close(self, *_: Any) -> None:
        """End everything. Called when the window goes; calling again does nothing."""
        if self._closed:
            return
        self._closed = True
        with suppress(AttributeError, RuntimeError):  # at the very end Qt may be gone before us
            QApplication.instance().aboutToQuit.disconnect(self.close)
            self._pause.stop()
            self._queue.stop()
        self.runner.close()
        for lane in self._lanes:
            lane.close()
        session, self.session = self.session, None
        self._unbind()
        if session is not None:
            session.close()
        if self._worker is not None:
            self._worker.close()
        _BENCHES.pop(self.viewer, None)

    def _unbind(self) -> None:
        if self.tools is not None:
            self.tools.unbind()
        if self.link is not None:
            self.link.unbind()
        self.tools = self.link = None

    def _open_made(self, folder: Path, owner: object) -> None:
        # After `ended`, since the runner is still busy while it calls this.
        QTimer.singleShot(0, lambda: self._open_quietly(folder, owner))

    def _open_quietly(self, folder: Path, owner: object) -> None:
        if self._closed:
            return
        try:
            self.open(folder, owner=owner)
        except UserError as error:
            self._tell(str(error))

    def _refuse_while_busy(self) -> None:
        if self.runner.busy:
            raise UserError(f"“{self.runner.title}” is still running; wait for it, or cancel it first")

    def _load(self, compute: Callable[[], Any], deliver: Callable[[Any], None]) -> None:
        self.background(compute, deliver, topic="image")

    def _later(self, function: Callable[[], None]) -> None:
        if function not in self._after_pause:
            self._after_pause.append(function)
        self._pause.start()

    def _pause_over(self) -> None:
        functions, self._after_pause = self._after_pause, []
        for function in functions:
            try:
                if not self._closed:
                    function()
            except UserError as error:
                self._tell(str(error))

    def _tell(self, text: str) -> None:
        self.problem.emit(text)


def project_folder_for(images: Path) -> Path:
    """Where the project of a folder of images goes: beside it, as ``NAME.curator``.

    In the user's home if nothing can be written there.
    """
    import os

    images = images.resolve()
    beside = images.parent / f"{images.stem if images.is_file() else images.name}.curator"
    if beside.exists() or os.access(images.parent, os.W_OK):
        return beside
    return Path.home() / "Cell Curator" / beside.name


def _is_project(path: Path) -> bool:
    from cell_curator.io.project import Project

    return Project.is_project(path)


def _write_sample(folder: Path) -> Job[Path]:
    from cell_curator.samples import write_sample

    yield Progress(0.0, "drawing cells")
    write_sample(folder, ("grooves",))
    return folder / "grooves"
