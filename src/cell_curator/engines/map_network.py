"""What else the worker does for the map: keeping its network, judging it, and how many groups it has.

Kept out of the viewer because of torch, or because it takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.cluster_count import KSuggestion, suggesting_k
from cell_curator.core.clustering import ClusterParameters, space_points
from cell_curator.core.doubts import BatchEffect, DeadUnits, Stability, batch_effect, cluster_stability, dead_units
from cell_curator.core.honesty import HonestyRow, honesty_rows
from cell_curator.core.jobs import Job, Progress, scaled
from cell_curator.engines.vae.model import VaeModel, load_model, save_model


def write_network(model: VaeModel, path: Path) -> Job[None]:
    """`engines.vae.model.save_model` as a job."""
    yield Progress(0.0, "keeping the network")
    save_model(model, path)


def read_network(path: Path) -> Job[VaeModel]:
    """`engines.vae.model.load_model` as a job."""
    yield Progress(0.0, "reading the network")
    return load_model(path)


def suggest(latent: NDArray[np.float32], map2d: NDArray[np.float32], parameters: ClusterParameters) -> Job[KSuggestion]:
    """How many groups there are in the space that ``parameters`` names."""
    yield Progress(0.0, "looking for groups")
    points, _ = space_points(latent, map2d, parameters)
    return (yield from scaled(suggesting_k(points, parameters), 0.1, 1.0))


@dataclass(frozen=True)
class Judged:
    """What speaks for and against a map and its clusters."""

    batch: BatchEffect
    stability: Stability
    dead: DeadUnits
    honesty: tuple[HonestyRow, ...]


def judge(
    latent: NDArray[np.float32],
    map2d: NDArray[np.float32],
    clusters: NDArray[np.int64],
    parameters: ClusterParameters,
    *,
    space: str,
    scores: dict[str, float | None],
    names: dict[int, str],
    conditions: list[str],
    units: NDArray[np.int64],
    unit: str,
    held_back: NDArray[np.bool_],
    conditional: bool,
) -> Job[Judged]:
    """Ask everything of `core.doubts` and `core.honesty`; arguments as there, all for the same N cells."""
    yield Progress(0.0, "looking for batch effects")
    batch = batch_effect(latent, conditions, units, parameters.seed, unit)
    yield Progress(0.2, "do the clusters come back?")
    points: NDArray[Any]
    points, _ = space_points(latent, map2d, parameters)
    stability = cluster_stability(points, clusters, parameters, names=names)
    yield Progress(0.7, "scores and their controls")
    honesty = honesty_rows(
        latent, map2d, clusters, parameters,
        space=space, scores=scores, conditions=conditions, held_back=held_back, conditional=conditional,
    )  # fmt: skip
    return Judged(batch, stability, dead_units(latent), honesty)
