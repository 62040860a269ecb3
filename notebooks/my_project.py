"""Stands for your own project, so that the recipes run: data sets and a model.

Your data sets need this: ``data[i]`` is ``(image, class)``, the image a float tensor (3, H, W), and
``data.targets`` lists the classes of all images, whole numbers from 0. Your model gives logits, and
its last layer is called ``fc``, as in torchvision's ResNets.

Here they are scikit-learn's handwritten digits, 135 of the first class and 9 of the last to train
on, and a small network. Each recipe takes a few seconds on them.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Dataset

COUNTS = [135, 100, 74, 55, 41, 30, 22, 16, 12, 9]  # training images of each class
VAL_IMAGES, TEST_IMAGES = 9, 30  # of each class


class Digits(Dataset):
    def __init__(self, images, targets):
        self.images, self.targets = images, targets

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.targets[index]


def load():
    """Long-tailed training images; balanced validation and test images."""
    pixels, labels = load_digits(return_X_y=True)
    grey = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    images = F.interpolate(grey, scale_factor=2).repeat(1, 3, 1, 1)  # (N, 3, 16, 16)
    train, val, test = [], [], []
    for c, count in enumerate(COUNTS):
        of_this_class = np.flatnonzero(labels == c).tolist()
        for part, size in ((test, TEST_IMAGES), (val, VAL_IMAGES), (train, count)):
            part += of_this_class[:size]
            del of_this_class[:size]
    return [Digits(images[part], labels[part].tolist()) for part in (train, val, test)]


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.fc = nn.Linear(32 * 4 * 4, num_classes)

    def forward(self, images):
        return self.fc(self.layers(images))


def make_model():
    """A new model, not trained."""
    return Net()


def trained_model():
    """A model that was trained without any remedy for the imbalance."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(4):
        for images, labels in DataLoader(train_set, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    return model


train_set, val_set, test_set = load()
