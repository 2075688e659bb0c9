"""U-Net++ on nuclei: pixels and cells on the held-out mosaics of DSB2018, and what a fast look saves.

    python benchmarks/unet_nuclei.py [--quick] [--images DIR --labels DIR] [--model M] [--area M] [--train MINUTES]

Prints a list of figures as its last line, over all held-out images (``training/starter_validation_ids.json``;
no mosaic on both sides). Pixels by the network that tells foreground (``--area``), and beside it by the one that
tells flows: F1, IoU and AUC over all pixels of all images, and the mean of the images; AUC on the probabilities as
they are, F1 and IoU with the one threshold of 0.5. The published figures, and the goals, are of all pixels: only
there F1 / (2 - F1) is the IoU.
Cells by the one that tells flows (``--model``), with diameter and polarity estimated: AP at IoU 0.5. Both by a fast
look, too, and the network's seconds for both looks. ``--train`` trains the one for cells first, so many minutes of
one processor, seed 0 (see ``training/train_unetpp.py``). Published, on other images of the same contest: F1 .89,
IoU .81, AUC .93 (U-Net++ of 32 M weights). ``--quick``: every twelfth image.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import imageio.v3 as imageio
import numpy as np
import tifffile
from numpy.typing import NDArray

from cell_curator.core.jobs import drive
from cell_curator.core.pixel_scores import pixel_scores
from cell_curator.core.scores import evaluate
from cell_curator.engines.cards import find_model
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, segment_image
from cell_curator.engines.unet.model import depth_of, load

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("CELL_CURATOR_DATA", ROOT.parent / "shared" / "data")) / "dsb2018"
HELD_OUT = ROOT / "training" / "starter_validation_ids.json"
PUBLISHED = {"f1": 0.89, "iou": 0.81, "auc": 0.93}
GOALS = {"f1": 0.92, "iou": 0.85, "auc": 0.98}
_LEVELS = 4096  # of probability, for the figure over all pixels


def read(images: Path, labels: Path, name: str) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Image ``(Y, X)`` or ``(3, Y, X)``, and its label image."""
    image = imageio.imread(images / f"{name}.png")
    shown = np.moveaxis(image[..., :3], -1, 0) if image.ndim == 3 else image
    return shown, tifffile.imread(labels / f"{name}.tif").astype(np.int32)


def probability(found: Segmentation) -> NDArray[np.float32]:
    """Of foreground, for every pixel of the image; all 0 where nothing looked like a cell."""
    shape = found.labels.shape
    if not found.cell_probability.size:
        return np.zeros(shape, np.float32)
    logit = cv2.resize(found.cell_probability.astype(np.float32), shape[::-1], interpolation=cv2.INTER_LINEAR)
    return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))


class Score:
    """Figures of one way to look, image by image and over all pixels."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._counts = np.zeros((2, _LEVELS), np.int64)  # pixels of ground and of cells by probability

    def add(self, name: str, found: Segmentation, truth: NDArray[np.int32]) -> None:
        seen, there = probability(found), truth > 0
        pixels = asdict(pixel_scores(seen > 0.5, there, seen))
        cells = evaluate(found.labels, truth)
        self.rows.append({"name": name, **pixels, "ap50": cells.ap[0.5], "ap75": cells.ap[0.75]})
        level = np.minimum((seen * _LEVELS).astype(np.int64), _LEVELS - 1)
        for side in (0, 1):
            self._counts[side] += np.bincount(level[there == bool(side)], minlength=_LEVELS)

    def mean(self, key: str) -> float:
        return float(np.nanmean([row[key] for row in self.rows]))

    def pooled(self) -> dict[str, float]:
        """F1, IoU and AUC over all pixels of all images as if they were one."""
        ground, cells = self._counts
        half = _LEVELS // 2
        hits, wrong, missed = cells[half:].sum(), ground[half:].sum(), cells[:half].sum()
        below = np.cumsum(ground) - ground
        rank = (cells * (below + ground / 2)).sum() / (cells.sum() * ground.sum())
        return {"f1": 2 * hits / (2 * hits + wrong + missed), "iou": hits / (hits + wrong + missed), "auc": rank}


def score(model: str, images: Path, labels: Path, names: list[str], quality: str) -> Score:
    """Look at every image with the engine's defaults."""
    made = Score()
    params = SegmentParameters(engine="unetpp", model=model, quality=quality)
    for name in names:
        image, truth = read(images, labels, name)
        made.add(name, drive(segment_image(image, params)), truth)
        print(json.dumps({"model": model, "quality": quality, **made.rows[-1]}), flush=True)
    return made


def seconds(model: str) -> dict[str, float]:
    """Median of the processor's seconds that the network takes for two tiles of 512², all heads and the early ones."""
    weights = find_model(model)
    ways = {quality: load(weights, depth_of(quality)) for quality in ("accurate", "fast")}
    tiles = np.random.default_rng(0).random((2, 1, 512, 512), dtype=np.float32)
    taken: dict[str, list[float]] = {quality: [] for quality in ways}
    for _ in range(6):
        for quality, network in ways.items():
            start = time.process_time()
            network.forward(tiles)
            taken[quality].append(time.process_time() - start)
    return {quality: float(np.median(values[1:])) for quality, values in taken.items()}


def figures(area: dict[str, Score], cells: dict[str, Score], taken: dict[str, float]) -> list[dict[str, Any]]:
    """What is printed; scores of both networks by quality."""
    rows: list[dict[str, Any]] = []
    pooled = area["accurate"].pooled()
    for key, goal in GOALS.items():
        ours = float(pooled[key])
        rows.append(
            {
                "name": f"pixels, {key.upper()}, over all pixels",
                "ours": round(ours, 4),
                "reference": PUBLISHED[key],
                "ratio": round(ours / PUBLISHED[key], 3),
                "goal": goal,
                "met": ours >= goal,
                "mean of images": round(area["accurate"].mean(key), 4),
                "fast": round(float(area["fast"].pooled()[key]), 4),
                "by the network for cells": round(float(cells["accurate"].pooled()[key]), 4),
                "images": len(area["accurate"].rows),
            }
        )
    ap = cells["accurate"].mean("ap50")
    rows.append(
        {
            "name": "cells, AP@0.5",
            "ours": round(ap, 4),
            "reference": None,
            "ratio": None,
            "goal": 0.75,
            "met": ap >= 0.75,
            "AP@0.75": round(cells["accurate"].mean("ap75"), 4),
            "fast": round(cells["fast"].mean("ap50"), 4),
        }
    )
    ratio = taken["accurate"] / taken["fast"]
    rows.append(
        {
            "name": "seconds of the network, accurate against fast",
            "ours": round(taken["fast"], 3),
            "reference": round(taken["accurate"], 3),
            "ratio": round(ratio, 2),
            "goal": 2.0,
            "met": ratio >= 2.0,
        }
    )
    return rows


def train(minutes: float, out: Path) -> str:
    """Weights of a training of so many minutes, in a folder with a card."""
    weights = out / "weights.pth"
    script = ROOT / "training" / "train_unetpp.py"
    subprocess.run([sys.executable, str(script), "--out", str(weights), "--minutes", str(minutes)], check=True)
    (out / "card.json").write_text(json.dumps({"engine": "unetpp"}))
    return str(out)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true", help="every twelfth image")
    ask.add_argument("--images", type=Path, default=DATA / "images")
    ask.add_argument("--labels", type=Path, default=DATA / "labels")
    ask.add_argument("--model", default="unetpp-nuclei")
    ask.add_argument("--area", default="unetpp-nuclei-area")
    ask.add_argument("--train", type=float, metavar="MINUTES", help="train first, from nothing")
    args = ask.parse_args()
    held = set(json.loads(HELD_OUT.read_text()))
    names = sorted(path.stem for path in args.images.glob("*.png"))
    names = ([name for name in names if name in held] or names)[:: 12 if args.quick else 1]
    with tempfile.TemporaryDirectory() as folder:
        model = train(args.train, Path(folder)) if args.train else args.model
        by = [
            {quality: score(one, args.images, args.labels, names, quality) for quality in ("accurate", "fast")}
            for one in (args.area, model)
        ]
        taken = seconds(model)
    print(json.dumps(figures(*by, taken)))


if __name__ == "__main__":
    main()
