"""Right answers in several styles, and every mistake that lesson 05's exercises expect."""

import math
import random

import numpy as np
import pytest
import torch
from helpers import expect_not_yet
from torch.utils.data import random_split

from imbalkit import sampling, weights
from imbalkit.course.exercises import lesson05 as ex
from imbalkit.course.exercises.base import Outcome

TENSOR = torch.tensor

# --- views

VIEWS_WRONG = [
    ((45.5, 0.506, 8.68, 0.603), "swapped"),
    ((4550, 45.5, 8.68, 0.603), "first number counts the draws"),
    ((0.506, 4550, 8.68, 0.603), "second number counts the draws"),
    ((1, 45.5, 8.68, 0.603), "without a sampler"),
    ((0.506, 1, 8.68, 0.603), "without a sampler"),
    ((1.01, 45.5, 8.68, 0.603), "first number gives all draws"),
    ((0.506, 91, 8.68, 0.603), "second number gives all draws"),
    ((1.98, 45.5, 8.68, 0.603), "upside down"),
    ((0.506, 0.022, 8.68, 0.603), "upside down"),
    ((0.5, 45.5, 8.68, 0.603), "share of the class in a batch"),
    ((0.7, 45.5, 8.68, 0.603), "spread over 9,000 images"),
    ((0.506, 50, 8.68, 0.603), "spread over 100 images"),
    ((0.506, 45.5, 868, 0.603), "third number counts the draws"),
    ((0.506, 45.5, 9.59, 0.603), "ratio of B to A"),
    ((0.506, 45.5, 6.75, 0.603), "belongs to the counts"),
    ((0.506, 45.5, 82.3, 0.603), "share of A"),
    ((0.506, 45.5, 20, 0.603), "which share has B"),
    ((0.506, 45.5, 8.68, 0.397), "that is seen"),
    ((0.506, 45.5, 8.68, 0.494), "drawn twice"),
    ((0.506, 45.5, 8.68, 60), "per cent"),
    ((0.506, 45.5, 8.68, 0.2), "missed by all"),
]


@pytest.mark.parametrize(
    "right",
    [
        (0.506, 45.5, 8.68, 0.603),
        (0.51, 46, 8.7, 0.6),
        (4550 / 9000, 45.5, 9100 * 10 / (90000**0.5 / 10**0.5 + 10) / 100, math.exp(-4550 / 9000)),
    ],
)
def test_views(right):
    assert ex.q1.feedback(*right).outcome is Outcome.CORRECT, ex.q1.feedback(*right)


@pytest.mark.parametrize(("answer", "message"), VIEWS_WRONG)
def test_views_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


def test_views_are_the_packages_numbers():
    n = TENSOR([9000, 100])
    equal, root = (sampling.class_shares(n, power) / n for power in (0, 0.5))
    answer = (9100 * equal[0], 9100 * equal[1], 9100 * root[1], (1 - equal[0]) ** 9100)
    assert ex.q1.feedback(*answer).outcome is Outcome.CORRECT


# --- split first


def with_numpy(labels, n_validation):
    labels = np.asarray(labels)
    order = np.random.default_rng().permutation(len(labels))
    validation, train = order[:n_validation], order[n_validation:]
    most = np.bincount(labels[train]).max()
    repeated = [np.resize(train[labels[train] == c], most) for c in np.unique(labels)]
    return np.concatenate(repeated), validation


def with_lists(labels, n_validation):
    validation = set(random.sample(range(len(labels)), n_validation))
    by_class = {}
    for i, c in enumerate(labels.tolist()):
        if i not in validation:
            by_class.setdefault(c, []).append(i)
    most = max(len(members) for members in by_class.values())
    train = [
        i for some in by_class.values() for i in some + random.choices(some, k=most - len(some))
    ]
    random.shuffle(train)
    return train, validation


def with_random_split(labels, n_validation):
    positions = range(len(labels))
    train, validation = random_split(positions, [len(labels) - n_validation, n_validation])
    train = TENSOR(list(train))
    largest = torch.bincount(labels).max()  # more than the largest of the training part
    copies = list(sampling.CountSampler(labels[train], [largest] * len(labels.unique())))
    return [train[i] for i in copies], list(validation)


def stratified(labels, n_validation):
    order = torch.randperm(len(labels))
    order = order[labels[order].argsort(stable=True)]
    take = torch.linspace(0, len(labels) - 1, n_validation).round().long()
    validation = order[take]
    train = TENSOR(sorted(set(range(len(labels))) - set(validation.tolist())))
    return over_sampled(labels, train), validation


def over_sampled(labels, part):
    counts = torch.bincount(labels[part])
    return part[sampling.draw_per_class(labels[part], [int(counts.max())] * len(counts))]


def leaky(labels, n_validation):
    """As the lesson's statement has it."""
    counts = torch.bincount(labels)
    copies = sampling.draw_per_class(labels, [counts.max()] * len(counts))
    copies = copies[torch.randperm(len(copies))]
    return copies[n_validation:], copies[:n_validation]


def halves(labels, n_validation):
    order = torch.randperm(len(labels))
    return order[n_validation:], order[:n_validation]


def swapped(labels, n_validation):
    train, validation = halves(labels, n_validation)
    return validation, over_sampled(labels, train)


def not_looked_up(labels, n_validation):
    train, validation = halves(labels, n_validation)
    counts = torch.bincount(labels[train])
    copies = sampling.draw_per_class(labels[train], [int(counts.max())] * len(counts))
    return copies, validation


def both_over_sampled(labels, n_validation):
    train, validation = halves(labels, n_validation)
    return over_sampled(labels, train), over_sampled(labels, validation)


def under_sampled(labels, n_validation):
    train, validation = halves(labels, n_validation)
    counts = torch.bincount(labels[train])
    fewest = [int(counts.min())] * len(counts)
    return train[sampling.draw_per_class(labels[train], fewest)], validation


def one_end(labels, n_validation, first=True):
    order = torch.arange(len(labels)) if first else torch.arange(len(labels)).flip(0)
    return over_sampled(labels, order[n_validation:]), order[:n_validation]


def half_as_many(labels, n_validation):
    return with_lists(labels, n_validation // 2)


def from_copies(labels, n_validation):
    validation = halves(labels, n_validation)[1]
    everything = torch.arange(len(labels))
    return over_sampled(labels, everything), validation


def as_labels(labels, n_validation):
    return tuple(labels[part] for part in with_lists_of_lists(labels, n_validation))


def with_lists_of_lists(labels, n_validation):
    train, validation = with_lists(labels, n_validation)
    return train, list(validation)


SPLIT_WRONG = [
    (leaky, "are trained on as well. Which step comes first"),
    (from_copies, "are trained on as well"),
    (swapped, "return the training part first"),
    (not_looked_up, "Look them up in it"),
    (both_over_sampled, "is it over-sampled, too"),
    (halves, "They are to come equally often"),
    (under_sampled, "in neither part"),
    (one_end, "one end of the file"),
    (lambda y, n: one_end(y, n, first=False), "one end of the file"),
    (half_as_many, "were asked for"),
    (as_labels, "look like labels"),
    (lambda y, n: halves(y, n)[0], "Return two parts"),
    (lambda y, n: ([], [1]), "not an empty one"),
    (lambda y, n: (["a"], ["b"]), "whole numbers"),
    (lambda y, n: ([0.5], [1]), "whole numbers"),
    (lambda y, n: (y == 0, y > 0), "whole numbers"),
    (lambda y, n: ([1], [len(y)]), "a position runs from"),
    (lambda y, n: "ab", "a list or a tensor"),
    (lambda y, n: ([[1], [2, 3]], [1]), "a list or a tensor"),
    (lambda y: y, "positional argument"),
]


@pytest.mark.parametrize("right", [with_numpy, with_lists, with_random_split, stratified])
def test_split_first(right):
    for seed in range(50):
        torch.manual_seed(seed)
        random.seed(seed)
        assert ex.q2.feedback(right).outcome is Outcome.CORRECT, ex.q2.feedback(right)


@pytest.mark.parametrize(("function", "message"), SPLIT_WRONG)
def test_split_first_mistakes(function, message):
    for seed in range(5):
        torch.manual_seed(seed)
        expect_not_yet(ex.q2, [function], message)


# --- patients and classes


def patients_with_loops(labels, patients):
    labels, patients = labels.tolist(), patients.tolist()
    patients_of = {c: {p for p, k in zip(patients, labels, strict=True) if k == c} for c in labels}
    return [
        1 / len(patients_of[c]) / patients.count(p) for c, p in zip(labels, patients, strict=True)
    ]


def patients_with_pairs(labels, patients):
    pairs = torch.stack([labels, patients]).unique(dim=1)
    w = 1 / (torch.bincount(pairs[0])[labels] * torch.bincount(patients)[patients])
    return w / w.sum()


def patients_with_numpy(labels, patients):
    _, where, images = np.unique(patients.numpy(), return_inverse=True, return_counts=True)
    w = 1.0 / images[where]
    return 1000 * w / np.bincount(labels.numpy(), weights=w)[labels.numpy()]


def patients_with_the_package(labels, patients):
    w = image_weights(patients)
    return [w[i] / w[labels == labels[i]].sum() for i in range(len(w))]


def image_weights(labels):
    """The lesson's weights_of_images at power 0, for ids with gaps as well."""
    return 1 / torch.bincount(labels).double()[labels]


PATIENTS_WRONG = [
    (lambda y, p: torch.ones(len(y)), "the same weight"),
    (lambda y, p: image_weights(y), "The classes are equal. In each"),
    (lambda y, p: image_weights(p), "All patients are equal"),
    (lambda y, p: image_weights(y) * image_weights(p), "How many patients"),
    (lambda y, p: patients_with_pairs(y, p) / image_weights(p), "the same for all images"),
    (lambda y, p: 1 / patients_with_pairs(y, p), "upside down"),
    (lambda y, p: patients_with_pairs(y, p) * (1 + y), "drawn in the shares"),
    (lambda y, p: 1 / torch.bincount(y), "one weight for each image"),
    (lambda y, p: image_weights(p)[1:], "one weight for each image"),
    (lambda y, p: -patients_with_pairs(y, p), "0 or less"),
    (lambda y, p: TENSOR(3.0), "shape"),
    (lambda y, p: "zebra", "Numbers are wanted"),
    (lambda y: y, "positional argument"),
]


@pytest.mark.parametrize(
    "right",
    [
        patients_with_loops,
        patients_with_pairs,
        patients_with_numpy,
        patients_with_the_package,
    ],
)
def test_patients_and_classes(right):
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT, ex.q3.feedback(right)


@pytest.mark.parametrize(("function", "message"), PATIENTS_WRONG)
def test_patients_and_classes_mistakes(function, message):
    expect_not_yet(ex.q3, [function], message)


def test_equal_classes_but_unequal_patients():
    def wrong(labels, patients):
        w = image_weights(patients) ** 2
        return w / torch.bincount(labels, weights=w)[labels]

    expect_not_yet(ex.q3, [wrong], "The patients of a class, or the images of a patient, are not")


def test_patients_and_classes_draws_equally(capsys):
    names = {"torch": torch, "WeightedRandomSampler": torch.utils.data.WeightedRandomSampler}
    torch.manual_seed(0)
    exec(ex.q3.code() + "\n" + ex.q3.next_code(), names)
    printed = capsys.readouterr().out
    classes, patients = (eval(line.split(None, 1)[1]) for line in printed.splitlines())
    assert classes == pytest.approx([500, 500], abs=70)
    assert patients == pytest.approx([167, 167, 167, 250, 250], abs=60)


# --- between the two


def shares_with_numpy(counts, power, weight_power):
    n = np.asarray(counts, dtype=float)
    return (n ** (power - weight_power) / np.sum(n ** (power - weight_power))).tolist()


def shares_with_a_loop(counts, power, weight_power):
    parts = [int(n) ** power / int(n) ** weight_power for n in counts]
    return [part / sum(parts) for part in parts]


def shares_with_the_package(counts, power, weight_power):
    part = sampling.class_shares(counts, power) * weights.balanced(counts) ** weight_power
    return part / part.sum()


def shares_with_integers(counts, power, weight_power):
    return torch.softmax((power - weight_power) * counts.log(), 0)


def powers(exponent):
    def shares(counts, r, s):
        part = counts.double() ** exponent(r, s)
        return part / part.sum()

    return shares


SHARES_WRONG = [
    (powers(lambda r, s: 0), "are equal"),
    (powers(lambda r, s: r + s), "rise with the count"),
    (powers(lambda r, s: r), "weights do not act"),
    (powers(lambda r, s: -s), "weights alone"),
    (powers(lambda r, s: 1 - s), "leaves the sampler out"),
    (powers(lambda r, s: 1 + r - s), "count comes in twice"),
    (powers(lambda r, s: s - r), "upside down"),
    (powers(lambda r, s: r * s), "powers are multiplied"),
    (powers(lambda r, s: 0.2), "they should be"),
    (lambda n, r, s: n ** (r - s), "The ratios are right"),
    (lambda n, r, s: 100 * powers(lambda r, s: r - s)(n, r, s), "The ratios are right"),
    (lambda n, r, s: sampling.class_shares(n, r) * weights.square_root(n), "The shares have the s"),
    (lambda n, r, s: -powers(lambda r, s: r - s)(n, r, s), "0 or less"),
    (lambda n, r, s: sampling.class_shares([5, 3, 2], 1)[:2], "shape"),
    (lambda n, r: n, "positional argument"),
]


@pytest.mark.parametrize(
    "right",
    [shares_with_numpy, shares_with_a_loop, shares_with_the_package, shares_with_integers],
)
def test_between_the_two(right):
    assert ex.q4.feedback(right).outcome is Outcome.CORRECT, ex.q4.feedback(right)


@pytest.mark.parametrize(("function", "message"), SHARES_WRONG)
def test_between_the_two_mistakes(function, message):
    expect_not_yet(ex.q4, [function], message)


# --- four runs

RUNS_WRONG = [
    ("aadb", "Run 1: Copies on both sides"),
    ("badb", "Run 1: Two corrections"),
    ("dadb", "Run 1: A balanced sampler"),
    ("cbdb", "Run 2: Two corrections"),
    ("ccdb", "Run 2: Images as they are"),
    ("cddb", "Run 2: A balanced sampler"),
    ("caab", "Run 3: Copies"),
    ("cabb", "Run 3: Two corrections"),
    ("cacb", "Run 3: Images as they are"),
    ("cada", "Run 4: Copies"),
    ("cadc", "Run 4: Images as they are"),
    ("cadd", "Run 4: A balanced sampler"),
    ("cade", "one letter"),
    ((1, 2, 3, 4), "one letter"),
]


@pytest.mark.parametrize("right", ["cadb", ("C", "(a)", " d", "b.")])
def test_four_runs(right):
    assert ex.q5.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), RUNS_WRONG)
def test_four_runs_mistakes(answer, message):
    expect_not_yet(ex.q5, answer, message)
