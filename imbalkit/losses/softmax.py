"""Losses for one class an image: `WeightedCrossEntropy`, and four that change one method of it."""

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import check_no_empty_class
from imbalkit.losses.base import (
    Loss,
    along_classes,
    check_tensors,
    checked_setting,
    checked_weight,
    in_float32,
)

DIVISORS = ("weights", "images")


class WeightedCrossEntropy(Loss):
    """Cross-entropy with class weights: the mean of -w_y log p_y. The base of the others.

    It equals ``torch.nn.CrossEntropyLoss`` with the same options, but for two things. With
    probabilities as targets torch divides by N, this loss still by the weights, so that a one-hot
    row gives the same loss as its class index; ``divide_by="images"`` divides as torch does there.
    And where nothing counts, the mean is 0. Derived in lesson 03.

    Args:
        weight: One number w_c per class, floats (C,); see `imbalkit.weights`. It moves with the
            module from device to device and is saved in its ``state_dict``.
        divide_by: What the mean divides by. "weights" is the sum of the weights w_y in the batch,
            as in torch. "images" is N; the scale of the loss then follows the classes in the batch.
        reduction: "mean", "sum", or "none" for one loss per target, 0 where it is ignored.
        ignore_index: Class indices of this value count nowhere, not in the mean either.
        label_smoothing: The part of the target that is spread evenly over all classes, 0 to 1.

    Shape:
        - logits: floats (N, C) or (N, C, d1, ...), C at least 2.
        - targets: class indices, int64 (N,) or (N, d1, ...); or one probability per class, floats
          in the shape of the logits, as mixup makes.
        - output: a scalar, with "none" (N,) or (N, d1, ...); float32, for float64 logits float64.

    Raises:
        ValueError: The shapes do not fit, the indices are no int64, or the probabilities no floats.
        IndexError: A class index is not among the C classes (on a GPU torch ends the process).

    Example:
        >>> import torch
        >>> from imbalkit import losses, weights
        >>> loss = losses.WeightedCrossEntropy(weights.balanced([900, 100]))
        >>> logits, targets = torch.tensor([[2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1])
        >>> loss(logits, targets)
        tensor(1.9269)
    """

    def __init__(
        self,
        weight: ArrayLike | Tensor | None = None,
        divide_by: str = "weights",
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, ignore_index, label_smoothing)
        if divide_by not in DIVISORS:
            raise ValueError(f"divide_by is {divide_by!r}; use one of {', '.join(DIVISORS)}.")
        self.divide_by = divide_by
        self.weight: Tensor | None
        self.register_buffer("weight", None if weight is None else checked_weight(weight))

    def adjusted(self, logits: Tensor, target: Tensor) -> Tensor:
        """The logits from which the loss is computed. `target` is one-hot or soft."""
        return logits

    def per_class(self, logits: Tensor, q: Tensor) -> Tensor:
        """The loss of each image if its class were c: (N, C). `q` is the smoothed target."""
        return -logits.log_softmax(1)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        check_tensors(logits, targets, type(self).__name__)
        check_logits(logits, type(self).__name__)
        logits = in_float32(logits)
        target, counted = as_probabilities(targets, logits, self.ignore_index)
        q = self.smoothed(target, logits.shape[1]).masked_fill(~counted.unsqueeze(1), 0.0)
        # A class that the target excludes adds 0, even where its own loss is infinite.
        losses = self.per_class(self.adjusted(logits, target), q).masked_fill(q == 0, 0.0)
        weight = self.class_weights(logits)
        losses = (q if weight is None else q * weight) * losses
        if self.reduction == "none":
            return losses.sum(1)
        if weight is None or self.divide_by == "images":
            return self.reduced(losses, counted)
        return self.reduced(losses, target * weight)  # w_y in the column of y, 0 elsewhere

    def class_weights(self, logits: Tensor) -> Tensor | None:
        """The weights w_c along the classes of the logits."""
        if self.weight is None:
            return None
        if len(self.weight) != logits.shape[1]:
            raise ValueError(
                f"weight tensor should be defined either for all {logits.shape[1]} classes or no "
                f"classes but got weight tensor of shape: {list(self.weight.shape)}"
            )
        return along_classes(self.weight, logits)


class FocalLoss(WeightedCrossEntropy):
    """Focal loss: -w_y (1 - p_y)^gamma log p_y. Images that the model gets right count less.

    For one class an image, with softmax; with one logit per label use `SigmoidFocalLoss`. A single
    alpha for all classes would only rescale this loss, so there is none. Lin et al. 2017, "Focal
    loss for dense object detection", equation 5, with softmax for the sigmoid. Derived in
    lesson 04.

    Args:
        gamma: The focus, 0 or more; 0 is cross-entropy.
        weight: The paper's alpha, one number per class, floats (C,). p_y never contains it.
        divide_by, reduction, ignore_index, label_smoothing: As in `WeightedCrossEntropy`.

    Shape:
        As in `WeightedCrossEntropy`.

    Raises:
        ValueError: gamma is negative, infinite or NaN; or as in `WeightedCrossEntropy`.

    Example:
        >>> import torch
        >>> from imbalkit.losses import FocalLoss
        >>> loss = FocalLoss(gamma=2.0, reduction="none")
        >>> loss
        FocalLoss(gamma=2.0, reduction='none')
        >>> loss(torch.tensor([[3.0, 0.0], [3.0, 0.0]]), torch.tensor([0, 1]))
        tensor([1.0928e-04, 2.7663e+00])
    """

    own: tuple[str, ...] = ("gamma",)

    def __init__(
        self,
        gamma: float = 2.0,
        weight: ArrayLike | Tensor | None = None,
        divide_by: str = "weights",
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            weight,
            divide_by,
            reduction=reduction,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )
        self.gamma = checked_setting("gamma", gamma)

    def per_class(self, logits: Tensor, q: Tensor) -> Tensor:
        # Only the target's own log p may reach the product: 0 times an infinite one would be NaN.
        log_p = logits.log_softmax(1).masked_fill(q == 0, 0.0)
        # 1 - p is kept above 0, where a power below 1 has no finite slope.
        one_minus_p = (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).tiny)
        return -(one_minus_p**self.gamma) * log_p


class LogitAdjustedLoss(WeightedCrossEntropy):
    """Cross-entropy of the logits plus tau log pi_c, where pi_c = n_c / N.

    The model learns the rest, a classifier for equally frequent classes: at test time nothing is
    added. At tau = 1 it is `BalancedSoftmaxLoss`. Menon et al. 2021, "Long-tail learning via logit
    adjustment", equation 10. Derived in lesson 09.

    Args:
        counts: Training images n_c of each class, integers (C,).
        tau: How much of the prior to take out, 0 or more; 0 is cross-entropy.
        weight, divide_by, reduction, ignore_index, label_smoothing: As in `WeightedCrossEntropy`.
            Weights correct for the prior as well: balanced ones and tau = 1 correct twice.

    Shape:
        As in `WeightedCrossEntropy`.

    Raises:
        ValueError: A class has no image, tau is negative, infinite or NaN; or as in
            `WeightedCrossEntropy`.

    Example:
        >>> import torch
        >>> from imbalkit.losses import LogitAdjustedLoss
        >>> loss = LogitAdjustedLoss([900, 100], tau=1.0)
        >>> loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))  # -log 0.1
        tensor(2.3026)
    """

    own: tuple[str, ...] = ("tau",)

    def __init__(
        self,
        counts: ArrayLike | Tensor,
        tau: float = 1.0,
        weight: ArrayLike | Tensor | None = None,
        divide_by: str = "weights",
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            weight,
            divide_by,
            reduction=reduction,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )
        self.tau = checked_setting("tau", tau)
        n = torch.from_numpy(check_no_empty_class(counts, "prior")).double()
        self.adjustment: Tensor
        self.register_buffer("adjustment", tau * (n / n.sum()).log().float())

    def adjusted(self, logits: Tensor, target: Tensor) -> Tensor:
        check_counts_length(self.adjustment, logits)
        return logits + along_classes(self.adjustment, logits)


class BalancedSoftmaxLoss(LogitAdjustedLoss):
    """Cross-entropy of a softmax with n_c exp(z_c) in place of exp(z_c).

    It is `LogitAdjustedLoss` at tau = 1: the two papers found the same loss. Ren et al. 2020,
    "Balanced meta-softmax for long-tailed visual recognition". Derived in lesson 09.

    Args:
        counts: Training images n_c of each class, integers (C,).
        weight, divide_by, reduction, ignore_index, label_smoothing: As in `LogitAdjustedLoss`.

    Shape:
        As in `WeightedCrossEntropy`.

    Raises:
        ValueError: As in `LogitAdjustedLoss`.

    Example:
        >>> import torch
        >>> from imbalkit.losses import BalancedSoftmaxLoss
        >>> BalancedSoftmaxLoss([900, 100])(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor(2.3026)
    """

    own: tuple[str, ...] = ()

    def __init__(
        self,
        counts: ArrayLike | Tensor,
        weight: ArrayLike | Tensor | None = None,
        divide_by: str = "weights",
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            counts,
            1.0,
            weight,
            divide_by,
            reduction=reduction,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )


class LDAMLoss(WeightedCrossEntropy):
    """Label-distribution-aware margin: the true class has to win by Delta_y, wider when rarer.

    Delta_c is in proportion to n_c^(-1/4), and `max_margin` for the rarest class. The logits are
    meant to be cosines, from -1 to 1 (`imbalkit.models.CosineClassifier`). Takes class indices
    only: a margin belongs to one class. For mixed images add the losses of the two classes. Cao et
    al. 2019, "Learning imbalanced datasets with label-distribution-aware margin loss", equations
    12 and 13. Derived in lesson 09.

    Args:
        counts: Training images n_c of each class, integers (C,).
        max_margin: The margin Delta of the rarest class, 0 or more.
        scale: The paper's s, above 0, which multiplies the cosines.
        weight, divide_by, reduction, ignore_index, label_smoothing: As in `WeightedCrossEntropy`.

    Shape:
        As in `WeightedCrossEntropy`, without probabilities as targets.

    Raises:
        ValueError: A class has no image, max_margin or scale is no such number, the targets are
            probabilities; or as in `WeightedCrossEntropy`.

    Example:
        >>> import torch
        >>> from imbalkit.losses import LDAMLoss
        >>> loss = LDAMLoss([1600, 100], max_margin=0.5, scale=10.0, reduction="none")
        >>> loss(torch.zeros(2, 2), torch.tensor([0, 1]))  # log(1 + e^2.5), log(1 + e^5)
        tensor([2.5789, 5.0067])
    """

    own: tuple[str, ...] = ("max_margin", "scale")

    def __init__(
        self,
        counts: ArrayLike | Tensor,
        max_margin: float = 0.5,
        scale: float = 30.0,
        weight: ArrayLike | Tensor | None = None,
        divide_by: str = "weights",
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            weight,
            divide_by,
            reduction=reduction,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
        )
        self.max_margin = checked_setting("max_margin", max_margin)
        self.scale = checked_setting("scale", scale, above_zero=True)
        n = torch.from_numpy(check_no_empty_class(counts, "margin")).double()
        self.margin: Tensor
        self.register_buffer("margin", (max_margin * (n.min() / n) ** 0.25).float())

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        check_tensors(logits, targets, type(self).__name__)
        if targets.shape == logits.shape and logits.ndim > 1:
            raise ValueError(
                "LDAMLoss takes class indices (N,), not probabilities: add the losses of the two "
                "classes of a mixed image instead."
            )
        return super().forward(logits, targets)

    def adjusted(self, logits: Tensor, target: Tensor) -> Tensor:
        check_counts_length(self.margin, logits)
        return self.scale * (logits - target * along_classes(self.margin, logits))


def as_probabilities(targets: Tensor, logits: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Targets as one probability per class (N, C, d1, ...), 0 for all classes where they are
    ignored; and what counts, bool (N, d1, ...)."""
    if targets.shape == logits.shape:
        if ignore_index >= 0:
            raise ValueError(
                f"ignore_index is not supported for floating point target, and it is "
                f"{ignore_index}; give an ignored target the probability 0 for all classes."
            )
        if not targets.is_floating_point():
            raise ValueError(
                "Expected floating point type for target with class probabilities, got "
                f"{kind_of(targets)}; rows with a single 1 become class indices by .argmax(1), and "
                "several labels an image want SigmoidFocalLoss."
            )
        return targets.to(logits.dtype), torch.ones_like(logits[:, 0], dtype=torch.bool)
    check_class_indices(targets, logits)
    targets = targets.long()  # torch takes uint8, too
    counted = targets != ignore_index
    index = targets.masked_fill(~counted, 0).unsqueeze(1)
    one_hot = torch.zeros_like(logits)
    try:
        return one_hot.scatter(1, index, counted.unsqueeze(1).to(logits.dtype)), counted
    except RuntimeError:
        classes = logits.shape[1]
        outside = targets[counted & ((targets < 0) | (targets >= classes))]
        if len(outside) == 0:
            raise
        raise IndexError(
            f"Target {outside[0]} is out of bounds: the model has {classes} outputs, for the "
            f"classes 0 to {classes - 1}."
        ) from None


def check_logits(logits: Tensor, loss: str) -> None:
    """Raise ValueError unless there are two logits or more per image: of one, softmax is 1."""
    if logits.ndim < 2 or logits.shape[1] < 2:
        raise ValueError(
            f"{loss} takes logits (N, C) with 2 classes or more, and these have shape "
            f"{tuple(logits.shape)}: for one logit per image use SigmoidFocalLoss."
        )


def check_class_indices(targets: Tensor, logits: Tensor) -> None:
    """Raise ValueError unless there is one class index per image; first in torch's words."""
    wanted = [len(logits), *logits.shape[2:]]
    advice = (
        f"class indices have shape {tuple(wanted)} here, and probabilities {tuple(logits.shape)}"
    )
    if targets.ndim >= 2 and logits.ndim == 2:
        raise ValueError(
            "0D or 1D target tensor expected, multi-target not supported: the targets have shape "
            f"{tuple(targets.shape)}, but {advice}."
        )
    if targets.ndim == 0 or len(targets) != len(logits):
        raise ValueError(
            f"Expected input batch_size ({len(logits)}) to match target batch_size "
            f"({len(targets) if targets.ndim else 0}); {advice}."
        )
    if list(targets.shape) != wanted:
        raise ValueError(f"Expected target size {wanted}, got {list(targets.shape)}; {advice}.")
    if targets.dtype not in (torch.int64, torch.uint8):
        raise ValueError(
            f"expected target dtype to be Long or Byte, but got {kind_of(targets)}; class indices "
            "are int64: use .long()."
        )


def kind_of(tensor: Tensor) -> str:
    """The dtype in torch's old words, such as "Long" for int64, which its errors use."""
    return tensor.type().rpartition(".")[2].removesuffix("Tensor")


def check_counts_length(per_class: Tensor, logits: Tensor) -> None:
    """Raise ValueError unless there was one count per logit."""
    if len(per_class) != logits.shape[1]:
        raise ValueError(
            f"counts has {len(per_class)} entries but the model {logits.shape[1]} outputs; give "
            "one per class."
        )


__all__ = [
    "BalancedSoftmaxLoss",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "WeightedCrossEntropy",
]
