"""A folder of images, one sub-folder per class, with a report of what was read and what was not.

Derived in lesson 12.
"""

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import indices_by_class
from imbalkit.data.images import ImageSet
from imbalkit.data.picture import UnreadableImage, read_image
from imbalkit.optional import optional
from imbalkit.texts import html_text, printable_lines, printable_name

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class ImportedFolder:
    """The images of a folder, where each came from, and what was left out.

    Derived in lesson 12.

    Attributes:
        images: an ImageSet; the classes are the sub-folders that hold a readable image.
        files: the N files, as "class/name", with forward slashes on every system. What cannot be
            printed is written as its bytes: see `name_on_disk` in `imbalkit.texts`.
        sizes: width and height of each file before it was resized: int64, (N, 2).
        modes: Pillow's mode of each file: "RGB", "L" (grey), "RGBA", "P", "I;16", "CMYK", ...
        skipped: {file: reason} of the files and folders that could not be used.
        left_out: names of the sub-folders without any image left.

    Example:
        >>> images = ImageSet(
        ...     torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.tensor([0, 1]), ("cat", "dog"), ""
        ... )
        >>> sizes = torch.tensor([[32, 32], [64, 64]])
        >>> found = ImportedFolder(images, ("cat/1.png", "dog/1.png"), sizes, ("RGB", "L"), {}, ())
        >>> found.keep([1]).files, found.keep([1]).left_out
        (('dog/1.png',), ('cat',))
    """

    images: ImageSet
    files: tuple[str, ...]
    sizes: Tensor
    modes: tuple[str, ...]
    skipped: dict[str, str]
    left_out: tuple[str, ...]

    def table(self) -> "pd.DataFrame":
        """A row a class, the most frequent first: images, skipped files, sizes and modes."""
        rows = {}
        lost = Counter(class_of(file) for file in self.skipped)
        labels, classes = self.images.labels.numpy(), self.images.classes
        for name, members in zip(classes, indices_by_class(labels, len(classes)), strict=True):
            (low, _), (high, _) = (getattr(self.sizes[members], m)(0) for m in ("min", "max"))
            modes = Counter(self.modes[i] for i in members).most_common()
            rows[name] = {
                "images": len(members),
                "skipped": lost[name],
                "smallest": f"{low[0]} x {low[1]}",
                "largest": f"{high[0]} x {high[1]}",
                "modes": ", ".join(f"{mode} {n}" for mode, n in modes),
            }
        table = optional("pandas", "data").DataFrame(rows).T.rename_axis("class")
        return table.sort_values("images", ascending=False, kind="stable")

    def keep(self, indices: ArrayLike) -> "ImportedFolder":
        """The images at `indices`; a class that has none of them is left out, and named.

        Args:
            indices: whole numbers (M,), in any order; the order of the images stays.
        """
        chosen = np.unique(np.asarray(indices, dtype=np.int64))
        old = self.images.labels[chosen]
        present, labels = old.unique(return_inverse=True)
        names = [self.images.classes[c] for c in present.tolist()]
        kept = set(names)
        gone = tuple(name for name in self.images.classes if name not in kept)
        images = ImageSet(self.images.images[chosen], labels, tuple(names), self.images.source)
        return replace(
            self,
            images=images,
            files=tuple(self.files[i] for i in chosen),
            sizes=self.sizes[chosen],
            modes=tuple(self.modes[i] for i in chosen),
            left_out=self.left_out + gone,
        )

    def __repr__(self) -> str:
        return printable_lines(f"{self.table().to_string()}\n{self._caption()}")

    def _repr_html_(self) -> str:
        return f"{self.table().to_html(border=0)}<p>{html_text(self._caption())}</p>"

    def _caption(self) -> str:
        n, classes, skipped = len(self.files), len(self.images.classes), len(self.skipped)
        caption = f"{n} images of {classes} classes; {skipped} files skipped"
        without = f"; left out, without an image: {', '.join(self.left_out)}"
        return caption + without if self.left_out else caption


def import_folder(path: str | os.PathLike, size: int = 32) -> ImportedFolder:
    """Read a folder of images with one sub-folder per class, whatever else lies in it.

    Files are searched in the sub-folders and in the folders below them; hidden files are passed
    over. Each image is read by `read_image`. A file that cannot be used is skipped and named in
    the report, with the reason. Classes are the sub-folders' names in alphabetical order, in
    Unicode's composed form (NFC), so that "é" is one name on every system. Derived in lesson 12.

    Args:
        path: of the folder.
        size: side in pixels; the images become `size` x `size`.

    Returns:
        an `ImportedFolder`.

    Raises:
        ValueError: there is no such folder, or fewer than two classes with an image.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         os.mkdir(os.path.join(folder, name))
        ...         image = Image.new("RGB", (40, 30))
        ...         image.save(os.path.join(folder, name, "1.png"))
        ...     found = import_folder(folder, size=32)
        >>> found.images.classes, found.files, found.images.images.shape
        (('cat', 'dog'), ('cat/1.png', 'dog/1.png'), torch.Size([2, 32, 32, 3]))
    """
    root = Path(os.path.expanduser(path))
    if size < 1:
        raise ValueError(f"size is {size}; give the side of the images in pixels, say 32.")
    read = []
    files, unread = image_files(root)
    skipped = {printed_path(path, root): reason for path, reason in unread.items()}
    for file in files:
        name = printed_path(file, root)
        if "/" not in name:
            skipped[name] = "lies in no class folder"
            continue
        try:
            read.append((class_of(name), name, *read_image(file, size)))
        except UnreadableImage as error:
            skipped[name] = str(error)
    classes = sorted({row[0] for row in read})
    if len(classes) < 2:
        raise ValueError(
            f"{root}: {len(classes)} sub-folders with a readable image were found, and a "
            f"classifier needs 2 or more ({len(skipped)} files were skipped); make one sub-folder "
            "per class."
        )
    read.sort(key=lambda row: (row[0], unicodedata.normalize("NFC", row[1]), row[1]))
    owners, names, pixels, sizes, modes = zip(*read, strict=True)
    subfolders = {
        class_of(printable_name(x.name))
        for x in root.iterdir()
        if os.path.isdir(x) and not x.name.startswith(".")
    }
    number_of = {name: c for c, name in enumerate(classes)}
    labels = torch.tensor([number_of[owner] for owner in owners])
    images = torch.from_numpy(np.stack(pixels))
    return ImportedFolder(
        ImageSet(images, labels, tuple(classes), f"folder {printable_name(root.resolve().name)}"),
        names,
        torch.tensor(sizes),
        modes,
        dict(sorted(skipped.items())),
        tuple(sorted(subfolders - set(classes))),
    )


def printed_path(path: Path, root: Path) -> str:
    """The path below `root` as it is printed, with forward slashes."""
    return "/".join(map(printable_name, path.relative_to(root).parts))


def class_of(printed: str) -> str:
    """The class folder at the front of a printed path, composed: "é" is one letter everywhere."""
    return unicodedata.normalize("NFC", printed.partition("/")[0])


def image_files(root: str | os.PathLike) -> tuple[list[Path], dict[Path, str]]:
    """All files in a folder and below it, and what could not be looked into.

    Hidden files and folders are passed over. A link to a folder is followed, unless the folder lies
    in `root` or was met before: then its files are there already. Derived in lesson 12.

    Args:
        root: the folder.

    Returns:
        ``(files, skipped)``: the files' paths, sorted, which begin with `root`; and for each folder
        that was left out the reason.

    Raises:
        ValueError: there is no such folder, or it may not be looked into.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.png", "a.png", ".hidden"):
        ...         open(os.path.join(folder, name), "w").close()
        ...     [file.name for file in image_files(folder)[0]]
        ['a.png', 'b.png']
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder; check the path.")
    files: list[Path] = []
    skipped: dict[Path, str] = {}
    home = Path(os.path.realpath(root))
    seen, waiting = {home}, [(root, home)]
    while waiting:
        folder, real = waiting.pop()
        try:
            inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            skipped[folder] = f"the folder cannot be looked into: {error.strerror}"
            continue
        for path in inside:
            if not os.path.isdir(path):
                files.append(path)
                continue
            is_link = path.is_symlink()
            target = Path(os.path.realpath(path)) if is_link else real / path.name
            if target in seen or (is_link and _is_read_anyway(target, home)):
                skipped[path] = "a link to a folder that is read anyway"
            else:
                seen.add(target)
                waiting.append((path, target))
    if root in skipped:
        raise ValueError(f"{root}: {skipped[root]}.")
    return sorted(files), skipped


def _is_read_anyway(folder: Path, home: Path) -> bool:
    """Does it lie in `home`, and in no hidden folder there?"""
    return folder.is_relative_to(home) and not any(
        part.startswith(".") for part in folder.relative_to(home).parts
    )


__all__ = ["ImportedFolder", "image_files", "import_folder"]
