"""The list of all formats, and which one a file or folder is in."""

from __future__ import annotations

import os
from pathlib import Path

from cell_curator.core.jobs import UserError
from cell_curator.io.formats import cellpose_seg, coco, csv, dsb2018, geojson, h5ad, imagej, label_files, ngff
from cell_curator.io.formats.base import Format

FORMATS: tuple[Format, ...] = (
    csv.FORMAT,
    label_files.TIFF,
    label_files.PNG,
    cellpose_seg.FORMAT,
    imagej.FORMAT,
    geojson.FORMAT,
    coco.FORMAT,
    coco.POLYGONS,
    ngff.FORMAT,
    h5ad.FORMAT,
    dsb2018.FORMAT,
)
"""All formats, the most asked for first."""

WRITTEN = tuple(form for form in FORMATS if form.write)
READ = tuple(form for form in FORMATS if form.read)

_OURS = ("recipe.json", "card.json", "marks.json")
_RECOGNISED = tuple(form for form in READ if form not in (label_files.PNG, coco.POLYGONS))


def by_name(name: str, among: tuple[Format, ...] = FORMATS) -> Format:
    """The format with this name or alias, whatever the case.

    Raises
    ------
    UserError
        There is none; the line lists those that there are.
    """
    wanted = name.strip().lower()
    for form in among:
        if wanted in (form.name, *form.aliases):
            return form
    known = any(wanted in (form.name, *form.aliases) for form in FORMATS)
    only = "is read only" if among is WRITTEN else "holds no masks, so it cannot be read in"
    what = only if known else "is no format known here"
    raise UserError(f"{name}: {what}; use one of {', '.join(form.name for form in among)}")


def find(source: Path, form: Format | None = None) -> tuple[Format, list[tuple[Path, str]]]:
    """The files of a format in ``source``, each with its path below it without ending, in order.

    Parameters
    ----------
    source
        A file, or a folder that is searched with its sub-folders.
    form
        None to find out.

    Raises
    ------
    UserError
        ``source`` is missing, holds nothing that can be read, or several formats.
    """
    if not source.exists():
        raise UserError(f"{source}: does not exist; check the path")
    found = _files(source, _RECOGNISED if form is None else (form,))
    if len(found) > 1 and coco.FORMAT not in found:
        found.pop(label_files.TIFF, None)  # the images themselves, beside what was made of them
    if len(found) > 1:
        names = " and ".join(other.name for other in FORMATS if other in found)
        raise UserError(f"{source}: holds {names}; say which with --format")
    if not found:
        wanted = "masks that can be read here" if form is None else f"files of the format {form.name}"
        raise UserError(f"{source}: holds no {wanted}; formats are {', '.join(one.name for one in READ)}")
    return next(iter(found.items()))


def _files(source: Path, forms: tuple[Format, ...]) -> dict[Format, list[tuple[Path, str]]]:
    found: dict[Format, list[tuple[Path, str]]] = {}
    for path in _walk(source, forms):
        form, ending = _which(path, forms)
        if form is not None:
            below = path.name if path == source else path.relative_to(source).as_posix()
            found.setdefault(form, []).append((path, below[: len(below) - len(ending)]))
    return found


def _walk(source: Path, forms: tuple[Format, ...]) -> list[Path]:
    """Files below ``source``, and folders that are one thing (a zarr store, a nucleus folder)."""
    if source.is_file() or _which(source, forms)[0] is not None:
        return [source]
    paths: list[Path] = []
    for folder, folders, names in os.walk(source):
        whole = [name for name in folders if _which(Path(folder, name), forms)[0] is not None]
        paths += [Path(folder, name) for name in whole]
        folders[:] = sorted(name for name in folders if name not in whole and not _passed_over(name))
        paths += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(paths)


def _passed_over(folder: str) -> bool:
    return folder.startswith((".", "__")) or folder.endswith(".curator")


def _which(path: Path, forms: tuple[Format, ...]) -> tuple[Format | None, str]:
    """The format of one file or folder and the ending that told."""
    name = path.name.lower()
    for form in forms:
        ending = max((e for e in form.reads if name.endswith(e) and len(name) > len(e)), key=len, default="")
        if path.is_dir():
            if form.folder is not None and form.folder(path):
                return form, ending
        elif ending and form.folder is None and name not in _OURS:
            return form, ending
    return None, ""
