import numpy as np
import pandas as pd
import pytest

from cell_curator.core.cluster_reading import (
    at_random,
    cluster_correlation,
    densities,
    isolation,
    nearest_cells,
    nearest_to_center,
    separating_measurements,
)


@pytest.fixture
def line():
    """Ten cells on a line in two clusters of five."""
    return np.stack([np.arange(10.0), np.zeros(10)], axis=1), np.repeat([0, 1], 5)


def test_nearest_to_the_middle_and_at_random(line):
    latent, clusters = line
    assert nearest_to_center(latent, clusters, 0, 3).tolist()[0] == 2
    assert set(nearest_to_center(latent, clusters, 0, 3)) == {1, 2, 3}
    assert set(at_random(clusters, 1, 99)) == {5, 6, 7, 8, 9}
    assert len(at_random(clusters, 1, 3)) == 3
    np.testing.assert_array_equal(at_random(clusters, 1, 3, seed=2), at_random(clusters, 1, 3, seed=2))
    assert len(nearest_to_center(latent, clusters, 7, 3)) == 0


def test_nearest_cells_do_not_hold_the_cell_itself(line):
    latent, _ = line
    assert nearest_cells(latent, 9, 2).tolist() == [8, 7]
    assert len(nearest_cells(latent, 0, 50)) == 9
    assert len(nearest_cells(latent[:1], 0, 5)) == 0


def test_a_cell_far_from_all_is_isolated():
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(60, 4))
    latent[7] = 20
    far = isolation(latent)
    assert far.argmax() == 7
    alone = isolation(latent[7:8], np.delete(latent, 7, axis=0))
    assert alone[0] == pytest.approx(far[7], rel=1e-3)
    assert np.isnan(isolation(latent[:1])).all()


def test_densities_integrate_to_one_and_peak_where_the_cells_are():
    rng = np.random.default_rng(0)
    clusters = np.repeat([0, 3], 400)
    latent = rng.normal(size=(800, 2)) + np.array([[0, 0], [6, 0]])[(clusters == 3).astype(int)]
    got = densities(latent, clusters)
    assert got.clusters == (0, 3)
    step = np.diff(got.grid, axis=1)[:, :1, None]
    np.testing.assert_allclose((got.density * step).sum(axis=2), 1, atol=1e-6)
    peaks = np.take_along_axis(got.grid, got.density.argmax(axis=2), axis=1)
    np.testing.assert_allclose(peaks[0], [0, 6], atol=0.5)
    np.testing.assert_allclose(got.mean[0], [0, 6], atol=0.2)
    np.testing.assert_allclose(got.deviation, 1, atol=0.15)


def test_a_feature_that_never_varies_is_no_error():
    latent = np.stack([np.arange(8.0), np.full(8, 2.0)], axis=1)
    assert np.isfinite(densities(latent, np.repeat([0, 1], 4)).density).all()
    numbers, table = cluster_correlation(latent, np.repeat([0, 1], 4))
    assert numbers == (0, 1)
    assert np.isfinite(table).all()


def test_clusters_alike_correlate_and_opposite_ones_do_not():
    rng = np.random.default_rng(0)
    direction = rng.normal(size=8)
    clusters = np.repeat([0, 1, 2], 50)
    latent = np.array([1.0, 0.9, -2.0])[clusters][:, None] * direction * 5 + rng.normal(size=(150, 8))
    _, table = cluster_correlation(latent, clusters)
    np.testing.assert_allclose(np.diag(table), 1)
    assert table[0, 1] > 0.9
    assert table[0, 2] < -0.9


def test_the_measurement_that_sets_a_cluster_apart_comes_first():
    rng = np.random.default_rng(0)
    clusters = np.repeat([0, 1, -1], [50, 50, 10])
    frame = pd.DataFrame({"area": rng.normal(100, 5, 110) + 40 * (clusters == 1), "focus": rng.normal(size=110)})
    frame.loc[3, "focus"] = np.nan
    got = separating_measurements(frame, clusters, ["focus", "area"])
    assert got.groupby("cluster")["measurement"].first().tolist() == ["area", "area"]
    one = separating_measurements(frame, clusters, ["focus", "area"], number=1).iloc[0]
    assert one["delta"] > 0.95
    assert one["inside"] == pytest.approx(140, abs=3)
    from cell_curator.core.comparison import cliffs_delta

    inside, outside = frame["area"][clusters == 1], frame["area"][clusters == 0]
    assert one["delta"] == pytest.approx(cliffs_delta(outside, inside))
