"""An atomic write gives the whole new file or leaves the old one."""

import errno
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

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


def test_what_a_killed_process_left_goes_with_a_later_write_and_nothing_else(tmp_path):
    path, hour = tmp_path / "result.txt", 3600
    mine = ".result.txt.0123456789ab.partial"
    others = [".other.txt.0123456789ab.partial", "result.txt.old", ".result.txt.notes"]
    for name in (mine, *others):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (0, time.time() - hour - 60))
    with atomic_path(path) as other:
        other.write_text("of a process that lives")
        with atomic_path(path) as temporary:
            temporary.write_text("whole")
        assert other.exists()
    assert names(tmp_path) == sorted([*others, "result.txt"])


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_what_names_no_file_is_an_os_error(path):
    with pytest.raises(OSError, match="directory"), atomic_path(path):
        pass


# --- a power cut


class Disk:
    """What is on the disk, if nothing reaches it that was not synced: contents by inode, names.

    It listens to the calls of the process, and is as hostile as POSIX allows it to be.
    """

    def __init__(self, monkeypatch, folder):
        self.contents, self.names = {}, {folder.stat().st_ino: {}}
        fsync = os.fsync

        def note(number):
            fsync(number)
            inode = os.fstat(number).st_ino
            path = Path(f"/proc/self/fd/{number}").resolve()
            if path.is_dir():
                self.names[inode] = {p.name: p.stat().st_ino for p in path.iterdir()}
            else:
                self.contents[inode] = path.read_bytes()

        monkeypatch.setattr(os, "fsync", note)

    def read(self, folder, *names):
        """What a file holds after a cut: None if it is not there, b"" if its bytes are lost."""
        inode = folder.stat().st_ino
        for name in names:
            if (inode := self.names.get(inode, {}).get(name)) is None:
                return None
        return self.contents.get(inode, b"")


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc")


@needs_proc
def test_a_written_file_is_there_after_a_power_cut_at_any_later_moment(tmp_path, monkeypatch):
    disk = Disk(monkeypatch, tmp_path)
    for content in (b"new", b"newer"):
        with atomic_path(tmp_path / "result.bin") as temporary:
            temporary.write_bytes(content)
        assert disk.read(tmp_path, "result.bin") == content


@needs_proc
def test_so_is_one_in_folders_that_were_made_for_it(tmp_path, monkeypatch):
    disk = Disk(monkeypatch, tmp_path)
    with atomic_path(tmp_path / "a" / "b" / "result.bin") as temporary:
        temporary.write_bytes(b"new")
    assert disk.read(tmp_path, "a", "b", "result.bin") == b"new"


@needs_proc
def test_the_content_is_on_the_disk_before_the_name(tmp_path, monkeypatch):
    disk, replace = Disk(monkeypatch, tmp_path), os.replace

    def cut(old, new):
        assert disk.contents[Path(old).stat().st_ino] == b"new"
        replace(old, new)

    monkeypatch.setattr(os, "replace", cut)
    with atomic_path(tmp_path / "result.bin") as temporary:
        temporary.write_bytes(b"new")


def test_a_file_system_that_cannot_sync_a_folder_is_no_error(tmp_path, monkeypatch):
    def refuse(number):
        if stat.S_ISDIR(os.fstat(number).st_mode):
            raise OSError(refuse.errno, "as told")

    monkeypatch.setattr(os, "fsync", refuse)
    refuse.errno = errno.EINVAL
    with atomic_path(tmp_path / "result.txt") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["result.txt"]
    refuse.errno = errno.EIO  # a broken disk is another matter
    with pytest.raises(OSError, match="as told"), atomic_path(tmp_path / "result.txt") as temporary:
        temporary.write_text("whole")


def mounted(image, folder):
    """Mount an ext4 image as the system does by itself, or skip the test."""
    folder.mkdir()
    done = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no image can be mounted here: {done.stderr.strip()}")
    return folder


def made_image(path):
    path.write_bytes(b"")
    os.truncate(path, 8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_journal_init=1", path], check=True)
    return path


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() or not shutil.which("mkfs.ext4"),
    reason="only root mounts an image, and ext4 has to be there",
)
def test_a_power_cut_on_ext4(tmp_path):
    """The image is copied while it is mounted: what the copy holds is what a cut would leave."""
    image, cut = made_image(tmp_path / "disk"), tmp_path / "disk after the cut"
    content = bytes(range(256)) * 400
    disk = mounted(image, tmp_path / "now")
    try:
        with atomic_path(disk / "new folder" / "with.bin") as temporary:
            temporary.write_bytes(content)
        (disk / "later.bin").write_bytes(content)  # never synced: the cut takes it
        shutil.copyfile(image, cut)
        after = mounted(cut, tmp_path / "after")
        try:
            assert (after / "new folder" / "with.bin").read_bytes() == content
            assert not (after / "later.bin").exists(), "the cut is none"
        finally:
            subprocess.run(["umount", after], check=True)
    finally:
        subprocess.run(["umount", disk], check=True)
