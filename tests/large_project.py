"""A mosaic that counts as large, and a project with it: for tests."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import tifffile

from cell_curator.samples.scenes import nuclei_on_grooves

LIMIT = "0.3"
"""For CELL_CURATOR_LARGE_MPX: the mosaic is larger, a single scene is not."""


@lru_cache(maxsize=4)
def mosaic(across: int = 2, down: int = 1, seed: int = 1) -> np.ndarray:
    """``(Y, X)`` uint16 of scenes side by side."""
    scenes = [nuclei_on_grooves(seed + index).image[0] for index in range(down * across)]
    return np.block([scenes[row * across : (row + 1) * across] for row in range(down)]).astype(np.uint16)


def write_mosaic(path: Path, pixels: np.ndarray) -> Path:
    """As a tiled TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, tile=(128, 128), compression="zlib")
    return path
