"""Right answers in several styles, and every mistake that lesson 12's exercises expect."""

import numpy as np
import pytest
import torch
from helpers import expect_not_yet

from imbalkit.course.exercises import lesson12 as ex
from imbalkit.course.exercises.base import Outcome
from imbalkit.decisions import cost_threshold, decide


def expect_correct(exercise, *answer):
    feedback = exercise.feedback(*answer)
    assert feedback.outcome is Outcome.CORRECT, feedback


# --- prices


@pytest.mark.parametrize("right", [(0.1, 4, 9), (1 / 10, 4.0, np.float64(9)), (0.1, 0.8 * 5, 9)])
def test_prices(right):
    expect_correct(ex.q1, *right)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((0.9, 4, 9), "being sound"),
        ((5 / 45, 4, 9), "ratio of the prices"),
        ((0.5, 4, 9), "cost the same"),
        ((10, 4, 9), "per cent"),
        ((0.2, 4, 9), "an alarm costs 4 and silence 9"),
        ((0.1, 9, 4), "swapped"),
        ((0.1, 1, 9), "part is sound"),
        ((0.1, 4, 36), "part is cracked"),
        ((0.1, 5, 45), "prices of the errors"),
        ((0.1, 4.5, 9), "cost of alarm at p = 0.2 is not 4.5"),
        ((0.1, 4, 10), "cost of silence at p = 0.2 is not 10"),
    ],
)
def test_prices_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


def test_prices_are_those_of_the_package():
    expect_correct(ex.q1, cost_threshold(miss=45, false_alarm=5), 4, 9)


# --- shares


@pytest.mark.parametrize("right", [0.155, 18 / 116, torch.tensor(0.1552)])
def test_real_shares(right):
    expect_correct(ex.q2, right)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (0.9, "as it came"),
        (0.018, "divide by it"),
        (0.02, "share alone"),
        (0.845, "no frog"),
        (0.9977, "do not divide"),
        (15.5, "per cent"),
        (0.3, "It is not 0.3"),
    ],
)
def test_real_shares_mistakes(answer, message):
    expect_not_yet(ex.q2, [answer], message)


def test_real_shares_are_a_shift_of_the_logits():
    logits = torch.tensor([0.9, 0.1]).log() + torch.tensor([0.02, 0.98]).log()
    expect_correct(ex.q2, logits.softmax(0)[0])


# --- every price


def with_loops(probabilities, price):
    answers = []
    for p in probabilities.tolist():
        columns = range(len(p))
        costs = [sum(p[c] * float(price[c, k]) for c in columns) for k in columns]
        answers.append(costs.index(min(costs)))
    return answers


def with_numpy(probabilities, price):
    return np.argmin(probabilities.numpy() @ price.numpy(), axis=1)


def with_broadcasting(probabilities, price):
    return (probabilities[:, :, None] * price).sum(1).min(1).indices


def with_einsum(probabilities, price):
    return torch.einsum("nc,ck->nk", probabilities, -price).argmax(dim=1).float()


@pytest.mark.parametrize("right", [with_loops, with_numpy, with_broadcasting, with_einsum])
def test_every_price(right):
    expect_correct(ex.q3, right)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda p, price: (p @ price.T).argmin(1), "is it turned"),
        (lambda p, price: (p @ price).argmax(1), "dearest"),
        (lambda p, price: p.argmax(1), "prices do nothing"),
        (lambda p, price: (p * price.sum(1)).argmax(1), "sum over a row"),
        (lambda p, price: (p @ price).argmin(0), "shape"),
        (lambda p, price: p @ price, "shape"),
        (lambda p, price: (p @ price).argmin(1) * 0, "not the cheapest, with 3 classes"),
        (lambda p, price: (p @ price[:3, :3]).argmin(1), "RuntimeError"),
        (lambda p, price: print(end=""), "returned None"),
    ],
)
def test_every_price_mistakes(function, message):
    expect_not_yet(ex.q3, [function], message)


def test_two_prices_are_the_threshold_of_the_package():
    p = torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
    p = torch.cat([1 - p, p], dim=1)
    price = torch.tensor([[0.0, 1.0], [20.0, 0.0]])
    assert decide(p, 1, cost_threshold(20, 1)).equal((p @ price).argmin(1))


# --- which split


@pytest.mark.parametrize(
    ("letter", "message"),
    [("a", "changes no prediction"), ("b", "test recall would be low"), ("d", "its own images")],
)
def test_which_split(letter, message):
    expect_not_yet(ex.q4, [letter], message)
    expect_correct(ex.q4, "c")


# --- how many


@pytest.mark.parametrize("right", [(0.1, 400), ((0.16 / 16) ** 0.5, 400.0)])
def test_how_many(right):
    expect_correct(ex.q5, *right)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((0.01, 400), "variance"),
        ((0.4, 400), "single image"),
        ((0.025, 400), "not by 16"),
        ((0.2236, 400), "1 - r is missing"),
        ((0.15, 400), "not 0.15"),
        ((10, 400), "per cent"),
        ((0.1, 8), "square of 0.02"),
        ((0.1, 80), "more than five times"),
        ((0.1, 20), "root or a square"),
        ((0.1, 100), "would be 0.04"),
        ((0.1, -4), "would be inf"),
    ],
)
def test_how_many_mistakes(answer, message):
    expect_not_yet(ex.q5, answer, message)


def test_how_many_is_true_of_drawn_images():
    found = torch.rand(20_000, 16, generator=torch.Generator().manual_seed(0)) < 0.8
    assert found.float().mean(1).std().item() == pytest.approx(0.1, abs=0.003)
