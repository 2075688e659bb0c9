"""The report of a project: one HTML file that can be mailed, printed and opened without network.

Takes what is to be shown as a `ReportContent` and writes it; it computes nothing but counts
and shares, and knows neither session nor viewer. Pictures are embedded, no script runs, and
every text (file names above all) is escaped by the template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress
from cell_curator.core.parameters import Parameters
from cell_curator.io import report_parts as parts
from cell_curator.io.atomic import write_atomic
from cell_curator.io.report_map import ReportJudged, judged_part
from cell_curator.io.report_review import ReportReview, review_part


@dataclass(frozen=True)
class ReportImage:
    """One image of the project; ``note`` is what the user should know of it."""

    image_id: int
    name: str
    condition: str
    state: str
    note: str = ""
    pixel_size_um: float | None = None


@dataclass(frozen=True)
class ReportMap:
    """The map: ``cell_id`` (N,), ``latent`` (N, D), ``map2d`` (N, 2), and how it was clustered.

    ``clustering`` holds method, space, k, scores, names and notes, as the project stores them.
    """

    cell_id: NDArray[np.int64]
    latent: NDArray[np.float32]
    map2d: NDArray[np.float32]
    clustering: Mapping[str, Any]


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report shows.

    Parameters
    ----------
    cells
        Frame of `core.cells.CellTable`.
    look
        Prepared image (Y, X) float32 in 0..1 and label image (Y, X) int32 of an image id.
    patches
        Patches (P, P) float32 in 0..1 by cell id, for the ids asked for.
    failed
        (file or image, reason).
    """

    title: str
    made: str
    cells: pd.DataFrame
    images: tuple[ReportImage, ...]
    look: Callable[[int], tuple[NDArray[np.float32], NDArray[np.int32]]]
    patches: Callable[[list[int]], Mapping[int, NDArray[np.float32]]]
    map: ReportMap | None = None
    failed: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    parameters: tuple[tuple[str, Parameters], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    review: ReportReview | None = None
    judged: ReportJudged | None = None


def write_report(path: Path | str, content: ReportContent) -> Job[Path]:
    """Write ``content`` as one self-contained HTML file.

    Raises
    ------
    UserError
        The file cannot be written; what was there before is kept.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    yield Progress(0.0, "report: tables")
    context = parts.tables(content) | review_part(content.review)
    yield Progress(0.1, "report: map")
    context |= parts.map_part(content) | judged_part(content.judged)
    yield Progress(0.3, "report: example cells")
    context |= parts.cell_part(content)
    yield Progress(0.6, "report: images")
    context["overlays"] = []
    shown = parts.spread(content.images)
    for index, image in enumerate(shown):
        yield Progress(0.6 + 0.4 * index / len(shown), f"report: {image.name}")
        context["overlays"].append(parts.overlay(content, image))
    loader = PackageLoader("cell_curator.io", "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    text = environment.get_template("report.html").render(context)
    write_atomic(path, lambda file: file.write(text.encode()))
    return Path(path)
