"""What commands on many images share: who does the work."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from cell_curator.core.jobs import UserError
from cell_curator.engines.cluster import WORTH_IT, Manpower

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


def pieces(images: Path) -> int:
    """How many pieces of work a folder of images is: files, and the blocks of large ones.

    Raises
    ------
    UserError
        As `io.images.find_images`.
    """
    from cell_curator.engines.blocks import count
    from cell_curator.io.folders import sources
    from cell_curator.io.images import read_info

    files, total = sources(images), 0
    if len(files) >= 2 * WORTH_IT:
        return len(files)
    for file in files:
        with suppress(UserError):  # said when it is its turn
            total += count(read_info(file.path).shape)
    return total


def anywhere(power: Manpower, path: Path) -> Path:
    """The path as workers that run elsewhere understand it; for this computer as it was typed."""
    return path.absolute() if power.scheduler else path


def say_who(text: str) -> None:
    """Tell who does the work, on standard error."""
    print(text, file=sys.stderr, flush=True)
