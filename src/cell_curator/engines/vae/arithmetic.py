"""How the processor is used in training: threads and bfloat16."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


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
