"""The Confluency dock: how far cells cover the image on screen, all images, and when to act."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QLabel, QWidget

from cell_curator import confluency
from cell_curator.core.confluency import ConfluencyParameters
from cell_curator.core.jobs import UserError
from cell_curator.core.regions import REVIEWED
from cell_curator.link.confluency import CoverLayers
from cell_curator.widgets.confluency_all import AllCovers, save_tables
from cell_curator.widgets.confluency_groups import MOST
from cell_curator.widgets.confluency_live import Judged, LiveCover, Shown
from cell_curator.widgets.confluency_results import facts
from cell_curator.widgets.confluency_settings import CELLS, KMEANS, METHODS, UNET, CoverSettings
from cell_curator.widgets.controls import Fold, NumberEdit, push_button, side_by_side, stacked
from cell_curator.widgets.dock import Connections, Dock, line
from cell_curator.widgets.form import ParametersForm

if TYPE_CHECKING:
    from cell_curator.cover_report import CoverReport, CoverRow
    from cell_curator.covering import Covered
    from cell_curator.session import Session

FOLDER = "confluency"
"""Folder of a project into which the numbers and masks of all images are written."""
_PUT_MS = 400
_TILES = (
    "A method may find too much or too little everywhere. Mark a few regions and draw the cells in them (Correct tab): "
    "there your cells are the truth, and the percentages of all images are corrected by them."
)


class ConfluencyDock(Dock):
    """A live look at the image on screen, then a table and a curve of all images."""

    title = "Confluency"
    keys = (
        ("Alt+1, 2, 3", "by groups of pixels, by a U-Net, by the cells found"),
        ("1–9, 0", "group 1 to 10 is cells, or ground; as a click in the image"),
        ("Alt+A", "choose the groups automatically"),
        ("M", "let the U-Net measure this image"),
        ("C", "show or hide what counts as covered"),
        ("G", "mark a region whose cells you drew by hand (Esc: done)"),
        ("Ctrl+Return", "measure all images"),
        ("Ctrl+E", "save the table as CSV"),
    )

    _layers: CoverLayers | None = None
    _report: CoverReport | None = None
    _measured: tuple[Any, ...] = ()
    _seen: tuple[Any, Covered] | None = None

    def build(self) -> None:
        """Method, groups and settings, the number, then all images."""
        self.settings = CoverSettings()
        self.settings.changed.connect(self._edited)
        self.settings.regrouped.connect(self._regrouped)
        self.settings.measure_asked.connect(self._measure)
        self.pinned.addWidget(self.settings.row)
        for button in self.settings.methods.values():
            button.clicked.connect(lambda _down: self.bring(self.percent))
        self.live = LiveCover(self.bench, self)
        self.live.shown.connect(self._shown)
        self.live.failed.connect(self._failed)
        self.say = ParametersForm(ConfluencyParameters)
        self.say.changed.connect(self._edited)
        self.pixel = NumberEdit(float, minimum=0, maximum=1000, step=0.01, unit="µm", zero="not known")
        self.pixel.setToolTip("Edge of a pixel; for all images of the project")
        self.pixel.changed.connect(self._pixel_size_given)
        self.percent, self.about = QLabel(), QLabel()
        self.percent.setObjectName("heading")
        self.about.setWordWrap(True)
        self.results = AllCovers(self.bench.viewer)
        self.results.table.picked.connect(self._go_to)
        self.results.export_asked.connect(self._export)
        parts = (
            self.percent,
            self.about,
            line(),
            self.settings,
            self.say,
            side_by_side(QLabel("Size of a pixel"), self.pixel),
            self._build_tiles(),
        )
        for part in (*parts, self.results):
            self.body.addWidget(part)
        self.primary.setText("Measure all images")
        self.primary.setToolTip("With these settings; table, curve and masks are kept with the project (Ctrl+Return)")
        self._put_later = QTimer(self)
        self._put_later.setSingleShot(True)
        self._put_later.setInterval(_PUT_MS)
        self._put_later.timeout.connect(partial(self.guard, self._put))
        self._bind_keys()

    def _build_tiles(self) -> QWidget:
        text = QLabel(_TILES)
        text.setObjectName("quiet")
        text.setWordWrap(True)
        self.tile = push_button(
            "Mark a region…", "Drag a rectangle over the image in which every cell is drawn (G)", self._mark
        )
        self.tile.setCheckable(True)
        self.tiles = Fold("More: correct by regions drawn by hand", stacked(text, self.tile))
        return self.tiles

    def _bind_keys(self) -> None:
        for number in range(MOST):
            self.add_key(str((number + 1) % MOST), partial(self.settings.toggle, number))
        for key, slot in (
            *((key, self.settings.methods[name].click) for name, _, _, key in METHODS),
            ("Alt+A", self.settings.groups.choose_automatic),
            ("M", self._measure),
            ("C", self._blink),
            ("G", self.tile.click),
            ("Esc", self._put_down),
            ("Ctrl+Return", self.primary.click),
            ("Ctrl+E", self._export),
        ):
            self.add_key(key, slot)

    # ------------------------------------------------------------------ following the session

    def opened(self, session: Session, links: Connections) -> None:
        """Show this project's settings and the image on screen."""
        self._report = self._seen = None
        self._show_report()
        self.settings.show_session(session)
        self.say.set_value(session.get(ConfluencyParameters))
        link = self.bench.link
        if link is not None:
            self._layers = CoverLayers(self.bench.viewer, link)
            links.add(self._layers.clicked, self.settings.toggle)
            links.add(link.shown, self._image_shown)
        for signal in (session.events.labels_changed, session.events.cells_changed):
            links.add(signal, self._cells_changed)
        links.add(session.events.images_changed, self._look)
        links.add(session.events.rounds_changed, self._offer_models)
        links.add(session.events.parameters_changed, self._parameters_changed)
        self._look()

    def closed(self) -> None:
        """Stop what is live."""
        self._put_later.stop()
        self.live.stop()
        self._layers = None  # the viewer is emptied by the link
        self.percent.clear()
        self.about.clear()

    def themed(self, theme: str) -> None:
        """The table and the curve paint themselves."""
        self._show_report()

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Look at the image on screen."""
        super().showEvent(event)
        self._look()

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """The image and its cells are as the other docks want them."""
        super().hideEvent(event)
        self.live.stop()
        self._put_down()
        if self._layers is not None:
            self._layers.remove()

    # ------------------------------------------------------------------ the image on screen

    def _look(self, *_: Any) -> None:
        method = self.settings.method
        self.tiles.setVisible(method != CELLS)
        session = self.session
        if session is None or self._layers is None or not self.isVisible():
            return
        self._layers.listen(method == KMEANS and session.current_image is not None)
        if session.current_image is None:
            self._say("No image", "Add images in the Images tab first.")
            return
        self.pixel.set_value(session.image(session.current_image).pixel_size_um or 0.0)
        if method == UNET:
            self.live.stop()
            if self._seen is not None and self._seen[0] == self._looked_with(session):
                self.live.request(Judged(self._seen[1], self.settings.unet.value()), self.say.value())
                return
            self._layers.remove()
            first = "Measure this image (M), or all images." if self.settings.has_network else ""
            self._say("Not measured yet", first)
            return
        if "covered" not in self.percent.text():
            self._say("Looking…", "")
        self.live.request(self.settings.kmeans.value() if method == KMEANS else None, self.say.value())

    def _measure(self) -> None:
        """Let the network look at the image on screen."""
        session = self.session
        if session is None or session.current_image is None or self.settings.method != UNET:
            return
        if not self.settings.has_network:
            self.jobs.show_error("no U-Net has learned here yet; see above")
            return
        self.guard(self._put)
        image_id = session.current_image
        job = partial(confluency.cover_image, session, image_id, self.say.value(), self.settings.value())
        self.run("Measuring this image", job, partial(self._measured_one, image_id))

    def _measured_one(self, image_id: int, made: tuple[Covered, CoverRow]) -> str:
        session = self.session
        if session is not None and session.current_image == image_id and self.settings.method == UNET:
            self._seen = self._looked_with(session), made[0]
            self._look()
        return made[1].note

    def _looked_with(self, session: Session) -> tuple[Any, ...]:
        """What the network has to look again for; the threshold is not among it."""
        params = self.settings.unet.value()
        return session.current_image, params.model, params.looks

    def _say(self, number: str, about: str) -> None:
        self.percent.setText(number)
        self.about.setText(about)

    def _image_shown(self, _image_id: int) -> None:
        if self._layers is not None:
            self._layers.blank()
        self._look()

    def _shown(self, made: Shown) -> None:
        session = self.session
        if session is None or self._layers is None or not self.isVisible():
            return
        if (made.groups is None) is (self.settings.method == KMEANS):
            return  # of the method before
        self.jobs.show_error("")
        self._layers.show(made.groups, made.mask, () if made.model is None else made.model.cells)
        if made.model is not None:
            self.settings.show_model(made.model)
        self._say_cover(made, session)

    def _say_cover(self, made: Shown, session: Session) -> None:
        cover, say = made.cover, self.say.value()
        taught = self._report.calibration if self._report is not None and self._setting() == self._measured else None
        if taught is not None:
            cover = taught.apply(cover)
        alarm = f" ⚠ alarm from {say.alarm:g} %" if cover.alarming(say) else ""
        self.percent.setText(f"{cover.percent:.1f} % covered{alarm}")
        if self.settings.method == CELLS and not cover.count:
            lines = ["No cells yet: find them in the Segment tab first, or use groups of pixels."]
        elif made.model is not None and made.model.cells and not cover.percent:
            lines = ["Nothing is left: lower “Trim edges”, or “Smallest island” under More."]
        else:
            lines = facts(cover, session.image(made.image_id).shape[1:])
        if taught is not None and (taught.slope, taught.offset) != (1.0, 0.0):
            lines.append(f"corrected by {taught.parts} regions drawn by hand")
        self.about.setText("<br>".join(lines))

    def _failed(self, text: str) -> None:
        self._say("", "")
        self.jobs.show_error(text)

    def _cells_changed(self, *_: Any) -> None:
        if self.settings.method == CELLS:
            self._look()

    def _offer_models(self, *_: Any) -> None:
        if self.session is not None:
            self.settings.offer_models(self.session)

    def _edited(self, *_: Any) -> None:
        self._put_down()
        self._put_later.start()
        self._look()
        self._show_report()

    def _regrouped(self) -> None:
        if self._layers is not None and self.settings.groups.cells:
            self._layers.choose(self.settings.groups.cells)
        self._edited()

    def _pixel_size_given(self, size: float) -> None:
        if self.session is not None:
            images = [record.image_id for record in self.session.images]
            self.guard(partial(self.session.set_pixel_size, images, size or None))

    def _blink(self) -> None:
        if self._layers is not None:
            self._layers.visible = not self._layers.visible

    def _put(self) -> None:
        self._put_later.stop()
        if self.session is not None:
            self.settings.put(self.session)
            self.session.put(self.say.value())

    def _parameters_changed(self, name: str) -> None:
        session = self.session
        if session is None or self._put_later.isActive():
            return
        changed = self.settings.show_settings(session, name)
        if name == ConfluencyParameters.__name__ and session.get(ConfluencyParameters) != self.say.value():
            self.say.set_value(session.get(ConfluencyParameters))
            changed = True
        if changed:
            self._look()

    # ------------------------------------------------------------------ regions drawn by hand

    def _mark(self) -> None:
        link = self.bench.link
        if link is None or not self.tiles.isVisible():
            return
        if self.tile.isChecked():
            self.tiles.set_open(True)
            link.regions.draw(REVIEWED)
            self.jobs.show_state("Drag a rectangle over the image; Esc when you are done")
        else:
            self._put_down()

    def _put_down(self) -> None:
        if self.tile.isChecked():
            self.tile.setChecked(False)
            self.jobs.show_state("")
            if self.bench.link is not None:
                self.bench.link.regions.put_down()

    # ------------------------------------------------------------------ all images

    def act(self) -> None:
        """Measure all images."""
        session = self.session
        if session is None:
            return
        if not session.images:
            raise UserError("there are no images yet; add some in the Images tab first")
        self._put()
        self._measured = self._setting()
        job = partial(
            confluency.cover_project, session, session.folder / FOLDER, self.say.value(), self.settings.value()
        )
        self.run("Measuring the cover", job, self._all_measured)

    def _setting(self) -> tuple[Any, ...]:
        return self.settings.method, self.settings.value()

    def _all_measured(self, report: CoverReport) -> str:
        self._report = report
        self._show_report()
        self._look()
        self.bring(self.results)
        if report.failed:
            name, reason = report.failed[0]
            more = f" (and {len(report.failed) - 1} more)" if len(report.failed) > 1 else ""
            self.jobs.show_error(f"{name}: {reason}{more}")
        alarming = len(report.alarming(self.say.value()))
        alarm = f"; {alarming} reach the alarm" if alarming else ""
        return f"{len(report.rows)} images measured{alarm}. Table and masks: {self._folder}"

    def _show_report(self) -> None:
        self.results.show_report(self._report, self.say.value(), stale=self._setting() != self._measured)

    @property
    def _folder(self) -> Path:
        assert self.session is not None
        return self.session.folder / FOLDER

    def _go_to(self, name: str, plane: int | None) -> None:
        session = self.session
        if session is None:
            return
        for record in session.images:
            if record.name == name and (plane is None or record.plane == plane):
                session.show_image(record.image_id)
                return

    def _export(self) -> None:
        if self._report is None:
            self.jobs.show_state("Nothing to save yet: measure all images first")
            return
        chosen, _ = QFileDialog.getSaveFileName(self, "Save the table", "confluency.csv", "CSV (*.csv)")
        if chosen:
            self.jobs.show_state(self.guard(partial(save_tables, self._folder, Path(chosen))) or "")
