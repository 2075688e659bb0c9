"""The preprocessing chain against scikit-image and OpenCV doing the published one, in the same process.

    python benchmarks/preprocess.py [--quick] [--images DIR]

Both do: groove angle, CLAHE, min–max, clip at the 98.5th percentile, Chambolle TV of weight 0.02, turn.
Runs alternate; figures are medians. Prints one line per figure and, last, a JSON list of all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.exposure import equalize_adapthist
from skimage.restoration import denoise_tv_chambolle

from cell_curator.core.grey_levels import extremes, percentiles, quantise
from cell_curator.core.orientation import estimate_angle, wrap
from cell_curator.core.overview import overview
from cell_curator.core.preprocess import prepare
from cell_curator.core.preview import preview, warm_up
from cell_curator.core.recipe import PRESETS, Clahe, Recipe, Tone, ZeroBelow
from cell_curator.core.steps import equalise
from cell_curator.core.total_variation import denoise_tv

PUBLISHED = PRESETS["Nuclei on grooves (published)"]
SHAPE = (2044, 2048)


def published_chain(image: NDArray[np.generic]) -> NDArray[np.float64]:
    """What the published script does to one channel."""
    low, high = int(image.min()), int(image.max())
    eight = (image >> 4).astype(np.uint8) if image.dtype == np.uint16 else image
    edges = cv2.Canny(eight, (int(eight.max()) - int(eight.min())) / 10, int(eight.max()), apertureSize=3)
    lines = cv2.HoughLines(edges, 1, np.pi / 180, 80)
    angle = 0.0 if lines is None else float(np.degrees(lines[0][0][1]))
    grey = (image.astype(np.float64) - low) / (high - low)
    grey = equalize_adapthist(grey, kernel_size=image.shape[0] // 10, clip_limit=0.01, nbins=256)
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    top = np.quantile(grey, 0.985)
    grey = np.clip(grey, 0, top) / top
    grey = denoise_tv_chambolle(grey, weight=0.02)
    matrix = cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), angle, 1.0)
    return np.asarray(cv2.warpAffine(grey, matrix, image.shape[::-1]))


def ours(image: NDArray[np.generic]) -> NDArray[np.float32]:
    return prepare(image, PUBLISHED).turned()


def images_of(folder: Path | None) -> dict[str, NDArray[np.generic]]:
    """The field to work on, in 16 and in 8 bits: the first image of the folder (tiled), or a synthetic one."""
    if folder is None:
        from cell_curator.samples.scenes import nuclei_on_grooves

        field = nuclei_on_grooves(0, size=2048, count=320).image[0]
    else:
        from cell_curator.io.images import find_images, read_image

        field = read_image(find_images(folder)[0][0])[0]
        field = np.tile(field, [-(-side // own) for side, own in zip(SHAPE, field.shape, strict=True)])
    field = field[: SHAPE[0], : SHAPE[1]]
    low, high = int(field.min()), int(field.max())
    unit = (field.astype(np.float64) - low) / (high - low)
    return {"16 bit": (unit * 4095).astype(np.uint16), "8 bit": (unit * 255).astype(np.uint8)}


def alternate(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for work, taken in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def speed(
    name: str, mine: Callable[[], object], theirs: Callable[[], object], repeats: int, goal: float
) -> dict[str, object]:
    """How many times faster."""
    ours_s, reference_s = alternate(mine, theirs, repeats)
    ratio = reference_s / ours_s
    return figure(name, ours_s, reference_s, ratio, f">= {goal}x", ratio >= goal, unit="s")


def figure(
    name: str, ours: float, reference: float, ratio: float, goal: str, met: bool, **more: object
) -> dict[str, object]:
    return {
        "name": name, "ours": round(ours, 7), "reference": round(reference, 7), "ratio": round(ratio, 2),
        "goal": goal, "met": bool(met), **more,
    }  # fmt: skip


def at_most(name: str, value: float, limit: float, **more: object) -> dict[str, object]:
    """A figure that must not exceed a limit; the ratio says how many times better than that it is."""
    return figure(name, value, limit, limit / max(value, 1e-12), f"<= {limit}", value <= limit, **more)


def memory(image: NDArray[np.generic]) -> dict[str, object]:
    """Peak memory besides the given image, result included, in sizes of the float32 image."""
    size = image.size * 4
    ours(image)
    tracemalloc.start()
    ours(image)
    traced = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return at_most("peak extra memory, float32 images", traced / size, 4.0)


def angles(count: int) -> list[dict[str, object]]:
    """Errors of the groove angle, degrees, on noisy grooves."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:400, :400]
    made = []
    for method in ("tensor", "hough"):
        errors = []
        for _ in range(count):
            turn, period = rng.uniform(-90, 90), rng.uniform(8, 30)
            stripes = np.sin(2 * np.pi * (x * np.cos(np.deg2rad(turn)) + y * np.sin(np.deg2rad(turn))) / period)
            found = estimate_angle((stripes + rng.normal(0, 0.8, x.shape)).astype(np.float32), method)
            errors.append(90.0 if found is None else abs(wrap(found - turn)))
        made.append(at_most(f"angle error, {method}, median", float(np.median(errors)), 0.2, unit="deg", angles=count))
        made.append(at_most(f"angle error, {method}, 95 %", float(np.percentile(errors, 95)), 1.0, unit="deg"))
    return made


def agreement(image: NDArray[np.generic]) -> list[dict[str, object]]:
    """How far the kernels are from those they replace."""
    grey = image[:700, :800].astype(np.float32)
    grey = (grey - grey.min()) / np.ptp(grey)
    worst_n = max(
        float(np.abs(denoise_tv(grey, 0.05, 1e-12, n) - denoise_tv_chambolle(grey.astype(float), 0.05, 0, n)).max())
        for n in (3, 20)
    )
    converged = float(np.abs(denoise_tv(grey, 0.02) - denoise_tv_chambolle(grey.astype(float), 0.02)).max())
    wanted = (0.1, 20.0, 98.5)
    off = np.abs(np.subtract(percentiles(grey, wanted), np.percentile(grey, wanted))).max() * 65_535
    operator = cv2.createCLAHE(2.56, (8, 7))
    same = [
        np.array_equal(
            np.rint(equalise(grey, Clahe(depth=depth), tiles=(7, 8)) * top),
            operator.apply(quantise(grey, *extremes(grey), top)),
        )
        for depth, top in (("8 bit", 255), ("16 bit", 65_535))
    ]
    return [
        at_most("TV, same iterations, max abs difference", worst_n, 1e-3),
        at_most("TV, converged, max abs difference", converged, 1e-3),
        at_most("percentiles, grey levels of 16 bits off", float(off), 1.0),
        at_most("CLAHE, depths that differ from OpenCV", float(2 - sum(same)), 0.0),
    ]


def live(image: NDArray[np.generic], repeats: int) -> dict[str, object]:
    """From new slider values to the picture that fills a 1200×900 canvas; all steps but background removal on."""
    whole = overview(image)
    step = max(image.shape[0] / 900, image.shape[1] / 1200)
    taken = []
    for value in np.linspace(95, 99.9, repeats):
        recipe = Recipe(zero_below=ZeroBelow(enabled=True), tone=Tone(enabled=True, gamma=0.8))
        recipe = recipe.model_copy(update={"clip": recipe.clip.model_copy(update={"high_percent": float(value)})})
        start = time.perf_counter()
        preview(image, recipe, step=step, whole=whole)
        taken.append(time.perf_counter() - start)
    return at_most("preview on a 1200x900 canvas, p95", 1000 * float(np.percentile(taken, 95)), 50.0, unit="ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs; within a minute")
    parser.add_argument("--images", type=Path, help="folder of images (default: a synthetic field)")
    options = parser.parse_args()
    repeats = 2 if options.quick else 7
    warm_up()
    images = images_of(options.images)
    ours(images["16 bit"][:256, :256])
    figures = [memory(images["16 bit"])]
    for depth, image in images.items():
        figures.append(
            speed(
                f"chain, 2044x2048, {depth}", lambda i=image: ours(i), lambda i=image: published_chain(i), repeats, 25
            )
        )
    grey = prepare(images["16 bit"], Recipe(total_variation={"enabled": False})).image
    double = grey.astype(np.float64)
    figures.append(
        speed("TV, 2044x2048", lambda: denoise_tv(grey), lambda: denoise_tv_chambolle(double, weight=0.02), repeats, 20)
    )
    figures.append(live(images["16 bit"], 20 if options.quick else 100))
    figures += agreement(images["16 bit"])
    figures += angles(20 if options.quick else 200)
    for one in figures:
        state = "met" if one["met"] else "MISSED"
        print(f"{one['name']:48} {one['ours']:<12} {one['goal']:10} {one['ratio']:8}x  {state}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
