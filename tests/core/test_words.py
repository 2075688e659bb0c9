from cell_curator.core.words import number_of


def test_one_is_told_from_many():
    assert [number_of(count, "cell") for count in (0, 1, 2)] == ["0 cells", "1 cell", "2 cells"]
