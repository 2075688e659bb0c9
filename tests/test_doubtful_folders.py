"""What is said of spoiled images before anything is learned from a folder or measured in it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cell_curator.bundles import teach_folders
from cell_curator.cli import app
from cell_curator.core.image_flags import Doubtful
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.recipe import DEFAULT
from cell_curator.doubtful_images import doubtful_files
from cell_curator.engines.finetune import TrainParameters
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.io.images import write_tiff

BLURRED = "b/dish_3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight dishes, one of them out of focus, and one empty; a file that is no image."""
    place = tmp_path_factory.mktemp("dishes")
    rng = np.random.default_rng(0)
    for number in range(8):
        image = np.full((160, 200), 100.0, np.float32)
        for y, x in rng.integers(15, 145, (12 if number else 0, 2)):
            cv2.circle(image, (int(x), int(y)), 9, 200.0, -1)
        image += rng.normal(0, 4, image.shape).astype(np.float32)
        if number == 3:
            image = cv2.GaussianBlur(image, (0, 0), 6)
            image += rng.normal(0, 1, image.shape).astype(np.float32)
        name = place / "b" / f"dish_{number}.tif"
        name.parent.mkdir(exist_ok=True)
        write_tiff(name, image.astype(np.uint16)[None])
    (place / "b" / "broken.tif").write_bytes(b"II*\0rubbish")
    return place


def test_a_blurred_image_of_a_folder_is_named_and_an_empty_dish_is_not(folder: Path) -> None:
    found = drive(doubtful_files(folder))
    assert found.names == {"focus": (BLURRED,)}
    assert found.looked_at == 8
    assert found.images == {BLURRED}
    assert found.text("they are left out") == f"1 of 8 images looks out of focus: {BLURRED}; they are left out"
    others = [f"b/dish_{number}" for number in range(8) if number != 3]
    assert drive(doubtful_files(folder, others)).text() == ""


def test_many_are_counted_and_few_are_named() -> None:
    found = Doubtful({"focus": tuple("abcdefg"), "light": ("z",)}, 40)
    assert found.text("so") == (
        "7 of 40 images look out of focus: a, b, c, d, e and 2 more; 1 of 40 images looks unevenly lit: z; so"
    )


def test_confluency_says_it_first_and_leaves_out_on_demand(folder: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    arguments = ["confluency", str(folder), str(tmp_path / "out"), "--trim-px", "2"]
    result = runner.invoke(app, arguments)
    assert (
        f"looks out of focus: {BLURRED}; they are used all the same, --skip-doubtful leaves them out" in result.stderr
    )
    assert len(pd.read_csv(tmp_path / "out" / "confluency.csv")) == 8
    result = runner.invoke(app, [*arguments, "--skip-doubtful"])
    assert f"looks out of focus: {BLURRED}; they are left out" in result.stderr
    table = pd.read_csv(tmp_path / "out" / "confluency.csv")
    assert BLURRED not in set(table["image"])
    assert len(table) == 7
    errors = pd.read_csv(tmp_path / "out" / "errors.csv").set_index("file")
    assert errors.loc[str(folder / f"{BLURRED}.tif")].str.contains("left out, since it looks doubtful").all()


def test_a_training_leaves_out_what_it_is_told_to(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def learned(execute, lesson, place):
        seen.extend(one.name for one in (*lesson.train, *lesson.holdout))
        raise UserError("enough")
        yield

    monkeypatch.setattr("cell_curator.bundles.teach", learned)
    given = {"base": SegmentParameters(), "recipe": DEFAULT, "parameters": TrainParameters()}
    (tmp_path / "labels" / "b").mkdir(parents=True)
    for number in range(8):
        write_tiff(tmp_path / "labels" / "b" / f"dish_{number}.tif", np.eye(160, 200, dtype=np.uint16)[None])
    for skip, count in (((), 8), ((BLURRED,), 7)):
        seen.clear()
        with pytest.raises(UserError, match="enough"):
            drive(teach_folders(None, folder, tmp_path / "labels", tmp_path / f"out{count}", skip=skip, **given))
        assert len(seen) == count
        assert (BLURRED in seen) == (not skip)
    every = [f"b/dish_{number}" for number in range(8)]
    with pytest.raises(UserError, match="all images were left out"):
        drive(teach_folders(None, folder, tmp_path / "labels", tmp_path / "out", skip=every, **given))
