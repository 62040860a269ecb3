"""What a case of the fault bench is: a training as people write them, and what is wrong with it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass
class Trained:
    """What the author of a training still holds when he wonders what went wrong.

    options: further arguments of `diagnose`, where batches are not (inputs, targets).
    """

    model: nn.Module
    train_batches: Iterable
    loss_fn: Callable
    optimizer: Any = None
    eval_batches: Iterable | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One training, run by `train`; `causes` names what is wrong with it, nothing if healthy.

    fair: names that are as right as the only cause, decided before any reading.
    """

    name: str
    causes: tuple[str, ...]
    train: Callable[..., Trained]
    fair: tuple[str, ...] = ()


class Cases(dict):
    """The cases of one part, by name, in the order in which they were written."""

    def fault(self, *causes: str, fair: Sequence[str] = ()):
        """Register the decorated function as a training with these faults."""
        if fair and len(causes) != 1:
            raise ValueError("another fair name stands for one cause, not for several")

        def register(train):
            self[train.__name__] = Case(train.__name__, causes, train, tuple(fair))
            return train

        return register

    def healthy(self, train):
        """Register the decorated function as a training that must not be accused."""
        return self.fault()(train)
