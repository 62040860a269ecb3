"""A recipe that is fast without a GPU: one network, one function. Derived in lesson 11.

The lesson tells what each trick of it gains. Most tricks come from the speed records on CIFAR-10
(Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"); balanced softmax corrects the
prior.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.augmentation import in_dtype_of
from imbalkit.data import Batches, ImageSet, RandomCrop, RandomFlip, channel_statistics
from imbalkit.data.batches import Augmentation, scale_and_shift
from imbalkit.losses import BalancedSoftmaxLoss
from imbalkit.models import Classifier
from imbalkit.stages import deferred
from imbalkit.training import History, warmup_linear

PATCHES_FROM = 4000  # images that are enough to see how neighbouring pixels go together
AUGMENT = (RandomCrop(4), RandomFlip())
SMALL, SMALL_SHARE = 24, 0.6  # pixels a side at first, and for which share of the epochs


def fast_net(train: ImageSet, width: int = 32) -> Classifier:
    """A whitened 2x2 layer that is not trained, then three blocks of two 3x3 convolutions.

    Like `models.small_net`, with two differences: the first layer, and convolutions that Muon can
    train. Derived in lesson 11.

    Args:
        train: the images whose patches are whitened; the network has one logit for each of its
            classes.
        width: channels of the first block; the others have twice and four times as many. 0.3 M
            parameters at width 32, 1.1 M at 64.

    Returns:
        an untrained `Classifier`.

    Example:
        >>> images = torch.randint(256, (20, 32, 32, 3), dtype=torch.uint8)
        >>> train = ImageSet(images, torch.arange(20) % 2, ("cat", "dog"), "noise")
        >>> fast_net(train, width=4)(torch.rand(3, 3, 32, 32)).shape
        torch.Size([3, 2])
    """

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            MatrixConv2d(inputs, outputs), nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU(),
            MatrixConv2d(outputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(),
        ]  # fmt: skip

    filters = whitening(train.images)
    first = nn.Conv2d(3, len(filters), 2, bias=False)
    first.weight = nn.Parameter(filters, requires_grad=False)
    features = nn.Sequential(
        first, nn.ReLU(),
        *block(len(filters), width), *block(width, 2 * width), *block(2 * width, 4 * width),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return Classifier(features, 4 * width, len(train.classes))


def whitening(images: Tensor, floor: float = 5e-4) -> Tensor:
    """Filters after which the values of a 2x2 patch are uncorrelated and equally large.

    They are the eigenvectors of the patches' covariance, each divided by the square root of its
    eigenvalue, and their negatives, which ReLU would else cut off. Derived in lesson 11.

    Args:
        images: uint8, (N, H, W, 3).
        floor: added to each eigenvalue, so that faint directions are not all noise.

    Returns:
        float32, (24, 3, 2, 2), for images that are normalised with their own `channel_statistics`.

    Example:
        >>> filters = whitening(torch.randint(256, (8, 6, 6, 3), dtype=torch.uint8))
        >>> filters.shape, filters[12:].equal(-filters[:12])
        (torch.Size([24, 3, 2, 2]), True)
    """
    scale, shift = scale_and_shift(*channel_statistics(images))
    some = images[:: -(-len(images) // PATCHES_FROM)].permute(0, 3, 1, 2)
    patches = F.unfold(some * scale + shift, 2).transpose(1, 2).flatten(0, 1)  # (patches, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + floor).sqrt()).T.reshape(-1, 3, 2, 2)
    return torch.cat([filters, -filters])


class MatrixConv2d(nn.Module):
    """A 3x3 convolution with border 1 and no bias, whose weight is kept as a matrix.

    The matrix (outputs, 9 * inputs) is the shape that `torch.optim.Muon` trains. Takes images
    (N, inputs, H, W) and gives (N, outputs, H, W). Derived in lesson 11.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.

    Example:
        >>> layer = MatrixConv2d(3, 5)
        >>> layer.weight.shape, layer(torch.rand(1, 3, 8, 8)).shape
        (torch.Size([5, 27]), torch.Size([1, 5, 8, 8]))
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        weight = nn.Conv2d(inputs, outputs, 3, bias=False).weight
        self.weight = nn.Parameter(weight.detach().flatten(1).clone())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.view(len(self.weight), -1, 3, 3), padding=1)


class CombinedOptimizer(torch.optim.Optimizer):
    """Several optimizers that `fit` takes for one.

    Args:
        *optimizers: each of other parameters.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> for_weight = torch.optim.Adam([model.weight], lr=0.1)
        >>> for_bias = torch.optim.SGD([model.bias], lr=1.0)
        >>> [group["lr"] for group in CombinedOptimizer(for_weight, for_bias).param_groups]
        [0.1, 1.0]
    """

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers
        super().__init__([group for each in optimizers for group in each.param_groups], {})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of each; a closure that computes the loss is not taken."""
        for each in self.optimizers:
            each.step()

    def state_dict(self) -> dict:
        return {"optimizers": [each.state_dict() for each in self.optimizers]}

    def load_state_dict(self, state_dict: dict) -> None:
        for each, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            each.load_state_dict(state)
        self.param_groups = [group for each in self.optimizers for group in each.param_groups]


def muon_and_sgd(model: nn.Module) -> CombinedOptimizer:
    """Muon for the convolutions of a `fast_net`, SGD for its other parameters.

    Muon makes the step of a weight matrix equally large in all of its directions (Jordan et al.
    2024, "Muon: an optimizer for hidden layers in neural networks"). Derived in lesson 11.

    Args:
        model: its convolutions are `MatrixConv2d`.

    Returns:
        one optimizer of both.

    Raises:
        RuntimeError: a torch without Muon, which has been in it since 2.9.

    Example:
        >>> model = nn.Sequential(MatrixConv2d(3, 4), nn.BatchNorm2d(4))
        >>> [type(each).__name__ for each in muon_and_sgd(model).optimizers]
        ['Muon', 'SGD']
    """
    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(
            f"the fast recipe trains with torch.optim.Muon, which torch has from 2.9 on, and this "
            f"is torch {torch.__version__}; install torch 2.9 or newer, or use training.fit."
        )
    matrices = [m.weight for m in model.modules() if isinstance(m, MatrixConv2d)]
    chosen = set(matrices)
    others = [p for p in model.parameters() if p.requires_grad and p not in chosen]
    return CombinedOptimizer(
        torch.optim.Muon(matrices, lr=0.05, momentum=0.9, weight_decay=0.05),
        torch.optim.SGD(others, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    )


class Resize:
    """Bilinear, to `size` pixels a side: an augmentation for `Batches`, behind all others.

    Derived in lesson 11.

    Args:
        size: height and width of what comes out.

    Example:
        >>> images, targets = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1])
        >>> small, _ = Resize(24)(images, targets, None)
        >>> small.shape, small.dtype
        (torch.Size([2, 3, 24, 24]), torch.uint8)
    """

    def __init__(self, size: int):
        self.size = size

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        small = F.interpolate(images.float(), size=(self.size, self.size), mode="bilinear")
        return in_dtype_of(images, small), targets


def fit_fast(
    model: nn.Module,
    train: ImageSet,
    epochs: int,
    augment: Sequence[Augmentation] = AUGMENT,
    show_progress: bool = True,
) -> tuple[History, History]:
    """Train a `fast_net` in place: 60 % of the epochs on images of 24 pixels a side, then on all.

    Balanced softmax corrects the prior, and the learning rate falls in a straight line. Derived in
    lesson 11.

    Args:
        model: from `fast_net`.
        train: the training images.
        epochs: of both parts together, 2 or more.
        augment: as in `Batches`; the default crops and mirrors, which is wrong for digits and text.
        show_progress: show a line with the time left, and a table at the end of each part.

    Returns:
        the Histories of both parts.

    Raises:
        RuntimeError: a torch without Muon, which has been in it since 2.9.

    Example:
        >>> images = torch.randint(256, (20, 32, 32, 3), dtype=torch.uint8)
        >>> train = ImageSet(images, torch.arange(20) % 2, ("cat", "dog"), "noise")
        >>> model = fast_net(train, width=4)
        >>> small, full = fit_fast(model, train, epochs=5, show_progress=False)
        >>> len(small.train), len(full.train)
        (3, 2)
    """
    mean, std = channel_statistics(train.images)
    smaller: list[Augmentation] = [*augment, Resize(SMALL)]
    small = Batches(train, mean=mean, std=std, shuffle=True, augment=smaller)
    full = Batches(train, mean=mean, std=std, shuffle=True, augment=augment)
    balanced_softmax = BalancedSoftmaxLoss(train.class_counts())
    return deferred(
        model,
        small,
        full,
        epochs,
        switch=round(SMALL_SHARE * epochs),
        loss_fn=balanced_softmax,
        late_loss_fn=balanced_softmax,
        optimizer=muon_and_sgd(model),
        schedule=warmup_linear,
        show_progress=show_progress,
    )


class MirrorAveraged(nn.Module):
    """A trained model that also looks at the mirror image: the mean of both logits, (N, C).

    Derived in lesson 11.

    Args:
        model: gives logits (N, C) for images (N, 3, H, W); it is held, not copied.

    Example:
        >>> model = MirrorAveraged(nn.Flatten())
        >>> model(torch.tensor([[[[1.0, 3.0]]]])).tolist()
        [[2.0, 2.0]]
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return (self.model(images) + self.model(images.flip(3))) / 2


class ShiftAveraged(nn.Module):
    """A trained model that also looks at two copies of an image, shifted by one pixel.

    One is shifted up and to the left, the other down and to the right; the answer is the mean of
    three logits, (N, C). With `MirrorAveraged` around it a model looks at six copies. Derived in
    lesson 11.

    Args:
        model: gives logits (N, C) for images (N, 3, H, W); it is held, not copied.

    Example:
        >>> model = ShiftAveraged(lambda images: images[:, 0, 0, :1])  # the pixel at the upper left
        >>> model(torch.arange(9.0).view(1, 1, 3, 3)).tolist()  # 4, 0 and 4 in the three copies
        [[2.6666667461395264]]
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        wide = F.pad(images, (1, 1, 1, 1), mode="reflect")
        copies = (wide[:, :, i : i + height, i : i + width] for i in range(3))
        return sum(self.model(copy) for copy in copies) / 3


__all__ = [
    "CombinedOptimizer",
    "MatrixConv2d",
    "MirrorAveraged",
    "Resize",
    "ShiftAveraged",
    "fast_net",
    "fit_fast",
    "muon_and_sgd",
    "whitening",
]
