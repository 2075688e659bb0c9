"""One direction of a contact sheet as the user enters it: a parameter, from, to, and how many values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSpinBox,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from cell_curator.core.sweep_axes import Sweepable, start_range, values_between
from cell_curator.widgets.controls import ignore_wheel
from cell_curator.widgets.sweep_layout import Axis

_NONE = "none"
_OFF = "Of steps that are off now:"
_MOST_STEPS = 20
_PLACES = 6  # behind the point; as few are shown as will do


class AxisEdit(QWidget):
    """Edits one direction.

    Parameters
    ----------
    title
        ``"Across"``, ``"Down"``, ``"Sheets"``.
    optional
        Whether “none” is offered.
    steps
        At most so many values to begin with.
    """

    changed = Signal()

    def __init__(self, title: str, tip: str, *, optional: bool, steps: int = 5) -> None:
        super().__init__()
        self._optional, self._most = optional, steps
        self._parameters: dict[str, Sweepable] = {}
        self._values: tuple[Any, ...] = ()
        name = QLabel(title)
        name.setObjectName("project")
        name.setToolTip(tip)
        self.parameter = QComboBox()
        self.parameter.setToolTip(tip)
        self.parameter.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.parameter.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.first, self.last, self.steps = _Number(), _Number(), QSpinBox()
        self.first.setToolTip("First value; the smaller one comes first in any case (↑ and ↓ step)")
        self.last.setToolTip("Last value (↑ and ↓ step)")
        self.steps.setRange(1, _MOST_STEPS)
        self.steps.setToolTip("How many values, with the first and the last (↑ and ↓ step)")
        self.steps.setButtonSymbols(QSpinBox.ButtonSymbols.NoButtons)
        self.steps.setObjectName("sweepSteps")
        ignore_wheel(self.parameter, self.first, self.last, self.steps)
        self.said = QLabel()
        self.said.setObjectName("quiet")
        self.said.setWordWrap(True)
        self.said.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._pages = QStackedWidget()
        self._pages.addWidget(self._numbers())
        self._pages.addWidget(QWidget())
        self._pages.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (name, self.parameter, self._pages, self.said):
            layout.addWidget(widget)
        layout.addStretch(1)
        self.parameter.currentIndexChanged.connect(self._other_parameter)
        self.first.editingFinished.connect(self._ordered)
        self.last.editingFinished.connect(self._ordered)
        for spin in (self.first, self.last, self.steps):
            spin.valueChanged.connect(self._other_values)

    @property
    def path(self) -> str:
        """The parameter chosen, or ''."""
        return self.parameter.currentData() or ""

    def axis(self) -> Axis | None:
        """The direction as entered; None without one."""
        return Axis(self._parameters[self.path], self._values) if self.path else None

    def offer(self, parameters: Sequence[Sweepable], chosen: str) -> None:
        """Offer these parameters, those of steps that are on above a line; `changed` is not emitted."""
        self._parameters = {one.path: one for one in parameters}
        self.parameter.blockSignals(True)
        self.parameter.clear()
        if self._optional:
            self.parameter.addItem(_NONE, "")
        on = True
        for one in parameters:
            if on and not one.enabled:
                self.parameter.insertSeparator(self.parameter.count())
                self.parameter.addItem(_OFF)
                self.parameter.model().item(self.parameter.count() - 1).setEnabled(False)
                on = False
            self.parameter.addItem(one.title, one.path)
            self.parameter.setItemData(self.parameter.count() - 1, one.info.description, Qt.ItemDataRole.ToolTipRole)
        self.parameter.setCurrentIndex(max(0, self.parameter.findData(chosen)))
        self.parameter.blockSignals(False)
        self._show_start()

    def set_path(self, path: str) -> None:
        """Choose a parameter, as the user would; '' for none."""
        self.parameter.setCurrentIndex(self.parameter.findData(path))

    def _numbers(self) -> QWidget:
        page = QWidget()
        row = QHBoxLayout(page)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(5)
        for spin, word in ((self.first, "to"), (self.last, "in"), (self.steps, "steps")):
            row.addWidget(spin, 1)
            row.addWidget(QLabel(word))
        return page

    def _other_parameter(self) -> None:
        self._show_start()
        self.changed.emit()

    def _show_start(self) -> None:
        one = self._parameters.get(self.path)
        self._pages.setCurrentIndex(0 if one is not None and not one.words else 1)
        if one is not None and not one.words:
            first, last, count = start_range(one)
            for spin, value in ((self.first, first), (self.last, last)):
                spin.blockSignals(True)
                spin.setDecimals(0 if one.whole else _PLACES)
                spin.setRange(_or(one.info.minimum, -1e6), _or(one.maximum, 1e6))
                spin.setSingleStep(one.info.step or 1)
                spin.setSuffix(f" {one.info.unit}" if one.info.unit else "")
                spin.setValue(value)
                spin.blockSignals(False)
            self.steps.blockSignals(True)
            self.steps.setValue(min(count, self._most))
            self.steps.blockSignals(False)
        self._say()

    def _ordered(self) -> None:
        """From is the smaller one."""
        if self.first.value() > self.last.value():
            first, last = self.last.value(), self.first.value()
            self.first.setValue(first)
            self.last.setValue(last)

    def _other_values(self) -> None:
        self._say()
        self.changed.emit()

    def _say(self) -> None:
        """Which values that makes."""
        one = self._parameters.get(self.path)
        if one is None:
            self._values = ()
            self.said.setText("")
            return
        self._values = one.words or values_between(one, self.first.value(), self.last.value(), self.steps.value())
        text = ",  ".join(one.say(value, unit=False) for value in self._values)
        self.said.setText(f"{text} {one.info.unit}")
        self.said.setToolTip(f"{one.title}: now {one.say(one.present)}")


class _Number(QDoubleSpinBox):
    """A number without needless zeros; arrow keys step, the room of the buttons is for digits."""

    def __init__(self) -> None:
        super().__init__()
        self.setKeyboardTracking(False)
        self.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)
        self.setObjectName("sweepNumber")

    def textFromValue(self, value: float) -> str:  # noqa: N802
        """As short as it can be said."""
        return f"{value:.{self.decimals()}f}".rstrip("0").rstrip(".") if self.decimals() else f"{value:.0f}"


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
