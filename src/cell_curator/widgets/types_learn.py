"""How types are learned: cell by cell or with Mask R-CNN, from which cells, and how it goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from cell_curator.core.type_classifier import TypeParameters
from cell_curator.engines.mask_rcnn import FinderState, MaskRcnnParameters
from cell_curator.widgets.controls import Choice, tool_row
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.loss_plot import CurvesPlot

if TYPE_CHECKING:
    from cell_curator.core.cell_types import Source
    from cell_curator.session import Session
    from cell_curator.widgets.varied_pictures import VariedPictures

CELLS, FINDER = "cells", "finder"
_WAYS = (
    (CELLS, "Cell by cell", "Cells that were found are told apart by their measurements or pictures; seconds", "Alt+1"),
    (
        FINDER,
        "Mask R-CNN",
        "One network finds cells and their types; minutes to hours. Type all cells of the images it learns from",
        "Alt+2",
    ),
)
_SOURCES: dict[str, Source] = {"the cells that I typed": "cells", "conditions: each is one type": "conditions"}
_LEARNED, _HELD = "#e69f00", "#56b4e9"


class TypesLearning(QWidget):
    """Settings of both ways; only those of the chosen one are seen."""

    way_chosen = Signal()

    def __init__(self, viewer: Any, varied: VariedPictures) -> None:
        super().__init__()
        self.varied = varied
        ways, self.ways = tool_row(_WAYS, self._fit)
        self.ways[CELLS].setChecked(True)
        self.source = Choice(list(_SOURCES))
        self.source.setToolTip("Whose types are known: cells that you typed, or images that hold one type each")
        self.cells, self.finder = ParametersForm(TypeParameters), ParametersForm(MaskRcnnParameters, zero=_ZERO)
        lines = (("learned from", "loss", _LEARNED), ("held out", "holdout", _HELD))
        self.plot = CurvesPlot(viewer, lines, "error", "step")
        self.plot.hide()
        row = QHBoxLayout()
        row.addWidget(QLabel("Learn from"))
        row.addWidget(self.source, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(ways)
        layout.addLayout(row)
        for part in (self.cells, self.finder, self.varied, self.plot):
            layout.addWidget(part)
        self._fit()

    @property
    def way(self) -> str:
        """`CELLS` or `FINDER`."""
        return next(name for name, button in self.ways.items() if button.isChecked())

    @property
    def known_from(self) -> Source:
        """Where types are known from."""
        return _SOURCES[self.source.value()]

    @property
    def at_least(self) -> float:
        """How sure a model must be of a cell's type to tell it."""
        found: TypeParameters = self.cells.value()
        return found.at_least

    def show_settings(self, session: Session, name: str) -> None:
        """Settings of this name were changed elsewhere."""
        for form, model in ((self.cells, TypeParameters), (self.finder, MaskRcnnParameters)):
            if name == model.__name__ and session.get(model) != form.value():
                form.set_value(session.get(model))

    def show_session(self, session: Session) -> None:
        """Show the project's settings."""
        self.cells.set_value(session.get(TypeParameters))
        self.finder.set_value(session.get(MaskRcnnParameters))
        self.plot.hide()
        self.varied.forget()

    def put(self, session: Session) -> None:
        """Keep the settings with the project."""
        session.put(self.cells.value())
        session.put(self.finder.value())

    def begin(self) -> None:
        """Forget the curves of the training before."""
        self.plot.hide()
        for name in ("loss", "holdout"):
            self.plot.draw(name, [], [])

    def take(self, payload: Any) -> None:
        """Draw how a training goes; anything else is passed over."""
        if not isinstance(payload, FinderState):
            return
        self.plot.setVisible(len(payload.curve) > 1)
        self.plot.draw("loss", [step for step, _, _ in payload.curve], [loss for _, loss, _ in payload.curve])
        held = [(step, loss) for step, _, loss in payload.curve if loss is not None]
        self.plot.draw("holdout", [step for step, _ in held], [loss for _, loss in held])

    def _fit(self, *_: Any) -> None:
        alone = self.way == CELLS
        self.cells.setVisible(alone)
        for part in (self.finder, self.varied):
            part.setVisible(not alone)
        if alone:
            self.plot.hide()
        self.way_chosen.emit()


_ZERO = {"minutes": "by steps", "patience": "never", "threads": "all", "holdout": "none"}
