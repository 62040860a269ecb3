"""A hidden folder for unfinished work, which the next process takes over where one was killed.

A lock on a file ends with the process that holds it, however that ends. So a folder whose lock is
free was left behind.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = "lock"


@contextmanager
def workplace(root: Path, prefix: str) -> Iterator[Path]:
    """Yield a folder in `root` for this process alone, and remove it at the end.

    One that was left behind is taken over with what is in it; others that were are removed. On a
    file system without locks it is always a new one. The work of lesson 00's download.

    Args:
        root: the folder in which it is to lie.
        prefix: how its name begins; it should say for what work, and begin with a dot.

    Example:
        >>> with tempfile.TemporaryDirectory() as root, workplace(Path(root), ".work-") as folder:
        ...     folder.name.startswith(".work-")
        True
    """
    try:
        folder, lock = _left_behind(root, prefix) or _new(root, prefix)
    except OSError:  # there are no locks here
        folder, lock = Path(tempfile.mkdtemp(prefix=prefix, dir=root)), None
    try:
        yield folder
    finally:
        _remove(folder, lock)


def _left_behind(root: Path, prefix: str) -> tuple[Path, IO] | None:
    """A folder of a process that has ended, now locked; of several the others are removed."""
    found = None
    for folder in sorted(root.glob(f"{prefix}*")):
        if lock := _lock(folder):
            if found:
                _remove(folder, lock)
            else:
                found = folder, lock
    return found


def _new(root: Path, prefix: str) -> tuple[Path, IO]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
        if lock := _lock(folder):  # not, where another process just took it for left behind
            return folder, lock


def _lock(folder: Path) -> IO | None:
    """The lock of a folder, as an open file; None where another process holds it or it is gone.

    Raises OSError on a file system without locks.
    """
    try:
        file = (folder / LOCK).open("ab")
    except OSError:  # removed by its owner, or a folder of another user
        return None
    try:
        # The last owner may have removed the folder between the two steps.
        if _is_ours(file) and (folder / LOCK).exists():
            return file
    except OSError:
        file.close()
        raise
    file.close()
    return None


def _is_ours(file: IO) -> bool:
    """Lock an open file, unless another process has."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # Unix and Windows say "taken" in different words
        return False
    return True


def _remove(folder: Path, lock: IO | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)  # Windows removes no file that is open


__all__ = ["workplace"]
