"""The benchmark of digits judges as it says."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture


@pytest.fixture(scope="module")
def digits() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "digits.py"
    spec = importlib.util.spec_from_file_location("digits_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def blobs(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, count)
    return rng.normal(size=(count, 2)) * [1, 0.3] + np.array([[0, 0], [4, 1], [0, 3]])[truth], truth


def test_clusters_are_named_by_what_was_learned_from(digits):
    """A cluster that holds mostly twos in the training part counts as twos, whatever it holds in the other."""
    clusters, truth = np.array([0, 0, 0, 1, 1]), np.array([2, 2, 7, 5, 5])
    new, new_truth = np.array([0, 0, 0, 1]), np.array([7, 7, 2, 5])
    assert digits.accuracy(clusters, new, (truth, new_truth)) == 0.5


def test_the_mixture_is_the_likeliest_of_many_starts(digits, monkeypatch):
    monkeypatch.setattr(digits, "CLASSES", 3)
    points, truth = blobs(900, 0)
    found = digits.mixture(points, seed=0)
    alone = [GaussianMixture(3, init_params="random", random_state=seed).fit(points).score(points) for seed in range(5)]
    assert found.score(points) >= max(alone) - 1e-3
    labels = found.predict(points)
    new, new_truth = blobs(300, 1)
    assert digits.accuracy(labels, found.predict(new), (truth, new_truth)) > 0.95


def test_new_points_go_where_their_neighbours_are(digits):
    points, labels = blobs(900, 0)
    new, truth = blobs(300, 1)
    assert (digits.by_neighbours(points, labels, new) == truth).mean() > 0.95


def test_networks_side_by_side_count_alike(digits):
    """A network that writes large numbers has no more to say; new pictures are scaled as those learned from."""
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(500, 4)), 50 * rng.normal(size=(500, 8))
    both = digits.together([small, large], [small, large])
    assert both.shape == (500, 12)
    np.testing.assert_allclose([both[:, :4].var(axis=0).sum(), both[:, 4:].var(axis=0).sum()], 1, rtol=1e-4)
    np.testing.assert_allclose(digits.together([small[:5], large[:5]], [small, large]), both[:5])


def test_a_leaked_label_alone_is_worth_everything(digits):
    truth = np.arange(600) % 10
    assert digits.control_row((truth, truth[::-1]), seed=0).accuracy == 1.0


@pytest.mark.parametrize("names", [("x", "y"), ("labels", "images")])
@pytest.mark.parametrize("flat", [False, True])
def test_files_are_read_whatever_their_arrays_are_called(digits, tmp_path, names, flat):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 28, 28)).astype(np.uint8)
    pictures[0, 0, 0] = 255
    arrays = {"x": pictures.reshape(6, -1) if flat else pictures, "y": np.arange(6), "images": pictures}
    arrays["labels"] = arrays["y"]
    np.savez(tmp_path / "data.npz", **{name: arrays[name] for name in names})
    read, classes = digits.load(tmp_path / "data.npz")
    np.testing.assert_array_equal(read, (pictures / 255).astype(np.float32))
    np.testing.assert_array_equal(classes, np.arange(6))
