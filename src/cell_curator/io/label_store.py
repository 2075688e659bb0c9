"""Label images of a project in one OME-NGFF folder (version 0.5, zarr 3).

Each write makes a new array ``labels/<image id>-r<revision>`` under a temporary name and
renames it; which revision counts is said by the project's database. That is all this module
knows: it reads, writes and throws away revisions.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 512
_NGFF = "0.5"
_NAME = re.compile(r"(\d+)-r(\d+)")


class LabelStore:
    """Label images by image id and revision."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._labels = folder / "labels"

    def read(self, image_id: int, revision: int) -> NDArray[np.int32]:
        """The ``(Y, X)`` int32 label image of one revision."""
        import zarr

        array = zarr.open_array(str(self._labels / _name(image_id, revision) / "0"), mode="r")
        return np.asarray(array[...], dtype=np.int32)

    def write(self, image_id: int, revision: int, labels: NDArray[np.int32]) -> None:
        """Store one revision; it is there in full or not at all."""
        import zarr

        self._prepare()
        name = _name(image_id, revision)
        temporary = self._labels / f".writing-{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            group = zarr.open_group(str(temporary), mode="w", zarr_format=3, attributes=_metadata(name))
            chunks = tuple(min(_CHUNK, side) for side in labels.shape)
            array = group.create_array(
                "0",
                shape=labels.shape,
                chunks=chunks,
                dtype="uint32",
                dimension_names=("y", "x"),
                fill_value=0,
            )
            array[...] = labels.astype(np.uint32)
            target = self._labels / name
            shutil.rmtree(target, ignore_errors=True)  # left by a crash between this rename and the commit
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def tidy(self, current: Mapping[int, int]) -> None:
        """Drop all other revisions of the images in ``current`` (id → revision) and leftovers of crashes."""
        if not self._labels.is_dir():
            return
        for entry in self._labels.iterdir():
            match = _NAME.fullmatch(entry.name)
            stale = match and int(match[1]) in current and int(match[2]) != current[int(match[1])]
            if stale or entry.name.startswith(".writing-"):
                shutil.rmtree(entry, ignore_errors=True)
        self._list()

    def _prepare(self) -> None:
        if not self._labels.is_dir():
            import zarr

            zarr.open_group(str(self._folder), mode="a", zarr_format=3)
            zarr.open_group(str(self._labels), mode="a", zarr_format=3)

    def _list(self) -> None:
        """Name the label images in the group's metadata, where other readers look for them."""
        import zarr

        names = sorted(entry.name for entry in self._labels.iterdir() if _NAME.fullmatch(entry.name))
        group = zarr.open_group(str(self._labels), mode="a", zarr_format=3)
        group.attrs["ome"] = {"version": _NGFF, "labels": names}


def _name(image_id: int, revision: int) -> str:
    return f"{image_id:06d}-r{revision}"


def _metadata(name: str) -> dict[str, Any]:
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
    return {
        "ome": {
            "version": _NGFF,
            "multiscales": [{"name": name, "axes": axes, "datasets": [dataset]}],
            "image-label": {"version": _NGFF},
        }
    }
