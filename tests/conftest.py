import os
from functools import cache

import numpy as np
import pytest
import torch

from imbalkit.data import ImageSet

# Many tests compare numbers bit for bit, so they compute on the CPU on every machine. GitHub's Macs
# also name a GPU that cannot hold anything (actions/runner-images#9918). A process that a test
# starts sees no CUDA GPU either; torch has no variable that hides Apple's.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
torch.backends.mps.is_available = cache(lambda: False)  # torch's own is a cached function too


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
