"""A folder of images in, a folder of files out: the common frame of the commands for many images.

Finds the images, keeps their sub-folders, reports a bad file and goes on with the next; by a crew many files are in
hand at once. What is done to each image is the caller's; so is anything that a project remembers.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import ALONE, Crew, Job, Progress, UserError, each, retried, scaled, together
from cell_curator.core.lazy import is_large
from cell_curator.core.orientation import common_angle, turn_labels_back
from cell_curator.core.preprocess import prepare, vote
from cell_curator.core.recipe import Recipe
from cell_curator.core.scores import Scores, evaluate
from cell_curator.io.atomic import write_error
from cell_curator.io.blocks import open_image
from cell_curator.io.images import find_images, natural_key, read_image, read_info, write_tiff
from cell_curator.io.labels import check_shape, read_labels, write_labels
from cell_curator.io.large_tiff import prepare_large
from cell_curator.io.recipes import read_turns, write_recipe

V = TypeVar("V")

ERRORS = "errors.csv"
"""File that says which images failed and why; there only if some did."""

_VOTING = 0.3  # share of the work that finding common angles is
_LABEL_SUFFIXES = (".tif", ".tiff", ".png")


@dataclass(frozen=True)
class Source:
    """One image file; ``stem`` is its path below the folder without suffix, ``"sub/A-03"``."""

    path: Path
    stem: str


@dataclass(frozen=True)
class FolderReport:
    """What became of a folder: stems done in order, and (file, reason) of those that failed."""

    done: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PairScores:
    """Scores of one image, by stem."""

    stem: str
    scores: Scores


@dataclass(frozen=True)
class Evaluation:
    """Scores of each image in natural order, and (file, reason) of what could not be compared."""

    images: tuple[PairScores, ...]
    failed: tuple[tuple[str, str], ...]

    def mean(self) -> dict[str, Any]:
        """Means over images of the rates, sums of the counts, as plain values."""
        rows = [asdict(pair.scores) for pair in self.images]
        result: dict[str, Any] = {
            "ap": {key: float(np.mean([row["ap"][key] for row in rows])) for key in rows[0]["ap"]}
        }
        for name in ("precision", "recall", "f1"):
            result[name] = float(np.mean([row[name] for row in rows]))
        for name in ("splits", "merges", "misses", "n_predicted", "n_true"):
            result[name] = int(sum(row[name] for row in rows))
        return result


def sources(images: Path | str) -> list[Source]:
    """The images of a folder (or the one file), each with its stem.

    Raises
    ------
    UserError
        As `images.find_images`.
    """
    root = Path(images)
    found = find_images(root)
    folder = root.parent if found[0][0] == root else root
    return [Source(path, path.relative_to(folder).with_suffix("").as_posix()) for path, _ in found]


def convert(
    images: Path | str,
    out: Path | str,
    work: Callable[[Source, Path], Job[V]],
    take: Callable[[Source, V], object] = lambda *_: None,
    crew: Crew = ALONE,
) -> Job[FolderReport]:
    """Do ``work(source, target)`` for every image; targets mirror the sub-folders under ``out``.

    ``take`` is given what came of each, in the order of the images. What failed is said in errors.csv.

    Raises
    ------
    UserError
        ``out`` is (inside) the folder of images, so that originals could be overwritten; it
        cannot be written; or there are no images.
    """
    found, out = sources(images), result_folder(images, out)
    return (yield from _convert(found, out, work, take, crew))


def _convert(
    found: Sequence[Source],
    out: Path,
    work: Callable[[Source, Path], Job[V]],
    take: Callable[[Source, V], object],
    crew: Crew = ALONE,
) -> Job[FolderReport]:
    failed: list[tuple[str, str]] = []
    taken: dict[str, Path] = {}

    def one(source: Source) -> Job[V]:
        first = taken.setdefault(source.stem.casefold(), source.path)
        if first != source.path:
            raise UserError(f"{source.path}: has the same name as {first.name}; rename one of them")
        target = out / f"{source.stem}.tif"
        make_folder(target.parent)
        return (yield from retried(partial(work, source, target)))

    def note(source: Source, error: UserError) -> None:
        if disk_full(error):  # every further file would fail the same way
            raise error
        failed.append((str(source.path), str(error)))

    yield from together(found, one, take, at_once=crew.at_once, name=lambda source: source.stem, failed=note)
    note_failures(out, failed)
    bad = {path for path, _ in failed}
    return FolderReport(tuple(s.stem for s in found if str(s.path) not in bad), tuple(failed))


def note_failures(out: Path, failed: Sequence[tuple[str, str]]) -> None:
    """Write errors.csv; if nothing failed, take away that of an earlier run: what failed then is done now.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    from cell_curator.io.formats.csv import HEADER, write_errors  # which is built on this module

    if failed:
        write_errors(out / ERRORS, failed)
        return
    with suppress(OSError):
        if (out / ERRORS).read_bytes().startswith(HEADER):  # else it is somebody else's
            (out / ERRORS).unlink()


def preprocess_folder(images: Path | str, out: Path | str, recipe: Recipe, crew: Crew = ALONE) -> Job[FolderReport]:
    """Write each image prepared, turned, as float32 in 0..1, and ``recipe.json`` beside them.

    Where the recipe asks for one angle for all, every image is read twice, and those of one folder
    are turned alike. So are the planes of a stack, which becomes a stack.

    Raises
    ------
    UserError
        As `convert`.
    """
    found, out = sources(images), result_folder(images, out)
    shared = (yield from scaled(_shared_angles(found, recipe, crew), 0.0, _VOTING)) if recipe.rotate.votes else {}
    angles: dict[str, float] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def one(source: Source, target: Path) -> Job[tuple[float, tuple[int, ...]]]:
        angle = shared.get(source.path.parent)
        return crew.call(f"{__name__}:prepare_file", path=source.path, target=target, recipe=recipe, angle=angle)

    def take(source: Source, made: tuple[float, tuple[int, ...]]) -> None:
        angles[source.stem], shapes[source.stem] = made

    report = yield from scaled(_convert(found, out, one, take, crew), _VOTING if recipe.rotate.votes else 0.0, 1.0)
    write_recipe(out / "recipe.json", recipe, angles, shapes)
    return report


def prepare_file(path: Path, target: Path, recipe: Recipe, angle: float | None) -> Job[tuple[float, tuple[int, ...]]]:
    """Write one image or stack prepared and turned; returns the turn in degrees and the size before it.

    ``angle`` is that of all images of the folder; None leaves it to the recipe, with one for all planes of a stack.
    """
    info, own = read_info(path), recipe
    if info.axis and angle is None and recipe.rotate.enabled and recipe.rotate.method != "fixed":
        angle = common_angle(_votes(path, recipe)) or 0.0
    if angle is not None:
        own = recipe.turned_by(angle)
    if is_large(info.shape) and not info.axis:
        return (yield from prepare_large(path, target, own))
    turned = []
    for index, plane in enumerate(info.numbers):
        yield Progress(index / info.planes, f"plane {index + 1}" if info.axis else "preparing")
        prepared = prepare(read_image(path, plane), own)
        turned.append(prepared.turned())
    pixels = np.stack(turned) if info.axis else turned[0]
    write_tiff(target, pixels, pixel_size_um=info.pixel_size_um, axis=info.axis or "C")
    return prepared.angle_deg, prepared.image.shape


def _shared_angles(found: Sequence[Source], recipe: Recipe, crew: Crew) -> Job[dict[Path, float]]:
    """The common angle of each folder in which any image shows grooves. Bad files do not vote."""
    angles: dict[Path, list[float]] = {}

    def one(source: Source) -> Job[list[float]]:
        return crew.call(f"{__name__}:ballots", path=source.path, recipe=recipe)

    def take(source: Source, votes: list[float]) -> None:
        angles.setdefault(source.path.parent, []).extend(votes)

    yield from together(
        found,
        one,
        take,
        at_once=crew.at_once,
        name=lambda source: f"angle of {source.stem}",
        failed=lambda *_: None,  # said when it is this image's turn to be prepared
    )
    common = {folder: common_angle(votes) for folder, votes in angles.items()}
    return {folder: angle for folder, angle in common.items() if angle is not None}


def ballots(path: Path, recipe: Recipe) -> Job[list[float]]:
    """The turn that each plane of a file asks for, if any."""
    yield Progress(0.0)
    return _votes(path, recipe)


def _votes(path: Path, recipe: Recipe) -> list[float]:
    votes = [vote(open_image(path, plane), recipe) for plane in read_info(path).numbers]
    return [angle for angle in votes if angle is not None]


def restore_folder(masks: Path | str, recipe: Path | str, out: Path | str) -> Job[FolderReport]:
    """Turn label images that were drawn on prepared images back into the pixels of the originals.

    Parameters
    ----------
    masks
        Folder of TIFF or PNG files with the names of the prepared images, see `evaluate_folders`; or one file.
    recipe
        The ``recipe.json`` beside the prepared images.
    out
        Where ``<stem>.tif`` are written, as by `labels.write_labels`.

    Raises
    ------
    UserError
        No label images, not such a recipe file, or ``out`` as in `convert`.
    """
    turns = read_turns(recipe)
    found = [Source(path, stem) for stem, path in label_files(Path(masks)).items()]
    found.sort(key=lambda source: natural_key(source.stem))

    def one(source: Source, target: Path) -> Job[None]:
        turn = turns.get(source.stem)
        if turn is None:
            raise UserError(
                f"{source.path}: no image named '{source.stem}' is in {recipe}; give masks the names of prepared images"
            )
        labels = read_labels(source.path)
        if turn.shape is not None:
            check_shape(labels, turn.shape, source.path)
        write_labels(target, turn_labels_back(labels, turn.angle_deg))
        yield from ()

    return (yield from _convert(found, result_folder(masks, out), one, lambda *_: None))


def evaluate_folders(predicted: Path | str, truth: Path | str) -> Job[Evaluation]:
    """Compare label images with the truth, matched by stem (or one file with another).

    Label files may be TIFF or PNG; a stem may end in ``_masks``, ``_cp_masks``, ``_labels`` or ``_seg``.

    Raises
    ------
    UserError
        A folder is missing or empty, or no name occurs in both.
    """
    ours, theirs = label_files(Path(predicted)), label_files(Path(truth))
    if Path(predicted).is_file() and Path(truth).is_file():
        ours = dict.fromkeys(theirs, Path(predicted))
    common = sorted(set(ours) & set(theirs), key=natural_key)
    if not common:
        raise UserError(f"{predicted}: no file has the name of one in {truth}; give the labels the names of the images")
    missing = [(str(theirs[stem]), f"no prediction named '{stem}' in {predicted}") for stem in theirs.keys() - ours]
    failed = sorted(missing)
    scored: list[PairScores] = []

    def one(stem: str) -> Job[None]:
        found, true = read_labels(ours[stem]), read_labels(theirs[stem])
        if found.shape != true.shape:
            raise UserError(
                f"{ours[stem]}: is {_size(found)} px but {theirs[stem]} is {_size(true)} px; "
                "compare labels of the same image"
            )
        scored.append(PairScores(stem, evaluate(found, true)))
        yield from ()

    yield from each(common, one, failed=lambda stem, error: failed.append((str(ours[stem]), str(error))))
    return Evaluation(tuple(scored), tuple(failed))


def label_files(root: Path) -> dict[str, Path]:
    """Label files by stem, without the endings that other programs give to masks.

    A folder with a picture for each nucleus is one of them, see `formats.dsb2018`.
    """
    if not root.exists():
        raise UserError(f"{root}: does not exist; check the path")
    if root.is_file():
        return {_bare(root.with_suffix("").name): root}
    files, nuclei = _walk(root)
    if not files and not nuclei:
        raise UserError(f"{root}: holds no label images; give a folder with TIFF or PNG labels")
    named = {_bare(path.relative_to(root).with_suffix("").as_posix()): path for path in sorted(files)}
    return named | nuclei


def _walk(root: Path) -> tuple[list[Path], dict[str, Path]]:
    """Label files below ``root``, and folders of nuclei by the name of their image."""
    from cell_curator.io.formats import dsb2018  # which is built on this module

    files: list[Path] = []
    nuclei: dict[str, Path] = {}
    for place, folders, names in os.walk(root):
        here = Path(place)
        if "masks" in folders and dsb2018.is_folder(here):
            below = here.relative_to(root).as_posix()
            nuclei[dsb2018.name_in(here, "" if below == "." else below)] = here
            folders.clear()
            continue
        folders.sort()
        files += [here / n for n in names if Path(n).suffix.lower() in _LABEL_SUFFIXES and not n.startswith(".")]
    return files, nuclei


def _bare(stem: str) -> str:
    for ending in ("_cp_masks", "_masks", "_labels", "_seg"):
        stem = stem.removesuffix(ending)
    return stem


def _size(labels: NDArray[Any]) -> str:
    return " × ".join(str(side) for side in reversed(labels.shape))


def result_folder(images: Path | str, out: Path | str) -> Path:
    """The folder for results, made, and not where the originals are.

    Raises
    ------
    UserError
        As `convert`.
    """
    images, out = Path(images), Path(out)
    folder = (images.parent if images.is_file() else images).resolve()
    if out.resolve() == folder or (images.is_dir() and folder in out.resolve().parents):
        raise UserError(
            f"{out}: lies in the folder of images; choose a folder outside it, so that no original is touched"
        )
    make_folder(out)
    return out


def make_folder(folder: Path) -> None:
    """Make a folder for results, with its parents, if it is not there.

    Raises
    ------
    UserError
        There is a file in its place, or it may not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{folder}: is a file; choose another folder for the results") from None
    except OSError as error:
        raise write_error(folder, error) from error


def disk_full(error: UserError) -> bool:
    """Whether nothing more can be written."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
