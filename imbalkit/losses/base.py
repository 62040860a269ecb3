"""What all losses share: the options of torch's own losses, and checks of a loss's settings."""

import math
import operator
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from imbalkit.checks import described, in_order_of_classes, is_number

REDUCTIONS = ("mean", "sum", "none")
LARGEST = 1e18  # times a logit it is still finite in float32
DEFAULTS = {
    "divide_by": "weights",
    "reduction": "mean",
    "ignore_index": -100,
    "label_smoothing": 0.0,
}


class Loss(nn.Module):
    """The options that torch's losses have, and how a loss prints."""

    own: tuple[str, ...] = ()  # settings that are always printed; the others where they differ

    def __init__(self, reduction: str, ignore_index: int, label_smoothing: float) -> None:
        super().__init__()
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"{reduction} is not a valid value for reduction; use one of "
                f"{', '.join(REDUCTIONS)}."
            )
        if not is_number(label_smoothing) or not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
        try:
            operator.index(ignore_index)
        except TypeError:
            raise ValueError(
                f"ignore_index is {described(ignore_index)}; give the whole number that marks "
                "the targets to ignore."
            ) from None
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def smoothed(self, target: Tensor, classes: int) -> Tensor:
        """The target q, of which the part `label_smoothing` is spread evenly over the classes."""
        if self.label_smoothing == 0:
            return target
        return target * (1 - self.label_smoothing) + self.label_smoothing / classes

    def reduced(self, losses: Tensor, weights: Tensor) -> Tensor:
        """The sum of the losses; or their mean, divided by the sum of the weights.

        `weights` may be bool, for what counts. Where they are all 0, the mean is 0 and not NaN;
        smoothed labels have losses there, too, of the other classes.
        """
        if self.reduction == "sum":
            return losses.sum()
        total = weights.sum().to(losses.dtype)
        nothing = total == 0
        return (losses.sum() / total.masked_fill(nothing, 1.0)).masked_fill(nothing, 0.0)

    def extra_repr(self) -> str:
        settings = [name for name in (*self.own, *DEFAULTS) if hasattr(self, name)]
        shown = {name: getattr(self, name) for name in settings}
        parts = [f"{k}={v!r}" for k, v in shown.items() if k in self.own or v != DEFAULTS[k]]
        return ", ".join([*parts, *(f"{k}=Tensor({len(v)})" for k, v in self.named_buffers())])


def in_float32(logits: Tensor) -> Tensor:
    """Logits of half precision in float32; float32 and float64 stay what they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def along_classes(per_class: Tensor, logits: Tensor) -> Tensor:
    """Numbers (C,) so that they multiply, or add to, logits (N, C, d1, ...)."""
    return per_class.view(-1, *[1] * (logits.ndim - 2))


def checked_setting(name: str, value: float, above_zero: bool = False) -> float:
    """A number of a loss, or what is wrong with it."""
    if not is_number(value) or not (
        math.isfinite(value) and (value > 0 if above_zero else value >= 0)
    ):
        least = "above 0" if above_zero else "0 or more"
        raise ValueError(f"{name} is {described(value)}; it must be {least} and finite.")
    if value > LARGEST:
        raise ValueError(
            f"{name} is {value!r}; above {LARGEST:.0e} the loss is infinite in float32."
        )
    return value


def check_tensors(logits: Any, targets: Any, loss: str) -> None:
    """Raise TypeError unless a loss is given tensors, and the logits are floats."""
    for name, value in (("logits", logits), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{loss} takes tensors, and the {name} are a {type(value).__name__}; use "
                "torch.as_tensor, and of a model's tuple the logits alone."
            )
    if not logits.is_floating_point():
        raise TypeError(
            f"{loss} takes logits, which are floats, and these are {logits.dtype}; give the "
            "model's output before argmax."
        )


def as_weight(weight: ArrayLike | Tensor, name: str) -> Tensor:
    """A copy as float32 of what may be a list, an array or a tensor."""
    weight = in_order_of_classes(weight, name)
    try:
        return torch.as_tensor(weight, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises each of them
        raise ValueError(f"{name} is {described(weight)}; give one number per class.") from error


def checked_weight(weight: ArrayLike | Tensor, name: str = "weight") -> Tensor:
    """Class weights as float32 (C,), or what is wrong with them."""
    weight = as_weight(weight, name)
    if weight.ndim != 1:
        raise ValueError(
            f"{name} has shape {tuple(weight.shape)}; give one number per class. A single alpha "
            "for all classes only rescales the loss."
        )
    if weight.device.type != "meta" and not (
        (weight >= 0).all() and 0 < weight.sum() < torch.inf  # also of large ones: it divides
    ):
        raise ValueError(
            f"{name} is {[round(w, 4) for w in weight.tolist()]}; weights must be finite, 0 or "
            "more, and not all 0."
        )
    return weight
