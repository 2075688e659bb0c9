import numpy as np

from cell_curator.core.stitching import chains, common_labels, relabelled, stitch


def plane(**boxes):
    """(20, 20) labels: ``a3=(y, x)`` is label 3 as a square of 4 px."""
    labels = np.zeros((20, 20), np.int32)
    for name, (y, x) in boxes.items():
        labels[y : y + 4, x : x + 4] = int(name[1:])
    return labels


def test_a_cell_has_one_number_as_long_as_it_goes_on():
    planes = [plane(a7=(1, 1), a2=(10, 10)), plane(a5=(1, 2), a9=(1, 14)), plane(a1=(2, 2))]
    assert chains(planes, 0.2) == [{7: 1, 2: 2}, {5: 1, 9: 3}, {1: 1}]
    assert chains(planes, 0.9) == [{7: 1, 2: 2}, {5: 3, 9: 4}, {1: 5}]


def test_numbering_again_what_was_numbered_changes_nothing(rng):
    planes = rng.permutation(np.arange(36, dtype=np.int32).reshape(6, 6)).repeat(5, 0).repeat(5, 1)
    stack = np.stack([np.roll(planes, shift, axis=1) for shift in range(4)])
    joined = stitch(stack, 0.25)
    assert np.array_equal(stitch(joined, 0.25), joined)


def test_halves_that_overlap_equally_never_get_the_same_label():
    whole, halves = np.zeros((8, 8), np.int32), np.zeros((8, 8), np.int32)
    whole[2:6] = 1
    halves[2:4], halves[4:6] = 1, 2
    joined = stitch(np.stack([whole, halves]), 0.25)
    assert len(np.unique(joined[1])) == 3


def test_what_is_fixed_keeps_its_label_and_gives_it_to_its_chain():
    numbers = [{1: 1, 2: 2}, {3: 1, 4: 2}, {5: 1}]
    assert common_labels(numbers, [set(), {3}, set()]) == [{1: 3, 2: 1}, {3: 3, 4: 1}, {5: 3}]
    assert common_labels(numbers, [set(), set(), set()]) == [{1: 1, 2: 2}, {3: 1, 4: 2}, {5: 1}]
    assert common_labels(numbers, [set(), set(), set()], first=10) == [{1: 10, 2: 11}, {3: 10, 4: 11}, {5: 10}]


def test_no_plane_ever_has_a_label_twice(rng):
    for _ in range(200):
        count = rng.integers(1, 6, 4)
        numbers, fixed = [], []
        for n in count:
            labels = rng.choice(np.arange(1, 9), n, replace=False).tolist()
            numbers.append(dict(zip(labels, rng.choice(np.arange(1, 7), n, replace=False).tolist(), strict=True)))
            fixed.append({label for label in labels if rng.random() < 0.4})
        given = common_labels(numbers, fixed)
        for before, after, stays in zip(numbers, given, fixed, strict=True):
            assert set(after) == set(before)
            assert len(set(after.values())) == len(after)
            assert all(after[label] == label for label in stays)
        loose: dict[int, set[int]] = {}
        for before, after, stays in zip(numbers, given, fixed, strict=True):
            for label, chain in before.items():
                if label not in stays:
                    loose.setdefault(chain, set()).add(after[label])
        assert all(len(labels) == 1 for labels in loose.values())
        assert len(set.union(set(), *loose.values())) == len(loose)


def test_labels_change_as_told():
    assert relabelled(np.array([[0, 2], [5, 2]], np.int32), {2: 9, 5: 1}).tolist() == [[0, 9], [1, 9]]
    assert not relabelled(np.zeros((2, 2), np.int32), {}).any()
