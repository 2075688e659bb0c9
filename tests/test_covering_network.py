"""Cover found by a network: of folders, of projects, of one image, and by the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from cell_curator import covering
from cell_curator.cli import app
from cell_curator.confluency import cover_folder, cover_image, cover_project
from cell_curator.core.confluency import ConfluencyParameters, UnetCover
from cell_curator.core.jobs import Progress, UserError, drive
from cell_curator.core.pixel_clusters import KmeansParameters
from cell_curator.core.recipe import DEFAULT, Channel, Clahe
from cell_curator.core.regions import REVIEWED
from cell_curator.engines.segmenter import Segmentation
from cell_curator.io.images import read_image, write_tiff
from cell_curator.io.labels import write_labels
from cell_curator.marking import mark
from small_project import execute, session  # noqa: F401

SAY = ConfluencyParameters(alarm=15)
SHAPE = (160, 200)


def bright(values: np.ndarray, *, flows: bool = False) -> Segmentation:
    """What a network would say that calls bright pixels cells, at half the size of the image."""
    logit = np.clip(20 * (values - 0.5), -9, 9)[::2, ::2].astype(np.float16)
    labels = np.zeros(values.shape, np.int32)
    labels[10, 10:17] = np.arange(1, 8)
    flow = np.zeros((2 if flows else 0, *logit.shape), np.float16)
    return Segmentation(labels, 30.0, False, np.zeros(8, np.float32), flow, logit)


class Looked:
    """Stands for the worker, and keeps what it was shown."""

    flows = False

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, target: str, *, image: np.ndarray, params: Any) -> Any:
        assert target == "cell_curator.engines.segmenter:segment_image"
        self.seen.append((image, params))
        yield Progress(0.5)
        return bright(image, flows=self.flows)


@pytest.fixture
def looked() -> Looked:
    return Looked()


def write_model(place: Path, **card: Any) -> Path:
    place.mkdir(parents=True)
    torch.save({}, place / "weights.pth")
    (place / "card.json").write_text(json.dumps({"engine": "unet", "diameter_px": 30.0, **card}))
    return place


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "learned")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two dishes, a quarter and three quarters covered, with a hole and a speck each."""
    (tmp_path / "images").mkdir()
    for name, rows in (("dish_6h", 40), ("dish_48h", 120)):
        image = np.full(SHAPE, 100, np.uint16)
        image[:rows] = 900
        image[10:14, 10:14] = 100
        image[150:154, 150:154] = 900  # 16 px
        write_tiff(tmp_path / "images" / f"{name}.tif", image[None], pixel_size_um=0.5)
    return tmp_path


def invoke(*arguments: Any) -> Any:
    result = CliRunner().invoke(app, ["confluency", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_folder_is_measured_by_one_threshold(folder: Path, model: Path, looked: Looked) -> None:
    params = UnetCover(model=str(model), threshold=0.6)
    report = drive(cover_folder(folder / "images", folder / "out", params, SAY, execute=looked))
    table = pd.read_csv(folder / "out" / "confluency.csv").set_index("image")
    assert (table["threshold"] == 0.6).all()
    assert report.threshold == 0.6
    assert table.loc["dish_6h", "percent"] == pytest.approx(25, abs=1)
    assert table.loc["dish_48h", "percent"] == pytest.approx(75, abs=1)
    assert table.loc["dish_48h", "covered_um2"] == pytest.approx(0.75 * 160 * 200 / 4, rel=0.02)
    assert table["count"].isna().all()  # foreground alone tells no cell from another
    assert report.alarming(SAY) == list(table.index)
    mask = read_image(folder / "out" / "dish_6h.tif")[0]
    assert mask[12, 12] == 255  # a small hole is filled
    assert mask[152, 152] == 0  # a speck is left out
    assert looked.seen[0][1].engine == "unet"


def test_a_higher_threshold_never_covers_more(folder: Path, model: Path, looked: Looked) -> None:
    percents = []
    for threshold in (0.05, 0.5, 0.95):
        params = UnetCover(model=str(model), threshold=threshold, smallest_hole=0, smallest_island=0)
        report = drive(cover_folder(folder / "images", folder / "out", params, SAY, execute=looked))
        percents.append(report.rows[0].cover.percent)
    assert percents == sorted(percents, reverse=True)
    assert percents[0] > percents[2]


def test_each_look_is_another_view_and_all_are_put_back(folder: Path, model: Path, looked: Looked) -> None:
    image = read_image(folder / "images" / "dish_6h.tif")
    once, often = (UnetCover(model=str(model), looks=looks, smallest_hole=0) for looks in (1, 8))
    card = covering.card_of(str(model))
    seen = [drive(covering.by_network(image[0] / 900, params, card, looked)) for params in (once, often)]
    np.testing.assert_array_equal(seen[1].mask[:120], seen[0].mask[:120])
    views = {view.tobytes() + bytes(view.shape) for view, _ in looked.seen[1:]}
    assert len(views) == 8
    assert np.array_equal(looked.seen[1][0], image[0] / 900)


def test_a_network_that_tells_cells_counts_them(folder: Path, model: Path, looked: Looked) -> None:
    looked.flows = True
    report = drive(cover_folder(folder / "images", folder / "out", UnetCover(model=str(model)), SAY, execute=looked))
    assert [row.cover.count for row in report.rows] == [7, 7]
    assert report.rows[0].cover.density == pytest.approx(7e6 / (160 * 200 / 4))


def test_images_are_prepared_as_those_learned_from(folder: Path, looked: Looked) -> None:
    pixels = read_image(folder / "images" / "dish_6h.tif")
    recipe = DEFAULT.model_copy(update={"clahe": Clahe(enabled=True, clip_limit=0.05)})
    cards = {
        "plain": {},
        "clahe": {"source": "prepared", "recipe": recipe.model_dump(mode="json")},
        "raw": {"source": "raw"},
    }
    for name, card in cards.items():
        place = write_model(folder / name, **card)
        drive(cover_folder(folder / "images", folder / "out", UnetCover(model=str(place)), SAY, execute=looked))
    plain, clahe, raw = (looked.seen[4 * number][0] for number in range(3))
    np.testing.assert_array_equal(
        plain, covering.as_learned(pixels, covering.card_of(str(folder / "plain")), Channel())
    )
    assert not np.array_equal(clahe, plain)
    assert clahe.max() <= 1
    np.testing.assert_array_equal(raw, pixels[0])
    (folder / "clahe" / "card.json").write_text('{"engine": "unet", "diameter_px": 3, "recipe": {"what": 1}}')
    with pytest.raises(UserError, match="its recipe cannot be read"):
        covering.recipe_of(covering.card_of(str(folder / "clahe")))


def test_a_project_is_corrected_by_what_was_reviewed(session, model: Path, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    labels = session.labels(session.images[0].image_id)
    shown: list[np.ndarray] = []

    def told(target: str, *, image: np.ndarray, params: Any) -> Any:
        shown.append(image)
        yield Progress(0.5)
        return bright((labels > 0).astype(np.float32), flows=True)

    monkeypatch.setattr(session, "execute", told)
    params = UnetCover(model=str(model), smallest_hole=0, smallest_island=0, looks=1)
    report = drive(cover_project(session, tmp_path / "out", SAY, params))
    assert report.calibration is None
    assert report.rows[0].cover.percent == pytest.approx(100 * (labels > 0).mean(), abs=3)
    assert [row.cover.count for row in report.rows] == [4, 4]  # the project's own cells, not what the network says
    np.testing.assert_array_equal(shown[0], session.prepare(session.images[0].image_id, DEFAULT).image)
    assert read_image(tmp_path / "out" / "control" / "control.tif").shape == (1, 64, 80)
    mark(session, session.images[0].image_id, REVIEWED)
    assert drive(cover_project(session, tmp_path / "out", SAY, params)).calibration.parts == 1


@pytest.mark.parametrize("way", ["masks", "kmeans", "unet"])
def test_one_image_has_the_numbers_of_the_table(session, model: Path, tmp_path: Path, monkeypatch, way: str) -> None:  # noqa: F811
    monkeypatch.setattr(session, "execute", Looked())
    method = {"masks": None, "kmeans": KmeansParameters(trim_px=1, k=2), "unet": UnetCover(model=str(model))}[way]
    report = drive(cover_project(session, tmp_path / "out", SAY, method))
    for record, row in zip(session.images, report.rows, strict=True):
        made, one = drive(cover_image(session, record.image_id, SAY, method))
        assert one == row
        assert one.cover.percent == pytest.approx(100 * made.mask.mean())
        assert made.mask.shape == record.shape[1:]


def test_models_that_can_do_it_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELL_CURATOR_MODELS", str(tmp_path / "mine"))
    write_model(tmp_path / "mine" / "area", engine="unetpp")
    write_model(tmp_path / "mine" / "nuclei", engine="cellpose-unet")
    write_model(tmp_path / "mine" / "untaught", diameter_px=0.0)
    mine = [card.name for card in covering.models() if not card.bundled]
    assert mine == ["area"]


def test_what_cannot_be_done_is_said_in_one_line(folder: Path, model: Path) -> None:
    def refused(*arguments: Any) -> str:
        result = invoke(folder / "images", folder / "out", *arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        return str(result.stderr.strip().splitlines()[-1])

    assert "a U-Net needs a model" in refused("--method", "unet")
    assert "nowhere: no such model" in refused("--method", "unet", "--model", "nowhere")
    assert "is a model of cellpose-unet" in refused("--method", "unet", "--model", "starter-nuclei")
    assert "leave out --groups" in refused("--method", "unet", "--model", model, "--groups", 3)
    assert "--alike is for --method kmeans" in refused("--method", "unet", "--model", model, "--alike")
    assert "--model is for --method unet" in refused("--model", model)
    assert "--threshold" in refused("--method", "unet", "--model", model, "--threshold", 3)
    untaught = write_model(folder / "untaught", diameter_px=0.0)
    assert "has learned nothing yet" in refused("--method", "unet", "--model", untaught)
    assert "U-Net or U-Net++ of this program" in refused("--method", "unet", "--model", model)


def test_the_command_says_threshold_and_alarm(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one(image: np.ndarray, params: Any) -> Any:
        yield Progress(0.5)
        return bright(image)

    monkeypatch.setattr("cell_curator.engines.segmenter.segment_image", one)
    arguments = (folder / "images", folder / "out", "--method", "unet", "--model", model, "--threshold", 0.7)
    result = invoke(*arguments, "--alarm", 60)
    assert result.exit_code == 0, result.output
    assert "threshold 0.7" in result.stdout
    assert "60 % or more: dish_48h" in result.stdout
    data = json.loads(invoke(*arguments, "--json").stdout.splitlines()[-1])
    assert data["threshold"] == 0.7
    assert [round(row["percent"]) for row in data["images"]] == [25, 75]


@pytest.mark.slow
def test_a_network_learns_cover_from_masks_and_measures_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(6):
        labels = np.zeros((192, 192), np.int32)
        for label in range(1, 9):
            y, x = rng.integers(20, 172, 2)
            yy, xx = np.ogrid[:192, :192]
            labels[(yy - y) ** 2 + (xx - x) ** 2 < 18**2] = label
        image = rng.normal(0, 30, labels.shape) + 200 + 150 * (labels > 0)
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
        write_tiff(tmp_path / "images" / f"dish_{number}h.tif", image.astype(np.uint16)[None])
        write_labels(tmp_path / "masks" / f"dish_{number}h.tif", labels)
    runner = CliRunner()
    train = ["train", *(str(tmp_path / one) for one in ("images", "masks", "model")), "--base", "new-unet-area"]
    result = runner.invoke(app, [*train, "--epochs", "40", "--batch-size", "4", "--cell-loss", "dice"])
    assert result.exit_code == 0, result.output
    result = invoke(tmp_path / "images", tmp_path / "out", "--method", "unet", "--model", tmp_path / "model", "--json")
    assert result.exit_code == 0, result.output
    found = {row["image"]: row["percent"] for row in json.loads(result.stdout.splitlines()[-1])["images"]}
    for name, percent in found.items():
        true = 100 * (read_image(tmp_path / "masks" / f"{name}.tif")[0] > 0).mean()
        assert percent == pytest.approx(true, abs=2)
