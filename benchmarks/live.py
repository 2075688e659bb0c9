"""How fast the picture follows a slider in a real napari window, and how long we hold up the window.

    xvfb-run -s "-screen 0 1920x1200x24" python benchmarks/live.py [--moves 100] [--quick]

A 2048² image fills the canvas, all steps but background removal are on. The slider of the high percentile is
dragged with mouse events, one every 60 ms. The last line is a JSON list of figures,

- *event to pixels*: from the mouse event to the new picture in the layer, 95th percentile over the moves, ms;
  once as it is, and once with napari's canvas not drawn, as with a graphics card that draws in no time;
- *our code in the window's thread*: the longest of our slots that a move runs there, ms; besides it stands how
  long the event loop was held up while dragging, and when the same window only redraws the same layer without
  us (napari's drawing is not ours; without a graphics card it takes most of the time).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QApplication, QSlider, QStyle, QStyleOptionSlider

from cell_curator.core.recipe import Recipe, Tone, ZeroBelow
from cell_curator.io.images import write_tiff
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.widgets.canvas_handles import canvas_of
from cell_curator.widgets.window import open_window, settle
from cell_curator.widgets.workbench import workbench_of

_BETWEEN_S = 0.06


class Watch:
    """Adds up the time that functions take, by wrapping them."""

    def __init__(self) -> None:
        self.ms: list[float] = []

    def over(self, owner: Any, name: str) -> None:
        """Wrap a method of one object."""
        inner = getattr(owner, name)

        def timed(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args)
            finally:
                self.ms.append(1000 * (time.perf_counter() - start))

        setattr(owner, name, timed)


class Heart:
    """A timer in the window's event loop; notes how long the loop was held up."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.timeout.connect(self._beat)
        self._timer.start(1)

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append(1000 * (now - self._last))
        self._last = now

    def read(self) -> list[float]:
        """The gaps since the last reading, in ms."""
        gaps, self.gaps = self.gaps, []
        return gaps


def pump(seconds: float) -> None:
    """Let the window live."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.001)


def mouse(slider: QSlider, kind: QEvent.Type, x: float) -> None:
    """One mouse event on a slider."""
    spot = QPoint(round(x), slider.height() // 2)
    held = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseButtonRelease else Qt.MouseButton.LeftButton
    button = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else Qt.MouseButton.LeftButton
    event = QMouseEvent(
        kind, QPointF(spot), QPointF(slider.mapToGlobal(spot)), button, held, Qt.KeyboardModifier.NoModifier
    )
    QApplication.sendEvent(slider, event)


def grip(slider: QSlider) -> QPoint:
    """The middle of a slider's knob."""
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    part = slider.style().subControlRect(
        QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, slider
    )
    return part.center()


def drag(dock: Any, moves: int) -> list[float]:
    """Drag the slider of the high percentile to and fro; ms from each event to its pixels."""
    slider = dock.form.control("clip.high_percent").slider
    knob = grip(slider)
    spots = knob.x() - 0.25 * slider.width() * np.sin(np.linspace(0, 6 * np.pi, moves)) ** 2
    delays: list[float] = []

    def note(_: Any) -> None:
        delays.append(1000 * dock.live.seconds)

    dock.live.looked.connect(note)
    mouse(slider, QEvent.Type.MouseButtonPress, knob.x())
    for x in spots:
        mouse(slider, QEvent.Type.MouseMove, x)
        pump(_BETWEEN_S)
    mouse(slider, QEvent.Type.MouseButtonRelease, spots[-1])
    dock.live.looked.disconnect(note)
    return delays


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    return {
        "median": round(float(np.median(values)), 1),
        "p95": round(float(np.percentile(values, 95)), 1),
        "max": round(max(values), 1),
    }


def figure(name: str, values: dict[str, float], which: str, goal: float) -> dict[str, Any]:
    """One figure in the form of all benchmarks; the goal is the reference."""
    ours = values[which]
    ratio = round(goal / max(ours, 0.1), 2)
    return {
        "name": name,
        "ours": ours,
        "reference": goal,
        "ratio": ratio,
        "goal": f"{which} ≤ {goal}",
        "met": ours <= goal,
        "spread": values,
    }


def main() -> None:
    """Open the window, drag, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="30 moves")
    options = parser.parse_args()
    moves = 30 if options.quick else options.moves
    folder = Path(tempfile.mkdtemp()) / "live"
    folder.mkdir()
    write_tiff(folder / "field.tif", nuclei_on_grooves(0, size=2048, count=320).image)
    viewer, docks = open_window(folder, run=False)
    viewer.window.resize(1900, 1050)
    bench = workbench_of(viewer)
    pump(1)
    settle(bench)
    dock = docks.show_dock("Preprocess")
    dock._adopt(Recipe(zero_below=ZeroBelow(enabled=True), tone=Tone(enabled=True, gamma=0.8)))
    pump(8)  # compiled, shown in full, at rest
    dock.figures.set_open(False)
    pump(1)

    ours = Watch()
    # A move runs the form's slot, which asks for a picture; `_looked` and `_rested` show one.
    dock.form.changed.disconnect(dock._edited)
    for owner, name in ((dock, "_edited"), (dock.live, "_looked"), (dock.live, "_rested")):
        ours.over(owner, name)
    dock.form.changed.connect(dock._edited)
    heart = Heart()
    layer = bench.link.image.prepared_layer
    heart.read()  # what was noted until here is not the drag's
    delays = drag(dock, moves)
    with_us = heart.read()
    pump(2)
    heart.read()
    for _ in range(moves):  # napari alone, drawing the same layer as often
        layer.refresh(extent=False, thumbnail=False, highlight=False)
        pump(_BETWEEN_S)
    without_us = heart.read()
    canvas = [int(side) for side in viewer.canvas.size]
    surface = canvas_of(viewer)
    surface.setUpdatesEnabled(False)  # as with a graphics card, on which drawing takes next to nothing
    undrawn = drag(dock, moves)
    surface.setUpdatesEnabled(True)
    viewer.close()
    made = [
        figure("event to pixels, ms", spread(delays), "p95", 50)
        | {"canvas_px": canvas, "moves": moves, "pictures": len(delays)},
        figure("event to pixels, not drawn, ms", spread(undrawn), "p95", 50) | {"pictures": len(undrawn)},
        figure("our code in the window's thread, ms", spread(ours.ms), "max", 16)
        | {"loop_held_up_ms": spread(with_us), "loop_held_up_by_napari_alone_ms": spread(without_us)},
    ]
    for one in made:
        print(f"{one['name']:<38} {one['ours']:>7} (goal {one['goal']})  {one['spread']}")
    print(json.dumps(made))


if __name__ == "__main__":
    main()
