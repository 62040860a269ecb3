"""What the figures share: colours, sizes, ticks, legends, and the checks of what is drawn."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import ArrayLike, NDArray

from imbalkit.checks import check_counts, to_floats
from imbalkit.texts import printable

WIDTH = 8  # inches
DPI = 100  # 800 pixels wide: sharp enough to read, light enough for a saved notebook
LONGEST, LONGEST_CLASS = 36, 24  # letters of a name; with more there is no room for the data
MANY_CLASSES = 20  # above it there is no room for each class's name and number

# Readable by colour-blind eyes and, through dashes and markers, without colour.
COLORS = [sns.color_palette("colorblind")[i] for i in (0, 3, 2, 1, 4, 7)]
DASHES = ["-", "--", "-.", ":"]
MARKERS = ["o", "s", "^", "D", "v", "P"]


def use_style() -> None:
    """Set the look of all later figures: seaborn's white grid, safe colours and dashes.

    The set-up of each lesson calls it, from lesson 00 on.

    Example:
        >>> use_style()
        >>> plt.rcParams["figure.dpi"]
        100.0
    """
    cycle = cycler(color=COLORS[:4]) + cycler(linestyle=DASHES)
    rc = {"axes.prop_cycle": cycle, "figure.dpi": DPI, "grid.color": "0.88"}
    sns.set_theme(style="whitegrid", rc=rc)


def new_axes(ax: Axes | None, height: float) -> Axes:
    if ax is not None:
        return ax
    return plt.subplots(figsize=(WIDTH, height), layout="constrained")[1]


def counts_of(counts: ArrayLike, classes: Sequence[str]) -> NDArray[np.int64]:
    counts = check_counts(counts)
    if len(counts) != len(classes):
        raise ValueError(
            f"There are {len(counts)} counts but {len(classes)} class names; give one per class."
        )
    return counts


def most_first(counts: np.ndarray) -> np.ndarray:
    return np.argsort(-counts, kind="stable")


def line_styles(series: Iterable[str]) -> list[dict[str, Any]]:
    """One colour, dash pattern and marker per label."""
    if not series:
        raise ValueError('There is nothing to draw; give {"label": values} with one entry or more.')
    looks = zip(
        itertools.cycle(COLORS), itertools.cycle(DASHES), itertools.cycle(MARKERS), strict=False
    )
    return [
        {"label": drawn(label), "color": colour, "linestyle": dash, "marker": marker}
        for label, (colour, dash, marker) in zip(series, looks, strict=False)
    ]


def lines_of(series: Mapping[str, ArrayLike]) -> list[tuple[NDArray[np.float64], dict[str, Any]]]:
    """The values of each label as float64, with its style."""
    lines = [
        (to_floats(values, f"The values of {style['label']!r}"), style)
        for values, style in zip(series.values(), line_styles(series), strict=True)
    ]
    for values, style in lines:
        if values.ndim != 1 or len(values) == 0:
            raise ValueError(
                f"The values of {style['label']!r} must be one number per point, got shape "
                f"{values.shape}; give a flat list that is not empty."
            )
    return lines


def draw_by_count(
    lines: list[tuple[NDArray[np.float64], dict[str, Any]]],
    counts: np.ndarray,
    classes: Sequence[str],
    ax: Axes,
) -> Axes:
    """One line each, a point per class, from the class with most training images to the rarest."""
    order = most_first(counts)
    for values, style in lines:
        ax.plot(values[order], markevery=max(1, len(order) // 20), **style)
    class_ticks(ax, names_with_counts([classes[i] for i in order], counts[order]))
    ax.set_xlabel("class (training images)")
    legend_beside(ax)
    return ax


def log_counts(ax: Axes, counts: np.ndarray) -> None:
    ax.set_yscale("log")
    ax.set_ylim(0.7, 2.5 * counts.max())
    ax.yaxis.set_major_locator(LogLocator(base=10, numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.grid(False, axis="x")


def drawn(name: object, most: int = LONGEST) -> str:
    """A name as matplotlib shows it letter by letter: no formula, no control character, not long.

    Args:
        name: of a class or a line.
        most: letters; a longer name is cut.
    """
    text = printable(name)
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    text = text.replace("$", r"\$")  # what stands between two of them would be a formula
    return f" {text}" if text.startswith("_") else text  # such a line has no place in a legend


def drawn_classes(classes: Iterable[str]) -> list[str]:
    """The names of classes as they are drawn, in less room than that of a line."""
    return [drawn(name, LONGEST_CLASS) for name in classes]


def name_step(number: int, most: int = MANY_CLASSES) -> int:
    """From one written name to the next, so that names do not overlap."""
    return -(-number // most)


def names_with_counts(names: Sequence[str], counts: np.ndarray) -> list[str]:
    drawn_names = drawn_classes(names)
    return [f"{name} ({count:,})" for name, count in zip(drawn_names, counts, strict=True)]


def class_ticks(ax: Axes, names: Sequence[str], offset: float = 0.0) -> None:
    """The names of the classes under the axes; of many classes only every few have one.

    Args:
        ax: where they are written.
        names: as `drawn_classes` gives them.
        offset: how far to the right of its place each name stands.
    """
    step = name_step(len(names))
    places = np.arange(0, len(names), step) + offset
    ax.set_xticks(places, names[::step], rotation=35, ha="right", rotation_mode="anchor")


def legend_beside(ax: Axes, **options: Any) -> None:
    """Beside the axes, where it hides no data."""
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1), alignment="left", frameon=False, **options
    )


__all__ = ["COLORS", "use_style"]
