"""The contact sheet: the part in view with every combination of a few values; a click adopts a recipe.

Computes nothing itself: sheets are jobs of `cell_curator.sweeping`, driven by the workbench.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QApplication,
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from cell_curator import sweeping
from cell_curator.core.jobs import Progress, UserError
from cell_curator.core.preview import Region
from cell_curator.core.recipe import Recipe
from cell_curator.core.sweep import Tile
from cell_curator.core.sweep_axes import check, sweepable, usual_pair
from cell_curator.core.words import number_of
from cell_curator.widgets import style
from cell_curator.widgets.controls import ElidedLabel
from cell_curator.widgets.dock import Connections, line
from cell_curator.widgets.job_line import JobLine
from cell_curator.widgets.runner import Outcome
from cell_curator.widgets.sweep_axis import AxisEdit
from cell_curator.widgets.sweep_grid import SheetView
from cell_curator.widgets.sweep_layout import Axis
from cell_curator.widgets.workbench import Workbench

_SIZE = (1000, 760)
_HINT = "Click a tile to use its recipe; hold the right button to see it large.  Keys: arrows, Space, Enter, Esc"
_NO_PROJECT = "Needs a project: open the image as part of one, then find and review a few cells"
_NO_CELLS = "No reviewed cell is in view: accept, correct or lock a few cells in Review, or move the view to some"
_GONE = "The image is no longer in the project"


@dataclass(frozen=True)
class Subject:
    """What a sheet shows: an image, the recipe it starts from, the part and the resolution."""

    image: Any
    recipe: Recipe
    region: Region | None
    step: float
    image_id: int | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the part, px of the original."""
        top, left, bottom, right = self.region or (0, 0, *self.image.shape[-2:])
        return max(1, bottom - top), max(1, right - left)

    @property
    def channels(self) -> int:
        """Number of channels of the image."""
        return self.image.shape[0] if self.image.ndim == 3 else 1

    def same_view(self, other: Subject | None) -> bool:
        """Whether both show the same pixels."""
        if other is None or self.image is not other.image:
            return False
        return (self.region, self.step, self.image_id) == (other.region, other.step, other.image_id)


class SweepWindow(QWidget):
    """A window of its own beside the viewer; made once, shown for one view after another."""

    adopted = Signal(object)
    """The `Recipe` of the tile that was clicked."""

    def __init__(self, bench: Workbench, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self.bench = bench
        self._subject: Subject | None = None
        self._mine = False
        self._links, self._session_links = Connections(), Connections()
        self.setWindowTitle("Compare settings")
        screen = QApplication.primaryScreen().availableSize()
        self.resize(min(_SIZE[0], screen.width()), min(_SIZE[1], screen.height()))
        self._build_controls()
        self._assemble()
        self.view.chosen.connect(self._chosen)
        self.view.pointed.connect(self._pointed)
        bench.runner.started.connect(self._started)
        bench.runner.progressed.connect(self._progressed)
        bench.runner.ended.connect(self._ended)
        self._links.add(bench.session_changed, self._on_session)
        self._links.add_napari(bench.viewer.events.theme, self._on_theme)
        self.destroyed.connect(partial(Connections.clear, self._links))
        self.destroyed.connect(partial(Connections.clear, self._session_links))
        self._on_theme()
        self._on_session(bench.session)

    # ------------------------------------------------------------------ what the dock calls

    def open_for(self, image: Any, recipe: Recipe, *, region: Region | None, step: float, image_id: int | None) -> None:
        """Show the window for what is in view; a sheet of the same view stays.

        Parameters
        ----------
        image
            ``(Y, X)`` or ``(C, Y, X)``, anything that is sliced like an array.
        region, step
            As in `core.preview.preview`.
        image_id
            The image's number in the open project; None without one, and then without scores.
        """
        subject = Subject(image, recipe, region, step, image_id)
        if not subject.same_view(self._subject):
            self.view.begin((), 1.0)
            self._show_tabs(())
        self._subject = subject
        parameters = sweepable(recipe, subject.channels)
        usual = [one.path for one in usual_pair(parameters)]
        known = {one.path for one in parameters}
        for edit, path in zip(self.axes, [*usual, ""], strict=True):
            edit.offer(parameters, edit.path if edit.path in known else path)
        self.show_recipe(recipe)
        self._fit()
        self.setWindowTitle(f"Compare settings: {self._name()}")
        self.show()
        self.raise_()
        self.activateWindow()
        self.make.setFocus()

    def show_recipe(self, recipe: Recipe) -> None:
        """Mark the tile of the recipe that is in use now."""
        if self._subject is not None:
            self._subject = replace(self._subject, recipe=recipe)
        self.view.show_present(recipe)

    # ------------------------------------------------------------------ building

    def _build_controls(self) -> None:
        self.across = AxisEdit("Across", "The parameter that changes from left to right", optional=False)
        self.down = AxisEdit("Down", "The parameter that changes from top to bottom", optional=True)
        self.sheets = AxisEdit("Sheets", "A third parameter: one sheet for each of its values", optional=True, steps=3)
        self.axes = (self.across, self.down, self.sheets)
        for edit in self.axes:
            edit.changed.connect(self._fit)
        self.make = QPushButton("Make the sheet")
        self.make.setObjectName("primary")
        self.make.setToolTip("Prepare the part in view once for every combination")
        self.make.clicked.connect(self._make)
        self.plan = QLabel()
        self.plan.setWordWrap(True)
        self.score = QCheckBox("Score by segmentation")
        self.score.toggled.connect(self._fit)
        self.best_first = QCheckBox("Best first")
        self.outlines = QCheckBox("Outlines")
        self.outlines.setToolTip("Draw round the cells that were found in each tile")
        self.outlines.setChecked(True)
        self.view = SheetView()
        self.best_first.toggled.connect(self._order)
        self.outlines.toggled.connect(self.view.show_outlines)
        self.jobs = JobLine(self.bench, self)
        self.tabs = QTabBar()
        self.tabs.setExpanding(False)
        self.tabs.setDrawBase(False)
        self.tabs.currentChanged.connect(self.view.show_sheet)
        self.tabs_title = QLabel()
        self.tabs_title.setObjectName("project")
        self.detail = ElidedLabel(_HINT)
        self.detail.setObjectName("quiet")

    def _assemble(self) -> None:
        top = QHBoxLayout()
        top.setSpacing(14)
        for edit in self.axes:
            top.addWidget(edit, 1)
        switches = QHBoxLayout()
        switches.setSpacing(14)
        switches.addWidget(self.make)
        switches.addWidget(self.plan, 1)
        for box in (self.score, self.best_first, self.outlines):
            switches.addWidget(box)
        self._tab_row = QWidget()
        tabs = QHBoxLayout(self._tab_row)
        tabs.setContentsMargins(0, 0, 0, 0)
        tabs.addWidget(self.tabs_title)
        tabs.addWidget(self.tabs)
        tabs.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 12, 14, 4)
        layout.setSpacing(8)
        layout.addLayout(top)
        layout.addLayout(switches)
        layout.addWidget(line())
        layout.addWidget(self._tab_row)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.detail)
        layout.addWidget(self._foot())
        self._show_tabs(())

    def _foot(self) -> QWidget:
        """The state of the job, with room for its bar, so that tiles keep their size when it comes and goes."""
        foot = QWidget()
        within = QVBoxLayout(foot)
        within.setContentsMargins(0, 0, 0, 0)
        within.addWidget(self.jobs)
        within.addStretch(1)
        foot.setMinimumHeight(self.jobs.cancel.sizeHint().height() + self.jobs.state.sizeHint().height() + 6)
        return foot

    # ------------------------------------------------------------------ making a sheet

    def _chosen_axes(self) -> list[Axis]:
        """Slowest first: sheets, down, across."""
        return [axis for edit in reversed(self.axes) if (axis := edit.axis()) is not None]

    def _make(self) -> None:
        subject = self._subject
        if subject is None:
            return
        axes = self._chosen_axes()
        try:
            grid = check([(axis.parameter, axis.values) for axis in axes])
        except UserError as error:
            self.jobs.show_error(str(error))
            return
        height, width = subject.size
        arguments = (subject.image, subject.recipe, grid)
        session, image_id = self.bench.session, subject.image_id
        job = partial(sweeping.contact_sheet, *arguments, region=subject.region, step=subject.step)
        if self.score.isChecked() and self.score.isEnabled() and session is not None and image_id is not None:
            job = partial(
                sweeping.scored_sheet, session, image_id, *arguments, region=subject.region, step=subject.step
            )
        if self.bench.runner.busy:
            self.jobs.show_error(f"“{self.bench.runner.title}” is still running; wait for it, or cancel it first")
            return
        self.view.begin(axes, width / height)
        self._show_tabs(axes)
        self.best_first.setChecked(False)
        self.jobs.run("Making the sheet", job, self._made, reading=True)
        self.view.setFocus()

    def _made(self, tiles: tuple[Tile, ...]) -> str:
        best = self.view.best
        if not best:
            return f"{len(tiles)} tiles made"
        if len(best) > 1:
            return f"{len(tiles)} tiles scored; the best {len(best)} are equally good, AP {best[0].score:.2f}"
        return f"{len(tiles)} tiles scored. Best: {self.view.describe(best[0].index)}"

    def _started(self, _title: str, owner: object) -> None:
        self._mine = owner is self
        self._fit()

    def _progressed(self, progress: Progress) -> None:
        if self._mine and isinstance(progress.payload, Tile):
            self.view.add(progress.payload)
            if self.view.best and not self.best_first.isEnabled():
                self._fit()

    def _ended(self, _outcome: Outcome) -> None:
        self._mine = False
        self._fit()

    # ------------------------------------------------------------------ what is shown

    def _fit(self, *_: Any) -> None:
        """Say what the sheet would be, and offer what can be done."""
        axes = self._chosen_axes()
        try:
            check([(axis.parameter, axis.values) for axis in axes])
        except UserError as error:
            self._say_plan(str(error), wrong=True)
        else:
            count = int(np.prod([len(axis.values) for axis in axes]))
            said = " × ".join(str(len(axis.values)) for axis in reversed(axes))
            self._say_plan(f"{said} = {count} tiles" if len(axes) > 1 else number_of(count, "tile"))
        self.make.setEnabled(not self._wrong and not self.bench.runner.busy and self._subject is not None)
        reason, count = self._why_no_score()
        self.score.setEnabled(not reason)
        self.score.setToolTip(
            reason
            or f"Find the cells in every tile and compare with the {number_of(count, 'reviewed cell')} in view"
            " (average precision at IoU 0.5). Takes seconds a tile"
        )
        scored = bool(self.view.best)
        self.best_first.setEnabled(scored)
        self.best_first.setToolTip("Order the tiles by their score" if scored else "There are no scores yet")
        self.outlines.setEnabled(scored)

    def _say_plan(self, text: str, *, wrong: bool = False) -> None:
        self._wrong = wrong
        self.plan.setObjectName("error" if wrong else "quiet")
        self.plan.style().unpolish(self.plan)
        self.plan.style().polish(self.plan)
        self.plan.setText(text)

    def _why_no_score(self) -> tuple[str, int]:
        """Why tiles cannot be scored, or '', and the number of reviewed cells in view."""
        session, subject = self.bench.session, self._subject
        if session is None or subject is None or subject.image_id is None:
            return _NO_PROJECT, 0
        if all(record.image_id != subject.image_id for record in session.images):
            return _GONE, 0
        count = sweeping.count_reviewed(session, subject.image_id, subject.region)
        return ("" if count else _NO_CELLS), count

    def _show_tabs(self, axes: list[Axis] | tuple[()]) -> None:
        self.tabs.blockSignals(True)
        while self.tabs.count():
            self.tabs.removeTab(0)
        if len(axes) == 3:
            one = axes[0].parameter
            self.tabs_title.setText(one.title)
            for value in axes[0].values:
                self.tabs.addTab(one.say(value))
        self.tabs.blockSignals(False)
        self._tab_row.setVisible(len(axes) == 3)

    def _order(self, by_score: bool) -> None:
        self.view.order_by_score(by_score)
        self._tab_row.setVisible(self.tabs.count() > 0 and not by_score)

    def _chosen(self, tile: Tile) -> None:
        self.show_recipe(tile.recipe)
        self.adopted.emit(tile.recipe)
        self.jobs.show_state(f"In use: {self.view.describe(tile.index)}")

    def _pointed(self, text: str) -> None:
        self.detail.set_text(text or _HINT)

    def _name(self) -> str:
        subject, session = self._subject, self.bench.session
        height, width = subject.size if subject is not None else (0, 0)
        part = f"{width} × {height} px in view"
        if session is None or subject is None or subject.image_id is None:
            return part
        names = {record.image_id: record.name for record in session.images}
        return f"{names[subject.image_id]}, {part}" if subject.image_id in names else part

    def _on_session(self, session: Any) -> None:
        self._session_links.clear()
        self._mine = False
        if self._subject is not None:
            self._subject = replace(self._subject, image_id=None)  # it was a number in the project before
        self.jobs.reset()
        if session is not None:
            self._session_links.add(session.events.cells_changed, self._fit)
            self._session_links.add(session.events.images_changed, self._fit)
        self._fit()

    def _on_theme(self, *_: Any) -> None:
        theme = str(self.bench.viewer.theme)
        self.setStyleSheet(style.sheet(theme) + style.tabs_sheet(theme))
        self.view.set_theme(theme)

    # ------------------------------------------------------------------ keys, closing

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Esc closes."""
        if event.key() == Qt.Key.Key_Escape:
            self.close()
        else:
            super().keyPressEvent(event)

    def closeEvent(self, event: Any) -> None:  # noqa: N802
        """A sheet in the making is cancelled; the tiles stay."""
        if self._mine:
            self.bench.runner.cancel()
        super().closeEvent(event)
