"""How well cells are found *and* told apart: COCO's mean average precision, type by type, by pycocotools.

Area under the curve of precision and recall over all scores (Lin et al. 2014, arXiv:1405.0312), so a cell that is found
with little certainty costs little. Unlike COCO's own summary there is no limit of 100 finds to an image. Cells whose
true type nobody knows count neither way.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError

_NO_LIMIT = 1_000_000
_NOT_SAID = 1e-3  # probability below which a type is not said of a cell


@dataclass(frozen=True)
class Truth:
    """The cells of one image, ``labels`` ``(Y, X)``, and the type of each label; those missing there are unknown."""

    labels: NDArray[np.integer[Any]]
    types: Mapping[int, str]


@dataclass(frozen=True)
class Said:
    """What was found in it: ``labels`` ``(Y, X)`` 1..n; how likely each is a cell of each type, ``(n, K)``."""

    labels: NDArray[np.integer[Any]]
    likely: NDArray[np.float64]


@dataclass(frozen=True)
class CocoScores:
    """``map50``: mean over the types of AP at an overlap of 0.5. ``map``: mean over overlaps 0.5, 0.55 … 0.95.

    ``per_type``: index type, columns ``ap50``, ``ap``, NaN for a type of which there is no true cell; such a type is
    in no mean.
    """

    map50: float
    map: float
    per_type: pd.DataFrame


def coco_scores(truth: Sequence[Truth], said: Sequence[Said], types: Sequence[str]) -> CocoScores:
    """Score what was found in images against the truth.

    Raises
    ------
    UserError
        If pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO  # type: ignore[import-untyped]
        from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]
    except ImportError:
        raise UserError(
            "mean average precision needs pycocotools; install it with pip install 'napari-cell-curator[formats]'"
        ) from None
    true = [annotation for image, one in enumerate(truth, 1) for annotation in _true(image, one, types)]
    found = [annotation for image, one in enumerate(said, 1) for annotation in _found(image, one)]
    for number, annotation in enumerate((*true, *found), 1):
        annotation["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it does
        data = _indexed(COCO, truth, types, true)
        run = COCOeval(data, _indexed(COCO, truth, types, found), "segm")
        run.params.maxDets = [_NO_LIMIT]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., 0, 0]  # (overlaps, recalls, types), -1 where there is no true cell
    rows = {}
    for number, name in enumerate(types):
        part = precision[:, :, number]
        rows[name] = (part[0].mean(), part.mean()) if (part > -1).any() else (np.nan, np.nan)
    table = pd.DataFrame.from_dict(rows, "index", columns=["ap50", "ap"])
    return CocoScores(float(table["ap50"].mean()), float(table["ap"].mean()), table)


def _indexed(coco: Any, truth: Sequence[Truth], types: Sequence[str], annotations: list[dict[str, Any]]) -> Any:
    made = coco()
    made.dataset = {
        "images": [
            {"id": number, "height": one.labels.shape[0], "width": one.labels.shape[1]}
            for number, one in enumerate(truth, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(types, 1)],
    }
    made.createIndex()
    return made


def _true(image: int, one: Truth, types: Sequence[str]) -> list[dict[str, Any]]:
    numbers = {name: number for number, name in enumerate(types, 1)}
    made = []
    for label, run in _runs(one.labels):
        known = numbers.get(one.types.get(label, ""))
        for number in numbers.values() if known is None else (known,):
            made.append(_annotation(image, number, run, iscrowd=int(known is None)))
    return made


def _found(image: int, one: Said) -> list[dict[str, Any]]:
    return [
        _annotation(image, number, run, score=float(chance), iscrowd=0)
        for label, run in _runs(one.labels)
        for number, chance in enumerate(one.likely[label - 1], 1)
        if chance >= _NOT_SAID
    ]


def _annotation(image: int, number: int, run: dict[str, Any], **more: Any) -> dict[str, Any]:
    from pycocotools import mask  # type: ignore[import-untyped]

    about = {"image_id": image, "category_id": number, "segmentation": run, "area": float(mask.area(run))}
    return {**about, "bbox": mask.toBbox(run).tolist(), **more}


def _runs(labels: NDArray[np.integer[Any]]) -> list[tuple[int, dict[str, Any]]]:
    from pycocotools import mask  # type: ignore[import-untyped]

    return [
        (int(label), mask.encode(np.asfortranarray(labels == label, dtype=np.uint8)))
        for label in np.unique(labels[labels > 0])
    ]
