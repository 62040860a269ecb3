"""Copies of one picture: found, and kept on one side of a split. Derived in lesson 12.

A copy in the validation set is an image that the model has trained on. A copy under another class
has a wrong label. Both are common in collections from the web and from cameras that shoot bursts.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imbalkit.checks import to_numpy

SIDE = 8  # near copies are compared as thumbnails of 8 x 8 pixels
NEAR = 0.15  # unless said, they differ by at most this share of their own contrast
LEAST_CONTRAST = 8.0  # grey levels; what varies less is taken as a plain surface
CHUNK = 1024  # images compared with all others at once


@dataclass(frozen=True)
class Duplicates:
    """Which images show the same picture.

    Derived in lesson 12.

    Attributes:
        groups: int64, (N,): images with the same number are copies of one another, or copies of
            copies.
        exact: int64, (P, 2): pairs of images with the same pixels, the smaller index first.
        near: int64, (Q, 2): pairs whose pixels differ a little.

    Example:
        >>> pictures = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
        >>> find_duplicates(pictures[[0, 1, 0]]).exact.tolist()
        [[0, 2]]
    """

    groups: Tensor
    exact: Tensor
    near: Tensor


def find_duplicates(images: Tensor, near: float = NEAR) -> Duplicates:
    """Find exact and near copies among images of one size.

    Near copies are the same picture saved again or resized. Their thumbnails of 8 x 8 pixels
    differ by at most a share `near` of their own contrast (the standard deviation of their values).
    A crop, a mirrored copy or a much brighter one is not found. Where all pictures look alike, as
    parts on a belt do, near copies mean nothing: `near=0` finds exact copies only. Derived in
    lesson 12.

    Args:
        images: uint8, (N, H, W, 3). Time grows with the square of N.
        near: a share of the contrast, 0 or more.

    Returns:
        a `Duplicates`.

    Raises:
        ValueError: other images or another `near`.

    Example:
        >>> pictures = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8)
        >>> find_duplicates(pictures[[0, 1, 0]]).groups.tolist()
        [0, 1, 0]
    """
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 (N, H, W, 3)."
        )
    if not near >= 0:
        raise ValueError(f"near is {near}; give a share of the contrast, 0 or more.")
    first_with: dict[bytes, int] = {}
    first = torch.tensor(
        [first_with.setdefault(x.tobytes(), i) for i, x in enumerate(to_numpy(images))]
    )
    unlike = (first == torch.arange(len(first))).nonzero().flatten()  # one of each exact group
    pairs = unlike[_near_pairs(images[unlike], near)] if near else unlike.new_empty(0, 2)
    copies = (first != torch.arange(len(first))).nonzero().flatten()
    exact = torch.stack([first[copies], copies], dim=1)
    links = torch.cat([exact, pairs]).numpy()
    return Duplicates(torch.from_numpy(connected(links, len(first))), exact, pairs)


def connected(links: np.ndarray, n: int) -> np.ndarray:
    """The group of each of n images, so that linked ones share it: int64 (n,), from 0 up.

    links: pairs of indices, int64 (P, 2).
    """
    lowest = np.arange(n)  # the smallest index that is known to be in an image's group
    while True:
        low = lowest[links].min(1)
        if (lowest[links] == low[:, None]).all():
            return np.unique(lowest, return_inverse=True)[1]
        for end in links.T:
            np.minimum.at(lowest, end, low)


def thumbnails(images: Tensor) -> Tensor:
    """Each image as the mean colours of 8 x 8 fields.

    Args:
        images: uint8, (N, H, W, 3).

    Returns:
        float32 (N, 192); 0 is medium grey.

    Example:
        >>> small = thumbnails(torch.full((2, 32, 32, 3), 128, dtype=torch.uint8))
        >>> small.shape, float(small.abs().max())
        (torch.Size([2, 192]), 0.0)
    """
    chunks = [chunk.permute(0, 3, 1, 2).float() - 128 for chunk in images.split(CHUNK)]
    return torch.cat([F.interpolate(c, (SIDE, SIDE), mode="area").flatten(1) for c in chunks])


def _near_pairs(images: Tensor, near: float) -> Tensor:
    """Pairs of near copies: int64 (Q, 2)."""
    x = thumbnails(images)
    square = x.square().mean(1)
    most = (near * x.std(1, correction=0).clamp_min(LEAST_CONTRAST)).square()
    pairs = []
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        # The mean of (a - b)^2 as that of a^2 + b^2 - 2ab, for all pairs in one product.
        difference = (x[rows] @ x[start:].T).mul_(-2 / x.shape[1])
        difference.add_(square[rows, None]).add_(square[None, start:])
        alike = difference <= torch.minimum(most[rows, None], most[None, start:])
        pairs.append(alike.triu(1).nonzero() + start)
    return torch.cat(pairs)


def label_conflicts(labels: Tensor, groups: Tensor) -> Tensor:
    """Indices of the images that have a copy under another class, group by group.

    One of the labels is wrong, and only a look can tell which. Derived in lesson 12.

    Args:
        labels: int64 (N,).
        groups: int64 (N,), as `find_duplicates` gives them.

    Returns:
        int64 (M,).

    Example:
        >>> label_conflicts(torch.tensor([0, 0, 1, 1]), groups=torch.tensor([0, 1, 1, 2])).tolist()
        [1, 2]
    """
    order = torch.sort(groups, stable=True).indices
    low, high = (
        torch.full((int(groups.max()) + 1,), -1).scatter_reduce(
            0, groups, labels, how, include_self=False
        )
        for how in ("amin", "amax")
    )
    return order[(low != high)[groups[order]]]


def leaked(groups: Tensor, train: Tensor, other: Tensor) -> Tensor:
    """Those of `other` that have a copy in `train`.

    Derived in lesson 12.

    Args:
        groups: int64 (N,), as `find_duplicates` gives them.
        train: indices of training images, int64.
        other: indices of other images, int64.

    Returns:
        indices, int64 (M,).

    Example:
        >>> groups = torch.tensor([0, 1, 0, 2])
        >>> leaked(groups, train=torch.tensor([0, 1]), other=torch.tensor([2, 3])).tolist()
        [2]
    """
    return other[torch.isin(groups[other], groups[train])]


def grouped_split(
    labels: Tensor, groups: Tensor, fractions: tuple[float, float] = (0.2, 0.2), seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Split into ``(train, validation, test)`` with all copies on one side.

    Each class is split by itself, in the shares that `fractions` says of validation and test.
    Groups stay whole, so the shares are met as nearly as they allow. Training comes first, then
    validation: a class with one picture goes to training, with two to training and validation, and
    from three on it is in all parts. Derived in lesson 12.

    Args:
        labels: int64 (N,).
        groups: int64 (N,), as `find_duplicates` gives them.
        fractions: the shares of validation and test images, together less than 1.
        seed: of the draw.

    Returns:
        three tensors of indices, int64, sorted.

    Raises:
        ValueError: impossible shares, or a group with images of two classes.

    Example:
        >>> labels, groups = torch.zeros(10, dtype=torch.int64), torch.arange(10) // 2
        >>> [len(part) for part in grouped_split(labels, groups, fractions=(0.2, 0.2))]
        [6, 2, 2]
    """
    if min(fractions) < 0 or not 0 < sum(fractions) < 1:
        raise ValueError(
            f"fractions are {tuple(fractions)}; give the shares of validation and test images, "
            "together less than 1."
        )
    conflicts = label_conflicts(labels, groups)
    if len(conflicts):
        raise ValueError(
            f"{len(conflicts)} images have a group with another class in it, first number "
            f"{int(conflicts[0])}; leave copies out first (see label_conflicts). For groups that "
            "may mix classes, such as patients, take scikit-learn's StratifiedGroupKFold."
        )
    shares = np.array([1 - sum(fractions), *fractions])
    random = np.random.default_rng(seed)
    part_of = np.zeros(len(labels), dtype=np.int64)
    group_of = to_numpy(groups)
    for c in np.unique(to_numpy(labels)):
        members = np.flatnonzero(to_numpy(labels) == c)
        own, sizes = np.unique(group_of[members], return_counts=True)
        order = random.permutation(len(own))
        order = order[np.argsort(-sizes[order], kind="stable")]  # the largest first
        parts = _fill(sizes[order], shares * len(members))
        part_of[members] = parts[np.argsort(order)][np.searchsorted(own, group_of[members])]
    train, validation, test = (torch.from_numpy(np.flatnonzero(part_of == p)) for p in range(3))
    return train, validation, test


def _fill(sizes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The part, 0 to 2, of each group of one class: the part that lacks most gets the next one.

    sizes: images of each group, the largest first. wanted: images that each part is to have.
    """
    first: dict[int, int] = dict(zip(range(len(sizes)), (0,), strict=False))
    # The smallest groups go where there would else be none.
    for place, part in zip(range(len(sizes) - 1, 0, -1), wanted[1:].nonzero()[0] + 1, strict=False):
        first[place] = int(part)
    parts, room = np.zeros(len(sizes), dtype=np.int64), wanted.copy()
    for place in [*first, *(i for i in range(len(sizes)) if i not in first)]:
        parts[place] = first.get(place, int(room.argmax()))
        room[parts[place]] -= sizes[place]
    return parts


__all__ = [
    "Duplicates",
    "find_duplicates",
    "grouped_split",
    "label_conflicts",
    "leaked",
    "thumbnails",
]
