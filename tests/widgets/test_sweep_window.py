"""The contact sheet's window: what is chosen becomes tiles, what is clicked becomes the recipe."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QHelpEvent
from qtpy.QtWidgets import QApplication, QCheckBox, QComboBox, QPushButton

from cell_curator.core.recipe import PRESETS, Recipe
from cell_curator.core.sweep import with_value
from cell_curator.widgets.sweep_window import SweepWindow

LEFT = Qt.MouseButton.LeftButton
PLAIN = PRESETS["Plain"]


@pytest.fixture
def window(qtbot, viewer, bench):
    """The window beside a viewer, with all that was adopted in ``window.recipes``."""
    viewer.window._qt_window.show()
    window = SweepWindow(bench, viewer.window._qt_window)
    window.recipes = []
    window.adopted.connect(window.recipes.append)
    yield window
    window.close()


@pytest.fixture
def image(rng):
    return rng.gamma(2, 50, (1, 90, 120)).astype(np.uint16)


@pytest.fixture
def open_plain(window, image):
    """The window on an image without a project."""

    def make(recipe=PLAIN, picture=image, region=(0, 0, 80, 120)):
        window.open_for(picture, recipe, region=region, step=1.0, image_id=None)
        return window

    return make


@pytest.fixture
def open_reviewed(window, bench, mapped, wait_for_job):
    """The window on the first image of a project whose cells were drawn by hand."""

    def make():
        bench.adopt(mapped)
        wait_for_job()
        window.open_for(mapped.pixels(1), PLAIN, region=None, step=1.0, image_id=1)
        return window

    return make


def make_sheet(qtbot, window):
    qtbot.mouseClick(window.make, LEFT)
    qtbot.waitUntil(lambda: not window.bench.runner.busy, timeout=20_000)


def enter(spin, value):
    """Type a value and leave the box."""
    spin.setValue(value)
    spin.editingFinished.emit()


def test_the_usual_pair_makes_a_sheet_of_25(qtbot, open_plain):
    window = open_plain(Recipe())
    assert window.plan.text() == "5 × 5 = 25 tiles"
    make_sheet(qtbot, window)
    tiles = window.view.tiles
    assert len(tiles) == 25
    assert {tuple(tile.values) for tile in tiles} == {("total_variation.weight", "clip.high_percent")}
    assert [tile.recipe for tile in tiles].count(Recipe()) == 1
    assert window.jobs.state.full_text == "25 tiles made"
    assert not window.best_first.isEnabled()


def test_tiles_stand_in_rows_and_columns_and_fit(qtbot, open_plain):
    window = open_plain(Recipe())
    make_sheet(qtbot, window)
    for size in [(1000, 760), (700, 500), (1300, 700)]:
        window.resize(*size)
        tiles, view = window.view.tiles, window.view
        places = [view.place_of(tile) for tile in tiles]
        assert all(view.rect().contains(place) for place in places)
        assert not any(a.intersects(b) for i, a in enumerate(places) for b in places[:i])
        across = {tile.values["clip.high_percent"]: place.left() for tile, place in zip(tiles, places, strict=True)}
        assert list(across.values()) == sorted(across.values())
        assert len({(tile.values["clip.high_percent"], place.left()) for tile, place in zip(tiles, places)}) == 5  # noqa: B905
        assert abs(places[0].width() / places[0].height() - 120 / 80) < 0.05


def test_a_click_adopts_the_recipe_of_the_tile_and_the_window_stays(qtbot, open_plain):
    window = open_plain()
    make_sheet(qtbot, window)
    tile = window.view.tiles[7]
    qtbot.mouseClick(window.view, LEFT, pos=window.view.place_of(tile).center())
    assert window.recipes == [tile.recipe]
    assert window.isVisible()
    assert window.jobs.state.full_text.startswith("In use: ")
    qtbot.mouseClick(window.view, LEFT, pos=window.view.rect().bottomRight())  # beside all tiles
    assert len(window.recipes) == 1


def test_arrows_move_enter_adopts_escape_closes(qtbot, open_plain):
    window = open_plain(Recipe())
    make_sheet(qtbot, window)
    view = window.view
    qtbot.waitUntil(view.hasFocus)
    qtbot.keyClick(view, Qt.Key.Key_Down)  # the cursor appears on the recipe in use
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Down, Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Right):
        qtbot.keyClick(view, key)
    qtbot.keyClick(view, Qt.Key.Key_Return)
    at = next(tile.index for tile in view.tiles if tile.recipe == Recipe())
    chosen = next(tile for tile in view.tiles if tile.recipe == window.recipes[0])
    assert at == (2, 2)
    assert chosen.index == (3, 4)  # the row ends where it ends
    qtbot.keyClick(view, Qt.Key.Key_Escape)
    assert not window.isVisible()


def test_what_lies_under_the_mouse_is_said_in_full(qtbot, open_plain):
    window = open_plain(Recipe())
    make_sheet(qtbot, window)
    tile = window.view.tiles[0]
    qtbot.mouseMove(window.view, window.view.place_of(tile).center())
    qtbot.waitUntil(lambda: "Clip extremes · High: 97 %" in window.detail.full_text)
    assert "Denoise (TV) · Strength: 0.005" in window.detail.full_text
    centre = window.view.place_of(tile).center()
    asked = QHelpEvent(QHelpEvent.Type.ToolTip, centre, window.view.mapToGlobal(centre))
    assert QApplication.sendEvent(window.view, asked)
    window.view.leaveEvent(None)
    assert window.detail.full_text.startswith("Click a tile")


def test_a_tile_is_seen_large_while_it_is_held(qtbot, open_plain):
    window = open_plain(Recipe())
    make_sheet(qtbot, window)
    view = window.view
    tile = view.tiles[6]
    place = view.place_of(tile).center()
    sheet = view.grab().toImage()
    qtbot.mouseMove(view, place)
    qtbot.mousePress(view, Qt.MouseButton.RightButton, pos=place)
    large = view.grab().toImage()
    assert large != sheet
    qtbot.mouseRelease(view, Qt.MouseButton.RightButton, pos=place)
    view.leaveEvent(None)
    assert view.grab().toImage() == sheet
    assert window.recipes == []
    qtbot.waitUntil(view.hasFocus)
    qtbot.keyClick(view, Qt.Key.Key_Down)
    sheet = view.grab().toImage()
    qtbot.keyPress(view, Qt.Key.Key_Space)
    assert view.grab().toImage() != sheet
    qtbot.keyRelease(view, Qt.Key.Key_Space)
    assert view.grab().toImage() == sheet


def test_a_third_parameter_makes_sheets_with_tabs(qtbot, open_plain):
    window = open_plain(Recipe())
    window.sheets.set_path("tone.gamma")
    assert window.plan.text() == "5 × 5 × 3 = 75 tiles"
    make_sheet(qtbot, window)
    assert [window.tabs.tabText(i) for i in range(window.tabs.count())] == ["0.25", "1", "4"]
    assert window.tabs_title.isVisible()
    assert {tile.values["tone.gamma"] for tile in window.view.tiles} == {0.25}
    window.tabs.setCurrentIndex(2)
    assert {tile.values["tone.gamma"] for tile in window.view.tiles} == {4.0}
    tile = window.view.tiles[4]
    qtbot.mouseClick(window.view, LEFT, pos=window.view.place_of(tile).center())
    assert window.recipes[0].tone.gamma == 4.0
    assert window.recipes[0].tone.enabled


def test_one_parameter_alone_flows(qtbot, open_plain):
    window = open_plain(Recipe())
    window.down.set_path("")
    enter(window.across.steps, 7)
    assert window.plan.text() == "7 tiles"
    make_sheet(qtbot, window)
    places = [window.view.place_of(tile) for tile in window.view.tiles]
    assert len(places) == 7
    assert len({place.top() for place in places}) > 1
    assert all(window.view.rect().contains(place) for place in places)


def test_choices_and_switches_take_all_their_words(qtbot, open_plain):
    window = open_plain(Recipe())
    window.across.set_path("background.method")
    window.down.set_path("clip.enabled")
    assert not window.across.first.isVisible()
    make_sheet(qtbot, window)
    assert [tuple(tile.values.values()) for tile in window.view.tiles] == [
        (False, "black top-hat"),
        (False, "white top-hat"),
        (True, "black top-hat"),
        (True, "white top-hat"),
    ]


def test_bad_entries_are_said_before_anything_is_made(open_plain):
    window = open_plain(Recipe())
    enter(window.across.steps, 20)
    enter(window.down.steps, 20)
    assert "400 tiles" in window.plan.text()
    assert "fewer steps" in window.plan.text()
    assert not window.make.isEnabled()
    window.down.set_path(window.across.path)
    assert "chosen twice" in window.plan.text()
    assert not window.make.isEnabled()
    window.down.set_path("")
    assert window.plan.text() == "20 tiles"
    assert window.make.isEnabled()


def test_from_above_to_is_swapped_and_equal_ones_are_one_value(qtbot, open_plain):
    window = open_plain(Recipe())
    window.down.set_path("")
    enter(window.across.first, 99.0)
    enter(window.across.last, 95.0)
    assert (window.across.first.value(), window.across.last.value()) == (95.0, 99.0)
    enter(window.across.last, 95.0)
    assert window.plan.text() == "1 tile"
    make_sheet(qtbot, window)
    assert [tile.values["clip.high_percent"] for tile in window.view.tiles] == [95.0]


def test_values_are_shown_as_short_as_can_be(open_plain):
    window = open_plain(Recipe())
    assert window.across.first.text() == "97 %"
    assert window.down.first.text() == "0.005"
    enter(window.down.first, 0.000001)
    assert window.down.first.text() == "0.000001"


def test_without_a_project_nothing_can_be_scored_and_it_says_so(open_plain):
    window = open_plain()
    assert not window.score.isEnabled()
    assert "project" in window.score.toolTip()


def test_without_reviewed_cells_in_view_nothing_can_be_scored(open_reviewed, mapped):
    window = open_reviewed()
    assert window.score.isEnabled()
    assert "4 reviewed cells" in window.score.toolTip()
    mapped.set_verdict(mapped.cells.of_image(1).index, "proposed")
    assert not window.score.isEnabled()
    assert "No reviewed cell is in view" in window.score.toolTip()
    mapped.set_verdict(mapped.cells.of_image(1).index[:1], "accepted")
    window.open_for(mapped.pixels(1), PLAIN, region=(40, 0, 64, 80), step=1.0, image_id=1)  # the cell lies above
    assert not window.score.isEnabled()


def test_scored_tiles_are_ranked_and_the_best_is_marked(qtbot, open_reviewed):
    window = open_reviewed()
    window.across.set_path("tone.gamma")
    window.down.set_path("clip.high_percent")
    enter(window.down.first, 50)
    enter(window.down.last, 99.9)
    enter(window.down.steps, 2)
    window.score.setChecked(True)
    make_sheet(qtbot, window)
    view = window.view
    best = view.best
    assert best
    assert {tile.score for tile in best} == {max(tile.score for tile in view.tiles)} == {1.0}
    assert all(tile.values["clip.high_percent"] == 99.9 for tile in best)
    assert "best" in window.jobs.state.full_text.lower()
    assert window.best_first.isEnabled()
    qtbot.mouseClick(window.best_first, LEFT, pos=window.best_first.rect().center())
    window.best_first.setChecked(True)
    scores = [tile.score for tile in view.tiles]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 10
    places = [view.place_of(tile) for tile in view.tiles]
    assert [(p.top(), p.left()) for p in places] == sorted((p.top(), p.left()) for p in places)
    assert [(tile.score, -tile.surplus) for tile in view.tiles] == sorted(
        ((tile.score, -tile.surplus) for tile in view.tiles), reverse=True
    )
    assert "rank 1 of 10" in view.describe(view.tiles[0].index)
    window.outlines.setChecked(False)
    assert view.grab().size() == view.size()


def test_the_present_recipe_is_marked_in_the_picture(qtbot, open_plain):
    window = open_plain(Recipe())
    make_sheet(qtbot, window)
    view = window.view
    place = view.place_of(next(tile for tile in view.tiles if tile.recipe == Recipe()))

    def blue():
        colour = view.grab().toImage().pixelColor(place.left() - 1, place.center().y())
        return colour.blue() - colour.red() > 80

    assert blue()
    window.show_recipe(with_value(Recipe(), "tone.gamma", 3.0))
    assert not blue()


def test_a_sheet_of_the_same_view_stays_and_another_view_begins_anew(qtbot, open_plain, image):
    window = open_plain(Recipe())
    make_sheet(qtbot, window)
    adopted = window.view.tiles[3].recipe
    open_plain(adopted)
    assert len(window.view.tiles) == 25
    open_plain(adopted, region=(10, 10, 60, 60))
    assert window.view.tiles == ()


def test_chosen_parameters_stay_for_the_next_view(open_plain):
    window = open_plain(Recipe())
    window.across.set_path("zero_below.percent")
    open_plain(Recipe(), region=(10, 10, 60, 60))
    assert window.across.path == "zero_below.percent"


def test_cancelled_sheets_keep_their_tiles(qtbot, open_plain, monkeypatch):
    from cell_curator import sweeping
    from cell_curator.core.jobs import Progress

    window, whole = open_plain(Recipe()), sweeping.contact_sheet

    def endless(*arguments, **options):
        tiles = yield from whole(*arguments, **options)
        while True:
            yield Progress(0.9)
        return tiles

    monkeypatch.setattr(sweeping, "contact_sheet", endless)
    qtbot.mouseClick(window.make, LEFT)
    qtbot.waitUntil(lambda: len(window.view.tiles) == 25, timeout=20_000)
    assert not window.make.isEnabled()
    qtbot.mouseClick(window.jobs.cancel, LEFT)
    qtbot.waitUntil(lambda: not window.bench.runner.busy)
    assert "cancelled" in window.jobs.state.full_text
    assert len(window.view.tiles) == 25
    assert window.make.isEnabled()
    qtbot.mouseClick(window.make, LEFT)
    window.close()
    qtbot.waitUntil(lambda: not window.bench.runner.busy)


def test_an_image_that_left_the_project_is_said(qtbot, open_reviewed, mapped):
    window = open_reviewed()
    window.score.setChecked(True)
    window.open_for(mapped.pixels(1), PLAIN, region=None, step=1.0, image_id=99)
    assert not window.score.isEnabled()
    assert "no longer in the project" in window.score.toolTip()
    make_sheet(qtbot, window)  # the pixels are still at hand
    assert len(window.view.tiles) == 25


def test_a_closed_project_takes_its_scores_along(qtbot, open_reviewed, bench):
    window = open_reviewed()
    bench.close_session()
    assert not window.score.isEnabled()
    make_sheet(qtbot, window)
    assert len(window.view.tiles) == 25


def test_another_job_comes_first(qtbot, open_plain, bench):
    from cell_curator.core.jobs import Progress

    def endless():
        while True:
            yield Progress(0.1, payload=object())

    window = open_plain()
    bench.runner.start("Something else", endless)
    assert not window.make.isEnabled()
    qtbot.wait(60)
    assert window.view.tiles == ()
    bench.runner.cancel()
    qtbot.waitUntil(window.make.isEnabled)


def test_flat_tiny_and_many_channel_images_make_sheets(qtbot, window):
    for picture in (np.zeros((7, 5), np.uint8), np.full((3, 40, 300), np.nan, np.float32)):
        window.open_for(picture, Recipe(), region=None, step=2.0, image_id=None)
        make_sheet(qtbot, window)
        assert len(window.view.tiles) == 25, window.jobs.error.text()


def test_no_title_is_cut_off_and_headings_cannot_be_chosen(qtbot, open_plain):
    window = open_plain(Recipe(), picture=np.zeros((3, 90, 120), np.uint8))
    window.resize(window.minimumSizeHint())
    box = window.across.parameter
    widest = max(box.fontMetrics().horizontalAdvance(box.itemText(i)) for i in range(box.count()))
    assert widest + 24 <= box.width()  # with the arrow
    (heading,) = [i for i in range(box.count()) if box.itemText(i).startswith("Of steps")]
    assert not box.model().item(heading).isEnabled()
    assert not window.across.axis().parameter.words


def test_it_fits_a_small_laptop_and_everything_has_a_tooltip(open_plain):
    window = open_plain(Recipe())
    assert window.minimumSizeHint().width() <= 1000
    assert window.minimumSizeHint().height() <= 650
    for kind in (QPushButton, QComboBox, QCheckBox):
        for widget in window.findChildren(kind):
            assert widget.toolTip(), widget
