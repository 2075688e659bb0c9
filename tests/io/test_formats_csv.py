"""Tables: the columns promised, in order, readable by anything."""

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.cells import COLUMNS, CellTable
from cell_curator.core.measure import measure
from cell_curator.io.formats.csv import write_cells, write_clusters, write_errors, write_outliers

NAMES = {1: "kontrolle/ä, 1", 2: 'drug/"2"'}


@pytest.fixture
def cells(discs):
    labels = discs((40, 60), [(12, 12, 6), (20, 40, 8)])
    measured = measure(labels, labels[None].astype(np.uint8))
    frame = pd.concat([measured.assign(image=i, label=measured.index) for i in (1, 2)])
    frame.index = pd.Index([11, 12, 13, 14])
    return CellTable(frame.assign(score=[0.1, 0.9, np.nan, 0.5], flags=["", "large; blurred", "", ""], cluster=1))


def test_cells_keep_every_column_and_name_their_image(cells, tmp_path):
    write_cells(tmp_path / "cells.csv", cells, NAMES)
    table = pd.read_csv(tmp_path / "cells.csv", index_col="cell_id", keep_default_na=False)
    assert set(table.columns) == set(COLUMNS)
    assert list(table["image"]) == [NAMES[1], NAMES[1], NAMES[2], NAMES[2]]
    assert list(table.index) == [11, 12, 13, 14]
    assert table["area"].to_numpy() == pytest.approx(cells.frame["area"].to_numpy())


def test_clusters_leave_out_cells_that_are_gone(cells, tmp_path):
    latent = np.arange(9, dtype=np.float32).reshape(3, 3)
    write_clusters(tmp_path / "clusters.csv", cells, NAMES, np.array([14, 99, 11]), latent[:, :2], latent, {1: "large"})
    table = pd.read_csv(tmp_path / "clusters.csv")
    assert list(table.columns) == [
        "cell_id", "image", "condition", "cluster", "label", "cluster_name", "map_error", "map_isolation",
        "map_x", "map_y", "latent_1", "latent_2", "latent_3",
    ]  # fmt: skip
    assert list(table["cluster_name"]) == ["large", "large"]
    assert list(table["cell_id"]) == [14, 11]
    assert list(table["latent_3"]) == [2, 8]


def test_outliers_come_with_the_highest_score_first_and_unscored_last(cells, tmp_path):
    write_outliers(tmp_path / "outliers.csv", cells, NAMES)
    table = pd.read_csv(tmp_path / "outliers.csv", keep_default_na=False)
    assert list(table["cell_id"]) == [12, 14, 11, 13]
    assert table["reasons"][0] == "large; blurred"


def test_errors_do_not_repeat_the_file_in_the_reason(tmp_path):
    write_errors(tmp_path / "errors.csv", [("/a/b.tif", "/a/b.tif: is empty"), ("c", "too dark")])
    assert (tmp_path / "errors.csv").read_text() == "file,reason\n/a/b.tif,is empty\nc,too dark\n"
