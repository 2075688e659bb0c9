import numpy as np
import pytest

from cell_curator.core.cluster_count import suggest_k
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.jobs import UserError


def _blobs(k, dims=5, each=40, apart=9.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(k, dims))
    centres *= apart / np.linalg.norm(centres, axis=1, keepdims=True)
    return np.repeat(centres, each, axis=0) + rng.normal(size=(k * each, dims))


@pytest.mark.parametrize("method", ["gmm", "kmeans"])
@pytest.mark.parametrize("k", [3, 5])
def test_finds_how_many_groups_there_are(method, k):
    got = suggest_k(_blobs(k), ClusterParameters(method=method), ks=range(2, 7))
    assert got.k == k
    assert got.table.loc[k, "stability"] > 0.9
    assert got.table["silhouette"].idxmax() == k
    assert str(k) in got.why
    assert ("BIC" in got.why) == (method == "gmm")


def test_a_single_cloud_is_told_from_groups():
    cloud = np.random.default_rng(0).normal(size=(400, 5))
    got = suggest_k(cloud, ClusterParameters(), ks=(3, 4, 5))
    assert any("no groups at all" in note for note in got.notes)
    assert any("continuum" in note for note in got.notes)
    groups = suggest_k(_blobs(4), ClusterParameters(), ks=(3, 4, 5))
    assert not any("no groups" in note or "continuum" in note for note in groups.notes)


def test_the_same_seed_gives_the_same_table():
    first, second = (suggest_k(_blobs(3), ClusterParameters(seed=4), ks=(2, 3, 4)) for _ in range(2))
    assert first.table.equals(second.table)


def test_numbers_that_the_cells_cannot_carry_are_left_out():
    got = suggest_k(_blobs(2, each=10), ks=range(2, 11))
    assert got.table.index.max() == 4
    with pytest.raises(UserError, match="too few"):
        suggest_k(_blobs(2, each=3))


def test_hdbscan_needs_no_suggestion():
    with pytest.raises(UserError, match="itself"):
        suggest_k(_blobs(3), ClusterParameters(method="hdbscan"))


def test_groups_that_come_back_are_preferred():
    rng = np.random.default_rng(0)
    cells = np.vstack([rng.normal(size=(150, 5)), rng.normal(size=(150, 5)) + 6])
    got = suggest_k(cells, ClusterParameters(method="gmm", covariance="spherical"), ks=(2, 3, 4, 5))
    assert got.k == 2
    assert got.table.loc[2, "stability"] > 0.95 > got.table.loc[4:, "stability"].max()
