"""The standard way to feed a model: a torchvision-style Dataset and v2 transforms.

This is what most code does and what a recipe shows. `Batches` gives the same pixels faster.
Derived in lesson 02.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils.data import Dataset

from imbalkit.data.images import ImageSet
from imbalkit.optional import optional

optional("torchvision", "data")  # or one sentence that names it

from PIL import Image  # noqa: E402
from torchvision.transforms import v2  # noqa: E402


class ImageDataset(Dataset):
    """The images of an ImageSet one by one, as torchvision's data sets give them.

    ``dataset[i]`` is ``(transform(PIL image), int label)``. Derived in lesson 02.

    Args:
        image_set: where the images come from.
        transform: from a PIL image to what a model takes.

    Example:
        >>> images = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
        >>> image_set = ImageSet(images, torch.tensor([0, 1]), ("cat", "dog"), "black")
        >>> dataset = ImageDataset(image_set, standard_transform([0.5] * 3, [0.25] * 3))
        >>> image, label = dataset[1]
        >>> image.shape, label
        (torch.Size([3, 8, 8]), 1)
    """

    def __init__(self, image_set: ImageSet, transform: Callable[[Image.Image], Any]):
        self.image_set = image_set
        self.transform = transform

    def __len__(self) -> int:
        return len(self.image_set)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = Image.fromarray(self.image_set.images[index].numpy())
        return self.transform(image), int(self.image_set.labels[index])


def standard_transform(
    mean: Iterable[float], std: Iterable[float], augment: bool = False
) -> v2.Compose:
    """v2 transforms from a PIL image to a normalised float32 tensor (3, H, W).

    With `augment`, a random crop after 4 pixels of reflected padding and a random flip come first,
    on uint8, where they are cheapest. Derived in lesson 02.

    Args:
        mean: one number a channel, in units of [0, 1] pixels.
        std: likewise, above 0.
        augment: crop and mirror, for training images of 32x32 pixels.

    Returns:
        a transform for `ImageDataset`.

    Example:
        >>> transform = standard_transform(mean=[0.5] * 3, std=[0.25] * 3)
        >>> float(transform(Image.new("RGB", (32, 32), "white"))[0, 0, 0])  # (1 - 0.5) / 0.25
        2.0
    """
    crop_and_flip = [
        v2.RandomCrop(32, padding=4, padding_mode="reflect"),
        v2.RandomHorizontalFlip(),
    ]
    return v2.Compose(
        [
            v2.ToImage(),
            *(crop_and_flip if augment else []),
            v2.ToDtype(torch.float32, scale=True),  # without scale=True the range stays 0..255
            v2.Normalize(list(mean), list(std)),
        ]
    )


__all__ = [
    "ImageDataset",
    "standard_transform",
]
