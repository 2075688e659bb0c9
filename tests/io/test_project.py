import errno
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.cells import CellTable
from cell_curator.core.jobs import UserError
from cell_curator.core.measure import measure
from cell_curator.core.regions import HOLDOUT, REVIEWED, Region
from cell_curator.io import label_store
from cell_curator.io.project import Change, Project
from cell_curator.io.records import ImageRecord, Round, StoredEmbedding


def _record(image_id=1, shape=(1, 60, 70), name="control/a"):
    return ImageRecord(image_id, name, Path("/data/a.tif"), "control", ("DNA",), 0.65, shape)


def _rows(project, labels, image_id=1):
    rows = measure(labels, np.ones(labels.shape)).assign(image=image_id, condition="control")
    rows["label"] = rows.index
    return CellTable(rows.set_index(pd.Index(project.reserve_cell_ids(len(rows))))).frame


@pytest.fixture
def project(tmp_path):
    project = Project.create(tmp_path / "study.curator")
    yield project
    project.close()


@pytest.fixture
def filled(project, discs):
    """A project with one image of two cells."""
    labels = discs((60, 70), [(20, 20, 8), (40, 50, 9)])
    project.write(Change(images=(_record(),)))
    project.write(Change("segment", cells=_rows(project, labels), labels={1: labels}))
    return project


def _reopened(project):
    project.close()
    return Project.open(project.folder)


def test_everything_comes_back_after_reopening(filled, discs):
    before = filled.cells().frame
    again = _reopened(filled)
    try:
        pd.testing.assert_frame_equal(again.cells().frame, before)
        (record,) = again.images()
        assert record.channel_names == ("DNA",)
        assert record.shape == (1, 60, 70)
        assert np.array_equal(again.labels(record), discs((60, 70), [(20, 20, 8), (40, 50, 9)]))
        assert again.journal()["action"].tolist() == ["segment"]
    finally:
        again.close()


def test_an_image_without_cells_has_empty_labels(project):
    project.write(Change(images=(_record(),)))
    labels = project.labels(project.images()[0])
    assert labels.shape == (60, 70)
    assert not labels.any()


def test_ids_that_no_change_used_are_given_again_after_a_crash(filled):
    used = filled.cells().frame.index.max()
    first = filled.reserve_cell_ids(3).tolist()
    assert filled.reserve_cell_ids(2).tolist() == [first[-1] + 1, first[-1] + 2]
    again = _reopened(filled)
    assert again.reserve_cell_ids(3).tolist() == first == list(range(used + 1, used + 4))
    again.write(Change(settings={"x": 1}))
    last = _reopened(again)
    assert last.reserve_cell_ids(1)[0] == first[-1] + 1
    last.close()


def test_ids_are_never_used_again(filled):
    ids = set(filled.cells().frame.index)
    filled.write(Change(removed=tuple(ids)))
    again = _reopened(filled)
    assert not ids & set(again.reserve_cell_ids(5).tolist())
    again.close()


def test_settings_and_embedding_round_trip(filled, rng):
    latent = rng.random((2, 16)).astype(np.float32)
    stored = StoredEmbedding(np.array([1, 2]), np.array([1, 1]), latent, latent[:, :2], {"split": "by image"}, {})
    filled.write(Change(settings={"Recipe": {"version": 1}}, embedding=stored, clustering={"names": {"0": "round"}}))
    again = _reopened(filled)
    found = again.embedding()
    assert np.array_equal(found.latent, latent)
    assert found.detail == {"split": "by image"}
    assert found.cluster_names == {0: "round"}
    assert again.settings() == {"Recipe": {"version": 1}}
    again.close()


def test_labels_are_ngff_that_others_can_read(filled):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    folder = filled.folder / "labels.zarr" / "labels"
    nodes = list(Reader(parse_url(str(folder)))())
    arrays = [node.data[0] for node in nodes if node.data]
    assert len(arrays) == 1
    assert np.array_equal(np.asarray(arrays[0]), filled.labels(filled.images()[0]))


def test_a_failed_write_changes_nothing(filled, monkeypatch, discs):
    before, labels = filled.cells().frame, filled.labels(filled.images()[0])

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(label_store.os, "rename", full)
    with pytest.raises(UserError, match="disk is full"):
        filled.write(Change("paint", removed=(1,), labels={1: np.zeros((60, 70), np.int32)}))
    monkeypatch.undo()
    again = _reopened(filled)
    pd.testing.assert_frame_equal(again.cells().frame, before)
    assert np.array_equal(again.labels(again.images()[0]), labels)
    again.close()


def test_a_full_disk_in_the_database_is_said_and_nothing_is_lost(filled, rng):
    before = filled.cells().frame
    pages = filled._connection.execute("PRAGMA page_count").fetchone()[0]
    filled._connection.execute(f"PRAGMA max_page_count = {pages}")
    note = "x" * 200_000
    with pytest.raises(UserError, match="disk is full"):
        filled.write(Change("note", {"text": note}, removed=(1,)))
    pd.testing.assert_frame_equal(filled.cells().frame, before)


def test_old_pixels_are_thrown_away_once_the_new_ones_count(filled):
    for value in (1, 2, 3):
        filled.write(Change(labels={1: np.full((60, 70), value, np.int32)}))
    kept = [p.name for p in (filled.folder / "labels.zarr" / "labels").iterdir() if p.is_dir()]
    assert kept == ["000001-r4"]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "not a project"),
        (lambda folder: (folder / "project.sqlite").write_bytes(b"hello, I am a text" * 100), "damaged or not ours"),
        (lambda folder: _foreign(folder, "CREATE TABLE t (a)"), "another program"),
        (lambda folder: _foreign(folder, "PRAGMA application_id = 1128614988; PRAGMA user_version = 99"), "newer"),
    ],
    ids=["empty folder", "no database", "foreign database", "newer version"],
)
def test_a_folder_that_is_no_project_of_ours_is_said_in_words(tmp_path, prepare, message):
    prepare(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if not p.name.endswith(("-wal", "-shm"))}
    with pytest.raises(UserError, match=message):
        Project.open(tmp_path)
    assert before == {p.name: p.read_bytes() for p in tmp_path.iterdir() if not p.name.endswith(("-wal", "-shm"))}


def _foreign(folder, script):
    connection = sqlite3.connect(folder / "project.sqlite")
    connection.executescript(script)
    connection.close()


def test_a_project_is_never_made_over_other_files(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not an empty folder"):
        Project.create(tmp_path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said_in_words(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        Project.create(tmp_path / "p")


_PAINTER = """
import sys
import numpy as np
from contextlib import closing
from pathlib import Path
from cell_curator.io.project import Change, Project
project = Project.open(Path(sys.argv[1]))
value = 1
while True:
    project.write(Change("paint", {"value": value}, labels={1: np.full((60, 70), value, np.int32)}))
    print(value, flush=True)
    value += 1
"""


def test_a_killed_process_leaves_the_last_finished_action(filled, rng):
    folder = filled.folder
    filled.close()
    for _ in range(4):
        painter = subprocess.Popen([sys.executable, "-c", _PAINTER, str(folder)], stdout=subprocess.PIPE, text=True)
        said = 0
        for line in painter.stdout:
            said = int(line)
            if said >= 3 and rng.random() < 0.3:
                os.kill(painter.pid, signal.SIGKILL)
                break
        painter.wait()
        said = max([said, *(int(line) for line in painter.stdout if line.endswith("\n"))])
        painter.stdout.close()
        again = Project.open(folder)
        labels = again.labels(again.images()[0])
        last = again.journal().iloc[-1]["detail"]["value"]
        again.close()
        assert (labels == last).all()
        assert last >= said


def test_marked_regions_and_rounds_come_back(filled):
    part = Region(1, 1, REVIEWED, ((2.0, 3.0), (40.5, 3.0), (40.5, 50.0)))
    filled.write(Change("review", regions=(part, Region(2, 1, HOLDOUT))))
    filled.write(Change("round", round=Round(1, "2026-01-01", "round-01", {"minutes": 2.5})))
    again = _reopened(filled)
    try:
        assert again.regions() == (part, Region(2, 1, HOLDOUT))
        assert again.rounds() == (Round(1, "2026-01-01", "round-01", {"minutes": 2.5}),)
        again.write(Change(removed_regions=(1,)))
        assert again.regions() == (Region(2, 1, HOLDOUT),)
        again.write(Change(removed_images=(1,)))
        assert again.regions() == ()
    finally:
        again.close()


def test_a_project_of_the_first_version_is_brought_up_to_date(filled):
    since = ["saturated", "surround", "contrast", "texture_contrast", "offset", "edge", "edge_share", "edge_weakest"]
    since += ["contact", "seam_dip", "seam_bend", "joint_solidity", "joint_area", "neck", "valley"]
    since += ["overlapped", "pieces", "map_error", "map_isolation", "corrected"]
    since += ["elsewhere", "elsewhere_texture", "lopsided", "core", "halo", "halves", "two_tone", "fold", "grain"]
    since += ["type_probability"]
    before = filled.cells().frame.assign(**dict.fromkeys(since, np.nan), cell_type="")
    filled.close()
    file = filled.folder / "project.sqlite"
    with closing(sqlite3.connect(file)) as old, old:
        old.executescript(
            "".join(f"ALTER TABLE cells DROP COLUMN {name};" for name in (*since, "cell_type"))
            + "DROP TABLE regions; DROP TABLE rounds; ALTER TABLE images DROP COLUMN axis;"
            "ALTER TABLE images DROP COLUMN plane; ALTER TABLE images DROP COLUMN made_from; PRAGMA user_version = 1;"
        )
    again = Project.open(filled.folder)
    try:
        pd.testing.assert_frame_equal(again.cells().frame, before)
        again.write(Change(cells=before.assign(saturated=0.5, flags="bright")))
        assert again.cells().frame["saturated"].eq(0.5).all()
        assert again.cells().frame["flags"].eq("bright").all()
        assert (again.images()[0].axis, again.images()[0].plane) == ("", 0)
        assert again.regions() == again.rounds() == ()
    finally:
        again.close()
    with closing(sqlite3.connect(filled.folder / "project.v1.sqlite")) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (1,)
        assert kept.execute("SELECT count(*) FROM cells").fetchone() == (2,)
