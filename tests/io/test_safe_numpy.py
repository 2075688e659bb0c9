"""Files of strangers: plain data come through as they were, everything else is refused unrun."""

import collections
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cell_curator.core.jobs import UserError
from cell_curator.io.safe_numpy import load_plain

DTYPES = st.one_of(
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.boolean_dtypes(),
    hnp.unicode_string_dtypes(max_len=4),
)


def same(ours, theirs):
    """Equal all the way down, types included."""
    if isinstance(theirs, np.ndarray):
        assert isinstance(ours, np.ndarray)
        assert ours.dtype.newbyteorder("=") == theirs.dtype.newbyteorder("=")  # NumPy swaps some on reading
        if theirs.dtype == object:
            same(ours.tolist(), theirs.tolist())
        else:
            np.testing.assert_array_equal(ours, theirs)
        assert ours.flags.writeable
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            same(ours[key], value)
    elif isinstance(theirs, (list, tuple)):
        assert type(ours) is type(theirs)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            same(one, other)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs or (ours != ours and theirs != theirs)


def as_npy(path, payload):
    """A ``.npy`` file around any pickle, as an attacker would write it."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload)
    return path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=hnp.arrays(DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
    order=st.sampled_from("CF"),
)
def test_arrays_of_all_kinds_come_back_as_numpy_reads_them(tmp_path, array, order):
    content = {
        "a": np.asarray(array, order=order),
        "b": [array, None, (1, 2.5, "ä")],
        "deeper": {"c": array[..., None]},
    }
    np.save(tmp_path / "a.npy", content, allow_pickle=True)
    same(load_plain(tmp_path / "a.npy"), np.load(tmp_path / "a.npy", allow_pickle=True).item())
    np.save(tmp_path / "b.npy", array)
    same(load_plain(tmp_path / "b.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_and_the_containers_cellpose_uses(tmp_path, protocol):
    content = {
        "masks": np.arange(12, dtype=np.uint16).reshape(3, 4),
        "ismanual": np.array([True, False]),
        "flows": [np.zeros((1, 2, 2, 3), np.uint8), [], np.asfortranarray(np.ones((2, 3), np.float32))],
        "diameter": np.float32(17.5),
        "zdraw": [None, 3],
        "odd": np.array([[1, "a"], [None, [np.arange(3)]]], object),
        "set": {1, 2},
        "ordered": collections.OrderedDict(a=1),
    }
    path = as_npy(tmp_path / "a.npy", pickle.dumps(np.array(content, object), protocol))
    same(load_plain(path), {**content, "ordered": {"a": 1}})


def test_a_path_comes_back_as_text(tmp_path):
    np.save(tmp_path / "a.npy", {"filename": Path("/data/my cells/ä.tif")}, allow_pickle=True)
    assert load_plain(tmp_path / "a.npy") == {"filename": "/data/my cells/ä.tif"}


class _Call:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def _global(module, name):
    return b"c" + module.encode() + b"\n" + name.encode() + b"\n"


ATTACKS = {
    "system": lambda mark: pickle.dumps(_Call(os.system, f"touch {mark}")),
    "eval": lambda mark: pickle.dumps({"masks": _Call(eval, f"open({str(mark)!r}, 'w')")}),
    "exec, old protocol": lambda mark: pickle.dumps(_Call(exec, f"open({str(mark)!r}, 'w')"), 0),
    "within an array": lambda mark: pickle.dumps(np.array([_Call(os.mkdir, str(mark))], object)),
    "dotted name": lambda mark: b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
    "getattr": lambda mark: _global("builtins", "getattr") + b".",
    "a module of numpy": lambda mark: _global("numpy", "load") + b".",
    "numpy.testing": lambda mark: _global("numpy.testing._private.utils", "runstring") + b".",
    "a class of ours": lambda mark: _global("cell_curator.io.safe_numpy", "_Maker") + b".",
    "instance": lambda mark: b"(" + f"S'touch {mark}'\n".encode() + b"ios\nsystem\n.",
    "persistent id": lambda mark: b"Pabc\n.",
    "extension": lambda mark: b"\x82\x01.",
    "state of a reader": lambda mark: _global("numpy", "dtype") + b"}(S'_make'\nI1\nub.",
    "attributes of an array": lambda mark: (
        _global("numpy.core.multiarray", "_reconstruct") + b"(tR(N}S'content'\nI1\nstb."
    ),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_malicious_pickle_is_refused_in_one_line_and_not_run(tmp_path, attack):
    mark = tmp_path / "mark"
    path = as_npy(tmp_path / "a_seg.npy", ATTACKS[attack](mark))
    with pytest.raises(UserError) as refusal:
        load_plain(path)
    assert str(refusal.value).startswith(str(path))
    assert "\n" not in str(refusal.value)
    assert not mark.exists()


def test_the_refusal_names_what_was_asked_for(tmp_path):
    path = as_npy(tmp_path / "a_seg.npy", pickle.dumps(_Call(os.system, "true")))
    with pytest.raises(UserError, match=r"asks for “posix.system”, which plain data never need; it was not opened"):
        load_plain(path)


@pytest.mark.parametrize(
    "state",
    [
        (3, "|", None, ("a",), {"a": (np.dtype("u1"), 0)}, 8, 1, 0),  # fields
        (3, "|", (np.dtype("u1"), (8,)), None, None, 8, 1, 0),  # a sub-array
    ],
)
def test_a_forged_dtype_is_refused(tmp_path, state):
    class Forged:
        def __reduce__(self):
            return (np.dtype, ("V8", False, True), state)

    path = as_npy(tmp_path / "a.npy", pickle.dumps(Forged()))
    with pytest.raises(UserError, match="dtype"):
        load_plain(path)


def test_an_array_that_claims_more_than_it_holds_is_refused(tmp_path):
    class Forged:
        def __reduce__(self):
            function, arguments, _ = np.zeros(1).__reduce__()
            return (function, arguments, (1, (10**6,), np.dtype("O"), False, b"\x41" * 8 * 10**6))

    with pytest.raises(UserError, match="shape and content differ"):
        load_plain(as_npy(tmp_path / "a.npy", pickle.dumps(Forged())))


def test_containers_without_end_are_refused(tmp_path):
    endless = []
    endless.append(endless)
    with pytest.raises(UserError, match="without end"):
        load_plain(as_npy(tmp_path / "a.npy", pickle.dumps(endless)))
    laughs = [0]
    for _ in range(60):
        laughs = [laughs] * 10  # 10^60 numbers if each were copied
    loaded = load_plain(as_npy(tmp_path / "b.npy", pickle.dumps(laughs)))
    assert len(loaded) == 10
    assert all(part is loaded[0] for part in loaded)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is damaged or no .npy file"),
        (b"not numpy at all, but long enough", "is damaged or no .npy file"),
        (b"\x93NUMPY\x09\x00" + b" " * 80, "version"),
        (b"\x93NUMPY\x01\x00\x10\x00__import__('os')", "is damaged or no .npy file"),
    ],
)
def test_what_is_no_npy_file_is_said_in_one_line(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=words) as refusal:
        load_plain(tmp_path / "a.npy")
    assert "\n" not in str(refusal.value)


def test_a_truncated_file_and_a_missing_one(tmp_path):
    np.save(tmp_path / "a.npy", {"masks": np.ones((50, 50))}, allow_pickle=True)
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged"):
        load_plain(tmp_path / "a.npy")
    with pytest.raises(UserError, match="does not exist; check the path"):
        load_plain(tmp_path / "b.npy")
