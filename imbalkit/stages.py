"""Training in two stages: first the features, then the decision. Derived in lesson 06.

Every stage is one call of `fit`. `deferred` changes the loss or the sampling late in one training.
The others leave the features as they are and mend the classifier alone (Kang et al. 2020,
"Decoupling representation and classifier for long-tailed recognition").

They take a model in two halves, ``model.classifier(model.features(images))`` with a linear
classifier, such as `imbalkit.models.Classifier`.
"""

import math
from collections.abc import Callable, Iterable
from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.checks import check_whole, described
from imbalkit.history import History
from imbalkit.models import Classifier, ScaledClassifier, rescaled
from imbalkit.preflight import as_it_was, check_arguments, check_parts
from imbalkit.training import fit, sgd, warmup_cosine


def deferred(
    model: nn.Module,
    batches: Iterable,
    late_batches: Iterable,
    epochs: int,
    switch: int,
    *,
    loss_fn: Callable[..., Tensor] = F.cross_entropy,
    late_loss_fn: Callable[..., Tensor] = F.cross_entropy,
    optimizer: torch.optim.Optimizer | None = None,
    schedule: Callable[[float], float] = warmup_cosine,
    val_batches: Iterable | None = None,
    monitor: str | Callable = "balanced_accuracy",
    show_progress: bool = True,
) -> tuple[History, History]:
    """Train on `batches` with `loss_fn`, and from epoch `switch` on with the late ones.

    Other late batches make it deferred re-sampling (DRS), another late loss deferred re-weighting
    (DRW). It is one training: the optimizer keeps its momentum, and the schedule runs through.

    Cao et al. 2019, "Learning imbalanced datasets with label-distribution-aware margin loss",
    section 3.3. Derived in lesson 06.

    Args:
        model: gives logits (N, C); it is trained in place.
        batches: ``(images, targets)`` of the first part, as `fit` takes them.
        late_batches: those of the second part.
        epochs: of both parts together.
        switch: the number of epochs before the change, 1 .. epochs - 1.
        loss_fn: ``(logits, targets) -> scalar`` of the first part.
        late_loss_fn: that of the second part.
        optimizer: of the model's parameters; `training.sgd` makes one unless given.
        schedule: from the share of the whole training, 0..1, to a factor on the learning rate.
        val_batches: they pick the best epoch of the late part; without them the last is kept.
        monitor: the figure that decides which epoch is best, as in `fit`.
        show_progress: show a line with the time left, and a table at the end of each part.

    Returns:
        the Histories of both parts; an interrupted first part is not followed by the second.

    Raises:
        ValueError: a switch that leaves one part without an epoch, and as `fit`.

    Example:
        >>> from imbalkit.models import plain_cnn
        >>> batches = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 0, 0, 1]))]
        >>> balanced = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 0, 1, 1]))]
        >>> model = plain_cnn(num_classes=2, width=4)
        >>> early, late = deferred(model, batches, balanced, 3, switch=2, show_progress=False)
        >>> len(early.train), len(late.train)
        (2, 1)
    """
    check_whole(epochs, "epochs", 2)
    if not 0 < switch < epochs:
        raise ValueError(f"switch is {switch}; it must lie between 1 and {epochs - 1}.")
    check_whole(switch, "switch")
    # What the second part cannot use is told before the first one, which may take hours.
    check_arguments(late_batches, epochs - switch, val_batches=val_batches, monitor=monitor)
    check_parts(model, late_loss_fn, optimizer, schedule)
    optimizer = optimizer or sgd(model)
    share = switch / epochs
    early = fit(
        model,
        batches,
        switch,
        loss_fn=loss_fn,
        optimizer=optimizer,
        schedule=schedule_part(schedule, 0, share),
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
        schedule=schedule_part(schedule, share, 1),
        val_batches=val_batches,
        monitor=monitor,
        show_progress=show_progress,
    )
    return early, late


def schedule_part(
    schedule: Callable[[float], float], begin: float, end: float
) -> Callable[[float], float]:
    """The piece of a schedule from `begin` to `end`, shares of the whole training from 0 to 1.

    Derived in lesson 06.

    Args:
        schedule: from the share of the training done, 0..1, to a factor on the learning rate.
        begin: where the piece starts.
        end: where it ends.

    Returns:
        a schedule for a training that is only this piece.

    Example:
        >>> second_half = schedule_part(lambda progress: 1 - progress, 0.5, 1)
        >>> second_half(0), second_half(1)
        (0.5, 0.0)
    """
    return lambda progress: schedule(begin + (end - begin) * progress)


def retrain_classifier(
    model: Classifier, batches: Iterable, epochs: int, *, lr: float = 0.05, **options: Any
) -> History:
    """Train a new linear classifier on the features as they are (cRT), in place.

    Kang et al. 2020, section 4. Derived in lesson 06.

    Args:
        model: ``classifier(features(images))``, the classifier an ``nn.Linear``.
        batches: class-balanced, as `sampling.weighted_sampler` makes them; or give a weighted loss.
        epochs: 1 or more.
        lr: the learning rate at its highest.
        **options: go to `fit`: loss_fn, val_batches, schedule, ...

    Returns:
        the History of this training.

    Example:
        >>> from imbalkit.models import plain_cnn
        >>> model = plain_cnn(num_classes=2, width=4)
        >>> features = model.features[0].weight.clone()
        >>> batches = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 0, 1, 1]))]
        >>> history = retrain_classifier(model, batches, epochs=1, show_progress=False)
        >>> bool((model.features[0].weight == features).all())
        True
    """
    old = model.classifier
    bias = old.bias is not None
    model.classifier = nn.Linear(old.in_features, old.out_features, bias).to(old.weight.device)
    try:
        return fit_head(model, model.classifier, batches, epochs, lr, options)
    except (TypeError, ValueError):  # nothing was learned
        model.classifier = old
        raise


def learn_class_scales(
    model: Classifier, batches: Iterable, epochs: int, *, lr: float = 0.05, **options: Any
) -> History:
    """Learn one factor per class on the logits (LWS), all else fixed; then fold it in, in place.

    Kang et al. 2020, section 4. Derived in lesson 06.

    Args:
        model: ``classifier(features(images))``, the classifier an ``nn.Linear``.
        batches: class-balanced, as `sampling.weighted_sampler` makes them; or give a weighted loss.
        epochs: 1 or more.
        lr: the learning rate at its highest.
        **options: go to `fit`: loss_fn, val_batches, schedule, ...

    Returns:
        the History of this training.

    Example:
        >>> from imbalkit.models import plain_cnn
        >>> model = plain_cnn(num_classes=2, width=4)
        >>> before = model.classifier.weight.clone()
        >>> batches = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 0, 1, 1]))]
        >>> history = learn_class_scales(model, batches, epochs=1, show_progress=False)
        >>> factors = model.classifier.weight / before
        >>> bool((factors - factors[:, :1]).abs().max() < 1e-4)  # one factor per class
        True
    """
    scaled = ScaledClassifier(model.classifier)
    history = fit_head(model, scaled, batches, epochs, lr, options)
    model.classifier = scaled.folded()
    return history


def fit_head(
    model: Classifier, head: nn.Module, batches: Iterable, epochs: int, lr: float, options: dict
) -> History:
    """`fit` for a head on frozen features."""
    if not (isinstance(lr, Real) and math.isfinite(lr) and lr >= 0):
        raise ValueError(f"lr is {described(lr)}; give a learning rate of 0 or more.")
    optimizer = sgd(head, lr=lr)
    undo = as_it_was(model, head)
    stage2 = nn.Sequential(FrozenFeatures(model.features), head)
    try:
        return fit(stage2, batches, epochs, optimizer=optimizer, **options)
    except (TypeError, ValueError):
        undo()  # the features were put in evaluation mode
        raise


class FrozenFeatures(nn.Module):
    """Features that no longer learn: no gradient, and always in evaluation mode.

    ``requires_grad=False`` alone would not do: in training mode BatchNorm keeps moving its running
    statistics, and the features with them. Derived in lesson 06.

    Args:
        features: images (N, 3, H, W) to vectors (N, width); it is held, not copied.

    Example:
        >>> frozen = FrozenFeatures(nn.BatchNorm2d(3)).train()
        >>> output = frozen(torch.rand(2, 3, 4, 4))
        >>> frozen.features.training, output.requires_grad
        (False, False)
    """

    def __init__(self, features: nn.Module):
        super().__init__()
        self.features = features.eval()

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return self.features(images)

    def train(self, mode: bool = True) -> "FrozenFeatures":
        return super().train(False)


def tau_normalized(classifier: nn.Linear, tau: float = 1.0) -> nn.Linear:
    """A copy with weight vectors ``w_c / |w_c|^tau`` and no bias; nothing is trained.

    Kang et al. 2020, equation 3. Derived in lesson 06.

    Args:
        classifier: the last layer of a trained model; it stays as it is.
        tau: 0 keeps the weights, 1 makes all vectors equally long. Choose it on the validation set.

    Returns:
        an ``nn.Linear`` of the same size, its bias all zero.

    Raises:
        ValueError: a tau that is none, or a weight vector of length 0.

    Example:
        >>> result = tau_normalized(nn.Linear(8, 3), tau=1)
        >>> [round(length, 4) for length in weight_norms(result).tolist()]
        [1.0, 1.0, 1.0]
    """
    if not (isinstance(tau, Real) and math.isfinite(tau)):
        raise ValueError(f"tau is {described(tau)}; give a finite number, from 0 to about 1.")
    lengths = weight_norms(classifier)
    scale = lengths**-tau
    if not scale.isfinite().all():
        raise ValueError(
            f"the weight vector of class {int(lengths.argmin())} has the length "
            f"{float(lengths.min()):.0e}, which cannot be made 1; train the classifier, or take a "
            "smaller tau."
        )
    result = rescaled(classifier, scale)
    if result.bias is not None:
        nn.init.zeros_(result.bias)
    return result


def weight_norms(classifier: nn.Linear) -> Tensor:
    """The length ``|w_c|`` of each class's weight vector.

    Derived in lesson 06.

    Args:
        classifier: a linear layer of C classes.

    Returns:
        floats (C,), without gradient.

    Example:
        >>> classifier = nn.Linear(2, 1)
        >>> classifier.weight.data = torch.tensor([[3.0, 4.0]])
        >>> weight_norms(classifier).tolist()
        [5.0]
    """
    return classifier.weight.detach().norm(dim=1)


__all__ = [
    "FrozenFeatures",
    "deferred",
    "learn_class_scales",
    "retrain_classifier",
    "schedule_part",
    "tau_normalized",
    "weight_norms",
]
