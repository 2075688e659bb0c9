import numpy as np
import pytest

from cell_curator.core.orientation import estimate_angle, wrap
from cell_curator.samples.scenes import nuclei_on_grooves


def grooves(rng, angle_deg, noise, side=400, period=17.0):
    """Grooves that a counter-clockwise turn by ``angle_deg`` makes vertical."""
    y, x = np.mgrid[:side, :side]
    turn = np.deg2rad(angle_deg)
    stripes = np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period)
    return (stripes + rng.normal(0, noise, stripes.shape)).astype(np.float32)


def check(errors):
    assert np.median(errors) <= 0.2
    assert np.percentile(errors, 95) <= 1.0
    assert max(errors) < 45  # no flips


@pytest.mark.parametrize("method", ["tensor", "hough"])
@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_the_angle_of_noisy_grooves_is_found(rng, method, count):
    angles = rng.uniform(-90, 90, count)
    periods = rng.uniform(8, 30, count)
    check(
        [
            abs(wrap(estimate_angle(grooves(rng, angle, 0.8, period=period), method) - angle))
            for angle, period in zip(angles, periods, strict=True)
        ]
    )


@pytest.mark.parametrize("method", ["tensor", "hough"])
@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_cells_on_the_grooves_do_not_lead_astray(rng, method, count):
    errors = []
    for seed, angle in enumerate(rng.uniform(-90, 90, count)):
        scene = nuclei_on_grooves(seed, elongated=seed % 2 == 0, angle_deg=angle)
        errors.append(abs(wrap(estimate_angle(scene.image[0].astype(np.float32), method) - angle)))
    check(errors)


@pytest.mark.parametrize("method", ["tensor", "hough"])
def test_a_large_image_is_looked_at_in_half_size(rng, method):
    assert abs(estimate_angle(grooves(rng, 31.0, 0.5, side=1400), method) - 31.0) < 0.2


@pytest.mark.parametrize("method", ["tensor", "hough"])
@pytest.mark.parametrize(
    "image",
    [np.zeros((100, 100), np.float32), np.ones((3, 500), np.float32), np.full((64, 64), 3e38, np.float32)],
    ids=["black", "three rows", "huge"],
)
def test_without_content_there_is_no_angle(image, method):
    assert estimate_angle(image, method) is None
