"""Augmentation that looks at the class: more variety for the classes that have few images.

Everything here is an augmentation for `Batches(augment=...)`: it takes ``(images, targets,
generator)`` and returns ``(images, targets)``. It works on the whole batch, on the device of the
images, draws only from the generator, and never waits for the device. The order matters:

- `PasteRare` first, so that the crop and the flip move a pasted image with its background;
- `RandomAffine`, `ColorJitter` and `PerClass` around them next, on uint8 images;
- `Mixup` or `Remix` last: what comes out is float and has soft targets.

Derived in lesson 08.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from imbalkit.checks import check_no_empty_class, check_tensor
from imbalkit.data.batches import Augmentation
from imbalkit.data.images import ImageSet
from imbalkit.device import pick_device
from imbalkit.optional import optional
from imbalkit.sampling import class_shares, image_weights

DRAWS = 4096  # equally likely values that stand for a Beta distribution


class PerClass:
    """Apply functions to an image with a probability that depends on its class.

    Derived in lesson 08.

    Args:
        probability: one number per class, floats (C,), from 0 (never) to 1 (always). With
            ``1 - n_c / max(n)`` the rarer classes are changed more often; with zeros and ones it is
            a policy, such as "mirror these classes only".
        functions: augmentations that change images one by one, run in order on the chosen images.

    Raises:
        ValueError: numbers that are no probabilities; once called, targets that are mixed already
            (class indices, int64 (B,), are wanted), and functions that mix images: put those behind
            it.

    Example:
        >>> from imbalkit.data import RandomCrop
        >>> only_the_rare = PerClass([0.0, 1.0], [RandomCrop(padding=2)])
        >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> changed, targets = only_the_rare(images, torch.tensor([0, 0]), None)
        >>> changed.equal(images)
        True
    """

    def __init__(self, probability: ArrayLike, functions: Sequence[Augmentation]):
        self.probability = torch.as_tensor(probability, dtype=torch.float32)
        inside = (self.probability >= 0) & (self.probability <= 1)
        if self.probability.ndim != 1 or not inside.all():
            raise ValueError(
                f"probability is {self.probability.tolist()}; give one number from 0 to 1 per "
                "class."
            )
        self.functions = tuple(functions)

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        check_indices(targets, "PerClass")
        draw = torch.rand(len(images), generator=generator, device=images.device)
        chosen = draw < on_device_of(images, self.probability)[targets]
        # All images are changed and the others put back: to pick them out would make a GPU wait.
        changed = images
        for function in self.functions:
            changed, new_targets = function(changed, targets, generator)
            if new_targets is not targets:
                raise ValueError(
                    f"{type(function).__name__} mixes images, which PerClass cannot do for single "
                    "ones; list it behind PerClass."
                )
        return torch.where(chosen[:, None, None, None], changed, images), targets


class RandomAffine:
    """Rotate and shift each image at random; the border is filled by reflection.

    As torchvision's ``v2.RandomAffine(degrees, (translate, translate))``, for a batch at once.
    Derived in lesson 08.

    Args:
        degrees: the largest rotation, either way.
        translate: the largest shift, either way, as a share of height and width.

    Raises:
        ValueError: a number that is negative or not finite.

    Example:
        >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> targets = torch.tensor([0, 1])
        >>> moved, _ = RandomAffine(degrees=15, translate=0.1)(images, targets, None)
        >>> moved.shape, moved.dtype
        (torch.Size([2, 3, 8, 8]), torch.uint8)
    """

    def __init__(self, degrees: float, translate: float = 0.0):
        for name, value in (("degrees", degrees), ("translate", translate)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; give a finite number, 0 or more.")
        self.degrees, self.translate = degrees, translate

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        draw = torch.rand(len(images), 3, generator=generator, device=images.device) * 2 - 1
        height, width = images.shape[2:]
        right, down = draw[:, 1] * self.translate * width, draw[:, 2] * self.translate * height
        return affine(images, draw[:, 0] * self.degrees, right, down), targets


def affine(images: Tensor, degrees: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Images turned counter-clockwise about their centre, then shifted.

    Bilinear, border by reflection. Derived in lesson 08.

    Args:
        images: any dtype, (B, C, H, W).
        degrees: one number per image, floats (B,).
        right: the shift in pixels, floats (B,).
        down: likewise.

    Returns:
        images in their own dtype, (B, C, H, W).

    Example:
        >>> image, zero = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.zeros(1)
        >>> affine(image, degrees=torch.tensor([90.0]), right=zero, down=zero).round().tolist()
        [[[[2.0, 4.0], [1.0, 3.0]]]]
    """
    check_tensor(images, "images", "(B, C, H, W)")
    for name, numbers in (("degrees", degrees), ("right", right), ("down", down)):
        if numbers.shape != images.shape[:1]:
            raise ValueError(
                f"{name} has shape {tuple(numbers.shape)} for {len(images)} images; give one "
                "number for each."
            )
    height, width = images.shape[2:]
    angle = (degrees * (math.pi / 180))[:, None, None]
    # Each new pixel, seen from the centre, before the shift; then turned back to where it was.
    x = torch.arange(width, device=images.device) - (width - 1) / 2 - right[:, None, None]
    y = torch.arange(height, device=images.device) - (height - 1) / 2 - down[:, None, None]
    y = y.transpose(1, 2)
    from_x, from_y = x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()
    grid = torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=-1)
    moved = F.grid_sample(images.float(), grid, padding_mode="reflection", align_corners=False)
    return in_dtype_of(images, moved)


class ColorJitter:
    """Change brightness, contrast and saturation of each image, in that order, at random.

    As torchvision's ``v2.ColorJitter``, which also shuffles the order. Derived in lesson 08.

    Args:
        brightness: the factor is drawn from 1 - x to 1 + x, x from 0 to 1; 0 changes nothing.
        contrast: likewise.
        saturation: likewise.

    Raises:
        ValueError: a number that is not from 0 to 1.

    Example:
        >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> targets = torch.tensor([0, 1])
        >>> ColorJitter()(images, targets, None)[0].equal(images)
        True
    """

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0):
        ranges = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, value in ranges.items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; give a number from 0 to 1.")
        self.ranges = tuple(ranges.values())

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        draw = torch.rand(3, len(images), 1, 1, 1, generator=generator, device=images.device)
        brightness, contrast, saturation = (
            1 + (2 * part - 1) * width for part, width in zip(draw, self.ranges, strict=True)
        )
        pixels = (images.float() * brightness).clamp(0, 255)
        mean = luminance(pixels).mean((1, 2, 3), keepdim=True)
        pixels = torch.lerp(mean, pixels, contrast).clamp(0, 255)
        pixels = torch.lerp(luminance(pixels), pixels, saturation).clamp(0, 255)
        return in_dtype_of(images, pixels), targets


def beta_quantiles(alpha: float) -> Tensor:
    """Equally likely values of Beta(alpha, alpha): float32 (DRAWS,), from low to high."""
    middles = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    if alpha != 1:  # which is uniform
        beta = optional("scipy.stats", "data").beta
        middles = torch.from_numpy(beta.ppf(middles.numpy(), alpha, alpha))
    return middles.float()


class Mixup:
    """Mix each image with another of the batch, and their labels in the same shares.

    x = lambda x_i + (1 - lambda) x_j, y likewise, with one lambda per image, drawn from 4,096
    equally likely values of a Beta distribution. Takes class indices, int64 (B,). Gives float32
    images in the range of the given ones, and targets float32 (B, C) that sum to 1.

    Zhang et al. 2018, "mixup: beyond empirical risk minimization". Derived in lesson 08.

    Args:
        num_classes: C.
        alpha: lambda is drawn from Beta(alpha, alpha); 1 is uniform, a small alpha leaves most
            images nearly as they are.

    Raises:
        ValueError: an alpha that is not above 0; once called, targets that are mixed already.
        ImportError: another alpha than 1 without scipy, which knows the distribution.

    Example:
        >>> images, targets = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 2])
        >>> mixed, soft = Mixup(num_classes=3)(images, targets, None)
        >>> mixed.dtype, soft.shape, soft.sum(1).tolist()
        (torch.float32, torch.Size([2, 3]), [1.0, 1.0])
    """

    def __init__(self, num_classes: int, alpha: float = 1.0):
        if not 0 < alpha < math.inf:
            raise ValueError(f"alpha is {alpha}; it must be above 0 and finite.")
        self.num_classes = num_classes
        self.lambdas = beta_quantiles(alpha)

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        soft = one_hot(targets, self.num_classes, type(self).__name__)
        n, device = len(images), images.device
        partner = torch.randperm(n, generator=generator, device=device)
        draw = torch.randint(DRAWS, (n,), generator=generator, device=device)
        lam = on_device_of(images, self.lambdas)[draw]
        images = images.float()
        mixed = torch.lerp(images[partner], images, lam[:, None, None, None])
        share = self.label_share(lam, targets, targets[partner])
        return mixed, torch.lerp(soft[partner], soft, share[:, None])

    def label_share(self, lam: Tensor, targets: Tensor, partners: Tensor) -> Tensor:
        """The share of each image's own label: (B,)."""
        return lam


class Remix(Mixup):
    """Mixup whose label goes wholly to the rarer class where the two differ much in size.

    With n_i and n_j images of the two classes and lambda the share of image i, the label's share
    is 0 if n_i / n_j >= kappa and lambda < tau, 1 if n_i / n_j <= 1 / kappa and 1 - lambda < tau,
    else lambda.

    Chou et al. 2020, "Remix: rebalanced mixup", equation 4. Derived in lesson 08.

    Args:
        counts: training images n_c of each class, integers (C,), all above 0.
        alpha: as in `Mixup`.
        kappa: from which ratio on the classes count as rare and frequent, above 1.
        tau: below which share the frequent image loses its label; 0 is mixup.

    Raises:
        ValueError: a class without an image, a kappa that is not above 1, and as `Mixup`.

    Example:
        >>> remix = Remix(counts=[900, 10], tau=1.0)
        >>> frequent, rare = torch.tensor([0]), torch.tensor([1])
        >>> remix.label_share(torch.tensor([0.8]), frequent, partners=rare).tolist()
        [0.0]
    """

    def __init__(self, counts: ArrayLike, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5):
        self.counts = torch.from_numpy(check_no_empty_class(counts, "ratio")).float()
        super().__init__(len(self.counts), alpha)
        if not kappa > 1:
            raise ValueError(f"kappa is {kappa}; it must be above 1.")
        self.kappa, self.tau = kappa, tau

    def label_share(self, lam: Tensor, targets: Tensor, partners: Tensor) -> Tensor:
        counts = on_device_of(lam, self.counts)
        ratio = counts[targets] / counts[partners]
        lam_y = lam.masked_fill((ratio >= self.kappa) & (lam < self.tau), 0.0)
        return lam_y.masked_fill((ratio <= 1 / self.kappa) & (1 - lam < self.tau), 1.0)


class PasteRare:
    """Paste a box of another image, mostly of a rare class, on an image of the batch.

    The background keeps its share of the label by area. The box has a uniformly drawn area and
    centre, and is cut off at the border, as in CutMix. Takes class indices, int64 (B,). Gives
    images in their own dtype, and targets float32 (B, C) that sum to 1. List it before crops and
    flips, which then move both together.

    Park et al. 2022, "The majority can help the minority: context-rich minority oversampling for
    long-tailed classification" (CMO), which draws once for a batch whether to paste. Derived in
    lesson 08.

    Args:
        image_set: where the pasted images come from: the training images.
        power: classes are pasted in the shares n_c^power. -1 is inverse frequency; 0 gives every
            class the same share, as the authors' code does.
        probability: of pasting something on an image.
        device: where the images are kept; that of the batches.

    Raises:
        ValueError: a probability that is none; once called, targets that are mixed already, and
            images of another size than those to paste.

    Example:
        >>> images = torch.randint(256, (4, 8, 8, 3), dtype=torch.uint8)
        >>> train = ImageSet(images, torch.tensor([0, 0, 0, 1]), ("cat", "dog"), "noise")
        >>> paste = PasteRare(train, device=torch.device("cpu"))
        >>> pasted, soft = paste(images.permute(0, 3, 1, 2), train.labels, None)
        >>> pasted.dtype, soft.shape
        (torch.uint8, torch.Size([4, 2]))
    """

    def __init__(
        self,
        image_set: ImageSet,
        power: float = -1.0,
        probability: float = 0.5,
        device: torch.device | None = None,
    ):
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}; give a number from 0 to 1.")
        device = device or pick_device()
        self.images, self.labels = image_set.images.to(device), image_set.labels.to(device)
        self.probability, self.num_classes = probability, len(image_set.classes)
        shares = class_shares(image_set.class_counts(), power)
        bounds = image_weights(image_set.labels, shares).cumsum(0)
        self.bounds = (bounds / bounds[-1]).float().to(device)  # image i between bounds i - 1 and i

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        soft = one_hot(targets, self.num_classes, "PasteRare")
        n, _, height, width = images.shape
        if self.images.shape[1:3] != (height, width):
            raise ValueError(
                f"PasteRare has images of {self.images.shape[1]} x {self.images.shape[2]} pixels "
                f"for a batch of {height} x {width}; list it before what changes the size."
            )
        draw = torch.rand(5, n, generator=generator, device=images.device)
        drawn = torch.searchsorted(self.bounds, draw[0].contiguous(), right=True)
        drawn = drawn.clamp(max=len(self.labels) - 1)
        side = draw[1].sqrt()  # of the box, as a share: its area is then uniform
        box = (
            pixels_within(height, draw[2], side)[:, :, None]
            & pixels_within(width, draw[3], side)[:, None, :]
        )
        box = box & (draw[4] < self.probability)[:, None, None]
        pasted = self.images[drawn].permute(0, 3, 1, 2).to(images.dtype)
        area = box.float().mean((1, 2))[:, None]
        pasted_soft = one_hot(self.labels[drawn], self.num_classes, "PasteRare")
        return torch.where(box[:, None], pasted, images), torch.lerp(soft, pasted_soft, area)


def pixels_within(length: int, center: Tensor, side: Tensor) -> Tensor:
    """Which of `length` pixels lie in a stretch around `center`: bool (B, length).

    Args:
        length: pixels in a line.
        center: shares of the length, floats (B,).
        side: shares of the length, floats (B,).
    """
    pixel = (torch.arange(length, device=center.device) + 0.5) / length
    return (pixel - center[:, None]).abs() < side[:, None] / 2


def one_hot(targets: Tensor, num_classes: int, who: str) -> Tensor:
    """Class indices (B,) as float32 (B, C)."""
    check_indices(targets, who)
    soft = torch.zeros(len(targets), num_classes, device=targets.device)
    return soft.scatter(1, targets[:, None], 1.0)


def check_indices(targets: Tensor, who: str) -> None:
    """Raise ValueError unless the targets are class indices, not yet mixed."""
    if targets.ndim != 1:
        raise ValueError(
            f"{who} takes class indices (B,), and the targets have shape {tuple(targets.shape)}: "
            "they are mixed already; list it before the function that mixes, or use one of the two."
        )


def luminance(pixels: Tensor) -> Tensor:
    """Brightness of RGB images as the eye sees it: (B, 1, H, W)."""
    red, green, blue = pixels.split(1, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def in_dtype_of(images: Tensor, pixels: Tensor) -> Tensor:
    """Float pixels in the dtype of `images`; uint8 is rounded, not cut off."""
    return pixels.round().to(images.dtype) if images.dtype == torch.uint8 else pixels


def on_device_of(images: Tensor, table: Tensor) -> Tensor:
    """A small table on the device of the images."""
    return table.to(images.device, non_blocking=True)


__all__ = [
    "ColorJitter",
    "Mixup",
    "PasteRare",
    "PerClass",
    "RandomAffine",
    "Remix",
    "affine",
]
