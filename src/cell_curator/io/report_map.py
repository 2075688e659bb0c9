"""The part of a report that judges the map: conditions tested by image, scores with their controls, warnings.

Takes what was computed and makes words and pictures of it; computes nothing itself.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cell_curator.core.colors import cluster_color, to_hex
from cell_curator.core.comparison import Comparison
from cell_curator.core.honesty import HonestyRow
from cell_curator.core.permutation import p_text
from cell_curator.core.size_study import SizeStudy
from cell_curator.core.trend import TrendTest, rho_text
from cell_curator.io.drawing import Drawing
from cell_curator.io.figures import composition_figure, sizes_figure

_TELLING = 0.33  # Cliff's delta from which a measurement is said to set a cluster apart: no small effect
_MOST_SAID = 3
_MOST_COLUMNS = 6  # conditions; of more, the table of shares is long enough in itself


@dataclass(frozen=True)
class ReportJudged:
    """What speaks for and against the map.

    ``set_apart`` is the table of `core.cluster_reading.separating_measurements`, ``stability`` the Jaccard index by
    cluster, ``notes`` what a person wrote about clusters, ``split`` how cells were held back in learning.
    """

    comparison: Comparison
    honesty: tuple[HonestyRow, ...]
    warnings: tuple[str, ...]
    set_apart: pd.DataFrame
    stability: Mapping[int, float]
    names: Mapping[int, str]
    notes: Mapping[int, str]
    sizes: SizeStudy | None = None
    split: str = ""


def judged_part(judged: ReportJudged | None) -> dict[str, Any]:
    """What the template shows."""
    if judged is None or not judged.comparison.tests:
        return {"judged": None}
    made = judged.comparison
    return {
        "judged": {
            "warnings": judged.warnings,
            "refused": made.refused,
            "how": _how(made),
            "conditions": [name or "(no condition)" for name in made.conditions],
            "wide": len(made.conditions) > _MOST_COLUMNS,
            "tests": [_test_row(judged, index) for index in range(len(made.tests))],
            "trend": _trend(made),
            "sentences": _sentences(made),
            "figure": _source(composition_figure(made, judged.names)) if len(made.conditions) > 1 else "",
            "honesty": [(row.what, row.space, row.split, _value(row.value)) for row in judged.honesty],
            "split": judged.split,
            "clusters": [_cluster_row(judged, test.cluster) for test in made.tests],
            "sizes": "" if judged.sizes is None else _source(sizes_figure(judged.sizes)),
            "sizes_said": "" if judged.sizes is None else judged.sizes.why,
        }
    }


def _how(made: Comparison) -> str:
    if made.refused:
        return ""
    many = f"all {made.arrangements:,}" if made.exact else f"{made.arrangements:,} random"
    units = ", ".join(f"{name or '(no condition)'}: {count}" for name, count in made.units.items())
    return (
        f"Tested by exchanging whole {made.unit}s between conditions ({units}), {many} arrangements; p is the share of "
        f"them that separate the conditions as far, corrected for the number of clusters after {made.correction}. "
        f"Composition as a whole: p {p_text(made.p)}."
    )


def _sentences(made: Comparison) -> list[str]:
    said = [*(test.sentence for test in made.tests), *(test.sentence for test in _trends(made))]
    return [sentence for sentence in said if sentence]


def _trends(made: Comparison) -> tuple[TrendTest, ...]:
    return () if made.trend is None else made.trend.tests


def _trend(made: Comparison) -> str:
    if made.trend is None:
        return ""
    many = f"all {made.trend.arrangements:,}" if made.trend.exact else f"{made.trend.arrangements:,} random"
    return (
        f"Conditions are amounts, {' < '.join(made.trend.doses)}: whether the share of a cluster rises or falls with "
        f"them was tested by rank correlation (Spearman) over {made.unit}s, {many} arrangements, corrected after Holm."
    )


def _test_row(judged: ReportJudged, index: int) -> dict[str, Any]:
    made = judged.comparison
    test = made.tests[index]
    cells = [
        {
            "share": f"{100 * share:.1f} %",
            "range": "" if low == high else f"{100 * low:.0f}–{100 * high:.0f} %",
            "count": int(count),
        }
        for share, (low, high), count in zip(test.shares, test.ranges, made.counts[index], strict=True)
    ]
    return {
        "name": _name(judged, test.cluster),
        "color": to_hex(cluster_color(test.cluster)),
        "cells": cells,
        "p": p_text(test.p),
        "q": p_text(test.q),
        "effect": "–" if math.isnan(test.effect) else f"{test.word} ({test.effect:.2f})".replace("-", "−"),
        "trend": [(rho_text(one.rho), p_text(one.q)) for one in _trends(made)[index : index + 1]],
    }


def _cluster_row(judged: ReportJudged, number: int) -> dict[str, Any]:
    own = judged.set_apart[judged.set_apart["cluster"] == number]
    own = own[own["delta"].abs() >= _TELLING].head(_MOST_SAID)
    said = [
        f"{'higher' if row['delta'] > 0 else 'lower'} {str(row['measurement']).replace('_', ' ')} "
        f"({row['inside']:.3g} against {row['outside']:.3g})"
        for row in own.to_dict("records")
    ]
    stable = judged.stability.get(number, math.nan)
    return {
        "name": _name(judged, number),
        "color": to_hex(cluster_color(number)),
        "apart": "; ".join(said) or "no measurement by much",
        "stable": "–" if math.isnan(stable) else f"{stable:.2f}",
        "note": judged.notes.get(number, ""),
    }


def _name(judged: ReportJudged, number: int) -> str:
    return judged.names.get(number, f"Cluster {number + 1}")


def _value(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return (f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}").replace("-", "−")


def _source(drawing: Drawing) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing.svg().encode()).decode()}"
