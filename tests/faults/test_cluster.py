"""Workers that die, run out of memory or are gone: an image fails, or none; never a hang, nor a process left over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from distributed import default_client

from cell_curator.core.jobs import Hopeless, UserError, drive, retried, together
from cell_curator.engines.cluster import Cluster, Manpower, manned, workers_here

JOBS = "jobs_for_worker"
HERE = Path(__file__).parents[1] / "engines"


@pytest.fixture(scope="module", autouse=True)
def _jobs_on_the_path():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        patch.setenv("PYTHONPATH", str(HERE))
        yield


@pytest.fixture(scope="module")
def cluster(_jobs_on_the_path):
    """Two workers for tests that leave them as they were."""
    made = Cluster()
    made.start(2)()
    yield made
    made.close()


def running(pids):
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and "Z" not in _state(pid)]


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def soon(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_several_images_are_worked_on_at_once_by_processes_that_share_the_cores(cluster):
    pids = set()
    asked = partial(cluster.call, f"{JOBS}:whoami")
    drive(together(range(8), lambda _: asked(), lambda _, told: pids.add(told["pid"]), at_once=8))
    assert len(pids) == 2
    assert os.getpid() not in pids
    with pytest.raises(ValueError, match="client"):
        default_client()  # napari's own pictures are not computed there


def test_what_goes_wrong_in_a_worker_is_told_as_it_would_be_here(cluster, caplog):
    with pytest.raises(UserError, match="the file is truncated; copy it again"):
        drive(cluster.call(f"{JOBS}:mendable"))
    assert not caplog.records
    with pytest.raises(UserError, match="the log has the details"):
        drive(cluster.call(f"{JOBS}:broken"))
    assert "Traceback" in caplog.text


def test_a_job_that_waits_for_workers_can_be_stopped_at_any_time(cluster):
    job = together(range(4), lambda n: cluster.call(f"{JOBS}:sleep", seconds=0.8), lambda *_: None, at_once=4)
    longest, last = 0.0, time.monotonic()
    for _ in range(8):
        next(job)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    start = time.monotonic()
    job.close()
    assert time.monotonic() - start < 0.5
    assert longest < 0.4
    assert drive(cluster.call(f"{JOBS}:count", n=4, factor=2)) == 12


def test_a_disk_that_does_not_answer_is_asked_again(cluster, tmp_path):
    (tmp_path / "n").write_text("0")
    assert drive(retried(lambda: cluster.call(f"{JOBS}:on_disk", path=tmp_path / "n"), (0.0, 0.0))) == 3


def test_the_image_of_a_worker_that_was_killed_is_given_to_another(cluster, tmp_path):
    (tmp_path / "n").write_text("0")
    assert drive(cluster.call(f"{JOBS}:once_deadly", path=tmp_path / "n")) == 2


def test_a_cluster_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setattr("cell_curator.engines.cluster._PATIENCE", 1.0)
    start = time.monotonic()
    with pytest.raises(Hopeless, match="no cluster answers there"):
        drive(manned(Manpower(scheduler="tcp://127.0.0.1:9"), 4, lambda crew: crew.call(f"{JOBS}:whoami")))
    assert time.monotonic() - start < 10


def test_as_many_workers_as_are_worth_it(monkeypatch):
    monkeypatch.delenv("CELL_CURATOR_WORKERS")
    monkeypatch.setattr("cell_curator.engines.cluster.cores", lambda: 8)
    monkeypatch.setattr("cell_curator.engines.cluster._memory", lambda: 9 << 30)
    assert [workers_here(count) for count in (0, 1, 15, 16, 31, 32, 1000)] == [1, 1, 1, 2, 3, 4, 4]
    monkeypatch.setenv("CELL_CURATOR_WORKERS", "3")
    assert workers_here(1000) == 3


def test_one_image_alone_needs_no_workers():
    assert drive(manned(None, 500, lambda crew: crew.call(f"{JOBS}:whoami")))["pid"] == os.getpid()
    assert drive(manned(Manpower(1), 500, lambda crew: crew.call(f"{JOBS}:whoami")))["pid"] == os.getpid()


# ---------------------------------------------------------------------- longer ones


@pytest.mark.slow
def test_an_image_that_needs_too_much_memory_fails_alone():
    small, failed, done = Cluster(), [], []
    try:
        small.start(2, memory=450 << 20)()

        def work(n):
            return small.call(f"{JOBS}:greedy", megabytes=2000) if n == 2 else small.call(f"{JOBS}:count", n=n)

        def fail(n, error):
            failed.append((n, str(error)))

        drive(together(range(6), work, lambda n, _: done.append(n), at_once=6, failed=fail))
    finally:
        small.close()
    assert done == [0, 1, 3, 4, 5]
    assert [n for n, _ in failed] == [2]
    assert "memory" in failed[0][1]


@pytest.mark.slow
def test_nothing_is_left_over_when_the_one_who_asked_is_killed(tmp_path):
    code = f"""
import os, sys, time
from cell_curator.engines.cluster import Cluster
if __name__ == "__main__":
    made = Cluster(); made.start(2)()
    print(*[nanny.pid for nanny in made._local.workers.values()], flush=True)
    job = made.call("{JOBS}:sleep", seconds=60)
    while True:
        next(job)
"""
    script = tmp_path / "asks.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as asks:
        pids = [int(word) for word in asks.stdout.readline().split()]
        assert running(pids) == pids
        asks.send_signal(signal.SIGKILL)
        asks.wait()
        assert soon(lambda: not running(pids))


@contextmanager
def by_hand(workers=1):
    """`dask scheduler` and `dask worker` as somebody would start them: address, scheduler, workers."""
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    port = 20000 + os.getpid() % 20000
    address = f"tcp://127.0.0.1:{port}"
    started = [
        subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"], **quiet)
    ]
    try:
        for _ in range(workers):
            how = ["--nthreads", "1", "--no-dashboard", "--death-timeout", "10"]
            started.append(subprocess.Popen([*dask, "worker", address, *how], **quiet))
        yield address, started[0], started[1:]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def joined(address, sees=(), tries=60):
    """A cluster once its workers are there."""
    for _ in range(tries):
        made = Cluster()
        try:
            made.join(address, sees)()
            return made
        except Hopeless as error:
            made.close()
            if "no workers" not in str(error) and "no cluster" not in str(error):
                raise
            time.sleep(0.5)
    raise AssertionError("no cluster came up")


@pytest.mark.slow
def test_a_cluster_that_was_there_already_is_used_and_left_as_it_was(tmp_path):
    with by_hand() as (address, scheduler, workers):
        made = joined(address, [tmp_path])
        assert drive(made.call(f"{JOBS}:count", n=4, factor=2)) == 12
        made.close()
        with pytest.raises(Hopeless, match="does not see"):
            joined(address, [tmp_path / "elsewhere"])
        assert scheduler.poll() is None
        assert workers[0].poll() is None


@pytest.mark.slow
def test_a_scheduler_that_is_lost_ends_the_job_and_what_is_finished_is_kept():
    done, failed = [], []
    with by_hand() as (address, scheduler, _):
        made = joined(address)

        def take(n, _):
            done.append(n)
            if n == 1:
                scheduler.kill()

        def fail(n, error):
            failed.append((n, str(error)))

        asleep = partial(made.call, f"{JOBS}:sleep", seconds=0.3)
        work = together(range(9), lambda _: asleep(), take, at_once=2, failed=fail)
        start = time.monotonic()
        with pytest.raises(Hopeless, match="cluster is gone"):
            drive(work)
        made.close()
        assert time.monotonic() - start < 40
    assert done[:2] == [0, 1]
    assert len(done) < 9
    assert failed == []
