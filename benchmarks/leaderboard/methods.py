"""The methods, in the words of the lessons: each is a generator of trained models.

A method takes the bench and one of its settings, and yields ``(row's name, model)``: first the
model it trained, then what follows from that model at little or no cost. The grid holds the
settings among which the validation images choose.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.leaderboard.cell import Bench
from benchmarks.shared import Rounds, Times, with_prior_removed
from imbalkit import multitask, sampling, selfsupervised, stages, weights
from imbalkit.augmentation import ColorJitter, Mixup, PasteRare, PerClass, RandomAffine, Remix
from imbalkit.data import RandomFlip
from imbalkit.losses import FocalLoss, LDAMLoss, LogitAdjustedLoss, WeightedCrossEntropy
from imbalkit.models import Classifier, CosineClassifier

TAUS = (0.5, 1.0, 1.5, 2.0, 3.0)
STAGE_2_EPOCHS = 2
PRETRAINING_EPOCHS = 5  # on top of the budget, as the seconds show


@dataclass(frozen=True)
class Method:
    """train: ``(bench, setting)`` to rows. grid: settings to choose from. lesson: explains it."""

    train: Callable[[Bench, float | str | None], Iterator[tuple[str, nn.Module]]]
    lesson: str
    grid: tuple = (None,)


def cross_entropy(bench: Bench, _):
    """No remedy, and the remedies that start from a trained model (lessons 06 and 09)."""
    model = bench.net()
    bench.fit(model, bench.batches())
    yield "cross-entropy", model

    adjusted = [with_prior_removed(model, bench.counts, tau) for tau in TAUS]
    yield "logit adjustment after training", max(adjusted, key=bench.score)

    normalised = []
    for tau in TAUS:
        normalised.append(copy.deepcopy(model))
        normalised[-1].classifier = stages.tau_normalized(model.classifier, tau)
    yield "tau-normalisation", max(normalised, key=bench.score)

    balanced = bench.batches(sampling.weighted_sampler(bench.lab.train.labels))
    options = {"epochs": STAGE_2_EPOCHS, "show_progress": False}
    for name, mend in (
        ("new classifier (cRT)", stages.retrain_classifier),
        ("class scales (LWS)", stages.learn_class_scales),
    ):
        torch.manual_seed(bench.seed)
        mended = copy.deepcopy(model)
        mend(mended, balanced, val_batches=bench.validation(), **options)
        yield name, mended


def with_loss(name: str, make_loss: Callable, also: Callable = lambda bench, setting: ()):
    """A method that trains with another loss; `also` gives further augmentations."""

    def train(bench: Bench, setting):
        model = bench.net()
        batches = bench.batches(also=also(bench, setting))
        bench.fit(model, batches, loss_fn=make_loss(bench.counts, setting))
        yield name, model

    return train


def cross_entropy_loss(counts, _):
    return WeightedCrossEntropy()


def with_sampler(name: str, make_sampler: Callable):
    """A method that trains on other batches: as many images an epoch as there are."""

    def train(bench: Bench, _):
        model = bench.net()
        labels = bench.lab.train.labels
        sampler = make_sampler(labels, bench.counts, bench.epochs)
        bench.fit(model, bench.batches(Rounds(sampler, len(labels))))
        yield name, model

    return train


def over_sampling(labels, counts, epochs):
    return sampling.CountSampler(labels, [max(counts)] * len(counts))


def under_sampling(labels, counts, epochs):
    return sampling.CountSampler(labels, [min(counts)] * len(counts))


def deferred_weights(bench: Bench, share: float):
    loss = WeightedCrossEntropy(weights.effective_number(bench.counts))
    yield "late weights (DRW)", deferred(bench, share, late_loss_fn=loss)


def deferred_sampling(bench: Bench, share: float):
    late = bench.batches(sampling.weighted_sampler(bench.lab.train.labels))
    yield "late sampling (DRS)", deferred(bench, share, late_batches=late)


def ldam_drw(bench: Bench, scale: float):
    model = bench.net()
    model.classifier = CosineClassifier(model.classifier.in_features, len(bench.counts))
    late = LDAMLoss(bench.counts, scale=scale, weight=weights.effective_number(bench.counts))
    early = LDAMLoss(bench.counts, scale=scale)
    deferred(bench, 0.8, model, loss_fn=early, late_loss_fn=late)
    yield "LDAM-DRW", nn.Sequential(model, Times(scale))  # cosines alone are no logits


def deferred(bench: Bench, share: float, model=None, also=(), late_batches=None, **losses):
    """One training that changes after a share of its epochs; the late part picks the epoch."""
    model = model or bench.net()
    batches = bench.batches(also=also)
    switch = round(share * bench.epochs)
    options = {"val_batches": bench.validation(), "show_progress": False} | losses
    late_batches = late_batches or batches
    _, late = stages.deferred(model, batches, late_batches, bench.epochs, switch, **options)
    bench.best_epoch = switch + late.best_epoch
    return model


def second_task(name: str, make_model: Callable, loss_fn: nn.Module):
    """A method that learns something else besides, on the same features."""

    def train(bench: Bench, share: float):
        plain = bench.net()
        classes = len(bench.counts)
        model = make_model(plain.features, plain.classifier.in_features, classes)
        bench.fit(model, bench.batches(), loss_fn=loss_fn(share))
        yield name, model

    return train


def mixup(bench: Bench, alpha: float):
    return [Mixup(len(bench.counts), alpha)]


def remix(bench: Bench, alpha: float):
    return [Remix(bench.counts, alpha)]


def for_the_few(bench: Bench, strength: float):
    """Rotations, shifts and colours, the more often the rarer the class (lesson 08)."""
    rarity = [1 - n / max(bench.counts) for n in bench.counts]
    stronger = [
        RandomAffine(15 * strength, 0.1 * strength),
        ColorJitter(*(0.4 * strength,) * 3),
    ]
    return [PerClass(rarity, stronger)]


def pasted(bench: Bench, probability: float):
    return [PasteRare(bench.lab.train, probability=probability, device=bench.lab.device)]


def pretrained(name: str, pretrain: Callable):
    """A method that first learns features from the images alone (lesson 10)."""

    def train(bench: Bench, _):
        model = selfsupervised.start_from(pretrain(bench), len(bench.counts))
        bench.fit(model, bench.batches())
        yield name, model

    return train


def on_rotations(bench: Bench):
    plain = bench.net()
    model = Classifier(plain.features, plain.classifier.in_features, 4)
    batches = bench.batches(also=[selfsupervised.QuarterTurns()])
    bench.fit(model, batches, PRETRAINING_EPOCHS, val_batches=None)
    return model


def on_views(bench: Bench):
    plain = bench.net()
    model = selfsupervised.WithProjection(
        plain.features, plain.classifier.in_features, len(bench.counts)
    )
    views = [
        selfsupervised.two_views,
        selfsupervised.RandomResizedCrop(),
        ColorJitter(0.4, 0.4, 0.4),
        selfsupervised.RandomGrayscale(),
        *(function for function in bench.lab.augment if isinstance(function, RandomFlip)),
    ]
    batches = bench.lab.train_batches(augment=views)
    loss_fn = selfsupervised.ContrastiveLoss()
    bench.fit(model, batches, PRETRAINING_EPOCHS, loss_fn=loss_fn, val_batches=None)
    return model


COMBINATIONS = {
    # name: (loss of the counts or None, augmentations, late balanced batches?)
    "balanced softmax, mixup 0.2": (LogitAdjustedLoss, lambda bench: mixup(bench, 0.2), False),
    "balanced softmax, mixup 1": (LogitAdjustedLoss, lambda bench: mixup(bench, 1.0), False),
    "balanced softmax, for the few": (
        LogitAdjustedLoss, lambda bench: for_the_few(bench, 1.0), False,
    ),
    "balanced softmax, pasting": (LogitAdjustedLoss, lambda bench: pasted(bench, 0.5), False),
    "late sampling, mixup 0.2": (None, lambda bench: mixup(bench, 0.2), True),
    "late sampling, for the few": (None, lambda bench: for_the_few(bench, 1.0), True),
}  # fmt: skip


def combination(bench: Bench, name: str):
    """Loss or sampling together with augmentation; the validation images choose which."""
    make_loss, augment, late = COMBINATIONS[name]
    also = augment(bench)
    if late:
        batches = bench.batches(sampling.weighted_sampler(bench.lab.train.labels), also)
        yield "correction and augmentation", deferred(bench, 0.8, also=also, late_batches=batches)
        return
    model = bench.net()
    bench.fit(model, bench.batches(also=also), loss_fn=make_loss(bench.counts))
    yield "correction and augmentation", model


METHODS = {
    "cross-entropy": Method(cross_entropy, "01"),
    "balanced-weights": Method(
        with_loss(
            "balanced weights", lambda counts, _: WeightedCrossEntropy(weights.balanced(counts))
        ),
        "03",
    ),
    "square-root-weights": Method(
        with_loss(
            "square-root weights",
            lambda counts, _: WeightedCrossEntropy(weights.square_root(counts)),
        ),
        "03",
    ),
    "effective-number": Method(
        with_loss(
            "effective-number weights",
            lambda counts, beta: WeightedCrossEntropy(weights.effective_number(counts, beta)),
        ),
        "03",
        (0.99, 0.999, 0.9999),
    ),
    "focal": Method(
        with_loss("focal loss", lambda counts, gamma: FocalLoss(gamma)), "04", (0.5, 1.0, 2.0)
    ),
    "over-sampling": Method(with_sampler("over-sampling", over_sampling), "05"),
    "under-sampling": Method(with_sampler("under-sampling", under_sampling), "05"),
    "square-root-sampling": Method(
        with_sampler(
            "square-root sampling",
            lambda labels, counts, epochs: sampling.weighted_sampler(labels, power=0.5),
        ),
        "05",
    ),
    "balanced-sampling": Method(
        with_sampler(
            "balanced sampling",
            lambda labels, counts, epochs: sampling.weighted_sampler(labels),
        ),
        "05",
    ),
    "progressive-sampling": Method(
        with_sampler(
            "progressive sampling",
            lambda labels, counts, epochs: sampling.ProgressiveSampler(labels, epochs),
        ),
        "05",
    ),
    "DRW": Method(deferred_weights, "06", (0.6, 0.8)),
    "DRS": Method(deferred_sampling, "06", (0.6, 0.8)),
    "LDAM-DRW": Method(ldam_drw, "09", (10.0, 20.0, 30.0)),
    "balanced-softmax": Method(
        with_loss("balanced softmax", lambda counts, _: LogitAdjustedLoss(counts)), "09"
    ),
    "difficulty": Method(
        second_task("difficulty task", multitask.WithDifficulty, multitask.DifficultyLoss),
        "07",
        (0.1, 0.5),
    ),
    "rotation": Method(
        second_task("rotation task", multitask.WithRotation, multitask.RotationLoss),
        "07",
        (0.1, 0.5),
    ),
    "mixup": Method(with_loss("mixup", cross_entropy_loss, mixup), "08", (0.2, 1.0)),
    "remix": Method(with_loss("Remix", cross_entropy_loss, remix), "08", (0.2, 1.0)),
    "for-the-few": Method(
        with_loss("augmentation for the few", cross_entropy_loss, for_the_few), "08", (0.5, 1.0)
    ),
    "pasting": Method(with_loss("pasted rare images", cross_entropy_loss, pasted), "08", (0.5,)),
    "rotation-start": Method(pretrained("rotation start", on_rotations), "10"),
    "contrastive-start": Method(pretrained("contrastive start", on_views), "10"),
    "combination": Method(combination, "11", tuple(COMBINATIONS)),
}
