"""The map of all cells on a session: patches, learning, clusters, and storing what was learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.clustering import Clustering, ClusterParameters, match_clusters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.patches import Patches, PatchParameters, cut
from cell_curator.core.recipe import Recipe
from cell_curator.engines.vae import VaeParameters
from cell_curator.io.project import Change
from cell_curator.io.records import StoredEmbedding

if TYPE_CHECKING:
    from cell_curator.session import Session


@dataclass(frozen=True)
class MapReport:
    """How many cells are on the map, its scores and the space they were taken in, and lines for the user."""

    cells: int
    clusters: int
    space: str
    scores: dict[str, float]
    notes: tuple[str, ...]


def embed(session: Session) -> Job[MapReport]:
    """Cut patches of all cells that count, learn the map, cluster it and store all of it.

    Raises
    ------
    UserError
        If there are no cells.
    """
    rows = session.counting_cells()
    if not len(rows):
        raise UserError("there are no cells to map yet; find cells first")
    patches, order = yield from scaled(cut_patches(session, rows), 0.0, 0.1, "patches: ")
    rows = rows.loc[order]
    made = yield from scaled(
        session.execute(
            "cell_curator.engines.map_cells:map_cells",
            images=patches.images,
            masks=patches.masks,
            groups=rows["image"].to_numpy(np.int64),
            vae=session.get(VaeParameters),
            projection=session.get(MapParameters),
            clustering=session.get(ClusterParameters),
        ),
        0.1,
        1.0,
    )
    detail = {
        "parameters": {type(p).__name__: p.model_dump(mode="json") for p in _map_parameters(session)},
        "recipe": session.get(Recipe).hash,
        "split": made.embedding.split,
        "cut off by the patch": int(patches.clipped.sum()),
        "notes": list(made.notes),
    }
    ids, revision = rows.index.to_numpy(np.int64), rows["revision"].to_numpy(np.int64)
    stored = StoredEmbedding(ids, revision, made.embedding.latent, made.map2d, detail, {})
    return _store_map(session, stored, made.clustering, made.notes, new=True)


def recluster(session: Session) -> Job[MapReport]:
    """Cluster the existing map again.

    Raises
    ------
    UserError
        If there is no map.
    """
    stored = session.embedding
    if stored is None:
        raise UserError("there is no map yet; make the map first")
    grouped = yield from session.execute(
        "cell_curator.engines.map_cells:regroup",
        latent=stored.latent,
        map2d=stored.map2d,
        parameters=session.get(ClusterParameters),
    )
    return _store_map(session, stored, grouped, grouped.notes, new=False)


def _map_parameters(session: Session) -> tuple[Any, ...]:
    return tuple(session.get(model) for model in (PatchParameters, VaeParameters, MapParameters, ClusterParameters))


def cut_patches(session: Session, rows: pd.DataFrame) -> Job[tuple[Patches, NDArray[np.int64]]]:
    """Patches of these cells, image by image, and the cell ids in the same order."""
    parameters = session.get(PatchParameters)
    parts: list[Patches] = []
    order: list[NDArray[np.int64]] = []
    groups = list(rows.groupby("image"))
    for index, (image_id, group) in enumerate(groups):
        yield Progress(index / len(groups), session.image(int(image_id)).name)
        prepared = session.prepare(int(image_id))
        labels = session.labels(int(image_id))
        parts.append(cut(prepared.image, labels, group["label"].tolist(), parameters, prepared.angle_deg))
        order.append(group.index.to_numpy(np.int64))
    joined = Patches(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("images", "masks", "clipped")))
    return joined, np.concatenate(order)


def _store_map(
    session: Session, stored: StoredEmbedding, grouped: Clustering, notes: tuple[str, ...], *, new: bool
) -> MapReport:
    frame = session.cells.frame
    before = frame["cluster"].reindex(stored.cell_id, fill_value=-1).to_numpy(np.int64)
    # Numbers, and with them names and colours, stay with a cluster that is found again.
    clusters = match_clusters(before, grouped.labels) if (before >= 0).any() else grouped.labels
    there = np.isin(stored.cell_id, frame.index)  # a cell may have been deleted while the map was made
    assigned = pd.Series(clusters[there], index=stored.cell_id[there]).reindex(frame.index, fill_value=-1)
    numbers = sorted({int(c) for c in clusters if c >= 0})
    names = session.embedding.cluster_names if session.embedding is not None else {}
    detail = {
        "method": grouped.method,
        "space": grouped.space,
        "k": grouped.k,
        "scores": _finite_scores(grouped),
        "names": {str(n): names.get(n, f"Cluster {n + 1}") for n in numbers},
        "notes": list(grouped.notes),
    }
    session.commit(
        Change(
            "map" if new else "cluster",
            {"cells": len(clusters), **{key: detail[key] for key in ("method", "space", "k")}},
            cells=frame.assign(cluster=assigned),
            embedding=stored if new else None,
            clustering=detail,
        )
    )
    return MapReport(len(clusters), len(numbers), grouped.space, dict(grouped.scores), notes)


def _finite_scores(grouped: Clustering) -> dict[str, float | None]:
    """The scores as JSON can hold them: undefined ones are None."""
    return {name: float(value) if np.isfinite(value) else None for name, value in grouped.scores.items()}
