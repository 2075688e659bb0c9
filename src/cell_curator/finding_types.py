"""Cells and their types found in one go, by a network that learned both; it is taught in `teaching_types`.

Cells of a person stay: in an image where somebody accepted, drew or typed cells, the outlines that are there keep
their place, and what is found gives them types and fills the gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.adopting import beside_decided
from cell_curator.core.cell_types import CellTypes, by_hand, tally
from cell_curator.core.cells import CellTable
from cell_curator.core.clean import DECIDED
from cell_curator.core.found_types import pairs
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.measure import measure
from cell_curator.core.recipe import Recipe
from cell_curator.core.reconcile import Reconciled, reconcile
from cell_curator.engines.mask_rcnn.model import read_about
from cell_curator.engines.mask_rcnn.prediction import TypedCells
from cell_curator.engines.segmenter import Segmentation
from cell_curator.io.project import Change
from cell_curator.measured_channel import measured_channel
from cell_curator.teaching_types import FIND, shown
from cell_curator.teaching_types import Finder as Finder
from cell_curator.teaching_types import can_keep as can_keep
from cell_curator.teaching_types import keep as keep
from cell_curator.teaching_types import models as models
from cell_curator.teaching_types import train as train
from cell_curator.teaching_types import train_coco as train_coco

if TYPE_CHECKING:
    from cell_curator.io.records import ImageRecord
    from cell_curator.session import Session


@dataclass(frozen=True)
class FinderReport:
    """What was found in a project.

    Parameters
    ----------
    cells
        Cells that have a type by the network now.
    new
        Cells among them that were not there before.
    matched
        Cells among them that were.
    by_hand
        Cells whose type a person said.
    unsure
        Cells that have no type.
    counts
        See `core.cell_types.tally`.
    text
        One line for the user.
    """

    cells: int
    new: int
    matched: int
    by_hand: int
    unsure: int
    counts: pd.DataFrame
    text: str
    notes: tuple[str, ...] = ()


def predict(
    session: Session, folder: Path, image_ids: Sequence[int] | None = None, at_least: float | None = None
) -> Job[FinderReport]:
    """Find the cells of images, with their types; stored image by image.

    Parameters
    ----------
    at_least
        Cells whose likeliest type is less likely than this have none; by default all have one.

    Raises
    ------
    UserError
        If the folder holds no such model, it got not one held-out cell right, or an image cannot be shown to it.
    """
    about = read_about(folder)
    if (about.details.get("scores") or {}).get("accuracy") == 0:
        raise UserError(
            f"{folder}: this network got none of the cells right that were held out, so it would spoil the project; "
            "let it learn longer, or from more cells"
        )
    recipe = Recipe.model_validate(about.details.get("recipe") or session.get(Recipe).model_dump())
    records = session.images if image_ids is None else tuple(session.image(number) for number in image_ids)
    if not records:
        raise UserError("there are no images yet; add images first")
    with session.lock:
        types = session.get(CellTypes)
        session.put(types.with_names(*about.types))
    new = matched = 0
    notes: list[str] = []
    bound = 0.0 if at_least is None else at_least
    for number, record in enumerate(records):
        part = (number / len(records), (number + 1) / len(records))
        yield Progress(part[0], record.name)
        picture = shown(session, record.image_id, about.parameters, recipe)
        job = session.execute(FIND, image=picture, model=folder, name=record.name)
        found: TypedCells = yield from scaled(job, *part, f"{record.name}: ")
        with session.lock:
            change, added, same = _change(session, record, found, folder, bound)
            session.commit(change)
        new, matched = new + added, matched + same
        notes += [f"{record.name}: {note}" for note in found.notes]
    return _report(session, records, new, matched, tuple(notes))


def _change(
    session: Session, record: ImageRecord, found: TypedCells, folder: Path, bound: float
) -> tuple[Change, int, int]:
    """What finding cells changes in an image; how many cells are new, and how many that were there have a type."""
    rows, labels = session.cells.of_image(record.image_id), session.labels(record.image_id)
    decided = bool((rows["verdict"].isin(DECIDED) | by_hand(rows)).any())
    joined = _beside(session, record.image_id, found, labels, rows, keep_all=decided)
    fresh = measure(joined.labels, measured_channel(session, session.pixels(record.image_id)), joined.added)
    numbers = [joined.added[int(label)] - 1 for label in fresh.index]
    fresh = fresh.assign(
        image=record.image_id, label=fresh.index, condition=record.condition, **_said(found, numbers, bound)
    )
    fresh.index = pd.Index(session.project.reserve_cell_ids(len(fresh)), name="cell_id")
    stay = rows[rows["label"].isin(joined.kept) & ~by_hand(rows) & (rows["verdict"] != "rejected")]
    same = pairs(found.labels, labels)
    stay = stay[stay["label"].isin(same)]
    stay = stay.assign(**_said(found, [same[int(label)] - 1 for label in stay["label"]], bound))
    added = CellTable(fresh).frame
    change = Change(
        "find types",
        {
            "image": record.name,
            "found": found.count,
            "new": len(fresh),
            "kept": len(joined.kept),
            "model": str(Path(folder).resolve()),
            "at_least": bound,
            "types": list(found.types),
        },
        images=(replace(record, state="segmented", note=""),),
        cells=pd.concat([added, stay]) if len(stay) else added,
        removed=tuple(rows.index[~rows["label"].isin(joined.kept)].tolist()),
        labels={record.image_id: joined.labels},
    )
    return change, len(fresh), int((stay["cell_type"] != "").sum())


def _beside(
    session: Session,
    image_id: int,
    found: TypedCells,
    labels: NDArray[np.int32],
    rows: pd.DataFrame,
    *,
    keep_all: bool,
) -> Reconciled:
    """Where a person decided, what is there stays and only the gaps are filled; else proposals give way."""
    if not keep_all:
        proposal = Segmentation(found.labels, 0.0, False, np.zeros(found.count + 1, np.float32))
        return beside_decided(session, image_id, proposal)
    return reconcile(labels, found.labels, keep=rows["label"].tolist())


def _said(found: TypedCells, numbers: Sequence[int], bound: float) -> dict[str, Any]:
    """The columns of the cell table for these finds."""
    likely = found.likely[list(numbers)].reshape(-1, len(found.types))
    most = likely.max(axis=1) if len(likely) else np.zeros(0)
    sure = most >= bound
    names = [found.types[kind] if well else "" for kind, well in zip(likely.argmax(axis=1), sure, strict=True)]
    return {"cell_type": names, "type_probability": np.where(sure, most, np.nan)}


def _report(
    session: Session, records: Sequence[ImageRecord], new: int, matched: int, notes: tuple[str, ...]
) -> FinderReport:
    frame = session.cells.frame
    frame = frame[frame["image"].isin([record.image_id for record in records])]
    hand = by_hand(frame)
    typed = int(((frame["cell_type"] != "") & ~hand).sum())
    none = int((frame["cell_type"] == "").sum())
    text = f"{new} cells found, {matched} that were there have a type by it; {int(hand.sum())} as a person said"
    if none:
        text += f"; {none} have none"
    counts = tally(frame, session.get(CellTypes))
    return FinderReport(typed, new, matched, int(hand.sum()), none, counts, text, notes)
