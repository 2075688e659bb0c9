"""Whoever finds the cells, and in whatever order images become ready, the project is the same."""

import itertools
import random

import numpy as np
import pandas as pd
import pytest
from skimage.measure import label

from cell_curator.confluency import cover_folder, cover_project
from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.confluency import ConfluencyParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.jobs import ALONE, Crew, Progress, UserError, drive, inline, retried
from cell_curator.core.patches import PatchParameters
from cell_curator.core.pixel_clusters import KmeansParameters
from cell_curator.core.recipe import Recipe, Rotate
from cell_curator.doubtful_images import look_at_images
from cell_curator.engines.batch import segment_folder
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.volumes import StackParameters
from cell_curator.exchange import export
from cell_curator.io.folders import ERRORS, preprocess_folder
from cell_curator.io.formats.registry import by_name
from cell_curator.io.tiff import write_tiff
from cell_curator.map_patches import cut_cells
from cell_curator.mapping import embed
from cell_curator.pixel_cache import PixelCache
from cell_curator.results import save_tables
from cell_curator.session import Session

SHAPE = (70, 80)
PLACES = [(12 + 20 * (n // 4), 12 + 20 * (n % 4)) for n in range(12)]


def bright(image, params, region=None):
    """Stands in for the network: bright is a cell."""
    yield Progress(0.5, "looking")
    found = label(image > 0.5).astype(np.int32)
    size = params.diameter or float(12 + found.max() % 5)
    return Segmentation(found, size, False, np.arange(found.max() + 1, dtype=np.float32))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    for module in ("engines.segmenter", "engines.batch", "one_image"):
        monkeypatch.setattr(f"cell_curator.{module}.segment_image", bright)


class Shuffled:
    """A crew that is done with later images sooner, as chance will have it; remembers what it was asked."""

    def __init__(self, seed, at_once=4):
        self.asked, self.chance, self.crew = [], random.Random(seed), Crew(self.call, at_once)

    def call(self, target, /, **kwargs):
        self.asked.append(target.rpartition(":")[2])
        for _ in range(self.chance.randrange(12)):
            yield Progress(0.0)
        return (yield from inline(target, **kwargs))


@pytest.fixture
def images(tmp_path, rng, discs):
    """Seven images of different numbers of cells, one of which is no image; and a stack of five planes."""

    def picture(count, size=6):
        return (200 + 800 * (discs(SHAPE, [(y, x, size) for y, x in PLACES[:count]]) > 0)
                + rng.normal(0, 20, SHAPE)).astype(np.uint16)  # fmt: skip

    for number, condition in zip(range(7), itertools.cycle(["control", "treated"])):
        (tmp_path / "images" / condition).mkdir(parents=True, exist_ok=True)
        write_tiff(tmp_path / "images" / condition / f"{number}.tif", picture(5 + number)[None])
    stack = np.stack([picture(0), picture(0), picture(0, 3), picture(4, 5), picture(6, 6)])
    write_tiff(tmp_path / "images" / "treated" / "stack.tif", stack, axis="Z")
    return tmp_path / "images"


def project(images, folder, crew, stack="stitch", recipe=None):
    session = Session.create(folder)
    drive(session.add_images(images))
    session.put(StackParameters(method=stack))
    if recipe is not None:
        session.put(recipe)
    broken = next(record for record in session.images if record.name == "control/2")
    whole = broken.path.read_bytes()
    broken.path.write_bytes(b"II*\0torn")
    session.crew = crew
    report = drive(session.segment())
    session.crew = None
    broken.path.write_bytes(whole)
    save_tables(session, folder / "out", report.failed)
    frame = session.cells.frame
    labels = {record.image_id: session.labels(record.image_id) for record in session.images}
    records = session.images
    session.close()
    tables = {file.name: file.read_bytes() for file in (folder / "out").iterdir() if file.suffix == ".csv"}
    return report, tables, frame, labels, records


@pytest.mark.parametrize("stack", ["planes", "stitch"])
def test_a_crew_gives_the_same_project_byte_by_byte(images, tmp_path, stack):
    alone = project(images, tmp_path / "alone.curator", None, stack)
    for seed in (1, 2):
        shuffled = Shuffled(seed)
        by_crew = project(images, tmp_path / f"{seed}.curator", shuffled.crew, stack)
        assert shuffled.asked.count("search") >= 11
        assert by_crew[0] == alone[0]
        assert by_crew[1] == alone[1]
        pd.testing.assert_frame_equal(by_crew[2], alone[2], check_exact=True)
        assert all((by_crew[3][number] == alone[3][number]).all() for number in alone[3])
        assert by_crew[4] == alone[4]
    assert set(alone[1]) == {"cells.csv", "errors.csv"}
    assert "control/2" in alone[1]["errors.csv"].decode()


def test_folders_turned_alike_are_turned_alike_by_a_crew_too(images, tmp_path, monkeypatch):
    monkeypatch.setattr("cell_curator.searching.vote", lambda pixels, recipe: float(pixels.mean()) / 20)
    monkeypatch.setattr("cell_curator.one_image.vote", lambda pixels, recipe: float(pixels.mean()) / 20)
    recipe = Recipe(rotate=Rotate(enabled=True, shared=True))
    alone = project(images, tmp_path / "alone.curator", None, "planes", recipe)
    by_crew = project(images, tmp_path / "crew.curator", Shuffled(3).crew, "planes", recipe)
    assert by_crew[4] == alone[4]
    angles = {record.condition: record.angle_deg for record in alone[4] if record.state == "segmented"}
    assert angles["control"] != angles["treated"]


def test_a_stack_in_three_dimensions_is_one_piece_of_work(images, tmp_path, monkeypatch):
    def whole(volume, params, stack):
        from cell_curator.engines.volumes import Stack

        yield Progress(0.5)
        return Stack(label(volume > 0.5).astype(np.int32), 12.0, ("a note",))

    monkeypatch.setattr("cell_curator.engines.volumes.segment_stack", whole)
    monkeypatch.setattr("cell_curator.one_image.segment_stack", whole)
    alone = project(images, tmp_path / "alone.curator", None, "3-D")
    shuffled = Shuffled(4)
    by_crew = project(images, tmp_path / "crew.curator", shuffled.crew, "3-D")
    assert shuffled.asked.count("search_stack") == 1
    assert by_crew[0] == alone[0]
    assert by_crew[1] == alone[1]


def test_cells_that_a_person_decided_stay_and_the_others_are_measured_beside_them(images, tmp_path):
    session = Session.create(tmp_path / "p.curator")
    drive(session.add_images(images / "control"))
    drive(session.segment())
    first = session.images[0].image_id
    kept = session.cells.of_image(first).index[0]
    session.set_verdict([kept], "accepted")
    before = session.cells.frame
    session.crew = Shuffled(5).crew
    drive(session.segment())
    after = session.cells.frame
    session.close()
    assert after.loc[kept, "verdict"] == "accepted"
    columns = ["image", "area", "mean_intensity", "contact", "seam_dip"]
    pd.testing.assert_frame_equal(
        after[columns].sort_values(columns, ignore_index=True), before[columns].sort_values(columns, ignore_index=True)
    )


def test_an_image_that_fails_once_for_a_passing_reason_is_done(images, tmp_path, monkeypatch):
    monkeypatch.setattr(retried, "__defaults__", ((0.0, 0.0),))  # no pauses
    seen = []

    def flaky(path, plane=None):
        seen.append(path)
        if seen.count(path) < 3:
            raise UserError(f"{path}: cannot be read") from OSError(5, "Input/output error")
        return read(path, plane)

    from cell_curator.one_image import open_image as read

    monkeypatch.setattr("cell_curator.one_image.open_image", flaky)
    session = Session.create(tmp_path / "p.curator")
    drive(session.add_images(images / "treated" / "1.tif"))
    session.crew = Shuffled(6).crew
    report = drive(session.segment())
    session.close()
    assert (report.done, report.failed) == (1, ())
    assert len(seen) == 3


# ---------------------------------------------------------------------- folders


@pytest.mark.parametrize("command", ["preprocess", "segment"])
def test_a_folder_comes_out_the_same_and_says_what_failed(images, tmp_path, command):
    (images / "control" / "torn.tif").write_bytes(b"II*\0torn")
    if command == "segment":
        (images / "treated" / "stack.tif").unlink()  # planes are searched by the network itself

    def work(out, crew):
        if command == "preprocess":
            return drive(preprocess_folder(images, out, Recipe(rotate=Rotate(enabled=True, shared=True)), crew))
        return drive(segment_folder(images, out, SegmentParameters(), Recipe(), StackParameters(), crew))

    alone = work(tmp_path / "alone", Crew(inline))
    by_crew = work(tmp_path / "crew", Shuffled(7).crew)
    assert by_crew == alone
    files = {path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.*")}
    assert len(files) >= 8
    for file in files:
        assert (tmp_path / "crew" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    assert "torn.tif" in (tmp_path / "crew" / ERRORS).read_text()
    (images / "control" / "torn.tif").unlink()
    work(tmp_path / "crew", Shuffled(8).crew)
    assert not (tmp_path / "crew" / ERRORS).exists()


# ---------------------------------------------------------------------- the other commands


@pytest.fixture
def finished(images, tmp_path):
    """A project whose cells were found."""
    (images / "treated" / "stack.tif").unlink()
    session = Session.create(tmp_path / "finished.curator")
    drive(session.add_images(images))
    drive(session.segment())
    yield session
    session.close()


def by(session, crew, job):
    session.crew = crew
    try:
        return drive(job())
    finally:
        session.crew = None


def test_patches_are_the_same(finished):
    cells = finished.cells.frame.index.tolist()
    for parameters in (PatchParameters(size=16), PatchParameters(size=16, channels="all")):
        alone, rows = by(finished, None, lambda: cut_cells(finished, cells, parameters))  # noqa: B023
        shuffled = Shuffled(9)
        crew, others = by(finished, shuffled.crew, lambda: cut_cells(finished, cells, parameters))  # noqa: B023
        assert shuffled.asked.count("patches_of") == 7
        assert (crew.images == alone.images).all()
        assert (crew.masks == alone.masks).all()
        assert others.index.tolist() == rows.index.tolist()


@pytest.mark.slow
def test_an_image_that_is_gone_is_left_out_of_the_map_and_named(finished):
    gone = finished.images[2]
    gone.path.unlink()
    finished.put(VaeParameters(latent=2, steps=2, width=4))
    finished.put(MapParameters(method="pca"))
    finished.put(ClusterParameters(method="kmeans", k=2))
    finished._pixels = PixelCache()
    made = by(finished, Shuffled(10).crew, lambda: embed(finished))
    assert made.cells == len(finished.cells) - len(finished.cells.of_image(gone.image_id))
    assert [name for name, _ in made.unread] == [gone.name]
    assert any(gone.name in note and "not on the map" in note for note in made.notes)


def test_what_looks_wrong_with_images_is_the_same(finished):
    alone = by(finished, None, lambda: look_at_images(finished))
    shuffled = Shuffled(11)
    assert by(finished, shuffled.crew, lambda: look_at_images(finished)) == alone
    assert shuffled.asked.count("impression") == 7


@pytest.mark.parametrize("name", ["labels", "ome-zarr"])
def test_an_export_is_the_same_and_one_image_fails_alone(finished, tmp_path, name):
    for out, crew in (("alone", None), ("crew", Shuffled(12).crew)):
        made = by(finished, crew, lambda: export(finished, tmp_path / out, by_name(name)))  # noqa: B023
        assert (len(made.files), made.failed) == (7, ())
    files = [path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*") if path.is_file()]
    assert files
    for file in files:
        assert (tmp_path / "crew" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
    finished.images[1].path.unlink()
    finished._pixels = PixelCache()
    if name == "ome-zarr":  # pixels go along
        made = by(finished, Shuffled(13).crew, lambda: export(finished, tmp_path / "less", by_name(name)))
        assert [image for image, _ in made.failed] == [finished.images[1].name]
        assert len(made.files) == 6
        assert finished.images[1].name in (tmp_path / "less" / ERRORS).read_text()


def test_the_cover_of_a_folder_and_of_a_project_is_the_same(finished, images, tmp_path):
    say, method = ConfluencyParameters(), KmeansParameters()
    (images / "control" / "torn.tif").write_bytes(b"II*\0torn")
    for out, crew in (("alone", None), ("crew", Shuffled(14).crew)):
        drive(cover_folder(images, tmp_path / out / "folder", method, say, crew=crew or ALONE))
        by(finished, crew, lambda: cover_project(finished, tmp_path / out / "project", say, method))  # noqa: B023
    files = [path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*") if path.is_file()]
    assert {"folder/errors.csv", "folder/confluency.csv", "project/confluency.csv"} <= {f.as_posix() for f in files}
    for file in files:
        assert (tmp_path / "crew" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes()
