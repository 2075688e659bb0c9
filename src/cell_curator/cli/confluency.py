"""The command that says how far a dish is covered: confluency."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cell_curator.cli.arguments import COVER, KMEANS, Scheduler, Workers
from cell_curator.cli.doubts import SkipDoubtful, say_doubtful
from cell_curator.cli.folders import Out, also_failed, errors
from cell_curator.cli.frame import Answer, Typed, app, command, follow, table
from cell_curator.cli.manpower import anywhere, manpower, pieces, say_who
from cell_curator.cli.projects import open_session
from cell_curator.core.confluency import ConfluencyParameters, CoverMethod, UnetCover
from cell_curator.core.jobs import UserError
from cell_curator.core.pixel_clusters import KmeansParameters
from cell_curator.core.recipe import Channel

if TYPE_CHECKING:
    from cell_curator.cover_report import CoverReport

Cover = Annotated[
    Path,
    typer.Argument(
        metavar="IMAGES",
        help="Folder of images (TIFF, PNG, JPEG, BMP), or one; with --method masks of label images; or a project.",
        show_default=False,
    ),
]


@command(app, KMEANS, COVER)
def confluency(
    images: Cover,
    out: Out,
    *,
    method: Annotated[
        Literal["kmeans", "unet", "masks"],
        typer.Option(
            "--method",
            help="kmeans: groups of pixels by texture. unet: a network that learned from masks. "
            "masks: what cells cover together.",
        ),
    ] = "kmeans",
    model: Annotated[
        str, typer.Option("--model", metavar="M", help="For unet: name of a model, or its folder.", show_default=False)
    ] = "",
    looks: Annotated[
        int | None,
        typer.Option(
            "--looks",
            metavar="N",
            help="For unet: how often an image is looked at, each time turned or mirrored; the mean counts (2).",
            min=1,
            max=8,
            show_default=False,
        ),
    ] = None,
    marked: Annotated[
        Path | None,
        typer.Option(
            "--marked",
            metavar="MASKS",
            help="Masks drawn by hand for some of the images; percentages are corrected by them.",
            show_default=False,
        ),
    ] = None,
    alike: Annotated[
        bool,
        typer.Option("--alike", help="Group the pixels of all images together; for empty and full dishes among them."),
    ] = False,
    channel: Annotated[
        int | None,
        typer.Option(
            "--channel",
            metavar="N",
            help="Channel to look at, counted from 0; as a rule the first, or the luminance of a colour picture.",
            min=0,
            max=63,
            show_default=False,
        ),
    ] = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(
            "--pixel-size",
            metavar="UM",
            help="Edge of a pixel in µm, if files do not say.",
            min=1e-6,
            show_default=False,
        ),
    ] = None,
    skip_doubtful: SkipDoubtful = False,
    workers: Workers = None,
    scheduler: Scheduler = "",
    typed: Typed,
) -> Answer:
    """Say how far cells cover each image.

    Writes confluency.csv (percentage with its 95 % interval, area, count and density where they can be known),
    confluency_curve.csv (mean, least and greatest by condition and time) and with kmeans and unet a mask NAME.tif for
    every image. Each sub-folder is a condition; time is read from file names such as dish_36h or A3_t012, or is the
    frame. Of a project, masks are the cells that count, and kmeans and unet are corrected by what was marked as
    reviewed.

    A model for unet comes of `cell-curator train IMAGES MASKS MODEL --base new-unet-area`. With unet, edges are not
    trimmed unless --trim-px says so, holes are filled below 50 px and islands left out below 30.
    """
    from cell_curator.confluency import cover_masks
    from cell_curator.io.project import Project

    say = typed.over(ConfluencyParameters())
    chosen = _method(method, model, looks, typed)
    who = (workers, scheduler)
    if Project.is_project(images):
        _only_for_folders(
            marked=marked, alike=alike, channel=channel, pixel_size=pixel_size, skip_doubtful=skip_doubtful
        )
        report = _of_project(images, out, say, chosen, who)
    elif chosen is None:
        _only_for(method, "kmeans and unet", marked=marked, channel=channel, skip_doubtful=skip_doubtful)
        _only_for(method, "kmeans", alike=alike)
        report = follow(cover_masks(images, out, say, pixel_size_um=pixel_size))
    else:
        if method == "unet":
            _only_for(method, "kmeans", alike=alike)
        looked_at = Channel() if channel is None else Channel(mode="index", index=channel)
        how = {"channel": looked_at, "alike": alike, "marked": marked, "pixel_size_um": pixel_size}
        report = _of_folder(images, out, say, chosen, who, skip_doubtful, how)
    return _answer(report, out, say)


def _of_project(
    project: Path, out: Path, say: ConfluencyParameters, method: CoverMethod | None, who: tuple[int | None, str]
) -> CoverReport:
    from cell_curator.confluency import cover_project
    from cell_curator.doubtful_images import doubtful_in
    from cell_curator.engines.cluster import Manpower
    from cell_curator.workflow import by_crew

    with open_session(project, reading=True) as session:
        say_doubtful(doubtful_in(session))
        power = manpower(*who, *(record.path for record in session.images[:1]))
        power = Manpower(1) if method is None else power  # masks are there already
        covering = partial(cover_project, session, out, say, method)
        return follow(by_crew(session, power, len(session.images), covering, say_who))


def _of_folder(
    images: Path,
    out: Path,
    say: ConfluencyParameters,
    method: CoverMethod,
    who: tuple[int | None, str],
    skip_doubtful: bool,
    how: dict[str, Any],
) -> CoverReport:
    from cell_curator.confluency import cover_folder
    from cell_curator.doubtful_images import doubtful_files
    from cell_curator.engines.cluster import manned
    from cell_curator.io.folders import result_folder

    doubtful = follow(doubtful_files(images))
    say_doubtful(doubtful, skip_doubtful)
    count = pieces(images)
    power = manpower(*who, images, result_folder(images, out))
    skip = doubtful.images if skip_doubtful else ()
    job = partial(cover_folder, anywhere(power, images), anywhere(power, out), method, say, skip=skip, **how)
    return follow(manned(power, count, lambda crew: job(crew=crew), say_who))


def _method(method: str, model: str, looks: int | None, typed: Typed) -> CoverMethod | None:
    """The method with what was typed; None for masks.

    Raises
    ------
    UserError
        Something was typed that this method has no use for.
    """
    given, names = typed.over(KmeansParameters()), typed.names(KmeansParameters)
    if method != "unet":
        _only_for(method, "unet", model=model or None, looks=looks)
    if method == "kmeans":
        return given
    shared = names & set(UnetCover.model_fields) if method == "unet" else frozenset()
    if names - shared:
        options = [option for option in typed.options(KmeansParameters) if _name(option) not in shared]
        why = "takes masks as they are" if method == "masks" else "makes no groups of pixels"
        raise UserError(f"--method {method} {why}; leave out {', '.join(options)}")
    if method == "masks":
        return None
    asked = {"model": model, **({} if looks is None else {"looks": looks})}
    return UnetCover.model_validate({**asked, **{name: getattr(given, name) for name in shared}})


def _name(option: str) -> str:
    return option.removeprefix("--").replace("-", "_")


def _only_for_folders(**given: Any) -> None:
    if names := _typed_of(given):
        raise UserError(
            f"--{names[0].replace('_', '-')} is for folders; a project has its own masks, channel and sizes"
        )


def _only_for(method: str, those: str, **given: Any) -> None:
    if names := _typed_of(given):
        raise UserError(f"--{names[0].replace('_', '-')} is for --method {those}; leave it out with {method}")


def _typed_of(given: dict[str, Any]) -> list[str]:
    """Names of the options that were typed; a channel may be 0."""
    return [name for name, value in given.items() if value is not None and value is not False]


def _answer(report: CoverReport, out: Path, say: ConfluencyParameters) -> Answer:
    """The table of all images, and lines on threshold, correction and alarm."""
    shown = []
    for row in report.rows:
        low, high = row.cover.interval or (None, None)
        name = row.image if row.plane is None else f"{row.image} [{row.plane + 1}]"
        ends = "" if low is None else f"{low:.1f} to {high:.1f}"
        count = "" if row.cover.count is None else row.cover.count
        shown.append((name, f"{row.cover.percent:.1f} %", ends, count))
    alarming = report.alarming(say)
    lines = [table(("image", "covered", "95 % interval", "cells"), shown)]
    lines += [f"{row.image}: {row.note}" for row in report.rows if row.note]
    if report.threshold is not None:
        lines.append(f"threshold {report.threshold:g}")
    if report.calibration is not None:
        lines.append(_taught(report.calibration))
    if alarming:
        lines.append(f"{say.alarm:g} % or more: {', '.join(alarming)}")
    lines.append(f"{len(report.rows)} covers{also_failed(report.failed)}; table in {out / 'confluency.csv'}")
    data = {
        "out": out,
        "images": [
            {"image": r.image, "condition": r.condition, "time": r.time, "plane": r.plane, **asdict(r.cover),
             "covered_um2": r.cover.covered_um2, "density_per_mm2": r.cover.density,
             "as_found": r.as_found, "note": r.note}
            for r in report.rows
        ],
        "curve": report.curve,
        "threshold": report.threshold,
        "calibration": report.calibration,
        "alarm": alarming,
        "failed": len(report.failed),
        "errors": errors(report.failed),
    }  # fmt: skip
    return Answer(data, "\n".join(lines), report.failed)


def _taught(made: Any) -> str:
    left = "" if made.parts < 2 else f"; {made.error:.1f} points are left as error"
    if (made.slope, made.offset) == (1.0, 0.0):
        return f"{made.parts} hand-marked: left as found, which a correction would not better{left}"
    return f"corrected by {made.parts} hand-marked: {made.offset:+.1f} points + {made.slope:.2f} × what was found{left}"
