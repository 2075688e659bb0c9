"""A project out to the formats of other programs, and masks of other programs into a project.

Between `Session` and `io.formats`: what goes out is read from the session image by image; what
comes in is matched to the project's images by name and stored with `Session.set_labels`. Formats
themselves are in `io.formats`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell_curator import reviewing
from cell_curator.core.cells import VERDICTS
from cell_curator.core.clean import CleanParameters, counts
from cell_curator.core.jobs import ALONE, Job, Progress, UserError, each, scaled
from cell_curator.core.recipe import Recipe
from cell_curator.io.folders import make_folder, note_failures
from cell_curator.io.formats import csv
from cell_curator.io.formats.base import Content, Format, Incoming, Labelled, Shape
from cell_curator.io.formats.registry import find
from cell_curator.io.labels import check_shape, notes_on
from cell_curator.io.marks import MARKS, read_marks, write_marks
from cell_curator.io.project import Change
from cell_curator.io.recipes import write_recipe
from cell_curator.io.records import ImageRecord
from cell_curator.marking import mark
from cell_curator.one_image import read_pixels, where
from cell_curator.results import REVIEW, save_review
from cell_curator.session import Session

_MASK_ENDINGS = ("_cp_masks", "_masks", "_labels", "_seg")
_LARGEST = 1_000_000  # cells are measured with tables as long as the largest label
_SAME = 0.5  # IoU above which an incoming cell is one that is there already


@dataclass(frozen=True)
class Exported:
    """Files written, lines for the reader, and (image, reason) of those that could not be written."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Imported:
    """What came in: the format, cells by image name, notes, and (file or image, reason) of what could not."""

    format: Format
    cells: dict[str, int]
    notes: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


def export(session: Session, out: Path, form: Format, *, rejected: bool = False) -> Job[Exported]:
    """Write the project in one format.

    Parameters
    ----------
    out
        A folder, made if missing; for formats of one file also the file.
    rejected
        Write rejected cells, too. Tables always hold them, since they have a column for the verdict.

    Raises
    ------
    UserError
        The format is read only, lacks a package, cannot hold what is there, or a file cannot be written.
    """
    if form.write is None:
        raise UserError(f"{form.name}: is read only; choose another format")
    if form is csv.FORMAT and out.suffix.lower() != ".csv":
        make_folder(out)
    drop = form.lossless and not rejected

    def load(record: ImageRecord) -> Labelled:
        labels, cells = session.labels(record.image_id), session.cells.of_image(record.image_id)
        if drop:
            gone = cells["verdict"] == "rejected"
            labels[np.isin(labels, cells.loc[gone, "label"])] = 0
            cells = cells[~gone]
        pixels = partial(session.pixels, record.image_id)
        if session.crew is not None:  # in a worker there is no session
            pixels = partial(read_pixels, **where(record))
        return Labelled(record, labels, cells, pixels)

    frame = session.cells.frame
    counting = counts(frame, session.get(CleanParameters))
    content = Content(
        session.name,
        session.images,
        frame,
        load,
        session.embedding,
        counting,
        reviewing.record(session),
        session.crew or ALONE,
    )
    files = yield from form.write(content, out)
    if out.is_dir():
        note_failures(out, content.failed)
    if form is csv.FORMAT and files[0] != out:
        angles = {record.name: record.angle_deg for record in session.images if record.angle_deg is not None}
        write_recipe(out / "recipe.json", session.get(Recipe), angles)
        files = (*files, out / "recipe.json", save_review(session, out / REVIEW))
    if out.is_dir() and session.regions():
        write_marks(out / MARKS, session.regions(), {record.image_id: record.name for record in session.images})
        files = (*files, out / MARKS)
    left_out = int((session.cells.frame["verdict"] == "rejected").sum()) if drop else 0
    notes = (f"{left_out} rejected cells were left out (--rejected writes them too)",) if left_out else ()
    return Exported(files, notes, tuple(content.failed))


def import_cells(
    session: Session, source: Path, form: Format | None = None, *, verdict: str = "accepted"
) -> Job[Imported]:
    """Take over masks of another program.

    The cells of a file take the place of those in the image of its name. A cell that covers one that
    is there already (IoU above 0.5) keeps its id; rejected cells stay where nothing new lies on them.
    A wrong size, an unknown name or a damaged file fails alone.

    Parameters
    ----------
    form
        None to find out.
    verdict
        Of cells of which the file tells nothing. What it tells counts: cells drawn by hand are ``edited``.

    Raises
    ------
    UserError
        Nothing in ``source`` can be read, or the format is not clear.
    """
    if verdict not in VERDICTS:
        raise UserError(f"{verdict!r} is no verdict; use one of {', '.join(VERDICTS)}")
    form, files = find(source, form)
    assert form.read is not None
    read = form.read
    images = _Names(session.images)
    cells: dict[str, int] = {}
    notes: list[str] = []
    failed: list[tuple[str, str]] = []

    def take(path: Path, incoming: Incoming) -> None:
        record = images.find(incoming.name, path)
        if record.name in cells:
            raise UserError(f"{path}: is a second file for {record.name}; leave one of them")
        check_shape(incoming.labels, record.shape, path)
        cells[record.name] = store(session, record, incoming, verdict)
        huge = len(np.unique(incoming.labels[incoming.labels > _LARGEST]))
        replaced = (f"{huge} numbers above {_LARGEST} were replaced by small ones",) if huge else ()
        found = (*incoming.notes, *notes_on(incoming.labels), *replaced)
        notes.extend(f"{record.name}: {note}" for note in found)

    def one(file: tuple[Path, str]) -> Job[None]:
        path, name = file
        yield Progress(0.0, "reading")
        for incoming in read(path, name, lambda wanted: _size(images.find(wanted, path))):
            try:
                take(path, incoming)
            except UserError as error:
                failed.append((str(path), str(error)))
            yield Progress(0.5, incoming.name)

    def note(file: tuple[Path, str], error: UserError) -> None:
        failed.append((str(file[0]), str(error)))

    yield from scaled(each(_chosen(files), one, name=lambda file: file[1], failed=note), 0.0, 1.0)
    if (source / MARKS).is_file():
        notes += _take_marks(session, source / MARKS)
    return Imported(form, cells, tuple(notes), tuple(failed))


def _take_marks(session: Session, path: Path) -> list[str]:
    """Mark what the file says, where it is not marked already; returns lines on images that are not here."""
    ids = {record.name: record.image_id for record in session.images}
    there = {(region.image_id, region.kind, region.corners) for region in session.regions()}
    strange = []
    for name, kind, corners in read_marks(path):
        if name not in ids:
            strange.append(f"{path}: there is no image {name} here to mark {kind}")
        elif (ids[name], kind, corners) not in there:
            mark(session, ids[name], kind, corners or None)
    return strange


def store(session: Session, record: ImageRecord, incoming: Incoming, verdict: str = "accepted") -> int:
    """Put the cells of one file into an image of the project; returns how many there are.

    Raises
    ------
    UserError
        A locked cell would change.
    """
    image_id = record.image_id
    before = session.cells.of_image(image_id)
    current = session.labels(image_id)
    numbers = _numbers(current, incoming.labels)
    values, places = np.unique(incoming.labels, return_inverse=True)
    labels = np.array([numbers[value] for value in values.tolist()], np.int32)[places].reshape(current.shape)
    told = {numbers[label]: said for label, said in incoming.verdicts.items() if label in numbers}
    _keep_rejected(labels, current, before.loc[before["verdict"] == "rejected", "label"].tolist())
    differs = labels != current
    touched = np.union1d(labels[differs], current[differs])
    moved = np.intersect1d(before.loc[before["verdict"] == "locked", "label"], touched)
    if len(moved):
        raise UserError(f"{record.name}: {len(moved)} locked cells would change; unlock them first")
    changed = session.set_labels(image_id, labels, action="import")
    _give_verdicts(session, image_id, changed, told, verdict)
    if session.image(image_id).state != "segmented":
        session.commit(Change(images=(replace(session.image(image_id), state="segmented", note=""),)))
    return len(np.unique(incoming.labels[incoming.labels > 0]))


def _give_verdicts(
    session: Session, image_id: int, changed: frozenset[int], told: dict[int, str], otherwise: str
) -> None:
    """Changed cells get what the file tells; of the others only proposals do, for a person's word stands."""
    with session.lock:
        rows = session.cells.of_image(image_id)
        wanted = rows["label"].map(lambda label: told.get(int(label), otherwise))
        new = rows.index.isin(list(changed))
        open_to = (new | (rows["verdict"] == "proposed")) & (rows["verdict"] != wanted)
        if open_to.any():
            rows = rows[open_to].assign(verdict=wanted[open_to])
            detail = {
                "image": session.image(image_id).name,
                "cells": rows.index.tolist(),
                "verdicts": list(rows["verdict"]),
            }
            session.commit(Change("verdict", detail, cells=rows))


def _numbers(current: NDArray[np.int32], incoming: NDArray[np.int32]) -> dict[int, int]:
    """Label to take for each incoming label, 0 for 0.

    That of the cell it covers; else its own, where no cell has that and it is not huge; else one that nobody has.
    """
    values = np.unique(incoming[incoming > 0]).tolist()
    taken = set(np.unique(current[current > 0]).tolist())
    same = _same_cells(current, incoming) if taken else {}
    seen = taken.union(values)
    unused = (number for number in count(1) if number not in seen)

    def number(value: int) -> int:
        own = value not in taken and value <= _LARGEST
        return same.get(value) or (value if own else next(unused))

    return {0: 0, **{value: number(value) for value in values}}


def _same_cells(current: NDArray[np.int32], incoming: NDArray[np.int32]) -> dict[int, int]:
    """Incoming label → label of the one cell that it shares more than half of their union with."""
    both = (current > 0) & (incoming > 0)
    keys, shared = np.unique(current[both].astype(np.int64) << 32 | incoming[both], return_counts=True)
    old = dict(zip(*(part.tolist() for part in np.unique(current, return_counts=True)), strict=True))
    new = dict(zip(*(part.tolist() for part in np.unique(incoming, return_counts=True)), strict=True))
    return {
        theirs: ours
        for ours, theirs, common in zip(
            (keys >> 32).tolist(), (keys & 0xFFFFFFFF).tolist(), shared.tolist(), strict=True
        )
        if common > _SAME * (old[ours] + new[theirs] - common)
    }


def _keep_rejected(labels: NDArray[np.int32], current: NDArray[np.int32], rejected: Sequence[int]) -> None:
    """Rejected cells stay where nothing lies on them, so that they need not be rejected twice."""
    candidates = np.isin(current, rejected)
    covered = np.unique(current[candidates & (labels > 0)])
    stay = candidates & ~np.isin(current, covered)
    labels[stay] = current[stay]


# ---------------------------------------------------------------------- names


class _Names:
    """The images of a project by the names that files may give them."""

    def __init__(self, records: Sequence[ImageRecord]) -> None:
        self._full: dict[str, ImageRecord] = {_key(record.name): record for record in records}
        self._last: dict[str, list[ImageRecord]] = {}
        for record in records:
            self._last.setdefault(_key(record.name).rpartition("/")[2], []).append(record)

    def find(self, name: str, path: Path) -> ImageRecord:
        """The image of this name; the last part of it is enough where only one image has it.

        Raises
        ------
        UserError
            There is none, or there are several.
        """
        for candidate in dict.fromkeys((_key(name), _bare(_key(name)))):
            if candidate in self._full:
                return self._full[candidate]
        for candidate in dict.fromkeys((_key(name), _bare(_key(name)))):
            records = self._last.get(candidate.rpartition("/")[2], [])
            if len(records) == 1:
                return records[0]
            if records:
                names = " and ".join(record.name for record in records[:2])
                raise UserError(f"{path}: may belong to {names}; put it into a folder of the condition's name")
        raise UserError(f"{path}: no image of the project is called “{name}”; give it the name of its image")


def _key(name: str) -> str:
    """A name as it is compared: one form of Unicode (macOS has another), no case, forward slashes."""
    return unicodedata.normalize("NFC", name).replace("\\", "/").casefold()


def _bare(name: str) -> str:
    for ending in _MASK_ENDINGS:
        name = name.removesuffix(ending)
    return name


def _chosen(files: Sequence[tuple[Path, str]]) -> list[tuple[Path, str]]:
    """Without files that stand beside masks made of them (``a.png`` beside ``a_masks.png``)."""
    marked = {_bare(name) for _, name in files if _bare(name) != name}
    return [(path, name) for path, name in files if name not in marked]


def _size(record: ImageRecord) -> Shape:
    return record.shape[1], record.shape[2]
