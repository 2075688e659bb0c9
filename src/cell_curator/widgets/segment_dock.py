"""The Segment dock: find the cells of the image on screen or of all images."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QLabel, QPushButton

from cell_curator.engines.cards import list_models
from cell_curator.engines.segmenter import SegmentParameters, engines
from cell_curator.widgets.cell_looks import CellLooks
from cell_curator.widgets.dock import Connections, Dock, line
from cell_curator.widgets.form import ParametersForm

if TYPE_CHECKING:
    from cell_curator.session import Session


class SegmentDock(Dock):
    """Parameters of the search for cells, and how cells are drawn."""

    title = "Segment"
    keys = (("O", "cells as outlines or filled"), ("Ctrl+Return", "find cells in this image"))

    def build(self) -> None:
        """The form, the two ways to start, and the looks of the cells."""
        models = [card.name for card in list_models()]
        choices = {"model": models, "engine": list(engines())}
        self.form = ParametersForm(SegmentParameters, choices=choices, zero={"diameter": "automatic"})
        self.form.changed.connect(self._edited)
        self.all = QPushButton("Find cells in all images")
        self.all.setToolTip("Goes through the whole project; cells you accepted or edited are kept")
        self.all.clicked.connect(partial(self.guard, self._find_all))
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.looks = CellLooks(self.bench)
        self.body.addWidget(self.form)
        self.body.addWidget(self.all)
        self.body.addWidget(self.result)
        self.body.addWidget(line())
        self.body.addWidget(self.looks)
        self.primary.setText("Find cells in this image")
        self.primary.setToolTip("Cells you accepted or edited are kept (Ctrl+Return)")
        self.add_key("O", self.looks.outlines.toggle)
        self.add_key("Ctrl+Return", self.primary.click)
        self.bench.runner.started.connect(self._fit_all)
        self.bench.runner.ended.connect(self._fit_all)

    def act(self) -> None:
        """Find the cells of the image on screen."""
        if self.session is not None and self.session.current_image is not None:
            self._find([self.session.current_image])

    def opened(self, session: Session, links: Connections) -> None:
        """Show the project's parameters."""
        links.add(session.events.parameters_changed, self._parameters_changed)
        links.add(session.events.cells_changed, self._count)
        links.add(session.events.current_changed, self._count)
        if self.bench.link is not None:
            links.add(self.bench.link.shown, self.looks.apply)
        self.form.set_value(session.get(SegmentParameters))
        self._count()

    def _find_all(self) -> None:
        self._find(None)

    def _find(self, image_ids: list[int] | None) -> None:
        session = self.session
        if session is None:
            return
        session.put(self.form.value())
        start = time.monotonic()
        self.run("Finding cells", partial(session.segment, image_ids), partial(self._found, start, image_ids))

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
        rows = session.cells.frame
        if image_ids is not None:
            rows = rows[rows["image"].isin(image_ids)]
        where = "" if image_ids is not None else f" in {report.done} images"
        typical = f", typical diameter {_diameter(rows):.0f} px" if len(rows) else ""
        hint = "" if len(rows) else ". Try a lower cell threshold, or give the diameter"
        return f"{len(rows)} cells{where} in {time.monotonic() - start:.1f} s{typical}{hint}"

    def _count(self, *_: Any) -> None:
        session = self.session
        if session is None or session.current_image is None:
            return
        here = session.cells.of_image(session.current_image)
        typical = f", typical diameter {_diameter(here):.0f} px" if len(here) else ""
        self.result.setText(f"This image: {len(here)} cells{typical}. All images: {len(session.cells)} cells.")

    def _edited(self, parameters: SegmentParameters) -> None:
        if self.session is not None:
            self.guard(partial(self.session.put, parameters))

    def _parameters_changed(self, name: str) -> None:
        if name == SegmentParameters.__name__ and self.session is not None:
            stored = self.session.get(SegmentParameters)
            if stored != self.form.value():
                self.form.set_value(stored)

    def _fit_all(self, *_: Any) -> None:
        self.all.setEnabled(not self.bench.runner.busy)


def _diameter(rows: Any) -> float:
    """Diameter of a disc with the median area, px."""
    return 2 * math.sqrt(float(rows["area"].median()) / math.pi)
