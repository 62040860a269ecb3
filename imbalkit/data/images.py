"""Labelled images in memory: the one form in which every source arrives."""

from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import check_labels


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    The channel stands last because that is how image files store it, and because the transposed
    view is what torch calls ``channels_last``.

    Attributes:
        images: uint8, (N, H, W, 3), values 0..255.
        labels: int64, (N,), values 0..C-1.
        classes: C names.
        source: where the images come from, for the caption under a result.

    Raises:
        ValueError: in one sentence, when shapes, dtypes or labels do not fit.

    Example:
        >>> images = torch.zeros(3, 8, 8, 3, dtype=torch.uint8)
        >>> image_set = ImageSet(images, torch.tensor([0, 0, 1]), ("cat", "dog"), "black images")
        >>> len(image_set), image_set.class_counts().tolist(), len(image_set.subset([2]))
        (3, [2, 1], 1)
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[3] != 3:
            raise ValueError(
                f"{self.source}: images must be uint8 of shape (N, H, W, 3), not "
                f"{self.images.dtype} of shape {tuple(self.images.shape)}; "
                "convert with .permute(0, 2, 3, 1) or .to(torch.uint8) first."
            )
        check_labels(self.labels, len(self.classes), self.source)
        if len(self.images) != len(self.labels):
            raise ValueError(
                f"{self.source}: {len(self.images)} images came with {len(self.labels)} labels; "
                "give each image exactly one label."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: ArrayLike, source: str | None = None) -> "ImageSet":
        """The images at `indices`, in that order, under the name `source` if one is given."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return ImageSet(
            self.images[chosen], self.labels[chosen], self.classes, source or self.source
        )

    def class_counts(self) -> Tensor:
        """Number of images of each class: int64, (C,)."""
        return torch.bincount(self.labels, minlength=len(self.classes))


__all__ = ["ImageSet"]
