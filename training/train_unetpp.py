"""Train the bundled U-Net++ on the CC0 DSB2018 images: ``unetpp-nuclei`` (flows), ``unetpp-nuclei-area`` (foreground).

    python training/train_unetpp.py --out OUT.pth [--answers foreground] [--base WEIGHTS.pth] [--minutes 60]

The one that answers foreground sees images at their own scale, as a pixel's place at an outline is all that counts.

Tiles, split and averaging are those of `train_starter`. Minutes are of the processor (one thread), so that
other work on the computer changes nothing but the time on the wall; the learning rate follows them. The
weights that ship are the moving average at the end. No validation image is looked at on the way.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path

import numpy as np
import tiles
import torch
from train_starter import DIAM_MEAN, average, learning_rate, save_half

from cell_curator.engines.unet.model import read
from cell_curator.engines.unet.networks import FLOWS, FOREGROUND, WIDTHS, Design, build
from cell_curator.engines.unet.training import all_heads, deep_loss

SETTLED = 0.8
"""Part of the training after which layers are normalised as in use, where kinds of images are not mixed."""


LIGHT = 0.5
"""Share of the tiles whose light is changed for the network that answers foreground; see `tiles.batch`."""


def begun(base: Path | None, design: Design, seed: int) -> torch.nn.Module:
    """A new network, or ``base``; asked for foreground it goes on with the cell probability alone."""
    net = build(design, seed)
    if base is not None:
        state = read(base).module.state_dict()
        for name in state:
            if name.startswith("final_conv"):
                state[name] = state[name][-design.outputs :]
        net.load_state_dict(state)
    return net


def settle(net: torch.nn.Module) -> None:
    """From now on normalise by the running figures, as when cells are looked for."""
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eval()


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=tiles.data_folder(), help="the DSB2018 folder")
    ask.add_argument("--out", type=Path, required=True, help="weights file to write, half precision")
    ask.add_argument("--base", type=Path, help="weights file of the same kind to go on from")
    ask.add_argument("--answers", choices=("flows", "foreground"), default="flows")
    ask.add_argument("--kind", choices=sorted(WIDTHS), default="unetpp")
    ask.add_argument("--minutes", type=float, default=60, help="of the processor")
    ask.add_argument("--wall", type=float, default=1e9, help="minutes on the wall after which it ends at the latest")
    ask.add_argument("--peak", type=float, default=2e-3, help="highest learning rate")
    ask.add_argument("--batch", type=int, default=4)
    ask.add_argument("--side", type=int, default=160, help="of a tile, px")
    ask.add_argument("--seed", type=int, default=0)
    args = ask.parse_args()

    torch.set_num_threads(1)
    np.random.seed(args.seed)  # Cellpose's augmentation draws from NumPy's global generator
    rng = np.random.default_rng(args.seed)
    train_names, _, groups = tiles.split(args.data)
    examples = tiles.load(args.data, train_names, groups)
    chance = tiles.weights(examples)
    outputs = FLOWS if args.answers == "flows" else FOREGROUND
    net = begun(args.base, Design(args.kind, WIDTHS[args.kind], outputs=outputs), args.seed)
    net.train().to(memory_format=torch.channels_last)
    diameter = float(np.mean([example.diameter for example in examples]))
    net.diam_mean.fill_(DIAM_MEAN if outputs == FLOWS else diameter)
    net.diam_labels.fill_(diameter)
    drawn = {"diam_mean": DIAM_MEAN} if outputs == FLOWS else {"diam_mean": None, "light": LIGHT}
    mean_net = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=args.peak, weight_decay=1e-4)
    print(f"{len(examples)} images, {args.kind}, seed {args.seed}", flush=True)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    start, wall = time.process_time(), time.monotonic()
    told, step, losses = 0.0, 0, []
    while True:
        minutes = (time.process_time() - start) / 60
        part = max(minutes / args.minutes, (time.monotonic() - wall) / 60 / args.wall)
        if part >= 1:
            break
        if part > SETTLED:
            settle(net)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(part, args.peak)
        x, target = tiles.batch(examples, chance, rng, size=args.batch, side=args.side, **drawn)
        data = torch.from_numpy(x[:, :1].copy()).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            answer = all_heads(net, data)
        counts = torch.ones((len(x), args.side, args.side), dtype=torch.bool)
        loss = deep_loss(torch.from_numpy(target), answer.float(), counts, "dice", outputs=outputs)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        average(mean_net, net, step)
        step += 1
        losses.append(loss.item())
        if minutes > told + 2:
            report(mean_net, args.out, step, losses, minutes, wall)
            told, losses = minutes, []
    report(mean_net, args.out, step, losses, minutes, wall)


def report(net: torch.nn.Module, path: Path, step: int, losses: list[float], minutes: float, wall: float) -> None:
    """Write the weights and one line of JSON."""
    save_half(net, path)
    line = {
        "minutes": round(minutes, 1),
        "wall_minutes": round((time.monotonic() - wall) / 60, 1),
        "step": step,
        "loss": round(float(np.mean(losses)), 4) if losses else None,
    }
    print(json.dumps(line), flush=True)
    with path.with_suffix(".log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
