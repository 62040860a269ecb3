"""The collapse doctor names what was broken, names it only there, and leaves no trace."""

import copy
import json
import math
import random
import re
import sys
import time
from functools import cache, partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from imbalkit import diagnose
from imbalkit.doctor.assignment import best_assignment
from imbalkit.doctor.causes import CAUSES
from imbalkit.doctor.checks import answers
from imbalkit.doctor.examination import gather, label_dependence
from imbalkit.doctor.outputs import double_softmax_floor, examine_loss, last_operation
from imbalkit.doctor.reading import Clock, read
from imbalkit.doctor.tasks import Task
from imbalkit.losses import FocalLoss, LDAMLoss, LogitAdjustedLoss
from imbalkit.models import CosineClassifier
from imbalkit.multitask import DifficultyLoss, WithDifficulty
from imbalkit.sampling import weighted_sampler

ROOT = Path(__file__).parent.parent
Adam, SGD = torch.optim.Adam, partial(torch.optim.SGD, momentum=0.9)


# ---- small data and small trainings ----


def points(counts=(86, 85, 85), noise=0.6, seed=0):
    """Vectors (N, 8) of standard size whose classes lie apart, in random order."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    x = noise * torch.randn(len(y), 8, generator=generator)
    x[:, : len(counts)] += 2.5 * F.one_hot(y, len(counts))
    order = torch.randperm(len(y), generator=generator)
    return ((x - x.mean()) / x.std())[order], y[order]


X, Y = points()
ONE_HOT = F.one_hot(Y, 3).float()
IS_ONE = (Y == 1).float()


def batches(x=X, y=Y, size=32):
    return list(zip(x.split(size), y.split(size), strict=True))


def mlp(outputs=3, *last):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, outputs), *last)


def train(model, data=None, loss_fn=F.cross_entropy, optimizer=None, steps=60):
    """Train and return the optimizer."""
    data = data or batches()
    optimizer = optimizer or SGD(model.parameters(), lr=0.1)
    model.train()
    for step in range(steps):
        inputs, targets = data[step % len(data)]
        loss = loss_fn(model(inputs), targets).mean()
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
    return optimizer


@cache
def _trained():
    model = mlp()
    return model, train(model)


def trained():
    """A healthy model and its optimizer, new ones at each call."""
    return copy.deepcopy(_trained())


def examined(model, data=None, loss_fn=F.cross_entropy, **options):
    """Train for a moment and diagnose, without optimizer and so without trial trainings."""
    train(model, data, loss_fn, steps=options.pop("steps", 60))
    return diagnose(model, data or batches(), loss_fn=loss_fn, **options)


def names(diagnosis):
    return [finding.cause for finding in diagnosis.findings]


class Lambda(nn.Module):
    """A network and a function behind it."""

    def __init__(self, function, network=None):
        super().__init__()
        self.network, self.function = network or mlp(), function

    def forward(self, x):
        return self.function(self.network(x))


# ---- every cause, and its healthy twin ----


def healthy(**options):
    model, optimizer = trained()
    return diagnose(model, batches(), optimizer=optimizer, **options)


def with_counts(counts, weight=None, noise=0.6):
    data = batches(*points(counts, noise))
    loss_fn = nn.CrossEntropyLoss(weight=None if weight is None else torch.tensor(weight))
    return examined(mlp(len(counts)), data, loss_fn)


def with_inputs(function):
    model = mlp()
    data = batches(function(X))
    return diagnose(model, data, optimizer=train(model, data))


def with_rate(lr, weight_decay=0.0, steps=60):
    model = mlp()
    optimizer = SGD(model.parameters(), lr=lr, weight_decay=weight_decay)
    return diagnose(model, batches(), optimizer=train(model, optimizer=optimizer, steps=steps))


def with_normalised(spoil):
    torch.manual_seed(0)
    layers = nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)
    model = nn.Sequential(*layers)
    optimizer = train(model)
    spoil(model[1])
    return diagnose(model, batches(), optimizer=optimizer)


def with_layers(spoil):
    model = mlp()
    with torch.no_grad():
        spoil(model)
    return examined(model)


def with_clipping(longest):
    """Gradients are cut to this length before each step."""
    model = mlp()
    optimizer = SGD(model.parameters(), lr=0.1)
    for step in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(X[step : step + 32]), Y[step : step + 32]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), longest)
        optimizer.step()
    return diagnose(model, batches(), optimizer=optimizer)


def with_gradients(times):
    """Gradients of so many batches added up on a model that no optimizer moves."""
    model = mlp()
    for _ in range(times):
        F.cross_entropy(model(X[:32]), Y[:32]).backward()
    return diagnose(model, batches())


def without_step(step):
    model = mlp()
    optimizer = Adam(model.parameters(), lr=0.01)
    for inputs, targets in batches():
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        if step:
            optimizer.step()
    return diagnose(model, batches(), optimizer=optimizer)


def with_optimizer_of(other):
    model = mlp()
    optimizer = SGD((mlp() if other else model).parameters(), lr=0.1)
    for _ in range(3):
        for inputs, targets in batches():
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return diagnose(model, batches(), optimizer=optimizer)


def deep(activation):
    torch.manual_seed(0)
    layers = [layer for _ in range(8) for layer in (nn.Linear(32, 32), activation())]
    return nn.Sequential(nn.Linear(8, 32), *layers, nn.Linear(32, 3))


def frozen(freeze):
    model = mlp()
    model.requires_grad_(not freeze)
    return examined(model)


def by_heart(labels):
    """64 training vectors learned by heart, judged on others."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(3, (256,), generator=generator) if labels == "random" else Y
    model = mlp()
    data = batches(X[:64], y[:64])
    optimizer = train(model, data, optimizer=Adam(model.parameters(), 0.02), steps=300)
    return diagnose(model, data, optimizer=optimizer, eval_batches=batches(X[64:], y[64:]))


ORDER = Y.argsort()
NAN = torch.where(torch.arange(256)[:, None] == 7, math.nan, X)
SHUFFLED = Y[torch.randperm(256, generator=torch.Generator().manual_seed(3))]


def fill(model):
    for parameter in model.parameters():
        parameter.fill_(0.05)


def with_labels(targets):
    """Trained on these labels, judged by the true ones."""
    model = mlp()
    train(model, batches(X, targets))
    return diagnose(model, batches())


def with_new_head(new):
    model = nn.Sequential(*mlp(100), nn.ReLU(), nn.Linear(100, 3))
    optimizer = train(model, optimizer=Adam(model.parameters(), 0.02), steps=200)
    if new:
        model[4] = nn.Linear(100, 3)
    return diagnose(model, batches(), optimizer=None if new else optimizer)


def with_dropout(p):
    torch.manual_seed(0)
    layers = nn.Linear(8, 32), nn.ReLU(), nn.Dropout(p), nn.Linear(32, 3)
    return examined(nn.Sequential(*layers))


EITHER = ((X[:, 3] > X[:, 3].median()) ^ (X[:, 4] > X[:, 4].median())).long()  # no line parts them


def with_between(*between):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), *between, nn.Linear(64, 2))
    return examined(model, batches(X, EITHER), steps=800)


TAGS = torch.stack([X[:, 0] > 0.5, X[:, 1] > 1, X[:, 3] > 0.3], 1).float()


def one_at_a_time(reduction):
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([0.3, 0.9, 1.8]), reduction=reduction)
    data = [(x[None], y[None]) for x, y in zip(*points((160, 64, 32), 3.0), strict=True)]
    return examined(mlp(), data, weighted, steps=1)


CASES = {
    "non_finite": (lambda: diagnose(trained()[0], batches(NAN)), healthy),
    "label_range": (lambda: diagnose(trained()[0], batches(X, Y + 1)), healthy),
    "duplicate_inputs": (lambda: with_inputs(lambda x: x[:1].expand_as(x)), healthy),
    "ignored_class": (
        lambda: examined(mlp(), loss_fn=nn.CrossEntropyLoss(ignore_index=0)),
        lambda: examined(mlp(), loss_fn=nn.CrossEntropyLoss(ignore_index=-1)),
    ),
    "dropout_too_high": (lambda: with_dropout(0.95), lambda: with_dropout(0.5)),
    "dropout_in_evaluation": (
        lambda: examined(Lambda(lambda out: F.dropout(out, 0.7))),
        lambda: with_dropout(0.5),
    ),
    "images_mixed": (
        lambda: examined(Lambda(lambda out: out.T.reshape(-1, 3))),
        lambda: examined(Lambda(lambda out: out.reshape(-1, 3))),
    ),
    "weights_too_strong": (
        lambda: with_counts((160, 64, 32), (0.01, 1.0, 10.0), noise=3.0),
        lambda: with_counts((160, 64, 32), (0.53, 1.33, 2.67), noise=3.0),
    ),
    "no_nonlinearity": (lambda: with_between(), lambda: with_between(nn.ReLU())),
    "softmax_on_multilabel": (
        lambda: examined(mlp(), batches(X, TAGS)),
        lambda: examined(mlp(), batches(X, TAGS), nn.BCEWithLogitsLoss(), steps=200),
    ),
    "double_softmax": (lambda: examined(mlp(3, nn.Softmax(1))), healthy),
    "broadcast_loss": (
        lambda: examined(mlp(1), batches(X, IS_ONE), lambda out, y: (out - y).square().mean()),
        lambda: examined(mlp(1), batches(X, IS_ONE[:, None]), nn.MSELoss(), steps=300),
    ),
    "missing_log_softmax": (
        lambda: diagnose(mlp(), batches(), loss_fn=F.nll_loss),
        lambda: examined(mlp(3, nn.LogSoftmax(1)), loss_fn=F.nll_loss),
    ),
    "activation_on_logits": (lambda: examined(mlp(3, nn.ReLU())), healthy),
    "input_range": (lambda: with_inputs(lambda x: 1e4 * x), healthy),
    "train_eval_mismatch": (
        lambda: healthy(eval_batches=batches(5 * X + 3)),
        lambda: healthy(eval_batches=batches(*points(seed=1))),
    ),
    "unshuffled_batches": (
        lambda: diagnose(trained()[0], batches(X[ORDER], Y[ORDER])),
        healthy,
    ),
    "frozen_parameters": (lambda: frozen(True), lambda: frozen(False)),
    "not_in_optimizer": (lambda: with_optimizer_of(True), lambda: with_optimizer_of(False)),
    "no_optimizer_step": (lambda: without_step(False), lambda: without_step(True)),
    "gradients_not_cleared": (lambda: with_gradients(50), lambda: with_gradients(1)),
    "gradients_clipped": (lambda: with_clipping(1e-5), lambda: with_clipping(1.0)),
    "inverted_class_weights": (
        lambda: with_counts((160, 64, 32), [1.6, 0.6, 0.3]),
        lambda: with_counts((160, 64, 32), [0.3, 0.6, 1.6]),
    ),
    "weights_cancelled": (lambda: one_at_a_time("mean"), lambda: one_at_a_time("sum")),
    "compensated_twice": (
        lambda: with_counts((86, 85, 85), [0.1, 1.0, 5.0]),
        lambda: with_counts((86, 85, 85), [1.0, 1.0, 1.0]),
    ),
    "batchnorm_statistics": (
        lambda: with_normalised(lambda layer: layer.running_mean.fill_(100)),
        lambda: with_normalised(lambda layer: None),
    ),
    "learning_rate_too_high": (lambda: with_rate(300.0), lambda: with_rate(0.1)),
    "learning_rate_too_low": (lambda: with_rate(2e-5), lambda: with_rate(0.1)),
    "identical_units": (
        lambda: with_layers(fill),
        lambda: with_layers(lambda model: None),
    ),
    "dead_units": (
        lambda: with_layers(lambda model: model[0].bias.fill_(-100)),
        lambda: with_layers(lambda model: None),
    ),
    "zero_gradient": (
        lambda: examined(mlp(), loss_fn=lambda out, y: 0 * F.cross_entropy(out, y)),
        healthy,
    ),
    "weights_not_loaded": (lambda: with_new_head(True), lambda: with_new_head(False)),
    "vanishing_gradients": (
        lambda: examined(deep(nn.Sigmoid), steps=20),
        lambda: examined(deep(nn.ReLU), steps=20),
    ),
    "weight_decay_too_high": (
        lambda: with_rate(0.05, weight_decay=5.0, steps=200),
        lambda: with_rate(0.05, weight_decay=5e-4),
    ),
    "labels_out_of_step": (
        lambda: diagnose(mlp(), batches(X, SHUFFLED)),
        lambda: diagnose(mlp(), batches()),
    ),
    "class_imbalance": (
        lambda: with_counts((240, 12), noise=4.0),
        lambda: with_counts((128, 124), noise=4.0),
    ),
    "undertrained": (lambda: with_rate(0.01, steps=1), healthy),
    "not_learning": (lambda: with_labels((Y + 1) % 3), lambda: with_labels(Y)),
    "overfitting": (lambda: by_heart("random"), lambda: by_heart("true")),
    "constant_output": (
        lambda: diagnose(Lambda(lambda out: 0 * out + out.mean()), batches()),
        healthy,
    ),
}
# Of these the training notices nothing yet, or they are for information.
NOT_FIRST = {"dropout_too_high", "overfitting", "train_eval_mismatch", "class_imbalance"}


def test_every_cause_has_a_case_here():
    assert set(CASES) == set(CAUSES)


@pytest.mark.parametrize("cause", CASES)
def test_a_cause_is_named_where_it_is_and_only_there(cause):
    broken, twin = (make() for make in CASES[cause])
    if cause in NOT_FIRST:
        assert cause in names(broken), broken
    else:
        assert names(broken)[0] == cause, broken
    assert cause not in names(twin), twin


def test_a_healthy_model_has_no_findings():
    diagnosis = healthy(eval_batches=batches(*points(seed=1)))
    assert diagnosis.healthy and diagnosis.findings == [] and diagnosis.learned > 0.9
    assert diagnosis.cause == "healthy" and diagnosis.causes == ["healthy"]


def test_the_proposed_learning_rate_is_between_the_extremes():
    for diagnosis in (with_rate(300.0), with_rate(2e-5)):
        rate = float(re.search(r"= (\S+)", diagnosis.findings[0].fix)[1])
        assert 1e-4 < rate < 100, diagnosis


@pytest.mark.parametrize("size", [16, 32, 64])
def test_imbalance_that_the_model_copes_with_is_a_note_at_most(size):
    data = batches(*points((240, 16)), size)
    diagnosis = examined(mlp(2), data)
    assert diagnosis.healthy and names(diagnosis) == ["class_imbalance"]
    assert diagnosis.findings[0].severity == "note"


def test_two_faults_at_once_are_both_named():
    data = batches(X, torch.where(Y == 2, 7, Y))
    diagnosis = diagnose(mlp(3, nn.Softmax(1)), data)
    assert {"double_softmax", "label_range"} <= set(diagnosis.causes), diagnosis

    model = mlp(3, nn.Softmax(1))
    train(model, batches(X[ORDER], Y[ORDER]))
    diagnosis = diagnose(model, batches(X[ORDER], Y[ORDER]))
    assert {"double_softmax", "unshuffled_batches"} <= set(diagnosis.causes), diagnosis


def test_wrong_labels_of_the_evaluation_are_named():
    assert healthy(eval_batches=batches(X, Y + 7)).causes == ["label_range"]


def test_an_evaluation_with_other_class_numbers_is_named():
    model, optimizer = trained()
    data = batches(X, (Y + 1) % 3)
    diagnosis = diagnose(model, batches(), optimizer=optimizer, eval_batches=data)
    assert diagnosis.cause == "train_eval_mismatch"
    assert "with the classes renumbered" in diagnosis.findings[0].numbers


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9).flatmap(lambda n: arrays(np.int64, (n, n), elements=st.integers(-9, 30))))
def test_the_best_assignment_gains_what_scipy_s_gains(gains):
    columns = best_assignment(gains)
    assert sorted(columns) == list(range(len(gains)))
    assert gains[np.arange(len(gains)), columns].sum() == (
        gains[linear_sum_assignment(gains, maximize=True)].sum()
    )


# ---- the record ----


def recorded(model, optimizer, data=None):
    train_sample = read(data or batches(), "training", math.inf)
    return gather(model, train_sample, None, F.cross_entropy, optimizer, Clock(1e4))


def test_the_record_cannot_be_changed():
    record = recorded(*trained())
    for thing in (record, record.train, record.loss, record.on_train):
        with pytest.raises(AttributeError):
            thing.loss = None


def test_checks_only_read_the_record():
    model = deep(nn.ReLU)
    record = recorded(model, SGD(model.parameters(), lr=0.1), batches(X, SHUFFLED))
    before = copy.deepcopy({**vars(record), "model": record.model.state_dict()})
    first, second = answers(record), answers(record)
    assert first == second and record.probes is not None
    after = {**vars(record), "model": record.model.state_dict()}
    for name in ("gradients", "layers", "ran", "as_drawn", "bad_targets", "modes", "probes"):
        assert after[name] == before[name], name
    torch.testing.assert_close(after["model"], before["model"], rtol=0, atol=0)


# ---- softmax and the loss ----


def softmax_inside(outputs, targets):
    return F.cross_entropy(outputs.softmax(1), targets)


def with_penalty(outputs, targets):
    return F.cross_entropy(outputs, targets) + 0.3


bce, column = F.binary_cross_entropy_with_logits, IS_ONE[:, None]

SOFTMAX_TWICE = {
    "along dimension 0": (mlp(3, nn.Softmax(0)), Y, F.cross_entropy),
    "in the loss": (mlp(), Y, softmax_inside),
    "sigmoid, (N, 1)": (mlp(1, nn.Sigmoid()), column, bce),
    "sigmoid, (N,)": (mlp(1, nn.Sigmoid(), nn.Flatten(0)), IS_ONE, nn.BCEWithLogitsLoss()),
    "sigmoid for each class": (mlp(3, nn.Sigmoid()), Y, F.cross_entropy),
    "behind a lambda": (mlp(3, nn.Softmax(1)), Y, lambda o, y: F.cross_entropy(o, y)),
    "soft targets": (mlp(3, nn.Softmax(1)), ONE_HOT, F.cross_entropy),
    "summed": (mlp(3, nn.Softmax(1)), Y, nn.CrossEntropyLoss(reduction="sum")),
    "focal": (mlp(3, nn.Softmax(1)), Y, FocalLoss()),
}


@pytest.mark.parametrize("variant", SOFTMAX_TWICE)
def test_softmax_twice_is_found_in_every_variant(variant):
    model, targets, loss_fn = SOFTMAX_TWICE[variant]
    diagnosis = diagnose(copy.deepcopy(model), batches(X, targets), loss_fn=loss_fn)
    assert diagnosis.cause == "double_softmax", diagnosis


class OnlyInEvaluation(nn.Softmax):
    def forward(self, x):
        return x if self.training else super().forward(x)


WELL_MATCHED = {
    "log-softmax and NLL": (mlp(3, nn.LogSoftmax(1)), Y, nn.NLLLoss()),
    "log-softmax and cross-entropy": (mlp(3, nn.LogSoftmax(1)), Y, F.cross_entropy),
    "softmax in evaluation only": (mlp(3, OnlyInEvaluation(1)), Y, F.cross_entropy),
    "sigmoid and BCE": (mlp(1, nn.Sigmoid()), column, nn.BCELoss()),
    "one logit (N, 1)": (mlp(1), column, bce),
    "one logit (N,)": (mlp(1, nn.Flatten(0)), IS_ONE, bce),
    "a lambda": (mlp(), Y, lambda o, y: F.cross_entropy(o, y)),
    "label smoothing": (mlp(), Y, nn.CrossEntropyLoss(label_smoothing=0.2)),
    "focal": (mlp(), Y, FocalLoss()),
    "focal, few": (mlp(), Y, FocalLoss(5.0)),
    "logit-adjusted": (mlp(), Y, LogitAdjustedLoss([86, 85, 85])),
    "none": (mlp(), Y, nn.CrossEntropyLoss(reduction="none")),
    "a constant penalty": (mlp(), Y, with_penalty),
    "margins": (nn.Sequential(mlp(16), CosineClassifier(16, 3)), Y, LDAMLoss([86, 85, 85])),
    "soft targets": (mlp(), 0.8 * ONE_HOT + 0.2 / 3, F.cross_entropy),
}


@pytest.mark.parametrize("variant", WELL_MATCHED)
def test_models_that_fit_their_loss_are_healthy(variant):
    model, targets, loss_fn = WELL_MATCHED[variant]
    diagnosis = examined(copy.deepcopy(model), batches(X, targets), loss_fn)
    assert diagnosis.healthy, diagnosis


def test_a_summed_loss_works():
    model = mlp()
    loss_fn = nn.CrossEntropyLoss(reduction="sum")
    optimizer = train(model, None, loss_fn, SGD(model.parameters(), lr=0.003))
    assert diagnose(model, batches(), loss_fn=loss_fn, optimizer=optimizer).healthy


def test_nll_on_probabilities_misses_its_logarithm():
    diagnosis = diagnose(mlp(3, nn.Softmax(1)), batches(), loss_fn=nn.NLLLoss())
    assert diagnosis.cause == "missing_log_softmax"


# ---- what a loss is found to be ----

LOSSES = [
    (F.cross_entropy, "logits", False, False),
    (nn.CrossEntropyLoss(label_smoothing=0.1), "logits", False, False),
    (nn.CrossEntropyLoss(reduction="sum"), "logits", False, True),
    (nn.CrossEntropyLoss(reduction="none"), "logits", False, False),
    (FocalLoss(), "logits", False, False),
    (nn.NLLLoss(), "log_probabilities", False, False),
    (softmax_inside, "other", None, False),
    (with_penalty, "logits", False, False),
]


@pytest.mark.parametrize(("loss_fn", "wants", "squashes", "sums"), LOSSES)
def test_examine_loss_tells_losses_apart(loss_fn, wants, squashes, sums):
    facts = examine_loss(loss_fn, torch.randn(20, 3), torch.arange(20) % 3)
    assert not facts.problem and facts.sums == sums
    if loss_fn is softmax_inside:
        assert facts.squashes
    else:
        assert (facts.wants, facts.squashes) == (wants, squashes)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.05, 20), min_size=2, max_size=12), st.booleans(), st.booleans())
def test_class_weights_are_recovered_from_any_cross_entropy(weights, hidden, summed):
    weight, options = torch.tensor(weights), {"reduction": "sum" if summed else "mean"}
    module = nn.CrossEntropyLoss(weight=weight, **options)
    loss_fn = (lambda o, y: module(o, y)) if hidden else module
    facts = examine_loss(loss_fn, torch.randn(5, len(weights)), torch.zeros(5).long())
    torch.testing.assert_close(facts.weights, weight / weight.mean(), rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 50), st.booleans())
def test_pos_weight_is_recovered(pos_weight, column):
    loss_fn = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([pos_weight]))
    shape = (6, 1) if column else (6,)
    facts = examine_loss(loss_fn, torch.randn(shape), torch.zeros(shape))
    assert (facts.weights[1] / facts.weights[0]).item() == pytest.approx(pos_weight, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 50))
def test_the_floor_of_softmax_twice_is_what_the_loss_reaches(classes):
    perfect = F.cross_entropy(torch.eye(classes), torch.arange(classes)).item()
    assert double_softmax_floor(classes) == pytest.approx(perfect, abs=1e-5)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x.softmax(1), "Softmax"),
        (lambda x: x.sigmoid()[:, :1].squeeze(1), "Sigmoid"),
        (lambda x: x.relu().view(-1, 2, 2).reshape(-1, 4), "Relu"),
        (lambda x: x.softmax(1).double(), "Softmax"),
    ],
)
def test_the_last_operation_is_seen_through_reshaping(function, name):
    assert last_operation(function(torch.randn(6, 4, requires_grad=True))) == name


def test_a_loss_that_raises_is_a_problem_and_no_crash():
    assert "AssertionError" in examine_loss(refuses, torch.randn(4, 3), torch.zeros(4)).problem


# ---- nothing is changed ----


class Mixed(nn.Module):
    """Half of it in evaluation mode, with running averages, dropout and a frozen weight."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16))
        self.second = nn.Sequential(nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(16, 3)
        self.first[0].bias.requires_grad = False

    def forward(self, x):
        return self.head(self.second(self.first(x)))


def mixed():
    model = Mixed()
    optimizer = Adam(model.parameters(), lr=0.01)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    model.train()
    model.first.eval()
    F.cross_entropy(model(X[:32]), Y[:32]).backward()
    optimizer.step()
    return model, optimizer


def state(model, optimizer, loader):
    """All that must be the same afterwards."""
    return copy.deepcopy(
        {
            "weights": model.state_dict(),
            "modes": [module.training for module in model.modules()],
            "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
            "requires_grad": [p.requires_grad for p in model.parameters()],
            "optimizer": optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "numpy": [torch.from_numpy(np.random.get_state()[1]), np.random.get_state()[2]],  # noqa: NPY002
            "python": hash(random.getstate()),
            "loader": loader.generator.get_state(),
        }
    )


def check_untouched(before, *objects):
    torch.testing.assert_close(state(*objects), before, rtol=0, atol=0, equal_nan=True)


class Noisy(TensorDataset):
    """Draws from all global random generators."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 1e-3 * (random.random() + np.random.rand() + torch.rand(1).item()), y  # noqa: NPY002


def loader(x=X, y=Y, size=32):
    return DataLoader(Noisy(x, y), size, shuffle=True, generator=torch.Generator().manual_seed(4))


def refuses(outputs, targets):
    raise AssertionError


def raises(outputs, targets):
    raise RuntimeError("no loss today")


@pytest.mark.parametrize("what", ["failing", "penalty", "no_grad", "inference"])
def test_nothing_of_the_caller_is_changed(what):
    model, optimizer = mixed()
    data, loss_fn, mode = loader(), F.cross_entropy, torch.enable_grad()
    if what == "failing":  # so that trial trainings run
        data = loader(y=SHUFFLED)
    if what == "penalty":
        loss_fn = lambda o, y: (  # noqa: E731
            F.cross_entropy(o, y) + 1e-3 * sum(p.square().sum() for p in model.parameters())
        )
    if what == "no_grad":
        mode = torch.no_grad()
    if what == "inference":
        mode = torch.inference_mode()
    before = state(model, optimizer, data)
    with mode:
        diagnose(model, data, loss_fn=loss_fn, optimizer=optimizer, eval_batches=loader())
    check_untouched(before, model, optimizer, data)


def test_a_penalty_leaves_no_gradients_where_there_were_none():
    model = trained()[0].train()
    model.zero_grad()
    weights = list(model.parameters())
    diagnose(model, batches(), loss_fn=lambda o, y: F.cross_entropy(o, y) + weights[0].norm())
    assert all(p.grad is None for p in weights)


def test_a_forward_made_of_a_closure_changes_no_running_average():
    model, optimizer = mixed()
    original = model.forward
    model.forward = lambda x: original(x)
    data = loader()
    before = state(model, optimizer, data)
    diagnose(model, data, optimizer=optimizer)
    check_untouched(before, model, optimizer, data)


def test_nothing_is_changed_after_a_loss_that_raises():
    model, optimizer = mixed()
    data = loader()
    before = state(model, optimizer, data)
    with pytest.raises(ValueError, match=r"loss_fn cannot be computed.* no loss today"):
        diagnose(model, data, loss_fn=raises, optimizer=optimizer)
    check_untouched(before, model, optimizer, data)


def test_nothing_is_changed_after_a_model_that_raises_on_its_second_batch():
    class Breaks(Mixed):
        calls = 0

        def forward(self, x):
            Breaks.calls += 1
            if Breaks.calls == 2:
                raise KeyError("second batch")
            return super().forward(x)

    model, data = Breaks(), loader()
    optimizer = SGD(model.parameters(), lr=0.1)
    before = state(model, optimizer, data)
    with pytest.raises(KeyError, match="second batch"):
        diagnose(model, data, optimizer=optimizer)
    check_untouched(before, model, optimizer, data)


def test_the_loss_is_examined_on_a_copy():
    class Counting(nn.CrossEntropyLoss):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, outputs, targets):
            self.calls += 1
            return super().forward(outputs, targets)

    loss_fn = Counting()
    diagnose(trained()[0], batches(), loss_fn=loss_fn)
    assert loss_fn.calls == 0


def test_the_batches_are_not_written_to():
    data = batches(X.clone(), Y.clone())
    before = copy.deepcopy(data)
    diagnose(trained()[0], data)
    assert all(x.equal(a) and y.equal(b) for (x, y), (a, b) in zip(data, before, strict=True))


# ---- wrong use ----


class Wrong(nn.Module):
    """Returns what the function makes of the logits."""

    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(8, 3), function

    def forward(self, x):
        return self.function(self.linear(x))


def on_two_devices():
    model = mlp()
    model[2].to("meta")
    return model


def used_up():
    generator = iter(batches())
    list(generator)
    return generator


WRONG_BATCHES = [
    ([{"image": X, "path": ["a"] * 256}], TypeError, r"dicts with the keys 'image', 'path'"),
    ([(X.tolist(), Y)], TypeError, "inputs of train_batches are a list"),
    ([(X, Y.tolist())], TypeError, "targets of train_batches are a list"),
    ([(X, Y[:-1])], ValueError, "256 inputs with 255 targets"),
    ([X], TypeError, "yields a Tensor; each batch must be a pair"),
    ([(X,)], TypeError, "each batch must be a pair"),
    ([], ValueError, "train_batches is empty"),
    (used_up(), ValueError, "generator that has been used up"),
    ("cifar10", TypeError, "train_batches is a str"),
    (X, TypeError, "train_batches is a Tensor"),
    (TensorDataset(X, Y), TypeError, "train_batches is a TensorDataset"),
    (7, TypeError, "train_batches is a int"),
    ([(X, Y), (X, ONE_HOT)], ValueError, r"targets of shape \(256, 3\) after \(256,\)"),
    ([(X[:0], Y[:0])], ValueError, r"shape \(0, 8\)"),
    ([(torch.tensor(1.0), Y)], ValueError, r"shape \(\)"),
    ([(X, torch.zeros(256, 4, 4).long())], ValueError, r"targets have shape \(256, 4, 4\)"),
    ([(X[:, :5], Y)], ValueError, r"refuses torch.float32 inputs of shape \(128, 5\)"),
    ([(X.double(), Y)], ValueError, "refuses torch.float64 inputs"),
    ([(X, X)], ValueError, "as of a regression"),
]


def test_batches_of_another_shape_are_left_out_and_the_report_says_so():
    report = diagnose(nn.Linear(8, 3), [(X, Y), (X[:, :4], Y)], seconds=2)
    assert "another shape" in report.consumed[0]


def test_sequences_padded_to_different_lengths_are_padded_further():
    sample = read([(torch.ones(2, 5, 3), Y[:2]), (torch.ones(3, 7, 3), Y[:3])], "training", 1e12)
    assert sample.inputs.shape == (5, 7, 3)
    assert sample.inputs[:2, 5:].sum() == 0 and sample.inputs[2:].min() == 1


@pytest.mark.parametrize(("wrong", "error", "sentence"), WRONG_BATCHES)
def test_wrong_batches_get_one_sentence(wrong, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        diagnose(mlp(), wrong)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


WRONG_MODELS = [
    (lambda x: x, TypeError, "model is a function; pass a torch.nn.Module"),
    (Wrong(lambda x: {"n": len(x)}), TypeError, "the model returns a dict"),
    (Wrong(lambda x: ()), TypeError, "the model returns a tuple"),
    (Wrong(lambda x: x[:, :, None, None]), ValueError, r"shape \(128, 3, 1, 1\) for 128 inputs"),
    (Wrong(lambda x: x[:5]), ValueError, r"shape \(5, 3\) for 128 inputs"),
    (Wrong(lambda x: x.argmax(1)), ValueError, r"torch.int64 of shape \(128,\)"),
    (on_two_devices(), ValueError, "lie on cpu, meta"),
    (nn.Linear(8, 3, device="meta"), ValueError, "meta device"),
    (nn.Conv2d(3, 8, 3), ValueError, r"refuses torch.float32 inputs of shape \(128, 8\)"),
]


@pytest.mark.parametrize(("wrong", "error", "sentence"), WRONG_MODELS)
def test_wrong_models_get_one_sentence(wrong, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        diagnose(wrong, batches())
    assert "\n" not in str(caught.value)


def test_wrong_optimizers_and_losses_get_one_sentence():
    with pytest.raises(TypeError, match="optimizer is a str"):
        diagnose(mlp(), batches(), optimizer="adam")
    with pytest.raises(
        ValueError, match=r"loss_fn cannot be computed.* AssertionError: no message"
    ):
        diagnose(mlp(), batches(), loss_fn=refuses)


def test_wrong_evaluation_batches_are_called_by_their_name():
    with pytest.raises(ValueError, match="eval_batches is empty"):
        healthy(eval_batches=[])


def test_a_generator_is_read_no_further_than_needed():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield X, Y

    diagnosis = diagnose(trained()[0], endless())
    assert len(taken) == 8, "2,048 images"
    assert "8 training batches, 2,048 images" in diagnosis.consumed[0]
    assert "these batches are gone" in diagnosis.consumed[0] and "8 training" in repr(diagnosis)


def test_a_list_is_not_called_a_generator_and_all_of_it_is_read():
    diagnosis = healthy(eval_batches=batches(X[:70], Y[:70]))
    assert diagnosis.consumed == [
        "8 training batches, 256 images", "3 evaluation batches, 70 images"
    ]  # fmt: skip


def test_a_loader_is_iterated_once():
    class Counted(list):
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return super().__iter__()

    diagnose(trained()[0], Counted(batches()))
    assert Counted.passes == 1


# ---- time ----


class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = deep(nn.ReLU)

    def forward(self, x):
        time.sleep(0.05)
        return self.network(x)


@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_trial_trainings_are_left_out_where_the_time_is_short(seconds):
    model = Slow()
    started = time.perf_counter()
    diagnosis = diagnose(
        model, batches(), optimizer=Adam(model.parameters(), lr=1e-6), seconds=seconds
    )
    assert time.perf_counter() - started < seconds + 2.5
    for check in ("learning rate too high", "learning rate too low"):
        assert "time" in diagnosis.not_checked[check]


def test_an_endless_reading_stops_with_the_budget():
    def one_class():
        while True:
            yield X, torch.zeros_like(Y)

    started = time.perf_counter()
    diagnosis = diagnose(mlp(), one_class(), seconds=0.5)
    assert time.perf_counter() - started < 3
    assert "generator" in diagnosis.consumed[0]


# ---- the report ----


def test_the_report_holds_what_was_found():
    diagnosis = examined(mlp(3, nn.Softmax(1)))
    finding, text = diagnosis.findings[0], repr(diagnosis)
    assert text.startswith("Diagnosis: double_softmax")
    assert f"{double_softmax_floor(3):.4f}" in text and "1. double_softmax (fault)" in text
    for line in (*finding.fix.splitlines(), finding.lesson, *finding.numbers.values()):
        assert line in text
    assert "In order:" in text and "Not checked:" in text and "no optimizer was given" in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_notebook_report_has_an_image_and_escapes():
    diagnosis = healthy()
    diagnosis.healthy_checks["<script>"] = "<b>&"
    diagnosis.findings = examined(mlp(3, nn.Softmax(1))).findings
    diagnosis.findings[0].numbers["layer <script>"] = "<i>"
    page = diagnosis._repr_html_()
    assert re.search(r'<img alt="[^"]{20,}" src="data:image/png;base64,', page)
    assert "<script>" not in page and ": <b>" not in page and "<i>" not in page
    assert "layer &lt;script&gt;" in page


def test_without_matplotlib_the_notebook_report_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imbalkit.doctor.figures", None)  # its import fails
    page = healthy()._repr_html_()
    assert "<img" not in page and "pip install 'imbalkit[plots]'" in page and "In order" in page


def test_the_notebook_report_works_without_a_class_in_common():
    zero = Y == 0
    data, others = batches(X[zero], Y[zero]), batches(X[~zero], Y[~zero])
    assert "<img" in diagnose(trained()[0], data, eval_batches=others)._repr_html_()
    assert "<img" in diagnose(nn.Linear(8, 3), batches())._repr_html_()


@pytest.mark.parametrize(
    "make",
    [
        healthy,
        CASES["non_finite"][0],
        CASES["label_range"][0],
        lambda: diagnose(mlp(), batches(math.nan * X)),
        lambda: diagnose(mlp(), batches(X, Y + 7), eval_batches=batches()),
        lambda: diagnose(Lambda(lambda out: out * math.nan), batches()),
    ],
)
def test_the_report_as_a_dict_is_json(make):
    diagnosis = make()
    read = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert read["cause"] == diagnosis.cause and read["causes"] == diagnosis.causes
    assert [finding["cause"] for finding in read["findings"]] == names(diagnosis)
    assert {"healthy_checks", "not_checked", "consumed", "seconds", "learned"} <= set(read)


@pytest.mark.parametrize("cause", CAUSES)
def test_fixes_compile_and_lessons_exist(cause):
    fix = CAUSES[cause].fix
    if "{rate" in fix:
        fix = fix.format(rate=0.1)
    lines = "\n".join(f"    {line}" for line in fix.splitlines())
    compile(f"def fix():\n{lines}\n    pass", cause, "exec")
    assert "{rate" not in fix
    number, title = re.fullmatch(r"lesson (\d\d), (.+)", CAUSES[cause].lesson).groups()
    (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    heading = nbformat.read(notebook, 4).cells[0].source.splitlines()[0]
    assert heading.lower() == f"# {number} {title}"
    assert CAUSES[cause].explanation.endswith(".")


def test_findings_stand_in_order_of_severity_and_once_each():
    diagnosis = diagnose(mlp(3, nn.Softmax(1)), batches(X, torch.where(Y == 2, 7, Y)))
    places = ["fault warning note".split().index(f.severity) for f in diagnosis.findings]
    assert places == sorted(places) and len(set(names(diagnosis))) == len(places)


# ---- models, data and optimizers of all kinds ----


class Recurrent(nn.Module):
    """Vectors in a row, or words, to logits."""

    def __init__(self, words=0):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(words, 8) if words else nn.Identity()
        self.lstm, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0][:, -1])


def fast(model, data=None, steps=80, **options):
    """Train with Adam and diagnose."""
    optimizer = train(model, data, optimizer=Adam(model.parameters(), 0.02), steps=steps)
    return diagnose(model, data or batches(), optimizer=optimizer, **options)


def two_groups(model):
    return SGD(
        [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[2].parameters()}], 0.1
    )


OPTIMIZERS = [
    lambda model: torch.optim.Adam(model.parameters(), 0.01),
    lambda model: torch.optim.AdamW(model.parameters(), 0.01),
    lambda model: torch.optim.RMSprop(model.parameters(), 0.01),
    lambda model: torch.optim.Adagrad(model.parameters(), 0.05),
    lambda model: torch.optim.SGD(model.parameters(), 0.1),
    lambda model: torch.optim.Adam(model.parameters(), torch.tensor(0.01)),
    two_groups,
]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_every_optimizer_can_train_a_healthy_model(make):
    model = mlp()
    assert diagnose(model, batches(), optimizer=train(model, optimizer=make(model))).healthy


@pytest.mark.parametrize("make", [torch.optim.Adagrad, torch.optim.Adam, SGD])
def test_a_model_that_was_never_trained_is_no_fault(make):
    model = deep(nn.ReLU)
    assert diagnose(model, batches(), optimizer=make(model.parameters(), lr=0.01)).healthy


def test_a_learning_rate_of_0_is_no_crash():
    model = deep(nn.ReLU)
    optimizer = train(model, optimizer=SGD(model.parameters(), lr=0.0))
    assert not diagnose(model, batches(), optimizer=optimizer).healthy


def test_lbfgs_is_left_alone():
    model = deep(nn.ReLU)
    diagnosis = diagnose(model, batches(), optimizer=torch.optim.LBFGS(model.parameters()))
    assert "LBFGS" in diagnosis.not_checked["learning rate too high"]


def test_a_step_of_adagrad_is_told_from_none():
    model = mlp()
    optimizer = torch.optim.Adagrad(model.parameters())
    F.cross_entropy(model(X), Y).backward()
    assert "no_optimizer_step" in names(diagnose(model, batches(), optimizer=optimizer))
    optimizer.step()
    assert "no_optimizer_step" not in names(diagnose(model, batches(), optimizer=optimizer))


def test_a_model_without_parameters():
    assert diagnose(Lambda(lambda x: 5 * x[:, :3], nn.Identity()), batches()).healthy


def test_a_single_linear_layer():
    assert examined(nn.Linear(8, 3)).healthy


@pytest.mark.parametrize("steps", [0, 100])
def test_words(steps):
    words = torch.randint(30, (256, 5), generator=torch.Generator().manual_seed(0))
    diagnosis = fast(Recurrent(words=30), batches(words, words[:, -1] % 3), steps=steps)
    assert diagnosis.healthy, diagnosis


def test_a_single_number_for_each_example():
    words = torch.arange(256) % 30
    model = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 3))
    assert fast(model, batches(words, words % 3)).healthy


def test_rows_of_vectors():
    assert fast(Recurrent(), batches(X[:, None].repeat(1, 4, 1))).healthy


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("steps", [0, 60])
def test_other_precisions(dtype, steps):
    model, data = deep(nn.ReLU).to(dtype), batches(X.to(dtype))
    loss_fn = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 1], dtype=dtype))
    optimizer = Adam(model.parameters(), 0.003)
    train(model, data, loss_fn, optimizer, steps)
    diagnosis = diagnose(model, data, loss_fn=loss_fn, optimizer=optimizer)
    assert diagnosis.healthy, diagnosis
    if dtype is torch.float64:
        assert "weight" not in diagnosis.not_checked.get("compensation twice", "")


@pytest.mark.parametrize("what", ["outputs", "weights"])
def test_nan_in_the_model(what):
    model = Lambda(lambda out: out * math.nan) if what == "outputs" else mlp()
    if what == "weights":
        for p in model.parameters():
            p.data.fill_(math.nan)
    diagnosis = diagnose(model, batches(), optimizer=Adam(model.parameters(), 0.01))
    assert "non_finite" in diagnosis.causes


def test_small_samples():
    model, optimizer = trained()
    assert diagnose(model, batches()[:1], optimizer=optimizer).healthy
    assert diagnose(model, batches(size=1), optimizer=optimizer).healthy
    diagnose(model, batches(size=1)[:1], optimizer=optimizer)


def test_classes_that_are_missing_from_the_sample():
    model, optimizer = trained()
    assert diagnose(model, batches(X[Y < 2], Y[Y < 2]), optimizer=optimizer).healthy


def test_labels_to_ignore():
    data = batches(X, torch.where(torch.arange(256) % 4 == 0, -100, Y))
    for steps in (0, 60):
        assert fast(deep(nn.ReLU), data, steps=steps).healthy
    mostly = torch.where(torch.arange(256) % 4 > 0, -100, Y)
    assert diagnose(trained()[0], batches(X, mostly)).cause == "label_range"


def test_a_model_with_two_outputs_in_training():
    torch.manual_seed(0)
    model = WithDifficulty(nn.Sequential(nn.Linear(8, 16), nn.ReLU()), 16, 3)
    loss_fn = DifficultyLoss()
    optimizer = train(model, None, loss_fn)
    assert diagnose(model, batches(), loss_fn=loss_fn, optimizer=optimizer).healthy


LAYERS = [
    parametrizations.weight_norm, parametrizations.spectral_norm, nn.utils.spectral_norm
]  # fmt: skip


@pytest.mark.parametrize("steps", [0, 60])
@pytest.mark.parametrize("wrap", LAYERS)
def test_layers_whose_weight_is_computed(wrap, steps):
    torch.manual_seed(0)
    model = nn.Sequential(wrap(nn.Linear(8, 32)), nn.ReLU(), nn.Linear(32, 3))
    assert fast(model, steps=steps).healthy


def test_a_model_that_keeps_its_last_features():
    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = deep(nn.ReLU)

        def forward(self, x):
            self.features = self.network[0](x)
            return self.network(x)

    assert fast(Keeps(), steps=0).healthy and fast(Keeps(), steps=80).healthy


def test_a_loss_that_is_a_method_of_the_model():
    class WithLoss(Mixed):
        def loss(self, outputs, targets):
            return F.cross_entropy(outputs, targets) + 1e-4 * self.head.weight.square().sum()

    model = WithLoss()
    train(model, None, model.loss)
    model.zero_grad()
    assert diagnose(model, batches(), loss_fn=model.loss).healthy
    assert all(p.grad is None for p in model.parameters())


def test_frozen_throughout():
    model = deep(nn.ReLU).requires_grad_(False)
    diagnosis = diagnose(model, batches(), optimizer=SGD(model.parameters(), 0.1))
    assert "frozen_parameters" in names(diagnosis)
    assert "no parameter" in diagnosis.not_checked["learning rate too high"]


def test_loaders_with_a_sampler_and_with_an_uneven_last_batch():
    model, optimizer = trained()
    data = TensorDataset(X, Y)
    for sampler in (WeightedRandomSampler(torch.ones(256), 256), weighted_sampler(Y)):
        batches = DataLoader(data, 30, sampler=sampler)
        assert diagnose(model, batches, optimizer=optimizer).healthy


def test_what_could_not_be_checked_is_said():
    diagnosis = diagnose(trained()[0], batches())
    assert diagnosis.not_checked["training against evaluation inputs"] == (
        "no eval_batches were given"
    )
    assert diagnosis.not_checked["optimizer steps"] == "no optimizer was given"


# ---- many classes ----


def test_a_loss_of_many_classes_is_examined_on_some_at_a_time():
    """All scores of 10,000 classes at once are 400 MB each."""
    classes, largest = 3_000, 0
    weights = torch.rand(classes, generator=torch.Generator().manual_seed(0)) + 0.1

    def loss_fn(logits, targets):
        nonlocal largest
        largest = max(largest, logits.numel())
        return F.cross_entropy(logits, targets, weights)

    facts = examine_loss(loss_fn, torch.randn(4, classes), torch.arange(4))
    assert (facts.wants, facts.problem, facts.squashes) == ("logits", "", False)
    torch.testing.assert_close(facts.weights, weights / weights.mean(), rtol=1e-3, atol=1e-3)
    assert largest <= 2 * 256 * classes


def test_a_loss_that_gives_the_first_of_many_classes_no_weight_is_left_alone():
    weights = torch.ones(300).index_fill(0, torch.tensor([0]), 0)
    loss_fn = nn.CrossEntropyLoss(weights)
    assert examine_loss(loss_fn, torch.randn(4, 300), torch.arange(4)).weights is None


def many_classes(classes, images, noise=0.3, seed=0):
    """Images that tell their class, of classes that may have one image each."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(classes, 32, generator=torch.Generator().manual_seed(9))
    y = torch.randint(classes, (images,), generator=generator)
    return centers[y] + noise * torch.randn(images, 32, generator=generator), y


def test_labels_of_many_classes_are_not_accused_of_what_cannot_be_seen():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3_000))
    found = examined(
        model,
        batches(*many_classes(3_000, 600)),
        optimizer=SGD(model.parameters(), lr=0.05),
        eval_batches=batches(*many_classes(3_000, 600, seed=1)),
        seconds=3,
    )
    assert {"labels_out_of_step", "train_eval_mismatch"}.isdisjoint(names(found))
    assert "labels beside their images" in found.not_checked


def test_the_dependence_on_many_labels_is_measured_where_classes_have_images():
    """300 classes, 100 of them with 4 images and more: the labels depend on the images, or not."""
    x, y = many_classes(300, 1_200)
    sample = read(batches(x, y), "training", time.perf_counter() + 5)
    sample = sample.with_classes(Task(300, False))
    usable = torch.ones(len(y), dtype=torch.bool)
    assert label_dependence(sample, usable, 300) > 20
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]
    sample = read(batches(x, shuffled), "training", time.perf_counter() + 5)
    assert abs(label_dependence(sample.with_classes(Task(300, False)), usable, 300)) < 4


def test_no_numbering_is_found_where_each_class_has_an_image_or_two():
    """Any answers that differ could be renumbered to be right, and it took the cube of C."""
    classes = 5_000
    torch.manual_seed(0)
    model = nn.Linear(32, classes)
    train, evaluation = (
        read(batches(*many_classes(classes, 300, seed=seed)), name, time.perf_counter() + 5)
        for seed, name in ((0, "training"), (1, "evaluation"))
    )
    record = gather(model, train, evaluation, F.cross_entropy, None, Clock(2))
    assert record.on_eval.accuracy < 0.05 and record.renumbered[0] == 0
