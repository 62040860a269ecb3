"""Are the weights as they were drawn, or trained?"""

import math

import torch
from torch import Tensor, nn

from imbalkit.doctor.copies import sizes_of_new_weights

LIKE_NEW = 0.03  # relative difference in size: random weights of a thousand numbers differ by 2 %
FEWEST_NUMBERS = 256  # in a weight of which that can be told
BY_CHANCE = 1.1  # times the largest singular value to be expected
NO_STEP = 1e-5  # a bias below it never moved; some are drawn a little beside 0


def compare_with_new_weights(model: nn.Module) -> tuple[frozenset[str], float | None]:
    """How large the weights are beside those of a new model, one layer after the other.

    Returns:
        The names of the parameters that are as large as new ones or that look random behind a bias
        that never moved, and the size of all weights in
        units of new ones, None where no layer can draw new ones.
    """
    torch.manual_seed(0)
    new_sizes = sizes_of_new_weights(model)
    named = dict(model.named_parameters())
    as_drawn = set()
    ours = theirs = 0.0
    for name, p in named.items():
        bias = named.get(f"{name.removesuffix('weight')}bias") if name.endswith("weight") else None
        # Many models draw weights of another size than the layers do by themselves.
        still = bias is None or bool(bias.detach().abs().max() < NO_STEP)
        if still and p.ndim > 1 and looks_random(p.detach()):
            as_drawn.add(name)
        if name not in new_sizes or p.ndim < 2:
            continue
        size, new_size = p.detach().norm().item(), new_sizes[name]
        ours, theirs = ours + size**2, theirs + new_size**2
        if p.numel() >= FEWEST_NUMBERS and abs(size / max(new_size, 1e-9) - 1) < LIKE_NEW:
            as_drawn.add(name)
    return frozenset(as_drawn), math.sqrt(ours / theirs) if theirs else None


def looks_random(weight: Tensor) -> bool:
    """Has the matrix (out, in) no direction that is larger than chance makes it?

    The largest singular value of independent numbers of deviation s is close to
    s (sqrt(out) + sqrt(in)) (Marchenko and Pastur 1967); training makes some directions larger.
    """
    matrix = weight.flatten(1).float()
    deviation = matrix.square().mean().sqrt()
    if matrix.numel() < FEWEST_NUMBERS or min(matrix.shape) < 2 or not deviation > 0:
        return False
    vector = torch.ones(matrix.shape[1], device=matrix.device)
    for _ in range(20):  # the power method
        vector = matrix.T @ (matrix @ vector)
        vector = vector / vector.norm().clamp_min(1e-30)
    largest = (matrix @ vector).norm()
    edge = deviation * (matrix.shape[0] ** 0.5 + matrix.shape[1] ** 0.5)
    return bool(largest < BY_CHANCE * edge)
