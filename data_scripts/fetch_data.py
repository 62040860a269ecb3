"""Download CIFAR-10 or CIFAR-100, check it, and put it where the lessons look for it."""

import argparse
import sys
from pathlib import Path

from imbalkit.data.download import CIFAR, DownloadError, copy_cifar, fetch_cifar
from imbalkit.data.sources import data_folders


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Data that is already there is checked and kept, damaged files are replaced. "
        "Exit code: 0 when the data is ready, 1 when it could not be fetched, 2 for wrong usage.",
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
    wanted = parser.parse_args(argv)
    try:
        root = wanted.root or data_folders()[0]
        if wanted.source:
            folder = copy_cifar(wanted.name, wanted.source, root)
        else:
            folder = fetch_cifar(wanted.name, root, wanted.url)
    except (DownloadError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted, and nothing was kept; start again.", file=sys.stderr)
        return 1
    print(f"{wanted.name} is ready in {folder}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
