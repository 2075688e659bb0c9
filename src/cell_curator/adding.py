"""Images into a project: one record for each image, or for each plane of a stack or frame of a time lapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.io.images import ImageInfo, find_images, read_info
from cell_curator.io.project import Change
from cell_curator.io.records import ImageRecord

if TYPE_CHECKING:
    from cell_curator.session import Session


@dataclass(frozen=True)
class AddReport:
    """Ids of the images added, and (file, reason) of those that could not be."""

    added: tuple[int, ...]
    failed: tuple[tuple[str, str], ...]


def add_images(session: Session, source: Path) -> Job[AddReport]:
    """Add every image under ``source``; what is in the project already is passed over.

    Raises
    ------
    UserError
        If the folder is missing or holds no image.
    """
    found = find_images(source)
    root = (source.parent if found[0][0] == source else source).resolve()
    added: list[int] = []
    failed: list[tuple[str, str]] = []
    known = {(record.path, record.plane) for record in session.images}
    whole = {record.path for record in session.images if not record.axis}
    names = {record.name for record in session.images}
    for index, (path, condition) in enumerate(found):
        yield Progress(index / len(found), path.name)
        path = path.resolve()
        if path in whole:
            continue
        try:
            info = read_info(path)
        except UserError as error:
            failed.append((str(path), str(error)))
            continue
        planes = [plane for plane in range(info.planes) if (path, plane) not in known]
        title = _siblings(session, path) or _title(path.relative_to(root).with_suffix("").as_posix(), info, names)
        if planes:
            made = [_name(title, info, plane) for plane in planes]
            names.update(made)
            added.extend(add_file(session, info, made, condition, planes))
    return AddReport(tuple(added), tuple(failed))


def add_file(
    session: Session, info: ImageInfo, names: Sequence[str], condition: str, planes: Sequence[int] = (0,)
) -> tuple[int, ...]:
    """Add an image, or these planes of a stack, under these names as one change; returns their ids."""
    first = max((record.image_id for record in session.images), default=0) + 1
    records = tuple(
        ImageRecord(
            first + index,
            name,
            info.path,
            condition,
            info.channel_names,
            info.pixel_size_um,
            info.shape,
            note="; ".join(info.notes),
            axis=info.axis,
            plane=plane,
        )
        for index, (name, plane) in enumerate(zip(names, planes, strict=True))
    )
    path = str(info.path)
    if info.axis:
        change = Change("add stack", {"names": list(names), "path": path, "planes": list(planes)}, images=records)
    else:
        change = Change("add image", {"name": names[0], "path": path}, images=records)
    session.commit(change)
    return tuple(record.image_id for record in records)


def title_of(record: ImageRecord) -> str:
    """The name of the file that an image is a plane of; the name of any other image."""
    return record.name.rpartition(" [")[0] if record.axis else record.name


def _siblings(session: Session, path: Path) -> str:
    """What other planes of this file are called, if the project has some."""
    return next((title_of(record) for record in session.images if record.path == path), "")


def _title(stem: str, info: ImageInfo, names: set[str]) -> str:
    """A name that is not taken: two files may differ only in suffix, or come from two folders."""
    candidates = [stem, f"{stem}{info.path.suffix}", *(f"{stem} ({n})" for n in range(2, len(names) + 3))]
    return next(one for one in candidates if _name(one, info, 0) not in names)


def _name(title: str, info: ImageInfo, plane: int) -> str:
    """``movie [t 07]``, counted from 1 as people do."""
    return f"{title} [{info.axis.lower()} {plane + 1:0{len(str(info.planes))}}]" if info.axis else title
