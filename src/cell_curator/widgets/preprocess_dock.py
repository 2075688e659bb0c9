"""The Preprocess dock: the recipe, tried live on the image on screen, then applied to all."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel

from cell_curator.core.recipe import PRESETS, Recipe
from cell_curator.widgets.controls import Choice
from cell_curator.widgets.dock import Connections, Dock
from cell_curator.widgets.form import ParametersForm

if TYPE_CHECKING:
    from cell_curator.session import Session

_DEBOUNCE_MS = 120
_OWN = "own settings"


class PreprocessDock(Dock):
    """Edits the project's recipe with a live preview in the layer “prepared”."""

    title = "Preprocess"
    keys = (("C", "compare: raw or prepared image"),)

    def build(self) -> None:
        """Presets, the form, and what is shown."""
        self.preset = Choice([*PRESETS, _OWN])
        self.preset.setToolTip("Named starting points; any change below makes it “own settings”")
        self.preset.changed.connect(self._preset_chosen)
        top = QHBoxLayout()
        top.addWidget(QLabel("Start from"))
        top.addWidget(self.preset, 1)
        self.form = ParametersForm(Recipe, zero={"tile_px": "automatic"})
        self.form.changed.connect(self._edited)
        self.show_prepared = QCheckBox("Show the prepared image")
        self.show_prepared.setToolTip("Switch between the raw and the prepared image (C)")
        self.show_prepared.toggled.connect(self._show_prepared)
        self.live = QCheckBox("Live")
        self.live.setToolTip("Prepare the image on screen again after every change")
        self.live.setChecked(True)
        self.live.toggled.connect(self._schedule)
        switches = QHBoxLayout()
        switches.addWidget(self.show_prepared, 1)
        switches.addWidget(self.live)
        self.body.addLayout(top)
        self.body.addLayout(switches)
        self.body.addWidget(self.form)
        self.primary.setText("Apply to all images")
        self.primary.setToolTip("Keep this recipe for the project and prepare every image with it")
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DEBOUNCE_MS)
        self._timer.timeout.connect(self._preview)
        self.add_key("C", self.show_prepared.toggle)

    def act(self) -> None:
        """Store the recipe and prepare every image."""
        session = self.session
        if session is None:
            return
        session.put(self.form.value())
        self.run("Preparing images", session.prepare_images, self._prepared)

    def opened(self, session: Session, links: Connections) -> None:
        """Show the project's recipe."""
        links.add(session.events.parameters_changed, self._parameters_changed)
        links.add(session.events.current_changed, self._image_changed)
        self._take(session.get(Recipe))

    def closed(self) -> None:
        """Stop previews."""
        self._timer.stop()

    def _prepared(self, report: Any) -> str:
        failed = f"; {len(report.failed)} failed: {report.failed[0][1]}" if report.failed else ""
        return f"{report.done} images prepared{failed}"

    def _take(self, recipe: Recipe) -> None:
        self.form.set_value(recipe)
        self.preset.set_value(next((name for name, preset in PRESETS.items() if preset == recipe), _OWN))

    def _parameters_changed(self, name: str) -> None:
        if name == Recipe.__name__ and self.session is not None:
            self._take(self.session.get(Recipe))

    def _preset_chosen(self, name: str) -> None:
        if name in PRESETS:
            self.form.set_value(PRESETS[name])
            self._edited(PRESETS[name])

    def _edited(self, recipe: Recipe) -> None:
        self.preset.set_value(next((name for name, preset in PRESETS.items() if preset == recipe), _OWN))
        self.show_prepared.setChecked(True)
        self._schedule()

    def _image_changed(self, *_: Any) -> None:
        if self.session is not None and self.form.value() != self.session.get(Recipe):
            self._schedule()

    def _schedule(self, *_: Any) -> None:
        if self.live.isChecked() and self.session is not None:
            self._timer.start()

    def _preview(self) -> None:
        session = self.session
        if session is None or session.current_image is None:
            return
        image_id, recipe = session.current_image, self.form.value()
        self.bench.background(partial(_compute, session, image_id, recipe), self._show, topic="preview")

    def _show(self, made: tuple[int, Any, float]) -> None:
        image_id, prepared, seconds = made
        if self.session is None or self.bench.link is None or image_id != self.session.current_image:
            return
        self.bench.link.show_prepared(image_id, prepared.image, prepared.angle_deg)
        self._show_prepared(self.show_prepared.isChecked())
        turned = f", turned by {prepared.angle_deg:.1f}°" if prepared.angle_deg else ""
        notes = f" · {'; '.join(prepared.notes)}" if prepared.notes else ""
        self.jobs.show_state(f"Preview in {1000 * seconds:.0f} ms{turned}{notes}")

    def _show_prepared(self, visible: bool) -> None:
        link = self.bench.link
        if link is not None and link.image.prepared_layer is not None:
            link.image.prepared_layer.visible = visible


def _compute(session: Session, image_id: int, recipe: Recipe) -> tuple[int, Any, float]:
    start = time.perf_counter()
    prepared = session.prepare(image_id, recipe)
    return image_id, prepared, time.perf_counter() - start
