"""How well do clusters of the embedding, which never saw a label, agree with the true classes?

Trains the VAE on one part of a labelled set, encodes images it has not seen, groups them with a
Gaussian mixture, and gives each cluster its majority class. The reference is the published
accuracy of a convolutional VAE with 16 features (trained on 60 000 images for 15 epochs).

    python benchmarks/embed.py [--quick] [--train NPZ] [--test NPZ]

The files hold ``x`` (N, 28, 28) uint8 and ``y`` (N,). Without --test, the last 5000 of --train
are kept for it.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np

from cell_curator.core.clustering import ClusterParameters, cluster
from cell_curator.core.jobs import drive
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.vae_model import encode
from cell_curator.engines.vae_training import train

PUBLISHED = {"mnist": 0.811, "fashion": 0.5848}
DATA = Path(os.environ.get("CELL_CURATOR_DATA", Path(__file__).parents[2] / "shared" / "data"))


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as file:
        return (file["x"] / 255).astype(np.float32), file["y"]


def majority_accuracy(clusters: np.ndarray, truth: np.ndarray) -> float:
    found = sum(np.bincount(truth[clusters == number]).max() for number in np.unique(clusters[clusters >= 0]))
    return float(found / len(truth))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5000 images, 800 steps")
    parser.add_argument("--train", type=Path, default=DATA / "mnist_train.npz")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    x, y = load(options.train)
    seen, unseen, truth = (x[:-5000], x[-5000:], y[-5000:]) if options.test is None else (x, *load(options.test))
    count, steps = (5000, 800) if options.quick else (len(seen), 6000)
    seen = seen[:count]
    params = VaeParameters(steps=steps, augment=False, seed=options.seed)  # a flipped digit is another digit
    start = time.perf_counter()
    embedding = drive(train(seen, seen > 0, np.arange(len(seen)) % 100, params))
    latent = encode(embedding.model, unseen)
    clustering = cluster(latent, ClusterParameters(k=len(np.unique(truth)), seed=options.seed))
    control = cluster(np.random.default_rng(0).normal(size=latent.shape), ClusterParameters(k=10))
    name = "fashion" if "fashion" in options.train.name else "mnist"
    ours = majority_accuracy(clustering.labels, truth)
    result = {
        "name": f"embed-{name}",
        "ours": round(ours, 4),
        "reference": PUBLISHED[name],
        "ratio": round(ours / PUBLISHED[name], 3),
        "goal": 1.0,
        "met": ours >= PUBLISHED[name],
        "noise_control": round(majority_accuracy(control.labels, truth), 4),
        "scores": {key: round(value, 3) for key, value in clustering.scores.items()},
        "trained_on": count,
        "unseen": len(unseen),
        "steps": embedding.history[-1].step,
        "precision": embedding.precision,
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
