import errno

import pytest
from pydantic import ValidationError

from cell_curator.core.jobs import (
    Hopeless,
    ItemState,
    Passing,
    Progress,
    UserError,
    drive,
    each,
    retried,
    scaled,
    together,
)
from cell_curator.core.parameters import Parameters, describe, parameter
from cell_curator.core.recipe import Clip, Recipe, Rotate


def _count(to, tidied=None):
    try:
        for i in range(to):
            yield Progress(i / to, f"step {i}")
        return to
    finally:
        if tidied is not None:
            tidied.append(to)


def test_a_driven_job_returns_its_result_and_tells_its_progress():
    heard = []
    assert drive(_count(4), heard.append) == 4
    assert [p.fraction for p in heard] == [0, 0.25, 0.5, 0.75]


def test_a_part_of_a_job_fills_its_share():
    heard = []
    assert drive(scaled(_count(2), 0.5, 1.0, "b: "), heard.append) == 2
    assert [(p.fraction, p.message) for p in heard] == [(0.5, "b: step 0"), (0.75, "b: step 1")]


def test_closing_a_job_closes_its_parts():
    tidied = []
    job = scaled(_count(5, tidied), 0, 1)
    next(job)
    job.close()
    assert tidied == [5]


def test_one_item_that_fails_does_not_stop_the_others():
    failed = []

    def work(item):
        yield Progress(0.0)
        if item == 2:
            raise UserError("two is bad")

    assert drive(each([1, 2, 3], work, failed=lambda item, error: failed.append((item, str(error))))) == 2
    assert failed == [(2, "two is bad")]
    with pytest.raises(UserError, match="two is bad"):
        drive(each([1, 2, 3], work))


def test_progress_never_goes_back():
    heard = []
    drive(each([3, 1, 4], _count), heard.append)
    fractions = [p.fraction for p in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] < 1


class _Example(Parameters):
    size: int = parameter(64, "Size", "How large", unit="px", ge=4, le=512, step=4)


def test_a_parameter_carries_what_a_form_needs():
    (info,) = describe(_Example)
    assert (info.title, info.unit, info.minimum, info.maximum, info.step, info.default) == ("Size", "px", 4, 512, 4, 64)


def test_choices_of_words_are_known():
    method = next(info for info in describe(Rotate) if info.name == "method")
    assert method.choices == ("tensor", "hough", "fixed")


def test_values_out_of_bounds_and_unknown_names_are_refused():
    for bad in ({"size": 3}, {"size": 513}, {"sise": 64}):
        with pytest.raises(ValidationError):
            _Example(**bad)
    with pytest.raises(ValidationError):
        Clip(high_percent=101)


def test_nested_models_are_not_plain_parameters():
    assert [info.name for info in describe(Recipe)] == ["version"]


def test_parameters_cannot_be_changed_in_place():
    example = _Example()
    with pytest.raises(ValidationError):
        example.size = 8


# ---------------------------------------------------------------------- several in hand


def _steps(count, result, closed=None):
    try:
        for step in range(count):
            yield Progress(step / count)
        return result
    finally:
        if closed is not None:
            closed.append(result)


@pytest.mark.parametrize("at_once", [1, 2, 3, 50])
def test_what_is_ready_later_is_still_taken_in_the_order_of_the_items(at_once):
    taken, failed, order = [], [], []

    def work(item):
        yield from _steps(10 - item, item)
        if item in (2, 5):
            raise UserError(f"{item} is bad")
        return item * item

    def take(item, result):
        if item == 7:
            raise UserError("7 cannot be stored")
        taken.append((item, result))
        order.append(item)

    def fail(item, error):
        failed.append(str(error))
        order.append(item)

    assert drive(together(range(10), work, take, at_once=at_once, failed=fail)) == 7
    assert order == list(range(10))
    assert taken == [(n, n * n) for n in range(10) if n not in (2, 5, 7)]
    assert failed == ["2 is bad", "5 is bad", "7 cannot be stored"]


def test_no_more_are_in_hand_than_was_said_finished_ones_included():
    begun, most = [], []

    def work(item):
        begun.append(item)
        yield from _steps(9 if item == 0 else 1, None)

    def take(item, _):
        most.append(len(begun) - item)

    drive(together(range(12), work, take, at_once=4))
    assert max(most) == 4


def test_whoever_watches_hears_what_became_of_each_item():
    heard = []

    def work(item):
        if item == "b":
            raise UserError("no good")
        yield Progress(0.5)

    drive(together("abc", work, lambda *_: None, at_once=2, failed=lambda *_: None, told=True), heard.append)
    states = [(p.payload.name, p.payload.state, p.payload.reason) for p in heard if isinstance(p.payload, ItemState)]
    assert states == [
        ("a", "working", ""), ("b", "working", ""), ("a", "done", ""), ("b", "failed", "no good"),
        ("c", "working", ""), ("c", "done", ""),
    ]  # fmt: skip
    fractions = [p.fraction for p in heard]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_stopping_closes_all_that_is_in_hand():
    closed = []
    job = together(range(6), lambda item: _steps(5, item, closed), lambda *_: None, at_once=3)
    for _ in range(7):
        next(job)
    job.close()
    assert sorted(closed) == [0, 1, 2]


def test_what_every_item_would_meet_with_ends_the_job():
    closed, failed = [], []

    def work(item):
        if item == 1:
            raise Hopeless("the cluster is gone")
        yield from _steps(2 + 20 * (item == 2), item, closed)

    with pytest.raises(Hopeless):
        drive(together(range(9), work, lambda *_: None, at_once=3, failed=lambda *_: failed.append(_)))
    assert failed == []
    assert sorted(closed) == [0, 2]


class _Shaky:
    """Fails the first few times."""

    def __init__(self, *errors):
        self.errors, self.tries = list(errors), 0

    def __call__(self):
        yield Progress(0.0)
        self.tries += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def _because(cause):
    error = UserError("cannot be read")
    error.__cause__ = cause
    return error


def test_what_may_pass_is_tried_three_times():
    shaky = _Shaky(_because(OSError(errno.EIO, "no answer")), Passing("the worker died"))
    assert drive(retried(shaky, (0.0, 0.0))) == "done"
    assert shaky.tries == 3
    with pytest.raises(Passing):
        drive(retried(_Shaky(*[Passing("again")] * 3), (0.0, 0.0)))


@pytest.mark.parametrize(
    "error",
    [
        UserError("no such channel"),
        _because(FileNotFoundError(errno.ENOENT, "not there")),
        _because(PermissionError(errno.EACCES, "no")),
        _because(OSError(errno.ENOSPC, "full")),
        _because(OSError("no picture")),
    ],
)
def test_what_will_not_pass_is_not_tried_again(error):
    shaky = _Shaky(error)
    with pytest.raises(UserError):
        drive(retried(shaky, (0.0, 0.0)))
    assert shaky.tries == 1
