"""The map of all cells on a session: learning it, grouping it, and keeping it true when cells change.

The network that made a map is kept with it, so that corrected and new cells find their place without
learning anything anew. Patches are cut in `map_patches`, results are stored in `map_store`, and reading
a map is the business of `map_reading`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.cluster_names import note_cluster as note_cluster
from cell_curator.cluster_names import rename_cluster as rename_cluster
from cell_curator.core.cluster_count import KSuggestion
from cell_curator.core.clustering import NOISE, Clustering, ClusterParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.jobs import Job, UserError, scaled
from cell_curator.core.parameters import Parameters
from cell_curator.core.patches import Patches, PatchParameters
from cell_curator.core.recipe import Recipe
from cell_curator.engines.vae import VaeParameters
from cell_curator.io.folders import make_folder
from cell_curator.io.records import StoredEmbedding
from cell_curator.map_patches import condition_numbers, cut_cells, units_of
from cell_curator.map_patches import cut_patches as cut_patches
from cell_curator.map_refreshing import refresh as refresh
from cell_curator.map_store import MapReport as MapReport
from cell_curator.map_store import Moved as Moved
from cell_curator.map_store import error_per_pixel, map_of, stated, store
from cell_curator.map_store import map_network as map_network

if TYPE_CHECKING:
    from cell_curator.engines.map_cells import CellMap
    from cell_curator.session import Session

P = TypeVar("P", bound=Parameters)
_CONDITIONAL = ("cvae", "cvae-mixed")
_LEARNING = "embeddings/learning.pt"


def embed(
    session: Session, start: Path | None = None, *, compare: bool = False, parameters: Sequence[Parameters] = ()
) -> Job[MapReport]:
    """Cut patches of all cells that count, learn the map, cluster it and store all of it.

    Parameters
    ----------
    start
        A network to go on from: `map_network` of another project, or any saved by `engines.vae.model`.
    compare
        Learn afresh too, and say what going on was worth; takes twice as long.
    parameters
        Of patches, learning, map or groups, in place of those of the project. They become the project's with the map,
        or with a training that is stopped, from which `keep` makes one; never with a run that fails.

    Raises
    ------
    UserError
        If there are no cells, or ``start`` was learned on patches of another size or number of channels.
    """
    how = _How(session, parameters)
    try:
        return (yield from _learn(session, how, start, compare))
    except (GeneratorExit, KeyboardInterrupt):
        if can_keep(session):
            how.store()
        raise


def _learn(session: Session, how: _How, start: Path | None, compare: bool) -> Job[MapReport]:
    patches, rows = yield from _patches_of_all(session, how)
    before = None
    if start is not None:
        before = yield from session.execute("cell_curator.engines.map_network:read_network", path=Path(start))
    told, names = _told(session, how, rows)
    make_folder(_checkpoint(session).parent)
    arguments = {**_arguments(how, patches), "groups": units_of(session, rows)[0]}
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
    return (yield from _keep_map(session, how, made, patches, rows, more))


def keep(session: Session) -> Job[MapReport]:
    """The map by the best network of a training that was cancelled.

    Raises
    ------
    UserError
        If it was cancelled before there was any.
    """
    if not _checkpoint(session).is_file():
        raise UserError("the training was stopped before there was anything to keep; make the map again")
    how = _How(session)
    patches, rows = yield from _patches_of_all(session, how)
    made: CellMap = yield from scaled(
        session.execute(
            "cell_curator.engines.map_cells:map_kept",
            checkpoint=_checkpoint(session),
            **_arguments(how, patches),
            ids=rows.index.to_numpy(np.int64),
            conditions=_told(session, how, rows)[0],
        ),
        0.1,
        0.98,
    )
    return (yield from _keep_map(session, how, made, patches, rows, {"stopped": "by hand"}))


def can_keep(session: Session) -> bool:
    """Whether a training was stopped from which `keep` can make a map."""
    return _checkpoint(session).is_file()


def recluster(session: Session, parameters: ClusterParameters | None = None) -> Job[MapReport]:
    """Cluster the cells of the existing map again, as far as they still count; the others are in no cluster.

    Parameters
    ----------
    parameters
        How, in place of what the project has; stored with the clusters.

    Raises
    ------
    UserError
        If there is no map, or no cell of it counts.
    """
    stored, how = map_of(session), _How(session, () if parameters is None else (parameters,))
    chosen = how.get(ClusterParameters)
    counting = _counting(session, stored)
    grouped: Clustering = yield from session.execute(
        "cell_curator.engines.map_cells:regroup",
        latent=stored.latent[counting],
        map2d=stored.map2d[counting],
        parameters=chosen,
    )
    labels = np.full(len(counting), NOISE, np.int64)
    labels[counting] = grouped.labels
    said, grouped = chosen.model_dump(mode="json"), replace(grouped, labels=labels)
    how.store()
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
    stored = map_of(session)
    counting = _counting(session, stored)
    found: KSuggestion = yield from session.execute(
        "cell_curator.engines.map_network:suggest",
        latent=stored.latent[counting],
        map2d=stored.map2d[counting],
        parameters=parameters or session.get(ClusterParameters),
    )
    return found


# ---------------------------------------------------------------------- learning


class _How:
    """The project's parameters, but for those that are ``given``."""

    def __init__(self, session: Session, given: Sequence[Parameters] = ()) -> None:
        self._session, self._given = session, {type(one): one for one in given}
        self.unread: tuple[tuple[str, str], ...] = ()
        """(name, reason) of images that cannot be read, whose cells are not on the map."""

    def get(self, model: type[P]) -> P:
        """Parameters of one kind."""
        given = self._given.get(model)
        return self._session.get(model) if given is None else cast("P", given)

    def store(self) -> None:
        """What was given becomes the project's."""
        for one in self._given.values():
            self._session.put(one)


def _patches_of_all(session: Session, how: _How) -> Job[tuple[Patches, pd.DataFrame]]:
    rows = session.counting_cells()
    if not len(rows):
        raise UserError("there are no cells to map yet; find cells first")
    unread: list[tuple[str, str]] = []
    cutting = cut_cells(session, rows.index.tolist(), how.get(PatchParameters), unread)
    patches, there = yield from scaled(cutting, 0.0, 0.1, "patches: ")
    if not len(there) and unread:
        raise UserError(unread[0][1])
    how.unread = tuple(unread)
    return patches, there


def _arguments(how: _How, patches: Patches) -> dict[str, Any]:
    """What learning and keeping a map both take."""
    return {
        "images": patches.images,
        "masks": patches.masks,
        "vae": how.get(VaeParameters),
        "projection": how.get(MapParameters),
        "clustering": how.get(ClusterParameters),
    }


def _told(session: Session, how: _How, rows: pd.DataFrame) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Number of each cell's condition and the names, for networks that are told; else None."""
    if how.get(VaeParameters).model not in _CONDITIONAL:
        return None, ()
    return condition_numbers(session, rows)


def _checkpoint(session: Session) -> Path:
    return session.folder / _LEARNING


def _keep_map(
    session: Session,
    how: _How,
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
    detail = {
        "parameters": stated(how.get),
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
    parameters = how.get(ClusterParameters).model_dump(mode="json")
    how.store()
    notes = (*made.notes, *(f"{name}: its cells are not on the map: {reason}" for name, reason in how.unread))
    report = store(session, stored, made.clustering, said, action="map", parameters=parameters, notes=notes)
    return replace(report, unread=how.unread)


def _checked(one: Any) -> dict[str, float | int | None]:
    """One line of the training's history as JSON can hold it."""
    values = {name: getattr(one, name) for name in ("step", "total", "reconstruction", "kl", "validation", "active")}
    return {name: None if value is None or not np.isfinite(value) else value for name, value in values.items()}


def _counting(session: Session, stored: StoredEmbedding) -> NDArray[np.bool_]:
    """Which cells of the map count; those rejected since do not."""
    counting = np.isin(stored.cell_id, session.counting_ids())
    if not counting.any():
        raise UserError("no cell of the map counts any more; accept some, or make the map again")
    return counting
