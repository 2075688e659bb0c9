"""Save what can be read of a damaged project, beside the damaged file, which is kept.

Tables are read from both ends as far as they can be, into a new file; label images that cannot be read go back
to the newest revision that can. Nothing here measures or decides: cells without a row are `cell_curator.repairing`'s.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from cell_curator.core.cells import COLUMNS, VERDICTS
from cell_curator.core.jobs import UserError
from cell_curator.io.claim import claim
from cell_curator.io.label_store import LabelStore
from cell_curator.io.project import now
from cell_curator.io.records import image_from_row, region_from_row
from cell_curator.io.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, connect, storage_errors, upgrade

_FILE = "project.sqlite"
_BESIDE = ("-wal", "-shm")
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_BAD_VALUES = (ValueError, TypeError, LookupError, AttributeError, OverflowError)
_READING_FAULTS = (OSError, ValueError, KeyError, TypeError, RuntimeError)


@dataclass(frozen=True)
class Rebuilt:
    """What was saved.

    Parameters
    ----------
    backup
        The damaged file as it was; None where nothing was damaged.
    rows
        Rows kept of each table.
    notes
        What was lost or put back, a line each.
    """

    backup: Path | None
    rows: dict[str, int]
    notes: tuple[str, ...]


def rebuild(folder: Path) -> Rebuilt:
    """Make the database of a project whole again and point it at label images that can be read.

    Raises
    ------
    UserError
        It is no project, it is open elsewhere, the disk is full, or nothing at all can be read of it.
    """
    file = folder / _FILE
    if not file.is_file():
        raise UserError(f"{folder}: is not a project (no {_FILE} inside); name a project folder")
    held = claim(folder)
    if held.refused:
        raise UserError(held.refused)
    try:
        with storage_errors(folder):
            backup, rows, notes = (None, {}, []) if _whole(file) else _rewritten(folder)
            notes += _labels_found(folder)
    finally:
        held.release()
    return Rebuilt(backup, rows, tuple(notes))


def _whole(file: Path) -> bool:
    """Whether the file is as it should be: its pages, and what stands in every row."""
    try:
        with closing(connect(file)) as connection:
            if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] != "ok":
                return False
            if 1 <= _version(connection) < SCHEMA_VERSION:
                return True  # opening it brings it up to date
            return all(_sound(table, row) for table in _SOUND for row in connection.execute(f'SELECT * FROM "{table}"'))
    except (sqlite3.DatabaseError, *_BAD_VALUES):
        return False


def _cell(row: sqlite3.Row) -> bool:
    """Whether a row of the table of cells holds numbers where numbers belong."""
    for name, kind in COLUMNS.items():
        value, wanted = row[name], _KINDS[kind]
        if not isinstance(value, wanted) and not (kind == "float64" and value is None):
            return False
    return row["verdict"] in VERDICTS


_KINDS: dict[str, type | tuple[type, ...]] = {"int64": int, "bool": int, "float64": (int, float), "object": str}

_SOUND: dict[str, Callable[[sqlite3.Row], Any]] = {
    "meta": lambda row: row["key"] != "next_cell_id" or int(row["value"]),
    "settings": lambda row: json.loads(row["value"]) is not ...,
    "images": image_from_row,
    "cells": _cell,
    "regions": region_from_row,
    "rounds": lambda row: json.loads(row["detail"]) is not ...,
    "journal": lambda row: json.loads(row["detail"]) is not ...,
    "embeddings": lambda row: json.loads(row["detail"]) is not ...,
    "clusterings": lambda row: json.loads(row["detail"]) is not ...,
}
"""For each table, what can be made of a row only if every value in it is of its kind."""


def _sound(table: str, row: sqlite3.Row) -> bool:
    try:
        return bool(_SOUND[table](row)) and all(_text(value) for value in row)
    except _BAD_VALUES:
        return False


def _text(value: Any) -> bool:
    """Whether a value is no text, or text that was not cut in the middle of a letter."""
    return not isinstance(value, str | bytes) or (isinstance(value, str) and _BROKEN not in value)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _rewritten(folder: Path) -> tuple[Path, dict[str, int], list[str]]:
    """The damaged file put aside, and a new one of all rows that can be read in its place."""
    file = folder / _FILE
    backup = folder / f"project.damaged-{datetime.now(UTC):%Y%m%d-%H%M%S}.sqlite"
    copy, fresh = folder / "project.copy.sqlite", folder / "project.repaired.sqlite"
    _copied(file, backup)
    _copied(file, copy)
    fresh.unlink(missing_ok=True)
    notes: list[str] = []
    with _gone_afterwards(copy), closing(connect(copy)) as old, closing(connect(fresh)) as new:
        with suppress(sqlite3.DatabaseError, KeyError):  # an older version
            upgrade(old)
        tables = _prepared(new)
        rows = {table: _saved(old, new, table, notes) for table in tables}
        if not rows.get("images"):
            fresh.unlink()
            raise UserError(
                f"{folder}: nothing can be read of project.sqlite; put a copy of the folder from your back-up in its "
                f"place. The file is as it was{_older(folder)}"
            )
        _number_on(new)
        new.commit()
    for end in _BESIDE:
        Path(f"{file}{end}").unlink(missing_ok=True)
    os.replace(fresh, file)
    return backup, rows, notes


def _copied(file: Path, target: Path) -> None:
    """A copy of a database with its log."""
    for end in ("", *_BESIDE):
        with suppress(FileNotFoundError):
            shutil.copy2(f"{file}{end}", f"{target}{end}")


@contextmanager
def _gone_afterwards(file: Path) -> Iterator[None]:
    try:
        yield
    finally:
        for end in ("", *_BESIDE):
            Path(f"{file}{end}").unlink(missing_ok=True)


def _older(folder: Path) -> str:
    """Copies from before the format changed, which may be all there is."""
    copies = sorted(folder.glob("project.v*.sqlite"))
    return f"; {copies[-1].name} in it is the project before its format changed" if copies else ""


def _prepared(new: sqlite3.Connection) -> tuple[str, ...]:
    new.executescript(SCHEMA)
    new.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    new.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return tuple(row["name"] for row in new.execute("SELECT name FROM sqlite_master WHERE type = 'table'"))


def _saved(old: sqlite3.Connection, new: sqlite3.Connection, table: str, notes: list[str]) -> int:
    """Copy the rows of one table that can be read, from its start and from its end; how many."""
    known = {row["name"] for row in new.execute(f'PRAGMA table_info("{table}")')}
    kept, broken = 0, False
    for order in ("ASC", "DESC"):
        read, whole = _readable(old, table, order)
        broken |= not whole
        for row in read:
            if not _sound(table, row):
                broken = True
                continue
            names = [name for name in row.keys() if name in known]  # noqa: SIM118 - a Row iterates over values
            marks = ",".join("?" * len(names))
            with suppress(sqlite3.IntegrityError):  # a row that lacks what it must have, or is there already
                columns = ",".join(f'"{name}"' for name in names)
                made = new.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', [row[n] for n in names])
                kept += made.rowcount
        if whole:
            break
    if broken:
        notes.append(f"{table}: part of the table cannot be read; {kept} rows were kept")
    return kept


def _readable(old: sqlite3.Connection, table: str, order: str) -> tuple[list[Any], bool]:
    """Rows in this order up to the first that cannot be read, and whether that was all."""
    rows: list[Any] = []
    old.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        for row in old.execute(f'SELECT * FROM "{table}" ORDER BY rowid {order}'):
            rows.append(row)
    except (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError):
        return rows, False
    return rows, True


def _number_on(new: sqlite3.Connection) -> None:
    """See to it that no id is given twice: the counter may be among what was lost."""
    highest = int(new.execute("SELECT coalesce(max(cell_id), 0) FROM cells").fetchone()[0])
    row = new.execute("SELECT value FROM meta WHERE key = 'next_cell_id'").fetchone()
    following = max(highest + 1, int(row["value"]) if row is not None and str(row["value"]).isdigit() else 0)
    new.execute("INSERT OR REPLACE INTO meta VALUES ('next_cell_id', ?)", (str(following),))
    new.execute("INSERT OR IGNORE INTO meta VALUES ('created', ?)", (now(),))


def _labels_found(folder: Path) -> list[str]:
    """Point every image at a label image that can be read."""
    store, notes = LabelStore(folder / "labels.zarr"), []
    with closing(connect(folder / _FILE)) as connection, connection:
        for row in connection.execute("SELECT image_id, name, height, width, labels_revision FROM images").fetchall():
            wanted, shape = int(row["labels_revision"]), (row["height"], row["width"])
            there = [revision for revision in store.revisions(row["image_id"]) if revision != wanted]
            found = next((r for r in (wanted, *sorted(there, reverse=True)) if _fits(store, row, r, shape)), 0)
            if found != wanted:
                instead = f"those of revision {found} are used" if found else "they must be found or drawn again"
                notes.append(f"{row['name']}: its cells cannot be read; {instead}")
                connection.execute("UPDATE images SET labels_revision = ? WHERE image_id = ?", (found, row["image_id"]))
    return notes


def _fits(store: LabelStore, row: sqlite3.Row, revision: int, shape: tuple[int, int]) -> bool:
    if revision == 0:
        return True
    try:
        return store.read(row["image_id"], revision).shape == shape
    except _READING_FAULTS:
        return False
