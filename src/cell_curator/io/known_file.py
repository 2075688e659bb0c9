"""What is known of a large image (`core.large.Known`) as a file: numbers and texts, no pickles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from cell_curator.core.clahe import Curves
from cell_curator.core.large import Known
from cell_curator.core.recipe import Recipe
from cell_curator.io.atomic import write_atomic

_PLAIN = ("shape", "raw", "levels", "iterations", "angle_deg", "notes", "used")


def write_known(path: Path, known: Known) -> None:
    """Write it whole or not at all."""
    about = {"recipe": known.recipe.model_dump(mode="json"), **{name: getattr(known, name) for name in _PLAIN}}
    arrays = {}
    if (curves := known.curves) is not None:
        about["curves"] = {"shape": curves.shape, "levels": curves.levels, "tile": curves.tile}
        arrays["table"] = curves.table
    text = np.array(json.dumps(about))
    write_atomic(path, lambda file: np.savez_compressed(file, about=text, **arrays))


def read_known(path: Path) -> Known:
    """What `write_known` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        table = stored["table"] if "table" in stored.files else None
    pairs = {name: tuple(values) for name, values in about["levels"].items()}
    known = Known(
        Recipe.model_validate(about["recipe"]),
        tuple(about["shape"]),
        tuple((low, high) for low, high in about["raw"]),
        pairs,
        iterations=about["iterations"],
        angle_deg=about["angle_deg"],
        notes=tuple(about["notes"]),
        used=about["used"],
    )
    if table is None:
        return known
    own = about["curves"]
    return replace(known, curves=Curves(tuple(own["shape"]), tuple(own["levels"]), tuple(own["tile"]), table))
