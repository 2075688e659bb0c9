"""The contest's layout: merged once, kept, and taken by every command that wants masks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cell_curator.core.jobs import UserError
from cell_curator.io import images
from cell_curator.io.caches import cache_folder
from cell_curator.io.folders import label_files, sources
from cell_curator.io.formats import dsb2018
from cell_curator.io.images import find_images
from cell_curator.io.labels import read_labels

SHAPE = (40, 50)


def nucleus(*box: int) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 255
    return mask


@pytest.fixture
def contest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images; the nuclei of the first touch along a whole side."""
    monkeypatch.setenv("CELL_CURATOR_CACHE", str(tmp_path / "cache"))
    for name, masks in {"ab12": [(5, 15, 5, 20), (15, 30, 5, 20)], "cd34": [(1, 4, 1, 4)]}.items():
        folder = tmp_path / "stage1" / name
        (folder / "images").mkdir(parents=True)
        (folder / "masks").mkdir()
        Image.fromarray(np.full((*SHAPE, 4), 9, np.uint8)).save(folder / "images" / f"{name}.png")
        for number, box in enumerate(masks):
            Image.fromarray(nucleus(*box)).save(folder / "masks" / f"{number}f.png", compress_level=0)
    return tmp_path / "stage1"


def merged(folder: Path) -> np.ndarray:
    (incoming,) = dsb2018.read(folder, folder.name, None)
    return incoming.labels


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a file was decoded")


def test_nuclei_that_touch_stay_two(contest: Path) -> None:
    labels = merged(contest / "ab12")
    assert labels[14, 10] == 1
    assert labels[15, 10] == 2
    assert np.bincount(labels.ravel()).tolist() == [2000 - 150 - 225, 150, 225]


def test_the_second_time_no_picture_is_opened(contest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in contest.rglob("*")}
    first = merged(contest / "ab12")
    monkeypatch.setattr(images, "read_plane", refuse)
    np.testing.assert_array_equal(merged(contest / "ab12"), first)
    assert {path: path.stat().st_mtime_ns for path in contest.rglob("*")} == before  # nothing beside the originals


def test_what_was_odd_is_told_the_second_time_too(contest: Path) -> None:
    Image.fromarray(nucleus(10, 20, 10, 25)).save(contest / "ab12" / "masks" / "z.png")
    first, again = (next(iter(dsb2018.read(contest / "ab12", "ab12", None))).notes for _ in range(2))
    assert first == again == ("1 outlines overlap others; shared pixels went to the first of them",)


@pytest.mark.parametrize("change", ["another nucleus", "one gone", "one redrawn", "one renamed"])
def test_changed_files_are_merged_anew(contest: Path, change: str) -> None:
    first, masks = merged(contest / "ab12"), contest / "ab12" / "masks"
    if change == "another nucleus":
        Image.fromarray(nucleus(32, 38, 30, 40)).save(masks / "2f.png")
    elif change == "one gone":
        (masks / "0f.png").unlink()
    elif change == "one renamed":
        (masks / "0f.png").rename(masks / "9f.png")
    else:
        size = (masks / "0f.png").stat().st_size
        Image.fromarray(nucleus(5, 15, 25, 40)).save(masks / "0f.png", compress_level=0)
        assert (masks / "0f.png").stat().st_size == size  # only the time tells
        os.utime(masks / "0f.png", ns=(1, 1))
    assert not np.array_equal(merged(contest / "ab12"), first)


@pytest.mark.parametrize("damage", ["rubbish", "folder is a file"])
def test_a_cache_that_fails_is_only_slower(contest: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    first = merged(contest / "ab12")
    if damage == "rubbish":
        (kept,) = cache_folder().rglob("*.npz")
        kept.write_bytes(b"PK\x03\x04rubbish")
    else:
        monkeypatch.setenv("CELL_CURATOR_CACHE", str(contest / "ab12" / "images" / "ab12.png"))
    np.testing.assert_array_equal(merged(contest / "ab12"), first)


def test_images_and_masks_of_a_contest_folder_have_the_same_names(contest: Path) -> None:
    names = [source.stem for source in sources(contest)]
    truth = label_files(contest)
    assert sorted(truth) == names == ["ab12/images/ab12", "cd34/images/cd34"]
    np.testing.assert_array_equal(read_labels(truth["ab12/images/ab12"]), merged(contest / "ab12"))
    assert [source.stem for source in sources(contest / "ab12")] == list(label_files(contest / "ab12"))


def test_a_folder_for_each_image_is_no_condition(contest: Path) -> None:
    assert [condition for _, condition in find_images(contest)] == ["", ""]


def test_a_folder_of_images_beside_one_of_masks_is_no_contest_folder(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(nucleus(1, 9, 1, 9)).save(tmp_path / "set" / name / "a.png")
    assert not dsb2018.is_folder(tmp_path / "set")
    assert sorted(label_files(tmp_path)) == ["set/images/a", "set/masks/a"]
    (tmp_path / "set" / "masks" / "a.png").rename(tmp_path / "set" / "masks" / "f1.png")
    assert dsb2018.is_folder(tmp_path / "set")
    Image.fromarray(nucleus(1, 9, 1, 9)).save(tmp_path / "set" / "images" / "b.png")
    assert not dsb2018.is_folder(tmp_path / "set")


def test_a_mask_of_another_size_is_named(contest: Path) -> None:
    Image.fromarray(np.ones((3, 3), np.uint8)).save(contest / "ab12" / "masks" / "0f.png")
    with pytest.raises(UserError, match=r"0f\.png: is 3 × 3 px but its image is 50 × 40 px"):
        merged(contest / "ab12")
    (contest / "ab12" / "masks" / "0f.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"0f\.png"):
        merged(contest / "ab12")


def test_a_folder_of_one_image_named_alike_stays_a_condition(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    Image.fromarray(nucleus(1, 9, 1, 9)).save(tmp_path / "control" / "control.png")
    assert [condition for _, condition in find_images(tmp_path)] == ["control"]
