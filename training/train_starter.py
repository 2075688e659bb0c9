"""Train the bundled model ``starter-nuclei``: the stock Cellpose 3.1 U-Net on the CC0 DSB2018 images.

    python training/train_starter.py --out OUT.pth [--base WEIGHTS.pth] [--minutes 80]

The learning rate follows the clock, so that a run of any length ends annealed; the weights that ship
are the moving average at the end. The validation images are looked at for the log only and choose
nothing. Not the retraining that users do.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import tiles
import torch
from cellpose import metrics, models, utils
from cellpose.resnet_torch import CPnet
from cellpose.train import _loss_fn_seg

DIAM_MEAN = 17.0
"""px to which objects are rescaled; the same as Cellpose's own ``nuclei`` model."""


class Fast(torch.nn.Module):
    """A CPnet run in bfloat16 whose outputs are float32, since NumPy has no bfloat16."""

    def __init__(self, net: CPnet) -> None:
        super().__init__()
        self.net, self.mkldnn, self.nout = net, False, net.nout

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.net.device

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Network output and style of the tiles ``x``."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y, style, _ = self.net(x.to(memory_format=torch.channels_last))
        return y.float(), style.float()


def new_net(base: Path | None) -> CPnet:
    """The stock network, with the weights of ``base`` if given."""
    net = CPnet([2, 32, 64, 128, 256], 3, sz=3, mkldnn=False, max_pool=True, diam_mean=DIAM_MEAN)
    if base is not None:
        state = torch.load(base, map_location="cpu", weights_only=True)
        net.load_state_dict({name: value.float() for name, value in state.items()})
    return net.to(memory_format=torch.channels_last)


def learning_rate(part: float, peak: float) -> float:
    """One cycle: up to ``peak`` in the first tenth of the time, then down a cosine to nearly 0."""
    if part < 0.1:
        return peak * (0.1 + 0.9 * part / 0.1)
    return peak * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * (part - 0.1) / 0.9)))


@torch.no_grad()
def average(into: CPnet, net: CPnet, step: int, decay: float = 0.99) -> None:
    """Moving average of the weights and of BatchNorm's running figures (they belong together)."""
    keep = min(decay, (1 + step) / (10 + step))
    new = net.state_dict()
    for name, value in into.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(new[name], 1 - keep)
        else:
            value.copy_(new[name])


def save_half(net: CPnet, path: Path) -> None:
    """Write the weights in half precision, whole or not at all."""
    state = {
        name: (value.half() if value.dtype.is_floating_point else value).contiguous()
        for name, value in net.state_dict().items()
    }
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    os.replace(part, path)


def quick_ap(path: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Mean AP at IoU 0.5 of the file at ``path`` in stock Cellpose, true diameters given."""
    model = models.CellposeModel(pretrained_model=str(path), mkldnn=False)
    model.net = Fast(model.net.eval().to(memory_format=torch.channels_last))
    scores = []
    for pixels, labels in pairs:
        gray = pixels @ tiles.LUMINANCE if pixels.ndim == 3 else pixels
        found = model.eval(gray, channels=[0, 0], diameter=utils.diameters(labels)[0])[0]
        scores.append(metrics.average_precision([labels], [found], threshold=[0.5])[0][0, 0])
    return float(np.mean(scores))


def validation_pairs(folder: Path, names: list[str], groups: dict[str, str], count: int) -> list:
    """One image of each validation mosaic, ``count`` of them spread over the list."""
    first = list({groups[name]: name for name in reversed(names)}.values())
    first = [first[i] for i in np.linspace(0, len(first) - 1, count).astype(int)]
    pairs = [tiles.read_pair(folder, name) for name in first]
    return [(pixels[:512, :512], labels[:512, :512]) for pixels, labels in pairs]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=tiles.data_folder(), help="the DSB2018 folder")
    ask.add_argument("--base", type=Path, help="weights to go on from; none: start from scratch")
    ask.add_argument("--out", type=Path, required=True, help="weights file to write, half precision")
    ask.add_argument("--minutes", type=float, default=80)
    ask.add_argument("--peak", type=float, default=1e-3, help="highest learning rate")
    ask.add_argument("--batch", type=int, default=8)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--every", type=float, default=10, help="minutes between two checkpoints")
    args = ask.parse_args()

    torch.manual_seed(args.seed)
    np.random.seed(args.seed)  # Cellpose's augmentation draws from NumPy's global generator
    rng = np.random.default_rng(args.seed)
    train_names, val_names, groups = tiles.split(args.data)
    examples = tiles.load(args.data, train_names, groups)
    chance = tiles.weights(examples)
    pairs = validation_pairs(args.data, val_names, groups, 8)
    net = new_net(args.base)
    net.diam_labels.data[:] = float(np.mean([example.diameter for example in examples]))
    net.train()
    mean_net = copy.deepcopy(net)
    decayed = [p for p in net.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in net.parameters() if p.requires_grad and p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 1e-4}, {"params": plain, "weight_decay": 0.0}], lr=args.peak
    )
    print(f"{len(examples)} images, {torch.get_num_threads()} threads, seed {args.seed}", flush=True)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    start = saved = time.monotonic()
    step, losses = 0, []
    while (part := (time.monotonic() - start) / (60 * args.minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(part, args.peak)
        x, target = tiles.batch(examples, chance, rng, size=args.batch, side=224, diam_mean=DIAM_MEAN)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = net(torch.from_numpy(x).to(memory_format=torch.channels_last))[0]
        loss = _loss_fn_seg(target, y.float(), torch.device("cpu"))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*decayed, *plain], 5.0)
        optimiser.step()
        average(mean_net, net, step)
        step += 1
        losses.append(loss.item())
        if time.monotonic() - saved > 60 * args.every:
            report(mean_net, args.out, pairs, step, losses, start)
            saved, losses = time.monotonic(), []
    report(mean_net, args.out, pairs, step, losses, start)


def report(net: CPnet, path: Path, pairs: list, step: int, losses: list[float], start: float) -> None:
    """Write the weights, look at them in ``eval`` mode, and print one line of JSON."""
    save_half(net, path)
    line = {
        "minutes": round((time.monotonic() - start) / 60, 1),
        "step": step,
        "loss": round(float(np.mean(losses)), 4) if losses else None,
        "quick_ap50": round(quick_ap(path, pairs), 4),
    }
    print(json.dumps(line), flush=True)
    with path.with_suffix(".log.jsonl").open("a") as log:
        log.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
