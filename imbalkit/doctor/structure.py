"""Questions about a network as a whole: is it linear, does it list all its weights, does the loss
pull at them?"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from imbalkit.doctor.copies import owners_of
from imbalkit.doctor.measuring import WEIGHTED, computed_loss
from imbalkit.doctor.picking import parts_of
from imbalkit.doctor.reading import Sample
from imbalkit.doctor.setup import Setup, buffers_kept

AS_GOOD_AS_0 = 1e-3  # of the outputs' size: float32 leaves a hundredth of that
ROWS = 8  # images that are passed with others and without
LOOKED_AT = 64  # images, among which twelve different ones are looked for
SHARPER = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
TRIPLES = 4  # three images that differ in few pixels may lie where no unit switches


def is_linear(model: nn.Module, sample: Sample, rows: Tensor, setup: Setup) -> bool:
    """Are several layers together as good as one? Then f(a) - f(b) + f(c) = f(a - b + c).

    Args:
        rows: images, of which twelve that differ are looked at; with equal ones it is always so.
    """
    layers = sum(isinstance(module, WEIGHTED) for module in model.modules())
    if layers < 2 or not sample.inputs.is_floating_point():
        return False
    different = (
        sample.inputs[rows[:LOOKED_AT]].flatten(1).unique(dim=0).view(-1, *sample.inputs.shape[1:])
    )
    triples = different[: 3 * min(TRIPLES, len(different) // 3)]
    if not len(triples) or len(sample.inputs) < len(triples) // 3 * 4:
        return False
    a, b, c = triples.chunk(3)
    x = torch.cat([a, b, c, a - b + c])
    model.eval()
    with torch.no_grad():
        outputs = setup.outputs(model, sample.rows(slice(0, len(x)), x))
        f = setup.scores(outputs, sample.targets[: len(x)]).float()
    if len(f) != len(x) or not f.isfinite().all():
        return False
    size = (f - f.mean(0)).abs().max()
    fa, fb, fc, mixed = f.chunk(4)
    rest = (fa - fb + fc - mixed).abs().max()
    return bool(size > AS_GOOD_AS_0 * f.abs().max() and rest < AS_GOOD_AS_0 * size)


def unlisted_weights(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, batch: Any, setup: Setup
) -> int:
    """Numbers that the outputs depend on, and that neither the model nor the optimizer lists.

    Layers in a plain list are such: `parameters()` does not find them.
    """
    model.eval()
    with torch.enable_grad():
        outputs = setup.outputs(model, batch)
    groups = optimizer.param_groups if optimizer is not None else []
    held = {id(p) for group in groups for p in group["params"]}
    held |= {id(p) for p in model.parameters()}
    return sum(p.numel() for p in parameters_behind(outputs) if id(p) not in held)


def parameters_behind(outputs: Any) -> list[nn.Parameter]:
    """The parameters at the ends of autograd's graph, each once."""
    tensors = [one for _, one in parts_of(outputs)]
    waiting, seen, found = [tensor.grad_fn for tensor in tensors], set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            found.append(variable)
        waiting += [following for following, _ in node.next_functions]
    return found


@dataclass(frozen=True)
class LossOfOutputs:
    """What the loss does beside judging the outputs as they are. See `Record`."""

    penalty: float = 0.0
    sharper: float = 1.0
    saved: float = 0.0


@dataclass(frozen=True)
class RowFacts:
    """Does evaluation give the same outputs twice, and of each image by itself? See `Record`."""

    noise: float = 0.0
    mixing: float = 0.0


def look_at_rows(model: nn.Module, sample: Sample, rows: Tensor, setup: Setup) -> RowFacts:
    """Pass the same images twice in evaluation mode, and half of them without the others."""
    half = rows[: (len(rows) + 1) // 2]
    model.eval()
    with torch.no_grad(), buffers_kept(model):
        try:
            first, second, alone = (
                setup.scores(setup.outputs(model, sample.rows(part)), sample.targets[part]).float()
                for part in (rows, rows, half)
            )
        except ValueError:  # a model for batches of one size
            return RowFacts()
    if first.shape != second.shape or first[: len(half)].shape != alone.shape:
        return RowFacts()
    size = first.std(0).max().clamp_min(AS_GOOD_AS_0 * first.abs().max()).clamp_min(1e-12)
    noise, mixing = (first - second).abs().max() / size, (first[: len(half)] - alone).abs().max()
    return RowFacts(noise.item(), (mixing / size).item())


def look_at_loss(model: nn.Module, sample: Sample, rows: Tensor, setup: Setup) -> LossOfOutputs:
    """Does the loss pull at the weights, and would larger scores that they cannot give be better?

    Both are asked of outputs in evaluation mode that are cut off from the weights. A loss that
    refuses such outputs, probabilities above 1 for example, says nothing here.
    """
    targets = sample.targets[rows].to(setup.device)
    model.eval()
    with torch.no_grad():
        outputs = setup.outputs(model, sample.rows(rows))
    if setup.loss.inside or not isinstance(outputs, Tensor):
        return LossOfOutputs()
    try:
        with torch.enable_grad():
            loss = computed_loss(outputs, outputs, targets, setup)
        penalty = _penalty(loss, model)
        factor, saved = _sharper(outputs, targets, setup)
    except ValueError:
        return LossOfOutputs()
    if saved > 0 and not setup.no_trials and _bounded(model, sample.rows(rows), outputs, setup):
        return LossOfOutputs(penalty, factor, saved)
    return LossOfOutputs(penalty)


def _penalty(loss: Tensor, model: nn.Module) -> float:
    """How strongly the loss itself pulls the weights to 0, as a weight decay; 0 where it does not.

    Its gradient is such a pull where the outputs do not depend on the weights.
    """
    weights = _weights_in(loss, model)
    if not weights:
        return 0.0
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)
    pairs = [(p, g) for p, g in zip(weights, gradients, strict=True) if g is not None]
    size = sum(p.detach().square().sum().item() for p, _ in pairs)
    pull = sum((p.detach() * g).sum().item() for p, g in pairs)
    return max(pull / max(size, 1e-12), 0.0) if math.isfinite(pull) else 0.0


def _sharper(outputs: Tensor, targets: Tensor, setup: Setup) -> tuple[float, float]:
    """The factor of the outputs with the lowest loss, and what it saves of the loss of a guess."""
    with torch.no_grad():
        losses = {
            factor: computed_loss(scores, scores, targets, setup).item()
            for factor in (0.0, 1.0, *SHARPER)
            for scores in (factor * outputs,)
        }
    guess = losses.pop(0.0)
    finite = {factor: loss for factor, loss in losses.items() if math.isfinite(loss)}
    if not finite or not math.isfinite(losses[1.0]) or guess <= 0:
        return 1.0, 0.0
    best = min(finite, key=lambda factor: finite[factor])
    return best, (losses[1.0] - finite[best]) / guess


def _bounded(model: nn.Module, batch: Any, outputs: Tensor, setup: Setup) -> bool:
    """Do the outputs stay the same when the last weights, and all that scales, become larger?

    As cosines do. The weights are put back.
    """
    named = [p for p in model.parameters() if p.is_floating_point()]
    matrices = [p for p in named if p.ndim > 1]
    if not matrices:
        return False
    owner = owners_of(model)[id(matrices[-1])]
    first = next(i for i, p in enumerate(named) if any(p is q for q in owner.parameters()))
    enlarged = [*named[first:], *(p for p in named[:first] if p.numel() == 1)]
    before = [p.detach().clone() for p in enlarged]
    with torch.no_grad():
        for p in enlarged:
            p.mul_(4)
        new = setup.outputs(model.eval(), batch)
        for p, value in zip(enlarged, before, strict=True):
            p.copy_(value)
    return bool((new - outputs).abs().max() < AS_GOOD_AS_0 * outputs.abs().max())


def _weights_in(loss: Tensor, model: nn.Module) -> list[nn.Parameter]:
    """Parameters that the loss depends on by itself, and that are the model's or like them.

    A loss that is a closure over the caller's model knows nothing of its copy.
    """
    sizes: dict[torch.Size, list[nn.Parameter]] = {}
    for p in model.parameters():
        sizes.setdefault(p.shape, []).append(p)
    found = parameters_behind(loss)
    return [p for p in found if any(torch.equal(p, q) for q in sizes.get(p.shape, []))]
