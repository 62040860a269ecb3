"""The collapse monitor speaks once, where something is wrong, and never waits for the device."""

import math
import re
import warnings

import pytest
import torch
import torch.nn.functional as F
from helpers import Interrupted
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from imbalkit.monitor import CollapseMonitor, CollapseWarning
from imbalkit.training import fit

STEPS = 300
QUIET = {"show_progress": False}


def labels(n, counts=(1, 1, 1)):
    return torch.multinomial(torch.tensor(counts, dtype=torch.float), n, replacement=True)


def scores(targets, classes=3, size=4.0, noise=1.0):
    return size * F.one_hot(targets, classes).float() + noise * torch.randn(len(targets), classes)


def feed(make, loss_fn=F.cross_entropy, steps=STEPS):
    """Show a monitor so many batches; return it and the warnings."""
    monitor = CollapseMonitor()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(steps):
            logits, targets = make(step)
            monitor(logits, targets, loss_fn(logits, targets))
    return monitor, [w for w in caught if w.category is CollapseWarning]


def train(counts, lr=0.1, steps=STEPS, model=None):
    """Train on separable data with these class counts, under a monitor."""
    torch.manual_seed(0)
    y = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    x = torch.randn(len(y), 8)
    x[:, : len(counts)] += 4 * F.one_hot(y, len(counts))
    model = model or nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, len(counts)))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    monitor = CollapseMonitor()
    for _ in range(steps):
        rows = torch.randint(len(y), (64,))
        logits = model(x[rows])
        loss = F.cross_entropy(logits, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor(logits, y[rows], loss)
    return monitor


@pytest.mark.parametrize("counts", [(100, 100, 100), (99, 1), (990, 10), (200, 50, 10)])
def test_silent_while_a_model_learns(counts):
    assert train(counts).warning == ""


def test_warns_of_a_training_that_diverges():
    with pytest.warns(CollapseWarning) as caught:
        monitor = train((100, 100, 100), lr=1e4)
    assert len(caught) == 1 and monitor.warning == str(caught[0].message)


def one_class(step):
    targets = labels(64)
    logits = torch.randn(64, 3)
    logits[:, 1] += 10
    return logits, targets


def in_turn(step):
    """Each batch as one class, but not always the same: a rate that is too high does that."""
    logits = torch.randn(64, 3)
    logits[:, step // 5 % 3] += 10
    return logits, labels(64)


def far_above(step):
    return 8 * torch.randn(64, 3), labels(64)


def uniform(step):
    return 0.01 * torch.randn(64, 3), labels(64)


def prior(step):
    """Two classes in use, so that it is the floor and not the collapse that is seen."""
    shares = torch.tensor([0.45, 0.45, 0.1])
    return shares.log() + 0.01 * torch.randn(400, 3), labels(400, shares.tolist())


def probabilities(step):
    targets = labels(64)
    return scores(targets).softmax(1), targets


BROKEN = {
    "one class": (one_class, r"step 150: 100% of the predictions are class 1"),
    "one class in turn": (in_turn, r"step 150: nearly all of a batch is predicted as one class"),
    "above": (far_above, r"step 150: the loss is \d\.?\d*, and guessing has 1\.1"),
    "ln C": (uniform, r"step 150: the loss stays at ln C, 1\.099"),
    "entropy": (prior, r"step 150: the loss stays at the entropy of the classes, 0\.\d+"),
    "probabilities": (probabilities, r"step 50: each row of the outputs sums to 1"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_warns_once_in_a_sentence(what):
    make, sentence = BROKEN[what]
    monitor, caught = feed(make)
    assert len(caught) == 1
    assert str(caught[0].message) == monitor.warning
    assert re.match(sentence, monitor.warning), monitor.warning
    assert monitor.warning.endswith("imbalkit.diagnose finds the cause.")
    assert "\n" not in monitor.warning and caught[0].filename == __file__


@pytest.mark.parametrize(("told", "warns"), [(0.5, False), (0.0, True)])
def test_a_cross_entropy_at_the_floor_is_no_fault_while_images_are_told_apart(told, warns):
    """As with class weights: another loss falls, and the plain one passes the entropy."""
    shares = torch.tensor([0.6, 0.3, 0.1])
    entropy = -(shares * shares.log()).sum()

    def make(step):
        targets = labels(400, shares.tolist())
        answers = torch.where(torch.rand(400) < told, targets, labels(400))
        logits = F.one_hot(answers, 3).float()
        if not told:
            return shares.log() + 0.01 * torch.randn(400, 3) - 0.1 * logits, targets
        low, high = 0.0, 20.0  # the size of the logits whose cross-entropy is that of the shares
        for _ in range(40):
            size = (low + high) / 2
            below = F.cross_entropy(size * logits, targets) < entropy
            low, high = (size, high) if below else (low, size)
        return high * logits, targets

    monitor, caught = feed(make)
    assert len(caught) == warns, monitor.warning


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_warns_of_a_loss_that_is_not_finite(value):
    monitor = CollapseMonitor()
    targets = labels(8)
    sentences = [
        monitor.update(scores(targets), targets, torch.tensor(value if step > 20 else 1.0))
        for step in range(100)
    ]
    assert "not finite" in sentences[49] and not any(sentences[:49] + sentences[50:])


def test_warns_of_logits_that_are_nan():
    monitor, caught = feed(lambda step: (torch.full((8, 3), math.nan), labels(8)))
    assert len(caught) == 1 and "not finite" in monitor.warning


def binary(shape, size):
    def make(step):
        targets = labels(64, (1, 1))
        logits = size * (2 * targets - 1) + torch.randn(64)
        return logits.view(shape), targets.float().view(shape)

    return make


@pytest.mark.parametrize("shape", [(64,), (64, 1)])
def test_one_score_for_two_classes(shape):
    loss_fn = F.binary_cross_entropy_with_logits
    assert feed(binary(shape, 3.0), loss_fn)[0].warning == ""
    below = feed(
        lambda step: (binary(shape, 0.0)(step)[0] - 20, *binary(shape, 0.0)(step)[1:]), loss_fn
    )
    assert "are class 0" in below[0].warning and len(below[1]) == 1


@pytest.mark.parametrize("kind", ["soft", "bfloat16", "float64", "ignored", "uneven", "one"])
def test_other_targets_precisions_and_batch_sizes(kind):
    def make(step):
        n = {"uneven": 64 if step % 5 else 3, "one": 1}.get(kind, 64)
        targets = labels(n)
        logits = scores(targets)
        if kind == "soft":
            targets = 0.8 * F.one_hot(targets, 3) + 0.2 / 3
        if kind == "ignored":
            targets[::3] = -100
        return logits.to(
            getattr(torch, kind, torch.float32)
        ) if "float" in kind else logits, targets

    assert feed(make)[0].warning == ""
    broken = feed(lambda step: (0.001 * torch.randn_like(make(step)[0]), make(step)[1]))
    # Ten batches of one image are too few to tell a floor from a coincidence.
    assert len(broken[1]) == 1 or kind == "one"


def test_labels_that_are_all_ignored_are_no_fault():
    loss = torch.zeros(())
    monitor = CollapseMonitor()
    for _ in range(STEPS):
        monitor(torch.randn(8, 3), torch.full((8,), -100), loss)
    assert monitor.warning == ""


def test_one_class_in_the_data_is_no_collapse():
    targets = torch.zeros(64).long()
    assert feed(lambda step: (scores(targets), targets))[0].warning == ""


def test_a_collapse_that_passes_is_no_collapse():
    def make(step):
        if 100 <= step < 150:
            targets = labels(64)
            return scores(targets), targets
        return uniform(step)

    assert feed(make, steps=250)[0].warning == ""


def test_nothing_is_kept_of_the_graph_and_nothing_is_changed():
    targets = labels(64)
    logits = scores(targets).requires_grad_()
    before = logits.detach().clone(), targets.clone(), torch.get_rng_state()
    monitor = CollapseMonitor()
    for _ in range(55):
        monitor(logits, targets, F.cross_entropy(logits, targets))
    assert not any(getattr(t, "requires_grad", False) for t in vars(monitor).values())
    assert logits.equal(before[0]) and targets.equal(before[1])
    assert torch.get_rng_state().equal(before[2]) and logits.grad is None


class Waits(TorchDispatchMode):
    """Count what waits for the device: numbers and tensors that are brought to the CPU."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = str(function)
        to_cpu = "_to_copy" in name and (options or {}).get("device") == torch.device("cpu")
        self.count += "_local_scalar_dense" in name or "nonzero" in name or to_cpu
        return function(*arguments, **(options or {}))


def test_looking_at_batches_waits_for_nothing_at_all():
    """On the meta device there is nothing to wait for: whoever asks for a number gets an error."""
    monitor = CollapseMonitor()
    for logits, targets in (
        (torch.empty(8, 3, device="meta"), torch.empty(8, dtype=torch.int64, device="meta")),
        (torch.empty(8, 3, device="meta"), torch.empty(8, 3, device="meta")),
    ):
        for _ in range(49):
            monitor(logits, targets, torch.empty((), device="meta"))
        monitor = CollapseMonitor()


def test_the_device_is_asked_for_numbers_only_every_50_steps():
    targets = labels(64)
    logits = scores(targets)
    loss = F.cross_entropy(logits, targets)
    monitor, asked = CollapseMonitor(), []
    for step in range(1, 151):
        with Waits() as waits:
            monitor(logits, targets, loss)
        if waits.count:
            asked.append(step)
    # One transfer of a small tensor; on the CPU `tolist` needs no operation at all.
    assert set(asked) <= {50, 100, 150}


@pytest.mark.parametrize("where", ["logits", "binary"])
def test_judging_asks_for_one_tensor(where, monkeypatch):
    lists = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: lists.append(t) or tolist(t))
    targets = labels(64, (1, 1))
    logits = scores(targets, 2) if where == "logits" else 3.0 * (2 * targets - 1)
    monitor = CollapseMonitor()
    with Waits() as waits:
        for _ in range(50):
            monitor(logits, targets, torch.ones(()))
    assert len(lists) == 1 and waits.count == 0


def test_a_resumed_monitor_counts_on_and_warns_no_second_time():
    monitor = CollapseMonitor()
    monitor.resume(100)
    sentences = [monitor.update(*one_class(0), torch.ones(())) for _ in range(150)]
    assert sentences[-1].startswith("step 250: ") and not any(sentences[:-1])

    after = CollapseMonitor()
    after.resume(250, monitor.warning)
    assert not any(after.update(*one_class(0), torch.ones(())) for _ in range(300))
    assert (after.steps, after.warning) == (550, monitor.warning)


def test_resuming_forgets_what_was_noted_of_another_training():
    monitor = CollapseMonitor()
    for step in range(120):
        monitor.update(*one_class(step), torch.ones(()))
    monitor.resume(0)
    assert not any(monitor.update(*one_class(0), torch.ones(())) for _ in range(149))


def test_resuming_from_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="steps is -1; give the number of batches"):
        CollapseMonitor().resume(-1)


# ---- in fit ----


def data(targets=None, size=20):
    torch.manual_seed(0)
    y = torch.arange(400) % 3
    x = torch.randn(400, 8)
    x[:, :3] += 4 * F.one_hot(y, 3)
    order = torch.randperm(400)
    y = (y if targets is None else targets)[order]
    return list(zip(x[order].split(size), y.split(size), strict=True))


class Nothing(nn.Module):
    """Learns nothing: its output is cut off from its input."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.tensor([5.0, 0, 0]))

    def forward(self, x):
        return self.bias.expand(len(x), 3) + 0 * x[:, :3]


def still(model):
    return torch.optim.SGD(model.parameters(), lr=0.0)


def trained(epochs=8, **options):
    model = Nothing()
    return fit(model, data(), epochs, optimizer=still(model), **QUIET, **options)


def test_fit_notes_a_collapse():
    history = trained()
    assert history.warning.startswith("step 150: 100% of the predictions are class 0")
    assert history.warning in repr(history) and "Warning" in history._repr_html_()


def test_fit_is_silent_in_a_healthy_training():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    history = fit(model, data(), 10, **QUIET)
    assert history.warning == "" and "Warning" not in repr(history)


def test_fit_says_nothing_on_the_terminal_about_it(recwarn):
    trained()
    assert not [w for w in recwarn if w.category is CollapseWarning]


def cut_off(epochs, after, **options):
    """As `trained`, stopped in the epoch after so many, and then resumed; the two histories."""
    model = Nothing()
    options |= {"optimizer": still(model), **QUIET}
    first = fit(model, Interrupted(data(), 20 * after), epochs, **options)
    return first, trained(epochs, resume=True, checkpoint=options["checkpoint"])


def test_the_warning_of_a_training_that_was_cut_off_stays(tmp_path):
    first, second = cut_off(16, 8, checkpoint=tmp_path / "training.pt")
    assert first.warning.startswith("step 150: ")
    assert second.warning == first.warning and len(second.train) == 16


def test_steps_are_counted_on_where_a_training_was_cut_off(tmp_path):
    first, second = cut_off(13, 5, checkpoint=tmp_path / "training.pt")
    assert first.warning == "", "100 steps"
    assert second.warning.startswith("step 250: ")


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 6), (4, 30)])
def test_pixels_and_tokens_are_counted_one_by_one(shape):
    monitor = CollapseMonitor()
    tokens = len(shape) == 2
    targets = torch.randint(3, shape if tokens else (shape[0], *shape[2:]))
    logits = torch.zeros(*targets.shape, 3)
    logits[..., 0] = 9.0
    logits = logits if tokens else logits.movedim(-1, 1)
    targets.flatten()[::5] = 255  # not a class: left out
    for _ in range(150):
        sentence = monitor.update(logits, targets, torch.tensor(1.0))
    assert "100% of the predictions are class 0" in sentence


def test_several_labels_at_once_are_no_collapse():
    monitor = CollapseMonitor()
    targets = (torch.rand(32, 4) < 0.5).float()
    for _ in range(150):
        monitor(torch.full((32, 4), -3.0), targets, torch.tensor(0.5))
    assert monitor.warning == ""


def test_a_few_dozen_of_ten_thousand_classes_in_use_are_no_collapse():
    """A training begins so: a tenth of the classes that a window shows is a hundred of them."""
    torch.manual_seed(0)

    def make(step):
        targets = torch.randint(10_000, (64,))
        logits = torch.zeros(64, 10_000)
        logits[torch.arange(64), torch.randint(40, (64,))] = 3.0
        return logits, targets

    monitor, _ = feed(make, steps=160)
    assert "predictions are class" not in monitor.warning

    def one_class(step):
        logits, targets = make(step)
        logits[:, 7] = 9.0
        return logits, targets

    assert "100% of the predictions are class 7" in feed(one_class, steps=160)[0].warning
