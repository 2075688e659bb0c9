import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cell_curator.core.orientation import common_angle, estimate_angle, turn_labels, turn_labels_back, wrap
from cell_curator.samples.scenes import nuclei_on_grooves


def grooves(rng, angle_deg, noise, side=400, period=17.0):
    """Grooves that a counter-clockwise turn by ``angle_deg`` makes vertical."""
    y, x = np.mgrid[:side, :side]
    turn = np.deg2rad(angle_deg)
    stripes = np.sin(2 * np.pi * (x * np.cos(turn) + y * np.sin(turn)) / period)
    return (stripes + rng.normal(0, noise, stripes.shape)).astype(np.float32)


def check(errors):
    assert np.median(errors) <= 0.2
    assert np.percentile(errors, 95) <= 1.0
    assert max(errors) < 45  # no flips


@pytest.mark.parametrize("method", ["tensor", "hough"])
@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.slow)])
def test_the_angle_of_noisy_grooves_is_found(rng, method, count):
    angles = rng.uniform(-90, 90, count)
    periods = rng.uniform(8, 30, count)
    check(
        [
            abs(wrap(estimate_angle(grooves(rng, angle, 0.8, period=period), method) - angle))
            for angle, period in zip(angles, periods, strict=True)
        ]
    )


@pytest.mark.timeout(1500)  # 200 scenes take a minute or two to draw, and ten where cores are shared
@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_cells_on_the_grooves_do_not_lead_astray(rng, count):
    errors = {"tensor": [], "hough": []}
    for seed, angle in enumerate(rng.uniform(-90, 90, count)):
        image = nuclei_on_grooves(seed, elongated=seed % 2 == 0, angle_deg=angle).image[0].astype(np.float32)
        for method, made in errors.items():
            made.append(abs(wrap(estimate_angle(image, method) - angle)))
    for made in errors.values():
        check(made)


@pytest.mark.parametrize("method", ["tensor", "hough"])
def test_a_large_image_is_looked_at_in_half_size(rng, method):
    assert abs(estimate_angle(grooves(rng, 31.0, 0.5, side=1400), method) - 31.0) < 0.2


@pytest.mark.parametrize("method", ["tensor", "hough"])
@pytest.mark.parametrize(
    "image",
    [np.zeros((100, 100), np.float32), np.ones((3, 500), np.float32), np.full((64, 64), 3e38, np.float32)],
    ids=["black", "three rows", "huge"],
)
def test_without_content_there_is_no_angle(image, method):
    assert estimate_angle(image, method) is None


@pytest.mark.parametrize(
    ("angles", "common"),
    [
        ([], None),
        ([12.5], 12.5),
        ([10.0, 11.0, 12.0], 11.0),
        ([10.0, 11.0, 12.0, -70.0], 10.5),  # an outlier counts as one vote, not as 80 degrees
        ([89.0, -88.0, -89.0], -89.0),
        ([88.0, -88.0], 90.0),
        ([-89.9, 89.9, -89.7, 40.0], -89.9),
    ],
)
def test_the_common_angle_is_a_median_on_a_circle(angles, common):
    found = common_angle(iter(angles))
    assert found is common if common is None else abs(wrap(found - common)) < 0.11


@given(
    st.lists(st.floats(-1.0, 1.0), min_size=5, max_size=30),
    st.lists(st.floats(-90, 90), max_size=2),
    st.floats(-90, 90),
)
def test_outliers_do_not_move_the_common_angle(near, outliers, about):
    found = common_angle([*(wrap(about + angle) for angle in near), *outliers])
    assert abs(wrap(found - about)) <= 1.0 + 1e-9
    assert -90 < found <= 90


def cell_at(y, x, rng):
    """A function of a grid: an ellipse of 200 to 2000 px with a wavy, often concave outline."""
    size, long, turn = rng.uniform(8, 25), rng.uniform(1, 1.6), rng.uniform(0, np.pi)
    depth, waves, phase = rng.choice([0.0, 0.15, 0.35]), rng.integers(2, 5), rng.uniform(0, 6)

    def drawn(rows, columns):
        u = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
        v = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
        around = np.arctan2(v * long, u / long)
        return np.hypot(u / long, v * long) < size * (1 + depth * np.cos(waves * around + phase))

    return drawn


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(-180, 180))
def test_masks_drawn_on_the_turned_image_survive_the_way_there_and_back(seed, angle):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(160, 190, 2)
    v, u = np.arange(rows)[:, None] - (rows - 1) / 2, np.arange(columns) - (columns - 1) / 2
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    drawn = cell_at(*rng.uniform(-15, 15, 2), rng)
    on_turned, on_raw = drawn(s * u + c * v, c * u - s * v), drawn(v, u)
    raw = turn_labels_back(on_turned.astype(np.int32), angle) > 0
    assert overlap(turn_labels(raw.astype(np.int32), angle) > 0, on_turned) >= 0.99
    assert raw.sum() == on_turned.sum()
    # The truth to a pixel: nothing is wrong but within 1.5 px of the outline, and no crumbs come off.
    depth = ndimage.distance_transform_edt(on_raw) + ndimage.distance_transform_edt(~on_raw)
    assert (depth[raw != on_raw] <= 1.5).all()
    assert ndimage.label(raw, np.ones((3, 3)))[1] == ndimage.label(on_turned, np.ones((3, 3)))[1]


@given(
    st.integers(1, 40), st.integers(1, 40), st.one_of(st.floats(-400, 400), st.integers(-8, 8).map(lambda k: 45.0 * k))
)
def test_no_two_pixels_meet_when_labels_are_turned(rows, columns, angle):
    labels = np.arange(1, rows * columns + 1, dtype=np.int32).reshape(rows, columns)
    turned = turn_labels(labels, angle)
    found = np.unique(turned[turned > 0], return_counts=True)[1]
    assert (found == 1).all()
    back = turn_labels_back(turned, angle)
    assert ((back == labels) | (back == 0)).all()
    assert (back > 0).sum() == (turned > 0).sum()


@pytest.mark.parametrize("quarters", [-4, -3, -2, -1, 0, 1, 2, 3, 4])
def test_quarter_turns_of_a_square_are_exact(rng, quarters):
    labels = rng.integers(0, 99, (31, 31)).astype(np.int32)
    assert np.array_equal(turn_labels(labels, 90.0 * quarters), np.rot90(labels, quarters))
