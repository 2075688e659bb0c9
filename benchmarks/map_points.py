"""How smoothly 100,000 cells are walked through on the map, in a real napari window.

    xvfb-run -s "-screen 0 1600x1000x24" python benchmarks/map_points.py [--cells 100000] [--quick]

A project with that many cells has its map beside the image. The last line is a JSON list of figures,

- *lasso to selection, ms*: from letting go of the mouse until the cells inside are selected and every view has taken
  that over, median; besides it stands what of that is finding the points inside, how long until all is drawn, and the
  time of the processor, which is what an idle machine takes;
- *selection to highlight, ms*: cells are chosen elsewhere until the map shows them, without napari's drawing, median;
- *recolour, ms*: another colouring until the map has it, median, without napari's drawing;
- *frame while panning, ms*: the camera moves and the window is drawn, 95th percentile. The reference is the same
  window without a map; besides it stands what napari's Points layer takes for as many points, on the same screen;
- *frame while drawing the lasso, ms*: the mouse moves, the line follows and the window is drawn, 95th percentile.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from cell_curator.core.cells import CellTable
from cell_curator.core.jobs import drive
from cell_curator.core.measure import measure
from cell_curator.io.project import Change
from cell_curator.io.records import StoredEmbedding
from cell_curator.io.tiff import write_tiff
from cell_curator.link.map_lasso import inside
from cell_curator.session import Session
from cell_curator.widgets.canvas_handles import canvas_of
from cell_curator.widgets.window import open_window, settle
from cell_curator.widgets.workbench import workbench_of

_SIDE, _PITCH, _RADIUS = 512, 16, 6
_CLUSTERS = 6


def make_project(folder: Path, cells: int) -> Path:
    """A project with at least so many cells in two conditions, and a map of six clouds; returns its folder."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    number = 1 + rows // _PITCH * (_SIDE // _PITCH) + columns // _PITCH
    round_cells = np.hypot(rows % _PITCH - _PITCH / 2, columns % _PITCH - _PITCH / 2) < _RADIUS
    labels = np.where(round_cells, number, 0).astype(np.int32)
    per_image, rng = int(labels.max()), np.random.default_rng(0)
    image = (200 + 800 * (labels > 0) + rng.normal(0, 60, labels.shape)).astype(np.uint16)
    for index in range(-(-cells // per_image)):
        where = folder / "images" / ("control", "treated")[index % 2]
        where.mkdir(parents=True, exist_ok=True)
        write_tiff(where / f"field_{index:03d}.tif", image[None])
    session = Session.create(folder / "many.curator")
    drive(session.add_images(folder / "images"))
    one = measure(labels, session.pixels(session.images[0].image_id))
    tables = []
    for place, record in enumerate(session.images):
        ids = pd.Index(place * per_image + np.arange(1, per_image + 1), name="cell_id")
        tables.append(one.assign(label=one.index, image=record.image_id, condition=record.condition).set_index(ids))
    table = pd.concat(tables)
    cluster = rng.integers(0, _CLUSTERS, len(table))
    table["cluster"], table["area"] = cluster, rng.normal(300, 60, len(table))
    session.commit(
        Change("made", {}, cells=CellTable(table).frame, labels={r.image_id: labels for r in session.images})
    )
    turn = 2 * np.pi * cluster / _CLUSTERS
    map2d = 4 * np.c_[np.cos(turn), np.sin(turn)] + rng.normal(size=(len(table), 2))
    ids, map2d = table.index.to_numpy(np.int64), map2d.astype(np.float32)
    stored = StoredEmbedding(ids, np.ones(len(ids), np.int64), map2d, map2d, {}, {})
    names = {str(n): f"Cluster {n + 1}" for n in range(_CLUSTERS)}
    session.commit(Change("map", {}, embedding=stored, clustering={"names": names, "space": "latent", "scores": {}}))
    session.close()
    return folder / "many.curator"


def timed(action: Callable[[], Any]) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - start)


class Mouse:
    """Real mouse events on the canvas, in world positions."""

    def __init__(self, viewer: Any) -> None:
        self._viewer, self._canvas = viewer, canvas_of(viewer)

    def at(self, world: Any) -> QPoint:
        """Where a world position is on the canvas."""
        camera = self._viewer.scene.camera
        middle = np.array([self._canvas.height() / 2, self._canvas.width() / 2])
        y, x = middle + (np.asarray(world) - np.asarray(camera.center[-2:])) * camera.zoom
        return QPoint(round(x), round(y))

    def drag(self, path: np.ndarray) -> list[float]:
        """Draw along ``path`` without letting go; milliseconds of each move with its drawing."""
        spots = [self.at(world) for world in path]
        QTest.mousePress(self._canvas, Qt.MouseButton.LeftButton, pos=spots[0])
        return [timed(lambda spot=spot: self._move(spot)) for spot in spots[1:]]

    def let_go(self, world: Any) -> None:
        """End of the drag."""
        QTest.mouseRelease(self._canvas, Qt.MouseButton.LeftButton, pos=self.at(world), delay=-1)

    def _move(self, spot: QPoint) -> None:
        where, everywhere = QPointF(spot), QPointF(self._canvas.mapToGlobal(spot))
        left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
        held = Qt.KeyboardModifier.NoModifier
        QApplication.sendEvent(self._canvas, QMouseEvent(QEvent.Type.MouseMove, where, everywhere, none, left, held))
        QApplication.processEvents()


def pan(viewer: Any, count: int) -> list[float]:
    """Milliseconds of frames while the camera moves to and fro."""

    def step(by: float) -> None:
        _, y, x = viewer.scene.camera.center
        viewer.scene.camera.center = (0.0, y, x + by)
        QApplication.processEvents()

    step(1.0)
    return [timed(lambda n=n: step(3.0 if n % 20 < 10 else -3.0)) for n in range(count)]


def ring(middle: np.ndarray, radius: float, count: int = 60) -> np.ndarray:
    """A closed line round ``middle``."""
    turn = np.linspace(0, 2 * np.pi, count)
    return middle + radius * np.c_[np.sin(turn), np.cos(turn)]


def figure(name: str, ours: float, goal: float, **besides: Any) -> dict[str, Any]:
    """One figure in the form of all benchmarks; the goal is the reference, lower is better."""
    made = {"name": name, "ours": round(ours, 1), "reference": round(goal, 1), "ratio": round(goal / max(ours, 0.1), 2)}
    return made | {"goal": f"≤ {round(goal, 1)}", "met": bool(ours <= goal), **besides}


def lasso_figures(bench: Any, count: int) -> list[dict[str, Any]]:
    """The lasso, drawn by mouse; its moves, and what letting go does."""
    viewer, link, session = bench.viewer, bench.link, bench.session
    positions, mouse = link.points.positions, Mouse(bench.viewer)
    middle, spread = positions.mean(axis=0), float(np.ptp(positions[:, 0]))
    told: list[float] = []
    link.lasso.said.connect(lambda _: told.append(time.perf_counter()))  # the last thing that the lasso does
    link.lasso.on = True
    moves, chosen, drawn, caught, busy = [], [], [], [], []
    for n in range(count):
        path = ring(middle + spread * 0.3 * np.array([np.sin(n), np.cos(n)]), spread * 0.12)
        moves += mouse.drag(path)
        start, worked = time.perf_counter(), time.process_time()
        mouse.let_go(path[-1])
        busy.append(1000 * (time.process_time() - worked))
        QApplication.processEvents()
        chosen.append(1000 * (told[-1] - start))
        drawn.append(1000 * (time.perf_counter() - start))
        caught.append(len(session.selection.ids))
    link.lasso.on = False
    within = [timed(lambda n=n: inside(positions, ring(middle, spread * 0.1 * (1 + n % 4), 200))) for n in range(20)]
    points = {"cells": len(positions), "caught": int(np.median(caught))}
    finding = {"finding_them": round(float(np.median(within)), 1), "drawn": round(float(np.median(drawn)), 1)}
    finding["processor"] = round(float(np.median(busy)), 1)
    session.selection.clear()
    viewer.reset_view()
    return [
        figure(
            "lasso to selection, ms", float(np.median(chosen)), 100, worst=round(max(chosen), 1), **points, **finding
        ),
        figure(
            "frame while drawing the lasso, ms", float(np.percentile(moves, 95)), 100, median=round(np.median(moves), 1)
        ),
    ]


def view_figures(bench: Any, count: int) -> list[dict[str, Any]]:
    """Choosing elsewhere, recolouring, panning; and panning with a Points layer, and without a map."""
    from napari.layers import Points

    viewer, link, session = bench.viewer, bench.link, bench.session
    ids, rng = session.cells.frame.index.to_numpy(), np.random.default_rng(1)
    picks = [rng.choice(ids, 2000, replace=False).tolist() for _ in range(count)]
    lit = [timed(lambda p=p: session.selection.set(p)) for p in picks]
    session.selection.clear()
    colorings = ["condition", "area", "image", "cluster"] * max(count // 4, 1)
    recolored = [timed(lambda by=by: link.color_points(by)) for by in colorings]
    by = {name: round(recolored[i], 1) for i, name in enumerate(colorings[:4])}
    frames = pan(viewer, 5 * count)
    link.points.layer.visible = False
    empty = pan(viewer, 5 * count)
    colors = np.full((len(ids), 4), 0.7)
    viewer.layers.append(Points(link.points.positions, size=4, face_color=colors))
    QApplication.processEvents()
    points = pan(viewer, 8)
    viewer.layers.pop()
    link.points.layer.visible = True
    low = {"median": round(float(np.median(frames)), 1), "points_layer": round(float(np.median(points)), 1)}
    low["without_a_map"] = round(float(np.percentile(empty, 95)), 1)
    return [
        figure("selection to highlight, ms", float(np.median(lit)), 100, chosen=2000),
        figure("recolour, ms", float(np.median(recolored)), 200, **by),
        figure("frame while panning, ms", float(np.percentile(frames, 95)), 2 * low["without_a_map"], **low),
    ]


def main() -> None:
    """Open the window, walk, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="20,000 cells, fewer steps")
    options = parser.parse_args()
    cells, count = (20_000, 8) if options.quick else (options.cells, 20)
    project = make_project(Path(tempfile.mkdtemp()), cells)
    viewer, docks = open_window(project, run=False)
    viewer.window.resize(1580, 980)
    bench = workbench_of(viewer)
    settle(bench)
    docks.show_dock("Explore")
    settle(bench)
    viewer.reset_view()
    QApplication.processEvents()
    made = [*lasso_figures(bench, count), *view_figures(bench, count)]
    viewer.close()
    for one in made:
        print(f"{one['name']:<36} {one['ours']:>8} (goal {one['goal']})")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
