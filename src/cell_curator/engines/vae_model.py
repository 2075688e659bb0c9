"""A trained autoencoder as plain numbers: encode cells, show reconstructions, save, load.

Knows nothing of training. No file is ever unpickled: a model is read as plain tensors only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.engines.vae import VaeParameters, build, decode, posterior
from cell_curator.io.atomic import atomic_file

if TYPE_CHECKING:
    from torch.nn import ModuleDict

BATCH = 256
"""Cells encoded at once."""

_KIND = "cell-curator vae"


@dataclass(frozen=True)
class VaeModel:
    """A trained network as plain numbers: picklable, comparable, free of torch.

    Attributes
    ----------
    params
        What it was trained with.
    size
        Edge of the patches it takes, px.
    weights
        Name of each tensor → float32 array.
    """

    params: VaeParameters
    size: int
    weights: dict[str, NDArray[Any]] = field(repr=False)


def encode(model: VaeModel, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Posterior means (N, D) float32 of patches (N, P, P), new ones included."""
    network = _load(model)
    if images.ndim != 3 or images.shape[1:] != (model.size, model.size):
        raise UserError(
            f"patches of {images.shape[1:]} px do not fit the embedding, which was learned on {model.size} px; "
            "cut the patches at that size or compute the embedding again"
        )
    parts = [mean for mean, _ in in_batches(network, images)]
    return np.concatenate(parts) if parts else np.zeros((0, model.params.latent), np.float32)


def reconstruct(model: VaeModel, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the network makes of patches: (N, P, P) float32 in 0..1."""
    parts = [logits for _, logits in in_batches(_load(model), images)]
    logits = np.concatenate(parts) if parts else np.zeros(images.shape, np.float32)
    return np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32)


def save_model(model: VaeModel, path: Path | str) -> None:
    """Write the model to one file of plain tensors and numbers, whole or not at all."""
    import torch

    content = {
        "kind": _KIND,
        "params": model.params.model_dump(),
        "size": model.size,
        "weights": {name: torch.from_numpy(np.array(value)) for name, value in model.weights.items()},
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
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
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["kind"] != _KIND:
            raise KeyError("kind")
        weights = {name: value.numpy() for name, value in content["weights"].items()}
        model = VaeModel(VaeParameters(**content["params"]), int(content["size"]), weights)
        _load(model)
    except (
        UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError,
    ) as error:  # fmt: skip
        raise UserError(f"{path}: not an embedding model, or damaged; {remedy}") from error
    return model


def in_batches(network: ModuleDict, images: NDArray[Any]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Posterior mean and logits of batch after batch, in float32."""
    import torch

    network.eval()
    for start in range(0, len(images), BATCH):
        batch = np.ascontiguousarray(images[start : start + BATCH], np.float32)
        with torch.no_grad():
            mean, _ = posterior(network, torch.from_numpy(batch)[:, None])
            yield mean.numpy(), decode(network, mean)[:, 0].numpy()


def numbers(network: ModuleDict) -> dict[str, NDArray[Any]]:
    """A copy of all weights as arrays."""
    return {name: np.array(value.detach().numpy(), order="C") for name, value in network.state_dict().items()}


def assign(network: ModuleDict, weights: dict[str, NDArray[Any]]) -> None:
    """Put arrays from `numbers` back into a network."""
    import torch

    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})


def _load(model: VaeModel) -> ModuleDict:
    network = build(model.size, model.params.latent, model.params.width)
    assign(network, model.weights)
    network.eval()
    return network
