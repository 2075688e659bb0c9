"""Read ``.npy`` files of strangers: arrays and plain containers, nothing else.

Cellpose keeps a dictionary in its ``_seg.npy``, which NumPy stores as a pickle, and a pickle
is a program. Here it is read by an unpickler that can build numbers, texts, lists, tuples,
dictionaries, sets and arrays of numbers, and refuses every other name *before* it is
imported. NumPy's own ``__setstate__`` is not called either, since a forged dtype could make
it read raw bytes as pointers: arrays are put together here from shape, dtype and bytes.

Not for weights of networks; those are read by torch with ``weights_only=True``.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO
from zipfile import BadZipFile

import numpy as np

from cell_curator.core.jobs import UserError

DAMAGED = (OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, SyntaxError,
           MemoryError, TokenError, BadZipFile, struct.error, zlib.error)  # fmt: skip
"""What NumPy raises for an ``.npz`` file that is not there, not whole, or full of something else."""

_KINDS = "biufcSU"
_MAX_DEPTH = 100


def load_plain(path: Path | str) -> Any:
    """What a ``.npy`` file holds; a 0-d object array gives its one object (Cellpose's dictionary).

    Raises
    ------
    UserError
        Missing, damaged, not a ``.npy`` file, or it asks for anything but plain data: one line
        that names the file and what was asked for. Nothing of it has been run then.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; check the path") from None
    except _Refused as error:
        raise UserError(
            f"{path}: asks for {error}, which plain data never need; it was not opened, get it from a source you trust"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except MemoryError:
        raise UserError(f"{path}: is too large for this computer's memory") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: is damaged or no .npy file ({reason}); copy or export it again") from error


class _Refused(Exception):  # noqa: N818  (the message is the refused name)
    """A name that plain data do not contain."""


def _load(file: BinaryIO) -> Any:
    form: Any = np.lib.format  # untyped
    version = form.read_magic(file)
    read_header = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}.get(version)
    if read_header is None:
        raise ValueError(f"version {version} of the format")
    shape, _, dtype = read_header(file)
    if not dtype.hasobject:
        file.seek(0)
        return np.load(file, allow_pickle=False)
    content = _Plain(io.BytesIO(file.read())).load()
    whole = _finished(content)
    return whole.item() if isinstance(whole, np.ndarray) and shape == () and whole.ndim == 0 else whole


# ---------------------------------------------------------------------- stand-ins while the pickle is read


class _Maker:
    """Stands for a name in the pickle; can be called and nothing else.

    No class and no function reaches the pickle, because its BUILD instruction can set attributes on those.
    """

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused(f"the attribute {name!r}")

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a change of the reader")


class _Dtype:
    """A dtype of numbers or text, or of Python objects; byte order comes with its state."""

    __slots__ = ("dtype",)
    dtype: np.dtype[Any]

    def __init__(self, dtype: np.dtype[Any]) -> None:
        object.__setattr__(self, "dtype", dtype)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused(f"the attribute {name!r} of a dtype")

    def __setstate__(self, state: Any) -> None:
        order, *structure = state[1:5]
        if any(part is not None for part in structure) or order not in ("<", ">", "|", "="):
            raise _Refused("a structured dtype")
        if order in "<>":
            object.__setattr__(self, "dtype", self.dtype.newbyteorder(order))


class _Array:
    """An array in the making."""

    __slots__ = ("content", "dtype", "fortran", "shape")
    content: Any
    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]

    def __init__(self) -> None:
        self._put((0,), np.dtype("u1"), False, b"")

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused(f"the attribute {name!r} of an array")

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype):
            raise _Refused("an array of an unknown dtype")
        self._put(shape, dtype.dtype, bool(fortran), content)

    def _put(self, shape: Any, dtype: np.dtype[Any], fortran: bool, content: Any) -> None:
        if not (isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)):
            raise ValueError("an array of impossible shape")
        length = math.prod(shape) * (1 if dtype.hasobject else dtype.itemsize)
        if not isinstance(content, list if dtype.hasobject else (bytes, bytearray)) or len(content) != length:
            raise ValueError("an array whose shape and content differ")
        for name, value in (("shape", shape), ("dtype", dtype), ("fortran", fortran), ("content", content)):
            object.__setattr__(self, name, value)

    def finished(self, inner: Callable[[Any], Any]) -> np.ndarray[Any, Any]:
        """The array; ``inner`` finishes the objects of an object array."""
        order: Any = "F" if self.fortran else "C"
        if not self.dtype.hasobject:
            return np.frombuffer(bytes(self.content), self.dtype).reshape(self.shape, order=order).copy(order="K")
        flat = np.empty(len(self.content), object)
        for index, item in enumerate(self.content):
            flat[index] = inner(item)
        return flat.reshape(self.shape, order=order)


def _dtype(code: Any, *_: Any) -> _Dtype:
    if not isinstance(code, str):
        raise _Refused("a dtype that is not named")
    dtype = np.dtype("O") if code in ("O", "O8", "O4") else np.dtype(code)
    if dtype.fields is not None or dtype.subdtype is not None or (dtype.kind not in _KINDS and code[0] != "O"):
        raise _Refused(f"the dtype {code!r}")
    return _Dtype(dtype)


def _empty_array(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, content: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or dtype.dtype.hasobject:
        raise _Refused("a number of an unknown dtype")
    return np.frombuffer(bytes(content), dtype.dtype, count=1)[0]


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Arrays of pickle protocol 5."""
    made = _Array()
    made.__setstate__((1, tuple(shape), dtype, order == "F", bytes(content)))
    return made


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Bytes as protocol 2 wrote them."""
    return text.encode("latin1")


def _never_called(*_: Any) -> None:
    raise _Refused("an array made in an unknown way")


def _joined(*parts: str) -> str:
    """A path, as text."""
    return "/".join(str(part) for part in parts).replace("//", "/")


_NUMPY: dict[str, Callable[..., Any]] = {
    "_reconstruct": _empty_array,
    "scalar": _scalar,
    "ndarray": _never_called,
    "dtype": _dtype,
    "_frombuffer": _from_buffer,
}
_NUMPY_MODULES = {
    "numpy": ("ndarray", "dtype"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy._core.numeric": ("_frombuffer",),
}
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **{(module, name): _NUMPY[name] for module, names in _NUMPY_MODULES.items() for name in names},
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): lambda *_: {},
    **{(m, kind.__name__): kind for m in ("builtins", "__builtin__") for kind in (set, frozenset, complex)},
    **{("pathlib", name): _joined for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")},
}


class _Plain(pickle.Unpickler):
    """An unpickler that knows no names but the few of `_ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        make = _ALLOWED.get((module, name))
        if make is None:
            raise _Refused(f"“{module}.{name}”")
        return _Maker(make)

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("something outside the file")


def _finished(value: Any) -> Any:
    """``value`` with the stand-ins replaced by arrays; what is shared stays shared."""
    done: dict[int, Any] = {}

    def finish(item: Any, depth: int) -> Any:
        if not isinstance(item, (_Array, _Dtype, _Maker, dict, list, tuple)):
            return item
        if id(item) in done:
            return done[id(item)]
        if depth > _MAX_DEPTH:
            raise ValueError("containers within containers without end")
        if isinstance(item, (_Dtype, _Maker)):
            raise _Refused("a dtype or function by itself")

        def inner(part: Any) -> Any:
            return finish(part, depth + 1)

        done[id(item)] = made = _rebuilt(item, inner)
        return made

    return finish(value, 0)


def _rebuilt(item: Any, inner: Callable[[Any], Any]) -> Any:
    if isinstance(item, _Array):
        return item.finished(inner)
    if isinstance(item, dict):
        return {inner(key): inner(part) for key, part in item.items()}
    parts: Iterable[Any] = (inner(part) for part in item)
    return list(parts) if isinstance(item, list) else tuple(parts)
