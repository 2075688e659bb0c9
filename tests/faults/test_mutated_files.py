"""Files with bytes changed, cut off or repeated: one clear line or a result, never a traceback or a hang."""

from __future__ import annotations

import json
import re
import resource
import shutil
import time
import warnings

import imageio.v3 as iio
import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.recipe import DEFAULT
from cell_curator.engines.cards import read_card
from cell_curator.exchange import export
from cell_curator.io import snapshot
from cell_curator.io.formats.registry import by_name
from cell_curator.io.images import read_image_with_info
from cell_curator.io.labels import read_labels
from cell_curator.io.project import Project
from cell_curator.io.recipes import read_recipe
from cell_curator.io.tiff import write_tiff
from cell_curator.repairing import repair
from cell_curator.session import Session
from small_project import SHAPE, execute, mapped, session  # noqa: F401

SECONDS = 10.0
GIGABYTES = 4.0
NUMBERS = ("-1", "0", "1e308", "1e999", "99999999999999999999", "null", '"x"', "[]", "{}", "NaN", "true")


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The same file after something went wrong with it."""
    raw = bytearray(content)
    how = rng.integers(6)
    at, length = int(rng.integers(len(raw))), int(rng.integers(1, max(2, len(raw) // 4)))
    if how == 0:
        for place in rng.integers(0, len(raw), rng.integers(1, 20)):
            raw[place] = rng.integers(256)
    elif how == 1:
        del raw[at:]
    elif how == 2:
        raw[at : at + length] = bytes(len(raw[at : at + length]))
    elif how == 3:
        raw[at:at] = raw[at : at + length]
    elif how == 4:  # the header is where counts and sizes are
        for place in rng.integers(0, min(len(raw), 200), rng.integers(1, 6)):
            raw[place] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
    else:
        numbers = list(re.finditer(rb"-?\d+(\.\d+)?", raw))
        if numbers:
            found = numbers[int(rng.integers(len(numbers)))]
            raw[found.start() : found.end()] = str(rng.choice(NUMBERS)).encode()
    return bytes(raw)


def tried(read, folder, path, count, seed):
    """Read so many mutants of one file; how many were refused."""
    content, rng, refused, said = path.read_bytes(), np.random.default_rng(seed), 0, []
    for number in range(count):
        path.write_bytes(mutated(content, rng))
        start = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the libraries, about files that are in fact broken
                read(folder)
        except UserError as error:
            refused += 1
            said.append(str(error))
        except Exception as error:
            kept = path.with_name(f"mutant-{number}{path.suffix}")
            shutil.copy(path, kept)
            raise AssertionError(f"mutant {number} of {path.name}: {type(error).__name__}: {error}") from error
        assert time.monotonic() - start < SECONDS, f"mutant {number} of {path.name} took too long"
    path.write_bytes(content)
    assert not [line for line in said if "\n" in line]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 < GIGABYTES
    return refused


COUNTS = [pytest.param(30, id="few"), pytest.param(500, id="many", marks=pytest.mark.slow)]


def picture(rng):
    return (rng.random((40, 50)) * 60000).astype(np.uint16)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", ["zlib.tif", "plain.tif", "stack.tif", "deep.png", "rgb.png", "rgb.jpg", "labels.tif"])
def test_images(tmp_path, rng, kind, count):
    import tifffile

    path, grey = tmp_path / kind, picture(rng)
    if kind == "zlib.tif":
        write_tiff(path, grey[None], pixel_size_um=0.5)
    elif kind == "plain.tif":
        tifffile.imwrite(path, np.stack([grey, grey]), ome=True, metadata={"axes": "CYX"})
    elif kind == "stack.tif":
        tifffile.imwrite(path, np.stack([grey] * 3), imagej=True, metadata={"axes": "ZYX"})
    elif kind == "labels.tif":
        write_tiff(path, grey // 6000)
    else:
        iio.imwrite(path, grey if kind == "deep.png" else np.stack([grey // 256] * 3, -1).astype(np.uint8))
    read = (lambda file: read_labels(file)) if kind == "labels.tif" else (lambda file: read_image_with_info(file))
    assert tried(lambda _: read(path), tmp_path, path, count, 1) > 0


@pytest.mark.parametrize("count", COUNTS)
def test_recipes_and_cards(tmp_path, count):
    recipe, card = tmp_path / "recipe.json", tmp_path / "model" / "card.json"
    recipe.write_text(json.dumps({"recipe": DEFAULT.model_dump(mode="json"), "images": {}}))
    card.parent.mkdir()
    (card.parent / "weights.pth").write_bytes(b"")
    about = {"name": "x", "engine": "cellpose-unet", "title": "X", "licence": "CC0", "diameter_px": 17.0, "details": {}}
    card.write_text(json.dumps(about))
    assert tried(lambda _: read_recipe(recipe), tmp_path, recipe, count, 2) > 0
    assert tried(lambda _: read_card(card.parent), tmp_path, card, count, 3) > 0


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", ["cellpose", "imagej", "geojson", "coco", "coco-polygons", "ome-zarr"])
def test_masks_of_other_programs(tmp_path, session, name, count):  # noqa: F811
    form = by_name(name)
    drive(export(session, tmp_path / "out", form))
    files = [file for file in sorted((tmp_path / "out").rglob("*")) if file.is_file()]
    if name == "ome-zarr":
        files = [file for file in files if file.name in ("zarr.json", ".zattrs") or file.parent.name.isdigit()][:6]
        count = max(6, count // len(files))

    def read(_):
        for path, stem in form_files(tmp_path / "out", form):
            for incoming in form.read(path, stem, lambda image: SHAPE):
                assert incoming is not None

    for index, file in enumerate(files if name == "ome-zarr" else files[:1]):
        tried(read, tmp_path, file, count, 10 + index)


def form_files(source, form):
    from cell_curator.io.formats.registry import find

    return find(source, form)[1]


@pytest.mark.parametrize("count", COUNTS)
def test_projects(tmp_path, session, count):  # noqa: F811
    """A damaged project is refused or read; a repair of it ends in a project that opens, or in one line."""
    session.close()
    folder = session.folder
    whole = (folder / "project.sqlite").read_bytes()

    def read(_):
        opened = Project.open(folder)
        try:
            opened.cells()
            for record in opened.images():
                opened.labels(record)
        finally:
            opened.close()

    tried(read, folder, folder / "project.sqlite", count, 4)
    rng = np.random.default_rng(5)
    for _ in range(max(8, count // 10)):
        (folder / "project.sqlite").write_bytes(mutated(whole, rng))
        try:
            drive(repair(folder))
        except UserError:
            continue
        opened = Session.open(folder)
        assert opened.project.read_only == ""
        opened.close()


@pytest.mark.parametrize("count", COUNTS)
def test_what_lies_beside_the_database(tmp_path, mapped, monkeypatch, count):  # noqa: F811
    """Copies that are broken are passed over; labels that cannot be read are said; no cell is lost or another."""
    monkeypatch.setattr(snapshot, "FEWEST", 1)
    folder = mapped.folder
    mapped.set_verdict(mapped.cells.frame.index, "accepted")
    mapped.close()
    expected = mapped.cells.frame
    chunks = [file for file in (folder / "labels.zarr").rglob("*") if file.is_file()]

    def read(_):
        opened = Session.open(folder)
        try:
            assert opened.cells.frame.equals(expected)
            for record in opened.images:
                assert opened.project.labels(record).shape == SHAPE
        finally:
            opened.close()

    for index, file in enumerate([folder / snapshot.FILE, *(folder / "embeddings").iterdir(), *chunks]):
        tried(read, folder, file, max(3, count // 6), 20 + index)
