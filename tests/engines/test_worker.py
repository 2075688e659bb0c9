import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.engines.worker import HEARTBEAT, Worker, inline

JOBS = "jobs_for_worker"


@pytest.fixture(scope="module", autouse=True)
def jobs_on_the_path():
    sys.path.insert(0, str(Path(__file__).parent))
    yield
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def shared_worker(jobs_on_the_path):
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture
def worker(jobs_on_the_path):
    worker = Worker()
    yield worker
    worker.close()


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_inline_runs_the_generator_here():
    seen = []
    assert drive(inline(f"{JOBS}:count", n=4, factor=2), seen.append) == 12
    assert [p.payload for p in seen] == [0, 1, 2, 3]
    assert drive(inline(f"{JOBS}:whoami"))["pid"] == os.getpid()


@pytest.mark.parametrize("target", ["no_such_module:f", f"{JOBS}:no_such_function", "nonsense"])
def test_inline_refuses_a_target_that_does_not_exist(target):
    with pytest.raises(ValueError, match="module:function"):
        drive(inline(target))


def test_progress_and_result_come_back_from_another_process(shared_worker):
    seen = []
    assert drive(shared_worker.call(f"{JOBS}:count", n=5), seen.append) == 10
    payloads = [p.payload for p in seen if p.payload is not None]
    assert sorted(set(payloads)) == [0, 1, 2, 3, 4]
    assert payloads == sorted(payloads)


def test_the_process_stays_warm_and_does_not_run_the_main_module_again(shared_worker):
    first = drive(shared_worker.call(f"{JOBS}:whoami"))
    second = drive(shared_worker.call(f"{JOBS}:whoami"))
    assert first["pid"] == second["pid"] == shared_worker.pid != os.getpid()
    assert first["main"] is None
    assert first["torch"] is False


def test_arrays_go_there_and_back(shared_worker):
    image = np.arange(2_000_000, dtype=np.float32).reshape(1000, 2000)
    np.testing.assert_array_equal(drive(shared_worker.call(f"{JOBS}:double", array=image)), 2 * image)


def test_the_heart_beats_while_the_child_is_silent(shared_worker):
    drive(shared_worker.call(f"{JOBS}:count", n=1))
    times = []
    result = drive(shared_worker.call(f"{JOBS}:sleep", seconds=1.0), lambda progress: times.append(time.monotonic()))
    assert result == "awake"
    assert len(times) >= 5
    assert np.diff(times).max() < 5 * HEARTBEAT


def test_the_childs_user_error_arrives_unchanged_and_the_worker_goes_on(shared_worker):
    with pytest.raises(UserError, match=r"^A-01\.tif: the file is truncated; copy it again$"):
        drive(shared_worker.call(f"{JOBS}:mendable"))
    assert drive(shared_worker.call(f"{JOBS}:count", n=3)) == 3


def test_any_other_error_is_one_line_with_the_traceback_logged(shared_worker, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(UserError) as caught:
        drive(shared_worker.call(f"{JOBS}:broken"))
    assert str(caught.value).startswith("ZeroDivisionError: two lines")
    assert "\n" not in str(caught.value)
    assert "Traceback" in caplog.text
    assert "in broken" in caplog.text


def test_running_out_of_memory_names_a_remedy(shared_worker):
    with pytest.raises(UserError, match=r"Memory ran out; .*smaller"):
        drive(shared_worker.call(f"{JOBS}:hungry"))


@pytest.mark.parametrize("name", ["not_picklable", "no_such_function"])
def test_what_cannot_be_sent_or_found_is_an_error_not_a_hang(shared_worker, name):
    with pytest.raises(UserError):
        drive(shared_worker.call(f"{JOBS}:{name}"))
    assert drive(shared_worker.call(f"{JOBS}:count", n=3)) == 3


def test_warnings_and_prints_of_the_child_do_no_harm(shared_worker):
    assert drive(shared_worker.call(f"{JOBS}:noisy")) == "fine"


def test_cancel_ends_the_process_promptly_and_the_next_call_works(worker):
    job = worker.call(f"{JOBS}:sleep", seconds=60)
    while next(job).message != "asleep":
        pass
    pid = worker.pid
    start = time.monotonic()
    job.close()
    assert time.monotonic() - start < 1.5
    assert not is_running(pid)
    assert worker.pid is None
    assert drive(worker.call(f"{JOBS}:count", n=3)) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_killed_child_is_an_error_with_a_remedy_and_the_next_call_works(worker):
    job = worker.call(f"{JOBS}:sleep", seconds=60)
    while next(job).message != "asleep":
        pass
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"was killed, most likely because memory ran out; .*try again"):
        drive(job)
    assert drive(worker.call(f"{JOBS}:count", n=3)) == 3


def test_a_child_killed_between_two_calls_is_replaced(worker):
    drive(worker.call(f"{JOBS}:count", n=1))
    os.kill(worker.pid, signal.SIGTERM)
    deadline = time.monotonic() + 5
    while worker.pid is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert drive(worker.call(f"{JOBS}:count", n=3)) == 3


def test_a_child_that_exits_by_itself_is_reported_with_its_code(worker):
    with pytest.raises(UserError, match=r"exit code 7.*doctor"):
        drive(worker.call(f"{JOBS}:leave"))


def test_a_second_job_at_once_is_refused_and_the_first_goes_on(shared_worker):
    job = shared_worker.call(f"{JOBS}:count", n=3)
    next(job)
    with pytest.raises(UserError, match="still running"):
        drive(shared_worker.call(f"{JOBS}:count", n=3))
    assert drive(job) == 3


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_the_child_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"  # without the usual guard: the child must not run it again
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from cell_curator.engines.worker import Worker
        worker = Worker()
        job = worker.call("{JOBS}:sleep", seconds=60)
        while next(job).message != "asleep":
            pass
        print(worker.pid, flush=True)
        while True:
            next(job)
        """)
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert is_running(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def test_close_twice_is_harmless_and_nothing_starts_before_the_first_call():
    worker = Worker()
    assert worker.pid is None
    worker.close()
    worker.close()
    assert worker.pid is None
