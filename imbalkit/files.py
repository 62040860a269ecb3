"""Writing files so that an interrupted write never leaves half a file behind."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there replaces `path` at the end.

    A reader sees the old file or the whole new one, never a part. If the block fails or is
    interrupted, the temporary file is removed and the old file stays. Missing folders are made.

    Raises OSError where the folder cannot be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A unique name lets two processes write the same file at once; a name rather than
    # `tempfile.mkstemp` lets the file have the usual permissions, so that others may read it.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
