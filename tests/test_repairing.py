"""A damaged project is made usable again; what was lost is said, and nothing that can be read is."""

import sqlite3

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.repairing import repair
from cell_curator.session import Session
from small_project import execute, session  # noqa: F401


@pytest.fixture
def folder(session):  # noqa: F811
    """A closed project of two images with four cells each, of which two were decided."""
    session.set_verdict(session.cells.frame.index[:2], "accepted")
    session.close()
    return session.folder


def database(folder):
    return sqlite3.connect(folder / "project.sqlite")


def content(folder):
    with database(folder) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("cells", "images", "journal")
        }


def page_of(folder, table):
    """First byte and length of the root page of a table."""
    with database(folder) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    return (root - 1) * size, size


def spoil(folder, table):
    start, size = page_of(folder, table)
    file = folder / "project.sqlite"
    raw = bytearray(file.read_bytes())
    raw[start : start + size] = np.random.default_rng(0).bytes(size)
    file.write_bytes(raw)


def test_a_whole_project_stays_as_it_is(folder):
    before = content(folder)
    done = drive(repair(folder))
    assert (done.backup, done.notes, done.cells) == (None, (), 8)
    assert content(folder) == before


def test_a_table_that_cannot_be_read_costs_nothing_else(folder):
    before = content(folder)
    spoil(folder, "journal")
    with pytest.raises(UserError, match="cell-curator repair"):
        Session.open(folder)
    done = drive(repair(folder))
    assert done.backup.is_file()
    assert any(note.startswith("journal: ") for note in done.notes)
    after = content(folder)
    assert (after["cells"], after["images"]) == (before["cells"], before["images"])
    again = Session.open(folder)
    assert (again.cells.frame["verdict"] == "accepted").sum() == 2
    again.close()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_project_of_an_older_version_keeps_its_cells(folder, damaged):
    with database(folder) as connection:
        connection.executescript("ALTER TABLE images DROP COLUMN made_from; PRAGMA user_version = 4;")
    if damaged:
        spoil(folder, "journal")
    done = drive(repair(folder))
    assert (done.backup is not None) == damaged
    opened = Session.open(folder)
    assert opened.cells.frame["verdict"].value_counts().to_dict() == {"edited": 6, "accepted": 2}
    opened.close()
    assert not list(folder.glob("project.copy*"))


def test_cells_whose_rows_are_lost_are_measured_again(folder):
    with database(folder) as connection:
        areas = dict(connection.execute("SELECT cell_id, area FROM cells").fetchall())
    spoil(folder, "cells")
    done = drive(repair(folder))
    assert sum("4 cells were measured again" in note for note in done.notes) == 2
    opened = Session.open(folder)
    frame = opened.cells.frame
    assert sorted(frame["area"]) == sorted(areas.values())
    assert set(frame["verdict"]) == {"edited"}
    assert frame.index.min() > max(areas)  # no id is given twice
    opened.close()


def test_label_images_that_cannot_be_read_are_said(folder):
    (array,) = (folder / "labels.zarr" / "labels").glob("000001-r*")
    for chunk in (array / "0" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"nothing")
    done = drive(repair(folder))
    assert any("its cells cannot be read" in note for note in done.notes)
    opened = Session.open(folder)
    first, second = opened.images
    assert opened.labels(first.image_id).max() == 0
    assert len(opened.cells.of_image(first.image_id)) == 0
    assert len(opened.cells.of_image(second.image_id)) == 4
    opened.close()


def test_where_nothing_can_be_read_nothing_is_changed(folder):
    (folder / "project.sqlite").write_bytes(b"nothing at all")
    with pytest.raises(UserError, match="nothing can be read"):
        drive(repair(folder))
    assert (folder / "project.sqlite").read_bytes() == b"nothing at all"


def test_a_project_that_is_open_is_left_alone(folder):
    opened = Session.open(folder)
    with pytest.raises(UserError, match="is open elsewhere"):
        drive(repair(folder))
    opened.close()
