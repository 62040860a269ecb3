"""Figures that compare trainings and answers: lines, points, and bars of methods."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from imbalkit.checks import to_floats
from imbalkit.metrics import Calibration
from imbalkit.plots.style import (
    COLORS,
    DASHES,
    drawn,
    legend_beside,
    line_styles,
    lines_of,
    new_axes,
)


def curves(
    series: Mapping[str, ArrayLike], xlabel: str, ylabel: str, ax: Axes | None = None
) -> Axes:
    """Lines over epochs or steps, the first at 1, told apart by colour, dashes and marker.

    Figures that stay within 0 and 1 get the whole axis from 0 to 1, other positive ones start
    at 0. A NaN leaves a gap.

    Args:
        series: ``{"label": values}``, values (epochs,).
        xlabel: of the axis.
        ylabel: of the axis.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: nothing to draw, or values that are no flat list.

    Example:
        >>> ax = curves({"plain": [0.2, 0.4], "balanced": [0.3, 0.6]}, "epoch", "recall")
        >>> len(ax.lines), ax.get_ylabel()
        (2, 'recall')
    """
    lines = lines_of(series)
    ax = new_axes(ax, 3.6)
    for values, style in lines:
        ax.plot(np.arange(1, len(values) + 1), values, markevery=max(1, len(values) // 12), **style)
    finite = np.concatenate([values[np.isfinite(values)] for values, _ in lines])
    if finite.size and finite.min() >= 0:
        ax.set_ylim(0, 1.02 if finite.max() <= 1 else None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend_beside(ax)
    return ax


def leaderboard(table: pd.DataFrame, baseline: str | None = None, ax: Axes | None = None) -> Axes:
    """A point for every method and seed, the best method on top, a bar at each mean.

    Args:
        table: from ``results.leaderboard``, with the columns method and balanced accuracy.
        baseline: a method whose mean is drawn as a line through the figure.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Example:
        >>> table = pd.DataFrame({"method": ["late", "plain"], "balanced accuracy": [75.0, 65.0]})
        >>> ax = leaderboard(table, baseline="plain")
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['late', 'plain']
    """
    methods = list(dict.fromkeys(table["method"]))
    ax = new_axes(ax, 0.9 + 0.27 * len(methods))
    places = table["method"].map(methods.index)
    ax.scatter(table["balanced accuracy"], places, s=22, color=COLORS[0], label="a seed", zorder=3)
    means = table.groupby("method")["balanced accuracy"].mean()
    ax.scatter(means[methods], range(len(methods)), marker="|", s=160, color="black", label="mean")
    if baseline is not None:
        ax.axvline(means[baseline], color=COLORS[1], linestyle="--", label=drawn(baseline))
    ax.set_yticks(range(len(methods)), [drawn(name) for name in methods])
    ax.set(ylim=(len(methods) - 0.4, -0.6), xlabel="balanced accuracy on the test images (%)")
    ax.legend(loc="lower right")
    return ax


def accuracy_over_time(
    table: pd.DataFrame, published: Mapping[str, tuple[float | None, float]], ax: Axes | None = None
) -> Axes:
    """Balanced accuracy against minutes of training: a point a seed, a line through the means.

    Args:
        table: from ``results.fast_recipes``, with the columns recipe, minutes and balanced
            accuracy.
        published: ``{"label": (minutes, accuracy)}`` of recipes to compare with, accuracy in
            percent; where the minutes are None, a line across the figure.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Example:
        >>> table = pd.DataFrame({"recipe": ["short", "long"], "minutes": [2, 20]})
        >>> table["balanced accuracy"] = [70.0, 80.0]
        >>> ax = accuracy_over_time(table, published={"a paper": (None, 77.0)})
        >>> ax.get_xscale()
        'log'
    """
    ax = new_axes(ax, 4.2)
    score = "balanced accuracy"
    means = table.groupby("recipe", sort=False)[["minutes", score]].mean().sort_values("minutes")
    ax.plot(means["minutes"], means[score], color=COLORS[0], zorder=2)
    ax.scatter(table["minutes"], table[score], s=22, color=COLORS[0], label="a seed", zorder=3)
    for i, (label, (minutes, accuracy)) in enumerate(published.items(), 1):
        style = {"color": COLORS[i % len(COLORS)], "label": drawn(label)}
        if minutes is None:
            ax.axhline(accuracy, linestyle=DASHES[i % len(DASHES)], **style)
        else:
            ax.scatter(minutes, accuracy, marker="sDv^"[(i - 1) % 4], s=60, zorder=3, **style)
    ax.set(xscale="log", xlabel="minutes of training", ylabel=f"{score} on the test images (%)")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(loc="center right")
    return ax


def reliability(calibrations: Mapping[str, Calibration], ax: Axes | None = None) -> Axes:
    """Accuracy against confidence: on the diagonal the model is as often right as it says.

    Below it the model is too sure of itself. Each point is a bin, and its area is the share of
    the images in it: small points are uncertain. (Guo et al. 2017.)

    Calibration is explained in lesson 12.

    Args:
        calibrations: ``{"label": Calibration}``, as ``metrics.calibration`` gives it.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Raises:
        ValueError: nothing to draw.

    Example:
        >>> from imbalkit.metrics import calibration
        >>> sure = calibration(np.array([[9.0, 0.0], [9.0, 0.0]]), labels=[0, 1])
        >>> ax = reliability({"plain": sure})
        >>> [line.get_label() for line in ax.lines]
        ['perfectly calibrated', 'plain (error 0.500)']
    """
    styles = line_styles(calibrations)
    ax = new_axes(ax, 4.6)
    ax.plot([0, 1], [0, 1], color="0.5", linestyle="-", linewidth=1, label="perfectly calibrated")
    for result, style in zip(calibrations.values(), styles, strict=True):
        filled = result.weight > 0
        x, y = result.confidence[filled], result.accuracy[filled]
        style["label"] = f"{style['label']} (error {result.ece:.3f})"
        ax.plot(x, y, markersize=4, **style)
        area = 20 + 400 * result.weight[filled]
        look = {"marker": style["marker"], "color": style["color"]}
        # Drawn whole where the accuracy is 0 or 1.
        ax.scatter(x, y, s=area, clip_on=False, zorder=3, **look)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
    legend_beside(ax)
    return ax


def precision_recall(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    points: Mapping[str, tuple[float, float]],
    ax: Axes | None = None,
) -> Axes:
    """Precision against recall of alarms for one class, and the thresholds that one may choose.

    Precision is drawn as steps: between two thresholds nothing changes. Derived in lesson 12.

    Args:
        curves: ``{"label": (precision, recall)}``, each floats (K,), in the order of thresholds
            from high to low, as ``decisions.precision_recall`` gives them.
        points: ``{"label": (precision, recall)}``, each two floats.
        ax: where to draw; a new figure unless given.

    Returns:
        the Axes.

    Example:
        >>> ax = precision_recall({"fox": ([1.0, 0.5], [0.5, 1.0])}, {"threshold 0.4": (0.5, 1.0)})
        >>> [line.get_label() for line in ax.lines]
        ['fox', 'threshold 0.4']
    """
    styles = line_styles([*curves, *points])
    pairs = [precision_and_recall(*named) for named in [*curves.items(), *points.items()]]
    ax = new_axes(ax, 4.2)
    for i, ((precision, recall), style) in enumerate(zip(pairs, styles, strict=True)):
        steps = {"drawstyle": "steps-pre", "marker": None}
        point = {"markersize": 9, "clip_on": False, "linestyle": "none"}
        ax.plot(recall, precision, **style | (steps if i < len(curves) else point))
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set(xlabel="recall: share of the class that is found", ylabel="precision of the alarms")
    legend_beside(ax)
    return ax


def precision_and_recall(label: str, pair: Any) -> np.ndarray:
    """Two rows of one length, or what is wrong with what belongs to the label."""
    values = to_floats(pair, f"What belongs to {label!r}")
    if values.ndim not in (1, 2) or len(values) != 2:
        raise ValueError(
            f"What belongs to {label!r} has the shape {values.shape}; give (precision, recall)."
        )
    return values


__all__ = ["accuracy_over_time", "curves", "leaderboard", "precision_recall", "reliability"]
