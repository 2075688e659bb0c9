"""The headless door: one command for each arrow of the design. Parses, calls, prints; no logic.

Exit codes: 0 done, 1 failed, 2 bad arguments or bad input with one line that says what to do.
Neither torch nor napari is imported before a command needs it.
"""

from __future__ import annotations

import os

from cell_curator.cli import (
    about,
    classify,
    confluency,
    exchange,
    folders,
    journal,
    mapping,
    projects,
    reviewing,
    training,
)
from cell_curator.cli.frame import app

__all__ = [
    "about",
    "app",
    "classify",
    "confluency",
    "exchange",
    "folders",
    "journal",
    "main",
    "mapping",
    "projects",
    "reviewing",
    "training",
]


def main() -> None:
    """Run the ``cell-curator`` command."""
    # Threads of torch that wait must not take the processor from others; read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app(prog_name="cell-curator")
