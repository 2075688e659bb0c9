"""Commands that teach a model: train on folders, and the rounds of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cell_curator.cli.arguments import TRAINING, VARY, Images, Project, RecipeFile
from cell_curator.cli.doubts import SkipDoubtful, say_doubtful
from cell_curator.cli.frame import Answer, Typed, app, command, follow, table
from cell_curator.cli.projects import open_session
from cell_curator.core.recipe import PRESETS as RECIPES
from cell_curator.core.recipe import Recipe

if TYPE_CHECKING:
    from cell_curator.engines.cards import ModelCard
    from cell_curator.engines.finetune import TrainParameters
    from cell_curator.io.records import Round
    from cell_curator.round_table import RoundRow

rounds = typer.Typer(rich_markup_mode="rich", help="Rounds of retraining in a project: start, list, use, go back.")
app.add_typer(rounds, name="rounds")

ModelFolder = Annotated[
    Path, typer.Argument(metavar="OUT", help="Model folder to make: weights and card.json.", show_default=False)
]


@command(app, TRAINING, VARY)
def train(
    images: Images,
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS", help="Folder of label images (TIFF, PNG) with the images' names.", show_default=False
        ),
    ],
    out: ModelFolder,
    *,
    base: Annotated[
        str, typer.Option("--base", metavar="M", help="Model that learns on: a name or a weights file.")
    ] = "starter-nuclei",
    holdout: Annotated[
        float, typer.Option("--holdout", metavar="F", help="Part of the wells or files kept for scoring, 0 to 1.")
    ] = 0.2,
    preset: Annotated[
        Literal["quick", "thorough", "cellpose"],
        typer.Option("--preset", help="quick: 2 minutes. thorough: 15. cellpose: as train_seg does by itself."),
    ] = "quick",
    recipe: RecipeFile = None,
    skip_doubtful: SkipDoubtful = False,
    typed: Typed,
) -> Answer:
    """Teach a model your cells.

    Cellpose learns on from --base. A U-Net begins anew: with --base new-unet or new-unetpp it learns to tell cells
    from each other, with new-unet-area where cells are, for `confluency --method unet`.

    Every pixel of the labels counts, so label all cells of an image. Images of one well are never
    torn apart. With --epochs the passes decide when to stop, and no longer the time. OUT works with
    --model, and weights of Cellpose load in Cellpose 3. Stopped, the same command goes on.
    """
    from cell_curator.bundles import teach_folders
    from cell_curator.doubtful_images import doubtful_files
    from cell_curator.engines.downloads import fitting
    from cell_curator.engines.finetune import presets
    from cell_curator.engines.segmenter import SegmentParameters
    from cell_curator.engines.worker import inline
    from cell_curator.io.recipes import read_recipe

    chosen: Recipe = RECIPES["Plain"] if recipe is None else read_recipe(recipe)
    start = fitting(SegmentParameters(model=base))
    parameters = _typed_over(typed, presets(start.engine)[preset])
    parameters = parameters.model_copy(update={"vary": typed.over(parameters.vary)})
    doubtful = follow(doubtful_files(images))
    say_doubtful(doubtful, skip_doubtful)
    job = teach_folders(
        inline,
        images,
        labels,
        out,
        base=start,
        recipe=chosen,
        parameters=parameters,
        share=holdout,
        skip=doubtful.images if skip_doubtful else (),
    )
    return _taught(follow(job))


@command(rounds, TRAINING)
def start(project: Project, *, typed: Typed) -> Answer:
    """Train on the regions marked as reviewed, and score on those locked away.

    The model in use stays in use; `rounds use` changes that.
    """
    from cell_curator.rounds import train_round, usual_parameters

    with open_session(project) as session:
        made: Round = follow(train_round(session, _typed_over(typed, usual_parameters(session))))
        return _round_table(session, (f"{made.detail['title']} took {made.detail['minutes']} minutes",))


@command(rounds, name="list")
def list_(project: Project) -> Answer:
    """The rounds of a project: examples, scores, effort, and which model is in use."""
    with open_session(project, reading=True) as session:
        return _round_table(session)


@command(rounds)
def use(
    project: Project,
    number: Annotated[int, typer.Argument(metavar="ROUND", help="Its number, as listed.", show_default=False)],
) -> Answer:
    """Find cells with the model of a round from now on."""
    from cell_curator.rounds import promote

    with open_session(project) as session:
        promote(session, number)
        return _round_table(session)


@command(rounds)
def back(project: Project) -> Answer:
    """Find cells with the model again that was used before."""
    from cell_curator.rounds import roll_back

    with open_session(project) as session:
        title = roll_back(session)
        return _round_table(session, (f"{title} is in use again",))


@command(rounds)
def check(project: Project) -> Answer:
    """Say what is wrong with the examples before a round."""
    from cell_curator.examples import preflight

    with open_session(project, reading=True) as session:
        found = follow(preflight(session))
    data = [{"text": one.text, "remedy": one.remedy, "stops": one.stops} for one in found]
    lines = [f"{'stops: ' if one.stops else ''}{one}" for one in found]
    return Answer({"findings": data}, "\n".join(lines) or "nothing is wrong")


@command(rounds)
def doubtful(project: Project) -> Answer:
    """The places where the model in use is least sure: what to correct next."""
    from cell_curator.comparing import doubtful as look

    with open_session(project, reading=True) as session:
        found = follow(look(session))
        names = {record.image_id: record.name for record in session.images}
    rows = [(round(one.score, 3), *one.corners, one.text) for one in found]
    data = [{"image": names[one.image_id], "box": one.corners, "score": one.score, "why": one.text} for one in found]
    return Answer({"places": data}, table(("doubt", "top", "left", "bottom", "right", "where and why"), rows))


@command(rounds, TRAINING)
def pack(
    project: Project,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The bundle to write (.zip).", show_default=False)],
    *,
    typed: Typed,
) -> Answer:
    """Put all that a round would learn from into one file, to train on another machine."""
    from cell_curator.bundles import write_bundle
    from cell_curator.rounds import usual_parameters

    with open_session(project, reading=True) as session:
        path = follow(write_bundle(session, file, _typed_over(typed, usual_parameters(session))))
    return Answer({"file": path}, f"{path}\non the other machine: cell-curator rounds train {path.name} MODEL")


@command(rounds, name="train")
def train_packed(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle that pack wrote.", show_default=False)],
    out: ModelFolder,
) -> Answer:
    """Train what a bundle holds. Bring OUT back and take it over with `rounds adopt`."""
    from cell_curator.bundles import teach_bundle
    from cell_curator.engines.worker import inline

    return _taught(follow(teach_bundle(inline, file, out)))


@command(rounds)
def adopt(
    project: Project,
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model folder trained elsewhere.", show_default=False)
    ],
) -> Answer:
    """Take a model that was trained elsewhere into the project, as a round."""
    from cell_curator.bundles import adopt as take_over

    with open_session(project) as session:
        made = take_over(session, model)
        return _round_table(session, (f"{model} is now {made.detail['title']}",))


def _typed_over(typed: Typed, start: TrainParameters) -> TrainParameters:
    """What was typed over ``start``; who asks for passes does not ask for a time."""
    chosen = typed.over(start)
    names = typed.names(type(start))
    return chosen.model_copy(update={"minutes": 0.0}) if "epochs" in names and "minutes" not in names else chosen


def _taught(card: ModelCard) -> Answer:
    scores, before = card.details.get("scores"), card.details.get("before")
    lines = [f"{card.weights.parent}: {card.details['epochs']} epochs, {card.details['minutes']} minutes"]
    for name, values in (("before", before), ("now", scores)):
        if values:
            lines.append(f"AP@0.5 {name}: {values['ap50']:.3f} on {values['images']} images kept for scoring")
    data = {"model": card.weights.parent, **card.details}
    return Answer(data, "\n".join((*lines, *card.details["notes"])))


def _round_table(session: Any, lines: tuple[str, ...] = ()) -> Answer:
    from dataclasses import asdict

    from cell_curator.round_table import sentence
    from cell_curator.round_table import table as rows_of

    rows: tuple[RoundRow, ...] = rows_of(session)
    header = ("", "round", "examples", "cells", "AP@0.5", "AP@0.75", "AP@0.9", "splits", "merges", "misses", "minutes")
    cells = [
        (
            "*" if row.in_use else "",
            row.title,
            row.examples,
            row.cells,
            *("" if value is None else value for value in (row.ap50, row.ap75, row.ap90)),
            *("" if value is None else value for value in (row.splits, row.merges, row.misses, row.minutes)),
        )
        for row in rows
    ]
    notes = [f"{row.title}: {row.note}" for row in rows if row.note]
    listing = [table(header, cells)] if rows else []
    text = "\n".join((*lines, *listing, *notes, sentence(session)))
    return Answer({"rounds": [asdict(row) for row in rows], "sentence": sentence(session)}, text)
