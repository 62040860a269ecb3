"""Losses of each logit on its own, for two classes with one logit or several labels an image."""

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import described, is_number
from imbalkit.losses.base import (
    Loss,
    along_classes,
    as_weight,
    check_tensors,
    checked_setting,
    checked_weight,
    in_float32,
)


class BinaryLoss(Loss):
    """A loss for each logit on its own: y L+ + (1 - y) L-, where y is 0, 1 or between them."""

    def __init__(
        self,
        pos_weight: ArrayLike | Tensor | float | None,
        reduction: str,
        ignore_index: int,
        label_smoothing: float,
    ) -> None:
        super().__init__(reduction, ignore_index, label_smoothing)
        if pos_weight is not None:
            pos_weight = torch.atleast_1d(as_weight(pos_weight, "pos_weight"))
            pos_weight = checked_weight(pos_weight, "pos_weight")
        self.pos_weight: Tensor | None
        self.register_buffer("pos_weight", pos_weight)

    def of_positive(self, logits: Tensor) -> Tensor:
        """L+, the loss where the label is 1."""
        raise NotImplementedError

    def of_negative(self, logits: Tensor) -> Tensor:
        """L-, the loss where the label is 0."""
        raise NotImplementedError

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        check_tensors(logits, targets, type(self).__name__)
        if targets.shape != logits.shape:  # (N, 1) against (N,) would spread to (N, N)
            raise ValueError(
                f"Target size ({targets.shape}) must be the same as input size ({logits.shape}); "
                "give one target per logit, for example with logits.squeeze(1)."
            )
        logits = in_float32(logits)
        y = targets.to(logits.dtype)
        counted = y != self.ignore_index
        y = self.smoothed(y, 2)
        yes, no = y.masked_fill(~counted, 0.0), (1 - y).masked_fill(~counted, 0.0)
        # What the target excludes adds 0, even where its own loss is infinite.
        positive = self.of_positive(logits.masked_fill(yes == 0, 0.0))
        negative = self.of_negative(logits.masked_fill(no == 0, 0.0))
        if self.pos_weight is not None:
            positive = self.along_labels(self.pos_weight, logits) * positive
        losses = yes * positive + no * negative
        return losses if self.reduction == "none" else self.reduced(losses, counted)

    @staticmethod
    def along_labels(pos_weight: Tensor, logits: Tensor) -> Tensor:
        """`pos_weight` along the labels of logits (N,), (N, C) or (N, C, d1, ...)."""
        if len(pos_weight) == 1:
            return pos_weight
        if logits.ndim < 2 or len(pos_weight) != logits.shape[1]:
            outputs = logits.shape[1] if logits.ndim > 1 else 1
            raise ValueError(
                f"pos_weight has {len(pos_weight)} entries but the model {outputs} outputs; "
                "give one per class, or one for all."
            )
        return along_classes(pos_weight, logits)


class SigmoidFocalLoss(BinaryLoss):
    """Focal loss of each logit on its own: -alpha_t (1 - p_t)^gamma log p_t.

    For two classes with one logit, and for several labels an image. p_t is the probability that the
    model gives to the label's side, sigmoid(z) where it is 1 and 1 - sigmoid(z) where it is 0. At
    ``gamma=0, alpha=None`` it equals ``torch.nn.BCEWithLogitsLoss``. Lin et al. 2017, "Focal loss
    for dense object detection", equation 5. Lesson 04 derives the focus.

    Args:
        gamma: The focus, 0 or more.
        alpha: The weight alpha of positives, 0 to 1; negatives have 1 - alpha. None weighs neither.
            0.25 is the paper's, for gamma 2: the focus has taken so much from the many easy
            negatives that positives then need less and not more.
        pos_weight: One number per class, floats (C,), or one for all: it multiplies the loss of
            positives, see `imbalkit.weights.pos_weight`. With it pass ``alpha=None``.
        reduction: "mean" over all labels, "sum", or "none" for one loss per label.
        ignore_index: Labels of this value count nowhere. Unknown ones are often marked by -1.
        label_smoothing: The part of the label that is spread evenly over 0 and 1.

    Shape:
        - logits: floats (N,), (N, C) or (N, C, d1, ...).
        - targets: 0, 1 or a probability, in the shape of the logits, of any dtype.
        - output: a scalar, with "none" in the shape of the logits.

    Raises:
        ValueError: A setting is no such number, alpha and pos_weight are both given, or targets and
            logits differ in shape.

    Example:
        >>> import torch
        >>> from imbalkit.losses import SigmoidFocalLoss
        >>> loss = SigmoidFocalLoss(gamma=2.0, alpha=0.25, reduction="none")
        >>> loss(torch.tensor([0.0, 0.0, -4.0]), torch.tensor([1.0, 0.0, 0.0]))
        tensor([4.3322e-02, 1.2997e-01, 4.4037e-06])
    """

    own = ("gamma", "alpha")

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        pos_weight: ArrayLike | Tensor | float | None = None,
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(pos_weight, reduction, ignore_index, label_smoothing)
        if alpha is not None and not (is_number(alpha) and 0 <= alpha <= 1):
            raise ValueError(
                f"alpha is {described(alpha)}; it must be from 0 to 1, or None for no weights."
            )
        if alpha is not None and pos_weight is not None:
            raise ValueError(
                f"alpha is {alpha} and pos_weight is given, which both weigh the positives; with "
                "pos_weight pass alpha=None."
            )
        self.gamma = checked_setting("gamma", gamma)
        self.alpha = alpha

    def of_positive(self, logits: Tensor) -> Tensor:
        losses = focal_of_sigmoid(logits, self.gamma)
        return losses if self.alpha is None else self.alpha * losses

    def of_negative(self, logits: Tensor) -> Tensor:
        losses = focal_of_sigmoid(-logits, self.gamma)
        return losses if self.alpha is None else (1 - self.alpha) * losses


class AsymmetricLoss(BinaryLoss):
    """Asymmetric loss (ASL) for several labels an image, most of which are 0.

    L+ = -(1 - p)^gamma_pos log p, and L- = -p_m^gamma_neg log(1 - p_m), where the probability p is
    shifted to p_m = max(p - m, 0). Negatives lose more to the focus than positives, and those with
    p below m count nothing. At ``gamma_neg=gamma_pos=clip=0`` it equals
    ``torch.nn.BCEWithLogitsLoss``. Ridnik et al. 2021, "Asymmetric loss for multi-label
    classification". Lesson 04 derives the focus.

    The gradient takes the focus along, as the paper derives it; the authors' program has a switch
    for holding the focus constant. Their program also sums the losses: ``reduction="sum"``.

    Args:
        gamma_neg: The focus of negatives, 0 or more.
        gamma_pos: The focus of positives, 0 or more; less than `gamma_neg`, so that the few
            positives keep their part.
        clip: The shift m, 0 or more and below 1.
        pos_weight, reduction, ignore_index, label_smoothing: As in `SigmoidFocalLoss`.

    Shape:
        As in `SigmoidFocalLoss`.

    Raises:
        ValueError: A setting is no such number, or targets and logits differ in shape.

    Example:
        >>> import torch
        >>> from imbalkit.losses import AsymmetricLoss
        >>> loss = AsymmetricLoss(gamma_neg=4.0, gamma_pos=1.0, clip=0.05, reduction="none")
        >>> loss(torch.tensor([0.0, 0.0, -4.0]), torch.tensor([1.0, 0.0, 0.0]))
        tensor([0.3466, 0.0245, 0.0000])
    """

    own = ("gamma_neg", "gamma_pos", "clip")

    def __init__(
        self,
        gamma_neg: float = 4.0,
        gamma_pos: float = 1.0,
        clip: float = 0.05,
        pos_weight: ArrayLike | Tensor | float | None = None,
        *,
        reduction: str = "mean",
        ignore_index: int = -100,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(pos_weight, reduction, ignore_index, label_smoothing)
        if not is_number(clip) or not 0 <= clip < 1:
            raise ValueError(f"clip is {described(clip)}; it must be at least 0 and below 1.")
        self.gamma_neg = checked_setting("gamma_neg", gamma_neg)
        self.gamma_pos = checked_setting("gamma_pos", gamma_pos)
        self.clip = clip

    def of_positive(self, logits: Tensor) -> Tensor:
        return focal_of_sigmoid(logits, self.gamma_pos)

    def of_negative(self, logits: Tensor) -> Tensor:
        if self.clip == 0:  # 1 - p_m can then be 0, and only logsigmoid has its logarithm
            return focal_of_sigmoid(-logits, self.gamma_neg)
        p_m = (logits.sigmoid() - self.clip).clamp_min(0)
        # p_m is kept above 0, where a power below 1 has no finite slope.
        focus = p_m.clamp_min(torch.finfo(p_m.dtype).tiny) ** self.gamma_neg
        return -focus * torch.log1p(-p_m)


def focal_of_sigmoid(logits: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p with p = sigmoid(z). For the other label give -z."""
    # The power is taken as exp(gamma log(1 - p)), whose slope is finite. The logarithm is kept
    # finite too, since gamma may be 0.
    log_not_p = F.logsigmoid(-logits)
    log_not_p = log_not_p.clamp_min(torch.finfo(log_not_p.dtype).min)
    return -torch.exp(gamma * log_not_p) * F.logsigmoid(logits)


__all__ = ["AsymmetricLoss", "SigmoidFocalLoss"]
