"""Speed of a training pass against stock Cellpose 3's ``train_seg``: same tiles, batch size and rates.

    python benchmarks/train_step.py [--quick] [--images DIR --labels DIR] [--model PATH]

Prints a list of figures as its last line: seconds of one pass (stock / ours, medians of passes that
alternate, each trainer in a process of its own, stock with its default mkldnn path; goal 2.5 times), and
Cellpose's loss of both networks on the same tiles of images that neither saw, after 20 passes from the
same weights with the same seed (goal: ours at most 5 % above). Images are brought to cells of 24 px first,
so that both are given the same pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import cv2
import numpy as np
import tifffile

from cell_curator.core.jobs import drive
from cell_curator.engines.cards import find_model
from cell_curator.engines.finetune import Example, TrainParameters, finetune
from cell_curator.engines.network import load_network, normalise
from cell_curator.engines.training_data import review, sources, typical_diameter
from cell_curator.engines.training_tiles import Cut, batches
from cell_curator.io.images import find_images, read_image

DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "phase_usiigaci"
DIAMETER = 24.0
SETTINGS = {"learning_rate": 1e-3, "batch_size": 8, "seed": 0}


def read(images: Path, labels: Path) -> list[Example]:
    """All pairs, normalised, with cells of `DIAMETER` px."""
    examples = []
    for path, _ in find_images(images):
        gray = np.asarray(read_image(path), dtype=np.float32).mean(axis=0)
        truth = tifffile.imread(labels / f"{path.stem}.tif").astype(np.int32)
        areas = np.bincount(truth.ravel())[1:]
        zoom = DIAMETER / typical_diameter(areas[areas > 0])
        size = (round(gray.shape[1] * zoom), round(gray.shape[0] * zoom))
        image = normalise(cv2.resize(gray, size, interpolation=cv2.INTER_AREA))
        small = cv2.resize(truth.astype(np.float32), size, interpolation=cv2.INTER_NEAREST).astype(np.int32)
        examples.append(Example(path.stem, image, small, np.ones(small.shape, bool)))
    return examples


def wait_turn(start: float) -> float:
    """In a child: say how long the pass since ``start`` took, and wait to be told to go on."""
    print(json.dumps(time.perf_counter() - start), flush=True)
    sys.stdin.readline()
    return time.perf_counter()


def ours(examples: list[Example], weights: Path, passes: int, tiles: int, folder: Path) -> None:
    """Our training."""
    params = TrainParameters(**SETTINGS, epochs=passes, images_per_epoch=tiles, evaluate_every=passes)
    params = params.model_copy(update={"polarity": "bright"})
    done, start = 0, time.perf_counter()
    for progress in finetune(weights, examples, (), params, folder):
        if progress.payload is not None and len(progress.payload.curve) > done:
            done, start = len(progress.payload.curve), wait_turn(start)


def stock(examples: list[Example], weights: Path, passes: int, tiles: int, folder: Path) -> None:
    """Stock training, which has no callback: each of its passes begins by seeding NumPy's numbers."""
    from cellpose import models, train

    seed: Callable[[int], None] = np.random.seed
    start = None

    def begin(number: int) -> None:
        nonlocal start
        start = time.perf_counter() if start is None else wait_turn(start)
        seed(number)

    np.random.seed = begin
    folder.mkdir()
    train.train_seg(
        models.CellposeModel(pretrained_model=str(weights)).net,
        train_data=[example.image for example in examples],
        train_labels=[example.labels for example in examples],
        normalize=False,
        channels=[0, 0],
        learning_rate=SETTINGS["learning_rate"],
        batch_size=SETTINGS["batch_size"],
        n_epochs=passes,
        nimg_per_epoch=tiles,
        save_path=folder,
        model_name="weights.pth",
    )
    wait_turn(start)


class Trainer:
    """One of them in a process of its own, a pass at a time."""

    def __init__(self, name: str, options: list[str], folder: Path) -> None:
        command = [sys.executable, __file__, *options, "--trainer", name, "--folder", str(folder / name)]
        self.weights = folder / name / ("models" if name == "stock" else "") / "weights.pth"
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

    def end_of_pass(self) -> float:
        """Wait for the pass that is running; its seconds."""
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a trainer ended early (exit code {self.process.wait()})")
        return float(json.loads(line))

    def go_on(self) -> None:
        """Let it begin the next pass."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()


def compare(options: list[str], passes: int, folder: Path) -> tuple[dict[str, list[float]], dict[str, Path]]:
    """Seconds of every pass of both, one after the other, and where their weights lie."""
    trainers, seconds = {}, {}
    for name in ("ours", "stock"):
        trainers[name] = Trainer(name, options, folder)
        seconds[name] = [trainers[name].end_of_pass()]
    for _ in range(passes - 1):
        for name, trainer in trainers.items():
            trainer.go_on()
            seconds[name].append(trainer.end_of_pass())
    for trainer in trainers.values():
        trainer.go_on()
        trainer.process.wait()
    return seconds, {name: trainer.weights for name, trainer in trainers.items()}


def judge(weights: dict[str, Path], examples: list[Example]) -> dict[str, float]:
    """Cellpose's loss of each network in float32, on the same tiles."""
    import torch
    from cellpose import train

    reviewed = review(examples)
    ready = drive(sources(reviewed, [False] * len(reviewed), DIAMETER, 17.0, 0.5))
    tiles = [some for seed in range(42, 50) for some in batches(ready, Cut(224, 2, 0.5, 4), seed)]
    losses = {}
    for name, path in weights.items():
        module = load_network(path).module.float()
        with torch.no_grad():
            each = [
                train._loss_fn_seg(some.target, module(torch.from_numpy(some.planes))[0], torch.device("cpu")).item()
                for some in tiles
            ]
        losses[name] = float(np.mean(each))
    return losses


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true", help="three passes of one batch")
    ask.add_argument("--images", type=Path, default=DATA / "images")
    ask.add_argument("--labels", type=Path, default=DATA / "labels")
    ask.add_argument("--model", default="starter-nuclei")
    ask.add_argument("--trainer", choices=("ours", "stock"), help=argparse.SUPPRESS)
    ask.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = ask.parse_args()
    passes, tiles = (3, 8) if args.quick else (20, 16)
    weights = find_model(args.model)
    examples = read(args.images, args.labels)
    third = max(1, len(examples) // 3)
    learned, kept = examples[third:], examples[:third]
    if args.trainer:
        {"ours": ours, "stock": stock}[args.trainer](learned, weights, passes, tiles, args.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        seconds, made = compare(sys.argv[1:], passes, Path(folder))
        losses = judge({**made, "before": weights}, kept)
    middle = {name: float(np.median(each[1:])) for name, each in seconds.items()}  # the first one warms up
    speed, worse = middle["stock"] / middle["ours"], losses["ours"] / losses["stock"]
    figures: list[dict[str, Any]] = [
        {
            "name": "seconds of a training pass",
            "ours": round(middle["ours"], 2),
            "reference": round(middle["stock"], 2),
            "ratio": round(speed, 2),
            "goal": 2.5,
            "met": speed >= 2.5,
            "tiles": tiles,
            "batch": SETTINGS["batch_size"],
            "passes": passes,
            "ratio per pass": [round(b / a, 2) for a, b in zip(seconds["ours"], seconds["stock"], strict=True)][1:],
        },
        {
            "name": f"loss on unseen images after {passes} passes",
            "ours": round(losses["ours"], 4),
            "reference": round(losses["stock"], 4),
            "ratio": round(1 / worse, 3),
            "goal": round(1 / 1.05, 3),
            "met": worse <= 1.05,
            "before": round(losses["before"], 4),
        },
    ]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
