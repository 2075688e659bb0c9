"""All cells of a large image: its blocks searched by whoever works, put together in their order, and measured.

Blocks may be ready in any order, and yet the outcome is the same: they are joined one after the other, in this
process. Knows no project; how one block is searched is in `blocks`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cell_curator.core.edits import Box
from cell_curator.core.jobs import Crew, Job, scaled, together
from cell_curator.core.measure import MEASURED
from cell_curator.core.recipe import Recipe
from cell_curator.engines.blocks import Sized, join, read_found
from cell_curator.engines.segmenter import NOTHING, SegmentParameters
from cell_curator.engines.tiling import Block
from cell_curator.io.label_store import LabelWriter, StoredLabels


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
            window=box_of(todo[index]),
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
    box = box_of(block)
    found, errors = read_found(file)
    here = pieces.writer.read(box)
    new, chosen = join(here, found, block, sized.shape, pieces.first, drop_border=params.drop_border)
    pieces.writer.write(box, new)
    values = list(range(pieces.first, pieces.first + len(chosen)))
    pieces.errors.update(zip(values, errors[chosen].tolist(), strict=True))
    pieces.owners.append((box, values))
    pieces.first += len(chosen)


def box_of(block: Block) -> Box:
    """The window of a block."""
    rows, cols = block.window
    return rows.start, cols.start, rows.stop, cols.stop


def _numbered(index: int) -> str:
    return f"block {index + 1}"


def _no_rows() -> pd.DataFrame:
    return pd.DataFrame(columns=list(MEASURED)).astype(MEASURED).rename_axis("label")
