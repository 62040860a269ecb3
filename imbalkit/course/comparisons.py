"""Comparisons repeated with other seeds: is a difference more than luck?

`make seeds` executes the lessons once for each seed and keeps the table `comparison` of each. The
leaderboard trains every method on one network and one budget.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from imbalkit.checks import check_counts

SCORES = ("balanced_accuracy", "many", "medium", "few", "macro_f1", "calibration_error")


def comparison_row(record: dict, counts) -> dict[str, float]:
    """What most lessons compare, in percent: balanced accuracy, and recall at both ends.

    record: what `training.evaluate` returns. counts: training images of each class, integers (C,).
    """
    score = {"balanced accuracy": 100 * record["balanced_accuracy"]}
    return score | recall_at_both_ends(record["recall"], counts)


def recall_at_both_ends(recall, counts) -> dict[str, float]:
    """Mean recall in percent of the three most frequent and of the three rarest classes."""
    recall = np.array(recall)[np.argsort(-check_counts(counts), kind="stable")]
    return {
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
    table = spread(pd.concat(tables).groupby(level=0, sort=False))
    seeds = "1 seed" if len(tables) == 1 else f"{len(tables)} seeds"
    table.columns.name = f"{seeds}, {entry['data']}"
    return table


def spread(grouped) -> pd.DataFrame:
    """Mean and deviation of each group of a pandas groupby, as texts such as "37.8 ± 0.4".

    A single figure has no deviation: "37.8".
    """
    texts = grouped.mean().map("{:.1f}".format) + " ± " + grouped.std().map("{:.1f}".format)
    return texts.replace(" ± nan", "", regex=True)


def leaderboard(path: str | Path, ratio: int = 100) -> pd.DataFrame:
    """The leaderboard's figures, a row for each method and seed, the best method first.

    path: the file that ``python -m benchmarks.leaderboard`` writes. ratio: of the long tail.

    Columns: method, seed; in percent balanced accuracy, recall of the classes with many, medium
    and few images (NaN where there is none), macro-F1, calibration error, recall of the three most
    frequent classes and of the three rarest; minutes of a processor core; published, the paper's
    accuracy in percent or NaN. Raises ValueError for a ratio that was not measured.
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
    """A `leaderboard` with one row a method: texts such as "75.1 ± 0.4", mean and deviation."""
    figures = table.set_index("method").drop(columns=["seed", "minutes", "published"])
    grouped = figures.groupby(level=0, sort=False)
    texts = spread(grouped).where(grouped.mean().notna(), "no class").astype(str)
    others = table.groupby("method", sort=False)[["minutes", "published"]].mean()
    texts["minutes"] = others["minutes"].map("{:.1f}".format)
    texts["published"] = others["published"].map("{:.1f}".format).replace("nan", "")
    return texts


def fast_recipes(path: str | Path) -> pd.DataFrame:
    """The fast recipes of several lengths, a row for each and each seed, the shortest first.

    path: the file that ``python -m benchmarks.fast`` writes.

    Columns: recipe, seed; minutes of the clock; minutes of LDAM-DRW, and the same in float32: those
    of its recipe on the same machine, reckoned from steps timed in the same run; balanced accuracy
    in percent.
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

    path: as in `fast_recipes`. Columns: balanced accuracy in percent, a text with mean and
    deviation over the seeds; points gained over the row above; seconds of the training.
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
