import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from skimage.restoration import denoise_tv_chambolle

from cell_curator.core.total_variation import denoise_tv


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (61, 97), (400, 500), (90, 3000), (3000, 90)])
@pytest.mark.parametrize("weight", [0.02, 0.5])
def test_the_converged_result_is_that_of_scikit_image(rng, shape, weight):
    image = rng.random(shape).astype(np.float32)
    theirs = denoise_tv_chambolle(image.astype(float), weight)
    assert np.abs(denoise_tv(image, weight) - theirs).max() < 1e-5


@pytest.mark.parametrize("iterations", [1, 2, 7, 30])
def test_after_the_same_number_of_iterations_the_result_is_the_same(rng, iterations):
    image = rng.random((70, 90)).astype(np.float32)
    theirs = denoise_tv_chambolle(image.astype(float), 0.1, eps=0, max_num_iter=iterations)
    assert np.abs(denoise_tv(image, 0.1, 1e-12, iterations) - theirs).max() < 1e-5


# With the finest tolerance, rounding in float32 may decide one iteration earlier or later.
@pytest.mark.parametrize(("tolerance", "most"), [(0.9, 1e-5), (1e-2, 1e-5), (1e-3, 1e-5), (1e-5, 1e-3)])
def test_it_stops_where_scikit_image_stops(rng, tolerance, most):
    image = (rng.random((300, 250)) + np.linspace(0, 3, 250)).astype(np.float32)
    theirs = denoise_tv_chambolle(image.astype(float), 0.2, eps=tolerance)
    assert np.abs(denoise_tv(image, 0.2, tolerance) - theirs).max() < most


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_any_number_of_threads_gives_the_same(rng, monkeypatch, cores):
    from cell_curator.core import bands

    image = rng.random((400, 1000)).astype(np.float32)
    pool, _ = bands._threads()
    monkeypatch.setattr(bands, "_threads", lambda: (pool, cores))
    theirs = denoise_tv_chambolle(image.astype(float), 0.1)
    assert np.abs(denoise_tv(image, 0.1) - theirs).max() < 1e-5


def test_several_threads_may_denoise_at_once(rng):
    images = [rng.random((300, 400)).astype(np.float32) for _ in range(6)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(denoise_tv, images))
    assert all(np.array_equal(denoise_tv(image), other) for image, other in zip(images, together, strict=True))


def test_the_given_image_is_left_alone_unless_in_place(rng):
    image = rng.random((40, 50)).astype(np.float32)
    before = image.copy()
    smooth = denoise_tv(image, 0.1)
    assert np.array_equal(image, before)
    assert denoise_tv(image, 0.1, in_place=True) is image
    assert np.array_equal(image, smooth)


def test_of_weight_zero_it_is_the_image(rng):
    image = rng.random((9, 7)).astype(np.float32)
    assert np.array_equal(denoise_tv(image, 0.0), image)


def test_a_constant_image_stays_as_it_is():
    assert np.all(denoise_tv(np.full((30, 30), 0.3, np.float32), 0.1) == np.float32(0.3))


def test_it_needs_twice_the_memory_of_the_image_besides(rng):
    image = rng.random((600, 600)).astype(np.float32)
    denoise_tv(image.copy(), in_place=True)
    tracemalloc.start()
    denoise_tv(image, in_place=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.2 * image.nbytes
