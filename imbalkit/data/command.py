"""Get CIFAR-10 or CIFAR-100, or show what is there: ``imbalkit data``."""

import argparse
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imbalkit import data  # whose names are loaded when used: `--help` needs no library
from imbalkit.data.images import ImageSet
from imbalkit.texts import printable

READY, FAILED = 0, 1
CIFAR = ("cifar10", "cifar100")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="imbalkit data",
        description="Download CIFAR-10 or CIFAR-100, check it, and put it where imbalkit looks.",
        epilog="Data that is already there is checked and kept, damaged files are replaced. "
        "Exit status: 0 the data is ready, 1 it could not be fetched or is damaged, 2 wrong call.",
    )
    parser.add_argument("name", nargs="?", default="cifar10", choices=CIFAR, help="default cifar10")
    parser.add_argument(
        "--root",
        type=Path,
        metavar="FOLDER",
        help="where to put it; default: IMBALKIT_DATA if set, else the user's cache",
    )
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument(
        "--from",
        type=Path,
        dest="source",
        metavar="FOLDER",
        help="copy it from this folder, such as the data of an offline bundle; no network",
    )
    origin.add_argument(
        "--url",
        metavar="ADDRESS",
        help="where to get the official archive, for a mirror; file:///... for a local copy",
    )
    origin.add_argument(
        "--show",
        action="store_true",
        help="fetch nothing; show which folders are searched, and whether the data there is whole",
    )
    wanted = parser.parse_args(arguments)
    try:
        if wanted.show:
            return show()
        root = wanted.root or next(iter(data.data_folders()), None) or data.cache_folder()
        with ended_as_by_ctrl_c():
            if wanted.source:
                folder = data.download.copy_cifar(wanted.name, wanted.source, root)
            else:
                folder = data.fetch_cifar(wanted.name, root, wanted.url)
    except (data.DownloadError, ValueError, OSError) as error:
        print(f"error: {printable(error)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("error: interrupted, and nothing was kept; start again.", file=sys.stderr)
        return FAILED
    print(f"{wanted.name} is ready in {folder}.")
    return READY


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """A shutdown, a queue's limit or a closed terminal ends the command as Ctrl-C does: cleanly."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    asked = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # One that is ignored stays so, as nohup wants it; and only the main thread may ask for any.
    asked = [one for one in asked if signal.getsignal(one) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        asked = []
    for one in asked:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        for one in asked:
            signal.signal(one, signal.SIG_DFL)


def show() -> int:
    """Print what lies in each folder that is searched, and return the exit status."""
    corrupt = []
    for root in data.data_folders():
        print(root)
        for name in CIFAR:
            state = data.cifar_state(root, name)
            print(f"  {name:<9} {state}", end="")
            print(counts(*data.load_cifar(root, name)) if state == "ready" else "")
            if state == "corrupt":
                corrupt.append((name, root))
    for name, root in corrupt:
        print(
            f"error: {name} in {root} is corrupt; repair it with "
            f"'imbalkit data {name} --root {root}'.",
            file=sys.stderr,
        )
    return FAILED if corrupt else READY


def counts(train: ImageSet, test: ImageSet) -> str:
    """One line about the two image sets."""
    per_class = train.class_counts()
    low, high = int(per_class.min()), int(per_class.max())
    each = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"    {len(train)} training images ({each} in each of {len(per_class)} classes), "
        f"{len(test)} test images"
    )
