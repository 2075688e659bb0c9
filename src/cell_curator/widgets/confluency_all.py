"""What was measured in all images, and giving it away: table, curve, what was corrected, CSV."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from cell_curator.core.jobs import UserError
from cell_curator.cover_report import CURVE, TABLE
from cell_curator.widgets.confluency_results import CoverPlot, CoverTable
from cell_curator.widgets.controls import push_button

if TYPE_CHECKING:
    from cell_curator.core.confluency import Calibration, ConfluencyParameters
    from cell_curator.cover_report import CoverReport


class AllCovers(QWidget):
    """Seen once all images were measured."""

    export_asked = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self.report: CoverReport | None = None
        self.table = CoverTable(viewer)
        self.plot = CoverPlot(viewer)
        self.notes = QLabel()
        self.notes.setObjectName("quiet")
        self.notes.setWordWrap(True)
        self.export = push_button(
            "Save as CSV…", "Save the table, and the curve beside it (Ctrl+E)", self.export_asked.emit
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.notes, self.table, self.plot, self.export):
            layout.addWidget(part)
        self.hide()

    def show_report(self, report: CoverReport | None, say: ConfluencyParameters, *, stale: bool = False) -> None:
        """Show what was found; ``stale``: settings changed since."""
        self.report = report
        self.setVisible(report is not None)
        if report is None:
            return
        self.table.show_report(report, say)
        self.plot.show_report(report, say)
        lines = ["Settings changed since: measure again."] * stale
        if report.threshold is not None:
            lines.append(f"One threshold for all images: {report.threshold:g}.")
        if report.calibration is not None:
            lines.append(_taught(report.calibration))
        self.notes.setText(" ".join(lines))
        self.notes.setVisible(bool(lines))


def _taught(made: Calibration) -> str:
    if (made.slope, made.offset) == (1.0, 0.0):
        return f"The regions drawn by hand ({made.parts}) agree with what was found."
    slope = "what was found" if made.slope == 1.0 else f"{made.slope:.2f} × what was found"
    return f"Corrected by {made.parts} regions drawn by hand: {made.offset:+.1f} points + {slope}."


def save_tables(folder: Path, path: Path) -> str:
    """Copy the table in ``folder`` to ``path`` and the curve beside it; one line for the user.

    Raises
    ------
    UserError
        If they cannot be written.
    """
    beside = path.with_name(f"{path.stem}_curve{path.suffix or '.csv'}")
    try:
        shutil.copyfile(folder / TABLE, path)
        shutil.copyfile(folder / CURVE, beside)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
    return f"Saved {path.name} and {beside.name}"
