"""Cells corrected by hand where it is hard: in real images with every tool, and where gestures may go wrong.

Real images come with a picture after each tool; they take a minute each and are marked slow.
"""

from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pytest
from qtpy.QtCore import Qt

from cell_curator.core.recipe import PRESETS, PUBLISHED
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.io.images import write_tiff
from cell_curator.link.geometry import to_world
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import workbench_of

IMAGES = {
    "dsb2018": "dsb2018/images/6fe2df6de1d962b9.png",  # 206 crowded nuclei
    "phase": "phase_usiigaci/images/set1.tif",  # 66 whole cells; the model for nuclei finds few of them
    "fly": "multichannel/ExampleFly/01_POS002_D.tif",
}


class Table:
    """One image in the window, the Correct dock, and gestures in the pixels of the image."""

    def __init__(self, hand, source, folder):
        (folder / "images").mkdir()
        if isinstance(source, np.ndarray):
            write_tiff(folder / "images" / "image.tif", source)
        else:
            shutil.copy(source, folder / "images" / source.name)
        self.hand, self.bench = hand, workbench_of(hand.viewer)
        self.bench.open(folder / "images")
        self.wait()
        self.session = self.bench.session
        self.dock = hand.docks.show_dock("Correct")

    def wait(self):
        bench = self.bench
        self.hand.wait(
            lambda: bench.link is not None and bench.link.labels.image_id is not None and not bench.runner.busy, 300
        )

    def find(self, **parameters):
        self.session.put(SegmentParameters(**parameters))
        segment = self.hand.docks.show_dock("Segment")
        self.hand.press(segment.primary)
        self.hand.wait(lambda: not self.bench.runner.busy, 500)
        assert segment.jobs.error.text() == ""
        self.hand.docks.show_dock("Correct")
        return segment.jobs.state.full_text

    @property
    def cells(self):
        return self.session.cells.of_image(self.session.current_image)

    @property
    def labels(self):
        return self.session.labels(self.session.current_image)

    def world(self, *points):
        return to_world(self.bench.link.image.affine, np.array(points, float))

    def take(self, tool):
        self.hand.press(self.dock._buttons[tool])

    def stroke(self, *points):
        path = np.concatenate([np.linspace(a, b, 8) for a, b in pairwise(points)])
        self.hand.drag(self.world(*path))
        self.hand.qtbot.wait(20)

    def click(self, point):
        self.hand.click(self.world(point)[0])

    def look_at(self, point, across_px):
        """Zoom in so that so many px of the image fill the height of the canvas."""
        camera = self.hand.viewer.scene.camera
        camera.center = tuple(self.world(point)[0])
        camera.zoom = self.hand.canvas.height() / across_px
        self.hand.qtbot.wait(50)

    def pair(self, far=20):
        """Middles of two neighbours that touch or nearly do, away from the border: the closest two."""
        rows, (height, width) = self.cells, self.labels.shape
        inner = rows[(rows["y"].between(far, height - far)) & (rows["x"].between(far, width - far))]
        at = inner[["y", "x"]].to_numpy()
        apart = np.hypot(*(at[:, None] - at[None]).transpose(2, 0, 1)) + 1e9 * np.eye(len(at))
        first, second = np.unravel_index(apart.argmin(), apart.shape)
        return at[first], at[second]

    def here(self, point):
        return int(self.labels[tuple(np.round(point).astype(int))])

    def ends(self, point):
        """Two points beyond the rim of the cell at ``point``, across its short axis through its middle."""
        rows, columns = np.nonzero(self.labels == self.here(point))
        spread = np.stack([rows, columns]) - np.array([[rows.mean()], [columns.mean()]])
        values, axes = np.linalg.eigh(np.cov(spread))
        reach = axes[:, 0] * (2.4 * np.sqrt(values[0]) + 2)
        return point - reach, point + reach

    def ring(self, point, radius):
        return [point + radius * np.array([np.sin(a), np.cos(a)]) for a in np.linspace(0, 2 * np.pi, 14)]


@pytest.fixture
def table(open_viewer, tmp_path):
    return lambda source, size=(1600, 1000): Table(open_viewer(size), source, tmp_path)


def every_tool(table, name, pictures):
    """Use each tool once around the two closest cells; returns the number of undo steps."""
    hand, dock = table.hand, table.dock
    first, second = table.pair()
    middle = (first + second) / 2
    size = 2 * np.sqrt(table.cells["area"].median() / np.pi)
    table.look_at(middle, 9 * size)

    def shot(what):
        table.hand.qtbot.wait(50)
        photograph(hand.viewer, pictures / f"real-{name}-{what}.png")

    before, count = table.labels, len(table.cells)
    shot("0-before")
    table.take("merge")
    table.stroke(first, second)
    assert len(table.cells) == count - 1
    shot("1-merged")
    hand.key("U")
    np.testing.assert_array_equal(table.labels, before)

    table.take("split")
    table.stroke(*table.ends(first))
    assert len(table.cells) == count + 1
    shot("2-split")
    hand.key("U")

    table.take("seeds")
    a, b = table.ends(second)
    inward = (b - a) / 4
    table.click(a + inward)
    table.click(b - inward)
    shot("3-seeds")
    hand.key(Qt.Key.Key_Return)
    assert len(table.cells) == count + 1
    hand.key("U")

    table.take("delete")
    table.click(first)
    assert table.here(first) == 0
    shot("4-deleted")
    table.take("redraw")
    table.stroke(*table.ring(first, size / 3))
    assert table.here(first)
    shot("5-redrawn")
    table.take("select inside")
    table.stroke(*table.ring(middle, 2 * size))
    assert len(table.session.selection.ids) >= 2
    shot("6-selected")
    hand.press(dock._actions["smooth"])
    hand.key("A")
    assert (table.cells.loc[list(table.session.selection.ids), "verdict"] == "accepted").all()
    dock.looks.coloring.setCurrentText("verdict")
    shot("7-accepted")
    dock.looks.coloring.setCurrentText("each cell its own")
    table.take("delete inside")
    table.stroke(*table.ring(middle, 2 * size))
    assert table.here(first) == 0
    shot("8-deleted-inside")
    while table.session.history.undo_text:
        hand.key("U")
    np.testing.assert_array_equal(table.labels, before)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["dsb2018", "phase", "fly"])
def test_every_tool_on_a_real_image(table, data_folder, name, pictures):
    there = table(data_folder / IMAGES[name])
    print(f"{name}: {there.find()}")
    assert len(there.cells) > 5
    photograph(there.hand.viewer, pictures / f"real-{name}-found.png")
    every_tool(there, name, pictures)


_OTHER_VIEWS = [(0.5, False), (0.5, True), (1.0, False), (1.0, True), (6.0, False)]


@pytest.mark.parametrize(
    ("zoom", "turned"),
    [(6.0, True), *(pytest.param(*case, marks=pytest.mark.slow) for case in _OTHER_VIEWS)],
)
def test_gestures_mean_the_same_turned_and_zoomed(table, turned, zoom, pictures):
    scene = nuclei_on_grooves(3, size=256, count=16)
    there = table(scene.image)
    if turned:
        there.session.put(PRESETS[PUBLISHED])
        there.wait()
        there.bench.link.turn(1, 12.0)
    there.session.set_labels(1, scene.labels)
    there.session.set_verdict(there.cells.index, "proposed")
    there.session.history.clear()
    there.hand.viewer.scene.camera.zoom *= zoom
    before, count = there.labels, len(there.cells)
    first, _ = there.pair(60)

    def at(point):
        there.hand.viewer.scene.camera.center = tuple(there.world(point)[0])
        there.hand.qtbot.wait(20)

    # a line that stops inside the cell is carried on
    at(first)
    there.take("split")
    start, _ = there.ends(first)
    there.stroke(start, first)
    assert len(there.cells) == count + 1
    photograph(there.hand.viewer, pictures / f"gesture-split-{'turned' if turned else 'upright'}-{zoom}.png")
    there.hand.key("U")
    np.testing.assert_array_equal(there.labels, before)

    # a cell at the border: a line that begins in it splits it along the border, a click deletes it
    border = there.cells[there.cells["touches_border"]].sort_values("area").iloc[-1]
    spot = np.argwhere(before == border["label"])
    spot = spot[np.abs(spot - spot.mean(axis=0)).sum(axis=1).argmin()].astype(float)
    at(spot)
    there.take("split")
    there.stroke(*there.ends(spot))
    assert len(there.cells) == count + 1
    there.hand.key("U")
    there.take("delete")
    there.click(spot)
    assert len(there.cells) == count - 1
    assert there.here(spot) == 0
    there.hand.key("U")

    # a line beside all cells says so and changes nothing
    empty = np.argwhere(before == 0)
    away = np.hypot(*(empty[:, None] - np.argwhere(before > 0)[None, ::50]).transpose(2, 0, 1)).min(axis=1)
    calm = empty[away.argmax()].astype(float)
    at(calm)
    there.take("split")
    there.stroke(calm - 4, calm + 4)
    assert "meets no cell" in there.dock.jobs.state.full_text
    np.testing.assert_array_equal(there.labels, before)
    assert there.session.history.undo_text == ""
