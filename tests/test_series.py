"""Stacks and time lapses in a project: planes as images, cells with one label through all of them."""

import numpy as np
import pytest
import tifffile

from cell_curator import searching, workflow
from cell_curator.core.jobs import Progress, UserError, drive
from cell_curator.core.recipe import Recipe
from cell_curator.editing import edit
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.volumes import Stack, StackParameters
from cell_curator.io.images import read_image
from cell_curator.kept_flows import recall
from cell_curator.replay import script
from cell_curator.series import join, planes_of
from cell_curator.session import Session

SHAPE = (40, 60)
PLANES = 4
RAW = SegmentParameters(source="raw")


def balls(discs):
    """(4, 40, 60) with two cells: one in all planes, moving; one in the last two."""
    planes = []
    for z in range(PLANES):
        circles = [(12, 12 + z, 6), *([(28, 44, 7)] if z >= 2 else [])]
        planes.append(discs(SHAPE, circles))
    return np.stack(planes)


class Fake:
    """Finds cells by a threshold, numbered from the bottom right so that no plane agrees with another."""

    def __init__(self):
        self.calls = []

    def __call__(self, name, **given):
        self.calls.append((name, given))
        yield Progress(0.5, "looking")
        if name.endswith("segment_stack"):
            return Stack(self.found(given["volume"] > 500), 13.0, ("of the whole stack",))
        labels = self.found(given["image"][0] > 500 if given["image"].ndim == 3 else given["image"] > 500)
        return Segmentation(labels, 13.0, False, np.zeros(labels.max() + 1, np.float32))

    @staticmethod
    def found(mask):
        from scipy import ndimage

        labels, count = ndimage.label(mask)
        return np.where(labels > 0, count + 1 - labels, 0).astype(np.int32)


@pytest.fixture
def folder(tmp_path, discs, rng):
    (tmp_path / "in").mkdir()
    stack = (200 + 800 * (balls(discs) > 0) + rng.normal(0, 20, (PLANES, *SHAPE))).astype(np.uint16)
    tifffile.imwrite(tmp_path / "in" / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "in" / "movie.tif", stack, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(tmp_path / "in" / "single.tif", stack[3])
    return tmp_path / "in"


@pytest.fixture
def session(tmp_path, folder):
    session = Session.create(tmp_path / "a.curator", execute=Fake())
    drive(session.add_images(folder))
    session.put(RAW)
    yield session
    session.close()


def ids(session, title):
    return [record.image_id for record in session.images if record.name.startswith(title)]


def labels_of(session, title):
    return np.stack([session.labels(image_id) for image_id in ids(session, title)])


def check_table(session):
    """Each label has its row, and each row its label."""
    for record in session.images:
        rows = session.cells.of_image(record.image_id)
        labels = session.labels(record.image_id)
        assert sorted(rows["label"]) == [value for value in np.unique(labels) if value]
        for _, row in rows.iterrows():
            assert (labels == row["label"]).sum() == row["area"]


def test_each_plane_is_an_image_of_the_project(session, folder):
    names = [record.name for record in session.images]
    assert names == [*(f"movie [t {n}]" for n in (1, 2, 3, 4)), "single", *(f"stack [z {n}]" for n in (1, 2, 3, 4))]
    for title, axis in (("movie", "T"), ("stack", "Z")):
        records = [session.image(image_id) for image_id in ids(session, title)]
        assert [(record.axis, record.plane) for record in records] == [(axis, n) for n in range(4)]
        for record in records:
            assert np.array_equal(session.pixels(record.image_id), read_image(folder / f"{title}.tif", record.plane))
            assert session.overview(record.image_id).small.any()
        assert planes_of(session, records[2].image_id) == tuple(records)
    reopened = Session.open(session.folder)
    assert reopened.images == session.images
    reopened.close()


def test_adding_again_adds_only_planes_that_are_missing(session, folder):
    assert drive(session.add_images(folder)).added == ()
    stack = ids(session, "stack")
    session.remove_images(stack[1:3])
    added = drive(session.add_images(folder / "stack.tif")).added
    assert [session.image(one).name for one in added] == ["stack [z 2]", "stack [z 3]"]
    assert [record.plane for record in planes_of(session, stack[0])] == [0, 1, 2, 3]


def test_a_single_image_of_the_same_name_gets_another(tmp_path, rng):
    planes = rng.integers(0, 255, (12, 20, 20), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "a.tiff", planes, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "both.tif", planes.reshape(3, 4, 20, 20), imagej=True, metadata={"axes": "TZYX"})
    session = Session.create(tmp_path / "p.curator")
    report = drive(session.add_images(tmp_path))
    assert [name for name, _ in report.failed] == [str(tmp_path / "both.tif")]
    assert "split it" in report.failed[0][1]
    names = [record.name for record in session.images]
    assert len(set(names)) == 24
    assert {"a [z 01]", "a [z 12]", "a.tiff [z 01]"} <= set(names)
    session.close()


def test_planes_on_their_own_are_numbered_on_their_own(session):
    session.put(StackParameters(method="planes"))
    assert drive(session.segment()).done == 9
    assert labels_of(session, "stack")[3, 28, 44] != labels_of(session, "stack")[3, 12, 15] == 2
    assert "stitch" not in set(session.project.journal()["action"])


@pytest.mark.parametrize("title", ["stack", "movie"])
def test_a_cell_that_goes_on_has_the_same_label_in_all_planes(session, discs, title):
    report = drive(session.segment())
    assert report.done == 9
    assert np.array_equal(labels_of(session, title), balls(discs))
    check_table(session)
    assert drive(session.segment(ids(session, title)[:1])).done == 1
    assert np.array_equal(labels_of(session, title), balls(discs))


def test_the_planes_of_a_stack_have_the_diameter_of_the_one_in_the_middle(session):
    drive(session.segment([*ids(session, "stack"), *ids(session, "single")]))
    params = [given["params"] for _, given in session.execute.calls]
    assert [p.diameter for p in params] == [0.0, 13.0, 13.0, 13.0, 0.0]
    assert [p.polarity for p in params] == ["auto", "bright", "bright", "bright", "auto"]
    first = session.execute.calls[0][1]["image"]
    assert np.array_equal(first, session.pixels(ids(session, "stack")[2])[0])
    journal = session.project.journal()
    told = journal.loc[journal["action"] == "segment", "detail"]
    assert [detail["diameter"] for detail in told] == [13.0] * 4 + [0.0]
    assert session.get(SegmentParameters) == RAW


def test_numbers_are_given_anew_to_proposals_only(session, discs):
    drive(session.segment())
    stack = ids(session, "stack")
    cell = session.cell_at(stack[2], 2)
    painted = session.labels(stack[2])
    painted[painted == 2] = 40
    session.set_labels(stack[2], painted)
    cell = session.cell_at(stack[2], 40)
    session.set_verdict([cell], "accepted")
    before = session.row(cell)
    drive(session.segment(stack))
    assert session.row(cell).equals(before)
    found = labels_of(session, "stack")
    assert found[3, 28, 44] == 40, "the cell goes on under the label that a person's cell has"
    assert np.array_equal(found > 0, balls(discs) > 0)
    check_table(session)


def test_a_step_can_be_taken_back_after_labels_were_given_anew(session, discs):
    session.put(StackParameters(method="planes"))
    drive(session.segment())
    stack = ids(session, "stack")
    gone = session.cell_at(stack[3], int(session.labels(stack[3])[12, 15]))
    edit(session, stack[3], "delete", points=[(12, 15)])
    session.put(StackParameters(method="stitch"))
    drive(session.segment(stack[:3]))
    assert session.undo()
    assert gone in session.cells
    assert np.array_equal(labels_of(session, "stack") > 0, balls(discs) > 0)
    check_table(session)
    assert session.redo()
    assert session.labels(stack[3])[12, 15] == 0
    check_table(session)


def test_stitching_again_changes_nothing(session):
    drive(session.segment())
    revisions = [record.labels_revision for record in session.images]
    assert join(session, ids(session, "stack")[0], 0.25) == 0
    assert [record.labels_revision for record in session.images] == revisions


def test_no_cell_goes_on_over_a_plane_that_was_taken_out(session):
    session.remove_images(ids(session, "stack")[1:2])
    drive(session.segment())
    labels = labels_of(session, "stack")
    assert labels[0, 12, 12] != labels[1, 12, 14] == labels[2, 12, 15]


def test_thresholds_taken_over_for_one_plane_keep_the_numbers_of_its_neighbours(session, discs):
    drive(session.segment())
    middle = ids(session, "stack")[2]
    fresh = drive(session.execute("fake:segment_image", image=session.pixels(middle)))
    workflow.take_over(session, middle, fresh, RAW)
    assert np.array_equal(labels_of(session, "stack"), balls(discs))
    check_table(session)


def test_in_3d_the_whole_stack_is_looked_at_once(session, discs):
    session.put(StackParameters(method="3-D"))
    stack = ids(session, "stack")
    report = drive(session.segment([stack[1]]))
    assert report.done == 4
    assert report.notes == ("stack: of the whole stack",)
    ((name, given),) = session.execute.calls
    assert name == "cell_curator.engines.volumes:segment_stack"
    assert np.array_equal(given["volume"], np.stack([session.pixels(one)[0] for one in stack]))
    found = labels_of(session, "stack")
    assert len({found[z, 12, 12 + z] for z in range(4)}) == 1
    assert np.array_equal(found > 0, balls(discs) > 0)
    assert all(recall(session, one, RAW) is None for one in stack)
    check_table(session)


def test_in_3d_what_a_person_decided_stays_and_its_label_is_not_taken(session, discs):
    session.put(StackParameters(method="3-D"))
    stack = ids(session, "stack")
    drive(session.segment(stack))
    cell = session.cell_at(stack[3], int(session.labels(stack[3])[28, 44]))
    session.set_verdict([cell], "locked")
    before = session.row(cell)
    drive(session.segment(stack))
    assert session.row(cell).equals(before)
    found = labels_of(session, "stack")
    assert len({found[z, 12, 12 + z] for z in range(4)}) == 1
    assert found[0, 12, 12] not in found[3][28, 40:48]
    assert np.array_equal(found > 0, balls(discs) > 0)
    check_table(session)


@pytest.mark.parametrize(
    ("title", "parameters", "words"),
    [
        ("movie", RAW, "is a time lapse, and 3-D is for stacks"),
        ("stack", SegmentParameters(source="raw", second_channel=0), "one channel is looked at"),
    ],
)
def test_what_3d_cannot_do_is_said_for_that_file_and_the_others_are_done(session, title, parameters, words):
    session.put(StackParameters(method="3-D"))
    session.put(parameters)
    report = drive(session.segment([*ids(session, title), *ids(session, "single")]))
    assert report.failed[0][0] == title
    assert words in report.failed[0][1]
    assert {session.image(one).state for one in ids(session, title)} == {"failed"}
    assert report.done == 1


def test_in_3d_no_region_and_no_stack_with_gaps(session):
    session.put(StackParameters(method="3-D"))
    with pytest.raises(UserError, match="take the region away"):
        drive(session.segment(ids(session, "stack"), (0, 0, 10, 10)))
    session.remove_images(ids(session, "stack")[:1])
    assert "plane 1 is not in the project" in drive(session.segment(ids(session, "stack"))).failed[0][1]


@pytest.mark.parametrize("method", ["stitch", "3-D"])
def test_a_replay_gives_the_same_labels(session, tmp_path, method):
    session.put(StackParameters(method=method))
    stack = ids(session, "stack")
    drive(session.segment([*stack, *ids(session, "single")]))
    session.set_verdict([session.cell_at(stack[1], int(session.labels(stack[1])[12, 13]))], "accepted")
    drive(session.segment(stack[:3]))
    fresh = drive(session.execute("fake:segment_image", image=session.pixels(stack[3])))
    workflow.take_over(session, stack[3], fresh, RAW)
    text = script(session.project)
    from cell_curator import replay

    class Again(replay.Replay):
        def __init__(self, folder):
            self.session = Session.create(folder, execute=Fake())

        def close(self):
            """Left open to be looked at."""

    made = {}
    source = text.replace("from cell_curator.replay import Replay\n", "").replace("sys.argv[1]", "folder")
    exec(compile(source, "replay", "exec"), {"Replay": Again, "folder": tmp_path / "again.curator"}, made)
    again = made["work"].session
    assert [record.name for record in again.images] == [record.name for record in session.images]
    assert [(record.axis, record.plane) for record in again.images] == [(r.axis, r.plane) for r in session.images]
    for record in session.images:
        assert np.array_equal(again.labels(record.image_id), session.labels(record.image_id)), record.name
    again.close()


def test_folders_are_turned_by_the_votes_of_all_planes(session, monkeypatch):
    seen = []
    monkeypatch.setattr(searching, "vote", lambda pixels, recipe: seen.append(pixels.sum()) or 3.0)
    recipe = session.get(Recipe)
    rotate = recipe.rotate.model_copy(update={"enabled": True, "shared": True})
    session.put(recipe.model_copy(update={"rotate": rotate}))
    drive(session.prepare_images(ids(session, "stack")))
    assert len(set(seen)) == len(seen) - PLANES - 1, "movie and stack hold the same pixels, and so does the single one"
