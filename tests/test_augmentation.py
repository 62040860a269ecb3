"""What the augmentations do to images and targets: oracles, identities, and that options act."""

import math
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from imbalkit import models
from imbalkit.augmentation import (
    ColorJitter,
    Mixup,
    PasteRare,
    PerClass,
    RandomAffine,
    Remix,
    affine,
)
from imbalkit.data import Batches, ImageSet, RandomCrop, RandomFlip
from imbalkit.losses import LogitAdjustedLoss
from imbalkit.training import sgd, train_step

CPU, META = torch.device("cpu"), torch.device("meta")
COUNTS = [30, 20, 10]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_images(n=12, height=32, width=32, seed=1):
    shape = (n, height, width, 3)
    images = torch.randint(0, 256, shape, generator=generator(seed), dtype=torch.uint8)
    return images.permute(0, 3, 1, 2)  # in the layout in which Batches hands them on


def smooth_images(n=12, height=32, width=32):
    small = some_images(n, 5, 5).float()
    return F.interpolate(small, (height, width), mode="bicubic", align_corners=False).clamp(0, 255)


def labels(n=12, classes=3):
    return torch.arange(n) % classes


def darken(images, targets, generator):
    return images // 2, targets


def one_coloured(classes=3, per_class=(30, 20, 10)):
    """A set in which every image of class c has the value 100 + c everywhere."""
    y = torch.repeat_interleave(torch.arange(classes), torch.tensor(per_class))
    images = (100 + y).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 32, 32, 3).contiguous()
    return ImageSet(images, y, tuple("abc"), "one-coloured")


ONE_BY_ONE = {
    "PerClass": PerClass([1, 0.5, 0], [RandomAffine(20, 0.1), ColorJitter(0.5)]),
    "RandomAffine": RandomAffine(20, 0.1),
    "ColorJitter": ColorJitter(0.4, 0.4, 0.4),
}


def mixing():
    return {
        "Mixup": Mixup(3),
        "Remix": Remix(COUNTS, kappa=1.5),
        "PasteRare": PasteRare(one_coloured(), device=CPU),
    }


# --- what holds for all


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_single_images_keep_shape_dtype_and_target(name):
    images, targets = some_images(), labels()
    for given in (images, images.float()):
        before = given.clone()
        changed, same = ONE_BY_ONE[name](given, targets, generator())
        assert changed.shape == given.shape and changed.dtype == given.dtype
        assert same is targets and given.equal(before)
        assert not changed.equal(given)


@pytest.mark.parametrize("name", mixing())
def test_mixed_targets_are_probabilities(name):
    images, targets = some_images(90), labels(90)
    before = images.clone()
    mixed, soft = mixing()[name](images, targets, generator())
    assert mixed.shape == images.shape and images.equal(before)
    assert mixed.min() >= 0 and mixed.max() <= 255
    assert soft.shape == (90, 3) and soft.dtype == torch.float32
    assert (soft >= 0).all()
    torch.testing.assert_close(soft.sum(1), torch.ones(90))
    assert ((soft > 0).sum(1) == 2).any()


@pytest.mark.parametrize("name", [*ONE_BY_ONE, *mixing()])
def test_the_generator_alone_decides(name):
    function = (ONE_BY_ONE | mixing())[name]
    images, targets = some_images(), labels()

    def run(seed, outside):
        torch.manual_seed(outside)
        return function(images, targets, generator(seed))[0]

    assert run(3, outside=1).equal(run(3, outside=2))
    assert not run(3, outside=1).equal(run(4, outside=1))


def test_each_image_gets_its_own_draw():
    same = some_images(1).expand(8, 3, 32, 32)
    for name, function in ONE_BY_ONE.items():
        changed, _ = function(same, torch.zeros(8, dtype=torch.int64), generator())
        assert len({tuple(image.flatten().tolist()) for image in changed}) == 8, name


@pytest.mark.parametrize("name", mixing())
def test_soft_targets_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} takes class indices.*mixed already"):
        mixing()[name](some_images(), torch.full((12, 3), 1 / 3), generator())


@pytest.mark.parametrize("name", [*ONE_BY_ONE, *mixing()])
def test_a_step_runs_on_the_meta_device(tiny_set, name):
    functions = ONE_BY_ONE | {
        "Mixup": Mixup(3),
        "Remix": Remix(COUNTS),
        "PasteRare": PasteRare(tiny_set, device=META),
    }
    augment = [functions[name], RandomCrop(), RandomFlip()]
    batches = Batches(tiny_set, 16, mean=[0.5] * 3, std=[0.2] * 3, augment=augment, device=META)
    model = models.plain_cnn(3).to(META)
    for loss in (F.cross_entropy, LogitAdjustedLoss(COUNTS).to(META)):
        images, targets = next(iter(batches))
        value, _, _ = train_step(model, loss, sgd(model), images, targets, META)
        assert value.device == META


def test_one_seed_repeats_a_pass_of_batches(tiny_set):
    augment = [
        RandomCrop(),
        PerClass([0, 0.5, 1], [RandomAffine(15, 0.1), ColorJitter(0.3, 0.3, 0.3)]),
        Remix(COUNTS),
    ]

    def run(seed):
        torch.manual_seed(seed)
        batches = Batches(
            tiny_set, 16, mean=[0.5] * 3, std=[0.2] * 3, shuffle=True, augment=augment, device=CPU
        )
        return torch.cat([images for images, _ in batches])

    assert run(3).equal(run(3)) and not run(3).equal(run(4))


def test_mixed_batches_go_through_the_losses(tiny_set):
    augment = [PasteRare(tiny_set, device=CPU), RandomCrop()]
    batches = Batches(tiny_set, 60, mean=[0.5] * 3, std=[0.2] * 3, augment=augment, device=CPU)
    images, targets = next(iter(batches))
    logits = torch.randn(60, 3, generator=generator())
    plain = -(targets * logits.log_softmax(1)).sum() / 60
    torch.testing.assert_close(F.cross_entropy(logits, targets), plain)
    prior = (torch.tensor(COUNTS) / 60).log()
    adjusted = -(targets * (logits + prior).log_softmax(1)).sum() / 60
    torch.testing.assert_close(LogitAdjustedLoss(COUNTS)(logits, targets), adjusted)
    assert images.dtype == torch.float32


# --- PerClass


def test_per_class_leaves_the_others_alone():
    images, targets = some_images(), labels()
    changed, _ = PerClass([0, 1, 0], [darken])(images, targets, generator())
    assert changed[targets == 1].equal(images[targets == 1] // 2)
    assert changed[targets != 1].equal(images[targets != 1])


def test_per_class_changes_as_often_as_said():
    images, targets = some_images(1).expand(3000, 3, 32, 32), labels(3000)
    changed, _ = PerClass([0.2, 0.5, 0.9], [darken])(images, targets, generator())
    was = (changed != images).flatten(1).any(1)
    for c, probability in enumerate((0.2, 0.5, 0.9)):
        assert was[targets == c].float().mean() == pytest.approx(probability, abs=0.05)


def test_per_class_runs_its_functions_in_order():
    def brighten(images, targets, generator):
        return images + 10, targets

    images, targets = torch.full((3, 3, 4, 4), 100, dtype=torch.uint8), labels(3)
    first, _ = PerClass([1, 1, 1], [darken, brighten])(images, targets, generator())
    second, _ = PerClass([1, 1, 1], [brighten, darken])(images, targets, generator())
    assert (first == 60).all() and (second == 55).all()


def test_per_class_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="one number from 0 to 1"):
        PerClass([0.5, 1.5], [darken])
    with pytest.raises(ValueError, match="one number from 0 to 1"):
        PerClass(0.5, [darken])
    with pytest.raises(ValueError, match=r"Mixup mixes images.*behind PerClass"):
        PerClass([1, 1, 1], [Mixup(3)])(some_images(), labels(), generator())
    with pytest.raises(ValueError, match="PerClass takes class indices"):
        PerClass([1, 1, 1], [darken])(some_images(), torch.full((12, 3), 1 / 3), generator())


# --- RandomAffine


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_quarter_turns_are_exact(turns):
    images, zero = some_images(), torch.zeros(12)
    turned = affine(images, torch.full((12,), 90.0 * turns), zero, zero)
    assert turned.equal(images.rot90(turns, (2, 3)))


def test_whole_shifts_are_exact_and_reflect_at_the_border():
    images = some_images()
    moved = affine(images, torch.zeros(12), torch.full((12,), 3.0), torch.full((12,), -2.0))
    assert moved[:, :, :-2, 3:].equal(images[:, :, 2:, :-3])
    assert moved[:, :, :-2, :3].equal(images[:, :, 2:, :3].flip(3))


@pytest.mark.parametrize("shape", [(32, 32), (20, 48)])
def test_affine_is_torchvisions_inside(shape):
    images = smooth_images(4, *shape)
    degrees, right, down = torch.tensor([[10.0, -25, 40, 0], [3, 0, -2, 4], [-1, 2, 0, 3]])
    ours = affine(images, degrees, right, down)
    inner = (..., slice(8, -8), slice(shape[1] // 3, -shape[1] // 3))
    for i in range(4):
        # torchvision counts clockwise.
        theirs = tv.affine(
            images[i], -degrees[i].item(), [right[i].item(), down[i].item()], 1.0, [0.0],
            interpolation=InterpolationMode.BILINEAR,
        )  # fmt: skip
        torch.testing.assert_close(ours[i][inner], theirs[inner], atol=0.3, rtol=0)


def test_affine_draws_within_its_range():
    """A bright dot right of the centre tells how far each image was turned or shifted."""
    images = torch.zeros(500, 1, 33, 33)
    images[:, :, 16, 28] = 255
    place = torch.arange(33.0) - 16

    def dots(function):
        moved, _ = function(images, labels(500), generator())
        mass = moved.sum((1, 2, 3)).clamp_min(1e-6)
        return (moved.sum((1, 2)) @ place) / mass, (moved.sum((1, 3)) @ place) / mass

    x, y = dots(RandomAffine(degrees=30))
    angles = torch.rad2deg(torch.atan2(-y, x))
    assert angles.min() < -25 and angles.max() > 25 and angles.abs().max() < 31
    torch.testing.assert_close((x**2 + y**2).sqrt(), torch.full((500,), 12.0), atol=0.2, rtol=0)
    x, y = dots(RandomAffine(0, translate=0.1))
    assert 3 < (x - 12).abs().max() <= 3.4 and 3 < y.abs().max() <= 3.4
    x, y = dots(RandomAffine(0))
    assert (x - 12).abs().max() < 1e-3 and y.abs().max() < 1e-3


# --- ColorJitter


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("brightness", tv.adjust_brightness),
        ("contrast", tv.adjust_contrast),
        ("saturation", tv.adjust_saturation),
    ],
)
def test_jitter_is_torchvisions_with_the_factor_it_drew(name, oracle):
    images = smooth_images(6)
    changed, _ = ColorJitter(**{name: 0.5})(images, labels(6), generator(2))
    place = ("brightness", "contrast", "saturation").index(name)
    factors = 0.5 + torch.rand(3, 6, 1, 1, 1, generator=generator(2))[place].flatten()
    for i, factor in enumerate(factors.tolist()):
        theirs = oracle(images[i] / 255, factor) * 255
        torch.testing.assert_close(changed[i], theirs, atol=0.05, rtol=0)


def test_jitter_of_zero_changes_nothing_and_uint8_is_rounded():
    images = some_images()
    assert ColorJitter()(images, labels(), generator())[0].equal(images)
    jitter = ColorJitter(0.4, 0.4, 0.4)
    exact, _ = jitter(images.float(), labels(), generator())
    assert jitter(images, labels(), generator())[0].equal(exact.round().to(torch.uint8))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_refuses_a_range_beyond_one(name):
    with pytest.raises(ValueError, match=f"{name} is 1.5"):
        ColorJitter(**{name: 1.5})


# --- Mixup and Remix


def test_mixup_mixes_images_and_labels_in_the_same_shares():
    """With a class for each image, the soft labels say how the images were mixed."""
    images = some_images(20)
    mixed, soft = Mixup(20)(images, torch.arange(20), generator())
    ours = (soft @ images.float().flatten(1)).view_as(mixed)
    torch.testing.assert_close(mixed, ours, atol=1e-3, rtol=0)
    assert mixed.dtype == torch.float32


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_lambda_has_the_beta_distribution(alpha):
    images, targets = torch.zeros(2000, 3, 1, 1), torch.arange(2000)
    _, soft = Mixup(2000, alpha)(images, targets, generator())
    drawn = soft.diagonal().double().numpy()
    wanted = stats.beta(alpha, alpha)
    for limit in (0.01, 0.1, 0.5, 0.8, 0.99):
        assert (drawn < limit).mean() == pytest.approx(wanted.cdf(limit), abs=0.04)


def test_mixup_refuses_an_alpha_of_zero():
    with pytest.raises(ValueError, match="alpha is 0"):
        Mixup(3, 0)


def by_the_definition(n_i, n_j, lam, kappa, tau):
    if n_i / n_j >= kappa and lam < tau:
        return 0.0
    if n_i / n_j <= 1 / kappa and 1 - lam < tau:
        return 1.0
    return lam


@pytest.mark.parametrize(("kappa", "tau"), [(3, 0.5), (1.5, 0.5), (3, 0.2), (20, 0.9)])
def test_remix_is_the_papers_rule(kappa, tau):
    counts = [1000, 300, 100, 90, 10]
    remix = Remix(counts, kappa=kappa, tau=tau)
    cases = [
        (i, j, lam) for i in range(5) for j in range(5) for lam in (0.0, 0.1, 0.3, 0.6, 0.85, 1.0)
    ]
    i, j, lam = (torch.tensor(column) for column in zip(*cases, strict=True))
    got = remix.label_share(lam, i, j)
    want = [by_the_definition(counts[a], counts[b], x, kappa, tau) for a, b, x in cases]
    assert got.tolist() == pytest.approx(want, abs=1e-6)


def test_remix_mixes_the_images_as_mixup_does():
    images, targets = some_images(300), labels(300)
    mixed, soft = Mixup(3)(images, targets, generator())
    remixed, resoft = Remix([1000, 100, 10])(images, targets, generator())
    assert remixed.equal(mixed)
    rare = 2
    assert resoft[:, rare].sum() > soft[:, rare].sum() + 10
    assert (resoft[:, rare] >= soft[:, rare] - 1e-6).all()
    for nothing in (Remix([1000, 100, 10], tau=0), Remix([10, 10, 10]), Remix([9, 9, 5])):
        torch.testing.assert_close(nothing(images, targets, generator())[1], soft)


def test_remix_alpha_acts():
    images, targets = some_images(300), labels(300)
    near, _ = Remix(COUNTS, alpha=0.01)(images, targets, generator())
    far, _ = Remix(COUNTS, alpha=4.0)(images, targets, generator())
    pure = ((near - near.round()).abs() < 0.05).flatten(1).all(1)
    assert pure.float().mean() > 0.9
    assert ((far - far.round()).abs() < 0.05).flatten(1).all(1).float().mean() < 0.1


def test_remix_refuses_counts_and_settings_that_cannot_be():
    with pytest.raises(ValueError, match="class 1 has no training image"):
        Remix([5, 0, 3])
    with pytest.raises(ValueError, match="kappa is 1"):
        Remix(COUNTS, kappa=1)


# --- PasteRare


def pasted(n=200, **options):
    """What was pasted on black images of class 0, which the values of the pixels tell."""
    images = torch.zeros(n, 3, 32, 32, dtype=torch.uint8)
    targets = torch.zeros(n, dtype=torch.int64)
    paste = PasteRare(one_coloured(), device=CPU, **options)
    return paste(images, targets, generator())


def test_a_box_is_pasted_and_the_label_is_its_area():
    mixed, soft = pasted()
    assert mixed.dtype == torch.uint8
    for image, target in zip(mixed, soft, strict=True):
        box = image[0] > 0
        rows, columns = box.any(1), box.any(0)
        assert box.equal(rows[:, None] & columns[None, :])
        assert (rows.diff().sum() <= 2) and (columns.diff().sum() <= 2)  # one stretch each
        assert image[0].equal(image[2])
        values = image[0][box].unique()
        assert len(values) <= 1
        expected = torch.zeros(3)
        expected[0] = 1 - box.float().mean()
        if len(values):
            expected[int(values) - 100] += box.float().mean()
        torch.testing.assert_close(target, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("power", [-1.0, 0.0, 1.0])
def test_the_classes_are_pasted_in_the_shares_of_the_power(power):
    mixed, _ = pasted(3000, power=power, probability=1.0)
    tops = mixed.flatten(1).amax(1)
    seen = np.bincount(tops[tops > 0].int().numpy() - 100, minlength=3)
    shares = np.array(COUNTS, dtype=float) ** power
    assert seen / seen.sum() == pytest.approx(shares / shares.sum(), abs=0.04)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_something_is_pasted_as_often_as_said(probability):
    mixed, _ = pasted(2000, probability=probability)
    share = (mixed.flatten(1).amax(1) > 0).float().mean()
    assert share == pytest.approx(probability, abs=0.04)


def test_boxes_have_areas_up_to_the_whole_image_and_lie_everywhere():
    mixed, _ = pasted(2500, probability=1.0)
    box = mixed[:, 0] > 0
    area = box.float().mean((1, 2))
    assert area.min() < 0.01 and area.max() > 0.9
    # A box whose area is uniform, cut off at the border: its mean by simulation in numpy.
    random = np.random.default_rng(0)
    side, row, column = np.sqrt(random.random(200000)), *random.random((2, 200000))

    def length(centre):
        return np.minimum(centre + side / 2, 1) - np.maximum(centre - side / 2, 0)

    assert area.mean().item() == pytest.approx((length(row) * length(column)).mean(), abs=0.02)
    assert box.float().mean(0).min() > 0.1


def test_a_class_without_images_is_never_pasted():
    images = one_coloured()
    few = images.subset((images.labels != 1).nonzero().flatten())
    paste = PasteRare(few, probability=1.0, device=CPU)
    black = torch.zeros(500, 3, 32, 32, dtype=torch.uint8)
    _, soft = paste(black, torch.zeros(500, dtype=torch.int64), generator())
    assert soft[:, 1].sum() == 0 and soft[:, 2].sum() > 0


def test_a_probability_beyond_one_is_refused():
    with pytest.raises(ValueError, match="probability is 2"):
        PasteRare(one_coloured(), probability=2, device=CPU)


def test_the_uniform_distribution_needs_no_scipy_and_is_the_same(monkeypatch):
    middles = (np.arange(4096) + 0.5) / 4096
    ours = Mixup(3).lambdas
    assert ours.equal(torch.from_numpy(stats.beta.ppf(middles, 1, 1)).float())
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    assert Mixup(3).lambdas.equal(ours)
    with pytest.raises(ImportError, match=r"needs scipy, which is not installed; run pip install"):
        Mixup(3, alpha=0.4)


@pytest.mark.parametrize("number", [-1, math.nan, math.inf])
def test_an_affine_change_has_finite_limits(number):
    with pytest.raises(ValueError, match=r"degrees is .*; give a finite number, 0 or more"):
        RandomAffine(number)
    with pytest.raises(ValueError, match=r"translate is .*; give a finite number, 0 or more"):
        RandomAffine(5, number)
    with pytest.raises(ValueError, match=r"alpha is .*; it must be above 0 and finite"):
        Mixup(3, number)


def test_an_image_of_one_pixel_is_not_pasted_over_all_of_another():
    dots = ImageSet(torch.zeros(2, 1, 1, 3).byte(), torch.tensor([0, 1]), ("a", "b"), "dots")
    paste = PasteRare(dots, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="images of 1 x 1 pixels for a batch of 8 x 8"):
        paste(torch.zeros(2, 3, 8, 8).byte(), torch.tensor([0, 1]), None)
