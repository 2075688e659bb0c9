"""What takes long to read is kept in a folder of the user, which may be deleted at any time.

Nothing is put beside originals, which may lie where nobody may write.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.io.atomic import write_atomic
from cell_curator.io.safe_numpy import DAMAGED

Arrays = dict[str, NDArray[np.int32]]

_FROM = "made_from"


def cache_folder() -> Path:
    """``$CELL_CURATOR_CACHE``, else the account's folder for such things."""
    if chosen := os.environ.get("CELL_CURATOR_CACHE"):
        return Path(chosen)
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData" / "Local")) / "cell-curator" / "cache"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "cell-curator"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache") / "cell-curator"


def stamp(files: list[Path]) -> str:
    """Changes whenever a file is added, removed, renamed, or written.

    Raises
    ------
    UserError
        A file cannot be looked at.
    """
    made = hashlib.sha256()
    for path in files:
        try:
            now = path.stat()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
        made.update(f"{path.name}\0{now.st_size}\0{now.st_mtime_ns}\0".encode())
    return made.hexdigest()


def kept(kind: str, place: Path, made_from: str, make: Callable[[], Arrays]) -> Arrays:
    """The arrays of ``place`` by name, made again if ``made_from`` (see `stamp`) is not what it was.

    Where the cache cannot be read or written they are simply made.
    """
    name = hashlib.sha256(str(place.resolve()).encode()).hexdigest()[:24]
    path = cache_folder() / kind / f"{name}.npz"
    with (
        suppress(*DAMAGED),
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as saved,
    ):
        if str(saved[_FROM]) == made_from:
            return {key: saved[key] for key in saved.files if key != _FROM}
    made = make()
    with suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {**made, _FROM: np.array(made_from)}
        write_atomic(path, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
    return made
