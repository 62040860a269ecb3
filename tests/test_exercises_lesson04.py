"""Right answers in several styles, and every mistake that lesson 04's exercises expect."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import expect_not_yet

from imbalkit.course.exercises import lesson04 as ex
from imbalkit.course.exercises.base import Outcome
from imbalkit.losses import FocalLoss, WeightedCrossEntropy

TENSOR = torch.tensor

LEFT_WRONG = [
    ((4, 0.293, 1770), "Which share is that"),
    ((0.75, 0.293, 1770), "taken away"),
    ((0.173, 0.293, 1770), "Which share of ln 2"),
    ((0.5, 0.293, 1770), "gamma 1"),
    ((25, 0.293, 1770), "per cent"),
    ((0.3, 0.293, 1770), "p = 0.5 and gamma = 2"),
    ((0.25, 0.707, 1770), "The second number is 1 - p"),
    ((0.25, 0.5, 1770), "share 0.25 is left"),
    ((0.25, 29.3, 1770), "per cent"),
    ((0.25, 0.293, 21.85), "that of cross-entropy"),
    ((0.25, 0.293, 81), "factors only"),
    ((0.25, 0.293, 0.27), "factors are swapped"),
    ((0.25, 0.293, 1 / 1770), "upside down"),
    ((0.25, 0.293, 1000), "divide the focal loss"),
    ((0.25, 0.293, -5), "divide the focal loss"),
]


@pytest.mark.parametrize(
    "right", [(0.25, 0.293, 1770), (1 / 4, 1 - math.sqrt(0.5), 1776.5), TENSOR([0.25, 0.29, 1770])]
)
def test_how_much_is_left(right):
    assert ex.q1.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), LEFT_WRONG)
def test_how_much_is_left_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


def loss_at(p, gamma=2):
    """The package's loss of one image to which the model gives the probability p."""
    return FocalLoss(gamma)(TENSOR([[math.log(p), math.log(1 - p)]]), TENSOR([0])).item()


def test_how_much_is_left_is_what_the_package_says():
    kept = loss_at(0.5) / loss_at(0.5, gamma=0)
    half = 1 - math.sqrt(0.5)
    assert loss_at(half) == pytest.approx(loss_at(half, gamma=0) / 2, rel=1e-4)
    assert ex.q1.feedback(kept, half, loss_at(0.1) / loss_at(0.9)).outcome is Outcome.CORRECT


CASES_WRONG = [
    (("a", "a", "c"), "beetles: The frequent kinds are hard as well"),
    (("c", "a", "c"), "beetles: Then the rarest"),
    (("b", "b", "c"), "satellite: A class weight is the same"),
    (("b", "c", "c"), "99,900"),
    (("b", "a", "a"), "too modest"),
    (("b", "a", "b"), "equally frequent"),
    (("b", "a", "d"), "one letter"),
    (("b", "a", 3), "one letter"),
]


@pytest.mark.parametrize("right", ["bac", ("B", " (a)", "c.")])
def test_three_cases(right):
    assert ex.q2.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), CASES_WRONG)
def test_three_cases_mistakes(answer, message):
    expect_not_yet(ex.q2, answer, message)


def test_the_flood_in_numbers():
    assert f"{99_900 * loss_at(0.99, gamma=0):,.0f}" == "1,004"
    assert f"{100 * loss_at(0.5, gamma=0):.0f}" == "69"


# --- the mended loss


def from_log_softmax(x, y, gamma, weight):
    log_p = x.log_softmax(1)[range(len(y)), y]
    w = weight[y]
    return torch.dot(w, -((1 - log_p.exp()) ** gamma) * log_p) / torch.sum(w)


def with_a_loop(x, y, gamma, weight):
    total, over = 0.0, 0.0
    for row, c in zip(x, y, strict=True):
        log_p = row[c] - torch.logsumexp(row, 0)
        total = total - weight[c] * (1 - log_p.exp()) ** gamma * log_p
        over = over + weight[c]
    return total / over


def with_one_hot(x, y, gamma, weight):
    w = F.one_hot(y, x.shape[1]) * weight
    log_p = x.double().log_softmax(1)
    return -(w * (1 - log_p.exp()) ** gamma * log_p).sum() / w.sum()


def weighted_then_divided(x, y, gamma, weight):
    weighted = F.cross_entropy(x, y, weight=weight, reduction="none")
    p = torch.exp(-weighted / weight[y])
    return ((1 - p).pow(gamma) * weighted).sum() / weight[y].sum()


def of_the_package(x, y, gamma, weight):
    return FocalLoss(gamma, weight=weight)(x, y).reshape(1)


MENDED_RIGHT = [
    from_log_softmax, with_a_loop, with_one_hot, weighted_then_divided, of_the_package,
]  # fmt: skip


@pytest.mark.parametrize("right", MENDED_RIGHT)
def test_mended(right):
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT, ex.q3.feedback(right)


def test_mended_in_place():
    def right(x, y, gamma, weight):
        x -= x.amax(1, keepdim=True).detach()
        return from_log_softmax(x, y, gamma, weight)

    assert ex.q3.feedback(right).outcome is Outcome.CORRECT, ex.q3.feedback(right)


def the_bug(x, y, gamma, weight):
    """The lesson's own."""
    loss = F.cross_entropy(x, y, weight=weight, reduction="none")
    return ((1 - torch.exp(-loss)) ** gamma * loss).sum() / weight[y].sum()


def wrong(formula):
    """A loss from p, the loss of each image without weights, their weights w and gamma g."""

    def loss(x, y, gamma, weight):
        ce = F.cross_entropy(x, y, reduction="none")
        return formula((-ce).exp(), ce, weight[y], gamma)

    return loss


def typed_in(x, y, gamma, weight, smallest=0.0):
    p = x.softmax(1)[range(len(y)), y].clamp_min(smallest)
    return (weight[y] * -((1 - p) ** gamma) * p.log()).sum() / weight[y].sum()


def all_class_weights(x, y, gamma, weight):
    p = (-F.cross_entropy(x, y, reduction="none")).exp()
    return (weight[y] * -((1 - p) ** gamma) * p.log()).sum() / weight.sum()


MENDED_WRONG = [
    (the_bug, "p still contains the weight: this is the loss with the bug"),
    (lambda x, y, g, w: the_bug(x, y, g, w) * w[y].mean(), "and the sum is divided by the images"),
    (wrong(lambda p, ce, w, g: (w * (1 - p) ** g * ce).mean()), "divides by the images"),
    (wrong(lambda p, ce, w, g: (w * (1 - p) ** g * ce).sum()), "This is a sum"),
    (all_class_weights, "once each"),
    (wrong(lambda p, ce, w, g: (w * w * (1 - p) ** g * ce).sum() / w.sum()), "acts twice"),
    (lambda x, y, g, w: FocalLoss(g)(x, y), "weights do not act"),
    (lambda x, y, g, w: WeightedCrossEntropy(w)(x, y), "Gamma does not act"),
    (lambda x, y, g, w: FocalLoss(1, weight=w)(x, y), "loss of gamma 1"),
    (lambda x, y, g, w: FocalLoss(2, weight=w)(x, y), "loss of gamma 2"),
    (wrong(lambda p, ce, w, g: (w * p**g * ce).sum() / w.sum()), "This is p^gamma"),
    (wrong(lambda p, ce, w, g: (w * (1 - p**g) * ce).sum() / w.sum()), "1 - p^gamma"),
    (wrong(lambda p, ce, w, g: (w * g * (1 - p) * ce).sum() / w.sum()), "is an exponent"),
    (wrong(lambda p, ce, w, g: (w * (1 - p) ** g * -ce).sum() / w.sum()), "below 0"),
    (wrong(lambda p, ce, w, g: w * (1 - p) ** g * ce), "for each image"),
    (wrong(lambda p, ce, w, g: (w * (1 - p) ** g).sum() / w.sum()), "FocalLoss gives"),
    (wrong(lambda p, ce, w, g: p.sum() * math.nan), "NaN or infinite"),
    (
        wrong(lambda p, ce, w, g: ((w * (1 - p) ** g * ce).sum() / w.sum()).item()),
        "without a gradient",
    ),
    (
        wrong(lambda p, ce, w, g: ((w * (1 - p) ** g * ce).sum() / w.sum()).detach()),
        "without a gradient",
    ),
    (lambda x, y, g, w: float(from_log_softmax(TENSOR(x.numpy()), y, g, w)), "without a gradient"),
    (wrong(lambda p, ce, w, g: (w * (1 - p.detach()) ** g * ce).sum() / w.sum()), "detached"),
    (typed_in, "not finite"),
    (lambda *a: typed_in(*a, smallest=1e-8), "kept away from 0 or 1"),
    (lambda x, y: 0, "positional argument"),
]


@pytest.mark.parametrize(("function", "message"), MENDED_WRONG)
def test_mended_mistakes(function, message):
    expect_not_yet(ex.q3, [function], message)


# --- hard and rare


def with_sets(p, labels, rare, k):
    hard = set(sorted(range(len(p)), key=lambda i: p[i])[:k])
    few = {i for i, c in enumerate(labels.tolist()) if c in rare}
    return len(hard & few) / k, len(hard & few) / len(few)


def with_numpy(p, labels, rare, k):
    few = np.isin(np.asarray(labels), rare)
    hard = np.asarray(p) < np.sort(np.asarray(p))[k]
    return [few[hard].mean(), hard[few].mean()]


def with_topk(p, labels, rare, k):
    few = sum(labels == c for c in rare).bool()
    hard = torch.zeros_like(few)
    hard[p.topk(k, largest=False).indices] = True
    return torch.stack([few[hard].float().mean(), hard[few].float().mean()])


def mixed_types(p, labels, rare, k):
    first, second = with_topk(p, labels, rare, k)
    return first.item(), second


HARD_WRONG = [
    (lambda *a: with_sets(*a)[::-1], "swapped"),
    (lambda *a: [100 * x for x in with_sets(*a)], "per cent"),
    (lambda p, *a: with_sets(-p, *a), "easiest"),
    (lambda p, y, r, k: [round(with_sets(p, y, r, k)[0] * k)] * 2, "Divide them"),
    (lambda p, y, r, k: [with_sets(p, y, r, k)[0] * k / len(p)] * 2, "divided by all images"),
    (lambda p, y, r, k: with_sets(p, y, list(range(y.max() - 2, y.max() + 1)), k), "last three"),
    (lambda *a: [with_sets(*a)[0]] * 2, "The first share is right"),
    (lambda p, y, r, k: with_sets(p, y, r, len(p) // 10 + 1), "they should be"),
    (lambda *a: with_sets(*a)[0], "Return two shares"),
    (lambda *a: "zebra", "Return two shares"),
    (lambda *a: ("a", "b"), "A number is wanted"),
    (lambda p: (0, 0), "positional argument"),
]


@pytest.mark.parametrize("right", [with_sets, with_numpy, with_topk, mixed_types])
def test_hard_and_rare(right):
    assert ex.q4.feedback(right).outcome is Outcome.CORRECT, ex.q4.feedback(right)


@pytest.mark.parametrize(("function", "message"), HARD_WRONG)
def test_hard_and_rare_mistakes(function, message):
    expect_not_yet(ex.q4, [function], message)


# --- one alpha

ALPHA_WRONG = [
    ((0.4, 0.001, 0.1), "makes up for the alpha"),
    ((0.1, 0.001, 0.1), "four times as large"),
    ((0.05, 0.001, 0.1), "rate times the gradient"),
    ((0.025, 0.00025, 0.1), "recent size"),
    ((0.025, 0.004, 0.1), "recent size"),
    ((0.025, 0.01, 0.1), "divides out"),
    ((0.025, 0.001, 0.025), "So does the sum"),
    ((0.025, 0.001, 0.027), "same alpha"),
    ((0.025, 0.001, 0.0357), "same alpha"),
    ((0.025, 0.001, 0.4), "cannot gain"),
    ((0.025, 0.001, 10), "per cent"),
    ((0.025, 0.001, 0.3), "over that of all"),
]


@pytest.mark.parametrize(
    "right", [(0.025, 0.001, 0.1), TENSOR([0.025, 1e-3, 0.1]), (1 / 40, 1e-3, 0.1)]
)
def test_one_alpha(right):
    assert ex.q5.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), ALPHA_WRONG)
def test_one_alpha_mistakes(answer, message):
    expect_not_yet(ex.q5, answer, message)


def test_one_alpha_is_a_learning_rate(capsys):
    """The solution's experiment: the same weights with alpha and without."""
    exec(ex.q5.next_code(), {"torch": torch, "FocalLoss": FocalLoss})
    printed = capsys.readouterr().out
    sgd, adam = (float(line.split()[-1]) for line in printed.splitlines())
    assert sgd < 1e-5 and adam < 1e-4
