"""Long-tailed subsets that others can rebuild exactly, and a validation split that keeps the tail.

Used from lesson 00 on. The construction is that of Cui et al., "Class-Balanced Loss Based on
Effective Number of Samples" (CVPR 2019), and of Cao et al., "Learning Imbalanced Datasets with
Label-Distribution-Aware Margin Loss" (NeurIPS 2019), whose subset `seed=0` reproduces.
"""

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from imbalkit.checks import check_labels
from imbalkit.data.images import ImageSet
from imbalkit.files import atomic_path

PROFILES = ("exponential", "step")


def long_tail_counts(
    n_max: int, num_classes: int, ratio: float, profile: str = "exponential"
) -> list[int]:
    """Number of images of each class: from `n_max` for class 0 down to about ``n_max / ratio``.

    "exponential": ``n_c = int(n_max * (1 / ratio) ** (c / (C - 1)))``. ``int`` cuts the fraction
        off; rounding would give other data under the same name.
    "step": the first half of the classes has `n_max`, the rest ``int(n_max * (1 / ratio))``.

    Raises ValueError for a ratio below 1, an unknown profile, fewer than two classes, and a ratio
    that would leave a class without any image.
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


def long_tail_indices(labels, counts: list[int], seed: int = 0) -> Tensor:
    """Draw ``counts[c]`` images of each class c; the indices stand class by class: int64, (sum,).

    With `seed` 0 this is, index for index, the subset that LDAM-DRW (Cao et al. 2019) and the many
    papers after it train on.

    labels: int64, (N,), values 0..C-1 with C = ``len(counts)``.
    Raises ValueError for wrong labels or counts and for a class with too few images.
    """
    labels = _as_labels(labels, len(counts))
    random = np.random.RandomState(seed)  # the old generator: the public subset was drawn with it
    chosen = []
    for c, wanted in enumerate(counts):
        members = np.flatnonzero(labels == c)
        if not 1 <= wanted <= len(members):
            raise ValueError(
                f"class {c} has {len(members)} images and {wanted} are wanted; "
                "ask for at least 1 and at most as many as there are."
            )
        random.shuffle(members)
        chosen.append(members[:wanted])
    return torch.from_numpy(np.concatenate(chosen))


def stratified_split(labels, fraction: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Split into ``(train, validation)`` indices with every class on both sides: int64, sorted.

    Validation gets ``round(fraction * n)`` images of a class with n, but at least one, and leaves
    at least one for training.

    labels: int64, (N,), values 0..C-1.
    Raises ValueError for wrong labels, for a fraction that is not between 0 and 1, and for a class
    with fewer than two images, which cannot stand on both sides.
    """
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction is {fraction}; give the share of validation images between 0 and 1, say 0.1."
        )
    labels = _as_labels(labels)
    random = np.random.default_rng(seed)
    in_validation = np.zeros(len(labels), dtype=bool)
    for c in range(labels.max() + 1):
        members = np.flatnonzero(labels == c)
        if len(members) < 2:
            raise ValueError(
                f"class {c} has {len(members)} of the {len(labels)} images and a split needs 2, "
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

    source: the image set that it was drawn from, as `ImageSet.source` says it.
    profile, ratio, seed: how it was drawn.
    indices: the images drawn, class by class.
    checksum: SHA-256, in hexadecimal, over the fields above, the chosen images and their labels.
    """

    source: str
    profile: str
    ratio: float
    seed: int
    indices: tuple[int, ...]
    checksum: str

    def save(self, path: str | os.PathLike) -> Path:
        """Write JSON to `path`, in one step. Raises OSError where that is impossible."""
        try:
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        except OSError as error:
            raise OSError(
                f"{path}: the manifest cannot be written ({error.strerror}); "
                "choose a folder that you may write to."
            ) from error
        return Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Manifest":
        """Read what `save` wrote.

        Raises OSError for a file that cannot be read and ValueError for one that is no manifest.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if set(content) != {field.name for field in fields(cls)}:
                raise ValueError("other fields than those of a manifest")
            manifest = cls(**content | {"indices": tuple(content["indices"])})
            manifest._check()
        except OSError as error:
            raise OSError(
                f"{path}: the manifest cannot be read ({error.strerror}); check the path."
            ) from error
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is not a manifest of a long-tailed subset ({str(error).rstrip('.')}); "
                "write it again with Manifest.save."
            ) from error
        return manifest

    def apply(self, image_set: ImageSet) -> ImageSet:
        """The subset of `image_set`. Raises ValueError unless it is exactly the one described."""
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
        digest.update(subset.images.cpu().contiguous().numpy())
        digest.update(subset.labels.cpu().numpy().astype("<i8"))
        return digest.hexdigest()

    def _check(self) -> None:
        _check_ratio_and_profile(self.ratio, self.profile)
        if not isinstance(self.source, str) or not isinstance(self.checksum, str):
            raise ValueError("source and checksum must be text")
        if not self.indices or not all(type(i) is int and i >= 0 for i in self.indices):
            raise ValueError("indices must be whole numbers from 0 on")


def make_long_tail(
    image_set: ImageSet, ratio: float, profile: str = "exponential", seed: int = 0
) -> tuple[ImageSet, Manifest]:
    """Draw a long-tailed subset and describe it: ``(subset, manifest)``.

    The largest class gets as many images as every class of `image_set` can give, which is all of
    them where the set is balanced. See `long_tail_counts` and `long_tail_indices`.

    Raises ValueError for an impossible ratio, an unknown profile and a class without an image.
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


def _as_labels(labels, num_classes: int | None = None) -> np.ndarray:
    """The labels as a checked numpy array; without `num_classes`, the largest label sets it."""
    labels = torch.as_tensor(labels).cpu()
    if num_classes is None:
        countable = labels.dtype == torch.int64 and labels.numel() > 0
        num_classes = int(labels.max()) + 1 if countable else 0
    check_labels(labels, num_classes, "the labels to draw from")
    return labels.numpy()


def _check_ratio_and_profile(ratio: float, profile: str) -> None:
    if not (math.isfinite(ratio) and ratio >= 1):
        raise ValueError(
            f"ratio is {ratio}; give the largest class's count over the smallest's, 1 or more."
        )
    if profile not in PROFILES:
        raise ValueError(f"there is no profile '{profile}'; choose one of {', '.join(PROFILES)}.")
