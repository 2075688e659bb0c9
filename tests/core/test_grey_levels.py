import numpy as np
import pytest

from cell_curator.core.grey_levels import bend_by, extremes, histogram, percentiles, quantise, stretch

PERCENTS = (0.0, 0.1, 20.0, 50.0, 98.5, 100.0)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 5e4])
def test_percentiles_are_those_of_numpy_to_one_grey_level(rng, spread):
    image = (rng.gamma(2.0, spread, (201, 173)) - spread).astype(np.float32)
    assert np.allclose(percentiles(image, PERCENTS), np.percentile(image, PERCENTS), atol=np.ptp(image) / 65_535)


def test_percentiles_of_whole_numbers_are_exact(rng):
    image = rng.integers(0, 65_536, (64, 64)).astype(np.float32)
    image[0, :2] = 0, 65_535
    assert np.allclose(percentiles(image, PERCENTS), np.percentile(image, PERCENTS), atol=1e-6)


def test_percentiles_of_one_pixel_and_of_a_constant_image():
    assert percentiles(np.full((1, 1), 3.0, np.float32), (0, 50, 100)) == (3.0, 3.0, 3.0)
    assert percentiles(np.full((9, 9), -2.0, np.float32), (98.5,)) == (-2.0,)


def test_a_histogram_counts_every_pixel_once(rng):
    image = rng.random((50, 60)).astype(np.float32)
    counts, values = histogram(image, *extremes(image), 256)
    assert counts.sum() == image.size
    assert (counts @ values) / image.size == pytest.approx(image.mean(), abs=1e-3)


def test_stretching_in_place_cuts_what_is_beyond():
    image = np.array([[-1.0, 0.0, 5.0, 10.0, 99.0]], np.float32)
    assert stretch(image, 0.0, 10.0, image) is image
    assert image.tolist() == [[0.0, 0.0, 0.5, 1.0, 1.0]]


@pytest.mark.parametrize(("top", "dtype"), [(255, np.uint8), (65_535, np.uint16)])
def test_whole_levels_are_rounded(rng, top, dtype):
    image = rng.random((30, 30)).astype(np.float32)
    levels = quantise(image, 0.0, 1.0, top)
    assert levels.dtype == dtype
    assert np.abs(levels / top - image).max() <= 0.5001 / top


def test_a_curve_is_followed_to_one_grey_level(rng):
    image = rng.random((40, 50)).astype(np.float32)
    image[0, :3] = 0.0, 1.0, 0.5
    bent = bend_by(image, lambda level: level**2, np.empty_like(image))
    assert np.abs(bent - image**2).max() < 1 / 65_535
    assert bent[0, :2].tolist() == [0.0, 1.0]
