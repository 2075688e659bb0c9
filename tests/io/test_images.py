import os
from importlib.util import find_spec
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from cell_curator.core.jobs import UserError
from cell_curator.io import tiff
from cell_curator.io.images import find_images, read_image, read_image_with_info, read_info, write_tiff

DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture
def noise():
    """Returns a maker of random uint8 arrays."""
    rng = np.random.default_rng(0)
    return lambda *shape: rng.integers(1, 255, shape, dtype=np.uint8)


# ---------------------------------------------------------------- finding


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(found, root):
    return [(path.relative_to(root).as_posix(), condition) for path, condition in found]


def test_each_sub_folder_is_a_condition_in_natural_order(tmp_path):
    touch(tmp_path / "top10.tif", tmp_path / "top9.TIF", tmp_path / "dose 10" / "a.png")
    touch(tmp_path / "dose 9" / "day1" / "b.jpg", tmp_path / "dose 9" / "notes.txt")
    assert names(find_images(tmp_path), tmp_path) == [
        ("top9.TIF", ""),
        ("top10.tif", ""),
        ("dose 9/day1/b.jpg", "dose 9"),
        ("dose 10/a.png", "dose 10"),
    ]


def test_what_cellpose_and_this_program_wrote_is_left_out(tmp_path):
    touch(tmp_path / "a.tif", tmp_path / "a_seg.npy", tmp_path / "a_cp_masks.png", tmp_path / "a_masks.tif")
    touch(tmp_path / "a_flows.tif", tmp_path / ".hidden.tif", tmp_path / "old.curator" / "thumb.png")
    touch(tmp_path / "labels" / "a.tif", tmp_path / "grooves_truth" / "a.tif", tmp_path / ".git" / "b.png")
    assert names(find_images(tmp_path), tmp_path) == [("a.tif", "")]


def test_a_folder_of_images_and_labels_has_no_condition(tmp_path):
    touch(tmp_path / "images" / "a.tif", tmp_path / "labels" / "a.tif")
    assert names(find_images(tmp_path), tmp_path) == [("images/a.tif", "")]


def test_a_single_file_is_found_whatever_its_name(tmp_path):
    touch(tmp_path / "odd_masks.tif")
    assert find_images(tmp_path / "odd_masks.tif") == [(tmp_path / "odd_masks.tif", "")]


def test_links_that_go_round_in_circles_end(tmp_path):
    touch(tmp_path / "one" / "a.tif")
    (tmp_path / "one" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names(find_images(tmp_path), tmp_path) == [("one/a.tif", "one")]


def test_missing_empty_and_foreign_folders_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"none: does not exist; check the path"):
        find_images(tmp_path / "none")
    with pytest.raises(UserError, match="holds no images; choose a folder with TIFF"):
        find_images(tmp_path)
    touch(tmp_path / "a.lsm", tmp_path / "b.lsm")
    with pytest.raises(UserError, match=r"holds 2 \.lsm files, which are not read here; export as TIFF"):
        find_images(tmp_path)


# ---------------------------------------------------------------- layouts


def save_rgba_png(path, rgb):
    Image.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])).save(path)


COLOUR_WRITERS = {
    "contig.tif": lambda p, a: tifffile.imwrite(p, a, photometric="rgb"),
    "planar.tif": lambda p, a: tifffile.imwrite(p, np.moveaxis(a, -1, 0), photometric="rgb", planarconfig="separate"),
    "lzw.tif": lambda p, a: tifffile.imwrite(p, a, photometric="rgb", compression="lzw", predictor=True),
    "tiled.tif": lambda p, a: tifffile.imwrite(p, a, photometric="rgb", compression="zlib", tile=(16, 16)),
    "rgba.tif": lambda p, a: tifffile.imwrite(
        p, np.dstack([a, a[..., 0]]), photometric="rgb", extrasamples=["unassalpha"]
    ),
    "plain.png": lambda p, a: Image.fromarray(a).save(p),
    "alpha.png": save_rgba_png,
    "plain.bmp": lambda p, a: Image.fromarray(a).save(p),
}


@pytest.mark.parametrize("name", COLOUR_WRITERS)
def test_colour_images_give_three_named_channels(tmp_path, noise, name):
    rgb = noise(40, 50, 3)
    COLOUR_WRITERS[name](tmp_path / name, rgb)
    pixels, info = read_image_with_info(tmp_path / name)
    np.testing.assert_array_equal(pixels, np.moveaxis(rgb, -1, 0))
    assert info.channel_names == ("red", "green", "blue")
    assert read_info(tmp_path / name) == info


def test_jpeg_is_close_and_named_jpg_or_not(tmp_path):
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.jpg", quality=95)
    os.rename(tmp_path / "a.jpg", tmp_path / "a.tif")
    pixels = read_image(tmp_path / "a.tif")
    assert pixels.shape == (1, 40, 50)
    assert np.abs(pixels[0].astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_palette_is_expanded_to_its_colours(tmp_path, noise, name):
    picture = Image.fromarray(noise(40, 50, 3)).quantize(32)
    picture.save(tmp_path / name)
    pixels = read_image(tmp_path / name)
    np.testing.assert_array_equal(pixels, np.moveaxis(np.asarray(picture.convert("RGB")), -1, 0))
    assert read_info(tmp_path / name).shape == pixels.shape == (3, 40, 50)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_palette_that_only_tints_keeps_the_measured_grey_levels(tmp_path, noise, name):
    grey = noise(40, 50)
    ramp = np.zeros((256, 3), np.uint8)
    ramp[:, 1] = np.arange(256)  # the green look-up table of a microscope
    picture = Image.fromarray(grey)
    picture.putpalette(ramp.tobytes())
    picture.save(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name), grey[None])
    assert read_info(tmp_path / name).shape == (1, 40, 50)


def test_sixteen_bit_png_keeps_all_bits(tmp_path):
    rng = np.random.default_rng(1)
    for shape in ((20, 30), (20, 30, 3), (20, 30, 4)):
        deep = rng.integers(0, 65536, shape, dtype=np.uint16)
        (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
        pixels, info = read_image_with_info(tmp_path / "deep.png")
        expected = np.moveaxis(np.atleast_3d(deep)[..., :3], -1, 0)
        np.testing.assert_array_equal(pixels, expected)
        assert info == read_info(tmp_path / "deep.png")
        assert info.dtype == "uint16"


@pytest.mark.parametrize(("pages", "channels"), [(1, 1), (2, 2), (3, 3), (4, 4)])
def test_a_few_unnamed_pages_count_as_channels(tmp_path, noise, pages, channels):
    stack = noise(pages, 40, 50)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in stack:
            writer.write(page, contiguous=False, metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), stack)
    assert read_info(tmp_path / "a.tif").shape == (channels, 40, 50)


def test_channels_saved_last_are_brought_to_the_front(tmp_path, noise):
    array = noise(40, 50, 2)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.moveaxis(array, -1, 0))


def pages(folder, stack):
    """A file of several pages that says nothing of them."""
    with tifffile.TiffWriter(folder / "a.tif") as writer:
        for page in stack:
            writer.write(page, contiguous=False, metadata=None)


KINDS = {
    "unnamed": (pages, "Z", (30, 20, 24)),
    "array": ({}, "Z", (30, 20, 24)),
    "ImageJ": ({"imagej": True, "metadata": {"axes": "ZYX"}}, "Z", (30, 20, 24)),
    "ImageJ channels": ({"imagej": True, "metadata": {"axes": "ZCYX"}}, "Z", (5, 2, 20, 24)),
    "ImageJ packed": ({"imagej": True, "compression": "zlib", "metadata": {"axes": "TCYX"}}, "T", (3, 2, 20, 24)),
    "ImageJ big-endian": ({"imagej": True, "byteorder": ">", "metadata": {"axes": "TYX"}}, "T", (30, 20, 24)),
    "OME": ({"ome": True, "metadata": {"axes": "TYX"}}, "T", (30, 20, 24)),
    "OME channels first": ({"ome": True, "compression": "zlib", "metadata": {"axes": "CZYX"}}, "Z", (2, 6, 20, 24)),
    "OME tiled": ({"ome": True, "tile": (16, 16), "metadata": {"axes": "ZCYX"}}, "Z", (6, 3, 40, 24)),
    "OME one plane of two": ({"ome": True, "metadata": {"axes": "TZYX"}}, "T", (4, 1, 20, 24)),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_plane_of_a_stack_is_that_of_the_array(tmp_path, noise, kind):
    options, axis, shape = KINDS[kind]
    stack = (noise(*shape).astype(np.uint16) * 257) ^ 3
    if callable(options):
        options(tmp_path, stack)
    else:
        tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    info = read_info(tmp_path / "a.tif")
    axes = options["metadata"]["axes"].index(axis) if options and not callable(options) else 0
    planes = np.moveaxis(stack, axes, 0)
    planes = planes.reshape(len(planes), -1, *planes.shape[-2:])
    assert (info.axis, info.planes, info.shape) == (axis, len(planes), planes.shape[1:])
    for plane in info.numbers:
        pixels, same = read_image_with_info(tmp_path / "a.tif", plane)
        np.testing.assert_array_equal(pixels, planes[plane])
        assert pixels.dtype == np.uint16
        assert same == info


def test_colour_time_lapses_are_read(tmp_path, noise):
    stack = noise(6, 20, 24, 3)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb", metadata={"axes": "TYXS"})
    assert read_info(tmp_path / "a.tif").channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", 4), np.moveaxis(stack[4], -1, 0))


def test_one_plane_is_read_without_decoding_the_others(tmp_path, noise, monkeypatch):
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", noise(12, 64, 64), imagej=True, compression="zlib", metadata=metadata)
    read: list[int] = []
    inner = tifffile.FileHandle.read_segments

    def counted(self, offsets, *arguments, **named):
        read.extend(offsets)
        return inner(self, offsets, *arguments, **named)

    monkeypatch.setattr(tifffile.FileHandle, "read_segments", counted)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offsets = file.pages[7].dataoffsets
        strips = {offset for page in file.pages for offset in page.dataoffsets}
    read_image(tmp_path / "a.tif", 7)
    assert set(read) & strips <= set(offsets)


def test_a_stack_is_refused_where_one_image_is_needed(tmp_path, noise):
    tifffile.imwrite(tmp_path / "a.tif", noise(30, 20, 20), imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(UserError, match=r"a\.tif: is a stack of 30 planes, time \(T\), where one .*; export single"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: has 30 planes, so there is no plane 31; put"):
        read_image(tmp_path / "a.tif", 30)
    write_tiff(tmp_path / "b.tif", noise(20, 20))
    Image.fromarray(noise(20, 20)).save(tmp_path / "b.png")
    for name in ("b.tif", "b.png"):
        with pytest.raises(UserError, match="is no stack any more, so there is no plane 3; put"):
            read_image(tmp_path / name, 2)


def test_depth_and_time_in_one_file_are_refused_with_the_way_out(tmp_path, noise):
    tifffile.imwrite(tmp_path / "a.tif", noise(5, 3, 20, 20), imagej=True, metadata={"axes": "TZYX"})
    for read in (read_info, read_image):
        with pytest.raises(UserError, match=r"has planes 5 in time \(T\) and 3 in depth \(Z\); split it"):
            read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", noise(2, 6, 20, 20), metadata={"axes": "RZYX"}, photometric="minisblack")
    with pytest.raises(UserError, match="has axes RZYX of 2 × 6 × 20 × 20, more than"):
        read_info(tmp_path / "b.tif")


@pytest.mark.parametrize("packing", [None, "zlib"])
def test_a_stack_that_is_cut_short_says_so(tmp_path, noise, packing):
    tifffile.imwrite(tmp_path / "a.tif", noise(9, 60, 60), imagej=True, compression=packing, metadata={"axes": "ZYX"})
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut short"):
        read_image(tmp_path / "a.tif", 8)


def test_many_channels_with_ome_names_are_read(tmp_path, noise):
    stack = noise(7, 20, 24)
    labels = [f"marker {i}" for i in range(7)]
    metadata = {
        "axes": "CYX", "Channel": {"Name": labels},
        "PhysicalSizeX": 325.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.325, "PhysicalSizeYUnit": "µm",
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata=metadata, photometric="minisblack")
    pixels, info = read_image_with_info(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(pixels, stack)
    assert info.channel_names == tuple(labels)
    assert info.pixel_size_um == pytest.approx(0.325)


def test_a_file_of_a_multi_file_ome_set_is_an_image_of_its_own(tmp_path, noise):
    first = noise(20, 24)
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="24" SizeY="20" '
        'SizeC="2" SizeZ="1" SizeT="1">'
        '<TiffData FirstC="0" IFD="0" PlaneCount="1"><UUID FileName="c0.ome.tif">urn:uuid:1</UUID></TiffData>'
        '<TiffData FirstC="1" IFD="0" PlaneCount="1"><UUID FileName="c1.ome.tif">urn:uuid:2</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    for name, plane in (("c0.ome.tif", first), ("c1.ome.tif", noise(20, 24))):
        tifffile.imwrite(tmp_path / name, plane, description=xml, metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "c0.ome.tif"), first[None])


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"resolution": (1e4 / 0.65, 1e4 / 0.65), "resolutionunit": "CENTIMETER"}, 0.65),
        ({"imagej": True, "resolution": (1 / 0.2, 1 / 0.2), "metadata": {"unit": "um"}}, 0.2),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1e5, 2e5), "resolutionunit": "CENTIMETER"}, None),
        ({}, None),
    ],
)
def test_the_pixel_size_is_taken_only_where_it_is_believable(tmp_path, noise, options, size):
    tifffile.imwrite(tmp_path / "a.tif", noise(20, 20), **options)
    assert read_info(tmp_path / "a.tif").pixel_size_um == (size and pytest.approx(size, rel=1e-4))


# ---------------------------------------------------------------- number types


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 1], np.bool_, np.uint8),
        ([0, 255], np.uint8, np.uint8),
        ([0, 65535], np.uint16, np.uint16),
        ([0, 65535], np.int32, np.uint16),
        ([0, 65536], np.uint32, np.float32),
        ([5, 700], np.int64, np.uint16),
        ([5, 2**40], np.uint64, np.float32),
        ([-3, 3], np.int16, np.float32),
        ([-0.5, 2.5], np.float16, np.float32),
        ([-1e3, 1e5], np.float64, np.float32),
        ([0.25, 0.75], ">f4", np.float32),
        ([1, 3000], ">u2", np.uint16),
    ],
)
def test_every_number_type_becomes_one_of_three_and_keeps_its_values(tmp_path, values, dtype, expected):
    stored = np.array([values, values[::-1]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, byteorder=">" if str(dtype).startswith(">") else None)
    pixels = read_image(tmp_path / "a.tif")
    assert pixels.dtype == expected
    assert pixels.dtype.isnative
    factor = 255 if dtype is np.bool_ else 1
    np.testing.assert_array_equal(pixels[0], stored.astype(np.float64) * factor)


def test_white_is_zero_is_turned_round(tmp_path, noise):
    stored = noise(5, 6)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite", metadata=None)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], 255 - stored)


def test_broken_floats_become_finite_with_a_note(tmp_path):
    stored = np.array([[np.nan, 1.0, 2.0], [np.inf, -np.inf, 1.5]])
    tifffile.imwrite(tmp_path / "a.tif", stored)
    pixels, info = read_image_with_info(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels[0], [[1.0, 1.0, 2.0], [2.0, 1.0, 1.5]])
    assert info.notes == ("3 pixels were not finite (NaN or infinite) and were replaced",)


def test_an_image_of_nothing_but_nan_is_black_with_a_note(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.full((3, 3), np.nan, np.float32))
    pixels, info = read_image_with_info(tmp_path / "a.tif")
    assert not pixels.any()
    assert "no pixel has a finite value" in info.notes[0]


def test_numbers_beyond_float32_stay_finite(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[1e300, 1.0]]))
    assert np.isfinite(read_image(tmp_path / "a.tif")).all()


def test_constant_and_one_pixel_images_are_read(tmp_path):
    tifffile.imwrite(tmp_path / "constant.tif", np.full((9, 9), 7, np.uint16))
    tifffile.imwrite(tmp_path / "one.tif", np.full((1, 1), 7, np.uint8))
    Image.new("1", (1, 1), 1).save(tmp_path / "one.png")
    assert (read_image(tmp_path / "constant.tif") == 7).all()
    assert read_image(tmp_path / "one.tif").tolist() == [[[7]]]
    assert read_image(tmp_path / "one.png").tolist() == [[[255]]]


# ---------------------------------------------------------------- refusals


def png_declaring(width, height):
    """A tiny PNG whose header claims a huge picture."""
    import struct
    import zlib

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


def broken_files(folder, noise):
    """Files that cannot be read, with words that their error must hold."""
    compressed, plain = folder / "good.tif", folder / "plain.tif"
    tifffile.imwrite(compressed, noise(300, 300), compression="zlib")
    tifffile.imwrite(plain, noise(300, 300))
    Image.fromarray(noise(300, 300)).save(folder / "good.png")
    Image.fromarray(noise(300, 300)).save(folder / "good.jpg")
    Image.fromarray(noise(300, 300)).save(folder / "good.bmp")
    Image.fromarray(noise(20, 20, 3)).convert("CMYK").save(folder / "cmyk.jpg")
    tifffile.imwrite(folder / "complex.tif", np.ones((5, 5), np.complex64))
    tifffile.imwrite(folder / "printing.tif", noise(20, 20, 4), photometric="separated")
    sixteen = imagecodecs.png_encode(noise(90, 90).astype(np.uint16))
    middle = bytearray(compressed.read_bytes())
    middle[len(middle) // 2 :] = bytes(len(middle) - len(middle) // 2)
    return {
        "cut.tif": (compressed.read_bytes()[:9000], "cut short"),
        "cut_plain.tif": (plain.read_bytes()[:9000], "cut short"),
        "header_only.tif": (compressed.read_bytes()[:60], "damaged or cut short"),
        "four_bytes.tif": (b"II*\0", "damaged or cut short"),
        "overwritten.tif": (bytes(middle), "damaged"),
        "cut.png": ((folder / "good.png").read_bytes()[:9000], "damaged or cut short"),
        "cut16.png": (sixteen[: len(sixteen) // 2], "damaged or cut short"),
        "cut.jpg": ((folder / "good.jpg").read_bytes()[:9000], "damaged or cut short"),
        "cut.bmp": ((folder / "good.bmp").read_bytes()[:9000], "damaged or cut short"),
        "tiny.png": (b"\x89PNG", "damaged"),
        "empty.tif": (b"", r"is empty \(0 bytes\)"),
        "text.tif": (b"well,dose\nA1,3\n", "is not a TIFF, PNG, JPEG or BMP"),
        "microscope.czi": (
            b"ZISRAWFILE",
            "damaged" if find_spec("bioio_czi") else "need the package bioio-czi; .* TIFF",
        ),
        "bomb.png": (png_declaring(200_000, 200_000), "gigapixels"),
        "small_bomb.png": (png_declaring(30_000, 30_000), "cannot be in so small a file"),
        "none_wide.png": (png_declaring(0, 5), "damaged|no pixels"),
        "cmyk.jpg": ((folder / "cmyk.jpg").read_bytes(), "CMYK"),
        "printing.tif": ((folder / "printing.tif").read_bytes(), "CMYK"),
        "complex.tif": ((folder / "complex.tif").read_bytes(), "complex numbers"),
    }


def test_each_broken_file_gives_one_line_with_its_name_and_a_remedy(tmp_path, noise):
    for name, (content, words) in broken_files(tmp_path, noise).items():
        path = tmp_path / "bad" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            read_image(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: "), text
        assert "\n" not in text
        assert ";" in text, text


def test_a_tiff_without_pixels_is_refused(tmp_path):
    path = tmp_path / "zero.tif"
    with pytest.warns(UserWarning, match="zero-size"):
        tifffile.imwrite(path, np.zeros((0, 5), np.uint8))
    with pytest.raises(UserError, match=r"zero\.tif: has no pixels"):
        read_image(path)


def test_a_tiff_that_declares_absurd_sizes_is_refused_before_decoding(tmp_path, noise, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", noise(300, 300), compression="zlib")
    monkeypatch.setattr(tiff, "MAX_PIXELS", 1000)
    with pytest.raises(UserError, match="declares 300 × 300 pixels"):
        read_info(tmp_path / "a.tif")


def test_no_damage_to_a_file_gives_anything_but_an_image_or_one_line(tmp_path, noise):
    rng, complaints = np.random.default_rng(5), []
    tifffile.imwrite(tmp_path / "a.tif", noise(40, 40), compression="zlib", resolution=(1, 1))
    write_tiff(tmp_path / "b.tif", noise(2, 30, 30), pixel_size_um=0.5, channel_names=("x", "y"))
    Image.fromarray(noise(30, 30, 3)).save(tmp_path / "c.png")
    Image.fromarray(noise(30, 30)).save(tmp_path / "d.bmp")
    for source in sorted(tmp_path.iterdir()):
        whole = source.read_bytes()
        for _ in range(60):
            broken = bytearray(whole)
            header = rng.integers(0, 300, 3)
            for place in np.concatenate([header, rng.integers(0, len(whole), 2)]) % len(whole):
                broken[place] = rng.integers(256)
            (tmp_path / "broken").write_bytes(bytes(broken))
            try:
                assert read_image(tmp_path / "broken").ndim == 3
            except UserError as error:
                complaints.append(str(error))
    assert complaints
    assert not [text for text in complaints if "\n" in text]


def test_an_image_beyond_memory_says_so(tmp_path, noise, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", noise(9, 9))

    def refuse(*_args, **_kwargs):
        raise MemoryError

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", refuse)
    with pytest.raises(UserError, match="too large for this computer's memory; cut it into tiles"):
        read_image(tmp_path / "a.tif")


def test_missing_files_folders_and_dead_links_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="does not exist; check the path"):
        read_image(tmp_path / "none.tif")
    with pytest.raises(UserError, match="is a folder; choose an image file in it"):
        read_image(tmp_path)
    (tmp_path / "link.tif").symlink_to(tmp_path / "gone.tif")
    assert find_images(tmp_path) == [(tmp_path / "link.tif", "")]
    with pytest.raises(UserError, match="does not exist"):
        read_image(tmp_path / "link.tif")


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
@pytest.mark.parametrize("shape", [(17, 23), (1, 17, 23), (2, 17, 23), (3, 17, 23), (6, 17, 23)])
def test_what_is_written_is_read_back(tmp_path, dtype, shape):
    image = np.random.default_rng(2).integers(0, 200, shape).astype(dtype)
    write_tiff(tmp_path / "a.tif", image, pixel_size_um=0.31)
    pixels, info = read_image_with_info(tmp_path / "a.tif")
    np.testing.assert_array_equal(pixels, image.reshape(-1, 17, 23))
    assert info.pixel_size_um == pytest.approx(0.31, rel=1e-4)


def test_channel_names_survive(tmp_path, noise):
    write_tiff(tmp_path / "a.tif", noise(2, 9, 9), channel_names=("nuclei", "actin"))
    assert read_info(tmp_path / "a.tif").channel_names == ("nuclei", "actin")
    write_tiff(tmp_path / "b.tif", noise(9, 9), channel_names=("nuclei",))
    assert read_info(tmp_path / "b.tif").channel_names == ("nuclei",)


def test_writing_other_shapes_is_a_mistake_of_the_caller(tmp_path, noise):
    with pytest.raises(ValueError, match="expected"):
        write_tiff(tmp_path / "a.tif", noise(2, 2, 2, 2))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path, noise, monkeypatch):
    import errno

    write_tiff(tmp_path / "a.tif", np.ones((4, 4), np.uint8))

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", full)
    with pytest.raises(UserError, match="disk is full"):
        write_tiff(tmp_path / "a.tif", noise(4, 4))
    monkeypatch.undo()
    assert (read_image(tmp_path / "a.tif") == 1).all()


# ---------------------------------------------------------------- real files

REAL = {
    "dsb2018/images": {},
    "phase_usiigaci/images": {},
    "multichannel/bbbc013": {},
    "multichannel/ExampleFly": {},
    "multichannel/ExampleHuman": {},
    "multichannel/neubias_nuclei_tubulin": {},
    "vampire_mef/MEF_wildtype": {},
    "timelapse_mitocheck": {},
    "stardist_sample": {"img3d.tif": "stack of 31 planes", "mask3d.tif": "stack of 31 planes"},
}


@pytest.mark.parametrize("folder", REAL)
def test_real_files_are_read_or_refused_in_words(folder):
    if not (DATA / folder).is_dir():
        pytest.skip(f"no test data at {DATA} (set CELL_CURATOR_DATA)")
    found = find_images(DATA / folder)
    chosen = found[:: max(1, len(found) // 6)] if len(found) > 8 else found
    refused = {}
    for path, _ in chosen:
        try:
            info, (pixels, same) = read_info(path), read_image_with_info(path)
        except UserError as error:
            refused[path.name] = str(error)
            continue
        assert info == same
        assert info.shape == pixels.shape
        assert pixels.dtype in (np.uint8, np.uint16)
        assert pixels.max() > pixels.min()
    assert refused.keys() == REAL[folder].keys()
    assert all(words in refused[name] for name, words in REAL[folder].items())
