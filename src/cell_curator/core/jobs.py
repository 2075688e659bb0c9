"""Long work as generators: a job yields `Progress` and returns its result.

Tests iterate a job, the command line iterates it under a progress bar, the docks drive it
from a thread, and `engines.worker` runs it in another process. Cancelling is closing the
generator, so a job keeps whatever it has to tidy up in ``finally`` blocks.

This module knows nothing of threads, processes or Qt.
"""

from __future__ import annotations

import errno
import importlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")

Job = Generator["Progress", None, T]
"""A generator that yields `Progress` and returns a ``T``."""


@dataclass(frozen=True)
class Progress:
    """How far a job has come.

    Parameters
    ----------
    fraction
        Part done, 0..1.
    message
        One short line for a person, e.g. ``"image 3 of 12: A-03.tif"``.
    payload
        Anything worth showing while the work goes on (a loss value, a partial map). It may
        cross a process boundary, so it must be picklable.
    """

    fraction: float
    message: str = ""
    payload: Any = None


class Cancelled(Exception):  # noqa: N818  (not an error)
    """The user stopped the job; nothing is wrong."""


class UserError(Exception):
    """Something the user can mend. The text is one line: what is wrong, where, and the remedy."""


class Hopeless(UserError):  # noqa: N818
    """What every further item would meet with as well, as a cluster that is gone: it ends the whole job."""


class Passing(UserError):  # noqa: N818
    """What may be over at the next try: a worker that died with the item, a disk that did not answer."""


_MAY_PASS = ("EIO", "EAGAIN", "EBUSY", "EINTR", "EMFILE", "ENFILE", "ESTALE", "ETIMEDOUT", "EREMOTEIO", "ECONNRESET",
             "ECONNABORTED", "ENETDOWN", "ENETRESET", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH")  # fmt: skip
_PASSING = frozenset(getattr(errno, name) for name in _MAY_PASS if hasattr(errno, name))  # no system has them all
_PAUSES = (0.5, 2.0)
_BLINK = 0.05  # seconds between two yields of a job that waits


def drive(job: Job[T], on_progress: Callable[[Progress], object] | None = None) -> T:
    """Run ``job`` to its end in this thread and return its result."""
    try:
        while True:
            progress = next(job)
            if on_progress is not None:
                on_progress(progress)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        job.close()


def scaled(job: Job[T], start: float, stop: float, prefix: str = "") -> Job[T]:
    """The same job as a part of a larger one: its 0..1 is mapped to ``start..stop``."""
    try:
        while True:
            progress = next(job)
            yield replace(
                progress,
                fraction=start + (stop - start) * progress.fraction,
                message=prefix + progress.message,
            )
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        job.close()


def each(
    items: Iterable[U],
    work: Callable[[U], Job[Any]],
    *,
    name: Callable[[U], str] = str,
    failed: Callable[[U, UserError], None] | None = None,
) -> Job[int]:
    """Do ``work`` for every item in turn and return how many succeeded.

    With ``failed`` given, an item that raises `UserError` is reported to it and the others
    are still done; without, the error ends the job.
    """
    todo = list(items)
    succeeded = 0
    for index, item in enumerate(todo):
        head = f"{name(item)} ({index + 1} of {len(todo)})"
        yield Progress(index / len(todo), head)
        try:
            yield from scaled(work(item), index / len(todo), (index + 1) / len(todo), f"{head}: ")
            succeeded += 1
        except UserError as error:
            if failed is None:
                raise
            failed(item, error)
    return succeeded


# ---------------------------------------------------------------------- several in hand


@dataclass(frozen=True)
class Crew:
    """Who does the work on many images: how a function is called by name, and how many are in hand at once."""

    call: Callable[..., Job[Any]]
    at_once: int = 1


def inline(target: str, /, **kwargs: Any) -> Job[Any]:
    """Import the generator function ``"module:function"`` and run it in this process.

    Raises
    ------
    ValueError
        If ``target`` does not name an importable function.
    """
    return (yield from named(target)(**kwargs))


def named(target: str) -> Callable[..., Job[Any]]:
    """The function ``"module:function"``."""
    module, _, name = target.partition(":")
    try:
        function: Callable[..., Job[Any]] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{target!r} is no 'module:function' that can be imported: {error}") from error
    return function


ALONE = Crew(inline)
"""One image after the other, in this process."""


@dataclass(frozen=True)
class ItemState:
    """What has become of one item of many."""

    name: str
    state: str
    """``waiting``, ``working``, ``done`` or ``failed``."""
    reason: str = ""


@dataclass
class _InHand(Generic[U, V]):
    """One item that was begun."""

    item: U
    name: str
    number: int
    job: Job[V]
    progress: Progress = field(default_factory=lambda: Progress(0.0))
    over: bool = False
    result: Any = None
    error: UserError | None = None

    def step(self) -> None:
        """Go on until the next yield."""
        try:
            self.progress = next(self.job)
        except StopIteration as stop:
            self.over, self.result = True, stop.value
        except UserError as error:
            self.over, self.error = True, error


def together(
    items: Iterable[U],
    work: Callable[[U], Job[V]],
    take: Callable[[U, V], object],
    *,
    at_once: int = 1,
    name: Callable[[U], str] = str,
    failed: Callable[[U, UserError], None] | None = None,
    told: bool = False,
) -> Job[int]:
    """As `each`, with up to ``at_once`` items in hand; returns how many succeeded.

    ``take(item, result)`` is called in the order of the items, whichever was ready first, so that the outcome is
    the same however many are in hand; so is ``failed``. A finished item counts as in hand until it is taken.
    With ``told``, an `ItemState` is the payload whenever an item is begun, done or has failed.
    A job that waits should wait at most a tenth of a second before it yields.
    """
    todo = list(items)
    hand: deque[_InHand[U, V]] = deque()
    begun = succeeded = 0
    try:
        while begun < len(todo) or hand:
            while begun < len(todo) and len(hand) < max(1, at_once):
                item = todo[begun]
                begun += 1
                hand.append(_InHand(item, name(item), begun, work(item)))
                yield _how_far(hand, begun, len(todo), ItemState(name(item), "working") if told else None)
            for one in hand:
                if not one.over:
                    one.step()
                    yield _how_far(hand, begun, len(todo), one.progress.payload)
            while hand and hand[0].over:
                one = hand.popleft()
                error = _taken(one, take)
                if error is not None and (failed is None or isinstance(error, Hopeless)):
                    raise error
                if error is not None and failed is not None:
                    failed(one.item, error)
                succeeded += error is None
                state = ItemState(one.name, "done") if error is None else ItemState(one.name, "failed", str(error))
                yield _how_far(hand, begun, len(todo), state if told else None)
    finally:
        for one in hand:
            one.job.close()
    return succeeded


def _taken(one: _InHand[U, V], take: Callable[[U, V], object]) -> UserError | None:
    """Hand a result over; what went wrong with it, if anything did."""
    if one.error is not None:
        return one.error
    try:
        take(one.item, one.result)
    except UserError as error:
        return error
    return None


def _how_far(hand: deque[_InHand[Any, Any]], begun: int, count: int, payload: Any) -> Progress:
    """Of all items: those taken, and the parts of those in hand."""
    parts = sum(1.0 if one.over else min(one.progress.fraction, 1.0) for one in hand)
    fraction = (begun - len(hand) + parts) / count
    first = next((one for one in hand if not one.over), hand[0] if hand else None)
    if first is None:
        return Progress(fraction, f"{begun} of {count}", payload)
    said = f": {first.progress.message}" if first.progress.message else ""
    more = f" and {len(hand) - 1} more in hand" if len(hand) > 1 else ""
    return Progress(fraction, f"{first.name} ({first.number} of {count}{more}){said}", payload)


def retried(make: Callable[[], Job[T]], pauses: Sequence[float] = _PAUSES) -> Job[T]:
    """A job that is made anew, after a pause, if it fails for a reason that may have passed by then."""
    for pause in pauses:
        try:
            return (yield from make())
        except UserError as error:
            if not passes(error):
                raise
            reason = str(error)
        until = time.monotonic() + pause
        while time.monotonic() < until:
            time.sleep(_BLINK)
            yield Progress(0.0, f"trying again: {reason}")
    return (yield from make())


def passes(error: UserError) -> bool:
    """Whether the next try may go well: a worker was lost, or a disk or network did not answer."""
    cause = error.__cause__
    return isinstance(error, Passing) or (isinstance(cause, OSError) and cause.errno in _PASSING)
