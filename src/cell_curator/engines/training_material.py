"""From examples to what the loop needs: usable images, hold-out, preview, and what the card will say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, UserError, scaled
from cell_curator.core.words import number_of
from cell_curator.engines.cellpose_unet import inverted
from cell_curator.engines.finetune import TrainParameters
from cell_curator.engines.network import resize
from cell_curator.engines.training_data import (
    Decide,
    Example,
    Reviewed,
    Source,
    diameter_of,
    fingerprint,
    polarities,
    review,
    sources,
    typical_diameter,
)


@dataclass(frozen=True)
class View:
    """What the network is shown for the preview.

    Parameters
    ----------
    planes
        ``(C, y, x)`` float32 at the size that the network expects.
    shape
        ``(Y, X)`` of the image.
    window
        The part of it that is shown.
    diameter
        px.
    """

    name: str
    planes: NDArray[np.float32]
    shape: tuple[int, int]
    window: tuple[slice, slice]
    diameter: float


@dataclass(frozen=True)
class Material:
    """Everything that a training learns from and looks at.

    Parameters
    ----------
    diameter
        Mean over the images of their typical diameter, px.
    fingerprint
        Changes with any pixel, cell or reviewed area.
    details
        For the card.
    """

    train: tuple[Source, ...]
    holdout: tuple[Source, ...]
    view: View | None
    diameter: float
    fingerprint: str
    details: dict[str, Any] = field(default_factory=dict)


def gather(
    train: Sequence[Example],
    holdout: Sequence[Example],
    preview: Example | None,
    params: TrainParameters,
    decide: Decide,
    diam_mean: float,
    foreground: bool = False,
) -> Job[Material]:
    """Make all examples ready; ``foreground`` as in `training_data.sources`.

    Raises
    ------
    UserError
        If no image has cells enough.
    """
    learned, left_out = _usable(review(train), params.min_train_masks)
    judged = [one for one in review(holdout) if one.counts.any()]
    typical = typical_diameter(np.concatenate([one.areas for one in learned]))
    seen = review([preview]) if preview is not None else []
    dark = yield from scaled(polarities([*learned, *judged, *seen], len(learned), decide, typical), 0.0, 0.6)
    expected = diam_mean if params.rescale else 0.0
    both = [*learned, *judged]
    ready = sources(both, dark[: len(both)], typical, expected, params.scale_range, foreground)
    made = yield from scaled(ready, 0.6, 1.0)
    ours, theirs = tuple(made[: len(learned)]), tuple(made[len(learned) :])
    details: dict[str, Any] = {
        "learned_from": {source.name: source.cells for source in ours},
        "diameters_px": {source.name: round(source.diameter, 1) for source in ours},
        "shown_inverted": [source.name for source in made if source.inverted],
    }
    if left_out:
        details["left_out"] = dict.fromkeys(left_out, f"fewer than {params.min_train_masks} reviewed cells")
    return Material(
        train=ours,
        holdout=theirs,
        view=_view(seen[0], dark[-1], typical, expected) if seen else None,
        diameter=float(np.mean([source.diameter for source in ours])),
        fingerprint=fingerprint(train, holdout),
        details=details,
    )


def _usable(reviewed: Sequence[Reviewed], fewest: int) -> tuple[list[Reviewed], list[str]]:
    """The images with cells enough, and the names of the others."""
    looked_at = [one for one in reviewed if one.counts.any()]
    cells = sum(len(one.areas) for one in looked_at)
    if not cells:
        raise UserError(
            "no reviewed cell to learn from; mark a region (or the whole image) as reviewed in which cells lie whole, "
            "then train again"
        )
    kept = [one for one in looked_at if len(one.areas) >= fewest]
    if not kept:
        raise UserError(
            f"no image has the {fewest} reviewed cells that are asked for ({number_of(cells, 'cell')} in "
            f"{number_of(len(looked_at), 'image')}); "
            "review more cells, or lower “Fewest cells”"
        )
    return kept, [one.name for one in looked_at if len(one.areas) < fewest]


def _view(seen: Reviewed, dark: bool, typical: float, diam_mean: float) -> View:
    """The box round what counts in the preview (all of it if nothing does), as the network is shown it."""
    counts = seen.counts if seen.counts.any() else np.ones_like(seen.counts)
    there = [np.flatnonzero(counts.any(axis=axis)) for axis in (1, 0)]
    rows, cols = (slice(int(at[0]), int(at[-1]) + 1) for at in there)
    planes = inverted(seen.planes, dark)[:, rows, cols]
    diameter = diameter_of(seen, typical)
    zoom = diam_mean / diameter if diam_mean else 1.0
    size = (max(8, round(planes.shape[1] * zoom)), max(8, round(planes.shape[2] * zoom)))
    return View(
        name=seen.name,
        planes=np.stack([resize(plane, size) for plane in planes]),
        shape=(counts.shape[0], counts.shape[1]),
        window=(rows, cols),
        diameter=diameter,
    )
