"""Going on from a trained model: what fits, and what it is worth against starting afresh."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.engines.vae.model import VaeModel
from cell_curator.engines.vae.network import Network
from cell_curator.engines.vae.parameters import VaeParameters
from cell_curator.engines.vae.progress import Embedding

_SHAPE = {"model": "Model", "latent": "Features", "width": "Width", "loss": "Likeness"}
"""Parameters that two networks must share to share weights."""


def adopt(start: VaeModel, network: Network, params: VaeParameters, names: tuple[str, ...]) -> None:
    """Put the weights of ``start`` into ``network``; conditions are matched by name, new ones begin in the middle.

    Raises
    ------
    UserError
        It is for other patches, or another network.
    """
    here, there = (network.size, network.channels), (start.size, start.channels)
    if here != there:
        raise UserError(
            f"embedding: the model to go on from is for patches of {there[0]} px and {there[1]} channel(s), these are "
            f"of {here[0]} px and {here[1]}; cut the patches like that or start afresh"
        )
    shape = {**_SHAPE, "alpha": "α"} if params.model == "cvae-mixed" else _SHAPE
    for name, title in shape.items():
        old, new = getattr(start.params, name), getattr(params, name)
        if old != new:
            raise UserError(
                f"embedding: the model to go on from was learned with {title} = {old}, here it is {new}; set it to "
                f"{old} or start afresh"
            )
    weights = dict(start.weights)
    if names:
        weights["condition.weight"] = _rows(weights["condition.weight"], start.conditions, names)
    network.assign(weights)


def _rows(table: NDArray[np.float32], old: tuple[str, ...], new: tuple[str, ...]) -> NDArray[np.float32]:
    """Descriptions of the conditions ``new``, known ones as they were."""
    middle = table.mean(axis=0)
    return np.stack([table[old.index(name)] if name in old else middle for name in new])


def steps_saved(refined: Embedding, afresh: Embedding) -> tuple[float, int | None]:
    """What going on from a model gained against starting afresh on the same cells.

    Returns
    -------
    difference
        Lowest validation loss afresh less that of the refined one, nats per cell; positive: refining is better.
    step
        The step at which the refined one was first as good as the other ever became; None: never.
    """
    best = min(one.validation for one in afresh.history)
    step = next((one.step for one in refined.history if one.validation <= best), None)
    return best - min(one.validation for one in refined.history), step
