"""Killed at any moment, a project holds every action that was acknowledged, and nothing half done."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cell_curator.session import Session
from small_project import execute, session  # noqa: F401

_WORKER = """
import sys
import numpy as np
from cell_curator.core.jobs import UserError
from cell_curator.editing import edit
from cell_curator.session import Session
from test_crash import digest

session = Session.open(sys.argv[1])
rng = np.random.default_rng(int(sys.argv[2]))
while True:
    image_id = int(rng.choice([record.image_id for record in session.images]))
    labels = session.labels(image_id)
    rows = session.cells.of_image(image_id)
    y, x = rng.integers(0, labels.shape)
    try:
        action = rng.integers(6)
        if action < 2 or len(rows) < 3:
            labels[y : y + 12, x : x + 12] = rng.integers(0, 8)
            session.set_labels(image_id, labels)
        elif action == 2:
            edit(session, image_id, "split", points=rng.uniform(0, 80, (3, 2)))
        elif action == 3:
            edit(session, image_id, "grow", labels=rows["label"].tolist()[:2])
        elif action == 4:
            session.set_verdict(rows.index[:2], str(rng.choice(["accepted", "rejected", "proposed"])))
        else:
            session.undo()
    except UserError:
        continue
    print(len(session.project.journal()), digest(session), flush=True)
"""


def digest(session):  # noqa: F811
    """A fingerprint of all labels and rows."""
    made = hashlib.sha1()
    for record in session.images:
        made.update(np.ascontiguousarray(session.project.labels(record)).tobytes())
    frame = session.project.cells().frame
    made.update(frame.to_csv(float_format="%.9g").encode())
    return made.hexdigest()


def _sound(session):  # noqa: F811
    for record in session.images:
        labels = session.labels(record.image_id)
        values, counts = np.unique(labels[labels > 0], return_counts=True)
        rows = session.cells.of_image(record.image_id).sort_values("label")
        assert rows["label"].tolist() == values.tolist()
        assert rows["area"].tolist() == counts.tolist()


def _kill_at_work(folder, seed, wait_s):
    """Let a process work, kill it, and return what it acknowledged last: (journal entries, digest)."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(folder), str(seed)], stdout=subprocess.PIPE, text=True, env=environment
    )
    lines = [worker.stdout.readline()]
    time.sleep(wait_s)
    os.kill(worker.pid, signal.SIGKILL)
    lines += [line for line in worker.stdout if line.endswith("\n")]
    worker.wait()
    worker.stdout.close()
    count, fingerprint = lines[-1].split()
    return int(count), fingerprint


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is a POSIX signal")
@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(1500)])])
def test_what_was_acknowledged_is_there_after_a_kill_at_any_moment(session, rng, kills):  # noqa: F811
    folder = session.folder
    session.close()
    exact = 0
    for kill in range(kills):
        count, fingerprint = _kill_at_work(folder, kill, rng.uniform(0, 0.6))
        again = Session.open(folder)
        try:
            done = len(again.project.journal())
            # The action in hand may have been stored and not yet acknowledged; never more than that one.
            assert count <= done <= count + 1
            if done == count:
                assert digest(again) == fingerprint
                exact += 1
            _sound(again)
            leftovers = [p.name for p in (folder / "labels.zarr" / "labels").iterdir() if p.name.startswith(".writing")]
            assert not leftovers
        finally:
            again.close()
    assert exact
