"""The channel of an image in which its cells are measured: the one in which they are looked for.

A nucleus found on DNA is no brighter for a marker that lies beside it, so other channels stay out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cell_curator.core.recipe import Recipe
from cell_curator.engines.segmenter import SegmentParameters

if TYPE_CHECKING:
    from cell_curator.session import Session

ALL, FIRST = "all", "first"

_RGB = 3


def measured_channel(session: Session, pixels: NDArray[Any]) -> NDArray[Any]:
    """``(C, Y, X)`` → ``(1, Y, X)`` of that channel, in the grey levels of the file.

    All channels where several are looked at as one (RGB, or as the recipe combines them), or where the image has
    no such channel.
    """
    return of_rule(pixels, channel_rule(session))


def of_rule(pixels: NDArray[Any], rule: str) -> NDArray[Any]:
    """The same for a rule as `channel_rule` gives it."""
    if rule == ALL or (rule == FIRST and len(pixels) == _RGB):
        return pixels
    index = 0 if rule == FIRST else int(rule)
    return pixels[index : index + 1] if index < len(pixels) else pixels


def channel_rule(session: Session) -> str:
    """Which channel that is: its number, `ALL`, or `FIRST` for the first of an image that is not RGB."""
    segment, channel = session.get(SegmentParameters), session.get(Recipe).channel
    if segment.source == "raw":
        return str(segment.channel)
    if channel.mode == "index":
        return str(channel.index)
    return FIRST if channel.mode == "auto" else ALL
