"""From patches to a clustered map in one job: learn, embed, project, group.

The function a worker calls, so that neither torch nor UMAP is ever imported by the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clustering import Clustering, ClusterParameters, cluster
from cell_curator.core.embedding import MapParameters, fallback_note, project_2d
from cell_curator.core.jobs import Job, Progress, scaled
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.vae_training import Embedding, train


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
) -> Job[CellMap]:
    """Learn an embedding of patches and draw the clustered map of it.

    Parameters
    ----------
    images, masks
        ``(N, P, P)`` patches in 0..1 and where the cell is.
    groups
        ``(N,)`` image id of each; the split for validation is made by them.
    vae, projection, clustering
        Parameters of the three parts.
    """
    embedding = yield from scaled(train(images, masks, groups, vae), 0.0, 0.85)
    yield Progress(0.85, "drawing the map")
    map2d = project_2d(embedding.latent, projection, seed=vae.seed)
    yield Progress(0.95, "grouping the cells")
    grouped = cluster_space(embedding.latent, map2d, clustering)
    note = fallback_note(len(images), projection)
    return CellMap(embedding, map2d, grouped, (*embedding.notes, *((note,) if note else ()), *grouped.notes))


def cluster_space(latent: NDArray[np.float32], map2d: NDArray[np.float32], parameters: ClusterParameters) -> Clustering:
    """Group cells in the space that ``parameters`` names."""
    return cluster(latent if parameters.space == "latent" else map2d, parameters)


def regroup(latent: NDArray[np.float32], map2d: NDArray[np.float32], parameters: ClusterParameters) -> Job[Clustering]:
    """`cluster_space` as a job, for the worker."""
    yield Progress(0.0, "grouping the cells")
    return cluster_space(latent, map2d, parameters)
