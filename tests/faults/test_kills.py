"""Killed at any moment, a project opens, holds every accepted cell as it was, and the work goes on to the same end."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.jobs import drive
from cell_curator.core.regions import HOLDOUT, REVIEWED
from cell_curator.io.tiff import write_tiff
from cell_curator.marking import mark
from cell_curator.session import Session

sys.path.insert(0, str(Path(__file__).parent))

from killable import Killable

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a POSIX signal")
MANY = [pytest.param(3, id="few"), pytest.param(100, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(3000)])]
SHAPE, IMAGES = (96, 96), 6


@pytest.fixture
def start(tmp_path, rng, discs):
    """A project of six images, the cells of the first of them accepted, and nothing found in the others."""
    for number in range(IMAGES):
        labels = discs(SHAPE, [(12 + 24 * (n // 4), 12 + 24 * (n % 4), 5 + n % 4) for n in range(16)])
        image = (200 + 800 * (labels > 0) + rng.normal(0, 20, SHAPE)).astype(np.uint16)
        (tmp_path / "images").mkdir(exist_ok=True)
        write_tiff(tmp_path / "images" / f"{number}.tif", image[None])
    session = Session.create(tmp_path / "start.curator")
    drive(session.add_images(tmp_path / "images"))
    session.set_labels(1, labels)
    session.set_verdict(session.cells.frame.index, "accepted")
    session.close()
    return session.folder


@pytest.fixture
def accepted(start):
    """The accepted cells with their pixels."""
    return kept(start)


def kept(folder):
    """Accepted cells by id: where they are, and every pixel; also that pixels and rows agree, and nothing is left."""
    session = Session.open(folder)
    try:
        assert session.project.read_only == ""
        for record in session.images:
            labels, rows = session.labels(record.image_id), session.cells.of_image(record.image_id)
            values, counts = np.unique(labels[labels > 0], return_counts=True)
            assert rows.sort_values("label")["label"].tolist() == values.tolist()
            assert rows.sort_values("label")["area"].tolist() == counts.tolist()
        rows = session.cells.frame[session.cells.frame["verdict"] == "accepted"]
        places = zip(rows.index, rows["image"], rows["label"], strict=True)
        cells = {cell: (image, (session.labels(image) == label).tobytes()) for cell, image, label in places}
    finally:
        session.close()
    assert not [path for path in folder.rglob("*") if path.name.endswith(".part") or ".writing-" in path.name]
    return cells


@pytest.fixture(scope="module")
def batch():
    made = Killable("batch")
    yield made
    made.close()


def table(folder):
    session = Session.open(folder)
    session.close()
    return session.cells.frame.drop(columns="corrected")


@pytest.mark.parametrize("kills", MANY)
def test_a_batch_run_goes_on_to_the_same_end(tmp_path, start, accepted, batch, rng, kills):
    whole = tmp_path / "whole.curator"
    shutil.copytree(start, whole)
    seconds = batch(whole)
    expected, done, ends, folder = table(whole), 0, 0, None
    while done < kills:
        if folder is None:
            folder = tmp_path / f"run-{done}.curator"
            shutil.copytree(start, folder)
        if batch(folder, seconds=rng.uniform(0, 0.6 * seconds)) is None:
            done += 1
            assert accepted.items() <= kept(folder).items()
        if done % 4 == 0 or done == kills:  # now let it end
            batch(folder)
            pd.testing.assert_frame_equal(table(folder).reset_index(drop=True), expected.reset_index(drop=True))
            assert accepted.items() <= kept(folder).items()
            shutil.rmtree(folder)
            ends, folder = ends + 1, None
    assert ends


@pytest.mark.parametrize("kills", MANY)
def test_editing_loses_no_accepted_cell(start, accepted, rng, kills):
    editing = Killable("editing")
    for kill in range(kills):
        assert editing(start, kill, rng.uniform(0.05, 0.5)) is None
        now = kept(start)
        assert accepted.keys() == now.keys()
        assert accepted == now
    editing.close()


@pytest.mark.parametrize("kills", MANY[1:])
def test_a_training_goes_on_to_the_same_end(tmp_path, start, rng, kills):
    session = Session.open(start)
    session.set_labels(2, session.labels(1))
    for image, kind in ((1, REVIEWED), (2, REVIEWED), (2, HOLDOUT)):
        mark(session, image, kind)
    session.close()
    accepted, training, done = kept(start), Killable("training"), 0
    whole = tmp_path / "whole.curator"
    shutil.copytree(start, whole)
    seconds, expected = training(whole), weights(whole)
    while done < kills:
        folder = tmp_path / f"run-{done}.curator"
        shutil.copytree(start, folder)
        while done < kills and training(folder, seconds=rng.uniform(0, seconds)) is None:
            done += 1
            assert accepted == kept(folder)
        if not list((folder / "models").glob("round-*")):
            training(folder)
        assert weights(folder) == expected
        shutil.rmtree(folder)
    training.close()


def weights(folder):
    return (folder / "models" / "round-01" / "weights.pth").read_bytes()
