"""What a project gives away: tables, label images and the report, written from a `Session`.

The command line and the docks both end here. Formats are in `io`; nothing is computed or
changed in the project.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clean import CleanParameters, counts
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.image_flags import ImageFlagParameters
from cell_curator.core.jobs import Job, Progress, drive, scaled
from cell_curator.core.outliers import OutlierParameters
from cell_curator.core.parameters import Parameters
from cell_curator.core.patches import PatchParameters
from cell_curator.core.recipe import Recipe
from cell_curator.core.type_classifier import TypeParameters
from cell_curator.doubtful_images import image_report
from cell_curator.engines.checkup import versions
from cell_curator.engines.mask_rcnn import MaskRcnnParameters
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.volumes import StackParameters
from cell_curator.io.atomic import write_atomic
from cell_curator.io.folders import make_folder
from cell_curator.io.formats.csv import write_cells, write_clusters, write_errors, write_outliers
from cell_curator.io.recipes import write_recipe
from cell_curator.io.report import ReportContent, ReportImage, ReportMap, write_report
from cell_curator.io.report_review import ReportReview
from cell_curator.map_report import judged_content
from cell_curator.reviewing import audit, funnel, record
from cell_curator.session import Session
from cell_curator.workflow import cut_patches

PARTS: tuple[tuple[str, type[Parameters]], ...] = (
    ("Preparation", Recipe),
    ("Finding cells", SegmentParameters),
    ("Stacks and time lapses", StackParameters),
    ("Unusual cells", OutlierParameters),
    ("Cells that count", CleanParameters),
    ("Images that look wrong", ImageFlagParameters),
    ("Patches", PatchParameters),
    ("Learning", VaeParameters),
    ("Map", MapParameters),
    ("Clusters", ClusterParameters),
    ("Cell types", TypeParameters),
    ("Cells and types at once", MaskRcnnParameters),
)
"""The parameter models of a project, in the order of the work, by the name a person knows them by."""

REVIEW = "review.json"
"""File that says which cells count and what an audit of them gave; it lies beside cells.csv."""

Failed = Sequence[tuple[str, str]]


def image_names(session: Session) -> dict[int, str]:
    """Name of each image by its id."""
    return {record.image_id: record.name for record in session.images}


def save_tables(session: Session, folder: Path, failed: Failed = ()) -> tuple[Path, ...]:
    """Write cells.csv, recipe.json, review.json, clusters.csv where there is a map, errors.csv where something failed.

    Raises
    ------
    UserError
        A file cannot be written.
    """
    make_folder(folder)
    names = image_names(session)
    written = [folder / "cells.csv", folder / "recipe.json"]
    write_cells(written[0], session.cells, names, counting=counts(session.cells.frame, session.get(CleanParameters)))
    angles = {record.name: record.angle_deg for record in session.images if record.angle_deg is not None}
    write_recipe(written[1], session.get(Recipe), angles)
    written.append(save_review(session, folder / REVIEW))
    if session.embedding is not None:
        written.append(save_clusters(session, folder / "clusters.csv"))
    if failed:
        written.append(folder / "errors.csv")
        write_errors(written[-1], failed)
    return tuple(written)


def save_clusters(session: Session, path: Path) -> Path:
    """Write the cells of the map with cluster, place on the map and learned features."""
    stored = session.embedding
    assert stored is not None
    names = image_names(session)
    write_clusters(path, session.cells, names, stored.cell_id, stored.map2d, stored.latent, stored.cluster_names)
    return path


def save_outliers(session: Session, path: Path) -> Path:
    """Write score and reasons of every cell, the most suspicious first."""
    write_outliers(path, session.cells, image_names(session))
    return path


def save_review(session: Session, path: Path) -> Path:
    """Write how clean the set is: which cells count, the funnel, the audit cell by cell, images that look wrong.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    text = json.dumps(record(session), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, lambda stream: stream.write(text.encode()))
    return path


def save_images(session: Session, path: Path) -> Path:
    """Write what may be wrong with each image, one row for each: image, condition, flags, reasons.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    found, text = image_report(session), StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("image", "condition", "flags", "reasons"))
    unread = {} if found is None else dict(found.unread)
    for image in session.images:
        those = () if found is None else found.flags.get(image.image_id, ())
        keys, sentences = [flag.key for flag in those], [flag.text for flag in those]
        if image.image_id in unread:
            keys, sentences = ["unread"], [unread[image.image_id]]
        rows.writerow((image.name, image.condition, "; ".join(keys), "; ".join(sentences)))
    write_atomic(path, lambda stream: stream.write(text.getvalue().encode()))
    return path


def save_report(session: Session, path: Path, failed: Failed = (), notes: Sequence[str] = ()) -> Job[Path]:
    """Write the report of a project as one HTML file.

    Parameters
    ----------
    failed
        (file or image, reason) of what could not be done.
    notes
        Lines for the reader.
    """
    judged = yield from scaled(judged_content(session), 0.0, 0.3)
    content = replace(_content(session, tuple(failed), tuple(notes)), judged=judged)
    return (yield from scaled(write_report(path, content), 0.3, 1.0))


def save_all(session: Session, failed: Failed = (), notes: Sequence[str] = ()) -> Job[tuple[Path, ...]]:
    """Write tables and report into the project folder."""
    yield Progress(0.0, "writing tables")
    if not failed:
        (session.folder / "errors.csv").unlink(missing_ok=True)  # of an earlier run; what failed then is done now
    written = save_tables(session, session.folder, failed)
    report = yield from scaled(save_report(session, session.folder / "report.html", failed, notes), 0.1, 1.0)
    return (*written, report)


def _content(session: Session, failed: tuple[tuple[str, str], ...], notes: tuple[str, ...]) -> ReportContent:
    stored = session.embedding
    return ReportContent(
        title=session.name,
        made=datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        cells=session.cells.frame,
        images=tuple(
            ReportImage(r.image_id, r.name, r.condition, r.state, r.note, r.pixel_size_um) for r in session.images
        ),
        look=lambda image_id: (session.prepared(image_id), session.labels(image_id)),
        patches=lambda ids: _patches(session, ids),
        map=None if stored is None else ReportMap(stored.cell_id, stored.latent, stored.map2d, stored.clustering),
        failed=failed,
        notes=notes,
        parameters=tuple((title, session.get(model)) for title, model in PARTS),
        versions=versions(),
        review=_review(session),
    )


def _review(session: Session) -> ReportReview:
    state, found, names = audit(session), image_report(session), image_names(session)
    wrong = () if found is None else tuple((names[i], [flag.text for flag in f]) for i, f in found.flags.items())
    return ReportReview(
        funnel(session), "" if state is None else state.text, "" if found is None else f"{found.text}.", wrong
    )


def _patches(session: Session, ids: list[int]) -> Mapping[int, NDArray[np.float32]]:
    """Patches of these cells, cut image by image."""
    patches, order = drive(cut_patches(session, session.cells.frame.loc[ids]))
    return dict(zip(order.tolist(), patches.images, strict=True))
