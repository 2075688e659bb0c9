"""Which cells the Review dock lists, and in which order."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QGridLayout, QHBoxLayout, QLabel, QToolButton, QWidget

from cell_curator.core.cells import VERDICTS
from cell_curator.core.outliers import REASONS
from cell_curator.widgets.cell_looks import MEASUREMENTS
from cell_curator.widgets.controls import Choice, ignore_wheel

if TYPE_CHECKING:
    import pandas as pd

    from cell_curator.session import Session

SUSPICIOUS, ALL, CHOSEN = "suspicious", "all", "chosen"
_LISTS = (SUSPICIOUS, ALL, CHOSEN, *VERDICTS)
ANY = "any"
ANY_REASON = "any reason"
LIKELY = "likely bad"
"""Column of what the verdicts teach; it can be chosen once something was learned."""
_COLUMNS = {
    LIKELY: LIKELY,
    "suspicion": "score",
    "number": "cell_id",
    "image": "image",
    "cluster": "cluster",
    **MEASUREMENTS,
}
_OPEN = -1e9  # a limit that is not set


@dataclass(frozen=True)
class Wanted:
    """What is listed.

    ``reason`` is a key of `core.outliers.REASONS`; ``column`` is both what is sorted by and what ``low`` and
    ``high`` limit.
    """

    listed: str = SUSPICIOUS
    reason: str | None = None
    column: str = "score"
    falling: bool = True
    low: float | None = None
    high: float | None = None
    condition: str = ANY
    cluster: int | None = None
    image: int | None = None


def cells_of(
    frame: pd.DataFrame,
    wanted: Wanted,
    chosen: Collection[int] = (),
    because: Collection[int] | None = None,
    likely: pd.Series[float] | None = None,
) -> NDArray[np.int64]:
    """Ids of the cells that are wanted, in order; equal ones in the order of their ids, unknown values last.

    ``because``: the cells that have the reason asked for; ``likely``: values of the column `LIKELY` by cell id.
    """
    keep = np.ones(len(frame), bool)
    if wanted.listed == SUSPICIOUS:
        keep &= frame["flags"].to_numpy() != ""
    elif wanted.listed == CHOSEN:
        keep &= frame.index.isin(list(chosen))
    elif wanted.listed != ALL:
        keep &= frame["verdict"].to_numpy() == wanted.listed
    if because is not None:
        keep &= frame.index.isin(list(because))
    for name, value in (("cluster", wanted.cluster), ("image", wanted.image)):
        if value is not None:
            keep &= frame[name].to_numpy() == value
    if wanted.condition != ANY:
        keep &= frame["condition"].to_numpy() == wanted.condition
    values = _values(frame, wanted.column, likely)
    if wanted.low is not None:
        keep &= values >= wanted.low
    if wanted.high is not None:
        keep &= values <= wanted.high
    ids, values = frame.index.to_numpy()[keep], values[keep]
    order = np.argsort(-values if wanted.falling else values, kind="stable")  # NaN comes last either way
    return np.asarray(ids[order], np.int64)


def _values(frame: pd.DataFrame, column: str, likely: pd.Series[float] | None) -> NDArray[np.float64]:
    if column == LIKELY:
        known = np.full(len(frame), np.nan) if likely is None else likely.reindex(frame.index).to_numpy()
        return np.asarray(known, np.float64)
    return np.asarray(frame.index if column == "cell_id" else frame[column], np.float64)


class FilterBar(QWidget):
    """The controls of `Wanted`."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.listed = _choice(_LISTS, "Which cells are listed; a list keeps its cells until it is made again")
        self.reason = _choice((ANY_REASON, *REASONS.values()), "Only cells that are suspicious for this reason")
        self.column = _choice(_offered(False), "What the cells are sorted by, and what “from … to” limits")
        self.order = QToolButton()
        self.order.setToolTip("Largest or smallest first")
        self.order.setText("↓")
        self.order.clicked.connect(self._turn)
        self.condition = _choice((ANY,), "Only cells of this condition")
        self.cluster = _choice((ANY,), "Only cells of this cluster of the map")
        self.image = _choice(("all", "the one on screen"), "Cells of all images, or of the image on screen")
        self.low, self.high = _limit("from"), _limit("to")
        self.more = self._more()
        """The rarer ones, for the dock to place."""
        self.sorting = QHBoxLayout()
        self.sorting.addWidget(self.column, 1)
        self.sorting.addWidget(self.order)
        what = QHBoxLayout()
        what.addWidget(self.listed, 1)
        what.addWidget(self.reason, 1)
        grid = _grid(self)
        for row, (title, layout) in enumerate((("Show", what), ("Sort by", self.sorting))):
            grid.addWidget(QLabel(title), row, 0)
            grid.addLayout(layout, row, 1)
        for choice in (self.listed, self.reason, self.column, self.condition, self.cluster, self.image):
            choice.changed.connect(self._edited)
        for limit in (self.low, self.high):
            limit.valueChanged.connect(self._edited)

    def wanted(self, session: Session) -> Wanted:
        """What is set, for this session."""
        clusters = {name: number for number, name in _clusters(session).items()}
        return Wanted(
            listed=self.listed.value(),
            reason={title: key for key, title in REASONS.items()}.get(self.reason.value()),
            column=_COLUMNS[self.column.value()],
            falling=self.order.text() == "↓",
            low=_value(self.low),
            high=_value(self.high),
            condition=self.condition.value(),
            cluster=clusters.get(self.cluster.value()),
            image=session.current_image if self.image.currentIndex() == 1 else None,
        )

    def follow(self, session: Session) -> None:
        """Offer the conditions and clusters that there are."""
        conditions = dict.fromkeys(record.condition for record in session.images if record.condition)
        self.condition.set_words((ANY, *conditions))
        self.cluster.set_words((ANY, *_clusters(session).values()))

    def offer_likely(self, on: bool) -> None:
        """Whether cells can be sorted by what the verdicts teach."""
        self.column.set_words(_offered(on))

    def show_list(self, name: str, column: str = "") -> None:
        """List these cells with nothing else asked of them, by a column; `changed` is not emitted."""
        self.listed.set_value(name)
        if column:
            self.column.set_value(column)
            self.order.setText("↓")
        self.reason.set_value(ANY_REASON)
        for choice in (self.condition, self.cluster):
            choice.set_value(ANY)
        self.image.set_value("all")
        for limit in (self.low, self.high):
            limit.blockSignals(True)
            limit.setValue(_OPEN)
            limit.blockSignals(False)

    def set_enabled_reasons(self, on: bool, why: str) -> None:
        """Reasons can be chosen only where the cells were looked at."""
        self.reason.setEnabled(on)
        self.reason.setToolTip("Only cells that are suspicious for this reason" if on else why)

    def _more(self) -> QWidget:
        more = QWidget()
        grid = _grid(more)
        limits = QHBoxLayout()
        limits.addWidget(self.low, 1)
        limits.addWidget(self.high, 1)
        grid.addWidget(QLabel("Sorted value"), 0, 0)
        grid.addLayout(limits, 0, 1)
        named = (("Condition", self.condition), ("Cluster", self.cluster), ("Images", self.image))
        for row, (title, control) in enumerate(named, start=1):
            grid.addWidget(QLabel(title), row, 0)
            grid.addWidget(control, row, 1)
        return more

    def _turn(self) -> None:
        self.order.setText("↑" if self.order.text() == "↓" else "↓")
        self._edited()

    def _edited(self, *_: Any) -> None:
        self.changed.emit()


def _offered(likely: bool) -> tuple[str, ...]:
    return tuple(name for name in _COLUMNS if likely or name != LIKELY)


def _clusters(session: Session) -> dict[int, str]:
    """Names of the clusters of the map by number, and of the cells in none."""
    if session.embedding is None:
        return {}
    numbers = sorted(int(number) for number in session.cells.frame["cluster"].unique())
    names = session.embedding.cluster_names
    return {n: names.get(n, f"Cluster {n + 1}") if n >= 0 else "no cluster" for n in numbers}


def _choice(words: Collection[str], tip: str) -> Choice:
    choice = Choice(list(words))
    choice.setToolTip(tip)
    return choice


def _limit(word: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(_OPEN, 1e9)
    box.setDecimals(2)
    box.setSpecialValueText(f"{word} –")
    box.setPrefix(f"{word} ")
    box.setValue(_OPEN)
    box.setKeyboardTracking(False)
    box.setMinimumWidth(80)
    box.setToolTip("A limit for the value that is sorted by; the lowest value there is means none")
    box.setStepType(QDoubleSpinBox.StepType.AdaptiveDecimalStepType)
    ignore_wheel(box)
    return box


def _value(box: QDoubleSpinBox) -> float | None:
    return None if box.value() <= _OPEN else float(box.value())


def _grid(widget: QWidget) -> QGridLayout:
    grid = QGridLayout(widget)
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setHorizontalSpacing(6)
    grid.setVerticalSpacing(4)
    grid.setColumnStretch(1, 1)
    return grid
