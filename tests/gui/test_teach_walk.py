"""A round of teaching by mouse and keys in a real napari window, with a network that really learns."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from cell_curator.core.regions import HOLDOUT, REVIEWED
from cell_curator.engines.finetune import TrainParameters
from cell_curator.io.images import write_tiff
from cell_curator.link.geometry import to_world
from cell_curator.link.regions import REGIONS
from cell_curator.rounds import model_in_use
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import workbench_of

SIDE = 224
TINY = TrainParameters(
    epochs=2, batch_size=2, tile=96, images_per_epoch=2, min_train_masks=0, evaluate_every=1, learning_rate=1e-4
)


@pytest.fixture
def table(open_viewer, tmp_path):
    """The hand, the dock and the bench on two small images of nuclei whose cells are right."""
    (tmp_path / "images").mkdir()
    scenes = [nuclei_on_grooves(seed, size=SIDE, count=22) for seed in (1, 2)]
    for name, scene in zip("ab", scenes, strict=True):
        write_tiff(tmp_path / "images" / f"{name}.tif", scene.image)
    hand = open_viewer()
    bench = workbench_of(hand.viewer)
    bench.open(tmp_path / "images")
    hand.wait(lambda: bench.link is not None and bench.link.labels.image_id is not None and not bench.runner.busy)
    for record, scene in zip(bench.session.images, scenes, strict=True):
        bench.session.set_labels(record.image_id, scene.labels)
    return hand, hand.docks.show_dock("Teach"), bench


def drag_box(hand, bench, first, last):
    """Drag from corner to corner, in pixels of the image."""
    path = np.linspace(first, last, 5)
    hand.drag(to_world(bench.link.image.affine, path))


def test_a_region_is_drawn_moved_deleted_and_brought_back(table, pictures):
    hand, dock, bench = table
    session = bench.session
    hand.press(dock.marks.part[REVIEWED])
    drag_box(hand, bench, (20, 15), (120, 135))
    hand.wait(lambda: len(session.regions(1)) == 1)
    (region,) = session.regions(1)
    assert region.kind == REVIEWED
    np.testing.assert_allclose(np.min(region.corners, axis=0), (20, 15), atol=2)
    np.testing.assert_allclose(np.max(region.corners, axis=0), (120, 135), atol=2)
    hand.key(Qt.Key.Key_Escape)
    hand.press(dock.marks.part[HOLDOUT])
    drag_box(hand, bench, (125, 20), (155, 100))
    hand.wait(lambda: {one.kind for one in session.regions(1)} == {REVIEWED, HOLDOUT})
    hand.key(Qt.Key.Key_Escape)
    hand.viewer.reset_view()
    photograph(hand.viewer, pictures / "teach-1-regions.png")

    layer = hand.viewer.layers[REGIONS]
    hand.viewer.layers.selection.active = layer
    layer.mode = "select"
    drag_box(hand, bench, (60, 60), (70, 62))  # the reviewed one, ten pixels down
    hand.wait(lambda: any(np.isclose(np.max(one.corners, axis=0)[0], 130, atol=3) for one in session.regions(1)))
    assert len(session.regions(1)) == 2
    hand.click(to_world(bench.link.image.affine, np.array([(60.0, 60.0)]))[0])
    hand.key(Qt.Key.Key_Delete)
    hand.wait(lambda: [one.kind for one in session.regions(1)] == [HOLDOUT])
    hand.key("U")
    assert sorted(one.kind for one in session.regions(1)) == sorted((HOLDOUT, REVIEWED))
    hand.wait(lambda: layer.nshapes == 2)


def test_a_round_by_hand_and_back(table, pictures):
    hand, dock, bench = table
    session = bench.session
    before = model_in_use(session)
    hand.press(dock.marks.part[REVIEWED])
    drag_box(hand, bench, (2, 2), (SIDE - 3, SIDE - 3))
    hand.wait(lambda: len(session.regions(1)) == 1)
    hand.key(Qt.Key.Key_PageDown)
    hand.wait(lambda: bench.link.labels.image_id == 2)
    hand.key("I")
    hand.key("X")
    assert {one.kind for one in session.regions(2)} == {REVIEWED, HOLDOUT}
    hand.wait(lambda: "locked away" in dock.marks.line.text() and "1 image" in dock.marks.line.text())

    dock.learning.set_value(TINY)
    hand.press(dock.primary)
    hand.wait(lambda: dock.learning.plot.isVisible() or dock.jobs.error.text())
    assert dock.jobs.error.text() == ""
    hand.wait(lambda: "what it finds now" in hand.viewer.layers or not bench.runner.busy)
    photograph(hand.viewer, pictures / "teach-2-learning.png")
    hand.wait(lambda: not bench.runner.busy, 120)
    assert dock.jobs.error.text() == ""
    assert "what it finds now" not in hand.viewer.layers
    judging = dock.judging
    assert judging.table.row().title == "Round 1"
    assert judging.table.row().ap50 is not None
    assert model_in_use(session) == before  # never adopted silently
    photograph(hand.viewer, pictures / "teach-3-round.png")

    hand.key("T")
    hand.wait(lambda: not bench.runner.busy)
    assert dock.jobs.error.text() == ""
    assert "Round 1" in hand.viewer.layers
    assert "cells" in judging.legend.text()
    photograph(hand.viewer, pictures / "teach-4-compare.png")
    hand.press(judging.enough)

    hand.press(judging.use)
    assert model_in_use(session) == "round-01"
    assert "Round 1 finds cells from now on" in dock.jobs.state.full_text
    hand.press(judging.back)
    assert model_in_use(session) == before
