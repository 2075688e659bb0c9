"""The arrays beside the database say what the database says, or are not believed."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.cells import CellTable
from cell_curator.io import snapshot
from cell_curator.io.project import Change, Project


@pytest.fixture(autouse=True)
def _kept_from_one_cell_on(monkeypatch):
    monkeypatch.setattr(snapshot, "FEWEST", 1)


def rows(ids, rng, image=1):
    """Rows with all that a table may hold: text, none, limits of numbers."""
    frame = CellTable().frame.reindex(pd.Index(ids, name="cell_id"))
    for name, kind in frame.dtypes.items():
        if kind == "float64":
            frame[name] = rng.choice([np.nan, 0.1, -1e300, np.inf, 3.0], len(ids))
    words = ["", "µ “x”\0; 'y'", "two\nlines"]
    known = {"verdict": rng.choice(["proposed", "accepted"], len(ids)), "flags": rng.choice(words, len(ids))}
    frame = frame.assign(image=image, label=ids, revision=1, cluster=-1, condition="c", cell_type="", **known)
    numbers = dict.fromkeys(("top", "left", "bottom", "right", "touches_border"), 0)
    return CellTable(frame.assign(**numbers)).frame


@pytest.fixture
def project(tmp_path, rng):
    project = Project.create(tmp_path / "study.curator")
    project.write(Change(cells=rows(range(1, 41), rng)))
    yield project
    project.close()


def slowly(folder):
    """The table as the database alone has it."""
    with closing(sqlite3.connect(folder / "project.sqlite")) as connection:
        found = pd.read_sql_query("SELECT * FROM cells ORDER BY cell_id", connection, index_col="cell_id")
    return CellTable(found).frame


def reopened(project, **how):
    project.close(**how)
    return Project.open(project.folder)


def test_what_is_read_fast_is_what_is_stored(project, rng, monkeypatch):
    read, selected = [], snapshot._selected
    monkeypatch.setattr(snapshot, "_selected", lambda c, query: read.append(query) or selected(c, query))
    table = project.cells()
    for step in range(12):
        ids = np.sort(rng.choice(np.arange(1, 60), 3, replace=False))
        new, gone = rows(ids, rng, image=int(rng.integers(1, 4))), tuple(rng.integers(1, 60, 2).tolist())
        project.write(Change(cells=new, removed=gone))  # what goes, goes first
        table = table.without(gone).with_rows(new)
        expected = slowly(project.folder)
        pd.testing.assert_frame_equal(table.frame, expected)
        project = reopened(project, **({} if step % 3 else {"cells": table}))
        read.clear()
        pd.testing.assert_frame_equal(project.cells().frame, expected)
        assert not any("FROM cells ORDER" in query for query in read), "everything was read from the database"
        for image in range(1, 4):
            assert table.of_image(image).equals(expected[expected["image"] == image])
    project.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE cells SET area = 7 WHERE cell_id = 3",
        "UPDATE cells SET cell_id = 99 WHERE cell_id = 3",
        "DELETE FROM cells WHERE cell_id > 20",
        "INSERT INTO cells SELECT 77, * FROM (SELECT {} FROM cells WHERE cell_id = 5)",
        "DROP TRIGGER cells_updated; UPDATE cells SET area = 7 WHERE cell_id = 3",
    ],
)
def test_what_another_program_writes_is_seen(project, change):
    names = ", ".join(f'"{name}"' for name in project.cells().frame)
    project = reopened(project)
    with closing(sqlite3.connect(project.folder / "project.sqlite")) as other, other:
        other.executescript(change.format(names))
    pd.testing.assert_frame_equal(project.cells().frame, slowly(project.folder))
    project.close()


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "other"])
def test_arrays_that_are_not_whole_are_passed_over_and_written_anew(project, rng, damage):
    expected, file = project.cells().frame, project.folder / snapshot.FILE
    raw = bytearray(file.read_bytes())
    at = raw.index(expected["y"].to_numpy().tobytes())
    raw[at + 9] ^= 1
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes({"cut": raw[: len(raw) // 2], "flipped": raw, "other": b"PK nonsense"}[damage])
    project = reopened(project)
    pd.testing.assert_frame_equal(project.cells().frame, expected)
    found = snapshot.read_cells(project._connection, project.folder)
    pd.testing.assert_frame_equal(found[0], expected)
    assert found[1]
    project.close()


def test_a_back_up_of_the_database_is_not_mixed_with_newer_arrays(project, tmp_path, rng):
    project.close()
    shutil.copy(project.folder / "project.sqlite", tmp_path / "old.sqlite")
    before = slowly(project.folder)
    project = Project.open(project.folder)
    project.write(Change(cells=rows(range(1, 41), rng)))
    project.close(project.cells())
    shutil.copy(tmp_path / "old.sqlite", project.folder / "project.sqlite")
    project = Project.open(project.folder)
    pd.testing.assert_frame_equal(project.cells().frame, before)
    project.close()


def test_small_projects_have_no_arrays(project, monkeypatch):
    monkeypatch.setattr(snapshot, "FEWEST", 41)
    project.close(project.cells())
    assert not (project.folder / snapshot.FILE).exists()


def test_a_full_disk_makes_opening_slower_and_nothing_else(project, monkeypatch):
    from cell_curator.core.jobs import UserError

    def full(*_):
        raise UserError("the disk is full")

    monkeypatch.setattr(snapshot, "write_atomic", full)
    assert len(project.cells()) == 40
    project = reopened(project, cells=project.cells())
    assert len(project.cells()) == 40
    project.close()
