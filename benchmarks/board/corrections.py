"""Corrections of the prior, each by itself."""

import copy
from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.board.bench import Bench
from benchmarks.board.registry import correction
from benchmarks.shared import Rounds, Times, with_prior_removed
from imbalkit import sampling, stages, weights
from imbalkit.losses import FocalLoss, LDAMLoss, WeightedCrossEntropy
from imbalkit.models import CosineClassifier

TAUS = (0.5, 1.0, 1.5, 2.0, 3.0)
STAGE_2_EPOCHS = 2


@correction("cross-entropy", prior_in=True, lesson="01")
def cross_entropy(bench: Bench, _) -> Iterator[tuple[str, nn.Module]]:
    """No remedy, and the remedies that start from a trained model (lessons 06 and 09)."""
    model = bench.fit(bench.net())
    yield "cross-entropy", model

    adjusted = [with_prior_removed(model, bench.counts, tau) for tau in TAUS]
    yield "logit adjustment, tau by validation", max(adjusted, key=bench.score)
    normalized = []
    for tau in TAUS:
        normalized.append(copy.deepcopy(model))
        normalized[-1].classifier = stages.tau_normalized(model.classifier, tau)
    yield "tau-normalization", max(normalized, key=bench.score)
    balanced = bench.batches(sampling.weighted_sampler(bench.lab.train.labels))
    for name, mend in (
        ("new classifier (cRT)", stages.retrain_classifier),
        ("class scales (LWS)", stages.learn_class_scales),
    ):
        torch.manual_seed(bench.seed)
        mended = copy.deepcopy(model)
        mend(mended, balanced, STAGE_2_EPOCHS, show_progress=False)
        yield name, mended


@correction("balanced softmax", lesson="09")
def balanced_softmax(bench: Bench, _) -> nn.Module:
    return bench.fit(bench.net(), bench.balanced_softmax)


@correction("focal loss", grid=(0.5, 1.0, 2.0), prior_in=True, lesson="04")
def focal(bench: Bench, gamma: float) -> nn.Module:
    return bench.fit(bench.net(), FocalLoss(gamma))


@correction("balanced weights", lesson="03")
def balanced_weights(bench: Bench, _) -> nn.Module:
    return bench.fit(bench.net(), WeightedCrossEntropy(weights.balanced(bench.counts)))


@correction("square-root weights", lesson="03")
def square_root_weights(bench: Bench, _) -> nn.Module:
    return bench.fit(bench.net(), WeightedCrossEntropy(weights.square_root(bench.counts)))


@correction("effective-number weights", grid=(0.99, 0.999, 0.9999), lesson="03")
def effective_number(bench: Bench, beta: float) -> nn.Module:
    return bench.fit(
        bench.net(), WeightedCrossEntropy(weights.effective_number(bench.counts, beta))
    )


def sampled(bench: Bench, sampler) -> nn.Module:
    return bench.fit(bench.net(), sampler=Rounds(sampler, len(bench.lab.train)))


@correction("balanced sampling", lesson="05")
def balanced_sampling(bench: Bench, _) -> nn.Module:
    return sampled(bench, sampling.weighted_sampler(bench.lab.train.labels))


@correction("square-root sampling", lesson="05")
def square_root_sampling(bench: Bench, _) -> nn.Module:
    return sampled(bench, sampling.weighted_sampler(bench.lab.train.labels, power=0.5))


@correction("progressive sampling", lesson="05")
def progressive_sampling(bench: Bench, _) -> nn.Module:
    return sampled(bench, sampling.ProgressiveSampler(bench.lab.train.labels, bench.epochs))


@correction("over-sampling", lesson="05")
def over_sampling(bench: Bench, _) -> nn.Module:
    counts = bench.counts
    return sampled(
        bench, sampling.CountSampler(bench.lab.train.labels, [max(counts)] * len(counts))
    )


@correction("under-sampling", lesson="05")
def under_sampling(bench: Bench, _) -> nn.Module:
    counts = bench.counts
    return sampled(
        bench, sampling.CountSampler(bench.lab.train.labels, [min(counts)] * len(counts))
    )


@correction("late weights (DRW)", grid=(0.6, 0.8), lesson="06")
def late_weights(bench: Bench, switch: float) -> nn.Module:
    late = WeightedCrossEntropy(weights.effective_number(bench.counts))
    return bench.fit(bench.net(), switch=switch, late_loss_fn=late)


@correction("late sampling (DRS)", grid=(0.6, 0.8), lesson="06")
def late_sampling(bench: Bench, switch: float) -> nn.Module:
    late = sampling.weighted_sampler(bench.lab.train.labels)
    return bench.fit(bench.net(), switch=switch, late_sampler=late)


def ldam(bench: Bench, scale: float, switch: float) -> nn.Module:
    model = bench.net()
    model.classifier = CosineClassifier(model.classifier.in_features, len(bench.counts))
    late = LDAMLoss(bench.counts, scale=scale, weight=weights.effective_number(bench.counts))
    bench.fit(model, LDAMLoss(bench.counts, scale=scale), switch=switch, late_loss_fn=late)
    return nn.Sequential(model, Times(scale))  # cosines alone are no logits


@correction("LDAM", grid=(10.0, 20.0, 30.0), lesson="09")
def ldam_alone(bench: Bench, scale: float) -> nn.Module:
    return ldam(bench, scale, switch=1.0)


@correction("LDAM-DRW", grid=(10.0, 20.0, 30.0), lesson="09")
def ldam_drw(bench: Bench, scale: float) -> nn.Module:
    return ldam(bench, scale, switch=0.8)
