"""Training in two stages: first the features, then the decision. Derived in lesson 06.

Every stage is one call of `fit`. `deferred` changes the loss or the sampling late in one training.
The others leave the features as they are and mend the classifier alone (Kang et al. 2020,
"Decoupling representation and classifier for long-tailed recognition").

They take a model in two halves, ``model.classifier(model.features(images))`` with a linear
classifier, such as `imbalkit.models.Classifier`.
"""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.models import ScaledClassifier, rescaled
from imbalkit.training import History, fit, sgd, warmup_cosine


def deferred(
    model: nn.Module,
    batches: Iterable,
    late_batches: Iterable,
    epochs: int,
    switch: int,
    *,
    loss_fn: Callable = F.cross_entropy,
    late_loss_fn: Callable = F.cross_entropy,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Callable[[float], float] = warmup_cosine,
    val_batches: Iterable | None = None,
    monitor: str | Callable = "balanced_accuracy",
    show_progress: bool = True,
) -> tuple[History, History]:
    """Train on `batches` with `loss_fn`, and from epoch `switch` on with the late ones.

    Other late batches make it deferred re-sampling (DRS), another late loss deferred re-weighting
    (DRW). It is one training: the optimizer keeps its momentum, and the schedule runs through.

    switch: the number of epochs before the change, 1 .. epochs - 1.
    val_batches, monitor: pick the best epoch of the late part; without them the last is kept.

    Returns the Histories of both parts; an interrupted first part is not followed by the second.

    Cao et al. 2019, "Learning imbalanced datasets with
    label-distribution-aware margin loss", section 3.3. Derived in lesson 06.
    """
    if not 0 < switch < epochs:
        raise ValueError(f"switch is {switch}; it must lie between 1 and {epochs - 1}.")
    optimizer = optimizer or sgd(model)
    share = switch / epochs
    early = fit(
        model,
        batches,
        switch,
        loss_fn=loss_fn,
        optimizer=optimizer,
        schedule=part(schedule, 0, share),
        show_progress=show_progress,
    )
    if early.stopped == "interrupted":
        return early, History()
    late = fit(
        model,
        late_batches,
        epochs - switch,
        loss_fn=late_loss_fn,
        optimizer=optimizer,
        schedule=part(schedule, share, 1),
        val_batches=val_batches,
        monitor=monitor,
        show_progress=show_progress,
    )
    return early, late


def part(schedule: Callable[[float], float], begin: float, end: float) -> Callable[[float], float]:
    """The piece of a schedule from `begin` to `end`, shares of the whole training from 0 to 1."""
    return lambda progress: schedule(begin + (end - begin) * progress)


def retrain_classifier(
    model: nn.Module, batches: Iterable, epochs: int, *, lr: float = 0.05, **options
) -> History:
    """Train a new linear classifier on the features as they are (cRT), in place.

    batches: class-balanced, as `sampling.weighted_sampler` makes them; or give a weighted loss.
    options: go to `fit`: loss_fn, val_batches, schedule, ...

    Kang et al. 2020, section 4. Derived in lesson 06.
    """
    old = model.classifier
    bias = old.bias is not None
    model.classifier = nn.Linear(old.in_features, old.out_features, bias).to(old.weight.device)
    return fit_head(model, model.classifier, batches, epochs, lr, options)


def learn_class_scales(
    model: nn.Module, batches: Iterable, epochs: int, *, lr: float = 0.05, **options
) -> History:
    """Learn one factor per class on the logits (LWS), all else fixed; then fold it in, in place.

    Arguments as in `retrain_classifier`. Kang et al. 2020, section 4. Derived in lesson 06.
    """
    scaled = ScaledClassifier(model.classifier)
    history = fit_head(model, scaled, batches, epochs, lr, options)
    model.classifier = scaled.folded()
    return history


def fit_head(model, head: nn.Module, batches, epochs: int, lr: float, options: dict) -> History:
    """`fit` for a head on frozen features."""
    optimizer = sgd(head, lr=lr)
    stage2 = nn.Sequential(FrozenFeatures(model.features), head)
    return fit(stage2, batches, epochs, optimizer=optimizer, **options)


class FrozenFeatures(nn.Module):
    """Features that no longer learn: no gradient, and always in evaluation mode.

    ``requires_grad=False`` alone would not do: in training mode BatchNorm keeps moving its running
    statistics, and the features with them.
    """

    def __init__(self, features: nn.Module):
        super().__init__()
        self.features = features.eval()

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.features(images)

    def train(self, mode: bool = True) -> "FrozenFeatures":
        return super().train(False)


def tau_normalised(classifier: nn.Linear, tau: float = 1.0) -> nn.Linear:
    """A copy with weight vectors w_c / |w_c|^tau and no bias; nothing is trained.

    tau: 0 keeps the weights, 1 makes all vectors equally long. Choose it on the validation set.

    Kang et al. 2020, equation 3. Derived in lesson 06.
    """
    result = rescaled(classifier, weight_norms(classifier) ** -tau)
    if result.bias is not None:
        nn.init.zeros_(result.bias)
    return result


def weight_norms(classifier: nn.Linear) -> Tensor:
    """The length |w_c| of each class's weight vector: floats (C,)."""
    return classifier.weight.detach().norm(dim=1)


__all__ = [
    "FrozenFeatures",
    "deferred",
    "learn_class_scales",
    "part",
    "retrain_classifier",
    "tau_normalised",
    "weight_norms",
]
