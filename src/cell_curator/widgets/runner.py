"""Drive one job at a time in a thread, and compute small things off the main thread.

`JobRunner` is for work the user waits for: progress, time left, cancel. `Background` is for
what the view needs (pixels, previews): no progress, latest wins. Neither knows any dock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from psygnal import EmitLoopError, emit_queued
from qtpy.QtCore import QObject, QThread, Signal

from cell_curator.core.jobs import Job, Progress, UserError

log = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 0.05
_STOP_WAIT_MS = 10_000


@dataclass(frozen=True)
class Outcome:
    """How a job ended: with a result, an error in words, or cancelled."""

    title: str
    seconds: float
    result: Any = None
    error: str = ""
    cancelled: bool = False


class _Drive(QThread):
    """Iterates one job; closing the generator is how it is cancelled."""

    progressed = Signal(object)
    ended = Signal(object)

    def __init__(self, title: str, make_job: Callable[[], Job[Any]]) -> None:
        super().__init__()
        self._title = title
        self._make_job = make_job
        self._stop = threading.Event()

    def stop(self) -> None:
        self._stop.set()

    def run(self) -> None:
        start = time.monotonic()
        result, error, cancelled = None, "", False
        try:
            result, cancelled = self._iterate()
        except UserError as problem:
            error = str(problem)
        except Exception as problem:  # whatever it is, the window stays and says so
            log.exception("%s failed", self._title)
            error = f"{self._title}: {type(problem).__name__}: {problem}; please report this with the log"
        self.ended.emit(Outcome(self._title, time.monotonic() - start, result, error, cancelled))

    def _iterate(self) -> tuple[Any, bool]:
        job = self._make_job()
        last = 0.0
        try:
            while not self._stop.is_set():
                progress = next(job)
                now = time.monotonic()
                if progress.payload is not None or now - last > _PROGRESS_EVERY_S:
                    self.progressed.emit(progress)
                    last = now
            return None, True
        except StopIteration as stop:
            return stop.value, False
        finally:
            job.close()


class JobRunner(QObject):
    """Runs one job at a time.

    Signals
    -------
    started(str, object)
        Title of the job, and whoever started it.
    progressed(Progress)
        In the main thread, at most every 50 ms.
    ended(Outcome)
        In the main thread, after ``on_done`` was called with the result.
    """

    started = Signal(str, object)
    progressed = Signal(object)
    ended = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self._drive: _Drive | None = None
        self._on_done: Callable[[Any], object] | None = None
        self._title = ""

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._drive is not None

    @property
    def title(self) -> str:
        """What is running, or ''."""
        return self._title

    def start(
        self,
        title: str,
        make_job: Callable[[], Job[Any]],
        *,
        owner: object = None,
        on_done: Callable[[Any], object] | None = None,
    ) -> None:
        """Start a job.

        Raises
        ------
        UserError
            If one is running already.
        """
        if self._drive is not None:
            raise UserError(f"“{self._title}” is still running; wait for it, or cancel it first")
        self._title, self._on_done = title, on_done
        drive = self._drive = _Drive(title, make_job)
        drive.progressed.connect(self.progressed)
        drive.ended.connect(self._finish)
        self.started.emit(title, owner)
        drive.start()

    def cancel(self) -> None:
        """Ask the running job to stop; `ended` follows within about a tenth of a second."""
        if self._drive is not None:
            self._drive.stop()

    def close(self) -> None:
        """Cancel, and wait until the thread has ended."""
        drive, self._drive = self._drive, None
        if drive is not None:
            drive.ended.disconnect(self._finish)
            drive.stop()
            drive.wait(_STOP_WAIT_MS)

    def _finish(self, outcome: Outcome) -> None:
        drive, self._drive = self._drive, None
        if drive is None:
            return
        drive.wait()
        deliver_queued()  # what the session announced on the way comes before "done"
        on_done, self._on_done, self._title = self._on_done, None, ""
        if on_done is not None and not outcome.error and not outcome.cancelled:
            on_done(outcome.result)
        self.ended.emit(outcome)


def deliver_queued() -> None:
    """Hand over, in the main thread, what other threads announced by psygnal signals.

    An announcement whose receiver was closed in the meantime is passed over; psygnal itself
    would end with an error and hold up the others.
    """
    while True:
        try:
            emit_queued()
            return
        except EmitLoopError as error:
            if not isinstance(error.__cause__, ReferenceError):
                raise


class Background(QObject):
    """Computes small things one after another in a thread and delivers them in the main thread."""

    failed = Signal(str)
    _ready = Signal(object, object)

    def __init__(self) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cell-curator")
        self._newest: dict[str, int] = {}
        self._closed = False
        self._ready.connect(self._deliver)

    def __call__(self, compute: Callable[[], Any], deliver: Callable[[Any], None], *, topic: str = "") -> None:
        """Compute and deliver. Of several requests with the same ``topic`` only the newest counts."""
        if self._closed:
            return
        generation = self._newest[topic] = self._newest.get(topic, 0) + 1
        ticket = (topic, generation) if topic else None
        self._pool.submit(self._work, compute, deliver, ticket)

    def close(self) -> None:
        """Drop what waits and end the thread."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _is_stale(self, ticket: tuple[str, int] | None) -> bool:
        return self._closed or (ticket is not None and self._newest[ticket[0]] != ticket[1])

    def _work(self, compute: Callable[[], Any], deliver: Callable[[Any], None], ticket: Any) -> None:
        if self._is_stale(ticket):
            return
        try:
            value = compute()
        except UserError as error:
            self.failed.emit(str(error))
        except Exception as error:
            log.exception("computing in the background failed")
            self.failed.emit(f"{type(error).__name__}: {error}")
        else:
            self._ready.emit((deliver, ticket), value)

    def _deliver(self, whom: tuple[Callable[[Any], None], Any], value: Any) -> None:
        deliver, ticket = whom
        if not self._is_stale(ticket):
            deliver(value)


def time_left(elapsed_s: float, progress: Progress) -> str:
    """``"about 2 min left"`` from the time spent and the part done; '' while it is too early to say."""
    if elapsed_s < 2 or not 0.02 < progress.fraction < 1:
        return ""
    seconds = elapsed_s * (1 - progress.fraction) / progress.fraction
    if seconds < 1.5:
        return "nearly done"
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left"
