"""Marks of images in a file of their own, which lies beside an export and is taken back with it.

Other programs have no word for what was reviewed or locked away; without this file an image that was
locked could be learned from after it came back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cell_curator.core.jobs import UserError
from cell_curator.core.regions import KINDS, Region
from cell_curator.io.atomic import write_atomic

MARKS = "marks.json"

Mark = tuple[str, str, tuple[tuple[float, float], ...]]
"""Name of the image, kind, corners ``(y, x)`` in px (none: the whole image)."""


def write_marks(path: Path, regions: Iterable[Region], names: Mapping[int, str]) -> None:
    """Write regions by the names of their images.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    marks = [{"image": names[region.image_id], "kind": region.kind, "corners": region.corners} for region in regions]
    write_atomic(path, lambda stream: stream.write(json.dumps({"marks": marks}, indent=1).encode()))


def read_marks(path: Path) -> tuple[Mark, ...]:
    """What `write_marks` wrote.

    Raises
    ------
    UserError
        If it is not such a file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["marks"]
        return tuple(_mark(one) for one in found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: no readable marks ({error}); export them again or remove the file") from error


def _mark(one: Any) -> Mark:
    if one["kind"] not in KINDS:
        raise ValueError(f"{one['kind']!r} is no kind of mark")
    return str(one["image"]), one["kind"], tuple((float(y), float(x)) for y, x in one["corners"])
