"""The Preprocess dock by hand in a real napari window: every gesture, and what comes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QStyle, QStyleOptionSlider

from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import PRESETS, PUBLISHED, Recipe
from cell_curator.core.turns import Turns
from cell_curator.pixel_cache import PixelCache
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import workbench_of

GROOVES = Path(__file__).parents[2] / "sample_data" / "grooves"


def drag(widget, points):
    """Press at the first point of a widget, move through the others, release."""
    kinds = [QEvent.Type.MouseButtonPress, *[QEvent.Type.MouseMove] * (len(points) - 1), QEvent.Type.MouseButtonRelease]
    for kind, spot in zip(kinds, [*points, points[-1]], strict=True):
        spot = QPoint(round(spot.x()), round(spot.y()))
        QApplication.sendEvent(
            widget,
            QMouseEvent(
                kind,
                QPointF(spot),
                QPointF(widget.mapToGlobal(spot)),
                Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton,
                Qt.MouseButton.NoButton if kind == QEvent.Type.MouseButtonRelease else Qt.MouseButton.LeftButton,
                Qt.KeyboardModifier.NoModifier,
            ),
        )
        QApplication.processEvents()


def knob_of(slider):
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    parts = QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, slider
    return QPointF(slider.style().subControlRect(*parts).center())


@pytest.fixture
def grooves(open_viewer, tmp_path):
    """The hand, the dock and the session, on the sample of nuclei on grooves."""
    hand = open_viewer()
    shutil.copytree(GROOVES, tmp_path / "sample" / "grooves")
    bench = workbench_of(hand.viewer)
    bench.open(tmp_path / "sample" / "grooves")
    hand.wait(lambda: not bench.runner.busy and bench.link.labels.image_id is not None)
    dock = hand.docks.show_dock("Preprocess")
    hand.wait(lambda: dock.film.titles)
    return hand, dock, bench


def rested(hand, dock, action):
    """Do something, and wait until full resolution has followed."""
    seen = []
    dock.live.rested.connect(seen.append)
    action()
    hand.wait(lambda: seen)
    dock.live.rested.disconnect(seen.append)
    return seen[-1]


def test_the_picture_follows_the_slider_and_full_resolution_follows_the_hand(grooves, pictures):
    hand, dock, bench = grooves
    looks = []
    dock.live.looked.connect(looks.append)
    slider = dock.form.control("clip.high_percent").slider
    start = knob_of(slider)
    steps = [start - QPointF(k, 0) for k in range(0, 40, 4)]

    last = rested(hand, dock, lambda: drag(slider, steps))
    recipe = dock.form.value()
    assert recipe.clip.high_percent < 80
    assert looks
    image_id = bench.session.current_image
    np.testing.assert_array_equal(last.picture.image, prepare(bench.session.pixels(image_id), recipe).image)
    np.testing.assert_array_equal(bench.link.image.prepared_layer.data, last.picture.image)
    assert bench.session.get(Recipe) != recipe  # nothing is stored before it is applied
    photograph(hand.viewer, pictures / "preprocess-1-slider.png")


def test_histogram_handles_set_the_percentiles(grooves):
    hand, dock, _ = grooves
    at = dock.histogram.handle(1)
    made = rested(hand, dock, lambda: drag(dock.histogram, [at, at - QPointF(30, 0), at - QPointF(60, 0)]))
    clip = dock.form.value().clip
    assert clip.enabled
    assert clip.high_percent < 99
    share = float((made.picture.image >= 1.0).mean())
    assert share == pytest.approx(1 - clip.high_percent / 100, abs=0.02)


def test_swipe_shows_raw_left_of_the_line_and_c_blinks(grooves, pictures):
    hand, dock, bench = grooves
    hand.key(Qt.Key.Key_W)
    swipe, layer = dock.comparison.swipe, bench.link.image.prepared_layer
    hand.wait(swipe.isVisible)
    middle = QPointF(swipe.width() / 2, swipe.height() / 2)
    drag(swipe, [middle, middle + QPointF(60, 0), middle + QPointF(90, 0)])
    hidden = np.isnan(layer.data).mean()
    assert 0.5 < hidden < 0.9
    assert np.isfinite(bench.link.image.prepared.picture).all()
    photograph(hand.viewer, pictures / "preprocess-2-swipe.png")

    dock.preset.setCurrentText(PUBLISHED)  # turned: the line stays upright on the screen
    hand.wait(lambda: bench.link.image.angle_deg != 0)
    assert 0.3 < np.isnan(layer.data).mean() < 0.9
    photograph(hand.viewer, pictures / "preprocess-3-swipe-turned.png")
    hand.key(Qt.Key.Key_W)
    assert np.isfinite(layer.data).all()
    hand.key(Qt.Key.Key_C)
    assert not layer.visible
    hand.docks.show_dock("Images")
    assert not swipe.isVisible()


def test_the_handle_turns_this_image_or_all(grooves, pictures):
    hand, dock, bench = grooves
    session, image_id = bench.session, bench.session.current_image
    rested(hand, dock, lambda: dock.preset.setCurrentText(PUBLISHED))
    found = bench.link.image.angle_deg
    swipe, knob = dock.comparison.swipe, dock.comparison.knob
    middle = QPointF(knob.width() / 2, knob.height() / 2)

    # where the line of the swipe runs through the knob, the knob is taken
    hand.key(Qt.Key.Key_W)
    hand.wait(lambda: swipe.isVisible() and knob.isVisible())
    assert swipe.geometry().contains(knob.geometry().center())
    assert hand.canvas.childAt(knob.geometry().center()) is knob
    hand.key(Qt.Key.Key_W)

    rested(hand, dock, lambda: drag(knob, [middle, middle + QPointF(20, 1), middle + QPointF(40, 3)]))
    by_hand = session.get(Turns).by_hand
    assert list(by_hand) == [image_id]
    assert 4 < by_hand[image_id] - found < 12  # leaned to the right: further counter-clockwise
    assert bench.link.image.angle_deg == by_hand[image_id]
    photograph(hand.viewer, pictures / "preprocess-4-turned-by-hand.png")
    rested(hand, dock, lambda: hand.press(dock.turn_back))
    assert bench.link.image.angle_deg == pytest.approx(found, abs=0.05)

    dock.turn_for.setCurrentText("all images")
    rested(hand, dock, lambda: drag(knob, [middle, middle - QPointF(30, 0)]))
    rotate = dock.form.value().rotate
    assert rotate.method == "fixed"
    assert rotate.angle_deg == bench.link.image.angle_deg


def test_the_filmstrip_shows_the_image_up_to_a_step(grooves):
    hand, dock, bench = grooves
    rested(hand, dock, lambda: dock.preset.setCurrentText(PUBLISHED))
    assert dock.film.titles == ["Channel", "Local contrast (CLAHE)", "Normalise", "Clip extremes", "Denoise (TV)"]
    full = bench.link.image.prepared_layer.data.copy()
    spot = QPointF(dock.film.frame(1).center())
    made = rested(hand, dock, lambda: drag(dock.film.strip, [spot]))
    pixels = bench.session.pixels(bench.session.current_image)
    np.testing.assert_array_equal(made.picture.image, prepare(pixels, PRESETS[PUBLISHED].up_to("clahe")).image)
    assert dock.form.value() == PRESETS[PUBLISHED]
    rested(hand, dock, lambda: drag(dock.film.strip, [spot]))
    np.testing.assert_array_equal(bench.link.image.prepared_layer.data, full)


def test_suggestions_come_with_reasons_and_quality_with_arrows(grooves, pictures):
    hand, dock, _ = grooves
    hand.press(dock.suggest)
    hand.wait(lambda: dock.reasons.isVisible())
    rested(hand, dock, lambda: dock._schedule())
    assert dock.form.value().rotate.enabled
    assert "grooves" in dock.reasons.content.text()
    assert "▼" in dock.quality.text("noise")
    photograph(hand.viewer, pictures / "preprocess-5-suggested.png")


def test_only_what_is_in_view_is_computed_while_the_slider_moves(grooves):
    hand, dock, bench = grooves
    hand.viewer.scene.camera.zoom *= 6
    QApplication.processEvents()
    looks = []
    dock.live.looked.connect(looks.append)
    dock.form.control("clip.high_percent").spin.setValue(90)
    hand.wait(lambda: looks)
    height, width = bench.link.image.shape
    seen = looks[0].preview
    assert seen.image.shape[0] * seen.scale[0] < height / 2
    assert seen.image.shape[1] * seen.scale[1] < width / 2


@pytest.mark.parametrize(
    "kind",
    ["stack", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("colour", "dask", "pyramid"))],
)
def test_without_a_project_any_image_layer_can_be_tried(open_viewer, kind, pictures):
    hand = open_viewer()
    viewer = hand.viewer
    dock = hand.docks.show_dock("Preprocess")
    scenes = [nuclei_on_grooves(seed, size=512, count=40).image[0] for seed in (1, 2)]
    stack = np.stack(scenes)
    if kind == "stack":
        viewer.add_image(stack, name=kind, scale=(1, 0.5, 0.5))
    elif kind == "colour":
        viewer.add_image(np.stack([scenes[0] // 16] * 3, -1).astype(np.uint8), name=kind, rgb=True)
    elif kind == "dask":
        viewer.add_image(da.from_array(stack, chunks=(1, 128, 128)), name=kind)
    else:
        viewer.add_image([stack, stack[:, ::2, ::2]], name=kind, multiscale=True)
    hand.wait(lambda: dock.film.titles)
    assert dock.works_without_project()
    assert not dock.primary.isEnabled()
    assert kind in dock.header.project.full_text

    made = rested(hand, dock, lambda: dock.preset.setCurrentText("Noisy fluorescence"))
    layer = dock._own_layer.layer
    assert layer.visible
    np.testing.assert_allclose(layer.extent.world[:, -2:], viewer.layers[kind].extent.world[:, -2:], atol=1.0)
    if kind != "colour":
        first = viewer.dims.current_step[0]
        expected = prepare(scenes[first], PRESETS["Noisy fluorescence"]).image
        assert np.abs(made.picture.image - expected).mean() < 0.02
        other = rested(hand, dock, lambda: viewer.dims.set_current_step(0, 1 - first))
        expected = prepare(scenes[1 - first], PRESETS["Noisy fluorescence"]).image
        assert np.abs(other.picture.image - expected).mean() < 0.02
    photograph(viewer, pictures / f"preprocess-6-layer-{kind}.png")
    viewer.layers.remove(kind)
    hand.wait(lambda: dock._own_layer.layer is None)
    assert not dock.works_without_project()


@pytest.mark.slow  # the dock alone is tried in the fast run
def test_an_image_that_is_renamed_is_said_and_the_next_one_works(grooves):
    hand, dock, bench = grooves
    session = bench.session
    first, second = session.images[:2]
    first.path.rename(first.path.with_name("elsewhere.tif"))
    session._pixels = PixelCache()  # as if many other images had been looked at
    dock.form.control("clip.high_percent").spin.setValue(91)
    hand.wait(lambda: str(first.path) in dock.jobs.error.text())
    hand.press(dock.header.next)
    hand.wait(lambda: bench.link.labels.image_id == second.image_id)
    hand.wait(lambda: not dock.jobs.error.text() and dock.jobs.state.full_text.startswith("Preview in"))
    recipe = session.recipe_for(second.image_id, dock.form.value())
    np.testing.assert_array_equal(
        bench.link.image.prepared_layer.data, prepare(session.pixels(second.image_id), recipe).image
    )


def test_a_volume_is_said_and_the_plane_works_again(open_viewer):
    hand = open_viewer()
    dock = hand.docks.show_dock("Preprocess")
    hand.viewer.add_image(np.random.default_rng(0).random((4, 60, 80)))
    hand.wait(lambda: dock.film.titles)
    hand.viewer.dims.ndisplay = 3
    hand.wait(lambda: "2D" in dock.jobs.error.text())
    rested(hand, dock, lambda: setattr(hand.viewer.dims, "ndisplay", 2))
    assert not dock.jobs.error.text()


@pytest.mark.parametrize("theme", ["dark", pytest.param("light", marks=pytest.mark.slow)])
def test_on_a_small_screen_the_sliders_have_room(open_viewer, tmp_path, theme, pictures):
    hand = open_viewer((1280, 800))
    hand.viewer.theme = theme
    shutil.copytree(GROOVES, tmp_path / "sample" / "grooves")
    bench = workbench_of(hand.viewer)
    bench.open(tmp_path / "sample" / "grooves")
    hand.wait(lambda: not bench.runner.busy and bench.link.labels.image_id is not None)
    dock = hand.docks.show_dock("Preprocess")
    hand.wait(lambda: dock.film.titles)
    QApplication.processEvents()
    assert not dock.quality.isVisible()
    seen = dock.form.parentWidget().parentWidget()  # the part of the form that is not scrolled away
    assert seen.height() >= 170
    assert dock.primary.isVisible()
    photograph(hand.viewer, pictures / f"preprocess-7-small-{theme}.png")
