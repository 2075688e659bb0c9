import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from cell_curator.core.embedding import MapParameters, fallback_note, place, place_note, project, project_2d
from cell_curator.core.jobs import UserError

METHODS = ["umap", "pca", "tsne"]


@pytest.fixture
def groups() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 40)
    return (rng.normal(size=(3, 16)) * 6)[truth] + rng.normal(size=(120, 16)), truth


@pytest.mark.parametrize("method", METHODS)
def test_groups_stay_apart_on_the_map(groups, method):
    latent, truth = groups
    flat = project_2d(latent, MapParameters(method=method))
    assert flat.shape == (120, 2)
    assert flat.dtype == np.float32
    assert KNeighborsClassifier(5).fit(flat[::2], truth[::2]).score(flat[1::2], truth[1::2]) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_map(groups, method):
    params = MapParameters(method=method)
    first, second = (project_2d(groups[0], params, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [0, 1, 2, 5, 14, 15, 16])
def test_few_cells_still_get_a_map(method, count):
    latent = np.random.default_rng(0).normal(size=(count, 8))
    flat = project_2d(latent, MapParameters(method=method))
    assert flat.shape == (count, 2)
    assert np.isfinite(flat).all()


def test_too_few_for_umap_is_said():
    assert "14 cells are too few" in fallback_note(14)
    assert fallback_note(15) == ""
    assert fallback_note(3, MapParameters(method="pca")) == ""


@pytest.mark.parametrize("method", METHODS)
def test_identical_cells_are_no_error(method):
    flat = project_2d(np.ones((40, 8)), MapParameters(method=method))
    assert np.isfinite(flat).all()


def test_one_latent_dimension():
    flat = project_2d(np.arange(30.0)[:, None], MapParameters(method="pca"))
    assert (flat[:, 1] == 0).all()
    assert (np.diff(flat[:, 0]) > 0).all()


def test_pca_does_not_flip_when_the_cells_are_reordered(groups):
    latent, _ = groups
    params = MapParameters(method="pca")
    np.testing.assert_allclose(project_2d(latent[::-1], params)[::-1], project_2d(latent, params), atol=1e-3)


def test_coordinates_that_are_not_numbers_are_refused():
    latent = np.zeros((20, 3))
    latent[7, 2] = np.inf
    with pytest.raises(UserError, match="1 of 20 cells"):
        project_2d(latent)


@pytest.mark.parametrize(("method", "dims"), [("umap", 5), ("pca", 5)])
def test_more_dimensions_than_the_map_has(groups, method, dims):
    latent, truth = groups
    points = project(latent, dims, MapParameters(method=method))
    assert points.shape == (120, dims)
    assert KNeighborsClassifier(5).fit(points[::2], truth[::2]).score(points[1::2], truth[1::2]) > 0.9


def test_a_new_cell_has_its_exact_place_on_a_pca(groups):
    latent, _ = groups
    params = MapParameters(method="pca")
    whole = project_2d(latent, params)
    np.testing.assert_allclose(place(latent[5:9], latent, whole, params), whole[5:9], atol=1e-4)
    middle = place(latent[:2].mean(axis=0)[None], latent, whole, params)
    np.testing.assert_allclose(middle[0], whole[:2].mean(axis=0), atol=1e-4)
    assert place_note(4, params) == ""


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_new_cells_land_in_their_own_group_and_the_map_stays(groups, method):
    latent, truth = groups
    params = MapParameters(method=method)
    flat = project_2d(latent[::2], params)
    before = flat.copy()
    placed = place(latent[1::2], latent[::2], flat, params)
    np.testing.assert_array_equal(flat, before)
    assert KNeighborsClassifier(5).fit(flat, truth[::2]).score(placed, truth[1::2]) > 0.95
    assert "60 cells were placed" in place_note(60, params)


def test_a_known_cell_is_placed_where_it_is(groups):
    latent, _ = groups
    flat = project_2d(latent)
    span = np.ptp(flat, axis=0).max()
    assert np.abs(place(latent[:10], latent, flat) - flat[:10]).max() < 0.01 * span


def test_a_cell_between_two_groups_is_not_put_into_the_gap():
    rng = np.random.default_rng(0)
    latent = np.vstack([rng.normal(0, 1, (30, 4)), rng.normal(8, 1, (30, 4))])
    flat = np.vstack([rng.normal(0, 0.1, (30, 2)), rng.normal(100, 0.1, (30, 2))]).astype(np.float32)
    placed = place(np.full((1, 4), 3.8), latent, flat)
    assert min(np.abs(placed).max(), np.abs(placed - 100).max()) < 5


def test_no_new_cells_is_no_error(groups):
    assert place(np.zeros((0, 16)), groups[0], project_2d(groups[0], MapParameters(method="pca"))).shape == (0, 2)
