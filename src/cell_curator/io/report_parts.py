"""The parts of a report: counts, shares and pictures, as plain values for the template.

One function for each part, called by `report.write_report`. Nothing is written here and no HTML
is made here; texts leave as they came, since the template escapes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from cell_curator.core.cluster_reading import at_random, nearest_to_center
from cell_curator.core.colors import NOISE_COLOR, VERDICT_COLORS, cluster_color, cluster_rgba, to_hex
from cell_curator.core.doses import in_order
from cell_curator.core.parameters import describe
from cell_curator.io.pictures import data_uri, outlined, patch_picture, scatter

if TYPE_CHECKING:
    from cell_curator.io.report import ReportContent, ReportImage, ReportMap

MAX_OVERLAYS = 24
"""Images shown with outlines; all are counted in the table."""

SAMPLES = 7
"""Patches shown of each cluster: so many nearest to its middle, and as many drawn at random."""

MAX_CLUSTERS_SAMPLED = 20
OUTLIERS = 12
MAX_SMALL_MAPS = 16
_MAX_COLUMNS = 6

_NO_CONDITION = "(no condition)"

# ---------------------------------------------------------------------- counts


def tables(content: ReportContent) -> dict[str, Any]:
    """Counts of images, conditions and cells, the parameters and the versions."""
    cells = content.cells
    conditions = _conditions(content)
    flagged = cells["flags"] != ""
    clustered = cells["cluster"] >= 0
    return {
        "title": content.title,
        "made": content.made,
        "notes": content.notes,
        "failed": [(file, reason.removeprefix(f"{file}: ")) for file, reason in content.failed],
        "numbers": [
            (len(content.images), "images"),
            (len(conditions), "conditions" if len(conditions) != 1 else "condition"),
            (len(cells), "cells"),
            (int(flagged.sum()), "flagged for a look"),
            (cells.loc[clustered, "cluster"].nunique(), "clusters"),
        ],
        "funnel": _funnel(content),
        "conditions": [_condition_row(content, name) for name in conditions],
        "images": [_image_row(content, image) for image in content.images],
        "verdicts": [
            {"name": name, "count": count, "color": to_hex(VERDICT_COLORS[name])}
            for name, count in Counter(cells["verdict"]).most_common()
        ],
        "parameters": [(title, rows) for name, p in content.parameters for title, rows in _values(name, p)],
        "versions": list(content.versions.items()),
    }


def _conditions(content: ReportContent) -> list[str]:
    """Conditions in their order."""
    return in_order(image.condition for image in content.images)


def _funnel(content: ReportContent) -> list[dict[str, Any]]:
    cells = content.cells
    on_map = len(content.map.cell_id) if content.map is not None else 0
    steps = [
        ("Cells found", len(cells), "#4c6a92"),
        ("Flagged as unusual, worth a look", int((cells["flags"] != "").sum()), "#d58a00"),
        ("Rejected by hand", int((cells["verdict"] == "rejected").sum()), to_hex(VERDICT_COLORS["rejected"])),
        ("On the map", on_map, "#4c6a92"),
        ("In a cluster", int((cells["cluster"] >= 0).sum()), "#4c6a92"),
    ]
    whole = max(len(cells), 1)
    return [
        {"name": name, "count": count, "percent": 100 * count / whole, "color": color} for name, count, color in steps
    ]


def _condition_row(content: ReportContent, condition: str) -> dict[str, Any]:
    images = [image for image in content.images if image.condition == condition]
    rows = content.cells[content.cells["condition"] == condition]
    per_image = [int((rows["image"] == image.image_id).sum()) for image in images]
    sizes = {image.pixel_size_um for image in images}
    size = sizes.pop() if len(sizes) == 1 else None
    area = float(rows["area"].median()) if len(rows) else float("nan")
    return {
        "name": condition or _NO_CONDITION,
        "images": len(images),
        "cells": len(rows),
        "per_image": f"{np.median(per_image):.0f} ({min(per_image)}–{max(per_image)})",
        "area": "–" if np.isnan(area) else f"{area * size**2:.0f} µm²" if size else f"{area:.0f} px",
        "flagged": _percent(int((rows["flags"] != "").sum()), len(rows)),
    }


def _image_row(content: ReportContent, image: ReportImage) -> dict[str, Any]:
    rows = content.cells[content.cells["image"] == image.image_id]
    return {
        "name": image.name,
        "condition": image.condition or _NO_CONDITION,
        "cells": len(rows),
        "flagged": int((rows["flags"] != "").sum()),
        "rejected": int((rows["verdict"] == "rejected").sum()),
        "state": image.state,
        "note": image.note,
    }


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def _values(title: str, model: BaseModel) -> list[tuple[str, list[tuple[str, str]]]]:
    """(heading, [(parameter, value with unit)]) of a model; nested models are headings of their own."""
    own = [(info.title, _text(getattr(model, info.name), info.unit)) for info in describe(type(model))]
    if getattr(model, "enabled", True) is False:
        own = own[:1]  # a step that is off needs no values
    nested = [
        (f"{title}: {name.replace('_', ' ')}", value)
        for name, value in ((name, getattr(model, name)) for name in type(model).model_fields)
        if isinstance(value, BaseModel)
    ]
    if nested:
        own = []  # a recipe has nothing of its own but the version of its format
    parts = [(title, own)] if own else []
    for name, value in nested:
        parts += _values(name, value)
    return parts


def _text(value: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value} {unit}".strip()


# ---------------------------------------------------------------------- map and clusters


def map_part(content: ReportContent) -> dict[str, Any]:
    """Pictures of the map, the clusters with their scores, and clusters by condition."""
    if content.map is None or not len(content.map.cell_id):
        return {"map": None, "clusters": [], "cluster_tables": None}
    there = np.isin(content.map.cell_id, content.cells.index)
    rows = content.cells.loc[content.map.cell_id[there]]
    points, clusters = content.map.map2d[there], rows["cluster"].to_numpy()
    colors = cluster_rgba(clusters)
    small = []
    conditions = _conditions(content)
    for condition in conditions[:MAX_SMALL_MAPS] if len(conditions) > 1 else []:
        chosen = (rows["condition"] == condition).to_numpy()
        picture = scatter(points, colors, chosen, width=560, height=420, radius=4)
        small.append({
            "name": condition or _NO_CONDITION, "count": int(chosen.sum()), "src": data_uri(picture, "png")
        })  # fmt: skip
    names = _cluster_names(content.map, clusters)
    how = content.map.clustering
    return {
        "map": {
            "src": data_uri(scatter(points, colors), "png"),
            "small": small,
            "cells": len(rows),
            "dimensions": content.map.latent.shape[1],
            "method": how.get("method", ""),
            "space": how.get("space", ""),
            "scores": _scores(how.get("scores", {})),
            "notes": list(how.get("notes", ())),
        },
        "clusters": [
            {
                "number": number,
                "name": name,
                "color": to_hex(cluster_color(number)),
                "count": int((clusters == number).sum()),
                "percent": 100 * float((clusters == number).mean()),
            }
            for number, name in names.items()
        ],
        "cluster_tables": _cluster_tables(content, rows, names),
    }


def _cluster_names(shown: ReportMap, clusters: NDArray[np.int64]) -> dict[int, str]:
    given = shown.clustering.get("names", {})
    numbers = sorted({int(n) for n in clusters if n >= 0})
    names = {n: str(given.get(str(n), f"Cluster {n + 1}")) for n in numbers}
    return names | ({-1: "In no cluster"} if (clusters < 0).any() else {})


def _scores(scores: Mapping[str, float | None]) -> list[tuple[str, str, str]]:
    meaning = {
        "silhouette": ("Silhouette", "−1 to 1, higher is better"),
        "davies_bouldin": ("Davies–Bouldin", "lower is better"),
        "calinski_harabasz": ("Calinski–Harabasz", "higher is better; grows with the number of cells"),
    }
    rows = []
    for key, (title, sense) in meaning.items():
        value = scores.get(key)
        if value is None or not np.isfinite(value):
            text = "undefined"
        else:
            text = f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"
        rows.append((title, text, sense))
    return rows


def _cluster_tables(content: ReportContent, rows: pd.DataFrame, names: Mapping[int, str]) -> dict[str, Any]:
    """Counts of cells by cluster and condition, as shares of both, with the range over images."""
    conditions = _conditions(content)
    shares = {(number, condition): _share(rows, condition, number) for number in names for condition in conditions}
    clusters: list[dict[str, Any]] = [
        {"name": name, "color": _color(n), "count": int((rows["cluster"] == n).sum()), "key": n}
        for n, name in names.items()
    ]
    groups: list[dict[str, Any]] = [
        {"name": c or _NO_CONDITION, "color": "", "count": int((rows["condition"] == c).sum()), "key": c}
        for c in conditions
    ]
    bars = [
        {**group, "parts": [{**cluster, **shares[cluster["key"], group["key"]]} for cluster in clusters]}
        for group in groups
    ]
    wide = len(conditions) > max(_MAX_COLUMNS, len(names))  # many conditions go downwards
    down, across = (groups, clusters) if wide else (clusters, groups)
    lines = [
        {**line, "cells": [shares[(c["key"], line["key"]) if wide else (line["key"], c["key"])] for c in across]}
        for line in down
    ]
    return {"bars": bars, "columns": across, "lines": lines, "corner": "Condition" if wide else "Cluster"}


def _share(rows: pd.DataFrame, condition: str, number: int) -> dict[str, Any]:
    here = rows[rows["condition"] == condition]
    both, inside = int((here["cluster"] == number).sum()), int((rows["cluster"] == number).sum())
    by_image = 100 * (here["cluster"] == number).groupby(here["image"]).mean()
    spread = f"{by_image.min():.0f}–{by_image.max():.0f} %" if len(by_image) > 1 else ""
    return {
        "both": both,
        "of_condition": 100 * both / max(len(here), 1),
        "of_cluster": 100 * both / max(inside, 1),
        "range": spread,
    }


def _color(number: int) -> str:
    return to_hex(cluster_color(number))


# ---------------------------------------------------------------------- cells and images


def cell_part(content: ReportContent) -> dict[str, Any]:
    """Typical patches of each cluster, and the most suspicious cells with their reasons."""
    chosen = _typical(content)
    suspects = content.cells[(content.cells["flags"] != "") & (content.cells["verdict"] != "rejected")]
    suspects = suspects.sort_values("score", ascending=False, kind="stable").head(OUTLIERS)
    drawn = _drawn(content, chosen)
    shown = {i for rows in (chosen, drawn) for ids in rows.values() for i in ids}
    wanted = sorted(shown | set(suspects.index.tolist()))
    patches = content.patches(wanted) if wanted else {}
    pictures = {i: data_uri(patch_picture(patch)) for i, patch in patches.items()}
    names = {image.image_id: image.name for image in content.images}
    labels = {} if content.map is None else _cluster_names(content.map, content.cells["cluster"].to_numpy())
    where = content.cells["image"].map(names)
    return {
        "samples": [
            {
                "name": labels[number],
                "color": _color(number),
                "patches": [{"src": pictures[i], "text": f"cell {i}, {where[i]}"} for i in ids if i in pictures],
                "random": [
                    {"src": pictures[i], "text": f"cell {i}, {where[i]}"} for i in drawn[number] if i in pictures
                ],
            }
            for number, ids in chosen.items()
        ],
        "outliers": [
            {
                "src": pictures[i],
                "text": f"cell {i}, {where[i]}",
                "score": f"{row['score']:.2f}",
                "reasons": [part.strip() for part in row["flags"].split(";") if part.strip()],
            }
            for i, row in zip(suspects.index.tolist(), suspects.to_dict("records"), strict=True)
            if i in pictures
        ],
    }


def _typical(content: ReportContent) -> dict[int, list[int]]:
    """Ids of the cells nearest to the middle of each cluster, by cluster number."""
    if content.map is None:
        return {}
    cluster = content.cells["cluster"].reindex(content.map.cell_id, fill_value=-1).to_numpy()
    numbers = sorted({int(n) for n in cluster if n >= 0})[:MAX_CLUSTERS_SAMPLED]
    return {
        n: content.map.cell_id[nearest_to_center(content.map.latent, cluster, n, SAMPLES)].tolist() for n in numbers
    }


def _drawn(content: ReportContent, typical: Mapping[int, list[int]]) -> dict[int, list[int]]:
    """Ids of cells drawn at random from each cluster, without those that are shown as typical."""
    cluster = content.cells["cluster"].to_numpy()
    result = {}
    for number, known in typical.items():
        others = np.where(content.cells.index.isin(known), -1, cluster)
        result[number] = content.cells.index[at_random(others, number, SAMPLES)].tolist()
    return result


def spread(images: tuple[ReportImage, ...], limit: int = MAX_OVERLAYS) -> list[ReportImage]:
    """At most ``limit`` images, as evenly over all of them as can be."""
    done = [image for image in images if image.state != "failed"]
    if len(done) <= limit:
        return done
    return [done[i] for i in np.linspace(0, len(done) - 1, limit).round().astype(int)]


def overlay(content: ReportContent, image: ReportImage) -> dict[str, Any]:
    """One image with the outlines of its cells."""
    prepared, labels = content.look(image.image_id)
    rows = content.cells[content.cells["image"] == image.image_id]
    mapped = content.map is not None
    colors = {
        int(label): (cluster_color(int(cluster)) if mapped else VERDICT_COLORS[verdict])
        if verdict != "rejected" else NOISE_COLOR
        for label, cluster, verdict in zip(rows["label"], rows["cluster"], rows["verdict"], strict=True)
    }  # fmt: skip
    picture = outlined(prepared, labels, colors)
    return {
        "src": data_uri(picture),
        "name": image.name,
        "condition": image.condition,
        "cells": len(rows),
        "width": picture.shape[1],
        "height": picture.shape[0],
    }
