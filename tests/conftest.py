"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _no_foreign_models(tmp_path_factory, monkeypatch):
    """Tests see the bundled models only, never those of the person who runs them, nor what is kept for them."""
    monkeypatch.setenv("CELL_CURATOR_MODELS", str(tmp_path_factory.getbasetemp() / "models"))
    monkeypatch.setenv("CELL_CURATOR_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch):
    """No processes for a few small images, in which nothing that a test puts in place of something would be there."""
    monkeypatch.setenv("CELL_CURATOR_WORKERS", "1")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images; the test is skipped where there is none."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CELL_CURATOR_DATA", default))
    if not (folder / "dsb2018").is_dir():
        pytest.skip("real images are not here; set CELL_CURATOR_DATA to their folder")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def discs():
    """Label image of round cells without contact: ``discs((Y, X), [(y, x, r), …])``."""

    def make(shape, circles):
        labels = np.zeros(shape, np.int32)
        y, x = np.ogrid[: shape[0], : shape[1]]
        for number, (cy, cx, radius) in enumerate(circles, 1):
            labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
        return labels

    return make
