"""A small image set that needs no network: handwritten digits pasted on photographs.

scikit-learn ships 1,797 handwritten digits (8x8 pixels) and two photographs. A digit is enlarged,
tinted, and blended over a random patch of a photograph. Ten classes of 32x32 RGB images are the
result: real enough that rare classes are lost and can be won back, as on CIFAR-10. The lessons use
them where CIFAR-10 is not to be had.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits, load_sample_images
from sklearn.model_selection import train_test_split
from torch import Tensor

from imbalkit.data.download import DownloadError
from imbalkit.data.images import ImageSet
from imbalkit.data.sources import find_cifar

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZE, DIGIT, SHIFT = 32, 24, 2
# Chosen so that faults and remedies act here as they do on CIFAR-10: the photographs are dimmed
# and the digits painted in light colours, else the digits are too hard to find for a small net.
DIM, DARKEST_PAINT, OPACITY = 0.5, 160, (0.8, 1.0)


def find_data(
    name: str = "cifar10", download: bool = True, show: Callable[[str], object] = print
) -> tuple[ImageSet, ImageSet]:
    """As `imbalkit.data.find_cifar`, and the embedded set where the images are nowhere.

    Lesson 00 shows it.

    Args:
        name: "cifar10", "cifar100" or "embedded".
        download: fetch what is not there.
        show: gets the one sentence that says so, where the embedded set takes their place.

    Returns:
        ``(train, test)``.

    Example:
        >>> train, test = find_data("embedded")
        >>> train.source, len(train)
        ('embedded digits train', 50000)
    """
    if name == "embedded":
        return embedded_digits()
    try:
        return find_cifar(name, download, show)
    except DownloadError as error:
        show(str(error))
    show(
        "This run uses the embedded set instead: handwritten digits on photographs, 10 classes, "
        "the same class counts, other accuracies."
    )
    return embedded_digits()


@cache
def embedded_digits(
    train_per_class: int = 5000, test_per_class: int = 1000
) -> tuple[ImageSet, ImageSet]:
    """Return ``(train, test)`` ImageSets in the size of CIFAR-10, always the same ones.

    The handwritten digits are split before anything is drawn from them: no digit that stands in a
    training image stands in a test image, however its colour and background differ. Lesson 00
    shows it.

    Args:
        train_per_class: training images of each class.
        test_per_class: test images of each class.

    Example:
        >>> train, test = embedded_digits(train_per_class=3, test_per_class=1)
        >>> tuple(train.images.shape), len(test)
        ((30, 32, 32, 3), 10)
    """
    digits = load_digits()
    shapes = torch.from_numpy(digits.images).float() / 16
    labels = torch.from_numpy(digits.target).long()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.27, stratify=digits.target, random_state=0
    )
    photographs = torch.from_numpy(np.stack(load_sample_images().images))
    parts = []
    for name, members, per_class, seed in (
        ("train", train, train_per_class, 1),
        ("test", test, test_per_class, 2),
    ):
        generator = torch.Generator().manual_seed(seed)
        sources = _draw_digits(labels[members], per_class, generator)
        members = torch.from_numpy(members)[sources]
        # In chunks that fit the processor's cache: several times faster than all at once.
        images = torch.cat([_paste(c, photographs, generator) for c in shapes[members].split(500)])
        parts.append(ImageSet(images, labels[members], CLASSES, f"embedded digits {name}"))
    return parts[0], parts[1]


def _draw_digits(labels: Tensor, per_class: int, generator: torch.Generator) -> Tensor:
    """For each class in turn, `per_class` random positions of that class in `labels`."""
    draws = []
    for c in range(len(CLASSES)):
        candidates = torch.nonzero(labels == c).flatten()
        draws.append(candidates[torch.randint(len(candidates), (per_class,), generator=generator)])
    return torch.cat(draws)


def _paste(shapes: Tensor, photographs: Tensor, generator: torch.Generator) -> Tensor:
    """Blend each digit (N, 8, 8) over a random photograph patch: uint8, (N, 32, 32, 3)."""
    n = len(shapes)

    def integers(high: int) -> Tensor:
        return torch.randint(high, (n, 1, 1), generator=generator)

    side = torch.arange(SIZE)
    _, height, width, _ = photographs.shape
    rows = integers(height - SIZE + 1) + side.view(1, SIZE, 1)
    columns = integers(width - SIZE + 1) + side.view(1, 1, SIZE)
    patches = photographs[integers(len(photographs)), rows, columns]

    large = F.interpolate(shapes[:, None], size=(DIGIT, DIGIT), mode="bicubic").clamp_(0, 1)[:, 0]
    margin = (SIZE - DIGIT) // 2
    canvas = F.pad(large, (margin, margin, margin, margin))
    down = (side.view(1, SIZE, 1) + integers(2 * SHIFT + 1) - SHIFT) % SIZE  # up to SHIFT pixels
    right = (side.view(1, 1, SIZE) + integers(2 * SHIFT + 1) - SHIFT) % SIZE
    stroke = canvas[torch.arange(n).view(n, 1, 1), down, right]

    low, high = OPACITY
    opacity = low + (high - low) * torch.rand((n, 1, 1), generator=generator)
    cover = (stroke * opacity)[..., None]
    tint = DARKEST_PAINT + (255 - DARKEST_PAINT) * torch.rand((n, 1, 1, 3), generator=generator)
    return (DIM * patches * (1 - cover) + tint * cover).round().to(torch.uint8)
