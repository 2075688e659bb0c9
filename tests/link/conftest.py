"""A viewer's model without a window, and a small project bound to it."""

from __future__ import annotations

import pytest
from napari.components import ViewerModel

from cell_curator.link.viewer_link import ViewerLink
from small_project import execute, mapped, session  # noqa: F401


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def link(session, viewer):  # noqa: F811
    link = ViewerLink(session, viewer)
    yield link
    link.unbind()
