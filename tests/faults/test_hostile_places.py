"""Full disks, folders that cannot be written, files cut while they are read, clocks, odd names, two processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cell_curator.core.jobs import UserError, drive
from cell_curator.exchange import export
from cell_curator.io.formats.registry import by_name
from cell_curator.io.images import read_image
from cell_curator.io.labels import read_labels
from cell_curator.io.tiff import write_tiff
from cell_curator.repairing import repair
from cell_curator.resuming import cells_key
from cell_curator.session import Session
from small_project import execute, session  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))

from killable import Killable


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 3 MB of its own; needs the right to mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = sys.platform == "linux" and os.geteuid() == 0
    if mounted:
        asked = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)]
        mounted = subprocess.run(asked, capture_output=True, check=False).returncode == 0
    if not mounted:
        pytest.skip("a small disk can only be mounted by root on Linux")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def lines_only(action):
    """Do it; what it says if it is refused, which must be one line that helps."""
    try:
        action()
    except UserError as error:
        said = str(error)
        assert "\n" not in said
        assert ";" in said, f"no remedy: {said}"
        return said
    return ""


def test_a_full_disk_costs_the_action_in_hand_and_nothing_else(session, small_disk, rng):  # noqa: F811
    session.set_verdict(session.cells.frame.index, "accepted")
    session.close()
    shutil.copytree(session.folder, small_disk / "p.curator")
    here = Session.open(small_disk / "p.curator")
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    said = set()
    for step in range(12):
        before, image = here.cells.frame.copy(), here.images[step % 2].image_id
        noise = here.labels(image)
        noise[rng.random(noise.shape) < 0.5] = 50 + step
        for action in (
            lambda image=image, noise=noise: here.set_labels(image, noise),
            lambda step=step: here.set_verdict(here.cells.frame.index[:3], ("rejected", "edited")[step % 2]),
            lambda: drive(export(here, small_disk / "out", by_name("tiff"))),
        ):
            refused = lines_only(action)
            said.add(refused)
            assert not refused or here.cells.frame.index.equals(before.index) or len(here.cells) >= 8
        assert here.project.cells().frame.equals(here.cells.frame), "what is seen is not what is stored"
    assert any("full" in line for line in said)
    here.close()
    lines_only(lambda: Session.open(small_disk / "p.curator").close())
    ballast.unlink()
    again = Session.open(small_disk / "p.curator")
    assert again.cells.frame.equals(here.cells.frame)
    again.set_verdict(again.cells.frame.index[:1], "locked")
    again.close()


def test_a_disk_that_becomes_read_only_is_looked_at_and_said(session, small_disk):  # noqa: F811
    session.close()
    shutil.copytree(session.folder, small_disk / "p.curator")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    here = Session.open(small_disk / "p.curator")
    assert "cannot be written" in here.project.read_only
    assert len(here.cells) == 8
    assert here.labels(1).any()
    before = here.cells.frame.copy()
    assert "cannot be written" in lines_only(lambda: here.set_verdict(before.index, "accepted"))
    assert here.cells.frame.equals(before)
    here.close()
    assert lines_only(lambda: drive(repair(small_disk / "p.curator")))
    assert lines_only(lambda: Session.create(small_disk / "q.curator"))


@pytest.mark.parametrize(
    "kind", ["window", *(pytest.param(k, marks=pytest.mark.slow) for k in ("plain", "packed", "stack"))]
)
def test_an_image_that_is_cut_while_it_is_read_is_one_line(tmp_path, rng, kind):
    """In a process of its own, which a mapped file would end without a word."""
    grey, path = (rng.random((3, 300, 300)) * 60000).astype(np.uint16), tmp_path / "i.tif"
    if kind == "packed":
        write_tiff(path, grey)
    else:
        tifffile.imwrite(path, grey, imagej=True, metadata={"axes": "ZYX" if kind == "stack" else "CYX"})
    read = {"stack": "read_image(path, 2)", "window": "open_large(path)[:, 20:280, 30:200]"}.get(
        kind, "read_image(path)"
    )
    code = f"""
import sys, time
from cell_curator.core.jobs import UserError
from cell_curator.io.blocks import open_large
from cell_curator.io.images import read_image
path, end, said, fine = sys.argv[1], time.monotonic() + 1.0, set(), 0
while time.monotonic() < end:
    try:
        {read}
        fine += 1
    except UserError as error:
        said.add(str(error))
assert not any(chr(10) in line for line in said)
print(fine, len(said))
"""
    reader = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    whole, pause = path.read_bytes(), np.random.default_rng(1)
    while reader.poll() is None:
        with path.open("r+b") as file:
            file.truncate(int(pause.integers(len(whole))))
            time.sleep(float(pause.uniform(0, 0.01)))
            file.seek(0)
            file.write(whole)
        time.sleep(float(pause.uniform(0, 0.01)))
    fine, _ = map(int, reader.stdout.read().split())
    reader.stdout.close()
    assert reader.returncode == 0
    assert fine
    assert read_image(path, 0 if kind == "stack" else None).shape[-2:] == (300, 300)


def test_a_clock_set_back_confuses_nothing(session, monkeypatch, tmp_path):  # noqa: F811
    key = cells_key(session, session.images[0])
    session.set_verdict(session.cells.frame.index[:2], "accepted")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 10 * 365 * 86400)
    monkeypatch.setattr("cell_curator.io.project.now", lambda: "2015-01-01T00:00:00.000+00:00")
    session.set_verdict(session.cells.frame.index[2:4], "rejected")
    path = session.images[0].path
    image = read_image(path)
    image[..., :9] += 1
    write_tiff(path, image)
    os.utime(path, (0, 0))
    assert cells_key(session, session.images[0]) != key
    session.close()
    again = Session.open(session.folder)
    assert again.project.journal()["action"].tolist()[-2:] == ["verdict", "verdict"]
    assert again.cells.frame["verdict"].tolist()[:4] == ["accepted", "accepted", "rejected", "rejected"]
    assert again.project.reserve_cell_ids(1)[0] > again.cells.frame.index.max()
    again.close()


ODD = ("with two  spaces", "Zellkerne µm – 细胞 核", "100% #1 & so?on=x::y", "[a-z]*{b}'s", "n" * 200, "-rf", "café")


@pytest.mark.parametrize("name", ODD)
def test_a_project_may_lie_anywhere(tmp_path, discs, name):
    images = tmp_path / name / "images" / name[:40]
    images.mkdir(parents=True)
    labels = discs((60, 60), [(20, 20, 8), (40, 40, 9)])
    write_tiff(images / f"{name[:40]}.tif", (200 + 800 * (labels > 0)).astype(np.uint16)[None])
    made = Session.create(tmp_path / name / f"{name[:60]}.curator")
    drive(made.add_images(images.parent))
    made.set_labels(1, labels)
    made.set_verdict(made.cells.frame.index, "accepted")
    made.prepare(1)
    for form in ("tiff", "ome-zarr", "csv", "cellpose"):
        drive(export(made, tmp_path / name / f"out {form}", by_name(form)))
    made.close()
    (tif,) = (tmp_path / name / "out tiff").rglob("*.tif")
    assert np.array_equal(read_labels(tif) > 0, labels > 0)
    assert drive(repair(made.folder)).notes == ()
    again = Session.open(made.folder)
    assert again.cells.frame["verdict"].tolist() == ["accepted", "accepted"]
    assert np.array_equal(again.labels(1), labels)
    again.close()


@pytest.mark.slow
def test_whoever_only_looks_sees_whole_states_while_another_process_writes(session):  # noqa: F811
    folder, ids = session.folder, session.cells.frame.index
    session.close()
    editing = Killable("editing")
    worker = threading.Thread(target=editing, args=(folder, 1, 6.0))
    worker.start()
    while not (folder / "project.owner").exists():
        time.sleep(0.01)
    seen = set()
    while worker.is_alive():
        looking = Session.open(folder)
        if looking.project.read_only:
            frame = looking.cells.frame
            assert frame.index.is_unique
            seen.add(len(looking.project.journal()))
            for record in looking.images:
                assert looking.project.labels(record).shape == record.shape[1:]
            assert "is open elsewhere" in lines_only(lambda here=looking: here.set_verdict(ids[:1], "accepted"))
        looking.close()
    worker.join()
    editing.close()
    assert len(seen) > 1, "nothing was written meanwhile"
    again = Session.open(folder)
    assert again.project.read_only == ""
    again.close()
