"""The Explore dock on a small project: the map, its clusters, its conditions, and the way to Review and back."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from cell_curator import map_reading, mapping
from cell_curator.core.cluster_count import KSuggestion
from cell_curator.core.cluster_reading import densities
from cell_curator.core.colors import cluster_color
from cell_curator.core.comparison import compare_conditions
from cell_curator.core.doubts import BatchEffect, DeadUnits, Stability
from cell_curator.core.honesty import HonestyRow
from cell_curator.core.jobs import Progress
from cell_curator.engines.vae.progress import MapPreview, VaeProgress
from cell_curator.io.project import Change
from cell_curator.map_reading import Judgement
from cell_curator.typing_cells import give_type, name_types
from cell_curator.widgets import explore_reading as reading
from cell_curator.widgets.explore_clusters import CELLS, NAME, SHARES, SWATCH
from cell_curator.widgets.explore_dock import ExploreDock
from cell_curator.widgets.explore_learning import THIS_MAP
from cell_curator.widgets.explore_pictures import PictureRow, PictureRows, painted
from cell_curator.widgets.legend import Legend, ago, cluster_shares
from cell_curator.widgets.window import AllDocks

LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def dock(show, bench, mapped, wait_for_job):
    """The dock in front of a project with a map."""
    dock = show(ExploreDock)
    bench.adopt(mapped)
    wait_for_job()
    return dock


def spot(dock, row, column):
    table = dock.map.clusters.table
    return table.viewport(), table.visualItemRect(table.item(row, column)).center()


def click_row(dock, row, column=CELLS):
    where, at = spot(dock, row, column)
    QTest.mouseClick(where, LEFT, pos=at)


def double_click(dock, row, column):
    where, at = spot(dock, row, column)
    QTest.mouseClick(where, LEFT, pos=at)
    QTest.mouseDClick(where, LEFT, pos=at)


# making a map


def test_a_map_is_made_with_its_curve_and_clusters(show, bench, session, wait_for_job):
    dock = show(ExploreDock)
    bench.adopt(session)
    wait_for_job()
    assert not dock.map.clusters.isVisible()
    assert not dock.tabs.isVisible()
    assert "No map yet" in dock.map.hint.text()
    dock.forms[1].control("k").spin.setValue(2)
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert dock.jobs.error.text() == ""
    assert dock.plot.steps == 3
    table = dock.map.clusters.table
    assert table.rowCount() == 2
    titles = [table.horizontalHeaderItem(i).text() for i in range(4)]
    assert titles == ["", "Cluster", "Cells", "Conditions"]
    bar = table.item(0, SHARES)
    assert sum(percent for percent, _ in bar.data(Qt.ItemDataRole.UserRole)) == pytest.approx(100)
    assert "% treated" in bar.toolTip()
    assert "8 cells on the map in 2 clusters" in dock.jobs.state.full_text
    assert bench.link.points.layer is not None
    dock.forms[1].control("k").spin.setValue(3)
    QTest.mouseClick(dock.learning.again, LEFT)
    wait_for_job()
    assert table.rowCount() == 3


def test_the_map_is_seen_while_it_forms_and_given_back_when_it_is_stopped(dock, bench, mapped, monkeypatch, qtbot):
    some = mapped.embedding.cell_id[:5]

    def learning(_session, _start=None, **_more):
        for step in range(1, 500):
            preview = MapPreview(some, np.c_[np.arange(5), np.arange(5)[::-1]].astype(np.float32))
            yield Progress(step / 500, "learning", VaeProgress(step, 500, 9.0, 8.0, 1.0, 9.5, 3, preview))
            time.sleep(0.01)

    monkeypatch.setattr(mapping, "embed", learning)
    before = bench.link.points.positions.copy()
    dock.learning.show_before(mapped)
    QTest.mouseClick(dock.primary, LEFT)
    qtbot.waitUntil(lambda: bench.link.points.is_preview)
    assert set(bench.link.points.cell_ids) == set(some)
    assert "3 of 16 learned features" in dock.learning.said.text()
    bench.runner.cancel()
    qtbot.waitUntil(lambda: not bench.runner.busy)
    np.testing.assert_allclose(bench.link.points.positions, before)


def test_going_on_from_a_network_can_be_compared_with_learning_afresh(
    dock, mapped, monkeypatch, wait_for_job, tmp_path
):
    asked = []

    def learning(_session, start=None, *, compare=False, parameters=()):
        assert parameters == dock.learning.settings_now()
        asked.append((start, compare))
        yield Progress(0.5, "learning")
        return mapping.MapReport(8, 3, "latent", {}, ())

    monkeypatch.setattr(mapping, "embed", learning)
    monkeypatch.setattr(mapping, "map_network", lambda _session: tmp_path / "network.pt")
    dock.learning.settings.set_open(True)
    assert not dock.learning.compare.isVisible()
    dock.learning.compare.setChecked(True)  # of a choice made before: means nothing without a network
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    dock.learning.start.set_value(THIS_MAP)
    dock.learning.start.changed.emit(THIS_MAP)
    assert dock.learning.compare.isVisible()
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert asked == [(None, False), (tmp_path / "network.pt", True)]


def test_what_a_stopped_training_learned_can_be_kept(dock, bench, mapped, monkeypatch, wait_for_job):
    assert not dock.learning.keep.isVisible()
    (mapped.folder / "embeddings").mkdir(exist_ok=True)
    (mapped.folder / "embeddings" / "learning.pt").write_bytes(b"")
    bench.runner.ended.emit(None)
    assert dock.learning.keep.isVisible()

    def kept(_session):
        yield Progress(0.5, "keeping")
        return mapping.MapReport(8, 3, "latent", {}, ("stopped by hand",))

    monkeypatch.setattr(mapping, "keep", kept)
    QTest.keyClick(dock, Qt.Key.Key_K)
    wait_for_job()
    assert "stopped by hand" in dock.jobs.state.full_text


def test_what_going_on_from_a_network_gained_is_said(dock):
    dock.plot.clear()
    dock.plot.show_before([(10, 40.0), (100, 30.0), (800, 20.0)])
    for step, value in ((0, 35.0), (40, 20.0), (80, 18.0)):
        dock.plot.take(VaeProgress(step, 100, 1.0, 1.0, 1.0, value))
    assert "2.0 better than the map before, whose best it reached after 40 steps, not 800" in dock.plot.gain()


def test_the_training_that_is_compared_with_has_a_curve_of_its_own(dock, viewer):
    for step, value in ((1, 9.0), (50, 8.0), (1, 9.0), (100, 8.5)):
        dock.learning.take(VaeProgress(step, 100, value, value, 1.0, value))
    assert (dock.plot.steps, dock.plot.drawn("afresh"), dock.learning.parts.drawn("kl")) == (2, 2, 2)
    dock.plot.show_before([(800, 7.96)])
    dock.learning.show_notes(("going on from a network: 2 nats better", ""))
    assert dock.learning.said.text() == (
        "Held-back loss as that of the map before (8.0).\nGoing on from a network: 2 nats better."
    )
    dock.learning.clear()
    assert not dock.plot.drawn("afresh")


def test_the_number_of_groups_is_suggested_with_reasons(dock, monkeypatch, wait_for_job):
    def suggest(_session, parameters):
        assert parameters == dock.forms[1].value()
        yield Progress(0.5, "trying")
        table = pd.DataFrame({"bic": [3.0], "silhouette": [0.5], "stability": [0.9]}, index=pd.Index([5], name="k"))
        return KSuggestion(table, 5, "5 clusters: BIC is lowest at 5", ("also stable: 3",))

    monkeypatch.setattr(mapping, "suggest", suggest)
    dock.learning.settings.set_open(True)
    QTest.mouseClick(dock.learning.suggest, LEFT)
    wait_for_job()
    assert dock.forms[1].value().k == 5
    assert "BIC is lowest at 5. also stable: 3" in dock.learning.k_why.text()


# walking on it


def test_the_cell_under_the_mouse_is_pictured(dock, bench, mapped, qtbot):
    goal = int(mapped.cells.frame.index[4])
    bench.link.hovered.emit(goal)
    assert f"Cell {goal}" in dock.map.card.text.text()
    qtbot.waitUntil(lambda: not dock.map.card.picture.pixmap().isNull())


def test_colours_can_be_chosen_for_map_and_image(dock, bench, mapped):
    page = dock.map
    page.coloring.setCurrentText("condition")
    assert bench.link.points.color_by == "condition"
    assert [word for word, _ in page.legend.entries] == ["control", "treated"]
    page.both.setChecked(True)
    assert bench.link.labels.color_by == "condition"
    name_types(mapped, ["HEK", "N2a"])
    give_type(mapped, [bench.link.points.cell_ids[0]], "N2a")
    page.coloring.setCurrentText("type")
    assert [word for word, _ in page.legend.entries] == ["N2a", "no type"]
    np.testing.assert_allclose(bench.link.points.layer.face_color[0][:3], cluster_color(1), atol=0.01)
    page.coloring.setCurrentText("area")
    assert page.legend.limits[0] < page.legend.limits[1]
    page.coloring.setCurrentText("time of correction")
    assert bench.link.points.color_by == "corrected"
    assert page.legend._ends[1] == "just now"  # the fixture paints its cells


def test_times_are_said_as_how_long_ago(qtbot):
    assert [ago(s) for s in (5, 600, 7200, 200_000)] == ["just now", "10 min ago", "2 h ago", "2 days ago"]
    legend = Legend()
    qtbot.addWidget(legend)
    legend.show_times(np.array([np.nan]))
    assert [word for word, _ in legend.entries] == ["never corrected"]


def test_the_lasso_button_and_its_key_switch_the_lasso(dock, bench):
    QTest.mouseClick(dock.map.lasso, LEFT)
    assert bench.link.lasso.on
    bench.tools.mode = "split"  # another tool takes the mouse
    assert not bench.link.lasso.on
    QTest.keyClick(dock, Qt.Key.Key_L, Qt.KeyboardModifier.ShiftModifier)
    assert bench.link.lasso.on
    assert bench.tools.mode == "pick"
    QTest.keyClick(dock, Qt.Key.Key_Escape)
    assert not bench.link.lasso.on


# clusters


def test_a_row_of_the_table_selects_its_cells(dock, mapped):
    click_row(dock, 1)
    frame = mapped.cells.frame
    assert mapped.selection.ids == frozenset(frame.index[frame["cluster"] == 1])
    mapped.selection.set({int(frame.index[0])})  # chosen elsewhere: the row is no longer what is chosen
    assert dock.map.clusters.number is None


def test_a_double_click_on_the_name_renames_and_undo_takes_it_back(dock, mapped, qtbot):
    double_click(dock, 2, NAME)
    editor = dock.map.clusters.table.findChild(type(dock.map.clusters.note))
    editor.selectAll()
    QTest.keyClicks(editor, "elongated")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: mapped.embedding.cluster_names[2] == "elongated")
    assert dock.map.clusters.table.item(2, NAME).text() == "elongated"
    mapped.undo()
    assert dock.map.clusters.table.item(2, NAME).text() == "Cluster 3"


def test_a_name_that_is_taken_is_refused_in_words(dock, mapped):
    dock.map.clusters.renamed.emit(1, "Cluster 1")
    assert "another cluster is called" in dock.jobs.error.text()
    assert dock.map.clusters.table.item(1, NAME).text() == "Cluster 2"


def test_f2_edits_the_name_of_the_chosen_cluster(dock, mapped):
    click_row(dock, 0)
    QTest.keyClick(dock, Qt.Key.Key_F2)
    editor = dock.map.clusters.table.findChild(type(dock.map.clusters.note))
    assert editor.isVisible()


def test_a_note_stays_with_its_cluster(dock, mapped):
    note = dock.map.clusters.note
    assert not note.isEnabled()
    click_row(dock, 1)
    note.setFocus()
    QTest.keyClicks(note, "dividing?")
    QTest.keyClick(note, Qt.Key.Key_Return)
    assert mapped.embedding.cluster_notes == {1: "dividing?"}
    dock.setFocus()
    click_row(dock, 0)
    assert note.text() == ""
    click_row(dock, 1)
    assert note.text() == "dividing?"
    assert "dividing?" in dock.map.clusters.table.item(1, NAME).toolTip()


def test_shares_of_conditions_add_up_without_rejected_cells(mapped):
    mapped.set_verdict([mapped.cells.frame.index[0]], "rejected")
    shares = cluster_shares(mapped.cells)
    assert shares["cells"].sum() == 7
    np.testing.assert_allclose(shares.drop(columns="cells").sum(axis=1), 100)


@pytest.fixture
def all_docks(viewer, bench, mapped, qtbot, wait_for_job):
    docks = AllDocks(viewer)
    window = viewer.window._qt_window
    window.setCentralWidget(docks)
    window.show()
    bench.adopt(mapped)
    wait_for_job()
    return docks


def test_a_double_click_on_a_cluster_opens_its_gallery_in_review(all_docks, mapped):
    dock = all_docks.show_dock("Explore")
    double_click(dock, 1, SWATCH)
    review = all_docks.docks["Review"]
    assert all_docks.pages.currentWidget() is review
    frame = mapped.cells.frame
    assert sorted(review.model.cell_ids) == frame.index[frame["cluster"] == 1].tolist()


def test_the_chosen_cells_go_to_reviews_queue(all_docks, mapped):
    dock = all_docks.show_dock("Explore")
    dock.check()
    assert "No cell is chosen" in dock.jobs.state.full_text
    some = [int(cell) for cell in mapped.cells.frame.index[[0, 5]]]
    mapped.selection.set(some)
    QTest.mouseClick(dock.map.review, LEFT)
    review = all_docks.docks["Review"]
    assert all_docks.pages.currentWidget() is review
    assert sorted(review.model.cell_ids) == some


# the map brought up to date


def test_changed_cells_are_counted_and_the_map_is_updated_with_one_key(
    dock, bench, mapped, discs, monkeypatch, wait_for_job
):
    assert not dock.map.refresh.isVisible()
    labels = mapped.labels(mapped.current_image)
    labels[14:18, 14:24] = 1
    mapped.set_labels(mapped.current_image, labels)
    assert "1 cell is new or changed" in dock.map.stale.text()
    moved = mapped.cell_at(mapped.current_image, 1)

    def refreshed(session):
        yield Progress(0.5, "looking")
        old = session.embedding
        row = int(np.flatnonzero(old.cell_id == moved)[0])
        map2d, revision = old.map2d.copy(), old.revision.copy()
        map2d[row] += 5
        revision[row] = session.row(moved)["revision"]
        new = replace(old, map2d=map2d, revision=revision)
        session.commit(Change("map", {}, embedding=new, clustering=dict(old.clustering)))
        went = mapping.Moved(old.cell_id[[row]], old.map2d[[row]], map2d[[row]])
        return mapping.MapReport(8, 3, "latent", {}, (), refreshed=1, moved=went)

    monkeypatch.setattr(mapping, "refresh", refreshed)
    QTest.keyClick(dock, Qt.Key.Key_F5)
    wait_for_job()
    assert dock.jobs.state.full_text == "1 moved on the map"
    assert not dock.map.stale.isVisible()
    assert bench.link.points.moved == {moved}
    QTest.keyClick(dock, Qt.Key.Key_Escape)
    assert bench.link.points.moved == frozenset()


# reading clusters


def test_seven_cells_of_each_cluster_lead_to_their_cells(dock, bench, mapped, qtbot):
    QTest.mouseClick(dock.titles["Clusters"], LEFT)
    rows = dock.reading.pictures
    qtbot.waitUntil(lambda: len(rows.rows) == 3)
    assert [len(row.pictures) for row in rows.rows] == [3, 3, 2]
    cell = rows.rows[2].cells[1]
    QTest.mouseClick(rows, LEFT, pos=rows._area(1, 2 * rows._height(rows.rows[0])).center())
    assert mapped.selection.ids == {cell}


@pytest.mark.parametrize("view", [reading.TYPICAL, reading.ALIKE, reading.APART, reading.LIKENESS, reading.FEATURES])
def test_every_view_of_the_clusters_shows_something(dock, mapped, view, qtbot):
    mapped.selection.set({int(mapped.cells.frame.index[0])})
    dock._show_page("Clusters")
    page = dock.reading
    page.view.setCurrentText(view)
    widget = {reading.APART: page.bars, reading.LIKENESS: page.likeness, reading.FEATURES: page.features}.get(
        view, page.pictures
    )
    qtbot.waitUntil(widget.isVisible)
    assert page.says.text()
    assert not widget.grab().isNull()


def test_the_chosen_cell_comes_before_those_like_it(dock, mapped, qtbot):
    dock._show_page("Clusters")
    dock.reading.view.setCurrentText(reading.ALIKE)
    cell = int(mapped.cells.frame.index[3])
    mapped.selection.set({cell})
    qtbot.waitUntil(lambda: bool(dock.reading.pictures.rows) and bool(dock.reading.pictures.rows[0].cells))
    assert dock.reading.pictures.rows[0].cells[0] == cell


def test_what_the_network_paints_comes_by_a_job(dock, mapped, monkeypatch, wait_for_job):
    def center(_session, cluster, _condition=None):
        yield Progress(0.5, "painting")
        return np.full((8, 8), cluster / 10, np.float32)

    monkeypatch.setattr(map_reading, "decoded_center", center)
    dock._show_page("Clusters")
    dock.reading.view.setCurrentText(reading.PAINTED)
    wait_for_job()
    shown = dock.reading.pictures.rows
    assert [row.title for row in shown] == ["Cluster 1", "Cluster 2", "Cluster 3"]
    assert [int(row.pictures[0][0, 0, 0]) for row in shown] == [0, 128, 255]  # alike in contrast, the brightest white


def test_cells_are_painted_as_if_of_another_condition(dock, mapped, monkeypatch, wait_for_job):
    stored = replace(mapped.embedding, detail={"conditions": ["control", "treated"]})
    mapped.commit(Change("map", {}, embedding=stored, clustering=dict(stored.clustering)))
    asked = []

    def otherwise(_session, cells, condition):
        yield Progress(0.5, "painting")
        asked.append((list(cells), condition))
        blank, found = np.zeros((len(cells), 8, 8), np.float32), tuple(cells[::-1])  # patches come image by image
        of = tuple(mapped.row(cell)["condition"] for cell in found)
        return map_reading.Counterfactual(found, of, blank, blank + 0.5, blank + 1)

    monkeypatch.setattr(map_reading, "counterfactual", otherwise)
    dock._show_page("Clusters")
    page = dock.reading
    page.view.setCurrentText(reading.OTHERWISE)
    wait_for_job()
    ((cells, condition),) = asked
    assert condition == "treated"
    assert {mapped.row(cell)["condition"] for cell in cells} == {"control"}
    are, same, would_be = page.pictures.rows
    assert are.cells == tuple(cells[::-1])
    assert page.pictures.word_at(QPoint(5, 30)) == f"control\nCell {cells[-1]}; click to go to it"
    assert (same.title, same.cells) == ("As the network paints them", ())
    assert would_be.title == "As it paints them as if of treated"
    assert (same.pictures[0].max(), would_be.pictures[0].min()) == (128, 255)
    page.condition.setCurrentText("control")
    wait_for_job()
    assert asked[-1][1] == "control"
    assert {mapped.row(cell)["condition"] for cell in asked[-1][0]} == {"treated"}
    page.origin.setCurrentText("control")
    wait_for_job()
    assert "of control already" in dock.jobs.error.text()


def test_a_network_that_was_told_nothing_cannot_paint_otherwise(dock, wait_for_job):
    dock._show_page("Clusters")
    dock.reading.view.setCurrentText(reading.OTHERWISE)
    wait_for_job()
    assert "make the map with the model cvae" in dock.jobs.error.text()
    assert not dock.reading.condition.isVisible()


def test_a_network_that_was_not_kept_is_said(dock, wait_for_job):
    dock._show_page("Clusters")
    dock.reading.view.setCurrentText(reading.CHANGED)
    wait_for_job()
    assert "was not kept" in dock.jobs.error.text()


def test_patches_of_two_channels_are_painted_in_two_colours():
    patch = np.stack([np.ones((4, 4)), np.zeros((4, 4))])
    np.testing.assert_array_equal(painted(patch)[0, 0], (0, 255, 0))
    np.testing.assert_array_equal(painted(patch[0])[0, 0], (255, 255, 255))


def test_rows_of_pictures_are_as_high_as_they_need_to_be(qtbot):
    rows = PictureRows()
    qtbot.addWidget(rows)
    rows.resize(350, 10)
    picture = np.zeros((8, 8, 3), np.uint8)
    rows.show_rows([PictureRow("seven", (picture,) * 7), PictureRow("two lines", (picture,) * 8)])
    assert rows.height() == rows._height(rows.rows[0]) + rows._height(rows.rows[1])
    assert rows._height(rows.rows[1]) > rows._height(rows.rows[0])


# conditions


def test_conditions_are_compared_by_image_and_refusal_is_said(dock, qtbot):
    dock._show_page("Conditions")
    qtbot.waitUntil(lambda: dock.comparing.table.rowCount() == 3)
    assert "cannot be compared" in dock.comparing.heading.text()
    assert "one image of each condition" in dock.comparing.heading.text()


def test_a_judgement_shows_tests_warnings_and_scores_with_their_controls(dock, monkeypatch, wait_for_job, qtbot):
    rng = np.random.default_rng(0)
    clusters = np.r_[rng.integers(0, 2, 200), np.zeros(200, int)]
    conditions, units = ["control"] * 200 + ["treated"] * 200, np.repeat(np.arange(10), 40)
    compared = compare_conditions(clusters, conditions, units)

    def judged(_session):
        yield Progress(0.5, "judging")
        rows = (HonestyRow("silhouette", "latent", "all cells", 0.41), HonestyRow("noise", "noise ⊕ label", "all", 1.0))
        doubts = BatchEffect(0.9, 0.6, "batch effect"), Stability((0, 1), (0.9, 0.3), ""), DeadUnits((), 16, "")
        return Judgement(compared, rows, ("batch effect: images are told apart",), *doubts)

    monkeypatch.setattr(map_reading, "judge", judged)
    dock._show_page("Conditions")
    QTest.keyClick(dock, Qt.Key.Key_J)
    wait_for_job()
    page = dock.comparing
    assert "Conditions differ" in page.heading.text()
    assert page.table.columnCount() == 5
    assert "Batch effect: images are told apart" in page.warnings.text()
    assert "noise ⊕ label · all" in page.scores.text()
    assert "1 warning" in dock.jobs.state.full_text


def test_features_that_tell_clusters_apart_come_first(dock):
    rng = np.random.default_rng(0)
    clusters = np.repeat([0, 1], 50)
    latent = rng.normal(size=(100, 8))
    latent[:, 5] += 6 * clusters
    dock.reading.features.show_densities(densities(latent, clusters), {0: "a", 1: "b"})
    assert dock.reading.features.features[0] == 5
