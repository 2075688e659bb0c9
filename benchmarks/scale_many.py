"""Many images: two workers against one, the engine against a bare loop, and going on after a kill.

``python benchmarks/scale_many.py [--quick] [--images N] [--size PX] [--engine E --model M]``. The images are drawn
scenes of nuclei, so that nothing has to be downloaded. "One" is one process with one thread, "two" is two such
processes; the bare loop reads, prepares, searches, measures and writes labels, and knows no project. Every run is a
process of its own, started anew. One and two take turns; the bare loop and one worker run at the same time, on a core
each, because a machine that is slower for some minutes hides a difference of a few per cent. The median counts. The
first image, which loads the network, is searched before the clock starts, in every worker.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cell_curator.engines.cluster import _IN_HAND

_WARM = 4  # images searched before the clock starts; as many in every run, so that ids are the same
ENGINE, MODEL = "unetpp", "unetpp-nuclei"


def draw(folder: Path, count: int, size: int) -> None:
    """Images of about one cell in 4000 px, each scene in its eight turns."""
    import numpy as np

    from cell_curator.io.tiff import write_tiff
    from cell_curator.samples.scenes import nuclei_on_grooves

    for number in range(count):
        scene, turn = divmod(number, 8)
        if turn == 0:
            made = nuclei_on_grooves(scene, elongated=bool(scene % 2), count=size * size // 4000, size=size).image
        image = np.rot90(made[..., ::-1] if turn > 3 else made, turn % 4, axes=(-2, -1))
        path = folder / ("control" if scene % 2 else "treated") / f"{number:04d}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tiff(path, np.ascontiguousarray(image))


# ---------------------------------------------------------------------- in a process of its own


def params(engine: str, model: str) -> Any:
    from cell_curator.engines.segmenter import SegmentParameters

    quality = "fast" if engine == "unetpp" else "accurate"
    return SegmentParameters(engine=engine, model=model, quality=quality, threads=1)


def bare(images: Path, out: Path, engine: str, model: str) -> float:
    """Seconds of the bare loop."""
    from cell_curator.core.jobs import drive
    from cell_curator.core.measure import measure
    from cell_curator.core.preprocess import prepare
    from cell_curator.core.recipe import DEFAULT
    from cell_curator.engines.segmenter import segment_image
    from cell_curator.io.images import find_images, read_image
    from cell_curator.io.labels import write_labels

    out.mkdir()
    chosen, found = params(engine, model), find_images(images)

    def one(path: Path) -> None:
        pixels = read_image(path)
        made = drive(segment_image(prepare(pixels, DEFAULT).image, chosen))
        measure(made.labels, pixels[:1])
        write_labels(out / f"{path.stem}.tif", made.labels)

    one(found[0][0])
    start = time.perf_counter()
    for path, _ in found:
        one(path)
    return time.perf_counter() - start


def line(images: Path, out: Path, engine: str, model: str, workers: int) -> float:
    """Seconds in which a project finds the cells of all its images and stores them."""
    from cell_curator.core.jobs import drive
    from cell_curator.engines.cluster import Manpower
    from cell_curator.session import Session
    from cell_curator.workflow import by_crew, search_left

    again = (out / "project.sqlite").exists()
    session = Session.open_or_create(out)
    if not again:
        drive(session.add_images(images))
        session.put(params(engine, model))
    ids = [record.image_id for record in session.images]
    seconds = 0.0

    def work() -> Any:
        nonlocal seconds
        if not again:  # every worker loads the network before the clock starts
            yield from session.segment(ids[:_WARM])
        start = time.perf_counter()
        report = yield from search_left(session, again=not again)
        seconds = time.perf_counter() - start
        return report

    report = drive(by_crew(session, Manpower(workers), len(ids), work))
    print("searched", report.done, "kept", report.kept, file=sys.stderr, flush=True)
    from cell_curator.results import save_tables

    save_tables(session, out, report.failed)
    session.close()
    return seconds


# ---------------------------------------------------------------------- the figures


def begun(*words: Any) -> subprocess.Popen[str]:
    """A run in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, __file__, "--child", *map(str, words)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(child: subprocess.Popen[str]) -> dict[str, Any]:
    """What a run says when it is done."""
    out, said = child.communicate()
    if child.returncode:
        raise SystemExit(said)
    seconds, cpu = map(float, out.split()[-2:])
    last = [words for words in said.splitlines() if words.startswith("searched")]
    return {"seconds": seconds, "cpu": cpu, "searched": int(last[-1].split()[1]) if last else 0}


def killed_at(count: int, out: Path, *words: Any) -> int:
    """Kill a run once so many images are stored; returns how many are."""
    child, stored = begun(*words), out / "labels.zarr" / "labels"
    while child.poll() is None and len(list(stored.glob("*-r*"))) < count:
        time.sleep(0.1)
    done = len(list(stored.glob("*-r*")))
    child.kill()
    child.communicate()
    return done


def spent() -> float:
    """Processor seconds of this process and of those it started."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def figures(images: Path, scratch: Path, count: int, engine: str, model: str, rounds: int) -> list[dict[str, Any]]:
    """All figures."""
    made: dict[str, list[dict[str, Any]]] = {}

    def start(name: str, workers: int) -> tuple[str, subprocess.Popen[str]]:
        out = scratch / f"{name} {len(made.get(name, ()))}".replace(" ", "-")
        return name, begun("bare" if not workers else "line", images, out, engine, model, workers)

    def end(name: str, child: subprocess.Popen[str]) -> None:
        made.setdefault(name, []).append(ended(child))
        print(name, made[name][-1], file=sys.stderr, flush=True)

    for _ in range(rounds):
        end(*start("one worker", 1))
        end(*start("two workers", 2))
        side_by_side = start("bare loop", 0), start("one worker beside it", 1)
        for pair in side_by_side:
            end(*pair)
    usual = {name: statistics.median(run["seconds"] for run in runs) for name, runs in made.items()}
    cpu = {name: [run["cpu"] for run in runs] for name, runs in made.items()}
    speed = usual["one worker"] / usual["two workers"]
    overhead = usual["one worker beside it"] / usual["bare loop"] - 1
    whole = scratch / "two-workers-0" / "cells.csv"
    same = whole.read_bytes() == (scratch / "one-worker-0" / "cells.csv").read_bytes()
    again = "line", images, scratch / "killed", engine, model, 2
    done = killed_at(count // 2, scratch / "killed", *again)
    second = ended(begun(*again))
    repeated = max(0, second["searched"] + done - count)
    lost = 2 * _IN_HAND  # at most so many were finished, too, but waited for their turn to be stored
    share = (repeated + lost) / max(1, done)
    alike = whole.read_bytes() == (scratch / "killed" / "cells.csv").read_bytes()
    about = {"images": count, "engine": engine, "model": model, "cores": os.cpu_count()}
    took = {name: round(value, 1) for name, value in usual.items()}
    worked = {name: round(statistics.median(values), 1) for name, values in cpu.items()}
    return [
        {
            "name": f"{count} images, two workers against one",
            "ours": took["two workers"],
            "reference": took["one worker"],
            "ratio": round(speed, 2),
            "goal": 1.7,
            "met": speed >= 1.7,
            "byte-identical": same,
            "seconds": took,
            "processor seconds": worked,
            "load when done": round(os.getloadavg()[0], 1),
            **about,
        },
        {
            "name": f"{count} images, one worker over the bare loop, %",
            "ours": took["one worker beside it"],
            "reference": took["bare loop"],
            "ratio": round(1 / (1 + overhead), 3),
            "overhead %": round(100 * overhead, 1),
            "goal": 10,
            "met": overhead <= 0.1,
        },
        {
            "name": "going on after a kill in the middle, % of finished work repeated",
            "ours": round(100 * share, 2),
            "stored before the kill": done,
            "stored ones searched again": repeated,
            "in hand at the kill, at most": lost,
            "searched afterwards": second["searched"],
            "byte-identical": alike,
            "goal": 5,
            "met": share <= 0.05 and alike,
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="24 images of 256 px, one round")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--engine", default=ENGINE)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, images, out, engine, model, workers = args.child
        where = Path(images), Path(out), engine, model
        print(bare(*where) if kind == "bare" else line(*where, int(workers)), spent())
        return
    count, size = (24, 256) if args.quick else (args.images, args.size)
    with tempfile.TemporaryDirectory(prefix="cell-curator-many-") as folder:
        scratch = Path(folder)
        draw(scratch / "images", count, size)
        print(json.dumps(figures(scratch / "images", scratch, count, args.engine, args.model, args.rounds)))


if __name__ == "__main__":
    main()
