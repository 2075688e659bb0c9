import numpy as np

from cell_curator.core.regions import HOLDOUT, REVIEWED, Region, area, whole_cells
from cell_curator.core.scores import evaluate, judged, summary


def _scene():
    labels = np.zeros((40, 40), np.int32)
    labels[2:8, 2:8], labels[2:8, 16:26], labels[30:36, 30:36] = 1, 2, 3
    return labels


def test_regions_join_and_no_corners_mean_the_whole_image():
    square = Region(1, 1, REVIEWED, ((0, 0), (0, 19.6), (19.6, 19.6), (19.6, 0)))
    assert area([square], (40, 40)).sum() == 400
    assert area([square, Region(2, 1, HOLDOUT)], (40, 40)).all()
    assert not area([], (40, 40)).any()


def test_cells_cut_by_the_edge_are_neither_cell_nor_background():
    inside = np.zeros((40, 40), bool)
    inside[:20, :20] = True
    labels, known = whole_cells(_scene(), inside)
    assert np.unique(labels).tolist() == [0, 1]
    assert not known[2:8, 16:26].any()
    assert known.sum() == 400 - 6 * 4


def test_only_what_lies_where_the_truth_is_known_is_judged():
    inside = np.zeros((40, 40), bool)
    inside[:20, :20] = True
    labels, known = whole_cells(_scene(), inside)
    perfect = evaluate(judged(_scene(), known), labels)
    assert (perfect.ap[0.9], perfect.n_true, perfect.n_predicted) == (1.0, 1, 1)
    wrong = _scene()
    wrong[12:18, 2:8] = 9  # on known background
    assert evaluate(judged(wrong, known), labels).ap[0.5] == 0.5


def test_a_summary_is_the_mean_of_rates_and_the_sum_of_counts():
    whole = evaluate(_scene(), _scene())
    none = evaluate(np.zeros((40, 40), np.int32), _scene())
    both = summary([whole, none])
    assert (both.ap50, both.misses, both.cells, both.images) == (0.5, 3, 6, 2)
    assert summary([]) is None
