"""The folder in which Cellpose 4 lives beside Cellpose 3, and how it is filled.

Both packages are called ``cellpose``, so one process can hold one of them only. A worker process
started with this folder first on its path sees Cellpose 4, and everything else from the environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.engines.cards import user_models_folder

PACKAGES = ("cellpose==4.2.1.1", "segment_anything==1.0")
"""What is installed there, 2 MB; torch and NumPy are shared."""

ADD = "cell-curator models add cellpose-sam"


def overlay_folder() -> Path:
    """Where Cellpose 4 lies: beside the user's models."""
    return user_models_folder().parent / "cellpose4"


def is_installed() -> bool:
    """Whether the folder holds Cellpose 4."""
    return (overlay_folder() / "cellpose" / "vit.py").is_file() and (overlay_folder() / "segment_anything").is_dir()


def unavailable() -> str | None:
    """Why Cellpose 4 cannot be run here and what to do, or None if it can."""
    if find_spec("torch") is None:
        return "torch not installed; run `pip install torch`"
    return None if is_installed() else f"Cellpose 4 is not installed; run `{ADD}` once"


def install(*extra: str) -> Job[Path]:
    """Fill the folder from the Python package index; an older one is replaced once the new one is complete.

    Parameters
    ----------
    extra
        More arguments for pip.

    Raises
    ------
    UserError
        If pip fails, as without a network connection.
    """
    target = overlay_folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    yield Progress(0.0, "downloading Cellpose 4")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".cellpose4-") as temporary:
        fresh = Path(temporary) / "cellpose4"
        yield from _pip("install", "--no-deps", "--target", str(fresh), *extra, *PACKAGES)
        if target.exists():
            shutil.rmtree(target)
        os.replace(fresh, target)
    return target


def _pip(*arguments: str) -> Job[None]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            start = time.monotonic()
            while process.poll() is None:
                time.sleep(0.1)
                yield Progress(min(0.9, (time.monotonic() - start) / 30), "downloading Cellpose 4")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if process.returncode:
            said.seek(0)
            lines = [line.strip() for line in said if line.strip()]
            why = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no reason given")
            raise UserError(f"Cellpose 4 could not be installed ({why}); check the network connection and try again")
