from functools import cache

import numpy as np
import pytest

# torch is imported where it is needed: pytest-xdist's first process reads this file too, runs no
# test, and starts the others only then.


def pytest_collectstart():
    """Before the first test is imported: hide the GPUs.

    Many tests compare numbers bit for bit, so they compute on the CPU on every machine. GitHub's
    Macs also name a GPU that cannot hold anything (actions/runner-images#9918).
    """
    import torch

    torch.cuda.is_available, torch.backends.mps.is_available = no_cuda, no_mps


def no_cuda():
    return False


@cache  # torch's own has a cache too, and torch.compile looks for what is beneath it
def no_mps():
    return False


@pytest.fixture(autouse=True)
def _processes_see_no_gpu(monkeypatch):
    """A process that a test starts sees no CUDA GPU; torch has no variable that hides Apple's.

    The notebooks that run in the same session do see one.
    """
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(autouse=True)
def _seeded():
    import torch

    torch.manual_seed(0)


@pytest.fixture
def tiny_set():
    """60 images of 3 classes (30, 20, 10) that a network can tell apart by their brightness."""
    import torch

    from imbalkit.data import ImageSet

    labels = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    noise = np.random.default_rng(0).integers(0, 60, (60, 32, 32, 3))
    images = torch.from_numpy((noise + 90 * labels.numpy()[:, None, None, None]).astype(np.uint8))
    return ImageSet(images, labels, ("dark", "middle", "bright"), "tiny")
