"""Copies of one picture: found, and kept on one side of a split. Derived in lesson 12.

A copy in the validation set is an image that the model has trained on. A copy under another class
has a wrong label. Both are common in collections from the web and from cameras that shoot bursts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from imbalkit.checks import check_tensor, indices_by_class, to_numpy

SIDE = 8  # near copies are compared as thumbnails of 8 x 8 pixels
NEAR = 0.15  # unless said, they differ by at most this share of their own contrast
LEAST_CONTRAST = 8.0  # grey levels; what varies less is taken as a plain surface
CHUNK = 128  # images that are compared with others at once
OTHERS = 4096  # with so many others
NUMBERS = 2**22  # in the pixels that are floats at once
DIRECTIONS = 6  # in which near copies are looked for first
ROUNDING = 0.01  # of a grey level
LISTED = 100  # a larger group is no set of copies: its pairs are not listed


@dataclass(frozen=True)
class Duplicates:
    """Which images show the same picture.

    Derived in lesson 12.

    Attributes:
        groups: int64, (N,): images with the same number are copies of one another, or copies of
            copies.
        exact: int64, (P, 2): pairs of images with the same pixels, the smaller index first.
        near: int64, (Q, 2): pairs whose pixels differ a little, in order. Those of a group of more
            than 100 different images are not listed: they would be half its square.

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

    Memory grows with N, and so does time, nearly: only images whose thumbnails lie together are
    compared (see the benchmark's curves).

    Args:
        images: uint8, (N, H, W, 3).
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
    if not isinstance(images, Tensor):
        raise ValueError(
            f"images are of type {type(images).__name__}; give a tensor, uint8 (N, H, W, 3): of an "
            "ImageSet its .images."
        )
    if images.ndim != 4 or images.dtype != torch.uint8:
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 (N, H, W, 3)."
        )
    if not near >= 0:
        raise ValueError(f"near is {near}; give a share of the contrast, 0 or more.")
    first_with: dict[bytes, int] = {}  # by digest: the pixels as keys would be a second copy
    first = torch.tensor(
        [first_with.setdefault(_digest(x), i) for i, x in enumerate(to_numpy(images))],
        dtype=torch.int64,
    )
    is_copy = first != torch.arange(len(first))
    exact = torch.stack([first[is_copy], is_copy.nonzero().flatten()], dim=1)
    unlike = (~is_copy).nonzero().flatten()  # one of each exact group
    pairs, lowest = unlike.new_empty(0, 2), first
    if near and len(unlike):
        pairs, group = _near_copies(thumbnails(images)[unlike], near)
        pairs, lowest = unlike[pairs], unlike[group][torch.searchsorted(unlike, first)]
    return Duplicates(lowest.unique(return_inverse=True)[1], exact, pairs)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=20).digest()


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
    check_tensor(images, "images", "(N, H, W, 3)")
    # 1,365 of CIFAR's, 27 of 224 x 224
    at_once = max(1, NUMBERS // max(1, images.shape[1:].numel()))
    chunks = (chunk.permute(0, 3, 1, 2).float() - 128 for chunk in images.split(at_once))
    return torch.cat([F.interpolate(c, (SIDE, SIDE), mode="area").flatten(1) for c in chunks])


def _near_copies(x: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Near copies among thumbnails (N, 192), without comparing each with each.

    In a few directions thumbnails lie at most as far apart as in all of them. So images are put in
    an order in which those that lie together there stand together, and a chunk of them is compared
    with the images around it only.

    Returns:
        pairs, int64 (Q, 2), of groups of up to LISTED images, and the lowest number in the group of
        each image, int64 (N,).
    """
    points = _in_main_directions(x)
    order = _neighbors_together(points)
    x, points = x[order], points[order]
    square = x.square().mean(1)
    reach = near * x.std(1, correction=0).clamp_min(LEAST_CONTRAST)
    most = reach.square()
    groups = Groups(len(x))
    pairs = [torch.empty(0, 2, dtype=torch.int64)]
    for rows, around in _surroundings(points, reach):
        around = groups.outside(groups.large(rows), around)
        for others in around[_within_reach(points, reach, rows, around)].split(OTHERS):
            large = groups.large(rows)  # within it no pair is listed, and nothing is left to join
            others = groups.outside(large, others)
            # The mean of (a - b)^2 as that of a^2 + b^2 - 2ab, for all pairs in one product.
            difference = (x[rows] @ x[others].T).mul_(-2 / x.shape[1])
            difference.add_(square[rows, None]).add_(square[None, others])
            alike = difference <= torch.minimum(most[rows, None], most[None, others])
            alike &= rows[:, None] < others
            if large is not None:
                alike &= alike.cumsum(0) == 1  # one link joins them
            row, other = alike.nonzero().T
            if not len(row):
                continue
            found = torch.stack([rows[row], others[other]], dim=1)
            groups.join(found)
            pairs.append(found[groups.sizes(found[:, 0]) <= LISTED])
    listed = torch.cat(pairs)
    listed = order[listed[groups.sizes(listed[:, 0]) <= LISTED]].sort(1).values
    lowest = torch.full((len(x),), len(x))
    group = torch.from_numpy(groups.of(np.arange(len(x))))
    lowest = lowest.scatter_reduce(0, group, order, "amin")[group]
    in_order = listed[(listed[:, 0] * len(x) + listed[:, 1]).argsort()]
    return in_order, torch.empty_like(lowest).index_copy_(0, order, lowest)


def _in_main_directions(x: Tensor) -> Tensor:
    """Thumbnails in the directions in which they differ most: float32 (N, 6)."""
    centered = x - x.mean(0)
    directions = torch.linalg.eigh(centered.T @ centered)[1][:, -DIRECTIONS:]
    return centered @ directions / x.shape[1] ** 0.5


def _neighbors_together(points: Tensor) -> Tensor:
    """An order, int64 (N,), in which chunks hold points that lie together.

    The points are cut in two along the direction in which they spread most, and so are the parts.
    """
    order, parts = torch.arange(len(points)), [(0, len(points))]
    while parts:
        start, end = parts.pop()
        chunks = -(-(end - start) // CHUNK)
        if chunks < 2:
            continue
        part = points[order[start:end]]
        widest = (part.amax(0) - part.amin(0)).argmax()
        order[start:end] = order[start:end][part[:, widest].argsort(stable=True)]
        middle = start + chunks // 2 * CHUNK
        parts += [(start, middle), (middle, end)]
    return order


def _surroundings(points: Tensor, reach: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each chunk, and the images from there on in the chunks that may lie within its reach."""
    images = torch.arange(len(points))
    parts = points.split(CHUNK)
    low, high = (torch.stack([getattr(part, end)(0) for part in parts]) for end in ("amin", "amax"))
    farthest = torch.stack([part.max() for part in reach.split(CHUNK)])
    for i, rows in enumerate(images.split(CHUNK)):
        # How far the boxes around two chunks are apart in each direction.
        apart = torch.maximum(low[i:] - high[i], low[i] - high[i:]).clamp_min(0).norm(dim=1)
        near = apart <= farthest[i:].clamp_max(farthest[i]) + ROUNDING
        yield rows, images[int(rows[0]) :][near.repeat_interleave(CHUNK)[: len(images) - rows[0]]]


def _within_reach(points: Tensor, reach: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Which of `others` may be within reach of one of `rows`: as far as the box around these."""
    low, high = points[rows].amin(0), points[rows].amax(0)
    apart = torch.maximum(points[others] - high, low - points[others]).clamp_min(0).norm(dim=1)
    return apart <= reach[others].clamp_max(reach[rows].max()) + ROUNDING


class Groups:
    """Which of n images belong together, while links between them are found. See lesson 12.

    Example:
        >>> groups = Groups(4)
        >>> groups.join(torch.tensor([[0, 2], [2, 3]]))
        >>> groups.of(np.arange(4)).tolist(), groups.sizes(torch.tensor([1, 3])).tolist()
        ([0, 1, 0, 0], [1, 3])
    """

    def __init__(self, n: int):
        self.above = np.arange(n)  # each image points to one of its group, in the end to the first
        self.size = np.ones(n, dtype=np.int64)  # of the group, at its first image

    def of(self, images: np.ndarray) -> np.ndarray:
        """The first image of each one's group."""
        first = self.above[images]
        while not np.array_equal(self.above[first], first):
            first = self.above[first]
        self.above[images] = first
        return first

    def sizes(self, images: Tensor) -> Tensor:
        """How many images there are in each one's group."""
        return torch.from_numpy(self.size[self.of(images.numpy())])

    def join(self, links: Tensor) -> None:
        """Make one group of each two that a link, int64 (P, 2), leads between."""
        ends = self.of(links.numpy())
        firsts, ends = np.unique(ends[ends[:, 0] != ends[:, 1]], return_inverse=True)
        _, lowest, group = np.unique(
            connected(ends.reshape(-1, 2), len(firsts)), return_index=True, return_inverse=True
        )
        new = firsts[lowest[group]]
        self.above[firsts] = new
        np.add.at(self.size, new[new != firsts], self.size[firsts[new != firsts]])

    def large(self, images: Tensor) -> int | None:
        """The first image of their group, where all are in one of more than LISTED images."""
        first = self.of(images.numpy())
        one = self.size[first[0]] > LISTED and (first == first[0]).all()
        return int(first[0]) if one else None

    def outside(self, large: int | None, images: Tensor) -> Tensor:
        """Those of the images that are not in the group of `large`, where it is one."""
        if large is None:
            return images
        return images[torch.from_numpy(self.of(images.numpy()) != large)]


def connected(links: np.ndarray, n: int) -> np.ndarray:
    """The group of each of n images, so that linked ones share it: int64 (n,), from 0 up.

    Args:
        links: pairs of indices, int64 (P, 2).
        n: how many images there are.

    Example:
        >>> connected(np.array([[0, 2], [2, 3]]), n=5).tolist()
        [0, 1, 0, 0, 2]
    """
    lowest = np.arange(n)  # the smallest index that is known to be in an image's group
    while True:
        ends = lowest[links]
        low, high = ends.min(1), ends.max(1)
        if np.array_equal(low, high):
            return np.unique(lowest, return_inverse=True)[1]
        np.minimum.at(lowest, high, low)
        while not np.array_equal(lowest[lowest], lowest):  # a long chain in a few jumps
            lowest = lowest[lowest]


def label_conflicts(labels: Tensor, groups: Tensor) -> Tensor:
    """Indices of the images that have a copy under another class, group by group.

    One of the labels is wrong, and only a look can tell which. Derived in lesson 12.

    Args:
        labels: int64 (N,).
        groups: int64 (N,), as `find_duplicates` gives them, or any other whole numbers.

    Returns:
        int64 (M,).

    Raises:
        ValueError: not one whole number for each label.

    Example:
        >>> label_conflicts(torch.tensor([0, 0, 1, 1]), groups=torch.tensor([0, 1, 1, 2])).tolist()
        [1, 2]
    """
    places = _group_places(labels, groups)
    order = torch.sort(places, stable=True).indices
    low, high = (
        torch.full((len(groups),), -1).scatter_reduce(
            0, places, labels.long(), how, include_self=False
        )
        for how in ("amin", "amax")
    )
    return order[(low != high)[places[order]]]


def _group_places(labels: Tensor, groups: Tensor) -> Tensor:
    """The groups numbered from 0 without gaps: the numbers of patients may have ten digits."""
    if (
        groups.ndim != 1
        or groups.shape != labels.shape
        or groups.is_floating_point()
        or groups.is_complex()
        or groups.dtype == torch.bool
    ):
        raise ValueError(
            f"groups are {groups.dtype} of shape {tuple(groups.shape)} for labels of shape "
            f"{tuple(labels.shape)}; give one whole number an image."
        )
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels are {labels.dtype}; give whole numbers.")
    return groups.unique(return_inverse=True)[1]


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
    for name, numbers in (("groups", groups), ("train", train), ("other", other)):
        check_tensor(numbers, name, "(N,)")
        if numbers.is_floating_point() or numbers.is_complex():
            raise ValueError(f"{name} are {numbers.dtype}; give whole numbers.")
    for name, rows in (("train", train), ("other", other)):
        if len(rows) and (rows.min() < 0 or rows.max() >= len(groups)):
            raise ValueError(f"{name} names images that are not among the {len(groups)} grouped.")
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
        groups: int64 (N,), as `find_duplicates` gives them, or any other whole numbers, such as
            those of patients: they may be large or negative.
        fractions: the shares of validation and test images, together less than 1.
        seed: of the draw.

    Returns:
        three tensors of indices, int64, sorted.

    Raises:
        ValueError: impossible shares, not one group for each label, or a group with images of two
            classes.

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
    for members in indices_by_class(np.unique(to_numpy(labels), return_inverse=True)[1]):
        own, sizes = np.unique(group_of[members], return_counts=True)
        order = random.permutation(len(own))
        order = order[np.argsort(-sizes[order], kind="stable")]  # the largest first
        parts = _fill(sizes[order], shares * len(members))
        part_of[members] = parts[np.argsort(order)][np.searchsorted(own, group_of[members])]
    train, validation, test = (torch.from_numpy(np.flatnonzero(part_of == p)) for p in range(3))
    return train, validation, test


def _fill(sizes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The part, 0 to 2, of each group of one class: the part that lacks most gets the next one.

    Args:
        sizes: images of each group, the largest first.
        wanted: images that each part is to have.
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
