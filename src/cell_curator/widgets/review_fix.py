"""What a key does to the cell at hand: split, merge with its neighbour, search again here."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer

from cell_curator.core.contact import longest_contact
from cell_curator.core.edits import Box, grown
from cell_curator.core.jobs import UserError
from cell_curator.editing import Outcome, edit
from cell_curator.link.tools import PICK
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from cell_curator.session import Session
    from cell_curator.widgets.dock import Dock

_BRIDGE_PX = 8.0
_AROUND = 0.75  # of the usual size of a cell, on each side of the one that is looked for again


class Mender:
    """Opens the right tool for a cell, and puts it away when it has done its work."""

    def __init__(self, dock: Dock, say: Callable[[str], None]) -> None:
        self._dock, self._say = dock, say
        self._splitting: int | None = None

    @property
    def _bench(self) -> Workbench:
        return self._dock.bench

    def split(self, cell: int) -> None:
        """Centre a cell; the next line drawn across it makes it two."""
        link, tools = self._bench.link, self._bench.tools
        if link is not None and tools is not None:
            link.go_to(cell)
            tools.mode = "split"
            self._splitting = cell
            self._say(f"Draw a line across cell {cell}; Esc leaves it")

    def merge(self, cells: list[int]) -> None:
        """Several cells become one; a single one and its neighbour do."""
        session, tools = self._bench.session, self._bench.tools
        if session is None or tools is None:
            return
        if len(cells) > 1:
            tools.apply("merge")
            return
        done = self.do(partial(merge_with_neighbour, session, cells[0]))
        if done is not None:
            session.selection.set(cell for cell in done.cells if cell in session.cells)
            self._say(done.text)

    def find_again(self, cell: int) -> None:
        """Look for cells where this one is; what comes of it is chosen."""
        session, link = self._bench.session, self._bench.link
        if session is None or link is None:
            return
        row, box = session.row(cell), box_around(session, cell)
        image_id, middle = int(row["image"]), (round(row["y"]), round(row["x"]))
        link.go_to(cell)
        title, job = f"Finding cell {cell} again", partial(session.segment, [image_id], box)
        self._dock.run(title, job, partial(_found, session, image_id, middle))

    def do(self, action: Callable[[], Any]) -> Any:
        """Do something after what was painted is handed over; None if it could not be done."""
        if self._bench.link is not None:
            self._bench.link.flush()
        return self._dock.guard(action)

    def leave(self) -> None:
        """The mouse picks cells again."""
        self._splitting = None
        if self._bench.tools is not None:
            self._bench.tools.mode = PICK

    def follow_history(self, session: Session) -> None:
        """A step was done; if it was the split that was asked for, the tool is put away."""
        if self._splitting is not None and self._splitting in session.history.last_cells:
            QTimer.singleShot(0, self.leave)  # the gesture that did it is not over yet


def merge_with_neighbour(session: Session, cell: int) -> Outcome:
    """Make the cell and the one it shares most of its outline with one; one undoable step.

    Raises
    ------
    UserError
        If there is none near, or one of them is locked.
    """
    row = session.row(cell)
    image_id, label = int(row["image"]), int(row["label"])
    other = longest_contact(session.label_view(image_id), label, _box_of(session, cell))
    if other is None:
        raise UserError(f"cell {cell} has no neighbour within reach; choose both cells with Ctrl, then merge")
    return edit(session, image_id, "merge", labels=[label, other], bridge_px=_BRIDGE_PX)


def box_around(session: Session, cell: int) -> Box:
    """The box in which a cell is looked for again: with room for one that is larger than its mask."""
    record = session.image(int(session.row(cell)["image"]))
    rows = session.cells.of_image(record.image_id)
    usual = float((rows["bottom"] - rows["top"]).combine(rows["right"] - rows["left"], max).median())
    return grown(_box_of(session, cell), round(_AROUND * usual) + 2, record.shape[1:])


def _box_of(session: Session, cell: int) -> Box:
    row = session.row(cell)
    return int(row["top"]), int(row["left"]), int(row["bottom"]), int(row["right"])


def _found(session: Session, image_id: int, middle: tuple[int, int], report: Any) -> str:
    """Choose the cell that lies there now, and say so."""
    if report.failed:
        return str(report.failed[0][1])
    label = int(session.label_view(image_id)[middle])
    found = session.cell_at(image_id, label) if label else None
    session.selection.set([] if found is None else [found])
    return "No cell is found here now" if found is None else f"Found again: cell {found}; Space goes on"
