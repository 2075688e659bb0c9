"""Commands on the types of cells: classify train, classify predict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cell_curator.cli.arguments import Project
from cell_curator.cli.frame import Answer, Group, Typed, app, command, follow, table
from cell_curator.cli.projects import open_session, put
from cell_curator.core.type_classifier import TypeParameters

if TYPE_CHECKING:
    import pandas as pd

    from cell_curator.core.type_classifier import TypeScores
    from cell_curator.core.type_model import TypeModel
    from cell_curator.session import Session

classify = typer.Typer(help="Tell the types of cells: learn them, and say of each cell of which it is.")
app.add_typer(classify, name="classify")

_TYPES = Group(TypeParameters, "Telling types apart")


@command(classify, _TYPES)
def train(
    project: Project,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="File for the model (NAME.json).", show_default=False)],
    *,
    types: Annotated[
        Literal["cells", "conditions"],
        typer.Option(
            "--types",
            help="Where types are known from: cells that a person typed, or conditions, each of which holds one type.",
        ),
    ] = "cells",
    typed: Typed,
) -> Answer:
    """Learn the types of cells, and say how well on images held out.

    Writes the model to OUT. Each image, or well, is either learned from or scored on, never both.
    """
    from cell_curator.classifying import train as learn
    from cell_curator.io.type_models import write_type_model

    with open_session(project) as session:
        put(session, typed, TypeParameters)
        model, scores = follow(learn(session, types))
        params = session.get(TypeParameters)
    write_type_model(out, model)
    data = {
        "file": out,
        "types": model.types,
        "method": params.method,
        "told_by": params.figures,
        "cells": model.about["cells"],
        "images": model.about["images"],
        **scores.plain(),
    }
    return Answer(data, "\n".join((scores.text, "", _scored(scores), "", f"model: {out}")))


@command(classify)
def predict(
    project: Project,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model made by classify train.", show_default=False)],
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
    What a person said stays.
    """
    from cell_curator.classifying import predict as tell
    from cell_curator.io.type_models import read_type_model
    from cell_curator.results import save_tables

    learned: TypeModel = read_type_model(model)
    with open_session(project) as session:
        made = follow(tell(session, learned, at_least))
        path = save_tables(session, session.folder)[0]
        shares = _by_condition(session)
    data = {
        "predicted": made.cells,
        "by_hand": made.by_hand,
        "unsure": made.unsure,
        "types": made.counts.to_dict("index"),
        "conditions": shares.to_dict("index"),
        "file": path,
    }
    head = ("condition", *(name or "none" for name in shares.columns))
    rows = [(name or "none", *counts) for name, *counts in shares.itertuples()]
    return Answer(data, "\n".join((f"{made.text}", "", table(head, rows), "", str(path))))


def _by_condition(session: Session) -> pd.DataFrame:
    """Cells of each type (columns) under each condition (rows)."""
    import pandas as pd

    frame = session.cells.frame
    return pd.crosstab(frame["condition"], frame["cell_type"])


def _scored(scores: TypeScores) -> str:
    said: list[tuple[Any, ...]] = [
        (f"{kind} (true)", *row, scores.per_type.loc[kind, "precision"], scores.per_type.loc[kind, "recall"])
        for kind, *row in scores.confusion.itertuples()
    ]
    return table(("", *scores.confusion.columns, "precision", "recall"), said)
