"""Bringing a map up to date: corrected and new cells find their place by the network that made it.

Nothing is learned, and cells that are as they were stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.clustering import Clustering
from cell_curator.core.embedding import MapParameters, place_note
from cell_curator.core.jobs import Job, UserError, scaled
from cell_curator.core.patches import PatchParameters
from cell_curator.core.recipe import Recipe
from cell_curator.io.records import StoredEmbedding
from cell_curator.map_patches import condition_numbers, cut_cells
from cell_curator.map_store import MapReport, Moved, error_per_pixel, map_network, map_of, store

if TYPE_CHECKING:
    from cell_curator.engines.map_network import Placed
    from cell_curator.session import Session

_MANY = 1 / 3  # of the cells of a map


def refresh(session: Session) -> Job[MapReport]:
    """Bring the map up to date: only cells that changed or are new are cut and looked at, by the network it has.

    They are placed on the map as it is and get the cluster of most of their nearest. Cells that no longer count
    leave it.

    Raises
    ------
    UserError
        If there is no map, or its network was not kept.
    """
    stored, file = map_of(session), map_network(session)
    if file is None:
        raise UserError("the network that made this map was not kept; make the map again")
    known = np.isin(stored.cell_id, session.counting_ids())
    stale = sorted(session.stale_ids().tolist())
    if not stale and known.all():
        return _up_to_date(stored)
    patches, rows = yield from scaled(
        cut_cells(session, stale, _as_made(stored, PatchParameters)), 0.0, 0.4, "patches: "
    )
    told = condition_numbers(session, rows, stored.detail.get("conditions"))[0]
    job = session.execute(
        "cell_curator.engines.map_cells:encode_cells",
        model_file=file,
        images=patches.images,
        masks=patches.masks,
        conditions=told if stored.detail.get("conditions") else None,
    )
    latent, error = yield from scaled(job, 0.4, 0.9)
    kept = known & ~np.isin(stored.cell_id, rows.index)
    if not known.any():
        raise UserError("no cell of the map is there any more; make the map again")
    return (yield from _place_and_store(session, stored, kept, (rows, latent, error_per_pixel(error, patches.masks))))


def _place_and_store(
    session: Session,
    stored: StoredEmbedding,
    kept: NDArray[np.bool_],
    fresh: tuple[pd.DataFrame, NDArray[np.float32], NDArray[np.float64]],
) -> Job[MapReport]:
    rows, latent, error = fresh
    ids, revision = rows.index.to_numpy(np.int64), rows["revision"].to_numpy(np.int64)
    projection, space = _as_made(stored, MapParameters), str(stored.clustering.get("space", "latent"))
    frame = session.cells.frame
    there = np.isin(stored.cell_id, session.counting_ids())
    known = frame["cluster"].reindex(stored.cell_id[there], fill_value=-1).to_numpy(np.int64)
    clusters = known[kept[there]]
    placing = session.execute(
        "cell_curator.engines.map_network:place_cells",
        new=latent,
        latent=stored.latent[there],
        map2d=stored.map2d[there],
        clusters=known,
        kept=kept[there],
        projection=projection,
        space=space,
        scale=float(stored.detail.get("isolation_scale", 1.0)),
    )
    made: Placed = yield from scaled(placing, 0.9, 1.0)
    said = {
        name: np.concatenate([frame[name].reindex(stored.cell_id[kept]).to_numpy(np.float64), values])
        for name, values in (("map_error", error), ("map_isolation", made.isolation))
    }
    new = StoredEmbedding(
        np.concatenate([stored.cell_id[kept], ids]),
        np.concatenate([stored.revision[kept], revision]),
        np.concatenate([stored.latent[kept], latent]),
        np.concatenate([stored.map2d[kept], made.map2d]),
        stored.detail,
        {},
    )
    joined = np.concatenate([clusters, made.clusters])
    method, k = str(stored.clustering.get("method", "")), len(np.unique(joined[joined >= 0]))
    scores = made.scores or _numbers(stored.scores)
    grouped = Clustering(joined, scores, space, method, k, tuple(stored.clustering.get("notes", ())))
    notes = _refresh_notes(session, stored, len(ids), projection)
    parameters = stored.clustering.get("parameters", {})
    report = store(session, new, grouped, said, action="refresh map", parameters=parameters, notes=notes)
    return replace(report, refreshed=len(ids), moved=_moved(stored, ids, made.map2d))


def _moved(stored: StoredEmbedding, ids: NDArray[np.int64], placed: NDArray[np.float32]) -> Moved:
    there = np.isin(ids, stored.cell_id)
    order = np.argsort(stored.cell_id)
    rows = order[np.searchsorted(stored.cell_id, ids[there], sorter=order)]
    return Moved(ids[there], stored.map2d[rows], placed[there])


def _refresh_notes(session: Session, stored: StoredEmbedding, count: int, projection: MapParameters) -> tuple[str, ...]:
    notes = [place_note(count, projection)]
    if stored.detail.get("recipe") != session.get(Recipe).hash:
        notes.append("images are prepared otherwise than when the map was made; make the map again to compare cells")
    if _as_made(stored, PatchParameters) != session.get(PatchParameters):
        notes.append("patches were cut as when the map was made, not as they are set now")
    if count > _MANY * len(stored.cell_id):
        notes.append(f"{count} cells changed or are new, on a map of {len(stored.cell_id)}: it is better made again")
    return tuple(note for note in notes if note)


def _up_to_date(stored: StoredEmbedding) -> MapReport:
    numbers = _numbers(stored.scores)
    space = str(stored.clustering.get("space", "latent"))
    return MapReport(len(stored.cell_id), len(stored.cluster_names), space, numbers, ("the map is up to date",))


def _numbers(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else value for name, value in scores.items()}


def _as_made(stored: StoredEmbedding, model: type[Any]) -> Any:
    """The parameters with which the map was made."""
    values = stored.detail.get("parameters", {}).get(model.__name__)
    return model() if values is None else model.model_validate(values)
