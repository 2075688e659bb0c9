import math

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from cell_curator.core.clustering import ClusterParameters, by_size, cluster, match_clusters, quality, space_points
from cell_curator.core.jobs import UserError

METHODS = ["gmm", "kmeans", "hdbscan"]


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Three groups of 120, 60 and 30 points in six dimensions, shuffled."""
    rng = np.random.default_rng(1)
    truth = np.repeat([0, 1, 2], [120, 60, 30])
    centres = np.array([[0] * 6, [8] * 6, [-8, 8] * 3])
    points = centres[truth] + rng.normal(size=(210, 6))
    order = rng.permutation(210)
    return points[order], truth[order]


@pytest.mark.parametrize("method", METHODS)
def test_finds_the_groups_numbered_by_size(blobs, method):
    points, truth = blobs
    got = cluster(points, ClusterParameters(method=method, k=3))
    kept = got.labels >= 0
    assert got.k == 3
    assert kept.mean() > 0.9
    np.testing.assert_array_equal(got.labels[kept], truth[kept])
    assert got.scores["silhouette"] > 0.6
    assert got.scores["davies_bouldin"] < 0.6
    assert got.scores["calinski_harabasz"] > 500
    assert (got.space, got.method) == ("latent", method)


@pytest.mark.parametrize("covariance", ["full", "diag", "spherical"])
def test_every_covariance_finds_separate_groups(blobs, covariance):
    points, truth = blobs
    got = cluster(points, ClusterParameters(k=3, covariance=covariance))
    assert adjusted_rand_score(truth, got.labels) == 1


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_clusters(method):
    points = np.random.default_rng(3).normal(size=(300, 5))
    params = ClusterParameters(method=method, k=5, seed=7)
    np.testing.assert_array_equal(cluster(points, params).labels, cluster(points, params).labels)


def test_order_of_the_cells_does_not_decide_the_numbers(blobs):
    points, _ = blobs
    order = np.random.default_rng(0).permutation(len(points))
    params = ClusterParameters(k=3)
    np.testing.assert_array_equal(cluster(points[order], params).labels, cluster(points, params).labels[order])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_fewer_cells_than_clusters(method, count):
    points = np.arange(count * 4, dtype=float).reshape(count, 4)
    got = cluster(points, ClusterParameters(method=method, k=6))
    assert len(got.labels) == count
    assert got.k <= max(count, 1)
    assert math.isnan(got.scores["davies_bouldin"]) or count == 3
    if method != "hdbscan":
        assert str(count) in got.notes[0]


@pytest.mark.parametrize("method", METHODS)
def test_identical_cells_are_one_cluster_or_noise(method):
    got = cluster(np.ones((50, 4)), ClusterParameters(method=method, k=3))
    assert got.k <= 1
    assert all(math.isnan(score) for score in got.scores.values())


def test_fewer_cells_than_dimensions_is_no_error():
    points = np.random.default_rng(0).normal(size=(12, 40))
    got = cluster(points, ClusterParameters(k=4))
    assert got.labels.max() <= 3


def test_coordinates_that_are_not_numbers_are_refused():
    points = np.zeros((5, 2))
    points[3, 1] = np.nan
    with pytest.raises(UserError, match="1 of 5 cells"):
        cluster(points)


def test_hdbscan_without_dense_groups_says_so():
    points = np.random.default_rng(0).uniform(size=(12, 2))
    got = cluster(points, ClusterParameters(method="hdbscan", min_size=12))
    assert got.k == 0
    assert "method" in got.notes[0]


def test_noise_does_not_count_in_the_scores(blobs):
    points, truth = blobs
    spoiled = np.vstack([points, np.full((5, 6), 100.0)])
    labels = np.concatenate([truth, np.full(5, -1)])
    assert quality(spoiled, labels) == quality(points, truth)


def test_silhouette_of_many_points_is_estimated_closely():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 8000)
    points = truth[:, None] * 4 + rng.normal(size=(8000, 2))
    from sklearn.metrics import silhouette_score

    assert quality(points, truth)["silhouette"] == pytest.approx(silhouette_score(points, truth), abs=0.01)


def test_by_size_keeps_noise():
    np.testing.assert_array_equal(by_size(np.array([5, 9, 9, -1, 9, 5, 2])), [1, 0, 0, -1, 0, 1, 2])


def test_matched_clusters_keep_their_numbers():
    old = np.array([3, 3, 3, 0, 0, 1, 1, 1])
    new = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(match_clusters(old, new), old)


def test_a_new_cluster_inherits_no_old_name():
    old = np.array([0, 0, 0, 1, 1, 1])
    new = np.array([1, 1, 0, 2, 2, 2])
    np.testing.assert_array_equal(match_clusters(old, new), [0, 0, 2, 1, 1, 1])


def test_noise_stays_noise_when_matched():
    old, new = np.array([0, 0, -1, 1]), np.array([-1, 1, 1, 0])
    np.testing.assert_array_equal(match_clusters(old, new), [-1, 0, 0, 1])
    assert len(match_clusters(np.array([], int), np.array([], int))) == 0
    with pytest.raises(ValueError, match="same cells"):
        match_clusters(old, new[:2])


def test_the_space_is_said_in_the_name(blobs):
    points, truth = blobs
    params = ClusterParameters(k=3, space="umap", dims=4)
    there, name = space_points(points.astype(np.float32), points[:, :2], params)
    assert (there.shape, name) == ((210, 4), "UMAP 4-D")
    got = cluster(there, params, name)
    assert got.space == "UMAP 4-D"
    assert adjusted_rand_score(truth, got.labels) > 0.99
    same, _ = space_points(points.astype(np.float32), points[:, :2], params)
    np.testing.assert_array_equal(there, same)


def test_too_few_cells_for_a_umap_are_grouped_in_latent_space():
    points = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    there, name = space_points(points, points[:, :2], ClusterParameters(space="umap"))
    assert name == "latent"
    assert there is points
