"""Two models side by side on one image, and which places of a project to correct next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.agreement import Difference, differences
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.regions import REVIEWED
from cell_curator.engines.doubt import Place
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, source_image
from cell_curator.project_models import resolved, title

if TYPE_CHECKING:
    from cell_curator.session import Session

LISTED = 50
"""Places that are named at most."""


@dataclass(frozen=True)
class Disagreement:
    """A place where two models see something else: middle and size in px of the original, and a line."""

    image_id: int
    y: float
    x: float
    text: str
    size: float


@dataclass(frozen=True)
class Comparison:
    """The cells of two models in one image, ``(Y, X)`` int32, what the models are called, and where they differ."""

    image_id: int
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    names: tuple[str, str]
    queue: tuple[Disagreement, ...]


@dataclass(frozen=True)
class Doubt:
    """A place worth correcting next: its box ``(top, left, bottom, right)`` in px, 0..1, and why."""

    image_id: int
    corners: tuple[int, int, int, int]
    score: float
    text: str


def compare(session: Session, first_model: str, second_model: str, image_id: int) -> Job[Comparison]:
    """Find the cells of an image with two models; nothing is stored.

    Raises
    ------
    UserError
        If both are the same, or one cannot be used.
    """
    if first_model == second_model:
        raise UserError("both are the same model; choose another round to compare with")
    found = []
    for index, model in enumerate((first_model, second_model)):
        job = session.execute(
            "cell_curator.engines.segmenter:segment_image",
            image=_image(session, image_id),
            params=resolved(session, _with(session, model)),
        )
        answer: Segmentation = yield from scaled(job, index / 2, (index + 1) / 2, f"{title(session, model)}: ")
        found.append(answer.labels)
    names = (title(session, first_model), title(session, second_model))
    queue = tuple(
        Disagreement(image_id, one.y, one.x, _text(one, names), float(one.size)) for one in differences(*found)
    )
    return Comparison(image_id, found[0], found[1], names, queue)


def doubtful(session: Session, image_ids: Sequence[int] | None = None) -> Job[tuple[Doubt, ...]]:
    """Where the model in use is least sure, over images (all), without what was reviewed; the worst first.

    Raises
    ------
    UserError
        If there are no images, or all is reviewed.
    """
    chosen = image_ids if image_ids is not None else [record.image_id for record in session.images]
    if not chosen:
        raise UserError("there are no images in this project yet; add a folder of images first")
    found: list[Doubt] = []
    for index, image_id in enumerate(chosen):
        record = session.image(image_id)
        reviewed = session.marked(image_id, REVIEWED)
        yield Progress(index / len(chosen), record.name)
        if reviewed.all():
            continue
        job = session.execute(
            "cell_curator.engines.doubt:doubt",
            image=_image(session, image_id),
            params=resolved(session, session.get(SegmentParameters)),
        )
        part = scaled(job, index / len(chosen), (index + 1) / len(chosen), f"{record.name}: ")
        places: tuple[Place, ...] = yield from part
        found += [
            Doubt(image_id, place.box, place.score, f"{record.name}: {place.why}")
            for place in places
            if reviewed[place.box[0] : place.box[2], place.box[1] : place.box[3]].mean() < 0.5
        ]
    if not found:
        raise UserError("all of these images are reviewed; add images, or take marks away")
    return tuple(sorted(found, key=lambda one: -one.score)[:LISTED])


def _image(session: Session, image_id: int) -> NDArray[np.generic]:
    return source_image(
        lambda: session.prepared(image_id), lambda: session.pixels(image_id), session.get(SegmentParameters)
    )


def _with(session: Session, model: str) -> SegmentParameters:
    """How cells are found with a model: the diameter of a round is the one it learned."""
    parameters = session.get(SegmentParameters)
    if model == parameters.model:
        return parameters
    made = next((made for made in session.rounds if made.model == model), None)
    diameter = 0.0 if made is None else float(made.detail.get("diameter_px", 0.0))
    return parameters.model_copy(update={"model": model, "diameter": diameter})


def _text(one: Difference, names: tuple[str, str]) -> str:
    words = {
        "only first": f"only {names[0]} finds a cell",
        "only second": f"only {names[1]} finds a cell",
        "split": f"{names[1]} makes {one.count} of one cell",
        "merged": f"{names[1]} makes one of {one.count} cells",
        "shape": "another outline",
    }
    return words[one.kind]
