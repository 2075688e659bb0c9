import numpy as np
import pytest
from scenes import nuclei

from cell_curator.core.jobs import drive
from cell_curator.engines import cellpose_unet
from cell_curator.engines.diameter import Guess
from cell_curator.engines.preflight import FLAT, channel_note, contrast, flat_note, polarity_note, size_note
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, explain_channel, segment_image


@pytest.fixture
def blind(monkeypatch):
    """A network that finds nothing, and a free look that sees dark cells of 40 px."""

    def nothing(raw, params):
        return Segmentation(raw.labels, raw.diameter, raw.inverted, raw.flow_error, notes=("0 cells found: …",))

    def free(network, planes, diameter, polarity):
        yield from ()
        return Guess(diameter or 40.0, polarity != "bright")

    monkeypatch.setattr(cellpose_unet, "outline", nothing)
    monkeypatch.setattr(cellpose_unet, "estimate", free)


def test_noise_is_flat_and_cells_are_not():
    rng = np.random.default_rng(0)
    assert contrast(rng.normal(100, 5, (400, 400))) < FLAT
    assert contrast(nuclei(seed=0)[0]) > 2 * FLAT
    assert contrast(1 - nuclei(seed=0)[0]) > 2 * FLAT
    assert contrast(np.ones((50, 50))) == 0
    assert flat_note(nuclei(seed=0)[0]) is None


def test_a_dim_image_says_so():
    image = np.random.default_rng(0).normal(100, 5, (96, 96)).astype(np.float32)
    found = drive(segment_image(image, SegmentParameters(diameter=18, polarity="bright", cellprob_threshold=6)))
    assert found.count == 0
    assert len(found.notes) == 1
    assert "almost flat" in found.notes[0]


def test_a_diameter_far_off_is_named_with_the_one_that_cells_seem_to_have(blind):
    image = nuclei(seed=0)[0]
    found = drive(segment_image(image, SegmentParameters(diameter=10, polarity="dark")))
    assert "set the cell diameter to 40" in found.notes[0]
    near = drive(segment_image(image, SegmentParameters(diameter=30, polarity="dark")))
    assert near.notes == ("0 cells found: …",)


def test_the_wrong_polarity_is_named(blind):
    found = drive(segment_image(nuclei(seed=0)[0], SegmentParameters(diameter=30, polarity="bright")))
    assert "look dark here" in found.notes[0]
    assert polarity_note("auto", True) is None
    assert polarity_note("dark", True) is None


def test_sizes_close_to_each_other_are_not_worth_a_note():
    assert size_note(20, 25) is None
    assert size_note(0, 25) is None
    assert "about 60 px" in size_note(20, 60)


def test_another_channel_that_shows_more_is_named():
    rng = np.random.default_rng(0)
    noise = rng.normal(0.2, 0.04, (160, 180))
    channels = np.stack([noise, nuclei(seed=0)[0]])
    assert "channel 1 shows most" in channel_note(channels, 0)
    assert channel_note(channels, 1) is None
    assert channel_note(channels[:1], 0) is None
    empty = Segmentation(np.zeros((160, 180), np.int32), 0.0, False, np.zeros(1, np.float32), notes=("0 cells",))
    raw = SegmentParameters(source="raw", channel=0)
    assert "channel 1" in explain_channel(empty, raw, lambda: channels).notes[-1]


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1), (3, 900)])
def test_lines_of_pixels_are_no_error(shape):
    image = np.random.default_rng(0).random(shape)
    found = drive(segment_image(image, SegmentParameters(diameter=18, polarity="bright")))
    assert found.labels.shape == shape
