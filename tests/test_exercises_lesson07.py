"""Right answers in several styles, and every mistake that lesson 07's exercises expect."""

import math
import statistics

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import expect_not_yet

from imbalkit.course.exercises import lesson07 as ex
from imbalkit.course.exercises.base import Outcome
from imbalkit.multitask import DifficultyLoss, difficulty_target, rotate_quarters

TENSOR = torch.tensor
LOSSES = np.array([0.1, 0.1, 0.2, 2.0])
ROUNDED = [-0.62, -0.62, -0.49, 1.73]


def by_numpy(losses):
    return (losses - losses.mean()) / losses.std()


def by_plain_python(losses):
    mean, deviation = statistics.mean(losses), statistics.pstdev(losses)
    return tuple((x - mean) / deviation for x in losses)


AWAY = LOSSES - LOSSES.mean()
BY_HAND_WRONG = [
    ((AWAY / LOSSES.std(ddof=1), ROUNDED), "N - 1"),
    (([-0.53, -0.53, -0.43, 1.5], ROUNDED), "N - 1"),
    ((AWAY, ROUNDED), "distance from the mean"),
    ((LOSSES / LOSSES.std(), ROUNDED), "not been subtracted"),
    (([0.62, 0.62, 0.49, -1.73], ROUNDED), "signs are turned"),
    ((-by_numpy(LOSSES), ROUNDED), "signs are turned"),
    ((AWAY / LOSSES.var(), ROUNDED), "variance"),
    ((AWAY / LOSSES.mean(), ROUNDED), "divided by the mean"),
    ((LOSSES, ROUNDED), "losses themselves"),
    ((ROUNDED[::-1], ROUNDED), "order"),
    (([0, 0, 0, 1], ROUNDED), "the mean 0.25"),
    (([-0.6, -0.6, -0.5, 1.7], ROUNDED), "two digits"),
    (([-0.62, -0.62, -0.49], ROUNDED), "shape"),
    ((ROUNDED, [-0.062, -0.062, -0.049, 0.173]), "ten times smaller"),
    ((ROUNDED, [-6.2, -6.2, -4.9, 17.3]), "ten times larger"),
    ((ROUNDED, AWAY / 10), "do the same"),
    ((ROUNDED, LOSSES / 10), "do the same"),
]


@pytest.mark.parametrize(
    "right",
    [
        ROUNDED,
        by_numpy(LOSSES),
        by_plain_python(LOSSES.tolist()),
        difficulty_target(TENSOR(LOSSES)),
    ],
)
def test_by_hand(right):
    assert ex.q1.feedback(right, right).outcome is Outcome.CORRECT


def test_by_hand_is_the_packages_target():
    for scale in (1, 0.1):
        target = difficulty_target(TENSOR(scale * LOSSES))
        assert ex.q1.feedback(target, ROUNDED).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), BY_HAND_WRONG)
def test_by_hand_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


# --- the loss


def ce_of(x, y):
    return F.cross_entropy(x, y, reduction="none")


def normal(values, correction=0):
    return (values - values.mean()) / (values.std(correction=correction) + 1e-6)


def with_the_package(x, p, y, s):
    return DifficultyLoss(s)((x, p), y)


def squared(x, p, y, s):
    ce = ce_of(x, y)
    return ce.mean() + s * ((p - normal(ce.detach())) ** 2).mean()


def with_torchs_deviation(x, p, y, s):
    ce = ce_of(x, y)
    fixed = ce.detach()
    return ce.mean() + s * F.mse_loss(p, (fixed - fixed.mean()) / fixed.std())


def with_no_grad_and_logs(x, p, y, s):
    ce = -x.log_softmax(1)[torch.arange(len(y)), y]
    with torch.no_grad():
        target = normal(ce)
    return torch.add(ce.sum() / len(y), F.huber_loss(p, target), alpha=s).reshape(1)


def through_numpy(x, p, y, s):
    ce = ce_of(x, y)
    values = ce.detach().numpy()
    target = torch.from_numpy((values - values.mean()) / values.std())
    return ce.mean() + s * F.smooth_l1_loss(p, target)


def with_a_loop(x, p, y, s):
    ce = [F.cross_entropy(row[None], label[None]) for row, label in zip(x, y, strict=True)]
    values = [c.item() for c in ce]
    mean, deviation = statistics.mean(values), statistics.pstdev(values)
    second = [(a - (v - mean) / deviation) ** 2 for a, v in zip(p, values, strict=True)]
    return sum(ce) / len(ce) + s * sum(second) / len(second)


def half_detached(x, p, y, s):
    ce = ce_of(x, y)
    target = (ce.detach() - ce.mean()) / ce.std(correction=0)
    return ce.mean() + s * F.mse_loss(p, target)


def both_heads(target, error=F.mse_loss):
    """A colleague's loss with another target, made from the cross-entropies."""
    return lambda x, p, y, s: ce_of(x, y).mean() + s * error(p, target(ce_of(x, y)))


def calls_backward(x, p, y, s):
    value = squared(x, p, y, s)
    value.backward()
    return value


REPAIR_WRONG = [
    (both_heads(lambda ce: ce), "as it was"),
    (both_heads(lambda ce: ce.detach()), "But its scale"),
    (both_heads(normal), "still reaches them"),
    (half_detached, "still reaches them"),
    (lambda x, p, y, s: squared(x, p.detach(), y, s), "head gets no gradient"),
    (lambda x, p, y, s: squared(x.detach(), p, y, s), "reaches the logits"),
    (lambda x, p, y, s: squared(x.detach(), p.detach(), y, s), "no gradient at all"),
    (lambda x, p, y, s: squared(x, p, y, s).item(), "plain number"),
    (lambda x, p, y, s: ce_of(x, y), "One loss for the batch"),
    (lambda x, p, y, s: (ce_of(x, y).mean(), squared(x, p, y, s)), "these are 2 values"),
    (lambda x, p, y, s: F.cross_entropy(x, y), "second task is missing"),
    (calls_backward, "could be computed"),
    (both_heads(lambda ce: (ce - ce.mean()).detach()), "spread still shrinks"),
    (both_heads(lambda ce: (ce / ce.std(correction=0)).detach()), "mean is not 0"),
    (both_heads(lambda ce: -normal(ce.detach())), "turned"),
    (lambda x, p, y, s: s * F.mse_loss(p, normal(ce_of(x, y))), "second task alone"),
    (lambda x, p, y, s: s * F.mse_loss(p, normal(ce_of(x, y).detach())), "reaches the logits"),
    (lambda x, p, y, s: squared(x, p, y, 1), "Is share used"),
    (lambda x, p, y, s: squared(x, p, y, 0.5), "Wanted is"),
    (lambda x, p, y, s: s * squared(x, p, y, (1 - s) / s), "belongs to the second task"),
    (lambda x, p, y, s: squared(x, p, y, s) * len(y), "sum over the batch"),
    (both_heads(lambda ce: normal(ce.detach()), lambda a, b: ((a - b) ** 2).sum()), "sum over"),
    (both_heads(lambda ce: normal(ce.detach()), F.l1_loss), "Wanted is"),
    (lambda x, p, y, s: squared(x, normal(p), y, s), "Only the target is normalised"),
    (lambda x, p, y: 1, "positional argument"),
]


@pytest.mark.parametrize(
    "right",
    [
        with_the_package,
        squared,
        with_torchs_deviation,
        with_no_grad_and_logs,
        through_numpy,
        with_a_loop,
    ],
)
def test_repair_the_loss(right):
    feedback = ex.q2.feedback(right)
    assert feedback.outcome is Outcome.CORRECT, feedback


@pytest.mark.parametrize(("function", "message"), REPAIR_WRONG)
def test_repair_the_loss_mistakes(function, message):
    expect_not_yet(ex.q2, [function], message)


def test_repair_the_loss_where_gradients_are_switched_off():
    with torch.no_grad():
        assert ex.q2.feedback(squared).outcome is Outcome.CORRECT


# --- planted errors


def with_numpy(scores, planted, k):
    return np.asarray(planted)[np.argsort(-np.asarray(scores))[:k]].mean()


def with_sorted_pairs(scores, planted, k):
    pairs = sorted(zip(scores.tolist(), planted.tolist(), strict=True), reverse=True)
    return sum(is_planted for _, is_planted in pairs[:k]) / k


def with_a_threshold(scores, planted, k):
    return (planted & (scores >= scores.sort(descending=True).values[k - 1])).sum() / k


def hits(scores, planted, k):
    return planted[scores.argsort(descending=True)[:k]].sum()


PLANTED_WRONG = [
    (lambda s, p, k: hits(s, p, k) / p.sum(), "This is recall"),
    (hits, "how many are found"),
    (lambda s, p, k: hits(s, p, k) / len(p), "divided by all images"),
    (lambda s, p, k: 1 - hits(s, p, k) / k, "no planted errors"),
    (lambda s, p, k: 100 * hits(s, p, k) / k, "per cent"),
    (lambda s, p, k: hits(-s, p, k) / k, "lowest scores"),
    (lambda s, p, k: p[s.argsort()[:k]].float().mean(), "lowest scores"),
    (lambda s, p, k: p[:k].float().mean(), "old order"),
    (lambda s, p, k: p.float().mean(), "among all images"),
    (lambda s, p, k: hits(s, p, 5) / 5, "is wanted"),
    (lambda s, p, k: hits(s, p, int(p.sum())) / p.sum(), "is wanted"),
    (lambda s, p, k: p[s.topk(k).indices].mean(), "RuntimeError"),
    (lambda s, p, k: p[s.topk(k).indices], "One number"),
]


@pytest.mark.parametrize("right", [with_numpy, with_sorted_pairs, with_a_threshold])
def test_planted_errors(right):
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), PLANTED_WRONG)
def test_planted_errors_mistakes(function, message):
    expect_not_yet(ex.q3, [function], message)


# --- another share


SHARE_WRONG = [
    ((0.048, 600), "variance"),
    ((0.245, 600), "n - 1"),
    ((0.49, 600), "single image"),
    ((0.098, 600), "after the root"),
    ((0.24, 600), "p (1 - p)"),
    ((0.346, 600), "A factor 1 - p"),
    ((0.2, 600), "what one image changes"),
    ((0.3, 600), "is not 0.3"),
    ((21.9, 600), "per cent"),
    ((0.219, 12), "has to be squared"),
    ((0.219, 55), "root of n"),
    ((0.219, 11), "So much smaller"),
    ((0.219, 120), "So many times more"),
    ((0.219, 595), "So many images more"),
    ((0.219, 100), "the standard error is 0.049"),
    ((0.219, -3), "above 0"),
]


@pytest.mark.parametrize("right", [(0.22, 600), (0.219, 600.0), (math.sqrt(0.048), TENSOR(601))])
def test_another_share(right):
    assert ex.q4.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), SHARE_WRONG)
def test_another_share_mistakes(answer, message):
    expect_not_yet(ex.q4, answer, message)


def test_another_share_is_the_spread_of_many_draws():
    draws = np.random.default_rng(0).binomial(5, 0.6, 100_000) / 5
    assert draws.std() == pytest.approx(math.sqrt(0.6 * 0.4 / 5), rel=0.01)
    assert (np.random.default_rng(0).binomial(600, 0.6, 100_000) / 600).std() == pytest.approx(
        0.02, rel=0.01
    )


# --- turned images


def turn_with_numpy(images, turns):
    pairs = zip(images.numpy(), turns.tolist(), strict=True)
    return np.stack([np.rot90(image, k, (1, 2)) for image, k in pairs])


def turn_by_quarter(images, turns):
    result = images.clone()
    for k in (1, 2, 3):
        result[turns == k] = images[turns == k].rot90(k, (-2, -1))
    return result


def turn_to_a_list(images, turns):
    return [torch.rot90(image, int(k), dims=[1, 2]) for image, k in zip(images, turns, strict=True)]


def turn_by_transposing(images, turns):
    result = []
    for image, k in zip(images, turns, strict=True):
        for _ in range(k):
            image = image.transpose(1, 2).flip(1)
        result.append(image)
    return torch.stack(result)


def turn_in_place(images, turns):
    for i, k in enumerate(turns):
        images[i] = images[i].rot90(int(k), (1, 2))
    return images


def turn_in_double(images, turns):
    return rotate_quarters(images.double(), turns)


def only_one_quarter(images, turns):
    return rotate_quarters(images, (turns > 0).long())


TURN_WRONG = [
    (lambda x, k: x, "upright"),
    (lambda x, k: rotate_quarters(x, -k % 4), "clockwise"),
    (lambda x, k: x.rot90(int(k[0]), (2, 3)), "alike"),
    (lambda x, k: x.rot90(1, (2, 3)), "alike"),
    (only_one_quarter, "came out as 1 for image 0"),
    (lambda x, k: x.transpose(2, 3), "mirrored"),
    (lambda x, k: rotate_quarters(x, k).flip(3), "mirrored"),
    (lambda x, k: rotate_quarters(x, k).flip(0), "another order"),
    (lambda x, k: x.rot90(1, (1, 2)), "shape"),
    (
        lambda x, k: torch.stack([a.rot90(int(n)) for a, n in zip(x, k, strict=True)]),
        "RuntimeError",
    ),
    (lambda x, k: x.rot90(k, (2, 3)), "stopped with"),
    (lambda x, k: (rotate_quarters(x, k), k), "Numbers are wanted"),
    (turn_in_place, "have changed"),
]


@pytest.mark.parametrize(
    "right",
    [
        rotate_quarters,
        turn_with_numpy,
        turn_by_quarter,
        turn_to_a_list,
        turn_by_transposing,
        turn_in_double,
    ],
)
def test_turned_images(right):
    feedback = ex.q5.feedback(right)
    assert feedback.outcome is Outcome.CORRECT, feedback


@pytest.mark.parametrize(("function", "message"), TURN_WRONG)
def test_turned_images_mistakes(function, message):
    expect_not_yet(ex.q5, [function], message)
