"""The measurements of an examination. Each works on a copy of the model and returns what it found.

`examination.gather` calls them in turn.
"""

import math
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from imbalkit.checks import entropy_of_counts
from imbalkit.doctor.losses import broadcasts
from imbalkit.doctor.outputs import (
    LossFacts,
    are_log_probabilities,
    check_outputs,
    examine_loss,
    first_line,
    last_operation,
    sums_to_one,
)
from imbalkit.doctor.picking import inner_loss
from imbalkit.doctor.reading import Sample
from imbalkit.doctor.record import Kind, Layer, Predictions
from imbalkit.doctor.setup import STEP, Setup, buffers_kept, switch_dropout_off
from imbalkit.doctor.tasks import Task, find_task
from imbalkit.metrics import effective_classes

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
NORMALIZING = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
SAME = 1e-6  # two numbers that differ by less are one
CHUNK = 256  # images in one forward pass
FEWEST = 32  # images whose predictions say something


# ---- outputs ----


@dataclass(frozen=True)
class OutputFacts:
    """What the outputs are in training mode, which is what the loss gets. See `Record`."""

    binary: bool
    classes: int
    train_kind: Kind
    last_operation: str
    batch_softmax: bool
    at_bounds: float
    loss: LossFacts


def look_at_outputs(
    model: nn.Module, sample: Sample, images: int, setup: Setup, outputs: Any = None
) -> OutputFacts:
    """What the outputs are in training mode, and what the loss takes them for.

    What is classified is known from here on.

    Args:
        outputs: those of so many images, where they are known already.
    """
    model.train()
    switch_dropout_off(model)
    targets = sample.targets[:images]
    if outputs is None:
        with torch.enable_grad():
            outputs = setup.outputs(model, sample.rows(slice(0, images)))
    scores = setup.scores(outputs, targets)
    ignored = getattr(setup.loss.loss_fn, "ignore_index", -100)
    task = setup.task = find_task(scores, sample.targets, len(targets), ignored)
    operation, places = last_operation(scores), task.places(targets)
    loss = _loss_facts(outputs, scores, targets.to(setup.device), setup)
    rows = task.rows(scores.detach(), places)
    if rows.dtype != torch.float64:  # whose losses may hold weights of their own in float64
        rows = rows.float()
    extreme = (rows == rows.min()) | (rows == rows.max())
    over_the_batch = not (task.binary or task.several) and len(targets) > 1
    return OutputFacts(
        binary=task.binary,
        classes=task.classes,
        train_kind=kind_of(rows, task, operation, loss),
        last_operation=operation,
        batch_softmax=over_the_batch and sums_to_one(rows, 0) and not sums_to_one(rows, 1),
        at_bounds=extreme.float().mean().item(),
        loss=loss,
    )


def _loss_facts(outputs: Any, scores: Tensor, targets: Tensor, setup: Setup) -> LossFacts:
    """How the loss is called, found on targets that exist, and what it does."""
    task, loss = setup.task, setup.loss
    existing = existing_rows(targets, task)
    if loss.inside and inner_loss(outputs) is not None:
        return LossFacts(problem="the model computes it itself")
    loss.inside = False
    with torch.no_grad():
        if existing.all():
            try:
                loss(outputs, scores, targets, task)
            except Exception:  # it is said when the loss is needed
                pass
        setup.broadcasts = broadcasts(loss, outputs, targets)
    rows = task.rows(scores.detach(), task.places(targets))
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return examine_loss(loss.loss_fn, rows, loss.targets(targets, task))


def existing_rows(targets: Tensor, task: Task) -> Tensor:
    """bool (N,), rows whose every label exists or is ignored."""
    if targets.is_floating_point() or task.several:
        return torch.ones(len(targets), dtype=torch.bool)
    exists = (targets >= 0) & (targets < task.classes)
    for label in task.ignored:
        exists |= targets == label
    return exists.flatten(1).all(1) if targets.ndim > 1 else exists


def kind_of(scores: Tensor, task: Task, operation: str, loss: LossFacts) -> Kind:
    """What scores (N, C) or (N, 1) are, the last operation and the loss being known."""
    if task.binary or task.several:
        meant = operation in ("Sigmoid", "Softmax") or loss.wants == "probabilities"
        return "probabilities" if meant else "logits"
    if sums_to_one(scores, 1):
        return "probabilities"
    return "log_probabilities" if are_log_probabilities(scores) else "logits"


def eval_operation(model: nn.Module, sample: Sample, setup: Setup) -> str:
    """The operation that makes the scores in evaluation mode."""
    with torch.enable_grad():
        outputs = setup.outputs(model.eval(), sample.rows(slice(0, 2)))
        return last_operation(setup.scores(outputs, sample.targets[:2]))


def scores_of(model: nn.Module, sample: Sample, setup: Setup, share: float) -> Tensor | None:
    """The outputs in evaluation mode as float32 on the CPU, for as many images as time allows.

    Of pixels and tokens those that the task looks at; None where there is time for a few only.
    """
    model.eval()
    until = setup.pace.clock.after(share)
    places = setup.task.places(sample.targets)
    scores, done = [], 0
    with torch.no_grad():
        while done < len(sample.targets):
            size = setup.size(CHUNK, share / 2)
            late = time.perf_counter() + setup.pace.seconds(size) > until
            if not size or (scores and late):
                break
            part = slice(done, min(done + size, len(sample.targets)))
            targets = sample.targets[part]
            outputs = setup.outputs(model, sample.rows(part), len(targets))
            found = setup.scores(outputs, targets)
            if not setup.task.dense:
                check_outputs(found, len(targets))
            scores.append(setup.task.rows(found.float(), places).cpu())
            done += len(targets)
    if done < min(FEWEST, len(sample.targets)):
        return None
    return torch.cat(scores)


def predictions(log_probs: Tensor, labels: Tensor) -> Predictions:
    """What log-probabilities (N, C) are worth beside the true labels (N,)."""
    classes = log_probs.shape[1]
    predicted = log_probs.argmax(1)
    hits = (predicted == labels).float()
    counts = torch.bincount(labels, minlength=classes)
    present = counts > 0
    recall = torch.bincount(labels, weights=hits, minlength=classes) / counts
    share = torch.bincount(predicted, minlength=classes) / len(labels)
    return Predictions(
        labels=labels,
        predicted=predicted,
        counts=counts,
        present=present,
        share=share,
        recall=recall,
        accuracy=hits.mean().item(),
        balanced_accuracy=recall[present].mean().item(),
        loss=-log_probs.gather(1, labels[:, None]).mean().item(),
        prior_entropy=entropy_of_counts(counts),
        used=float(effective_classes(share.numpy())),
        finite=bool(log_probs.isfinite().all()),
    )


def predictions_of_labels(log_probs: Tensor, rows: Tensor) -> Predictions:
    """What log-probabilities (N * C, 2) are worth where each of C labels is a question by itself.

    Args:
        rows: (N, C), 0 and 1.
    """
    wanted = rows > 0.5
    said = log_probs.argmax(1).view(wanted.shape).bool()
    hits = said == wanted
    counts, absent = wanted.sum(0), (~wanted).sum(0)
    recall = (said & wanted).sum(0) / counts
    rejected = (~said & ~wanted).sum(0) / absent
    share = counts / len(rows)
    prior = torch.special.entr(share) + torch.special.entr(1 - share)
    loss = -log_probs.gather(1, wanted.flatten()[:, None].long()).mean().item()
    both = (counts > 0) & (absent > 0)
    return Predictions(
        labels=wanted.flatten().long(),
        predicted=said.flatten().long(),
        counts=counts,
        present=counts > 0,
        share=said.sum(0) / max(int(said.sum()), 1),
        recall=recall,
        accuracy=hits.float().mean().item(),
        balanced_accuracy=((recall + rejected)[both] / 2).mean().item() if both.any() else 0.5,
        loss=loss,
        prior_entropy=prior.mean().item(),
        used=float(effective_classes((said.sum(0) / max(int(said.sum()), 1)).numpy()))
        if said.any()
        else 0.0,
        finite=bool(log_probs.isfinite().all()),
        chance=0.5,
    )


# ---- targets and rows ----


def wrong_targets(sample: Sample, task: Task) -> str:
    """What is wrong with the values of the targets, or ""."""
    targets = torch.cat([t.flatten() for t in sample.target_batches])
    if targets.is_floating_point():
        finite = targets[targets.isfinite()]
        if len(finite) and (finite.min() < 0 or finite.max() > 1):
            return f"from {finite.min():g} to {finite.max():g}; probabilities lie within 0 and 1"
        return ""
    ignored = " or ".join(map(str, sorted(task.ignored, reverse=True)))
    left_out = torch.zeros_like(targets, dtype=torch.bool)
    for label in task.ignored:
        left_out |= targets == label
    counted = targets[~left_out]
    if not len(counted):
        return f"all are {ignored}, which the loss ignores"
    if counted.min() < 0 or counted.max() >= task.classes:
        return (
            f"from {counted.min()} to {counted.max()}, but the model has {task.classes} classes: "
            f"0 to {task.classes - 1}"
        )
    if len(counted) < 0.5 * len(targets) and not task.dense:
        return f"{1 - len(counted) / len(targets):.0%} are {ignored}, which the loss ignores"
    return ""


def usable_rows(sample: Sample, task: Task) -> Tensor:
    """bool (N,), rows with finite numbers and a label that exists: the rest is reported and left
    out."""
    usable = (sample.labels >= 0) & (sample.labels < task.classes + task.several)
    if task.dense:
        usable &= existing_rows(sample.targets, task)
    for tensor in (sample.inputs, sample.targets):
        if tensor.is_floating_point():
            usable &= tensor.isfinite().flatten(1).all(1) if tensor.ndim > 1 else tensor.isfinite()
    return usable


def mixed_rows(labels: Tensor, usable: Tensor, size: int, per_class: bool) -> Tensor:
    """Indices of `size` usable rows in random order; with `per_class` the rare classes first.

    Mixed, so that a fault in the order of the data does not show up as another one.
    """
    generator = torch.Generator().manual_seed(0)
    rows = usable.nonzero().flatten()
    rows = rows[torch.randperm(len(rows), generator=generator)]
    if per_class:
        place = torch.zeros(len(rows))  # 0 for the first row of its class, 1 for the second, ...
        for c in labels[rows].unique():
            mine = labels[rows] == c
            place[mine] = torch.arange(int(mine.sum()), dtype=place.dtype)
        rows = rows[place.argsort(stable=True)]
    return rows[:size]


# ---- inside the model ----


def compare_modes(
    model: nn.Module, sample: Sample, rows: Tensor, kind: Kind, setup: Setup
) -> tuple[float, float]:
    """Accuracy on the same images in training and in evaluation mode, dropout off."""
    accuracies = []
    targets = sample.targets[rows]
    for training in (True, False):
        model.train(training)
        switch_dropout_off(model)
        with buffers_kept(model), torch.no_grad():
            scores = setup.scores(setup.outputs(model, sample.rows(rows)), targets).float().cpu()
        accuracies.append(setup.task.accuracy(scores, targets, kind))
    return accuracies[0], accuracies[1]


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """What reaches the layers of a model in evaluation mode. See `Record`."""

    first_input: Tensor | None
    normalizes: str
    layers: tuple[Layer, ...]


def look_at_layers(model: nn.Module, batch: Any, setup: Setup) -> LayerFacts:
    """What the first layer with weights gets, and for each later one the share of its input units
    that are the same for every image.

    The inputs of a layer are the units of the one before, whether that was a module or a function.
    """
    handles, layers = [], []
    first_inputs: list[Tensor] = []
    normalizers: list[str] = []
    both_signs = [0.0]  # share of the units of the last output that were seen below and above 0

    def watch(name: str, module: nn.Module, arguments: tuple) -> None:
        x = arguments[0] if arguments else None
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2:
            return
        normalizing = isinstance(module, NORMALIZING)
        if first_inputs or normalizers:
            if not normalizing:
                constant = _constant_share(x, isinstance(module, nn.Linear))
                layers.append(Layer(name, constant, both_signs[-1] > 0.5))
        elif normalizing:
            normalizers.append(f"{type(module).__name__} {name}")
        else:
            first_inputs.append(x.detach().float().cpu())

    def note_signs(module: nn.Module, _arguments: tuple, out: Any) -> None:
        if isinstance(out, Tensor) and out.is_floating_point() and out.ndim > 1:
            units = _units(out, isinstance(module, nn.Linear))
            both_signs.append(((units.amin(1) < 0) & (units.amax(1) > 0)).float().mean().item())

    for name, module in model.named_modules():
        if isinstance(module, (*WEIGHTED, *NORMALIZING)):
            handles.append(module.register_forward_pre_hook(partial(watch, name)))
        if isinstance(module, (*WEIGHTED, *NORMALIZING, nn.modules.instancenorm._InstanceNorm)):
            handles.append(module.register_forward_hook(note_signs))
    try:
        model.eval()
        with torch.no_grad():
            setup.outputs(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return LayerFacts(next(iter(first_inputs), None), "".join(normalizers), tuple(layers))


def _units(x: Tensor, last: bool) -> Tensor:
    """A row of numbers for each channel, or each feature where `last`."""
    return x.detach().float().movedim(-1 if last else 1, 0).flatten(1)


def _constant_share(x: Tensor, last: bool) -> float:
    """Share of the units (channels, or features where `last`) that are off, or saturated at 1 or
    -1, for every image. Units that are constant at another number were cut off from the input.
    """
    units = _units(x, last)
    constant = units.amax(1) - units.amin(1) <= SAME
    size = units[:, 0].abs()
    return (constant & ((size < SAME) | ((size - 1).abs() < SAME))).float().mean().item()


@dataclass(frozen=True)
class GradientFacts:
    """Losses and gradients of fresh batches in training mode. See `Record`."""

    loss_value: float
    train_loss: float
    gradients: dict[str, float | None]
    fresh_gradient: float
    ran: frozenset[str]
    alike: frozenset[str]


def look_at_gradients(
    model: nn.Module, sample: Sample, parts: list[Tensor], train_kind: Kind, setup: Setup
) -> GradientFacts:
    """Loss and gradient norm of each parameter for the first rows, the largest norm of several.

    Raises:
        ValueError: the loss cannot be computed on the outputs and the targets.
    """
    model.train()
    switch_dropout_off(model)
    ran, alike = set(), frozenset()
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.add(name))
        for name, module in model.named_modules()
    ]
    losses, gradients, norms = (math.nan, math.nan), {}, [0.0]
    for rows in parts:
        if gradients and setup.pace.clock.left() < STEP * setup.pace.seconds(len(rows)):
            break
        model.zero_grad(set_to_none=True)
        targets = sample.targets[rows].to(setup.device)
        with torch.enable_grad():
            outputs = setup.outputs(model, sample.rows(rows))
            scores = setup.scores(outputs, targets)
            loss = computed_loss(outputs, scores, targets, setup)
            if loss.requires_grad:
                loss.backward()
        if not gradients:
            alike = frozenset(n for n, p in model.named_parameters() if _units_are_alike(p))
            plain = setup.task.plain_loss(scores.detach().float(), targets, train_kind)
            losses = loss.item(), plain.item()
            gradients = {
                name: None if p.grad is None else p.grad.norm().item()
                for name, p in model.named_parameters()
            }
        norms.append(gradient_norm(model))
    model.zero_grad(set_to_none=True)
    for handle in handles:
        handle.remove()
    return GradientFacts(*losses, gradients, max(norms), frozenset(ran), alike)


def same_rows(weight: Tensor) -> bool:
    """Are all rows the same, but for rounding? Most are told apart by the first two."""
    rows = weight.detach().flatten(1)
    first = rows[:1]
    if not torch.allclose(rows[1:2], first, rtol=1e-3):
        return False
    return torch.allclose(rows, first.expand_as(rows), rtol=1e-3)


def _units_are_alike(p: Tensor) -> bool:
    """Are the units of a weight the same, and do they stay so, since their gradients are?"""
    several = p.ndim > 1 and len(p) > 2 and p.grad is not None
    return several and bool(p.grad.any()) and same_rows(p) and same_rows(p.grad)


def computed_loss(outputs: Any, scores: Tensor, targets: Tensor, setup: Setup) -> Tensor:
    """The caller's loss.

    Raises:
        ValueError: it cannot be computed on the outputs and the targets.
    """
    try:
        return setup.loss(outputs, scores, targets, setup.task)
    except Exception as error:
        raise ValueError(
            f"loss_fn cannot be computed on the model's outputs and the targets: "
            f"{type(error).__name__}: {first_line(error)}{_about_arguments(error)}"
        ) from error


def _about_arguments(error: Exception) -> str:
    if isinstance(error, TypeError) and "argument" in str(error):
        return "; pass loss_fn=lambda outputs, targets: your_loss(outputs, targets, ...)"
    return ""


def gradient_norm(model: nn.Module) -> float:
    """Norm over all parameters of the gradients that are there."""
    norms = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
    return math.sqrt(sum(n * n for n in norms)) if norms else 0.0
