"""Commands to and from other programs: export, import."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from cell_curator.cli.arguments import Project, Scheduler, Workers
from cell_curator.cli.folders import also_failed, errors
from cell_curator.cli.frame import Answer, app, command, follow, table
from cell_curator.cli.manpower import LIGHT, anywhere, manpower, say_who
from cell_curator.cli.projects import open_session
from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of

_WRITTEN = "csv, labels, png, cellpose, imagej, geojson, coco, coco-polygons, ome-zarr, anndata"
_READ = "labels, png, cellpose, imagej, geojson, coco, coco-polygons, ome-zarr, dsb2018"


@command(app)
def export(
    project: Project,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Folder for the files; for csv, coco and anndata also a file.", show_default=False
        ),
    ],
    *,
    format: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of: {_WRITTEN}.")] = "csv",
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Write the masks of rejected cells, too; else they are left out.")
    ] = False,
    workers: Workers = None,
    scheduler: Scheduler = "",
) -> Answer:
    """Write a project in a form that other programs read.

    csv: tables of cells and clusters. labels, png: a label image for each image. cellpose: _seg.npy.
    imagej: ROIs in a zip. geojson: QuPath. coco, coco-polygons: one annotations.json. ome-zarr:
    image and labels. anndata: cells.h5ad for scanpy. Masks are written pixel by pixel, so that import
    gives back what was exported.
    """
    from cell_curator.exchange import export as write
    from cell_curator.io.formats.registry import WRITTEN, by_name
    from cell_curator.workflow import by_crew

    form = by_name(format, WRITTEN)
    with open_session(project, reading=True) as session:
        power = manpower(workers, scheduler, *(record.path for record in session.images[:1]), out.parent)
        out = anywhere(power, out)
        writing = partial(write, session, out, form, rejected=rejected)
        # tables are made in one piece, and files of single images only by many are worth the workers
        written = follow(by_crew(session, power, len(session.images) // LIGHT, writing, say_who))
    data = {
        "format": form.name,
        "files": written.files,
        "notes": written.notes,
        "failed": len(written.failed),
        "errors": errors(written.failed),
    }
    return Answer(data, "\n".join((*map(str, written.files), *written.notes)), written.failed)


@command(app, name="import")
def import_(
    project: Project,
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="Folder of masks, or one file or store.", show_default=False),
    ],
    *,
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="FORMAT", help=f"One of: {_READ}. Without it, it is found out.", show_default=False
        ),
    ] = None,
    verdict: Annotated[
        Literal["proposed", "accepted", "edited"],
        typer.Option("--verdict", help="For cells of which the file does not tell."),
    ] = "accepted",
) -> Answer:
    """Take over masks that were made or corrected in another program.

    Files go to the images of the project that have their names. What is there already is replaced: a
    cell that covers one of the project keeps its id. Cells drawn by hand in Cellpose become edited.
    """
    from cell_curator.exchange import import_cells
    from cell_curator.io.formats.registry import READ, by_name

    form = None if format is None else by_name(format, READ)
    with open_session(project) as session:
        report = follow(import_cells(session, source, form, verdict=verdict))
    if not report.cells and report.failed:
        file, reason = report.failed[0]
        line = reason if reason.startswith(file) else f"{file}: {reason}"
        raise UserError(line if len(report.failed) == 1 else f"none of the {len(report.failed)} masks fits; {line}")
    total = sum(report.cells.values())
    data = {
        "format": report.format.name,
        "images": len(report.cells),
        "cells": total,
        "per_image": report.cells,
        "failed": len(report.failed),
        "errors": errors(report.failed),
        "notes": report.notes,
    }
    listing = "\n".join((table(("image", "cells"), list(report.cells.items())), *report.notes))
    taken = f"{number_of(total, 'cell')} taken over in {number_of(len(report.cells), 'image')}"
    return Answer(data, f"{listing}\n{taken}{also_failed(report.failed)}", report.failed)
