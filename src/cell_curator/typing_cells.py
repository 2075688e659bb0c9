"""Naming the types of cells of a session and saying which cell is of which, as undoable steps.

What a person says has no probability; what a model says has one, and gives way (see `core.cell_types`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from cell_curator.core.cell_types import CellTypes, by_hand
from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of
from cell_curator.io.project import Change

if TYPE_CHECKING:
    from cell_curator.session import Session


def name_types(session: Session, names: Sequence[str]) -> CellTypes:
    """Set the names of the types and their order.

    Raises
    ------
    UserError
        If a name is empty, too long or there twice, or one is left out that cells still have.
    """
    types = _checked(names)
    left = set(session.cells.frame["cell_type"]) - {"", *types.names}
    if left:
        raise UserError(f"there are still cells of type {sorted(left)[0]!r}; give them another type first")
    session.put(types)
    return types


def rename_type(session: Session, old: str, new: str) -> None:
    """Call a type something else, and all its cells with it; one undoable step.

    Raises
    ------
    UserError
        If there is no such type, or another has that name.
    """
    types = _known(session, old)
    new = " ".join(new.split())
    if new == old:
        return
    if new in types.names:
        raise UserError(f"another cell type is called {new!r} already; choose another name")
    _checked([new])
    session.history.do(_Rename(session, old, new))


def give_type(session: Session, ids: Iterable[int], name: str) -> None:
    """Say of what type cells are; ``""`` takes the type away. One undoable step.

    Raises
    ------
    UserError
        If there is no such type, or a cell is not there.
    """
    if name:
        _known(session, name)
    cells = tuple(int(i) for i in ids)
    missing = [i for i in cells if i not in session.cells]
    if missing:
        raise UserError(f"there is no cell {missing[0]} any more; choose another")
    if cells:
        title = f"type {name or 'none'} for {number_of(len(cells), 'cell')}"
        session.history.do(_SetTypes(session, cells, (name,) * len(cells), (np.nan,) * len(cells), title))


def take_prediction(session: Session, likely: pd.DataFrame, at_least: float, detail: Mapping[str, Any]) -> int:
    """Give cells the likeliest type, except those that a person typed; one undoable step.

    Parameters
    ----------
    likely
        Probability of each type (columns) for cells (index).
    at_least
        Cells less sure than this have no type afterwards.
    detail
        For the journal.

    Returns
    -------
    How many cells have a type by it.
    """
    frame = session.cells.frame
    open_to = frame.index[~by_hand(frame)].intersection(likely.index)
    likely = likely.loc[open_to]
    sure = likely.max(axis=1)
    named = likely.idxmax(axis=1).where(sure >= at_least, "") if len(likely) else pd.Series(dtype="object")
    types = session.get(CellTypes)
    # sent before the cells, so that no view meets a type it does not know
    session.put(types.with_names(*(str(name) for name in likely.columns)))
    if len(likely):
        said = {**detail, "cells": int((named != "").sum()), "types": list(likely.columns), "at_least": at_least}
        title = f"types of {number_of(len(likely), 'cell')}"
        chances = tuple(sure.where(named != "").tolist())
        session.history.do(_SetTypes(session, tuple(open_to.tolist()), tuple(named), chances, title, said))
    return int((named != "").sum())


def _checked(names: Sequence[str]) -> CellTypes:
    try:
        return CellTypes(names=tuple(names))
    except ValidationError as error:
        raise UserError(f"{error.errors()[0]['msg'].replace('Value error, ', '')}; choose another name") from None


def _known(session: Session, name: str) -> CellTypes:
    types = session.get(CellTypes)
    if name not in types.names:
        known = ", ".join(types.names) or "none"
        raise UserError(f"there is no cell type {name!r}; the types are: {known}")
    return types


@dataclass(frozen=True)
class _SetTypes:
    """Give cells types, one each; cells that went away since are passed over.

    With ``detail`` a model said so, and the journal names that in place of the cells.
    """

    session: Session
    ids: tuple[int, ...]
    types: tuple[str, ...]
    probabilities: tuple[float, ...]
    title: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def apply(self) -> _SetTypes:
        with self.session.lock:
            frame = self.session.cells.frame
            wanted = pd.DataFrame({"type": self.types, "likely": self.probabilities}, index=pd.Index(self.ids))
            wanted = wanted[wanted.index.isin(frame.index)]
            rows = frame.loc[wanted.index]
            before = (tuple(rows.index.tolist()), tuple(rows["cell_type"]), tuple(rows["type_probability"]))
            rows = rows.assign(cell_type=wanted["type"], type_probability=wanted["likely"].astype("float64"))
            detail = self.detail or {
                "cells": rows.index.tolist(),
                "types": rows["cell_type"].tolist(),
                "images": [self.session.image(image).name for image in rows["image"]],
                "labels": rows["label"].tolist(),
            }
            self.session.commit(Change("predict types" if self.detail else "type", detail, cells=rows))
        return _SetTypes(self.session, *before, self.title, self.detail)


@dataclass(frozen=True)
class _Rename:
    """Another name for a type and its cells; nothing happens if the type is gone."""

    session: Session
    old: str
    new: str

    @property
    def title(self) -> str:
        return f"rename type {self.old}"

    def apply(self) -> _Rename:
        with self.session.lock:
            types = self.session.get(CellTypes)
            if self.old not in types.names or self.new in types.names:
                return self
            frame = self.session.cells.frame
            rows = frame[frame["cell_type"] == self.old].assign(cell_type=self.new)
            settings = {CellTypes.__name__: types.renamed(self.old, self.new).model_dump(mode="json")}
            detail = {"from": self.old, "to": self.new}
            self.session.commit(Change("rename type", detail, cells=rows, settings=settings))
        self.session.events.parameters_changed.emit(CellTypes.__name__)
        return _Rename(self.session, self.new, self.old)
