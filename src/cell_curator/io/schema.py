"""The tables of ``project.sqlite``, how they came to be, and its faults in words.

Every change of the tables is a new version with a step in `_MIGRATIONS`; nothing else knows that
there were older ones.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from cell_curator.core.cells import COLUMNS
from cell_curator.core.jobs import UserError

SCHEMA_VERSION = 5
APPLICATION_ID = 0x43454C4C  # "CELL"; tells our files from other people's SQLite files
_SQL_TYPES = {"int64": "INTEGER", "bool": "INTEGER", "float64": "REAL", "object": "TEXT"}

_QUICKLY_CHECKED = 64 << 20

_ROUNDS = """
CREATE TABLE regions (
    region_id INTEGER PRIMARY KEY, image_id INTEGER NOT NULL, kind TEXT NOT NULL, corners TEXT NOT NULL);
CREATE TABLE rounds (
    round_id INTEGER PRIMARY KEY, time TEXT NOT NULL, model TEXT NOT NULL, detail TEXT NOT NULL);
"""

SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE images (
    image_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, path TEXT NOT NULL, condition TEXT NOT NULL,
    channel_names TEXT NOT NULL, pixel_size_um REAL, channels INTEGER NOT NULL, height INTEGER NOT NULL,
    width INTEGER NOT NULL, angle_deg REAL, state TEXT NOT NULL, note TEXT NOT NULL,
    recipe_hash TEXT NOT NULL, labels_revision INTEGER NOT NULL,
    axis TEXT NOT NULL DEFAULT '', plane INTEGER NOT NULL DEFAULT 0, made_from TEXT NOT NULL DEFAULT '');
CREATE TABLE cells (
    cell_id INTEGER PRIMARY KEY, {", ".join(f'"{name}" {_SQL_TYPES[kind]}' for name, kind in COLUMNS.items())});
CREATE TABLE journal (
    entry_id INTEGER PRIMARY KEY, time TEXT NOT NULL, user TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE embeddings (
    embedding_id INTEGER PRIMARY KEY, time TEXT NOT NULL, file TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE clusterings (
    clustering_id INTEGER PRIMARY KEY, time TEXT NOT NULL, embedding_id INTEGER NOT NULL, detail TEXT NOT NULL);
{_ROUNDS}"""

_SINCE_3 = (
    "saturated", "surround", "contrast", "texture_contrast", "offset", "edge", "edge_share", "edge_weakest",
    "contact", "seam_dip", "seam_bend", "joint_solidity", "joint_area", "neck", "valley", "overlapped", "pieces",
)  # fmt: skip
_SINCE_4 = (
    "map_error", "map_isolation", "corrected", "elsewhere", "elsewhere_texture", "lopsided", "core", "halo", "halves",
    "two_tone", "fold", "grain", "type_probability",
)  # fmt: skip
_TEXT_SINCE_4 = """ALTER TABLE cells ADD COLUMN "cell_type" TEXT NOT NULL DEFAULT '';"""

_MIGRATIONS = {
    1: f"""
ALTER TABLE images ADD COLUMN axis TEXT NOT NULL DEFAULT '';
ALTER TABLE images ADD COLUMN plane INTEGER NOT NULL DEFAULT 0;
{_ROUNDS}""",
    2: "".join(f'ALTER TABLE cells ADD COLUMN "{name}" REAL;' for name in _SINCE_3),
    3: "".join(f'ALTER TABLE cells ADD COLUMN "{name}" REAL;' for name in _SINCE_4) + _TEXT_SINCE_4,
    4: "ALTER TABLE images ADD COLUMN made_from TEXT NOT NULL DEFAULT '';",
}
"""What makes a project of the version of the key into one of the next."""


def connect(file: Path, *, reading: bool = False) -> sqlite3.Connection:
    """Open the file, for use by several threads, one at a time; made if it is not there, unless only ``reading``."""
    how = "rwc"
    if reading:  # where not even the log beside it can be made, SQLite must be told that nobody else writes
        how = "ro" if os.access(file.parent, os.W_OK) else "ro&immutable=1"
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode={how}", uri=True, check_same_thread=False, timeout=10)
    connection.row_factory = sqlite3.Row
    return connection


def use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead log: readers never wait, a killed process loses no finished transaction."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")


def check_version(connection: sqlite3.Connection, folder: Path) -> None:
    """Whether the file is ours and of a version that can be read.

    Raises
    ------
    UserError
        If not.
    """
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if application != APPLICATION_ID:
        raise UserError(f"{folder}: project.sqlite belongs to another program; open a Cell Curator project folder")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{folder}: was written by a newer Cell Curator (format {version}, this one reads {SCHEMA_VERSION});"
            " update Cell Curator"
        )
    if not 1 <= version <= SCHEMA_VERSION:
        raise UserError(f"{folder}: has the unknown old format {version}; open it with the version that made it")


def check_current(connection: sqlite3.Connection, refused: str) -> None:
    """Whether a project that cannot be written needs no bringing up to date; ``refused`` says why it cannot.

    Raises
    ------
    UserError
        If it does.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise UserError(f"{refused} (it is of the older format {version}, which must be brought up to date first)")


def check_whole(connection: sqlite3.Connection, folder: Path, *, every_page: bool) -> None:
    """Whether the file is undamaged.

    Reading every page of a large project takes seconds; unless ``every_page`` is asked for, only files below
    64 MB are looked through.

    Raises
    ------
    UserError
        If it is not.
    """
    if not every_page and (folder / "project.sqlite").stat().st_size > _QUICKLY_CHECKED:
        return
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except UnicodeDecodeError:  # it says which text is broken by quoting it
        found = "broken text"
    if found != "ok":
        raise UserError(f"{folder}: project.sqlite is damaged; `cell-curator repair` saves what can be read")


def migrate(connection: sqlite3.Connection, folder: Path) -> None:
    """Bring an older project up to date; what it was stays beside it as ``project.v1.sqlite``."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    backup = sqlite3.connect(folder / f"project.v{version}.sqlite")
    with closing(backup):
        connection.backup(backup)
    upgrade(connection)


def upgrade(connection: sqlite3.Connection) -> None:
    """Give the tables of an older version the shape of this one."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    steps = "".join(_MIGRATIONS[step] for step in range(version, SCHEMA_VERSION))
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Say storage faults in words; the transaction that failed has been rolled back by then."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "full" in text:
            raise UserError(
                f"{folder}: the disk is full; free some space and try again, nothing was changed"
            ) from error
        if "not a database" in text or "malformed" in text:
            raise UserError(
                f"{folder}: project.sqlite is damaged or not ours; `cell-curator repair` saves what can be read"
            ) from error
        if "locked" in text:
            raise UserError(f"{folder}: another program is writing to this project; close it and try again") from error
        if "readonly" in text or "unable to open" in text:
            raise UserError(
                f"{folder}: cannot be written; check the permissions or copy the project elsewhere"
            ) from error
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"{folder}: the disk is full; free some space and try again, nothing was changed"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(f"{folder}: cannot be written; check the permissions or choose another folder") from error
        raise
