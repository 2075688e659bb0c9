"""How long does a correction take, and how much does its history weigh?

    python benchmarks/edits.py [--quick] [--labels FILE]

On 2048² with some 2,000 cells: every tool by itself (`core.edits`, nothing stored), and every tool as a step
on a session, with measuring, journal, storing on disk and telling the views; then the memory of 1,000
steps, and the project folder after them. Each figure is the median and the 95th percentile of runs on cells
drawn by chance; ``cpu`` is the processor time, which other programs do not lengthen.
``--labels`` takes a label image of your own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.edits import (
    box_of,
    delete,
    labels_in_box,
    labels_in_polygon,
    merge,
    redraw,
    separate_pieces,
)
from cell_curator.core.edits_shape import fill_holes, grow, shrink, smooth
from cell_curator.core.edits_split import split_by_line, split_by_seeds
from cell_curator.core.jobs import UserError, drive
from cell_curator.editing import edit
from cell_curator.session import Session

GOAL_MS = 100.0
GOAL_MB = 20.0
Labels = NDArray[np.int32]


def scene(size: int = 2048, pitch: int = 45) -> Labels:
    """Round cells in a square lattice, some with holes, some that touch; 2,025 on 2048²."""
    rng = np.random.default_rng(4)
    labels = np.zeros((size, size), np.int32)
    y, x = np.ogrid[:pitch, :pitch]
    for number, (top, left) in enumerate(np.ndindex(size // pitch, size // pitch), 1):
        cy, cx = rng.uniform(19, 25, 2)
        ry, rx = rng.uniform(14, 21, 2)
        mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        mask &= (np.abs(y - cy) > 2) | (np.abs(x - cx) > 2)
        labels[top * pitch : (top + 1) * pitch, left * pitch : (left + 1) * pitch][mask] = number
    labels[rng.random(labels.shape) < 0.01] = 0  # ragged outlines
    labels[0, 0] = labels.max()  # one cell in two pieces
    return labels


def drawings(labels: Labels, rng: np.random.Generator) -> dict[str, dict[str, object]]:
    """What is drawn for each tool, on a cell by chance."""
    values = np.unique(labels)[1:]
    value = int(rng.choice(values))
    top, left, bottom, right = box_of(labels, [value])
    middle = (left + right) / 2
    inside = np.argwhere(labels[top:bottom, left:right] == value) + np.array([top, left])
    seeds = inside[[0, -1]].tolist()
    outline = [(top, left), (top, right), (bottom, right), (bottom, left)]
    near = labels[top : bottom + 30, left : right + 30]
    pair = [int(v) for v in np.unique(near) if v][:2]
    return {
        "split": {"points": [(top - 2, middle), (bottom + 2, middle)]},
        "split by seeds": {"points": seeds},
        "merge": {"labels": pair, "bridge_px": 8.0},
        "delete": {"labels": [value]},
        "delete inside": {"points": [(top - 60, left - 60), (top - 60, right + 60), (bottom + 60, middle)]},
        "redraw": {"labels": [value], "points": outline},
        "fill holes": {"labels": [value]},
        "smooth": {"labels": [value]},
        "grow": {"labels": [value], "px": 2.0},
        "shrink": {"labels": [value], "px": 2.0},
    }


Took = tuple[float, float]
"""Milliseconds by the clock, and of processor time."""


def timed(call: Callable[..., object], *arguments: object, **named: object) -> Took | None:
    """How long a call took, or None if the tool had nothing to do."""
    start, cpu = time.perf_counter(), time.process_time()
    try:
        call(*arguments, **named)
    except UserError:
        return None
    return 1e3 * (time.perf_counter() - start), 1e3 * (time.process_time() - cpu)


ALONE: dict[str, Callable[..., object]] = {
    "split": split_by_line,
    "split by seeds": split_by_seeds,
    "merge": merge,
    "delete": delete,
    "redraw": lambda labels, values, points: redraw(labels, values[0], points),
    "fill holes": fill_holes,
    "smooth": smooth,
    "grow": grow,
    "shrink": shrink,
}


def alone(labels: Labels, repeats: int) -> dict[str, list[Took]]:
    """Each tool by itself."""
    rng = np.random.default_rng(1)
    everything = np.unique(labels)[1:].tolist()
    times: dict[str, list[Took]] = {}

    def note(name: str, took: Took | None) -> None:
        if took is not None:
            times.setdefault(name, []).append(took)

    for _ in range(repeats):
        given = drawings(labels, rng)
        for name, tool in ALONE.items():
            named = {"values" if key == "labels" else key: value for key, value in given[name].items()}
            note(name, timed(tool, labels, **named))
        some = rng.permutation(everything)[:200].tolist()
        for reshape in (delete, smooth, grow, shrink):
            note(f"{reshape.__name__} 200 cells", timed(reshape, labels, some))
        note("separate pieces of all cells", timed(separate_pieces, labels))
        lasso = rng.uniform(0, labels.shape[0], (5, 2))
        note("pick in a lasso", timed(labels_in_polygon, labels, lasso))
        note("pick in a rectangle", timed(labels_in_box, labels, lasso[0], lasso[1]))
    return times


def project(labels: Labels, folder: Path) -> Session:
    """A project of one image with these cells."""
    from cell_curator.io.tiff import write_tiff

    noise = np.random.default_rng(2).integers(0, 100, labels.shape)
    (folder / "images").mkdir()
    write_tiff(folder / "images" / "field.tif", (500 * (labels > 0) + noise).astype(np.uint16)[None])
    session = Session.create(folder / "bench.curator")
    drive(session.add_images(folder / "images"))
    session.set_labels(1, labels)
    return session


def on_session(session: Session, repeats: int) -> dict[str, list[Took]]:
    """Each tool as a step, its undo and redo, and a stroke of paint."""
    rng = np.random.default_rng(3)
    times: dict[str, list[Took]] = {}
    for _ in range(repeats):
        for name, given in drawings(session.labels(1), rng).items():
            took = timed(edit, session, 1, name, **given)
            if took is None:
                continue
            for what, one in ((name, took), ("undo", timed(session.undo)), ("redo", timed(session.redo))):
                assert one is not None
                times.setdefault(what, []).append(one)
            session.undo()
        painted = session.labels(1)
        y, x = rng.integers(0, painted.shape[0] - 20, 2)
        painted[y : y + 12, x : x + 12] = painted[y, x] or int(painted.max()) + 1
        took = timed(session.set_labels, 1, painted)
        assert took is not None
        times.setdefault("paint a stroke", []).append(took)
    return times


def history(session: Session, steps: int) -> dict[str, float]:
    """Megabytes that the undo history takes for ``steps`` edits, by allocation."""
    import tracemalloc

    rng = np.random.default_rng(5)
    session.history.clear()
    done = 0
    while done < steps:
        for name, given in drawings(session.labels(1), rng).items():
            done += timed(edit, session, 1, name, **given) is not None
    tracemalloc.start()
    kept = [_copy(step) for step in session.history._done]
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    disk = sum(path.stat().st_size for path in session.folder.rglob("*") if path.is_file())
    return {"steps": len(kept), "per_1000_mb": size / 1e3 / len(kept), "project_mb": disk / 1e6}


def _copy(step: object) -> object:
    """The same step with arrays of its own, so that they can be weighed."""
    return [bytes(bytearray(step.runs.data)), step.was.copy(), step.becomes.copy(), dict(step.detail)]  # type: ignore[attr-defined]


def figures(where: str, times: dict[str, list[Took]]) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for name, pairs in times.items():
        took, cpu = np.array(pairs).T
        made.append(
            {
                "name": f"{name}, {where}", "ours": round(float(np.median(took)), 1), "unit": "ms",
                "p95": round(float(np.percentile(took, 95)), 1), "cpu": round(float(np.median(cpu)), 1),
                "reference": None, "ratio": None, "goal": GOAL_MS, "met": bool(np.median(took) <= GOAL_MS),
                "runs": len(took),
            }
        )  # fmt: skip
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer runs; within a minute")
    parser.add_argument("--labels", type=Path, help="a label image instead of the lattice")
    options = parser.parse_args()
    if options.labels is None:
        labels = scene()
    else:
        from cell_curator.io.labels import read_labels

        labels = read_labels(options.labels)
    made = figures("alone", alone(labels, 5 if options.quick else 25))
    with tempfile.TemporaryDirectory() as folder:
        session = project(labels, Path(folder))
        made += figures("on a session", on_session(session, 3 if options.quick else 15))
        weight = history(session, 50 if options.quick else 1000)
        session.close()
    made.append(
        {
            "name": "history of 1,000 edits", "ours": round(weight["per_1000_mb"], 2), "unit": "MB", "reference": None,
            "ratio": None, "goal": GOAL_MB, "met": weight["per_1000_mb"] <= GOAL_MB, **weight,
        }
    )  # fmt: skip
    print(f"{labels.shape[0]}×{labels.shape[1]}, {len(np.unique(labels)) - 1} cells", file=sys.stderr)
    for one in made:
        more = f"p95 {one['p95']:>7}  cpu {one['cpu']:>7}" if "cpu" in one else ""
        print(f"{one['name']:45} {one['ours']:>8} {one['unit']}  {more}", file=sys.stderr)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
