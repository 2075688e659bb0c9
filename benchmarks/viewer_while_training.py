"""How napari's frames slow down while a network learns in the worker, and how soon *Cancel* answers.

    xvfb-run -s "-screen 0 1600x1000x24" python benchmarks/viewer_while_training.py [--frames 60] [--quick]

The camera pans over a 1024² image; a frame is what it takes to draw the canvas once. Idle and training take
turns (each twice), the figure is the ratio of medians (goal 1.5 at most). *Cancel* is the time from closing
the job to its end, with the best so far on disk (goal 1 s).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QApplication

from cell_curator.engines.cards import find_model
from cell_curator.engines.finetune import PRESETS, best_so_far
from cell_curator.engines.training_data import Example
from cell_curator.engines.worker import Worker
from cell_curator.samples.scenes import nuclei_on_grooves


class Training:
    """A training in the worker, followed by a thread as the docks do."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        scene = nuclei_on_grooves(0, size=512, count=40)
        example = Example("scene", scene.image[0].astype(np.float32), scene.labels, scene.labels >= 0)
        chosen = {"minutes": 30.0, "evaluate_every": 1}
        self.folder = folder
        self.learning = threading.Event()
        self._stop = threading.Event()
        self._job = worker.call(
            "cell_curator.engines.finetune:finetune",
            base=find_model("starter-nuclei"),
            train=[example],
            holdout=[],
            params=PRESETS["quick"].model_copy(update=chosen),
            folder=folder,
        )
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        for progress in self._job:
            if getattr(progress.payload, "curve", ()):
                self.learning.set()
            if self._stop.is_set():
                break
        self._job.close()

    def cancel(self) -> float:
        """Seconds from the click to the end."""
        start = time.perf_counter()
        self._stop.set()
        self._thread.join()
        return time.perf_counter() - start


@contextmanager
def window() -> Iterator[Any]:
    """A napari window with one image."""
    import napari

    viewer = napari.Viewer()
    viewer.add_image(np.random.default_rng(0).random((1024, 1024), np.float32))
    viewer.window.resize(1500, 950)
    for _ in range(50):
        QApplication.processEvents()
    yield viewer
    viewer.close()


def frames(viewer: Any, count: int) -> list[float]:
    """Milliseconds to draw each of ``count`` frames while the camera pans."""
    canvas = viewer.window._qt_viewer.canvas
    found = []
    for number in range(count):
        start = time.perf_counter()
        viewer.scene.camera.center = (0, 512 + 200 * np.sin(number / 7), 512 + 200 * np.cos(number / 7))
        canvas.screenshot()
        QApplication.processEvents()
        found.append(1000 * (time.perf_counter() - start))
        time.sleep(0.016)
    return found


def figure(name: str, ours: float, reference: float, goal: float, **more: Any) -> dict[str, Any]:
    """One figure in the form that all benchmarks share; here less is better."""
    ratio = ours / reference
    rounded = {"ours": round(ours, 3), "reference": round(reference, 3), "ratio": round(ratio, 3)}
    return {"name": name, **rounded, "goal": goal, "met": bool(ratio <= goal), **more}


def main() -> None:
    """Measure and print."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--frames", type=int, default=60)
    ask.add_argument("--quick", action="store_true")
    args = ask.parse_args()
    count = 15 if args.quick else args.frames
    idle: list[float] = []
    busy: list[float] = []
    cancels: list[float] = []
    worker = Worker()
    with tempfile.TemporaryDirectory() as place, window() as viewer:
        frames(viewer, 10)
        for turn in range(1 if args.quick else 2):
            idle += frames(viewer, count)
            training = Training(worker, Path(place) / str(turn))
            if not training.learning.wait(300):
                raise SystemExit("the training did not start within 5 minutes")
            busy += frames(viewer, count)
            cancels.append(training.cancel())
            if best_so_far(training.folder) is None:
                raise SystemExit("nothing was kept of the cancelled training")
    worker.close()
    result = [
        figure("frame while training / idle (ms)", statistics.median(busy), statistics.median(idle), 1.5),
        figure("seconds from cancel to its end", max(cancels), 1.0, 1.0),
    ]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
