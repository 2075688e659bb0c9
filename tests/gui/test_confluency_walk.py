"""A walk through the Confluency dock in a real window: the slider, clicks in the image, all images, a tile by hand."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFileDialog

from cell_curator.io.tiff import write_tiff
from cell_curator.link.confluency import COVERED, GROUPS
from cell_curator.link.geometry import to_world
from cell_curator.samples.scenes import phase_like
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import workbench_of


@pytest.fixture
def walker(open_viewer, tmp_path):
    """A hand in front of the dock, on three synthetic dishes of phase contrast, fuller from day to day."""
    for day, count in ((1, 3), (2, 6), (3, 10)):
        scene = phase_like(day, count=count, size=256)
        (tmp_path / "dish").mkdir(exist_ok=True)
        write_tiff(tmp_path / "dish" / f"dish_day{day}.tif", scene.image, pixel_size_um=scene.pixel_size_um)
    hand = open_viewer((1366, 768))
    bench = workbench_of(hand.viewer)
    bench.open(tmp_path / "dish")
    dock = hand.docks.show_dock("Confluency")
    hand.wait(lambda: not bench.runner.busy and "covered" in dock.percent.text())
    return hand, dock, bench


def whole(hand, dock, action):
    """Do something, and wait until the numbers of the whole image are there."""
    asked = dock.live._asked
    action()
    hand.wait(lambda: dock.live._asked > asked and dock.live._whole == dock.live._asked)


def slide(hand, control, steps):
    """Move a slider by keys, one step after the other."""
    for _ in range(abs(steps)):
        hand.key(Qt.Key.Key_Right if steps > 0 else Qt.Key.Key_Left, on=control.slider)


def test_from_the_slider_to_the_curve(walker, pictures, tmp_path, monkeypatch):
    hand, dock, bench = walker
    settings, session = dock.settings, bench.session

    # the slider is followed at once, the window is never held up
    start = time.monotonic()
    slide(hand, settings.kmeans.control("k"), 4)
    assert time.monotonic() - start < 2
    whole(hand, dock, lambda: slide(hand, settings.kmeans.control("k"), -3))
    assert settings.kmeans.value().k == 4
    assert [button.isVisible() for button in settings.groups.buttons] == [True] * 4 + [False] * 6
    assert not hand.viewer.layers["cells"].visible
    photograph(hand.viewer, pictures / "confluency-1-groups.png")

    # a click on the ground makes it cells, one more takes that back; a drag moves the view and changes nothing
    layer, before = hand.viewer.layers[GROUPS], float(dock.percent.text().split()[0])
    ground = np.argwhere(np.asarray(layer.data) == 1)
    where = to_world(layer.affine.affine_matrix, ground[[len(ground) // 2]].astype(float))[0]
    whole(hand, dock, lambda: hand.click(where))
    assert 0 in settings.groups.cells
    assert float(dock.percent.text().split()[0]) > before
    assert not session.selection.ids
    whole(hand, dock, lambda: hand.click(where))
    assert float(dock.percent.text().split()[0]) == pytest.approx(before, abs=0.11)
    chosen = settings.groups.cells
    hand.drag([where, np.asarray(where) + 20, np.asarray(where) + 40])
    assert settings.groups.cells == chosen

    # digits choose groups, C blinks
    whole(hand, dock, lambda: hand.key(Qt.Key.Key_1))
    assert (0 in settings.groups.cells) is (0 not in chosen)
    whole(hand, dock, lambda: hand.press(settings.groups.automatic))
    hand.key(Qt.Key.Key_C)
    assert not hand.viewer.layers[COVERED].visible
    hand.key(Qt.Key.Key_C)

    # all images, the alarm, and back to one of them
    dock.say.control("alarm").spin.setValue(20)
    hand.press(dock.primary)
    hand.wait(lambda: not bench.runner.busy and dock.results.isVisible())
    assert dock.jobs.error.text() == ""
    table = dock.results.table
    percents = [float(table.item(row, 1).text().removesuffix(" %")) for row in range(3)]
    assert percents == sorted(percents)
    hand.wait(lambda: not table.visibleRegion().isEmpty())
    spot = table.visualItemRect(table.item(2, 0)).center()
    hand.qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(spot))
    hand.wait(lambda: bench.link.labels.image_id == session.images[2].image_id)
    hand.wait(lambda: dock.percent.text().startswith(f"{percents[2]:.1f} %"))
    photograph(hand.viewer, pictures / "confluency-2-all-images.png")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "cover.csv"), ""))
    hand.qtbot.keyClick(hand.canvas, Qt.Key.Key_E, Qt.KeyboardModifier.ControlModifier)
    hand.wait((tmp_path / "cover.csv").exists)
    saved = pd.read_csv(tmp_path / "cover.csv")
    np.testing.assert_allclose(saved["percent"], percents, atol=0.06)
    assert saved["covered_um2"].gt(0).all()

    # a region by hand: the key takes the pencil, a drag marks, Esc puts it down
    hand.key(Qt.Key.Key_G)
    affine = bench.link.image.affine
    hand.drag([to_world(affine, np.array([at], float))[0] for at in ((60, 60), (100, 100), (180, 200))])
    hand.wait(lambda: len(session.regions(session.current_image)) == 1)
    hand.key(Qt.Key.Key_Escape)
    assert not dock.tile.isChecked()

    # another dock finds everything as it was
    hand.docks.show_dock("Images")
    assert GROUPS not in hand.viewer.layers
    assert hand.viewer.layers["cells"].visible
