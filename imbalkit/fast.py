"""A recipe that is fast without a GPU: one network, one function. Derived in lesson 11.

The lesson tells what each trick of it gains. Most tricks come from the speed records on CIFAR-10
(Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"); balanced softmax corrects the
prior.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.augmentation import in_dtype_of
from imbalkit.checks import check_tensor, check_whole
from imbalkit.data import Batches, ImageSet, RandomCrop, RandomFlip, channel_statistics
from imbalkit.data.batches import Augmentation, scale_and_shift
from imbalkit.history import History
from imbalkit.losses import BalancedSoftmaxLoss
from imbalkit.models import Classifier
from imbalkit.stages import deferred
from imbalkit.training import warmup_linear

PATCHES_FROM = 4000  # images that are enough to see how neighbouring pixels go together
AUGMENT = (RandomCrop(4), RandomFlip())
SMALL, SMALL_SHARE = 24, 0.6  # pixels a side at first, and for which share of the epochs


def fast_net(train: ImageSet, width: int = 32) -> Classifier:
    """A whitened 2x2 layer that is not trained, then three blocks of two 3x3 convolutions.

    Like `models.small_net`, but for the first layer. Derived in lesson 11.

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

    width = check_whole(width, "width")

    def conv(inputs: int, outputs: int) -> nn.Conv2d:
        return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            conv(inputs, outputs), nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU(),
            conv(outputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(),
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


class Muon(torch.optim.Optimizer):
    """Gradient descent whose step is equally large in all directions of a weight matrix.

    Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". A convolution
    (outputs, inputs, height, width) counts as the matrix (outputs, inputs * height * width).
    `torch.optim.Muon` takes the same steps; it wants matrices, and it always computes in bfloat16,
    which a processor without it emulates slowly. Derived in lesson 11.

    Args:
        params: weights of two dimensions or more.
        lr: the learning rate.
        momentum: of the mean of earlier gradients, 0..1.
        weight_decay: the share of a weight that one step takes away, divided by `lr`.

    Example:
        >>> layer = nn.Linear(3, 2, bias=False)
        >>> optimizer = Muon(layer.parameters(), lr=0.1)
        >>> layer(torch.ones(1, 3)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 0.05,
    ):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        for name, value in defaults.items():
            if not (0 <= value <= (1 if name == "momentum" else 1e6)):
                raise ValueError(f"{name} is {value}; give 0 or more, and a momentum of at most 1.")
        super().__init__(check_some_parameters(params), defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; a closure that computes the loss is not taken."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step(weight, weight.grad, group)

    def _step(self, weight: Tensor, gradient: Tensor, group: dict) -> None:
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(gradient)
        mean = state["mean"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(mean, group["momentum"])  # Nesterov
        update = orthogonal(ahead.flatten(1))
        rows, columns = update.shape
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        size = group["lr"] * max(1, rows / columns) ** 0.5
        weight.add_(update.view(weight.shape), alpha=-size)


def check_some_parameters(params: Iterable[Any]) -> list[Any]:
    """The parameters as a list, or a sentence where there are none."""
    params = list(params)
    if not params:
        raise ValueError("there is no parameter to train; give those of the model.")
    return params


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with all singular values brought to about 1 (0.68 to 1.14).

    Five steps of Newton and Schulz, with the coefficients of Jordan et al. 2024. A value below a
    hundredth of the matrix's norm stays smaller. Derived in lesson 11.

    Args:
        matrix: floats (rows, columns).

    Returns:
        floats of the same shape.

    Example:
        >>> values = orthogonal(torch.tensor([[4.0, 0.0], [0.0, 1.0]])).diag()
        >>> [round(value, 2) for value in values.tolist()]
        [0.74, 0.74]
    """
    check_tensor(matrix, "matrix", "(rows, columns)", floats=True)
    rows, columns = matrix.shape
    if rows > columns:
        return orthogonal(matrix.T).T  # the products are then of the smaller side
    x = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


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
        groups = [group for each in optimizers for group in each.param_groups]
        super().__init__(check_some_parameters(groups), {})

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
    """Muon for the convolutions of a model, SGD for its other parameters.

    Derived in lesson 11.

    Args:
        model: what of it is trained has `requires_grad`.

    Returns:
        one optimizer of both.

    Example:
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        >>> [type(each).__name__ for each in muon_and_sgd(model).optimizers]
        ['Muon', 'SGD']
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    convolutions = [p for p in trained if p.ndim == 4]
    others = [p for p in trained if p.ndim != 4]
    return CombinedOptimizer(
        Muon(convolutions, lr=0.05, momentum=0.9, weight_decay=0.05),
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
    "MirrorAveraged",
    "Muon",
    "Resize",
    "ShiftAveraged",
    "fast_net",
    "fit_fast",
    "muon_and_sgd",
    "orthogonal",
    "whitening",
]
