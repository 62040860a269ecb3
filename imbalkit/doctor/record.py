"""The measurements of an examination. Everything runs on copies of the model and the optimizer."""

import copy
import math
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from imbalkit.doctor.outputs import (
    SQUASHING,
    LossFacts,
    are_log_probabilities,
    check_outputs,
    class_labels,
    examine_loss,
    first_line,
    is_binary,
    last_operation,
    log_probabilities,
    logits_of,
    sums_to_one,
)
from imbalkit.doctor.reading import Sample
from imbalkit.metrics import effective_classes

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
NORMALISING = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
ALIKE = 1e-6
# A fifth: 28 % right of ten balanced classes, 60 % of two.
LITTLE = 0.2
CHUNK = 256  # images in one forward pass
MIXED = 128  # images in the batch whose gradients and activations are looked at


@dataclass
class Predictions:
    """A model's answers to a sample, in evaluation mode, and what they are worth.

    log_probs: float32 (N, C), NaN where the outputs are.
    labels: int64 (N,), true classes.
    recall: float (C,), NaN for a class without images.
    """

    log_probs: Tensor
    labels: Tensor

    def __post_init__(self):
        classes = self.log_probs.shape[1]
        self.predicted = self.log_probs.argmax(1)
        hits = (self.predicted == self.labels).float()
        self.accuracy = hits.mean().item()
        self.counts = torch.bincount(self.labels, minlength=classes)
        found = torch.bincount(self.labels, weights=hits, minlength=classes)
        self.recall = found / self.counts
        self.share = torch.bincount(self.predicted, minlength=classes) / len(self.labels)
        self.present = self.counts > 0
        self.balanced_accuracy = self.recall[self.present].mean().item()
        self.loss = -self.log_probs.gather(1, self.labels[:, None]).mean().item()
        share = self.counts[self.present] / len(self.labels)
        self.prior_entropy = max(-(share * share.log()).sum().item(), 0.0)
        self.used = effective_classes(self.share.numpy())
        self.finite = bool(self.log_probs.isfinite().all())

    @property
    def several(self) -> bool:
        """Are there images of more than one class?"""
        return int(self.present.sum()) > 1

    @property
    def learned(self) -> float:
        """How much of what could be learned was: 0 for guessing or the prior, 1 for perfect.

        The better of two views: balanced accuracy above chance, and the share of the labels'
        entropy that the predictions explain. Weighted losses spoil the second, rare classes the
        first.
        """
        if not self.several or not self.finite:
            return 0.0
        classes = int(self.present.sum())
        above_chance = (self.balanced_accuracy - 1 / classes) / (1 - 1 / classes)
        return max(above_chance, 1 - self.loss / self.prior_entropy)


@dataclass
class Layer:
    """The share of the units before a layer that give the same number for every image."""

    name: str
    constant: float


@dataclass
class Evidence:
    """All that the checks look at. `gather` fills it; what could not be measured stays None.

    kind, train_kind: what the scores are in evaluation and in training mode: "logits",
        "probabilities" or "log_probabilities".
    last_operation: what made the scores in training mode, such as "Softmax".
    at_bounds: share of the scores in training mode that are the lowest or the highest one.
    at_bounds: share of the scores in training mode that are the lowest or the highest one.
    bad_targets: what is wrong with the targets, by sample.
    usable, eval_usable: bool (N,), training and evaluation rows with finite numbers and an
        existing label.
    first_input: what the first layer with weights gets; normalises: the normalising layer before
        it, or "".
    ran: names of the modules that a forward pass calls.
    loss_value, train_loss: the caller's loss and the plain cross-entropy of one batch, in training
        mode.
    gradients: norm by parameter name, None where there is none.
    left_gradient: norm of the gradients found on the caller's model.
    fresh_gradient: the largest norm of three batches.
    modes: accuracy on the same images in training and in evaluation mode.
    as_drawn: names of parameters whose size is still that of new random weights.
    shrunk: size of the weights, in units of new ones.
    """

    model: nn.Module
    loss_fn: Callable
    optimizer: torch.optim.Optimizer | None
    train: Sample
    eval: Sample | None
    device: torch.device
    kind: str = "logits"
    train_kind: str = "logits"
    last_operation: str = ""
    batch_softmax: bool = False
    at_bounds: float = 0.0
    binary: bool = False
    classes: int = 0
    loss: LossFacts = field(default_factory=LossFacts)
    loss_value: float = math.nan
    train_loss: float = math.nan
    on_train: Predictions | None = None
    on_eval: Predictions | None = None
    output_spread: float = math.nan
    bad_targets: dict[str, str] = field(default_factory=dict)
    usable: Tensor | None = None
    eval_usable: Tensor | None = None
    first_input: Tensor | None = None
    normalises: str = ""
    layers: list[Layer] = field(default_factory=list)
    ran: set[str] = field(default_factory=set)
    gradients: dict[str, float | None] = field(default_factory=dict)
    left_gradient: float | None = None
    fresh_gradient: float = 0.0
    modes: tuple[float, float] | None = None
    as_drawn: set[str] = field(default_factory=set)
    shrunk: float | None = None
    dependence: float | None = None
    eval_dependence: float | None = None
    probes: object = None
    no_probes: str = ""

    def figures(self) -> dict:
        """The numbers that the report draws."""
        judged = self.judged
        if judged is None:
            return {}
        return {
            "train_counts": self.train.class_counts.tolist(),
            "true_share": (judged.counts / judged.counts.sum()).tolist(),
            "predicted_share": judged.share.tolist(),
            "recall": [None if math.isnan(r) else r for r in judged.recall.tolist()],
            "layers": [layer.name for layer in self.layers],
            "constant_units": [layer.constant for layer in self.layers],
            "judged_on": "evaluation" if self.on_eval else "training",
        }

    @property
    def judged(self) -> Predictions:
        """The predictions to judge by: of the evaluation batches where there are some."""
        return self.on_eval or self.on_train

    @property
    def learned(self) -> float:
        """What was learned, on training or on evaluation images, whichever is less."""
        scores = [p.learned for p in (self.on_train, self.on_eval) if p and p.several]
        return min(scores, default=0.0)

    @property
    def failing(self) -> bool:
        """Has the model learned less than a fifth of what there is, or exploded?"""
        return self.learned < LITTLE or self.exploded

    @property
    def exploded(self) -> bool:
        """Is the loss of the training images many times that of guessing?"""
        p = self.on_train
        # In training mode too: wrong BatchNorm averages spoil the first figure alone.
        losses = (p.loss, self.train_loss) if p is not None and p.finite else (0,)
        return min(losses) > 10 * math.log(self.classes)

    @property
    def untrained(self) -> bool:
        """Has the optimizer, which keeps a record, taken no step, and is no gradient left?"""
        if self.optimizer is None or self.left_gradient is not None or has_stepped(self.optimizer):
            return False
        return keeps_state(self.optimizer)

    @property
    def eval_is_worse(self) -> bool:
        """Has it learned something, of which less than half holds in evaluation?"""
        if self.on_eval is None or not self.on_eval.several:
            return False
        train = self.on_train.learned
        return train > 0.2 and self.on_eval.learned < train / 2

    @property
    def misfit(self) -> bool:
        """Does the loss get something else than it wants?"""
        if self.loss.squashes:
            return True
        if self.loss.wants == "logits":
            squashed = self.last_operation in SQUASHING or self.batch_softmax
            return squashed or self.train_kind == "probabilities"
        return self.loss.wants == "log_probabilities" and self.train_kind != "log_probabilities"

    @property
    def renumbered(self) -> float:
        """Accuracy in evaluation if its classes were renumbered in the best way."""
        p = self.on_eval
        confusion = torch.zeros(self.classes, self.classes)
        confusion.index_put_((p.labels, p.predicted), torch.ones(len(p.labels)), accumulate=True)
        rows, columns = linear_sum_assignment(-confusion.numpy())
        return confusion[rows, columns].sum().item() / len(p.labels)


def model_device(model: nn.Module) -> torch.device:
    """Where the parameters are; one device for all of them."""
    devices = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise ValueError(
            f"the model's parameters and buffers lie on {names}; move all of it to one device with "
            "model.to(device)."
        )
    device = devices.pop() if devices else torch.device("cpu")
    if device.type == "meta":
        raise ValueError("the model is on the meta device and holds no numbers; load its weights.")
    return device


def keeps_state(optimizer: torch.optim.Optimizer) -> bool:
    """Does it remember its steps? All do but SGD without momentum."""
    plain = type(optimizer) is torch.optim.SGD
    return not plain or any(group["momentum"] for group in optimizer.param_groups)


def has_stepped(optimizer: torch.optim.Optimizer) -> bool:
    """Is there a record of a step? Adagrad makes its records before the first one."""
    states = [s for s in optimizer.state.values() if isinstance(s, dict)]
    return bool(states) and any(s.get("step", 1) > 0 for s in states)


def copies(model, optimizer, loss_fn):
    """Copies that share nothing with the originals; the optimizer's copy holds the model's copy,
    and that of the loss where it is a module (or the method of one)."""
    if isinstance(getattr(loss_fn, "__self__", loss_fn), nn.Module):
        return duplicate((model, optimizer, loss_fn), model)
    return *duplicate((model, optimizer), model), loss_fn


def duplicate(things, model: nn.Module):
    """A deep copy of `things`, among them `model`, which may keep tensors of its last forward pass:
    they go without their history, which cannot be copied."""
    kept = [t for module in model.modules() for t in vars(module).values()]
    memo = {id(t): t.detach().clone() for t in kept if isinstance(t, Tensor) and not t.is_leaf}
    try:
        return copy.deepcopy(things, memo)
    except Exception as error:
        raise TypeError(
            f"the model cannot be copied ({type(error).__name__}: {error}); detach tensors that it "
            "keeps from its last forward pass, and drop hooks."
        ) from error


@contextmanager
def untouched(model: nn.Module, optimizer):
    """Put gradients and buffers back at the end. The copies do not touch them, but a loss that
    holds the model (a penalty on its weights), or a forward made of a closure, does."""
    groups = optimizer.param_groups if optimizer is not None else []
    parameters = [*model.parameters(), *(p for group in groups for p in group["params"])]
    gradients = [(p, p.grad, None if p.grad is None else p.grad.clone()) for p in parameters]
    buffers = [(b, b.clone()) for b in model.buffers() if not is_lazy(b)]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, gradient, value in gradients:
                parameter.grad = gradient
                if gradient is not None:
                    gradient.copy_(value)
            for buffer, value in buffers:
                buffer.copy_(value)


def forward(model: nn.Module, inputs: Tensor, device: torch.device):
    """The model's outputs; a refusal becomes one sentence that names the shapes."""
    try:
        return model(inputs.to(device))
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise ValueError(
            f"the model refuses {inputs.dtype} inputs of shape {tuple(inputs.shape)} on {device}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


def scores_of(model: nn.Module, sample: Sample, device: torch.device, until) -> Tensor:
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


def usable_rows(inputs: Tensor, targets: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Rows with finite numbers and a label that exists: the rest is reported and left out."""
    ok = (labels >= 0) & (labels < classes)
    for tensor in (inputs, targets):
        if tensor.is_floating_point():
            ok &= tensor.isfinite().flatten(1).all(1) if tensor.ndim > 1 else tensor.isfinite()
    return ok


def mixed_rows(labels: Tensor, usable: Tensor, size: int, per_class: bool) -> Tensor:
    """Indices of `size` usable rows in random order; with `per_class` the rare classes first.

    Mixed, so that a fault in the order of the data does not show up as another one.
    """
    generator = torch.Generator().manual_seed(0)
    rows = usable.nonzero().flatten()
    rows = rows[torch.randperm(len(rows), generator=generator)]
    if per_class:
        turn = torch.zeros(len(rows))  # the how-manyth of its class each row is
        for c in labels[rows].unique():
            mine = labels[rows] == c
            turn[mine] = torch.arange(int(mine.sum()), dtype=turn.dtype)
        rows = rows[turn.argsort(stable=True)]
    return rows[:size]


def look_at_outputs(evidence: Evidence, inputs: Tensor, targets: Tensor) -> None:
    """What the outputs are in training mode, which is what the loss gets."""
    model = evidence.model
    model.train()
    _still(model)
    with torch.enable_grad():
        outputs = forward(model, inputs, evidence.device)
    logits = logits_of(outputs)
    check_outputs(logits, len(inputs))
    evidence.binary = is_binary(logits)
    evidence.classes = 2 if evidence.binary else logits.shape[1]
    evidence.last_operation = last_operation(logits)
    detached = logits.detach()
    if detached.dtype != torch.float64:  # whose losses may hold weights of their own in float64
        detached = detached.float()
    ends = (detached == detached.min()) | (detached == detached.max())
    evidence.at_bounds = ends.float().mean().item()
    evidence.batch_softmax = (
        not evidence.binary
        and len(inputs) > 1
        and (sums_to_one(detached, 0) and not sums_to_one(detached, 1))
    )
    evidence.train_kind = kind_of(detached, evidence.binary, evidence.last_operation)
    evidence.loss = examine_loss(evidence.loss_fn, detached, targets.to(evidence.device))


def kind_of(scores: Tensor, binary: bool, operation: str) -> str:
    """ "logits", "probabilities" or "log_probabilities"."""
    if binary:
        return "probabilities" if operation in ("Sigmoid", "Softmax") else "logits"
    if sums_to_one(scores, 1):
        return "probabilities"
    return "log_probabilities" if are_log_probabilities(scores) else "logits"


def _still(model: nn.Module) -> None:
    """Switch dropout off in a model in training mode: it is noise, not a difference of modes."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()


def compare_modes(evidence: Evidence, inputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy on the same images in training and in evaluation mode, dropout off."""
    accuracies = []
    for training in (True, False):
        trial = duplicate(evidence.model, evidence.model).train(training)
        _still(trial)
        with torch.no_grad():
            logits = logits_of(forward(trial, inputs, evidence.device)).float().cpu()
        predicted = log_probabilities(logits, evidence.kind).argmax(1)
        accuracies.append((predicted == labels).float().mean().item())
    return tuple(accuracies)


def look_at_layers(evidence: Evidence, inputs: Tensor) -> None:
    """What the first layer with weights gets, and for each later one the share of its input units
    that are the same for every image.

    The inputs of a layer are the units of the one before, whether that was a module or a function.
    """
    handles, order = [], []

    def watch(name, module, arguments):
        x = arguments[0] if arguments else None
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2:
            return
        order.append(name)
        if len(order) == 1:
            if isinstance(module, NORMALISING):
                evidence.normalises = f"{type(module).__name__} {name}"
            else:
                evidence.first_input = x.detach().float().cpu()
        elif not isinstance(module, NORMALISING):
            share = _constant_share(x, isinstance(module, nn.Linear))
            evidence.layers.append(Layer(name, share))

    for name, module in evidence.model.named_modules():
        if isinstance(module, (*WEIGHTED, *NORMALISING)):
            handles.append(module.register_forward_pre_hook(partial(watch, name)))
    try:
        evidence.model.eval()
        with torch.no_grad():
            forward(evidence.model, inputs, evidence.device)
    finally:
        for handle in handles:
            handle.remove()


def _constant_share(x: Tensor, last: bool) -> float:
    """Share of the units (channels, or features where `last`) that are off, or saturated at 1 or
    -1, for every image. Units that are constant at another number were cut off from the input.
    """
    units = x.detach().float().movedim(-1 if last else 1, 0).flatten(1)
    constant = units.amax(1) - units.amin(1) <= ALIKE
    size = units[:, 0].abs()
    return (constant & ((size < ALIKE) | ((size - 1).abs() < ALIKE))).float().mean().item()


def look_at_gradients(evidence: Evidence, batches: list[tuple[Tensor, Tensor]]) -> None:
    """Gradient norm of each parameter for one batch, and the largest whole gradient of several."""
    model = evidence.model.train()
    _still(model)
    watched = [
        module.register_forward_pre_hook(lambda *_, name=name: evidence.ran.add(name))
        for name, module in model.named_modules()
    ]
    for inputs, targets in batches:
        model.zero_grad(set_to_none=True)
        with torch.enable_grad():
            outputs = forward(model, inputs, evidence.device)
            try:
                loss = evidence.loss_fn(outputs, targets.to(evidence.device)).mean()
            except Exception as error:
                raise ValueError(
                    f"loss_fn cannot be computed on the model's outputs and the targets: "
                    f"{type(error).__name__}: {first_line(error)}"
                ) from error
            if loss.requires_grad:
                loss.backward()
        if not evidence.gradients:
            evidence.loss_value = loss.item()
            scores = logits_of(outputs).detach().float()
            log_probs = log_probabilities(scores, evidence.train_kind)
            labels = class_labels(targets, evidence.binary).to(evidence.device)
            evidence.train_loss = nn.functional.nll_loss(log_probs, labels).item()
            evidence.gradients = {
                name: None if p.grad is None else p.grad.norm().item()
                for name, p in model.named_parameters()
            }
        evidence.fresh_gradient = max(evidence.fresh_gradient, gradient_norm(model))
    model.zero_grad(set_to_none=True)
    for handle in watched:
        handle.remove()


def gradient_norm(model: nn.Module) -> float:
    """Norm over all parameters of the gradients that are there."""
    norms = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
    return math.sqrt(sum(n * n for n in norms)) if norms else 0.0


def dependence(inputs: Tensor, labels: Tensor) -> float:
    """How many standard deviations the labels depend on the inputs more than shuffled ones do.

    The Hilbert-Schmidt independence criterion (Gretton et al. 2005, "Measuring statistical
    dependence with Hilbert-Schmidt norms") with a Gaussian kernel on the inputs and equality on the
    labels, against 50 permutations. It sees non-linear relations too.
    """
    x = inputs.float()
    if x.ndim == 4 and min(x.shape[2:]) > 16:
        x = torch.nn.functional.adaptive_avg_pool2d(x, 16)
    x = x.reshape(len(x), -1)
    x = (x - x.mean(0)) / x.std(0).clamp_min(1e-6)
    squared = torch.cdist(x, x).square()
    kernel = torch.exp(-squared / squared[squared > 0].median())
    kernel -= kernel.mean(0, keepdim=True)
    kernel -= kernel.mean(1, keepdim=True)
    one_hot = torch.nn.functional.one_hot(labels).float()
    one_hot /= one_hot.sum(0).clamp_min(1).sqrt()
    generator = torch.Generator().manual_seed(0)

    def statistic(order):
        y = one_hot[order]
        return ((kernel @ y) * y).sum().item()

    shuffled = [statistic(torch.randperm(len(x), generator=generator)) for _ in range(50)]
    observed = statistic(torch.arange(len(x)))
    return (observed - np.mean(shuffled)) / max(np.std(shuffled), 1e-12)


def wrong_targets(sample: Sample, classes: int, binary: bool, loss_fn) -> str:
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
