"""Commands on how clean a project is, and where its images lie: outliers, audit, relocate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from cell_curator.cli.arguments import CLEAN, IMAGE_FLAGS, OUTLIERS, Project, Scheduler, Workers
from cell_curator.cli.folders import errors
from cell_curator.cli.frame import Answer, Typed, app, command, follow, table
from cell_curator.cli.manpower import LIGHT, manpower, say_who
from cell_curator.cli.projects import open_session, put
from cell_curator.core.clean import CleanParameters, Step
from cell_curator.core.image_flags import ImageFlagParameters
from cell_curator.core.jobs import UserError
from cell_curator.core.outliers import OutlierParameters


@command(app, OUTLIERS, CLEAN, IMAGE_FLAGS)
def outliers(
    project: Project,
    *,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Look for images that look wrong, too; reads all of them.")
    ] = True,
    workers: Workers = None,
    scheduler: Scheduler = "",
    typed: Typed,
) -> Answer:
    """Score how unusual each cell is, and say why; find the images that look wrong.

    Writes outliers.csv into the project: cell_id, score (0 to 1), reasons; and images.csv: image, flags, reasons.
    Nothing is removed.
    """
    from cell_curator.doubtful_images import look_at_images
    from cell_curator.results import save_images, save_outliers
    from cell_curator.reviewing import funnel, learned
    from cell_curator.workflow import by_crew

    failed: list[tuple[str, str]] = []
    with open_session(project) as session:
        put(session, typed, OutlierParameters, CleanParameters, ImageFlagParameters)
        flagged = follow(session.score_outliers())
        cells, path = len(session.cells), save_outliers(session, session.folder / "outliers.csv")
        steps, taught = funnel(session), learned(session)
        text = [f"{flagged} of {cells} cells flagged; scores and reasons in {path}", _chain(steps)]
        data: dict[str, Any] = {"cells": cells, "flagged": flagged, "file": path, "funnel": list(map(asdict, steps))}
        if taught is not None:
            data["learned"] = {"accuracy": taught.accuracy, "balanced": taught.balanced, "text": taught.text}
            text.append(taught.text)
        if images:
            power = manpower(workers, scheduler, *(record.path for record in session.images[:1]))
            looking = partial(look_at_images, session)
            found = follow(by_crew(session, power, len(session.images) // LIGHT, looking, say_who))
            file = save_images(session, session.folder / "images.csv")
            names = {record.image_id: record.name for record in session.images}
            wrong = {names[image]: [flag.text for flag in those] for image, those in found.flags.items()}
            failed = [(names[image], reason) for image, reason in found.unread]
            data |= {"failed": len(failed), "errors": errors(failed)}
            data |= {"images": wrong, "images_file": file, "unread": [names[image] for image, _ in found.unread]}
            text += [f"{found.text}; why: {file}", *(f"  {name}: {'; '.join(why)}" for name, why in wrong.items())]
    return Answer(data, "\n".join(text), failed)


@command(app)
def audit(
    project: Project,
    *,
    start: Annotated[
        int | None,
        typer.Option("--start", metavar="N", help="Draw N cells by chance; an audit before it is put away.", min=1),
    ] = None,
    bound: Annotated[
        float,
        typer.Option("--bound", metavar="X", help="Share of bad cells, in %, to say the way to.", min=0.01, max=99.0),
    ] = 2.0,
    typed: Typed,
) -> Answer:
    """Say how many cells are left after each step, and how many of those that count are bad.

    An audit is a blind look at a random sample of the cells that count, spread evenly over images and
    conditions. Draw it with --start, judge it in the Review dock, and read its result here: the share
    of bad cells with its exact 95 % interval, and how many more to look at for --bound.
    """
    from cell_curator import reviewing

    with open_session(project, reading=start is None) as session:
        if start is not None:
            reviewing.start_audit(session, start, typed.seed or 0)
        steps, state = reviewing.funnel(session), reviewing.audit(session, bound / 100)
        data = reviewing.record(session)
        if state is not None:
            data["audit"] |= {"bound": bound / 100, "more": state.more, "sentence": state.text}
    said = "No audit yet: draw a sample with --start 100" if state is None else state.text
    return Answer(data, "\n".join((_steps(steps), said)))


@command(app)
def relocate(
    project: Project,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder in which the images lie now.", show_default=False)
    ],
    *,
    old: Annotated[
        Path | None,
        typer.Option("--old", metavar="FOLDER", help="Only images that lay below this folder.", show_default=False),
    ] = None,
) -> Answer:
    """Find the images of a project again that were moved.

    Files are known by their names and the folders above them. One is taken only if its size is the same and the
    cells in it measure as they did.
    """
    from cell_curator.relocating import missing
    from cell_curator.relocating import relocate as search

    with open_session(project) as session:
        gone = missing(session)
        if not gone.images:
            return Answer({"found": {}, "failed": 0, "missing": 0}, "All images are where they were")
        done = follow(search(session, folder, old))
        left = len(missing(session).files)
    if not done.found:
        raise UserError(done.failed[0][1])
    data = {
        "found": {str(before): str(now) for before, now in done.found},
        "failed": len(done.failed),
        "errors": errors(done.failed),
        "missing": left,
    }
    return Answer(data, done.text, done.failed)


def _chain(steps: Sequence[Step]) -> str:
    return " → ".join(f"{step.left:,} {step.name}" for step in steps)


def _steps(steps: Sequence[Step]) -> str:
    rows = [(step.name, f"{step.left:,}", f"−{step.removed:,}" if step.removed else "") for step in steps]
    return table(("cells", "left", "taken away"), rows)
