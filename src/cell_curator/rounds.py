"""Rounds of retraining: learn from what was reviewed, score on what was locked away, go on or go back.

A round never changes which model is in use; `promote` and `roll_back` do. Its model lies in the project's
``models/`` with a card that says what it learned from. A round that is cancelled keeps the best so far.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from cell_curator.core.jobs import Job, UserError, scaled
from cell_curator.core.parameters import Parameters
from cell_curator.core.recipe import Recipe
from cell_curator.engines.cards import CARD, WEIGHTS
from cell_curator.engines.downloads import fitting
from cell_curator.engines.finetune import TrainingState, TrainParameters, best_so_far, presets
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.examples import Gathered, findings, gather
from cell_curator.io.atomic import write_error
from cell_curator.io.project import Change, now
from cell_curator.io.records import Round
from cell_curator.project_models import models_folder, own, resolved, title
from cell_curator.round_table import effort
from cell_curator.teaching import Lesson, described, look_after, make_place, outcome, teach, tidy, write_card

if TYPE_CHECKING:
    from cell_curator.session import Session

_training: WeakSet[Session] = WeakSet()


class UsedModels(Parameters):
    """Models that were in use before, the latest last, each with the diameter it was used with (px)."""

    before: tuple[tuple[str, float], ...] = ()


def train_round(session: Session, parameters: TrainParameters) -> Job[Round]:
    """Train on what was reviewed, from the model in use, and score both on what is locked away.

    While it learns, ``Progress.payload`` is a `TrainingState`. Closing the job ends it: the best so
    far becomes a round without scores.

    Raises
    ------
    UserError
        If a finding of `examples.preflight` stops it, if another round runs, or if training fails.
    """
    with _alone(session):
        given = yield from scaled(gather(session), 0.0, 0.03, "reading examples: ")
        stops = [finding for finding in findings(session, given) if finding.stops]
        if stops:
            raise UserError(str(stops[0]))
        lesson = lesson_of(session, given, parameters)
        place = make_place(models_folder(session) / ".training")  # stays after a crash: the same round goes on
        begun: list[TrainingState] = []
        try:
            detail = yield from scaled(_noting(teach(session.execute, lesson, place), begun), 0.03, 1.0)
        except GeneratorExit:
            kept = best_so_far(place) if begun else None  # else it is of a round that crashed
            if kept is not None:
                known = {**described(lesson), **outcome(kept), "stopped": "cancelled", "before": None}
                add_round(session, place, {**known, "minutes": round(kept.seconds / 60, 2)})
            raise
        return add_round(session, place, detail)


def score_round(session: Session, round_id: int) -> Job[Round]:
    """Score a round on what is locked away now.

    Raises
    ------
    UserError
        If there is no such round, or nothing to score on.
    """
    made = _round(session, round_id)
    given = yield from scaled(gather(session), 0.0, 0.2)
    if not given.holdout:
        raise UserError("no reviewed cell is locked away; lock an image and mark it reviewed, then score again")
    lesson = lesson_of(session, given, TrainParameters())
    mine = resolved(session, lesson.base.model_copy(update={"model": made.model}))
    job = look_after(session.execute, lesson, Path(mine.model), float(made.detail["diameter_px"]))
    detail = {**made.detail, **(yield from scaled(job, 0.2, 1.0))}
    write_card(models_folder(session) / made.model, detail)
    done = replace(made, detail=detail)
    session.commit(Change(round=done))
    return done


def _noting(job: Job[Any], begun: list[TrainingState]) -> Job[Any]:
    """The same job; ``begun`` is filled once the network learns."""
    try:
        while True:
            progress = next(job)
            if not begun and isinstance(progress.payload, TrainingState):
                begun.append(progress.payload)
            yield progress
    except StopIteration as end:
        return end.value
    finally:
        job.close()


def lesson_of(session: Session, given: Gathered, parameters: TrainParameters) -> Lesson:
    """What was gathered as a lesson for the model in use, with all that its card is to say."""
    base, corrections = session.get(SegmentParameters), effort(session)
    return Lesson(
        train=tuple(one.example for one in given.train),
        holdout=tuple(one.example for one in given.holdout),
        base=resolved(session, base),
        parameters=parameters,
        about={
            "project": session.name,
            "parent": base.model,
            "parent_title": title(session, base.model),
            "sha256": {one.example.name: one.digest for one in (*given.train, *given.holdout)},
            "source": base.source,
            "recipe_hash": session.get(Recipe).hash if base.source == "prepared" else "",
            "recipe": session.get(Recipe).model_dump(mode="json") if base.source == "prepared" else None,
            "edits": corrections.edits,
            "edits_per_100": corrections.per_100,
        },
    )


def promote(session: Session, round_id: int) -> None:
    """Use the model of a round from now on, with the diameter it learned.

    Raises
    ------
    UserError
        If it finds no cells, or its folder is gone.
    """
    made = _round(session, round_id)
    if not made.detail.get("usable", True):
        raise UserError(f"{made.detail['title']} finds no cells and cannot be used; review more cells and train again")
    if not own(session, made.model):
        raise UserError(f"{made.detail['title']}: its folder in {models_folder(session)} is gone; train again")
    now_used = session.get(SegmentParameters)
    if now_used.model == made.model:
        return
    used = session.get(UsedModels).before
    before = UsedModels(before=(*used, (now_used.model, now_used.diameter)))
    _use(session, "promote", made.model, float(made.detail.get("diameter_px", 0.0)), before)


def roll_back(session: Session) -> str:
    """Use the model again that was used before; returns its title.

    Raises
    ------
    UserError
        If no model was replaced yet.
    """
    used = session.get(UsedModels).before
    if not used:
        raise UserError("no model was replaced yet; there is nothing to go back to")
    model, diameter = used[-1]
    _use(session, "roll back", model, diameter, UsedModels(before=used[:-1]))
    return title(session, model)


def usual_parameters(session: Session) -> TrainParameters:
    """How a round learns unless told otherwise: as the project remembers, else quickly."""
    if TrainParameters.__name__ in session.project.settings():
        return session.get(TrainParameters)
    return presets(session.get(SegmentParameters).engine)["quick"]


def model_in_use(session: Session) -> str:
    """The name of the model that finds cells now."""
    return session.get(SegmentParameters).model


def add_round(session: Session, place: Path, detail: Mapping[str, Any]) -> Round:
    """Make a round of the model in the folder ``place``, which is moved into the project.

    Raises
    ------
    UserError
        If the folder cannot be moved.
    """
    number = max((made.round_id for made in session.rounds), default=0) + 1
    name = f"round-{number:02d}"
    while (models_folder(session) / name).exists():  # left by a project file that was since put back from a copy
        name += "x"
    whole = {**detail, "title": f"Round {number}"}
    write_card(place, whole)
    tidy(place, (CARD, WEIGHTS))
    try:
        os.replace(place, models_folder(session) / name)
    except OSError as error:
        raise write_error(models_folder(session) / name, error) from error
    made = Round(number, now(), name, whole)
    session.commit(Change("round", {"round": number, "model": name, "minutes": whole["minutes"]}, round=made))
    return made


@contextmanager
def _alone(session: Session) -> Iterator[None]:
    if session in _training:
        raise UserError("a round is running already; wait for it to end or cancel it")
    _training.add(session)
    try:
        yield
    finally:
        _training.discard(session)


def _use(session: Session, action: str, model: str, diameter: float, before: UsedModels) -> None:
    now_used = session.get(SegmentParameters).model_copy(update={"model": model, "diameter": diameter})
    parameters = fitting(now_used, models_folder(session))
    stored = {type(one).__name__: one.model_dump(mode="json") for one in (parameters, before)}
    session.commit(Change(action, {"model": model}, settings=stored))
    session.events.parameters_changed.emit(SegmentParameters.__name__)
    session.events.rounds_changed.emit()


def _round(session: Session, round_id: int) -> Round:
    for made in session.rounds:
        if made.round_id == round_id:
            return made
    raise UserError(f"there is no round {round_id} in this project; choose one of the table")
