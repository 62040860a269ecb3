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

    In training mode it gives ``(logits (N, C), difficulty (N,))``, in evaluation mode logits.

    After Yoo and Kweon 2019, "Learning loss for active learning", whose head predicts the loss.
    Derived in lesson 07.

    Args:
        features: images (N, 3, H, W) to vectors (N, width).
        width: numbers in a vector.
        num_classes: C.

    Example:
        >>> from imbalkit.models import plain_cnn
        >>> model = WithDifficulty(plain_cnn(width=4).features, width=16, num_classes=10)
        >>> logits, difficulty = model(torch.rand(2, 3, 32, 32))
        >>> logits.shape, difficulty.shape, model.eval()(torch.rand(2, 3, 32, 32)).shape
        (torch.Size([2, 10]), torch.Size([2]), torch.Size([2, 10]))
    """

    def __init__(self, features: nn.Module, width: int, num_classes: int):
        super().__init__(features, width, num_classes)
        self.difficulty = nn.Sequential(nn.Linear(width, 1), nn.Flatten(0))

    def forward(  # type: ignore[override]
        self, images: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        features = self.features(images)
        logits = self.classifier(features)
        return (logits, self.difficulty(features)) if self.training else logits


def difficulty_target(losses: Tensor) -> Tensor:
    """How hard each image is for the model now: its loss, in standard deviations from the batch.

    Without gradient: a head that learns them must not change what it measures. Derived in lesson
    07.

    Args:
        losses: floats (N,), one loss per image.

    Returns:
        floats (N,) of mean 0 and deviation 1.

    Example:
        >>> [round(hard, 3) for hard in difficulty_target(torch.tensor([1.0, 3.0])).tolist()]
        [-1.0, 1.0]
    """
    losses = losses.detach()
    return (losses - losses.mean()) / (losses.std(correction=0) + 1e-6)


class DifficultyLoss(nn.Module):
    """Cross-entropy plus `share` times the error of the predicted difficulty.

    Takes the output of `WithDifficulty` in training mode and class indices, int64 (N,). Derived in
    lesson 07.

    Args:
        share: weight of the second task; its error is the Huber loss to `difficulty_target`.
        hard_first: also weigh each image by 1 + sigmoid(predicted difficulty), scaled to mean 1, so
            that images rated hard count up to about twice as much as easy ones.

    Example:
        >>> logits, difficulty = torch.zeros(2, 3), torch.zeros(2)
        >>> loss = DifficultyLoss()((logits, difficulty), torch.tensor([0, 1]))
        >>> bool(loss.isclose(torch.tensor(3.0).log()))  # no image is harder than the other
        True
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
    """The predicted difficulty and the label of each image.

    Derived in lesson 07.

    Args:
        model: trained; it stays in its mode.
        batches: ``(images, targets)``, as `training.predict` takes them.
        device: where to compute; the best there is unless given.

    Returns:
        float32 (N,) and int64 (N,), on the CPU.

    Example:
        >>> from imbalkit.models import plain_cnn
        >>> model = WithDifficulty(plain_cnn(width=4).features, width=16, num_classes=10)
        >>> batches = [(torch.rand(2, 3, 32, 32), torch.tensor([3, 5]))]
        >>> difficulty, labels = rate_difficulty(model, batches)
        >>> difficulty.shape, labels.tolist()
        (torch.Size([2]), [3, 5])
    """
    # `predict` puts this half back into the mode it came in: that of the model.
    half = nn.Sequential(model.features, model.difficulty).train(model.training)
    return predict(half, batches, device)


class WithRotation(Classifier):
    """A classifier and a head that tells by how many quarter turns an image was rotated.

    In training mode the batch passes a second time, each image turned by 0 to 3 quarters at
    random, and the output is ``(logits (N, C), rotation logits (N, 4), turns int64 (N,))``. In
    evaluation mode it is logits.

    Gidaris et al. 2018, "Unsupervised representation learning by predicting image rotations".
    Derived in lesson 07.

    Args:
        features: square images (N, 3, H, H) to vectors (N, width).
        width: numbers in a vector.
        num_classes: C.

    Example:
        >>> from imbalkit.models import plain_cnn
        >>> model = WithRotation(plain_cnn(width=4).features, width=16, num_classes=10)
        >>> [tuple(output.shape) for output in model(torch.rand(2, 3, 32, 32))]
        [(2, 10), (2, 4), (2,)]
    """

    def __init__(self, features: nn.Module, width: int, num_classes: int):
        super().__init__(features, width, num_classes)
        self.rotation = nn.Linear(width, 4)

    def forward(  # type: ignore[override]
        self, images: Tensor
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        if not self.training:
            return super().forward(images)
        turns = torch.randint(4, (len(images),), device=images.device)
        features = self.features(torch.cat([images, rotate_quarters(images, turns)]))
        upright, rotated = features.chunk(2)
        return self.classifier(upright), self.rotation(rotated), turns


def rotate_quarters(images: Tensor, turns: Tensor) -> Tensor:
    """Square images, each rotated counter-clockwise by its number of quarter turns.

    Derived in lesson 07.

    Args:
        images: any dtype, (N, 3, H, H).
        turns: int64 (N,), from 0 to 3.

    Returns:
        images as they came, (N, 3, H, H).

    Raises:
        ValueError: they are not square.

    Example:
        >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
        >>> rotate_quarters(image, torch.tensor([1])).tolist()
        [[[[2, 4], [1, 3]]]]
    """
    height, width = images.shape[2:]
    if height != width:
        raise ValueError(
            f"images of {height} x {width} pixels do not fit their place after a quarter turn; "
            "crop them to squares."
        )
    for quarter in (1, 2, 3):
        this_many = (turns == quarter).view(-1, 1, 1, 1)
        images = torch.where(this_many, images.rot90(quarter, (2, 3)), images)
    return images


class RotationLoss(nn.Module):
    """Cross-entropy of the classes plus `share` times that of the rotations.

    Takes the output of `WithRotation` in training mode and class indices, int64 (N,). Derived in
    lesson 07.

    Args:
        share: weight of the second task.

    Example:
        >>> outputs = torch.zeros(2, 3), torch.zeros(2, 4), torch.tensor([0, 3])
        >>> loss = RotationLoss(share=0.5)(outputs, torch.tensor([0, 1]))
        >>> round(float(loss), 4)  # ln 3 + 0.5 ln 4
        1.7918
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
    "rotate_quarters",
]
