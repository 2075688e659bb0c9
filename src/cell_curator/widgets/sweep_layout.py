"""Where the tiles of a contact sheet lie: in rows and columns, or flowing with a caption below each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from qtpy.QtCore import QRect, QSize
from qtpy.QtGui import QFontMetrics

from cell_curator.core.sweep_axes import Sweepable

Index = tuple[int, ...]

GAP = 8
"""Between tiles, px."""
MARGIN = 6
"""Round all tiles, px: room for frames."""


@dataclass(frozen=True)
class Axis:
    """One direction of a sheet: a parameter and its values."""

    parameter: Sweepable
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Layout:
    """Places of the tiles in order, and how many stand in a row."""

    slots: dict[Index, QRect] = field(default_factory=dict)
    columns: int = 1

    @property
    def order(self) -> list[Index]:
        """Row by row."""
        return list(self.slots)


def header_room(axes: Sequence[Axis], metrics: QFontMetrics) -> tuple[int, int]:
    """Room for values and titles to the left of rows and above columns, px."""
    down = axes[-2]
    widest = max(metrics.horizontalAdvance(down.parameter.say(value, unit=False)) for value in down.values)
    return metrics.height() + 10 + widest + 8, 2 * metrics.height() + 12


def in_rows(axes: Sequence[Axis], sheet: int, area: QSize, aspect: float, metrics: QFontMetrics) -> Layout:
    """The last of the axes goes across, the one before down; of the first of three, one ``sheet`` is shown."""
    rows, columns = len(axes[-2].values), len(axes[-1].values)
    left, top = header_room(axes, metrics)
    wide = (area.width() - left - MARGIN - GAP * (columns - 1)) / columns
    high = (area.height() - top - MARGIN - GAP * (rows - 1)) / rows
    width, height = _fit(aspect, wide, high)
    start = left + max(0, area.width() - left - MARGIN - columns * width - (columns - 1) * GAP) // 2
    head = (sheet,) if len(axes) == 3 else ()
    slots = {
        (*head, row, column): QRect(start + column * (width + GAP), top + row * (height + GAP), width, height)
        for row in range(rows)
        for column in range(columns)
    }
    return Layout(slots, columns)


def flowing(indices: Sequence[Index], widest: int, area: QSize, aspect: float, metrics: QFontMetrics) -> Layout:
    """Tiles in this order, as large as they fit, with a title above and captions of at most ``widest`` px below."""
    caption = metrics.height() + 6
    top = caption + 6
    room = QSize(area.width() - 2 * MARGIN, area.height() - top)
    columns, width, height = _most(len(indices), room, aspect, caption, widest)
    cell = max(width, widest)
    start = MARGIN + max(0, room.width() - columns * cell - (columns - 1) * GAP) // 2
    slots = {}
    for place, index in enumerate(indices):
        row, column = divmod(place, columns)
        x = start + column * (cell + GAP) + (cell - width) // 2
        slots[index] = QRect(x, top + row * (height + caption + GAP), width, height)
    return Layout(slots, columns)


def fitted(aspect: float, area: QSize) -> QRect:
    """The largest tile in the middle of an area."""
    width, height = _fit(aspect, area.width() - 2 * MARGIN, area.height() - 2 * MARGIN)
    return QRect((area.width() - width) // 2, (area.height() - height) // 2, width, height)


def _fit(aspect: float, wide: float, high: float) -> tuple[int, int]:
    width = min(wide, high * aspect)
    return max(8, int(width)), max(8, int(width / aspect))


def _most(count: int, area: QSize, aspect: float, caption: int, least: int) -> tuple[int, int, int]:
    """Columns, width and height of so many tiles; a column is at least ``least`` px wide."""
    best = (1, 8, 8)
    for columns in range(1, count + 1):
        wide = (area.width() - GAP * (columns - 1)) / columns
        width, height = _fit(aspect, wide, area.height() / -(-count // columns) - caption - GAP)
        if width > best[1] and (wide >= least or columns == 1):
            best = (columns, width, height)
    return best
