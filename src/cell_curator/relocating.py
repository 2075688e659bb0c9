"""Images whose files were moved away: which they are, and taking up their new place, on a `Session`.

A project holds the paths of its images, never the images. A file is taken for the one that was moved if its
name fits, its size is the same, and the cells in it measure as they did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cell_curator.core.jobs import Job, Progress, UserError, each
from cell_curator.core.large_cells import measure_lazily
from cell_curator.core.lazy import Lazy
from cell_curator.core.measure import measure
from cell_curator.core.turns import Turns
from cell_curator.core.words import number_of
from cell_curator.io.blocks import open_image
from cell_curator.io.images import find_images, read_info
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord
from cell_curator.session import Session

_SOME = 50  # cells of a large image that are compared
_SAME = 0.02  # part of the mean grey level by which the median cell may differ from what was measured


@dataclass(frozen=True)
class Missing:
    """Images that are not where they were, and the folders in which they lay, in the order of the project."""

    images: tuple[ImageRecord, ...]
    folders: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Where they were; the planes of a stack are one file."""
        return tuple(dict.fromkeys(record.path for record in self.images))

    @property
    def text(self) -> str:
        """One line for the user; empty where nothing is missing."""
        count = len(self.files)
        if not count:
            return ""
        others = len(self.folders) - 1
        more = f" and {number_of(others, 'other folder')}" if others else ""
        what = f"{count} image files are" if count > 1 else f"{self.files[0].name} is"
        return f"{what} not where {'they were' if count > 1 else 'it was'}: {self.folders[0]}{more}"


@dataclass(frozen=True)
class Relocated:
    """What came of a search: (old, new) place of each file found, and (file, reason) of those that were not."""

    found: tuple[tuple[Path, Path], ...]
    failed: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """One line for the user."""
        done = f"{len(self.found)} of {len(self.found) + len(self.failed)} image files found again"
        return f"{done}; {self.failed[0][1]}" if self.failed else done


def missing(session: Session) -> Missing:
    """Images of the project whose files are not there. Asks the disk: not for the main thread of a window."""
    there = {path: path.is_file() for path in {record.path for record in session.images}}
    gone = tuple(record for record in session.images if not there[record.path])
    return Missing(gone, tuple(dict.fromkeys(record.path.parent for record in gone)))


def relocate(session: Session, folder: Path | str, old: Path | str | None = None) -> Job[Relocated]:
    """Look for the missing images in ``folder`` and take up their new place; journalled, stored file by file.

    Files are known by their names and by the folders above, as far as these are the same.

    Parameters
    ----------
    old
        Only images that lay below this folder.

    Raises
    ------
    UserError
        If no image is missing, or ``folder`` holds no images.
    """
    yield Progress(0.0, "looking for images")
    wanted = [path for path in missing(session).files if old is None or Path(old) in path.parents]
    if not wanted:
        below = "" if old is None else f" of {old}"
        raise UserError(f"all images{below} are where they were; there is nothing to look for")
    offered = [path.resolve() for path, _ in find_images(folder)]
    places = _matched(wanted, offered, taken={record.path for record in session.images})
    found: list[tuple[Path, Path]] = []
    failed: list[tuple[str, str]] = []

    def one(path: Path) -> Job[None]:
        yield Progress(0.0, "comparing")
        candidates = places[path]
        if len(candidates) != 1:
            raise UserError(_why_not(path, candidates, Path(folder)))
        records = [record for record in session.images if record.path == path]
        _check(session, records, candidates[0])
        _take_up(session, path, candidates[0])
        found.append((path, candidates[0]))

    def fail(path: Path, error: UserError) -> None:
        failed.append((str(path), str(error)))

    yield from each(wanted, one, name=lambda path: path.name, failed=fail)
    return Relocated(tuple(found), tuple(failed))


# ---------------------------------------------------------------------- which file is which


def _matched(wanted: Sequence[Path], offered: Sequence[Path], taken: Collection[Path]) -> dict[Path, tuple[Path, ...]]:
    """For each file the new ones that fit best; one that fits another old file as well as this is left out."""
    by_name: dict[str, list[Path]] = {}
    for path in offered:
        if path not in taken:
            by_name.setdefault(path.name.casefold(), []).append(path)
    named: dict[str, list[Path]] = {}
    for path in wanted:
        named.setdefault(path.name.casefold(), []).append(path)
    best: dict[Path, tuple[Path, ...]] = {}
    for path in wanted:
        fits = {new: _alike(path, new) for new in by_name.get(path.name.casefold(), ())}
        rivals = [other for other in named[path.name.casefold()] if other != path]
        own = {new: parts for new, parts in fits.items() if all(_alike(other, new) < parts for other in rivals)}
        best[path] = tuple(new for new, parts in own.items() if parts == max(own.values()))
    return best


def _alike(one: Path, other: Path) -> int:
    """How many parts of two paths are the same, from the end."""
    same = [a.casefold() == b.casefold() for a, b in zip(reversed(one.parts), reversed(other.parts), strict=False)]
    return same.index(False) if False in same else len(same)


def _why_not(path: Path, candidates: Iterable[Path], folder: Path) -> str:
    several = sorted(map(str, candidates))
    if several:
        return f"{path.name}: may be {several[0]} or {several[1]}; point to the folder of one of them"
    return f"{path.name}: is not in {folder}; point to the folder that it lies in now"


def _check(session: Session, records: Sequence[ImageRecord], new: Path) -> None:
    """Whether a file is the one that these images were read from.

    Raises
    ------
    UserError
        If it is another.
    """
    info, first = read_info(new), records[0]
    if info.shape != first.shape or info.axis != first.axis or max(r.plane for r in records) >= info.planes:
        was, now = (" × ".join(map(str, shape)) for shape in (first.shape, info.shape))
        raise UserError(f"{new}: is another image than {first.name} ({now} in place of {was}); point elsewhere")
    for record in records:
        known = session.cells.of_image(record.image_id).set_index("label")["mean_intensity"].dropna()
        if not len(known):
            continue
        pixels = open_image(new, record.plane if record.axis else None)
        singly = (pixels[number : number + 1] for number in range(len(pixels)))
        if not any(_measures(session, record, channels, known) for channels in (pixels, *singly)):
            raise UserError(f"{new}: is another image than {record.name} was: its cells differ; point elsewhere")
        return  # one plane with cells tells


def _measures(session: Session, record: ImageRecord, channels: Any, known: pd.Series[float]) -> bool:
    """Whether the cells (of a large image some of them) are as bright in these channels as they are known to be."""
    labels = session.label_view(record.image_id)
    if isinstance(labels, Lazy):
        some = session.cells.of_image(record.image_id).head(_SOME)
        now = measure_lazily(labels, channels, some)["mean_intensity"]
        known = known.reindex(now.index)
    else:
        now = measure(labels, channels)["mean_intensity"].reindex(known.index)
    return bool(np.median(np.abs(now - known)) <= _SAME * np.median(np.abs(known)))


def _take_up(session: Session, old: Path, new: Path) -> None:
    """Read these images from another place from now on."""
    with session.lock:
        records = [record for record in session.images if record.path == old]
        moved = tuple(_mended(replace(record, path=new)) for record in records)
        turns = session.get(Turns)
        change = Change("relocate", {"old": str(old), "new": str(new)}, images=moved)
        before, now = str(old.parent), str(new.parent)
        if before in turns.shared and before != now:
            left = any(record.path.parent == old.parent for record in session.images if record not in records)
            kept = {folder: angle for folder, angle in turns.shared.items() if left or folder != before}
            shared = {now: turns.shared[before]} | kept
            value = turns.model_copy(update={"shared": shared}).model_dump(mode="json")
            change = replace(change, settings={Turns.__name__: value})
        session.commit(change)


def _mended(record: ImageRecord) -> ImageRecord:
    """An image that failed since its file was gone has not failed any more."""
    if record.state != "failed":
        return record
    return replace(record, state="segmented" if record.labels_revision else "new", note="")
