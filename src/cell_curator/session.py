"""One open project, what is selected in it, and what can be undone. Knows no viewer.

The docks and the command line both work on a `Session`. Reading is cheap and gives immutable
snapshots; long work is a job from `workflow`; edits are methods that are done at once, stored
in one transaction, and undoable. Signals may fire from a job's thread: a view connects with
``thread="main"``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from psygnal import Signal, SignalGroup

from cell_curator import editing, large_images, verdicts, workflow
from cell_curator.core.cells import CellTable
from cell_curator.core.clean import CleanParameters, counts
from cell_curator.core.history import History
from cell_curator.core.jobs import Crew, Job, UserError
from cell_curator.core.large_cells import cut_lazily
from cell_curator.core.lazy import Lazy
from cell_curator.core.overview import Overview, overview
from cell_curator.core.parameters import Parameters
from cell_curator.core.patches import PatchParameters, cut
from cell_curator.core.preprocess import Prepared, prepare
from cell_curator.core.recipe import DEFAULT, Recipe
from cell_curator.core.regions import Region, area
from cell_curator.core.selection import Selection
from cell_curator.core.turns import Turns
from cell_curator.engines.worker import inline
from cell_curator.io.project import Change, Project
from cell_curator.io.records import ImageRecord, Round, StoredEmbedding
from cell_curator.one_image import read_pixels
from cell_curator.pixel_cache import PixelCache
from cell_curator.retracing import journalled, retracing

P = TypeVar("P", bound=Parameters)
Execute = Callable[..., Job[Any]]


class SessionEvents(SignalGroup):
    """What a view may want to hear."""

    images_changed = Signal()
    current_changed = Signal(object)  # image id or None
    cells_changed = Signal(frozenset)  # cell ids whose rows changed, appeared or went
    labels_changed = Signal(int)  # image id
    embedding_changed = Signal()
    regions_changed = Signal(frozenset)  # image ids
    rounds_changed = Signal()
    parameters_changed = Signal(str)  # name of the model


class Session:
    """One open project.

    Parameters
    ----------
    project
        The folder; the session closes it.
    execute
        How heavy functions are run, as ``execute("module:function", **arguments) -> Job``:
        `engines.worker.inline` (here, the default) or `Worker.call` (in its own process).
    """

    def __init__(self, project: Project, *, execute: Execute = inline) -> None:
        self.project = project
        self.execute = execute
        self.crew: Crew | None = None
        """Who works on many images at once; None: nobody but `execute`."""
        self.events = SessionEvents()
        self.selection = Selection()
        self.history = History()
        self._lock = threading.RLock()
        self._images = {record.image_id: record for record in project.images()}
        self._cells = project.cells()
        self._settings = project.settings()
        self._embedding = project.embedding()
        self._regions = {region.region_id: region for region in project.regions()}
        self._rounds = {made.round_id: made for made in project.rounds()}
        self._current: int | None = next(iter(self._images), None)
        self._pixels = PixelCache()
        self._newest: dict[int, int] = {}  # highest revision ever given to a cell; undo brings back lower ones

    @classmethod
    def create(cls, folder: Path | str, *, execute: Execute = inline) -> Session:
        """Make a new project in an empty or new folder and open it."""
        return cls(Project.create(Path(folder)), execute=execute)

    @classmethod
    def open(cls, folder: Path | str, *, execute: Execute = inline) -> Session:
        """Open an existing project folder."""
        return cls(Project.open(Path(folder)), execute=execute)

    @classmethod
    def open_or_create(cls, folder: Path | str, *, execute: Execute = inline) -> Session:
        """Open ``folder`` if it is a project, else make one there."""
        opener = cls.open if Project.is_project(Path(folder)) else cls.create
        return opener(folder, execute=execute)

    def close(self) -> None:
        """Close the project; everything is stored already."""
        with self._lock:
            self.project.close(self._cells)

    # ------------------------------------------------------------------ reading

    @property
    def folder(self) -> Path:
        """The project folder."""
        return self.project.folder

    @property
    def name(self) -> str:
        """The project's name: its folder without ``.curator``."""
        return self.folder.name.removesuffix(".curator")

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """All images, in the order in which they were added."""
        return tuple(self._images.values())

    def image(self, image_id: int) -> ImageRecord:
        """One image's record.

        Raises
        ------
        UserError
            If it was taken out of the project.
        """
        record = self._images.get(image_id)
        if record is None:
            raise UserError(f"image {image_id} is no longer in the project; add it again")
        return record

    @property
    def cells(self) -> CellTable:
        """The table of cells as it is now; later changes make new tables."""
        return self._cells

    def row(self, cell_id: int) -> pd.Series[Any]:
        """One cell's row."""
        return cast("pd.Series[Any]", self._cells.frame.loc[cell_id])

    def cell_at(self, image_id: int, label: int) -> int | None:
        """Id of the cell with this label value in this image."""
        return self._cells.find(image_id, label)

    @property
    def embedding(self) -> StoredEmbedding | None:
        """The newest map of cells, or None."""
        return self._embedding

    def regions(self, image_id: int | None = None) -> tuple[Region, ...]:
        """The marked parts of one image, or of all."""
        return tuple(r for r in self._regions.values() if image_id in (None, r.image_id))

    def marked(self, image_id: int, kind: str) -> NDArray[np.bool_]:
        """Where one image is marked so, ``(Y, X)``; see `core.regions`."""
        return area((r for r in self.regions(image_id) if r.kind == kind), self.image(image_id).shape[1:])

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds of retraining, the oldest first."""
        return tuple(self._rounds.values())

    def stale_cells(self) -> frozenset[int]:
        """Cells whose pixels changed since the map was made, and cells that are not on it."""
        return frozenset(self._cells.frame.index.to_numpy()[self._stale()].tolist())

    def stale_ids(self) -> NDArray[np.int64]:
        """Those of `stale_cells` that count."""
        return self._cells.frame.index.to_numpy()[self._stale() & self._counting()]

    def _stale(self) -> NDArray[np.bool_]:
        frame = self._cells.frame
        stale = np.ones(len(frame), bool)
        if self._embedding is not None:
            at = frame.index.get_indexer(pd.Index(self._embedding.cell_id))
            at, made_from = at[at >= 0], self._embedding.revision[at >= 0]
            stale[at[frame["revision"].to_numpy()[at] == made_from]] = False
        return stale

    def counting_cells(self) -> pd.DataFrame:
        """Rows of the cells that count, see `core.clean.counts`."""
        return self._cells.frame[self._counting()]

    def counting_ids(self) -> NDArray[np.int64]:
        """The cells that count; of 500,000, looking up their rows as well takes 0.2 s."""
        return self._cells.frame.index.to_numpy()[self._counting()]

    def _counting(self) -> NDArray[np.bool_]:
        given = partial(self._cells.where, "verdict")
        return counts(self._cells.frame, self.get(CleanParameters), given).to_numpy()

    def get(self, model: type[P]) -> P:
        """This project's parameters of one kind."""
        stored = self._settings.get(model.__name__)
        if stored is not None:
            return model.model_validate(stored)
        default: Any = DEFAULT if model is Recipe else model()
        return default  # type: ignore[no-any-return]

    def setting(self, name: str) -> Any:
        """What is stored under a name that is no model's, or None."""
        return self._settings.get(name)

    def put(self, parameters: Parameters) -> None:
        """Remember parameters with the project."""
        name, value = type(parameters).__name__, parameters.model_dump(mode="json")
        if self._settings.get(name) != value:
            self.commit(Change(settings={name: value}))
            self.events.parameters_changed.emit(name)

    def suppose(self, parameters: Parameters) -> None:
        """As `put`, but stored nowhere: to say what would be done with these parameters."""
        self._settings[type(parameters).__name__] = parameters.model_dump(mode="json")

    # ------------------------------------------------------------------ pixels

    def pixels(self, image_id: int) -> NDArray[np.generic]:
        """The original image, ``(C, Y, X)`` in the file's dtype."""
        record = self.image(image_id)

        def read() -> NDArray[np.generic]:
            return cast("NDArray[np.generic]", read_pixels(record.path, record.plane if record.axis else None))

        return self._pixels.get(("pixels", image_id, record.path, record.plane), read)

    def overview(self, image_id: int) -> Overview:
        """What previews need to know of the whole image."""
        record = self.image(image_id)
        return self._pixels.get(
            ("overview", image_id, record.path, record.plane), lambda: overview(self.pixels(image_id))
        )

    def recipe_for(self, image_id: int, recipe: Recipe | None = None) -> Recipe:
        """The recipe as it holds for one image: with the angle that was set for it, or found for its folder."""
        folder = str(self.image(image_id).path.parent)
        return self.get(Turns).recipe(recipe or self.get(Recipe), image_id, folder)

    def prepare(self, image_id: int, recipe: Recipe | None = None) -> Prepared:
        """The prepared image with its angle; ``recipe`` defaults to the project's."""
        recipe = self.recipe_for(image_id, recipe)

        def made() -> Prepared:
            pixels: Any = self.pixels(image_id)
            large = isinstance(pixels, Lazy)
            return large_images.prepared(self, image_id, pixels, recipe) if large else prepare(pixels, recipe)

        return self._pixels.get(("prepared", image_id, recipe.hash), made)

    def prepared(self, image_id: int) -> NDArray[np.float32]:
        """The prepared image, ``(Y, X)`` float32 in 0..1, in the frame of the original."""
        return self.prepare(image_id).image

    def angle(self, image_id: int) -> float:
        """Counter-clockwise turn that makes this image's grooves vertical, as last prepared (else 0)."""
        return self.image(image_id).angle_deg or 0.0

    def labels(self, image_id: int) -> NDArray[np.int32]:
        """The label image, ``(Y, X)`` int32 (a copy); zeros where no cells were found yet."""
        return self.label_view(image_id).copy()

    def patch(self, cell_id: int) -> NDArray[np.float32]:
        """The cell as the embedding sees it, ``(P, P)`` float32 in 0..1."""
        row = self.row(cell_id)
        image_id, how = int(row["image"]), self.get(PatchParameters)
        prepared, labels = self.prepare(image_id), self.label_view(image_id)
        picture, angle = prepared.image, prepared.angle_deg
        if isinstance(labels, Lazy):
            rows = self._cells.frame.loc[[cell_id]]
            made = cut_lazily(cast("Lazy", picture), labels, rows, how, angle)
        else:
            made = cut(picture, labels, [int(row["label"])], how, angle)
        return cast("NDArray[np.float32]", made.images[0])

    # ------------------------------------------------------------------ going about

    @property
    def current_image(self) -> int | None:
        """Id of the image on screen."""
        return self._current

    def show_image(self, image_id: int | None) -> None:
        """Put another image on screen."""
        if image_id is not None and image_id not in self._images:
            raise UserError(f"there is no image {image_id} in this project; choose one of the list")
        if image_id != self._current:
            self._current = image_id
            self.events.current_changed.emit(image_id)

    # ------------------------------------------------------------------ jobs

    def add_images(self, source: Path | str) -> Job[workflow.AddReport]:
        """Add a file or a folder of images; each sub-folder is a condition."""
        return workflow.add_images(self, Path(source))

    def prepare_images(self, image_ids: Sequence[int] | None = None) -> Job[workflow.StepReport]:
        """Apply the recipe to these images (all), noting angle and recipe of each."""
        return workflow.prepare_images(self, image_ids)

    def segment(self, image_ids: Sequence[int] | None = None, region: Any = None) -> Job[workflow.StepReport]:
        """Find the cells of these images (all), or of a ``region`` of them; what a person decided stays."""
        return workflow.segment(self, image_ids, region)

    def score_outliers(self) -> Job[int]:
        """Score how suspicious each cell is; returns how many are flagged."""
        return workflow.score_outliers(self)

    def embed(self) -> Job[workflow.MapReport]:
        """Learn the map of all cells that count, and cluster it."""
        return workflow.embed(self)

    def recluster(self) -> Job[workflow.MapReport]:
        """Cluster the existing map again, with the parameters as they are now."""
        return workflow.recluster(self)

    def run(self, *, again: bool = False) -> Job[workflow.RunReport]:
        """The whole line for all images: prepare, segment, score, map. Only what is not done, or all ``again``."""
        return workflow.run(self, again=again)

    # ------------------------------------------------------------------ edits

    def set_labels(self, image_id: int, labels: NDArray[np.integer[Any]], action: str = "paint") -> frozenset[int]:
        """Take over hand-corrected labels; returns the cells that changed, appeared or went.

        A cell keeps its id as long as its label value is there. Cells whose pixels changed get a
        higher revision, new measurements and the verdict ``edited``; locked cells keep the pixels they
        have. Not in `history`: painting has napari's own undo, which comes back here as just another
        change. The journal keeps the pixels.

        Raises
        ------
        UserError
            If the shape is not the image's.
        """
        return editing.paint(self, image_id, labels, action)

    def next_revisions(self, cells: Sequence[int]) -> list[int]:
        """A revision for each cell that it never had: pictures and maps made from another one are stale."""
        wanted = pd.Index(cells)
        last = self._cells.frame["revision"].reindex(wanted, fill_value=0).tolist()
        if self._embedding is not None:
            made = pd.Series(self._embedding.revision, index=self._embedding.cell_id).reindex(wanted, fill_value=0)
            last = [max(pair) for pair in zip(last, made.tolist(), strict=True)]
        new = [max(before, self._newest.get(cell, 0)) + 1 for cell, before in zip(cells, last, strict=True)]
        self._newest.update(zip(cells, new, strict=True))
        return new

    def set_verdict(self, ids: Iterable[int], verdict: str) -> None:
        """Accept, reject, lock… cells; one undoable step.

        Raises
        ------
        UserError
            If the verdict is not one of `core.cells.VERDICTS`, or a cell is not there.
        """
        verdicts.give(self, ids, verdict)

    def set_condition(self, image_ids: Iterable[int], condition: str) -> None:
        """Put images, and with them their cells, under another condition."""
        with self._lock:
            records = tuple(replace(self.image(i), condition=condition) for i in image_ids)
            rows = self._cells.frame
            rows = rows[rows["image"].isin([record.image_id for record in records])].assign(condition=condition)
            names = [record.name for record in records]
            self.commit(Change("condition", {"images": names, "condition": condition}, images=records, cells=rows))

    def set_pixel_size(self, image_ids: Iterable[int], pixel_size_um: float | None) -> None:
        """Say how large a pixel of these images is, in µm; None if that is not known."""
        with self._lock:
            records = tuple(replace(self.image(i), pixel_size_um=pixel_size_um) for i in image_ids)
            names = [record.name for record in records]
            self.commit(Change("pixel size", {"images": names, "pixel_size_um": pixel_size_um}, images=records))

    def set_turn(self, image_id: int, angle_deg: float | None) -> None:
        """Turn one image by hand, counter-clockwise; None leaves it to the recipe again."""
        turns = self.get(Turns).with_hand(image_id, angle_deg)
        record = self.image(image_id)
        self.commit(
            Change(
                "turn",
                {"image": record.name, "angle_deg": angle_deg},
                settings={Turns.__name__: turns.model_dump(mode="json")},
            )
        )
        self.events.parameters_changed.emit(Turns.__name__)

    def remove_images(self, image_ids: Iterable[int]) -> None:
        """Take images and their cells out of the project; the files stay. This cannot be undone."""
        records = [self.image(i) for i in image_ids]
        if not records:
            return
        ids = tuple(record.image_id for record in records)
        frame = self._cells.frame
        gone = frame.index[frame["image"].isin(ids)]
        detail = {"images": [record.name for record in records], "cells": len(gone)}
        self.commit(Change("remove images", detail, removed_images=ids, removed=tuple(gone.tolist())))
        self.history.clear()  # its steps may be about these images

    def undo(self) -> bool:
        """Take the last edit back; False if there is none."""
        with retracing("undo"):
            return self.history.undo()

    def redo(self) -> bool:
        """Do the last undone edit again; False if there is none."""
        with retracing("redo"):
            return self.history.redo()

    @property
    def lock(self) -> threading.RLock:
        """Held while an edit reads, decides and stores; jobs store what they find from threads of their own."""
        return self._lock

    def label_view(self, image_id: int) -> NDArray[np.int32]:
        """The label image as `labels` gives it, but not a copy: read-only, and never changed later.

        That of a large image is a `core.lazy.Lazy`; so are `pixels` and `prepared`.
        """
        with self._lock:  # else the next edit may throw away the revision that is about to be read
            record = self.image(image_id)
            key = ("labels", image_id, record.labels_revision)
            kept = self._pixels.get(key, lambda: self.project.labels(record))
        if isinstance(kept, Lazy):
            return kept  # type: ignore[return-value]
        view: NDArray[np.int32] = kept.view()
        view.flags.writeable = False
        return view

    def locked_labels(self, image_id: int) -> frozenset[int]:
        """Labels of the locked cells of one image."""
        rows = self._cells.of_image(image_id)
        return frozenset(rows.loc[rows["verdict"] == "locked", "label"].tolist())

    def commit(self, change: Change) -> None:
        """Store ``change``, take it over, and tell the views."""
        change = journalled(change)
        with self._lock:
            stored = self.project.write(change)
            self._images.update({record.image_id: record for record in stored})
            for image_id in change.removed_images:
                self._images.pop(image_id, None)
            for image_id, labels in change.labels.items():
                self._keep_labels(image_id, labels)
            changed = frozenset(change.removed) | frozenset(() if change.cells is None else change.cells.index)
            if changed:
                table = self._cells.without(change.removed)
                self._cells = table if change.cells is None else table.with_rows(change.cells)
            self._settings.update(change.settings)
            marked = self._take_regions(change)
            if change.round is not None:
                self._rounds[change.round.round_id] = change.round
            if change.embedding is not None:
                self._embedding = change.embedding
            if change.clustering is not None and self._embedding is not None:
                self._embedding = replace(self._embedding, clustering=change.clustering)
        if change.images or change.removed_images:
            if self._current in change.removed_images:
                self.show_image(next(iter(self._images), None))
            self.events.images_changed.emit()
            if self._current is None and change.images:
                self.show_image(change.images[0].image_id)
        for image_id in change.labels:
            self.events.labels_changed.emit(image_id)
        if changed:
            if change.removed:
                self.selection.set(self.selection.ids.difference(change.removed))
            self.events.cells_changed.emit(changed)
        if change.embedding is not None or change.clustering is not None:
            self.events.embedding_changed.emit()
        if marked:
            self.events.regions_changed.emit(marked)
        if change.round is not None:
            self.events.rounds_changed.emit()

    def _take_regions(self, change: Change) -> frozenset[int]:
        """Take over the regions of ``change``; returns the images concerned."""
        gone = [
            region
            for region in self._regions.values()
            if region.region_id in change.removed_regions or region.image_id in change.removed_images
        ]
        for region in gone:
            del self._regions[region.region_id]
        self._regions.update({region.region_id: region for region in change.regions})
        return frozenset(region.image_id for region in (*gone, *change.regions))

    def _keep_labels(self, image_id: int, labels: Any) -> None:
        """Of each image the newest labels are kept, so that an edit need not read them back."""
        self._pixels.forget("labels", image_id)
        if not isinstance(labels, np.ndarray):
            return  # written block by block: it is on the disk
        self._pixels.put(("labels", image_id, self._images[image_id].labels_revision), labels)
