"""Accepting, rejecting and locking cells of a session, as undoable steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cell_curator.core.cells import VERDICTS
from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of
from cell_curator.io.project import Change

if TYPE_CHECKING:
    from cell_curator.session import Session


def give(session: Session, ids: Iterable[int], verdict: str) -> None:
    """Give cells a verdict; see `Session.set_verdict`."""
    ids = tuple(int(i) for i in ids)
    if verdict not in VERDICTS:
        raise UserError(f"{verdict!r} is no verdict; use one of {', '.join(VERDICTS)}")
    missing = [i for i in ids if i not in session.cells]
    if missing:
        raise UserError(f"there is no cell {missing[0]} any more; choose another")
    if ids:
        title = f"{verdict} {number_of(len(ids), 'cell')}"
        session.history.do(_SetVerdict(session, ids, (verdict,) * len(ids), title))


@dataclass(frozen=True)
class _SetVerdict:
    """Give cells verdicts, one each; cells that went away since are passed over."""

    session: Session
    ids: tuple[int, ...]
    verdicts: tuple[str, ...]
    title: str

    @property
    def cells(self) -> frozenset[int]:
        """The cells."""
        return frozenset(self.ids)

    def apply(self) -> _SetVerdict:
        with self.session.lock:  # else a job's new measurements or clusters could be written over
            frame = self.session.cells.frame
            pairs = [(i, verdict) for i, verdict in zip(self.ids, self.verdicts, strict=True) if i in frame.index]
            ids = tuple(i for i, _ in pairs)
            before = tuple(frame.loc[list(ids), "verdict"])
            rows = frame.loc[list(ids)].assign(verdict=[verdict for _, verdict in pairs])
            detail = {
                "cells": ids,
                "verdicts": [verdict for _, verdict in pairs],
                "images": [self.session.image(image).name for image in rows["image"]],
                "labels": rows["label"].tolist(),
            }
            self.session.commit(Change("verdict", detail, cells=rows))
        return _SetVerdict(self.session, ids, before, self.title)
