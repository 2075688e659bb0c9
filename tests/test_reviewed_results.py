"""How clean a set is, as it leaves the program: review.json, images.csv, the report, the commands."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from cell_curator import reviewing
from cell_curator.cli.frame import app
from cell_curator.core.clean import CleanParameters
from cell_curator.core.jobs import drive
from cell_curator.core.measure import MEASURED
from cell_curator.doubtful_images import look_at_images
from cell_curator.exchange import export
from cell_curator.io.formats.registry import WRITTEN, by_name
from cell_curator.io.project import Change
from cell_curator.remeasuring import remeasure
from cell_curator.results import PARTS, save_report, save_tables
from small_project import execute, session  # noqa: F401


def invoke(capsys, *arguments):
    """Exit code, the JSON answer and standard error of a command."""
    code = app([*map(str, arguments), "--json"], standalone_mode=False) or 0
    out, err = capsys.readouterr()
    return code, json.loads(out.splitlines()[-1]), err


@pytest.fixture
def audited(session):  # noqa: F811
    """A sample of six of eight cells, of which four are judged and one is bad."""
    begun = reviewing.start_audit(session, 6, seed=3)
    for cell in begun.cells[:4]:
        reviewing.audit_verdict(session, cell, cell == begun.cells[0])
    return session


def test_what_an_audit_gave_lies_beside_the_cells(audited, tmp_path):
    save_tables(audited, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "review.json").read_text())
    audit = kept["audit"]
    assert (audit["seed"], audit["drawn"], audit["judged"], audit["bad"], audit["population"]) == (3, 6, 4, 1, 8)
    assert [audit["low"], audit["high"]] == pytest.approx(reviewing.interval(1, 4))
    assert [cell["bad"] for cell in audit["cells"]] == [True, False, False, False, None, None]
    cells = pd.read_csv(tmp_path / "out" / "cells.csv").set_index("cell_id")
    for cell in audit["cells"]:
        assert cells.loc[cell["cell_id"], ["image", "label"]].tolist() == [cell["image"], cell["label"]]
    assert kept["funnel"][0] == {"name": "found", "left": 8, "removed": 0}
    assert kept["images_that_look_wrong"] is None
    drive(export(audited, tmp_path / "exports", by_name("csv", WRITTEN)))
    assert json.loads((tmp_path / "exports" / "review.json").read_text()) == kept
    anndata = pytest.importorskip("anndata")
    drive(export(audited, tmp_path / "cells.h5ad", by_name("anndata", WRITTEN)))
    assert json.loads(anndata.read_h5ad(tmp_path / "cells.h5ad").uns["review"]) == kept


def test_tables_say_which_cells_count(session, tmp_path):  # noqa: F811
    flagged, kept, gone = session.cells.frame.index[:3].tolist()
    session.commit(Change(cells=session.cells.frame.loc[[flagged, kept]].assign(score=0.9, verdict="proposed")))
    session.set_verdict([kept], "accepted")
    session.set_verdict([gone], "rejected")
    session.put(CleanParameters(leave_out=True))
    save_tables(session, tmp_path)
    table = pd.read_csv(tmp_path / "cells.csv", index_col="cell_id")
    assert set(table.index[~table["counts"]]) == {flagged, gone}
    assert list(table.columns[-5:]) == ["counts", "score", "flags", "verdict", "cluster"]
    drive(export(session, tmp_path / "again", by_name("csv", WRITTEN)))
    again = pd.read_csv(tmp_path / "again" / "cells.csv", index_col="cell_id")
    assert again["counts"].equals(table["counts"])


def test_a_cell_that_is_gone_keeps_its_place_in_the_record(audited, tmp_path):
    cell = reviewing.audit(audited).cells[0]
    row = audited.row(cell)
    labels = audited.labels(int(row["image"]))
    audited.set_labels(int(row["image"]), np.where(labels == row["label"], 0, labels))
    first = reviewing.record(audited)["audit"]["cells"][0]
    assert first == {"cell_id": cell, "image": None, "label": None, "bad": True}
    json.dumps(reviewing.record(audited), allow_nan=False)


def test_the_report_says_how_clean_the_set_is(audited, tmp_path):
    drive(look_at_images(audited))
    audited.put(CleanParameters(leave_out=True))
    text = drive(save_report(audited, tmp_path / "report.html")).read_text()
    assert "How clean the set is" in text
    assert "1 of 4 cells are bad" in text
    assert "images look wrong." in text
    assert "Leave out flagged cells" in text  # among the parameters
    assert {"CleanParameters", "ImageFlagParameters"} <= {model.__name__ for _, model in PARTS}


def test_commands_draw_and_read_an_audit(session, capsys):  # noqa: F811
    folder = session.folder
    session.close()
    code, answer, _ = invoke(capsys, "audit", folder)
    assert (code, answer["audit"]) == (0, None)
    assert answer["funnel"][0]["left"] == 8
    code, first, _ = invoke(capsys, "audit", folder, "--start", "5", "--seed", "7", "--bound", "1")
    assert (first["audit"]["seed"], first["audit"]["drawn"], first["audit"]["judged"]) == (7, 5, 0)
    assert first["audit"]["more"] == 368  # (1 - 0.01)^368 is the first below 2.5 %
    _, again, _ = invoke(capsys, "audit", folder, "--start", "5", "--seed", "7")
    assert again["audit"]["cells"] == first["audit"]["cells"]
    _, other, _ = invoke(capsys, "audit", folder, "--start", "5", "--seed", "8")
    assert other["audit"]["cells"] != first["audit"]["cells"]
    code, answer, _ = invoke(capsys, "audit", folder, "--start", "0")
    assert code == 2


def test_outliers_also_looks_at_images_and_counts(session, capsys):  # noqa: F811
    folder = session.folder
    session.images[1].path.unlink()
    session.close()
    code, answer, _ = invoke(capsys, "outliers", folder, "--leave-out-flagged", "--leave-out-above", "0.3")
    assert code == 0
    assert answer["unread"] == ["treated/treated"]
    table = pd.read_csv(folder / "images.csv", keep_default_na=False)
    assert table["image"].tolist() == ["control/control", "treated/treated"]
    assert table["flags"].tolist()[1] == "unread"
    assert "no longer there" in table["reasons"][1]
    assert answer["funnel"][-1]["name"] == "kept"
    (folder / "images.csv").unlink()
    _, answer, _ = invoke(capsys, "outliers", folder, "--no-images")
    assert "images" not in answer
    assert not (folder / "images.csv").exists()


def test_relocate_finds_images_or_says_where_it_looked(session, capsys, tmp_path):  # noqa: F811
    folder = session.folder
    session.close()
    code, answer, _ = invoke(capsys, "relocate", folder, tmp_path)
    assert (code, answer["missing"]) == (0, 0)
    shutil.move(tmp_path / "images", tmp_path / "moved")
    (tmp_path / "moved" / "treated" / "treated.tif").rename(tmp_path / "elsewhere.tif")
    code, answer, err = invoke(capsys, "relocate", folder, tmp_path / "moved")
    assert (code, len(answer["found"]), answer["missing"]) == (0, 1, 1)
    assert "treated.tif: is not in" in err
    code, answer, _ = invoke(capsys, "relocate", folder, tmp_path / "moved")
    assert code == 2
    assert "treated.tif: is not in" in answer["error"]


def test_cells_of_an_older_project_are_measured_before_they_are_scored(session):  # noqa: F811
    frame = session.cells.frame
    ids = frame.index[frame["image"] == session.images[0].image_id]
    since = ["saturated", "contrast", "edge", "grain"]
    old = frame.copy()
    old.loc[ids, since] = np.nan
    session.commit(Change(cells=old))
    drive(session.score_outliers())
    now = session.cells.frame
    pd.testing.assert_frame_equal(now[list(MEASURED)], frame[list(MEASURED)])
    assert now["score"].notna().all()
    assert (now[["revision", "verdict"]] == frame[["revision", "verdict"]]).all(axis=None)
    assert session.project.journal()["action"].tolist()[-2:] == ["measure", "score"]
    drive(session.score_outliers())
    assert session.project.journal()["action"].tolist().count("measure") == 1


def test_older_cells_of_an_image_that_is_gone_stay_as_they_are(session):  # noqa: F811
    frame = session.cells.frame
    session.commit(Change(cells=frame.assign(grain=np.nan)))
    session.images[0].path.unlink()
    session._pixels = type(session._pixels)()
    assert drive(remeasure(session)) == (session.images[0].name,)
    assert session.cells.frame["grain"].isna().sum() == 4
    drive(session.score_outliers())
    assert session.cells.frame["score"].notna().all()
