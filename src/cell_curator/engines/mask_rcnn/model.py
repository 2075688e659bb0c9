"""A trained Mask R-CNN on disk: a folder with ``weights.pth`` and ``card.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cell_curator.core.jobs import UserError
from cell_curator.engines.cards import CARD, WEIGHTS, read_card
from cell_curator.engines.checkpoint import save_weights
from cell_curator.engines.mask_rcnn.network import Layout, build, read_weights
from cell_curator.engines.mask_rcnn.parameters import MaskRcnnParameters
from cell_curator.io.atomic import write_atomic

ENGINE = "mask-rcnn"


@dataclass(frozen=True)
class About:
    """What a model is.

    Parameters
    ----------
    types
        Names of the types, in the order of its answers.
    factor
        By which images are scaled before it is shown them.
    details
        The whole card.
    """

    types: tuple[str, ...]
    layout: Layout
    factor: float
    parameters: MaskRcnnParameters
    details: Mapping[str, Any]


def write(folder: Path, module: Any, about: About) -> None:
    """Write card and weights, each whole or not at all."""
    write_about(folder, about)
    save_weights(module, folder / WEIGHTS)


def write_about(folder: Path, about: About) -> None:
    """Write the card alone."""
    card = {
        **about.details,
        "engine": ENGINE,
        "types": list(about.types),
        "layout": about.layout.plain(),
        "factor": about.factor,
        "parameters": about.parameters.model_dump(mode="json"),
    }
    text = json.dumps(card, indent=1, ensure_ascii=False)
    write_atomic(folder / CARD, lambda file: file.write(text.encode()))


def is_finder(folder: Path) -> bool:
    """Whether a folder holds such a model."""
    try:
        return (folder / WEIGHTS).is_file() and read_card(folder).engine == ENGINE
    except UserError:
        return False


def read_about(folder: Path) -> About:
    """What the card says.

    Raises
    ------
    UserError
        It is no model folder, one of another engine, or the card is damaged: one line that says which.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such model folder; name one made by classify train --way mask-rcnn")
    card = read_card(folder)
    if card.engine != ENGINE:
        raise UserError(f"{folder}: weights of another architecture ({card.engine}), not of a Mask R-CNN")
    said = card.details
    try:
        layout = Layout(**{**said["layout"], "anchors": tuple(map(float, said["layout"]["anchors"]))})
        types, factor = tuple(map(str, said["types"])), float(said["factor"])
        parameters = MaskRcnnParameters.model_validate(said["parameters"])
    except (KeyError, TypeError, ValueError, AttributeError, ValidationError) as error:
        raise _damaged(folder, type(error).__name__) from None
    if layout.types != len(types) or len(layout.anchors) != 4 or not factor > 0:
        raise _damaged(folder, "numbers that do not fit")
    return About(types, layout, factor, parameters, said)


def _damaged(folder: Path, why: str) -> UserError:
    return UserError(f"{folder}: its card is damaged ({why}); copy the whole folder again")


def load(folder: Path) -> tuple[Any, About]:
    """The network, ready to look, and what it is.

    Raises
    ------
    UserError
        As `read_about`, or the weights are not those that the card speaks of.
    """
    about = read_about(folder)
    module = build(about.layout)
    try:
        module.load_state_dict(read_weights(folder / WEIGHTS))
    except RuntimeError:
        raise UserError(
            f"{folder}: weights of another architecture than its card says; copy the whole folder again"
        ) from None
    return module.eval(), about
