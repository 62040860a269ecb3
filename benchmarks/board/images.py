"""The sets of images on which the methods are compared, by name."""

from dataclasses import replace

from imbalkit.course.lab import Lab, set_up
from imbalkit.data import channel_statistics, make_long_tail, stratified_split

# name: data set, ratio of the largest to the smallest class, profile
SETS = {
    "cifar10-100": ("cifar10", 100, "exponential"),
    "cifar10-50": ("cifar10", 50, "exponential"),
    "cifar10-10": ("cifar10", 10, "exponential"),
    "cifar10-step-100": ("cifar10", 100, "step"),
    "cifar100-100": ("cifar100", 100, "exponential"),
}


def lab_of(name: str, seed: int) -> Lab:
    """The lab of a set in `SETS`: training, validation and test images."""
    data, ratio, profile = SETS[name]
    lab = set_up(ratio, data, seed=seed)
    if profile == "exponential":
        return lab
    images, manifest = make_long_tail(lab.full, ratio, profile)
    train, validation = (images.subset(part) for part in stratified_split(images.labels, 0.1))
    mean, std = channel_statistics(train.images)
    return replace(lab, train=train, validation=validation, manifest=manifest, mean=mean, std=std)
