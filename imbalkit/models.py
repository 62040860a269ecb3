"""Small networks for 32x32 images, each in two halves.

`features` turns images into vectors and `classifier` turns vectors into logits, so that a lesson
can train, freeze or replace either half.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.checks import check_whole


class Classifier(nn.Module):
    """A network in two halves: ``classifier(features(images))``.

    Takes images, floats (N, 3, H, W), and gives logits, floats (N, C).

    Args:
        features: images to vectors, floats (N, width).
        width: numbers in a vector.
        num_classes: C.

    Example:
        >>> features = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> model = Classifier(features, width=3, num_classes=10)
        >>> model(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, features: nn.Module, width: int, num_classes: int):
        super().__init__()
        self.features = features
        check_whole(num_classes, "num_classes")
        self.classifier = nn.Linear(check_whole(width, "width"), num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def plain_cnn(num_classes: int = 10, width: int = 32, batchnorm: bool = False) -> Classifier:
    """Three strided convolutions with ReLU: fast, weak, easy to break.

    0.1 M parameters at width 32. The workhorse of lessons 00 to 02.

    Args:
        num_classes: C.
        width: channels of the first convolution; the others have twice and four times as many.
        batchnorm: put a BatchNorm behind each convolution, to show in lesson 02 what it changes.

    Returns:
        an untrained `Classifier`.

    Example:
        >>> plain_cnn(num_classes=10, width=8)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    width = check_whole(width, "width")

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(outputs)] if batchnorm else []
        return [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), *norm, nn.ReLU()]

    features = nn.Sequential(
        *block(3, width), *block(width, 2 * width), *block(2 * width, 4 * width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return Classifier(features, 4 * width, num_classes)


def small_net(num_classes: int = 10, width: int = 32) -> Classifier:
    """A 2x2 stem, then three blocks of convolution, pooling, BatchNorm and ReLU.

    0.3 M parameters at width 32, 74,000 at the width of 16 that most lessons use; the best accuracy
    for its time on two CPU cores. Its shape follows the networks of the CIFAR-10 speed records
    (Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU"), with two changes for
    processors: ReLU in place of GELU, and half the channels in the stem, whose images are largest.

    Args:
        num_classes: C.
        width: channels of the first block; the others have twice and four times as many.

    Returns:
        an untrained `Classifier`.

    Example:
        >>> model = small_net(num_classes=10)
        >>> f"{sum(p.numel() for p in model.parameters()):,}"
        '291,494'
    """

    width = check_whole(width, "width")

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]

    features = nn.Sequential(
        nn.Conv2d(3, 12, 2), nn.ReLU(),
        *block(12, width), *block(width, 2 * width), *block(2 * width, 4 * width),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return Classifier(features, 4 * width, num_classes)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters (option A of He et al. 2016).

    Where the block halves the image, the shortcut takes every second pixel and fills the new
    channels with zeros.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.new_channels = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.new_channels:
            half = self.new_channels // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return F.relu(x + y)


def resnet(depth: int = 32, num_classes: int = 10) -> Classifier:
    """The CIFAR ResNet of He et al. 2016 (section 4.2), widths 16-32-64; depth 6n + 2.

    ResNet-32 has 0.46 M parameters and is the network of nearly every long-tail paper.

    Args:
        depth: 8, 14, 20, 26, 32, ...
        num_classes: C.

    Returns:
        an untrained `Classifier`.

    Raises:
        ValueError: another depth.

    Example:
        >>> model = resnet(32)
        >>> f"{sum(p.numel() for p in model.parameters()):,}"
        '464,154'
    """
    if check_whole(depth, "depth", 0) < 8 or (depth - 2) % 6:
        raise ValueError(f"depth is {depth}; a CIFAR ResNet has depth 6n + 2: 8, 20, 32, 56, ...")
    blocks = []
    for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
        for i in range((depth - 2) // 6):
            first = i == 0 and outputs != inputs
            blocks.append(
                ResidualBlock(inputs if i == 0 else outputs, outputs, stride=2 if first else 1)
            )
    features = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return Classifier(features, 64, num_classes)


class CosineClassifier(nn.Module):
    """Logits are cosines between the features and one vector per class.

    No class can then win by a long vector or a bias. Takes features (N, width) and gives cosines
    (N, C), from -1 to 1. A loss has to multiply them by a scale, as `imbalkit.losses.LDAMLoss`
    does, and so has whoever wants probabilities of the trained model: the softmax of cosines is
    nearly flat. Derived in lesson 09.

    Args:
        width: numbers in a vector.
        num_classes: C.

    Example:
        >>> cosines = CosineClassifier(width=4, num_classes=3)(torch.rand(2, 4))
        >>> cosines.shape, bool((cosines.abs() <= 1).all())
        (torch.Size([2, 3]), True)
    """

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        check_whole(num_classes, "num_classes")
        self.weight = nn.Parameter(torch.empty(num_classes, check_whole(width, "width")))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(F.normalize(features), F.normalize(self.weight))


class ScaledClassifier(nn.Module):
    """A fixed linear classifier whose logits are multiplied by one learnable factor per class.

    Takes features (N, width) and gives logits (N, C). Derived in lesson 06.

    Args:
        classifier: the trained layer; it is copied.

    Example:
        >>> classifier = nn.Linear(4, 3)
        >>> scaled = ScaledClassifier(classifier)
        >>> [name for name, p in scaled.named_parameters() if p.requires_grad]
        ['scale']
        >>> scaled.folded().weight.equal(classifier.weight)  # all factors start at 1
        True
    """

    def __init__(self, classifier: nn.Linear):
        super().__init__()
        self.classifier = copy.deepcopy(classifier).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones_like(classifier.weight[:, 0]))

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(features) * self.scale

    def folded(self) -> nn.Linear:
        """The linear classifier that gives the same logits."""
        return rescaled(self.classifier, self.scale)


def rescaled(classifier: nn.Linear, scale: Tensor) -> nn.Linear:
    """A copy of a linear classifier with each class's logit multiplied by its entry of `scale`.

    Args:
        classifier: a linear layer of C classes; it stays as it is.
        scale: floats (C,).

    Returns:
        an ``nn.Linear`` of the same size.

    Raises:
        ValueError: a scale of another shape.

    Example:
        >>> classifier = nn.Linear(4, 2)
        >>> features = torch.rand(5, 4)
        >>> double = rescaled(classifier, torch.tensor([2.0, 2.0]))
        >>> torch.allclose(double(features), 2 * classifier(features))
        True
    """
    if scale.shape != (classifier.out_features,):
        raise ValueError(
            f"scale has the shape {tuple(scale.shape)} and the classifier {classifier.out_features}"
            " classes; give one number per class."
        )
    if scale.is_complex():
        raise ValueError(f"scale is {scale.dtype}; give real numbers.")
    result = copy.deepcopy(classifier).requires_grad_(True)
    with torch.no_grad():
        result.weight.mul_(scale[:, None])
        if result.bias is not None:
            result.bias.mul_(scale)
    return result


__all__ = [
    "Classifier",
    "CosineClassifier",
    "ScaledClassifier",
    "plain_cnn",
    "rescaled",
    "resnet",
    "small_net",
]
