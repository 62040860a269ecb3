"""Which images an epoch shows, and how often. Derived in lesson 05.

Two ways to change the mix of classes. `weighted_sampler` and `ProgressiveSampler` draw images at
random so that the classes come in given shares. `CountSampler` takes a given number of images of
each class, each image equally often, give or take one.

All are torch samplers, for a `DataLoader(sampler=...)` or for `Batches(sampler=...)`. They draw
anew for every epoch from torch's global generator, so that ``torch.manual_seed`` repeats a whole
training; with a generator of their own they repeat whatever else happens.
"""

from collections.abc import Iterator

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import Sampler, WeightedRandomSampler

from imbalkit.checks import (
    as_labels,
    check_counts,
    check_tensor,
    check_whole,
    in_order_of_classes,
    indices_by_class,
    to_floats,
)


def class_shares(counts: ArrayLike, power: float = 0.0) -> Tensor:
    """The share q_c of each class in a batch, in proportion to n_c^power.

    Kang et al. 2020, "Decoupling representation and classifier", equation 1. Derived in lesson 05.

    Args:
        counts: images of each class, integers (C,).
        power: 1 draws images as they are, 1/2 is square-root sampling, 0 class-balanced sampling.

    Returns:
        float64 (C,) that sums to 1. A class without an image has the share 0.

    Raises:
        ValueError: counts that are none.

    Example:
        >>> class_shares([90, 10], power=1).tolist()
        [0.9, 0.1]
        >>> class_shares([90, 10, 0]).tolist()
        [0.5, 0.5, 0.0]
    """
    images = torch.from_numpy(check_counts(counts)).double()
    shares = torch.where(images > 0, images**power, 0.0)
    return shares / shares.sum()


def image_weights(labels: ArrayLike, shares: ArrayLike) -> Tensor:
    """One weight per image, q_c / n_c, so that the classes are drawn in the shares q.

    Derived in lesson 05.

    Args:
        labels: class of each image of the set that is sampled, integers (N,). For a `Subset` these
            are the labels of the subset, not those of its parent.
        shares: one number q_c per class, floats (C,), 0 or more.

    Returns:
        float64 (N,).

    Raises:
        ValueError: shares that are none, or a class that has a share and no image.

    Example:
        >>> image_weights([0, 0, 1], [0.5, 0.5]).tolist()
        [0.25, 0.25, 0.5]
    """
    labels = as_labels(labels)
    shares = torch.from_numpy(to_floats(in_order_of_classes(shares, "shares"), "shares"))
    check_tensor(shares, "shares", "(C,)")
    if not (shares.isfinite().all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(
            f"shares are {shares.tolist()}; they must be finite, 0 or more, and not all 0."
        )
    counts = torch.bincount(labels, minlength=len(shares))
    if len(counts) != len(shares):
        raise ValueError(
            f"labels run to {int(labels.max())} but there are {len(shares)} shares; give one share "
            "per class."
        )
    impossible = ((counts == 0) & (shares > 0)).nonzero().flatten().tolist()
    if impossible:
        raise ValueError(f"class {impossible[0]} has no image to draw; set its share to 0.")
    return (shares / counts.clamp_min(1))[labels]


def weighted_sampler(
    labels: ArrayLike,
    power: float = 0.0,
    num_samples: int | None = None,
    generator: torch.Generator | None = None,
) -> WeightedRandomSampler:
    """Draw images with replacement, the classes in the shares n_c^power.

    Derived in lesson 05.

    Args:
        labels: class of each image, integers (N,).
        power: as in `class_shares`: 0 is class-balanced, 1/2 square-root sampling.
        num_samples: the length of an epoch; as many as there are images unless given.
        generator: where the draws come from; torch's global one unless given.

    Returns:
        a sampler for ``DataLoader(sampler=...)``.

    Raises:
        ValueError: labels that are no class numbers, or a class number without an image.

    Example:
        >>> labels = torch.tensor([0] * 90 + [1] * 10)
        >>> sampler = weighted_sampler(labels, generator=torch.Generator().manual_seed(0))
        >>> drawn = labels[list(sampler)].float().mean()  # the share of class 1
        >>> len(sampler), bool(0.35 < drawn < 0.65)
        (100, True)
    """
    labels = as_labels(labels)
    weights = image_weights(labels, class_shares(torch.bincount(labels), power))
    length = len(labels) if num_samples is None else check_whole(num_samples, "num_samples")
    # torch's annotation asks for a list; a tensor is what it makes of it.
    return WeightedRandomSampler(weights, length, generator=generator)  # type: ignore[arg-type]


class ProgressiveSampler(Sampler[int]):
    """Start with the images as they are and end class-balanced, a little more each epoch.

    In epoch t = 0 .. T-1 the share of class c is (1 - s) n_c / N + s / C with s = t / (T - 1).
    Each pass counts as an epoch; `fit` sets it, also where a training resumes. After T epochs
    the shares stay balanced.

    Kang et al. 2020, equation 2. Derived in lesson 05.

    Args:
        labels: class of each image, integers (N,).
        epochs: T, the passes over which the mix changes, 2 or more.
        generator: where the draws come from; torch's global one unless given.

    Raises:
        ValueError: fewer than 2 epochs, or labels that are no class numbers.

    Example:
        >>> sampler = ProgressiveSampler([0] * 9 + [1], epochs=3)
        >>> for epoch in range(3):
        ...     sampler.set_epoch(epoch)
        ...     print(sampler.shares().tolist())
        [0.9, 0.1]
        [0.7, 0.3]
        [0.5, 0.5]
    """

    def __init__(self, labels: ArrayLike, epochs: int, generator: torch.Generator | None = None):
        if epochs < 2:
            raise ValueError(f"epochs is {epochs}; a mix that changes needs at least 2.")
        self.labels = as_labels(labels)
        self.epochs, self.epoch, self.generator = epochs, 0, generator

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch`, from 0, the coming one."""
        self.epoch = epoch

    def shares(self) -> Tensor:
        """The share of each class in the coming epoch: float64 (C,)."""
        counts = torch.bincount(self.labels)
        s = min(1.0, self.epoch / (self.epochs - 1))
        return (1 - s) * class_shares(counts, power=1) + s * class_shares(counts, power=0)

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[int]:
        weights = image_weights(self.labels, self.shares())
        self.epoch += 1
        drawn = torch.multinomial(weights, len(self), replacement=True, generator=self.generator)
        return iter(drawn.tolist())


class CountSampler(Sampler[int]):
    """Show `per_class[c]` images of each class c in every epoch, drawn anew, in random order.

    The largest count for all classes is over-sampling, the smallest is under-sampling; cut to a
    range, ``[min(max(n, low), high) for n in counts]``, the rare classes are repeated and the
    frequent ones thinned.

    Derived in lesson 05; the two steps together in lesson 06.

    Args:
        labels: class of each image, integers (N,).
        per_class: images an epoch, integers (C,).
        generator: where the draws come from; torch's global one unless given.

    Raises:
        ValueError: as `draw_per_class`.

    Example:
        >>> labels = torch.tensor([0] * 9 + [1])
        >>> sampler = CountSampler(labels, [3, 3])
        >>> len(sampler), labels[list(sampler)].bincount().tolist()
        (6, [3, 3])
    """

    def __init__(
        self, labels: ArrayLike, per_class: ArrayLike, generator: torch.Generator | None = None
    ):
        self.labels, self.generator = as_labels(labels), generator
        self.per_class = check_per_class(self.labels, per_class)

    def __len__(self) -> int:
        return sum(self.per_class)

    def __iter__(self) -> Iterator[int]:
        drawn = draw_per_class(self.labels, self.per_class, self.generator)
        return iter(drawn[torch.randperm(len(drawn), generator=self.generator)].tolist())


def draw_per_class(
    labels: ArrayLike, per_class: ArrayLike, generator: torch.Generator | None = None
) -> Tensor:
    """Indices of `per_class[c]` images of each class c, class after class.

    Each image of a class is taken equally often, give or take one; who is taken once more is
    random. Draw from training images only, after the split: a copy in the validation set would be
    an image that the model has trained on.

    Derived in lesson 05.

    Args:
        labels: class of each image, integers (N,).
        per_class: images wanted of each class, integers (C,), 0 or more.
        generator: where the draws come from; torch's global one unless given.

    Returns:
        int64 (sum of per_class,).

    Raises:
        ValueError: a class that is asked for and has no image, or a label without an entry.

    Example:
        >>> draw_per_class([0, 0, 1], [0, 3]).tolist()
        [2, 2, 2]
    """
    labels = as_labels(labels)
    drawn, asked = [], check_per_class(labels, per_class)
    of_class = indices_by_class(labels.numpy(), len(asked))
    for members, wanted in zip(map(torch.from_numpy, of_class), asked, strict=True):
        if wanted:
            rounds, rest = divmod(wanted, len(members))
            some = torch.randperm(len(members), generator=generator)[:rest]
            drawn += [members.repeat(rounds), members[some]]
    return torch.cat(drawn)


def check_per_class(labels: Tensor, per_class: ArrayLike) -> list[int]:
    """`per_class` as a list, or what is wrong with drawing so many images of each class."""
    asked = check_counts(per_class).tolist()
    if labels.max() >= len(asked):
        raise ValueError(
            f"labels run to {int(labels.max())} but per_class has {len(asked)} entries; give "
            "one per class."
        )
    counts = torch.bincount(labels, minlength=len(asked)).tolist()
    for c, (wanted, there) in enumerate(zip(asked, counts, strict=True)):
        if wanted and not there:
            raise ValueError(f"class {c} has no image to draw; ask for 0 of it.")
    return asked


__all__ = [
    "CountSampler",
    "ProgressiveSampler",
    "class_shares",
    "draw_per_class",
    "image_weights",
    "weighted_sampler",
]
