"""Small projects with known cells, made without any engine."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.jobs import drive
from cell_curator.engines.worker import inline
from cell_curator.io.project import Change
from cell_curator.io.records import StoredEmbedding
from cell_curator.io.tiff import write_tiff
from cell_curator.session import Session

SHAPE = (64, 80)
CIRCLES = [(16, 16, 6), (16, 48, 8), (46, 30, 7), (44, 62, 7)]
SCORES = {"silhouette": 0.25, "davies_bouldin": 1.5, "calinski_harabasz": 96.0}


@pytest.fixture
def execute():
    """How the session runs heavy functions."""
    return inline


@pytest.fixture
def session(tmp_path, rng, discs, execute):
    """Two images of four round cells each, in two conditions; labels 1..4 in both."""
    for condition in ("control", "treated"):
        labels = discs(SHAPE, CIRCLES)
        image = (200 + 800 * (labels > 0) + rng.normal(0, 20, SHAPE)).astype(np.uint16)
        (tmp_path / "images" / condition).mkdir(parents=True)
        write_tiff(tmp_path / "images" / condition / f"{condition}.tif", image[None])
    session = Session.create(tmp_path / "images.curator", execute=execute)
    drive(session.add_images(tmp_path / "images"))
    for record in session.images:
        session.set_labels(record.image_id, discs(SHAPE, CIRCLES))
    yield session
    session.close()


@pytest.fixture
def mapped(session):
    """The same with a map: cell n of eight at (n, n²), three clusters."""
    frame = session.cells.frame
    ids = frame.index.to_numpy()
    points = np.array([(n, n * n) for n in range(len(ids))], np.float32)
    stored = StoredEmbedding(ids, frame["revision"].to_numpy(), points, points, {}, {})
    clusters = pd.Series(np.arange(len(ids)) % 3, index=ids)
    session.commit(
        Change(
            "map",
            {},
            cells=frame.assign(cluster=clusters),
            embedding=stored,
            clustering={
                "names": {"0": "Cluster 1", "1": "Cluster 2", "2": "Cluster 3"},
                "space": "latent",
                "scores": {},
            },
        )
    )
    return session
