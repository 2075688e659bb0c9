"""Small controls that the form and the docks share. They know numbers and words, no parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

WHITE_RING = QColor(255, 255, 255)
_SLIDER_STEPS = 3600  # a range with more steps than this is typed, not slid
_SPIN_WIDTH = 126  # px beside a slider, which gets the rest


class NumberEdit(QWidget):
    """A number with its unit: typed exactly, and slid where the range is small enough.

    The spin box holds the value; the slider only moves it by whole steps, so that showing a value
    never changes it. ``zero`` is a word shown in place of 0, where 0 means something special.
    """

    changed = Signal(object)

    def __init__(
        self,
        kind: type = float,
        *,
        minimum: float | None = None,
        maximum: float | None = None,
        step: float | None = None,
        unit: str = "",
        zero: str = "",
    ) -> None:
        super().__init__()
        low = -1e9 if minimum is None else minimum
        high = 1e9 if maximum is None else maximum
        self._low = low
        self._step = step or (1 if kind is int else _nice_step(low, high))
        self._kind = kind
        self._value: float = kind(max(low, 0))
        self.spin: Any = QSpinBox() if kind is int else QDoubleSpinBox()
        if kind is float:
            self.spin.setDecimals(max(_decimals(self._step), _decimals(low)))
        self.spin.setRange(kind(max(low, -(2**31))), kind(min(high, 2**31 - 1)))
        self.spin.setSingleStep(kind(self._step))
        self.spin.setSuffix(f" {unit}" if unit else "")
        if zero and low == 0:
            self.spin.setSpecialValueText(zero)
        self.spin.setKeyboardTracking(False)
        self.spin.setMinimumWidth(86)
        self.spin.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.slider: QSlider | None = None
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        steps = (high - low) / self._step
        if steps <= _SLIDER_STEPS:
            self.slider = QSlider(Qt.Orientation.Horizontal)
            self.slider.setRange(0, round(steps))
            self.slider.setMinimumWidth(60)
            self.spin.setMaximumWidth(_SPIN_WIDTH)
            self.slider.valueChanged.connect(self._slid)
            layout.addWidget(self.slider, 1)
            layout.addWidget(self.spin)
        else:
            layout.addWidget(self.spin, 1)
        self.spin.valueChanged.connect(self._typed)
        self.setFocusProxy(self.spin)
        ignore_wheel(self.spin, *([self.slider] if self.slider else []))

    def value(self) -> float:
        """The number as set, typed or slid; never rounded to what the box can show."""
        return self._value

    def set_value(self, value: float) -> None:
        """Show a number without telling anybody."""
        self._value = self._kind(value)
        self.spin.blockSignals(True)
        if self._kind is float:
            self.spin.setDecimals(max(self.spin.decimals(), _decimals(self._value)))
        if self._value != self.spin.value():
            self.spin.setValue(self._value)
        self.spin.blockSignals(False)
        self._move_slider()

    def setToolTip(self, text: str) -> None:  # noqa: N802
        """Also on the parts, which lie above."""
        super().setToolTip(text)
        self.spin.setToolTip(text)
        if self.slider is not None:
            self.slider.setToolTip(text)

    def _move_slider(self) -> None:
        if self.slider is not None:
            self.slider.blockSignals(True)
            self.slider.setValue(round((self.spin.value() - self._low) / self._step))
            self.slider.blockSignals(False)

    def _slid(self, position: int) -> None:
        self.spin.setValue(self._kind(self._low + position * self._step))

    def _typed(self, value: float) -> None:
        self._value = self._kind(value)
        self._move_slider()
        self.changed.emit(self._value)


class Choice(QComboBox):
    """One of several words."""

    changed = Signal(str)

    def __init__(self, words: Sequence[str] = ()) -> None:
        super().__init__()
        self.addItems(list(words))
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)
        self.currentTextChanged.connect(self.changed)
        ignore_wheel(self)

    def value(self) -> str:
        """The word chosen."""
        return self.currentText()

    def set_value(self, value: str) -> None:
        """Choose a word without telling anybody; an unknown one is added."""
        self.blockSignals(True)
        if self.findText(value) < 0:
            self.addItem(value)
        self.setCurrentText(value)
        self.blockSignals(False)

    def grey_out(self, word: str, why: str) -> None:
        """Show a word that cannot be chosen now, with the reason as its tooltip."""
        item = self.model().item(self.findText(word))
        if item is not None:
            item.setEnabled(False)
            item.setToolTip(why)

    def set_words(self, words: Sequence[str]) -> None:
        """Offer other words; the choice stays where it can. Nobody is told."""
        chosen = self.currentText()
        if [self.itemText(i) for i in range(self.count())] == list(words):
            return
        self.blockSignals(True)
        self.clear()
        self.addItems(list(words))
        if chosen in words:
            self.setCurrentText(chosen)
        self.blockSignals(False)


class Fold(QWidget):
    """A line that opens and closes what is below it."""

    toggled = Signal(bool)

    def __init__(self, title: str, content: QWidget, *, opened: bool = False) -> None:
        super().__init__()
        self.content = content
        self.button = QToolButton()
        self.button.setObjectName("fold")
        self.button.setText(title)
        self.button.setCheckable(True)
        self.button.setChecked(opened)
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 0, 2)
        layout.setSpacing(4)
        layout.addWidget(self.button)
        layout.addWidget(content)
        self.button.toggled.connect(self._fit)
        self._fit(opened)

    def set_open(self, opened: bool) -> None:
        """Open or close."""
        self.button.setChecked(opened)

    @property
    def is_open(self) -> bool:
        """Whether the content is shown."""
        return self.button.isChecked()

    def _fit(self, opened: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if opened else Qt.ArrowType.RightArrow)
        self.content.setVisible(opened)
        self.toggled.emit(opened)


def push_button(text: str, tip: str, slot: Callable[[], Any]) -> QPushButton:
    """A push button with its tooltip; ``slot`` is called without Qt's argument."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda: slot())
    return made


def tool_row(
    tools: Sequence[tuple[str, str, str, str]], taken: Callable[[str], Any]
) -> tuple[QWidget, dict[str, QToolButton]]:
    """A row of buttons one of which is down: (name, title, tooltip, key) each; ``taken`` is called with the name."""
    made, buttons = QWidget(), {}
    group = QButtonGroup(made)
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    for name, title, tip, key in tools:
        button = QToolButton()
        button.setObjectName("tool")
        button.setText(title)
        button.setToolTip(f"{tip} ({key})")
        button.setCheckable(True)
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda _down, name=name: taken(name))
        group.addButton(button)
        row.addWidget(button)
        buttons[name] = button
    return made, buttons


class ElidedLabel(QLabel):
    """One line that never makes a dock wider; the whole text is its tooltip."""

    def __init__(self, text: str = "", *, mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight) -> None:
        super().__init__()
        self._full, self._mode = "", mode
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.set_text(text)

    def set_text(self, text: str) -> None:
        """Show another text."""
        self._full = text
        self.setToolTip(text)
        self._elide()

    @property
    def full_text(self) -> str:
        """The text before anything was cut off."""
        return self._full

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Cut the text to the new width."""
        super().resizeEvent(event)
        self._elide()

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """As narrow as you like."""
        return QSize(0, super().minimumSizeHint().height())

    def _elide(self) -> None:
        self.setText(self.fontMetrics().elidedText(self._full, self._mode, max(self.width() - 2, 20)))


class _IgnoreWheel(QObject):
    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        if event.type() == QEvent.Type.Wheel and not watched.hasFocus():
            event.ignore()
            return True
        return False


class PictureCard(QWidget):
    """A square picture, with text beside it and ``below`` the text, what belongs to it."""

    def __init__(self, side: int, *below: QWidget) -> None:
        super().__init__()
        self.picture = QLabel()
        self.picture.setObjectName("picture")
        self.picture.setFixedSize(side + 2, side + 2)
        self.picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        beside = QVBoxLayout()
        beside.addWidget(self.text, 1, Qt.AlignmentFlag.AlignTop)
        for widget in below:
            beside.addWidget(widget)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.picture)
        row.addLayout(beside, 1)


def stacked(*widgets: QWidget) -> QWidget:
    """Widgets above each other."""
    made = QWidget()
    layout = QVBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for widget in widgets:
        layout.addWidget(widget)
    return made


def side_by_side(*widgets: QWidget) -> QWidget:
    """Widgets beside each other, equally wide."""
    made = QWidget()
    row = QHBoxLayout(made)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, 1)
    return made


def ignore_wheel(*widgets: QWidget) -> None:
    """Scrolling through a dock must not change the values that pass under the mouse."""
    for widget in widgets:
        widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        widget.installEventFilter(_IgnoreWheel(widget))


def swatch(color: tuple[float, float, float], size: int = 12, *, ring: QColor | None = None) -> QIcon:
    """A round spot of one colour; ``ring`` is for buttons, which may have the same colour when they are down."""
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor.fromRgbF(*color))
    painter.setPen(ring or QColor(128, 128, 128, 160))
    painter.drawEllipse(1, 1, size - 2, size - 2)
    painter.end()
    return QIcon(pixmap)


def _nice_step(low: float, high: float) -> float:
    """A hundredth of the range, as a power of ten."""
    span = high - low
    return 10.0 ** math.floor(math.log10(span / 100)) if 0 < span < 1e8 else 0.1


def _decimals(value: float) -> int:
    """Places behind the point that show ``value``, at most 6."""
    return len(f"{value:.6f}".rstrip("0").partition(".")[2])
