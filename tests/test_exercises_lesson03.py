"""Right answers in several styles, and every mistake that lesson 03's exercises expect."""

import numpy as np
import pytest
import torch
from helpers import expect_not_yet

from imbalkit import weights
from imbalkit.course.exercises import lesson03 as ex
from imbalkit.course.exercises.base import Outcome

TENSOR = torch.tensor

BY_HAND_WRONG = [
    ((5, 0.556, 0.5), "swapped, or inverted"),
    ((1, 1, 0.5), "Equal weights"),
    ((0.745, 2.236, 0.5), "square-root weights"),
    ((1 / 900, 1 / 100, 0.5), "The scale is not"),
    ((1, 9, 0.5), "The scale is not"),
    ((0.5, 2.0, 0.5), "ratio of the weights is 4"),
    ((0, 5, 0.5), "above 0"),
    ((0.556, 5, 0.1), "without weights"),
    ((0.556, 5, 0.9), "one image with one image"),
    ((0.556, 5, 50), "per cent"),
    ((0.556, 5, 0.3), "multiply each by its number"),
]


@pytest.mark.parametrize("right", [(0.556, 5, 0.5), (5 / 9, 5.0, 1 / 2), TENSOR([0.5556, 5, 0.5])])
def test_by_hand(right):
    assert ex.q1.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), BY_HAND_WRONG)
def test_by_hand_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


def with_numpy(counts, power):
    n = np.asarray(counts, dtype=float)
    w = 1 / n**power
    return (w * n.sum() / np.dot(n, w)).tolist()


def with_a_loop(counts, power):
    w = [1 / float(n) ** power for n in counts]
    average = sum(float(n) * x for n, x in zip(counts, w, strict=True)) / float(sum(counts))
    return [x / average for x in w]


def with_tensors(counts, power):
    w = counts.float().pow(-power)
    return w / (w * counts / counts.sum()).sum()


def scaled_to(counts, w, total):
    return w * total / w.sum()


TEMPERED_WRONG = [
    (lambda n, p: n**p / (n * n**p).sum() * n.sum(), "inverted"),
    (lambda n, p: n.float() ** -p, "the scale is not"),
    (lambda n, p: scaled_to(n, n.float() ** -p, len(n)), "the scale is not"),
    (lambda n, p: scaled_to(n, n.float() ** -p, 1), "the scale is not"),
    (lambda n, p: weights.balanced(n), "is power used"),
    (lambda n, p: weights.square_root(n), "it should be"),
    (lambda n, p: -weights.balanced(n), "0 or less"),
    (lambda n, p: weights.balanced([500, 50, 5]), "shape"),
    (lambda n, p: torch.ones(len(n)), "it should be"),
    (lambda n: n, "positional argument"),
]


@pytest.mark.parametrize("right", [with_numpy, with_a_loop, with_tensors])
def test_tempered(right):
    assert ex.q2.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), TEMPERED_WRONG)
def test_tempered_mistakes(function, message):
    expect_not_yet(ex.q2, [function], message)


ADJUST_RIGHT = [
    lambda x, w: x + w.log(),
    lambda x, w: x + torch.log(w / w.sum())[None, :],
    lambda x, w: (x.softmax(1) * w).log(),
    lambda x, w: (x.softmax(1) * w / (x.softmax(1) * w).sum(1, keepdim=True)).log(),
    lambda x, w: np.log(np.asarray(w)) + np.asarray(x) - 7,
    lambda x, w: torch.stack([row + w.log() for row in x]),
]
ADJUST_WRONG = [
    (lambda x, w: x, "are the weights used"),
    (lambda x, w: x - w.log(), "subtracts"),
    (lambda x, w: x * w, "multiplies the logits"),
    (lambda x, w: x + w, "adds the weight itself"),
    (lambda x, w: (x + w.log()).softmax(1), "right probabilities"),
    (lambda x, w: x.softmax(1) * w, "right order"),
    (lambda x, w: (x + w.log()).argmax(1), "shape"),
    (lambda x, w: x + w.log() / 2, "not in proportion"),
    (lambda x, w: x + w.sqrt().log(), "not in proportion"),
    (lambda x, w: x + (-w).log(), "NaN"),
]


@pytest.mark.parametrize("right", ADJUST_RIGHT)
def test_without_training(right):
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), ADJUST_WRONG)
def test_without_training_mistakes(function, message):
    expect_not_yet(ex.q3, [function], message)


@pytest.mark.parametrize(
    ("letter", "message"),
    [("a", "prior is true"), ("c", "price by the rarity"), ("d", "costs you 50")],
)
def test_price_list(letter, message):
    expect_not_yet(ex.q4, [letter], message)
    assert ex.q4.feedback("b").outcome is Outcome.CORRECT


SMALL_BATCHES_WRONG = [
    ((5, 1, 2.942), "weight times the loss"),
    ((0.2, 1, 2.942), "first number"),
    ((1, 5, 2.942), "second number"),
    ((1, 2, 2.942), "second number"),
    ((1, 1, 7.65), "divided by the images"),
    ((1, 1, 2.25), "plain mean"),
    ((1, 1, 15.3), "is a sum"),
    ((1, 1, 3), "third number"),
]


@pytest.mark.parametrize("right", [(1, 1, 2.94), (1.0, TENSOR(1.0), 15.3 / 5.2)])
def test_small_batches(right):
    assert ex.q5.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), SMALL_BATCHES_WRONG)
def test_small_batches_mistakes(answer, message):
    expect_not_yet(ex.q5, answer, message)


def test_small_batches_are_torchs_numbers():
    """The cross-entropies 1, 1.5 and 3 of the exercise, given to torch itself."""
    rows = {1.0: (1, 1.0), 1.5: (0, 1.5), 3.0: (1, 3.0)}
    loss = torch.nn.CrossEntropyLoss(weight=TENSOR([0.2, 5.0]))

    def batch(*losses):
        chosen = [rows[x] for x in losses]
        # logits of two classes whose cross-entropy for class y is `x`
        logits = [[0.0, 0.0] for _ in chosen]
        for row, (y, x) in zip(logits, chosen, strict=True):
            row[1 - y] = float(np.log(np.exp(x) - 1))
        return loss(TENSOR(logits), TENSOR([y for y, _ in chosen])).item()

    assert ex.q5.feedback(batch(1.0), batch(1.0, 1.0), batch(1.5, 3.0)).outcome is Outcome.CORRECT
