"""torch, torchvision, three public focal losses and cbloss are the oracles, in float64; where there
is none, it is the paper's formula. Value and gradient are compared, over drawn batches. The losses
with a sigmoid are in `test_sigmoid_losses.py`."""

import doctest
import io
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cbloss.loss import ClassBalancedLoss
from focal_loss import FocalLoss as FocalOfProbabilities
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from kornia.losses import focal_loss as kornia_focal_loss
from torch_focalloss import MultiClassFocalLoss
from torchvision.ops import sigmoid_focal_loss

from imbalkit import losses, weights
from imbalkit.losses import (
    BalancedSoftmaxLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    WeightedCrossEntropy,
    base,
    sigmoid,
    softmax,
)

CIFAR_COUNTS = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
LDAM_MARGINS = [0.1581, 0.1797, 0.2042, 0.2321, 0.2638, 0.2998, 0.3407, 0.3872, 0.4405, 0.5]
WEIGHT, COUNTS = [0.5, 1.0, 4.0], [500, 60, 4]  # three classes, for the tests that draw nothing
# name: the loss for class weights w and class counts n
LOSSES = {
    "WeightedCrossEntropy": lambda w, n: WeightedCrossEntropy(),
    "WeightedCrossEntropy, weight": lambda w, n: WeightedCrossEntropy(w),
    "WeightedCrossEntropy, by images": lambda w, n: WeightedCrossEntropy(w, divide_by="images"),
    **{f"FocalLoss, {g}": lambda w, n, g=g: FocalLoss(g) for g in (0, 0.5, 1, 2, 5)},
    **{f"FocalLoss, {g}, weight": lambda w, n, g=g: FocalLoss(g, w) for g in (0, 0.5, 1, 2, 5)},
    "FocalLoss, by images": lambda w, n: FocalLoss(weight=w, divide_by="images"),
    "LogitAdjustedLoss": lambda w, n: LogitAdjustedLoss(n),
    "LogitAdjustedLoss, tau 2": lambda w, n: LogitAdjustedLoss(n, tau=2.0),
    "LogitAdjustedLoss, weight": lambda w, n: LogitAdjustedLoss(n, weight=w),
    "BalancedSoftmaxLoss": lambda w, n: BalancedSoftmaxLoss(n),
    "LDAMLoss": lambda w, n: LDAMLoss(n),
    "LDAMLoss, weight": lambda w, n: LDAMLoss(n, weight=w),
}
TAKES_SOFT = [name for name in LOSSES if not name.startswith("LDAM")]
BY_WEIGHTS = [name for name in LOSSES if name.endswith("weight")]
BY_IMAGES = [name for name in LOSSES if name.endswith("by images")]

gammas = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]) | st.floats(0.0, 5.0)


@st.composite
def batches(draw, most_classes=6):
    """Logits (N, C), class indices (N,), class weights (C,) and class counts, a list of C."""
    n, c = draw(st.integers(1, 6)), draw(st.integers(2, most_classes))
    logits = draw(arrays(np.float32, (n, c), elements=st.floats(-15, 15, width=32)))
    targets = draw(st.lists(st.integers(0, c - 1), min_size=n, max_size=n))
    weight = draw(arrays(np.float32, c, elements=st.floats(2**-6, 64, width=32)))
    counts = draw(st.lists(st.integers(1, 10**6), min_size=c, max_size=c))
    return torch.from_numpy(logits), torch.tensor(targets), torch.from_numpy(weight), counts


def soft(targets, num_classes):
    """Targets of a mixed batch: each image shares its class, in part, with its left neighbour."""
    one_hot = F.one_hot(targets, num_classes).double()
    share = torch.linspace(0.1, 0.9, len(targets)).double()[:, None]
    return share * one_hot + (1 - share) * one_hot.roll(1, 0)


def fixed_batch():
    """Nine images of three classes, logits float32."""
    return 3 * torch.randn(9, 3), torch.arange(9) % 3


def with_gradient(loss, logits):
    logits = logits.detach().requires_grad_()
    value = loss(logits)
    assert value.shape == ()
    return value.detach(), torch.autograd.grad(value, logits)[0]


def assert_same(loss, oracle, logits, scale=1.0):
    """`loss` in float32 has the value and the gradient of `oracle` in float64.

    scale: what multiplies the logits or the loss, and their rounding errors with them.
    """
    value, gradient = with_gradient(loss, logits)
    expected, slope = with_gradient(oracle, logits.double())
    assert value.dtype == gradient.dtype == torch.float32
    tolerance = {"rtol": 2e-5, "atol": 5e-6 * scale, "check_dtype": False}
    torch.testing.assert_close(value, expected, **tolerance)
    torch.testing.assert_close(gradient, slope, **tolerance)


# --- weighted cross-entropy


@given(batches())
@settings(deadline=None)
def test_weighted_cross_entropy_of_class_indices_is_torchs(batch):
    z, y, w, _ = batch
    oracle = torch.nn.CrossEntropyLoss(w.double())
    assert_same(lambda z: WeightedCrossEntropy(w)(z, y), lambda z: oracle(z, y), z)
    assert_same(lambda z: WeightedCrossEntropy()(z, y), lambda z: F.cross_entropy(z, y), z)
    by_images = WeightedCrossEntropy(w, divide_by="images")
    total = torch.nn.CrossEntropyLoss(w.double(), reduction="sum")
    assert_same(lambda z: by_images(z, y), lambda z: total(z, y) / len(z), z, w.max())


@given(batches())
@settings(deadline=None)
def test_weighted_cross_entropy_of_soft_targets(batch):
    z, y, w, _ = batch
    q = soft(y, z.shape[1])
    assert_same(lambda z: WeightedCrossEntropy()(z, q), lambda z: F.cross_entropy(z, q), z)
    # torch divides by N here, and so leaves the scale to the classes in the batch.
    by_images = WeightedCrossEntropy(w, divide_by="images")
    torchs = torch.nn.CrossEntropyLoss(w.double())
    assert_same(lambda z: by_images(z, q), lambda z: torchs(z, q), z, w.max())
    mean_weight = (q @ w.double()).mean()
    assert_same(lambda z: WeightedCrossEntropy(w)(z, q), lambda z: torchs(z, q) / mean_weight, z)


@given(batches())
@settings(deadline=None)
def test_the_class_balanced_loss_is_what_cbloss_says(batch):
    z, y, _, counts = batch
    cross_entropy = torch.nn.CrossEntropyLoss(reduction="none")
    oracle = ClassBalancedLoss(counts, 0.999, len(counts), cross_entropy)
    oracle.weights = oracle.weights.cpu()  # it puts them on a GPU where there is one
    w = weights.effective_number(counts, beta=0.999)
    loss = WeightedCrossEntropy(w * len(w) / w.sum(), divide_by="images")
    assert_same(lambda z: loss(z, y), lambda z: oracle(z, y), z, len(w))


@given(batches(), st.integers(1, 1000))
@settings(deadline=None)
def test_balanced_weights_of_balanced_data_change_nothing(batch, count):
    z, y, w, _ = batch
    w = weights.balanced([count] * len(w))
    for divide_by in ("weights", "images"):
        loss = WeightedCrossEntropy(w, divide_by)
        assert_same(lambda z, loss=loss: loss(z, y), lambda z: F.cross_entropy(z, y), z)


@given(batches(), st.floats(2**-6, 64, width=32))
@settings(deadline=None)
def test_one_weight_for_all_classes_cancels_by_weights_and_scales_by_images(batch, same):
    z, y, w, _ = batch
    w = torch.full_like(w, same)
    plain = FocalLoss()(z.double(), y)
    by_weights, by_images = FocalLoss(2.0, w), FocalLoss(2.0, w, divide_by="images")
    torch.testing.assert_close(by_weights(z.double(), y), plain)
    torch.testing.assert_close(by_images(z.double(), y), same * plain)


# --- focal loss


@given(batches(), gammas)
@settings(deadline=None)
def test_focal_loss_without_weights_is_what_public_ones_say(batch, gamma):
    z, y, _, _ = batch
    packages = {
        "pytorch-focalloss": MultiClassFocalLoss(gamma),
        "focal-loss-torch": lambda z, y: FocalOfProbabilities(gamma, eps=0)(z.softmax(1), y),
        "kornia": lambda z, y: kornia_focal_loss(z, y, None, gamma).sum(1).mean(),
    }
    for oracle in packages.values():
        assert_same(lambda z: FocalLoss(gamma)(z, y), lambda z, of=oracle: of(z, y), z)


@given(batches(), gammas)
@settings(deadline=None)
def test_focal_loss_with_weights_is_what_public_ones_say(batch, gamma):
    z, y, w, _ = batch
    exact = w.double()
    packages = {
        "weights": [
            MultiClassFocalLoss(gamma, alpha=exact),
            lambda z, y: FocalOfProbabilities(gamma, exact, eps=0)(z.softmax(1), y),
        ],
        "images": [
            lambda z, y: kornia_focal_loss(z, y, None, gamma, weight=exact).sum(1).mean(),
        ],
    }
    for divide_by, oracles in packages.items():
        loss = FocalLoss(gamma, w, divide_by)
        for oracle in oracles:
            scale = w.max() if divide_by == "images" else 1.0
            assert_same(lambda z, of=loss: of(z, y), lambda z, of=oracle: of(z, y), z, scale)


@given(batches(most_classes=2), gammas)
@settings(deadline=None)
def test_focal_loss_of_two_classes_is_the_sigmoid_focal_loss_of_their_difference(batch, gamma):
    z, y, _, _ = batch

    def oracle(z):
        return sigmoid_focal_loss(z[:, 1] - z[:, 0], y.double(), -1, gamma, reduction="mean")

    assert_same(lambda z: FocalLoss(gamma)(z, y), oracle, z)


@given(batches())
@settings(deadline=None)
def test_focal_loss_at_gamma_zero_is_cross_entropy(batch):
    z, y, w, _ = batch
    q = soft(y, z.shape[1])
    for options in ({}, {"weight": w}, {"weight": w, "divide_by": "images"}):
        focal, plain = FocalLoss(0, **options), WeightedCrossEntropy(**options)
        for target in (y, q):
            torch.testing.assert_close(
                with_gradient(lambda z, of=focal, t=target: of(z, t), z),
                with_gradient(lambda z, of=plain, t=target: of(z, t), z),
            )


def test_a_larger_gamma_leaves_easy_images_a_smaller_part():
    easy, hard = torch.tensor([[3.0, 0.0]]), torch.tensor([[-3.0, 0.0]])
    y = torch.tensor([0])
    parts = [FocalLoss(g)(easy, y) / FocalLoss(g)(hard, y) for g in (0, 0.5, 1, 2, 5)]
    assert parts == sorted(parts, reverse=True) and parts[-1] < 1e-6 < parts[0]
    assert FocalLoss()(hard, y) == FocalLoss(2.0)(hard, y)


def test_p_is_not_taken_from_the_weighted_cross_entropy():
    """exp(-CE(weight=w)) is p^w. Of one class the weights cancel; with that bug they do not."""
    z, y, w = 3 * torch.randn(8, 3), torch.full((8,), 2), torch.tensor(WEIGHT)

    def with_the_bug(z, y, w):
        cross_entropy = F.cross_entropy(z, y, weight=w, reduction="none")
        focal = (1 - torch.exp(-cross_entropy)) ** 2 * cross_entropy
        return focal.sum() / w[y].sum()

    plain = FocalLoss(2.0)(z, y)
    torch.testing.assert_close(FocalLoss(2.0, w)(z, y), plain)
    torch.testing.assert_close(with_the_bug(z, y, torch.ones(3)), plain)
    assert abs(with_the_bug(z, y, w) / plain - 1) > 0.01
    z, y = fixed_batch()
    assert abs(with_the_bug(z, y, w) / FocalLoss(2.0, w)(z, y) - 1) > 0.01


def test_alpha_per_class_turns_the_gradient_and_a_scalar_would_not():
    z, y = fixed_batch()
    _, plain = with_gradient(lambda z: FocalLoss()(z, y), z)
    _, scalar = with_gradient(lambda z: 0.25 * FocalLoss()(z, y), z)
    _, per_class = with_gradient(lambda z: FocalLoss(weight=WEIGHT)(z, y), z)
    assert F.cosine_similarity(scalar.flatten(), plain.flatten(), dim=0) > 0.9999
    assert F.cosine_similarity(per_class.flatten(), plain.flatten(), dim=0) < 0.99
    with pytest.raises(ValueError, match=r"weight has shape \(\); .* only rescales the loss"):
        FocalLoss(weight=0.25)


# --- balanced softmax and logit adjustment


@given(batches())
@settings(deadline=None)
def test_logit_adjustment_at_tau_one_is_the_balanced_softmax(batch):
    z, y, _, counts = batch
    n, rows = torch.tensor(counts).double(), torch.arange(len(y))

    def balanced_softmax(z):
        terms = n * z.exp()  # at most 15, so that the formula holds as it is written
        return -(terms[rows, y] / terms.sum(1)).log().mean()

    for loss in (LogitAdjustedLoss(counts), BalancedSoftmaxLoss(counts)):
        assert_same(lambda z, loss=loss: loss(z, y), balanced_softmax, z)


@given(batches(), st.floats(0, 3))
@settings(deadline=None)
def test_logit_adjustment_is_cross_entropy_of_adjusted_logits(batch, tau):
    z, y, _, counts = batch
    prior = torch.tensor(counts).double() / sum(counts)

    for target in (y, soft(y, len(counts))):
        assert_same(
            lambda z, t=target: LogitAdjustedLoss(counts, tau)(z, t),
            lambda z, t=target: F.cross_entropy(z + tau * prior.log(), t),
            z,
            4,  # logits of up to 60 in place of 15
        )


@given(batches())
@settings(deadline=None)
def test_logit_adjustment_at_tau_zero_and_of_balanced_counts_is_cross_entropy(batch):
    z, y, _, counts = batch
    for loss in (LogitAdjustedLoss(counts, tau=0.0), LogitAdjustedLoss([7] * len(counts))):
        assert_same(lambda z, loss=loss: loss(z, y), lambda z: F.cross_entropy(z, y), z)


# --- LDAM


def papers_ldam(z, y, margins, scale):
    """Equations 12 and 13 of the paper, image by image."""
    losses = []
    for row, true in zip(scale * z, y.tolist(), strict=True):
        others = torch.cat([row[:true], row[true + 1 :]])
        won = row[true] - scale * margins[true]
        losses.append(-(won - torch.cat([won[None], others]).logsumexp(0)))
    return torch.stack(losses)


@given(batches(), st.floats(0, 1), st.sampled_from([1.0, 10.0, 30.0]))
@settings(deadline=None)
def test_ldam_is_the_papers_formula(batch, max_margin, scale):
    z, y, w, counts = batch
    cosines, n = z / 15, torch.tensor(counts).double()
    margins = max_margin * n**-0.25 / (n**-0.25).max()
    assert_same(
        lambda z: LDAMLoss(counts, max_margin, scale)(z, y),
        lambda z: papers_ldam(z, y, margins, scale).mean(),
        cosines,
        scale,
    )
    assert_same(
        lambda z: LDAMLoss(counts, max_margin, scale, weight=w)(z, y),
        lambda z: (papers_ldam(z, y, margins, scale) * w[y]).sum() / w[y].double().sum(),
        cosines,
        scale,
    )


@given(batches(), st.sampled_from([1.0, 10.0, 30.0]))
@settings(deadline=None)
def test_ldam_without_a_margin_is_cross_entropy_of_scaled_logits(batch, scale):
    z, y, w, counts = batch
    loss, oracle = LDAMLoss(counts, 0.0, scale, weight=w), torch.nn.CrossEntropyLoss(w.double())
    assert_same(lambda z: loss(z, y), lambda z: oracle(scale * z, y), z / 15, scale)


def margins_of(loss, num_classes=10):
    """Where all logits are 0 the loss of class y is log(1 + (C - 1) exp(margin)), at scale 1."""
    z = torch.zeros(1, num_classes, dtype=torch.float64)
    losses = [loss(z, torch.tensor([y])).item() for y in range(num_classes)]
    return [math.log((math.exp(x) - 1) / (num_classes - 1)) for x in losses]


def test_the_margins_of_long_tailed_cifar10():
    loss = LDAMLoss(CIFAR_COUNTS, scale=1.0)
    assert margins_of(loss) == pytest.approx(LDAM_MARGINS, abs=6e-5)
    narrow = LDAMLoss(CIFAR_COUNTS, max_margin=0.2, scale=1.0)
    assert margins_of(narrow) == pytest.approx([0.4 * m for m in LDAM_MARGINS], abs=6e-5)


def test_the_scale_of_ldam_is_30_unless_given():
    z, y = fixed_batch()
    assert LDAMLoss(COUNTS)(z / 9, y) == LDAMLoss(COUNTS, 0.5, 30.0)(z / 9, y)
    assert LDAMLoss(COUNTS)(z / 9, y) != LDAMLoss(COUNTS, scale=10.0)(z / 9, y)


# --- what holds for every loss


@pytest.mark.parametrize("name", TAKES_SOFT)
@given(batch=batches())
@settings(deadline=None, max_examples=20)
def test_a_one_hot_row_is_its_class_index(name, batch):
    z, y, w, counts = batch
    loss = LOSSES[name](w, counts)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        one_hot = F.one_hot(y, len(w)).to(dtype)
        torch.testing.assert_close(loss(z, one_hot), loss(z, y), rtol=0, atol=0)


@pytest.mark.parametrize("name", [n for n in TAKES_SOFT if n not in BY_WEIGHTS])
@given(batch=batches())
@settings(deadline=None, max_examples=20)
def test_a_soft_target_mixes_the_losses_of_its_classes(name, batch):
    z, y, w, counts = batch
    loss, q, z = LOSSES[name](w, counts), soft(y, len(w)), z.double()
    for row, shares in zip(z, q, strict=True):
        of_class = [loss(row[None], torch.tensor([c])) for c in range(len(w))]
        mixed = sum(s * x for s, x in zip(shares, of_class, strict=True))
        torch.testing.assert_close(loss(row[None], shares[None]), mixed)


@pytest.mark.parametrize("name", LOSSES)
def test_float64_gradients_are_right(name):
    loss, (z, y) = LOSSES[name](WEIGHT, COUNTS), fixed_batch()
    z = (z / 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, y), z)
    if name in TAKES_SOFT:
        assert torch.autograd.gradcheck(lambda z: loss(z, soft(y, 3)), z)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits(name, dtype):
    """In float16 they are finite, and LDAM's 30 times as large ones would not be."""
    loss = LOSSES[name](WEIGHT, COUNTS)
    z = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype)
    for y in range(3):
        value, gradient = with_gradient(lambda z, y=y: loss(z, torch.tensor([y])), z)
        assert value.isfinite() and gradient.isfinite().all()
        if y == 0:  # the class that wins
            assert value == 0 and not gradient.any()
        else:
            assert value > 1e3 and gradient[0, 0] > 0 > gradient[0, y]


@pytest.mark.parametrize("margin", [100.0, 1e4])
def test_a_naive_focal_loss_fails_at_extreme_logits_where_ours_does_not(margin):
    z, y = torch.tensor([[0.0, margin]]), torch.tensor([0])

    def naive(z):
        won_by = z[:, 0] - z[:, 1]
        return ((1 - won_by.sigmoid()) ** 2 * torch.log(1 + torch.exp(-won_by))).mean()

    near = torch.tensor([[0.0, 5.0]])
    torch.testing.assert_close(naive(near), FocalLoss(2.0)(near, y))
    assert with_gradient(naive, z)[1].isnan().any()
    value, gradient = with_gradient(lambda z: FocalLoss(2.0)(z, y), z)
    assert value == margin and gradient.tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize(
    ("name", "soft_targets"), [*((n, False) for n in LOSSES), *((n, True) for n in TAKES_SOFT)]
)
def test_a_class_masked_with_minus_infinity_takes_no_part(name, soft_targets):
    z, y = torch.randn(8, 2), torch.arange(8) % 2
    masked = torch.stack([z[:, 0], torch.full((8,), -math.inf), z[:, 1]], 1)
    loss, without = LOSSES[name](WEIGHT, COUNTS), LOSSES[name](WEIGHT[::2], COUNTS[::2])
    of_three, of_two = (soft(2 * y, 3), soft(y, 2)) if soft_targets else (2 * y, y)
    value, gradient = with_gradient(lambda z: loss(z, of_three), masked)
    expected, slope = with_gradient(lambda z: without(z, of_two), z)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[:, ::2], slope)
    assert not gradient[:, 1].any()


@pytest.mark.parametrize("only", range(3))
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("name", LOSSES)
def test_the_weight_of_a_batch_of_one_class_cancels_by_weights_and_acts_by_images(
    name, count, only
):
    z, y = torch.randn(count, 3), torch.full((count,), only)
    weighted, plain = LOSSES[name](WEIGHT, COUNTS)(z, y), LOSSES[name]([1.0] * 3, COUNTS)(z, y)
    factor = WEIGHT[only] if name in BY_IMAGES else 1
    torch.testing.assert_close(weighted, factor * plain)
    if factor != 1:
        assert weighted != plain


@pytest.mark.parametrize("name", BY_WEIGHTS + BY_IMAGES)
def test_weights_act_on_a_mixed_batch(name):
    z, y = fixed_batch()
    weighted, plain = LOSSES[name](WEIGHT, COUNTS)(z, y), LOSSES[name]([1.0] * 3, COUNTS)(z, y)
    assert abs(weighted / plain - 1) > 0.01


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("name", BY_WEIGHTS + BY_IMAGES)
def test_a_batch_of_which_all_weights_are_zero_has_loss_zero(name, smoothing):
    """Smoothed labels also lose on the third class, whose weight no target counts."""
    loss, z = LOSSES[name]([0.0, 0.0, 1.0], COUNTS), 5 * torch.randn(6, 3)
    loss.label_smoothing = smoothing if name in BY_WEIGHTS else 0.0
    value, gradient = with_gradient(lambda z: loss(z, torch.arange(6) % 2), z)
    assert value == 0 and not gradient.any()


def test_a_class_without_an_image_and_with_weight_zero_adds_nothing():
    w = weights.balanced([500, 0, 4], missing=0.0)
    z, y = torch.randn(8, 3), torch.arange(8) % 3
    seen = y != 1
    loss = WeightedCrossEntropy(w)
    torch.testing.assert_close(loss(z, y), loss(z[seen], y[seen]))


# --- dtypes, autocast, state


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_give_the_float32_loss(name, dtype):
    loss, (z, y) = LOSSES[name](WEIGHT, COUNTS), fixed_batch()
    value, gradient = with_gradient(lambda z: loss(z, y), z.to(dtype))
    expected, slope = with_gradient(lambda z: loss(z, y), z.to(dtype).float())
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    assert torch.equal(value, expected) and torch.equal(gradient, slope.to(dtype))


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_changes_nothing_but_the_network(name):
    loss, y = LOSSES[name](WEIGHT, COUNTS), torch.arange(9) % 3
    network, inputs = torch.nn.Linear(5, 3), torch.randn(9, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = network(inputs)
        value = loss(z, y)
    assert z.dtype == torch.bfloat16 and value.dtype == torch.float32
    assert torch.equal(value, loss(z, y))
    value.backward()
    assert network.weight.grad.dtype == torch.float32 and network.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_state_of_a_loss_is_saved_and_restored(name):
    loss, (z, y) = LOSSES[name](WEIGHT, COUNTS), fixed_batch()
    other = LOSSES[name]([3.0, 2.0, 1.0], [1, 2, 30])
    assert list(loss.parameters()) == []
    assert ("weight" in loss.state_dict()) == (name in BY_WEIGHTS + BY_IMAGES)
    file = io.BytesIO()
    torch.save(loss.state_dict(), file)
    file.seek(0)
    assert (other(z, y) != loss(z, y)) == bool(loss.state_dict())
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(z, y), loss(z, y))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_moves_to_another_dtype_and_back(name):
    loss, (z, y) = LOSSES[name](WEIGHT, COUNTS), fixed_batch()
    expected = loss(z, y)
    assert all(tensor.dtype == torch.float32 for tensor in loss.state_dict().values())
    loss.to(torch.float64)
    assert all(tensor.dtype == torch.float64 for tensor in loss.state_dict().values())
    assert loss(z.double(), y).dtype == torch.float64
    torch.testing.assert_close(loss(z.double(), y).float(), expected)
    assert torch.equal(loss.to(torch.float32)(z, y), expected)


def test_class_weights_are_a_copy_without_gradient():
    given_weight, (z, y) = torch.tensor(WEIGHT, requires_grad=True), fixed_batch()
    loss = WeightedCrossEntropy(given_weight)
    before = loss(z, y)
    with torch.no_grad():
        given_weight *= torch.tensor([9.0, 1.0, 1.0])
    assert torch.equal(loss(z, y), before) and not before.requires_grad


@pytest.mark.parametrize("as_given", [list, np.array, torch.tensor, torch.DoubleTensor])
def test_class_weights_may_be_lists_arrays_and_tensors(as_given):
    z, y = fixed_batch()
    expected = F.cross_entropy(z, y, weight=torch.tensor(WEIGHT))
    torch.testing.assert_close(WeightedCrossEntropy(as_given(WEIGHT))(z, y), expected)


# --- bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: WeightedCrossEntropy(divide_by="batch"),
            "divide_by is 'batch'; use one of weights, images.",
        ),
        (
            lambda: FocalLoss(divide_by="N"),
            "divide_by is 'N'; use one of weights, images.",
        ),
        (lambda: FocalLoss(-1), "gamma is -1; it must be 0 or more and finite."),
        (lambda: FocalLoss(math.nan), "gamma is nan; it must be 0 or more and finite."),
        (lambda: FocalLoss(math.inf), "gamma is inf; it must be 0 or more and finite."),
        *(
            (lambda tau=tau: LogitAdjustedLoss(COUNTS, tau), f"tau is {tau}; it must be 0 or more")
            for tau in (-0.5, math.nan, math.inf)
        ),
        *(
            (lambda m=m: LDAMLoss(COUNTS, m), f"max_margin is {m}; it must be 0 or more and finite")
            for m in (-0.5, math.nan, math.inf)
        ),
        *(
            (lambda s=s: LDAMLoss(COUNTS, 0.5, s), f"scale is {s}; it must be above 0 and finite.")
            for s in (0, -30.0, math.nan, math.inf)
        ),
        (
            lambda: FocalLoss(reduction="average"),
            "average is not a valid value for reduction; use one of mean, sum, none.",
        ),
        *(
            (
                lambda e=e: BalancedSoftmaxLoss(COUNTS, label_smoothing=e),
                f"label_smoothing must be between 0.0 and 1.0. Got: {e}",
            )
            for e in (-0.1, 1.5, math.nan)
        ),
        (
            lambda: WeightedCrossEntropy([[1.0, 2.0]]),
            r"weight has shape \(1, 2\); give one number per class. A single alpha",
        ),
        (
            lambda: LDAMLoss(COUNTS, weight=[1.0, math.nan, 2.0]),
            r"weight is \[1.0, nan, 2.0\]; weights must be finite, 0 or more, and not all 0.",
        ),
        (
            lambda: FocalLoss(weight=[1.0, math.inf]),
            r"weight is \[1.0, inf\]; weights must be finite",
        ),
        (
            lambda: WeightedCrossEntropy([1.0, -0.5]),
            r"weight is \[1.0, -0.5\]; weights must be finite, 0 or more",
        ),
        (
            lambda: WeightedCrossEntropy([0.0, 0.0]),
            r"weight is \[0.0, 0.0\]; weights must be .* not all 0",
        ),
        (
            lambda: LogitAdjustedLoss([5, 0, 1]),
            "class 1 has no training image, so it has no prior; drop the class or add images.",
        ),
        (
            lambda: LDAMLoss([5, 1, 0]),
            "class 2 has no training image, so it has no margin; drop the class or add images.",
        ),
        (
            lambda: LogitAdjustedLoss([0.5, 0.5]),
            r"counts must be one whole number per class, got float64 of shape \(2,\)",
        ),
        (lambda: LDAMLoss([5, -1]), "counts must be 0 or more"),
    ],
)
def test_a_loss_that_cannot_be_made_says_why(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            torch.zeros(9, dtype=torch.int32),
            "expected target dtype to be Long or Byte, but got Int; class indices are int64: use "
            ".long().",
        ),
        (torch.zeros(9), "expected target dtype to be Long or Byte, but got Float; class indices"),
        (
            torch.zeros(8, dtype=torch.int64),
            r"Expected input batch_size \(9\) to match target batch_size \(8\); class indices have "
            r"shape \(9,\) here, and probabilities \(9, 3\).",
        ),
    ],
)
def test_bad_class_indices_are_named(name, targets, message):
    z, _ = fixed_batch()
    with pytest.raises(ValueError, match=f"^{message}"):
        LOSSES[name](WEIGHT, COUNTS)(z, targets)


@pytest.mark.parametrize("name", TAKES_SOFT)
@pytest.mark.parametrize("targets", [torch.zeros(9, 4), torch.zeros(9, 1, dtype=torch.int64)])
def test_targets_of_two_dimensions_that_are_no_probabilities_are_named(name, targets):
    z, _ = fixed_batch()
    message = (
        "0D or 1D target tensor expected, multi-target not supported: the targets have shape "
        rf"\(9, {targets.shape[1]}\), but class indices have shape \(9,\) here, and probabilities "
        r"\(9, 3\)."
    )
    with pytest.raises(ValueError, match=f"^{message}"):
        LOSSES[name](WEIGHT, COUNTS)(z, targets)


Z, Y, MAPS = torch.zeros(9, 3), torch.zeros(9, dtype=torch.int64), torch.zeros(2, 3, 5)
LABELS = torch.zeros(2, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("options", "logits", "targets"),
    [
        ({}, Z, Y[:8]),
        ({}, Z, Y + 3),
        ({}, Z, Y - 1),
        ({"label_smoothing": 0.1}, Z, Y + 3),
        ({}, Z, Y[:, None]),
        ({}, Z, torch.zeros(9, 4)),
        ({"weight": torch.ones(4)}, Z, Y),
        ({"weight": torch.ones(4)}, Z, torch.ones(9, 3)),
        ({"ignore_index": 1}, Z, torch.ones(9, 3)),
        ({}, Z, torch.ones(9, 3, dtype=torch.int64)),
        ({}, Z, torch.ones(9, 3, dtype=torch.bool)),
        ({}, MAPS, torch.ones(2, 3, 5, dtype=torch.int64)),
        ({"label_smoothing": 1.5}, Z, Y),
        ({"reduction": "average"}, Z, Y),
        ({}, MAPS, LABELS[:, :4]),
        ({}, MAPS, LABELS[:, 0]),
        ({}, MAPS, torch.zeros(2, 3, 4)),
        ({}, MAPS, LABELS[:1]),
        ({}, MAPS, LABELS + 7),
    ],
)
def test_an_error_has_the_words_of_torchs_own(options, logits, targets):
    with pytest.raises((ValueError, RuntimeError, IndexError)) as torchs:
        torch.nn.CrossEntropyLoss(**options)(logits, targets)
    words = str(torchs.value).removeprefix("cross_entropy: ").rstrip(".")
    with pytest.raises((ValueError, IndexError)) as ours:
        WeightedCrossEntropy(**options)(logits, targets)
    assert str(ours.value).startswith(words)
    assert isinstance(torchs.value, IndexError) == isinstance(ours.value, IndexError)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(9, 1), (9,)])
def test_one_logit_per_image_is_refused(name, shape):
    """The softmax of one logit is 1 whatever it is: loss and gradient would be 0."""
    loss = LOSSES[name]([1.0], [7])
    message = rf"^{type(loss).__name__} takes logits \(N, C\) .*: .* use SigmoidFocalLoss.$"
    for targets in (torch.zeros(9, dtype=torch.int64), torch.ones(shape)):
        if targets.ndim == 1 or name in TAKES_SOFT:
            with pytest.raises(ValueError, match=message):
                loss(torch.zeros(shape), targets)


def test_ldam_says_that_it_takes_no_probabilities():
    z, y = fixed_batch()
    message = r"^LDAMLoss takes class indices \(N,\), not probabilities: add the losses of the two"
    with pytest.raises(ValueError, match=message):
        LDAMLoss(COUNTS)(z, F.one_hot(y, 3).float())


def test_class_indices_in_a_column_are_no_probabilities_for_ldam_either():
    z, y = fixed_batch()
    with pytest.raises(ValueError, match=r"^0D or 1D target tensor expected, multi-target not"):
        LDAMLoss(COUNTS)(z, y[:, None])


@pytest.mark.parametrize("loss", [LogitAdjustedLoss(COUNTS), LDAMLoss(COUNTS)])
def test_counts_of_another_number_of_classes_are_named(loss):
    message = "^counts has 3 entries but the model 4 outputs; give one per class."
    with pytest.raises(ValueError, match=message):
        loss(torch.randn(2, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("loss", [FocalLoss(weight=WEIGHT), LDAMLoss([5, 4, 3, 2], weight=WEIGHT)])
def test_weights_of_another_number_of_classes_are_named(loss):
    with pytest.raises(ValueError, match=r"^weight tensor should .* all 4 classes .* shape: \[3\]"):
        loss(torch.randn(2, 4), torch.tensor([0, 1]))


# --- what torch's cross-entropy can do


# name: a loss of class weights w, of C classes and of torch's options, in which nothing is added
PLAIN = {
    "WeightedCrossEntropy": lambda w, c, **o: WeightedCrossEntropy(w, **o),
    "FocalLoss": lambda w, c, **o: FocalLoss(0, w, **o),
    "LogitAdjustedLoss": lambda w, c, **o: LogitAdjustedLoss(range(1, c + 1), 0, w, **o),
    "BalancedSoftmaxLoss": lambda w, c, **o: BalancedSoftmaxLoss([7] * c, w, **o),
    "LDAMLoss": lambda w, c, **o: LDAMLoss(range(1, c + 1), 0, 1, w, **o),
}
options = st.fixed_dictionaries(
    {
        "reduction": st.sampled_from(["mean", "sum", "none"]),
        "label_smoothing": st.sampled_from([0.0, 0.1, 1.0]) | st.floats(0, 1),
    }
)


@st.composite
def problems(draw):
    """Logits (N, C, ...), class indices (N, ...), class weights or None, an index to ignore."""
    n, c = draw(st.integers(1, 5)), draw(st.integers(2, 5))
    more = draw(st.lists(st.integers(1, 3), max_size=2))
    logits = draw(arrays(np.float32, (n, c, *more), elements=st.floats(-15, 15, width=32)))
    ignored = draw(st.sampled_from([-100, -1, 0, 1, 255]))
    indices = st.integers(0, c - 1) | st.just(ignored)
    targets = draw(arrays(np.int64, (n, *more), elements=indices))
    positive = arrays(np.float32, c, elements=st.floats(2**-6, 64, width=32))
    weight = draw(st.none() | positive)
    weight = None if weight is None else torch.from_numpy(weight)
    return torch.from_numpy(logits).double(), torch.from_numpy(targets), weight, ignored


def value_and_slope(loss, logits):
    """A loss of any shape, and the gradient of a sum in which each of its entries acts."""
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    factors = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view_as(value)
    return value.detach(), torch.autograd.grad((factors * value).sum(), logits)[0]


@pytest.mark.parametrize("name", PLAIN)
@given(problem=problems(), options=options)
@settings(deadline=None, max_examples=30)
def test_a_loss_to_which_nothing_is_added_is_torchs_of_class_indices(name, problem, options):
    z, y, w, ignored = problem
    options = {**options, "ignore_index": ignored}
    loss = PLAIN[name](w, z.shape[1], **options)
    torchs = torch.nn.CrossEntropyLoss(None if w is None else w.double(), **options)
    value, slope = value_and_slope(lambda z: loss(z, y), z)
    expected, expected_slope = value_and_slope(lambda z: torchs(z, y), z)
    if options["reduction"] == "mean" and (y == ignored).all():
        assert expected.isnan() and value == 0 and not slope.any()
    else:
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(slope, expected_slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in PLAIN if name != "LDAMLoss"])
@given(problem=problems(), options=options)
@settings(deadline=None, max_examples=30)
def test_a_loss_to_which_nothing_is_added_is_torchs_of_probabilities(name, problem, options):
    z, _, w, _ = problem
    q = z.flip(0).softmax(1)
    loss = PLAIN[name](w, z.shape[1], divide_by="images", **options)
    torchs = torch.nn.CrossEntropyLoss(None if w is None else w.double(), **options)
    torch.testing.assert_close(
        value_and_slope(lambda z: loss(z, q), z),
        value_and_slope(lambda z: torchs(z, q), z),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", LOSSES)
def test_the_options_of_torch_fit_together(name):
    """An ignored image is one that is not there; a map of labels is a batch of its places."""
    z, y = fixed_batch()
    y[::4] = -100
    loss = LOSSES[name](WEIGHT, COUNTS)
    torch.testing.assert_close(loss(z, y), loss(z[y >= 0], y[y >= 0]))
    maps, labels = z.view(3, 3, 3).movedim(2, 1), y.view(3, 3)
    torch.testing.assert_close(loss(maps, labels), loss(z, y))
    mean = loss(z, y)
    loss.reduction = "none"
    each = loss(z, y)
    assert each.shape == (9,) and not each[::4].any() and each[1] > 0
    torch.testing.assert_close(loss(maps, labels), each.view(3, 3))
    loss.reduction = "sum"
    torch.testing.assert_close(loss(z, y), each.sum())
    divisor = (y >= 0).sum() if name not in BY_WEIGHTS else torch.tensor(WEIGHT)[y[y >= 0]].sum()
    torch.testing.assert_close(loss(z, y) / divisor, mean)


@pytest.mark.parametrize("name", TAKES_SOFT)
@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_a_smoothed_index_is_a_smoothed_row(name, smoothing):
    z, y = fixed_batch()
    smoothed, plain = (LOSSES[name](WEIGHT, COUNTS) for _ in range(2))
    smoothed.label_smoothing = smoothing
    smoothed.reduction = plain.reduction = "none"
    q = F.one_hot(y, 3) * (1 - smoothing) + smoothing / 3
    torch.testing.assert_close(smoothed(z, y), plain(z, q))
    torch.testing.assert_close(smoothed(z, F.one_hot(y, 3).float()), plain(z, q))


def test_the_margin_of_ldam_stays_the_true_classs_when_labels_are_smoothed():
    z, y = torch.zeros(3, 3), torch.arange(3)
    plain, smoothed, even = (
        LDAMLoss(COUNTS, scale=1.0, label_smoothing=s, reduction="none")(z, y)
        for s in (0.0, 0.3, 1.0)
    )
    torch.testing.assert_close(smoothed, 0.7 * plain + 0.3 * even)


def test_class_indices_may_be_bytes_as_in_torch():
    z, y = fixed_batch()
    assert FocalLoss()(z, y.byte()) == FocalLoss()(z, y)


# --- how they print, and their examples


@pytest.mark.parametrize(
    ("loss", "printed"),
    [
        (WeightedCrossEntropy(), "WeightedCrossEntropy()"),
        (FocalLoss(), "FocalLoss(gamma=2.0)"),
        (
            FocalLoss(0.5, WEIGHT, "images", reduction="sum", ignore_index=255),
            "FocalLoss(gamma=0.5, divide_by='images', reduction='sum', ignore_index=255, "
            "weight=Tensor(3))",
        ),
        (LogitAdjustedLoss(COUNTS), "LogitAdjustedLoss(tau=1.0, adjustment=Tensor(3))"),
        (
            BalancedSoftmaxLoss(COUNTS, label_smoothing=0.1),
            "BalancedSoftmaxLoss(label_smoothing=0.1, adjustment=Tensor(3))",
        ),
        (LDAMLoss(COUNTS), "LDAMLoss(max_margin=0.5, scale=30.0, margin=Tensor(3))"),
    ],
)
def test_a_loss_prints_its_settings(loss, printed):
    assert repr(loss) == printed


@pytest.mark.parametrize("module", [losses, base, softmax, sigmoid, weights])
def test_the_examples_are_true(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", [*losses.__all__, *weights.__all__])
def test_each_public_name_has_an_example(name):
    of = getattr(losses, name, None) or getattr(weights, name)
    assert ">>> " in of.__doc__ and "Raises:" in of.__doc__ and "esson 0" in of.__doc__
