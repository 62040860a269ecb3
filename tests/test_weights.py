"""scikit-learn and cbloss are the oracles, besides what every scheme has to keep."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from cbloss.loss import ClassBalancedLoss
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from imbalkit import weights
from imbalkit.checks import check_counts, check_no_empty_class
from imbalkit.losses import WeightedCrossEntropy
from imbalkit.priors import adjust_logits
from imbalkit.sampling import image_weights

COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
BALANCED = [0.2481, 0.4139, 0.6908, 1.1519, 1.9234, 3.2057, 5.3474, 8.9252, 14.947, 24.812]
EFFECTIVE = [0.0506, 0.0769, 0.1211, 0.1950, 0.3188, 0.5246, 0.8683, 1.4426, 2.4092, 3.9927]
SCHEMES = {
    "balanced": weights.balanced,
    "square_root": weights.square_root,
    "effective_number": weights.effective_number,
    "effective_number, beta 0.9": lambda counts, **options: weights.effective_number(
        counts, beta=0.9, **options
    ),
}
each_scheme = pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
class_counts = st.lists(st.integers(1, 10**9), min_size=1, max_size=12)
small_counts = st.lists(st.integers(1, 10_000), min_size=1, max_size=12)
betas = st.sampled_from([0.5, 0.9, 0.99, 0.999, 0.9999, 0.999999])


def in_the_papers_scale(weights):
    return weights * len(weights) / weights.sum()


# --- against the oracles


def test_the_numbers_of_long_tailed_cifar10():
    assert weights.balanced(COUNTS).tolist() == pytest.approx(BALANCED, rel=3e-4)
    paper = in_the_papers_scale(weights.effective_number(COUNTS, beta=0.9999))
    assert paper.tolist() == pytest.approx(EFFECTIVE, abs=6e-5)


@given(small_counts)
@settings(deadline=None)
def test_balanced_is_what_scikit_learn_says(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    np.testing.assert_allclose(weights.balanced(counts).numpy(), expected, rtol=1e-6)


@given(class_counts, betas)
@settings(deadline=None)
def test_effective_number_is_what_cbloss_says(counts, beta):
    oracle = ClassBalancedLoss(counts, beta, len(counts), None).weights.cpu()
    ours = in_the_papers_scale(weights.effective_number(counts, beta))
    torch.testing.assert_close(ours, oracle, rtol=1e-5, atol=1e-7)


@given(class_counts)
@settings(deadline=None)
def test_square_root_lies_half_way_between_no_weights_and_balanced(counts):
    logarithm = weights.square_root(counts).double().log()
    half = weights.balanced(counts).double().log() / 2
    torch.testing.assert_close(logarithm - logarithm[0], half - half[0], rtol=1e-5, atol=1e-5)


# --- what every scheme keeps


@each_scheme
@given(counts=class_counts)
@settings(deadline=None)
def test_the_average_training_image_has_weight_one(scheme, counts):
    w = scheme(counts)
    assert w.dtype == torch.float32 and w.shape == (len(counts),)
    assert w.isfinite().all() and (w > 0).all()
    assert np.average(w.double(), weights=counts) == pytest.approx(1, rel=1e-5)


@each_scheme
@given(counts=class_counts)
@settings(deadline=None)
def test_a_rarer_class_never_gets_less(scheme, counts):
    w = scheme(sorted(counts))
    assert (w[1:] <= w[:-1] * (1 + 1e-6)).all()


@each_scheme
def test_a_rarer_class_gets_more(scheme):
    w = scheme([100, 10, 1])
    assert w[0] < w[1] < w[2]


@each_scheme
@given(count=st.integers(1, 10**9), classes=st.integers(1, 12))
@settings(deadline=None)
def test_classes_of_one_size_get_no_weights(scheme, count, classes):
    torch.testing.assert_close(scheme([count] * classes), torch.ones(classes))


@each_scheme
@given(counts=class_counts, random=st.randoms())
@settings(deadline=None)
def test_each_class_keeps_its_weight_wherever_it_stands(scheme, counts, random):
    order = random.sample(range(len(counts)), len(counts))
    torch.testing.assert_close(scheme([counts[i] for i in order]), scheme(counts)[order])


@each_scheme
@pytest.mark.parametrize(
    "as_given", [np.array, torch.tensor, lambda c: torch.tensor(c, dtype=torch.int32)]
)
def test_counts_may_be_arrays_and_tensors(scheme, as_given):
    torch.testing.assert_close(scheme(as_given(COUNTS)), scheme(COUNTS), rtol=0, atol=0)


# --- the effective number's beta


@given(class_counts)
@settings(deadline=None)
def test_beta_zero_weighs_every_class_the_same(counts):
    torch.testing.assert_close(weights.effective_number(counts, 0), torch.ones(len(counts)))


@given(small_counts)
@settings(deadline=None)
def test_beta_towards_one_is_balanced(counts):
    w = weights.effective_number(counts, beta=1 - 1e-12)
    torch.testing.assert_close(w, weights.balanced(counts), rtol=1e-6, atol=0)


def test_a_larger_beta_gives_the_rarest_class_more():
    rarest = [weights.effective_number(COUNTS, beta)[-1] for beta in (0.5, 0.99, 0.999, 0.9999)]
    assert rarest == sorted(rarest) and rarest[-1] < weights.balanced(COUNTS)[-1]
    assert rarest[0] == pytest.approx(1, abs=1e-6)  # no class has as few as 2 images
    assert torch.equal(weights.effective_number(COUNTS), weights.effective_number(COUNTS, 0.9999))


@pytest.mark.parametrize("beta", [1, 1.5, -0.1, float("nan")])
def test_a_beta_that_is_none_is_named(beta):
    with pytest.raises(ValueError, match=f"beta is {beta}; it must be at least 0 and below 1."):
        weights.effective_number(COUNTS, beta)


# --- classes without a training image


@each_scheme
def test_a_class_without_an_image_is_an_error_by_default(scheme):
    message = r"class 1 has no training image, so it has no weight; drop .*, or .* missing=\."
    with pytest.raises(ValueError, match=message):
        scheme([10, 0, 30])


@each_scheme
@pytest.mark.parametrize("missing", [0, 1.0, 2.5])
@given(counts=class_counts, place=st.integers(0, 12))
@settings(deadline=None)
def test_the_weight_of_a_missing_class_is_the_chosen_one(scheme, missing, counts, place):
    place = min(place, len(counts))
    expected = scheme(counts).tolist()
    expected.insert(place, missing)
    w = scheme([*counts[:place], 0, *counts[place:]], missing=missing)
    torch.testing.assert_close(w, torch.tensor(expected))


@each_scheme
def test_missing_changes_nothing_where_no_class_is_missing(scheme):
    assert torch.equal(scheme(COUNTS, missing=7.0), scheme(COUNTS))


# --- weights of positives


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.integers(1, 10**6))
@settings(deadline=None)
def test_pos_weight_is_negatives_by_positives_up_to_the_cap(positives, negatives):
    total = max(positives) + negatives
    ratios = [(total - n) / n for n in positives]
    w = weights.pos_weight(positives, total, cap=math.inf)
    assert w.dtype == torch.float32 and w.tolist() == pytest.approx(ratios, rel=1e-6)
    capped = weights.pos_weight(positives, total, cap=7.5)
    assert capped.tolist() == pytest.approx([min(r, 7.5) for r in ratios], rel=1e-6)
    assert torch.equal(weights.pos_weight(positives, total), w.clamp_max(100))


@pytest.mark.parametrize("as_given", [list, np.array, torch.tensor, torch.FloatTensor])
def test_positives_may_be_sums_of_targets(as_given):
    assert weights.pos_weight(as_given([10, 25]), 100).tolist() == [9, 3]
    targets = torch.zeros(100, 2)
    targets[:10, 0] = targets[:25, 1] = 1
    assert weights.pos_weight(targets.sum(0), len(targets)).tolist() == [9, 3]
    assert weights.pos_weight(targets[:, 0].sum(), 100).tolist() == [9]


def test_a_label_without_a_positive_gets_the_cap():
    assert weights.pos_weight([0, 10], 100, cap=50).tolist() == [50, 9]
    with pytest.raises(ValueError, match=r"^label 0 has no positive image, so its weight"):
        weights.pos_weight([0, 10], 100, cap=math.inf)


@pytest.mark.parametrize(
    ("positives", "options", "message"),
    [
        ([10, 101], {}, "label 1 has 101 positives of 100 images in all; there must be negatives"),
        ([100, 1], {}, "label 0 has 100 positives of 100 images in all; there must be negatives"),
        ([0.5], {}, "counts must be one whole number per class, got float64"),
        ([math.nan], {}, "counts must be one whole number per class, got float64"),
        ([-1, 1], {}, "counts must be 0 or more"),
        ([1], {"cap": 0}, "cap is 0; it must be above 0."),
        ([1], {"cap": math.nan}, "cap is nan; it must be above 0."),
    ],
)
def test_bad_positives_are_named(positives, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        weights.pos_weight(positives, 100, **options)


# --- counts that carry their class numbers


def test_counts_of_pandas_are_taken_in_the_order_of_their_classes():
    labels = pd.Series([2] * 30 + [0] * 5 + [1] * 1)
    by_frequency = labels.value_counts()
    assert by_frequency.tolist() == [30, 5, 1]
    for counts in (by_frequency, by_frequency.sort_index(), pd.Series([5, 1, 30])):
        assert check_counts(counts).tolist() == [5, 1, 30]
        assert torch.equal(weights.balanced(counts), weights.balanced([5, 1, 30]))
    positives = weights.pos_weight(by_frequency, 60)
    assert torch.equal(positives, weights.pos_weight([5, 1, 30], 60))


def test_so_are_weights_priors_and_shares_of_pandas():
    counts, row = pd.Series([2] * 30 + [0] * 5 + [1] * 1).value_counts(), torch.zeros(1, 3)
    assert WeightedCrossEntropy(1 / counts).weight.tolist() == pytest.approx([1 / 5, 1, 1 / 30])
    for prior in (counts, counts / 36):
        assert adjust_logits(row, prior).allclose(adjust_logits(row, [5, 1, 30]))
    drawn = image_weights([2, 0, 1], counts / 36)
    assert drawn.equal(image_weights([2, 0, 1], np.array([5, 1, 30]) / 36))
    with pytest.raises(ValueError, match=r"^train_prior has the index \['b', 'a'\]"):
        adjust_logits(row, pd.Series({"b": 2, "a": 1}))


@pytest.mark.parametrize("labels", [["cat", "dog", "cat"], [1, 2, 2], [0, 3, 3], [0.5, 1, 1]])
def test_counts_of_other_names_are_refused(labels):
    counts = pd.Series(labels).value_counts()
    with pytest.raises(
        ValueError, match=r"^counts has the index \[.*\], not the class numbers 0 to"
    ):
        weights.balanced(counts)


# --- counts


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1.0, 2.0], r"one whole number per class, got float64 of shape \(2,\); count the labels"),
        ([[1, 2]], r"one whole number per class, got int64 of shape \(1, 2\); count"),
        (5, r"one whole number per class, got int64 of shape \(\); count"),
        (np.array([], int), r"one whole number per class, got int64 of shape \(0,\); count"),
        ([True, True], r"one whole number per class, got bool of shape \(2,\); count"),
        (
            torch.ones(2, requires_grad=True).bfloat16(),
            r"one whole number per class, got float32 of shape \(2,\)",
        ),
        ([3, -1], "counts must be 0 or more with at least one image in all; count the labels"),
        ([0, 0], "counts must be 0 or more with at least one image in all; count the labels"),
    ],
)
@pytest.mark.parametrize(
    "take", [check_counts, lambda c: check_no_empty_class(c, "weight"), *SCHEMES.values()]
)
def test_bad_counts_are_named(take, counts, message):
    with pytest.raises(ValueError, match=message):
        take(counts)


def test_good_counts_come_back_as_whole_numbers():
    for counts in ([3, 0], (3, 0), np.array([3, 0], np.uint8), torch.tensor([3, 0])):
        checked = check_counts(counts)
        assert checked.dtype == np.int64 and checked.tolist() == [3, 0]
    assert check_no_empty_class([3, 1], "margin").tolist() == [3, 1]


def test_what_an_empty_class_cannot_have_is_named():
    message = "class 1 has no training image, so it has no margin; drop the class or add images."
    with pytest.raises(ValueError, match=message):
        check_no_empty_class([3, 0, 2], "margin")


@pytest.mark.parametrize("missing", [-1, float("nan"), float("inf")])
def test_the_weight_of_a_missing_class_must_be_a_weight(missing):
    with pytest.raises(ValueError, match=r"missing is .*; a weight must be finite and 0 or more"):
        weights.balanced([1, 0], missing=missing)
