"""Train one of the autoencoders on patches.

`train` is a job. What is held back is chosen by whole images *before* any cell is turned or flipped, so that
no cell has a twin on both sides. No condition reaches the encoder, and no verdict anything. Every step draws
from a seed of its own, so a training that goes on from a checkpoint ends exactly as one that was never
stopped. This module draws no clusters.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.engines.checkpoint import forget
from cell_curator.engines.memory import kept_memory
from cell_curator.engines.processor import bfloat16_is_faster
from cell_curator.engines.vae import state as states
from cell_curator.engines.vae.arithmetic import few_threads, quick_arithmetic
from cell_curator.engines.vae.augmentation import jittered, turned_and_flipped
from cell_curator.engines.vae.loss import VaeLoss, loss
from cell_curator.engines.vae.material import Batches, Material, check, prepare
from cell_curator.engines.vae.model import BATCH, VaeModel, describing
from cell_curator.engines.vae.network import ENCODER, build
from cell_curator.engines.vae.parameters import VaeParameters
from cell_curator.engines.vae.preview import Previews
from cell_curator.engines.vae.progress import Embedding, MapPreview, VaeProgress, active_units
from cell_curator.engines.vae.refining import adopt
from cell_curator.engines.vae.split import split_by_group
from cell_curator.engines.vae.state import State, fingerprint

if TYPE_CHECKING:
    from torch import Generator, Tensor

_CHECKS = 25  # validation happens this often in a full training
_MOST_VALIDATION = 512  # cells looked at in one check; more would cost time and decide nothing
_EVERY = 0.1  # seconds between two signs of life
_SAVED_SHARE = 0.05  # part of the time that may go into writing checkpoints
_LEARNING = 0.95  # part of the whole job


def train(
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    groups: NDArray[Any],
    params: VaeParameters | None = None,
    *,
    conditions: NDArray[np.int64] | None = None,
    condition_names: tuple[str, ...] = (),
    ids: NDArray[np.int64] | None = None,
    start: VaeModel | None = None,
    checkpoint: Path | None = None,
) -> Job[Embedding]:
    """Learn an embedding of patches; yields `VaeProgress` payloads.

    Parameters
    ----------
    images
        ``(N, P, P)`` or ``(N, C, P, P)`` float32 in 0..1.
    masks
        ``(N, P, P)`` bool, the cells; they matter only where ``params.background`` is below 1.
    groups
        ``(N,)`` image of each cell. Whole images are held back.
    params
        Kind of network, size, steps, seed.
    conditions, condition_names
        ``(N,)`` number of each cell's condition (negative: unknown) and their names. They reach the decoder of
        the conditional models and nothing else.
    ids
        ``(N,)`` ids for the preview of the map; row numbers if not given.
    start
        A trained model to go on from, see ``params.refine``.
    checkpoint
        File that holds the best network and all that is needed to go on while the job runs; it is removed at
        the end. If it holds exactly this training, the job goes on from there.

    Raises
    ------
    UserError
        Fewer than 8 cells, pixels that are not numbers in 0..1 or all alike, a conditional model without
        conditions, a ``start`` that does not fit, or a loss that is not a number before any usable network
        was found.
    """
    params = params or VaeParameters()
    notes = check(images, masks, groups, params, conditions, condition_names)
    yield Progress(0.0, f"learning from {len(images)} cells")
    validation, split, more = split_by_group(groups, params.holdout, params.seed)
    with few_threads(), kept_memory():
        material = prepare(images, masks, validation, params, conditions, condition_names, ids)
        run = Run(material, params, start, checkpoint, split)
        yield from run.fit()
        model = run.model()
        latent, error = yield from scaled(describing(model, images, masks, conditions), _LEARNING, 1.0)
    if checkpoint is not None:
        forget([checkpoint])
    return Embedding(
        latent=latent,
        error=error,
        validation=validation,
        history=tuple(run.state.history),
        model=model,
        split=split,
        precision=model.card["precision"],
        seconds=run.state.seconds,
        notes=(*notes, *more, *run.state.notes),
        active_units=active_units(latent),
    )


def keep(
    checkpoint: Path,
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    *,
    conditions: NDArray[np.int64] | None = None,
    ids: NDArray[np.int64] | None = None,
) -> Job[Embedding]:
    """The embedding by the best network of a training that was cancelled or died.

    Cells may have been added, rejected or edited since: ``ids`` tell which were held back.

    Raises
    ------
    UserError
        If there is nothing at ``checkpoint``.
    """
    kept = states.best_so_far(checkpoint)
    if kept is None:
        raise UserError("embedding: nothing was learned yet when the training stopped; start it again")
    model, card = kept.model, kept.model.card
    with few_threads():
        latent, error = yield from describing(model, images, masks, conditions)
    step, steps = card["best_step"], model.params.steps
    return Embedding(
        latent=latent,
        error=error,
        validation=np.isin(np.arange(len(images)) if ids is None else ids, kept.held),
        history=kept.history,
        model=model,
        split=card["split"],
        precision=card["precision"],
        seconds=card["seconds"],
        notes=(f"training was stopped early; the network of step {step} of {steps} is kept",),
        active_units=active_units(latent),
    )


class Run:
    """One training: the network, the cells, and how far it has come."""

    def __init__(
        self,
        material: Material,
        params: VaeParameters,
        start: VaeModel | None = None,
        checkpoint: Path | None = None,
        split: str = "",
    ) -> None:
        import torch

        self.split = split
        self.params, self.material, self.checkpoint, self.start = params, material, checkpoint, start
        self.bfloat16 = params.precision == "bfloat16" or (params.precision == "auto" and bfloat16_is_faster())
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(params.seed)
            self.network = build(params, material.images.shape[-1], material.images.shape[1], len(material.names))
        if start is not None:
            adopt(start, self.network, params, material.names)
        self.frozen = start is not None and params.refine == "frozen encoder"
        if self.bfloat16:
            self.network.modules.to(memory_format=torch.channels_last)
        if self.frozen:
            for part in ENCODER:
                self.network.modules[part].requires_grad_(False)
        learned = [weight for weight in self.network.modules.parameters() if weight.requires_grad]
        self.optimiser: Any = torch.optim.Adam(learned, lr=params.learning_rate, fused=True)
        self.batches = Batches(np.flatnonzero(~material.validation), params.batch, params.seed)
        order = np.random.default_rng(params.seed).permutation(np.flatnonzero(material.validation))
        self.checked = torch.from_numpy(order[:_MOST_VALIDATION])
        self.previews = Previews(material.ids, params.seed)
        base = "" if start is None else fingerprint(*start.weights.values())
        self.name = fingerprint(material.fingerprint, params.hash, base, str(self.bfloat16))
        found = states.resume(checkpoint, self.name, self.network, self.optimiser) if checkpoint else None
        self.state = found or State(best=self.network.numbers())
        self.resumed_at = self.state.step
        self.saved, self.write_seconds = -math.inf, 0.0

    def fit(self) -> Job[None]:
        """Train; afterwards ``state.best`` holds the weights of the lowest validation loss."""
        params, state = self.params, self.state
        check_every = max(1, math.ceil(params.steps / _CHECKS))
        earlier, begun, last = state.seconds, time.perf_counter(), -math.inf
        if self.start is not None and not state.history:
            yield self._progress(self._look(begun))
        looked = time.perf_counter()
        seen = state.history[-1] if state.history else VaeProgress(0, params.steps, math.nan, math.nan, math.nan)
        for step in range(state.step + 1, params.steps + 1):
            if state.waited >= params.patience:
                state.notes.append(f"stopped at step {state.step} of {params.steps}: no more improvement")
                break
            warm = min(1.0, step / max(1.0, params.warmup * params.steps))
            self.optimiser.param_groups[0]["lr"] = params.learning_rate * _decay(step / params.steps)
            losses = self.step(step, params.beta * warm)
            if not math.isfinite(losses[0]):
                self._diverged(step)
                break
            state.step, state.seconds = step, earlier + time.perf_counter() - begun
            seen = replace(seen, step=step, total=losses[0], reconstruction=losses[1], kl=losses[2], preview=None)
            if step % check_every == 0 or step == params.steps:
                seen = self._look(looked, seen, waiting=warm == 1)
                looked = time.perf_counter()
                if not math.isfinite(seen.validation):
                    self._diverged(step)
                    break
            if seen.preview is not None or time.perf_counter() - last > _EVERY:
                last = time.perf_counter()
                yield self._progress(seen)
        self.network.assign(state.best)

    def model(self) -> VaeModel:
        """The best network so far with its card."""
        import torch

        from cell_curator import __version__

        state, material = self.state, self.material
        card = {
            "engine": "vae",
            "cells": len(material.images),
            "held back": int(material.validation.sum()),
            "split": self.split,
            "data": material.fingerprint,
            "weights": fingerprint(*state.best.values()),
            "started from": None if self.start is None else fingerprint(*self.start.weights.values()),
            "parameters": self.params.model_dump(mode="json"),
            "precision": "bfloat16" if self.bfloat16 else "float32",
            "threads": torch.get_num_threads(),
            "versions": {"cell-curator": __version__, "torch": str(torch.__version__), "numpy": np.__version__},
            "steps": state.step,
            "best_step": state.best_step,
            "validation loss": state.lowest if math.isfinite(state.lowest) else None,
            "seconds": round(state.seconds, 1),
            "resumed at step": self.resumed_at or None,
        }
        return VaeModel(self.params, self.network.size, self.network.channels, material.names, state.best, card)

    def step(self, step: int, beta: float) -> tuple[float, float, float]:
        """One batch forward and back: total, reconstruction, KL.

        A loss that is not a number leaves the weights alone.
        """
        import torch

        random = torch.Generator().manual_seed((1_000_003 * self.params.seed + step) % 2**62)
        self._teach()
        self.optimiser.zero_grad(set_to_none=True)
        rows = torch.from_numpy(self.batches[step - 1])
        images, weights = self.material.images[rows], self.material.weights(rows)
        images, weights = turned_and_flipped(images, weights, self.params, random)
        shown = jittered(images, self.params.jitter, random) if self.params.jitter else None
        terms = self._loss(images, weights, rows, beta, random, shown)
        values = tuple(float(term.detach()) for term in (terms.total, terms.reconstruction, terms.kl))
        if math.isfinite(values[0]):
            terms.total.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        return values[0], values[1], values[2]

    def _teach(self) -> None:
        """Training mode; a frozen encoder keeps also the averages it normalises by."""
        self.network.modules.train()
        if self.frozen:
            for part in ENCODER:
                self.network.modules[part].eval()

    def _loss(
        self, images: Tensor, weights: Tensor, rows: Tensor, beta: float, random: Generator, shown: Tensor | None = None
    ) -> VaeLoss:
        import torch

        noise = torch.randn((len(images), self.params.latent), generator=random)
        known = self.material.entropy
        with quick_arithmetic(self.bfloat16):
            return loss(
                self.network,
                images,
                weights,
                self.params,
                beta=beta,
                noise=noise,
                conditions=self.material.told(rows),
                shown=shown,
                entropy=None if known is None else known[rows],
            )

    def _look(self, since: float, seen: VaeProgress | None = None, *, waiting: bool = False) -> VaeProgress:
        """Check the network on the cells held back, keep it if it is the best, draw the map, write it all down."""
        state, begun = self.state, time.perf_counter()
        terms = self._validate()
        per_cell = (time.perf_counter() - begun) / len(self.checked)
        seen = replace(seen or VaeProgress(0, self.params.steps, *terms), validation=terms[0])
        if not math.isfinite(terms[0]):
            return seen
        better = terms[0] < state.lowest
        state.waited = 0 if better else state.waited + waiting
        if better:
            state.lowest, state.best_step, state.best = terms[0], seen.step, self.network.numbers()
        preview, active = self._preview(begun - since, per_cell)
        seen = replace(seen, active=active)
        state.history.append(seen)
        self._save()
        return replace(seen, preview=preview)

    def _validate(self) -> tuple[float, float, float]:
        """Losses of cells held back, with the full β and always the same noise, unturned."""
        import torch

        self.network.modules.eval()
        noise = torch.Generator().manual_seed(self.params.seed)
        total = np.zeros(3)
        with torch.no_grad():
            for rows in self.checked.split(BATCH):
                weights = self.material.weights(rows)
                terms = self._loss(self.material.images[rows], weights, rows, self.params.beta, noise)
                total += [float(term) * len(rows) for term in (terms.total, terms.reconstruction, terms.kl)]
        means = total / len(self.checked)
        return float(means[0]), float(means[1]), float(means[2])

    def _preview(self, seconds: float, per_cell: float) -> tuple[MapPreview, int]:
        """The map of some cells, and how many latent units are alive."""
        import torch

        rows = self.previews.rows(seconds, per_cell)
        parts = []
        with torch.no_grad(), quick_arithmetic(self.bfloat16):
            for chosen in torch.from_numpy(rows).split(BATCH):
                parts.append(self.network.posterior(self.material.images[chosen])[0].numpy())
        latent = np.concatenate(parts)
        # How many cells there is time for depends on the clock; the count of live units must not.
        return self.previews.draw(rows, latent), active_units(latent[: self.previews.always])

    def _save(self) -> None:
        """Write the checkpoint, if the last one is long enough ago."""
        now = time.perf_counter()
        if self.checkpoint is None or now - self.saved < self.write_seconds / _SAVED_SHARE:
            return
        held = self.material.ids[self.material.validation]
        states.save(self.checkpoint, self.name, self.state, self.model(), held, self.network, self.optimiser)
        self.saved = time.perf_counter()
        self.write_seconds = self.saved - now

    def _diverged(self, step: int) -> None:
        rate = f"the learning rate (now {self.params.learning_rate:g})"
        what = f"the loss stopped being a number at step {step}"
        if not math.isfinite(self.state.lowest):
            raise UserError(f"embedding: {what}; lower {rate} and start again")
        self.state.notes.append(f"{what}; the network of step {self.state.best_step} is kept. Lower {rate}")

    def _progress(self, seen: VaeProgress) -> Progress:
        message = f"learning, step {seen.step} of {seen.steps}"
        return Progress(_LEARNING * seen.step / seen.steps, message, seen)


def _decay(done: float) -> float:
    """Full learning rate for six tenths of the training, then down to a fiftieth: calms the last checks."""
    return max(0.02, min(1.0, (1 - done) / 0.4))
