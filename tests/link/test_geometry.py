import numpy as np
import pytest
from skimage.transform import rotate

from cell_curator.link.geometry import bounds, place_map, to_data, to_world, turn_affine


@pytest.mark.parametrize("angle", [0, 12, -30, 90])
def test_a_turned_layer_stands_where_the_turned_image_has_it(angle):
    image = np.zeros((61, 81))
    image[20, 50] = 1.0
    turned = rotate(image, angle, order=1)
    expected = np.unravel_index(turned.argmax(), turned.shape)
    shown = to_world(turn_affine(image.shape, angle), np.array([[20.0, 50.0]]))[0]
    assert np.abs(shown - expected).max() < 1


def test_world_and_data_coordinates_are_inverse(rng):
    affine = turn_affine((50, 70), 17.5)
    points = rng.uniform(0, 50, (5, 2))
    np.testing.assert_allclose(to_data(affine, to_world(affine, points)), points, atol=1e-9)


def test_the_box_of_an_image_that_is_not_turned_is_the_image():
    assert bounds((50, 70), turn_affine((50, 70), 0)) == (0, 0, 50, 70)


def test_the_map_stands_right_of_the_image_as_high_as_it_and_keeps_its_proportions(rng):
    points = rng.normal(0, 3, (200, 2))
    placed = place_map(points, (10, 0, 110, 300))
    assert placed[:, 1].min() > 300
    assert placed[:, 0].min() >= 10
    assert placed[:, 0].max() <= 110
    ratio = np.ptp(placed[:, 1]) / np.ptp(placed[:, 0])
    assert ratio == pytest.approx(np.ptp(points[:, 0]) / np.ptp(points[:, 1]))


def test_up_on_the_map_is_up_on_the_screen():
    low, high = place_map(np.array([[0.0, 0.0], [0.0, 1.0]]), (0, 0, 100, 100))
    assert high[0] < low[0]


def test_a_map_of_one_point_is_placed_too():
    assert np.isfinite(place_map(np.array([[3.0, 4.0]]), (0, 0, 100, 100))).all()
