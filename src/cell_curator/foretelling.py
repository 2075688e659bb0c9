"""What a run would do and roughly how long it takes, without doing any of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of
from cell_curator.engines.vae import VaeParameters
from cell_curator.io.images import find_images, read_info
from cell_curator.resuming import map_is_new, to_search
from cell_curator.session import Session

_SECONDS_PER_MEGAPIXEL = 2.0
"""Of the bundled model on two cores of 2024; where a project has searched images, its own pace counts."""

_SECONDS_PER_STEP = 0.08
_LONGEST_PAUSE = 600.0  # seconds between two searched images beyond which somebody was at lunch


@dataclass(frozen=True)
class Plan:
    """What a run would do. ``to_add`` images are new, ``to_search`` are searched in all, ``kept`` stay as they are.

    ``unreadable`` names files that would fail, with the reason; ``seconds`` is a rough guess.
    """

    to_add: int
    to_search: int
    kept: int
    new_map: bool
    unreadable: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def text(self) -> str:
        """The plan in a few lines."""
        new = f" ({self.to_add} of them new)" if self.to_add else ""
        searched = f"{number_of(self.to_search, 'image')} would be searched for cells{new}"
        lines = [f"{searched}, {self.kept} are done already"]
        lines += [f"cannot be read: {file}: {reason}" for file, reason in self.unreadable]
        lines.append("the map would be made" if self.new_map else "the map stays as it is")
        return "\n".join((*lines, f"roughly {_duration(self.seconds)}"))


def foretell(images: Path, session: Session | None, *, again: bool = False) -> Plan:
    """The plan of a run on a folder of images, in a project that is there already or in a new one (None).

    Raises
    ------
    UserError
        If there are no images.
    """
    known = {} if session is None else {(record.path, record.plane): record for record in session.images}
    stale = list(known.values())
    if session is not None and not again:
        stale = to_search(session, stale)
    pixels, added, unreadable = float(sum(r.shape[1] * r.shape[2] for r in stale)), 0, []
    for path in (path.resolve() for path, _ in find_images(images)):
        try:
            info = None if (path, 0) in known else read_info(path)
        except UserError as error:
            unreadable.append((str(path), str(error)))
            continue
        if info is not None:
            added += info.planes
            pixels += info.planes * float(info.shape[1] * info.shape[2])
    searched = len(stale) + added
    new_map = bool(searched) or again or session is None or not map_is_new(session)
    seconds = _pace(session) * searched or _SECONDS_PER_MEGAPIXEL * pixels / 1e6
    if new_map:
        seconds += _SECONDS_PER_STEP * (VaeParameters() if session is None else session.get(VaeParameters)).steps
    return Plan(added, searched, len(known) - len(stale), new_map, tuple(unreadable), seconds)


def _pace(session: Session | None) -> float:
    """Seconds that an image took in this project; 0 if that is not known."""
    if session is None:
        return 0.0
    journal = session.project.journal()
    times = pd.to_datetime(journal.loc[journal["action"] == "segment", "time"])
    between = times.diff().dt.total_seconds().dropna()
    usual = between[between < _LONGEST_PAUSE]
    return float(usual.median()) if len(usual) else 0.0


def _duration(seconds: float) -> str:
    steps: Sequence[tuple[float, float, str]] = ((90, 1, "seconds"), (5400, 60, "minutes"), (1e12, 3600, "hours"))
    size, unit = next((size, unit) for below, size, unit in steps if seconds < below)
    return f"{max(1, round(seconds / size))} {unit}"
