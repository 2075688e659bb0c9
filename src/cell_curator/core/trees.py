"""Small trees of yes-or-no questions about figures, kept as plain numbers: the memory of `weighing`.

``evidence.json`` beside this module belongs to it and is written by ``training/fit_outliers.py``. A tree asks
`DEPTH` questions, each whether a figure is above a number, and ends at one of eight leaves; the leaves of
all trees add up to the logarithm of the odds. Nothing is run to load it but `json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DEPTH = 3
FILE = Path(__file__).with_name("evidence.json")


@dataclass(frozen=True)
class Trees:
    """Trees that tell one fault.

    ``figures`` are the names of what is asked about; ``asked`` and ``above`` ``(T, 7)`` give the number of the figure
    and the number it is compared with, question 0 first, then 1 and 2 after a no and a yes to it, and so on;
    ``leaves`` ``(T, 8)``; ``start`` is where the sum starts.
    """

    figures: tuple[str, ...]
    asked: NDArray[np.int64]
    above: Floats
    leaves: Floats
    start: float

    def __call__(self, known: Mapping[str, Floats]) -> Floats:
        """Logarithm of the odds of each cell, from figures by name, without gaps."""
        table = np.stack([known[name] for name in self.figures])
        total = np.full(table.shape[1], float(self.start))
        everyone = np.arange(table.shape[1])
        for asked, above, leaves in zip(self.asked, self.above, self.leaves, strict=True):
            at = np.zeros(table.shape[1], np.int64)
            for _ in range(DEPTH):
                at = 2 * at + 1 + (table[asked[at], everyone] > above[at])
            total += leaves[at - (2**DEPTH - 1)]
        return total

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, four digits each."""
        return {
            "start": round(self.start, 4),
            "figures": list(self.figures),
            "asked": self.asked.tolist(),
            "above": [[float(f"{value:.4g}") for value in row] for row in self.above],
            "leaves": [[round(float(value), 4) for value in row] for row in self.leaves],
        }

    @staticmethod
    def from_json(said: Mapping[str, Any]) -> Trees:
        """What `to_json` said."""
        asked, above, leaves = (np.array(said[name]) for name in ("asked", "above", "leaves"))
        return Trees(tuple(said["figures"]), asked, above, leaves, float(said["start"]))


@cache
def shipped() -> Mapping[str, Trees]:
    """The trees that come with the program, by fault."""
    return {key: Trees.from_json(said) for key, said in json.loads(FILE.read_text()).items()}
