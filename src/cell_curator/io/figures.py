"""The figures of a map: cells by cluster, conditions by image, sizes of cells, samples, features.

Arrays in, `Drawing` out. Colours are those of the window: of a cluster by its number, of a condition by its
place in their order. Nothing is computed here but where things stand on the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.cluster_reading import Densities
from cell_curator.core.colors import RGB, cluster_color, condition_colors, to_hex
from cell_curator.core.comparison import Comparison
from cell_curator.core.permutation import p_text
from cell_curator.core.size_study import Histogram, SizeStudy
from cell_curator.core.trend import rho_text
from cell_curator.io.drawing import INK, LINE, SOFT, Drawing
from cell_curator.io.pictures import patch_picture, scatter

_MOST_DOTS = 4000  # beyond, an SVG of dots is slow to open; then the dots are one picture in it
_NAME = 26  # letters of a name that are shown
_FEATURES = 16
_MOST_CONDITIONS = 12
_MOST_FILLED = 3  # histograms over one another; more are mud, and only their curves are drawn
_UNITS = {"area": "px²", "height": "px", "width": "px"}


def map_figure(
    map2d: NDArray[np.float32], colors: NDArray[np.float32], legend: Sequence[tuple[str, str, int]], title: str
) -> Drawing:
    """All cells on the map.

    Parameters
    ----------
    map2d, colors
        (N, 2) and (N, 4) RGBA.
    legend
        (name, colour, number of cells).
    """
    drawing = Drawing(860, 620)
    drawing.text(20, 30, title, 16)
    side = 570
    if len(map2d) > _MOST_DOTS:
        drawing.picture(20, 42, side, side - 10, scatter(map2d, colors, width=2 * side, height=2 * (side - 10)))
    elif len(map2d):
        low, high = map2d.min(axis=0), map2d.max(axis=0)
        scale = np.maximum(high - low, 1e-9) / (side - 24)
        order = np.random.default_rng(0).permutation(len(map2d))  # so that no group hides another
        radius = float(np.clip(60 / np.sqrt(len(map2d)), 1.6, 5))
        for index in order:
            x, y = (map2d[index] - low) / scale
            drawing.dot(32 + x, 42 + side - 12 - y - 10, radius, _hex(colors[index]), 0.85)
    for row, (name, color, count) in enumerate(legend[:24]):
        y = 70 + 22 * row
        drawing.rect(620, y - 10, 12, 12, color)
        drawing.text(640, y, _short(name), 13)
        drawing.text(850, y, f"{count}", 13, SOFT, "end")
    return drawing


def composition_figure(made: Comparison, names: Mapping[int, str]) -> Drawing:
    """A panel for each cluster: a dot for each image or well, a bar for the mean of its condition, and p."""
    wide = max(26 * len(made.conditions) + 70, 150)
    across = max(min(len(made.tests), 900 // wide), 1)
    down = -(-max(len(made.tests), 1) // across)
    per_row = max(across * wide // 150, 1)
    named = min(-(-len(made.conditions) // per_row), 4)
    drawing = Drawing(wide * across + 40, 70 + 220 * down + 16 * named)
    drawing.text(20, 28, f"Share of each {made.unit}'s cells in a cluster", 16)
    drawing.text(20, 46, f"one dot an {made.unit}" if made.unit == "image" else f"one dot a {made.unit}", 12, SOFT)
    for index, test in enumerate(made.tests):
        left, top = 50 + wide * (index % across), 84 + 220 * (index // across)
        shares = made.unit_shares[:, index]
        most = max(float(shares.max(initial=0)), 0.05)
        most = next(step for step in (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, np.inf) if step >= most or step == np.inf)
        most = min(most, 1.0)
        drawing.text(left, top - 14, _short(names.get(test.cluster, f"Cluster {test.cluster + 1}"), wide // 8), 13)
        for step in (0.0, 0.5, 1.0):
            y = top + 130 * (1 - step)
            drawing.line([(left, y), (left + wide - 40, y)], LINE)
            drawing.text(left - 4, y + 4, f"{100 * step * most:.3g} %", 9, SOFT, "end")
        for column, condition in enumerate(made.conditions):
            x = left + 20 + 26 * column
            own = shares[made.unit_conditions == condition]
            y = top + 130 * (1 - float(test.shares[column]) / most)
            drawing.rect(x - 8, y, 16, top + 130 - y, to_hex(cluster_color(test.cluster)), 0.45)
            spread = np.linspace(-5, 5, len(own)) if len(own) > 1 else np.zeros(len(own))
            for at, value in zip(spread, own, strict=True):
                drawing.dot(x + float(at), top + 130 * (1 - float(value) / most), 2.4, INK, 0.8)
            drawing.text(x, top + 146, str(column + 1), 10, SOFT, "middle")
        said = f"p {p_text(test.q)} ({made.correction}), {test.word}" if not np.isnan(test.p) else "not tested"
        drawing.text(left, top + 164, said, 10, SOFT)
        if made.trend is not None:
            trend = made.trend.tests[index]
            drawing.text(left, top + 177, f"trend {rho_text(trend.rho)}, p {p_text(trend.q)}", 10, SOFT)
    for column, condition in enumerate(made.conditions[: named * per_row]):
        row, place = divmod(column, per_row)
        words = f"{column + 1}  {_short(condition or '(no condition)', 20)}"
        drawing.text(50 + 150 * place, 74 + 220 * down + 16 * row, words, 10, SOFT)
    return drawing


def sizes_figure(study: SizeStudy) -> Drawing:
    """Histogram, smooth curve and box plot of area, height and width for each condition."""
    colors = condition_colors(made.condition for made in study.histograms)
    every = list(colors)
    conditions = every[:_MOST_CONDITIONS]
    quantities = list(dict.fromkeys(made.quantity for made in study.histograms))
    drawing = Drawing(30 + 300 * len(quantities), 300 + 22 * len(conditions))
    drawing.text(20, 28, "Sizes of cells", 16)
    left_out = f" (the first {len(conditions)} of {len(every)} conditions)" if len(every) > len(conditions) else ""
    drawing.text(20, 46, study.why + (f"; {study.cut}" if study.cut else "") + left_out, 12, SOFT)
    for column, quantity in enumerate(quantities):
        own = [made for made in study.histograms if made.quantity == quantity and made.condition in conditions]
        _size_panel(drawing, 30 + 300 * column, own, colors)
    return drawing


def _size_panel(drawing: Drawing, left: float, own: Sequence[Histogram], colors: Mapping[str, RGB]) -> None:
    top, wide, tall = 70.0, 260.0, 150.0
    low, high = float(own[0].edges[0]), float(own[0].edges[-1])
    step = float(own[0].edges[1] - own[0].edges[0])
    most = max(float((h.counts / max(h.counts.sum(), 1)).max()) for h in own)

    def x(value: float) -> float:
        return left + wide * float(np.clip((value - low) / max(high - low, 1e-9), 0, 1))

    for made in own:
        color = to_hex(colors[made.condition])
        share = made.counts / max(made.counts.sum(), 1)
        for edge, value in zip(made.edges[:-1], share, strict=True) if len(own) <= _MOST_FILLED else ():
            height = tall * float(value) / most
            drawing.rect(x(float(edge)), top + tall - height, wide / len(share), height, color, 0.25)
        inside = (made.grid >= low) & (made.grid <= high)
        curve = np.minimum(made.density[inside] * step / most, 1.05)
        drawing.line([(x(v), top + tall - tall * d) for v, d in zip(made.grid[inside], curve, strict=True)], color, 1.6)
    drawing.line([(left, top + tall), (left + wide, top + tall)], SOFT)
    for value in np.linspace(low, high, 5):
        drawing.text(x(float(value)), top + tall + 14, f"{value:.0f}", 9, SOFT, "middle")
    quantity = own[0].quantity
    drawing.text(left + wide / 2, top + tall + 30, f"{quantity} ({_UNITS[quantity]})", 11, INK, "middle")
    for row, made in enumerate(own):
        y, color = top + tall + 50 + 22 * row, to_hex(colors[made.condition])
        a, b, c, d, e = (x(value) for value in made.box)
        drawing.line([(a, y), (e, y)], color, 1.2)
        drawing.rect(b, y - 6, max(d - b, 1), 12, color, 0.6)
        drawing.line([(c, y - 6), (c, y + 6)], INK, 1.6)
        drawing.text(left, y - 8, _short(made.condition or "(no condition)"), 9, SOFT)


def samples_figure(
    rows: Sequence[tuple[str, int, Sequence[NDArray[np.float32]], NDArray[np.float32] | None]], title: str
) -> Drawing:
    """A row of patches for each cluster: (name, number, patches, what the network paints of its middle or None)."""
    side, gap = 72, 5
    # one brightness for all, or a dim cluster would look like a bright one
    white = max([float(np.quantile(p, 0.995)) for _, _, patches, _ in rows for p in patches], default=1.0)
    most = max((len(patches) for _, _, patches, _ in rows), default=0)
    painted = any(middle is not None for _, _, _, middle in rows)
    drawing = Drawing(170 + (side + gap) * (most + painted) + 30, 60 + (side + gap) * max(len(rows), 1))
    drawing.text(20, 28, title, 16)
    for index, (name, number, patches, middle) in enumerate(rows):
        y = 46 + (side + gap) * index
        drawing.rect(20, y, 6, side, to_hex(cluster_color(number)))
        drawing.text(34, y + side / 2, _short(name, 18), 13)
        for column, patch in enumerate(patches):
            drawing.picture(170 + (side + gap) * column, y, side, side, patch_picture(patch / max(white, 0.05), 144))
        if middle is not None:
            drawing.picture(185 + (side + gap) * most, y, side, side, patch_picture(middle / max(white, 0.05), 144))
    if painted:
        drawing.text(185 + (side + gap) * most, 40, "painted middle", 10, SOFT)
    return drawing


def correlation_figure(numbers: Sequence[int], table: NDArray[np.float64], names: Mapping[int, str]) -> Drawing:
    """How alike the mean features of clusters are, blue alike to orange opposite."""
    cell = 44
    drawing = Drawing(220 + cell * len(numbers), 90 + cell * len(numbers) + 20)
    drawing.text(20, 28, "How alike clusters are in the learned features", 16)
    drawing.text(20, 46, "correlation of their means: 1 alike, −1 opposite", 12, SOFT)
    for row, number in enumerate(numbers):
        drawing.text(196, 70 + cell * row + cell / 2 + 4, _short(names.get(number, ""), 24), 12, INK, "end")
        drawing.text(206 + cell * (row + 0.5), 70 + cell * len(numbers) + 16, str(number + 1), 11, SOFT, "middle")
        for column in range(len(numbers)):
            value = float(table[row, column])
            color = "#0072b2" if value >= 0 else "#d55e00"
            x, y = 206 + cell * column, 70 + cell * row
            drawing.rect(x, y, cell - 2, cell - 2, color, max(min(abs(value), 1.0) * 0.75, 0.03))
            drawing.text(x + cell / 2 - 1, y + cell / 2 + 4, f"{value:.2f}".replace("-", "−"), 11, INK, "middle")
    return drawing


def densities_figure(made: Densities, names: Mapping[int, str], order: Sequence[int]) -> Drawing:
    """How each cluster spreads along each feature; ``order`` are the features, the most telling first."""
    shown = list(order)[:_FEATURES]
    drawing = Drawing(40 + 210 * 4, 96 + 130 * -(-max(len(shown), 1) // 4))
    drawing.text(20, 28, "Learned features by cluster", 16)
    for column, number in enumerate(made.clusters[:8]):
        drawing.rect(20 + 105 * column, 40, 10, 10, to_hex(cluster_color(number)))
        drawing.text(34 + 105 * column, 49, _short(names.get(number, ""), 13), 11)
    for index, feature in enumerate(shown):
        left, top = 20 + 210 * (index % 4), 80 + 130 * (index // 4)
        grid, curves = made.grid[feature], made.density[feature]
        most = max(float(curves.max(initial=0)), 1e-12)
        span = max(float(grid[-1] - grid[0]), 1e-12)
        for number, curve in zip(made.clusters, curves, strict=True):
            points = [
                (left + 190 * float(v - grid[0]) / span, top + 80 - 76 * float(d) / most)
                for v, d in zip(grid, curve, strict=True)
            ]
            drawing.line(points, to_hex(cluster_color(number)), 1.5)
        drawing.line([(left, top + 80), (left + 190, top + 80)], SOFT)
        drawing.text(left, top + 94, f"{grid[0]:.1f}".replace("-", "−"), 9, SOFT)
        drawing.text(left + 190, top + 94, f"{grid[-1]:.1f}", 9, SOFT, "end")
        drawing.text(left + 95, top + 94, f"feature {feature + 1}", 10, INK, "middle")
    return drawing


def _hex(rgba: NDArray[Any]) -> str:
    r, g, b = (float(v) for v in rgba[:3])
    return to_hex((r, g, b))


def _short(name: str, letters: int = _NAME) -> str:
    return name if len(name) <= letters else name[: letters - 1] + "…"
