"""A second run redoes what would come out differently, and nothing else."""

import numpy as np
import pandas as pd
import pytest
from skimage.measure import label

from cell_curator.core.clustering import ClusterParameters
from cell_curator.core.embedding import MapParameters
from cell_curator.core.jobs import Progress, drive
from cell_curator.core.recipe import Recipe
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.vae import VaeParameters
from cell_curator.engines.worker import inline
from cell_curator.foretelling import foretell
from cell_curator.io.tiff import write_tiff
from cell_curator.resuming import to_search
from cell_curator.session import Session

SHAPE = (90, 90)


class Engine:
    """Stands in for the network: bright is a cell. Counts how often it was asked."""

    def __init__(self):
        self.searched = 0
        self.learned = 0

    def __call__(self, target, /, **arguments):
        if not target.endswith(":segment_image"):
            self.learned += target.endswith(":map_cells")
            return (yield from inline(target, **arguments))
        yield Progress(0.5, "looking")
        self.searched += 1
        found = label(arguments["image"] > 0.5).astype(np.int32)
        return Segmentation(found, 14.0, False, np.zeros(found.max() + 1, np.float32))


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def images(tmp_path, discs, rng):
    (tmp_path / "images").mkdir()
    for number in range(3):
        places = [(12 + 22 * (n // 4), 12 + 22 * (n % 4), 5 + number) for n in range(16)]
        image = (200 + 800 * (discs(SHAPE, places) > 0) + rng.normal(0, 20, SHAPE)).astype(np.uint16)
        write_tiff(tmp_path / "images" / f"{number}.tif", image[None])
    return tmp_path / "images"


@pytest.fixture
def session(images, tmp_path, engine):
    made = Session.create(tmp_path / "p.curator", execute=engine)
    drive(made.add_images(images))
    for parameters in (VaeParameters(latent=4, steps=4, width=4), MapParameters(method="pca"),
                       ClusterParameters(method="kmeans", k=2)):  # fmt: skip
        made.put(parameters)
    drive(made.run())
    yield made
    made.close()


def cells(session):
    return session.cells.frame.drop(columns="corrected")


def test_nothing_is_done_twice(session, engine):
    before = cells(session)
    report = drive(session.run())
    assert (engine.searched, engine.learned) == (3, 1)
    assert (report.segmented.done, report.segmented.kept) == (0, 3)
    pd.testing.assert_frame_equal(cells(session), before, rtol=1e-12)
    drive(session.run(again=True))
    assert (engine.searched, engine.learned) == (6, 2)


def another_threshold(session):
    session.put(SegmentParameters(cellprob_threshold=1.0))


def another_recipe(session):
    recipe = session.get(Recipe)
    clahe = recipe.clahe.model_copy(update={"enabled": not recipe.clahe.enabled})
    session.put(recipe.model_copy(update={"clahe": clahe}))


@pytest.mark.parametrize("change", [another_threshold, another_recipe])
def test_what_the_cells_follow_from_makes_them_new(session, engine, change):
    change(session)
    drive(session.run())
    assert engine.searched == 6


def test_another_number_of_threads_does_not(session, engine):
    session.put(session.get(SegmentParameters).model_copy(update={"threads": 1}))
    drive(session.run())
    assert engine.searched == 3


def test_only_the_image_that_changed_is_searched(session, engine, images, discs):
    image = (200 + 800 * (discs(SHAPE, [(45, 45, 9)]) > 0)).astype(np.uint16)
    write_tiff(images / "1.tif", image[None])
    assert [record.name for record in to_search(session, session.images)] == ["1"]
    report = drive(session.run())
    assert (engine.searched, engine.learned) == (4, 2)
    assert report.segmented.kept == 2


def test_a_killed_run_goes_on_where_it_was(images, tmp_path, engine, session):
    """Stopped after the first image and opened again, it ends with the table of a run that was never stopped."""
    whole = cells(session)
    second = Session.create(tmp_path / "q.curator", execute=Engine())
    drive(second.add_images(images))
    for model in (VaeParameters, MapParameters, ClusterParameters):
        second.put(session.get(model))
    job = second.run()
    while second.execute.searched < 2:
        next(job)
    job.close()
    second.close()
    again = Session.open(tmp_path / "q.curator", execute=Engine())
    report = drive(again.run())
    assert report.segmented.kept == 1
    assert again.execute.searched == 2
    pd.testing.assert_frame_equal(cells(again), whole, rtol=1e-12)
    np.testing.assert_array_equal(again.embedding.latent, session.embedding.latent)
    again.close()


def test_cells_that_somebody_changed_are_left_and_the_map_made_anew(session, engine):
    first = session.cells.frame.index[0]
    session.set_verdict([first], "rejected")
    drive(session.run())
    assert (engine.searched, engine.learned) == (3, 2)
    assert session.row(first)["verdict"] == "rejected"


def test_what_would_be_done_is_said_and_not_done(session, engine, images, discs):
    write_tiff(images / "new.tif", np.zeros((1, *SHAPE), np.uint16))
    (images / "broken.png").write_bytes(b"no picture")
    before = session.project.journal()
    plan = foretell(images, session)
    assert (plan.to_add, plan.to_search, plan.kept, plan.new_map) == (1, 1, 3, True)
    assert [file.endswith("broken.png") for file, _ in plan.unreadable] == [True]
    assert plan.seconds > 0
    assert "1 image would be searched" in plan.text
    assert session.project.journal().equals(before)
    assert engine.searched == 3
    assert foretell(images, None).to_search == 4
    session.suppose(SegmentParameters(diameter=30))
    assert foretell(images, session).to_search == 4
