"""A project of 1,000 images and 500,000 cells: opening it, and choosing, filtering and deciding in it.

    xvfb-run -s "-screen 0 1600x1000x24" python benchmarks/scale_open.py [--quick] [--keep FOLDER] [--no-window]

The last line is a JSON list of figures, each the median:

- *opening the project, ms*: `Session.open` of a project that was closed; besides it stands the same after whoever had
  it open was killed, and without the copy of the table that lies beside the database;
- *selection*, *filter*, *verdict, ms*, in the session: one cell is chosen; the cells of a list of Review are looked up;
  one cell is accepted and stored;
- the same *in the window*, for the dock that takes longest: from the call until every dock and layer has taken it over.

Beside each stands *processor*: what the main thread worked, which is what an idle machine takes.
``--keep FOLDER`` makes the project there, or takes the one that is there already.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cell_curator.core.cells import COLUMNS, CellTable
from cell_curator.core.jobs import drive
from cell_curator.core.measure import measure
from cell_curator.core.outliers import score
from cell_curator.io.project import Change
from cell_curator.io.records import StoredEmbedding
from cell_curator.io.tiff import write_tiff
from cell_curator.session import Session
from cell_curator.widgets.review_filter import Wanted, cells_of

_SIDE, _A_ROW, _RADIUS = 512, 23, 8
_CLUSTERS = 6
GOAL_MS, GOAL_OPEN_MS = 100.0, 3000.0


def _field(cells: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image and its labels: so many blobs of different sizes on a jittered grid."""
    labels, pitch = np.zeros((_SIDE, _SIDE), np.int32), _SIDE / _A_ROW
    y, x = np.mgrid[:_SIDE, :_SIDE]
    for number in range(cells):
        row, column = divmod(number, _A_ROW)
        middle = (np.array([row, column]) + 0.5) * pitch + rng.normal(0, 1.0, 2)
        long, short = rng.uniform(0.7, 1.1) * _RADIUS, rng.uniform(0.6, 1.0) * _RADIUS
        labels[((y - middle[0]) / long) ** 2 + ((x - middle[1]) / short) ** 2 < 1] = number + 1
    bright = rng.normal(900, 150, cells + 1)[labels]
    image = np.where(labels > 0, bright, 200) + rng.normal(0, 40, labels.shape)
    return image.clip(0).astype(np.uint16), labels


def make_project(folder: Path, images: int, a_image: int = 500) -> Path:
    """A project of so many images with so many measured, scored and mapped cells each; returns its folder."""
    rng = np.random.default_rng(0)
    image, labels = _field(a_image, rng)
    first = None
    for index in range(images):
        where = folder / "images" / ("control", "treated")[index % 2]
        where.mkdir(parents=True, exist_ok=True)
        file = where / f"field_{index:04d}.tif"
        if first is None:
            write_tiff(file, image[None])
        else:
            shutil.copyfile(first, file)
        first = first or file
    session = Session.create(folder / "large.curator")
    drive(session.add_images(folder / "images"))
    table = _table(measure(labels, image[None]), session, rng)
    session.commit(Change("made", {}, cells=table, labels={r.image_id: labels.copy() for r in session.images}))
    session.project.reserve_cell_ids(len(table) + 1)
    _put_map(session, rng)
    session.close()
    return folder / "large.curator"


def _table(one: pd.DataFrame, session: Session, rng: np.random.Generator) -> pd.DataFrame:
    """The same cells in every image, each figure a little different everywhere; scored image by image."""
    tables = []
    figures = [name for name, kind in COLUMNS.items() if kind == "float64" and name in one]
    for place, record in enumerate(session.images):
        rows = one.assign(label=one.index, image=record.image_id, condition=record.condition)
        rows[figures] = rows[figures] * rng.normal(1, 0.05, (len(rows), len(figures)))
        rows.index = pd.Index(place * len(one) + np.arange(1, len(one) + 1), name="cell_id")
        if place < 20:
            found = score(rows)
        rows["score"], rows["flags"] = found["score"].to_numpy(), found["reasons"].to_numpy()
        tables.append(rows)
    frame = CellTable(pd.concat(tables)).frame.copy()
    verdicts = np.array(["proposed", "accepted", "edited", "rejected"], object)
    frame["verdict"] = verdicts[rng.choice(4, len(frame), p=[0.9, 0.06, 0.01, 0.03])]
    frame["cluster"] = rng.integers(0, _CLUSTERS, len(frame))
    frame["flow_error"] = rng.gamma(2, 0.1, len(frame))
    return frame


def _put_map(session: Session, rng: np.random.Generator) -> None:
    ids, cluster = session.cells.frame.index.to_numpy(np.int64), session.cells.frame["cluster"].to_numpy()
    turn = 2 * np.pi * cluster / _CLUSTERS
    latent = rng.normal(size=(len(ids), 16)).astype(np.float32)
    map2d = (4 * np.c_[np.cos(turn), np.sin(turn)] + rng.normal(size=(len(ids), 2))).astype(np.float32)
    stored = StoredEmbedding(ids, np.ones(len(ids), np.int64), latent, map2d, {}, {})
    names = {str(n): f"Cluster {n + 1}" for n in range(_CLUSTERS)}
    session.commit(Change("map", {}, embedding=stored, clustering={"names": names, "space": "latent", "scores": {}}))


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Milliseconds on the wall, and of this thread on the processor, which is what an idle machine takes."""
    start, worked = time.perf_counter(), time.thread_time()
    action()
    return 1000 * (time.perf_counter() - start), 1000 * (time.thread_time() - worked)


def figure(name: str, times: list[tuple[float, float]], goal: float, **besides: Any) -> dict[str, Any]:
    """One figure in the form of all benchmarks; the goal is the reference, lower is better."""
    ours, processor = (round(statistics.median(one), 1) for one in zip(*times, strict=True))
    made = {"name": name, "ours": ours, "reference": goal, "ratio": round(goal / max(ours, 0.1), 2)}
    return made | {"goal": f"≤ {goal}", "met": bool(ours <= goal), "processor": processor, **besides}


def opening_figure(project: Path, count: int) -> dict[str, Any]:
    """`Session.open`; after a clean end, after a kill, and without the arrays."""

    def opened(how: Callable[[], Any] = lambda: None) -> tuple[float, float]:
        how()
        sessions: list[Session] = []
        took = timed(lambda: sessions.append(Session.open(project)))
        cells.append(len(sessions[0].cells))
        sessions[0].close()
        return took

    cells: list[int] = []
    opened()
    clean = [opened() for _ in range(count)]
    killed = opened(lambda: (project / "project.owner").write_text("{}"))
    without = opened((project / "cells.npz").unlink)
    besides = {"after_a_kill": round(killed[0]), "without_the_arrays": round(without[0]), "cells": cells[0]}
    return figure("opening the project, ms", clean, GOAL_OPEN_MS, **besides)


def session_figures(session: Session, count: int) -> list[dict[str, Any]]:
    """Choosing, listing and deciding, without a window."""
    frame, rng = session.cells.frame, np.random.default_rng(1)
    picks = rng.choice(frame.index.to_numpy(), (2, count)).tolist()
    lists = (Wanted(), Wanted("proposed"), Wanted("all", condition="treated"), Wanted("all", column="area", low=150.0))
    filters = [timed(partial(cells_of, frame, wanted)) for _ in range(count // 4) for wanted in lists]
    select = [timed(partial(session.selection.set, {cell})) for cell in picks[0]]
    many = timed(partial(session.selection.set, frame.index[:5000].tolist()))
    decide = [timed(partial(session.set_verdict, [cell], "accepted")) for cell in picks[1]]
    bulk = timed(partial(session.set_verdict, frame.index[5000:6000].tolist(), "accepted"))
    undo = timed(session.undo)
    session.selection.clear()
    return [
        figure("selection, ms", select, GOAL_MS, of_5000=round(many[1], 1)),
        figure("filter, ms", filters, GOAL_MS),
        figure("verdict, ms", decide, GOAL_MS, of_1000=round(bulk[1], 1), undone=round(undo[1], 1)),
    ]


def window_figures(project: Path, count: int) -> list[dict[str, Any]]:
    """The same with napari and all docks, each dock in front once; the worst dock counts."""
    from qtpy.QtWidgets import QApplication

    from cell_curator.widgets.window import open_window, settle
    from cell_curator.widgets.workbench import workbench_of

    def done(action: Callable[[], Any]) -> tuple[float, float]:
        took = timed(lambda: (action(), QApplication.processEvents()))
        settle(bench)
        return took

    viewer, docks = open_window(None, run=False)
    viewer.window.resize(1580, 980)
    bench = workbench_of(viewer)
    opening = [timed(lambda: (bench.open(project), settle(bench)))]
    session, review = bench.session, docks.docks["Review"].queue.filter
    rng, found = np.random.default_rng(2), {}
    for title in docks.docks:
        docks.show_dock(title)
        settle(bench)
        here = session.cells.of_image(session.current_image).index.to_numpy()
        one, other = rng.choice(here, (2, count)).tolist()
        found[title] = (
            [done(partial(session.selection.set, {cell})) for cell in one],
            [done(partial(session.set_verdict, [cell], "accepted")) for cell in other],
        )
    docks.show_dock("Review")
    words = ("proposed", "suspicious", "all", "accepted") * max(count // 4, 1)
    filters = [done(lambda word=word: (review.show_list(word), review.changed.emit())) for word in words]
    viewer.close()
    made = [
        figure("opening in the window, ms", opening, GOAL_OPEN_MS),
        figure("filter in the window, ms", filters, GOAL_MS),
    ]
    for index, name in enumerate(("selection", "verdict")):
        medians = {title: statistics.median(one[1] for one in times[index]) for title, times in found.items()}
        worst = max(medians, key=medians.__getitem__)
        each = {title: round(value, 1) for title, value in medians.items()}
        made.append(
            figure(f"{name} in the window, ms", found[worst][index], GOAL_MS, worst_dock=worst, processor_each=each)
        )
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 images, 50,000 cells")
    parser.add_argument("--keep", type=Path, help="folder of the project")
    parser.add_argument("--no-window", action="store_true", help="only what needs no screen")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp())
    project = folder / "large.curator"
    if not project.is_dir():
        make_project(folder, 100 if options.quick else 1000)
    made = [opening_figure(project, 3)]
    with closing(Session.open(project)) as session:
        made += session_figures(session, 8 if options.quick else 20)
    if not options.no_window:
        made += window_figures(project, 4 if options.quick else 6)
    for one in made:
        print(f"{one['name']:<32} {one['ours']:>8} (goal {one['goal']}, processor {one['processor']})")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
