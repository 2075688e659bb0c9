"""What this computer and this installation can do: versions, processor, devices, engines.

For `doctor` and for reports of faults. Changes nothing, and tells a missing package as a line
rather than an exception.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from cell_curator.engines.cards import ModelCard, list_models, user_models_folder
from cell_curator.engines.segmenter import EngineState, available

PACKAGES = (
    "napari-cell-curator", "napari", "PyQt6", "numpy", "scikit-image", "scikit-learn", "opencv-python-headless",
    "numba", "pandas", "torch", "torchvision", "monai", "cellpose", "umap-learn", "zarr", "tifffile",
    "distributed", "pycocotools", "anndata", "bioio",
)  # fmt: skip
"""Packages whose versions matter."""

NEEDED = ("cellpose-unet",)
"""Engines whose absence is a fault; others are installed by those who want them."""


@dataclass(frozen=True)
class Checkup:
    """What was found; ``memory_gb`` is None where the system does not say."""

    system: str
    python: str
    cores: int
    memory_gb: float | None
    devices: tuple[str, ...]
    bfloat16: bool | None
    versions: dict[str, str]
    engines: tuple[EngineState, ...]
    models: tuple[ModelCard, ...]
    models_folder: str
    problems: tuple[str, ...]


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Installed version of each package, or ``"not installed"``."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def checkup() -> Checkup:
    """Look at everything; takes some seconds, since torch is loaded and timed."""
    states = available()
    models = tuple(list_models())
    problems = [
        f"engine {state.name} cannot run: {state.reason}" for state in states if state.reason and state.name in NEEDED
    ]
    if not models:
        problems.append("no model is installed; install Cell Curator again")
    devices, bfloat16 = _torch(problems)
    return Checkup(
        system=f"{platform.system()} {platform.release()} ({platform.machine()})",
        python=platform.python_version(),
        cores=_cores(),
        memory_gb=_memory(),
        devices=devices,
        bfloat16=bfloat16,
        versions=versions(),
        engines=states,
        models=models,
        models_folder=str(user_models_folder()),
        problems=tuple(problems),
    )


def _torch(problems: list[str]) -> tuple[tuple[str, ...], bool | None]:
    """Devices that torch sees, and whether bfloat16 pays off on the processor."""
    try:
        import torch

        from cell_curator.engines.processor import bfloat16_is_faster

        devices = ["cpu"]
        devices += [f"cuda: {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
        if torch.backends.mps.is_available():
            devices.append("mps")
        return tuple(devices), bfloat16_is_faster()
    except (ImportError, OSError) as error:
        problems.append(f"PyTorch cannot be loaded ({error}); install torch again")
        return ("none",), None


def _cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None
