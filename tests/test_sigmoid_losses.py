"""torch and torchvision are the oracles, in float64; of the asymmetric loss it is the formula of
its paper. Value and gradient are compared, over drawn batches."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchvision.ops import sigmoid_focal_loss

from imbalkit import weights
from imbalkit.losses import AsymmetricLoss, FocalLoss, SigmoidFocalLoss

WEIGHT = [0.5, 1.0, 4.0]
LOSSES = {
    "SigmoidFocalLoss": lambda **o: SigmoidFocalLoss(**o),
    "SigmoidFocalLoss, 0": lambda **o: SigmoidFocalLoss(0, None, **o),
    "SigmoidFocalLoss, 0.5": lambda **o: SigmoidFocalLoss(0.5, None, **o),
    "SigmoidFocalLoss, weight": lambda **o: SigmoidFocalLoss(2, None, WEIGHT, **o),
    "AsymmetricLoss": lambda **o: AsymmetricLoss(**o),
    "AsymmetricLoss, 0": lambda **o: AsymmetricLoss(0, 0, 0, **o),
    "AsymmetricLoss, no clip": lambda **o: AsymmetricLoss(0.5, 0.5, 0, **o),
    "AsymmetricLoss, root": lambda **o: AsymmetricLoss(0.5, 0.5, **o),
    "AsymmetricLoss, weight": lambda **o: AsymmetricLoss(pos_weight=WEIGHT, **o),
}
each_loss = pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
gammas = st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]) | st.floats(0.0, 5.0)
reductions = st.sampled_from(["mean", "sum", "none"])


@st.composite
def batches(draw):
    """Logits (N,), (N, C) or (N, C, ...), labels in that shape, positive numbers (C,)."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    classes = shape[1] if len(shape) > 1 else 1
    logits = draw(arrays(np.float32, shape, elements=st.floats(-15, 15, width=32)))
    labels = draw(arrays(np.float32, shape, elements=st.sampled_from([0, 1])))
    weight = draw(arrays(np.float32, classes, elements=st.floats(2**-6, 64, width=32)))
    return torch.from_numpy(logits).double(), torch.from_numpy(labels), torch.from_numpy(weight)


def fixed_batch():
    """Nine images of three labels, all four kinds of them in each column."""
    return 3 * torch.randn(9, 3), (torch.arange(27) % 2).float().view(9, 3)


def value_and_slope(loss, logits):
    """A loss of any shape, and the gradient of a sum in which each of its entries acts."""
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits)
    factors = torch.linspace(1, 2, value.numel(), dtype=value.dtype).view_as(value)
    return value.detach(), torch.autograd.grad((factors * value).sum(), logits)[0]


def assert_same(loss, oracle, logits):
    """Value and gradient agree in float64, and loosely where the logits are float32."""
    expected = value_and_slope(oracle, logits)
    torch.testing.assert_close(value_and_slope(loss, logits), expected, rtol=1e-6, atol=1e-7)
    single = value_and_slope(loss, logits.float())
    assert single[0].dtype == single[1].dtype == torch.float32
    scale = 1 + max(part.abs().max().item() for part in expected)
    # A label near 1 has a rounding of 6e-8 in float32, and a logit of 15 times that in its loss.
    rounding = 1e-6 * (2 + logits.numel())
    for ours, wanted in zip(single, expected, strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-4, atol=rounding * scale)


# --- sigmoid focal loss


@given(batches(), gammas, st.none() | st.floats(0, 1), reductions)
@settings(deadline=None, max_examples=40)
def test_sigmoid_focal_loss_is_torchvisions(batch, gamma, alpha, reduction):
    z, y, _ = batch
    loss = SigmoidFocalLoss(gamma, alpha, reduction=reduction)

    def oracle(z):
        theirs = -1 if alpha is None else alpha
        return sigmoid_focal_loss(z, y.double(), theirs, gamma, reduction=reduction)

    assert_same(lambda z: loss(z, y), oracle, z)


def test_its_defaults_are_torchvisions_but_for_the_reduction():
    z, y = fixed_batch()
    torch.testing.assert_close(SigmoidFocalLoss()(z, y), sigmoid_focal_loss(z, y).mean())


def without_addition(pos_weight, **options):
    return (
        SigmoidFocalLoss(0, None, pos_weight, **options),
        AsymmetricLoss(0, 0, 0, pos_weight, **options),
    )


@given(batches(), reductions, st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_loss_to_which_nothing_is_added_is_torchs(batch, reduction, weighted):
    z, y, w = batch
    along = w.double().view(-1, *[1] * (z.ndim - 2))
    torchs = torch.nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=along if weighted else None)
    for loss in without_addition(w if weighted else None, reduction=reduction):
        for target in (y.double(), z.flip(0).sigmoid()):
            assert_same(
                lambda z, loss=loss, target=target: loss(z, target),
                lambda z, target=target: torchs(z, target),
                z,
            )


def test_one_logit_is_the_difference_of_two():
    z, y = torch.randn(9), torch.arange(9) % 2
    two = torch.stack([torch.zeros(9), z], 1)
    torch.testing.assert_close(SigmoidFocalLoss(2, None)(z, y), FocalLoss(2)(two, y))


# --- asymmetric loss


def papers_asymmetric(z, y, gamma_neg, gamma_pos, m):
    """Equations 4 to 7: L = -y L+ - (1 - y) L-, with p_m = max(p - m, 0) in L-."""
    p = z.sigmoid()
    p_m = (p - m).clamp_min(0)
    positive = (1 - p) ** gamma_pos * F.logsigmoid(z)
    # Where p_m is 0 the loss is, and the power has no slope that could be asked for.
    inside = p_m > 0
    not_zero = torch.where(inside, p_m, 0.5)
    logarithm = torch.log1p(-not_zero) if m > 0 else F.logsigmoid(-z)
    negative = torch.where(inside, not_zero**gamma_neg * logarithm, 0.0)
    return -y * positive - (1 - y) * negative


@given(batches(), gammas, gammas, st.sampled_from([0.0, 0.05, 0.2]) | st.floats(0.01, 0.9))
@settings(deadline=None, max_examples=40)
def test_asymmetric_loss_is_the_papers_formula(batch, gamma_neg, gamma_pos, m):
    z, y, _ = batch
    # At p = m the loss has a kink, and near it a root a slope without bound.
    z = torch.where((z.sigmoid() - m).abs() < 1e-3, z + 0.5, z)
    loss = AsymmetricLoss(gamma_neg, gamma_pos, m, reduction="none")
    expected = value_and_slope(lambda z: papers_asymmetric(z, y, gamma_neg, gamma_pos, m), z)
    got = value_and_slope(lambda z: loss(z, y), z)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


def test_its_defaults_are_those_of_the_authors():
    z, y = fixed_batch()
    expected = papers_asymmetric(z.double(), y, 4, 1, 0.05).mean()
    torch.testing.assert_close(AsymmetricLoss()(z, y).double(), expected)


@given(batches(), gammas)
@settings(deadline=None, max_examples=40)
def test_equal_focus_without_shift_is_the_focal_loss(batch, gamma):
    z, y, _ = batch
    asymmetric, focal = AsymmetricLoss(gamma, gamma, 0), SigmoidFocalLoss(gamma, None)
    assert_same(lambda z: asymmetric(z, y), lambda z: focal(z, y), z)


def slopes(loss, probabilities, label):
    z = torch.tensor(probabilities, dtype=torch.float64).logit()
    return value_and_slope(lambda z: loss(z, torch.full_like(z, label)).sum(), z)[1]


def test_negatives_below_the_shift_count_nothing():
    z = torch.tensor([0.001, 0.049, 0.051, 0.2]).logit()
    value, slope = value_and_slope(lambda z: AsymmetricLoss(reduction="none")(z, 0 * z), z)
    assert not value[:2].any() and not slope[:2].any()
    assert (value[2:] > 0).all() and (slope[2:] > 0).all()


def test_the_shift_also_takes_weight_from_the_hardest_negatives():
    """Figure 4 of the paper: they may be positives that nobody has labelled."""
    at = [0.5, 0.8, 0.99, 0.9999]
    shifted, as_they_are = (slopes(AsymmetricLoss(1, 0, m), at, 0) for m in (0.2, 0.0))
    assert shifted[1] > shifted[2] > shifted[3]
    assert shifted[3] < shifted[1] / 10 and as_they_are[3] > as_they_are[1]


def test_a_larger_focus_of_negatives_leaves_easy_ones_less_and_positives_as_they_are():
    easy = [slopes(AsymmetricLoss(g, 1, 0), [0.1], 0).item() for g in (0, 1, 2, 4)]
    assert easy == sorted(easy, reverse=True) and easy[-1] < easy[0] / 100
    positive = [slopes(AsymmetricLoss(g, 1, 0.05), [0.1], 1).item() for g in (0, 4)]
    assert positive[0] == positive[1]


# --- what holds for both


@each_loss
def test_an_ignored_label_is_one_that_is_not_there(make):
    z, y = fixed_batch()
    y[::2, 1] = -1
    loss, each = make(ignore_index=-1), make(ignore_index=-1, reduction="none")(z, y)
    assert each.shape == z.shape and not each[y == -1].any() and (each[y == 1] > 0).all()
    counted = each[y >= 0]
    torch.testing.assert_close(loss(z, y), counted.mean())
    torch.testing.assert_close(make(ignore_index=-1, reduction="sum")(z, y), counted.sum())
    assert loss(z, torch.full_like(z, -1)) == 0  # where nothing counts


@each_loss
def test_a_soft_label_mixes_the_losses_of_both_sides(make):
    z, y = fixed_batch()
    loss = make(reduction="none")
    mixed = 0.3 * loss(z, torch.ones_like(z)) + 0.7 * loss(z, torch.zeros_like(z))
    torch.testing.assert_close(loss(z, torch.full_like(z, 0.3)), mixed)
    smoothed = make(reduction="none", label_smoothing=0.2)(z, y)
    torch.testing.assert_close(smoothed, loss(z, 0.8 * y + 0.1))


@each_loss
def test_labels_may_be_of_any_dtype(make):
    z, y = fixed_batch()
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.float16, torch.float64):
        assert make()(z, y.to(dtype)) == make()(z, y)


@each_loss
def test_float64_gradients_are_right(make):
    z, y = fixed_batch()
    loss, z = make(reduction="none"), (z.double() + 0.01).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, y), z)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@each_loss
def test_extreme_logits(make, dtype):
    z = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype)
    for label in (0.0, 1.0):
        loss = make(reduction="none")
        value, slope = value_and_slope(lambda z: loss(z, torch.full_like(z, label)), z)  # noqa: B023
        assert value.isfinite().all() and slope.isfinite().all()
        right = 0 if label else 1  # the logit that is on the side of the label
        assert value[0, right] == 0 and slope[0, right] == 0
        assert value[0, 1 - right] > 1  # the other, also where the shift bounds it


@each_loss
def test_a_label_masked_by_infinity_takes_no_part(make):
    """A logit that is infinite on the side of its label has no loss, and none has a NaN."""
    z, y = torch.tensor([[-math.inf, math.inf, 0.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    value, slope = value_and_slope(lambda z: make(reduction="none")(z, y), z)
    assert value[0, :2].tolist() == [0, 0] and value[0, 2] > 0
    assert slope.isfinite().all() and not slope[0, :2].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each_loss
def test_half_precision_logits_give_the_float32_loss(make, dtype):
    loss, (z, y) = make(), fixed_batch()
    value, slope = value_and_slope(lambda z: loss(z, y), z.to(dtype))
    expected, expected_slope = value_and_slope(lambda z: loss(z, y), z.to(dtype).float())
    assert value.dtype == torch.float32 and slope.dtype == dtype
    assert torch.equal(value, expected) and torch.equal(slope, expected_slope.to(dtype))


@each_loss
def test_autocast_changes_nothing_but_the_network(make):
    loss, (_, y) = make(), fixed_batch()
    network, inputs = torch.nn.Linear(5, 3), torch.randn(9, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z = network(inputs)
        value = loss(z, y)
    assert z.dtype == torch.bfloat16 and value.dtype == torch.float32
    assert torch.equal(value, loss(z, y))
    value.backward()
    assert network.weight.grad.dtype == torch.float32 and network.weight.grad.isfinite().all()


def test_weights_from_counts_make_both_sides_of_a_label_equal():
    y = torch.zeros(40, 2)
    y[:4, 0] = y[:10, 1] = 1
    w = weights.pos_weight(y.sum(0), len(y))
    loss = SigmoidFocalLoss(0, None, w)
    _, slope = value_and_slope(lambda z: loss(z, y), torch.zeros(40, 2))
    torch.testing.assert_close(slope.sum(0), torch.zeros(2))  # p = 1/2 is where they rest
    torch.testing.assert_close(loss(y, y), F.binary_cross_entropy_with_logits(y, y, pos_weight=w))


def test_one_weight_serves_all_labels_and_is_saved():
    z, y = fixed_batch()
    loss = AsymmetricLoss(pos_weight=4.0)
    torch.testing.assert_close(loss(z, y), AsymmetricLoss(pos_weight=[4.0] * 3)(z, y))
    assert loss(z, y) != AsymmetricLoss()(z, y)
    assert loss.state_dict()["pos_weight"].tolist() == [4.0]


@pytest.mark.parametrize(
    ("loss", "printed"),
    [
        (SigmoidFocalLoss(), "SigmoidFocalLoss(gamma=2.0, alpha=0.25)"),
        (
            SigmoidFocalLoss(0, None, WEIGHT, reduction="none"),
            "SigmoidFocalLoss(gamma=0, alpha=None, reduction='none', pos_weight=Tensor(3))",
        ),
        (AsymmetricLoss(), "AsymmetricLoss(gamma_neg=4.0, gamma_pos=1.0, clip=0.05)"),
    ],
)
def test_a_loss_prints_its_settings(loss, printed):
    assert repr(loss) == printed


# --- bad input


@each_loss
@pytest.mark.parametrize(
    ("logits", "targets"), [((9, 1), (9,)), ((9,), (9, 1)), ((9, 3), (9,)), ((9, 3), (9, 1))]
)
def test_nothing_is_spread_to_another_shape(make, logits, targets):
    logits, targets = torch.zeros(logits), torch.zeros(targets)
    with pytest.raises(ValueError) as torchs:
        torch.nn.BCEWithLogitsLoss()(logits, targets)
    with pytest.raises(ValueError) as ours:
        make()(logits, targets)
    assert str(ours.value).startswith(f"{torchs.value}; give one target per logit")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *(
            (lambda g=g: SigmoidFocalLoss(g), f"gamma is {g}; it must be 0 or more and finite.")
            for g in (-1, math.nan, math.inf)
        ),
        *(
            (lambda g=g: AsymmetricLoss(g), f"gamma_neg is {g}; it must be 0 or more and finite.")
            for g in (-1, math.nan, math.inf)
        ),
        *(
            (lambda g=g: AsymmetricLoss(4, g), f"gamma_pos is {g}; it must be 0 or more and finite")
            for g in (-1, math.nan, math.inf)
        ),
        *(
            (lambda m=m: AsymmetricLoss(clip=m), f"clip is {m}; it must be at least 0 and below 1.")
            for m in (-0.1, 1, math.nan)
        ),
        *(
            (lambda a=a: SigmoidFocalLoss(2, a), f"alpha is {a}; it must be from 0 to 1, or None")
            for a in (-1, 1.5, math.nan)
        ),
        (
            lambda: SigmoidFocalLoss(pos_weight=2.0),
            "alpha is 0.25 and pos_weight is given, which both weigh .*; with .* pass alpha=None.",
        ),
        (lambda: AsymmetricLoss(reduction="all"), "all is not a valid value for reduction; use"),
        (
            lambda: AsymmetricLoss(label_smoothing=2),
            "label_smoothing must be between 0.0 and 1.0. Got: 2",
        ),
        (
            lambda: AsymmetricLoss(pos_weight=[1.0, math.inf]),
            r"pos_weight is \[1.0, inf\]; weights must be finite",
        ),
        (
            lambda: AsymmetricLoss(pos_weight=[[1.0]]),
            r"pos_weight has shape \(1, 1\); give one number per class.",
        ),
        (
            lambda: AsymmetricLoss(pos_weight=WEIGHT)(torch.zeros(2, 4), torch.zeros(2, 4)),
            "pos_weight has 3 entries but the model 4 outputs; give one per class, or one for all.",
        ),
        (
            lambda: AsymmetricLoss(pos_weight=WEIGHT)(torch.zeros(3), torch.zeros(3)),
            "pos_weight has 3 entries but the model 1 outputs; give one per class, or one for all.",
        ),
    ],
)
def test_what_cannot_be_says_why(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
