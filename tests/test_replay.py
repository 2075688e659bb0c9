"""The journal: what it lists, and a script of it that does the same work again."""

from __future__ import annotations

import ast
import json
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from cell_curator.cli import app
from cell_curator.core.jobs import drive
from cell_curator.core.regions import HOLDOUT, REVIEWED
from cell_curator.editing import edit
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.io.project import Change
from cell_curator.marking import mark, reshape, unmark
from cell_curator.replay import script
from cell_curator.session import Session
from small_project import execute, session  # noqa: F401


@pytest.fixture
def worked(session):  # noqa: F811
    """A project with some of everything in its journal; closed and opened once."""
    first, second = (record.image_id for record in session.images)
    session.put(SegmentParameters(diameter=14.0, flow_threshold=0.3))
    edit(session, first, "split", points=[(0, 48.123), (30, 47)])
    session.set_verdict([session.cell_at(first, 2), session.cell_at(second, 1)], "accepted")
    edit(session, first, "delete", labels=[1])
    session.undo()
    session.set_verdict([session.cell_at(first, 3)], "rejected")
    labels = session.labels(first)
    labels[58:62, 2:30] = 9
    session.set_labels(first, labels)
    edit(session, first, "grow", labels=[9, 3], px=2)
    session.undo()
    session.redo()
    drive(session.segment([second], (0, 0, 60, 80)))
    drive(session.score_outliers())
    session.set_condition([first], "drug 'x'")
    session.set_pixel_size([first], 0.65)
    mark(session, first, REVIEWED, [(0, 0), (0, 40), (30, 40)])
    mark(session, first, REVIEWED)
    session.undo()
    locked = mark(session, first, HOLDOUT, [(0, 0), (0, 40), (30, 40)])
    reshape(session, locked.region_id, [(5, 0), (5, 40), (30, 40)])
    mark(session, second, HOLDOUT)
    unmark(session, second, HOLDOUT)
    session.close()
    session = Session.open(session.folder)
    edit(session, second, "shrink", labels=[1])
    yield session
    session.close()


def _state(session):  # noqa: F811
    frame = session.cells.frame.reset_index(drop=True).drop(columns="image")
    return [session.labels(record.image_id) for record in session.images], frame


def test_the_script_does_the_same_work_on_a_fresh_project(worked, tmp_path):
    path = tmp_path / "again.py"
    result = CliRunner().invoke(app, ["journal", str(worked.folder), "--script", "--out", str(path), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["entries"] == len(worked.project.journal())
    subprocess.run([sys.executable, str(path), str(tmp_path / "again.curator")], check=True, timeout=200)
    again = Session.open(tmp_path / "again.curator")
    try:
        assert [(r.image_id, r.kind, r.corners) for r in again.regions()] == [
            (r.image_id, r.kind, r.corners) for r in worked.regions()
        ]
        told = [(r.name, r.condition, r.pixel_size_um) for r in worked.images]
        assert [(r.name, r.condition, r.pixel_size_um) for r in again.images] == told
        for mine, theirs in zip(_state(again)[0], _state(worked)[0], strict=True):
            np.testing.assert_array_equal(mine, theirs)
        now, before = _state(again)[1], _state(worked)[1]
        assert now[["label", "verdict", "revision", "condition"]].equals(
            before[["label", "verdict", "revision", "condition"]]
        )
        assert again.get(SegmentParameters) == worked.get(SegmentParameters)
        actions = worked.project.journal()["action"].tolist()
        assert [a for a in again.project.journal()["action"] if a != "settings"] == [
            a for a in actions if a != "settings"
        ]
    finally:
        again.close()


def test_the_list_tells_who_did_what_with_which_thresholds(session):  # noqa: F811
    edit(session, session.images[0].image_id, "split", points=[(0, 48), (30, 47)])
    session.undo()
    parameters = SegmentParameters(flow_threshold=0.3).model_dump(mode="json")
    session.commit(Change("segment", {"image": "control/control", **parameters}))
    result = CliRunner().invoke(app, ["journal", str(session.folder)])
    assert result.exit_code == 0, result.output
    for word in ("when (UTC)", "add image", "paint", "split", "undo", "segment"):
        assert word in result.stdout
    answer = json.loads(CliRunner().invoke(app, ["journal", str(session.folder), "--json"]).stdout.splitlines()[-1])
    segment = answer["entries"][-1]
    assert segment["detail"]["flow_threshold"] == 0.3
    assert segment["detail"]["model"] == SegmentParameters().model
    assert segment["time"].startswith("20")
    assert "pixels" not in str(answer)


def test_names_from_the_project_cannot_run_as_code(session):  # noqa: F811
    bad = "x'''\"\"\"\n__import__('os').abort()  # "
    session.commit(Change(bad, {"image": bad}))
    session.commit(Change("condition", {"images": [bad], "condition": bad}))
    session.commit(Change("add image", {"name": bad, "path": bad}))
    tree = ast.parse(script(session.project))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert called <= {"Replay", "work.add_image", "work.condition", "work.paint", "work.close"}


def test_a_folder_that_is_no_project_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["journal", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not a project" in result.stderr
