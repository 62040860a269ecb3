"""A folder of images, one sub-folder per class, with a report of what was read and what was not.

Derived in lesson 12.
"""

import os
import unicodedata
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.data.images import ImageSet
from imbalkit.optional import optional

optional("PIL", "data")  # or one sentence that names it

from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: E402

if TYPE_CHECKING:
    import pandas as pd

GRAY_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


class UnreadableImage(ValueError):
    """Why a file cannot be used, in a few words.

    Example:
        >>> raise UnreadableImage("the file is empty")
        Traceback (most recent call last):
        imbalkit.data.folder.UnreadableImage: the file is empty
    """


@dataclass(frozen=True, repr=False)
class ImportedFolder:
    """The images of a folder, where each came from, and what was left out.

    Derived in lesson 12.

    Attributes:
        images: an ImageSet; the classes are the sub-folders that hold a readable image.
        files: the N files, as "class/name", with forward slashes on every system.
        sizes: width and height of each file before it was resized: int64, (N, 2).
        modes: Pillow's mode of each file: "RGB", "L" (grey), "RGBA", "P", "I;16", "CMYK", ...
        skipped: {file: reason} of the files that could not be used.
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
        lost = Counter(file.partition("/")[0] for file in self.skipped)
        for c, name in enumerate(self.images.classes):
            members = (self.images.labels == c).nonzero().flatten()
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
        gone = tuple(name for name in self.images.classes if name not in names)
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
        return f"{self.table().to_string()}\n{self._caption()}"

    def _repr_html_(self) -> str:
        return f"{self.table().to_html(border=0)}<p>{self._caption()}</p>"

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
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("cat", "dog"):
        ...         os.mkdir(os.path.join(folder, name))
        ...         Image.new("RGB", (40, 30)).save(os.path.join(folder, name, "1.png"))
        ...     found = import_folder(folder, size=32)
        >>> found.images.classes, found.files, found.images.images.shape
        (('cat', 'dog'), ('cat/1.png', 'dog/1.png'), torch.Size([2, 32, 32, 3]))
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(f"{root}: there is no such folder; check the path.")
    if size < 1:
        raise ValueError(f"size is {size}; give the side of the images in pixels, say 32.")
    subfolders = {printable_name(x.name) for x in root.iterdir() if x.is_dir() and x.name[0] != "."}
    read, skipped = [], {}
    for file in image_files(root):
        *folders, _ = name = tuple(map(printable_name, file.relative_to(root).parts))
        if not folders:
            skipped[name[0]] = "lies in no class folder"
            continue
        try:
            read.append((folders[0], "/".join(name), *read_image(file, size)))
        except UnreadableImage as error:
            skipped["/".join(name)] = str(error)
    classes = sorted({row[0] for row in read})
    if len(classes) < 2:
        raise ValueError(
            f"{root}: {len(classes)} sub-folders with a readable image were found, and a "
            f"classifier needs 2 or more ({len(skipped)} files were skipped); make one sub-folder "
            "per class."
        )
    read.sort(key=lambda row: row[:2])
    owners, files, pixels, sizes, modes = zip(*read, strict=True)
    labels = torch.tensor([classes.index(owner) for owner in owners])
    images = torch.from_numpy(np.stack(pixels))
    return ImportedFolder(
        ImageSet(images, labels, tuple(classes), f"folder {printable_name(root.resolve().name)}"),
        files,
        torch.tensor(sizes),
        modes,
        dict(sorted(skipped.items())),
        tuple(sorted(subfolders - set(classes))),
    )


def image_files(root: str | os.PathLike) -> list[Path]:
    """All files in a folder and below it, sorted; hidden files and folders are passed over.

    Derived in lesson 12.

    Args:
        root: the folder.

    Returns:
        their paths, which begin with `root`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.png", "a.png", ".hidden"):
        ...         open(os.path.join(folder, name), "w").close()
        ...     [file.name for file in image_files(folder)]
        ['a.png', 'b.png']
    """
    found = []
    for folder, inner, files in os.walk(os.fspath(root)):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    return sorted(found)


def printable_name(name: str) -> str:
    """A file's name as text that can be compared and printed on every system."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def read_image(file: str | os.PathLike, size: int) -> tuple[np.ndarray, tuple[int, int], str]:
    """Read one image as RGB of one size.

    The image is turned as its EXIF orientation says. What is transparent is laid over white. Grey
    images get three equal channels; 16-bit grey is divided by 257, so that 65,535 becomes 255. Of
    an animation the first picture is taken. The image is then stretched to a square, whatever its
    shape. Derived in lesson 12.

    Args:
        file: its path.
        size: side in pixels of what comes out.

    Returns:
        ``(pixels, (width, height), mode)``: pixels uint8 (size, size, 3), and the size and Pillow's
        mode of the file.

    Raises:
        UnreadableImage: with the reason.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = os.path.join(folder, "white.png")
        ...     Image.new("L", (40, 30), 255).save(file)
        ...     pixels, size, mode = read_image(file, 8)
        >>> pixels.shape, int(pixels.min()), size, mode
        ((8, 8, 3), 255, (40, 30), 'L')
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata, which does not matter here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            if os.path.getsize(file) == 0:
                raise UnreadableImage("the file is empty")
            with Image.open(file) as opened:
                mode = opened.mode
                opened.load()
                image = to_rgb(ImageOps.exif_transpose(opened))
        except UnreadableImage:
            raise
        except UnidentifiedImageError as error:
            raise UnreadableImage("not an image that Pillow can read") from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            limit = Image.MAX_IMAGE_PIXELS
            raise UnreadableImage(f"more than {limit:,} pixels: make it smaller") from error
        except PermissionError as error:
            raise UnreadableImage("you may not read the file") from error
        except Exception as error:  # decoders of damaged files raise nearly anything
            raise UnreadableImage(f"damaged: {str(error)[:80] or type(error).__name__}") from error
    pixels = np.array(image.resize((size, size), Image.Resampling.BICUBIC))
    return pixels, image.size, mode


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode as RGB. Raises UnreadableImage for pixels of unknown range."""
    if image.mode in GRAY_16_BIT:
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImage("grey values beyond 16 bits: save it with 8 or 16")
        image = Image.fromarray((values / 257).round().astype(np.uint8))
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels of unknown range: save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


__all__ = ["ImportedFolder", "UnreadableImage", "image_files", "import_folder", "read_image"]
