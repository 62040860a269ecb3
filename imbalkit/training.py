"""One training loop for the whole course. Read `fit` first, then the functions it calls.

Derived in lesson 01.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit import metrics
from imbalkit.checkpoint import Parts, load_checkpoint, save_checkpoint
from imbalkit.checks import check_targets, described, is_number
from imbalkit.device import autocast, checked_device, memory_format, pick_device, to_device
from imbalkit.history import History
from imbalkit.intake import (
    Intake,
    check_loss,
    check_softmax,
    check_values,
    length_of,
    logits_of,
    one_pass,
    scores_of,
)
from imbalkit.monitor import CollapseMonitor
from imbalkit.preflight import MONITORS as MONITORS
from imbalkit.preflight import as_it_was, check_arguments, check_iterable, check_parts
from imbalkit.progress import Progress
from imbalkit.tally import MOST_CLASSES_KEPT, Tally, check_weights
from imbalkit.tally import NonFiniteLossError as NonFiniteLossError

STEPS_BETWEEN_CHECKS = 50  # how often the loss is looked at; each look waits for the device


def warmup_cosine(progress: float) -> float:
    """Learning-rate factor: up from 0 over the first 5 %, then half a cosine down to 0.

    Args:
        progress: the share of training done, 0..1.

    Raises:
        ValueError: it is not finite.

    Example:
        >>> [round(warmup_cosine(p), 2) for p in (0.0, 0.025, 0.5, 1.0)]
        [0.0, 0.5, 0.5, 0.0]
    """
    return _warmup(progress) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_linear(progress: float) -> float:
    """Learning-rate factor: up from 0 over the first 5 %, then a straight line down to 0.

    Args:
        progress: the share of training done, 0..1.

    Raises:
        ValueError: it is not finite.

    Example:
        >>> [round(warmup_linear(p), 3) for p in (0.0, 0.025, 0.5, 1.0)]
        [0.0, 0.487, 0.5, 0.0]
    """
    return _warmup(progress) * (1 - progress)


def constant(progress: float) -> float:
    """Learning-rate factor 1 throughout.

    Args:
        progress: the share of training done, 0..1.

    Example:
        >>> constant(0.5)
        1.0
    """
    return 1.0


def _warmup(progress: float) -> float:
    if not math.isfinite(progress):
        raise ValueError(f"progress is {progress}; it is the share of training done, 0 to 1.")
    return min(1.0, progress / 0.05)


def sgd(model: nn.Module, lr: float = 0.05, weight_decay: float = 5e-4) -> torch.optim.SGD:
    """Stochastic gradient descent with Nesterov momentum 0.9, the default of `fit`.

    Args:
        model: its parameters are trained.
        lr: the learning rate.
        weight_decay: the pull of each weight towards 0.

    Raises:
        ValueError: one of them is negative or not finite.

    Example:
        >>> optimizer = sgd(nn.Linear(2, 2), lr=0.1)
        >>> optimizer.defaults["lr"], optimizer.defaults["nesterov"]
        (0.1, True)
    """
    for name, value in (("lr", lr), ("weight_decay", weight_decay)):
        if not (is_number(value) and math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} is {described(value)}; it must be a number from 0 on.")
    return torch.optim.SGD(
        model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )


def fit(
    model: nn.Module,
    train_batches: Iterable,
    epochs: int,
    *,
    steps_per_epoch: int | None = None,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Callable[[float], float] = warmup_cosine,
    val_batches: Iterable | None = None,
    monitor: str | Callable = "balanced_accuracy",
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    device: torch.device | str | None = None,
    show_progress: bool = True,
) -> History:
    """Train `model` in place and return its History.

    Ctrl-C (or the notebook's stop button) ends training and keeps the best weights so far.

    Args:
        model: gives logits (N, C), or in training mode a tuple that starts with them.
        train_batches: any iterable with a length that yields ``(images, targets)`` anew on each
            pass: `Batches`, a DataLoader, a list. If its `sampler` has `set_epoch`, it is told the
            epoch. Lists and arrays become tensors. Where the model cannot take bytes, or images
            with the channel last, it gets them divided by 255, or with the channel first, and a
            warning says so.
        epochs: passes over `train_batches`.
        steps_per_epoch: how many batches make an epoch, for an iterable without a length, or to
            make epochs shorter. Each begins with a new pass; a generator goes on where it is.
        loss_fn: ``(logits float32 (N, C), targets) -> scalar``; it gets the tuple where there is
            one.
        optimizer: by default `sgd`.
        schedule: maps the share of training done, 0..1, to a factor on the learning rate; it is
            asked before every step.
        val_batches: evaluated after each epoch. The model ends with the weights of the epoch that
            scored best on `monitor`. Without it the model keeps its last weights.
        monitor: a key of the validation record ("balanced_accuracy", "macro_f1", "worst_recall",
            "loss", ...) or a function of the confusion matrix, such as
            ``metrics.recall_of([7, 8, 9])``.
        patience: stop after so many epochs without a better score.
        checkpoint: a file written after every epoch, and tried before the first.
        resume: go on from `checkpoint`, if it is there, where a training was cut off, with the same
            numbers as if it had never stopped. All arguments have to be made as they were then. The
            random generators of loaders, samplers, data sets and the loss are put back too; where
            it cannot be exact, as with persistent workers, a warning says so.
        device: by default the best of the machine, see `device.pick_device`.
        show_progress: show a line with the time left, and the History's table at the end.

    Raises:
        TypeError, ValueError: the first batch does not fit the model or the loss, an argument
            cannot work, or the checkpoint is damaged or of another training; the model is then as
            it was. ValueError also where a later pass gives other batches than it promised.
        NonFiniteLossError: the loss or a weight became NaN or infinite.

    Example:
        >>> x = torch.randn(60, 4)
        >>> batches = list(zip(x.split(20), x.argmax(1).split(20)))
        >>> history = fit(nn.Linear(4, 4), batches, epochs=2, show_progress=False)
        >>> len(history.train), history.shares.shape
        (2, torch.Size([6, 4]))
    """
    steps_an_epoch = check_arguments(
        train_batches, epochs, steps_per_epoch, val_batches, monitor, patience, checkpoint, resume
    )
    check_parts(model, loss_fn, optimizer, schedule)
    device = pick_device() if device is None else checked_device(device)
    model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    if isinstance(loss_fn, nn.Module):
        loss_fn.to(device)  # with its class weights
    undo = as_it_was(model, loss_fn)
    optimizer = optimizer or sgd(model)
    steps = epochs * steps_an_epoch
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: factor_at(schedule, (step + 0.5) / steps)
    )
    batches = (train_batches, val_batches)
    parts = Parts(model, loss_fn, optimizer, scheduler, batches, epochs, steps_an_epoch, device)
    history, best_weights, shares = History(), None, []
    if resume and checkpoint and Path(checkpoint).exists():
        fields, best_weights = load_checkpoint(checkpoint, parts)
        history = History(**fields)
        shares = [history.shares]
    steps_before = len(history.train) * steps_an_epoch
    collapse = CollapseMonitor()
    collapse.resume(steps_before, history.warning)
    done_before, started = history.seconds, time.perf_counter()
    progress = Progress(steps, visible=show_progress)
    progress.start_at(steps_before)

    intake, read_all = Intake(model, device, "train_batches"), steps_per_epoch is None

    try:
        for epoch in range(len(history.train) + 1, epochs + 1):
            if out_of_patience(history, patience):
                history.stopped = "early"
                break
            tally = Tally()
            model.train()
            tell_epoch(train_batches, epoch - 1)
            name = f"train_batches, epoch {epoch}"
            for batch in one_pass(train_batches, steps_an_epoch, name, cut=not read_all):
                images, targets = intake(batch)
                if intake.read == 1:
                    check_values(images)
                with intake.explained(images, targets):
                    loss, logits, targets = train_step(
                        model, loss_fn, optimizer, images, targets, device
                    )
                scheduler.step()
                tally.add(loss, logits, targets)
                history.warning = collapse.update(logits, targets, loss) or history.warning
                if tally.steps % STEPS_BETWEEN_CHECKS == 0:
                    tally.check_finite(epoch)
                progress.step(f"epoch {epoch} of {epochs}")
            tally.check_finite(epoch)
            check_weights(model, epoch)
            history.train.append(tally.summary())
            shares.append(tally.batch_shares())
            history.shares = torch.cat(shares)
            if val_batches is not None:
                record, score = validate(model, val_batches, monitor, device)
                history.validation.append(record)
                if score > history.best_score:
                    history.best_score, history.best_epoch = score, epoch
                    best_weights = {k: v.clone() for k, v in model.state_dict().items()}
                history.warning = no_number(history, score) or history.warning
            history.seconds = done_before + time.perf_counter() - started
            if checkpoint is not None:
                save_checkpoint(checkpoint, parts, asdict(history), best_weights)
    except KeyboardInterrupt:
        history.stopped = "interrupted"
        history.seconds = done_before + time.perf_counter() - started
    except Exception:
        if scheduler.last_epoch == 0:  # it counts steps: not one was taken
            undo()
        raise
    finally:  # also when an error goes on to the caller: the best weights are worth keeping
        if best_weights is not None:
            model.load_state_dict(best_weights)
        progress.finish(history if history.train else None)
    return history


def factor_at(schedule: Callable[[float], float], share: float) -> float:
    """The schedule's factor on the learning rate, or what is wrong with it."""
    factor = schedule(share)
    try:
        if math.isfinite(factor) and (factor >= 0 or share > 1):  # the last one is not used
            return factor
    except TypeError:
        pass
    raise ValueError(
        f"the schedule gives {described(factor)} when {share:.0%} of the training is done; it must "
        "give a finite factor on the learning rate, 0 or more."
    )


def tell_epoch(batches: Iterable, epoch: int) -> None:
    """Tell a sampler that changes with the epochs which one comes, from 0, as torch's own expect.

    Its own count would be wrong in a resumed training, and after somebody else looked at batches.
    """
    set_epoch = getattr(getattr(batches, "sampler", None), "set_epoch", None)
    if set_epoch is not None:
        set_epoch(epoch)


def train_step(
    model: nn.Module,
    loss_fn: Callable,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    targets: Tensor,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of gradient descent.

    Args:
        model: gives logits (N, C), or a tuple that starts with them.
        loss_fn: as in `fit`.
        optimizer: takes the step.
        images: as the model takes them.
        targets: int64 (N,), or probabilities (N, C).
        device: where the model is.

    Returns:
        Loss (a scalar), logits (N, C) and targets, detached, on the device.

    Raises:
        TypeError, ValueError: targets, logits and loss do not fit one another.

    Example:
        >>> model = nn.Linear(4, 2)
        >>> x, y = torch.randn(8, 4), torch.zeros(8, dtype=torch.int64)
        >>> loss, logits, _ = train_step(
        ...     model, F.cross_entropy, sgd(model), x, y, torch.device("cpu")
        ... )
        >>> loss.shape, logits.shape
        (torch.Size([]), torch.Size([8, 2]))
    """
    images = to_device(images, device)
    with autocast(device):
        outputs = model(images)
    outputs = to_float32(outputs)  # losses are sums of small differences: never in bfloat16
    logits = logits_of(outputs)
    check_targets(logits, targets)
    check_softmax(loss_fn, logits)
    targets = targets.to(device, non_blocking=True)
    loss = loss_fn(outputs, targets)
    check_loss(loss)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach(), logits.detach(), targets


def to_float32(outputs: Any) -> Any:
    """The floating-point tensors of a model's output, or of each of its outputs, as float32."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    return tuple(map(to_float32, outputs)) if isinstance(outputs, tuple | list) else outputs


def predict(
    model: nn.Module, batches: Iterable, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """The outputs for all batches. The model is put in evaluation mode and back.

    Args:
        model: gives logits (N, C) in evaluation mode, or a tuple that starts with them.
        batches: yields ``(images, targets)``, as `fit` takes them.
        device: by default the best of the machine.

    Returns:
        Logits float32 (N, C) and labels int64 (N,), on the CPU.

    Raises:
        TypeError, ValueError: there are no batches, or the model cannot take them.

    Example:
        >>> batches = [(torch.randn(3, 4), torch.tensor([0, 1, 1]))]
        >>> logits, labels = predict(nn.Linear(4, 2), batches)
        >>> logits.shape, labels.tolist()
        (torch.Size([3, 2]), [0, 1, 1])
    """
    check_iterable(batches, "batches")
    device = pick_device() if device is None else checked_device(device)
    model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    was_training = model.training
    model.eval()
    intake = Intake(model, device, "the evaluation")
    logits, labels = [], []
    try:
        with torch.inference_mode(), autocast(device):
            for batch in one_pass(batches, length_of(batches), "the evaluation"):
                images, targets = intake(batch)
                with intake.explained(images, targets):
                    logits.append(scores_of(model(to_device(images, device))).float())
                labels.append(targets)
    finally:  # somebody may stop it
        model.train(was_training)
    if not logits:
        raise ValueError("the evaluation has no batches; check the data set, and drop_last.")
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


def evaluate(model: nn.Module, batches: Iterable, device: torch.device | str | None = None) -> dict:
    """How well a model does on these batches.

    Args:
        model: gives logits (N, C) in evaluation mode.
        batches: yields ``(images, targets)``.
        device: by default the best of the machine.

    Returns:
        The figures of `metrics.summary`, "confusion" as a list of lists, and "loss", the unweighted
        cross-entropy. Where that is NaN or infinite, a warning says so.

    Raises:
        TypeError, ValueError: as `predict`, or the labels do not fit the logits.

    Example:
        >>> logits, labels = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
        >>> record = evaluate(nn.Identity(), [(logits, labels)])
        >>> record["accuracy"], record["confusion"]
        (0.5, [[1, 0], [1, 0]])
    """
    logits, labels = predict(model, batches, device)
    check_targets(logits_of(logits), labels)
    confusion = metrics.confusion(labels, logits.argmax(1), logits.shape[1])
    loss = F.cross_entropy(logits, labels).item()
    record = {"loss": loss, **metrics.summary(confusion), "confusion": confusion.tolist()}
    if not math.isfinite(record["loss"]):
        warnings.warn(
            f"the loss of the evaluation is {record['loss']}: the model's answer to an image is "
            "NaN or infinite, and the other figures count it as some class; look for NaN in the "
            "images and in the weights.",
            stacklevel=2,
        )
    return record


def validate(
    model: nn.Module, batches: Iterable, monitor: str | Callable, device: torch.device
) -> tuple[dict, float]:
    """The record of `evaluate` and its score; of more than 256 classes it has no confusion matrix.

    The work then grows with C and not with C x C, unless the monitor is a function of the matrix.
    """
    logits, labels = predict(model, batches, device)
    check_targets(logits_of(logits), labels)
    predicted, classes = logits.argmax(1), logits.shape[1]
    record: dict[str, Any] = {"loss": F.cross_entropy(logits, labels).item()}
    record |= metrics.summary_of_predictions(labels, predicted, classes)
    if classes <= MOST_CLASSES_KEPT:
        record["confusion"] = metrics.confusion(labels, predicted, classes).tolist()
    elif callable(monitor):
        return record, score_of(
            {"confusion": metrics.confusion(labels, predicted, classes)}, monitor
        )
    return record, score_of(record, monitor)


def score_of(record: dict, monitor: str | Callable) -> float:
    """The monitored figure of a validation record, signed so that higher is better.

    NaN is no figure that another could beat, so it counts as the worst.
    """
    if not callable(monitor):
        score = -record["loss"] if monitor == "loss" else record[monitor]
    else:
        figure = monitor(record["confusion"])
        try:
            score = float(figure)
        except (TypeError, ValueError, RuntimeError):  # of Python, numpy and torch
            raise TypeError(
                f"monitor returns {described(figure)}; it must return one number."
            ) from None
    return -math.inf if math.isnan(score) else score


def no_number(history: History, score: float) -> str:
    """What to say of a last validation that no epoch can be chosen by; "" where all is well."""
    loss = history.validation[-1]["loss"]
    if score > -math.inf and math.isfinite(loss):
        return ""
    figure = "monitored figure" if math.isfinite(loss) else "loss"
    chosen = "" if score > -math.inf else ", which therefore cannot be chosen"
    return (
        f"the validation's {figure} is NaN or infinite in epoch {len(history.validation)}{chosen}: "
        "look for NaN in its images"
    )


def out_of_patience(history: History, patience: int | None) -> bool:
    """Have `patience` epochs gone by since the best one?"""
    return patience is not None and len(history.train) - history.best_epoch >= patience


__all__ = [
    "constant",
    "evaluate",
    "fit",
    "predict",
    "sgd",
    "train_step",
    "warmup_cosine",
    "warmup_linear",
]
