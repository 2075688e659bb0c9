"""The table of cells once more, as arrays beside the database: read in half a second where SQLite takes ten.

Only the database counts. Its triggers write down which rows changed since the arrays were written, whoever changes
them and however the process ends; those rows are read from the database, all others from the arrays. Arrays that the
database does not know by name, or that cannot be read, are passed over.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cells import COLUMNS
from cell_curator.io.atomic import write_atomic
from cell_curator.io.safe_numpy import DAMAGED

FILE = "cells.npz"
FEWEST = 20_000
"""Cells from which on the arrays are worth having; fewer are read in 0.4 s."""

_MOST_CHANGED = 0.02
"""Share of changed rows from which on the arrays are written anew."""
_ROWS_AT_ONCE = 20_000

_TRIGGERS = tuple(f"cells_{when}" for when in ("inserted", "updated", "deleted"))
_NOTED = "INSERT OR IGNORE INTO cells_since VALUES"
_TABLES = f"""
CREATE TABLE IF NOT EXISTS cells_file (name TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells_since (cell_id INTEGER PRIMARY KEY);
CREATE TRIGGER IF NOT EXISTS cells_inserted AFTER INSERT ON cells BEGIN {_NOTED} (new.cell_id); END;
CREATE TRIGGER IF NOT EXISTS cells_updated AFTER UPDATE ON cells BEGIN {_NOTED} (new.cell_id), (old.cell_id); END;
CREATE TRIGGER IF NOT EXISTS cells_deleted AFTER DELETE ON cells BEGIN {_NOTED} (old.cell_id); END;
"""

Columns = dict[str, NDArray[Any]]


def read_cells(connection: sqlite3.Connection, folder: Path) -> tuple[pd.DataFrame, bool]:
    """All rows of the table of cells by ``cell_id``, and whether the arrays were of use.

    Raises
    ------
    ValueError, TypeError, sqlite3.DatabaseError
        A value is not of its kind, or the database cannot be read.
    """
    connection.execute("BEGIN")  # one state of the database, whoever writes meanwhile
    try:
        kept = _from_file(connection, folder)
        columns = _selected(connection, "SELECT {} FROM cells ORDER BY cell_id") if kept is None else kept
    finally:
        connection.rollback()
    ids = pd.Index(columns.pop("cell_id"), name="cell_id")
    return pd.DataFrame(columns, index=ids, copy=False), kept is not None


def is_behind(connection: sqlite3.Connection, cells: int) -> bool:
    """Whether so much of a table of so many cells has changed that the arrays should be written anew."""
    if not _name(connection):
        return True
    changed = int(connection.execute("SELECT count(*) FROM cells_since").fetchone()[0])
    return changed > _MOST_CHANGED * cells


def keep_cells(connection: sqlite3.Connection, folder: Path, frame: pd.DataFrame) -> None:
    """Write the arrays; ``frame`` holds what the database holds.

    Raises
    ------
    UserError
        The disk is full or cannot be written.
    """
    name = secrets.token_hex(16)
    arrays: Columns = {"name": np.array(name), "cell_id": frame.index.to_numpy(np.int64)}
    for column, kind in COLUMNS.items():
        values = frame[column].to_numpy()
        if kind == "object":
            codes, words = pd.factorize(values)
            arrays[f"{column}.words"] = np.frombuffer(json.dumps(list(words)).encode(), np.uint8)
            values = codes.astype(np.int32)
        first = values[:1]
        same = (values == first) | ((values != values) & (first != first))
        arrays[column] = first if same.all() else values
    write_atomic(folder / FILE, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES} DELETE FROM cells_since; DELETE FROM cells_file;"
        f" INSERT INTO cells_file VALUES ('{name}'); COMMIT;"
    )


def _name(connection: sqlite3.Connection) -> str:
    """What the arrays must be called to be those of this database; empty where there are none."""
    marks = ",".join("?" * len(_TRIGGERS))
    found = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'cells' AND name IN"
    if connection.execute(f"{found} ({marks})", _TRIGGERS).fetchone()[0] != len(_TRIGGERS):
        return ""
    row = connection.execute("SELECT name FROM cells_file").fetchone()
    return "" if row is None else str(row[0])


def _from_file(connection: sqlite3.Connection, folder: Path) -> Columns | None:
    """The table from the arrays and what changed since, or None."""
    name = _name(connection)
    if not name or not (folder / FILE).is_file():
        return None
    since = np.array([row[0] for row in connection.execute("SELECT cell_id FROM cells_since")], np.int64)
    try:
        columns = _loaded(folder / FILE, name)
    except DAMAGED:  # not whole: it is written again
        return None
    if columns is None or not len(since):
        return columns
    new = _selected(connection, "SELECT {} FROM cells_since JOIN cells USING (cell_id) ORDER BY cell_id")
    kept = ~np.isin(columns["cell_id"], since)
    joined = {column: np.concatenate([values[kept], new[column]]) for column, values in columns.items()}
    order = np.argsort(joined["cell_id"], kind="stable")
    return {column: values[order] for column, values in joined.items()}


def _loaded(file: Path, name: str) -> Columns | None:
    """What the file holds, if it is the one of this name."""
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        if str(arrays["name"]) != name:
            return None
        ids = arrays["cell_id"]
        columns: Columns = {"cell_id": ids}
        for column, kind in COLUMNS.items():
            values = arrays[column]
            if kind == "object":
                words = json.loads(arrays[f"{column}.words"].tobytes())
                values = np.array([*words, None], object)[values]  # -1 stands for none
            columns[column] = np.full(len(ids), values[0], values.dtype) if len(values) != len(ids) else values
    return columns


def _selected(connection: sqlite3.Connection, query: str) -> Columns:
    """Rows of the database as typed columns; as one list of rows they would take 2 GB for 500,000 cells."""
    cursor = connection.cursor()
    cursor.row_factory = None
    cursor.execute(query.format(", ".join(f'"{name}"' for name in ("cell_id", *COLUMNS))))
    words: dict[Any, Any] = {}
    kinds = {"cell_id": "int64", **COLUMNS}
    parts: dict[str, list[NDArray[Any]]] = {name: [np.empty(0, kind)] for name, kind in kinds.items()}
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        for (name, kind), values in zip(kinds.items(), zip(*rows, strict=True), strict=True):
            parts[name].append(_typed(values, kind, words))
    return {name: np.concatenate(those) for name, those in parts.items()}


def _typed(values: Iterable[Any], kind: str, words: dict[Any, Any]) -> NDArray[Any]:
    if kind != "object":
        return np.array(values, kind)
    known = [words.setdefault(value, value) for value in values]  # most texts are there thousands of times
    made = np.empty(len(known), object)
    made[:] = known
    return made
