import math

import numpy as np
import pytest

from cell_curator.core.clustering import ClusterParameters, cluster, quality
from cell_curator.core.honesty import HELD_BACK, NOISE_AND_LABEL, honesty_rows, majority_accuracy, noise_and_label


@pytest.mark.parametrize("dims", [8, 16, 64])
@pytest.mark.parametrize("classes", [2, 5])
def test_noise_with_the_label_appended_clusters_perfectly(dims, classes):
    truth = np.random.default_rng(0).integers(0, classes, 600)
    assert noise_and_label(truth, dims, ClusterParameters(k=classes)) > 0.99
    noise = np.random.default_rng(1).normal(size=(600, dims))
    alone = majority_accuracy(cluster(noise, ClusterParameters(k=classes)).labels, truth)
    assert alone < 1 / classes + 0.12  # and without the label it does not


def test_every_row_says_its_space_and_split():
    rng = np.random.default_rng(0)
    latent = np.repeat(np.eye(4)[:2] * 8, 50, axis=0) + rng.normal(size=(100, 4))
    map2d = latent[:, :2]
    params = ClusterParameters(k=2)
    made = cluster(latent, params)
    held_back = np.arange(100) % 5 == 0
    rows = honesty_rows(
        latent, map2d, made.labels, params, scores=made.scores,
        conditions=["a", "b"] * 50, held_back=held_back,
    )  # fmt: skip
    by_place = {(row.what.split(",")[0], row.space, row.split): row.value for row in rows}
    assert by_place["silhouette", "latent", "all cells"] == made.scores["silhouette"]
    assert by_place["silhouette", "map", "all cells"] == quality(map2d, made.labels)["silhouette"]
    assert by_place["silhouette", "latent", HELD_BACK] != made.scores["silhouette"]
    control = [row for row in rows if row.space == NOISE_AND_LABEL]
    assert len(control) == 1
    assert control[0].value > 0.99
    guessed = next(row for row in rows if row.what.startswith("condition guessed"))
    assert guessed.value < 0.65
    assert all(row.space and row.split for row in rows)


def test_with_one_condition_there_is_nothing_to_guess():
    points = np.random.default_rng(0).normal(size=(20, 3))
    rows = honesty_rows(points, points[:, :2], np.zeros(20, int), ClusterParameters(), conditions=["a"] * 20)
    assert not [row for row in rows if "condition" in row.what]
    assert math.isnan(rows[0].value)


def test_majority_accuracy_counts_cells_in_no_cluster_as_wrong():
    assert majority_accuracy(np.array([0, 0, 1, -1]), np.array([1, 1, 0, 0])) == 0.75
    assert math.isnan(majority_accuracy(np.array([]), np.array([])))
