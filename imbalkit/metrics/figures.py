"""Figures that are counted: from a confusion matrix, from predictions, from class counts."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbalkit.checks import (
    check_counts,
    check_whole,
    described,
    entropy,
    entropy_of_counts,
    is_number,
    to_floats,
    to_numpy,
)
from imbalkit.metrics.checks import (
    check_class_numbers,
    check_confusion,
    check_length,
    check_same_length,
    check_shares,
)

EMPTY_GROUP = "no class in this group"
# More than MANY training images, fewer than FEW: the limits of Kang et al. 2020.
MANY, FEW = 100, 20


def confusion(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Count how often each true class (row) was predicted as each class (column).

    Derived in lesson 01.

    Args:
        labels: true classes, integers (N,) from 0 to ``num_classes - 1``.
        predictions: predicted classes, integers (N,), for example ``logits.argmax(1)``.
        num_classes: number of classes C, those without a single image included.

    Returns:
        int64 array (C, C).

    Raises:
        ValueError: not whole numbers, out of range, empty, or of different lengths.

    Example:
        >>> confusion(labels=[0, 0, 1], predictions=[0, 1, 1], num_classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    num_classes = check_whole(num_classes, "num_classes")
    true = check_class_numbers(labels, "labels", num_classes)
    predicted = check_class_numbers(predictions, "predictions", num_classes)
    check_same_length(true, predicted, "predictions")
    # Each pair (true, predicted) as one number, and how often it occurs.
    pairs = true.astype(np.int64) * num_classes + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def per_class(confusion: ArrayLike) -> dict[str, NDArray[np.float64]]:
    """Recall, precision and F1 of each class, as scikit-learn defines them.

    Recall is the share of a class's images that the model finds. Precision is the share of the
    images given this class that really belong to it. F1 is their harmonic mean: high only when
    both are high. Where nothing can be counted the figure is 0: the recall of a class with no
    evaluated image, the precision of a class that is never predicted. Derived in lesson 01.

    Args:
        confusion: integers (C, C), rows are the true classes.

    Returns:
        ``{"recall": (C,), "precision": (C,), "f1": (C,)}``, float64 from 0 to 1.

    Raises:
        ValueError: the matrix is not square, is negative somewhere, or is all zero.

    Example:
        >>> {name: values.tolist() for name, values in per_class([[3, 1], [0, 0]]).items()}
        {'recall': [0.75, 0.0], 'precision': [1.0, 0.0], 'f1': [0.8571428571428571, 0.0]}
    """
    cells = check_confusion(confusion)
    return _scores(np.diag(cells), cells.sum(1), cells.sum(0))


def _scores(
    hits: np.ndarray, true: np.ndarray, predicted: np.ndarray
) -> dict[str, NDArray[np.float64]]:
    return {
        "recall": _share_of(hits, true),
        "precision": _share_of(hits, predicted),
        "f1": _share_of(2 * hits, true + predicted),
    }


def summary(confusion: ArrayLike) -> dict[str, Any]:
    """The figures that sum up a confusion matrix, ready to be stored as JSON.

    - ``accuracy``: share of all images that are predicted correctly.
    - ``balanced_accuracy``: mean of the classes' recalls, so that every class counts the same.
    - ``macro_f1``: mean of the classes' F1, which punishes missed and false alarms alike.
    - ``worst_recall``: recall of the class the model finds least.
    - ``recall``: list of C recalls.
    - ``predicted_share``: list of C shares, how often each class is predicted.

    A class with no evaluated image enters the means as 0 (see `per_class`). Derived in lesson 01.

    Args:
        confusion: integers (C, C), rows are the true classes.

    Returns:
        dict of floats and lists of floats, all from 0 to 1.

    Raises:
        ValueError: as `per_class`.

    Example:
        >>> figures = summary([[90, 0], [10, 0]])  # a model that always says 0
        >>> figures["accuracy"], figures["balanced_accuracy"], figures["predicted_share"]
        (0.9, 0.5, [1.0, 0.0])
    """
    cells = check_confusion(confusion)
    return summary_of_counts(np.diag(cells), cells.sum(1), cells.sum(0))


def summary_of_counts(hits: ArrayLike, true: ArrayLike, predicted: ArrayLike) -> dict[str, Any]:
    """As `summary`, from three counts a class: with 10,000 classes a matrix has 100 million cells.

    Derived in lesson 01.

    Args:
        hits: images of each class that are predicted as it, integers (C,).
        true: images of each class, integers (C,).
        predicted: predictions of each class, integers (C,).

    Returns:
        the dict of `summary`.

    Raises:
        ValueError: counts that are of no matrix.

    Example:
        >>> summary_of_counts(hits=[90, 0], true=[90, 10], predicted=[100, 0])["accuracy"]
        0.9
    """
    hits, true, predicted = (to_floats(counts, "counts") for counts in (hits, true, predicted))
    if (
        hits.ndim != 1
        or not hits.shape == true.shape == predicted.shape
        or true.sum() != predicted.sum()
    ):
        raise ValueError(
            "hits, true and predicted are counts of the same images: give three numbers for each "
            "class, and as many predictions as images."
        )
    if true.sum() == 0 or (hits < 0).any() or (hits > np.minimum(true, predicted)).any():
        raise ValueError(
            "hits must be 0 or more and at most the images and the predictions of each class, "
            "with at least one image in all."
        )
    scores, images = _scores(hits, true, predicted), true.sum()
    return {
        "accuracy": float(hits.sum() / images),
        "balanced_accuracy": float(scores["recall"].mean()),
        "macro_f1": float(scores["f1"].mean()),
        "worst_recall": float(scores["recall"].min()),
        "recall": scores["recall"].tolist(),
        "predicted_share": (predicted / images).tolist(),
    }


def summary_of_predictions(
    labels: ArrayLike, predictions: ArrayLike, num_classes: int
) -> dict[str, Any]:
    """As `summary` of their confusion matrix, which is not made: for many classes.

    Derived in lesson 01.

    Args:
        labels: true classes, integers (N,) from 0 to ``num_classes - 1``.
        predictions: predicted classes, integers (N,).
        num_classes: C.

    Returns:
        the dict of `summary`.

    Raises:
        ValueError: as `confusion`.

    Example:
        >>> summary_of_predictions([0, 0, 7], [0, 1, 7], num_classes=10_000)["worst_recall"]
        0.0
    """
    num_classes = check_whole(num_classes, "num_classes")
    true = check_class_numbers(labels, "labels", num_classes)
    predicted = check_class_numbers(predictions, "predictions", num_classes)
    check_same_length(true, predicted, "predictions")
    counted = (true[true == predicted], true, predicted)
    return summary_of_counts(*(np.bincount(c, minlength=num_classes) for c in counted))


def recall_of(classes: ArrayLike) -> Callable[[ArrayLike], float]:
    """Make the figure "mean recall of these classes", for example to stop training on it.

    Args:
        classes: class numbers, for example ``[8, 9]`` or ``groups(counts)["few"]``.

    Returns:
        a function from a confusion matrix (C, C) to a float: ``fit(monitor=recall_of([8, 9]))``.

    Raises:
        ValueError: no class given, or, once called, a class that the matrix does not have.

    Example:
        >>> of_the_rare = recall_of([1, 2])
        >>> of_the_rare([[9, 0, 0], [1, 1, 0], [0, 0, 2]])
        0.75
    """
    chosen = to_numpy(classes).ravel()
    if chosen.size == 0:
        raise ValueError(f"recall_of got {EMPTY_GROUP}; name at least one class number.")

    def mean_recall(confusion: ArrayLike) -> float:
        recall = per_class(confusion)["recall"]
        return float(
            recall[check_class_numbers(chosen, "classes of recall_of", len(recall))].mean()
        )

    return mean_recall


def groups(
    train_counts: ArrayLike, many: int = MANY, few: int = FEW
) -> dict[str, NDArray[np.int64]]:
    """Sort the classes into many, medium and few by their number of training images.

    Kang et al. 2020, "Decoupling representation and classifier for long-tailed recognition".

    Args:
        train_counts: training images of each class, integers (C,).
        many: a class with more is among the many.
        few: a class with fewer is among the few; the rest are medium.

    Returns:
        ``{"many": ..., "medium": ..., "few": ...}``, each an int64 array of class numbers.

    Raises:
        ValueError: counts that are none.

    Example:
        >>> {name: members.tolist() for name, members in groups([500, 100, 20, 3]).items()}
        {'many': [0], 'medium': [1, 2], 'few': [3]}
    """
    counts = check_counts(train_counts)
    for name, limit in (("many", many), ("few", few)):
        if not is_number(limit):
            raise ValueError(f"{name} is {described(limit)}; give a number of training images.")
    is_many, is_few = counts > float(many), counts < float(few)
    masks = {"many": is_many, "medium": ~is_many & ~is_few, "few": is_few}
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def group_recall(
    recall: ArrayLike, train_counts: ArrayLike, many: int = MANY, few: int = FEW
) -> dict[str, float | None]:
    """Mean recall of the classes with many, medium and few training images.

    Args:
        recall: floats (C,), as `per_class` gives it.
        train_counts: training images of each class, integers (C,).
        many: as in `groups`.
        few: as in `groups`.

    Returns:
        ``{"many": float, "medium": float, "few": float}``; a group without classes is ``None``,
        not 0: there is nothing to be bad at.

    Raises:
        ValueError: the two lengths differ.

    Example:
        >>> group_recall([0.9, 0.5, 0.1], train_counts=[500, 200, 3])
        {'many': 0.7, 'medium': None, 'few': 0.1}
    """
    recalls = to_numpy(recall)
    members = groups(train_counts, many, few)
    check_length(recalls, sum(map(len, members.values())), "recall", "train_counts")
    return {name: float(recalls[m].mean()) if len(m) else None for name, m in members.items()}


def imbalance_ratio(counts: ArrayLike) -> float:
    """How many times larger the largest class is than the smallest.

    Args:
        counts: images of each class, integers (C,).

    Returns:
        1 or more.

    Raises:
        ValueError: a class has no image, so that the ratio does not exist.

    Example:
        >>> imbalance_ratio([5000, 500, 50])
        100.0
    """
    counts = check_counts(counts)
    if counts.min() == 0:
        raise ValueError(
            f"Class {counts.argmin()} has no image, so counts have no imbalance ratio; "
            "drop the class or add images."
        )
    return float(counts.max() / counts.min())


def prior_entropy(counts: ArrayLike) -> float:
    """Loss, in nats, of a model that knows how frequent the classes are and nothing else.

    With shares p = n_c / N it is the entropy -sum(p log p); for equal counts it is ln C.
    A model whose loss stays there has learned nothing from the images. Derived in lesson 01.

    Args:
        counts: images of each class, integers (C,).

    Returns:
        from 0 to ln C.

    Raises:
        ValueError: counts that are none.

    Example:
        >>> round(prior_entropy([100, 100]), 4), round(prior_entropy([990, 10]), 4)
        (0.6931, 0.056)
    """
    return entropy_of_counts(check_counts(counts))


def prediction_share(predictions: ArrayLike, num_classes: int) -> NDArray[np.float64]:
    """Share of the images that is given each class.

    A share close to 1 for one class is how collapse shows, batch by batch. Derived in lesson 01.

    Args:
        predictions: predicted classes, integers (N,).
        num_classes: C.

    Returns:
        float64 (C,), summing to 1.

    Raises:
        ValueError: not whole numbers, out of range, or empty.

    Example:
        >>> prediction_share([0, 0, 0, 2], num_classes=3).tolist()
        [0.75, 0.0, 0.25]
    """
    num_classes = check_whole(num_classes, "num_classes")
    predicted = check_class_numbers(predictions, "predictions", num_classes)
    return np.bincount(predicted, minlength=num_classes) / len(predicted)


def effective_classes(share: ArrayLike) -> float | NDArray[np.float64]:
    """How many classes the predictions really use: the exponential of the share's entropy.

    It is 1 when one class takes everything and C when all are predicted equally often.

    Args:
        share: floats (C,), or (steps, C) for one figure per step; each row sums to 1.

    Returns:
        float, or float64 (steps,).

    Raises:
        ValueError: a row is not a share (negative, not finite, or not summing to 1).

    Example:
        >>> effective_classes([1.0, 0.0]), round(effective_classes([0.5, 0.5]), 4)
        (1.0, 2.0)
    """
    used = np.exp(entropy(check_shares(share)))
    return used if used.ndim else float(used)


def _share_of(part: np.ndarray, whole: np.ndarray) -> NDArray[np.float64]:
    """part / whole, and 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


__all__ = [
    "confusion",
    "effective_classes",
    "group_recall",
    "groups",
    "imbalance_ratio",
    "per_class",
    "prediction_share",
    "prior_entropy",
    "recall_of",
    "summary",
    "summary_of_counts",
    "summary_of_predictions",
]
