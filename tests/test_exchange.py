"""Export and import of whole projects, from the session and from the command line."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_curator.cli import exchange as commands
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.regions import HOLDOUT, REVIEWED
from cell_curator.exchange import export, import_cells
from cell_curator.io.formats.registry import FORMATS, READ, WRITTEN, by_name
from cell_curator.io.images import read_image, write_tiff
from cell_curator.io.labels import read_labels, write_labels
from cell_curator.marking import mark
from cell_curator.session import Session
from small_project import CIRCLES, SHAPE, execute, mapped, session  # noqa: F401
from test_cli import invoke, refused

MASKS = [form.name for form in WRITTEN if form.lossless]


def state(session):  # noqa: F811
    """Everything that must survive a round trip: pixels, ids, verdicts."""
    pixels = {record.name: session.labels(record.image_id) for record in session.images}
    return pixels, session.cells.frame[["image", "label", "verdict", "revision"]]


def assert_same(one, other):
    for name, labels in one[0].items():
        np.testing.assert_array_equal(labels, other[0][name])
    pd.testing.assert_frame_equal(one[1], other[1])


def fresh(session, folder):  # noqa: F811
    """A project of the same images, without cells."""
    new = Session.create(folder / "fresh.curator")
    drive(new.add_images(session.folder.parent / "images"))
    return new


@pytest.fixture
def decided(session):  # noqa: F811
    """The small project with one cell of each verdict in the first image."""
    ids = session.cells.of_image(session.images[0].image_id).index
    for cell_id, verdict in zip(ids, ("proposed", "accepted", "locked", "edited"), strict=True):
        session.set_verdict([cell_id], verdict)
    return session


# ---------------------------------------------------------------------- there and back


@pytest.mark.parametrize("name", ["labels", "coco", "ome-zarr"])
def test_what_was_locked_away_stays_so_in_another_project(decided, name, tmp_path):
    first, second = (record.image_id for record in decided.images)
    mark(decided, first, REVIEWED, [(2, 3), (2, 40.5), (50, 40.5)])
    mark(decided, second, HOLDOUT)
    drive(export(decided, tmp_path / "out", by_name(name)))
    other = fresh(decided, tmp_path)
    for _ in range(2):  # the second time there is nothing new
        drive(import_cells(other, tmp_path / "out"))
        assert [(r.image_id, r.kind, r.corners) for r in other.regions()] == [
            (r.image_id, r.kind, r.corners) for r in decided.regions()
        ]
    other.close()


@pytest.mark.parametrize("name", MASKS)
def test_what_was_exported_comes_in_again_without_a_change(decided, name, tmp_path):
    before = state(decided)
    drive(export(decided, tmp_path / "out", by_name(name)))
    report = drive(import_cells(decided, tmp_path / "out"))
    assert report.failed == ()
    assert report.cells == {"control/control": 4, "treated/treated": 4}
    assert report.format.name == {"png": "labels", "coco-polygons": "coco"}.get(name, name)
    after = state(decided)
    if name in ("labels", "png"):  # they tell nothing of verdicts, so a proposal that came in counts as accepted
        before[1]["verdict"] = before[1]["verdict"].replace("proposed", "accepted")
    assert_same(before, after)


@pytest.mark.parametrize("name", MASKS)
def test_an_empty_project_gets_cells_and_verdicts(decided, name, tmp_path):
    drive(export(decided, tmp_path / "out", by_name(name)))
    new = fresh(decided, tmp_path)
    drive(import_cells(new, tmp_path / "out", by_name(name)))
    pixels, _ = state(decided)
    for record in new.images:
        np.testing.assert_array_equal(new.labels(record.image_id), pixels[record.name])
        assert record.state == "segmented"
    verdicts = new.cells.of_image(new.images[0].image_id).set_index("label")["verdict"]
    if name in ("labels", "png"):
        assert set(verdicts) == {"accepted"}
    else:
        assert verdicts.to_dict() == {1: "proposed", 2: "accepted", 3: "locked", 4: "edited"}
    new.close()


def test_rejected_cells_stay_at_home_and_survive_the_return(decided, tmp_path):
    image_id = decided.images[1].image_id
    decided.set_verdict([decided.cell_at(image_id, 2)], "rejected")
    report = drive(export(decided, tmp_path / "out", by_name("labels")))
    assert report.notes == ("1 rejected cells were left out (--rejected writes them too)",)
    assert np.unique(read_labels(tmp_path / "out" / "treated" / "treated.tif")).tolist() == [0, 1, 3, 4]
    drive(export(decided, tmp_path / "all", by_name("labels"), rejected=True))
    assert np.unique(read_labels(tmp_path / "all" / "treated" / "treated.tif")).tolist() == [0, 1, 2, 3, 4]
    before = decided.row(decided.cell_at(image_id, 2))
    drive(import_cells(decided, tmp_path / "out"))
    after = decided.row(decided.cell_at(image_id, 2))
    assert after["verdict"] == "rejected"
    assert after.name == before.name


# ---------------------------------------------------------------------- identity


def test_a_cell_keeps_its_id_though_the_other_program_numbers_anew(session, tmp_path, discs):  # noqa: F811
    image_id = session.images[0].image_id
    ids = [session.cell_at(image_id, label) for label in (1, 2, 3, 4)]
    y, x, r = CIRCLES[1]
    changed = discs(SHAPE, [CIRCLES[3], CIRCLES[2], (y, x + 1, r), (30, 8, 4)])  # 1 is gone, 2 moved, one is new
    (tmp_path / "in").mkdir()
    write_labels(tmp_path / "in" / "control_masks.tif", changed)
    drive(import_cells(session, tmp_path / "in"))
    labels = session.labels(image_id)
    assert session.cell_at(image_id, int(labels[44, 62])) == ids[3]
    assert session.cell_at(image_id, int(labels[46, 30])) == ids[2]
    assert session.cell_at(image_id, int(labels[y, x + 1])) == ids[1]
    new = session.cell_at(image_id, int(labels[30, 8]))
    assert new not in ids
    assert ids[0] not in session.cells
    assert session.row(ids[1])["revision"] > session.row(ids[2])["revision"]
    assert (labels > 0).sum() == (changed > 0).sum()


def test_huge_numbers_are_made_small_so_that_no_table_of_them_fills_the_memory(session, tmp_path):  # noqa: F811
    labels = np.zeros(SHAPE, np.int64)
    labels[2:5, 2:5], labels[9:12, 9:12] = 2**31 - 1, 1_000_000
    (tmp_path / "in").mkdir()
    write_labels(tmp_path / "in" / "control.tif", labels)
    report = drive(import_cells(session, tmp_path / "in"))
    assert report.notes == ("control/control: 1 numbers above 1000000 were replaced by small ones",)
    found = session.labels(session.images[0].image_id)
    assert found[9, 9] == 1_000_000
    assert 0 < found[2, 2] < 100
    np.testing.assert_array_equal(found > 0, labels > 0)


def test_locked_cells_stop_the_import_of_their_image_alone(decided, tmp_path, discs):
    moved = [(y, x + 1, r) for y, x, r in CIRCLES]
    (tmp_path / "in").mkdir()
    for name in ("control", "treated"):
        write_labels(tmp_path / "in" / f"{name}.tif", discs(SHAPE, moved))
    report = drive(import_cells(decided, tmp_path / "in"))
    ((path, reason),) = report.failed
    assert Path(path).name == "control.tif"
    assert reason == "control/control: 1 locked cells would change; unlock them first"
    assert list(report.cells) == ["treated/treated"]


def test_a_persons_word_stands_where_the_cell_did_not_change(decided, tmp_path):
    image_id = decided.images[0].image_id
    (tmp_path / "in").mkdir()
    write_labels(tmp_path / "in" / "control.tif", decided.labels(image_id))
    drive(import_cells(decided, tmp_path / "in", verdict="edited"))
    verdicts = decided.cells.of_image(image_id).set_index("label")["verdict"]
    assert verdicts.to_dict() == {1: "edited", 2: "accepted", 3: "locked", 4: "edited"}


def test_the_import_is_in_the_journal(session, tmp_path, discs):  # noqa: F811
    (tmp_path / "in").mkdir()
    write_labels(tmp_path / "in" / "control.tif", discs(SHAPE, CIRCLES[:1]))
    drive(import_cells(session, tmp_path / "in"))
    assert "import" in list(session.project.journal()["action"])


# ---------------------------------------------------------------------- names


def test_names_are_matched_whatever_form_the_system_gives_them(tmp_path, discs):
    name = "Zelle ä (1) 日本"
    images = tmp_path / "images"
    images.mkdir()
    write_tiff(images / f"{name}.tif", np.zeros((1, *SHAPE), np.uint8))
    project = Session.create(tmp_path / "p.curator")
    drive(project.add_images(images))
    (tmp_path / "in").mkdir()
    decomposed = unicodedata.normalize("NFD", name).upper()
    write_labels(tmp_path / "in" / f"{decomposed}_cp_masks.tif", discs(SHAPE, CIRCLES))
    write_labels(tmp_path / "in" / f"{decomposed}.tif", discs(SHAPE, CIRCLES[:1]))  # the picture beside its masks
    assert drive(import_cells(project, tmp_path / "in")).cells == {name: 4}
    project.close()


def test_bad_files_fail_alone_with_one_line_each(session, tmp_path, discs):  # noqa: F811
    folder = tmp_path / "in" / "treated"
    folder.mkdir(parents=True)
    write_labels(folder / "treated.tif", discs(SHAPE, CIRCLES[:2]))
    write_labels(folder / "unknown.tif", discs(SHAPE, CIRCLES))
    write_labels(tmp_path / "in" / "control.tif", discs((10, 12), [(5, 5, 3)]))
    (tmp_path / "in" / "broken.tif").write_bytes(b"II*\0 cut short")
    report = drive(import_cells(session, tmp_path / "in"))
    assert report.cells == {"treated/treated": 2}
    reasons = {Path(path).name: reason for path, reason in report.failed}
    assert (
        "no image of the project is called “treated/unknown”; give it the name of its image" in reasons["unknown.tif"]
    )
    assert "labels are 12 × 10 px but the image is 80 × 64 px" in reasons["control.tif"]
    assert "export the image again" in reasons["broken.tif"]
    assert all("\n" not in reason for reason in reasons.values())


def test_a_name_that_two_images_share_needs_its_folder(tmp_path, discs):
    for condition in ("a", "b"):
        (tmp_path / "images" / condition).mkdir(parents=True)
        write_tiff(tmp_path / "images" / condition / "1.tif", np.zeros((1, *SHAPE), np.uint8))
    project = Session.create(tmp_path / "p.curator")
    drive(project.add_images(tmp_path / "images"))
    (tmp_path / "in" / "b").mkdir(parents=True)
    write_labels(tmp_path / "in" / "1.tif", discs(SHAPE, CIRCLES))
    write_labels(tmp_path / "in" / "b" / "1.tif", discs(SHAPE, CIRCLES[:3]))
    report = drive(import_cells(project, tmp_path / "in"))
    assert report.cells == {"b/1": 3}
    assert "may belong to a/1 and b/1; put it into a folder of the condition's name" in report.failed[0][1]
    project.close()


def test_odd_labels_are_taken_with_a_note_or_refused_in_words(session, tmp_path):  # noqa: F811
    import tifffile

    folder = tmp_path / "in"
    folder.mkdir()
    pieces = np.zeros(SHAPE, np.int64)
    pieces[1:4, 1:4] = pieces[20:24, 20:24] = 5
    tifffile.imwrite(folder / "control.tif", pieces)
    negative = np.zeros(SHAPE, np.int16)
    negative[3, 3] = -4
    tifffile.imwrite(folder / "treated.tif", negative)
    report = drive(import_cells(session, folder))
    assert report.notes == ("control/control: 1 cell is in several pieces",)
    assert report.cells == {"control/control": 1}
    assert "has negative labels; background must be 0" in report.failed[0][1]
    for odd, cells in ((pieces > 0, 2), (pieces.astype(float), 1), (pieces.astype(np.uint8) * 51, 2)):
        tifffile.imwrite(folder / "treated.tif", odd)
        assert drive(import_cells(session, folder)).cells["treated/treated"] == cells
    tifffile.imwrite(folder / "treated.tif", pieces * 0.3)
    assert "fractions" in drive(import_cells(session, folder)).failed[0][1]


# ---------------------------------------------------------------------- which format


def test_the_format_is_found_out_beside_the_images(session, tmp_path):  # noqa: F811
    drive(export(session, tmp_path / "images", by_name("cellpose")))  # as Cellpose does it
    assert drive(import_cells(session, tmp_path / "images")).format.name == "cellpose"
    drive(export(session, tmp_path / "images", by_name("geojson")))
    with pytest.raises(UserError, match="holds cellpose and geojson; say which with --format"):
        drive(import_cells(session, tmp_path / "images"))
    assert drive(import_cells(session, tmp_path / "images", by_name("geojson"))).failed == ()


def test_single_files_and_stores_are_taken(session, tmp_path):  # noqa: F811
    for name in ("cellpose", "imagej", "ome-zarr", "coco", "labels"):
        drive(export(session, tmp_path / name, by_name(name)))
    for path in ("cellpose/control/control_seg.npy", "imagej/control/control_rois.zip",
                 "ome-zarr/control/control.ome.zarr", "labels/control/control.tif"):  # fmt: skip
        assert drive(import_cells(session, tmp_path / path)).cells == {"control/control": 4}
    assert len(drive(import_cells(session, tmp_path / "coco" / "annotations.json")).cells) == 2


def test_nuclei_of_the_data_science_bowl_are_merged(data_folder, tmp_path):
    source = data_folder / "dsb2018_raw"
    project = Session.create(tmp_path / "p.curator")
    drive(project.add_images(source))
    report = drive(import_cells(project, source))
    assert report.format.name == "dsb2018"
    assert report.failed == ()
    assert len(report.cells) == len(project.images) == 4
    for record in project.images:
        masks = sorted(record.path.parents[1].glob("masks/*.png"))
        labels = project.labels(record.image_id)
        assert report.cells[record.name] == len(masks)
        union = np.any([read_image(mask).max(axis=0) > 0 for mask in masks], axis=0)
        np.testing.assert_array_equal(labels > 0, union)
    project.close()


# ---------------------------------------------------------------------- tables


def test_csv_has_micrometres_and_every_channel_where_they_are_known(tmp_path, discs):
    labels = discs(SHAPE, CIRCLES)
    (tmp_path / "images").mkdir()
    pixels = np.stack([labels * 10, 200 - labels]).astype(np.uint8)
    write_tiff(tmp_path / "images" / "a.tif", pixels, pixel_size_um=0.5)
    write_tiff(tmp_path / "images" / "b.tif", pixels[:1])
    project = Session.create(tmp_path / "p.curator")
    drive(project.add_images(tmp_path / "images"))
    for record in project.images:
        project.set_labels(record.image_id, labels)
    drive(export(project, tmp_path / "one.csv", by_name("csv")))
    table = pd.read_csv(tmp_path / "one.csv", index_col="cell_id")
    a, b = table[table["image"] == "a"], table[table["image"] == "b"]
    assert a["area_um2"].to_numpy() == pytest.approx(a["area"] * 0.25)
    assert a["major_axis_um"].to_numpy() == pytest.approx(a["major_axis"] / 2)
    assert b["area_um2"].isna().all()
    names = [
        column.removeprefix("mean_") for column in table if column.startswith("mean_") and column != "mean_intensity"
    ]
    assert len(names) == 2
    assert a[f"mean_{names[0]}"].to_numpy() == pytest.approx(10 * a["label"])
    assert a[f"max_{names[1]}"].to_numpy() == pytest.approx(200 - a["label"])
    assert (a[f"std_{names[1]}"] == 0).all()
    project.close()


def test_anndata_reads_measurements_facts_and_map(mapped, tmp_path):  # noqa: F811
    anndata = pytest.importorskip("anndata")
    mapped.set_labels(mapped.images[0].image_id, np.zeros(SHAPE, np.int32))
    drive(export(mapped, tmp_path / "out", by_name("anndata")))
    data = anndata.read_h5ad(tmp_path / "out" / "cells.h5ad")
    frame = mapped.cells.frame
    assert data.obs_names.tolist() == frame.index.astype(str).tolist()
    assert data.obs["image"].tolist() == ["treated/treated"] * 4
    assert data.obs["verdict"].tolist() == frame["verdict"].tolist()
    assert data.obs["cluster_name"].tolist() == [f"Cluster {n + 1}" for n in frame["cluster"]]
    np.testing.assert_allclose(data[:, "area"].X.ravel(), frame["area"])
    np.testing.assert_allclose(data.obsm["spatial"], frame[["x", "y"]])
    np.testing.assert_array_equal(data.obsm["X_map"][:, 0], [4, 5, 6, 7])
    assert not {"score", "flow_error", "map_error"} & set(data.var_names)  # said of a cell, not measured on it
    assert data.obs["score"].isna().all()
    assert json.loads(data.uns["map"])["clustering"]["space"] == "latent"
    assert data.var.loc["area", "unit"] == "px²"


def test_a_package_that_is_missing_is_named(session, tmp_path, monkeypatch):  # noqa: F811
    for name, package in (("anndata", "anndata"), ("imagej", "roifile")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(UserError, match=rf"needs {package}; run: pip install 'napari-cell-curator\[formats\]'"):
            drive(export(session, tmp_path / "out", by_name(name)))


# ---------------------------------------------------------------------- commands


@pytest.fixture
def project(session):  # noqa: F811
    session.close()
    return session.folder


def test_the_commands_list_the_formats_there_are():
    assert commands._WRITTEN.split(", ") == [form.name for form in WRITTEN]
    assert commands._READ.split(", ") == [form.name for form in READ]
    assert {form.name for form in FORMATS} == set(commands._WRITTEN.split(", ")) | set(commands._READ.split(", "))


@pytest.mark.parametrize("form", WRITTEN, ids=lambda form: form.name)
def test_export_and_import_as_commands(project, form, tmp_path):
    answer = invoke("export", project, tmp_path / "out", "--format", form.name, "--json").data
    assert answer["format"] == form.name
    assert all(Path(path).exists() for path in answer["files"])
    if form.lossless:
        answer = invoke("import", project, tmp_path / "out", "--format", form.name, "--json").data
        assert (answer["images"], answer["cells"], answer["failed"]) == (2, 8, 0)
    else:
        line = refused("import", project, tmp_path / "out", "--format", form.name)
        assert f"{form.name}: holds no masks, so it cannot be read in; use one of labels" in line


def test_files_may_be_named_where_there_is_one(project, tmp_path):
    for name, file in (("coco", "a/my.json"), ("anndata", "b/my.h5ad"), ("csv", "c/my.csv")):
        answer = invoke("export", project, tmp_path / file, "--format", name, "--json").data
        assert answer["files"] == [str(tmp_path / file)]
        assert [path.name for path in (tmp_path / file).parent.iterdir()] == [Path(file).name]


def test_commands_refuse_in_one_line(project, tmp_path):
    assert "is no format known here" in refused("export", project, tmp_path / "out", "--format", "tifff")
    assert "dsb2018: is read only" in refused("export", project, tmp_path / "out", "--format", "dsb2018")
    assert "does not exist" in refused("import", project, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds no masks that can be read here" in refused("import", project, tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "control_seg.npy").write_bytes(b"\x93NUMPY\x01\x00")
    assert "is damaged or no .npy file" in refused("import", project, tmp_path / "bad")
    assert not list(tmp_path.glob("out/*"))


def test_import_tells_of_each_file(project, tmp_path):
    invoke("export", project, tmp_path / "out", "--format", "labels")
    shutil.copy(tmp_path / "out" / "control" / "control.tif", tmp_path / "out" / "stranger.tif")
    result = invoke("import", project, tmp_path / "out")
    assert result.exit_code == 0
    assert "8 cells taken over in 2 images, 1 failed" in result.stdout
    assert "stranger.tif: no image of the project is called “stranger”" in result.stderr


@pytest.mark.parametrize("images", [0, 1])
@pytest.mark.parametrize("form", WRITTEN, ids=lambda form: form.name)
def test_a_project_without_cells_is_exported_too(form, images, tmp_path):
    project = Session.create(tmp_path / "p.curator")
    if images:
        (tmp_path / "images").mkdir()
        write_tiff(tmp_path / "images" / "a.tif", np.ones((2, *SHAPE), np.uint8))
        drive(project.add_images(tmp_path / "images"))
    written = drive(export(project, tmp_path / "out", form))
    assert all(path.exists() for path in written.files)
    if images and form.lossless:
        report = drive(import_cells(project, tmp_path / "out"))
        assert (report.cells, report.failed) == ({"a": 0}, ())
    if form.name == "csv":
        assert len(pd.read_csv(tmp_path / "out" / "cells.csv")) == 0
    if form.name == "anndata":
        assert pytest.importorskip("anndata").read_h5ad(written.files[0]).n_obs == 0
    project.close()
