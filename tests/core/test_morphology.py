import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_curator.core import bands
from cell_curator.core.morphology import dilate


def disk(radius):
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return (y * y + x * x <= radius * radius).astype(np.uint8)


def check(image, radius):
    """Both are OpenCV's, to the last bit."""
    closing = dilate(dilate(image, radius), radius, -1)
    opening = dilate(dilate(image, radius, -1), radius)
    assert np.array_equal(closing, cv2.morphologyEx(image, cv2.MORPH_CLOSE, disk(radius)))
    assert np.array_equal(opening, cv2.morphologyEx(image, cv2.MORPH_OPEN, disk(radius)))


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(0, 99))
def test_any_image_and_any_disk(rows, columns, radius, seed):
    check(np.random.default_rng(seed).normal(0, 1e3, (rows, columns)).astype(np.float32), radius)


@pytest.mark.parametrize("shape", [(300, 2500), (1500, 90)])
@pytest.mark.parametrize("radius", [15, 70])
def test_wide_and_tall_images_are_done_in_strips_and_bands(rng, shape, radius):
    check(rng.random(shape).astype(np.float32), radius)


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_any_number_of_threads_gives_the_same(rng, monkeypatch, cores):
    pool, _ = bands._threads()
    monkeypatch.setattr(bands, "_threads", lambda: (pool, cores))
    check(rng.random((700, 600)).astype(np.float32), 9)


def test_a_view_is_taken_as_it_is(rng):
    check(rng.random((80, 120)).astype(np.float32)[::2, ::3], 4)
