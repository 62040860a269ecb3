"""From logits to a decision: probabilities that can be believed, and errors that cost differently.

Everything here works on logits or probabilities of validation images; nothing is trained. Derived
in lesson 12.
"""

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve
from torch import Tensor

from imbalkit.checks import to_numpy
from imbalkit.metrics import confusion

LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are tried


def fit_temperature(logits, labels) -> float:
    """The number T by which to divide the logits so that the cross-entropy is smallest.

    Above 1 the model was too sure of itself. The order of the classes stays, and so does every
    prediction. The loss has one lowest point in 1 / T; it is searched from 0.05 to 20.

    logits: floats (N, C), of validation images. labels: integers (N,).
    Raises ValueError for shapes that do not match and for logits that are not finite.

    Guo et al. 2017, "On calibration of modern neural networks". Derived in lesson 12.
    """
    logits = torch.from_numpy(to_numpy(logits)).double()
    labels = torch.from_numpy(to_numpy(labels))
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or len(labels) == 0:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; give "
            "(N, C) and (N,) of the same validation images."
        )
    if not logits.isfinite().all():
        raise ValueError("logits are NaN or infinite; look for the cause before calibrating.")

    def loss(log_inverse):
        scaled = logits * np.exp(log_inverse)
        return float(torch.nn.functional.cross_entropy(scaled, labels))

    bounds = (-np.log(HIGHEST), -np.log(LOWEST))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(-best.x))


def cost_threshold(miss: float, false_alarm: float) -> float:
    """The probability of a class from which on an alarm is the cheaper answer.

    An alarm costs (1 - p) x false_alarm on average, silence p x miss. They are equal at
    p = false_alarm / (false_alarm + miss).

    miss: what it costs to overlook one image of the class. false_alarm: what it costs to look at
    one in vain. Both in the same unit, above 0.

    Elkan 2001, "The foundations of cost-sensitive learning". Derived in lesson 12.
    """
    if not (0 < miss < np.inf and 0 < false_alarm < np.inf):
        raise ValueError(
            f"the costs are {miss} and {false_alarm}; both must be above 0 and finite."
        )
    return false_alarm / (false_alarm + miss)


def recall_threshold(probabilities, is_class, recall: float) -> float:
    """The highest threshold at which at least this share of the class's images is found.

    probabilities: of the class, floats (N,), of validation images. is_class: booleans (N,).
    recall: the share to find, above 0, at most 1.

    Raises ValueError for another share, and where no image belongs to the class.
    Derived in lesson 12.
    """
    of_class = np.sort(to_numpy(probabilities)[to_numpy(is_class).astype(bool)])[::-1]
    if not 0 < recall <= 1:
        raise ValueError(f"recall is {recall}; give a share above 0 and at most 1.")
    if len(of_class) == 0:
        raise ValueError("no image belongs to the class, so its recall cannot be measured.")
    return float(of_class[int(np.ceil(recall * len(of_class) - 1e-9)) - 1])


def precision_recall(probabilities, is_class) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds from high to low, and the precision and recall of an alarm at each: floats (K,).

    An alarm is p >= threshold. Arguments as in `recall_threshold`. Derived in lesson 12.
    """
    is_class = to_numpy(is_class).astype(bool)
    if not is_class.any():
        raise ValueError("no image belongs to the class, so there is no recall to draw.")
    precision, recall, thresholds = precision_recall_curve(is_class, to_numpy(probabilities))
    return thresholds[::-1], precision[-2::-1], recall[-2::-1]


def decide(probabilities, costly: int | None = None, threshold: float | None = None) -> Tensor:
    """The class of each image: int64 (N,).

    Without a costly class, the most probable one. With it, the costly class wherever its
    probability reaches the threshold, and the most probable of the others elsewhere.

    probabilities: floats (N, C). costly: a class number. threshold: from 0 to 1.
    Derived in lesson 12.
    """
    probabilities = torch.as_tensor(probabilities)
    if costly is None:
        return probabilities.argmax(1)
    classes = probabilities.shape[1]
    if not 0 <= costly < classes or threshold is None or not 0 <= threshold <= 1:
        raise ValueError(
            f"costly is {costly} and threshold {threshold}; give a class from 0 to {classes - 1} "
            "and a probability from 0 to 1."
        )
    others = probabilities.clone()
    others[:, costly] = -1
    return others.argmax(1).masked_fill(probabilities[:, costly] >= threshold, costly)


def mean_cost(labels, decisions, costly: int, miss: float, false_alarm: float) -> float:
    """What misses and false alarms of one class cost, per image; other errors cost nothing.

    labels, decisions: integers (N,). Derived in lesson 12.
    """
    # At least two: scikit-learn warns of a matrix with one cell.
    classes = int(max(to_numpy(labels).max(), to_numpy(decisions).max(), costly, 1)) + 1
    cells = confusion(labels, decisions, classes)
    hits = cells[costly, costly]
    misses, alarms = cells[costly].sum() - hits, cells[:, costly].sum() - hits
    return float((misses * miss + alarms * false_alarm) / cells.sum())


__all__ = [
    "cost_threshold",
    "decide",
    "fit_temperature",
    "mean_cost",
    "precision_recall",
    "recall_threshold",
]
