"""Commands from a folder of images to a folder of files: preprocess, restore, segment, evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cell_curator.cli.arguments import SEGMENT, STACKS, Images, RecipeFile, Scheduler, Workers
from cell_curator.cli.frame import Answer, Typed, app, command, follow, table
from cell_curator.cli.manpower import anywhere, manpower, pieces, say_who
from cell_curator.core.jobs import UserError
from cell_curator.core.recipe import DEFAULT, PRESETS, PUBLISHED, Recipe
from cell_curator.core.words import number_of
from cell_curator.engines.segmenter import SegmentParameters

Out = Annotated[
    Path, typer.Argument(metavar="OUT", help="Folder for the results; made if missing.", show_default=False)
]
_LABELS = "folder of label images (TIFF, PNG), or one label image."


@command(app)
def preprocess(
    images: Images, out: Out, *, recipe: RecipeFile = None, workers: Workers = None, scheduler: Scheduler = ""
) -> Answer:
    """Prepare images: turn, contrast, denoise.

    Writes NAME.tif (float32, 0 to 1) for every image, and recipe.json with the steps and the
    turn of each image. Without a recipe the published steps are taken: grooves upright, local
    contrast, clipping, denoising. The planes of a stack are turned alike.
    """
    from cell_curator.engines.cluster import manned
    from cell_curator.io.folders import preprocess_folder, result_folder

    count, chosen = pieces(images), _recipe(recipe, PRESETS[PUBLISHED])
    power = manpower(workers, scheduler, images, result_folder(images, out))
    images, out = anywhere(power, images), anywhere(power, out)
    report = follow(manned(power, count, lambda crew: preprocess_folder(images, out, chosen, crew), say_who))
    _refuse_if_nothing(images, len(report.done), report.failed)
    data = {"out": out, "images": len(report.done), "failed": len(report.failed), "errors": errors(report.failed)}
    return Answer(
        data, f"{number_of(len(report.done), 'image')} prepared in {out}{also_failed(report.failed)}", report.failed
    )


@command(app)
def restore(
    masks: Annotated[Path, typer.Argument(metavar="MASKS", help=_LABELS.capitalize(), show_default=False)],
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="The recipe.json that preprocess wrote.", show_default=False),
    ],
    out: Out,
) -> Answer:
    """Turn masks of prepared images back onto the originals.

    For label images that were drawn on what preprocess wrote. Files are matched by name with
    recipe.json. Writes NAME.tif for every one of them; labels lie on the original image pixel by pixel,
    and turning them again gives what was drawn.
    """
    from cell_curator.io.folders import restore_folder

    report = follow(restore_folder(masks, recipe, out))
    _refuse_if_nothing(masks, len(report.done), report.failed)
    data = {"out": out, "masks": len(report.done), "failed": len(report.failed), "errors": errors(report.failed)}
    return Answer(data, f"{len(report.done)} masks turned back in {out}{also_failed(report.failed)}", report.failed)


@command(app, SEGMENT, STACKS)
def segment(
    images: Images,
    out: Out,
    *,
    recipe: RecipeFile = None,
    workers: Workers = None,
    scheduler: Scheduler = "",
    typed: Typed,
) -> Answer:
    """Find the cells of images.

    Writes NAME.tif for every image: whole numbers, 0 is background. Labels lie on the original
    image pixel by pixel. Of a stack or time lapse NAME.tif is a stack, too. Without a recipe images
    are prepared as those were that the model learned from.
    """
    from cell_curator.engines.batch import segment_folder
    from cell_curator.engines.cards import learned_recipe
    from cell_curator.engines.cluster import manned
    from cell_curator.engines.volumes import StackParameters
    from cell_curator.io.folders import result_folder

    count = pieces(images)
    power = manpower(workers, scheduler, images, result_folder(images, out))
    images, out = anywhere(power, images), anywhere(power, out)
    parameters, stack = search_parameters(typed, SegmentParameters()), typed.over(StackParameters())
    learned = learned_recipe(parameters.model) if recipe is None and parameters.source == "prepared" else None
    prepared = learned or _recipe(recipe, DEFAULT)
    report = follow(
        manned(power, count, lambda crew: segment_folder(images, out, parameters, prepared, stack, crew), say_who)
    )
    done, failed = report.folder.done, report.folder.failed
    _refuse_if_nothing(images, len(done), failed)
    total = sum(report.cells.values())
    rows = [(stem, report.cells[stem], f"{report.diameter_px[stem]:.1f}") for stem in done]
    data = {
        "out": out,
        "images": len(done),
        "cells": total,
        "failed": len(failed),
        "errors": errors(failed),
        "per_image": {
            stem: {"cells": report.cells[stem], "diameter_px": report.diameter_px[stem], "notes": report.notes[stem]}
            for stem in done
        },
    }
    remarks = [f"{stem}: {note}" for stem in done for note in report.notes[stem]]
    listing = "\n".join((table(("image", "cells", "diameter (px)"), rows), *remarks))
    said = f"{number_of(total, 'cell')} in {number_of(len(done), 'image')}"
    return Answer(data, f"{listing}\n{said}{also_failed(failed)}; labels in {out}", failed)


@command(app)
def evaluate(
    predicted: Annotated[Path, typer.Argument(metavar="PREDICTED", help=_LABELS, show_default=False)],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="The same, drawn or checked by a person.", show_default=False)
    ],
) -> Answer:
    """Score label images against the truth.

    Files are matched by name. AP is TP / (TP + FP + FN) at an overlap (IoU) of 0.5, 0.75 and 0.9;
    precision, recall and F1 are at 0.5. Means of the rates, sums of the counts.
    """
    from cell_curator.io.folders import evaluate_folders

    result = follow(evaluate_folders(predicted, truth))
    _refuse_if_nothing(predicted, len(result.images), result.failed)
    mean = result.mean()
    scores: list[tuple[str, dict[str, Any]]] = [(pair.stem, asdict(pair.scores)) for pair in result.images]
    data = {
        "mean": mean,
        "images": [{"image": stem, **values} for stem, values in scores],
        "failed": len(result.failed),
        "errors": errors(result.failed),
    }
    rates, counts = ("precision", "recall", "f1"), ("splits", "merges", "misses", "n_predicted", "n_true")
    header = ("image", *(f"AP@{iou}" for iou in mean["ap"]), *rates, *counts)
    rows = [
        (stem, *values["ap"].values(), *(values[name] for name in (*rates, *counts)))
        for stem, values in [*scores, ("mean", mean)]
    ]
    return Answer(data, table(header, rows) + also_failed(result.failed), result.failed)


def errors(failed: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """Failures as JSON holds them."""
    return [{"file": file, "reason": reason} for file, reason in failed]


def also_failed(failed: Sequence[tuple[str, str]]) -> str:
    """``", 2 failed"``, or nothing."""
    return f", {len(failed)} failed" if failed else ""


def search_parameters(typed: Typed, start: SegmentParameters, *folders: Path) -> SegmentParameters:
    """How cells are to be found; the engine follows a model that was named without one.

    Parameters
    ----------
    folders
        Where to look for models beside the usual places.
    """
    from cell_curator.engines.downloads import fitting

    parameters = typed.over(start)
    alone = typed.names(SegmentParameters) & {"model", "engine"} == {"model"}
    return fitting(parameters, *folders) if alone else parameters


def _recipe(path: Path | None, default: Recipe) -> Recipe:
    from cell_curator.io.recipes import read_recipe

    return default if path is None else read_recipe(path)


def _refuse_if_nothing(images: Path, done: int, failed: Sequence[tuple[str, str]]) -> None:
    """Where every file failed, the first reason stands for all."""
    if done == 0 and failed:
        file, reason = failed[0]
        line = reason if reason.startswith(file) else f"{file}: {reason}"
        raise UserError(line if len(failed) == 1 else f"none of the {len(failed)} files of {images} was usable; {line}")
