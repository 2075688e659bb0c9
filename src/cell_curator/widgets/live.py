"""The live preview: the picture follows the slider, and full resolution follows when the hand rests.

At most one picture is computed at a time; when it is shown, the newest values are next, and those in
between are passed over. What takes longer waits until nothing has changed for a moment, and is computed
in a thread of its own, so that the next move of a slider does not wait for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from cell_curator.core.jobs import UserError
from cell_curator.core.look import Look, Study, look
from cell_curator.core.preview import Preview
from cell_curator.core.recipe import Recipe
from cell_curator.link.target import Target, View, studied, whole
from cell_curator.widgets.workbench import Workbench

log = logging.getLogger(__name__)

_REST_MS = 300
_CAMERA_MS = 60


@dataclass(frozen=True)
class Rest:
    """What follows when the hand rests."""

    picture: Preview
    complete: bool
    """Whether the picture is the whole image, so that nothing else can come into view."""
    study: Study


class Live(QObject):
    """Previews of one recipe on one target.

    Parameters
    ----------
    bench
        Lends its threads.
    target
        What to preview now, or None.
    """

    looked = Signal(object)
    """A `Look` was shown."""
    rested = Signal(object)
    """A `Rest` was shown."""
    failed = Signal(str)
    """Why there is no picture, in one line."""

    def __init__(self, bench: Workbench, target: Callable[[], Target | None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._bench, self._target = bench, target
        self._recipe: Recipe | None = None
        self._asked = 0
        self._busy = False
        self._whole = False
        self._rest = self._timer(_REST_MS, self._on_rest)
        self._camera = self._timer(_CAMERA_MS, self._on_camera)
        self._asked_at = 0.0
        self.seconds = 0.0
        """From the change of a value to its picture, for the picture shown last."""

    def request(self, recipe: Recipe) -> None:
        """Show this recipe, now."""
        self._recipe = recipe
        self._asked += 1
        self._asked_at = time.perf_counter()
        self._whole = False
        self._rest.start()
        self._start()

    def camera_moved(self, *_: Any) -> None:
        """Compute what came into view, unless all of the image is there."""
        if self._recipe is not None and not self._whole:
            self._camera.start()

    def stop(self) -> None:
        """Forget everything that is under way."""
        self._recipe = None
        self._asked += 1
        self._rest.stop()
        self._camera.stop()

    def _on_camera(self) -> None:
        if self._recipe is not None:
            self.request(self._recipe)

    def _start(self) -> None:
        target, recipe = self._target(), self._recipe
        if self._busy or target is None or recipe is None:
            return
        view = target.view()
        if view is None:
            return
        self._busy = True
        self._bench.previews(
            partial(_look, target, recipe, view), partial(self._looked, target, self._asked, self._asked_at)
        )

    def _looked(self, target: Target, number: int, asked_at: float, made: Look | str) -> None:
        self._busy = False
        if isinstance(made, str):
            if number == self._asked:
                self._rest.stop()
                self.failed.emit(made)
        elif self._is_current(target) and not (number == self._asked and self._whole) and target.show(made.preview):
            self.seconds = time.perf_counter() - asked_at
            self.looked.emit(made)
        if number != self._asked:
            self._start()

    def _on_rest(self) -> None:
        target, recipe = self._target(), self._recipe
        if target is not None and recipe is not None:
            self._bench.studies(
                partial(_rest, target, recipe, target.view()),
                partial(self._rested, target, self._asked),
                topic="rest",
            )

    def _rested(self, target: Target, number: int, made: Rest | str) -> None:
        if number != self._asked or not self._is_current(target):
            return
        if isinstance(made, str):
            self.failed.emit(made)
            return
        target.turn(made.study.angle_deg)
        if target.show(made.picture):
            self._whole = made.complete
            self.rested.emit(made)

    def _is_current(self, target: Target) -> bool:
        now = self._target()
        return self._recipe is not None and now is not None and now.key == target.key

    def _timer(self, milliseconds: int, slot: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(slot)
        return timer


def _look(target: Target, recipe: Recipe, view: View) -> Look | str:
    def work() -> Look:
        image, known = target.source()
        return look(image, target.recipe(recipe), region=view[0], step=view[1], whole=known)

    return in_words(work)


def _rest(target: Target, recipe: Recipe, view: View | None) -> Rest | str:
    def work() -> Rest:
        own = target.recipe(recipe)
        picture = whole(target, own, view)
        return Rest(picture, picture.image.shape == target.source()[1].shape, studied(target, own, view))

    return in_words(work)


def in_words(work: Callable[[], Any]) -> Any:
    """The result, or why there is none in one line: a preview that fails must not end the previews."""
    try:
        return work()
    except UserError as error:
        return str(error)
    except Exception as error:
        log.exception("a preview failed")
        return f"{type(error).__name__}: {error}; please report this with the log"
