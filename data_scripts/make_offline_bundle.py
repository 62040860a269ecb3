"""Collect all that the course needs into one folder, for computers without a network.

Packages, CIFAR-10 and the lessons. The bundle is for one kind of computer and one Python: those
that made it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from urllib.parse import unquote, urlsplit

from check_offline_bundle import MARK, describe, read_mark, this_computer

from imbalkit.data.download import DownloadError, copy_cifar, fetch_cifar
from imbalkit.data.sources import cifar_state, data_folders
from imbalkit.files import atomic_path

ROOT = Path(__file__).resolve().parent.parent
DATA = "cifar10"
COURSE = (
    *("imbalkit", "notebooks", "data_scripts", "tools", "benchmarks", "docs"),
    *("Makefile", "pyproject.toml", "constraints.txt", "environment.yml"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "LICENSE-docs"),
)
LEFT_OUT = ("__pycache__", ".ipynb_checkpoints", "*.pt", "*.partial")
WORK = ".partial"  # what is not whole yet; never looked at again
# Bytes. On Linux PyTorch brings the libraries of NVIDIA's GPUs.
WHEELS = {"Linux": 3_300_000_000}
SMALL_WHEELS = 500_000_000
DATA_BYTES = 190_000_000


class BundleFailed(Exception):
    """One sentence that says why there is no bundle and what to do."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="A second call keeps what is there and adds what is absent. "
        "Exit code: 0 when the bundle is whole, 1 when it is not, 2 for wrong usage.",
    )
    parser.add_argument("folder", type=Path, metavar="DEST", help="the folder to make")
    folder = parser.parse_args(argv).folder.expanduser().resolve()
    try:
        make_bundle(folder)
    except (BundleFailed, DownloadError) as error:
        return failed(str(error))
    except OSError as error:
        return failed(
            f"{folder}: cannot be written ({error.strerror or error}); free some space or name "
            "another folder."
        )
    except KeyboardInterrupt:
        return failed("interrupted; run the same command again, it goes on from there.")
    return 0


def failed(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def make_bundle(folder: Path) -> None:
    """Make or complete the bundle. Its mark says "finished" only when everything is in place."""
    begin = time.monotonic()
    check_destination(folder)
    write_mark(folder, finished=False)
    (folder / "START_HERE.txt").unlink(missing_ok=True)
    with work_folder(folder) as work:
        wheels = collect_wheels(folder, work)
        collect_data(folder)
        copy_course(folder, work)
    (folder / "START_HERE.txt").write_text(start_here(folder), encoding="utf-8")
    names = [*wheels, *(p for p in (folder / "data").rglob("*") if p.is_file())]
    write_mark(folder, finished=True, files=names)
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(
        f"{folder} is ready: {gigabytes(total)} in {time.monotonic() - begin:.0f} s, for "
        f"{describe(this_computer())}. Read START_HERE.txt in it."
    )


def check_destination(folder: Path) -> None:
    """Raise BundleFailed where a bundle must not be written."""
    if folder.is_relative_to(ROOT):
        raise BundleFailed(f"{folder} lies in the course itself; name a folder outside of {ROOT}.")
    if folder.exists() and not folder.is_dir():
        raise BundleFailed(f"{folder} is a file; name a folder.")
    entries = {path.name for path in folder.iterdir()} if folder.exists() else set()
    mark = read_mark(folder)
    if mark is None and entries - {"wheels", WORK}:  # wheels: put there beforehand
        raise BundleFailed(f"{folder} holds other files; name a new folder, or empty this one.")
    if mark is not None and mark["computer"] != this_computer():
        raise BundleFailed(
            f"{folder} is a bundle for {describe(mark['computer'])}, and this is "
            f"{describe(this_computer())}; name another folder."
        )


@contextmanager
def work_folder(folder: Path):
    """A folder for what is not whole yet, empty at the start and removed at the end."""
    work = folder / WORK
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_mark(folder: Path, finished: bool, files: list[Path] = ()) -> None:
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)}
    mark = {"finished": finished, "made": date.today().isoformat(), "computer": this_computer()}
    with atomic_path(folder / MARK) as temporary:
        temporary.write_text(json.dumps(mark | {"files": sizes}, indent=1) + "\n", encoding="utf-8")


# --- packages


def requirements() -> list[str]:
    """What a learner's pip has to find: the packages, Jupyter, and what builds imbalkit itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["project"]
    learn = packages["optional-dependencies"]["learn"]
    return [*packages["dependencies"], *learn, *project["build-system"]["requires"]]


def collect_wheels(folder: Path, work: Path) -> list[Path]:
    """Download the wheels that are absent, remove those that nothing needs, return the others."""
    wheels = folder / "wheels"
    wheels.mkdir(exist_ok=True)
    for wheel in wheels.glob("*.whl"):
        if not zipfile.is_zipfile(wheel):  # cut short; pip would stop at it
            wheel.unlink()
    needed, action = wheels_in_use(wheels), "there already"
    if needed is None:
        check_space(folder, has_torch=any(wheels.glob("torch-*.whl")))
        download_wheels(wheels, work)
        needed, action = wheels_in_use(wheels), "collected"
    if needed is None:
        raise BundleFailed(
            f"{wheels} does not hold all packages although pip downloaded them; delete this folder "
            "and start again."
        )
    for wheel in set(wheels.glob("*.whl")) - set(needed):
        wheel.unlink()
    size = sum(wheel.stat().st_size for wheel in needed)
    print(f"packages: {len(needed)} wheels, {gigabytes(size)}, {action}.", flush=True)
    return needed


def wheels_in_use(wheels: Path) -> list[Path] | None:
    """The wheels with which pip would install the course without a network; None if it could not.

    pip itself answers, in an environment that it takes for empty.
    """
    command = [
        *pip_command("install", "--no-index", "--find-links", str(wheels)),
        *("--dry-run", "--ignore-installed", "--quiet", "--report", "-"),
    ]
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    alone |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    answer = subprocess.run(command, env=alone, capture_output=True, text=True, encoding="utf-8")
    if answer.returncode:
        return None
    urls = [item["download_info"]["url"] for item in json.loads(answer.stdout)["install"]]
    return [wheels / unquote(urlsplit(url).path).rpartition("/")[2] for url in urls]


def download_wheels(wheels: Path, work: Path) -> None:
    """Let pip download into `work`, and move only whole wheels to `wheels`."""
    command = pip_command("download", "--find-links", str(wheels), "--dest", str(work / "wheels"))
    # pip unpacks into the temporary folder of the system, which may lie in memory.
    (work / "tmp").mkdir()
    environment = os.environ | {"TMPDIR": str(work / "tmp")}
    if subprocess.run(command, env=environment).returncode:
        raise BundleFailed(
            "pip could not download all packages (its lines above say why); check the network and "
            "the free space, and run the same command again."
        )
    for wheel in (work / "wheels").glob("*.whl"):
        os.replace(wheel, wheels / wheel.name)


def pip_command(action: str, *options: str) -> list[str]:
    constraints = ["-c", str(ROOT / "constraints.txt")]
    only_wheels = ["--only-binary", ":all:"]
    pip = [sys.executable, "-m", "pip", action]
    return [*pip, *options, *only_wheels, *constraints, *requirements()]


def check_space(folder: Path, has_torch: bool) -> None:
    """Raise BundleFailed when the disk cannot hold the bundle and pip's second copy of it."""
    wheels = SMALL_WHEELS if has_torch else WHEELS.get(this_computer()["system"], SMALL_WHEELS)
    needed, free = 2 * wheels + DATA_BYTES, shutil.disk_usage(folder).free
    if free < needed:
        raise BundleFailed(
            f"{folder}: {gigabytes(free)} are free, and making the bundle takes about "
            f"{gigabytes(needed)}; free some space or name a folder on another disk."
        )


# --- data and lessons


def collect_data(folder: Path) -> None:
    """Put CIFAR-10 into the bundle: from this computer where it is whole, else by download."""
    data = folder / "data"
    state = cifar_state(data, DATA)
    found = [root for root in data_folders() if cifar_state(root, DATA) == "ready"]
    if state != "ready" and found:
        copy_cifar(DATA, found[0], data)
    elif state != "ready":
        fetch_cifar(DATA, data)
    size = sum(path.stat().st_size for path in data.rglob("*") if path.is_file())
    action = "there already" if state == "ready" else "collected"
    print(f"data: CIFAR-10, {gigabytes(size)}, {action}; all checksums are right.", flush=True)


def copy_course(folder: Path, work: Path) -> None:
    """Copy the lessons and what runs them, in place of an older copy."""
    fresh, course = work / "course", folder / "course"
    fresh.mkdir()
    for name in COURSE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, fresh / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, fresh / name)
    if course.exists():
        shutil.rmtree(course)
    fresh.rename(course)
    print(f"course: {len(list((course / 'notebooks').glob('*.ipynb')))} notebooks.", flush=True)


# --- the text for whoever gets the bundle

TEXT = """\
imbalkit, the course on images with rare classes: offline bundle

This bundle is for {computer}. It works on no other system and with no other
Python. You need no network. You need that Python, and {disk} of free disk space.

1. Copy the folder "course" from this bundle to your disk. Do not work on the USB stick.

2. Open {terminal} in your copy of "course".

3. Type these lines. For BUNDLE, write the path of this bundle, such as {example}
   Keep the quotation marks. A path with spaces needs them.

{lines}

The last line opens the first lesson in your browser. The data is then in your own
folder for caches, and you can remove the USB stick.

The next time, type only the last line.
"""
PLAIN = """\
   {python} data_scripts/check_offline_bundle.py "BUNDLE"
   {python} -m venv .venv
   {bin}/python -m pip install {options} -c constraints.txt -e ".[learn]"
   {bin}/imbalkit data --from "BUNDLE/data"
   {bin}/jupyter lab notebooks/00_start_here.ipynb"""
OFFLINE = '--no-index --find-links "BUNDLE/wheels"'
MAKE = """\
   make {python}learn OFFLINE="BUNDLE"

   Where there is no "make", these lines do the same:

"""
LINUX_DISK, SMALL_DISK = "6 GB", "2 GB"


def start_here(folder: Path) -> str:
    """START_HERE.txt, with the lines that fit the system of the bundle."""
    computer = this_computer()
    system, python = computer["system"], f"python{computer['python']}"
    if system == "Windows":
        launcher = f"py -{computer['python']}"
        plain = PLAIN.format(python=launcher, bin=".venv\\Scripts", options=OFFLINE)
        lines, terminal, example = plain.replace("/", "\\"), "PowerShell", "E:\\imbalkit"
    else:
        plain = PLAIN.format(python=python, bin=".venv/bin", options=OFFLINE)
        lines = MAKE.format(python=f"PYTHON={python} ") + plain
        mount = "/Volumes/STICK" if system == "Darwin" else "/media/you/STICK"
        terminal, example = "a terminal", f"{mount}/{folder.name}"
    return TEXT.format(
        computer=describe(computer),
        disk=LINUX_DISK if system == "Linux" else SMALL_DISK,
        terminal=terminal,
        example=example,
        lines=lines,
    )


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e8 else f"{size / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
