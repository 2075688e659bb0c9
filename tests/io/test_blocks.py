"""Windows of large images are the pixels of the whole, and nothing reads the whole by accident."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from cell_curator.core.jobs import UserError
from cell_curator.core.lazy import Lazy
from cell_curator.io.blocks import open_image, open_large
from cell_curator.io.images import find_images, read_image, read_info

BOX = np.s_[:, 40:133, 97:201]


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, (3, 200, 260)).astype(np.uint16)


def tiff(path: Path, data: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, data, **options)
    return path


def pyramid_tiff(path: Path, data: np.ndarray) -> Path:
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(path) as file:
        file.write(data, tile=(64, 64), subifds=1, metadata={"axes": "CYX", **size}, compression="zlib")
        file.write(data[:, ::2, ::2], tile=(64, 64), subfiletype=1, compression="zlib")
    return path


def ome_zarr(folder: Path, data: np.ndarray, version: int = 3, axes: str = "cyx") -> Path:
    root = zarr.open_group(str(folder), mode="w", zarr_format=version)
    datasets = []
    for level in range(2):
        part = data[..., :: 2**level, :: 2**level]
        root.create_array(str(level), shape=part.shape, chunks=(*(1,) * (data.ndim - 2), 64, 64), dtype=part.dtype)
        root[str(level)][...] = part
        scale = [*([1.0] * (data.ndim - 2)), 0.5 * 2**level, 0.5 * 2**level]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"c": {"type": "channel"}, "z": {"type": "space"}}
    described = [{"name": a, **kinds.get(a, {"type": "space", "unit": "micrometer"})} for a in axes]
    about = {
        "multiscales": [{"axes": described, "datasets": datasets}],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}, {"label": "RFP"}]},
    }
    root.attrs.update({"ome": {"version": "0.5", **about}} if version == 3 else about)
    return folder


KINDS = {
    "tiled": lambda to, c: tiff(to / "a.tif", c[0], tile=(64, 64), compression="zlib"),
    "strips": lambda to, c: tiff(to / "a.tif", c[0], rowsperstrip=16, compression="zlib"),
    "unpacked": lambda to, c: tiff(to / "a.tif", c[0]),
    "imagej": lambda to, c: tiff(to / "a.tif", c, imagej=True, metadata={"axes": "CYX"}),
    "rgb": lambda to, c: tiff(to / "a.tif", np.moveaxis((c >> 8).astype(np.uint8), 0, -1), tile=(64, 64)),
    "float": lambda to, c: tiff(to / "a.tif", c[0].astype(np.float32) / 7, tile=(64, 64)),
    "stack": lambda to, c: tiff(to / "a.ome.tif", c, tile=(64, 64), metadata={"axes": "ZYX"}),
    "pyramid": lambda to, c: pyramid_tiff(to / "a.ome.tif", c),
    "zarr 2": lambda to, c: ome_zarr(to / "a.zarr", c, 2),
    "zarr 3": lambda to, c: ome_zarr(to / "a.ome.zarr", c),
    "zarr stack": lambda to, c: ome_zarr(to / "a.ome.zarr", c, axes="zyx"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_holds_the_pixels_of_the_whole(kind, tmp_path, grey):
    path = KINDS[kind](tmp_path, grey)
    plane = read_info(path).numbers[-1]
    whole, large = read_image(path, plane), open_large(path, plane)
    assert (large.shape, large.dtype) == (whole.shape, whole.dtype)
    np.testing.assert_array_equal(large[BOX], whole[BOX])
    np.testing.assert_array_equal(large[-1, 7, 3:9], whole[-1, 7, 3:9])
    np.testing.assert_array_equal(large[:, ::4, ::4], whole[:, ::4, ::4])  # from a coarser level, where there is one
    np.testing.assert_array_equal(large[0][10:20, 30:31], whole[0, 10:20, 30:31])


def test_coarser_levels_come_along(tmp_path, grey):
    for path in (pyramid_tiff(tmp_path / "a.ome.tif", grey), ome_zarr(tmp_path / "b.zarr", grey)):
        (level,) = open_large(path).levels
        np.testing.assert_array_equal(level[:, 5:50, 9:40], grey[:, ::2, ::2][:, 5:50, 9:40])


def test_an_ome_zarr_tells_names_and_size_and_is_found(tmp_path, grey):
    path = ome_zarr(tmp_path / "control" / "b.ome.zarr", grey)
    tiff(tmp_path / "a.tif", grey[0])
    assert find_images(tmp_path) == [(tmp_path / "a.tif", ""), (path, "control")]
    assert find_images(path) == [(path, "")]
    info = read_info(path)
    assert info.channel_names == ("DAPI", "GFP", "RFP")
    assert (info.shape, info.pixel_size_um) == (grey.shape, 0.5)


def test_a_large_image_is_never_taken_as_a_whole(tmp_path, grey, monkeypatch):
    path = tiff(tmp_path / "mosaic.tif", grey[0], tile=(64, 64))
    assert isinstance(open_image(path), np.ndarray)
    monkeypatch.setenv("CELL_CURATOR_LARGE_MPX", "0.02")
    large = open_image(path)
    assert isinstance(large, Lazy)
    wholes = (np.asarray, lambda one: one.max(), lambda one: one == 3, lambda one: np.where(one, 1, 2))
    for whole in (*wholes, lambda one: one[0, :, :250]):
        with pytest.raises(UserError, match=r"mosaic\.tif: is too large \(260 × 200 px\)"):
            whole(large)


def test_an_image_packed_in_one_piece_is_refused_in_words(tmp_path, grey, monkeypatch):
    monkeypatch.setattr("cell_curator.io.tiff_axes._LARGEST_PIECE", 10_000)
    path = tiff(tmp_path / "a.tif", grey[0], rowsperstrip=200, compression="zlib")
    with pytest.raises(UserError, match="save it as tiled TIFF"):
        open_large(path)


def test_a_store_with_a_foreign_codec_or_without_pixels_is_refused(tmp_path, grey):
    path = ome_zarr(tmp_path / "a.zarr", grey, 2)
    meta = path / "0" / ".zarray"
    meta.write_text(meta.read_text().replace('"filters": null', '"filters": [{"id": "pickle"}]'))
    with pytest.raises(UserError, match="pickle"):
        open_large(path)
    other = ome_zarr(tmp_path / "b.zarr", grey)
    (other / "0" / "zarr.json").unlink()
    with pytest.raises(UserError, match=r"b\.zarr"):
        read_info(other)
