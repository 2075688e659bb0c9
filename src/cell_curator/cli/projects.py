"""The command that does it all: run; and how every command opens a project."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cell_curator.cli.arguments import (
    CLUSTERS,
    LEARNING,
    MAP,
    PATCHES,
    SEGMENT,
    STACKS,
    Images,
    Project,
    RecipeFile,
    Scheduler,
    Workers,
)
from cell_curator.cli.folders import also_failed, errors, search_parameters
from cell_curator.cli.frame import DONE, FAILED, Answer, Typed, app, command, follow
from cell_curator.cli.manpower import manpower, say_who
from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.volumes import StackParameters

if TYPE_CHECKING:
    from cell_curator.core.parameters import Parameters
    from cell_curator.core.recipe import Recipe
    from cell_curator.session import Session
    from cell_curator.workflow import MapReport


@command(app, SEGMENT, STACKS, *(replace(group, brief=True) for group in (PATCHES, LEARNING, MAP, CLUSTERS)))
def run(
    images: Images,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Project folder, made if missing (NAME.curator).", show_default=False)
    ],
    *,
    recipe: RecipeFile = None,
    again: Annotated[
        bool, typer.Option("--again", help="Do everything anew, also what would come out as it is already.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done and roughly how long it takes.")
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = "",
    typed: Typed,
) -> Answer:
    """The whole line: find cells, flag the unusual, draw the map, write the report.

    Each sub-folder of IMAGES is a condition. OUT becomes a project folder with cells.csv,
    clusters.csv, recipe.json and report.html. Run again on the same OUT, it goes on where it was, also if it
    was killed: new images are added, cells that you accepted, edited or locked stay, and only images whose file,
    recipe, model or settings changed are searched anew. Each plane of a stack or frame of a time lapse becomes
    an image of the project.
    """
    from cell_curator.io.images import find_images
    from cell_curator.io.recipes import read_recipe
    from cell_curator.results import save_all
    from cell_curator.workflow import by_crew, pieces_left

    power = manpower(workers, scheduler, images)
    start = time.monotonic()
    find_images(images)  # so that no project is made of a wrong path
    chosen = None if recipe is None else read_recipe(recipe)
    if dry_run:
        return _foretold(images, out, chosen, typed, again)
    with open_session(out, create=True) as session:
        if chosen is not None:
            session.put(chosen)
        for parameters in _settings(session, typed):
            session.put(parameters)
        added = follow(session.add_images(images))
        if not session.images:
            file, reason = added.failed[0]
            raise UserError(f"none of the {len(added.failed)} images could be read; {_named(file, reason)}")
        left = pieces_left(session, again=again)
        report = follow(by_crew(session, power, left, lambda: session.run(again=again), say_who))
        failed = (*added.failed, *report.segmented.failed)
        follow(save_all(session, failed, report.notes))
        cells = len(session.cells)
        data = {
            "project": session.folder,
            "images": len(session.images),
            "cells": cells,
            "flagged": report.flagged,
            **map_data(report.map),
            "failed": len(failed),
            "errors": errors(failed),
            "notes": report.notes,
            "report": session.folder / "report.html",
            "seconds": round(time.monotonic() - start, 1),
        }
        images_done = report.segmented.done + report.segmented.kept
        text = (
            f"{number_of(cells, 'cell')} in {number_of(images_done, 'image')}{also_failed(failed)}, "
            f"{report.flagged} flagged, {number_of(data['clusters'], 'cluster')}"
        )
        text = "\n".join((*report.notes, text, f"report: {data['report']}"))
        return Answer(data, text, failed, DONE if images_done else FAILED)


def _foretold(images: Path, out: Path, recipe: Recipe | None, typed: Typed, again: bool) -> Answer:
    """What `run` would do."""
    from cell_curator.foretelling import foretell
    from cell_curator.io.project import Project as Folder

    if not Folder.is_project(out):
        plan = foretell(images, None, again=again)
    else:
        with open_session(out, reading=True) as session:
            for parameters in (*((recipe,) if recipe else ()), *_settings(session, typed)):
                session.suppose(parameters)
            plan = foretell(images, session, again=again)
    return Answer(asdict(plan), plan.text)


def _settings(session: Session, typed: Typed) -> list[Parameters]:
    """All that a run follows from, with what was typed; nothing is stored before all of it was checked."""
    from cell_curator.map_store import FOLLOWS_FROM
    from cell_curator.project_models import models_folder

    search = search_parameters(typed, session.get(SegmentParameters), models_folder(session))
    others: tuple[type[Parameters], ...] = (StackParameters, *FOLLOWS_FROM)
    return [search, *(typed.over(session.get(model)) for model in others)]


@contextmanager
def open_session(folder: Path, *, create: bool = False, reading: bool = False) -> Iterator[Session]:
    """The project, closed at the end whatever happens; everything runs in this process.

    Unless it is only for ``reading``, it is refused at once where nothing can be written.
    """
    from cell_curator.session import Session

    session = Session.open_or_create(folder) if create else Session.open(folder)
    try:
        if not reading:
            session.project.require_writable()
        yield session
    finally:
        session.close()


def put(session: Session, typed: Typed, *models: Any) -> None:
    """Check all values first, then store them."""
    for parameters in [typed.over(session.get(model)) for model in models]:
        session.put(parameters)


def map_data(made: MapReport | None) -> dict[str, Any]:
    """What is said of a map, for ``--json``."""
    if made is None:
        return {"mapped": 0, "clusters": 0, "scores": {}, "space": None}
    return {"mapped": made.cells, "clusters": made.clusters, "scores": made.scores, "space": made.space}


def _named(file: str, reason: str) -> str:
    return reason if reason.startswith(file) else f"{file}: {reason}"


@command(app)
def repair(project: Project) -> Answer:
    """Make a damaged project usable again, and say what was lost.

    The damaged file stays beside the new one as project.damaged-TIME.sqlite. Cells that lost their row are measured
    again and count as edited.
    """
    from cell_curator.repairing import repair as mend

    done = follow(mend(project))
    data = {"backup": done.backup, "images": done.images, "cells": done.cells, "notes": done.notes}
    kept = f"; the damaged file is kept as {done.backup.name}" if done.backup else ""
    found = done.notes or (() if done.backup else ("nothing was damaged",))
    return Answer(
        data,
        "\n".join((*found, f"{number_of(done.images, 'image')} and {number_of(done.cells, 'cell')} are there{kept}")),
    )
