"""Comparing settings in a real window, with real clicks and keys."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from cell_curator.core.jobs import Progress, drive
from cell_curator.core.recipe import PRESETS, Recipe
from cell_curator.engines.segmenter import Segmentation
from cell_curator.session import Session
from cell_curator.widgets.sweep_window import SweepWindow
from cell_curator.widgets.workbench import workbench_of

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def execute():
    """Thresholds in place of a network."""
    from skimage.measure import label

    def threshold(target, /, image, params):
        yield Progress(0.5, "looking")
        found = label(image > 0.5).astype(np.int32)
        return Segmentation(found, 14.0, False, np.zeros(found.max() + 1, np.float32))

    return threshold


def photograph(window, png):
    for _ in range(20):
        QApplication.processEvents()
    picture = window.grab()
    assert picture.save(str(png))
    return picture.toImage()


def click(hand, window, tile):
    where = window.view.place_of(tile).center()
    hand.qtbot.mouseMove(window.view, where)
    hand.qtbot.mouseClick(window.view, LEFT, pos=where)


def open_window(hand, image, recipe, image_id):
    window = SweepWindow(workbench_of(hand.viewer), hand.viewer.window._qt_window)
    adopted = []
    window.adopted.connect(adopted.append)
    window.open_for(image, recipe, region=None, step=1.0, image_id=image_id)
    hand.wait(window.isActiveWindow)
    return window, adopted


def test_a_sheet_is_made_scored_ranked_and_a_tile_becomes_the_recipe(open_viewer, session, pictures):
    hand = open_viewer()
    bench = workbench_of(hand.viewer)
    bench.adopt(session)
    hand.wait(lambda: bench.link.labels.image_id == session.current_image)
    recipe = PRESETS["Plain"]
    window, adopted = open_window(hand, session.pixels(1), recipe, 1)
    photograph(window, pictures / "sweep-01-empty.png")

    hand.press(window.make)
    hand.wait(lambda: len(window.view.tiles) == 25 and not bench.runner.busy)
    before = photograph(window, pictures / "sweep-02-sheet.png")
    click(hand, window, window.view.tiles[8])
    assert adopted == [window.view.tiles[8].recipe]
    assert photograph(window, pictures / "sweep-03-adopted.png") != before

    # scored: gamma on the way across, one clip that destroys the cells
    window.across.set_path("tone.gamma")
    window.down.set_path("clip.high_percent")
    window.down.first.setValue(50)
    window.down.steps.setValue(3)
    hand.qtbot.mouseClick(window.score, LEFT, pos=window.score.rect().center())
    if not window.score.isChecked():  # some styles take only clicks on the box itself
        window.score.click()
    hand.press(window.make)
    hand.wait(lambda: not bench.runner.busy)
    assert {tile.values["clip.high_percent"] for tile in window.view.best} == {99.9}
    photograph(window, pictures / "sweep-04-scored.png")
    window.best_first.click()
    photograph(window, pictures / "sweep-05-best-first.png")
    best = window.view.tiles[0]
    click(hand, window, best)
    assert adopted[-1] == best.recipe
    assert best.score == 1.0

    # keys
    hand.key(Qt.Key.Key_Right, on=window.view)
    hand.key(Qt.Key.Key_Return, on=window.view)
    assert adopted[-1] == window.view.tiles[1].recipe
    hand.key(Qt.Key.Key_Escape, on=window.view)
    assert not window.isVisible()


def test_moving_over_a_sheet_never_blocks_the_window(open_viewer, rng):
    """Hovering and scaling 100 tiles take less than a frame of a slow screen each."""
    import time

    hand = open_viewer()
    image = rng.gamma(2, 50, (1, 900, 1200)).astype(np.uint16)
    window, _ = open_window(hand, image, PRESETS["Plain"], None)
    window.across.steps.setValue(10)
    window.down.steps.setValue(10)
    hand.press(window.make)
    hand.wait(lambda: len(window.view.tiles) == 100 and not window.bench.runner.busy, seconds=120)
    window.view.grab()
    took = []
    for tile in window.view.tiles[::7]:
        start = time.perf_counter()
        hand.qtbot.mouseMove(window.view, window.view.place_of(tile).center())
        QApplication.processEvents()
        took.append(time.perf_counter() - start)
    assert np.median(took) < 0.05  # 2 ms on an idle machine
    window.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("folder", "name"), [("dsb2018", "07fb37aafa662660"), ("phase_usiigaci", "set1")])
def test_real_images_are_scored_by_the_real_engine(open_viewer, tmp_path, data_folder, pictures, folder, name):
    from tifffile import imread

    hand = open_viewer()
    bench = workbench_of(hand.viewer)
    (file,) = (data_folder / folder / "images").glob(f"{name}.*")
    session = Session.create(tmp_path / "real.curator", execute=bench._execute)
    drive(session.add_images(file))
    session.set_labels(1, imread(data_folder / folder / "labels" / f"{name}.tif").astype(np.int32))
    recipe = Recipe() if folder == "dsb2018" else PRESETS["Phase contrast"]
    session.put(recipe)
    bench.adopt(session)
    hand.wait(lambda: bench.link.labels.image_id == session.current_image)
    window, adopted = open_window(hand, session.pixels(1), recipe, 1)
    window.across.set_path("tone.gamma")
    window.across.steps.setValue(3)
    window.down.steps.setValue(3)
    window.score.setChecked(True)
    hand.press(window.make)
    hand.wait(lambda: not bench.runner.busy, seconds=500)
    assert window.jobs.error.text() == ""
    assert len(window.view.tiles) == 9
    assert all(0 <= tile.score <= 1 for tile in window.view.tiles)
    click(hand, window, window.view.best[0])
    assert adopted == [window.view.best[0].recipe]
    photograph(window, pictures / f"sweep-real-{folder}.png")
    window.close()
