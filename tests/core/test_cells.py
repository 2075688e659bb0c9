from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.cells import COLUMNS, CellTable
from cell_curator.core.history import EditGroup, History
from cell_curator.core.measure import MEASURED, measure
from cell_curator.core.reconcile import reconcile
from cell_curator.core.selection import Selection


def _table(labels, image_id=1, first=1):
    rows = measure(labels, np.ones(labels.shape)).assign(image=image_id)
    rows["label"] = rows.index
    return CellTable(rows.set_index(pd.RangeIndex(first, first + len(rows))))


def test_measurements_of_a_disc_are_those_of_a_disc(discs):
    labels = discs((80, 90), [(40, 30, 15)])
    image = np.where(labels == 1, 100, 10).astype(np.uint16)
    row = measure(labels, image[None]).loc[1]
    assert row["area"] == pytest.approx(np.pi * 15**2, rel=0.02)
    assert (row["y"], row["x"]) == (40, 30)
    assert row["major_axis"] == pytest.approx(30, rel=0.02)
    assert row["eccentricity"] < 0.1
    assert row["solidity"] > 0.95
    assert row["mean_intensity"] == row["max_intensity"] == 100
    assert not row["touches_border"]


@pytest.mark.parametrize("angle", [-60, -30, 0, 30, 60, 90])
def test_orientation_is_counter_clockwise_from_the_x_axis(angle):
    y, x = np.mgrid[:101, :101] - 50.0
    turn = np.radians(angle)
    along = x * np.cos(turn) - y * np.sin(turn)  # y points down
    across = x * np.sin(turn) + y * np.cos(turn)
    labels = ((along / 40) ** 2 + (across / 10) ** 2 <= 1).astype(np.int32)
    found = measure(labels, np.ones(labels.shape)).loc[1, "orientation_deg"]
    assert abs((found - angle + 90) % 180 - 90) < 1.0
    assert -90 < found <= 90


def test_a_sharp_cell_has_more_focus_than_a_blurred_one(rng, discs):
    from scipy.ndimage import gaussian_filter

    labels = discs((80, 160), [(40, 40, 25), (40, 120, 25)])
    image = rng.random((80, 160)) * 100
    image[:, 80:] = gaussian_filter(image[:, 80:], 3)
    focus = measure(labels, image)["focus"]
    assert focus[1] > 3 * focus[2]


def test_no_figure_is_minus_nothing(rng, discs):
    """SQLite stores -0 as 0; a project that was closed and opened would write another table."""
    labels = np.zeros((200, 200), np.int32)
    for number in range(90):
        y, x = 5 + 20 * (number // 10), 5 + 19 * (number % 10)
        height, width = rng.integers(1, 12, 2)
        labels[y : y + height, x : x + width] = number + 1
    found = measure(labels, rng.random(labels.shape)).select_dtypes("float64").to_numpy()
    assert not (np.signbit(found) & (found == 0)).any()


def test_no_cells_give_an_empty_table_with_all_columns():
    table = measure(np.zeros((5, 5), np.int32), np.zeros((1, 5, 5)))
    assert list(table.columns) == list(MEASURED)
    assert len(table) == 0


def test_cells_of_one_pixel_and_whole_images_are_measured():
    labels = np.zeros((4, 4), np.int32)
    labels[1, 1] = 7
    assert measure(labels, np.ones((4, 4))).loc[7, "area"] == 1
    assert measure(np.ones((4, 4), np.int32), np.ones((4, 4))).loc[1, "touches_border"]


def test_ids_are_unique_and_columns_complete(discs):
    table = _table(discs((50, 50), [(20, 20, 5), (40, 40, 5)]))
    assert list(table.frame.columns) == list(COLUMNS)
    with pytest.raises(ValueError, match="twice"):
        CellTable(pd.concat([table.frame, table.frame]))
    with pytest.raises(ValueError, match="verdict"):
        table.with_rows(table.frame.loc[[1]].assign(verdict="perhaps"))


def test_a_table_is_a_snapshot(discs):
    table = _table(discs((50, 50), [(20, 20, 5), (40, 40, 5)]))
    later = table.with_rows(table.frame.loc[[1]].assign(verdict="accepted")).without([2])
    assert table.frame["verdict"].tolist() == ["proposed", "proposed"]
    assert later.frame["verdict"].tolist() == ["accepted"]


def test_a_cell_is_found_by_image_and_label(discs):
    labels = discs((50, 50), [(20, 20, 5), (40, 40, 5)])
    table = _table(labels).with_rows(_table(labels, image_id=2, first=10).frame)
    assert table.find(2, 2) == 11
    assert table.find(2, 9) is None
    assert table.find(3, 1) is None
    assert len(table.of_image(1)) == 2


def test_selection_tells_only_of_changes():
    selection, heard = Selection(), []
    selection.changed.connect(heard.append)
    selection.set([1, 2])
    selection.set([2, 1])
    selection.clear()
    assert heard == [frozenset({1, 2}), frozenset()]


class _Set:
    """An edit of a dictionary entry."""

    def __init__(self, store, key, value):
        self.store, self.key, self.value, self.title = store, key, value, f"set {key}"

    def apply(self):
        if self.value == "broken":
            raise RuntimeError
        inverse = _Set(self.store, self.key, self.store.get(self.key))
        self.store[self.key] = self.value
        return inverse


def test_undo_to_the_start_and_redo_to_the_end(rng):
    store, history, states = {}, History(), []
    for step in range(50):
        states.append(dict(store))
        history.do(_Set(store, int(rng.integers(5)), step))
    end = dict(store)
    for state in reversed(states):
        assert history.undo()
        assert {k: v for k, v in store.items() if v is not None} == state
    assert not history.undo()
    while history.redo():
        pass
    assert store == end


def test_a_group_that_fails_changes_nothing():
    store, history = {"a": 1}, History()
    with pytest.raises(RuntimeError):
        history.do(EditGroup("both", (_Set(store, "a", 2), _Set(store, "b", "broken"))))
    assert store == {"a": 1}
    assert history.undo_text == ""


def test_decided_cells_stay_and_proposals_give_way(discs):
    current = discs((100, 100), [(20, 20, 10), (70, 70, 10), (20, 70, 10)])
    proposal = discs((100, 100), [(21, 20, 10), (70, 60, 12), (50, 20, 6), (20, 71, 10)])
    joined = reconcile(current, proposal, keep=[2], rejected=[3])
    assert np.array_equal(joined.labels == 2, current == 2)  # accepted: not a pixel changed
    assert np.array_equal(joined.labels == 3, current == 3)  # rejected and found again: stays rejected
    assert set(joined.added.values()) == {1, 2, 3}  # 4 is the rejected cell, 2 was trimmed
    assert joined.kept == {2, 3}
    assert not set(joined.added) & joined.kept
    for new, old in joined.added.items():
        assert not ((joined.labels == new) & (proposal != old)).any()


def test_without_decisions_the_proposal_is_taken_as_it_is(discs):
    current = discs((60, 60), [(20, 20, 9)])
    proposal = discs((60, 60), [(40, 40, 9), (20, 20, 9)])
    joined = reconcile(current, proposal, keep=[], rejected=[])
    assert np.array_equal(joined.labels, proposal)


def test_a_table_after_many_changes_is_as_if_made_at_once(rng, discs):
    """Tables share columns with the tables before them; what is remembered of a column goes with it."""
    rows = _table(discs((60, 60), [(15, 15, 5), (15, 45, 5), (45, 15, 5), (45, 45, 5)])).frame
    past = [(CellTable(rows), rows.copy())]
    for number in range(120):
        table, expected = past[max(0, len(past) - int(rng.integers(1, 4)))]  # sometimes on from an older one
        ids = np.sort(rng.choice(8, int(rng.integers(1, 3)), replace=False)) + 1
        if rng.random() < 0.5:
            ids += 10 * (number + 1)  # behind all that are there
        if rng.random() < 0.3:
            table, expected = table.without(ids), expected.drop(index=ids, errors="ignore")
        else:
            new = rows.iloc[rng.integers(0, 4, len(ids))].set_index(pd.Index(ids, name="cell_id")).copy()
            new["verdict"] = rng.choice(["accepted", "rejected", "proposed"], len(ids))
            new["image"], new["score"] = rng.integers(1, 4, len(ids)), rng.choice([np.nan, 0.5], len(ids))
            table = table.with_rows(new)
            expected = pd.concat([expected.drop(index=ids, errors="ignore"), new]).sort_index()
        past.append((table, expected))
        pd.testing.assert_frame_equal(table.frame, expected)
        numbers, words = table.coded("verdict")
        assert [words[number] for number in numbers] == expected["verdict"].tolist()
        assert set(words) == set(expected["verdict"])
        assert np.array_equal(table.where("verdict", "rejected"), expected["verdict"] == "rejected")
        assert all(table.of_image(image).equals(expected[expected["image"] == image]) for image in (1, 2, 3))
    for table, expected in past:
        pd.testing.assert_frame_equal(table.frame, expected)


def test_cells_are_put_behind_those_that_are_there_without_copying_them(discs):
    rows = _table(discs((50, 50), [(20, 20, 5), (40, 40, 5)])).frame
    tables = [CellTable(rows)]
    for number in range(1, 40):
        tables.append(tables[-1].with_rows(rows.set_index(rows.index + 2 * number)))
    shared = [np.shares_memory(one.frame["area"], two.frame["area"]) for one, two in pairwise(tables)]
    assert sum(not each for each in shared) < 12
    assert [len(table) for table in tables] == [2 * number for number in range(1, 41)]


def test_a_verdict_copies_one_column(discs):
    table = _table(discs((50, 50), [(20, 20, 5), (40, 40, 5)]))
    first = table.with_rows(table.frame.loc[[1]].assign(verdict="accepted"))
    later = first.with_rows(first.frame.loc[[2]].assign(verdict="rejected"))
    copied = [name for name in COLUMNS if not np.shares_memory(first.frame[name], later.frame[name])]
    assert copied == ["verdict"]
    assert later.frame.index is first.frame.index
