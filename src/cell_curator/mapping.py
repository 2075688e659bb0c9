"""The map of all cells on a session: learning it, grouping it, and keeping it true when cells change.

The network that made a map is kept with it, so that corrected and new cells find their place without
learning anything anew. Patches are cut in `map_patches`, results are stored in `map_store`, and reading
a map is the business of `map_reading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.cluster_names import note_cluster as note_cluster
from cell_curator.cluster_names import rename_cluster as rename_cluster
from cell_curator.core.cluster_count import KSuggestion
from cell_curator.core.clustering import NOISE, Clustering, ClusterParameters
from cell_curator.core.embedding import MapParameters, place_note
from cell_curator.core.jobs import Job, UserError, scaled
from cell_curator.core.parameters import Parameters
from cell_curator.core.patches import Patches, PatchParameters
from cell_curator.core.recipe import Recipe
from cell_curator.engines.vae import VaeParameters
from cell_curator.io.folders import make_folder
from cell_curator.io.records import StoredEmbedding
from cell_curator.map_patches import condition_numbers, cut_cells, units_of
from cell_curator.map_patches import cut_patches as cut_patches
from cell_curator.map_store import MapReport as MapReport
from cell_curator.map_store import Moved, error_per_pixel, store
from cell_curator.map_store import map_network as map_network

if TYPE_CHECKING:
    from cell_curator.engines.map_cells import CellMap
    from cell_curator.engines.map_network import Placed
    from cell_curator.session import Session

_CONDITIONAL = ("cvae", "cvae-mixed")
_LEARNING = "embeddings/learning.pt"
_NO_MAP = "there is no map yet; make the map first"


def embed(session: Session, start: Path | None = None, *, compare: bool = False) -> Job[MapReport]:
    """Cut patches of all cells that count, learn the map, cluster it and store all of it.

    Parameters
    ----------
    start
        A network to go on from: `map_network` of another project, or any saved by `engines.vae.model`.
    compare
        Learn afresh too, and say what going on was worth; takes twice as long.

    Raises
    ------
    UserError
        If there are no cells, or ``start`` was learned on patches of another size or number of channels.
    """
    patches, rows = yield from _patches_of_all(session)
    before = None
    if start is not None:
        before = yield from session.execute("cell_curator.engines.map_network:read_network", path=Path(start))
    told, names = _told(session, rows)
    make_folder(_checkpoint(session).parent)
    arguments = {**_arguments(session, patches), "groups": units_of(session, rows)[0]}
    both = compare and start is not None
    made: CellMap = yield from scaled(
        session.execute(
            "cell_curator.engines.map_cells:map_cells",
            **arguments,
            ids=rows.index.to_numpy(np.int64),
            conditions=told,
            condition_names=names,
            start=before,
            checkpoint=_checkpoint(session),
        ),
        0.1,
        0.54 if both else 0.98,
    )
    if both:
        known = {name: arguments[name] for name in ("images", "masks", "groups", "vae")}
        afresh = session.execute(
            "cell_curator.engines.map_network:gain",
            refined=made.embedding,
            **known,
            conditions=told,
            condition_names=names,
        )
        made = replace(made, notes=(*made.notes, (yield from scaled(afresh, 0.54, 0.98, "afresh: "))))
    more = {} if start is None else {"started from": Path(start).name}
    return (yield from _keep_map(session, made, patches, rows, more))


def keep(session: Session) -> Job[MapReport]:
    """The map by the best network of a training that was cancelled.

    Raises
    ------
    UserError
        If it was cancelled before there was any.
    """
    if not _checkpoint(session).is_file():
        raise UserError("the training was stopped before there was anything to keep; make the map again")
    patches, rows = yield from _patches_of_all(session)
    made: CellMap = yield from scaled(
        session.execute(
            "cell_curator.engines.map_cells:map_kept",
            checkpoint=_checkpoint(session),
            **_arguments(session, patches),
            ids=rows.index.to_numpy(np.int64),
            conditions=_told(session, rows)[0],
        ),
        0.1,
        0.98,
    )
    return (yield from _keep_map(session, made, patches, rows, {"stopped": "by hand"}))


def can_keep(session: Session) -> bool:
    """Whether a training was stopped from which `keep` can make a map."""
    return _checkpoint(session).is_file()


def recluster(session: Session) -> Job[MapReport]:
    """Cluster the cells of the existing map again, as far as they still count; the others are in no cluster.

    Raises
    ------
    UserError
        If there is no map, or no cell of it counts.
    """
    stored, parameters = _map_of(session), session.get(ClusterParameters)
    counting = _counting(session, stored)
    grouped: Clustering = yield from session.execute(
        "cell_curator.engines.map_cells:regroup",
        latent=stored.latent[counting],
        map2d=stored.map2d[counting],
        parameters=parameters,
    )
    labels = np.full(len(counting), NOISE, np.int64)
    labels[counting] = grouped.labels
    said, grouped = parameters.model_dump(mode="json"), replace(grouped, labels=labels)
    return store(session, stored, grouped, action="cluster", parameters=said, notes=grouped.notes)


def suggest(session: Session, parameters: ClusterParameters | None = None) -> Job[KSuggestion]:
    """How many clusters the map has, with what speaks for each number; nothing is changed.

    Parameters
    ----------
    parameters
        How cells are grouped; by default as the project has it.

    Raises
    ------
    UserError
        If there is no map, or too few cells.
    """
    stored = _map_of(session)
    counting = _counting(session, stored)
    found: KSuggestion = yield from session.execute(
        "cell_curator.engines.map_network:suggest",
        latent=stored.latent[counting],
        map2d=stored.map2d[counting],
        parameters=parameters or session.get(ClusterParameters),
    )
    return found


def refresh(session: Session) -> Job[MapReport]:
    """Bring the map up to date: only cells that changed or are new are cut and looked at, by the network it has.

    They are placed on the map as it is and get the cluster of most of their nearest. Cells that no longer count
    leave it.

    Raises
    ------
    UserError
        If there is no map, or its network was not kept.
    """
    stored, file = _map_of(session), map_network(session)
    if file is None:
        raise UserError("the network that made this map was not kept; make the map again")
    counting = session.counting_cells().index
    known = np.isin(stored.cell_id, counting)
    stale = sorted(session.stale_cells() & set(counting.tolist()))
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
    if not kept.any():
        raise UserError("no cell of the map is as it was; make the map again")
    return (yield from _place_and_store(session, stored, kept, (rows, latent, error_per_pixel(error, patches.masks))))


# ---------------------------------------------------------------------- learning


def _patches_of_all(session: Session) -> Job[tuple[Patches, pd.DataFrame]]:
    rows = session.counting_cells()
    if not len(rows):
        raise UserError("there are no cells to map yet; find cells first")
    return (yield from scaled(cut_cells(session, rows.index.tolist()), 0.0, 0.1, "patches: "))


def _arguments(session: Session, patches: Patches) -> dict[str, Any]:
    """What learning and keeping a map both take."""
    return {
        "images": patches.images,
        "masks": patches.masks,
        "vae": session.get(VaeParameters),
        "projection": session.get(MapParameters),
        "clustering": session.get(ClusterParameters),
    }


def _told(session: Session, rows: pd.DataFrame) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Number of each cell's condition and the names, for networks that are told; else None."""
    if session.get(VaeParameters).model not in _CONDITIONAL:
        return None, ()
    return condition_numbers(session, rows)


def _checkpoint(session: Session) -> Path:
    return session.folder / _LEARNING


def _keep_map(
    session: Session,
    made: CellMap,
    patches: Patches,
    rows: pd.DataFrame,
    more: Mapping[str, Any],
) -> Job[MapReport]:
    ids, revision = rows.index.to_numpy(np.int64), rows["revision"].to_numpy(np.int64)
    network = f"embeddings/{session.project.next_embedding():04d}.pt"
    keeping = session.execute(
        "cell_curator.engines.map_network:keep_network",
        model=made.embedding.model,
        path=session.folder / network,
        latent=made.embedding.latent,
    )
    far, scale = yield from scaled(keeping, 0.98, 1.0)
    models: tuple[type[Parameters], ...] = (PatchParameters, VaeParameters, MapParameters, ClusterParameters)
    detail = {
        "parameters": {model.__name__: session.get(model).model_dump(mode="json") for model in models},
        "recipe": session.get(Recipe).hash,
        "network": network,
        "conditions": list(made.embedding.model.conditions),
        "isolation_scale": scale,
        "split": made.embedding.split,
        "held_back": ids[made.embedding.validation].tolist(),
        "history": [_checked(one) for one in made.embedding.history],
        "seconds": round(made.embedding.seconds, 1),
        "cut off by the patch": int(patches.clipped.sum()),
        "notes": list(made.notes),
        **more,
    }
    stored = StoredEmbedding(ids, revision, made.embedding.latent, made.map2d, detail, {})
    said = {"map_error": error_per_pixel(made.embedding.error, patches.masks), "map_isolation": far}
    parameters = session.get(ClusterParameters).model_dump(mode="json")
    return store(session, stored, made.clustering, said, action="map", parameters=parameters, notes=made.notes)


def _checked(one: Any) -> dict[str, float | int | None]:
    """One line of the training's history as JSON can hold it."""
    values = {name: getattr(one, name) for name in ("step", "total", "reconstruction", "kl", "validation", "active")}
    return {name: None if value is None or not np.isfinite(value) else value for name, value in values.items()}


# ---------------------------------------------------------------------- refreshing


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
    clusters = frame["cluster"].reindex(stored.cell_id[kept], fill_value=-1).to_numpy(np.int64)
    placing = session.execute(
        "cell_curator.engines.map_network:place_cells",
        new=latent,
        latent=stored.latent[kept],
        map2d=stored.map2d[kept],
        clusters=clusters,
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
    if count > len(stored.cell_id) / 2:
        notes.append(f"{count} cells changed or are new, more than half of the map: it is better made again")
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


def _counting(session: Session, stored: StoredEmbedding) -> NDArray[np.bool_]:
    """Which cells of the map count; those rejected since do not."""
    counting = np.isin(stored.cell_id, session.counting_cells().index)
    if not counting.any():
        raise UserError("no cell of the map counts any more; accept some, or make the map again")
    return counting


def _map_of(session: Session) -> StoredEmbedding:
    if session.embedding is None:
        raise UserError(_NO_MAP)
    return session.embedding
