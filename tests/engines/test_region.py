import shutil

import numpy as np
import pytest
from cellpose.models import CellposeModel
from scenes import nuclei

from cell_curator.core.jobs import UserError, drive
from cell_curator.engines import masks
from cell_curator.engines.cards import find_model
from cell_curator.engines.network import resize
from cell_curator.engines.region import inside_only, place
from cell_curator.engines.segmenter import SegmentParameters, rethreshold, segment_image, source_image

FIXED = SegmentParameters(diameter=18, polarity="bright")


@pytest.fixture(scope="module")
def scene():
    return nuclei(seed=1)


@pytest.fixture(scope="module")
def whole(scene):
    return drive(segment_image(scene[0], FIXED))


@pytest.mark.parametrize("region", [(30, 40, 120, 150), [(20, 20), (20, 160), (140, 90)]])
def test_only_cells_wholly_inside_are_found_and_they_are_those_of_the_whole_image(scene, whole, region):
    found = drive(segment_image(scene[0], FIXED, region))
    where = place(region, scene[0].shape)
    mask = np.zeros(scene[0].shape, bool)
    mask[where.window] = where.inside()
    assert found.labels.shape == scene[0].shape
    assert found.count > 0
    assert not found.labels[~mask].any()
    assert found.flow_error.shape == (found.count + 1,)
    inner = set(np.unique(whole.labels)) - set(np.unique(whole.labels[~mask])) - {0}
    assert abs(found.count - len(inner)) <= 1
    again = rethreshold(found, FIXED)
    assert np.array_equal(again.labels, found.labels)


def test_a_region_that_holds_no_whole_cell_says_so(scene, whole):
    y, x = np.argwhere(whole.labels > 0)[0]
    found = drive(segment_image(scene[0], FIXED, (y, x, y + 3, x + 3)))
    assert found.count == 0
    assert "wholly in the region" in found.notes[0]


@pytest.mark.parametrize("region", [(1, 2), "box", [(1, 1), (2, 2)], (0, 0, np.nan, 4)])
def test_what_is_no_region_is_refused(region):
    with pytest.raises(UserError, match="a region is a box"):
        place(region, (50, 50))


def test_a_region_beside_the_image_is_refused():
    with pytest.raises(UserError, match="outside the image"):
        place((60, 60, 80, 80), (50, 50))


def test_labels_outside_are_named():
    labels = np.zeros((40, 40), np.int32)
    labels[2:5, 2:5], labels[10:20, 8:12], labels[12:15, 20:24] = 1, 2, 3
    where = place((8, 10, 30, 30), labels.shape)
    assert where.outside(labels) == (1, 2)
    kept, old = inside_only(labels[where.window], where)
    assert old.tolist() == [0, 3]
    assert np.array_equal(kept > 0, labels == 3)


def test_blocks_give_the_cells_of_the_whole(whole, monkeypatch):
    monkeypatch.setattr(masks, "BLOCK", 60)
    parts = masks.outline(whole, FIXED)
    assert parts.count == whole.count
    assert (parts.labels > 0).sum() == pytest.approx((whole.labels > 0).sum(), rel=0.01)
    pairs = np.unique(np.stack([parts.labels.ravel(), whole.labels.ravel()]), axis=1)
    matched = [pairs[0][pairs[1] == label] for label in range(1, whole.count + 1)]
    errors = [(whole.flow_error[i + 1], parts.flow_error[m.max()]) for i, m in enumerate(matched)]
    np.testing.assert_allclose(*np.array(errors).T, atol=0.05)
    border = masks.outline(whole, FIXED.model_copy(update={"drop_border": True}))
    edge = [border.labels[0], border.labels[-1], border.labels[:, 0], border.labels[:, -1]]
    assert not np.concatenate(edge).any()


def test_the_source_is_the_prepared_image_or_a_channel_with_the_nuclei_beside_it():
    pixels = np.arange(3 * 4 * 5, dtype=np.uint16).reshape(3, 4, 5)
    prepared = np.full((4, 5), 0.5, np.float32)

    def source(**settings):
        return source_image(lambda: prepared, lambda: pixels, SegmentParameters(**settings))

    assert source() is prepared
    assert np.array_equal(source(source="raw", channel=1), pixels[1])
    both = source(second_channel=2)
    assert both.shape == (2, 4, 5)
    assert np.array_equal(both[1], pixels[2])
    with pytest.raises(UserError, match="has 3 channels, counted from 0; there is no channel 7"):
        source(source="raw", channel=7)


@pytest.fixture
def without_card(tmp_path):
    """The starter's weights as a file of which nobody says that it learned on one channel."""
    return shutil.copyfile(find_model("starter-nuclei"), tmp_path / "starter.pth")


@pytest.mark.slow
def test_a_second_channel_reaches_the_network_and_changes_its_answer(scene, without_card):
    params = FIXED.model_copy(update={"second_channel": 1, "model": str(without_card)})
    alone = drive(segment_image(scene[0], params))
    empty = drive(segment_image(np.stack([scene[0], np.zeros_like(scene[0])]), params))
    both = drive(segment_image(np.stack([scene[0], scene[0][::-1]]), params))
    assert np.array_equal(alone.cell_probability, empty.cell_probability)
    assert not np.array_equal(alone.cell_probability, both.cell_probability)


def test_two_channels_are_shown_to_the_network_as_stock_cellpose_shows_them(scene, without_card):
    image = np.stack([scene[0], scene[0][::-1]])
    stock = CellposeModel(pretrained_model=str(without_card), mkldnn=False)
    theirs = stock.eval(image, channels=[1, 2], channel_axis=0, diameter=18.0, compute_masks=False)[1][2]
    params = FIXED.model_copy(update={"second_channel": 1, "model": str(without_card)})
    ours = drive(segment_image(image, params)).cell_probability
    ours = resize(ours.astype(np.float32), scene[0].shape)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98


def test_fewer_threads_and_other_pieces_change_hardly_anything(scene, whole):
    import torch

    before = torch.get_num_threads()
    found = drive(segment_image(scene[0], FIXED.model_copy(update={"threads": 1, "tile": 128})))
    assert torch.get_num_threads() == before
    assert abs(found.count - whole.count) <= 2
