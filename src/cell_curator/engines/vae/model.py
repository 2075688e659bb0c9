"""A trained autoencoder as plain numbers: encode cells, paint them, save, load.

Knows nothing of training. No file is ever unpickled: a model is read as plain tensors only.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, drive
from cell_curator.core.words import number_of
from cell_curator.engines.vae.loss import reconstruction_error
from cell_curator.engines.vae.network import Network, architecture, build
from cell_curator.engines.vae.parameters import VaeParameters
from cell_curator.io.atomic import atomic_file

BATCH = 64
"""Cells encoded at once; with 256, whose layers do not fit the processor's cache, it takes a third longer."""

_KIND = "cell-curator vae"


@dataclass(frozen=True)
class VaeModel:
    """A trained network as plain numbers: picklable, comparable, free of torch.

    Attributes
    ----------
    params
        What it was trained with.
    size, channels
        Patches it takes: ``(channels, size, size)`` px.
    conditions
        Names of the conditions it was told of, in the order of their numbers; empty: of none.
    weights
        Name of each tensor → float32 array.
    card
        What is known of its training: data, split, seed, versions, losses.
    """

    params: VaeParameters
    size: int
    channels: int
    conditions: tuple[str, ...]
    weights: dict[str, NDArray[Any]] = field(repr=False)
    card: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def check(self, images: NDArray[Any]) -> None:
        """Raise `UserError` if patches are not of this model's size and channels."""
        channels, size = (1 if images.ndim == 3 else images.shape[1]), images.shape[-1]
        if images.ndim not in (3, 4) or (channels, *images.shape[-2:]) != (self.channels, self.size, self.size):
            raise UserError(
                f"patches of {size} px and {number_of(channels, 'channel')} do not fit the embedding, which was "
                f"learned on {self.size} px and {number_of(self.channels, 'channel')}; cut the patches like that or "
                "compute the embedding again"
            )

    def network(self) -> Network:
        """The network, ready to be asked: in float32, with channels last, which is twice as fast and the same."""
        import torch

        network = build(self.params, self.size, self.channels, len(self.conditions))
        network.assign(self.weights)
        network.modules.eval().to(memory_format=torch.channels_last)
        return network

    def numbers_of(self, conditions: NDArray[np.integer[Any]] | int | None, count: int) -> NDArray[np.int64] | None:
        """``conditions`` as ``(N,)`` numbers, or None if this network is told of none.

        Raises
        ------
        UserError
            A number that the network does not know.
        """
        if conditions is None or not architecture(self.params.model).CONDITIONED:
            return None
        numbers = np.broadcast_to(np.asarray(conditions, dtype=np.int64), (count,))
        if len(numbers) and numbers.max() >= len(self.conditions):
            raise UserError(
                f"condition number {numbers.max()} is unknown to the embedding, which was learned with "
                f"{', '.join(self.conditions)}; compute the embedding again"
            )
        return numbers


def encode(model: VaeModel, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Posterior means ``(N, D)`` float32 of patches ``(N, P, P)`` or ``(N, C, P, P)``, new ones included."""
    import torch

    model.check(images)
    network = model.network()
    parts = []
    with torch.no_grad():
        for batch in batches(images):
            parts.append(network.posterior(batch)[0].numpy())
    return np.concatenate(parts) if parts else np.zeros((0, model.params.latent), np.float32)


def describe(
    model: VaeModel,
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    conditions: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Posterior mean ``(N, D)``, into which no condition enters, and reconstruction error ``(N,)`` of every cell."""
    return drive(describing(model, images, masks, conditions))


def describing(
    model: VaeModel,
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    conditions: NDArray[np.int64] | None = None,
) -> Job[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """`describe` as a job."""
    import torch

    model.check(images)
    network, told = model.network(), model.numbers_of(conditions, len(images))
    background = model.params.background
    means = np.zeros((len(images), model.params.latent), np.float32)
    errors = np.zeros(len(images), np.float32)
    done = 0
    for batch in batches(images):
        rows = slice(done, done + len(batch))
        weights = torch.from_numpy(background + (1 - background) * masks[rows, None].astype(np.float32))
        with torch.no_grad():
            mean, _ = network.posterior(batch)
            logits = network.decode(mean, None if told is None else torch.from_numpy(told[rows].copy()))
            error = reconstruction_error(network, batch, logits, weights, model.params.loss)
        means[rows], errors[rows] = mean.numpy(), error.numpy()
        done += len(batch)
        yield Progress(done / len(images), "describing every cell")
    return means, errors


def decode(
    model: VaeModel, latent: NDArray[np.floating[Any]], conditions: NDArray[np.integer[Any]] | int | None = None
) -> NDArray[np.float32]:
    """Pictures ``(N, P, P)``, or ``(N, C, P, P)`` of several channels, in 0..1 that the network paints of ``(N, D)``.

    ``conditions``: ``(N,)`` numbers, one for all, or None for a mean of all conditions.
    """
    import torch

    network, told = model.network(), model.numbers_of(conditions, len(latent))
    values = np.ascontiguousarray(latent, np.float32)
    made = np.zeros((len(values), model.channels, model.size, model.size), np.float32)
    with torch.no_grad():
        for start in range(0, len(values), BATCH):
            rows = slice(start, start + BATCH)
            numbers = None if told is None else torch.from_numpy(told[rows].copy())
            made[rows] = network.decode(torch.from_numpy(values[rows]), numbers).sigmoid().numpy()
    return made[:, 0] if model.channels == 1 else made


def reconstruct(
    model: VaeModel, images: NDArray[np.float32], conditions: NDArray[np.int64] | None = None
) -> NDArray[np.float32]:
    """What the network makes of patches: like `decode` of `encode`, in the shape of ``images``."""
    return decode(model, encode(model, images), conditions).reshape(images.shape)


def save_model(model: VaeModel, path: Path | str) -> None:
    """Write the model to one file of plain tensors and numbers, whole or not at all."""
    import torch

    buffer = io.BytesIO()
    torch.save(plain(model), buffer)
    with atomic_file(path) as file:
        file.write(buffer.getvalue())


def load_model(path: Path | str) -> VaeModel:
    """Read a model written by `save_model`; runs no code from the file.

    Raises
    ------
    UserError
        If there is no such file, or it is not such a model.
    """
    import torch

    remedy = "choose an embedding made by Cell Curator or compute it again"
    if not Path(path).is_file():
        raise UserError(f"{path}: there is no such file; {remedy}")
    try:
        model = from_plain(torch.load(path, map_location="cpu", weights_only=True))
        model.network()
    except (
        UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: not an embedding model, or damaged; {remedy}") from error
    return model


def plain(model: VaeModel) -> dict[str, Any]:
    """The model as tensors, numbers and words."""
    import torch

    return {
        "kind": _KIND,
        "params": model.params.model_dump(),
        "size": model.size,
        "channels": model.channels,
        "conditions": list(model.conditions),
        "weights": {name: torch.from_numpy(np.array(value)) for name, value in model.weights.items()},
        "card": json.dumps(model.card),
    }


def from_plain(content: dict[str, Any]) -> VaeModel:
    """The model of what `plain` made.

    Raises
    ------
    KeyError, TypeError, ValueError
        It is something else.
    """
    if content["kind"] != _KIND:
        raise KeyError("kind")
    return VaeModel(
        VaeParameters(**content["params"]),
        int(content["size"]),
        int(content["channels"]),
        tuple(content["conditions"]),
        _without_idle_biases({name: value.numpy() for name, value in content["weights"].items()}),
        json.loads(content["card"]),
    )


def _without_idle_biases(weights: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Weights of networks learned before the painter lost the biases that the next layer takes out again.

    Each is taken from the mean by which that layer normalises, so that the network paints the same.
    """
    kept = dict(weights)
    for name in weights:
        found = re.fullmatch(r"decoder\.(\d+)\.bias", name)
        follower = f"decoder.{int(found[1]) + 1}.running_mean" if found else ""
        if follower in weights and weights[name.replace("bias", "weight")].ndim == 4:
            kept[follower] = weights[follower] - kept.pop(name)
    return kept


def batches(images: NDArray[Any]) -> Iterator[Any]:
    """Tensors ``(n, C, P, P)`` of patches ``(N, P, P)`` or ``(N, C, P, P)``."""
    import torch

    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + BATCH], np.float32))
        yield batch[:, None] if batch.ndim == 3 else batch
