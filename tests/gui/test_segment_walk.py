"""The Segment dock by hand in a real napari window, with the real network on a small image."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import QAbstractButton, QApplication, QStyle, QStyleOptionSlider

from cell_curator.core.jobs import UserError
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.io.images import write_tiff
from cell_curator.link.geometry import to_world
from cell_curator.link.insight import FLOW, PROBABILITY
from cell_curator.link.measuring import REGION
from cell_curator.link.proposal import PROPOSAL
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.widgets import segment_dock
from cell_curator.widgets.window import DOCKS, photograph
from cell_curator.widgets.workbench import workbench_of

SIDE = 256


@pytest.fixture
def table(open_viewer, tmp_path):
    """The hand, the dock, the bench and the truth, on a small image of nuclei; the diameter is given."""
    scene = nuclei_on_grooves(3, size=SIDE, count=16)
    for name, image in (("a", scene.image), ("b", nuclei_on_grooves(4, size=SIDE, count=16).image)):
        (tmp_path / "images").mkdir(exist_ok=True)
        write_tiff(tmp_path / "images" / f"{name}.tif", image)
    hand = open_viewer()
    bench = workbench_of(hand.viewer)
    bench.open(tmp_path / "images")
    hand.wait(lambda: bench.link is not None and bench.link.labels.image_id is not None and not bench.runner.busy)
    bench.session.put(SegmentParameters(diameter=26, tile=96))
    return hand, hand.docks.show_dock("Segment"), bench, scene.labels


def find(hand, dock, bench):
    """Press the primary button and wait until the cells are there."""
    hand.press(dock.primary)
    hand.wait(lambda: not bench.runner.busy, 300)
    assert dock.jobs.error.text() == ""


def slide(hand, slider, steps):
    """Drag the knob by so many px, a little at a time; the button stays down until the last."""
    option = QStyleOptionSlider()
    slider.initStyleOption(option)
    parts = QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, slider
    start = slider.style().subControlRect(*parts).center()
    spots = [start, *(start + QPoint(step, 0) for step in steps)]
    kinds = [QEvent.Type.MouseButtonPress, *[QEvent.Type.MouseMove] * len(steps), QEvent.Type.MouseButtonRelease]
    for kind, spot in zip(kinds, [*spots, spots[-1]], strict=True):
        moving, released = kind == QEvent.Type.MouseMove, kind == QEvent.Type.MouseButtonRelease
        QApplication.sendEvent(
            slider,
            QMouseEvent(
                kind,
                QPointF(spot),
                QPointF(slider.mapToGlobal(spot)),
                Qt.MouseButton.NoButton if moving else Qt.MouseButton.LeftButton,
                Qt.MouseButton.NoButton if released else Qt.MouseButton.LeftButton,
                Qt.KeyboardModifier.NoModifier,
            ),
        )
        hand.qtbot.wait(15)


def on_screen(bench, *points):
    """Positions in the viewer of pixels of the image."""
    return to_world(bench.link.image.affine, np.array(points, float))


def cell_near(session, point):
    rows = session.cells.of_image(session.current_image)
    return int(np.hypot(rows["y"] - point[0], rows["x"] - point[1]).idxmin())


@pytest.mark.timeout(600)  # half a minute on two idle cores
def test_thresholds_follow_the_hand_and_decisions_stay(table, pictures, monkeypatch):
    hand, dock, bench, truth = table
    session = bench.session
    photograph(hand.viewer, pictures / "segment-1-before.png")
    find(hand, dock, bench)
    image_id = session.current_image
    found = session.labels(image_id)
    assert len(session.cells) == pytest.approx(truth.max(), abs=3)
    photograph(hand.viewer, pictures / "segment-2-found.png")

    decided = dict(zip(("accepted", "edited", "locked"), session.cells.frame.index, strict=False))
    for verdict, cell in decided.items():
        session.set_verdict([cell], verdict)
    kept = {cell: found == session.row(cell)["label"] for cell in decided.values()}

    # the outlines follow while the knob is held, and nothing is decided
    seen, rested, drawn = [], [], []
    dock.live.shown.connect(seen.append)
    dock.live.shown.connect(lambda _: drawn.append(hand.viewer.layers[PROPOSAL].data.copy()))
    dock.live._rest.setInterval(4000)  # the picture below takes its time
    dock.live.rested.connect(lambda *_: rested.append(PROPOSAL in hand.viewer.layers))
    slider = dock.form.control("cellprob_threshold").slider
    slide(hand, slider, range(6, 60, 6))
    hand.wait(lambda: seen)
    assert not bench.link.labels.layer.visible
    for cell, area in kept.items():  # cells that are decided on are drawn as they are
        np.testing.assert_array_equal(drawn[-1] == session.row(cell)["label"], area)
    assert not rested
    photograph(hand.viewer, pictures / "segment-3-threshold-moves.png")

    # the hand rests: they are the cells now, and the old ones do not flash up in between
    hand.wait(lambda: rested)
    assert rested == [True]
    hand.wait(lambda: PROPOSAL not in hand.viewer.layers)
    assert bench.link.labels.layer.visible
    now = session.labels(image_id)
    np.testing.assert_array_equal(bench.link.labels.layer.data, now)
    assert not np.array_equal(now, found)
    assert (now > 0).sum() < (found > 0).sum()  # a higher threshold: smaller cells
    for cell, area in kept.items():
        np.testing.assert_array_equal(now == session.row(cell)["label"], area)
    assert {session.row(cell)["verdict"] for cell in kept} == {"accepted", "edited", "locked"}
    hand.wait(lambda: session.get(SegmentParameters) == dock.form.value())
    photograph(hand.viewer, pictures / "segment-4-threshold-rested.png")

    # what cannot be taken over is said, and the cells are shown as they are
    def no_room(*_):
        raise UserError("no room on the disk")

    dock.live._rest.setInterval(500)
    with monkeypatch.context() as patch:
        patch.setattr(segment_dock, "take_over", no_room)
        dock.form.control("cellprob_threshold").spin.setValue(2)
        hand.wait(lambda: dock.jobs.error.text() == "no room on the disk")
    assert bench.link.labels.layer.visible
    assert PROPOSAL not in hand.viewer.layers

    # another image, and back: nothing stays hidden
    dock.form.control("cellprob_threshold").spin.setValue(1.5)
    hand.key(Qt.Key.Key_PageDown)
    hand.wait(lambda: bench.link.labels.image_id == session.current_image != image_id)
    assert bench.link.labels.layer.visible
    assert PROPOSAL not in hand.viewer.layers


@pytest.mark.timeout(600)
def test_a_line_across_a_cell_gives_the_diameter(table, pictures):
    hand, dock, bench, _ = table
    middle = np.array([120.0, 130.0])
    bench.link.labels.layer.mode = "paint"  # the brush is in the hand: it must not paint now
    hand.key("D")
    assert "line" in dock.jobs.state.full_text
    path = np.linspace(middle - np.array((0, 15)), middle + np.array((0, 15)), 8)
    hand.drag(on_screen(bench, *path))
    measured = dock.form.value().diameter
    assert measured == pytest.approx(30, abs=1.5)
    assert "ruler" not in hand.viewer.layers
    assert f"{measured:.1f} px" in dock.jobs.state.full_text
    hand.wait(lambda: bench.session.get(SegmentParameters).diameter == measured)
    assert len(bench.session.cells) == 0

    hand.press(dock.measure)
    hand.key(Qt.Key.Key_Escape)
    hand.drag(on_screen(bench, *path[:3]))
    assert dock.form.value().diameter == measured


@pytest.mark.timeout(600)
def test_only_the_region_is_looked_at(table, pictures):
    hand, dock, bench, _ = table
    session = bench.session
    find(hand, dock, bench)
    before = session.labels(session.current_image)
    ids = set(session.cells.frame.index)
    dock.region.click()
    assert "rectangle" in dock.jobs.state.full_text
    hand.drag(on_screen(bench, *np.linspace((20, 20), (150, 150), 8)))
    hand.wait(lambda: len(hand.viewer.layers[REGION].data) == 1)
    photograph(hand.viewer, pictures / "segment-5-region.png")
    find(hand, dock, bench)
    now = session.labels(session.current_image)
    frame = session.cells.frame
    stayed = ids & set(frame.index)
    assert 0 < len(stayed) < len(ids)
    fresh = frame[~frame.index.isin(ids)]
    assert len(fresh)
    assert fresh[["top", "left"]].min().min() >= 19
    assert fresh[["bottom", "right"]].max().max() <= 152
    for cell in stayed:
        label = session.row(cell)["label"]
        np.testing.assert_array_equal(now == label, before == label)

    # the mouse picks again, and the region can be put away
    drawn = len(hand.viewer.layers[REGION].data)
    outside = session.row(next(iter(stayed)))
    hand.click(on_screen(bench, (outside["y"], outside["x"]))[0])
    assert session.selection.ids == {int(outside.name)}
    assert len(hand.viewer.layers[REGION].data) == drawn
    dock.region.click()
    assert not hand.viewer.layers[REGION].visible


@pytest.mark.timeout(600)
def test_what_the_network_saw_lies_on_the_image(table, pictures):
    hand, dock, bench, truth = table
    dock.insight.click()
    hand.wait(lambda: "Find the cells" in dock.jobs.state.full_text)
    find(hand, dock, bench)
    hand.wait(lambda: PROBABILITY in hand.viewer.layers)
    layer = hand.viewer.layers[PROBABILITY]
    assert bench.link.labels.layer.contour > 0

    def seen(spots):
        return [layer.get_value(where, world=True) for where in on_screen(bench, *spots)]

    inside, outside = seen(np.argwhere(truth > 0)[::400]), seen(np.argwhere(truth == 0)[::4000])
    assert np.median(inside) > 0.9
    assert np.median(outside) < 0.1
    photograph(hand.viewer, pictures / "segment-6-probability.png")
    hand.viewer.layers[FLOW].visible = True
    hand.viewer.layers[PROBABILITY].visible = False
    photograph(hand.viewer, pictures / "segment-7-flow.png")
    dock.insight.click()
    assert PROBABILITY not in hand.viewer.layers
    assert FLOW not in hand.viewer.layers


def test_the_list_of_keys_holds_all_keys(open_viewer, pictures):
    hand = open_viewer((1280, 800))
    hand.docks.show_dock("Correct")
    hand.key("?")
    assert hand.docks._keys.isVisible()
    text = hand.docks._keys.text.text()
    for kind in DOCKS:
        assert all(key in text and what in text for key, what in kind.keys)
    photograph(hand.viewer, pictures / "segment-8-keys.png")
    scroll = hand.docks._keys.scroll  # at this size the list is longer than the window
    assert scroll.verticalScrollBar().maximum() > 0
    assert scroll.widget().height() >= hand.docks._keys.text.heightForWidth(hand.docks._keys.text.width())
    assert text.index("Correct") < text.index("Images")  # the dock in front comes first
    hand.key("?")
    assert not hand.docks._keys.isVisible()


@pytest.mark.parametrize("theme", ["dark", pytest.param("light", marks=pytest.mark.slow)])
def test_the_docks_fit_a_small_window(open_viewer, tmp_path, theme, pictures):
    scene = nuclei_on_grooves(3, size=SIDE, count=16)
    (tmp_path / "images").mkdir()
    write_tiff(tmp_path / "images" / "a.tif", scene.image)
    hand = open_viewer((1280, 800))
    hand.viewer.theme = theme
    bench = workbench_of(hand.viewer)
    bench.open(tmp_path / "images")
    hand.wait(lambda: bench.link is not None and bench.link.labels.image_id is not None and not bench.runner.busy)
    bench.session.set_labels(1, scene.labels)
    bench.session.selection.set(set(bench.session.cells.frame.index[:2]))
    hand.docks.show_dock("Segment").looks.coloring.setCurrentText("verdict")
    hand.key("H")
    for title in ("Segment", "Correct", "Images"):
        dock = hand.docks.show_dock(title)
        hand.qtbot.wait(100)
        photograph(hand.viewer, pictures / f"small-{theme}-{title.lower()}.png")
        for button in dock.findChildren(QAbstractButton):
            if button.isVisible() and button.text():
                assert button.width() >= button.minimumSizeHint().width(), button.text()
                right = button.mapTo(dock, QPoint(button.width(), 0)).x()
                assert right <= dock.width(), button.text()
    looks = hand.docks.show_dock("Correct").looks  # what was said in the one dock holds in the other
    assert looks.outlines.isChecked()
    assert looks.coloring.value() == "verdict"
    assert looks.legend.isVisible()
