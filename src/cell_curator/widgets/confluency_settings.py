"""By which method the covered area is found, and the settings of each; only those of the chosen one are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from cell_curator import covering
from cell_curator.core.confluency import UnetCover
from cell_curator.core.pixel_clusters import KmeansParameters
from cell_curator.io.project import Change
from cell_curator.widgets.confluency_groups import AUTO, GroupButtons
from cell_curator.widgets.controls import push_button, stacked, tool_row
from cell_curator.widgets.form import ParametersForm

if TYPE_CHECKING:
    from cell_curator.core.confluency import CoverMethod
    from cell_curator.core.pixel_clusters import PixelModel
    from cell_curator.session import Session

KMEANS, UNET, CELLS = "kmeans", "unet", "masks"
METHODS = (
    (KMEANS, "Groups of pixels", "Rough pixels are cells, calm ones are ground; nothing needs to be learned", "Alt+1"),
    (UNET, "U-Net", "A network that learned what cells look like, from regions that you drew", "Alt+2"),
    (CELLS, "Cells found", "What the cells that were found, and count, cover together", "Alt+3"),
)
_METHOD = "cover method"
"""Setting of a project."""

_NO_MODEL = (
    "No U-Net has learned here yet. Draw the cells of a few regions and mark them as reviewed (Teach tab); in the "
    "Segment tab choose a “new-unet” model; then start a round in Teach."
)


class CoverSettings(QWidget):
    """What is set for the three methods; ``row`` is for the dock to place."""

    changed = Signal()
    """Other settings, or another method."""
    regrouped = Signal()
    """Other groups are cells."""
    measure_asked = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.row, self.methods = tool_row(METHODS, self._method_chosen)
        self.methods[KMEANS].setChecked(True)
        self.groups = GroupButtons()
        self.groups.chosen.connect(self._groups_chosen)
        self.kmeans = ParametersForm(KmeansParameters, hidden=("cells",))
        self.kmeans.changed.connect(self._kmeans_edited)
        self.unet = ParametersForm(UnetCover, choices={"model": [""]})
        self.unet.changed.connect(lambda _value: self.changed.emit())
        self.none = QLabel(_NO_MODEL)
        self.none.setWordWrap(True)
        self.measure = push_button(
            "Measure this image", "Let the network look at the image on screen (M)", self.measure_asked.emit
        )
        self._network = stacked(self.none, self.unet, self.measure)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for part in (self.groups, self.kmeans, self._network):
            layout.addWidget(part)
        self._fit()

    @property
    def method(self) -> str:
        """`KMEANS`, `UNET` or `CELLS`."""
        return next(name for name, button in self.methods.items() if button.isChecked())

    def value(self) -> CoverMethod | None:
        """The method with its settings; None: what the cells cover."""
        form = {KMEANS: self.kmeans, UNET: self.unet}.get(self.method)
        found: CoverMethod | None = None if form is None else form.value()
        return found

    @property
    def has_network(self) -> bool:
        """Whether there is a network to choose."""
        return bool(self.unet.control("model").value())

    def show_session(self, session: Session) -> None:
        """Show the project's settings."""
        for form, model in ((self.kmeans, KmeansParameters), (self.unet, UnetCover)):
            form.set_value(session.get(model))
        self.methods.get(session.setting(_METHOD), self.methods[KMEANS]).setChecked(True)
        self.offer_models(session)

    def offer_models(self, session: Session) -> None:
        """Networks may have learned meanwhile; the choice stays where it can."""
        choice = self.unet.control("model")
        names = [card.name for card in covering.models(session)]
        choice.set_words(names or [""])
        self._fit()

    def put(self, session: Session) -> None:
        """Keep the settings with the project."""
        session.put(self.kmeans.value())
        session.put(self.unet.value())
        if session.setting(_METHOD) != self.method:
            session.commit(Change(settings={_METHOD: self.method}))

    def show_settings(self, session: Session, name: str) -> bool:
        """Follow settings of this name that were changed elsewhere; whether they were."""
        for form, model in ((self.kmeans, KmeansParameters), (self.unet, UnetCover)):
            if name == model.__name__ and session.get(model) != form.value():
                form.set_value(session.get(model))
                return True
        return False

    def show_model(self, model: PixelModel) -> None:
        """Show the groups that there are."""
        self.groups.show_model(model, automatic=self.kmeans.value().cells == AUTO)

    def toggle(self, number: int) -> None:
        """Make a group cells, or ground."""
        if self.groups.isVisible():
            self.groups.toggle(number)

    def _method_chosen(self, _name: str) -> None:
        self._fit()
        self.changed.emit()

    def _fit(self) -> None:
        method = self.method
        for part in (self.groups, self.kmeans):
            part.setVisible(method == KMEANS)
        self._network.setVisible(method == UNET)
        self.none.setVisible(not self.has_network)
        for part in (self.unet, self.measure):
            part.setVisible(self.has_network)

    def _kmeans_edited(self, found: KmeansParameters) -> None:
        if found.cells != AUTO and found.k != self.groups.count:
            self._set_cells(AUTO)  # other groups: what was chosen means nothing any more
        self.changed.emit()

    def _groups_chosen(self, cells: str) -> None:
        self._set_cells(cells)
        self.regrouped.emit()

    def _set_cells(self, cells: str) -> None:
        self.kmeans.set_value(self.kmeans.value().model_copy(update={"cells": cells}))
