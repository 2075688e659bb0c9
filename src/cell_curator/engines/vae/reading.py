"""Questions to a trained network: what a feature means, and what a cell would look like otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.engines.vae.model import VaeModel, decode, encode
from cell_curator.engines.vae.network import architecture


def traversal(
    model: VaeModel,
    latent: NDArray[np.floating[Any]],
    steps: int = 7,
    spread: float = 2.0,
    condition: int | None = None,
) -> NDArray[np.float32]:
    """Pictures ``(D, steps, [C,] P, P)`` of one cell ``(D,)`` with one feature after the other changed.

    Parameters
    ----------
    latent
        Where to start, e.g. the centre of a cluster.
    steps
        Pictures of each feature, evenly from ``-spread`` to ``+spread`` around it.
    spread
        In units of the latent, where cells as a whole have a spread of about 1.
    condition
        Number of the condition to paint, for a conditional model.
    """
    middle = np.asarray(latent, np.float32)
    moved = np.tile(middle, (len(middle), steps, 1))
    offsets = np.linspace(-spread, spread, steps, dtype=np.float32)
    for unit in range(len(middle)):
        moved[unit, :, unit] += offsets
    pictures = decode(model, moved.reshape(-1, len(middle)), condition)
    return pictures.reshape(len(middle), steps, *pictures.shape[1:])


def counterfactual(
    model: VaeModel, images: NDArray[np.float32], masks: NDArray[np.bool_], condition_to: int
) -> NDArray[np.float32]:
    """The same cells as the network would paint them under another condition, in the shape of ``images``.

    ``masks`` ``(N, P, P)`` mark the cells; where the background was not learned (weight 0) it is left black.

    Raises
    ------
    UserError
        If the model is told of no conditions.
    """
    if not architecture(model.params.model).CONDITIONED:
        raise UserError(
            f"the embedding was learned by the model {model.params.model}, which knows no conditions; compute it with "
            "cvae or cvae-mixed to paint cells under another condition"
        )
    made = decode(model, encode(model, images), condition_to).reshape(images.shape)
    if model.params.background > 0:
        return made
    inside = masks if images.ndim == 3 else masks[:, None]
    return np.where(inside, made, np.float32(0))
