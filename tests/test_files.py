"""An atomic write gives the whole new file or leaves the old one."""

import pytest

from imbalkit.files import atomic_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_writes_the_file_and_makes_missing_folders(tmp_path):
    path = tmp_path / "a" / "b" / "result.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent  # os.replace is atomic only on one file system
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["result.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "result.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert names(tmp_path) == ["result.txt"]


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    path = tmp_path / "result.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the inner block ended before the outer one
    assert names(tmp_path) == ["result.txt"]


def test_an_unwritable_folder_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError), atomic_path(tmp_path / "file" / "result.txt"):
        pass


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.write_text("")
    assert (tmp_path / "atomic").stat().st_mode == ordinary.stat().st_mode
