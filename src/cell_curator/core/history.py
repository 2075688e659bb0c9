"""Undo and redo: an edit applies itself and returns its inverse.

The shape is funtracks' action history. What edits do is their own business; this module only
keeps them in order. Painting keeps napari's own undo and does not come here; `editing` says what
becomes of a step when its pixels were painted over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from psygnal import Signal


class Edit(Protocol):
    """One reversible change."""

    @property
    def title(self) -> str:
        """What the user reads behind "Undo"."""
        ...

    def apply(self) -> Edit:
        """Make the change and return the edit that takes it back."""
        ...


@dataclass(frozen=True)
class EditGroup:
    """Several edits that count as one step; the inverse is the inverses reversed."""

    title: str
    edits: Sequence[Edit]

    def apply(self) -> EditGroup:
        """Apply all in order; if one fails, those before it are taken back."""
        inverses: list[Edit] = []
        try:
            for edit in self.edits:
                inverses.append(edit.apply())
        except Exception:
            for inverse in reversed(inverses):
                inverse.apply()
            raise
        return EditGroup(self.title, tuple(reversed(inverses)))


class History:
    """Edits done and undone. `changed` fires after every step."""

    changed = Signal()

    def __init__(self) -> None:
        self.last_cells: frozenset[int] = frozenset()
        """Cells that the last step concerned, where it knows."""
        self.note = ""
        """What the last step has to say, e.g. that painted pixels stayed; "" if nothing."""
        self._done: list[Edit] = []
        self._undone: list[Edit] = []

    def do(self, edit: Edit) -> None:
        """Apply ``edit`` and remember how to take it back; what was undone before is forgotten."""
        inverse = edit.apply()
        self._done.append(inverse)
        self._undone.clear()
        self._tell(inverse)

    def undo(self) -> bool:
        """Take the last edit back; False if there is none."""
        return self._move(self._done, self._undone)

    def redo(self) -> bool:
        """Do the last undone edit again; False if there is none."""
        return self._move(self._undone, self._done)

    def clear(self) -> None:
        """Forget everything, e.g. when another project is opened."""
        self._done.clear()
        self._undone.clear()
        self.changed.emit()

    @property
    def undo_text(self) -> str:
        """Title of what `undo` would take back, or ''."""
        return self._done[-1].title if self._done else ""

    @property
    def redo_text(self) -> str:
        """Title of what `redo` would do again, or ''."""
        return self._undone[-1].title if self._undone else ""

    def _move(self, source: list[Edit], target: list[Edit]) -> bool:
        if not source:
            return False
        # Applied before it is moved: if it fails, the history still says the truth.
        inverse = source[-1].apply()
        source.pop()
        target.append(inverse)
        self._tell(inverse)
        return True

    def _tell(self, inverse: Edit) -> None:
        self.note = str(getattr(inverse, "note", ""))
        self.last_cells = frozenset(getattr(inverse, "cells", ()))
        self.changed.emit()
