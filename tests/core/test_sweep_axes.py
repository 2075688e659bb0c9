import numpy as np
import pytest

from cell_curator.core.jobs import UserError
from cell_curator.core.recipe import PRESETS, Recipe, Rotate, Tone
from cell_curator.core.sweep import with_value
from cell_curator.core.sweep_axes import check, start_range, sweepable, usual_pair, values_between

RECIPES = [*PRESETS.values(), Recipe(tone=Tone(gamma=0.1, middle=1.0), rotate=Rotate(enabled=True))]


def one(path, recipe=None, channels=1):
    return next(p for p in sweepable(recipe or Recipe(), channels) if p.path == path)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_every_start_value_of_every_parameter_is_allowed(recipe, channels):
    for parameter in sweepable(recipe, channels):
        values = parameter.words or values_between(parameter, *start_range(parameter))
        assert len(values) >= 2, parameter.path
        for value in values:
            assert with_value(recipe, parameter.path, value)
            assert parameter.say(value)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_present_value_is_among_the_start_values(recipe):
    for parameter in sweepable(recipe):
        if not parameter.words and parameter.present:  # 0 may mean automatic
            assert parameter.present in values_between(parameter, *start_range(parameter)), parameter.path


def test_steps_that_are_on_come_first_and_rotation_not_at_all():
    parameters = sweepable(Recipe(rotate=Rotate(enabled=True)), channels=2)
    enabled = [parameter.enabled for parameter in parameters]
    assert enabled == sorted(enabled, reverse=True)
    assert not any(parameter.path.startswith("rotate.") for parameter in parameters)
    assert len({parameter.title for parameter in parameters}) == len(parameters)


def test_channels_can_be_chosen_only_where_there_are_several():
    assert not any(parameter.path.startswith("channel.") for parameter in sweepable(Recipe(), 1))
    assert values_between(one("channel.index", channels=3), 0, 2, 3) == (0, 1, 2)
    assert start_range(one("channel.index", channels=3)) == (0, 2, 3)


def test_the_usual_pair_is_of_steps_that_are_on():
    assert [p.path for p in usual_pair(sweepable(Recipe()))] == ["clip.high_percent", "total_variation.weight"]
    plain = usual_pair(sweepable(PRESETS["Plain"]))
    assert all(parameter.enabled and not parameter.words for parameter in plain)


def test_values_are_even_or_at_equal_ratios_and_ascend():
    assert values_between(one("clip.high_percent"), 99, 95, 5) == (95, 96, 97, 98, 99)
    assert values_between(one("total_variation.weight"), 0.01, 0.16, 5) == (0.01, 0.02, 0.04, 0.08, 0.16)
    assert values_between(one("total_variation.weight"), 0, 0.16, 3) == (0, 0.08, 0.16)


def test_values_that_fall_together_are_one():
    assert values_between(one("background.radius_px"), 2, 4, 9) == (2, 3, 4)
    assert values_between(one("clip.high_percent"), 98, 98, 5) == (98,)


def test_a_present_value_with_many_places_is_hit_exactly():
    recipe = with_value(Recipe(), "clip.high_percent", 98.456789)
    parameter = one("clip.high_percent", recipe)
    assert 98.456789 in values_between(parameter, *start_range(parameter))


def test_whole_numbers_stay_whole():
    values = values_between(one("background.radius_px"), 3, 50, 6)
    assert all(isinstance(value, int) for value in values)
    assert np.all(np.diff(values) > 0)


def test_a_sheet_that_cannot_be_made_says_why():
    clip, weight = one("clip.high_percent"), one("total_variation.weight")
    assert check([(weight, (0.1, 0.2)), (clip, (98.0,))]) == {
        "total_variation.weight": (0.1, 0.2),
        "clip.high_percent": (98.0,),
    }
    with pytest.raises(UserError, match="chosen twice"):
        check([(clip, (98.0,)), (clip, (99.0,))])
    with pytest.raises(UserError, match="11 × 10 = 110 tiles"):
        check([(weight, range(10)), (clip, range(11))])
    with pytest.raises(UserError, match="no parameter"):
        check([])


@pytest.mark.parametrize("count", range(2, 21))
def test_as_many_values_as_asked_for_with_few_digits_and_both_ends(count):
    for path, first, last in (("clip.high_percent", 97, 100), ("total_variation.weight", 0.005, 0.08)):
        values = values_between(one(path), first, last, count)
        assert len(values) == count
        assert (values[0], values[-1]) == (first, last)
        assert max(len(f"{value:.10g}".lstrip("0.").replace(".", "")) for value in values) <= 5
