"""The main line and the edits on a real session, with the bundled model on synthetic scenes."""

import shutil

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.measure import MEASURED
from cell_curator.core.patches import PatchParameters
from cell_curator.core.recipe import PRESETS, Recipe
from cell_curator.core.scores import evaluate
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.io.images import write_tiff
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.session import Session


@pytest.fixture(scope="module")
def scenes():
    return {f"{name}/field": nuclei_on_grooves(seed, elongated=name == "control")
            for seed, name in enumerate(("control", "mutant"))}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory, scenes):
    """A project on which the main line has run; do not change it."""
    root = tmp_path_factory.mktemp("session")
    for name, scene in scenes.items():
        (root / "images" / name).parent.mkdir(parents=True)
        write_tiff(root / "images" / f"{name}.tif", scene.image)
    (root / "images" / "control" / "torn.tif").write_bytes(b"II*\0 torn")
    session = Session.create(root / "study.curator")
    session.put(PRESETS["Nuclei on grooves (published)"])
    session.put(VaeParameters(latent=8, steps=60))
    report = drive(session.add_images(root / "images"))
    session.ran = drive(session.run())
    session.added = report
    yield session
    session.close()


@pytest.fixture
def session(finished, tmp_path):
    """An own copy of the finished project."""
    shutil.copytree(finished.folder, tmp_path / "copy.curator")
    session = Session.open(tmp_path / "copy.curator")
    yield session
    session.close()


def test_each_folder_is_a_condition_and_a_bad_file_fails_alone(finished):
    assert [(r.name, r.condition) for r in finished.images] == [
        ("control/field", "control"),
        ("mutant/field", "mutant"),
    ]
    ((file, reason),) = finished.added.failed
    assert file.endswith("torn.tif")
    assert "torn.tif" in reason


def test_cells_are_found_and_measured(finished, scenes):
    for record in finished.images:
        truth = scenes[record.name].labels
        assert evaluate(finished.labels(record.image_id), truth).ap[0.5] > 0.6
        rows = finished.cells.of_image(record.image_id)
        assert set(rows["label"]) == set(np.unique(finished.labels(record.image_id))) - {0}
        assert (rows["condition"] == record.condition).all()
        assert rows["flow_error"].notna().all()


def test_the_angle_of_the_grooves_is_noted(finished, scenes):
    for record in finished.images:
        assert record.angle_deg == pytest.approx(scenes[record.name].angle_deg, abs=1.0)


def test_every_cell_that_counts_is_on_the_map_and_in_a_cluster(finished):
    embedding = finished.embedding
    assert set(embedding.cell_id) == set(finished.counting_cells().index)
    assert np.isfinite(embedding.latent).all()
    assert np.isfinite(embedding.map2d).all()
    assert (finished.cells.frame["cluster"] >= 0).all()
    assert not finished.stale_cells()
    assert finished.ran.map.cells == len(embedding.cell_id)


def test_a_point_leads_back_to_its_cell(finished):
    cell_id = int(finished.embedding.cell_id[7])
    row = finished.row(cell_id)
    assert finished.cell_at(int(row["image"]), int(row["label"])) == cell_id
    patch = finished.patch(cell_id)
    size = finished.get(PatchParameters).size
    assert patch.shape == (size, size)
    assert patch.max() > 0


def test_reopening_gives_the_same_project(session, finished):
    assert session.cells.frame.equals(finished.cells.frame)
    assert session.images == finished.images
    assert session.get(Recipe) == finished.get(Recipe)
    assert np.array_equal(session.embedding.latent, finished.embedding.latent)


def test_verdicts_are_undoable_and_survive(session):
    ids = session.cells.frame.index[:3]
    session.set_verdict(ids, "rejected")
    session.set_verdict(ids[:1], "accepted")
    assert session.cells.frame.loc[ids, "verdict"].tolist() == ["accepted", "rejected", "rejected"]
    assert len(session.counting_cells()) == len(session.cells) - 2
    session.undo()
    session.undo()
    assert (session.cells.frame["verdict"] == "proposed").all()
    session.redo()
    again = Session.open(session.folder)
    assert again.cells.frame.loc[ids, "verdict"].tolist() == ["rejected"] * 3
    again.close()


def test_painting_changes_only_the_painted_cells(session):
    image_id = session.images[0].image_id
    before = session.cells.frame
    labels = session.labels(image_id)
    rows = session.cells.of_image(image_id)
    grown, gone = int(rows["label"].iloc[0]), int(rows["label"].iloc[1])
    labels[labels == gone] = 0
    y, x = np.argwhere(labels == 0)[0]
    labels[y, x] = grown
    heard = []
    session.events.cells_changed.connect(heard.append)
    changed = session.set_labels(image_id, labels)
    assert changed == {rows.index[0], rows.index[1]}
    beside = sorted(heard[0] - changed)  # what is measured of a cell tells of its neighbours, too
    assert changed <= heard[0]
    assert set(beside) <= set(rows.index)
    after = session.cells.frame
    assert after.loc[rows.index[0], "revision"] == 2
    assert after.loc[rows.index[0], "verdict"] == "edited"
    assert after.loc[rows.index[0], "area"] == before.loc[rows.index[0], "area"] + 1
    assert rows.index[1] not in after.index
    said = [name for name in before if name not in MEASURED]
    assert after.loc[beside, said].equals(before.loc[beside, said])
    untouched = before.index.difference(heard[0])
    assert after.loc[untouched].equals(before.loc[untouched])
    assert session.stale_cells() == {rows.index[0]}
    assert np.array_equal(session.labels(image_id), labels)


def test_a_new_painted_cell_gets_an_id_that_no_cell_ever_had(session):
    image_id = session.images[0].image_id
    highest = session.cells.frame.index.max()
    labels = session.labels(image_id)
    free = np.argwhere(labels == 0)[:5]
    labels[tuple(free.T)] = labels.max() + 1
    (new,) = session.set_labels(image_id, labels)
    assert new > highest
    assert session.row(new)["area"] == 5


def test_labels_of_another_shape_are_refused(session):
    with pytest.raises(UserError, match="do not fit"):
        session.set_labels(session.images[0].image_id, np.zeros((3, 3), np.int32))


def test_segmenting_again_keeps_what_a_person_decided(session):
    image_id = session.images[0].image_id
    rows = session.cells.of_image(image_id)
    accepted = int(rows.index[4])
    mask = session.labels(image_id) == rows.loc[accepted, "label"]
    session.set_verdict([accepted], "accepted")
    session.put(SegmentParameters(diameter=float(rows["minor_axis"].median())))
    drive(session.segment([image_id]))
    row = session.row(accepted)
    assert row["verdict"] == "accepted"
    assert row["revision"] == 1
    assert np.array_equal(session.labels(image_id) == row["label"], mask)
    assert len(session.cells.of_image(image_id)) > 10
    assert not set(rows.index) - {accepted} & set(session.cells.frame.index)


def test_an_image_that_was_moved_away_is_marked_and_the_others_are_done(session):
    record = session.images[0]
    record.path.rename(record.path.with_suffix(".moved"))
    try:
        report = drive(session.prepare_images())
    finally:
        record.path.with_suffix(".moved").rename(record.path)
    assert report.done == 1
    assert "no longer there" in report.failed[0][1]
    assert session.image(record.image_id).state == "failed"


def test_cancelling_loses_the_image_in_hand_and_nothing_else(session):
    before = session.cells.of_image(session.images[1].image_id)
    job = session.segment()
    for progress in job:
        if progress.message.startswith(session.images[1].name):
            job.close()
            break
    assert session.cells.of_image(session.images[1].image_id).equals(before)
    assert session.image(session.images[0].image_id).state == "segmented"


def test_clustering_again_keeps_names_with_their_cells(session):
    first = session.cells.frame["cluster"]
    report = drive(session.recluster())
    assert report.clusters == first.nunique()
    assert (session.cells.frame["cluster"] == first).mean() > 0.9


def test_moving_images_to_another_condition_moves_their_cells(session):
    record = session.images[1]
    session.set_condition([record.image_id], "drug 1 µM")
    assert session.image(record.image_id).condition == "drug 1 µM"
    assert (session.cells.of_image(record.image_id)["condition"] == "drug 1 µM").all()


def test_the_same_images_are_not_added_twice(session, finished):
    folder = finished.images[0].path.parents[1]
    report = drive(session.add_images(folder))
    assert report.added == ()
    assert len(session.images) == 2


def test_running_without_images_says_what_to_do(tmp_path):
    session = Session.create(tmp_path / "empty.curator")
    with pytest.raises(UserError, match="add a folder of images"):
        drive(session.run())
    with pytest.raises(UserError, match="find cells first"):
        drive(session.embed())
    session.close()
