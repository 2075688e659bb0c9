"""What commands on many images share: who does the work."""

from __future__ import annotations

import sys
from pathlib import Path

from cell_curator.core.jobs import UserError
from cell_curator.engines.cluster import Manpower

LIGHT = 20
"""How many times less work it is to cut cells out of an image, look at it or write it, than to find its cells."""


def manpower(workers: int | None, scheduler: str, *sees: Path) -> Manpower:
    """What was typed as ``--workers`` and ``--scheduler``; the workers of a cluster must see these paths.

    Raises
    ------
    UserError
        Both were typed.
    """
    if workers is not None and scheduler:
        raise UserError("--workers is for this computer; a cluster has its own, so leave it out with --scheduler")
    return Manpower(workers or 0, scheduler, tuple(path.resolve() for path in sees))


def anywhere(power: Manpower, path: Path) -> Path:
    """The path as workers that run elsewhere understand it; for this computer as it was typed."""
    return path.absolute() if power.scheduler else path


def say_who(text: str) -> None:
    """Tell who does the work, on standard error."""
    print(text, file=sys.stderr, flush=True)
