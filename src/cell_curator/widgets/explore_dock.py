"""The Explore dock: learn a map of all cells, walk on it, read its clusters, and compare conditions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QWidget

from cell_curator import mapping
from cell_curator.core.patches import PatchParameters
from cell_curator.core.words import number_of
from cell_curator.widgets import map_doors
from cell_curator.widgets.controls import tool_row
from cell_curator.widgets.dock import Connections, Dock
from cell_curator.widgets.explore_conditions import ConditionsPage
from cell_curator.widgets.explore_learning import LearningPanel
from cell_curator.widgets.explore_map import MapPage
from cell_curator.widgets.explore_reading import ReadingPage
from cell_curator.widgets.map_window import MapWindow

if TYPE_CHECKING:
    from cell_curator.core.jobs import Progress
    from cell_curator.map_store import MapReport
    from cell_curator.session import Session

_PAGES = (
    ("Map", "Walk on the map", "Ctrl+1"),
    ("Clusters", "What the cells of each cluster look like, and what sets them apart", "Ctrl+2"),
    ("Conditions", "Whether conditions differ, tested by image or well, and what speaks against the map", "Ctrl+3"),
)


class ExploreDock(Dock):
    """Three pages: the map, its clusters up close, and its conditions."""

    title = "Explore"
    keys = (
        ("Home", "back to the map, where you were before a click on a point"),
        ("Shift+L", "lasso: draw round points or cells to choose them"),
        ("F2", "rename the chosen cluster"),
        ("Shift+G", "the gallery of the chosen cluster"),
        ("Shift+R", "put the chosen cells into Review's queue"),
        ("F5", "update the map: cells that changed or are new"),
        ("F6", "the map in a window of its own"),
        ("K", "keep what a stopped training learned"),
        ("Ctrl+1, 2, 3", "the pages Map, Clusters, Conditions"),
        ("Esc", "put the lasso away, forget the lines of moved cells"),
    )

    def build(self) -> None:
        """The row of pages stays in view; one page is seen."""
        self.window_of_map: MapWindow | None = None
        self._behind = False
        self.map = MapPage(self.bench, self._back)
        self.reading = ReadingPage(self)
        self.comparing = ConditionsPage(self)
        self.learning = LearningPanel(self.bench.viewer)
        self.forms, self.plot = self.learning.forms, self.learning.plot
        self.pinned.addWidget(self._build_tabs())
        for page in (self.map, self.reading, self.comparing, self.learning):
            self.body.addWidget(page)
        self.primary.setText("Make the map")
        self.primary.setToolTip("Learn what the cells look like, draw the map and find clusters")
        self._connect()
        self._show_page("Map")

    def _build_tabs(self) -> QWidget:
        self.tabs, self.titles = tool_row([(title, title, tip, key) for title, tip, key in _PAGES], self._show_page)
        self.tabs.layout().setContentsMargins(0, 0, 6, 0)
        for title, _, key in _PAGES:
            self.add_key(key, self.titles[title].click)
        return self.tabs

    def _connect(self) -> None:
        page, learning = self.map, self.learning
        page.gallery_asked.connect(partial(map_doors.list_cluster, self.bench))
        page.review_asked.connect(self.check)
        page.refresh_asked.connect(self.refresh)
        page.own_window_asked.connect(self._own_window)
        page.clusters.renamed.connect(self._rename)
        page.clusters.noted.connect(self._note)
        learning.regroup_asked.connect(self._regroup)
        learning.suggest_asked.connect(self._suggest)
        learning.keep_asked.connect(self._keep)
        for key, slot in (
            ("Home", self._back),
            ("Shift+L", page.lasso.toggle),
            ("F2", page.clusters.rename),
            ("Shift+G", page.ask_gallery),
            ("Shift+R", self.check),
            ("F5", self.refresh),
            ("F6", page.own.click),
            ("K", self._keep),
            ("Esc", self._leave),
        ):
            self.add_key(key, slot)
        self.bench.runner.progressed.connect(self._progressed)
        self.bench.runner.started.connect(self._fit_jobs)
        self.bench.runner.ended.connect(self._ended)

    # ------------------------------------------------------------------ following the session

    def opened(self, session: Session, links: Connections) -> None:
        """Show this session's map and settings."""
        self.learning.show_session(session)
        links.add(session.events.embedding_changed, self._refresh)
        links.add(session.events.cells_changed, self._refresh)
        links.add(session.events.parameters_changed, self._parameters_changed)
        links.add(session.selection.changed, self._selected)
        if self.bench.link is not None:
            links.add(self.bench.link.hovered, self._hovered)
            links.add(self.bench.link.lasso.switched, self._lasso_switched)
            links.add(self.bench.link.lasso.said, self._say)
        if self.bench.tools is not None:
            links.add(self.bench.tools.mode_changed, self._tool_taken)
        self.map.lasso.setChecked(False)
        self._refresh()

    def themed(self, theme: str) -> None:
        """Parts that paint themselves."""
        for plot in (self.learning.plot, self.learning.parts):
            plot.set_theme(theme)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Catch up with what happened while the dock was out of sight."""
        super().showEvent(event)
        if self._behind:
            self._refresh()

    def _refresh(self, *_: Any) -> None:
        session, self._behind = self.session, not self.isVisible()
        if session is None or self._behind:  # counting 100,000 cells at each key in Review would be felt
            return
        there = session.embedding is not None
        self.tabs.setVisible(there)
        if not there:
            self._show_page("Map")
        self.map.show_session(session)
        for page in (self.reading, self.comparing):
            page.forget()
        self._fit_jobs()

    def _parameters_changed(self, name: str) -> None:
        if name == PatchParameters.__name__ and self.session is not None:
            self.learning.show_patches(self.session.get(PatchParameters))

    def _selected(self, ids: frozenset[int]) -> None:
        self._behind |= not self.isVisible()
        if self.session is not None and self.isVisible():
            self.map.follow_selection(self.session)
            self.reading.follow_selection(ids)

    def _hovered(self, cell: int | None) -> None:
        if self.session is not None and self.map.isVisible():
            self.map.card.show_cell(self.session, cell)

    def _lasso_switched(self, on: bool) -> None:
        self.map.lasso.setChecked(on)

    def _say(self, text: str) -> None:
        self.jobs.show_state(text)

    def _tool_taken(self, mode: str) -> None:
        if mode != "pick":
            self.map.lasso.setChecked(False)

    # ------------------------------------------------------------------ pages

    def _show_page(self, title: str) -> None:
        self.titles[title].setChecked(True)
        pages = {"Map": self.map, "Clusters": self.reading, "Conditions": self.comparing}
        for name, page in pages.items():
            page.setVisible(name == title)
        self.learning.setVisible(title == "Map")
        if title != "Map":
            pages[title].fill()

    # ------------------------------------------------------------------ jobs

    def act(self) -> None:
        """Learn, draw and group."""
        session = self.session
        if session is None:
            return
        self.learning.clear()
        start = self.learning.started_from(session)
        if start is not None:
            self.learning.show_before(session)
        how = {"compare": self.learning.compares(), "parameters": self.learning.settings_now()}
        self.run("Making the map", partial(mapping.embed, session, start, **how), self._mapped)

    def refresh(self) -> None:
        """Look again at the cells that changed."""
        if self.session is not None and self.session.embedding is not None:
            self.run("Updating the map", partial(mapping.refresh, self.session), self._refreshed)

    def _keep(self) -> None:
        session = self.session
        if session is not None and mapping.can_keep(session):
            self.run("Keeping what was learned", partial(mapping.keep, session), self._mapped)

    def _regroup(self) -> None:
        if self.session is not None:
            job = partial(mapping.recluster, self.session, self.learning.grouping())
            self.run("Grouping the cells", job, self._mapped)

    def _suggest(self) -> None:
        if self.session is not None:
            job = partial(mapping.suggest, self.session, self.learning.grouping())
            self.run("Trying numbers of groups", job, self.learning.show_suggestion)

    def _mapped(self, report: MapReport) -> str:
        self.learning.show_notes(report.notes)
        parts = (
            f"{number_of(report.cells, 'cell')} on the map in {number_of(report.clusters, 'cluster')}",
            *report.notes,
        )
        return ". ".join(parts)

    def _refreshed(self, report: MapReport) -> str:
        moved = len(report.moved.cell_id) if report.moved is not None else 0
        new = report.refreshed - moved
        if self.session is not None and self.bench.link is not None:
            self.session.selection.set(self.bench.link.points.moved)
        parts = [f"{moved} moved"] * bool(moved) + [f"{new} new"] * bool(new)
        return ". ".join([f"{' and '.join(parts)} on the map" if parts else "Nothing to do", *report.notes])

    def _progressed(self, progress: Progress) -> None:
        session, payload = self.session, progress.payload
        if session is None or not self.learning.take(payload):
            return
        preview, link = getattr(payload, "preview", None), self.bench.link
        if preview is not None and link is not None:
            first = link.points.layer is None
            link.points.preview(preview.cell_id, preview.map2d)
            self.map.show_forming(session)
            if first:
                self.bench.viewer.reset_view()

    def _ended(self, _outcome: Any) -> None:
        if self.bench.link is not None and self.bench.link.points.is_preview:
            self.bench.link.points.end_preview()
            if self.session is not None:
                self.map.show_session(self.session)
        self._fit_jobs()

    def _fit_jobs(self, *_: Any) -> None:
        if self.session is not None and self.isVisible():
            self.learning.fit(self.session, busy=self.bench.runner.busy)
            self.map.fit_stale(self.session, busy=self.bench.runner.busy)

    # ------------------------------------------------------------------ what is done with clusters and cells

    def check(self) -> None:
        """The chosen cells go to Review's queue."""
        session = self.session
        if session is None:
            return
        if not session.selection.ids:
            self.jobs.show_state("No cell is chosen: click a cluster, or draw round points with the lasso")
            return
        self.map.lasso.setChecked(False)
        map_doors.list_chosen(self.bench)

    def _rename(self, number: int, name: str) -> None:
        if self.session is not None:
            self.guard(partial(mapping.rename_cluster, self.session, number, name))
            self.map.show_session(self.session)

    def _note(self, number: int, text: str) -> None:
        if self.session is not None:
            self.guard(partial(mapping.note_cluster, self.session, number, text))

    def _own_window(self, on: bool) -> None:
        if on and self.window_of_map is None:
            keys = (("F6", self.map.own.click), ("Shift+L", self.map.lasso.toggle), ("Esc", self._leave))
            self.window_of_map = MapWindow(self.bench, keys)
            self.window_of_map.closed.connect(self._window_closed)
        if self.window_of_map is not None:
            self.window_of_map.take() if on else self.window_of_map.close()

    def _window_closed(self) -> None:
        self.map.own.setChecked(False)

    def _back(self) -> None:
        if self.bench.link is not None:
            self.bench.link.back()

    def _leave(self) -> None:
        if self.map.lasso.isChecked():
            self.map.lasso.setChecked(False)
        elif self.bench.link is not None:
            self.bench.link.points.forget_moves()
