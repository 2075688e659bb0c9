"""Cells as they would be come in place of the user's own, which never stay hidden."""

from __future__ import annotations

import numpy as np
import pytest

from cell_curator.link.geometry import turn_affine
from cell_curator.link.proposal import PROPOSAL, Proposal


@pytest.fixture
def proposal(viewer):
    return Proposal(viewer)


def show(proposal, link, value=1):
    labels = np.full(link.image.shape, value, np.int32)
    proposal.show(labels, link.image.affine, link.labels.layer)
    return labels


def test_it_hides_the_cells_and_shows_them_again(proposal, viewer, link):
    cells, layers = link.labels.layer, list(viewer.layers)
    viewer.layers.selection.active = cells
    show(proposal, link)
    assert not cells.visible
    assert viewer.layers.selection.active is cells
    proposal.remove()
    proposal.remove()
    assert cells.visible
    assert list(viewer.layers) == layers


def test_while_the_slider_moves_one_layer_is_filled_anew(proposal, viewer, link):
    labels = show(proposal, link)
    layer = viewer.layers[PROPOSAL]
    for value in (2, 3):
        now = show(proposal, link, value)
        assert viewer.layers[PROPOSAL] is layer
        np.testing.assert_array_equal(layer.data, now)
    assert labels.max() == 1  # what was handed over is not written to
    proposal.remove()
    assert link.labels.layer.visible


def test_cells_that_the_user_had_hidden_stay_hidden(proposal, link):
    link.labels.layer.visible = False
    show(proposal, link)
    show(proposal, link)
    proposal.remove()
    assert not link.labels.layer.visible


def test_it_lies_on_a_turned_image(proposal, viewer, link):
    link.turn(link.labels.image_id, 25.0)
    show(proposal, link)
    np.testing.assert_allclose(viewer.layers[PROPOSAL].affine.affine_matrix, turn_affine(link.image.shape, 25.0))
    proposal.remove()


def test_a_new_image_shows_its_cells(proposal, link, session):
    show(proposal, link)
    proposal.remove()  # as the dock does when another image is chosen
    session.show_image(2)
    assert link.labels.image_id == 2
    assert link.labels.layer.visible


def test_the_user_may_delete_either_layer(proposal, viewer, link):
    show(proposal, link)
    viewer.layers.remove(PROPOSAL)
    show(proposal, link)
    assert not link.labels.layer.visible
    proposal.remove()
    assert link.labels.layer.visible
    show(proposal, link)
    viewer.layers.remove(link.labels.layer)
    proposal.remove()
    assert PROPOSAL not in viewer.layers


def test_a_closed_project_takes_the_proposal_with_it(proposal, viewer, link):
    show(proposal, link)
    cells = link.labels.layer
    link.unbind()
    proposal.remove()
    assert cells.visible
    assert len(viewer.layers) == 0
