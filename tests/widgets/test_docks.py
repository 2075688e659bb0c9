"""The docks on a small project: what is pressed reaches the session, what happens is shown."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QMessageBox
from scipy import ndimage

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import PRESETS, Recipe
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.kept_flows import keep
from cell_curator.session import Session
from cell_curator.widgets import workbench
from cell_curator.widgets.images_dock import ImagesDock
from cell_curator.widgets.preprocess_dock import PreprocessDock
from cell_curator.widgets.segment_dock import SegmentDock
from cell_curator.widgets.window import DOCKS, AllDocks
from cell_curator.widgets.workbench import project_folder_for, workbench_of

LEFT = Qt.MouseButton.LeftButton


@pytest.mark.parametrize("kind", DOCKS, ids=lambda kind: kind.title)
def test_an_empty_dock_says_what_to_do_first(show, kind):
    dock = show(kind)
    page = dock._pages.currentWidget()
    assert page.open.isVisible()
    assert page.sample.isVisible()
    assert not dock.primary.isVisible()


@pytest.mark.parametrize("kind", DOCKS, ids=lambda kind: kind.title)
def test_every_button_and_choice_has_a_tooltip(show, bench, mapped, kind, wait_for_job):
    from qtpy.QtWidgets import QComboBox, QPushButton

    dock = show(kind)
    bench.adopt(mapped)
    wait_for_job()
    for widget in [*dock.findChildren(QPushButton), *dock.findChildren(QComboBox)]:
        assert widget.toolTip(), f"{kind.title}: {widget} has no tooltip"


@pytest.mark.parametrize("kind", DOCKS, ids=lambda kind: kind.title)
def test_a_dock_fits_into_320_pixels(show, bench, mapped, kind, wait_for_job):
    dock = show(kind)
    bench.adopt(mapped)
    wait_for_job()
    assert dock.minimumSizeHint().width() <= 320


def test_docks_share_one_workbench_for_a_viewer_and_its_proxy(viewer, bench):
    proxy = type("Proxy", (), {"__wrapped__": viewer})()
    assert workbench_of(proxy) is workbench_of(viewer) is bench


# Images


def test_a_folder_that_is_typed_is_opened_with_its_images(show, bench, session, wait_for_job):
    images = session.folder.parent / "images"
    other = images.parent / "other"
    images.rename(other)
    dock = show(ImagesDock)
    QTest.keyClicks(dock.path, str(other))
    QTest.keyClick(dock.path, Qt.Key.Key_Return)
    wait_for_job()
    assert bench.session.folder == images.parent / "other.curator"
    assert dock.model.rowCount() == 2
    assert dock.model.data(dock.model.index(0, 1)) == "control"
    assert dock.jobs.state.full_text == "2 images added"


def test_a_folder_that_is_not_there_is_said_in_the_dock(show, tmp_path):
    dock = show(ImagesDock)
    dock.open_path(tmp_path / "nowhere")
    assert "nowhere: there is no such folder" in dock.jobs.error.text()
    assert dock.jobs.error.isVisible()


def test_a_folder_without_images_is_said_in_the_dock(show, tmp_path, wait_for_job):
    (tmp_path / "empty").mkdir()
    dock = show(ImagesDock)
    dock.open_path(tmp_path / "empty")
    wait_for_job()
    assert "empty" in dock.jobs.error.text()


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_added(show, session, bench, wait_for_job):
    images = session.folder.parent / "images"
    (images / "control" / "broken.tif").write_bytes(b"no image")
    other = images.rename(images.parent / "other")
    dock = show(ImagesDock)
    dock.open_path(other)
    wait_for_job()
    assert dock.model.rowCount() == 2
    assert "broken.tif" in dock.jobs.error.text()


def test_the_table_shows_counts_and_facts_and_follows_the_keys(show, bench, session, wait_for_job):
    dock = show(ImagesDock)
    bench.adopt(session)
    wait_for_job()
    assert dock.model.data(dock.model.index(0, 2)) == "4"
    assert "80 × 64 px" in dock.facts.text()
    assert "pixel size unknown" in dock.facts.text()
    dock.window().activateWindow()
    QTest.keyClick(dock, Qt.Key.Key_PageDown)
    wait_for_job()
    assert session.current_image == session.images[1].image_id
    assert dock.table.currentIndex().row() == 1
    dock.table.setCurrentIndex(dock.model.index(0, 0))
    assert session.current_image == session.images[0].image_id


def test_thumbnails_arrive(show, bench, session, qtbot):
    dock = show(ImagesDock)
    bench.adopt(session)

    def shades():
        icon = dock.model._thumbs.get(session.images[0].image_id)
        picture = icon.pixmap(40, 40).toImage() if icon is not None else None
        return len({picture.pixel(x, 20) for x in range(40)}) if picture is not None else 0

    qtbot.waitUntil(lambda: shades() > 3)


def test_a_condition_is_edited_for_all_chosen_images(show, bench, session, wait_for_job):
    dock = show(ImagesDock)
    bench.adopt(session)
    wait_for_job()
    dock.table.selectAll()
    dock.model.setData(dock.model.index(0, 1), "drug")
    assert {record.condition for record in session.images} == {"drug"}
    assert set(session.cells.frame["condition"]) == {"drug"}


def test_run_all_steps_ends_with_a_map(show, bench, session, wait_for_job):
    dock = show(ImagesDock)
    bench.adopt(session)
    wait_for_job()
    QTest.mouseClick(dock.primary, LEFT)
    assert not dock.primary.isEnabled()
    wait_for_job()
    assert dock.jobs.error.text() == ""
    assert session.embedding is not None
    assert f"{len(session.cells)} cells in 2 images" in dock.jobs.state.full_text
    assert dock.primary.isEnabled()


# Preprocess


def test_a_change_is_previewed_and_not_stored_until_it_is_applied(show, bench, session, qtbot, wait_for_job):
    dock = show(PreprocessDock)
    bench.adopt(session)
    wait_for_job()
    before = np.array(bench.link.image.prepared_layer.data)
    dock.form.control("clip.high_percent").spin.setValue(60.0)
    qtbot.waitUntil(lambda: "Preview in" in dock.jobs.state.full_text)
    after = bench.link.image.prepared_layer.data
    np.testing.assert_array_equal(after, prepare(session.pixels(1), dock.form.value()).image)
    assert not np.array_equal(after, before)
    assert bench.link.image.prepared_layer.visible
    assert session.get(Recipe).clip.high_percent != 60.0
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert session.get(Recipe).clip.high_percent == 60.0
    assert dock.jobs.state.full_text == "2 images prepared"


def test_a_preset_fills_the_form_and_a_change_makes_it_an_own_recipe(show, bench, session, wait_for_job):
    dock = show(PreprocessDock)
    bench.adopt(session)
    wait_for_job()
    dock.preset.setCurrentText("Noisy fluorescence")
    assert dock.form.value() == PRESETS["Noisy fluorescence"]
    dock.form.control("total_variation.weight").spin.setValue(0.3)
    assert dock.preset.value() == "own settings"


def test_c_switches_between_raw_and_prepared(show, bench, session, wait_for_job):
    dock = show(PreprocessDock)
    bench.adopt(session)
    wait_for_job()
    QTest.keyClick(dock, Qt.Key.Key_C)
    assert bench.link.image.prepared_layer.visible
    QTest.keyClick(dock, Qt.Key.Key_C)
    assert not bench.link.image.prepared_layer.visible


# Segment


def test_cells_are_found_counted_and_shown(show, bench, session, wait_for_job):
    empty = np.zeros(session.images[0].shape[1:], np.int32)
    for record in session.images:
        session.set_labels(record.image_id, empty)
    dock = show(SegmentDock)
    bench.adopt(session)
    wait_for_job()
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert "4 cells in" in dock.jobs.state.full_text
    assert "typical diameter 14 px" in dock.result.text()
    assert bench.link.labels.layer.data.max() == 4
    assert len(session.cells) == 4
    QTest.mouseClick(dock.all, LEFT)
    wait_for_job()
    assert "8 cells in 2 images" in dock.jobs.state.full_text


def test_parameters_go_to_the_session(show, bench, session, qtbot, wait_for_job):
    dock = show(SegmentDock)
    bench.adopt(session)
    wait_for_job()
    dock.form.control("diameter").spin.setValue(17)
    qtbot.waitUntil(lambda: session.get(SegmentParameters).diameter == 17)


def test_outlines_and_colours_are_those_of_the_layer(show, bench, mapped, wait_for_job):
    dock = show(SegmentDock)
    bench.adopt(mapped)
    wait_for_job()
    QTest.keyClick(dock, Qt.Key.Key_H)
    assert bench.link.labels.layer.contour == 2
    dock.looks.coloring.setCurrentText("verdict")
    assert bench.link.labels.color_by == "verdict"
    dock.looks.only.setChecked(True)
    assert bench.link.labels.layer.show_selected_label


def test_one_job_at_a_time_is_said_in_the_dock(show, bench, session, wait_for_job):
    dock = show(SegmentDock)
    bench.adopt(session)
    wait_for_job()
    stop = []

    def slow():
        from cell_curator.core.jobs import Progress

        while not stop:
            time.sleep(0.01)
            yield Progress(0.3, "waiting")

    bench.run("Something slow", slow)
    dock.run("Finding cells", session.segment)
    assert "“Something slow” is still running" in dock.jobs.error.text()
    assert dock.jobs.cancel.isVisible()
    stop.append(True)
    wait_for_job()


# All of them


def test_question_mark_lists_all_keys(show):
    docks = show(AllDocks)
    QTest.keyClicks(docks, "?")
    assert docks._keys.isVisible()
    for kind in DOCKS:
        for key, _ in kind.keys:
            assert key in docks._keys.text.text()
    docks._keys.toggle()
    assert not docks._keys.isVisible()


def test_the_theme_is_followed(show, viewer):
    from cell_curator.widgets import style

    dock = show(SegmentDock)
    viewer.theme = "light"
    assert style.colors("light")["error"] in dock.styleSheet()


def test_another_project_takes_the_place_of_the_first(show, bench, session, tmp_path, wait_for_job):
    from cell_curator.session import Session

    dock = show(ImagesDock)
    bench.adopt(session)
    wait_for_job()
    bench.adopt(Session.create(tmp_path / "second.curator"))
    assert dock.header.project.full_text == "second"
    assert dock.model.rowCount() == 0
    assert len(bench.viewer.layers) == 0


def test_closing_the_bench_ends_its_threads_and_forgets_the_viewer(show, bench, session, wait_for_job):
    show(AllDocks)
    bench.adopt(session)
    wait_for_job()
    bench.close()
    assert bench.viewer not in workbench._BENCHES
    assert bench.background._pool._shutdown
    bench.close()


def test_a_project_lies_beside_its_images_or_at_home(tmp_path, monkeypatch):
    (tmp_path / "plate").mkdir()
    assert project_folder_for(tmp_path / "plate") == tmp_path / "plate.curator"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert project_folder_for(tmp_path / "plate").parent.name == "Cell Curator"


# Out and in


def test_cells_are_exported_and_come_back_from_the_images_dock(
    show, bench, session, tmp_path, wait_for_job, monkeypatch
):
    dock = show(ImagesDock)
    bench.adopt(session)
    wait_for_job()
    chosen = [tmp_path]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(chosen[0]))
    before = {record.image_id: session.labels(record.image_id) for record in session.images}
    ids = set(session.cells.frame.index)
    for title, form in dock.exchange._formats.items():
        chosen[0] = tmp_path / form.name
        dock.exchange.format.setCurrentText(title)
        dock.exchange.export.click()
        wait_for_job()
        assert dock.jobs.error.text() == "", title
        assert "file" in dock.jobs.state.full_text
        assert any(chosen[0].rglob("*"))
    chosen[0] = tmp_path / "cellpose"
    session.set_labels(1, np.zeros(session.image(1).shape[1:], np.int32))
    dock.exchange.bring.click()
    wait_for_job()
    assert dock.jobs.error.text() == ""
    for image_id, labels in before.items():
        np.testing.assert_array_equal(session.labels(image_id) > 0, labels > 0)
    assert len(session.cells) == len(ids)


def test_an_image_is_taken_out_and_the_rest_goes_on(show, bench, mapped, wait_for_job, monkeypatch):
    dock = show(ImagesDock)
    bench.adopt(mapped)
    wait_for_job()
    monkeypatch.setattr(QMessageBox, "question", lambda *_: QMessageBox.StandardButton.Yes)
    dock.table.selectRow(0)
    dock.remove.click()
    wait_for_job()
    assert [record.image_id for record in mapped.images] == [2]
    assert set(mapped.cells.frame["image"]) == {2}
    assert mapped.current_image == 2
    assert len(Session.open(mapped.folder).images) == 1
    with pytest.raises(UserError, match="no longer in the project"):
        mapped.prepare(1)


def test_an_image_taken_out_during_a_run_does_not_stop_it(session):
    job = session.segment()
    next(job)
    session.remove_images([2])
    report = drive(job)
    assert report.done == 1
    assert "no longer in the project" in report.failed[0][1]


# Live thresholds


def test_thresholds_are_live_on_what_the_network_saw(show, bench, session, qtbot, wait_for_job):
    found = flat_segmentation(session.labels(1), session.image(1).shape[1:])
    parameters = session.get(SegmentParameters)
    keep(session, 1, found, parameters)
    dock = show(SegmentDock)
    bench.adopt(session)
    wait_for_job()
    names = {layer.name for layer in bench.viewer.layers}
    dock.form.control("min_size").spin.setValue(120)
    qtbot.waitUntil(lambda: "With these thresholds" in dock.result.text())
    assert {layer.name for layer in bench.viewer.layers} - names == {"with these thresholds"}
    qtbot.waitUntil(lambda: {layer.name for layer in bench.viewer.layers} == names)
    assert bench.link.labels.layer.visible
    assert session.get(SegmentParameters).min_size == 120
    dock.insight.setChecked(True)
    qtbot.waitUntil(lambda: "cell probability" in bench.viewer.layers)
    dock.insight.setChecked(False)
    assert "flow" not in bench.viewer.layers


def flat_segmentation(labels, shape):
    """What a network would have said of these cells: sure of them, and flowing to their middles."""
    places = np.indices(labels.shape, float)
    numbers = np.arange(labels.max() + 1)
    middles = np.array([ndimage.mean(axis, labels, numbers) for axis in places])
    away = (middles[:, labels] - places) * (labels > 0)
    flow = away / np.maximum(np.hypot(*away), 1e-6)
    sure = np.where(labels > 0, 6.0, -6.0)
    errors = np.zeros(labels.max() + 1, np.float32)
    return Segmentation(labels, 14.0, False, errors, (5 * flow).astype(np.float16), sure.astype(np.float16))
