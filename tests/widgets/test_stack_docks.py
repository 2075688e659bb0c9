"""Stacks and time lapses in the docks: one row for a file, and what belongs to planes only with planes."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from cell_curator.core.jobs import drive
from cell_curator.engines.volumes import StackParameters
from cell_curator.widgets.images_dock import ImagesDock
from cell_curator.widgets.segment_dock import SegmentDock
from small_project import CIRCLES, SHAPE

PLANES = 12


@pytest.fixture
def mixed(session, tmp_path, discs, rng):
    """Two images, and a movie of 12 frames."""
    cells = discs(SHAPE, CIRCLES) > 0
    movie = (200 + 800 * cells + rng.normal(0, 20, (PLANES, *SHAPE))).astype(np.uint16)
    tifffile.imwrite(tmp_path / "movie.tif", movie, imagej=True, metadata={"axes": "TYX"})
    drive(session.add_images(tmp_path / "movie.tif"))
    return session


def text(dock, row, column=0):
    return dock.model.data(dock.model.index(row, column))


def test_a_movie_is_one_row_that_follows_the_frame_on_screen(show, bench, mixed, wait_for_job):
    dock = show(ImagesDock)
    bench.adopt(mixed)
    wait_for_job()
    assert dock.model.rowCount() == 3
    assert text(dock, 2) == "movie\n1 of 12"
    mixed.show_image(mixed.images[-3].image_id)
    wait_for_job()
    assert text(dock, 2) == "movie\n10 of 12"
    assert dock.table.currentIndex().row() == 2
    assert "Frame 10: 0 cells" in dock.facts.text()
    QTest.keyClick(dock, Qt.Key.Key_PageDown)
    wait_for_job()
    assert text(dock, 2) == "movie\n11 of 12"
    dock.table.selectRow(0)
    dock.table.selectRow(2)
    assert mixed.image(mixed.current_image).name == "movie [t 11]"


def test_a_movie_has_one_condition_and_counts_the_cells_of_all_frames(show, bench, mixed, wait_for_job):
    dock = show(ImagesDock)
    bench.adopt(mixed)
    wait_for_job()
    drive(mixed.segment([record.image_id for record in mixed.images[2:8]]))
    assert text(dock, 2, 2) == str(6 * len(CIRCLES))
    assert text(dock, 2, 3) == "6 of 12"
    dock.model.setData(dock.model.index(2, 1), "drug")
    assert {record.condition for record in mixed.images[2:]} == {"drug"}
    assert {record.condition for record in mixed.images[:2]} == {"control", "treated"}


def test_a_movie_is_taken_out_with_all_its_frames(show, bench, mixed, wait_for_job, monkeypatch):
    from qtpy.QtWidgets import QMessageBox

    asked = []
    yes = QMessageBox.StandardButton.Yes
    monkeypatch.setattr(QMessageBox, "question", lambda *arguments: asked.append(arguments[2]) or yes)
    dock = show(ImagesDock)
    bench.adopt(mixed)
    wait_for_job()
    dock.table.selectRow(2)
    dock.remove.click()
    assert asked[0].startswith("Take 12 images and 0 cells")
    assert len(mixed.images) == 2
    assert dock.model.rowCount() == 2


def test_planes_are_asked_about_only_where_there_are_some(show, bench, mixed, wait_for_job):
    dock = show(SegmentDock)
    bench.adopt(mixed)
    wait_for_job()
    assert not dock.planes.isVisible()
    mixed.show_image(mixed.images[4].image_id)
    wait_for_job()
    assert dock.planes.isVisible()
    assert dock.minimumSizeHint().width() <= 320
    method = dock.stack.control("method")
    method.setCurrentText("planes")
    assert mixed.get(StackParameters).method == "planes"
    mixed.put(StackParameters(method="stitch", stitch_threshold=0.5))
    assert dock.stack.value() == mixed.get(StackParameters)


def test_all_frames_of_the_movie_are_searched_and_no_other_image(show, bench, mixed, wait_for_job, qtbot):
    dock = show(SegmentDock)
    bench.adopt(mixed)
    mixed.show_image(mixed.images[4].image_id)
    wait_for_job()
    assert dock.file.text() == "Find cells in all frames"
    dock.file.click()
    wait_for_job()
    states = [record.state for record in mixed.images]
    assert states == ["new"] * 2 + ["segmented"] * PLANES
    assert f"{PLANES * len(CIRCLES)} cells in {PLANES} images" in dock.jobs.state.full_text
    first, *others = [mixed.labels(record.image_id) for record in mixed.images[2:]]
    assert all(np.array_equal(first > 0, other > 0) for other in others)
    pairs = np.unique(np.stack([first[first > 0], others[-1][first > 0]]), axis=1)
    assert (pairs[0] == pairs[1]).all()
