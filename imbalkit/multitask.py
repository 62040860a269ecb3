"""A second task on the same features: how hard is this image, or how was it turned?

The models wrap any backbone that yields features. In training mode they return a tuple that starts
with the logits, for their loss; in evaluation mode the logits alone. Derived in lesson 07.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.models import Classifier
from imbalkit.training import predict


class WithDifficulty(Classifier):
    """A classifier and a head that predicts the difficulty of each image, on shared features.

    features: images (N, 3, H, W) to vectors (N, width).
    Training mode: ``(logits (N, C), difficulty (N,))``; evaluation mode: logits.

    After Yoo and Kweon 2019, "Learning loss for active learning", whose head predicts the loss.
    Derived in lesson 07.
    """

    def __init__(self, features: nn.Module, width: int, num_classes: int):
        super().__init__(features, width, num_classes)
        self.difficulty = nn.Sequential(nn.Linear(width, 1), nn.Flatten(0))

    def forward(self, images: Tensor):
        features = self.features(images)
        logits = self.classifier(features)
        return (logits, self.difficulty(features)) if self.training else logits


def difficulty_target(losses: Tensor) -> Tensor:
    """How hard each image is for the model now: its loss, in standard deviations from the batch.

    losses: floats (N,), one loss per image. Returns floats (N,) of mean 0 and deviation 1, without
    gradient: a head that learns them must not change what it measures. Derived in lesson 07.
    """
    losses = losses.detach()
    return (losses - losses.mean()) / (losses.std(correction=0) + 1e-6)


class DifficultyLoss(nn.Module):
    """Cross-entropy plus `share` times the error of the predicted difficulty.

    share: weight of the second task; its error is the Huber loss to `difficulty_target`.
    hard_first: also weigh each image by 1 + sigmoid(predicted difficulty), scaled to mean 1, so
        that images rated hard count up to about twice as much as easy ones.

    Takes the output of `WithDifficulty` in training mode. Derived in lesson 07.
    """

    def __init__(self, share: float = 0.5, hard_first: bool = False):
        super().__init__()
        self.share, self.hard_first = share, hard_first

    def forward(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        logits, predicted = outputs
        losses = F.cross_entropy(logits, targets, reduction="none")
        second_task = F.smooth_l1_loss(predicted, difficulty_target(losses))
        if self.hard_first:
            weights = 1 + predicted.detach().sigmoid()
            losses = losses * weights / weights.mean()
        return losses.mean() + self.share * second_task


def rate_difficulty(
    model: WithDifficulty, batches: Iterable, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The predicted difficulty and the label of each image: float32 (N,) and int64 (N,)."""
    # `predict` puts this half back into the mode it came in: that of the model.
    half = nn.Sequential(model.features, model.difficulty).train(model.training)
    return predict(half, batches, device)


class WithRotation(Classifier):
    """A classifier and a head that tells by how many quarter turns an image was rotated.

    Training mode: the batch passes a second time, each image turned by 0 to 3 quarters at random;
    ``(logits (N, C), rotation logits (N, 4), turns int64 (N,))``. Evaluation mode: logits.

    Gidaris et al. 2018, "Unsupervised representation learning by predicting image rotations".
    Derived in lesson 07.
    """

    def __init__(self, features: nn.Module, width: int, num_classes: int):
        super().__init__(features, width, num_classes)
        self.rotation = nn.Linear(width, 4)

    def forward(self, images: Tensor):
        if not self.training:
            return super().forward(images)
        turns = torch.randint(4, (len(images),), device=images.device)
        features = self.features(torch.cat([images, turned(images, turns)]))
        upright, rotated = features.chunk(2)
        return self.classifier(upright), self.rotation(rotated), turns


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Square images (N, 3, H, H), each rotated by its number of quarter turns, int64 (N,)."""
    for quarter in (1, 2, 3):
        this_many = (turns == quarter).view(-1, 1, 1, 1)
        images = torch.where(this_many, images.rot90(quarter, (2, 3)), images)
    return images


class RotationLoss(nn.Module):
    """Cross-entropy of the classes plus `share` times that of the rotations.

    Takes the output of `WithRotation` in training mode. Derived in lesson 07.
    """

    def __init__(self, share: float = 0.5):
        super().__init__()
        self.share = share

    def forward(self, outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
        logits, rotation_logits, turns = outputs
        return F.cross_entropy(logits, targets) + self.share * F.cross_entropy(
            rotation_logits, turns
        )


__all__ = [
    "DifficultyLoss",
    "RotationLoss",
    "WithDifficulty",
    "WithRotation",
    "difficulty_target",
    "rate_difficulty",
    "turned",
]
