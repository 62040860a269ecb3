"""Say whether an offline bundle is whole and fits this computer, before anything is installed.

It needs nothing but Python, and runs with old releases of it too: it is the first to say that
Python is too old.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

MARK = "bundle.json"
COURSE = Path(__file__).resolve().parent.parent
RELEASE_FILES = ("pyproject.toml", "constraints.txt")  # they decide which packages are needed


class BundleError(Exception):
    """One sentence that says what is wrong with the bundle and what to do."""


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Exit code: 0 when it can be used here, 1 when not, 2 for wrong usage.",
    )
    parser.add_argument("bundle", type=Path, help="the folder that make_offline_bundle.py wrote")
    wanted = parser.parse_args(argv)
    try:
        check(wanted.bundle)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{wanted.bundle} is whole and fits this computer ({describe(this_computer())}).")
    return 0


def check(bundle, course=COURSE):
    """Raise BundleError unless the folder `bundle` can install what is in the folder `course`."""
    mark = read_mark(bundle)
    if mark is None:
        raise BundleError(
            f"{bundle} is no offline bundle: {MARK} is not in it, or is damaged; give the "
            "folder that make_offline_bundle.py wrote, or copy it again."
        )
    if not mark["finished"]:
        raise BundleError(
            f"{bundle} is not finished; run make_offline_bundle.py again, it goes on from there."
        )
    here, made_for = this_computer(), mark["computer"]
    if here != made_for:
        raise BundleError(
            f"{bundle} is for {describe(made_for)}, and this is {describe(here)}; use a Python and "
            "a computer like that, or make a bundle on a computer like this one."
        )
    damaged = [name for name, size in mark["files"].items() if size_of(bundle / name) != size]
    if damaged:
        raise BundleError(
            f"{bundle}: {len(damaged)} of {len(mark['files'])} files are absent or not whole, such "
            f"as {damaged[0]}; copy the bundle again."
        )
    if any(lines(bundle / "course" / name) != lines(course / name) for name in RELEASE_FILES):
        raise BundleError(
            f"{bundle} was made for another release of the course than the one in {course}; use "
            "the folder 'course' of the bundle, or make the bundle again."
        )


def read_mark(bundle):
    """What the bundle says of itself, as a dict; None where nothing does, or not all of it."""
    try:
        mark = json.loads((bundle / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return mark if is_whole(mark) else None


def is_whole(mark):
    """Does it have all that a bundle says of itself, of the right kind?"""
    kinds = {"finished": bool, "computer": dict, "files": dict}
    return (
        isinstance(mark, dict)
        and all(isinstance(mark.get(key), kind) for key, kind in kinds.items())
        and set(mark["computer"]) == set(this_computer())
    )


def this_computer():
    """What the packages depend on."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "python": "{}.{}".format(*sys.version_info[:2]),
    }


def describe(computer):
    """Such as "Linux x86_64 with Python 3.11"."""
    return "{system} {machine} with Python {python}".format(**computer)


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


def size_of(path):
    return path.stat().st_size if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
