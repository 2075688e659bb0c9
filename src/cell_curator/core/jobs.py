"""Long work as generators: a job yields `Progress` and returns its result.

Tests iterate a job, the command line iterates it under a progress bar, the docks drive it
from a thread, and `engines.worker` runs it in another process. Cancelling is closing the
generator, so a job keeps whatever it has to tidy up in ``finally`` blocks.

This module knows nothing of threads, processes or Qt.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")

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
