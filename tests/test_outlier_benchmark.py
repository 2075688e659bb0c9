"""The benchmark of the suspicions at a lower size, on drawn cells; the figures on real images are in `benchmarks`."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import ellipse

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from outliers import FAULTS, Scene, judge, recall_at, spoil


@pytest.fixture
def scenes():
    made = []
    for number in range(3):
        rng = np.random.default_rng(number)
        labels = np.zeros((420, 420), np.int32)
        for label, (y, x) in enumerate(np.ndindex(13, 11), 1):
            centre = (y * 29 + 22 + rng.uniform(-3, 3), x * 29 + 22 + rng.uniform(-3, 3))
            rows, columns = ellipse(*centre, *rng.uniform(11, 15, 2), labels.shape, rotation=rng.uniform(0, 3))
            free = labels[rows, columns] == 0
            labels[rows[free], columns[free]] = label
        bright = rng.uniform(80, 140, labels.max() + 1)
        bright[0] = 10
        image = ndimage.gaussian_filter(bright[labels], 1.2) + rng.normal(0, 3, labels.shape)
        made.append(Scene(str(number), "drawn", image.clip(0, 255).astype(np.uint8), labels))
    return made


def test_faults_put_into_drawn_cells_are_found(scenes):
    rows = spoil(scenes, FAULTS, 0.04, 0)
    found = judge(rows)
    for fault in FAULTS:
        assert found[fault]["cells"] >= 10
        assert found[fault]["auroc_of_its_reason"] > (0.9 if fault == "merged" else 0.95), fault
    assert found["all"]["ap"] > 0.9


def test_recall_is_the_highest_at_that_precision():
    truth = np.array([1, 1, 0, 1, 0], bool)
    assert recall_at(truth, np.array([5, 4, 3, 2, 1.0])) == pytest.approx(2 / 3)
    assert recall_at(truth, np.array([1, 2, 5, 4, 3.0]), 0.9) == 0.0
