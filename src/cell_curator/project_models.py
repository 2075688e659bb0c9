"""Models that were trained in a project: their folder, and parameters that name them.

A project names its own models by the name of their folder, so that it can be moved; engines, which
know no projects, are given a path.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cell_curator.core.recipe import Recipe
from cell_curator.engines.cards import ModelCard, find_model, list_models, read_card
from cell_curator.engines.segmenter import SegmentParameters

if TYPE_CHECKING:
    from cell_curator.session import Session


def models_folder(session: Session) -> Path:
    """Where the project's own models lie; made when the first is trained."""
    return session.folder / "models"


def known(session: Session | None) -> list[ModelCard]:
    """All models that are here: those of the package, of the user, and of this project."""
    return list_models() if session is None else list_models(models_folder(session))


def own(session: Session, model: str) -> bool:
    """Whether this is a model of the project."""
    return bool(model) and Path(model).name == model and (models_folder(session) / model).is_dir()


def resolved(session: Session, parameters: SegmentParameters) -> SegmentParameters:
    """The parameters as an engine understands them: a model of the project by its path.

    Raises
    ------
    UserError
        If the project's model is damaged.
    """
    if not own(session, parameters.model):
        return parameters
    weights = find_model(parameters.model, models_folder(session))
    return parameters.model_copy(update={"model": str(weights)})


def recipe_note(session: Session, parameters: SegmentParameters) -> str:
    """A line if a model of the project learned on images that were prepared in another way; else nothing."""
    if not own(session, parameters.model):
        return ""
    card = read_card(models_folder(session) / parameters.model)
    now = session.get(Recipe).hash if parameters.source == "prepared" else ""
    if card.details.get("recipe_hash", now) == now:
        return ""
    return f"{card.title} learned on images prepared in another way; use that recipe, or train a round with this one"


def title(session: Session, model: str) -> str:
    """What people call a model."""
    if own(session, model):
        return read_card(models_folder(session) / model).title
    return next((card.title for card in list_models() if card.name == model), Path(model).name)
