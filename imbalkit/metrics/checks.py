"""What the figures ask of labels, logits and matrices: bad input is answered in one sentence."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbalkit.checks import describe_array, to_floats, to_numpy


def check_shares(shares: ArrayLike) -> NDArray[np.float64]:
    """Return shares as float64 (..., C) whose rows sum to 1, or say that they do not."""
    rows = to_floats(shares, "shares")
    # A NaN makes the comparisons false, so it is caught here too.
    some = rows.size and rows.ndim
    if not (some and np.all(rows >= 0) and np.allclose(rows.sum(-1), 1, atol=1e-3)):
        raise ValueError(
            "shares must be 0 or more and sum to 1 over the classes (the last axis); "
            "take them from prediction_share or from the history of fit."
        )
    return rows


def check_class_numbers(values: ArrayLike, name: str, num_classes: int) -> NDArray[np.integer]:
    numbers = to_numpy(values)
    if numbers.size == 0:
        raise ValueError(f"{name} are empty; give at least one.")
    if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(
            f"{name} must be whole class numbers of shape (N,), got {describe_array(numbers)}; "
            "take argmax(1) of logits or one-hot rows."
        )
    wrong = np.flatnonzero((numbers < 0) | (numbers >= num_classes))
    if wrong.size:
        raise ValueError(
            f"{name} must be from 0 to {num_classes - 1}, but number {wrong[0]} is "
            f"{numbers[wrong[0]]}; renumber the classes from 0 or correct the number of classes."
        )
    return numbers


def check_same_length(labels: np.ndarray, other: np.ndarray, name: str) -> None:
    if len(labels) != len(other):
        raise ValueError(
            f"There are {len(labels)} labels but {len(other)} {name}; "
            "both must come from the same images."
        )


def check_length(values: Sequence | np.ndarray, expected: int, name: str, reference: str) -> None:
    length = len(values) if getattr(values, "ndim", 1) == 1 else 0
    if length != expected:
        raise ValueError(
            f"{name} has {length} entries but {reference} {expected}; give one per class."
        )


def check_logits(
    logits: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    scores = to_numpy(logits)
    if scores.ndim != 2 or not np.issubdtype(scores.dtype, np.floating):
        raise ValueError(
            f"logits must be floats of shape (N, C), got {describe_array(scores)}; "
            "give the model's output before argmax."
        )
    true = check_class_numbers(labels, "labels", scores.shape[1])
    check_same_length(true, scores, "rows of logits")
    bad = np.flatnonzero(~np.isfinite(scores).all(1))
    if bad.size:
        raise ValueError(
            f"logits are NaN or infinite for {bad.size} of {len(scores)} images, first in row "
            f"{bad[0]}; look for NaN in the images or a learning rate that is too high."
        )
    return scores, true


def check_confusion(confusion: ArrayLike) -> NDArray[np.integer]:
    cells = to_numpy(confusion)
    square = cells.ndim == 2 and cells.shape[0] == cells.shape[1]
    if not square or not np.issubdtype(cells.dtype, np.integer):
        raise ValueError(
            "A confusion matrix must be whole numbers of shape (C, C), got "
            f"{describe_array(cells)}; make it with metrics.confusion."
        )
    if cells.min(initial=0) < 0 or cells.sum() == 0:
        raise ValueError(
            "A confusion matrix must be 0 or more with at least one image in all; "
            "make it with metrics.confusion."
        )
    return cells
