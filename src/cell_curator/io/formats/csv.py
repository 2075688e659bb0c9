"""Tables of cells as CSV files that any spreadsheet, R or pandas reads.

``cells.csv`` of an export has further columns where they can be known: lengths in µm (``area_um2``, ``major_axis_um``…)
and grey levels of each channel (``mean_<channel>``…).

UTF-8, comma, point as decimal mark, one header line; written whole or not at all. Image names
are the project's (``"condition/A-03"``), ids are the project's cell ids. There is no import:
a table is an answer, not a place to edit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cells import CellTable
from cell_curator.core.jobs import Job
from cell_curator.io.atomic import write_atomic
from cell_curator.io.formats.base import Content, Format, one_file
from cell_curator.io.formats.measurements import by_channel, in_micrometres

_FIRST = ["image", "condition", "label", "y", "x", "area"]
_LAST = ["score", "flags", "verdict", "cluster"]


def write_cells(
    path: Path | str,
    cells: CellTable,
    image_names: Mapping[int, str],
    more: pd.DataFrame | None = None,
    counting: pd.Series[bool] | None = None,
) -> None:
    """Write one row per cell: cell_id, image, condition, label, y, x, area, …, counts, score, flags, verdict, cluster.

    Parameters
    ----------
    image_names
        Name by image id.
    more
        Further columns by cell id, put behind the measurements.
    counting
        Whether each cell counts, by cell id, see `core.clean.counts`; without, there is no such column.

    Raises
    ------
    UserError
        The file cannot be written; what was there before is kept.
    """
    frame = cells.frame
    middle = [name for name in frame.columns if name not in (*_FIRST, *_LAST)]
    named = frame.assign(image=frame["image"].map(image_names))
    last = named[_LAST]
    if counting is not None:
        last.insert(0, "counts", counting.reindex(frame.index))
    parts = [named[[*_FIRST, *middle]], last]
    if more is not None:
        parts.insert(1, more.reindex(frame.index))
    _write(path, pd.concat(parts, axis=1).rename_axis("cell_id").reset_index())


def write_clusters(
    path: Path | str,
    cells: CellTable,
    image_names: Mapping[int, str],
    cell_id: NDArray[np.int64],
    map2d: NDArray[np.float32],
    latent: NDArray[np.float32],
    cluster_names: Mapping[int, str],
) -> None:
    """Write the cells of the map: cell_id, image, condition, cluster, label, cluster_name, …, map_x, map_y, latent_1…

    Parameters
    ----------
    cell_id
        (N,) ids of the cells on the map; ids that are no longer in the table are left out.
    map2d, latent
        (N, 2) and (N, D) coordinates of them.
    cluster_names
        What the user calls each cluster.

    Raises
    ------
    UserError
        The file cannot be written; what was there before is kept.
    """
    still = np.isin(cell_id, cells.frame.index)
    rows = cells.frame.loc[cell_id[still]]
    table = rows[["image", "condition", "cluster", "label"]].assign(image=rows["image"].map(image_names))
    table["cluster_name"] = rows["cluster"].map(lambda number: cluster_names.get(number, ""))
    table[["map_error", "map_isolation"]] = rows[["map_error", "map_isolation"]]
    table[["map_x", "map_y"]] = map2d[still]
    columns = [f"latent_{n + 1}" for n in range(latent.shape[1])]
    numbers = pd.DataFrame(latent[still], columns=columns, index=table.index)
    _write(path, pd.concat([table, numbers], axis=1).rename_axis("cell_id").reset_index())


def write(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``cells.csv``, and ``clusters.csv`` where there is a map; ``out`` may be a ``.csv`` for the cells alone.

    Raises
    ------
    UserError
        A file cannot be written, or an original of several channels is gone.
    """
    path = one_file(out, "cells.csv")
    names = {record.image_id: record.name for record in content.records}
    sizes = {record.image_id: record.pixel_size_um for record in content.records}
    channels = yield from by_channel(content)
    table, stored = CellTable(content.cells), content.embedding
    more = pd.concat([in_micrometres(content.cells, sizes), channels.reindex(content.cells.index)], axis=1)
    write_cells(path, table, names, more, content.counting)
    if path == out or stored is None:
        return (path,)
    placed = (stored.cell_id, stored.map2d, stored.latent)
    write_clusters(out / "clusters.csv", table, names, *placed, stored.cluster_names)
    return (path, out / "clusters.csv")


def write_outliers(path: Path | str, cells: CellTable, image_names: Mapping[int, str]) -> None:
    """Write cell_id, score, reasons, and where the cell is; the most suspicious first.

    Raises
    ------
    UserError
        The file cannot be written; what was there before is kept.
    """
    frame = cells.frame
    table = pd.DataFrame(
        {
            "score": frame["score"],
            "reasons": frame["flags"],
            "image": frame["image"].map(image_names),
            "condition": frame["condition"],
            "label": frame["label"],
            "verdict": frame["verdict"],
        }
    )
    _write(path, table.sort_values("score", ascending=False, kind="stable").reset_index())


HEADER = b"file,reason\n"
"""How errors.csv begins."""


def write_errors(path: Path | str, failed: Iterable[tuple[str, str]]) -> None:
    """Write what could not be done: file, reason.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    rows = [(file, reason.removeprefix(f"{file}: ")) for file, reason in failed]
    _write(path, pd.DataFrame(rows, columns=["file", "reason"]))


def _write(path: Path | str, table: pd.DataFrame) -> None:
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.7g")
    write_atomic(path, lambda file: file.write(text.encode()))


FORMAT = Format(
    name="csv",
    title="Tables (CSV)",
    ending="cells.csv",
    lossless=False,
    cannot_hold="masks",
    write=write,
    aliases=("table", "tables", "cells.csv"),
)
