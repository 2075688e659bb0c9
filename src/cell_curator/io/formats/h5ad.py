"""AnnData ``.h5ad``: the table of cells for scanpy and its relatives. Written only; it holds no masks.

``X`` are the measurements (px, µm where known, grey levels of each channel), ``obs`` what is said of a cell
(image, condition, label, verdict, flags, cluster, scores), named by cell id. ``obsm["spatial"]`` is its
place in the image (x, y in px), ``obsm["X_map"]`` and ``obsm["X_latent"]`` the map (NaN for cells not on it);
``uns["map"]`` tells how the map and its clusters were made, ``uns["review"]`` which cells count and what an audit
of them gave.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.jobs import Job
from cell_curator.core.measure import MEASURED
from cell_curator.io.atomic import write_error
from cell_curator.io.formats.base import Content, Format, needs, one_file
from cell_curator.io.formats.measurements import by_channel, in_micrometres

FILE = "cells.h5ad"
_LENGTHS = ("y", "x", "top", "left", "bottom", "right", "perimeter", "major_axis", "minor_axis")
_SAID = ("condition", "verdict", "flags", "cell_type")
_SCORES = ("flow_error", "score", "map_error", "map_isolation", "corrected", "type_probability")


def write(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``cells.h5ad``.

    Raises
    ------
    UserError
        anndata is missing, an original of several channels is gone, or the file cannot be written.
    """
    try:
        import anndata  # type: ignore[import-untyped]
    except ImportError:
        raise needs(out, "anndata") from None
    path = one_file(out, FILE)
    cells = content.cells
    channels = yield from by_channel(content)
    sizes = {record.image_id: record.pixel_size_um for record in content.records}
    numbers = cells[[*MEASURED]].astype("float64")
    table = pd.concat([numbers, in_micrometres(cells, sizes), channels.reindex(cells.index)], axis=1)
    data = anndata.AnnData(
        X=table.to_numpy(np.float64),
        obs=_said(content),
        var=pd.DataFrame({"unit": [_unit(str(name)) for name in table.columns]}, index=table.columns.astype(str)),
        uns={"title": content.title, "written_by": "Cell Curator"},
    )
    if content.review:
        data.uns["review"] = json.dumps(content.review, ensure_ascii=False)
    data.obsm["spatial"] = cells[["x", "y"]].to_numpy(np.float64)
    stored = content.embedding
    if stored is not None:
        data.obsm["X_map"] = _placed(cells.index, stored.cell_id, stored.map2d)
        data.obsm["X_latent"] = _placed(cells.index, stored.cell_id, stored.latent)
        made = {"embedding": dict(stored.detail), "clustering": dict(stored.clustering)}
        data.uns["map"] = json.dumps(made, ensure_ascii=False)  # nested lists of mixed kinds are not for HDF5
    _save(data, path)
    return (path,)


def _said(content: Content) -> pd.DataFrame:
    cells = content.cells
    names = {record.image_id: record.name for record in content.records}
    clusters = {} if content.embedding is None else content.embedding.cluster_names
    named = [clusters.get(int(number), "" if number < 0 else f"Cluster {number + 1}") for number in cells["cluster"]]
    said = pd.DataFrame(
        {
            "cell_id": cells.index.to_numpy(),
            "image": pd.Categorical(cells["image"].map(names)),
            "label": cells["label"].to_numpy(),
            "revision": cells["revision"].to_numpy(),
            **{column: pd.Categorical(cells[column]) for column in _SAID},
            **{column: cells[column].to_numpy(np.float64) for column in _SCORES},
            "cluster": pd.Categorical(cells["cluster"].astype(str)),
            "cluster_name": pd.Categorical(named),
        }
    )
    if content.counting is not None:
        said["counts"] = content.counting.reindex(cells.index).to_numpy(bool)
    return said.set_axis(cells.index.astype(str).rename(None), axis=0)


def _placed(index: pd.Index[Any], cell_id: NDArray[np.int64], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of ``points`` in the order of the table, NaN where a cell has none."""
    return pd.DataFrame(points, index=cell_id).reindex(index).to_numpy(np.float32)


def _unit(column: str) -> str:
    if column.endswith("_um2"):
        return "µm²"
    if column.endswith("_um"):
        return "µm"
    if column in _LENGTHS:
        return "px"
    units = {"area": "px²", "orientation_deg": "°"}
    grey = column.endswith("_intensity") or column.startswith(("mean_", "std_", "min_", "max_"))
    return units.get(column, "grey levels" if grey else "")


def _save(data: Any, path: Path) -> None:
    """Write beside, then rename, so that an interrupted export leaves no half file."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.part.h5ad")
    try:
        data.write_h5ad(temporary, compression="gzip")
        os.replace(temporary, path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


FORMAT = Format(
    name="anndata",
    title="AnnData (h5ad)",
    ending=FILE,
    lossless=False,
    cannot_hold="masks",
    write=write,
    aliases=("h5ad", "scanpy"),
)
