"""One cell of the leaderboard: train one method once, and judge what comes of it."""

import contextlib
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.gelu_net import gelu_net
from imbalkit import metrics
from imbalkit.course.lab import Lab, set_up
from imbalkit.data import Batches
from imbalkit.device import describe
from imbalkit.history import History
from imbalkit.schema import (
    list_of,
    number,
    one_of,
    optional,
    record,
    table_of,
    text,
    whole,
)
from imbalkit.training import fit, predict


@dataclass(frozen=True)
class Budget:
    """What all methods have in common: passes over the training images, and the network's width."""

    epochs: int = 15
    width: int = 16


QUICK = Budget(epochs=3, width=4)
# The processor's clock counts only the time in which this process worked, so that a busy machine
# does not make a method look slow.
CLOCKS = {"seconds": time.perf_counter, "processor_seconds": time.process_time}


@dataclass(frozen=True)
class Cell:
    """What is trained: a method with one of its settings, on one subset, with one seed."""

    method: str
    setting: float | str | None
    ratio: int
    seed: int
    budget: Budget = Budget()

    @property
    def name(self) -> str:
        """Unique among cells, and fit for a file."""
        setting = "" if self.setting is None else f"_{self.setting}"
        size = f"{self.budget.epochs}x{self.budget.width}"
        return f"{size}_ratio{self.ratio}_{self.method}{setting}_seed{self.seed}".replace(" ", "-")

    @property
    def identity(self) -> dict:
        """What a record says of the cell that it is of."""
        return {
            "method": self.method,
            "setting": self.setting,
            "ratio": self.ratio,
            "seed": self.seed,
            "epochs": self.budget.epochs,
            "width": self.budget.width,
        }


SHARE = number(0, 1)
ROW = record(
    validation=SHARE,
    test=record(
        balanced_accuracy=SHARE,
        many=optional(SHARE),
        medium=optional(SHARE),
        few=optional(SHARE),
        macro_f1=SHARE,
        calibration_error=optional(SHARE),
        recall=list_of(SHARE, 2),
    ),
    epoch=whole(),
    **dict.fromkeys(CLOCKS, number(0)),
)


def schema_of(cell: Cell):
    """What the file of a finished cell must hold, see `run`: the cell's own figures."""
    return record(
        method=one_of(cell.method),
        setting=one_of(cell.setting),
        ratio=one_of(cell.ratio),
        seed=one_of(cell.seed),
        epochs=one_of(cell.budget.epochs),
        width=one_of(cell.budget.width),
        counts=list_of(whole(), 2),
        data=text(),
        manifest=text(64),
        device=text(),
        rows=table_of(ROW),
        logits=text(64),
        date=text(),
        commit=optional(text()),
        versions=table_of(text()),
    )


class Bench:
    """What a method works with: the lesson's lab, the budget, and one way to call `fit`."""

    def __init__(self, lab: Lab, budget: Budget, seed: int):
        self.lab, self.budget, self.seed = lab, budget, seed
        self.counts, self.epochs = lab.counts, budget.epochs
        self.best_epoch = 0  # of the latest training

    def net(self):
        """The network that all methods train, with the weights that the seed gives."""
        torch.manual_seed(self.seed)
        return gelu_net(len(self.lab.classes), self.budget.width)

    def batches(self, sampler=None, also=()) -> Batches:
        """Training batches; `also` are augmentations behind the crops and flips of all methods."""
        augment = [*self.lab.augment, *also]
        return self.lab.train_batches(shuffle=sampler is None, sampler=sampler, augment=augment)

    def fit(self, model, batches, epochs: int | None = None, **options) -> History:
        """`fit` for the whole budget, with the epoch chosen on the validation images."""
        options = {"val_batches": self.validation(), "show_progress": False} | options
        history = fit(model, batches, epochs or self.epochs, **options)
        self.best_epoch = history.best_epoch
        return history

    def validation(self) -> Batches:
        return self.lab.eval_batches(self.lab.validation)

    def score(self, model: nn.Module) -> float:
        """Balanced accuracy on the validation images."""
        return judge(model, self.validation(), self.counts)[0]["balanced_accuracy"]


def run(cell: Cell, train) -> tuple[dict, dict[str, np.ndarray]]:
    """Train a cell: its record, fit for JSON, and the test logits of each row, float16 (N, C).

    train: generator function ``(bench, setting) -> (row's name, model), ...``. The first row is a
    whole training; the others start from its model and cost what they add.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        lab = set_up(ratio=cell.ratio, seed=cell.seed)
    bench = Bench(lab, cell.budget, cell.seed)
    rows, logits = {}, {}
    first = dict.fromkeys(CLOCKS, 0.0)
    for name, model, spent in timed(train(bench, cell.setting)):
        validation, _ = judge(model, bench.validation(), lab.counts)
        test, outputs = judge(model, lab.eval_batches(lab.test), lab.counts)
        rows[name] = {
            "validation": validation["balanced_accuracy"],
            "test": test,
            "epoch": bench.best_epoch,
            **{clock: round(first[clock] + spent[clock], 2) for clock in CLOCKS},
        }
        first = first if rows.keys() > {name} else spent
        logits[name] = outputs.half().numpy()
    record = {
        **cell.identity,
        "counts": lab.counts,
        "data": lab.full.source,
        "manifest": lab.manifest.checksum,
        "device": describe(lab.device),
        "rows": rows,
    }
    return record, logits


def timed(models: Iterator) -> Iterator[tuple[str, nn.Module, dict[str, float]]]:
    """What a method yields, each with the time it took on both clocks."""
    while True:
        began = [now() for now in CLOCKS.values()]
        try:
            name, model = next(models)
        except StopIteration:
            return
        ended = [now() for now in CLOCKS.values()]
        spent = [end - begin for begin, end in zip(began, ended, strict=True)]
        yield name, model, dict(zip(CLOCKS, spent, strict=True))


def judge(model: nn.Module, batches: Batches, counts) -> tuple[dict, torch.Tensor]:
    """All figures of the leaderboard, and the logits they were computed from."""
    logits, labels = predict(model, batches)
    return figures(logits, labels, counts), logits


def figures(logits, labels, counts) -> dict:
    """Balanced accuracy, recall by class and group, macro-F1 and calibration error: 0 .. 1.

    A group without classes has None.
    """
    report = metrics.report(labels, logits, counts, [str(c) for c in range(len(counts))])
    found = {
        "balanced_accuracy": report.balanced_accuracy,
        **report.groups,
        "macro_f1": report.macro_f1,
        "calibration_error": report.calibration.ece,
    }
    found = {name: None if x is None else round(float(x), 4) for name, x in found.items()}
    return found | {"recall": [round(float(recall), 4) for recall in report.recall]}
