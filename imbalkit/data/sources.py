"""Where images come from: CIFAR in the official layout."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from imbalkit.data.download import (
    CIFAR,
    DownloadError,
    cifar_named,
    damaged_files,
    fetch_cifar,
    official_files,
)
from imbalkit.data.images import ImageSet


def data_folders() -> list[Path]:
    """The folders searched for data, in order: ``IMBALKIT_DATA`` if set, then the cache if any.

    Example:
        >>> data_folders()[-1] == cache_folder()
        True
    """
    named = os.environ.get("IMBALKIT_DATA")
    folders = [Path(os.path.expanduser(named))] if named else []
    with contextlib.suppress(DownloadError):
        folders.append(cache_folder())
    return folders


def cache_folder() -> Path:
    """The user's cache folder for data, by the custom of each operating system.

    Raises:
        DownloadError: the user has no home folder.

    Example:
        >>> cache_folder().name
        'imbalkit'
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(base)
    if folder.startswith("~"):
        raise DownloadError(
            "there is no home folder to keep data in; set IMBALKIT_DATA to a folder."
        )
    return Path(folder) / "imbalkit"


def find_cifar(
    name: str = "cifar10", download: bool = True, show: Callable[[str], object] = print
) -> tuple[ImageSet, ImageSet]:
    """Return the training and test images of `name` from the first place that has them.

    The order: ``IMBALKIT_DATA``, the user's cache, the official download into that cache. A place
    whose files are damaged or may not be read is named and passed over. The environment variable
    ``IMBALKIT_OFFLINE=1`` skips the download.

    Args:
        name: "cifar10" or "cifar100".
        download: may it be downloaded?
        show: receives the messages, a line each.

    Returns:
        ``(train, test)`` ImageSets.

    Raises:
        ValueError: the name is unknown.
        DownloadError: `name` is nowhere.

    Example:
        >>> find_cifar("mnist")
        Traceback (most recent call last):
        ValueError: there is no data set 'mnist'; choose one of cifar10, cifar100.
    """
    cifar_named(name)
    there = [root for root in data_folders() if _is_there(root, name)]
    for root in there:
        try:
            return load_cifar(root, name)
        except ValueError as error:
            show(str(error))
    if (named := os.environ.get("IMBALKIT_DATA")) and not there:
        show(f"IMBALKIT_DATA is {named}, and {name} is not there; check the path.")
    if not download or os.environ.get("IMBALKIT_OFFLINE"):
        raise DownloadError(f"{name} is not on this computer; get it with 'imbalkit data {name}'.")
    fetch_cifar(name, cache_folder(), show=show)
    return load_cifar(cache_folder(), name)


def cifar_state(root: Path, name: str) -> str:
    """Is the official layout of CIFAR complete under `root`?

    Args:
        root: the folder in which the data's own folder lies.
        name: "cifar10" or "cifar100".

    Returns:
        "ready", "missing" or "corrupt"; the last means that some files are there and one is absent,
        has a wrong checksum or may not be read.

    Example:
        >>> cifar_state(Path("no such folder"), "cifar10")
        'missing'
    """
    if not _is_there(root, name):
        return "missing"
    folder = Path(root) / CIFAR[name].base_folder
    try:
        return "corrupt" if damaged_files(folder, official_files(name)) else "ready"
    except OSError:
        return "corrupt"


def _is_there(root: Path, name: str) -> bool:
    """Is any file of `name` under `root`? Quick: nothing is read."""
    folder = Path(root) / cifar_named(name).base_folder
    return any(os.path.isfile(folder / file) for file in official_files(name))


def load_cifar(root: Path, name: str = "cifar10") -> tuple[ImageSet, ImageSet]:
    """Read the training and test images from the official python files under `root`.

    The files are pickles, and unpickling runs code: torchvision opens none whose checksum is
    wrong.

    Args:
        root: the folder in which the data's own folder lies.
        name: "cifar10" or "cifar100".

    Returns:
        ``(train, test)`` ImageSets.

    Raises:
        ValueError: a file is absent or damaged, or may not be read.

    Example:
        >>> load_cifar(Path("no such folder"), "cifar10")
        Traceback (most recent call last):
        ValueError: no such folder/cifar-10-batches-py is missing: ...
    """
    dataset = cifar_named(name)
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
        except OSError as error:
            raise ValueError(
                f"{error.filename or root}: the data cannot be read ({error.strerror or error}); "
                "give yourself the right to read it, or set IMBALKIT_DATA to another folder."
            ) from error
        images, labels = torch.from_numpy(raw.data), torch.tensor(raw.targets)
        parts.append(
            ImageSet(images, labels, tuple(raw.classes), f"{title} {'train' if train else 'test'}")
        )
    train_set, test_set = parts
    return train_set, test_set


__all__ = [
    "cache_folder",
    "cifar_state",
    "data_folders",
    "find_cifar",
    "load_cifar",
]
