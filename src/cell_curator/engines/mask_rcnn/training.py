"""Train a Mask R-CNN on images whose cells have types.

`train` is a job and runs in the worker process. Images that judge are held out whole, before anything is cut or varied.
Where the first layers come from a trained network, the last learn alone at first, then all; without, all learn
from the start, since nothing can be learned from layers drawn at random. Every step draws from a seed of its own, so
a training that goes on from a checkpoint ends as one that was never stopped. Whatever is worth keeping lies in the
folder at any moment.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cell_curator.core.groups import held_out
from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.engines.cards import WEIGHTS
from cell_curator.engines.checkpoint import Keeper, Ledger, forget, load_checkpoint
from cell_curator.engines.finetune import CHECKPOINT
from cell_curator.engines.loss import falling_rate
from cell_curator.engines.mask_rcnn import model as models
from cell_curator.engines.mask_rcnn.material import Pieces, Scaled, TypedImage, anchors, scale, sides
from cell_curator.engines.mask_rcnn.model import About
from cell_curator.engines.mask_rcnn.network import Layout, begin_from, build, heads_only, norm_of, read_weights
from cell_curator.engines.mask_rcnn.parameters import MaskRcnnParameters
from cell_curator.engines.mask_rcnn.progress import FinderState
from cell_curator.engines.memory import kept_memory
from cell_curator.engines.processor import bfloat16_is_faster
from cell_curator.engines.segmenter import limited_threads

FEWEST = 5
"""Cells of a type from which on there is something to learn."""

_LOOKS = 20
_JUDGED = 8  # steps' worth of pieces of the hold-out at each look
_CLIP = 5.0  # norm of the gradient beyond which a step is shortened


def train(
    images: Sequence[TypedImage],
    names: Sequence[str],
    params: MaskRcnnParameters,
    folder: Path,
    *,
    start: Path | None = None,
    holdout: Sequence[str] | None = None,
    details: dict[str, Any] | None = None,
    resume: bool = True,
) -> Job[About]:
    """Learn to find cells and tell their types; yields `FinderState` payloads.

    Parameters
    ----------
    images
        All cells of each, of which some have a type.
    names
        Of the types, in order.
    folder
        Where the model goes; made if it is not there.
    start
        Weights to start from: a model folder of a Mask R-CNN, or a file of torchvision's for a ResNet or a Mask R-CNN.
    holdout
        Groups that judge; by default ``params.holdout`` of them, drawn by the seed.
    details
        What else the card is to say.
    resume
        Go on from a checkpoint in ``folder`` if it is of exactly this training.

    Raises
    ------
    UserError
        If there is too little to learn from, ``start`` does not fit, the disk is full, or the loss stops being
        a number before there is anything to keep.
    """
    yield Progress(0.0, f"learning from {len(images)} images")
    groups = dict.fromkeys(one.group for one in images)
    judging = frozenset(holdout) if holdout is not None else _drawn(images, list(groups), params)
    learned = [one for one in images if one.group not in judging]
    judged = [one for one in images if one.group in judging]
    check(learned, names)
    with limited_threads(params.threads), kept_memory():
        run = _Run(learned, judged, tuple(names), params, folder, start, details or {}, resume)
        stopped = yield from run.fit()
        about = run.about(stopped)
        models.write_about(folder, about)
    forget([folder / CHECKPOINT])
    return about


def check(images: Sequence[TypedImage], names: Sequence[str]) -> None:
    """Whether there is something to learn.

    Raises
    ------
    UserError
        One line that says what is missing.
    """
    if len(names) < 1 or not images:
        raise UserError("no cell has a type yet; give a few cells of each type theirs")
    counts = {name: sum(list(one.types.values()).count(name) for one in images) for name in names}
    for name, count in counts.items():
        if count < FEWEST:
            cells = "no cell" if not count else "only one cell" if count == 1 else f"only {count} cells"
            raise UserError(f"{cells} of type {name!r} to learn from; give at least {FEWEST} cells that type")


def _drawn(images: Sequence[TypedImage], groups: list[str], params: MaskRcnnParameters) -> frozenset[str]:
    """The groups that judge: from each kind of group apart, so that every type is judged where it can be.

    Where every group is of a kind of its own, from all, as long as enough of each type is left to learn from.
    """
    kinds: dict[frozenset[str], list[str]] = {}
    for group in groups:
        types = frozenset(name for one in images if one.group == group for name in one.types.values())
        kinds.setdefault(types, []).append(group)
    drawn = [held_out(members, params.holdout, params.seed) for members in kinds.values()]
    if any(drawn):
        return frozenset().union(*drawn)
    chosen = held_out(groups, params.holdout, params.seed)
    left = [name for one in images if one.group not in chosen for name in one.types.values()]
    names = {name for one in images for name in one.types.values()}
    return chosen if all(left.count(name) >= FEWEST for name in names) else frozenset()


class _Run:
    """One training: the network, its optimiser, and the ledger."""

    def __init__(
        self,
        learned: Sequence[TypedImage],
        judged: Sequence[TypedImage],
        names: tuple[str, ...],
        params: MaskRcnnParameters,
        folder: Path,
        start: Path | None,
        details: dict[str, Any],
        resume: bool,
    ) -> None:
        import torch

        self.names, self.params, self.folder, self.details = names, params, folder, details
        typical = float(np.median(np.concatenate([sides(one.labels) for one in learned])))
        self.factor, layout, weights = self._beginning(learned, typical, start)
        ours = [scale(one, names, self.factor) for one in learned]
        theirs = [
            one
            for one in (scale(one, names, self.factor) for one in judged)
            if any(n > 0 for n in one.numbers.values())
        ]
        self.layout = layout or Layout(params.backbone, params.channels, len(names), "group", anchors(ours))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            self.module = build(self.layout)
        self.bfloat16 = bfloat16_is_faster()
        self.begun_from = 0
        if weights is not None and start is not None:
            self.begun_from = begin_from(self.module, weights, self.layout, start)
        self.optimiser: Any = torch.optim.AdamW(self.module.parameters(), lr=params.learning_rate, weight_decay=1e-4)
        self.pieces = Pieces(ours, params.crop, params.batch, params.seed)
        self.looked_at = Pieces(theirs, params.crop, params.batch, 2**31, varied=False) if theirs else None
        self.learned, self.judged, self.typical = learned, judged, typical
        self.fingerprint = _fingerprint(ours, theirs, names, params, start)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / CHECKPOINT
        found = load_checkpoint(path, self.fingerprint, self.module, self.optimiser) if resume else None
        if found is None:
            forget([path, folder / WEIGHTS])
        self.ledger = found or Ledger()
        self.looked = self._part()
        self.keeper = Keeper(
            path, self.fingerprint, self.module, self.optimiser, self.ledger, params.learning_rate, unit="step"
        )
        self.why = ""

    def _beginning(
        self, learned: Sequence[TypedImage], typical: float, start: Path | None
    ) -> tuple[float, Layout | None, dict[str, Any] | None]:
        """By which images are scaled, the layers if they are given by what is started from, and its weights."""
        factor = self.params.cell_side / typical
        if start is None:
            return factor, None, None
        if start.is_dir():
            about = models.read_about(start)
            layout = Layout(**{**about.layout.plain(), "types": len(self.names)})
            return factor, layout, read_weights(start / WEIGHTS)
        weights = read_weights(start)
        ours = [scale(one, self.names, factor) for one in learned]
        layout = Layout(self.params.backbone, self.params.channels, len(self.names), norm_of(weights), anchors(ours))
        return factor, layout, weights

    def fit(self) -> Job[str]:
        """Train to the end; how it ended."""
        book = self.ledger
        earlier, begun, last = book.seconds, time.perf_counter(), -math.inf
        while True:
            loss = self._step(book.step)
            if not math.isfinite(loss):
                return self._diverged("the loss")
            book.loss_sum, book.tiles, book.step = book.loss_sum + loss, book.tiles + 1, book.step + 1
            book.seconds = earlier + time.perf_counter() - begun
            over = self._part() >= 1
            if over or self._part() - self.looked >= 1 / _LOOKS:
                self.looked = self._part()
                yield self._progress("judging")
                stop = self._look()
                yield self._progress("learning")
                if stop or over:
                    return stop or "end"
            self.keeper.save()
            if time.perf_counter() - last > 0.1:
                last = time.perf_counter()
                yield self._progress("learning")

    def _step(self, step: int) -> float:
        """One batch forward and back; a loss that is not a number leaves the weights alone."""
        import torch

        self.module.train()
        first = bool(self.begun_from) and self._part() < self.params.heads_first
        heads_only(self.module, first)
        for group in self.optimiser.param_groups:
            group["lr"] = falling_rate(self.params.learning_rate, self._part())
        loss = self._loss(self.pieces, step, (self.params.seed * 1_000_003 + step) % 2**31)
        value = float(loss.detach())
        if math.isfinite(value):
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), _CLIP)
            self.optimiser.step()
        return value

    def _loss(self, pieces: Pieces, step: int, seed: int) -> Any:
        import torch

        images, targets = pieces[step]
        with torch.random.fork_rng(devices=[]), torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            torch.manual_seed(seed)  # torchvision draws boxes at random
            return sum(self.module(images, targets).values())

    def _look(self) -> str:
        """Judge on the hold-out, keep what is best; why to stop, or empty."""
        book = self.ledger
        held = self._held()
        if held is not None and not math.isfinite(held):
            return self._diverged("the loss on held-out images")
        book.curve.append([book.step, book.loss_sum / max(1, book.tiles), held])
        book.loss_sum, book.tiles, book.epoch = 0.0, 0, book.epoch + 1
        better = held is None or book.best_loss is None or held < book.best_loss
        book.waited = 0 if better else book.waited + 1
        if better:
            book.best_epoch, book.best_loss = book.step, held
            self.keeper.write(lambda: models.write(self.folder, self.module, self.about("cancelled")))
        return "early" if self.params.patience and book.waited >= self.params.patience else ""

    def _held(self) -> float | None:
        """Mean loss of the same pieces of held-out images at every look."""
        import torch

        if self.looked_at is None:
            return None
        self.module.train()  # torchvision tells losses only then; nothing in it changes with what it sees
        with torch.no_grad():
            return float(np.mean([float(self._loss(self.looked_at, step, step)) for step in range(_JUDGED)]))

    def about(self, stopped: str) -> About:
        """The card of what is kept."""
        book = self.ledger
        counts = {name: sum(list(one.types.values()).count(name) for one in self.learned) for name in self.names}
        details = {
            **self.details,
            "cells": counts,
            "learned_from": [one.name for one in self.learned],
            "held_out": [one.name for one in self.judged],
            "held_out_groups": sorted({one.group for one in self.judged}),
            "cell_side_px": round(self.typical, 1),
            "step": book.best_epoch,
            "steps": book.step,
            "curve": book.curve,
            "layers_begun_from": self.begun_from,
            "stopped": stopped,
            "seconds": round(book.seconds, 1),
            "note": self.why,
        }
        return About(self.names, self.layout, self.factor, self.params, details)

    def _part(self) -> float:
        """How much of the training is done, 0..1."""
        if self.params.minutes:
            return min(1.0, self.ledger.seconds / (60 * self.params.minutes))
        return min(1.0, self.ledger.step / self.params.steps)

    def _diverged(self, what: str) -> str:
        self.why = self.keeper.diverged(what)
        return "diverged"

    def _progress(self, message: str) -> Progress:
        book, part = self.ledger, self._part()
        steps = self.params.steps if not self.params.minutes else round(book.step / part) if part > 0 else 0
        curve = tuple((step, loss, held) for step, loss, held in book.curve)
        loss = book.loss_sum / book.tiles if book.tiles else (curve[-1][1] if curve else 0.0)
        held = curve[-1][2] if curve else None
        first = bool(self.begun_from) and part < self.params.heads_first
        state = FinderState(book.step, max(steps, book.step), loss, held, curve, book.best_epoch, first)
        return Progress(part, f"{message}, step {book.step}", state)


def _fingerprint(
    ours: Sequence[Scaled],
    theirs: Sequence[Scaled],
    names: Sequence[str],
    params: MaskRcnnParameters,
    start: Path | None,
) -> str:
    made = hashlib.sha256(f"{params.hash} {list(names)} {start}".encode())
    for one in (*ours, *theirs):
        made.update(f"{one.name} {sorted(one.numbers.items())}".encode())
        made.update(np.ascontiguousarray(one.planes).data)
        made.update(np.ascontiguousarray(one.labels).data)
    return made.hexdigest()
