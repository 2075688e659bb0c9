"""What belongs together in an experiment, so that it is never torn apart between learning and scoring."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import PurePath
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)

_WELL = re.compile(r"(?:^|[^A-Za-z0-9])([A-P](?:0?[1-9]|1[0-9]|2[0-4]))(?=$|[^0-9])")
"""A well of a plate in a file name, as in ``plate1_B03_s2``."""


def group_of(path: PurePath) -> str:
    """The well that an image is a field of, where its name tells one; else the file itself, with all its planes."""
    well = _WELL.search(path.stem)
    return f"{path.parent}/{well.group(1)}" if well else str(path)


def held_out(groups: Sequence[T], share: float, seed: int) -> frozenset[T]:
    """About ``share`` of the different groups, at least one and never all; the same for the same seed."""
    names = list(dict.fromkeys(groups))
    if share <= 0 or len(names) < 2:
        return frozenset()
    count = min(max(1, round(share * len(names))), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return frozenset(names[i] for i in chosen)
