"""Comparisons repeated with other seeds: is a difference more than luck?

`make seeds` executes the lessons once for each seed and keeps the table `comparison` of each. The
leaderboard trains every method on one network and one budget.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pandas.core.groupby import DataFrameGroupBy
from torch import Tensor

from imbalkit.checks import check_counts

SCORES = ("balanced_accuracy", "many", "medium", "few", "macro_f1", "calibration_error")


def comparison_row(record: dict, counts: ArrayLike | Tensor) -> dict[str, float]:
    """What most lessons compare, in percent: balanced accuracy, and recall at both ends.

    First used in lesson 03.

    Args:
        record: what `imbalkit.training.evaluate` returns.
        counts: training images of each class, integers (C,).

    Example:
        >>> record = {"balanced_accuracy": 0.5, "recall": [0.9, 0.6, 0.3, 0.2]}
        >>> for name, percent in comparison_row(record, [90, 30, 10, 3]).items():
        ...     print(name, round(percent, 1))
        balanced accuracy 50.0
        recall, 3 most frequent 60.0
        recall, 3 rarest 36.7
    """
    score = {"balanced accuracy": 100 * record["balanced_accuracy"]}
    return score | recall_at_both_ends(record["recall"], counts)


def recall_at_both_ends(recall: ArrayLike | Tensor, counts: ArrayLike | Tensor) -> dict[str, float]:
    """Mean recall in percent of the three most frequent and of the three rarest classes."""
    recall = np.array(recall)[np.argsort(-check_counts(counts), kind="stable")]
    return {
        "recall, 3 most frequent": 100 * recall[:3].mean(),
        "recall, 3 rarest": 100 * recall[-3:].mean(),
    }


def over_seeds(path: str | Path, lesson: str) -> pd.DataFrame:
    """Mean and standard deviation over the seeds of each figure of a lesson's comparison.

    First used in lesson 03.

    Args:
        path: the file that ``make seeds`` writes.
        lesson: the first characters of the notebook's name, such as "03".

    Returns:
        A table of texts such as "37.8 ± 0.4"; its corner says on what they were measured. Without
        the file or the lesson it says so instead.

    Example:
        >>> over_seeds("no_such_file.json", "03").to_dict()
        {'not measured yet': {0: 'run `make seeds`'}}
    """
    path = Path(path)
    measured = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    names = [name for name in measured if name.startswith(lesson)]
    if not names:
        return pd.DataFrame({"not measured yet": ["run `make seeds`"]})
    entry = measured[names[0]]
    tables = [pd.DataFrame(**table) for table in entry["seeds"].values()]
    table = spread(pd.concat(tables).groupby(level=0, sort=False))
    seeds = "1 seed" if len(tables) == 1 else f"{len(tables)} seeds"
    table.columns.name = f"{seeds}, {entry['data']}"
    return table


def spread(grouped: DataFrameGroupBy) -> pd.DataFrame:
    """Mean and deviation of each group of a pandas groupby, as texts such as "37.8 ± 0.4".

    A single figure has no deviation: "37.8".
    """
    texts = grouped.mean().map("{:.1f}".format) + " ± " + grouped.std().map("{:.1f}".format)
    return texts.replace(" ± nan", "", regex=True)


def leaderboard(path: str | Path, ratio: int = 100) -> pd.DataFrame:
    """The leaderboard's figures, a row for each method and seed, the best method first.

    First used in lesson 11.

    Args:
        path: the file that ``python -m benchmarks.leaderboard`` writes.
        ratio: of the long tail.

    Returns:
        The columns method, seed; in percent balanced accuracy, recall of the classes with many,
        medium and few images (NaN where there is none), macro-F1, calibration error, recall of the
        three most frequent classes and of the three rarest; minutes of a processor core;
        published, the paper's accuracy in percent or NaN.

    Raises:
        ValueError: the ratio was not measured.

    Example:
        >>> import tempfile
        >>> figures = dict.fromkeys(SCORES, [0.5]) | {"recall": [[0.9, 0.4, 0.2]]}
        >>> row = {"seeds": [0], "figures": figures | {"processor_seconds": [60]}}
        >>> measured = {"100": {"counts": [90, 9, 1], "rows": {"focal loss": row}}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "measured.json")
        ...     _ = file.write_text(json.dumps({"ratios": measured, "published": {}}))
        ...     table = leaderboard(file)
        >>> table[["method", "seed", "balanced accuracy", "minutes"]].values.tolist()
        [['focal loss', 0, 50.0, 1.0]]
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    ratios = content["ratios"]
    if str(ratio) not in ratios:
        raise ValueError(f"{path} has no ratio {ratio}; use one of {', '.join(ratios)}.")
    counts, rows = ratios[str(ratio)]["counts"], []
    for method, entry in ratios[str(ratio)]["rows"].items():
        figures = entry["figures"]
        published = content["published"].get(method, {}).get(str(ratio))
        for i, seed in enumerate(entry["seeds"]):
            percent = {
                name.replace("_", " "): 100 * figures[name][i]
                if figures[name][i] is not None
                else np.nan
                for name in SCORES
            }
            rows.append(
                {"method": method, "seed": seed}
                | percent
                | recall_at_both_ends(figures["recall"][i], counts)
                | {"minutes": figures["processor_seconds"][i] / 60, "published": published}
            )
    table = pd.DataFrame(rows).astype({"published": float})
    best = table.groupby("method")["balanced accuracy"].transform("mean")
    order = best.sort_values(ascending=False, kind="stable").index
    return table.loc[order].reset_index(drop=True)


def mean_and_spread(table: pd.DataFrame) -> pd.DataFrame:
    """A `leaderboard` with one row a method: texts such as "75.1 ± 0.4", mean and deviation.

    First used in lesson 11.

    Example:
        >>> table = pd.DataFrame(
        ...     {"method": ["a", "a"], "seed": [0, 1], "few": [10.0, 12.0], "minutes": [1.0, 2.0]}
        ... ).assign(published=np.nan)
        >>> mean_and_spread(table).loc["a"].to_dict()
        {'few': '11.0 ± 1.4', 'minutes': '1.5', 'published': ''}
    """
    figures = table.set_index("method").drop(columns=["seed", "minutes", "published"])
    grouped = figures.groupby(level=0, sort=False)
    texts = spread(grouped).where(grouped.mean().notna(), "no class").astype(str)
    others = table.groupby("method", sort=False)[["minutes", "published"]].mean()
    texts["minutes"] = others["minutes"].map("{:.1f}".format)
    texts["published"] = others["published"].map("{:.1f}".format).replace("nan", "")
    return texts


def fast_recipes(path: str | Path) -> pd.DataFrame:
    """The fast recipes of several lengths, a row for each and each seed, the shortest first.

    First used in lesson 11.

    Args:
        path: the file that ``python -m benchmarks.fast`` writes.

    Returns:
        The columns recipe, seed; minutes of the clock; minutes of LDAM-DRW, and the same in
        float32: those of its recipe on the same machine, reckoned from steps timed in the same run;
        balanced accuracy in percent.

    Example:
        >>> import tempfile
        >>> run = {"seconds": 30, "ldam_seconds": {"float32": 600}, "balanced_accuracy": 0.75}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "measured.json")
        ...     _ = file.write_text(json.dumps({"recipes": [{"name": "short", "runs": [run]}]}))
        ...     fast_recipes(file)[["recipe", "minutes", "balanced accuracy"]].values.tolist()
        [['short', 0.5, 75.0]]
    """
    rows = []
    for recipe in json.loads(Path(path).read_text(encoding="utf-8"))["recipes"]:
        for seed, run in enumerate(recipe["runs"]):
            precise, *usual = run["ldam_seconds"].values()
            rows.append(
                {
                    "recipe": recipe["name"],
                    "seed": seed,
                    "minutes": run["seconds"] / 60,
                    "minutes of LDAM-DRW": (usual or [precise])[0] / 60,
                    "minutes of LDAM-DRW, float32": precise / 60,
                    "balanced accuracy": 100 * run["balanced_accuracy"],
                }
            )
    return pd.DataFrame(rows)


def fast_tricks(path: str | Path) -> pd.DataFrame:
    """What each trick of the fast recipe adds, in the order in which they were added.

    First used in lesson 11.

    Args:
        path: as in `fast_recipes`.

    Returns:
        The columns balanced accuracy in percent, a text with mean and deviation over the seeds;
        points gained over the row above; seconds of the training.

    Example:
        >>> import tempfile
        >>> runs = [[{"balanced_accuracy": score, "seconds": 9.0}] for score in (0.5, 0.75)]
        >>> tricks = [{"name": n, "runs": r} for n, r in zip(("plain", "wider"), runs)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "measured.json")
        ...     _ = file.write_text(json.dumps({"tricks": tricks}))
        ...     fast_tricks(file)["points gained"].to_dict()
        {'plain': '', 'wider': '+25.0'}
    """
    tricks = json.loads(Path(path).read_text(encoding="utf-8"))["tricks"]
    runs = pd.DataFrame(
        {"trick": t["name"], "accuracy": 100 * r["balanced_accuracy"], "seconds": r["seconds"]}
        for t in tricks
        for r in t["runs"]
    )
    grouped = runs.groupby("trick", sort=False)
    means = grouped[["accuracy", "seconds"]].mean()
    table = spread(grouped[["accuracy"]])
    table.columns = ["balanced accuracy"]
    table["points gained"] = means["accuracy"].diff().map("{:+.1f}".format).replace("+nan", "")
    table["seconds"] = means["seconds"].map("{:.0f}".format)
    return table


__all__ = [
    "comparison_row",
    "fast_recipes",
    "fast_tricks",
    "leaderboard",
    "mean_and_spread",
    "over_seeds",
]
