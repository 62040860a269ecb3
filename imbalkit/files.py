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


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there replaces `path` at the end.

    A reader sees the old file or the whole new one, never a part, and so does whoever reads after a
    power cut: the new file is on the disk when the block has ended. If the block fails or is
    interrupted, the temporary file is removed and the old file stays. What a killed process left of
    a write to the same file is removed by a later one, after an hour. Missing folders are made.

    Raises OSError where the folder cannot be made or written.
    """
    path = Path(path)
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    changed = [path.parent, *(one.parent for one in path.parents if not one.exists())]
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)
    # A unique name lets two processes write the same file at once; a name rather than
    # `tempfile.mkstemp` lets the file have the usual permissions, so that others may read it.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # else the name may reach the disk before the content
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    for folder in changed:
        sync_folder(folder)


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
