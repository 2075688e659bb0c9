"""What all foreign formats share: what goes out, what comes in, and how a format describes itself.

A format is one `Format` in one file of this folder; the list of them is in the package's
``FORMATS``, from which command line and docks make their choices. Nothing here knows a
session; `cell_curator.exchange` connects formats and projects.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cells import VERDICTS
from cell_curator.core.jobs import ALONE, Crew, Job, Progress, UserError, retried, together
from cell_curator.io.folders import disk_full, make_folder
from cell_curator.io.records import ImageRecord, StoredEmbedding

Shape = tuple[int, int]


@dataclass(frozen=True)
class Labelled:
    """One image of a project on its way out.

    Parameters
    ----------
    labels
        (Y, X) int32, 0 = background.
    cells
        Rows of `core.cells.CellTable` of the cells in ``labels``, indexed by cell id.
    pixels
        Reads the original, (C, Y, X); called only by formats that need it.
    """

    record: ImageRecord
    labels: NDArray[np.int32]
    cells: pd.DataFrame
    pixels: Callable[[], NDArray[Any]]

    def facts(self) -> dict[int, dict[str, Any]]:
        """Plain values of each cell by its label, with ``cell_id``."""
        rows = self.cells.reset_index().to_dict("records")
        return {int(row["label"]): {str(name): plain(value) for name, value in row.items()} for row in rows}


@dataclass(frozen=True)
class Content:
    """A project on its way out; images are loaded one at a time.

    ``cells`` is the whole table, ``embedding`` the newest map or None; ``counting`` says by cell id which cells
    count, and ``review`` how clean the set is, as plain values. ``crew`` writes the files of single images, and
    ``failed`` takes (name, reason) of those that could not be written.
    """

    title: str
    records: tuple[ImageRecord, ...]
    cells: pd.DataFrame
    load: Callable[[ImageRecord], Labelled]
    embedding: StoredEmbedding | None = None
    counting: pd.Series[bool] | None = None
    review: Mapping[str, Any] = field(default_factory=dict)
    crew: Crew = ALONE
    failed: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Incoming:
    """The cells of one image as another program left them.

    Parameters
    ----------
    name
        Which image they belong to, as the file has it.
    labels
        (Y, X) int32.
    verdicts
        By label, where the file tells; one of `core.cells.VERDICTS`.
    notes
        What a user should know: overlaps, cells in pieces. One short sentence each.
    """

    name: str
    labels: NDArray[np.int32]
    verdicts: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


Write = Callable[[Content, Path], Job[tuple[Path, ...]]]
Read = Callable[[Path, str, Callable[[str], Shape]], Iterable[Incoming]]


@dataclass(frozen=True)
class Format:
    """One foreign format.

    Parameters
    ----------
    name
        As typed after ``--format``.
    title
        For people, in a list.
    ending
        What is put behind an image's name, ``"_seg.npy"``; or the name of the one file for all images.
    lossless
        Masks written and read again are the same, pixel by pixel.
    cannot_hold
        What is lost, in a few words; empty for nothing.
    write
        ``write(content, out)`` is a job that returns the files written.
    read
        ``read(path, name, shape_of)`` gives `Incoming`: ``name`` is that of the file, and ``shape_of(name)``
        the size of that image of the project, for formats that do not hold it.
    reads
        Endings of files that hold it, in lower case.
    folder
        Tells a folder that holds it.
    """

    name: str
    title: str
    ending: str
    lossless: bool
    cannot_hold: str
    write: Write | None = None
    read: Read | None = None
    reads: tuple[str, ...] = ()
    folder: Callable[[Path], bool] | None = None
    aliases: tuple[str, ...] = ()


def image_files(
    content: Content, out: Path, ending: str, write: Callable[[Path, Labelled], object]
) -> Job[tuple[Path, ...]]:
    """Call ``write(path, image)`` for every image; paths are ``out/<name><ending>``.

    An image that fails is noted in ``content.failed``, and the others are written.

    Raises
    ------
    UserError
        A path is that of an original image, or leads out of ``out``; nothing has been written then. Or all failed,
        or the disk is full.
    """
    paths = {record.image_id: _target(out, record.name, ending) for record in content.records}
    originals = {record.path.resolve() for record in content.records}
    for path in paths.values():
        if path.resolve() in originals:
            raise UserError(f"{path}: is an original image, which is never written to; choose another folder")
    written: list[Path] = []

    def one(record: ImageRecord) -> Job[Path]:
        path = paths[record.image_id]
        make_folder(path.parent)
        if content.crew is ALONE:
            yield from write_image(write, path, content.load(record))
        else:
            yield from content.crew.call(f"{__name__}:write_image", write=write, path=path, image=content.load(record))
        return path

    def fail(record: ImageRecord, error: UserError) -> None:
        if disk_full(error):  # every further file would fail the same way
            raise error
        content.failed.append((record.name, str(error)))

    yield from together(
        content.records,
        lambda record: retried(partial(one, record)),
        lambda _, path: written.append(path),
        at_once=content.crew.at_once,
        name=lambda record: record.name,
        failed=fail,
    )
    if not written and content.failed:
        raise UserError(content.failed[0][1])
    return tuple(written)


def write_image(write: Callable[[Path, Labelled], object], path: Path, image: Labelled) -> Job[None]:
    """Write one image."""
    yield Progress(0.0)
    write(path, image)


def one_file(out: Path, name: str) -> Path:
    """The file for all images: ``out`` itself if it has the right suffix, else ``out/name``."""
    if out.suffix.lower() == Path(name).suffix and not out.is_dir():
        make_folder(out.parent)
        return out
    make_folder(out)
    return out / name


def _target(out: Path, name: str, ending: str) -> Path:
    """``out/<name><ending>``; a project from elsewhere can hold any name, so it is checked."""
    path = out / f"{name}{ending}"
    if not path.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{name}: this name of an image leads out of {out}; rename the image in its project")
    return path


def category(facts: Mapping[str, Any]) -> str:
    """Which kind of cell other programs should show: its condition."""
    return str(facts.get("condition") or "cell")


def known_verdict(value: object) -> str | None:
    """``value`` if it is a verdict of ours."""
    return value if isinstance(value, str) and value in VERDICTS else None


def plain(value: Any) -> Any:
    """A NumPy number as Python's, NaN as None."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises
    ------
    UserError
        Missing, not UTF-8, or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is no readable JSON ({error}); export it again") from error


def needs(path: Path, package: str) -> UserError:
    """The line that asks for a package of the ``formats`` extra."""
    return UserError(f"{path}: this format needs {package}; run: pip install 'napari-cell-curator[formats]'")
