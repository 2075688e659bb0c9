"""The way from all cells found to the cells that count, as thin bars with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPalette
from qtpy.QtWidgets import QSizePolicy, QWidget

from cell_curator.core.clean import Step

_ROW = 16
_BAR = 7
_KEPT, _STEP, _LOST = QColor("#009e73"), QColor("#56b4e9"), QColor("#d55e00")


class FunnelBars(QWidget):
    """One bar for each step: what is left in colour, what the step took away behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: tuple[Step, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_steps(self, steps: Sequence[Step]) -> None:
        """Show other numbers."""
        self.steps = tuple(steps)
        self.setToolTip("\n".join(f"{step.left:,} {step.name}{_minus(step)}" for step in self.steps))
        self.setVisible(bool(self.steps))
        self.updateGeometry()
        self.update()

    @property
    def text(self) -> str:
        """The chain in one line."""
        return " → ".join(f"{step.left:,} {step.name}" for step in self.steps)

    def sizeHint(self) -> QSize:  # noqa: N802
        """A thin row for each step."""
        return QSize(200, _ROW * len(self.steps))

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """As high as all rows."""
        return QSize(120, _ROW * len(self.steps))

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """Draw the rows."""
        if not self.steps:
            return
        painter = QPainter(self)
        metrics = painter.fontMetrics()
        words = max(metrics.horizontalAdvance(f"{step.left:,} {step.name}") for step in self.steps) + 10
        lost = max(metrics.horizontalAdvance(_minus(step)) for step in self.steps) + 6
        room = max(self.width() - words - lost, 20)
        most = max(self.steps[0].left, 1)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        for index, step in enumerate(self.steps):
            top = index * _ROW
            row = QRect(0, top, words - 8, _ROW)
            painter.setPen(text)
            painter.drawText(
                row, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), f"{step.left:,} {step.name}"
            )
            bar, at = top + (_ROW - _BAR) // 2, words
            left, gone = (round(room * count / most) for count in (step.left, step.removed))
            painter.fillRect(at, bar, left, _BAR, _KEPT if index == len(self.steps) - 1 else _STEP)
            painter.fillRect(at + left, bar, max(gone, 1 if step.removed else 0), _BAR, _LOST)
            painter.drawText(
                QRect(at + left + gone + 4, top, lost, _ROW), int(Qt.AlignmentFlag.AlignVCenter), _minus(step)
            )
        painter.end()


def _minus(step: Step) -> str:
    return f" −{step.removed:,}" if step.removed else ""
