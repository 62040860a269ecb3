"""Right answers in several styles, and every mistake that lesson 11's exercises expect."""

import numpy as np
import pytest
import torch
from helpers import expect_not_yet
from torch import nn

from imbalkit.course.exercises import lesson11 as ex
from imbalkit.course.exercises.base import Outcome
from imbalkit.ensembles import Ensemble
from imbalkit.priors import adjust_logits


@pytest.mark.parametrize(
    ("letter", "message"),
    [("a", "once more"), ("b", "does not have"), ("d", "Weights on top")],
)
def test_what_may_be_added(letter, message):
    expect_not_yet(ex.q1, [letter], message)
    assert ex.q1.feedback("c").outcome is Outcome.CORRECT


# --- enough images

IMAGES_WRONG = [
    ((0.315, 208), "sum of the three recalls"),
    ((0.182, 208), "root of 3"),
    ((0.0991, 208), "sum of the three variances"),
    ((0.011, 208), "a variance"),
    ((0.0962, 208), "pools the 27"),
    ((0.178, 208), "mean of the three errors"),
    ((0.2, 208), "is not 0.2"),
    ((10.5, 208), "per cent"),
    ((0.105, 625), "625 images of one class"),
    ((0.105, 69), "variances add up"),
    ((0.105, 70), "variances add up"),
    ((0.105, 12.5), "root of n"),
    ((0.105, 4.17), "is a root"),
    ((0.105, 100), "mean would be 0.0289"),
    ((0.105, 0), "0 images give no recall"),
    ((0.105, -5), "no recall"),
    ((0.105, "many"), "number is wanted"),
]


@pytest.mark.parametrize("right", [(0.105, 208), (0.1049, 209), (0.10494, 208.33)])
def test_enough_images(right):
    assert ex.q2.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), IMAGES_WRONG)
def test_enough_images_mistakes(answer, message):
    expect_not_yet(ex.q2, answer, message)


def test_enough_images_has_the_spread_of_drawn_recalls():
    random = np.random.default_rng(0)
    for images, wanted in (((5, 8, 14), 0.105), ((208, 208, 208), 0.02)):
        recalls = [random.binomial(n, 0.5, 20_000) / n for n in images]
        assert np.mean(recalls, axis=0).std() == pytest.approx(wanted, rel=0.03)


# --- members of different descent


def with_the_package(member_logits, priors):
    class Says(nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = logits

        def forward(self, images):
            return self.logits

    adjusted = map(adjust_logits, member_logits, priors)
    return Ensemble(map(Says, adjusted))(None).exp()


def with_numpy(member_logits, priors):
    total = 0
    for logits, prior in zip(member_logits, priors, strict=True):
        p = np.exp(logits.numpy()) / prior.numpy()
        total = total + p / p.sum(1, keepdims=True)
    return total / len(priors)


def with_loops_and_lists(member_logits, priors):
    result = []
    for i in range(len(member_logits[0])):
        row = [0.0] * len(priors[0])
        for logits, prior in zip(member_logits, priors, strict=True):
            odds = (logits[i].softmax(0) / prior).tolist()
            row = [r + o / sum(odds) / len(priors) for r, o in zip(row, odds, strict=True)]
        result.append(row)
    return result


def in_place(member_logits, priors):
    for logits, prior in zip(member_logits, priors, strict=True):
        logits -= prior.log()
    return torch.stack(member_logits).softmax(-1).mean(0)


@pytest.mark.parametrize("right", [with_the_package, with_numpy, with_loops_and_lists, in_place])
def test_balanced_ensemble(right):
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT


def stacked(function):
    """A mistake as a function of logits (M, N, C) and priors (M, 1, C)."""
    return lambda logits, priors: function(torch.stack(logits), torch.stack(priors)[:, None])


def scaled(values):
    return values / values.sum(1, keepdim=True)


ENSEMBLE_WRONG = [
    (stacked(lambda x, p: x.softmax(2).mean(0)), "still in"),
    (stacked(lambda x, p: (x + p.log()).softmax(2).mean(0)), "sign turned"),
    (stacked(lambda x, p: (x - p).softmax(2).mean(0)), "Logits are logarithms"),
    (stacked(lambda x, p: (x / p).softmax(2).mean(0)), "divided by the shares"),
    (stacked(lambda x, p: (x - p.log()).mean(0).softmax(1)), "mean of the logits"),
    (stacked(lambda x, p: (x - p.log()).mean(0)), "These are logits"),
    (stacked(lambda x, p: (x.softmax(2) / p).mean(0)), "do not sum to 1"),
    (stacked(lambda x, p: scaled((x.softmax(2) / p).sum(0))), "normalised together"),
    (stacked(lambda x, p: scaled((x.softmax(2) / p).mean(0))), "normalised together"),
    (stacked(lambda x, p: scaled(x.softmax(2).mean(0) / p.mean(0))), "mean comes first"),
    (stacked(lambda x, p: scaled(x.softmax(2).mean(0) / p[0])), "first member's prior"),
    (stacked(lambda x, p: (x - p.log()).softmax(2).sum(0)), "not the mean"),
    (stacked(lambda x, p: (x - p.log())[0].softmax(1)), "first member alone"),
    (stacked(lambda x, p: (x - 2 * p.log()).softmax(2).mean(0)), "first row should be"),
    (stacked(lambda x, p: 2 * (x - p.log()).softmax(2).mean(0)), "sum"),
    (stacked(lambda x, p: (x - p.log()).softmax(2).mean(0).argmax(1)), "shape"),
    (stacked(lambda x, p: (x - p.log()).softmax(1).mean(0)), "first row sums to"),
    (lambda logits, priors: logits.softmax(1), "AttributeError"),
]


@pytest.mark.parametrize(("function", "message"), ENSEMBLE_WRONG)
def test_balanced_ensemble_mistakes(function, message):
    expect_not_yet(ex.q3, [function], message)


def test_it_is_tried_on_different_numbers_of_members_and_classes():
    for members, classes in ((2, 3), (3, 4)):

        def only(logits, priors, members=members, classes=classes):
            if len(logits) == members and len(priors[0]) == classes:
                return with_numpy(logits, priors)
            return torch.full_like(logits[0], 1 / len(priors[0]))

        expect_not_yet(ex.q3, [only], "should be")


# --- worth a look


def by_a_walk(minutes, accuracy):
    order = sorted(range(len(minutes)), key=lambda i: (minutes[i], -accuracy[i], i))
    left, best, last = [], -1, None
    for i in order:
        row = (minutes[i], accuracy[i])
        if accuracy[i] > best or row == last:
            left, best, last = [*left, i], accuracy[i], row
    return left


def with_an_array(minutes, accuracy):
    m, a = np.array(minutes), np.array(accuracy)
    no_worse = (m <= m[:, None]) & (a >= a[:, None])
    better = (m < m[:, None]) | (a > a[:, None])
    left = np.flatnonzero(~(no_worse & better).any(1))
    return left[np.argsort(m[left], kind="stable")]


def with_tensors(minutes, accuracy):
    return torch.tensor(with_an_array(minutes, accuracy))


def as_a_tuple_of_floats(minutes, accuracy):
    return tuple(map(float, by_a_walk(minutes, accuracy)))


@pytest.mark.parametrize("right", [by_a_walk, with_an_array, with_tensors, as_a_tuple_of_floats])
def test_worth_a_look(right):
    assert ex.q4.feedback(right).outcome is Outcome.CORRECT
    random = np.random.default_rng(0)
    for _ in range(50):  # the styles agree with the exercise on more than it tries
        minutes, accuracy = random.integers(1, 6, (2, 8)).tolist()
        assert list(map(int, right(minutes, accuracy))) == ex.undominated(minutes, accuracy)


def left(beaten):
    """What is left if a method is out whenever `beaten(m, a, m_other, a_other)` by another."""

    def function(minutes, accuracy):
        rows = list(zip(minutes, accuracy, strict=True))
        stays = [
            i
            for i, row in enumerate(rows)
            if not any(beaten(*row, *other) for j, other in enumerate(rows) if j != i)
        ]
        return sorted(stays, key=lambda i: minutes[i])

    return function


def right(minutes, accuracy):
    return ex.undominated(minutes, accuracy)


LOOK_WRONG = [
    (left(lambda m, a, m2, a2: m2 < m and a2 > a), "though position"),
    (left(lambda m, a, m2, a2: m2 <= m and a2 >= a), "is missing"),  # equal ones beat each other
    (left(lambda m, a, m2, a2: m2 >= m and a2 >= a and (m, a) != (m2, a2)), "though position"),
    (left(lambda m, a, m2, a2: a2 > a), "is missing"),
    (left(lambda m, a, m2, a2: False), "though position"),
    (lambda m, a: sorted(right(m, a)), "in the order"),
    (lambda m, a: right(m, a)[::-1], "in the order"),
    (lambda m, a: set(right(m, a)), "no order"),
    (lambda m, a: [i in right(m, a) for i in range(len(m))], "truth values"),
    (lambda m, a: [a[i] for i in right(m, a)], "whole numbers"),
    (lambda m, a: [i + 1 for i in right(m, a)], "one too high"),
    (lambda m, a: [i + 9 for i in right(m, a)], "no position in a list"),
    (lambda m, a: right(m, a) * 2, "twice"),
    (lambda m, a: right(m, a)[0], "list of positions"),
    (lambda m, a: right(m, a)[:1], "is missing"),
    (lambda m, a: [1, 2, 0], "position"),
    (lambda m, a: ["method"], "whole numbers"),
]


@pytest.mark.parametrize(("function", "message"), LOOK_WRONG)
def test_worth_a_look_mistakes(function, message):
    expect_not_yet(ex.q4, [function], message)


# --- what may you write


@pytest.mark.parametrize(
    ("letter", "message"), [("a", "best of 12"), ("b", "three trainings"), ("d", "Neither")]
)
def test_what_may_you_write(letter, message):
    expect_not_yet(ex.q5, [letter], message)
    assert ex.q5.feedback("c").outcome is Outcome.CORRECT
