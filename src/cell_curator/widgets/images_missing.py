"""Says which images are not where they were, and takes the user to their new place."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from cell_curator.relocating import Missing, Relocated, missing, relocate
from cell_curator.session import Session
from cell_curator.widgets.controls import push_button
from cell_curator.widgets.dock import choose_folder
from cell_curator.widgets.workbench import Workbench


class MissingImages(QWidget):
    """A line and a button, seen only while images are missing.

    Parameters
    ----------
    run
        Runs a job of the dock that this is part of.
    """

    def __init__(self, bench: Workbench, run: Callable[..., None]) -> None:
        super().__init__()
        self._bench, self._run = bench, run
        self.text = QLabel()
        self.text.setObjectName("error")
        self.text.setWordWrap(True)
        self.point = push_button(
            "Point to the new place…",
            "Choose the folder in which these images lie now, or one above it; only the same images are taken",
            self._ask,
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.text)
        layout.addWidget(self.point)
        self.hide()

    def look(self) -> None:
        """Look, in the background, for images whose files are gone: the disk may be a slow one."""
        session = self._bench.session
        if session is not None:
            self._bench.background(lambda: (session, missing(session)), self._found, topic="missing images")

    def show_missing(self, gone: Missing | None) -> None:
        """Say which, or hide."""
        self.text.setText("" if gone is None else gone.text)
        self.text.setToolTip("" if gone is None else "\n".join(map(str, gone.files[:20])))
        self.setVisible(bool(self.text.text()))

    def search(self, folder: Path) -> None:
        """Look for the missing images in a folder."""
        session = self._bench.session
        if session is not None:
            self._run("Looking for the images", partial(relocate, session, folder), self._done)

    def _ask(self) -> None:
        folder = choose_folder(self, "Where do the images lie now?")
        if folder is not None:
            self.search(folder)

    def _found(self, found: tuple[Session, Missing]) -> None:
        session, gone = found
        if session is self._bench.session:
            self.show_missing(gone)

    def _done(self, made: Relocated) -> str:
        session = self._bench.session
        if session is not None:  # the image on the screen may be one of them
            session.events.current_changed.emit(session.current_image)
        return made.text
