import cv2
import numpy as np
import pytest

from cell_curator.core.image_flags import ImageFlagParameters
from cell_curator.core.jobs import drive
from cell_curator.doubtful_images import image_report, look_at_images
from cell_curator.io.tiff import write_tiff
from cell_curator.session import Session


@pytest.fixture
def project(tmp_path, rng):
    """Seven images of different cells; the second is blurred, the last is the first again."""
    (tmp_path / "images").mkdir()
    pictures = []
    for _ in range(6):
        image = np.full((128, 128), 100.0, np.float32)
        for y, x in rng.integers(12, 116, (15, 2)):
            cv2.circle(image, (int(x), int(y)), 7, 700.0, -1)
        pictures.append(image + rng.normal(0, 8, image.shape).astype(np.float32))
    pictures[1] = cv2.GaussianBlur(pictures[1], (0, 0), 6)
    for number, image in enumerate([*pictures, pictures[0]]):
        write_tiff(tmp_path / "images" / f"field{number}.tif", image.clip(0).astype(np.uint16)[None])
    session = Session.create(tmp_path / "p.curator")
    drive(session.add_images(tmp_path / "images"))
    yield session
    session.close()


def said(session):
    names = {record.image_id: record.name for record in session.images}
    return {names[image]: [flag.key for flag in those] for image, those in image_report(session).flags.items()}


def test_what_looks_wrong_is_kept_with_the_project(project):
    assert image_report(project) is None
    found = drive(look_at_images(project))
    assert said(project) == {"field1": ["focus"], "field6": ["duplicate"]}
    assert found.flags[project.images[6].image_id][0].text == "the same picture as field0"
    assert found.text == "2 of 7 images look wrong"
    assert project.project.journal()["action"].iloc[-1] == "look at images"
    again = Session.open(project.folder)
    assert image_report(again) == found
    again.close()
    project.put(ImageFlagParameters(focus_z=20))
    drive(look_at_images(project))
    assert said(project) == {"field6": ["duplicate"]}


def test_images_that_are_gone_are_told_apart_from_good_ones(project, tmp_path):
    project.images[1].path.unlink()
    found = drive(look_at_images(project))
    assert found.looked_at == 6
    assert found.unread[0][0] == project.images[1].image_id
    assert "no longer there" in found.unread[0][1]
    assert found.text == "1 of 6 images look wrong; 1 cannot be read"


def test_images_that_come_and_go_later(project, tmp_path):
    drive(look_at_images(project))
    project.remove_images([project.images[1].image_id])
    write_tiff(tmp_path / "images" / "new.tif", np.ones((1, 128, 128), np.uint16))
    (tmp_path / "images" / "field1.tif").unlink()
    drive(project.add_images(tmp_path / "images"))
    assert image_report(project).text == "1 of 6 images look wrong; 1 came later"
    project.remove_images([record.image_id for record in project.images])
    assert image_report(project).text == "0 of 0 images look wrong"
    assert drive(look_at_images(project)).flags == {}
