"""The Batch dock: what becomes of each image stands in its table, and what failed can be tried again."""

from __future__ import annotations

import pytest

from cell_curator.core.jobs import Crew, ItemState, inline
from cell_curator.pixel_cache import PixelCache
from cell_curator.widgets.batch_dock import _ALL, BatchDock
from cell_curator.widgets.batch_model import BatchModel


@pytest.fixture
def dock(show, bench, session):
    made = show(BatchDock)
    bench.adopt(session)
    return made


def states(dock):
    return [dock.model.state(record.name)[0] for record in dock.session.images]


def test_images_wait_until_they_are_worked_on(dock, wait_for_job):
    assert states(dock) == ["waiting", "waiting"]
    assert "2 images: 2 waiting" in dock.counts.text()
    assert not dock.retry.isVisible()
    dock.primary.click()
    wait_for_job()
    assert states(dock) == ["done", "done"]
    dock.primary.click()
    wait_for_job()
    assert "2 were done already" in dock.jobs.state.toolTip() + dock.jobs.state.text()


def test_an_image_that_fails_says_why_and_can_be_tried_again(dock, wait_for_job):
    _, second = dock.session.images
    dock.session._pixels = PixelCache()
    content = second.path.read_bytes()
    second.path.unlink()
    dock.primary.click()
    wait_for_job()
    assert states(dock) == ["done", "failed"]
    assert dock.model.state(second.name)[1].startswith("the image is no longer there")
    assert second.name in dock.jobs.error.text()
    assert dock.retry.isVisible()
    second.path.write_bytes(content)
    dock.retry.click()
    wait_for_job()
    assert states(dock) == ["done", "done"]
    assert not dock.retry.isVisible()


def test_the_whole_line_and_a_crew_that_was_asked_for(dock, wait_for_job, monkeypatch):
    asked = []

    def crew(power, count, make, say=None):
        asked.append((power.workers, power.scheduler, count))
        return (yield from make(Crew(inline, 3)))

    monkeypatch.setattr("cell_curator.workflow.manned", crew)
    monkeypatch.setattr("cell_curator.one_image.segment_image", lambda image, params, region: _cells(image))
    dock.step.setCurrentText(_ALL)
    dock.workers.setValue(1)
    dock.primary.click()
    wait_for_job()
    assert asked == [(1, "", 2)]
    assert dock.session.embedding is not None
    assert dock.session.crew is None
    dock.scheduler.setText(" tcp://far:8786 ")
    assert not dock.workers.isEnabled()
    dock.again.setChecked(True)
    dock.primary.click()
    wait_for_job()
    assert asked[-1][1] == "tcp://far:8786"


def _cells(image):
    import numpy as np
    from skimage.measure import label

    from cell_curator.core.jobs import Progress
    from cell_curator.engines.segmenter import Segmentation

    yield Progress(0.5)
    found = label(image > 0.5).astype(np.int32)
    return Segmentation(found, 14.0, False, np.zeros(found.max() + 1, np.float32))


def test_what_is_done_is_not_shown_as_worked_on_when_its_cells_are_cut_out(session):
    model = BatchModel()
    model.show_images(session.images)
    name = session.images[0].name
    for state, shown in (("working", "working"), ("done", "done"), ("working", "done"), ("waiting", "waiting")):
        model.note(ItemState(name, state))
        assert model.state(name)[0] == shown
    model.note(ItemState(name, "failed", "torn"))
    model.note(ItemState(name, "done"))
    assert model.state(name) == ("failed", "torn")
    assert model.note(ItemState("nobody", "done")) is None
