import numpy as np
import pytest
import torch

from imbalkit.data import ImageSet


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def tiny_set():
    """60 images of 3 classes (30, 20, 10) that a network can tell apart by their brightness."""
    labels = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    noise = np.random.default_rng(0).integers(0, 60, (60, 32, 32, 3))
    images = torch.from_numpy((noise + 90 * labels.numpy()[:, None, None, None]).astype(np.uint8))
    return ImageSet(images, labels, ("dark", "middle", "bright"), "tiny")
