"""One writes, the others look; and a damaged project says so."""

import os
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from cell_curator.core.jobs import UserError
from cell_curator.io.claim import claim
from cell_curator.io.project import Change, Project
from cell_curator.io.records import ImageRecord


@pytest.fixture
def folder(tmp_path):
    made = Project.create(tmp_path / "größe 1.curator")
    record = ImageRecord(1, "a", tmp_path / "a.tif", "control", ("grey",), None, (1, 20, 20))
    made.write(Change(images=(record,)))
    made.write(Change(labels={1: np.eye(20, dtype=np.int32)}))
    made.close()
    return made.folder


HOLD = """
import sys, time
from pathlib import Path
from cell_curator.io.project import Project
project = Project.open(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(folder):
    """Another process that has the project open."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_only_looks_and_is_told_why(folder, holder):
    second = Project.open(folder)
    assert "is open elsewhere (by " in second.read_only
    assert "\n" not in second.read_only
    assert second.labels(second.images()[0]).trace() == 20
    before = second.journal()
    for attempt in (lambda: second.write(Change(action="x")), lambda: second.reserve_cell_ids(1)):
        with pytest.raises(UserError, match="is open elsewhere"):
            attempt()
    assert second.journal().equals(before)
    second.close()


def test_a_killed_process_leaves_nothing_locked(folder, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert claim(folder).unclean
    again = Project.open(folder)
    assert again.read_only == ""
    again.write(Change(action="x"))
    again.close()
    assert not claim(folder).unclean


def test_the_one_that_looks_sees_what_the_other_wrote(folder):
    first = Project.open(folder)
    second = Project.open(folder)
    (record,) = second.images()
    first.write(Change(labels={1: np.full((20, 20), 3, np.int32)}))
    assert (second.labels(record) == 3).all()
    first.close()
    second.close()
    assert Project.open(folder).read_only == ""


def test_a_project_that_cannot_be_written_can_be_looked_at(folder, monkeypatch):
    def refused(path, flags, *rest):
        if str(path).endswith("project.lock"):
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest)

    opened = os.open
    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setattr(os, "access", lambda *_: False)
    looked = Project.open(folder)
    assert "copy the project" in looked.read_only
    assert len(looked.images()) == 1
    looked.close()


def test_an_older_format_is_not_changed_by_one_that_only_looks(folder, holder):
    with sqlite3.connect(folder / "project.sqlite") as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(UserError, match="older format 2"):
        Project.open(folder)


@pytest.mark.parametrize("at", [100, 4096, 8192])
def test_damage_is_said_when_the_project_is_opened(folder, at):
    file = folder / "project.sqlite"
    content = bytearray(file.read_bytes())
    content[at : at + 200] = b"\xff" * 200
    file.write_bytes(content)
    with pytest.raises(UserError, match="cell-curator repair"):
        Project.open(folder)
    assert file.read_bytes() == content
    assert claim(folder).refused == ""  # nobody is shut out by the attempt
