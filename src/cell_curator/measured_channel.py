"""The channel of an image in which its cells are measured: the one in which they are looked for.

A nucleus found on DNA is no brighter for a marker that lies beside it, so other channels stay out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.recipe import Recipe
from cell_curator.engines.segmenter import SegmentParameters

if TYPE_CHECKING:
    from cell_curator.session import Session

_RGB = 3


def measured_channel(session: Session, pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """``(C, Y, X)`` → ``(1, Y, X)`` of that channel, in the grey levels of the file.

    All channels where several are looked at as one (RGB, or as the recipe combines them), or where the image has
    no such channel.
    """
    segment, channel = session.get(SegmentParameters), session.get(Recipe).channel
    if segment.source == "raw":
        index = segment.channel
    elif channel.mode == "index":
        index = channel.index
    elif channel.mode == "auto" and len(pixels) != _RGB:
        index = 0
    else:
        return pixels
    return pixels[index : index + 1] if index < len(pixels) else pixels
