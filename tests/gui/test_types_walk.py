"""A walk through the Types dock in a real window: names, typing with mouse and keys, learning, correcting."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from cell_curator.core.cell_types import CellTypes
from cell_curator.core.jobs import drive
from cell_curator.io.tiff import write_tiff
from cell_curator.link.geometry import to_world
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.session import Session
from cell_curator.widgets.window import photograph
from cell_curator.widgets.workbench import workbench_of

LONG, ROUND = "long", "round"


def mixed(seed):
    """A synthetic dish with long nuclei in its left half and round ones in its right; labels, and those on the left."""
    left, right = (nuclei_on_grooves(seed, elongated=long, count=13, size=256) for long in (True, False))
    image, labels = left.image.copy(), left.labels.copy()
    image[:, :, 128:] = right.image[:, :, 128:]
    labels[:, 128:] = np.where(right.labels[:, 128:], right.labels[:, 128:] + labels.max(), 0)
    for label in np.intersect1d(labels[:, 127], labels[:, 128]):  # halves of two nuclei are one of neither kind
        labels[labels == label] = 0
    cut = np.concatenate([labels[:, 127], labels[:, 128]])
    labels[np.isin(labels, cut)] = 0
    return image, labels, set(np.unique(labels[:, :128])) - {0}


@pytest.fixture
def walker(open_viewer, tmp_path):
    """A hand in front of the dock, a session of three dishes, and the true types."""
    true = {}
    (tmp_path / "dishes").mkdir()
    for number in range(3):
        image, labels, long = mixed(number)
        write_tiff(tmp_path / "dishes" / f"dish{number}.tif", image)
        true[f"dish{number}"] = labels, long
    session = Session.create(tmp_path / "dishes.curator")
    drive(session.add_images(tmp_path / "dishes"))
    for record in session.images:
        session.set_labels(record.image_id, true[record.name][0])
    truth = {
        int(cell): LONG if int(row["label"]) in true[session.image(int(row["image"])).name][1] else ROUND
        for cell, row in session.cells.frame.iterrows()
    }
    hand = open_viewer((1366, 768))
    bench = workbench_of(hand.viewer)
    bench.adopt(session)
    hand.wait(lambda: bench.link.labels.image_id == session.current_image)
    yield hand, hand.docks.show_dock("Types"), session, truth
    bench.close_session()


def middle(hand, session, cell):
    """A pixel of the cell in world coordinates, as far inside it as there is."""
    link, row = workbench_of(hand.viewer).link, session.row(cell)
    inside = np.argwhere(session.label_view(int(row["image"])) == row["label"])
    best = inside[np.abs(inside - inside.mean(axis=0)).sum(axis=1).argmin()]
    return to_world(link.image.affine, best[None].astype(float))[0]


def here(session, truth, kind):
    return [cell for cell in session.cells.of_image(session.current_image).index if truth[cell] == kind]


def test_two_types_in_one_dish(walker, pictures):
    hand, dock, session, truth = walker
    bench = workbench_of(hand.viewer)
    assert "Name the types" in dock.first.text()
    for name in (LONG, ROUND):
        hand.qtbot.mouseClick(dock.list.new, Qt.MouseButton.LeftButton)
        hand.qtbot.keyClicks(dock.list.new, name)
        hand.key(Qt.Key.Key_Return, on=dock.list.new)
    assert session.get(CellTypes).names == (LONG, ROUND)

    # a type in hand: clicks, and one drag across two cells
    first, second, *others = here(session, truth, LONG)
    hand.key(Qt.Key.Key_1)
    assert dock.list.buttons[LONG].isChecked()
    hand.click(middle(hand, session, first))
    assert session.row(first)["cell_type"] == LONG
    hand.key(Qt.Key.Key_2)
    hand.drag([middle(hand, session, cell) for cell in (second, *others[:2])])
    wrong = session.cells.frame.index[session.cells.frame["cell_type"] == ROUND]
    assert {second, *others[:2]} <= set(wrong)
    hand.key(Qt.Key.Key_U)
    assert (session.cells.frame["cell_type"] == ROUND).sum() == 0
    hand.key(Qt.Key.Key_Escape)

    # clicks choose cells again, and a digit types what is chosen
    hand.click(middle(hand, session, second))
    assert session.selection.ids == {second}
    hand.key(Qt.Key.Key_1)
    assert session.row(second)["cell_type"] == LONG
    session.selection.clear()

    # two dishes by hand, the third is for the computer
    for step in range(2):
        if step:
            hand.key(Qt.Key.Key_PageDown)
            hand.wait(lambda: bench.link.labels.image_id == session.current_image)
        for key, kind in ((Qt.Key.Key_1, LONG), (Qt.Key.Key_2, ROUND)):
            hand.key(key)
            for cell in here(session, truth, kind):
                hand.click(middle(hand, session, cell))
        hand.key(Qt.Key.Key_Escape)
    typed = session.cells.frame[session.cells.frame["cell_type"] != ""]
    assert (typed["cell_type"] == [truth[cell] for cell in typed.index]).all()
    assert typed["image"].nunique() == 2
    photograph(hand.viewer, pictures / "types-1-typed.png")

    # learn, and tell the others
    hand.press(dock.primary)
    hand.wait(lambda: not bench.runner.busy)
    assert dock.jobs.error.text() == ""
    assert "right for" in dock.scores.text.text()
    assert dock.scores.table.rowCount() == 2
    hand.wait(lambda: not dock.tell.visibleRegion().isEmpty())
    hand.press(dock.tell)
    hand.wait(lambda: not bench.runner.busy)
    told = session.cells.frame[session.cells.frame["type_probability"].notna()]
    assert len(told) > 4
    assert np.mean(told["cell_type"] == [truth[cell] for cell in told.index]) > 0.7

    # the least sure one first; a correction goes on to the next
    hand.key(Qt.Key.Key_N)
    least = int(told["type_probability"].idxmin())
    hand.wait(lambda: session.selection.ids == {least} and bench.link.labels.image_id == session.current_image)
    photograph(hand.viewer, pictures / "types-2-told.png")
    hand.key(Qt.Key.Key_1)
    assert np.isnan(session.row(least)["type_probability"])
    hand.wait(lambda: session.selection.ids != {least})

    # in another dock the mouse chooses cells, in their own colours
    hand.key(Qt.Key.Key_1)
    hand.docks.show_dock("Correct")
    assert bench.link.labels.color_by == "cell"
    assert not bench.link.mouse_taken
