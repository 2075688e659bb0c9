import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score, roc_auc_score

from cell_curator.core.pixel_scores import auc, mean_absolute_error, pixel_scores


@pytest.mark.parametrize("seed", range(4))
def test_as_scikit_learn_says(seed):
    rng = np.random.default_rng(seed)
    truth = rng.random((30, 41)) < 0.3
    probability = np.round(np.clip(truth * 0.3 + rng.random(truth.shape) * 0.7, 0, 1), 2)  # with ties
    mask = probability > 0.5
    made, pair = pixel_scores(mask, truth, probability), (truth.ravel(), mask.ravel())
    assert made.precision == pytest.approx(precision_score(*pair))
    assert made.recall == pytest.approx(recall_score(*pair))
    assert made.f1 == pytest.approx(f1_score(*pair))
    assert made.iou == pytest.approx(jaccard_score(*pair))
    assert made.auc == pytest.approx(roc_auc_score(truth.ravel(), probability.ravel()))
    assert made.auc > auc(mask, truth)  # a threshold throws away what probabilities know
    assert made.error == pytest.approx(100 * (mask.mean() - truth.mean()))


def test_nothing_and_everything():
    none, every = np.zeros((4, 5), bool), np.ones((4, 5), bool)
    empty = pixel_scores(none, none)
    assert (empty.precision, empty.recall, empty.f1, empty.iou, empty.error) == (1, 1, 1, 1, 0)
    assert np.isnan(empty.auc)
    missed = pixel_scores(none, every, np.zeros((4, 5)))
    assert (missed.precision, missed.recall, missed.iou, missed.error) == (1, 0, 0, -100)
    assert np.isnan(missed.auc)
    with pytest.raises(ValueError, match="differ in shape"):
        pixel_scores(none, every[:2])


def test_mean_absolute_error():
    assert mean_absolute_error([10, 20, 30], [12, 20, 26]) == 2
    assert np.isnan(mean_absolute_error([], []))
    with pytest.raises(ValueError, match="2 estimates for 1 truths"):
        mean_absolute_error([1, 2], [1])
