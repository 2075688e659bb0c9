"""The Confluency dock: live cover, groups by keys and clicks, regions drawn by hand, all images, CSV."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog

from cell_curator.core.confluency import ConfluencyParameters, UnetCover, confluency
from cell_curator.core.jobs import Progress, drive
from cell_curator.core.pixel_clusters import KmeansParameters, cleaned, cluster_pixels
from cell_curator.core.regions import REVIEWED
from cell_curator.core.steps import select_channel
from cell_curator.cover_report import CoverRow
from cell_curator.covering import Covered
from cell_curator.io.tiff import write_tiff
from cell_curator.link.confluency import COVERED, GROUPS
from cell_curator.marking import mark
from cell_curator.session import Session
from cell_curator.widgets.confluency_dock import ConfluencyDock

LEFT = Qt.MouseButton.LeftButton
SHAPE = (96, 120)


@pytest.fixture
def dishes(tmp_path, rng, discs, execute):
    """A sparse and a dense dish, each at two times; rough discs on a calm ground."""
    truth = {}
    for condition, hours in (("sparse", (6, 24)), ("dense", (6, 24))):
        for hour in hours:
            many = 2 + hour // 6 + 4 * (condition == "dense")
            labels = discs(SHAPE, [(rng.integers(0, 96), rng.integers(0, 120), 12) for _ in range(many)])
            image = 500 + rng.normal(0, 2, SHAPE) + (labels > 0) * rng.normal(0, 90, SHAPE)
            path = tmp_path / "images" / condition / f"dish_{hour}h.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_tiff(path, image.astype(np.uint16)[None])
            truth[f"{condition}/dish_{hour}h"] = labels
    session = Session.create(tmp_path / "images.curator", execute=execute)
    drive(session.add_images(tmp_path / "images"))
    session.put(KmeansParameters(trim_px=2, smallest_island=20, smallest_hole=50))
    yield session, truth
    session.close()


@pytest.fixture
def dock(show, bench, dishes, wait_for_job, qtbot):
    dock = show(ConfluencyDock)
    bench.adopt(dishes[0])
    wait_for_job()
    qtbot.waitUntil(lambda: "covered" in dock.percent.text())
    return dock


def settled(qtbot, dock, action):
    """Do something, and wait for the numbers of the whole image."""
    seen = []
    dock.live.shown.connect(seen.append)
    action()
    qtbot.waitUntil(lambda: bool(seen) and seen[-1].whole and not dock.live._rest.isActive(), timeout=10_000)
    qtbot.waitUntil(lambda: dock.live._whole == dock.live._asked, timeout=10_000)
    dock.live.shown.disconnect(seen.append)
    return seen[-1]


def test_the_number_is_that_of_the_command_and_the_layers_show_it(dock, dishes, qtbot, viewer):
    session, _ = dishes
    made = settled(qtbot, dock, lambda: dock.settings.kmeans.control("k").spin.setValue(2))
    grey = select_channel(session.pixels(session.current_image), session.recipe_for(session.current_image).channel)
    want = cluster_pixels(grey, dock.settings.kmeans.value())
    assert made.cover.percent == pytest.approx(100 * want.mask.mean())
    assert dock.percent.text() == f"{100 * want.mask.mean():.1f} % covered"
    np.testing.assert_array_equal(viewer.layers[COVERED].data > 0, want.mask)
    np.testing.assert_array_equal(viewer.layers[GROUPS].data, want.groups + 1)
    assert not viewer.layers["cells"].visible
    assert [button.isHidden() for button in dock.settings.groups.buttons] == [False] * 2 + [True] * 8
    qtbot.waitUntil(lambda: session.get(KmeansParameters).k == 2)


def test_groups_are_chosen_by_keys_and_buttons_and_given_back(dock, qtbot):
    automatic = dock.settings.groups.cells
    settled(qtbot, dock, lambda: QTest.keyClick(dock, Qt.Key.Key_1))
    assert dock.settings.kmeans.value().cells == ",".join(str(n + 1) for n in sorted({0, *automatic}))
    more = float(dock.percent.text().split()[0])
    settled(qtbot, dock, lambda: QTest.mouseClick(dock.settings.groups.buttons[0], LEFT))
    assert dock.settings.groups.cells == automatic
    assert float(dock.percent.text().split()[0]) < more
    settled(qtbot, dock, lambda: QTest.keyClick(dock, Qt.Key.Key_A, Qt.KeyboardModifier.AltModifier))
    assert dock.settings.kmeans.value().cells == "auto"
    for number in automatic:
        dock.settings.groups.toggle(number)
    assert len(dock.settings.groups.cells) == 1  # the last one stays


def test_other_groups_are_chosen_anew(dock, qtbot):
    settled(qtbot, dock, lambda: dock.settings.groups.toggle(0))
    assert dock.settings.kmeans.value().cells != "auto"
    settled(qtbot, dock, lambda: dock.settings.kmeans.control("k").spin.setValue(5))
    assert dock.settings.kmeans.value().cells == "auto"


def test_what_cells_cover_and_how_dense_they_are(dock, dishes, qtbot, viewer):
    session, truth = dishes
    labels = truth[session.image(session.current_image).name]
    session.set_labels(session.current_image, labels)
    settled(qtbot, dock, lambda: QTest.keyClick(dock, Qt.Key.Key_3, Qt.KeyboardModifier.AltModifier))
    assert dock.percent.text() == f"{100 * (labels > 0).mean():.1f} % covered"
    assert GROUPS not in viewer.layers
    assert viewer.layers["cells"].visible
    count = len(np.unique(labels)) - 1
    assert f"{count} cells found" in dock.about.text()
    assert "give the size of a pixel" in dock.about.text()
    settled(qtbot, dock, lambda: dock.pixel.spin.setValue(2.0))
    area = labels.size * 4
    assert f"{(labels > 0).sum() * 4:,} of {area:,} µm²" in dock.about.text()
    assert f"{1e6 * count / area:,.0f} per mm²" in dock.about.text()
    settled(qtbot, dock, lambda: session.show_image(session.images[1].image_id))
    assert "No cells yet" in dock.about.text()


def test_all_images_give_a_table_a_curve_and_a_csv(dock, dishes, qtbot, wait_for_job, tmp_path, monkeypatch):
    session, _ = dishes
    dock.say.set_value(ConfluencyParameters(alarm=20))
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    table = dock.results.table
    assert table.rowCount() == 4
    written = pd.read_csv(session.folder / "confluency" / "confluency.csv")
    assert [f"{percent:.1f} %" for percent in written["percent"]] == [table.item(n, 1).text() for n in range(4)]
    warned = [table.item(n, 0).text().startswith("⚠") for n in range(4)]
    assert warned == written["alarm"].tolist()
    assert 0 < sum(warned) < 4
    curves = [item for item in dock.results.plot.plot.listDataItems() if item.opts["pen"] is not None]
    assert [list(curve.xData) for curve in curves] == [[6, 24], [6, 24]]
    assert "threshold for all images: 0.5" in dock.results.notes.text()
    table.setCurrentCell(2, 0)
    assert session.image(session.current_image).name == written["image"][2]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "mine.csv"), ""))
    QTest.mouseClick(dock.results.export, LEFT)
    assert len(pd.read_csv(tmp_path / "mine.csv")) == 4
    assert len(pd.read_csv(tmp_path / "mine_curve.csv")) == 4
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "no" / "mine.csv"), ""))
    QTest.mouseClick(dock.results.export, LEFT)
    assert "cannot be written" in dock.jobs.error.text()
    dock.settings.kmeans.control("threshold").spin.setValue(0.7)
    assert "measure again" in dock.results.notes.text()


def test_a_network_measures_when_asked(dock, dishes, qtbot, wait_for_job, viewer, monkeypatch):
    session, truth = dishes
    monkeypatch.setattr("cell_curator.covering.models", lambda _session: [])
    session.events.rounds_changed.emit()
    QTest.keyClick(dock, Qt.Key.Key_2, Qt.KeyboardModifier.AltModifier)
    assert dock.percent.text() == "Not measured yet"
    assert dock.settings.none.isVisible()
    assert GROUPS not in viewer.layers
    QTest.keyClick(dock, Qt.Key.Key_M)
    assert "no U-Net has learned here yet" in dock.jobs.error.text()

    def answer(session, image_id, say, method):
        assert method.model == "area"
        yield Progress(0.5)
        mask = truth[session.image(image_id).name] > 0
        made = Covered(mask, score=np.where(mask, 0.9, 0.2).astype(np.float32))
        return made, CoverRow("", "", None, None, confluency(mask, params=say), 0.0)

    monkeypatch.setattr("cell_curator.confluency.cover_image", answer)
    monkeypatch.setattr("cell_curator.covering.models", lambda _session: [SimpleNamespace(name="area")])
    session.events.rounds_changed.emit()
    assert not dock.settings.none.isVisible()
    QTest.mouseClick(dock.settings.measure, LEFT)
    wait_for_job()
    mask = cleaned(truth[session.image(session.current_image).name] > 0, UnetCover())
    covered = f"{100 * mask.mean():.1f} % covered"
    qtbot.waitUntil(lambda: dock.percent.text() == covered)
    threshold = dock.settings.unet.control("threshold").spin
    threshold.setValue(0.1)  # nothing needs to be looked at again
    qtbot.waitUntil(lambda: dock.percent.text().startswith("100.0 % covered"))
    threshold.setValue(0.5)
    qtbot.waitUntil(lambda: dock.percent.text() == covered)
    np.testing.assert_array_equal(viewer.layers[COVERED].data > 0, mask)
    session.show_image(session.images[1].image_id)
    qtbot.waitUntil(lambda: dock.percent.text() == "Not measured yet")
    session.show_image(session.images[0].image_id)
    qtbot.waitUntil(lambda: "covered" in dock.percent.text())


def test_the_method_is_kept_with_the_project(dock, dishes, bench, qtbot):
    session, _ = dishes
    QTest.keyClick(dock, Qt.Key.Key_3, Qt.KeyboardModifier.AltModifier)
    qtbot.waitUntil(lambda: session.setting("cover method") == "masks")
    dock.settings.methods["kmeans"].setChecked(True)
    dock.settings.show_session(session)
    assert dock.settings.method == "masks"


def test_regions_drawn_by_hand_correct_the_numbers(dock, dishes, qtbot, wait_for_job):
    session, truth = dishes
    for record in session.images:
        session.set_labels(record.image_id, truth[record.name])
        mark(session, record.image_id, REVIEWED)
    settled(qtbot, dock, lambda: dock.settings.kmeans.control("trim_px").spin.setValue(4))  # finds too little
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert "by 4 regions drawn by hand" in dock.results.notes.text()
    qtbot.waitUntil(lambda: "corrected by 4 regions" in dock.about.text())
    first = dock.results.report.rows[0]
    assert dock.percent.text().startswith(f"{first.cover.percent:.1f} %")
    assert first.cover.percent > first.as_found


def test_a_dock_out_of_sight_leaves_the_viewer_as_it_was(dock, viewer, bench):
    assert bench.link.mouse_taken
    dock.hide()
    assert [layer.name for layer in viewer.layers if layer.name in (GROUPS, COVERED)] == []
    assert viewer.layers["cells"].visible
    assert not bench.link.mouse_taken


def test_calm_images_say_that_nothing_stands_out(show, bench, tmp_path, execute, wait_for_job, qtbot):
    (tmp_path / "images").mkdir()
    write_tiff(tmp_path / "images" / "black.tif", np.zeros((1, *SHAPE), np.uint16))
    session = Session.create(tmp_path / "calm.curator", execute=execute)
    dock = show(ConfluencyDock)
    bench.adopt(session)
    assert dock.percent.text() == "No image"
    QTest.mouseClick(dock.primary, LEFT)
    assert "no images yet" in dock.jobs.error.text()
    drive(session.add_images(tmp_path / "images"))
    qtbot.waitUntil(lambda: "All pixels are alike" in dock.settings.groups.note.text())
    assert dock.percent.text() == "0.0 % covered"
    bench.close_session()
