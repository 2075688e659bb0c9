"""Which pixels of one image are covered: by groups of pixels, by a network, or by the cells found.

One door for folders, projects and the dock. A network is shown the image as those that it learned from were
prepared: the recipe stands on its card.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.confluency import CoverMethod, UnetCover
from cell_curator.core.jobs import Job, Progress, UserError, inline, scaled
from cell_curator.core.pixel_clusters import KmeansParameters, PixelModel, assign, cleaned, fit, sample
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import DEFAULT, Channel, Recipe
from cell_curator.core.steps import select_channel
from cell_curator.engines.cards import CARD, WEIGHTS, ModelCard, find_model, learned_recipe, list_models, read_card
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.one_image import read_pixels
from cell_curator.project_models import models_folder

if TYPE_CHECKING:
    from cell_curator.session import Session

ENGINES = ("unet", "unetpp")
SEGMENT = "cell_curator.engines.segmenter:segment_image"

Execute = Callable[..., Job[Any]]


@dataclass(frozen=True)
class Covered:
    """What a method makes of one image.

    Parameters
    ----------
    mask
        ``(Y, X)``.
    count
        Number of cells; None where the method tells none from another.
    score
        ``(Y, X)`` float32, how sure each pixel is a cell, 0..1; None where a method does not say.
    """

    mask: NDArray[np.bool_]
    note: str = ""
    count: int | None = None
    score: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Finder:
    """A method that is ready for the images of one folder.

    Parameters
    ----------
    method
        k-means, or a network.
    channel
        Of a folder's images.
    groups
        Groups of pixels made from all images, or None: from each its own.
    card
        Of the network; None for k-means.
    """

    method: CoverMethod
    channel: Channel
    groups: PixelModel | None = None
    card: ModelCard | None = None

    def find(self, pixels: NDArray[Any], execute: Execute) -> Job[Covered]:
        """What is covered in the image ``(C, Y, X)``."""
        if isinstance(self.method, KmeansParameters):
            yield Progress(0.0)
            return by_groups(select_channel(pixels, self.channel), self.method, self.groups)
        assert self.card is not None
        return (yield from by_network(as_learned(pixels, self.card, self.channel), self.method, self.card, execute))


def cover_of(
    path: Path, plane: int | None, channel: Channel, learned: Recipe, method: CoverMethod, card: ModelCard | None
) -> Job[Covered]:
    """What is covered in an image of a project, found where there is no project; without `Covered.score`.

    Parameters
    ----------
    channel
        For k-means, and for networks that learned from raw images.
    learned
        How a network's images were prepared, as it holds for this image.
    """
    yield Progress(0.0)
    pixels = read_pixels(path, plane)
    if isinstance(method, KmeansParameters):
        return replace(by_groups(select_channel(pixels, channel), method), score=None)
    assert card is not None
    raw = card.details.get("source") == "raw"
    image = select_channel(pixels, channel) if raw else prepare(pixels, learned).image
    return replace((yield from by_network(image, method, card, inline)), score=None)


def by_groups(grey: NDArray[np.float32], params: KmeansParameters, model: PixelModel | None = None) -> Covered:
    """By k-means of the pixels of ``(Y, X)``."""
    made = assign(grey, fit([sample(grey, params)], params) if model is None else model, params)
    return Covered(made.mask, made.model.note, score=made.score)


def by_network(image: NDArray[Any], params: UnetCover, card: ModelCard, execute: Execute) -> Job[Covered]:
    """By the network of ``card``, in ``image`` as `engines.segmenter.segment_image` takes it.

    Raises
    ------
    UserError
        If the network cannot look at such an image.
    """
    engine = SegmentParameters(engine=card.engine, model=str(card.weights))
    total = np.zeros(image.shape[-2:], np.float32)
    first: Segmentation | None = None
    for number, (turned, flipped) in enumerate(_VIEWS[: params.looks]):
        view = np.ascontiguousarray(_seen(image, turned, flipped))
        job = scaled(execute(SEGMENT, image=view, params=engine), number / params.looks, (number + 1) / params.looks)
        found: Segmentation = yield from job
        first = first or found
        if not found.cell_probability.size:  # nothing to look at
            break
        total += _seen_back(probability(found), turned, flipped)
    assert first is not None
    total /= params.looks
    mask = cleaned(total, params) if first.cell_probability.size else total > 0
    note = "" if mask.any() else (first.notes or ("nothing is covered",))[0]
    return Covered(mask, note, first.count if first.flow.size else None, total)


_VIEWS = ((0, False), (2, False), (0, True), (2, True), (1, False), (3, False), (1, True), (3, True))
"""Quarter turns, and whether it is mirrored before."""


def _seen(image: NDArray[Any], turned: int, flipped: bool) -> NDArray[Any]:
    return np.rot90(image[..., ::-1] if flipped else image, turned, axes=(-2, -1))


def _seen_back(image: NDArray[np.float32], turned: int, flipped: bool) -> NDArray[np.float32]:
    straight = np.rot90(image, -turned, axes=(-2, -1))
    return straight[..., ::-1] if flipped else straight


def probability(found: Segmentation) -> NDArray[np.float32]:
    """How sure each pixel of the image is a cell, ``(Y, X)`` 0..1; the network may have seen it smaller."""
    height, width = found.labels.shape
    logit = cv2.resize(found.cell_probability.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    np.negative(logit, out=logit)
    np.exp(np.minimum(logit, 50.0, out=logit), out=logit)
    return np.asarray(1.0 / (1.0 + logit), np.float32)


def models(session: Session | None = None) -> tuple[ModelCard, ...]:
    """Networks that can tell cells from ground, and have learned something."""
    known = list_models() if session is None else list_models(models_folder(session))
    return tuple(card for card in known if card.engine in ENGINES and _learned(card))


def card_of(name: str, session: Session | None = None) -> ModelCard:
    """The card of a model by its name or path.

    Raises
    ------
    UserError
        If there is none, or it is no U-Net, or has learned nothing yet.
    """
    if not name:
        there = ", ".join(card.name for card in models(session)) or "none yet"
        raise UserError(f"a U-Net needs a model (there are: {there}); see “Measure confluency” on how to train one")
    weights = find_model(name, *(() if session is None else (models_folder(session),)))
    whole = weights.name == WEIGHTS and (weights.parent / CARD).is_file()
    card = read_card(weights.parent) if whole else ModelCard(weights.stem, weights, ENGINES[0], weights.stem, "", False)
    if card.engine not in ENGINES:
        raise UserError(
            f"{name}: is a model of {card.engine}; find cells with it, then measure what they cover (masks)"
        )
    if not _learned(card):
        raise UserError(f"{name}: has learned nothing yet; train it with `cell-curator train … --base {name}` first")
    return card


def as_learned(pixels: NDArray[Any], card: ModelCard, channel: Channel) -> NDArray[Any]:
    """The image ``(C, Y, X)`` prepared as those that the network learned from."""
    if card.details.get("source") == "raw":
        return select_channel(pixels, channel)
    recipe = recipe_of(card)
    if channel != Channel():
        recipe = recipe.model_copy(update={"channel": channel})
    return prepare(pixels, recipe).image


def recipe_of(card: ModelCard) -> Recipe:
    """The recipe of the images that a model learned from; the usual one where its card tells none."""
    return learned_recipe(str(card.weights)) or DEFAULT


def _learned(card: ModelCard) -> bool:
    return bool(card.details.get("diameter_px", 1.0))
