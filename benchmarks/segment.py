"""Speed of the Cellpose U-Net engine against stock Cellpose 3: same weights, diameters and thresholds.

    python benchmarks/segment.py [--quick] [--images DIR --labels DIR] [--model PATH]

Prints a list of figures as its last line: seconds per image (stock / ours, medians of runs that
alternate in one process, stock with its default mkldnn path; goal 2.5 times), agreement (AP@0.5 of
our cells against stock's; goal 0.99), AP@0.5 of both against the truth, seconds of moving a
threshold (1024² with at least 300 cells; goal 0.3 s), where our time goes, and the peak memory of an
8192² image (goal 6 GB), measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import imageio.v3 as imageio
import numpy as np
import tifffile

from cell_curator.core.jobs import drive
from cell_curator.core.scores import evaluate
from cell_curator.engines import cellpose_unet, masks
from cell_curator.engines.cards import find_model
from cell_curator.engines.network import Network, load_network
from cell_curator.engines.segmenter import SegmentParameters, rethreshold, segment_image

DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "dsb2018"
HELD_OUT = Path(__file__).parents[1] / "training" / "starter_validation_ids.json"
IMAGES = 30

Scene = tuple[np.ndarray, np.ndarray, float]
"""Gray image, label image, true median diameter (px)."""


def read(images: Path, labels: Path, names: list[str]) -> list[Scene]:
    """The images of these names."""
    scenes = []
    for name in names:
        image = imageio.imread(images / f"{name}.png")
        gray = image[..., :3].mean(axis=2) if image.ndim == 3 else image
        truth = tifffile.imread(labels / f"{name}.tif").astype(np.int32)
        areas = np.bincount(truth.ravel())[1:]
        scenes.append((gray.astype(np.float32), truth, 2 * float(np.sqrt(np.median(areas[areas > 0]) / np.pi))))
    return scenes


def chosen(images: Path, count: int) -> list[str]:
    """Evenly spread names, held-out ones where these are the images that the starter learned from."""
    held = set(json.loads(HELD_OUT.read_text()))
    names = sorted(path.stem for path in images.glob("*.png"))
    names = [name for name in names if name in held] or names
    return [names[i] for i in np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)]


class Clock:
    """Adds up the seconds that functions take, by wrapping them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def over(self, module: Any, name: str, title: str) -> None:
        """Wrap ``module.name``."""
        inner = getattr(module, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                self.seconds[title] = self.seconds.get(title, 0.0) + time.perf_counter() - start

        setattr(module, name, timed)


def compare(scenes: list[Scene], weights: Path, clock: Clock) -> list[dict[str, Any]]:
    """Stock and ours in turn on every image."""
    from cellpose.models import CellposeModel

    stock = CellposeModel(pretrained_model=str(weights))
    load_network(weights)

    def ours(gray: np.ndarray, diameter: float) -> np.ndarray:
        params = SegmentParameters(model=str(weights), diameter=diameter, polarity="bright")
        return drive(segment_image(gray, params)).labels

    def theirs(gray: np.ndarray, diameter: float) -> np.ndarray:
        return stock.eval(gray, channels=[0, 0], diameter=diameter)[0].astype(np.int32)

    runs: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {"ours": ours, "reference": theirs}
    for run in runs.values():
        run(scenes[0][0], scenes[0][2])  # warm up
    clock.seconds.clear()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    scores: dict[str, list[float]] = {name: [] for name in runs}
    same = []
    for gray, truth, diameter in scenes:
        found = {}
        for name, run in runs.items():
            start = time.perf_counter()
            found[name] = run(gray, diameter)
            seconds[name].append(time.perf_counter() - start)
            scores[name].append(evaluate(found[name], truth).ap[0.5])
        same.append(evaluate(found["ours"], found["reference"]).ap[0.5])
    ratio = float(np.median(seconds["reference"]) / np.median(seconds["ours"]))
    speed = {name: round(float(np.median(values)), 3) for name, values in seconds.items()}
    ap = {name: round(float(np.mean(values)), 4) for name, values in scores.items()}
    agreement = float(np.mean(same))
    each = np.array(seconds["reference"]) / np.array(seconds["ours"])
    return [
        {
            "name": "seconds per image",
            **speed,
            "ratio": round(ratio, 2),
            "goal": 2.5,
            "met": ratio >= 2.5,
            "ratio per image": [round(float(value), 1) for value in np.percentile(each, (10, 50, 90))],
            "images": len(scenes),
        },
        {
            "name": "agreement, AP@0.5 of ours against stock",
            "ours": round(agreement, 4),
            "reference": 1.0,
            "ratio": round(agreement, 4),
            "goal": 0.99,
            "met": agreement >= 0.99,
            "lowest": round(min(same), 3),
        },
        {
            "name": "AP@0.5 against the truth",
            **ap,
            "ratio": round(ap["ours"] / max(ap["reference"], 1e-9), 3),
            "goal": 0.99,
            "met": ap["ours"] >= 0.99 * ap["reference"],
        },
        {"name": "where our time goes, s", **{title: round(value, 2) for title, value in clock.seconds.items()}},
    ]


def live(weights: Path) -> dict[str, Any]:
    """Seconds from a moved threshold to new labels."""
    image = field(1024, 330)
    params = SegmentParameters(model=str(weights), diameter=28, polarity="bright")
    found = drive(segment_image(image, params))
    seconds = []
    for i in range(11):
        start = time.perf_counter()
        rethreshold(found, params.model_copy(update={"cellprob_threshold": round(-1 + 0.2 * i, 1)}))
        seconds.append(time.perf_counter() - start)
    middle = float(np.median(seconds))
    return {
        "name": "moving a threshold, s (1024²)",
        "ours": round(middle, 3),
        "goal": 0.3,
        "met": middle <= 0.3,
        "slowest": round(max(seconds), 3),
        "cells": found.count,
    }


def field(side: int, count: int, diameter: float = 28.0, seed: int = 0) -> np.ndarray:
    """``(side, side)`` float32 with ``count`` blurred round nuclei on a jittered grid, and noise."""
    rng = np.random.default_rng(seed)
    image = np.full((side, side), 0.1, np.float32)
    across = int(np.ceil(np.sqrt(count)))
    yy, xx = np.mgrid[-24:25, -24:25]
    for k in range(count):
        y, x = ((np.array(divmod(k, across)) + 0.5 + rng.uniform(-0.12, 0.12, 2)) * side / across).astype(int)
        y, x = np.clip((y, x), 25, side - 26)
        radius = diameter / 2 * rng.uniform(0.85, 1.15)
        spot = 0.6 / (1 + np.exp(np.clip(np.hypot(yy, xx) - radius, -30, 30)))
        image[y - 24 : y + 25, x - 24 : x + 25] += spot.astype(np.float32) * rng.uniform(0.6, 1.2)
    return image + rng.normal(0, 0.03, image.shape).astype(np.float32)


def large(weights: Path, side: int) -> None:
    """Segment one image of ``side``² px, tiled from a smaller one, and print the peak memory of this process."""
    import resource

    image = np.tile(field(1024, 900, diameter=17), (side // 1024, side // 1024))
    params = SegmentParameters(model=str(weights), diameter=17, polarity="bright")
    start = time.perf_counter()
    found = drive(segment_image(image, params))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"gb": peak / 1e9, "cells": found.count, "seconds": time.perf_counter() - start}))


def memory(weights: Path, side: int = 8192) -> dict[str, Any]:
    """Peak memory of a process that segments ``side``² px, with all that Python and torch need."""
    command = [sys.executable, __file__, "--model", str(weights), "--large", str(side)]
    said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    return {
        "name": f"peak memory, GB ({side}²)",
        "ours": round(said["gb"], 2),
        "goal": 6,
        "met": said["gb"] <= 6,
        "cells": said["cells"],
        "seconds": round(said["seconds"]),
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true", help="a few images, no memory figure")
    ask.add_argument("--images", type=Path, default=DATA / "images")
    ask.add_argument("--labels", type=Path, default=DATA / "labels")
    ask.add_argument("--model", default="starter-nuclei")
    ask.add_argument("--large", type=int, metavar="PX", help="only one image of this side, and its peak memory")
    args = ask.parse_args()
    weights = find_model(args.model)
    if args.large:
        large(weights, args.large)
        return
    scenes = read(args.images, args.labels, chosen(args.images, 5 if args.quick else IMAGES))
    clock = Clock()
    for name in ("find_cells", "flow_errors", "to_image", "tidy"):
        clock.over(masks, name, name)
    clock.over(Network, "forward", "network")
    clock.over(cellpose_unet, "resize", "resize")
    figures = [*compare(scenes, weights, clock), live(weights)]
    if not args.quick:
        figures.append(memory(weights))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
