"""Rounds on a real session, with the bundled model and a training of seconds on synthetic scenes."""

import json
import shutil

import numpy as np
import pytest
from cellpose.models import CellposeModel

from cell_curator.bundles import adopt, teach_bundle, write_bundle
from cell_curator.comparing import compare, doubtful
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.recipe import PRESETS, Recipe
from cell_curator.core.regions import HOLDOUT, REVIEWED
from cell_curator.engines.finetune import NOTES, TrainParameters, best_so_far
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.worker import inline
from cell_curator.examples import counts, gather, preflight
from cell_curator.io.images import write_tiff
from cell_curator.marking import mark, suggest_holdout, unmark, unmark_region
from cell_curator.project_models import known, models_folder
from cell_curator.round_table import effort, sentence, table
from cell_curator.rounds import promote, roll_back, score_round, train_round
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.session import Session

SIZE = 200
SECONDS = TrainParameters(
    epochs=2, learning_rate=1e-3, batch_size=2, tile=96, images_per_epoch=4, evaluate_every=1, min_train_masks=0
)


@pytest.fixture(scope="module")
def scenes():
    return [nuclei_on_grooves(seed, size=SIZE, count=14) for seed in range(3)]


def project(root, scenes):
    """Images whose labels are the truth; nothing is marked."""
    (root / "images").mkdir()
    for number, scene in enumerate(scenes):
        write_tiff(root / "images" / f"field-{number}.tif", scene.image)
    session = Session.create(root / "study.curator")
    session.put(PRESETS["Plain"])
    drive(session.add_images(root / "images"))
    for record, scene in zip(session.images, scenes, strict=True):
        session.set_labels(record.image_id, scene.labels)
    return session


@pytest.fixture
def session(tmp_path, scenes):
    """Three images, nothing is marked."""
    session = project(tmp_path, scenes)
    yield session
    session.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory, scenes):
    """A project with one round; do not change it."""
    session = project(tmp_path_factory.mktemp("rounds"), scenes)
    for record in session.images:
        mark(session, record.image_id, REVIEWED)
    mark(session, 3, HOLDOUT)
    session.made = drive(train_round(session, SECONDS))
    yield session
    session.close()


@pytest.fixture
def again(trained, tmp_path):
    """An own copy of the project with one round."""
    shutil.copytree(trained.folder, tmp_path / "copy.curator")
    session = Session.open(tmp_path / "copy.curator")
    yield session
    session.close()


# ---------------------------------------------------------------------- marks


def test_marks_are_undoable_and_come_back_after_reopening(session):
    part = mark(session, 1, REVIEWED, [(10, 10), (10, 100), (100, 100), (100, 10)])
    mark(session, 2, HOLDOUT)
    session.undo()
    session.undo()
    assert session.regions() == ()
    session.redo()
    session.redo()
    before = session.regions()
    assert [(r.image_id, r.kind, bool(r.corners)) for r in before] == [(1, REVIEWED, True), (2, HOLDOUT, False)]
    session.close()
    with_marks = Session.open(session.folder)
    assert with_marks.regions() == before
    unmark_region(with_marks, part.region_id)
    unmark(with_marks, 2, HOLDOUT)
    assert with_marks.regions() == ()
    with_marks.close()


def test_the_whole_image_takes_the_place_of_its_parts(session):
    mark(session, 1, REVIEWED, [(10, 10), (10, 100), (100, 100), (100, 10)])
    whole = mark(session, 1, REVIEWED)
    assert session.regions() == (whole,)
    assert mark(session, 1, REVIEWED) == whole
    session.undo()
    assert [len(region.corners) for region in session.regions()] == [4]


@pytest.mark.parametrize("corners", [[(0, 0), (5, 5)], [(-9, -9), (-9, -3), (-3, -3)]])
def test_a_region_that_is_none_is_refused(session, corners):
    with pytest.raises(UserError, match="draw"):
        mark(session, 1, REVIEWED, corners)
    assert session.regions() == ()


def test_images_are_locked_by_well_and_condition(tmp_path, rng):
    for condition in ("control", "dose"):
        (tmp_path / "images" / condition).mkdir(parents=True)
        for well in ("A01", "A02", "A03", "A04", "A05"):
            for site in (1, 2):
                pixels = rng.integers(0, 255, (8, 8)).astype(np.uint8)
                write_tiff(tmp_path / "images" / condition / f"{well}_s{site}.tif", pixels)
    session = Session.create(tmp_path / "p.curator")
    drive(session.add_images(tmp_path / "images"))
    names = [session.image(i).name for i in suggest_holdout(session)]
    wells = {name.rsplit("_", 1)[0] for name in names}
    assert len(names) == 4
    assert {well.split("/")[0] for well in wells} == {"control", "dose"}
    assert len(wells) == 2  # both fields of each well
    session.close()


# ---------------------------------------------------------------------- what is learned from


def test_only_reviewed_pixels_count_and_locked_ones_never(session, scenes):
    half = [(0, 0), (0, SIZE), (SIZE / 2, SIZE), (SIZE / 2, 0)]
    mark(session, 1, REVIEWED)
    mark(session, 1, HOLDOUT, half)
    given = drive(gather(session))
    (learned,), (held,) = given.train, given.holdout
    assert not (learned.example.counts & held.example.counts).any()
    assert not held.example.counts[SIZE // 2 + 2 :].any()
    for part in (learned.example, held.example):
        inside = np.unique(part.labels)[1:]
        assert len(inside)
        for label in inside:  # whole cells only, pixel by pixel
            assert np.array_equal(part.labels == label, scenes[0].labels == label)
            assert part.counts[part.labels == label].all()
    assert learned.cut == held.cut > 0


def test_rejected_cells_are_background(session):
    mark(session, 1, REVIEWED)
    cell = session.cell_at(1, 1)
    session.set_verdict([cell], "rejected")
    (given,) = drive(gather(session)).train
    assert 1 not in given.example.labels
    assert given.example.counts.all()
    assert counts(session).cells == given.cells


def test_preflight_says_what_is_wrong_and_what_to_do(session):
    (first, *_) = drive(preflight(session))
    assert first.stops
    assert "mark it reviewed" in first.remedy
    mark(session, 1, REVIEWED)
    found = drive(preflight(session))
    assert not any(one.stops for one in found)
    text = "\n".join(map(str, found))
    assert "all examples are of one image" in text
    assert "no reviewed cell is locked away" in text
    assert "cells you decided lie outside" in text
    mark(session, 2, HOLDOUT)
    assert "field-1 locked away but not reviewed" in "\n".join(map(str, drive(preflight(session))))


def test_the_same_pixels_on_both_sides_stop_a_round(session):
    shutil.copyfile(session.image(1).path, session.image(2).path)
    session.close()
    twins = Session.open(session.folder)
    for image_id in (1, 2):
        mark(twins, image_id, REVIEWED)
    mark(twins, 2, HOLDOUT)
    with pytest.raises(UserError, match="has the same pixels as field-0"):
        drive(train_round(twins, SECONDS))
    assert twins.rounds == ()
    twins.close()


def test_a_moved_image_is_named_and_left_out(session):
    for image_id in (1, 2):
        mark(session, image_id, REVIEWED)
    session.image(2).path.rename(session.image(2).path.with_name("elsewhere.tif"))
    session.close()
    moved = Session.open(session.folder)
    text = "\n".join(map(str, drive(preflight(moved))))
    assert "field-1" in text
    assert "left out" in text
    moved.close()


# ---------------------------------------------------------------------- rounds


def test_a_round_is_scored_before_and_after_and_has_a_card(trained):
    made = trained.made
    assert trained.rounds == (made,)
    for when in ("before", "scores"):
        assert 0 <= made.detail[when]["ap50"] <= 1
        assert made.detail[when]["images"] == 1
    card = json.loads((models_folder(trained) / made.model / "card.json").read_text())
    assert card["parent"] == "starter-nuclei"
    assert [one["image"] for one in card["examples"]] == ["field-0", "field-1"]
    assert [one["image"] for one in card["holdout"]] == ["field-2"]
    assert card["recipe_hash"] == trained.get(Recipe).hash
    assert sorted(p.name for p in (models_folder(trained) / made.model).iterdir()) == ["card.json", "weights.pth"]
    assert trained.get(SegmentParameters).model == "starter-nuclei"  # nothing is adopted silently


@pytest.mark.filterwarnings("ignore")  # of stock Cellpose
def test_the_model_loads_in_stock_cellpose(trained, scenes):
    weights = models_folder(trained) / trained.made.model / "weights.pth"
    masks = CellposeModel(pretrained_model=str(weights), mkldnn=False).eval(
        scenes[2].image[0], channels=[0, 0], diameter=30
    )[0]
    assert masks.max() > 3


def test_promote_and_roll_back(again, scenes):
    assert [card.name for card in known(again)][-1] == "round-01"
    before = again.get(SegmentParameters)
    promote(again, 1)
    used = again.get(SegmentParameters)
    assert (used.model, used.diameter) == ("round-01", again.rounds[0].detail["diameter_px"])
    assert [row.in_use for row in table(again)] == [False, True]
    report = drive(again.segment([3]))
    assert not report.failed
    assert not report.notes
    again.put(PRESETS["Nuclei on grooves (published)"])
    assert "prepared in another way" in drive(again.segment([3])).notes[0]
    roll_back(again)
    assert again.get(SegmentParameters) == before
    with pytest.raises(UserError, match="nothing to go back to"):
        roll_back(again)


def test_a_project_that_was_moved_finds_its_models(again, tmp_path):
    promote(again, 1)
    again.close()
    shutil.move(again.folder, tmp_path / "elsewhere.curator")
    moved = Session.open(tmp_path / "elsewhere.curator")
    assert not drive(moved.segment([3])).failed
    moved.close()


def test_a_model_that_finds_nothing_is_not_promoted(again):
    made = again.rounds[0]
    again.rounds[0].detail["usable"] = False
    with pytest.raises(UserError, match="finds no cells"):
        promote(again, made.round_id)


def test_cancelling_keeps_the_best_so_far(session):
    for image_id in (1, 2, 3):
        mark(session, image_id, REVIEWED)
    mark(session, 3, HOLDOUT)
    job = train_round(session, SECONDS.model_copy(update={"epochs": 50}))
    for progress in job:
        if getattr(progress.payload, "best_epoch", 0):
            break
    job.close()
    (made,) = session.rounds
    assert made.detail["stopped"] == "cancelled"
    assert made.detail["scores"] is None
    scored = drive(score_round(session, made.round_id))
    assert scored.detail["scores"]["images"] == 1
    assert session.rounds == (scored,)


def test_what_a_crashed_round_left_is_not_taken_for_a_cancelled_one(again):
    place = models_folder(again) / ".training"
    shutil.copytree(models_folder(again) / "round-01", place)
    (place / NOTES).write_text(json.dumps({"epoch": 1, "epochs": 1, "curve": [], "diameter": 9, "seconds": 1,
                                           "stopped": "cancelled"}))  # fmt: skip
    assert best_so_far(place) is not None
    job = train_round(again, SECONDS)
    next(job)
    job.close()
    assert len(again.rounds) == 1


def test_two_rounds_at_once_are_refused(session):
    mark(session, 1, REVIEWED)
    job = train_round(session, SECONDS)
    next(job)
    with pytest.raises(UserError, match="running already"):
        drive(train_round(session, SECONDS))
    job.close()
    assert next(train_round(session, SECONDS)) is not None


def test_effort_counts_corrections_of_reviewed_images(session, scenes):
    mark(session, 1, REVIEWED)
    assert effort(session).edits == 1  # the truth was painted in one go
    painted = session.labels(1)
    painted[:5, :5] = painted.max() + 1
    session.set_labels(1, painted)
    session.set_verdict([session.cell_at(1, 1), session.cell_at(2, 1)], "rejected")
    done = effort(session)
    assert done.edits == 3  # the cell of the other image does not count
    assert done.per_100 == pytest.approx(100 * 3 / done.cells, abs=0.1)


def test_the_table_speaks(trained, session):
    base, first = table(trained)
    assert (base.round_id, base.title) == (0, "Nuclei: fluorescence, histology, brightfield (starter)")
    assert first.ap50 == trained.made.detail["scores"]["ap50"]
    assert first.cells == trained.made.detail["cells"]
    assert "AP@0.5 on the locked images went from" in sentence(trained)
    assert "small differences mean little" in sentence(trained)
    assert table(session) == ()
    assert "No round yet" in sentence(session)


# ---------------------------------------------------------------------- comparing


def test_two_models_are_compared_on_one_image(trained):
    found = drive(compare(trained, "starter-nuclei", "round-01", 3))
    assert found.first.shape == found.second.shape == (SIZE, SIZE)
    assert found.names[1] == "Round 1"
    assert all(one.image_id == 3 for one in found.queue)
    with pytest.raises(UserError, match="same model"):
        drive(compare(trained, "round-01", "round-01", 3))


def test_doubtful_places_are_not_reviewed_ones(again):
    with pytest.raises(UserError, match="all of these images are reviewed"):
        drive(doubtful(again))
    unmark(again, 2, REVIEWED)
    places = drive(doubtful(again))
    assert {one.image_id for one in places} == {2}
    assert all(0 <= one.score <= 1 for one in places)


# ---------------------------------------------------------------------- elsewhere


@pytest.mark.slow
def test_a_bundle_trains_elsewhere_and_its_model_comes_back(again, tmp_path):
    bundle = drive(write_bundle(again, tmp_path / "bundle.zip", SECONDS))
    card = drive(teach_bundle(inline, bundle, tmp_path / "far" / "model"))
    assert card.details["curve"] == again.rounds[0].detail["curve"]  # as if it had been trained here
    assert card.details["scores"]["images"] == 1
    made = adopt(again, tmp_path / "far" / "model")
    assert made.detail["title"] == "Round 2"
    assert made.detail["project"] == "copy"
    promote(again, made.round_id)
    assert not drive(again.segment([3])).failed


@pytest.mark.parametrize("member", ["../evil.txt", "examples/0000.pkl", "/etc/passwd"])
def test_strange_bundles_are_refused(trained, tmp_path, member):
    import zipfile

    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as bad:
        bad.writestr(member, "x")
    with pytest.raises(UserError, match="bundle"):
        drive(teach_bundle(inline, tmp_path / "bad.zip", tmp_path / "out"))
    assert not (tmp_path / "evil.txt").exists()
