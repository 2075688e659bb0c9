"""Who may write to a project: one window or command at a time. All others only look.

The operating system holds the lock and lets go of it when the process ends, however it ends, so nothing stale
is ever left. Who holds it stands beside it in words, for the others to read; that the words are still there
when nobody holds the lock tells that the last one did not come to close the project.
"""

from __future__ import annotations

import getpass
import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from cell_curator.core.jobs import UserError
from cell_curator.io.atomic import write_atomic

_LOCK, _OWNER = "project.lock", "project.owner"


@dataclass(frozen=True)
class Claim:
    """The right to write to a folder, or why there is none.

    Parameters
    ----------
    folder
        The project.
    refused
        Why it can only be read and what to do; empty where it may be written.
    unclean
        Whether whoever wrote here last was ended before it could close the project.
    lock
        What is held; None where nothing is.
    """

    folder: Path
    refused: str = ""
    unclean: bool = False
    lock: BaseFileLock | None = None

    def release(self) -> None:
        """Let others write."""
        if self.refused:
            return
        with suppress(OSError):
            (self.folder / _OWNER).unlink()
        if self.lock is not None:
            self.lock.release()


def claim(folder: Path) -> Claim:
    """Ask for the right to write to a project folder; answers at once."""
    lock: BaseFileLock | None = None
    try:
        lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)
        lock.acquire()
    except Timeout:
        return Claim(
            folder,
            f"{folder}: is open elsewhere{_holder(folder)}, so it can only be looked at here; close it there, then "
            "open it again",
        )
    except NotImplementedError:  # a disk that knows no locks; whoever uses one must keep watch himself
        lock = None
    except OSError:
        return Claim(
            folder,
            f"{folder}: cannot be written, so it can only be looked at; copy the project to a folder of your own to "
            "change it",
        )
    unclean = (folder / _OWNER).exists()
    words = {"user": user_name() or "somebody", "computer": socket.gethostname(), "since": _now()}
    with suppress(UserError):  # only words
        write_atomic(folder / _OWNER, lambda file: file.write(json.dumps(words).encode()))
    return Claim(folder, unclean=unclean, lock=lock)


def _holder(folder: Path) -> str:
    """`` (by Ada on LAB-3 since 14:05)``, as far as it is known."""
    try:
        words = json.loads((folder / _OWNER).read_text())
        return f" (by {words['user']} on {words['computer']} since {words['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _now() -> str:
    return datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")


def user_name() -> str:
    """Name of whoever runs this; empty in a container that knows none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
