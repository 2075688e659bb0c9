"""The Review dock: the most suspicious cells first; decide each with one key, and know how good the set is."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QWidget

from cell_curator import reviewing
from cell_curator.core.clean import CleanParameters
from cell_curator.core.image_flags import ImageFlagParameters
from cell_curator.core.outliers import OutlierParameters
from cell_curator.core.recipe import Recipe
from cell_curator.doubtful_images import SETTING
from cell_curator.widgets.dock import Connections, Dock
from cell_curator.widgets.gallery import CellList, Gallery
from cell_curator.widgets.review_audit import AuditPage
from cell_curator.widgets.review_bulk import BulkSheet, cells_meant
from cell_curator.widgets.review_filter import LIKELY, SUSPICIOUS, Wanted, cells_of
from cell_curator.widgets.review_fix import Mender
from cell_curator.widgets.review_look import LargeGallery
from cell_curator.widgets.review_queue import ACTIONS, QueuePage

if TYPE_CHECKING:
    import pandas as pd

    from cell_curator.session import Session


class ReviewDock(Dock):
    """One ranked list of cells, its gallery, and a key for whatever is wrong with one."""

    title = "Review"
    fills = True
    keys = (
        ("A", "accept the cell; in an audit: good"),
        ("R", "reject the cell; in an audit: bad"),
        ("S", "split: draw a line across the cell"),
        ("M", "merge with the neighbour it touches most, or merge the chosen cells"),
        ("G", "find this cell again, with the settings of Segment"),
        ("Space, Right", "next cell"),
        ("Left", "previous cell"),
        ("Up, Down", "a row of the gallery up, down"),
        ("U, Shift+U", "undo, redo"),
        ("L", "the gallery in large, as a window of its own"),
        ("Esc", "leave the tool, the preview or the audit"),
    )

    def build(self) -> None:
        """Three pages of which one is seen: queue and gallery, a look at many, an audit."""
        self.model = CellList()
        self._listed: NDArray[np.int64] = np.empty(0, np.int64)
        self._likely: pd.Series[float] | None = None
        self._large: LargeGallery | None = None
        self._behind = False
        self.mender = Mender(self, self.jobs.show_state)
        self.queue = QueuePage(self.model, self.bench, self.run)
        self.sheet = BulkSheet(self.bench.background)
        self.audit = AuditPage(self.bench, self.guard)
        self._page: QWidget = self.queue
        for page in (self.queue, self.sheet, self.audit):  # no QStackedWidget: that is as high as its highest page
            self.body.addWidget(page, 1)
            page.setVisible(page is self.queue)
        self.primary.setText("Look for suspicious cells")
        self.primary.setToolTip("Compare each cell with the others of its image and condition; nothing is deleted")
        self._connect()

    def _connect(self) -> None:
        queue = self.queue
        queue.filter.changed.connect(self._fill)
        queue.gallery.clicked.connect(self._go_to)
        queue.gallery.failed.connect(self.jobs.show_error)
        queue.acted.connect(self.do)
        queue.large_asked.connect(self._show_large)
        queue.bulk.asked.connect(self._ask_many)
        queue.counting.changed.connect(self._put)
        queue.audit.clicked.connect(self._audit)
        queue.taught.asked.connect(self._learn)
        self.model.moved.connect(self._fit_card)
        self.sheet.decided.connect(self._decide_many)
        for page in (self.sheet, self.audit):
            page.closed.connect(self._to_queue)
        for name, _, key, _ in ACTIONS:
            self.add_key(key, partial(self.do, name))
        self.add_key("Right", partial(self.step, 1))
        self.add_key("Left", partial(self.step, -1))
        self.add_key("L", queue.large.click)
        self.add_key("Esc", self._leave)

    def act(self) -> None:
        """Score all cells."""
        session = self.session
        if session is None:
            return
        session.put(self.queue.form.value())
        self.run("Looking for suspicious cells", session.score_outliers, self._scored)

    def _scored(self, flagged: int) -> str:
        self.queue.filter.show_list(SUSPICIOUS)
        self._fill()
        if flagged:
            self._go_on(-1)
        return f"{flagged:,} suspicious cells; the worst is first" if flagged else "No cell looks suspicious"

    def _learn(self) -> None:
        """Rank the cells that nobody decided on by what the verdicts teach."""
        session = self.session
        if session is not None:
            self.run("Learning from your verdicts", partial(reviewing.rank_by_verdicts, session), self._learned)

    def _learned(self, made: reviewing.Ranking) -> str:
        self._likely = made.likely
        self.queue.taught.show_learned(made.text)
        self.queue.filter.offer_likely(True)
        self.queue.filter.show_list("proposed", LIKELY)
        self._fill()
        return f"{len(self.model):,} cells that nobody decided on; the most likely bad is first"

    # ------------------------------------------------------------------ following the session

    def opened(self, session: Session, links: Connections) -> None:
        """List the cells of this session and follow it."""
        self.queue.form.set_value(session.get(OutlierParameters))
        self.queue.counting.set_value(session.get(CleanParameters))
        self.queue.images.form.set_value(session.get(ImageFlagParameters))
        self._forget_learned()
        links.add(session.events.cells_changed, self._cells_changed)
        links.add(session.events.embedding_changed, self._offer)
        links.add(session.events.images_changed, self._images_changed)
        links.add(session.events.parameters_changed, self._parameters_changed)
        links.add(session.selection.changed, self._follow_selection)
        links.add(session.history.changed, self._fit_history)
        if self.bench.tools is not None:
            links.add(self.bench.tools.said, self._tool_said)
        self._to_queue()
        self._images_changed()
        self._fill()
        self._fit_history()
        self._fit_funnel()

    def closed(self) -> None:
        """List nothing."""
        self._to_queue()
        self.model.show_cells(None, ())
        self.queue.card.show_cell(None, None)
        self.queue.funnel.show_steps(())
        self._forget_learned()

    def themed(self, theme: str) -> None:
        """The large gallery is no child of the dock."""
        if self._large is not None:
            self._large.set_theme(theme)

    def _forget_learned(self) -> None:
        self._likely = None
        self.queue.taught.show_learned("")
        self.queue.filter.offer_likely(False)

    def _images_changed(self) -> None:
        """Some may have come, gone, or been found again."""
        self._offer()
        for gallery in self._galleries:
            gallery.pictures.try_again()
        self.queue.card.try_again()
        self._fit_card()
        if self.session is not None:
            self.queue.images.show_session(self.session)

    def _offer(self, *_: Any) -> None:
        if self.session is not None:
            self.queue.filter.follow(self.session)

    def _fill(self, *_: Any) -> None:
        """Make the list anew; reasons are looked up in the background."""
        session = self.session
        if session is None:
            return
        wanted = self.queue.filter.wanted(session)
        if wanted.reason is None:
            self._list(session, wanted, None)
        else:
            because = partial(reviewing.by_reason, session, wanted.reason)
            self.bench.background(because, partial(self._list, session, wanted), topic="reason")

    def _list(self, session: Session, wanted: Wanted, because: Collection[int] | None) -> None:
        if session is not self.session or wanted != self.queue.filter.wanted(session):
            return
        self._listed = cells_of(session.cells.frame, wanted, session.selection.ids, because, self._likely)
        self.model.show_cells(session, self._listed)
        self.queue.gallery.verticalScrollBar().setValue(0)
        self._fit_card()
        self._fit_progress()

    def _cells_changed(self, _ids: frozenset[int]) -> None:
        if self.session is None:
            return
        self.model.refresh()
        if len(self.model) <= len(self._listed) // 2:  # none was listed, or cells were found anew
            self._fill()
        self._behind = not self.isVisible()
        if not self._behind:  # counting 500,000 cells at each stroke in Correct would be felt
            self._catch_up()

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Catch up with what happened while the dock was out of sight."""
        super().showEvent(event)
        if self._behind:
            self._catch_up()

    def _catch_up(self) -> None:
        self._behind = False
        self._fit_card()
        self._fit_progress()
        self._fit_funnel()
        if self._page is self.audit:
            self.audit.refresh()

    def _parameters_changed(self, name: str) -> None:
        if name == Recipe.__name__:
            for gallery in self._galleries:
                gallery.forget_pictures()
            self.queue.card.forget()
            self._fit_card()
        elif name == SETTING and self.session is not None:
            self.queue.images.show_session(self.session)
        elif name == CleanParameters.__name__ and self.session is not None:
            self.queue.counting.set_value(self.session.get(CleanParameters))
            self._fit_funnel()

    def _put(self, parameters: CleanParameters) -> None:
        if self.session is not None:
            self.session.put(parameters)

    def _follow_selection(self, ids: frozenset[int]) -> None:
        for gallery in self._galleries:
            gallery.viewport().update()
        if len(ids) == 1 and self.model.place_of(next(iter(ids))) is not None:
            self.model.set_current(next(iter(ids)))
        self._fit_card()

    @property
    def _galleries(self) -> tuple[Gallery, ...]:
        return (self.queue.gallery, self.sheet.gallery, *((self._large.gallery,) if self._large is not None else ()))

    def _tool_said(self, text: str) -> None:
        if self.isVisible():
            self.jobs.show_state(text)

    # ------------------------------------------------------------------ the queue

    def do(self, action: str) -> None:
        """Do one of `review_queue.ACTIONS` on the cell at hand, or the chosen cells."""
        if action in ("undo", "redo"):
            self._retrace(action)
        elif action == "next":
            self.step(1)
        elif self._page is self.audit and action in ("accept", "reject"):
            self.audit.judge(action == "reject")
        elif self._page is self.queue:
            cells = self._meant()
            if action in ("accept", "reject"):
                self._decide(cells, f"{action}ed")
            elif action == "merge" and cells:
                self.mender.merge(cells)
            elif len(cells) > 1:
                self.jobs.show_state(f"{len(cells)} cells are chosen; choose one")
            elif cells and action == "split":
                self.mender.split(cells[0])
            elif cells:
                self.mender.find_again(cells[0])

    def step(self, by: int) -> None:
        """Go to another cell of the list."""
        if self._page is self.audit:
            self.audit.step(by)
        elif self._page is self.queue:
            self.mender.leave()
            self._go(self.model.place + by)

    def _go(self, place: int) -> None:
        cell = self.model.go(place)
        if cell is not None:
            self._go_to(cell)

    def _go_to(self, cell: int) -> None:
        if self.bench.link is not None:
            self.bench.link.go_to(cell)

    def _decide(self, cells: list[int], verdict: str) -> None:
        session = self.session
        if session is not None and cells:
            last = max(self.model.place_of(cell) or 0 for cell in cells)
            self.mender.do(partial(session.set_verdict, cells, verdict))
            self._go_on(last)

    def _go_on(self, last: int) -> None:
        """To the next cell of the list that waits, and from the end to its beginning."""
        waiting = np.flatnonzero(~self.model.decided())
        if len(waiting):
            later = waiting[waiting > last]
            self._go(int(later[0] if len(later) else waiting[0]))
        elif len(self._listed):
            self.jobs.show_state("All cells of this list are decided")

    def _meant(self) -> list[int]:
        """The chosen cells, or else the one at hand."""
        session = self.session
        if session is None:
            return []
        cells = [cell for cell in session.selection.ids if cell in session.cells]
        if not cells and self.model.current is not None:
            cells = [self.model.current]
        if not cells:
            self.jobs.show_state("No cell is chosen; click one, or press Space")
        return sorted(cells)

    def _retrace(self, way: str) -> None:
        """Undo or redo, and go to the cell that this was about."""
        session, tools = self.session, self.bench.tools
        if session is None or tools is None or self._page is self.sheet:
            return
        moved, cells = self.guard(getattr(tools, way)), session.history.last_cells
        if self._page is self.audit:
            self.audit.refresh(next(iter(cells), None))
        elif moved and len(cells) == 1:
            self._go_to(next(iter(cells)))

    # ------------------------------------------------------------------ many at once, the audit, the large gallery

    def _ask_many(self, verdict: str, which: str, percent: float) -> None:
        session = self.session
        if session is None:
            return
        cells = cells_meant(session, which, percent, self.model.ids)
        if not len(cells):
            self.jobs.show_state("No cell is meant; choose others, or look for suspicious cells first")
            return
        self.sheet.show_cells(session, cells, verdict)
        self._show_page(self.sheet)

    def _decide_many(self, cells: NDArray[np.int64], verdict: str) -> None:
        session = self.session
        if session is not None:
            there = [int(cell) for cell in cells if cell in session.cells]
            self.mender.do(partial(session.set_verdict, there, verdict))
            self.jobs.show_state(f"{len(there):,} cells {verdict}; U takes it back")
        self._to_queue()

    def _audit(self) -> None:
        self.mender.leave()
        self._show_page(self.audit)
        self.audit.open()

    def _leave(self) -> None:
        if self._page is self.queue:
            self.mender.leave()
        else:
            self._to_queue()

    def _to_queue(self) -> None:
        self._show_page(self.queue)
        self.sheet.clear()

    def _show_page(self, page: QWidget) -> None:
        self._page = page
        for one in (self.queue, self.sheet, self.audit):
            one.setVisible(one is page)
        self.primary.setVisible(page is self.queue)
        if self._large is not None:  # in an audit it would show what is hidden
            self._large.setVisible(page is self.queue and self.queue.large.isChecked())

    def _show_large(self, on: bool) -> None:
        if self._large is None:
            self._large = LargeGallery(self.model, self.bench)
            self._large.clicked.connect(self._go_to)
            self._large.visibilityChanged.connect(self._large_shown)
        self._large.setVisible(on)

    def _large_shown(self, _shown: bool) -> None:
        """Its own button may have closed it."""
        if self._large is not None and self._large.isHidden() and self._page is self.queue:
            self.queue.large.setChecked(False)

    # ------------------------------------------------------------------ what is shown

    def _fit_card(self) -> None:
        if self.session is not None:
            self.queue.fit_card(self.session)

    def _fit_progress(self) -> None:
        if self.session is not None:
            first = self.queue.fit_progress(self.session, len(self._listed))
            self.queue.taught.show_session(self.session)
            if first:
                self.jobs.show_state(first)

    def _fit_funnel(self) -> None:
        if self.session is not None:
            count = partial(reviewing.funnel, self.session)
            self.bench.background(count, self.queue.funnel.show_steps, topic="funnel")

    def _fit_history(self) -> None:
        if self.session is not None:
            self.queue.fit_history(self.session)
            self.mender.follow_history(self.session)
