"""The Types dock: names, typing by key and mouse, colours, learning, telling, correcting."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from cell_curator.core.cell_types import CellTypes
from cell_curator.core.jobs import Progress, drive
from cell_curator.core.type_classifier import TypeParameters
from cell_curator.engines.mask_rcnn import FinderState
from cell_curator.io.tiff import write_tiff
from cell_curator.link.colors import TYPE, color_cells
from cell_curator.session import Session
from cell_curator.typing_cells import give_type, name_types
from cell_curator.widgets.types_dock import TypesDock

LEFT = Qt.MouseButton.LeftButton
PLACES = [(20 + 30 * row, 20 + 30 * column) for row in range(3) for column in range(3)]


@pytest.fixture
def mixed(tmp_path, rng, discs, execute):
    """Four images of nine cells each: the first four of an image are large, the others small."""
    for number in range(4):
        labels = discs((100, 100), [(*at, 11 if n < 4 else 5) for n, at in enumerate(PLACES)])
        image = (200 + 800 * (labels > 0) + rng.normal(0, 20, labels.shape)).astype(np.uint16)
        (tmp_path / "images").mkdir(exist_ok=True)
        write_tiff(tmp_path / "images" / f"dish{number}.tif", image[None])
        np.save(tmp_path / f"dish{number}.npy", labels)
    session = Session.create(tmp_path / "dishes.curator", execute=execute)
    drive(session.add_images(tmp_path / "images"))
    for record in session.images:
        session.set_labels(record.image_id, np.load(tmp_path / f"{record.path.stem}.npy"))
    yield session
    session.close()


@pytest.fixture
def dock(show, bench, mixed, wait_for_job):
    dock = show(TypesDock)
    bench.adopt(mixed)
    wait_for_job()
    return dock


def name(dock, *names):
    for one in names:
        dock.list.new.setFocus()
        QTest.keyClicks(dock.list.new, one)
        QTest.keyClick(dock.list.new, Qt.Key.Key_Return)


def paint(bench, points):
    """Press at the first (y, x) of the image, move through the others, release."""
    event = SimpleNamespace(type="mouse_press", position=points[0], pos=points[0], button=1, modifiers=())
    [press] = [c for c in bench.viewer.mouse_drag_callbacks if c.__qualname__.startswith("TypePainter")]
    gesture = press(bench.viewer, event)
    next(gesture)
    for at in points[1:]:
        event.type, event.position, event.pos = "mouse_move", at, at
        next(gesture)
    event.type = "mouse_release"
    assert next(gesture, "ended") == "ended"


def types_here(session):
    rows = session.cells.of_image(session.current_image).sort_values("label")
    return list(rows["cell_type"])


def test_it_says_what_to_do_first(dock, mixed):
    assert "Name the types" in dock.first.text()
    name(dock, "HEK 2")
    assert mixed.get(CellTypes).names == ("HEK 2",)  # digits typed into the name are no keys
    assert "Press 1" in dock.first.text()
    name(dock, "HEK 2")
    assert "two cell types have the same name" in dock.jobs.error.text()
    QTest.mouseClick(dock.primary, LEFT)


def test_learning_from_nothing_says_what_is_missing(dock, mixed, wait_for_job):
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert "give a few cells of each type theirs" in dock.jobs.error.text()


def test_chosen_cells_get_a_type_by_a_key_and_it_is_undone(dock, mixed):
    name(dock, "large", "small")
    cells = list(mixed.cells.of_image(mixed.current_image).sort_values("label").index)
    mixed.selection.set(set(cells[:2]))
    QTest.keyClick(dock, Qt.Key.Key_1)
    assert types_here(mixed) == ["large"] * 2 + [""] * 7
    assert [label.text() for label in dock.list.counts.values()] == ["2", "0", "34 left"]
    QTest.keyClick(dock, Qt.Key.Key_U)
    assert types_here(mixed) == [""] * 9
    QTest.keyClick(dock, Qt.Key.Key_U, Qt.KeyboardModifier.ShiftModifier)
    QTest.keyClick(dock, Qt.Key.Key_0)
    assert types_here(mixed) == [""] * 9
    QTest.keyClick(dock, Qt.Key.Key_7)
    assert "no type 7" in dock.jobs.state.full_text


def test_a_type_in_hand_is_painted_by_clicks_and_drags(dock, mixed, bench):
    name(dock, "large", "small")
    QTest.keyClick(dock, Qt.Key.Key_2)
    assert dock._painter.in_hand == "small"
    assert bench.link.mouse_taken
    paint(bench, [PLACES[4], PLACES[5]])
    paint(bench, [PLACES[8]])
    assert types_here(mixed) == [""] * 4 + ["small"] * 2 + [""] * 2 + ["small"]
    assert mixed.history.undo_text == "type small for 1 cell"
    paint(bench, [(35, 35)])  # beside all cells
    QTest.keyClick(dock, Qt.Key.Key_1)
    paint(bench, [PLACES[0], PLACES[3]])
    assert types_here(mixed)[:4] == ["large", "", "", "large"]
    assert not mixed.selection.ids
    QTest.keyClick(dock, Qt.Key.Key_1)  # once more puts it down
    assert dock._painter.in_hand is None
    assert not bench.link.mouse_taken
    QTest.mouseClick(dock.list.buttons[""], LEFT)
    paint(bench, [PLACES[0]])
    assert types_here(mixed)[:4] == ["", "", "", "large"]
    QTest.keyClick(dock, Qt.Key.Key_Escape)
    assert dock._painter.in_hand is None


def test_cells_have_the_colour_of_their_type_while_the_dock_is_seen(dock, mixed, bench):
    name(dock, "large", "small")
    cells = mixed.cells.of_image(mixed.current_image).sort_values("label").index
    give_type(mixed, cells[:4], "large")
    colors = bench.link.labels.layer.colormap.color_dict
    np.testing.assert_allclose(colors[1][:3], mixed.get(CellTypes).color("large"), atol=0.01)
    assert colors[1][3] > colors[9][3]  # typed, and not
    want = color_cells(mixed.cells.frame, TYPE, mixed.get(CellTypes))
    assert want.shape == (36, 4)
    assert dock.looks.coloring.value() == "type"
    dock.hide()
    assert bench.link.labels.color_by == "cell"


def test_types_are_renamed_and_removed(dock, mixed):
    name(dock, "large", "small")
    give_type(mixed, [int(mixed.cells.frame.index[0])], "large")
    QTest.keyClick(dock, Qt.Key.Key_F2)
    edit = dock.list.names["large"]
    edit.setText("HEK")
    QTest.keyClick(edit, Qt.Key.Key_Return)
    assert mixed.get(CellTypes).names == ("HEK", "small")
    assert mixed.cells.frame["cell_type"].iloc[0] == "HEK"
    dock.list.removed.emit("HEK")
    assert "still cells of type 'HEK'" in dock.jobs.error.text()
    dock.list.removed.emit("small")
    assert mixed.get(CellTypes).names == ("HEK",)
    assert list(dock.list.buttons) == ["HEK", ""]


def test_it_learns_tells_the_others_and_is_corrected(dock, mixed, wait_for_job, qtbot, bench):
    name_types(mixed, ["large", "small"])
    frame = mixed.cells.frame
    some = frame[frame["image"].isin([record.image_id for record in mixed.images[:3]])]
    give_type(mixed, some.index[some["label"] <= 4], "large")
    give_type(mixed, some.index[some["label"] > 4], "small")
    assert not dock.tell.isEnabled()
    QTest.keyClick(dock, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    wait_for_job()
    assert "right for 100%" in dock.scores.text.text()
    table = dock.scores.table
    assert [table.item(n, n).text() for n in range(2)] == ["12  (100 %)", "15  (100 %)"]
    QTest.mouseClick(dock.tell, LEFT)
    wait_for_job()
    assert "9 cells have a type by the model" in dock.jobs.state.full_text
    last = mixed.cells.of_image(mixed.images[3].image_id).sort_values("label")
    assert list(last["cell_type"]) == ["large"] * 4 + ["small"] * 5
    assert [label.text() for label in dock.list.counts.values()] == ["12 + 4", "15 + 5", "0 left"]

    QTest.keyClick(dock, Qt.Key.Key_N)
    wait_for_job()
    first = int(last["type_probability"].idxmin())
    assert mixed.selection.ids == {first}
    assert "% sure" in dock.walk.about.full_text
    wrong = "small" if mixed.row(first)["cell_type"] == "large" else "large"
    QTest.keyClick(dock, Qt.Key.Key_1 if wrong == "large" else Qt.Key.Key_2)
    assert mixed.row(first)["cell_type"] == wrong
    assert np.isnan(mixed.row(first)["type_probability"])
    qtbot.waitUntil(lambda: mixed.selection.ids != {first})  # it goes on to the next
    QTest.keyClick(dock, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert len(mixed.selection.ids) == 1


def test_settings_are_kept_with_the_project_and_followed(dock, mixed, wait_for_job):
    dock.learning.cells.control("method").set_value("boosting")
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert mixed.get(TypeParameters).method == "boosting"
    mixed.put(TypeParameters(figures="shape"))
    assert dock.learning.cells.value() == TypeParameters(figures="shape")


def test_the_other_way_shows_its_own_settings_curve_and_pictures(dock, mixed, wait_for_job, monkeypatch):
    QTest.keyClick(dock, Qt.Key.Key_2, Qt.KeyboardModifier.AltModifier)
    assert dock.learning.finder.isVisible()
    assert not dock.learning.cells.isVisible()
    assert dock.tell.text() == "Find cells and types in all images"
    assert not dock.tell.isEnabled()
    QTest.mouseClick(dock.primary, LEFT)
    wait_for_job()
    assert "give a few cells of each type theirs" in dock.jobs.error.text()
    state = FinderState(20, 40, 1.0, 1.2, ((10, 2.0, None), (20, 1.0, 1.2)), 20)
    dock._progressed(Progress(0.5, "", state))
    assert dock.learning.plot.drawn("loss") == 2
    assert dock.learning.plot.drawn("holdout") == 1

    def answer(target, /, **given):
        assert given["image"].shape == (1, 100, 100)
        yield Progress(0.5)
        return np.zeros((40, 80, 3), np.uint8)

    monkeypatch.setattr(mixed, "execute", answer)
    dock.learning.varied.set_open(True)
    QTest.mouseClick(dock.learning.varied.others, LEFT)
    wait_for_job()
    assert dock.learning.varied.sheet.pixmap().width() > 100


def test_another_tool_or_dock_takes_the_mouse_back(dock, mixed, bench):
    name(dock, "large")
    QTest.keyClick(dock, Qt.Key.Key_1)
    bench.tools.mode = "split"
    assert dock._painter.in_hand is None
    QTest.keyClick(dock, Qt.Key.Key_1)
    assert bench.tools.mode == "pick"
    bench.link.labels.layer.mode = "paint"
    [press] = [c for c in bench.viewer.mouse_drag_callbacks if c.__qualname__.startswith("TypePainter")]
    event = SimpleNamespace(type="mouse_press", position=PLACES[0], pos=PLACES[0], button=1, modifiers=())
    assert next(press(bench.viewer, event), "ended") == "ended"
    assert dock._painter.in_hand is None
    bench.link.labels.layer.mode = "pan_zoom"
    QTest.keyClick(dock, Qt.Key.Key_1)
    dock.hide()
    assert not bench.link.mouse_taken
