"""A real napari window on a real screen; without a screen these tests are skipped, and say so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from small_project import execute, mapped, session  # noqa: F401

_HAS_SCREEN = sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.gui)
            if not _HAS_SCREEN or os.environ.get("QT_QPA_PLATFORM") == "offscreen":
                item.add_marker(pytest.mark.skip(reason='no screen: run xvfb-run -s "-screen 0 1600x1000x24" pytest'))


@pytest.fixture(scope="session", autouse=True)
def _own_napari_settings(tmp_path_factory):
    """The tests neither read nor change the settings of the person who runs them."""
    patch = pytest.MonkeyPatch()
    patch.setenv("NAPARI_CONFIG", str(tmp_path_factory.mktemp("napari") / "settings.yaml"))
    yield
    patch.undo()


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Where screenshots go: ``CELL_CURATOR_SCREENSHOTS``, or a temporary folder."""
    folder = Path(os.environ.get("CELL_CURATOR_SCREENSHOTS", tmp_path / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Hand:
    """Mouse and keys on the real window, in the words of the user."""

    def __init__(self, qtbot, viewer, docks):
        self.qtbot, self.viewer, self.docks = qtbot, viewer, docks

    @property
    def canvas(self):
        return self.viewer.window._qt_viewer.canvas.native

    def press(self, button):
        from qtpy.QtCore import Qt

        assert button.isVisible()
        assert button.isEnabled()
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def key(self, key, *, on=None):
        self.qtbot.keyClick(on or self.canvas, key)

    def at(self, world):
        """Position in the canvas of a (y, x) world coordinate."""
        from qtpy.QtCore import QPoint

        camera = self.viewer.scene.camera
        centre = np.array([self.canvas.height() / 2, self.canvas.width() / 2])
        y, x = centre + (np.asarray(world, float) - np.asarray(camera.center[-2:])) * camera.zoom
        assert 0 <= x < self.canvas.width(), "out of view"
        assert 0 <= y < self.canvas.height(), "out of view"
        return QPoint(round(x), round(y))

    def move(self, world):
        self.qtbot.mouseMove(self.canvas, self.at(world))
        self.qtbot.wait(30)

    def click(self, world):
        from qtpy.QtCore import Qt

        where = self.at(world)
        self.qtbot.mouseMove(self.canvas, where)
        self.qtbot.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=where)
        self.qtbot.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=where)
        self.qtbot.wait(30)

    def drag(self, worlds):
        """Press at the first position, move through the others, release at the last."""
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent
        from qtpy.QtWidgets import QApplication

        spots = [self.at(world) for world in worlds]
        self.qtbot.mouseMove(self.canvas, spots[0])
        self.qtbot.mousePress(self.canvas, Qt.MouseButton.LeftButton, pos=spots[0])
        for spot in spots[1:]:
            # QTest moves without a button held down, so the event is made here.
            QApplication.sendEvent(
                self.canvas,
                QMouseEvent(
                    QEvent.Type.MouseMove,
                    QPointF(spot),
                    QPointF(self.canvas.mapToGlobal(spot)),
                    Qt.MouseButton.NoButton,
                    Qt.MouseButton.LeftButton,
                    Qt.KeyboardModifier.NoModifier,
                ),
            )
            self.qtbot.wait(10)
        self.qtbot.mouseRelease(self.canvas, Qt.MouseButton.LeftButton, pos=spots[-1])

    def wait(self, condition, seconds=60):
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=int(1000 * seconds))


@pytest.fixture
def open_viewer(make_napari_viewer, qtbot):
    """``open_viewer(size)``: a shown viewer with all docks, and a hand that works on it."""

    def make(size=(1600, 1000)):
        from cell_curator.widgets.window import add_docks

        viewer = make_napari_viewer(show=True, strict_qt="raise")
        docks = add_docks(viewer)
        viewer.window.resize(*size)
        window = viewer.window._qt_window
        window.activateWindow()
        window.raise_()
        qtbot.waitUntil(window.isActiveWindow, timeout=5000)
        return Hand(qtbot, viewer, docks)

    return make
