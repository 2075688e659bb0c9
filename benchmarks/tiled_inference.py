"""A U-Net on an image of 8192 × 8192 px: memory above the image, speed beside untiled, and sameness.

    python benchmarks/tiled_inference.py [--quick] [--side PX] [--model PATH] [--kind unet|unetpp]

Memory: the most that the process ever held less what it held with the image read and the network loaded, answer
included. Speed: px of the image a second of the processor, beside the same network on pieces as large as its own
tiles, each looked at whole and none overlapping another; tiles and pieces take turns. Sameness: the largest
difference of probability between an image looked at in tiles and whole, where both fit. Without ``--model`` the
network is taught for a few steps on synthetic cells, so that its answers are of some use. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from cell_curator.core.jobs import drive
from cell_curator.samples.scenes import nuclei_on_grooves

WHOLE = 1024  # px, where both fit
SMALL_TILE = 480


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="an image of 2048 px in tiles of 1120")
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--tile", type=int, default=0, help="0: what the network chooses")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--kind", choices=["unet", "unetpp"], default="unet")
    parser.add_argument("--only", choices=["memory", "same"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.side, options.tile = 2048, 1120
    if options.only:
        print(json.dumps(measure(options) if options.only == "memory" else same(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.model = options.model or taught(Path(folder), options.kind, 20 if options.quick else 150)
        tiled, alike = (apart(options, what) for what in ("memory", "same"))
    name = f"{options.kind}, {options.side} × {options.side} px"
    made = [
        figure(f"{name}: memory above the image (GB)", tiled["gigabytes"], 1.5, less=True),
        figure(f"{name}: speed beside untiled", tiled["share"], 0.9, reference=tiled["untiled"]),
        figure(f"{name}: largest difference of probability, tiled and whole", alike["difference"], 1e-3, less=True),
    ]
    if options.quick:  # so few tiles hide what overlapping costs or make it look worse
        made[1] = {**made[1], "goal": None, "met": None}
    made[0]["details"] = {**tiled, **alike}
    for one in made:
        print(f"{one['name']:84} {one['ours']:<10} goal {one['goal']}")
    print(json.dumps(made))


def apart(options: argparse.Namespace, what: str) -> dict[str, float]:
    """The figures of a process of its own, whose memory nothing else has touched."""
    words = ["--side", options.side, "--tile", options.tile, "--model", options.model, "--only", what]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, __file__, *map(str, words)], env=environment, check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(options: argparse.Namespace) -> dict[str, float]:
    import torch

    from cell_curator.engines.unet.inference import predict_tiled
    from cell_curator.engines.unet.model import OVERLAP, load

    torch.set_num_threads(1)
    network = load(options.model)
    tile = options.tile or network.tile
    network.forward(np.zeros((1, 1, 64, 64), np.float32))
    image = picture(options.side)
    whole = min(tile, options.side) // 16 * 16
    beside = image[None, :, :whole, :whole]
    before = held()
    job = predict_tiled(network.forward, image, tile, OVERLAP, 1, np.float16)
    tiled, untiled, step = 0.0, [], 0
    while True:  # one tile, then one piece, so that other work on the computer slows both
        start = time.process_time()
        try:
            next(job)
        except StopIteration as end:
            answer = end.value
            break
        finally:
            tiled += time.process_time() - start
        if step % 2 == 0:
            start = time.process_time()
            network.forward(beside)
            untiled.append((time.process_time() - start) / whole**2)
        step += 1
    assert answer.shape[1:] == image.shape[1:]
    return {
        "gigabytes": (most_held() - before) / 1e9,
        "share": float(np.mean(untiled)) * options.side**2 / tiled,
        "tiled": options.side**2 / tiled / 1e6,
        "untiled": 1e-6 / float(np.mean(untiled)),
        "tile": tile,
        "overlap": OVERLAP,
    }


def same(options: argparse.Namespace) -> dict[str, float]:
    import torch

    from cell_curator.engines.unet.inference import predict_tiled
    from cell_curator.engines.unet.model import OVERLAP, load

    torch.set_num_threads(1)
    network, image = load(options.model), picture(WHOLE)
    whole, tiled = (drive(predict_tiled(network.forward, image, tile, OVERLAP, 1)) for tile in (WHOLE, SMALL_TILE))
    probable = [1 / (1 + np.exp(-answer[-1].astype(np.float64))) for answer in (whole, tiled)]
    return {
        "difference": float(np.abs(probable[0] - probable[1]).max()),
        "of_answers": float(np.abs(whole - tiled).max()),
        "foreground": float((probable[0] > 0.5).mean()),
    }


def picture(side: int) -> np.ndarray:
    """Synthetic nuclei ``(1, Y, X)``, normalised, repeated as far as they go."""
    scene = nuclei_on_grooves(seed=3).image.astype(np.float32)
    scene = (scene - np.percentile(scene, 1)) / (np.percentile(scene, 99) - np.percentile(scene, 1))
    repeat = -(-side // min(scene.shape[-2:]))
    return np.ascontiguousarray(np.tile(scene.reshape(scene.shape[-2:]), (repeat, repeat))[None, :side, :side])


def taught(folder: Path, kind: str, steps: int) -> Path:
    from cell_curator.engines.cards import find_model
    from cell_curator.engines.finetune import TrainParameters, finetune
    from cell_curator.engines.training_data import Example

    scenes = [nuclei_on_grooves(seed=seed) for seed in range(4)]
    examples = []
    for seed, scene in enumerate(scenes):
        image = scene.image.astype(np.float32).reshape(scene.labels.shape)
        examples.append(Example(f"scene {seed}", image, scene.labels, np.ones(scene.labels.shape, bool)))
    params = TrainParameters(
        epochs=steps, batch_size=4, tile=96, learning_rate=3e-3, schedule="cosine", cell_loss="dice", threads=1
    )
    drive(finetune(find_model(f"new-{kind}-area"), examples, (), params, folder, engine=kind))
    return folder / "weights.pth"


def held() -> float:
    """Bytes that this process holds now; where the system does not say, at most so far."""
    told = Path("/proc/self/statm")
    return float(told.read_text().split()[1]) * resource.getpagesize() if told.exists() else most_held()


def most_held() -> float:
    """Bytes that this process held at most so far."""
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def figure(
    name: str, ours: float, goal: float, *, less: bool = False, reference: float | None = None
) -> dict[str, object]:
    met = ours <= goal if less else ours >= goal
    return {"name": name, "ours": round(ours, 6), "reference": reference, "ratio": None, "goal": goal, "met": met}


if __name__ == "__main__":
    main()
