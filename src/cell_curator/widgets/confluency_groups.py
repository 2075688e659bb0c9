"""The groups of pixels as a legend of buttons: a group that is pressed in is cells, the others are ground."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from cell_curator.core.colors import cluster_color
from cell_curator.widgets.controls import WHITE_RING, push_button, swatch

if TYPE_CHECKING:
    from cell_curator.core.pixel_clusters import PixelModel

AUTO = "auto"
MOST = 10
_COLUMNS = 4


class GroupButtons(QWidget):
    """One button for each group, the calmest first."""

    chosen = Signal(str)
    """Which groups are cells, as `KmeansParameters.cells` says it."""

    def __init__(self) -> None:
        super().__init__()
        self._auto = True
        self.count = 0  # groups shown
        self.buttons = [self._button(number) for number in range(MOST)]
        self.automatic = push_button(
            "Automatic", "Take the groups that are clearly rougher than the ground (Alt+A)", self.choose_automatic
        )
        self.note = QLabel()
        self.note.setObjectName("quiet")
        self.note.setWordWrap(True)
        grid = QGridLayout()
        grid.setSpacing(4)
        for number, button in enumerate(self.buttons):
            grid.addWidget(button, number // _COLUMNS, number % _COLUMNS)
        grid.addWidget(self.automatic, MOST // _COLUMNS, MOST % _COLUMNS, 1, _COLUMNS - MOST % _COLUMNS)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.note)
        layout.addLayout(grid)

    def show_model(self, model: PixelModel, *, automatic: bool) -> None:
        """Show which groups there are, how large each is, and which are cells."""
        self._auto, self.count = automatic, len(model.centres)
        for number, button in enumerate(self.buttons):
            button.setVisible(number < self.count)
            if number < self.count:
                button.setText(f"{number + 1}: {100 * model.shares[number]:.0f} %")
                button.setChecked(number in model.cells)
        self.automatic.setEnabled(not automatic)
        how = "Chosen automatically" if automatic else "Chosen by you"
        said = f"{how}: pressed-in groups are cells. Click a group here or in the image to change it."
        nothing = f"{model.note[:1].upper()}{model.note[1:]}: no group is cells. " if model.note else ""
        self.note.setText(nothing + said)

    @property
    def cells(self) -> tuple[int, ...]:
        """Numbers of the groups that are cells, from 0."""
        return tuple(n for n, button in enumerate(self.buttons[: self.count]) if button.isChecked())

    def toggle(self, number: int) -> None:
        """Make a group cells, or ground."""
        if number < self.count:
            self.buttons[number].setChecked(not self.buttons[number].isChecked())
            self._tell(number)

    def choose_automatic(self) -> None:
        """Leave the choice to the computer."""
        if not self._auto:
            self.chosen.emit(AUTO)

    def _button(self, number: int) -> QToolButton:
        button = QToolButton()
        button.setObjectName("tool")
        button.setCheckable(True)
        button.setIcon(swatch(cluster_color(number), ring=WHITE_RING))
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setSizePolicy(button.sizePolicy().Policy.Expanding, button.sizePolicy().Policy.Fixed)
        button.setToolTip(
            f"Group {number + 1}, counted from the calmest, and its share of the pixels; pressed in: it is cells "
            f"({(number + 1) % 10})"
        )
        button.clicked.connect(lambda _down: self._tell(number))
        button.hide()
        return button

    def _tell(self, number: int) -> None:
        if not self.cells:  # something must be cells, or there is nothing to measure
            self.buttons[number].setChecked(True)
            return
        self._auto = False
        self.chosen.emit(",".join(str(n + 1) for n in self.cells))
