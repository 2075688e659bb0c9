"""COCO files to learn cell types from: what is read, what is left out and said, what is refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.io.formats.coco import encode
from cell_curator.io.formats.coco_types import read_typed
from cell_curator.io.tiff import write_tiff

SHAPE = (20, 30)
SQUARE = [2, 3, 8, 3, 8, 9, 2, 9]  # x, y of corners: columns 2..7, rows 3..8


def annotation(number, segmentation, category=1, image=1, **more):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": 0,
        **more,
    }


@pytest.fixture
def write(tmp_path):
    """Write a COCO file of one or two images with these annotations."""

    def make(annotations, files=("a.tif",), **more):
        for name in files:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            write_tiff(tmp_path / name, np.arange(600, dtype=np.uint16).reshape(1, *SHAPE))
        document = {
            "images": [
                {"id": number, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
                for number, name in enumerate(files, 1)
            ],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "HEK"}, {"id": 2, "name": "N2a"}],
            **more,
        }
        path = tmp_path / "cells.json"
        path.write_text(json.dumps(document))
        return path

    return make


def test_polygons_and_run_lengths_and_cells_that_touch(write):
    mask = np.ones((6, 6), bool)
    beside = [8, 3, 12, 3, 12, 9, 8, 9]
    path = write([annotation(5, [SQUARE]), annotation(6, [beside], 2), annotation(7, encode(mask, 10, 20, SHAPE), 2)])
    read = drive(read_typed(path))
    assert read.types == ("HEK", "N2a")
    assert not read.notes
    one = read.images[0]
    assert one.types == {1: "HEK", 2: "N2a", 3: "N2a"}
    assert (one.labels[3:9, 2:8] == 1).all()
    assert (one.labels[3:9, 8:12] == 2).all()
    assert (one.labels[10:16, 20:26] == 3).all()
    assert (one.labels > 0).sum() == 36 + 24 + 36


def test_outlines_that_overlap_are_said(write):
    read = drive(read_typed(write([annotation(1, [SQUARE]), annotation(2, [[5, 5, 15, 5, 15, 15, 5, 15]], 2)])))
    assert "1 outlines overlap" in read.notes[0]
    assert np.unique(read.images[0].labels).tolist() == [0, 1, 2]


def test_images_with_crowds_are_left_out_and_said(write):
    crowd = {"size": list(SHAPE), "counts": [0, 600]}
    annotations = [annotation(1, [SQUARE]), annotation(2, crowd, image=2, iscrowd=1)]
    read = drive(read_typed(write(annotations, ("a.tif", "b.tif"))))
    assert [one.path.name for one in read.images] == ["a.tif"]
    assert "crowds" in read.notes[0]
    assert "b.tif" in read.notes[0]
    with pytest.raises(UserError, match="no outlined cell to learn from"):
        drive(read_typed(write([annotation(2, crowd, iscrowd=1)])))


def test_images_lie_beside_or_where_they_are_said_to(write, tmp_path):
    path = write([annotation(1, [SQUARE])], ("sub/a.tif",))
    assert drive(read_typed(path)).images[0].path == tmp_path / "sub" / "a.tif"
    assert drive(read_typed(path, tmp_path / "sub")).images[0].path == tmp_path / "sub" / "a.tif"
    (tmp_path / "sub" / "a.tif").unlink()
    with pytest.raises(UserError, match="1 of its 1 images are not in"):
        drive(read_typed(path))


@pytest.mark.parametrize(
    ("annotations", "more", "line"),
    [
        ([annotation(9, [SQUARE], 7)], {}, "annotation 9 is of category 7"),
        ([annotation(9, [SQUARE], image=7)], {}, "annotation 9 is in image 7"),
        ([annotation(9, [[62, 3, 80, 3, 80, 9]])], {}, "annotation 9 lies outside its image a.tif"),
        ([annotation(9, {"size": [20, 31], "counts": [0, 620]})], {}, "broken COCO file"),
        ([{"id": 9}], {}, "broken COCO file"),
        ([], {}, "no outlined cell"),
        ([annotation(9, [SQUARE])], {"categories": None}, "no COCO file of cell types"),
        (
            [annotation(9, [SQUARE])],
            {"images": [{"id": 1, "file_name": "a.tif", "height": 10, "width": 30}]},
            "is 20 × 30 px, but cells.json says 10 × 30",
        ),
    ],
)
def test_what_cannot_be_right_is_one_line(write, annotations, more, line):
    with pytest.raises(UserError, match=line) as caught:
        drive(read_typed(write(annotations, **more)))
    assert "\n" not in str(caught.value)


def test_an_outline_that_reaches_beyond_its_image_is_cut_there(write):
    """A cell at the border, drawn generously, is no reason to refuse the file."""
    read = drive(read_typed(write([annotation(1, [[20, 3, 40, 3, 40, 9, 20, 9]])])))
    labels = read.images[0].labels
    rows, columns = np.nonzero(labels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 8, 20, labels.shape[1] - 1)
    assert "1 outlines reach beyond" in read.notes[0]


def test_a_file_cannot_reach_outside_of_its_folder(write, tmp_path):
    path = write([annotation(1, [SQUARE])], ("a.tif",))
    document = json.loads(path.read_text())
    (tmp_path / "in").mkdir()
    document["images"][0]["file_name"] = "../a.tif"
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="not in"):
        drive(read_typed(path, tmp_path / "in"))
