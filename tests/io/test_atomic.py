import errno
import os

import pytest

from cell_curator.core.jobs import UserError
from cell_curator.io.atomic import atomic_file, write_atomic


def test_writes_the_bytes_and_leaves_nothing_else(tmp_path):
    write_atomic(tmp_path / "a.bin", lambda file: file.write(b"cells"))
    assert (tmp_path / "a.bin").read_bytes() == b"cells"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota")])
def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path, number, words):
    path = tmp_path / "labels.tif"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half of the new")
        raise OSError(number, os.strerror(number))

    with pytest.raises(UserError, match=f"labels.tif: .*{words}.*; free some space"):
        write_atomic(path, write)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["labels.tif"]


def test_a_disk_that_fills_up_at_the_flush_is_noticed(tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        write_atomic(tmp_path / "a.bin", lambda file: file.write(b"x"))
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_caller_passes_through_and_nothing_is_left(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "a.bin", lambda file: file.write(b"x" * (1 // 0)))
    with pytest.raises(KeyError), atomic_file(tmp_path / "a.bin"):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_a_missing_folder_and_a_folder_as_target_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="folder does not exist; make the folder first"):
        write_atomic(tmp_path / "none" / "a.bin", lambda file: None)
    with pytest.raises(UserError, match="is a folder; choose another file name"):
        write_atomic(tmp_path, lambda file: None)


def test_an_error_without_a_number_still_names_the_file(tmp_path):
    def write(_file):
        raise OSError("100 requested and 3 written")

    with pytest.raises(UserError, match=r"a\.bin: could not be written \(100 requested"):
        write_atomic(tmp_path / "a.bin", write)


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "real.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to(tmp_path / "real.bin")
    write_atomic(tmp_path / "link.bin", lambda file: file.write(b"new"))
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real.bin").read_bytes() == b"new"
