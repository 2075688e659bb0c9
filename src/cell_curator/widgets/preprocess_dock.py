"""The Preprocess dock: the recipe, tried live on what is on screen, then applied to all images."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from qtpy.QtWidgets import QCheckBox, QFileDialog, QHBoxLayout, QLabel, QWidget

from cell_curator.core.look import Look, Study, used_notes
from cell_curator.core.orientation import wrap
from cell_curator.core.recipe import PRESETS, STEPS, Recipe
from cell_curator.core.suggest import Suggestion, suggest
from cell_curator.core.turns import Turns
from cell_curator.io.recipes import read_recipe, write_recipe
from cell_curator.link.prepared import PreparedLayer
from cell_curator.link.target import LayerTarget, ProjectTarget, Target
from cell_curator.widgets.comparison import Comparison
from cell_curator.widgets.controls import Choice, Fold, push_button
from cell_curator.widgets.dock import Connections, Dock
from cell_curator.widgets.filmstrip import Filmstrip, title_of
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.histogram import ClipHistogram
from cell_curator.widgets.live import Live, Rest, in_words
from cell_curator.widgets.quality_table import QualityTable
from cell_curator.widgets.sweep_window import SweepWindow

if TYPE_CHECKING:
    from cell_curator.session import Session

_OWN = "own settings"
_FILES = "Recipe (*.json)"
_TALL = 850  # px, height of a window


class PreprocessDock(Dock):
    """Edits the project's recipe with a live preview in the layer “prepared”.

    Without a project it works on the image layer that is selected, whatever that holds.
    """

    title = "Preprocess"
    keys = (("C", "blink: raw or prepared image"), ("W", "swipe: raw image left of a line"))

    def build(self) -> None:
        """Starting points, what is seen of the image, and the form."""
        theme = str(self.bench.viewer.theme)
        self._layer_target: LayerTarget | None = None
        self._own_layer = PreparedLayer(self.bench.viewer)
        self.live = Live(self.bench, self.target, self)
        self.live.looked.connect(self._looked)
        self.live.rested.connect(self._rested)
        self.live.failed.connect(self.jobs.show_error)
        self.comparison = Comparison(self.bench.viewer, self._prepared_layer, self)
        self.comparison.turned.connect(self._turned)
        self.histogram = ClipHistogram(theme)
        self.histogram.clipped.connect(self._clipped)
        self.film = Filmstrip(theme)
        self.film.chosen.connect(self._schedule)
        self.quality = QualityTable(theme)
        self._build_starts()
        self._build_switches()
        self._build_seeing()
        self.form = ParametersForm(Recipe, zero={"tile_px": "automatic"})
        self._valid, self._seen = Recipe(), False
        self.form.changed.connect(self._edited)
        self._build_turning()
        self.body.addWidget(self.reasons)
        self.body.addWidget(self.form)
        self.primary.setText("Apply to all images")
        self.primary.setToolTip("Keep this recipe for the project and prepare every image with it")
        self._sweep: SweepWindow | None = None
        viewer = self.bench.viewer
        self._bench_links.add_napari(viewer.scene.camera.events.center, self.live.camera_moved)
        self._bench_links.add_napari(viewer.scene.camera.events.zoom, self.live.camera_moved)
        self._bench_links.add_napari(viewer.layers.selection.events.active, self._layer_chosen)
        self._bench_links.add_napari(viewer.layers.events.removed, self._layer_chosen)
        for event in (viewer.dims.events.current_step, viewer.dims.events.order, viewer.dims.events.ndisplay):
            self._bench_links.add_napari(event, self._layer_chosen)
        self.destroyed.connect(partial(Comparison.close, self.comparison))

    def _build_starts(self) -> None:
        self.preset = Choice([*PRESETS, _OWN])
        self.preset.setToolTip("Named starting points; any change below makes it “own settings”")
        self.preset.changed.connect(self._preset_chosen)
        self.suggest = push_button(
            "Suggest", "Estimate starting values from the image on screen, and say why", self._suggest
        )
        self.sweep = push_button("Sweep…", "Compare many values of a few settings side by side", self._open_sweep)
        self.load = push_button("Open…", "Open a recipe file", partial(self.guard, self._load))
        self.save = push_button(
            "Save…", "Save this recipe as a file, also for the command line", partial(self.guard, self._save)
        )
        top = QHBoxLayout()
        top.addWidget(QLabel("Start from"))
        top.addWidget(self.preset, 1)
        buttons = QHBoxLayout()
        for button in (self.suggest, self.sweep, self.load, self.save):
            buttons.addWidget(button, 1)
        self.pinned.addLayout(top)
        self.pinned.addLayout(buttons)
        self.reasons = Fold("Why these values", _quiet(), opened=True)
        self.reasons.hide()

    def _build_switches(self) -> None:
        self.show_prepared = _check(
            "Prepared image",
            "Switch between the raw and the prepared image (C)",
            lambda on: self.comparison.set(shown=on),
        )
        self.swipe = _check(
            "Swipe", "A line across the image: raw to the left of it, prepared to the right (W)", self._swiped
        )
        self.is_live = _check("Live", "Prepare the image on screen again with every change", self._schedule)
        self.is_live.setChecked(True)
        switches = QHBoxLayout()
        switches.addWidget(self.show_prepared, 1)
        switches.addWidget(self.swipe)
        switches.addSpacing(12)
        switches.addWidget(self.is_live)
        self.pinned.addLayout(switches)
        self.add_key("C", self.show_prepared.toggle)
        self.add_key("W", self.swipe.toggle)

    def _build_seeing(self) -> None:
        self.pinned.addWidget(self.histogram)
        self.pinned.addWidget(self.film)
        self.figures = Fold("Quality, raw → prepared", self.quality, opened=True)
        self.pinned.addWidget(self.figures)

    def _build_turning(self) -> None:
        self.turn_for = Choice(["this image", "all images"])
        self.turn_for.setToolTip("What dragging the round handle at the top of the image turns")
        self.turn_back = push_button("Automatic", "Leave the angle of this image to the recipe again", self._turn_back)
        row = QWidget()
        layout = QHBoxLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("Handle turns"))
        layout.addWidget(self.turn_for, 1)
        layout.addWidget(self.turn_back)
        self.form.section("rotate").add_extra(row)

    # ------------------------------------------------------------------ what is on screen

    def target(self) -> Target | None:
        """What is previewed: the project's image on screen, or the selected image layer."""
        if self.session is not None:
            if self.bench.link is None or self.session.current_image is None:
                return None
            return ProjectTarget(self.bench.link, self.session.current_image)
        return self._layer_target

    def works_without_project(self) -> bool:
        """With an image layer there is something to try a recipe on."""
        return self._layer_target is not None

    def act(self) -> None:
        """Store the recipe and prepare every image."""
        session = self.session
        if session is not None:
            session.put(self.recipe())
            self.run("Preparing images", session.prepare_images, self._prepared)

    def opened(self, session: Session, links: Connections) -> None:
        """Show the project's recipe."""
        self._layer_target = None
        self._own_layer.remove()
        links.add(session.events.parameters_changed, self._parameters_changed)
        if self.bench.link is not None:
            links.add(self.bench.link.shown, self._schedule)
        self._take(session.get(Recipe))

    def closed(self) -> None:
        """Stop previews."""
        self.live.stop()
        self.comparison.set(turnable=False)
        self._layer_chosen()

    def themed(self, theme: str) -> None:
        """Pass it on to what paints itself."""
        for part in (self.histogram, self.film, self.quality):
            part.set_theme(theme)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """The handles come with the dock, and so do the compiled steps."""
        super().showEvent(event)
        if not self._seen:  # on a small screen the sliders need the room more than the figures do
            self._seen = True
            self.figures.set_open(self.window().height() >= _TALL)
        self.bench.warm_up_previews()
        self.comparison.set(in_view=True)
        self._schedule()

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """The handles go with the dock."""
        super().hideEvent(event)
        self.comparison.set(in_view=False)

    def _prepared_layer(self) -> PreparedLayer | None:
        if self.session is not None:
            return None if self.bench.link is None else self.bench.link.image.prepared
        return self._own_layer

    def _layer_chosen(self, *_: Any) -> None:
        """Without a project: follow the image layer that is selected."""
        if self.session is not None:
            return
        from napari.layers import Image

        viewer = self.bench.viewer
        chosen = viewer.layers.selection.active
        before = None if self._layer_target is None else self._layer_target.layer
        if not isinstance(chosen, Image) or chosen is self._own_layer.layer:
            chosen = before  # a layer of another kind, or the preview itself, takes nothing away
        if chosen is not None:
            target = LayerTarget(viewer, chosen, self._own_layer)
            if self._layer_target is None or target.key != self._layer_target.key:
                self._layer_target = target
                self.header.project.set_text(f"No project · trying on the layer “{target.name}”")
                self._schedule()
        elif self._layer_target is not None:
            self._layer_target = None
            self.live.stop()
            self._own_layer.remove()
        self.fit_page()

    # ------------------------------------------------------------------ the recipe

    def recipe(self) -> Recipe:
        """As it stands in the form; while its values are out of bounds, as it last did."""
        with suppress(ValidationError):
            self._valid = self.form.value()
        return self._valid

    def _prepared(self, report: Any) -> str:
        failed = f"; {len(report.failed)} failed: {report.failed[0][1]}" if report.failed else ""
        return f"{report.done} images prepared{failed}"

    def _take(self, recipe: Recipe) -> None:
        self.form.set_value(recipe)
        self._named(recipe)
        self._schedule()

    def _named(self, recipe: Recipe) -> None:
        self.preset.set_value(next((name for name, preset in PRESETS.items() if preset == recipe), _OWN))
        self.comparison.set(turnable=recipe.rotate.enabled)

    def _parameters_changed(self, name: str) -> None:
        if self.session is not None and name == Recipe.__name__:
            self._take(self.session.get(Recipe))
        elif name == Turns.__name__:
            self._schedule()

    def _preset_chosen(self, name: str) -> None:
        if name in PRESETS:
            self._adopt(PRESETS[name])

    def _adopt(self, recipe: Recipe) -> None:
        """Take over a whole recipe, from wherever it comes."""
        self.reasons.hide()
        self.form.set_value(recipe)
        self._edited(recipe)

    def _edited(self, recipe: Recipe) -> None:
        self._named(recipe)
        self.show_prepared.setChecked(True)
        self._schedule()

    def _clipped(self, low: float, high: float) -> None:
        recipe = self.recipe()
        clip = recipe.clip.model_copy(
            update={"enabled": True, "adaptive": False, "low_percent": low, "high_percent": high}
        )
        recipe = recipe.model_copy(update={"clip": clip})
        self.form.set_value(recipe)
        self._edited(recipe)

    def _load(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a recipe", "", _FILES)
        if path:
            self._adopt(read_recipe(Path(path)))

    def _save(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the recipe", "recipe.json", _FILES)
        if path:
            target = Path(path)
            write_recipe(target if target.suffix else target.with_suffix(".json"), self.recipe(), {})
            self.jobs.show_state(f"Recipe saved as {target.name}")

    def _suggest(self) -> None:
        target = self.target()
        if target is None:
            return
        self.jobs.show_state("Looking at the image…")
        work = partial(in_words, lambda: suggest(target.source()[0]))
        self.bench.studies(work, partial(self._suggested, target.key), topic="suggest")

    def _suggested(self, key: Any, made: Suggestion | str) -> None:
        target = self.target()
        self.jobs.show_state("")
        if target is None or target.key != key:
            return
        if isinstance(made, str):
            self.jobs.show_error(made)
            return
        self._adopt(made.recipe)
        self.reasons.content.setText("".join(f"<p style='margin:2px 0'>• {reason}</p>" for reason in made.reasons))
        self.reasons.set_open(True)
        self.reasons.show()

    def _open_sweep(self) -> None:
        target = self.target()
        view = None if target is None else target.view()
        if target is None or view is None:
            self.jobs.show_error("there is nothing in view to compare; move the image into view")
            return
        if self._sweep is None:
            self._sweep = SweepWindow(self.bench, self)
            self._sweep.adopted.connect(self._adopt)
        image_id = self.session.current_image if self.session is not None else None
        image = self.guard(lambda: target.source()[0])
        if image is not None:
            self._sweep.open_for(image, self.recipe(), region=view[0], step=view[1], image_id=image_id)

    # ------------------------------------------------------------------ turning

    def _turned(self, by_deg: float) -> None:
        recipe = self.recipe()
        now = self.bench.link.image.angle_deg if self.session is not None and self.bench.link is not None else 0.0
        angle = round(wrap(now + by_deg), 2)
        image_id = self.session.current_image if self.session is not None else None
        if self.session is not None and image_id is not None and self.turn_for.value() == "this image":
            self.guard(partial(self.session.set_turn, image_id, angle))
            return
        self._adopt(recipe.turned_by(angle))

    def _turn_back(self) -> None:
        if self.session is not None and self.session.current_image is not None:
            self.guard(partial(self.session.set_turn, self.session.current_image, None))

    # ------------------------------------------------------------------ previews

    def _schedule(self, *_: Any) -> None:
        if not self.is_live.isChecked() or not self.isVisible() or self.target() is None:
            return
        recipe = self.recipe()
        step = next((name for name in STEPS if title_of(name) == self.film.step), "")
        self.live.request(recipe.up_to(step) if step else recipe)

    def _swiped(self, on: bool) -> None:
        if on:
            self.show_prepared.setChecked(True)
        self.comparison.set(swiped=on)

    def _looked(self, made: Look) -> None:
        self.comparison.apply()
        self.jobs.show_error("")
        if not self.film.step:
            self.histogram.show_histograms(made.histograms)
        for step, note in used_notes(self.recipe(), made.preview.used).items():
            self.form.section(step).set_note(note)

    def _rested(self, made: Rest) -> None:
        self.comparison.apply()
        if not self.film.step:
            self.film.show_film(made.study.film)
            self.quality.show_quality(made.study.raw, made.study.prepared)
        self._show_turn(made.study)
        notes = f" · {'; '.join(made.study.notes)}" if made.study.notes else ""
        upto = f" · shown up to {self.film.step}" if self.film.step else ""
        self.jobs.show_state(f"Preview in {1000 * self.live.seconds:.0f} ms{upto}{notes}")

    def _show_turn(self, made: Study) -> None:
        by_hand = self.session is not None and self.session.current_image in self.session.get(Turns).by_hand
        self.turn_back.setEnabled(by_hand)
        why = " set by hand" if by_hand else "".join(f": {note}" for note in made.notes if "grooves" in note)
        self.form.section("rotate").set_note(f"This image: {made.angle_deg:+.1f}°{why}")


def _check(text: str, tip: str, slot: Any) -> QCheckBox:
    box = QCheckBox(text)
    box.setToolTip(tip)
    box.toggled.connect(slot)
    return box


def _quiet() -> QLabel:
    label = QLabel()
    label.setObjectName("quiet")
    label.setWordWrap(True)
    return label
