"""Which tensor of a model's outputs holds the scores, and which the loss."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from imbalkit.doctor.trees import leaves

TARGET_NAMES = (
    "labels", "label", "targets", "target", "y", "label_ids", "classes", "class", "cls",
    "category", "mask", "masks", "tags",
)  # fmt: skip
LOGIT_NAMES = (
    "logits", "scores", "out", "output", "outputs", "preds", "pred", "predictions", "prediction",
    "y_hat", "cls",
)  # fmt: skip
UNKNOWN_OUTPUTS = (
    "return the logits, (N, C), alone, or pass forward=lambda model, batch: "
    "model(batch[0])['logits'], with your own names"
)


def parts_of(outputs: Any) -> list[tuple[tuple, Tensor]]:
    """The tensors in outputs of any structure, with the way there."""
    if not isinstance(outputs, Mapping | list | tuple | Tensor):
        outputs = getattr(outputs, "__dict__", {})
    return [(path, leaf) for path, leaf in leaves(outputs) if isinstance(leaf, Tensor)]


def pick_scores(outputs: Any, targets: Tensor, largest: int = 0) -> Tensor:
    """The tensor of class scores: the outputs, or a part of them.

    By name, or else the narrowest that has a score for each label: features are wider. A loss
    that is among them has no dimension.

    Args:
        largest: the largest label that is known.

    Raises:
        TypeError: no part can be one.
    """
    if isinstance(outputs, Tensor):
        return outputs
    parts = parts_of(outputs)
    for name in LOGIT_NAMES:
        for path, tensor in parts:
            if path and path[-1] == name:
                return tensor
    rows = [t for _, t in parts if t.ndim and len(t) == len(targets) and t.is_floating_point()]
    if not rows:
        raise TypeError(
            f"the model returns a {type(outputs).__name__} with no scores that can be told; "
            f"{UNKNOWN_OUTPUTS}."
        )
    fitting = [t for t in rows if _fits(t, targets, largest)]
    if not fitting:
        return rows[0]
    labels = not targets.is_floating_point()  # they have a score for each class, if there is one
    return min(fitting, key=lambda t: (labels and _width(t, targets) == 1, _width(t, targets)))


def _width(scores: Tensor, targets: Tensor) -> int:
    if scores.ndim > 2 and scores.shape[1:-1] == targets.shape[1:]:
        return scores.shape[-1]
    return scores.shape[1] if scores.ndim > 1 else 1


def _fits(scores: Tensor, targets: Tensor, largest: int) -> bool:
    if targets.is_floating_point():
        return scores.shape == targets.shape or targets.numel() == len(targets)
    if scores.shape == targets.shape and largest > 1:
        return False
    width = _width(scores, targets)
    return width > max(largest, 1) or (width == 1 and largest <= 1)


def inner_loss(outputs: Any) -> Tensor | None:
    """The loss that the model computed itself, if it is among its outputs."""
    if isinstance(outputs, Tensor):
        return outputs if outputs.ndim == 0 else None
    scalars = [(p, t) for p, t in parts_of(outputs) if t.numel() == 1 and t.is_floating_point()]
    named = [t for p, t in scalars if p and p[-1] == "loss"]
    return next(iter([*named, *(t for _, t in scalars if t.ndim == 0)]), None)
