"""How good is a model for every class, not only for the frequent ones?

Everything starts from the labels and the model's logits (or its predicted classes), as torch
tensors or numpy arrays; most figures are then read off the confusion matrix. Derived in lesson 01.
"""

import html
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from imbalkit.checks import check_counts, describe_array, to_numpy

EMPTY_GROUP = "no class in this group"
# More than MANY training images, fewer than FEW: the limits of Kang et al. 2020.
MANY, FEW = 100, 20


def confusion(labels, predictions, num_classes):
    """Count how often each true class (row) was predicted as each class (column).

    Args:
        labels: true classes, integers (N,) from 0 to ``num_classes - 1``.
        predictions: predicted classes, integers (N,), for example ``logits.argmax(1)``.
        num_classes: number of classes C, those without a single image included.

    Returns:
        int64 array (C, C).

    Raises:
        ValueError: not whole numbers, out of range, empty, or of different lengths.

    Derived in lesson 01.
    """
    labels = _class_numbers(labels, "labels", num_classes)
    predictions = _class_numbers(predictions, "predictions", num_classes)
    _check_same_length(labels, predictions, "predictions")
    return confusion_matrix(labels, predictions, labels=range(num_classes))


def per_class(confusion):
    """Recall, precision and F1 of each class, as scikit-learn defines them.

    Recall is the share of a class's images that the model finds. Precision is the share of the
    images given this class that really belong to it. F1 is their harmonic mean: high only when
    both are high. Where nothing can be counted the figure is 0: the recall of a class with no
    evaluated image, the precision of a class that is never predicted.

    Args:
        confusion: integers (C, C), rows are the true classes.

    Returns:
        ``{"recall": (C,), "precision": (C,), "f1": (C,)}``, float64 from 0 to 1.

    Raises:
        ValueError: the matrix is not square, is negative somewhere, or is all zero.

    Derived in lesson 01.
    """
    cells = _check_confusion(confusion)
    true, predicted = np.indices(cells.shape)
    # Each cell of the matrix is one pair (true, predicted) that occurred `cell` times.
    precision, recall, f1, _ = precision_recall_fscore_support(
        true.ravel(),
        predicted.ravel(),
        labels=range(len(cells)),
        sample_weight=cells.ravel(),
        zero_division=0,
    )
    return {"recall": recall, "precision": precision, "f1": f1}


def summary(confusion):
    """The figures that sum up a confusion matrix, ready to be stored as JSON.

    - ``accuracy``: share of all images that are predicted correctly.
    - ``balanced_accuracy``: mean of the classes' recalls, so that every class counts the same.
    - ``macro_f1``: mean of the classes' F1, which punishes missed and false alarms alike.
    - ``worst_recall``: recall of the class the model finds least.
    - ``recall``: list of C recalls.
    - ``predicted_share``: list of C shares, how often each class is predicted.

    A class with no evaluated image enters the means as 0 (see ``per_class``).

    Args:
        confusion: integers (C, C), rows are the true classes.

    Returns:
        dict of floats and lists of floats, all from 0 to 1.

    Derived in lesson 01.
    """
    cells = _check_confusion(confusion)
    scores = per_class(cells)
    return {
        "accuracy": float(np.trace(cells) / cells.sum()),
        "balanced_accuracy": float(scores["recall"].mean()),
        "macro_f1": float(scores["f1"].mean()),
        "worst_recall": float(scores["recall"].min()),
        "recall": scores["recall"].tolist(),
        "predicted_share": (cells.sum(0) / cells.sum()).tolist(),
    }


def recall_of(classes):
    """Make the figure "mean recall of these classes", for example to stop training on it.

    Args:
        classes: class numbers, for example ``[8, 9]`` or ``groups(counts)["few"]``.

    Returns:
        a function from a confusion matrix (C, C) to a float: ``fit(monitor=recall_of([8, 9]))``.

    Raises:
        ValueError: no class given, or, once called, a class that the matrix does not have.
    """
    chosen = to_numpy(classes).ravel()
    if chosen.size == 0:
        raise ValueError(f"recall_of got {EMPTY_GROUP}; name at least one class number.")

    def mean_recall(confusion):
        recall = per_class(confusion)["recall"]
        return float(recall[_class_numbers(chosen, "classes of recall_of", len(recall))].mean())

    return mean_recall


def groups(train_counts, many=MANY, few=FEW):
    """Sort the classes into many, medium and few by their number of training images.

    Many: more than ``many`` images; few: fewer than ``few``; medium: the rest.
    (Kang et al. 2020, "Decoupling representation and classifier for long-tailed recognition".)

    Returns:
        ``{"many": ..., "medium": ..., "few": ...}``, each an int64 array of class numbers.
    """
    counts = check_counts(train_counts)
    is_many, is_few = counts > many, counts < few
    masks = {"many": is_many, "medium": ~is_many & ~is_few, "few": is_few}
    return {name: np.flatnonzero(mask) for name, mask in masks.items()}


def group_recall(recall, train_counts, many=MANY, few=FEW):
    """Mean recall of the classes with many, medium and few training images.

    Args:
        recall: floats (C,), as ``per_class`` gives it.
        train_counts: training images of each class, integers (C,).
        many, few: limits of ``groups``.

    Returns:
        ``{"many": float, "medium": float, "few": float}``; a group without classes is ``None``,
        not 0: there is nothing to be bad at.

    Raises:
        ValueError: the two lengths differ.
    """
    recall = to_numpy(recall)
    members = groups(train_counts, many, few)
    _check_length(recall, sum(map(len, members.values())), "recall", "train_counts")
    return {name: float(recall[m].mean()) if len(m) else None for name, m in members.items()}


def imbalance_ratio(counts):
    """How many times larger the largest class is than the smallest.

    Raises:
        ValueError: a class has no image, so that the ratio does not exist.
    """
    counts = check_counts(counts)
    if counts.min() == 0:
        raise ValueError(
            f"Class {counts.argmin()} has no image, so counts have no imbalance ratio; "
            "drop the class or add images."
        )
    return float(counts.max() / counts.min())


def prior_entropy(counts):
    """Loss, in nats, of a model that knows how frequent the classes are and nothing else.

    With shares p = n_c / N it is the entropy -sum(p log p); for equal counts it is ln C.
    A model whose loss stays there has learned nothing from the images. Derived in lesson 01.
    """
    counts = check_counts(counts)
    return float(_entropy(counts / counts.sum()))


def prediction_share(predictions, num_classes):
    """Share of the images, float64 (C,) summing to 1, that is given each class.

    A share close to 1 for one class is how collapse shows, batch by batch. Derived in lesson 01.
    """
    predictions = _class_numbers(predictions, "predictions", num_classes)
    return np.bincount(predictions, minlength=num_classes) / len(predictions)


def effective_classes(share):
    """How many classes the predictions really use: the exponential of the share's entropy.

    It is 1 when one class takes everything and C when all are predicted equally often.

    Args:
        share: floats (C,), or (steps, C) for one figure per step; each row sums to 1.

    Returns:
        float, or float64 (steps,).

    Raises:
        ValueError: a row is not a share (negative, not finite, or not summing to 1).
    """
    used = np.exp(_entropy(check_shares(share)))
    return used if used.ndim else float(used)


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far the confidence can be believed; each array has one entry per bin.

    Attributes:
        ece: expected calibration error, the mean gap between confidence and accuracy, 0 to 1.
        confidence: mean confidence in the bin, NaN where it is empty.
        accuracy: share of correct predictions in the bin, NaN where it is empty.
        weight: share of all images that fall in the bin; sums to 1.
    """

    ece: float
    confidence: np.ndarray
    accuracy: np.ndarray
    weight: np.ndarray


def calibration(logits, labels, bins=15):
    """When the model says "90 % sure", is it right nine times out of ten?

    The confidence is the largest softmax probability. Images are put in ``bins`` equally wide
    bins of confidence, and the error is the gap between confidence and accuracy in each bin,
    averaged with the bins' shares of the images (Guo et al. 2017, "On calibration of modern
    neural networks").

    A bin holds its lower edge and not its upper one, as in torchmetrics, in float32; but a
    confidence of exactly 1 falls in the last bin, where torchmetrics gives it a bin of its own.

    Args:
        logits: floats (N, C), before softmax.
        labels: true classes, integers (N,).

    Returns:
        ``Calibration``.

    Raises:
        ValueError: NaN or infinite logits, wrong shapes, labels out of range, fewer than 1 bin.
    """
    logits, labels = _check_logits(logits, labels)
    if bins < 1:
        raise ValueError(f"calibration needs at least 1 bin and got bins={bins}; use 15.")
    confidence, predicted = torch.tensor(logits, dtype=torch.float32).softmax(1).max(1)
    correct = predicted.numpy() == labels
    edges = torch.linspace(0, 1, bins + 1)
    place = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=bins - 1).numpy()

    size = np.bincount(place, minlength=bins)
    filled = np.where(size > 0, size, np.nan)
    mean_confidence = np.bincount(place, confidence.double().numpy(), bins) / filled
    accuracy = np.bincount(place, correct, bins) / filled
    weight = size / size.sum()
    ece = float(np.nansum(weight * np.abs(accuracy - mean_confidence)))
    return Calibration(ece, mean_confidence, accuracy, weight)


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """Everything about one model on one labelled set; prints as a table.

    Attributes:
        classes: C names.
        train_counts: training images per class, int64 (C,).
        confusion: int64 (C, C), rows are the true classes.
        recall, precision, f1: float64 (C,), see ``per_class``.
        accuracy, balanced_accuracy, macro_f1: floats, see ``summary``.
        groups: recall of many, medium and few, see ``group_recall``.
        calibration: see ``calibration``.
    """

    classes: tuple
    train_counts: np.ndarray
    confusion: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    f1: np.ndarray
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    groups: dict
    calibration: Calibration

    def __str__(self):
        width = max(len(name) for name in (*self.classes, "class"))
        lines = [f"{'class':<{width}}  {'train images':>12}  recall  precision     F1"]
        for name, count, *scores in self._rows():
            recall, precision, f1 = (f"{score:.3f}" for score in scores)
            lines.append(f"{name:<{width}}  {count:>12}  {recall:>6}  {precision:>9}  {f1:>5}")
        totals = self._totals()
        width = max(len(name) for name, _, _ in totals)
        lines += ["", *(f"{name:<{width}}  {value}  {text}" for name, value, text in totals)]
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__

    def _repr_html_(self):
        head = ("class", "train images", "recall", "precision", "F1")
        rows = [
            (name, count, *(f"{score:.3f}" for score in scores))
            for name, count, *scores in self._rows()
        ]
        return _html_table(head, rows) + _html_table(("figure", "value", ""), self._totals())

    def _rows(self):
        counts = self.train_counts.tolist()
        return zip(self.classes, counts, self.recall, self.precision, self.f1, strict=True)

    def _totals(self):
        """Name, value and explanation of each figure below the table."""
        totals = [
            ("accuracy", f"{self.accuracy:.3f}", "share of all images predicted correctly"),
            ("balanced accuracy", f"{self.balanced_accuracy:.3f}", "mean recall of the classes"),
            ("macro-F1", f"{self.macro_f1:.3f}", "mean F1 of the classes"),
        ]
        limits = {"many": f"over {MANY}", "medium": f"{FEW} to {MANY}", "few": f"under {FEW}"}
        for name, members in groups(self.train_counts).items():
            recall = self.groups[name]
            value = "-" if recall is None else f"{recall:.3f}"
            size = EMPTY_GROUP if recall is None else f"classes in this group: {len(members)}"
            totals.append((f"recall, {name}", value, f"{size} ({limits[name]} training images)"))
        ece = f"{self.calibration.ece:.3f}"
        totals.append(("calibration error", ece, "mean gap between confidence and accuracy"))
        for index in np.flatnonzero(self.confusion.sum(1) == 0):
            text = f"no image of {self.classes[index]} was evaluated: its recall counts as 0"
            totals.append(("note", "", text))
        return totals


def report(labels, logits, train_counts, classes):
    """Judge a model on a labelled set, class by class.

    Args:
        labels: true classes, integers (N,).
        logits: the model's output, floats (N, C), before softmax.
        train_counts: training images of each class, integers (C,).
        classes: C names.

    Returns:
        ``Report``: print it, or leave it as the last line of a cell.

    Raises:
        ValueError: shapes, ranges or lengths that do not match, NaN or infinite logits.
    """
    logits, labels = _check_logits(logits, labels)
    num_classes = logits.shape[1]
    counts = check_counts(train_counts)
    _check_length(counts, num_classes, "train_counts", "logits' columns")
    _check_length(classes, num_classes, "classes", "logits' columns")
    cells = confusion(labels, logits.argmax(1), num_classes)
    totals = summary(cells)
    scores = per_class(cells)
    return Report(
        classes=tuple(classes),
        train_counts=counts,
        confusion=cells,
        **scores,
        accuracy=totals["accuracy"],
        balanced_accuracy=totals["balanced_accuracy"],
        macro_f1=totals["macro_f1"],
        groups=group_recall(scores["recall"], counts),
        calibration=calibration(logits, labels),
    )


# ---- checks: bad input is answered in one sentence ----


def check_shares(shares):
    """Return shares as float64 (..., C) whose rows sum to 1, or say that they do not."""
    shares = to_numpy(shares).astype(np.float64)
    # A NaN makes the comparisons false, so it is caught here too.
    if not (shares.size and np.all(shares >= 0) and np.allclose(shares.sum(-1), 1, atol=1e-3)):
        raise ValueError(
            "shares must be 0 or more and sum to 1 over the classes (the last axis); "
            "take them from prediction_share or from the history of fit."
        )
    return shares


def _class_numbers(values, name, num_classes):
    values = to_numpy(values)
    if values.size == 0:
        raise ValueError(f"{name} are empty; give at least one.")
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"{name} must be whole class numbers of shape (N,), got {describe_array(values)}; "
            "take argmax(1) of logits or one-hot rows."
        )
    wrong = np.flatnonzero((values < 0) | (values >= num_classes))
    if wrong.size:
        raise ValueError(
            f"{name} must be from 0 to {num_classes - 1}, but number {wrong[0]} is "
            f"{values[wrong[0]]}; renumber the classes from 0 or correct the number of classes."
        )
    return values


def _check_same_length(labels, other, name):
    if len(labels) != len(other):
        raise ValueError(
            f"There are {len(labels)} labels but {len(other)} {name}; "
            "both must come from the same images."
        )


def _check_length(values, expected, name, reference):
    if len(values) != expected:
        raise ValueError(
            f"{name} has {len(values)} entries but {reference} {expected}; give one per class."
        )


def _check_logits(logits, labels):
    logits = to_numpy(logits)
    if logits.ndim != 2 or not np.issubdtype(logits.dtype, np.floating):
        raise ValueError(
            f"logits must be floats of shape (N, C), got {describe_array(logits)}; "
            "give the model's output before argmax."
        )
    labels = _class_numbers(labels, "labels", logits.shape[1])
    _check_same_length(labels, logits, "rows of logits")
    bad = np.flatnonzero(~np.isfinite(logits).all(1))
    if bad.size:
        raise ValueError(
            f"logits are NaN or infinite for {bad.size} of {len(logits)} images, first in row "
            f"{bad[0]}; look for NaN in the images or a learning rate that is too high."
        )
    return logits, labels


def _check_confusion(confusion):
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


def _entropy(shares):
    """-sum(p log p) in nats over the last axis, with 0 log 0 = 0."""
    return -np.sum(shares * np.log(np.where(shares > 0, shares, 1)), axis=-1)


def _html_table(head, rows):
    cells = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr><th scope='row'>{html.escape(str(first))}</th>"
        + "".join(f"<td>{html.escape(str(value))}</td>" for value in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"
