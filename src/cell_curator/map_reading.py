"""Reading a map: cells and pictures of a cluster, how conditions differ, and what speaks against all of it.

Nothing here changes a project. What needs the network, or takes seconds, is a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cluster_reading import (
    Densities,
    at_random,
    cluster_correlation,
    densities,
    nearest_cells,
    nearest_to_center,
    separating_measurements,
)
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.comparison import Comparison, compare_conditions
from cell_curator.core.doubts import BatchEffect, DeadUnits, Stability, by_direction
from cell_curator.core.honesty import HonestyRow
from cell_curator.core.jobs import Job, UserError, scaled
from cell_curator.core.patches import PatchParameters
from cell_curator.core.size_study import SizeStudy, study_sizes
from cell_curator.map_patches import condition_numbers, cut_cells, units_of
from cell_curator.map_store import map_network

if TYPE_CHECKING:
    from pathlib import Path

    from cell_curator.io.records import StoredEmbedding
    from cell_curator.session import Session

READ = (
    "area", "perimeter", "major_axis", "minor_axis", "eccentricity", "solidity", "orientation_deg", "mean_intensity",
    "std_intensity", "focus", "contrast", "contact",
)  # fmt: skip
"""Measurements that say what a cell looks like; positions and boxes would only say where it lies."""


@dataclass(frozen=True)
class Judgement:
    """What speaks for and against a map: how conditions differ, scores with their controls, and warnings.

    ``warnings`` are plain sentences, the gravest first; the figures behind them are in the other fields.
    """

    comparison: Comparison
    honesty: tuple[HonestyRow, ...]
    warnings: tuple[str, ...]
    batch: BatchEffect
    stability: Stability
    dead: DeadUnits


@dataclass(frozen=True)
class Counterfactual:
    """Cells under another condition, all pictures ``(N, [C,] P, P)`` in 0..1.

    ``cells`` ids and ``conditions`` of the N cells; ``are`` their patches, ``painted`` the same as the network paints
    them, which is blurrier, and ``otherwise`` as it would paint them under the other condition. What the condition does
    is the difference between the last two.
    """

    cells: tuple[int, ...]
    conditions: tuple[str, ...]
    are: NDArray[np.float32]
    painted: NDArray[np.float32]
    otherwise: NDArray[np.float32]


@dataclass(frozen=True)
class _Shown:
    """The cells of the map that are still there: rows of the table, and where each is."""

    rows: pd.DataFrame
    latent: NDArray[np.float32]
    map2d: NDArray[np.float32]
    clusters: NDArray[np.int64]


# ---------------------------------------------------------------------- cells of a cluster


def samples(
    session: Session, cluster: int, n: int = 7, how: Literal["random", "center"] = "random", seed: int = 0
) -> list[int]:
    """Ids of ``n`` cells of a cluster: drawn at random, or the nearest to its middle.

    Raises
    ------
    UserError
        If there is no map.
    """
    shown = _shown(session)
    if how == "random":
        rows = at_random(shown.clusters, cluster, n, seed)
    else:
        rows = nearest_to_center(shown.latent, shown.clusters, cluster, n)
    return [int(i) for i in shown.rows.index[rows]]


def neighbours(session: Session, cell_id: int, n: int = 12) -> list[int]:
    """Ids of the cells most like one, the most alike first.

    Raises
    ------
    UserError
        If the cell is not on the map.
    """
    shown = _shown(session)
    if cell_id not in shown.rows.index:
        raise UserError(f"cell {cell_id} is not on the map; bring the map up to date first")
    rows = nearest_cells(shown.latent, int(shown.rows.index.get_loc(cell_id)), n)  # type: ignore[arg-type]
    return [int(i) for i in shown.rows.index[rows]]


def spread_of_features(session: Session) -> Densities:
    """How the cells of each cluster spread along each learned feature."""
    shown = _shown(session)
    return densities(shown.latent, shown.clusters)


def correlation(session: Session) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Numbers of the clusters and how alike their mean features are, (K, K) from -1 to 1."""
    shown = _shown(session)
    return cluster_correlation(shown.latent, shown.clusters)


def set_apart_by(session: Session, cluster: int | None = None) -> pd.DataFrame:
    """Which measurements set clusters apart, see `core.cluster_reading.separating_measurements`."""
    shown = _shown(session)
    return separating_measurements(shown.rows, shown.clusters, READ, cluster)


def sizes(session: Session) -> SizeStudy:
    """How large the cells that count are, turned as their patches will be, and the patch that fits them."""
    angles = {record.image_id: record.angle_deg for record in session.images if record.angle_deg}
    return study_sizes(session.counting_cells(), session.get(PatchParameters), angles)


# ---------------------------------------------------------------------- what the network paints


def decoded_center(session: Session, cluster: int, condition: str | None = None) -> Job[NDArray[np.float32]]:
    """What the network paints of the middle of a cluster, ``([C,] P, P)`` in 0..1.

    Raises
    ------
    UserError
        If there is no such cluster, or the network was not kept.
    """
    job = session.execute(
        "cell_curator.engines.map_cells:decode_cells",
        model_file=_network(session),
        latent=_middle(session, cluster)[None],
        conditions=None if condition is None else number_of(session, condition),
    )
    pictures: NDArray[np.float32] = yield from job
    return np.asarray(pictures[0], np.float32)


def traversal(
    session: Session,
    start: int | None = None,
    cluster: int | None = None,
    steps: int = 7,
    spread: float = 2.0,
    condition: str | None = None,
) -> Job[NDArray[np.float32]]:
    """Pictures with one feature after the other changed, ``(D, steps, [C,] P, P)``, from a cell or a cluster's middle.

    Parameters
    ----------
    start, cluster
        Id of a cell, or the number of a cluster; neither: the middle of all cells.
    spread
        How far to go to either side; cells as a whole have a spread of about 1.
    """
    shown = _shown(session)
    if start is not None:
        if start not in shown.rows.index:
            raise UserError(f"cell {start} is not on the map; bring the map up to date first")
        latent = shown.latent[shown.rows.index.get_loc(start)]
    else:
        latent = shown.latent.mean(axis=0) if cluster is None else _middle(session, cluster)
    job = session.execute(
        "cell_curator.engines.map_cells:traverse",
        model_file=_network(session),
        latent=latent,
        steps=steps,
        spread=spread,
        condition=None if condition is None else number_of(session, condition),
    )
    pictures: NDArray[np.float32] = yield from job
    return pictures


def counterfactual(session: Session, cells: Sequence[int], condition: str) -> Job[Counterfactual]:
    """Cells as they are, and as the network would paint them under another condition.

    Raises
    ------
    UserError
        If the network was told of no conditions, or not of this one.
    """
    stored, wanted = _map(session), number_of(session, condition)
    values = stored.detail.get("parameters", {}).get(PatchParameters.__name__, {})
    patches, rows = yield from scaled(cut_cells(session, cells, PatchParameters.model_validate(values)), 0.0, 0.5)
    if not len(rows):
        raise UserError("these cells are no longer there; choose others")
    own = condition_numbers(session, rows, stored.detail["conditions"])[0]
    made = []
    for begin, painted_as in ((0.5, own), (0.75, wanted)):
        job = session.execute(
            "cell_curator.engines.map_cells:paint_otherwise",
            model_file=_network(session),
            images=patches.images,
            masks=patches.masks,
            condition_to=painted_as,
        )
        made.append((yield from scaled(job, begin, begin + 0.25)))
    ids = tuple(int(i) for i in rows.index)
    return Counterfactual(ids, tuple(rows["condition"]), patches.images, *made)


def number_of(session: Session, condition: str) -> int:
    """The network's number of a condition.

    Raises
    ------
    UserError
        If it was told of no conditions, or not of this one.
    """
    known = list(_map(session).detail.get("conditions", ()))
    if condition in known:
        return known.index(condition)
    if not known:
        raise UserError(
            "the network of this map was told of no conditions; make the map with the model cvae to ask this"
        )
    raise UserError(f"the network was not told of {condition!r}, only of {', '.join(known)}; make the map again")


# ---------------------------------------------------------------------- judging


def comparison(session: Session) -> Comparison:
    """How the conditions of the project spread over the clusters, tested by whole images or wells.

    Raises
    ------
    UserError
        If there is no map, or no cell of it counts.
    """
    shown, stored = _shown(session, counting=True), _map(session)
    units, unit = units_of(session, shown.rows)
    seed = session.get(ClusterParameters).seed
    return compare_conditions(
        shown.clusters, shown.rows["condition"].tolist(), units, seed, names=stored.cluster_names, unit=unit
    )


def judge(session: Session) -> Job[Judgement]:
    """Everything that speaks for and against the map; seconds of work, done by the worker.

    Raises
    ------
    UserError
        If there is no map, or no cell of it counts.
    """
    shown, stored = _shown(session, counting=True), _map(session)
    units, unit = units_of(session, shown.rows)
    values = stored.clustering.get("parameters") or session.get(ClusterParameters).model_dump()
    made = yield from session.execute(
        "cell_curator.engines.map_network:judge",
        latent=shown.latent,
        map2d=shown.map2d,
        clusters=shown.clusters,
        parameters=ClusterParameters.model_validate(values),
        space=str(stored.clustering.get("space", "latent")),
        scores=stored.scores,
        names=stored.cluster_names,
        conditions=shown.rows["condition"].tolist(),
        units=units,
        unit=unit,
        held_back=np.isin(shown.rows.index, stored.detail.get("held_back", ())),
        conditional=bool(stored.detail.get("conditions")),
    )
    compared = comparison(session)
    said = (made.batch.warning, made.stability.warning, made.dead.warning, *quick_warnings(session, compared))
    warnings = tuple(line for line in said if line)
    return Judgement(compared, made.honesty, warnings, made.batch, made.stability, made.dead)


def honesty(session: Session) -> Job[tuple[HonestyRow, ...]]:
    """Scores of the map, each with its space and split, and their controls."""
    return (yield from judge(session)).honesty


def warnings(session: Session) -> Job[tuple[str, ...]]:
    """Plain sentences on what speaks against the map."""
    return (yield from judge(session)).warnings


def quick_warnings(session: Session, compared: Comparison | None = None) -> tuple[str, ...]:
    """Those warnings that need no work: what cannot be tested, cells that changed or left, a network that was told."""
    stored = _map(session)
    compared = comparison(session) if compared is None else compared
    said = [f"conditions were not compared: {compared.refused}" if compared.refused else "", *compared.notes]
    said.append(_by_direction(session, stored))
    counting = session.counting_ids()
    left = int((~np.isin(stored.cell_id, counting)).sum())
    if left:
        was = "cell of the map no longer counts and is" if left == 1 else "cells of the map no longer count and are"
        said.insert(0, f"{left} {was} left out here; bring the map up to date")
    stale = len(session.stale_ids())
    if stale:
        cells = f"{stale} of {len(counting)} cells changed or are new"
        said.insert(0, f"{cells} since the map was made; bring the map up to date")
    if len(stored.detail.get("conditions", ())) > 1:
        said.append(
            "the network was told the condition, so its features hold what the condition does not explain: "
            "differences between conditions look smaller here than they are; to find them, use the model vae"
        )
    return tuple(line for line in said if line)


# ---------------------------------------------------------------------- helpers


def _by_direction(session: Session, stored: StoredEmbedding) -> str:
    """The warning of `core.doubts.by_direction`, where no grooves give images a direction and patches kept it."""
    values = stored.detail.get("parameters", {}).get(PatchParameters.__name__, {})
    if PatchParameters.model_validate(values).turn == "own" or any(record.angle_deg for record in session.images):
        return ""
    shown = _shown(session, counting=True)
    axis, long = (shown.rows[name].to_numpy(np.float64) for name in ("orientation_deg", "eccentricity"))
    return by_direction(shown.clusters, axis, long)[1]


def _map(session: Session) -> StoredEmbedding:
    if session.embedding is None:
        raise UserError("there is no map yet; make the map first")
    return session.embedding


def _shown(session: Session, *, counting: bool = False) -> _Shown:
    """Cells of the map that are still there; ``counting``: and that still count."""
    stored, frame = _map(session), session.counting_cells() if counting else session.cells.frame
    there = np.isin(stored.cell_id, frame.index)
    if not there.any():
        raise UserError("no cell of the map counts any more; accept some, or make the map again")
    rows = frame.loc[stored.cell_id[there]]
    return _Shown(rows, stored.latent[there], stored.map2d[there], rows["cluster"].to_numpy(np.int64))


def _middle(session: Session, cluster: int) -> NDArray[np.float32]:
    shown = _shown(session)
    inside = shown.clusters == cluster
    if not inside.any():
        raise UserError(f"there is no cell in cluster {cluster + 1}; choose another")
    return np.asarray(shown.latent[inside].mean(axis=0), np.float32)


def _network(session: Session) -> Path:
    file = map_network(session)
    if file is None:
        raise UserError("the network that made this map was not kept; make the map again")
    return file
