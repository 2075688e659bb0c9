"""How many humps a surface over a cell has, compiled: what tells two cells in one mask from one cell.

The surface is flooded from its highest pixel down. Where two lakes of land meet, the lower summit ends;
how far it stood above the place where they met is its height (topological persistence).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def second_hump(surface: NDArray[np.float64], own: NDArray[np.bool_], smallest: float) -> Any:
    """Height of the second hump and of its summit, its size when it ends, and the number of pieces of ``own``.

    Parameters
    ----------
    surface
        ``(H, W)``; looked at where ``own`` is true, which has an empty pixel all round.
    smallest
        Humps of fewer pixels when they end are passed over; so are smaller pieces.
    """
    height, width = own.shape
    places = np.flatnonzero(own)
    order = places[np.argsort(-surface.ravel()[places])]
    parent = np.full(height * width, -1, np.int64)
    size = np.zeros(height * width, np.int64)
    summit = np.zeros(height * width)
    flat = surface.ravel()
    best, its_summit, its_size = 0.0, 0.0, 0
    for place in order:
        parent[place] = place
        size[place] = 1
        summit[place] = flat[place]
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                beside = place + dy * width + dx
                if beside == place or parent[beside] < 0:
                    continue
                one, two = _root(parent, place), _root(parent, beside)
                if one == two:
                    continue
                if summit[one] < summit[two]:
                    one, two = two, one
                if min(size[one], size[two]) >= smallest and summit[two] - flat[place] > best:
                    best, its_summit = summit[two] - flat[place], summit[two]
                    its_size = min(size[one], size[two])
                parent[two] = one
                size[one] += size[two]
    pieces = 0
    for place in places:
        if parent[place] == place and size[place] >= min(smallest, len(places)):
            pieces += 1
    return best, its_summit, its_size, max(pieces, 1)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _root(parent: NDArray[np.int64], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = parent[place]
    return place
