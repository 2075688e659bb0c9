"""Step two of teaching: how to learn, what to know before, and how it goes."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.engines.augment import AugmentParameters
from cell_curator.engines.finetune import NOT_VARIED, TrainingState, TrainParameters, presets
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.examples import Finding, preflight
from cell_curator.rounds import train_round, usual_parameters
from cell_curator.widgets import style
from cell_curator.widgets.controls import Choice
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.loss_plot import LessonPlot

if TYPE_CHECKING:
    from cell_curator.io.records import Round
    from cell_curator.session import Session

_OWN = "My own settings"
_ZERO = {"minutes": "by passes", "images_per_epoch": "one of each", "patience": "never", "threads": "all"}
_TITLES = {"quick": "Quick", "thorough": "Thorough", "cellpose": "As Cellpose trains"}
_CHECK = 0.03  # part of a round that looking at the examples takes


class Learning(QWidget):
    """Presets, settings, findings, and the live curve."""

    check_wanted = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._theme = str(viewer.theme)
        self._findings: tuple[Finding, ...] | None = None
        self._presets: dict[str, TrainParameters] = {}
        self.preset = Choice()
        self.preset.setToolTip("How long and how carefully it learns; all settings are under “More”")
        self.preset.changed.connect(self._take_preset)
        self.check = QPushButton("Check first")
        self.check.setToolTip("Look for what would spoil the round, without starting it")
        self.check.clicked.connect(lambda: self.check_wanted.emit())
        self.form = ParametersForm(TrainParameters, hidden=("vary",), zero=_ZERO)
        self.form.changed.connect(self._name_preset)
        self.vary = ParametersForm(AugmentParameters, hidden=NOT_VARIED)
        self.vary.changed.connect(lambda _value: self._name_preset(self.value()))
        self.findings = QLabel()
        self.findings.setWordWrap(True)
        self.findings.hide()
        self.plot = LessonPlot(viewer)
        self.plot.hide()
        self.told = QLabel()
        self.told.setObjectName("quiet")
        self.told.setWordWrap(True)
        self.told.hide()
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.preset, 1)
        row.addWidget(self.check)
        self._offer_presets(SegmentParameters())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        for widget in (self.form, self.findings, self.plot, self.told):
            layout.addWidget(widget)

    def add_varied(self, varied: QWidget) -> None:
        """Put what holds `vary` below the settings."""
        self.layout().insertWidget(self.layout().indexOf(self.form) + 1, varied)

    def opened(self, session: Session) -> None:
        """Show the project's settings."""
        self.follow_engine(session)
        self.set_value(usual_parameters(session))
        self.show_findings(None)
        self.plot.hide()
        self.told.hide()

    def follow_engine(self, session: Session) -> None:
        """Offer the presets of the engine that finds cells now; a preset stays one."""
        word = self.preset.value()
        self._offer_presets(session.get(SegmentParameters))
        if word in self._presets:
            self.set_value(self._presets[word])

    def value(self) -> TrainParameters:
        """The settings as they stand."""
        value: TrainParameters = self.form.value()
        return value.model_copy(update={"vary": self.vary.value()})

    def set_value(self, parameters: TrainParameters) -> None:
        """Show other settings."""
        self.form.set_value(parameters)
        self.vary.set_value(parameters.vary)
        self._name_preset(parameters)

    def show_findings(self, findings: tuple[Finding, ...] | None) -> None:
        """List what was found, what stops a round in the colour of errors; None: nobody looked."""
        self._findings = findings
        self.findings.setVisible(findings is not None)
        if findings is None:
            return
        colors = style.colors(self._theme)
        lines = [
            f'<p style="margin: 0 0 3px 0; color: {colors["error"] if one.stops else colors["quiet"]}">'
            f"{'✗' if one.stops else '⚠'} {html.escape(one.text)} — {html.escape(one.remedy)}</p>"
            for one in findings
        ]
        fine = f'<span style="color: {colors["good"]}">✓ Nothing stands in the way</span>'
        self.findings.setText("".join(lines) or fine)

    def start(self) -> None:
        """A round starts."""
        self.plot.show_curve(())
        self.plot.hide()
        self.told.hide()

    def take(self, payload: Any) -> bool:
        """Show what a round reports; False if it is something else."""
        if isinstance(payload, TrainingState):
            self.plot.show()
            self.plot.show_curve(payload.curve, payload.holdout_before)
            self.told.setText(state_in_words(payload))
            self.told.show()
            return True
        if isinstance(payload, tuple) and all(isinstance(one, Finding) for one in payload):
            self.show_findings(payload)
            return True
        return False

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self._theme = theme
        self.plot.set_theme(theme)
        self.show_findings(self._findings)

    def _offer_presets(self, search: SegmentParameters) -> None:
        self._presets = {_titled(name, preset): preset for name, preset in presets(search.engine).items()}
        self.preset.set_words([*self._presets, _OWN])

    def _take_preset(self, title: str) -> None:
        if title in self._presets:
            self.form.set_value(self._presets[title])

    def _name_preset(self, parameters: TrainParameters) -> None:
        self.preset.set_value(next((title for title, preset in self._presets.items() if preset == parameters), _OWN))


def checked_round(session: Session, parameters: TrainParameters) -> Job[Round]:
    """A round whose findings are told first, as a payload.

    Raises
    ------
    UserError
        If a finding stops it, or the round fails.
    """
    found = yield from scaled(preflight(session), 0.0, _CHECK)
    yield Progress(_CHECK, "", found)
    stops = [one for one in found if one.stops]
    if stops:
        raise UserError(str(stops[0]))
    return (yield from scaled(train_round(session, parameters), _CHECK, 1.0))


def state_in_words(state: TrainingState) -> str:
    """``"Pass 12 of 40: error 0.31, on what is locked away 0.35 (0.61 before). Best so far: pass 10"``."""
    held = "" if state.holdout_loss is None else f", on what is locked away {state.holdout_loss:.2f}"
    if held and state.holdout_before is not None:
        held += f" ({state.holdout_before:.2f} before)"
    best = f". Best so far: pass {state.best_epoch}" if state.best_epoch else ""
    return f"Pass {state.epoch} of {state.epochs}: error {state.loss:.2f}{held}{best}"


def _titled(name: str, preset: TrainParameters) -> str:
    title = _TITLES.get(name, name.capitalize())
    return f"{title}: {preset.minutes:g} min" if preset.minutes else title
