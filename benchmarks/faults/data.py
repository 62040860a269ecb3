"""Data as people have it: tensors of raw pixels and class numbers, always the same ones."""

from functools import cache

import torch
from sklearn.datasets import load_digits, make_classification
from sklearn.model_selection import train_test_split
from torch import Tensor

from imbalkit.course.embedded import find_data

TEST_PER_CLASS = 100


@cache
def _image_sets() -> dict:
    train, test = find_data("cifar10")
    return {"train": train, "test": test}


def source() -> str:
    """Where the photos come from."""
    return _image_sets()["train"].source


@cache
def photos(counts: tuple[int, ...], split: str) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and labels int64 (N,): counts[i] of class i, class after class.

    This is the order in which a reader of class folders lists them. CIFAR-10 if it is here, else
    the embedded set. A count may be 0; the split "test" holds at most 100 of a class.
    """
    source = _image_sets()[split]
    limit = TEST_PER_CLASS if split == "test" else max(counts)
    members = torch.cat(
        [
            torch.nonzero(source.labels == label).flatten()[: min(count, limit)]
            for label, count in enumerate(counts)
        ]
    )
    return source.images[members].permute(0, 3, 1, 2).contiguous(), source.labels[members]


@cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    """Handwritten digits: float32 (N, 1, 8, 8) with values 0..16, labels int64 (N,)."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=0.3, stratify=labels, random_state=0)
    number = {"train": 0, "test": 1}[split]
    return (
        torch.from_numpy(parts[number]).float().view(-1, 1, 8, 8),
        torch.from_numpy(parts[number + 2]).long(),
    )


@cache
def digit_pairs(split: str) -> tuple[Tensor, Tensor]:
    """The numbers 00 to 99: two digits side by side, float32 (N, 1, 8, 16), values 0..16.

    60 images of each class in the split "train", 10 in "test"; no digit is in both splits.
    """
    images, labels = digits(split)
    per_class, seed = {"train": (60, 1), "test": (10, 2)}[split]
    generator = torch.Generator().manual_seed(seed)
    members = [torch.nonzero(labels == digit).flatten() for digit in range(10)]

    def draw(digit: int) -> Tensor:
        return members[digit][torch.randint(len(members[digit]), (per_class,), generator=generator)]

    pairs = [
        torch.cat([images[draw(number // 10)], images[draw(number % 10)]], dim=3)
        for number in range(100)
    ]
    return torch.cat(pairs), torch.arange(100).repeat_interleave(per_class)


@cache
def table(split: str, rare: float = 0.5) -> tuple[Tensor, Tensor]:
    """Rows of 20 columns, float32 (N, 20), and labels 0 or 1; a share of `rare` has label 1."""
    rows, labels = make_classification(
        n_samples=3000,
        n_features=20,
        n_informative=8,
        class_sep=1.5,
        weights=[1 - rare],
        flip_y=0.01,
        random_state=0,
    )
    parts = train_test_split(rows, labels, test_size=0.3, stratify=labels, random_state=0)
    number = {"train": 0, "test": 1}[split]
    return torch.from_numpy(parts[number]).float(), torch.from_numpy(parts[number + 2]).long()
