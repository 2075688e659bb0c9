"""The page of the Explore dock on which clusters are read: what their cells look like and what sets them apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from cell_curator import map_reading
from cell_curator.core.colors import cluster_color
from cell_curator.core.jobs import Job, UserError
from cell_curator.core.words import number_of
from cell_curator.widgets.controls import Choice, push_button
from cell_curator.widgets.explore_figures import BarRows, DensityPlots, LikenessTable
from cell_curator.widgets.explore_pictures import PictureRow, PictureRows, cell_pictures, painted, top_of

if TYPE_CHECKING:
    from cell_curator.session import Session
    from cell_curator.widgets.dock import Dock

SEVEN, TYPICAL, PAINTED, CHANGED, OTHERWISE, ALIKE, APART, LIKENESS, FEATURES = VIEWS = (
    "seven of each cluster",
    "typical cells of a cluster",
    "the middle of each cluster, painted",
    "one feature changed, painted",
    "as if of another condition, painted",
    "cells like the chosen one",
    "what sets a cluster apart",
    "how alike clusters are",
    "spread of the learned features",
)
_SAYS = {
    SEVEN: "Cells drawn at random from each cluster. Click one to go to it.",
    TYPICAL: "The cells nearest to the middle of the cluster, the nearest first.",
    PAINTED: "What the network paints of the middle of each cluster: a cell that does not exist, but is typical.",
    CHANGED: "Each line changes one learned feature from low to high, starting from the middle of the cluster; the "
    "features that vary most between cells come first.",
    OTHERWISE: "Each cell as it is, the same as the network paints it (blurrier), and as it would paint it under the "
    "other condition: the last two differ in what the condition does.",
    ALIKE: "Click a cell in the image or on the map: these are the cells most like it, the most alike first.",
    APART: "How often a cell of the cluster has the larger value than a cell outside; medians inside and outside.",
    LIKENESS: "1: the clusters' cells have the same features on average; −1: opposite ones.",
    FEATURES: "How the cells of each cluster spread along the learned features that set clusters apart most.",
}
OTHERS, MEAN = "any other condition", "a mean of all"
_OF_A_CLUSTER = (TYPICAL, CHANGED, OTHERWISE, APART)
_JOBS = (PAINTED, CHANGED, OTHERWISE)
_MOST_FEATURES = 8
_COUNTERFACTUALS = 6
_NAMED = 3  # conditions; of more, only the first and the last are named


class ReadingPage(QWidget):
    """Shows one view at a time; pictures are made in the background, paintings by a job of the dock."""

    def __init__(self, dock: Dock) -> None:
        super().__init__()
        self._dock = dock
        self._seed = 0
        self._told: list[str] = []
        self._done: tuple[Any, ...] | None = None
        self.view, self.cluster, self.origin, self.condition = Choice(VIEWS), Choice(), Choice(), Choice()
        self.view.setToolTip("What is shown of the clusters")
        self.cluster.setToolTip("Which cluster is shown")
        self.origin.setToolTip("The condition that the cells are of")
        self.condition.setToolTip("The condition that cells are painted under")
        self.others = push_button("Others", "Draw other cells by chance", self._draw_others)
        self.says = QLabel()
        self.says.setObjectName("quiet")
        self.says.setWordWrap(True)
        self.pictures, self.bars = PictureRows(), BarRows()
        self.likeness, self.features = LikenessTable(), DensityPlots(dock.bench.viewer)
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setColumnStretch(1, 1)
        self._choices = (self.cluster, self.origin, self.condition)
        self._labels = (QLabel("Cluster"), QLabel("Cells of"), QLabel("Painted as"))
        grid.addWidget(QLabel("Show"), 0, 0)
        grid.addWidget(self.view, 0, 1)
        grid.addWidget(self.others, 0, 2)
        for row, (label, choice) in enumerate(zip(self._labels, self._choices, strict=True), start=1):
            grid.addWidget(label, row, 0)
            grid.addWidget(choice, row, 1, 1, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(grid)
        layout.addWidget(self.says)
        for widget in (self.pictures, self.bars, self.likeness, self.features):
            layout.addWidget(widget)
            widget.hide()
        for choice in (self.view, *self._choices):
            choice.changed.connect(self.fill)
        self.pictures.clicked.connect(self._go_to)
        self._fit_controls()

    # ------------------------------------------------------------------ what is asked for

    def forget(self) -> None:
        """The map or its cells changed: what is shown is made anew when it is next seen."""
        session = self._dock.session
        self._done = None
        if session is not None and session.embedding is not None:
            names = session.embedding.cluster_names
            self.cluster.set_words([names[n] for n in sorted(names)])
            self._told = [str(c) for c in session.embedding.detail.get("conditions", ())]
        if self.isVisible():
            self.fill()

    def follow_selection(self, ids: frozenset[int]) -> None:
        """Another cell was chosen."""
        if self.isVisible() and self.view.value() == ALIKE and len(ids) == 1:
            self.fill()

    def fill(self, *_: Any) -> None:
        """Show what is chosen, unless it is there already."""
        session = self._dock.session
        self._fit_controls()
        if session is None or session.embedding is None or not self.isVisible():
            return
        cell = next(iter(session.selection.ids)) if len(session.selection.ids) == 1 else None
        wanted = (*(choice.value() for choice in (self.view, *self._choices)), cell, self._seed)
        if wanted == self._done:
            return
        self._done = wanted
        self._dock.jobs.show_error("")
        if self.view.value() in _JOBS:
            self._paint(session)
        else:
            self._look_up(session, cell)

    def _draw_others(self) -> None:
        self._seed += 1
        self.fill()

    def _number(self, session: Session) -> int:
        names = session.embedding.cluster_names if session.embedding is not None else {}
        return next((n for n, name in names.items() if name == self.cluster.value()), 0)

    def _fit_controls(self) -> None:
        view = self.view.value()
        self.says.setText(_SAYS[view])
        self.others.setVisible(view in (SEVEN, OTHERWISE))
        told = bool(self._told)
        there = (view in _OF_A_CLUSTER, told and view == OTHERWISE, told and view in (OTHERWISE, CHANGED))
        for label, choice, seen in zip(self._labels, self._choices, there, strict=True):
            label.setVisible(seen)
            choice.setVisible(seen)
        if view == OTHERWISE and told:
            self.origin.set_words([OTHERS, *self._told])
            known = self.condition.value() in self._told
            self.condition.set_words(self._told)
            self.condition.set_value(self.condition.value() if known else self._told[-1])
        elif view == CHANGED and told:
            self.condition.set_words([MEAN, *self._told])

    def _go_to(self, cell: int) -> None:
        if self._dock.bench.link is not None:
            self._dock.bench.link.go_to(cell)

    def _show(self, widget: QWidget) -> None:
        for one in (self.pictures, self.bars, self.likeness, self.features):
            one.setVisible(one is widget)

    # ------------------------------------------------------------------ looked up in the background

    def _look_up(self, session: Session, cell: int | None) -> None:
        view, number, asked = self.view.value(), self._number(session), self._done
        compute: Callable[[], Any] = {
            SEVEN: partial(_seven, session, self._seed),
            TYPICAL: partial(_typical, session, number),
            ALIKE: partial(_alike, session, cell),
            APART: partial(map_reading.set_apart_by, session, number),
            LIKENESS: partial(map_reading.correlation, session),
            FEATURES: partial(map_reading.spread_of_features, session),
        }[view]

        def deliver(found: Any) -> None:
            if asked == self._done:
                self._found(session, view, found)

        self._dock.bench.background(compute, deliver, topic="reading")

    def _found(self, session: Session, view: str, found: Any) -> None:
        names = session.embedding.cluster_names if session.embedding is not None else {}
        if view in (SEVEN, TYPICAL, ALIKE):
            self.pictures.show_rows(found, columns=7 if view == SEVEN else 5)
            self._show(self.pictures)
        elif view == APART:
            self.bars.show_table(found, cluster_color(self._number(session)))
            self._show(self.bars)
        elif view == LIKENESS:
            self.likeness.show_matrix(*found, names)
            self._show(self.likeness)
        else:
            self.features.show_densities(found, names)
            self._show(self.features)

    # ------------------------------------------------------------------ painted by a job

    def _paint(self, session: Session) -> None:
        view, number, condition = self.view.value(), self._number(session), self.condition.value()
        told = condition if condition in self._told else None
        make: Callable[[], Job[list[PictureRow]]] = {
            PAINTED: partial(_middles, session),
            CHANGED: partial(_changed, session, number, told),
            OTHERWISE: partial(_otherwise, session, number, self.origin.value(), condition, self._seed),
        }[view]
        if self._dock.bench.runner.busy:
            self._done = None
            self._dock.jobs.show_error("Something else is running; choose the view again when it is done")
            return
        self.pictures.show_rows(())
        self._show(self.pictures)
        self._dock.run("Painting cells", make, partial(self._painted, view), reading=True)

    def _painted(self, view: str, rows: list[PictureRow]) -> str:
        if self.view.value() == view:
            painted = _columns(max(len(row.pictures) for row in rows)) if rows else 1
            self.pictures.show_rows(rows, columns={PAINTED: painted, CHANGED: 7, OTHERWISE: _COUNTERFACTUALS}[view])
        return ""


def _row(session: Session, number: int, cells: list[int]) -> PictureRow:
    names = session.embedding.cluster_names if session.embedding is not None else {}
    count = int((session.cells.frame["cluster"] == number).sum())
    title = f"{names.get(number, '')}: {number_of(count, 'cell')}"
    return PictureRow(title, cell_pictures(session, cells), tuple(cells), cluster_color(number))


def _seven(session: Session, seed: int) -> list[PictureRow]:
    names = session.embedding.cluster_names if session.embedding is not None else {}
    return [_row(session, n, map_reading.samples(session, n, 7, "random", seed)) for n in sorted(names)]


def _typical(session: Session, number: int) -> list[PictureRow]:
    return [_row(session, number, map_reading.samples(session, number, 20, "center"))]


def _alike(session: Session, cell: int | None) -> list[PictureRow]:
    if cell is None:
        return [PictureRow("No cell is chosen", ())]
    found = [cell, *map_reading.neighbours(session, cell, 14)]
    return [
        PictureRow(
            f"Cell {cell} and the cells most like it",
            cell_pictures(session, found),
            tuple(found),
            marked=frozenset({0}),
        )
    ]


def _middles(session: Session) -> Job[list[PictureRow]]:
    stored = session.embedding
    if stored is None:
        raise UserError("there is no map yet; make the map first")
    conditions = [str(c) for c in stored.detail.get("conditions", ())]
    made: dict[int, list[Any]] = {}
    for number in sorted(stored.cluster_names):
        made[number] = []
        for condition in conditions or [None]:
            made[number].append((yield from map_reading.decoded_center(session, number, condition)))
    top = top_of(*(picture for pictures in made.values() for picture in pictures))
    said = ", ".join(conditions) if len(conditions) <= _NAMED else f"{conditions[0]} … {conditions[-1]}"
    return [
        PictureRow(
            ": ".join(part for part in (stored.cluster_names[number], said) if part),
            tuple(painted(picture, top) for picture in pictures),
            color=cluster_color(number),
            says=tuple(f"as if of {condition}" for condition in conditions),
        )
        for number, pictures in made.items()
    ]


def _columns(pictures: int) -> int:
    """So many beside each other that lines are as full as can be, and pictures no smaller than a seventh."""
    lines = -(-pictures // 7)
    return max(-(-pictures // lines), 5)


def _changed(session: Session, number: int, condition: str | None) -> Job[list[PictureRow]]:
    made = yield from map_reading.traversal(session, cluster=number, condition=condition)
    latent = session.embedding.latent if session.embedding is not None else None
    order = range(len(made)) if latent is None else latent.var(axis=0).argsort()[::-1]
    top = top_of(made)
    return [
        PictureRow(f"Feature {feature + 1}", tuple(painted(picture, top) for picture in made[feature]))
        for feature in list(order)[:_MOST_FEATURES]
    ]


def _otherwise(session: Session, number: int, origin: str, condition: str, seed: int) -> Job[list[PictureRow]]:
    map_reading.number_of(session, condition)
    frame = session.cells.frame
    inside = np.array(map_reading.samples(session, number, len(frame)), np.int64)
    of = frame["condition"].reindex(inside).to_numpy(object)
    wanted = of != condition if origin == OTHERS else of == origin
    if condition == origin:
        raise UserError(f"the cells are of {origin} already; choose another condition to paint them as")
    if not wanted.any():
        which = f"no cell of this cluster is of {origin}" if origin != OTHERS else f"all its cells are of {condition}"
        raise UserError(f"{which}; choose another condition or cluster")
    cells = np.random.default_rng(seed).permutation(inside[wanted])[:_COUNTERFACTUALS].tolist()
    made = yield from map_reading.counterfactual(session, cells, condition)
    top = top_of(made.are, made.painted, made.otherwise)
    pictures = [tuple(painted(one, top) for one in of) for of in (made.are, made.painted, made.otherwise)]
    return [
        PictureRow("As they are", pictures[0], made.cells, cluster_color(number), says=made.conditions),
        PictureRow("As the network paints them", pictures[1], says=made.conditions),
        PictureRow(f"As it paints them as if of {condition}", pictures[2], says=made.conditions),
    ]
