"""The commands: what they write, what they say, and how they refuse."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from cell_curator.cli import app
from cell_curator.cli.frame import follow
from cell_curator.core.jobs import Progress
from cell_curator.core.orientation import turn_labels
from cell_curator.core.recipe import Recipe, Rotate
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.io.images import read_image, write_tiff
from cell_curator.io.labels import read_labels, write_labels
from cell_curator.io.recipes import read_recipe, write_recipe
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.session import Session

QUICK = ("--latent", "2", "--steps", "3", "--map-method", "pca", "--clusters", "2", "--seed", "3")


def invoke(*arguments):
    """Run a command here; the answer of ``--json`` is parsed into ``.data``."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    lines = result.stdout.strip().splitlines()
    result.data = json.loads(lines[-1]) if "--json" in arguments else None
    return result


def refused(*arguments, code=2):
    """The one line with which a command refuses."""
    result = invoke(*arguments)
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    errors = [line for line in lines if line.startswith("cell-curator: ")]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    assert "Traceback" not in result.output
    return errors[0]


@pytest.fixture(scope="module")
def scenes():
    return {
        f"{condition}/{seed}": nuclei_on_grooves(seed, elongated=condition == "control", count=14, size=256)
        for condition in ("control", "mutant")
        for seed in (1, 2)
    }


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, scenes):
    """A folder with two conditions of two images each; never written to."""
    root = tmp_path_factory.mktemp("photographs")
    for name, scene in scenes.items():
        (root / name).parent.mkdir(exist_ok=True)
        write_tiff(root / f"{name}.tif", scene.image)
    return root


@pytest.fixture
def images(photographs, tmp_path):
    """An own copy of the folder of images."""
    return Path(shutil.copytree(photographs, tmp_path / "images"))


@pytest.fixture
def truth(scenes, tmp_path):
    for name, scene in scenes.items():
        path = tmp_path / "truth" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(path, scene.labels)
    return tmp_path / "truth"


def by_threshold(image, params, region=None):
    """Stands in for the network: everything bright is a cell."""
    yield Progress(0.5, "looking for cells")
    labels, count = ndimage.label(ndimage.gaussian_filter(image, 2) > 0.35)
    return Segmentation(labels.astype(np.int32), 20.0, False, np.zeros(count + 1, np.float32))


@contextmanager
def no_network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cell_curator.engines.segmenter.segment_image", by_threshold)
        patch.setattr("cell_curator.engines.batch.segment_image", by_threshold)
        yield


@pytest.fixture
def _no_network():
    with no_network():
        yield


@pytest.fixture(scope="module")
def finished(photographs, tmp_path_factory):
    """A project that ``run`` made, and its answer; do not change it."""
    folder = tmp_path_factory.mktemp("run") / "study.curator"
    with no_network():
        return folder, invoke("run", photographs, folder, *QUICK, "--json").data


@pytest.fixture
def project(finished, tmp_path):
    return Path(shutil.copytree(finished[0], tmp_path / "copy.curator"))


# ---------------------------------------------------------------------- the frame


def test_help_loads_neither_torch_nor_napari():
    code = (
        "import sys; sys.argv = ['cell-curator', 'run', '--help']\n"
        "from cell_curator.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print([name for name in ('torch', 'cellpose', 'napari', 'qtpy', 'umap') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "IMAGES" in done.stdout


@pytest.mark.parametrize(
    "command",
    ["run", "preprocess", "restore", "segment", "evaluate", "outliers", "embed", "export", "doctor", "models list"],
)
def test_every_command_takes_json_and_seed(command):
    result = invoke(*command.split(), "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
    assert "--seed" in result.stdout


def test_without_a_command_the_help_is_shown():
    result = invoke()
    assert result.exit_code == 0
    assert result.stdout.index("run ") < result.stdout.index("preprocess") < result.stdout.index("doctor")


def test_options_come_from_the_parameter_models():
    text = " ".join(invoke("embed", "--help").stdout.replace("│", " ").split())
    for option in ("--latent", "--beta", "--clusters", "--cluster-method", "--patch-size"):
        assert option in text
    assert "2 to 256; default 16" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["segmnt"], "segment"),
        (["segment"], "IMAGES"),
        (["segment", "a", "b", "--bogus"], "--bogus"),
        (["segment", "a", "b", "--diameter", "wide"], "--diameter"),
        (["segment", "a", "b", "--diameter", "-1"], "--diameter"),
        (["segment", "a", "b", "--polarity", "odd"], "auto"),
        (["embed", "a", "--model", "odd"], "cvae-mixed"),
        (["run", "a", "b", "--patch-size", "63"], "--patch-size"),
        (["run", "no/such/folder", "out"], "no/such/folder"),
        (["evaluate", "no/such", "no/such"], "no/such"),
        (["outliers", "no/such"], "no/such"),
    ],
)
def test_bad_arguments_are_one_line_that_names_them(arguments, says, tmp_path, monkeypatch, images):
    monkeypatch.chdir(tmp_path)
    images.rename(tmp_path / "a")
    assert says in refused(*arguments)


def test_with_json_an_error_is_an_object_too(tmp_path):
    result = invoke("preprocess", tmp_path / "none", tmp_path / "out", "--json")
    assert result.exit_code == 2
    assert "none" in result.data["error"]
    assert result.data["exit_code"] == 2


def test_an_interrupted_command_says_that_what_was_done_is_kept(images, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cell_curator.io.folders.prepare", interrupt)
    assert "kept" in refused("preprocess", images, tmp_path / "out", code=130)


def two_steps():
    yield Progress(0.25, "first [step]")
    yield Progress(0.75, "second [step]")
    return 7


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert follow(two_steps()) == 7
    assert "second [step]" in sys.stderr.getvalue()
    assert "%" in sys.stderr.getvalue()
    assert "\x1b[" in sys.stderr.getvalue()


def test_progress_is_plain_lines_elsewhere(capsys):
    assert follow(two_steps()) == 7
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == " 25% first [step]"


# ---------------------------------------------------------------------- preprocess


def test_preprocess_writes_turned_images_between_0_and_1(images, tmp_path, scenes):
    recipe = tmp_path / "turn.json"
    write_recipe(recipe, Recipe(rotate=Rotate(enabled=True, method="fixed", angle_deg=12)), {})
    answer = invoke("preprocess", images, tmp_path / "out", "--recipe", recipe, "--json")
    assert answer.data["images"] == 4
    assert answer.data["failed"] == 0
    told = json.loads((tmp_path / "out" / "recipe.json").read_text())
    assert set(told["images"]) == set(scenes)
    assert told["hash"] == read_recipe(recipe).hash
    for name in scenes:
        prepared = read_image(tmp_path / "out" / f"{name}.tif")
        assert prepared.dtype == np.float32
        assert prepared.shape == (1, 256, 256)
        assert 0 <= prepared.min() < 0.1
        assert 0.9 < prepared.max() <= 1
        assert told["images"][name] == {"angle_deg": 12, "shape": [256, 256]}
        assert (prepared[0, :10, :10] == 0).all()  # a corner from outside the original


def test_the_recipe_written_gives_the_same_images_again(images, tmp_path):
    invoke("preprocess", images, tmp_path / "one")
    invoke("preprocess", images, tmp_path / "two", "--recipe", tmp_path / "one" / "recipe.json")
    for path in (tmp_path / "one").rglob("*.tif"):
        assert (read_image(path) == read_image(tmp_path / "two" / path.relative_to(tmp_path / "one"))).all()


def test_a_single_image_will_do(images, tmp_path):
    assert invoke("preprocess", images / "control" / "1.tif", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "1.tif").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"sharpen": {}}', "sharpen"),
        ('{"recipe": {"version": 99}}', "newer"),
        ('{"clip": {"low_percent": -4}}', "clip.low_percent"),
        ('{"clip": {"colour": 1}}', "clip.colour"),
        ("[1, 2]", "not a recipe"),
        ("clip: 3", "not a JSON file"),
    ],
)
def test_a_bad_recipe_is_one_line_that_names_file_and_step(text, says, images, tmp_path):
    (tmp_path / "odd.json").write_text(text)
    line = refused("preprocess", images, tmp_path / "out", "--recipe", tmp_path / "odd.json")
    assert "odd.json" in line
    assert says in line


@pytest.mark.parametrize("command", ["preprocess", "segment"])
def test_originals_are_never_overwritten(command, images):
    before = {path: path.read_bytes() for path in images.rglob("*.tif")}
    assert "outside" in refused(command, images, images)
    assert "outside" in refused(command, images, images / "control" / "deeper")
    assert {path: path.read_bytes() for path in images.rglob("*.tif")} == before


def test_one_bad_file_does_not_stop_the_others(images, tmp_path):
    (images / "control" / "torn.tif").write_bytes(b"II*\0torn")
    answer = invoke("preprocess", images, tmp_path / "out", "--json")
    assert answer.exit_code == 0
    assert answer.data["images"] == 4
    assert answer.data["failed"] == 1
    assert answer.data["errors"][0]["file"].endswith("torn.tif")
    assert sum("torn.tif" in line for line in answer.stderr.splitlines()) == 1


def test_two_images_of_one_name_are_not_written_over_each_other(images, tmp_path, scenes):
    write_tiff(images / "control" / "1.tiff", scenes["control/2"].image)
    answer = invoke("preprocess", images, tmp_path / "out", "--json")
    assert answer.data["failed"] == 1
    assert "rename" in answer.data["errors"][0]["reason"]


def test_if_every_file_is_bad_the_input_is_bad(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.tif", "b.png"):
        (tmp_path / "in" / name).write_bytes(b"")
    line = refused("preprocess", tmp_path / "in", tmp_path / "out")
    assert "none of the 2" in line
    assert "empty" in line


def test_a_full_disk_fails_and_keeps_what_was_there(images, tmp_path, monkeypatch):
    invoke("preprocess", images, tmp_path / "out")
    kept = (tmp_path / "out" / "control" / "1.tif").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cell_curator.io.atomic.os.fsync", full)
    assert "disk is full" in refused("preprocess", images, tmp_path / "out", code=1)
    assert (tmp_path / "out" / "control" / "1.tif").read_bytes() == kept


def test_the_images_of_a_folder_are_turned_alike_if_that_is_wanted(images, tmp_path, scenes):
    write_tiff(images / "control" / "plain.tif", np.full((1, 64, 64), 9, np.uint8))
    (images / "control" / "torn.tif").write_bytes(b"II*\0torn")
    write_recipe(tmp_path / "vote.json", Recipe(rotate=Rotate(enabled=True, shared=True)), {})
    answer = invoke("preprocess", images, tmp_path / "out", "--recipe", tmp_path / "vote.json", "--json")
    assert answer.data["images"] == 5
    assert answer.data["failed"] == 1
    told = json.loads((tmp_path / "out" / "recipe.json").read_text())
    angles = {name: facts["angle_deg"] for name, facts in told["images"].items()}
    assert told["recipe"]["rotate"] == Rotate(enabled=True, shared=True).model_dump()
    assert angles["control/1"] == angles["control/2"] == angles["control/plain"]
    assert angles["mutant/1"] == angles["mutant/2"]
    assert all(abs(angles[name] - scenes[name].angle_deg) < 1 for name in scenes)


# ---------------------------------------------------------------------- restore


@pytest.fixture
def prepared(images, tmp_path):
    write_recipe(tmp_path / "turn.json", Recipe(rotate=Rotate(enabled=True, method="fixed", angle_deg=-33.3)), {})
    invoke("preprocess", images, tmp_path / "prepared", "--recipe", tmp_path / "turn.json")
    return tmp_path / "prepared"


def test_masks_drawn_on_prepared_images_lie_on_the_originals_again(prepared, tmp_path, scenes):
    for name, scene in scenes.items():
        path = tmp_path / "masks" / f"{name}_masks.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_labels(path, turn_labels(scene.labels, -33.3))
    answer = invoke("restore", tmp_path / "masks", prepared / "recipe.json", tmp_path / "raw", "--json")
    assert answer.data["masks"] == 4
    assert answer.data["failed"] == 0
    y, x = np.ogrid[:256, :256]
    middle = np.hypot(y - 127.5, x - 127.5) < 125  # what a turn does not take out of the frame
    for name, scene in scenes.items():
        labels = read_labels(tmp_path / "raw" / f"{name}.tif")
        assert (labels[middle] == scene.labels[middle]).all()


def test_masks_that_fit_no_prepared_image_are_named(prepared, tmp_path):
    masks = tmp_path / "masks"
    (masks / "control").mkdir(parents=True)
    write_labels(masks / "control" / "1.tif", np.eye(256, dtype=np.int32))
    write_labels(masks / "control" / "2.tif", np.eye(99, dtype=np.int32))
    write_labels(masks / "control" / "7.tif", np.eye(256, dtype=np.int32))
    answer = invoke("restore", masks, prepared / "recipe.json", tmp_path / "raw", "--json")
    assert answer.data["masks"] == 1
    reasons = {Path(error["file"]).name: error["reason"] for error in answer.data["errors"]}
    assert set(reasons) == {"2.tif", "7.tif"}
    assert "99 × 99" in reasons["2.tif"]
    assert "'control/7'" in reasons["7.tif"]
    assert not any("\n" in reason for reason in reasons.values())


@pytest.mark.parametrize(
    "text", ['{"clip": {}}', '{"images": {}}', '{"images": {"a": 3}}', "[]", '{"images": {"a": {"angle_deg": NaN}}}']
)
def test_restore_needs_the_recipe_beside_prepared_images(text, tmp_path):
    (tmp_path / "odd.json").write_text(text)
    (tmp_path / "masks").mkdir()
    write_labels(tmp_path / "masks" / "a.tif", np.eye(9, dtype=np.int32))
    line = refused("restore", tmp_path / "masks", tmp_path / "odd.json", tmp_path / "out")
    assert "odd.json" in line
    assert "recipe.json" in line


def test_restore_never_writes_over_the_masks(prepared):
    assert "outside" in refused("restore", prepared, prepared / "recipe.json", prepared)


# ---------------------------------------------------------------------- segment and evaluate


@pytest.mark.usefixtures("_no_network")
def test_segment_writes_whole_numbers_that_lie_on_the_original(images, tmp_path, scenes):
    answer = invoke("segment", images, tmp_path / "out", "--json")
    assert answer.data["images"] == 4
    for name, scene in scenes.items():
        labels = read_labels(tmp_path / "out" / f"{name}.tif")
        assert labels.shape == scene.labels.shape
        assert labels.max() == answer.data["per_image"][name]["cells"] > 5
    scored = invoke("evaluate", tmp_path / "out", tmp_path / "out", "--json").data
    assert scored["mean"]["ap"] == {"0.5": 1.0, "0.75": 1.0, "0.9": 1.0}


@pytest.mark.parametrize("option", ["--engine", "--model"])
def test_an_unknown_engine_or_model_is_named(option, images, tmp_path):
    assert "unheard-of" in refused("segment", images, tmp_path / "out", option, "unheard-of")


def test_evaluate_counts_what_is_missing_and_what_is_joined(truth, tmp_path, scenes):
    predicted = Path(shutil.copytree(truth, tmp_path / "predicted"))
    labels = scenes["control/1"].labels.copy()
    labels[labels == 1] = 0
    write_labels(predicted / "control" / "1.tif", labels)
    data = invoke("evaluate", predicted, truth, "--json").data
    first = next(row for row in data["images"] if row["image"] == "control/1")
    count = int(scenes["control/1"].labels.max())
    assert first["misses"] == 1
    assert first["ap"]["0.5"] == pytest.approx((count - 1) / count)
    assert data["mean"]["ap"]["0.5"] == pytest.approx((first["ap"]["0.5"] + 3) / 4)
    assert data["mean"]["misses"] == 1


def test_evaluate_matches_names_with_and_without_masks(truth, tmp_path):
    (tmp_path / "predicted" / "control").mkdir(parents=True)
    shutil.copy(truth / "control" / "1.tif", tmp_path / "predicted" / "control" / "1_cp_masks.tif")
    data = invoke("evaluate", tmp_path / "predicted", truth, "--json").data
    assert [row["image"] for row in data["images"]] == ["control/1"]
    assert data["failed"] == 3  # true labels without a prediction are told, not passed over


def test_evaluate_compares_two_files_whatever_their_names(truth):
    result = invoke("evaluate", truth / "control" / "1.tif", truth / "mutant" / "1.tif", "--json")
    assert result.data["mean"]["ap"]["0.9"] < 0.5


def test_evaluate_prints_a_table_for_people(truth):
    lines = invoke("evaluate", truth, truth).stdout.splitlines()
    assert lines[0].split()[:4] == ["image", "AP@0.5", "AP@0.75", "AP@0.9"]
    assert lines[-1].split()[:2] == ["mean", "1.000"]


def test_labels_of_another_shape_are_told_and_the_others_scored(truth, tmp_path):
    predicted = Path(shutil.copytree(truth, tmp_path / "predicted"))
    write_labels(predicted / "control" / "1.tif", np.ones((10, 12), np.int32))
    data = invoke("evaluate", predicted, truth, "--json").data
    assert len(data["images"]) == 3
    assert "12 × 10 px" in data["errors"][0]["reason"]


def test_no_common_name_is_bad_input(truth, tmp_path):
    (tmp_path / "other").mkdir()
    write_labels(tmp_path / "other" / "unlike.tif", np.ones((4, 4), np.int32))
    assert "names of the images" in refused("evaluate", tmp_path / "other", truth)


# ---------------------------------------------------------------------- run


def test_run_makes_a_project_with_tables_and_report(finished):
    folder, answer = finished
    assert {"project.sqlite", "labels.zarr", "cells.csv", "clusters.csv", "report.html", "recipe.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not (folder / "errors.csv").exists()
    assert answer["images"] == 4
    assert answer["failed"] == 0
    assert answer["clusters"] == 2
    assert answer["space"] == "latent"


def test_cells_csv_has_one_row_per_cell_with_the_columns_promised(finished):
    folder, answer = finished
    cells = pd.read_csv(folder / "cells.csv", keep_default_na=False)
    assert list(cells.columns[:7]) == ["cell_id", "image", "condition", "label", "y", "x", "area"]
    assert list(cells.columns[-3:]) == ["flags", "verdict", "cluster"]
    assert len(cells) == answer["cells"] > 20
    assert cells["cell_id"].is_unique
    assert set(cells["condition"]) == {"control", "mutant"}
    assert set(cells["image"]) == {"control/1", "control/2", "mutant/1", "mutant/2"}
    assert set(cells["verdict"]) == {"proposed"}


def test_clusters_csv_agrees_with_cells_csv(finished):
    folder, answer = finished
    cells = pd.read_csv(folder / "cells.csv", index_col="cell_id")
    clusters = pd.read_csv(folder / "clusters.csv", index_col="cell_id")
    assert list(clusters.columns[:3]) == ["image", "condition", "cluster"]
    assert len(clusters) == answer["mapped"]
    assert (clusters["cluster"] == cells.loc[clusters.index, "cluster"]).all()
    assert set(clusters["cluster"]) == {0, 1}
    assert clusters[["map_x", "map_y", "latent_1", "latent_2"]].notna().all(axis=None)


@pytest.mark.usefixtures("_no_network")
def test_the_same_seed_gives_the_same_clusters(finished, photographs, tmp_path):
    invoke("run", photographs, tmp_path / "again.curator", *QUICK)
    first, again = finished[0] / "clusters.csv", tmp_path / "again.curator" / "clusters.csv"
    assert first.read_text() == again.read_text()


@pytest.mark.usefixtures("_no_network")
def test_run_again_goes_on_with_the_project(project, images, scenes):
    session = Session.open(project)
    ids = [int(i) for i in session.cells.frame.index[:3]]
    session.set_verdict(ids, "accepted")
    session.close()
    write_tiff(images / "control" / "3.tif", scenes["control/2"].image)
    (images / "control" / "torn.tif").write_bytes(b"")
    answer = invoke("run", images, project, *QUICK, "--json")
    assert answer.exit_code == 0
    assert answer.data["failed"] == 1
    cells = pd.read_csv(project / "cells.csv", index_col="cell_id")
    assert set(cells.loc[ids, "verdict"]) == {"accepted"}
    wrong = pd.read_csv(project / "errors.csv")
    assert list(wrong.columns) == ["file", "reason"]
    assert wrong["file"][0].endswith("torn.tif")
    assert "torn.tif" in (project / "report.html").read_text()
    (images / "control" / "torn.tif").unlink()
    invoke("run", images, project, *QUICK)
    assert not (project / "errors.csv").exists()


def test_run_never_enters_a_folder_that_is_not_a_project(images, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert "mine" in refused("run", images, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_run_of_a_wrong_path_leaves_no_project_behind(tmp_path):
    refused("run", tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_run_of_broken_images_only_is_bad_input(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tif").write_bytes(b"II*\0")
    assert "a.tif" in refused("run", tmp_path / "in", tmp_path / "out")


def test_the_engine_of_a_run_follows_its_model_unless_it_is_named(tmp_path, scenes):
    write_tiff(tmp_path / "one.tif", scenes["control/1"].image[..., :96, :96])
    project = tmp_path / "one.curator"
    invoke("run", tmp_path / "one.tif", project, "--model", "unetpp-nuclei", "--diameter", 26)
    with closing(Session.open(project)) as session:
        assert session.get(SegmentParameters).engine == "unetpp"
        assert len(session.cells)
    other = invoke("run", tmp_path / "one.tif", project, "--model", "unetpp-nuclei", "--engine", "cellpose-unet")
    assert other.exit_code == 1
    assert "choose the engine unet or unetpp" in other.stderr


# ---------------------------------------------------------------------- outliers, embed, export


def test_outliers_writes_scores_with_reasons_the_highest_first(project):
    answer = invoke("outliers", project, "--size-z", "1", "--json")
    table = pd.read_csv(project / "outliers.csv", keep_default_na=False)
    assert list(table.columns[:3]) == ["cell_id", "score", "reasons"]
    assert len(table) == answer.data["cells"]
    assert table["score"].is_monotonic_decreasing
    assert (table["reasons"] != "").sum() == answer.data["flagged"] > 0


def test_embed_stores_a_new_map_and_prints_the_scores(project):
    answer = invoke(
        "embed",
        project,
        "--latent",
        "3",
        "--beta",
        "0.5",
        "--steps",
        "2",
        "--map-method",
        "pca",
        "--clusters",
        "3",
        "--json",
    )
    assert answer.data["clusters"] == 3
    assert set(answer.data["scores"]) == {"silhouette", "davies_bouldin", "calinski_harabasz"}
    assert answer.data["space"] == "latent"
    assert "latent_3" in pd.read_csv(project / "clusters.csv").columns
    session = Session.open(project)
    assert session.embedding.latent.shape == (answer.data["mapped"], 3)
    session.close()


def test_embed_judges_the_map_and_can_go_on_without_learning(project, tmp_path):
    learnt = invoke(
        "embed", project, "--latent", "3", "--steps", "2", "--map-method", "pca", "--clusters", "2", "--json"
    )
    data = learnt.data
    assert Path(data["network"]).is_file()
    assert data["comparison"]["refused"] == "" or "cannot tell a condition" in data["comparison"]["refused"]
    assert {"what", "space", "split", "value"} == set(data["honesty"][0])
    assert data["warnings"]
    again = invoke("embed", project, "--refresh", "--json").data
    assert (again["refreshed"], again["mapped"]) == (0, data["mapped"])
    assert again["network"] == data["network"]
    grouped = invoke("embed", project, "--regroup", "--clusters", "3", "--cluster-method", "kmeans", "--json").data
    assert grouped["clusters"] == 3
    suggested = invoke("embed", project, "--suggest", "--json").data
    assert suggested["k"] in [row["k"] for row in suggested["table"]]
    assert "one of" in refused("embed", project, "--refresh", "--suggest")
    assert "latent" in refused("embed", project, "--refresh", "--latent", "4")
    assert "px" in refused("embed", project, "--from", data["network"], "--patch-size", "32")
    drawn = invoke("figures", project, tmp_path / "figures", "--json").data["files"]
    assert {Path(file).name for file in drawn} >= {"map-by-cluster.svg", "samples.png", "sizes.svg"}
    assert "Do conditions differ?" in (project / "report.html").read_text()


def test_export_gives_tables_or_label_images(project, tmp_path):
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "errors.csv").write_text("of somebody else")
    tables = invoke("export", project, tmp_path / "tables", "--format", "csv", "--json")
    assert (tmp_path / "tables" / "errors.csv").read_text() == "of somebody else"
    assert {Path(path).name for path in tables.data["files"]} == {
        "cells.csv",
        "clusters.csv",
        "recipe.json",
        "review.json",
    }
    assert (tmp_path / "tables" / "cells.csv").read_text() == (project / "cells.csv").read_text()
    invoke("export", project, tmp_path / "labels", "--format", "labels")
    cells = pd.read_csv(project / "cells.csv")
    labels = read_labels(tmp_path / "labels" / "mutant" / "2.tif")
    assert set(np.unique(labels)) - {0} == set(cells.loc[cells["image"] == "mutant/2", "label"])


@pytest.mark.parametrize("command", [["outliers"], ["embed"], ["export", "OUT"]])
def test_commands_on_a_project_refuse_another_folder(command, tmp_path):
    name, *rest = command
    assert "not a" in refused(name, tmp_path, *(tmp_path / part for part in rest))


# ---------------------------------------------------------------------- about


def test_models_list_names_the_bundled_model_with_its_licence():
    listed = {model["name"]: model for model in invoke("models", "list", "--json").data["models"]}
    model = listed["starter-nuclei"]
    assert listed["new-unetpp"]["title"] == "New U-Net++ (learns only from your cells)"
    assert model["licence"] == "CC0-1.0"
    assert model["bundled"] is True
    assert "starter-nuclei" in invoke("models", "list").stdout


def test_doctor_finds_this_installation_in_order():
    result = invoke("doctor", "--json")
    assert result.data["problems"] == []
    assert result.exit_code == 0
    assert result.data["versions"]["torch"] != "not installed"
    assert result.data["cores"] >= 1
    assert "in order" in invoke("doctor").stdout


def test_doctor_names_an_engine_that_cannot_run(monkeypatch):
    monkeypatch.setattr("cell_curator.engines.cellpose_unet.CellposeUNet.unavailable", lambda _: "cellpose is missing")
    result = invoke("doctor")
    assert result.exit_code == 1
    assert "cellpose is missing" in result.stdout


# ---------------------------------------------------------------------- for real


def test_the_installed_command_finds_real_cells_with_the_bundled_model(tmp_path, scenes):
    """One process of its own, with the network, from pixels to labels to their score."""
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "1.tif", scenes["mutant/1"].image)
    write_labels(tmp_path / "true.tif", scenes["mutant/1"].labels)
    command = Path(sys.executable).with_name("cell-curator")
    done = subprocess.run(
        [command, "segment", tmp_path / "in", tmp_path / "out", "--diameter", "30", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[-1])["images"] == 1
    assert "%" in done.stderr  # plain lines of progress, since this is no terminal
    scored = invoke("evaluate", tmp_path / "out" / "1.tif", tmp_path / "true.tif", "--json").data
    assert scored["mean"]["ap"]["0.5"] > 0.6
