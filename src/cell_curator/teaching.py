"""One lesson: score a model, train it further, score what came of it. Knows no project.

The same for a round in a project, a bundle on another machine and two folders on the command line.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cell_curator.core.jobs import Job, Progress, scaled
from cell_curator.core.measure import median_diameter
from cell_curator.core.scores import Scores, Summary, evaluate, judged, summary
from cell_curator.engines.cards import CARD, WEIGHTS, find_model, read_card
from cell_curator.engines.downloads import fetch
from cell_curator.engines.finetune import Trained, TrainParameters, presets
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.training_data import Example
from cell_curator.io.atomic import write_atomic, write_error
from cell_curator.samples.scenes import nuclei_on_grooves

Execute = Callable[..., Job[Any]]

SEGMENT = "cell_curator.engines.segmenter:segment_image"
FINETUNE = "cell_curator.engines.finetune:finetune"

FORGOTTEN = 0.2
"""Loss of AP@0.5 on a built-in scene from which a model is said to have forgotten such images."""

_PREVIEW = 256
"""Side of the piece whose masks are shown while a model learns, px."""


@dataclass(frozen=True)
class Lesson:
    """What is taught.

    Parameters
    ----------
    train, holdout
        What is learned from, and what scores it.
    base
        How the model that learns on finds cells; ``model`` as an engine understands it.
    parameters
        How it learns.
    about
        What else the card is to say.
    """

    train: tuple[Example, ...]
    holdout: tuple[Example, ...]
    base: SegmentParameters
    parameters: TrainParameters
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """Scores over images, None where there was nothing to score on, and how many cells were found."""

    total: Summary | None
    found: int

    @property
    def values(self) -> dict[str, Any] | None:
        """As a card holds them."""
        return None if self.total is None else asdict(self.total)


def teach(execute: Execute, lesson: Lesson, place: Path) -> Job[dict[str, Any]]:
    """Train in the folder ``place``, where the weights stay, and return what the card is to say.

    While it learns, ``Progress.payload`` is a `TrainingState`; the best so far is in ``place`` at any moment.

    Raises
    ------
    UserError
        See `engines.finetune.finetune`.
    """
    start = time.monotonic()
    before = yield from scaled(score(execute, _with_diameter(lesson), lesson.holdout), 0.0, 0.1, "before: ")
    weights = yield from fetch(lesson.base.model, engine=lesson.base.engine)
    job = execute(
        FINETUNE,
        base=weights,
        train=list(lesson.train),
        holdout=list(lesson.holdout),
        params=lesson.parameters,
        folder=place,
        preview=_piece((lesson.holdout or lesson.train)[0]),
        engine=lesson.base.engine,
    )
    trained: Trained = yield from scaled(job, 0.1, 0.85)
    known = {**described(lesson), **outcome(trained), "before": before.values}
    after = yield from scaled(look_after(execute, lesson, trained.weights, trained.diameter), 0.85, 1.0, "after: ")
    return {**known, **after, "minutes": round((time.monotonic() - start) / 60, 2)}


def described(lesson: Lesson) -> dict[str, Any]:
    """What is known of a model before it is trained."""
    given = {"examples": lesson.train, "holdout": lesson.holdout}
    return {
        "engine": lesson.base.engine,
        "parent": lesson.base.model,
        "channels": _channels(lesson),
        **{key: [{"image": one.name, "cells": _cells(one)} for one in part] for key, part in given.items()},
        "cells": sum(_cells(one) for one in lesson.train),
        "parameters": lesson.parameters.model_dump(mode="json"),
        "preset": next(
            (name for name, preset in presets(lesson.base.engine).items() if preset == lesson.parameters), "own"
        ),
        "keep": lesson.parameters.keep,
        "notes": [],
        "usable": True,
        "scores": None,
        "versions": {name: version(name) for name in ("napari-cell-curator", "cellpose", "torch", "numpy")},
        **lesson.about,
    }


def outcome(trained: Trained) -> dict[str, Any]:
    """What the training itself says of the model."""
    return {
        **trained.details,
        "diameter_px": trained.diameter,
        "epoch": trained.epoch,
        "epochs": trained.epochs,
        "curve": [list(point) for point in trained.curve],
        "stopped": trained.stopped,
    }


def look_after(execute: Execute, lesson: Lesson, weights: Path, diameter: float) -> Job[dict[str, Any]]:
    """Does it find cells, how well, and what did it forget? Scores, whether it is usable, and lines for the user."""
    mine = lesson.base.model_copy(update={"model": str(weights), "diameter": diameter})
    scored = yield from scaled(score(execute, mine, lesson.holdout), 0.0, 0.6)
    found = scored.found or (yield from scaled(score(execute, mine, lesson.train[:2]), 0.6, 0.75)).found
    notes = ["it finds no cells, so it is not offered for use"]
    if found:
        notes = yield from scaled(_forgotten(execute, lesson.base, mine), 0.75, 1.0)
    return {"scores": scored.values, "usable": bool(found), "notes": notes}


def score(execute: Execute, parameters: SegmentParameters, examples: Sequence[Example]) -> Job[Scored]:
    """Find the cells of examples and compare; what nobody reviewed counts neither way."""
    scores: list[Scores] = []
    number = 0
    for index, example in enumerate(examples):
        yield Progress(index / len(examples), example.name)
        job = execute(SEGMENT, image=example.image, params=parameters)
        found: Segmentation = yield from scaled(job, index / len(examples), (index + 1) / len(examples))
        number += found.count
        scores.append(evaluate(judged(found.labels, example.counts), example.labels))
    return Scored(summary(scores), number)


def write_card(place: Path, detail: Mapping[str, Any]) -> None:
    """Write the card of the model in ``place``."""
    text = json.dumps(dict(detail), indent=1, ensure_ascii=False).encode()
    write_atomic(place / CARD, lambda stream: stream.write(text))


def tidy(place: Path, keep: Iterable[str]) -> None:
    """Throw away what training left in ``place`` beside the files named."""
    kept = set(keep)
    for leftover in place.iterdir():
        if leftover.name in kept:
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()


def make_place(place: Path) -> Path:
    """The folder, made if it is not there.

    Raises
    ------
    UserError
        If it cannot be made.
    """
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(place, error) from error
    return place


def _channels(lesson: Lesson) -> int:
    """How many channels the model can be used with: two only if it, or the one before, learned from two."""
    if any(one.image.ndim == 3 and len(one.image) == 2 for one in lesson.train):
        return 2
    weights = find_model(lesson.base.model)
    return int(read_card(weights.parent).details.get("channels", 2)) if weights.name == WEIGHTS else 2


def _with_diameter(lesson: Lesson) -> SegmentParameters:
    """How the model is used before: where it would guess the diameter, that of the examples is told.

    A person who corrected cells knows how large they are, and a model that knows none of them guesses wildly.
    """
    diameter = lesson.base.diameter or median_diameter(one.labels for one in lesson.train)
    return lesson.base.model_copy(update={"diameter": diameter})


def _cells(example: Example) -> int:
    return int(np.count_nonzero(np.unique(example.labels)))


def _piece(example: Example) -> Example:
    """The example with a mark on the part of it that has most cells, for the preview."""
    shape = example.labels.shape
    middle = np.median(np.nonzero(example.labels), axis=1) if example.labels.any() else np.array(shape) / 2
    top, left = np.clip(middle.astype(int) - _PREVIEW // 2, 0, np.maximum(np.array(shape) - _PREVIEW, 0))
    shown = np.zeros(shape, bool)
    shown[top : top + _PREVIEW, left : left + _PREVIEW] = True
    return replace(example, counts=shown)


def _forgotten(execute: Execute, parent: SegmentParameters, mine: SegmentParameters) -> Job[list[str]]:
    """A line if the model does much worse than its parent on a scene that comes with the program."""
    scene = nuclei_on_grooves(1, size=320, count=20)
    scores = []
    for parameters in (parent, mine):
        free = parameters.model_copy(update={"diameter": 0.0, "polarity": "auto", "second_channel": -1})
        found: Segmentation = yield from execute(SEGMENT, image=scene.image[0], params=free)
        scores.append(evaluate(found.labels, scene.labels).ap[0.5])
    if scores[0] - scores[1] < FORGOTTEN:
        return []
    return [
        f"it forgot nuclei in fluorescence (AP@0.5 on the built-in scene {scores[0]:.0%}, now {scores[1]:.0%}); "
        "use it for images like yours only"
    ]
