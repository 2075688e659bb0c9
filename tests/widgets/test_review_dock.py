"""The Review dock on a small project: queue, gallery, many at once, audit, funnel."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from cell_curator import reviewing
from cell_curator.core.cells import VERDICTS
from cell_curator.core.clean import CleanParameters
from cell_curator.core.image_flags import ImageFlagParameters
from cell_curator.doubtful_images import SETTING
from cell_curator.io.project import Change
from cell_curator.session import Session
from cell_curator.widgets.gallery import CellList, Gallery
from cell_curator.widgets.gallery_pictures import Look, Pictures, draw_cells
from cell_curator.widgets.review_bulk import ABOVE, CHOSEN, LISTED, cells_meant
from cell_curator.widgets.review_dock import ReviewDock
from cell_curator.widgets.review_filter import ALL, LIKELY, Wanted, cells_of
from cell_curator.widgets.review_fix import box_around, merge_with_neighbour
from cell_curator.widgets.runner import Background

LEFT = Qt.MouseButton.LeftButton
FLAGS = ["", "", "", "", "", "blurred", "far too large", "cut by the border; tiny"]


@pytest.fixture
def scored(session):
    """Three suspicious cells of eight; the worst is the last."""
    frame = session.cells.frame
    score = np.linspace(0, 1, len(frame))
    session.commit(Change("score", {}, cells=frame.assign(score=score, flags=FLAGS, verdict="proposed")))
    return session


@pytest.fixture
def review(show, bench, scored, wait_for_job):
    """The dock on it, and the ids of the cells."""
    dock = show(ReviewDock)
    bench.adopt(scored)
    wait_for_job()
    return dock, scored, scored.cells.frame.index.tolist()


def verdicts(session):
    return session.cells.frame["verdict"].tolist()


# the queue


def test_the_worst_cell_is_first_and_keys_decide(review, wait_for_job):
    dock, session, ids = review
    assert dock.model.cell_ids == [ids[7], ids[6], ids[5]]
    QTest.keyClick(dock, Qt.Key.Key_Space)
    wait_for_job()
    assert session.selection.ids == {ids[7]}
    QTest.keyClick(dock, Qt.Key.Key_R)
    wait_for_job()
    QTest.keyClick(dock, Qt.Key.Key_A)
    wait_for_job()
    assert verdicts(session)[5:] == ["proposed", "accepted", "rejected"]
    assert dock.queue.bar.text() == "2 of 3 reviewed"
    assert session.selection.ids == {ids[5]}
    QTest.keyClick(dock, Qt.Key.Key_Left)
    assert session.selection.ids == {ids[6]}
    QTest.keyClick(dock, Qt.Key.Key_Right)
    QTest.keyClick(dock, Qt.Key.Key_A)
    assert dock.jobs.state.full_text == "All cells of this list are decided"
    assert dock.queue.bar.text() == "3 of 3 reviewed"


def test_undo_goes_back_to_the_cell_and_says_what_it_does(review, wait_for_job):
    dock, session, ids = review
    assert not dock.queue.buttons["undo"].isEnabled()
    QTest.keyClick(dock, Qt.Key.Key_Space)
    QTest.keyClick(dock, Qt.Key.Key_R)
    wait_for_job()
    assert dock.queue.buttons["undo"].toolTip() == "Undo: rejected 1 cell (U)"
    assert session.selection.ids == {ids[6]}
    QTest.keyClick(dock, Qt.Key.Key_U)
    wait_for_job()
    assert set(verdicts(session)) == {"proposed"}
    assert session.selection.ids == {ids[7]}
    QTest.keyClick(dock, Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    assert verdicts(session).count("rejected") == 1
    assert session.project.journal()["action"].tolist()[-3:] == ["verdict", "undo", "redo"]


def test_a_cell_shows_why_it_is_suspicious(review):
    dock, _, ids = review
    QTest.keyClick(dock, Qt.Key.Key_Space)
    assert "cut by the border" in dock.queue.card.text.text()
    assert "tiny" in dock.model.about(0)
    assert f"Cell {ids[7]}: proposed, 100 % suspicious" in dock.model.about(0)


def test_split_opens_the_tool_and_puts_it_away_when_it_is_done(review, bench, qtbot, wait_for_job):
    dock, session, ids = review
    QTest.keyClick(dock, Qt.Key.Key_Space)
    wait_for_job()
    QTest.keyClick(dock, Qt.Key.Key_S)
    assert bench.tools.mode == "split"
    row = session.row(ids[7])
    bench.tools._edit("split", points=[(row["top"] - 3, row["x"]), (row["bottom"] + 3, row["x"])])
    qtbot.waitUntil(lambda: bench.tools.mode == "pick")
    assert len(session.cells) == 9
    assert dock.queue.bar.text() == "1 of 3 reviewed"
    QTest.keyClick(dock, Qt.Key.Key_U)
    assert len(session.cells) == 8
    QTest.keyClick(dock, Qt.Key.Key_S)
    QTest.keyClick(dock, Qt.Key.Key_Escape)
    assert bench.tools.mode == "pick"


def test_merge_takes_the_neighbour_that_it_touches_most(review, wait_for_job):
    _, session, ids = review
    image = session.images[1].image_id
    labels = session.labels(image)
    row = session.row(ids[7])
    right = int(row["right"])
    labels[int(row["top"]) + 2 : int(row["bottom"]) - 2, right : right + 5] = 9  # lies against the last cell
    session.set_labels(image, labels)
    done = merge_with_neighbour(session, ids[7])
    assert session.cell_at(image, 9) is None or session.cell_at(image, 4) is None
    assert "one" in done.text or "merge" in done.text.lower()
    session.undo()
    assert session.cell_at(image, 9) is not None


def test_merge_without_neighbour_says_so(review, wait_for_job):
    dock, _, _ = review
    QTest.keyClick(dock, Qt.Key.Key_Space)
    wait_for_job()
    QTest.keyClick(dock, Qt.Key.Key_M)
    assert "has no neighbour within reach" in dock.jobs.error.text()


def test_find_again_looks_round_the_cell_only(review, wait_for_job):
    dock, session, ids = review
    before = session.row(ids[7])
    assert box_around(session, ids[7])[0] < before["top"]
    QTest.keyClick(dock, Qt.Key.Key_Space)
    wait_for_job()
    QTest.keyClick(dock, Qt.Key.Key_G)
    wait_for_job()
    assert dock.jobs.error.text() == ""
    assert dock.jobs.state.full_text.startswith("Found again: cell")
    (found,) = session.selection.ids
    assert abs(session.row(found)["y"] - before["y"]) < 2
    assert len(session.cells) == 8


def test_scoring_fills_the_queue(show, bench, session, wait_for_job):
    dock = show(ReviewDock)
    bench.adopt(session)
    wait_for_job()
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert dock.jobs.error.text() == ""
    dock.queue.filter.listed.setCurrentText(ALL)
    assert len(dock.model) == 8
    assert session.cells.frame["score"].notna().all()


# the list


def test_lists_filter_by_state_column_condition_and_cluster(mapped):
    frame = mapped.cells.frame.copy()
    frame["score"] = [0.1, np.nan, 0.9, 0.9, 0.2, 0.3, 0.4, 0.5]
    frame.loc[frame.index[3], "verdict"] = "rejected"
    ids = frame.index.to_numpy()
    everything = cells_of(frame, Wanted(ALL))
    assert everything.tolist() == ids[[2, 3, 7, 6, 5, 4, 0, 1]].tolist()
    assert cells_of(frame, Wanted(ALL, falling=False)).tolist() == ids[[0, 4, 5, 6, 7, 2, 3, 1]].tolist()
    assert cells_of(frame, Wanted("rejected")).tolist() == [ids[3]]
    assert cells_of(frame, Wanted(ALL, low=0.35, high=0.5)).tolist() == [ids[7], ids[6]]
    assert set(cells_of(frame, Wanted(ALL, condition="treated"))) == set(ids[4:])
    assert set(cells_of(frame, Wanted(ALL, cluster=1))) == set(ids[frame["cluster"] == 1])
    assert cells_of(frame, Wanted(ALL, column="cell_id", falling=False)).tolist() == ids.tolist()
    assert cells_of(frame, Wanted(ALL), because=[ids[6], ids[0]]).tolist() == [ids[6], ids[0]]
    assert cells_of(frame, Wanted("chosen"), chosen=[ids[5]]).tolist() == [ids[5]]


def test_controls_of_the_list_reach_it(review, qtbot):
    dock, session, ids = review
    bar = dock.queue.filter
    bar.listed.setCurrentText(ALL)
    assert dock.model.cell_ids == ids[::-1]
    bar.order.click()
    assert dock.model.cell_ids == ids
    bar.condition.setCurrentText("treated")
    assert dock.model.cell_ids == ids[4:]
    bar.low.setValue(0.8)
    assert dock.model.cell_ids == ids[6:]
    bar.column.setCurrentText("area")
    assert len(dock.model) == 4
    bar.reason.setCurrentIndex(1)
    wanted = reviewing.by_reason(session, bar.wanted(session).reason)
    qtbot.waitUntil(lambda: set(dock.model.cell_ids) == set(wanted) & set(ids[4:]))


def test_a_list_keeps_its_cells_while_they_are_decided_and_loses_those_that_go(review):
    dock, session, ids = review
    session.set_verdict([ids[6]], "rejected")
    assert dock.model.cell_ids == [ids[7], ids[6], ids[5]]
    image, label = int(session.row(ids[6])["image"]), int(session.row(ids[6])["label"])
    labels = session.labels(image)
    session.set_labels(image, np.where(labels == label, 0, labels))
    assert dock.model.cell_ids == [ids[7], ids[5]]
    assert dock.queue.bar.text() == "1 of 3 reviewed"


# the gallery


def test_mouse_and_modifiers_choose_cells(review, wait_for_job):
    dock, session, ids = review
    gallery = dock.queue.gallery

    def click(place, held=Qt.KeyboardModifier.NoModifier):
        QTest.mouseClick(gallery.viewport(), LEFT, held, gallery.rect_of(place).center())

    click(1)
    wait_for_job()
    assert session.selection.ids == {ids[6]}
    assert session.current_image == session.row(ids[6])["image"]
    click(2, Qt.KeyboardModifier.ShiftModifier)
    assert session.selection.ids == {ids[6], ids[5]}
    click(0, Qt.KeyboardModifier.ControlModifier)
    click(1, Qt.KeyboardModifier.ControlModifier)
    assert session.selection.ids == {ids[7], ids[5]}
    assert "2 cells are chosen" in dock.queue.card.text.text()
    QTest.mouseClick(dock.queue.buttons["reject"], LEFT)
    assert verdicts(session)[5:] == ["rejected", "proposed", "rejected"]
    session.undo()
    assert verdicts(session).count("rejected") == 0


def test_choosing_a_cell_elsewhere_finds_it_in_the_gallery(review):
    dock, session, ids = review
    session.selection.set({ids[6]})
    assert dock.model.place == 1
    assert str(ids[6]) in dock.queue.card.text.text()


def test_pictures_of_cells_arrive_when_they_are_in_view(review, qtbot):
    dock, _, ids = review
    gallery = dock.queue.gallery
    qtbot.waitUntil(lambda: len(gallery.pictures) == 3, timeout=5000)
    picture = gallery.pictures.get(ids[7], 1).toImage()
    assert len({picture.pixel(x, 32) for x in range(64)}) > 3
    dock.queue.look.size.setValue(16)
    qtbot.waitUntil(lambda: gallery.pictures.get(ids[7], 1).width() == 128, timeout=5000)
    dock.queue.look.outline.click()
    qtbot.waitUntil(lambda: len(gallery.pictures) == 3, timeout=5000)


def test_looks_do_what_they_say(scored):
    image, cell = scored.images[0].image_id, scored.cells.frame.index[1]
    row = scored.row(cell)

    def drawn(**look):
        (picture,) = draw_cells(scored, image, [cell], 64, Look(64, **look)).values()
        return picture

    yellow = (drawn() == (255, 220, 0)).all(axis=2)
    assert yellow.sum() > 30
    assert not (drawn(outline=False) == (255, 220, 0)).all(axis=2).any()
    alone, around = drawn(outline=False, surroundings=False), drawn(outline=False)
    assert (alone[:2] == 0).all()
    assert (alone > 0).mean() > (around > 100).mean()  # the cell fills more of its picture
    assert row["label"] == 2
    stretched = drawn(outline=False, shared_contrast=False)
    assert stretched.max() > 230
    assert not np.array_equal(stretched, around)
    faint = drawn(outline=False, surroundings=False, shared_contrast=False)
    middle = np.s_[24:40, 24:40]
    assert np.ptp(faint[middle]) > np.ptp(alone[middle])  # a cell stretched to itself


def test_pictures_are_kept_up_to_so_many_bytes(qtbot, scored):
    background = Background()
    pictures = Pictures(background, Look(size=32), most_bytes=5 * 4 * 32 * 32)
    ids = scored.cells.frame.index.tolist()
    wanted = [(int(scored.row(cell)["image"]), cell) for cell in ids]
    for pair in wanted:
        pictures.want(scored, [pair])
        qtbot.waitUntil(lambda cell=pair[1]: pictures.get(cell, 1) is not None, timeout=5000)
    assert len(pictures) == 5
    assert pictures.nbytes <= 5 * 4 * 32 * 32
    assert pictures.get(ids[0], 1) is None
    background.close()


def test_a_moved_image_is_named_once_and_the_gallery_stays(review, bench, qtbot):
    dock, session, _ = review
    path = session.images[1].path
    path.rename(path.with_name("away.tif"))
    session._pixels = type(session._pixels)()
    dock.queue.gallery.forget_pictures()
    qtbot.waitUntil(lambda: str(path) in dock.jobs.error.text(), timeout=5000)
    assert len(dock.model) == 3


def test_a_hundred_thousand_cells_scroll_fast(qtbot):
    """Without pictures: what the list and the grid themselves cost."""
    count = 100_000
    model, background = CellList(), Background()
    gallery = Gallery(model, background)
    qtbot.addWidget(gallery)
    model.ids = np.arange(count)[::-1].copy()
    model._order = np.argsort(model.ids, kind="stable")
    model.image = model.revision = np.ones(count, np.int64)
    model.verdict = np.arange(count) % len(VERDICTS)
    gallery.resize(360, 600)
    gallery.show()
    model.changed.emit()
    bar = gallery.verticalScrollBar()
    assert bar.maximum() > 1_000_000
    start = time.perf_counter()
    for step in range(30):
        bar.setValue(bar.maximum() * step // 29)
        gallery.viewport().repaint()
    assert time.perf_counter() - start < 1.0  # 30 frames in a second, with room for a busy machine
    assert gallery.cells_in_view()[-1] == count - 1
    assert model.place_of(0) == count - 1
    assert gallery.place_at(gallery.rect_of(count - 1).center()) == count - 1
    assert gallery.place_at(QPoint(359, 5)) is None
    background.close()


def test_the_large_gallery_shows_the_same_cells(review, viewer, qtbot):
    dock, session, ids = review
    QTest.keyClick(dock, Qt.Key.Key_L)
    large = dock._large
    assert large.isVisible()
    QTest.mouseClick(large.gallery.viewport(), LEFT, pos=large.gallery.rect_of(2).center())
    assert session.selection.ids == {ids[5]}
    large.close()
    assert not dock.queue.large.isChecked()


def test_a_moved_image_is_said_in_its_place_and_comes_back(review, bench, qtbot):
    dock, session, ids = review
    path = session.images[1].path
    path.rename(path.with_name("away.tif"))
    session._pixels = type(session._pixels)()
    gallery = dock.queue.gallery
    gallery.forget_pictures()
    dock.queue.card.forget()
    dock.model.set_current(ids[7])
    qtbot.waitUntil(lambda: "no longer there" in gallery.about(0), timeout=5000)
    qtbot.waitUntil(lambda: dock.queue.card.picture.text() == "The image\ncannot be read", timeout=5000)
    path.with_name("away.tif").rename(path)
    session.events.images_changed.emit()
    qtbot.waitUntil(lambda: gallery.pictures.is_new(ids[7], 1), timeout=5000)
    assert "no longer there" not in gallery.about(0)
    qtbot.waitUntil(lambda: not dock.queue.card.picture.pixmap().isNull(), timeout=5000)


# images that look wrong, and what verdicts teach


def test_images_that_look_wrong_are_listed_and_a_click_goes_there(review, wait_for_job):
    dock, session, _ = review
    fold = dock.queue.images
    fold.set_open(True)
    assert fold.state.text() == "Nobody looked at them yet"
    assert not fold.list.isVisible()
    fold.form.control("exposure").spin.setValue(0.01)
    QTest.mouseClick(fold.look, LEFT)
    wait_for_job()
    assert session.get(ImageFlagParameters).exposure == 0.01
    session.commit(
        Change(
            settings={
                SETTING: {"flags": {"2": [["focus", "blurrier than the others"]]}, "looked_at": [1, 2], "unread": {}}
            }
        )
    )
    session.events.parameters_changed.emit(SETTING)
    assert fold.button.text() == "Images that look wrong (1)"
    assert fold.state.text() == "1 of 2 images look wrong"
    assert fold.list.item(0).text() == "treated/treated\n• blurrier than the others"
    session.show_image(1)
    QTest.mouseClick(fold.list.viewport(), LEFT, pos=fold.list.visualItemRect(fold.list.item(0)).center())
    assert session.current_image == 2


def test_verdicts_teach_a_ranking(show, bench, session, wait_for_job, rng):
    image = session.images[0].image_id
    frame = session.cells.frame
    many = pd.concat([frame.loc[frame["image"] == image]] * 12, ignore_index=True)
    many = many.assign(label=range(1, len(many) + 1), verdict="proposed")
    many["area"] *= rng.uniform(0.9, 1.1, len(many))
    many.index = pd.Index(range(100, 100 + len(many)), name="cell_id")
    bad = many.index[::3]
    many.loc[bad, ["area", "mean_intensity"]] *= 3
    session.commit(Change(cells=pd.concat([many, frame.assign(verdict="proposed")])))
    dock = show(ReviewDock)
    bench.adopt(session)
    fold = dock.queue.taught
    assert not fold.learn.isEnabled()
    assert "0 verdicts so far" in fold.text.text()
    assert LIKELY not in [dock.queue.filter.column.itemText(i) for i in range(dock.queue.filter.column.count())]
    told = many.index[:36]
    session.set_verdict(set(told) & set(bad), "rejected")
    session.set_verdict(set(told) - set(bad), "accepted")
    assert fold.learn.text() == "Rank by your 36 verdicts"
    fold.set_open(True)
    QTest.mouseClick(fold.learn, LEFT)
    wait_for_job()
    assert dock.jobs.error.text() == ""
    assert "Learned from 36 verdicts (12 bad): right for" in fold.text.text()
    assert dock.queue.filter.column.value() == LIKELY
    rest = set(many.index) - set(told)
    ranked = [cell for cell in dock.model.cell_ids if cell in rest]
    assert set(ranked[: len(rest & set(bad))]) == rest & set(bad)
    bench.adopt(Session.create(session.folder.parent / "other.curator"))
    assert dock.queue.filter.column.value() == "suspicion"
    assert "0 verdicts" in fold.text.text()


# many at once


def test_cells_above_a_score_are_rejected_after_a_look_in_one_step(review):
    dock, session, ids = review
    session.set_verdict([ids[7]], "accepted")
    dock.queue.many.set_open(True)
    dock.queue.bulk.percent.set_value(60)
    QTest.mouseClick(dock.queue.bulk.reject, LEFT)
    assert dock.sheet.isVisible()
    assert not dock.queue.isVisible()
    assert dock.sheet.title.text() == "Reject 2 cells?"  # not the one that was accepted
    assert set(dock.sheet.model.cell_ids) == {ids[5], ids[6]}
    assert verdicts(session).count("rejected") == 0
    QTest.mouseClick(dock.sheet.yes, LEFT)
    assert dock.queue.isVisible()
    assert verdicts(session)[5:] == ["rejected", "rejected", "accepted"]
    session.undo()
    assert verdicts(session)[5:] == ["proposed", "proposed", "accepted"]


def test_thinking_better_of_it_changes_nothing(review):
    dock, session, ids = review
    dock._ask_many("accepted", LISTED, 0.0)
    assert set(dock.sheet.cells) == set(ids[5:])
    QTest.keyClick(dock, Qt.Key.Key_Escape)
    assert dock.queue.isVisible()
    assert set(verdicts(session)) == {"proposed"}


def test_only_24_are_shown_and_others_on_demand(review):
    dock, session, _ = review
    dock.sheet.show_cells(session, np.arange(1000), "rejected")
    first = set(dock.sheet.model.ids.tolist())
    dock.sheet._draw()
    assert len(first) == 24
    assert set(dock.sheet.model.ids.tolist()) != first


def test_what_is_meant_leaves_decided_and_locked_cells_alone(scored):
    ids = scored.cells.frame.index.tolist()
    scored.set_verdict(ids[:2], "locked")
    scored.set_verdict([ids[2]], "rejected")
    scored.selection.set(ids[1:4])
    assert cells_meant(scored, CHOSEN).tolist() == ids[2:4]
    assert cells_meant(scored, ABOVE, 0).tolist() == ids[3:]
    assert cells_meant(scored, LISTED, listed=np.array(ids[:5])).tolist() == ids[3:5]


# the audit and the funnel


def test_an_audit_is_blind_and_ends_in_a_sentence(review, wait_for_job):
    dock, session, _ = review
    QTest.mouseClick(dock.queue.audit, LEFT)
    page = dock.audit
    assert page.isVisible()
    assert not dock.primary.isVisible()
    QTest.mouseClick(page.begin, LEFT)
    wait_for_job()
    seen = []
    for place in range(8):
        cell = page.cell
        seen.append(cell)
        words = page.card.text.text()
        assert "suspicious" not in words
        assert not any(flag and flag in words for flag in FLAGS)
        QTest.keyClick(dock, Qt.Key.Key_R if place == 3 else Qt.Key.Key_A)
        wait_for_job()
    state = reviewing.audit(session)
    assert sorted(seen) == session.cells.frame.index.tolist()
    assert state.verdicts == {cell: cell == seen[3] for cell in seen}
    assert set(verdicts(session)) == {"proposed"}  # it changes no cell
    low, high = (f"{100 * share:.1f} %" for share in state.interval)
    assert f"1 of 8 bad: 12.5 % (95 % interval {low} to {high})" in page.result.text()
    assert "more cells, if all of them are good" in page.more.text()
    QTest.mouseClick(page.copy, LEFT)
    assert QApplication.clipboard().text() == state.text
    page.bound.spin.setValue(20.0)
    assert "“at most 20.0 % bad”" in page.more.text()


def test_answers_are_corrected_by_going_back_or_undo(review, wait_for_job):
    dock, session, _ = review
    dock._audit()
    dock.audit._begin()
    first = dock.audit.cell
    QTest.keyClick(dock, Qt.Key.Key_R)
    QTest.keyClick(dock, Qt.Key.Key_Left)
    assert dock.audit.cell == first
    assert dock.audit.bad.text() == "✗ Bad (as said before)"
    QTest.keyClick(dock, Qt.Key.Key_A)
    assert reviewing.audit(session).verdicts == {first: False}
    QTest.keyClick(dock, Qt.Key.Key_U)
    assert reviewing.audit(session).verdicts == {first: True}
    assert dock.audit.cell == first
    QTest.keyClick(dock, Qt.Key.Key_Escape)
    assert dock.queue.isVisible()
    dock._audit()
    assert dock.audit.cell not in (None, first)  # goes on where it was left


def test_the_funnel_follows_verdicts_and_settings(review, qtbot):
    dock, session, ids = review
    funnel = dock.queue.funnel
    qtbot.waitUntil(lambda: funnel.text.startswith("8 found"))
    assert funnel.text.endswith("8 kept")
    session.set_verdict(ids[:2], "rejected")
    qtbot.waitUntil(lambda: funnel.text.endswith("6 kept"))
    session.put(CleanParameters(leave_out=True, threshold=0.8))
    kept = len(session.counting_cells())
    assert kept < 6
    qtbot.waitUntil(lambda: funnel.text.endswith(f"{kept} kept"))
    assert dock.queue.counting.value().leave_out
    qtbot.waitUntil(lambda: funnel.height() == 16 * len(funnel.steps))


@pytest.mark.parametrize("count", [0, 1])
def test_a_project_with_hardly_any_cells(show, bench, session, wait_for_job, qtbot, count):
    for record in session.images:
        labels = session.labels(record.image_id)
        keep = count if record is session.images[0] else 0
        session.set_labels(record.image_id, np.where(labels <= keep, labels, 0))
    dock = show(ReviewDock)
    bench.adopt(session)
    wait_for_job()
    dock.act()
    wait_for_job()
    assert dock.jobs.error.text() == ""
    for key in "ARSMG":
        QTest.keyClicks(dock, key)
    wait_for_job()
    dock._audit()
    dock.audit._begin()
    assert bool(dock.jobs.error.text()) == (count == 0)
