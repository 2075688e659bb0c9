"""The images of a project as a Qt table. Thumbnails come from a background thread when first asked for.

A stack or time lapse is one row, which stands for that plane of it that was on the screen last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QModelIndex, Qt, Signal
from qtpy.QtGui import QIcon, QImage, QPainter, QPixmap

from cell_curator.adding import title_of
from cell_curator.core.jobs import UserError
from cell_curator.core.patches import patch_thumbnail
from cell_curator.core.words import number_of
from cell_curator.widgets.runner import Background

if TYPE_CHECKING:
    from cell_curator.io.records import ImageRecord
    from cell_curator.session import Session

_HEADS = ("Image", "Condition", "Cells", "State")
_STATES = {"new": "new", "prepared": "prepared", "segmented": "cells found", "reviewed": "reviewed", "failed": "failed"}
_PLANES = {"Z": "Plane", "T": "Frame"}
_SIZE = 80


class ImagesModel(QAbstractTableModel):
    """Rows: image files. Columns: thumbnail and name, condition (editable), number of cells, state."""

    condition_edited = Signal(list, str)

    def __init__(self, background: Background) -> None:
        super().__init__()
        self._background = background
        self._session: Session | None = None
        self._files: list[tuple[ImageRecord, ...]] = []
        self._shown: dict[Path, int] = {}
        self._counts: dict[int, int] = {}
        self._thumbs: dict[int, QIcon] = {}
        self._unread: dict[int, tuple[Path, str]] = {}

    def show_session(self, session: Session | None) -> None:
        """Show the images of another session."""
        self.beginResetModel()
        self._session = session
        self._shown.clear()
        self._thumbs.clear()
        self._unread.clear()
        self._take(self._read_files())
        self.endResetModel()

    def refresh(self) -> None:
        """Take over what the session says now, with the selection left alone."""
        before = [[record.image_id for record in records] for records in self._files]
        files = self._read_files()
        if before and before == [[record.image_id for record in records] for records in files]:
            self._take(files)
            self.dataChanged.emit(self.index(0, 0), self.index(len(files) - 1, len(_HEADS) - 1))
            return
        self.beginResetModel()
        self._take(files)
        self.endResetModel()

    def image_id(self, row: int) -> int:
        """The image of a row; of a stack the plane that was on the screen last."""
        return self._record(row).image_id

    def image_ids(self, rows: Iterable[int]) -> list[int]:
        """The images of these rows, with all planes of stacks."""
        return [record.image_id for row in sorted(set(rows)) for record in self._files[row]]

    def row_of(self, image_id: int | None) -> int | None:
        """The row of an image."""
        holds = (row for row, records in enumerate(self._files) if any(r.image_id == image_id for r in records))
        return next(holds, None)

    def show_plane(self, image_id: int) -> None:
        """Let the row of a stack stand for this plane."""
        row = self.row_of(image_id)
        if row is not None and self._record(row).image_id != image_id:
            self._shown[self._files[row][0].path] = image_id
            self.dataChanged.emit(self.index(row, 0), self.index(row, len(_HEADS) - 1))

    def facts(self, row: int) -> str:
        """Channels, pixel size and extent of an image, in words."""
        record = self._record(row)
        channels, height, width = record.shape
        size = f"{record.pixel_size_um:.3g} µm per px" if record.pixel_size_um else "pixel size unknown"
        names = f"{number_of(channels, 'channel')}: {', '.join(record.channel_names)}"
        cells = self._counts.get(record.image_id, 0)
        here = f"\n{_PLANES[record.axis]} {record.plane + 1}: {number_of(cells, 'cell')}" if record.axis else ""
        note = f"\n{record.note}" if record.note else ""
        return f"{width} × {height} px · {size} · {names}{here}{note}"

    # Qt's model interface

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of images."""
        return 0 if parent is not None and parent.isValid() else len(self._files)

    def columnCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of columns."""
        return 0 if parent is not None and parent.isValid() else len(_HEADS)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:  # noqa: N802
        """Column titles."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _HEADS[section]
        return None

    def flags(self, index: QModelIndex) -> Qt.ItemFlag:
        """The condition can be edited."""
        flags = Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable
        return flags | Qt.ItemFlag.ItemIsEditable if index.column() == 1 else flags

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Text, thumbnail, tooltip or alignment of a cell."""
        record, column = self._record(index.row()), index.column()
        records = self._files[index.row()]
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            count = sum(self._counts.get(one.image_id, 0) for one in records)
            segmented = any(one.state == "segmented" for one in records)
            return (
                _short(record, len(records)) if role == Qt.ItemDataRole.DisplayRole else record.name,
                record.condition,
                str(count) if count or segmented else "–",
                _state(records),
            )[column]
        if role == Qt.ItemDataRole.DecorationRole and column == 0:
            return self._thumbnail(records[len(records) // 2])
        if role == Qt.ItemDataRole.ToolTipRole:
            return (
                "Double-click to change the condition"
                if column == 1
                else "\n".join(filter(None, (record.name, str(record.path), record.note, self._problem(record))))
            )
        if role == Qt.ItemDataRole.TextAlignmentRole and column == 2:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def setData(self, index: QModelIndex, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:  # noqa: N802
        """Announce a new condition; the session decides."""
        if role != Qt.ItemDataRole.EditRole or index.column() != 1:
            return False
        text = str(value).strip()
        if text != self._record(index.row()).condition:
            self.condition_edited.emit([index.row()], text)
        return True

    def _record(self, row: int) -> ImageRecord:
        records = self._files[row]
        shown = self._shown.get(records[0].path)
        return next((record for record in records if record.image_id == shown), records[0])

    def _read_files(self) -> list[tuple[ImageRecord, ...]]:
        """The images of the session, planes of a file together and in order."""
        together: dict[object, list[ImageRecord]] = {}
        for record in self._session.images if self._session is not None else ():
            together.setdefault(record.path if record.axis else record.image_id, []).append(record)
        return [tuple(sorted(records, key=lambda one: one.plane)) for records in together.values()]

    def _problem(self, record: ImageRecord) -> str:
        """Why there is no thumbnail of an image."""
        return self._unread.get(record.image_id, (record.path, ""))[1]

    def _take(self, files: list[tuple[ImageRecord, ...]]) -> None:
        self._files = files
        for record in (record for records in files for record in records):
            if record.image_id in self._unread and self._unread[record.image_id][0] != record.path:
                del self._unread[record.image_id], self._thumbs[record.image_id]  # found in another place
        frame = self._session.cells.frame if self._session is not None else None
        self._counts = {} if frame is None else {int(i): int(n) for i, n in frame["image"].value_counts().items()}

    def _thumbnail(self, record: ImageRecord) -> QIcon | None:
        if record.image_id not in self._thumbs and self._session is not None:
            self._thumbs[record.image_id] = QIcon(blank(_SIZE))
            session, image_id = self._session, record.image_id

            def compute() -> tuple[Session, ImageRecord, NDArray[np.uint8] | str]:
                try:
                    return session, record, _picture(session.pixels(image_id))
                except UserError as error:  # one bad image must not hide what is said of the others
                    return session, record, str(error)

            self._background(compute, self._thumbnail_made)
        return self._thumbs.get(record.image_id)

    def _thumbnail_made(self, made: tuple[Session, ImageRecord, NDArray[np.uint8] | str]) -> None:
        session, record, picture = made
        row = self.row_of(record.image_id)
        if session is self._session and row is not None:
            if isinstance(picture, str):
                self._unread[record.image_id] = record.path, picture
            pixmap = blank(_SIZE, "?") if isinstance(picture, str) else to_pixmap(picture)
            self._thumbs[record.image_id] = QIcon(pixmap)
            self.dataChanged.emit(self.index(row, 0), self.index(row, 0), [Qt.ItemDataRole.DecorationRole])


def _picture(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """A whole image in small."""
    step = max(1, max(pixels.shape[1:]) // 256)
    small = pixels[:, ::step, ::step]
    return patch_thumbnail(small, None, (0, 0, small.shape[1], small.shape[2]), _SIZE, margin=0)


def _short(record: ImageRecord, planes: int) -> str:
    """The last part of the name; of a plane, below it, which it is and how many there are."""
    name = title_of(record).rpartition("/")[2]
    return f"{name}\n{record.plane + 1} of {planes}" if record.axis else name


def _state(records: Sequence[ImageRecord]) -> str:
    """The state of an image; of a stack what all its planes have in common, or how many are segmented."""
    states = {record.state for record in records}
    if len(states) > 1 and "failed" not in states:
        return f"{sum(record.state != 'new' for record in records)} of {len(records)}"
    state = "failed" if "failed" in states else records[0].state
    return _STATES.get(state, state)


def to_pixmap(picture: NDArray[np.uint8]) -> QPixmap:
    """``(Y, X, 3)`` uint8 as a pixmap."""
    picture = np.ascontiguousarray(picture)
    height, width = picture.shape[:2]
    return QPixmap.fromImage(QImage(picture.data, width, height, 3 * width, QImage.Format.Format_RGB888).copy())


def blank(size: int, word: str = "") -> QPixmap:
    """A grey square that holds the place of a picture; ``word`` says that there will be none."""
    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.darkGray)
    if word:
        painter = QPainter(pixmap)
        font = painter.font()
        font.setPixelSize(size // 2)
        painter.setFont(font)
        painter.drawText(pixmap.rect(), int(Qt.AlignmentFlag.AlignCenter), word)
        painter.end()
    return pixmap
