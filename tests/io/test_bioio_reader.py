"""Files of microscopes: read through bioio where it is installed, explained in one line where it is not.

No such file can be written freely, so bioio's readers are played here by a class with their shape.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from types import ModuleType

import dask.array as da
import numpy as np
import pytest

from cell_curator.core.jobs import UserError
from cell_curator.io import bioio_reader
from cell_curator.io.blocks import open_large
from cell_curator.io.images import find_images, read_image, read_info

Sizes = namedtuple("Sizes", "Z Y X")


class Played:
    """What of `bioio.BioImage` is used."""

    data = np.random.default_rng(0).integers(0, 60000, (1, 2, 3, 40, 50)).astype(np.uint16)
    channel_names = ("DAPI", "GFP")
    physical_pixel_sizes = Sizes(None, 0.325, 0.325)
    scenes = ("first", "second")

    def __init__(self, path) -> None:
        if path.stem == "broken":
            raise RuntimeError("unexpected end\nof file")
        self.shape, self.dtype = self.data.shape, self.data.dtype

    def get_image_data(self, order, T, Z):
        assert order == "CYX"
        return self.data[T, :, Z]

    def get_image_dask_data(self, order, T, Z):
        return da.from_array(self.get_image_data(order, T, Z))


@pytest.fixture
def played(monkeypatch):
    bioio_reader._of_file.cache_clear()
    module = ModuleType("bioio")
    module.BioImage = type("BioImage", (Played,), {})
    monkeypatch.setitem(sys.modules, "bioio", module)
    for name in ("bioio_nd2", "bioio_czi", "bioio_lif"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    yield module.BioImage
    bioio_reader._of_file.cache_clear()


def file(folder, name="cells.nd2"):
    path = folder / name
    path.write_bytes(b"\xda\xce\xbe\x0a not a picture")
    return path


def test_names_size_and_planes_come_from_the_file(tmp_path, played):
    path = file(tmp_path)
    assert find_images(tmp_path) == [(path, "")]
    info = read_info(path)
    assert info.channel_names == ("DAPI", "GFP")
    assert (info.shape, info.pixel_size_um, info.axis, info.planes) == ((2, 40, 50), 0.325, "Z", 3)
    assert info.notes == ("holds 2 scenes; the first is used",)
    np.testing.assert_array_equal(read_image(path, 1), played.data[0, :, 1])
    np.testing.assert_array_equal(open_large(path, 2)[:, 5:20, 10:30], played.data[0, :, 2, 5:20, 10:30])
    with pytest.raises(UserError, match="is a stack of 3 planes"):
        read_image(path)


def test_time_and_depth_together_are_refused(tmp_path, played):
    played.data = np.zeros((2, 1, 3, 8, 8), np.uint16)
    with pytest.raises(UserError, match="in depth and in time"):
        read_info(file(tmp_path, "both.czi"))


def test_damage_is_told_in_one_line(tmp_path, played):
    with pytest.raises(UserError, match="unexpected end of file") as caught:
        read_info(file(tmp_path, "broken.lif"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "package"), [("a.czi", "bioio-czi"), ("a.nd2", "bioio-nd2"), ("a.lif", "bioio-lif")])
def test_without_the_reader_it_says_what_to_install(tmp_path, monkeypatch, name, package):
    bioio_reader._of_file.cache_clear()
    monkeypatch.setitem(sys.modules, package.replace("-", "_"), None)
    with pytest.raises(
        UserError, match=rf'need the package {package}; run `pip install "napari-cell-curator\[formats\]"'
    ):
        read_info(file(tmp_path, name))
