"""The project folder ``NAME.curator/``: what a project remembers.

``project.sqlite`` holds images, cells, settings, the journal, embeddings and clusterings;
``labels.zarr`` the label images (OME-NGFF 0.5); ``embeddings/`` arrays that can be computed
again. Original images are never written to.

Every user action is one `Change` and one SQLite transaction. New label pixels are written
beside the old ones first and named in that same transaction, so whenever the process is
killed the folder holds either the state before or the state after. This module knows no
session, no selection and no undo.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cells import COLUMNS, CellTable
from cell_curator.core.jobs import UserError
from cell_curator.core.lazy import Lazy
from cell_curator.core.regions import Region
from cell_curator.io import snapshot
from cell_curator.io.atomic import sweep, write_atomic
from cell_curator.io.claim import Claim, claim, user_name
from cell_curator.io.label_store import LabelStore, StoredLabels, no_labels
from cell_curator.io.records import (
    ImageRecord,
    Round,
    StoredEmbedding,
    cell_rows,
    image_from_row,
    image_to_row,
    region_from_row,
    region_to_row,
)
from cell_curator.io.safe_numpy import DAMAGED
from cell_curator.io.schema import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    check_current,
    check_version,
    check_whole,
    connect,
    migrate,
    storage_errors,
    use_wal,
)

_EMBEDDINGS_KEPT = 3
_BAD_VALUES = (ValueError, TypeError, LookupError, OverflowError)
"""What reading a value raises that is not of its kind."""


@dataclass(frozen=True)
class Change:
    """Everything that one action changes; stored together or not at all.

    ``images`` replaces the records of these images, ``removed_images`` takes images out (their files
    stay), ``cells`` adds or replaces rows, ``removed`` deletes cells, ``labels`` gives new ``(Y, X)``
    int32 label images by image id, ``regions`` and ``round`` are added or replaced. ``action`` and
    ``detail`` go into the journal; without ``action`` nothing is journalled.
    """

    action: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    images: tuple[ImageRecord, ...] = ()
    removed_images: tuple[int, ...] = ()
    cells: pd.DataFrame | None = None
    removed: tuple[int, ...] = ()
    labels: Mapping[int, NDArray[np.int32] | StoredLabels] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    regions: tuple[Region, ...] = ()
    removed_regions: tuple[int, ...] = ()
    round: Round | None = None
    embedding: StoredEmbedding | None = None
    clustering: Mapping[str, Any] | None = None


class Project:
    """One open project folder. Safe to use from several threads.

    Whoever opens it first may write; for all others it is `read_only` until that one closes it.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, held: Claim) -> None:
        self.folder = folder
        self._held = held
        self._connection = connection
        self._lock = threading.RLock()
        self._labels = LabelStore(folder / "labels.zarr")
        self._next_cell_id: int | None = None  # of those that are reserved

    # ------------------------------------------------------------------ opening

    @classmethod
    def create(cls, folder: Path) -> Project:
        """Make a new project in ``folder``, which must not exist or be empty.

        Raises
        ------
        UserError
            If the folder holds something else or cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(f"{folder}: already exists and is not an empty folder; choose another name")
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held = claim(folder)
            if held.refused:
                raise UserError(held.refused)
            connection = connect(folder / "project.sqlite")
            use_wal(connection)
            with connection:
                connection.executescript(SCHEMA)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute("INSERT INTO meta VALUES ('created', ?)", (now(),))
                connection.execute("INSERT INTO meta VALUES ('next_cell_id', '1')")
        return cls(folder, connection, held)

    @classmethod
    def open(cls, folder: Path) -> Project:
        """Open an existing project, to look at only if another process holds it or it cannot be written.

        Raises
        ------
        UserError
            If it is none, is damaged, or was written by a newer version.
        """
        folder = Path(folder)
        file = folder / "project.sqlite"
        if not file.is_file():
            raise UserError(
                f"{folder}: is not a project (no project.sqlite inside); open a project folder or create one"
            )
        with storage_errors(folder):
            with closing(connect(file, reading=True)) as connection:
                check_version(connection, folder)  # nothing is put into a folder of somebody else
            held = claim(folder)
            try:
                connection = _opened(folder, held)
            except BaseException:
                held.release()
                raise
        project = cls(folder, connection, held)
        if not project.read_only:
            for place in (folder, folder / "embeddings", *(folder / "models").glob("*/")):
                sweep(place)
            project._labels.tidy({r.image_id: r.labels_revision for r in project.images()})
        return project

    @property
    def read_only(self) -> str:
        """Why nothing can be written here and what to do, in one line; empty where it can."""
        return self._held.refused

    @staticmethod
    def is_project(folder: Path) -> bool:
        """Whether ``folder`` looks like a project."""
        return (Path(folder) / "project.sqlite").is_file()

    def close(self, cells: CellTable | None = None) -> None:
        """Close the files; the project must not be used afterwards.

        ``cells``: the table as it is stored, if it is at hand; it makes the next opening faster.
        """
        with self._lock:
            if cells is not None:
                self._keep_cells(cells, fast=True)
            self._connection.close()
            self._held.release()

    def require_writable(self) -> None:
        """Raise a `UserError` that says why, if nothing can be written."""
        if self.read_only:
            raise UserError(self.read_only)

    # ------------------------------------------------------------------ reading

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One at a time, and what cannot be read is said in words."""
        try:
            with self._lock, storage_errors(self.folder):
                yield
        except (*_BAD_VALUES, sqlite3.DatabaseError, pd.errors.DatabaseError) as error:
            raise UserError(
                f"{self.folder}: what is stored is damaged; `cell-curator repair` saves what can be read"
            ) from error

    def images(self) -> tuple[ImageRecord, ...]:
        """All images in the order in which they were added."""
        with self._reading():
            rows = self._connection.execute("SELECT * FROM images ORDER BY image_id").fetchall()
            return tuple(image_from_row(row) for row in rows)

    def _image(self, image_id: int) -> ImageRecord:
        row = self._connection.execute("SELECT * FROM images WHERE image_id = ?", (image_id,)).fetchone()
        if row is None:
            raise KeyError(image_id)
        return image_from_row(row)

    def cells(self) -> CellTable:
        """The table of cells."""
        with self._reading():
            frame, fast = snapshot.read_cells(self._connection, self.folder)
            table = CellTable(frame)
            self._keep_cells(table, fast=fast)
            return table

    def _keep_cells(self, table: CellTable, *, fast: bool) -> None:
        """See to it that a large table can be read fast the next time; ``fast``: this time it was."""
        if self.read_only or len(table) < snapshot.FEWEST:
            return
        # No room for it, or another program has the database: reading stays slow, that is all.
        with suppress(UserError, sqlite3.Error):
            if not fast or snapshot.is_behind(self._connection, len(table)):
                snapshot.keep_cells(self._connection, self.folder, table.frame)

    def labels(self, record: ImageRecord) -> NDArray[np.int32] | Lazy:
        """The label image ``(Y, X)`` of one image, zeros where there is none yet; see `label_store` for large ones."""
        if self.read_only:  # whoever may write has gone on since, and threw the older ones away
            record = self._as_now(record)
        if record.labels_revision == 0:
            return no_labels(record.shape[1:], record.name)
        damaged = UserError(
            f"{self.folder}: the cells of {record.name} cannot be read; `cell-curator repair` saves what can be"
        )
        try:
            labels = self._labels.read(record.image_id, record.labels_revision, record.name)
        except DAMAGED as error:
            if self.read_only and self._as_now(record).labels_revision != record.labels_revision:
                return self.labels(record)  # just now
            raise damaged from error
        if labels.shape != record.shape[1:]:
            raise damaged
        return labels

    def _as_now(self, record: ImageRecord) -> ImageRecord:
        """The same image as another process may have stored it meanwhile."""
        return next((now for now in self.images() if now.image_id == record.image_id), record)

    def settings(self) -> dict[str, Any]:
        """Stored parameter values by model name."""
        with self._reading():
            rows = self._connection.execute("SELECT name, value FROM settings").fetchall()
            return {row["name"]: json.loads(row["value"]) for row in rows}

    def journal(self) -> pd.DataFrame:
        """Every action in order: time (UTC), user, action, detail."""
        with self._reading():
            frame = pd.read_sql_query("SELECT * FROM journal ORDER BY entry_id", self._connection, index_col="entry_id")
            frame["detail"] = frame["detail"].map(json.loads)
            return frame

    def regions(self) -> tuple[Region, ...]:
        """All marked parts of images, the oldest first."""
        with self._reading():
            rows = self._connection.execute("SELECT * FROM regions ORDER BY region_id").fetchall()
            return tuple(region_from_row(row) for row in rows)

    def rounds(self) -> tuple[Round, ...]:
        """All rounds of retraining, the oldest first."""
        with self._reading():
            rows = self._connection.execute("SELECT * FROM rounds ORDER BY round_id").fetchall()
            return tuple(Round(row["round_id"], row["time"], row["model"], json.loads(row["detail"])) for row in rows)

    def next_embedding(self) -> int:
        """Number that the next embedding will have."""
        with self._reading():
            return int(
                self._connection.execute("SELECT coalesce(max(embedding_id), 0) + 1 FROM embeddings").fetchone()[0]
            )

    def embedding(self) -> StoredEmbedding | None:
        """The newest embedding with its newest clustering, or None."""
        with self._reading():
            row = self._connection.execute("SELECT * FROM embeddings ORDER BY embedding_id DESC LIMIT 1").fetchone()
            if row is None:
                return None
            clustering = self._connection.execute(
                "SELECT detail FROM clusterings WHERE embedding_id = ? ORDER BY clustering_id DESC LIMIT 1",
                (row["embedding_id"],),
            ).fetchone()
            file, detail = self.folder / row["file"], json.loads(row["detail"])
            groups = json.loads(clustering["detail"]) if clustering else {}
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                parts = {name: arrays[name] for name in ("cell_id", "revision", "latent", "map2d")}
        except DAMAGED:  # a cache that was cleared; it can be computed again
            return None
        return StoredEmbedding(**parts, detail=detail, clustering=groups)

    # ------------------------------------------------------------------ writing

    def reserve_cell_ids(self, count: int) -> NDArray[np.int64]:
        """``count`` ids that no cell ever had.

        Noted on the disk with the next change, and not before: a run that was killed in between gives the same ids
        when it goes on as one that was never stopped.
        """
        self.require_writable()
        with self._lock, storage_errors(self.folder):
            if self._next_cell_id is None:
                row = self._connection.execute("SELECT value FROM meta WHERE key = 'next_cell_id'").fetchone()
                self._next_cell_id = int(row[0])
            first = self._next_cell_id
            self._next_cell_id += count
        return np.arange(first, first + count, dtype=np.int64)

    def write(self, change: Change) -> tuple[ImageRecord, ...]:
        """Store ``change`` in one transaction and return the image records as stored.

        Raises
        ------
        UserError
            If the disk is full or the folder cannot be written; nothing is changed then.
        """
        self.require_writable()
        with self._lock, storage_errors(self.folder):
            images = {record.image_id: record for record in change.images}
            for image_id, labels in change.labels.items():
                known = self._image(image_id)
                revision = known.labels_revision + 1
                self._labels.write(image_id, revision, labels)
                images[image_id] = replace(images.get(image_id, known), labels_revision=revision)
            with self._connection:
                self._write_rows(change, tuple(images.values()))
            if change.labels:
                self._labels.tidy({i: images[i].labels_revision for i in change.labels})
            if change.embedding is not None:
                self._tidy_embeddings()
            return tuple(images.values())

    def _write_rows(self, change: Change, images: tuple[ImageRecord, ...]) -> None:
        execute, many = self._connection.execute, self._connection.executemany
        many(f"INSERT OR REPLACE INTO images VALUES ({','.join('?' * 17)})", [image_to_row(r) for r in images])
        many("DELETE FROM images WHERE image_id = ?", [(int(i),) for i in change.removed_images])
        many("DELETE FROM regions WHERE image_id = ?", [(int(i),) for i in change.removed_images])
        many("INSERT OR REPLACE INTO regions VALUES (?,?,?,?)", [region_to_row(r) for r in change.regions])
        many("DELETE FROM regions WHERE region_id = ?", [(int(i),) for i in change.removed_regions])
        many("DELETE FROM cells WHERE cell_id = ?", [(int(i),) for i in change.removed])
        if change.cells is not None and len(change.cells):
            # By name: in a project of an older version the newer columns come last.
            names, marks = ",".join(f'"{name}"' for name in COLUMNS), ",".join("?" * (len(COLUMNS) + 1))
            many(f"INSERT OR REPLACE INTO cells (cell_id, {names}) VALUES ({marks})", cell_rows(change.cells))
        for name, value in change.settings.items():
            execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))
        if change.round is not None:
            row = (change.round.round_id, change.round.time, change.round.model, json.dumps(dict(change.round.detail)))
            execute("INSERT OR REPLACE INTO rounds VALUES (?,?,?,?)", row)
        if change.embedding is not None:
            self._write_embedding(change.embedding)
        if change.clustering is not None:
            newest = execute("SELECT max(embedding_id) FROM embeddings").fetchone()[0]
            detail = json.dumps(dict(change.clustering))
            execute(
                "INSERT INTO clusterings (time, embedding_id, detail) VALUES (?, ?, ?)",
                (now(), newest, detail),
            )
        if self._next_cell_id is not None:
            execute("UPDATE meta SET value = ? WHERE key = 'next_cell_id'", (str(self._next_cell_id),))
        if change.action:
            execute(
                "INSERT INTO journal (time, user, action, detail) VALUES (?, ?, ?, ?)",
                (now(), user_name(), change.action, json.dumps(dict(change.detail))),
            )

    def _write_embedding(self, embedding: StoredEmbedding) -> None:
        cursor = self._connection.execute(
            "INSERT INTO embeddings (time, file, detail) VALUES (?, '', ?)",
            (now(), json.dumps(dict(embedding.detail))),
        )
        file = f"embeddings/{cursor.lastrowid:04d}.npz"
        (self.folder / "embeddings").mkdir(exist_ok=True)
        arrays = {name: getattr(embedding, name) for name in ("cell_id", "revision", "latent", "map2d")}
        write_atomic(self.folder / file, lambda stream: np.savez_compressed(stream, **arrays))
        self._connection.execute("UPDATE embeddings SET file = ? WHERE embedding_id = ?", (file, cursor.lastrowid))

    def _tidy_embeddings(self) -> None:
        """Only the newest arrays are ever read: each correction makes a new map, and old ones would fill the disk."""
        rows = self._connection.execute("SELECT file, detail FROM embeddings ORDER BY embedding_id DESC").fetchall()
        newest = rows[:_EMBEDDINGS_KEPT]
        kept = {row["file"] for row in newest} | {str(json.loads(row["detail"]).get("network", "")) for row in newest}
        for file in (self.folder / "embeddings").iterdir():
            if file.stem.isdigit() and f"embeddings/{file.name}" not in kept:
                with suppress(OSError):  # open elsewhere: next time
                    file.unlink()


# ---------------------------------------------------------------------- helpers


def _opened(folder: Path, held: Claim) -> sqlite3.Connection:
    """The project's database, whole, of this version, and ready for what may be done with it."""
    connection = connect(folder / "project.sqlite", reading=bool(held.refused))
    try:
        check_whole(connection, folder, every_page=held.unclean)
        if held.refused:
            check_current(connection, held.refused)
        else:
            use_wal(connection)
            migrate(connection, folder)
    except BaseException:
        connection.close()
        raise
    return connection


def now() -> str:
    """The time as the project writes it: UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
