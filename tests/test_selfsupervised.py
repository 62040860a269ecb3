"""Pretraining without labels: what the views are, what the loss asks, and what is not learned."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.transforms.v2 import functional as tv

from imbalkit.augmentation import ColorJitter
from imbalkit.data import Batches, RandomFlip
from imbalkit.models import Classifier, plain_cnn, small_net
from imbalkit.multitask import rotate_quarters
from imbalkit.selfsupervised import (
    ContrastiveLoss,
    QuarterTurns,
    RandomGrayscale,
    RandomResizedCrop,
    WithProjection,
    nt_xent,
    start_from,
    two_views,
)
from imbalkit.training import fit, predict, sgd, train_step

CPU, META = torch.device("cpu"), torch.device("meta")
QUIET = {"device": CPU, "show_progress": False}
PLAIN = {"mean": [0, 0, 0], "std": [1 / 255] * 3, "device": CPU}  # gives back 0..255
VIEWS = [
    two_views,
    RandomResizedCrop(),
    RandomFlip(),
    ColorJitter(0.4, 0.4, 0.4),
    RandomGrayscale(),
]


def some_images(n=8, pixels=16):
    return torch.randint(0, 256, (n, 3, pixels, pixels), dtype=torch.uint8)


def labels(n=8):
    return torch.arange(n) % 3


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def backbone(pixels=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * pixels**2, 16), nn.ReLU())


AUGMENTATIONS = {
    "turns": QuarterTurns(),
    "two views": two_views,
    "crop": RandomResizedCrop(),
    "grey": RandomGrayscale(0.5),
}
each_augmentation = pytest.mark.parametrize("function", AUGMENTATIONS.values(), ids=AUGMENTATIONS)


# --- all augmentations


@each_augmentation
def test_bytes_stay_bytes_and_what_came_in_stays_as_it_is(function):
    images, targets = some_images(), labels()
    before = images.clone(), targets.clone()
    new_images, new_targets = function(images, targets, None)
    assert new_images.dtype == torch.uint8 and new_images.shape[1:] == images.shape[1:]
    assert new_targets.dtype == torch.int64 and len(new_targets) == len(new_images)
    assert images.equal(before[0]) and targets.equal(before[1])


@each_augmentation
def test_the_generator_alone_decides(function):
    images = some_images()
    first, _ = function(images, labels(), seeded(1))
    torch.rand(3)  # the global generator must not matter
    again, _ = function(images, labels(), seeded(1))
    assert first.equal(again)
    if function is not two_views:
        assert not first.equal(function(images, labels(), seeded(2))[0])


@each_augmentation
def test_it_runs_on_the_meta_device(function):
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8, device=META)
    result, targets = function(images, torch.zeros(4, dtype=torch.int64, device=META), None)
    assert result.device == targets.device == META


@each_augmentation
def test_a_view_of_the_layout_that_batches_use(function):
    """`Batches` gives channels_last views; the numbers must not depend on the layout."""
    images = some_images()
    last = images.contiguous(memory_format=torch.channels_last)
    first, second = (function(x, labels(), seeded(0))[0] for x in (images, last))
    assert (first.int() - second.int()).abs().max() <= 1


# --- rotation


def test_the_targets_are_the_turns_whatever_the_labels_were():
    images = some_images(200)
    result, turns = QuarterTurns()(images, labels(200), seeded(0))
    assert result.equal(rotate_quarters(images, turns))
    assert turns.unique().tolist() == [0, 1, 2, 3]
    _, others = QuarterTurns()(images, torch.full((200,), 7), seeded(0))
    assert others.equal(turns)


def test_rotation_is_learned_without_labels(tiny_set):
    """A bright corner tells the turn; the labels are all one class."""
    images = tiny_set.images.clone() // 8
    images[:, :10, :10] = 250
    corner = type(tiny_set)(images, tiny_set.labels, tiny_set.classes, "corner")
    batches = Batches(corner, 20, **PLAIN, shuffle=True, augment=[QuarterTurns()])
    model = plain_cnn(4, width=4, batchnorm=True)
    history = fit(model, batches, 15, **QUIET)
    assert history.train[0]["accuracy"] < 0.7 < 0.95 < history.train[-1]["accuracy"]


# --- views


def test_two_views_are_changed_independently():
    images, targets = two_views(some_images(), labels(), None)
    assert images[:8].equal(images[8:]) and targets[:8].equal(targets[8:])
    for function in VIEWS[1:]:
        changed, _ = function(images, targets, seeded(0))
        assert not changed[:8].equal(changed[8:])


def test_batches_hold_pairs(tiny_set):
    batches = Batches(tiny_set, 20, **PLAIN, shuffle=True, augment=[two_views])
    assert len(batches) == 3
    for images, targets in batches:
        assert images.shape[0] == targets.shape[0] == 40
        assert images[:20].equal(images[20:]) and targets[:20].equal(targets[20:])


def test_a_crop_magnifies_what_is_there():
    """On a slope the crop is a gentler slope, whose steepness is the side that was cut out."""
    slope = torch.arange(64, dtype=torch.uint8).expand(500, 3, 64, 64)
    rows = RandomResizedCrop(0.25)(slope, labels(500), seeded(0))[0][:, 0, 30].float()
    side = (rows[:, 60] - rows[:, 4]) / 56
    assert 0.45 < side.min() < 0.55 and 0.95 < side.max() <= 1.02
    assert (side**2).mean() == pytest.approx(0.625, abs=0.03)  # the mean share of the area
    assert rows.min() <= 1 and rows.max() >= 62  # squares at both borders
    assert (rows.diff() >= 0).all()


def test_a_crop_is_that_of_torchvision():
    images = some_images(1, 32).float()
    draws = torch.rand(1, generator=(g := seeded(3))), torch.rand(1, 2, generator=g)
    side = (0.25 + 0.75 * draws[0]).sqrt().item()
    x, y = ((2 * draws[1] - 1) * (1 - side)).flatten().tolist()
    # affine moves the image, so the other way round: zoom 1 / side about the square's centre.
    wanted = tv.affine(
        images, 0, [-x * 16 / side, -y * 16 / side], 1 / side, [0.0, 0.0],
        interpolation=tv.InterpolationMode.BILINEAR,
    )  # fmt: skip
    got, _ = RandomResizedCrop(0.25)(images, labels(1), seeded(3))
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # other borders
    torch.testing.assert_close(got[inside], wanted[inside], atol=1, rtol=0)


@pytest.mark.parametrize(("option", "least"), [(1.0, 0.99), (0.5, 0.69), (0.1, 0.3)])
def test_smallest_acts(option, least):
    slope = torch.arange(64, dtype=torch.uint8).expand(300, 3, 64, 64)
    rows = RandomResizedCrop(option)(slope, labels(300), seeded(0))[0][:, 0, 30].float()
    assert ((rows[:, 60] - rows[:, 4]) / 56).min() == pytest.approx(least, abs=0.05)
    if option == 1:
        assert rows.equal(slope[:, 0, 30].float())


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_the_probability_of_grey_acts(share):
    images = some_images(1000, 4)
    result, _ = RandomGrayscale(share)(images, labels(1000), seeded(0))
    is_grey = (result[:, :1] == result).flatten(1).all(1)
    assert is_grey.float().mean() == pytest.approx(share, abs=0.04)
    assert result[~is_grey].equal(images[~is_grey])


def test_grey_is_that_of_torchvision():
    images = some_images()
    got, _ = RandomGrayscale(1)(images, labels(), None)
    wanted = tv.rgb_to_grayscale(images, 3)
    assert (got.int() - wanted.int()).abs().max() <= 1


@pytest.mark.parametrize("value", [0, -0.1, 1.5, math.nan])
def test_a_share_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="share above 0"):
        RandomResizedCrop(value)


@pytest.mark.parametrize("value", [-0.1, 2, math.nan])
def test_a_probability_out_of_range_is_refused(value):
    with pytest.raises(ValueError, match="number from 0 to 1"):
        RandomGrayscale(value)


# --- the loss


def by_hand(projections, temperature):
    """Equation 1 of the paper, term by term."""
    n, total = len(projections), 0.0
    for i in range(n):
        cosine = [F.cosine_similarity(projections[i], z, dim=0) / temperature for z in projections]
        others = sum(cosine[k].exp() for k in range(n) if k != i)
        total -= (cosine[(i + n // 2) % n].exp() / others).log()
    return total / n


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_is_the_equation_of_the_paper(temperature):
    z = torch.randn(10, 6)
    torch.testing.assert_close(nt_xent(z, temperature), by_hand(z, temperature))


def test_nt_xent_of_equal_projections_is_a_guess():
    z = torch.ones(12, 5)
    assert nt_xent(z, 0.3).item() == pytest.approx(math.log(11), rel=1e-5)


def test_nt_xent_sees_directions_only():
    z = torch.randn(8, 5)
    lengths = torch.rand(8, 1) + 0.5
    torch.testing.assert_close(nt_xent(z), nt_xent(z * lengths))


def test_pairs_in_the_wrong_order_cost_more():
    one = F.normalize(torch.randn(16, 32))
    good = nt_xent(torch.cat([one, one]))
    neighbours = nt_xent(one.repeat_interleave(2, dim=0))  # views side by side
    assert good < neighbours - 0.5


def test_the_temperature_acts():
    """A small one looks at the most similar wrong image, a large one at all alike."""
    z = torch.randn(20, 8, requires_grad=True)
    assert nt_xent(z, 0.1) != nt_xent(z, 1.0)
    wrong = F.normalize(z.detach()) @ F.normalize(z.detach()).T
    wrong = wrong.masked_fill(torch.eye(20, dtype=torch.bool), -2)
    shares = [(wrong[0] / t).softmax(0).max() for t in (0.1, 1.0)]
    assert shares[0] > 2 * shares[1]
    logits = torch.zeros(20, 3)
    losses = [ContrastiveLoss(t)((logits, z), labels(20)) for t in (0.1, 1.0)]
    for loss, t in zip(losses, (0.1, 1.0), strict=True):
        torch.testing.assert_close(loss, nt_xent(z, t) + math.log(3))


def test_a_projection_without_partner_is_refused():
    with pytest.raises(ValueError, match="7 projections, an odd number"):
        nt_xent(torch.randn(7, 4))


@pytest.mark.parametrize("temperature", [0, -1, math.nan])
def test_a_temperature_of_zero_is_refused(temperature):
    with pytest.raises(ValueError, match="must be above 0"):
        ContrastiveLoss(temperature)


# --- the model


def test_training_gives_logits_and_projections_and_evaluation_the_logits():
    model, images = WithProjection(backbone(), 16, 7, size=5), torch.randn(6, 3, 8, 8)
    assert isinstance(model, Classifier)
    logits, projections = model.train()(images)
    assert logits.shape == (6, 7) and projections.shape == (6, 5)
    torch.testing.assert_close(model.eval()(images), logits)
    torch.testing.assert_close(logits, model.classifier(model.features(images)))


def test_labels_teach_the_probe_and_never_the_features():
    model, images = WithProjection(backbone(), 16, 3), torch.randn(8, 3, 8, 8)

    def gradients(targets):
        model.zero_grad()
        ContrastiveLoss()(model(images), targets).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    first, second = gradients(labels()), gradients(labels().flip(0))
    differs = {name.split(".")[0] for name in first if not first[name].equal(second[name])}
    assert differs == {"classifier"}
    assert all(g.any() for g in first.values())


def test_the_whole_training_ignores_the_labels(tiny_set):
    def features(labels):
        torch.manual_seed(0)
        net = plain_cnn(3, width=4)
        model = WithProjection(net.features, 16, 3)
        images = type(tiny_set)(tiny_set.images, labels, tiny_set.classes, "tiny")
        batches = Batches(images, 20, **PLAIN, shuffle=True, augment=VIEWS)
        fit(model, batches, 2, loss_fn=ContrastiveLoss(), **QUIET)
        return model.features.state_dict()

    one, other = features(tiny_set.labels), features(tiny_set.labels.flip(0))
    assert all(one[name].equal(other[name]) for name in one)


def test_contrastive_learning_finds_the_partner(tiny_set):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (60, 8, 8, 3), dtype=torch.uint8)
    images = images.repeat_interleave(4, 1).repeat_interleave(4, 2)  # patches of colour
    patches = type(tiny_set)(images, tiny_set.labels, tiny_set.classes, "patches")
    net = plain_cnn(3, width=8, batchnorm=True)
    model = WithProjection(net.features, 32, 3)
    augment = [two_views, RandomResizedCrop(0.7), ColorJitter(0.2, 0.2, 0.2)]
    batches = Batches(patches, 30, **PLAIN, shuffle=True, augment=augment)
    history = fit(model, batches, 12, loss_fn=ContrastiveLoss(0.2), **QUIET)
    assert history.train[-1]["loss"] < history.train[0]["loss"] - 1
    seen, _ = next(iter(batches))
    z = F.normalize(model.train()(seen)[1])
    nearest = (z @ z.T - 3 * torch.eye(60)).argmax(1)
    assert (nearest == torch.arange(60).roll(30)).float().mean() > 0.6


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_gives_the_same_training(tiny_set, seed):
    def weights():
        torch.manual_seed(seed)
        model = WithProjection(plain_cnn(3, width=4).features, 16, 3)
        batches = Batches(tiny_set, 20, **PLAIN, shuffle=True, augment=VIEWS)
        fit(model, batches, 1, loss_fn=ContrastiveLoss(), **QUIET)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert weights().equal(weights())


# --- on the meta device


@pytest.mark.parametrize("way", ["rotation", "contrastive"])
def test_a_step_runs_on_the_meta_device(tiny_set, way):
    net = small_net(4)
    if way == "rotation":
        model, loss_fn, augment = net, F.cross_entropy, [QuarterTurns()]
    else:
        model, loss_fn = WithProjection(net.features, 128, 3), ContrastiveLoss()
        augment = VIEWS
    model, options = model.to(META), {"mean": [0.5] * 3, "std": [0.25] * 3, "device": META}
    for images, targets in Batches(tiny_set, 20, **options, shuffle=True, augment=augment):
        loss, _, _ = train_step(model, loss_fn, sgd(model), images, targets, META)
        assert loss.device == META
    assert all(p.grad.device == META for p in model.parameters())


# --- the start of a classifier


@pytest.mark.parametrize("kind", ["rotation", "contrastive"])
def test_start_from_copies_the_features_and_makes_a_new_last_layer(kind):
    net = small_net(4, width=8)
    pretrained = net if kind == "rotation" else WithProjection(net.features, 32, 4)
    model = start_from(pretrained, 10)
    assert type(model) is Classifier and model.classifier.out_features == 10
    mine, theirs = model.features.state_dict(), pretrained.features.state_dict()
    assert all(mine[name].equal(theirs[name]) for name in theirs)


def test_training_the_copy_leaves_the_pretrained_net_alone(tiny_set):
    pretrained = small_net(4, width=4)
    before = {k: v.clone() for k, v in pretrained.state_dict().items()}
    model = start_from(pretrained, 3)
    fit(model, Batches(tiny_set, 20, **PLAIN, shuffle=True), 1, **QUIET)
    after = pretrained.state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    assert not model.features[0].weight.equal(pretrained.features[0].weight)


def test_the_new_last_layer_follows_the_seed():
    pretrained = small_net(4, width=4)
    torch.manual_seed(1)
    first = start_from(pretrained, 3)
    torch.manual_seed(1)
    assert first.classifier.weight.equal(start_from(pretrained, 3).classifier.weight)
    assert not first.classifier.weight.equal(start_from(pretrained, 3).classifier.weight)


def test_predict_takes_a_contrastive_model(tiny_set):
    model = WithProjection(plain_cnn(3, width=4).features, 16, 3)
    logits, targets = predict(model, Batches(tiny_set, 20, **PLAIN), CPU)
    assert logits.shape == (60, 3) and targets.equal(tiny_set.labels)
