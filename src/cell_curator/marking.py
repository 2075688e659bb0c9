"""Marking what was reviewed and what is locked away, as undoable steps of a session.

What the marks mean is in `core.regions`; who learns from them is in `examples`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cell_curator.core.groups import group_of
from cell_curator.core.jobs import UserError
from cell_curator.core.regions import KINDS, REVIEWED, Region
from cell_curator.io.project import Change

if TYPE_CHECKING:
    from cell_curator.io.records import ImageRecord
    from cell_curator.session import Session

HELD_SHARE = 0.2
"""Part of the images that is suggested to be locked away."""


def mark(session: Session, image_id: int, kind: str, corners: ArrayLike | None = None) -> Region:
    """Mark a part of an image, or all of it; one undoable step.

    Parameters
    ----------
    kind
        One of `core.regions.KINDS`.
    corners
        ``(N, 2)`` ``(y, x)`` in px of the original; None: the whole image, in place of the parts marked before.

    Raises
    ------
    UserError
        If the polygon has fewer than three corners or covers no pixel.
    """
    if kind not in KINDS:
        raise UserError(f"{kind!r} is no kind of mark; use one of {', '.join(KINDS)}")
    record = session.image(image_id)
    before = tuple(region for region in session.regions(image_id) if region.kind == kind)
    region = Region(_new_id(session), image_id, kind, () if corners is None else _inside(corners, record))
    if corners is None and any(not old.corners for old in before):
        return next(old for old in before if not old.corners)
    gone = before if corners is None else ()
    session.history.do(_Mark(session, (region,), gone, f"mark {_where(region)} {kind}"))
    return region


def reshape(session: Session, region_id: int, corners: ArrayLike) -> Region:
    """Move the corners of a marked region; one undoable step.

    Raises
    ------
    UserError
        As `mark`, or if the region is not there any more.
    """
    old = _region(session, region_id)
    new = Region(_new_id(session), old.image_id, old.kind, _inside(corners, session.image(old.image_id)))
    session.history.do(_Mark(session, (new,), (old,), f"move {_where(new)} {new.kind}"))
    return new


def unmark(session: Session, image_id: int, kind: str) -> None:
    """Take all marks of a kind off an image; one undoable step."""
    gone = tuple(region for region in session.regions(image_id) if region.kind == kind)
    if gone:
        session.history.do(_Mark(session, (), gone, f"unmark {kind}"))


def unmark_region(session: Session, region_id: int) -> None:
    """Take one mark away; one undoable step.

    Raises
    ------
    UserError
        If it is not there any more.
    """
    gone = _region(session, region_id)
    session.history.do(_Mark(session, (), (gone,), f"unmark {_where(gone)} {gone.kind}"))


def suggest_holdout(session: Session) -> tuple[int, ...]:
    """Images to lock away: about a fifth, of every condition, whole wells and whole stacks, never cells.

    Images that nobody reviewed yet go first, so that nothing that was meant for learning is lost. The same
    project gets the same answer.

    Raises
    ------
    UserError
        If all images are of one well or file.
    """
    groups: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in session.images:
        groups[group_of(record.path)].append(record)
    if len(groups) < 2:
        raise UserError("all images are of one file or well; add another, or lock a region of the image away")
    by_condition: dict[str, list[str]] = defaultdict(list)
    for name, records in groups.items():
        by_condition[records[0].condition].append(name)
    chosen: list[str] = []
    for names in by_condition.values():
        fresh = sorted(names, key=lambda name: (_reviewed(session, groups[name]), names.index(name)))
        # Not the first of a list, which is as a rule where people start to work.
        chosen += fresh[::-1][: max(1, round(HELD_SHARE * len(names)))] if len(names) > 1 else []
    chosen = chosen or [max(groups, key=lambda name: -_reviewed(session, groups[name]))]
    return tuple(record.image_id for record in session.images if group_of(record.path) in chosen)


def _new_id(session: Session) -> int:
    return max((region.region_id for region in session.regions()), default=0) + 1


def _region(session: Session, region_id: int) -> Region:
    for region in session.regions():
        if region.region_id == region_id:
            return region
    raise UserError("this mark is no longer there; choose another")


def _reviewed(session: Session, records: Sequence[ImageRecord]) -> int:
    return sum(region.kind == REVIEWED for record in records for region in session.regions(record.image_id))


def _inside(corners: ArrayLike, record: ImageRecord) -> tuple[tuple[float, float], ...]:
    points = np.round(np.asarray(corners, float).reshape(-1, 2), 2)
    if len(points) < 3:
        raise UserError("a region needs three corners or more; draw a rectangle or a polygon")
    points = np.clip(points, 0, np.array(record.shape[1:]) - 1)
    if min(np.ptp(points, axis=0)) < 1:
        raise UserError("this region covers no pixel of the image; draw it on the image")
    return tuple((float(y), float(x)) for y, x in points)


def _where(region: Region) -> str:
    return "a region" if region.corners else "the image"


@dataclass(frozen=True)
class _Mark:
    """Put marks there and take others away."""

    session: Session
    added: tuple[Region, ...]
    gone: tuple[Region, ...]
    title: str

    def apply(self) -> _Mark:
        told = (self.added or self.gone)[0]
        detail = {
            "image": self.session.image(told.image_id).name,
            "kind": told.kind,
            "added": [region.corners for region in self.added],
            "removed": [region.corners for region in self.gone],
        }
        ids = tuple(region.region_id for region in self.gone)
        self.session.commit(Change("mark", detail, regions=self.added, removed_regions=ids))
        return _Mark(self.session, self.gone, self.added, self.title)
