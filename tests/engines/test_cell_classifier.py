"""The network that tells types from pictures of cells, and the pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.type_classifier import TypeParameters
from cell_curator.core.type_patches import SIDE, factor_of, patch_model, pictures
from cell_curator.engines import cell_classifier
from cell_curator.engines.cell_classifier import tell, train

PARAMS = TypeParameters(method="cnn", seed=3)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(cell_classifier, "_STEPS", 30)
    monkeypatch.setattr(cell_classifier, "_FOLDS", 2)


def scene(rng, discs, ring):
    """Twelve cells of like size: rings, or discs that are brightest in the middle."""
    labels = discs((100, 130), [(15 + 33 * row, 15 + 33 * column, 11) for row in range(3) for column in range(4)])
    image = rng.normal(100, 2, labels.shape)
    y, x = np.ogrid[:100, :130]
    for row in range(3):
        for column in range(4):
            away = np.hypot(y - 15 - 33 * row, x - 15 - 33 * column)
            image += np.where(away <= 11, (away if ring else 11 - away) * 10, 0)
    return image, labels


def test_a_picture_is_the_cell_alone_in_the_middle(rng, discs):
    image, labels = scene(rng, discs, ring=True)
    factor = factor_of([23.0])
    made = pictures(image, labels, [5, 1], factor)
    assert made.shape == (2, 2, SIDE, SIDE)
    rows, columns = np.nonzero(made[0, 1] > 0.5)
    assert abs(rows.mean() - (SIDE - 1) / 2) < 1.5
    assert abs(columns.mean() - (SIDE - 1) / 2) < 1.5
    assert rows.max() - rows.min() > 0.9 * SIDE
    assert not made[0, 0][made[0, 1] == 0].any()
    brighter = pictures(3 * image + 500, labels, [5, 1], factor)
    assert np.allclose(made, brighter, atol=1e-4)  # neither exposure nor background matters
    with pytest.raises(ValueError, match="no label 99"):
        pictures(image, labels, [99], factor)
    large = pictures(image, labels, [5], 10.0)
    assert large[0, 1].mean() > 0.9  # what does not fit is cut at the rim


def test_types_that_look_different_are_told_in_images_held_out(rng, discs):
    parts, types, groups = [], [], []
    for number in range(4):
        image, labels = scene(rng, discs, ring=bool(number % 2))
        parts.append(pictures(image, labels, range(1, 13), factor_of([23.0])))
        types += ["ring" if number % 2 else "spot"] * 12
        groups += [number] * 12
    shown = np.concatenate(parts)
    model, scores = drive(train(shown, types, groups, 2.0, PARAMS))
    assert scores.by_image
    assert scores.accuracy > 0.9
    assert model.types == ("ring", "spot")
    told = drive(tell(model, shown))
    assert np.allclose(told.sum(axis=1), 1)
    assert (told.argmax(axis=1) == [model.types.index(name) for name in types]).mean() > 0.9
    again = patch_model(json.loads(json.dumps(model.to_json())))
    assert again.digest == model.digest
    assert np.allclose(drive(tell(again, shown[:3])), told[:3], atol=1e-5)
    assert drive(tell(model, shown[:0])).shape == (0, 2)
    broken = model.to_json()
    del broken["weights"]["0.weight"]
    with pytest.raises(UserError, match="another architecture"):
        drive(tell(patch_model(broken), shown))


def test_one_type_or_one_example_is_one_line():
    shown = np.zeros((6, 2, SIDE, SIDE), np.float32)
    with pytest.raises(UserError, match="all cells are of one type"):
        drive(train(shown, ["a"] * 6, [0] * 6, 1.0, PARAMS))
    with pytest.raises(UserError, match="only one cell of type 'b'"):
        drive(train(shown, ["a"] * 5 + ["b"], [0] * 6, 1.0, PARAMS))


@pytest.mark.parametrize("change", [{"types": ["a"]}, {"factor": 0}, {"weights": {"x": {"shape": [9], "float32": ""}}}])
def test_a_damaged_model_is_refused(change):
    said = {"format": "", "types": ["a", "b"], "factor": 1.0, "temperature": 1.0, "weights": {}, "about": {}}
    with pytest.raises(ValueError, match=r"fit together|reshape"):
        patch_model({**said, **change})
