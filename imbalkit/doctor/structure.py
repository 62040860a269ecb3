"""Two questions about a network as a whole: is it linear, and does it list all its weights?"""

from typing import Any

import torch
from torch import Tensor, nn

from imbalkit.doctor.measuring import WEIGHTED
from imbalkit.doctor.reading import Sample
from imbalkit.doctor.setup import Setup
from imbalkit.doctor.trees import leaves

AS_GOOD_AS_0 = 1e-3  # of the outputs' size: float32 leaves a hundredth of that


def is_linear(model: nn.Module, sample: Sample, rows: Tensor, setup: Setup) -> bool:
    """Are several layers together as good as one? Then f(a) - f(b) + f(c) = f(a - b + c).

    Args:
        rows: three images; more are left out.
    """
    layers = sum(isinstance(module, WEIGHTED) for module in model.modules())
    x = sample.inputs[rows[:3]]
    if layers < 2 or len(x) < 3 or not x.is_floating_point():
        return False
    x = torch.cat([x, (x[0] - x[1] + x[2])[None]])
    model.eval()
    with torch.no_grad():
        outputs = setup.outputs(model, sample.rows(slice(0, 4), x))
        f = setup.scores(outputs, sample.targets[:4]).float()
    if len(f) != 4 or not f.isfinite().all():
        return False
    size = (f - f.mean(0)).abs().max()
    rest = (f[0] - f[1] + f[2] - f[3]).abs().max()
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
