"""ImageJ and Fiji: outlines of cells as ``<image>_rois.zip`` for the ROI Manager.

A cell in one piece without holes becomes a traced ROI, as ImageJ's wand makes it; one with
holes or several pieces a composite ROI. Vertices lie on corners of pixels (`outlines`), which is
ImageJ's own convention for both, so its masks have the same pixels. Label, id and verdict
go along as properties of the ROI. Archives are read in memory; nothing is unpacked to disk.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, UserError
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
    needs,
)
from cell_curator.io.formats.outlines import Canvas, Polygon, Ring, numbered, trace

ENDING = "_rois.zip"
_INTEGER_LIMIT = 30_000  # px; beyond, ImageJ's 16-bit coordinates wrap round and ROIs are written as floats
_EXACT_LIMIT = 2**24  # px; float32 holds every whole number up to here
_LARGEST_ROI = 64 * 2**20  # bytes; the outline of one cell never is that long
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0


def write(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``<image>_rois.zip`` for every image.

    Raises
    ------
    UserError
        roifile is missing, an image is wider than 16 777 216 px, or a file cannot be written.
    """
    try:
        import roifile  # noqa: F401
    except ImportError:
        raise needs(out, "roifile") from None
    return image_files(content, out, ENDING, _write_one)


def _write_one(path: Path, image: Labelled) -> None:
    if max(image.labels.shape) > _EXACT_LIMIT:
        raise UserError(f"{image.record.name}: is wider than ImageJ's numbers are exact; export label TIFFs")
    facts = image.facts()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for label, polygons in trace(image.labels):
            roi = _roi(polygons)
            roi.name = f"{label:05d}"
            about = facts.get(label, {})
            known = {key: about[key] for key in ("cell_id", "verdict", "cluster") if key in about}
            roi.properties = {"label": label, "category": " ".join(category(about).split()), **known}
            archive.writestr(f"{roi.name}.roi", roi.tobytes())
    write_atomic(path, lambda file: file.write(stream.getvalue()))


def _roi(polygons: list[Polygon]) -> Any:
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    rings = [ring for polygon in polygons for ring in polygon]
    corners = np.concatenate(rings)
    low, high = corners.min(axis=0), corners.max(axis=0)
    if len(rings) == 1 and high.max() < _INTEGER_LIMIT:
        roi = ImagejRoi.frompoints(rings[0].astype(np.int32), name="cell")
        roi.roitype, roi.options = ROI_TYPE.TRACED, ROI_OPTIONS.NONE
        roi.right, roi.bottom = int(high[0]), int(high[1])  # roifile counts one more
        return roi
    roi = ImagejRoi()
    roi.roitype = ROI_TYPE.RECT
    roi.multi_coordinates = np.concatenate([_path(ring) for ring in rings])
    roi.shape_roi_size = len(roi.multi_coordinates)
    (roi.left, roi.top), (roi.right, roi.bottom) = (
        np.minimum(side, _INTEGER_LIMIT).astype(int).tolist() for side in (low, high)
    )
    return roi


def _path(ring: Ring) -> NDArray[np.float32]:
    """A ring in the codes of Java's path iterator."""
    steps = np.column_stack([np.full(len(ring), _LINE), ring])
    steps[0, 0] = _MOVE
    return np.append(steps.ravel(), _CLOSE).astype(np.float32)


def read(path: Path, name: str, shape_of: Callable[[str], Shape]) -> Iterator[Incoming]:
    """The cells of one ROI archive (or one ``.roi``).

    Points, lines and texts are left out; areas of any kind are cells.

    Raises
    ------
    UserError
        roifile is missing, the file is damaged, or ``shape_of`` does not know the image.
    """
    try:
        import roifile  # noqa: F401
    except ImportError:
        raise needs(path, "roifile") from None
    rois = [(entry, roi, _rings(path, entry, roi)) for entry, roi in _open(path)]
    cells = [(entry, roi, rings) for entry, roi, rings in rois if rings]
    told = [_label(entry, roi.properties) for entry, roi, _ in cells]
    canvas = Canvas.of(shape_of(name))
    verdicts = {}
    for label, (_, roi, rings) in zip(numbered(told), cells, strict=True):
        canvas.put(label, [rings])
        verdict = known_verdict(roi.properties.get("verdict"))
        if verdict:
            verdicts[label] = verdict
    left_out = len(rois) - len(cells)
    notes = (f"{left_out} ROIs are no areas and were left out",) if left_out else ()
    yield Incoming(name, canvas.labels, verdicts, (*canvas.notes(), *notes))


def _open(path: Path) -> list[tuple[str, Any]]:
    """(name, ROI) of every ROI of a file."""
    from roifile import ImagejRoi

    try:
        if path.suffix.lower() == ".roi":
            return [(path.stem, ImagejRoi.frombytes(path.read_bytes()))]
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".roi")]
            too_large = [entry.filename for entry in entries if entry.file_size > _LARGEST_ROI]
            if too_large:
                raise ValueError(f"{too_large[0]} would be larger than {_LARGEST_ROI // 2**20} MB")
            return [(Path(entry.filename).stem, ImagejRoi.frombytes(archive.read(entry))) for entry in entries]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except Exception as error:  # zipfile, zlib, struct, roifile: each with errors of its own
        raise UserError(f"{path}: is damaged or no ImageJ ROI archive ({error}); save it again in ImageJ") from error


def _rings(path: Path, entry: str, roi: Any) -> list[Ring]:
    """The outline of an area, or nothing."""
    from roifile import ROI_TYPE

    areas = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED, ROI_TYPE.RECT, ROI_TYPE.OVAL)
    if roi.roitype not in areas:
        return []
    try:
        rings = [np.asarray(ring, np.float64) for ring in roi.coordinates(multi=True)]
    except NotImplementedError:
        raise UserError(
            f"{path}: the ROI {entry} has curves, which are not read; in ImageJ: Edit ▸ Selection ▸ Interpolate"
        ) from None
    except (RuntimeError, ValueError, IndexError, OverflowError) as error:
        raise UserError(f"{path}: the ROI {entry} is damaged ({error}); save it again in ImageJ") from error
    if not all(np.isfinite(ring).all() for ring in rings):
        raise UserError(f"{path}: the ROI {entry} has corners that are no numbers; save it again in ImageJ")
    return [ring[:-1] if (ring[0] == ring[-1]).all() else ring for ring in rings if len(ring) > 2]


def _label(entry: str, properties: dict[str, Any]) -> int | None:
    """The cell's number: a property of ours, or the digits at the start of its name."""
    told = properties.get("label")
    if isinstance(told, int):
        return told
    digits = re.match(r"\d{1,9}(?!\d)", entry)
    return int(digits[0]) if digits else None


FORMAT = Format(
    name="imagej",
    title="ImageJ / Fiji ROIs (zip)",
    ending=ENDING,
    lossless=True,
    cannot_hold="measurements",
    write=write,
    read=read,
    reads=(ENDING, ".zip", ".roi"),
    aliases=("rois", "roi", "imagej-rois", "fiji", "imagej-roi"),
)
