"""A long day at the window: images switched and cells edited for hours leave nothing behind and slow nothing down.

The long one (500 switches, 5,000 edits) takes half an hour and prints what it measured; run it with ``-s -m slow``.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import time
import weakref
from contextlib import suppress

import numpy as np
import pytest
from qtpy.QtWidgets import QApplication

from cell_curator.core.jobs import UserError, drive
from cell_curator.io.tiff import write_tiff
from cell_curator.session import Session
from cell_curator.widgets.workbench import workbench_of

SIDE, IMAGES, A_ROW = 512, 8, 10
DOCKS = ("Correct", "Review", "Explore", "Images")
MOST_GROWTH, MOST_SLOWER = 0.05, 1.2


@pytest.fixture
def project(tmp_path, rng, discs):
    """Eight images of a hundred round cells."""
    pitch = SIDE // A_ROW
    labels = discs((SIDE, SIDE), [(pitch // 2 + pitch * (n // A_ROW), pitch // 2 + pitch * (n % A_ROW), 14)
                                  for n in range(A_ROW**2)])  # fmt: skip
    for number in range(IMAGES):
        folder = tmp_path / "images" / ("control", "treated")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image = 200 + 800 * (labels > 0) + rng.normal(0, 20, labels.shape)
        write_tiff(folder / f"{number}.tif", image.clip(0).astype(np.uint16)[None])
    session = Session.create(tmp_path / "images.curator")
    drive(session.add_images(tmp_path / "images"))
    for record in session.images:
        session.set_labels(record.image_id, labels)
    session.close()
    return session.folder


def resident_mb():
    """Memory of this process, after what is free was given back."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    import psutil

    return psutil.Process().memory_info().rss / 2**20


class Day:
    """One person at work, with the means of the window."""

    def __init__(self, hand, folder):
        self.hand, self.bench = hand, workbench_of(hand.viewer)
        self.bench.open(folder)
        self.rng = np.random.default_rng(0)
        self.settle()
        self.busy, self.layers = [], set()

    @property
    def session(self):
        return self.bench.session

    def settle(self):
        self.hand.wait(lambda: self.bench.link.labels.image_id == self.session.current_image)
        QApplication.processEvents()

    def switch(self, number):
        ids = [record.image_id for record in self.session.images]
        self.session.show_image(ids[number % len(ids)])
        self.settle()
        self.hand.docks.show_dock(DOCKS[number // len(ids) % len(DOCKS)])
        self.layers.add(len(self.hand.viewer.layers))

    def edit(self, number):
        """A stroke of the brush, a verdict, a walk to a cell, a step back, or a tool."""
        start = time.thread_time()
        with suppress(UserError):  # "shrink" that would leave nothing, for one
            self.done(number % 5)
        QApplication.processEvents()
        self.busy.append(time.thread_time() - start)

    def done(self, which):
        session, link = self.session, self.bench.link
        cells = session.cells.of_image(session.current_image)
        cell = int(self.rng.choice(cells.index))
        if which == 0:
            link.labels.layer.paint(tuple(self.rng.integers(0, SIDE, 2)), int(cells.loc[cell, "label"]))
            link.flush()
        elif which == 1:
            session.set_verdict([cell], str(self.rng.choice(["accepted", "rejected", "proposed"])))
        elif which == 2:
            link.go_to(cell)
        elif which == 3:
            session.undo()
        else:
            self.bench.tools.apply(str(self.rng.choice(["grow", "shrink", "smooth"])))


@pytest.mark.slow
def test_a_short_day_leaves_no_layers_and_no_objects(open_viewer, project):
    day = Day(open_viewer((1000, 700)), project)
    gone = []
    for number in range(16):
        day.switch(number)
        gone += [weakref.ref(layer) for layer in day.hand.viewer.layers]
        for edit in range(3):
            day.edit(3 * number + edit)
    day.switch(0)
    gc.collect()
    # image, prepared image if there is one, cells, ring and regions; not one more for each image
    assert len(day.hand.viewer.layers) <= 5
    alive = {id(ref()) for ref in gone if ref() is not None}
    assert len(alive) <= len(day.hand.viewer.layers) + 2, "layers of images shown before are held"


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_long_day(open_viewer, project):
    switches, edits = 500, 5000
    day = Day(open_viewer((1400, 900)), project)
    warm, memory = switches // 10, []
    for number in range(switches):
        day.switch(number)
        for edit in range(edits // switches):
            day.edit(number * (edits // switches) + edit)
        if number >= warm and (number - warm) % (switches // 10) == 0:
            memory.append(resident_mb())
    memory.append(resident_mb())
    first, last = (float(np.mean(some)) for some in (day.busy[100:200], day.busy[-100:]))
    print(f"\nmemory MB {[round(m) for m in memory]}; an edit, ms: first {1000 * first:.1f}, last {1000 * last:.1f}")
    print(f"layers at once {sorted(day.layers)}; undo steps {len(day.session.history._done)}")
    assert max(day.layers) <= 5
    assert memory[-1] <= (1 + MOST_GROWTH) * memory[0]
    assert last <= MOST_SLOWER * first
