"""How well do clusters that never saw a label agree with the true classes of pictures not seen before?

    python benchmarks/digits.py [--quick] [--train NPZ] [--test NPZ] [--seeds 3]

Learns from one part of a labelled set, encodes the other part, groups, and gives each cluster the majority class
it has *in the part that was learned from*; the share of right pictures in the other part is printed, mean and
standard deviation over the seeds. Files hold ``x`` (N, 28, 28) and ``y`` (N,), of MNIST or Fashion-MNIST. Without
--test the last 10,000 of --train are kept for it; settings were chosen within the first 50,000 only.

Rows named "label-free" see no label before the clusters are named. The row "noise ⊕ label" shows what a label does
that leaks into the points: random numbers with the true class beside them. Silhouette, Davies-Bouldin and
Calinski-Harabasz stand beside each row, of the pictures not seen before, in the latent space whatever space the
clusters were found in.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clustering import ClusterParameters, quality, space_points
from cell_curator.core.jobs import drive
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.vae.model import encode
from cell_curator.engines.vae.training import train

DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data"))
CLASSES = 10
HELD_BACK = 10_000
QUICK = 3_000
GROUPS = 100  # pictures have no image of origin: this many groups stand in for the split within the training part
STARTS, TRIED_ON = 10, 10_000  # of the mixture; the likeliest of three is often a poor one
DRAWS = 5  # parts of the points on which starts are tried; the mixture that is likeliest of all points is kept
VOTERS = 10  # neighbours that decide the cluster of a new picture where the mixture itself cannot

SCORES = ("accuracy", "silhouette", "davies_bouldin", "calinski_harabasz")
PUBLISHED = {  # of the convolutional VAE
    ("mnist", 16): (0.811, 0.077, 2.45, 430),
    ("mnist", 32): (0.8167, 0.037, 3.85, 175),
    ("fashion", 16): (0.5848, 0.063, 2.92, 399),
    ("fashion", 32): (0.5934, 0.028, 4.66, 172),
}
GOALS = {"mnist": {16: 0.82, 32: 0.82, "best": 0.96}, "fashion": {16: 0.62, 32: 0.62, "best": 0.66}}
CHOSEN = {  # of the network below the UMAP, and of those that are clustered as they are; within the first 50,000
    ("mnist", "best"): {"latent": 16, "width": 32, "steps": 2000},
    ("mnist", "16"): {"latent": 16},
    ("mnist", "32"): {"latent": 32, "steps": 2000},
    ("fashion", "best"): {"latent": 32, "jitter": 0.5, "beta": 0.3},
    ("fashion", "16"): {"latent": 16, "beta": 0.3},
    ("fashion", "32"): {"latent": 32, "beta": 0.3},
}
LEAKED = {"mnist": 0.9042, "fashion": 0.975}  # the published best, with the label leaked into the points

Pictures = tuple[NDArray[np.float32], NDArray[np.int64]]
Truth = tuple[NDArray[np.int64], NDArray[np.int64]]  # of the pictures learned from, and of the others


@dataclass(frozen=True)
class Score:
    """Of one row and seed."""

    accuracy: float
    quality: dict[str, float]
    seconds: float
    space: str


def load(path: Path) -> Pictures:
    """Pictures (N, 28, 28) in 0..1 and classes, whatever the two arrays are called."""
    with np.load(path) as file:
        arrays = [file[name] for name in file.files]
    pictures = next(a for a in arrays if a.ndim >= 2)
    classes = next(a for a in arrays if a.ndim == 1 and len(a) == len(pictures))
    scaled = pictures.reshape(len(pictures), 28, 28).astype(np.float32)
    return scaled / max(1.0, float(scaled.max())), classes.astype(np.int64)


def padded(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """With an empty margin, 32 px: an edge that halves three times."""
    return np.pad(pictures, ((0, 0), (2, 2), (2, 2)))


def learn(pictures: NDArray[np.float32], new: NDArray[np.float32], params: VaeParameters) -> tuple[NDArray[Any], ...]:
    """Posterior means of both parts; learned from the first."""
    inside = np.ones(pictures.shape, bool)
    made = drive(train(pictures, inside, np.arange(len(pictures)) % GROUPS, params))
    return made.latent, encode(made.model, new)


def mixture(points: NDArray[Any], seed: int) -> Any:
    """Ten Gaussians: the likeliest of ten starts on a part of the points, fitted to all; the best of five such parts.

    Which classes two Gaussians share differs from part to part; the likelihood tells, without a label.
    """
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    options = {"reg_covar": 1e-6 + 1e-3 * float(points.var(axis=0).mean()), "max_iter": 300}
    rng = np.random.default_rng(seed)
    whole = points.astype(np.float64)
    fitted = []
    with threadpool_limits(1):
        for number in range(DRAWS):
            options["random_state"] = DRAWS * seed + number
            tried = GaussianMixture(CLASSES, n_init=STARTS, **options).fit(
                whole[rng.permutation(len(whole))[:TRIED_ON]]
            )
            start = {"weights_init": tried.weights_, "means_init": tried.means_, "precisions_init": tried.precisions_}
            fitted.append(GaussianMixture(CLASSES, **start, **options).fit(whole))
    return max(fitted, key=lambda one: one.lower_bound_)


def by_neighbours(points: NDArray[Any], labels: NDArray[np.int64], new: NDArray[Any]) -> NDArray[np.int64]:
    """The cluster of new points, by those of their nearest."""
    from sklearn.neighbors import NearestNeighbors

    nearest = labels[NearestNeighbors(n_neighbors=VOTERS).fit(points).kneighbors(new, return_distance=False)]
    votes = np.stack([(nearest == number).sum(axis=1) for number in range(labels.max() + 1)], axis=1)
    return votes.argmax(axis=1)


def accuracy(clusters: NDArray[np.int64], new: NDArray[np.int64], truth: Truth) -> float:
    """Share of right classes, clusters being named by the majority of those learned from."""
    names = [np.bincount(truth[0][clusters == number]).argmax() for number in range(clusters.max() + 1)]
    return float((np.array(names)[new] == truth[1]).mean())


def settings(row: str, data: str, seed: int, quick: bool) -> VaeParameters:
    """A convolutional VAE that ignores small changes: it sees pictures shifted and bent, and paints them unchanged."""
    chosen = {"steps": 1000, "width": 16, "jitter": 1.0} | CHOSEN[data, row]
    if quick:
        chosen |= {"steps": 120, "width": 16}
    # a digit that is flipped or turned by 180° is another one
    return VaeParameters(**chosen, batch=128, augment=False, holdout=0.02, patience=25, seed=seed)


def latent_row(points: NDArray[Any], new: NDArray[Any], truth: Truth, seed: int) -> Score:
    """Gaussian mixture on the latent."""
    start = time.perf_counter()
    found = mixture(points, seed)
    assigned = found.predict(new.astype(np.float64))
    right = accuracy(found.predict(points.astype(np.float64)), assigned, truth)
    return Score(right, quality(new, assigned), time.perf_counter() - start, "latent")


def umap_row(points: NDArray[Any], new: NDArray[Any], truth: Truth, seed: int) -> Score:
    """UMAP of the latent to ten dimensions, Gaussian mixture there."""
    start = time.perf_counter()
    how = ClusterParameters(k=CLASSES, space="umap", dims=10, seed=seed)
    mapped, space = space_points(points, np.zeros((len(points), 2), np.float32), how)
    found = mixture(mapped, seed).predict(mapped.astype(np.float64))
    assigned = by_neighbours(points, found, new)
    return Score(accuracy(found, assigned, truth), quality(new, assigned), time.perf_counter() - start, space)


def control_row(truth: Truth, seed: int) -> Score:
    """Random numbers ⊕ the true class: what a leak alone is worth."""
    rng = np.random.default_rng(seed)
    told = 4.0 * rng.normal(size=(CLASSES, 16))  # a description of each class, as a conditional network learns one
    points, new = (np.hstack([rng.normal(size=(len(y), 16)), told[y]]) for y in truth)
    return replace(latent_row(points, new, truth, seed), space="noise ⊕ label")


def together(parts: Sequence[NDArray[Any]], like: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Latents of several networks side by side, each brought to a total variance of 1 by those of ``like``."""
    scales = [np.sqrt(one.var(axis=0).sum()) for one in like]
    return np.hstack([part / scale for part, scale in zip(parts, scales, strict=True)]).astype(np.float32)


def rows_of(data: str, learned: Pictures, unseen: Pictures, seed: int, quick: bool) -> Iterator[tuple[str, Score]]:
    """All rows of one seed."""
    truth = (learned[1], unseen[1])
    networks: list[tuple[NDArray[Any], ...]] = []
    begun = time.perf_counter()
    for row, judge in (("best", umap_row), ("16", latent_row), ("32", latent_row)):
        start = time.perf_counter()
        points, new = learn(padded(learned[0]), padded(unseen[0]), settings(row, data, seed, quick))
        networks.append((points, new))
        spent = time.perf_counter() - start
        score = judge(points, new, truth, seed)
        yield row, replace(score, seconds=score.seconds + spent)
    all_points, all_new = zip(*networks, strict=True)
    score = umap_row(together(all_points, all_points), together(all_new, all_points), truth, seed)
    yield "together", replace(score, seconds=time.perf_counter() - begun)
    yield "control", control_row(truth, seed)


def figure(name: str, scores: list[Score], reference: float | None, goal: float | None, **more: Any) -> dict[str, Any]:
    """One row of the result."""
    ours = [score.accuracy for score in scores]
    mean = float(np.mean(ours))
    return {
        "name": name,
        "ours": round(mean, 4),
        "sd": round(float(np.std(ours, ddof=1)), 4) if len(ours) > 1 else None,
        "reference": reference,
        "ratio": round(mean / reference, 3) if reference else None,
        "goal": goal,
        "met": mean >= goal if goal else None,
        "each seed": [round(value, 4) for value in ours],
        "clustered in": scores[0].space,
        **{key: round(float(np.mean([s.quality[key] for s in scores])), 3) for key in scores[0].quality},
        "seconds": round(float(np.mean([score.seconds for score in scores]))),
        **more,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} pictures, a small network, one seed")
    parser.add_argument("--train", type=Path, default=DATA / "mnist_train.npz")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()

    x, y = load(options.train)
    kept = load(options.test) if options.test else (x[-HELD_BACK:], y[-HELD_BACK:])
    learned = (x, y) if options.test else (x[:-HELD_BACK], y[:-HELD_BACK])
    if options.quick:
        learned, kept = (learned[0][:QUICK], learned[1][:QUICK]), (kept[0][:QUICK], kept[1][:QUICK])
    # clothes fill more of the picture than digits do
    name = "fashion" if "fashion" in str(options.train).lower() or x.mean() > 0.2 else "mnist"
    seeds = range(1 if options.quick else options.seeds)
    scores: dict[str, list[Score]] = {}
    for seed in seeds:
        for row, score in rows_of(name, learned, kept, seed, options.quick):
            scores.setdefault(row, []).append(score)
            print(f"{name}, seed {seed}, {row}: {score}", flush=True)
    about = {
        "data": name,
        "split": f"learned from {len(learned[0])}, scored on {len(kept[0])} others",
        "seeds": len(seeds),
        "quick": options.quick,
    }
    figures = []
    for latent in (16, 32):
        title = f"label-free conv VAE z{latent}, Gaussian mixture on the latent, {name}"
        known = dict(zip(SCORES, PUBLISHED[name, latent], strict=True))
        figures.append(
            figure(title, scores[str(latent)], known["accuracy"], GOALS[name][latent], published=known, **about)
        )
    title = f"label-free conv VAE z{CHOSEN[name, 'best']['latent']}, UMAP 10-D, Gaussian mixture, {name}"
    figures.append(figure(title, scores["best"], LEAKED[name], GOALS[name]["best"], **about))
    title = f"label-free three conv VAEs together, UMAP 10-D, Gaussian mixture, {name}"
    figures.append(figure(title, scores["together"], LEAKED[name], GOALS[name]["best"], **about))
    figures.append(figure(f"control: noise ⊕ label, {name}", scores["control"], None, None, **about))
    print(json.dumps(figures, ensure_ascii=False))


if __name__ == "__main__":
    main()
