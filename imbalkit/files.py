"""Writing files so that neither an interrupted write nor a power cut leaves half a file behind."""

import contextlib
import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ABANDONED = 3600.0  # seconds without a byte after which nobody writes an unfinished file any more
# What a system answers that cannot sync a folder, or lets nobody open this one.
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)
# What it answers where the disk, or the part of it that one may use, is full.
FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))  # Windows has no quota of that name


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there replaces `path` at the end.

    A reader sees the old file or the whole new one, never a part, and so does whoever reads after a
    power cut: the new file is on the disk when the block has ended. If the block fails or is
    interrupted, the temporary file is removed and the old file stays. What a killed process left of
    a write to the same file is removed by a later one, after an hour. Missing folders are made.

    Args:
        path: the file to write.

    Raises:
        OSError: the folder cannot be made or written; it says so where the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder, "new", "notes.txt")) as temporary:
        ...         _ = temporary.write_text("whole")
        ...     Path(folder, "new", "notes.txt").read_text()
        'whole'
    """
    path = Path(path)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    changed = [path.parent, *(one.parent for one in path.parents if not one.exists())]
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    temporary = beside(path)
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # else the name may reach the disk before the content
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in FULL:
            full = "the disk is full, so this file was not written; make room and try again"
            raise OSError(error.errno, full, str(path)) from error
        raise
    for folder in changed:
        sync_folder(folder)


def beside(path: Path) -> Path:
    """The name of a temporary file that will become `path`."""
    # A unique name lets two processes write the same file at once; a name rather than
    # `tempfile.mkstemp` lets the file have the usual permissions, so that others may read it.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")


def check_writable(path: str | os.PathLike) -> None:
    """Can `atomic_path` write this file? To find out, a file is written beside it, and removed.

    Missing folders are made.

    Raises:
        ValueError: it cannot; the sentence says why.

    Example:
        >>> check_writable("/")
        Traceback (most recent call last):
        ValueError: the file '/' cannot be written: it is a folder; name a file in a folder that ...
    """
    try:
        if os.fspath(path) == "" or Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(Path(path))
        try:
            temporary.write_bytes(b"1")
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, TypeError, ValueError) as error:  # the last for a name with a null in it
        reason = getattr(error, "strerror", None) or error
        if isinstance(error, FileExistsError | NotADirectoryError):
            reason = "a file stands where its folder would be"
        raise ValueError(
            f"the file {str(path)!r} cannot be written: {reason}; name a file in a folder that you "
            "may write to."
        ) from error


def remove_abandoned(path: Path) -> None:
    """Remove the unfinished files of processes that were killed as they wrote `path`."""
    with contextlib.suppress(OSError):  # of another user, or removed by another process
        for left in path.parent.iterdir():
            unfinished = left.name.startswith(f".{path.name}.") and left.suffix == ".partial"
            if unfinished and time.time() - left.stat().st_mtime > ABANDONED:
                left.unlink()


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can be asked for it."""
    if os.name == "nt":
        return
    try:
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


__all__ = ["atomic_path", "check_writable"]
