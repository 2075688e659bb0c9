"""Recipe files: read one, and write the one that says how a folder of images was prepared.

Two forms are read: the bare recipe (``{"clip": {…}, …}``), and the ``recipe.json`` that stands
beside prepared images (``{"recipe": {…}, "hash": "…", "images": {"<stem>": {"angle_deg": …,
"shape": [Y, X]}}}``). What the steps do is in `core.recipe` and `core.preprocess`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cell_curator.core.jobs import UserError
from cell_curator.core.recipe import RECIPE_VERSION, STEPS, Recipe
from cell_curator.io.atomic import write_atomic


@dataclass(frozen=True)
class Turn:
    """How an image was turned: counter-clockwise in degrees, and its (Y, X) shape where that was noted."""

    angle_deg: float
    shape: tuple[int, int] | None = None


def read_recipe(path: Path | str) -> Recipe:
    """Read a recipe file of either form.

    Raises
    ------
    UserError
        Missing, not JSON, written by a newer version, an unknown step, or a value out of
        bounds: one line that names the file, the step and the remedy.
    """
    values = _read(Path(path))
    if isinstance(values, dict) and "recipe" in values:
        values = values["recipe"]
    if not isinstance(values, dict):
        raise UserError(f"{path}: is not a recipe; give a recipe saved by Cell Curator")
    version = values.get("version", RECIPE_VERSION)
    if isinstance(version, int) and version > RECIPE_VERSION:
        raise UserError(
            f"{path}: was written by a newer Cell Curator (recipe version {version}, this one reads "
            f"{RECIPE_VERSION}); update Cell Curator"
        )
    unknown = [name for name in values if name != "version" and name not in STEPS]
    if unknown:
        raise UserError(f"{path}: unknown step '{unknown[0]}'; the steps are {', '.join(STEPS)}")
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}; correct it and try again") from None


def read_turns(path: Path | str) -> dict[str, Turn]:
    """The turns that stand in the ``recipe.json`` beside prepared images, by the image's stem.

    Raises
    ------
    UserError
        Missing, not JSON, or not such a file: one line that names it and the remedy.
    """
    values = _read(Path(path))
    try:
        turns = {
            str(stem): Turn(float(facts["angle_deg"]), _shape(facts.get("shape")))
            for stem, facts in values["images"].items()
        }
    except (AttributeError, KeyError, TypeError, ValueError):
        turns = {}
    if not all(math.isfinite(turn.angle_deg) for turn in turns.values()) or not turns:
        raise UserError(f"{path}: does not say how images were turned; give the recipe.json beside the prepared images")
    return turns


def _shape(sides: Any) -> tuple[int, int] | None:
    if sides is None:
        return None
    rows, columns = sides
    return int(rows), int(columns)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; check the path of the recipe") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except ValueError:
        raise UserError(f"{path}: is not a JSON file; give a recipe saved by Cell Curator") from None


def write_recipe(
    path: Path | str,
    recipe: Recipe,
    angles: Mapping[str, float],
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> None:
    """Write the recipe, its hash and the turn of each image.

    Parameters
    ----------
    angles
        Counter-clockwise turn in degrees by the image's stem (``"condition/stem"`` in a sub-folder).
    shapes
        (Y, X) of the images, by stem too.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    images: dict[str, dict[str, Any]] = {stem: {"angle_deg": float(angle)} for stem, angle in angles.items()}
    for stem, shape in (shapes or {}).items():
        images[stem]["shape"] = list(shape)
    values = {
        "recipe": recipe.model_dump(mode="json"),
        "hash": recipe.hash,
        "images": images,
    }
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))
