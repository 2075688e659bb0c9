"""Models of cell types as files: JSON of plain numbers, which nothing has to be run to read."""

from __future__ import annotations

import json
from pathlib import Path

from cell_curator.core.jobs import UserError
from cell_curator.core.type_model import TypeModel, from_json
from cell_curator.core.type_patches import FORMAT as PICTURES
from cell_curator.core.type_patches import PatchModel, patch_model
from cell_curator.io.atomic import write_atomic


def write_type_model(path: Path, model: TypeModel | PatchModel) -> None:
    """Write a model, whole or not at all.

    Raises
    ------
    UserError
        The file cannot be written; what was there before is kept.
    """
    text = json.dumps(model.to_json(), ensure_ascii=False)
    write_atomic(path, lambda file: file.write(text.encode()))


def read_type_model(path: Path) -> TypeModel | PatchModel:
    """Read what `write_type_model` wrote.

    Raises
    ------
    UserError
        Missing, unreadable, damaged, or something else: one line that says which.
    """
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(said, dict) and said.get("format") == PICTURES:
            return patch_model(said)
        return from_json(said)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; name a model made by classify train") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        reason = "it is damaged" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
        raise UserError(f"{path}: {reason}; name a model made by classify train") from None
