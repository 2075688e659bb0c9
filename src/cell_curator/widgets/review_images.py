"""Images that look wrong, with the reasons; a click goes to the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from cell_curator.core.image_flags import ImageFlagParameters
from cell_curator.doubtful_images import image_report, look_at_images
from cell_curator.widgets.controls import Fold, push_button
from cell_curator.widgets.form import ParametersForm
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from cell_curator.session import Session

TITLE = "Images that look wrong"
_HEIGHT = 132
_IMAGE = Qt.ItemDataRole.UserRole


class DoubtfulImages(Fold):
    """What was found when all images were looked at.

    Parameters
    ----------
    run
        Runs a job of the dock that this is part of.
    """

    def __init__(self, bench: Workbench, run: Callable[..., None]) -> None:
        self._bench, self._run = bench, run
        self.look = push_button(
            "Look at all images",
            "Find images that are blurred, over-exposed, empty, unevenly lit, of another magnification, or there twice",
            lambda: self._look(),
        )
        self.state = QLabel()
        self.state.setObjectName("quiet")
        self.state.setWordWrap(True)
        self.list = QListWidget()
        self.list.setWordWrap(True)
        self.list.setFixedHeight(_HEIGHT)
        self.list.setToolTip("Click to see the image")
        self.form = ParametersForm(ImageFlagParameters)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.state, self.list, self.look, self.form):
            layout.addWidget(widget)
        super().__init__(TITLE, content)
        self.list.itemClicked.connect(self._clicked)

    def show_session(self, session: Session) -> None:
        """List what was found, the images in the order of the project."""
        found = image_report(session)
        self.list.clear()
        self.list.setVisible(found is not None and bool(found.flags or found.unread))
        self.state.setText("Nobody looked at them yet" if found is None else found.text)
        self.button.setText(f"{TITLE} ({len(found.flags)})" if found is not None and found.flags else TITLE)
        if found is None:
            return
        reasons = {image: [flag.text for flag in those] for image, those in found.flags.items()} | {
            image: [reason] for image, reason in found.unread
        }
        for record in session.images:
            if record.image_id in reasons:
                lines = [record.name, *(f"• {why}" for why in reasons[record.image_id])]
                item = QListWidgetItem("\n".join(lines))
                item.setData(_IMAGE, record.image_id)
                self.list.addItem(item)

    def _look(self) -> None:
        session = self._bench.session
        if session is not None:
            session.put(self.form.value())
            self._run("Looking at all images", partial(look_at_images, session), lambda found: found.text)

    def _clicked(self, item: QListWidgetItem) -> None:
        if self._bench.session is not None:
            self._bench.session.show_image(item.data(_IMAGE))
