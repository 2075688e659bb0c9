"""Cells and their types found at once: learning, cancelling, what stays of a person's, replay, commands."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from cell_curator.adopting import adopt
from cell_curator.cli import app
from cell_curator.core.cell_types import CellTypes, by_hand
from cell_curator.core.found_types import NOT_FOUND
from cell_curator.core.jobs import UserError, drive
from cell_curator.engines.cards import WEIGHTS
from cell_curator.engines.mask_rcnn import MaskRcnnParameters
from cell_curator.engines.mask_rcnn.model import read_about, write_about
from cell_curator.engines.mask_rcnn.prediction import TypedCells
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.worker import inline
from cell_curator.finding_types import can_keep, keep, models, predict, train
from cell_curator.session import Session
from cell_curator.teaching_types import FIND
from cell_curator.typing_cells import give_type, name_types
from small_project import CIRCLES, SHAPE, execute, session  # noqa: F401

TINY = MaskRcnnParameters(minutes=0, steps=1, batch=1, crop=64, cell_side=16, channels=16, tile=128, threads=1)


@pytest.fixture
def finds():
    """What the network is made to say, by name of the image; real answers where nothing is."""
    return {}


@pytest.fixture
def execute(finds):  # noqa: F811
    def run(target, /, **named):
        if target == FIND and named["name"] in finds:
            yield from ()
            return finds[named["name"]]
        return (yield from inline(target, **named))

    return run


@pytest.fixture
def typed(session):  # noqa: F811
    """Two images of four proposed cells; every other is large, the others small."""
    name_types(session, ["large", "small"])
    ids = session.cells.frame.index
    session.set_verdict(ids, "proposed")
    give_type(session, ids[::2], "large")
    give_type(session, ids[1::2], "small")
    session.put(TINY)
    return session


def said(labels, numbers, score=0.9):
    """The network finds these cells, of type 0 or 1 each."""
    likely = np.array([[0.8, 0.2] if number == 0 else [0.1, 0.9] for number in numbers]).reshape(-1, 2)
    return TypedCells(labels.astype(np.int32), ("large", "small"), np.full(len(numbers), score), likely)


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def enough(monkeypatch):
    from cell_curator.engines.mask_rcnn import training

    monkeypatch.setattr(training, "FEWEST", 1)


@pytest.fixture
def kept(typed, enough, discs, finds):
    """A model in the project, judged on one held-out image in which three of four cells were found."""
    truth = discs(SHAPE, CIRCLES)
    for record in typed.images:
        finds[record.name] = said(np.where(truth == 4, 0, truth), [0, 0, 1])
    typed.put(TINY.model_copy(update={"holdout": 0.5}))
    return drive(train(typed))


def test_a_model_is_judged_on_whole_images_and_kept_in_the_project(typed, kept):
    assert kept.folder == typed.folder / "types" / "mask-rcnn-1"
    assert models(typed) == (kept.folder,)
    about = read_about(kept.folder)
    assert len(about.details["held_out"]) == 1
    assert about.details["scores"] == kept.scores.plain()
    confusion = kept.scores.confusion
    assert list(confusion.columns) == ["large", "small", NOT_FOUND]
    assert confusion.to_numpy().sum() == 4
    assert confusion[NOT_FOUND].sum() == 1
    assert 0 < kept.scores.map50 < 1
    assert not can_keep(typed)
    assert "1 held-out images" in kept.text


def test_found_cells_take_the_place_of_proposals(typed, kept, discs, finds):
    first = typed.images[0]
    give_type(typed, typed.cells.of_image(first.image_id).index, "")
    finds[first.name] = said(discs(SHAPE, [(30, 30, 10), (50, 60, 5)]), [0, 1])
    made = drive(predict(typed, kept.folder, [first.image_id]))
    rows = typed.cells.of_image(first.image_id).sort_values("label")
    assert rows["cell_type"].tolist() == ["large", "small"]
    assert rows["type_probability"].tolist() == [0.8, 0.9]
    assert (rows["area"] > 50).all()
    assert (made.new, made.matched, made.cells, made.by_hand) == (2, 0, 2, 0)
    assert (np.unique(typed.labels(first.image_id)) == [0, 1, 2]).all()
    assert drive(predict(typed, kept.folder, [first.image_id], at_least=0.85)).unsure == 1


def test_a_network_that_got_nothing_right_is_not_used(typed, kept):
    about = read_about(kept.folder)
    write_about(kept.folder, replace(about, details={**about.details, "scores": {"accuracy": 0.0}}))
    before = typed.cells.frame
    with pytest.raises(UserError, match="let it learn longer"):
        drive(predict(typed, kept.folder))
    assert typed.cells.frame.equals(before)


def test_what_a_person_said_and_drew_stays(typed, kept, discs, finds):
    second = typed.images[1]
    rows = typed.cells.of_image(second.image_id)
    give_type(typed, rows.index[1:], "")
    typed.set_verdict([rows.index[2]], "rejected")
    before = typed.labels(second.image_id)
    moved = discs(SHAPE, [*CIRCLES, (8, 70, 6)])
    finds[second.name] = said(moved, [1, 1, 1, 0, 1])
    made = drive(predict(typed, kept.folder, [second.image_id]))
    after = typed.cells.of_image(second.image_id)
    assert after.loc[rows.index, "cell_type"].tolist() == [rows["cell_type"].iloc[0], "small", "", "large"]
    assert by_hand(after).sum() == 1
    assert (made.new, made.matched) == (1, 2)
    assert (typed.labels(second.image_id)[before > 0] == before[before > 0]).all()
    assert len(after) == 5


def test_a_training_that_was_cancelled_can_be_kept(typed, enough, finds, discs):
    typed.put(TINY.model_copy(update={"steps": 40}))
    with pytest.raises(UserError, match="before there was anything"):
        drive(keep(typed))
    job = train(typed)
    while not can_keep(typed):
        next(job)
    job.close()
    finds.update({record.name: said(discs(SHAPE, CIRCLES), [0, 0, 1, 1]) for record in typed.images})
    made = drive(keep(typed))
    assert (made.folder / WEIGHTS).is_file()
    assert made.details["stopped"] == "cancelled"
    assert not can_keep(typed)


def test_a_type_stays_where_the_cell_is_found_again(session, discs):  # noqa: F811
    image = session.images[0].image_id
    name_types(session, ["a", "b"])
    one, two, *_ = session.cells.of_image(image).index
    session.set_verdict(session.cells.of_image(image).index, "proposed")
    give_type(session, [one], "a")
    give_type(session, [two], "b")
    again = discs(SHAPE, [(17, 16, 6), (46, 30, 7), (20, 70, 5)])
    found = Segmentation(again, 12.0, False, np.zeros(4, np.float32))
    adopt(session, image, found, SegmentParameters())
    rows = session.cells.of_image(image).sort_values("label")
    assert rows["cell_type"].tolist() == ["a", "", ""]
    assert by_hand(rows).tolist() == [True, False, False]


def test_without_types_or_with_one_example_it_is_one_line(session):  # noqa: F811
    session.put(TINY)
    with pytest.raises(UserError, match="no cell has a type yet"):
        drive(train(session))
    name_types(session, ["a", "b"])
    ids = session.cells.frame.index
    give_type(session, ids[:7], "a")
    give_type(session, ids[7:], "b")
    with pytest.raises(UserError, match="cell of type 'b'"):
        drive(train(session))
    with pytest.raises(UserError, match="no such model folder"):
        drive(predict(session, session.folder / "none"))


@pytest.mark.slow
def test_finding_is_replayed(typed, enough, tmp_path):
    made = drive(train(typed, "conditions"))
    drive(predict(typed, made.folder))
    path = tmp_path / "again.py"
    assert invoke("journal", typed.folder, "--script", "--out", path).exit_code == 0
    assert path.read_text().count("work.find_types(") == 2
    subprocess.run([sys.executable, str(path), str(tmp_path / "again.curator")], check=True, timeout=100)
    again = Session.open(tmp_path / "again.curator")
    try:
        columns = ["label", "cell_type", "type_probability"]
        mine, theirs = (one.cells.frame[columns].reset_index(drop=True) for one in (again, typed))
        assert mine.equals(theirs)
        assert again.get(CellTypes) == typed.get(CellTypes)
    finally:
        again.close()


def test_commands_for_a_network_that_finds_and_tells(typed, enough, tmp_path):
    folder, out = typed.folder, tmp_path / "model"
    typed.close()
    options = ("--minutes", 0, "--steps", 1, "--batch", 1, "--crop", 64, "--cell-side", 16, "--channels", 16)
    result = invoke("classify", "train", folder, out, "--way", "mask-rcnn", "--types", "conditions", *options, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout.splitlines()[-1])
    assert answer["types"] == ["control", "treated"]
    assert (out / WEIGHTS).is_file()
    result = invoke("classify", "predict", folder, out, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["matched"] >= 0
    for wrong, line in (
        (("--method", "cnn", "--way", "mask-rcnn"), "--method says nothing"),
        (("--steps", 3), "--steps says nothing with --way cells"),
        (("--images", tmp_path), "--images goes with a COCO file"),
        (("--start", tmp_path), "--start goes with --way mask-rcnn"),
    ):
        result = invoke("classify", "train", folder, tmp_path / "x", *wrong)
        assert result.exit_code == 2
        assert line in result.stderr
