"""What a segmenter found becomes cells of the project, beside what a person decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cells import CellTable
from cell_curator.core.clean import DECIDED
from cell_curator.core.found_types import pairs
from cell_curator.core.measure import measure
from cell_curator.core.reconcile import Reconciled, reconcile
from cell_curator.core.stitching import relabelled
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.volumes import Stack, StackParameters
from cell_curator.io.project import Change
from cell_curator.measured_channel import measured_channel

if TYPE_CHECKING:
    from cell_curator.io.records import ImageRecord
    from cell_curator.session import Session


def adopt(
    session: Session,
    image_id: int,
    found: Segmentation,
    parameters: SegmentParameters,
    made_from: str = "",
    measured: pd.DataFrame | None = None,
    prepared: Mapping[str, Any] | None = None,
) -> None:
    """Take over a segmenter's result for one image, beside what a person decided there. From any thread.

    ``made_from``: see `resuming.cells_key`; of a part of an image none is kept. ``measured``: what was measured on
    ``found.labels``; measured here where it was not, or where the cells of the image are not just these.
    ``prepared``: what the image's record says of how it was prepared, if that is new.
    """
    key = made_from if found.place is None else ""
    with session.lock:  # nothing may be painted between looking and storing
        joined = beside_decided(session, image_id, found)
        alone = measured is not None and not joined.kept and np.array_equal(joined.labels, found.labels)
        session.commit(
            _adopted(session, image_id, found, parameters, joined, key, measured if alone else None, prepared)
        )


def adopt_stack(
    session: Session,
    records: Sequence[ImageRecord],
    found: Stack,
    parameters: SegmentParameters,
    stack: StackParameters,
    made_from: Sequence[str],
) -> None:
    """Take over the cells of a stack, all planes at once: a cell has the same label in every plane."""
    with session.lock:
        parts = [
            Segmentation(labels, found.diameter, False, np.zeros(int(labels.max(initial=0)) + 1, np.float32))
            for labels in found.labels
        ]
        joined = [beside_decided(session, record.image_id, part) for record, part in zip(records, parts, strict=True)]
        kept = [label for one in joined for label in one.kept]
        changes = [
            _adopted(session, record.image_id, part, parameters, _numbered(one, max(kept, default=0)), key)
            for record, part, one, key in zip(records, parts, joined, made_from, strict=True)
        ]
        cells = pd.concat([change.cells for change in changes])
        shared = ("diameter_px", "recipe", *SegmentParameters.model_fields)
        session.commit(
            Change(
                "segment stack",
                {
                    "image": records[0].name,
                    "planes": len(records),
                    "found": found.count,
                    "kept": len(kept),
                    **{name: changes[0].detail[name] for name in shared},
                    "stack": stack.model_dump(mode="json"),
                },
                images=tuple(record for change in changes for record in change.images),
                cells=cells,
                removed=tuple(cell for change in changes for cell in change.removed),
                labels={image_id: labels for change in changes for image_id, labels in change.labels.items()},
            )
        )


def beside_decided(session: Session, image_id: int, found: Segmentation) -> Reconciled:
    """The cells that taking over ``found`` would give: proposals give way, what a person decided stays."""
    rows, labels = session.cells.of_image(image_id), session.labels(image_id)
    outside = () if found.place is None else found.place.outside(labels)
    return reconcile(
        labels,
        found.labels,
        keep=rows.loc[rows["verdict"].isin(DECIDED) | rows["label"].isin(outside), "label"].tolist(),
        rejected=rows.loc[rows["verdict"] == "rejected", "label"].tolist(),
    )


def _numbered(joined: Reconciled, above: int) -> Reconciled:
    """The same with each new cell under its number in the proposal, counted on from ``above``."""
    numbers = {label: label for label in joined.kept} | {label: above + value for label, value in joined.added.items()}
    added = {above + value: value for value in joined.added.values()}
    return replace(joined, labels=relabelled(joined.labels, numbers), added=added)


def _adopted(
    session: Session,
    image_id: int,
    found: Segmentation,
    parameters: SegmentParameters,
    joined: Reconciled,
    made_from: str,
    measured: pd.DataFrame | None = None,
    prepared: Mapping[str, Any] | None = None,
) -> Change:
    record, rows = replace(session.image(image_id), **(prepared or {})), session.cells.of_image(image_id)
    if measured is None:
        measured = measure(joined.labels, measured_channel(session, session.pixels(image_id)), joined.added)
    fresh = measured
    errors = found.flow_error[[joined.added[int(label)] for label in fresh.index]]
    fresh = fresh.assign(image=image_id, label=fresh.index, condition=record.condition, flow_error=errors)
    gone = rows.index[~rows["label"].isin(joined.kept)]
    fresh = fresh.assign(**_inherited(fresh.index, joined.labels, rows.loc[gone], session.label_view(image_id)))
    fresh.index = pd.Index(session.project.reserve_cell_ids(len(fresh)), name="cell_id")
    return Change(
        "segment",
        {
            "image": record.name,
            "found": len(fresh),
            "kept": len(joined.kept),
            "diameter_px": found.diameter,
            "recipe": record.recipe_hash,
            "region": None if found.place is None else found.place.corners,
            **parameters.model_dump(mode="json"),
        },
        images=(replace(record, state="segmented", note="", made_from=made_from),),
        cells=CellTable(fresh).frame,
        removed=tuple(gone.tolist()),
        labels={image_id: joined.labels},
    )


def _inherited(
    labels: pd.Index[Any], now: NDArray[np.int32], gone: pd.DataFrame, before: NDArray[np.int32]
) -> dict[str, Any]:
    """Type of each new cell and how likely: what was said of the cell that it is found again of, if anything was."""
    typed = gone[gone["cell_type"] != ""].set_index("label")
    if not len(typed):
        return {}
    same = pairs(np.where(np.isin(before, typed.index), before, 0), np.where(np.isin(now, labels), now, 0))
    old = typed.reindex([same.get(int(label), 0) for label in labels])
    return {"cell_type": old["cell_type"].fillna("").tolist(), "type_probability": old["type_probability"].tolist()}
