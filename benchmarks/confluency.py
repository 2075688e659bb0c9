"""How far is the dish covered? K-means cover of phase contrast against masks drawn by hand.

    python benchmarks/confluency.py [--quick] [--images DIR --labels DIR]

Every image counts. Printed are IoU of the mask, area under the ROC curve of its scores, and the mean
absolute error of the percentage in points: as found, and corrected by what the *other* images taught (each left
out once); with groups of pixels made from each image alone, and from all images together. The settings are the
defaults; they were chosen on the sets 1, 4, 7 and 10, so that the details give the other eight apart.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import tifffile

from cell_curator.core.confluency import calibrate, confluency
from cell_curator.core.grey_levels import to_grey
from cell_curator.core.pixel_clusters import KmeansParameters, PixelModel, assign, fit, sample
from cell_curator.core.pixel_scores import mean_absolute_error, pixel_scores

DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "phase_usiigaci"
CHOSEN_ON = ("set1", "set4", "set7", "set10")


def judge(image: Path, labels: Path, params: KmeansParameters, model: PixelModel | None) -> dict[str, float]:
    """Figures of one image, with groups of its own or those of ``model``."""
    grey = to_grey(tifffile.imread(image))
    start = time.perf_counter()
    found = assign(grey, model or fit([sample(grey, params)], params), params)
    took = time.perf_counter() - start
    truth = tifffile.imread(labels) > 0
    scores, said = pixel_scores(found.mask, truth, found.score), confluency(found.mask)
    low, high = said.interval or (0.0, 100.0)
    return {
        "percent": said.percent, "true": 100.0 * float(truth.mean()), "low": low, "high": high,
        "iou": scores.iou, "f1": scores.f1, "auc": scores.auc, "seconds": took,
    }  # fmt: skip


def corrected(rows: list[dict[str, float]]) -> list[float]:
    """Each percentage corrected by the other images."""
    found, true = [row["percent"] for row in rows], [row["true"] for row in rows]
    result = []
    for left in range(len(rows)):
        others = [index for index in range(len(rows)) if index != left]
        taught = calibrate([found[i] for i in others], [true[i] for i in others])
        result.append(taught.corrected(found[left]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--images", type=Path, default=DATA / "images")
    parser.add_argument("--labels", type=Path, default=DATA / "labels")
    options = parser.parse_args()
    pairs = [(path, options.labels / path.name) for path in sorted(options.images.glob("*.tif"))]
    seeds = (0,) if options.quick else (0, 1, 2)
    made: list[dict[str, object]] = []
    for way in ("own groups", "common groups"):
        runs = [run(pairs, KmeansParameters(seed=seed), way) for seed in seeds]
        mean = {key: float(np.mean([one[key] for one in runs])) for key in runs[0]}
        name = f"k-means confluency, {way}"
        made += [
            _figure(f"{name}: mean absolute error, corrected (points)", mean["corrected"], 6.0, less=True),
            _figure(f"{name}: mean absolute error, as found (points)", mean["raw"]),
            _figure(f"{name}: IoU", mean["iou"]),
            _figure(f"{name}: AUC of scores", mean["auc"]),
            _figure(f"{name}: truth within the interval", mean["within"]),
            _figure(f"{name}: seconds an image", mean["seconds"]),
        ]
        made[-6]["details"] = {"images": len(pairs), "seeds": seeds, "of": mean}
    for one in made:
        print(f"{one['name']:74} {one['ours']:<8} goal {one['goal']}")
    print(json.dumps(made))


def run(pairs: list[tuple[Path, Path]], params: KmeansParameters, way: str) -> dict[str, float]:
    """Means over the images for one seed; ``unseen_…`` without those that settings were chosen on."""
    model = None
    if way == "common groups":
        model = fit([sample(to_grey(tifffile.imread(image)), params) for image, _ in pairs], params)
    rows = [judge(image, labels, params, model) for image, labels in pairs]
    for row, fine in zip(rows, corrected(rows), strict=True):
        row["corrected"] = fine
    for (image, _), row in zip(pairs, rows, strict=True):
        print(
            f"{way}, seed {params.seed}, {image.stem:6} true {row['true']:5.1f} %  found {row['percent']:5.1f} "
            f"({row['low']:.1f} to {row['high']:.1f})  corrected {row['corrected']:5.1f}  IoU {row['iou']:.3f}  "
            f"AUC {row['auc']:.3f}  {row['seconds']:.2f} s",
            flush=True,
        )
    unseen = [row for (image, _), row in zip(pairs, rows, strict=True) if image.stem not in CHOSEN_ON]
    result = {key: float(np.mean([row[key] for row in rows])) for key in ("iou", "f1", "auc", "seconds")}
    result["within"] = float(np.mean([row["low"] <= row["true"] <= row["high"] for row in rows]))
    for name, some in (("", rows), ("unseen_", unseen)):
        true = [row["true"] for row in some]
        result[f"{name}iou"] = float(np.mean([row["iou"] for row in some]))
        result[f"{name}raw"] = mean_absolute_error([row["percent"] for row in some], true)
        result[f"{name}corrected"] = mean_absolute_error([row["corrected"] for row in some], true)
    return result


def _figure(name: str, ours: float, goal: float | None = None, *, less: bool = False) -> dict[str, object]:
    met = None if goal is None else (ours <= goal if less else ours >= goal)
    return {"name": name, "ours": round(ours, 4), "reference": None, "ratio": None, "goal": goal, "met": met}


if __name__ == "__main__":
    main()
