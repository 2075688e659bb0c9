"""Rows of an image in bands, one for each core.

Compiled loops that release the GIL are run in threads of our own rather than with numba's
`prange`: its default scheduler must not be entered by two threads at a time, which a preview
beside a running job would do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import cv2
import numpy as np

_LEAST = 1 << 16  # px that a further thread must have to do, to be worth starting


def cuts(shape: tuple[int, ...], least_rows: int = 1) -> list[int]:
    """First rows of the bands of an image of ``shape`` (Y, X), and its height; each has ``least_rows`` or more."""
    height, width = shape
    bands = max(1, min(_threads()[1], height * width // _LEAST, height // least_rows))
    return [int(cut) for cut in np.linspace(0, height, bands + 1)]


def in_bands(cuts: Sequence[int], work: Callable[[int], None]) -> None:
    """Call ``work(index)`` for every band: the first here, each other one in a thread."""
    pool, _ = _threads()
    others = [pool.submit(work, index) for index in range(1, len(cuts) - 1)]
    work(0)
    for other in others:
        other.result()


@cache
def _threads() -> tuple[ThreadPoolExecutor, int]:
    count = max(1, cv2.getNumberOfCPUs())
    return ThreadPoolExecutor(count, thread_name_prefix="bands"), count
