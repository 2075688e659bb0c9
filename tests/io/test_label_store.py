"""Label images on disk: only what changed is written, and nothing that is written is touched again."""

from __future__ import annotations

import numpy as np
import pytest

from cell_curator.io import label_store
from cell_curator.io.label_store import LabelStore

SHAPE = (1100, 700)  # 3 × 2 chunks, the last ones cut off by the border


@pytest.fixture
def store(tmp_path):
    return LabelStore(tmp_path / "labels.zarr")


def _files(tmp_path, revision):
    folder = tmp_path / "labels.zarr" / "labels" / f"000001-r{revision}" / "0" / "c"
    return {path.relative_to(folder).as_posix(): path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_random_edits_read_back_whatever_chunks_they_touch(store, rng):
    labels = rng.integers(0, 5, SHAPE, dtype=np.int32)
    for revision in range(1, 12):
        store.write(1, revision, labels)
        assert np.array_equal(LabelStore(store._folder).read(1, revision), labels)
        labels = labels.copy()
        top, left = rng.integers(0, 900), rng.integers(0, 600)
        labels[top : top + 300, left : left + 50] = revision % 3  # at times a chunk is all zero
        if revision == 6:
            labels[:] = 0
    store.tidy({1: 11})
    assert np.array_equal(store.read(1, 11), LabelStore(store._folder).read(1, 11))


def test_only_the_chunks_that_changed_are_written(store, tmp_path):
    labels = np.ones(SHAPE, np.int32)
    store.write(1, 1, labels)
    changed = labels.copy()
    changed[600, 20] = 7
    store.write(1, 2, changed)
    before, after = _files(tmp_path, 1), _files(tmp_path, 2)
    assert {key for key in after if after[key] != before[key]} == {"1/0"}
    assert np.array_equal(store.read(1, 1), labels)
    assert np.array_equal(store.read(1, 2), changed)


def test_a_disk_without_hard_links_writes_everything(store, tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError

    monkeypatch.setattr(label_store, "_link", refused)
    for revision in (1, 2):
        store.write(1, revision, np.full(SHAPE, revision, np.int32))
    assert (store.read(1, 2) == 2).all()
    assert not _files(tmp_path, 1).items() & _files(tmp_path, 2).items()


def test_labels_that_were_handed_over_cannot_be_changed_behind_the_store(store):
    labels = np.ones((40, 40), np.int32)
    store.write(1, 1, labels)
    with pytest.raises(ValueError, match="read-only"):
        labels[0, 0] = 2
    part = np.ones((50, 50), np.int32)
    store.write(2, 1, part[:40, :40])
    part[0, 0] = 5
    again = np.ones((40, 40), np.int32)
    again[0, 0] = 5
    store.write(2, 2, again)
    assert store.read(2, 2)[0, 0] == 5


def test_the_folder_names_its_label_images(store, tmp_path):
    import zarr

    for image_id in (1, 2):
        for revision in (1, 2):
            store.write(image_id, revision, np.full((30, 20), revision, np.int32))
    store.tidy({1: 2, 2: 2})
    group = zarr.open_group(str(tmp_path / "labels.zarr" / "labels"), mode="r")
    assert group.attrs["ome"]["labels"] == ["000001-r2", "000002-r2"]
    image = zarr.open_group(str(tmp_path / "labels.zarr" / "labels" / "000002-r2"), mode="r")
    assert image.attrs["ome"]["multiscales"][0]["name"] == "000002-r2"
    assert image.attrs["ome"]["version"] == group.attrs["ome"]["version"]
