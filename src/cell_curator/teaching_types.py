"""Teaching a network to find cells and their types at once, from a session or from a COCO file.

The network is `engines.mask_rcnn`; it is judged on images that were held out, and kept with what they told.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.cell_types import CellTypes, Source, known_types
from cell_curator.core.coco_scores import Said, Truth
from cell_curator.core.found_types import FinderScores, finder_scores
from cell_curator.core.groups import group_of
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Channel, Recipe
from cell_curator.engines.cards import CARD, WEIGHTS
from cell_curator.engines.mask_rcnn import MaskRcnnParameters
from cell_curator.engines.mask_rcnn import model as models_on_disk
from cell_curator.engines.mask_rcnn.material import TypedImage
from cell_curator.engines.mask_rcnn.model import About, is_finder, read_about
from cell_curator.engines.mask_rcnn.prediction import TypedCells
from cell_curator.io.formats.coco_types import read_typed
from cell_curator.io.images import read_image
from cell_curator.teaching import make_place

if TYPE_CHECKING:
    from cell_curator.session import Session

Execute = Callable[..., Job[Any]]

FOLDER = "types"
"""Folder of a project that keeps the models by which its cells were typed."""

TRAIN = "cell_curator.engines.mask_rcnn.training:train"
FIND = "cell_curator.engines.mask_rcnn.prediction:find"

_LEARNING, _NAME = "learning", "mask-rcnn-"
_ALL_SCORES = 0.05  # every find counts for the mean AP, by its score
_NOTHING = {
    "cells": "no cell has a type yet; give a few cells of each type theirs",
    "conditions": "no cell has a condition; put the images of each type under a condition of its own",
}


@dataclass(frozen=True)
class Finder:
    """A trained network: its folder, the types, how it did on held-out images (None: none were), and the card."""

    folder: Path
    types: tuple[str, ...]
    scores: FinderScores | None
    details: Mapping[str, Any]
    text: str


def train(session: Session, source: Source = "cells", start: Path | None = None) -> Job[Finder]:
    """Learn from the images that hold cells whose type is known, with the project's `MaskRcnnParameters`.

    The model is kept in the project. While it learns, payloads are `engines.mask_rcnn.FinderState`.

    Parameters
    ----------
    start
        Weights to start from, see `engines.mask_rcnn.training.train`; by default none.

    Raises
    ------
    UserError
        If there is too little to learn from, or ``start`` does not fit.
    """
    params = session.get(MaskRcnnParameters)
    images, names = yield from scaled(_gather(session, source, params), 0.0, 0.05)
    details = {"learned_from_types_of": source, "recipe": session.get(Recipe).model_dump(mode="json")}
    place = make_place(session.folder / FOLDER / _LEARNING)
    job = session.execute(
        TRAIN, images=images, names=names, params=params, folder=place, start=start, details=_about(details)
    )
    about: About = yield from scaled(job, 0.05, 0.9)
    made = yield from scaled(_judged(session.execute, images, place, about), 0.9, 1.0, "judging: ")
    return _moved(session, made)


def can_keep(session: Session) -> bool:
    """Whether a training was cancelled from which `keep` can make a model."""
    return is_finder(session.folder / FOLDER / _LEARNING)


def keep(session: Session) -> Job[Finder]:
    """The best network of a training that was cancelled, judged and kept in the project.

    Raises
    ------
    UserError
        If it was cancelled before there was any.
    """
    if not can_keep(session):
        raise UserError("the training was stopped before there was anything to keep; train again")
    place = session.folder / FOLDER / _LEARNING
    about = read_about(place)
    source: Source = "conditions" if about.details.get("learned_from_types_of") == "conditions" else "cells"
    images, _ = yield from scaled(_gather(session, source, about.parameters), 0.0, 0.3)
    made = yield from scaled(_judged(session.execute, images, place, about), 0.3, 1.0, "judging: ")
    return _moved(session, made)


def models(session: Session) -> tuple[Path, ...]:
    """Folders of the models that the project keeps, the newest first."""
    place = session.folder / FOLDER
    found = [one for one in place.glob(f"{_NAME}*") if is_finder(one)] if place.is_dir() else []
    return tuple(sorted(found, key=lambda one: (one / WEIGHTS).stat().st_mtime, reverse=True))


def train_coco(
    execute: Execute,
    file: Path,
    out: Path,
    params: MaskRcnnParameters,
    *,
    images: Path | None = None,
    recipe: Recipe,
    start: Path | None = None,
) -> Job[Finder]:
    """As `train`, from a COCO file; ``out`` becomes the model folder.

    Parameters
    ----------
    images
        Folder of the images; by default that of the file.

    Raises
    ------
    UserError
        As `io.formats.coco_types.read_typed` and `train`.
    """
    read = yield from scaled(read_typed(file, images), 0.0, 0.05)
    typed = []
    for one in read.images:
        pixels = read_image(one.path)
        shown = prepare(pixels, recipe).image if params.shown == "prepared" else _all_channels(pixels, recipe)
        typed.append(TypedImage(one.path.name, group_of(one.path), shown, one.labels, one.types))
    _same_channels(typed)
    details = _about({"learned_from_types_of": str(file), "recipe": recipe.model_dump(mode="json")})
    job = execute(
        TRAIN, images=typed, names=read.types, params=params, folder=make_place(out), start=start, details=details
    )
    about: About = yield from scaled(job, 0.05, 0.9)
    made = yield from scaled(_judged(execute, typed, out, about), 0.9, 1.0, "judging: ")
    return replace(made, text="\n".join((*read.notes, made.text)))


def _gather(session: Session, source: Source, params: MaskRcnnParameters) -> Job[tuple[list[TypedImage], list[str]]]:
    """The images in which a cell has a type, and the types, in the project's order where it has one."""
    frame = session.cells.frame
    rejected = frame["verdict"] == "rejected"
    known = known_types(frame, source).where(~rejected, "")
    if not (known != "").any():
        raise UserError(_NOTHING[source])
    images = []
    members = sorted(set(frame.loc[known != "", "image"].tolist()))
    for number, image_id in enumerate(members):
        record = session.image(image_id)
        yield Progress(number / len(members), record.name)
        picture = shown(session, record.image_id, params, session.get(Recipe))
        with session.lock:
            labels, rows = session.labels(record.image_id), session.cells.of_image(record.image_id)
        labels[np.isin(labels, rows.loc[rows["verdict"] == "rejected", "label"])] = 0
        types = known.reindex(rows.index).fillna("")
        given = {int(label): name for label, name in zip(rows["label"], types, strict=True) if name}
        images.append(TypedImage(record.name, group_of(record.path), picture, labels, given))
    _same_channels(images)
    there = sorted({name for one in images for name in one.types.values()})
    order = session.get(CellTypes).with_names(*there).names
    return images, [name for name in order if name in there]


def shown(session: Session, image_id: int, params: MaskRcnnParameters, recipe: Recipe) -> NDArray[np.float32]:
    """An image as the network is to see it."""
    if params.shown == "prepared":
        return session.prepare(image_id, recipe).image
    return _all_channels(session.pixels(image_id), session.recipe_for(image_id, recipe))


def _all_channels(pixels: NDArray[Any], recipe: Recipe) -> NDArray[np.float32]:
    if len(pixels) > 3:
        raise UserError(f"an image has {len(pixels)} channels, of which three can be shown; show the prepared one")
    each = [recipe.model_copy(update={"channel": Channel(mode="index", index=n)}) for n in range(len(pixels))]
    return np.stack([prepare(pixels, one).image for one in each])


def _same_channels(images: Sequence[TypedImage]) -> None:
    counts = sorted({1 if one.image.ndim == 2 else len(one.image) for one in images})
    if len(counts) > 1:
        raise UserError(
            f"images have {' and '.join(map(str, counts))} channels; show the network the prepared channel only, or "
            "take out the images of the other kind"
        )


def _about(details: Mapping[str, Any]) -> dict[str, Any]:
    return {**details, "versions": {name: version(name) for name in ("napari-cell-curator", "torch", "torchvision")}}


def _judged(execute: Execute, images: Sequence[TypedImage], folder: Path, about: About) -> Job[Finder]:
    """Look at the held-out images, and write down how well that went."""
    groups = set(about.details.get("held_out_groups", ()))
    held = [one for one in images if one.group in groups and one.types]
    truth, said = [], []
    for number, one in enumerate(held):
        job = execute(FIND, image=one.image, model=folder, score=_ALL_SCORES, name=one.name)
        found: TypedCells = yield from scaled(job, number / len(held), (number + 1) / len(held), f"{one.name}: ")
        truth.append(Truth(one.labels, one.types))
        said.append(Said(found.labels, found.likely * found.score[:, None]))
    learned = (
        f"Learned from {sum(about.details['cells'].values())} cells in {len(about.details['learned_from'])} images"
    )
    if not held:
        models_on_disk.write_about(folder, about)
        return Finder(folder, about.types, None, about.details, f"{learned}; no image was held out to judge by.")
    scores = finder_scores(truth, said, about.types, about.parameters.score)
    about = replace(about, details={**about.details, "scores": scores.plain()})
    models_on_disk.write_about(folder, about)
    return Finder(folder, about.types, scores, about.details, f"{learned}: {scores.text}")


def _moved(session: Session, made: Finder) -> Finder:
    """The model under a name of its own in the project."""
    place = session.folder / FOLDER
    endings = [one.name.removeprefix(_NAME) for one in place.glob(f"{_NAME}*")]
    taken = [int(ending) for ending in endings if ending.isdigit()]
    folder = make_place(place / f"{_NAME}{max(taken, default=0) + 1}")
    for name in (WEIGHTS, CARD):
        (made.folder / name).replace(folder / name)
    shutil.rmtree(made.folder, ignore_errors=True)
    return replace(made, folder=folder)
