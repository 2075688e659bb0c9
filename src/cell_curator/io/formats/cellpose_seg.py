"""Cellpose's ``<image>_seg.npy``: what its window opens, saves and trains from.

Cellpose wants cells numbered 1, 2, 3… without gaps (else its window renumbers them and forgets
``ismanual``), so they are numbered anew on writing; the project's own numbers, ids and verdicts go
along under a key of their own, which Cellpose passes over. ``ismanual`` is true for cells that a
person accepted, edited or locked. Flows are not kept in a project, so none are written.

Files are read with `io.safe_numpy`: a ``_seg.npy`` is a pickle, and may come from a stranger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clean import DECIDED
from cell_curator.core.jobs import Job, UserError
from cell_curator.io.atomic import write_atomic
from cell_curator.io.formats.base import Content, Format, Incoming, Labelled, Shape, image_files, known_verdict
from cell_curator.io.labels import as_labels
from cell_curator.io.safe_numpy import load_plain

ENDING = "_seg.npy"
_OURS = "cell_curator"
_NO_CELLS_DIAMETER = 30.0  # px; Cellpose's own default, since its window divides by it


def write(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``<image>_seg.npy`` for every image.

    Raises
    ------
    UserError
        A file cannot be written.
    """
    return image_files(content, out, ENDING, _write_one)


def _write_one(path: Path, image: Labelled) -> None:
    values, cells = np.unique(image.labels, return_inverse=True)
    cells = cells.reshape(image.labels.shape)
    if len(values) and values[0] != 0:
        values, cells = np.concatenate([[0], values]), cells + 1
    facts = image.facts()
    verdicts = [str(facts.get(int(value), {}).get("verdict", "proposed")) for value in values[1:]]
    masks: NDArray[Any] = cells.astype(np.uint16 if len(values) < 2**16 else np.uint32)
    diameter = _diameter(cells)
    content = {
        "outlines": masks * _edges(masks),
        "masks": masks,
        "chan_choose": [0, 0],
        "ismanual": np.array([verdict in DECIDED for verdict in verdicts], bool),
        "manual_changes": [],
        "filename": str(image.record.path),
        "est_diam": diameter,
        "diameter": diameter,
        _OURS: {
            "label": values[1:].astype(np.int64),
            "cell_id": np.array([facts.get(int(value), {}).get("cell_id", -1) for value in values[1:]], np.int64),
            "verdict": verdicts,
        },
    }
    array = np.empty((), object)
    array[()] = content
    write_atomic(path, lambda file: np.lib.format.write_array(file, array, allow_pickle=True))  # type: ignore[no-untyped-call]


def read(path: Path, name: str, shape_of: Callable[[str], Shape]) -> Iterator[Incoming]:
    """The masks of one ``_seg.npy``.

    Raises
    ------
    UserError
        Not plain data, without masks, or a stack.
    """
    content = load_plain(path)
    if not isinstance(content, dict) or not isinstance(content.get("masks"), np.ndarray):
        raise UserError(f"{path}: holds no masks, so it is not from Cellpose; give a _seg.npy that Cellpose saved")
    masks = np.squeeze(content["masks"])
    if masks.ndim != 2:
        raise UserError(f"{path}: holds masks of shape {masks.shape}, a stack; give a file of one plane")
    if masks.size and masks.dtype.kind == "i" and masks.min() == -1:  # very old files count from -1
        masks = masks + 1
    labels = as_labels(masks, path)
    ours = _own_numbers(content.get(_OURS), labels)
    if ours is None:
        yield Incoming(name, labels, _manual(content.get("ismanual"), labels))
        return
    lookup = np.zeros(len(ours) + 1, np.int32)
    lookup[1:] = list(ours)
    yield Incoming(name, lookup[labels], {label: verdict for label, verdict in ours.items() if verdict})


def _own_numbers(ours: Any, labels: NDArray[np.int32]) -> dict[int, str | None] | None:
    """Verdict by the project's label for masks 1, 2, 3…, if this file is ours and was not changed since."""
    if not isinstance(ours, Mapping):
        return None
    numbers, verdicts = ours.get("label"), ours.get("verdict")
    if not isinstance(numbers, np.ndarray) or numbers.dtype.kind != "i" or not isinstance(verdicts, list):
        return None
    count = int(labels.max(initial=0))
    in_range = numbers.ndim == 1 and bool(((numbers > 0) & (numbers < 2**31)).all())
    if not in_range or not len(set(numbers.tolist())) == len(numbers) == len(verdicts) == count:
        return None
    return {int(label): known_verdict(verdict) for label, verdict in zip(numbers, verdicts, strict=True)}


def _manual(ismanual: Any, labels: NDArray[np.int32]) -> dict[int, str]:
    """Cells drawn by hand count as edited; Cellpose has one entry for each number up to the largest."""
    flags = np.asarray([] if ismanual is None else ismanual)
    if flags.ndim != 1 or flags.dtype.kind not in "bi" or len(flags) < labels.max(initial=0):
        return {}
    return {int(label): "edited" for label in np.unique(labels) if label > 0 and flags[label - 1]}


def _diameter(cells: NDArray[np.integer[Any]]) -> float:
    """Median diameter of the discs of the cells' areas, px, as Cellpose measures it."""
    areas = np.bincount(cells.ravel())[1:] if cells.size else np.empty(0)
    return float(np.median(2 * np.sqrt(areas / np.pi))) if len(areas) else _NO_CELLS_DIAMETER


def _edges(masks: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of cells with a neighbour (of four) that is not of the cell, or off the image."""
    inner = np.zeros(masks.shape, bool)
    middle = masks[1:-1, 1:-1]
    sides = (masks[:-2, 1:-1], masks[2:, 1:-1], masks[1:-1, :-2], masks[1:-1, 2:])
    if middle.size:
        inner[1:-1, 1:-1] = np.logical_and.reduce([side == middle for side in sides])
    edges: NDArray[np.bool_] = (masks > 0) & ~inner
    return edges


FORMAT = Format(
    name="cellpose",
    title="Cellpose (_seg.npy)",
    ending=ENDING,
    lossless=True,
    cannot_hold="flows; for Cellpose cells are numbered 1, 2, 3… (own numbers come back on import)",
    write=write,
    read=read,
    reads=(ENDING,),
    aliases=("seg", "_seg.npy", "cellpose-seg"),
)
