"""Which cells are selected: one set of cell ids that every view shares."""

from __future__ import annotations

from collections.abc import Iterable

from psygnal import Signal


class Selection:
    """A set of cell ids that tells when it changes."""

    changed = Signal(frozenset)

    def __init__(self) -> None:
        self._ids: frozenset[int] = frozenset()

    @property
    def ids(self) -> frozenset[int]:
        """The selected cells."""
        return self._ids

    def set(self, ids: Iterable[int]) -> None:
        """Select exactly these cells; views are told only if that is a change."""
        new = frozenset(map(int, ids))
        if new != self._ids:
            self._ids = new
            self.changed.emit(new)

    def clear(self) -> None:
        """Select nothing."""
        self.set(())
