"""Each reader of files that others made, as a function of bytes that says when it did wrong.

A reader may accept the bytes, or refuse them in one sentence. Everything else is an error: another
exception, an answer of NaN, a model that was changed by a checkpoint that was refused, a file that
was left behind.
"""

import atexit
import io
import json
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from imbalkit import models, sealed
from imbalkit.checkpoint import Parts, load_checkpoint, save_checkpoint
from imbalkit.data import (
    DownloadError,
    ImageSet,
    Manifest,
    fetch_cifar,
    import_folder,
    make_long_tail,
)
from imbalkit.data.download import CIFAR, official_files
from imbalkit.inference import Predictor, load, save
from imbalkit.training import fit
from tests.helpers import accept_checksums, md5_of

CPU, SIDE = torch.device("cpu"), 4
NOISE = torch.arange(6 * SIDE * SIDE * 3, dtype=torch.uint8).reshape(6, SIDE, SIDE, 3)


def read_model(data: bytes) -> None:
    """A model file; what is accepted has to answer."""
    for path in sealed_files(data, seeds("model")[0]):
        with refused_in_one_sentence(ValueError):
            assert load(path).probabilities(NOISE[:, :1, :1], CPU).isfinite().all()


def read_checkpoint(data: bytes) -> None:
    """A checkpoint; what is refused has changed nothing."""
    for path in sealed_files(data, seeds("checkpoint")[0]):
        parts = new_parts()
        before = state_of(parts)
        try:
            load_checkpoint(path, parts)
        except ValueError as error:
            check_refusal(error)
            assert state_of(parts) == before, "a refused checkpoint changed the training"
        else:
            assert all(value.isfinite().all() for value in parts.model.state_dict().values())


def read_manifest(data: bytes) -> None:
    """A manifest of a long-tailed subset, with the digest that it has and with the right one."""
    for text in (data, with_digest(data)):
        with file_of(text) as path, refused_in_one_sentence(ValueError):
            manifest = Manifest.load(path)
            manifest.save(path)
            assert Manifest.load(path) == manifest
            manifest.apply(image_set())


def read_folder(data: bytes) -> None:
    """A folder of pictures, one of which a stranger made."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a/1.png", "b/1.png"):
            Path(folder, name).parent.mkdir()
            Path(folder, name).write_bytes(seeds("folder")[0])
        Path(folder, "a/2.png").write_bytes(data)
        found = import_folder(folder, SIDE)
        assert len(found.files) == 3 or found.skipped["a/2.png"]
        repr(found), found._repr_html_()


def read_archive(data: bytes) -> None:
    """An archive of CIFAR-10, as large as it is small."""
    with tempfile.TemporaryDirectory() as folder, small_cifar():
        archive, root = Path(folder, "archive"), Path(folder, "root")
        archive.write_bytes(data)
        with refused_in_one_sentence(DownloadError):
            fetch_cifar("cifar10", root, archive.as_uri(), md5_of(archive), show=str)
        assert {path.name for path in Path(folder).iterdir()} <= {"archive", "root"}
        left = {path.name for path in root.iterdir()} if root.is_dir() else set()
        assert left <= {"cifar-10-batches-py"}, left


READERS: dict[str, Callable[[bytes], None]] = {
    "model": read_model,
    "checkpoint": read_checkpoint,
    "manifest": read_manifest,
    "folder": read_folder,
    "archive": read_archive,
}


@contextmanager
def refused_in_one_sentence(kind: type[Exception]) -> Iterator[None]:
    """The block may raise this, in one line; anything else goes on."""
    try:
        yield
    except kind as error:
        check_refusal(error)


def check_refusal(error: Exception) -> None:
    """It is none of a class that Python or a library derived, and one line that ends."""
    message = f"{type(error).__name__}: {error}"
    assert type(error) in (ValueError, DownloadError), message
    assert message.endswith(".") and "\n" not in message, message


@contextmanager
def file_of(data: bytes) -> Iterator[Path]:
    """A file with these bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(data)
        yield path


def sealed_files(data: bytes, example: bytes) -> Iterator[Path]:
    """The bytes as a file: as they are, with the right digest, and as the pickle of `example`.

    A digest stops every change before anything is read, and so does the checksum of a zip archive;
    somebody who means harm writes the right ones.
    """
    for body in (data, with_seal(data), with_seal(with_pickle(data, example))):
        with file_of(body) as path:
            yield path


def with_seal(data: bytes) -> bytes:
    body = data[:-2] + sealed.LENGTH.to_bytes(2, "little")
    return body + sealed._seal(body)


def with_pickle(data: bytes, example: bytes) -> bytes:
    """The archive `example` with other bytes in place of its pickle."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(example)) as old, zipfile.ZipFile(changed, "w") as new:
        for member in old.infolist():
            is_pickle = member.filename.endswith("data.pkl")
            new.writestr(member.filename, data if is_pickle else old.read(member))
    return changed.getvalue()


def pickle_of(example: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(example)) as archive:
        return next(archive.read(name) for name in archive.namelist() if "data.pkl" in name)


def sealed_file(path: Path, reader: str) -> Path:
    """A whole file that a reader accepts, at this path."""
    data = seeds(reader)[0]
    path.write_bytes(data if reader == "manifest" else with_seal(data))
    return path


def with_digest(data: bytes) -> bytes:
    """JSON with the right digest, where it is an object."""
    try:
        content = json.loads(data)
        content.pop("digest", None)
        return json.dumps(content | {"digest": sealed._digest(content)}).encode()
    except (ValueError, RecursionError, AttributeError, TypeError, OverflowError):
        return data


@cache
def seeds(reader: str) -> list[bytes]:
    """Whole files for a fuzzer to begin with."""
    with tempfile.TemporaryDirectory() as name:
        return globals()[f"{reader}_seeds"](Path(name))


def model_seeds(folder: Path) -> list[bytes]:
    model = models.plain_cnn(num_classes=2, width=1)
    predictor = Predictor(model, ["a", "b"], [0.5] * 3, [0.25] * 3, 1, 2.0, "a", 0.3)
    save(predictor, folder / "model.pt", "plain_cnn", num_classes=2, width=1)
    return sealed_seeds(folder / "model.pt")


def checkpoint_seeds(folder: Path) -> list[bytes]:
    parts, batches = new_parts(), [(torch.ones(2, 3), torch.tensor([0, 1]))]
    options = {"optimizer": parts.optimizer, "checkpoint": folder / "c.pt", "device": CPU}
    fit(parts.model, batches, 2, val_batches=batches, show_progress=False, **options)
    history = torch.load(folder / "c.pt", weights_only=True)["history"]
    save_checkpoint(folder / "c.pt", parts, history, parts.model.state_dict())
    return sealed_seeds(folder / "c.pt")


def manifest_seeds(folder: Path) -> list[bytes]:
    return [make_long_tail(image_set(), 3)[1].save(folder / "m.json").read_bytes()]


def folder_seeds(folder: Path) -> list[bytes]:
    files = []
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"):
        for mode in ("RGB", "P") if kind in ("PNG", "GIF") else ("RGB",):
            buffer = io.BytesIO()
            Image.fromarray(NOISE[0].numpy()).convert(mode).save(buffer, kind)
            files.append(buffer.getvalue())
    buffer = io.BytesIO()
    Image.new("I;16", (SIDE, SIDE), 300).save(buffer, "TIFF", compression="tiff_lzw")
    return [*files, buffer.getvalue(), b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]


def archive_seeds(folder: Path) -> list[bytes]:
    packed = []
    with small_cifar() as official:
        for ending in ("gz", "bz2", "xz", ""):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode=f"w:{ending}") as tar:
                tar.add(official, official.name)
            packed.append(buffer.getvalue())
    return packed


def sealed_seeds(path: Path) -> list[bytes]:
    """A sealed file without its seal, and its pickle alone."""
    file = path.read_bytes()[: -sealed.LENGTH]
    file = file[:-2] + bytes(2)
    return [file, pickle_of(file)]


def new_parts() -> Parts:
    """A training of two epochs that has not begun."""
    torch.manual_seed(0)
    model, batches = torch.nn.Linear(3, 2), [None]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rate: Any = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    loss = torch.nn.CrossEntropyLoss()
    return Parts(model, loss, optimizer, rate, (batches, batches), 2, 1, CPU)


def state_of(parts: Parts) -> str:
    """All that a checkpoint may change in a training."""
    states = (parts.model, parts.optimizer, parts.scheduler)
    return repr([torch.get_rng_state().numpy().tobytes(), *(each.state_dict() for each in states)])


def image_set() -> ImageSet:
    return ImageSet(NOISE, torch.tensor([0, 0, 0, 1, 1, 1]), ("a", "b"), "noise")


@contextmanager
def small_cifar() -> Iterator[Path]:
    """A folder in the layout of CIFAR-10, which is taken for the official one."""
    with pytest.MonkeyPatch.context() as patch:
        accept_checksums(patch, _small_cifar())
        yield _small_cifar()


@cache
def _small_cifar() -> Path:
    folder = Path(tempfile.mkdtemp()) / CIFAR["cifar10"].base_folder
    folder.mkdir()
    for file in official_files("cifar10"):
        (folder / file).write_text(file)
    atexit.register(shutil.rmtree, folder.parent)
    return folder
