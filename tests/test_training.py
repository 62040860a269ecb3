import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from imbalkit import metrics, training
from imbalkit.data import Batches, RandomCrop, RandomFlip
from imbalkit.losses import WeightedCrossEntropy
from imbalkit.sampling import ProgressiveSampler
from imbalkit.training import (
    History,
    NonFiniteLossError,
    constant,
    evaluate,
    fit,
    predict,
    sgd,
    warmup_cosine,
    warmup_linear,
)

CPU = torch.device("cpu")


def small_model():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
        torch.nn.Dropout(0.1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(8, 3),
    )  # fmt: skip


def batches_of(image_set, **options):
    options = {"shuffle": True, "augment": [RandomCrop(), RandomFlip()], **options}
    return Batches(image_set, 16, mean=[0.5] * 3, std=[0.25] * 3, device=CPU, **options)


def fixed(image_set):
    return batches_of(image_set, shuffle=False, augment=[])


def run(image_set, model=None, epochs=4, **options):
    model = model or small_model()
    torch.manual_seed(2)
    options = {"val_batches": fixed(image_set), "device": CPU, **options}
    return model, fit(model, batches_of(image_set), epochs, **options)


def weights(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


def assert_same_weights(a, b):
    for key, value in a.items():
        assert value.equal(b[key]), key


def test_fit_learns_and_records(tiny_set):
    _, history = run(tiny_set, epochs=8)
    assert history.validation[history.best_epoch - 1]["balanced_accuracy"] > 0.95
    assert len(history.train) == len(history.validation) == 8
    for record in history.train + history.validation:
        assert {"loss", "macro_f1", "balanced_accuracy", "accuracy", "recall"} <= set(record)
    assert history.shares.shape == (8 * 4, 3)
    torch.testing.assert_close(history.shares.sum(1), torch.ones(32))
    assert history.stopped == "finished" and history.seconds > 0


def test_the_training_figures_are_those_of_the_batches(tiny_set):
    """With learning rate 0 and no augmentation, training sees what evaluation sees."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))
    history = fit(model, fixed(tiny_set), 1, optimizer=sgd(model, lr=0.0), device=CPU)
    record = evaluate(model, fixed(tiny_set), CPU)
    assert history.train[0]["loss"] == pytest.approx(record["loss"], rel=0.02)  # bfloat16
    assert history.train[0]["recall"] == record["recall"]
    shares = history.shares[:3].mean(0) * 48 + history.shares[3] * 12
    torch.testing.assert_close(
        shares / 60, torch.tensor(record["predicted_share"]), check_dtype=False
    )


def test_the_model_ends_with_the_best_epochs_weights(tiny_set):
    scores = iter([0.1, 0.9, 0.3])
    snapshots = []
    model = small_model()

    def monitor(confusion):
        snapshots.append(weights(model))
        return next(scores)

    _, history = run(tiny_set, model, epochs=3, monitor=monitor)
    assert history.best_epoch == 2
    assert_same_weights(model.state_dict(), snapshots[1])


def test_without_validation_the_model_keeps_its_last_weights(tiny_set):
    model, history = run(tiny_set, val_batches=None)
    assert history.validation == [] and history.best_epoch == 0
    other, _ = run(tiny_set, val_batches=None)
    assert_same_weights(model.state_dict(), other.state_dict())


@pytest.mark.parametrize("monitor", [*training.MONITORS, metrics.recall_of([2])])
def test_every_monitor_picks_the_epoch_that_is_best_by_it(tiny_set, monitor):
    _, history = run(tiny_set, monitor=monitor)
    scores = [training.score_of(r, monitor) for r in history.validation]
    assert history.best_epoch == scores.index(max(scores)) + 1
    if monitor == "loss":
        losses = [r["loss"] for r in history.validation]
        assert history.best_epoch == losses.index(min(losses)) + 1


def test_patience_stops_early(tiny_set):
    scores = iter([0.5, 0.6, 0.4, 0.4, 0.4, 0.4])
    _, history = run(tiny_set, epochs=6, patience=2, monitor=lambda confusion: next(scores))
    assert len(history.train) == 4 and history.best_epoch == 2 and history.stopped == "early"


def test_a_resumed_training_goes_on_bit_for_bit(tiny_set, tmp_path):
    whole, expected = run(tiny_set, epochs=5)

    class PowerCut(Exception):
        pass

    def cut_after(epochs):
        calls = []

        def monitor(confusion):
            calls.append(1)
            if len(calls) > epochs:
                raise PowerCut
            return metrics.summary(confusion)["balanced_accuracy"]

        return monitor

    file = tmp_path / "run.pt"
    with pytest.raises(PowerCut):
        run(tiny_set, epochs=5, checkpoint=file, monitor=cut_after(2))
    torch.manual_seed(99)  # another process has another random state
    model = small_model()
    history = fit(
        model, batches_of(tiny_set), 5,
        val_batches=fixed(tiny_set), checkpoint=file, resume=True, device=CPU,
    )  # fmt: skip
    assert_same_weights(model.state_dict(), whole.state_dict())
    assert history.train == expected.train and history.validation == expected.validation
    assert history.shares.equal(expected.shares)


def test_a_mix_that_changes_with_the_epochs_is_the_same_after_somebody_looked_at_it(tiny_set):
    def train(looked_at):
        sampler = ProgressiveSampler(tiny_set.labels, 2)
        batches = batches_of(tiny_set, shuffle=False, sampler=sampler)
        if looked_at:
            next(iter(batches))
        torch.manual_seed(3)
        model = small_model()
        fit(model, batches, 2, device=CPU, show_progress=False)
        return model.state_dict()

    assert_same_weights(train(looked_at=True), train(looked_at=False))


def test_resuming_a_finished_training_changes_nothing(tiny_set, tmp_path):
    model, history = run(tiny_set, checkpoint=tmp_path / "run.pt")
    again, second = run(tiny_set, checkpoint=tmp_path / "run.pt", resume=True)
    assert_same_weights(model.state_dict(), again.state_dict())
    assert second.train == history.train


def test_without_resume_a_checkpoint_is_overwritten_not_read(tiny_set, tmp_path):
    file = tmp_path / "run.pt"
    file.write_bytes(b"old")
    _, history = run(tiny_set, epochs=2, checkpoint=file)
    assert len(history.train) == 2 and file.stat().st_size > 1000
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupt_keeps_the_best_weights_so_far(tiny_set):
    model, snapshots = small_model(), []

    def monitor(confusion):
        snapshots.append(weights(model))
        if len(snapshots) == 3:
            raise KeyboardInterrupt
        return [0.9, 0.1][len(snapshots) - 1]

    _, history = run(tiny_set, model, monitor=monitor)
    assert history.stopped == "interrupted" and history.best_epoch == 1
    assert_same_weights(model.state_dict(), snapshots[0])
    assert "interrupted" in str(history)


def test_a_non_finite_loss_names_step_epoch_and_cause(tiny_set):
    calls = []

    def loss_fn(logits, targets):
        calls.append(1)
        loss = F.cross_entropy(logits, targets)
        return loss * float("nan") if len(calls) == 7 else loss

    model = small_model()
    with pytest.raises(NonFiniteLossError, match=r"step 3 of epoch 2.*learning rate is too high"):
        run(tiny_set, model, loss_fn=loss_fn)
    assert all(p.isfinite().all() for p in model.parameters()), "the best weights come back"


def test_a_non_finite_loss_is_noticed_within_the_epoch(tiny_set, monkeypatch):
    monkeypatch.setattr(training, "STEPS_BETWEEN_CHECKS", 2)
    calls = []

    def loss_fn(logits, targets):
        calls.append(1)
        return F.cross_entropy(logits, targets) * float("inf")

    with pytest.raises(NonFiniteLossError, match="step 1 of epoch 1"):
        run(tiny_set, loss_fn=loss_fn)
    assert len(calls) == 2


def test_any_module_loss_and_iterable_will_do(tiny_set):
    inputs, targets = torch.randn(40, 7), torch.randint(0, 4, (40,))
    mlp = torch.nn.Linear(7, 4)
    before = weights(mlp)
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=8, shuffle=True)
    history = fit(mlp, loader, 2, loss_fn=torch.nn.MultiMarginLoss(), device=CPU)
    assert history.shares.shape == (10, 4) and not before["weight"].equal(mlp.weight)
    soft = [(inputs, F.one_hot(targets, 4).float())]
    assert fit(mlp, soft, 1, device=CPU).train[0]["accuracy"] >= 0


def test_the_default_optimizer_and_schedules():
    model = torch.nn.Linear(2, 2)
    group = sgd(model, lr=0.3, weight_decay=0.01).param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.3, 0.9, True)
    assert group["weight_decay"] == 0.01
    assert constant(0) == constant(0.7) == 1
    for schedule in (warmup_cosine, warmup_linear):
        factors = [schedule(i / 100) for i in range(101)]
        assert factors[0] == 0 and abs(factors[-1]) < 1e-9
        assert max(factors) > 0.94 and factors.index(max(factors)) == 5
    assert warmup_linear(0.5) == pytest.approx(0.5) and warmup_cosine(0.75) < warmup_linear(0.75)


def test_the_schedule_is_asked_before_every_step(tiny_set):
    asked = []

    def schedule(progress):
        asked.append(progress)
        return 1.0

    run(tiny_set, epochs=2, schedule=schedule)
    assert asked[:8] == [(i + 0.5) / 8 for i in range(8)]


def test_a_schedule_of_zero_freezes_the_model(tiny_set):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))
    before = weights(model)
    run(tiny_set, model, schedule=lambda progress: 0.0)
    assert_same_weights(before, model.state_dict())


def test_predict_leaves_the_model_as_it_was(tiny_set):
    model = small_model().train()
    before = copy.deepcopy(model.state_dict())
    logits, labels = predict(model, fixed(tiny_set), CPU)
    assert logits.shape == (60, 3) and logits.dtype == torch.float32
    assert labels.equal(tiny_set.labels) and model.training
    assert_same_weights(before, model.state_dict())
    with torch.no_grad():
        images = torch.cat([x for x, _ in fixed(tiny_set)])
        torch.testing.assert_close(logits, model.eval()(images), atol=0.03, rtol=0.03)


@pytest.mark.parametrize(
    "targets, message",
    [
        (torch.tensor([0, 1, 2, 3]), "targets run from 0 to 3 but the model has 3 outputs"),
        (torch.tensor([0, 1, -1, 2]), "targets run from -1 to 2"),
        (torch.tensor([0.0, 1, 2, 0]), "int64 of shape \\(4,\\): use .long()"),
        (torch.tensor([[0], [1], [2], [0]]), "int64 of shape"),
        (torch.tensor([0, 1, 2]), "int64 of shape"),
        (torch.rand(4, 5), "soft targets have shape \\(4, 5\\)"),
    ],
)
def test_targets_that_do_not_fit_are_answered_before_any_update(targets, message):
    model = torch.nn.Linear(7, 3)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        fit(model, [(torch.randn(4, 7), targets)], 1, device=CPU)
    assert_same_weights(before, model.state_dict())


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 2, "val_batches": None}, "patience needs val_batches"),
        ({"monitor": "acuracy"}, "no figure 'acuracy' to monitor; use one of balanced_accuracy"),
        ({"resume": True}, "needs checkpoint="),
    ],
)
def test_arguments_that_cannot_work_are_refused(tiny_set, options, message):
    with pytest.raises(ValueError, match=message):
        run(tiny_set, **options)


def test_batches_that_cannot_be_repeated_are_refused(tiny_set):
    with pytest.raises(ValueError, match="a generator is used up"):
        fit(small_model(), (b for b in fixed(tiny_set)), 1, device=CPU)
    with pytest.raises(ValueError, match="train_batches is empty"):
        fit(small_model(), [], 1, device=CPU)


def test_the_history_prints_a_compact_table(tiny_set):
    _, history = run(tiny_set, epochs=12)
    assert len(history.rows()) <= 6
    for text in (repr(history), history._repr_html_()):
        assert "*" in text and "finished after 12 epochs" in text and "%" in text
        for cell in (cell for row in history.rows() for pair in row.items() for cell in pair):
            assert cell in text
    header, *lines, caption = repr(history).splitlines()
    assert {len(line) for line in lines} == {len(header)} and caption.endswith("kept")


def test_an_epoch_that_was_interrupted_in_its_evaluation_has_empty_cells():
    record = {"loss": 1.0, "accuracy": 0.5, "balanced_accuracy": 0.5}
    history = History(train=[record, record], validation=[record], stopped="interrupted")
    assert [len(row) for row in history.rows()] == [7, 4]
    assert "50.0%" in repr(history) and "interrupted" in history._repr_html_()


def test_a_history_without_an_epoch_prints_its_caption_alone():
    history = History(warning="<b>")
    assert repr(history).startswith("finished after 0 epochs")
    assert "&lt;b&gt;" in history._repr_html_() and "<table" not in history._repr_html_()


class TwoOutputs(torch.nn.Linear):
    """Logits in evaluation mode; in training mode also a second float output and integers."""

    def forward(self, inputs):
        logits = super().forward(inputs)
        if not self.training:
            return logits
        numbers = torch.arange(len(inputs), device=inputs.device)
        return logits, (2 * logits).sum(1), numbers


def test_a_model_may_return_a_tuple_in_training_mode_that_starts_with_the_logits():
    inputs, targets = torch.randn(24, 7), torch.randint(0, 3, (24,))
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=8)
    outputs_seen = []

    def loss_fn(outputs, targets):
        outputs_seen.append(outputs)
        return F.cross_entropy(outputs[0], targets)

    def train(model, loss):
        model.load_state_dict(start)
        return fit(model, loader, 2, loss_fn=loss, val_batches=loader, device=CPU)

    start = weights(torch.nn.Linear(7, 3))
    one, two = torch.nn.Linear(7, 3), TwoOutputs(7, 3)
    expected, history = train(one, F.cross_entropy), train(two, loss_fn)
    assert_same_weights(one.state_dict(), two.state_dict())
    assert history.train == expected.train and history.validation == expected.validation
    assert history.shares.equal(expected.shares)
    for outputs in outputs_seen:
        assert isinstance(outputs, tuple)
        assert [tuple(x.shape) for x in outputs] == [(8, 3), (8,), (8,)]
        # Losses never get bfloat16, and class indices stay what they are.
        assert [x.dtype for x in outputs] == [torch.float32, torch.float32, torch.int64]
    assert predict(two, loader, CPU)[0].shape == (24, 3)


def test_half_precision_outputs_reach_the_loss_in_float32():
    seen = []

    def loss_fn(outputs, targets):
        seen.extend(x.dtype for x in outputs)
        return F.cross_entropy(outputs[0], targets)

    class Half(TwoOutputs):
        def forward(self, inputs):
            logits, second, numbers = super().forward(inputs)
            return logits.bfloat16(), second.half(), numbers

    inputs, targets = torch.randn(4, 7), torch.tensor([0, 1, 2, 0])
    fit(Half(7, 3), [(inputs, targets)], 1, loss_fn=loss_fn, device=CPU)
    assert seen == [torch.float32, torch.float32, torch.int64]


def test_targets_are_checked_against_the_logits_of_a_tuple():
    with pytest.raises(ValueError, match="targets run from 0 to 3 but the model has 3 outputs"):
        fit(TwoOutputs(7, 3), [(torch.randn(4, 7), torch.arange(4))], 1, device=CPU)


def test_a_loss_module_goes_to_the_device_with_its_class_weights():
    """The meta device stands for a GPU; there is nothing to compute, so the first step ends it."""

    class Reached(Exception):
        pass

    class Loss(WeightedCrossEntropy):
        def forward(self, logits, targets):
            assert super().forward(logits, targets).device == logits.device == self.weight.device
            raise Reached

    meta = torch.device("meta")
    loss = Loss(torch.ones(3))
    with pytest.raises(Reached):
        fit(torch.nn.Linear(7, 3), [(torch.randn(4, 7), torch.arange(4) % 3)], 1,
            loss_fn=loss, device=meta)  # fmt: skip
    assert loss.weight.device == meta


# --- many classes


def many(classes, steps=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(steps * 20, 6, generator=generator)
    y = torch.randint(classes, (steps * 20,), generator=generator)
    return list(zip(x.split(20), y.split(20), strict=True))


def test_a_checkpoint_does_not_grow_with_the_classes_times_steps_or_classes(tmp_path):
    """It grew by C x C numbers an epoch and C numbers a step: 2.4 MB and 8 MB here."""
    classes, file = 2_000, tmp_path / "run.pt"
    model = torch.nn.Linear(6, classes)
    sizes = []
    for patience in (1, 4):  # epochs, as the score is always the same
        options = {"val_batches": many(classes), "monitor": lambda confusion: 0.0}
        history = fit(
            model, many(classes), 9, patience=patience, checkpoint=file, resume=True, device=CPU,
            show_progress=False, **options,
        )  # fmt: skip
        sizes.append(file.stat().st_size)
    assert len(history.train) == 5 and history.shares.shape == (15, 0)
    assert "confusion" not in history.validation[0] and len(history.train[0]["recall"]) == classes
    assert (sizes[1] - sizes[0]) / 3 < 60 * classes


def test_a_monitor_of_the_matrix_gets_it_with_many_classes_too():
    classes, seen = 300, []
    model = torch.nn.Linear(6, classes)

    def monitor(confusion):
        seen.append(confusion)
        return metrics.recall_of([1, 2])(confusion)

    batches = many(classes)
    history = fit(
        model, batches, 1, val_batches=batches, monitor=monitor, device=CPU, show_progress=False
    )
    record = evaluate(model, batches, CPU)
    assert record.pop("confusion") == [list(row) for row in seen[0]]
    assert history.validation == [record]


def test_an_epoch_of_many_classes_makes_no_matrix(monkeypatch):
    monkeypatch.setattr(metrics, "confusion", None)
    model = torch.nn.Linear(6, 20_000)  # whose matrix would take 3.2 GB
    batches = many(20_000)
    history = fit(model, batches, 1, val_batches=batches, device=CPU, show_progress=False)
    assert len(history.validation[0]["recall"]) == 20_000


@pytest.mark.parametrize("wrong", [-3, math.nan, math.inf, "fast"])
@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_the_optimizer_is_not_made_with_a_wrong_number(name, wrong):
    with pytest.raises(ValueError, match=f"^{name} is .*it must be a number from 0 on"):
        sgd(nn.Linear(2, 2), **{name: wrong})


@pytest.mark.parametrize("schedule", [warmup_cosine, warmup_linear])
@pytest.mark.parametrize("wrong", [math.inf, -math.inf, math.nan])
def test_a_schedule_refuses_a_share_that_is_none(schedule, wrong):
    with pytest.raises(ValueError, match="progress is"):
        schedule(wrong)
