"""The page of the Explore dock on which conditions are compared, with all that speaks against believing it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from cell_curator import map_reading
from cell_curator.core.colors import cluster_color
from cell_curator.core.permutation import CHANCE, p_text
from cell_curator.core.trend import rho_text
from cell_curator.core.words import number_of
from cell_curator.widgets import style
from cell_curator.widgets.controls import Fold, push_button, swatch

if TYPE_CHECKING:
    from cell_curator.core.comparison import Comparison
    from cell_curator.core.honesty import HonestyRow
    from cell_curator.map_reading import Judgement
    from cell_curator.session import Session
    from cell_curator.widgets.dock import Dock

_ROW = 24
_NAMED = 4  # conditions; of more, only the first and the last are named
_NAME, _NUMBER, _COLUMNS_THAT_FIT = 110, 62, 5


class ConditionsPage(QWidget):
    """The table of clusters and conditions at once; the judgement, which takes seconds, at a press."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock = dock
        self._stale, self._awaited = True, False
        self.heading = _label()
        self.table = _table()
        self.sentences = _label()
        self.warnings = _label("error")
        self.judge = push_button(
            "Can this be believed? (J)",
            "Look whether the map tells images apart better than conditions, whether clusters come back, whether "
            "learned features have died, and take the scores with their controls (J)",
            self.ask,
        )
        self.scores = _label()
        self.scores.setToolTip("Each score with the space and the cells it was taken on; controls beside it")
        self.rows = Fold("Scores, and what they were taken on", self.scores, opened=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in (self.heading, self.table, self.sentences, self.judge, self.warnings, self.rows):
            layout.addWidget(widget)
        dock.add_key("J", self._key)
        self.rows.hide()
        self.warnings.hide()

    def forget(self) -> None:
        """The map or its cells changed."""
        self._stale = True
        self.rows.hide()
        if self.isVisible():
            self.fill()

    def fill(self) -> None:
        """Compare, if that was not done since the last change."""
        session = self._dock.session
        if session is None or session.embedding is None or not self.isVisible() or not self._stale:
            return
        self._stale, self._awaited = False, True
        self._dock.bench.background(partial(_compared, session), self._show, topic="comparison")

    def ask(self) -> None:
        """Everything that speaks for and against the map."""
        if self._dock.session is not None:
            self._dock.run("Judging the map", partial(map_reading.judge, self._dock.session), self._judged)

    def _key(self) -> None:
        if self.isVisible() and self.judge.isEnabled():
            self.ask()

    # ------------------------------------------------------------------ what is shown

    def _show(self, found: tuple[Comparison, tuple[str, ...]]) -> None:
        if not self._awaited:  # a judgement, which holds the same and more, was quicker
            return
        compared, warnings = found
        self._show_comparison(compared)
        self._show_warnings(warnings)

    def _show_comparison(self, compared: Comparison) -> None:
        session = self._dock.session
        if session is None or session.embedding is None:
            return
        self.heading.setText(_heading(compared))
        names, conditions = session.embedding.cluster_names, compared.conditions
        two = len(conditions) == 2  # of more, the sentence and the tooltip tell the effect
        trends = [] if compared.trend is None else [*compared.trend.tests]
        last = ["Effect"] * two + ["p"] * (not (compared.refused and trends))
        titles = ["Cluster", *["Trend", "p"] * bool(trends), *(name or "cells" for name in conditions), *last]
        first = len(titles) - len(last) - len(conditions)
        _prepare(self.table, titles, len(compared.tests))
        totals = compared.counts.sum(axis=0)
        for row, test in enumerate(compared.tests):
            name = QTableWidgetItem(
                swatch(cluster_color(test.cluster)), names.get(test.cluster, f"Cluster {test.cluster + 1}")
            )
            self.table.setItem(row, 0, name)
            for column, count in enumerate(compared.counts[row]):
                low, high = test.ranges[column]
                item = _number(f"{100 * count / max(totals[column], 1):.0f} %")
                item.setToolTip(
                    f"{count:,} of {totals[column]:,} cells; by {compared.unit} "
                    f"{100 * test.shares[column]:.0f} % ({100 * low:.0f} to {100 * high:.0f} %)"
                )
                self.table.setItem(row, first + column, item)
            texts = {"Effect": test.word or "–", "p": p_text(test.q)}
            for column, title in enumerate(last, start=first + len(conditions)):
                self.table.setItem(row, column, _verdict(texts[title], test.q, test.sentence))
            for trend in trends[row : row + 1]:
                for column, text in enumerate((rho_text(trend.rho), p_text(trend.q)), start=1):
                    self.table.setItem(row, column, _verdict(text, trend.q, trend.sentence))
        said = trends or compared.tests  # where there is an order, it says more than which two lie farthest apart
        found = [test.sentence for test in said if not math.isnan(test.q) and test.q <= CHANCE]
        self.sentences.setText("<br>".join(map(escape, found)))
        self.sentences.setVisible(bool(found))

    def _show_warnings(self, warnings: tuple[str, ...]) -> None:
        self.warnings.setText("<br>".join(f"⚠ {escape(line[:1].upper() + line[1:])}." for line in warnings))
        self.warnings.setVisible(bool(warnings))

    def _judged(self, judgement: Judgement) -> str:
        self._awaited = False
        self._show_comparison(judgement.comparison)
        self._show_warnings(judgement.warnings)
        self._show_scores(judgement.honesty)
        count = len(judgement.warnings)
        return number_of(count, "warning") if count else "Nothing speaks against this map"

    def _show_scores(self, rows: tuple[HonestyRow, ...]) -> None:
        quiet = style.colors(str(self._dock.bench.viewer.theme))["quiet"]
        lines = []
        for row in rows:
            value = "–" if math.isnan(row.value) else f"{row.value:.2f}" if abs(row.value) < 100 else f"{row.value:.0f}"
            where = f'<span style="color: {quiet}">{row.space} · {row.split}</span>'
            lines.append(f'<tr><td>{row.what}<br>{where}</td><td align="right"><b>{value}</b></td></tr>')
        self.scores.setText(f'<table width="100%" cellspacing="3">{"".join(lines)}</table>')
        self.rows.show()


def _compared(session: Session) -> tuple[Comparison, tuple[str, ...]]:
    compared = map_reading.comparison(session)
    return compared, map_reading.quick_warnings(session, compared)


def _heading(compared: Comparison) -> str:
    return "<br>".join(part for part in (_trend_said(compared), _difference_said(compared)) if part)


def _named(names: Sequence[str]) -> str:
    """The first and the last of many."""
    return ", ".join(names) if len(names) <= _NAMED else f"{names[0]} … {names[-1]}"


def _trend_said(compared: Comparison) -> str:
    trend = compared.trend
    if trend is None:
        return ""
    count, every = len(trend.found), len(trend.tests)
    said = f"{count} of {every} clusters rise or fall" if count else "No cluster rises or falls"
    how = f"rank correlation over {compared.unit}s, p corrected for the number of clusters"
    return f"<b>{said} with the dose</b> ({escape(_named([*trend.doses]))}; {how})."


def _difference_said(compared: Comparison) -> str:
    if compared.refused:
        what = "Single conditions" if compared.trend is not None else "Conditions"
        return f"<b>{what} cannot be compared:</b> {escape(compared.refused)}."
    units = ", ".join(f"{name or 'no condition'} {count}" for name, count in compared.units.items())
    if len(compared.units) > _NAMED:
        fewest, most = min(compared.units.values()), max(compared.units.values())
        each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        units = f"{each} of each condition"
    sure = compared.p <= CHANCE
    how = "all arrangements of them" if compared.exact else f"{compared.arrangements:,} arrangements drawn by chance"
    said = "Conditions differ in their clusters" if sure else f"No difference beyond that between {compared.unit}s"
    return (
        f"<b>{said}</b> (p {escape(p_text(compared.p))}). Tested by {compared.unit}, not by cell: {escape(units)}; "
        f"{how} were compared, and p of each cluster is corrected ({compared.correction})."
    )


def _label(name: str = "") -> QLabel:
    label = QLabel()
    label.setObjectName(name)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _table() -> QTableWidget:
    table = QTableWidget()
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
    table.setShowGrid(False)
    table.verticalHeader().hide()
    table.verticalHeader().setDefaultSectionSize(_ROW)
    return table


def _prepare(table: QTableWidget, titles: list[str], rows: int) -> None:
    """As many rows and columns as are needed, and high enough for all rows."""
    table.setColumnCount(len(titles))
    table.setHorizontalHeaderLabels(titles)
    table.setRowCount(rows)
    header = table.horizontalHeader()
    header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
    header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
    header.setMinimumSectionSize(30)
    for column, title in enumerate(titles):
        table.horizontalHeaderItem(column).setToolTip(title)
        if 0 < column < len(titles) - 1:
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            table.setColumnWidth(column, _NUMBER)
    wide = len(titles) > _COLUMNS_THAT_FIT
    if wide:
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        table.setColumnWidth(0, _NAME)
    bar = table.horizontalScrollBar().sizeHint().height() if wide else 0
    table.setFixedHeight(max(rows, 1) * _ROW + header.sizeHint().height() + bar + 6)


def _verdict(text: str, q: float, sentence: str) -> Any:
    """A figure of a test: bold where it is a finding, with the sentence as a tooltip."""
    item = _number(text)
    font = item.font()
    font.setBold(not math.isnan(q) and q <= CHANCE)
    item.setFont(font)
    item.setToolTip(sentence)
    return item


def _number(text: str) -> Any:
    item: Any = QTableWidgetItem(text)
    item.setTextAlignment(int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter))
    return item
