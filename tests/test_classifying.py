"""Types of the cells of a project: said by a person, told by a model, undone, replayed, and by command."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from cell_curator.classifying import FOLDER, models, newest, predict, predict_again, train
from cell_curator.cli import app
from cell_curator.core import type_classifier
from cell_curator.core.cell_types import CellTypes, by_hand
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.type_classifier import TypeParameters
from cell_curator.editing import edit
from cell_curator.io.project import Change
from cell_curator.io.records import StoredEmbedding
from cell_curator.io.tiff import write_tiff
from cell_curator.io.type_models import read_type_model, write_type_model
from cell_curator.session import Session
from cell_curator.typing_cells import give_type, name_types, rename_type
from small_project import execute, session  # noqa: F401

PLACES = [(20 + 30 * row, 20 + 30 * column) for row in range(3) for column in range(3)]


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """What is tested is the same with a tenth of the trees."""
    monkeypatch.setattr(type_classifier, "_TREES", 15)


@pytest.fixture
def two_kinds(tmp_path, rng, discs, execute):  # noqa: F811
    """Three images each of small and of large cells, nine to an image, the condition names the kind."""
    for kind in ("large", "small"):
        for number in range(3):
            labels = discs((100, 100), _circles(kind, rng))
            image = (200 + 800 * (labels > 0) + rng.normal(0, 20, labels.shape)).astype(np.uint16)
            (tmp_path / "images" / kind).mkdir(parents=True, exist_ok=True)
            write_tiff(tmp_path / "images" / kind / f"{kind}{number}.tif", image[None])
            np.save(tmp_path / f"{kind}{number}.npy", labels)
    made = Session.create(tmp_path / "kinds.curator", execute=execute)
    drive(made.add_images(tmp_path / "images"))
    for record in made.images:
        made.set_labels(record.image_id, np.load(tmp_path / f"{record.path.stem}.npy"))
    yield made
    made.close()


def _circles(kind, rng):
    low, high = (8, 12) if kind == "large" else (4, 7)
    return [(y, x, int(rng.integers(low, high))) for y, x in PLACES]


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_types_are_given_taken_away_undone_and_stored(session):  # noqa: F811
    one, two, *_ = session.cells.frame.index
    with pytest.raises(UserError, match="no cell type 'HEK'"):
        give_type(session, [one], "HEK")
    name_types(session, ["HEK", "N2a"])
    give_type(session, [one, two], "HEK")
    give_type(session, [two], "N2a")
    session.undo()
    assert session.cells.frame.loc[[one, two], "cell_type"].tolist() == ["HEK", "HEK"]
    session.redo()
    give_type(session, [one], "")
    assert session.cells.frame.loc[[one, two], "cell_type"].tolist() == ["", "N2a"]
    with pytest.raises(UserError, match="no cell 999"):
        give_type(session, [999], "HEK")
    again = Session.open(session.folder)
    try:
        assert again.get(CellTypes).names == ("HEK", "N2a")
        assert again.row(two)["cell_type"] == "N2a"
        assert by_hand(again.cells.frame).sum() == 1
    finally:
        again.close()


def test_a_type_is_renamed_with_its_cells_and_back(session):  # noqa: F811
    one, *_ = session.cells.frame.index
    name_types(session, ["a", "b"])
    give_type(session, [one], "a")
    with pytest.raises(UserError, match="already"):
        rename_type(session, "a", "b")
    with pytest.raises(UserError, match="letters"):
        rename_type(session, "a", " ")
    rename_type(session, "a", "HEK")
    assert (session.get(CellTypes).names, session.row(one)["cell_type"]) == (("HEK", "b"), "HEK")
    session.undo()
    assert (session.get(CellTypes).names, session.row(one)["cell_type"]) == (("a", "b"), "a")
    with pytest.raises(UserError, match="still cells of type 'a'"):
        name_types(session, ["b"])


def test_a_type_stays_when_the_outline_is_corrected(session):  # noqa: F811
    image_id = session.images[0].image_id
    cell = session.cell_at(image_id, 1)
    name_types(session, ["a", "b"])
    give_type(session, [cell], "a")
    edit(session, image_id, "grow", labels=[1])
    assert session.row(cell)["cell_type"] == "a"
    give_type(session, [cell], "b")
    labels = session.labels(image_id)
    labels[labels == 2] = 0
    session.set_labels(image_id, labels)
    assert session.row(cell)["cell_type"] == "b"
    edit(session, image_id, "delete", labels=[1])
    session.undo()
    assert session.row(cell)["cell_type"] == "b"


@pytest.mark.parametrize("method", ["logistic", "boosting"])
def test_what_a_person_said_is_never_overwritten(two_kinds, method):
    two_kinds.put(TypeParameters(method=method, figures="shape"))
    model, scores = drive(train(two_kinds, "conditions"))
    assert scores.by_image
    assert scores.balanced > 0.9
    frame = two_kinds.cells.frame
    large = frame.index[frame["condition"] == "large"]
    name_types(two_kinds, ["odd", "small"])
    give_type(two_kinds, large[:4], "odd")
    give_type(two_kinds, large[4:6], "small")
    made = drive(predict(two_kinds, model))
    after = two_kinds.cells.frame
    assert after.loc[large[:6], "cell_type"].tolist() == ["odd"] * 4 + ["small"] * 2
    assert after.loc[large[:6], "type_probability"].isna().all()
    others = after.drop(index=large[:6])
    assert (others["cell_type"] == others["condition"]).mean() > 0.9
    assert others["type_probability"].between(0.5, 1).all()
    assert (made.cells, made.by_hand, made.unsure) == (48, 6, 0)
    assert two_kinds.get(CellTypes).names == ("odd", "small", "large")  # one the project did not know
    two_kinds.undo()
    assert (two_kinds.cells.frame["cell_type"] != "").sum() == 6
    two_kinds.redo()
    assert two_kinds.cells.frame["cell_type"].equals(after["cell_type"])


def test_unsure_cells_stay_without_a_type(two_kinds):
    model, _ = drive(train(two_kinds, "conditions"))
    made = drive(predict(two_kinds, model, at_least=1.0))
    frame = two_kinds.cells.frame
    assert made.unsure == (frame["cell_type"] == "").sum() > 0
    assert frame.loc[frame["cell_type"] == "", "type_probability"].isna().all()
    assert drive(predict(two_kinds, model, at_least=0.0)).unsure == 0


def test_only_cells_that_a_person_typed_are_learned_from(two_kinds):
    frame = two_kinds.cells.frame
    name_types(two_kinds, ["large", "small"])
    with pytest.raises(UserError, match="no cell has a type yet"):
        drive(train(two_kinds))
    give_type(two_kinds, frame.index[frame["condition"] == "large"], "large")
    with pytest.raises(UserError, match="all cells are of one type"):
        drive(train(two_kinds))
    give_type(two_kinds, frame.index[frame["condition"] == "small"][:12], "small")
    model, _ = drive(train(two_kinds))
    assert model.about["cells"] == {"large": 27, "small": 12}
    drive(predict(two_kinds, model))
    assert drive(train(two_kinds))[0].about["cells"] == {"large": 27, "small": 12}


def _map(project, rng):
    """A map on which the two kinds lie apart."""
    frame = project.cells.frame
    apart = 4.0 * (frame["condition"] == "large").to_numpy()[:, None]
    latent = (rng.normal(0, 1, (len(frame), 2)) + apart).astype(np.float32)
    stored = StoredEmbedding(frame.index.to_numpy(), frame["revision"].to_numpy(), latent, latent, {}, {})
    project.commit(Change("map", {}, embedding=stored, clustering={"names": {}, "space": "latent", "scores": {}}))


def test_places_on_the_map_are_for_that_map_only(two_kinds, rng):
    two_kinds.put(TypeParameters(use_map=True, figures="shape"))
    with pytest.raises(UserError, match="no map yet"):
        drive(train(two_kinds, "conditions"))
    _map(two_kinds, rng)
    first = two_kinds.images[0].image_id
    edit(two_kinds, first, "grow", labels=[1])  # its place on the map is that of another shape now
    model, _ = drive(train(two_kinds, "conditions"))
    assert {"map 1", "map 2", "log area"} <= set(model.figures)
    drive(predict(two_kinds, model))
    assert two_kinds.row(two_kinds.cell_at(first, 1))["cell_type"] == "large"
    _map(two_kinds, rng)
    with pytest.raises(UserError, match="another map"):
        drive(predict(two_kinds, model))


def test_commands_train_and_predict(two_kinds, tmp_path):
    folder, model = two_kinds.folder, tmp_path / "model.json"
    two_kinds.close()
    result = invoke(
        "classify", "train", folder, model, "--types", "conditions", "--figures", "shape", "--seed", 2, "--json"
    )
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["balanced_accuracy"] > 0.9
    assert answer["held_out"] == "images"
    assert answer["confusion"]["large"]["large"] >= 24
    assert read_type_model(model).about["parameters"]["seed"] == 2
    text = invoke("classify", "train", folder, tmp_path / "again.json", "--types", "conditions").stdout
    assert "large (true)" in text
    result = invoke("classify", "predict", folder, model, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout.splitlines()[-1])
    assert (answer["predicted"], answer["by_hand"]) == (54, 0)
    assert answer["conditions"]["large"]["large"] >= 24
    assert "type_probability" in (folder / "cells.csv").read_text().splitlines()[0]


@pytest.mark.parametrize("content", [None, "", "{}", "[1]", "\x00", '{"format": "cell-curator cell types 1"}'])
def test_what_is_no_model_is_refused_in_one_line(session, tmp_path, content):  # noqa: F811
    model = tmp_path / "model.json"
    if content is not None:
        model.write_text(content)
    session.close()
    result = invoke("classify", "predict", session.folder, model)
    assert result.exit_code == 2
    assert len([line for line in result.stderr.splitlines() if line.startswith("cell-curator: ")]) == 1
    assert str(model) in result.stderr


def test_nothing_to_learn_from_is_one_line(session, tmp_path):  # noqa: F811
    session.close()
    result = invoke("classify", "train", session.folder, tmp_path / "model.json")
    assert result.exit_code == 2
    assert "no cell has a type yet" in result.stderr
    assert not (tmp_path / "model.json").exists()


def test_typing_is_replayed(two_kinds, tmp_path):
    first = two_kinds.images[0].image_id
    name_types(two_kinds, ["odd", "small"])
    give_type(two_kinds, [two_kinds.cell_at(first, 1), two_kinds.cell_at(first, 2)], "odd")
    give_type(two_kinds, [two_kinds.cell_at(first, 3)], "small")
    two_kinds.undo()
    model, _ = drive(train(two_kinds, "conditions"))
    drive(predict(two_kinds, model))
    two_kinds.undo()
    two_kinds.redo()
    rename_type(two_kinds, "small", "tiny")
    path = tmp_path / "again.py"
    assert invoke("journal", two_kinds.folder, "--script", "--out", path).exit_code == 0
    subprocess.run([sys.executable, str(path), str(tmp_path / "again.curator")], check=True, timeout=100)
    again = Session.open(tmp_path / "again.curator")
    try:
        columns = ["label", "cell_type", "type_probability"]
        mine, theirs = (one.cells.frame[columns].reset_index(drop=True) for one in (again, two_kinds))
        assert mine.equals(theirs)
        assert set(mine["cell_type"]) == {"odd", "tiny", "large"}
        assert again.get(CellTypes) == two_kinds.get(CellTypes)
        actions = again.project.journal()["action"].tolist()
        assert actions.count("predict types") == 1
    finally:
        again.close()


def test_the_newest_model_is_taken_up_again(two_kinds):
    """What was learned is there when the project is opened the next day; a damaged file is passed over."""
    assert newest(two_kinds) is None
    first, _ = drive(train(two_kinds, "conditions"))
    two_kinds.put(TypeParameters(seed=7))
    second, _ = drive(train(two_kinds, "conditions"))
    assert first.digest != second.digest
    assert newest(two_kinds).digest == second.digest
    time.sleep(0.01)
    drive(predict(two_kinds, first))
    assert newest(two_kinds).digest == first.digest
    (two_kinds.folder / FOLDER / f"{first.digest}.json").write_text("{")
    assert newest(two_kinds).digest == second.digest
    drive(predict_again(two_kinds))
    assert two_kinds.project.journal()["detail"].iloc[-1]["model"].endswith(f"{second.digest}.json")
    for file in models(two_kinds):
        file.unlink()
    with pytest.raises(UserError, match="no types were learned"):
        drive(predict_again(two_kinds))


def test_a_model_is_written_whole_and_read_back(two_kinds, tmp_path):
    model, _ = drive(train(two_kinds, "conditions"))
    write_type_model(tmp_path / "model.json", model)
    assert read_type_model(tmp_path / "model.json").digest == model.digest
    with pytest.raises(UserError, match="folder does not exist"):
        write_type_model(tmp_path / "none" / "model.json", model)


def test_pictures_of_cells_tell_types(two_kinds, monkeypatch, tmp_path):
    from cell_curator.engines import cell_classifier

    monkeypatch.setattr(cell_classifier, "_STEPS", 4)
    monkeypatch.setattr(cell_classifier, "_FOLDS", 2)
    two_kinds.put(TypeParameters(method="cnn"))
    model, scores = drive(train(two_kinds, "conditions"))
    assert scores.by_image
    assert model.about["cells"] == {"large": 27, "small": 27}
    write_type_model(tmp_path / "model.json", model)
    again = read_type_model(tmp_path / "model.json")
    assert again.digest == model.digest
    made = drive(predict(two_kinds, again, at_least=0.0))
    assert made.cells == 54
    assert (two_kinds.folder / "types" / f"{model.digest}.json").is_file()


def test_the_place_on_the_map_alone(two_kinds, rng):
    two_kinds.put(TypeParameters(figures="map"))
    with pytest.raises(UserError, match="no map yet"):
        drive(train(two_kinds, "conditions"))
    _map(two_kinds, rng)
    model, scores = drive(train(two_kinds, "conditions"))
    assert set(model.figures) == {"map 1", "map 2"}
    assert scores.balanced > 0.9
    drive(predict(two_kinds, model))
    _map(two_kinds, rng)
    with pytest.raises(UserError, match="another map"):
        drive(predict(two_kinds, model))


def test_types_are_learned_from_a_coco_file(two_kinds, tmp_path):
    folder, images = two_kinds.folder, tmp_path / "images"
    two_kinds.close()
    assert invoke("export", folder, tmp_path / "coco", "--format", "coco").exit_code == 0
    file = next((tmp_path / "coco").rglob("*.json"))
    model = tmp_path / "model.json"
    result = invoke("classify", "train", file, model, "--images", images, "--figures", "shape", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["balanced_accuracy"] > 0.9
    assert answer["held_out"] == "images"
    assert invoke("classify", "predict", folder, model).exit_code == 0
    result = invoke("classify", "train", file, model, "--images", tmp_path / "coco")
    assert result.exit_code == 2
    assert "6 of its 6 images are not in" in result.stderr
    result = invoke("classify", "train", file, model, "--images", images, "--use-map")
    assert "has no map" in result.stderr
