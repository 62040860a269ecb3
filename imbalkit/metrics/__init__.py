"""How good is a model for every class, not only for the frequent ones?

Everything starts from the labels and the model's logits (or its predicted classes), as torch
tensors or numpy arrays; most figures are then read off the confusion matrix. Derived in lesson 01.
"""

from imbalkit.metrics.confidence import Calibration, calibration
from imbalkit.metrics.figures import (
    FEW,
    MANY,
    confusion,
    effective_classes,
    group_recall,
    groups,
    imbalance_ratio,
    per_class,
    prediction_share,
    prior_entropy,
    recall_of,
    summary,
    summary_of_counts,
    summary_of_predictions,
)
from imbalkit.metrics.tables import Report, report

__all__ = [
    "FEW",
    "MANY",
    "Calibration",
    "Report",
    "calibration",
    "confusion",
    "effective_classes",
    "group_recall",
    "groups",
    "imbalance_ratio",
    "per_class",
    "prediction_share",
    "prior_entropy",
    "recall_of",
    "report",
    "summary",
    "summary_of_counts",
    "summary_of_predictions",
]
