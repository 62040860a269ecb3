"""Where images come from: CIFAR in the official layout, or a folder."""

import os
import sys
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import ImageFolder

from imbalkit.data.download import (
    CIFAR,
    DownloadError,
    damaged_files,
    fetch_cifar,
    official_files,
)
from imbalkit.data.folder import UnreadableImage, read_image
from imbalkit.data.images import ImageSet


def data_folders() -> list[Path]:
    """The folders searched for data, in order: ``IMBALKIT_DATA`` if set, then the cache."""
    named = os.environ.get("IMBALKIT_DATA")
    return ([Path(named).expanduser()] if named else []) + [cache_folder()]


def cache_folder() -> Path:
    """The user's cache folder for data, by the custom of each operating system."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "imbalkit"


def find_cifar(name: str = "cifar10", download: bool = True, show=print):
    """Return ``(train, test)`` ImageSets of `name` from the first place that has it.

    The order: ``IMBALKIT_DATA``, the user's cache, the official download into that cache. The
    environment variable ``IMBALKIT_OFFLINE=1`` skips the download.

    name: "cifar10" or "cifar100". show: receives what is said, such as the download's progress.

    Raises ValueError when the name is unknown or when a data file is damaged, and DownloadError
    when `name` is nowhere.
    """
    if name not in CIFAR:
        raise ValueError(f"there is no data set '{name}'; choose one of {', '.join(CIFAR)}.")
    for root in data_folders():
        if _is_there(root, name):
            return load_cifar(root, name)
    if named := os.environ.get("IMBALKIT_DATA"):
        show(f"IMBALKIT_DATA is {named}, and {name} is not there; check the path.")
    if not download or os.environ.get("IMBALKIT_OFFLINE"):
        raise DownloadError(f"{name} is not on this computer; get it with 'imbalkit data {name}'.")
    fetch_cifar(name, cache_folder(), show=show)
    return load_cifar(cache_folder(), name)


def cifar_state(root: Path, name: str) -> str:
    """Say "ready", "missing" or "corrupt": is the official layout of `name` complete under `root`?

    "corrupt" means that some files are there and one is absent or has a wrong checksum.
    """
    if not _is_there(root, name):
        return "missing"
    folder = Path(root) / CIFAR[name].base_folder
    return "corrupt" if damaged_files(folder, official_files(name)) else "ready"


def _is_there(root: Path, name: str) -> bool:
    """Is any file of `name` under `root`? Quick: nothing is read."""
    folder = Path(root) / CIFAR[name].base_folder
    return any((folder / file).is_file() for file in official_files(name))


def load_cifar(root: Path, name: str = "cifar10"):
    """Return ``(train, test)`` ImageSets from the official python files under `root`.

    The files are pickles, and unpickling runs code: torchvision opens none whose checksum is
    wrong. Raises ValueError when a file is absent or damaged.
    """
    dataset = CIFAR[name]
    title = name.upper().replace("CIFAR", "CIFAR-")
    parts = []
    for train in (True, False):
        try:
            raw = dataset(root, train=train, download=False)
        except RuntimeError as error:
            raise ValueError(
                f"{Path(root) / dataset.base_folder} is {cifar_state(root, name)}: a file is "
                f"absent or its checksum is wrong; run 'imbalkit data {name}', which replaces what "
                "is damaged."
            ) from error
        images, labels = torch.from_numpy(raw.data), torch.tensor(raw.targets)
        parts.append(
            ImageSet(images, labels, tuple(raw.classes), f"{title} {'train' if train else 'test'}")
        )
    return tuple(parts)


def load_folder(path: str | Path, size: int = 32) -> ImageSet:
    """Read a folder of images with one sub-folder per class.

    Each image is read by `read_image`, as RGB of `size` x `size` pixels. Classes are the
    sub-folders' names in alphabetical order, as ``torchvision.datasets.ImageFolder`` numbers them.
    Raises ValueError for a missing or empty folder, an empty class and an unreadable image;
    `import_folder` skips what it cannot read, and reports it.
    """
    path = Path(path)
    try:
        listing = ImageFolder(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"{path}: cannot be read as one sub-folder of images per class ({error}); every "
            "sub-folder must hold at least one image."
        ) from error
    images = np.stack([_pixels(file, size) for file, _ in listing.samples])
    return ImageSet(
        torch.from_numpy(images),
        torch.tensor(listing.targets),
        tuple(listing.classes),
        f"folder {path.name}",
    )


def _pixels(file: str, size: int) -> np.ndarray:
    try:
        return read_image(file, size)[0]
    except UnreadableImage as error:
        raise ValueError(
            f"{file}: cannot be read as an image ({error}); replace or delete that file."
        ) from error
