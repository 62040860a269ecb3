"""Right answers in several styles, and every mistake that lesson 06's exercises expect."""

import copy
import math
import types

import numpy as np
import pytest
import torch
from helpers import expect_not_yet
from torch import nn

from imbalkit import stages
from imbalkit.course.exercises import lesson06 as ex
from imbalkit.course.exercises.base import Outcome
from imbalkit.weights import balanced


@pytest.mark.parametrize(
    ("letter", "message"),
    [("a", "did not touch the features"), ("c", "nothing left to gain"), ("d", "first gap")],
)
def test_which_part(letter, message):
    expect_not_yet(ex.q1, [letter], message)
    assert ex.q1.feedback("b").outcome is Outcome.CORRECT


# --- the bias alone


def changed(classifier, change):
    """A copy whose bias is what `change` makes of it."""
    result = copy.deepcopy(classifier)
    with torch.no_grad():
        result.bias.copy_(torch.as_tensor(change(result.bias)))
    return result


def shares(counts):
    return torch.tensor(counts) / sum(counts)


def with_numpy_and_data(classifier, counts):
    new = copy.deepcopy(classifier)
    new.bias.data -= torch.from_numpy(np.log(np.array(counts) / np.sum(counts))).float()
    return new


def with_a_loop(classifier, counts):
    new = copy.deepcopy(classifier)
    for c, n in enumerate(counts):
        new.bias.data[c] -= math.log(n)  # without N: a constant is nothing to softmax
    return new


def with_a_new_layer(classifier, counts):
    new = nn.Linear(classifier.in_features, classifier.out_features)
    new.load_state_dict(classifier.state_dict())
    new.bias = nn.Parameter(classifier.bias.detach() + balanced(counts).log())
    return new


def with_another_layer_behind(classifier, counts):
    class Shift(nn.Module):
        def forward(self, logits):
            return logits - shares(counts).log()

    return nn.Sequential(classifier, Shift())


def in_place(classifier, counts):
    with torch.no_grad():
        classifier.bias -= shares(counts).log()
    return classifier


def only_a_shallow_copy(classifier, counts):
    new = copy.copy(classifier)
    new.bias = nn.Parameter(new.bias.detach() - shares(counts).log())
    return new


def in_place_without_no_grad(classifier, counts):
    result = copy.deepcopy(classifier)
    result.bias -= shares(counts).log()
    return result


def weights_too(classifier, counts):
    result = changed(classifier, lambda b: b - shares(counts).log())
    result.weight.data /= shares(counts)[:, None]
    return result


BIAS_WRONG = [
    (lambda m, n: copy.deepcopy(m), "answers as before"),
    (lambda m, n: changed(m, lambda b: b + shares(n).log()), "sign turned"),
    (lambda m, n: changed(m, lambda b: b - shares(n)), "a step is missing"),
    (lambda m, n: changed(m, lambda b: b + shares(n)), "a step is missing"),
    (lambda m, n: changed(m, lambda b: b - torch.tensor(n)), "a step is missing"),
    (lambda m, n: changed(m, lambda b: b - shares(n).log10()), "another base"),
    (lambda m, n: changed(m, lambda b: b / shares(n)), "bias is divided"),
    (lambda m, n: changed(m, lambda b: -shares(n).log()), "replaced the old bias"),
    (lambda m, n: changed(m, lambda b: b - shares(n).log() / 2), "it should be"),
    (lambda m, n: changed(m, lambda b: b - shares([400, 90, 30, 8]).log()), "RuntimeError"),
    (lambda m, n: changed(m, lambda b: b - shares(sorted(n, reverse=True)).log()), "it should be"),
    (lambda m, n: m.bias - shares(n).log(), "Return a layer"),
    (lambda m, n: nn.Linear(m.out_features, 2), "layer that you return stopped"),
    (lambda m, n: nn.Linear(m.in_features, 2), "shape"),
    (in_place, "old one has changed"),
    (only_a_shallow_copy, "old one has changed"),
    (in_place_without_no_grad, "RuntimeError"),
    (weights_too, "different amounts"),
    (lambda m, n: in_place(m, n) and None, "returned None"),
]


@pytest.mark.parametrize(
    "right", [with_numpy_and_data, with_a_loop, with_a_new_layer, with_another_layer_behind]
)
def test_bias_alone(right):
    assert ex.q2.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), BIAS_WRONG)
def test_bias_alone_mistakes(function, message):
    expect_not_yet(ex.q2, [function], message)


# --- frozen features


def with_the_package(features):
    return stages.FrozenFeatures(features)


def with_its_train_replaced(features):
    features.requires_grad_(False).eval()
    features.train = lambda mode=True: features
    return features


def with_each_batchnorm_replaced(features):
    features.requires_grad_(False)
    for module in features.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.train = types.MethodType(lambda self, mode=True: self, module)
    return features


def with_a_wrapper_outside_the_model(features):
    class Frozen(nn.Module):
        def forward(self, images):
            with torch.no_grad():
                return fixed(images)

    fixed = copy.deepcopy(features).eval()
    return Frozen()


def with_eval_in_forward(features):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = features

        def forward(self, images):
            self.inner.eval()
            return self.inner(images).detach()

    return Frozen()


def norms(features):
    return [m for m in features.modules() if isinstance(m, nn.BatchNorm2d)]


def only_evaluation_mode_in_forward(features):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = features

        def forward(self, images):
            return self.inner.eval()(images)

    return Frozen()


def without_momentum(features):
    features.requires_grad_(False)
    for norm in norms(features):
        norm.momentum = 0.0
    return features


def without_batchnorm(features):
    features = features.requires_grad_(False).eval()
    for norm in norms(features):
        norm.reset_running_stats()
    return with_its_train_replaced(features)


def gradients_off_for_all(features):
    torch.set_grad_enabled(False)
    return stages.FrozenFeatures(features)


FREEZE_WRONG = [
    (lambda f: f, "weights moved"),
    (lambda f: f.eval(), "weights moved"),
    (only_evaluation_mode_in_forward, "weights moved"),
    (lambda f: f.requires_grad_(False), "running statistics of BatchNorm have moved"),
    (lambda f: f.requires_grad_(False).eval(), "called model.train()"),
    (without_momentum, "batch at hand"),
    (without_batchnorm, "other than those of the old"),
    (lambda f: lambda images: f(images), "torch.nn.Module"),
    (lambda f: f.requires_grad_(False) and None, "returned None"),
    (lambda f: nn.Linear(3, 2), "training step with your frozen"),
    (gradients_off_for_all, "training step with your frozen"),
]


@pytest.mark.parametrize(
    "right",
    [
        with_the_package,
        with_its_train_replaced,
        with_each_batchnorm_replaced,
        with_a_wrapper_outside_the_model,
        with_eval_in_forward,
    ],
)
def test_freeze(right):
    state = torch.get_rng_state()
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("function", "message"), FREEZE_WRONG)
def test_freeze_mistakes(function, message):
    expect_not_yet(ex.q3, [function], message)
    assert torch.is_grad_enabled()


# --- tau


HOW_FAR_WRONG = [
    ((2, 1.414, 1.5), "divisors"),
    ((32, 5.66, 1.5), "multiplied by a power"),
    ((4, 1, 1.5), "multiplied by tau"),
    ((4, 4, 1.5), "tau times their length"),
    ((64, 16, 1.5), "divided by tau."),
    ((1, 1, 1.5), "that is tau 1"),
    ((16, 4, 1.5), "old lengths"),
    ((2.83, 8, 1.5), "swapped"),
    ((9, 2.83, 1.5), "frequent class's vector is not 9"),
    ((8, 3, 1.5), "rare class's vector is not 3"),
    ((8, 2.83, 0.5), "it is 0.5 times"),
    ((8, 2.83, 1), "it is 1 times"),
    ((8, 2.83, 2), "it is 4 times"),
    ((8, 2.83, 1e9), "times as long"),
]


@pytest.mark.parametrize("right", [(8, 2.83, 1.5), (16**0.75, 4**0.75, 3 / 2), (8.0, 8**0.5, 1.5)])
def test_how_far(right):
    assert ex.q4.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), HOW_FAR_WRONG)
def test_how_far_mistakes(answer, message):
    expect_not_yet(ex.q4, answer, message)


def test_how_far_has_the_numbers_of_the_package():
    layer = nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[16.0, 0.0], [2.4, 3.2]])
    frequent, rare = stages.weight_norms(stages.tau_normalized(layer, 0.25))
    assert ex.q4.feedback(frequent, rare, 1.5).outcome is Outcome.CORRECT
    frequent, rare = stages.weight_norms(stages.tau_normalized(layer, 1.5))
    assert rare / frequent == pytest.approx(2)


# --- both at once


BOTH_WRONG = [
    ((0.0099, 0.5, 0.99), "With weights only, 0.0099 is the share as it is"),
    ((0.5, 0.01, 0.99), "With balanced batches only, 0.01 is the share as it is"),
    ((0.99, 0.5, 0.99), "With weights only, 0.99 would compensate"),
    ((0.3, 0.5, 0.99), "With weights only, the share is not 0.3"),
    ((50, 50, 99), "per cent"),
    ((0.5, 0.5, 0.5), "does the second do nothing"),
    ((0.5, 0.5, 0.0099), "wrong side"),
    ((0.5, 0.5, 1), "keeps a small share"),
    ((0.5, 0.5, 0.9999), "keeps a small share"),
    ((0.5, 0.5, 0.75), "Which ratio of weights"),
]


@pytest.mark.parametrize("right", [(0.5, 0.5, 0.99), (1 / 2, 1 / 2, 100 / 101)])
def test_both_at_once(right):
    assert ex.q5.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), BOTH_WRONG)
def test_both_at_once_mistakes(answer, message):
    expect_not_yet(ex.q5, answer, message)


def test_both_at_once_has_the_numbers_of_the_package():
    counts = torch.tensor([4500.0, 45.0])
    weight = balanced([4500, 45])
    parts = [counts * weight, torch.ones(2), weight]
    answer = [(part[1] / part.sum()).item() for part in parts]
    assert ex.q5.feedback(*answer).outcome is Outcome.CORRECT
