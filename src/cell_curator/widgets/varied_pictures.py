"""How pictures are varied while a network learns, shown on a piece of the image on screen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QLabel, QWidget

from cell_curator.engines.augment import PREVIEW, AugmentParameters
from cell_curator.widgets.controls import Fold, push_button, stacked
from cell_curator.widgets.images_model import to_pixmap

if TYPE_CHECKING:
    from cell_curator.core.jobs import Job
    from cell_curator.session import Session
    from cell_curator.widgets.dock import Dock

_PIECE, _VARIANTS = 192, 8


class VariedPictures(Fold):
    """A fold with ``above`` (settings, say), a sheet of pictures and a button for others.

    Parameters
    ----------
    dock
        Runs the job, in the worker.
    params
        By which pictures are varied.
    """

    def __init__(self, dock: Dock, params: Callable[[], AugmentParameters], *above: QWidget) -> None:
        self._dock, self._params, self._seed = dock, params, 0
        self.sheet = QLabel()
        self.others = push_button(
            "Show how pictures are varied", "Variants of a piece of this image, as a network sees them", self._ask
        )
        super().__init__("More: pictures are varied", stacked(*above, self.sheet, self.others))

    def forget(self) -> None:
        """Show no pictures."""
        self.sheet.clear()

    def _ask(self) -> None:
        session = self._dock.session
        if not self._params().varies:
            self.forget()
            self._dock.jobs.show_state("Nothing is varied: every chance is 0; raise one above to see what it does")
        elif session is not None and session.current_image is not None:
            job = partial(_varied, session, session.current_image, self._params(), self._seed)
            self._seed += 1
            self._dock.run("Varying pictures", job, self._show)

    def _show(self, sheet: NDArray[np.uint8]) -> str:
        self.sheet.setPixmap(to_pixmap(sheet).scaledToWidth(max(self.width() - 4, 200)))
        self._dock.bring(self.others)
        return "The first picture is as it is, the others are varied"


def _varied(session: Session, image_id: int, params: AugmentParameters, seed: int) -> Job[Any]:
    prepared, labels = session.prepare(image_id).image, session.labels(image_id)
    top, left = (max(0, (side - _PIECE) // 2) for side in labels.shape)
    part = (slice(top, top + _PIECE), slice(left, left + _PIECE))
    sheet = session.execute(
        PREVIEW, image=prepared[part][None], labels=labels[part], params=params, n=_VARIANTS, seed=seed
    )
    return (yield from sheet)
