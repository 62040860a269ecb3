"""The standard way to feed a model: a torchvision-style Dataset and v2 transforms.

This is what most code does and what a recipe shows. `Batches` gives the same pixels faster.
Derived in lesson 02.
"""

from collections.abc import Callable, Iterable

import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms import v2

from imbalkit.data.images import ImageSet


class ImageDataset(Dataset):
    """The images of an ImageSet one by one, as torchvision's data sets give them.

    ``dataset[i]`` is ``(transform(PIL image), int label)``.
    """

    def __init__(self, image_set: ImageSet, transform: Callable):
        self.image_set = image_set
        self.transform = transform

    def __len__(self) -> int:
        return len(self.image_set)

    def __getitem__(self, index: int):
        image = Image.fromarray(self.image_set.images[index].numpy())
        return self.transform(image), int(self.image_set.labels[index])


def standard_transform(mean: Iterable[float], std: Iterable[float], augment: bool = False):
    """v2 transforms from a PIL image to a normalised float32 tensor (3, H, W).

    With `augment`, a random crop after 4 pixels of reflected padding and a random flip come first,
    on uint8, where they are cheapest.
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
