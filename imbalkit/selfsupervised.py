"""Features from images alone: pretraining without labels, for a classifier to start from.

Both ways are a call of `fit`. *Rotation* is a classification whose targets `QuarterTurns` makes.
*Contrastive* learning shows each image twice (`two_views`) and asks which two belong together.
`start_from` makes the classifier that is then trained with labels. Derived in lesson 10.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.augmentation import in_dtype_of, luminance
from imbalkit.checks import check_tensor, check_whole
from imbalkit.models import Classifier
from imbalkit.multitask import rotate_quarters


class QuarterTurns:
    """Turn each image by 0 to 3 quarters at random; the number of turns becomes its target.

    An augmentation for `Batches`: square images (N, 3, H, H), any targets, to turned images and
    int64 (N,) from 0 to 3. A `Classifier` of four classes trained on them needs no label. Put it
    last: the other augmentations are made for upright images.

    Gidaris et al. 2018, "Unsupervised representation learning by predicting image rotations".
    Derived in lesson 10.

    Example:
        >>> images = torch.rand(4, 3, 8, 8)
        >>> turned, turns = QuarterTurns()(images, torch.zeros(4), None)
        >>> turned.equal(rotate_quarters(images, turns))
        True
    """

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        turns = torch.randint(4, (len(images),), generator=generator, device=images.device)
        return rotate_quarters(images, turns), turns


def two_views(
    images: Tensor, targets: Tensor, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Put each image into the batch twice: image i again at N + i.

    An augmentation for `Batches`. Put it first: those after it then change the two copies
    independently, which makes them two views: `RandomResizedCrop`, flips, `ColorJitter` of
    `imbalkit.augmentation`, `RandomGrayscale`.

    Chen et al. 2020, "A simple framework for contrastive learning of visual representations".
    Derived in lesson 10.

    Args:
        images: any dtype, (N, 3, H, W).
        targets: any, (N, ...); they are repeated alike.
        generator: as every augmentation takes it; nothing is drawn.

    Returns:
        images (2N, 3, H, W) and targets (2N, ...).

    Example:
        >>> images, targets = two_views(torch.rand(4, 3, 8, 8), torch.arange(4), None)
        >>> images[0].equal(images[4]), targets.tolist()
        (True, [0, 1, 2, 3, 0, 1, 2, 3])
    """
    if not images.ndim or not targets.ndim:
        raise ValueError("images and targets must be batches; give (N, 3, H, W) and (N, ...).")
    return torch.cat([images, images]), torch.cat([targets, targets])


class RandomResizedCrop:
    """Cut a random square out of each image and enlarge it to the old size, bilinearly.

    An augmentation for `Batches`: uint8 (N, 3, H, W), targets as they are.

    After Szegedy et al. 2015, "Going deeper with convolutions", section 6, with squares only.
    Derived in lesson 10.

    Args:
        smallest: the least share of the image's area that is cut out, above 0 and up to 1; the
            share is drawn uniformly between it and 1. At 1 nothing changes.

    Raises:
        ValueError: another share.

    Example:
        >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> targets = torch.tensor([0, 1])
        >>> crops, _ = RandomResizedCrop(smallest=0.5)(images, targets, None)
        >>> crops.shape, crops.dtype
        (torch.Size([2, 3, 8, 8]), torch.uint8)
    """

    def __init__(self, smallest: float = 0.25):
        if not 0 < smallest <= 1:
            raise ValueError(f"smallest is {smallest}; it is a share above 0 and up to 1.")
        self.smallest = smallest

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        n, device = len(images), images.device
        area = torch.rand(n, generator=generator, device=device)
        side = (self.smallest + (1 - self.smallest) * area).sqrt()
        # In coordinates from -1 to 1: the square's centre may move until it meets the border.
        place = (2 * torch.rand(n, 2, generator=generator, device=device) - 1) * (1 - side)[:, None]
        zoom = torch.eye(2, device=device) * side[:, None, None]
        grid = F.affine_grid(
            torch.cat([zoom, place[:, :, None]], 2), list(images.shape), align_corners=False
        )
        crops = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
        return in_dtype_of(images, crops), targets


class RandomGrayscale:
    """Take the colours out of some images.

    An augmentation for `Batches`: uint8 (N, 3, H, W), targets as they are. As torchvision's
    ``v2.RandomGrayscale``, for a batch at once. Derived in lesson 10.

    Args:
        probability: of an image to become grey, from 0 to 1.

    Raises:
        ValueError: a number that is no probability.

    Example:
        >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> targets = torch.tensor([0, 1])
        >>> grey, _ = RandomGrayscale(probability=1.0)(images, targets, None)
        >>> grey[:, 0].equal(grey[:, 2])
        True
    """

    def __init__(self, probability: float = 0.2):
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; give a number from 0 to 1.")
        self.probability = probability

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        draw = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
        without = in_dtype_of(images, luminance(images.float()))
        return torch.where(draw < self.probability, without, images), targets


class WithProjection(Classifier):
    """A projection head for contrastive learning, and a linear probe that shows its progress.

    Takes images (2N, 3, H, W), pairs as `two_views` makes them. In training mode it gives
    ``(logits (2N, C), projections (2N, size))``, in evaluation mode logits.

    The logits are those of the probe, a linear classifier on the features without gradient: it
    learns from the labels, and the features do not. `fit` then shows how much a linear classifier
    can read from them so far. Without labels give zeros as targets, and ignore the probe.

    Chen et al. 2020. Derived in lesson 10.

    Args:
        features: images to vectors (2N, width).
        width: numbers in a vector.
        num_classes: C.
        size: numbers in a projection; the loss sees these, and not the features.

    Example:
        >>> from imbalkit.models import plain_cnn
        >>> model = WithProjection(plain_cnn(width=4).features, width=16, num_classes=10, size=8)
        >>> logits, projections = model(torch.rand(4, 3, 32, 32))
        >>> logits.shape, projections.shape
        (torch.Size([4, 10]), torch.Size([4, 8]))
    """

    def __init__(self, features: nn.Module, width: int, num_classes: int, size: int = 64):
        super().__init__(features, width, num_classes)
        check_whole(size, "size")
        self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, size))

    def forward(  # type: ignore[override]
        self, images: Tensor
    ) -> Tensor | tuple[Tensor, Tensor]:
        features = self.features(images)
        logits = self.classifier(features.detach())
        return (logits, self.projection(features)) if self.training else logits


def nt_xent(projections: Tensor, temperature: float = 0.5) -> Tensor:
    """Contrastive loss: cross-entropy of finding an image's other view among all others.

    The logits are the cosines between projections, divided by the temperature.

    Chen et al. 2020, equation 1. Derived in lesson 10.

    Args:
        projections: floats (2N, size), those of the same image at i and N + i.
        temperature: above 0; the smaller, the more the most similar wrong images count.

    Returns:
        a scalar; ln(2N - 1) is that of a guess.

    Raises:
        ValueError: an odd number of projections.

    Example:
        >>> round(float(nt_xent(torch.ones(4, 8))), 4)  # all alike: ln 3
        1.0986
    """
    check_tensor(projections, "projections", "(2N, size)", floats=True)
    if len(projections) % 2:
        raise ValueError(
            f"there are {len(projections)} projections, an odd number; give two views of each "
            "image: put two_views first among the augmentations."
        )
    directions = F.normalize(projections)
    similarity = directions @ directions.T / temperature
    itself = torch.eye(len(projections), dtype=torch.bool, device=projections.device)
    partner = torch.arange(len(projections), device=projections.device).roll(len(projections) // 2)
    return F.cross_entropy(similarity.masked_fill(itself, -torch.inf), partner)


class ContrastiveLoss(nn.Module):
    """`nt_xent` of the projections, plus the cross-entropy of the probe.

    Takes the output of `WithProjection` in training mode and class indices, int64 (2N,). The two
    parts share no weight: the features learn from the first alone, the probe from the second alone.
    Derived in lesson 10.

    Args:
        temperature: as in `nt_xent`.

    Raises:
        ValueError: a temperature that is not above 0.

    Example:
        >>> logits, projections = torch.zeros(4, 3), torch.ones(4, 8)
        >>> loss = ContrastiveLoss()((logits, projections), torch.tensor([0, 1, 0, 1]))
        >>> round(float(loss), 4)  # ln 3 for the guess of the pair, ln 3 for that of the class
        2.1972
    """

    def __init__(self, temperature: float = 0.5):
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0.")
        self.temperature = temperature

    def forward(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        logits, projections = outputs
        return nt_xent(projections, self.temperature) + F.cross_entropy(logits, targets)


def start_from(pretrained: Classifier, num_classes: int) -> Classifier:
    """A classifier on a copy of pretrained features, with a new last layer.

    Derived in lesson 10.

    Args:
        pretrained: a `Classifier` of any task; it stays as it is.
        num_classes: C of the new task.

    Returns:
        a `Classifier`.

    Example:
        >>> from imbalkit.models import plain_cnn
        >>> pretrained = plain_cnn(num_classes=4, width=4)
        >>> start_from(pretrained, num_classes=10)(torch.rand(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """
    width = pretrained.classifier.in_features
    return Classifier(copy.deepcopy(pretrained.features), width, num_classes)


__all__ = [
    "ContrastiveLoss",
    "QuarterTurns",
    "RandomGrayscale",
    "RandomResizedCrop",
    "WithProjection",
    "nt_xent",
    "start_from",
    "two_views",
]
