"""Scores of cells that were found and told apart: pairs, confusion, COCO's mean AP."""

from __future__ import annotations

import numpy as np
import pytest

from cell_curator.core.coco_scores import Said, Truth, coco_scores
from cell_curator.core.found_types import finder_scores, pairs

TYPES = ("a", "b")


@pytest.fixture
def truth(discs):
    labels = discs((60, 80), [(15, 15, 8), (15, 45, 8), (45, 15, 8), (45, 60, 8)])
    return Truth(labels, {1: "a", 2: "a", 3: "b", 4: "b"})


def likely(*numbers, sure=0.9):
    return np.array([[sure, 0.0] if number == 0 else [0.0, sure] for number in numbers]).reshape(-1, 2)


def test_all_right_is_one(truth):
    pytest.importorskip("pycocotools")
    scores = coco_scores([truth], [Said(truth.labels, likely(0, 0, 1, 1))], TYPES)
    assert (scores.map50, scores.map) == (1.0, 1.0)
    nothing = coco_scores([truth], [Said(np.zeros_like(truth.labels), likely())], TYPES)
    assert (nothing.map50, nothing.map) == (0.0, 0.0)


def test_mean_ap_is_the_area_under_precision_and_recall(truth):
    """By hand: of type a one is found, surest, then a wrong one: precision 1 up to recall 1/2 (51 of 101 points)."""
    pytest.importorskip("pycocotools")
    said = Said(np.where(truth.labels == 2, 0, truth.labels), likely(0, 0, 0, 1))
    said.likely[2] = [0.5, 0.0]  # the cell of type b is said to be of a
    scores = coco_scores([truth], [said], TYPES)
    assert scores.per_type.loc["a", "ap50"] == pytest.approx(51 / 101)
    assert scores.per_type.loc["b", "ap50"] == pytest.approx(51 / 101)


def test_more_than_a_hundred_cells_count(discs):
    pytest.importorskip("pycocotools")
    labels = discs((240, 240), [(10 + 16 * row, 10 + 16 * column, 6) for row in range(14) for column in range(14)])
    truth = Truth(labels, dict.fromkeys(range(1, 197), "a"))
    assert coco_scores([truth], [Said(labels, np.full((196, 1), 0.9))], ["a"]).map50 == 1.0


def test_cells_of_unknown_type_count_neither_way(truth):
    pytest.importorskip("pycocotools")
    known = Truth(truth.labels, {1: "a", 3: "b"})
    scores = coco_scores([known], [Said(truth.labels, likely(0, 1, 1, 0))], TYPES)
    assert scores.map50 == pytest.approx(1.0)
    assert finder_scores([known], [Said(truth.labels, likely(0, 1, 1, 0))], TYPES).accuracy == 1.0


def test_a_type_without_true_cells_is_in_no_mean(truth):
    pytest.importorskip("pycocotools")
    scores = coco_scores([truth], [Said(truth.labels, np.c_[likely(0, 0, 1, 1), np.zeros(4)])], (*TYPES, "c"))
    assert scores.map50 == pytest.approx(1.0)
    assert np.isnan(scores.per_type.loc["c", "ap50"])


def test_confusion_says_what_was_not_found_and_what_is_no_cell(truth):
    labels = np.where(truth.labels == 2, 0, truth.labels)
    labels[30:34, 70:78] = 5
    said = Said(labels, likely(0, 0, 0, 1, 1))
    scores = finder_scores([truth], [said], TYPES)
    assert scores.confusion.to_numpy().tolist() == [[1, 0, 1], [1, 1, 0]]
    assert (scores.accuracy, scores.balanced, scores.extra) == (0.5, 0.5, 1)
    assert scores.per_type.loc["a", "precision"] == 0.5
    unsure = finder_scores([truth], [Said(labels, likely(0, 0, 0, 1, 1, sure=0.3))], TYPES)
    assert unsure.confusion["not found"].tolist() == [2, 2]
    assert unsure.map50 == scores.map50  # a score is a rank there
    assert scores.plain()["confusion"]["a"]["not found"] == 1


def test_pairs_are_one_to_one():
    truth = np.zeros((10, 20), int)
    truth[:, :10], truth[:, 10:] = 1, 2
    found = np.zeros((10, 20), int)
    found[:, :15], found[:, 15:] = 7, 8
    assert pairs(found, truth) == {1: 7, 2: 8}
    assert pairs(np.zeros_like(found), truth) == {}
    assert pairs(truth, truth, 0.9) == {1: 1, 2: 2}
