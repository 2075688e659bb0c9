"""How far is the dish covered? K-means and a U-Net on phase contrast against masks drawn by hand.

    python benchmarks/confluency.py [--quick] [--images DIR --labels DIR] [--models DIR]

Every image counts. Printed are IoU of the mask, area under the ROC curve of its scores, and the mean
absolute error of the percentage in points.

K-means: as found, and corrected by what the *other* images taught (each left out once); with groups of pixels made
from each image alone, and from all images together. The settings are the defaults; they were chosen on the sets
1, 4, 7 and 10, so that the details give the other eight apart.

U-Net: as `cell-curator train IMAGES MASKS MODEL --base new-unet-area` teaches it, in 2500 steps on one thread. The
images (each is a dish of its own) are dealt into three parts, and each part is judged by a network that learned from
the other two alone; nothing was chosen by the part left out. Each seed deals and learns anew. Threshold 0.5.
``--models`` keeps the networks, or reads them if they are there; with ``--quick`` they are only read.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile

from cell_curator.core.confluency import UnetCover, calibrate, confluency
from cell_curator.core.grey_levels import to_grey
from cell_curator.core.jobs import drive
from cell_curator.core.pixel_clusters import KmeansParameters, PixelModel, assign, fit, sample
from cell_curator.core.pixel_scores import mean_absolute_error, pixel_scores
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import DEFAULT

DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data")) / "phase_usiigaci"
CHOSEN_ON = ("set1", "set4", "set7", "set10")
PARTS = 3

Pairs = list[tuple[Path, Path]]
Row = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed; a U-Net only if --models holds it")
    parser.add_argument("--images", type=Path, default=DATA / "images")
    parser.add_argument("--labels", type=Path, default=DATA / "labels")
    parser.add_argument("--models", type=Path, help="folder of the networks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="of the U-Nets and of their splits")
    parser.add_argument("--steps", type=int, default=2500, help="of a U-Net's training")
    parser.add_argument("--only", choices=["kmeans", "unet"])
    options = parser.parse_args()
    pairs = [(path, options.labels / path.name) for path in sorted(options.images.glob("*.tif"))]
    made: list[dict[str, object]] = []
    if options.only != "unet":
        made += kmeans(pairs, (0,) if options.quick else (0, 1, 2))
    seeds = [seed for seed in options.seeds if not options.quick or there(options.models, seed)]
    if options.only != "kmeans" and seeds:
        with tempfile.TemporaryDirectory() as folder:
            made += unet(pairs, seeds, options.models or Path(folder), options.steps)
    for one in made:
        print(f"{one['name']:74} {one['ours']:<8} goal {one['goal']}")
    print(json.dumps(made))


# ---------------------------------------------------------------------- k-means


def kmeans(pairs: Pairs, seeds: tuple[int, ...]) -> list[dict[str, object]]:
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
    return made


def run(pairs: Pairs, params: KmeansParameters, way: str) -> Row:
    """Means over the images for one seed; ``unseen_…`` without those that settings were chosen on."""
    model = None
    if way == "common groups":
        model = fit([sample(to_grey(tifffile.imread(image)), params) for image, _ in pairs], params)
    rows = [judge(image, labels, params, model) for image, labels in pairs]
    for row, fine in zip(rows, corrected(rows), strict=True):
        row["corrected"] = fine
    for (image, _), row in zip(pairs, rows, strict=True):
        print(f"{way}, seed {params.seed}, {image.stem:6} {told(row)}  corrected {row['corrected']:5.1f}", flush=True)
    unseen = [row for (image, _), row in zip(pairs, rows, strict=True) if image.stem not in CHOSEN_ON]
    result = means(rows)
    for name, some in (("", rows), ("unseen_", unseen)):
        true = [row["true"] for row in some]
        result[f"{name}iou"] = float(np.mean([row["iou"] for row in some]))
        result[f"{name}raw"] = mean_absolute_error([row["percent"] for row in some], true)
        result[f"{name}corrected"] = mean_absolute_error([row["corrected"] for row in some], true)
    return result


def judge(image: Path, labels: Path, params: KmeansParameters, model: PixelModel | None) -> Row:
    """Figures of one image, with groups of its own or those of ``model``."""
    grey = to_grey(tifffile.imread(image))
    start = time.perf_counter()
    found = assign(grey, model or fit([sample(grey, params)], params), params)
    return measured(found.mask, found.score, labels, time.perf_counter() - start)


def corrected(rows: list[Row]) -> list[float]:
    """Each percentage corrected by the other images."""
    found, true = [row["percent"] for row in rows], [row["true"] for row in rows]
    result = []
    for left in range(len(rows)):
        others = [index for index in range(len(rows)) if index != left]
        taught = calibrate([found[i] for i in others], [true[i] for i in others])
        result.append(taught.corrected(found[left]))
    return result


# ---------------------------------------------------------------------- U-Net


def unet(pairs: Pairs, seeds: list[int], models: Path, steps: int) -> list[dict[str, object]]:
    import torch

    torch.set_num_threads(1)
    runs, minutes = [], 0.0
    for seed in seeds:
        rows: list[Row] = []
        order = np.random.default_rng(seed).permutation(len(pairs))
        for part in range(PARTS):
            left_out = sorted(order[part::PARTS].tolist())
            place = models / f"seed{seed}-part{part}"
            minutes += learned(place, [pairs[i] for i in range(len(pairs)) if i not in left_out], seed, steps)
            for index in left_out:
                rows.append(shown(place, *pairs[index]))
                print(f"U-Net, seed {seed}, part {part}, {pairs[index][0].stem:6} {told(rows[-1])}", flush=True)
        runs.append(
            {**means(rows), "error": mean_absolute_error(*([row[k] for row in rows] for k in ("percent", "true")))}
        )
        print(json.dumps({"seed": seed, **runs[-1]}), flush=True)
    mean = {key: float(np.mean([one[key] for one in runs])) for key in runs[0]}
    name = "U-Net confluency"
    made = [
        _figure(f"{name}: IoU", mean["iou"], 0.8, reference=0.641),
        _figure(f"{name}: mean absolute error (points)", mean["error"], 2.0, less=True),
        _figure(f"{name}: AUC of probabilities", mean["auc"]),
        _figure(f"{name}: truth within the interval", mean["within"]),
        _figure(f"{name}: seconds an image, one thread", mean["seconds"]),
    ]
    made[0]["details"] = {
        "images": len(pairs), "parts": PARTS, "seeds": seeds, "steps": steps, "of_each_seed": runs,
        "processor_minutes_of_training": round(minutes, 1),
    }  # fmt: skip
    return made


def learned(place: Path, pairs: Pairs, seed: int, steps: int) -> float:
    """Teach a network in the folder ``place``, if it is not there; processor minutes that it took."""
    from cell_curator.engines.augment import AugmentParameters
    from cell_curator.engines.cards import find_model
    from cell_curator.engines.finetune import TrainParameters, finetune
    from cell_curator.engines.training_data import Example

    told_by = place / "minutes.json"
    if told_by.exists():
        return float(json.loads(told_by.read_text()))
    examples = []
    for image, labels in pairs:
        truth = tifffile.imread(labels).astype(np.int32)
        prepared = prepare(tifffile.imread(image), DEFAULT).image
        examples.append(Example(image.stem, prepared, truth, np.ones(truth.shape, bool)))
    params = TrainParameters(
        epochs=steps // 4, images_per_epoch=16, batch_size=4, tile=160, learning_rate=3e-3, schedule="cosine",
        cell_loss="dice", vary=AugmentParameters(), min_train_masks=0, threads=1, seed=seed,
    )  # fmt: skip
    start = time.process_time()
    drive(finetune(find_model("new-unet-area"), examples, (), params, place, engine="unet"))
    minutes = (time.process_time() - start) / 60
    told_by.write_text(json.dumps(minutes))
    return minutes


def there(models: Path | None, seed: int) -> bool:
    return models is not None and all(
        (models / f"seed{seed}-part{part}" / "minutes.json").exists() for part in range(PARTS)
    )


def shown(place: Path, image: Path, labels: Path) -> Row:
    """Figures of one image by the network in ``place``."""
    from cell_curator.covering import by_network, card_of
    from cell_curator.engines.worker import inline

    prepared = prepare(tifffile.imread(image), DEFAULT).image
    start = time.process_time()
    found = drive(by_network(prepared, UnetCover(), card_of(str(place)), inline))
    return measured(found.mask, found.score, labels, time.process_time() - start)


# ---------------------------------------------------------------------- figures


def measured(mask: np.ndarray, score: np.ndarray, labels: Path, seconds: float) -> Row:
    truth = tifffile.imread(labels) > 0
    scores, said = pixel_scores(mask, truth, score), confluency(mask)
    low, high = said.interval or (0.0, 100.0)
    return {
        "percent": said.percent, "true": 100.0 * float(truth.mean()), "low": low, "high": high,
        "iou": scores.iou, "f1": scores.f1, "auc": scores.auc, "seconds": seconds,
    }  # fmt: skip


def told(row: Row) -> str:
    return (
        f"true {row['true']:5.1f} %  found {row['percent']:5.1f} ({row['low']:.1f} to {row['high']:.1f})  "
        f"IoU {row['iou']:.3f}  AUC {row['auc']:.3f}  {row['seconds']:.2f} s"
    )


def means(rows: list[Row]) -> Row:
    result = {key: float(np.mean([row[key] for row in rows])) for key in ("iou", "f1", "auc", "seconds")}
    return {**result, "within": float(np.mean([row["low"] <= row["true"] <= row["high"] for row in rows]))}


def _figure(
    name: str, ours: float, goal: float | None = None, *, less: bool = False, reference: float | None = None
) -> dict[str, object]:
    met = None if goal is None else (ours <= goal if less else ours >= goal)
    ratio = None if reference is None else round(ours / reference, 3)
    return {"name": name, "ours": round(ours, 4), "reference": reference, "ratio": ratio, "goal": goal, "met": met}


if __name__ == "__main__":
    main()
