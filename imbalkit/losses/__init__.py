"""Losses for imbalanced classes, each a module that takes logits and targets, as torch's own do.

One class an image, softmax:

- `WeightedCrossEntropy`: class weights. Read it first: the others change one method of it.
- `FocalLoss`: images that the model gets right count less.
- `LogitAdjustedLoss`, `BalancedSoftmaxLoss`: the prior goes into the loss.
- `LDAMLoss`: the true class has to win by a margin.

Two classes with one logit, or several labels an image, sigmoid:

- `SigmoidFocalLoss`: the focal loss as published. At ``gamma=0`` binary cross-entropy.
- `AsymmetricLoss`: easy negatives count less, and the easiest not at all.

Logits are floats, before softmax or sigmoid; half precision is computed in float32. Where no image
of a batch counts, the mean is 0 (torch: NaN). Class weights come from `imbalkit.weights`.
"""

from imbalkit.losses.sigmoid import AsymmetricLoss, SigmoidFocalLoss
from imbalkit.losses.softmax import (
    BalancedSoftmaxLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    WeightedCrossEntropy,
)

__all__ = [
    "AsymmetricLoss",
    "BalancedSoftmaxLoss",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "SigmoidFocalLoss",
    "WeightedCrossEntropy",
]
