"""Make a damaged project usable again: its files first, then cells and pixels agree once more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.editing import measured_rows
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord
from cell_curator.io.repair import rebuild
from cell_curator.session import Session


@dataclass(frozen=True)
class Repaired:
    """What a repair did; ``backup`` is the damaged file, None where it was whole. ``notes`` say it line by line."""

    backup: Path | None
    images: int
    cells: int
    notes: tuple[str, ...]


def repair(folder: Path) -> Job[Repaired]:
    """Save what can be read of a project and say what was lost.

    Cells that have pixels but lost their row are measured again and count as edited, so that none that somebody
    accepted goes without being looked at; rows without pixels go.

    Raises
    ------
    UserError
        It is no project, it is open elsewhere, or nothing can be read of it.
    """
    yield Progress(0.0, "reading what is left")
    files = rebuild(folder)
    notes = list(files.notes)
    session = Session.open(folder)
    try:
        for done, record in enumerate(session.images):
            yield Progress(done / len(session.images), record.name)
            notes += _agreed(session, record)
        if notes or files.backup:
            session.commit(Change("repair", {"notes": notes}))
        return Repaired(files.backup, len(session.images), len(session.cells), tuple(notes))
    finally:
        session.close()


def _agreed(session: Session, record: ImageRecord) -> list[str]:
    """Rows for all pixels of cells of one image, and no others."""
    labels = session.labels(record.image_id)
    drawn = np.unique(labels[labels > 0])
    table = session.cells.of_image(record.image_id)
    without_pixels = table.index[~table["label"].isin(drawn)].tolist()
    without_row = np.setdiff1d(drawn, table["label"]).tolist()
    notes = []
    if without_pixels:
        session.commit(Change("repair", {"image": record.name}, removed=tuple(without_pixels)))
        notes.append(f"{record.name}: {len(without_pixels)} cells without pixels were taken out")
    if without_row:
        try:
            rows = measured_rows(session, record, labels, without_row, (0, 0, labels.shape[0], labels.shape[1]))
        except UserError as error:
            return [*notes, f"{record.name}: {len(without_row)} cells could not be measured again: {error}"]
        session.commit(Change("repair", {"image": record.name}, cells=rows))
        notes.append(f"{record.name}: {len(without_row)} cells were measured again and count as edited")
    return notes
