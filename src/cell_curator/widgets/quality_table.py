"""Quality figures before and after the steps, with an arrow that says better or worse."""

from __future__ import annotations

from dataclasses import asdict, fields

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from cell_curator.core.quality import Quality
from cell_curator.widgets import style

_COLUMNS = 2
_ARROW = 15  # px


class QualityTable(QWidget):
    """Two columns of figures, each “raw → prepared” with an arrow."""

    def __init__(self, theme: str) -> None:
        super().__init__()
        self._theme = theme
        self._last: tuple[Quality, Quality] | None = None
        self._values: dict[str, tuple[QLabel, QLabel]] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(4)
        grid.setVerticalSpacing(1)
        for index, field in enumerate(fields(Quality)):
            unit = " %" if field.metadata["unit"].startswith("%") else ""
            title, value, arrow = QLabel(f"{field.metadata['title']}{unit}"), QLabel("–"), QLabel()
            title.setObjectName("quiet")
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
            arrow.setFixedWidth(_ARROW)
            tip = f"<p>{field.metadata['description']}; {field.metadata['better']} is better. Raw → prepared image.</p>"
            for label in (title, value, arrow):
                label.setToolTip(tip)
            row, column = divmod(index, _COLUMNS)
            for place, label in enumerate((title, value, arrow)):
                grid.addWidget(label, row, 4 * column + place)
            self._values[field.name] = (value, arrow)
        grid.setColumnMinimumWidth(3, 8)
        for column in (1, 5):
            grid.setColumnStretch(column, 1)

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self._theme = theme
        if self._last is not None:
            self.show_quality(*self._last)

    def show_quality(self, raw: Quality, prepared: Quality) -> None:
        """Show the figures of both."""
        self._last = (raw, prepared)
        better = prepared.compare(raw)
        before, after = asdict(raw), asdict(prepared)
        c = style.colors(self._theme)
        for field in fields(Quality):
            name = field.name
            rise = "▲" if after[name] > before[name] else "▼"
            color = {1: c["good"], 0: c["quiet"], -1: c["error"]}[better[name]]
            value, arrow = self._values[name]
            value.setText(f"{_short(before[name])}\u2009→\u2009{_short(after[name])}")
            arrow.setText(rise if better[name] else "=")
            arrow.setStyleSheet(f"color: {color}")

    def text(self, name: str) -> str:
        """What is shown of one figure."""
        return " ".join(label.text() for label in self._values[name])


def _short(value: float) -> str:
    return f"{value:.2g}" if 0.1 <= abs(value) < 10 else f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}"
