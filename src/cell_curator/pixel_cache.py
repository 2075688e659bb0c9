"""The arrays that a session has at hand: of the images looked at last, up to so many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
MOST_BYTES = 1_000_000_000


class PixelCache:
    """Values by key, the one used least recently goes first. Safe to use from several threads.

    Keys are tuples whose first two parts say what it is and of which image. The value made last stays, however
    large it is.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def get(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The value, made if it is not there; two threads may make it at the same time."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                kept: T = self._values[key]
                return kept
        value = make()
        self.put(key, value)
        return value

    def put(self, key: tuple[Any, ...], value: Any) -> None:
        """Keep a value."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            total = sum(size_of(kept) for kept in self._values.values())
            while total > self._most and len(self._values) > 1:
                total -= size_of(self._values.popitem(last=False)[1])

    def forget(self, kind: str, image_id: int) -> None:
        """Drop what is kept of one image."""
        with self._lock:
            for key in [key for key in self._values if key[:2] == (kind, image_id)]:
                del self._values[key]


def size_of(value: Any) -> int:
    """Bytes of an array, or of the arrays in the attributes of something that holds some."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if isinstance(value, tuple | list):
        return sum(size_of(part) for part in value)
    return sum(size_of(part) for part in getattr(value, "__dict__", {}).values())
