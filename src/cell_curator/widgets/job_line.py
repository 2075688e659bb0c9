"""One line of state for a dock; while a job runs its progress, the time left and Cancel; the last error."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.core.words import number_of
from cell_curator.widgets.controls import ElidedLabel
from cell_curator.widgets.runner import Outcome, time_left
from cell_curator.widgets.workbench import Workbench
from cell_curator.workflow import AddReport


class JobLine(QWidget):
    """One line of state; while a job runs its progress, the time left and Cancel; the last error in words."""

    def __init__(self, bench: Workbench, owner: object) -> None:
        super().__init__()
        self._bench, self._owner = bench, owner
        self._start, self._mine, self._said = 0.0, False, False
        self.state = ElidedLabel()
        self.state.setObjectName("quiet")
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(12)
        self.left = QLabel()
        self.left.setObjectName("quiet")
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop; what is finished already is kept (Ctrl+.)")
        self.cancel.clicked.connect(bench.runner.cancel)
        self.error = QLabel()
        self.error.setObjectName("error")
        self.error.setWordWrap(True)
        self.error.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._running = QWidget()
        row = QHBoxLayout(self._running)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.bar, 1)
        row.addWidget(self.left)
        row.addWidget(self.cancel)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.addWidget(self.error)
        layout.addWidget(self._running)
        layout.addWidget(self.state)
        self.reset()
        bench.runner.started.connect(self._started)
        bench.runner.progressed.connect(self._progressed)
        bench.runner.ended.connect(self._ended)
        if bench.runner.busy:
            self._started(bench.runner.title, None)

    def run(
        self,
        title: str,
        make_job: Callable[[], Job[Any]],
        done: Callable[[Any], str] | None = None,
        *,
        reading: bool = False,
    ) -> None:
        """Start a job of this dock; ``reading``: it changes nothing."""
        try:
            self._bench.run(title, make_job, owner=self._owner, on_done=partial(self._say, done), reading=reading)
        except UserError as error:
            self.show_error(str(error))

    def reset(self) -> None:
        """Say nothing."""
        if not self._bench.runner.busy:
            self._running.hide()
        self.show_error("")

    def show_state(self, text: str) -> None:
        """Show the line of state."""
        self.state.set_text(text)

    def show_error(self, text: str) -> None:
        """Show what went wrong, or nothing."""
        self.error.setText(text)
        self.error.setVisible(bool(text))

    def _say(self, done: Callable[[Any], str] | None, result: Any) -> None:
        self._said = done is not None
        if done is not None:
            self.show_state(done(result))

    def _started(self, title: str, owner: object) -> None:
        self._start = time.monotonic()
        if owner is self._owner:
            self.show_error("")
        self.bar.setValue(0)
        self.left.setText("")
        self.cancel.setEnabled(True)
        self._running.show()
        self._mine, self._said = owner is self._owner, False
        self.show_state(f"{title}…")

    def _progressed(self, progress: Progress) -> None:
        self.bar.setValue(round(1000 * progress.fraction))
        self.left.setText(time_left(time.monotonic() - self._start, progress))
        if progress.message:
            self.show_state(progress.message)

    def _ended(self, outcome: Outcome) -> None:
        self._running.hide()
        if not self._mine:
            self.show_state("")
            return
        if outcome.cancelled:
            self.show_state(f"{outcome.title}: cancelled; what was finished is kept")
        elif outcome.error:
            self.show_state("")
            self.show_error(outcome.error)
        elif isinstance(outcome.result, AddReport):
            self._say_added(outcome.result)
        elif not self._said:
            self.show_state(f"{outcome.title}: done")

    def _say_added(self, report: AddReport) -> None:
        count = len(report.added)
        self.show_state(f"{number_of(count, 'image')} added")
        if report.failed:
            more = f" (and {len(report.failed) - 1} more)" if len(report.failed) > 1 else ""
            self.show_error(f"{len(report.failed)} could not be read: {report.failed[0][1]}{more}")
