"""Corrections of cells on a session: painted pixels, and object tools as undoable steps.

A step changes labels, rows and journal in one transaction. Undo brings back pixels, measurements,
verdicts and cell ids exactly, as long as nobody painted there since. Where somebody did:

- a pixel goes back only if it is as the step left it; painted pixels stay as painted, and the
  step's note says how many;
- cells that this concerns are measured anew and count as edited;
- a label that another cell took meanwhile is not taken from it: the cell that comes back gets a new one.

So a step can always be taken back, and napari's own undo of painting, which arrives as just another
change of pixels, may come before, between or after. Cells that are locked never change. This module
knows no viewer.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cell_curator.core.cells import COLUMNS, CellTable
from cell_curator.core.contact import beside
from cell_curator.core.edits import (
    Box,
    LabelEdit,
    among,
    box_of_mask,
    delete,
    joined,
    labels_in_polygon,
    labels_under,
    merge,
    redraw,
    separate_pieces,
    union,
    window,
)
from cell_curator.core.edits_shape import fill_holes, grow, shrink, smooth
from cell_curator.core.edits_split import split_by_line, split_by_seeds
from cell_curator.core.jobs import UserError
from cell_curator.core.measure import MEASURED, measure_part
from cell_curator.core.measure_cells import PAD
from cell_curator.core.pixel_runs import PixelRuns
from cell_curator.core.words import number_of
from cell_curator.io.project import Change
from cell_curator.measured_channel import measured_channel

if TYPE_CHECKING:
    from cell_curator.io.records import ImageRecord
    from cell_curator.session import Session

_BOX = ["top", "left", "bottom", "right"]

_BY_OTHERS = ("condition", "flow_error", "flags", "score", "cluster", "cell_type", "type_probability")
"""Columns that no tool sets; what others wrote there since a step stays when it is undone."""

_BY_THE_MAP = ("map_error", "map_isolation")
"""As those, but said of pixels that the cell no longer has once a step is undone: then it is not known any more."""


@dataclass(frozen=True)
class Outcome:
    """What a tool did: the cells that changed, appeared or went, the labels it left, one line for the user."""

    cells: frozenset[int]
    labels: tuple[int, ...]
    text: str


# ---------------------------------------------------------------------- tools


def edit(
    session: Session, image_id: int, tool: str, *, points: ArrayLike = (), labels: Collection[int] = (), **options: Any
) -> Outcome:
    """Use a tool of `TOOLS` on one image, as one step of `Session.history`.

    Parameters
    ----------
    points
        What was drawn, ``(N, 2)`` ``(y, x)`` in pixels of the image.
    labels
        The cells that are meant, for tools that take cells and not a drawing.
    options
        As the tool's function in `core.edits` has them, e.g. ``px=2``.

    Raises
    ------
    UserError
        If the tool has nothing to do; nothing is changed then.
    """
    if tool not in TOOLS:
        raise UserError(f"there is no tool {tool!r}; use one of {', '.join(TOOLS)}")
    # The journal keeps the points as they were used, so that a replay does the same to the pixel.
    where = np.round(np.asarray(points, float), 2).reshape(-1, 2)
    labels = [int(label) for label in labels]
    with session.lock:
        made = TOOLS[tool](session, image_id, where, labels, options)
        detail = {
            "image": session.image(image_id).name,
            "points": where.tolist(),
            "labels": labels,
            **({"options": options} if options else {}),
        }
        step = LabelStep(session, image_id, tool, PixelRuns.of(made), detail=detail)
        session.history.do(step)
    there = np.unique(made.after[made.before != made.after])
    cells = frozenset(session.history.last_cells)
    return Outcome(cells, tuple(int(v) for v in there if v), joined(_sentence(tool, made), made.note))


def _sentence(tool: str, made: LabelEdit) -> str:
    touched = len(made.touched - set(made.origin))
    cells = number_of(touched, "cell")
    if made.origin:
        return f"{tool}: {cells} became {touched + len(made.origin)}"
    return f"{tool}: {cells}"


def _split(session: Session, image_id: int, points: Any, _labels: Any, options: Any) -> LabelEdit:
    return split_by_line(session.label_view(image_id), points, locked=session.locked_labels(image_id), **options)


def _seeds(session: Session, image_id: int, points: Any, _labels: Any, options: Any) -> LabelEdit:
    image = session.prepared(image_id) if options.get("by") == "image" else None
    now, locked = session.label_view(image_id), session.locked_labels(image_id)
    return split_by_seeds(now, points, image=image, locked=locked, **options)


def _redraw(session: Session, image_id: int, points: Any, labels: Any, options: Any) -> LabelEdit:
    now, locked = session.label_view(image_id), session.locked_labels(image_id)
    return redraw(now, labels[0] if labels else None, points, locked=locked, **options)


def _delete_inside(session: Session, image_id: int, points: Any, _labels: Any, options: Any) -> LabelEdit:
    now = session.label_view(image_id)
    return delete(now, labels_in_polygon(now, points), locked=session.locked_labels(image_id), **options)


def _on_cells(function: Any) -> Any:
    """A tool for the cells given, or else for those under the drawn line."""

    def tool(session: Session, image_id: int, points: Any, labels: Any, options: Any) -> LabelEdit:
        now = session.label_view(image_id)
        chosen = labels or (labels_under(now, points) if len(points) else [])
        made: LabelEdit = function(now, chosen, locked=session.locked_labels(image_id), **options)
        return made

    return tool


def _separate(session: Session, image_id: int, _points: Any, labels: Any, options: Any) -> LabelEdit:
    locked = session.locked_labels(image_id)
    return separate_pieces(session.label_view(image_id), labels or None, locked=locked, **options)


TOOLS: Mapping[str, Any] = MappingProxyType(
    {
        "split": _split,
        "split by seeds": _seeds,
        "merge": _on_cells(merge),
        "delete": _on_cells(delete),
        "delete inside": _delete_inside,
        "redraw": _redraw,
        "fill holes": _on_cells(fill_holes),
        "smooth": _on_cells(smooth),
        "grow": _on_cells(grow),
        "shrink": _on_cells(shrink),
        "separate pieces": _separate,
    }
)
"""Tools by name; ``separate pieces`` without cells looks at all of them."""


# ---------------------------------------------------------------------- steps


@dataclass(frozen=True)
class LabelStep:
    """One reversible change of an image's labels; see the module for what undo does after painting.

    ``was`` and ``becomes`` are the rows of the touched cells on either side; ``becomes`` None means that
    they are to be measured.
    """

    session: Session
    image_id: int
    title: str
    runs: PixelRuns
    was: np.recarray[Any, Any] | None = None
    becomes: np.recarray[Any, Any] | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def cells(self) -> frozenset[int]:
        """Cells that the step left, changed or took away."""
        return frozenset(int(i) for rows in (self.was, self.becomes) if rows is not None for i in rows["cell_id"])

    def apply(self) -> LabelStep:
        """Make the change and return the step that takes it back."""
        session, image_id = self.session, self.image_id
        with session.lock:
            now, table = session.label_view(image_id), session.cells.of_image(image_id)
            made, renamed, kept = self._fitted(now, table)
            new = made.applied(now)
            touched = made.touched
            before = table[table["label"].isin(touched)]
            if self.becomes is not None and not renamed and not kept and self._as_left(table):
                rows = _carried(_frame(self.becomes), before, self.was)
            else:
                ids = {renamed.get(label, label): cell for label, cell in _owners(self.becomes).items()}
                rows = measured_rows(session, session.image(image_id), new, touched, made.box, ids)
            removed = tuple(before.index.difference(rows.index).tolist())
            detail = dict(self.detail) or {"image": session.image(image_id).name}
            labels = {image_id: new} if touched else {}
            shown = pd.concat([rows, _neighbours(session, image_id, new, made, pd.concat([before, rows]))])
            session.commit(Change(self.title, detail, cells=shown, removed=removed, labels=labels))
        note = f"{kept} px painted since stay as painted" if kept else ""
        return LabelStep(
            session, image_id, self.title, PixelRuns.of(made.inverse), _records(rows), _records(before), note=note
        )

    def _fitted(self, now: NDArray[np.int32], table: pd.DataFrame) -> tuple[LabelEdit, dict[int, int], int]:
        """The change as it can be made now, labels that had to be replaced, and how many pixels are not as left."""
        at, before, after = self.runs.expand()
        part = now[window(self.runs.box)]
        label_of = dict(zip(table.index.tolist(), table["label"].tolist(), strict=True))
        gone = {label: -1 for label, cell in _owners(self.was).items() if cell not in label_of}
        moved = {label: label_of[cell] for label, cell in _owners(self.was).items() if cell in label_of}
        as_left = part.ravel()[at] == _translated(before, {**moved, **gone})
        renamed: dict[int, int] = {}
        fresh = int(max(now.max(initial=0), after.max(initial=0))) + 1
        owned = set(label_of.values())
        for label, cell in _owners(self.becomes).items():
            new_label = label_of.get(cell, fresh if label in owned else label)
            fresh += new_label == fresh
            if new_label != label:
                renamed[label] = new_label
        new = part.copy()
        new[np.unravel_index(at[as_left], part.shape)] = _translated(after, renamed)[as_left]
        return LabelEdit(self.runs.box, part, new), renamed, int((~as_left).sum())

    def _as_left(self, table: pd.DataFrame) -> bool:
        """Whether the touched cells are the ones that the step left, with the pixels it left them."""
        was = _revisions(self.was)
        there = table["revision"].reindex([*was, *_owners(self.becomes).values()]).dropna()
        return dict(zip(there.index.tolist(), there.astype(int).tolist(), strict=True)) == was


def paint(session: Session, image_id: int, labels: NDArray[np.integer[Any]], action: str) -> frozenset[int]:
    """Take over painted labels; see `Session.set_labels`."""
    record = session.image(image_id)
    if labels.shape != record.shape[1:]:
        raise UserError(
            f"{record.name}: labels of {labels.shape} do not fit the image of {record.shape[1:]}; resize them"
        )
    with session.lock:
        old = session.label_view(image_id)
        differs = old != labels
        if not differs.any():
            return frozenset()
        box = box_of_mask(differs)
        before, after = old[window(box)], labels[window(box)].astype(np.int32)
        locked = session.locked_labels(image_id)
        if locked:
            after = np.where(among(before, locked) | among(after, locked), before, after)
        made = LabelEdit(box, before, after)
        if not made.touched:
            return frozenset()
        new = made.applied(old)
        rows = measured_rows(session, record, new, made.touched, box)
        table = session.cells.of_image(image_id)
        touched = table[table["label"].isin(made.touched)]
        gone = touched.index[~touched["label"].isin(rows["label"])].tolist()
        pixels = PixelRuns.of(made).to_json()
        detail = {"image": record.name, "cells": rows.index.tolist(), "removed": gone, "pixels": pixels}
        shown = pd.concat([rows, _neighbours(session, image_id, new, made, pd.concat([touched, rows]))])
        session.commit(Change(action, detail, cells=shown, removed=tuple(gone), labels={image_id: new}))
    return frozenset(int(i) for i in (*rows.index, *gone))


# ---------------------------------------------------------------------- rows


def measured_rows(
    session: Session,
    record: ImageRecord,
    labels: NDArray[np.int32],
    touched: Collection[int],
    box: Box,
    ids: Mapping[int, int] = MappingProxyType({}),
) -> pd.DataFrame:
    """Rows of the touched cells that are still there, measured anew, with the verdict ``edited``.

    All their pixels lie in ``box`` or in the boxes of their rows; ``ids`` are the cells that labels
    without a row stand for, and others are new cells.
    """
    table = session.cells.of_image(record.image_id)
    before = table[table["label"].isin(touched)].reset_index().set_index("label")
    for sides in before[_BOX].itertuples(index=False):
        box = union(box, sides)
    measured = measure_part(labels, measured_channel(session, session.pixels(record.image_id)), touched, box)
    known: dict[int, int] = {**ids, **dict(zip(before.index.tolist(), before["cell_id"].tolist(), strict=True))}
    new = [label for label in measured.index if label not in known]
    if new:
        known.update(zip(new, session.project.reserve_cell_ids(len(new)).tolist(), strict=True))
    cells = [int(known[label]) for label in measured.index]
    rows = measured.assign(
        image=record.image_id,
        label=measured.index,
        revision=session.next_revisions(cells),
        cluster=before["cluster"].reindex(measured.index, fill_value=-1),
        cell_type=before["cell_type"].reindex(measured.index, fill_value=""),
        type_probability=before["type_probability"].reindex(measured.index),
        condition=record.condition,
        verdict="edited",
        corrected=time.time(),
    )
    return CellTable(rows.set_index(pd.Index(cells, dtype="int64"))).frame


def _neighbours(
    session: Session, image_id: int, labels: NDArray[np.int32], made: LabelEdit, touched: pd.DataFrame
) -> pd.DataFrame:
    """Rows of cells whose own pixels are as they were, but beside which a cell changed, measured anew.

    ``touched`` are the rows of the changed cells, as they were and as they are.
    """
    wide = functools.reduce(union, touched[_BOX].itertuples(index=False, name=None), made.box)
    now, old = labels[window(wide)], session.label_view(image_id)[window(wide)]
    seen = beside(labels, wide, among(now, made.touched) | among(old, made.touched), PAD) - made.touched
    table = session.cells.of_image(image_id)
    rows = table[table["label"].isin(seen)]
    if not len(rows):
        return rows
    box = functools.reduce(union, rows[_BOX].itertuples(index=False, name=None))
    pixels = measured_channel(session, session.pixels(image_id))
    fresh = measure_part(labels, pixels, rows["label"].tolist(), box).loc[rows["label"]]
    old = rows[list(MEASURED)].to_numpy(float)
    # a part of the image differs from the whole in the last digits
    moved: NDArray[np.bool_] = ~np.isclose(fresh.to_numpy(float), old, rtol=1e-5, atol=1e-7, equal_nan=True).all(axis=1)
    return rows.assign(**{name: fresh[name].to_numpy() for name in MEASURED})[moved]


def _carried(rows: pd.DataFrame, now: pd.DataFrame, was: np.recarray[Any, Any] | None) -> pd.DataFrame:
    """``rows`` with what others wrote about these cells since: scores, clusters, conditions."""
    left = _frame(was)
    both = now.index.intersection(left.index).intersection(rows.index)
    for name in (*_BY_OTHERS, *_BY_THE_MAP):
        fresh, old = now.loc[both, name], left.loc[both, name]
        moved = both[~((fresh == old) | (fresh.isna() & old.isna())).to_numpy(bool)]
        if len(moved):
            rows.loc[moved, name] = fresh.loc[moved] if name in _BY_OTHERS else np.nan
    return rows


def _translated(values: NDArray[np.int32], labels: Mapping[int, int]) -> NDArray[np.int32]:
    """``values`` with labels replaced, all at once."""
    new = values.copy()
    for label, replacement in labels.items():
        if label != replacement:
            new[values == label] = replacement
    return new


def _records(rows: pd.DataFrame) -> np.recarray[Any, Any]:
    """Rows in a tenth of a data frame's memory: 1,000 steps are kept."""
    return rows.to_records(index=True)


def _frame(records: np.recarray[Any, Any] | None) -> pd.DataFrame:
    if records is None or not len(records):
        return CellTable().frame
    frame = pd.DataFrame({name: records[name] for name in COLUMNS}, index=pd.Index(records["cell_id"], name="cell_id"))
    return CellTable(frame).frame


def _owners(records: np.recarray[Any, Any] | None) -> dict[int, int]:
    """Cell id by label."""
    if records is None:
        return {}
    return dict(zip(records["label"].tolist(), records["cell_id"].tolist(), strict=True))


def _revisions(records: np.recarray[Any, Any] | None) -> dict[int, int]:
    """Revision by cell id."""
    if records is None:
        return {}
    return dict(zip(records["cell_id"].tolist(), records["revision"].tolist(), strict=True))
