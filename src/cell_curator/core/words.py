"""Words in lines for the user."""

from __future__ import annotations


def number_of(count: int, noun: str) -> str:
    """``"1 cell"``, ``"2 cells"``, ``"12,000 cells"``."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"
