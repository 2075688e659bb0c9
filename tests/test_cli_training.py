"""The commands that teach a model, on synthetic scenes with the bundled model."""

from __future__ import annotations

import numpy as np
import pytest

from cell_curator.core.jobs import drive
from cell_curator.core.recipe import PRESETS
from cell_curator.core.regions import HOLDOUT, REVIEWED
from cell_curator.io.images import write_tiff
from cell_curator.io.labels import read_labels, write_labels
from cell_curator.marking import mark, unmark
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.session import Session
from test_cli import invoke, refused


def said(*arguments):
    """What a command answers with ``--json``."""
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return result.data


SHORT = ("--epochs", 1, "--batch-size", 2, "--tile", 96, "--images-per-epoch", 2, "--min-train-masks", 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three images and their truth."""
    root = tmp_path_factory.mktemp("train")
    for kind in ("images", "labels"):
        (root / kind).mkdir()
    for seed in range(3):
        scene = nuclei_on_grooves(seed, size=160, count=9)
        write_tiff(root / "images" / f"field-{seed}.tif", scene.image)
        write_labels(root / "labels" / f"field-{seed}.tif", scene.labels)
    return root


@pytest.fixture
def project(folders, tmp_path):
    """The same as a project, reviewed, one image locked away."""
    with_marks = Session.create(tmp_path / "study.curator")
    with_marks.put(PRESETS["Plain"])
    drive(with_marks.add_images(folders / "images"))
    for record in with_marks.images:
        with_marks.set_labels(record.image_id, read_labels(folders / "labels" / f"{record.name}.tif"))
        mark(with_marks, record.image_id, REVIEWED)
    mark(with_marks, 3, HOLDOUT)
    with_marks.close()
    return tmp_path / "study.curator"


@pytest.mark.slow
def test_a_trained_folder_is_a_model_for_segment(folders, tmp_path):
    data = said("train", folders / "images", folders / "labels", tmp_path / "model", *SHORT, "--holdout", 0.3)
    learned, held = ({one["image"] for one in data[part]} for part in ("examples", "holdout"))
    assert learned | held == {"field-0", "field-1", "field-2"}
    assert len(held) == data["scores"]["images"] == 1
    assert data["parent"] == "starter-nuclei"
    found = said(
        "segment", folders / "images" / "field-0.tif", tmp_path / "out", "--model", tmp_path / "model", "--diameter", 40
    )
    assert found["images"] == 1
    assert "finished model" in refused("train", folders / "images", folders / "labels", tmp_path / "model")


def test_labels_without_images_are_refused(folders, tmp_path):
    (tmp_path / "labels").mkdir()
    write_labels(tmp_path / "labels" / "other.tif", np.ones((8, 8), np.int32))
    assert "names of the images" in refused("train", folders / "images", tmp_path / "labels", tmp_path / "model")


def test_a_round_from_the_command_line(project, tmp_path):
    assert said("rounds", "check", project)["findings"]
    data = said("rounds", "start", project, *SHORT)
    assert [row["title"] for row in data["rounds"]][1:] == ["Round 1"]
    assert [row["in_use"] for row in said("rounds", "use", project, 1)["rounds"]] == [False, True]
    assert [row["in_use"] for row in said("rounds", "back", project)["rounds"]] == [True, False]
    assert "nothing to go back to" in refused("rounds", "back", project)
    assert "no round 7" in refused("rounds", "use", project, 7)


@pytest.mark.slow
def test_a_bundle_goes_away_and_comes_back(project, tmp_path):
    packed = said("rounds", "pack", project, tmp_path / "bundle.zip", *SHORT)
    trained = said("rounds", "train", packed["file"], tmp_path / "model")
    assert trained["parameters"]["epochs"] == 1
    rows = said("rounds", "adopt", project, tmp_path / "model")["rounds"]
    assert rows[-1]["ap50"] == trained["scores"]["ap50"]


def test_doubtful_places_of_what_is_not_reviewed(project):
    assert "all of these images are reviewed" in refused("rounds", "doubtful", project)
    session = Session.open(project)
    unmark(session, 2, REVIEWED)
    session.close()
    places = said("rounds", "doubtful", project)["places"]
    assert {place["image"] for place in places} == {"field-1"}
