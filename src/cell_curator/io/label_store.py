"""Label images of a project in one OME-NGFF folder (version 0.5, zarr 3).

Each write makes a new array ``labels/<image id>-r<revision>`` under a temporary name and
renames it; which revision counts is said by the project's database. That is all this module
knows: it reads, writes and throws away revisions.

A large image is written block by block elsewhere (`LabelWriter`), with coarser levels for whoever looks from
afar, and moved here; it is read as a `core.lazy.Lazy`.

After a stroke most chunks are as before. They are hard links to the files of the revision before,
which no one ever writes to: of 2048² with one cell changed, 1 chunk of 16 is compressed anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.edits import Box
from cell_curator.core.jobs import UserError
from cell_curator.core.lazy import Lazy, is_large, tiles

_CHUNK = 512
_SMALLEST_LEVEL = 1024  # px: no coarser level is made of one that is not larger
_AT_ONCE = 4096  # px, side of the part that a coarser level is made of
_NGFF = "0.5"
_NAME = re.compile(r"(\d+)-r(\d+)")


@dataclass(frozen=True)
class StoredLabels:
    """A label image that was written block by block and waits in ``folder`` to become a revision."""

    folder: Path
    shape: tuple[int, int]

    @property
    def dtype(self) -> np.dtype[Any]:
        """As of the array that it stands for."""
        return np.dtype(np.int32)


class LabelWriter:
    """A label image that is written block by block, in a folder of its own, and can be read meanwhile."""

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        import zarr

        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self.folder, self.shape = folder, shape
        self._group = zarr.open_group(folder, mode="w", zarr_format=3, attributes=_metadata(folder.name))
        self._array = _level(self._group, "0", shape)

    def read(self, box: Box) -> NDArray[np.int32]:
        """Labels of a box."""
        return np.asarray(self._array[box[0] : box[2], box[1] : box[3]]).astype(np.int32)

    def write(self, box: Box, labels: NDArray[np.int32]) -> None:
        """Put labels into a box."""
        self._array[box[0] : box[2], box[1] : box[3]] = labels.astype(np.uint32)

    def finish(self) -> StoredLabels:
        """Make the coarser levels, each of every second pixel of the one before."""
        above, count = self._array, 1
        for shape in _coarser(self.shape):
            level = _level(self._group, str(count), shape)
            for top, left, bottom, right in tiles(above.shape, _AT_ONCE):
                level[top // 2 : -(-bottom // 2), left // 2 : -(-right // 2)] = above[top:bottom:2, left:right:2]
            above, count = level, count + 1
        self._group.attrs.update(_metadata(self.folder.name, count))
        return StoredLabels(self.folder, self.shape)


def no_labels(shape: tuple[int, int], name: str = "labels") -> NDArray[np.int32] | Lazy:
    """The label image of an image without cells."""
    if not is_large(shape):
        return np.zeros(shape, np.int32)

    def level(sides: tuple[int, int], coarser: Sequence[Lazy] = ()) -> Lazy:
        return Lazy(name, sides, np.int32, lambda box, step: np.zeros(_size(box, step), np.int32), coarser)

    return level(shape, [level(sides) for sides in _coarser(shape)])


def _coarser(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The sizes of the coarser levels."""
    while max(shape) > _SMALLEST_LEVEL:
        shape = (-(-shape[0] // 2), -(-shape[1] // 2))
        yield shape


def _size(box: Box, step: int) -> tuple[int, int]:
    return -(-(box[2] - box[0]) // step), -(-(box[3] - box[1]) // step)


def open_labels(folder: Path, name: str = "labels") -> Lazy:
    """A stored label image that is read as it is sliced, with its coarser levels."""
    about = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))["attributes"]["ome"]
    levels = [folder / str(level["path"]) for level in about["multiscales"][0]["datasets"]]
    shapes = [tuple(json.loads((level / "zarr.json").read_text(encoding="utf-8"))["shape"]) for level in levels]

    def reader(level: Path) -> Any:
        def read(box: Box, step: int) -> NDArray[np.int32]:
            import zarr

            try:
                array = zarr.open_array(level, mode="r")
            except OSError as error:  # replaced by a newer revision since
                raise UserError(f"{name}: its cells have changed since; look at it again") from error
            return np.asarray(array[box[0] : box[2] : step, box[1] : box[3] : step]).astype(np.int32)

        return read

    made = [Lazy(name, shape, np.int32, reader(level)) for level, shape in zip(levels, shapes, strict=True)]
    return Lazy(name, made[0].shape, np.int32, made[0].window, made[1:])


class LabelStore:
    """Label images by image id and revision."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._labels = folder / "labels"
        self._last: tuple[int, int, NDArray[np.int32]] | None = None

    def read(self, image_id: int, revision: int, name: str = "labels") -> NDArray[np.int32] | Lazy:
        """The ``(Y, X)`` int32 label image of one revision; of a large image it is read as it is sliced."""
        import zarr

        folder = self._labels / _name(image_id, revision)
        array = zarr.open_array(folder / "0", mode="r")
        return open_labels(folder, name) if is_large(array.shape) else np.asarray(array[...], dtype=np.int32)

    def revisions(self, image_id: int) -> list[int]:
        """Revisions of one image that are on the disk, whether they can be read or not."""
        if not self._labels.is_dir():
            return []
        found = (_NAME.fullmatch(entry.name) for entry in self._labels.iterdir())
        return sorted(int(match[2]) for match in found if match and int(match[1]) == image_id)

    def write(self, image_id: int, revision: int, labels: NDArray[np.int32] | StoredLabels) -> None:
        """Store one revision; it is there in full or not at all.

        ``labels`` becomes read-only: it is compared with the next revision. What was written block by block is
        moved here.
        """
        self._prepare()
        name = _name(image_id, revision)
        if isinstance(labels, StoredLabels):
            self._last = None
            shutil.rmtree(self._labels / name, ignore_errors=True)
            os.rename(labels.folder, self._labels / name)
            return
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
            array = zarr.open_array(temporary / "0", mode="r+")
            for at in differ.values():
                array[at] = labels[at].astype(np.uint32)
            return True
        return False

    def tidy(self, current: Mapping[int, int]) -> None:
        """Drop all other revisions of the images in ``current`` (id → revision) and leftovers of crashes."""
        if not self._labels.is_dir():
            return
        names = []
        for name in os.listdir(self._labels):
            match = _NAME.fullmatch(name)
            stale = match and int(match[1]) in current and int(match[2]) != current[int(match[1])]
            if stale or name.startswith(".writing-"):
                shutil.rmtree(self._labels / name, ignore_errors=True)
            elif match:
                names.append(name)
        self._list(names)

    def _prepare(self) -> None:
        if not self._labels.is_dir():
            import zarr

            zarr.open_group(self._folder, mode="a", zarr_format=3)
            zarr.open_group(self._labels, mode="a", zarr_format=3)

    def _list(self, names: Iterable[str]) -> None:
        """Name the label images in the group's metadata, where other readers look for them."""
        said = {"version": _NGFF, "labels": sorted(names)}
        meta = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": said}}
        temporary = self._labels / ".zarr.json.part"
        with suppress(OSError):  # a full disk; what is stored is stored, and the list is made again with the next write
            temporary.write_text(json.dumps(meta))
            os.replace(temporary, self._labels / "zarr.json")


def _write_all(folder: Path, name: str, labels: NDArray[np.int32]) -> None:
    import zarr

    group = zarr.open_group(folder, mode="w", zarr_format=3, attributes=_metadata(name))
    _level(group, "0", labels.shape)[...] = labels.astype(np.uint32)


def _level(group: Any, name: str, shape: tuple[int, ...]) -> Any:
    chunks = tuple(min(_CHUNK, side) for side in shape)
    return group.create_array(
        name, shape=shape, chunks=chunks, dtype="uint32", dimension_names=("y", "x"), fill_value=0
    )


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


def _metadata(name: str, levels: int = 1) -> dict[str, Any]:
    axes = [{"name": axis, "type": "space"} for axis in "yx"]
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [float(2**level)] * 2}]}
        for level in range(levels)
    ]
    return {
        "ome": {
            "version": _NGFF,
            "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
            "image-label": {"version": _NGFF},
        }
    }
