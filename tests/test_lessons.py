"""What a notebook shows is what the package has: its from-scratch cells, taken out of the page and
compared with the package on random input."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalkit import (
    augmentation,
    losses,
    metrics,
    multitask,
    priors,
    sampling,
    selfsupervised,
    stages,
)
from imbalkit.data import channel_statistics

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def from_scratch(lesson):
    """The names that the cells tagged `from-scratch` of a lesson define."""
    (path,) = NOTEBOOKS.glob(f"{lesson}_*.ipynb")
    cells = nbformat.read(path, as_version=4).cells
    sources = [c.source for c in cells if "from-scratch" in c.metadata.get("tags", [])]
    assert sources, f"{path.name} has no from-scratch cell"
    names = {"torch": torch, "F": torch.nn.functional}  # imported by the cells before
    exec("\n".join(sources), names)
    return names


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_recall_and_macro_f1_of_lesson_01(classes, images, seed):
    random = np.random.default_rng(seed)
    labels = torch.from_numpy(random.integers(0, classes, images))
    predictions = torch.from_numpy(random.integers(0, classes, images))
    recalls, macro_f1 = from_scratch("01")["recall_and_macro_f1"](labels, predictions, classes)
    expected = metrics.summary(metrics.confusion(labels, predictions, classes))
    assert recalls == pytest.approx(expected["recall"])
    assert macro_f1 == pytest.approx(expected["macro_f1"])


@pytest.mark.parametrize("images", [1, 999, 2500])
def test_one_pass_statistics_of_lesson_02(images):
    random = torch.randint(0, 256, (images, 8, 8, 3), dtype=torch.uint8)
    mean, std = from_scratch("02")["one_pass_statistics"](random)
    expected = channel_statistics(random)
    assert mean.tolist() == pytest.approx(expected[0])
    assert std.tolist() == pytest.approx(expected[1])


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_weighted_cross_entropy_of_lesson_03(classes, images, seed):
    logits, targets, random = random_batch(classes, images, seed)
    weight = 0.1 + 10 * torch.rand(classes, generator=random)
    shown = from_scratch("03")["weighted_cross_entropy"](logits, targets, weight)
    torch.testing.assert_close(shown, losses.WeightedCrossEntropy(weight)(logits, targets))


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(1, 60), st.floats(0, 5), st.integers(0, 2**32 - 1))
def test_focal_loss_of_lesson_04(classes, images, gamma, seed):
    logits, targets, _ = random_batch(classes, images, seed)
    shown = from_scratch("04")["focal_loss"](logits, targets, gamma)
    torch.testing.assert_close(shown, losses.FocalLoss(gamma)(logits, targets))


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.floats(0, 1))
def test_weights_of_images_of_lesson_05(counts, power):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    shown = from_scratch("05")["weights_of_images"](labels, power)
    packaged = sampling.image_weights(labels, sampling.class_shares(counts, power))
    torch.testing.assert_close(shown, packaged)


@given(st.floats(0, 3), st.integers(0, 2**32 - 1))
def test_tau_normalise_of_lesson_06(tau, seed):
    torch.manual_seed(seed)
    classifier = torch.nn.Linear(7, 4)
    shown = from_scratch("06")["tau_normalise"](classifier.weight.detach(), tau)
    packaged = stages.tau_normalized(classifier, tau)
    torch.testing.assert_close(shown, packaged.weight.detach())


@settings(deadline=None)
@given(st.integers(2, 12), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_difficulty_of_lesson_07(classes, images, seed):
    logits, targets, _ = random_batch(classes, images, seed)
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    shown = from_scratch("07")["difficulty"](logits, targets)
    torch.testing.assert_close(shown, multitask.difficulty_target(losses))


def test_class_dependent_augmentation_and_remix_of_lesson_08():
    shown = from_scratch("08")
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=random)
    targets = torch.randint(4, (60,), generator=random)
    probability = torch.tensor([0.0, 0.3, 0.7, 1.0])
    change = augmentation.ColorJitter(0.5)
    ours = shown["per_class"](
        images, targets, probability, change, torch.Generator().manual_seed(1)
    )
    package = augmentation.PerClass(probability, [change])
    torch.testing.assert_close(ours, package(images, targets, torch.Generator().manual_seed(1))[0])
    counts = torch.tensor([900, 300, 100, 5])
    lam, (i, j) = torch.rand(500, generator=random), torch.randint(4, (2, 500), generator=random)
    for kappa, tau in ((3.0, 0.5), (2.0, 0.8)):
        remix = augmentation.Remix(counts, kappa=kappa, tau=tau)
        ours = shown["remix_share"](lam, counts[i], counts[j], kappa, tau)
        torch.testing.assert_close(ours, remix.label_share(lam, i, j))


@settings(deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_adjust_of_lesson_09(counts, seed):
    logits, _, _ = random_batch(len(counts), 20, seed)
    train, test = torch.tensor(counts), torch.tensor(counts[::-1])
    shown = from_scratch("09")["adjust"](logits, train, test)
    torch.testing.assert_close(shown, priors.adjust_logits(logits, train, test))


@settings(deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=2, max_size=12), st.integers(0, 2**32 - 1))
def test_balanced_softmax_of_lesson_09(counts, seed):
    logits, targets, _ = random_batch(len(counts), 20, seed)
    shown = from_scratch("09")["balanced_softmax"](logits, targets, torch.tensor(counts))
    torch.testing.assert_close(shown, losses.LogitAdjustedLoss(counts)(logits, targets))


@settings(deadline=None)
@given(st.integers(2, 20), st.floats(0.05, 5), st.integers(0, 2**32 - 1))
def test_contrastive_loss_of_lesson_10(images, temperature, seed):
    projections = random_batch(8, 2 * images, seed)[0]
    shown = from_scratch("10")["contrastive_loss"](projections, temperature)
    expected = selfsupervised.nt_xent(projections, temperature)
    torch.testing.assert_close(shown, expected, rtol=1e-4, atol=1e-4)


def random_batch(classes, images, seed):
    random = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(images, classes, generator=random)
    return logits, torch.randint(classes, (images,), generator=random), random


def test_a_from_scratch_version_has_at_most_15_lines():
    for path in NOTEBOOKS.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if "from-scratch" in cell.metadata.get("tags", []):
                lines = [line for line in cell.source.splitlines() if line.strip()]
                assert len(lines) <= 15, f"{path.name}: {lines[0]}"
