"""All figures of one model on one labelled set, as a table."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imbalkit.checks import check_counts
from imbalkit.metrics.checks import check_length, check_logits
from imbalkit.metrics.confidence import Calibration, calibration
from imbalkit.metrics.figures import (
    EMPTY_GROUP,
    FEW,
    MANY,
    confusion,
    group_recall,
    groups,
    per_class,
    summary,
)
from imbalkit.texts import html_text, printable


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """Everything about one model on one labelled set; prints as a table.

    Attributes:
        classes: C names.
        train_counts: training images per class, int64 (C,).
        confusion: int64 (C, C), rows are the true classes.
        recall: float64 (C,), see `per_class`.
        precision: float64 (C,), see `per_class`.
        f1: float64 (C,), see `per_class`.
        accuracy: see `summary`.
        balanced_accuracy: see `summary`.
        macro_f1: see `summary`.
        groups: recall of many, medium and few, see `group_recall`.
        calibration: see the function `calibration`.

    Example:
        >>> logits = np.array([[2.0, 0.0], [1.0, 0.0]])
        >>> result = report([0, 1], logits, train_counts=[90, 10], classes=["cat", "dog"])
        >>> result.accuracy, result.recall.tolist()
        (0.5, [1.0, 0.0])
    """

    classes: tuple[str, ...]
    train_counts: NDArray[np.int64]
    confusion: NDArray[np.int64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    f1: NDArray[np.float64]
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    groups: dict[str, float | None]
    calibration: Calibration

    def __str__(self) -> str:
        width = max(len(printable(name)) for name in (*self.classes, "class"))
        lines = [f"{'class':<{width}}  {'train images':>12}  recall  precision     F1"]
        for name, count, *scores in self._rows():
            recall, precision, f1 = (f"{score:.3f}" for score in scores)
            lines.append(f"{name:<{width}}  {count:>12}  {recall:>6}  {precision:>9}  {f1:>5}")
        totals = self._totals()
        width = max(len(name) for name, _, _ in totals)
        lines += ["", *(f"{name:<{width}}  {value}  {text}" for name, value, text in totals)]
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = ("class", "train images", "recall", "precision", "F1")
        rows = [
            (name, count, *(f"{score:.3f}" for score in scores))
            for name, count, *scores in self._rows()
        ]
        return _html_table(head, rows) + _html_table(("figure", "value", ""), self._totals())

    def _rows(self) -> Iterator[tuple]:
        names, counts = map(printable, self.classes), self.train_counts.tolist()
        return zip(names, counts, self.recall, self.precision, self.f1, strict=True)

    def _totals(self) -> list[tuple[str, str, str]]:
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
            name = printable(self.classes[index])
            text = f"no image of {name} was evaluated: its recall counts as 0"
            totals.append(("note", "", text))
        return totals


def report(
    labels: ArrayLike, logits: ArrayLike, train_counts: ArrayLike, classes: Sequence[str]
) -> Report:
    """Judge a model on a labelled set, class by class.

    Args:
        labels: true classes, integers (N,).
        logits: the model's output, floats (N, C), before softmax.
        train_counts: training images of each class, integers (C,).
        classes: C names.

    Returns:
        a `Report`: print it, or leave it as the last line of a cell.

    Raises:
        ValueError: shapes, ranges or lengths that do not match, NaN or infinite logits.

    Example:
        >>> logits = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
        >>> result = report([0, 1, 1], logits, train_counts=[90, 10], classes=["cat", "dog"])
        >>> for line in str(result).splitlines()[:3]:
        ...     print(line)
        class  train images  recall  precision     F1
        cat              90   1.000      0.500  0.667
        dog              10   0.500      1.000  0.667
    """
    scores, true = check_logits(logits, labels)
    num_classes = scores.shape[1]
    counts = check_counts(train_counts)
    check_length(counts, num_classes, "train_counts", "logits' columns")
    check_length(classes, num_classes, "classes", "logits' columns")
    cells = confusion(true, scores.argmax(1), num_classes)
    totals = summary(cells)
    of_classes = per_class(cells)
    return Report(
        classes=tuple(classes),
        train_counts=counts,
        confusion=cells,
        **of_classes,
        accuracy=totals["accuracy"],
        balanced_accuracy=totals["balanced_accuracy"],
        macro_f1=totals["macro_f1"],
        groups=group_recall(of_classes["recall"], counts),
        calibration=calibration(scores, true),
    )


def _html_table(head: Iterable[str], rows: Iterable[Sequence]) -> str:
    cells = "".join(f"<th scope='col'>{html_text(name)}</th>" for name in head)
    body = "".join(
        f"<tr><th scope='row'>{html_text(first)}</th>"
        + "".join(f"<td>{html_text(value)}</td>" for value in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


__all__ = ["Report", "report"]
