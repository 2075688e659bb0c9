"""COCO files to learn cell types from: for each image its cells, and the type of each by its category.

Written by other tools, so nothing in such a file is taken for granted. What cannot be right is refused in one line;
what cannot be learned from is left out and said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.io.formats.base import Shape, read_json
from cell_curator.io.formats.coco import decode
from cell_curator.io.formats.outlines import Canvas
from cell_curator.io.images import read_info


@dataclass(frozen=True)
class TypedFile:
    """One image with its cells: ``labels`` ``(Y, X)`` int32, and the type of each label."""

    path: Path
    labels: NDArray[np.int32]
    types: Mapping[int, str]


@dataclass(frozen=True)
class TypedFiles:
    """All images of a COCO file, the types in the order of the file, and what was left out."""

    images: tuple[TypedFile, ...]
    types: tuple[str, ...]
    notes: tuple[str, ...]


def read_typed(path: Path, folder: Path | None = None) -> Job[TypedFiles]:
    """Read a COCO file and find its images.

    Parameters
    ----------
    folder
        Where the images lie; by default beside the file.

    Raises
    ------
    UserError
        No COCO file; an image is missing or of another size; an annotation is of a category or image that the file
        does not name, or lies outside its image; nothing is left to learn from.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not all(
        isinstance(document.get(part), list) for part in ("images", "annotations", "categories")
    ):
        raise UserError(f"{path}: has no “images”, “annotations” and “categories”, so it is no COCO file of cell types")
    try:
        return (yield from _read(path, folder or path.parent, document))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        raise UserError(f"{path}: is a broken COCO file ({type(error).__name__}: {error}); export it again") from error


def _read(path: Path, folder: Path, document: dict[str, Any]) -> Job[TypedFiles]:
    names = {one["id"]: " ".join(str(one["name"]).split()) for one in document["categories"]}
    known = {image["id"] for image in document["images"]}
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for one in document["annotations"]:
        if one["category_id"] not in names:
            raise UserError(
                f"{path}: annotation {one.get('id')} is of category {one['category_id']}, which it does not name; "
                "add that to its “categories”, or export it again with all of them"
            )
        if one["image_id"] not in known:
            raise UserError(
                f"{path}: annotation {one.get('id')} is in image {one['image_id']}, which it does not name; "
                "export it again together with its images"
            )
        by_image.setdefault(one["image_id"], []).append(one)
    files = _files(path, folder, document["images"])
    images, crowds, overlapping, cut = [], [], 0, 0
    for number, image in enumerate(document["images"]):
        yield Progress(number / len(document["images"]), str(image["file_name"]))
        annotations = by_image.get(image["id"], [])
        if any(one.get("iscrowd") for one in annotations):
            crowds.append(files[image["id"]].name)
            continue
        made, shared, beyond = _image(path, files[image["id"]], image, annotations, names)
        overlapping += shared
        cut += beyond
        images.append(made)
    used = [name for name in names.values() if any(name in one.types.values() for one in images)]
    notes = []
    if crowds:
        notes.append(f"images with crowds, not outlined cell by cell, left out: {len(crowds)} ({', '.join(crowds)})")
    if overlapping:
        notes.append(f"{overlapping} outlines overlap others; shared pixels went to the first of them")
    if cut:
        notes.append(f"{cut} outlines reach beyond their image; what lies outside was left out")
    if not used:
        left = "; ".join(notes) or "it has no annotations"
        raise UserError(f"{path}: no outlined cell to learn from ({left})")
    return TypedFiles(tuple(images), tuple(dict.fromkeys(used)), tuple(notes))


def _files(path: Path, folder: Path, images: list[dict[str, Any]]) -> dict[Any, Path]:
    """The file of each image: under the folder by its whole name, or by its last part."""
    found, missing = {}, []
    for image in images:
        name = PurePosixPath(str(image["file_name"]).replace("\\", "/"))
        inside = [part for part in name.parts if part not in ("..", "/")]
        options = (folder.joinpath(*inside), folder / name.name)
        there = next((option for option in options if option.is_file()), None)
        if there is None:
            missing.append(str(name))
        else:
            found[image["id"]] = there
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of its {len(images)} images are not in {folder} (the first: {missing[0]}); "
            "name their folder"
        )
    return found


def _image(
    path: Path, file: Path, image: dict[str, Any], annotations: list[dict[str, Any]], names: Mapping[Any, str]
) -> tuple[TypedFile, int, int]:
    """The cells of one image, how many outlines overlap others, and how many reach beyond the image."""
    shape = (int(image["height"]), int(image["width"]))
    info = read_info(file)
    if tuple(info.shape[-2:]) != shape:
        raise UserError(
            f"{file}: is {info.shape[-2]} × {info.shape[-1]} px, but {path.name} says {shape[0]} × {shape[1]}; "
            "take the images that were annotated"
        )
    canvas, types, beyond = Canvas.of(shape), {}, 0
    for label, one in enumerate(annotations, 1):
        segmentation = one["segmentation"]
        if isinstance(segmentation, dict):
            canvas.put_pixels(label, *decode(segmentation, shape))
        else:
            rings = [np.array(ring, np.float64).reshape(-1, 2) for ring in segmentation]
            inside = _inside(rings, shape)
            beyond += not inside.all()
            if not inside.any():
                raise UserError(
                    f"{path}: annotation {one.get('id')} lies outside its image {file.name} "
                    f"({shape[0]} × {shape[1]} px); take the images that were annotated"
                )
            canvas.put(label, [[ring] for ring in rings])
        types[label] = names[one["category_id"]]
    there = set(np.unique(canvas.labels).tolist())
    return TypedFile(file, canvas.labels, {k: v for k, v in types.items() if k in there}), canvas.overlapping, beyond


def _inside(rings: list[NDArray[np.float64]], shape: Shape) -> NDArray[np.bool_]:
    """Which corners of outlines lie in the image; half a pixel beyond is how some tools round."""
    points = np.concatenate(rings) if rings else np.zeros((0, 2))
    most = np.array([shape[1], shape[0]]) + 0.5
    inside: NDArray[np.bool_] = ((points >= -0.5) & (points <= most)).all(axis=1)
    return inside
