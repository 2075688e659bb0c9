"""What napari's menus offer, and that looking at the menus stays light."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from npe2 import PluginManifest
from qtpy.QtWidgets import QWidget

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(ROOT / "napari.yaml")


def target(manifest, command):
    names = {c.id: c.python_name for c in manifest.contributions.commands}
    module, _, name = names[command].partition(":")
    return getattr(import_module(module), name)


def test_the_first_entry_opens_all_docks_and_each_has_its_own(manifest):
    names = [widget.display_name for widget in manifest.contributions.widgets]
    assert names == [
        "Cell Curator (all docks)",
        "Images",
        "Preprocess",
        "Segment",
        "Correct",
        "Teach",
        "Review",
        "Patches",
        "Explore",
        "Types",
        "Confluency",
        "Batch",
    ]
    for widget in manifest.contributions.widgets:
        assert issubclass(target(manifest, widget.command), QWidget)


def test_every_sample_gives_layers(manifest):
    assert [sample.key for sample in manifest.contributions.sample_data] == ["grooves", "cells", "phase"]
    for sample in manifest.contributions.sample_data:
        layers = target(manifest, sample.command)()
        assert {kind for _, _, kind in layers} <= {"image", "labels"}
        assert "image" in {kind for _, _, kind in layers}


@pytest.mark.parametrize("module", ["cell_curator.widgets.window", "cell_curator.samples"])
def test_torch_stays_out_of_the_viewers_process(module):
    code = f"import sys, {module}; print([m for m in ('torch', 'cellpose', 'umap') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
