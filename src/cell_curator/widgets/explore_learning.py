"""How a map is made: what it starts from, its settings, and the curves while it learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QLabel, QVBoxLayout, QWidget

from cell_curator import mapping
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.patches import PatchParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.widgets.controls import Choice, Fold, push_button, stacked
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.loss_plot import LossPlot, PartsPlot

if TYPE_CHECKING:
    from cell_curator.core.cluster_count import KSuggestion
    from cell_curator.core.parameters import Parameters
    from cell_curator.session import Session

AFRESH, THIS_MAP, FILE = "nothing: learn afresh", "the network of this map", "a network in a file…"
_FORMS = (
    ("Pictures of the cells", PatchParameters),
    ("Groups", ClusterParameters),
    ("Map", MapParameters),
    ("Learning", VaeParameters),
)


class LearningPanel(QWidget):
    """Curves, what learning starts from, and all settings, folded; tells what was asked for."""

    regroup_asked = Signal()
    suggest_asked = Signal()
    keep_asked = Signal()
    problem = Signal(str)

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._file: Path | None = None
        self.plot, self.parts = LossPlot(viewer), PartsPlot(viewer)
        self.said = QLabel()
        self.said.setObjectName("quiet")
        self.said.setWordWrap(True)
        self.curve = Fold("Learning curves", stacked(self.plot, self.parts, self.said))
        self.keep = push_button(
            "Keep what was learned (K)",
            "Make the map with the best network of the training that was stopped. “Make the map” goes on with it (K)",
            self.keep_asked.emit,
        )
        self.forms = [ParametersForm(model) for _, model in _FORMS]
        self.k_why = QLabel()
        self.k_why.setObjectName("quiet")
        self.k_why.setWordWrap(True)
        self.k_why.hide()
        self.start = Choice((AFRESH, THIS_MAP, FILE))
        self.start.setToolTip(
            "Go on from a network that was learned before, on this or other cells: quicker, and it needs fewer cells"
        )
        self.start.changed.connect(self._start_chosen)
        self.compare = QCheckBox("also learn afresh, to compare")
        self.compare.setToolTip("Say afterwards what going on from that network was worth; takes twice as long")
        self.compare.hide()
        self.again = push_button(
            "Group again",
            "Keep the map and make new clusters with the settings above",
            self.regroup_asked.emit,
        )
        self.suggest = push_button(
            "How many groups?", "Try 2 to 10 groups and say what speaks for each number", self.suggest_asked.emit
        )
        self.settings = Fold("Settings of the map", self._build_settings())
        self.settings.button.setToolTip("How cells are cut, learned, drawn and grouped")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for widget in (self.keep, self.curve, self.settings):
            layout.addWidget(widget)
        self.keep.hide()

    def _build_settings(self) -> QWidget:
        grid_box = QWidget()
        grid = QGridLayout(grid_box)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(QLabel("Start from"), 0, 0)
        grid.addWidget(self.start, 0, 1)
        grid.addWidget(self.compare, 1, 1)
        grid.setColumnStretch(1, 1)
        buttons = QWidget()
        row = QGridLayout(buttons)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.suggest, 0, 0)
        row.addWidget(self.again, 0, 1)
        parts: list[QWidget] = []
        for (title, model), form in zip(_FORMS, self.forms, strict=True):
            heading = QLabel(title)
            heading.setObjectName("project")
            parts += [heading, *([grid_box] if model is VaeParameters else []), form]
            parts += [self.k_why, buttons] if model is ClusterParameters else []
        return stacked(*parts)

    # ------------------------------------------------------------------ settings

    def show_session(self, session: Session) -> None:
        """Show this project's settings."""
        for form, (_, model) in zip(self.forms, _FORMS, strict=True):
            form.set_value(session.get(model))
        self.clear()
        self.start.set_value(AFRESH)
        self.fit(session, busy=False)

    def settings_now(self) -> tuple[Parameters, ...]:
        """All settings as they stand in the forms; the project takes them over with the map they make."""
        return tuple(form.value() for form in self.forms)

    def grouping(self) -> ClusterParameters:
        """How cells are grouped, as it stands in the form."""
        value: ClusterParameters = self.forms[1].value()
        return value

    def show_patches(self, parameters: PatchParameters) -> None:
        """The way patches are cut was set elsewhere."""
        self.forms[0].set_value(parameters)

    def started_from(self, session: Session) -> Path | None:
        """The network to go on from, as chosen."""
        return {THIS_MAP: mapping.map_network(session), FILE: self._file}.get(self.start.value())

    def show_suggestion(self, found: KSuggestion) -> str:
        """Take a number of groups over into the form, with the reason; returns the line of state."""
        self.forms[1].set_value(self.grouping().model_copy(update={"k": found.k}))
        self.k_why.setText(". ".join((found.why, *found.notes)) + ".")
        self.k_why.setToolTip(found.table.round(2).to_string())
        self.k_why.show()
        return f"{found.k} groups are set; press “Group again” to make them"

    def fit(self, session: Session, *, busy: bool) -> None:
        """Offer what can be done now."""
        network = mapping.map_network(session)
        self.start.model().item(1).setEnabled(network is not None)
        if network is None and self.start.value() == THIS_MAP:
            self.start.set_value(AFRESH)
        self._offer_compare()
        there = session.embedding is not None
        for button in (self.again, self.suggest):
            button.setVisible(there)
            button.setEnabled(not busy)
        self.keep.setVisible(not busy and mapping.can_keep(session))

    def compares(self) -> bool:
        """Whether to learn afresh too, and to say what going on from a network was worth."""
        return self.start.value() != AFRESH and self.compare.isChecked()

    def _start_chosen(self, choice: str) -> None:
        if choice == FILE:
            self._choose_file()
        self._offer_compare()

    def _offer_compare(self) -> None:
        self.compare.setVisible(self.start.value() != AFRESH)

    def _choose_file(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "A network that was learned before", "", "Networks (*.pt)")
        self._file = Path(chosen) if chosen else None
        if self._file is None:
            self.start.set_value(AFRESH)
        else:
            self.start.setToolTip(str(self._file))

    # ------------------------------------------------------------------ while it learns

    def clear(self) -> None:
        """Forget the curves."""
        self.plot.clear()
        self.parts.clear()
        self.said.clear()

    def take(self, payload: Any) -> bool:
        """Show what a training step reported; False if ``payload`` is something else."""
        if not self.plot.take(payload):
            return False
        self.parts.take(payload)
        active = getattr(payload, "active", None)
        if active is not None:
            self.said.show()
            self.said.setText(f"{active} of {self.forms[3].value().latent} learned features tell cells apart")
        self.curve.set_open(True)
        return True

    def show_before(self, session: Session) -> None:
        """Draw how well the map before learned, to compare with; only where it was learned afresh on like terms."""
        stored = session.embedding
        history = [] if stored is None else stored.detail.get("history", [])
        self.plot.show_before(
            [(one["step"], one["validation"]) for one in history if one.get("validation") is not None]
        )

    def show_notes(self, notes: Sequence[str]) -> None:
        """What is to be said of a map that is done, and what going on from a network gained."""
        said = [note for note in (self.plot.gain(), *notes) if note]
        self.said.setText("\n".join(f"{line[:1].upper()}{line[1:]}." for line in said))
        self.said.setVisible(bool(said))
