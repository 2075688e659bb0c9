"""A walk on the map in a real window, by mouse and keys: it forms, a lasso, a cluster renamed, and the closed loop."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QLineEdit

from cell_curator import mapping
from cell_curator.core.jobs import Progress
from cell_curator.engines.vae.progress import MapPreview, VaeProgress
from cell_curator.io.project import Change
from cell_curator.link.map_moves import MOVES
from cell_curator.widgets.explore_clusters import CELLS, NAME, SWATCH
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import workbench_of


@pytest.fixture
def walker(open_viewer, mapped):
    """A hand in front of the Explore dock of a project with a map of eight cells."""
    hand = open_viewer((1366, 768))
    bench = workbench_of(hand.viewer)
    bench.adopt(mapped)
    hand.wait(lambda: bench.link.labels.image_id == mapped.current_image)
    return hand, hand.docks.show_dock("Explore"), bench


def click_row(dock, row, column, *, twice=False):
    table = dock.map.clusters.table
    where = table.visualItemRect(table.item(row, column)).center()
    QTest.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=where)
    if twice:
        QTest.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=where)


def round_of(middle, radius):
    turn = np.linspace(0, 2 * np.pi, 20)
    return np.asarray(middle) + radius * np.c_[np.sin(turn), np.cos(turn)]


def test_the_map_forms_before_ones_eyes_and_a_stopped_training_gives_the_old_one_back(walker, mapped, monkeypatch):
    hand, dock, bench = walker
    points = bench.link.points
    stored = points.positions.copy()

    def learning(_session, _start=None, **_more):
        for step in range(1, 100_000):  # longer than any machine needs to cancel it
            some = np.c_[np.cos(np.arange(8) + step / 9), np.sin(np.arange(8) + step / 9)].astype(np.float32)
            preview = MapPreview(mapped.embedding.cell_id, some)
            yield Progress(min(step / 1000, 1.0), "learning", VaeProgress(step, 1000, 9.0, 8.0, 1.0, 9.5, 5, preview))
            time.sleep(0.02)

    monkeypatch.setattr(mapping, "embed", learning)
    hand.press(dock.primary)
    hand.wait(lambda: points.is_preview)
    first = points.positions.copy()
    hand.wait(lambda: not np.allclose(points.positions, first))
    assert dock.plot.steps > 0
    hand.press(dock.jobs.cancel)
    hand.wait(lambda: not bench.runner.busy)
    np.testing.assert_allclose(points.positions, stored)


def test_a_doubtful_cluster_is_mended_and_the_map_shows_where_its_cells_went(walker, mapped, monkeypatch, pictures):
    hand, dock, bench = walker
    link = bench.link
    hand.viewer.reset_view()
    doubtful = mapped.cell_at(mapped.current_image, 4)

    # draw round its point: it is chosen in map, image and table
    hand.press(dock.map.lasso)
    hand.drag(round_of(link.points.position(doubtful), 3.0))
    hand.wait(lambda: mapped.selection.ids == {doubtful})
    assert "1 cell selected" in dock.jobs.state.full_text
    assert link.labels.layer.selected_label == 4
    photograph(hand.viewer, pictures / "explore-1-lasso.png")

    # into Review's queue, where it is mended
    hand.press(dock.map.review)
    review = hand.docks.docks["Review"]
    assert hand.docks.pages.currentWidget() is review
    assert review.model.cell_ids == [doubtful]
    assert not link.lasso.on
    labels = mapped.labels(mapped.current_image)
    labels[42:46, 62:74] = 4
    mapped.set_labels(mapped.current_image, labels)

    # only this cell is looked at again, and a line shows where it went
    def refreshed(session):
        yield Progress(0.5, "looking")
        old = session.embedding
        stale = np.isin(old.cell_id, sorted(session.stale_cells()))
        map2d = np.where(stale[:, None], old.map2d + 2, old.map2d)
        revision = session.cells.frame["revision"].loc[old.cell_id].to_numpy()
        new = replace(old, map2d=map2d, revision=revision)
        session.commit(Change("map", {}, embedding=new, clustering=dict(old.clustering)))
        went = mapping.Moved(old.cell_id[stale], old.map2d[stale], map2d[stale])
        return mapping.MapReport(8, 3, "latent", {}, (), refreshed=int(stale.sum()), moved=went)

    monkeypatch.setattr(mapping, "refresh", refreshed)
    dock = hand.docks.show_dock("Explore")
    assert "1 cell is new or changed" in dock.map.stale.text()
    hand.key(Qt.Key.Key_F5)
    hand.wait(lambda: not bench.runner.busy and not mapped.stale_cells())
    assert len(hand.viewer.layers[MOVES].data) == 1
    photograph(hand.viewer, pictures / "explore-2-moved.png")
    hand.key(Qt.Key.Key_Escape)
    assert MOVES not in hand.viewer.layers


def test_a_cluster_is_named_noted_and_opened(walker, mapped):
    hand, dock, _bench = walker
    click_row(dock, 1, NAME, twice=True)
    editor = dock.map.clusters.table.findChild(QLineEdit)
    editor.selectAll()
    QTest.keyClicks(editor, "spread out")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    hand.wait(lambda: mapped.embedding.cluster_names[1] == "spread out")
    click_row(dock, 1, CELLS)
    frame = mapped.cells.frame
    inside = frozenset(frame.index[frame["cluster"] == 1])
    assert mapped.selection.ids == inside
    note = dock.map.clusters.note
    note.setFocus()
    QTest.keyClicks(note, "well 3 only?")
    QTest.keyClick(note, Qt.Key.Key_Return)
    assert mapped.embedding.cluster_notes == {1: "well 3 only?"}
    click_row(dock, 1, SWATCH, twice=True)
    review = hand.docks.docks["Review"]
    assert hand.docks.pages.currentWidget() is review
    assert frozenset(review.model.cell_ids) == inside


def draws(hand):
    """Whether the main canvas shows something: with two canvases, each can spoil what the other draws with."""
    hand.viewer.reset_view()
    hand.qtbot.wait(200)
    return hand.viewer.window.screenshot(flash=False, canvas_only=False)[150:-50, 350:-400, :3].std() > 5


def test_the_map_has_a_window_of_its_own_and_comes_back(walker, mapped):
    hand, dock, bench = walker
    hand.press(dock.map.own)
    own = dock.window_of_map
    hand.wait(own.isVisible)
    assert "map" not in hand.viewer.layers
    assert "map" in own.model.layers
    goal = next(int(c) for c in bench.link.points.cell_ids if mapped.row(int(c))["image"] != mapped.current_image)
    camera, canvas = own.model.scene.camera, own.canvas.canvas.native
    away = np.asarray(bench.link.points.position(goal)) - np.asarray(camera.center[-2:])
    y, x = np.array([canvas.height(), canvas.width()]) / 2 + away * camera.zoom

    hand.qtbot.mouseMove(canvas, QPoint(round(x), round(y)))
    hand.qtbot.mouseClick(canvas, Qt.MouseButton.LeftButton, pos=QPoint(round(x), round(y)))
    hand.wait(lambda: mapped.selection.ids == {goal} and bench.link.labels.image_id == mapped.row(goal)["image"])
    hand.key(Qt.Key.Key_F6)
    hand.wait(lambda: not own.isVisible())
    assert "map" in hand.viewer.layers
    assert not dock.map.own.isChecked()
    assert draws(hand)
    hand.press(dock.map.own)
    assert "map" in own.model.layers
    mapped.show_image(next(record.image_id for record in mapped.images if record.image_id != mapped.current_image))
    hand.wait(lambda: bench.link.labels.image_id == mapped.current_image)
    bench.link.points.preview(mapped.embedding.cell_id[:4], np.eye(4)[:, :2])  # other layers in both canvases
    assert draws(hand)
    hand.press(dock.map.own)
    assert draws(hand)
