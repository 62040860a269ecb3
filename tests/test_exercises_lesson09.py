"""Right answers in several styles, and every mistake that lesson 09's exercises expect."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import expect_not_yet

from imbalkit.course.exercises import lesson09 as ex
from imbalkit.course.exercises.base import Outcome
from imbalkit.losses import LDAMLoss, LogitAdjustedLoss
from imbalkit.priors import adjust_logits, estimate_prior

# --- other shares


OTHER_WRONG = [
    ((2.7, 0.972), "A probability above 1"),
    ((1.5, 0.972), "A probability above 1"),
    ((0.794, 24.3), "A probability above 1"),
    ((79.4, 97.2), "per cent"),
    ((0.3, 0.972), "says already"),
    ((0.0455, 0.972), "less likely than before"),
    ((0.972, 0.794), "nine times as often"),
    ((0.5, 0.9), "without looking at the image"),
    ((0.7, 0.972), "it is not 0.7"),
    ((0.794, 0.3), "has not changed"),
    ((0.794, 0.794), "further from the training"),
    ((0.794, 0.0455), "not less"),
    ((0.794, 0.9), "B's share there"),
    ((0.794, 0.99), "it is not 0.99"),
]


@pytest.mark.parametrize("right", [(0.794, 0.972), (27 / 34, 243 / 250), (0.7941, 0.97)])
def test_other_shares(right):
    assert ex.q1.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), OTHER_WRONG)
def test_other_shares_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


def test_other_shares_has_the_numbers_of_the_package():
    logits = torch.tensor([[0.7, 0.3]]).log()
    mixes = ([1, 1], [100, 900])
    answer = [adjust_logits(logits, [900, 100], mix).softmax(1)[0, 1] for mix in mixes]
    assert ex.q1.feedback(*answer).outcome is Outcome.CORRECT


# --- one step


def rows(values):
    return values / values.sum(1, keepdim=True)


def with_logits(p, train, guess):
    return (p.log() + guess.log() - train.log()).softmax(1).mean(0)


def with_the_package(p, train, guess):
    return adjust_logits(p.log(), train, guess).softmax(1).mean(dim=0)


def with_numpy(p, train, guess):
    w = p.numpy() * (guess / train).numpy()
    return (w / w.sum(axis=1)[:, None]).mean(axis=0)


def with_loops(p, train, guess):
    result = [0.0] * len(guess)
    for row in p.tolist():
        joint = [x * g / t for x, g, t in zip(row, guess.tolist(), train.tolist(), strict=True)]
        for c, value in enumerate(joint):
            result[c] += value / sum(joint) / len(p)
    return result


def in_place(p, train, guess):
    p *= guess
    p /= train
    p /= p.sum(1, keepdim=True)
    return p.mean(0)


STEP_WRONG = [
    (lambda p, t, g: rows(p * g / t), "one row for each image"),
    (lambda p, t, g: rows(p * g / t).mean(1), "shape"),
    (lambda p, t, g: rows(p * g / t).sum(0), "sums to the number of images"),
    (lambda p, t, g: (p * g / t).mean(0), "rows do not sum to 1"),
    (lambda p, t, g: p.mean(0), "mean of the old probabilities"),
    (lambda p, t, g: g, "old guess"),
    (lambda p, t, g: rows(p * g).mean(0), "model's own prior"),
    (lambda p, t, g: rows(p / t).mean(0), "guess is not in yet"),
    (lambda p, t, g: rows(p * t / g).mean(0), "changed places"),
    (lambda p, t, g: rows(p * t * g).mean(0), "not multiply"),
    (lambda p, t, g: rows((p * g / t).sum(0)[None])[0], "each image has to"),
    (lambda p, t, g: rows((p.mean(0) * g / t)[None])[0], "each image has to"),
    (
        lambda p, t, g: torch.bincount((p * g / t).argmax(1), minlength=len(g)) / len(p),
        "decisions are counted",
    ),
    (lambda p, t, g: (p + g - t).softmax(1).mean(0), "it should be"),
    (lambda p, t, g: p / 0, "one row for each image"),
    (lambda p, t, g: g / 0, "NaN or infinite"),
    (lambda p, t, g: p.mul(3).log(1), "TypeError"),
]


@pytest.mark.parametrize("right", [with_logits, with_the_package, with_numpy, with_loops, in_place])
def test_one_step(right):
    assert ex.q2.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), STEP_WRONG)
def test_one_step_mistakes(function, message):
    expect_not_yet(ex.q2, [function], message)


def test_many_steps_are_the_estimate_of_the_package():
    names = {}
    exec(ex.q2.code(), names)
    logits = 2 * torch.randn(300, 4, generator=torch.Generator().manual_seed(0)).double()
    train = torch.tensor([0.6, 0.2, 0.15, 0.05])
    guess = train
    for _ in range(3000):
        guess = names["next_guess"](logits.softmax(1), train, guess)
    torch.testing.assert_close(guess.float(), estimate_prior(logits, train), atol=1e-4, rtol=0)


# --- the margin


def margins(counts, max_margin):
    return max_margin * (counts.min() / counts) ** 0.25


def with_the_packages_loss(x, y, n, max_margin, scale):
    return LDAMLoss(n, max_margin, scale)(x, y)


def with_one_hot(x, y, n, max_margin, scale):
    return F.cross_entropy(scale * (x - F.one_hot(y, len(n)) * margins(n, max_margin)), y)


def with_where(x, y, n, max_margin, scale):
    true = torch.arange(len(n)) == y[:, None]
    return F.cross_entropy(torch.where(true, x - margins(n, max_margin), x) * scale, y)


def with_quarter_powers(x, y, n, max_margin, scale):
    margin = 1 / n.double().sqrt().sqrt()
    margin = margin * (max_margin / margin.max())
    z = scale * x.double()
    z[range(len(y)), y] -= scale * margin[y]
    return (z.logsumexp(1) - z[range(len(y)), y]).mean().item()


def with_a_loop(x, y, n, max_margin, scale):
    total = 0.0
    for row, c in zip(x.tolist(), y.tolist(), strict=True):
        row[c] -= max_margin * (min(n.tolist()) / n[c].item()) ** 0.25
        total += math.log(sum(math.exp(scale * (v - row[c])) for v in row))
    return total / len(y)


def alike(logits_of):
    """A wrong loss from its logits, for cosines x, true classes as one-hot rows t, margins m."""

    def loss(x, y, n, max_margin, scale):
        t = F.one_hot(y, len(n))
        return F.cross_entropy(logits_of(x, t, margins(n, max_margin), n, max_margin, scale), y)

    return loss


def turned(n, max_margin):
    return max_margin * (n / n.max()) ** 0.25


MARGIN_WRONG = [
    (alike(lambda x, t, m, n, w, s: s * (x - turned(n, w))), "Nothing has been repaired"),
    (alike(lambda x, t, m, n, w, s: s * (x - t * turned(n, w))), "frequent classes have wide"),
    (alike(lambda x, t, m, n, w, s: s * (x - m)), "every class loses its own"),
    (alike(lambda x, t, m, n, w, s: s * x - t * m), "not multiplied by the scale"),
    (alike(lambda x, t, m, n, w, s: x - t * m), "scale does nothing"),
    (alike(lambda x, t, m, n, w, s: s * x), "margin does nothing"),
    (alike(lambda x, t, m, n, w, s: s * (x + t * m)), "as a present"),
    (alike(lambda x, t, m, n, w, s: s * (x - t * w * n.min() / n)), "power of 1/4 is missing"),
    (alike(lambda x, t, m, n, w, s: s * (x - t * n**-0.25)), "widest margin"),
    (alike(lambda x, t, m, n, w, s: s * (x - t * w)), "the same margin"),
    (lambda x, y, n, w, s: 9 * LDAMLoss(n, w, s)(x, y), "sum of the losses"),
    (lambda x, y, n, w, s: LDAMLoss(n, w, 30.0)(x, y), "it should be"),
    (lambda x, y, n, w, s: LDAMLoss(n, 0.5, s)(x, y), "it should be"),
    (lambda x, y, n, w, s: LDAMLoss([400, 60, 9], w, s)(x, y), "ValueError"),
    (lambda x, y, n, w, s: x - margins(n, w), "One number"),
]


@pytest.mark.parametrize(
    "right",
    [with_the_packages_loss, with_one_hot, with_where, with_quarter_powers, with_a_loop],
)
def test_margin(right):
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), MARGIN_WRONG)
def test_margin_mistakes(function, message):
    expect_not_yet(ex.q3, [function], message)


# --- what is left


LEFT_WRONG = [
    ((0, 0.25, 49), "leave the other half"),
    ((1, 0.25, 49), "Half of it is done"),
    ((-0.5, 0.25, 49), "put more of the prior in"),
    ((0.7, 0.25, 49), "Which power of n"),
    ((0.5, 0, 49), "weights of n^(-1/2)"),
    ((0.5, 0.5, 49), "for the batches alone"),
    ((0.5, 0.75, 49), "for the weights alone"),
    ((0.5, 1, 49), "without weights"),
    ((0.5, -0.25, 49), "would put the prior in"),
    ((0.5, 0.125, 49), "Multiply the two powers"),
    ((0.5, 0.25, 1), "a prior that is not there"),
    ((0.5, 0.25, 1 / 49), "how the training set has it"),
    ((0.5, 0.25, 0.0204), "how the training set has it"),
    ((0.5, 0.25, 7), "a tau of 1"),
    ((0.5, 0.25, 2401), "counts both corrections"),
    ((0.5, 0.25, 4800), "does not fit"),
]


@pytest.mark.parametrize(
    "right", [(0.5, 0.25, 49), (1 / 2, 1 / 4, 49.0), (0.5, 0.25, np.int64(49))]
)
def test_what_is_left(right):
    assert ex.q4.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), LEFT_WRONG)
def test_what_is_left_mistakes(answer, message):
    expect_not_yet(ex.q4, answer, message)


def fitted_shares(counts, power, weight_power, tau):
    """What a model without inputs expects, fitted with a sampler, weights and the adjusted loss."""
    counts = torch.tensor(counts)
    entering = counts.double() ** (power - weight_power)
    entering = entering / entering.sum()
    loss = LogitAdjustedLoss(counts, tau)
    z = torch.zeros(len(counts), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=100, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        value = loss(z[None], entering[None])
        value.backward()
        return value

    optimizer.step(step)
    return z.detach().softmax(0)


def test_what_is_left_is_what_a_model_learns():
    for power, weight_power, tau in ((0.5, 0, 0.5), (0.5, 0.25, 0.25), (1, 0, 1), (0, 0, 0)):
        shares = fitted_shares([4900, 700, 100], power, weight_power, tau)
        torch.testing.assert_close(shares, torch.full((3,), 1 / 3).double(), atol=1e-3, rtol=0)
    shares = fitted_shares([4900, 100], 0, 0, 1)
    assert shares[1] / shares[0] == pytest.approx(49, rel=0.01)


# --- in use


@pytest.mark.parametrize(
    ("letter", "message"), [("a", "99 are sound"), ("b", "twice"), ("d", "never in")]
)
def test_in_use(letter, message):
    expect_not_yet(ex.q5, [letter], message)
    assert ex.q5.feedback("c").outcome is Outcome.CORRECT
