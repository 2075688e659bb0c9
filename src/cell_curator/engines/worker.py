"""Run a job in one warm process of its own, so that the viewer never waits and never dies with it.

A target is named (``"package.module:function"``) rather than passed, so the parent needs to import
neither the function nor torch. The function is a generator (`cell_curator.core.jobs.Job`); its
`Progress` and its result come back pickled. Cancelling is closing the job: the process is ended,
and the next call starts a fresh one.

This module schedules nothing: one worker, one job at a time.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.core.jobs import inline as inline

HEARTBEAT = 0.1
"""Seconds between two yields at most: the longest a click on Cancel waits."""

GRACE = 2.0
"""Seconds an ending process is given before it is killed."""

BEHIND = 10
"""How far behind the viewer the worker stands (niceness)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Request:
    target: str
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class _Result:
    value: Any


@dataclass(frozen=True)
class _Failure:
    """An exception of the child in words; ``details`` (its traceback) is empty for a `UserError`."""

    message: str
    details: str = ""


class Worker:
    """One spawned process that is kept warm between calls.

    Nothing is started before the first call. A worker is used by one caller at a time.

    Parameters
    ----------
    paths
        Folders that the child looks for packages in before all others.
    """

    def __init__(self, paths: tuple[str, ...] = ()) -> None:
        self._paths = paths
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None
        self._busy = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id of the child, or None if none is running."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    def call(self, target: str, /, **kwargs: Any) -> Job[Any]:
        """Run ``"module:function"`` with ``kwargs`` in the child process.

        Yields
        ------
        Progress
            Each of the child's, and at least every `HEARTBEAT` seconds the last one again.

        Returns
        -------
        Any
            What the generator returned.

        Raises
        ------
        UserError
            The child's own `UserError`, any other failure of the child as one line (the traceback
            is logged), or that the process died.
        """
        if not self._busy.acquire(blocking=False):
            raise UserError("Another job is still running; wait for it to end or cancel it, then start this one again")
        finished = False
        try:
            pipe = self._started()
            self._send(pipe, _Request(target, kwargs))
            last = Progress(0.0, "starting")
            yield last
            while True:
                message = self._receive(pipe)
                if isinstance(message, Progress):
                    last = message
                elif message is not None:
                    finished = True
                    return _unpacked(message)
                yield last
        finally:
            if not finished:
                self.close()
            self._busy.release()

    def close(self) -> None:
        """End the process if there is one; a later call starts another."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is None:
            return
        process.terminate()
        process.join(GRACE)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()

    def _started(self) -> Connection:
        """The pipe to a living child."""
        if self._process is not None and not self._process.is_alive():
            self.close()
        if self._process is None:
            # spawn, not fork: a forked copy of a process with Qt and OpenMP threads can dead-lock.
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._paths), name="cell-curator-worker", daemon=True
            )
            with blank_main(), _may_have_children():
                self._process.start()
            theirs.close()
            self._pipe = ours
        assert self._pipe is not None
        return self._pipe

    def _send(self, pipe: Connection, request: _Request) -> None:
        try:
            pipe.send(request)
        except OSError:
            raise self._died() from None

    def _receive(self, pipe: Connection) -> Any:
        """The child's next message, or None if there was none for `HEARTBEAT` seconds."""
        try:
            if pipe.poll(HEARTBEAT):
                return pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if self.pid is None:  # the pipe can outlive the child where a grandchild holds it open
            raise self._died()
        return None

    def _died(self) -> UserError:
        """What to tell of a process that ended without a result."""
        code = None
        if self._process is not None:
            self._process.join(GRACE)
            code = self._process.exitcode
        if code is not None and code == -getattr(signal, "SIGKILL", 9):
            return UserError(
                "The worker process was killed, most likely because memory ran out; "
                "close other programs or use a smaller image or region, then try again"
            )
        return UserError(
            f"The worker process ended unexpectedly (exit code {code}); try again, "
            "and if it happens again run `cell-curator doctor`"
        )


def _unpacked(message: Any) -> Any:
    """The value of a `_Result`, or the error in a `_Failure`."""
    if isinstance(message, _Result):
        return message.value
    if message.details:
        log.error("job failed in the worker process:\n%s", message.details)
    raise UserError(message.message)


@contextmanager
def blank_main() -> Iterator[None]:
    """Hide the program's main module while a process is spawned.

    The child would run it again: slow for napari, and a script that opens a viewer without asking
    for ``__name__ == "__main__"`` would open a second one.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _may_have_children() -> Iterator[None]:
    """Let a worker start a worker, as for another generation of Cellpose.

    ``multiprocessing`` forbids it for daemons, since their children would be left over when they are
    killed. Ours end with their parent, however it ends (`_end_with_parent`).
    """
    config: dict[str, Any] = getattr(multiprocessing.current_process(), "_config")  # noqa: B009  (private)
    before = config.get("daemon")
    config["daemon"] = False
    try:
        yield
    finally:
        config["daemon"] = before


def _serve(pipe: Connection, paths: tuple[str, ...] = ()) -> None:
    """Life of the child: take requests from ``pipe`` until it closes."""
    sys.path[:0] = paths
    # Ctrl+C in a terminal reaches the whole group; the parent decides what becomes of this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _step_back()
    # Threads that wait by spinning eat the processor that the viewer draws with: on 2 busy cores a
    # 640² image took 50 s and 19 s of processor time with spinning, 11 s and 4.5 s without.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        except Exception as error:  # a request that cannot be unpickled here
            pipe.send(_Failure(f"{type(error).__name__}: {error}", traceback.format_exc()))
            continue
        _answer(pipe, request)


def _step_back() -> None:
    """Let the viewer go first where both want the processor: its frames matter more than our minutes.

    With two cores a frame took 1.54 times as long while a network learned as without it, and 1.30 times
    with this. Nothing is lost where nobody else wants the processor.
    """
    if hasattr(os, "nice"):  # not on Windows
        os.nice(BEHIND)


def _answer(pipe: Connection, request: _Request) -> None:
    """Run one request and send what comes of it."""
    try:
        job = inline(request.target, **request.kwargs)
        while True:
            try:
                pipe.send(next(job))
            except StopIteration as stop:
                pipe.send(_Result(stop.value))
                return
    except UserError as error:
        pipe.send(_Failure(str(error)))
    except MemoryError:
        line = "Memory ran out; close other programs or use a smaller image or region"
        pipe.send(_Failure(line, traceback.format_exc()))
    except Exception as error:
        line = " ".join(str(error).split())
        pipe.send(_Failure(f"{type(error).__name__}: {line}; the log has the details", traceback.format_exc()))


def _end_with_parent() -> None:
    """End this process when its parent is gone, even if that was killed in the middle of a job."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(0)
