import math

import numpy as np
import pytest

from cell_curator.core.clustering import ClusterParameters, cluster
from cell_curator.core.doubts import batch_effect, by_direction, cluster_stability, dead_units


def _latent(of_condition, of_image, images=4, cells=60, dims=8, seed=0):
    """Cells whose position is shifted by their condition and by their image."""
    rng = np.random.default_rng(seed)
    latent, conditions, units = [], [], []
    for condition in ("control", "drug"):
        towards = np.eye(dims)[0] * of_condition * (condition == "drug")
        for image in range(images):
            latent.append(towards + rng.normal(size=dims) * of_image + rng.normal(size=(cells, dims)))
            conditions += [condition] * cells
            units += [f"{condition}{image}"] * cells
    return np.concatenate(latent), conditions, units


def test_a_batch_effect_is_told_plainly():
    got = batch_effect(*_latent(of_condition=0, of_image=1.5))
    assert got.image > 0.9
    assert got.condition < 0.75
    assert got.warning.startswith("batch effect: the map tells two images of one condition apart in 99 % of cells")


def test_a_true_difference_is_no_batch_effect():
    got = batch_effect(*_latent(of_condition=4, of_image=0.3))
    assert got.condition > 0.9
    assert got.warning == ""


def test_cells_without_any_order_give_no_warning():
    got = batch_effect(*_latent(of_condition=0, of_image=0))
    assert got.image == pytest.approx(0.5, abs=0.08)
    assert got.condition == pytest.approx(0.5, abs=0.08)
    assert got.warning == ""


def test_what_cannot_be_asked_is_not_answered():
    latent, _, units = _latent(0, 2)
    got = batch_effect(latent, ["one"] * len(latent), units)
    assert math.isnan(got.condition)
    assert "before comparing conditions" in got.warning
    one_each = batch_effect(latent[:480:4], ["a"] * 60 + ["b"] * 60, [1] * 60 + [2] * 60)
    assert math.isnan(one_each.image)
    assert one_each.warning == ""
    assert batch_effect(np.ones_like(latent), *_latent(0, 0)[1:]).image == 0.5


def test_groups_that_are_there_come_back_and_halves_of_a_cloud_do_not():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.eye(3) * 9, 60, axis=0) + rng.normal(size=(180, 3))
    params = ClusterParameters(method="kmeans", k=3)
    got = cluster_stability(groups, cluster(groups, params).labels, params)
    assert min(got.jaccard) > 0.95
    assert got.warning == ""
    cloud = rng.normal(size=(300, 6))
    params = ClusterParameters(k=6)
    got = cluster_stability(cloud, cluster(cloud, params).labels, params, names={0: "spindle"})
    assert min(got.jaccard) < 0.6
    assert "not come back" in got.warning
    assert got.clusters == (0, 1, 2, 3, 4, 5)


def test_one_cluster_cannot_be_unstable():
    assert cluster_stability(np.zeros((9, 2)), np.zeros(9, int)).warning == ""


def test_dead_features_are_counted():
    latent = np.random.default_rng(0).normal(size=(50, 6))
    assert dead_units(latent).warning == ""
    latent[:, [1, 4]] *= 0.01
    assert dead_units(latent).dead == (1, 4)
    assert dead_units(latent).warning.startswith("2 of 6 learned features are the same for every cell")
    assert "shows nothing" in dead_units(latent * 0).warning
    assert dead_units(latent[:1]).warning == ""


@pytest.mark.parametrize(("follow", "expected"), [(1.0, 1.0), (0.0, 0.0)])
def test_clusters_that_only_follow_direction_are_told(follow, expected):
    rng = np.random.default_rng(3)
    clusters = rng.integers(0, 3, 600)
    direction = np.where(rng.random(600) < follow, 90 + 60 * clusters + rng.normal(0, 3, 600), rng.uniform(0, 180, 600))
    axis = (direction + 90) % 180 - 90  # an axis has no head: 90 and -90 are the same
    share, warning = by_direction(clusters, axis, np.full(600, 0.8))
    assert share == pytest.approx(expected, abs=0.05)
    assert bool(warning) == (expected > 0.5)
    assert math.isnan(by_direction(clusters, axis, np.full(600, 0.1))[0])  # round cells have no direction
    assert math.isnan(by_direction(np.zeros(600, int), axis, np.full(600, 0.8))[0])
