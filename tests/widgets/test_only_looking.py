"""A project that is open elsewhere: everything can be seen, nothing changed, and every dock says so."""

from __future__ import annotations

import pytest

from cell_curator.widgets.images_dock import ImagesDock


@pytest.fixture
def looked(show, bench, session, qtbot):
    """The small project, which the test itself holds, in the window."""
    dock = show(ImagesDock)
    bench.open(session.folder)
    qtbot.waitUntil(lambda: bench.link.labels.layer is not None)
    return dock


def test_every_dock_says_so_and_no_job_starts(looked, bench, session):
    assert looked.header.looking.isVisible()
    assert "is open elsewhere" in looked.header.looking.text()
    looked.primary.click()
    assert not bench.runner.busy
    assert "is open elsewhere" in looked.jobs.error.text()
    assert list(session.project.journal()["action"]) == list(bench.session.project.journal()["action"])


def test_cells_cannot_be_painted(looked, bench):
    layer = bench.link.labels.layer
    assert not layer.editable
    assert layer.data.max() == 4


def test_opened_again_in_the_same_window_it_can_be_changed(looked, bench, session, qtbot):
    session.close()
    bench.open(session.folder)
    assert not looked.header.looking.isVisible()
    bench.open(session.folder)  # it is open here already
    qtbot.waitUntil(lambda: bench.link.labels.layer is not None)
    assert bench.link.labels.layer.editable
    assert bench.session.project.read_only == ""
