"""What is done already. The cells of an image follow from its pixels, the recipe, the model and the parameters;
a key of all these is kept with them, and whoever runs everything again redoes only what has another key now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cell_curator.core.jobs import UserError
from cell_curator.core.recipe import Recipe
from cell_curator.core.turns import Turns
from cell_curator.engines.cards import find_model
from cell_curator.engines.segmenter import SegmentParameters
from cell_curator.engines.volumes import StackParameters
from cell_curator.io.records import ImageRecord
from cell_curator.map_store import stated
from cell_curator.project_models import resolved

if TYPE_CHECKING:
    from cell_curator.session import Session

_NO_MATTER = {"threads"}
"""Parameters of the search that change how long it takes, and nothing else."""


def cells_key(session: Session, record: ImageRecord) -> str:
    """Changes with whatever the cells of this image follow from; empty where that cannot be read."""
    parameters = session.get(SegmentParameters)
    recipe = session.get(Turns).recipe(session.get(Recipe), record.image_id, str(record.path.parent))
    try:
        model = str(find_model(resolved(session, parameters).model))
        from_what = [
            _content(record.path),
            record.plane,
            recipe.hash,
            parameters.model_dump(mode="json", exclude=_NO_MATTER | {"model"}),
            _content(Path(model)),
            session.get(StackParameters).model_dump(mode="json") if record.axis else None,
        ]
    except (OSError, UserError):
        return ""
    return hashlib.sha256(json.dumps(from_what, sort_keys=True).encode()).hexdigest()


def to_search(session: Session, records: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Those of the images whose cells would be others, or were not looked for yet; a stack is searched as a whole."""
    stale = {r.image_id for r in records if r.state != "segmented" or not r.made_from}
    stale |= {r.image_id for r in records if r.image_id not in stale and r.made_from != cells_key(session, r)}
    stacks = {r.path for r in records if r.axis and r.image_id in stale}
    return [r for r in records if r.image_id in stale or (r.axis and r.path in stacks)]


def map_is_new(session: Session) -> bool:
    """Whether the map was made of exactly these cells with the present parameters."""
    stored = session.embedding
    if stored is None:
        return False
    counting = session.counting_cells()["revision"]
    same = (
        stored.detail.get("parameters") == stated(session.get)
        and stored.detail.get("recipe") == session.get(Recipe).hash
    )
    return same and dict(zip(stored.cell_id.tolist(), stored.revision.tolist(), strict=True)) == counting.to_dict()


def _content(path: Path) -> str:
    """Changes with what is in a file, or with the files in a folder."""
    if not path.is_dir():
        seen = path.stat()
        return _digest(path, seen.st_size, seen.st_mtime_ns)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    parts = [(str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@lru_cache(maxsize=100_000)
def _digest(path: Path, size: int, changed: int) -> str:
    """Digest of one file; size and time are there so that a file that changed is read again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
