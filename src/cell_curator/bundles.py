"""A round as one file that can be carried to a faster machine, and its model brought back.

The file is a zip: ``bundle.json`` (parameters, what the card is to say), ``weights.pth`` of the model that
learns on, and one ``examples/NNNN.npz`` for each image. Bundles come from other machines, so nothing
in them is unpickled and only files with these names are read. `teach_folders` is the same without a
project at either end.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from cell_curator.core.groups import group_of, held_out
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Recipe
from cell_curator.engines.cards import CARD, WEIGHTS, ModelCard, read_card
from cell_curator.engines.downloads import fetch
from cell_curator.engines.finetune import TrainParameters
from cell_curator.engines.segmenter import SegmentParameters, source_image
from cell_curator.engines.training_data import Example
from cell_curator.examples import findings, gather
from cell_curator.io.atomic import atomic_file, write_error
from cell_curator.io.folders import label_files, sources
from cell_curator.io.images import read_image
from cell_curator.io.labels import check_shape, read_labels
from cell_curator.io.records import Round
from cell_curator.io.safe_numpy import DAMAGED
from cell_curator.rounds import add_round, lesson_of
from cell_curator.teaching import Execute, Lesson, make_place, teach, tidy, write_card

if TYPE_CHECKING:
    from cell_curator.session import Session

VERSION = 1
MOST_BYTES = 16 * 2**30
"""Bundles that unpack to more are refused."""

_ABOUT = "bundle.json"
_MEMBER = re.compile(r"examples/[0-9]{4}\.npz")
_HOLDOUT = "holdout"


def write_bundle(session: Session, path: Path, parameters: TrainParameters) -> Job[Path]:
    """Write everything that a round would learn from.

    Raises
    ------
    UserError
        As `rounds.train_round` before it trains, or the file cannot be written.
    """
    given = yield from scaled(gather(session), 0.0, 0.5, "reading examples: ")
    stops = [finding for finding in findings(session, given) if finding.stops]
    if stops:
        raise UserError(str(stops[0]))
    lesson = lesson_of(session, given, parameters)
    weights = yield from fetch(lesson.base.model, engine=lesson.base.engine)
    every = [*lesson.train, *lesson.holdout]
    about = {
        "format": "cell-curator training bundle",
        "version": VERSION,
        "segment": lesson.base.model_dump(mode="json"),
        "train": lesson.parameters.model_dump(mode="json"),
        "about": dict(lesson.about),
        "examples": [
            {"name": one.name, "role": "train" if index < len(lesson.train) else _HOLDOUT}
            for index, one in enumerate(every)
        ],
    }
    with atomic_file(path) as file, zipfile.ZipFile(file, "w") as bundle:
        bundle.writestr(_ABOUT, json.dumps(about, indent=1))
        bundle.write(weights, WEIGHTS)
        for index, one in enumerate(every):
            yield Progress(0.5 + 0.5 * index / len(every), one.name)
            packed = io.BytesIO()
            np.savez_compressed(packed, image=one.image, labels=one.labels, counts=one.counts)
            bundle.writestr(f"examples/{index:04d}.npz", packed.getvalue())
    return path


def teach_bundle(execute: Execute, path: Path, out: Path, parameters: TrainParameters | None = None) -> Job[ModelCard]:
    """Train what a bundle holds; ``out`` becomes a model folder that `adopt` takes over.

    Raises
    ------
    UserError
        If the file is no bundle or damaged, ``out`` is taken, or training fails.
    """
    place = _new_folder(out)
    yield Progress(0.0, "unpacking")
    lesson = _unpacked(path, place, parameters)
    return (yield from _teach_into(execute, lesson, place))


def adopt(session: Session, folder: Path) -> Round:
    """Take a model that was trained elsewhere over as a round; the folder is copied.

    Raises
    ------
    UserError
        If it is no model folder, or one without a card of a training.
    """
    card = read_card(folder)
    if "diameter_px" not in card.details or "parent" not in card.details:
        raise UserError(f"{folder}: its card is not one of a training; use `cell-curator models add` for such a model")
    place = make_place(session.folder / "models" / ".adopted")
    try:
        for name in (WEIGHTS, CARD):
            shutil.copyfile(folder / name, place / name)
    except OSError as error:
        raise write_error(place, error) from error
    return add_round(session, place, {"minutes": None, **card.details})


def teach_folders(
    execute: Execute,
    images: Path,
    labels: Path,
    out: Path,
    *,
    base: SegmentParameters,
    recipe: Recipe,
    parameters: TrainParameters,
    share: float = 0.2,
    skip: Collection[str] = (),
) -> Job[ModelCard]:
    """Train on a folder of images and one of labels with the same names; ``out`` becomes a model folder.

    Parameters
    ----------
    share
        Part of the wells or files that is kept for scoring, 0..1.
    skip
        Names of images that are left out.

    Raises
    ------
    UserError
        If no names match, sizes differ, ``out`` is taken, or training fails.
    """
    found, truth = {source.stem: source.path for source in sources(images)}, label_files(labels)
    names = [stem for stem in found if stem in truth and stem not in skip]
    if not names and skip:
        raise UserError(f"{images}: all images were left out; use those that look doubtful, too")
    if not names:
        raise UserError(f"{labels}: no file has the name of an image in {images}; give labels the names of the images")
    place = _new_folder(out)
    groups = [group_of(found[stem]) for stem in names]
    held = held_out(groups, share, parameters.seed)
    train: list[Example] = []
    holdout: list[Example] = []
    for index, (stem, group) in enumerate(zip(names, groups, strict=True)):
        yield Progress(0.1 * index / len(names), f"reading {stem}")
        (holdout if group in held else train).append(_example(stem, found[stem], truth[stem], base, recipe))
    about = {
        "parent_title": base.model,
        "source": base.source,
        "recipe_hash": recipe.hash if base.source == "prepared" else "",
        "recipe": recipe.model_dump(mode="json") if base.source == "prepared" else None,
        "split": f"by well or file, seed {parameters.seed}: {len(train)} images learned from, {len(holdout)} scored on",
    }
    lesson = Lesson(tuple(train), tuple(holdout), base, parameters, about)
    return (yield from scaled(_teach_into(execute, lesson, place), 0.1, 1.0))


def _teach_into(execute: Execute, lesson: Lesson, place: Path) -> Job[ModelCard]:
    detail = yield from teach(execute, lesson, place)
    write_card(place, {"title": place.name, **detail})
    tidy(place, (WEIGHTS, CARD))
    return read_card(place)


def _example(stem: str, image: Path, labels: Path, base: SegmentParameters, recipe: Recipe) -> Example:
    pixels, truth = read_image(image), read_labels(labels)
    check_shape(truth, pixels.shape[1:], labels)
    shown = source_image(lambda: prepare(pixels, recipe).image, lambda: pixels, base)
    return Example(stem, np.asarray(shown, np.float32), truth, np.ones(truth.shape, bool))


def _new_folder(out: Path) -> Path:
    """The folder, which may hold an unfinished training of ours but no finished model."""
    if (out / CARD).exists():
        raise UserError(f"{out}: holds a finished model; choose another folder")
    return make_place(out)


def _unpacked(path: Path, place: Path, parameters: TrainParameters | None) -> Lesson:
    """The lesson in a bundle; its weights are put into ``place``."""
    try:
        with zipfile.ZipFile(path) as bundle:
            return _lesson(bundle, path, place, parameters)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; check the path") from None
    except (*DAMAGED, ValidationError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: is no training bundle, or damaged ({reason}); write it again") from error


def _lesson(bundle: zipfile.ZipFile, path: Path, place: Path, parameters: TrainParameters | None) -> Lesson:
    members = {info.filename: info for info in bundle.infolist()}
    strange = [name for name in members if name not in (_ABOUT, WEIGHTS) and not _MEMBER.fullmatch(name)]
    if strange:
        raise UserError(f"{path}: refused, since it holds {strange[0]!r}, which no bundle does; write it again")
    if sum(info.file_size for info in members.values()) > MOST_BYTES:
        raise UserError(f"{path}: unpacks to more than {MOST_BYTES / 2**30:.0f} GB; mark smaller regions")
    about = json.loads(bundle.read(_ABOUT))
    if about["version"] > VERSION:
        raise UserError(f"{path}: was written by a newer Cell Curator; update this one")
    base_file = place / f"base-{WEIGHTS}"
    with bundle.open(WEIGHTS) as packed, base_file.open("wb") as target:
        shutil.copyfileobj(packed, target)
    parts: dict[str, list[Example]] = {"train": [], _HOLDOUT: []}
    for index, one in enumerate(about["examples"]):
        with np.load(io.BytesIO(bundle.read(f"examples/{index:04d}.npz")), allow_pickle=False) as arrays:
            parts[one["role"]].append(_checked(str(one["name"]), arrays))
    base = SegmentParameters.model_validate(about["segment"]).model_copy(update={"model": str(base_file)})
    chosen = parameters or TrainParameters.model_validate(about["train"])
    return Lesson(tuple(parts["train"]), tuple(parts[_HOLDOUT]), base, chosen, dict(about["about"]))


def _checked(name: str, arrays: Mapping[str, Any]) -> Example:
    image = np.asarray(arrays["image"], np.float32)
    labels, counts = np.asarray(arrays["labels"], np.int32), np.asarray(arrays["counts"], bool)
    if not labels.shape == counts.shape == image.shape[-2:] or image.ndim not in (2, 3):
        raise ValueError(f"{name}: arrays of different sizes")
    return Example(name, image, labels, counts)
