"""From logits to a decision: probabilities that can be believed, and errors that cost differently.

Everything here works on logits or probabilities of validation images; nothing is trained. Derived
in lesson 12.
"""

import math
import warnings

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from imbalkit.checks import as_rows, check_whole, describe_array, described, is_number, to_numpy
from imbalkit.metrics import confusion

LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are tried
HALVINGS = 50  # of the stretch between them: to the last digits of a float64


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The number T by which to divide the logits so that the cross-entropy is smallest.

    Above 1 the model was too sure of itself. The order of the classes stays, and so does every
    prediction. The loss has one lowest point in 1 / T; it is searched from 0.05 to 20.

    Guo et al. 2017, "On calibration of modern neural networks". Derived in lesson 12.

    Args:
        logits: floats (N, C), of validation images.
        labels: integers (N,).

    Returns:
        T, from 0.05 to 20; at either end a warning says that these images do not fix it.

    Raises:
        ValueError: shapes that do not match, labels without a column, logits that are not finite.

    Example:
        >>> logits = torch.tensor([[4.0, 0.0]] * 4)  # 98 % sure, three of four right
        >>> temperature = fit_temperature(logits, labels=[0, 0, 0, 1])
        >>> round(temperature, 3), round(float((logits[0] / temperature).softmax(0)[0]), 3)
        (3.641, 0.75)
    """
    scores = as_rows(to_numpy(logits), "logits").double()
    true = torch.from_numpy(checked_classes(labels, "labels"))
    if true.shape != scores.shape[:1]:
        raise ValueError(
            f"logits have shape {tuple(scores.shape)} and labels {tuple(true.shape)}; give "
            "(N, C) and (N,) of the same validation images."
        )
    if true.min() < 0 or true.max() >= scores.shape[1]:
        raise ValueError(
            f"labels run from {int(true.min())} to {int(true.max())} but the logits have "
            f"{scores.shape[1]} columns; number the classes from 0."
        )
    if not scores.isfinite().all():
        raise ValueError("logits are NaN or infinite; look for the cause before calibrating.")
    if scores.shape[1] < 2:
        raise ValueError("logits have one column; give one for each of two classes or more.")
    of_true = scores.gather(1, true[:, None]).mean()

    def slope(inverse: float) -> float:
        """The derivative of the cross-entropy by 1 / T: it rises, and is 0 at the lowest point."""
        expected = ((scores * inverse).softmax(1) * scores).sum(1).mean()
        return float(expected - of_true)

    low, high = -math.log(HIGHEST), -math.log(LOWEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    temperature = math.exp(-(low + high) / 2)
    if not 1.01 * LOWEST < temperature < 0.99 * HIGHEST:
        warnings.warn(
            f"the temperature {temperature:.2f} is at the end of what is searched, {LOWEST} to "
            f"{HIGHEST:g}: the model is right, or wrong, about nearly all of these images, so they "
            "cannot calibrate it; take more, or others.",
            stacklevel=2,
        )
    return temperature


def cost_threshold(miss: float, false_alarm: float) -> float:
    """The probability of a class from which on an alarm is the cheaper answer.

    An alarm costs (1 - p) x false_alarm on average, silence p x miss. They are equal at
    p = false_alarm / (false_alarm + miss).

    Elkan 2001, "The foundations of cost-sensitive learning". Derived in lesson 12.

    Args:
        miss: what it costs to overlook one image of the class, above 0.
        false_alarm: what it costs to look at one in vain, in the same unit, above 0.

    Returns:
        a threshold between 0 and 1.

    Raises:
        ValueError: costs that are not above 0 and finite.

    Example:
        >>> cost_threshold(miss=19, false_alarm=1)
        0.05
    """
    costs = (miss, false_alarm)
    if not (all(map(is_number, costs)) and 0 < min(costs) and max(costs) < np.inf):
        raise ValueError(
            f"the costs are {described(miss)} and {described(false_alarm)}; both must be "
            "above 0 and finite."
        )
    return false_alarm / (false_alarm + miss)


def recall_threshold(probabilities: ArrayLike, is_class: ArrayLike, recall: float) -> float:
    """The highest threshold at which at least this share of the class's images is found.

    Derived in lesson 12.

    Args:
        probabilities: of the class, floats (N,), of validation images.
        is_class: does the image belong to the class? Booleans (N,).
        recall: the share to find, above 0, at most 1.

    Returns:
        a probability.

    Raises:
        ValueError: another share, no image of the class, NaN, or arguments that do not match.

    Example:
        >>> recall_threshold([0.9, 0.6, 0.4, 0.1], [True, False, True, False], recall=1.0)
        0.4
    """
    of_all, wanted = checked_alarms(probabilities, is_class)
    of_class = np.sort(of_all[wanted])[::-1]
    if not is_number(recall) or not 0 < recall <= 1:
        raise ValueError(f"recall is {described(recall)}; give a share above 0 and at most 1.")
    if len(of_class) == 0:
        raise ValueError("no image belongs to the class, so its recall cannot be measured.")
    return float(of_class[int(np.ceil(recall * len(of_class) - 1e-9)) - 1])


def precision_recall(
    probabilities: ArrayLike, is_class: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.float64], NDArray[np.float64]]:
    """The precision and recall of an alarm at each threshold; an alarm is p >= threshold.

    Derived in lesson 12.

    Args:
        probabilities: of the class, floats (N,), of validation images.
        is_class: does the image belong to the class? Booleans (N,).

    Returns:
        thresholds from high to low, precision, recall: floats (K,), one for each of the K
        different probabilities.

    Raises:
        ValueError: no image of the class, or arguments that do not match.

    Example:
        >>> thresholds, precision, recall = precision_recall([0.9, 0.8, 0.3], [True, False, True])
        >>> thresholds.tolist(), precision.round(2).tolist(), recall.tolist()
        ([0.9, 0.8, 0.3], [1.0, 0.5, 0.67], [0.5, 0.5, 1.0])
    """
    of_class, wanted = checked_alarms(probabilities, is_class)
    if not wanted.any():
        raise ValueError("no image belongs to the class, so there is no recall to draw.")
    order = np.argsort(-of_class, kind="stable")
    thresholds, found = of_class[order], np.cumsum(wanted[order])
    last = np.append(np.flatnonzero(np.diff(thresholds)), len(thresholds) - 1)  # of equal ones
    return thresholds[last], found[last] / (last + 1), found[last] / found[-1]


def decide(
    probabilities: ArrayLike, costly: int | None = None, threshold: float | None = None
) -> Tensor:
    """The class of each image.

    Without a costly class, the most probable one. With it, the costly class wherever its
    probability reaches the threshold, and the most probable of the others elsewhere. Derived in
    lesson 12.

    Args:
        probabilities: floats (N, C).
        costly: a class number.
        threshold: from 0 to 1.

    Returns:
        int64 (N,).

    Raises:
        ValueError: a class that there is not, a threshold that is none, or NaN.

    Example:
        >>> probabilities = torch.tensor([[0.6, 0.4], [0.9, 0.1]])
        >>> decide(probabilities).tolist(), decide(probabilities, costly=1, threshold=0.3).tolist()
        ([0, 0], [1, 0])
    """
    rows = as_rows(probabilities, "probabilities")
    if bool(rows.isnan().any()):
        bad = int(rows.isnan().any(1).nonzero()[0])
        raise ValueError(
            f"the probabilities of image {bad} are NaN, so there is nothing to decide by; look at "
            "the image and at the model."
        )
    if costly is None and threshold is not None:
        raise ValueError("a threshold needs costly=, the class whose probability must reach it.")
    if costly is None:
        return rows.argmax(1)
    classes = rows.shape[1]
    fits = is_number(costly) and costly in range(classes)
    if not fits or threshold is None or not is_number(threshold) or not 0 <= threshold <= 1:
        raise ValueError(
            f"costly is {described(costly)} and threshold {described(threshold)}; give a class "
            f"from 0 to {classes - 1} and a probability from 0 to 1."
        )
    others = rows.clone()
    others[:, costly] = -1
    return others.argmax(1).masked_fill(rows[:, costly] >= float(threshold), costly)


def mean_cost(
    labels: ArrayLike, decisions: ArrayLike, costly: int, miss: float, false_alarm: float
) -> float:
    """What misses and false alarms of one class cost, per image; other errors cost nothing.

    Derived in lesson 12.

    Args:
        labels: true classes, integers (N,).
        decisions: decided classes, integers (N,).
        costly: a class number.
        miss: what it costs to overlook one image of the class.
        false_alarm: what it costs to look at one in vain.

    Returns:
        in the unit of the costs.

    Raises:
        ValueError: as `metrics.confusion`, or costs that are not finite.

    Example:
        >>> mean_cost(labels=[1, 0, 0], decisions=[0, 1, 0], costly=1, miss=5, false_alarm=1)
        2.0
    """
    if not all(is_number(cost) and math.isfinite(cost) for cost in (miss, false_alarm)):
        raise ValueError(
            f"the costs are {described(miss)} and {described(false_alarm)}; both must be finite."
        )
    check_whole(costly, "costly", 0)
    true, decided = checked_classes(labels, "labels"), checked_classes(decisions, "decisions")
    classes = int(max(true.max(), decided.max(), costly)) + 1
    cells = confusion(true, decided, classes)
    hits = cells[costly, costly]
    misses, alarms = cells[costly].sum() - hits, cells[:, costly].sum() - hits
    return float((misses * miss + alarms * false_alarm) / cells.sum())


def checked_classes(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """Class numbers as int64 (N,), N > 0, or what is wrong with them."""
    numbers = to_numpy(values)
    if numbers.ndim != 1 or numbers.size == 0 or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"{name} are {describe_array(numbers)}; give one class number per image, at least one."
        )
    return numbers.astype(np.int64)


def checked_alarms(
    probabilities: ArrayLike, is_class: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Finite probabilities (N,) and booleans (N,), or what is wrong with them."""
    of_class, wanted = to_numpy(probabilities), to_numpy(is_class)
    fits = of_class.ndim == 1 and of_class.shape == wanted.shape
    if not fits or of_class.dtype.kind not in "iuf" or not np.isfinite(of_class).all():
        raise ValueError(
            f"probabilities have shape {of_class.shape} and is_class {wanted.shape}; give one "
            "finite probability and one boolean per image."
        )
    if not np.isin(wanted, (0, 1)).all():
        raise ValueError("is_class holds more than True and False; compare: labels == the_class.")
    return of_class, wanted.astype(bool)


__all__ = [
    "cost_threshold",
    "decide",
    "fit_temperature",
    "mean_cost",
    "precision_recall",
    "recall_threshold",
]
