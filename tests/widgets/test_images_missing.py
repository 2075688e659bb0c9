"""Images that were moved away: said in the Images dock, and found again from there."""

from __future__ import annotations

import shutil

import pytest
from qtpy.QtCore import Qt

from cell_curator.widgets.images_dock import ImagesDock
from cell_curator.widgets.images_model import ImagesModel


@pytest.fixture
def moved(session, tmp_path):
    """The small project, its images moved to another folder."""
    shutil.move(tmp_path / "images", tmp_path / "archive")
    session._pixels = type(session._pixels)()
    return session, tmp_path / "archive"


@pytest.fixture
def wait(bench, qtbot):
    """Until no job runs; the image on the screen cannot come."""
    return lambda: qtbot.waitUntil(lambda: not bench.runner.busy, timeout=20_000)


def test_missing_images_are_said_and_found_again(show, bench, moved, wait, qtbot):
    session, archive = moved
    dock = show(ImagesDock)
    bench.adopt(session)
    wait()
    line = dock.missing
    qtbot.waitUntil(line.isVisible)
    assert line.text.text().startswith("2 image files are not where they were: ")
    assert str(session.images[0].path.parent) in line.text.text()
    model: ImagesModel = dock.model
    index = model.index(0, 0)
    model.data(index, Qt.ItemDataRole.DecorationRole)
    qtbot.waitUntil(lambda: "no longer there" in model.data(index, Qt.ItemDataRole.ToolTipRole))
    line.search(archive)
    wait()
    qtbot.waitUntil(lambda: not line.isVisible())
    assert dock.jobs.state.full_text == "2 of 2 image files found again"
    assert "no longer there" not in model.data(index, Qt.ItemDataRole.ToolTipRole)
    qtbot.waitUntil(lambda: bench.link.labels.image_id == session.current_image)  # and it is on the screen


def test_a_wrong_folder_is_said(show, bench, moved, wait, tmp_path, qtbot):
    session, _ = moved
    dock = show(ImagesDock)
    bench.adopt(session)
    wait()
    qtbot.waitUntil(lambda: "no longer there" in dock.jobs.error.text())  # said of the image on the screen
    (tmp_path / "nothing").mkdir()
    dock.missing.search(tmp_path / "nothing")
    wait()
    assert "holds no images" in dock.jobs.error.text()
    qtbot.waitUntil(dock.missing.isVisible)


def test_nothing_is_said_where_all_is_well(show, bench, session, wait_for_job):
    dock = show(ImagesDock)
    bench.adopt(session)
    wait_for_job()
    assert not dock.missing.isVisible()
