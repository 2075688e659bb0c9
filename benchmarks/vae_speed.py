"""Speed of learning and of describing cells against plain PyTorch with the same network.

    python benchmarks/vae_speed.py [--quick] [--size 64] [--threads N]

Learning: cells per second of our training step (bfloat16 + channels_last, batches by rows, fused optimiser) against
the loop one would write first: the same network with the same weights in float32, a ``DataLoader``, Adam, binary
cross-entropy plus KL, one number read back per step. In turn, with the same number of threads, each in a process of
its own: how ours keeps memory (`engines.memory`) would serve the other, too, and it has none of that by itself.
Ratio of medians, goal 2. Embedding: seconds for the posterior means of 20,000 patches, goal 10;
how far bfloat16 would stray from float32 is printed beside it (it is not used there).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import drive
from cell_curator.engines.memory import kept_memory
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.vae.arithmetic import quick_arithmetic
from cell_curator.engines.vae.material import prepare
from cell_curator.engines.vae.model import VaeModel, batches, describe, encode
from cell_curator.engines.vae.network import Network, build
from cell_curator.engines.vae.normalising import SLOPE
from cell_curator.engines.vae.training import Run, train

GOAL_SPEED, GOAL_SECONDS = 2.0, 10.0
WARM = 3
"""Steps of each round that are not timed, of both loops."""


def draw(count: int, size: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Blurred ellipses of many shapes on noise, and where they are."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    radii = rng.uniform(0.12, 0.42, (count, 2, 1, 1)) * size
    away = (rows / radii[:, 0]) ** 2 + (columns / radii[:, 1]) ** 2
    noise = rng.normal(0, 0.02, away.shape)
    images = np.clip(rng.uniform(0.4, 0.9, (count, 1, 1)) / (1 + np.exp(4 * (away - 1))) + noise, 0, 1)
    return images.astype(np.float32), away < 1


def ours(images: NDArray[np.float32], params: VaeParameters) -> Callable[[int], float]:
    """Seconds of so many steps of the training of the product."""
    masks, validation = np.ones(images.shape, bool), np.arange(len(images)) < params.batch
    run = Run(prepare(images, masks, validation, params, None, (), None), params)
    step = 0

    def steps(count: int) -> float:
        nonlocal step
        for number in range(WARM + count):
            if number == WARM:
                start = time.perf_counter()
            step += 1
            run.step(step, params.beta)
        return time.perf_counter() - start

    return steps


def plain(images: NDArray[np.float32], params: VaeParameters) -> Callable[[int], float]:
    """Seconds of so many steps of the loop one would write first."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits
    from torch.utils.data import DataLoader, TensorDataset

    torch.manual_seed(params.seed)
    network = build(params, images.shape[-1])
    made_plain(network)
    optimiser = torch.optim.Adam(network.modules.parameters(), lr=params.learning_rate)
    loader = DataLoader(TensorDataset(torch.from_numpy(images)[:, None]), params.batch, shuffle=True, drop_last=True)

    def endless() -> Any:
        while True:
            yield from loader

    stream = endless()

    def steps(count: int) -> float:
        for number in range(WARM + count):
            if number == WARM:
                start = time.perf_counter()
            (batch,) = next(stream)
            mean, log_variance = network.posterior(batch)
            logits = network.decode(mean + torch.randn_like(mean) * (0.5 * log_variance).exp())
            likeness = binary_cross_entropy_with_logits(logits, batch, reduction="sum") / len(batch)
            kl = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum() / len(batch)
            loss = likeness + params.beta * kl
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
        return time.perf_counter() - start

    return steps


def made_plain(network: Network) -> None:
    """Give the network the layers one would write first, with the weights that it has."""
    from torch.nn import BatchNorm2d, ConvTranspose2d, LeakyReLU, Sequential

    last = network.modules["decoder"][-1]
    network.modules["decoder"][-1] = ConvTranspose2d(*last.weight.shape[:2], 4, stride=2, padding=1)
    network.modules["decoder"][-1].load_state_dict(last.state_dict())
    for layers in network.modules.values():
        if isinstance(layers, Sequential):
            for place, layer in enumerate(layers):
                if isinstance(layer, BatchNorm2d):
                    layers[place], layers[place + 1] = BatchNorm2d(layer.num_features), LeakyReLU(SLOPE)


def serve(name: str, size: int, threads: int, end: Connection) -> None:
    """One of the loops in a process of its own: seconds of as many steps as are asked for."""
    import torch

    torch.set_num_threads(threads)
    images, params = draw(2000, size)[0], VaeParameters(augment=False)
    with kept_memory() if name == "ours" else nullcontext():
        loop = {"ours": ours, "plain": plain}[name](images, params)
        while count := end.recv():
            end.send(loop(count))


def learning(size: int, rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """Both loops in turn."""
    start, batch = get_context("spawn"), VaeParameters().batch
    ends: dict[str, Connection] = {}
    for name in ("ours", "plain"):
        ends[name], other = start.Pipe()
        start.Process(target=serve, args=(name, size, threads, other), daemon=True).start()
    seconds: dict[str, list[float]] = {name: [] for name in ends}
    for number in range(1 + rounds):  # the first warms up
        for name, end in ends.items():
            end.send(steps)
            took = end.recv() / steps
            if number:
                seconds[name].append(took)
    for end in ends.values():
        end.send(0)
    middle = {name: float(np.median(each)) for name, each in seconds.items()}
    ratio = middle["plain"] / middle["ours"]
    return {
        "name": f"cells learned from per second, {size} px",
        "ours": round(batch / middle["ours"]),
        "reference": round(batch / middle["plain"]),
        "ratio": round(ratio, 2),
        "goal": GOAL_SPEED,
        "met": ratio >= GOAL_SPEED,
        "threads": threads,
        "batch": batch,
        "ratio of each round": [round(b / a, 2) for a, b in zip(seconds["ours"], seconds["plain"], strict=True)],
    }


def describing(images: NDArray[np.float32], masks: NDArray[np.bool_], rounds: int, threads: int) -> dict[str, Any]:
    """Latent, and latent with error, of all patches; scaled to 20,000."""
    quick = VaeParameters(steps=60, augment=False)
    model = drive(train(images[:512], masks[:512], np.arange(512) % 8, quick)).model
    times: dict[str, list[float]] = {"embed": [], "describe": []}
    for _ in range(rounds):
        start = time.perf_counter()
        latent = encode(model, images)
        times["embed"].append(time.perf_counter() - start)
        start = time.perf_counter()
        describe(model, images, masks)
        times["describe"].append(time.perf_counter() - start)
    scaled = {name: float(np.median(each)) * 20_000 / len(images) for name, each in times.items()}
    seconds = scaled["embed"]
    return {
        "name": f"seconds to embed 20,000 patches of {images.shape[-1]} px",
        "ours": round(seconds, 2),
        "reference": GOAL_SECONDS,
        "ratio": round(GOAL_SECONDS / seconds, 2),
        "goal": GOAL_SECONDS,
        "met": seconds <= GOAL_SECONDS,
        "with the error of each": round(scaled["describe"], 2),
        "patches": len(images),
        "threads": threads,
        "bfloat16 would stray by": round(stray(model, images, latent), 4),
    }


def stray(model: VaeModel, images: NDArray[np.float32], latent: NDArray[np.float32]) -> float:
    """Greatest difference of a posterior mean in bfloat16, in units of the spread of that feature."""
    import torch

    network = model.network()
    with torch.no_grad(), quick_arithmetic(True):
        rough = np.concatenate([network.posterior(batch)[0].numpy() for batch in batches(images[:1024])])
    return float((np.abs(rough - latent[:1024]) / latent.std(axis=0)).max())


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as our training uses")
    options = parser.parse_args()
    threads = options.threads or max(1, min(4, (os.cpu_count() or 2) - 1))
    torch.set_num_threads(threads)
    images, masks = draw(2000 if options.quick else 20_000, options.size)
    figures = [
        learning(options.size, 5 if options.quick else 15, 8 if options.quick else 20, threads),
        describing(images, masks, 3, threads),
    ]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
