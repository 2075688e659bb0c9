"""Thirty corrections by mouse and keys in a real napari window; all the way back, and all the way forth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from qtpy.QtCore import Qt

from cell_curator.io.images import write_tiff
from cell_curator.link.geometry import to_world
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import workbench_of

SIDE = 400
PITCH = 50  # px from one cell to the next
GRID = 8


@pytest.fixture
def table(open_viewer, tmp_path, rng):
    """The hand, the dock and the session on one image with a grid of 64 oblong cells, all proposed."""
    y, x = np.mgrid[:SIDE, :SIDE]
    labels = np.zeros((SIDE, SIDE), np.int32)
    for n in range(GRID * GRID):
        cy, cx = (PITCH // 2 + PITCH * k for k in divmod(n, GRID))
        labels[((y - cy) / 10) ** 2 + ((x - cx) / 18) ** 2 <= 1] = n + 1
    image = (300 + 1500 * (labels > 0) + rng.normal(0, 30, labels.shape)).astype(np.uint16)
    (tmp_path / "images").mkdir()
    write_tiff(tmp_path / "images" / "cells.tif", image[None])
    hand = open_viewer()
    bench = workbench_of(hand.viewer)
    bench.open(tmp_path / "images")
    hand.wait(lambda: bench.link is not None and bench.link.labels.image_id is not None and not bench.runner.busy)
    session = bench.session
    session.set_labels(1, labels)
    session.set_verdict(session.cells.frame.index, "proposed")
    session.history.clear()
    dock = hand.docks.show_dock("Correct")
    hand.wait(lambda: session.cells.of_image(1).shape[0] == 64)
    return hand, dock, bench


def centre(label):
    return np.array([PITCH // 2 + PITCH * k for k in divmod(label - 1, GRID)], float)


def at(label, down, across):
    """A pixel beside the middle of a cell."""
    return centre(label) + np.array([down, across], float)


def stroke(hand, bench, *points):
    """Drag through these pixels of the image."""
    path = np.concatenate([np.linspace(a, b, 3) for a, b in pairwise(points)])
    hand.drag(to_world(bench.link.image.affine, path))
    hand.qtbot.wait(10)


def ring(at, radius, count=8):
    angles = np.linspace(0, 2 * np.pi, count)
    return [at + radius * np.array([np.sin(a), np.cos(a)]) for a in angles]


def test_thirty_corrections_back_to_the_start_and_forth_to_the_end(table, pictures):
    hand, dock, bench = table
    session = bench.session
    first = session.labels(1)
    photograph(hand.viewer, pictures / "correct-1-before.png")

    hand.key(Qt.Key.Key_S)
    for label in range(1, 7):  # 6 splits
        stroke(hand, bench, at(label, -14, 0), at(label, 14, 0))
    assert len(session.cells) == 70
    photograph(hand.viewer, pictures / "correct-2-split.png")

    hand.press(dock._buttons["merge"])
    for label in range(9, 17, 2):  # 4 merges
        stroke(hand, bench, centre(label), centre(label + 1))
    assert len(session.cells) == 66

    hand.press(dock._buttons["delete"])
    for label in (17, 18, 19):  # 3 deletions by click, 1 by a stroke over three
        hand.click(to_world(bench.link.image.affine, centre(label)[None])[0])
    stroke(hand, bench, centre(20), centre(22))
    assert len(session.cells) == 60

    hand.press(dock._buttons["redraw"])
    for label in (25, 26, 27):  # 3 outlines anew
        stroke(hand, bench, *ring(centre(label), 14))
    assert session.labels(1)[tuple(at(25, 12, 0).astype(int))] == 25

    hand.press(dock._buttons["seeds"])
    for label in (33, 34, 35):  # 3 splits by two seeds
        stroke(hand, bench, at(label, 0, -10), at(label, 0, 10))
    assert len(session.cells) == 63

    hand.press(dock._buttons["delete inside"])
    stroke(hand, bench, *ring(centre(41), 30))  # 1
    assert 41 not in session.labels(1)

    hand.key(Qt.Key.Key_V)
    for label, key in ((49, "A"), (50, "R"), (51, "L")):  # 3 verdicts
        hand.click(to_world(bench.link.image.affine, centre(label)[None])[0])
        hand.key(key)
    for label, tool in ((57, "grow"), (58, "shrink"), (59, "smooth")):  # 3 shapes
        hand.click(to_world(bench.link.image.affine, centre(label)[None])[0])
        hand.press(dock._actions[tool])
    hand.press(dock._buttons["select box"])
    stroke(hand, bench, at(61, -20, -22), at(62, 20, 22))
    assert "2 cells" in dock.chosen.full_text
    hand.press(dock._actions["merge"])  # 1
    photograph(hand.viewer, pictures / "correct-3-corrected.png")
    hand.press(dock._actions["delete"])  # 1
    hand.press(dock.primary)  # all others accepted: 1

    last, frame = session.labels(1), session.cells.frame.copy()
    steps = 0
    while session.history.undo_text:
        hand.key(Qt.Key.Key_U)
        steps += 1
    assert steps == 30
    np.testing.assert_array_equal(session.labels(1), first)
    np.testing.assert_array_equal(bench.link.labels.layer.data, first)
    assert set(session.cells.frame["verdict"]) == {"proposed"}
    while session.history.redo_text:
        hand.qtbot.keyClick(hand.canvas, Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    np.testing.assert_array_equal(session.labels(1), last)
    np.testing.assert_array_equal(bench.link.labels.layer.data, last)
    assert session.cells.frame["verdict"].to_dict() == frame["verdict"].to_dict()


def test_the_queue_goes_from_cell_to_cell_until_all_are_decided(table, pictures):
    hand, dock, bench = table
    session = bench.session
    hand.key("N")
    (chosen,) = session.selection.ids
    hand.key("A")
    assert session.row(chosen)["verdict"] == "accepted"
    (following,) = session.selection.ids
    assert following != chosen
    hand.key("R")
    hand.key("N")
    hand.key("P")
    assert "2 of 64 decided" in dock.bar.text()
    photograph(hand.viewer, pictures / "correct-4-queue.png")
    hand.press(dock.primary)
    assert "64 of 64 decided" in dock.bar.text()
    assert session.row(following)["verdict"] == "rejected"
    hand.press(dock.next)
    assert "All cells of this image have a verdict" in dock.jobs.state.full_text


def test_painting_and_object_tools_live_side_by_side(table):
    hand, _, bench = table
    session, layer = bench.session, bench.link.labels.layer
    hand.key("S")
    stroke(hand, bench, at(1, -14, 0), at(1, 14, 0))
    split = session.labels(1)
    hand.key("V")
    layer.selected_label, layer.mode = 10, "paint"
    stroke(hand, bench, at(10, 12, 0), at(10, 16, 0))
    hand.wait(lambda: not np.array_equal(session.labels(1), split))
    layer.undo()
    hand.wait(lambda: np.array_equal(session.labels(1), split))
    hand.key("U")
    assert len(session.cells) == 64
