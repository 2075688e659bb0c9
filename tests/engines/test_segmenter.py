import time

import numpy as np
import pytest
from scenes import nuclei

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.scores import evaluate
from cell_curator.engines import cellpose_unet, segmenter
from cell_curator.engines.cards import find_model
from cell_curator.engines.network import load_network
from cell_curator.engines.segmenter import (
    Segmentation,
    Segmenter,
    SegmentParameters,
    engines,
    rethreshold,
    segment_image,
)
from cell_curator.engines.worker import Worker

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")
DEFAULTS = SegmentParameters()


def segment(image, **settings):
    return drive(segment_image(image, SegmentParameters(**settings)))


FIXED = {"diameter": 18, "polarity": "bright"}  # one look: for tests that are not about the estimate


def ap(result, truth):
    return evaluate(result.labels, truth).ap[0.5]


@pytest.fixture(scope="module")
def scene():
    return nuclei(seed=1)


@pytest.fixture(scope="module")
def found(scene):
    return segment(scene[0])


def test_cells_are_found_with_the_defaults(scene, found):
    image, truth = scene
    assert found.labels.shape == image.shape
    assert found.labels.dtype == np.int32
    assert ap(found, truth) >= 0.8
    assert found.count == len(np.unique(found.labels)) - 1
    assert not found.inverted
    assert found.notes == ()


def test_each_cell_has_a_flow_error_below_the_tolerance(found):
    assert found.flow_error.shape == (found.count + 1,)
    assert found.flow_error[0] == 0
    assert 0 < found.flow_error[1:].max() <= DEFAULTS.flow_threshold


@pytest.mark.parametrize(
    ("diameter", "shape", "count"), [(10, (120, 120), 40), (34, (200, 200), 14), (80, (400, 400), 9)]
)
def test_the_diameter_is_estimated_over_a_wide_range(diameter, shape, count):
    image, truth = nuclei(seed=2, shape=shape, diameter=diameter, count=count)
    result = segment(image)
    assert diameter / 1.4 < result.diameter < 1.4 * diameter
    assert ap(result, truth) >= 0.75


def test_dark_cells_on_bright_ground_are_found_without_being_told(scene, found):
    image, truth = scene
    dark = segment(1 - image)
    assert dark.inverted
    assert ap(dark, truth) >= 0.8
    assert evaluate(dark.labels, found.labels).ap[0.5] >= 0.9


def test_given_diameter_and_polarity_are_obeyed(scene):
    result = segment(scene[0], diameter=20, polarity="dark")
    assert result.diameter == 20
    assert result.inverted


def test_the_result_does_not_depend_on_grey_levels_or_dtype(scene, found):
    image = (100 + 3000 * scene[0]).astype(np.uint16)
    assert evaluate(segment(image, **FIXED).labels, found.labels).ap[0.75] >= 0.9


def test_one_channel_and_rgb_are_taken_as_they_are(scene):
    image = scene[0]
    plane = segment(image, **FIXED).labels
    assert np.array_equal(segment(image[np.newaxis], **FIXED).labels, plane)
    assert evaluate(segment(np.stack([image] * 3), **FIXED).labels, plane).ap[0.75] >= 0.95


def test_a_second_channel_is_refused_by_a_model_that_learned_on_one(scene):
    both = np.stack([scene[0], scene[0][::-1]])
    with pytest.raises(UserError, match=r"starter-nuclei learned on one channel.*; set the nucleus channel to -1, or"):
        segment(both, **FIXED, second_channel=1)


def test_a_second_channel_reaches_a_model_that_may_know_it(scene, tmp_path):
    torch = pytest.importorskip("torch")
    weights = torch.load(find_model("starter-nuclei"), weights_only=True)
    for value in weights.values():
        if value.ndim == 4 and value.shape[1] == 2:  # where the two channels come in
            value[:, 1] = 0
    torch.save(weights, tmp_path / "deaf.pth")
    both = np.stack([scene[0], scene[0][::-1]])
    deaf = {**FIXED, "model": str(tmp_path / "deaf.pth")}
    alone = segment(scene[0], **deaf)
    assert alone.count
    assert np.array_equal(segment(both, **deaf, second_channel=1).labels, alone.labels)
    for value in weights.values():
        if value.ndim == 4 and value.shape[1] == 2:
            value[:, 1] = value[:, 0]
    torch.save(weights, tmp_path / "hearing.pth")
    hearing = {**FIXED, "model": str(tmp_path / "hearing.pth")}
    heard = segment(both, **hearing, second_channel=1).labels
    assert not np.array_equal(heard, segment(scene[0], **hearing).labels)


def test_rethreshold_repeats_the_result_and_follows_the_thresholds(scene, found):
    again = rethreshold(found, DEFAULTS)
    assert np.array_equal(again.labels, found.labels)
    start = time.perf_counter()
    strict = rethreshold(found, SegmentParameters(cellprob_threshold=3))
    assert time.perf_counter() - start < 2
    assert 0 < (strict.labels > 0).sum() < (found.labels > 0).sum()
    assert rethreshold(found, SegmentParameters(flow_threshold=0.01)).count < found.count
    assert np.array_equal(rethreshold(strict, DEFAULTS).labels, found.labels)


def test_small_and_cut_cells_are_dropped_when_asked(found):
    inner = rethreshold(found, SegmentParameters(drop_border=True))
    edge = np.concatenate([inner.labels[0], inner.labels[-1], inner.labels[:, 0], inner.labels[:, -1]])
    assert not edge.any()
    areas = np.bincount(found.labels.ravel())[1:]
    large = rethreshold(found, SegmentParameters(min_size=int(np.median(areas))))
    assert large.count == (areas >= int(np.median(areas))).sum()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"cellprob_threshold": 6}, "lower the cell threshold"),
        ({"flow_threshold": 1e-6}, "raise the shape tolerance"),
        ({"min_size": 50_000}, "lower the smallest cell"),
    ],
)
def test_nothing_found_says_which_control_lost_the_cells(found, settings, says):
    weak = Segmentation(
        found.labels, found.diameter, False, found.flow_error, found.flow, found.cell_probability.clip(None, 5.5)
    )
    nothing = rethreshold(weak, SegmentParameters(**settings))
    assert nothing.count == 0
    assert len(nothing.notes) == 1
    assert nothing.notes[0].startswith("0 cells found: ")
    assert says in nothing.notes[0]


@pytest.mark.parametrize(
    "image",
    [np.zeros((40, 50)), np.full((3, 20, 20), 9, np.uint8), np.full((12, 12), np.nan), np.ones((1, 1))],
)
def test_a_constant_image_has_no_cells_and_says_so(image):
    result = segment(image)
    assert result.labels.shape == image.shape[-2:]
    assert result.count == 0
    assert "all pixels are equal" in result.notes[0]
    assert rethreshold(result, DEFAULTS).count == 0


@pytest.mark.parametrize("shape", [(2, 2), (1, 40), (9, 5)])
def test_tiny_images_are_no_error(shape):
    image = np.random.default_rng(0).random(shape)
    assert segment(image).labels.shape == shape


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 2, 2, 2)])
def test_what_is_no_image_is_refused_in_one_line(shape):
    with pytest.raises(UserError, match=r"give one plane \(Y, X\)"):
        segment(np.zeros(shape))


def test_pixels_that_are_no_numbers_do_no_harm(scene, found):
    image = scene[0].copy()
    image[:2, :2] = np.nan
    image[-1, -1] = np.inf
    assert evaluate(segment(image, **FIXED).labels, found.labels).ap[0.5] >= 0.9


def test_a_diameter_that_would_blow_up_the_image_is_refused_with_the_least_possible_one(monkeypatch, scene):
    monkeypatch.setattr(cellpose_unet, "MOST_PIXELS", 30_000)
    with pytest.raises(UserError, match=r"set a cell diameter of 17 px or more"):
        segment(scene[0], diameter=3, polarity="bright")


def test_progress_rises_and_cancelling_is_closing(scene):
    seen = []
    drive(segment_image(scene[0][:100, :100], DEFAULTS), seen.append)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert len(seen) >= 8
    job = segment_image(scene[0], DEFAULTS)
    next(job)
    job.close()
    assert job.gi_frame is None


def test_engines_are_listed_by_name_and_unknown_ones_refused(scene):
    assert isinstance(engines()["cellpose-unet"], Segmenter)
    assert engines()["cellpose-unet"].unavailable() is None
    with pytest.raises(UserError, match="stardist: no such engine; choose one of: cellpose-unet, cellpose-sam"):
        segment(scene[0], engine="stardist")
    with pytest.raises(UserError, match="nothing: no such model"):
        segment(scene[0], model="nothing")


def test_an_engine_without_its_package_says_how_to_get_it(monkeypatch, scene):
    monkeypatch.setattr(cellpose_unet, "find_spec", lambda name: None if name == "cellpose" else True)
    assert "pip install" in engines()["cellpose-unet"].unavailable()
    with pytest.raises(UserError, match="cellpose-unet cannot run here: cellpose not installed"):
        segment(scene[0])


def test_the_weights_give_the_same_cells_in_stock_cellpose(scene):
    from cellpose.models import CellposeModel

    image, _ = scene
    theirs = CellposeModel(pretrained_model=str(find_model("starter-nuclei")), mkldnn=False)
    masks = theirs.eval(image, channels=[0, 0], diameter=18.0)[0].astype(np.int32)
    ours = segment(image, diameter=18.0, polarity="bright")
    assert theirs.diam_mean == load_network(find_model("starter-nuclei")).diam_mean
    assert evaluate(ours.labels, masks).ap[0.5] >= 0.9


def test_the_same_cells_are_found_in_a_worker_process(scene, found):
    worker = Worker()
    try:
        job = worker.call("cell_curator.engines.segmenter:segment_image", image=scene[0], params=DEFAULTS)
        result = drive(job)
    finally:
        worker.close()
    assert evaluate(result.labels, found.labels).ap[0.75] >= 0.95
    assert result.diameter == pytest.approx(found.diameter, rel=0.02)


def test_parameters_are_bounded():
    with pytest.raises(ValueError, match="diameter"):
        SegmentParameters(diameter=-1)
    with pytest.raises(ValueError, match="polarity"):
        SegmentParameters(polarity="grey")
    assert segmenter.SegmentParameters().engine in engines()
