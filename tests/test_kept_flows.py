import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cell_curator import kept_flows, workflow
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.recipe import Clip, Recipe
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.session import Session
from small_project import execute, session  # noqa: F401

STATED = SegmentParameters(diameter=14, polarity="bright")


@pytest.fixture
def searched(session):  # noqa: F811
    session.put(STATED)
    image_id = session.images[0].image_id
    session.set_verdict(session.cells.frame.index, "proposed")
    assert drive(workflow.segment(session, [image_id])).done == 1
    return session, image_id


def test_moving_a_threshold_changes_the_cells_without_storing_anything(searched):
    work, image_id = searched
    before = work.labels(image_id)
    same = drive(kept_flows.rethreshold(work, image_id))
    strict = drive(kept_flows.rethreshold(work, image_id, STATED.model_copy(update={"min_size": 150})))
    assert isinstance(same, Segmentation)
    assert ((same.labels > 0) == (before > 0)).all()
    assert strict.count < same.count
    assert np.array_equal(work.labels(image_id), before)


def test_the_flows_outlive_the_session(searched):
    work, image_id = searched
    found = kept_flows.recall(work, image_id, STATED)
    kept_flows.keep(work, image_id, replace(found, error_unit=1.5), STATED)
    same = drive(kept_flows.rethreshold(work, image_id))
    kept_flows._memory.clear()
    again = drive(kept_flows.rethreshold(work, image_id))
    assert np.array_equal(same.labels, again.labels)
    assert (again.diameter, again.error_unit) == (same.diameter, 1.5)


def test_flows_of_another_picture_model_or_diameter_are_not_used(searched):
    work, image_id = searched
    for other in ({"diameter": 20.0}, {"source": "raw"}, {"model": "other"}):
        with pytest.raises(UserError, match="find the cells again"):
            drive(kept_flows.rethreshold(work, image_id, STATED.model_copy(update=other)))
    work.put(work.get(Recipe).model_copy(update={"clip": Clip(enabled=True, high_percent=90)}))
    with pytest.raises(UserError, match="find the cells again"):
        drive(kept_flows.rethreshold(work, image_id))


def test_a_cache_that_was_cleared_or_damaged_is_no_error_but_asks_for_a_new_search(searched):
    work, image_id = searched
    file = work.folder / "cache" / "flows" / f"{image_id}.npz"
    kept_flows._memory.clear()
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(UserError, match="find the cells again"):
        drive(kept_flows.rethreshold(work, image_id))
    file.unlink()
    assert kept_flows.recall(work, image_id, STATED) is None


def test_only_the_newest_files_are_kept(searched, monkeypatch):
    work, image_id = searched
    monkeypatch.setattr(kept_flows, "ON_DISK", 1)
    found = kept_flows.recall(work, image_id, STATED)
    kept_flows.keep(work, work.images[1].image_id, found, STATED)
    files = list((work.folder / "cache" / "flows").glob("*.npz"))
    assert [file.stem for file in files] == [str(work.images[1].image_id)]


def test_live_thresholds_need_no_torch(searched):
    work, image_id = searched
    folder = work.folder
    work.close()
    code = f"""
import sys
from cell_curator import kept_flows
from cell_curator.core.jobs import drive
from cell_curator.session import Session
work = Session.open({str(folder)!r})
found = drive(kept_flows.rethreshold(work, {image_id}))
work.close()
print(found.count, "torch" in sys.modules, "cellpose" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert int(answer[0]) > 0
    assert answer[1:] == ["False", "False"]
    Session.open(folder).close()


def test_looking_in_a_region_leaves_everything_outside_untouched(session):  # noqa: F811
    session.put(STATED)
    image_id = session.images[0].image_id
    before = session.labels(image_id)
    outside = set(session.cells.of_image(image_id).query("label in (1, 2, 4)").index)
    session.set_verdict(session.cells.of_image(image_id).index, "proposed")
    drive(workflow.segment(session, [image_id], region=(34, 18, 60, 42)))
    after = session.labels(image_id)
    for label in (1, 2, 4):
        assert np.array_equal(after == label, before == label)
    assert outside <= set(session.cells.of_image(image_id).index)
    assert not (after == 3).any()  # the cell in the region was looked for anew
    fresh = np.unique(after[34:60, 18:42])
    assert len(fresh) == 2
