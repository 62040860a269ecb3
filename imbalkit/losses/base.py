"""What all losses share: the options of torch's own losses, and checks of a loss's settings."""

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

REDUCTIONS = ("mean", "sum", "none")
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
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
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

        `weights` may be bool, for what counts. Where they are all 0, the mean is 0 and not NaN.
        """
        if self.reduction == "sum":
            return losses.sum()
        total = weights.sum().to(losses.dtype)
        return losses.sum() / total.clamp_min(torch.finfo(total.dtype).tiny)

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
    if not (math.isfinite(value) and (value > 0 if above_zero else value >= 0)):
        least = "above 0" if above_zero else "0 or more"
        raise ValueError(f"{name} is {value}; it must be {least} and finite.")
    return value


def checked_weight(weight: ArrayLike | Tensor, name: str = "weight") -> Tensor:
    """Class weights as float32 (C,), or what is wrong with them."""
    weight = torch.as_tensor(weight, dtype=torch.float32).detach().clone()
    if weight.ndim != 1:
        raise ValueError(
            f"{name} has shape {tuple(weight.shape)}; give one number per class. A single alpha "
            "for all classes only rescales the loss."
        )
    if weight.device.type != "meta" and not (
        weight.isfinite().all() and (weight >= 0).all() and weight.sum() > 0
    ):
        raise ValueError(
            f"{name} is {[round(w, 4) for w in weight.tolist()]}; weights must be finite, 0 or "
            "more, and not all 0."
        )
    return weight
