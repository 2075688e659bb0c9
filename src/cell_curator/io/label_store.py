"""Label images of a project in one OME-NGFF folder (version 0.5, zarr 3).

Each write makes a new array ``labels/<image id>-r<revision>`` under a temporary name and
renames it; which revision counts is said by the project's database. That is all this module
knows: it reads, writes and throws away revisions.

After a stroke most chunks are as before. They are hard links to the files of the revision before,
which no one ever writes to: of 2048² with one cell changed, 1 chunk of 16 is compressed anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
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
        self._last: tuple[int, int, NDArray[np.int32]] | None = None

    def read(self, image_id: int, revision: int) -> NDArray[np.int32]:
        """The ``(Y, X)`` int32 label image of one revision."""
        import zarr

        array = zarr.open_array(str(self._labels / _name(image_id, revision) / "0"), mode="r")
        return np.asarray(array[...], dtype=np.int32)

    def revisions(self, image_id: int) -> list[int]:
        """Revisions of one image that are on the disk, whether they can be read or not."""
        if not self._labels.is_dir():
            return []
        found = (_NAME.fullmatch(entry.name) for entry in self._labels.iterdir())
        return sorted(int(match[2]) for match in found if match and int(match[1]) == image_id)

    def write(self, image_id: int, revision: int, labels: NDArray[np.int32]) -> None:
        """Store one revision; it is there in full or not at all.

        ``labels`` becomes read-only: it is compared with the next revision.
        """
        self._prepare()
        name = _name(image_id, revision)
        temporary = self._labels / f".writing-{name}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            if not self._write_changed(temporary, image_id, revision, labels):
                shutil.rmtree(temporary, ignore_errors=True)
                _write_all(temporary, name, labels)
            target = self._labels / name
            shutil.rmtree(target, ignore_errors=True)  # left by a crash between this rename and the commit
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        kept = labels if labels.base is None else labels.copy()
        kept.flags.writeable = False
        self._last = (image_id, revision, kept)

    def _write_changed(self, temporary: Path, image_id: int, revision: int, labels: NDArray[np.int32]) -> bool:
        """Write the chunks that differ from the revision before and link the others; False if that cannot be."""
        import zarr

        source = self._labels / _name(image_id, revision - 1)
        if self._last is None or self._last[:2] != (image_id, revision - 1) or not source.is_dir():
            return False
        before = self._last[2]
        if before.shape != labels.shape:
            return False
        differ = {key: at for key, at in _chunks(labels.shape) if not np.array_equal(before[at], labels[at])}
        with suppress(OSError):  # a disk that knows no hard links: everything is written
            _link(source / "0", temporary / "0", without={f"c/{key}" for key in differ})
            meta = json.loads((source / "zarr.json").read_text())
            (temporary / "zarr.json").write_text(
                json.dumps({**meta, "attributes": _metadata(_name(image_id, revision))})
            )
            array = zarr.open_array(str(temporary / "0"), mode="r+")
            for at in differ.values():
                array[at] = labels[at].astype(np.uint32)
            return True
        return False

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
        names = sorted(entry.name for entry in self._labels.iterdir() if _NAME.fullmatch(entry.name))
        meta = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"version": _NGFF, "labels": names}}}
        temporary = self._labels / ".zarr.json.part"
        temporary.write_text(json.dumps(meta, indent=2))
        os.replace(temporary, self._labels / "zarr.json")


def _write_all(folder: Path, name: str, labels: NDArray[np.int32]) -> None:
    import zarr

    group = zarr.open_group(str(folder), mode="w", zarr_format=3, attributes=_metadata(name))
    array = group.create_array(
        "0",
        shape=labels.shape,
        chunks=tuple(min(_CHUNK, side) for side in labels.shape),
        dtype="uint32",
        dimension_names=("y", "x"),
        fill_value=0,
    )
    array[...] = labels.astype(np.uint32)


def _chunks(shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[slice, slice]]]:
    """Key and place of every chunk."""
    height, width = (min(_CHUNK, side) for side in shape)
    for row, top in enumerate(range(0, shape[0], height)):
        for column, left in enumerate(range(0, shape[1], width)):
            yield f"{row}/{column}", (slice(top, top + height), slice(left, left + width))


def _link(source: Path, target: Path, *, without: set[str]) -> None:
    """Hard links in ``target`` to all files below ``source`` but some."""
    for folder, _, files in os.walk(source):
        below = Path(folder).relative_to(source)
        (target / below).mkdir(parents=True, exist_ok=True)
        for file in files:
            if (below / file).as_posix() not in without:
                os.link(Path(folder) / file, target / below / file)


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
