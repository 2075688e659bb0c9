"""The cache of a session's arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cell_curator.pixel_cache import PixelCache, size_of


def test_what_was_used_last_stays_and_the_rest_goes_by_bytes():
    cache, made = PixelCache(most_bytes=3000), []

    def make(n):
        made.append(n)
        return np.full(1000, n, np.uint8)

    for n in (1, 2, 3, 1, 4):  # the fourth pushes out 2, the one used least recently
        cache.get(("pixels", n), lambda n=n: make(n))
    for n in (1, 3, 4):
        assert cache.get(("pixels", n), lambda n=n: make(n))[0] == n
    assert made == [1, 2, 3, 4]
    cache.get(("pixels", 2), lambda: make(2))
    assert made == [1, 2, 3, 4, 2]


def test_one_value_larger_than_the_cache_is_kept_until_the_next():
    cache = PixelCache(most_bytes=10)
    value = cache.get(("pixels", 1), lambda: np.zeros(100))
    assert cache.get(("pixels", 1), lambda: np.ones(100)) is value


def test_labels_of_one_image_are_forgotten_and_nothing_else():
    cache = PixelCache()
    for key in (("labels", 1, 0), ("labels", 2, 0), ("pixels", 1)):
        cache.put(key, key)
    cache.forget("labels", 1)
    assert cache.get(("labels", 1, 0), lambda: "new") == "new"
    assert cache.get(("labels", 2, 0), lambda: "new") == ("labels", 2, 0)
    assert cache.get(("pixels", 1), lambda: "new") == ("pixels", 1)


def test_the_size_is_that_of_the_arrays_inside():
    @dataclass
    class Pair:
        image: np.ndarray
        levels: tuple

    assert size_of(Pair(np.zeros(10), (np.zeros(5, np.uint8), "words"))) == 85
