"""The report's figure: which classes are predicted, which are found, which units are off."""

import base64
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from imbalkit import plots
from imbalkit.plots import display
from imbalkit.plots.style import drawn

# A picture in a report is no place for a hundred names: numbers stand below every k-th bar.
MOST_TICKS = 12
ALT = (
    "Three panels: share of each class among the predictions and among the labels; recall of each "
    "class against its number of training images; share of the units of each layer that are off."
)


def draw(figures: dict) -> Figure:
    """Three panels from `Diagnosis.figures`."""
    plots.use_style()
    figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained")
    _shares(axes[0], figures["predicted_share"], figures["true_share"])
    _recall(axes[1], figures["recall"], figures["train_counts"])
    _units(axes[2], figures["layers"], figures["constant_units"])
    figure.suptitle(f"on {figures['judged_on']} images", fontsize="medium")
    return figure


def as_png(figures: dict) -> str:
    """The figure as an HTML image, or "" where there is nothing to draw."""
    if not figures:
        return ""
    figure = draw(figures)
    data = base64.b64encode(display.as_png(figure)).decode()
    plt.close(figure)
    return f'<img alt="{ALT}" src="data:image/png;base64,{data}">'


def _shares(ax: Axes, predicted: Sequence[float], true: Sequence[float]) -> None:
    places = np.arange(len(predicted))
    ax.bar(places, predicted, color=plots.COLORS[0], label="predictions")
    ax.step(places, true, where="mid", color="black", linewidth=1.5, label="labels")
    ax.set(title="classes in use", xlabel="class", ylabel="share", ylim=(0, None))
    ax.xaxis.set_major_locator(MaxNLocator(MOST_TICKS, integer=True))
    ax.legend(frameon=False)


def _recall(ax: Axes, recall: Sequence[float | None], counts: Sequence[int]) -> None:
    known = [(n, r) for n, r in zip(counts, recall, strict=True) if r is not None and n]
    ax.set(title="recall by count", xlabel="training images read", ylabel="recall")
    ax.set(ylim=(-0.05, 1.05))
    if not known:
        ax.text(0.5, 0.5, "no class in both", ha="center", transform=ax.transAxes)
        return
    ax.plot(*zip(*known, strict=True), "o", color=plots.COLORS[0])
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(base=10, numticks=6))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(min(n for n, _ in known) / 2, max(n for n, _ in known) * 2)


def _units(ax: Axes, layers: Sequence[str], constant: Sequence[float]) -> None:
    ax.set(title="units that are off for every image", ylim=(-0.02, 1.02), ylabel="share")
    if not layers:
        ax.text(0.5, 0.5, "one layer only", ha="center", transform=ax.transAxes)
        return
    places = np.arange(len(layers))
    ax.bar(places, constant, color=plots.COLORS[1])
    step = -(-len(layers) // MOST_TICKS)
    names = [drawn(name[-14:]) for name in layers]
    ax.set_xticks(places[::step], names[::step], rotation=35, ha="right", rotation_mode="anchor")
    ax.set_xlabel("before the layer")
