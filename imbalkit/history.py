"""What happened in a training, as `fit` returns it.

Lesson 01 uses it.
"""

import html
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imbalkit.tables import html_table, text_table
from imbalkit.texts import printable


@dataclass(repr=False)
class History:
    """What happened in a training. It prints as a table. Shown in lesson 01.

    Attributes:
        train: one dict an epoch with the figures of `metrics.summary` and "loss". They are those of
            the batches as they were trained on, so they lag behind.
            ``pandas.DataFrame(history.train)`` makes a data frame of them.
        validation: the same of the validation. It holds "confusion" too, of up to 256 classes.
        shares: float, (steps, C): the share of each predicted class in each training batch; of more
            than 256 classes nothing is kept, (steps, 0).
        best_epoch: the epoch (from 1) whose weights the model holds now; 0 for those of the last.
        best_score: the monitored figure of that epoch, signed so that higher is better.
        stopped: "finished", "early" or "interrupted".
        warning: what `imbalkit.monitor.CollapseMonitor` had to say, or that the validation gave no
            number, or "".
        seconds: time spent in the training loop, evaluation included.

    Example:
        >>> record = {"loss": 0.5, "accuracy": 0.75, "balanced_accuracy": 0.5}
        >>> print(History(train=[record], seconds=2.0))
        epoch  training loss  training accuracy  training balanced
            1          0.500              75.0%              50.0%
        finished after 1 epochs, 2 s; last weights kept
    """

    train: list[dict] = field(default_factory=list)
    validation: list[dict] = field(default_factory=list)
    shares: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    best_epoch: int = 0
    best_score: float = -math.inf
    stopped: str = "finished"
    warning: str = ""
    seconds: float = 0.0

    def rows(self) -> list[dict[str, str]]:
        """What is printed, a dict an epoch, at most six: first, best, last and some between."""
        last = len(self.train)
        chosen = {1, self.best_epoch, last, *(round(last * k / 4) for k in (1, 2, 3))}
        rows = []
        for epoch in sorted(e for e in chosen if 1 <= e <= last):
            row = {"epoch": f"{epoch}{' *' if epoch == self.best_epoch else ''}"}
            for part, records in (("training", self.train), ("validation", self.validation)):
                if epoch <= len(records):  # one may have been interrupted in its evaluation
                    record = records[epoch - 1]
                    row[f"{part} loss"] = f"{record['loss']:.3f}"
                    row[f"{part} accuracy"] = f"{record['accuracy']:.1%}"
                    row[f"{part} balanced"] = f"{record['balanced_accuracy']:.1%}"
            rows.append(row)
        return rows

    def __repr__(self) -> str:
        return f"{text_table(self.rows())}\n{self._caption()}".lstrip("\n")

    def _repr_html_(self) -> str:
        return f"{html_table(self.rows())}<p>{html.escape(self._caption())}</p>"

    def _caption(self) -> str:
        kept = f"weights of epoch {self.best_epoch} (*)" if self.best_epoch else "last weights"
        ended = f"{self.stopped} after {len(self.train)} epochs, {self.seconds:.0f} s"
        warning = f". Warning: {printable(self.warning)}" if self.warning else ""
        return f"{ended}; {kept} kept{warning}"


__all__ = ["History"]
