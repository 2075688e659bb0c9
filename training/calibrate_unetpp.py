"""In which unit a U-Net++ should tell its flow errors, so that the usual tolerance of 0.4 drops what it should.

    python training/calibrate_unetpp.py [--model M] [--images N] [--seed S]

Prints the mean AP@0.5 over images that the network *learned from*, for several units; the best goes on the card
with ``export_unetpp.py --error-unit``. No held-out image is looked at.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import tifffile
import tiles

from cell_curator.core.jobs import drive
from cell_curator.core.scores import evaluate
from cell_curator.engines.segmenter import SegmentParameters, rethreshold, segment_image

UNITS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 1000.0)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--model", default="unetpp-nuclei")
    ask.add_argument("--images", type=int, default=200, help="how many, drawn at random")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--data", type=Path, default=tiles.data_folder(), help="the DSB2018 folder")
    args = ask.parse_args()
    names = np.random.default_rng(args.seed).permutation(tiles.split(args.data)[0])[: args.images]
    params = SegmentParameters(engine="unetpp", model=args.model)
    scores: dict[float, list[float]] = {unit: [] for unit in UNITS}
    for name in names:
        image = imageio.imread(args.data / "images" / f"{name}.png")
        shown = np.moveaxis(image[..., :3], -1, 0) if image.ndim == 3 else image
        truth = tifffile.imread(args.data / "labels" / f"{name}.tif").astype(np.int32)
        found = drive(segment_image(shown, params))
        for unit, made in scores.items():
            made.append(evaluate(rethreshold(replace(found, error_unit=unit), params).labels, truth).ap[0.5])
    means = {str(unit): round(float(np.mean(made)), 4) for unit, made in scores.items()}
    print(json.dumps({"images": len(names), **means}))


if __name__ == "__main__":
    main()
