"""The Segment dock: find the cells of the image on screen or of all images."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of
from cell_curator.engines.downloads import fitting
from cell_curator.engines.segmenter import NOTHING, Segmentation, SegmentParameters, available
from cell_curator.engines.volumes import StackParameters
from cell_curator.kept_flows import recall
from cell_curator.link.insight import hide_insight, show_insight
from cell_curator.link.measuring import Ruler, draw_region, put_region_down, region_of
from cell_curator.project_models import known, models_folder
from cell_curator.series import planes_of
from cell_curator.widgets.cell_looks import CellLooks
from cell_curator.widgets.controls import Fold, push_button
from cell_curator.widgets.dock import Connections, Dock, line
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.live import in_words
from cell_curator.widgets.live_masks import THRESHOLDS, LiveMasks
from cell_curator.widgets.runner import deliver_queued
from cell_curator.workflow import take_over

if TYPE_CHECKING:
    from cell_curator.session import Session

_PUT_MS = 400


class SegmentDock(Dock):
    """Parameters of the search for cells, live thresholds, and how cells are drawn."""

    _ruler: Ruler | None = None
    _last = SegmentParameters()

    title = "Segment"
    keys = (
        ("Ctrl+Return", "find cells in this image"),
        ("D", "measure the diameter: draw a line across a cell (Esc: not now)"),
        ("H", "cells as outlines or filled"),
    )

    def build(self) -> None:
        """The form, the ways to start, what the network saw, and the looks of the cells."""
        states = available()
        choices = {"model": [card.name for card in known(None)], "engine": [state.name for state in states]}
        self.form = ParametersForm(SegmentParameters, choices=choices, zero={"diameter": "automatic"})
        for state in states:
            if state.reason:
                self.form.control("engine").grey_out(state.name, state.reason)
        self.form.changed.connect(self._edited)
        self.live = LiveMasks(self.bench, self)
        self.live.shown.connect(self._live_shown)
        self.live.rested.connect(self._live_rested)
        self.live.failed.connect(self.jobs.show_error)
        self._put_later = QTimer(self)
        self._put_later.setSingleShot(True)
        self._put_later.setInterval(_PUT_MS)
        self._put_later.timeout.connect(partial(self.guard, self._put))
        self.all = push_button("Find cells in all images", "Goes through the whole project", self._find_all)
        self.stack = ParametersForm(StackParameters)
        self.stack.changed.connect(self._stack_edited)
        self.file = push_button("Find cells in all planes", "Of this stack or time lapse", self._find_file)
        self.planes = QWidget()
        together = QVBoxLayout(self.planes)
        together.setContentsMargins(0, 0, 0, 0)
        together.addWidget(Fold("More: planes of this stack", self.stack))
        together.addWidget(self.file)
        self.planes.hide()
        self.measure = push_button("Draw the diameter", "Draw a line across a typical cell (D)", self._measure)
        self.region = QCheckBox("Only in a region")
        self.region.setToolTip(
            "Draw a rectangle or polygon in the layer “region”; cells wholly inside it are looked for"
        )
        self.region.toggled.connect(self._region_toggled)
        self.insight = QCheckBox("Show what the network saw")
        self.insight.setToolTip(
            "Two more layers: how likely each pixel is a cell, and in which direction its middle lies"
        )
        self.insight.toggled.connect(self._insight_toggled)
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.looks = CellLooks(self.bench)
        row = QHBoxLayout()
        row.addWidget(self.measure, 1)
        row.addWidget(self.region, 1)
        self.body.addWidget(self.form)
        self.body.addLayout(row)
        self.body.addWidget(self.planes)
        self.body.addWidget(self.all)
        self.body.addWidget(self.result)
        self.body.addWidget(line())
        self.body.addWidget(self.looks)
        self.body.addWidget(self.insight)
        self.primary.setText("Find cells in this image")
        self.primary.setToolTip("Cells you accepted or edited are kept (Ctrl+Return)")
        self.add_key("H", self.looks.outlines.toggle)
        self.add_key("Ctrl+Return", self.primary.click)
        self.add_key("D", self._measure)
        self.add_key("Esc", self._put_down)
        self.bench.runner.started.connect(self._fit_all)
        self.bench.runner.ended.connect(self._fit_all)

    def act(self) -> None:
        """Find the cells of the image on screen."""
        session, link = self.session, self.bench.link
        if session is None or session.current_image is None or link is None:
            return
        region = region_of(self.bench.viewer, link) if self.region.isChecked() else None
        if self.region.isChecked() and region is None:
            raise UserError("no region is drawn yet; draw a rectangle over the image, then press again")
        self._find([session.current_image], None if region is None else region.tolist())

    def opened(self, session: Session, links: Connections) -> None:
        """Show the project's parameters."""
        links.add(session.events.parameters_changed, self._parameters_changed)
        links.add(session.events.cells_changed, self._count)
        links.add(session.events.current_changed, self._image_changed)
        links.add(session.events.images_changed, self._fit_planes)
        links.add(session.events.rounds_changed, self._offer_models)
        if self.bench.link is not None and self.bench.tools is not None:
            links.add(self.bench.link.shown, self.looks.follow)
            links.add(self.bench.link.shown, self._show_insight)
            self._ruler = Ruler(self.bench.viewer, self.bench.link, self.bench.tools)
            links.add(self._ruler.measured, self._measured)
        self._offer_models()
        self._last = session.get(SegmentParameters)
        self.form.set_value(self._last)
        self.stack.set_value(session.get(StackParameters))
        self._fit_planes()
        self._count()

    def closed(self) -> None:
        """Stop what is live."""
        self._put_later.stop()
        self.live.stop()
        hide_insight(self.bench.viewer)

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """The mouse neither measures nor draws regions any more."""
        super().hideEvent(event)
        self._put_down()

    # ------------------------------------------------------------------ diameter and region

    def _measure(self) -> None:
        if self._ruler is not None:
            self._ruler.arm()
            self.jobs.show_state("Draw a line across a typical cell")

    def _measured(self, length_px: float) -> None:
        self.form.set_value(self.form.value().model_copy(update={"diameter": round(length_px, 1)}))
        self._edited(self.form.value())
        self.jobs.show_state(f"Diameter: {length_px:.1f} px")

    def _region_toggled(self, on: bool) -> None:
        if self.bench.link is None:
            return
        if on:
            self._put_down()
            draw_region(self.bench.viewer)
            self.jobs.show_state("Draw a rectangle, then find the cells")
        else:
            put_region_down(self.bench.viewer, self.bench.link.labels.layer, hide=True)

    def _put_down(self) -> None:
        """Neither measure nor draw; the mouse is as before."""
        if self._ruler is not None and self._ruler.armed:
            self._ruler.disarm()
            self.jobs.show_state("")
        if self.bench.link is not None:
            put_region_down(self.bench.viewer, self.bench.link.labels.layer)

    # ------------------------------------------------------------------ live thresholds

    def _live_shown(self, count: int) -> None:
        self.jobs.show_error("")
        self.result.setText(f"With these thresholds: {count} cells")

    def _live_rested(self, image_id: int, found: Segmentation, parameters: SegmentParameters) -> None:
        session = self.session
        if session is None or self.bench.link is None or self.bench.runner.busy:
            self.live.put_away()
            return
        self.guard(self.bench.link.flush)
        take = partial(in_words, partial(take_over, session, image_id, found, parameters))
        self.bench.studies(take, self._taken, topic="thresholds")

    def _taken(self, problem: str | None) -> None:
        deliver_queued()  # the layer of cells has them before it is shown again
        self.live.put_away()
        self._count()
        if problem is not None:
            self.jobs.show_error(problem)

    def _image_changed(self, *_: Any) -> None:
        self.live.stop()
        self._fit_planes()
        self._count()

    def _insight_toggled(self, on: bool) -> None:
        if on:
            self.looks.outlines.setChecked(True)  # filled cells would hide it
        self._show_insight()

    def _show_insight(self, *_: Any) -> None:
        session, link = self.session, self.bench.link
        hide_insight(self.bench.viewer)
        if not self.insight.isChecked() or session is None or link is None or session.current_image is None:
            return
        image_id, parameters = session.current_image, self.form.value()
        self.bench.background(
            partial(recall, session, image_id, parameters), partial(self._insight_ready, image_id), topic="insight"
        )

    def _insight_ready(self, image_id: int, found: Segmentation | None) -> None:
        link = self.bench.link
        if link is None or link.labels.image_id != image_id or not self.insight.isChecked():
            return
        if found is None:
            self.jobs.show_state("Find the cells of this image first; then what the network saw can be shown")
            return
        show_insight(self.bench.viewer, found, link.image.affine, len(link.image.layers))

    # ------------------------------------------------------------------ finding

    def _find_all(self) -> None:
        self._find(None)

    def _find_file(self) -> None:
        session = self.session
        if session is not None and session.current_image is not None:
            self._find([record.image_id for record in planes_of(session, session.current_image)])

    def _find(self, image_ids: list[int] | None, region: Any = None) -> None:
        session = self.session
        if session is None:
            return
        self.live.stop()
        self._put_down()
        self._put()
        if image_ids is not None and session.get(StackParameters).method == "3-D":  # it looks at whole stacks
            image_ids = [record.image_id for number in image_ids for record in planes_of(session, number)]
        start = time.monotonic()
        self.run("Finding cells", partial(session.segment, image_ids, region), partial(self._found, start, image_ids))

    def _found(self, start: float, image_ids: list[int] | None, report: Any) -> str:
        session = self.session
        if session is None:
            return ""
        if report.failed:
            name, reason = report.failed[0]
            more = f" (and {len(report.failed) - 1} more)" if len(report.failed) > 1 else ""
            self.jobs.show_error(f"{name}: {reason}{more}")
        if not report.done:
            return ""
        self._show_insight()
        rows = session.cells.frame
        if image_ids is not None:
            rows = rows[rows["image"].isin(image_ids)]
        where = f" in {report.done} images" if image_ids is None or len(image_ids) > 1 else ""
        typical = f", typical diameter {_diameter(rows):.0f} px" if len(rows) else ""
        hint = "" if len(rows) else ". Try a lower cell threshold, or give the diameter"
        why = next((note for note in report.notes if NOTHING in note), "")
        if why and not len(rows):
            self.jobs.show_error(why)
            hint = ""
        return f"{number_of(len(rows), 'cell')}{where} in {time.monotonic() - start:.1f} s{typical}{hint}"

    def _count(self, *_: Any) -> None:
        session = self.session
        if session is None or session.current_image is None:
            return
        here = session.cells.of_image(session.current_image)
        typical = f", typical diameter {_diameter(here):.0f} px" if len(here) else ""
        self.result.setText(
            f"This image: {number_of(len(here), 'cell')}{typical}. All images: {number_of(len(session.cells), 'cell')}."
        )

    def _edited(self, parameters: SegmentParameters) -> None:
        if self.session is not None:
            if parameters.model != self._last.model:
                parameters = fitting(parameters, models_folder(self.session))
                self.form.set_value(parameters)
            self._put_later.start()  # a slider would fill the journal
            if any(getattr(parameters, name) != getattr(self._last, name) for name in THRESHOLDS):
                self.live.request(parameters)
            self._last = parameters

    def _put(self) -> None:
        self._put_later.stop()
        if self.session is not None:
            self.session.put(self.form.value())

    def _stack_edited(self, parameters: StackParameters) -> None:
        if self.session is not None:
            self.session.put(parameters)

    def _fit_planes(self, *_: Any) -> None:
        """What belongs to stacks is there only for a plane of one."""
        session = self.session
        number = None if session is None else session.current_image
        axis = session.image(number).axis if session is not None and number is not None else ""
        self.planes.setVisible(bool(axis))
        self.file.setText("Find cells in all frames" if axis == "T" else "Find cells in all planes")

    def _offer_models(self, *_: Any) -> None:
        """Models may have been trained or added meanwhile; the choice stays."""
        if self.session is not None:
            choice = self.form.control("model")
            chosen = choice.value()
            choice.set_words([card.name for card in known(self.session)])
            choice.set_value(chosen)

    def _parameters_changed(self, name: str) -> None:
        if name == StackParameters.__name__ and self.session is not None:
            self.stack.set_value(self.session.get(StackParameters))
        if name == SegmentParameters.__name__ and self.session is not None:
            stored = self.session.get(SegmentParameters)
            self._offer_models()
            if stored != self.form.value():
                self.form.set_value(stored)
                self._last = stored

    def _fit_all(self, *_: Any) -> None:
        self.all.setEnabled(not self.bench.runner.busy)
        self.file.setEnabled(not self.bench.runner.busy)


def _diameter(rows: Any) -> float:
    """Diameter of a disc with the median area, px."""
    return 2 * math.sqrt(float(rows["area"].median()) / math.pi)
