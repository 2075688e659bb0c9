"""The Teach dock: show a model what you reviewed, let it learn, see whether it helped, go on or go back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from cell_curator.comparing import Doubt, doubtful
from cell_curator.core.regions import HOLDOUT, REVIEWED
from cell_curator.core.words import number_of
from cell_curator.examples import Counts, Finding, preflight
from cell_curator.link.teaching import Guide, ModelOutlines
from cell_curator.widgets.controls import push_button
from cell_curator.widgets.dock import Connections, Dock, line
from cell_curator.widgets.teach_judge import Judging
from cell_curator.widgets.teach_learn import Learning, checked_round
from cell_curator.widgets.teach_marks import Marks
from cell_curator.widgets.teach_places import Place, PlacesList
from cell_curator.widgets.varied_pictures import VariedPictures

if TYPE_CHECKING:
    from cell_curator.engines.finetune import TrainingState
    from cell_curator.io.records import Round
    from cell_curator.session import Session

_TRAINING = "Learning"
_PREVIEW = "what it finds now"
_CANCEL_TIP = "Stop; the best model so far is kept as a round (Ctrl+.)"


class TeachDock(Dock):
    """Four steps from top to bottom: show, learn, judge, and where to go on."""

    title = "Teach"
    keys = (
        ("I", "this whole image is reviewed"),
        ("G", "mark a reviewed region: drag a rectangle (Esc: done)"),
        ("X", "lock this image away for scoring"),
        ("Ctrl+Return", "start a round"),
        ("T", "two models: compare the chosen round with the model in use"),
        ("N, Shift+N", "next, previous disagreement or doubtful place"),
        ("U, Shift+U", "undo, redo"),
    )

    _guide: Guide | None = None
    _preview: ModelOutlines | None = None
    _taken: Any = None
    _plain_tip = ""

    def build(self) -> None:
        """The four steps."""
        self.first = QLabel()
        self.first.setWordWrap(True)
        self.marks = Marks(self.bench, self.guard)
        self.marks.said.connect(self.jobs.show_state)
        self.marks.counted.connect(self._counted)
        self.learning = Learning(self.bench.viewer)
        self.learning.add_varied(VariedPictures(self, self.learning.vary.value, self.learning.vary))
        self.learning.check_wanted.connect(self._check)
        self.judging = Judging(self)
        self.judging.differences.chosen.connect(self._go)
        self.judging.differ.connect(self._compared)
        self.body.addWidget(self.first)
        for title, widget in (
            ("1. Show it cells", self.marks),
            ("2. Let it learn", self.learning),
            ("3. Did it help?", self.judging),
            ("4. What next?", self._going_on()),
        ):
            heading = QLabel(title)
            heading.setObjectName("section")
            self.body.addWidget(heading)
            self.body.addWidget(widget)
            self.body.addWidget(line())
        self.primary.setText("Start a round")
        self.primary.setToolTip("Learn what you reviewed; the model in use stays until you say so (Ctrl+Return)")
        self._walk(self.judging.differences)
        self._plain_tip = self.jobs.cancel.toolTip()
        self.bench.runner.started.connect(self._fit)
        self.bench.runner.progressed.connect(self._progressed)
        self.bench.runner.ended.connect(self._ended)
        self._bind_keys()

    def _going_on(self) -> QWidget:
        self.find = push_button(
            "Find what to correct next", "Where the model in use is least sure, in all images", self._find_doubts
        )
        self.doubts = PlacesList("The least sure places first; click to go there (N, Shift+N)")
        self.doubts.chosen.connect(self._go)
        self.take_me = push_button("Take me there", "Go to the chosen place, or to the first (N)", self._take_me)
        widget = QWidget()
        grid = QGridLayout(widget)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(4)
        grid.addWidget(self.find, 0, 0)
        grid.addWidget(self.take_me, 0, 1)
        grid.addWidget(self.doubts, 1, 0, 1, 2)
        grid.setColumnStretch(1, 1)
        return widget

    def _bind_keys(self) -> None:
        for key, slot in (
            ("I", partial(self.marks.toggle_whole, REVIEWED)),
            ("X", partial(self.marks.toggle_whole, HOLDOUT)),
            ("G", self.marks.part[REVIEWED].click),
            ("Esc", self.marks.put_down),
            ("Ctrl+Return", self.primary.click),
            ("T", self.judging.compare.click),
            ("N", partial(self._step, 1)),
            ("Shift+N", partial(self._step, -1)),
            ("U", partial(self._retrace, "undo")),
            ("Shift+U", partial(self._retrace, "redo")),
        ):
            self.add_key(key, slot)

    # ------------------------------------------------------------------ following the session

    def opened(self, session: Session, links: Connections) -> None:
        """Follow the session, its marks and its rounds."""
        self._let_go()
        if self.bench.link is not None:
            self._guide = Guide(self.bench.link)
            self._preview = ModelOutlines(self.bench.viewer)
        self.doubts.show_places(())
        self.marks.opened(session, links)
        self.learning.opened(session)
        self.judging.opened(session, links)
        links.add(session.events.current_changed, self._end_preview)
        links.add(session.events.regions_changed, self._marks_changed)
        links.add(session.events.parameters_changed, self._parameters_changed)
        self._fit()

    def closed(self) -> None:
        """Let go of the viewer."""
        self.marks.closed()
        self.judging.closed()
        self._let_go()

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """In other docks the mouse draws no regions, and the user's own cells are seen."""
        super().hideEvent(event)
        self.marks.put_down()
        self.judging.end_compare()
        self._end_preview()
        if self._guide is not None:
            self._guide.clear()

    def themed(self, theme: str) -> None:
        """Tell the parts that paint themselves."""
        self.learning.set_theme(theme)
        self.judging.set_theme(theme)

    def act(self) -> None:
        """Start a round."""
        session = self.session
        if session is None:
            return
        self.marks.put_down()
        self.judging.end_compare()
        session.put(self.learning.value())
        self.learning.start()
        self.run(_TRAINING, partial(checked_round, session, self.learning.value()), self._learned)

    def _let_go(self) -> None:
        self._end_preview()
        guide, self._guide, self._preview = self._guide, None, None
        if guide is not None:
            guide.unbind()

    def _marks_changed(self, *_: Any) -> None:
        self.learning.show_findings(None)  # they were about other marks

    def _parameters_changed(self, *_: Any) -> None:
        if self.session is not None:
            self.learning.follow_engine(self.session)

    def _counted(self, found: Counts) -> None:
        session = self.session
        text = "" if session is None else _first_thing(found, len(session.cells))
        self.first.setText(text)
        self.first.setVisible(bool(text))

    def _retrace(self, way: str) -> None:
        if self.bench.tools is not None:
            self.guard(getattr(self.bench.tools, way))

    def _fit(self, *_: Any) -> None:
        busy = self.bench.runner.busy
        learning = busy and self.bench.runner.title == _TRAINING
        self.jobs.cancel.setToolTip(_CANCEL_TIP if learning else self._plain_tip)
        self.judging.fit()
        self.find.setEnabled(not busy)
        self.take_me.setEnabled(bool(self.doubts.places))
        self.learning.check.setEnabled(not busy)

    # ------------------------------------------------------------------ learning

    def _check(self) -> None:
        session = self.session
        if session is not None:
            self.run("Checking the examples", partial(preflight, session), self._checked)

    def _checked(self, findings: tuple[Finding, ...]) -> str:
        self.learning.show_findings(findings)
        count = len(findings)
        return f"{number_of(count, 'thing')} to know before a round" if count else "Ready for a round"

    def _progressed(self, progress: Any) -> None:
        if progress.payload is self._taken:  # while a step takes long, the last payload comes again and again
            return
        self._taken, hidden = progress.payload, self.learning.plot.isHidden()
        if not self.learning.take(progress.payload):
            return
        if hidden and not self.learning.plot.isHidden():
            self.bring(self.learning.told)
        if getattr(progress.payload, "preview", None) is not None:
            self._show_preview(progress.payload)

    def _show_preview(self, state: TrainingState) -> None:
        """Lay what the network finds by now over its image, if that is the one on screen."""
        session, link, found = self.session, self.bench.link, state.preview
        if session is None or link is None or self._preview is None or found is None or link.labels.image_id is None:
            return
        on_screen = session.image(link.labels.image_id).name == state.preview_name
        if on_screen and found.shape == link.image.shape and self.isVisible():
            self._preview.show((found,), (_PREVIEW,), link.image.affine, None)

    def _end_preview(self, *_: Any) -> None:
        if self._preview is not None:
            self._preview.remove()

    def _learned(self, made: Round) -> str:
        self.bring(self.judging.use)
        notes = made.detail.get("notes") or ()
        return f"{made.detail['title']} is learned" + (f"; {notes[0]}" if notes else "")

    def _ended(self, outcome: Any) -> None:
        session = self.session
        if outcome.title == _TRAINING and outcome.cancelled and session is not None and session.rounds:
            last = session.rounds[-1].detail
            if last.get("stopped") == "cancelled":
                self.jobs.show_state(f"Cancelled; the best so far is kept as {last['title']}, not scored yet")
        self._end_preview()
        self._fit()

    def _compared(self) -> None:
        self._walk(self.judging.differences)
        self.bring(self.judging.enough)

    # ------------------------------------------------------------------ where to go on

    def _find_doubts(self) -> None:
        session = self.session
        if session is not None:
            self.judging.end_compare()
            self.run("Looking for doubtful places", partial(doubtful, session), self._doubted)

    def _doubted(self, found: tuple[Doubt, ...]) -> str:
        self.doubts.show_places([Place(one.image_id, one.corners, one.text, framed=True) for one in found])
        self._walk(self.doubts)
        self._fit()
        self.bring(self.doubts)
        return f"{number_of(len(found), 'place')}, the least sure first; N goes to the next"

    def _take_me(self) -> None:
        self._walk(self.doubts)
        self.doubts.go()

    def _walk(self, places: PlacesList) -> None:
        """N and Shift+N go through these from now on."""
        self._walked = places

    def _step(self, by: int) -> None:
        self._walked.step(by)

    def _go(self, place: Place) -> None:
        if self._guide is not None:
            self.guard(partial(self._guide.go_to, place.image_id, place.box, framed=place.framed))


def _first_thing(found: Counts, cells: int) -> str:
    """What to do first, or '' where a round makes sense."""
    if not cells:
        return "First find cells in Segment, and correct those of one image or of a part of it in Correct."
    if not found.examples:
        return "Start with one image: correct its cells in Correct, then say here that it is reviewed."
    if not found.holdout_cells:
        return "Now review and lock away another image: only so you will see whether a round helped."
    return ""
