"""Weights and checkpoints of a training on disk: whole or not at all, and read without running code.

A checkpoint holds the network, the optimiser and the `Ledger` of one training, which its fingerprint
names. Random numbers need no place in it: every pass draws from a seed of its own.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from cell_curator.core.jobs import UserError
from cell_curator.io.atomic import write_atomic

EVERY = 30.0
"""Seconds of work that a crash costs at most."""

SHARE = 0.05
"""Part of the time that may go into writing checkpoints, which are rarer where that takes long."""


@dataclass
class Ledger:
    """How far a training has come.

    Parameters
    ----------
    epoch
        Passes that ended.
    step
        Steps done in all.
    within
        Steps done of the pass that is running.
    loss_sum, tiles
        Over the pass that is running.
    seconds
        Spent so far.
    curve
        ``[epoch, loss, hold-out loss or None]`` of the passes that ended.
    holdout_before
        Hold-out loss of the base.
    best_epoch, best_loss
        What is kept; 0: nothing yet.
    waited
        Looks since the best.
    """

    epoch: int = 0
    step: int = 0
    within: int = 0
    loss_sum: float = 0.0
    tiles: int = 0
    seconds: float = 0.0
    curve: list[list[Any]] = field(default_factory=list)
    holdout_before: float | None = None
    best_epoch: int = 0
    best_loss: float | None = None
    waited: int = 0


def save_weights(module: Any, path: Path) -> None:
    """Write the weights as stock Cellpose does: float32, so that what was judged is what is kept."""
    import torch

    state = {
        name: (value.float() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in module.state_dict().items()
    }
    _save(state, path, torch)


def _save(content: dict[str, Any], path: Path, torch: Any) -> None:
    # By way of memory: a full disk is then the file's error, which has a remedy, and not torch's.
    made = io.BytesIO()
    torch.save(content, made)
    write_atomic(path, lambda file: file.write(made.getbuffer()))


def load_checkpoint(path: Path, fingerprint: str, module: Any, optimiser: Any) -> Ledger | None:
    """Go on from the checkpoint at ``path``; None, and nothing changed, if there is none of this training."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign pickle, which is refused right after
            content = torch.load(path, map_location="cpu", weights_only=True)
        if content["fingerprint"] != fingerprint or set(content["ledger"]) != {f.name for f in fields(Ledger)}:
            return None
        weights, moments = content["weights"], content["optimiser"]
    except (OSError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError):
        return None
    module.load_state_dict(weights)
    optimiser.load_state_dict(moments)
    return Ledger(**content["ledger"])


@dataclass
class Keeper:
    """Writes what one training is to keep, and says in words why it cannot go on.

    Parameters
    ----------
    path
        Of the checkpoint, which holds all that is needed to go on exactly.
    rate
        The learning rate that was asked for.
    unit
        What ``ledger.best_epoch`` counts.
    """

    path: Path
    fingerprint: str
    module: Any
    optimiser: Any
    ledger: Ledger
    rate: float
    unit: str = "pass"
    _saved: float = field(default_factory=time.perf_counter)
    _seconds: float = 0.0

    def save(self) -> None:
        """Write a checkpoint if the last one is long ago."""
        now = time.perf_counter()
        if now - self._saved < max(EVERY, self._seconds / SHARE):
            return
        self.write(self._write_checkpoint)
        self._saved = time.perf_counter()
        self._seconds = self._saved - now

    def write(self, write: Callable[[], object]) -> None:
        """Write something; a disk that is full ends the training in words."""
        try:
            write()
        except UserError as error:
            best = self.ledger.best_epoch
            kept = f"; the network of {self.unit} {best} is kept" if best else ""
            raise UserError(f"training stopped, since it could not be saved: {error}{kept}") from error

    def diverged(self, what: str) -> str:
        """What to note of a training that can learn no more.

        Raises
        ------
        UserError
            Nothing is worth keeping yet.
        """
        remedy = f"lower the learning rate (now {self.rate:g})"
        why, best = f"{what} stopped being a number at step {self.ledger.step + 1}", self.ledger.best_epoch
        if not best:
            raise UserError(f"training: {why}; {remedy} and train again")
        return f"{why}; the network of {self.unit} {best} is kept; {remedy}"

    def _write_checkpoint(self) -> None:
        import torch

        content = {
            "fingerprint": self.fingerprint,
            "weights": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "ledger": asdict(self.ledger),
        }
        _save(content, self.path, torch)


def forget(paths: Iterable[Path]) -> None:
    """Delete files of a training that are no longer of use."""
    for path in paths:
        with suppress(OSError):
            path.unlink()
