"""Whose angle counts for an image: a person's, then its folder's, then the recipe's."""

from __future__ import annotations

import pytest

from cell_curator.core.recipe import Channel, Recipe, Rotate
from cell_curator.core.turns import Turns, search_key

TURNING = Recipe(rotate=Rotate(enabled=True))
SHARED = Recipe(rotate=Rotate(enabled=True, shared=True))


def found(recipe, angle=20.0):
    return Turns(shared={"a": angle}, found_for=search_key(recipe))


def test_an_angle_set_by_hand_goes_before_all_others():
    turns = found(SHARED).with_hand(1, -7.5)
    assert turns.angle(SHARED, 1, "a") == -7.5
    assert turns.angle(SHARED, 2, "a") == 20.0
    assert turns.angle(TURNING, 1, "elsewhere") == -7.5


def test_taking_the_hand_back_leaves_the_others():
    turns = Turns().with_hand(1, 5.0).with_hand(2, 6.0)
    assert turns.with_hand(1, None).by_hand == {2: 6.0}
    assert turns.by_hand == {1: 5.0, 2: 6.0}
    assert turns.with_hand(3, None) == turns


def test_nothing_is_turned_where_the_recipe_does_not_turn():
    assert found(SHARED).with_hand(1, 5.0).angle(Recipe(), 1, "a") is None


@pytest.mark.parametrize(
    "changed",
    [
        Recipe(rotate=Rotate(enabled=True, shared=True, method="hough")),
        Recipe(rotate=Rotate(enabled=True, shared=True), channel=Channel(mode="max")),
        TURNING,
        Recipe(rotate=Rotate(enabled=True, shared=True, method="fixed", angle_deg=3)),
    ],
    ids=["method", "channel", "not shared", "fixed"],
)
def test_an_angle_found_for_another_search_does_not_count(changed):
    assert found(SHARED).angle(changed, 1, "a") is None


def test_what_does_not_concern_the_search_leaves_the_shared_angle():
    other = SHARED.model_copy(update={"clip": SHARED.clip.model_copy(update={"high_percent": 90.0})})
    assert found(SHARED).angle(other, 1, "a") == 20.0
    assert found(SHARED).angle(other, 1, "b") is None


def test_the_recipe_of_an_image_is_the_recipe_with_its_angle_fixed():
    own = found(SHARED).recipe(SHARED, 1, "a")
    assert (own.rotate.enabled, own.rotate.method, own.rotate.angle_deg) == (True, "fixed", 20.0)
    assert own.model_copy(update={"rotate": SHARED.rotate}) == SHARED
    assert found(SHARED).recipe(TURNING, 1, "a") is TURNING


def test_turns_survive_being_stored():
    turns = found(SHARED).with_hand(12, 33.25)
    assert Turns.model_validate(turns.model_dump(mode="json")) == turns
