"""Step one of teaching: say which parts were looked at from end to end, and lock some away for scoring."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from cell_curator import marking
from cell_curator.core.regions import HOLDOUT, KINDS, REVIEWED
from cell_curator.core.words import number_of
from cell_curator.examples import Counts, counts
from cell_curator.link.regions import REGION_COLORS
from cell_curator.widgets.controls import push_button
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from cell_curator.session import Session
    from cell_curator.widgets.dock import Connections

Guard = Callable[[Callable[[], Any]], Any]
"""Does something that may end in a `UserError`, and shows it."""

_COUNT_MS = 150
_LEGEND = {
    REVIEWED: "Reviewed: every cell is right; this it learns",
    HOLDOUT: "Locked away: never learned, only for scoring",
}
_WHOLE = {REVIEWED: ("This image is reviewed", "I"), HOLDOUT: ("Lock this image away", "X")}
_DONE = {REVIEWED: "✓ This image is reviewed", HOLDOUT: "✓ Image locked away"}
_PART = {REVIEWED: ("Mark a region…", "G"), HOLDOUT: ("Lock a region…", "")}
_TIPS = {
    REVIEWED: "Every cell of this image is as it should be, and where there is no cell there is background",
    HOLDOUT: "Nothing of this image is learned; correct and review it as well, then every round is scored on it",
}


class Marks(QWidget):
    """Buttons for the image on screen, the legend of the frames in the image, and what is marked so far."""

    said = Signal(str)
    """What was done, one line."""
    counted = Signal(object)
    """What is marked now, as `examples.Counts`."""

    def __init__(self, bench: Workbench, guard: Guard) -> None:
        super().__init__()
        self._bench, self._guard = bench, guard
        self.whole: dict[str, QPushButton] = {}
        self.part: dict[str, QPushButton] = {}
        self.line = QLabel()
        self.line.setWordWrap(True)
        self.suggest = push_button(
            "Suggest images to lock", "About a fifth of each condition, whole images and wells", self._suggest
        )
        self.clear = push_button("Clear", "Take all marks off this image; U brings them back", self._clear)
        self._offer = _Offer()
        self._offer.answered.connect(self._lock)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.line)
        layout.addLayout(self._grid())
        layout.addWidget(self._offer)
        self._count_later = QTimer(self)
        self._count_later.setSingleShot(True)
        self._count_later.setInterval(_COUNT_MS)
        self._count_later.timeout.connect(self._count)

    def opened(self, session: Session, links: Connections) -> None:
        """Follow this session."""
        events = session.events
        for signal in (events.regions_changed, events.cells_changed, events.current_changed, events.images_changed):
            links.add(signal, self.follow)
        self._offer.hide()
        self.follow()

    def closed(self) -> None:
        """Nothing is open."""
        self._count_later.stop()
        self._offer.hide()

    def toggle_whole(self, kind: str) -> None:
        """Mark the whole image on screen, or take this mark away again."""
        session, image_id = self._session, self._image
        if session is None or image_id is None:
            return
        self._flush()
        if self._is_whole(kind):
            self._guard(partial(marking.unmark, session, image_id, kind))
        else:
            self._guard(partial(marking.mark, session, image_id, kind))

    def draw(self, kind: str) -> None:
        """The next drag over the image marks a rectangle of this kind; once more puts the pen down."""
        link = self._bench.link
        if link is None:
            return
        if self.part[kind].isChecked():
            for other in KINDS:
                self.part[other].setChecked(other == kind)
            link.regions.draw(kind)
            self.said.emit("Drag a rectangle over the image; Esc when you are done")
        else:
            self.put_down()

    def put_down(self) -> None:
        """The mouse draws no regions any more."""
        if self._bench.link is not None and any(button.isChecked() for button in self.part.values()):
            self._bench.link.regions.put_down()
            self.said.emit("")
        for button in self.part.values():
            button.setChecked(False)

    def follow(self, *_: Any) -> None:
        """Show how the image on screen is marked; the counts follow a moment later."""
        for kind, button in self.whole.items():
            title, key = _WHOLE[kind]
            done = self._is_whole(kind)
            button.setText(_DONE[kind] if done else title)
            button.setToolTip(f"{'Take this mark away again' if done else _TIPS[kind]} ({key})")
        session, image_id = self._session, self._image
        here = session.regions(image_id) if session is not None and image_id is not None else ()
        self.clear.setEnabled(bool(here))
        for button in (*self.whole.values(), *self.part.values(), self.suggest):
            button.setEnabled(image_id is not None)
        self._count_later.start()

    # ------------------------------------------------------------------ parts

    def _grid(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setSpacing(4)
        for index, kind in enumerate((REVIEWED, HOLDOUT)):
            legend = QLabel(f'<span style="color: {REGION_COLORS[kind]}">■</span>&nbsp;{_LEGEND[kind]}')
            legend.setObjectName("quiet")
            legend.setWordWrap(True)
            self.whole[kind] = push_button(_WHOLE[kind][0], _TIPS[kind], partial(self.toggle_whole, kind))
            text, key = _PART[kind]
            tip = (
                "Drag a rectangle over the image. The tools of the layer “reviewed” draw other shapes, move and delete"
            )
            self.part[kind] = push_button(text, f"{tip} ({key})" if key else tip, partial(self.draw, kind))
            self.part[kind].setCheckable(True)
            grid.addWidget(legend, 2 * index, 0, 1, 2)
            grid.addWidget(self.whole[kind], 2 * index + 1, 0)
            grid.addWidget(self.part[kind], 2 * index + 1, 1)
        grid.addWidget(self.suggest, 4, 0)
        grid.addWidget(self.clear, 4, 1)
        grid.setColumnStretch(1, 1)
        return grid

    @property
    def _session(self) -> Session | None:
        return self._bench.session

    @property
    def _image(self) -> int | None:
        return self._session.current_image if self._session is not None else None

    def _is_whole(self, kind: str) -> bool:
        session, image_id = self._session, self._image
        if session is None or image_id is None:
            return False
        return any(region.kind == kind and not region.corners for region in session.regions(image_id))

    def _flush(self) -> None:
        if self._bench.link is not None:
            self._guard(self._bench.link.flush)

    def _clear(self) -> None:
        session, image_id = self._session, self._image
        if session is None or image_id is None:
            return
        self._flush()
        for kind in KINDS:
            self._guard(partial(marking.unmark, session, image_id, kind))

    def _suggest(self) -> None:
        session = self._session
        if session is None:
            return
        chosen = self._guard(partial(marking.suggest_holdout, session))
        if chosen is None:
            return
        locked = {region.image_id for region in session.regions() if region.kind == HOLDOUT and not region.corners}
        new = [image_id for image_id in chosen if image_id not in locked]
        if new:
            self._offer.ask(new, [session.image(image_id).name for image_id in new])
        else:
            self.said.emit("What would be suggested is locked away already")

    def _lock(self, image_ids: list[int]) -> None:
        session = self._session
        if session is not None:
            for image_id in image_ids:
                self._guard(partial(marking.mark, session, image_id, HOLDOUT))

    def _count(self) -> None:
        session = self._session
        if session is not None:
            self._bench.background(partial(counts, session), self._show_counts, topic="marks")

    def _show_counts(self, found: Counts) -> None:
        session = self._session
        if session is None:
            return
        locked = len({region.image_id for region in session.regions() if region.kind == HOLDOUT})
        self.line.setText(counts_in_words(found, locked))
        self.counted.emit(found)


class _Offer(QWidget):
    """A question below the buttons: these images?"""

    answered = Signal(list)
    """The images that were agreed on."""

    def __init__(self) -> None:
        super().__init__()
        self._ids: list[int] = []
        self._text = QLabel()
        self._text.setWordWrap(True)
        self.yes = push_button("Lock them away", "Mark these images; U takes it back", self._agree)
        self.no = push_button("No", "Leave everything as it is", self.hide)
        row = QHBoxLayout()
        row.addWidget(self.yes, 1)
        row.addWidget(self.no, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        layout.addLayout(row)
        self.hide()

    def ask(self, image_ids: list[int], names: list[str]) -> None:
        """Ask about these images."""
        self._ids = image_ids
        self._text.setText(f"Lock away {', '.join(names)}?")
        self.show()

    def _agree(self) -> None:
        self.hide()
        self.answered.emit(self._ids)


def counts_in_words(found: Counts, locked: int) -> str:
    """``"6 examples, 412 cells reviewed; 2 images (131 cells) locked away"``."""
    first = f"{number_of(found.examples, 'example')}, {number_of(found.cells, 'cell')} reviewed"
    if not locked:
        return f"{first}; nothing locked away yet"
    if not found.holdout_cells:
        return f"{first}; {number_of(locked, 'image')} locked away, but not reviewed yet"
    return f"{first}; {number_of(found.holdout_images, 'image')} ({number_of(found.holdout_cells, 'cell')}) locked away"
