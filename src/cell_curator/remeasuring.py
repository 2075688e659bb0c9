"""Measuring cells again: those of an older version, which lack what is measured since, and all in another channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cell_curator.core.jobs import Job, UserError, each
from cell_curator.core.large_cells import measure_lazily
from cell_curator.core.lazy import Lazy
from cell_curator.core.measure import MEASURED, measure
from cell_curator.io.project import Change
from cell_curator.measured_channel import channel_rule, measured_channel

if TYPE_CHECKING:
    from cell_curator.session import Session

_MEASURED_IN = "measured in"
"""Name under which the project keeps which channel its cells are measured in, see `measured_channel.channel_rule`."""

_ALWAYS = ["saturated", "grain"]
"""Measurements that every measured cell has, of those that came with formats 3 and 4."""


def remeasure(session: Session) -> Job[tuple[str, ...]]:
    """Measure the cells that lack it, image by image; returns the names of images that cannot be read.

    All cells, if they are looked for in another channel now. What they are called, and whether they are
    suspicious, stays as it is.
    """
    frame, rule = session.cells.frame, channel_rule(session)
    known = session.setting(_MEASURED_IN)
    lack = frame[_ALWAYS].isna().any(axis=1) | (known not in (None, rule))
    images = [int(number) for number in frame.loc[lack, "image"].unique()]
    unread: list[str] = []

    def one(image_id: int) -> Job[None]:
        pixels: Any = measured_channel(session, session.pixels(image_id))
        with session.lock:  # what is measured and what is stored are the same labels
            rows = session.cells.of_image(image_id)
            labels: Any = session.label_view(image_id)
            large = isinstance(labels, Lazy)
            measured = measure_lazily(labels, pixels, rows) if large else measure(labels, pixels)
            measured = measured.reindex(rows["label"])
            there = measured["area"].notna().to_numpy()
            values = {name: measured[name].to_numpy()[there] for name in MEASURED}
            session.commit(
                Change(
                    "measure",
                    {"image": session.image(image_id).name},
                    cells=rows[there].assign(**values),
                    settings={_MEASURED_IN: rule},
                )
            )
        yield from ()

    def fail(image_id: int, error: UserError) -> None:
        unread.append(session.image(image_id).name)

    yield from each(images, one, name=lambda number: f"measuring {session.image(number).name}", failed=fail)
    if session.setting(_MEASURED_IN) != rule:
        session.commit(Change(settings={_MEASURED_IN: rule}))
    return tuple(unread)
