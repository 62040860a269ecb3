"""Can a training begin? `fit` asks before anything is computed. Used in lesson 12.

What the batches hold is the matter of `imbalkit.intake`.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from imbalkit.checks import check_whole, described
from imbalkit.files import check_writable
from imbalkit.intake import as_pair, has_numbers, length_of
from imbalkit.randomness import random_state_kept

MONITORS = ("balanced_accuracy", "macro_f1", "worst_recall", "accuracy", "loss")


def check_arguments(
    train_batches: Iterable,
    epochs: int,
    steps_per_epoch: int | None = None,
    val_batches: Iterable | None = None,
    monitor: str | Callable = "balanced_accuracy",
    patience: int | None = None,
    checkpoint: str | PathLike | None = None,
    resume: bool = False,
) -> int:
    """Can these arguments of `fit` work? Used in lesson 12.

    Args:
        train_batches, epochs, steps_per_epoch, val_batches, monitor, patience, checkpoint, resume:
            as `fit` takes them.

    Returns:
        the steps of an epoch.

    Raises:
        TypeError, ValueError: they cannot; nothing has been computed yet.

    Example:
        >>> check_arguments([(torch.zeros(2, 3), torch.arange(2))], epochs=0)
        Traceback (most recent call last):
        ValueError: epochs is 0; give a whole number of 1 or more.
    """
    check_whole(epochs, "epochs")
    check_iterable(train_batches, "train_batches")
    steps = steps_in(train_batches, steps_per_epoch)
    if not callable(monitor) and monitor not in MONITORS:
        raise ValueError(
            f"there is no figure {described(monitor)} to monitor; use one of "
            f"{', '.join(MONITORS)} or a function of the confusion matrix."
        )
    if patience is not None:
        check_whole(patience, "patience")
        if val_batches is None:
            raise ValueError(
                "patience needs val_batches: early stopping watches the validation set."
            )
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to go on from.")
    if val_batches is not None:
        check_iterable(val_batches, "val_batches")
        if isinstance(val_batches, Iterator) and epochs > 1:
            raise ValueError(
                "val_batches is a generator, which is used up after one epoch; pass a DataLoader, "
                "Batches or a list."
            )
        if length_of(val_batches) == 0:
            raise ValueError("val_batches is empty; leave it out, or check the data set.")
        look_at(val_batches, "val_batches")
    if checkpoint is not None:
        check_writable(checkpoint)
    return steps


def check_parts(
    model: nn.Module,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer | None,
    schedule: Callable[[float], float],
) -> None:
    """Can these learn together? Used in lesson 12.

    Args:
        model, loss_fn, optimizer, schedule: as `fit` takes them.

    Raises:
        TypeError, ValueError: they cannot.

    Example:
        >>> check_parts(nn.Linear(2, 2).requires_grad_(False), nn.CrossEntropyLoss(), None, abs)
        Traceback (most recent call last):
        ValueError: no parameter can learn: the model has none, or all have ...
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {described(model)}; give a torch.nn.Module.")
    if isinstance(loss_fn, type) or not callable(loss_fn):
        raise TypeError(
            f"loss_fn is {described(loss_fn)}; give a function or a loss that has been made, such "
            "as FocalLoss()."
        )
    if isinstance(schedule, type) or not callable(schedule):
        raise TypeError(
            f"schedule is {described(schedule)}; give a function of the share of the training "
            "done, such as warmup_cosine."
        )
    parameters = [p for part in modules(model, loss_fn) for p in part.parameters()]
    for name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ValueError(
                f"the model's {name} has no shape yet: run the model once on a batch before its "
                "optimizer is made."
            )
        if has_numbers(parameter) and bool(parameter.isnan().any()):
            raise ValueError(f"the model's {name} is NaN before the training; make it anew.")
    if not any(p.requires_grad for p in parameters):
        raise ValueError(
            "no parameter can learn: the model has none, or all have requires_grad=False; set it "
            "to True for those to train."
        )
    if optimizer is not None:
        check_optimizer(optimizer, parameters)


def check_optimizer(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Raise TypeError or ValueError for an optimizer that cannot train one of `parameters`."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer is {described(optimizer)}; give one that has been made, such as "
            "torch.optim.SGD(model.parameters(), lr=0.05)."
        )
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("LBFGS computes the loss several times a step, and fit once; use another.")
    known = {id(parameter) for parameter in parameters}
    held = [p for group in optimizer.param_groups for p in group["params"] if id(p) in known]
    if not held:
        warnings.warn(
            "the optimizer holds no parameter of the model, so nothing will be learned; make it "
            "from model.parameters().",
            stacklevel=4,
        )
    elif not any(parameter.requires_grad for parameter in held):
        raise ValueError(
            "all parameters that the optimizer holds have requires_grad=False; give it those that "
            "are to learn."
        )


def check_iterable(batches: Any, name: str) -> None:
    """Raise TypeError unless one can ask for batches, one after another."""
    several = hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")
    if isinstance(batches, Tensor | np.ndarray | Mapping | str | bytes | type) or not several:
        raise TypeError(
            f"{name} is {described(batches)}; pass a DataLoader, Batches or a list of batches "
            "(images, targets)."
        )


def steps_in(batches: Iterable, steps_per_epoch: int | None) -> int:
    """How many batches make an epoch: as many as there are, unless somebody says it."""
    if steps_per_epoch is not None:
        return check_whole(steps_per_epoch, "steps_per_epoch")
    length = None if isinstance(batches, Iterator) else length_of(batches)
    if length is None:
        raise ValueError(
            "train_batches has no length, and a generator is used up after one epoch; pass a "
            "DataLoader, Batches or a list, or say how many batches make an epoch with "
            "steps_per_epoch=."
        )
    if length == 0:
        raise ValueError("train_batches is empty; check the data set and drop_last.")
    return length


def look_at(batches: Iterable, name: str) -> None:
    """Check the form of the first batch, where a look changes nothing: no worker, no stream.

    Those of the training are checked when they come.
    """
    loader = isinstance(batches, DataLoader) and not (
        batches.num_workers or isinstance(batches.dataset, IterableDataset)
    )
    if loader or isinstance(batches, tuple | list):
        with random_state_kept(batches):
            for batch in itertools.islice(batches, 1):
                as_pair(batch, f"batch 1 of {name}")


def as_it_was(model: nn.Module, loss_fn: Callable) -> Callable[[], None]:
    """A function that undoes a step which failed before it changed a weight.

    It puts back the running statistics and the modes of the layers. Used in lesson 12.

    Args:
        model: as `fit` takes it.
        loss_fn: likewise.

    Returns:
        the function.

    Example:
        >>> model = nn.BatchNorm1d(1)
        >>> undo = as_it_was(model, nn.CrossEntropyLoss())
        >>> _ = model(torch.ones(8, 1))
        >>> undo()
        >>> model.running_mean
        tensor([0.])
    """
    parts = [part for one in modules(model, loss_fn) for part in one.modules()]
    modes = [part.training for part in parts]
    buffers = [
        (part, name, buffer.clone())
        for part in parts
        for name, buffer in part.named_buffers(recurse=False)
        if has_numbers(buffer)
    ]

    def undo() -> None:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
        with torch.no_grad():
            for part, name, value in buffers:
                getattr(part, name).copy_(value)
        model.zero_grad()

    return undo


def modules(*parts: Any) -> list[nn.Module]:
    """Those of the parts that are modules; a loss may be a function."""
    return [part for part in parts if isinstance(part, nn.Module)]


__all__ = ["as_it_was", "check_arguments", "check_parts"]
