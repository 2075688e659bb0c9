"""Nothing in the program runs what a file says: a look at the sources, and weights that try."""

import ast
import os
import pickle
import zipfile
from functools import lru_cache
from pathlib import Path

import pytest

from cell_curator.core.jobs import UserError

SOURCES = sorted((Path(__file__).parents[2] / "src" / "cell_curator").rglob("*.py"))


@lru_cache
def all_calls():
    """(file, what is called, the call) for all calls in the sources."""
    return [
        (file.name, ast.unparse(node.func), node)
        for file in SOURCES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]


def calls(name):
    """(file, keyword arguments) of every call of ``….name(…)`` or ``name(…)`` in the sources."""
    for file, called, node in all_calls():
        if called == name or called.endswith(f".{name}"):
            yield f"{file}: {ast.unparse(node)}", {k.arg: ast.unparse(k.value) for k in node.keywords}


def test_weights_are_read_as_plain_tensors_everywhere():
    found = list(calls("torch.load"))
    assert len(found) >= 2
    for where, keywords in found:
        assert keywords.get("weights_only") == "True", where


def test_arrays_are_never_unpickled_by_numpy():
    found = list(calls("np.load"))
    assert len(found) >= 2
    for where, keywords in found:
        assert keywords.get("allow_pickle") == "False", where


@pytest.mark.parametrize(
    "name",
    [
        "pickle.load",
        "pickle.loads",
        "joblib.load",
        "yaml.load",
        "eval",
        "exec",
        "extractall",
        "os.system",
        "unpack_archive",
    ],
)
def test_what_could_run_or_unpack_foreign_files_is_not_used(name):
    used = [where for where, _ in calls(name) if not where.split(": ")[1].startswith(("model.eval", "network.eval"))]
    assert [where for where in used if name != "eval" or ": eval(" in where] == []


class _Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


def evil_weights(path, mark, *, zipped):
    """Weights as torch writes them, whose pickle calls a function."""
    payload = pickle.dumps({"output.2.weight": _Evil(mark)}, 2)
    if not zipped:
        path.write_bytes(payload)
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_malicious_weights_are_refused_in_one_line_and_not_run(tmp_path, zipped):
    from cell_curator.engines.network import read_weights
    from cell_curator.engines.vae.model import load_model

    mark = tmp_path / "mark"
    path = evil_weights(tmp_path / "model", mark, zipped=zipped)
    for load, words in ((read_weights, "could run foreign code"), (load_model, "not an embedding model, or damaged")):
        with pytest.raises(UserError, match=words) as refusal:
            load(path)
        assert "\n" not in str(refusal.value)
    assert not mark.exists()
