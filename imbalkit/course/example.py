"""A folder like those one gets, made of an ImageSet: imbalanced, untidy, with known faults.

Lesson 12 uses it where the learner names no folder; the tests use it because the faults are known.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from imbalkit.data.images import ImageSet
from imbalkit.data.picture import opened_image, to_rgb

SIDES = ((32, 32), (48, 36), (40, 56), (64, 64))  # width and height of the files, by turns
ORIENTATION = 0x0112  # the EXIF tag; 6 means: turn it by 90 degrees to the right to see it upright
RENAMED = {"frog": "rã verde", "cat": "stray cat", "six": "número seis", "three": "a three"}


def write_example_folder(
    root: str | os.PathLike, image_set: ImageSet, counts: dict[int, int], copies: int = 12
) -> Path:
    """Write `counts[c]` images of each class c to `root`, one sub-folder a class, with faults.

    Sizes, shapes and formats differ: PNG and JPEG, RGB and here and there grey, 16-bit grey, RGBA,
    CMYK, or turned on its side with an EXIF note. The faults:

    - three files that are no image (cut off, empty, a text), and an image outside all classes;
    - the first `copies` images of the first class and of the one before the last a second time, in
      another size; four others of the first class unchanged under another name;
    - three more images of the first class also in the class before the last;
    - a sub-folder without an image.

    Two classes of each set have a name with a space or with letters beyond ASCII. The pictures are
    the first ones of each class, so that everybody gets the same folder. Lesson 12 uses it.

    Args:
        root: where to write; folders that are missing are made.
        image_set: images of one square size.
        counts: how many images of each class to write.
        copies: how many images of a class stand there a second time.

    Returns:
        `root`.

    Raises:
        ValueError: a class has too few images.

    Example:
        >>> import tempfile
        >>> from imbalkit.course.embedded import embedded_digits
        >>> images, _ = embedded_digits(train_per_class=20, test_per_class=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_example_folder(folder, images, {0: 20, 1: 20, 2: 12}, copies=2)
        ...     sorted(path.name for path in root.iterdir())
        ['one', 'outside.jpg', 'still to sort', 'two', 'zero']
    """
    root, files = Path(root), {}
    for c, wanted in counts.items():
        members = (image_set.labels == c).nonzero().flatten()
        if len(members) < wanted:
            raise ValueError(f"class {c} has {len(members)} images and {wanted} are wanted.")
        name = image_set.classes[c]
        folder = root / RENAMED.get(name, name)
        folder.mkdir(parents=True, exist_ok=True)
        files[folder] = [
            write_picture(folder, i, image_set.images[member])
            for i, member in enumerate(members[:wanted].tolist())
        ]
    common, doubtful = next(iter(files)), [*files][-2]
    for file in files[common][:copies] + files[doubtful][:copies]:
        with opened_image(file) as image:
            again = to_rgb(ImageOps.exif_transpose(image)).resize((40, 40))
        again.save(file.with_name(f"{file.stem}_again.jpg"), quality=85)
    for i, file in enumerate(files[common][-7:]):
        target = common / f"copy_{i}" if i < 4 else doubtful / f"found_{i}"
        target.with_suffix(file.suffix).write_bytes(file.read_bytes())
    whole = files[common][1].read_bytes()
    (common / "cut_off.jpg").write_bytes(whole[: len(whole) // 2])
    (common / "empty.png").write_bytes(b"")
    (doubtful / "notes.txt").write_text("Seen at dusk.", encoding="utf-8")
    (root / "outside.jpg").write_bytes(whole)
    (root / "still to sort").mkdir(exist_ok=True)
    return root


def write_picture(folder: Path, i: int, pixels: Tensor) -> Path:
    """Save an image as the i-th file of a class. Every second is a JPEG, one in ten has no RGB."""
    image = Image.fromarray(pixels.cpu().numpy())
    image = image.resize(SIDES[i // 2 % len(SIDES)], Image.Resampling.BICUBIC)
    if i % 40 == 4:
        image = image.convert("L")
    elif i % 40 == 14:
        grey = np.asarray(image.convert("L")).astype(np.uint16)
        image = Image.fromarray(grey * 257)
    elif i % 40 == 24:
        alpha = np.full((image.height, image.width), 255, dtype=np.uint8)
        alpha[:, :2] = 0  # two transparent columns at the left
        image.putalpha(Image.fromarray(alpha))
    elif i % 40 == 33:
        image = image.convert("CMYK")
    if i % 2 == 0:
        file = folder / f"{i:04}.png"
        image.save(file)
        return file
    exif = Image.Exif()
    if i % 10 == 7:
        image = image.transpose(Image.Transpose.ROTATE_90)  # 90 degrees to the left
        exif[ORIENTATION] = 6
    file = folder / f"{i:04}.jpg"
    image.save(file, quality=92, exif=exif)
    return file


__all__ = ["write_example_folder"]
