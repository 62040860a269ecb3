"""Samplers are judged by what they draw: composition, length, order, repetition, randomness."""

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset, TensorDataset, WeightedRandomSampler

from imbalkit import weights
from imbalkit.data import Batches, ImageSet, long_tail_counts, stratified_split
from imbalkit.losses import WeightedCrossEntropy
from imbalkit.sampling import (
    CountSampler,
    ProgressiveSampler,
    class_shares,
    draw_per_class,
    image_weights,
    weighted_sampler,
)

CPU = torch.device("cpu")
PLAIN = {"mean": [0, 0, 0], "std": [1 / 255] * 3, "device": CPU}  # gives back 0..255
CIFAR10_LT = torch.tensor([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
COUNTS = torch.tensor([800, 150, 50])

seeds = st.integers(0, 2**32 - 1)
any_labels = st.lists(st.integers(0, 4), min_size=1, max_size=60)


def labels_of(counts, shuffled=True):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.as_tensor(counts))
    return labels[torch.randperm(len(labels))] if shuffled else labels


def assert_drawn_in_shares(drawn, shares):
    """Were these numbers drawn in these shares? Bernstein's inequality bounds the error of each
    count; a correct sampler breaks the bound less than once in a thousand million times."""
    shares = torch.as_tensor(shares).double()
    observed = torch.bincount(torch.as_tensor(drawn), minlength=len(shares))
    assert len(observed) == len(shares), "drew a number that has no share"
    log = math.log(2e9 * len(shares))
    variance = len(drawn) * shares * (1 - shares)
    bound = log / 3 + (log**2 / 9 + 2 * log * variance).sqrt()
    too_far = (observed - len(drawn) * shares).abs() > bound
    assert not too_far.any(), (observed / len(drawn), shares)
    assert observed[shares == 0].sum() == 0


def with_generator(make):
    """The indices of two epochs of a sampler whose own generator starts from seed 5."""
    sampler = make(torch.Generator().manual_seed(5))
    return list(sampler), list(sampler)


def make_samplers():
    labels = labels_of([40, 20, 10])
    return {
        "weighted": lambda generator=None: weighted_sampler(labels, generator=generator),
        "progressive": lambda generator=None: ProgressiveSampler(labels, 4, generator),
        "count": lambda generator=None: CountSampler(labels, [20, 20, 25], generator),
    }


each_sampler = pytest.mark.parametrize("name", ["weighted", "progressive", "count"])


# ---- the shares ----


def test_the_shares_of_the_three_powers_by_hand():
    counts = [900, 100, 0]
    assert class_shares(counts, 1).tolist() == pytest.approx([0.9, 0.1, 0])
    assert class_shares(counts, 0.5).tolist() == pytest.approx([0.75, 0.25, 0])
    assert class_shares(counts, 0).tolist() == class_shares(counts).tolist() == [0.5, 0.5, 0]
    assert class_shares(counts).dtype == torch.float64


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20).filter(any), st.floats(0, 1))
@settings(deadline=None)
def test_shares_are_a_power_of_the_counts_that_sums_to_one(counts, power):
    shares = class_shares(counts, power)
    assert shares.sum().item() == pytest.approx(1)
    present = [c for c, n in enumerate(counts) if n]
    first = present[0]
    for c in present:
        ratio = (counts[c] / counts[first]) ** power
        assert (shares[c] / shares[first]).item() == pytest.approx(ratio)
    assert all(shares[c] == 0 for c, n in enumerate(counts) if n == 0)


@given(any_labels, st.data())
@settings(deadline=None)
def test_the_weights_of_a_classs_images_are_equal_and_sum_to_its_share(labels, data):
    counts = np.bincount(labels, minlength=5)
    shares = [data.draw(st.floats(0, 1)) if n else 0.0 for n in counts]
    assume(sum(shares) > 0)
    result = image_weights(labels, shares)
    assert result.shape == (len(labels),) and result.dtype == torch.float64
    for c in set(labels):
        of_class = result[torch.tensor(labels) == c]
        assert of_class.sum().item() == pytest.approx(shares[c])
        assert (of_class == of_class[0]).all()


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda x: np.array(x, np.uint8)])
def test_labels_may_be_a_list_an_array_or_a_tensor(kind):
    labels = [0, 0, 0, 1]
    assert image_weights(kind(labels), [0.5, 0.5]).tolist() == [1 / 6] * 3 + [0.5]
    assert sorted(CountSampler(kind(labels), kind([3, 1]))) == [0, 1, 2, 3]
    assert len(weighted_sampler(kind(labels))) == len(ProgressiveSampler(kind(labels), 2)) == 4


# ---- what the weighted samplers draw ----


@pytest.mark.parametrize("power", [0, 0.5, 1])
def test_classes_come_in_their_shares_and_the_images_of_a_class_alike(power):
    labels = labels_of(COUNTS)
    drawn = torch.tensor(list(weighted_sampler(labels, power, num_samples=40_000)))
    shares = COUNTS.double() ** power
    shares /= shares.sum()
    assert_drawn_in_shares(labels[drawn], shares)
    assert_drawn_in_shares(drawn, (shares / COUNTS)[labels])


@given(st.lists(st.integers(1, 300), min_size=2, max_size=8), st.sampled_from([0, 0.5, 1]), seeds)
@settings(deadline=None, max_examples=50)
def test_any_counts_are_drawn_in_their_shares(counts, power, seed):
    labels, generator = labels_of(counts, shuffled=False), torch.Generator().manual_seed(seed)
    drawn = list(weighted_sampler(labels, power, 3000, generator))
    expected = torch.tensor(counts).double() ** power
    assert_drawn_in_shares(labels[drawn], expected / expected.sum())


def test_the_bound_tells_one_mix_from_another():
    labels = labels_of(COUNTS)
    drawn = labels[list(weighted_sampler(labels, power=0.5, num_samples=40_000))]
    for power in (0, 0.4, 0.6, 1):
        with pytest.raises(AssertionError):
            assert_drawn_in_shares(drawn, class_shares(COUNTS, power))


def test_an_absent_class_is_never_drawn():
    drawn = torch.tensor([0, 2, 2, 2])[list(weighted_sampler([0, 2, 2, 2], num_samples=3000))]
    assert_drawn_in_shares(drawn, [0.5, 0, 0.5])


def test_an_epoch_is_as_long_as_the_set_unless_given():
    labels = labels_of(COUNTS)
    assert len(weighted_sampler(labels)) == len(list(weighted_sampler(labels))) == 1000
    short = weighted_sampler(labels, num_samples=37)
    assert len(short) == len(list(short)) == 37
    assert len(ProgressiveSampler(labels, 3)) == len(list(ProgressiveSampler(labels, 3))) == 1000


# ---- through batches, on full sets and on subsets ----


def numbered(labels):
    """One pixel an image, which holds its number."""
    n = torch.arange(len(labels))
    pixels = torch.stack([n // 256, n % 256, torch.zeros_like(n)], 1).to(torch.uint8)
    return ImageSet(pixels.view(-1, 1, 1, 3), labels, ("a", "b", "c"), "numbered")


def through_batches(labels, indices, sampler):
    image_set = numbered(labels)
    image_set = image_set if indices is None else image_set.subset(indices)
    batches = Batches(image_set, 64, sampler=sampler, **PLAIN)
    assert len(batches) == math.ceil(len(sampler) / 64)
    images, targets = zip(*batches, strict=True)
    assert len(images) == len(batches)
    numbers = (torch.cat(images).flatten(1)[:, :2].round() @ torch.tensor([256.0, 1])).long()
    return numbers, torch.cat(targets)


def through_a_data_loader(labels, indices, sampler):
    data = TensorDataset(torch.arange(len(labels)), labels)
    data = data if indices is None else Subset(data, indices)
    loader = DataLoader(data, batch_size=64, sampler=sampler)
    assert len(loader) == math.ceil(len(sampler) / 64)
    numbers, targets = zip(*loader, strict=True)
    assert len(numbers) == len(loader)
    return torch.cat(numbers), torch.cat(targets)


each_way = pytest.mark.parametrize("way", [through_batches, through_a_data_loader])
full_and_subset = pytest.mark.parametrize("subset", [False, True], ids=["full", "subset"])


def some_labels(subset):
    """Labels of the parent, indices of the subset, and the labels that a sampler has to know.

    The subset is in another order and has another mix of classes than its parent.
    """
    labels = labels_of(COUNTS)
    if not subset:
        return labels, None, labels
    indices = torch.cat([(labels == c).nonzero().flatten()[:n] for c, n in enumerate([90, 30, 40])])
    indices = indices[torch.randperm(160)].tolist()
    return labels, indices, labels[indices]


@each_way
@full_and_subset
@pytest.mark.parametrize("power", [0, 0.5])
def test_batches_come_in_the_shares(way, subset, power):
    labels, indices, known = some_labels(subset)
    numbers, targets = way(labels, indices, weighted_sampler(known, power, num_samples=5000))
    assert targets.equal(labels[numbers]), "each label belongs to its image"
    assert_drawn_in_shares(targets, class_shares(torch.bincount(known), power))
    if subset:
        assert set(numbers.tolist()) <= set(indices)


@each_way
@full_and_subset
def test_batches_hold_the_exact_counts(way, subset):
    labels, indices, known = some_labels(subset)
    numbers, targets = way(labels, indices, CountSampler(known, [70, 30, 110]))
    assert torch.bincount(targets).tolist() == [70, 30, 110]
    assert targets.equal(labels[numbers])
    if subset:
        assert set(numbers.tolist()) <= set(indices)
    shown = torch.bincount(numbers, minlength=len(labels))
    assert shown[labels != 2].max() == 1, "enough images, so none is repeated"
    rare = torch.unique(shown[(labels == 2) & (shown > 0)])
    assert rare.tolist() == [2, 3], "50 or 40 rare images, shown 110 times"


@each_way
@full_and_subset
def test_batches_turn_balanced_step_by_step(way, subset):
    labels, indices, known = some_labels(subset)
    sampler, natural = ProgressiveSampler(known, 3), torch.bincount(known) / len(known)
    drawn = [[] for _ in range(3)]
    for _ in range(12):  # many passes, so that the bound is narrow
        for epoch in range(3):
            sampler.epoch = epoch
            drawn[epoch].append(way(labels, indices, sampler)[1])
    for s, targets in zip((0, 0.5, 1), drawn, strict=True):
        assert_drawn_in_shares(torch.cat(targets), (1 - s) * natural + s / 3)


# ---- anew each epoch, and repeatable ----


@each_sampler
def test_each_epoch_is_drawn_anew(name):
    sampler = make_samplers()[name]()
    first, second = list(sampler), list(sampler)
    assert first != second and sorted(first) != sorted(second)


@each_sampler
@each_way
def test_one_torch_seed_repeats_all_epochs(name, way):
    labels, make = labels_of([40, 20, 10]), make_samplers()[name]

    def two_epochs(seed):
        torch.manual_seed(seed)
        sampler = make()
        return [way(labels, None, sampler)[0].tolist() for _ in range(2)]

    assert two_epochs(1) == two_epochs(1) != two_epochs(2)


@each_sampler
def test_an_own_generator_repeats_whatever_else_is_drawn(name):
    make = make_samplers()[name]
    first = with_generator(make)
    torch.rand(7)
    assert with_generator(make) == first
    sampler = make(torch.Generator().manual_seed(6))
    assert (list(sampler), list(sampler)) != first


@each_sampler
def test_drawing_with_an_own_generator_leaves_torchs_alone(name):
    make, before = make_samplers()[name], torch.get_rng_state()
    list(make(torch.Generator().manual_seed(5)))
    assert torch.get_rng_state().equal(before)


# ---- the progressive mix ----


def test_the_progressive_shares_epoch_by_epoch():
    labels, natural = labels_of([70, 20, 10]), torch.tensor([0.7, 0.2, 0.1]).double()
    sampler, even = ProgressiveSampler(labels, 5), torch.full((3,), 1 / 3).double()
    for s in (0, 0.25, 0.5, 0.75, 1, 1, 1):
        torch.testing.assert_close(sampler.shares(), (1 - s) * natural + s * even)
        list(sampler)


def test_the_progressive_draws_follow_the_shares():
    labels = labels_of([7000, 2000, 900, 100])
    sampler, natural = ProgressiveSampler(labels, 4), torch.bincount(labels) / 10_000
    for epoch in range(6):
        s = min(1, epoch / 3)
        assert_drawn_in_shares(labels[list(sampler)], (1 - s) * natural + s / 4)


def test_a_progressive_mix_skips_a_class_without_images():
    sampler = ProgressiveSampler([0, 0, 0, 2], 2)
    assert sampler.shares().tolist() == [0.75, 0, 0.25]
    list(sampler)
    assert sampler.shares().tolist() == [0.5, 0, 0.5]


def test_a_resumed_progressive_mix_goes_on_where_it_stopped():
    labels = labels_of([80, 15, 5])
    whole = ProgressiveSampler(labels, 5)
    list(whole), list(whole), list(whole)
    state = torch.get_rng_state()
    expected = [list(whole), list(whole)]
    resumed = ProgressiveSampler(labels, 5)
    resumed.set_epoch(3)
    torch.set_rng_state(state)
    assert [list(resumed), list(resumed)] == expected and resumed.epoch == whole.epoch == 5


# ---- exact counts ----


@st.composite
def labels_and_counts(draw):
    labels = draw(any_labels)
    wanted = [draw(st.integers(0, 150)) if c in labels else 0 for c in range(5)]
    return labels, wanted


@given(labels_and_counts(), seeds)
@settings(deadline=None)
def test_exact_counts_each_image_equally_often_give_or_take_one(case, seed):
    labels, wanted = case
    if not any(wanted):
        return
    sampler = CountSampler(labels, wanted, torch.Generator().manual_seed(seed))
    for _ in range(2):
        drawn = torch.tensor(list(sampler))
        assert len(drawn) == len(sampler) == sum(wanted)
        shown = torch.bincount(drawn, minlength=len(labels))
        assert len(shown) == len(labels)
        for c in set(labels):
            of_class = shown[torch.tensor(labels) == c]
            assert of_class.sum() == wanted[c]
            assert of_class.max() - of_class.min() <= 1
    by_class = draw_per_class(labels, wanted, torch.Generator().manual_seed(seed))
    assert torch.tensor(labels)[by_class].tolist() == [
        c for c in range(5) for _ in range(wanted[c])
    ]


def test_no_image_is_shown_twice_without_over_sampling():
    labels = labels_of(COUNTS)
    drawn = list(CountSampler(labels, [50, 50, 50]))
    assert len(set(drawn)) == 150
    everything = list(CountSampler(labels, COUNTS))
    assert sorted(everything) == list(range(1000)) != everything


def test_who_is_drawn_is_random_and_everyone_equally_likely():
    labels = labels_of([12, 5], shuffled=False)
    drawn = torch.cat([draw_per_class(labels, [4, 7]) for _ in range(3000)])
    assert_drawn_in_shares(drawn[drawn < 12], [1 / 12] * 12)
    once_more = []
    for _ in range(300):
        shown = torch.bincount(draw_per_class(labels, [0, 7]), minlength=17)[12:]
        once_more.append(tuple((shown == 2).nonzero().flatten().tolist()))
    assert set(once_more) == {(a, b) for b in range(5) for a in range(b)}, "every pair comes up"


def test_the_classes_are_mixed_in_an_epoch_and_each_place_is_equally_likely():
    labels = labels_of([30, 10], shuffled=False)
    sampler = CountSampler(labels, [10, 10])
    places = torch.cat([labels[list(sampler)].nonzero().flatten() for _ in range(500)])
    assert_drawn_in_shares(places, [1 / 20] * 20)


# ---- bad input ----


@pytest.mark.parametrize(
    "labels, message",
    [
        ([], "labels are float64 of shape \\(0,\\)"),
        ([0.0, 1.0], "labels are float64 of shape \\(2,\\); give one class index per image"),
        ([[1, 0], [0, 1]], "of shape \\(2, 2\\)"),
        ([0, 1, -1], "labels start at -1; number the classes from 0"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        lambda labels: image_weights(labels, [0.5, 0.5]),
        weighted_sampler,
        lambda labels: ProgressiveSampler(labels, 3),
        lambda labels: CountSampler(labels, [1, 1]),
        lambda labels: draw_per_class(labels, [1, 1]),
    ],
)
def test_labels_that_are_none_are_refused(use, labels, message):
    with pytest.raises(ValueError, match=message):
        use(labels)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: image_weights([0, 1, 2], [0.5, 0.5]), "labels run to 2 but there are 2 shares"),
        (lambda: image_weights([0, 2], [0.4, 0.2, 0.4]), "class 1 has no image to draw; set its"),
        (lambda: draw_per_class([0, 1, 2], [4, 4]), "labels run to 2 but per_class has 2 entries"),
        (lambda: draw_per_class([0, 2], [4, 4, 4]), "class 1 has no image to draw; ask for 0"),
        (lambda: CountSampler([0, 1, 2], [4, 4]), "labels run to 2 but per_class has 2 entries"),
        (lambda: CountSampler([0, 2], [4, 4, 4]), "class 1 has no image to draw; ask for 0 of it"),
        (lambda: CountSampler([0, 1], [4, -4]), "counts must be 0 or more"),
        (lambda: CountSampler([0, 1], [0, 0]), "at least one image in all"),
        (lambda: CountSampler([0, 1], [0.5, 0.5]), "one whole number per class"),
        (lambda: ProgressiveSampler([0, 1], 1), "epochs is 1; a mix that changes needs at least 2"),
        (lambda: class_shares([3, -1]), "counts must be 0 or more"),
        (lambda: class_shares([0.5, 0.5]), "one whole number per class"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_class_of_which_nothing_is_wanted_needs_no_image():
    assert sorted(CountSampler([0, 2], [2, 0, 1])) == [0, 0, 1]
    assert sorted(CountSampler([0, 1], [0, 1, 0])) == [1]


# ---- the traps of public code: the trap fails where ours does not ----


def test_trap_one_weight_per_class_draws_only_the_first_images():
    labels = labels_of(CIFAR10_LT)
    trap = WeightedRandomSampler(1 / CIFAR10_LT, len(labels))
    assert set(trap) == set(range(10)), "ten images of twelve thousand"
    ours = list(weighted_sampler(labels))
    assert len(set(ours)) > 2000
    assert_drawn_in_shares(labels[ours], [0.1] * 10)


def test_trap_the_parents_weights_do_not_fit_a_subset():
    labels = labels_of(COUNTS)
    data = TensorDataset(torch.arange(1000), labels)
    parents = image_weights(labels, class_shares(COUNTS))
    first_half = Subset(data, range(500))
    with pytest.raises(IndexError):
        list(DataLoader(first_half, 64, sampler=WeightedRandomSampler(parents, 1000)))

    # A subset as long as its parent, or a cut of the weights, draws silently the wrong mix.
    order = torch.randperm(1000).tolist()
    balanced = torch.full((3,), 1 / 3)
    for indices in (order, order[:500]):
        subset, known = Subset(data, indices), labels[indices]
        trap = WeightedRandomSampler(parents[: len(indices)], 5000)
        mix = torch.cat([y for _, y in DataLoader(subset, 500, sampler=trap)])
        with pytest.raises(AssertionError):
            assert_drawn_in_shares(mix, balanced)
        ours = weighted_sampler(known, num_samples=5000)
        mix = torch.cat([y for _, y in DataLoader(subset, 500, sampler=ours)])
        assert_drawn_in_shares(mix, balanced)


def test_trap_sampler_and_class_weights_compensate_twice():
    """For a model that knows nothing yet, all logits 0, the gradient on the bias of class c is
    1/C minus the share of class c in the loss. Compensated once, no class is pushed."""
    counts = torch.tensor([2000, 200, 20])
    labels = labels_of(counts)

    def share_in_the_loss(targets, weight=None):
        bias = torch.zeros(3, requires_grad=True)
        WeightedCrossEntropy(weight)(bias.expand(len(targets), 3), targets).backward()
        return 1 / 3 - bias.grad

    drawn = labels[list(weighted_sampler(labels, num_samples=60_000))]
    even = torch.full((3,), 1 / 3)
    torch.testing.assert_close(share_in_the_loss(labels), counts / counts.sum())
    torch.testing.assert_close(share_in_the_loss(labels, weights.balanced(counts)), even)
    torch.testing.assert_close(share_in_the_loss(drawn), even, atol=0.02, rtol=0)
    twice = share_in_the_loss(drawn, weights.balanced(counts))
    inverted = (1 / counts) / (1 / counts).sum()  # 0.9 %, 9 %, 90 %: the imbalance upside down
    torch.testing.assert_close(twice, inverted, atol=0.02, rtol=0)
    assert twice[2] / twice[0] > 80


def test_trap_a_slice_takes_the_first_images_of_the_file():
    labels = labels_of([600, 40], shuffled=False)
    majority, minority = (labels == 0).nonzero().flatten(), (labels == 1).nonzero().flatten()
    for seed in (0, 1):
        torch.manual_seed(seed)
        trap = minority.tolist() * 2 + majority[:80].tolist()
        assert sorted(trap)[:80] == list(range(80)), "whatever the seed"
    chosen = []
    for seed in range(40):
        ours = draw_per_class(labels, [80, 80], torch.Generator().manual_seed(seed))
        assert torch.bincount(labels[ours]).tolist() == [80, 80]
        assert torch.bincount(ours)[minority].tolist() == [2] * 40
        chosen.append(ours[:80])
        assert len(set(chosen[-1].tolist())) == 80 and chosen[-1].max() > 300
    assert_drawn_in_shares(torch.cat(chosen), [1 / 600] * 600)


def test_trap_copies_made_before_the_split_leak():
    labels = labels_of([200, 20])
    images = torch.arange(220)
    per_class = [200, 200]

    copied = draw_per_class(labels, per_class)
    train, val = stratified_split(labels[copied], 0.2)
    leaked = set(images[copied[train]].tolist()) & set(images[copied[val]].tolist())
    assert len(leaked) > 15, "nearly every rare image is on both sides"

    train, val = stratified_split(labels, 0.2)
    drawn = draw_per_class(labels[train], per_class)
    assert not set(images[train[drawn]].tolist()) & set(images[val].tolist())
    assert torch.bincount(labels[train[drawn]]).tolist() == per_class
    assert len(set(images[val].tolist())) == len(val) == 44, "and no copy in validation"


def test_trap_random_sample_ignores_the_seed_of_torch():
    labels = labels_of([600, 40])
    majority = (labels == 0).nonzero().flatten().tolist()

    def trap():
        torch.manual_seed(0)
        return random.sample(majority, 40)

    def ours():
        torch.manual_seed(0)
        return draw_per_class(labels, [40, 40]).tolist()

    random.seed()  # as every process starts
    assert trap() != trap()
    assert ours() == ours()


def test_a_balanced_epoch_wastes_the_head_and_repeats_the_tail():
    assert long_tail_counts(5000, 10, 100) == CIFAR10_LT.tolist()
    labels = labels_of(CIFAR10_LT)
    shown = torch.bincount(torch.tensor(list(weighted_sampler(labels))), minlength=len(labels))
    head, tail = shown[labels == 0], shown[labels == 9]
    # Of n images a share 1 - (1 - 1/n)^k is seen in k draws: here k = 12406 / 10.
    assert (head > 0).double().mean().item() == pytest.approx(0.2197, abs=0.02)
    assert tail.double().mean().item() == pytest.approx(24.8, abs=5)
    assert tail.min() > 5, "with each rare image many times"

    # The same epoch in exact counts repeats no head image, so it shows a little more of them.
    counts = CountSampler(labels, [1240] * 10)
    shown = torch.bincount(torch.tensor(list(counts)), minlength=len(labels))
    assert shown[labels == 0].max() == 1 and (shown[labels == 0] > 0).double().mean() == 0.248
    assert set(shown[labels == 9].tolist()) == {24, 25}


# ---- what cannot be drawn ----


@pytest.mark.parametrize("draw", [draw_per_class, CountSampler])
@pytest.mark.parametrize("per_class", [[-1, 1], [0, 0], [1.5, 1]])
def test_images_per_class_must_be_counts(draw, per_class):
    with pytest.raises(ValueError, match="counts must be"):
        draw([0, 0, 1], per_class)


@pytest.mark.parametrize("shares", [[-1.0, 2.0], [math.nan, 1.0], [0.0, 0.0]])
def test_shares_must_be_shares(shares):
    with pytest.raises(ValueError, match="finite, 0 or more, and not all 0"):
        image_weights([0, 0, 1], shares)


def test_an_epoch_of_no_images_is_refused():
    with pytest.raises(ValueError, match="num_samples"):
        weighted_sampler([0, 1], num_samples=0)
