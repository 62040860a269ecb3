"""Two questions about a network as a whole: is it linear, and does it list all its weights?"""

from typing import Any

import torch
from torch import Tensor, nn

from imbalkit.doctor.measuring import WEIGHTED
from imbalkit.doctor.reading import Sample
from imbalkit.doctor.setup import Setup
from imbalkit.doctor.trees import leaves

AS_GOOD_AS_0 = 1e-3  # of the outputs' size: float32 leaves a hundredth of that
LOOKED_AT = 64  # images, among which twelve different ones are looked for
TRIPLES = 4  # three images that differ in few pixels may lie where no unit switches


def is_linear(model: nn.Module, sample: Sample, rows: Tensor, setup: Setup) -> bool:
    """Are several layers together as good as one? Then f(a) - f(b) + f(c) = f(a - b + c).

    Args:
        rows: images, of which twelve that differ are looked at; with equal ones it is always so.
    """
    layers = sum(isinstance(module, WEIGHTED) for module in model.modules())
    if layers < 2 or not sample.inputs.is_floating_point():
        return False
    different = sample.inputs[rows[:LOOKED_AT]].flatten(1).unique(dim=0).view(-1, *sample.inputs.shape[1:])
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
    tensors = [one for _, one in leaves(outputs) if isinstance(one, Tensor)]
    used = {id(p): p for one in tensors for p in _parameters_behind(one)}
    return sum(p.numel() for name, p in used.items() if name not in held)


def _parameters_behind(tensor: Tensor) -> list[nn.Parameter]:
    """The parameters at the ends of autograd's graph."""
    waiting, seen, found = [tensor.grad_fn], set(), []
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
