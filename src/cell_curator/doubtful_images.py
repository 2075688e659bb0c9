"""Which images of a project look wrong, and why; on a `Session`.

All images are read once, which takes a while, so what was found is kept with the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cell_curator.core.image_flags import ImageFlag, ImageFlagParameters, ImageLook, flags, look
from cell_curator.core.jobs import Job, UserError, each
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord
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

    def one(record: ImageRecord) -> Job[None]:
        looks[record.image_id] = look(session.pixels(record.image_id))
        yield from ()

    def fail(record: ImageRecord, error: UserError) -> None:
        unread[record.image_id] = str(error)

    yield from each(list(session.images), one, name=lambda record: record.name, failed=fail)
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
