"""Live thresholds: the cells follow the slider, computed from the kept output of the network.

As with previews of pictures, at most one mask step runs at a time, and the newest values are next. While
the slider moves only the picture of the cells changes; they are taken over when the hand rests. Cells that
somebody decided on are drawn as they are, since they stay as they are.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from cell_curator.engines.segmenter import Segmentation, SegmentParameters, rethreshold
from cell_curator.kept_flows import recall
from cell_curator.link.proposal import Proposal
from cell_curator.widgets.live import in_words
from cell_curator.widgets.workbench import Workbench
from cell_curator.workflow import beside_decided

if TYPE_CHECKING:
    from cell_curator.session import Session

_REST_MS = 500
THRESHOLDS = ("cellprob_threshold", "flow_threshold", "min_size", "drop_border")
"""The parameters that need no network."""


Shown = tuple[Segmentation, NDArray[np.int32]]
"""What was found, and the cells as they would be beside those that stay."""


class LiveMasks(QObject):
    """Redoes the mask step of the image on screen."""

    shown = Signal(int)
    """So many cells are on the screen."""
    rested = Signal(int, object, object)
    """Image id, `Segmentation` and the `SegmentParameters` that the hand rests on; call `put_away` in the end."""
    failed = Signal(str)

    def __init__(self, bench: Workbench, parent: QObject) -> None:
        super().__init__(parent)
        self._bench = bench
        self._proposal = Proposal(bench.viewer)
        self._asked = 0
        self._settled = 0
        self._busy = False
        self._wanted: SegmentParameters | None = None
        self._newest: tuple[int, int, Segmentation, SegmentParameters] | None = None
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._on_rest)

    def request(self, parameters: SegmentParameters) -> None:
        """Show these thresholds, if the network's answer for this image is at hand."""
        self._wanted = parameters
        self._asked += 1
        self._rest.start()
        self._start()

    def stop(self) -> None:
        """Forget what is under way."""
        self._asked += 1
        self._wanted = self._newest = None
        self._rest.stop()
        self._proposal.remove()

    def put_away(self) -> None:
        """Show the user's own cells again, unless the hand has moved on."""
        if self._settled == self._asked:
            self._proposal.remove()

    def _start(self) -> None:
        session, wanted = self._bench.session, self._wanted
        if self._busy or session is None or session.current_image is None or wanted is None:
            return
        self._busy = True
        image_id = session.current_image
        self._bench.previews(
            partial(_redo, session, image_id, wanted), partial(self._made, self._asked, image_id, wanted)
        )

    def _made(self, number: int, image_id: int, wanted: SegmentParameters, made: Shown | str | None) -> None:
        self._busy = False
        if isinstance(made, str):
            self.failed.emit(made)
        elif made is not None and self._wanted is not None and self._is_shown(image_id):
            found, labels = made
            self._newest = (number, image_id, found, wanted)
            link = self._bench.link
            assert link is not None
            self._proposal.show(labels, link.image.affine, link.labels.layer)
            self.shown.emit(int(np.count_nonzero(np.bincount(labels.ravel())[1:])))
        if number != self._asked:
            self._start()
        elif not self._rest.isActive():
            self._on_rest()

    def _is_shown(self, image_id: int) -> bool:
        session, link = self._bench.session, self._bench.link
        if session is None or link is None:
            return False
        return bool(session.current_image == image_id == link.labels.image_id)

    def _on_rest(self) -> None:
        if self._newest is None or self._newest[0] != self._asked:
            return  # it follows when the picture is there
        _, image_id, found, wanted = self._newest
        self._newest = None
        self._settled = self._asked
        self.rested.emit(image_id, found, wanted)


def _redo(session: Session, image_id: int, parameters: SegmentParameters) -> Shown | str | None:
    """The cells, or why not; None if the network was not asked yet with this picture, model and diameter."""

    def work() -> Shown | None:
        kept = recall(session, image_id, parameters)
        if kept is None:
            return None
        found = rethreshold(kept, parameters)
        return found, beside_decided(session, image_id, found).labels

    return in_words(work)
