"""How far a model's confidence can be believed."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from imbalkit.checks import check_whole
from imbalkit.metrics.checks import check_logits


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far the confidence can be believed; each array has one entry per bin.

    Derived in lesson 12.

    Attributes:
        ece: expected calibration error, the mean gap between confidence and accuracy, 0 to 1.
        confidence: mean confidence in the bin, NaN where it is empty.
        accuracy: share of correct predictions in the bin, NaN where it is empty.
        weight: share of all images that fall in the bin; sums to 1.

    Example:
        >>> sure = calibration(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), [0, 1], bins=2)
        >>> sure.weight.tolist(), sure.accuracy.tolist()
        ([0.0, 1.0], [nan, 0.5])
    """

    ece: float
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    weight: NDArray[np.float64]


def calibration(logits: ArrayLike, labels: ArrayLike, bins: int = 15) -> Calibration:
    """When the model says "90 % sure", is it right nine times out of ten?

    The confidence is the largest softmax probability. Images are put in ``bins`` equally wide
    bins of confidence, and the error is the gap between confidence and accuracy in each bin,
    averaged with the bins' shares of the images (Guo et al. 2017, "On calibration of modern
    neural networks").

    A bin holds its lower edge and not its upper one, as in torchmetrics, in float32; but a
    confidence of exactly 1 falls in the last bin, where torchmetrics gives it a bin of its own.

    Args:
        logits: floats (N, C), before softmax.
        labels: true classes, integers (N,).
        bins: 1 or more.

    Returns:
        a `Calibration`.

    Raises:
        ValueError: NaN or infinite logits, wrong shapes, labels out of range, fewer than 1 bin.

    Example:
        >>> logits = torch.tensor([[3.0, 0.0]] * 4)  # 95 % sure of class 0
        >>> round(calibration(logits, labels=[0, 0, 0, 1]).ece, 3)
        0.203
    """
    scores, true = check_logits(logits, labels)
    bins = check_whole(bins, "bins")
    confidence, predicted = torch.tensor(scores, dtype=torch.float32).softmax(1).max(1)
    correct = predicted.numpy() == true
    edges = torch.linspace(0, 1, bins + 1)
    place = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=bins - 1).numpy()

    size = np.bincount(place, minlength=bins)
    filled = np.where(size > 0, size, np.nan)
    mean_confidence = np.bincount(place, confidence.double().numpy(), bins) / filled
    accuracy = np.bincount(place, correct, bins) / filled
    weight = size / size.sum()
    ece = float(np.nansum(weight * np.abs(accuracy - mean_confidence)))
    return Calibration(ece, mean_confidence, accuracy, weight)


__all__ = ["Calibration", "calibration"]
