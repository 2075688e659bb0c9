"""Cover of folders and projects, by the jobs and by the command."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cell_curator.cli import app
from cell_curator.confluency import cover_folder, cover_masks, cover_project
from cell_curator.core.confluency import ConfluencyParameters
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.pixel_clusters import KmeansParameters
from cell_curator.core.regions import REVIEWED
from cell_curator.io.images import read_image, write_tiff
from cell_curator.io.labels import read_labels, write_labels
from cell_curator.marking import mark
from small_project import execute, session  # noqa: F401

SAY, PARAMS = ConfluencyParameters(alarm=15), KmeansParameters(trim_px=3, smallest_island=50)
SHAPE = (160, 200)


def dish(seed, cells):
    rng = np.random.default_rng(seed)
    truth = np.zeros(SHAPE, np.uint8)
    for y, x in np.column_stack([rng.integers(0, side, cells) for side in SHAPE]).tolist():
        cv2.circle(truth, (x, y), 14, 1, -1)
    grain = cv2.GaussianBlur(rng.normal(0, 1, SHAPE).astype(np.float32), (0, 0), 1.5)
    return (300 + rng.normal(0, 1, SHAPE) + 60 * grain * truth).astype(np.uint16), truth.astype(np.int32)


@pytest.fixture(scope="module")
def dishes():
    return {f"{condition}/dish_{hour}h": dish(hour + extra, 3 + hour // 6) for condition, extra in
            (("control", 0), ("drug", 1)) for hour in (6, 48)}  # fmt: skip


@pytest.fixture
def folder(tmp_path, dishes):
    for name, (image, labels) in dishes.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "truth" / name).parent.mkdir(parents=True, exist_ok=True)
        write_tiff(tmp_path / "images" / f"{name}.tif", image[None], pixel_size_um=0.5)
        write_labels(tmp_path / "truth" / f"{name}.tif", labels)
    return tmp_path


def invoke(*arguments):
    result = CliRunner().invoke(app, ["confluency", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def refused(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.strip().splitlines()[-1]


def test_a_folder_gives_a_table_a_curve_and_masks(folder, dishes):
    report = drive(cover_folder(folder / "images", folder / "out", PARAMS, SAY))
    table = pd.read_csv(folder / "out" / "confluency.csv").set_index("image")
    assert list(table.index) == ["control/dish_6h", "control/dish_48h", "drug/dish_6h", "drug/dish_48h"]
    for name, (_, truth) in dishes.items():
        row, mask = table.loc[name], read_image(folder / "out" / f"{name}.tif")[0]
        assert row["percent"] == pytest.approx(100 * truth.mean(), abs=5)
        assert row["percent"] == pytest.approx(100 * (mask == 255).mean(), rel=1e-5)
        assert set(np.unique(mask)) == {0, 255}
        assert row["low"] <= row["percent"] <= row["high"]
        assert row["covered_um2"] == pytest.approx((mask == 255).sum() * 0.25, rel=1e-5)
    assert table["time"].tolist() == [6, 48, 6, 48]
    assert (table["threshold"] == 0.5).all()
    assert report.alarming(SAY) == [name for name in table.index if table.loc[name, "percent"] >= 15]
    assert 0 < len(report.alarming(SAY)) < 4
    points = pd.read_csv(folder / "out" / "confluency_curve.csv")
    assert points[["condition", "time", "images"]].to_numpy().tolist() == [
        ["control", 6, 1], ["control", 48, 1], ["drug", 6, 1], ["drug", 48, 1]
    ]  # fmt: skip
    assert (points["least"] <= points["percent"]).all()
    assert (points["percent"] <= points["greatest"]).all()
    assert not (folder / "out" / "errors.csv").exists()


def test_a_bad_image_is_told_of_and_the_others_are_done(folder):
    (folder / "images" / "drug" / "broken.tif").write_bytes(b"II*\0rubbish")
    report = drive(cover_folder(folder / "images", folder / "out", PARAMS, SAY, alike=True))
    assert len(report.rows) == 4
    errors = pd.read_csv(folder / "out" / "errors.csv")
    assert errors["file"].str.endswith("broken.tif").tolist() == [True]
    (folder / "images" / "drug" / "broken.tif").unlink()
    drive(cover_folder(folder / "images", folder / "out", PARAMS, SAY))
    assert not (folder / "out" / "errors.csv").exists()


def test_empty_and_full_dishes_need_the_others(folder):
    for name, cells in (("empty", 0), ("full", 800)):
        write_tiff(folder / "images" / f"{name}.tif", dish(9, cells)[0][None])
    report = drive(cover_folder(folder / "images", folder / "out", PARAMS, SAY, alike=True))
    found = {row.image: row.cover.percent for row in report.rows}
    assert found["empty"] < 1
    assert found["full"] > 90


def test_hand_marked_masks_correct_all(folder, dishes):
    (folder / "truth" / "control" / "dish_6h.tif").unlink()
    sloppy = PARAMS.model_copy(update={"trim_px": 0, "smallest_hole": 0})
    report = drive(cover_folder(folder / "images", folder / "out", sloppy, SAY, marked=folder / "truth"))
    assert report.calibration is not None
    assert report.calibration.parts == 3
    true = [100 * dishes[row.image][1].mean() for row in report.rows]
    before = np.mean([abs(row.as_found - y) for row, y in zip(report.rows, true, strict=True)])
    after = np.mean([abs(row.cover.percent - y) for row, y in zip(report.rows, true, strict=True)])
    assert after < before
    write_labels(folder / "truth" / "drug" / "dish_6h.tif", np.ones((5, 5), np.int32))
    report = drive(cover_folder(folder / "images", folder / "out", sloppy, SAY, marked=folder / "truth"))
    assert [file.endswith("dish_6h.tif") for file, _ in report.failed] == [True]
    (folder / "other").mkdir()
    write_labels(folder / "other" / "x.tif", np.ones((5, 5), np.int32))
    with pytest.raises(UserError, match="holds no mask for any of the images"):
        drive(cover_folder(folder / "images", folder / "out", sloppy, SAY, marked=folder / "other"))


def test_masks_as_they_are(folder, dishes):
    report = drive(cover_masks(folder / "truth", folder / "out", SAY, pixel_size_um=2.0))
    for row in report.rows:
        labels = read_labels(folder / "truth" / f"{row.image}.tif")
        assert row.cover.percent == pytest.approx(100 * dishes[row.image][1].mean())
        assert row.cover.count == len(np.unique(labels)) - 1
        assert row.cover.covered_um2 == pytest.approx((labels > 0).sum() * 4)
        assert row.condition == row.image.split("/")[0]
    assert report.threshold is None


@pytest.mark.parametrize("name", ["rgb", "two", "lapse", "pixel", "black"])
def test_pictures_of_all_kinds(tmp_path, name):
    image, _ = dish(3, 8)
    pictures = {
        "rgb": np.stack([image, image, image]).astype(np.uint8),
        "two": np.stack([image * 0, image]),
        "pixel": np.full((1, 1, 1), 9, np.uint16),
        "black": np.zeros((1, 50, 60), np.uint8),
        "lapse": np.stack([image, dish(4, 3)[0]]),
    }
    (tmp_path / "images").mkdir()
    write_tiff(tmp_path / "images" / f"{name}.tif", pictures[name], axis="T" if name == "lapse" else "C")
    out = tmp_path / "out"
    result = invoke(tmp_path / "images", out, "--channel", 1 if name in ("rgb", "two") else 0, "--trim-px", 3, "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout.splitlines()[-1])["images"]
    assert [row["plane"] for row in rows] == ([0, 1] if name == "lapse" else [None])
    assert [row["time"] for row in rows] == ([0, 1] if name == "lapse" else [None])
    assert (rows[0]["percent"] > 5) == (name in ("rgb", "two", "lapse"))
    if name == "black":
        assert rows[0]["note"] == "all pixels are alike"


def test_the_command_says_it_all_and_again_the_same(folder):
    command = (
        folder / "images",
        folder / "out",
        "--trim-px",
        3,
        "--alarm",
        15,
        "--marked",
        folder / "truth",
        "--seed",
        5,
    )
    result = invoke(*command)
    assert result.exit_code == 0
    assert "control/dish_48h" in result.stdout
    assert "threshold 0.5" in result.stdout
    assert "4 hand-marked" in result.stdout
    assert "points are left as error" in result.stdout
    assert "15 % or more: " in result.stdout
    first = (folder / "out" / "confluency.csv").read_bytes()
    data = json.loads(invoke(*command, "--json").stdout.splitlines()[-1])
    assert (folder / "out" / "confluency.csv").read_bytes() == first
    assert data["calibration"]["parts"] == 4
    assert len(data["curve"]) == 4
    assert set(data["alarm"]) < {row["image"] for row in data["images"]}
    assert {"covered_um2", "density_per_mm2", "interval", "as_found"} <= set(data["images"][0])


def test_what_cannot_be_done_is_said_in_one_line(folder):
    images, out = folder / "images", folder / "out"
    assert "does not exist" in refused(folder / "nowhere", out)
    assert "--groups" in refused(images, out, "--groups", 1)
    assert "--cell-groups" in refused(images, out, "--cell-groups", "most")
    assert "there are 3; choose from 1 to 3" in refused(images, out, "--cell-groups", "7")
    assert "lies in the folder of images" in refused(images, images / "out")
    assert "leave out --groups" in refused(images, out, "--method", "masks", "--groups", 3)
    assert "--alike is for --method kmeans" in refused(images, out, "--method", "masks", "--alike")
    assert "--channel is for --method kmeans and unet" in refused(images, out, "--method", "masks", "--channel", 0)
    assert "channel 4 was asked for" in refused(images, out, "--channel", 4)


def test_a_project_counts_the_cells_that_count(session, tmp_path):  # noqa: F811
    first = session.images[0]
    labels = session.labels(first.image_id)
    rejected = session.cell_at(first.image_id, 2)
    session.set_verdict([rejected], "rejected")
    rows = drive(cover_project(session, tmp_path / "out", SAY)).rows
    assert rows[0].cover.percent == pytest.approx(100 * np.isin(labels, [1, 3, 4]).mean())
    assert rows[1].cover.percent == pytest.approx(100 * (labels > 0).mean())
    assert [row.cover.count for row in rows] == [3, 4]
    assert [row.condition for row in rows] == ["control", "treated"]
    session.close()
    result = invoke(session.folder, tmp_path / "out", "--method", "masks", "--json")
    assert json.loads(result.stdout.splitlines()[-1])["images"][0]["count"] == 3
    for channel in (0, 1):
        assert "--channel is for folders" in refused(session.folder, tmp_path / "out", "--channel", channel)


def test_a_project_by_kmeans_is_corrected_by_what_was_reviewed(session, tmp_path):  # noqa: F811
    params = KmeansParameters(trim_px=1, smallest_hole=20, smallest_island=20, k=2)
    plain = drive(cover_project(session, tmp_path / "out", SAY, params))
    assert plain.calibration is None
    assert read_image(tmp_path / "out" / "control" / "control.tif").shape == (1, 64, 80)
    mark(session, session.images[0].image_id, REVIEWED)
    report = drive(cover_project(session, tmp_path / "out", SAY, params))
    assert report.calibration.parts == 1
    true = 100 * (session.labels(session.images[0].image_id) > 0).mean()
    assert report.rows[0].cover.percent == pytest.approx(true, abs=3)
