"""All that a training needs to go on where it was cut off, in one file. `fit` writes and reads it.

Used in lesson 12.
"""

import copy
import reprlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from imbalkit import randomness, sealed
from imbalkit.schema import (
    Check,
    anything,
    like,
    list_of,
    must_be,
    number,
    one_of,
    optional,
    record,
    table_of,
    tensor,
    tensors_like,
    text,
    whole,
)

FORMAT = "imbalkit checkpoint 1"
EPOCHS, STEPS, IMAGES, OPTIMIZER = "epochs", "steps an epoch", "images a batch", "optimizer"
KEY = record(
    **{EPOCHS: whole(1), STEPS: whole(1), IMAGES: optional(whole(1)), OPTIMIZER: text(200)}
)
SHARE = number(0, 1)
# What torch's optimizers, and `fast.Muon`, keep for each number of a parameter.
OF_EACH_NUMBER = {
    "exp_avg", "exp_avg_sq", "exp_inf", "grad_avg", "max_exp_avg_sq", "mean", "momentum_buffer",
    "square_avg", "sum",
}  # fmt: skip
FIGURES: dict[str, Check] = {
    "loss": number(nan=True),  # it is shown, and nothing is computed from it
    "accuracy": SHARE,
    "balanced_accuracy": SHARE,
    "macro_f1": SHARE,
    "worst_recall": SHARE,
    "recall": list_of(SHARE),
    "predicted_share": list_of(SHARE),
}


@dataclass
class Parts:
    """What has a state in a training, and what tells it from another training. See lesson 12.

    Attributes:
        model: the network.
        loss_fn: may be a function, which has no state.
        optimizer: of the model's parameters.
        scheduler: of the learning rate.
        batches: those of the training and of the validation; their generators have a state.
        epochs: of the whole training.
        steps_per_epoch: batches in each.
        device: on which it runs.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> optimizer = torch.optim.SGD(model.parameters())
        >>> rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        >>> loss, batches = nn.CrossEntropyLoss(), ([], None)
        >>> parts = Parts(model, loss, optimizer, rate, batches, 4, 10, torch.device("cpu"))
        >>> parts.key()["optimizer"], parts.key()["steps an epoch"]
        ('SGD', 10)
    """

    model: nn.Module
    loss_fn: Any
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    batches: tuple[Any, Any]
    epochs: int
    steps_per_epoch: int
    device: torch.device

    def loss_state(self) -> dict[str, Any]:
        """The parameters and buffers of a loss that is a module."""
        return self.loss_fn.state_dict() if isinstance(self.loss_fn, nn.Module) else {}

    def key(self) -> dict[str, Any]:
        """What has to be the same in the training that goes on, by the words for it."""
        batch_sampler = getattr(self.batches[0], "batch_sampler", None)
        sizes = (getattr(one, "batch_size", None) for one in (self.batches[0], batch_sampler))
        return {
            EPOCHS: self.epochs,
            STEPS: self.steps_per_epoch,
            IMAGES: next((size for size in sizes if type(size) is int), None),
            OPTIMIZER: type(self.optimizer).__name__,
        }


def save_checkpoint(
    path: str | PathLike,
    parts: Parts,
    history: dict[str, Any],
    best_weights: dict[str, Tensor] | None,
) -> None:
    """Write all that a training needs to go on, the random state included.

    The write is atomic. Used in lesson 12.

    Args:
        path: of the file.
        parts: of the training.
        history: the fields of its `training.History`.
        best_weights: those of the best epoch, if there is one.

    Example:
        >>> import tempfile
        >>> from imbalkit.training import fit
        >>> model, batches = nn.Linear(2, 2), [(torch.randn(4, 2), torch.arange(4) % 2)]
        >>> with tempfile.TemporaryDirectory() as folder:  # `fit` calls it after each epoch
        ...     _ = fit(model, batches, 3, checkpoint=f"{folder}/a.pt", show_progress=False)
        ...     sorted(torch.load(f"{folder}/a.pt", weights_only=True))[:5]
        ['best_weights', 'device', 'format', 'history', 'key']
    """
    state = {
        "format": FORMAT,
        "key": parts.key(),
        "device": parts.device.type,
        "model": parts.model.state_dict(),
        "loss": parts.loss_state(),
        "optimizer": parts.optimizer.state_dict(),
        "scheduler": parts.scheduler.state_dict(),
        "history": history,
        "best_weights": best_weights,
        "random": randomness.random_state(*parts.batches, parts.loss_fn),
    }
    sealed.write(path, state)


def load_checkpoint(
    path: str | PathLike, parts: Parts
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Restore what `save_checkpoint` wrote: all of it, or nothing where something does not fit.

    Used in lesson 12.

    Args:
        path: of the file.
        parts: of the training that goes on, made as those of the training that was cut off.

    Returns:
        the fields of the History, and the best weights so far.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the file is damaged, or belongs to another training.

    Example:
        >>> import tempfile
        >>> from imbalkit.training import fit
        >>> model, batches = nn.Linear(2, 2), [(torch.randn(4, 2), torch.arange(4) % 2)]
        >>> with tempfile.TemporaryDirectory() as folder:  # `fit` calls it where it is to resume
        ...     options = {"checkpoint": f"{folder}/a.pt", "show_progress": False}
        ...     _ = fit(model, batches, 3, **options)
        ...     _ = fit(model, batches, 4, resume=True, **options)
        Traceback (most recent call last):
        ValueError: a.pt: cannot be resumed from: it is of another training (epochs: 3 there ...
    """
    try:
        state = sealed.read(path, FORMAT, schema_for(parts), parts.device)
        if (state["best_weights"] is None) != (state["history"]["best_epoch"] == 0):
            raise ValueError("best_weights does not fit history.best_epoch")
        with undone_by_an_error(parts):
            parts.optimizer.load_state_dict(state["optimizer"])
            known = parts.scheduler.state_dict()  # anything else would replace its methods
            parts.scheduler.load_state_dict({name: state["scheduler"][name] for name in known})
            randomness.set_random_state(state["random"], *parts.batches, parts.loss_fn)
    except ValueError as error:
        raise ValueError(
            f"{path}: cannot be resumed from: {error}; go on with the training that wrote it, or "
            "name another file to start anew."
        ) from error
    if isinstance(parts.loss_fn, nn.Module):
        parts.loss_fn.load_state_dict(state["loss"])
    parts.model.load_state_dict(state["model"])
    say_what_is_not_exact(state["device"], parts)
    history = state["history"]
    return history | {"shares": history["shares"].cpu()}, state["best_weights"]


@contextmanager
def undone_by_an_error(parts: Parts) -> Iterator[None]:
    """Put back the optimizer and its schedule where one of them does not take its new state."""
    before = copy.deepcopy((parts.optimizer.state_dict(), parts.scheduler.state_dict()))
    try:
        yield
    except Exception as error:  # each optimizer raises others
        parts.optimizer.load_state_dict(before[0])
        parts.scheduler.load_state_dict(before[1])
        if isinstance(error, ValueError):
            raise
        raise ValueError(
            "the state of the optimizer or its schedule cannot be put back "
            f"({type(error).__name__})"
        ) from error


def schema_for(parts: Parts) -> Check:
    """What a checkpoint of this training must hold; its fields are checked in this order."""
    weights = tensors_like(parts.model.state_dict())
    return record(
        format=one_of(FORMAT),
        key=same_training(parts.key()),
        device=text(20),
        model=weights,
        loss=tensors_like(parts.loss_state()),
        optimizer=optimizer_state(parts.optimizer),
        scheduler=like(parts.scheduler.state_dict()),
        history=history_of(parts.epochs, parts.steps_per_epoch),
        best_weights=optional(weights),
        random=randomness.STATE,
    )


def optimizer_state(optimizer: torch.optim.Optimizer) -> Check:
    """The check of an optimizer's state: it has the layout of this one's, and fits its weights."""
    layout = like(optimizer.state_dict())

    def check(value: Any, name: str) -> None:
        layout(value, name)
        _check_fit(optimizer, value, name)

    return check


def _check_fit(optimizer: torch.optim.Optimizer, value: dict[str, Any], name: str) -> None:
    """Does all that is kept fit the parameter that it is kept for?"""
    if isinstance(combined := getattr(optimizer, "optimizers", None), list | tuple):
        for i, (each, state) in enumerate(zip(combined, value["optimizers"], strict=True)):
            _check_fit(each, state, f"{name}.optimizers[{i}]")
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for i, entry in value.get("state", {}).items():
        place = f"{name}.state[{i!r}]"
        must_be(type(i) is int and 0 <= i < len(parameters), i, place, "of a parameter")
        _kept_for(parameters[i].detach())(entry, place)


def _kept_for(parameter: Tensor) -> Check:
    """What an optimizer keeps for a parameter: its steps, and tensors of its shape."""

    def check(entry: Any, name: str) -> None:
        table_of(anything)(entry, name)
        kept = {key: entry[key] for key in OF_EACH_NUMBER & entry.keys() if entry[key] is not None}
        tensors_like(dict.fromkeys(kept, parameter))(kept, name)
        if "step" in entry:
            steps = entry["step"]
            one = isinstance(steps, Tensor) and steps.numel() == 1 and not steps.is_complex()
            number(0)(float(steps) if one else steps, f"{name}.step")

    return check


def same_training(now: dict[str, Any]) -> Check:
    """The check of `Parts.key`. Batches that do not say their size, as a list, fit any."""

    def check(found: Any, name: str) -> None:
        KEY(found, name)
        silent = {IMAGES} if None in (found[IMAGES], now[IMAGES]) else set()
        different = [
            f"{what}: {reprlib.repr(found[what])} there and {now[what]!r} here"
            for what in now
            if found[what] != now[what] and what not in silent
        ]
        if different:
            raise ValueError(f"it is of another training ({', '.join(different)})")

    return check


def validation_record(value: Any, name: str) -> None:
    """The check of the figures of a validation: of many classes they hold no matrix."""
    matrix = {"confusion": list_of(list_of(whole()))}
    has_matrix = isinstance(value, dict) and "confusion" in value
    record(**FIGURES, **(matrix if has_matrix else {}))(value, name)


def history_of(epochs: int, steps_per_epoch: int) -> Check:
    """The check of the fields of a History, after 1 to `epochs` epochs."""
    fields = record(
        train=list_of(record(**FIGURES), 1, epochs),
        validation=list_of(validation_record, 0, epochs),
        shares=tensor,
        best_epoch=whole(0, epochs),
        best_score=number(),
        stopped=text(20),
        warning=text(),
        seconds=number(0),
    )

    def check(value: Any, name: str) -> None:
        fields(value, name)
        done = len(value["train"])
        if (
            value["shares"].ndim != 2
            or len(value["shares"]) != done * steps_per_epoch
            or len(value["validation"]) not in (0, done)
            or value["best_epoch"] > len(value["validation"])
        ):
            raise ValueError(f"the parts of {name} are not of the same {done} epochs")

    return check


def say_what_is_not_exact(device: str, parts: Parts) -> None:
    """Warn, once, where a training cannot go on with the very numbers of one that never stopped."""
    reasons = []
    if any(getattr(loader, "persistent_workers", False) for loader in parts.batches):
        reasons.append(
            "the random generators in persistent workers start anew (persistent_workers=False "
            "would make it exact)"
        )
    if device != parts.device.type:
        reasons.append(f"it began on {device} and goes on on {parts.device.type}")
    if reasons:
        warnings.warn(
            "The resumed training may differ from one that never stopped: "
            f"{', and '.join(reasons)}.",
            stacklevel=4,
        )


__all__ = ["Parts", "load_checkpoint", "save_checkpoint"]
