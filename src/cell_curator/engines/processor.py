"""What the processor can do."""

from __future__ import annotations

from functools import lru_cache

_INSTRUCTIONS = ("avx512bf16", "amx-bf16")


@lru_cache(maxsize=1)
def bfloat16_is_faster() -> bool:
    """Whether the processor has instructions for bfloat16: the networks here are twice as fast in it then.

    Without them bfloat16 is emulated and several times slower. Instructions decide and not a clock, since a busy
    moment would give one of two workers other pixels.
    """
    from llvmlite import binding

    try:
        there = binding.get_host_cpu_features()
    except RuntimeError:  # a system on which they cannot be told
        return False
    return any(there.get(name) for name in _INSTRUCTIONS)
