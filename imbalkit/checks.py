"""What goes in, checked once for the whole package: labels, lengths, shares, images per class."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def to_numpy(values: ArrayLike | Tensor) -> np.ndarray:
    """A list, array or tensor (on any device, of any dtype) as a numpy array."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        # numpy has no bfloat16, which is what autocast gives.
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return np.asarray(values)


def describe_array(array: np.ndarray) -> str:
    """ "int64 of shape (10,)", for error messages."""
    return f"{array.dtype} of shape {array.shape}"


def check_counts(counts: ArrayLike | Tensor) -> np.ndarray:
    """Return image counts per class as int64 (C,), or say what is wrong with them."""
    counts = to_numpy(in_order_of_classes(counts))
    if counts.ndim != 1 or counts.size == 0 or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(
            f"counts must be one whole number per class, got {describe_array(counts)}; "
            "count the labels, for example with numpy.bincount."
        )
    if counts.min() < 0 or counts.sum() == 0:
        raise ValueError(
            "counts must be 0 or more with at least one image in all; count the labels again."
        )
    return counts.astype(np.int64)


def in_order_of_classes(counts: ArrayLike | Tensor) -> ArrayLike | Tensor:
    """Counts that carry their class numbers, as a pandas Series does, sorted by these.

    ``value_counts`` of pandas puts the most frequent class first, whatever its number.
    """
    index = getattr(counts, "index", None)
    if index is None or callable(index):  # an array or a tensor; a list has a method of that name
        return counts
    classes = list(index)
    try:
        order = [classes.index(c) for c in range(len(classes))]
    except ValueError:
        raise ValueError(
            f"counts has the index {classes[:5]}, not the class numbers 0 to {len(classes) - 1}; "
            "give a list with one count per class, in the order of the model's outputs."
        ) from None
    return to_numpy(counts)[order]


def check_no_empty_class(counts: ArrayLike | Tensor, what: str) -> np.ndarray:
    """As `check_counts`, and every class needs an image; `what` cannot be made without it."""
    counts = check_counts(counts)
    if counts.min() == 0:
        raise ValueError(
            f"class {counts.argmin()} has no training image, so it has no {what}; drop the class "
            "or add images."
        )
    return counts


def as_labels(labels: ArrayLike | Tensor, num_classes: int | None = None) -> Tensor:
    """Labels as an int64 tensor (N,) on the CPU, where samplers work, or what is wrong."""
    labels = to_numpy(labels)
    if labels.ndim != 1 or labels.size == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels are {describe_array(labels)}; give one class index per image, at least one."
        )
    if labels.min() < 0:
        raise ValueError(f"labels start at {labels.min()}; number the classes from 0.")
    if num_classes is not None and labels.max() >= num_classes:
        raise ValueError(
            f"labels run to {labels.max()} but there are {num_classes} classes; number the classes "
            f"from 0 to {num_classes - 1}."
        )
    return torch.from_numpy(labels.astype(np.int64))


def check_labels(labels: Tensor, num_classes: int, where: str) -> None:
    """Raise ValueError unless `labels` are int64, (N,), N > 0, and within 0..num_classes-1."""
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise ValueError(
            f"{where}: labels must be int64 of shape (N,), not {labels.dtype} of shape "
            f"{tuple(labels.shape)}; convert class indices with .long()."
        )
    if len(labels) == 0:
        raise ValueError(f"{where}: there is no image; check the folder or the indices.")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{where}: labels run from {low} to {high} but there are {num_classes} classes; "
            f"number the classes from 0 to {num_classes - 1}."
        )


def indices_by_class(labels: np.ndarray, num_classes: int = 0) -> list[np.ndarray]:
    """The images of each class in their order, found in one pass, however many classes there are.

    Args:
        labels: integers (N,), 0 or more.
        num_classes: C; as many as there are labels for unless given.

    Returns:
        C arrays, int64, one a class.

    Example:
        >>> [members.tolist() for members in indices_by_class(np.array([1, 0, 1]), num_classes=3)]
        [[1], [0, 2], []]
    """
    counts = np.bincount(labels, minlength=num_classes)
    return np.split(np.argsort(labels, kind="stable"), counts.cumsum()[:-1])


def entropy(shares: ArrayLike | Tensor) -> np.ndarray:
    """-sum(p log p) in nats over the last axis, with 0 log 0 = 0: float64, () for shares (C,)."""
    shares = to_numpy(shares).astype(np.float64)
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=-1)


def entropy_of_counts(counts: ArrayLike | Tensor) -> float:
    """Entropy in nats of the class shares that these counts (C,) stand for; 0 for one class."""
    counts = to_numpy(counts)
    return max(float(entropy(counts / counts.sum())), 0.0)


def is_binary(logits: Tensor) -> bool:
    """One score for two classes, in place of a score for each?"""
    return logits.ndim == 1 or logits.shape[1] == 1


def class_labels(targets: Tensor, binary: bool) -> Tensor:
    """The class of each target: an index, the largest probability, or above a half.

    Returns:
        int64 (N,).

    Raises:
        ValueError: `targets` have not one index, or one row of probabilities, for each input.
    """
    if binary:
        if targets.ndim > 2 or targets.numel() != len(targets):
            raise ValueError(
                f"targets have shape {tuple(targets.shape)} but the model has one output for two "
                "classes; give one target for each input."
            )
        return (targets.flatten() > 0.5).long()
    if targets.ndim == 2 and targets.shape[1] > 1:
        return targets.float().argmax(1)
    if targets.ndim > 2 or targets.numel() != len(targets):
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}; give class indices (N,) or one "
            "probability for each class (N, C)."
        )
    return targets.flatten().long()
