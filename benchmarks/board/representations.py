"""What changes the features: each as it is, with the prior taken out, and with balanced softmax."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from benchmarks.board.bench import Bench, Loss
from benchmarks.board.registry import representation
from imbalkit import multitask, selfsupervised
from imbalkit.augmentation import ColorJitter, Mixup, PasteRare, PerClass, RandomAffine, Remix
from imbalkit.data import RandomFlip
from imbalkit.models import Classifier

PRETRAINING_SHARE = 0.5  # of the budget, on top of it, as the seconds show


def augmented(bench: Bench, loss_fn: Loss, also: list) -> nn.Module:
    return bench.fit(bench.net(), loss_fn, also=also)


@representation("mixup", grid=(0.2, 1.0), lesson="08")
def mixup(bench: Bench, alpha: float, loss_fn: Loss) -> nn.Module:
    return augmented(bench, loss_fn, [Mixup(len(bench.counts), alpha)])


@representation("Remix", grid=(0.2, 1.0), lesson="08")
def remix(bench: Bench, alpha: float, loss_fn: Loss) -> nn.Module:
    return augmented(bench, loss_fn, [Remix(bench.counts, alpha)])


@representation("CutMix")
def cutmix(bench: Bench, _, loss_fn: Loss) -> nn.Module:
    cut = v2.CutMix(num_classes=len(bench.counts))

    def half_the_time(images: Tensor, targets: Tensor, generator) -> tuple[Tensor, Tensor]:
        if torch.rand(()) < 0.5:
            return cut(images, targets)
        return images, nn.functional.one_hot(targets, len(bench.counts)).float()

    return augmented(bench, loss_fn, [half_the_time])


@representation("pasted rare images", lesson="08")
def pasted(bench: Bench, _, loss_fn: Loss) -> nn.Module:
    paste = PasteRare(bench.lab.train, probability=0.5, device=bench.lab.device)
    return augmented(bench, loss_fn, [paste])


def strong(strength: float) -> list:
    return [RandomAffine(15 * strength, 0.1 * strength), ColorJitter(*(0.4 * strength,) * 3)]


@representation("strong augmentation for all", grid=(0.4, 0.8), lesson="08")
def strong_for_all(bench: Bench, share: float, loss_fn: Loss) -> nn.Module:
    return augmented(bench, loss_fn, [PerClass([share] * len(bench.counts), strong(1.0))])


@representation("strong augmentation for the few", grid=(0.5, 1.0), lesson="08")
def strong_for_the_few(bench: Bench, strength: float, loss_fn: Loss) -> nn.Module:
    rarity = [1 - n / max(bench.counts) for n in bench.counts]
    return augmented(bench, loss_fn, [PerClass(rarity, strong(strength))])


def with_second_task(bench: Bench, wrap: Callable, loss: nn.Module, loss_fn: Loss) -> nn.Module:
    """Features with a second head; `loss` takes the tuple of outputs, the classes' logits first."""
    plain = bench.net()
    model = wrap(plain.features, plain.classifier.in_features, len(bench.counts))
    if loss_fn is not bench.balanced_softmax:
        return bench.fit(model, loss)
    log_prior = torch.tensor(bench.counts).float().log().to(bench.lab.device)
    return bench.fit(model, lambda out, targets: loss((out[0] + log_prior, *out[1:]), targets))


@representation("rotation task", grid=(0.1, 0.5), lesson="07")
def rotation_task(bench: Bench, share: float, loss_fn: Loss) -> nn.Module:
    return with_second_task(bench, multitask.WithRotation, multitask.RotationLoss(share), loss_fn)


@representation("difficulty task", grid=(0.1, 0.5), lesson="07")
def difficulty_task(bench: Bench, share: float, loss_fn: Loss) -> nn.Module:
    loss = multitask.DifficultyLoss(share)
    return with_second_task(bench, multitask.WithDifficulty, loss, loss_fn)


def pretraining_epochs(bench: Bench) -> int:
    return max(2, round(PRETRAINING_SHARE * bench.epochs))


@representation("rotation start", lesson="10")
def rotation_start(bench: Bench, _, loss_fn: Loss) -> nn.Module:
    plain = bench.net()
    model = Classifier(plain.features, plain.classifier.in_features, 4)
    turns = [selfsupervised.QuarterTurns()]
    bench.fit(model, also=turns, epochs=pretraining_epochs(bench))
    return bench.fit(selfsupervised.start_from(model, len(bench.counts)), loss_fn)


@representation("contrastive start", lesson="10")
def contrastive_start(bench: Bench, _, loss_fn: Loss) -> nn.Module:
    plain = bench.net()
    width = plain.classifier.in_features
    model = selfsupervised.WithProjection(plain.features, width, len(bench.counts))
    flips = (function for function in bench.lab.augment if isinstance(function, RandomFlip))
    views = [
        selfsupervised.two_views,
        selfsupervised.RandomResizedCrop(),
        ColorJitter(0.4, 0.4, 0.4),
        selfsupervised.RandomGrayscale(),
        *flips,
    ]
    loss = selfsupervised.ContrastiveLoss()
    bench.fit(model, loss, also=views, epochs=pretraining_epochs(bench))
    return bench.fit(selfsupervised.start_from(model, len(bench.counts)), loss_fn)
