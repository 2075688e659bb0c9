"""Pieces that a network learns from are varied; what it is judged by is not."""

from __future__ import annotations

import numpy as np
import pytest

from cell_curator.engines.augment import UNCHANGED, AugmentParameters
from cell_curator.engines.finetune import PRESETS, presets
from cell_curator.engines.training_data import Source, foreground_only
from cell_curator.engines.training_tiles import Cut, Tiles, batches

ALL = AugmentParameters(**{name: 1.0 for name in AugmentParameters.model_fields if getattr(UNCHANGED, name) == 0.0})


def source(*, flows: bool, planes: int = 1) -> Source:
    labels = np.zeros((128, 128), np.int32)
    labels[20:60, 30:70], labels[80:110, 60:120] = 1, 2
    target = foreground_only(labels)
    if flows:
        target[1:] = 0.5 * (labels > 0)
    image = np.zeros((planes, 128, 128), np.float32)
    image[0] = np.where(labels, 2.5, -0.3) + np.random.default_rng(0).normal(0, 0.05, labels.shape)
    return Source("a", image, target, None, 1.0, 40.0, 2, False)


def tiles(made: Source, vary: AugmentParameters, seed: int = 3) -> Tiles:
    (only,) = batches([made], Cut(96, len(made.planes), 0.0, 4, 4, vary), seed)
    return only


@pytest.mark.parametrize("flows", [True, False])
def test_light_changes_the_picture_and_bends_only_what_has_no_flows(flows: bool) -> None:
    made = source(flows=flows)
    plain, varied = tiles(made, UNCHANGED), tiles(made, ALL)
    assert not np.array_equal(plain.planes, varied.planes)
    assert np.isfinite(varied.planes).all()
    assert np.array_equal(plain.target, varied.target) == flows
    assert varied.target.shape == plain.target.shape
    assert varied.counts.dtype == bool
    assert set(np.unique(varied.target[:, 0])) <= {0.0, 1.0} or flows


def test_cells_stay_where_the_target_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(4):
        varied = tiles(source(flows=False), UNCHANGED.model_copy(update={"elastic": 1.0}), seed)
        unlike = ((varied.planes[:, 0] > 1.0) != (varied.target[:, 0] > 0.5)) & varied.counts
        assert unlike.mean() < 0.03


def test_an_empty_second_plane_stays_empty_and_equal_seeds_give_equal_pieces() -> None:
    made = source(flows=False, planes=2)
    first, again = (tiles(made, ALL) for _ in range(2))
    np.testing.assert_array_equal(first.planes, again.planes)
    assert not first.planes[:, 1].any()


def test_unets_are_shown_varied_pieces_and_cellpose_its_own() -> None:
    assert all(preset.vary == UNCHANGED for preset in PRESETS.values())
    assert presets("unet")["quick"].vary == AugmentParameters()
    assert presets("unetpp")["cellpose"] == PRESETS["cellpose"]
    assert presets("cellpose-unet") == PRESETS
