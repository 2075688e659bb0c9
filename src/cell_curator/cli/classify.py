"""Commands on the types of cells: classify train, classify predict."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cell_curator.cli.arguments import RecipeFile
from cell_curator.cli.frame import Answer, Group, Typed, app, command, follow, table
from cell_curator.cli.projects import open_session, put
from cell_curator.core.jobs import UserError
from cell_curator.core.type_classifier import TypeParameters
from cell_curator.engines.mask_rcnn import MaskRcnnParameters

if TYPE_CHECKING:
    import pandas as pd

    from cell_curator.core.found_types import FinderScores
    from cell_curator.core.type_classifier import TypeScores
    from cell_curator.finding_types import Finder
    from cell_curator.session import Session

classify = typer.Typer(help="Tell the types of cells: learn them, and say of each cell of which it is.")
app.add_typer(classify, name="classify")

_TYPES = Group(TypeParameters, "Telling types apart")
_FINDER = Group(MaskRcnnParameters, "Finding cells and types at once (mask-rcnn)")


@command(classify, _TYPES, _FINDER)
def train(
    project: Annotated[
        Path,
        typer.Argument(
            metavar="PROJECT", help="Project folder, or a COCO file (.json) of cells with types.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="For the model: a file (NAME.json), with mask-rcnn a folder.", show_default=False
        ),
    ],
    *,
    way: Annotated[
        Literal["cells", "mask-rcnn"],
        typer.Option(
            "--way",
            help="cells: tell the types of cells that are outlined. mask-rcnn: a network that finds cells and their "
            "types at once.",
        ),
    ] = "cells",
    types: Annotated[
        Literal["cells", "conditions"],
        typer.Option(
            "--types",
            help="Where types are known from: cells that a person typed, or conditions, each of which holds one type.",
        ),
    ] = "cells",
    images: Annotated[
        Path | None,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Folder of the images of a COCO file, where it is not that of the file.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="FILE",
            help="mask-rcnn: weights to start from, of a ResNet or a Mask R-CNN. Nothing is downloaded.",
            show_default=False,
        ),
    ] = None,
    recipe: RecipeFile = None,
    typed: Typed,
) -> Answer:
    """Learn the types of cells, and say how well on images held out.

    Writes the model to OUT. Each image, or well, is either learned from or scored on, never both.
    """
    coco = project.suffix.lower() == ".json"
    _check(typed, way, coco, images, start, recipe)
    if way == "mask-rcnn":
        return _train_finder(project, out, types, typed, coco, images, start, recipe)
    return _train_classifier(project, out, types, typed, coco, images)


@command(classify)
def predict(
    project: Annotated[
        Path, typer.Argument(metavar="PROJECT", help="Project folder, made by run.", show_default=False)
    ],
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A model made by classify train: file or folder.", show_default=False),
    ],
    *,
    at_least: Annotated[
        float | None,
        typer.Option(
            "--at-least",
            metavar="X",
            help="Cells less sure than this stay without a type; as in the project if not given.",
            min=0.0,
            max=1.0,
            show_default=False,
        ),
    ] = None,
) -> Answer:
    """Say of each cell that no person typed of which type it is, and how likely.

    Fills the columns cell_type and type_probability of the project's table, and writes cells.csv there.
    What a person said stays. A mask-rcnn model finds the cells, too: where a person accepted, drew or typed
    cells of an image, these stay and the gaps between them are filled.
    """
    from cell_curator.results import save_tables

    with open_session(project) as session:
        data, text = _found(session, model, at_least) if model.is_dir() else _told(session, model, at_least)
        path = save_tables(session, session.folder)[0]
        shares = _by_condition(session)
    data |= {"conditions": shares.to_dict("index"), "file": path}
    head = ("condition", *(name or "none" for name in shares.columns))
    rows = [(name or "none", *counts) for name, *counts in shares.itertuples()]
    return Answer(data, "\n".join((text, "", table(head, rows), "", str(path))))


# ---------------------------------------------------------------------- train


def _check(typed: Typed, way: str, coco: bool, images: Path | None, start: Path | None, recipe: Path | None) -> None:
    """Options that say nothing here are refused, so that nobody believes that they did."""
    other = TypeParameters if way == "mask-rcnn" else MaskRcnnParameters
    if typed.names(other):
        raise UserError(f"{typed.options(other)[0]} says nothing with --way {way}; leave it out")
    if images is not None and not coco:
        raise UserError("--images goes with a COCO file; a project knows its images")
    if way != "mask-rcnn" and (start is not None or recipe is not None):
        raise UserError(f"{'--start' if start is not None else '--recipe'} goes with --way mask-rcnn")
    if recipe is not None and not coco:
        raise UserError("--recipe goes with a COCO file; a project has its own")


def _train_classifier(
    project: Path, out: Path, types: Literal["cells", "conditions"], typed: Typed, coco: bool, images: Path | None
) -> Answer:
    from cell_curator.classifying import train as learn
    from cell_curator.classifying import train_coco
    from cell_curator.engines.worker import inline
    from cell_curator.io.type_models import write_type_model

    notes: tuple[str, ...] = ()
    if coco:
        params = typed.over(TypeParameters())
        model, scores, notes = follow(train_coco(inline, project, params, images))
    else:
        with open_session(project) as session:
            put(session, typed, TypeParameters)
            model, scores = follow(learn(session, types))
            params = session.get(TypeParameters)
    write_type_model(out, model)
    data = {
        "file": out,
        "types": model.types,
        "method": params.method,
        "told_by": "pictures" if params.method == "cnn" else params.figures,
        "cells": model.about["cells"],
        "images": model.about["images"],
        "notes": notes,
        **scores.plain(),
    }
    return Answer(data, "\n".join((*notes, scores.text, "", _scored(scores), "", f"model: {out}")))


def _train_finder(
    project: Path,
    out: Path,
    types: Literal["cells", "conditions"],
    typed: Typed,
    coco: bool,
    images: Path | None,
    start: Path | None,
    recipe: Path | None,
) -> Answer:
    from cell_curator.core.recipe import PRESETS
    from cell_curator.engines.worker import inline
    from cell_curator.finding_types import train as learn
    from cell_curator.finding_types import train_coco
    from cell_curator.io.recipes import read_recipe

    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "weights.pth").is_file())):
        raise UserError(f"{out}: holds something else; name a new folder for the model")
    if coco:
        chosen = PRESETS["Plain"] if recipe is None else read_recipe(recipe)
        params = typed.over(MaskRcnnParameters())
        made: Finder = follow(train_coco(inline, project, out, params, images=images, recipe=chosen, start=start))
    else:
        with open_session(project) as session:
            put(session, typed, MaskRcnnParameters)
            made = follow(learn(session, types, start))
            shutil.copytree(made.folder, out, dirs_exist_ok=True)
    about = {name: made.details[name] for name in ("cells", "learned_from", "held_out", "steps", "seconds", "stopped")}
    scores = {} if made.scores is None else made.scores.plain()
    data = {"model": out, "types": made.types, **about, **scores}
    listing = [] if made.scores is None else ["", _scored(made.scores)]
    return Answer(data, "\n".join((made.text, *listing, "", f"model: {out}")))


def _scored(scores: TypeScores | FinderScores) -> str:
    columns = list(scores.per_type.columns.drop("cells"))
    said: list[tuple[Any, ...]] = [
        (f"{kind} (true)", *row, *scores.per_type.loc[kind, columns]) for kind, *row in scores.confusion.itertuples()
    ]
    return table(("", *scores.confusion.columns, *columns), said)


# ---------------------------------------------------------------------- predict


def _told(session: Session, model: Path, at_least: float | None) -> tuple[dict[str, Any], str]:
    from cell_curator.classifying import predict as tell
    from cell_curator.io.type_models import read_type_model

    made = follow(tell(session, read_type_model(model), at_least))
    counts = made.counts.to_dict("index")
    return {"predicted": made.cells, "by_hand": made.by_hand, "unsure": made.unsure, "types": counts}, made.text


def _found(session: Session, model: Path, at_least: float | None) -> tuple[dict[str, Any], str]:
    from cell_curator.finding_types import predict as find

    made = follow(find(session, model, at_least=at_least))
    data = {
        "predicted": made.cells,
        "new": made.new,
        "matched": made.matched,
        "by_hand": made.by_hand,
        "unsure": made.unsure,
        "types": made.counts.to_dict("index"),
        "notes": made.notes,
    }
    return data, "\n".join((*made.notes, made.text))


def _by_condition(session: Session) -> pd.DataFrame:
    """Cells of each type (columns) under each condition (rows)."""
    import pandas as pd

    frame = session.cells.frame
    return pd.crosstab(frame["condition"], frame["cell_type"])
