"""Long-tailed subsets that others can rebuild exactly, and a validation split that keeps the tail.

Used from lesson 00 on. The construction is that of Cui et al., "Class-Balanced Loss Based on
Effective Number of Samples" (CVPR 2019), and of Cao et al., "Learning Imbalanced Datasets with
Label-Distribution-Aware Margin Loss" (NeurIPS 2019), whose subset `seed=0` reproduces.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import as_labels, check_whole, indices_by_class
from imbalkit.data.images import ImageSet
from imbalkit.schema import list_of, number, one_of, record, text, whole
from imbalkit.sealed import read_json, write_json

PROFILES = ("exponential", "step")
MANIFEST = record(  # what its file must hold
    source=text(),
    profile=one_of(*PROFILES),
    ratio=number(1, 1e9),
    seed=whole(0, 2**32 - 1),
    indices=list_of(whole(), 1),
    checksum=text(64),
)


def long_tail_counts(
    n_max: int, num_classes: int, ratio: float, profile: str = "exponential"
) -> list[int]:
    """Number of images of each class: from `n_max` for class 0 down to about ``n_max / ratio``.

    Args:
        n_max: images of the largest class.
        num_classes: C, 2 or more.
        ratio: of the largest class to the smallest, 1 or more.
        profile: "exponential" is ``n_c = int(n_max * (1 / ratio) ** (c / (C - 1)))``; ``int`` cuts
            the fraction off, and rounding would give other data under the same name. "step": the
            first half of the classes has `n_max`, the rest ``int(n_max * (1 / ratio))``.

    Returns:
        C counts.

    Raises:
        ValueError: a ratio below 1, an unknown profile, fewer than two classes, or a ratio that
            would leave a class without any image.

    Example:
        >>> long_tail_counts(5000, num_classes=10, ratio=100)
        [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    """
    _check_ratio_and_profile(ratio, profile)
    if num_classes < 2 or n_max < 1:
        raise ValueError(
            f"a long tail needs at least 2 classes and 1 image in the largest, not {num_classes} "
            f"classes and {n_max} images; check the data set."
        )
    if profile == "exponential":
        shares = [(1 / ratio) ** (c / (num_classes - 1)) for c in range(num_classes)]
    else:
        heads = num_classes // 2
        shares = [1.0] * heads + [1 / ratio] * (num_classes - heads)
    counts = [int(n_max * share) for share in shares]
    if 0 in counts:
        raise ValueError(
            f"ratio {ratio:g} leaves class {counts.index(0)} without an image, since the largest "
            f"class has {n_max}; use a ratio below {n_max}."
        )
    return counts


def long_tail_indices(labels: ArrayLike, counts: Sequence[int], seed: int = 0) -> Tensor:
    """Draw ``counts[c]`` images of each class c; the indices stand class by class.

    With `seed` 0 this is, index for index, the subset that LDAM-DRW (Cao et al. 2019) and the many
    papers after it train on.

    Args:
        labels: int64, (N,), values 0..C-1 with C = ``len(counts)``.
        counts: images wanted of each class, 1 or more.
        seed: of the draw.

    Returns:
        int64, (sum of counts,).

    Raises:
        ValueError: wrong labels or counts, or a class with too few images.

    Example:
        >>> labels = torch.tensor([0, 1, 0, 1, 0, 1])
        >>> labels[long_tail_indices(labels, [3, 1])].tolist()
        [0, 0, 0, 1]
    """
    classes = as_labels(labels, len(counts)).numpy()
    of_class = indices_by_class(classes, len(counts))
    # The old generator: the public subset was drawn with it.
    random = np.random.RandomState(check_whole(seed, "seed", 0))
    chosen = []
    for c, (members, wanted) in enumerate(zip(of_class, counts, strict=True)):
        if not 1 <= check_whole(wanted, f"count of class {c}", 0) <= len(members):
            raise ValueError(
                f"class {c} has {len(members)} images and {wanted} are wanted; "
                "ask for at least 1 and at most as many as there are."
            )
        random.shuffle(members)
        chosen.append(members[:wanted])
    return torch.from_numpy(np.concatenate(chosen))


def stratified_split(
    labels: ArrayLike, fraction: float = 0.1, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Split into ``(train, validation)`` indices with every class on both sides.

    Validation gets ``round(fraction * n)`` images of a class with n, but at least one, and leaves
    at least one for training.

    Args:
        labels: int64, (N,), values 0..C-1.
        fraction: the share of validation images, between 0 and 1.
        seed: of the draw.

    Returns:
        two tensors of indices, int64, sorted.

    Raises:
        ValueError: wrong labels, a fraction that is not between 0 and 1, or a class with fewer than
            two images, which cannot stand on both sides.

    Example:
        >>> labels = torch.tensor([0] * 8 + [1] * 2)
        >>> train, validation = stratified_split(labels, fraction=0.25)
        >>> labels[train].bincount().tolist(), labels[validation].bincount().tolist()
        ([6, 1], [2, 1])
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction is {fraction}; give the share of validation images between 0 and 1, say 0.1."
        )
    classes = as_labels(labels).numpy()
    random = np.random.default_rng(check_whole(seed, "seed", 0))
    in_validation = np.zeros(len(classes), dtype=bool)
    for c, members in enumerate(indices_by_class(classes)):
        if len(members) < 2:
            raise ValueError(
                f"class {c} has {len(members)} of the {len(classes)} images and a split needs 2, "
                "one on each side; add images or remove the class."
            )
        size = min(max(round(fraction * len(members)), 1), len(members) - 1)
        in_validation[random.choice(members, size, replace=False)] = True
    return (
        torch.from_numpy(np.flatnonzero(~in_validation)),
        torch.from_numpy(np.flatnonzero(in_validation)),
    )


@dataclass(frozen=True)
class Manifest:
    """Which images a long-tailed subset holds, so that two people train on the same ones.

    Attributes:
        source: the image set that it was drawn from, as `ImageSet.source` says it.
        profile: how it was drawn.
        ratio: likewise.
        seed: likewise.
        indices: the images drawn, class by class.
        checksum: SHA-256, in hexadecimal, over these fields, the images and labels.

    Example:
        >>> images = torch.randint(256, (8, 4, 4, 3), dtype=torch.uint8)
        >>> image_set = ImageSet(images, torch.arange(8) % 2, ("cat", "dog"), "noise")
        >>> subset, manifest = make_long_tail(image_set, ratio=4)
        >>> manifest.apply(image_set).images.equal(subset.images)
        True
    """

    source: str
    profile: str
    ratio: float
    seed: int
    indices: tuple[int, ...]
    checksum: str

    def save(self, path: str | os.PathLike) -> Path:
        """Write JSON to `path`, in one step.

        Raises:
            OSError: that is impossible.
        """
        try:
            write_json(path, asdict(self))
        except OSError as error:
            raise OSError(
                f"{path}: the manifest cannot be written ({error.strerror}); "
                "choose a folder that you may write to."
            ) from error
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Manifest":
        """Read what `save` wrote.

        Raises:
            OSError: a file that cannot be read.
            ValueError: a file that is no manifest, is damaged or was altered.
        """
        try:
            content = read_json(path, MANIFEST)
        except OSError as error:
            raise OSError(
                f"{path}: the manifest cannot be read ({error.strerror}); check the path."
            ) from error
        except ValueError as error:
            raise ValueError(
                f"{path} is not a manifest of a long-tailed subset ({str(error).rstrip('.')}); "
                "write it again with Manifest.save."
            ) from error
        return cls(**content | {"indices": tuple(content["indices"])})

    def apply(self, image_set: ImageSet) -> ImageSet:
        """The subset of `image_set`.

        Raises:
            ValueError: it is not exactly the one described.
        """
        if max(self.indices) < len(image_set):
            subset = image_set.subset(self.indices, source=self._name())
            if self._checksum(subset) == self.checksum:
                return subset
        raise ValueError(
            f"the manifest of '{self.source}' does not fit the {len(image_set)} images of "
            f"'{image_set.source}': it was drawn from other images or was altered; "
            "load the images it names, or make a new manifest."
        )

    def _name(self) -> str:
        return f"{self.source}, {self.profile} long tail, ratio {self.ratio:g}, seed {self.seed}"

    def _checksum(self, subset: ImageSet) -> str:
        # float: other programs rewrite 100.0 in a JSON file as 100
        ratio = float(self.ratio)
        settings = json.dumps([self.source, self.profile, ratio, self.seed, self.indices])
        digest = hashlib.sha256(settings.encode())
        digest.update(subset.images.cpu().contiguous().numpy().data)
        digest.update(subset.labels.cpu().numpy().astype("<i8").data)
        return digest.hexdigest()


def make_long_tail(
    image_set: ImageSet, ratio: float, profile: str = "exponential", seed: int = 0
) -> tuple[ImageSet, Manifest]:
    """Draw a long-tailed subset and describe it.

    The largest class gets as many images as every class of `image_set` can give, which is all of
    them where the set is balanced. See `long_tail_counts` and `long_tail_indices`.

    Args:
        image_set: where to draw from.
        ratio: of the largest class to the smallest, 1 or more.
        profile: "exponential" or "step".
        seed: of the draw; 0 is the subset of the papers.

    Returns:
        ``(subset, manifest)``.

    Raises:
        ValueError: an impossible ratio, an unknown profile, or a class without an image.

    Example:
        >>> images = torch.randint(256, (8, 4, 4, 3), dtype=torch.uint8)
        >>> image_set = ImageSet(images, torch.arange(8) % 2, ("cat", "dog"), "noise")
        >>> subset, manifest = make_long_tail(image_set, ratio=4)
        >>> subset.class_counts().tolist(), len(manifest.indices)
        ([4, 1], 5)
    """
    available = image_set.class_counts()
    if 0 in available:
        empty = image_set.classes[int(available.argmin())]
        raise ValueError(
            f"{image_set.source}: class '{empty}' has no image; add some or remove the class."
        )
    counts = long_tail_counts(int(available.min()), len(image_set.classes), ratio, profile)
    indices = tuple(long_tail_indices(image_set.labels, counts, seed).tolist())
    manifest = Manifest(image_set.source, profile, float(ratio), int(seed), indices, checksum="")
    subset = image_set.subset(indices, source=manifest._name())
    return subset, replace(manifest, checksum=manifest._checksum(subset))


def _check_ratio_and_profile(ratio: float, profile: str) -> None:
    if not (math.isfinite(ratio) and ratio >= 1):
        raise ValueError(
            f"ratio is {ratio}; give the largest class's count over the smallest's, 1 or more."
        )
    if profile not in PROFILES:
        raise ValueError(f"there is no profile '{profile}'; choose one of {', '.join(PROFILES)}.")


__all__ = [
    "Manifest",
    "long_tail_counts",
    "long_tail_indices",
    "make_long_tail",
    "stratified_split",
]
