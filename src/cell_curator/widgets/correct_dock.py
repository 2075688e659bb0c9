"""The Correct dock: mend the cells of the image on screen, one gesture each, and decide on them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QButtonGroup,
    QDoubleSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QWidget,
)

from cell_curator.link.tools import MODES, PICK, Mode
from cell_curator.widgets.cell_looks import CellLooks
from cell_curator.widgets.controls import ElidedLabel, ignore_wheel
from cell_curator.widgets.dock import Connections, Dock, line

if TYPE_CHECKING:
    import pandas as pd

    from cell_curator.session import Session

_COLUMNS = 3
_ON_CELLS = (
    ("merge", "Merge", "M", "Make the chosen cells one"),
    ("delete", "Delete", "Del", "Delete the chosen cells"),
    ("fill holes", "Fill holes", "", "Fill the holes in the chosen cells"),
    ("smooth", "Smooth", "", "Round off the outline of the chosen cells"),
    ("grow", "Grow", "+", "Make the chosen cells larger by so many pixels; never over a neighbour"),
    ("shrink", "Shrink", "-", "Make the chosen cells smaller by so many pixels"),
    ("separate pieces", "Separate pieces", "", "A cell in several pieces becomes several cells"),
)
_VERDICTS = (
    ("accept", "✓ Accept", "A", "This is a good cell; a new segmentation leaves it as it is"),
    ("reject", "✗ Reject", "R", "Leave this cell out of counts and map"),
    ("lock", "Lock", "L", "No tool and no segmentation changes this cell"),
    ("unlock", "Unlock", "", "The cell may be changed again"),
)
_ADVANCES = ("accept", "reject")


class CorrectDock(Dock):
    """Tools on the cells; every one is a step that can be undone."""

    title = "Correct"
    keys = (
        *((mode.key, mode.tooltip[0].lower() + mode.tooltip[1:]) for mode in MODES),
        *((key, f"{title.lower()} the chosen cells") for _, title, key, _ in _ON_CELLS if key),
        ("A, R, L", "accept, reject, lock the chosen cells"),
        ("N, P", "next, previous cell without a verdict"),
        ("U, Shift+U", "undo, redo"),
        ("Return, Esc", "split by the seeds; forget the drawing"),
        ("H", "cells as outlines or filled"),
    )

    def build(self) -> None:
        """Tools, what to do with chosen cells, verdicts, the queue, and looks."""
        self._buttons: dict[str, QToolButton] = {}
        self._actions: dict[str, QPushButton] = {}
        self.body.addWidget(_title("Draw on the cells with"))
        self.body.addLayout(self._tool_grid())
        self.chosen = ElidedLabel()
        self.chosen.setObjectName("section")
        self.body.addWidget(line())
        self.body.addWidget(self.chosen)
        self.body.addLayout(self._verdict_row())
        self.body.addLayout(self._action_grid())
        self.body.addWidget(line())
        self.body.addLayout(self._queue_row())
        self.body.addLayout(self._history_row())
        self.body.addWidget(line())
        self.looks = CellLooks(self.bench)
        self.body.addWidget(self.looks)
        self.primary.setText("Accept all other cells of this image")
        self.primary.setToolTip("All cells of this image without a verdict are good; one step that can be undone")
        self._bind_keys()

    def _tool_grid(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(4)
        self._group = QButtonGroup(self)
        for index, mode in enumerate(MODES):
            button = _tool_button(mode)
            button.clicked.connect(partial(self._take_tool, mode.name))
            self._group.addButton(button)
            self._buttons[mode.name] = button
            grid.addWidget(button, index // _COLUMNS, index % _COLUMNS)
        return grid

    def _verdict_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(4)
        for tool, title, key, tip in _VERDICTS:
            row.addWidget(self._action(tool, title, key, tip), 1)
        return row

    def _action_grid(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(4)
        for index, (tool, title, key, tip) in enumerate(_ON_CELLS):
            grid.addWidget(self._action(tool, title, key, tip), index // _COLUMNS, index % _COLUMNS)
        self.by_px = QDoubleSpinBox()
        self.by_px.setRange(0.5, 50)
        self.by_px.setSingleStep(0.5)
        self.by_px.setDecimals(1)
        self.by_px.setValue(1)
        self.by_px.setPrefix("by ")
        self.by_px.setSuffix(" px")
        self.by_px.setToolTip("By how many pixels cells grow or shrink")
        ignore_wheel(self.by_px)
        grid.addWidget(self.by_px, len(_ON_CELLS) // _COLUMNS, len(_ON_CELLS) % _COLUMNS)
        return grid

    def _action(self, tool: str, title: str, key: str, tip: str) -> QPushButton:
        button = QPushButton(title)
        button.setToolTip(f"{tip} ({key})" if key else tip)
        button.clicked.connect(lambda: self._apply(tool))
        self._actions[tool] = button
        return button

    def _queue_row(self) -> QHBoxLayout:
        self.previous = QPushButton("◀ Previous")
        self.previous.setToolTip("The cell before without a verdict, in the order of suspicion (P)")
        self.previous.clicked.connect(lambda: self.step(-1))
        self.next = QPushButton("Next ▶")
        self.next.setToolTip("The next cell without a verdict, the most suspicious first (N)")
        self.next.clicked.connect(lambda: self.step(1))
        self.bar = QProgressBar()
        self.bar.setFixedHeight(16)
        self.bar.setToolTip("Cells of this image that have a verdict")
        row = QHBoxLayout()
        row.addWidget(self.previous)
        row.addWidget(self.bar, 1)
        row.addWidget(self.next)
        return row

    def _history_row(self) -> QHBoxLayout:
        self.undo, self.redo = QPushButton("↶ Undo"), QPushButton("↷ Redo")
        for button, way in ((self.undo, "undo"), (self.redo, "redo")):
            button.clicked.connect(partial(self._retrace, way))
        row = QHBoxLayout()
        row.setSpacing(4)
        row.addWidget(self.undo, 1)
        row.addWidget(self.redo, 1)
        return row

    def _bind_keys(self) -> None:
        for mode in MODES:
            self.add_key(mode.key, partial(self._take_tool, mode.name))
        for tool, _, key, _ in (*_ON_CELLS, *_VERDICTS):
            if key:
                self.add_key(key, partial(self._apply, tool))
        for key, slot in (
            ("N", partial(self.step, 1)),
            ("P", partial(self.step, -1)),
            ("U", partial(self._retrace, "undo")),
            ("Shift+U", partial(self._retrace, "redo")),
            ("Return", self._finish),
            ("Esc", self._cancel),
            ("H", self.looks.outlines.toggle),
        ):
            self.add_key(key, slot)

    # ------------------------------------------------------------------ following the session

    def opened(self, session: Session, links: Connections) -> None:
        """Follow the session and its tools."""
        tools, link = self.bench.tools, self.bench.link
        if tools is not None and link is not None:
            links.add(tools.said, self.jobs.show_state)
            links.add(tools.mode_changed, self._show_mode)
            links.add(link.shown, self._shown)
            self._show_mode(tools.mode)
        links.add(session.events.cells_changed, self._count)
        links.add(session.events.current_changed, self._count)
        links.add(session.selection.changed, self._count)
        links.add(session.history.changed, self._fit_history)
        self._count()
        self._fit_history()

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """In other docks the mouse picks."""
        super().hideEvent(event)
        self._take_tool(PICK)

    def act(self) -> None:
        """Accept what nobody decided on."""
        session = self.session
        if session is None:
            return
        rows = self._here()
        ids = rows.index[rows["verdict"] == "proposed"]
        session.set_verdict(ids, "accepted")
        self.jobs.show_state(f"{len(ids)} cells accepted")

    def step(self, by: int) -> None:
        """Go to the next or previous cell without a verdict."""
        session, link = self.session, self.bench.link
        if session is None or link is None:
            return
        waiting = self._waiting()
        if not waiting:
            self.jobs.show_state("All cells of this image have a verdict")
            return
        chosen = next(iter(session.selection.ids), None) if len(session.selection.ids) == 1 else None
        at = waiting.index(chosen) + by if chosen in waiting else 0 if by > 0 else -1
        link.go_to(waiting[at % len(waiting)])

    def _here(self) -> pd.DataFrame:
        session = self.session
        assert session is not None
        image = session.current_image
        return session.cells.of_image(image) if image is not None else session.cells.frame.iloc[:0]

    def _waiting(self) -> list[int]:
        rows = self._here()
        rows = rows[rows["verdict"] == "proposed"].sort_values(["score", "label"], ascending=[False, True])
        return [int(i) for i in rows.index]

    def _shown(self, _image_id: int) -> None:
        self.looks.follow()
        self._count()

    def _count(self, *_: Any) -> None:
        session = self.session
        if session is None:
            return
        rows = self._here()
        decided = int((rows["verdict"] != "proposed").sum())
        self.bar.setRange(0, max(len(rows), 1))
        self.bar.setValue(decided)
        self.bar.setFormat(f"{decided} of {len(rows)} decided")
        self.primary.setEnabled(len(rows) > decided and not self.bench.runner.busy)
        chosen = rows[[cell in session.selection.ids for cell in rows.index.tolist()]]
        for button in self._actions.values():
            button.setEnabled(len(chosen) > 0)
        self._actions["merge"].setEnabled(len(chosen) > 1)
        if not len(chosen):
            self.chosen.set_text("No cell is chosen: click one")
        elif len(chosen) == 1:
            row = chosen.iloc[0]
            why = f" · {row['flags']}" if row["flags"] else ""
            self.chosen.set_text(f"Cell {chosen.index[0]}: {row['verdict']}, {int(row['area'])} px{why}")
        else:
            self.chosen.set_text(f"{len(chosen)} cells are chosen")

    def _fit_history(self, *_: Any) -> None:
        if self.session is None:
            return
        history = self.session.history
        for button, key, text in (
            (self.undo, "U", history.undo_text),
            (self.redo, "Shift+U", history.redo_text),
        ):
            button.setEnabled(bool(text))
            button.setToolTip(f"{text} ({key})" if text else f"Nothing to take back ({key})")

    # ------------------------------------------------------------------ acting

    def _take_tool(self, name: str) -> None:
        if self.bench.tools is not None:
            self.bench.tools.mode = name

    def _show_mode(self, name: str) -> None:
        self._buttons[name].setChecked(True)
        mode = next(mode for mode in MODES if mode.name == name)
        self.jobs.show_state(mode.tooltip)

    def _apply(self, tool: str) -> None:
        tools, session = self.bench.tools, self.session
        if tools is None or session is None:
            return
        following = self._after_chosen() if tool in _ADVANCES else None
        options = {"px": self.by_px.value()} if tool in ("grow", "shrink") else {}
        done = self.guard(partial(tools.apply, tool, **options))
        if done and following is not None and self.bench.link is not None:
            self.bench.link.go_to(following)

    def _after_chosen(self) -> int | None:
        """The waiting cell after the one that is chosen, if it is one and waits itself."""
        session = self.session
        assert session is not None
        waiting, chosen = self._waiting(), list(session.selection.ids)
        if len(chosen) != 1 or chosen[0] not in waiting or len(waiting) < 2:
            return None
        return waiting[(waiting.index(chosen[0]) + 1) % len(waiting)]

    def _retrace(self, way: str, *_: Any) -> None:
        if self.bench.tools is not None:
            self.guard(getattr(self.bench.tools, way))

    def _finish(self) -> None:
        if self.bench.tools is not None:
            self.guard(self.bench.tools.finish)

    def _cancel(self) -> None:
        if self.bench.tools is not None:
            self.bench.tools.cancel()


def _tool_button(mode: Mode) -> QToolButton:
    button = QToolButton()
    button.setObjectName("tool")
    button.setText(f"{mode.title}  {mode.key}")
    button.setToolTip(f"{mode.tooltip} ({mode.key})")
    button.setCheckable(True)
    button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
    return button


def _title(text: str) -> QWidget:
    label = QLabel(text)
    label.setObjectName("project")
    return label
