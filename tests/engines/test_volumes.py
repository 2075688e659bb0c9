import numpy as np
import pytest
import tifffile
from cellpose.utils import stitch3D
from scenes import nuclei
from scipy import ndimage

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.scores import evaluate
from cell_curator.core.stitching import stitch
from cell_curator.engines.flows_3d import find_cells_3d
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.volumes import StackParameters, segment_stack

FIXED = SegmentParameters(diameter=18, polarity="bright")


@pytest.fixture(scope="module")
def real(data_folder):
    folder = data_folder / "stardist_sample"
    if not folder.is_dir():
        pytest.skip("the 3-D sample is not here")
    return tifffile.imread(folder / "img3d.tif"), tifffile.imread(folder / "mask3d.tif").astype(np.int32)


def per_plane(mask):
    """Each plane's connected cells with numbers of its own."""
    return np.stack([np.unique(plane, return_inverse=True)[1].reshape(plane.shape) for plane in mask]).astype(np.int32)


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.6])
def test_stitching_is_that_of_cellpose(real, threshold):
    planes = per_plane(real[1])
    theirs = np.array(stitch3D(planes.copy(), threshold))
    ours = stitch(planes, threshold)
    pairs = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0])) == len(np.unique(pairs[1]))


def test_stitching_the_planes_of_true_cells_gives_them_back(real):
    truth = real[1]
    ours = stitch(per_plane(truth), 0.2)
    assert ours.shape == truth.shape
    assert len(np.unique(ours)) - 1 <= 1.35 * len(np.unique(truth))
    flat = lambda a: a.reshape(len(a), -1)  # noqa: E731
    assert evaluate(flat(ours), flat(truth)).ap[0.5] > 0.6


def test_empty_planes_end_a_cell_and_leave_the_argument_alone():
    planes = np.zeros((4, 10, 10), np.int32)
    planes[0, 2:6, 2:6] = 1
    planes[1, 2:6, 3:7] = 1
    planes[3, 2:6, 2:6] = 1
    before = planes.copy()
    joined = stitch(planes, 0.25)
    assert [int(plane.max()) for plane in joined] == [1, 1, 0, 2]
    assert np.array_equal(planes, before)
    assert stitch(planes, 0.9)[1].max() == 2


def test_a_time_lapse_keeps_its_cells_while_they_move_slowly():
    image, truth = nuclei(seed=5, shape=(110, 120), count=8, noise=0.02)
    frames = np.stack([np.roll(image, 2 * t, axis=1) for t in range(3)])
    found = drive(segment_stack(frames, FIXED, StackParameters()))
    assert found.labels.shape == frames.shape
    inner = [label for label in np.unique(found.labels) if label and (found.labels == label).any(axis=(1, 2)).all()]
    assert len(inner) >= 0.7 * truth.max()


def test_planes_on_their_own_are_numbered_on_their_own():
    image, _ = nuclei(seed=5, shape=(80, 80), count=5)
    found = drive(segment_stack(np.stack([image, image]), FIXED, StackParameters(method="planes")))
    assert np.array_equal(found.labels[0], found.labels[1])
    assert found.labels.max() == len(np.unique(found.labels[0])) - 1


def test_following_the_true_flow_in_3d_finds_the_true_balls():
    zz, yy, xx = np.mgrid[:30, :40, :50]
    truth, flow = np.zeros(zz.shape, np.int32), np.zeros((3, *zz.shape), np.float32)
    for value, (z, y, x) in enumerate([(10, 12, 12), (15, 25, 30), (20, 12, 36)], start=1):
        away = np.stack([zz - z, yy - y, xx - x]).astype(np.float32)
        inside = np.linalg.norm(away, axis=0) < 7
        truth[inside] = value
        flow[:, inside] = (-away / np.maximum(np.linalg.norm(away, axis=0), 1))[:, inside]
    found = find_cells_3d(flow, truth > 0)
    assert found.max() == 3
    for value in (1, 2, 3):
        assert len(np.unique(found[truth == value])) == 1
    assert not find_cells_3d(flow, np.zeros(truth.shape, bool)).any()


@pytest.mark.slow
def test_balls_are_found_in_3d_and_their_number_does_not_depend_on_the_sampling():
    rng = np.random.default_rng(0)
    image = np.zeros((24, 60, 60), np.float32)
    for z, y, x in [(12, 16, 16), (12, 40, 20), (11, 28, 44)]:
        image[z, y, x] = 1
    image = (ndimage.distance_transform_edt(image == 0) < 8).astype(np.float32)
    image = ndimage.gaussian_filter(image, 1) + rng.normal(0, 0.03, image.shape).astype(np.float32)
    params = SegmentParameters(diameter=17, polarity="bright")
    cubic = drive(segment_stack(image, params, StackParameters(method="3-D")))
    thin = drive(segment_stack(image[::2], params, StackParameters(method="3-D", anisotropy=2)))
    assert cubic.count == thin.count == 3
    assert cubic.labels.shape == image.shape
    assert thin.labels.shape == image[::2].shape


def test_constant_stacks_and_wrong_shapes():
    nothing = drive(segment_stack(np.ones((3, 20, 20)), FIXED, StackParameters()))
    assert nothing.count == 0
    assert "all voxels are equal" in nothing.notes[0]
    with pytest.raises(UserError, match="is no stack"):
        drive(segment_stack(np.ones((20, 20)), FIXED, StackParameters()))
