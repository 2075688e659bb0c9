"""Types that cells can have, and what is said of each cell: by a person, or by a model with its probability.

A type is a name. The order of the names is that of keys and colours, and is kept with the project. Whether a
word is a person's is told by ``type_probability``: a person gives none.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from cell_curator.core.cells import Coded
from cell_curator.core.colors import RGB, cluster_color
from cell_curator.core.parameters import Parameters

LONGEST = 60
"""Letters of a name, at most."""


class CellTypes(Parameters):
    """Names of the types that cells of a project can have, in order."""

    names: tuple[str, ...] = Field(default=())

    @field_validator("names")
    @classmethod
    def _tidy(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        tidy = tuple(" ".join(name.split()) for name in names)
        if any(not name or len(name) > LONGEST for name in tidy):
            raise ValueError(f"a cell type needs a name of 1 to {LONGEST} letters")
        if len(set(tidy)) < len(tidy):
            raise ValueError("two cell types have the same name")
        return tidy

    def with_names(self, *more: str) -> CellTypes:
        """These and the ones that were not among them, behind."""
        return CellTypes(names=tuple(dict.fromkeys((*self.names, *more))))

    def renamed(self, old: str, new: str) -> CellTypes:
        """With another name in the place of one."""
        return CellTypes(names=tuple(new if name == old else name for name in self.names))

    def color(self, name: str) -> RGB:
        """The colour of a type; grey for one that is not among them."""
        return cluster_color(self.names.index(name) if name in self.names else -1)


def by_hand(frame: pd.DataFrame) -> pd.Series[bool]:
    """Which cells were given their type by a person, for rows of a `cells.CellTable`."""
    return (frame["cell_type"] != "") & frame["type_probability"].isna()


Source = Literal["cells", "conditions"]
"""Where types are known from: cells that a person typed, or conditions each of which holds one type."""


def known_types(frame: pd.DataFrame, source: Source) -> pd.Series[str]:
    """The type of each cell as far as it is known; ``""`` where it is not."""
    return frame["condition"] if source == "conditions" else frame["cell_type"].where(by_hand(frame), "")


def tally(frame: pd.DataFrame, types: CellTypes, coded: Coded | None = None) -> pd.DataFrame:
    """How many cells are of each type: index type, columns ``by_hand`` and ``predicted``; ``""`` for none, last.

    ``coded``: the types of the rows as numbers, where they are at hand, see `cells.CellTable.coded`.
    """
    place, words = coded or pd.factorize(frame["cell_type"].to_numpy())
    known = np.array(words, object)
    names = [*types.with_names(*sorted(set(known) - {""})).names, ""]
    hand = (known != "")[place] & frame["type_probability"].isna().to_numpy()  # as `by_hand`, without comparing texts
    counts = {
        title: pd.Series(np.bincount(place[those], minlength=len(known)), known)
        for title, those in (("by_hand", hand), ("predicted", ~hand))
    }
    return pd.DataFrame({key: count.reindex(names, fill_value=0) for key, count in counts.items()}, index=names)
