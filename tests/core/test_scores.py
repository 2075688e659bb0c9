import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_curator.core.scores import THRESHOLDS, evaluate, reviewed_ap, surplus


def boxes(*corners, shape=(40, 60)):
    labels = np.zeros(shape, dtype=np.int32)
    for value, (top, left, bottom, right) in enumerate(corners, start=1):
        labels[top:bottom, left:right] = value
    return labels


def random_scene(seed, n=25, jitter=3, shape=(120, 150)):
    rng = np.random.default_rng(seed)
    truth, found = np.zeros((2, *shape), dtype=np.int32)
    for value in range(1, n + 1):
        y, x = rng.integers(0, shape[0] - 12), rng.integers(0, shape[1] - 12)
        h, w = rng.integers(5, 12, 2)
        truth[y : y + h, x : x + w] = value
        if rng.random() < 0.85:
            dy, dx = rng.integers(0, jitter + 1, 2)
            found[y + dy : y + dy + h, x + dx : x + dx + w] = 1 + (value * 7) % (n + 1)
    return truth, found


def test_the_truth_agrees_with_itself_whatever_the_label_values():
    truth = boxes((2, 2, 10, 10), (2, 10, 10, 20), (20, 5, 35, 30))
    scores = evaluate(truth * 17, truth)
    assert scores.ap == {0.5: 1.0, 0.75: 1.0, 0.9: 1.0}
    assert (scores.precision, scores.recall, scores.f1) == (1.0, 1.0, 1.0)
    assert (scores.splits, scores.merges, scores.misses) == (0, 0, 0)
    assert scores.n_predicted == scores.n_true == 3


def test_a_cell_cut_in_two_is_a_split_and_a_miss():
    scores = evaluate(boxes((5, 5, 15, 15), (5, 15, 15, 25)), boxes((5, 5, 15, 26)))
    assert (scores.splits, scores.merges, scores.misses) == (1, 0, 1)
    assert scores.ap[0.5] == 0.0


def test_two_cells_in_one_are_a_merge():
    scores = evaluate(boxes((5, 5, 15, 25)), boxes((5, 5, 15, 14), (5, 16, 15, 25)))
    assert (scores.splits, scores.merges, scores.misses) == (0, 1, 2)


def test_counts_are_at_iou_of_one_half():
    truth = boxes((0, 0, 10, 10), (20, 20, 30, 30), (20, 40, 30, 50))
    found = boxes((0, 2, 10, 10), (20, 27, 30, 37), (32, 50, 36, 55))
    scores = evaluate(found, truth)
    assert scores.precision == pytest.approx(1 / 3)
    assert scores.recall == pytest.approx(1 / 3)
    assert scores.f1 == pytest.approx(1 / 3)
    assert scores.ap == {0.5: pytest.approx(1 / 5), 0.75: pytest.approx(1 / 5), 0.9: 0.0}


def test_two_halves_of_exactly_iou_one_half_count_once():
    scores = evaluate(boxes((0, 0, 10, 5), (0, 5, 10, 10)), boxes((0, 0, 10, 10)))
    assert scores.ap[0.5] == pytest.approx(1 / 2)
    assert scores.misses == 0


def test_empty_images_have_defined_scores():
    nothing, one = boxes(), boxes((0, 0, 5, 5))
    assert evaluate(nothing, nothing).ap[0.5] == 1.0
    assert evaluate(nothing, nothing).f1 == 1.0
    missed = evaluate(nothing, one)
    assert (missed.ap[0.5], missed.precision, missed.recall, missed.misses) == (0.0, 0.0, 0.0, 1)
    invented = evaluate(one, nothing)
    assert (invented.ap[0.5], invented.precision, invented.recall, invented.misses) == (0.0, 0.0, 0.0, 0)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        evaluate(np.zeros((3, 4), int), np.zeros((4, 3), int))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), jitter=st.integers(0, 5))
def test_average_precision_equals_cellposes(seed, jitter):
    from cellpose.metrics import average_precision  # imports torch: not for every test here

    truth, found = random_scene(seed, jitter=jitter)
    # Cellpose's own figure is wrong where label values have gaps; ours must not mind them.
    truth, found_tight = np.unique(truth, return_inverse=True)[1], np.unique(found, return_inverse=True)[1]
    theirs = average_precision([truth], [found_tight], threshold=list(THRESHOLDS))[0][0]
    assert list(evaluate(found, truth).ap.values()) == pytest.approx(list(theirs), abs=1e-6)


REVIEWED_SCENE = ((2, 2, 12, 12), (2, 20, 12, 30), (20, 2, 30, 12), (20, 40, 30, 50))


def test_with_everything_reviewed_it_is_the_ap_of_the_whole():
    for seed in range(10):
        truth, found = random_scene(seed, jitter=2)
        found[np.isin(found, np.unique(found[truth == 0]))] = 0  # what lies elsewhere is not judged
        everything = np.unique(truth[truth > 0])
        assert reviewed_ap(found, truth, everything) == pytest.approx(evaluate(found, truth).ap[0.5])


def test_what_nobody_looked_at_counts_neither_way():
    labels = boxes(*REVIEWED_SCENE)
    found = boxes(*REVIEWED_SCENE, (33, 20, 39, 30))
    assert reviewed_ap(found, labels, [1, 2]) == 1.0
    assert reviewed_ap(boxes(*REVIEWED_SCENE[:2]), labels, [1, 2]) == 1.0


def test_a_rejected_cell_found_again_is_wrong():
    labels = boxes(*REVIEWED_SCENE)
    assert reviewed_ap(labels, labels, [1, 2], [3]) == pytest.approx(2 / 3)


def test_missed_merged_and_split_cells_lower_it():
    labels = boxes(*REVIEWED_SCENE)
    assert reviewed_ap(np.zeros_like(labels), labels, [1, 2]) == 0.0
    assert reviewed_ap(boxes((2, 2, 12, 30)), labels, [1, 2]) == 0.0  # two missed, one wrong
    assert reviewed_ap(boxes((2, 2, 12, 7), (2, 7, 12, 12), (2, 20, 12, 30)), labels, [1, 2]) == pytest.approx(2 / 3)
    touching = boxes((2, 2, 12, 12), (2, 20, 12, 30), (11, 0, 22, 14))  # a neighbour that covers a tenth of itself
    assert reviewed_ap(touching, labels, [1, 2]) == 1.0


def test_without_reviewed_cells_there_is_no_score():
    labels = boxes(*REVIEWED_SCENE)
    assert np.isnan(reviewed_ap(labels, labels, []))
    assert np.isnan(reviewed_ap(labels, labels, [77], [1]))
    with pytest.raises(ValueError, match="shape"):
        reviewed_ap(labels[:5], labels, [1])


def test_cells_where_nobody_labelled_any_are_counted_apart():
    labels = boxes(*REVIEWED_SCENE)
    assert surplus(labels, labels) == 0
    assert surplus(boxes(*REVIEWED_SCENE, (33, 20, 39, 30), (33, 40, 39, 50)), labels) == 2
    assert surplus(boxes((11, 0, 22, 14)), labels) == 0  # it lies on a labelled cell with part of it
    assert surplus(np.zeros_like(labels), labels) == 0
    assert surplus(labels, np.zeros_like(labels)) == 4
