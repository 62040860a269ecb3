"""The callbacks for other people's trainers, with the real libraries where they are."""

import subprocess
import sys
import warnings

import pytest
import torch
import torch.nn.functional as F
from test_diagnose import batches, mlp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from trainers import (
    QUIET_LIGHTNING,
    QUIET_TRANSFORMERS,
    lightning_or_skip,
    small_bert,
    transformers_or_skip,
)

from imbalkit.integrations.watch import Watch, apart, targets_in
from imbalkit.monitor import CollapseWarning

OTHERS = pytest.mark.filterwarnings("ignore:(?!step)")  # the libraries' own, and not ours
IMAGES, LABELS = (torch.cat(parts) for parts in zip(*batches(), strict=True))


def told(train):
    """What `train` returns, and the sentences of its CollapseWarnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = train()
    return result, [str(w.message) for w in caught if issubclass(w.category, CollapseWarning)]


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(a.equal(b) or (a.isnan().equal(b.isnan()) and a.nan_to_num().equal(b.nan_to_num()))
               for a, b in pairs)  # fmt: skip


# ---- Lightning ----


def fitted_by_lightning(rate, callback=None, step="self", **options):
    lightning = lightning_or_skip()

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.loss_fn = mlp(), nn.CrossEntropyLoss()

        def forward(self, x):
            return self.network(x)

        def training_step(self, batch, index):
            x, y = batch
            if step == "returned":
                logits = F.linear(x, self.network[0].weight)[:, :3]
                return {"loss": self.loss_fn(logits, y), "logits": logits, "targets": y}
            if step == "hidden":
                return self.loss_fn(F.linear(x, self.network[0].weight)[:, :3], y)
            return self.loss_fn(self(x) if step == "self" else self.network(x), y)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), rate, momentum=0.9)

    lightning.seed_everything(0, verbose=False)
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=25, callbacks=[callback] if callback else [], **QUIET_LIGHTNING, **options
    )
    trainer.fit(module, DataLoader(TensorDataset(IMAGES, LABELS), 32, shuffle=True))
    return module


def lightning_callback(**options):
    lightning_or_skip()
    from imbalkit.integrations.lightning import CollapseCallback

    return CollapseCallback(**options)


@OTHERS
@pytest.mark.parametrize("step", ["self", "a part"])
def test_lightning_is_told_of_a_collapse_once_and_trains_on_bit_for_bit(step):
    callback = lightning_callback(seconds=5)
    module, sentences = told(lambda: fitted_by_lightning(300.0, callback, step))
    (sentence,) = sentences
    assert sentence.startswith("step ") and "learning_rate_too_high" in sentence
    assert callback.report.cause == "learning_rate_too_high", callback.report
    assert "nothing changed" not in callback.report.not_checked
    assert same_weights(module, fitted_by_lightning(300.0, step=step))
    assert not module._forward_hooks and not module.network._forward_hooks


@OTHERS
def test_lightning_is_left_alone_where_it_learns():
    callback = lightning_callback()
    module, sentences = told(lambda: fitted_by_lightning(0.02, callback))
    assert not sentences and callback.report is None and callback.monitor.steps == 200
    assert same_weights(module, fitted_by_lightning(0.02))
    assert not module._forward_hooks and not module.network._forward_hooks


@OTHERS
def test_the_doctor_can_be_left_out():
    callback = lightning_callback(diagnose=False)
    _, sentences = told(lambda: fitted_by_lightning(300.0, callback))
    assert len(sentences) == 1 and callback.report is None


@OTHERS
def test_a_training_step_can_return_its_logits_or_else_is_told_that_nothing_was_seen():
    callback = lightning_callback()
    fitted_by_lightning(0.02, callback, "returned", accumulate_grad_batches=2)
    assert callback.monitor.steps == 200
    callback = lightning_callback()
    with pytest.warns(UserWarning, match="saw no scores with labels"):
        fitted_by_lightning(0.02, callback, "hidden")


@OTHERS
def test_what_the_doctor_cannot_do_is_a_sentence_and_the_training_goes_on():
    callback = lightning_callback(forward=lambda model, batch: model(batch["image"]))
    module, (sentence,) = told(lambda: fitted_by_lightning(300.0, callback))
    assert "It could not look: " in sentence and callback.report is None
    assert same_weights(module, fitted_by_lightning(300.0))


# ---- Hugging Face ----


def fitted_by_transformers(folder, rate, callback=None, **options):
    transformers, (model, rows) = transformers_or_skip(), small_bert()
    options = QUIET_TRANSFORMERS | {"disable_tqdm": True} | options
    trainer = transformers.Trainer(
        model,
        transformers.TrainingArguments(str(folder), learning_rate=rate, **options),
        train_dataset=rows,
        callbacks=[callback] if callback else [],
    )
    trainer.train()
    return trainer.model


def transformers_callback(**options):
    transformers_or_skip()
    from imbalkit.integrations.huggingface import CollapseCallback

    return CollapseCallback(**options)


@OTHERS
@pytest.mark.parametrize(
    "options", [{}, {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}]
)
def test_transformers_is_told_of_a_collapse_once_and_trains_on_bit_for_bit(options, tmp_path):
    callback = transformers_callback(seconds=5)
    model, sentences = told(lambda: fitted_by_transformers(tmp_path, 30.0, callback, **options))
    (sentence,) = sentences
    assert sentence.startswith("step ") and "It says: " in sentence
    assert not callback.report.healthy, callback.report
    assert "nothing changed" not in callback.report.not_checked
    assert same_weights(model, fitted_by_transformers(tmp_path, 30.0, **options))
    assert not model._forward_hooks


@OTHERS
def test_transformers_is_left_alone_where_it_learns(tmp_path):
    callback = transformers_callback()
    options = {"gradient_accumulation_steps": 2, "eval_strategy": "no"}
    model, sentences = told(lambda: fitted_by_transformers(tmp_path, 0.01, callback, **options))
    assert not sentences and callback.report is None and callback.monitor.steps == 240
    assert same_weights(model, fitted_by_transformers(tmp_path, 0.01, **options))
    assert not model._forward_hooks


@OTHERS
def test_labels_that_the_trainer_keeps_from_the_model_are_told(tmp_path):
    callback = transformers_callback()
    with pytest.warns(UserWarning, match="saw no scores with labels"):
        fitted_by_transformers(tmp_path, 0.01, callback, label_smoothing_factor=0.1)


@OTHERS
def test_another_rank_than_the_first_neither_watches_nor_warns():
    from types import SimpleNamespace

    model, state = mlp(), SimpleNamespace(is_world_process_zero=False, global_step=0)
    transformers_callback().on_train_begin(None, state, None, model=model)
    trainer = SimpleNamespace(is_global_zero=False, global_step=0, accumulate_grad_batches=1)
    lightning_callback().on_train_start(trainer, model)
    assert not model._forward_hooks and not model[0]._forward_hooks


# ---- what they share ----


@pytest.mark.parametrize("name", ["huggingface", "lightning"])
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(name):
    hidden = "transformers lightning pytorch_lightning".split()
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        f"hidden = {hidden}; sys.modules.update(dict.fromkeys(hidden))\n"
        "u.find_spec = lambda name, *more: None if name in hidden else find(name, *more)\n"
        f"import imbalkit.integrations.{name}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    library = {"huggingface": "transformers"}.get(name, name)
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: imbalkit.integrations.{name} needs {library}, which is not "
        f"installed; run pip install {library}."
    )


def test_an_argument_that_diagnose_does_not_have_is_refused_at_once():
    with pytest.raises(TypeError, match="los_fn"):
        Watch(los_fn=F.cross_entropy)


@pytest.mark.parametrize(
    ("batch", "number"),
    [
        ((IMAGES, LABELS), 1),
        ((torch.arange(256), IMAGES, LABELS), 2),
        ((IMAGES, LABELS, torch.arange(256)), 1),
        ({"pixel_values": IMAGES, "labels": LABELS}, "labels"),
        (IMAGES, None),
        ([IMAGES], None),
        ({}, None),
    ],
)
def test_the_targets_of_a_batch(batch, number):
    found = targets_in(batch)
    assert found is None if number is None else found is batch[number]


def test_scores_are_told_from_losses_metrics_and_features():
    watch, scores = Watch(), torch.randn(8, 3)
    labels = torch.arange(8) % 3
    assert watch.scores((torch.randn(8, 16), scores), labels).equal(scores)
    for other in (torch.tensor(0.5), torch.randn(8), torch.randn(8, 4, 2), labels, "text", None):
        assert watch.scores(other, labels) is None
    assert watch.scores(scores, None) is None
    assert watch.scores(scores[:, 0], (labels > 1).float()) is not None
    assert watch.scores(torch.randn(8, 3, 5, 5), torch.zeros(8, 5, 5).long()) is not None


def test_a_compiled_model_is_not_watched_and_not_compiled_again():
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    class Counting(Watch):
        def saw(self, module, kwargs, output):
            raise AssertionError("it was called")

    model = mlp()
    watch = Counting()
    watch.begin(model)
    compiled = torch.compile(model, backend=backend)
    for _ in range(5):
        compiled(IMAGES)
    assert len(graphs) == 1
    torch._dynamo.reset()


def test_a_generator_is_not_read_in_the_middle_of_a_training():
    watch, model = Watch(), mlp()
    watch.begin(model)
    watch.monitor.warning = "step 150: x."
    left = iter(batches())
    with pytest.warns(CollapseWarning, match=r"step 150: x\. It was not called"):
        watch.tell(model, left, None, 1)
    assert len(list(left)) == len(batches()) and not model._forward_hooks and not watch.collapsed


def test_a_loader_that_somebody_reads_is_read_apart():
    loader = DataLoader(TensorDataset(IMAGES, LABELS), 32, num_workers=1, persistent_workers=True)
    reading = iter(loader)
    next(reading)
    assert len(list(apart(loader))) == 8 and loader._iterator is reading
    assert len(list(reading)) == 7
