"""A model file, a checkpoint, a manifest or a file of CIFAR is damaged, as disks and copies do it.

Lost: it is accepted with other content, refused in other words than a sentence, or has changed
something though it was refused.
"""

from pathlib import Path
from random import Random

import pytest
from helpers import accept_checksums, write_cifar

from imbalkit.checkpoint import load_checkpoint
from imbalkit.data import Manifest, load_cifar
from imbalkit.inference import load
from tests.chaos import check_sentence, refuse
from tests.fuzz import readers


def attack(random: Random, folder: Path) -> None:
    """Damage one file."""
    kind = random.choice(["model", "checkpoint", "manifest", "cifar"])
    if kind == "cifar":
        return damage_cifar(random, folder)
    path = readers.sealed_file(folder / "file", kind)
    whole = path.read_bytes()
    path.write_bytes(damaged(random, whole))
    parts = readers.new_parts()
    before = readers.state_of(parts)
    read = {
        "model": load,
        "checkpoint": lambda path: load_checkpoint(path, parts),
        "manifest": Manifest.load,
    }[kind]
    try:
        found = read(path)
    except ValueError as error:
        check_sentence(error)
        same = readers.state_of(parts) == before
        return refuse(same, "a refused checkpoint changed the training")
    changed = path.read_bytes()
    path.write_bytes(whole)
    same = changed == whole or (kind == "manifest" and found == read(path))
    refuse(same, f"a damaged {kind} is accepted")


def damage_cifar(random: Random, folder: Path) -> None:
    """Damage a file of the data itself: it must never be unpickled."""
    data = write_cifar(folder, per_class=5)
    with pytest.MonkeyPatch.context() as patch:
        accept_checksums(patch, data)
        path = random.choice(sorted(data.iterdir()))
        whole = path.read_bytes()
        path.write_bytes(damaged(random, whole))
        try:
            load_cifar(folder, "cifar10")
        except ValueError as error:
            return check_sentence(error)
        refuse(path.read_bytes() == whole, f"a damaged {path.name} is accepted")


def damaged(random: Random, whole: bytes) -> bytes:
    """The bytes with a fault of one kind."""
    data, begin = bytearray(whole), random.randrange(len(whole))
    end = min(begin + random.choice([1, 16, 512, 4096]), len(whole))
    kind = random.choice(["bit", "zeros", "cut", "lost", "twice", "noise", "longer"])
    if kind == "bit":
        data[begin] ^= 1 << random.randrange(8)
    elif kind == "zeros":
        data[begin:end] = bytes(end - begin)
    elif kind == "cut":
        del data[begin:]
    elif kind == "lost":
        del data[begin:end]
    elif kind == "twice":
        data[begin:begin] = data[begin:end]
    elif kind == "noise":
        data[begin:end] = random.randbytes(end - begin)
    else:
        data += random.randbytes(end - begin)
    return bytes(data)
