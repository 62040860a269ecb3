"""One cell of the board: train one method once, and judge what comes of it."""

import contextlib
import io
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from benchmarks.board.bench import Bench
from benchmarks.board.images import lab_of
from benchmarks.board.registry import METHODS, Setting
from imbalkit import metrics
from imbalkit.device import describe

BUDGETS = {"short": 8, "medium": 32, "long": 128}  # epochs
WIDTH = 16


@dataclass(frozen=True)
class Cell:
    """What is trained: a method with one of its settings, on a set, for a budget, with a seed."""

    method: str
    setting: Setting
    images: str
    epochs: int
    seed: int
    width: int = WIDTH


def run(cell: Cell) -> dict:
    """Train a cell with one thread, which gives the same wherever it runs; its record for JSON."""
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        lab = lab_of(cell.images, cell.seed)
    bench = Bench(lab, cell.epochs, cell.width, cell.seed)
    method, rows = METHODS[cell.method], {}
    started = time.process_time()
    for name, model in method.rows(bench, cell.setting):
        seconds = time.process_time() - started
        seen = {part: bench.logits(model, part) for part in ("validation", "test")}
        rows[name] = judge(seen, lab.counts) | {"seconds": round(seconds, 1)}
        if method.prior_in and len(rows) == 1:
            log_prior = torch.tensor(lab.counts).double().log()
            out = {part: (logits - log_prior, labels) for part, (logits, labels) in seen.items()}
            rows[f"{name}, prior out"] = judge(out, lab.counts) | {"seconds": round(seconds, 1)}
    return {
        "cell": asdict(cell),
        "rows": rows,
        "counts": lab.counts,
        "data": lab.full.source,
        "manifest": lab.manifest.checksum,
        "device": describe(lab.device),
    }


def judge(seen: dict[str, tuple[Tensor, Tensor]], counts: Sequence[int]) -> dict:
    """The figures of a row, from 0 to 1, from logits (N, C) and labels (N,) of both parts.

    The calibration error is given twice: for the test images, whose classes are equally frequent,
    and for some of them, whose classes are as frequent as in training.
    """
    logits, labels = seen["test"]
    names = [str(c) for c in range(len(counts))]
    report = metrics.report(labels, logits, counts, names)
    as_trained = in_training_mix(labels, counts)
    figures = {
        "balanced_accuracy": report.balanced_accuracy,
        **report.groups,
        "macro_f1": report.macro_f1,
        "calibration_error": report.calibration.ece,
        "calibration_error_in_training_mix": metrics.calibration(
            logits[as_trained], labels[as_trained]
        ).ece,
        "validation": metrics.report(
            seen["validation"][1], seen["validation"][0], counts, names
        ).balanced_accuracy,
    }
    rounded = {name: None if x is None else round(float(x), 4) for name, x in figures.items()}
    return rounded | {"recall": [round(float(recall), 4) for recall in report.recall]}


def in_training_mix(labels: Tensor, counts: Sequence[int]) -> Tensor:
    """Positions of the first test images of each class, as many as its training images ask for."""
    per_class = torch.bincount(labels, minlength=len(counts))
    share = min(n / wanted for n, wanted in zip(per_class.tolist(), counts, strict=True))
    kept = [
        (labels == c).nonzero().flatten()[: max(1, round(share * wanted))]
        for c, wanted in enumerate(counts)
    ]
    return torch.cat(kept).sort().values
