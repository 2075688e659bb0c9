"""What the journal says of a change: settings by name, and undo as undo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace

from cell_curator.io.project import Change

_RETRACED: ContextVar[list[str] | None] = ContextVar("retraced", default=None)
"""``["undo"]`` or ``["redo"]`` while a step is taken back or done again, and what it stored so far."""


@contextmanager
def retracing(way: str) -> Iterator[None]:
    """While a step is taken back (``"undo"``) or done again (``"redo"``), changes are journalled as that."""
    token = _RETRACED.set([way])
    try:
        yield
    finally:
        _RETRACED.reset(token)


def journalled(change: Change) -> Change:
    """The change as the journal tells it: settings by name, and undo as undo."""
    if change.settings and not change.action:
        change = replace(change, action="settings", detail=dict(change.settings))
    retraced = _RETRACED.get()
    if retraced is None or not change.action:
        return change
    detail = {"of": change.action, "part": len(retraced) - 1, **change.detail}
    retraced.append(change.action)
    return replace(change, action=retraced[0], detail=detail)
