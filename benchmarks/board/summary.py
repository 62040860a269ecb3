"""From the finished cells to the board: means, and paired differences with their intervals."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy import stats

COLUMNS = (
    "balanced_accuracy", "many", "medium", "few", "macro_f1", "calibration_error",
    "calibration_error_in_training_mix",
)  # fmt: skip
CROSS_ENTROPY, BALANCED = "cross-entropy", "balanced softmax"


def board(records: Sequence[dict], settings: dict[tuple[str, str, int], object]) -> list[dict]:
    """The rows of the board: one for each set, budget and row's name.

    Args:
        records: of finished cells.
        settings: the chosen setting for (method, images, epochs); records of others are left out.

    Returns:
        dicts with what was trained, the seeds, each of `COLUMNS` in percent as a list over the
        seeds, the recall of the rarest classes with its interval, and the paired difference of the
        balanced accuracy from the row's baseline.
    """
    rows: dict[tuple, dict[int, dict]] = defaultdict(dict)
    about: dict[tuple, dict] = {}
    for record in records:
        cell = record["cell"]
        place = cell["method"], cell["images"], cell["epochs"]
        if settings.get(place, cell["setting"]) != cell["setting"]:
            continue
        for name, row in record["rows"].items():
            rows[cell["images"], cell["epochs"], name][cell["seed"]] = row
            about[cell["images"], cell["epochs"], name] = cell | {"counts": record["counts"]}
    return [line(place, rows, about[place]) for place in rows]


def line(place: tuple, rows: dict[tuple, dict[int, dict]], cell: dict) -> dict:
    """One row of the board."""
    images, epochs, name = place
    by_seed = dict(sorted(rows[place].items()))
    baseline = baseline_of(name)
    others = rows.get((images, epochs, baseline), {})
    paired = [
        100 * (row["balanced_accuracy"] - others[seed]["balanced_accuracy"])
        for seed, row in by_seed.items()
        if seed in others and name != baseline
    ]
    rare = [row["recall"][-3:] for row in by_seed.values()]
    return {
        "images": images,
        "epochs": epochs,
        "row": name,
        "method": cell["method"],
        "setting": cell["setting"],
        "seeds": list(by_seed),
        **{column: [percent(row[column]) for row in by_seed.values()] for column in COLUMNS},
        "rarest": round(100 * float(np.mean(rare)), 2),
        "rarest_interval": wilson(float(np.mean(rare)), 3 * images_per_class(images)),
        "seconds": round(float(np.mean([row["seconds"] for row in by_seed.values()])), 1),
        "baseline": baseline if paired else None,
        "difference": interval(paired) if paired else None,
    }


def percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)


def images_per_class(images: str) -> int:
    """Test images of a class."""
    return 100 if images.startswith("cifar100") else 1000


def baseline_of(name: str) -> str:
    """A representation is compared within its column, and all else with cross-entropy."""
    for column in (BALANCED, "prior out"):
        if name.endswith(f", {column}"):
            return BALANCED if column == BALANCED else f"{CROSS_ENTROPY}, prior out"
    return CROSS_ENTROPY


def interval(differences: Sequence[float], level: float = 0.95) -> dict[str, float | None]:
    """The mean of paired differences and Student's interval; one pair alone has none."""
    n, mean = len(differences), float(np.mean(differences))
    if n < 2:
        return {"mean": round(mean, 2), "low": None, "high": None}
    half = stats.t.ppf((1 + level) / 2, n - 1) * np.std(differences, ddof=1) / math.sqrt(n)
    return {
        "mean": round(mean, 2),
        "low": round(mean - float(half), 2),
        "high": round(mean + float(half), 2),
    }


def wilson(share: float, n: int, z: float = 1.96) -> list[float]:
    """Wilson's 95 % interval, in percent, of a share of `n` test images."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [round(100 * (middle - half), 2), round(100 * (middle + half), 2)]
