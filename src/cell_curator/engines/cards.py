"""The models folder: which weights there are, where they come from, and how to find one by name.

A model is a folder ``NAME/`` with ``weights.pth`` and ``card.json``. Bundled models lie in the
package, the user's own in the data folder of the account (or ``$CELL_CURATOR_MODELS``) and in a
project's ``models/``. Reads cards only; loading weights is the engine's business.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cell_curator.core.jobs import UserError
from cell_curator.core.recipe import Recipe

BUNDLED = Path(__file__).parent.parent / "models"
WEIGHTS = "weights.pth"
CARD = "card.json"


@dataclass(frozen=True)
class ModelCard:
    """What is known of one model.

    Parameters
    ----------
    name
        Name of its folder.
    weights
        Path of the weights file.
    engine
        Name of the engine that can use it.
    title, licence
        For people; empty where the card does not say.
    bundled
        Whether it came with the package.
    details
        The whole card: data, citation, split, seeds, hours, scores.
    """

    name: str
    weights: Path
    engine: str
    title: str
    licence: str
    bundled: bool
    details: dict[str, Any] = field(default_factory=dict)


def user_models_folder() -> Path:
    """Where the user's own models lie: ``$CELL_CURATOR_MODELS``, else the account's data folder."""
    if chosen := os.environ.get("CELL_CURATOR_MODELS"):
        return Path(chosen)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "cell-curator" / "models"


def list_models(*folders: Path) -> list[ModelCard]:
    """All models, the bundled ones first, then the user's, then those of ``folders``.

    A folder that is missing, or a model without weights or with an unreadable card, is left out;
    `find_model` says what is wrong with it.
    """
    cards = []
    for folder in (BUNDLED, user_models_folder(), *folders):
        for place in _model_folders(folder):
            try:
                cards.append(read_card(place))
            except UserError:
                continue
    return cards


def find_model(name_or_path: str, *folders: Path) -> Path:
    """Weights file of a model's name, of a model's folder, or of a path to weights themselves.

    A user's model goes before a bundled one of the same name.

    Raises
    ------
    UserError
        If there is none; the line names the models there are.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if path.is_dir() and (path / WEIGHTS).exists():
        return read_card(path).weights
    for folder in (*folders, user_models_folder(), BUNDLED):
        place = folder / name_or_path
        if name_or_path and path.name == name_or_path and place.is_dir():
            return read_card(place).weights
    names = ", ".join(sorted({card.name for card in list_models(*folders)})) or "none"
    raise UserError(f"{name_or_path}: no such model; there are: {names}, or give the path of a weights file")


def read_card(place: Path) -> ModelCard:
    """The card of the model in the folder ``place``.

    Raises
    ------
    UserError
        If weights are missing or the card cannot be read.
    """
    weights = place / WEIGHTS
    if not weights.is_file():
        raise UserError(f"{place}: {WEIGHTS} is missing; copy the whole model folder again")
    details: dict[str, Any] = {}
    if (place / CARD).exists():
        try:
            details = json.loads((place / CARD).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{place / CARD}: no readable card ({error}); copy the whole model folder again") from error
        if not isinstance(details, dict):
            raise UserError(f"{place / CARD}: no readable card; copy the whole model folder again")
    return ModelCard(
        name=place.name,
        weights=weights,
        engine=str(details.get("engine", "cellpose-unet")),
        title=str(details.get("title", place.name)),
        licence=str(details.get("licence", "")),
        bundled=place.parent == BUNDLED,
        details=details,
    )


def learned_recipe(name_or_path: str, *folders: Path) -> Recipe | None:
    """How images were prepared that a model learned from; None for an unknown model, or where its card is silent."""
    try:
        weights = find_model(name_or_path, *folders)
    except UserError:
        return None
    said = read_card(weights.parent).details.get("recipe") if weights.name == WEIGHTS else None
    try:
        return Recipe.model_validate(said) if said else None
    except ValidationError as error:
        raise UserError(f"{weights.with_name(CARD)}: its recipe cannot be read; copy the model folder again") from error


def _model_folders(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(
            place for place in folder.iterdir() if place.is_dir() and not place.name.startswith((".", "_"))
        )
