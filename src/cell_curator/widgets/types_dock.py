"""The Types dock: name the types of cells, type some by hand, let it learn, tell the others, check and correct."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QWidget

from cell_curator import classifying, finding_types
from cell_curator.core.cell_types import CellTypes, tally
from cell_curator.engines.mask_rcnn.material import VARIED
from cell_curator.link.colors import TYPE
from cell_curator.link.labels import EACH
from cell_curator.link.types import TypePainter
from cell_curator.typing_cells import name_types, rename_type
from cell_curator.widgets.cell_looks import CellLooks
from cell_curator.widgets.controls import push_button, side_by_side
from cell_curator.widgets.dock import Connections, Dock, line
from cell_curator.widgets.review_images import DoubtfulImages
from cell_curator.widgets.types_learn import CELLS, FINDER, TypesLearning
from cell_curator.widgets.types_list import MOST_KEYS, TypesList
from cell_curator.widgets.types_scores import TypeScoresView
from cell_curator.widgets.types_walk import LeastSure
from cell_curator.widgets.varied_pictures import VariedPictures

if TYPE_CHECKING:
    from cell_curator.core.jobs import Progress
    from cell_curator.core.type_classifier import TypeScores
    from cell_curator.core.type_model import TypeModel
    from cell_curator.core.type_patches import PatchModel
    from cell_curator.session import Session

_LEARNING = "Learning types"
_TELL = {
    CELLS: (
        "Tell the other cells",
        "Give every cell that you did not type the likeliest type; U takes it back (Alt+T)",
    ),
    FINDER: ("Find cells and types in all images", "With the network learned last; what you decided stays (Alt+T)"),
}


class TypesDock(Dock):
    """Four steps from top to bottom: name, type, learn, check."""

    title = "Types"
    keys = (
        ("1–9", "the chosen cells are of this type; with none chosen, take it in hand: click cells, or drag across"),
        ("0", "the same, but takes types away"),
        ("Esc", "nothing in hand: clicks choose cells again"),
        ("F2", "rename the type in hand"),
        ("U, Shift+U", "undo, redo"),
        ("Alt+1, 2", "cell by cell, Mask R-CNN"),
        ("Ctrl+Return", "learn the types"),
        ("K", "keep what a stopped training learned"),
        ("Alt+T", "tell the other cells"),
        ("N, Shift+N", "next, previous cell of those told, the least sure first"),
        ("H", "cells as outlines or filled"),
    )

    _painter: TypePainter | None = None
    _before = EACH

    def build(self) -> None:
        """The four steps."""
        self.first = QLabel()
        self.first.setWordWrap(True)
        self.list = TypesList()
        self.list.taken.connect(self._taken)
        self.list.added.connect(self._add)
        self.list.renamed.connect(self._rename)
        self.list.removed.connect(self._remove)
        self.learning = TypesLearning(self.bench.viewer, VariedPictures(self, lambda: VARIED))
        self.learning.way_chosen.connect(self._fit)
        self.images = DoubtfulImages(self.bench, self.run)
        self.keep = push_button("Keep what was learned", "Of the training that was stopped (K)", self._keep)
        self.scores = TypeScoresView()
        self.tell = push_button(*_TELL[CELLS], self._tell)
        self.walk = LeastSure(self.bench)
        self.walk.going.connect(partial(self._taken, None))
        self.walk.said.connect(self.jobs.show_state)
        self.looks = CellLooks(self.bench)
        parts = (
            (self.first, self.list, self._build_undo()),
            (_heading("Let it learn"), self.learning, self.images, self.keep),
            (_heading("Tell the others, and check"), self.scores, self.tell, self.walk),
            (self.looks,),
        )
        for part in parts:
            for widget in part:
                self.body.addWidget(widget)
            self.body.addWidget(line())
        self.primary.setText("Learn the types")
        self.primary.setToolTip("And see how well that does on images it did not learn from (Ctrl+Return)")
        self.bench.runner.started.connect(self._fit)
        self.bench.runner.ended.connect(self._fit)
        self.bench.runner.progressed.connect(self._progressed)
        self._bind_keys()

    def _build_undo(self) -> QWidget:
        self.undo = push_button("↶ Undo", "Take the last step back (U)", partial(self._retrace, "undo"))
        self.redo = push_button("↷ Redo", "Do it again (Shift+U)", partial(self._retrace, "redo"))
        return side_by_side(self.undo, self.redo)

    def _bind_keys(self) -> None:
        for number in range(MOST_KEYS):
            self.add_key(str(number + 1), partial(self._number, number))
        for key, slot in (
            ("0", partial(self._take_or_give, "")),
            ("Esc", partial(self._taken, None)),
            ("F2", self.list.edit_name),
            ("U", partial(self._retrace, "undo")),
            ("Shift+U", partial(self._retrace, "redo")),
            ("Alt+1", self.learning.ways[CELLS].click),
            ("Alt+2", self.learning.ways[FINDER].click),
            ("Ctrl+Return", self.primary.click),
            ("K", self._keep),
            ("Alt+T", self.tell.click),
            ("N", partial(self.walk.step, 1)),
            ("Shift+N", partial(self.walk.step, -1)),
            ("H", self.looks.outlines.toggle),
        ):
            self.add_key(key, slot)

    # ------------------------------------------------------------------ following the session

    def opened(self, session: Session, links: Connections) -> None:
        """Show this project's types."""
        self.walk.begin()
        self.scores.hide()
        self.learning.show_session(session)
        self.images.show_session(session)
        if self.bench.link is not None:
            self._painter = TypePainter(session, self.bench.link)
            links.add(self._painter.said, self.jobs.show_state)
            links.add(self._painter.taken, self.list.show_hand)
            links.add(self.bench.link.shown, self.looks.follow)
        if self.bench.tools is not None:
            links.add(self.bench.tools.mode_changed, self._tool_taken)
        links.add(session.events.cells_changed, self._follow)
        links.add(session.events.parameters_changed, self._parameters_changed)
        links.add(session.selection.changed, self._selected)
        if self.isVisible():
            self._color_by_type()
        self._follow()

    def closed(self) -> None:
        """Let go of the mouse."""
        self._taken(None)
        self._painter = None

    def themed(self, theme: str) -> None:
        """The curves paint themselves."""
        self.learning.plot.set_theme(theme)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Colour the cells by type."""
        super().showEvent(event)
        self._color_by_type()
        self._follow()

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """Cells are coloured as before, and the mouse chooses cells."""
        super().hideEvent(event)
        self._taken(None)
        self._color_as_before()

    def _color_by_type(self) -> None:
        link = self.bench.link
        if link is not None and link.labels.color_by != TYPE:
            self._before = link.labels.color_by
            link.color_cells(TYPE)
        self.looks.catch_up()

    def _color_as_before(self) -> None:
        link = self.bench.link
        if link is not None and link.labels.color_by == TYPE:
            link.color_cells(self._before)

    def _follow(self, *_: Any) -> None:
        session = self.session
        if session is None or not self.isVisible():
            return
        types = session.get(CellTypes)
        counts = tally(session.cells.frame, types, session.cells.coded("cell_type"))
        self.list.show_types(types, counts, self._painter.in_hand if self._painter is not None else None)
        self.first.setText(_what_first(session, types, int(counts["by_hand"].sum())))
        self.undo.setEnabled(bool(session.history.undo_text))
        self.redo.setEnabled(bool(session.history.redo_text))
        self.walk.show_session(session)
        self._fit()

    def _parameters_changed(self, name: str) -> None:
        session, link = self.session, self.bench.link
        if session is None:
            return
        if name == CellTypes.__name__:
            if link is not None and self.isVisible():
                link.labels.recolor()
            self._follow()
        elif not self.bench.runner.busy:
            self.learning.show_settings(session, name)

    def _selected(self, _ids: frozenset[int]) -> None:
        if self.session is not None and self.isVisible():
            self.walk.show_session(self.session)

    def _tool_taken(self, mode: str) -> None:
        if mode != "pick":
            self._taken(None)

    def _fit(self, *_: Any) -> None:
        session, busy = self.session, self.bench.runner.busy
        finder = self.learning.way == FINDER
        text, tip = _TELL[self.learning.way]
        self.tell.setText(text)
        self.tell.setToolTip(tip)
        learned = finding_types.models if finder else classifying.models
        self.tell.setEnabled(session is not None and bool(learned(session)) and not busy)
        self.keep.setVisible(finder and session is not None and not busy and finding_types.can_keep(session))

    # ------------------------------------------------------------------ names

    def _add(self, name: str) -> None:
        session = self.session
        if session is not None:
            self.guard(partial(name_types, session, (*session.get(CellTypes).names, name)))
            self.setFocus()

    def _rename(self, old: str, new: str) -> None:
        if self.session is not None:
            self._taken(None)
            self.guard(partial(rename_type, self.session, old, new))
            self._follow()

    def _remove(self, name: str) -> None:
        session = self.session
        if session is not None:
            self._taken(None)
            self.guard(partial(name_types, session, [one for one in session.get(CellTypes).names if one != name]))

    # ------------------------------------------------------------------ typing

    def _taken(self, name: str | None) -> None:
        if self._painter is None:
            return
        again = name is not None and name == self._painter.in_hand
        if name is not None and self.bench.tools is not None:
            self.bench.tools.mode = "pick"
        self._painter.take(None if again else name)
        self.list.show_hand(self._painter.in_hand)

    def _number(self, number: int) -> None:
        session = self.session
        names = () if session is None else session.get(CellTypes).names
        if number < len(names):
            self._take_or_give(names[number])
        elif session is not None:
            self.jobs.show_state(f"There is no type {number + 1} yet: give it a name above")

    def _take_or_give(self, name: str) -> None:
        """Chosen cells get the type; with none chosen, or a type in hand already, it is taken in hand."""
        session, painter = self.session, self._painter
        if session is None or painter is None or not session.get(CellTypes).names:
            return
        chosen = [cell for cell in session.selection.ids if cell in session.cells]
        if painter.in_hand is not None or not chosen:
            self._taken(name)
            return
        painter.give(chosen, name)
        if len(chosen) == 1:
            self.walk.go_on()

    def _retrace(self, way: str) -> None:
        if self.bench.tools is not None:
            self.guard(getattr(self.bench.tools, way))

    # ------------------------------------------------------------------ learning and telling

    def act(self) -> None:
        """Learn, and show how well."""
        session = self.session
        if session is None:
            return
        self._taken(None)
        self.learning.put(session)
        self.learning.begin()
        source = self.learning.known_from
        if self.learning.way == FINDER:
            self.run(_LEARNING, partial(finding_types.train, session, source), self._finder_learned)
        else:
            self.run(_LEARNING, partial(classifying.train, session, source), self._learned)

    def _learned(self, made: tuple[TypeModel | PatchModel, TypeScores]) -> str:
        model, scores = made
        return self._show_scores(scores.text, scores, model.types)

    def _finder_learned(self, made: finding_types.Finder) -> str:
        return self._show_scores(made.text, made.scores, made.types)

    def _show_scores(self, text: str, scores: Any, types: tuple[str, ...]) -> str:
        if self.session is not None:
            self.scores.show_scores(text, scores, self.session.get(CellTypes).with_names(*types))
            self.bring(self.tell)
        self._fit()
        return "Learned; now tell the other cells"

    def _keep(self) -> None:
        session = self.session
        if session is not None and self.keep.isVisible():
            self.run("Keeping what was learned", partial(finding_types.keep, session), self._finder_learned)

    def _tell(self) -> None:
        session = self.session
        if session is None:
            return
        self._taken(None)
        self.walk.begin()
        if self.learning.way == FINDER:
            found = finding_types.models(session)
            if found:
                job = partial(finding_types.predict, session, found[0], at_least=self.learning.at_least)
                self.run("Finding cells and types", job, self._told)
        elif classifying.models(session):
            job = partial(classifying.predict_again, session, self.learning.at_least)
            self.run("Telling types", job, self._told)

    def _told(self, made: Any) -> str:
        text = str(made.text)
        return f"{text[:1].upper()}{text[1:]}"

    def _progressed(self, progress: Progress) -> None:
        self.learning.take(progress.payload)


def _what_first(session: Session, types: CellTypes, typed: int) -> str:
    if not len(session.cells):
        return "No cells yet: find them in the Segment tab first."
    if not types.names:
        return "Name the types of cells in these images first, for example “HEK” and “N2a”."
    if not typed:
        return "Press 1 to take the first type in hand, then click cells of it, or drag across them."
    return "Each row: key, colour, name, cells typed + cells told. Type about 20 of each, in several images."


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setObjectName("section")
    return label
