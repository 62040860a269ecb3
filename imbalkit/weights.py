"""From class counts to class weights. Derived in lesson 03.

Every scheme gives rarer classes more weight; they differ in how much. All are scaled so that the
average training image has weight 1: the loss keeps its scale, and the learning rate its meaning.
`pos_weight` is for labels that are 0 or 1, with one logit each.

Counts are a list, an array or a tensor, in the order of the model's outputs. A pandas Series is
sorted by its index, since ``value_counts`` puts the most frequent class first.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import check_counts, in_order_of_classes, to_numpy


def balanced(counts: ArrayLike | Tensor, missing: float | None = None) -> Tensor:
    """Inverse frequency: w_c = N / (C n_c), so that all classes add the same to the loss.

    King and Zeng 2001, "Logistic regression in rare events data"; the "balanced" of scikit-learn.
    Derived in lesson 03.

    Args:
        counts: Training images n_c of each class, integers (C,); N is their sum.
        missing: The weight of a class without a training image; it then counts neither in C nor in
            the scale. Without it such a class is an error.

    Returns:
        One weight per class, float32 (C,).

    Raises:
        ValueError: The counts are no counts, a class has no image, or `missing` is no weight.

    Example:
        >>> from imbalkit import weights
        >>> weights.balanced([900, 100])
        tensor([0.5556, 5.0000])
    """
    return _scaled(lambda n: 1 / n, counts, missing)


def square_root(counts: ArrayLike | Tensor, missing: float | None = None) -> Tensor:
    """w_c in proportion to 1 / sqrt(n_c): half way, on a logarithmic scale, to `balanced`.

    Derived in lesson 03.

    Args:
        counts: As in `balanced`.
        missing: As in `balanced`.

    Returns:
        One weight per class, float32 (C,).

    Raises:
        ValueError: As in `balanced`.

    Example:
        >>> from imbalkit import weights
        >>> weights.square_root([900, 100])
        tensor([0.8333, 2.5000])
    """
    return _scaled(lambda n: n**-0.5, counts, missing)


def effective_number(
    counts: ArrayLike | Tensor, beta: float = 0.9999, missing: float | None = None
) -> Tensor:
    """w_c in proportion to 1 / E_c, with the effective number E_c = (1 - beta^n_c) / (1 - beta).

    The paper scales to the sum C instead, which is ``w * len(w) / w.sum()``. Cui et al. 2019,
    "Class-balanced loss based on effective number of samples". Derived in lesson 03.

    Args:
        counts: As in `balanced`.
        beta: 0 gives every class the same weight; towards 1 the weights become those of `balanced`.
        missing: As in `balanced`.

    Returns:
        One weight per class, float32 (C,).

    Raises:
        ValueError: beta is not at least 0 and below 1; or as in `balanced`.

    Example:
        >>> from imbalkit import weights
        >>> weights.effective_number([900, 100], beta=0.99)
        tensor([0.9454, 1.4911])
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}; it must be at least 0 and below 1.")
    return _scaled(lambda n: (1 - beta) / (1 - beta**n), counts, missing)


def pos_weight(positives: ArrayLike | Tensor, total: int, cap: float = 100.0) -> Tensor:
    """Negatives by positives, (N - n_c) / n_c: both sides of a label then add the same to the loss.

    For ``torch.nn.BCEWithLogitsLoss(pos_weight=...)``, `imbalkit.losses.SigmoidFocalLoss` and
    `imbalkit.losses.AsymmetricLoss`. Without a cap, a label that three of 100,000 images have would
    weigh 33,332: the batches that hold such an image would decide alone what is learned. Lesson 03
    derives class weights.

    Args:
        positives: Images n_c that have the label c, whole numbers (C,), or one number. Of targets
            (N, C) they are ``targets.sum(0)``.
        total: All images N.
        cap: The largest weight, above 0; ``math.inf`` for none. A label that no image has gets it.

    Returns:
        One weight per label, float32 (C,).

    Raises:
        ValueError: The positives are no counts or more than `total`, all images have a label, or a
            weight would be infinite.

    Example:
        >>> from imbalkit import weights
        >>> weights.pos_weight([500, 100, 1], total=1000)
        tensor([  1.,   9., 100.])
    """
    positives = np.atleast_1d(to_numpy(in_order_of_classes(positives)))
    if positives.dtype.kind == "f" and (positives % 1 == 0).all():  # the sum of float targets
        positives = positives.astype(np.int64)
    positives = check_counts(positives)
    if not cap > 0:
        raise ValueError(f"cap is {cap}; it must be above 0.")
    if positives.max() >= total:
        raise ValueError(
            f"label {positives.argmax()} has {positives.max()} positives of {total} images in all; "
            "there must be negatives, too: drop the label, or count again."
        )
    if positives.min() == 0 and cap == np.inf:
        raise ValueError(
            f"label {positives.argmin()} has no positive image, so its weight is infinite; drop "
            "the label, add images, or give a cap."
        )
    ratios = (total - positives) / np.maximum(positives, 1)
    return torch.from_numpy(np.where(positives == 0, cap, np.minimum(ratios, cap))).float()


def _scaled(
    weight_of: Callable[[np.ndarray], np.ndarray],
    counts: ArrayLike | Tensor,
    missing: float | None,
) -> Tensor:
    """The weights of the classes that have images, scaled to sum(n_c w_c) = N."""
    counts = check_counts(counts)
    present = counts > 0
    if missing is None and not present.all():
        raise ValueError(
            f"class {counts.argmin()} has no training image, so it has no weight; drop the class, "
            "add images, or choose its weight with missing=."
        )
    if missing is not None and not 0 <= missing < np.inf:
        raise ValueError(f"missing is {missing}; a weight must be finite and 0 or more.")
    n = counts[present].astype(np.float64)
    weights = np.full(len(counts), missing, dtype=np.float64)
    raw = weight_of(n)
    weights[present] = raw * n.sum() / (n * raw).sum()
    return torch.from_numpy(weights).float()


__all__ = ["balanced", "effective_number", "pos_weight", "square_root"]
