"""Kinds of faults from people's projects, and healthy trainings that look like them."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from test_diagnose import SGD, Adam, X, Y, batches, examined, mlp, names, points, train, trained
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from imbalkit import diagnose
from imbalkit.doctor.assignment import named_numbering
from imbalkit.doctor.causes import CAUSES
from imbalkit.doctor.checks.optimizer import learning_rate_too_high
from imbalkit.doctor.outputs import examine_loss
from imbalkit.doctor.record import Probes, Trial

IS_ONE = (Y == 1).float()[:, None]


# ---- the data ----


def drawn_with(weights, x=X, y=Y):
    torch.manual_seed(0)
    sampler = WeightedRandomSampler(weights, len(x))
    return DataLoader(TensorDataset(x, y), 32, sampler=sampler)


def test_one_weight_for_each_class_draws_the_first_images_alone():
    data = drawn_with(1 / torch.bincount(Y).double())
    diagnosis = diagnose(trained()[0], data)
    assert diagnosis.cause == "duplicate_inputs"
    numbers = diagnosis.findings[0].numbers
    assert numbers["weights of the sampler"] == "3"
    assert numbers["images of the data set"].startswith("256")
    assert "one for each image" in diagnosis.findings[0].fix


def test_one_weight_for_each_image_is_healthy():
    x, y = points((200, 40, 16))
    data = drawn_with((1 / torch.bincount(y).double())[y], x, y)
    model = mlp()
    train(model, list(data))
    assert diagnose(model, data).healthy


def test_few_inputs_with_the_same_labels_are_told_without_a_sampler_to_read():
    rows = torch.arange(256) % 6
    diagnosis = diagnose(trained()[0], batches(X[rows], Y[rows]))
    assert diagnosis.cause == "duplicate_inputs"
    assert diagnosis.findings[0].numbers["different inputs"] == "6 of 256"


def test_a_small_set_that_is_read_once_is_no_duplicate():
    model = mlp()
    train(model, batches(X[:40], Y[:40], 10))
    assert "duplicate_inputs" not in names(diagnose(model, batches(X[:40], Y[:40], 10)))


def test_pixels_divided_as_whole_numbers_are_one_picture_with_all_labels():
    """Both are said, that it is one picture and that it is blank; the labels are innocent."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (256, 3, 8, 8), generator=generator)
    pixels[:200] = pixels[:200].clamp(max=250)
    rounded = (pixels // 255).float()
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    diagnosis = examined(model, batches(rounded, Y))
    assert diagnosis.causes == ["duplicate_inputs", "input_range"], diagnosis
    assert "inputs that hold one number alone" in diagnosis.findings[0].numbers


@pytest.mark.parametrize(
    ("renumber", "words"),
    [
        (lambda y: (y + 1) % 4, "0 -> 3, 1 -> 0, 2 -> 1, 3 -> 2"),
        (lambda y: torch.where(y > 1, y - 1, y), "label + 1 from 1 on"),
    ],
    ids=["turned", "a folder is missing"],
)
def test_other_class_numbers_in_evaluation_are_named_even_where_little_was_learned(renumber, words):
    """About half of the new images are right with the right numbers."""
    x, y = points((128, 128, 128, 128), 2.4)
    new_x, new_y = points((128, 128, 128, 128), 2.4, seed=1)
    keep = new_y != 1 if "missing" in words or "from" in words else new_y >= 0
    model = mlp(4)
    optimizer = train(model, batches(x, y), steps=100)
    evaluation = batches(new_x[keep], renumber(new_y[keep]))
    diagnosis = diagnose(model, batches(x, y), optimizer=optimizer, eval_batches=evaluation)
    assert diagnosis.cause == "train_eval_mismatch", diagnosis
    assert words in diagnosis.findings[0].numbers["label in evaluation -> class of the model"]


def test_many_classes_with_few_images_are_not_renumbered_by_chance():
    """A numbering that fits all of so few images can always be found."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 8, generator=generator)
    y = torch.randint(50, (200,), generator=generator)
    model = mlp(50)
    data = batches(x[:100], y[:100])
    train(model, data, optimizer=Adam(model.parameters(), 0.02), steps=400)
    diagnosis = diagnose(model, data, eval_batches=batches(x[100:], y[100:]))
    assert diagnosis.cause == "overfitting", diagnosis


def test_a_numbering_in_words():
    assert named_numbering({0: 0, 1: 1, 2: 2}) == ""
    assert named_numbering({1: 0, 2: 1}) == "label - 1"


def test_words_of_another_vocabulary_are_another_preparation():
    """The same sentences, their words numbered anew: each number means another word."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(256) % 2
    common = torch.randint(20, 40, (256, 6), generator=generator)
    words = torch.cat([common, (y[:, None] * 5 + torch.arange(4)).expand(256, 4)], 1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(200, 16), nn.Linear(16, 2))
    optimizer = train(model, batches(words, y), optimizer=Adam(model.parameters(), 0.05))
    anew = torch.randperm(200, generator=generator)
    for vocabulary, cause in ((anew, "train_eval_mismatch"), (torch.arange(200), "healthy")):
        evaluation = batches(vocabulary[words], y)
        diagnosis = diagnose(model, batches(words, y), optimizer=optimizer, eval_batches=evaluation)
        assert diagnosis.cause == cause, diagnosis


@pytest.mark.parametrize(("anew", "cause"), [(True, "train_eval_mismatch"), (False, "overfitting")])
def test_a_vocabulary_of_words_that_all_come_about_as_often_is_told_by_their_ranks(anew, cause):
    """New sentences, learned by heart, whose words are numbered anew or are not."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(4, (1600,), generator=generator)
    topical = 50 * y[:, None] // 2 + torch.randint(25, (1600, 12), generator=generator)
    common = torch.randint(100, 200, (1600, 12), generator=generator)
    use = torch.rand(1600, 12, generator=generator) < (0.4 if anew else 0.0)
    words = torch.where(use, topical, common)
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(200, 64), nn.ReLU(), nn.Linear(64, 4))
    data = batches(words[:1200], y[:1200])
    optimizer = train(model, data, optimizer=Adam(model.parameters(), 0.05), steps=600)
    numbers = torch.randperm(200, generator=generator) if anew else torch.arange(200)
    evaluation = batches(numbers[words[1200:]], y[1200:])
    diagnosis = diagnose(model, data, optimizer=optimizer, eval_batches=evaluation)
    assert diagnosis.cause == cause, diagnosis


# ---- the network ----


def nearly_blank(network):
    """Most pictures are black, the others hold one white point."""
    x = torch.zeros(256, 8)
    x[:64, 0], x[64:100, 1], x[100:120, 2] = 1, 1, 1
    return diagnose(network, batches(x[SHUFFLE], Y))


SHUFFLE = torch.randperm(256, generator=torch.Generator().manual_seed(5))


def test_pictures_that_are_all_the_same_make_no_network_linear():
    """With a = b each network gives f(c) for a - b + c."""
    assert "no_nonlinearity" not in names(nearly_blank(mlp()))


class InAList(nn.Module):
    """Layers in a plain list, which `parameters()` does not look into."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(8, 64), nn.Linear(64, 64)]
        self.head = nn.Linear(64, 3)

    def forward(self, x):
        for layer in self.layers:
            x = (0.1 * layer(x)).relu()
        return self.head(x)


def test_layers_in_a_plain_list_are_missing_from_the_optimizer():
    torch.manual_seed(0)
    model = InAList()
    optimizer = train(model, optimizer=SGD(model.parameters(), lr=0.01), steps=20)
    diagnosis = diagnose(model, batches(), optimizer=optimizer)
    finding = next(f for f in diagnosis.findings if f.cause == "not_in_optimizer")
    assert finding.numbers["weights in use that parameters() does not find"] == "4,736 numbers"


def test_a_loss_of_no_gradient_is_not_a_missing_step():
    model = mlp()
    optimizer = Adam(model.parameters())
    train(model, loss_fn=lambda out, y: 0 * F.cross_entropy(out, y), optimizer=optimizer)
    diagnosis = diagnose(
        model, batches(), loss_fn=lambda out, y: 0 * F.cross_entropy(out, y), optimizer=optimizer
    )
    assert diagnosis.cause == "zero_gradient", diagnosis


# ---- the loop ----


def looped(bug, optimizer):
    """Six passes of a loop with a bug, through a network with BatchNorm."""
    torch.manual_seed(0)
    layers = nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3)
    model = nn.Sequential(*layers).train()
    optimizer = optimizer(model.parameters())
    for _ in range(6):
        for x, y in batches():
            with torch.set_grad_enabled(bug != "under no_grad"):
                out = model(x)
            loss = F.cross_entropy(out.requires_grad_(), y)
            if bug == "in a new tensor":
                loss = torch.tensor(loss.item(), requires_grad=True)
            if bug == "cleared too late":
                loss.backward()
            optimizer.zero_grad(set_to_none=bug != "cleared to 0")
            if bug in ("in a new tensor", "under no_grad"):
                loss.backward()
            if bug == "cleared to 0":
                loss.backward()
                optimizer.zero_grad(set_to_none=False)
            optimizer.step()
    return diagnose(model, batches(), optimizer=optimizer)


@pytest.mark.parametrize("make", [lambda p: SGD(p, lr=0.1), lambda p: Adam(p)], ids=["SGD", "Adam"])
@pytest.mark.parametrize(
    "bug",
    ["no backward", "cleared too late", "cleared to 0", "in a new tensor", "under no_grad"],
)
def test_a_loop_that_never_takes_a_step_is_not_called_healthy(bug, make):
    diagnosis = looped(bug, make)
    assert diagnosis.cause == "no_optimizer_step", diagnosis
    assert not diagnosis.healthy


def test_without_batchnorm_nobody_can_tell_and_the_report_says_so():
    model = mlp()
    diagnosis = diagnose(model, batches(), optimizer=Adam(model.parameters()))
    assert "backward() is missing" in diagnosis.not_checked["optimizer steps"]


# ---- the loss ----


def clamped_bce(p, t):
    return -(t * p.clamp(1e-7, 1).log() + (1 - t) * (1 - p).clamp(1e-7, 1).log()).mean()


def focal_of_probabilities(p, t):
    right = torch.where(t > 0.5, p, 1 - p).clamp(1e-7, 1)
    return -((1 - right) ** 2 * right.log()).mean()


def dice(p, t):
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


OF_PROBABILITIES = {
    "squares": nn.MSELoss(),
    "distances": nn.L1Loss(),
    "clamped": clamped_bce,
    "focal": focal_of_probabilities,
    "overlap": dice,
    "BCELoss": nn.BCELoss(),
}


@pytest.mark.parametrize("loss_fn", OF_PROBABILITIES.values(), ids=OF_PROBABILITIES)
def test_a_loss_that_takes_probabilities_is_not_accused(loss_fn):
    model = mlp(1, nn.Sigmoid())
    diagnosis = examined(model, batches(X, IS_ONE), loss_fn, steps=300)
    assert diagnosis.healthy and diagnosis.learned > 0.8, diagnosis


def test_one_linear_output_that_is_fitted_to_0_and_1():
    diagnosis = examined(mlp(1), batches(X, IS_ONE), nn.MSELoss(), steps=300)
    assert diagnosis.healthy and diagnosis.learned > 0.8, diagnosis


def test_sigmoids_for_each_class_with_a_loss_of_probabilities():
    one_hot = F.one_hot(Y, 3).float()
    model = mlp(3, nn.Sigmoid())
    assert examined(model, batches(X, one_hot), clamped_bce, steps=300).healthy


@pytest.mark.parametrize(
    "loss_fn",
    [nn.CrossEntropyLoss(), nn.MultiMarginLoss(), nn.CrossEntropyLoss(label_smoothing=0.2)],
)
def test_a_loss_of_scores_is_none_of_probabilities(loss_fn):
    assert examine_loss(loss_fn, torch.randn(8, 3), Y[:8]).wants != "probabilities"


# ---- weights that were drawn small, and weights that are an average ----


def drawn_small():
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
    return model


@pytest.mark.parametrize("steps", [0, 2])
def test_weights_that_were_drawn_small_were_not_shrunk_by_the_decay(steps):
    model = drawn_small()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)  # its default decay, 0.01
    train(model, optimizer=optimizer, steps=steps)
    diagnosis = diagnose(model, batches(), optimizer=optimizer)
    assert "weight_decay_too_high" not in names(diagnosis), diagnosis


def test_a_good_average_of_weights_is_not_accused_of_a_foreign_optimizer():
    model, optimizer = trained()
    average = torch.optim.swa_utils.AveragedModel(model)
    diagnosis = diagnose(average, batches(), optimizer=optimizer)
    assert diagnosis.healthy, diagnosis


# ---- what a short examination can say ----


def test_trials_that_were_too_short_prove_nothing_about_the_rate():
    fresh = {factor: Trial(factor, 0.0, 0.01, 24) for factor in (1.0, 0.1, 0.01)}
    record = SimpleNamespace(probes=Probes(10.0, 10.0, fresh), failing=True)
    answer = learning_rate_too_high(record)
    assert "give more seconds" in answer and "24 steps" in answer


@pytest.mark.parametrize("weight", [None, (1.0, 2.0, 4.0)])
def test_the_gain_of_taking_the_shares_out_is_measured(weight):
    x, y = points((200, 25, 25), noise=2.0)
    weight = None if weight is None else torch.tensor(weight)
    model, loss_fn = mlp(), nn.CrossEntropyLoss(weight)
    train(model, batches(x, y), loss_fn)
    diagnosis = diagnose(model, batches(x, y), loss_fn=loss_fn)
    (imbalance,) = (f for f in diagnosis.findings if f.cause == "class_imbalance")
    pull = torch.tensor([200.0, 25.0, 25.0]) * (1 if weight is None else weight)
    with torch.no_grad():
        logits = model.eval()(x)
    expected = []
    for scores in (logits, logits - (pull / pull.sum()).log()):
        hits = scores.argmax(1) == y
        expected.append(sum(hits[y == c].float().mean() for c in range(3)) / 3)
    said = imbalance.numbers["mean of the recalls now, and with the shares taken out of the logits"]
    assert said == f"{expected[0]:.1%}, {expected[1]:.1%}"


def test_the_fix_for_imbalance_needs_no_training():
    fix = CAUSES["class_imbalance"].fix
    assert ".log()" in fix and "weight" not in fix


def after_a_cosine(epochs, rate):
    model = mlp()
    optimizer = Adam(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8 * epochs)
    for _ in range(epochs):
        for x, y in batches():
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    return diagnose(model, batches(), optimizer=optimizer)


def test_a_schedule_that_is_over_is_no_rate_that_is_too_low():
    assert after_a_cosine(10, 0.02).healthy
    assert after_a_cosine(2, 1e-3).causes == ["undertrained"]


def test_rare_classes_that_are_found_are_not_said_to_be_missed():
    few = torch.cat(
        [(Y == 0).nonzero()[:, 0], (Y == 1).nonzero()[:30, 0], (Y == 2).nonzero()[:10, 0]]
    )
    few = few[torch.randperm(len(few), generator=torch.Generator().manual_seed(0))]
    model, data = mlp(), batches(X[few], Y[few])
    optimizer = Adam(model.parameters(), 0.02)
    train(model, data, optimizer=optimizer, steps=100)
    (note,) = diagnose(model, data, optimizer=optimizer).findings
    assert "100.0%, 100.0%" in str(note.numbers)
    assert (
        "found as well as the frequent ones" in note.explanation and "lean" not in note.explanation
    )


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_class_that_drop_last_takes_away_is_named(shuffle):
    last = torch.cat([(Y < 2).nonzero()[:160, 0], (Y == 2).nonzero()[:20, 0]])
    loader = DataLoader(TensorDataset(X[last], Y[last]), 32, shuffle=shuffle, drop_last=True)
    model = mlp()
    optimizer = train(model, [(x, y) for _ in range(8) for x, y in loader])
    report = diagnose(model, loader, optimizer=optimizer, eval_batches=batches())
    if shuffle:
        assert "unshuffled_batches" not in names(report)
    else:
        assert report.cause == "unshuffled_batches", report
        assert (
            report.findings[0].numbers["classes that are in evaluation and in no training batch"]
            == "2"
        )
        assert "drop_last" in report.findings[0].explanation


def test_a_loader_that_drops_all_it_has_is_told_so():
    loader = DataLoader(TensorDataset(X[:20], Y[:20]), 32, drop_last=True)
    with pytest.raises(ValueError, match="nor does drop_last where the images make no whole batch"):
        diagnose(mlp(), loader)
