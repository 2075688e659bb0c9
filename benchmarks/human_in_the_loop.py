"""Four rounds of correcting and retraining on images that the starter cannot do, ours beside stock Cellpose.

    python benchmarks/human_in_the_loop.py [--quick] [--images DIR --labels DIR] [--model PATH] [--steps N] [--seed N]

A simulated annotator works on phase-contrast images: 8 to annotate, 4 locked away (a seeded draw; each
image is a field of its own). In every round the truth of one 512² region of two more images is revealed.
Then three networks learn from all regions so far, each from the same weights, as many steps of as many
tiles: ours (whole images, loss on reviewed regions only, cells cut by the edge ignored), stock ``train_seg``
on the regions cropped out, and as a control ours with all that was not reviewed taken for background.
Nothing is chosen by the locked images: the network at the end is taken.

Prints a list of figures as its last line: for each round AP@0.5 on the locked images, minutes and
corrections per 100 cells (cells missed or wrongly found in the regions that come next).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import tifffile

from cell_curator.core.jobs import drive
from cell_curator.core.regions import whole_cells
from cell_curator.core.scores import evaluate, judged
from cell_curator.engines.cards import find_model
from cell_curator.engines.finetune import PRESETS, finetune
from cell_curator.engines.segmenter import SegmentParameters, segment_image
from cell_curator.engines.training_data import Example

DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "phase_usiigaci"
ROUNDS, EACH, LOCKED, SIDE, BATCH = 4, 2, 4, 512, 4
GAIN, FASTER = 0.30, 2.0


@dataclass(frozen=True)
class Field:
    """One image with its truth and the region that is revealed, as (rows, columns)."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    region: tuple[slice, slice]


@dataclass(frozen=True)
class Model:
    """A network and the diameter (px) it is used with; ``stock`` models are run by Cellpose itself."""

    weights: Path
    diameter: float
    stock: bool = False


def fields(images: Path, labels: Path, rng: np.random.Generator) -> list[Field]:
    """All images, each with the region of many that holds most cells."""
    found = []
    for path in sorted(images.glob("*.tif")):
        image = tifffile.imread(path).astype(np.float32)
        truth = tifffile.imread(labels / path.name).astype(np.int32)
        places = rng.integers(0, np.array(truth.shape) - SIDE + 1, (12, 2))
        regions = [(slice(y, y + SIDE), slice(x, x + SIDE)) for y, x in places.tolist()]
        best = max(regions, key=lambda region: len(np.unique(truth[region])))
        found.append(Field(path.stem, image, truth, best))
    return found


def cells_of(model: Model, image: np.ndarray) -> np.ndarray:
    """The cells that a model finds."""
    if not model.stock:
        found = drive(segment_image(image, SegmentParameters(model=str(model.weights), diameter=model.diameter)))
        return found.labels
    from cellpose.models import CellposeModel

    network = CellposeModel(pretrained_model=str(model.weights))
    return network.eval(image, channels=[0, 0], diameter=model.diameter or None)[0].astype(np.int32)


def learn_ours(seen: Sequence[Field], base: Path, steps: int, folder: Path, *, everywhere: bool = False) -> Model:
    """Ours; with ``everywhere`` what was not reviewed counts as background."""
    examples = []
    for field in seen:
        inside = np.zeros(field.truth.shape, bool)
        inside[field.region] = True
        labels, known = whole_cells(field.truth, inside)
        examples.append(Example(field.name, field.image, labels, np.ones_like(known) if everywhere else known))
    epochs = max(1, round(steps * BATCH / 16))
    chosen = {"minutes": 0.0, "epochs": epochs, "batch_size": BATCH, "images_per_epoch": 16, "schedule": "cosine"}
    parameters = PRESETS["quick"].model_copy(update={**chosen, "keep": "last", "evaluate_every": epochs})
    trained = drive(finetune(base, examples, [], parameters, folder))
    return Model(trained.weights, trained.diameter)


def learn_stock(seen: Sequence[Field], base: Path, steps: int, folder: Path) -> Model:
    """Stock Cellpose with its own defaults on the regions cropped out."""
    from cellpose.models import CellposeModel
    from cellpose.train import train_seg

    folder.mkdir()
    network = CellposeModel(pretrained_model=str(base))
    path, _, _ = train_seg(
        network.net,
        train_data=[field.image[field.region] for field in seen],
        train_labels=[field.truth[field.region] for field in seen],
        channels=[0, 0],
        batch_size=BATCH,
        n_epochs=max(1, round(steps * BATCH / 16)),
        nimg_per_epoch=16,
        save_path=folder,
        model_name="stock",
    )
    return Model(Path(path), float(network.net.diam_labels.item()), stock=True)


def ap(model: Model, locked: Sequence[Field]) -> float:
    """AP@0.5, mean over the locked images."""
    return statistics.fmean(evaluate(cells_of(model, field.image), field.truth).ap[0.5] for field in locked)


def corrections(model: Model, coming: Sequence[Field]) -> float | None:
    """Cells missed and wrongly found in the regions that come next, for every 100 true ones."""
    wrong = true = 0
    for field in coming:
        inside = np.zeros(field.truth.shape, bool)
        inside[field.region] = True
        labels, known = whole_cells(field.truth, inside)
        scores = evaluate(judged(cells_of(model, field.image), known), labels)
        hits = scores.n_true - scores.misses
        wrong += scores.misses + scores.n_predicted - hits
        true += scores.n_true
    return round(100 * wrong / true, 1) if true else None


def figure(name: str, ours: float, reference: float, ratio: float, goal: float, **more: Any) -> dict[str, Any]:
    """One figure in the form that all benchmarks share."""
    rounded = {"ours": round(ours, 4), "reference": round(reference, 4), "ratio": round(ratio, 3)}
    return {"name": name, **rounded, "goal": goal, "met": bool(ratio >= goal), **more}


def main() -> int:
    """Run the rounds."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true", help="one round of two steps")
    ask.add_argument("--images", type=Path, default=DATA / "images")
    ask.add_argument("--labels", type=Path, default=DATA / "labels")
    ask.add_argument("--model", default="starter-nuclei")
    ask.add_argument("--steps", type=int, default=80, help="steps of a round, for all three")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--without-control", action="store_true")
    args = ask.parse_args()
    steps, rounds = (2, 1) if args.quick else (args.steps, ROUNDS)

    rng = np.random.default_rng(args.seed)
    every = fields(args.images, args.labels, rng)
    order = [every[i] for i in rng.permutation(len(every))]
    locked, annotate = order[:LOCKED], order[LOCKED:]
    if args.quick:
        locked = locked[:1]
    base = find_model(args.model)
    typical = 2 * float(np.sqrt(np.median(np.bincount(annotate[0].truth.ravel())[1:]) / np.pi))
    before = Model(base, typical)
    start = ap(before, locked)
    figures = []
    line = {"round": 0, "ours": start, "corrections_per_100": corrections(before, annotate[:EACH])}
    print(json.dumps(line), flush=True)
    scores, minutes, control = [start], [], []
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.INFO)
        for number in range(1, rounds + 1):
            seen, coming = annotate[: number * EACH], annotate[number * EACH : (number + 1) * EACH]
            made: dict[str, Model] = {}
            spent: dict[str, float] = {}
            for name in ("ours", "stock") if args.without_control else ("ours", "stock", "control"):
                folder = Path(place) / f"{name}-{number}"
                began = time.perf_counter()
                if name == "stock":
                    made[name] = learn_stock(seen, base, steps, folder)
                else:
                    made[name] = learn_ours(seen, base, steps, folder, everywhere=name == "control")
                spent[name] = (time.perf_counter() - began) / 60
            found = {name: ap(model, locked) for name, model in made.items()}
            effort = corrections(made["ours"], coming)
            scores.append(found["ours"])
            minutes.append(spent["stock"] / spent["ours"])
            control.append(found.get("control", float("nan")))
            more = {
                "minutes": {name: round(value, 2) for name, value in spent.items()},
                "control": round(control[-1], 4),
                "regions": len(seen),
                "corrections_per_100": effort,
                "corrections_per_100_stock": corrections(made["stock"], coming),
            }
            difference = found["ours"] - found["stock"]
            figures.append(figure(f"AP@0.5 round {number}", found["ours"], found["stock"], difference, 0.0, **more))
            print(json.dumps(figures[-1]), flush=True)
    ratio = statistics.median(minutes)
    figures.append(
        figure("minutes of a round, stock / ours", 1.0, ratio, ratio, FASTER, each=np.round(minutes, 2).tolist())
    )
    gain = scores[-1] - scores[0]
    figures.append(
        figure(
            "gain from round 0 to the last",
            scores[-1],
            scores[0],
            gain,
            GAIN,
            locked=[one.name for one in locked],
            steps=steps,
            seed=args.seed,
        )
    )
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
