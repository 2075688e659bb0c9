"""The figures of a session's map as files, SVG and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell_curator import map_reading
from cell_curator.core.cluster_reading import Densities
from cell_curator.core.colors import cluster_color, cluster_rgba, condition_colors, to_hex
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.io import figures
from cell_curator.io.drawing import Drawing
from cell_curator.io.folders import make_folder
from cell_curator.map_patches import cut_patches
from cell_curator.map_store import map_network

if TYPE_CHECKING:
    from cell_curator.session import Session

SAMPLES = 7
_MOST_CLUSTERS = 20


def save_figures(session: Session, folder: Path) -> Job[tuple[Path, ...]]:
    """Draw all figures of the project into ``folder``; those of the map only where there is one.

    Raises
    ------
    UserError
        There are no cells, or a file cannot be written.
    """
    make_folder(folder)
    written = [*figures.sizes_figure(map_reading.sizes(session)).save(folder / "sizes")]
    if session.embedding is None:
        return tuple(written)
    drawn = yield from scaled(draw(session), 0.0, 0.9)
    for index, (name, drawing) in enumerate(drawn.items()):
        yield Progress(0.9 + 0.1 * index / len(drawn), f"writing {name}")
        written += drawing.save(folder / name)
    return tuple(written)


def draw(session: Session) -> Job[dict[str, Drawing]]:
    """The figures of the map by the names of their files.

    Raises
    ------
    UserError
        If there is no map.
    """
    stored = session.embedding
    if stored is None:
        raise UserError("there is no map yet; make the map first")
    yield Progress(0.0, "drawing the map")
    names, frame = stored.cluster_names, session.cells.frame
    there = np.isin(stored.cell_id, frame.index)
    rows, points = frame.loc[stored.cell_id[there]], stored.map2d[there]
    clusters = rows["cluster"].to_numpy(np.int64)
    known = condition_colors(rows["condition"])
    place = rows["condition"].map({name: n for n, name in enumerate(known)}).to_numpy(np.int64)
    tints = np.array([(*color, 1.0) for color in known.values()], np.float32)
    conditions = [
        (name or "(no condition)", to_hex(color), int((place == n).sum()))
        for n, (name, color) in enumerate(known.items())
    ]
    made = {
        "map-by-cluster": figures.map_figure(
            points, cluster_rgba(clusters), _legend(clusters, names), "Map by cluster"
        ),
        "map-by-condition": figures.map_figure(points, tints[place], conditions, "Map by condition"),
        "clusters-by-condition": figures.composition_figure(map_reading.comparison(session), names),
        "correlation": figures.correlation_figure(*map_reading.correlation(session), names),
    }
    spread = map_reading.spread_of_features(session)
    made["features"] = figures.densities_figure(spread, names, _telling(spread))
    made["samples"] = yield from scaled(_samples(session, names), 0.2, 1.0)
    return made


def _legend(numbers: NDArray[np.int64], names: dict[int, str]) -> list[tuple[str, str, int]]:
    found = [int(n) for n in np.unique(numbers)]
    return [
        (
            names.get(n, "in no cluster" if n < 0 else f"Cluster {n + 1}"),
            to_hex(cluster_color(n)),
            int((numbers == n).sum()),
        )
        for n in found
    ]


def _telling(made: Densities) -> list[int]:
    """Features in the order of how far clusters lie apart along them."""
    apart = made.mean.std(axis=1) / np.maximum(made.deviation.mean(axis=1), 1e-9)
    return [int(i) for i in np.argsort(-apart, kind="stable")]


def _samples(session: Session, names: dict[int, str]) -> Job[Drawing]:
    numbers = sorted(names)[:_MOST_CLUSTERS]
    chosen = {n: map_reading.samples(session, n, SAMPLES, "center") for n in numbers}
    wanted = [i for ids in chosen.values() for i in ids]
    patches, order = yield from scaled(cut_patches(session, session.cells.frame.loc[wanted]), 0.0, 0.6, "patches: ")
    pictures = dict(zip(order.tolist(), patches.images, strict=True))
    middles: dict[int, NDArray[np.float32]] = {}
    if map_network(session) is not None:
        for index, n in enumerate(number for number in numbers if chosen[number]):
            job = map_reading.decoded_center(session, n)
            middles[n] = yield from scaled(
                job, 0.6 + 0.4 * index / len(numbers), 0.6 + 0.4 * (index + 1) / len(numbers)
            )
    shown = {n: middle for n, middle in middles.items() if middle.ndim == 2}  # cells are shown in one channel
    rows = [(names[n], n, [pictures[i] for i in chosen[n] if i in pictures], shown.get(n)) for n in numbers]
    return figures.samples_figure(rows, "Seven cells nearest to the middle of each cluster")
