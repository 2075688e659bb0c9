"""What is done to a large image block by block is what is done to the whole."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.lazy import Lazy
from cell_curator.core.patches import PatchParameters, cut
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Recipe
from cell_curator.core.scores import evaluate
from cell_curator.engines import blocks
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.io.blocks import open_large
from cell_curator.io.images import read_image
from cell_curator.io.label_store import LabelWriter, open_labels
from cell_curator.map_patches import cut_cells
from cell_curator.session import Session
from large_project import LIMIT, mosaic, write_mosaic


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same mosaic searched in blocks and as a whole: project of the one, labels of the other."""
    folder = tmp_path_factory.mktemp("large")
    write_mosaic(folder / "images" / "mosaic.tif", mosaic())
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "CORES", (350, 350))
        for name, limit in (("whole", "64"), ("blocks", LIMIT)):
            patch.setenv("CELL_CURATOR_LARGE_MPX", limit)
            session = Session.create(folder / f"{name}.curator")
            drive(session.add_images(folder / "images"))
            session.put(SegmentParameters(diameter=30, polarity="bright"))
            report = drive(session.segment())
            assert not report.failed
            made[name] = all_labels(session.label_view(1))
            session.close()
    return folder / "blocks.curator", made["whole"]


def all_labels(view) -> np.ndarray:
    return np.concatenate([view[:, :500], view[:, 500:]], axis=1)


@pytest.fixture
def large(both, monkeypatch):
    monkeypatch.setenv("CELL_CURATOR_LARGE_MPX", LIMIT)
    monkeypatch.setattr(blocks, "CORES", (350, 350))
    session = Session.open(both[0])
    yield session
    session.close()


def test_each_cell_is_found_once(both, large):
    labels = large.label_view(1)
    assert isinstance(labels, Lazy)
    found = all_labels(labels)
    score = evaluate(found, both[1])
    assert score.ap[0.5] >= 0.99
    assert np.array_equal(np.unique(found[found > 0]), np.sort(large.cells.frame["label"]))


def test_cells_are_measured_as_in_the_whole(large):
    from cell_curator.core.measure import MEASURED, measure

    found = all_labels(large.label_view(1))
    wanted = measure(found, read_image(large.image(1).path))
    rows = large.cells.frame.set_index("label").sort_index()[list(MEASURED)]
    pd.testing.assert_frame_equal(rows, wanted, rtol=1e-5, atol=1e-5, check_names=False)


def test_measuring_again_changes_nothing(large):
    from cell_curator.core.large_cells import measure_lazily
    from cell_curator.core.measure import MEASURED

    rows = large.cells.frame
    again = measure_lazily(large.label_view(1), large.pixels(1), rows).reindex(rows["label"])
    for name in MEASURED:
        np.testing.assert_allclose(again[name].to_numpy(float), rows[name].to_numpy(float), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("turn", [0.0, 20.0])
def test_patches_are_those_of_the_whole(large, turn):
    recipe = Recipe().turned_by(turn) if turn else Recipe()
    large.put(recipe)
    some = large.cells.frame.index[::7].tolist()
    patches, rows = drive(cut_cells(large, some, PatchParameters(size=48)))
    found = all_labels(large.label_view(1))
    made = prepare(read_image(large.image(1).path), recipe)
    wanted = cut(made.image, found, rows["label"].tolist(), PatchParameters(size=48), made.angle_deg)
    assert np.abs(patches.images - wanted.images).max() <= 1.5 / 255
    np.testing.assert_array_equal(patches.masks, wanted.masks)
    np.testing.assert_array_equal(large.patch(some[0]).shape, (64, 64))


def test_what_needs_the_whole_says_so(large):
    with pytest.raises(UserError, match="too large"):
        large.labels(1)
    with pytest.raises(UserError, match="too large"):
        large.set_labels(1, np.zeros(large.image(1).shape[1:], np.int32))
    ((name, reason),) = drive(large.segment(region=(0, 0, 100, 100))).failed
    assert name == "mosaic"
    assert "too large to be searched in a region" in reason


def test_a_second_search_keeps_what_was_decided(large):
    ids = large.cells.frame.index
    large.set_verdict(ids[:3], "accepted")
    large.set_verdict(ids[5:7], "rejected")
    before = large.cells.frame.loc[ids[[0, 1, 2, 5, 6]]]
    large.put(large.get(SegmentParameters).model_copy(update={"min_size": 40}))
    assert not drive(large.segment()).failed
    after = large.cells.frame
    pd.testing.assert_frame_equal(after.loc[before.index], before)
    assert len(after) == pytest.approx(len(ids), abs=2)
    assert not set(after.index) & set(ids[10:])


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_where_it_was(large, monkeypatch):
    large.put(large.get(SegmentParameters).model_copy(update={"min_size": 25}))
    job, searched = large.segment(), []
    real = blocks.runnable

    def counted(name: str):
        searched.append(name)
        return real(name)

    monkeypatch.setattr(blocks, "runnable", counted)
    for _ in job:
        if len(searched) == 2:
            break
    job.close()
    kept = len(list((large.folder / "cache" / "blocks").glob("*/*-*.npz")))
    assert kept == 1
    assert not drive(large.segment()).failed
    assert len(searched) == 2 + 3 - kept  # three blocks
    assert not list((large.folder / "cache" / "blocks").iterdir())


def test_labels_are_written_by_block_with_coarser_levels(tmp_path):
    labels = np.random.default_rng(0).integers(0, 9, (1500, 1300)).astype(np.int32)
    writer = LabelWriter(tmp_path / "labels", labels.shape)
    for top in range(0, 1500, 400):
        writer.write((top, 0, min(top + 400, 1500), 1300), labels[top : top + 400])
    np.testing.assert_array_equal(writer.read((390, 100, 900, 200)), labels[390:900, 100:200])
    stored = open_labels(writer.finish().folder)
    np.testing.assert_array_equal(stored[::2, ::2], labels[::2, ::2])
    (level,) = stored.levels
    np.testing.assert_array_equal(level[:, :], labels[::2, ::2])


def test_a_cell_on_the_border_of_two_blocks_counts_once():
    from cell_curator.engines.tiling import Block

    found = np.zeros((20, 60), np.int32)
    found[5:15, 24:35] = 1  # its middle lies at 29, in the first block's slack and in the second
    left = Block((slice(0, 20), slice(0, 28)), (slice(0, 20), slice(0, 60)))
    right = Block((slice(0, 20), slice(28, 60)), (slice(0, 20), slice(0, 60)))
    here, kept = blocks.join(np.zeros_like(found), found, left, (20, 60), 1)
    assert len(kept) == 1
    again, kept = blocks.join(here, np.roll(found, 1, axis=1), right, (20, 60), 2)
    assert not len(kept)
    np.testing.assert_array_equal(again, here)
    cut_off = np.zeros_like(found)
    cut_off[0:6, 3:9] = 1
    assert not len(blocks.join(np.zeros_like(found), cut_off, left, (20, 60), 1, drop_border=True)[1])


@pytest.fixture
def mosaic_file(tmp_path, monkeypatch):
    monkeypatch.setattr("cell_curator.core.large.BLOCK", 200)
    monkeypatch.setattr("cell_curator.io.large_tiff._SMALLEST_LEVEL", 300)
    return write_mosaic(tmp_path / "images" / "mosaic.tif", mosaic()[:, :900])


@pytest.mark.parametrize("angle", [0.0, 17.3])
def test_a_large_file_is_prepared_as_the_whole(mosaic_file, tmp_path, monkeypatch, angle):
    from cell_curator.io.folders import preprocess_folder

    recipe = Recipe().turned_by(angle) if angle else Recipe()
    for name, limit in (("whole", "64"), ("parts", LIMIT)):
        monkeypatch.setenv("CELL_CURATOR_LARGE_MPX", limit)
        assert drive(preprocess_folder(mosaic_file.parent, tmp_path / name, recipe)).done == ("mosaic",)
    monkeypatch.setenv("CELL_CURATOR_LARGE_MPX", "64")
    whole, parts = (read_image(tmp_path / name / "mosaic.tif") for name in ("whole", "parts"))
    assert np.abs(whole - parts).max() <= 1 / 255
    assert (tmp_path / "whole" / "recipe.json").read_text() == (tmp_path / "parts" / "recipe.json").read_text()
    assert [level.shape for level in open_large(tmp_path / "parts" / "mosaic.tif").levels] == [
        (1, 256, 450),
        (1, 128, 225),
    ]
    assert not list((tmp_path / "parts").glob(".*"))


@pytest.mark.slow
def test_a_large_file_is_segmented_in_blocks(mosaic_file, tmp_path, monkeypatch):
    from cell_curator.engines.batch import segment_folder

    monkeypatch.setenv("CELL_CURATOR_LARGE_MPX", LIMIT)
    monkeypatch.setattr(blocks, "CORES", (350, 350))
    params = SegmentParameters(diameter=30, polarity="bright")
    report = drive(segment_folder(mosaic_file.parent, tmp_path / "out", params, Recipe()))
    assert report.folder.done == ("mosaic",)
    monkeypatch.setenv("CELL_CURATOR_LARGE_MPX", "64")
    labels = read_image(tmp_path / "out" / "mosaic.tif")[0]
    assert labels.shape == (512, 900)
    assert len(np.unique(labels)) - 1 == report.cells["mosaic"] > 90
    assert not list((tmp_path / "out").glob(".*"))


def test_what_is_known_of_the_whole_is_not_looked_for_again(large, monkeypatch):
    assert list((large.folder / "cache" / "known").iterdir())
    monkeypatch.setattr("cell_curator.large_images.survey", None)
    recipe = large.get(Recipe)
    wanted = prepare(read_image(large.image(1).path), recipe).image
    assert np.abs(large.prepared(1)[100:300, 400:700] - wanted[100:300, 400:700]).max() <= 1 / 255


def test_a_large_image_is_looked_at_in_its_middle(large):
    from cell_curator.core.image_flags import look

    large_look, whole = look(large.pixels(1)), look(read_image(large.image(1).path))
    assert large_look == whole  # of so small an image the middle is all of it


def test_tools_that_look_through_all_of_it_say_so(large):
    from cell_curator.editing import edit

    row = large.cells.frame.iloc[0]
    for tool in ("delete", "smooth", "split"):
        with pytest.raises(UserError, match="too large"):
            edit(large, 1, tool, points=[(row["y"], row["x"]), (row["y"] + 9, row["x"] + 9)])


def test_a_large_image_is_found_at_its_new_place(large, tmp_path):
    from cell_curator.relocating import relocate

    old = large.image(1).path
    new = old.rename(tmp_path / old.name)
    try:
        drive(relocate(large, tmp_path))
        assert large.image(1).path == new
    finally:
        new.rename(old)
        drive(relocate(large, old.parent))
