"""Small networks for 32x32 images. Each has `features` (images to vectors) and `classifier`
(vectors to logits), so that a lesson can train, freeze or replace either half."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Classifier(nn.Module):
    """A network in two halves: ``classifier(features(images))``.

    Images float, (N, 3, H, W); features float, (N, width); logits float, (N, C).
    """

    def __init__(self, features: nn.Module, width: int, num_classes: int):
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images))


def plain_cnn(num_classes: int = 10, width: int = 32, batchnorm: bool = False) -> Classifier:
    """Three strided convolutions with ReLU: fast, weak, easy to break.

    0.1 M parameters at width 32. The workhorse of lessons 00 to 02; with `batchnorm` a BatchNorm
    stands behind each convolution, to show in lesson 02 what it changes.
    """

    def block(inputs, outputs):
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
    """

    def block(inputs, outputs):
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
    """
    if depth < 8 or (depth - 2) % 6:
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
    """Logits are cosines between the features and one vector per class: no class can win by a
    long vector or a bias.

    Features (N, width) to cosines (N, C), from -1 to 1. A loss has to multiply them by a scale, as
    `imbalkit.losses.LDAMLoss` does, and so has whoever wants probabilities of the trained model:
    the softmax of cosines is nearly flat. Derived in lesson 09.
    """

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, width))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(F.normalize(features), F.normalize(self.weight))


class ScaledClassifier(nn.Module):
    """A fixed linear classifier whose logits are multiplied by one learnable factor per class.

    Features (N, width) to logits (N, C). Derived in lesson 06.
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
    """A copy of a linear classifier with each class's logit multiplied by its entry of `scale`."""
    result = copy.deepcopy(classifier).requires_grad_(True)
    with torch.no_grad():
        result.weight *= scale[:, None]
        if result.bias is not None:
            result.bias *= scale
    return result


def count_parameters(model: nn.Module) -> int:
    """Number of trainable numbers in the model."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


__all__ = [
    "Classifier",
    "CosineClassifier",
    "ScaledClassifier",
    "count_parameters",
    "plain_cnn",
    "rescaled",
    "resnet",
    "small_net",
]
