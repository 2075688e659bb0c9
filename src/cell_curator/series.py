"""The planes of a stack, or frames of a time lapse, as images of a project that belong together.

In the project a cell is a cell of one plane; what goes through several planes has the same label in all of
them. Nothing here looks for cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cell_curator.core.jobs import UserError
from cell_curator.core.stitching import Labels, chains, common_labels, relabelled
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord

if TYPE_CHECKING:
    from cell_curator.session import Session


def planes_of(session: Session, image_id: int) -> tuple[ImageRecord, ...]:
    """All planes of the file that an image is a plane of, in order; a single image alone."""
    record = session.image(image_id)
    if not record.axis:
        return (record,)
    planes = [one for one in session.images if one.axis and one.path == record.path]
    return tuple(sorted(planes, key=lambda one: one.plane))


def files(session: Session, records: Sequence[ImageRecord]) -> list[tuple[ImageRecord, ...]]:
    """The files that these images are of, each with all its planes in the project."""
    first = {(record.path, record.axis): record for record in records}
    return [planes_of(session, record.image_id) for record in first.values()]


def check_complete(planes: Sequence[ImageRecord]) -> None:
    """Refuse a stack of which planes were taken out of the project.

    Raises
    ------
    UserError
        Names the first plane that is not there.
    """
    for index, record in enumerate(planes):
        if record.plane != index:
            raise UserError(f"{record.path}: plane {index + 1} is not in the project; add the file again")


def join(session: Session, image_id: int, threshold: float, *, only: bool = False) -> int:
    """Give a cell the same label in all planes of its file; returns how many cells have another label now.

    Only proposals are numbered anew: a cell that a person decided keeps its label, and its pixels anyway.

    Parameters
    ----------
    threshold
        IoU from which cells of neighbouring planes are one.
    only
        Number the cells of this image alone, after those of the planes before and after it.
    """
    with session.lock:
        own = session.image(image_id)
        planes = planes_of(session, image_id)
        every = session.cells.frame
        every = every[every["image"].isin([record.image_id for record in planes])]
        if only:
            planes = tuple(record for record in planes if abs(record.plane - own.plane) <= 1)
        fixed = []
        for record in planes:
            rows = every[every["image"] == record.image_id]
            stays = (rows["verdict"] != "proposed") | (only and record.image_id != image_id)
            fixed.append(set(rows.loc[stays, "label"].tolist()))
        views = [session.label_view(record.image_id) for record in planes]
        first = int(every["label"].max()) + 1 if only and len(every) else 1
        given = common_labels(_numbers(planes, views, threshold), fixed, first)
        labels = {
            record.image_id: relabelled(view, numbers)
            for record, view, numbers in zip(planes, views, given, strict=True)
            if any(old != new for old, new in numbers.items())
        }
        if not labels:
            return 0
        new = {record.image_id: numbers for record, numbers in zip(planes, given, strict=True)}
        rows = every[every["image"].isin(labels)]
        fresh = [new[image][label] for image, label in zip(rows["image"], rows["label"], strict=True)]
        changed = rows.assign(label=np.array(fresh, np.int64))[rows["label"].to_numpy() != fresh]
        detail = {"image": own.name, "threshold": threshold, "only": only, "cells": len(changed)}
        session.commit(Change("stitch", detail, cells=changed, labels=labels))
        return len(changed)


def _numbers(planes: Sequence[ImageRecord], views: Sequence[Labels], threshold: float) -> list[dict[int, int]]:
    """As `chains`; where a plane between was taken out of the project, no cell goes on."""
    with_gaps, place = [], []
    for index, (record, view) in enumerate(zip(planes, views, strict=True)):
        if index and record.plane != planes[index - 1].plane + 1:
            with_gaps.append(np.zeros_like(view))
        place.append(len(with_gaps))
        with_gaps.append(view)
    found = chains(with_gaps, threshold)
    return [found[index] for index in place]
