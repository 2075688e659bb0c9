"""Cells out to other programs, and masks of other programs in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QCheckBox, QFileDialog, QGridLayout, QLabel, QPushButton, QWidget

from cell_curator.core.jobs import Job
from cell_curator.core.words import number_of
from cell_curator.exchange import Exported, Imported, export, import_cells
from cell_curator.io.formats.registry import WRITTEN
from cell_curator.widgets.controls import Choice
from cell_curator.widgets.workbench import Workbench

Run = Callable[[str, Callable[[], Job[Any]], Callable[[Any], str]], None]


class ExchangePanel(QWidget):
    """One format, two buttons. ``run`` is the dock's: title, job, and what to say when it is done."""

    def __init__(self, bench: Workbench, run: Run, show_error: Callable[[str], None]) -> None:
        super().__init__()
        self._bench, self._run, self._show_error = bench, run, show_error
        self._formats = {form.title: form for form in WRITTEN}
        self.format = Choice(list(self._formats))
        self.format.setToolTip("The program or format to write for")
        self.format.changed.connect(self._describe)
        self.rejected = QCheckBox("with rejected cells")
        self.rejected.setToolTip("Write the masks of rejected cells, too; tables always hold them")
        self.export = QPushButton("Export…")
        self.export.setToolTip("Write the cells of all images into a folder")
        self.export.clicked.connect(self._export)
        self.bring = QPushButton("Import masks…")
        self.bring.setToolTip(
            "Masks of another program for the images of this project, matched by name: Cellpose _seg.npy, label TIFF"
            " or PNG, ImageJ ROIs, COCO, GeoJSON, OME-Zarr, one PNG per nucleus"
        )
        self.bring.clicked.connect(self._import)
        self.about = QLabel()
        self.about.setObjectName("quiet")
        self.about.setWordWrap(True)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(self.format, 0, 0, 1, 2)
        grid.addWidget(self.rejected, 1, 0, 1, 2)
        grid.addWidget(self.about, 2, 0, 1, 2)
        grid.addWidget(self.export, 3, 0)
        grid.addWidget(self.bring, 3, 1)
        self._describe()

    def _describe(self, *_: Any) -> None:
        form = self._formats[self.format.value()]
        keeps = "Masks come back pixel by pixel." if form.lossless else ""
        lost = f"Not held: {form.cannot_hold}." if form.cannot_hold else ""
        self.about.setText(f"{keeps} {lost}".strip())
        self.about.setVisible(bool(self.about.text()))

    def _export(self) -> None:
        session = self._bench.session
        folder = QFileDialog.getExistingDirectory(self, "Export into a folder")
        if session is None or not folder:
            return
        form = self._formats[self.format.value()]
        job = partial(export, session, Path(folder), form, rejected=self.rejected.isChecked())
        self._run(f"Writing {form.title}", job, partial(_exported, folder), reading=True)

    def _import(self) -> None:
        session = self._bench.session
        folder = QFileDialog.getExistingDirectory(self, "A folder of masks, or an OME-Zarr store")
        if session is not None and folder:
            self._run("Importing masks", partial(import_cells, session, Path(folder)), self._imported)

    def _imported(self, report: Imported) -> str:
        if report.failed:
            name, reason = report.failed[0]
            more = f" (and {len(report.failed) - 1} more)" if len(report.failed) > 1 else ""
            self._show_error(f"{name}: {reason}{more}")
        cells = sum(report.cells.values())
        return f"{number_of(cells, 'cell')} in {number_of(len(report.cells), 'image')} from {report.format.title}"


def _exported(folder: str, report: Exported) -> str:
    notes = f" · {report.notes[0]}" if report.notes else ""
    return f"{number_of(len(report.files), 'file')} in {Path(folder).name}{notes}"
