"""Something is written where after some bytes no more can be.

The limit is that of a process on the size of a file, which acts on every library as a full disk
does. Lost: the old file is gone or changed, a part of the new one is left, or the error does not
name what the system said.
"""

import errno
import os
import signal
from pathlib import Path
from random import Random

from test_checkpoint import LOADERS, train

from imbalkit.data import DownloadError, make_long_tail
from imbalkit.data.download import download
from imbalkit.inference import load, save
from tests.chaos import check_left, check_sentence, children, refuse
from tests.fuzz import readers
from tests.helpers import md5_of


def write_model(folder: Path) -> None:
    """A model file."""
    predictor = load(readers.sealed_file(folder.parent / "source.pt", "model"))
    save(predictor, folder / "file", "plain_cnn", num_classes=2, width=1)


def write_checkpoint(folder: Path) -> None:
    """The checkpoint of a training of one epoch: each writes a whole one."""
    train(LOADERS["torch's own"], checkpoint=folder / "file", epochs=1)


def write_manifest(folder: Path) -> None:
    """A manifest."""
    make_long_tail(readers.image_set(), 3)[1].save(folder / "file")


def write_download(folder: Path) -> None:
    """A file that is downloaded."""
    source = folder.parent / "source.bin"
    source.write_bytes(b"x" * 900)
    download(source.as_uri(), folder / "file", md5_of(source), show=str)


WRITERS = (write_model, write_checkpoint, write_manifest, write_download)


def attack(random: Random, folder: Path) -> None:
    """Write one file with a limit below its size."""
    if not hasattr(os, "fork"):
        return
    work, write = folder / "work", random.choice(WRITERS)
    work.mkdir()
    write(work)
    size = (work / "file").stat().st_size
    old = None
    if random.random() < 0.5:
        (work / "file").unlink()
    else:
        old = (work / "file").read_bytes()
    limit = random.randrange(size)
    _, error = children.end(*children.begin(lambda: starved(limit, write, work)))
    refuse(error is not None, f"{write.__name__} takes {limit} of {size} bytes for a whole file")
    kind, message, where = error
    right = issubclass(kind, OSError | DownloadError) and os.strerror(errno.EFBIG) in message
    refuse(
        right, f"{write.__name__} at {limit} of {size} bytes: {kind.__name__}: {message} {where}"
    )
    check_sentence(kind(message))
    check_left(work, *(["file"] if old else []))
    refuse(old is None or (work / "file").read_bytes() == old, "the old file is changed")


def starved(limit: int, write, folder: Path) -> None:
    """Write in a process whose files cannot grow beyond the limit."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    write(folder)
