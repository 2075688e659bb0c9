"""Edits of a label image in little memory: runs of pixels that changed alike, compressed.

The undo history and the journal keep edits in this form: an outline redrawn takes some hundred
bytes, a stroke across 2048² some thousand. Pixels that did not change are not kept.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.edits import Box, LabelEdit, Labels, window


@dataclass(frozen=True)
class PixelRuns:
    """The changed pixels of one edit.

    ``data`` holds four int32 rows, compressed with zlib: gaps between runs and their lengths (pixels of
    ``box``, row by row), the label before and the label after.
    """

    box: Box
    data: bytes

    @classmethod
    def of(cls, edit: LabelEdit) -> PixelRuns:
        """The changed pixels of ``edit``."""
        at = np.flatnonzero(edit.before != edit.after)
        before, after = edit.before.ravel()[at], edit.after.ravel()[at]
        new = np.ones(len(at), bool)
        new[1:] = (np.diff(at) != 1) | (np.diff(before) != 0) | (np.diff(after) != 0)
        first = np.flatnonzero(new)
        length = np.diff(np.append(first, len(at)))
        start = at[first]
        gap = np.diff(start, prepend=0)
        rows = np.stack([gap, length, before[first], after[first]]).astype("<i4")
        return cls(edit.box, zlib.compress(rows.tobytes(), 1))

    def expand(self) -> tuple[NDArray[np.int64], Labels, Labels]:
        """Per changed pixel: its index in the box (row by row), the label before, the label after."""
        gap, length, before, after = np.frombuffer(zlib.decompress(self.data), "<i4").reshape(4, -1)
        start = np.cumsum(gap, dtype=np.int64)
        # Within a run the index goes up by one; at the start of a run it jumps there.
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        return np.repeat(start, length) + within, np.repeat(before, length), np.repeat(after, length)

    def applied(self, labels: Labels) -> Labels:
        """A copy of ``labels`` with the changed pixels as the edit left them."""
        changed = labels.copy()
        part = changed[window(self.box)]
        at, _, after = self.expand()
        part[np.unravel_index(at, part.shape)] = after
        return changed

    def to_json(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"box": list(self.box), "runs": base64.b64encode(self.data).decode("ascii")}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PixelRuns:
        """What `to_json` wrote."""
        top, left, bottom, right = (int(side) for side in value["box"])
        return cls((top, left, bottom, right), base64.b64decode(value["runs"]))
