"""Speed of the Cellpose U-Net engine against stock Cellpose 3 with the same weights and diameters.

    python benchmarks/segment_starter.py [--quick] [--images DIR --labels DIR] [--model PATH]

Prints a list of two figures as its last line: seconds per image (stock / ours, medians of alternating
runs, goal 2 times) and mean AP@0.5 of both, which must not differ for the first to mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import imageio.v3 as imageio
import numpy as np
import tifffile

from cell_curator.core.jobs import drive
from cell_curator.core.scores import evaluate
from cell_curator.engines.cards import find_model
from cell_curator.engines.network import load_network
from cell_curator.engines.segmenter import SegmentParameters, segment_image

DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "dsb2018"
HELD_OUT = Path(__file__).parents[1] / "training" / "starter_validation_ids.json"


def read(images: Path, labels: Path, names: list[str]) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Gray image, label image and true median diameter of each name."""
    scenes = []
    for name in names:
        image = imageio.imread(images / f"{name}.png")
        gray = image[..., :3].mean(axis=2) if image.ndim == 3 else image
        truth = tifffile.imread(labels / f"{name}.tif").astype(np.int32)
        areas = np.bincount(truth.ravel())[1:]
        scenes.append((gray.astype(np.float32), truth, 2 * float(np.sqrt(np.median(areas[areas > 0]) / np.pi))))
    return scenes


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true", help="a few images")
    ask.add_argument("--images", type=Path, default=DATA / "images")
    ask.add_argument("--labels", type=Path, default=DATA / "labels")
    ask.add_argument("--model", default="starter-nuclei")
    args = ask.parse_args()
    from cellpose.models import CellposeModel

    held = set(json.loads(HELD_OUT.read_text()))
    names = sorted(path.stem for path in args.images.glob("*.png"))
    names = [name for name in names if name in held] or names
    scenes = read(args.images, args.labels, names[:: 15 if args.quick else 4])
    weights = find_model(args.model)
    stock = CellposeModel(pretrained_model=str(weights))
    load_network(weights)

    def ours(gray: np.ndarray, diameter: float) -> np.ndarray:
        params = SegmentParameters(model=str(weights), diameter=diameter, polarity="bright")
        return drive(segment_image(gray, params)).labels

    def theirs(gray: np.ndarray, diameter: float) -> np.ndarray:
        return stock.eval(gray, channels=[0, 0], diameter=diameter)[0].astype(np.int32)

    runs = {"ours": ours, "reference": theirs}
    for run in runs.values():
        run(scenes[0][0], scenes[0][2])  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    scores: dict[str, list[float]] = {name: [] for name in runs}
    for gray, truth, diameter in scenes:
        for name, run in runs.items():
            start = time.perf_counter()
            found = run(gray, diameter)
            seconds[name].append(time.perf_counter() - start)
            scores[name].append(evaluate(found, truth).ap[0.5])
    ratio = float(np.median(seconds["reference"]) / np.median(seconds["ours"]))
    ap = {name: round(float(np.mean(values)), 4) for name, values in scores.items()}
    speed = {name: round(float(np.median(values)), 3) for name, values in seconds.items()}
    figures = [
        {"name": "seconds per image", **speed, "ratio": round(ratio, 2), "goal": 2, "met": ratio >= 2},
        {
            "name": "AP@0.5, true diameters",
            **ap,
            "ratio": round(ap["ours"] / max(ap["reference"], 1e-9), 3),
            "goal": 0.98,
            "met": ap["ours"] >= 0.98 * ap["reference"],
            "images": len(scenes),
        },
    ]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
