"""Cells are measured in the channel in which they are looked for, whatever lies beside it."""

import numpy as np
import pytest

from cell_curator.core.jobs import drive
from cell_curator.core.recipe import Channel, Recipe
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.io.tiff import write_tiff
from cell_curator.measured_channel import measured_channel
from cell_curator.session import Session

DNA, MARKER = 100, 200


@pytest.fixture
def project(tmp_path, discs):
    """One image of two channels, one cell, brighter in the second channel."""
    labels = discs((40, 40), [(20, 20, 8)])
    image = np.stack([DNA * (labels > 0), np.full_like(labels, MARKER)]).astype(np.uint16)
    write_tiff(tmp_path / "a.tif", image)
    session = Session.create(tmp_path / "a.curator")
    drive(session.add_images(tmp_path / "a.tif"))
    yield session, labels
    session.close()


@pytest.mark.parametrize(
    ("channel", "raw", "expected"),
    [
        (Channel(mode="auto"), None, DNA),
        (Channel(mode="index", index=1), None, MARKER),
        (Channel(mode="max"), None, MARKER),  # as one: the brightest
        (Channel(mode="index", index=1), 0, DNA),  # what is looked at raw wins over the recipe
    ],
)
def test_brightness_is_that_of_the_channel_looked_at(project, channel, raw, expected):
    session, labels = project
    session.put(Recipe(channel=channel))
    if raw is not None:
        session.put(SegmentParameters(source="raw", channel=raw))
    session.set_labels(1, labels)
    assert session.cells.frame["mean_intensity"].tolist() == [expected]


def test_rgb_and_channels_that_are_not_there_are_looked_at_whole(project):
    session, _ = project
    rgb = np.zeros((3, 4, 4), np.uint8)
    assert measured_channel(session, rgb) is rgb
    session.put(Recipe(channel=Channel(mode="index", index=5)))
    assert measured_channel(session, rgb) is rgb


def test_cells_are_measured_anew_when_they_are_looked_for_in_another_channel(project):
    session, labels = project
    session.set_labels(1, labels)
    drive(session.score_outliers())
    assert session.cells.frame["mean_intensity"].tolist() == [DNA]
    number = len(session.project.journal())
    drive(session.score_outliers())
    assert "measure" not in list(session.project.journal()["action"])[number:]
    session.put(Recipe(channel=Channel(mode="index", index=1)))
    drive(session.score_outliers())
    assert session.cells.frame["mean_intensity"].tolist() == [MARKER]
    session.put(Recipe(channel=Channel(mode="index", index=0)))
    drive(session.score_outliers())
    assert session.cells.frame["mean_intensity"].tolist() == [DNA]
