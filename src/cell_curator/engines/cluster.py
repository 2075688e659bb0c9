"""Many images at once: workers of `dask.distributed`, on this computer or on a cluster that is there already.

A target is named, as for `engines.worker`; it runs in a worker from a small description (a path, a recipe,
parameters) and its result comes back. What is stored stays with the process that asked. Nothing in here knows
projects. dask is imported when the first worker is started.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from cell_curator.core.jobs import ALONE, Crew, Hopeless, Job, Passing, Progress, UserError, drive, inline, scaled
from cell_curator.engines.worker import BEHIND, HEARTBEAT, blank_main

T = TypeVar("T")

WORTH_IT = 8
"""Images for each worker from which it is worth the seconds that it takes to start."""

MEMORY = 2 << 30
"""Bytes that a worker should have: a network, an image of 4096² px and all that is computed from it."""

_IN_HAND = 3  # images in hand for each worker: one worked on, one on its way, one waiting for its turn to be stored
_PATIENCE = 30.0  # seconds that a cluster may take to answer at all
_TRIES = 2  # how often work is given to another worker after its own died

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Manpower:
    """Who is to do the work on many images.

    Parameters
    ----------
    workers
        Processes on this computer; 1: this one alone, 0: as many as are worth it (see `workers_here`).
    scheduler
        Address of a cluster that is there already, ``tcp://host:8786``; empty for this computer.
    sees
        Paths that the workers of a cluster must see.
    """

    workers: int = 0
    scheduler: str = ""
    sees: tuple[Path, ...] = ()


@dataclass(frozen=True)
class _Outcome:
    """What came of one call in a worker; ``details`` (a traceback) is empty for a `UserError`."""

    value: Any = None
    message: str = ""
    details: str = ""
    number: int | None = None
    """`errno`, where the operating system refused something."""


def workers_here(count: int) -> int:
    """Workers worth starting on this computer for so many images: 1 for none, never more than cores or memory allow.

    ``CELL_CURATOR_WORKERS`` says otherwise.
    """
    if asked := os.environ.get("CELL_CURATOR_WORKERS", ""):
        return max(1, int(asked)) if asked.isdigit() else 1
    return max(1, min(cores(), int(_memory() // MEMORY), count // WORTH_IT))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def manned(
    power: Manpower | None, count: int, make: Callable[[Crew], Job[T]], say: Callable[[str], object] | None = None
) -> Job[T]:
    """The job that ``make`` makes of a crew; workers are started before it and ended after it, however it ends.

    Parameters
    ----------
    power
        None: this process alone.
    count
        How many images there are.
    say
        Is told once who does the work.

    Raises
    ------
    UserError
        The cluster does not answer, has no workers, or they cannot do the work.
    """
    local = 1 if power is None else power.workers or workers_here(count)
    if power is None or (not power.scheduler and local < 2):
        return (yield from make(ALONE))
    cluster = Cluster()
    try:
        how = cluster.join(power.scheduler, power.sees) if power.scheduler else cluster.start(local)
        said = yield from _aside(how)
        if say is not None:
            say(said)
        return (yield from scaled(make(Crew(cluster.call, _IN_HAND * cluster.size)), 0.01, 1.0))
    finally:
        cluster.close()


class Cluster:
    """Workers that are there until they are closed."""

    def __init__(self) -> None:
        self.size = 0
        self._client: Any = None
        self._local: Any = None
        self._news = threading.Condition()
        self._finished = 0
        self._closed = False

    def start(self, workers: int, memory: int = 0) -> Callable[[], str]:
        """Start so many processes here, when called; each may use ``memory`` bytes (0: its share of all)."""

        def begin() -> str:
            import dask
            from distributed import Client, LocalCluster

            share = max(1, cores() // workers)
            threads = {name: str(share) for name in _THREADS}
            settings = {
                # one image for each worker: if one dies, no other image is suspected
                "distributed.scheduler.worker-saturation": 1.0,
                "distributed.scheduler.allowed-failures": _TRIES,
                "distributed.nanny.pre-spawn-environ": {},  # it would set threads of this process as well
                "distributed.comm.timeouts.connect": f"{_PATIENCE:.0f}s",
            }
            with dask.config.set(settings), blank_main(), _deaf():
                self._local = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    memory_limit=memory or "auto",
                    dashboard_address="127.0.0.1:0",
                    worker_dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                    env={**threads, "OMP_WAIT_POLICY": "PASSIVE"},
                    local_directory=None,
                )
                # not the default of this process, where napari may compute pictures of its own with dask
                self._client = Client(self._local, direct_to_workers=True, set_as_default=False)
            self.size = workers
            if self._closed:  # meanwhile, by somebody who did not want to wait
                self._end()
                return ""
            self._client.run(_settle)
            page = f"; watch them at {self._local.dashboard_link}" if _dashboard() else ""
            return f"{workers} workers on this computer{page}"

        return begin

    def join(self, address: str, sees: Sequence[Path] = ()) -> Callable[[], str]:
        """Use the workers of a cluster, when called; it goes on afterwards.

        Raises
        ------
        UserError
            It does not answer, has no workers, or they have another version or do not see the files.
        """

        def begin() -> str:
            from distributed import Client

            try:
                with _quiet():
                    self._client = Client(address, timeout=_PATIENCE, set_as_default=False)
            except (OSError, ValueError, TypeError) as error:
                raise Hopeless(
                    f"{address}: no cluster answers there ({_line(error)}); start one with `dask scheduler`, or check "
                    "the address"
                ) from None
            self.size = sum(self._client.nthreads().values())
            if not self.size:
                raise Hopeless(f"{address}: the cluster has no workers; start some with `dask worker {address}`")
            self._check(address, sees)
            there = "dashboard" in self._client.scheduler_info()["services"]
            page = f"; watch them at {self._client.dashboard_link}" if there else ""
            return f"{self.size} workers at {address}{page}"

        return begin

    def _check(self, address: str, sees: Sequence[Path]) -> None:
        """Refuse workers that cannot do the work."""
        from cell_curator import __version__

        try:
            told = self._client.run(_introduce, [str(path) for path in sees])
        except Exception as error:
            raise Hopeless(
                f"{address}: its workers cannot run Cell Curator ({_line(error)}); install napari-cell-curator "
                f"{__version__} where they run"
            ) from None
        for worker, (version, unseen) in told.items():
            if version != __version__:
                raise Hopeless(f"{worker}: has Cell Curator {version}, here is {__version__}; install the same there")
            if unseen:
                raise Hopeless(
                    f"{unseen[0]}: the worker {worker} does not see it; put it on a disk that all workers see under "
                    "the same path"
                )

    def call(self, target: str, /, **kwargs: Any) -> Job[Any]:
        """Run ``"module:function"`` in a worker; as `engines.worker.Worker.call`, and many may be in hand.

        Raises
        ------
        UserError
            The function's own, `Passing` if its workers died, `Hopeless` if the cluster is gone.
        """
        yield Progress(0.0, "waiting")
        future = self._client.submit(perform, target, kwargs, pure=False)
        try:
            future.add_done_callback(self._note)
            seen = -1
            while not future.done():
                yield Progress(0.0)
                with self._news:
                    if seen == self._finished:
                        self._news.wait(HEARTBEAT)
                    seen = self._finished
            return _unpacked(self._result(future))
        finally:
            with suppress(Exception):
                future.cancel() if not future.done() else future.release()

    def _note(self, _: Any) -> None:
        with self._news:
            self._finished += 1
            self._news.notify_all()

    def _result(self, future: Any) -> _Outcome:
        """The outcome of a future that is done, or what became of it in words."""
        from distributed.scheduler import KilledWorker

        if future.cancelled() or future.status == "lost":
            raise Hopeless("the cluster is gone; start it and run this again: what is finished is kept")
        try:
            outcome: _Outcome = future.result(timeout=_PATIENCE)
        except KilledWorker:
            raise UserError(
                f"{_TRIES + 1} workers died over it, most likely because memory ran out; use fewer workers "
                "(--workers), a smaller image, or a computer with more memory"
            ) from None
        except Exception as error:  # the result could not be fetched
            raise Passing(f"the worker was lost ({_line(error)}); try again") from None
        return outcome

    def close(self) -> None:
        """End the workers of this computer at once; those of a cluster drop what is in hand."""
        if not self._closed:
            self._closed = True
            self._end()

    def _end(self) -> None:
        with _quiet():
            for nanny in [] if self._local is None else list(self._local.workers.values()):
                nanny.auto_restart = False
                if nanny.pid is not None:
                    with suppress(OSError):
                        os.kill(nanny.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            for part in (self._client, self._local):
                if part is not None:
                    with suppress(Exception):
                        part.close(timeout=HEARTBEAT * 20)


def perform(target: str, kwargs: dict[str, Any]) -> _Outcome:
    """In a worker: run a function and say what came of it."""
    _share_out()
    try:
        return _Outcome(drive(inline(target, **kwargs)))
    except UserError as error:
        cause = error.__cause__
        return _Outcome(message=str(error) or "failed", number=cause.errno if isinstance(cause, OSError) else None)
    except MemoryError:
        return _Outcome(message="memory ran out; use fewer workers (--workers) or a smaller image", number=errno.ENOMEM)
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        line = f"{type(error).__name__}: {_line(error)}; the log has the details"
        return _Outcome(message=line, details=traceback.format_exc(), number=number)


def _unpacked(outcome: _Outcome) -> Any:
    if not outcome.message:
        return outcome.value
    if outcome.details:
        log.error("job failed in a worker:\n%s", outcome.details)
    cause = None if outcome.number is None else OSError(outcome.number, os.strerror(outcome.number))
    raise UserError(outcome.message) from cause


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@lru_cache(maxsize=1)
def _share_out() -> None:
    """In a worker, once: the libraries that count cores for themselves use as many threads as the others."""
    import cv2
    from threadpoolctl import threadpool_limits

    share = os.environ.get("OMP_NUM_THREADS", "")
    if share.isdigit():
        os.environ.setdefault("NUMBA_NUM_THREADS", share)
        cv2.setNumThreads(int(share))
        threadpool_limits(int(share))


def _settle() -> None:
    """In a worker of this computer: Ctrl+C is for the one who asked, and whoever looks at the screen goes first."""
    with suppress(ValueError):  # not the main thread; whoever asked ends this process anyway
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(BEHIND)


def _introduce(paths: Sequence[str]) -> tuple[str, list[str]]:
    """In a worker: its version, and which of these paths it does not see."""
    from cell_curator import __version__

    return __version__, [path for path in paths if not Path(path).exists()]


def _aside(work: Callable[[], T]) -> Job[T]:
    """Do something that takes seconds in a thread, so that one can be asked to stop meanwhile."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="cell-curator-start")
    try:
        future = pool.submit(work)
        while not future.done():
            yield Progress(0.0, "starting workers")
            with suppress(TimeoutError):
                future.exception(timeout=HEARTBEAT)
        return future.result()
    finally:
        pool.shutdown(wait=False)


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started inside the block do not hear Ctrl+C, if this is the thread that can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet() -> Iterator[None]:
    """What dask logs of workers that end is nothing that a person could mend."""
    noisy = logging.getLogger("distributed")
    before = noisy.level
    noisy.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        noisy.setLevel(before)


def _dashboard() -> bool:
    return find_spec("bokeh") is not None


def _memory() -> int:
    """Bytes of memory that this computer, or its container, has."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no container, or no limit ("max")
            limits.append(int(Path(file).read_text()))
    return min(limits)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
