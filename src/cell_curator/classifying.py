"""Learning the types of cells in a session, and telling them of cells that nobody typed.

The classifier is `core.type_classifier`; what it is shown is made here, from the table of cells and the map.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import pandas as pd

from cell_curator.core.cell_types import CellTypes, by_hand, tally
from cell_curator.core.groups import group_of
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.type_classifier import TypeParameters, TypeScores, train_types
from cell_curator.core.type_figures import Figures, type_figures
from cell_curator.core.type_model import TypeModel
from cell_curator.io.folders import make_folder
from cell_curator.io.type_models import write_type_model
from cell_curator.map_store import map_network
from cell_curator.remeasuring import remeasure
from cell_curator.typing_cells import take_prediction

if TYPE_CHECKING:
    from cell_curator.io.records import StoredEmbedding
    from cell_curator.session import Session

Source = Literal["cells", "conditions"]

FOLDER = "types"
"""Folder of a project that keeps the models by which its cells were typed."""


@dataclass(frozen=True)
class Predicted:
    """What a model said: how many cells have a type by it, how many were left as a person said or without one.

    ``counts``: see `core.cell_types.tally`. ``text``: one line for the user.
    """

    cells: int
    by_hand: int
    unsure: int
    counts: pd.DataFrame
    text: str


def train(session: Session, source: Source = "cells") -> Job[tuple[TypeModel, TypeScores]]:
    """Learn types with the project's `TypeParameters` and score on images held out.

    Parameters
    ----------
    source
        ``"cells"``: from the cells that a person typed. ``"conditions"``: from all cells that count, where each image
        holds one type and its condition names it.

    Raises
    ------
    UserError
        If there is nothing to learn from, see `core.type_classifier.train_types`; or no map where one is wanted.
    """
    yield from scaled(remeasure(session), 0.0, 0.3)
    rows = session.counting_cells()
    types = rows["condition"] if source == "conditions" else rows["cell_type"].where(by_hand(rows), "")
    rows, types = rows[types != ""], types[types != ""]
    if not len(rows):
        raise UserError(_NOTHING[source])
    params = session.get(TypeParameters)
    table, place = _shown(session, rows, params.figures, params.use_map)
    units = {record.image_id: group_of(record.path) for record in session.images}
    model, scores = yield from scaled(train_types(table, types, rows["image"].map(units), params), 0.3, 1.0)
    about = {
        **model.about,
        "learned_from": source,
        "images": int(rows["image"].nunique()),
        "map": place,
        "version": version("napari-cell-curator"),
    }
    return replace(model, about=about), scores


def predict(session: Session, model: TypeModel, at_least: float | None = None) -> Job[Predicted]:
    """Give every cell that no person typed the type that is likeliest by the model; one undoable step.

    A copy of the model is kept in the project. Types that the project did not know are added to its own.

    Parameters
    ----------
    at_least
        Cells less sure than this stay without a type; by default as in the project's `TypeParameters`.

    Raises
    ------
    UserError
        If there are no cells, or the model was learned on another map.
    """
    if not len(session.cells):
        raise UserError("there are no cells yet; find cells first")
    yield from scaled(remeasure(session), 0.0, 0.6)
    yield Progress(0.6, "telling types")
    rows = session.cells.frame
    kind, use_map = _told_by(model)
    table, place = _shown(session, rows, kind, use_map)
    if use_map and place != model.about.get("map"):
        raise UserError("the model was learned on another map; train it anew on the map of this project")
    likely = model.probabilities(table)
    make_folder(session.folder / FOLDER)
    kept = session.folder / FOLDER / f"{model.digest}.json"
    if not kept.is_file():
        write_type_model(kept, model)
    bound = session.get(TypeParameters).at_least if at_least is None else at_least
    count = take_prediction(session, likely, bound, {"model": str(kept.resolve())})
    hand = int(by_hand(session.cells.frame).sum())
    unsure = len(rows) - hand - count
    parts = [f"{count} cells have a type by the model", f"{hand} as a person said"]
    if unsure:
        parts.append(f"{unsure} less sure than {bound:.0%} have none")
    return Predicted(count, hand, unsure, tally(session.cells.frame, session.get(CellTypes)), "; ".join(parts))


_NOTHING = {
    "cells": "no cell has a type yet; give a few cells of each type theirs",
    "conditions": "no cell has a condition; put the images of each type under a condition of its own",
}


def _told_by(model: TypeModel) -> tuple[Figures, bool]:
    try:
        params = TypeParameters.model_validate(model.about["parameters"])
    except (KeyError, ValueError):
        raise UserError("the model does not say what it was learned from; train it anew") from None
    return params.figures, params.use_map


def _shown(session: Session, rows: pd.DataFrame, kind: Figures, use_map: bool) -> tuple[pd.DataFrame, str]:
    """The figures of cells, and which map they are from."""
    if not use_map:
        return type_figures(rows, kind), ""
    stored = session.embedding
    if stored is None:
        raise UserError("there is no map yet; make the map first, or leave the place on it out")
    # the place of a cell that changed since is that of another shape
    fresh = pd.Series(stored.revision, index=stored.cell_id).reindex(rows.index) == rows["revision"]
    names = [f"map {number + 1}" for number in range(stored.latent.shape[1])]
    latent = pd.DataFrame(stored.latent, index=stored.cell_id, columns=names).reindex(rows.index[fresh])
    return type_figures(rows, kind, latent), _identity(session, stored)


def _identity(session: Session, stored: StoredEmbedding) -> str:
    """Changes with the network that made the map, but not when cells are placed anew by it."""
    file = map_network(session)
    known = stored.latent.tobytes() if file is None else file.read_bytes()
    return hashlib.sha256(known).hexdigest()[:16]
