"""The Teach dock on a small project: marks, a round that answers at once, the table, comparing, places to go."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from cell_curator import marking
from cell_curator.comparing import Comparison, Disagreement, Doubt
from cell_curator.core.jobs import Progress, UserError
from cell_curator.core.regions import HOLDOUT, REVIEWED
from cell_curator.engines.finetune import TrainingState, TrainParameters, presets
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.examples import Counts, Finding
from cell_curator.io.project import Change
from cell_curator.io.records import Round
from cell_curator.link.regions import REGION_COLORS, REGIONS
from cell_curator.link.teaching import PLACE
from cell_curator.round_table import table
from cell_curator.rounds import model_in_use
from cell_curator.widgets import style, teach_dock, teach_judge, teach_learn
from cell_curator.widgets.teach_dock import TeachDock
from cell_curator.widgets.teach_marks import counts_in_words
from cell_curator.widgets.teach_table import row_in_words

LEFT = Qt.MouseButton.LeftButton
SHIFT = Qt.KeyboardModifier.ShiftModifier
BOX = [(5.0, 5.0), (5.0, 60.0), (55.0, 60.0), (55.0, 5.0)]
BEFORE = SegmentParameters().model


def scores(ap50, misses=3):
    return {
        "ap50": ap50,
        "ap75": ap50 / 2,
        "ap90": 0.01,
        "splits": 2,
        "merges": 1,
        "misses": misses,
        "images": 1,
        "cells": 40,
    }


def add_round(session, number, ap50=None, before=0.1, **detail):
    """A round as training leaves it, with its folder."""
    name = f"round-{number:02d}"
    folder = session.folder / "models" / name
    folder.mkdir(parents=True)
    (folder / "weights.pth").write_bytes(b"weights")
    parent = f"round-{number - 1:02d}" if number > 1 else BEFORE
    whole = {
        "title": f"Round {number}",
        "engine": "cellpose-unet",
        "parent": parent,
        "parent_title": f"Round {number - 1}" if number > 1 else "starter",
        "examples": [{"image": "control", "cells": 4}] * number,
        "cells": 4 * number,
        "scores": None if ap50 is None else scores(ap50),
        "before": scores(before, 9),
        "minutes": 1.5,
        "edits_per_100": 40.0 / number,
        "usable": True,
        "notes": [],
        **detail,
    }
    import json

    (folder / "card.json").write_text(json.dumps(whole))
    made = Round(number, "2026-01-01T00:00:00", name, whole)
    session.commit(Change("round", {"round": number}, round=made))
    return made


@pytest.fixture
def dock(show, bench, session, wait_for_job):
    dock = show(TeachDock)
    bench.adopt(session)
    wait_for_job()
    return dock


def press(button):
    assert button.isEnabled()
    QTest.mouseClick(button, LEFT)


def text(dock, row, column):
    model = dock.judging.table.rounds
    return model.data(model.index(row, column))


# Marks


def test_a_key_says_that_the_image_is_reviewed_and_takes_it_back(dock, session, qtbot):
    QTest.keyClick(dock, "i")
    assert [region.kind for region in session.regions(1)] == [REVIEWED]
    assert dock.marks.whole[REVIEWED].text().startswith("✓")
    qtbot.waitUntil(lambda: dock.marks.line.text() == "1 example, 4 cells reviewed; nothing locked away yet")
    QTest.keyClick(dock, "i")
    assert session.regions(1) == ()
    assert not dock.marks.whole[REVIEWED].text().startswith("✓")


def test_the_line_counts_what_is_locked_away(dock, session, qtbot):
    marking.mark(session, 2, REVIEWED)
    QTest.keyClick(dock, Qt.Key.Key_PageDown)
    QTest.keyClick(dock, "x")
    marking.mark(session, 1, REVIEWED)
    qtbot.waitUntil(lambda: dock.marks.line.text() == "1 example, 4 cells reviewed; 1 image (4 cells) locked away")
    assert dock.first.isHidden()


def test_counts_are_put_into_words():
    assert (
        counts_in_words(Counts(6, 412, 2, 131), 2) == "6 examples, 412 cells reviewed; 2 images (131 cells) locked away"
    )
    assert (
        counts_in_words(Counts(1, 1, 0, 0), 1)
        == "1 example, 1 cell reviewed; 1 image locked away, but not reviewed yet"
    )


def test_undo_and_clear(dock, session):
    marking.mark(session, 1, REVIEWED, BOX)
    marking.mark(session, 1, HOLDOUT, BOX)
    press(dock.marks.clear)
    assert session.regions(1) == ()
    assert not dock.marks.clear.isEnabled()
    QTest.keyClick(dock, "u")
    QTest.keyClick(dock, "u")
    assert len(session.regions(1)) == 2
    QTest.keyClick(dock, "u", SHIFT)
    assert len(session.regions(1)) == 1


def test_the_pen_is_taken_and_put_down(dock, session, bench):
    QTest.keyClick(dock, "g")
    assert bench.link.regions.drawing
    assert dock.marks.part[REVIEWED].isChecked()
    press(dock.marks.part[HOLDOUT])
    assert not dock.marks.part[REVIEWED].isChecked()
    layer = bench.viewer.layers[REGIONS]
    layer.add([BOX], shape_type="rectangle")
    QTest.keyClick(dock, Qt.Key.Key_Escape)
    assert not bench.link.regions.drawing
    assert not dock.marks.part[HOLDOUT].isChecked()
    bench.link.flush()
    assert [region.kind for region in session.regions(1)] == [HOLDOUT]


def test_going_to_another_dock_puts_the_pen_down(dock, bench):
    QTest.keyClick(dock, "g")
    dock.hide()
    assert not bench.link.regions.drawing


def test_images_are_locked_only_after_a_yes(dock, session):
    press(dock.marks.suggest)
    assert session.regions() == ()
    assert "Lock away" in dock.marks._offer._text.text()
    press(dock.marks._offer.no)
    assert session.regions() == ()
    press(dock.marks.suggest)
    press(dock.marks._offer.yes)
    assert [region.kind for region in session.regions()] == [HOLDOUT]
    press(dock.marks.suggest)
    assert dock.marks._offer.isHidden()
    assert "already" in dock.jobs.state.full_text


def test_the_legend_has_the_colours_of_the_frames(dock):
    from qtpy.QtWidgets import QLabel

    shown = " ".join(label.text() for label in dock.marks.findChildren(QLabel))
    assert all(color in shown for color in REGION_COLORS.values())


def test_without_cells_the_first_line_says_where_to_begin(dock, session, qtbot):
    qtbot.waitUntil(lambda: "correct its cells in Correct" in dock.first.text())
    for record in session.images:
        session.set_labels(record.image_id, np.zeros(record.shape[1:], np.int32))
    qtbot.waitUntil(lambda: "find cells in Segment" in dock.first.text())


# Learning


def test_a_new_project_learns_quickly_and_a_changed_setting_is_ones_own(dock):
    assert dock.learning.value() == presets()["quick"]
    assert dock.learning.preset.value() == "Quick: 2 min"
    dock.learning.preset.setCurrentText("As Cellpose trains")
    assert dock.learning.value() == TrainParameters()
    dock.learning.form.control("seed").spin.setValue(7)
    assert dock.learning.preset.value() == "My own settings"
    assert dock.learning.value().seed == 7
    dock.learning.vary.control("elastic").spin.setValue(1.0)
    assert dock.learning.value().vary.elastic == 1.0
    assert dock.learning.value().seed == 7


def test_findings_are_listed_and_what_stops_is_seen(dock, monkeypatch, wait_for_job, viewer):
    found = (Finding("only 3 <cells>", "review more", stops=True), Finding("all of one image", "review another"))

    def preflight(_session):
        yield Progress(0.5)
        return found

    monkeypatch.setattr(teach_dock, "preflight", preflight)
    press(dock.learning.check)
    wait_for_job()
    shown = dock.learning.findings.text()
    assert "✗ only 3 &lt;cells&gt; — review more" in shown
    assert "⚠ all of one image — review another" in shown
    assert style.colors("dark")["error"] in shown
    assert "2 things" in dock.jobs.state.full_text
    viewer.theme = "light"
    assert style.colors("light")["error"] in dock.learning.findings.text()
    QTest.keyClick(dock, "i")  # the findings are about other marks now
    assert dock.learning.findings.isHidden()


def test_a_round_is_not_started_against_a_finding_that_stops_it(dock, wait_for_job):
    press(dock.primary)  # nothing is marked
    wait_for_job()
    assert "nothing is marked as reviewed" in dock.jobs.error.text()
    assert "✗" in dock.learning.findings.text()


def fake_round(session, states, *, until=None):
    """Stands in for training: these states, then a round (or none, if it is cancelled)."""

    def train(_session, parameters):
        try:
            for state in states:
                yield Progress(0.5, "learning", state)
            while until is not None and not until():
                yield Progress(0.6, "learning")
        except GeneratorExit:
            add_round(session, 1, stopped="cancelled")
            raise
        return add_round(session, 1, 0.4)

    return train


def state(epoch, preview=None):
    curve = tuple((n, 1 / n, 2 / n if n % 2 == 0 else None) for n in range(1, epoch + 1))
    return TrainingState(epoch, 9, 4 * epoch, 1 / epoch, 0.5, 0.9, curve, epoch // 2, preview, "control/control")


@pytest.fixture
def marked(session):
    """All cells of the first image reviewed, the second locked away."""
    for image_id, kinds in ((1, (REVIEWED,)), (2, (REVIEWED, HOLDOUT))):
        for kind in kinds:
            marking.mark(session, image_id, kind)
    return session


def test_a_round_shows_its_curve_and_comes_into_the_table(dock, marked, monkeypatch, wait_for_job):
    monkeypatch.setattr(teach_learn, "preflight", nothing_found)
    monkeypatch.setattr(teach_learn, "train_round", fake_round(marked, [state(n) for n in (1, 2, 3)]))
    QTest.keyClick(dock, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    wait_for_job()
    assert dock.jobs.error.text() == ""
    assert dock.learning.plot.drawn("loss") == 3
    assert dock.learning.plot.drawn("holdout") == 2  # before, and after the second pass
    assert "Pass 3 of 9" in dock.learning.told.text()
    assert "(0.90 before)" in dock.learning.told.text()
    assert dock.judging.table.row().title == "Round 1"
    assert "Round 1 is learned" in dock.jobs.state.full_text
    assert text(dock, 1, 1) == "40 %"
    assert marked.get(TrainParameters) == presets()["quick"]


def nothing_found(_session):
    yield Progress(1.0)
    return ()


def test_cancelling_keeps_the_best_and_says_so(dock, marked, monkeypatch, wait_for_job, qtbot):
    monkeypatch.setattr(teach_learn, "preflight", nothing_found)
    monkeypatch.setattr(teach_learn, "train_round", fake_round(marked, [state(2)], until=lambda: False))
    press(dock.primary)
    qtbot.waitUntil(lambda: "Pass 2" in dock.learning.told.text())
    assert "best model so far is kept" in dock.jobs.cancel.toolTip()
    press(dock.jobs.cancel)
    wait_for_job()
    assert "best so far is kept as Round 1" in dock.jobs.state.full_text
    assert "best model" not in dock.jobs.cancel.toolTip()
    assert text(dock, 1, 1) == "–"


def test_what_it_finds_by_now_lies_over_its_image_while_it_learns(
    dock, marked, monkeypatch, wait_for_job, qtbot, viewer
):
    done = []
    preview = marked.labels(1)
    monkeypatch.setattr(teach_learn, "preflight", nothing_found)
    train = fake_round(marked, [state(1, preview), state(2, preview)], until=lambda: bool(done))
    monkeypatch.setattr(teach_learn, "train_round", train)
    press(dock.primary)
    qtbot.waitUntil(lambda: "what it finds now" in viewer.layers)
    np.testing.assert_array_equal(viewer.layers["what it finds now"].data, preview)
    done.append(True)
    wait_for_job()
    assert "what it finds now" not in viewer.layers


# Rounds


def test_the_table_holds_the_model_before_and_all_rounds(dock, session):
    assert dock.judging.table.isHidden()
    add_round(session, 1, 0.4)
    add_round(session, 2, 0.6)
    assert [text(dock, row, 0) for row in range(3)] == ["● Before", "Round 1", "Round 2"]
    assert [text(dock, row, 1) for row in range(3)] == ["10 %", "40 %", "60 %"]
    assert "10% to 60%" in dock.judging.said.text()
    assert dock.judging.plot.score.points == [(0, 10.0), (1, 40.0), (2, 60.0)]
    assert dock.judging.plot.effort.points == [(1, 40.0), (2, 20.0)]
    assert dock.judging.plot.isVisible()


def test_the_columns_that_matter_are_seen_without_scrolling(dock, session):
    for number in range(1, 13):
        add_round(session, number, 0.4)
    table_view = dock.judging.table
    heads = [table_view.rounds.headerData(n, Qt.Orientation.Horizontal) for n in range(table_view.rounds.columnCount())]
    for title in ("Model", "AP 0.5", "Splits", "Merges", "Misses", "Effort"):
        column = heads.index(title)
        right = table_view.columnViewportPosition(column) + table_view.columnWidth(column)
        assert right <= table_view.viewport().width() + 4, title


def test_a_model_is_used_and_the_one_before_again(dock, session):
    add_round(session, 1, 0.4)
    press(dock.judging.use)
    assert model_in_use(session) == "round-01"
    assert text(dock, 1, 0) == "● Round 1"
    assert not dock.judging.use.isEnabled()
    press(dock.judging.back)
    assert model_in_use(session) == BEFORE
    assert text(dock, 0, 0) == "● Before"
    press(dock.judging.back)
    assert "nothing to go back to" in dock.jobs.error.text()


def test_a_model_that_finds_nothing_cannot_be_used(dock, session):
    add_round(session, 1, 0.0, usable=False, notes=["it finds no cells, so it is not offered for use"])
    assert not dock.judging.use.isEnabled()
    assert "finds no cells" in dock.judging.about.text()


def test_the_same_round_stays_chosen_when_the_table_changes(dock, session):
    add_round(session, 1, 0.4)
    add_round(session, 2, 0.6)
    dock.judging.table.selectRow(1)
    press(dock.judging.use)
    assert dock.judging.table.row().round_id == 1


def test_a_row_is_put_into_words(session):
    add_round(session, 1)
    before, first = table(session)
    assert (
        row_in_words(first)
        == "From starter, 4 whole cells of 1 image, 1.5 min, 40 corrections per 100 cells, not scored"
    )
    assert row_in_words(before).startswith("Before the first round: ")


def test_a_round_is_scored_later(dock, session, monkeypatch, wait_for_job):
    made = add_round(session, 1)

    def score_round(session, round_id):
        yield Progress(0.5)
        scored = Round(1, made.time, made.model, {**made.detail, "scores": scores(0.7)})
        session.commit(Change(round=scored))
        return scored

    monkeypatch.setattr(teach_judge, "score_round", score_round)
    press(dock.judging.score)
    wait_for_job()
    assert text(dock, 1, 1) == "70 %"
    assert "Round 1 is scored" in dock.jobs.state.full_text


# Comparing


@pytest.fixture
def compared(dock, session, monkeypatch, wait_for_job):
    """Round 1 against the model in use on the first image; two differences."""
    add_round(session, 1, 0.4)
    asked = []

    def compare(session, first, second, image_id):
        asked.append((first, second, image_id))
        yield Progress(0.5)
        labels = session.labels(image_id)
        queue = tuple(Disagreement(image_id, y, 20.0, f"only {who}", 100.0) for y, who in ((20.0, "A"), (40.0, "B")))
        return Comparison(image_id, labels, np.where(labels == 1, 0, labels), ("starter", "Round 1"), queue)

    monkeypatch.setattr(teach_judge, "compare", compare)
    QTest.keyClick(dock, "t")
    wait_for_job()
    return asked


def test_two_models_are_shown_as_outlines_with_their_differences(dock, session, viewer, compared):
    assert compared == [(BEFORE, "round-01", 1)]
    first, second = viewer.layers["starter"], viewer.layers["Round 1"]
    assert first.contour > second.contour > 0
    assert first.get_color(1).tolist() != second.get_color(2).tolist()
    assert not viewer.layers["cells"].visible
    assert "4 cells" in dock.judging.legend.text()
    assert "3 cells" in dock.judging.legend.text()
    assert [place.text for place in dock.judging.differences.places] == ["only A", "only B"]


def test_n_goes_from_difference_to_difference(dock, viewer, compared):
    QTest.keyClick(dock, "n")
    assert viewer.scene.camera.center[-2:] == (20.0, 20.0)
    QTest.keyClick(dock, "n")
    assert viewer.scene.camera.center[-2:] == (40.0, 20.0)
    QTest.keyClick(dock, "n", SHIFT)
    assert viewer.scene.camera.center[-2:] == (20.0, 20.0)


def test_the_users_own_cells_come_back(dock, session, viewer, compared):
    press(dock.judging.enough)
    assert "Round 1" not in viewer.layers
    assert viewer.layers["cells"].visible
    assert dock.judging.differences.isHidden()


def test_outlines_go_with_the_image(dock, session, viewer, compared, wait_for_job):
    session.show_image(2)
    wait_for_job()
    assert "Round 1" not in viewer.layers
    assert viewer.layers["cells"].visible


def test_the_model_in_use_is_compared_with_the_one_it_came_from(dock, session, compared, wait_for_job):
    press(dock.judging.use)
    press(dock.judging.compare)
    wait_for_job()
    assert compared[-1] == (BEFORE, "round-01", 1)


# Where to go on


def test_doubtful_places_are_listed_and_gone_to_in_any_image(dock, session, viewer, bench, monkeypatch, wait_for_job):
    def doubtful(session):
        yield Progress(0.5)
        return (Doubt(2, (10, 20, 40, 60), 0.9, "treated: unsure"), Doubt(1, (0, 0, 20, 20), 0.5, "control: unsure"))

    monkeypatch.setattr(teach_dock, "doubtful", doubtful)
    assert not dock.take_me.isEnabled()
    press(dock.find)
    wait_for_job()
    assert "2 places, the least sure first" in dock.jobs.state.full_text
    press(dock.take_me)
    wait_for_job()
    assert session.current_image == 2
    assert viewer.scene.camera.center[-2:] == (25.0, 40.0)
    np.testing.assert_allclose(viewer.layers[PLACE].data[0].max(axis=0), (40, 60))
    QTest.keyClick(dock, "n")
    wait_for_job()
    assert session.current_image == 1
    dock.hide()
    assert PLACE not in viewer.layers


def test_an_error_in_a_job_stands_in_the_dock(dock, monkeypatch, wait_for_job):
    def doubtful(_session):
        yield Progress(0.5)
        raise UserError("all of these images are reviewed; add images")

    monkeypatch.setattr(teach_dock, "doubtful", doubtful)
    press(dock.find)
    wait_for_job()
    assert "all of these images are reviewed" in dock.jobs.error.text()


def test_closing_the_project_lets_go_of_everything(dock, bench, viewer, compared):
    bench.close_session()
    assert "Round 1" not in viewer.layers
    assert dock._guide is None
