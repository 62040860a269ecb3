"""Every figure of the course, drawn from results: counts, recalls, histories.

Each function draws on ``ax``, or on a new figure where none is given, and returns the matplotlib
Axes, so that a title or a limit can still be changed. ``show`` then displays the figure once.
"""

import base64
import io
import itertools
import sys
import warnings

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator
from PIL import Image

from imbalkit.counts import check_counts
from imbalkit.metrics.checks import check_shares

WIDTH = 8  # inches
DPI = 100  # 800 pixels wide: sharp enough to read, light enough for a saved notebook
MANY_CLASSES = 20  # above it there is no room for each class's name and number

# Readable by colour-blind eyes and, through dashes and markers, without colour.
COLOURS = [sns.color_palette("colorblind")[i] for i in (0, 3, 2, 1, 4, 7)]
_DASHES = ["-", "--", "-.", ":"]
_MARKERS = ["o", "s", "^", "D", "v", "P"]


def use_style():
    """Set the look of all later figures: seaborn's white grid, safe colours and dashes."""
    cycle = plt.cycler(color=COLOURS[:4]) + plt.cycler(linestyle=_DASHES)
    rc = {"axes.prop_cycle": cycle, "figure.dpi": DPI, "grid.color": "0.88"}
    sns.set_theme(style="whitegrid", rc=rc)


def class_histogram(counts, classes, ax=None):
    """Bars of the number of images per class, on a logarithmic axis, with the number on top.

    Args:
        counts: images of each class, integers (C,).
        classes: C names.

    Returns:
        the Axes.
    """
    counts = _counts(counts, classes)
    ax = _axes(ax, 3.6)
    bars = ax.bar(np.arange(len(counts)), counts, color=COLOURS[0])
    if len(counts) <= MANY_CLASSES:
        ax.bar_label(bars, labels=[f"{n:,}" for n in counts], padding=2)
    _log_counts(ax, counts)
    ax.set_ylabel("images (logarithmic axis)")
    _class_ticks(ax, classes)
    return ax


def image_grid(image_set, per_class=8, ax=None):
    """The first images of every class, one row per class; rare classes may not fill theirs.

    Args:
        image_set: an ``ImageSet`` (images uint8 (N, H, W, 3), labels int64 (N,), classes).
        per_class: images in a row.

    Returns:
        the Axes, with one image on it.
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

    ax = _axes(ax, 1 + 5.5 * shape[0] / shape[1])
    ax.imshow(canvas, interpolation="nearest")
    counts = np.bincount(labels, minlength=rows)
    middles = np.arange(rows) * (height + gap) + height / 2
    ax.set_yticks(middles, _names_with_counts(image_set.classes, counts))
    ax.set_xticks([])
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def leaderboard(table, baseline=None, ax=None):
    """A point for every method and seed, the best method on top, a bar at each mean.

    Args:
        table: from ``results.leaderboard``, with the columns method and balanced accuracy.
        baseline: a method whose mean is drawn as a line through the figure.

    Returns:
        the Axes.
    """
    methods = list(dict.fromkeys(table["method"]))
    ax = _axes(ax, 0.9 + 0.27 * len(methods))
    places = table["method"].map(methods.index)
    ax.scatter(table["balanced accuracy"], places, s=22, color=COLOURS[0], label="a seed", zorder=3)
    means = table.groupby("method")["balanced accuracy"].mean()
    ax.scatter(means[methods], range(len(methods)), marker="|", s=160, color="black", label="mean")
    if baseline is not None:
        ax.axvline(means[baseline], color=COLOURS[1], linestyle="--", label=baseline)
    ax.set_yticks(range(len(methods)), methods)
    ax.set(ylim=(len(methods) - 0.4, -0.6), xlabel="balanced accuracy on the test images (%)")
    ax.legend(loc="lower right")
    return ax


def accuracy_over_time(table, published, ax=None):
    """Balanced accuracy against minutes of training: a point a seed, a line through the means.

    Args:
        table: from ``results.fast_recipes``.
        published: ``{"label": (minutes, accuracy)}`` of recipes to compare with, accuracy in
            percent; where the minutes are None, a line across the figure.

    Returns:
        the Axes.
    """
    ax = _axes(ax, 4.2)
    score = "balanced accuracy"
    means = table.groupby("recipe", sort=False)[["minutes", score]].mean().sort_values("minutes")
    ax.plot(means["minutes"], means[score], color=COLOURS[0], zorder=2)
    ax.scatter(table["minutes"], table[score], s=22, color=COLOURS[0], label="a seed", zorder=3)
    for i, (label, (minutes, accuracy)) in enumerate(published.items(), 1):
        style = {"color": COLOURS[i], "label": label}
        if minutes is None:
            ax.axhline(accuracy, linestyle=_DASHES[i], **style)
        else:
            ax.scatter(minutes, accuracy, marker="sDv^"[i - 1], s=60, zorder=3, **style)
    ax.set(xscale="log", xlabel="minutes of training", ylabel=f"{score} on the test images (%)")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(loc="center right")
    return ax


def curves(series, xlabel, ylabel, ax=None):
    """Lines over epochs or steps, the first at 1, told apart by colour, dashes and marker.

    Figures that stay within 0 and 1 get the whole axis from 0 to 1, other positive ones start
    at 0. A NaN leaves a gap.

    Args:
        series: ``{"label": values}``, values (epochs,).

    Returns:
        the Axes.
    """
    lines = _lines(series)
    ax = _axes(ax, 3.6)
    for values, style in lines:
        ax.plot(np.arange(1, len(values) + 1), values, markevery=max(1, len(values) // 12), **style)
    drawn = np.concatenate([values[np.isfinite(values)] for values, _ in lines])
    if drawn.size and drawn.min() >= 0:
        ax.set_ylim(0, 1.02 if drawn.max() <= 1 else None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    _legend(ax)
    return ax


def recall_by_count(series, counts, classes, ax=None):
    """Recall of each class, from the class with most training images to the rarest.

    The classes stand at equal distances, with their number of images, so that classes of the
    same size do not hide each other.

    Args:
        series: ``{"label": recall}``, each recall (C,) from 0 to 1.
        counts: training images of each class, integers (C,).
        classes: C names.

    Returns:
        the Axes.
    """
    counts = _counts(counts, classes)
    lines = _lines(series)
    for recall, style in lines:
        if len(recall) != len(counts) or not (np.all(recall >= 0) and np.all(recall <= 1)):
            raise ValueError(
                f"The recall of {style['label']!r} must be {len(counts)} numbers from 0 to 1, one "
                "per class; take it from metrics.per_class."
            )
    ax = _by_count(lines, counts, classes, _axes(ax, 4))
    ax.set(ylim=(-0.02, 1.02), ylabel="recall")
    return ax


def weights_by_count(series, counts, classes, ax=None):
    """Class weights, from the class with most training images to the rarest, on a log axis.

    The line at 1 is the weight without weighting.

    Args:
        series: ``{"label": weights}``, each weights (C,), positive.
        counts: training images of each class, integers (C,).
        classes: C names.

    Returns:
        the Axes.
    """
    counts = _counts(counts, classes)
    lines = _lines(series)
    for weights, style in lines:
        if len(weights) != len(counts) or not np.all(weights > 0):
            raise ValueError(
                f"The weights of {style['label']!r} must be {len(counts)} positive numbers, one "
                "per class; take them from imbalkit.weights."
            )
    ax = _by_count(lines, counts, classes, _axes(ax, 3.6))
    ax.axhline(1, color="0.5", linewidth=1)
    ax.set(yscale="log", ylabel="weight")
    ax.yaxis.set_major_formatter("{x:g}")
    return ax


def confusion_heatmap(confusion, classes, ax=None):
    """Where the images of each true class (row) end up, as shares of the row.

    Less than half a percent is written as 0; a row without images stays grey.

    Args:
        confusion: integers (C, C), as ``metrics.confusion`` gives it.
        classes: C names.

    Returns:
        the Axes.
    """
    cells = np.asarray(confusion)
    if cells.shape != (len(classes), len(classes)):
        raise ValueError(
            f"A confusion matrix of shape {cells.shape} does not fit {len(classes)} classes; "
            "make it with metrics.confusion and name every class."
        )
    total = cells.sum(1, keepdims=True)
    share = np.divide(cells, total, out=np.full(cells.shape, np.nan), where=total > 0)
    numbers = np.where(share >= 0.005, np.char.mod("%.2f", share), "0")
    ax = _axes(ax, 6)
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
    _class_ticks(ax, classes, offset=0.5)
    step = _name_step(len(classes))
    ax.set_yticks(np.arange(0, len(classes), step) + 0.5, classes[::step], rotation=0)
    ax.set(xlabel="predicted class", ylabel="true class")
    return ax


def prediction_stream(shares, classes, counts, ax=None):
    """Which classes the model predicts, batch by batch: the figure that shows collapse.

    The height of a band is the share of the batch that is given this class. The classes are
    stacked from most training images (bottom, dark) to fewest (top, light); the bar at the right
    is the same for the training labels. More than 200 steps are averaged over a few batches, as
    the axis then says: give ``shares[:200]`` to see every batch. Derived in lesson 01.

    Args:
        shares: floats (steps, C), each row sums to 1, as ``History.shares`` has them.
        classes: C names.
        counts: training images of each class, integers (C,).

    Returns:
        the Axes.
    """
    counts = _counts(counts, classes)
    shares = check_shares(shares)
    if shares.ndim != 2 or shares.shape[1] != len(counts):
        raise ValueError(
            f"shares must have the shape (steps, {len(counts)}), one column per class, got "
            f"{shares.shape}; take them from the history of fit."
        )
    order = _most_first(counts)
    steps, window = len(shares), -(-len(shares) // 200)
    starts = np.arange(0, steps, window)
    ends = np.minimum(starts + window, steps)
    means = np.add.reduceat(shares, starts) / (ends - starts)[:, None]
    colours = plt.colormaps["viridis"](np.linspace(0, 1, len(order)))

    ax = _axes(ax, 3.8)
    many = len(order) > MANY_CLASSES
    edge = {"edgecolor": "white", "linewidth": 0 if many else 0.4}
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
    listed = range(len(order))[:: _name_step(len(order), most=12)][::-1]
    handles = [Patch(color=colours[i], label=classes[order[i]]) for i in listed]
    _legend(ax, handles=handles, title="predicted class\n(right bar: training labels)")
    return ax


def batch_composition(shares, counts, classes, ax=None):
    """What a batch is made of: one bar per way of sampling, its parts the classes.

    Stacked from most training images (left, dark) to fewest (right, light). Derived in lesson 05.

    Args:
        shares: ``{"label": shares}``, each floats (C,) that sum to 1.
        counts: training images of each class, integers (C,).
        classes: C names.

    Returns:
        the Axes.
    """
    counts = _counts(counts, classes)
    order = _most_first(counts)
    colours = plt.colormaps["viridis"](np.linspace(0, 1, len(order)))
    values = check_shares(np.array([np.asarray(one) for one in shares.values()]))
    if values.shape[1] != len(counts):
        raise ValueError(
            f"shares must have {len(counts)} numbers, one per class, got {values.shape[1]}."
        )
    ax = _axes(ax, 1.2 + 0.5 * len(values))
    left = np.zeros(len(values))
    for colour, column in zip(colours, order, strict=True):
        ax.barh(list(shares), values[:, column], left=left, color=colour, edgecolor="white")
        left += values[:, column]
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the images in a batch")
    ax.grid(False)
    listed = range(0, len(order), _name_step(len(order), most=12))
    _legend(ax, handles=[Patch(color=colours[i], label=classes[order[i]]) for i in listed])
    return ax


def reliability(calibrations, ax=None):
    """Accuracy against confidence: on the diagonal the model is as often right as it says.

    Below it the model is too sure of itself. Each point is a bin, and its area is the share of
    the images in it: small points are uncertain. (Guo et al. 2017.)

    Args:
        calibrations: ``{"label": Calibration}``.

    Returns:
        the Axes.
    """
    styles = _styles(calibrations)
    ax = _axes(ax, 4.6)
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
    _legend(ax)
    return ax


def precision_recall(curves, points, ax=None):
    """Precision against recall of alarms for one class, and the thresholds that one may choose.

    Precision is drawn as steps: between two thresholds nothing changes. Derived in lesson 12.

    Args:
        curves: ``{"label": (precision, recall)}``, each floats (K,), in the order of thresholds
            from high to low, as ``decisions.precision_recall`` gives them.
        points: ``{"label": (precision, recall)}``, each two floats.

    Returns:
        the Axes.
    """
    styles = _styles([*curves, *points])
    ax = _axes(ax, 4.2)
    for (precision, recall), style in zip(curves.values(), styles, strict=False):
        ax.plot(recall, precision, drawstyle="steps-pre", **style | {"marker": None})
    for (precision, recall), style in zip(points.values(), styles[len(curves) :], strict=True):
        ax.plot(recall, precision, markersize=9, clip_on=False, **style | {"linestyle": "none"})
    ax.set(xlim=(0, 1.02), ylim=(0, 1.02))
    ax.set(xlabel="recall: share of the class that is found", ylabel="precision of the alarms")
    _legend(ax)
    return ax


def worst_errors(image_set, probabilities, decisions, number=12, ax=None):
    """The wrong decisions with the least probability for the true class, the worst first.

    Below each image stand the true class, the decided one, and the probability that the true one
    was given. Without an error it says so. Derived in lesson 12.

    Args:
        image_set: an ``ImageSet``.
        probabilities: floats (N, C). decisions: integers (N,).
        number: images to show at most, in rows of six.

    Returns:
        the Axes.
    """
    labels, probabilities, decisions = (
        np.asarray(part) for part in (image_set.labels, probabilities, decisions)
    )
    if number < 1 or not len(labels) == len(probabilities) == len(decisions):
        raise ValueError(
            f"worst_errors got {len(labels)} images, {len(probabilities)} rows of probabilities, "
            f"{len(decisions)} decisions and number={number}; give one of each per image, and show "
            "at least 1."
        )
    of_true = probabilities[np.arange(len(labels)), labels]
    wrong = np.flatnonzero(decisions != labels)
    wrong = wrong[np.argsort(of_true[wrong], kind="stable")][:number]
    columns, side = 6, 1.0
    rows = max(1, -(-len(wrong) // columns))
    ax = _axes(ax, 1.75 * rows)
    for place, i in enumerate(wrong):
        row, column = divmod(place, columns)
        left, top = column * 1.25 * side, row * 1.6 * side
        box = (left, left + side, top + side, top)
        ax.imshow(np.asarray(image_set.images[i]), extent=box, interpolation="nearest")
        names = [_short(image_set.classes[c]) for c in (labels[i], decisions[i])]
        text = f"{names[0]}: {of_true[i]:.0%}\ntaken for {names[1]}"
        ax.text(left + side / 2, top + 1.04 * side, text, ha="center", va="top", fontsize=8)
    if not len(wrong):
        ax.text(1, 0.5, f"no error among {len(labels)} images", ha="center", fontsize=11)
    ax.set(xlim=(-0.15, columns * 1.25 - 0.1), ylim=(rows * 1.6, -0.05), xticks=[], yticks=[])
    ax.grid(False)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def show(ax_or_figure, alt):
    """Display a figure once, with its description for those who cannot see it, and close it.

    In a notebook the picture is a PNG whose metadata hold ``alt``; a terminal opens a window
    where it can, and prints the description.

    Args:
        ax_or_figure: what a function of this module returned, or a Figure.
        alt: one sentence that says what the figure shows.

    Raises:
        ValueError: ``alt`` is empty.
    """
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError("show needs alt, one sentence that says what the figure shows.")
    figure = getattr(ax_or_figure, "figure", ax_or_figure)
    try:
        if _in_notebook():
            from IPython.display import display

            # Drawn here and not by IPython, so that it works with any matplotlib backend.
            data = {"image/png": base64.b64encode(as_png(figure)).decode(), "text/plain": alt}
            display(data, raw=True, metadata={"image/png": {"alt": alt}})
        else:
            print(alt)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "cannot be shown": there is no screen
                plt.show()
    finally:
        plt.close(figure)


def as_png(figure):
    """The figure in 256 colours: a quarter of the bytes, for eyes the same picture."""
    full, small = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        # Names of classes may be in any script; one that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(full, format="png", dpi=DPI, bbox_inches="tight")
    picture = Image.open(full).convert("RGB")
    palette = {"method": Image.Quantize.MAXCOVERAGE, "dither": Image.Dither.NONE}
    picture.quantize(256, **palette).save(small, format="png", optimize=True)
    return small.getvalue()


def _in_notebook():
    ipython = sys.modules.get("IPython")  # a kernel has imported it long before us
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _axes(ax, height):
    if ax is not None:
        return ax
    return plt.subplots(figsize=(WIDTH, height), layout="constrained")[1]


def _counts(counts, classes):
    counts = check_counts(counts)
    if len(counts) != len(classes):
        raise ValueError(
            f"There are {len(counts)} counts but {len(classes)} class names; give one per class."
        )
    return counts


def _most_first(counts):
    return np.argsort(-counts, kind="stable")


def _styles(series):
    """One colour, dash pattern and marker per label."""
    if not series:
        raise ValueError('There is nothing to draw; give {"label": values} with one entry or more.')
    looks = zip(
        itertools.cycle(COLOURS), itertools.cycle(_DASHES), itertools.cycle(_MARKERS), strict=False
    )
    return [
        {"label": label, "color": colour, "linestyle": dash, "marker": marker}
        for label, (colour, dash, marker) in zip(series, looks, strict=False)
    ]


def _lines(series):
    """The values of each label as float64, with its style."""
    lines = [
        (np.asarray(values, dtype=np.float64), style)
        for values, style in zip(series.values(), _styles(series), strict=True)
    ]
    for values, style in lines:
        if values.ndim != 1 or len(values) == 0:
            raise ValueError(
                f"The values of {style['label']!r} must be one number per point, got shape "
                f"{values.shape}; give a flat list that is not empty."
            )
    return lines


def _by_count(lines, counts, classes, ax):
    """One line each, a point per class, from the class with most training images to the rarest."""
    order = _most_first(counts)
    for values, style in lines:
        ax.plot(values[order], markevery=max(1, len(order) // 20), **style)
    _class_ticks(ax, _names_with_counts([classes[i] for i in order], counts[order]))
    ax.set_xlabel("class (training images)")
    _legend(ax)
    return ax


def _log_counts(ax, counts):
    ax.set_yscale("log")
    ax.set_ylim(0.7, 2.5 * counts.max())
    ax.yaxis.set_major_locator(LogLocator(base=10, numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.grid(False, axis="x")


def _short(name, most=15):
    """A long name, cut so that it fits below a small image."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _name_step(number, most=MANY_CLASSES):
    """Every how many-th name is written, so that names do not overlap."""
    return -(-number // most)


def _names_with_counts(names, counts):
    return [f"{name} ({count:,})" for name, count in zip(names, counts, strict=True)]


def _class_ticks(ax, names, offset=0.0):
    step = _name_step(len(names))
    places = np.arange(0, len(names), step) + offset
    ax.set_xticks(places, names[::step], rotation=35, ha="right", rotation_mode="anchor")


def _legend(ax, **options):
    """Beside the axes, where it hides no data."""
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1), alignment="left", frameon=False, **options
    )
