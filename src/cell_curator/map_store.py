"""Storing a map with its clusters: numbers, names, colours and notes stay with a cluster that is found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.clustering import Clustering, ClusterParameters, match_clusters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.jobs import UserError
from cell_curator.core.parameters import Parameters
from cell_curator.core.patches import PatchParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.io.project import Change
from cell_curator.io.records import StoredEmbedding

if TYPE_CHECKING:
    from cell_curator.session import Session

FOLLOWS_FROM: tuple[type[Parameters], ...] = (PatchParameters, VaeParameters, MapParameters, ClusterParameters)
"""Parameters that a map follows from; they are kept with it."""


def stated(get: Callable[[type[Parameters]], Parameters]) -> dict[str, Any]:
    """Those parameters as a map keeps them."""
    return {model.__name__: get(model).model_dump(mode="json") for model in FOLLOWS_FROM}


@dataclass(frozen=True)
class Moved:
    """Cells that were on the map before and lie elsewhere now: ``cell_id`` (M,), ``before`` and ``after`` (M, 2)."""

    cell_id: NDArray[np.int64]
    before: NDArray[np.float32]
    after: NDArray[np.float32]


@dataclass(frozen=True)
class MapReport:
    """How many cells are on the map, its scores and the space they were taken in, and lines for the user.

    ``refreshed`` is how many of them were looked at anew, and ``moved`` those of them that were on the map before.
    ``unread``: (name, reason) of images that could not be read, whose cells are not on it.
    """

    cells: int
    clusters: int
    space: str
    scores: dict[str, float]
    notes: tuple[str, ...]
    refreshed: int = 0
    moved: Moved | None = None
    unread: tuple[tuple[str, str], ...] = ()


def store(
    session: Session,
    stored: StoredEmbedding,
    grouped: Clustering,
    said: Mapping[str, NDArray[np.float64]] | None = None,
    *,
    action: str,
    parameters: Mapping[str, Any],
    notes: tuple[str, ...] = (),
) -> MapReport:
    """Put a clustering, and a new map with it, into the project in one step.

    Parameters
    ----------
    stored
        The map; it is stored too where ``said`` is given.
    grouped
        Clusters of its cells.
    said
        ``map_error`` and ``map_isolation`` of its cells.
    action
        The word for the journal.
    parameters
        How the clusters were made.
    """
    with session.lock:
        frame = session.cells.frame
        before = frame["cluster"].reindex(stored.cell_id, fill_value=-1).to_numpy(np.int64)
        # Numbers, and with them names and colours, stay with a cluster that is found again.
        clusters = match_clusters(before, grouped.labels) if (before >= 0).any() else grouped.labels
        detail = _clustering_detail(session, grouped, clusters, parameters)
        rows = _rows(frame, stored, clusters, said)
        session.commit(
            Change(
                action,
                {"cells": len(clusters), **{key: detail[key] for key in ("method", "space", "k")}},
                cells=rows if len(rows) else None,
                embedding=stored if said is not None else None,
                clustering=detail,
            )
        )
    return MapReport(len(clusters), len(detail["names"]), grouped.space, dict(grouped.scores), notes)


def _clustering_detail(
    session: Session, grouped: Clustering, clusters: NDArray[np.int64], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    now = session.embedding
    names, said = ({}, {}) if now is None else (now.cluster_names, now.cluster_notes)
    numbers = sorted({int(c) for c in clusters if c >= 0})
    return {
        "method": grouped.method,
        "space": grouped.space,
        "k": grouped.k,
        "scores": {name: float(v) if np.isfinite(v) else None for name, v in grouped.scores.items()},
        "names": {str(n): names.get(n, f"Cluster {n + 1}") for n in numbers},
        "cluster_notes": {str(n): said[n] for n in numbers if n in said},
        "parameters": dict(parameters),
        "notes": list(grouped.notes),
    }


def _rows(
    frame: pd.DataFrame,
    stored: StoredEmbedding,
    clusters: NDArray[np.int64],
    said: Mapping[str, NDArray[np.float64]] | None,
) -> pd.DataFrame:
    """Rows of the cells whose columns change."""
    there = np.isin(stored.cell_id, frame.index)  # a cell may have been deleted while the map was made
    ids = stored.cell_id[there]
    new = frame.assign(cluster=pd.Series(clusters[there], index=ids).reindex(frame.index, fill_value=-1))
    if said is not None:
        made_from = pd.Series(stored.revision[there], index=ids).reindex(frame.index)
        fresh = (made_from == frame["revision"]).to_numpy()  # what is said of other pixels is not said of these
        for name, values in said.items():
            new[name] = pd.Series(np.asarray(values)[there], index=ids).reindex(frame.index).where(fresh)
    columns = ["cluster", "map_error", "map_isolation"]
    same = (new[columns] == frame[columns]) | (new[columns].isna() & frame[columns].isna())
    return new[~same.all(axis=1)]


def error_per_pixel(error: NDArray[np.float32], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """``map_error``: what the network could not draw of each cell, over the pixels of the cell."""
    pixels = masks.reshape(len(masks), -1).sum(axis=1) if len(masks) else np.zeros(0)
    shared: NDArray[np.float64] = np.asarray(error, np.float64) / np.maximum(pixels, 1)
    return shared


def map_of(session: Session) -> StoredEmbedding:
    """The map as it is stored.

    Raises
    ------
    UserError
        If there is none.
    """
    if session.embedding is None:
        raise UserError("there is no map yet; make the map first")
    return session.embedding


def map_network(session: Session) -> Path | None:
    """File of the network that made the map, or None where it was not kept."""
    stored = session.embedding
    if stored is None or not stored.network:
        return None
    file = session.folder / stored.network
    return file if file.is_file() else None
