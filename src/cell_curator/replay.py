"""The journal of a project as a Python script, and the hands that carry it out on a fresh one.

`script` writes one line for each entry of the journal; each calls one method of `Replay`. Segmentation is
done again with the parameters of then, object tools with the points of then, and painting puts back the
pixels themselves, so labels come out the same.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cell_curator.adding import add_file
from cell_curator.classifying import predict
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.pixel_runs import PixelRuns
from cell_curator.editing import TOOLS, edit
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.volumes import StackParameters
from cell_curator.finding_types import predict as find_types
from cell_curator.io.images import read_info
from cell_curator.io.project import Change, Project
from cell_curator.io.type_models import read_type_model
from cell_curator.mapping import note_cluster, refresh, rename_cluster
from cell_curator.marking import mark, reshape, unmark, unmark_region
from cell_curator.project_models import models_folder
from cell_curator.series import join
from cell_curator.session import Session
from cell_curator.typing_cells import give_type, rename_type
from cell_curator.workflow import StepReport, segment_each

_JOBS = {"score": "score_outliers", "map": "embed", "cluster": "recluster"}
_HEAD = """# The work on {name}, as its journal tells it ({count} entries).
# Run it with the name of a new project folder:  python {file} again.curator

import sys

from cell_curator.replay import Replay

work = Replay(sys.argv[1])
"""

Entry = Mapping[str, Any]


class Replay:
    """A fresh project on which the work of another is done again.

    Parameters
    ----------
    folder
        The new project folder; it must not exist or be empty.
    """

    def __init__(self, folder: Path | str) -> None:
        self.session = Session.create(folder)

    def add_image(self, name: str, path: str, *, condition: str) -> None:
        """Add an image under the name it had."""
        add_file(self.session, replace(read_info(Path(path)), path=Path(path)), [name], condition)

    def add_stack(self, names: Sequence[str], path: str, planes: Sequence[int], *, condition: str) -> None:
        """Add planes of a stack under the names they had."""
        add_file(self.session, replace(read_info(Path(path)), path=Path(path)), names, condition, planes)

    def settings(self, values: Mapping[str, Any]) -> None:
        """Store parameters by the name of their model."""
        self.session.commit(Change(settings=dict(values)))

    def segment(self, image: str, parameters: Mapping[str, Any], *, region: Sequence[Any] | None = None) -> None:
        """Find the cells of one image, or of a region of it."""
        self.session.put(SegmentParameters.model_validate(dict(parameters)))
        _check(drive(segment_each(self.session, [self._image(image)], region)))

    def segment_stack(self, image: str, parameters: Mapping[str, Any], stack: Mapping[str, Any]) -> None:
        """Find the cells of the stack that an image is a plane of."""
        self.session.put(SegmentParameters.model_validate(dict(parameters)))
        self.session.put(StackParameters.model_validate(dict(stack)))
        _check(drive(self.session.segment([self._image(image)])))

    def stitch(self, image: str, threshold: float, *, only: bool = False) -> None:
        """Give cells that go on from plane to plane one label."""
        join(self.session, self._image(image), threshold, only=only)

    def remove_images(self, images: Sequence[str]) -> None:
        """Take images out of the project."""
        self.session.remove_images([self._image(image) for image in images])

    def paint(self, image: str, pixels: Mapping[str, Any], *, action: str = "paint") -> None:
        """Put painted or imported pixels back."""
        image_id = self._image(image)
        labels = PixelRuns.from_json(pixels).applied(self.session.labels(image_id))
        self.session.set_labels(image_id, labels, action=action)

    def edit(
        self, image: str, tool: str, *, points: Sequence[Any] = (), labels: Sequence[int] = (), **options: Any
    ) -> None:
        """Use an object tool."""
        edit(self.session, self._image(image), tool, points=points, labels=labels, **options)

    def verdicts(self, cells: Sequence[tuple[str, int]], verdict: str) -> None:
        """Accept, reject, lock… cells, each named by image and label."""
        ids = [self.session.cell_at(self._image(image), label) for image, label in cells]
        self.session.set_verdict([cell for cell in ids if cell is not None], verdict)

    def types(self, cells: Sequence[tuple[str, int]], name: str) -> None:
        """Say of what type cells are, each named by image and label; "" for none."""
        ids = [self.session.cell_at(self._image(image), label) for image, label in cells]
        give_type(self.session, [cell for cell in ids if cell is not None], name)

    def rename_type(self, old: str, new: str) -> None:
        """Call a cell type something else."""
        rename_type(self.session, old, new)

    def predict_types(self, model: str, at_least: float) -> None:
        """Tell the types of cells by the model that was kept."""
        drive(predict(self.session, read_type_model(Path(model)), at_least))

    def find_types(self, image: str, model: str, at_least: float) -> None:
        """Find the cells of one image with their types by a network that was kept."""
        drive(find_types(self.session, Path(model), [self._image(image)], at_least))

    def condition(self, images: Sequence[str], condition: str) -> None:
        """Put images under another condition."""
        self.session.set_condition([self._image(image) for image in images], condition)

    def pixel_size(self, images: Sequence[str], pixel_size_um: float | None) -> None:
        """Say how large a pixel of images is."""
        self.session.set_pixel_size([self._image(image) for image in images], pixel_size_um)

    def turn(self, image: str, angle_deg: float | None) -> None:
        """Turn one image by hand."""
        self.session.set_turn(self._image(image), angle_deg)

    def mark(self, image: str, kind: str, added: Sequence[Any], removed: Sequence[Any]) -> None:
        """Mark parts of an image, or all of it (no corners), or take marks away."""
        image_id = self._image(image)
        there = [region for region in self.session.regions(image_id) if region.kind == kind]
        gone = [region.region_id for region in there if _lists(region.corners) in [*map(_lists, removed)]]
        if added and added[0] and gone:
            reshape(self.session, gone[0], added[0])
        elif added:
            mark(self.session, image_id, kind, added[0] or None)
        elif len(gone) == len(there):
            unmark(self.session, image_id, kind)
        else:
            unmark_region(self.session, gone[0])

    def models_from(self, folder: str) -> None:
        """Bring the models that were trained in the other project; they are not trained again."""
        if Path(folder).is_dir():
            target = models_folder(self.session)
            shutil.copytree(folder, target, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)

    def undo(self) -> None:
        """Take the last step back."""
        self.session.undo()

    def redo(self) -> None:
        """Do the step undone last again."""
        self.session.redo()

    def run(self, job: str) -> None:
        """Score, map or cluster the cells."""
        drive(getattr(self.session, job)())

    def refresh_map(self) -> None:
        """Bring the map up to date."""
        drive(refresh(self.session))

    def rename_cluster(self, number: int, name: str) -> None:
        """Call a cluster something else."""
        rename_cluster(self.session, number, name)

    def note_cluster(self, number: int, text: str) -> None:
        """Write something about a cluster."""
        note_cluster(self.session, number, text)

    def close(self) -> None:
        """Close the project."""
        self.session.close()

    def _image(self, name: str) -> int:
        for record in self.session.images:
            if record.name == name:
                return record.image_id
        raise UserError(f"there is no image {name!r} here; its 'add image' line comes first")


def _lists(corners: Sequence[Sequence[float]]) -> list[list[float]]:
    return [list(corner) for corner in corners]


def _check(report: StepReport) -> None:
    if report.failed:
        raise UserError(": ".join(report.failed[0]))


def script(project: Project, file: str = "replay.py") -> str:
    """The project's journal as the text of a Python script."""
    journal = project.journal()
    told = {name for detail in _details(journal, "settings", "turn") for name in detail}
    untold = {name: value for name, value in project.settings().items() if name not in told}
    conditions = {record.name: record.condition for record in project.images()}
    lines = [_HEAD.format(name=_word(project.folder.name), count=len(journal), file=_word(file))]
    if untold:
        lines.append(f"work.settings({untold!r})")
    if (journal["action"] == "round").any():
        lines.append(f"work.models_from({str((project.folder / 'models').resolve())!r})")
    places: dict[str, str] = {}  # where files lie now that were moved since they were added
    for detail in _details(journal, "relocate"):
        places = {old: detail["new"] if now == detail["old"] else now for old, now in places.items()}
        places.setdefault(detail["old"], detail["new"])
    for entry in journal.to_dict("records"):
        detail = entry["detail"]
        if "path" in detail:
            detail = {**detail, "path": places.get(detail["path"], detail["path"])}
        line = _line(entry["action"], detail, conditions)
        # What comes from the project is only ever written as a literal, so that no name can run as code.
        lines.append(
            f"{line}  # {_word(entry['time'])} {_word(entry['user'])}" if line else f"# {_word(entry['action'])}"
        )
    return "\n".join((*lines, "work.close()", ""))


def _details(journal: Any, *actions: str) -> Iterator[Mapping[str, Any]]:
    yield from journal.loc[journal["action"].isin(actions), "detail"]


def _word(text: str) -> str:
    """Text that stays within its comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _line(action: str, detail: Entry, conditions: Mapping[str, str]) -> str:
    """The call that does one entry again; "" where there is nothing to do."""
    if action in ("undo", "redo"):
        if detail.get("of") == "audit verdict":  # audits are not done again
            return ""
        return f"work.{action}()" if detail.get("part", 0) == 0 else ""
    if "pixels" in detail:
        return _call("paint", detail["image"], detail["pixels"], action=action)
    if action in TOOLS and "points" in detail:
        given = {name: detail[name] for name in ("points", "labels") if detail[name]}
        return _call("edit", detail["image"], action, **given, **detail.get("options", {}))
    if action == "add image":
        return _call("add_image", detail["name"], detail["path"], condition=conditions.get(detail["name"], ""))
    if action == "add stack":
        condition = conditions.get(detail["names"][0], "")
        return _call("add_stack", detail["names"], detail["path"], detail["planes"], condition=condition)
    if action in _JOBS:
        return _call("run", _JOBS[action])
    known = _LINES.get(action)
    return known(detail) if known is not None else ""


def _call(method: str, *arguments: Any, **named: Any) -> str:
    parts = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in named.items())]
    return f"work.{method}({', '.join(parts)})"


def _stack_line(detail: Entry) -> str:
    fields = {name: detail[name] for name in SegmentParameters.model_fields if name in detail}
    return _call("segment_stack", detail["image"], fields, dict(detail["stack"]))


def _segment_line(detail: Entry) -> str:
    fields = {name: detail[name] for name in SegmentParameters.model_fields if name in detail}
    named = {"region": detail["region"]} if detail.get("region") else {}
    return _call("segment", detail["image"], fields, **named)


def _verdict_line(detail: Entry) -> str:
    if "labels" not in detail:  # written before the journal named images and labels
        return ""
    named = list(zip(detail["images"], detail["labels"], detail["verdicts"], strict=True))
    calls = []
    for verdict in dict.fromkeys(detail["verdicts"]):
        calls.append(_call("verdicts", [(image, label) for image, label, given in named if given == verdict], verdict))
    return "; ".join(calls)


def _type_line(detail: Entry) -> str:
    named = list(zip(detail["images"], detail["labels"], detail["types"], strict=True))
    calls = []
    for name in dict.fromkeys(detail["types"]):
        calls.append(_call("types", [(image, label) for image, label, given in named if given == name], name))
    return "; ".join(calls)


def _mark_line(detail: Entry) -> str:
    return _call("mark", detail["image"], detail["kind"], detail["added"], detail["removed"])


_LINES: Mapping[str, Callable[[Entry], str]] = {
    "mark": _mark_line,
    "settings": lambda detail: _call("settings", dict(detail)),
    "segment": _segment_line,
    "segment stack": _stack_line,
    "stitch": lambda detail: _call("stitch", detail["image"], detail["threshold"], only=detail["only"]),
    "verdict": _verdict_line,
    "type": _type_line,
    "rename type": lambda detail: _call("rename_type", detail["from"], detail["to"]),
    "predict types": lambda detail: _call("predict_types", detail["model"], detail["at_least"]),
    "find types": lambda detail: _call("find_types", detail["image"], detail["model"], detail["at_least"]),
    "condition": lambda detail: _call("condition", detail["images"], detail["condition"]),
    "pixel size": lambda detail: _call("pixel_size", detail["images"], detail["pixel_size_um"]),
    "remove images": lambda detail: _call("remove_images", detail["images"]),
    "turn": lambda detail: _call("turn", detail["image"], detail["angle_deg"]),
    "refresh map": lambda detail: _call("refresh_map"),
    "rename cluster": lambda detail: _call("rename_cluster", detail["cluster"], detail["to"]),
    "note on cluster": lambda detail: _call("note_cluster", detail["cluster"], detail["to"]),
}
