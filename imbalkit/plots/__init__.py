"""Every figure of the course, drawn from results: counts, recalls, histories.

Each function draws on ``ax``, or on a new figure where none is given, and returns the matplotlib
Axes, so that a title or a limit can still be changed. ``show`` then displays the figure once.
"""

from imbalkit.optional import optional

optional("matplotlib", "plots"), optional("seaborn", "plots")  # or one sentence that names them

from imbalkit.plots.by_class import (  # noqa: E402
    batch_composition,
    class_histogram,
    confusion_heatmap,
    prediction_stream,
    recall_by_count,
    weights_by_count,
)
from imbalkit.plots.comparisons import (  # noqa: E402
    accuracy_over_time,
    curves,
    leaderboard,
    precision_recall,
    reliability,
)
from imbalkit.plots.display import show  # noqa: E402
from imbalkit.plots.pictures import image_grid, worst_errors  # noqa: E402
from imbalkit.plots.style import COLORS, use_style  # noqa: E402

__all__ = [
    "COLORS",
    "accuracy_over_time",
    "batch_composition",
    "class_histogram",
    "confusion_heatmap",
    "curves",
    "image_grid",
    "leaderboard",
    "precision_recall",
    "prediction_stream",
    "recall_by_count",
    "reliability",
    "show",
    "use_style",
    "weights_by_count",
    "worst_errors",
]
