"""Figures with a place for each class: counts, recalls, weights, errors, shares."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from imbalkit.checks import to_floats
from imbalkit.metrics.checks import check_shares
from imbalkit.plots.style import (
    COLORS,
    MANY_CLASSES,
    class_ticks,
    counts_of,
    draw_by_count,
    drawn,
    drawn_classes,
    legend_beside,
    lines_of,
    log_counts,
    most_first,
    name_step,
    new_axes,
)


def class_histogram(counts: ArrayLike, classes: Sequence[str], ax: Axes | None = None) -> Axes:
    """Bars of the number of images per class, on a logarithmic axis, with the number on top.

    Args:
        counts: images of each class, integers (C,).
        classes: C names.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: counts that are none, or not as many as names.

    Example:
        >>> ax = class_histogram([1000, 100, 10], ["cat", "dog", "fox"])
        >>> [text.get_text() for text in ax.texts]
        ['1,000', '100', '10']
    """
    counts = counts_of(counts, classes)
    ax = new_axes(ax, 3.6)
    bars = ax.bar(np.arange(len(counts)), counts, color=COLORS[0])
    if len(counts) <= MANY_CLASSES:
        ax.bar_label(bars, labels=[f"{n:,}" for n in counts], padding=2)
    log_counts(ax, counts)
    ax.set_ylabel("images (logarithmic axis)")
    class_ticks(ax, drawn_classes(classes))
    return ax


def recall_by_count(
    series: Mapping[str, ArrayLike],
    counts: ArrayLike,
    classes: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """Recall of each class, from the class with most training images to the rarest.

    The classes stand at equal distances, with their number of images, so that classes of the
    same size do not hide each other.

    Args:
        series: ``{"label": recall}``, each recall (C,) from 0 to 1.
        counts: training images of each class, integers (C,).
        classes: C names.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: recalls or counts that do not fit the classes.

    Example:
        >>> ax = recall_by_count({"plain": [0.1, 0.9]}, [10, 1000], ["fox", "cat"])
        >>> [tick.get_text() for tick in ax.get_xticklabels()]
        ['cat (1,000)', 'fox (10)']
    """
    counts = counts_of(counts, classes)
    lines = lines_of(series)
    for recall, style in lines:
        if len(recall) != len(counts) or not (np.all(recall >= 0) and np.all(recall <= 1)):
            raise ValueError(
                f"The recall of {style['label']!r} must be {len(counts)} numbers from 0 to 1, one "
                "per class; take it from metrics.per_class."
            )
    ax = draw_by_count(lines, counts, classes, new_axes(ax, 4))
    ax.set(ylim=(-0.02, 1.02), ylabel="recall")
    return ax


def weights_by_count(
    series: Mapping[str, ArrayLike],
    counts: ArrayLike,
    classes: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """Class weights, from the class with most training images to the rarest, on a log axis.

    The line at 1 is the weight without weighting.

    Args:
        series: ``{"label": weights}``, each weights (C,), positive.
        counts: training images of each class, integers (C,).
        classes: C names.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: weights or counts that do not fit the classes.

    Example:
        >>> weights_by_count({"balanced": [0.1, 1.9]}, [1000, 10], ["cat", "fox"]).get_yscale()
        'log'
    """
    counts = counts_of(counts, classes)
    lines = lines_of(series)
    for weights, style in lines:
        if len(weights) != len(counts) or not np.all(weights > 0):
            raise ValueError(
                f"The weights of {style['label']!r} must be {len(counts)} positive numbers, one "
                "per class; take them from imbalkit.weights."
            )
    ax = draw_by_count(lines, counts, classes, new_axes(ax, 3.6))
    ax.axhline(1, color="0.5", linewidth=1)
    ax.set(yscale="log", ylabel="weight")
    ax.yaxis.set_major_formatter("{x:g}")
    return ax


def confusion_heatmap(confusion: ArrayLike, classes: Sequence[str], ax: Axes | None = None) -> Axes:
    """Where the images of each true class (row) end up, as shares of the row.

    Less than half a percent is written as 0; a row without images stays grey.

    Args:
        confusion: integers (C, C), as ``metrics.confusion`` gives it.
        classes: C names.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: a matrix that does not fit the classes.

    Example:
        >>> ax = confusion_heatmap([[9, 1], [0, 5]], ["cat", "fox"])
        >>> [text.get_text() for text in ax.texts]
        ['0.90', '0.10', '0', '1.00']
    """
    cells = to_floats(confusion, "confusion")
    if cells.shape != (len(classes), len(classes)):
        raise ValueError(
            f"A confusion matrix of shape {cells.shape} does not fit {len(classes)} classes; "
            "make it with metrics.confusion and name every class."
        )
    total = cells.sum(1, keepdims=True)
    share = np.divide(cells, total, out=np.full(cells.shape, np.nan), where=total > 0)
    numbers = np.where(share >= 0.005, np.char.mod("%.2f", share), "0")
    ax = new_axes(ax, 6)
    sns.heatmap(
        share,
        vmin=0,
        vmax=1,
        cmap="Blues",
        annot=numbers if len(classes) <= MANY_CLASSES else None,
        fmt="",
        annot_kws={"size": 9},
        square=True,
        cbar_kws={"label": "share of the true class"},
        ax=ax,
    )
    ax.set_facecolor("0.8")
    ax.grid(False)
    names = drawn_classes(classes)
    class_ticks(ax, names, offset=0.5)
    step = name_step(len(classes))
    ax.set_yticks(np.arange(0, len(classes), step) + 0.5, names[::step], rotation=0)
    ax.set(xlabel="predicted class", ylabel="true class")
    return ax


def prediction_stream(
    shares: ArrayLike, classes: Sequence[str], counts: ArrayLike, ax: Axes | None = None
) -> Axes:
    """Which classes the model predicts, batch by batch: the figure that shows collapse.

    The height of a band is the share of the batch that is given this class. The classes are
    stacked from most training images (bottom, dark) to fewest (top, light); the bar at the right
    is the same for the training labels. More than 200 steps are averaged over a few batches, as
    the axis then says: give ``shares[:200]`` to see every batch. Derived in lesson 01.

    Args:
        shares: floats (steps, C), each row sums to 1, as ``History.shares`` has them.
        classes: C names.
        counts: training images of each class, integers (C,).
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: shares or counts that do not fit the classes.

    Example:
        >>> ax = prediction_stream([[0.5, 0.5], [1.0, 0.0]], ["cat", "fox"], counts=[90, 10])
        >>> ax.get_xlabel()
        'training step'
    """
    counts = counts_of(counts, classes)
    shares = check_shares(shares)
    if shares.ndim != 2 or shares.shape[1] != len(counts):
        raise ValueError(
            f"shares must have the shape (steps, {len(counts)}), one column per class, got "
            f"{shares.shape}; take them from the history of fit."
        )
    order = most_first(counts)
    steps, window = len(shares), -(-len(shares) // 200)
    starts = np.arange(0, steps, window)
    ends = np.minimum(starts + window, steps)
    means = np.add.reduceat(shares, starts) / (ends - starts)[:, None]
    colours = plt.colormaps["viridis"](np.linspace(0, 1, len(order)))

    ax = new_axes(ax, 3.8)
    many = len(order) > MANY_CLASSES
    edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0 if many else 0.4}
    # Every batch is a block, from its start to its end: nothing happens between two batches.
    blocks = np.stack([starts, ends], axis=1).ravel()
    ax.stackplot(blocks, means[:, order].repeat(2, axis=0).T, colors=colours, **edge)
    prior = counts[order] / counts.sum()
    left, width = steps * 1.03, steps * 0.05
    ax.bar(left, prior, width, np.cumsum(prior) - prior, color=colours, align="edge", **edge)
    ax.set(xlim=(0, left + width), ylim=(0, 1), ylabel="share of predictions")
    ax.set_xlabel("training step" + (f" (mean over {window} batches)" if window > 1 else ""))
    ax.set_xticks([t for t in MaxNLocator(6, integer=True).tick_values(0, steps) if t <= steps])
    ax.grid(False)
    # Listed as they are stacked, the rarest on top.
    listed = range(len(order))[:: name_step(len(order), most=12)][::-1]
    names = drawn_classes(classes[i] for i in order)
    handles = [Patch(color=colours[i], label=names[i]) for i in listed]
    legend_beside(ax, handles=handles, title="predicted class\n(right bar: training labels)")
    return ax


def batch_composition(
    shares: Mapping[str, ArrayLike],
    counts: ArrayLike,
    classes: Sequence[str],
    ax: Axes | None = None,
) -> Axes:
    """What a batch is made of: one bar per way of sampling, its parts the classes.

    Stacked from most training images (left, dark) to fewest (right, light). Derived in lesson 05.

    Args:
        shares: ``{"label": shares}``, each floats (C,) that sum to 1.
        counts: training images of each class, integers (C,).
        classes: C names.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: shares or counts that do not fit the classes.

    Example:
        >>> ways = {"as it is": [0.9, 0.1], "balanced": [0.5, 0.5]}
        >>> ax = batch_composition(ways, counts=[90, 10], classes=["cat", "fox"])
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['as it is', 'balanced']
    """
    counts = counts_of(counts, classes)
    order = most_first(counts)
    colours = plt.colormaps["viridis"](np.linspace(0, 1, len(order)))
    if not shares:
        raise ValueError('There is nothing to draw; give {"label": shares} with one entry or more.')
    values = [check_shares(one) for one in shares.values()]
    for name, one in zip(shares, values, strict=True):
        if one.shape != (len(counts),):
            raise ValueError(
                f"shares must have {len(counts)} numbers, one per class, and those of {name!r} "
                f"have the shape {one.shape}."
            )
    ax = new_axes(ax, 1.2 + 0.5 * len(values))
    places, left = np.arange(len(values)), np.zeros(len(values))
    for colour, column in zip(colours, order, strict=True):
        ax.barh(places, np.stack(values)[:, column], left=left, color=colour, edgecolor="white")
        left += np.stack(values)[:, column]
    ax.set_yticks(places, [drawn(name) for name in shares])
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the images in a batch")
    ax.grid(False)
    listed = range(0, len(order), name_step(len(order), most=12))
    names = drawn_classes(classes[i] for i in order)
    legend_beside(ax, handles=[Patch(color=colours[i], label=names[i]) for i in listed])
    return ax


__all__ = [
    "batch_composition",
    "class_histogram",
    "confusion_heatmap",
    "prediction_stream",
    "recall_by_count",
    "weights_by_count",
]
