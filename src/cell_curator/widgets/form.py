"""A form made from a parameter model: what is declared once in `core` is shown here.

Nothing in a form is specific to any operation. Nested models become titled sections; a field
called ``enabled`` becomes the switch in its section's title; fields marked ``more`` are folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from cell_curator.core.parameters import ParameterInfo, describe, is_nested
from cell_curator.widgets.controls import Choice, Fold, NumberEdit

_SWITCH = "enabled"


class ParametersForm(QWidget):
    """Edits one parameter model.

    Parameters
    ----------
    model
        The class of the model.
    choices
        For text fields whose allowed words are known only now (e.g. installed models).
    hidden
        Names of fields that are not shown; they keep the value they had.
    zero
        Words shown in place of a 0 that means something special, by field name.
    """

    changed = Signal(object)
    """The new parameters, after a change by the user that is valid."""

    def __init__(
        self,
        model: type[BaseModel],
        *,
        choices: Mapping[str, Sequence[str]] | None = None,
        hidden: Iterable[str] = (),
        zero: Mapping[str, str] | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._model = model
        self._fields: dict[str, Any] = {}
        self._sections: dict[str, ParametersForm] = {}
        self._kept: dict[str, Any] = {}
        self._hidden = set(hidden)
        self._zero = dict(zero or {})
        self._switch: QCheckBox | None = None
        self._more: Fold | None = None
        self._extras: list[QWidget] = []
        self._note = _quiet_label()
        self._error = QLabel()
        self._error.setObjectName("error")
        self._error.setWordWrap(True)
        self._error.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self._body = _grid()
        layout.addWidget(self._body)
        self._build(choices or {})
        layout.addWidget(self._note)
        layout.addWidget(self._error)
        self.set_value(model())

    def value(self) -> Any:
        """The parameters as they stand in the form.

        Raises
        ------
        pydantic.ValidationError
            If the values do not go together.
        """
        values = dict(self._kept)
        values.update((name, control.value()) for name, control in self._fields.items())
        values.update((name, section.value()) for name, section in self._sections.items())
        return self._model(**values)

    def set_value(self, value: BaseModel) -> None:
        """Show other parameters; `changed` is not emitted."""
        for name in self._model.model_fields:
            if name in self._fields:
                self._fields[name].set_value(getattr(value, name))
            elif name in self._sections:
                self._sections[name].set_value(getattr(value, name))
            else:
                self._kept[name] = getattr(value, name)
        self._show_error("")
        self._fit_switch()

    def control(self, path: str) -> Any:
        """The control of a field, e.g. ``"diameter"`` or ``"clip.high_percent"``."""
        name, _, rest = path.partition(".")
        return self._sections[name].control(rest) if rest else self._fields[name]

    def section(self, name: str) -> ParametersForm:
        """The form of a nested model."""
        return self._sections[name]

    def set_note(self, text: str) -> None:
        """A quiet line below the fields, seen while the section is on; '' takes it away."""
        self._note.setText(text)
        self._fit_switch()

    def add_extra(self, widget: QWidget) -> None:
        """Put a widget below the fields, seen while the section is on."""
        self._extras.append(widget)
        self.layout().insertWidget(self.layout().indexOf(self._note), widget)
        self._fit_switch()

    def _build(self, choices: Mapping[str, Sequence[str]]) -> None:
        infos = {info.name: info for info in describe(self._model)}
        for name, field in self._model.model_fields.items():
            if name in self._hidden:
                continue
            if is_nested(field):
                self._add_section(name, field.annotation)
            elif field.title:
                self._add_field(infos[name], choices.get(name, ()))

    def _add_field(self, info: ParameterInfo, choices: Sequence[str]) -> None:
        control = _control(info, choices, self._zero.get(info.name, ""))
        control.changed.connect(self._on_changed)
        self._fields[info.name] = control
        tip = f"<p>{info.description}</p>"
        control.setToolTip(tip)
        target = self._body
        if info.more:
            if self._more is None:
                self._more = Fold("More", _grid())
                self.layout().insertWidget(1, self._more)
            target = self._more.content
        grid = target.layout()
        row = grid.rowCount()
        if isinstance(control, _Check):
            control.box.setText(info.title)
            grid.addWidget(control, row, 0, 1, 2)
            return
        label = QLabel(info.title)
        label.setToolTip(tip)
        label.setBuddy(control)
        grid.addWidget(label, row, 0)
        grid.addWidget(control, row, 1)

    def _add_section(self, name: str, model: type[BaseModel]) -> None:
        section = ParametersForm(model, zero=self._zero)
        section.setObjectName(f"section-{name}")
        self._sections[name] = section
        section.changed.connect(self._on_changed)
        section.become_section()
        self.layout().addWidget(section)

    def become_section(self) -> None:
        """Put a title above the form: the switch, if there is one, else the first field's own label."""
        if _SWITCH not in self._fields:
            return
        check = self._fields[_SWITCH]
        self._body.layout().removeWidget(check)
        self._switch = check.box
        self._switch.setObjectName("section")
        self.layout().insertWidget(0, check)
        self._switch.toggled.connect(self._fit_switch)
        self._fit_switch()

    def _fit_switch(self, *_: Any) -> None:
        is_on = self._switch is None or self._switch.isChecked()
        self._note.setVisible(is_on and bool(self._note.text()))
        for widget in self._extras:
            widget.setVisible(is_on)
        if self._switch is None:
            return
        others = len(self._fields) - 1 - (0 if self._more is None else self._more.content.layout().count() // 2)
        self._body.setVisible(is_on and others > 0)
        if self._more is not None:
            self._more.setVisible(is_on)

    def _on_changed(self, *_: Any) -> None:
        try:
            value = self.value()
        except ValidationError as error:
            self._show_error("; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors()))
            return
        self._show_error("")
        self.changed.emit(value)

    def _show_error(self, text: str) -> None:
        self._error.setText(text)
        self._error.setVisible(bool(text))


class _Check(QWidget):
    """A switch with its words beside it."""

    changed = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.box = QCheckBox()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.box, alignment=Qt.AlignmentFlag.AlignLeft)
        self.box.toggled.connect(self.changed)

    def value(self) -> bool:
        return self.box.isChecked()

    def set_value(self, value: bool) -> None:
        self.box.blockSignals(True)
        self.box.setChecked(bool(value))
        self.box.blockSignals(False)


class _Text(QLineEdit):
    """A line of text; counts as changed when editing ends."""

    changed = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.editingFinished.connect(self._edited)

    def value(self) -> str:
        return self.text()

    def set_value(self, value: str) -> None:
        if value != self.text():
            self.setText(value)

    def _edited(self) -> None:
        self.changed.emit(self.text())


def _control(info: ParameterInfo, choices: Sequence[str], zero: str) -> Any:
    if info.annotation is bool:
        return _Check()
    if info.choices or choices:
        return Choice(info.choices or choices)
    if info.annotation in (int, float):
        return NumberEdit(
            info.annotation,
            minimum=info.minimum,
            maximum=info.maximum,
            step=info.step,
            unit=info.unit,
            zero=zero,
        )
    return _Text()


def _quiet_label() -> QLabel:
    label = QLabel()
    label.setObjectName("quiet")
    label.setWordWrap(True)
    label.hide()
    return label


def _grid() -> QWidget:
    widget = QWidget()
    grid = QGridLayout(widget)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(8)
    grid.setVerticalSpacing(4)
    grid.setColumnMinimumWidth(0, 96)
    grid.setColumnStretch(1, 1)
    return widget
