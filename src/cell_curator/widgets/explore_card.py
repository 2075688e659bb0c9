"""The cell under the mouse: its picture with the outline, what is known of it, and the way back to the map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cell_curator.widgets.controls import PictureCard, push_button
from cell_curator.widgets.gallery_pictures import Look, draw_cells
from cell_curator.widgets.images_model import to_pixmap
from cell_curator.widgets.runner import Background

if TYPE_CHECKING:
    from cell_curator.session import Session

_PICTURE = 92
_LOOK = Look(_PICTURE, outline=True, surroundings=True, shared_contrast=False)


class HoverCard(PictureCard):
    """Shows one cell at a time; ``back`` is what the button does."""

    def __init__(self, background: Background, back: Callable[[], Any]) -> None:
        self.back = push_button("Back to the map", "Return to where you were before the click on a point (Home)", back)
        super().__init__(_PICTURE, self.back)
        self._background = background
        self._cell: int | None = None

    def show_cell(self, session: Session, cell: int | None) -> None:
        """Show this cell, or else the one that is chosen."""
        if cell is None and len(session.selection.ids) == 1:
            cell = next(iter(session.selection.ids))
        if cell is None or cell not in session.cells or session.embedding is None:
            self._cell = None
            self.picture.clear()
            chosen = len(session.selection.ids)
            self.text.setText(
                f"<b>{chosen:,} cells are chosen</b>"
                if chosen > 1
                else "Move over a point or a cell to see it here; click to go to it."
            )
            return
        self._cell = cell
        row = session.row(cell)
        image, cluster = session.image(int(row["image"])), int(row["cluster"])
        name = session.embedding.cluster_names.get(cluster, f"Cluster {cluster + 1}") if cluster >= 0 else "no cluster"
        said = (
            image.name if not image.condition or image.condition in image.name else f"{image.condition}: {image.name}"
        )
        self.text.setText(f"<b>Cell {cell}</b> · {row['verdict']}<br>{said}<br>{name} · {row['area']:.0f} px²")
        draw = partial(draw_cells, session, image.image_id, [cell], _PICTURE, _LOOK)
        self._background(draw, self._made, topic="hover")

    def _made(self, pictures: dict[tuple[int, int], Any]) -> None:
        for (cell, _), picture in pictures.items():
            if cell == self._cell:
                self.picture.setPixmap(to_pixmap(picture))
