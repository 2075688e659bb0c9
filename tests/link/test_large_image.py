"""An image larger than memory in the viewer: a pyramid of which what is in view is read."""

from __future__ import annotations

import numpy as np
import pytest

from cell_curator.core.cells import CellTable
from cell_curator.core.jobs import drive
from cell_curator.core.lazy import is_large
from cell_curator.core.measure import measure
from cell_curator.io.label_store import LabelWriter
from cell_curator.io.project import Change
from cell_curator.link.viewer_link import ViewerLink
from cell_curator.session import Session
from large_project import LIMIT, mosaic, write_mosaic


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A session with a small image and a mosaic in which every cell of the truth is known."""
    pixels = mosaic()
    write_mosaic(tmp_path / "images" / "a.tif", pixels[:, :512])
    write_mosaic(tmp_path / "images" / "mosaic.tif", pixels)
    monkeypatch.setenv("CELL_CURATOR_LARGE_MPX", LIMIT)
    session = Session.create(tmp_path / "large.curator")
    drive(session.add_images(tmp_path / "images"))
    assert [is_large(record.shape) for record in session.images] == [False, True]
    yield session
    session.close()


def give_cells(session: Session) -> np.ndarray:
    """Squares, as if they had been found."""
    record = session.images[1]
    labels = np.zeros(record.shape[1:], np.int32)
    for number in range(8):
        labels[40:70, 100 * number + 20 : 100 * number + 50] = number + 1
    writer = LabelWriter(session.folder / "cache" / "blocks" / "test", labels.shape)
    writer.write((0, 0, *labels.shape), labels)
    rows = measure(labels, labels[None]).assign(image=record.image_id, label=np.arange(1, 9), condition="")
    rows.index = session.project.reserve_cell_ids(8)
    session.commit(Change("segment", cells=CellTable(rows).frame, labels={record.image_id: writer.finish()}))
    return labels


def test_it_is_shown_as_a_pyramid_with_its_cells(large, viewer):
    link = ViewerLink(large, viewer)
    labels = give_cells(large)
    large.show_image(2)
    raw, prepared, cells = link.image.layers[0], link.image.prepared_layer, link.labels.layer
    assert raw.multiscale
    assert raw.data[0].shape == (512, 1024)
    np.testing.assert_array_equal(np.asarray(raw.data[0][100:200, 300:420]), mosaic()[100:200, 300:420])
    assert raw.extent.world.tolist() == cells.extent.world.tolist()
    assert prepared.extent.world == pytest.approx(raw.extent.world, abs=2)
    assert not cells.editable
    np.testing.assert_array_equal(np.asarray(cells.data[0][30:80, :200]), labels[30:80, :200])
    link.unbind()
    assert not viewer.layers


def test_a_cell_is_found_by_click_and_shown_by_its_row(large, viewer):
    link = ViewerLink(large, viewer)
    give_cells(large)
    large.show_image(2)
    cell = int(large.cells.frame.index[3])
    assert link._cell_at((50.0, 330.0), viewer) == cell
    link.go_to(cell)
    assert large.selection.ids == {cell}
    link.unbind()


def test_new_cells_appear_and_small_images_stay_as_they_were(large, viewer):
    link = ViewerLink(large, viewer)
    large.show_image(2)
    assert not np.asarray(link.labels.layer.data[0][30:80, :200]).any()
    labels = give_cells(large)
    np.testing.assert_array_equal(np.asarray(link.labels.layer.data[0][30:80, :200]), labels[30:80, :200])
    large.show_image(1)
    assert not link.image.layers[0].multiscale
    assert link.labels.layer.editable
    assert isinstance(link.labels.layer.data, np.ndarray)
    large.show_image(2)
    assert link.image.layers[0].multiscale
    link.unbind()
