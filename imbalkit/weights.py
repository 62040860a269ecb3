"""From class counts to class weights. Derived in lesson 03.

Every scheme gives rarer classes more weight; they differ in how much. All are scaled so that the
average training image has weight 1: the loss keeps its scale, and the learning rate its meaning.
"""

import numpy as np
import torch
from torch import Tensor

from imbalkit.checks import check_counts


def balanced(counts, missing: float | None = None) -> Tensor:
    """Inverse frequency: w_c = N / (C n_c), so that all classes add the same to the loss.

    counts: training images n_c of each class, integers (C,); N is their sum.
    missing: the weight of a class without a training image; it then counts neither in C nor in
        the scale. Without it such a class is an error.

    Returns float32 (C,). King and Zeng 2001, "Logistic regression in rare events data"; the
    "balanced" of scikit-learn. Derived in lesson 03.
    """
    return _scaled(lambda n: 1 / n, counts, missing)


def square_root(counts, missing: float | None = None) -> Tensor:
    """w_c in proportion to 1 / sqrt(n_c): half way, on a logarithmic scale, to `balanced`.

    Arguments and result as in `balanced`. Derived in lesson 03.
    """
    return _scaled(lambda n: n**-0.5, counts, missing)


def effective_number(counts, beta: float = 0.9999, missing: float | None = None) -> Tensor:
    """w_c in proportion to 1 / E_c, with the effective number E_c = (1 - beta^n_c) / (1 - beta).

    beta: 0 gives every class the same weight; towards 1 the weights become those of `balanced`.

    Other arguments and result as in `balanced`; the paper scales to the sum C instead, which is
    ``w * len(w) / w.sum()``. Cui et al. 2019, "Class-balanced loss based on effective number of
    samples". Derived in lesson 03.
    """
    if not 0 <= beta < 1:
        raise ValueError(f"beta is {beta}; it must be at least 0 and below 1.")
    return _scaled(lambda n: (1 - beta) / (1 - beta**n), counts, missing)


def _scaled(weight_of, counts, missing: float | None) -> Tensor:
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


__all__ = ["balanced", "effective_number", "square_root"]
