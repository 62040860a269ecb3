"""The prior after training: Bayes' rule, its identities, and shares found without labels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from imbalkit.losses import LogitAdjustedLoss
from imbalkit.priors import adjust_logits, estimate_prior

COUNTS = [500, 120, 30, 8]
EQUAL = [1, 1, 1, 1]


def random_logits(n=50, classes=4, seed=0):
    return 3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def probabilities(logits):
    return logits.double().softmax(1)


# --- adjust_logits

positive = st.floats(0.01, 1000)
priors = st.integers(2, 8).flatmap(
    lambda c: st.tuples(*[st.lists(positive, min_size=c, max_size=c)] * 3)
)


@settings(deadline=None, max_examples=30)
@given(priors, st.integers(0, 1000))
def test_it_is_the_rule_of_bayes(three, seed):
    """p_new(c | x) is in proportion to p_old(c | x) test_c / train_c."""
    train, test, _ = three
    logits = random_logits(classes=len(train), seed=seed)
    by_hand = probabilities(logits) * torch.tensor(test) / torch.tensor(train)
    by_hand = by_hand / by_hand.sum(1, keepdim=True)
    got = probabilities(adjust_logits(logits, train, test))
    torch.testing.assert_close(got, by_hand, rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(priors, st.floats(0, 3))
def test_two_changes_after_one_another_are_one(three, tau):
    first, second, third = three
    logits = random_logits(classes=len(first))
    twice = adjust_logits(adjust_logits(logits, first, second, tau), second, third, tau)
    once = adjust_logits(logits, first, third, tau)
    torch.testing.assert_close(twice, once, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_without_a_test_prior_all_classes_are_alike(tau):
    logits = random_logits()
    got = adjust_logits(logits, COUNTS, tau=tau)
    shares = torch.tensor(COUNTS) / sum(COUNTS)
    torch.testing.assert_close(got, logits - tau * shares.log())
    uniform = adjust_logits(logits, COUNTS, EQUAL, tau)
    torch.testing.assert_close(probabilities(uniform), probabilities(got), atol=1e-5, rtol=0)


def test_it_takes_out_what_the_loss_puts_in():
    logits, targets = random_logits(), torch.arange(50) % 4
    for tau in (0.5, 1.0, 2.0):
        loss = LogitAdjustedLoss(COUNTS, tau)
        inside = adjust_logits(logits, EQUAL, COUNTS, tau)
        torch.testing.assert_close(F.cross_entropy(inside, targets), loss(logits, targets))
        taken_out = adjust_logits(logits + loss.adjustment, COUNTS, tau=tau)
        torch.testing.assert_close(taken_out, logits)


def test_each_argument_acts():
    logits = random_logits()
    results = [
        adjust_logits(logits, COUNTS),
        adjust_logits(logits, COUNTS[::-1]),
        adjust_logits(logits, COUNTS, [1, 2, 3, 4]),
        adjust_logits(logits, COUNTS, tau=0.5),
        logits,
    ]
    for i, a in enumerate(results):
        for b in results[:i]:
            assert (probabilities(a) - probabilities(b)).abs().max() > 0.05


def test_the_same_prior_or_tau_0_changes_nothing():
    logits = random_logits()
    torch.testing.assert_close(adjust_logits(logits, COUNTS, COUNTS, 2.0), logits)
    torch.testing.assert_close(adjust_logits(logits, COUNTS, [1, 0, 0, 2], tau=0.0), logits)


@pytest.mark.parametrize(
    "prior",
    [
        COUNTS,
        tuple(COUNTS),
        np.array(COUNTS),
        torch.tensor(COUNTS),
        torch.tensor(COUNTS) / 658,
        np.array(COUNTS) / 658,
    ],
)
def test_counts_and_shares_of_any_kind_give_the_same(prior):
    logits = random_logits()
    torch.testing.assert_close(adjust_logits(logits, prior), adjust_logits(logits, COUNTS))


def test_a_class_that_does_not_come_is_never_predicted():
    logits = random_logits()
    adjusted = adjust_logits(logits, COUNTS, [1, 0, 1, 1])
    assert (logits.argmax(1) == 1).any() and not (adjusted.argmax(1) == 1).any()
    others = [0, 2, 3]
    torch.testing.assert_close(
        adjusted.softmax(1)[:, others], adjust_logits(logits, COUNTS)[:, others].softmax(1)
    )
    assert (adjusted.softmax(1)[:, 1] == 0).all()


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32),
     (torch.float32, torch.float32), (torch.float64, torch.float64)],
)  # fmt: skip
def test_half_precision_is_computed_in_float32(dtype, wanted):
    logits = random_logits().to(dtype)
    got = adjust_logits(logits, COUNTS)
    assert got.dtype == wanted
    torch.testing.assert_close(got, adjust_logits(logits.to(wanted), COUNTS))


def test_the_input_stays_and_the_gradient_passes():
    logits = random_logits().requires_grad_()
    before = logits.detach().clone()
    adjust_logits(logits, COUNTS).softmax(1)[:, 0].sum().backward()
    assert logits.equal(before) and logits.grad.abs().sum() > 0


def test_it_runs_on_the_meta_device():
    logits = torch.zeros(8, 4, device="meta")
    assert adjust_logits(logits, torch.tensor(COUNTS), EQUAL).device.type == "meta"


# --- estimate_prior


def four_clouds(shares, n, seed, distance=2.0):
    """Points of four classes in the plane, and the logits of the best model for COUNTS."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor(shares).double(), n, True, generator=generator)
    centres = distance * torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    points = centres[labels] + torch.randn(n, 2, generator=generator)
    log_likelihood = -((points[:, None] - centres) ** 2).sum(2) / 2
    return log_likelihood + (torch.tensor(COUNTS) / sum(COUNTS)).log(), labels


@pytest.mark.parametrize(
    "shares", [[0.25] * 4, [0.02, 0.08, 0.2, 0.7], [0.76, 0.18, 0.05, 0.01], [0.5, 0, 0.5, 0]]
)
def test_the_shares_are_found_without_labels(shares):
    logits, labels = four_clouds(shares, 20_000, seed=1)
    wanted = torch.bincount(labels, minlength=4) / len(labels)
    got = estimate_prior(logits, COUNTS)
    assert got.dtype == torch.float32 and got.sum() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(got, wanted.float(), rtol=0, atol=0.015)


def test_it_beats_counting_the_predictions_and_their_mean_probability():
    shares = [0.02, 0.08, 0.2, 0.7]
    logits, labels = four_clouds(shares, 20_000, seed=2)
    wanted = torch.bincount(labels, minlength=4) / len(labels)
    counted = torch.bincount(logits.argmax(1), minlength=4) / len(logits)
    error = (estimate_prior(logits, COUNTS) - wanted).abs().sum()
    for naive in (counted, logits.softmax(1).mean(0)):
        assert error < 0.2 * (naive - wanted).abs().sum()


def test_with_the_shares_found_more_images_are_right():
    logits, labels = four_clouds([0.02, 0.08, 0.2, 0.7], 20_000, seed=3)

    def accuracy(values):
        return (values.argmax(1) == labels).double().mean()

    found = adjust_logits(logits, COUNTS, estimate_prior(logits, COUNTS))
    known = adjust_logits(logits, COUNTS, torch.bincount(labels))
    assert accuracy(found) > accuracy(logits) + 0.2
    assert accuracy(found) == pytest.approx(float(accuracy(known)), abs=0.005)


def test_the_estimate_is_a_fixed_point_and_repeats():
    logits, _ = four_clouds([0.1, 0.2, 0.3, 0.4], 3000, seed=4)
    found = estimate_prior(logits, COUNTS)
    mean = adjust_logits(logits.double(), COUNTS, found).softmax(1).mean(0)
    torch.testing.assert_close(mean.float(), found, rtol=0, atol=1e-5)
    assert estimate_prior(logits, COUNTS).equal(found)


def test_the_training_prior_acts_in_the_estimate():
    logits, _ = four_clouds([0.25] * 4, 3000, seed=5)
    right, wrong = estimate_prior(logits, COUNTS), estimate_prior(logits, EQUAL)
    assert (right - wrong).abs().max() > 0.1
    # An adjusted model expects equal shares: the same answer, told so.
    adjusted = estimate_prior(adjust_logits(logits, COUNTS), EQUAL)
    torch.testing.assert_close(adjusted, right, atol=1e-4, rtol=0)


def test_sure_predictions_are_counted():
    labels = torch.tensor([0] * 5 + [1] * 3 + [3] * 2)
    got = estimate_prior(1e6 * F.one_hot(labels, 4).float(), COUNTS)
    torch.testing.assert_close(got, torch.tensor([0.5, 0.3, 0.0, 0.2]))


# --- what is wrong with the arguments

LOGITS = torch.zeros(3, 4)


@pytest.mark.parametrize("function", [adjust_logits, estimate_prior])
@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ([5, 4, 3], r"train_prior is int64 of shape \(3,\), but the logits have shape \(3, 4\)"),
        ([[1, 1, 1, 1]], "one number per class"),
        (["a", "b", "c", "d"], "one number per class"),
        ([True] * 4, "one number per class"),
        ([1, 2, 3, -1], "finite, 0 or more, and not all 0"),
        ([0, 0, 0, 0], "not all 0"),
        ([1, 2, 3, math.nan], "finite"),
        ([1, 2, 0, 3], "class 2 has the share 0 in train_prior"),
    ],
)
def test_a_training_prior_that_is_none_is_refused(function, prior, message):
    with pytest.raises(ValueError, match=message):
        function(LOGITS, prior)


def test_a_test_prior_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"test_prior is .*not all 0"):
        adjust_logits(LOGITS, EQUAL, [0, 0, 0, 0])
    with pytest.raises(ValueError, match="test_prior is int64 of shape"):
        adjust_logits(LOGITS, EQUAL, [1, 1])


@pytest.mark.parametrize("tau", [-1, math.nan, math.inf])
def test_a_tau_that_is_none_is_refused(tau):
    with pytest.raises(ValueError, match=r"tau is .*; it must be finite and 0 or more"):
        adjust_logits(LOGITS, EQUAL, tau=tau)


@pytest.mark.parametrize(
    "logits", [torch.zeros(0, 4), LOGITS * math.nan, LOGITS + math.inf], ids=["no", "NaN", "inf"]
)
def test_logits_that_say_nothing_are_refused(logits):
    with pytest.raises(ValueError, match="say nothing about the classes' shares"):
        estimate_prior(logits, EQUAL)
