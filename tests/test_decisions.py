"""Temperatures, thresholds and costs, against formulas and a search by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve

from imbalkit.course.advice import first_remedy
from imbalkit.decisions import (
    cost_threshold,
    decide,
    fit_temperature,
    mean_cost,
    precision_recall,
    recall_threshold,
)
from imbalkit.metrics import calibration


def honest(n=4000, classes=4, seed=0):
    """Logits whose softmax is the true probability of each class, and labels drawn from it."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    return logits, labels


# --- temperature


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_the_temperature_undoes_a_factor(factor):
    logits, labels = honest()
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.06)
    plain = fit_temperature(logits, labels)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor * plain, rel=1e-4)


def test_the_temperature_has_the_lowest_loss_and_mends_the_calibration():
    logits, labels = honest(1000)
    logits = 3 * logits
    best = fit_temperature(logits, labels)
    tried = torch.linspace(0.5, 8, 400)
    losses = torch.stack([F.cross_entropy(logits / t, labels) for t in tried])
    assert F.cross_entropy(logits / best, labels) <= losses.min() + 1e-6
    assert best == pytest.approx(tried[losses.argmin()].item(), abs=0.02)
    before, after = (calibration(logits / t, labels).ece for t in (1, best))
    assert after < before / 3
    assert (logits / best).argmax(1).equal(logits.argmax(1))


def test_the_temperature_stays_in_its_bounds():
    labels = torch.tensor([0, 1, 0, 1])
    logits = F.one_hot(labels, 2).float()

    def at_the_end(logits):
        with pytest.warns(UserWarning, match=r"at the end of what is searched, 0.05 to 20: .*more"):
            return fit_temperature(logits, labels)

    assert at_the_end(logits) == pytest.approx(0.05, rel=0.01)  # always right
    assert at_the_end(-logits) == pytest.approx(20, rel=0.01)  # always wrong
    assert at_the_end(logits.bfloat16()) == at_the_end(logits.numpy())


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [(torch.zeros(3, 2), torch.zeros(2).long(), "give"), (torch.zeros(3), [0, 0, 0], "give"),
     (torch.zeros(0, 2), torch.zeros(0).long(), "give"),
     (torch.full((1, 2), np.nan), [0], "NaN or infinite")],
)  # fmt: skip
def test_logits_that_cannot_be_calibrated(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)


# --- thresholds


def test_the_cost_threshold_is_where_both_answers_cost_the_same():
    assert cost_threshold(1, 1) == 0.5 and cost_threshold(19, 1) == pytest.approx(0.05)
    t = cost_threshold(miss=7, false_alarm=2)
    assert t * 7 == pytest.approx((1 - t) * 2)
    for costs in ((0, 1), (1, -1), (float("inf"), 1), (float("nan"), 1)):
        with pytest.raises(ValueError, match="above 0 and finite"):
            cost_threshold(*costs)


def test_no_threshold_is_cheaper_than_that_of_the_costs_where_probabilities_are_honest():
    logits, labels = honest(20_000, classes=3)
    probabilities = logits.softmax(1)

    def cost(t):
        return mean_cost(labels, decide(probabilities, 2, t), 2, miss=9, false_alarm=1)

    best = cost_threshold(9, 1)
    assert best == 0.1
    assert all(cost(best) < cost(t) for t in (0.02, 0.25, 0.5))
    assert cost(best) < mean_cost(labels, probabilities.argmax(1), 2, 9, 1)


def test_the_recall_threshold_is_the_highest_that_finds_so_many():
    p = torch.tensor([0.9, 0.8, 0.7, 0.3, 0.2, 0.95])
    of_class = torch.tensor([1, 1, 0, 1, 1, 0]).bool()
    for recall, wanted in ((1.0, 0.2), (0.75, 0.3), (0.5, 0.8), (0.25, 0.9), (0.6, 0.3)):
        t = recall_threshold(p, of_class, recall)
        assert t == pytest.approx(wanted)
        assert ((p >= t) & of_class).sum() / of_class.sum() >= recall
    for recall in (0, 1.01, float("nan")):
        with pytest.raises(ValueError, match="above 0 and at most 1"):
            recall_threshold(p, of_class, recall)
    with pytest.raises(ValueError, match="no image belongs"):
        recall_threshold(p, ~of_class & of_class, 0.5)


def test_precision_and_recall_at_each_threshold():
    p = np.array([0.9, 0.8, 0.8, 0.3])
    of_class = np.array([True, False, True, False])
    thresholds, precision, recall = precision_recall(p, of_class)
    assert thresholds.tolist() == [0.9, 0.8, 0.3]
    np.testing.assert_allclose(precision, [1, 2 / 3, 0.5])
    np.testing.assert_allclose(recall, [0.5, 1, 1])
    with pytest.raises(ValueError, match="no image belongs"):
        precision_recall(p, np.zeros(4, bool))


def test_decisions():
    p = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.1, 0.2, 0.7]])
    assert decide(p).tolist() == [0, 0, 2]
    assert decide(p, 2, 0.4).tolist() == [0, 2, 2]
    assert decide(p, 2, 0.05).tolist() == [2, 2, 2]
    assert decide(p, 2, 0.9).tolist() == [0, 0, 1]  # below its threshold even the most probable
    assert decide(p, 1, 0.3).tolist() == [1, 0, 2]
    for costly, threshold in ((3, 0.5), (-1, 0.5), (1, None), (1, 1.5), (1, float("nan"))):
        with pytest.raises(ValueError, match="give a class from 0 to 2"):
            decide(p, costly, threshold)


def test_the_mean_cost_counts_misses_and_false_alarms_of_one_class():
    labels, decisions = torch.tensor([2, 2, 0, 1, 0]), torch.tensor([2, 0, 2, 0, 0])
    assert mean_cost(labels, decisions, 2, miss=10, false_alarm=1) == pytest.approx(11 / 5)
    assert mean_cost(labels, labels, 2, 10, 1) == 0
    assert mean_cost([0, 1], [0, 1], 5, 10, 1) == 0


# --- advice


def test_nearly_equal_classes_need_no_remedy():
    advice = first_remedy([300, 200, 120])
    assert advice.remedy == "none" and "2.5 times" in advice.reason and not advice.cautions
    assert str(advice).startswith("none: the largest class")


def test_a_long_tail_gets_late_sampling_and_its_cautions():
    advice = first_remedy([900, 300, 30])
    assert advice.remedy == "late sampling" and "30 times" in advice.reason
    assert not advice.cautions
    (caution,) = first_remedy([900, 300, 19, 1]).cautions
    assert "2 of 4 classes have fewer than 20" in caution
    both = first_remedy([100, 5])
    assert len(both.cautions) == 2 and "no class has more than 100" in str(both)
    with pytest.raises(ValueError, match="class 1 has no training image"):
        first_remedy([3, 0])


def test_a_label_without_a_column_is_named():
    with pytest.raises(ValueError, match="labels run from 0 to 2 but the logits have 2 columns"):
        fit_temperature(torch.zeros(2, 2), [0, 2])


# --- scipy and scikit-learn say the same


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6), factor=st.floats(0.2, 8))
def test_the_temperature_is_the_one_that_scipy_finds(seed, classes, factor):
    logits, labels = honest(200, classes, seed)
    logits = factor * logits.double()

    def loss(log_inverse):
        return float(F.cross_entropy(logits * np.exp(log_inverse), labels))

    bounds = (-np.log(20), -np.log(0.05))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(logits, labels) == pytest.approx(float(np.exp(-found.x)), rel=1e-4)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), min_size=1
    ).filter(lambda rows: any(of_class for _, of_class in rows))
)
def test_precision_and_recall_are_those_of_scikit_learn(rows):
    probabilities, of_class = map(np.array, zip(*rows, strict=True))
    precision, recall, thresholds = precision_recall_curve(of_class, probabilities)
    ours = precision_recall(probabilities, of_class)
    for mine, theirs in zip(
        ours, (thresholds[::-1], precision[-2::-1], recall[-2::-1]), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("probabilities", "of_class"),
    [([0.5], [True, False]), ([[0.5]], [[True]]), ([np.nan], [True]), (0.5, True)],
)
def test_alarms_that_do_not_match(probabilities, of_class):
    with pytest.raises(ValueError, match="one finite probability and one boolean per image"):
        precision_recall(probabilities, of_class)
