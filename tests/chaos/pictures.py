"""A folder holds pictures that were altered, and files that are none.

Lost: a file that is neither read nor named with a reason, a good one that is not read, a process
that is started, a prediction of NaN, an exit status that does not say it.
"""

import csv
import io
import os
import struct
import zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

import pytest

from imbalkit import predict
from imbalkit.data import import_folder
from tests.chaos import refuse
from tests.chaos.files import damaged
from tests.fuzz import readers


def attack(random: Random, folder: Path) -> None:
    """Read one folder, and predict it."""
    root = folder / "pictures"
    seeds = readers.seeds("folder")
    for name in ("a/good.png", "b/good.png"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(seeds[0])
    hostile = {f"{random.choice('ab')}/{i}": random.choice(MAKERS) for i in range(4)}
    for name, make in hostile.items():
        make(random, root / name)
    expected = {"a/good.png", "b/good.png"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("subprocess.Popen", no_process)
        found = import_folder(root, 8)
        named = set(found.files) | set(found.skipped)
        refuse(expected <= set(found.files), "a good picture is not read")
        refuse(set(hostile) <= named, f"neither read nor named: {set(hostile) - named}")
        refuse(all(found.skipped.values()), "a file is skipped without a reason")
        model, table = readers.sealed_file(folder / "m.pt", "model"), folder / "table.csv"
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
            status = predict.main([str(model), str(root), "--output", str(table)])
    rows = list(csv.reader(table.read_text(encoding="utf-8").splitlines()))[1:]
    refuse({row[0] for row in rows} >= expected, "a good picture is not predicted")
    refuse(all(0 <= float(row[2]) <= 1 for row in rows), "a probability is none")
    refuse(status == int("skipped" in said.getvalue()), f"exit status {status}")
    read = {row[0] for row in rows} | {
        line.split(":")[0].removeprefix("skipped ") for line in said.getvalue().splitlines()
    }
    refuse(set(hostile) <= read, f"neither predicted nor named: {set(hostile) - read}")


def no_process(*arguments: object, **_: object) -> None:
    """What starts a process while a picture is read."""
    raise AssertionError(f"a picture starts a process: {arguments}")


def altered(random: Random, path: Path) -> None:
    """A picture with one to three faults."""
    data = random.choice(readers.seeds("folder"))
    for _ in range(random.randint(1, 3)):
        data = damaged(random, data) or b"x"
    path.write_bytes(data)


def huge(random: Random, path: Path) -> None:
    """A PNG that says it is large, with the right checksum and next to no data."""
    sides = [random.choice([1, 7, 8192, 65_535, 65_536, 10**8, 2**31 - 1]) for _ in range(2)]
    header = struct.pack(">IIBBBBB", *sides, random.choice([1, 8, 16]), 0, 0, 0, 0)
    pixels = zlib.compress(bytes(random.choice([0, 1000, 10**6])))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    data = b"".join(
        struct.pack(">I", len(c)) + name + c + struct.pack(">I", zlib.crc32(name + c))
        for name, c in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)


def program(random: Random, path: Path) -> None:
    """PostScript, in one of its disguises."""
    begin = random.choice([b"", b"\xc5\xd0\xd3\xc6" + struct.pack("<IIIIII", 30, 99, 0, 0, 0, 0)])
    path.write_bytes(begin + b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{ } loop\n")


def noise(random: Random, path: Path) -> None:
    """Any bytes, also none."""
    path.write_bytes(random.randbytes(random.choice([0, 1, 100, 5000])))


def pipe(random: Random, path: Path) -> None:
    """A pipe that never ends, where there are such."""
    os.mkfifo(path) if hasattr(os, "mkfifo") else path.write_bytes(b"x")


def link(random: Random, path: Path) -> None:
    """A link to itself, to nothing, or to a device without an end."""
    path.symlink_to(random.choice([path.name, "nowhere", "/dev/zero", "/dev/null", "."]))


MAKERS = (altered, altered, altered, altered, huge, program, noise, pipe, link)
