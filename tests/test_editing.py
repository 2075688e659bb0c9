"""Object tools on a session: one step each, exactly undone, beside painting."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.jobs import UserError
from cell_curator.core.measure import MEASURED, measure
from cell_curator.editing import TOOLS, edit
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.session import Session
from cell_curator.workflow import adopt
from small_project import CIRCLES, SHAPE, execute, mapped, session  # noqa: F401


@pytest.fixture
def image_id(session):  # noqa: F811
    return session.images[0].image_id


def state(session):  # noqa: F811
    return {record.image_id: session.labels(record.image_id) for record in session.images}, session.cells.frame.copy()


def assert_same(one, other):
    for image_id, labels in one[0].items():
        np.testing.assert_array_equal(labels, other[0][image_id])
    pd.testing.assert_frame_equal(one[1], other[1])


def assert_sound(session):  # noqa: F811
    """Rows and pixels tell of the same cells."""
    for record in session.images:
        labels = session.labels(record.image_id)
        rows = session.cells.of_image(record.image_id)
        values, counts = np.unique(labels[labels > 0], return_counts=True)
        assert sorted(rows["label"]) == values.tolist()
        assert rows.sort_values("label")["area"].tolist() == counts.tolist()


def cell(session, image_id, label):  # noqa: F811
    return session.cell_at(image_id, label)


def paint(session, image_id, where, label):  # noqa: F811
    labels = session.labels(image_id)
    labels[where] = label
    return session.set_labels(image_id, labels)


def test_a_split_is_one_step_with_a_child(session, image_id):  # noqa: F811
    before = state(session)
    parent = cell(session, image_id, 2)
    session.set_verdict([parent], "accepted")
    accepted = state(session)
    heard = []
    session.events.cells_changed.connect(heard.append)
    done = edit(session, image_id, "split", points=[(0, 48), (30, 47)])
    child = cell(session, image_id, 5)
    assert done.text == "split: 1 cell became 2"
    assert done.cells == heard[0] == {parent, child}
    assert done.labels == (5,)
    assert child > before[1].index.max()
    rows = session.cells.frame.loc[[parent, child]]
    assert rows["verdict"].tolist() == ["edited", "edited"]
    assert rows["revision"].tolist() == [before[1].at[parent, "revision"] + 1, 1]
    assert rows["condition"].tolist() == ["control", "control"]
    assert_sound(session)
    after = state(session)
    assert session.history.undo_text == "split"
    session.undo()
    assert_same(state(session), accepted)
    session.undo()
    assert_same(state(session), before)
    session.redo()
    session.redo()
    assert_same(state(session), after)


def test_measurements_are_those_of_the_whole_image(session, image_id):  # noqa: F811
    edit(session, image_id, "grow", labels=[1, 3], px=3)
    edit(session, image_id, "merge", labels=[1, 2], bridge_px=40)
    rows = session.cells.of_image(image_id).set_index("label").sort_index()
    expected = measure(session.labels(image_id), session.pixels(image_id))
    pd.testing.assert_frame_equal(rows[list(MEASURED)], expected, check_names=False, rtol=1e-6)


def test_the_neighbours_of_a_changed_cell_are_measured_anew_and_nothing_else_of_them_changes(session, image_id):  # noqa: F811
    before = session.cells.of_image(image_id)
    one, two = (before.loc[cell(session, image_id, label)] for label in (1, 2))
    middle, gap = round(one["y"]), slice(int(one["right"]), int(two["left"]))
    reached = paint(session, image_id, (slice(middle - 3, middle + 3), gap), 1)
    after = session.cells.of_image(image_id)
    assert reached == {cell(session, image_id, 1)}
    other = cell(session, image_id, 2)
    assert before.loc[other, "contact"] == 0 < after.loc[other, "contact"]
    assert after.loc[other, "revision"] == before.loc[other, "revision"]
    assert after.loc[other, "verdict"] == before.loc[other, "verdict"]
    expected = measure(session.labels(image_id), session.pixels(image_id))
    rows = after.set_index("label").sort_index()
    pd.testing.assert_frame_equal(rows[list(MEASURED)], expected, check_names=False, rtol=1e-5)


def test_undo_measures_the_neighbours_back(session, image_id):  # noqa: F811
    start = state(session)
    edit(session, image_id, "grow", labels=[1], px=20)
    assert session.cells.of_image(image_id)["contact"].sum() > start[1]["contact"].sum()
    session.history.undo()
    assert_same(start, state(session))


def test_what_is_stored_is_what_is_shown(session, image_id):  # noqa: F811
    edit(session, image_id, "split", points=[(0, 48), (30, 47)])
    edit(session, image_id, "delete", labels=[1])
    session.undo()
    again = Session.open(session.folder)
    assert_same(state(again), state(session))
    again.close()


def test_a_tool_with_nothing_to_do_changes_nothing(session, image_id):  # noqa: F811
    before, entries = state(session), len(session.project.journal())
    with pytest.raises(UserError, match="meets no cell"):
        edit(session, image_id, "split", points=[(0, 0), (0, 9)])
    with pytest.raises(UserError, match="no tool 'knit'; use one of split"):
        edit(session, image_id, "knit")
    assert_same(state(session), before)
    assert session.history.undo_text == ""
    assert len(session.project.journal()) == entries


def test_locked_cells_change_neither_by_tools_nor_by_paint(session, image_id):  # noqa: F811
    session.set_verdict([cell(session, image_id, 2)], "locked")
    before = state(session)
    with pytest.raises(UserError, match="locked; unlock it first"):
        edit(session, image_id, "delete", labels=[2])
    done = edit(session, image_id, "delete", labels=[1, 2])
    assert done.text == "delete: 1 cell; 1 locked cell left alone"
    session.undo()
    changed = paint(session, image_id, np.s_[16:18, :], 3)  # across cells 1 and 2
    assert cell(session, image_id, 2) not in changed
    np.testing.assert_array_equal(session.labels(image_id) == 2, before[0][image_id] == 2)
    assert paint(session, image_id, np.s_[0:2, 0:2], 2) == frozenset()
    assert_sound(session)


# ---------------------------------------------------------------------- random work


def _random_edit(session, rng):  # noqa: F811
    """One step by chance; False if it had nothing to do."""
    image_id = int(rng.choice([record.image_id for record in session.images]))
    rows = session.cells.of_image(image_id)
    tool = str(rng.choice(list(TOOLS)))
    labels = rng.permutation(rows["label"])[: int(rng.integers(1, 4))].tolist()
    points = rng.uniform((-4, -4), np.add(SHAPE, 4), (int(rng.integers(2, 6)), 2))
    if tool in ("split", "split by seeds", "delete inside") or (tool == "redraw" and rng.random() < 0.5):
        labels = []
    elif tool != "redraw":
        points = ()
    options = {"px": float(rng.integers(1, 3))} if tool in ("grow", "shrink") else {}
    try:
        if rng.random() < 0.15 and len(rows):
            session.set_verdict(rows.index[:2], str(rng.choice(["accepted", "rejected", "locked", "proposed"])))
        elif tool in ("delete", "delete inside") and len(rows) < 3:
            return False
        else:
            edit(session, image_id, tool, points=points, labels=labels, **options)
    except UserError:
        return False
    return True


@pytest.mark.parametrize("steps", [30, pytest.param(400, marks=pytest.mark.slow)])
def test_random_edits_undo_to_the_start_and_redo_to_the_end(session, rng, steps):  # noqa: F811
    states = [state(session)]
    while len(states) <= steps:
        if _random_edit(session, rng):
            assert_sound(session)
            states.append(state(session))
    for expected in reversed(states[:-1]):
        assert session.undo()
        assert_same(state(session), expected)
    assert not session.undo()
    for expected in states[1:]:
        assert session.redo()
        assert_same(state(session), expected)
    assert not session.redo()
    again = Session.open(session.folder)
    assert_same(state(again), states[-1])
    again.close()


def test_random_edits_with_paint_in_between_stay_sound_and_ids_stay_with_cells(session, rng):  # noqa: F811
    seen = {}
    for _ in range(80):
        choice = rng.random()
        if choice < 0.4:
            _random_edit(session, rng)
        elif choice < 0.7:
            image_id = int(rng.choice([record.image_id for record in session.images]))
            y, x = rng.integers(0, SHAPE)
            label = int(rng.choice([0, *range(1, 12)]))
            paint(session, image_id, np.s_[y : y + 9, x : x + 9], label)
        elif choice < 0.9:
            session.undo()
        else:
            session.redo()
        assert_sound(session)
        for cell_id, image in session.cells.frame["image"].items():
            assert seen.setdefault(cell_id, image) == image
    while session.undo():
        assert_sound(session)
    while session.redo():
        assert_sound(session)


# ---------------------------------------------------------------------- paint and undo


def test_paint_elsewhere_does_not_hinder_undo(session, image_id):  # noqa: F811
    labels = session.labels(image_id)
    one = session.row(cell(session, image_id, 1)).copy()
    edit(session, image_id, "delete", labels=[1])
    paint(session, image_id, np.s_[60:63, 2:6], 9)
    session.undo()
    assert session.history.note == ""
    np.testing.assert_array_equal(session.labels(image_id) == 1, labels == 1)
    pd.testing.assert_series_equal(session.row(one.name), one)
    assert session.labels(image_id)[61, 3] == 9


def test_painted_pixels_stay_painted_when_a_step_is_undone(session, image_id):  # noqa: F811
    one = cell(session, image_id, 1)
    edit(session, image_id, "delete", labels=[1])
    paint(session, image_id, np.s_[14:17, 14:17], 9)
    painted = state(session)
    session.undo()
    assert session.history.note == "9 px painted since stay as painted"
    labels = session.labels(image_id)
    assert (labels[14:17, 14:17] == 9).all()
    assert labels[16, 11] == 1
    assert cell(session, image_id, 1) == one
    assert session.row(one)["verdict"] == "edited"
    assert_sound(session)
    session.redo()
    assert_same(state(session), painted)


def test_a_label_that_was_painted_anew_is_not_taken_by_the_cell_that_comes_back(session, image_id):  # noqa: F811
    one = cell(session, image_id, 1)
    edit(session, image_id, "delete", labels=[1])
    (new,) = paint(session, image_id, np.s_[58:62, 2:8], 1)  # napari's brush still holds label 1
    assert new != one
    session.undo()
    assert cell(session, image_id, 1) == new
    assert int(session.row(one)["label"]) == 5
    assert session.labels(image_id)[16, 16] == 5
    assert_sound(session)
    session.redo()
    assert one not in session.cells
    assert_sound(session)


def test_a_step_all_of_which_was_painted_over_is_passed(session, image_id):  # noqa: F811
    edit(session, image_id, "delete", labels=[1])
    paint(session, image_id, np.s_[5:30, 5:30], 9)
    painted = state(session)
    assert session.undo()
    assert_same(state(session), painted)
    assert "px painted since" in session.history.note
    assert session.redo()
    assert_same(state(session), painted)


def test_undo_after_a_new_segmentation_spares_the_cells_that_were_found_since(session, image_id, discs):  # noqa: F811
    session.set_verdict(session.cells.of_image(image_id).index, "proposed")
    one = cell(session, image_id, 1)
    edit(session, image_id, "delete", labels=[1])
    edit(session, image_id, "grow", labels=[3], px=2)
    session.set_verdict([cell(session, image_id, 3)], "locked")
    locked = session.labels(image_id) == 3
    new = discs(SHAPE, [(16, 20, 9), (16, 60, 5), (50, 70, 6)])
    found = Segmentation(new, 12.0, False, np.zeros(4, np.float32))
    adopt(session, image_id, found, SegmentParameters())
    proposed = session.cells.of_image(image_id)
    proposed = set(proposed.index[proposed["verdict"] == "proposed"])
    assert len(proposed) == 3
    np.testing.assert_array_equal(session.labels(image_id) == 3, locked)
    while session.undo():
        assert_sound(session)
        assert proposed <= set(session.cells.frame.index)
    assert one in session.cells.frame.index
    while session.redo():
        assert_sound(session)
        assert proposed <= set(session.cells.frame.index)


def test_a_new_condition_and_clusters_outlive_undo(mapped):  # noqa: F811
    image_id = mapped.images[0].image_id
    one = cell(mapped, image_id, 1)
    edit(mapped, image_id, "grow", labels=[1])
    edit(mapped, image_id, "delete", labels=[2])
    mapped.set_condition([image_id], "drug")
    mapped.undo()
    mapped.undo()
    assert mapped.row(one)["condition"] == "drug"
    assert mapped.row(one)["cluster"] == 0
    assert not mapped.stale_cells() & {one}


def test_what_the_map_says_of_a_cell_goes_with_its_pixels(mapped):  # noqa: F811
    from cell_curator.io.project import Change

    image_id = mapped.images[0].image_id
    one, two = cell(mapped, image_id, 1), cell(mapped, image_id, 2)
    mapped.commit(Change(cells=mapped.cells.frame.assign(map_error=0.2, map_isolation=1.5)))
    edit(mapped, image_id, "grow", labels=[1])
    assert mapped.cells.frame.loc[one, ["map_error", "map_isolation"]].isna().all()
    assert mapped.row(two)["map_error"] == 0.2
    mapped.undo()
    assert mapped.row(one)["map_error"] == 0.2
    edit(mapped, image_id, "grow", labels=[1])
    mapped.commit(Change(cells=mapped.cells.frame.loc[[one]].assign(map_error=0.9)))  # said of the grown cell
    mapped.undo()
    assert np.isnan(mapped.row(one)["map_error"])
    assert mapped.row(one)["map_isolation"] == 1.5


def test_a_revision_never_means_two_shapes(session, image_id):  # noqa: F811
    one = cell(session, image_id, 1)
    edit(session, image_id, "grow", labels=[1])
    grown = int(session.row(one)["revision"])
    session.undo()
    assert int(session.row(one)["revision"]) == grown - 1
    edit(session, image_id, "shrink", labels=[1])
    assert int(session.row(one)["revision"]) == grown + 1


# ---------------------------------------------------------------------- journal and memory


def test_the_journal_tells_what_was_done_with_what(session, image_id):  # noqa: F811
    edit(session, image_id, "grow", labels=[1], px=2)
    edit(session, image_id, "split", points=[(0, 48.004), (30, 47)])
    session.undo()
    session.redo()
    journal = session.project.journal().tail(4)
    assert journal["action"].tolist() == ["grow", "split", "undo", "redo"]
    grow, split, undo, _ = journal["detail"]
    name = session.image(image_id).name
    assert grow == {"image": name, "points": [], "labels": [1], "options": {"px": 2}}
    assert split["points"] == [[0, 48.0], [30, 47]]
    assert undo == {"of": "split", "part": 0, "image": name}


def test_the_history_of_a_thousand_edits_is_small(session, image_id):  # noqa: F811
    import sys

    for _ in range(10):
        edit(session, image_id, "grow", labels=[1])
        edit(session, image_id, "shrink", labels=[1])
    size = 0
    for step in session.history._done:
        size += sys.getsizeof(step.runs.data) + step.was.nbytes + step.becomes.nbytes + sys.getsizeof(step.detail)
    assert size / 20 < 5_000
    assert len(CIRCLES) == 4


def test_a_correction_notes_when_it_was_and_undo_forgets_it(session):  # noqa: F811
    image_id = session.current_image
    cell, before = session.cell_at(image_id, 1), time.time()
    edit(session, image_id, "grow", labels=[1], px=1)
    assert before <= session.row(cell)["corrected"] <= time.time()
    assert session.row(session.cell_at(image_id, 2))["corrected"] < before  # painted when the project was made
    session.undo()
    assert session.row(cell)["corrected"] < before
