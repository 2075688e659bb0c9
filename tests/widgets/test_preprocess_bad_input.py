"""Odd images, lost files and wrong recipes in the Preprocess dock: one line that says so, and on it goes."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from cell_curator.core.jobs import drive
from cell_curator.core.recipe import RECIPE_VERSION, Recipe
from cell_curator.io.tiff import write_tiff
from cell_curator.pixel_cache import PixelCache
from cell_curator.session import Session
from cell_curator.widgets.preprocess_dock import PreprocessDock


@pytest.fixture
def dock(show, bench, session, wait_for_job, qtbot):
    """The dock on a project of two images, after its first preview."""
    dock = show(PreprocessDock)
    bench.viewer.canvas.size = (600, 600)
    bench.adopt(session)
    wait_for_job()
    qtbot.waitUntil(lambda: bool(dock.film.titles), timeout=20_000)
    return dock


@pytest.fixture
def alone(show, bench):
    """The dock without a project."""
    bench.viewer.canvas.size = (600, 600)
    return show(PreprocessDock)


def after(qtbot, signal, action):
    with qtbot.waitSignal(signal, timeout=20_000) as waited:
        action()
    return waited.args[0]


def slide(dock, percent):
    """Move the slider as the user does."""
    dock.form.control("clip.high_percent").spin.setValue(percent)


# Files


@pytest.mark.parametrize("how", ["deleted", "renamed"])
def test_an_image_that_went_away_is_one_line_and_the_next_image_works(dock, bench, session, qtbot, wait_for_job, how):
    first, second = session.images
    before = dock.form.value()
    first.path.unlink() if how == "deleted" else first.path.rename(first.path.with_name("other.tif"))
    session._pixels = PixelCache()  # as if many other images had been looked at
    said = after(qtbot, dock.live.failed, lambda: slide(dock, 80))
    assert str(first.path) in said
    assert "no longer there" in said
    assert dock.jobs.error.text() == said
    assert "\n" not in said
    assert dock.form.value() == before.model_copy(update={"clip": before.clip.model_copy(update={"high_percent": 80})})
    assert len(session.cells) == 8

    session.show_image(second.image_id)
    wait_for_job()
    after(qtbot, dock.live.rested, lambda: slide(dock, 70))
    assert not dock.jobs.error.text()
    assert bench.link.image.prepared_layer.data.shape == (64, 80)


def test_an_image_that_went_away_before_it_was_shown_is_said_in_the_dock(dock, session, qtbot, wait_for_job):
    first, second = session.images
    second.path.unlink()
    session._pixels = PixelCache()
    session.show_image(second.image_id)
    qtbot.waitUntil(lambda: str(second.path) in dock.jobs.error.text())
    session.show_image(first.image_id)
    after(qtbot, dock.live.rested, lambda: slide(dock, 70))
    assert not dock.jobs.error.text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps({"version": RECIPE_VERSION + 1}), "newer"),
        (json.dumps({"recipe": {"version": RECIPE_VERSION + 1, "clip": {}}}), "newer"),
        (json.dumps({"sharpen": {"amount": 2}}), "unknown step 'sharpen'"),
        (json.dumps({"clip": {"high_percent": 1e9}}), "clip.high_percent"),
        (json.dumps([1, 2]), "not a recipe"),
        ("no json at all {", "not a JSON file"),
        ("\x00\xff", "not a JSON file"),
        ("", "not a JSON file"),
        (None, "does not exist"),
    ],
)
def test_a_wrong_recipe_file_is_one_line_and_changes_nothing(dock, tmp_path, monkeypatch, text, words):
    path = tmp_path / "recipe.json"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    before = dock.form.value()
    dock.load.click()
    said = dock.jobs.error.text()
    assert words in said
    assert str(path) in said
    assert "\n" not in said
    assert dock.form.value() == before


def test_a_recipe_that_was_saved_is_opened_again(dock, tmp_path, monkeypatch, qtbot):
    slide(dock, 77)
    made = dock.form.value()
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine"), ""))
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "mine.json"), ""))
    dock.save.click()
    slide(dock, 55)
    after(qtbot, dock.live.rested, dock.load.click)
    assert dock.form.value() == made
    assert not dock.jobs.error.text()


def test_a_recipe_that_cannot_be_written_is_said(dock, tmp_path, monkeypatch):
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "nowhere" / "x.json"), ""))
    dock.save.click()
    assert "x.json" in dock.jobs.error.text()


# Values


def test_all_sliders_at_both_ends_still_give_a_picture(dock, bench, qtbot):
    for name in ("background.enabled", "zero_below.enabled", "tone.enabled"):
        dock.form.control(name).box.setChecked(True)
    for end in ("minimum", "maximum"):
        for step in ("background", "clahe", "clip", "zero_below", "tone", "total_variation"):
            for control in dock.form.section(step)._fields.values():
                if hasattr(control, "spin") and (end == "maximum" or control.spin.minimum() >= control._low):
                    control.spin.setValue(getattr(control.spin, end)())
        after(qtbot, dock.live.rested, lambda: dock._schedule())
        picture = bench.link.image.prepared.picture
        assert np.isfinite(picture).all()
        assert 0 <= picture.min() <= picture.max() <= 1
        assert not dock.jobs.error.text()


def test_low_above_high_is_said_at_its_place_and_nothing_is_cut_off(dock, qtbot):
    slide(dock, 50)
    after(qtbot, dock.live.rested, lambda: dock.form.control("clip.low_percent").spin.setValue(60))
    assert "nothing is cut" in dock.form.section("clip")._note.text()
    assert not dock.jobs.error.text()
    after(qtbot, dock.live.rested, lambda: dock.form.control("clip.low_percent").spin.setValue(10))
    assert not dock.form.section("clip")._note.text()


def test_a_value_out_of_bounds_is_said_and_all_else_goes_on_with_the_last_good_one(dock, session, qtbot, monkeypatch):
    slide(dock, 88)
    good = dock.recipe()
    control = dock.form.control("total_variation.tolerance")
    dock.form.control("total_variation.enabled").box.setChecked(True)
    good = dock.recipe()
    control.set_value(0.0)  # below the least allowed
    control.changed.emit(0.0)
    assert dock.form.section("total_variation")._error.text()
    after(qtbot, dock.live.rested, dock._schedule)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    for action in (dock.save.click, dock.show_prepared.toggle, dock.primary.click):
        action()
    assert session.get(Recipe) == good


# Images of every kind, without a project

ODD = {
    "black": np.zeros((40, 50), np.uint16),
    "one grey level": np.full((40, 50), 7, np.uint8),
    "1×1": np.ones((1, 1), np.uint8),
    "1×N": np.arange(300, dtype=np.uint16)[None],
    "N×1": np.arange(300, dtype=np.uint16)[:, None],
    "bool": np.eye(60, dtype=bool),
    "NaN": np.where(np.eye(60) > 0, np.nan, np.arange(60.0)),
    "all NaN": np.full((30, 30), np.nan, np.float32),
    "inf": np.where(np.eye(60) > 0, np.inf, np.arange(60.0)).astype(np.float32),
    "int64": np.arange(3600).reshape(60, 60) - 1800,
    "RGBA": np.random.default_rng(0).integers(0, 255, (40, 50, 4), np.uint8),
    "RGB float": np.random.default_rng(0).random((40, 50, 3)),
    "stack of one": np.random.default_rng(0).random((1, 1, 40, 50)),
}


@pytest.mark.filterwarnings("ignore:.*NaN.*:RuntimeWarning:napari")  # of all-NaN data, when its limits are looked for
@pytest.mark.filterwarnings("ignore:All-NaN:RuntimeWarning")
@pytest.mark.parametrize("kind", ODD)
def test_layers_of_every_kind_get_a_picture_or_a_line(alone, viewer, qtbot, kind):
    said, is_rgb = [], kind.startswith("RGB")
    alone.live.failed.connect(said.append)
    rested = after(
        qtbot,
        alone.live.rested,
        lambda: viewer.add_image(ODD[kind], contrast_limits=(0, 1), rgb=is_rgb),
    )
    assert not said
    picture = rested.picture.image
    assert picture.shape == (ODD[kind].shape[:2] if is_rgb else ODD[kind].shape[-2:])
    assert np.isfinite(picture).all()
    assert 0 <= picture.min() <= picture.max() <= 1
    assert alone._own_layer.layer in viewer.layers
    after(qtbot, alone.live.rested, alone.suggest.click)
    assert alone.reasons.content.text()
    assert not alone.jobs.error.text()


def test_suggest_on_an_empty_image_says_that_there_is_nothing_to_go_by(alone, viewer, qtbot):
    after(qtbot, alone.live.rested, lambda: viewer.add_image(np.zeros((64, 64), np.uint8)))
    after(qtbot, alone.live.rested, alone.suggest.click)
    assert "nothing to go by" in alone.reasons.content.text()
    assert alone.form.value() == Recipe()


def test_a_stack_without_planes_is_said(alone, viewer, qtbot):
    with np.errstate(all="ignore"):  # napari divides by the sides
        said = after(qtbot, alone.live.failed, lambda: viewer.add_image(np.zeros((0, 30, 20)), contrast_limits=(0, 1)))
    assert "no pixels" in said
    after(qtbot, alone.live.rested, lambda: viewer.add_image(np.eye(30)))
    assert not alone.jobs.error.text()


def test_axes_in_another_order_are_said_and_all_is_well_when_they_are_back(alone, viewer, qtbot, rng):
    after(qtbot, alone.live.rested, lambda: viewer.add_image(rng.random((5, 40, 50))))
    said = after(qtbot, alone.live.failed, lambda: setattr(viewer.dims, "ndisplay", 3))
    assert "2D" in said
    assert alone.jobs.error.text() == said
    alone.jobs.show_error("")
    alone.suggest.click()
    qtbot.waitUntil(lambda: alone.jobs.error.text() == said)
    assert not alone.jobs.state.full_text
    after(qtbot, alone.live.rested, lambda: setattr(viewer.dims, "ndisplay", 2))
    assert not alone.jobs.error.text()


# What goes away while it is computed


@pytest.fixture
def held(monkeypatch):
    """Previews wait in their thread until they are let go."""
    from cell_curator.widgets import live

    entered, gate = threading.Event(), threading.Event()
    gate.set()
    work = live.look

    def slow(*args, **options):
        entered.set()
        assert gate.wait(20)
        return work(*args, **options)

    monkeypatch.setattr(live, "look", slow)

    class Held:
        def start(self, action):
            gate.clear()
            entered.clear()
            action()
            assert entered.wait(20)

        def let_go(self):
            gate.set()

    yield Held()
    gate.set()


def test_a_layer_that_is_removed_while_it_is_prepared_leaves_nothing_behind(alone, viewer, qtbot, held, rng):
    after(qtbot, alone.live.rested, lambda: viewer.add_image(rng.random((40, 50)), name="mine"))
    held.start(lambda: slide(alone, 80))
    viewer.layers.remove("mine")
    held.let_go()
    qtbot.wait(500)
    assert len(viewer.layers) == 0
    assert not alone.works_without_project()
    after(qtbot, alone.live.rested, lambda: viewer.add_image(rng.random((20, 30)), name="next"))


def test_a_project_that_is_closed_while_a_preview_runs(dock, bench, viewer, qtbot, held):
    held.start(lambda: slide(dock, 80))
    bench.close_session()
    held.let_go()
    qtbot.wait(500)
    assert len(viewer.layers) == 0
    assert bench.session is None
    assert not dock.jobs.error.text()


def test_another_image_while_a_preview_runs_gets_its_own_picture(dock, bench, session, qtbot, held, wait_for_job):
    second = session.images[1]
    held.start(lambda: slide(dock, 80))
    with qtbot.waitSignal(dock.live.rested, timeout=20_000):
        session.show_image(second.image_id)
        held.let_go()
    wait_for_job()
    expected = session.prepare(second.image_id, dock.form.value()).image
    np.testing.assert_array_equal(bench.link.image.prepared.picture, expected)


def test_suggestions_for_an_image_that_is_no_longer_there_are_dropped(dock, bench, qtbot):
    before = dock.form.value()
    dock.suggest.click()
    bench.close_session()
    qtbot.wait(400)
    assert dock.form.value() == before
    assert not dock.reasons.isVisible()


def test_a_project_of_odd_images_is_gone_through_without_a_word_of_error(show, bench, tmp_path, qtbot, wait_for_job):
    (tmp_path / "odd").mkdir()
    for name in ("black", "one grey level", "1×1", "1×N", "N×1", "RGBA"):
        data = ODD[name].transpose(2, 0, 1) if name == "RGBA" else ODD[name][None]
        write_tiff(tmp_path / "odd" / f"{list(ODD).index(name)}.tif", data)
    session = Session.create(tmp_path / "odd.curator")
    drive(session.add_images(tmp_path / "odd"))
    dock = show(PreprocessDock)
    bench.viewer.canvas.size = (600, 600)
    bench.adopt(session)
    wait_for_job()
    said = []
    dock.live.failed.connect(said.append)
    for record in session.images:
        session.show_image(record.image_id)
        wait_for_job()
        slide(dock, 90)
        after(qtbot, dock.live.rested, lambda: slide(dock, 95))
        assert np.isfinite(bench.link.image.prepared.picture).all()
    assert len(session.images) == 6
    assert not said
