import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.orientation import turn_labels
from cell_curator.core.recipe import Recipe, Rotate
from cell_curator.io.folders import preprocess_folder, restore_folder
from cell_curator.io.images import write_tiff
from cell_curator.io.labels import read_labels, write_labels
from cell_curator.io.recipes import read_turns
from cell_curator.samples.scenes import nuclei_on_grooves

ANGLE = -33.3


@pytest.fixture(scope="module")
def scenes():
    return {name: nuclei_on_grooves(seed, count=12, size=200) for seed, name in enumerate(("control/1", "mutant/1"))}


@pytest.fixture
def prepared(scenes, tmp_path):
    """A folder of prepared images, all turned by `ANGLE`."""
    for name, scene in scenes.items():
        path = tmp_path / "images" / f"{name}.tif"
        path.parent.mkdir(parents=True)
        write_tiff(path, scene.image)
    recipe = Recipe(rotate=Rotate(enabled=True, method="fixed", angle_deg=ANGLE))
    drive(preprocess_folder(tmp_path / "images", tmp_path / "prepared", recipe))
    return tmp_path / "prepared"


def test_masks_drawn_on_prepared_images_lie_on_the_originals_again(prepared, tmp_path, scenes):
    for name, scene in scenes.items():
        path = tmp_path / "masks" / f"{name}_masks.tif"
        path.parent.mkdir(parents=True)
        write_labels(path, turn_labels(scene.labels, ANGLE))
    report = drive(restore_folder(tmp_path / "masks", prepared / "recipe.json", tmp_path / "raw"))
    assert report.done == tuple(scenes)
    y, x = np.ogrid[:200, :200]
    middle = np.hypot(y - 99.5, x - 99.5) < 98  # what a turn does not take out of the frame
    for name, scene in scenes.items():
        labels = read_labels(tmp_path / "raw" / f"{name}.tif")
        assert (labels[middle] == scene.labels[middle]).all()


def test_masks_beside_the_prepared_images_are_taken_and_not_the_images(prepared, tmp_path, scenes):
    for name in scenes:
        write_labels(prepared / f"{name}_cp_masks.tif", np.eye(200, dtype=np.int32))
    report = drive(restore_folder(prepared, prepared / "recipe.json", tmp_path / "raw"))
    assert report.done == tuple(scenes)


def test_masks_that_fit_no_prepared_image_are_named(prepared, tmp_path):
    masks = tmp_path / "masks"
    (masks / "control").mkdir(parents=True)
    (masks / "mutant").mkdir()
    write_labels(masks / "control" / "1.tif", np.eye(200, dtype=np.int32))
    write_labels(masks / "mutant" / "1.tif", np.eye(99, dtype=np.int32))
    write_labels(masks / "control" / "7.tif", np.eye(200, dtype=np.int32))
    report = drive(restore_folder(masks, prepared / "recipe.json", tmp_path / "raw"))
    assert report.done == ("control/1",)
    (unknown_file, unknown), (odd_file, odd) = report.failed
    assert unknown_file == str(masks / "control" / "7.tif")
    assert "'control/7'" in unknown
    assert odd_file == str(masks / "mutant" / "1.tif")
    assert "99 × 99" in odd
    assert "\n" not in unknown + odd


@pytest.mark.parametrize(
    "text",
    [
        '{"clip": {}}',
        '{"images": {}}',
        '{"images": {"a": 3}}',
        "[]",
        '{"images": {"a": {"angle_deg": NaN}}}',
        '{"images": {"a": {"angle_deg": 1, "shape": [3]}}}',
    ],
)
def test_restoring_needs_the_recipe_beside_prepared_images(text, tmp_path):
    (tmp_path / "odd.json").write_text(text)
    with pytest.raises(UserError, match=r"odd\.json.*give the recipe\.json"):
        drive(restore_folder(tmp_path, tmp_path / "odd.json", tmp_path / "out"))


def test_masks_are_never_written_over(prepared):
    with pytest.raises(UserError, match="outside"):
        drive(restore_folder(prepared, prepared / "recipe.json", prepared))


def test_the_turns_of_older_recipes_have_no_shape(tmp_path):
    (tmp_path / "old.json").write_text('{"recipe": {}, "images": {"a/1": {"angle_deg": 3.5}}}')
    assert read_turns(tmp_path / "old.json")["a/1"].angle_deg == 3.5
    assert read_turns(tmp_path / "old.json")["a/1"].shape is None
