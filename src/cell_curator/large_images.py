"""The cells of an image that is larger than memory: found block by block, and taken into the project at once.

Blocks are searched by whoever works for the session, many at a time; this process alone puts them together,
in their order, so that the outcome is the same whoever was ready first. What was found in a block
lies in the project's cache until the image is done: a search that was stopped goes on there. How a
block is searched, and how blocks become one, is in `engines.blocks` and `engines.block_search`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cells import CellTable
from cell_curator.core.clean import DECIDED
from cell_curator.core.jobs import Crew, Job, UserError, drive
from cell_curator.core.large import prepared_lazily, survey
from cell_curator.core.lazy import Lazy, tiles
from cell_curator.core.preprocess import Prepared
from cell_curator.core.recipe import Recipe
from cell_curator.engines.block_search import Found, box_of, in_blocks
from cell_curator.engines.blocks import Sized, read_found
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.io.known_file import read_known, write_known
from cell_curator.io.label_store import LabelWriter
from cell_curator.io.project import Change
from cell_curator.measured_channel import channel_rule, of_rule
from cell_curator.project_models import resolved

if TYPE_CHECKING:
    from cell_curator.io.records import ImageRecord
    from cell_curator.session import Session

_COPY = 2048  # px, side of the parts in which labels are copied
_REJECTED_AGAIN = 0.5  # IoU from which a cell is found again, as in `core.reconcile`


def check_searchable(record: ImageRecord, region: Any = None) -> None:
    """Refuse what cannot be done with a large image.

    Raises
    ------
    UserError
        A region was given.
    """
    if region is not None:
        raise UserError(f"{record.name}: is too large to be searched in a region alone; find the cells of all of it")


def search_image(session: Session, record: ImageRecord, made_from: str) -> Job[Callable[[], tuple[str, ...]]]:
    """Find the cells of a large image; returns what stores them and gives lines for the user.

    Cells that a person decided on stay as they are; of the others nothing is taken over.

    Parameters
    ----------
    made_from
        See `resuming.cells_key`.

    Raises
    ------
    UserError
        The image cannot be read, the engine cannot run here, or the disk is full.
    """
    parameters, number = session.get(SegmentParameters), record.image_id
    recipe, params = session.recipe_for(number), resolved(session, parameters)
    folder, known = _folder(session, record, recipe, params, made_from), _known_file(session, record, recipe)
    if known.is_file() and not (folder / "known.npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(known, folder / "known.npz")
    rows, before = session.cells.of_image(number), session.label_view(number)
    decided = rows[rows["verdict"].isin(DECIDED)]["label"].tolist()
    rejected = rows[rows["verdict"] == "rejected"]["label"].tolist()
    old: Any = None if record.labels_revision == 0 else before

    def start(writer: LabelWriter, sized: Sized) -> tuple[int, frozenset[int]]:
        """Cells that stay are there before any block is put in."""
        if old is None or not (decided or rejected):
            return 1, frozenset()
        again = _found_again(folder, sized, params, old, rejected)
        stay = np.array(sorted({*decided, *again}), np.int64)
        for box in tiles(sized.shape, _COPY):
            part = old.window(box)
            writer.write(box, np.where(np.isin(part, stay), part, 0))
        return int(stay.max(initial=0)) + 1, frozenset(stay.tolist())

    rule = channel_rule(session)
    crew = session.crew or Crew(session.execute, 1)
    where = {"path": record.path, "plane": record.plane if record.axis else None}
    found = yield from in_blocks(crew, where, recipe, params, _slice(rule, record.shape[0]), folder, start)
    if not known.is_file():
        known.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "known.npz", known)
    return partial(_take, session, number, found, parameters, made_from, folder)


def _slice(rule: str, channels: int) -> slice:
    """The channels that are measured in, see `measured_channel.of_rule`."""
    chosen = of_rule(np.arange(channels)[:, None, None], rule).ravel()
    return slice(int(chosen[0]), int(chosen[-1]) + 1)


def _found_again(folder: Path, sized: Sized, params: SegmentParameters, old: Any, rejected: Sequence[int]) -> list[int]:
    """Rejected cells that are found again, so that they need not be rejected twice; see `core.reconcile`."""
    again: set[int] = set()
    for block in sized.blocks() if rejected else ():
        box = box_of(block)
        found, _ = read_found(folder / f"{box[0]}-{box[1]}.npz")
        part = old.window(box)
        for label in np.intersect1d(part, rejected):
            again.update([int(label)] if _same(part == label, found) else [])
    return sorted(again)


def _same(mask: NDArray[np.bool_], found: NDArray[np.int32]) -> bool:
    inside = np.bincount(found[mask])
    inside[:1] = 0
    best = int(inside.argmax())
    shared = int(inside[best])
    return bool(shared) and shared >= _REJECTED_AGAIN * (int(mask.sum()) + int((found == best).sum()) - shared)


def prepared(session: Session, image_id: int, image: Lazy, recipe: Recipe) -> Prepared:
    """The prepared image, lazily; what must be known of the whole for that is kept in the project's cache."""
    file = _known_file(session, session.image(image_id), recipe)
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
        return prepared_lazily(image, recipe, read_known(file))
    known = drive(survey(image, recipe))
    with suppress(UserError, OSError):  # no room, or a project that may only be looked at
        file.parent.mkdir(parents=True, exist_ok=True)
        write_known(file, known)
    return prepared_lazily(image, recipe, known)


def _known_file(session: Session, record: ImageRecord, recipe: Recipe) -> Path:
    seen = record.path.stat().st_mtime_ns if record.path.exists() else 0
    key = hashlib.sha256(json.dumps([str(record.path), record.plane, recipe.hash, seen]).encode()).hexdigest()[:16]
    return session.folder / "cache" / "known" / f"{key}.npz"


def _folder(session: Session, record: ImageRecord, recipe: Recipe, params: SegmentParameters, made_from: str) -> Path:
    """Where what is found in blocks waits; another one for whatever would find something else."""
    told = [made_from, str(record.path), record.plane, recipe.hash, params.model_dump(mode="json", exclude={"threads"})]
    seen = record.path.stat().st_mtime_ns if record.path.exists() else 0
    key = hashlib.sha256(json.dumps([*told, seen]).encode()).hexdigest()[:16]
    return session.folder / "cache" / "blocks" / key


def _take(
    session: Session, image_id: int, found: Found, parameters: SegmentParameters, made_from: str, folder: Path
) -> tuple[str, ...]:
    """Store all of it in one step."""
    with session.lock:
        record, rows = session.image(image_id), session.cells.of_image(image_id)
        decided = set(rows[rows["verdict"].isin(DECIDED)]["label"].tolist())
        if not decided <= found.kept:
            raise UserError(
                f"{record.name}: cells were decided on while it was searched; find its cells again "
                "(it takes little time, since what was found is kept)"
            )
        fresh = found.rows.assign(
            image=image_id,
            label=found.rows.index,
            condition=record.condition,
            flow_error=[found.errors[int(label)] for label in found.rows.index],
        )
        fresh.index = pd.Index(session.project.reserve_cell_ids(len(fresh)), name="cell_id")
        gone = rows.index[~rows["label"].isin(found.kept)]
        recipe = session.get(Recipe)
        new = replace(
            record,
            state="segmented",
            note="",
            made_from=made_from,
            angle_deg=found.sized.angle_deg,
            recipe_hash=recipe.hash,
        )
        session.commit(
            Change(
                "segment",
                {
                    "image": record.name,
                    "found": len(fresh),
                    "kept": len(found.kept),
                    "blocks": len(found.sized.blocks()),
                    "diameter_px": found.sized.diameter,
                    "recipe": recipe.hash,
                    "region": None,
                    **parameters.model_dump(mode="json"),
                },
                images=(new,),
                cells=CellTable(fresh).frame,
                removed=tuple(gone.tolist()),
                labels={image_id: found.labels},
            )
        )
    shutil.rmtree(folder, ignore_errors=True)
    return found.notes
