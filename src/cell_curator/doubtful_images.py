"""Which images of a project or of a folder look wrong, and why.

All images are read once, which takes a while, so what was found is kept with the project. Whoever is about to learn
from images or to measure them says in one line which look spoiled: see `doubtful_files` and `doubtful_in`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cell_curator.core.image_flags import (
    Doubtful,
    ImageFlag,
    ImageFlagParameters,
    ImageLook,
    doubtful,
    flags,
    look,
)
from cell_curator.core.jobs import ALONE, Job, Progress, UserError, each, retried, together
from cell_curator.io.blocks import open_image
from cell_curator.io.folders import Source, sources
from cell_curator.io.images import read_info
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord
from cell_curator.one_image import where
from cell_curator.session import Session

SETTING = "Images that look wrong"
"""Name of the setting that holds what was found."""


@dataclass(frozen=True)
class ImageReport:
    """What was found when all images were looked at.

    Parameters
    ----------
    flags
        By image id, in the order of the project; images with nothing wrong are missing.
    looked_at
        How many images of the project were compared.
    unread
        (image id, reason) of those that could not be read.
    new
        How many images the project has that were not there then.
    """

    flags: Mapping[int, tuple[ImageFlag, ...]]
    looked_at: int
    unread: tuple[tuple[int, str], ...] = ()
    new: int = 0

    @property
    def text(self) -> str:
        """One line for the user."""
        said = f"{len(self.flags)} of {self.looked_at} images look wrong"
        if self.unread:
            said += f"; {len(self.unread)} cannot be read"
        return f"{said}; {self.new} came later" if self.new else said


def look_at_images(session: Session) -> Job[ImageReport]:
    """Compare all images, and keep with the project what looks wrong."""
    looks: dict[int, ImageLook] = {}
    unread: dict[int, str] = {}

    def one(record: ImageRecord) -> Job[ImageLook]:
        if session.crew is not None:
            made: ImageLook = yield from session.crew.call("cell_curator.one_image:impression", **where(record))
            return made
        yield Progress(0.0)
        return look(session.pixels(record.image_id))

    def take(record: ImageRecord, made: ImageLook) -> None:
        looks[record.image_id] = made

    def begin(record: ImageRecord) -> Job[ImageLook]:
        return retried(partial(one, record))

    def fail(record: ImageRecord, error: UserError) -> None:
        unread[record.image_id] = str(error)

    crew = session.crew or ALONE
    yield from together(session.images, begin, take, at_once=crew.at_once, name=lambda record: record.name, failed=fail)
    rows = session.counting_cells()
    diameters = 2 * np.sqrt(rows["area"].groupby(rows["image"]).median() / np.pi)
    names = {record.image_id: record.name for record in session.images}
    files = {record.image_id: record.path for record in session.images}
    found = flags(looks, diameters.to_dict(), session.get(ImageFlagParameters), names=names, files=files)
    stored = {
        "flags": {str(image): [[flag.key, flag.text] for flag in those] for image, those in found.items()},
        "looked_at": sorted(looks),
        "unread": {str(image): reason for image, reason in unread.items()},
    }
    session.commit(Change("look at images", {"images": len(looks), "flagged": len(found)}, settings={SETTING: stored}))
    session.events.parameters_changed.emit(SETTING)
    made = image_report(session)
    assert made is not None
    return made


def image_report(session: Session) -> ImageReport | None:
    """What was found the last time, for the images that are still there; None if they were never looked at."""
    stored = session.setting(SETTING)
    if stored is None:
        return None
    ids = [record.image_id for record in session.images]
    found = {image: tuple(ImageFlag(*flag) for flag in stored["flags"].get(str(image), ())) for image in ids}
    unread = tuple((image, stored["unread"][str(image)]) for image in ids if str(image) in stored["unread"])
    seen = set(stored["looked_at"]) & set(ids)
    return ImageReport(
        {image: those for image, those in found.items() if those}, len(seen), unread, len(ids) - len(seen) - len(unread)
    )


def doubtful_files(images: Path, among: Collection[str] | None = None) -> Job[Doubtful]:
    """Which images of a folder look spoiled beside the others, by their names in it; of a stack the first plane.

    Parameters
    ----------
    among
        Names of those to look at; all by default. What cannot be read is told of elsewhere.
    """
    chosen = [source for source in sources(images) if among is None or source.stem in among]
    looks: dict[int, ImageLook] = {}

    def one(source: Source) -> Job[None]:
        first = read_info(source.path).numbers[0]
        looks[chosen.index(source)] = look(open_image(source.path, first))
        yield from ()

    yield from each(chosen, one, name=lambda source: f"looking at {source.stem}", failed=lambda *_: None)
    found = flags(looks, {})
    return doubtful({chosen[number].stem: those for number, those in found.items()}, len(looks))


def doubtful_in(session: Session, image_ids: Collection[int] | None = None) -> Doubtful:
    """Which of these images of a project (all by default) look spoiled, as was found when they were last looked at."""
    report = image_report(session)
    if report is None:
        return Doubtful({}, 0)
    asked = {record.image_id: record.name for record in session.images}
    asked = {number: name for number, name in asked.items() if image_ids is None or number in image_ids}
    return doubtful({name: report.flags.get(number, ()) for number, name in asked.items()}, len(asked))
