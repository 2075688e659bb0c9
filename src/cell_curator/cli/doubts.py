"""What commands say of images that look spoiled, before they begin."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cell_curator.core.image_flags import Doubtful

SkipDoubtful = Annotated[
    bool,
    typer.Option(
        "--skip-doubtful", help="Leave out images that look out of focus, over-exposed or unevenly lit; they are named."
    ),
]


def say_doubtful(found: Doubtful, skipped: bool | None = None) -> None:
    """One line on standard error, if there is anything to say; ``skipped`` is None where nothing can be left out."""
    kept = "they are used all the same"
    then = {None: kept, False: f"{kept}, --skip-doubtful leaves them out", True: "they are left out"}[skipped]
    if line := found.text(then):
        print(line, file=sys.stderr, flush=True)
