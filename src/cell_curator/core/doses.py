"""Conditions that are amounts: their order, and what the amounts are.

Read from names alone: "dose 02", "10 nM", "0.5_uM". A name counts as an amount only if all of them do and differ in
nothing but the number, so that wild type and knock-out, or plates A1 and B2, are never put on a scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_AMOUNT = re.compile(r"(\D*?)((?:^[-−])?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(\D*)", re.IGNORECASE)
_UNIT = re.compile(r"(\W*)([pnuµμmk]?)(M|mol/[lL]|g/[mµ]?[lL]|g|m|s|[lL]|V|Pa)")
_PREFIXES = {"": 1.0, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3, "k": 1e3}
_NOTHING = ("control", "ctrl", "untreated", "vehicle", "dmso", "mock", "none")
"""Names that stand for an amount of 0 beside amounts."""


def doses(names: Iterable[str]) -> dict[str, float] | None:
    """The amount that each name tells, the smallest first; None if they are not amounts of one thing.

    Beside two or more amounts, one name such as "control" or "DMSO" is 0.
    """
    known = list(dict.fromkeys(names))
    nothing = [name for name in known if name.strip().casefold() in _NOTHING]
    read = [_AMOUNT.fullmatch(name.strip()) for name in known if name not in nothing]
    if len(read) < 2 or len(nothing) > 1 or any(one is None for one in read):
        return None
    parts = [(one[1].casefold(), float(one[2].replace("−", "-")), one[3]) for one in read if one is not None]
    scales = _scales([part[2] for part in parts])
    if scales is None or len({part[0] for part in parts}) > 1:
        return None
    values = [value * scale for (_, value, _), scale in zip(parts, scales, strict=True)]
    amounts = [name for name in known if name not in nothing]
    found = dict(zip(amounts, values, strict=True)) | dict.fromkeys(nothing, 0.0)
    if len(set(found.values())) < len(found):
        return None
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


def _scales(units: list[str]) -> list[float] | None:
    """What to multiply the numbers before these units by, so that they can be compared; None if they cannot."""
    if len({unit.casefold() for unit in units}) == 1:
        return [1.0] * len(units)
    read = [_UNIT.fullmatch(unit) for unit in units]
    if any(one is None for one in read) or len({one[3] for one in read if one is not None}) > 1:
        return None
    return [_PREFIXES[one[2]] for one in read if one is not None]


def in_order(names: Iterable[str]) -> list[str]:
    """The different names: by their amounts if they are amounts, else ``B2`` before ``B10``."""
    known = set(names)
    found = doses(sorted(known, key=natural_key))
    return sorted(known, key=natural_key) if found is None else list(found)


def natural_key(text: str) -> tuple[Any, ...]:
    """Sort key that puts ``B2`` before ``B10``, whatever the case."""
    return (*((part.isdigit(), int(part) if part.isdigit() else part.casefold())
              for part in re.split(r"([0-9]+)", text)), text)  # fmt: skip
