import time

import cv2
import numpy as np
import pytest

from cell_curator.core.image_flags import flags, look


@pytest.fixture
def images(rng):
    """Seven images of different cells."""
    made = []
    for _ in range(7):
        image = np.full((128, 128), 100.0, np.float32)
        for y, x in rng.integers(12, 116, (15, 2)):
            cv2.circle(image, (int(x), int(y)), 7, 700.0, -1)
        made.append(cv2.GaussianBlur(image, (0, 0), 1) + rng.normal(0, 8, image.shape).astype(np.float32))
    return made


def keys(images, diameters=None):
    looks = {number: look(image.clip(0, 65535).astype(np.uint16)) for number, image in enumerate(images)}
    found = flags(looks, diameters or dict.fromkeys(looks, 14.0))
    return {number: [one.key for one in those] for number, those in found.items()}


def test_ordinary_images_are_left_alone(images):
    assert keys(images) == {}


def test_each_fault_of_an_image_is_named(images, rng):
    ramp = np.linspace(0, 1500, 128, dtype=np.float32)[None]
    images[0] = cv2.GaussianBlur(images[0], (0, 0), 6) + rng.normal(0, 8, images[0].shape)
    images[1] = np.minimum(3 * images[1], 1200)
    images[2] = images[2] + ramp
    found = keys([*images, images[4]], dict.fromkeys(range(8), 14.0) | {5: 40.0})
    assert found[0] == ["focus"]
    assert found[1] == ["exposure"]
    assert found[2] == ["light"]
    assert found[5] == ["magnification"]
    assert found[7] == ["duplicate"]
    assert set(found) == {0, 1, 2, 5, 7}


def test_nothing_but_background_is_empty_and_no_duplicate(rng):
    blank = [rng.normal(100, 8, (64, 64)), rng.normal(100, 8, (64, 64)), np.full((64, 64), 7.0)]
    looks = {number: look(image.astype(np.uint16)) for number, image in enumerate(blank)}
    found = flags(looks, {})
    assert {number: [one.key for one in those] for number, those in found.items()} == {
        0: ["empty"],
        1: ["empty"],
        2: ["empty"],
    }


def test_one_image_or_none_is_no_trouble(images):
    assert keys(images[:1]) == {}
    assert flags({}, {}) == {}


def test_frames_of_one_file_may_look_alike_but_not_be_equal(images, rng):
    alike = images[0] + rng.normal(0, 1, images[0].shape).astype(np.float32)
    shown = [*images, alike, images[1]]
    looks = {number: look(image.clip(0, 65535).astype(np.uint16)) for number, image in enumerate(shown)}
    sizes, names = dict.fromkeys(looks, 14.0), {0: "first", 1: "second"}
    found = flags(looks, sizes, names=names)
    assert found[7][0].text == "the same picture as first"
    found = flags(looks, sizes, names=names, files=dict.fromkeys(looks, "movie.tif"))
    assert {number: [one.text for one in those] for number, those in found.items()} == {
        8: ["the same picture as second"]
    }


def test_dark_cells_on_a_bright_ground_are_no_uneven_light(images):
    looks = {
        number: look((60_000 - 60 * image).clip(0, 65535).astype(np.uint16)) for number, image in enumerate(images)
    }
    assert flags(looks, dict.fromkeys(looks, 14.0)) == {}


def test_a_large_image_is_looked_at_fast(rng):
    image = rng.integers(0, 4000, (2048, 2048)).astype(np.uint16)
    start = time.perf_counter()
    look(image)
    assert time.perf_counter() - start < 5  # 0.5 s; a wide blur at full size took 29 s
