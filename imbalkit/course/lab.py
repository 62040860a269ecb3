"""What a lesson works with, set up by one call that says what this run is made of."""

from dataclasses import dataclass
from typing import Any

import torch
import torchvision

import imbalkit
from imbalkit import plots
from imbalkit.course.embedded import find_data
from imbalkit.course.profiles import Profile, current_profile
from imbalkit.data import (
    Batches,
    ImageSet,
    Manifest,
    RandomCrop,
    RandomFlip,
    channel_statistics,
    make_long_tail,
    stratified_split,
)
from imbalkit.data.batches import Augmentation
from imbalkit.device import describe, pick_device

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Lab:
    """What a lesson works with.

    Attributes:
        device: where the lesson trains.
        profile: how large its trainings are.
        full: every training image of the source, as many of each class.
        train: the long-tailed training images.
        validation: one in ten of each class, held back from `train` (never fewer than one).
        test: the balanced test images. Look at them once, at the end.
        manifest: which images these are; save it so that somebody else trains on the same ones.
        mean: of each channel of `train`, in units of [0, 1] pixels.
        std: the standard deviation of each channel.
        augment: random crops, and flips where a mirrored image is still one of its class.
    """

    device: torch.device
    profile: Profile
    full: ImageSet
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    manifest: Manifest
    mean: list[float]
    std: list[float]
    augment: tuple[Augmentation, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def counts(self) -> list[int]:
        """Training images of each class, the most frequent class first."""
        return self.train.class_counts().tolist()

    def train_batches(self, image_set: ImageSet | None = None, **options: Any) -> Batches:
        """Shuffled, augmented batches of 128; `options` go to `Batches`."""
        defaults = {"mean": self.mean, "std": self.std, "shuffle": True, "augment": self.augment}
        options = {**defaults, **options}
        return Batches(image_set or self.train, device=self.device, **options)

    def eval_batches(self, image_set: ImageSet, **options: Any) -> Batches:
        """Large batches in the set's own order, not augmented; `options` go to `Batches`."""
        options = {"mean": self.mean, "std": self.std} | options
        return Batches(image_set, EVALUATION_BATCH, device=self.device, **options)


def set_up(ratio: float = 100, data: str = "cifar10", subset_seed: int = 0, seed: int = 0) -> Lab:
    """Find the data, draw the long-tailed subset, seed torch, and print what was used.

    Each lesson begins with it; lesson 00 shows what it does.

    Args:
        ratio: how many times more images the largest class has than the smallest.
        data: as the name in `imbalkit.course.embedded.find_data`.
        subset_seed: which images are drawn; 0 is the subset of most papers (LDAM-DRW's).
        seed: for the weights, the order of the batches and the augmentation.

    Example:
        >>> lab = set_up(ratio=100, data="embedded")
        imbalkit ...
        images: 11165 to train, 1241 to validate, 10000 to test
        >>> lab.counts[0], lab.counts[-1]
        (4500, 45)
    """
    torch.manual_seed(seed)
    plots.use_style()
    device = pick_device()
    profile = current_profile(device)
    full, test = find_data(data)
    long_tail, manifest = make_long_tail(full, ratio, seed=subset_seed)
    train_indices, val_indices = stratified_split(long_tail.labels, fraction=0.1, seed=0)
    train = long_tail.subset(train_indices)
    validation = long_tail.subset(val_indices)
    mean, std = channel_statistics(train.images)
    digits = full.source.startswith("embedded")  # a mirrored digit is no digit
    augment = (RandomCrop(),) if digits else (RandomCrop(), RandomFlip())
    print(
        f"imbalkit {imbalkit.__version__}, torch {torch.__version__.split('+')[0]}, "
        f"torchvision {torchvision.__version__.split('+')[0]}\n"
        f"device: {describe(device)}; profile: {profile.name}\n"
        f"data: {full.source}, long-tailed, ratio {ratio:g}, subset seed {subset_seed}\n"
        f"images: {len(train)} to train, {len(validation)} to validate, {len(test)} to test"
    )
    return Lab(device, profile, full, train, validation, test, manifest, mean, std, augment)
