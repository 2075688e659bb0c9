"""The map on a session: learned once, kept true when cells change, read and judged."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from cell_curator import map_figures, map_reading, mapping
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.patches import PatchParameters
from cell_curator.core.recipe import Channel, Recipe
from cell_curator.editing import edit
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.worker import inline
from cell_curator.io.project import Change
from cell_curator.io.tiff import write_tiff
from cell_curator.map_patches import cut_cells
from cell_curator.results import save_all
from cell_curator.session import Session

SHAPE = (90, 90)
QUICK = VaeParameters(latent=4, steps=25, width=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two conditions of two images with sixteen cells each; treated cells are larger. Mapped; do not change it."""
    root = tmp_path_factory.mktemp("map")
    rng, rows, columns = np.random.default_rng(0), *np.mgrid[: SHAPE[0], : SHAPE[1]]
    for condition, radius in (("control", 5), ("treated", 8)):
        for field in range(2):
            labels = np.zeros(SHAPE, np.int32)
            for number in range(16):
                y, x = 12 + 22 * (number // 4), 12 + 22 * (number % 4)
                labels[(rows - y) ** 2 + (columns - x) ** 2 < (radius + rng.normal(0, 0.7)) ** 2] = number + 1
            image = (200 + 800 * (labels > 0) + rng.normal(0, 20, SHAPE)).astype(np.uint16)
            folder = root / "images" / condition
            folder.mkdir(parents=True, exist_ok=True)
            write_tiff(folder / f"{condition}{field}.tif", image[None])
            np.save(root / f"{condition}{field}.npy", labels)
    session = Session.create(root / "study.curator")
    drive(session.add_images(root / "images"))
    for record in session.images:
        session.set_labels(record.image_id, np.load(root / f"{record.path.stem}.npy"))
    for parameters in (QUICK, PatchParameters(size=24), MapParameters(method="pca"),
                       ClusterParameters(method="kmeans", k=2)):  # fmt: skip
        session.put(parameters)
    session.report = drive(mapping.embed(session))
    yield session
    session.close()


@pytest.fixture
def session(made, tmp_path):
    """An own copy of it."""
    shutil.copytree(made.folder, tmp_path / "copy.curator")
    session = Session.open(tmp_path / "copy.curator")
    yield session
    session.close()


def _cells(session, image=0):
    return session.cells.of_image(session.images[image].image_id)


# ---------------------------------------------------------------------- learning and storing


def test_the_map_its_network_and_what_it_says_of_cells_are_kept(made):
    stored = made.embedding
    assert (made.report.cells, made.report.clusters) == (64, 2)
    assert mapping.map_network(made) == made.folder / "embeddings" / "0001.pt"
    frame = made.cells.frame
    assert (frame["map_error"] > 0).all()
    assert frame["map_isolation"].median() == pytest.approx(1)
    assert stored.detail["history"][-1]["validation"] > 0
    images = frame.loc[stored.detail["held_back"], "image"].unique()
    assert len(stored.detail["held_back"]) == 16 * len(images)  # whole images, or flips of a cell lie on both sides
    again = Session.open(made.folder)
    assert again.embedding.detail == stored.detail
    again.close()


def test_size_decides_the_clusters_of_these_cells(made):
    frame = made.cells.frame
    table = made.cells.frame.groupby("condition")["cluster"].mean()
    assert abs(table["control"] - table["treated"]) > 0.8
    top = map_reading.set_apart_by(made, 0).iloc[:3]["measurement"].tolist()
    assert "area" in top
    assert frame["cluster"].nunique() == 2


def test_labels_painted_while_the_network_learns(session):
    image_id = session.images[0].image_id
    grown, gone = _cells(session).index[:2].tolist()

    def meanwhile(target, /, **arguments):
        if target.endswith(":map_cells"):
            edit(session, image_id, "grow", labels=[int(session.row(grown)["label"])])
            edit(session, image_id, "delete", labels=[int(session.row(gone)["label"])])
        return inline(target, **arguments)

    session.execute = meanwhile
    drive(mapping.embed(session))
    assert gone not in session.cells
    assert session.stale_cells() == {grown}
    assert np.isnan(session.row(grown)["map_error"])  # it was said of the pixels before
    session.execute = inline
    report = drive(mapping.refresh(session))
    assert (report.refreshed, report.cells) == (1, 63)
    assert not session.stale_cells()


def test_a_cell_deleted_while_patches_are_cut_has_none(session):
    gone = int(_cells(session, 3).index[0])
    job = mapping.embed(session)
    next(job)
    edit(session, session.images[3].image_id, "delete", labels=[int(session.row(gone)["label"])])
    report = drive(job)
    assert report.cells == 63
    assert gone not in session.embedding.cell_id


def test_a_cancelled_training_leaves_its_best_network(session):
    session.put(QUICK.model_copy(update={"steps": 2000}))
    job = mapping.embed(session)
    for progress in job:
        if progress.payload is not None and progress.payload.step > 100:
            break
    job.close()
    assert session.embedding.detail["network"] == "embeddings/0001.pt"
    assert mapping.can_keep(session)
    drive(mapping.keep(session))
    assert session.embedding.detail["stopped"] == "by hand"
    assert session.embedding.detail["network"] == "embeddings/0002.pt"


def test_going_on_from_another_network_needs_the_same_patches(session, made):
    session.put(QUICK.model_copy(update={"steps": 3}))
    drive(mapping.embed(session, start=mapping.map_network(made)))
    assert session.embedding.detail["started from"] == "0001.pt"
    report = drive(mapping.embed(session, start=mapping.map_network(made), compare=True))
    assert any("better than starting afresh" in note and "after 0 of 3 steps" in note for note in report.notes)
    session.put(PatchParameters(size=32))
    with pytest.raises(UserError, match="24 px"):
        drive(mapping.embed(session, start=mapping.map_network(made)))


def test_fewer_cells_than_clusters(session):
    session.put(ClusterParameters(method="kmeans", k=50))
    session.set_verdict(session.cells.frame.index[9:], "rejected")
    report = drive(mapping.embed(session))
    assert report.cells == report.clusters == 9
    assert any("only 9 different cells for 50 clusters" in note for note in report.notes)


# ---------------------------------------------------------------------- keeping it true


def test_only_the_corrected_cell_is_looked_at_again(session):
    before = session.embedding
    one = int(_cells(session).index[3])
    edit(session, session.images[0].image_id, "grow", labels=[int(session.row(one)["label"])], px=3)
    sent = []

    def counted(target, /, **arguments):
        sent.append((target, len(arguments["images"] if "images" in arguments else arguments["new"])))
        return inline(target, **arguments)

    session.execute = counted
    report = drive(mapping.refresh(session))
    after = session.embedding
    assert sent == [
        ("cell_curator.engines.map_cells:encode_cells", 1),
        ("cell_curator.engines.map_network:place_cells", 1),
    ]
    assert report.refreshed == 1
    assert report.moved.cell_id.tolist() == [one]
    others = before.cell_id != one
    kept = after.cell_id != one
    np.testing.assert_array_equal(after.latent[kept], before.latent[others])
    np.testing.assert_array_equal(after.map2d[kept], before.map2d[others])
    np.testing.assert_array_equal(report.moved.before[0], before.map2d[~others][0])
    assert not np.array_equal(report.moved.after, report.moved.before)
    assert not session.stale_cells()
    assert drive(mapping.refresh(session)).notes == ("the map is up to date",)


def test_a_map_of_an_older_revision_of_half_the_cells_is_brought_up_to_date(session):
    stored = session.embedding
    half = np.arange(64) % 2 == 0
    old = replace(stored, revision=np.where(half, 0, stored.revision))
    session.commit(Change("map", {}, embedding=old, clustering=stored.clustering))
    clusters = session.cells.frame["cluster"].copy()
    assert len(session.stale_cells()) == 32
    assert any("32 of 64 cells" in line for line in map_reading.quick_warnings(session))
    report = drive(mapping.refresh(session))
    assert report.refreshed == 32
    now = dict(zip(session.embedding.cell_id.tolist(), session.embedding.map2d, strict=True))
    was = dict(zip(stored.cell_id.tolist(), stored.map2d, strict=True))
    span = np.ptp(stored.map2d, axis=0).max()
    assert max(np.abs(now[i] - was[i]).max() for i in was) < 1e-3 * span  # the same pixels have the same place
    assert (session.cells.frame["cluster"] == clusters).all()


def test_cells_of_one_kind_that_all_changed_do_not_join_another_kind(session):
    before = session.cells.frame["cluster"].copy()
    for image in session.images[:2]:
        for label in session.cells.of_image(image.image_id)["label"].tolist():
            edit(session, image.image_id, "shrink", labels=[label])
    report = drive(mapping.refresh(session))
    assert report.refreshed == 32
    assert any("32 cells changed or are new, on a map of 64: it is better made again" in n for n in report.notes)
    now = session.cells.frame
    assert (now["cluster"] == before).mean() > 0.9  # although no cell like them stayed as it was
    assert np.isfinite(now["map_isolation"]).all()


def test_new_cells_join_and_rejected_ones_leave(session):
    image_id = session.images[2].image_id
    rejected = int(_cells(session).index[0])
    session.set_verdict([rejected], "rejected")
    labels = session.labels(image_id)
    labels[:3, :3] = 99
    session.set_labels(image_id, labels)
    new = session.cell_at(image_id, 99)
    report = drive(mapping.refresh(session))
    assert (report.cells, report.refreshed) == (64, 1)
    assert new in session.embedding.cell_id
    assert rejected not in session.embedding.cell_id
    assert session.row(rejected)["cluster"] == -1
    assert np.isnan(session.row(rejected)["map_error"])
    assert session.row(new)["cluster"] >= 0
    assert session.row(new)["map_isolation"] > 1
    session.set_verdict([rejected], "accepted")
    assert drive(mapping.refresh(session)).cells == 65


def test_rejected_cells_do_not_count_in_what_is_said_of_the_map(session):
    gone = session.cells.frame.index[:5].tolist()
    before = map_reading.comparison(session).counts.sum()
    session.set_verdict(gone, "rejected")
    assert map_reading.comparison(session).counts.sum() == before - 5
    assert any("5 cells of the map no longer count" in line for line in map_reading.quick_warnings(session))
    drive(mapping.recluster(session))
    clusters = session.cells.frame["cluster"]
    assert (clusters.loc[gone] == -1).all()
    assert (clusters.drop(gone) >= 0).all()
    session.set_verdict(session.cells.frame.index, "rejected")
    for job in (mapping.recluster, mapping.suggest, map_reading.judge):
        with pytest.raises(UserError, match="no cell of the map counts"):
            drive(job(session))
    drive(save_all(session))
    assert (session.folder / "report.html").is_file()


def test_a_map_of_all_channels_is_refreshed_where_cells_only_left(session):
    session.put(session.get(PatchParameters).model_copy(update={"channels": "all"}))
    session.put(QUICK.model_copy(update={"steps": 3}))
    drive(mapping.embed(session))
    session.set_verdict(session.cells.frame.index[:1], "rejected")
    assert drive(mapping.refresh(session)).cells == 63


def test_patches_are_cut_as_when_the_map_was_made(session):
    session.put(PatchParameters(size=64))
    one = int(_cells(session).index[0])
    edit(session, session.images[0].image_id, "grow", labels=[int(session.row(one)["label"])])
    report = drive(mapping.refresh(session))
    assert any("not as they are set now" in note for note in report.notes)


def test_old_arrays_go_and_the_network_stays(session):
    one = int(_cells(session).index[0])
    for _ in range(5):
        edit(session, session.images[0].image_id, "grow", labels=[int(session.row(one)["label"])])
        drive(mapping.refresh(session))
    names = sorted(file.name for file in (session.folder / "embeddings").iterdir())
    assert names == ["0001.pt", "0004.npz", "0005.npz", "0006.npz"]
    assert mapping.map_network(session) is not None


def test_what_needs_a_map_or_its_network_says_so(session):
    mapping.map_network(session).unlink()
    edit(session, session.images[0].image_id, "grow", labels=[1])
    with pytest.raises(UserError, match="was not kept; make the map again"):
        drive(mapping.refresh(session))
    empty = Session.create(session.folder.parent / "empty.curator")
    for job in (mapping.refresh, mapping.recluster, mapping.suggest, map_reading.judge):
        with pytest.raises(UserError, match="no map yet"):
            drive(job(empty))
    empty.close()


# ---------------------------------------------------------------------- names


def test_a_name_and_a_note_are_undoable_and_stay_with_their_cluster(session):
    frame = session.cells.frame
    mapping.rename_cluster(session, 1, "  large ones ")
    mapping.note_cluster(session, 1, "round, treated")
    assert session.embedding.cluster_names == {0: "Cluster 1", 1: "large ones"}
    session.undo()
    assert session.embedding.cluster_notes == {}
    session.redo()
    assert session.embedding.cluster_notes == {1: "round, treated"}
    members = set(frame.index[frame["cluster"] == 1])
    session.put(ClusterParameters(method="gmm", k=2, seed=5))
    drive(mapping.recluster(session))
    now = session.cells.frame["cluster"]
    (number,) = [n for n, name in session.embedding.cluster_names.items() if name == "large ones"]
    assert len(members & set(now.index[now == number])) > 0.9 * len(members)
    assert session.embedding.cluster_notes == {number: "round, treated"}
    again = Session.open(session.folder)
    assert again.embedding.cluster_names[number] == "large ones"
    assert {"rename cluster", "note on cluster", "undo", "redo"} <= set(again.project.journal()["action"])
    again.close()
    with pytest.raises(UserError, match="another cluster"):
        mapping.rename_cluster(session, 0, "large ones")
    with pytest.raises(UserError, match="no cluster 8"):
        mapping.rename_cluster(session, 7, "x")
    mapping.rename_cluster(session, number, "")
    assert session.embedding.cluster_names[number] == f"Cluster {number + 1}"


def test_a_replay_refreshes_and_names_too(session, tmp_path):
    from cell_curator import replay

    edit(session, session.images[0].image_id, "grow", labels=[1])
    drive(mapping.refresh(session))
    mapping.rename_cluster(session, 0, "small'; import os")
    mapping.note_cluster(session, 0, "as control")
    text = replay.script(session.project)
    assert "work.refresh_map()" in text
    work = replay.Replay(tmp_path / "again.curator")
    body = [line for line in text.splitlines() if line.startswith("work.")]
    for line in body:
        exec(line, {"work": work})
    again = Session.open(tmp_path / "again.curator")
    assert again.embedding.cluster_names[0] == "small'; import os"
    assert again.embedding.cluster_notes == {0: "as control"}
    assert len(again.embedding.cell_id) == 64
    assert not again.stale_cells()
    again.close()


# ---------------------------------------------------------------------- reading


def test_samples_and_neighbours_are_cells_of_the_table(made):
    for how in ("random", "center"):
        chosen = map_reading.samples(made, 1, 7, how)
        assert len(chosen) == 7
        assert (made.cells.frame.loc[chosen, "cluster"] == 1).all()
    one = int(made.cells.frame.index[0])
    near = map_reading.neighbours(made, one, 5)
    assert len(near) == 5
    assert one not in near
    assert (made.cells.frame.loc[near, "condition"] == "control").mean() > 0.5
    with pytest.raises(UserError, match="not on the map"):
        map_reading.neighbours(made, 10_000)


def test_the_network_paints_middles_and_features(made):
    picture = drive(map_reading.decoded_center(made, 0))
    assert picture.shape == (24, 24)
    assert 0 <= picture.min() < picture.max() <= 1
    walked = drive(map_reading.traversal(made, cluster=0, steps=5))
    assert walked.shape == (4, 5, 24, 24)
    np.testing.assert_allclose(walked[:, 2], np.broadcast_to(picture, (4, 24, 24)), atol=1e-4)
    with pytest.raises(UserError, match="told of no conditions"):
        drive(map_reading.counterfactual(made, [1, 2], "treated"))


def test_a_network_that_was_told_paints_cells_under_another_condition(session):
    session.put(QUICK.model_copy(update={"model": "cvae"}))
    drive(mapping.embed(session))
    assert session.embedding.detail["conditions"] == ["control", "treated"]
    cells = _cells(session).index[:3].tolist()
    made = drive(map_reading.counterfactual(session, cells[::-1], "treated"))
    assert set(made.cells) == set(cells)
    assert made.conditions == ("control",) * 3
    assert made.are.shape == made.painted.shape == made.otherwise.shape == (3, 24, 24)
    own = drive(map_reading.counterfactual(session, cells, "control"))
    np.testing.assert_array_equal(own.painted, own.otherwise)
    assert (made.painted != made.otherwise).any()
    with pytest.raises(UserError, match="only of control, treated"):
        drive(map_reading.counterfactual(session, cells, "drug"))
    edit(session, session.images[0].image_id, "grow", labels=[1])
    assert drive(mapping.refresh(session)).refreshed == 1
    made = drive(map_reading.judge(session))
    assert any("was told the condition" in line for line in made.warnings)
    assert any("noise ⊕ label" in row.space and row.value > 0.95 for row in made.honesty)


def test_the_judgement_tests_by_image_and_warns_in_words(made):
    got = drive(map_reading.judge(made))
    assert got.comparison.units == {"control": 2, "treated": 2}
    assert got.comparison.unit == "image"
    assert got.comparison.p == pytest.approx(1 / 3)
    assert any("no p below 0.33 is possible" in line for line in got.warnings)
    assert {row.space for row in got.honesty} >= {"latent", "map", "noise ⊕ label (control)"}
    assert any(row.split == "images held back" for row in got.honesty)


def test_one_condition_only(session):
    session.set_condition([record.image_id for record in session.images], "control")
    got = drive(map_reading.judge(session))
    assert "only one condition" in got.comparison.refused
    assert any("only one condition" in line for line in got.warnings)


def test_the_patch_that_is_proposed_fits_these_cells(made):
    got = map_reading.sizes(made)
    assert 16 <= got.size <= 24
    assert got.cut == ""


def test_a_suggestion_changes_nothing(session):
    before = session.embedding
    got = drive(mapping.suggest(session))
    assert got.k in got.table.index
    assert got.table.loc[2, "stability"] > 0.9
    assert session.embedding is before


def test_a_network_sees_every_channel_if_it_is_to(session, tmp_path):
    for record in session.images:
        image = session.pixels(record.image_id)[0]
        (tmp_path / "two" / record.condition).mkdir(parents=True, exist_ok=True)
        write_tiff(tmp_path / "two" / record.condition / record.path.name, np.stack([image, image[::-1]]))
    two = Session.create(tmp_path / "two.curator")
    drive(two.add_images(tmp_path / "two"))
    for there, here in zip(two.images, session.images, strict=True):
        two.set_labels(there.image_id, session.labels(here.image_id))
    for parameters in (QUICK, PatchParameters(size=24, channels="all"), MapParameters(method="pca"),
                       Recipe(channel=Channel(mode="index", index=0))):  # fmt: skip
        two.put(parameters)
    patches, rows = drive(cut_cells(two, two.cells.frame.index.tolist()))
    assert patches.images.shape == (64, 2, 24, 24)
    single, _ = drive(mapping.cut_patches(two, rows))
    np.testing.assert_array_equal(single.images, patches.images[:, 0])
    drive(mapping.embed(two))
    edit(two, two.images[0].image_id, "grow", labels=[1])
    assert drive(mapping.refresh(two)).refreshed == 1
    assert drive(map_reading.decoded_center(two, 0)).shape == (2, 24, 24)
    assert {"samples", "map-by-cluster"} <= set(drive(map_figures.draw(two)))
    two.put(PatchParameters(size=24))
    with pytest.raises(UserError, match="2 channel"):
        drive(mapping.embed(two, start=mapping.map_network(two)))
    two.put(PatchParameters(size=24, channels="all"))
    drive(two.add_images(session.images[0].path.parent))
    two.set_labels(two.images[-1].image_id, session.labels(session.images[0].image_id))
    with pytest.raises(UserError, match="images have 1 and 2 channels"):
        drive(mapping.embed(two))
    two.close()


def test_verdicts_given_while_cells_are_scored_stay(session, monkeypatch):
    from cell_curator import workflow

    judged, painted, gone = session.cells.frame.index[:3].tolist()
    real = workflow.score

    def slow(frame, params):
        session.set_verdict([judged], "rejected")
        edit(session, session.images[0].image_id, "grow", labels=[int(session.row(painted)["label"])])
        edit(session, session.images[0].image_id, "delete", labels=[int(session.row(gone)["label"])])
        return real(frame, params)

    monkeypatch.setattr(workflow, "score", slow)
    drive(session.score_outliers())
    frame = session.cells.frame
    assert frame.loc[judged, "verdict"] == "rejected"
    assert frame.loc[painted, ["verdict", "revision"]].tolist() == ["edited", 2]
    assert gone not in frame.index
    assert frame["score"].drop(painted).notna().all()


def test_a_run_that_fails_leaves_the_project_as_it_was(session):
    def fails(target, /, **arguments):
        if target.endswith((":map_cells", ":regroup")):
            raise UserError("the worker ran out of memory")
        return (yield from inline(target, **arguments))

    session.execute = fails
    before, stored = dict(session.project.settings()), session.embedding
    with pytest.raises(UserError, match="memory"):
        drive(mapping.embed(session, parameters=(QUICK.model_copy(update={"latent": 9}), PatchParameters(size=32))))
    with pytest.raises(UserError, match="memory"):
        drive(mapping.recluster(session, ClusterParameters(k=7)))
    assert session.project.settings() == before
    assert session.embedding is stored


def test_parameters_become_the_projects_with_the_map_they_made(session):
    chosen = (QUICK.model_copy(update={"latent": 3, "steps": 2}), PatchParameters(size=32))
    drive(mapping.embed(session, parameters=chosen))
    assert (session.get(VaeParameters), session.get(PatchParameters)) == chosen
    assert session.embedding.latent.shape == (64, 3)
    assert session.embedding.detail["parameters"]["PatchParameters"]["size"] == 32
    drive(mapping.recluster(session, ClusterParameters(method="kmeans", k=3)))
    assert session.get(ClusterParameters).k == 3
    assert len(session.embedding.cluster_names) == 3


def test_what_a_stopped_training_was_asked_for_is_kept_with_it(session):
    chosen = QUICK.model_copy(update={"steps": 2000, "latent": 5})
    job = mapping.embed(session, parameters=(chosen, PatchParameters(size=32)))
    next(job)
    job.close()
    assert session.get(VaeParameters) == QUICK  # nothing was learned yet
    job = mapping.embed(session, parameters=(chosen, PatchParameters(size=32)))
    for progress in job:
        if progress.payload is not None and progress.payload.step > 100:
            break
    job.close()
    drive(mapping.keep(session))
    assert session.embedding.latent.shape == (64, 5)
    assert session.embedding.detail["parameters"]["PatchParameters"]["size"] == 32
