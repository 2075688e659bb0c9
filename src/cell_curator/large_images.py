"""The cells of an image that is larger than memory: found block by block, and taken into the project at once.

Blocks are searched by whoever works for the session, many at a time; this process alone puts them together,
in their order, so that the outcome is the same whoever was ready first. What was found in a block
lies in the project's cache until the image is done: a search that was stopped goes on there. How a
block is searched is in `engines.blocks`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cells import CellTable
from cell_curator.core.clean import DECIDED
from cell_curator.core.edits import Box
from cell_curator.core.jobs import Crew, Job, UserError, scaled, together
from cell_curator.core.lazy import tiles
from cell_curator.core.recipe import Recipe
from cell_curator.engines.blocks import Sized, join, read_found
from cell_curator.engines.segmenter import NOTHING, SegmentParameters
from cell_curator.engines.tiling import Block
from cell_curator.io.label_store import LabelWriter, StoredLabels
from cell_curator.io.project import Change
from cell_curator.measured_channel import channel_rule, of_rule
from cell_curator.project_models import resolved

if TYPE_CHECKING:
    from cell_curator.io.records import ImageRecord
    from cell_curator.session import Session

_COPY = 2048  # px, side of the parts in which labels are copied
_REJECTED_AGAIN = 0.5  # IoU from which a cell is found again, as in `core.reconcile`


@dataclass
class Found:
    """What came out of all blocks of an image.

    ``errors`` are the flow errors by label, ``kept`` the labels that were there before and stay.
    """

    sized: Sized
    labels: StoredLabels
    rows: pd.DataFrame
    errors: dict[int, float]
    kept: frozenset[int]
    notes: tuple[str, ...]


@dataclass
class _Pieces:
    """The cells put together so far: next free label, the labels and window of each block, flow errors."""

    writer: LabelWriter
    first: int
    owners: list[tuple[Box, list[int]]] = field(default_factory=list)
    errors: dict[int, float] = field(default_factory=dict)


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
    folder = _folder(session, record, recipe, params, made_from)
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
    return partial(_take, session, number, found, parameters, made_from, folder)


def in_blocks(
    crew: Crew,
    where: dict[str, Any],
    recipe: Recipe,
    params: SegmentParameters,
    channels: slice,
    folder: Path,
    start: Callable[[LabelWriter, Sized], tuple[int, frozenset[int]]] = lambda writer, sized: (1, frozenset()),
) -> Job[Found]:
    """Search all blocks of an image, put their cells together and measure them.

    Parameters
    ----------
    where
        ``path`` and ``plane``.
    channels
        Those in which cells are measured.
    folder
        For what is found on the way; what is in it already is not done again.
    start
        Puts labels that shall stay into the writer; returns the first free label, and those.
    """
    survey = crew.call("cell_curator.engines.blocks:survey_image", **where, recipe=recipe, params=params, folder=folder)
    sized: Sized = yield from scaled(survey, 0.0, 0.1, "the whole image: ")
    todo = sized.blocks()
    files: dict[int, Path] = {}

    def search(index: int) -> Job[Path]:
        return crew.call(
            "cell_curator.engines.blocks:search_block",
            **where,
            params=params,
            folder=folder,
            sized=sized,
            window=_box(todo[index]),
        )

    searching = together(range(len(todo)), search, files.__setitem__, at_once=crew.at_once, name=_numbered)
    yield from scaled(searching, 0.1, 0.85)
    writer = LabelWriter(folder / "labels", sized.shape)
    first, kept = start(writer, sized)
    pieces = _Pieces(writer, first)
    for index, block in enumerate(todo):
        _put(pieces, files[index], block, sized, params)
    stored = writer.finish()
    owners = [(box, values) for box, values in pieces.owners if values]
    tables: list[pd.DataFrame] = []

    def measure(owner: tuple[Box, list[int]]) -> Job[pd.DataFrame]:
        return crew.call(
            "cell_curator.engines.blocks:measure_block",
            **where,
            channels=channels,
            labels=stored.folder,
            values=owner[1],
            window=owner[0],
            sized=sized,
        )

    measuring = together(
        owners, measure, lambda _, rows: tables.append(rows), at_once=crew.at_once, name=lambda _: "measuring"
    )
    yield from scaled(measuring, 0.86, 1.0)
    notes = sized.notes
    if not owners:
        why = sized.why or "nothing looks like a cell at this threshold; lower the cell threshold"
        notes = (*notes, f"{NOTHING}: {why}")
    return Found(sized, stored, pd.concat(tables) if tables else _no_rows(), pieces.errors, kept, notes)


def _put(pieces: _Pieces, file: Path, block: Block, sized: Sized, params: SegmentParameters) -> None:
    box = _box(block)
    found, errors = read_found(file)
    here = pieces.writer.read(box)
    new, chosen = join(here, found, block, sized.shape, pieces.first, drop_border=params.drop_border)
    pieces.writer.write(box, new)
    values = list(range(pieces.first, pieces.first + len(chosen)))
    pieces.errors.update(zip(values, errors[chosen].tolist(), strict=True))
    pieces.owners.append((box, values))
    pieces.first += len(chosen)


def _box(block: Block) -> Box:
    rows, cols = block.window
    return rows.start, cols.start, rows.stop, cols.stop


def _numbered(index: int) -> str:
    return f"block {index + 1}"


def _slice(rule: str, channels: int) -> slice:
    """The channels that are measured in, see `measured_channel.of_rule`."""
    chosen = of_rule(np.arange(channels)[:, None, None], rule).ravel()
    return slice(int(chosen[0]), int(chosen[-1]) + 1)


def _no_rows() -> pd.DataFrame:
    from cell_curator.core.measure import MEASURED

    return pd.DataFrame(columns=list(MEASURED)).astype(MEASURED).rename_axis("label")


def _found_again(folder: Path, sized: Sized, params: SegmentParameters, old: Any, rejected: Sequence[int]) -> list[int]:
    """Rejected cells that are found again, so that they need not be rejected twice; see `core.reconcile`."""
    again: set[int] = set()
    for block in sized.blocks() if rejected else ():
        box = _box(block)
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
