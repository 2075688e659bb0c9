"""Two cell types: how well cells are found and told apart, in two ways, in images of one type and in mixed ones.

    python benchmarks/cell_types.py [--images DIR] [--types NAME NAME] [--train N] [--splits N] [--keep DIR]
                                    [--pictures] [--quick]

By default VAMPIRE (mouse fibroblasts, wild type and lamin A/C knock-out; Phillip et al. 2021, GPL-3: measured only,
and nothing made from it is kept). DIR holds one folder for each type, with ``images`` and ``labels`` of the same names.
For each split N images of each type are learned from and the others scored on.

*Mask R-CNN* finds cells and types at once, from random weights. *Cells, then types*: the bundled network, trained on
from the images learned from, finds the cells, and a classifier of cells tells their types. Thresholds of the first,
and classifier and figures of the second, are those that do best on the images learned from (the latter on some held
out *within* them); the test images are read once, by these. mean AP at an overlap of 0.5 is COCO's, with every find
said to be of each type as likely as the network or classifier has it, ranked for the second way also by how sure its
shape is. Everything is trained in one thread and for a number of steps, so another computer only takes other time.

Mixed composites are made of cells cut out of test images (see `core.composites`) and measured anew there: the type of
each cell is known, and no cell of a training image is in it. The classifier is given their masks, the Mask R-CNN
has to find them: a cell that it does not find counts as told wrong. Each cell is in three composites, turned
otherwise and beside others, so there are a third as many different cells.

The last line is a JSON list of figures; the reference is what earlier work reached on its own data (.526), and for
cells what always saying the commoner type gives. ``seconds_learning`` is processor time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cell_curator.core.coco_scores import Said, Truth, coco_scores
from cell_curator.core.composites import Composite, Crop, compose, cut_cells
from cell_curator.core.found_types import FinderScores, finder_scores
from cell_curator.core.jobs import drive
from cell_curator.core.measure import measure
from cell_curator.core.type_classifier import TypeParameters, confusion_of, train_types
from cell_curator.core.type_figures import type_figures
from cell_curator.core.type_model import TypeModel
from cell_curator.core.type_patches import PatchModel, factor_of, pictures
from cell_curator.engines import cell_classifier
from cell_curator.engines.cards import find_model
from cell_curator.engines.finetune import PRESETS, best_so_far, finetune
from cell_curator.engines.mask_rcnn import MaskRcnnParameters
from cell_curator.engines.mask_rcnn.material import TypedImage
from cell_curator.engines.mask_rcnn.model import is_finder, read_about
from cell_curator.engines.mask_rcnn.prediction import find
from cell_curator.engines.mask_rcnn.training import train as train_finder
from cell_curator.engines.segmenter import SegmentParameters, rethreshold, segment_image
from cell_curator.engines.training_data import Example
from cell_curator.io.images import read_image

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "vampire_mef"
_GOAL_CELLS, _GOAL_MAP, _PUBLISHED_MAP = 0.8, 0.6, 0.526
_SHAPE = (1024, 1280)
_WAYS = [(method, figures) for figures in ("shape", "look", "all") for method in ("logistic", "boosting")]
_THRESHOLDS = list(itertools.product((-3.0, -2.0, -1.0, 0.0), (0.4, 0.8)))
_SMALLEST = 1000  # px; no cell of these images is smaller
_FINDER = MaskRcnnParameters(minutes=0, steps=500, cell_side=40, crop=192, holdout=0, threads=1, drop_border=True)
_CELLPOSE = PRESETS["quick"].model_copy(
    update={"minutes": 0.0, "schedule": "cosine", "epochs": 16, "tile": 224, "keep": "last", "threads": 1}
    | {"evaluate_every": 16, "polarity": "bright"}
)


@dataclass(frozen=True)
class Picture:
    """One image of one type, with its cells and their measurements."""

    name: str
    type: str
    image: np.ndarray
    labels: np.ndarray
    cells: pd.DataFrame

    @property
    def truth(self) -> Truth:
        """As COCO has it."""
        return Truth(self.labels, dict.fromkeys(np.unique(self.labels[self.labels > 0]).tolist(), self.type))


def read(folder: Path, types: list[str]) -> list[Picture]:
    """All images of these types."""
    found = []
    for kind in types:
        for file in sorted((folder / kind / "images").glob("*.tif")):
            image = read_image(file)[0]
            labels = read_image(folder / kind / "labels" / file.name)[0].astype(np.int32)
            cells = measure(labels, image[None]).assign(image=f"{kind}/{file.name}", type=kind)
            found.append(Picture(f"{kind}/{file.name}", kind, image, labels, cells))
    return found


# ---------------------------------------------------------------------- cells, then types


@dataclass(frozen=True)
class Classifier:
    """What tells types of cells that are outlined, how it is called, and its mean recall within the training images."""

    model: TypeModel | PatchModel
    way: str
    within: float

    def likely(self, image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """``(n, K)`` for labels 1..n."""
        count = int(labels.max(initial=0))
        if not count:
            return np.zeros((0, len(self.model.types)))
        if isinstance(self.model, PatchModel):
            shown = pictures(image, labels, range(1, count + 1), self.model.factor)
            return drive(cell_classifier.tell(self.model, shown))
        cells = measure(labels, image[None]).reindex(range(1, count + 1))
        return self.model.probabilities(type_figures(cells, self.model.about["parameters"]["figures"])).to_numpy()


def learn_classifier(learned: list[Picture], seed: int, ways: list[tuple[str, str]]) -> Classifier:
    """The way that does best on images held out among these."""
    cells = pd.concat([picture.cells for picture in learned], ignore_index=True)
    factor = factor_of(np.maximum(cells["bottom"] - cells["top"], cells["right"] - cells["left"]).tolist())
    best = None
    for method, figures in ways:
        params = TypeParameters(method=method, figures=figures, seed=seed)
        if method == "cnn":
            shown = [pictures(p.image, p.labels, p.cells.index.tolist(), factor) for p in learned]
            groups = pd.factorize(cells["image"])[0].tolist()
            job = cell_classifier.train(np.concatenate(shown), cells["type"].tolist(), groups, factor, params)
        else:
            job = train_types(type_figures(cells, figures), cells["type"], cells["image"], params)
        model, scores = drive(job)
        print(f"  seed {seed}: {method}, {figures}: {scores.balanced:.3f} within training", flush=True)
        if best is None or scores.balanced > best.within:
            best = Classifier(model, method if method == "cnn" else f"{method}, {figures}", scores.balanced)
    assert best is not None
    return best


def learn_cells(learned: list[Picture], seed: int, epochs: int, folder: Path) -> SegmentParameters:
    """The bundled network, trained on from these; and the thresholds at which it finds their cells best."""
    made = best_so_far(folder)
    if made is None:
        examples = [
            Example(p.name, p.image.astype(np.float32), p.labels, np.ones(p.labels.shape, bool)) for p in learned
        ]
        params = _CELLPOSE.model_copy(update={"epochs": epochs, "evaluate_every": epochs, "seed": seed})
        made = drive(finetune(find_model("starter-nuclei"), examples, [], params, folder, resume=False))
    plain = SegmentParameters(
        model=str(made.weights),
        diameter=made.diameter,
        polarity="bright",
        min_size=_SMALLEST,
        drop_border=True,
        threads=1,
    )
    looked_at = learned[::4] if epochs == 1 else learned[::2]
    found = [drive(segment_image(picture.image.astype(np.float32), plain)) for picture in looked_at]
    best = (-1.0, plain)
    for cells, shape in _THRESHOLDS:
        tried = plain.model_copy(update={"cellprob_threshold": cells, "flow_threshold": shape})
        said = [_sure(rethreshold(one, tried)) for one in found]
        score = coco_scores(
            [Truth(p.labels, dict.fromkeys(p.truth.types, "cell")) for p in looked_at],
            [Said(labels, sure[:, None]) for labels, sure in said],
            ["cell"],
        ).map50
        if score > best[0]:
            best = (score, tried)
    print(
        f"  seed {seed}: cell threshold {best[1].cellprob_threshold}, shape tolerance {best[1].flow_threshold}: "
        f"AP@0.5 {best[0]:.3f} of cells in the images learned from",
        flush=True,
    )
    return best[1]


def _sure(found: Any) -> tuple[np.ndarray, np.ndarray]:
    return found.labels, 1 / (1 + np.maximum(found.flow_error[1:], 0))


def cells_then_types(cells: SegmentParameters, types: Classifier, image: np.ndarray) -> Said:
    """Cells of an image with their types."""
    labels, sure = _sure(drive(segment_image(image.astype(np.float32), cells)))
    return Said(labels, types.likely(image, labels) * sure[:, None])


# ---------------------------------------------------------------------- Mask R-CNN


def learn_finder(learned: list[Picture], names: list[str], seed: int, steps: int, folder: Path) -> Path:
    """The folder of a network that learned from these."""
    if not is_finder(folder) or read_about(folder).details["stopped"] == "cancelled":
        images = [TypedImage(p.name, p.name, p.image, p.labels, p.truth.types) for p in learned]
        params = _FINDER.model_copy(update={"steps": steps, "seed": seed})
        drive(train_finder(images, names, params, folder))
    return folder


def at_once(folder: Path, image: np.ndarray) -> Said:
    """Cells of an image with their types, as the network finds them."""
    found = drive(find(image, folder, score=0.05, drop_border=True, threads=1))
    return Said(found.labels, found.likely * found.score[:, None])


# ---------------------------------------------------------------------- composites


def mixed(held: list[Picture], seed: int, copies: int) -> list[Composite]:
    """Composites of all cells of these pictures, each cell ``copies`` times."""
    rng = np.random.default_rng(seed)
    crops: list[Crop] = []
    grounds = []
    for picture in held:
        cut, ground = cut_cells(picture.image, picture.labels, picture.type)
        crops += cut
        grounds.append(ground)
    made = []
    for _ in range(copies):
        waiting = [crops[i] for i in rng.permutation(len(crops))]
        while waiting:
            composite, left = compose(waiting, np.concatenate(grounds), _SHAPE, rng)
            if len(left) == len(waiting):
                break
            made.append(composite)
            waiting = left
    return made


def told(types: Classifier, images: list[tuple[np.ndarray, np.ndarray, dict[int, str]]]) -> dict[str, Any]:
    """How often the type of outlined cells is told right."""
    true, said = [], []
    for image, labels, known in images:
        order = sorted(known)
        numbers = np.zeros(int(labels.max()) + 1, np.int32)
        numbers[order] = np.arange(1, len(order) + 1)
        likely = types.likely(image, numbers[labels])
        true += [known[label] for label in order]
        said += [types.model.types[number] for number in likely.argmax(axis=1)]
    truth, answer = pd.Series(true), pd.Series(said)
    counts, per_type = confusion_of(truth, answer, types.model.types)
    return {
        "cells": len(truth),
        "accuracy": float((truth == answer).mean()),
        "balanced": float(per_type["recall"].mean()),
        "always": float(truth.value_counts(normalize=True).max()),
        "confusion": counts.to_numpy().tolist(),
    }


def found_and_told(scores: FinderScores) -> dict[str, Any]:
    """The same of a network that had to find them."""
    cells = scores.per_type["cells"]
    return {
        "cells": int(cells.sum()),
        "accuracy": scores.accuracy,
        "balanced": scores.balanced,
        "always": float(cells.max() / cells.sum()),
        "confusion": scores.confusion.to_numpy().tolist(),
    }


# ---------------------------------------------------------------------- all of it


def run(
    all_of_them: list[Picture], seed: int, train: int, ways: list[tuple[str, str]], quick: bool, place: Path
) -> dict[str, Any]:
    """One split."""
    rng = np.random.default_rng(seed)
    learned: list[Picture] = []
    held: list[Picture] = []
    names = sorted({picture.type for picture in all_of_them})
    for kind in names:
        mine = [picture for picture in all_of_them if picture.type == kind]
        order = rng.permutation(len(mine))
        learned += [mine[i] for i in order[:train]]
        held += [mine[i] for i in order[train:]]
    clock = time.process_time()
    types = learn_classifier(learned, seed, ways)
    cells = learn_cells(learned, seed, 1 if quick else _CELLPOSE.epochs, place / f"cells-{seed}")
    between = time.process_time()
    finder = learn_finder(learned, names, seed, 4 if quick else _FINDER.steps, place / f"mask-rcnn-{seed}")
    seconds = {"cells": between - clock, "mask-rcnn": time.process_time() - between}
    truth = [picture.truth for picture in held]
    scores = {
        "cells": coco_scores(truth, [cells_then_types(cells, types, p.image) for p in held], names),
        "mask-rcnn": coco_scores(truth, [at_once(finder, p.image) for p in held], names),
    }
    together = mixed(held, seed, 1 if quick else 3)
    composites = [(one.image, one.labels, one.types) for one in together]
    singles = [(p.image, p.labels, p.truth.types) for p in held]
    result: dict[str, Any] = {"seed": seed, "way": types.way, "seconds": seconds, "names": names}
    for way, one in scores.items():
        result[f"map {way}"] = {
            "map50": one.map50, "map": one.map, "per_type": one.per_type["ap50"].round(3).to_dict()
        }  # fmt: skip
    for name, images in (("mixed", composites), ("single", singles)):
        result[f"{name} cells"] = told(types, images)
        seen = [Truth(labels, known) for _, labels, known in images]
        result[f"{name} mask-rcnn"] = found_and_told(
            finder_scores(seen, [at_once(finder, image) for image, _, _ in images], names)
        )
    print(f"seed {seed}, {types.way} ({types.within:.2f} within training), {len(composites)} composites")
    for way in scores:
        ap, mix, one = (result[f"{name} {way}"] for name in ("map", "mixed", "single"))
        print(
            f"  {way}: mAP@0.5 {ap['map50']:.3f} {ap['per_type']}; per cell {mix['accuracy']:.3f} in composites "
            f"{mix['confusion']}, {one['accuracy']:.3f} in single-type images; {seconds[way]:.0f} s of learning",
            flush=True,
        )
    return result


def figures(splits: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """One figure for each way and question."""
    made = []
    titles = {"cells": "cells, then types", "mask-rcnn": "Mask R-CNN"}
    count = f"mean of {len(splits)} splits"
    for way, title in titles.items():
        each = [split[f"map {way}"]["map50"] for split in splits]
        ours = float(np.mean(each))
        made.append(
            {
                "name": f"two cell types, {title}: mean AP@0.5 over types, {count}",
                "ours": round(ours, 3), "reference": _PUBLISHED_MAP, "ratio": round(ours / _PUBLISHED_MAP, 2),
                "goal": _GOAL_MAP, "met": bool(ours >= _GOAL_MAP), "each": [round(value, 3) for value in each],
                "ap_50_to_95": [round(split[f"map {way}"]["map"], 3) for split in splits],
                "per_type": [split[f"map {way}"]["per_type"] for split in splits],
                "seconds_learning": [round(split["seconds"][way]) for split in splits],
            }
        )  # fmt: skip
    for (name, text), (way, title) in itertools.product(
        (("mixed", "mixed composites"), ("single", "images of one type")), titles.items()
    ):
        parts = [split[f"{name} {way}"] for split in splits]
        each, always = [part["accuracy"] for part in parts], [part["always"] for part in parts]
        ours = float(np.mean(each))
        made.append(
            {
                "name": f"two cell types, {title}: accuracy per cell, {text}, {count}",
                "ours": round(ours, 3), "reference": round(float(np.mean(always)), 3),
                "ratio": round(float(ours / np.mean(always)), 2), "goal": _GOAL_CELLS,
                "met": bool(ours >= _GOAL_CELLS), "each": [round(value, 3) for value in each],
                "balanced": round(float(np.mean([part["balanced"] for part in parts])), 3),
                "cells": [part["cells"] for part in parts], "confusion": [part["confusion"] for part in parts],
            }
        )  # fmt: skip
    for kind, goal in (("mean AP@0.5", _GOAL_MAP), ("accuracy per cell, mixed composites", _GOAL_CELLS)):
        better = max((one for one in made if kind in one["name"]), key=lambda one: one["ours"])
        made.append(
            {**{key: better[key] for key in ("ours", "reference", "ratio", "met", "each")}, "goal": goal}
            | {"name": f"two cell types, the better of the two ways: {kind}", "way": better["name"]}
        )
    made[-1] |= {"ways": [split["way"] for split in splits], "seconds": round(seconds, 1)}
    return made


def main() -> None:
    """Run what the options ask for and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, default=_DATA)
    parser.add_argument("--types", nargs=2, default=["MEF_wildtype", "MEF_LMNA--"])
    parser.add_argument("--train", type=int, default=7, help="images of each type to learn from")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--pictures", action="store_true", help="a small network on pictures is a choice as well")
    parser.add_argument("--keep", type=Path, help="folder in which networks are kept, and taken up again")
    parser.add_argument("--quick", action="store_true", help="one split, a few steps, one way: only whether it runs")
    chosen = parser.parse_args()
    start = time.perf_counter()
    warnings.simplefilter("ignore")
    all_of_them = read(chosen.images, chosen.types)
    count = 1 if chosen.quick else chosen.splits
    ways = _WAYS[2:3] if chosen.quick else [*_WAYS, *([("cnn", "look")] if chosen.pictures else [])]
    with tempfile.TemporaryDirectory() as folder:
        place = chosen.keep or Path(folder)
        splits = [run(all_of_them, seed, chosen.train, ways, chosen.quick, place) for seed in range(count)]
    print(json.dumps(figures(splits, time.perf_counter() - start)))


if __name__ == "__main__":
    main()
