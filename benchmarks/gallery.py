"""How smoothly 100,000 cells scroll in the gallery, and what memory that takes.

    xvfb-run -s "-screen 0 1600x1000x24" python benchmarks/gallery.py [--cells 100000] [--quick]

A project with that many cells in images of 512² is opened in a real napari window; the large gallery, as it opens
(a window of its own), is scrolled from end to end, a step at a time and in leaps, while its pictures are made in the
background. The last line is a JSON list of figures,

- *frame, ms*: from moving the scroll bar until the gallery is drawn and the window has seen to whatever else there
  was, 95th percentile; 33 ms are 30 frames a second. Besides it stands what of that our drawing takes, and the same
  for the gallery docked below the image: there Qt composes the whole window with napari's canvas for each frame,
  which is slow without a graphics card;
- *frames a second*: frames drawn in the time that scrolling took, with all that the window does besides;
- *pictures in view, ms*: from the end of a leap until all pictures in view are there, median;
- *memory, MB*: what the process grew by from the first gallery to the end of all scrolling. Besides it stands how
  much of that are the gallery's pictures, and how much are pixels of images that the session keeps at hand.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from qtpy.QtWidgets import QApplication

from cell_curator.core.cells import CellTable
from cell_curator.core.jobs import drive
from cell_curator.core.measure import measure
from cell_curator.io.project import Change
from cell_curator.io.tiff import write_tiff
from cell_curator.pixel_cache import size_of
from cell_curator.session import Session
from cell_curator.widgets.gallery import Gallery
from cell_curator.widgets.review_filter import ALL
from cell_curator.widgets.window import open_window, settle
from cell_curator.widgets.workbench import workbench_of

_SIDE, _PITCH, _RADIUS = 512, 16, 6
_PATIENCE_S = 20.0


def cells_of_an_image() -> np.ndarray:
    """1,024 round cells in rows."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    number = 1 + rows // _PITCH * (_SIDE // _PITCH) + columns // _PITCH
    inside = np.hypot(rows % _PITCH - _PITCH / 2, columns % _PITCH - _PITCH / 2) < _RADIUS
    return np.where(inside, number, 0).astype(np.int32)


def make_project(folder: Path, cells: int) -> Path:
    """A project with at least so many cells; returns its folder."""
    labels = cells_of_an_image()
    per_image = int(labels.max())
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for index in range(-(-cells // per_image)):
        image = (
            200 + 800 * (labels > 0) * rng.uniform(0.5, 1.5, per_image + 1)[labels] + rng.normal(0, 60, labels.shape)
        )
        write_tiff(folder / "images" / f"field_{index:03d}.tif", image.astype(np.uint16)[None])
    session = Session.create(folder / "many.curator")
    drive(session.add_images(folder / "images"))
    rows = measure(labels, session.pixels(session.images[0].image_id))
    for number, record in enumerate(session.images):
        ids = pd.Index(number * per_image + np.arange(1, per_image + 1), name="cell_id")
        made = rows.assign(label=rows.index, image=record.image_id, score=rng.uniform(size=per_image)).set_index(ids)
        session.commit(Change("made", {}, cells=CellTable(made).frame, labels={record.image_id: labels}))
    session.close()
    return folder / "many.curator"


def resident_mb() -> float:
    """Memory of this process."""
    for row in Path("/proc/self/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1]) / 1024
    raise SystemExit("memory is read from /proc, which only Linux has")


def scroll(gallery: Gallery, positions: np.ndarray) -> tuple[list[float], float]:
    """Milliseconds of each frame, and frames a second with everything else that goes on."""
    bar, frames = gallery.verticalScrollBar(), []
    start = time.perf_counter()
    for position in positions:
        before = time.perf_counter()
        bar.setValue(int(position))
        gallery.viewport().repaint()
        QApplication.processEvents()
        frames.append(1000 * (time.perf_counter() - before))
    return frames, len(positions) / (time.perf_counter() - start)


class Painting:
    """Notes how long a gallery's own drawing takes."""

    def __init__(self, gallery: Gallery) -> None:
        self.ms: list[float] = []
        self._inner = gallery.paintEvent
        gallery.paintEvent = self._paint

    def _paint(self, event: Any) -> None:
        start = time.perf_counter()
        self._inner(event)
        self.ms.append(1000 * (time.perf_counter() - start))


def fill(gallery: Gallery) -> float:
    """Milliseconds until all pictures in view are there."""
    model, start = gallery.model, time.perf_counter()
    gallery.viewport().repaint()
    while time.perf_counter() - start < _PATIENCE_S:
        QApplication.processEvents()
        there = (gallery.pictures.is_new(int(model.ids[i]), int(model.revision[i])) for i in gallery.cells_in_view())
        if all(there):
            break
        time.sleep(0.001)
    return 1000 * (time.perf_counter() - start)


def spread(values: list[float], percent: float) -> float:
    """A percentile, rounded."""
    return round(float(np.percentile(values, percent)), 1)


def figure(name: str, ours: float, goal: float, *, more_is_better: bool = False, **besides: Any) -> dict[str, Any]:
    """One figure in the form of all benchmarks; the goal is the reference."""
    ratio = ours / goal if more_is_better else goal / max(ours, 0.01)
    sign = "≥" if more_is_better else "≤"
    met = ours >= goal if more_is_better else ours <= goal
    made = {"name": name, "ours": round(ours, 1), "reference": goal, "ratio": round(ratio, 2)}
    return made | {"goal": f"{sign} {goal}", "met": bool(met), **besides}


def main() -> None:
    """Open the window, scroll, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="20,000 cells, fewer frames")
    options = parser.parse_args()
    cells, count = (20_000, 60) if options.quick else (options.cells, 300)
    project = make_project(Path(tempfile.mkdtemp()), cells)
    viewer, docks = open_window(project, run=False)
    viewer.window.resize(1580, 980)
    bench = workbench_of(viewer)
    settle(bench)
    dock = docks.show_dock("Review")
    settle(bench)
    before = resident_mb()
    start = time.perf_counter()
    dock.queue.filter.listed.setCurrentText(ALL)
    listed_ms = 1000 * (time.perf_counter() - start)
    dock.queue.large.click()
    QApplication.processEvents()
    gallery = dock._large.gallery
    painting = Painting(gallery)
    dock._large.setFloating(False)
    fill(gallery)
    docked, _ = scroll(gallery, np.linspace(0, 1200, 60))
    dock._large.setFloating(True)
    fill(gallery)
    painting.ms.clear()
    end = gallery.verticalScrollBar().maximum()
    near, near_fps = scroll(gallery, np.linspace(0, min(end, 40 * count), count))
    far, far_fps = scroll(gallery, np.linspace(0, end, count))
    waits = []
    for place in np.linspace(0, end, 20):
        gallery.verticalScrollBar().setValue(int(place))
        waits.append(fill(gallery))
    grown = resident_mb() - before
    pictures = sum(one.pictures.nbytes for one in dock._galleries) / 1e6
    session = sum(size_of(value) for value in bench.session._pixels._values.values()) / 1e6
    frames = near + far
    besides = {
        "median": spread(frames, 50),
        "our_drawing": spread(painting.ms, 95),
        "docked": spread(docked, 95),
        "docked_median": spread(docked, 50),
    }
    shown = {"cells": len(dock.model), "in_view": len(gallery.cells_in_view()), "px": gallery.look.size}
    made = [
        figure("frame, ms", spread(frames, 95), 33.3, **shown, **besides),
        figure(
            "frames a second",
            min(near_fps, far_fps),
            30,
            more_is_better=True,
            steps=round(near_fps, 1),
            leaps=round(far_fps, 1),
        ),
        figure("pictures in view, ms", float(np.median(waits)), 500, worst=round(max(waits), 1)),
        figure("memory, MB", grown, 300, pictures_mb=round(pictures, 1), session_pixels_mb=round(session, 1)),
        figure("list of all cells, ms", listed_ms, 500),
    ]
    viewer.close()
    for one in made:
        print(f"{one['name']:<24} {one['ours']:>8} (goal {one['goal']})")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
