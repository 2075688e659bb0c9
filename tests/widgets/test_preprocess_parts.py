"""The parts of the Preprocess dock, each without the others: previews, histogram, filmstrip, figures, handles."""

from __future__ import annotations

import time
from dataclasses import fields
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QLabel, QWidget

from cell_curator.core.jobs import UserError
from cell_curator.core.look import Histograms, look, study
from cell_curator.core.overview import BINS, overview
from cell_curator.core.preprocess import prepare
from cell_curator.core.quality import Quality
from cell_curator.core.recipe import STEPS, Clip, Recipe, Tone, ZeroBelow
from cell_curator.core.recipe import Background as RemoveBackground
from cell_curator.link import target as target_module
from cell_curator.widgets.canvas_handles import SwipeHandle, TurnHandle
from cell_curator.widgets.comparison import Comparison
from cell_curator.widgets.filmstrip import Filmstrip, title_of
from cell_curator.widgets.histogram import ClipHistogram
from cell_curator.widgets.live import Live
from cell_curator.widgets.quality_table import QualityTable
from cell_curator.widgets.runner import Background


def drag(widget, points):
    """Press at the first point of a widget, move through the others, release; points are the widget's at the start."""
    kinds = [QEvent.Type.MouseButtonPress, *[QEvent.Type.MouseMove] * (len(points) - 1), QEvent.Type.MouseButtonRelease]
    spots = [widget.mapToGlobal(QPoint(round(x), round(y))) for x, y in points]
    for kind, spot in zip(kinds, [*spots, spots[-1]], strict=True):
        event = QMouseEvent(
            kind,
            QPointF(widget.mapFromGlobal(spot)),
            QPointF(spot),
            Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton,
            Qt.MouseButton.NoButton if kind == QEvent.Type.MouseButtonRelease else Qt.MouseButton.LeftButton,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(widget, event)


def put(qtbot, widget, width, height):
    """The widget in a window of this size."""
    qtbot.addWidget(widget)
    widget.resize(width, height)
    widget.show()
    qtbot.waitExposed(widget)
    return widget


# ---------------------------------------------------------------------- live previews


class ByHand:
    """A lane whose work is done when the test says so."""

    def __init__(self):
        self.waiting = []

    def __call__(self, compute, deliver, *, topic=""):
        if topic:
            self.waiting = [work for work in self.waiting if work[2] != topic]
        self.waiting.append((compute, deliver, topic))

    def work(self):
        compute, deliver, _ = self.waiting.pop(0)
        deliver(compute())


class FakeTarget:
    """An image in memory; notes what was asked of it and what was shown."""

    def __init__(self, key="image", side=48):
        self.key = key
        self.image = np.random.default_rng(0).integers(0, 1000, (1, side, side)).astype(np.uint16)
        self.asked, self.shown, self.angle = [], [], None
        self.broken = None
        self.seen = (0, 0, side, side), 1.0

    def source(self):
        if self.broken is not None:
            raise self.broken
        return self.image, overview(self.image)

    def recipe(self, recipe):
        self.asked.append(recipe.clip.high_percent)
        return recipe

    def view(self):
        return self.seen

    def show(self, shown):
        self.shown.append(shown)
        return True

    def turn(self, angle_deg):
        self.angle = angle_deg


class Scene:
    """A `Live` on lanes that are worked by hand."""

    def __init__(self):
        self.target = FakeTarget()
        self.bench = SimpleNamespace(previews=ByHand(), studies=ByHand())
        self.live = Live(self.bench, lambda: self.target)
        self.looks, self.rests, self.failures = [], [], []
        self.live.looked.connect(self.looks.append)
        self.live.rested.connect(self.rests.append)
        self.live.failed.connect(self.failures.append)

    def ask(self, percent):
        self.live.request(recipe(percent))

    @property
    def under_way(self):
        return len(self.bench.previews.waiting)


def recipe(percent):
    return Recipe(clip=Clip(high_percent=percent))


@pytest.fixture
def scene(qtbot):
    return Scene()


def test_of_many_values_the_newest_is_next_and_those_between_are_passed_over(scene):
    for percent in (90, 91, 92, 93):
        scene.ask(percent)
        assert scene.under_way == 1  # one computation at a time, however fast the hand
    scene.bench.previews.work()
    assert scene.under_way == 1
    scene.bench.previews.work()
    assert scene.under_way == 0
    assert scene.target.asked == [90, 93]
    assert len(scene.target.shown) == len(scene.looks) == 2  # the picture follows during the drag, too
    expected = look(scene.target.image, recipe(93)).preview.image
    np.testing.assert_array_equal(scene.target.shown[-1].image, expected)
    assert 0 < scene.live.seconds < 60


def test_full_resolution_follows_when_the_hand_rests(scene, qtbot):
    scene.target.seen = (8, 8, 40, 40), 2.0
    scene.ask(90)
    scene.ask(95)
    assert not scene.bench.studies.waiting
    scene.bench.previews.work()
    scene.bench.previews.work()
    qtbot.waitUntil(lambda: bool(scene.bench.studies.waiting))
    scene.bench.studies.work()
    assert scene.rests[-1].complete
    np.testing.assert_array_equal(scene.target.shown[-1].image, prepare(scene.target.image, recipe(95)).image)
    assert scene.target.angle == 0.0


def test_a_late_look_does_not_replace_the_full_picture(scene, qtbot):
    scene.ask(90)
    qtbot.waitUntil(lambda: bool(scene.bench.studies.waiting))
    scene.bench.studies.work()
    assert len(scene.target.shown) == 1
    scene.bench.previews.work()
    assert len(scene.target.shown) == 1
    assert not scene.looks


def test_full_resolution_of_older_values_is_dropped(scene, qtbot):
    scene.ask(90)
    qtbot.waitUntil(lambda: bool(scene.bench.studies.waiting))
    scene.ask(80)
    scene.bench.studies.work()
    assert not scene.rests
    assert not scene.target.shown


@pytest.mark.parametrize(
    "broken", [UserError("image.tif: is gone; move it back"), RuntimeError("odd"), OSError(5, "x")]
)
def test_an_error_is_said_and_does_not_stop_the_next_preview(scene, broken, caplog):
    scene.target.broken = broken
    scene.ask(90)
    scene.bench.previews.work()
    assert len(scene.failures) == 1
    assert "\n" not in scene.failures[0]
    assert str(broken) in scene.failures[0]
    scene.target.broken = None
    scene.ask(91)
    scene.bench.previews.work()
    assert len(scene.target.shown) == 1
    assert len(scene.failures) == 1


def test_an_error_of_a_value_already_passed_is_not_said(scene):
    scene.target.broken = UserError("gone")
    scene.ask(90)
    scene.ask(91)
    compute, deliver, _ = scene.bench.previews.waiting.pop()
    answer = compute()
    scene.target.broken = None
    deliver(answer)
    scene.bench.previews.work()
    assert not scene.failures
    assert len(scene.target.shown) == 1


def test_an_error_while_the_hand_rests_is_said_too(scene, qtbot):
    scene.ask(90)
    scene.bench.previews.work()
    scene.target.broken = UserError("gone")
    qtbot.waitUntil(lambda: bool(scene.bench.studies.waiting))
    scene.bench.studies.work()
    assert scene.failures == ["gone"]


@pytest.mark.parametrize("change", ["gone", "another"])
def test_a_picture_of_an_image_that_is_no_longer_there_is_dropped(scene, qtbot, change):
    first = scene.target
    scene.ask(90)
    qtbot.waitUntil(lambda: bool(scene.bench.studies.waiting))
    scene.target = None if change == "gone" else FakeTarget("another")
    scene.bench.previews.work()
    scene.bench.studies.work()
    assert not first.shown
    assert not scene.looks
    assert not scene.rests
    if change == "another":
        scene.ask(90)
        scene.bench.previews.work()
        assert len(scene.target.shown) == 1


def test_stop_drops_what_is_under_way(scene, qtbot):
    scene.ask(90)
    qtbot.waitUntil(lambda: bool(scene.bench.studies.waiting))
    scene.live.stop()
    scene.bench.previews.work()
    scene.bench.studies.work()
    scene.live.camera_moved()
    qtbot.wait(120)
    assert not scene.target.shown
    assert not scene.looks
    assert not scene.rests
    assert scene.under_way == 0
    scene.ask(91)
    scene.bench.previews.work()
    assert len(scene.looks) == 1


def test_stop_before_the_rest_means_that_none_follows(scene, qtbot):
    scene.ask(90)
    scene.live.stop()
    qtbot.wait(400)
    assert not scene.bench.studies.waiting


def test_nothing_is_computed_where_nothing_is_in_view_until_the_camera_comes_back(scene, qtbot):
    seen, scene.target.seen = scene.target.seen, None
    scene.ask(90)
    assert scene.under_way == 0
    scene.target.seen = seen
    scene.live.camera_moved()
    qtbot.waitUntil(lambda: scene.under_way == 1)
    scene.bench.previews.work()
    assert len(scene.looks) == 1


def test_the_camera_asks_only_for_what_is_not_there_yet(scene, qtbot, monkeypatch):
    scene.live.camera_moved()
    qtbot.wait(120)
    assert scene.under_way == 0  # nobody has asked for a preview
    for complete in (False, True):
        monkeypatch.setattr(target_module, "_WHOLE_PX", 10**8 if complete else 100)
        scene.target.seen = (0, 0, 24, 24), 1.0
        scene.ask(90)
        scene.bench.previews.work()
        qtbot.waitUntil(lambda: bool(scene.bench.studies.waiting))
        scene.bench.studies.work()
        assert scene.rests[-1].complete is complete
        for _ in range(5):  # one request, however long the camera moves
            scene.live.camera_moved()
        qtbot.wait(150)
        assert scene.under_way == (0 if complete else 1)
        if not complete:
            scene.bench.previews.work()


def test_with_real_threads_a_slow_image_is_asked_for_the_last_value(qtbot):
    scene = Scene()
    lanes = scene.bench.previews, scene.bench.studies = Background(), Background()
    scene.target.recipe = lambda own: (time.sleep(0.1), scene.target.asked.append(own.clip.high_percent), own)[2]
    try:
        for percent in range(50, 90):
            scene.ask(percent)
            qtbot.wait(5)
        qtbot.waitUntil(lambda: bool(scene.rests), timeout=20_000)
    finally:
        for lane in lanes:
            lane.close()
    assert scene.target.asked[-1] == 89
    assert len(scene.target.asked) < 30
    np.testing.assert_array_equal(scene.target.shown[-1].image, prepare(scene.target.image, recipe(89)).image)


# ---------------------------------------------------------------------- histogram


@pytest.fixture
def levels(rng):
    counts = np.maximum(rng.normal(300, 80, BINS), 1).astype(np.int64)
    return Histograms(counts, counts[::-1].copy(), 0.2, 0.7, (10.0, 90.0))


@pytest.fixture
def histogram(qtbot, levels):
    histogram = put(qtbot, ClipHistogram("dark"), 330, 108)
    histogram.show_histograms(levels)
    return histogram


def test_the_handles_stand_at_the_levels_of_the_clip(histogram):
    assert histogram.marks == (0.2, 0.7)
    assert histogram.handle(0).x() < histogram.handle(1).x()


@pytest.mark.parametrize(("which", "by"), [(0, 40), (0, -30), (1, 25), (1, -60)])
def test_a_dragged_handle_gives_the_percentile_below_it_and_leaves_the_other(histogram, levels, which, by):
    told = []
    histogram.clipped.connect(lambda low, high: told.append((low, high)))
    spot = histogram.handle(which)
    other = levels.percent(histogram.marks[1 - which])
    drag(histogram, [(spot.x(), spot.y()), (spot.x() + by / 2, spot.y()), (spot.x() + by, spot.y())])
    assert told[-1][which] == pytest.approx(levels.percent(histogram.marks[which]), abs=0.01)
    assert told[-1][1 - which] == pytest.approx(other, abs=0.01)
    assert np.sign(told[-1][which] - levels.percent((0.2, 0.7)[which])) == np.sign(by)


def test_handles_cannot_pass_each_other_or_the_ends(histogram):
    told = []
    histogram.clipped.connect(lambda low, high: told.append((low, high)))
    spot = histogram.handle(0)
    drag(histogram, [(spot.x(), spot.y()), (3000, spot.y()), (-3000, spot.y()), (3000, spot.y())])
    assert histogram.marks[0] < histogram.marks[1]
    spot = histogram.handle(1)
    drag(histogram, [(spot.x(), spot.y()), (-3000, spot.y()), (3000, spot.y())])
    assert all(low < high for low, high in told)
    assert all(low >= 0 and high <= 100 for low, high in told)
    for low, high in told:
        Clip(low_percent=low, high_percent=high)  # what is told is always a valid clip


def test_every_clip_the_handles_can_give_is_valid_even_of_an_empty_histogram(histogram):
    told = []
    histogram.clipped.connect(lambda low, high: told.append(Clip(low_percent=low, high_percent=high)))
    one_level = np.zeros(BINS, np.int64)
    one_level[0] = 5000  # an all-black image
    for counts in (one_level, one_level[::-1].copy(), np.zeros(BINS, np.int64)):
        histogram.show_histograms(Histograms(counts, counts, 0.0, 1.0))
        for which, by in ((1, -100), (1, -250), (0, 100), (0, 300)):
            spot = histogram.handle(which)
            drag(histogram, [(spot.x(), spot.y()), (spot.x() + by, spot.y())])
    assert told


def test_a_held_handle_stays_in_the_hand_while_new_counts_come(histogram, levels):
    spot = histogram.handle(1)
    for kind in (QEvent.Type.MouseButtonPress, QEvent.Type.MouseMove):
        where = spot - QPointF(30 if kind == QEvent.Type.MouseMove else 0, 0)
        button = Qt.MouseButton.LeftButton
        QApplication.sendEvent(
            histogram, QMouseEvent(kind, where, where, button, button, Qt.KeyboardModifier.NoModifier)
        )
    held = histogram.marks
    histogram.show_histograms(Histograms(levels.before, levels.after, 0.1, 0.95, (5.0, 99.0)))
    assert histogram.marks == held


def test_without_counts_nothing_can_be_taken_hold_of(qtbot):
    histogram = put(qtbot, ClipHistogram("light"), 330, 108)
    told = []
    histogram.clipped.connect(lambda *clip: told.append(clip))
    drag(histogram, [(8, 60), (100, 60)])
    assert not told
    assert not histogram.grab().isNull()


def test_where_both_handles_stand_together_the_side_decides(histogram, levels):
    histogram.show_histograms(Histograms(levels.before, levels.after, 0.5, 0.5, (50.0, 50.0)))
    spot = histogram.handle(0)
    drag(histogram, [(spot.x() + 3, spot.y()), (spot.x() + 60, spot.y())])
    assert histogram.marks[0] == 0.5
    assert histogram.marks[1] > 0.6


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("marks", [(0.0, 1.0), (0.4, 0.42), (0.97, 1.0), (0.0, 0.02)])
def test_the_percentages_below_the_handles_do_not_run_into_each_other(qtbot, levels, theme, marks):
    histogram = put(qtbot, ClipHistogram(theme), 320, 108)
    histogram.show_histograms(Histograms(levels.before, levels.after, *marks, (12.34, 98.76)))
    left, right = histogram.word_boxes()
    assert not left.intersects(right)
    assert left.left() >= 0
    assert right.right() <= histogram.width()


# ---------------------------------------------------------------------- filmstrip

TITLES = ["Channel", "Remove background", "Local contrast (CLAHE)", "Normalise", "Clip extremes", "Black below",
          "Grey curve", "Denoise (TV)"]  # fmt: skip


@pytest.fixture
def film(qtbot, rng):
    strip = put(qtbot, Filmstrip("dark"), 340, 100)
    strip.show_film([(title, rng.random((30, 40), np.float32)) for title in TITLES[2:6]])
    return strip


def test_a_click_shows_the_image_up_to_a_step_and_a_second_all_again(film):
    told = []
    film.chosen.connect(told.append)
    spot = film.frame(1).center()
    for _ in range(2):
        drag(film.strip, [(spot.x(), spot.y())])
    assert told == ["Normalise", ""]
    last = film.frame(3).center()
    drag(film.strip, [(last.x(), last.y())])
    assert told[-1] == film.step == ""  # the last step is the result as it is


def test_the_choice_goes_with_its_step_and_is_let_go_without_it(film, rng):
    spot = film.frame(1).center()
    drag(film.strip, [(spot.x(), spot.y())])
    film.show_film([(title, rng.random((5, 5), np.float32)) for title in TITLES])
    assert film.step == "Normalise"
    film.show_film([("Channel", rng.random((5, 5), np.float32))])
    assert film.step == ""


@pytest.mark.parametrize("count", [1, 4, 8])
@pytest.mark.parametrize("width", [304, 372])
def test_pictures_lie_side_by_side_inside_the_strip(qtbot, rng, count, width):
    strip = put(qtbot, Filmstrip("light"), width, 100)
    strip.show_film([(title, rng.random((64, 32), np.float32)) for title in TITLES[:count]])
    QApplication.processEvents()
    boxes = [strip.frame(index) for index in range(count)]
    assert all(a.right() < b.left() for a, b in pairwise(boxes))
    assert boxes[-1].right() <= strip.strip.width()
    assert strip.strip.height() <= strip.height()
    if count <= 6:
        assert strip.strip.width() <= strip.width()


@pytest.mark.parametrize("shape", [(1, 1), (1, 200), (200, 1), (3, 7)])
def test_pictures_of_odd_shapes_and_values_can_be_drawn(qtbot, shape):
    strip = put(qtbot, Filmstrip("dark"), 340, 100)
    strip.show_film([("Channel", np.full(shape, 7.0, np.float32)), ("Normalise", np.full(shape, -1.0, np.float32))])
    assert not strip.grab().isNull()
    strip.show_film([])
    assert strip.titles == []


def test_a_click_finds_its_step_again_in_the_recipe(rng):
    everything = Recipe(
        background=RemoveBackground(enabled=True), zero_below=ZeroBelow(enabled=True), tone=Tone(enabled=True)
    )
    film = study(rng.integers(0, 99, (40, 40)).astype(np.uint8), everything).film
    assert {title for title, _ in film} <= {title_of(step) for step in STEPS}


# ---------------------------------------------------------------------- quality


def quality(**values):
    return Quality(**({field.name: 1.0 for field in fields(Quality)} | values))


def test_arrows_say_the_direction_and_colours_whether_it_is_better(qtbot):
    table = put(qtbot, QualityTable("dark"), 330, 80)
    table.show_quality(quality(), quality(noise=0.5, snr=2.0, cnr=0.5, saturated=3.0, gradient=1.001))
    assert "▼" in table.text("noise")
    assert "▲" in table.text("snr")
    assert "▼" in table.text("cnr")
    assert "▲" in table.text("saturated")
    assert table.text("focus").endswith("=")
    assert table.text("gradient").endswith("=")
    good, bad = (table.color(name) for name in ("noise", "saturated"))
    assert table.color("snr") == good != bad == table.color("cnr")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [304, 356])
def test_no_figure_is_cut_off(qtbot, theme, width):
    table = put(qtbot, QualityTable(theme), width, 80)
    table.show_quality(
        quality(noise=12.34, snr=12345.0, cnr=2345.6, focus=99.9, saturated=100.0, gradient=0.0123),
        quality(noise=0.0012, snr=1.0e9, cnr=876.5, focus=123456.0, saturated=0.004, gradient=1234.5),
    )
    QApplication.processEvents()
    assert table.minimumSizeHint().width() <= width
    for label in table.findChildren(QLabel):
        assert label.width() >= label.fontMetrics().horizontalAdvance(label.text()), label.text()


def test_figures_keep_their_values_when_the_theme_changes(qtbot):
    table = put(qtbot, QualityTable("dark"), 330, 80)
    table.show_quality(quality(), quality(noise=0.5))
    before, colour = table.text("noise"), table.color("noise")
    table.set_theme("light")
    assert table.text("noise") == before
    assert table.color("noise") != colour


# ---------------------------------------------------------------------- handles on the canvas


@pytest.fixture
def canvas(qtbot):
    return put(qtbot, QWidget(), 600, 400)


def test_the_swipe_follows_the_mouse_and_stays_on_the_canvas(canvas):
    swipe = SwipeHandle(canvas)
    swipe.show()
    told = []
    swipe.moved.connect(told.append)
    middle = swipe.width() / 2, swipe.height() / 2
    drag(swipe, [middle, (middle[0] + 150, middle[1])])
    assert told[-1] == pytest.approx(0.75, abs=0.01)
    assert swipe.geometry().center().x() == pytest.approx(450, abs=2)
    drag(swipe, [middle, (5000, 5)])
    assert swipe.at == 1.0
    drag(swipe, [middle, (-5000, 5)])
    assert swipe.at == 0.0


def test_the_swipe_keeps_its_part_of_a_canvas_that_is_resized(canvas, qtbot):
    swipe = SwipeHandle(canvas)
    swipe.show()
    swipe.at = 0.25
    canvas.resize(800, 300)
    qtbot.waitUntil(lambda: swipe.height() == 300)
    assert swipe.geometry().center().x() == pytest.approx(200, abs=2)


@pytest.mark.parametrize("lean", [10.0, -35.0, 90.0])
def test_the_knob_tells_by_how_much_the_line_leans_from_upright(canvas, lean):
    knob = TurnHandle(canvas)
    knob.show()
    told = []
    knob.turned.connect(told.append)
    home = knob.geometry()
    start = knob.mapFrom(canvas, home.center())
    angle = np.deg2rad(lean)
    end = knob.mapFrom(canvas, QPoint(round(300 + 168 * np.sin(angle)), round(200 - 168 * np.cos(angle))))
    drag(knob, [(start.x(), start.y()), (end.x(), end.y())])
    assert told == [pytest.approx(lean, abs=0.6)]
    assert knob.geometry() == home
    assert not knob.guide.isVisible()


def test_a_click_on_the_knob_turns_nothing(canvas):
    knob = TurnHandle(canvas)
    knob.show()
    told = []
    knob.turned.connect(told.append)
    drag(knob, [(20, 20)])
    assert not told
    for widget in (knob, knob.guide, SwipeHandle(canvas)):
        assert not widget.grab().isNull()


# ---------------------------------------------------------------------- comparison


@pytest.fixture
def comparison(qtbot, viewer):
    from cell_curator.link.prepared import PreparedLayer

    viewer.canvas.size = (400, 600)
    prepared = PreparedLayer(viewer)
    comparison = Comparison(viewer, lambda: prepared, viewer.window._qt_window)
    yield comparison, prepared
    comparison.close()


def test_the_line_stands_still_on_the_screen_while_the_camera_moves(comparison, viewer):
    comparison, prepared = comparison
    prepared.show(np.ones((100, 100), np.float32), np.eye(3), index=0)
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 50, 50), 4.0
    comparison.set(shown=True, swiped=True, in_view=True)
    assert prepared.swipe == 50.0
    viewer.scene.camera.center = (0, 50, 30)
    assert prepared.swipe == 30.0
    assert np.isnan(prepared.layer.data[:, :30]).all()
    assert np.isfinite(prepared.layer.data[:, 30:]).all()
    viewer.scene.camera.zoom = 8.0
    assert prepared.swipe == 30.0


@pytest.mark.parametrize("missing", ["shown", "swiped", "in_view"])
def test_the_line_is_there_only_while_everything_for_it_is(comparison, viewer, missing):
    comparison, prepared = comparison
    prepared.show(np.ones((10, 10), np.float32), np.eye(3), index=0)
    comparison.set(shown=True, swiped=True, in_view=True)
    assert prepared.swipe is not None
    comparison.set(**{missing: False})
    assert prepared.swipe is None
    assert prepared.layer.visible == (missing != "shown")
    assert np.isfinite(prepared.layer.data).all()


def test_after_closing_the_camera_moves_nothing(comparison, viewer):
    comparison, prepared = comparison
    prepared.show(np.ones((10, 10), np.float32), np.eye(3), index=0)
    comparison.set(shown=True, swiped=True, in_view=True)
    before = prepared.swipe
    comparison.close()
    viewer.scene.camera.center = (0, 0, 1000)
    assert prepared.swipe == before
