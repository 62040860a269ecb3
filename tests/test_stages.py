"""Two stages: the schedule and the optimizer run through, and frozen features stay frozen."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from imbalkit import weights
from imbalkit.data import Batches
from imbalkit.losses import WeightedCrossEntropy
from imbalkit.models import Classifier, resnet
from imbalkit.sampling import weighted_sampler
from imbalkit.stages import (
    FrozenFeatures,
    deferred,
    learn_class_scales,
    retrain_classifier,
    schedule_part,
    tau_normalized,
    weight_norms,
)
from imbalkit.training import constant, evaluate, fit, predict, sgd, warmup_cosine

CPU = torch.device("cpu")
WIDTH = 8


def two_halves():
    """A small net with all that could change in stage 2: weights, biases, BatchNorm, dropout."""
    torch.manual_seed(1)
    features = nn.Sequential(
        nn.Linear(4, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Dropout(0.2)
    )  # fmt: skip
    return Classifier(features, WIDTH, 3)


def long_tailed():
    """Vectors of 3 classes, 80, 20 and 10 of them, that overlap."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 80 + [1] * 20 + [2] * 10)
    centres = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    return centres[labels] + 0.7 * torch.randn(110, 4, generator=generator), labels


def shuffled(batch_size=22):
    return DataLoader(TensorDataset(*long_tailed()), batch_size=batch_size, shuffle=True)


def balanced(batch_size=22):
    vectors, labels = long_tailed()
    data = TensorDataset(vectors, labels)
    return DataLoader(data, batch_size=batch_size, sampler=weighted_sampler(labels))


def everything():
    return DataLoader(TensorDataset(*long_tailed()), batch_size=110)


def snapshot(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def changed(before, module):
    return {k for k, v in module.state_dict().items() if not v.equal(before[k])}


QUIET = {"show_progress": False}


# ---- deferred ----


def recorder(optimizer, log, loss=F.cross_entropy):
    """A loss that notes the learning rate, the momentum and the size of the batch of each step."""

    def loss_fn(logits, targets):
        group = optimizer.param_groups[0]
        log.append((group["lr"], group["momentum"], len(targets)))
        return loss(logits, targets)

    return loss_fn


@pytest.mark.parametrize("epochs, switch", [(2, 1), (4, 1), (5, 2), (7, 6)])
@pytest.mark.parametrize("schedule", [warmup_cosine, lambda progress: 1 - progress**2])
def test_the_learning_rate_runs_through_the_whole_schedule(epochs, switch, schedule):
    def run(train):
        model = two_halves()
        optimizer, log = sgd(model, lr=0.3), []
        train(model, recorder(optimizer, log), optimizer=optimizer, schedule=schedule, **QUIET)
        assert len(log) == 5 * epochs
        return [lr for lr, _, _ in log]

    once = run(lambda m, loss, **options: fit(m, shuffled(), epochs, loss_fn=loss, **options))
    parts = run(
        lambda m, loss, **options: deferred(
            m, shuffled(), shuffled(), epochs, switch, loss_fn=loss, late_loss_fn=loss, **options
        )
    )
    assert parts == pytest.approx(once, rel=1e-12)
    by_hand = [0.3 * schedule((step + 0.5) / len(once)) for step in range(len(once))]
    assert parts == pytest.approx(by_hand, rel=1e-12)


def test_the_schedule_follows_the_epochs_where_late_ones_have_other_lengths():
    model, log = two_halves(), []
    optimizer = sgd(model, lr=1.0)
    loss = recorder(optimizer, log)
    deferred(
        model, shuffled(), shuffled(55), 4, 2, loss_fn=loss, late_loss_fn=loss,
        optimizer=optimizer, schedule=lambda progress: progress, **QUIET,
    )  # fmt: skip
    early = [(step + 0.5) / 20 for step in range(10)]
    late = [0.5 + (step + 0.5) / 8 for step in range(4)]
    assert [lr for lr, _, _ in log] == pytest.approx(early + late, rel=1e-12)


@pytest.mark.parametrize("switch", [1, 2, 3])
def test_with_the_same_batches_and_loss_it_is_one_plain_fit_bit_for_bit(switch):
    plain, staged = two_halves(), two_halves()
    torch.manual_seed(2)
    whole = fit(plain, shuffled(), 4, **QUIET)
    torch.manual_seed(2)
    early, late = deferred(staged, shuffled(), shuffled(), 4, switch, **QUIET)
    assert not changed(plain.state_dict(), staged)
    assert early.train + late.train == whole.train
    assert torch.cat([early.shares, late.shares]).equal(whole.shares)
    assert (len(early.train), len(late.train)) == (switch, 4 - switch)


def test_the_momentum_is_carried_over_the_switch():
    """A late loss without a gradient: what still moves the weights is the momentum."""
    model = two_halves()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    at_switch, step = {}, iter(range(100))

    def late_loss(logits, targets):
        if next(step) == 0:
            at_switch.update(weight=model.classifier.weight.detach().clone())
            at_switch.update(buffer=optimizer.state[model.classifier.weight]["momentum_buffer"])
            at_switch.update(buffer=at_switch["buffer"].clone())
        return 0 * logits.sum()

    deferred(
        model, everything(), everything(), 3, 2, late_loss_fn=late_loss,
        optimizer=optimizer, schedule=constant, **QUIET,
    )  # fmt: skip
    assert at_switch["buffer"].abs().max() > 0
    expected = at_switch["weight"] - 0.1 * 0.5 * at_switch["buffer"]
    torch.testing.assert_close(model.classifier.weight.detach(), expected)


@pytest.mark.parametrize("switch", [1, 2, 4])
def test_the_late_loss_and_the_late_batches_are_used_from_the_switch_on(switch):
    log = []

    def named(name):
        def loss_fn(logits, targets):
            log.append((name, len(targets)))
            return F.cross_entropy(logits, targets)

        return loss_fn

    deferred(
        two_halves(), shuffled(22), shuffled(55), 5, switch,
        loss_fn=named("early"), late_loss_fn=named("late"), **QUIET,
    )  # fmt: skip
    assert log == [("early", 22)] * 5 * switch + [("late", 55)] * 2 * (5 - switch)


@pytest.mark.parametrize("late", ["loss", "batches"])
def test_each_deferred_option_lifts_the_rare_classes(late):
    """Deferred re-weighting and deferred re-sampling both act, each by itself."""
    batches, options = balanced(), {}
    if late == "loss":
        counts = torch.bincount(long_tailed()[1])
        batches = shuffled()
        options = {"late_loss_fn": WeightedCrossEntropy(weights.balanced(counts))}
    plain, staged = two_halves(), two_halves()
    fit(plain, shuffled(), 10, **QUIET)
    deferred(staged, shuffled(), batches, 10, 4, **options, **QUIET)
    before, after = (evaluate(m, everything(), CPU)["predicted_share"] for m in (plain, staged))
    assert after[0] < before[0] - 0.05 and after[1] + after[2] > before[1] + before[2] + 0.05


@pytest.mark.parametrize("switch", [0, 4, 5, -1])
def test_a_switch_outside_the_training_is_refused_before_it(switch):
    model = two_halves()
    before = snapshot(model)
    with pytest.raises(ValueError, match=f"switch is {switch}; it must lie between 1 and 3"):
        deferred(model, shuffled(), shuffled(), 4, switch)
    assert not changed(before, model)


def test_an_interrupted_first_part_is_not_followed_by_the_second():
    def interrupted(logits, targets):
        raise KeyboardInterrupt

    def never(logits, targets):
        raise AssertionError("the second part was started")

    early, late = deferred(
        two_halves(), shuffled(), shuffled(), 4, 2,
        loss_fn=interrupted, late_loss_fn=never, **QUIET,
    )  # fmt: skip
    assert early.stopped == "interrupted"
    assert late.train == [] and late.validation == []


def test_the_best_epoch_of_the_late_part_is_kept():
    model, snapshots, scores = two_halves(), [], iter([0.2, 0.9, 0.1])

    def monitor(confusion):
        snapshots.append(snapshot(model))
        return next(scores)

    early, late = deferred(
        model, shuffled(), shuffled(), 5, 2, val_batches=everything(), monitor=monitor, **QUIET
    )
    assert early.validation == [] and len(late.validation) == 3 and late.best_epoch == 2
    assert not changed(snapshots[1], model) and changed(snapshots[2], model)


def test_an_interrupted_second_part_keeps_its_best_epoch():
    model, snapshots = two_halves(), []

    def monitor(confusion):
        snapshots.append(snapshot(model))
        if len(snapshots) == 2:
            raise KeyboardInterrupt
        return 0.5

    early, late = deferred(
        model, shuffled(), shuffled(), 5, 2, val_batches=everything(), monitor=monitor, **QUIET
    )
    assert (early.stopped, late.stopped) == ("finished", "interrupted")
    assert not changed(snapshots[0], model)


def test_a_part_of_a_schedule():
    def line(progress):
        return 10 * progress

    assert schedule_part(line, 0, 1)(0.3) == pytest.approx(3)
    assert [schedule_part(line, 0.5, 1)(p) for p in (0, 0.5, 1)] == pytest.approx([5, 7.5, 10])
    assert [schedule_part(line, 0, 0.5)(p) for p in (0, 0.5, 1)] == pytest.approx([0, 2.5, 5])


# ---- stage 2 on frozen features ----

each_stage2 = pytest.mark.parametrize("stage2", [retrain_classifier, learn_class_scales])


def trained():
    """A model after stage 1, with the gradients that its last step left behind."""
    model = two_halves()
    fit(model, shuffled(), 6, **QUIET)
    return model


@each_stage2
@pytest.mark.parametrize("validated", [False, True])
def test_stage_2_leaves_the_features_bit_for_bit_unchanged(stage2, validated):
    model = trained()
    before, head = snapshot(model.features), snapshot(model.classifier)
    assert "1.num_batches_tracked" in before
    # At this learning rate weight decay alone would change each weight by a hundredth, and the
    # default optimizer has momentum.
    options = {"val_batches": everything(), "patience": 3} if validated else {}
    history = stage2(model, balanced(), 4, lr=20.0, **options, **QUIET)
    assert not changed(before, model.features)
    assert changed(head, model.classifier) == {"weight", "bias"}
    assert len(history.validation) == (len(history.train) if validated else 0)


@each_stage2
def test_stage_2_leaves_a_convolutional_net_bit_for_bit_unchanged(stage2, tiny_set):
    model = resnet(8, num_classes=3)
    options = {"mean": [0.5] * 3, "std": [0.25] * 3, "device": CPU}
    fit(model, Batches(tiny_set, 30, shuffle=True, **options), 1, **QUIET)
    before, images = snapshot(model.features), torch.randn(4, 3, 32, 32)
    expected = model.eval().features(images)
    sampler = weighted_sampler(tiny_set.labels)
    stage2(model, Batches(tiny_set, 30, sampler=sampler, **options), 2, **QUIET)
    assert not changed(before, model.features)
    assert model.eval().features(images).equal(expected)


@each_stage2
def test_stage_2_trains_the_head_towards_the_rare_classes(stage2):
    def figures(model):
        logits, labels = predict(model, everything(), CPU)
        each_class_alike = weights.balanced(torch.bincount(labels))
        head_share = (logits.argmax(1) == 0).float().mean()
        return float(F.cross_entropy(logits, labels, weight=each_class_alike)), float(head_share)

    model = trained()
    loss_before, head_before = figures(model)
    history = stage2(model, balanced(), 15, lr=0.1, **QUIET)
    loss, head = figures(model)
    assert loss < loss_before - 0.1 and head < head_before - 0.02
    assert len(history.train) == 15 and history.stopped == "finished"


@each_stage2
def test_what_could_learn_before_stage_2_can_learn_after_it(stage2):
    model = trained()
    model.features[0].bias.requires_grad_(False)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    stage2(model, balanced(), 1, **QUIET)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    before = snapshot(model)
    fit(model, shuffled(), 1, **QUIET)
    assert changed(before, model) == set(before) - {"features.0.bias"}, "BatchNorm moves again"


@each_stage2
def test_stage_2_gives_its_options_to_fit(stage2, tmp_path):
    asked, calls = [], []

    def schedule(progress):
        asked.append(progress)
        return 0.0

    def loss_fn(logits, targets):
        calls.append(logits.shape)
        return F.cross_entropy(logits, targets)

    model = trained()
    before = predict(model, everything(), CPU)[0]
    history = stage2(
        model, balanced(), 2, loss_fn=loss_fn, schedule=schedule, device=CPU,
        val_batches=everything(), monitor="worst_recall", checkpoint=tmp_path / "stage2.pt",
        **QUIET,
    )  # fmt: skip
    assert len(calls) == 10 and len(asked) >= 10 and (tmp_path / "stage2.pt").exists()
    assert history.best_score == max(r["worst_recall"] for r in history.validation)
    same = predict(model, everything(), CPU)[0].equal(before)
    assert same == (stage2 is learn_class_scales), "new weights, or factors of 1: untrained here"


@each_stage2
def test_the_learning_rate_of_stage_2_acts(stage2):
    moved = []
    for lr in (1e-4, 1e-1):
        model = trained()
        torch.manual_seed(3)
        losses = [record["loss"] for record in stage2(model, balanced(), 4, lr=lr, **QUIET).train]
        moved.append(losses[0] - losses[-1])
    assert moved[1] > moved[0]


def test_the_retrained_classifier_starts_anew():
    model = trained()
    old = model.classifier
    nn.init.constant_(old.weight, 1e3)  # no short training at this rate could lead away from it
    retrain_classifier(model, balanced(), 2, lr=1e-3, **QUIET)
    assert model.classifier.weight.abs().max() < 1
    assert model.classifier.weight.shape == old.weight.shape
    assert old.weight.eq(1e3).all(), "whoever kept the old one still has it"


def test_learned_scales_change_the_lengths_of_the_vectors_and_not_their_directions():
    model = trained()
    old = copy.deepcopy(model.classifier)
    images = torch.randn(50, 4)
    with torch.no_grad():
        features = model.eval().features(images)
    learn_class_scales(model, balanced(), 10, lr=0.01, **QUIET)
    new = model.classifier
    assert type(new) is nn.Linear
    scale = (new.bias / old.bias).detach()
    torch.testing.assert_close(new.weight, old.weight * scale[:, None])
    cosines = F.cosine_similarity(new.weight, old.weight).detach()
    torch.testing.assert_close(cosines, torch.ones(3))
    assert (weight_norms(new) / weight_norms(old) - 1).abs().max() > 0.05, "it learned something"
    torch.testing.assert_close(model(images), old(features) * scale)


def test_the_last_validation_record_is_that_of_the_folded_model():
    model = trained()
    history = learn_class_scales(
        model, balanced(), 5, lr=0.2, val_batches=everything(), **QUIET
    )  # fmt: skip
    kept = history.validation[history.best_epoch - 1]
    now = evaluate(model, everything(), CPU)
    assert now["loss"] == pytest.approx(kept["loss"], rel=0.01)  # bfloat16 where the CPU has it
    assert now["balanced_accuracy"] == pytest.approx(kept["balanced_accuracy"], abs=0.05)


@each_stage2
def test_an_interrupted_stage_2_leaves_a_usable_model(stage2):
    def interrupted(logits, targets):
        raise KeyboardInterrupt

    model = trained()
    before = snapshot(model.features)
    history = stage2(model, balanced(), 2, loss_fn=interrupted, **QUIET)
    assert history.stopped == "interrupted" and type(model.classifier) is nn.Linear
    assert model(torch.randn(5, 4)).shape == (5, 3)
    assert not changed(before, model.features)


# ---- frozen features ----


def test_frozen_features_do_not_learn_and_never_leave_evaluation_mode():
    features = two_halves().features
    vectors = torch.randn(30, 4)
    expected = copy.deepcopy(features).eval()(vectors).detach()
    before = snapshot(features)
    frozen = nn.Sequential(FrozenFeatures(features), nn.Linear(WIDTH, 3))
    assert frozen[0](vectors).equal(expected), "from the start: no dropout, running statistics"
    assert frozen.train()[0](vectors).equal(expected)
    frozen(vectors).sum().backward()
    assert all(p.grad is None for p in features.parameters())
    assert frozen[1].weight.grad is not None
    frozen.eval().train()
    frozen(vectors)
    assert not any(m.training for m in features.modules()) and not changed(before, features)


def test_trap_requires_grad_false_does_not_stop_batchnorm():
    trap, ours = trained(), trained()
    for model in (trap, ours):
        model.features.requires_grad_(False)
    before = snapshot(trap.features)
    optimizer = sgd(trap.classifier)
    fit(trap, balanced(), 1, optimizer=optimizer, **QUIET)
    drifted = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert changed(before, trap.features) == drifted
    vectors = torch.randn(20, 4)
    assert not trap.eval().features(vectors).equal(ours.eval().features(vectors))

    stage2 = nn.Sequential(FrozenFeatures(ours.features), ours.classifier)
    fit(stage2, balanced(), 1, optimizer=sgd(ours.classifier), **QUIET)
    assert not changed(before, ours.features)


# ---- tau-normalisation ----


def test_tau_0_keeps_the_weights_and_tau_1_makes_them_equally_long():
    classifier = nn.Linear(6, 4)
    before = snapshot(classifier)
    assert tau_normalized(classifier, 0).weight.equal(classifier.weight)
    one = tau_normalized(classifier)
    torch.testing.assert_close(weight_norms(one), torch.ones(4))
    torch.testing.assert_close(one.weight, F.normalize(classifier.weight))
    for result in (one, tau_normalized(classifier, 0)):
        assert result.bias.eq(0).all() and result.weight is not classifier.weight
    assert not changed(before, classifier)


@pytest.mark.parametrize("tau", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("bias", [False, True])
def test_between_0_and_1_the_lengths_shrink_together(tau, bias):
    classifier = nn.Linear(6, 4, bias=bias)
    with torch.no_grad():
        classifier.weight *= torch.tensor([10.0, 3, 1, 0.1])[:, None]
    result = tau_normalized(classifier, tau)
    torch.testing.assert_close(weight_norms(result), weight_norms(classifier) ** (1 - tau))
    cosines = F.cosine_similarity(result.weight, classifier.weight).detach()
    torch.testing.assert_close(cosines, torch.ones(4))
    assert (result.bias is None) == (not bias)


def test_weight_norms():
    classifier = nn.Linear(2, 3)
    classifier.weight.data = torch.tensor([[3.0, 4.0], [0.0, -2.0], [0.0, 0.0]])
    norms = weight_norms(classifier)
    assert norms.tolist() == [5, 2, 0] and not norms.requires_grad
