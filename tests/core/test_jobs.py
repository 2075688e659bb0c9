import pytest
from pydantic import ValidationError

from cell_curator.core.jobs import Progress, UserError, drive, each, scaled
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
