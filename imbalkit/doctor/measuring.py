"""The measurements of an examination. Each works on a copy of the model and returns what it found.

`examination.gather` calls them in turn.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.checks import class_labels, entropy_of_counts, is_binary
from imbalkit.doctor.copies import duplicate, renew
from imbalkit.doctor.outputs import (
    LossFacts,
    are_log_probabilities,
    check_outputs,
    examine_loss,
    first_line,
    last_operation,
    log_probabilities,
    logits_of,
    sums_to_one,
)
from imbalkit.doctor.reading import Sample
from imbalkit.doctor.record import Kind, Layer, Predictions
from imbalkit.metrics import effective_classes

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
NORMALIZING = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
SAME = 1e-6  # two numbers that differ by less are one
CHUNK = 256  # images in one forward pass
LIKE_NEW = 0.03  # relative difference in size: random weights of a thousand numbers differ by 2 %


def forward(model: nn.Module, inputs: Tensor, device: torch.device) -> Any:
    """The model's outputs.

    Raises:
        ValueError: the model refuses the inputs; the sentence names their dtype and shape.
    """
    try:
        return model(inputs.to(device))
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise ValueError(
            f"the model refuses {inputs.dtype} inputs of shape {tuple(inputs.shape)} on {device}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


def switch_dropout_off(model: nn.Module) -> None:
    """In a model in training mode, too: it is noise, not a difference of modes."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()


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
    model: nn.Module, loss_fn: Callable, inputs: Tensor, targets: Tensor, device: torch.device
) -> OutputFacts:
    """What the outputs are in training mode, and what the loss takes them for."""
    model.train()
    switch_dropout_off(model)
    with torch.enable_grad():
        outputs = forward(model, inputs, device)
    logits = logits_of(outputs)
    check_outputs(logits, len(inputs))
    binary, operation = is_binary(logits), last_operation(logits)
    scores = logits.detach()
    if scores.dtype != torch.float64:  # whose losses may hold weights of their own in float64
        scores = scores.float()
    extreme = (scores == scores.min()) | (scores == scores.max())
    over_the_batch = not binary and len(inputs) > 1
    return OutputFacts(
        binary=binary,
        classes=2 if binary else logits.shape[1],
        train_kind=kind_of(scores, binary, operation),
        last_operation=operation,
        batch_softmax=over_the_batch and sums_to_one(scores, 0) and not sums_to_one(scores, 1),
        at_bounds=extreme.float().mean().item(),
        loss=examine_loss(loss_fn, scores, targets.to(device)),
    )


def kind_of(scores: Tensor, binary: bool, operation: str) -> Kind:
    """What scores (N, C) or (N, 1) are, the last operation being known."""
    if binary:
        return "probabilities" if operation in ("Sigmoid", "Softmax") else "logits"
    if sums_to_one(scores, 1):
        return "probabilities"
    return "log_probabilities" if are_log_probabilities(scores) else "logits"


def eval_operation(model: nn.Module, inputs: Tensor, device: torch.device) -> str:
    """The operation that makes the scores in evaluation mode."""
    with torch.enable_grad():
        return last_operation(logits_of(forward(model.eval(), inputs, device)))


def scores_of(model: nn.Module, sample: Sample, device: torch.device, until: float) -> Tensor:
    """The outputs in evaluation mode as float32 on the CPU, for as many images as time allows."""
    model.eval()
    scores = []
    with torch.no_grad():
        for chunk in sample.inputs.split(CHUNK):
            logits = logits_of(forward(model, chunk, device))
            check_outputs(logits, len(chunk))
            scores.append(logits.float().cpu())
            if time.perf_counter() > until:
                break
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


# ---- targets and rows ----


def wrong_targets(sample: Sample, classes: int, loss_fn: Callable) -> str:
    """What is wrong with the values of the targets, or ""."""
    targets = torch.cat([t.flatten() for t in sample.target_batches])
    ignored = getattr(loss_fn, "ignore_index", -100)
    if targets.is_floating_point():
        finite = targets[targets.isfinite()]
        if len(finite) and (finite.min() < 0 or finite.max() > 1):
            return f"from {finite.min():g} to {finite.max():g}; probabilities lie within 0 and 1"
        return ""
    counted = targets[targets != ignored]
    if not len(counted):
        return f"all are {ignored}, which the loss ignores"
    if counted.min() < 0 or counted.max() >= classes:
        return (
            f"from {counted.min()} to {counted.max()}, but the model has {classes} classes: 0 to "
            f"{classes - 1}"
        )
    if len(counted) < 0.5 * len(targets):
        return f"{1 - len(counted) / len(targets):.0%} are {ignored}, which the loss ignores"
    return ""


def usable_rows(sample: Sample, classes: int) -> Tensor:
    """bool (N,), rows with finite numbers and a label that exists: the rest is reported and left
    out."""
    usable = (sample.labels >= 0) & (sample.labels < classes)
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
    model: nn.Module, inputs: Tensor, labels: Tensor, kind: Kind, device: torch.device
) -> tuple[float, float]:
    """Accuracy on the same images in training and in evaluation mode, dropout off."""
    accuracies = []
    for training in (True, False):
        trial = duplicate(model, model).train(training)
        switch_dropout_off(trial)
        with torch.no_grad():
            logits = logits_of(forward(trial, inputs, device)).float().cpu()
        predicted = log_probabilities(logits, kind).argmax(1)
        accuracies.append((predicted == labels).float().mean().item())
    return accuracies[0], accuracies[1]


@dataclass(frozen=True, eq=False)
class LayerFacts:
    """What reaches the layers of a model in evaluation mode. See `Record`."""

    first_input: Tensor | None
    normalizes: str
    layers: tuple[Layer, ...]


def look_at_layers(model: nn.Module, inputs: Tensor, device: torch.device) -> LayerFacts:
    """What the first layer with weights gets, and for each later one the share of its input units
    that are the same for every image.

    The inputs of a layer are the units of the one before, whether that was a module or a function.
    """
    handles, layers = [], []
    first_inputs: list[Tensor] = []
    normalizers: list[str] = []

    def watch(name: str, module: nn.Module, arguments: tuple) -> None:
        x = arguments[0] if arguments else None
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2:
            return
        normalizing = isinstance(module, NORMALIZING)
        if first_inputs or normalizers:
            if not normalizing:
                layers.append(Layer(name, _constant_share(x, isinstance(module, nn.Linear))))
        elif normalizing:
            normalizers.append(f"{type(module).__name__} {name}")
        else:
            first_inputs.append(x.detach().float().cpu())

    for name, module in model.named_modules():
        if isinstance(module, (*WEIGHTED, *NORMALIZING)):
            handles.append(module.register_forward_pre_hook(partial(watch, name)))
    try:
        model.eval()
        with torch.no_grad():
            forward(model, inputs, device)
    finally:
        for handle in handles:
            handle.remove()
    return LayerFacts(next(iter(first_inputs), None), "".join(normalizers), tuple(layers))


def _constant_share(x: Tensor, last: bool) -> float:
    """Share of the units (channels, or features where `last`) that are off, or saturated at 1 or
    -1, for every image. Units that are constant at another number were cut off from the input.
    """
    units = x.detach().float().movedim(-1 if last else 1, 0).flatten(1)
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


def look_at_gradients(
    model: nn.Module,
    loss_fn: Callable,
    batches: list[tuple[Tensor, Tensor]],
    train_kind: Kind,
    device: torch.device,
) -> GradientFacts:
    """Loss and gradient norm of each parameter for the first batch, the largest norm of several.

    Raises:
        ValueError: the loss cannot be computed on the outputs and the targets.
    """
    model.train()
    switch_dropout_off(model)
    ran = set()
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: ran.add(name))
        for name, module in model.named_modules()
    ]
    losses, gradients, norms = (math.nan, math.nan), {}, [0.0]
    for inputs, targets in batches:
        model.zero_grad(set_to_none=True)
        with torch.enable_grad():
            outputs = forward(model, inputs, device)
            try:
                loss = loss_fn(outputs, targets.to(device)).mean()
            except Exception as error:
                raise ValueError(
                    f"loss_fn cannot be computed on the model's outputs and the targets: "
                    f"{type(error).__name__}: {first_line(error)}"
                ) from error
            if loss.requires_grad:
                loss.backward()
        if not gradients:
            losses = loss.item(), _cross_entropy(logits_of(outputs), targets, train_kind)
            gradients = {
                name: None if p.grad is None else p.grad.norm().item()
                for name, p in model.named_parameters()
            }
        norms.append(gradient_norm(model))
    model.zero_grad(set_to_none=True)
    for handle in handles:
        handle.remove()
    return GradientFacts(*losses, gradients, max(norms), frozenset(ran))


def _cross_entropy(logits: Tensor, targets: Tensor, kind: Kind) -> float:
    log_probs = log_probabilities(logits.detach().float(), kind)
    labels = class_labels(targets, is_binary(logits)).to(log_probs.device)
    return F.nll_loss(log_probs, labels).item()


def gradient_norm(model: nn.Module) -> float:
    """Norm over all parameters of the gradients that are there."""
    norms = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
    return math.sqrt(sum(n * n for n in norms)) if norms else 0.0


def compare_with_new_weights(model: nn.Module) -> tuple[frozenset[str], float | None]:
    """How large the weights are beside those of a new model.

    Returns:
        The names of the parameters that are as large as new ones, and the size of all weights in
        units of new ones, None where no layer can draw new ones.
    """
    new = duplicate(model, model)
    torch.manual_seed(0)
    renewed = renew(new)
    as_drawn = set()
    ours = theirs = 0.0
    for (name, p), q in zip(model.named_parameters(), new.parameters(), strict=True):
        if name not in renewed or p.ndim < 2:
            continue
        size, new_size = p.detach().norm().item(), q.detach().norm().item()
        ours, theirs = ours + size**2, theirs + new_size**2
        if p.numel() >= 256 and abs(size / max(new_size, 1e-9) - 1) < LIKE_NEW:
            as_drawn.add(name)
    return frozenset(as_drawn), math.sqrt(ours / theirs) if theirs else None


# ---- images and labels ----


def dependence(inputs: Tensor, labels: Tensor) -> float:
    """How many standard deviations the labels depend on the inputs more than shuffled ones do.

    The Hilbert-Schmidt independence criterion (Gretton et al. 2005, "Measuring statistical
    dependence with Hilbert-Schmidt norms") with a Gaussian kernel on the inputs and equality on the
    labels, against 50 permutations. It sees non-linear relations too.
    """
    x = inputs.float()
    if x.ndim == 4 and min(x.shape[2:]) > 16:
        x = F.adaptive_avg_pool2d(x, 16)
    x = x.reshape(len(x), -1)
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    squared = torch.cdist(x, x).square()
    kernel = torch.exp(-squared / squared[squared > 0].median())
    kernel -= kernel.mean(0, keepdim=True)
    kernel -= kernel.mean(1, keepdim=True)
    one_hot = F.one_hot(labels.unique(return_inverse=True)[1]).float()
    one_hot /= one_hot.sum(0).clamp_min(1).sqrt()
    generator = torch.Generator().manual_seed(0)

    def statistic(order: Tensor) -> float:
        y = one_hot[order]
        return ((kernel @ y) * y).sum().item()

    shuffled = [statistic(torch.randperm(len(x), generator=generator)) for _ in range(50)]
    observed = statistic(torch.arange(len(x)))
    return float((observed - np.mean(shuffled)) / max(np.std(shuffled), 1e-12))
