import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops
from skimage.transform import rotate

from cell_curator import samples
from cell_curator.core.jobs import UserError
from cell_curator.io.images import find_images, read_image_with_info, read_info
from cell_curator.io.labels import read_labels
from cell_curator.samples.scenes import nuclei_on_grooves, phase_like, two_channel_cells

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"


@pytest.fixture(scope="module")
def control():
    return nuclei_on_grooves(0, elongated=True, angle_deg=12.0)


@pytest.fixture(scope="module")
def mutant():
    return nuclei_on_grooves(0, elongated=False, angle_deg=-8.0)


@pytest.fixture(scope="module")
def cells():
    return two_channel_cells(0)


@pytest.fixture(scope="module")
def phase():
    return phase_like(0)


def whole(scene):
    """Ordinary cells that the image border does not cut."""
    edge = np.concatenate([scene.labels[0], scene.labels[-1], scene.labels[:, 0], scene.labels[:, -1]])
    return [
        cell for cell in regionprops(scene.labels) if scene.kinds[cell.label - 1] == "cell" and cell.label not in edge
    ]


def test_the_same_seed_gives_the_same_scene_and_another_seed_another(control):
    again = nuclei_on_grooves(0, elongated=True, angle_deg=12.0)
    np.testing.assert_array_equal(again.image, control.image)
    np.testing.assert_array_equal(again.labels, control.labels)
    assert (nuclei_on_grooves(1, angle_deg=12.0).labels != control.labels).any()


@pytest.mark.parametrize("name", ["control", "mutant", "cells", "phase"])
def test_labels_are_numbered_without_gaps_and_each_is_one_piece(name, request):
    scene = request.getfixturevalue(name)
    assert scene.labels.dtype == np.int32
    assert np.unique(scene.labels).tolist() == list(range(len(scene.kinds) + 1))
    for number, window in enumerate(ndimage.find_objects(scene.labels), 1):
        assert ndimage.label(scene.labels[window] == number, np.ones((3, 3)))[1] == 1, number


@pytest.mark.parametrize("name", ["control", "mutant"])
def test_a_groove_scene_holds_what_makes_real_ones_hard(name, request):
    scene = request.getfixturevalue(name)
    labels = scene.labels
    assert len(scene.kinds) >= 55
    assert {"cell", "blurred", "apoptotic"} == set(scene.kinds)
    side_by_side = (labels[:, :-1] != labels[:, 1:]) & (labels[:, :-1] > 0) & (labels[:, 1:] > 0)
    assert len(np.unique(labels[:, :-1][side_by_side])) >= 5  # touching
    assert np.count_nonzero(np.unique(labels[[0, -1]])) + np.count_nonzero(np.unique(labels[:, [0, -1]])) >= 4
    assert scene.image.dtype == np.uint16
    assert scene.image.max() < 4095  # not saturated


@pytest.mark.parametrize("name", ["control", "mutant"])
def test_the_given_angle_makes_the_grooves_vertical(name, request):
    scene = request.getfixturevalue(name)
    ground = np.where(ndimage.binary_dilation(scene.labels > 0, iterations=6), np.nan, scene.image[0])
    flat = ground - ndimage.gaussian_filter(np.nan_to_num(ground, nan=np.nanmedian(ground)), 25)
    flat = np.clip(np.nan_to_num(flat), -15, 15)

    def contrast(angle):
        """Spread of the column means, largest where stripes stand upright."""
        return rotate(flat, angle, preserve_range=True)[90:-90, 90:-90].mean(0).std()

    angles = scene.angle_deg + np.arange(-10, 11)
    assert abs(angles[np.argmax([contrast(angle) for angle in angles])] - scene.angle_deg) <= 1


def test_the_conditions_differ_in_shape_as_promised(control, mutant):
    long, round_ = whole(control), whole(mutant)
    aspect = [np.median([c.axis_major_length / c.axis_minor_length for c in group]) for group in (long, round_)]
    assert aspect[0] > 2.2 > 1.7 > aspect[1]
    spread = [np.std([c.area for c in group]) / np.mean([c.area for c in group]) for group in (long, round_)]
    assert spread[1] > 1.5 * spread[0]


def test_control_nuclei_lie_along_the_grooves(control):
    upright = whole(control)
    # skimage measures the long axis from the rows' axis, counter-clockwise; grooves lean the other way.
    tilt = [np.rad2deg(cell.orientation) + control.angle_deg for cell in upright]
    assert abs(np.median(tilt)) < 3
    assert np.std(tilt) < 10


def test_the_rim_of_a_nucleus_is_brighter_than_its_centre(control):
    image = control.image[0].astype(float)
    ratios = []
    for cell in whole(control):
        depth = ndimage.distance_transform_edt(np.pad(cell.image, 1))[1:-1, 1:-1]
        light = image[cell.slice] - 100
        ratios.append(light[(depth > 1) & (depth <= 3)].mean() / light[depth > 5].mean())
    assert np.median(ratios) > 1.1


def test_cells_out_of_focus_have_softer_edges(control):
    slope = ndimage.gaussian_gradient_magnitude(control.image[0].astype(float), 1)
    rim = control.labels * (ndimage.distance_transform_edt(control.labels > 0) <= 2)
    steep = {kind: [] for kind in ("cell", "blurred")}
    for number, kind in enumerate(control.kinds, 1):
        if kind in steep and (rim == number).any():
            steep[kind].append(slope[rim == number].mean())
    assert np.median(steep["blurred"]) < 0.5 * np.median(steep["cell"])


def test_each_nucleus_lies_in_its_own_cell(cells):
    inside = cells.nuclei > 0
    assert cells.image.shape == (2, 512, 512)
    np.testing.assert_array_equal(cells.nuclei[inside], cells.labels[inside])
    assert set(np.unique(cells.nuclei)) == set(range(len(cells.kinds) + 1))
    for channel, mask in zip(cells.image, (cells.labels > 0, inside), strict=True):
        assert channel[mask].mean() > 1.5 * channel[cells.labels == 0].mean()


def test_phase_bodies_are_dark_in_a_bright_halo(phase):
    body = phase.labels > 0
    outside = ndimage.distance_transform_edt(~body)
    image = phase.image[0].astype(float)
    halo, ground = image[(outside >= 1) & (outside <= 3)].mean(), image[outside > 20].mean()
    assert phase.image.dtype == np.uint8
    assert image[body].mean() < ground - 5
    assert halo > ground + 10


# ---------------------------------------------------------------- the folder


def test_what_is_in_the_repository_is_what_the_code_draws(tmp_path):
    samples.write_sample(tmp_path)
    drawn = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    kept = {p.relative_to(SAMPLE_DATA) for p in SAMPLE_DATA.rglob("*") if p.is_file()}
    assert set(drawn) == {path for path in kept if len(path.parts) > 1}  # README and recipe lie at the top
    for path in drawn:
        if path.suffix == ".json":
            assert json.loads((tmp_path / path).read_text()) == json.loads((SAMPLE_DATA / path).read_text())
            continue
        new, info = read_image_with_info(tmp_path / path)
        old, old_info = read_image_with_info(SAMPLE_DATA / path)
        assert info.channel_names == old_info.channel_names
        # Another processor may round one pixel in ten thousand the other way.
        difference = np.abs(new.astype(int) - old)
        assert difference.max() <= 1, path
        assert np.count_nonzero(difference) <= new.size * 1e-4, path


def test_the_repository_stays_small():
    assert sum(p.stat().st_size for p in SAMPLE_DATA.rglob("*") if p.is_file()) <= 4_000_000


def test_a_run_over_the_grooves_sees_two_conditions_and_no_truth():
    found = find_images(SAMPLE_DATA / "grooves")
    assert [condition for _, condition in found] == ["control"] * 3 + ["mutant"] * 3
    assert {condition for _, condition in find_images(SAMPLE_DATA)} == set(samples.SETS)
    info = read_info(found[0][0])
    assert (info.shape, info.channel_names, info.pixel_size_um) == ((1, 512, 512), ("lamin",), 0.4)


def test_the_truth_names_every_image_and_its_odd_cells(tmp_path):
    (folder,) = samples.write_sample(tmp_path, ["cells"])
    truth = json.loads((tmp_path / "cells_truth" / "truth.json").read_text())
    labels = read_labels(tmp_path / "cells_truth" / "cells-01.tif")
    assert folder == tmp_path / "cells"
    assert truth["cells-01.tif"]["cells"] == labels.max()
    grooves = json.loads((SAMPLE_DATA / "grooves_truth" / "truth.json").read_text())
    assert grooves["mutant/mutant-02.tif"]["angle_deg"] == -7.0
    assert set(grooves["control/control-01.tif"]["not_ordinary"].values()) == {"blurred", "apoptotic"}


def test_a_place_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        samples.write_sample(tmp_path / "file", ["phase"])


def test_an_unknown_set_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="choose from grooves, cells, phase"):
        next(samples.scenes_of("stars"))


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize(
    ("make", "kinds"),
    [
        (samples.sample_grooves, ["image", "labels", "image", "labels"]),
        (samples.sample_cells, ["image", "image", "labels"]),
        (samples.sample_phase, ["image", "labels"]),
    ],
)
def test_samples_are_layers_with_their_truth_hidden(make, kinds):
    from napari.layers import Layer

    layers = [Layer.create(*layer) for layer in make()]
    assert [type(layer).__name__.lower() for layer in layers] == kinds
    assert layers[0].visible
    assert not any(layer.visible for layer in layers if "truth" in layer.name)
    assert len({layer.name for layer in layers}) == len(layers)


def test_samples_do_not_load_the_viewer():
    code = (
        "import sys; from cell_curator import samples; samples.sample_phase(); "
        "print([m for m in ('napari', 'qtpy', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
