"""Every format with masks: out, read by the other side's own reader, and in again, pixel by pixel."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from skimage.measure import grid_points_in_poly

from cell_curator.core.cells import CellTable
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.measure import measure
from cell_curator.io.formats import cellpose_seg, coco, dsb2018, geojson, imagej, label_files, ngff
from cell_curator.io.formats.base import Content, Labelled
from cell_curator.io.formats.registry import FORMATS, WRITTEN, by_name, find
from cell_curator.io.labels import read_labels
from cell_curator.io.records import ImageRecord
from cell_curator.io.tiff import write_tiff
from hard_labels import HARD, many

NAME = "Kontrolle 1/Zelle ä 日本 – 2"
WITH_MASKS = [form for form in WRITTEN if form.lossless]
VERDICTS = ("proposed", "accepted", "edited", "rejected", "locked")


def content_of(labels, tmp_path, pixel_size_um=None, name=NAME):
    """A project of one image."""
    pixels = np.stack([labels % 251, labels % 7]).astype(np.uint8)
    path = tmp_path / "originals" / f"{name}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tiff(path, pixels)
    condition = name.partition("/")[0]
    record = ImageRecord(7, name, path, condition, ("DNA", "actin"), pixel_size_um, (2, *labels.shape))
    values = np.unique(labels[labels > 0])
    if len(values) < 1000 and labels.max() < 10_000:
        frame = measure(labels, pixels)
    else:
        frame = pd.DataFrame({k: np.zeros(len(values)) for k in measure(HARD["full"], HARD["full"])}, index=values)
    verdicts = [VERDICTS[n % len(VERDICTS)] for n in range(len(values))]
    frame = frame.assign(image=7, label=values, verdict=verdicts, condition=condition)
    cells = CellTable(frame.set_index(pd.Index(100 + 3 * np.arange(len(values))))).frame
    return Content("Study", (record,), cells, lambda _: Labelled(record, labels, cells, lambda: pixels))


def round_trip(form, labels, tmp_path, **options):
    """(what came in, file written)."""
    content = content_of(labels, tmp_path, **options)
    (path,) = drive(form.write(content, tmp_path / "out"))
    found, files = find(tmp_path / "out", form)
    assert found is form
    ((where, name),) = files
    assert where == path
    (incoming,) = form.read(where, name, lambda wanted: labels.shape)
    return incoming, path


def filled(rings, shape):
    """Even-odd filling of rings with vertices on corners of pixels, by scikit-image."""
    mask = np.zeros(shape, bool)
    for ring in rings:
        inside = grid_points_in_poly((2 * shape[0] + 1, 2 * shape[1] + 1), 2 * np.asarray(ring, float)[:, ::-1])
        mask ^= inside[1::2, 1::2]
    return mask


# ---------------------------------------------------------------------- all formats


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("form", WITH_MASKS, ids=lambda form: form.name)
def test_masks_come_back_pixel_by_pixel(form, case, tmp_path):
    incoming, path = round_trip(form, HARD[case], tmp_path)
    assert incoming.labels.dtype == np.int32
    np.testing.assert_array_equal(incoming.labels, HARD[case])
    assert incoming.notes == ()
    assert path.is_relative_to(tmp_path / "out")


@pytest.mark.parametrize("form", [f for f in WITH_MASKS if f.name not in ("labels", "png")], ids=lambda form: form.name)
def test_verdicts_come_back_with_the_masks(form, tmp_path):
    labels = HARD["gaps in the numbers"]
    incoming, _ = round_trip(form, labels, tmp_path)
    assert incoming.verdicts == {3: "proposed", 70: "accepted", 4000: "edited"}


@pytest.mark.parametrize("form", WITH_MASKS, ids=lambda form: form.name)
def test_numbers_above_sixteen_bits(form, tmp_path):
    labels = np.zeros((9, 40), np.int32)
    labels[2:4, 5:9], labels[6:, 20:], labels[0, 0] = 65_535, 65_536, 2**31 - 1
    if form is label_files.PNG:
        with pytest.raises(UserError, match="PNG ends at 65535"):
            round_trip(form, labels, tmp_path)
    else:
        incoming, _ = round_trip(form, labels, tmp_path)
        np.testing.assert_array_equal(incoming.labels, labels)


_MANY_SECONDS = (imagej.FORMAT, geojson.FORMAT, coco.FORMAT, coco.POLYGONS, ngff.FORMAT, cellpose_seg.FORMAT)


@pytest.mark.parametrize(
    "form",
    [pytest.param(f, marks=pytest.mark.slow if f in _MANY_SECONDS else ()) for f in WITH_MASKS],
    ids=lambda form: form.name,
)
def test_more_cells_than_sixteen_bits_can_number(form, tmp_path):
    labels = many()
    if form is label_files.PNG:
        with pytest.raises(UserError, match=r"has the label 66000 and PNG ends at 65535; export label TIFFs"):
            round_trip(form, labels, tmp_path)
    else:
        incoming, _ = round_trip(form, labels, tmp_path)
        np.testing.assert_array_equal(incoming.labels, labels)


@pytest.mark.parametrize("form", WITH_MASKS, ids=lambda form: form.name)
def test_huge_coordinates(form, tmp_path):
    labels = np.zeros((3, 70_000), np.int32)
    labels[:2, 69_990:] = 1
    labels[0, 69_995] = 0
    labels[1:, 65_530:65_540] = 2
    incoming, _ = round_trip(form, labels, tmp_path)
    np.testing.assert_array_equal(incoming.labels, labels)


@pytest.mark.parametrize("form", WITH_MASKS, ids=lambda form: form.name)
def test_a_name_that_leads_out_of_the_folder_is_refused(form, tmp_path):
    content = content_of(HARD["touching"], tmp_path)
    evil = replace(content.records[0], name="../../evil")
    content = replace(
        content, records=(evil,), load=lambda _: replace(content_of(HARD["touching"], tmp_path).load(evil), record=evil)
    )
    if form.name.startswith("coco"):  # names are only texts there
        assert drive(form.write(content, tmp_path / "a" / "out")) == (tmp_path / "a" / "out" / "annotations.json",)
    else:
        with pytest.raises(UserError, match="leads out of"):
            drive(form.write(content, tmp_path / "a" / "out"))
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("link", [False, True])
def test_an_original_is_never_written_to(tmp_path, link):
    content = content_of(HARD["touching"], tmp_path)
    original = content.records[0].path.read_bytes()
    out = tmp_path / "originals"
    if link:
        (tmp_path / "link").symlink_to(out, target_is_directory=True)
        out = tmp_path / "link"
    with pytest.raises(UserError, match="is an original image, which is never written to; choose another folder"):
        drive(label_files.TIFF.write(content, out))
    assert content.records[0].path.read_bytes() == original


def test_names_and_aliases_are_unambiguous():
    names = [name for form in FORMATS for name in (form.name, *form.aliases)]
    assert len(names) == len(set(names))
    assert by_name(" QuPath ") is geojson.FORMAT
    for form in FORMATS:
        assert form.title
        assert form.write or form.read
    with pytest.raises(UserError, match="xyz: is no format known here; use one of csv, labels"):
        by_name("xyz")


# ---------------------------------------------------------------------- Cellpose


@pytest.mark.parametrize("case", HARD)
def test_cellpose_loads_masks_and_training_data(case, tmp_path):
    from cellpose.io import load_train_test_data

    labels = HARD[case]
    content = content_of(labels, tmp_path)
    record = content.records[0]
    (path,) = drive(cellpose_seg.write(content, tmp_path / "originals"))
    assert path.parent == record.path.parent
    assert path.name == f"{record.path.stem}_seg.npy"
    _, masks, names, *_ = load_train_test_data(str(path.parent), mask_filter="_seg.npy")
    assert names == [str(record.path)]
    np.testing.assert_array_equal(masks[0] > 0, labels > 0)
    numbers = np.unique(labels[labels > 0])
    assert np.unique(masks[0][masks[0] > 0]).tolist() == list(range(1, len(numbers) + 1))
    for number, label in enumerate(numbers, 1):
        np.testing.assert_array_equal(masks[0] == number, labels == label)


class _Window:
    """What Cellpose's loader asks of its window, without one."""

    NZ = 1
    colormap = np.arange(3_000_000).reshape(-1, 3) % 255

    def __init__(self):
        self.called = []
        self.cellpix = None

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        from unittest.mock import MagicMock

        self.__dict__[name] = made = MagicMock(name=name)
        return made


def test_cellposes_window_finds_everything_in_the_file(tmp_path, monkeypatch, capsys):
    gui_io = pytest.importorskip("cellpose.gui.io", exc_type=ImportError)
    monkeypatch.setattr(gui_io, "_initialize_images", lambda parent, image, load_3D: None)
    labels = HARD["gaps in the numbers"]
    content = content_of(labels, tmp_path)
    (path,) = drive(cellpose_seg.write(content, tmp_path / "elsewhere"))
    window = _Window()
    gui_io._load_seg(window, filename=str(path))
    assert "ERROR" not in capsys.readouterr().out
    assert window.filename == str(content.records[0].path)
    assert window.ncells == 3
    assert window.ismanual.tolist() == [False, True, True]
    np.testing.assert_array_equal(window.cellpix[0] > 0, labels > 0)
    assert window.diameter == pytest.approx(2 * np.sqrt(4 / np.pi))


def test_a_file_of_cellposes_own_is_read_with_its_hand_drawn_cells(tmp_path):
    from cellpose.io import masks_flows_to_seg

    masks = HARD["touching"].astype(np.uint16)
    flows = [np.zeros((*masks.shape, 3), np.uint8), np.zeros((2, *masks.shape), np.float32), masks.astype(np.float32)]
    masks_flows_to_seg(np.ones(masks.shape), masks, flows, str(tmp_path / "a b.png"), diams=17.0)
    path = tmp_path / "a b_seg.npy"
    content = np.load(path, allow_pickle=True).item()
    content["ismanual"][1] = True
    np.save(path, content, allow_pickle=True)
    (incoming,) = cellpose_seg.read(path, "a b", None)
    np.testing.assert_array_equal(incoming.labels, masks)
    assert incoming.verdicts == {2: "edited"}


def test_masks_changed_in_cellpose_since_are_taken_as_they_are(tmp_path):
    _, path = round_trip(cellpose_seg.FORMAT, HARD["gaps in the numbers"], tmp_path)
    content = np.load(path, allow_pickle=True).item()
    content["masks"][content["masks"] == 3] = 0
    content["ismanual"] = content["ismanual"][:2]
    np.save(path, content, allow_pickle=True)
    (incoming,) = cellpose_seg.read(path, "a", None)
    assert np.unique(incoming.labels).tolist() == [0, 1, 2]
    assert incoming.verdicts == {2: "edited"}


def test_what_is_no_plane_of_masks_is_refused(tmp_path):
    np.save(tmp_path / "a_seg.npy", {"masks": np.zeros((2, 3, 4), int)}, allow_pickle=True)
    with pytest.raises(UserError, match=r"shape \(2, 3, 4\), a stack"):
        list(cellpose_seg.read(tmp_path / "a_seg.npy", "a", None))
    np.save(tmp_path / "a_seg.npy", np.zeros((3, 4)))
    with pytest.raises(UserError, match="holds no masks, so it is not from Cellpose"):
        list(cellpose_seg.read(tmp_path / "a_seg.npy", "a", None))


# ---------------------------------------------------------------------- label images


@pytest.mark.parametrize("case", HARD)
def test_tifffile_and_pillow_see_the_same_labels(case, tmp_path):
    _, path = round_trip(label_files.TIFF, HARD[case], tmp_path, pixel_size_um=0.25)
    np.testing.assert_array_equal(tifffile.imread(path), HARD[case])
    _, path = round_trip(label_files.PNG, HARD[case], tmp_path / "png")
    with Image.open(path) as picture:
        assert picture.mode.startswith("I")
        np.testing.assert_array_equal(np.asarray(picture), HARD[case])


# ---------------------------------------------------------------------- ImageJ


@pytest.mark.parametrize("case", [name for name in HARD if name != "empty"])
def test_roifile_reads_outlines_that_fill_to_the_masks(case, tmp_path):
    import roifile

    labels = HARD[case]
    _, path = round_trip(imagej.FORMAT, labels, tmp_path)
    rois = roifile.roiread(path)
    assert len(rois) == len(np.unique(labels[labels > 0]))
    for roi in rois:
        mask = labels == int(roi.name)
        np.testing.assert_array_equal(filled(roi.coordinates(multi=True), labels.shape), mask)
        assert roi.properties["label"] == int(roi.name)
        y, x = np.nonzero(mask)
        assert (roi.left, roi.top, roi.right, roi.bottom) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
        simple = len(roi.coordinates(multi=True)) == 1
        assert roi.roitype == (roifile.ROI_TYPE.TRACED if simple else roifile.ROI_TYPE.RECT)
        assert roi.composite != simple


def test_rois_drawn_in_imagej_are_read(tmp_path):
    import roifile

    square = roifile.ImagejRoi.frompoints(np.array([[2, 1], [6, 1], [6, 4], [2, 4]]), name="by hand")
    point = roifile.ImagejRoi.frompoints([[1, 1]], name="a point")
    point.roitype = roifile.ROI_TYPE.POINT
    box = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=0, top=6, right=3, bottom=8)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, roi in (("x.roi", square), ("y.roi", point), ("z.roi", box)):
            archive.writestr(name, roi.tobytes())
        archive.writestr("notes.txt", "not a ROI")
    (incoming,) = imagej.read(tmp_path / "a.zip", "a", lambda name: (9, 9))
    expected = np.zeros((9, 9), int)
    expected[1:4, 2:6], expected[6:8, :3] = 1, 2
    np.testing.assert_array_equal(incoming.labels, expected)
    assert incoming.notes == ("1 ROIs are no areas and were left out",)
    square.tofile(tmp_path / "b.roi")
    (incoming,) = imagej.read(tmp_path / "b.roi", "b", lambda name: (9, 9))
    assert (incoming.labels == 1).sum() == 12


def test_an_archive_writes_nothing_anywhere(tmp_path):
    import roifile

    roi = roifile.ImagejRoi.frompoints(np.array([[0, 0], [2, 0], [2, 2], [0, 2]]))
    folder = tmp_path / "deep" / "down"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name in ("../../evil.roi", "/tmp/evil.roi", "..\\evil.roi", "link/../../evil2.roi"):
            archive.writestr(name, roi.tobytes())
    before = sorted(tmp_path.rglob("*"))
    (incoming,) = imagej.read(folder / "a.zip", "a", lambda name: (4, 4))
    assert (incoming.labels > 0).sum() == 4
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", b"Iout" + b"\x00" * 9])
def test_a_damaged_archive_is_said_in_one_line(tmp_path, content):
    for name in ("a.zip", "a.roi"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="is damaged or no ImageJ ROI archive") as refusal:
            list(imagej.read(tmp_path / name, "a", lambda name: (4, 4)))
        assert "\n" not in str(refusal.value)


def test_curves_and_broken_rois_are_named(tmp_path):
    import roifile

    for path, words in (
        ([0, 0, 0, 2, 3, 3, 4, 4, 4], "the ROI 1 has curves, which are not read"),
        ([7, 0, 0], "the ROI 1 is damaged"),
        ([np.inf, 0, 0], "the ROI 1 is damaged"),
        ([0, 0, 0, 1, np.nan, 3, 1, 3, 0, 4], "corners that are no numbers"),
    ):
        roi = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, right=5, bottom=5, shape_roi_size=len(path))
        roi.multi_coordinates = np.array(path, np.float32)
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("1.roi", roi.tobytes())
        with pytest.raises(UserError, match=words):
            list(imagej.read(tmp_path / "a.zip", "a", lambda name: (9, 9)))


# ---------------------------------------------------------------------- COCO


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("form", [coco.FORMAT, coco.POLYGONS], ids=lambda form: form.name)
def test_pycocotools_sees_the_same_masks(form, case, tmp_path, capsys):
    from pycocotools.coco import COCO

    labels = HARD[case]
    _, path = round_trip(form, labels, tmp_path)
    read = COCO(str(path))
    assert [category["name"] for category in read.loadCats(read.getCatIds())] == ["Kontrolle 1"]
    (image,) = read.loadImgs(read.getImgIds())
    assert image["file_name"] == NAME + ".tif"
    annotations = read.loadAnns(read.getAnnIds(imgIds=[image["id"]]))
    assert len(annotations) == len(np.unique(labels[labels > 0]))
    for annotation in annotations:
        mask = labels == annotation["attributes"]["label"]
        np.testing.assert_array_equal(read.annToMask(annotation), mask)
        y, x = np.nonzero(mask)
        assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert annotation["area"] == mask.sum()


def test_run_lengths_are_those_of_pycocotools(rng):
    from pycocotools import mask as reference

    for density in (0.02, 0.5, 0.98, 1.0):
        mask = rng.random((37, 41)) < density
        theirs = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
        ours = coco.encode(mask, 0, 0, mask.shape)
        assert ours["counts"] == theirs["counts"].decode()
        assert set(zip(*coco.decode(ours, mask.shape), strict=True)) == set(zip(*np.nonzero(mask), strict=True))
    part = coco.encode(mask[:5, :6], 10, 20, (50, 60))
    np.testing.assert_array_equal(reference.decode(part)[10:15, 20:26], mask[:5, :6])


def test_polygons_are_polygons_unless_a_cell_has_a_hole(tmp_path):
    _, path = round_trip(coco.POLYGONS, HARD["holes"], tmp_path)
    shapes = {a["attributes"]["label"]: a["segmentation"] for a in json.loads(path.read_text())["annotations"]}
    assert isinstance(shapes[6], list)
    assert isinstance(shapes[5], dict)


def test_a_coco_file_of_others_with_overlaps_and_uncompressed_runs(tmp_path):
    square = [0, 0, 4, 0, 4, 4, 0, 4]
    document = {
        "images": [{"id": "x", "file_name": "sub\\a.b.png", "height": 6, "width": 5}],
        "annotations": [
            {"id": 1, "image_id": "x", "category_id": 1, "segmentation": [square]},
            {"id": 2, "image_id": "x", "category_id": 1, "segmentation": {"size": [6, 5], "counts": [0, 30]}},
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    (incoming,) = coco.read(tmp_path / "a.json", "", lambda name: (6, 5))
    assert incoming.name == "sub/a.b"
    assert np.bincount(incoming.labels.ravel()).tolist() == [0, 16, 14]
    assert incoming.notes == ("1 outlines overlap others; shared pixels went to the first of them",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no readable JSON"),
        ("[" * 100_000, "is no readable JSON"),
        ("[]", "so it is no COCO file"),
        ('{"images": [{"id": 1, "file_name": "a", "height": 4}], "annotations": []}', "broken COCO file"),
        ('{"images": [{"id": 1, "file_name": "a", "height": -4, "width": 4}], "annotations": []}', "broken COCO file"),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": 4, "width": 4}], "annotations": '
            '[{"image_id": 1, "segmentation": {"size": [4, 4], "counts": [0, 999999999]}}]}',
            "do not fill the image",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": 4, "width": 4}], "annotations": '
            '[{"image_id": 1, "segmentation": {"size": [4, 4], "counts": "ooooooooooooooooooooooo"}}]}',
            "no run lengths",
        ),
    ],
)
def test_a_broken_coco_file_is_said_in_one_line(tmp_path, text, words):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=words):
        list(coco.read(tmp_path / "a.json", "", lambda name: (4, 4)))


def test_a_size_that_is_not_the_images_costs_no_memory(tmp_path):
    images = [{"id": n, "file_name": f"{n}.png", "height": 10**6, "width": 10**7} for n in (1, 2)]
    annotations = [{"image_id": 1, "segmentation": {"size": [10**6, 10**7], "counts": [0, 10**13]}}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    found = list(coco.read(tmp_path / "a.json", "", lambda name: (4, 4)))
    assert [(one.name, one.labels.shape) for one in found] == [("1", (10**6, 10**7)), ("2", (10**6, 10**7))]
    _, path = round_trip(ngff.FORMAT, HARD["touching"], tmp_path)
    about = path / "labels" / "cells" / "0" / "zarr.json"
    text = json.loads(about.read_text())
    about.write_text(json.dumps({**text, "shape": [10**6, 10**7]}))
    with pytest.raises(UserError, match="labels are 10000000 × 1000000 px but the image is 16 × 12 px"):
        list(ngff.read(path, "a", lambda name: (12, 16)))


# ---------------------------------------------------------------------- GeoJSON


@pytest.mark.parametrize("case", HARD)
def test_geojson_features_fill_to_the_masks(case, tmp_path):
    labels = HARD[case]
    _, path = round_trip(geojson.FORMAT, labels, tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["type"] == "FeatureCollection"
    assert len({feature["id"] for feature in document["features"]}) == len(np.unique(labels[labels > 0]))
    for feature in document["features"]:
        geometry, properties = feature["geometry"], feature["properties"]
        polygons = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
        rings = [ring for polygon in polygons for ring in polygon]
        assert all(ring[0] == ring[-1] for ring in rings)
        mask = labels == int(properties["name"])
        np.testing.assert_array_equal(filled([ring[:-1] for ring in rings], labels.shape), mask)
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] == "Kontrolle 1"
        assert properties["measurements"]["area"] == mask.sum()
        assert all(isinstance(text, str) for text in properties["metadata"].values())


def test_annotations_drawn_in_qupath_are_read(tmp_path):
    ring = [[1.2, 1.0], [5.7, 1.0], [5.7, 4.4], [1.2, 4.4], [1.2, 1.0]]
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}},
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}, "properties": None},
        {"type": "Feature", "geometry": None, "properties": {"metadata": 3}},
    ]
    (tmp_path / "a.geojson").write_text("\ufeff" + json.dumps(features), encoding="utf-8")
    (incoming,) = geojson.read(tmp_path / "a.geojson", "a", lambda name: (6, 8))
    assert np.argwhere(incoming.labels == 1).min(axis=0).tolist() == [1, 1]
    assert (incoming.labels == 1).sum() == 3 * 5
    assert incoming.notes == ("2 objects are no areas and were left out",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"type": "FeatureCollection"}', "has no “features”"),
        ('[{"geometry": {"type": "Polygon", "coordinates": [[1, 2]]}}]', "is broken GeoJSON"),
        (
            '[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [NaN, 2], [3, 3], [0, 0]]]}}]',
            "corners that are no numbers",
        ),
        ("3", "has no “features”"),
    ],
)
def test_broken_geojson_is_said_in_one_line(tmp_path, text, words):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(UserError, match=words):
        list(geojson.read(tmp_path / "a.geojson", "a", lambda name: (6, 8)))


# ---------------------------------------------------------------------- OME-Zarr


@pytest.mark.filterwarnings("ignore")  # ome-zarr's own
@pytest.mark.parametrize("case", HARD)
def test_ome_zarr_reads_image_labels_and_properties(case, tmp_path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    labels = HARD[case]
    _, path = round_trip(ngff.FORMAT, labels, tmp_path, pixel_size_um=0.325)
    image, *others = list(Reader(parse_url(str(path)))())
    assert image.data[0].shape == (2, *labels.shape)
    np.testing.assert_array_equal(np.asarray(image.data[0])[0], labels % 251)
    (cells,) = [node for node in others if node.data]
    np.testing.assert_array_equal(np.asarray(cells.data[0]), labels)
    assert cells.metadata["coordinateTransformations"] == [[{"type": "scale", "scale": [0.325, 0.325]}]]
    assert [axis["name"] for axis in cells.metadata["axes"]] == ["y", "x"]
    said = cells.metadata.get("properties", {})
    assert set(said) == set(np.unique(labels[labels > 0]).tolist())
    assert all(about["condition"] == "Kontrolle 1" for about in said.values())


@pytest.mark.filterwarnings("ignore")
def test_the_store_is_valid_by_the_specification(tmp_path):
    import zarr
    from ome_zarr_models.v05 import Image as ImageModel
    from ome_zarr_models.v05.image_label import ImageLabel

    _, path = round_trip(ngff.FORMAT, HARD["touching"], tmp_path, pixel_size_um=0.5)
    image = ImageModel.from_zarr(zarr.open_group(str(path), mode="r"))
    assert image.ome_attributes.multiscales[0].axes[1].unit == "micrometer"
    label = ImageLabel.from_zarr(zarr.open_group(str(path / "labels" / "cells"), mode="r"))
    assert label.ome_attributes.version == "0.5"


@pytest.mark.filterwarnings("ignore")
def test_labels_written_by_ome_zarr_itself_are_read(tmp_path):
    import zarr
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image, write_labels

    labels = np.pad(HARD["noise"], ((0, 20), (0, 20)))
    for form in (FormatV04(), FormatV05()):
        path = tmp_path / f"{form.version}.zarr"
        root = zarr.open_group(str(path), mode="w", zarr_format=form.zarr_format)
        write_image(labels[None].astype(np.uint16), root, axes="cyx", fmt=form)
        write_labels(labels[None], root, name="nuclei", axes="cyx", fmt=form)
        (incoming,) = ngff.read(path, "a", lambda name: labels.shape)
        np.testing.assert_array_equal(incoming.labels, labels)


@pytest.mark.filterwarnings("ignore")
def test_a_store_that_wants_to_unpickle_is_refused(tmp_path):
    import numcodecs
    import zarr

    path = tmp_path / "a.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", shape=(4, 4), chunks=(4, 4), dtype="i4", filters=[numcodecs.Pickle()], compressors=None)
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    group.attrs["image-label"] = {"version": "0.4"}
    with pytest.raises(UserError, match="is packed with “pickle”, which is not read here"):
        list(ngff.read(path, "a", None))


def test_a_store_without_labels_and_a_broken_one(tmp_path):
    _, path = round_trip(ngff.FORMAT, HARD["touching"], tmp_path)
    (path / "labels" / "cells" / "0" / "zarr.json").write_text("{}")
    with pytest.raises(UserError, match="is a broken OME-Zarr"):
        list(ngff.read(path, "a", None))
    for file in Path(path / "labels").rglob("zarr.json"):
        file.unlink()
    with pytest.raises(UserError, match="holds no label images"):
        list(ngff.read(path, "a", None))


def test_a_folder_that_is_no_store_is_not_replaced(tmp_path):
    folder = tmp_path / "out" / f"{NAME}.ome.zarr"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already and is no OME-Zarr"):
        round_trip(ngff.FORMAT, HARD["touching"], tmp_path)
    assert (folder / "thesis.txt").read_text() == "mine"
    assert len(list(folder.parent.iterdir())) == 1


# ---------------------------------------------------------------------- Data Science Bowl


def nuclei(folder, masks, shape=(8, 9)):
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    Image.fromarray(np.zeros((*shape, 4), np.uint8)).save(folder / "images" / "ab12.png")
    for number, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{number}.png")
    return folder


def test_nuclei_are_merged_and_overlaps_told(tmp_path):
    masks = np.zeros((3, 8, 9), bool)
    masks[0, 1:4, 1:4] = masks[1, 3:6, 3:6] = masks[2, 7, 7] = masks[2, 0, 8] = True
    (incoming,) = dsb2018.read(nuclei(tmp_path / "ab12", masks), "ab12", None)
    assert incoming.name == "ab12/images/ab12"
    assert np.bincount(incoming.labels.ravel()).tolist() == [72 - 9 - 8 - 2, 9, 8, 2]
    assert incoming.notes == ("1 outlines overlap others; shared pixels went to the first of them",)
    np.testing.assert_array_equal(read_labels(tmp_path / "ab12"), incoming.labels)


def test_nuclei_of_another_size_and_folders_without_an_image(tmp_path):
    folder = nuclei(tmp_path / "ab12", np.ones((1, 3, 3), bool))
    with pytest.raises(UserError, match=r"0\.png: is 3 × 3 px but its image is 9 × 8 px"):
        list(dsb2018.read(folder, "ab12", None))
    (folder / "images" / "ab12.png").unlink()
    with pytest.raises(UserError, match="holds 0 images; one is needed"):
        list(dsb2018.read(folder, "ab12", None))


def test_labels_are_read_from_seg_files_too(tmp_path):
    _, path = round_trip(cellpose_seg.FORMAT, HARD["holes"], tmp_path)
    np.testing.assert_array_equal(read_labels(path), HARD["holes"])
    with pytest.raises(UserError, match="is a folder; choose a label image in it"):
        read_labels(tmp_path)
