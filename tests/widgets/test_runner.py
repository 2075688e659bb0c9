from __future__ import annotations

import gc
import threading
import time

import pytest
from psygnal import Signal

from cell_curator.core.jobs import Progress, UserError
from cell_curator.widgets.runner import Background, JobRunner, deliver_queued, time_left


@pytest.fixture
def runner(qtbot):
    runner = JobRunner()
    yield runner
    runner.close()


def count_to(number, threads=None):
    for i in range(number):
        if threads is not None:
            threads.append(threading.current_thread())
        yield Progress(i / number, f"{i}", payload=i)
    return number


def endless(closed):
    try:
        while True:
            time.sleep(0.01)
            yield Progress(0.5, "busy")
    finally:
        closed.set()


def failing(error):
    yield Progress(0.0)
    raise error


def test_a_job_runs_elsewhere_and_reports_in_the_main_thread(runner, qtbot):
    threads, seen, results = [], [], []
    runner.progressed.connect(lambda p: seen.append((p.payload, threading.current_thread())))
    with qtbot.waitSignal(runner.ended) as ended:
        runner.start("Counting", lambda: count_to(3, threads), on_done=results.append)
        assert runner.busy
    assert results == [3]
    assert [payload for payload, _ in seen] == [0, 1, 2]
    assert {thread for _, thread in seen} == {threading.main_thread()}
    assert threading.main_thread() not in threads
    assert ended.args[0].result == 3
    assert not runner.busy


def test_cancelling_closes_the_job_within_a_second(runner, qtbot):
    closed, results = threading.Event(), []
    runner.start("Endless", lambda: endless(closed), on_done=results.append)
    qtbot.wait(50)
    start = time.monotonic()
    with qtbot.waitSignal(runner.ended, timeout=1000) as ended:
        runner.cancel()
    assert time.monotonic() - start < 1
    assert closed.is_set()
    assert ended.args[0].cancelled
    assert results == []


def test_a_second_job_is_refused_by_name(runner, qtbot):
    closed = threading.Event()
    runner.start("Endless", lambda: endless(closed))
    with pytest.raises(UserError, match="“Endless” is still running"):
        runner.start("Another", lambda: count_to(1))
    with qtbot.waitSignal(runner.ended):
        runner.cancel()


def test_what_the_user_can_mend_is_shown_as_it_is(runner, qtbot):
    with qtbot.waitSignal(runner.ended) as ended:
        runner.start("Reading", lambda: failing(UserError("a.tif: truncated; copy it again")))
    assert ended.args[0].error == "a.tif: truncated; copy it again"


def test_a_fault_of_ours_is_one_line_and_the_next_job_runs(runner, qtbot, caplog):
    with qtbot.waitSignal(runner.ended) as ended:
        runner.start("Reading", lambda: failing(KeyError("x")))
    assert "Reading: KeyError" in ended.args[0].error
    assert "Traceback" in caplog.text
    with qtbot.waitSignal(runner.ended) as ended:
        runner.start("Counting", lambda: count_to(1))
    assert ended.args[0].result == 1


def test_closing_waits_for_the_thread(runner, qtbot):
    closed = threading.Event()
    runner.start("Endless", lambda: endless(closed))
    qtbot.wait(30)
    runner.close()
    assert closed.is_set()
    assert not runner.busy


def test_of_many_previews_only_the_newest_arrives(qtbot):
    background = Background()
    arrived, gate = [], threading.Event()
    background(lambda: gate.wait(5), lambda _: arrived.append("first"), topic="preview")
    for number in range(5):
        background(lambda n=number: n, arrived.append, topic="preview")
    gate.set()
    qtbot.waitUntil(lambda: arrived != [])
    qtbot.wait(50)
    assert arrived == [4]
    background.close()


def test_requests_without_topic_all_arrive_and_errors_are_told(qtbot):
    background = Background()
    arrived, errors = [], []
    background.failed.connect(errors.append)
    for number in range(3):
        background(lambda n=number: n, arrived.append)
    background(lambda: [][1], arrived.append)
    qtbot.waitUntil(lambda: len(arrived) == 3 and len(errors) == 1)
    assert arrived == [0, 1, 2]
    assert "IndexError" in errors[0]
    background.close()


def test_nothing_arrives_after_closing(qtbot):
    background = Background()
    arrived = []
    background(lambda: 1, arrived.append)
    background.close()
    background(lambda: 2, arrived.append)
    qtbot.wait(50)
    assert arrived == []


@pytest.mark.parametrize(
    ("elapsed", "fraction", "text"),
    [
        (0.5, 0.5, ""),
        (10, 0.5, "about 10 s left"),
        (100, 0.25, "about 5 min left"),
        (99, 0.99, "nearly done"),
        (9, 1, ""),
    ],
)
def test_time_left_in_words(elapsed, fraction, text):
    assert time_left(elapsed, Progress(fraction)) == text


def test_an_announcement_to_a_closed_receiver_holds_up_no_other():
    class Announcer:
        said = Signal(int)

    class Receiver:
        def __init__(self):
            self.heard = []

        def hear(self, value):
            self.heard.append(value)

    announcer, gone, here = Announcer(), Receiver(), Receiver()
    announcer.said.connect(gone.hear, thread="main")
    announcer.said.connect(here.hear, thread="main")
    thread = threading.Thread(target=announcer.said.emit, args=(7,))
    thread.start()
    thread.join()
    del gone
    gc.collect()
    deliver_queued()
    assert here.heard == [7]
