"""Figures made of images."""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from imbalkit.checks import check_whole, to_numpy
from imbalkit.data.images import ImageSet
from imbalkit.metrics.checks import check_class_numbers
from imbalkit.plots.style import drawn, names_with_counts, new_axes


def image_grid(image_set: ImageSet, per_class: int = 8, ax: Axes | None = None) -> Axes:
    """The first images of every class, one row per class; rare classes may not fill theirs.

    Args:
        image_set: what to show.
        per_class: images in a row.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes, with one image on it.

    Raises:
        ValueError: fewer than 1 image in a row.

    Example:
        >>> import torch
        >>> images, labels = torch.zeros(3, 8, 8, 3, dtype=torch.uint8), torch.tensor([0, 0, 1])
        >>> ax = image_grid(ImageSet(images, labels, ("cat", "fox"), "black"))
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['cat (2)', 'fox (1)']
    """
    if per_class < 1:
        raise ValueError(f"image_grid got per_class={per_class}; show at least 1 image per class.")
    images, labels = np.asarray(image_set.images), np.asarray(image_set.labels)
    _, height, width, _ = images.shape
    rows, gap = len(image_set.classes), max(1, height // 16)
    shape = (rows * (height + gap) - gap, per_class * (width + gap) - gap, 3)
    canvas = np.full(shape, 255, dtype=np.uint8)
    for row, _ in enumerate(image_set.classes):
        for column, image in enumerate(images[labels == row][:per_class]):
            top, left = row * (height + gap), column * (width + gap)
            canvas[top : top + height, left : left + width] = image

    ax = new_axes(ax, 1 + 5.5 * shape[0] / shape[1])
    ax.imshow(canvas, interpolation="nearest")
    counts = np.bincount(labels, minlength=rows)
    middles = np.arange(rows) * (height + gap) + height / 2
    ax.set_yticks(middles, names_with_counts(image_set.classes, counts))
    ax.set_xticks([])
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def worst_errors(
    image_set: ImageSet,
    probabilities: ArrayLike,
    decisions: ArrayLike,
    number: int = 12,
    ax: Axes | None = None,
) -> Axes:
    """The wrong decisions with the least probability for the true class, the worst first.

    Below each image stand the true class, the decided one, and the probability that the true one
    was given. Without an error it says so. Derived in lesson 12.

    Args:
        image_set: the N images.
        probabilities: floats (N, C).
        decisions: integers (N,).
        number: images to show at most, in rows of six.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: arguments of different lengths, or fewer than 1 image to show.

    Example:
        >>> import torch
        >>> images, labels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.tensor([0, 1])
        >>> image_set = ImageSet(images, labels, ("cat", "fox"), "black")
        >>> ax = worst_errors(image_set, [[0.9, 0.1], [0.8, 0.2]], decisions=[0, 0])
        >>> print(ax.texts[0].get_text())
        fox: 20%
        taken for cat
    """
    labels, probabilities, decisions = (
        to_numpy(part) for part in (image_set.labels, probabilities, decisions)
    )
    number = check_whole(number, "number", 0)
    classes = len(image_set.classes)
    if not number or not labels.shape == probabilities.shape[:1] == decisions.shape[:1]:
        raise ValueError(
            f"worst_errors got {len(labels)} images, probabilities of shape {probabilities.shape}, "
            f"decisions of shape {decisions.shape} and number={number}; give one of each per "
            "image, and show at least 1."
        )
    if probabilities.shape[1:] != (classes,):
        raise ValueError(
            f"probabilities have the shape {probabilities.shape}, and there are {classes} classes; "
            "give one number per class."
        )
    decisions = check_class_numbers(decisions, "decisions", classes)
    of_true = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(decisions != labels)
    wrong = wrong[np.argsort(of_true[wrong], kind="stable")][:number]
    columns, side = 6, 1.0
    rows = max(1, -(-len(wrong) // columns))
    ax = new_axes(ax, 1.75 * rows)
    for place, i in enumerate(wrong):
        row, column = divmod(place, columns)
        left, top = column * 1.25 * side, row * 1.6 * side
        box = (left, left + side, top + side, top)
        ax.imshow(np.asarray(image_set.images[i]), extent=box, interpolation="nearest")
        names = [drawn(image_set.classes[c], most=15) for c in (labels[i], decisions[i])]
        text = f"{names[0]}: {of_true[i]:.0%}\ntaken for {names[1]}"
        ax.text(left + side / 2, top + 1.04 * side, text, ha="center", va="top", fontsize=8)
    if not len(wrong):
        ax.text(1, 0.5, f"no error among {len(labels)} images", ha="center", fontsize=11)
    ax.set(xlim=(-0.15, columns * 1.25 - 0.1), ylim=(rows * 1.6, -0.05), xticks=[], yticks=[])
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


__all__ = ["image_grid", "worst_errors"]
