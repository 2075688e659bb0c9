"""One cell in large: its picture with what is round it, and what is known of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cell_curator.core.jobs import UserError
from cell_curator.widgets.controls import PictureCard
from cell_curator.widgets.gallery_pictures import Key, Look, draw_cells
from cell_curator.widgets.images_model import to_pixmap
from cell_curator.widgets.runner import Background

if TYPE_CHECKING:
    from cell_curator.session import Session

_SIDE = 112


class CellCard(PictureCard):
    """A picture and a few lines; ``blind`` says nothing that could sway a judgement."""

    def __init__(self, background: Background, *, blind: bool = False, side: int = _SIDE) -> None:
        super().__init__(side)
        self._background = background
        self._blind = blind
        self._shown: tuple[int, int] | None = None
        self._look = Look(side, outline=True, surroundings=True, shared_contrast=False)

    def show_cell(self, session: Session | None, cell: int | None) -> None:
        """Show a cell as it is now, or nothing."""
        if session is None or cell is None or cell not in session.cells:
            self._shown = None
            self.picture.clear()
            self.text.clear()
            self.text.setToolTip("")
            return
        row = session.row(cell)
        image_id, key = int(row["image"]), (cell, int(row["revision"]))
        self._describe(session, cell, row)
        if key != self._shown:
            self._shown = key
            self.picture.clear()
            self._background(partial(_drawn, session, image_id, key, self._look), self._made, topic=f"card {id(self)}")

    def try_again(self) -> None:
        """Images changed: a picture that could not be made may be possible now."""
        if self.picture.text():
            self._shown = None

    def forget(self) -> None:
        """The picture is made anew the next time."""
        self._shown = None

    def _describe(self, session: Session, cell: int, row: Any) -> None:
        spacing = self.text.fontMetrics().lineSpacing()
        self.text.setMaximumHeight(self.picture.height() // spacing * spacing)  # whole lines; the tooltip has the rest
        image = session.image(int(row["image"]))
        if self._blind:
            self.text.setText(f"{image.name}<br>{row['area']:.0f} px²")
            return
        verdict = "" if row["verdict"] == "proposed" else f" · {row['verdict']}"
        score = "" if row["score"] != row["score"] else f" · {round(100 * row['score'])} % suspicious"
        reasons = str(row["flags"]).split("; ") if row["flags"] else ["nothing suspicious"]
        lines = [f"<b>Cell {cell}</b>{verdict}{score}", *(f"• {why}" for why in reasons)]
        self.text.setText("<br>".join(lines))
        self.text.setToolTip("<br>".join([image.name, *lines]))

    def _made(self, made: Any) -> None:
        key, pictures = made
        if not pictures and key == self._shown:
            self.picture.setText("The image\ncannot be read")
        for key, picture in pictures.items():
            if key == self._shown:
                self.picture.setPixmap(to_pixmap(picture))


def _drawn(session: Session, image_id: int, key: Key, look: Look) -> Any:
    try:
        return key, draw_cells(session, image_id, [key[0]], look.size, look)
    except UserError:  # the gallery and the image say why
        return key, {}
