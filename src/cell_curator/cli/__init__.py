"""The headless door: one command for each arrow of the design. Parses, calls, prints; no logic.

Exit codes: 0 done, 1 failed, 2 bad arguments or bad input with one line that says what to do.
Neither torch nor napari is imported before a command needs it.
"""

from __future__ import annotations

from cell_curator.cli import about, exchange, folders, journal, projects
from cell_curator.cli.frame import app

__all__ = ["about", "app", "exchange", "folders", "journal", "main", "projects"]


def main() -> None:
    """Run the ``cell-curator`` command."""
    app(prog_name="cell-curator")
