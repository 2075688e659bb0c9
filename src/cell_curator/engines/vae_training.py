"""Train the autoencoder of `engines.vae` on patches.

`train` is a job. What is held back is chosen by whole images *before* any flip, so that no
cell has a twin on both sides. Nothing but pixels reaches the network: no condition, no
verdict. This module draws no map and makes no clusters.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.engines.vae import VaeLoss, VaeParameters, build, loss, reconstruction_error
from cell_curator.engines.vae_model import BATCH, VaeModel, assign, in_batches, numbers

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.nn import ModuleDict

FEWEST_CELLS = 8
_CHECKS = 25  # validation happens this often in a full training
_MOST_VALIDATION = 512  # cells looked at in one check; more would cost time and decide nothing
_EVERY = 0.1  # seconds between two signs of life


@dataclass(frozen=True)
class VaeProgress:
    """Losses per cell while training, in nats. ``validation`` is NaN until the first check."""

    step: int
    steps: int
    total: float
    reconstruction: float
    kl: float
    validation: float = math.nan


@dataclass(frozen=True)
class Embedding:
    """What training hands back for N cells.

    Attributes
    ----------
    latent
        (N, D) float32 posterior means: never a sample, so the same for the same model and patch.
    error
        (N,) float32 divergence of each cell from its reconstruction, in nats; large = unlike the rest.
    validation
        (N,) bool, cells that were held back.
    history
        Losses at each check, in order.
    model
        The best network by validation loss.
    split
        How the cells were divided, in words.
    precision
        ``"float32"`` or ``"bfloat16"``, as used in training.
    notes
        What the user should know, one sentence each.
    """

    latent: NDArray[np.float32]
    error: NDArray[np.float32]
    validation: NDArray[np.bool_]
    history: tuple[VaeProgress, ...]
    model: VaeModel
    split: str
    precision: str
    seconds: float
    notes: tuple[str, ...] = ()


def train(
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    groups: NDArray[Any],
    params: VaeParameters | None = None,
) -> Job[Embedding]:
    """Learn an embedding of patches; yields `VaeProgress` payloads.

    Parameters
    ----------
    images
        (N, P, P) float32 in 0..1.
    masks
        (N, P, P) bool, the cells; they matter only where ``params.background`` is below 1.
    groups
        (N,) image of each cell. Whole images are held back.
    params
        Size, steps, seed.

    Raises
    ------
    UserError
        Fewer than 8 cells, pixels that are not numbers in 0..1, or a loss that is not a number
        before any usable network was found.
    """
    params = params or VaeParameters()
    _check(images, masks, groups)
    start = time.perf_counter()
    yield Progress(0.0, f"learning from {len(images)} cells")
    validation, split, notes = split_by_group(groups, params.holdout, params.seed)
    with _few_threads():
        run = _Run(images, masks, validation, params)
        yield from run.fit()
        model = VaeModel(params, images.shape[1], run.best)
        latent, error = yield from _describe(run.network, images, masks, params.background)
    return Embedding(
        latent=latent,
        error=error,
        validation=validation,
        history=tuple(run.history),
        model=model,
        split=split,
        precision="bfloat16" if run.bfloat16 else "float32",
        seconds=time.perf_counter() - start,
        notes=(*notes, *run.notes),
    )


def split_by_group(groups: NDArray[Any], fraction: float, seed: int) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
    """Hold whole images back until about ``fraction`` of the cells are.

    Returns
    -------
    held back (N,) bool, a description, and notes. With a single image, cells are drawn at random
    and a note says so.
    """
    rng = np.random.default_rng(seed)
    count = len(groups)
    wanted = fraction * count
    names, members = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        held = np.zeros(count, bool)
        held[rng.permutation(count)[: max(1, round(wanted))]] = True
        note = (
            "all cells come from one image, so cells were held back at random: the check is less strict than "
            "one on other images"
        )
        return held, f"{held.sum()} of {count} cells held back at random", (note,)
    sizes = np.bincount(members)
    chosen: list[int] = []
    for name in rng.permutation(len(names)):
        if sizes[chosen].sum() + sizes[name] <= 1.5 * wanted:
            chosen.append(int(name))
        if sizes[chosen].sum() >= wanted:
            break
    if not chosen:  # every image is large: take the smallest
        chosen = [int(sizes.argmin())]
    held = np.isin(members, chosen)
    return held, f"{held.sum()} of {count} cells held back: {len(chosen)} of {len(names)} images", ()


def _check(images: NDArray[Any], masks: NDArray[Any], groups: NDArray[Any]) -> None:
    if images.ndim != 3 or images.shape != masks.shape or len(images) != len(groups):
        raise ValueError(f"images {images.shape}, masks {masks.shape}, groups {groups.shape} do not belong together")
    if len(images) < FEWEST_CELLS:
        raise UserError(
            f"embedding: {len(images)} cells are too few (at least {FEWEST_CELLS}); segment more images or accept "
            "more cells"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise UserError("embedding: patches hold values outside 0..1 or not numbers; prepare the images again")


class _Run:
    """One training: the network, its data on torch's side, and the best weights so far."""

    def __init__(
        self, images: NDArray[Any], masks: NDArray[Any], validation: NDArray[np.bool_], params: VaeParameters
    ) -> None:
        import torch

        self.params = params
        self.bfloat16 = params.precision == "bfloat16" or (params.precision == "auto" and bfloat16_trains_faster())
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(params.seed)
            self.network = build(images.shape[1], params.latent, params.width)
        if self.bfloat16:
            self.network.to(memory_format=torch.channels_last)
        weights = masks.astype(np.float32) if params.background < 1 else None
        self.images = torch.from_numpy(np.ascontiguousarray(images, np.float32))[:, None]
        self.weights = None if weights is None else torch.from_numpy(weights)[:, None]
        rng = np.random.default_rng(params.seed)
        self.batches = _endless(np.flatnonzero(~validation), params.batch, rng)
        self.checked = torch.from_numpy(rng.permutation(np.flatnonzero(validation))[:_MOST_VALIDATION])
        self.random = torch.Generator().manual_seed(params.seed)
        self.best = numbers(self.network)
        self.history: list[VaeProgress] = []
        self.notes: list[str] = []

    def fit(self) -> Job[None]:
        """Train; afterwards `network` and `best` hold the weights of the lowest validation loss."""
        import torch

        params = self.params
        optimiser = torch.optim.Adam(self.network.parameters(), lr=params.learning_rate)
        check_every = max(1, math.ceil(params.steps / _CHECKS))
        lowest, bad_checks, seen, last = math.inf, 0, VaeProgress(0, params.steps, *[math.nan] * 3), 0.0
        for step in range(1, params.steps + 1):
            warm = min(1.0, step / max(1.0, params.warmup * params.steps))
            optimiser.param_groups[0]["lr"] = params.learning_rate * _decay(step / params.steps)
            losses = self._step(optimiser, params.beta * warm)
            if not math.isfinite(losses[0]):
                self._diverged(step)
                break
            seen = VaeProgress(step, params.steps, *losses, seen.validation)
            if step % check_every == 0 or step == params.steps:
                seen = replace(seen, validation=self._validate())
                self.history.append(seen)
                bad_checks = 0 if seen.validation < lowest else bad_checks + (warm == 1)
                if seen.validation < lowest:
                    lowest, self.best = seen.validation, numbers(self.network)
            if time.perf_counter() - last > _EVERY or seen in self.history[-1:]:
                last = time.perf_counter()
                yield Progress(0.95 * step / params.steps, f"learning, step {step} of {params.steps}", seen)
            if bad_checks >= params.patience:
                self.notes.append(f"stopped at step {step} of {params.steps}: no more improvement")
                break
        assign(self.network, self.best)

    def _step(self, optimiser: Any, beta: float) -> tuple[float, float, float]:
        """One batch forward and back: total, reconstruction, KL.

        A loss that is not a number leaves the weights alone.
        """
        images, weights = self._batch(next(self.batches))
        self.network.train()
        optimiser.zero_grad(set_to_none=True)
        terms = self._loss(images, weights, beta, self.random)
        values = tuple(float(term.detach()) for term in (terms.total, terms.reconstruction, terms.kl))
        if math.isfinite(values[0]):
            terms.total.backward()
            optimiser.step()
        return values[0], values[1], values[2]

    def _validate(self) -> float:
        """Loss of cells held back, with the full β and always the same noise, unflipped."""
        import torch

        self.network.eval()
        noise, total = torch.Generator().manual_seed(self.params.seed), 0.0
        with torch.no_grad():
            for chosen in self.checked.split(BATCH):
                terms = self._loss(self.images[chosen], self._weight(chosen), self.params.beta, noise)
                total += float(terms.total) * len(chosen)
        return total / len(self.checked)

    def _loss(self, images: Tensor, weights: Tensor, beta: float, random: Generator) -> VaeLoss:
        import torch

        noise = torch.randn((len(images), self.params.latent), generator=random)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            return loss(self.network, images, weights, beta, noise)

    def _batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images and weights, each cell flipped along rows and columns at random (both = 180°)."""
        import torch

        chosen = torch.from_numpy(rows)
        images, weights = self.images[chosen], self._weight(chosen)
        if self.params.augment:
            for axis in (2, 3):
                flip = (torch.rand(len(chosen), generator=self.random) < 0.5)[:, None, None, None]
                images = torch.where(flip, images.flip(axis), images)
                weights = torch.where(flip, weights.flip(axis), weights)
        return images, weights

    def _weight(self, chosen: Tensor) -> Tensor:
        import torch

        if self.weights is None:
            return torch.ones(1, 1, 1, 1)
        background = self.params.background
        return background + (1 - background) * self.weights[chosen]

    def _diverged(self, step: int) -> None:
        rate = self.params.learning_rate
        what = f"the loss stopped being a number at step {step}"
        if not self.history or not math.isfinite(min(h.validation for h in self.history)):
            raise UserError(f"embedding: {what}; lower the learning rate (now {rate:g}) and start again")
        good = min(self.history, key=lambda h: h.validation).step
        self.notes.append(f"{what}; the network of step {good} is kept. Lower the learning rate (now {rate:g})")


@contextmanager
def _few_threads() -> Iterator[None]:
    """Leave one core to the window, and use four at most.

    Layers this small gain little from threads, and threads that wait for one another on a busy
    machine lose much: with two other programs running on two cores a step of 64 patches of 64²
    took 67 ms with one thread and 511 ms with two.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(4, (os.cpu_count() or 2) - 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def bfloat16_trains_faster() -> bool:
    """Time a few training steps in float32 and in bfloat16 + channels_last (about half a second).

    Where the processor has no bfloat16 it is emulated and slower; where it has, it is far faster. A
    clear margin is asked for, so that a busy machine gives the same answer, and with it the same
    arithmetic, as an idle one.
    """
    import torch

    cells = np.zeros((32, 64, 64), np.float32)
    masks, held = np.ones_like(cells, bool), np.arange(32) < 2
    best = {}
    for name in ("float32", "bfloat16"):
        run = _Run(cells, masks, held, VaeParameters(precision=name, batch=30))
        optimiser = torch.optim.Adam(run.network.parameters())
        best[name] = math.inf
        for attempt in range(4):  # the first warms up
            start = time.perf_counter()
            run._step(optimiser, 1.0)
            if attempt:
                best[name] = min(best[name], time.perf_counter() - start)
    return 1.2 * best["bfloat16"] < best["float32"]


def _describe(
    network: ModuleDict, images: NDArray[Any], masks: NDArray[Any], background: float
) -> Job[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Posterior mean and reconstruction error of every cell, in float32."""
    import torch

    means, errors, done = [], [], 0
    for mean, logits in in_batches(network, images):
        rows = slice(done, done + len(mean))
        weights = background + (1 - background) * masks[rows, None].astype(np.float32)
        picture = np.ascontiguousarray(images[rows, None], np.float32)
        tensors = (torch.from_numpy(a) for a in (picture, logits[:, None], weights))
        means.append(mean)
        errors.append(reconstruction_error(*tensors).numpy())
        done += len(mean)
        yield Progress(0.95 + 0.05 * done / len(images), "describing every cell")
    return np.concatenate(means), np.concatenate(errors)


def _decay(done: float) -> float:
    """Full learning rate for six tenths of the training, then down to a fiftieth: calms the last checks."""
    return max(0.02, min(1.0, (1 - done) / 0.4))


def _endless(rows: NDArray[np.int64], size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Batches without end; every row comes once before any comes again."""
    size = min(size, len(rows))
    waiting = np.empty(0, np.int64)
    while True:
        if len(waiting) < size:
            waiting = np.concatenate([waiting, rng.permutation(rows)])
        yield waiting[:size]
        waiting = waiting[size:]
