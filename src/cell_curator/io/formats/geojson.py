"""GeoJSON for QuPath: ``<image>.geojson``, one feature for each cell, with class and measurements.

Positions are pixels of the full image, vertices lie on corners of pixels (`outlines`), as QuPath traces
masks itself. Cells are *detections*, classified by condition; label, id and verdict stand in
``metadata`` (texts, as QuPath wants them), measurements in ``measurements``.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cell_curator.core.jobs import Job, UserError
from cell_curator.core.measure import MEASURED
from cell_curator.io.atomic import write_atomic
from cell_curator.io.formats.base import (
    Content,
    Format,
    Incoming,
    Labelled,
    Shape,
    category,
    image_files,
    known_verdict,
    read_json,
)
from cell_curator.io.formats.outlines import Canvas, Polygon, numbered, trace

ENDING = ".geojson"
_MEASUREMENTS = (*MEASURED, "score", "cluster")
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_NAMESPACE = uuid.UUID("6f6b0c0e-5d0c-5a41-9a0e-8a2b7f4f3f10")


def write(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``<image>.geojson`` for every image."""
    classes = sorted({category({"condition": record.condition}) for record in content.records})
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(classes)}

    def one(path: Path, image: Labelled) -> None:
        features = list(_features(image, colours))
        text = json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, allow_nan=False)
        write_atomic(path, lambda file: file.write(text.encode()))

    return image_files(content, out, ENDING, one)


def _features(image: Labelled, colours: dict[str, tuple[int, int, int]]) -> Iterator[dict[str, Any]]:
    facts = image.facts()
    kind = category({"condition": image.record.condition})
    for label, polygons in trace(image.labels):
        about = facts.get(label, {"label": label})
        numbers = {name: float(about[name]) for name in _MEASUREMENTS if about.get(name) is not None}
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(_NAMESPACE, f"{image.record.name}/{about.get('cell_id', label)}")),
            "geometry": _geometry(polygons),
            "properties": {
                "objectType": "detection",
                "name": str(label),
                "classification": {"name": kind, "color": list(colours[kind])},
                "isLocked": about.get("verdict") == "locked",
                "measurements": numbers,
                "metadata": {key: str(about[key]) for key in ("label", "cell_id", "verdict", "flags") if key in about},
            },
        }


def _geometry(polygons: list[Polygon]) -> dict[str, Any]:
    closed = [[np.vstack([ring, ring[:1]]).astype(int).tolist() for ring in polygon] for polygon in polygons]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}


def read(path: Path, name: str, shape_of: Callable[[str], Shape]) -> Iterator[Incoming]:
    """The cells of one file: every Polygon and MultiPolygon is one.

    Raises
    ------
    UserError
        No GeoJSON, broken, or ``shape_of`` does not know the image.
    """
    document = read_json(path)
    found = document.get("features") if isinstance(document, dict) else document
    if not isinstance(found, list) or not all(isinstance(feature, dict) for feature in found):
        raise UserError(f"{path}: has no “features”, so it is no GeoJSON of cells; export it from QuPath again")
    features = [feature for feature in found if (feature.get("geometry") or {}).get("type") in _AREAS]
    about = [_about(feature) for feature in features]
    labels = numbered([label for label, _ in about])
    canvas = Canvas.of(shape_of(name))
    try:
        for label, feature in zip(labels, features, strict=True):
            canvas.put(label, _polygons(feature["geometry"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path}: is broken GeoJSON ({type(error).__name__}: {error}); export it again") from error
    left_out = len(found) - len(features)
    notes = (f"{left_out} objects are no areas and were left out",) if left_out else ()
    verdicts = {label: verdict for label, (_, verdict) in zip(labels, about, strict=True) if verdict}
    yield Incoming(name, canvas.labels, verdicts, (*canvas.notes(), *notes))


_AREAS = ("Polygon", "MultiPolygon")


def _about(feature: dict[str, Any]) -> tuple[int | None, str | None]:
    """(label, verdict) that a feature of ours tells."""
    properties = feature.get("properties") or {}
    metadata = properties.get("metadata") if isinstance(properties, dict) else None
    if not isinstance(metadata, dict):
        return None, None
    label = str(metadata.get("label", ""))
    return int(label) if label.isascii() and label.isdigit() else None, known_verdict(metadata.get("verdict"))


def _polygons(geometry: dict[str, Any]) -> list[Polygon]:
    nested = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [[np.array(ring, np.float64)[:-1, :2] for ring in polygon] for polygon in nested]


FORMAT = Format(
    name="geojson",
    title="GeoJSON (QuPath)",
    ending=ENDING,
    lossless=True,
    cannot_hold="nothing of a cell",
    write=write,
    read=read,
    reads=(ENDING,),
    aliases=("qupath",),
)
