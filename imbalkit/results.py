"""A lesson's comparison, repeated with other seeds: is a difference more than luck?

`make seeds` executes the lessons once for each seed and keeps the table `comparison` of each.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from imbalkit.counts import check_counts


def comparison_row(record: dict, counts) -> dict[str, float]:
    """What most lessons compare, in percent: balanced accuracy, and recall at both ends.

    record: what `training.evaluate` returns. counts: training images of each class, integers (C,).
    """
    recall = np.array(record["recall"])[np.argsort(-check_counts(counts), kind="stable")]
    return {
        "balanced accuracy": 100 * record["balanced_accuracy"],
        "recall, 3 most frequent": 100 * recall[:3].mean(),
        "recall, 3 rarest": 100 * recall[-3:].mean(),
    }


def over_seeds(path: str | Path, lesson: str) -> pd.DataFrame:
    """Mean and standard deviation over the seeds of each figure of a lesson's comparison.

    path: the file that `make seeds` writes. lesson: the first characters of the notebook's name,
    such as "03".

    Returns a table of texts such as "37.8 ± 0.4"; its corner says on what they were measured.
    Without the file or the lesson it says so instead.
    """
    path = Path(path)
    measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = [name for name in measured if name.startswith(lesson)]
    if not names:
        return pd.DataFrame({"not measured yet": ["run `make seeds`"]})
    entry = measured[names[0]]
    tables = [pd.DataFrame(**table) for table in entry["seeds"].values()]
    stacked = pd.concat(tables).groupby(level=0, sort=False)
    mean, deviation = stacked.mean(), stacked.std()
    table = mean.map("{:.1f}".format) + " ± " + deviation.map("{:.1f}".format)
    table.columns.name = f"{len(tables)} seeds, {entry['data']}"
    return table


__all__ = ["comparison_row", "over_seeds"]
