"""A queue of bad cells mended by keys and mouse in a real napari window, then an audit of what is left."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from cell_curator import reviewing
from cell_curator.io.images import write_tiff
from cell_curator.io.project import Change
from cell_curator.link.geometry import to_world
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import workbench_of

SIDE, PITCH, GRID = 300, 50, 6
FUSED, HALF, DEBRIS = 8, 15, 29


@pytest.fixture
def table(open_viewer, tmp_path, rng):
    """36 round cells, of which one mask holds two, one is cut in half, and one lies on nothing."""
    y, x = np.mgrid[:SIDE, :SIDE]
    cells = np.zeros((SIDE, SIDE), np.int32)
    for n in range(GRID * GRID):
        cy, cx = (PITCH // 2 + PITCH * k for k in divmod(n, GRID))
        cells[np.hypot(y - cy, x - cx) <= 13] = n + 1
    image = (300 + 1500 * ((cells > 0) & (cells != DEBRIS)) + rng.normal(0, 30, cells.shape)).astype(np.uint16)
    labels = cells.copy()
    labels[60:90, 75:125] = np.where(labels[60:90, 75:125] == 0, FUSED, labels[60:90, 75:125])
    labels[labels == FUSED + 1] = FUSED
    labels[(labels == HALF) & (x > PITCH * 2.5)] = 50
    (tmp_path / "images").mkdir()
    write_tiff(tmp_path / "images" / "cells.tif", image[None])
    hand = open_viewer()
    bench = workbench_of(hand.viewer)
    bench.open(tmp_path / "images")
    hand.wait(lambda: bench.link is not None and bench.link.labels.image_id is not None and not bench.runner.busy)
    session = bench.session
    session.set_labels(1, labels)
    frame = session.cells.frame
    score, flags = frame["label"].map({FUSED: 0.9, HALF: 0.8, 50: 0.8, DEBRIS: 0.7}).fillna(0.1), "looks wrong"
    rows = frame.assign(verdict="proposed", score=score, flags=np.where(score > 0.5, flags, ""))
    session.commit(Change("score", {}, cells=rows))
    return hand, hand.docks.show_dock("Review"), bench


def test_bad_cells_are_mended_one_key_each_and_the_rest_is_audited(table, pictures):
    hand, dock, bench = table
    session = bench.session
    hand.wait(lambda: len(dock.queue.gallery.pictures) >= 4)
    hand.qtbot.mouseClick(
        dock.queue.gallery.viewport(), Qt.MouseButton.LeftButton, pos=dock.queue.gallery.rect_of(0).center()
    )
    fused = session.cell_at(1, FUSED)
    assert session.selection.ids == {fused}
    before = len(session.cells)

    # split: the tool opens with the cell in the middle, and is put away after the line
    hand.key("S")
    assert bench.tools.mode == "split"
    line = np.linspace((55.0, 100.0), (95.0, 100.0), 5)
    hand.drag(to_world(bench.link.image.affine, line))
    hand.wait(lambda: len(session.cells) == before + 1)
    hand.wait(lambda: bench.tools.mode == "pick")
    assert {session.row(cell)["verdict"] for cell in session.selection.ids} == {"edited"}

    # merge the two halves; the key finds the neighbour
    hand.key(Qt.Key.Key_Space)
    assert session.selection.ids == {session.cell_at(1, HALF)}
    hand.key("M")
    hand.wait(lambda: len(session.cells) == before)
    assert session.cell_at(1, 50) is None or session.cell_at(1, HALF) is None
    photograph(hand.viewer, pictures / "review-1-merged.png")

    # reject what lies on nothing; undo and reject again
    hand.key(Qt.Key.Key_Space)
    debris = session.cell_at(1, DEBRIS)
    assert session.selection.ids == {debris}
    hand.key("R")
    assert session.row(debris)["verdict"] == "rejected"
    hand.key("U")
    assert session.row(debris)["verdict"] == "proposed"
    assert session.selection.ids == {debris}
    hand.key("R")
    assert dock.queue.bar.text() == "4 of 4 reviewed"
    hand.wait(lambda: dock.queue.funnel.text.endswith(f"{before - 1} kept"))
    photograph(hand.viewer, pictures / "review-2-done.png")

    # the audit, with two keys
    hand.press(dock.queue.audit)
    dock.audit.size.set_value(10)
    hand.press(dock.audit.begin)
    for place in range(10):
        hand.key("R" if place == 9 else "A")
    state = reviewing.audit(session)
    assert (state.decided, state.bad) == (10, 1)
    assert debris not in state.cells  # it does not count any more
    assert "1 of 10 bad: 10.0 %" in dock.audit.result.text()
    photograph(hand.viewer, pictures / "review-3-audit.png")
    hand.key(Qt.Key.Key_Escape)
    assert dock.queue.isVisible()
