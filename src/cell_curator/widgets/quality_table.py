"""Quality figures before and after the steps, with an arrow that says better or worse."""

from __future__ import annotations

from dataclasses import asdict, fields

from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from cell_curator.core.quality import Quality
from cell_curator.widgets import style

_COLUMNS = 3


class QualityTable(QWidget):
    """Figures side by side: what it is with the arrow, and “raw → prepared” below."""

    def __init__(self, theme: str) -> None:
        super().__init__()
        self._theme = theme
        self._last: tuple[Quality, Quality] | None = None
        self._values: dict[str, tuple[QLabel, QLabel]] = {}
        self._colors: dict[str, str] = {}
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(3)
        grid.setVerticalSpacing(0)
        for index, field in enumerate(fields(Quality)):
            unit = " %" if field.metadata["unit"].startswith("%") else ""
            title, value, arrow = QLabel(f"{field.metadata['title']}{unit}"), QLabel("–"), QLabel()
            title.setObjectName("quiet")
            tip = f"<p>{field.metadata['description']}; {field.metadata['better']} is better. Raw → prepared image.</p>"
            for label in (title, value, arrow):
                label.setToolTip(tip)
            row, column = divmod(index, _COLUMNS)
            grid.addWidget(title, 3 * row, 2 * column)
            grid.addWidget(arrow, 3 * row, 2 * column + 1)
            grid.addWidget(value, 3 * row + 1, 2 * column, 1, 2)
            self._values[field.name] = (value, arrow)
        grid.setRowMinimumHeight(2, 4)
        for column in range(_COLUMNS):
            grid.setColumnStretch(2 * column + 1, 1)

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
            self._colors[name] = color

    def color(self, name: str) -> str:
        """The colour of one figure's arrow."""
        return self._colors[name]

    def text(self, name: str) -> str:
        """What is shown of one figure."""
        return " ".join(label.text() for label in self._values[name])


def _short(value: float) -> str:
    """At most five characters."""
    if abs(value) >= 999.5:
        return f"{value / 1e3:.2g}k" if abs(value) < 9.95e3 else f"{value / 1e3:.0f}k" if abs(value) < 1e6 else ">1M"
    return f"{value:.3g}" if abs(value) >= 0.1 else f"{value:.3f}"
