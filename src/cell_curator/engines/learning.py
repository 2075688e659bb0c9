"""The training loop: one for every network that answers flow and cell probability.

Tiles are cut in a thread while the network computes, in bfloat16 where that is faster. Every pass draws
from a seed of its own, so a training that goes on from a checkpoint ends exactly as one that was never
stopped. The loss is Cellpose's, over the pixels that count. Reference: Stringer et al., Nature Methods 2021.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, drive
from cell_curator.engines.augment import UNCHANGED
from cell_curator.engines.cards import CARD, WEIGHTS
from cell_curator.engines.checkpoint import Keeper, Ledger, forget, load_checkpoint, save_weights
from cell_curator.engines.finetune import CHECKPOINT, NOTES, Point, Trained, TrainingState, TrainParameters, note
from cell_curator.engines.loss import cellpose_rates, falling_rate
from cell_curator.engines.masks import outline
from cell_curator.engines.memory import kept_memory
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, limited_threads
from cell_curator.engines.trainable import Trainable
from cell_curator.engines.training_material import Material
from cell_curator.engines.training_tiles import Cut, Tiles, batches
from cell_curator.io.atomic import write_atomic, write_error

if TYPE_CHECKING:
    from torch import Tensor

LOOKS = 8
"""Tiles of the hold-out that are looked at, at least; as many again until every image had one."""


def learn(net: Trainable, material: Material, params: TrainParameters, folder: Path, resume: bool) -> Job[Trained]:
    """Train ``net``; see `finetune.finetune`."""
    _make(folder, net.base)
    with limited_threads(params.threads), kept_memory():
        run = _Run(net, material, params, folder, resume)
        stopped = yield from run.fit()
        made = run.kept(stopped)
        note(folder, made)
    forget([folder / CHECKPOINT])
    return made


def _make(folder: Path, base: Path) -> None:
    """The folder of the model, which must not be that of the base."""
    if (folder / WEIGHTS).exists() and (folder / WEIGHTS).samefile(base):
        raise UserError(f"{folder}: holds the model that is to be trained on; choose another folder for the new one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


class _Run:
    """One training: the network, its optimiser, and the ledger."""

    def __init__(self, net: Trainable, material: Material, params: TrainParameters, folder: Path, resume: bool) -> None:
        import torch

        self.net, self.material, self.params, self.folder = net, material, params, folder
        weights = [weight for weight in net.module.parameters() if weight.requires_grad]
        if params.sgd:
            self.optimiser: Any = torch.optim.SGD(
                weights, lr=params.learning_rate, weight_decay=params.weight_decay, momentum=params.momentum
            )
        else:
            self.optimiser = torch.optim.AdamW(weights, lr=params.learning_rate, weight_decay=params.weight_decay)
        side = net.side or -(-params.tile // 16) * 16
        self.cut = Cut(side, net.channels, params.scale_range, params.batch_size, params.images_per_epoch, params.vary)
        self.per_epoch = math.ceil((params.images_per_epoch or len(material.train)) / params.batch_size)
        self.rates = cellpose_rates(params.learning_rate, params.epochs)
        self.base = hashlib.sha256(net.base.read_bytes()).hexdigest()
        words = f"{material.fingerprint} {params.hash} {self.base} {net.engine} {len(material.train)} {side}"
        self.fingerprint = hashlib.sha256(words.encode()).hexdigest()
        path = folder / CHECKPOINT
        found = load_checkpoint(path, self.fingerprint, net.module, self.optimiser) if resume else None
        self.resumed_at = found.step if found else 0
        if found is None:
            forget([path, folder / NOTES])
        self.ledger = found or Ledger()
        self.looked_at = self._holdout_tiles()
        self.keeper = Keeper(path, self.fingerprint, net.module, self.optimiser, self.ledger, params.learning_rate)
        self.why = ""

    def fit(self) -> Job[str]:
        """Train to the end; how it ended."""
        book = self.ledger
        earlier, start = book.seconds, time.perf_counter()
        if self.looked_at and book.holdout_before is None:
            yield self._progress("looking at the hold-out")
            book.holdout_before = self._holdout_loss()
        for tiles in _ahead(self._stream()):
            loss = self._step(tiles)
            if not math.isfinite(loss):
                return self._diverged("the loss")
            book.loss_sum += loss * len(tiles.planes)
            book.tiles += len(tiles.planes)
            book.step, book.within = book.step + 1, book.within + 1
            book.seconds = earlier + time.perf_counter() - start
            over = self._part() >= 1
            if over or book.within == self.per_epoch:
                stop = yield from self._end_of_pass(over)
                if stop:
                    return stop
            self.keeper.save()
            yield self._progress(f"learning, step {book.step}")
        raise AssertionError("the stream of tiles has no end")

    def _end_of_pass(self, over: bool) -> Job[str]:
        """Close the books of a pass; look at hold-out and preview if it is time. Why to stop, or empty."""
        book, params = self.ledger, self.params
        loss = self._loss()
        book.epoch, book.within = book.epoch + 1, 0
        book.loss_sum, book.tiles = 0.0, 0
        due = over or book.epoch % params.evaluate_every == 0
        held = self._holdout_loss() if due and self.looked_at else None
        book.curve.append([book.epoch, loss, held])
        if not due:
            return "end" if over else ""
        if held is not None and not math.isfinite(held):
            return self._diverged("the loss on the hold-out")
        better = params.keep == "last" or held is None or book.best_loss is None or held < book.best_loss
        book.waited = 0 if better else book.waited + 1
        if better:
            book.best_epoch, book.best_loss = book.epoch, held
            self.keeper.write(self._save_weights)
        self.keeper.write(lambda: note(self.folder, self.kept("cancelled")))
        yield self._progress(f"learning, pass {book.epoch} done", self._preview())
        if over:
            return "end"
        return "early" if params.patience and book.waited >= params.patience else ""

    def kept(self, stopped: str) -> Trained:
        """What there is to hand back now."""
        book = self.ledger
        made = Trained(
            weights=self.folder / WEIGHTS,
            epoch=book.best_epoch,
            epochs=book.epoch,
            curve=self._curve(),
            diameter=self.material.diameter,
            seconds=round(book.seconds, 1),
            stopped=stopped,
            details=self._details(),
        )
        return made

    def _stream(self) -> Iterator[Tiles]:
        """Batches without end, from where the ledger stands."""
        done = self.ledger.within
        for epoch in count(self.ledger.epoch):
            seed = (100_003 * self.params.seed + epoch) % 2**32
            yield from islice(batches(self.material.train, self.cut, seed), done, None)
            done = 0

    def _step(self, tiles: Tiles) -> float:
        """One batch forward and back; a loss that is not a number leaves the weights alone."""
        import torch

        optimiser = self.optimiser
        self.net.module.train()
        for group in optimiser.param_groups:
            group["lr"] = self._rate()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(100_003 * self.params.seed + self.ledger.step)  # some networks skip layers at random
            answer = self.net.answer(tiles.planes)
        loss = self._wrong(tiles, answer)
        value = float(loss.detach())
        if math.isfinite(value):
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        return value

    def _wrong(self, tiles: Tiles, answer: Tensor) -> Tensor:
        """The loss of an answer."""
        import torch

        target, counts = torch.from_numpy(tiles.target), torch.from_numpy(tiles.counts)
        return self.net.loss(target, answer, counts, self.params.cell_loss)

    def _rate(self) -> float:
        params = self.params
        if params.minutes or params.schedule == "cosine":
            return falling_rate(params.learning_rate, self._part())
        return float(self.rates[self.ledger.epoch])

    def _part(self) -> float:
        """How much of the training is done, 0..1."""
        if self.params.minutes:
            return min(1.0, self.ledger.seconds / (60 * self.params.minutes))
        return min(1.0, self.ledger.step / (self.params.epochs * self.per_epoch))

    def _loss(self) -> float:
        """Mean loss of the pass that is running."""
        return self.ledger.loss_sum / max(1, self.ledger.tiles)

    def _holdout_tiles(self) -> list[Tiles]:
        """The same tiles at every look."""
        holdout = self.material.holdout
        made: list[Tiles] = []
        if not holdout:
            return []
        most = 32 if len(holdout) > 32 else 0
        for seed in range(42, 42 + max(1, math.ceil(LOOKS / len(holdout)))):
            made += batches(holdout, replace(self.cut, per_epoch=most, vary=UNCHANGED), seed)
        return made

    def _holdout_loss(self) -> float:
        """Mean loss over the pixels of the hold-out that count."""
        import torch

        self.net.module.eval()
        total = weight = 0.0
        with torch.inference_mode():
            for tiles in self.looked_at:
                loss = self._wrong(tiles, self.net.answer(tiles.planes))
                pixels = float(tiles.counts.sum())
                total, weight = total + loss.item() * pixels, weight + pixels
        return total / max(weight, 1.0)

    def _preview(self) -> NDArray[np.int32] | None:
        """The cells of the preview as the network finds them now."""
        view = self.material.view
        if view is None:
            return None
        self.net.module.eval()
        answer, _ = drive(self.net.look(view.planes))
        nothing = np.zeros(1, dtype=np.float32)
        raw = Segmentation(
            labels=np.zeros([window.stop - window.start for window in view.window], dtype=np.int32),
            diameter=view.diameter,
            inverted=False,
            flow_error=nothing,
            flow=answer[:-1],
            cell_probability=answer[-1],
            error_unit=self.net.error_unit,
        )
        labels = np.zeros(view.shape, dtype=np.int32)
        labels[view.window] = outline(raw, SegmentParameters()).labels
        return labels

    def _save_weights(self) -> None:
        """Write the weights, with a card for the time being, so that the right engine loads them."""
        card = json.dumps({"engine": self.net.engine}).encode()
        write_atomic(self.folder / CARD, lambda file: file.write(card))
        save_weights(self.net.module, self.folder / WEIGHTS)

    def _diverged(self, what: str) -> str:
        self.why = self.keeper.diverged(what)
        return "diverged"

    def _curve(self) -> tuple[Point, ...]:
        return tuple((epoch, loss, held) for epoch, loss, held in self.ledger.curve)

    def _progress(self, message: str, preview: NDArray[np.int32] | None = None) -> Progress:
        book, part = self.ledger, self._part()
        begun = book.epoch + (book.within > 0)
        if self.params.minutes:
            planned = max(begun, round(book.step / self.per_epoch / part)) if part > 0 else 0
        else:
            planned = self.params.epochs
        curve = self._curve()
        state = TrainingState(
            epoch=begun,
            epochs=planned,
            step=book.step,
            loss=self._loss() if book.tiles else (curve[-1][1] if curve else 0.0),
            holdout_loss=next((held for _, _, held in reversed(curve) if held is not None), book.holdout_before),
            holdout_before=book.holdout_before,
            curve=curve,
            best_epoch=book.best_epoch,
            preview=preview,
            preview_name="" if preview is None or self.material.view is None else self.material.view.name,
        )
        return Progress(part, message, state)

    def _details(self) -> dict[str, Any]:
        """What the card will say."""
        import torch

        book = self.ledger
        how = "the last"
        if self.looked_at and self.params.keep == "best":
            how = "lowest loss on the hold-out, so scores on the hold-out are slightly favourable"
        details = {
            **self.material.details,
            "base_sha256": self.base,
            "steps": book.step,
            "tile_px": self.cut.side,
            "precision": "bfloat16" if self.net.bfloat16 else "float32",
            "threads": torch.get_num_threads(),
            "kept": how,
            "loss": book.curve[-1][1] if book.curve else None,
            "holdout_loss_before": book.holdout_before,
            "holdout_loss": book.best_loss,
        }
        if self.resumed_at:
            details["resumed_at_step"] = self.resumed_at
        if self.why:
            details["note"] = self.why
        return details


def _ahead(made: Iterator[Tiles]) -> Iterator[Tiles]:
    """The same batches, each made in a thread while the one before is at work."""
    with ThreadPoolExecutor(1, thread_name_prefix="tiles") as pool:
        waiting = pool.submit(next, made, None)
        while (tiles := waiting.result()) is not None:
            waiting = pool.submit(next, made, None)
            yield tiles
