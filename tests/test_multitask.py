"""Two tasks on shared features: what goes to the loss, what comes out, and what is learned."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imbalkit.data import Batches
from imbalkit.models import Classifier, small_net
from imbalkit.multitask import (
    DifficultyLoss,
    RotationLoss,
    WithDifficulty,
    WithRotation,
    difficulty_target,
    rate_difficulty,
    rotate_quarters,
)
from imbalkit.training import constant, fit, predict, sgd, train_step

CPU, META = torch.device("cpu"), torch.device("meta")
QUIET = {"device": CPU, "show_progress": False}

LOSS = {WithDifficulty: DifficultyLoss(), WithRotation: RotationLoss()}
each_model = pytest.mark.parametrize("model_class", [WithDifficulty, WithRotation])
seeds = st.integers(0, 2**32 - 1)


def plain_backbone(pixels=8):
    """Any module that turns images into vectors; nothing of `imbalkit.models` in it."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * pixels**2, 16), nn.ReLU())


def some_images(n=6, pixels=8):
    return torch.randn(n, 3, pixels, pixels)


# ---- both models ----


@each_model
@pytest.mark.parametrize("backbone", ["plain", "small_net"])
def test_training_gives_a_tuple_and_evaluation_the_logits(model_class, backbone):
    if backbone == "plain":
        model, images = model_class(plain_backbone(), 16, 7), some_images()
    else:
        model, images = model_class(small_net().features, 128, 7), some_images(pixels=32)
    assert isinstance(model, Classifier)
    outputs = model.train()(images)
    assert isinstance(outputs, tuple) and outputs[0].shape == (6, 7)
    logits = model.eval()(images)
    assert isinstance(logits, torch.Tensor) and logits.shape == (6, 7)
    assert logits.equal(model.classifier(model.features(images)))


@each_model
def test_the_logits_of_training_are_those_of_evaluation(model_class):
    """For a backbone without BatchNorm or dropout: the first task sees the images upright."""
    model, images = model_class(plain_backbone(), 16, 4), some_images()
    torch.testing.assert_close(model.train()(images)[0], model.eval()(images))


@each_model
def test_both_tasks_teach_the_backbone_and_each_its_own_head(model_class):
    model = model_class(plain_backbone(), 16, 4)
    targets = torch.tensor([0, 1, 2, 3, 0, 0])
    second_head = model.difficulty if model_class is WithDifficulty else model.rotation

    def taught(loss):
        model.zero_grad()
        loss.backward()
        parts = {"features": model.features, "first": model.classifier, "second": second_head}
        gradients = {k: [p.grad for p in v.parameters()] for k, v in parts.items()}
        return {k for k, v in gradients.items() if any(g is not None and g.any() for g in v)}

    outputs = model(some_images())
    assert taught(LOSS[model_class](outputs, targets)) == {"features", "first", "second"}
    assert taught(F.cross_entropy(model(some_images())[0], targets)) == {"features", "first"}
    assert taught(model(some_images())[1].square().sum()) == {"features", "second"}


@each_model
def test_a_training_step_runs_on_the_meta_device(model_class):
    """No tensor is made elsewhere and no number is looked at, so none would be on a GPU."""
    model = model_class(small_net(3).features, 128, 3).to(META)
    images = torch.empty(4, 3, 32, 32, device=META)
    targets = torch.empty(4, dtype=torch.int64, device=META)
    hard_first = [DifficultyLoss(hard_first=True)] if model_class is WithDifficulty else []
    for loss_fn in (LOSS[model_class], *hard_first):
        loss, logits, _ = train_step(model, loss_fn, sgd(model), images, targets, META)
        assert loss.device == META and logits.shape == (4, 3)


@each_model
def test_fit_trains_and_predict_gives_logits(model_class, tiny_set):
    options = {"mean": [0.5] * 3, "std": [0.25] * 3, "device": CPU}
    model = model_class(plain_backbone(32), 16, 3)
    batches = Batches(tiny_set, 20, shuffle=True, **options)
    fixed = Batches(tiny_set, 60, **options)
    training = {"loss_fn": LOSS[model_class], "optimizer": sgd(model, lr=0.01)}
    history = fit(model, batches, 40, val_batches=fixed, **training, **QUIET)
    logits, labels = predict(model, fixed, CPU)
    assert logits.shape == (60, 3) and logits.dtype == torch.float32
    assert labels.equal(tiny_set.labels) and (logits.argmax(1) == labels).float().mean() > 0.9
    assert history.shares.shape == (120, 3)
    assert history.train[-1]["loss"] < history.train[0]["loss"]


# ---- difficulty ----


@given(st.lists(st.floats(0, 100, width=32), min_size=2, max_size=40))
@settings(deadline=None)
def test_the_target_has_mean_0_and_deviation_1(values):
    losses = torch.tensor(values)
    target = difficulty_target(losses)
    assert target.isfinite().all()
    if losses.std(correction=0) < 0.01:
        return
    assert target.mean().item() == pytest.approx(0, abs=1e-3)
    assert target.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    # It only shifts and scales: the harder image keeps the higher target.
    order = losses.argsort(stable=True)
    assert (target[order].diff() >= 0).all()
    torch.testing.assert_close(
        target * losses.std(correction=0) + losses.mean(), losses, atol=1e-2, rtol=1e-3
    )


def test_the_target_by_hand():
    target = difficulty_target(torch.tensor([1.0, 2, 3]))
    torch.testing.assert_close(target, torch.tensor([-1.5, 0, 1.5]) * (2 / 3) ** 0.5)


@pytest.mark.parametrize("losses", [[0.7], [0.0], [100.1], [2.0, 2, 2], [0.0, 0, 0, 0]])
def test_one_loss_or_equal_losses_are_neither_hard_nor_easy(losses):
    assert difficulty_target(torch.tensor(losses)).eq(0).all()


def test_the_target_has_no_gradient():
    losses = torch.tensor([1.0, 2, 3], requires_grad=True)
    assert not difficulty_target(losses).requires_grad
    # Through DifficultyLoss: the second task must not teach the classifier to be predictable.
    model, images = WithDifficulty(plain_backbone(), 16, 3), some_images(3)
    logits, predicted = model(images)
    loss, targets = DifficultyLoss(share=5.0), torch.tensor([0, 1, 2])
    with_task = torch.autograd.grad(
        loss((logits, predicted), targets), model.classifier.weight, retain_graph=True
    )[0]
    alone = torch.autograd.grad(F.cross_entropy(logits, targets), model.classifier.weight)[0]
    torch.testing.assert_close(with_task, alone)


def case(seed, n=8, classes=4):
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(n, classes, generator=generator)).requires_grad_()
    predicted = (2 * torch.randn(n, generator=generator)).requires_grad_()
    return logits, predicted, torch.randint(classes, (n,), generator=generator)


@given(seeds)
@settings(deadline=None)
def test_without_a_share_it_is_cross_entropy(seed):
    logits, predicted, targets = case(seed)
    loss, oracle = DifficultyLoss(share=0)((logits, predicted), targets), F.cross_entropy
    torch.testing.assert_close(loss, oracle(logits, targets))
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(oracle(logits, targets), logits)
    torch.testing.assert_close(gradient, expected)
    assert not torch.autograd.grad(loss, predicted)[0].any()


@given(seeds, st.floats(0, 3))
@settings(deadline=None)
def test_the_share_weighs_the_huber_error_to_the_target(seed, share):
    logits, predicted, targets = case(seed)
    losses = F.cross_entropy(logits, targets, reduction="none").detach()
    error = (predicted - (losses - losses.mean()) / losses.std(correction=0)).abs()
    huber = torch.where(error < 1, error**2 / 2, error - 0.5).mean()
    loss = DifficultyLoss(share)((logits, predicted), targets)
    torch.testing.assert_close(loss, losses.mean() + share * huber, atol=1e-4, rtol=1e-4)


@given(seeds)
@settings(deadline=None)
def test_hard_first_weighs_each_image_by_its_rating(seed):
    logits, predicted, targets = case(seed)
    loss = DifficultyLoss(share=0, hard_first=True)((logits, predicted), targets)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (plain,) = torch.autograd.grad(F.cross_entropy(logits, targets), logits)
    weights = gradient.norm(dim=1) / plain.norm(dim=1)
    assert weights.mean().item() == pytest.approx(1, abs=1e-4)
    assert (weights[predicted.argsort()].diff() >= -1e-4).all(), "hard counts more than easy"
    assert 1 <= weights.max() / weights.min() < 2
    rated = 1 + predicted.detach().sigmoid()
    torch.testing.assert_close(weights, rated / rated.mean(), atol=1e-3, rtol=1e-3)
    # The rating is a weight here, not something to learn: it gets no gradient.
    assert not torch.autograd.grad(loss, predicted)[0].any()


def test_hard_first_acts_and_equal_ratings_do_not():
    logits, predicted, targets = case(0)
    hard_first = DifficultyLoss(hard_first=True)
    plain = DifficultyLoss()((logits, predicted), targets)
    assert not torch.isclose(hard_first((logits, predicted), targets), plain)
    same = torch.full_like(predicted, 3.0)
    torch.testing.assert_close(
        hard_first((logits, same), targets), DifficultyLoss()((logits, same), targets)
    )


@pytest.mark.parametrize("hard_first", [False, True])
def test_a_batch_of_one(hard_first):
    model = WithDifficulty(plain_backbone(), 16, 3)
    logits, predicted = model(some_images(1))
    assert predicted.shape == (1,)
    loss = DifficultyLoss(hard_first=hard_first)((logits, predicted), torch.tensor([2]))
    expected = F.cross_entropy(logits, torch.tensor([2]))
    expected = expected + 0.5 * F.smooth_l1_loss(predicted, torch.zeros(1))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_soft_targets_will_do():
    logits, predicted, targets = case(0)
    soft = F.one_hot(targets, 4).float()
    loss = DifficultyLoss()
    torch.testing.assert_close(loss((logits, predicted), soft), loss((logits, predicted), targets))


def easy_and_hard():
    """Vectors whose first entries tell the class, but for half of them, whose labels are drawn.

    The last entry says which half: what a head can learn to rate.
    """
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (240,), generator=generator)
    vectors = torch.cat([3 * F.one_hot(labels, 3).float(), torch.zeros(240, 1)], 1)
    hard = torch.arange(240) % 2 == 1
    vectors[hard] = torch.tensor([1.0, 1, 1, 1])
    vectors += 0.2 * torch.randn(240, 4, generator=generator)
    return vectors, labels, hard


@pytest.mark.parametrize("hard_first", [False, True])
def test_the_head_learns_to_rank_the_images(hard_first):
    vectors, labels, hard = easy_and_hard()
    model = WithDifficulty(nn.Sequential(nn.Linear(4, 16), nn.ReLU()), 16, 3)
    batches = list(zip(vectors.split(120), labels.split(120), strict=True))
    loss = DifficultyLoss(hard_first=hard_first)
    fit(model, batches, 60, loss_fn=loss, optimizer=sgd(model, lr=0.1), **QUIET)
    rating, rated_labels = rate_difficulty(model, [(vectors, labels)], CPU)
    assert rating.shape == (240,) and rating.dtype == torch.float32
    assert rated_labels.equal(labels)
    above = (rating[hard][:, None] > rating[~hard]).float().mean()
    assert above > 0.95, "the chance that a hard image is rated above an easy one"


def test_ratings_come_from_the_model_as_it_evaluates():
    features = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Dropout())
    model, images = WithDifficulty(features, 16, 3), some_images(10)
    model(images)
    batches = [(images[:7], torch.zeros(7).long()), (images[7:], torch.ones(3).long())]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    rating, labels = rate_difficulty(model, batches, CPU)
    assert all(v.equal(before[k]) for k, v in model.state_dict().items())
    assert labels.tolist() == [0] * 7 + [1] * 3
    model.eval()
    expected = model.difficulty(model.features(images)).detach()
    torch.testing.assert_close(rating, expected, atol=0.03, rtol=0.03)  # bfloat16


# ---- rotation ----


@given(st.integers(1, 12), seeds)
@settings(deadline=None)
def test_turned_is_rot90_of_each_image(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 3, 5, 5, generator=generator)
    turns = torch.randint(4, (n,), generator=generator)
    before = images.clone()
    pairs = zip(images, turns.tolist(), strict=True)
    expected = torch.stack([torch.rot90(image, k, (1, 2)) for image, k in pairs])
    assert rotate_quarters(images, turns).equal(expected)
    assert images.equal(before), "the images themselves stay upright"
    fast = images.to(memory_format=torch.channels_last)
    assert rotate_quarters(fast, turns).equal(expected)


def test_the_second_pass_shows_the_turned_images_and_says_how_they_were_turned():
    model, images = WithRotation(plain_backbone(), 16, 4), some_images(40)
    _, rotation_logits, turns = model(images)
    assert rotation_logits.shape == (40, 4)
    assert turns.shape == (40,) and turns.dtype == torch.int64
    assert set(turns.tolist()) == {0, 1, 2, 3}
    expected = model.rotation(model.features(rotate_quarters(images, turns)))
    torch.testing.assert_close(rotation_logits, expected)
    assert not model(images)[2].equal(turns), "drawn anew each time"


def test_the_four_turns_are_equally_likely_and_follow_the_seed():
    model, images = WithRotation(plain_backbone(1), 16, 4), some_images(8000, 1)
    counts = torch.bincount(model(images)[2], minlength=4)
    # 6 standard deviations of a binomial count: 2 in a thousand million.
    assert (counts - 2000).abs().max() < 6 * (8000 * 0.25 * 0.75) ** 0.5
    torch.manual_seed(4)
    first = model(images)[2]
    torch.manual_seed(4)
    assert model(images)[2].equal(first)


def test_evaluating_draws_no_turns():
    model = WithRotation(plain_backbone(), 16, 4).eval()
    before = torch.get_rng_state()
    model(torch.zeros(2, 3, 8, 8))
    assert torch.get_rng_state().equal(before)


@given(seeds, st.floats(0, 3))
@settings(deadline=None)
def test_the_rotation_loss_is_two_cross_entropies(seed, share):
    logits, _, targets = case(seed)
    rotation_logits, _, turns = case(seed + 1)
    loss = RotationLoss(share)((logits, rotation_logits, turns), targets)
    second = F.cross_entropy(rotation_logits, turns)
    torch.testing.assert_close(loss, F.cross_entropy(logits, targets) + share * second)
    alone = RotationLoss(share=0)((logits, rotation_logits, turns), targets)
    torch.testing.assert_close(alone, F.cross_entropy(logits, targets))
    assert not torch.autograd.grad(alone, rotation_logits)[0].any()


def test_the_rotation_head_learns_which_side_is_up():
    labels = torch.arange(64) % 2
    images = 0.3 * some_images(64)
    images[:, :, :2] += 1.0  # light comes from above
    images[labels == 1, 0] += 1.0
    images -= images.mean((0, 2, 3), keepdim=True)
    model = WithRotation(plain_backbone(), 16, 2)
    options = {"loss_fn": RotationLoss(), "optimizer": sgd(model, lr=0.03), "schedule": constant}
    fit(model, [(images, labels)], 40, **options, **QUIET)
    _, rotation_logits, turns = model.train()(images)
    assert (rotation_logits.argmax(1) == turns).float().mean() > 0.95
    assert (predict(model, [(images, labels)], CPU)[0].argmax(1) == labels).all()


@pytest.mark.parametrize("mode", [True, False])
def test_rating_leaves_the_mode_as_it_was(mode):
    model = WithDifficulty(plain_backbone(), 16, 3).train(mode)
    rate_difficulty(model, [(some_images(), torch.zeros(6).long())], CPU)
    assert all(part.training == mode for part in model.modules())


def test_images_that_are_not_square_are_not_turned():
    with pytest.raises(ValueError, match="give square images"):
        rotate_quarters(torch.rand(2, 3, 1, 8), torch.tensor([0, 1]))
