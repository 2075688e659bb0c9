"""What the processor can do."""

import platform
from pathlib import Path

import pytest
from llvmlite import binding

from cell_curator.engines.processor import bfloat16_is_faster


@pytest.fixture(autouse=True)
def _asked_anew():
    bfloat16_is_faster.cache_clear()
    yield
    bfloat16_is_faster.cache_clear()


@pytest.mark.skipif(platform.machine() != "x86_64" or not Path("/proc/cpuinfo").exists(), reason="x86 Linux")
def test_the_instructions_are_those_that_the_system_names():
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    assert bfloat16_is_faster() is bool({"avx512_bf16", "amx_bf16"} & set(flags.split()))


@pytest.mark.parametrize(
    ("there", "answer"),
    [({"avx512bf16": True}, True), ({"amx-bf16": True}, True), ({"avx512f": True, "avx512bf16": False}, False)],
)
def test_the_instructions_decide(there, answer, monkeypatch):
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: there)
    assert bfloat16_is_faster() is answer


def test_where_they_cannot_be_told_it_is_not(monkeypatch):
    def untold():
        raise RuntimeError("not here")

    monkeypatch.setattr(binding, "get_host_cpu_features", untold)
    assert bfloat16_is_faster() is False
