"""Mosaics up to 16,384² px through preparing, segmenting and measuring, block by block with two workers.

    python benchmarks/scale_large.py [--quick] [--sides PX PX …] [--workers N] [--image FILE] [--log FILE]

The mosaic is put together of synthetic scenes of known truth, as a tiled TIFF. Memory: the most that all processes
held together at one moment (proportional set size, looked at four times a second). Time: processor seconds of all
processes, which other programs disturb less than the wall does; the exponent is that of the number of pixels. Cells:
in parts of 1,536 px, those of the mosaic beside those that the same part gives when it is searched alone and as a
whole, with the same diameter and grey levels. With ``--image`` a tiled TIFF or OME-Zarr of your own is searched.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import tifffile

from cell_curator.core.jobs import drive

SCENES = 12
SCENE = 512  # px
CELLS = 78  # of a scene: 80,000 in 16,384²
PART = 1536  # px, compared with untiled
RIM = 128  # px of a part that are not compared, since a cell cut there is another


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="mosaics of 1,024² and 2,048², one process")
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 8192, 16384])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--log", type=Path, help="figures so far, as JSON")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(searched(options.one, options.workers)))
        return
    if options.quick:
        options.sides, options.workers = [1024, 2048], 1
    found: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        images = [options.image] if options.image else [Path(folder) / f"mosaic-{side}.tif" for side in options.sides]
        for path in images:
            if not options.image:
                write_mosaic(path, int(path.stem.rpartition("-")[2]))
            found.append(measured(path, options))
            print(" ".join(f"{name} {value:.4g}" for name, value in found[-1].items()), flush=True)
            if options.log:
                options.log.write_text(json.dumps(figures(found), indent=1))
    print(json.dumps(figures(found)))


def figures(found: list[dict[str, float]]) -> list[dict[str, object]]:
    last, first = found[-1], found[0]
    name = f"mosaic of {last['megapixels']:.0f} Mpx"
    made = [
        _figure(f"{name}: most memory, all processes (GB)", last["gigabytes"], 3.0),
        _figure(f"{name}: cells beside untiled parts (share that differs)", last["differ"], 0.01),
        _figure(f"{name}: cells that are others than untiled (1 - AP@0.5)", 1 - last["ap50_beside_untiled"], 0.01),
    ]
    if last["megapixels"] > 2 * first["megapixels"]:
        grown = np.log(last["megapixels"] / first["megapixels"])
        exponent = float(np.log(last["processor_s"] / first["processor_s"]) / grown)
        made.append(
            _figure(f"time grows with the pixels to the power of, from {first['megapixels']:.0f} Mpx", exponent, 1.05)
        )
    made[0]["details"] = found
    return made


def _figure(name: str, ours: float, goal: float) -> dict[str, object]:
    ratio = round(goal / max(ours, 1e-9), 3)
    return {"name": name, "ours": round(ours, 4), "reference": goal, "ratio": ratio, "goal": goal, "met": ours <= goal}


def write_mosaic(path: Path, side: int) -> None:
    """Scenes in random order, each turned or mirrored in one of eight ways."""
    from cell_curator.samples.scenes import nuclei_on_grooves

    rng = np.random.default_rng(0)
    scenes = [nuclei_on_grooves(seed, count=CELLS).image[0] for seed in range(SCENES)]
    across = side // SCENE

    def tiles():
        for _ in range(across):
            row = [np.rot90(scenes[rng.integers(SCENES)], rng.integers(4)) for _ in range(across)]
            row = np.concatenate([one[:, ::-1] if rng.integers(2) else one for one in row], axis=1)
            for left in range(0, side, SCENE):
                yield np.ascontiguousarray(row[:, left : left + SCENE]).astype(np.uint16)

    tifffile.imwrite(
        path, tiles(), shape=(side, side), dtype=np.uint16, tile=(SCENE, SCENE), compression="zlib", bigtiff=True
    )


def measured(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """The figures of a process of its own and its workers."""
    words = [sys.executable, __file__, "--one", str(path), "--workers", str(options.workers)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "CELL_CURATOR_LARGE_MPX": "0.5"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    most: dict[str, float] = {}
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, most, done))
    watch.start()
    said, _ = process.communicate()
    done.set()
    watch.join()
    if process.returncode:
        raise SystemExit(process.returncode)
    return {**json.loads(said.splitlines()[-1]), **most}


def _watch(pid: int, most: dict[str, float], done: threading.Event) -> None:
    """What all processes held when they held most, and which part of it the first of them."""
    while not done.wait(0.25):
        held = []
        try:
            root = psutil.Process(pid)
            for one in (root, *root.children(recursive=True)):
                with open(f"/proc/{one.pid}/smaps_rollup") as file:
                    held.append(sum(int(line.split()[1]) for line in file if line.startswith("Pss:")) * 1024 / 1e9)
        except (psutil.Error, OSError):
            continue
        if sum(held) > most.get("gigabytes", 0.0):
            most |= {"gigabytes": sum(held), "of_them_the_project": held[0]}


def searched(path: Path, workers: int) -> dict[str, float]:
    """Search one image in a project, with workers; then parts of it alone."""
    from cell_curator.core.lazy import Lazy
    from cell_curator.engines.cluster import Manpower, manned
    from cell_curator.session import Session

    with tempfile.TemporaryDirectory() as folder:
        session = Session.create(Path(folder) / "mosaic.curator")
        drive(session.add_images(path))
        spent = [0.0]

        def work(crew):
            session.crew = crew
            report = yield from session.segment()
            spent[0] = _processor()
            if report.failed:
                raise SystemExit(report.failed[0][1])
            return report

        start = time.monotonic()
        before = _processor()
        drive(manned(Manpower(workers=workers), 1000, work), _said(start))
        wall, processor = time.monotonic() - start, spent[0] - before
        labels, record = session.label_view(1), session.images[0]
        megapixels = record.shape[1] * record.shape[2] / 1e6
        assert isinstance(labels, Lazy) or megapixels < 1
        made = {"megapixels": megapixels, "cells": len(session.cells), "wall_s": wall, "processor_s": processor}
        made |= {"mpx_per_s": megapixels / wall, "mpx_per_processor_s": megapixels / processor}
        session.crew = None
        made |= beside_untiled(session)
        session.close()
        return made


def _said(start: float):
    last = [0.0]

    def say(progress) -> None:
        if time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            print(f"{last[0] - start:6.0f} s {progress.fraction:6.1%} {progress.message}", file=sys.stderr, flush=True)

    return say


def _processor() -> float:
    own = psutil.Process()
    total = 0.0
    for one in (own, *own.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def beside_untiled(session) -> dict[str, float]:
    """Cells in parts of the mosaic, and of the same parts searched alone as a whole."""
    from cell_curator.core.large import sample
    from cell_curator.core.scores import evaluate
    from cell_curator.engines.network import PERCENTILES
    from cell_curator.engines.segmenter import SegmentParameters, runnable

    labels, prepared = session.label_view(1), session.prepare(1).image
    side = min(labels.shape)
    part = min(PART, side)
    detail = session.project.journal()["detail"].iloc[-1]
    params = session.get(SegmentParameters).model_copy(update={"diameter": detail["diameter_px"], "polarity": "bright"})
    engine, grey = runnable(params.engine), [prepared.window(box).ravel() for box in sample(labels.shape)]
    low, high = np.percentile(np.concatenate(grey), PERCENTILES[0]).astype(np.float32)
    places = sorted({(side - part) * third // 2 for third in range(3)})
    counts, scores = np.zeros(2), []
    for start in places:
        box = (start, start, start + part, start + part)
        alone = drive(engine.segment(((prepared.window(box) - low) / (high - low))[None], params)).labels
        ours = labels.window(box)
        inner = [_whole_inside(one) for one in (ours, alone)]
        counts += [len(np.unique(one)) - 1 for one in inner]
        scores.append(evaluate(*inner).ap[0.5])
    return {
        "differ": abs(float(counts[0] - counts[1])) / max(counts[1], 1),
        "compared": float(counts[1]),
        "ap50_beside_untiled": float(np.mean(scores)),
    }


def _whole_inside(labels: np.ndarray) -> np.ndarray:
    """Only the cells whose middle lies away from the rim, where a part alone cuts cells."""
    from scipy import ndimage

    values = np.unique(labels[labels > 0])
    middles = np.array(ndimage.center_of_mass(labels > 0, labels, values)).reshape(-1, 2)
    low, high = RIM, np.array(labels.shape) - RIM
    inside = values[((middles >= low) & (middles < high)).all(axis=1)]
    return np.where(np.isin(labels, inside), labels, 0)


if __name__ == "__main__":
    main()
