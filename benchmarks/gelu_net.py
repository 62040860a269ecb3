"""The network with which the leaderboard and the tricks of the fast recipe were measured.

`imbalkit.models.small_net` was this one before it was made faster for processors: it had GELU in
place of ReLU and twice the channels in its stem. So each recorded figure can be measured again.
"""

from torch import nn

from imbalkit.models import Classifier


def gelu_net(num_classes: int = 10, width: int = 32) -> Classifier:
    """A 2x2 stem of 24 channels, then three blocks of convolution, pooling, BatchNorm and GELU."""

    def block(inputs, outputs):
        return [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(outputs),
            nn.GELU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.GELU(),
        ]

    features = nn.Sequential(
        nn.Conv2d(3, 24, 2), nn.GELU(),
        *block(24, width), *block(width, 2 * width), *block(2 * width, 4 * width),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(),
    )  # fmt: skip
    return Classifier(features, 4 * width, num_classes)
