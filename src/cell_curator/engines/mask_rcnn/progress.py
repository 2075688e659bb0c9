"""What a training tells on its way."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[int, float, float | None]
"""Step, mean loss since the point before, loss on held-out images (None: none are held out)."""


@dataclass(frozen=True)
class FinderState:
    """How the training stands; the payload of its `Progress`.

    Parameters
    ----------
    step, steps
        Done and planned (estimated where a time is set).
    loss
        Of the last steps.
    holdout_loss
        At the last look; None without held-out images.
    curve
        Every look.
    best_step
        The network that is kept so far is that of this step; 0: none yet.
    heads_only
        Whether only the last layers learn at the moment.
    """

    step: int
    steps: int
    loss: float
    holdout_loss: float | None
    curve: tuple[Point, ...]
    best_step: int
    heads_only: bool = False
