"""COCO: one JSON file with the cells of all images, as run lengths or as polygons.

``coco`` writes compressed run lengths (RLE), exact for every mask. ``coco-polygons`` writes polygons
with vertices on corners of pixels, for tools that know nothing else; COCO's polygons have no
holes, so a cell with a hole is written as run lengths there too. Categories are the conditions;
label, id, verdict and cluster stand in each annotation's ``attributes``.

Run lengths are encoded and decoded here, so that a forged file is checked before memory is
asked for; tests compare with pycocotools.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, UserError, each
from cell_curator.io.atomic import write_atomic
from cell_curator.io.formats.base import (
    Content,
    Format,
    Incoming,
    Labelled,
    Shape,
    category,
    known_verdict,
    one_file,
    read_json,
)
from cell_curator.io.formats.outlines import Canvas, Polygon, numbered, trace
from cell_curator.io.records import ImageRecord

FILE = "annotations.json"
_KEPT = ("cell_id", "label", "verdict", "cluster", "flags")


def write(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``annotations.json`` with run lengths."""
    return (yield from _write(content, out, polygons=False))


def write_polygons(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``annotations.json`` with polygons."""
    return (yield from _write(content, out, polygons=True))


def _write(content: Content, out: Path, *, polygons: bool) -> Job[tuple[Path, ...]]:
    path = one_file(out, FILE)
    names = sorted({category({"condition": record.condition}) for record in content.records})
    categories = {name: number for number, name in enumerate(names, 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []

    def one(record: ImageRecord) -> Job[None]:
        image = content.load(record)
        height, width = image.labels.shape
        images.append(
            {
                "id": record.image_id,
                "file_name": record.name + record.path.suffix,
                "height": height,
                "width": width,
                "condition": record.condition,
                "pixel_size_um": record.pixel_size_um,
            }
        )
        annotations.extend(_annotations(image, categories, len(annotations) + 1, polygons))
        yield from ()

    yield from each(content.records, one, name=lambda record: record.name)
    document = {
        "info": {"description": content.title, "version": "1.0", "contributor": "Cell Curator"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": n, "name": name, "supercategory": "cell"} for name, n in categories.items()],
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    write_atomic(path, lambda file: file.write(text.encode()))
    return (path,)


def _annotations(image: Labelled, categories: dict[str, int], first: int, polygons: bool) -> Iterator[dict[str, Any]]:
    facts = image.facts()
    shapes = dict(trace(image.labels)) if polygons else {}
    for number, (label, box, mask) in enumerate(_masks(image.labels), first):
        about = facts.get(label, {"label": label})
        top, left = box[0].start, box[1].start
        pieces = shapes.get(label, [])
        flat = [ring[0].ravel().tolist() for ring in pieces]
        yield {
            "id": number,
            "image_id": image.record.image_id,
            "category_id": categories[category({"condition": image.record.condition})],
            "segmentation": flat if flat and not _has_holes(pieces) else encode(mask, top, left, image.labels.shape),
            "area": int(mask.sum()),
            "bbox": [left, top, mask.shape[1], mask.shape[0]],
            "iscrowd": 0,
            "attributes": {key: about[key] for key in _KEPT if key in about},
        }


def _has_holes(pieces: Sequence[Polygon]) -> bool:
    return any(len(piece) > 1 for piece in pieces)


def _masks(labels: NDArray[np.int32]) -> Iterator[tuple[int, tuple[slice, slice], NDArray[np.bool_]]]:
    """(label, box, mask in the box) of every cell."""
    from scipy import ndimage

    values = np.unique(labels)
    dense = np.searchsorted(values, labels) if len(values) and values[0] == 0 else np.searchsorted(values, labels) + 1
    for label, (number, box) in zip(
        values[values > 0].tolist(), enumerate(ndimage.find_objects(dense), 1), strict=True
    ):
        yield label, box, dense[box] == number


# ---------------------------------------------------------------------- run lengths


def encode(mask: NDArray[np.bool_], top: int, left: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """COCO's compressed run lengths (down the columns) of a mask that lies at (top, left) in an image."""
    height, width = shape
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1]), np.int8)
    padded[1:-1] = mask
    column, row = np.nonzero(np.diff(padded, axis=0).T)  # where runs start and end, in turn, column by column
    changes = (column + left) * height + row + top
    # a run that ends at the bottom and one that starts at the top of the next column are one
    joined = changes[:-1] == changes[1:]
    keep = ~(np.append(joined, False) | np.insert(joined, 0, False))
    runs = np.diff(np.concatenate([[0], changes[keep], [height * width]])).tolist()
    if len(runs) > 1 and runs[-1] == 0:  # the last pixel is of the cell
        runs.pop()
    return {"size": [height, width], "counts": _packed(runs)}


def _packed(runs: Sequence[int]) -> str:
    """Run lengths as text: differences to the last but one, five bits a character (as pycocotools)."""
    letters = []
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            letters.append(chr((bits | 32 if more else bits) + 48))
    return "".join(letters)


def _unpacked(text: str) -> list[int]:
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[position]) - 48
            if not 0 <= bits < 64 or shift > 60:
                raise ValueError("letters that are no run lengths")
            value |= (bits & 31) << shift
            more = bool(bits & 32)
            position += 1
            shift += 5
            if not more and bits & 16:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs


def decode(rle: dict[str, Any], shape: Shape) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the pixels of run lengths, compressed or not.

    Raises
    ------
    ValueError
        They do not fill an image of this shape.
    """
    counts = rle["counts"]
    runs = np.array(_unpacked(counts) if isinstance(counts, str) else counts, np.int64)
    if list(rle["size"]) != list(shape) or (runs < 0).any() or runs.sum() != shape[0] * shape[1]:
        raise ValueError("run lengths that do not fill the image")
    starts, lengths = (np.cumsum(runs) - runs)[1::2], runs[1::2]
    offsets = np.cumsum(lengths) - lengths
    pixels = np.arange(lengths.sum()) + np.repeat(starts - offsets, lengths)
    return pixels % shape[0], pixels // shape[0]


# ---------------------------------------------------------------------- reading


def read(path: Path, name: str, shape_of: Callable[[str], Shape]) -> Iterator[Incoming]:
    """The cells of every image of a COCO file; images are named by ``file_name`` without suffix.

    Raises
    ------
    UserError
        No COCO file, or an annotation in it is broken.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(part), list) for part in ("images", "annotations")
    ):
        raise UserError(f"{path}: has no “images” and “annotations”, so it is no COCO file; export it again")
    try:
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for annotation in document["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        for image in document["images"]:
            yield _incoming(image, by_image.get(image["id"], []), shape_of)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{path}: is a broken COCO file ({type(error).__name__}: {error}); export it again") from error


def _incoming(
    image: dict[str, Any], annotations: Sequence[dict[str, Any]], shape_of: Callable[[str], Shape]
) -> Incoming:
    """The cells of one image; none where it is not of the size of the project's, which the caller refuses."""
    shape = (int(image["height"]), int(image["width"]))
    name = Path(str(image["file_name"]).replace("\\", "/")).with_suffix("").as_posix()
    if not _fits(name, shape, shape_of):
        return Incoming(name, np.broadcast_to(np.int32(0), shape))
    about = [_attributes(annotation) for annotation in annotations]
    labels = numbered([a.get("label") if isinstance(a.get("label"), int) else None for a in about])
    canvas = Canvas.of(shape)
    verdicts = {}
    for label, annotation, attributes in zip(labels, annotations, about, strict=True):
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            canvas.put_pixels(label, *decode(segmentation, shape))
        else:
            canvas.put(label, [[np.array(ring, np.float64).reshape(-1, 2)] for ring in segmentation])
        verdict = known_verdict(attributes.get("verdict"))
        if verdict:
            verdicts[label] = verdict
    return Incoming(name, canvas.labels, verdicts, canvas.notes())


def _fits(name: str, shape: Shape, shape_of: Callable[[str], Shape]) -> bool:
    """Asked before any memory is: a forged file may claim any size."""
    try:
        return shape_of(name) == shape
    except UserError:
        return False


def _attributes(annotation: dict[str, Any]) -> dict[str, Any]:
    attributes = annotation.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


FORMAT = Format(
    name="coco",
    title="COCO (run lengths)",
    ending=FILE,
    lossless=True,
    cannot_hold="measurements",
    write=write,
    read=read,
    reads=(".json",),
    aliases=("coco-rle",),
)
POLYGONS = Format(
    name="coco-polygons",
    title="COCO (polygons)",
    ending=FILE,
    lossless=True,
    cannot_hold="measurements; cells with holes are written as run lengths",
    write=write_polygons,
    read=read,
    reads=(".json",),
    aliases=("coco-polygon",),
)
