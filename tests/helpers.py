"""What several tests share: small data in the layouts of the real thing, a browser, and a check."""

import hashlib
import pickle
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from imbalkit import sampling
from imbalkit.course.exercises.base import Outcome
from imbalkit.course.lab import set_up
from imbalkit.data.download import CIFAR

needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="torch has Muon, of the fast recipe, from 2.9 on"
)
CIFAR_CLASSES = {"cifar10": 10, "cifar100": 100}
LABEL_KEY = {"cifar10": "labels", "cifar100": "fine_labels"}


def write_cifar(root: Path, name: str = "cifar10", per_class: int = 10, seed: int = 0) -> Path:
    """Write noise images in the official layout of `name`, and return the folder of the data.

    Training holds `per_class` images of each class (a multiple of 5 for CIFAR-10, which keeps them
    in five files) and the test set one, in random order. The checksums are not the official ones:
    see `accept_checksums`.
    """
    dataset, classes = CIFAR[name], CIFAR_CLASSES[name]
    folder = Path(root) / dataset.base_folder
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)

    def write(file: str, labels: np.ndarray) -> None:
        images = random.integers(0, 256, (len(labels), 3 * 32 * 32), dtype=np.uint8)
        content = {"data": images, LABEL_KEY[name]: labels.tolist()}
        (folder / file).write_bytes(pickle.dumps(content))

    labels = random.permutation(np.repeat(np.arange(classes), per_class))
    train_files = [file for file, _ in dataset.train_list]
    for file, part in zip(train_files, np.split(labels, len(train_files)), strict=True):
        write(file, part)
    write(dataset.test_list[0][0], random.permutation(classes))
    names = {dataset.meta["key"]: [f"class {c:02d}" for c in range(classes)]}
    (folder / dataset.meta["filename"]).write_bytes(pickle.dumps(names))
    return folder


def accept_checksums(monkeypatch, folder: Path, name: str = "cifar10") -> None:
    """Let torchvision, and so imbalkit, take the files in `folder` for the official ones."""
    dataset = CIFAR[name]

    def md5(file: str) -> str:
        return md5_of(folder / file)

    for listing in ("train_list", "test_list"):
        files = [[file, md5(file)] for file, _ in getattr(dataset, listing)]
        monkeypatch.setattr(dataset, listing, files)
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": md5(dataset.meta["filename"])})


def write_archive(folder: Path, archive: Path, skip: str = "") -> str:
    """Pack `folder` as the official archive is packed, without the file `skip`; return the MD5."""
    with tarfile.open(archive, "w:gz") as tar:
        for path in sorted(folder.iterdir()):
            if path.name != skip:
                tar.add(path, arcname=f"{folder.name}/{path.name}")
    return md5_of(archive)


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def count_parameters(model) -> int:
    """Number of trainable numbers in the model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def expect_not_yet(exercise, answer, message: str) -> None:
    """The answers (a list of them) are wrong, and `message` is in what is said of them."""
    feedback = exercise.feedback(*answer)
    assert feedback.outcome is Outcome.NOT_YET, feedback
    assert message in feedback.message, feedback.message


class Interrupted:
    """The batches of a training that somebody stops with Ctrl-C after so many of them."""

    def __init__(self, batches, after: int):
        self.batches, self.left = batches, after

    def __len__(self):
        return len(self.batches)

    def __getattr__(self, name):  # such as the sampler, which is told the epoch
        return getattr(self.__dict__["batches"], name)

    def __iter__(self):
        for batch in self.batches:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            yield batch


def lessons_with_exercises():
    """The notebooks of all lessons but the first, which has neither exercises nor recipes."""
    folder = Path(__file__).parents[1] / "notebooks"
    return sorted(set(folder.glob("[0-9][0-9]_*.ipynb")) - set(folder.glob("00_*.ipynb")))


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
# Without most of these a browser asks its maker's hosts at every start, as if its pages did.
BROWSER_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def small_lab(every_test: int):
    """A lab whose sets are so small that a training takes a fraction of a second.

    Of the test images it keeps one in `every_test`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMBALKIT_OFFLINE", "1")
        patch.setenv("IMBALKIT_DATA", "/nonexistent")
        lab = set_up()
    few = sampling.draw_per_class(lab.train.labels, [60, 50, 40, 30, 25, 20, 15, 10, 8, 6])
    return replace(
        lab,
        train=lab.train.subset(few),
        validation=lab.validation.subset(range(0, len(lab.validation), 12)),
        test=lab.test.subset(range(0, len(lab.test), every_test)),
    )
