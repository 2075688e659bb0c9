"""A small network that tells the type of a cell from its picture, see `core.type_patches`.

Four layers of filters, then the mean over the picture: it matters what a cell looks like, not where. Pictures are
turned and mirrored at random while it learns. Scored on images held out, exactly as the other classifiers are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.core.type_classifier import TypeParameters, TypeScores, held_out_scores, names_of
from cell_curator.core.type_model import Floats, softmax
from cell_curator.core.type_patches import PatchModel
from cell_curator.engines.vae.arithmetic import few_threads

_STEPS, _BATCH, _RATE = 300, 32, 3e-3
_WIDTHS = (12, 24, 48, 48)
_SHOWN = 256  # pictures at once when it tells
_FOLDS = 4


def train(
    pictures: NDArray[np.float32],
    types: Sequence[str],
    groups: Sequence[int],
    factor: float,
    params: TypeParameters,
) -> Job[tuple[PatchModel, TypeScores]]:
    """Learn types from pictures ``(N, 2, SIDE, SIDE)``, and score by images held out.

    Parameters
    ----------
    groups
        ``(N,)`` what is never torn apart between learning and scoring.
    factor
        By which images were scaled before the pictures were cut.

    Raises
    ------
    UserError
        As `core.type_classifier.train_types`.
    """
    names = names_of(types)
    y: NDArray[np.int64] = np.array([names.index(name) for name in types], np.int64)
    units: NDArray[np.int64] = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)

    def fit(rows: NDArray[np.intp]) -> Job[Callable[[NDArray[np.intp]], Floats]]:
        module = yield from _learned(pictures[rows], y[rows], len(names), params.seed)
        return lambda out: _scores(module, pictures[out])

    with few_threads():
        temperature, scores = yield from held_out_scores(y, units, names, fit, params.seed, _FOLDS)
        module = yield from _learned(pictures, y, len(names), params.seed)
    weights = {name: value.detach().numpy().astype(np.float32) for name, value in module.state_dict().items()}
    about = {
        "parameters": params.model_dump(mode="json"),
        "cells": {name: int((y == number).sum()) for number, name in enumerate(names)},
        "groups": int(units.max()) + 1,
        "scores": scores.plain(),
    }
    return replace(PatchModel(names, factor, weights), temperature=temperature, about=about), scores


def tell(model: PatchModel, pictures: NDArray[np.float32]) -> Job[Floats]:
    """How likely each cell is of each type ``(N, K)``; rows add up to 1.

    Raises
    ------
    UserError
        If the model's weights are of another architecture.
    """
    import torch

    yield Progress(0.0, "telling types")
    module = _network(len(model.types))
    try:
        module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in model.weights.items()})
    except RuntimeError:
        raise UserError("the model's weights are of another architecture; train it anew") from None
    with few_threads():
        return softmax(_scores(module, pictures) / model.temperature)


def _network(types: int) -> Any:
    from torch import nn

    layers: list[Any] = []
    before = 2
    for width in _WIDTHS:
        first = not layers
        layers.append(nn.Conv2d(before, width, 5 if first else 3, 2 if first else 1, 2 if first else 1, bias=False))
        layers += [nn.GroupNorm(4, width), nn.ReLU(), *([] if first else [nn.MaxPool2d(2)])]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(before, types))


def _learned(pictures: NDArray[np.float32], y: NDArray[np.int64], types: int, seed: int) -> Job[Any]:
    """The network after learning from these; each type is drawn as often as any other."""
    import torch
    from torch.nn.functional import cross_entropy

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _network(types).train()
        optimiser = torch.optim.AdamW(module.parameters(), lr=_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=_STEPS)
        rng = np.random.default_rng(seed)
        members = [np.flatnonzero(y == number) for number in np.unique(y)]
        for step in range(_STEPS):
            rows = np.array([rng.choice(members[rng.integers(len(members))]) for _ in range(_BATCH)])
            shown = torch.from_numpy(_turned(pictures[rows], rng))
            loss = cross_entropy(module(shown), torch.from_numpy(y[rows]), label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            if step % 5 == 0:
                yield Progress(step / _STEPS, "learning from pictures of cells")
    return module.eval()


def _turned(pictures: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Each turned by any angle, mirrored or not, a little larger or smaller and brighter or darker."""
    import cv2

    made = np.empty_like(pictures)
    middle = (pictures.shape[-1] - 1) / 2
    for one, out in zip(pictures, made, strict=True):
        shown = one[:, :, ::-1] if rng.random() < 0.5 else one
        turn = cv2.getRotationMatrix2D((middle, middle), rng.uniform(0, 360), float(np.exp(rng.uniform(-0.1, 0.1))))
        turned = cv2.warpAffine(np.ascontiguousarray(shown.transpose(1, 2, 0)), turn, one.shape[1:])
        out[:] = turned.transpose(2, 0, 1)
        out[0] *= np.float32(rng.uniform(0.8, 1.25))
    return made


def _scores(module: Any, pictures: NDArray[np.float32]) -> Floats:
    """Logarithms of the odds ``(N, K)``, the mean over eight views of each cell."""
    import torch

    parts = []
    module.eval()
    with torch.inference_mode():
        for first in range(0, len(pictures), _SHOWN):
            some = torch.from_numpy(np.ascontiguousarray(pictures[first : first + _SHOWN]))
            views = [torch.rot90(side, turn, (2, 3)) for side in (some, some.flip(3)) for turn in range(4)]
            parts.append(torch.stack([module(view) for view in views]).mean(dim=0).numpy())
    kinds = next(value for name, value in reversed(list(module.state_dict().items())) if name.endswith("bias"))
    result: Floats = np.concatenate([np.zeros((0, len(kinds))), *parts]).astype(np.float64)
    return result
