"""Small jobs that the worker tests run in another process."""

import os
import signal
import sys
import time
import warnings

import numpy as np

from cell_curator.core.jobs import Progress, UserError


def count(n, factor=1):
    total = 0
    for i in range(n):
        total += i * factor
        yield Progress(i / n, f"at {i}", payload=i)
    return total


def whoami():
    yield Progress(0.5)
    return {
        "pid": os.getpid(),
        "main": sys.modules["__main__"].__dict__.get("__file__"),
        "torch": "torch" in sys.modules,
    }


def double(array):
    yield Progress(0.0)
    return np.asarray(array) * 2


def sleep(seconds):
    yield Progress(0.25, "asleep")
    time.sleep(seconds)
    return "awake"


def mendable():
    yield Progress(0.1)
    raise UserError("A-01.tif: the file is truncated; copy it again")


def broken():
    yield Progress(0.1)
    raise ZeroDivisionError("two\nlines")


def hungry():
    yield Progress(0.1)
    raise MemoryError


def not_picklable():
    yield Progress(0.1)
    return lambda: None


def leave():
    yield Progress(0.1)
    os._exit(7)


def noisy():
    warnings.warn("something", stacklevel=1)
    print("printed by the child")
    yield Progress(1.0)
    return "fine"


def on_disk(path, plane=None):
    """Fails as a disk of the network does, twice; counts in a file, for another worker may try."""
    yield Progress(0.5)
    tries = int(path.read_text()) + 1
    path.write_text(str(tries))
    if tries < 3:
        raise UserError(f"{path}: cannot be read") from OSError(5, "Input/output error")
    return tries


def once_deadly(path):
    """Kills its worker the first time."""
    yield Progress(0.5)
    tries = int(path.read_text()) + 1
    path.write_text(str(tries))
    if tries == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return tries


def greedy(megabytes):
    """Takes memory until somebody stops it."""
    held = []
    yield Progress(0.5)
    for _ in range(megabytes):
        held.append(bytearray(os.urandom(1 << 20)))
        time.sleep(0.002)
    return len(held)
