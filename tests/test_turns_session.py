"""Turns live with the project: set by hand, shared by a folder, found again when they must be."""

from __future__ import annotations

import pytest

from cell_curator import searching
from cell_curator.core.jobs import drive
from cell_curator.core.recipe import Recipe, Rotate
from cell_curator.core.turns import Turns
from cell_curator.io.tiff import write_tiff
from cell_curator.samples.scenes import nuclei_on_grooves
from cell_curator.session import Session

SHARED = Recipe(rotate=Rotate(enabled=True, shared=True))


@pytest.fixture
def folder(tmp_path):
    """Two folders of two images, with grooves in another direction each."""
    for name, angle in (("a", 20.0), ("b", -35.0)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for seed in range(2):
            scene = nuclei_on_grooves(seed, size=256, count=12, angle_deg=angle + seed)
            write_tiff(tmp_path / "images" / name / f"{name}{seed}.tif", scene.image)
    return tmp_path


@pytest.fixture
def project(folder):
    session = Session.create(folder / "images.curator")
    drive(session.add_images(folder / "images"))
    yield session
    session.close()


@pytest.fixture
def votes(monkeypatch):
    """Counts for how many images grooves were looked for."""
    seen = []
    inner = searching.vote
    monkeypatch.setattr(searching, "vote", lambda pixels, recipe: seen.append(recipe) or inner(pixels, recipe))
    return seen


def angles(session):
    return {record.name.rsplit("/", 1)[-1]: record.angle_deg for record in session.images}


def test_an_angle_set_by_hand_is_there_when_the_project_is_opened_again(project):
    first, second = project.images[:2]
    told = []
    project.events.parameters_changed.connect(told.append)
    project.put(Recipe(rotate=Rotate(enabled=True)))
    project.set_turn(first.image_id, 12.25)
    assert "Turns" in told
    project.close()
    with_turns = Session.open(project.folder)
    try:
        assert with_turns.get(Turns).by_hand == {first.image_id: 12.25}
        assert with_turns.prepare(first.image_id).angle_deg == 12.25
        assert with_turns.prepare(second.image_id).angle_deg != 12.25
        with_turns.set_turn(first.image_id, None)
        assert with_turns.get(Turns).by_hand == {}
        assert with_turns.prepare(first.image_id).angle_deg != 12.25
    finally:
        with_turns.close()


def test_applying_to_all_images_keeps_the_angle_set_by_hand(project):
    first = project.images[0]
    project.put(SHARED)
    project.set_turn(first.image_id, 3.5)
    drive(project.prepare_images())
    found = angles(project)
    assert found.pop("a0") == 3.5
    assert 3.5 not in found.values()
    project.set_turn(first.image_id, None)
    drive(project.prepare_images())
    assert angles(project)["a0"] == angles(project)["a1"]


def test_one_angle_for_each_folder_is_found_once(project, votes):
    project.put(SHARED)
    drive(project.prepare_images())
    assert len(votes) == 4
    first = angles(project)
    assert first["a0"] == first["a1"] != first["b0"] == first["b1"]
    drive(project.prepare_images())
    drive(project.prepare_images([project.images[0].image_id]))
    assert len(votes) == 4
    assert angles(project) == first


def test_another_way_to_find_the_angle_finds_it_again(project, votes):
    project.put(SHARED)
    drive(project.prepare_images())
    tensor = project.get(Turns)
    project.put(SHARED.model_copy(update={"rotate": Rotate(enabled=True, shared=True, method="hough")}))
    assert project.recipe_for(project.images[0].image_id).rotate.method == "hough"  # the old angle does not count
    drive(project.prepare_images())
    assert len(votes) == 8
    hough = project.get(Turns)
    assert hough.found_for != tensor.found_for
    assert set(hough.shared) == set(tensor.shared)
    for path, angle in hough.shared.items():
        assert abs(angle - tensor.shared[path]) < 3


def test_a_folder_that_is_added_later_gets_its_angle(project, votes, folder):
    project.put(SHARED)
    drive(project.prepare_images())
    (folder / "more").mkdir()
    write_tiff(folder / "more" / "c.tif", nuclei_on_grooves(7, size=256, count=12, angle_deg=55).image)
    drive(project.add_images(folder / "more"))
    drive(project.prepare_images())
    assert len(votes) == 4 + 5
    assert len(project.get(Turns).shared) == 3


def test_an_image_that_cannot_be_read_has_no_vote_and_the_others_agree(project, votes):
    project.put(SHARED)
    project.images[0].path.unlink()
    report = drive(project.prepare_images())
    assert report.done == 3
    assert len(report.failed) == 1
    assert len(votes) == 3
    assert angles(project)["a1"] is not None


def test_the_hash_of_the_recipe_is_kept_whoever_set_the_angle(project):
    project.put(SHARED)
    project.set_turn(project.images[0].image_id, 8.0)
    drive(project.prepare_images())
    assert {record.recipe_hash for record in project.images} == {SHARED.hash}
