"""Do sparse and crowded fields come out alike? Adaptive against fixed percentiles.

    python benchmarks/density.py [--quick] [--images DIR] [--pattern Channel2*]

Each field is prepared with the published recipe, once as it is and once following density (clip and
CLAHE). Its figure is the median over its nuclei of each nucleus's median grey level; printed is the
spread of that figure over fields, as robust coefficient of variation (1.4826 MAD / median). Nuclei come
from Otsu's threshold on the raw image, or from the truth where the field is synthetic.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell_curator.core.density import covered_fraction, otsu
from cell_curator.core.grey_levels import extremes, histogram
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Clahe, Clip, Recipe

Field = tuple[NDArray[np.generic], NDArray[np.int32]]

FIXED = Recipe()
RECIPES = {
    "clip": Recipe(clip=Clip(adaptive=True)),
    "clip and CLAHE": Recipe(clip=Clip(adaptive=True), clahe=Clahe(adaptive=True)),
}


def nuclei(grey: NDArray[np.float32]) -> NDArray[np.int32]:
    """Label image of what is brighter than Otsu's threshold and at least 40 px."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    mask = ndimage.binary_opening(smooth > otsu(*histogram(smooth, *extremes(smooth), 256)), iterations=2)
    labels, _ = ndimage.label(mask)
    small = np.bincount(labels.ravel()) < 40
    return np.where(small[labels], 0, labels).astype(np.int32)


def wells(folder: Path, pattern: str, every: int) -> list[Field]:
    from cell_curator.io.images import read_image

    images = [read_image(path) for path in sorted(folder.glob(pattern))[::every]]
    return [(image, nuclei(image[0].astype(np.float32))) for image in images]


def scenes(seeds: int) -> list[Field]:
    from cell_curator.samples.scenes import nuclei_on_grooves

    made = (nuclei_on_grooves(seed, count=count) for count in (3, 10, 30, 60, 110) for seed in range(seeds))
    return [(scene.image, scene.labels) for scene in made]


def level(picture: NDArray[np.generic], labels: NDArray[np.int32]) -> float:
    return float(np.median(ndimage.median(picture, labels, np.unique(labels)[1:])))


def spread(fields: list[Field], show: Callable[[NDArray[np.generic]], NDArray[np.generic]]) -> float:
    levels = np.array([level(show(image), labels) for image, labels in fields])
    middle = np.median(levels)
    return float(1.4826 * np.median(np.abs(levels - middle)) / middle)


def figures(name: str, fields: list[Field]) -> list[dict[str, object]]:
    fields = [field for field in fields if field[1].any()]
    covered = [covered_fraction(image[0].astype(np.float32)) for image, _ in fields]
    raw = spread(fields, lambda image: image[0])
    fixed = spread(fields, lambda image: prepare(image, FIXED).image)
    made: list[dict[str, object]] = []
    for what, recipe in RECIPES.items():
        ours = spread(fields, lambda image, r=recipe: prepare(image, r).image)
        made.append(
            {
                "name": f"spread over {name}, adaptive {what}", "ours": round(ours, 4), "reference": round(fixed, 4),
                "ratio": round(fixed / ours, 2), "goal": "smaller than with fixed percentiles", "met": ours < fixed,
                "raw": round(raw, 4), "fields": len(fields),
                "covered": [round(min(covered), 3), round(max(covered), 3)],
            }
        )  # fmt: skip
    return made


def main() -> None:
    data = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a part of the fields; within a minute")
    parser.add_argument("--images", type=Path, default=data / "multichannel" / "bbbc013")
    parser.add_argument("--pattern", default="Channel2*", help="files of the nuclear channel")
    options = parser.parse_args()
    made = figures("synthetic fields", scenes(1 if options.quick else 4))
    real = wells(options.images, options.pattern, 3 if options.quick else 1) if options.images.is_dir() else []
    if real:
        made += figures("wells", real)
    for one in made:
        print(
            f"{one['name']:52} {one['ours']:<8} fixed {one['reference']:<8} raw {one['raw']:<8} {one['ratio']}x smaller"
        )
    print(json.dumps(made))


if __name__ == "__main__":
    main()
