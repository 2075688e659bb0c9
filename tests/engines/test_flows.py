import numpy as np
import pytest
from scenes import nuclei

from cell_curator.core.scores import evaluate
from cell_curator.engines.flows import centres, find_cells, flow_errors, shape_flow, tidy, to_image

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks")


@pytest.fixture(scope="module")
def truth():
    return nuclei(seed=3, diameter=17, count=30)[1]


@pytest.fixture(scope="module")
def flow(truth):
    import torch
    from cellpose.dynamics import masks_to_flows

    return masks_to_flows(truth.astype(int), device=torch.device("cpu")).astype(np.float32)


def test_following_the_true_flow_finds_the_true_cells(truth, flow):
    assert evaluate(find_cells(flow, truth > 0), truth).ap[0.9] == 1.0


def test_the_cells_are_those_of_stock_cellpose(truth, flow):
    from cellpose.dynamics import compute_masks

    rng = np.random.default_rng(0)
    rough = flow + rng.normal(0, 0.3, flow.shape).astype(np.float32)
    logit = np.where(truth > 0, 2.0, -2.0).astype(np.float32)
    theirs = compute_masks(5 * rough, logit, niter=200, flow_threshold=0).astype(np.int32)
    assert evaluate(find_cells(rough, logit > 0), theirs).ap[0.9] >= 0.95


def test_flow_errors_are_those_of_stock_cellpose_and_zero_for_the_truth(truth, flow):
    import torch
    from cellpose.metrics import flow_error

    assert flow_errors(truth, flow).max() < 0.01
    turned = flow[::-1].copy()
    theirs = flow_error(truth, 5 * turned, torch.device("cpu"))[0]
    np.testing.assert_allclose(flow_errors(truth, turned)[1:], theirs, atol=0.02)


def test_the_flow_of_shapes_is_that_of_stock_cellpose(truth, flow):
    differs = np.abs(shape_flow(truth) - flow).max(axis=0) > 1e-4
    assert differs.sum() <= 3  # in a middle without slope, rounding decides the direction


def test_flow_errors_do_not_mind_gaps_in_the_labels(truth, flow):
    errors = flow_errors(truth * 3, flow)
    assert errors.shape == (3 * truth.max() + 1,)
    assert errors.max() < 0.01


def test_no_pixels_give_no_cells(flow):
    nothing = find_cells(flow, np.zeros(flow.shape[1:], dtype=bool))
    assert nothing.dtype == np.int32
    assert not nothing.any()
    assert flow_errors(nothing, flow).tolist() == [0]


@pytest.mark.parametrize("factor", [0.5, 2.0, 3.0])
def test_labels_at_another_size_keep_every_cell_and_its_outline(truth, flow, factor):
    shape = tuple(round(side * factor) for side in truth.shape)
    rows = ((np.arange(shape[0]) + 0.5) / factor).astype(int)
    cols = ((np.arange(shape[1]) + 0.5) / factor).astype(int)
    logit = np.where(truth > 0, 3.0, -3.0).astype(np.float32)
    ys, xs = (centres(count, other) for count, other in zip(shape, truth.shape, strict=True))
    found = to_image(truth, flow, logit, 0.0, ys, xs)
    assert found.shape == shape
    assert evaluate(found, truth[np.ix_(rows, cols)]).ap[0.75] == 1.0


def test_tidy_keeps_the_largest_piece_fills_holes_and_drops_small_and_cut_cells():
    labels = np.zeros((40, 40), dtype=np.int32)
    labels[5:15, 5:15] = 4
    labels[8:10, 8:10] = 0  # a hole
    labels[30:32, 5:7] = 4  # a piece elsewhere
    labels[20:22, 20:22] = 7  # small
    labels[0:10, 30:38] = 9  # cut by the border
    tidied, old, largest = tidy(labels, min_size=15)
    assert largest == 100
    assert old.tolist() == [0, 4, 9]
    assert (tidied == 1).sum() == 100
    assert tidied[30:32, 5:7].max() == 0
    dropped, old, _ = tidy(labels, min_size=15, drop_at=(True,) * 4)
    assert old.tolist() == [0, 4]
    assert dropped.max() == 1


def test_filling_a_hole_does_not_swallow_the_cell_inside():
    labels = np.zeros((30, 30), dtype=np.int32)
    labels[5:25, 5:25] = 2
    labels[10:20, 10:20] = 1
    tidied, old, _ = tidy(labels, min_size=1)
    assert sorted(old.tolist()) == [0, 1, 2]
    assert (tidied == 1 + old[1:].tolist().index(1)).sum() == 100
