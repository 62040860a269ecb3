"""Losses for imbalanced classes, each a module that takes logits and targets.

logits: floats (N, C), before softmax; half precision is computed in float32.
targets: class indices, int64 (N,), or one probability per class, floats (N, C), as mixup makes.
Returns a scalar. A one-hot row gives the same loss as its class index.

Read `WeightedCrossEntropy` first: the others change one method of it.
"""

import torch
from torch import Tensor, nn

from imbalkit.checks import check_no_empty_class

DIVISORS = ("weights", "images")


class WeightedCrossEntropy(nn.Module):
    """Cross-entropy with class weights: the mean of -w_y log p_y. The base of the others.

    weight: one number w_c per class, floats (C,); see `imbalkit.weights`. It moves with the module
        from device to device and is saved in its ``state_dict``.
    divide_by: "weights" divides by the sum of the weights in the batch, as torch does. "images"
        divides by N; the scale of the loss then follows the classes in the batch.

    With class indices and "weights" it equals ``torch.nn.CrossEntropyLoss(weight)``. With
    probabilities it differs: torch then divides by N, this loss still by the weights.
    Derived in lesson 03.
    """

    def __init__(self, weight: Tensor | None = None, divide_by: str = "weights"):
        super().__init__()
        if divide_by not in DIVISORS:
            raise ValueError(f"divide_by is {divide_by!r}; use one of {', '.join(DIVISORS)}.")
        self.divide_by = divide_by
        self.register_buffer("weight", None if weight is None else checked_weight(weight))

    def per_class(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of each image if its class were c: (N, C). `target` is one-hot or soft."""
        return -logits.log_softmax(1)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        target = as_probabilities(targets, logits)
        # A class that the target excludes adds 0, even where its own loss is infinite.
        losses = self.per_class(logits, target).masked_fill(target == 0, 0.0)
        if self.weight is None:
            return (target * losses).sum() / len(logits)
        check_length(self.weight, logits, "weight")
        weights = target * self.weight  # w_y in the column of y, 0 elsewhere
        if self.divide_by == "images":
            return (weights * losses).sum() / len(logits)
        # Where all weights in the batch are 0, the loss is 0 and not NaN.
        return (weights * losses).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)


class FocalLoss(WeightedCrossEntropy):
    """Focal loss: -w_y (1 - p_y)^gamma log p_y. Images that the model gets right count less.

    gamma: the focus, 0 or more; 0 is cross-entropy.
    weight: the paper's alpha, one number per class. A single alpha for all classes would only
        rescale the loss, so there is none. p_y never contains the weight.

    Lin et al. 2017, "Focal loss for dense object detection", equation 5, with softmax for the
    sigmoid. Derived in lesson 04.
    """

    def __init__(
        self, gamma: float = 2.0, weight: Tensor | None = None, divide_by: str = "weights"
    ):
        super().__init__(weight, divide_by)
        if not gamma >= 0:
            raise ValueError(f"gamma is {gamma}; it must be 0 or more.")
        self.gamma = gamma

    def per_class(self, logits: Tensor, target: Tensor) -> Tensor:
        # Only the target's own log p may reach the product: 0 times an infinite one would be NaN.
        log_p = logits.log_softmax(1).masked_fill(target == 0, 0.0)
        # 1 - p is kept above 0, where a power below 1 has no finite slope.
        one_minus_p = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(one_minus_p**self.gamma) * log_p


class LogitAdjustedLoss(WeightedCrossEntropy):
    """Cross-entropy of the logits plus tau log pi_c, where pi_c = n_c / N.

    The model learns the rest, a classifier for equally frequent classes: at test time nothing is
    added. At tau = 1 it is the balanced softmax.

    counts: training images n_c of each class, integers (C,).
    tau: how much of the prior to take out; 0 is cross-entropy.

    Menon et al. 2021, "Long-tail learning via logit adjustment", equation 10; Ren et al. 2020,
    "Balanced meta-softmax for long-tailed visual recognition". Derived in lesson 09.
    """

    def __init__(self, counts, tau: float = 1.0):
        super().__init__()
        counts = torch.from_numpy(check_no_empty_class(counts, "prior")).double()
        self.register_buffer("adjustment", tau * (counts / counts.sum()).log().float())

    def per_class(self, logits: Tensor, target: Tensor) -> Tensor:
        check_length(self.adjustment, logits, "counts")
        return -(logits + self.adjustment).log_softmax(1)


class LDAMLoss(WeightedCrossEntropy):
    """Label-distribution-aware margin: the true class has to win by Delta_y, wider when rarer.

    Delta_c is in proportion to n_c^(-1/4), and `max_margin` for the rarest class. The logits are
    meant to be cosines, from -1 to 1 (`imbalkit.models.CosineClassifier`); `scale` is the paper's
    s. Takes class indices only: a margin belongs to one class. For mixed images add the losses of
    the two classes.

    counts: training images n_c of each class, integers (C,).

    Cao et al. 2019, "Learning imbalanced datasets with label-distribution-aware margin loss",
    equations 12 and 13. Derived in lesson 09.
    """

    def __init__(
        self, counts, max_margin: float = 0.5, scale: float = 30.0, weight: Tensor | None = None
    ):
        super().__init__(weight)
        counts = torch.from_numpy(check_no_empty_class(counts, "margin")).double()
        self.register_buffer("margin", (max_margin * (counts.min() / counts) ** 0.25).float())
        self.scale = scale

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        if targets.ndim != 1:
            raise ValueError(
                "LDAMLoss takes class indices (N,), not probabilities: add the losses of the two "
                "classes of a mixed image instead."
            )
        return super().forward(logits, targets)

    def per_class(self, logits: Tensor, target: Tensor) -> Tensor:
        check_length(self.margin, logits, "counts")
        return -(self.scale * (logits - target * self.margin)).log_softmax(1)


def as_probabilities(targets: Tensor, logits: Tensor) -> Tensor:
    """Targets as one probability per class (N, C), in the dtype of `logits`."""
    if targets.ndim == 2:
        if targets.shape != logits.shape:
            raise ValueError(
                f"soft targets have shape {tuple(targets.shape)} but the logits "
                f"{tuple(logits.shape)}; give one probability per image and class."
            )
        return targets.to(logits.dtype)
    if targets.shape != logits.shape[:1] or targets.dtype != torch.int64:
        raise ValueError(
            f"targets are {targets.dtype} of shape {tuple(targets.shape)}; class indices must be "
            f"int64 of shape ({len(logits)},): use .long()."
        )
    return torch.zeros_like(logits).scatter(1, targets[:, None], 1.0)


def checked_weight(weight) -> Tensor:
    """Class weights as float32 (C,), or what is wrong with them."""
    weight = torch.as_tensor(weight, dtype=torch.float32).detach().clone()
    if weight.ndim != 1:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; give one number per class. A single alpha "
            "for all classes only rescales the loss."
        )
    if weight.device.type != "meta" and not (
        weight.isfinite().all() and (weight >= 0).all() and weight.sum() > 0
    ):
        raise ValueError(
            f"weight is {[round(w, 4) for w in weight.tolist()]}; weights must be finite, 0 or "
            "more, and not all 0."
        )
    return weight


def check_length(per_class: Tensor, logits: Tensor, name: str) -> None:
    """Raise ValueError unless there is one number per logit."""
    if len(per_class) != logits.shape[1]:
        raise ValueError(
            f"{name} has {len(per_class)} entries but the model {logits.shape[1]} outputs; give "
            "one per class."
        )


__all__ = [
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "WeightedCrossEntropy",
]
