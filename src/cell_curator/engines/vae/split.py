"""Which cells are held back: whole images, chosen before any picture is turned or flipped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def split_by_group(groups: NDArray[Any], fraction: float, seed: int) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
    """Hold whole images back until about ``fraction`` of the cells are.

    Returns
    -------
    held back (N,) bool, a description, and notes. With a single image, cells are drawn at random
    and a note says so.
    """
    rng = np.random.default_rng(seed)
    count = len(groups)
    wanted = fraction * count
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        held = np.zeros(count, bool)
        held[rng.permutation(count)[: max(1, round(wanted))]] = True
        note = (
            "all cells come from one image, so cells were held back at random: the check is less strict than "
            "one on other images"
        )
        return held, f"{held.sum()} of {count} cells held back at random", (note,)
    sizes = np.bincount(members)
    chosen: list[int] = []
    for name in rng.permutation(len(names)):
        if sizes[chosen].sum() + sizes[name] <= 1.5 * wanted:
            chosen.append(int(name))
        if sizes[chosen].sum() >= wanted:
            break
    if not chosen:  # every image is large: take the smallest
        chosen = [int(sizes.argmin())]
    held = np.isin(members, chosen)
    return held, f"{held.sum()} of {count} cells held back: {len(chosen)} of {len(names)} images", ()
