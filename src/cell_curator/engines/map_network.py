"""What else the worker does for the map: keeping its network, placing new cells, judging, counting groups.

Kept out of the viewer because of torch, or because it takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.cluster_count import KSuggestion, suggesting_k
from cell_curator.core.cluster_reading import isolation
from cell_curator.core.clustering import ClusterParameters, quality, space_points
from cell_curator.core.doubts import BatchEffect, DeadUnits, Stability, batch_effect, cluster_stability, dead_units
from cell_curator.core.embedding import MapParameters, place
from cell_curator.core.honesty import HonestyRow, honesty_rows
from cell_curator.core.jobs import Job, Progress, scaled
from cell_curator.engines.vae.model import VaeModel, load_model, save_model
from cell_curator.engines.vae.parameters import VaeParameters
from cell_curator.engines.vae.progress import Embedding
from cell_curator.engines.vae.refining import steps_saved
from cell_curator.engines.vae.training import train

_VOTERS = 15  # nearest cells that say which cluster a new one belongs to


def keep_network(model: VaeModel, path: Path, latent: NDArray[np.float32]) -> Job[tuple[NDArray[np.float64], float]]:
    """Save the network, and say of every cell of its map how isolated it is, and which distance counts as 1."""
    yield Progress(0.0, "keeping the network")
    save_model(model, path)
    far = isolation(latent)
    scale = float(np.nanmedian(far)) if np.isfinite(far).any() else 0.0
    scale = scale if scale > 0 else 1.0  # all cells in one place
    return far / scale, scale


def read_network(path: Path) -> Job[VaeModel]:
    """`engines.vae.model.load_model` as a job."""
    yield Progress(0.0, "reading the network")
    return load_model(path)


def gain(
    refined: Embedding,
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    groups: NDArray[np.int64],
    vae: VaeParameters,
    *,
    conditions: NDArray[np.int64] | None = None,
    condition_names: tuple[str, ...] = (),
) -> Job[str]:
    """Learn the same cells afresh, and say what going on from a network was worth; arguments as in ``train``."""
    learning = train(images, masks, groups, vae, conditions=conditions, condition_names=condition_names)
    difference, step = steps_saved(refined, (yield from learning))
    better = "better" if difference > 0 else "worse"
    said = f"going on from a network: {abs(difference):.3g} nats per held-back cell {better} than starting afresh"
    if step is None:
        return f"{said}, which it never caught up with"
    return f"{said}, as good as that ever became after {step} of {vae.steps} steps"


@dataclass(frozen=True)
class Placed:
    """Where M new cells belong: ``map2d`` (M, 2), ``clusters`` (M,), ``isolation`` (M,), and scores of all cells."""

    map2d: NDArray[np.float32]
    clusters: NDArray[np.int64]
    isolation: NDArray[np.float64]
    scores: dict[str, float]


def place_cells(
    new: NDArray[np.float32],
    latent: NDArray[np.float32],
    map2d: NDArray[np.float32],
    clusters: NDArray[np.int64],
    kept: NDArray[np.bool_],
    projection: MapParameters,
    *,
    space: str,
    scale: float,
) -> Job[Placed]:
    """Put new cells ``(M, D)`` on a map of N cells, and into the cluster of most of their nearest.

    Parameters
    ----------
    latent, map2d, clusters
        The map as it was, with the cells that changed where they were: what is looked like there did not change.
    kept
        (N,) cells of it that stay.
    space
        Where the clusters were made.
    scale
        The distance that counts as 1, as `keep_network` gave it.
    """
    yield Progress(0.0, "placing cells on the map")
    placed = place(new, latent, map2d, projection)
    ask, among = (placed, map2d) if space == "map" else (new, latent)
    joined = np.concatenate([clusters[kept], _most_of_nearest(ask, among, clusters)])
    everything = np.concatenate([among[kept], ask])
    far = isolation(np.concatenate([latent[kept], new]))[kept.sum() :] / scale
    # a UMAP of more dimensions was not kept: its scores stay those of the cells that it was made of
    scores = quality(everything, joined) if space in ("map", "latent") else {}
    return Placed(placed, joined[kept.sum() :], far, scores)


def _most_of_nearest(points: NDArray[Any], known: NDArray[Any], clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """The cluster that most of the nearest known points are in; in none if most are in none."""
    if not len(points):
        return np.empty(0, np.int64)
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(min(_VOTERS, len(known)), weights="distance").fit(known, clusters)
    return np.asarray(model.predict(points), np.int64)


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
