"""How far from its population a cell may be, for each thing that may be wrong with it."""

from __future__ import annotations

from typing import Any

from cell_curator.core.parameters import Parameters, parameter


def _evidence(title: str, description: str, *, more: bool = False) -> Any:
    """A threshold on evidence that is weighed from several figures; 2 is where it is balanced."""
    text = f"{description} Evidence asked for; lower finds more."
    return parameter(2.0, title, text, ge=0.5, le=5, step=0.1, more=more)


class OutlierParameters(Parameters):
    """How far from its population a cell may be."""

    size_z: float = parameter(
        3.5,
        "Size range",
        "How far a cell's size or elongation may be from the median of its population.",
        unit="robust σ",
        ge=1,
        le=20,
        step=0.5,
    )
    intensity_z: float = parameter(
        4.0,
        "Intensity range",
        "How far a cell's brightness may be from the median of its image and of its condition.",
        unit="robust σ",
        ge=1,
        le=20,
        step=0.5,
    )
    focus_z: float = parameter(
        3.5,
        "Focus range",
        "How much blurrier than the median of its image and condition a cell may be.",
        unit="robust σ",
        ge=1,
        le=20,
        step=0.5,
    )
    merged: float = _evidence(
        "Several cells in one", "Larger than the others, dented, with a neck, or a dark line between two bright parts."
    )
    cut: float = _evidence(
        "Piece of a cell", "Touches a neighbour along a straight line without a seam; both together look like one cell."
    )
    shifted: float = _evidence(
        "Mask beside the cell", "The outline does not follow the edge of what is in the picture."
    )
    border: bool = parameter(True, "Cut by the border", "Flag cells that touch the border of the image.")
    saturated: float = parameter(
        5.0,
        "Saturated",
        "Share of a cell at the highest grey level.",
        unit="%",
        ge=0.1,
        le=100,
        step=0.5,
        more=True,
    )
    empty: float = _evidence("Background labelled", "Nothing sets the inside apart from what is round it.", more=True)
    inverted: float = _evidence(
        "Inverted",
        "Darker than its surroundings where others are brighter, or the other way round.",
        more=True,
    )
    flow: float = parameter(
        1.0,
        "Flow error",
        "Disagreement of the mask with the flow field of the network that found it.",
        ge=0.05,
        le=10,
        step=0.05,
        more=True,
    )
    overlap: float = parameter(
        20.0,
        "Overlap",
        "Share of a cell's convex outline that other cells cover, as where one object was found twice.",
        unit="%",
        ge=1,
        le=100,
        step=1,
        more=True,
    )
    redraw_z: float = parameter(
        4.0,
        "Hard to redraw",
        "How much worse than the median of its image and condition the network behind the map may redraw a cell.",
        unit="robust σ",
        ge=1,
        le=20,
        step=0.5,
        more=True,
    )
    alone_z: float = parameter(
        4.0,
        "Alone on the map",
        "How much farther than the median of its image and condition a cell may be from the most similar cells.",
        unit="robust σ",
        ge=1,
        le=20,
        step=0.5,
        more=True,
    )
    debris_size: float = parameter(
        0.4,
        "Debris",
        "Round, bright things smaller than this part of the median size count as debris.",
        ge=0,
        le=1,
        step=0.05,
        more=True,
    )
    unlike: float = parameter(
        0.6,
        "Unlike the others",
        "Score of an isolation forest over all figures from which a cell is called unlike the others; 1 finds none.",
        ge=0.5,
        le=1,
        step=0.01,
        more=True,
    )
    min_population: int = parameter(
        8,
        "Smallest population",
        "Images or conditions with fewer cells are compared with all cells instead.",
        unit="cells",
        ge=3,
        le=100,
        more=True,
    )
