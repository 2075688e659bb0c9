"""Learning the types of cells in a session, and telling them of cells that nobody typed.

The classifier is `core.type_classifier`, or `engines.cell_classifier` where pictures are looked at; what it is shown is
made here, from the table of cells, the map and the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from cell_curator.core.cell_types import CellTypes, Source, by_hand, known_types, tally
from cell_curator.core.groups import group_of
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.measure import measure
from cell_curator.core.type_classifier import TypeParameters, TypeScores, names_of, train_types
from cell_curator.core.type_figures import Figures, type_figures
from cell_curator.core.type_model import TypeModel
from cell_curator.core.type_patches import PatchModel, factor_of, pictures
from cell_curator.io.folders import make_folder
from cell_curator.io.formats.coco_types import read_typed
from cell_curator.io.images import read_image
from cell_curator.io.type_models import read_type_model, write_type_model
from cell_curator.map_store import map_network
from cell_curator.measured_channel import measured_channel
from cell_curator.remeasuring import remeasure
from cell_curator.typing_cells import take_prediction

if TYPE_CHECKING:
    from cell_curator.io.records import StoredEmbedding
    from cell_curator.session import Session

Execute = Callable[..., Job[Any]]

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


def train(session: Session, source: Source = "cells") -> Job[tuple[TypeModel | PatchModel, TypeScores]]:
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
    params = session.get(TypeParameters)
    if params.method != "cnn":
        yield from scaled(remeasure(session), 0.0, 0.3)
    rows = session.counting_cells()
    types = known_types(rows, source)
    rows, types = rows[types != ""], types[types != ""]
    if not len(rows):
        raise UserError(_NOTHING[source])
    units = rows["image"].map({record.image_id: group_of(record.path) for record in session.images})
    place = ""
    job: Job[tuple[TypeModel | PatchModel, TypeScores]]
    if params.method == "cnn":
        names_of(types)
        factor = factor_of(np.maximum(rows["bottom"] - rows["top"], rows["right"] - rows["left"]).tolist())
        shown, rows = yield from scaled(_pictures(session, rows, factor), 0.0, 0.3)
        job = _by_pictures(session, shown, types.reindex(rows.index), units.reindex(rows.index), factor, params)
    else:
        table, place = _shown(session, rows, params.figures, params.use_map)
        job = train_types(table, types, units, params)
    model, scores = yield from scaled(job, 0.3, 1.0)
    made = _described(model, {"learned_from": source, "images": int(rows["image"].nunique()), "map": place})
    _kept(session, made)
    return made, scores


def train_coco(
    execute: Execute, file: Path, params: TypeParameters, images: Path | None = None
) -> Job[tuple[TypeModel | PatchModel, TypeScores, tuple[str, ...]]]:
    """As `train`, from a COCO file; and lines on what was left out of it.

    Parameters
    ----------
    images
        Folder of the images; by default that of the file.

    Raises
    ------
    UserError
        As `io.formats.coco_types.read_typed` and `train`; or the place on a map is asked for.
    """
    if params.use_map or params.figures == "map":
        raise UserError(f"{file}: has no map; leave the place on it out")
    read = yield from scaled(read_typed(file, images), 0.0, 0.2)
    parts, crops = [], []
    largest = [max(s.stop - s.start for s in box) for one in read.images for box in find_objects(one.labels) if box]
    factor = factor_of(largest)
    for one in read.images:
        pixels, labels = read_image(one.path), sorted(one.types)
        if params.method == "cnn":
            crops.append(pictures(pixels, one.labels, labels, factor))
        cells = measure(one.labels, pixels).loc[labels]
        parts.append(cells.assign(type=[one.types[label] for label in labels], group=group_of(one.path)))
    rows = pd.concat(parts, ignore_index=True)
    job: Job[tuple[TypeModel | PatchModel, TypeScores]]
    if params.method == "cnn":
        groups = np.unique(rows["group"], return_inverse=True)[1].tolist()
        shown = {"pictures": np.concatenate(crops), "types": rows["type"].tolist(), "groups": groups}
        job = execute(_LEARN, **shown, factor=factor, params=params)
    else:
        job = train_types(type_figures(rows, params.figures), rows["type"], rows["group"], params)
    model, scores = yield from scaled(job, 0.2, 1.0)
    about = {"learned_from": str(file), "images": len(read.images), "map": ""}
    return _described(model, about), scores, read.notes


def _described(model: TypeModel | PatchModel, about: dict[str, Any]) -> TypeModel | PatchModel:
    return replace(model, about={**model.about, **about, "version": version("napari-cell-curator")})


def predict(session: Session, model: TypeModel | PatchModel, at_least: float | None = None) -> Job[Predicted]:
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
    likely = yield from scaled(_likely(session, model), 0.0, 0.9)
    rows = session.cells.frame
    kept = _kept(session, model)
    bound = session.get(TypeParameters).at_least if at_least is None else at_least
    count = take_prediction(session, likely, bound, {"model": str(kept.resolve())})
    hand = int(by_hand(session.cells.frame).sum())
    unsure = len(rows) - hand - count
    parts = [f"{count} cells have a type by the model", f"{hand} as a person said"]
    if unsure:
        parts.append(f"{unsure} less sure than {bound:.0%} have none")
    return Predicted(count, hand, unsure, tally(session.cells.frame, session.get(CellTypes)), "; ".join(parts))


def predict_again(session: Session, at_least: float | None = None) -> Job[Predicted]:
    """As `predict`, with the model that was learned or used last in the project.

    Raises
    ------
    UserError
        As `predict`, or there is none that can be read.
    """
    yield Progress(0.0, "reading the model")
    model = newest(session)
    if model is None:
        raise UserError("no types were learned in this project yet; learn them first")
    return (yield from predict(session, model, at_least))


def models(session: Session) -> list[Path]:
    """Files of the models of the project, the one learned or used last first."""
    return sorted((session.folder / FOLDER).glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)


def newest(session: Session) -> TypeModel | PatchModel | None:
    """The model that was learned or used last in the project; None if there is none that can be read."""
    for file in models(session):
        with suppress(UserError):
            return read_type_model(file)
    return None


def _kept(session: Session, model: TypeModel | PatchModel) -> Path:
    """The file of the model in the project, as the newest of them."""
    make_folder(session.folder / FOLDER)
    file = session.folder / FOLDER / f"{model.digest}.json"
    if file.is_file():
        file.touch()
    else:
        write_type_model(file, model)
    return file


def _likely(session: Session, model: TypeModel | PatchModel) -> Job[pd.DataFrame]:
    """Probability of each type (columns) for the cells of the project."""
    if isinstance(model, PatchModel):
        shown, rows = yield from scaled(_pictures(session, session.cells.frame, model.factor), 0.0, 0.6)
        told = yield from scaled(session.execute(_TELL, model=model, pictures=shown), 0.6, 1.0)
        return pd.DataFrame(told, index=rows.index, columns=list(model.types))
    yield from scaled(remeasure(session), 0.0, 0.6)
    yield Progress(0.6, "telling types")
    kind, use_map = _told_by(model)
    table, place = _shown(session, session.cells.frame, kind, use_map)
    if (use_map or kind == "map") and place != model.about.get("map"):
        raise UserError("the model was learned on another map; train it anew on the map of this project")
    return model.probabilities(table)


def _pictures(session: Session, rows: pd.DataFrame, factor: float) -> Job[tuple[NDArray[np.float32], pd.DataFrame]]:
    """Pictures of cells and their rows, image by image; cells that went away meanwhile have none."""
    made, there = [pictures(np.zeros((1, 1)), np.zeros((1, 1), int), [], factor)], [rows.iloc[:0]]
    members = list(rows.groupby("image"))
    for number, (image, _) in enumerate(members):
        image_id = int(str(image))
        yield Progress(number / len(members), session.image(image_id).name)
        pixels = measured_channel(session, session.pixels(image_id))
        with session.lock:
            labels, now = session.label_view(image_id), session.cells.of_image(image_id)
            now = now.loc[now.index.intersection(rows.index)]
            made.append(pictures(pixels, labels, now["label"].tolist(), factor))
        there.append(now)
    return np.concatenate(made), pd.concat(there[1:]) if len(there) > 1 else there[0]


def _by_pictures(
    session: Session,
    shown: NDArray[np.float32],
    types: pd.Series[str],
    units: pd.Series[Any],
    factor: float,
    params: TypeParameters,
) -> Job[tuple[TypeModel | PatchModel, TypeScores]]:
    groups = pd.factorize(units)[0].tolist()
    told: Job[tuple[TypeModel | PatchModel, TypeScores]] = session.execute(
        _LEARN, pictures=shown, types=types.tolist(), groups=groups, factor=factor, params=params
    )
    return told


_LEARN = "cell_curator.engines.cell_classifier:train"
_TELL = "cell_curator.engines.cell_classifier:tell"

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
    if not use_map and kind != "map":
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
