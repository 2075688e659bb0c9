"""How the processor is used in training: threads, and bfloat16 where it is faster."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any


@contextmanager
def few_threads() -> Iterator[None]:
    """Leave one core to the window, and use four at most.

    Layers this small gain little from threads, and threads that wait for one another on a busy
    machine lose much: with two other programs running on two cores a step of 64 patches of 64²
    took 67 ms with one thread and 511 ms with two.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(4, (os.cpu_count() or 2) - 1)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def quick_arithmetic(bfloat16: bool) -> Iterator[None]:
    """Compute in bfloat16 inside the block, where asked."""
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        yield


@lru_cache(maxsize=1)
def bfloat16_trains_faster() -> bool:
    """Time a few training steps in float32 and in bfloat16 + channels_last (about half a second).

    Where the processor has no bfloat16 it is emulated and slower; where it has, it is far faster. A
    clear margin is asked for, so that a busy machine gives the same answer, and with it the same
    arithmetic, as an idle one.
    """
    import torch

    from cell_curator.engines.vae.loss import loss
    from cell_curator.engines.vae.network import build
    from cell_curator.engines.vae.parameters import VaeParameters

    params = VaeParameters()
    best = {}
    for bfloat16 in (False, True):
        with torch.random.fork_rng(devices=[]):
            network = build(params, 64)
        images, weights = torch.zeros((30, 1, 64, 64)), torch.ones((1, 1, 1, 1))
        noise = torch.zeros((30, params.latent))
        if bfloat16:
            network.modules.to(memory_format=torch.channels_last)
        optimiser: Any = torch.optim.Adam(network.modules.parameters(), fused=True)
        best[bfloat16] = math.inf
        for attempt in range(4):  # the first warms up
            start = time.perf_counter()
            with quick_arithmetic(bfloat16):
                terms = loss(network, images, weights, params, beta=1.0, noise=noise)
            optimiser.zero_grad(set_to_none=True)
            terms.total.backward()
            optimiser.step()
            if attempt:
                best[bfloat16] = min(best[bfloat16], time.perf_counter() - start)
    return 1.2 * best[True] < best[False]
