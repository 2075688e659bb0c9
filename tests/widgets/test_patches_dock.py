"""The Patches dock: sizes are studied, a proposal is taken, and the sheet shows what is set."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from cell_curator.core.patches import PatchParameters
from cell_curator.widgets.patches_dock import PatchesDock

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def dock(show, bench, session, wait_for_job, qtbot):
    dock = show(PatchesDock)
    bench.adopt(session)
    wait_for_job()
    qtbot.waitUntil(lambda: len(dock.sheet.rows) == 3)
    return dock


def test_sizes_are_drawn_and_a_patch_is_proposed(dock):
    assert "Proposal: only the cell, 24×24 px" in dock.proposal.text()
    assert "of cells fit" in dock.proposal.text()
    assert len(dock.plots.histogram.listDataItems()) == 4  # bars and a curve for each of two conditions
    dock.quantity.setCurrentText("height")
    assert "height of a cell, px" in dock.plots.histogram.getAxis("bottom").labelText


def test_the_proposal_is_taken_and_used_by_the_next_map(dock, session):
    assert session.get(PatchParameters).size == 64
    QTest.mouseClick(dock.take, LEFT)
    assert dock.parameters.size == 24
    assert session.get(PatchParameters).size == 64  # nothing is stored until it is used
    QTest.mouseClick(dock.primary, LEFT)
    assert (session.get(PatchParameters).method, session.get(PatchParameters).size) == ("mask", 24)


def test_the_sheet_shows_the_same_cells_in_all_three_ways(dock, qtbot):
    resize, pad, mask = dock.sheet.rows
    assert resize.cells == pad.cells == mask.cells
    assert len(mask.cells) == 6
    assert mask.title.startswith("▶ Only the cell")
    assert [int(np.count_nonzero(p)) > 0 for p in mask.pictures] == [True] * 6
    assert np.count_nonzero(pad.pictures[0]) > np.count_nonzero(mask.pictures[0])
    QTest.keyClick(dock, Qt.Key.Key_1, Qt.KeyboardModifier.AltModifier)
    assert dock.parameters.method == "resize"
    qtbot.waitUntil(lambda: dock.sheet.rows[0].title.startswith("▶ Fill"))


def test_what_would_be_cut_off_is_said_and_shown(dock, qtbot):
    assert not dock.lost.isVisible()
    dock.form.control("size").set_value(12)
    dock._edited()
    assert "would be cut off" in dock.lost.text()
    qtbot.waitUntil(lambda: any(row.marked for row in dock.sheet.rows[1:]))
    dock.examples.setCurrentText("those that are cut off")
    qtbot.waitUntil(lambda: len(dock.sheet.rows[2].marked) == len(dock.sheet.rows[2].cells))
    QTest.keyClick(dock, Qt.Key.Key_O, Qt.KeyboardModifier.AltModifier)
    assert dock.parameters.size == 24
    qtbot.waitUntil(lambda: dock.sheet.rows[0].title == "No cell is cut off.")


def test_cells_are_turned_to_their_own_axis_by_a_key(dock, session):
    QTest.keyClick(dock, Qt.Key.Key_T, Qt.KeyboardModifier.AltModifier)
    assert dock.parameters.turn == "own"
    QTest.keyClick(dock, Qt.Key.Key_T, Qt.KeyboardModifier.AltModifier)
    assert dock.parameters.turn == "image"


def test_a_click_on_an_example_goes_to_the_cell(dock, session):
    cell = dock.sheet.rows[0].cells[2]
    QTest.mouseClick(dock.sheet, LEFT, pos=dock.sheet._area(2, 0).center())
    assert session.selection.ids == {cell}


def test_settings_made_elsewhere_are_followed(dock, session):
    session.put(PatchParameters(method="pad", size=40))
    assert (dock.parameters.method, dock.parameters.size) == ("pad", 40)


def test_without_cells_it_says_what_to_do_first(show, bench, session, wait_for_job):
    for record in session.images:
        session.set_labels(record.image_id, np.zeros(record.shape[1:], np.int32))
    dock = show(PatchesDock)
    bench.adopt(session)
    wait_for_job()
    assert "find cells in the Segment tab first" in dock.proposal.text()
    assert not dock.sheet.isVisible()
