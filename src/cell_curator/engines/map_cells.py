"""From patches to a clustered map in one job: learn, embed, project, group; and questions to a stored network.

The functions a worker calls, so that neither torch nor UMAP is ever imported by the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clustering import Clustering, ClusterParameters, cluster, space_points
from cell_curator.core.embedding import MapParameters, fallback_note, project_2d
from cell_curator.core.jobs import Job, Progress, scaled
from cell_curator.engines.vae.model import VaeModel, decode, describing, load_model
from cell_curator.engines.vae.parameters import VaeParameters
from cell_curator.engines.vae.progress import Embedding
from cell_curator.engines.vae.reading import counterfactual, traversal
from cell_curator.engines.vae.training import keep, train


@dataclass(frozen=True)
class CellMap:
    """``embedding`` (latent, model, history), ``map2d`` ``(N, 2)`` float32, its ``clustering``, and ``notes``."""

    embedding: Embedding
    map2d: NDArray[np.float32]
    clustering: Clustering
    notes: tuple[str, ...]


def map_cells(
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    groups: NDArray[np.int64],
    vae: VaeParameters,
    projection: MapParameters,
    clustering: ClusterParameters,
    *,
    ids: NDArray[np.int64] | None = None,
    conditions: NDArray[np.int64] | None = None,
    condition_names: tuple[str, ...] = (),
    start: VaeModel | None = None,
    checkpoint: Path | None = None,
) -> Job[CellMap]:
    """Learn an embedding of patches and draw the clustered map of it.

    Parameters
    ----------
    images, masks
        ``(N, P, P)`` or ``(N, C, P, P)`` patches in 0..1, and ``(N, P, P)`` where the cell is.
    groups
        ``(N,)`` image id of each; the split for validation is made by them.
    vae, projection, clustering
        Parameters of the three parts.
    ids, conditions, condition_names, start, checkpoint
        As in `engines.vae.training.train`.
    """
    learning = train(
        images,
        masks,
        groups,
        vae,
        conditions=conditions,
        condition_names=condition_names,
        ids=ids,
        start=start,
        checkpoint=checkpoint,
    )
    embedding = yield from scaled(learning, 0.0, 0.85)
    return (yield from _drawn(embedding, vae.seed, projection, clustering))


def map_kept(
    checkpoint: Path,
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    vae: VaeParameters,
    projection: MapParameters,
    clustering: ClusterParameters,
    *,
    ids: NDArray[np.int64] | None = None,
    conditions: NDArray[np.int64] | None = None,
) -> Job[CellMap]:
    """`map_cells` by the best network of a training that was cancelled, which ``checkpoint`` holds.

    Which cells were held back is in the checkpoint too, by their ``ids``.

    Raises
    ------
    UserError
        If it was cancelled before there was any.
    """
    kept = keep(checkpoint, images, masks, conditions=conditions, ids=ids)
    embedding = yield from scaled(kept, 0.0, 0.6)
    return (yield from _drawn(embedding, vae.seed, projection, clustering))


def _drawn(embedding: Embedding, seed: int, projection: MapParameters, clustering: ClusterParameters) -> Job[CellMap]:
    yield Progress(0.85, "drawing the map")
    map2d = project_2d(embedding.latent, projection, seed=seed)
    yield Progress(0.95, "grouping the cells")
    grouped = cluster_space(embedding.latent, map2d, clustering)
    note = fallback_note(len(map2d), projection)
    return CellMap(embedding, map2d, grouped, (*embedding.notes, *((note,) if note else ()), *grouped.notes))


def cluster_space(latent: NDArray[np.float32], map2d: NDArray[np.float32], parameters: ClusterParameters) -> Clustering:
    """Group cells in the space that ``parameters`` names."""
    points, space = space_points(latent, map2d, parameters)
    return cluster(points, parameters, space=space)


def regroup(latent: NDArray[np.float32], map2d: NDArray[np.float32], parameters: ClusterParameters) -> Job[Clustering]:
    """`cluster_space` as a job, for the worker."""
    yield Progress(0.0, "grouping the cells")
    return cluster_space(latent, map2d, parameters)


def encode_cells(
    model_file: Path,
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    conditions: NDArray[np.int64] | None = None,
) -> Job[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Posterior mean ``(N, D)`` and reconstruction error ``(N,)`` of new or corrected cells by a stored network.

    ``conditions`` count only in the error, and only for conditional models; their numbers are those of
    ``VaeModel.conditions``.
    """
    yield Progress(0.0, "reading the network")
    return (yield from describing(load_model(model_file), images, masks, conditions))


def decode_cells(
    model_file: Path, latent: NDArray[np.float32], conditions: NDArray[np.int64] | int | None = None
) -> Job[NDArray[np.float32]]:
    """Pictures that a stored network paints of ``(N, D)``, see `engines.vae.model.decode`."""
    yield Progress(0.0, "painting")
    return decode(load_model(model_file), latent, conditions)


def traverse(
    model_file: Path,
    latent: NDArray[np.float32],
    steps: int = 7,
    spread: float = 2.0,
    condition: int | None = None,
) -> Job[NDArray[np.float32]]:
    """`engines.vae.reading.traversal` of a stored network."""
    yield Progress(0.0, "painting")
    return traversal(load_model(model_file), latent, steps, spread, condition)


def paint_otherwise(
    model_file: Path, images: NDArray[np.float32], masks: NDArray[np.bool_], condition_to: NDArray[np.int64] | int
) -> Job[NDArray[np.float32]]:
    """`engines.vae.reading.counterfactual` of a stored network; one condition for all cells, or one for each."""
    yield Progress(0.0, "painting")
    model, wanted = load_model(model_file), np.broadcast_to(np.asarray(condition_to), len(images))
    made = np.empty_like(images)
    for number in np.unique(wanted):
        rows = wanted == number
        made[rows] = counterfactual(model, images[rows], masks[rows], int(number))
    return made
