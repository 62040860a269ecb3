"""From the records of all cells to the figures of the leaderboard."""

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from benchmarks.leaderboard.cell import CLOCKS, figures

# Top-1 on the balanced test set of CIFAR-10-LT in percent, with ResNet-32 and 200 epochs unless
# said; nearly all with the best epoch chosen on the test set. Ratio 100, 50, 10.
PUBLISHED = {
    "cross-entropy": (70.36, 74.81, 86.39, "Cao et al. 2019"),
    "balanced weights": (68.30, 76.80, None, "Zhang et al. 2021"),
    "focal loss": (70.4, 76.7, 86.7, "Tang et al. 2020"),
    "balanced sampling": (72.45, 78.08, None, "Zhang et al. 2021"),
    "late weights (DRW)": (74.64, 79.35, None, "Zhang et al. 2021"),
    "late sampling (DRS)": (75.07, 80.73, None, "Zhang et al. 2021"),
    "LDAM-DRW": (77.03, 81.0, 88.16, "Cao et al. 2019"),
    "new classifier (cRT)": (74.99, 80.17, None, "Zhang et al. 2021"),
    "class scales (LWS)": (72.63, 78.66, None, "Zhang et al. 2021"),
    "tau-normalisation": (72.70, 79.78, None, "Zhang et al. 2021"),
    "balanced softmax": (77.54, 81.11, None, "Zhang et al. 2021"),
    "logit adjustment after training": (77.32, None, None, "Menon et al. 2021, 1,241 epochs"),
    "mixup": (73.1, 77.8, 87.1, "Tang et al. 2020"),
    "rotation start": (76.53, 80.40, 88.43, "Yang and Xu 2020, with balancing"),
}
COLUMNS = ("balanced_accuracy", "many", "medium", "few", "macro_f1", "calibration_error")
PUBLISHED_KEYS = ("100", "50", "10", "source")  # the ratios, by name, as in the rest of the file
SAME = ("epochs", "width", "data", "device", "versions")


def ranked_methods(records: list[dict]) -> list[str]:
    """The methods, best first, by the validation score of what they trained, mean over seeds."""
    scores = defaultdict(list)
    for record in records:
        scores[record["method"]].append(first_row(record)["validation"])
    return sorted(scores, key=lambda method: -np.mean(scores[method]))


def first_row(record: dict) -> dict:
    """The row of the model that was trained; the others follow from it."""
    return next(iter(record["rows"].values()))


def averaged(name: str, seed: int, records: list[dict], logits: list[Tensor], labels) -> dict:
    """The record of an ensemble: the mean of its members' probabilities, and all of their time.

    logits: one (N, C) a member, on the test images; labels: theirs, (N,).
    """
    mean = torch.stack([member.softmax(1) for member in logits]).mean(0)
    mean = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
    members = [first_row(record) for record in records]
    row = {
        "validation": None,
        "test": figures(mean, labels, records[0]["counts"]),
        "epoch": None,
        **{clock: round(sum(member[clock] for member in members), 2) for clock in CLOCKS},
    }
    settings = [f"{record['method']}, seed {record['seed']}" for record in records]
    return records[0] | {"method": "ensemble", "seed": seed, "setting": settings,
                         "rows": {name: row}}  # fmt: skip


def summarise(records: list[dict], settings: dict) -> dict:
    """What is written to the file: each row's figures, one entry a seed, ratio by ratio."""
    ratios: dict = {}
    for record in sorted(records, key=lambda record: (record["ratio"], record["seed"])):
        ratio = ratios.setdefault(str(record["ratio"]), {"counts": record["counts"],
                                  "manifest": record["manifest"], "rows": {}})  # fmt: skip
        if record["manifest"] != ratio["manifest"]:
            raise ValueError(
                f"the cells of ratio {record['ratio']} were trained on different images; delete "
                "the folder of the finished cells and start again."
            )
        for name, row in record["rows"].items():
            add(ratio["rows"], name, record, row)
    return {
        **{key: common(records, key) for key in SAME},
        "commits": sorted({str(record["commit"]) for record in records}),
        "dates": sorted({record["date"] for record in records}),
        "settings": settings,
        "ratios": ratios,
        "published": {
            name: dict(zip(PUBLISHED_KEYS, values, strict=True))
            for name, values in PUBLISHED.items()
        },
    }


def add(rows: dict, name: str, record: dict, row: dict) -> None:
    """Append one seed's figures to those of the row."""
    entry = rows.setdefault(name, {"method": record["method"], "setting": record["setting"],
                            "seeds": [], "figures": defaultdict(list)})  # fmt: skip
    entry["seeds"].append(record["seed"])
    for column in COLUMNS:
        entry["figures"][column].append(row["test"][column])
    for column in ("validation", "epoch", *CLOCKS):
        entry["figures"][column].append(row[column])
    entry["figures"]["recall"].append(row["test"]["recall"])


def common(records: list[dict], key: str):
    """What all records say, or the list of what they say."""
    values = [record[key] for record in records]
    different = [v for i, v in enumerate(values) if v not in values[:i]]
    return different[0] if len(different) == 1 else different
