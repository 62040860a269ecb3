"""Names that would break a figure: formulas, halves of characters, controls, very long ones."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from imbalkit import metrics, plots
from imbalkit.data import ImageSet
from imbalkit.doctor import figures
from imbalkit.plots.display import as_png
from imbalkit.plots.style import LONGEST, drawn

HOSTILE = (
    "$x^$",
    "\ud800",
    "a\nb\r\x1b[2J\x00",
    "w" * 20_000,
    "_hidden",
    r"$\frac{1}{$",
    "$5 or $6",
)
COUNTS = [100, 90, 50, 20, 10, 5, 2]
RECALL, SHARES = np.full(7, 0.5), np.full(7, 1 / 7)
LINES = dict.fromkeys(HOSTILE, RECALL)
CALIBRATION = metrics.calibration(np.eye(3) * 9, [0, 1, 2])
IMAGES = ImageSet(
    torch.zeros(7, 8, 8, 3, dtype=torch.uint8), torch.arange(7), HOSTILE, "images"
)  # fmt: skip
BOARD = pd.DataFrame({"method": HOSTILE, "recipe": HOSTILE, "balanced accuracy": 50.0})
RECIPES = BOARD.assign(minutes=np.arange(1, 8))
FIGURES = {
    "class_histogram": lambda: plots.class_histogram(COUNTS, HOSTILE),
    "recall_by_count": lambda: plots.recall_by_count(LINES, COUNTS, HOSTILE),
    "weights_by_count": lambda: plots.weights_by_count(LINES, COUNTS, HOSTILE),
    "confusion_heatmap": lambda: plots.confusion_heatmap(np.eye(7, dtype=int), HOSTILE),
    "prediction_stream": lambda: plots.prediction_stream([SHARES] * 3, HOSTILE, COUNTS),
    "batch_composition": lambda: plots.batch_composition(
        dict.fromkeys(HOSTILE, SHARES), COUNTS, HOSTILE
    ),
    "curves": lambda: plots.curves(LINES, "epoch", "recall"),
    "leaderboard": lambda: plots.leaderboard(BOARD, baseline=HOSTILE[0]),
    "accuracy_over_time": lambda: plots.accuracy_over_time(
        RECIPES, dict.fromkeys(HOSTILE[:4], (None, 77.0))
    ),
    "reliability": lambda: plots.reliability(dict.fromkeys(HOSTILE, CALIBRATION)),
    "precision_recall": lambda: plots.precision_recall(
        {name: ([1.0, 0.5], [0.5, 1.0]) for name in HOSTILE}, {HOSTILE[0]: (0.5, 1.0)}
    ),
    "image_grid": lambda: plots.image_grid(IMAGES),
    "worst_errors": lambda: plots.worst_errors(IMAGES, np.eye(7), (np.arange(7) + 1) % 7),
    "diagnosis": lambda: figures.draw({
        "predicted_share": SHARES, "true_share": SHARES, "recall": RECALL, "train_counts": COUNTS,
        "layers": HOSTILE, "constant_units": RECALL, "judged_on": 7,
    }),
}  # fmt: skip


def test_every_figure_is_tried():
    others = {"COLORS", "show", "use_style"}
    assert set(plots.__all__) - others == set(FIGURES) - {"diagnosis"}


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # seven lines of legend
@pytest.mark.parametrize("name", FIGURES)
def test_no_name_breaks_a_figure(name):
    shown = FIGURES[name]()
    figure = getattr(shown, "figure", shown)
    try:
        assert as_png(figure).startswith(b"\x89PNG")
        legends = [text.get_text() for axes in figure.axes for text in (
            axes.get_legend().get_texts() if axes.get_legend() else [])]  # fmt: skip
        if name in ("curves", "recall_by_count"):
            assert len(legends) == len(HOSTILE)
    finally:
        plt.close(figure)


def test_a_name_that_fits_is_drawn_as_it_is():
    assert [drawn(x) for x in ("cat", "gato montés", "100 % sure")] == [
        "cat", "gato montés", "100 % sure"
    ]  # fmt: skip
    assert drawn("x" * LONGEST) == "x" * LONGEST and len(drawn("x" * 99)) == LONGEST
