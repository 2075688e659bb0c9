"""The whole loop in a real napari window, with real clicks and keys and the real engine."""

from __future__ import annotations

import tempfile
import time

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from cell_curator.engines.vae import VaeParameters
from cell_curator.link.geometry import to_world
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import _BENCHES, workbench_of


@pytest.mark.timeout(1200)  # one and a half minutes on two idle cores
def test_from_the_sample_to_the_map_and_back_to_a_cell(open_viewer, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where the sample is drawn
    hand = open_viewer()
    viewer, docks, bench = hand.viewer, hand.docks, workbench_of(hand.viewer)

    def idle():
        shown = bench.link is not None and bench.link.labels.image_id == bench.session.current_image
        return bench.session is not None and bool(bench.session.images) and not bench.runner.busy and shown

    photograph(viewer, pictures / "01-first-start.png")

    # open the sample
    images = docks.show_dock("Images")
    hand.press(images._pages.currentWidget().sample)
    hand.wait(idle)
    session, link = bench.session, bench.link
    assert len(session.images) == 6
    assert {record.condition for record in session.images} == {"control", "mutant"}
    photograph(viewer, pictures / "02-images.png")

    # prepare
    preprocess = docks.show_dock("Preprocess")
    preprocess.preset.setCurrentText("Nuclei on grooves (published)")
    hand.wait(lambda: "Preview" in preprocess.jobs.state.full_text)
    hand.wait(lambda: abs(link.image.angle_deg - 12) < 2)
    photograph(viewer, pictures / "03-preprocess.png")
    hand.press(preprocess.primary)
    hand.wait(idle)
    assert preprocess.jobs.state.full_text == "6 images prepared"
    hand.key(Qt.Key.Key_C)
    assert not link.image.prepared_layer.visible

    # find cells in an image of each condition; 60 were drawn in each
    segment = docks.show_dock("Segment")
    hand.press(segment.primary)
    hand.wait(lambda: segment.jobs.bar.isVisible())
    photograph(viewer, pictures / "04-finding-cells.png")
    hand.wait(idle, 300)
    for _ in range(3):
        hand.key(Qt.Key.Key_PageDown)
    hand.wait(idle)
    assert session.image(session.current_image).condition == "mutant"
    hand.press(segment.primary)
    hand.wait(idle, 300)
    assert segment.jobs.error.text() == ""
    assert session.cells.frame["image"].value_counts().between(45, 75).tolist() == [True, True]
    photograph(viewer, pictures / "05-cells.png")

    # start on all images, and think better of it
    hand.press(segment.all)
    hand.wait(lambda: segment.jobs.cancel.isVisible())
    start = time.monotonic()
    hand.press(segment.jobs.cancel)
    hand.wait(lambda: not bench.runner.busy)
    assert time.monotonic() - start < 3  # a tenth of a second on an idle machine
    assert "cancelled" in segment.jobs.state.full_text

    # review with keys
    review = docks.show_dock("Review")
    hand.press(review.primary)
    hand.wait(idle)
    worst = review.model.cell_ids[:3]
    hand.wait(lambda: session.selection.ids == {worst[0]})
    hand.key(Qt.Key.Key_R)
    hand.key(Qt.Key.Key_A)
    hand.key(Qt.Key.Key_Right)
    assert [session.row(cell)["verdict"] for cell in worst] == ["rejected", "accepted", "proposed"]
    hand.wait(lambda: len(review.queue.gallery.pictures) > 3)
    hand.wait(idle)
    photograph(viewer, pictures / "06-review.png")
    hand.key(Qt.Key.Key_U)
    assert session.row(worst[1])["verdict"] == "proposed"

    # make the map
    explore = docks.show_dock("Explore")
    explore.forms[3].set_value(VaeParameters(steps=60))
    hand.press(explore.primary)
    hand.wait(lambda: explore.plot.steps > 2, 300)
    photograph(viewer, pictures / "07-learning.png")
    hand.wait(idle, 300)
    assert explore.jobs.error.text() == ""
    assert len(link.points.cell_ids) == len(session.cells) - 1  # all but the rejected one
    viewer.reset_view()
    photograph(viewer, pictures / "08-map.png")

    # over a point, then a click on it: image, camera, label and ring follow
    here = session.current_image
    frame = session.cells.frame
    far = [int(c) for c in link.points.cell_ids if frame.at[c, "image"] != here]
    goal = next(c for c in far if link.points.at(link.points.position(c)) == c)
    hand.move(link.points.position(goal))
    hand.wait(lambda: f"Cell {goal}" in explore.map.card.text.text())
    hand.click(link.points.position(goal))
    hand.wait(idle)
    row = session.row(goal)
    assert session.current_image == row["image"] != here
    assert session.selection.ids == {goal}
    assert link.labels.layer.selected_label == row["label"]
    where = to_world(link.image.affine, np.array([[row["y"], row["x"]]], float))[0]
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], where, atol=1e-3)
    photograph(viewer, pictures / "09-from-point-to-cell.png")

    # a click on another cell highlights its point
    middle = _visible_cell(hand, session, link, other_than=goal)
    row = session.row(middle)
    hand.click(to_world(link.image.affine, np.array([[row["y"], row["x"]]], float))[0])
    hand.wait(lambda: session.selection.ids == {middle})
    highlighted = list(link.points.layer.selected_data)
    assert [int(link.points.cell_ids[i]) for i in highlighted] == [middle]

    # choosing a label in napari's own control does too
    link.labels.layer.selected_label = int(session.row(goal)["label"])
    assert session.selection.ids == {goal}
    hand.key(Qt.Key.Key_Home)
    assert link.points.layer.selected_data == {list(link.points.cell_ids).index(goal)}
    photograph(viewer, pictures / "10-back-to-the-map.png")
    docks._keys.toggle()
    photograph(viewer, pictures / "11-keys.png")


def _visible_cell(hand, session, link, other_than):
    """A cell of the image on screen whose centre lies in it, can be seen, and is not the given one."""
    labels = session.labels(session.current_image)
    for cell, row in session.cells.of_image(session.current_image).iterrows():
        inside = labels[round(row["y"]), round(row["x"])] == row["label"]
        where = to_world(link.image.affine, np.array([[row["y"], row["x"]]], float))[0]
        away = np.abs(where - hand.viewer.scene.camera.center[-2:]) * hand.viewer.scene.camera.zoom
        if cell != other_than and inside and away.max() < 300 and row["verdict"] != "rejected":
            return int(cell)
    raise AssertionError("no other cell in view")


def test_painting_with_the_brush_is_stored_and_undone(open_viewer, mapped):
    hand = open_viewer((1366, 768))
    bench = workbench_of(hand.viewer)
    bench.adopt(mapped)
    hand.wait(lambda: bench.link.labels.image_id == mapped.current_image)
    layer = bench.link.labels.layer
    before = mapped.labels(mapped.current_image)
    hand.viewer.layers.selection.active = layer
    layer.mode, layer.brush_size, layer.selected_label = "paint", 3, 1
    hand.drag([(30.0, 8.0), (30.0, 12.0), (30.0, 16.0)])
    hand.wait(lambda: mapped.labels(mapped.current_image)[30, 12] == 1, 5)
    cell = mapped.cell_at(mapped.current_image, 1)
    assert mapped.row(cell)["verdict"] == "edited"
    hand.qtbot.keyClick(hand.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    hand.wait(lambda: np.array_equal(mapped.labels(mapped.current_image), before), 5)


def test_question_mark_shows_all_keys_and_typing_text_is_left_alone(open_viewer):
    hand = open_viewer((1366, 768))
    hand.qtbot.keyClicks(hand.canvas, "?")
    assert hand.docks._keys.isVisible()
    hand.qtbot.keyClicks(hand.canvas, "?")
    assert not hand.docks._keys.isVisible()
    path = hand.docks.show_dock("Images").path
    path.setFocus()
    hand.qtbot.keyClicks(path, "c?")
    assert path.text() == "c?"


def test_closing_the_window_ends_the_worker_and_the_threads(open_viewer, session):
    hand = open_viewer((1366, 768))
    bench = workbench_of(hand.viewer)
    session.execute = bench._worker.call
    bench.adopt(session)
    hand.wait(lambda: bench.link.labels.image_id == session.current_image)
    segment = hand.docks.show_dock("Segment")
    hand.press(segment.primary)
    hand.wait(lambda: bench._worker.pid is not None, 20)
    hand.viewer.close()
    QApplication.processEvents()
    hand.wait(lambda: bench._closed, 5)
    assert bench._worker.pid is None
    assert not bench.runner.busy


def test_every_menu_entry_opens_its_dock(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    for name in (
        "Cell Curator (all docks)",
        "Images",
        "Preprocess",
        "Segment",
        "Correct",
        "Teach",
        "Review",
        "Patches",
        "Explore",
    ):
        _, widget = viewer.window.add_plugin_dock_widget("napari-cell-curator", name)
        assert workbench_of(viewer).viewer is viewer
        assert widget.minimumSizeHint().width() <= 400
    viewer.close()
    qtbot.wait(100)
    assert viewer not in _BENCHES


def test_open_sample_gives_layers(make_napari_viewer):
    viewer = make_napari_viewer()
    layers = viewer.open_sample("napari-cell-curator", "grooves")
    assert layers
    assert layers[0].data.ndim == 2
