"""OME-Zarr (OME-NGFF 0.5, zarr 3): ``<image>.ome.zarr`` with the image and, in it, the label image ``cells``.

The specification keeps labels inside the image that they belong to, so the pixels of the original
go along. Facts of the cells stand in the label image's ``properties``. Reads versions 0.4 and 0.5.
"""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, UserError
from cell_curator.io.atomic import write_error
from cell_curator.io.formats.base import Content, Format, Incoming, Labelled, Shape, image_files, known_verdict
from cell_curator.io.labels import as_labels, check_shape
from cell_curator.io.ome_zarr import attributes, check_codecs, is_store

ENDING = ".ome.zarr"
_VERSION = "0.5"
_NAME = "cells"
_CHUNK = 512
_FACTS = ("cell_id", "area", "condition", "verdict", "flags", "cluster")


def write(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``<image>.ome.zarr`` for every image; one that is there already is replaced.

    Raises
    ------
    UserError
        An original is gone, or the folder cannot be written.
    """
    return image_files(content, out, ENDING, _write_one)


def _write_one(path: Path, image: Labelled) -> None:
    if path.exists() and not is_store(path):
        raise UserError(f"{path}: is there already and is no OME-Zarr; choose another folder")
    pixels = image.pixels()
    temporary = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        _write_store(temporary, image, pixels)
        if path.exists():
            shutil.rmtree(path)
        os.rename(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_store(folder: Path, image: Labelled, pixels: NDArray[Any]) -> None:
    import zarr

    record = image.record
    root = zarr.open_group(folder, mode="w", zarr_format=3)
    channels = [_channel(name, plane) for name, plane in zip(record.channel_names, pixels, strict=False)]
    root.attrs["ome"] = {
        "version": _VERSION,
        "multiscales": [_multiscale(record.name, "cyx", record.pixel_size_um)],
        "omero": {"channels": channels},
    }
    _array(root, pixels, "cyx")
    labels = root.create_group("labels")
    labels.attrs["ome"] = {"version": _VERSION, "labels": [_NAME]}
    cells = labels.create_group(_NAME)
    facts = image.facts()
    properties = [
        {"label-value": label, **{key: about[key] for key in _FACTS if key in about}}
        for label, about in sorted(facts.items())
    ]
    cells.attrs["ome"] = {
        "version": _VERSION,
        "multiscales": [_multiscale(_NAME, "yx", record.pixel_size_um)],
        "image-label": {"version": _VERSION, "source": {"image": "../../"}, "properties": properties},
    }
    _array(cells, image.labels.astype(np.uint32), "yx")


def _multiscale(name: str, axes: str, pixel_size_um: float | None) -> dict[str, Any]:
    unit = {} if pixel_size_um is None else {"unit": "micrometer"}
    described = [
        {"name": axis, "type": "channel"} if axis == "c" else {"name": axis, "type": "space", **unit} for axis in axes
    ]
    scale = [1.0 if axis == "c" else pixel_size_um or 1.0 for axis in axes]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    return {"name": name, "axes": described, "datasets": [dataset]}


def _channel(name: str, pixels: NDArray[Any]) -> dict[str, Any]:
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 1.0)
    window = {"min": low, "max": high, "start": low, "end": high}
    return {"label": name, "color": "FFFFFF", "active": True, "window": window}


def _array(group: Any, data: NDArray[Any], axes: str) -> None:
    chunks = tuple(1 if axis == "c" else max(1, min(_CHUNK, side)) for axis, side in zip(axes, data.shape, strict=True))
    array = group.create_array("0", shape=data.shape, chunks=chunks, dtype=data.dtype, dimension_names=tuple(axes))
    array[...] = data


# ---------------------------------------------------------------------- reading


def read(path: Path, name: str, shape_of: Callable[[str], Shape]) -> Iterator[Incoming]:
    """The label image of one store: the one called ``cells``, else the first.

    Raises
    ------
    UserError
        No labels in it, another size than the image's, more than one plane, a codec that is not let through, or damage.
    """
    try:
        group, about, notes = _label_group(path)
        dataset = attributes(group)["multiscales"][0]["datasets"][0]["path"]
        check_codecs(path, group / str(dataset))
        import zarr

        array = zarr.open_array(group / str(dataset), mode="r")
        if array.dtype.kind not in "biu":
            raise UserError(f"{path}: its labels are {array.dtype}; whole numbers are needed")
        if array.ndim < 2 or math.prod(array.shape[:-2]) != 1:
            raise UserError(f"{path}: its labels have shape {array.shape}, a stack; give one plane")
        claimed = np.broadcast_to(np.int32(0), array.shape[-2:])
        check_shape(claimed, shape_of(name), path)  # before memory is asked for
        data = np.asarray(array[...])
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a broken store raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is a broken OME-Zarr ({reason}); export it again") from error
    yield Incoming(name, as_labels(data.reshape(data.shape[-2:]), path), _verdicts(about), notes)


def _label_group(path: Path) -> tuple[Path, dict[str, Any], tuple[str, ...]]:
    """The folder of the label image, its ``image-label`` part, and notes."""
    own = attributes(path)
    if "image-label" in own:
        return path, own["image-label"], ()
    folder = path if "labels" in own else path / "labels"
    names = [str(name) for name in attributes(folder).get("labels", [])] if is_store(folder) else []
    if not names:
        raise UserError(f"{path}: holds no label images; give an OME-Zarr with labels in it")
    chosen = _NAME if _NAME in names else names[0]
    notes = (f"of the label images {', '.join(names)} the one called {chosen} was taken",) if len(names) > 1 else ()
    return folder / chosen, attributes(folder / chosen).get("image-label", {}), notes


def _verdicts(about: dict[str, Any]) -> dict[int, str]:
    found = {}
    for entry in about.get("properties") or []:
        if isinstance(entry, dict) and isinstance(entry.get("label-value"), int):
            verdict = known_verdict(entry.get("verdict"))
            if verdict:
                found[entry["label-value"]] = verdict
    return found


FORMAT = Format(
    name="ome-zarr",
    title="OME-Zarr (image with labels)",
    ending=ENDING,
    lossless=True,
    cannot_hold="shape measurements",
    write=write,
    read=read,
    reads=(ENDING, ".zarr"),
    folder=is_store,
    aliases=("omezarr", "ome_zarr", "zarr", "ngff"),
)
