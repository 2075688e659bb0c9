"""The flows of the last search in each image, kept so that a threshold can be moved without the network.

In memory for the images last looked at, and as files in the project's cache folder, which may be
emptied at any time. Stores nothing that cannot be computed again and commits nothing.
"""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.segmenter import rethreshold as redo
from cell_curator.io.atomic import write_atomic
from cell_curator.io.safe_numpy import DAMAGED

if TYPE_CHECKING:
    from cell_curator.session import Session

IN_MEMORY = 4
"""Images whose flows stay in memory: 6 bytes per pixel that the network saw."""

ON_DISK = 20
"""Images whose flows stay in the cache folder."""

_ARRAYS = ("flow", "cell_probability", "flow_error")
_NUMBERS = ("diameter", "inverted", "error_unit")
_LOOK = ("engine", "model", "source", "channel", "second_channel", "diameter", "polarity", "quality")

_memory: WeakKeyDictionary[Session, OrderedDict[int, tuple[dict[str, Any], Segmentation]]] = WeakKeyDictionary()
log = logging.getLogger(__name__)


def keep(session: Session, image_id: int, found: Segmentation, parameters: SegmentParameters) -> None:
    """Remember what the network made of an image."""
    if not found.cell_probability.size:
        return
    key = _key(session, image_id, parameters)
    with session.lock:
        kept = _memory.setdefault(session, OrderedDict())
        kept[image_id] = (key, found)
        kept.move_to_end(image_id)
        while len(kept) > IN_MEMORY:
            kept.popitem(last=False)
    if found.place is None:  # of a region only in memory: it is looked at again at once or not at all
        _write(_file(session, image_id), key, found)


def forget(session: Session, image_id: int) -> None:
    """Drop what is kept of an image whose cells were found in another way."""
    with session.lock:
        _memory.get(session, OrderedDict()).pop(image_id, None)
    _file(session, image_id).unlink(missing_ok=True)


def recall(session: Session, image_id: int, parameters: SegmentParameters) -> Segmentation | None:
    """What the network made of an image, if it was asked with the same picture, model and diameter."""
    key = _key(session, image_id, parameters)
    with session.lock:
        there, found = _memory.get(session, OrderedDict()).get(image_id, (None, None))
    if found is None:
        there, found = _read(_file(session, image_id), session.image(image_id).shape[-2:])
    return found if there == key else None


def rethreshold(session: Session, image_id: int, parameters: SegmentParameters | None = None) -> Job[Segmentation]:
    """The cells of an image with other thresholds; nothing is stored, and neither network nor torch is needed.

    Fast enough to follow a slider from a thread; `workflow.adopt` takes the result over.

    Raises
    ------
    UserError
        If cells were not looked for yet with this picture, model and diameter.
    """
    parameters = parameters or session.get(SegmentParameters)
    yield Progress(0.0, "outlining cells")
    found = recall(session, image_id, parameters)
    if found is None:
        raise UserError("picture, model or diameter changed since cells were looked for here; find the cells again")
    return redo(found, parameters)


def _key(session: Session, image_id: int, parameters: SegmentParameters) -> dict[str, Any]:
    """Everything that decides what the network answers."""
    values = parameters.model_dump(mode="json", include=set(_LOOK))
    recipe = session.recipe_for(image_id).hash if parameters.source == "prepared" else ""
    record = session.image(image_id)
    return {**values, "recipe": recipe, "path": str(record.path), "plane": record.plane}


def _file(session: Session, image_id: int) -> Path:
    return session.folder / "cache" / "flows" / f"{image_id}.npz"


def _write(file: Path, key: dict[str, Any], found: Segmentation) -> None:
    about = json.dumps({"key": key, **{name: getattr(found, name) for name in _NUMBERS}})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(found, name) for name in _ARRAYS}
        write_atomic(file, lambda stream: np.savez(stream, about=np.array(about), **arrays))
        newest = sorted(file.parent.glob("*.npz"), key=os.path.getmtime, reverse=True)
        for old in newest[ON_DISK:]:
            old.unlink(missing_ok=True)
    except (OSError, UserError) as error:  # as on a full disk: live thresholds still work from memory
        log.warning("flows were not kept in %s: %s", file, error)


def _read(file: Path, shape: tuple[int, ...]) -> tuple[dict[str, Any] | None, Segmentation | None]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            numbers = {name: about[name] for name in _NUMBERS}
            arrays = {name: stored[name] for name in _ARRAYS}
    except DAMAGED:
        return None, None
    labels = np.zeros(shape, np.int32)
    return about["key"], Segmentation(labels, **numbers, **arrays)
