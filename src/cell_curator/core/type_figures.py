"""What a cell type is told by: figures made of the measurements of a cell, and its place on the map.

Three kinds, each with all of the one before, and the place on the *map* alone. *Shape* is the outline alone. *Look*
is how grey levels lie in the cell, each compared with the background beside that cell, so that exposure and staining
of an image matter little. *All* are also the grey levels themselves, above the background, whose own level is no
cell's. Figures are never compared with the other cells of an image: where an image holds a single type, that would
take away the very difference that is looked for. Where a cell lies, how it is turned and what it touches say nothing
of its type.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Figures = Literal["shape", "look", "all", "map"]

_SHAPE = ("eccentricity", "solidity", "neck")
_SIZES = ("area", "perimeter", "major_axis", "minor_axis")
_LOOK = (
    "contrast", "texture_contrast", "offset", "edge", "edge_share", "edge_weakest", "lopsided", "core", "halo",
    "two_tone", "fold", "valley",
)  # fmt: skip


def type_figures(frame: pd.DataFrame, kind: Figures, latent: pd.DataFrame | None = None) -> pd.DataFrame:
    """What a classifier sees.

    Parameters
    ----------
    frame
        Rows of a `cells.CellTable`, or what `measure.measure` gives.
    kind
        See the module.
    latent
        Place of cells on the map, by cell id; cells that it lacks have NaN there.

    Returns
    -------
    float64 table, indexed as ``frame``; NaN where something is not known.
    """
    if kind == "map":
        if latent is None:
            raise ValueError("no places on the map were given")
        return latent.reindex(frame.index).astype("float64").replace([np.inf, -np.inf], np.nan)
    columns = {f"log {name}": _log(frame[name]) for name in _SIZES}
    columns |= {name: frame[name].to_numpy(np.float64) for name in _SHAPE}
    columns["roundness"] = _log(frame["area"]) - 2 * columns["log perimeter"]
    columns["elongation"] = columns["log major_axis"] - columns["log minor_axis"]
    above = _log(frame["mean_intensity"] - frame["surround"])
    levels = {
        "spread": _log(frame["std_intensity"]),
        "peak": _log(frame["max_intensity"] - frame["surround"]),
        "grain": _log(frame["grain"]),
    }
    if kind != "shape":
        columns |= {name: frame[name].to_numpy(np.float64) for name in _LOOK}
        columns["log focus"] = _log(frame["focus"])
        columns |= {f"relative {name}": level - above for name, level in levels.items()}
    if kind == "all":
        columns |= {"log brightness": above, **{f"log {name}": level for name, level in levels.items()}}
        columns["saturated"] = frame["saturated"].to_numpy(np.float64)
    table = pd.DataFrame(columns, index=frame.index)
    if latent is not None:
        table = table.join(latent.astype("float64"))
    return table.replace([np.inf, -np.inf], np.nan)


def _log(values: pd.Series[float]) -> NDArray[np.float64]:
    numbers = values.to_numpy(np.float64)
    result: NDArray[np.float64] = np.log(np.where(numbers > 0, numbers, np.nan))
    return result
