import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from cell_curator.core.embedding import MapParameters, fallback_note, project_2d
from cell_curator.core.jobs import UserError


@pytest.fixture
def groups() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 40)
    return (rng.normal(size=(3, 16)) * 6)[truth] + rng.normal(size=(120, 16)), truth


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_groups_stay_apart_on_the_map(groups, method):
    latent, truth = groups
    flat = project_2d(latent, MapParameters(method=method))
    assert flat.shape == (120, 2)
    assert flat.dtype == np.float32
    assert KNeighborsClassifier(5).fit(flat[::2], truth[::2]).score(flat[1::2], truth[1::2]) > 0.9


@pytest.mark.parametrize("method", ["umap", "pca"])
def test_same_seed_same_map(groups, method):
    params = MapParameters(method=method)
    first, second = (project_2d(groups[0], params, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("method", ["umap", "pca"])
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


@pytest.mark.parametrize("method", ["umap", "pca"])
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
