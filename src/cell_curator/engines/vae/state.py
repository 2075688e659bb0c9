"""The state of a training on disk: enough to go on exactly, and the best network so far at any moment.

Written whole or not at all, read without running code. Random numbers need no place in it: every step draws
from a seed of its own.
"""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.engines.vae.model import VaeModel, from_plain, plain
from cell_curator.engines.vae.network import Network
from cell_curator.engines.vae.progress import VaeProgress
from cell_curator.io.atomic import atomic_file

_UNREADABLE = (OSError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError)


@dataclass
class State:
    """How far a training has come.

    Parameters
    ----------
    step
        Steps done.
    lowest
        Lowest validation loss.
    best_step
        When it was; 0: nothing learned is worth keeping yet.
    best
        The weights of it.
    waited
        Checks since then.
    seconds
        Spent so far.
    history, notes
        As in `Embedding`.
    """

    best: dict[str, NDArray[Any]]
    step: int = 0
    lowest: float = math.inf
    best_step: int = 0
    waited: int = 0
    seconds: float = 0.0
    history: list[VaeProgress] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def save(
    path: Path,
    fingerprint: str,
    state: State,
    best: VaeModel,
    held: NDArray[np.int64],
    network: Network,
    optimiser: Any,
) -> None:
    """Write all that is needed to go on, and the best network as a model with the ids of the cells held back.

    Raises
    ------
    UserError
        The disk is full, or the place is not allowed.
    """
    import torch

    content = {
        "fingerprint": fingerprint,
        "best": plain(best),
        "held": torch.from_numpy(held.copy()),
        "weights": network.modules.state_dict(),
        "optimiser": optimiser.state_dict(),
        "numbers": {name: getattr(state, name) for name in ("step", "lowest", "best_step", "waited", "seconds")},
        "history": [{k: v for k, v in asdict(one).items() if k != "preview"} for one in state.history],
        "notes": state.notes,
    }
    made = io.BytesIO()
    torch.save(content, made)
    with atomic_file(path) as file:
        file.write(made.getbuffer())


def resume(path: Path, fingerprint: str, network: Network, optimiser: Any) -> State | None:
    """Go on from ``path``; None, and nothing changed, if there is nothing of exactly this training."""
    content = _read(path)
    if content is None or content["fingerprint"] != fingerprint:
        return None
    try:
        state = State(
            best=from_plain(content["best"]).weights,
            **content["numbers"],
            history=[VaeProgress(**one) for one in content["history"]],
            notes=list(content["notes"]),
        )
        network.modules.load_state_dict(content["weights"])
        optimiser.load_state_dict(content["optimiser"])
    except _UNREADABLE:
        return None
    return state


@dataclass(frozen=True)
class Kept:
    """What a training that was cancelled or died has left: the best network, the losses on the way, ids held back."""

    model: VaeModel
    history: tuple[VaeProgress, ...]
    held: NDArray[np.int64]


def best_so_far(path: Path) -> Kept | None:
    """What there is at ``path``, if anything."""
    content = _read(path)
    if content is None:
        return None
    try:
        history = tuple(VaeProgress(**one) for one in content["history"])
        return Kept(from_plain(content["best"]), history, content["held"].numpy())
    except _UNREADABLE:
        return None


def _read(path: Path) -> dict[str, Any] | None:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign pickle, which is refused right after
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE:
        return None
    known = {"fingerprint", "best", "held", "weights", "optimiser", "numbers", "history", "notes"}
    return content if isinstance(content, dict) and set(content) == known else None


def fingerprint(*parts: NDArray[Any] | str) -> str:
    """A name for arrays and words that changes whenever any of them does."""
    import hashlib

    made = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, str):
            made.update(part.encode())
        else:
            made.update(f"{part.dtype.str}{part.shape}".encode())
            made.update(np.ascontiguousarray(part).data)
    return made.hexdigest()
