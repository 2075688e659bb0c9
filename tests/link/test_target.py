"""What a preview is made of: any image layer, whatever holds its pixels; or the project's image."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.components import ViewerModel

from cell_curator.core.jobs import UserError
from cell_curator.core.look import look
from cell_curator.core.overview import overview
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Clahe, Recipe, Rotate, TotalVariation
from cell_curator.link import target as module
from cell_curator.link.prepared import PREPARED, PreparedLayer
from cell_curator.link.target import LayerTarget, ProjectTarget, studied, whole
from cell_curator.link.viewer_link import ViewerLink
from cell_curator.samples.scenes import nuclei_on_grooves

PLAIN = Recipe(clahe=Clahe(enabled=False), total_variation=TotalVariation(enabled=False))


@pytest.fixture(scope="module")
def stack():
    """(Z, Y, X) uint16, another scene in every plane."""
    return np.stack([nuclei_on_grooves(seed, size=192, count=15).image[0] for seed in range(3)])


@pytest.fixture
def viewer():
    viewer = ViewerModel()
    viewer.canvas.size = (400, 400)
    return viewer


@pytest.fixture
def target(viewer):
    """``target(layer)``: the target as it stands now."""
    prepared = PreparedLayer(viewer)
    return lambda layer: LayerTarget(viewer, layer, prepared)


def lazily(kind, data, tmp_path):
    if kind == "dask":
        return da.from_array(data, chunks=(1, 64, 64))
    if kind == "zarr":
        stored = zarr.create_array(tmp_path / "stack.zarr", shape=data.shape, chunks=(1, 64, 64), dtype=data.dtype)
        stored[:] = data
        return stored
    return data


@pytest.mark.parametrize("kind", ["numpy", "dask", "zarr"])
def test_the_plane_in_view_is_what_is_prepared(viewer, target, stack, kind, tmp_path):
    layer = viewer.add_image(lazily(kind, stack, tmp_path), contrast_limits=(0, 4000))
    for plane in (2, 0):
        viewer.dims.set_current_step(0, plane)
        image, known = target(layer).source()
        np.testing.assert_array_equal(np.asarray(image), stack[plane][None])
        assert known.shape == stack.shape[1:]
        made = whole(target(layer), PLAIN, None)
        expected = prepare(stack[plane], PLAIN).image
        assert np.abs(made.image - expected).mean() < (1e-7 if kind == "numpy" else 0.02)


def test_what_is_not_in_memory_is_read_only_where_it_is_looked_at(viewer, target):
    read = []

    def block(block_info=None):
        read.append(block_info[None]["chunk-location"])
        return np.full((1, 512, 512), 100.0, np.float32)

    lazy = da.map_blocks(block, chunks=((1,) * 3, (512,) * 4, (512,) * 4), dtype=np.float32, meta=np.empty((0, 0, 0)))
    layer = viewer.add_image(lazy, contrast_limits=(0, 200))
    viewer.dims.set_current_step(0, 1)
    there = target(layer)
    image, _ = there.source()
    read.clear()
    look(image, PLAIN, region=(600, 600, 900, 900), whole=overview(np.zeros((512, 512), np.float32)))
    assert {place[0] for place in read} == {1}
    assert {place[1:] for place in read} == {(1, 1)}


def test_a_colour_image_has_three_channels_and_its_opacity_is_left_out(viewer, target, stack):
    colour = np.stack([stack[0] // 16] * 3 + [np.full_like(stack[0], 9)], -1).astype(np.uint8)
    layer = viewer.add_image(colour, rgb=True)
    image, known = target(layer).source()
    np.testing.assert_array_equal(np.asarray(image), colour[..., :3].transpose(2, 0, 1))
    assert known.shape == stack.shape[1:]
    assert whole(target(layer), PLAIN, None).image.shape == stack.shape[1:]


def test_a_stack_of_colour_images_follows_the_slider(viewer, target, stack):
    colour = np.stack([stack // 16] * 3, -1).astype(np.uint8)
    layer = viewer.add_image(colour, rgb=True)
    viewer.dims.set_current_step(0, 2)
    np.testing.assert_array_equal(np.asarray(target(layer).source()[0])[0], colour[2, ..., 0])


def test_of_a_pyramid_the_pixels_come_from_the_finest_level_and_the_overview_from_a_coarse_one(
    viewer, target, stack, monkeypatch
):
    monkeypatch.setattr(module, "_OVERVIEW_PX", 80)
    levels = [stack, stack[:, ::2, ::2], stack[:, ::4, ::4]]
    layer = viewer.add_image(levels, multiscale=True)
    viewer.dims.set_current_step(0, 1)
    image, known = target(layer).source()
    np.testing.assert_array_equal(np.asarray(image), stack[1][None])
    np.testing.assert_array_equal(known.small, stack[1, ::2, ::2][None])
    assert known.shape == stack.shape[1:]


def test_levels_of_a_pyramid_may_have_fewer_planes(viewer, target, stack):
    layer = viewer.add_image([np.repeat(stack, 2, axis=0), stack[:, ::2, ::2]], multiscale=True)
    viewer.dims.set_current_step(0, 5)
    image, known = target(layer).source()
    np.testing.assert_array_equal(np.asarray(image), stack[2][None])
    assert known.shape == stack.shape[1:]


@pytest.mark.parametrize("change", ["plane", "data", "layer"])
def test_the_key_changes_with_the_pixels_and_with_nothing_else(viewer, target, stack, change):
    layer = viewer.add_image(stack.copy())
    before = target(layer).key
    layer.name, layer.contrast_limits, viewer.scene.camera.zoom = "other", (0, 9), 7.0
    assert target(layer).key == before
    if change == "plane":
        viewer.dims.set_current_step(0, 0 if viewer.dims.current_step[0] else 1)
    elif change == "data":
        layer.data = stack.copy()
    else:
        layer = viewer.add_image(stack.copy())
    assert target(layer).key != before


@pytest.mark.parametrize("place", ["scale", "translate", "rotate", "affine"])
def test_the_preview_lies_on_the_layer_wherever_that_is(viewer, target, stack, place):
    layer = viewer.add_image(stack)
    if place == "scale":
        layer.scale = (5, 0.5, 0.25)
    elif place == "translate":
        layer.translate = (0, 30, -12)
    elif place == "rotate":
        layer.rotate = 30
    else:
        layer.affine = np.array([[1, 0, 0, 0], [0, 0.8, 0.3, 9], [0, -0.2, 1.1, 4], [0, 0, 0, 1]])
    viewer.dims.set_current_step(0, 1)
    there = target(layer)
    made = look(there.source()[0], PLAIN, region=(20, 30, 120, 150), step=2.0)
    assert there.show(made.preview)
    shown = viewer.layers[PREPARED]
    for spot in ((0, 0), (10, 20), (49, 59)):
        at = np.asarray(spot) * made.preview.scale + made.preview.translate
        np.testing.assert_allclose(shown.data_to_world(spot)[-2:], layer.data_to_world((0, *at))[-2:], atol=1e-6)


def test_the_region_in_view_is_in_pixels_of_the_layer(viewer, target, stack):
    layer = viewer.add_image(stack, scale=(1, 0.5, 0.5), translate=(0, 100, 200))
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, 100 + 48, 200 + 48), 40.0
    region, step = target(layer).view()
    assert region == (86, 86, 107, 107)  # 10 world px around the middle are 20 px of the layer
    assert step == pytest.approx(1 / 20)
    viewer.scene.camera.center = (0, 0, 0)
    assert target(layer).view() is None


def test_layers_of_other_planes_and_sizes_beside_it_do_not_matter(viewer, target, stack):
    layer = viewer.add_image(stack[0])
    viewer.add_image(np.zeros((7, 5, 300, 300), np.uint8))
    viewer.dims.set_current_step(0, 3)
    np.testing.assert_array_equal(target(layer).source()[0], stack[0][None])
    viewer.add_image(np.zeros((300, 300), np.uint8), translate=(-500, -500))
    assert target(layer).show(look(stack[0], PLAIN).preview)
    np.testing.assert_allclose(viewer.layers[PREPARED].extent.world, layer.extent.world)


@pytest.mark.parametrize("how", ["axes", "volume"])
def test_axes_in_another_order_are_said_and_put_right_again(viewer, target, stack, how):
    layer = viewer.add_image(stack)
    before = target(layer).key
    if how == "axes":
        viewer.dims.order = (1, 0, 2)
    else:
        viewer.dims.ndisplay = 3
    there = target(layer)
    assert there.key != before
    with pytest.raises(UserError, match="last two axes"):
        there.source()
    viewer.dims.order, viewer.dims.ndisplay = (0, 1, 2), 2
    assert target(layer).source()[1].shape == stack.shape[1:]


def test_a_layer_that_was_removed_takes_no_picture(viewer, target, stack):
    layer = viewer.add_image(stack)
    there = target(layer)
    viewer.layers.remove(layer)
    assert there.layer is None
    assert not there.show(look(stack[0], PLAIN).preview)
    assert PREPARED not in viewer.layers


def test_the_layer_itself_is_never_changed(viewer, target, stack):
    copy = stack.copy()
    layer = viewer.add_image(stack)
    viewer.dims.set_current_step(0, 0)
    there = target(layer)
    turning = Recipe(rotate=Rotate(enabled=True))
    there.show(whole(there, there.recipe(turning), there.view()))
    there.turn(studied(there, turning, there.view()).angle_deg)
    np.testing.assert_array_equal(stack, copy)
    assert layer.data is stack
    np.testing.assert_array_equal(layer.affine.affine_matrix, np.eye(4))


def test_a_large_image_is_prepared_only_where_it_is_seen(viewer, target, stack, monkeypatch):
    monkeypatch.setattr(module, "_WHOLE_PX", 10_000)
    layer = viewer.add_image(stack[0])
    view = ((10, 20, 60, 90), 1.0)
    made = whole(target(layer), PLAIN, view)
    assert made.image.shape == (50, 70)
    np.testing.assert_allclose(made.image, prepare(stack[0], PLAIN).image[10:60, 20:90], atol=1e-5)


# The image of a project


@pytest.fixture
def link(mapped, viewer):
    link = ViewerLink(mapped, viewer)
    yield link
    link.unbind()


def test_the_projects_image_takes_pictures_only_while_it_is_shown(link, mapped):
    first, second = (record.image_id for record in mapped.images)
    there = ProjectTarget(link, first)
    made = whole(there, PLAIN, there.view())
    assert there.show(made)
    np.testing.assert_array_equal(link.image.prepared_layer.data, made.image)
    held = mapped.prepared(first).copy()
    mapped.show_image(second)
    assert there.view() is None
    assert not there.show(made)
    assert ProjectTarget(link, second).key != there.key
    np.testing.assert_array_equal(mapped.prepared(first), held)


def test_writing_in_place_never_changes_what_the_session_keeps(link, mapped):
    image_id = mapped.current_image
    kept = mapped.prepared(image_id)
    copy = kept.copy()
    there = ProjectTarget(link, image_id)
    link.image.prepared.swipe = 30.0
    for recipe in (PLAIN, Recipe(), PLAIN):
        there.show(look(there.source()[0], recipe).preview)
        there.show(whole(there, recipe, there.view()))
    assert mapped.prepared(image_id) is kept
    np.testing.assert_array_equal(kept, copy)


def test_the_angle_set_by_hand_is_in_the_recipe_of_its_image_only(link, mapped):
    first, second = (record.image_id for record in mapped.images)
    mapped.set_turn(first, 11.0)
    turning = Recipe(rotate=Rotate(enabled=True))
    assert ProjectTarget(link, first).recipe(turning).rotate.angle_deg == 11.0
    assert ProjectTarget(link, second).recipe(turning) == turning
    ProjectTarget(link, first).turn(11.0)
    assert link.image.angle_deg == 11.0
    ProjectTarget(link, second).turn(40.0)
    assert link.image.angle_deg == 11.0
