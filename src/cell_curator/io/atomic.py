"""Write a file whole or not at all: temporary file beside it, fsync, rename.

Every writer of the project goes through here, so a full disk or a killed process never
leaves half a file, and never damages the one that was there before. This module knows
nothing of what is inside the files.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cell_curator.core.jobs import UserError

_PART = re.compile(r"\.[0-9a-f]{16}\.part")

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another disk, then save again",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another disk, then save again",
    errno.EFBIG: "the file is too large for this disk; choose another disk, then save again",
    errno.EACCES: "no permission to write here; choose another folder",
    errno.EPERM: "no permission to write here; choose another folder",
    errno.EROFS: "this disk is read-only; choose another folder",
    errno.ENOENT: "its folder does not exist; make the folder first",
    errno.ENOTDIR: "its folder is a file; choose another folder",
    errno.EISDIR: "is a folder; choose another file name",
    errno.ENAMETOOLONG: "the file name is too long; choose a shorter one",
}


def write_error(path: Path | str, error: OSError) -> UserError:
    """The one line a user sees when writing ``path`` failed with ``error``.

    For writers that cannot use `write_atomic` (a database, a chunked store).
    """
    reason = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0, f"could not be written ({reason}); check the disk, then save again")
    return UserError(f"{path}: {remedy}")


@contextmanager
def atomic_file(path: Path | str) -> Iterator[BinaryIO]:
    """A binary file to write to, which becomes ``path`` only when the block ends without an error.

    Raises
    ------
    UserError
        The disk is full, read-only, or the place is not allowed: names the file and the remedy.
        Whatever was at ``path`` before is untouched.
    """
    # A link is written through, not replaced by a file.
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_atomic(path: Path | str, write: Callable[[BinaryIO], object]) -> None:
    """Write ``path`` by calling ``write`` with an open binary file; all or nothing.

    Raises
    ------
    UserError
        As `atomic_file`.
    """
    with atomic_file(path) as file:
        write(file)


def sweep(folder: Path) -> None:
    """Throw away what a killed process had begun to write here; for whoever alone writes to the folder."""
    for file in folder.glob(".*.part"):
        if _PART.fullmatch(file.name):
            with suppress(OSError):
                file.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system can (not on Windows)."""
    if os.name != "posix":
        return
    with suppress(OSError):  # some network disks refuse; the file itself is safe by now
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
