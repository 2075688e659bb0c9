import numpy as np
import pytest
from skimage.transform import rotate

from cell_curator.link.geometry import bounds, place_map, to_data, to_world, turn_affine, visible_region


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


# What is in view


def seen(shape, affine, center, zoom, canvas):
    """Which pixels have their centre on the screen, one by one."""
    rows, columns = np.indices(shape).reshape(2, -1)
    world = to_world(affine, np.stack([rows, columns], 1).astype(float))
    on_screen = (np.abs(world - center) < np.asarray(canvas) / (2 * zoom)).all(axis=1)
    return on_screen.reshape(shape)


@pytest.mark.parametrize("angle", [0, 7, -50, 90, 180])
@pytest.mark.parametrize("zoom", [0.2, 1.0, 3.7, 40.0])
def test_what_is_on_the_screen_is_in_the_visible_region(rng, angle, zoom):
    shape, canvas = (60, 90), (45, 70)
    for _ in range(10):
        affine = turn_affine(shape, angle) @ np.diag([*rng.uniform(0.5, 2, 2), 1.0])
        center = rng.uniform(-20, 100, 2)
        on_screen = seen(shape, affine, center, zoom, canvas)
        found = visible_region(shape, affine, (0.0, *center), zoom, canvas)
        if found is None:
            assert not on_screen.any()
            continue
        (top, left, bottom, right), _ = found
        assert 0 <= top < bottom <= shape[0]
        assert 0 <= left < right <= shape[1]
        on_screen[top:bottom, left:right] = False
        assert not on_screen.any()


def test_an_upright_region_is_the_smallest_and_holds_pixels_that_are_cut():
    region, step = visible_region((100, 100), np.eye(3), (0, 49.5, 49.5), 2.0, (40, 60))
    assert region == (40, 35, 60, 65)  # 20 × 30 px around the middle, whose edges lie at half pixels
    assert step == 0.5
    region, _ = visible_region((100, 100), np.eye(3), (0, 49.6, 49.4), 2.0, (40, 60))
    assert region == (40, 34, 61, 65)


def test_a_turned_region_touches_what_is_seen_on_all_sides():
    affine = turn_affine((200, 200), 30)
    (top, left, bottom, right), _ = visible_region((200, 200), affine, (100.0, 100.0), 2.0, (60, 90))
    on_screen = seen((200, 200), affine, (100.0, 100.0), 2.0, (60, 90))
    rows, columns = np.nonzero(on_screen)
    assert 0 <= rows.min() - top <= 1
    assert 0 <= bottom - 1 - rows.max() <= 1
    assert 0 <= columns.min() - left <= 1
    assert 0 <= right - 1 - columns.max() <= 1


def test_all_of_a_small_image_is_in_view_from_afar():
    region, step = visible_region((10, 20), np.eye(3), (4.5, 9.5), 0.5, (400, 600))
    assert region == (0, 0, 10, 20)
    assert step == 2.0


def test_pixels_per_screen_pixel_follow_the_scale_of_the_layer():
    scaled = np.diag([0.5, 0.5, 1.0])
    _, step = visible_region((100, 100), scaled, (25.0, 25.0), 4.0, (40, 40))
    assert step == pytest.approx(0.5)


def test_an_image_out_of_view_has_no_visible_region():
    assert visible_region((50, 50), np.eye(3), (0, 25, 500), 1.0, (100, 100)) is None
    assert visible_region((0, 0), np.eye(3), (0, 0, 0), 1.0, (100, 100)) is None
