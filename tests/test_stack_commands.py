"""The commands on folders with stacks and time lapses."""

import json

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage
from typer.testing import CliRunner

from cell_curator.cli import app
from cell_curator.core.jobs import drive
from cell_curator.core.scores import evaluate
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.volumes import StackParameters
from cell_curator.io.images import read_image, read_info
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.session import Session

FIXED = ("--diameter", "17", "--polarity", "bright")


def invoke(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def scene():
    return nuclei_on_grooves(3, elongated=False, count=6, size=128)


@pytest.fixture
def folder(tmp_path, scene):
    """A stack of 4 planes whose first shows nothing, a movie that moves by 2 px a frame, and a single image."""
    (tmp_path / "in").mkdir()
    image = scene.image[0]
    noise = np.random.default_rng(1).normal(np.median(image), 3, image.shape).astype(image.dtype)
    stack = np.stack([noise, image, image, image])
    movie = np.stack([np.roll(image, 2 * t, axis=1) for t in range(3)])
    resolution = {"resolution": (2, 2), "metadata": {"axes": "ZYX", "unit": "um"}}
    tifffile.imwrite(tmp_path / "in" / "stack.tif", stack, imagej=True, **resolution)
    tifffile.imwrite(tmp_path / "in" / "movie.ome.tif", movie, metadata={"axes": "TYX"}, photometric="minisblack")
    tifffile.imwrite(tmp_path / "in" / "single.tif", image)
    return tmp_path / "in"


def test_segment_writes_a_stack_of_labels_for_a_stack(folder, tmp_path, scene):
    data = invoke("segment", folder, tmp_path / "out", *FIXED)
    assert data["images"] == 3
    assert not data["errors"]
    for name, axis, planes in (("stack", "Z", 4), ("movie.ome", "T", 3)):
        info = read_info(tmp_path / "out" / f"{name}.tif")
        assert (info.axis, info.planes, info.shape[1:]) == (axis, planes, (128, 128))
        labels = tifffile.imread(tmp_path / "out" / f"{name}.tif")
        assert labels.dtype == np.uint16
        assert data["per_image"][name]["cells"] == len(np.unique(labels)) - 1
        going_on = set(np.unique(labels[-2])) & set(np.unique(labels[-1])) - {0}
        assert len(going_on) >= 0.8 * (len(np.unique(labels[-1])) - 1)
    assert read_info(tmp_path / "out" / "stack.tif").pixel_size_um == 0.5
    single = tifffile.imread(tmp_path / "out" / "single.tif")
    assert single.shape == (128, 128)
    assert len(np.unique(single)) - 1 >= 0.5 * scene.labels.max()


def test_planes_on_their_own_count_every_plane(folder, tmp_path):
    data = invoke("segment", folder / "movie.ome.tif", tmp_path / "out", *FIXED, "--stack", "planes")
    labels = tifffile.imread(tmp_path / "out" / "movie.ome.tif")
    assert data["cells"] == sum(len(np.unique(plane)) - 1 for plane in labels)


def test_what_a_time_lapse_cannot_have_is_said(folder, tmp_path):
    path = folder / "movie.ome.tif"
    for given, words in (
        (("--stack", "3-D"), "is a time lapse, and 3-D is"),
        (("--second-channel", "0"), "one channel"),
    ):
        result = CliRunner().invoke(app, ["segment", str(path), str(tmp_path / "out"), *given])
        assert result.exit_code == 2
        assert f"movie.ome.tif: {'is' if given[1] == '3-D' else 'of a stack'}" in result.stderr
        assert words in result.stderr


@pytest.mark.slow
def test_what_a_stack_cannot_have_is_said_and_the_others_are_done(folder, tmp_path):
    result = CliRunner().invoke(app, ["segment", str(folder), str(tmp_path / "out"), *FIXED, "--stack", "3-D"])
    assert "movie.ome.tif: is a time lapse, and 3-D is for stacks in depth; stitch" in result.stderr
    assert (tmp_path / "out" / "stack.tif").is_file()
    assert (tmp_path / "out" / "single.tif").is_file()


def test_preprocess_turns_the_planes_of_a_stack_alike(folder, tmp_path):
    invoke("preprocess", folder, tmp_path / "out")
    info = read_info(tmp_path / "out" / "stack.tif")
    assert (info.axis, info.planes, info.dtype) == ("Z", 4, "float32")
    assert info.pixel_size_um == 0.5
    planes = [read_image(tmp_path / "out" / "stack.tif", plane)[0] for plane in range(4)]
    assert np.array_equal(planes[1], planes[3])
    assert not np.array_equal(planes[0], planes[1])
    angles = json.loads((tmp_path / "out" / "recipe.json").read_text())["images"]
    assert set(angles) == {"stack", "movie.ome", "single"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["stitch", "3-D"])
def test_the_cells_of_a_project_are_those_that_are_there(tmp_path, method):
    """Two balls and a third that is seen in the last planes only."""
    zz, yy, xx = np.mgrid[:8, :96, :96]
    truth = np.zeros(zz.shape, np.int32)
    for value, (z, y, x) in enumerate([(4, 24, 24), (3, 66, 40), (7, 34, 70)], start=1):
        truth[((2 * (zz - z)) ** 2 + (yy - y) ** 2 + (xx - x) ** 2) < 100] = value
    rng = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(np.where(truth > 0, 1000.0, 100.0), (0.3, 1, 1)) + rng.normal(0, 20, truth.shape)
    tifffile.imwrite(tmp_path / "a.tif", volume.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"})
    session = Session.create(tmp_path / "a.curator")
    drive(session.add_images(tmp_path / "a.tif"))
    session.put(SegmentParameters(diameter=18, polarity="bright", source="raw"))
    session.put(StackParameters(method=method, anisotropy=2))
    assert drive(session.segment()).done == 8
    found = np.stack([session.labels(record.image_id) for record in session.images])
    session.close()
    flat = [labels.reshape(8, -1) for labels in (found, truth)]
    scores = evaluate(*flat)
    assert scores.ap[0.5] == 1.0
    assert scores.n_predicted == 3


def test_run_makes_each_plane_an_image_and_label_says_which_cell_goes_on(folder, tmp_path):
    (folder / "single.tif").unlink()
    quick = ("--latent", "2", "--steps", "3", "--map-method", "pca", "--clusters", "2", "--seed", "3")
    data = invoke("run", folder, tmp_path / "a.curator", *FIXED, *quick, "--source", "raw")
    assert data["images"] == 7
    session = Session.open(tmp_path / "a.curator")
    assert [record.axis for record in session.images] == ["T"] * 3 + ["Z"] * 4
    session.close()
    cells = pd.read_csv(tmp_path / "a.curator" / "cells.csv")
    movie = cells[cells["image"].str.startswith("movie")]
    frames = movie.groupby("label")["image"].nunique()
    assert (frames == 3).sum() >= 0.5 * len(frames)
    assert not movie.duplicated(["image", "label"]).any()
