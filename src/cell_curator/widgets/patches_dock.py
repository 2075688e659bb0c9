"""The Patches dock: how large cells are, how each is cut out for the map, and what would be lost."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from cell_curator import map_reading
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.patches import PatchParameters
from cell_curator.core.size_study import QUANTITIES, cut_off
from cell_curator.map_patches import cut_cells
from cell_curator.widgets.controls import Choice, Fold, push_button, tool_row
from cell_curator.widgets.dock import Connections, Dock
from cell_curator.widgets.explore_pictures import PictureRow, PictureRows, painted, top_of
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.patches_plots import SizePlots

if TYPE_CHECKING:
    from cell_curator.core.size_study import SizeStudy
    from cell_curator.session import Session

_METHODS = (
    ("resize", "Fill", "Every cell is scaled to fill its patch: shapes are compared, sizes are not", "Alt+1"),
    ("pad", "True size", "Every cell in its true size, with what is round it", "Alt+2"),
    (
        "mask",
        "Only the cell",
        "Every cell in its true size, black round it: neighbours cannot mislead the map",
        "Alt+3",
    ),
)
_CHANCE, _LARGEST, _CUT = "drawn by chance", "the largest", "those that are cut off"
_SHOWN = 6


class PatchesDock(Dock):
    """A study of sizes, its proposal, and a live sheet of cells cut in all three ways."""

    title = "Patches"
    keys = (
        ("Alt+1, 2, 3", "fill the patch, true size, only the cell"),
        ("Alt+T", "turn each cell to its own axis, or leave it as it lies"),
        ("Alt+O", "take the proposal"),
        ("Alt+N", "other example cells"),
        ("Ctrl+Return", "use these patches for the map"),
    )

    def build(self) -> None:
        """Sizes on top, then the proposal, then the sheet and its settings."""
        self._study: SizeStudy | None = None
        self._seed = 0
        self.quantity = Choice(QUANTITIES)
        self.quantity.setToolTip("Which size is drawn")
        self.quantity.changed.connect(self._draw_study)
        self.plots = SizePlots(self.bench.viewer)
        self.proposal, self.lost = QLabel(), QLabel()
        self.lost.setObjectName("error")
        for label in (self.proposal, self.lost):
            label.setWordWrap(True)
        self.take = push_button("Take the proposal", "Cut cells as proposed (Alt+O)", self._take)
        self.sheet = PictureRows(_SHOWN)
        self.sheet.clicked.connect(self._go_to)
        self.form = ParametersForm(PatchParameters, hidden=("method",))
        self.form.changed.connect(self._edited)
        self.by_image = Fold("Image by image", self.plots.images, opened=True)
        methods, self.methods = tool_row(_METHODS, self._edited)
        top = (self._build_head(), self.plots, self.proposal, self.take, methods, self.form, self.lost)
        for part in (*top, self._build_examples(), self.sheet, self.by_image):
            self.body.addWidget(part)
        self.primary.setText("Use these patches")
        self.primary.setToolTip("The next map is made from cells cut like this (Ctrl+Return)")
        for key, slot in (
            *((key, self.methods[name].click) for name, _, _, key in _METHODS),
            ("Alt+T", self._turn),
            ("Alt+O", self._take),
            ("Alt+N", self._others),
            ("Ctrl+Return", self.primary.click),
        ):
            self.add_key(key, slot)

    def _build_head(self) -> QWidget:
        made = QWidget()
        row = QHBoxLayout(made)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Sizes of cells:"))
        row.addWidget(self.quantity, 1)
        return made

    def _build_examples(self) -> QWidget:
        self.examples = Choice((_CHANCE, _LARGEST, _CUT))
        self.examples.setToolTip("Which cells are shown")
        self.examples.changed.connect(self._draw_sheet)
        self.others = push_button("Others", "Other example cells (Alt+N)", self._others)
        made = QWidget()
        layout = QVBoxLayout(made)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QHBoxLayout()
        row.addWidget(QLabel("Examples:"))
        row.addWidget(self.examples, 1)
        row.addWidget(self.others)
        layout.addLayout(row)
        return made

    # ------------------------------------------------------------------ following the session

    def opened(self, session: Session, links: Connections) -> None:
        """Show this project's patches."""
        self._study = None
        self._show_parameters(session.get(PatchParameters))
        links.add(session.events.cells_changed, self._cells_changed)
        links.add(session.events.parameters_changed, self._parameters_changed)
        self._refresh()

    def themed(self, theme: str) -> None:
        """The plots paint themselves."""
        self.plots.set_theme(theme)

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Cells may have changed while the dock was out of sight."""
        super().showEvent(event)
        self._refresh()

    def _cells_changed(self, _ids: frozenset[int]) -> None:
        self._study = None
        self._refresh()

    def _parameters_changed(self, name: str) -> None:
        if self.session is not None and name == PatchParameters.__name__:
            self._show_parameters(self.session.get(PatchParameters))
        self._study = None
        self._refresh()

    def _show_parameters(self, parameters: PatchParameters) -> None:
        self.form.set_value(parameters)
        self.methods[parameters.method].setChecked(True)

    @property
    def parameters(self) -> PatchParameters:
        """What is set in the dock."""
        method = next(name for name, button in self.methods.items() if button.isChecked())
        found: PatchParameters = self.form.value()
        return found.model_copy(update={"method": method})

    def _refresh(self) -> None:
        """Study the sizes again, if the dock is seen and they are not known."""
        session = self.session
        if session is None or not self.isVisible() or self._study is not None:
            return
        there = len(session.counting_ids()) > 0
        for part in (self.plots, self.take, self.sheet, self.lost, self.by_image):
            part.setVisible(there)
        if not there:
            self.proposal.setText("No cells yet: find cells in the Segment tab first.")
            return
        self.bench.background(partial(map_reading.sizes, session), self._studied, topic="sizes")

    def _studied(self, study: SizeStudy) -> None:
        self._study = study
        self._draw_study()
        self._edited()

    # ------------------------------------------------------------------ what is shown

    def _draw_study(self, *_: Any) -> None:
        study = self._study
        if study is None:
            return
        self.plots.show_study(study, self.quantity.value())
        word = {name: title for name, title, _, _ in _METHODS}[study.method].lower()
        self.proposal.setText(
            f"<b>Proposal: {word}, {study.size}×{study.size} px{self._microns(study.size)}.</b> {study.why}."
        )

    def _microns(self, size: int) -> str:
        known = {record.pixel_size_um for record in self.session.images} if self.session is not None else set()
        micron = known.pop() if len(known) == 1 else None
        return f" ({size * micron:.3g} µm)" if micron else ""

    def _edited(self, *_: Any) -> None:
        if self._study is None:
            return
        now = self.parameters
        said = cut_off(self._study.sizes, now.method, now.size, now.margin)
        self.lost.setText(f"{said}." if said else "")
        self.lost.setVisible(bool(said))
        self._draw_sheet()

    def _draw_sheet(self, *_: Any) -> None:
        session, study = self.session, self._study
        if session is not None and study is not None and self.isVisible():
            cells = _examples(study, self.examples.value(), self.parameters, self._seed)
            self.bench.background(partial(_cut, session, cells, self.parameters), self._cut_out, topic="patches")

    def _cut_out(self, rows: list[PictureRow]) -> None:
        self.sheet.show_rows(rows, _SHOWN)

    # ------------------------------------------------------------------ what is done

    def act(self) -> None:
        """Keep what is set, for the next map."""
        if self.session is not None:
            self.session.put(self.parameters)
            self.jobs.show_state("The next map is made from these patches; make it in Explore")

    def _take(self) -> None:
        study = self._study
        if study is not None:
            self._show_parameters(self.parameters.model_copy(update={"method": study.method, "size": study.size}))
            self._edited()

    def _turn(self) -> None:
        now = self.parameters
        self._show_parameters(now.model_copy(update={"turn": "image" if now.turn == "own" else "own"}))
        self._edited()

    def _others(self) -> None:
        self._seed += 1
        self._draw_sheet()

    def _go_to(self, cell: int) -> None:
        if self.bench.link is not None:
            self.bench.link.go_to(cell)


def _examples(study: SizeStudy, which: str, parameters: PatchParameters, seed: int) -> list[int]:
    """Cells to show: by chance but of all conditions, the largest, or those that do not fit."""
    sizes = study.sizes
    longest = sizes[["height", "width"]].max(axis=1)
    if which == _CHANCE:
        mixed = sizes.sample(frac=1, random_state=seed)
        turn = mixed.groupby("condition").cumcount()  # one of each condition, then the next of each
        return [int(cell) for cell in turn.sort_values(kind="stable").index[:_SHOWN]]
    if which == _CUT:
        longest = longest[longest > parameters.size]
    first = seed * _SHOWN % max(len(longest), 1)
    return [int(cell) for cell in longest.sort_values(ascending=False).index[first : first + _SHOWN]]


def _cut(session: Session, cells: list[int], parameters: PatchParameters) -> list[PictureRow]:
    """A row for each method, the chosen one named first."""
    if not cells:
        return [PictureRow("No cell is cut off.", ())]
    rows, white = [], 0.0
    for name, title, _, _ in _METHODS:
        try:
            patches, table = drive(cut_cells(session, cells, parameters.model_copy(update={"method": name})))
        except UserError as error:
            return [PictureRow(str(error), ())]
        # Grey levels mean the same in all pictures, as they do for the network; a few may be too bright.
        white = white or 1.5 * float(np.median([top_of(image) for image in patches.images]))
        pictures = tuple(painted(image, white) for image in patches.images)
        cut = frozenset(int(i) for i in np.flatnonzero(patches.clipped))
        said = f"{'▶ ' if name == parameters.method else ''}{title}{': a white frame means cut off' if cut else ''}"
        rows.append(PictureRow(said, pictures, tuple(int(cell) for cell in table.index), marked=cut))
    return rows
