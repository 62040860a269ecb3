"""Right answers in several styles, and every mistake that lesson 10's exercises expect."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import expect_not_yet

from imbalkit.course.exercises import lesson10 as ex
from imbalkit.course.exercises.base import Outcome
from imbalkit.data import Batches
from imbalkit.selfsupervised import nt_xent

# --- the loss by hand


def loss(logits):
    return math.log(sum(map(math.exp, logits))) - logits[0]


COSINES = (0.9, 0.5, -0.1)
LOSSES = [loss([c / tau for c in COSINES]) for tau in (0.5, 0.1)]
BY_HAND_WRONG = [
    (LOSSES[::-1], "swapped"),
    ([loss([c * tau for c in COSINES]) for tau in (0.5, 0.1)], "multiplied by the temperature"),
    ([loss(COSINES)] * 2, "temperature 1"),
    (
        [math.log(math.exp(0.5 / t) + math.exp(-0.1 / t)) - 0.9 / t for t in (0.5, 0.1)],
        "belongs into the sum",
    ),
    (
        [0.9 / t - math.log(math.exp(0.5 / t) + math.exp(-0.1 / t)) for t in (0.5, 0.1)],
        "sign is turned, and the partner",
    ),
    ([loss([c / t for c in (*COSINES, 1.0)]) for t in (0.5, 0.1)], "view itself is in the sum"),
    ([math.exp(-value) for value in LOSSES], "probabilities"),
    ([-value for value in LOSSES], "sign is turned."),
    ([value / math.log(10) for value in LOSSES], "base 10"),
    ([value / math.log(2) for value in LOSSES], "base 2"),
    ((0.5, LOSSES[1]), "temperature 0.5 the loss is not 0.5"),
    ((LOSSES[0], 0.02), "temperature 0.1 the loss is not 0.02"),
]


@pytest.mark.parametrize("right", [LOSSES, (0.46, 0.018), tuple(map(torch.tensor, LOSSES))])
def test_loss_by_hand(right):
    assert ex.q1.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), BY_HAND_WRONG)
def test_loss_by_hand_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


def test_loss_by_hand_is_a_term_of_the_packages_loss():
    """Four projections with these cosines, and the other three terms taken off."""
    gram = torch.eye(4, dtype=torch.float64)
    cosines = {(0, 2): 0.9, (0, 1): 0.5, (0, 3): -0.1, (1, 2): 0.4, (2, 3): -0.1}
    for (i, j), c in cosines.items():
        gram[i, j] = gram[j, i] = c
    z = torch.linalg.cholesky(gram)
    answer = []
    for tau in (0.5, 0.1):
        others = sum(
            (gram[i][torch.arange(4) != i] / tau).logsumexp(0) - gram[i, (i + 2) % 4] / tau
            for i in (1, 2, 3)
        )
        answer.append(4 * nt_xent(z, tau) - others)
    assert ex.q1.feedback(*answer).outcome is Outcome.CORRECT


# --- the partner


def with_numpy(z):
    z = z.numpy() / np.linalg.norm(z.numpy(), axis=1, keepdims=True)
    cosines = z @ z.T
    np.fill_diagonal(cosines, -np.inf)
    return np.mean(cosines.argmax(1) == np.roll(np.arange(len(z)), len(z) // 2))


def with_loops(z):
    hits = 0
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        best = max(others, key=lambda j: F.cosine_similarity(z[i], z[j], dim=0).item())
        hits += best == (i + len(z) // 2) % len(z)
    return hits / len(z)


def with_distances(z):
    distance = torch.cdist(F.normalize(z), F.normalize(z)).fill_diagonal_(9)
    half = len(z) // 2
    return (distance.argmin(1) == (torch.arange(len(z)) + half) % len(z)).double().mean()


def similarity(z, normalised=True, masked=True):
    z = F.normalize(z) if normalised else z
    product = z @ z.T
    return product.fill_diagonal_(-1e9) if masked else product


def partner(z):
    return torch.arange(len(z)).roll(len(z) // 2)


def hits(values, wanted):
    return (values.argmax(1) == wanted).float().mean()


PARTNER_WRONG = [
    (lambda z: hits(similarity(z, masked=False), partner(z)), "No partner is found"),
    (lambda z: hits(similarity(z, masked=False), torch.arange(len(z))), "compared with itself"),
    (lambda z: 1 - hits(similarity(z), partner(z)), "not found"),
    (lambda z: hits(similarity(z, normalised=False), partner(z)), "not the product"),
    (lambda z: hits(similarity(z), partner(z).where(partner(z) >= len(z) // 2, -1)) * 2, "first N"),
    (
        lambda z: hits(similarity(z)[: len(z) // 2, len(z) // 2 :], torch.arange(len(z) // 2)),
        "second N only",
    ),
    (lambda z: hits(similarity(z), torch.arange(len(z)) ^ 1), "not the next one"),
    (lambda z: hits(-similarity(z, masked=False), partner(z)), "No partner is found"),
    (lambda z: 2 * hits(similarity(z), partner(z)) / 3, "your function gives"),
    (lambda z: hits(similarity(z), partner(z)) * len(z) / (len(z) - 1), "number of views, 2N."),
    (lambda z: 55.0, "per cent"),
    (lambda z: z, "One number is wanted"),
    (lambda z: z @ z, "RuntimeError"),
]


@pytest.mark.parametrize("right", [with_numpy, with_loops, with_distances])
def test_partner_found(right):
    assert ex.q2.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), PARTNER_WRONG)
def test_partner_found_mistakes(function, message):
    expect_not_yet(ex.q2, [function], message)


# --- the ceiling


@pytest.mark.parametrize("right", [0.7, 7 / 10, torch.tensor(0.7)])
def test_ceiling(right):
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT


def test_ceiling_is_what_the_best_guess_gets():
    """Play it: of each kind, how many turns look as the one that was made?"""
    torch.manual_seed(0)
    kinds = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 100_000, replacement=True)
    alike = torch.tensor([1, 2, 4])[kinds]
    hit = torch.randint(4, (100_000,)) % alike == 0  # one of those that look alike, at random
    assert hit.float().mean() == pytest.approx(0.7, abs=0.01)


CEILING_WRONG = [
    (0.5, "still guess"),
    (0.75, "On a ball four"),
    (0.65, "balls can be guessed"),
    (0.55, "narrow"),
    (0.625, "On a card two"),
    (0.85, "counts as certain"),
    (0.25, "guessing on every"),
    (1.0, "ball was turned"),
    (0.3, "share of errors"),
    (0.4, "one by one"),
    (70, "per cent"),
]


@pytest.mark.parametrize(("answer", "message"), CEILING_WRONG)
def test_ceiling_mistakes(answer, message):
    expect_not_yet(ex.q3, [answer], message)


# --- the bill


BILL_WRONG = [
    ((230, 130), "swapped"),
    ((100, 200), "come on top"),
    ((130, 130), "passes twice"),
    ((100, 100), "views are two"),
    ((32, 34), "Epochs are added"),
    ((32, 32), "Epochs are added"),
    ((30, 30), "not free"),
    ((230, 230), "once in an epoch"),
    ((130_000, 230_000), "These are images"),
    ((2.6, 4.6), "not on the 50,000"),
    ((125, 230), "For rotation it is not 125"),
    ((130, 225), "For contrastive it is not 225"),
]


@pytest.mark.parametrize("right", [(130, 230), (130.0, 230.0), (np.int64(130), np.int64(230))])
def test_bill(right):
    assert ex.q4.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), BILL_WRONG)
def test_bill_mistakes(answer, message):
    expect_not_yet(ex.q4, answer, message)


# --- upside down


def draw(images, generator):
    return torch.randint(2, (len(images),), generator=generator, device=images.device)


def flip_where(images, chosen, dims=2):
    return torch.where(chosen.bool().view(-1, 1, 1, 1), images.flip(dims), images)


def with_a_clone(images, targets, generator):
    flipped = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    result = images.clone()
    result[flipped] = result[flipped].flip(2)
    return result, flipped.long()


def with_a_loop(images, targets, generator):
    flipped = draw(images, generator)
    pictures = [x.flip(1) if f else x for x, f in zip(images, flipped, strict=True)]
    return torch.stack(pictures), flipped


def with_a_permutation(images, targets, generator):
    flipped = torch.randperm(len(images), generator=generator) % 2
    return flip_where(images, flipped), flipped


def changed(change_images=lambda x, f: flip_where(x, f), change_targets=lambda f, t: f):
    def function(images, targets, generator):
        flipped = draw(images, generator)
        return change_images(images, flipped), change_targets(flipped, targets)

    return function


def in_place(images, targets, generator):
    flipped = draw(images, generator)
    images[flipped.bool()] = images[flipped.bool()].flip(2)
    return images, flipped


UPSIDE_WRONG = [
    (changed(lambda x, f: x), "images are as before"),
    (changed(lambda x, f: flip_where(x, f, 3)), "left to right"),
    (changed(lambda x, f: flip_where(x, f, (2, 3))), "turned by half"),
    (changed(lambda x, f: flip_where(x, f, 1)), "Red and blue"),
    (changed(lambda x, f: flip_where(x, 1 - f)), "target 0, and the upright"),
    (changed(lambda x, f: x.flip(2)), "Every image is flipped"),
    (changed(lambda x, f: flip_where(x, f.roll(1))), "do not fit"),
    (changed(lambda x, f: flip_where(x, f).float()), "go out as torch.float32"),
    (changed(lambda x, f: flip_where(x, f)[:5]), "have shape (5"),
    (changed(change_targets=lambda f, t: t), "still the labels"),
    (changed(change_targets=lambda f, t: f.bool()), "torch.bool"),
    (changed(change_targets=lambda f, t: f.float()), "torch.float32"),
    (changed(change_targets=lambda f, t: 2 * f), "0 and 1"),
    (changed(change_targets=lambda f, t: f[:, None]), "shape"),
    (changed(change_targets=lambda f, t: f.tolist()), "two tensors"),
    (changed(change_targets=lambda f, t: f * 0), "same answer"),
    (lambda x, t, g: (flip_where(x, draw(x, None)), draw(x, g)), "global generator"),
    (lambda x, t, g: (x, torch.arange(len(x)) * 0 + 1), "same answer"),
    (lambda x, t, g: (x, (torch.rand(len(x), generator=g) < 0.1).long()), "equally often"),
    (lambda x, t, g: flip_where(x, draw(x, g)), "two things"),
    (in_place, "Work on a copy"),
    (lambda x, t, g: x.nothing, "AttributeError"),
]


@pytest.mark.parametrize("right", [with_a_clone, with_a_loop, with_a_permutation])
def test_upside_down(right):
    state = torch.get_rng_state()
    assert ex.q5.feedback(right).outcome is Outcome.CORRECT
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("function", "message"), UPSIDE_WRONG)
def test_upside_down_mistakes(function, message):
    state = torch.get_rng_state()
    expect_not_yet(ex.q5, [function], message)
    assert torch.equal(state, torch.get_rng_state())


def test_other_flips_at_each_call_are_a_mistake():
    calls = []

    def restless(images, targets, generator):
        calls.append(None)
        flipped = torch.randint(2, (len(images),), generator=generator).roll(len(calls))
        return flip_where(images, flipped), flipped

    expect_not_yet(ex.q5, [restless], "other flips")


def test_the_solution_works_in_batches(tiny_set):
    names = {"torch": torch}
    exec(ex.q5.code(), names)
    plain = {"mean": [0] * 3, "std": [1] * 3, "device": torch.device("cpu")}
    batches = Batches(tiny_set, 30, **plain, augment=[names["upside_down"]])
    assert {tuple(targets.unique().tolist()) for _, targets in batches} == {(0, 1)}
