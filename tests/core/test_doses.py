import pytest

from cell_curator.core.doses import doses, in_order


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["dose 10", "dose 02", "dose 00"], {"dose 00": 0, "dose 02": 2, "dose 10": 10}),
        (["10", "9.5", "100"], {"9.5": 9.5, "10": 10, "100": 100}),
        (["10 nM", "DMSO", "1 nM"], {"DMSO": 0, "1 nM": 1, "10 nM": 10}),
        (["1 µM", "100 nM", "0.2 mM"], {"100 nM": 1e-7, "1 µM": 1e-6, "0.2 mM": 2e-4}),
        (["-80 mV", "-40 mV"], {"-80 mV": -80, "-40 mV": -40}),
        (["dose-10", "dose-2"], {"dose-2": 2, "dose-10": 10}),
        (["1e-6 M", "1e-9 M"], {"1e-9 M": 1e-9, "1e-6 M": 1e-6}),
        (["30 min", "5 min"], {"5 min": 5, "30 min": 30}),
    ],
)
def test_amounts_are_read_and_put_in_order(names, expected):
    found = doses(names)
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)
    assert in_order(names) == list(expected)


@pytest.mark.parametrize(
    "names",
    [
        ["wild type", "knock-out"],
        ["", "1 nM", "2 nM"],
        ["drug A 1 nM", "drug B 2 nM"],  # two drugs are no scale
        ["1 h", "30 min"],
        ["2x3", "3x4"],
        ["01", "1"],  # the same amount twice
        ["control", "DMSO", "1 nM", "2 nM"],
        ["0 nM", "control", "1 nM"],
        ["1,000 nM", "1,5 nM"],
        ["10 nM"],
    ],
)
def test_what_is_no_amount_is_not_taken_for_one(names):
    assert doses(names) is None


def test_other_names_are_in_natural_order():
    assert in_order(["B10", "b2", "A1", "B10"]) == ["A1", "b2", "B10"]
    assert in_order(["treated", "control"]) == ["control", "treated"]
    assert in_order([]) == []
