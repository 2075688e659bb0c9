import shutil

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.turns import Turns
from cell_curator.io.tiff import write_tiff
from cell_curator.relocating import missing, relocate
from cell_curator.replay import script
from cell_curator.session import Session
from small_project import execute, session  # noqa: F401


@pytest.fixture
def moved(session, tmp_path):  # noqa: F811
    """The project of two images, whose folder was moved; its new place."""
    shutil.move(tmp_path / "images", tmp_path / "archive" / "2026")
    session._pixels = type(session._pixels)()
    return session, tmp_path / "archive"


def test_what_is_missing_is_said_with_where_it_was(session, tmp_path):  # noqa: F811
    assert missing(session).text == ""
    assert not missing(session).images
    first, second = session.images
    first.path.unlink()
    assert missing(session).text == f"{first.path.name} is not where it was: {first.path.parent}"
    second.path.unlink()
    gone = missing(session)
    assert gone.files == (first.path, second.path)
    assert gone.text == f"2 image files are not where they were: {first.path.parent} and 1 other folder"


def test_images_are_found_in_their_new_place_whatever_level_is_pointed_to(moved):
    session, archive = moved  # noqa: F811
    before = session.cells.frame
    done = drive(relocate(session, archive))
    assert len(done.found) == 2
    assert not done.failed
    assert not missing(session).images
    assert [record.path for record in session.images] == [
        archive / "2026" / name / f"{name}.tif" for name in ("control", "treated")
    ]
    assert session.pixels(session.images[0].image_id).shape == (1, 64, 80)
    assert session.cells.frame.equals(before)
    journal = session.project.journal()
    assert journal["action"].tolist()[-2:] == ["relocate", "relocate"]
    assert journal["detail"].iloc[-1]["new"] == str(session.images[1].path)
    again = Session.open(session.folder)
    assert [record.path for record in again.images] == [record.path for record in session.images]
    again.close()
    with pytest.raises(UserError, match="nothing to look for"):
        drive(relocate(session, archive))


def test_only_what_is_asked_for_and_one_folder_at_a_time(moved):
    session, archive = moved  # noqa: F811
    control = session.images[0].path.parent
    done = drive(relocate(session, archive / "2026" / "control", old=control))
    assert [old.name for old, _ in done.found] == ["control.tif"]
    assert [record.name for record in missing(session).images] == ["treated/treated"]


def test_another_image_of_that_name_is_refused(moved, rng):
    session, archive = moved  # noqa: F811
    own = archive / "2026" / "control" / "control.tif"
    write_tiff(own, rng.integers(0, 300, (1, 64, 80)).astype(np.uint16))  # same size, other cells
    write_tiff(archive / "2026" / "treated" / "treated.tif", np.zeros((1, 32, 80), np.uint16))
    done = drive(relocate(session, archive))
    assert not done.found
    assert "its cells differ" in done.failed[0][1]
    assert "1 × 32 × 80 in place of 1 × 64 × 80" in done.failed[1][1]
    assert len(missing(session).images) == 2
    assert done.text.startswith("0 of 2 image files found again; ")


def test_two_files_that_fit_as_well_are_not_guessed_between(moved):
    session, archive = moved  # noqa: F811
    shutil.copytree(archive / "2026", archive / "copy")
    done = drive(relocate(session, archive))
    assert not done.found
    assert "may be" in done.failed[0][1]
    assert len(drive(relocate(session, archive / "copy")).found) == 2


def test_images_of_one_name_in_two_folders_find_their_own(tmp_path, rng):
    for condition in ("control", "treated"):
        (tmp_path / "old" / condition).mkdir(parents=True)
        write_tiff(tmp_path / "old" / condition / "a.tif", rng.integers(0, 999, (1, 16, 16)).astype(np.uint16))
    session = Session.create(tmp_path / "p.curator")  # noqa: F811
    drive(session.add_images(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    drive(relocate(session, tmp_path / "new" / "treated"))  # of control's file there is none below it
    assert [record.path.parent.name for record in missing(session).images] == ["control"]
    drive(relocate(session, tmp_path / "new"))
    assert [record.path for record in session.images] == [
        tmp_path / "new" / c / "a.tif" for c in ("control", "treated")
    ]
    for record in session.images:
        flat = tmp_path / "flat"
        flat.mkdir(exist_ok=True)
        record.path.rename(flat / "a.tif")  # the second takes the first one's place
    assert not drive(relocate(session, tmp_path / "flat")).found  # whose is it?
    session.close()


def test_what_failed_for_want_of_the_file_is_well_again_and_the_angle_goes_along(moved):
    session, archive = moved  # noqa: F811
    old = str(session.images[0].path.parent)
    session.put(Turns(shared={old: 12.0}))
    drive(session.prepare_images())
    assert [record.state for record in session.images] == ["failed", "failed"]
    drive(relocate(session, archive))
    assert [(record.state, record.note) for record in session.images] == [("segmented", "")] * 2
    assert session.get(Turns).shared == {str(session.images[0].path.parent): 12.0}


def test_a_folder_without_images_says_so(moved, tmp_path):
    session, _ = moved  # noqa: F811
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        drive(relocate(session, tmp_path / "empty"))
    with pytest.raises(UserError, match="does not exist"):
        drive(relocate(session, tmp_path / "nowhere"))


def test_work_on_moved_images_is_done_again_from_their_new_place(moved, tmp_path):
    session, archive = moved  # noqa: F811
    drive(relocate(session, archive))
    archive.rename(tmp_path / "again")
    session._pixels = type(session._pixels)()
    drive(relocate(session, tmp_path / "again"))
    told = script(session.project)
    for record in session.images:
        assert f"work.add_image({record.name!r}, {str(record.path)!r}" in told
    assert str(tmp_path / "images") not in told
