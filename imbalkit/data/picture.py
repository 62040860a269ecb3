"""One image file, whoever made it: opened within limits, and read as RGB of one size.

A file's name says nothing about what it holds. Of the formats that Pillow knows, one is a program
(PostScript, which Pillow hands to Ghostscript); only the formats named here are opened, and a file
that would take too much memory or time is refused. Derived in lesson 12.
"""

import io
import os
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from imbalkit.optional import optional
from imbalkit.texts import printable

optional("PIL", "data")  # or one sentence that names it

from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: E402

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "MPO", "JPEG2000", "AVIF")
MOST_PIXELS = 8192 * 8192  # up to 1.6 GB while it is read
MOST_SIDE = 65_535  # the longest side of a JPEG; resizing takes memory by the side as well
MOST_SECONDS = 30.0  # of reading one file
AT_ONCE = 4096  # bytes that a decoder gets between two looks at the clock
ROWS = 256  # of 16-bit grey that are converted at once
GRAY_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


class UnreadableImage(ValueError):
    """Why a file cannot be used, in a few words.

    Derived in lesson 12.

    Example:
        >>> raise UnreadableImage("the file is empty")
        Traceback (most recent call last):
        imbalkit.data.picture.UnreadableImage: the file is empty
    """


def read_image(file: str | os.PathLike, size: int) -> tuple[np.ndarray, tuple[int, int], str]:
    """Read one image as RGB of one size.

    The image is turned as its EXIF orientation says. What is transparent is laid over white. Grey
    images get three equal channels; 16-bit grey is divided by 257, so that 65,535 becomes 255. Of
    an animation the first picture is taken. The image is then stretched to a square, whatever its
    shape. A file is refused, whatever its name, that is of no format listed in `FORMATS`, has more
    than 8192 x 8192 pixels or a side above 65,535, or takes more than 30 seconds. Derived in
    lesson 12.

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
    with opened_image(file) as opened:
        mode = opened.mode
        image = to_rgb(ImageOps.exif_transpose(opened))
        pixels = np.array(image.resize((size, size), Image.Resampling.BICUBIC))
    return pixels, image.size, mode


@contextmanager
def opened_image(file: str | os.PathLike) -> Iterator[Image.Image]:
    """Yield the first picture of a file, decoded, within the limits of this module.

    What goes wrong in the block is told of the file. Derived in lesson 12.

    Args:
        file: its path.

    Raises:
        UnreadableImage: with the reason.

    Example:
        >>> with opened_image(np.__file__) as image:
        ...     pass
        Traceback (most recent call last):
        imbalkit.data.picture.UnreadableImage: not an image that Pillow can read
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which does not matter; sizes are below
        try:
            with _TimedFile(file) as timed, Image.open(timed, formats=_formats()) as opened:
                _check_size(*opened.size)
                opened.decodermaxblock = AT_ONCE
                opened.load()
                yield opened
        except UnreadableImage:
            raise
        except UnidentifiedImageError as error:
            raise UnreadableImage("not an image that Pillow can read") from error
        except Image.DecompressionBombError as error:  # in a format that says its size late
            raise UnreadableImage(f"more than {MOST_PIXELS:,} pixels: make it smaller") from error
        except PermissionError as error:
            raise UnreadableImage("you may not read the file") from error
        except FileNotFoundError as error:
            raise UnreadableImage("there is no such file, or it is a link to nothing") from error
        except MemoryError as error:
            raise UnreadableImage("too large for the memory: make it smaller") from error
        except Exception as error:  # decoders of damaged files raise nearly anything
            reason = printable(str(error)[:80]) or type(error).__name__
            raise UnreadableImage(f"damaged: {reason}") from error


class _TimedFile(io.BufferedReader):
    """A file that ends the reading of it when the time is over.

    A decoder cannot be stopped from outside; but it asks for bytes, part by part.
    """

    def __init__(self, file: str | os.PathLike):
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            raise UnreadableImage("no ordinary file")
        if status.st_size == 0:
            raise UnreadableImage("the file is empty")
        super().__init__(io.FileIO(os.fspath(file)))
        self.end = time.monotonic() + MOST_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self.end:
            raise UnreadableImage(f"takes more than {MOST_SECONDS:g} seconds: save it anew")
        return super().read(size)


def _formats() -> list[str]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise UnreadableImage(f"more than {MOST_PIXELS:,} pixels: make it smaller")
    if max(width, height) > MOST_SIDE:
        raise UnreadableImage(f"a side of more than {MOST_SIDE:,} pixels: make it smaller")


def to_rgb(image: Image.Image) -> Image.Image:
    """A Pillow image of any mode as RGB. Raises UnreadableImage for pixels of unknown range."""
    if image.mode in GRAY_16_BIT:
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels of unknown range: save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """16-bit grey as 8 bits, a few rows at a time: in between it takes eight times the memory."""
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImage("grey values beyond 16 bits: save it with 8 or 16")
    result = np.empty(values.shape, dtype=np.uint8)
    for top in range(0, len(values), ROWS):
        rows = values[top : top + ROWS].astype(np.int64)
        result[top : top + ROWS] = (rows / 257).round()
    return result


__all__ = ["UnreadableImage", "opened_image", "read_image"]
