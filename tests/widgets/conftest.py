"""Docks on a viewer that has a Qt window but no canvas, and engines that answer at once."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest

if sys.platform == "linux" and not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from cell_curator.core.clustering import cluster
from cell_curator.core.jobs import Progress
from small_project import mapped, session  # noqa: F401


def answer_at_once(target, /, **arguments):
    """Stands in for a worker: thresholds instead of a network, PCA instead of learning."""
    from skimage.measure import label

    from cell_curator.core.embedding import MapParameters, project_2d
    from cell_curator.engines.map_cells import CellMap
    from cell_curator.engines.segmenter import Segmentation
    from cell_curator.engines.vae.progress import Embedding, VaeProgress

    yield Progress(0.1, "starting")
    if target.endswith(":segment_image"):
        found = label(arguments["image"] > 0.5).astype(np.int32)
        return Segmentation(found, 14.0, False, np.zeros(found.max() + 1, np.float32))
    if target.endswith(":regroup"):
        return cluster(arguments["latent"], arguments["parameters"])
    if target.endswith(":keep_network"):
        return np.ones(len(arguments["latent"])), 1.0
    for step in range(1, 4):
        yield Progress(step / 4, "learning", VaeProgress(step, 3, 10.0 / step, 9.0 / step, 1.0, 11.0 / step))
    pictures = arguments["images"].reshape(len(arguments["images"]), -1)
    latent = project_2d(pictures, MapParameters(method="pca"))
    none = np.zeros(len(latent))
    known = {"latent": latent, "split": "", "notes": (), "history": (), "seconds": 0.0, "error": none}
    known |= {"validation": none > 0, "model": SimpleNamespace(conditions=())}
    fields = {name: known.get(name) for name in Embedding.__dataclass_fields__}
    return CellMap(Embedding(**fields), latent, cluster(latent, arguments["clustering"]), ())


@pytest.fixture
def execute():
    """Sessions here never wait for an engine."""
    return answer_at_once


@pytest.fixture
def viewer(qtbot):
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QMainWindow

    window = type("Window", (), {})()
    window._qt_window = QMainWindow()
    qtbot.addWidget(window._qt_window)

    class ViewerWithWindow(ViewerModel):
        """A viewer model that docks can ask for its window."""

        @property
        def window(self):
            return window

    return ViewerWithWindow()


@pytest.fixture
def bench(viewer):
    from cell_curator.widgets import workbench

    bench = workbench.Workbench(viewer, execute=answer_at_once)
    workbench._BENCHES[viewer] = bench
    yield bench
    bench.close()


@pytest.fixture
def show(qtbot, viewer, bench):
    """``show(DockClass)``: the dock in the window, on the screen."""

    def make(kind):
        dock = kind(viewer)
        viewer.window._qt_window.setCentralWidget(dock)
        viewer.window._qt_window.resize(380, 700)
        viewer.window._qt_window.show()
        viewer.window._qt_window.activateWindow()
        qtbot.waitUntil(viewer.window._qt_window.isActiveWindow)  # else no key arrives
        return dock

    return make


@pytest.fixture
def wait_for_job(qtbot, bench):
    """Wait until nothing runs and the image on screen is loaded."""

    def wait():
        def still():
            assert not bench.runner.busy
            if bench.session is not None and bench.session.current_image is not None:
                assert bench.link.labels.image_id == bench.session.current_image

        qtbot.waitUntil(lambda: still() is None, timeout=20_000)

    return wait
