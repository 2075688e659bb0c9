"""Parameters, declared once.

Every operation has one frozen pydantic model built from `Parameters` and `parameter`. The
form in the dock, the options of the command, the JSON in the project and the reference page
are all derived from `describe`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Parameters(BaseModel):
    """Base of all parameter models: frozen, and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change whenever any value does."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def parameter(
    default: Any,
    title: str,
    description: str,
    *,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    step: float | None = None,
    more: bool = False,
) -> Any:
    """Declare one parameter.

    Parameters
    ----------
    default
        Value when nobody sets it.
    title, description
        The biologist's words: label of the control, and its tooltip.
    unit
        ``"px"``, ``"µm"``, ``"%"``, ``"°"``… shown behind the value.
    ge, le
        Bounds, checked by pydantic and used by the slider.
    step
        Increment of the control.
    more
        Folded under "More" in the dock.
    """
    extra: dict[str, Any] = {"unit": unit, "step": step, "more": more}
    return Field(default, title=title, description=description, ge=ge, le=le, json_schema_extra=extra)


@dataclass(frozen=True)
class ParameterInfo:
    """What a form, an option or a reference page needs to know of one parameter."""

    name: str
    annotation: Any
    default: Any
    title: str
    description: str
    unit: str
    minimum: float | None
    maximum: float | None
    step: float | None
    more: bool

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed words of a ``Literal`` parameter, else empty."""
        return get_args(self.annotation) if get_origin(self.annotation) is Literal else ()


def describe(model: type[BaseModel]) -> Iterator[ParameterInfo]:
    """All plain parameters of ``model`` in order of declaration (nested models are left out)."""
    for name, field in model.model_fields.items():
        if not is_nested(field):
            yield _info(name, field)


def is_nested(field: FieldInfo) -> bool:
    """Whether the field holds another parameter model."""
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _info(name: str, field: FieldInfo) -> ParameterInfo:
    extra: dict[str, Any] = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    bounds: dict[str, float] = {}
    for item in field.metadata:
        for key in ("ge", "le"):
            if hasattr(item, key):
                bounds[key] = getattr(item, key)
    return ParameterInfo(
        name=name,
        annotation=field.annotation,
        default=field.default,
        title=field.title or name,
        description=field.description or "",
        unit=extra.get("unit", ""),
        minimum=bounds.get("ge"),
        maximum=bounds.get("le"),
        step=extra.get("step"),
        more=bool(extra.get("more", False)),
    )
