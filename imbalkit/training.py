"""One training loop for the whole course. Read `fit` first, then the functions it calls.

Derived in lesson 01.
"""

import html
import math
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit import metrics
from imbalkit.checkpoint import Parts, load_checkpoint, save_checkpoint
from imbalkit.device import autocast, memory_format, pick_device, to_device
from imbalkit.monitor import CollapseMonitor
from imbalkit.progress import Progress
from imbalkit.tables import html_table, text_table
from imbalkit.texts import printable

MONITORS = ("balanced_accuracy", "macro_f1", "worst_recall", "accuracy", "loss")
# Of more classes a History keeps no confusion matrix and no shares of each batch: C x C numbers an
# epoch, and C a step, in each checkpoint.
MOST_CLASSES_KEPT = 256
STEPS_BETWEEN_CHECKS = 50  # how often the loss is looked at; each look waits for the device


class NonFiniteLossError(FloatingPointError):
    """The loss became NaN or infinite."""


@dataclass(repr=False)
class History:
    """What happened in a training. It prints as a table.

    Attributes:
        train, validation: one dict an epoch with the figures of `metrics.summary` and "loss".
            Those of the validation hold "confusion" too, of up to 256 classes. The training figures
            are those of the batches as they were trained on, so they lag behind.
            ``pandas.DataFrame(history.train)`` makes a data frame of them.
        shares: float, (steps, C): the share of each predicted class in each training batch; of more
            than 256 classes nothing is kept, (steps, 0).
        best_epoch: the epoch (from 1) whose weights the model holds now.
        best_score: the monitored figure of that epoch, signed so that higher is better.
        stopped: "finished", "early" or "interrupted".
        warning: what `imbalkit.monitor.CollapseMonitor` had to say, or "".
        seconds: time spent in the training loop, evaluation included.
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
        kept = f"weights of epoch {self.best_epoch} (*)" if self.validation else "last weights"
        ended = f"{self.stopped} after {len(self.train)} epochs, {self.seconds:.0f} s"
        warning = f". Warning: {printable(self.warning)}" if self.warning else ""
        return f"{ended}; {kept} kept{warning}"


def warmup_cosine(progress: float) -> float:
    """Learning-rate factor: up from 0 over the first 5 %, then half a cosine down to 0.

    Args:
        progress: the share of training done, 0..1.

    Example:
        >>> [round(warmup_cosine(p), 2) for p in (0.0, 0.025, 0.5, 1.0)]
        [0.0, 0.5, 0.5, 0.0]
    """
    return _warmup(progress) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_linear(progress: float) -> float:
    """Learning-rate factor: up from 0 over the first 5 %, then a straight line down to 0."""
    return _warmup(progress) * (1 - progress)


def constant(progress: float) -> float:
    """Learning-rate factor 1 throughout."""
    return 1.0


def _warmup(progress: float) -> float:
    return min(1.0, progress / 0.05)


def sgd(model: nn.Module, lr: float = 0.05, weight_decay: float = 5e-4) -> torch.optim.SGD:
    """Stochastic gradient descent with Nesterov momentum 0.9, the default of `fit`."""
    return torch.optim.SGD(
        model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
    )


def fit(
    model: nn.Module,
    train_batches: Iterable,
    epochs: int,
    *,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Callable[[float], float] = warmup_cosine,
    val_batches: Iterable | None = None,
    monitor: str | Callable = "balanced_accuracy",
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    show_progress: bool = True,
) -> History:
    """Train `model` in place and return its History.

    Ctrl-C (or the notebook's stop button) ends training and keeps the best weights so far.

    Args:
        model: gives logits (N, C), or in training mode a tuple that starts with them.
        train_batches: any iterable with a length that yields ``(images, targets)`` anew on each
            pass: `Batches`, a DataLoader, a list. If its `sampler` has `set_epoch`, it is told the
            epoch.
        epochs: passes over `train_batches`.
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
        checkpoint: a file written after every epoch.
        resume: go on from `checkpoint`, if it is there, where a training was cut off, with the same
            numbers as if it had never stopped. All arguments have to be made as they were then. The
            random generators of loaders, samplers, data sets and the loss are put back too; where
            it cannot be exact, as with persistent workers, a warning says so.
        device: by default the best of the machine, see `device.pick_device`.
        show_progress: show a line with the time left, and the History's table at the end.

    Raises:
        ValueError: the batches do not fit the model, an argument cannot work, or the checkpoint is
            damaged or of another training; the model is then as it was.
        NonFiniteLossError: the loss became NaN or infinite.

    Example:
        >>> x = torch.randn(60, 4)
        >>> batches = list(zip(x.split(20), x.argmax(1).split(20)))
        >>> history = fit(nn.Linear(4, 4), batches, epochs=2, show_progress=False)
        >>> len(history.train), history.shares.shape
        (2, torch.Size([6, 4]))
    """
    check_arguments(train_batches, epochs, val_batches, monitor, patience, checkpoint, resume)
    device = device or pick_device()
    model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    if isinstance(loss_fn, nn.Module):
        loss_fn.to(device)  # with its class weights
    optimizer = optimizer or sgd(model)
    steps_an_epoch = len(train_batches)  # type: ignore[arg-type]  # it has one, as was checked
    steps = epochs * steps_an_epoch
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: schedule((step + 0.5) / steps)
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

    try:
        for epoch in range(len(history.train) + 1, epochs + 1):
            if out_of_patience(history, patience):
                history.stopped = "early"
                break
            tally = Tally()
            model.train()
            tell_epoch(train_batches, epoch - 1)
            for images, targets in train_batches:
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
            history.train.append(tally.summary())
            shares.append(tally.batch_shares())
            if val_batches is not None:
                record, score = validate(model, val_batches, monitor, device)
                history.validation.append(record)
                if best_weights is None or score > history.best_score:
                    history.best_score, history.best_epoch = score, epoch
                    best_weights = {k: v.clone() for k, v in model.state_dict().items()}
            history.shares = torch.cat(shares)
            history.seconds = done_before + time.perf_counter() - started
            if checkpoint:
                save_checkpoint(checkpoint, parts, asdict(history), best_weights)
    except KeyboardInterrupt:
        history.stopped = "interrupted"
    finally:  # also when an error goes on to the caller: the best weights are worth keeping
        if best_weights is not None:
            model.load_state_dict(best_weights)
        progress.finish(history if history.train else None)
    return history


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

    Returns:
        Loss (a scalar), logits (N, C) and targets, detached, on the device.
    """
    images = to_device(images, device)
    with autocast(device):
        outputs = model(images)
    outputs = to_float32(outputs)  # losses are sums of small differences: never in bfloat16
    logits = outputs if isinstance(outputs, Tensor) else outputs[0]
    check_targets(logits, targets)
    targets = targets.to(device, non_blocking=True)
    loss = loss_fn(outputs, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach(), logits.detach(), targets


def to_float32(outputs: Any) -> Any:
    """The floating-point tensors of a model's output, or of each of its outputs, as float32."""
    if isinstance(outputs, Tensor):
        return outputs.float() if outputs.is_floating_point() else outputs
    return tuple(to_float32(output) for output in outputs)


class Tally:
    """Running figures of one epoch, kept on the device: adding a batch never waits for it."""

    def __init__(self) -> None:
        self.steps, self.images = 0, 0
        self.shares: list[Tensor] = []

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count one batch: scalar loss, logits (N, C), targets (N,) or soft (N, C)."""
        n, classes = logits.shape
        if not self.steps:
            self.loss = torch.zeros_like(loss)
            self.first_bad_step = torch.zeros_like(loss, dtype=torch.int64)
            none = torch.zeros(3, classes, dtype=torch.int64, device=logits.device)
            self.hits, self.true, self.predicted = none
            self.one = torch.ones(1, dtype=torch.int64, device=logits.device)
        self.steps += 1
        self.images += n
        self.loss += loss * n
        bad = ~loss.isfinite() & (self.first_bad_step == 0)
        self.first_bad_step.masked_fill_(bad, self.steps)
        predicted = logits.argmax(1)
        true = targets if targets.ndim == 1 else targets.argmax(1)
        one = self.one.expand(n)
        self.hits.index_add_(0, true, (predicted == true).long())
        self.true.index_add_(0, true, one)
        of_batch = torch.zeros_like(self.predicted).index_add_(0, predicted, one)
        self.predicted += of_batch
        self.shares.append((of_batch if classes <= MOST_CLASSES_KEPT else of_batch[:0]) / n)

    def check_finite(self, epoch: int) -> None:
        """Were all losses so far finite? Waits for the device.

        Raises:
            NonFiniteLossError: one was NaN or infinite.
        """
        step = int(self.first_bad_step)
        if step:
            raise NonFiniteLossError(
                f"The loss became NaN or infinite at step {step} of epoch {epoch}: most often the "
                "learning rate is too high (divide it by 10), else an image or a target is not "
                "finite, or the loss takes the logarithm of zero."
            )

    def summary(self) -> dict:
        """The figures of `metrics.summary` and the mean loss per image."""
        counts = torch.stack([self.hits, self.true, self.predicted]).cpu().numpy()
        return {"loss": float(self.loss) / self.images, **metrics.summary_of_counts(*counts)}

    def batch_shares(self) -> Tensor:
        """The share of each predicted class in each batch: float32, (steps, C), on the CPU.

        Of more than 256 classes (steps, 0).
        """
        return torch.stack(self.shares).cpu()


def predict(
    model: nn.Module, batches: Iterable, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The outputs for all batches. The model is put in evaluation mode and back.

    Args:
        model: gives logits (N, C) in evaluation mode.
        batches: yields ``(images, targets)``.
        device: by default the best of the machine.

    Returns:
        Logits float32 (N, C) and labels int64 (N,), on the CPU.
    """
    device = device or pick_device()
    model.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    was_training = model.training
    model.eval()
    logits, labels = [], []
    with torch.inference_mode(), autocast(device):
        for images, targets in batches:
            logits.append(model(to_device(images, device)).float())
            labels.append(targets)
    model.train(was_training)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


def evaluate(model: nn.Module, batches: Iterable, device: torch.device | None = None) -> dict:
    """How well a model does on these batches.

    Args:
        model: gives logits (N, C) in evaluation mode.
        batches: yields ``(images, targets)``.
        device: by default the best of the machine.

    Returns:
        The figures of `metrics.summary`, "confusion" as a list of lists, and "loss", the unweighted
        cross-entropy.
    """
    logits, labels = predict(model, batches, device)
    confusion = metrics.confusion(labels, logits.argmax(1), logits.shape[1])
    loss = F.cross_entropy(logits, labels).item()
    return {"loss": loss, **metrics.summary(confusion), "confusion": confusion.tolist()}


def validate(
    model: nn.Module, batches: Iterable, monitor: str | Callable, device: torch.device
) -> tuple[dict, float]:
    """The record of `evaluate` and its score; of more than 256 classes it has no confusion matrix.

    The work then grows with C and not with C x C, unless the monitor is a function of the matrix.
    """
    logits, labels = predict(model, batches, device)
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
    if callable(monitor):
        score = float(monitor(record["confusion"]))
    else:
        score = -record["loss"] if monitor == "loss" else record[monitor]
    return -math.inf if math.isnan(score) else score


def out_of_patience(history: History, patience: int | None) -> bool:
    """Have `patience` epochs gone by since the best one?"""
    return patience is not None and len(history.train) - history.best_epoch >= patience


def check_arguments(
    train_batches: Iterable,
    epochs: int,
    val_batches: Iterable | None,
    monitor: str | Callable,
    patience: int | None,
    checkpoint: str | Path | None,
    resume: bool,
) -> None:
    """Raise ValueError, before anything is computed, for arguments of `fit` that cannot work."""
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; train for at least 1.")
    if not isinstance(train_batches, Sized):
        raise ValueError(
            "train_batches has no length: a generator is used up after one epoch; pass a "
            "DataLoader, Batches or a list."
        )
    if len(train_batches) == 0:
        raise ValueError("train_batches is empty; check the data set and drop_last.")
    if not callable(monitor) and monitor not in MONITORS:
        raise ValueError(
            f"there is no figure '{monitor}' to monitor; use one of {', '.join(MONITORS)} or a "
            "function of the confusion matrix."
        )
    if patience is not None and val_batches is None:
        raise ValueError("patience needs val_batches: early stopping watches the validation set.")
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to go on from.")


def check_targets(logits: Tensor, targets: Tensor) -> None:
    """Do `targets`, int64 (N,) or soft (N, C), fit `logits` (N, C)?

    Their values are looked at only while they are on the CPU: on a GPU that would make every step
    wait for the device, and `ImageSet` has checked them before they went there.

    Raises:
        ValueError: they do not.
    """
    n, classes = logits.shape
    if targets.ndim == 2 and targets.is_floating_point():
        if targets.shape == logits.shape:
            return
        raise ValueError(
            f"soft targets have shape {tuple(targets.shape)} but the logits {tuple(logits.shape)}; "
            "give one probability per image and class."
        )
    if targets.dtype != torch.int64 or targets.shape != (n,):
        raise ValueError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}; class indices must be "
            f"int64 of shape ({n},): use .long()."
        )
    if targets.device.type == "cpu" and (targets.min() < 0 or targets.max() >= classes):
        raise ValueError(
            f"targets run from {int(targets.min())} to {int(targets.max())} but the model has "
            f"{classes} outputs; number the classes from 0 to {classes - 1}."
        )
