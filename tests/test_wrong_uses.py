"""Wrong uses of `fit` and its neighbours end in one sentence, and leave the model as it was; what
can simply be made to work works."""

import copy
import errno
import inspect
import math
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from imbalkit import decisions, intake, losses, metrics, priors, stages
from imbalkit.models import Classifier
from imbalkit.monitor import CollapseMonitor
from imbalkit.training import NonFiniteLossError, evaluate, fit, predict, sgd

X = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 4
PAIR = [(X, Y)]
NAN, INF = math.nan, math.inf


class Net(nn.Module):
    """A small network whose answer may be spoiled by `f`."""

    def __init__(self, f=lambda logits: logits, channels=3, classes=4):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, classes),
        )  # fmt: skip
        self.f = f

    def forward(self, images):
        return self.f(self.layers(images))


def frozen():
    return Net().requires_grad_(False)


def spoiled():
    net = Net()
    net.layers[0].weight.data[0] = NAN
    return net


class Once:
    """Has a length, and one pass."""

    def __init__(self, batches):
        self.left = iter(batches)

    def __len__(self):
        return 1

    def __iter__(self):
        return self.left


class Stream(IterableDataset):
    """Images of a source that does not know how many they are."""

    def __iter__(self):
        yield from zip(X, Y, strict=True)


class Short(Dataset):
    """Raises StopIteration where another would raise an error."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        if i == 5:
            raise StopIteration
        return X[i], Y[i]


class TooMany(list):
    def __len__(self):
        return 1


def run(model=None, batches=PAIR, epochs=2, **options):
    return fit(model or Net(), batches, epochs, show_progress=False, device="cpu", **options)


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text and 20 < len(text) < 500, text
    assert text.endswith((".", "'")) or "Got: " in text, text  # the last as torch has it
    return text


# --- fit: before anything of the model is touched

BATCHES = {
    "a dict": ([{"image": X, "label": Y}], "a dict with the keys image, label; each batch must be"),
    "three parts": ([(X, Y, Y)], "a tuple of 3; each batch must be a pair"),
    "images alone": ([X], "float32 (8, 3, 4, 4); each batch must be a pair"),
    "a tensor": (X, "train_batches is float32 (8, 3, 4, 4); pass a DataLoader"),
    "an array": (X.numpy(), "train_batches is float32 (8, 3, 4, 4); pass a DataLoader"),
    "a pair in place of batches": ((X, Y), "each batch must be a pair"),
    "text": ("train", "train_batches is 'train'; pass"),
    "nothing": (None, "train_batches is None; pass"),
    "a number": (8, "train_batches is 8; pass"),
    "a dict of batches": ({"train": PAIR}, "train_batches is a dict with the keys train; pass"),
    "a data set": (TensorDataset(X, Y), "one image and not a batch: its target is int64 ()"),
    "a loader of single images": (DataLoader(TensorDataset(X, Y), None), "one image and not a"),
    "a generator": ((b for b in PAIR), "a generator is used up after one epoch"),
    "a loader without a length": (DataLoader(Stream(), 4), "with steps_per_epoch=."),
    "no batch": ([], "train_batches is empty; check"),
    "an empty batch": ([(X[:0], Y[:0])], "batch 1 of train_batches is empty; leave it out."),
    "words as labels": ([(X, ["cat", "dog"] * 4)], "number the classes from 0; give numbers"),
    "labels that are missing": ([(X, [None] * 8)], "the targets are a list of 8; give numbers"),
    "a label too few": ([(X, Y[:7])], "int64 of shape (8,): give one for each image."),
    "labels in a column": ([(X, Y[:, None])], "int64 of shape (8,): use .flatten()."),
    "labels as floats": ([(X, Y.float())], "int64 of shape (8,): use .long()."),
    "one-hot rows of integers": ([(X, F.one_hot(Y, 4))], "use .argmax(1) of rows with a single 1"),
    "labels from 1": ([(X, Y + 1)], "targets run from 1 to 4 but the model has 4 outputs"),
    "labels of -1": ([(X, Y - 1)], "targets run from -1 to 2"),
    "soft targets of 3 classes": ([(X, torch.rand(8, 3))], "soft targets have shape (8, 3)"),
    "images of two sizes": (
        [([X[0], X[1, :, :2]], [0, 1])], "the images are of different shapes or kinds; bring them"
    ),
    "lists of two lengths": ([([[1.0], [1.0, 2.0]], [0, 1])], "of different shapes or kinds"),
    "grey images": ([(X[:, :1], Y)], "with images.expand(-1, 3, -1, -1)."),
    "grey images without a channel": ([(X[:, 0], Y)], "give images (N, channels, H, W)."),
    "whole numbers as images": ([((9 * X).int(), Y)], "images int32 (8, 3, 4, 4) and targets"),
    "complex images": ([(X + 1j, Y)], "images complex64"),
    "NaN in an image": ([(X.masked_fill(X > 2, NAN), Y)], "the first images hold NaN, infinite or"),
    "images of 1e30": ([(1e30 * X, Y)], "far too large numbers (up to 4e+30)"),
    "one image under BatchNorm": (
        [(X[:1, :, :3, :3], Y[:1])], "drop_last=True or another batch size."
    ),
}  # fmt: skip
ANSWERS = {
    "a dict": (lambda z: {"logits": z}, "the model returns a dict with the keys logits"),
    "nothing": (lambda z: None, "the model returns None; it must return logits"),
    "an empty tuple": (lambda z: (), "the model returns a tuple of 0; it must"),
    "a tuple, for a plain loss": (lambda z: (z, z), "loss_fn gets the whole of it."),
    "one number an image": (
        lambda z: z[:, 0],
        "float32 (8,); it must return logits, floats (N, C)",
    ),
    "classes": (lambda z: z.argmax(1), "returns int64 (8,); it must return logits"),
    "whole numbers": (lambda z: z.round().long(), "returns int64 (8, 4)"),
    "a map": (lambda z: z[:, :, None, None], "returns float32 (8, 4, 1, 1)"),
    "another number of rows": (lambda z: z[:5], "int64 of shape (5,): give one for each image"),
    "an array": (lambda z: z.detach().numpy(), "the model returns float32 (8, 4); it must return"),
    "without gradient": (lambda z: z.detach(), "the loss has no gradient: something"),
    "one output": (lambda z: z[:, :1], "targets run from 0 to 3 but the model has 1 outputs"),
    "an error": (lambda z: z.nothing, "has no attribute 'nothing'"),
}
LOSSES = {
    "(N,)": (nn.CrossEntropyLoss(reduction="none"), "loss_fn returns float32 (8,); it must return"),
    "nothing": (lambda z, y: None, "loss_fn returns None; it must return a tensor"),
    "a float": (lambda z, y: 0.5, "loss_fn returns 0.5; it must"),
    "a tuple": (lambda z, y: (z.sum(), y), "loss_fn returns a tuple of 2; it must"),
    "the class itself": (nn.CrossEntropyLoss, "loss_fn is the class CrossEntropyLoss itself"),
    "its name": ("focal", "loss_fn is 'focal'; give a function or a loss"),
    "detached": (lambda z, y: F.cross_entropy(z, y).detach(), "the loss has no gradient"),
    "of another shape": (nn.BCEWithLogitsLoss(), "must be the same as input size"),
    "another argument": (lambda z: z.sum(), "takes 1 positional argument but 2 were given."),
    "for other classes": (losses.LDAMLoss([5, 4]), "counts has 2 entries but the model 4 outputs"),
    "weights of other classes": (nn.CrossEntropyLoss(torch.ones(3)), "weight tensor should be"),
}


def leave_the_model(call, model):
    """The sentence of a call that fails and must not change the model."""
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num()), name
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())
    return one_sentence(error)


@pytest.mark.parametrize("kind", BATCHES)
def test_batches_that_cannot_be_used(kind):
    batches, message = BATCHES[kind]
    model = Net().eval()
    assert message in leave_the_model(lambda: run(model, batches), model)


@pytest.mark.parametrize("kind", ANSWERS)
def test_models_that_answer_otherwise(kind):
    model = Net(ANSWERS[kind][0])
    assert ANSWERS[kind][1] in leave_the_model(lambda: run(model), model)


@pytest.mark.parametrize("kind", LOSSES)
def test_losses_that_give_no_number(kind):
    model = Net()
    call = lambda: run(model, loss_fn=LOSSES[kind][0])  # noqa: E731
    assert LOSSES[kind][1] in leave_the_model(call, model)


ARGUMENTS = {
    "no epoch": ({"epochs": 0}, "epochs is 0; give a whole number of 1 or more."),
    "half an epoch": ({"epochs": 2.5}, "epochs is 2.5; give a whole number"),
    "epochs as text": ({"epochs": "3"}, "epochs is '3'"),
    "True epochs": ({"epochs": True}, "epochs is True"),
    "no steps": ({"steps_per_epoch": 0}, "steps_per_epoch is 0; give"),
    "no patience": ({"patience": 0, "val_batches": PAIR}, "patience is 0; give a whole number"),
    "patience alone": ({"patience": 2}, "patience needs val_batches"),
    "another monitor": ({"monitor": "acuracy"}, "no figure 'acuracy' to monitor"),
    "no monitor": ({"monitor": None}, "no figure None to monitor"),
    "no validation batch": ({"val_batches": []}, "val_batches is empty; leave it out"),
    "a validation generator": ({"val_batches": iter(PAIR)}, "val_batches is a generator, which is"),
    "a validation set": ({"val_batches": X}, "val_batches is float32 (8, 3, 4, 4); pass"),
    "validation dicts": ({"val_batches": [{"x": X}]}, "batch 1 of val_batches is a dict with the"),
    "a validation data set": (
        {"val_batches": DataLoader(TensorDataset(X, Y), None)}, "val_batches is one image and not"
    ),
    "no optimizer made": ({"optimizer": torch.optim.SGD}, "optimizer is the class SGD itself"),
    "a rate for an optimizer": ({"optimizer": 0.1}, "optimizer is 0.1; give one that has been"),
    "a schedule object": ({"schedule": "cosine"}, "schedule is 'cosine'; give a function"),
    "a schedule of NaN": ({"schedule": lambda share: NAN}, "the schedule gives nan when 25% of"),
    "a schedule of nothing": ({"schedule": lambda share: None}, "the schedule gives None when"),
    "a schedule below 0": ({"schedule": lambda share: -1.0}, "the schedule gives -1.0 when 25%"),
    "resume alone": ({"resume": True}, "resume=True needs checkpoint="),
    "a checkpoint that is a folder": ({"checkpoint": "."}, "cannot be written: it is a folder"),
    "a checkpoint without a name": ({"checkpoint": ""}, "cannot be written: it is a folder"),
    "a checkpoint in a file": (
        {"checkpoint": f"{__file__}/run.pt"}, "cannot be written: a file stands where"
    ),
    "a checkpoint of a long name": ({"checkpoint": "x" * 300}, "cannot be written: File name too"),
    "a checkpoint of a null": ({"checkpoint": "a\0b"}, "cannot be written: embedded null"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_arguments_that_cannot_work(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options, message = ARGUMENTS[kind]
    model = Net()
    assert message in leave_the_model(lambda: run(model, **options), model)
    assert list(tmp_path.iterdir()) == []


MODELS = {
    "frozen": (frozen(), "no parameter can learn: the model has none, or all have"),
    "without parameters": (nn.Flatten(), "no parameter can learn"),
    "NaN": (spoiled(), "the model's layers.0.weight is NaN before the training"),
    "the class itself": (Net, "model is the class Net itself; give a torch.nn.Module."),
    "a function": (lambda x: x, "model is a function; give a torch.nn.Module."),
    "its name": ("resnet18", "model is 'resnet18'"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_that_cannot_learn(kind):
    with pytest.raises((TypeError, ValueError)) as error:
        run(MODELS[kind][0])
    assert MODELS[kind][1] in one_sentence(error)


def test_one_output_and_one_class_are_no_training():
    """Torch's cross-entropy is 0 then, at every step."""
    with pytest.raises(ValueError, match="one output, and the softmax of one is always 1") as error:
        run(Net(classes=1), [(X, 0 * Y)])
    one_sentence(error)


def test_another_models_optimizer_is_warned_of():
    """Lesson 01 shows such a training, so it is no error."""
    with pytest.warns(UserWarning, match="holds no parameter of the model, so nothing will be"):
        run(Net(), optimizer=sgd(Net()))


def test_optimizers_that_cannot_train():
    model = Net()
    with pytest.raises(ValueError, match="LBFGS computes the loss several times a step") as error:
        run(model, optimizer=torch.optim.LBFGS(model.parameters()))
    one_sentence(error)
    model.layers[0].requires_grad_(False)
    with pytest.raises(ValueError, match="holds have requires_grad=False; give it those") as error:
        run(model, optimizer=torch.optim.SGD(model.layers[0].parameters()))
    one_sentence(error)


@pytest.mark.parametrize("device", ["gpu", "cuda", 3.5, "cpu:x"])
def test_a_device_that_is_not_there(device):
    for call in (lambda: fit(Net(), PAIR, 1, device=device), lambda: predict(Net(), PAIR, device)):
        with pytest.raises(
            ValueError, match=r"cannot be used here; give one such as 'cpu'"
        ) as error:
            call()
        one_sentence(error)


# --- fit: what shows only later


def test_an_iterable_that_is_used_up_is_told():
    with pytest.raises(ValueError, match="epoch 2: there were 0 batches in place of 1; an iter"):
        run(batches=Once(PAIR))


def test_a_data_set_that_raises_stop_iteration_does_not_end_an_epoch_in_silence():
    loader = DataLoader(Short(), 2)
    with pytest.raises(ValueError, match=r"there were 2 batches in place of 4; .* StopIteration"):
        run(batches=loader)
    with pytest.raises(ValueError, match="the evaluation: there were 2 batches in place of 4"):
        evaluate(Net(), loader)


def test_more_batches_than_the_length_says_are_told_before_the_rate_turns_negative():
    with pytest.raises(ValueError, match="more batches than its length 1 says; mend __len__"):
        run(batches=TooMany([*PAIR, *PAIR]))


@pytest.mark.parametrize(
    "last, message",
    [
        ((X[:0], Y[:0]), "batch 2 of train_batches is empty"),
        ((X[:1, :, :3, :3], Y[:1]), "batch 2 of train_batches, images float32 .* drop_last=True"),
        ((X, Y + 4), "batch 2|targets run from 4 to 7"),
        ({"x": X}, "batch 2 of train_batches is a dict"),
    ],
)
def test_a_later_batch_that_cannot_be_used_is_named(last, message):
    with pytest.raises(ValueError, match=message) as error:
        run(batches=[*PAIR, last])
    one_sentence(error)


def test_an_error_of_a_step_that_went_well_before_stays_what_it_is():
    calls = []

    def loss_fn(logits, targets):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("the GPU fell off the bus")
        return F.cross_entropy(logits, targets)

    with pytest.raises(RuntimeError, match=r"^the GPU fell off the bus$"):
        run(loss_fn=loss_fn)


def test_too_little_memory_stays_what_it_is():
    def loss_fn(logits, targets):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        run(loss_fn=loss_fn)


@pytest.mark.parametrize("figure", [None, "high", [0.1, 0.2]])
def test_a_monitor_that_gives_no_number(figure):
    with pytest.raises(TypeError, match=r"monitor returns .*; it must return one num") as error:
        run(val_batches=PAIR, monitor=lambda confusion: figure)
    one_sentence(error)


# --- what can simply be made to work

IMAGES = (255 * torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(3))).byte()


def trained(batches, **options):
    model = Net()
    history = run(model, batches, **options)
    return [*model.state_dict().values()], history.train


def assert_same_training(one, other):
    assert all(a.equal(b) for a, b in zip(one[0], other[0], strict=True)) and one[1] == other[1]


FORMS = {
    "labels in a list": (X, Y.tolist()),
    "labels in an array": (X, Y.numpy()),
    "labels as int32": (X, Y.int()),
    "labels as int16": (X, Y.short().numpy()),
    "labels as uint8": (X, Y.byte()),
    "labels as tensors in a list": (X, list(Y)),
    "images in an array": (X.numpy(), Y),
    "images in a list": (X.tolist(), Y),
    "images as tensors in a list": (list(X), list(Y)),
    "images as float64": (X.double(), Y),
    "an array that is read backwards": (X.flip(0).numpy()[::-1], Y),
    "an array of the other byte order": (X.numpy().astype(">f4"), Y),
    "a list as the pair": [X, Y],
}


@pytest.mark.parametrize("kind", FORMS)
def test_lists_and_arrays_train_the_same_model(kind):
    batch = FORMS[kind]
    assert_same_training(trained([batch]), trained(PAIR))
    assert evaluate(Net(), [batch]) == evaluate(Net(), PAIR)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, torch.float64])
def test_soft_targets_of_any_float(dtype):
    soft = F.one_hot(Y, 4).float()
    other = soft.to(dtype) if isinstance(dtype, torch.dtype) else soft.numpy().astype(dtype)
    assert_same_training(trained([(X, other)]), trained([(X, soft)]))


PICTURES = {
    "bytes": (IMAGES, "uint8 (8, 3, 32, 32), which the model does not take; it gets them divided"),
    "bytes with the channel last": (
        IMAGES.permute(0, 2, 3, 1), "divided by 255 and with the channel first"
    ),
    "an array of such bytes": (
        IMAGES.permute(0, 2, 3, 1).numpy(), "divided by 255 and with the channel first"
    ),
    "the channel last": (
        (IMAGES.float() / 255).permute(0, 2, 3, 1), "it gets them with the channel first"
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICTURES)
def test_bytes_and_the_channel_last_work_with_a_word(kind):
    images, word = PICTURES[kind]
    expected = trained([(IMAGES.float() / 255, Y)])
    with pytest.warns(UserWarning) as said:
        assert_same_training(trained([(images, Y)]), expected)
    assert len(said) == 1 and word in str(said[0].message)
    assert "train_batches gives images" in str(said[0].message)
    with pytest.warns(UserWarning, match="the evaluation gives images"):
        record = evaluate(Net(), [(images, Y)])
    assert record == evaluate(Net(), [(IMAGES.float() / 255, Y)])


def test_a_model_that_takes_bytes_or_the_channel_last_gets_them_as_they_are():
    seen = []

    class Own(nn.Linear):
        def forward(self, images):
            seen.append((images.dtype, tuple(images.shape)))
            return super().forward(images.flatten(1).float() / 255)

    run(Own(3072, 4), [(IMAGES.permute(0, 2, 3, 1), Y)])
    assert seen[-1] == (torch.uint8, (8, 32, 32, 3))


def test_the_question_whether_a_model_takes_bytes_leaves_no_trace():
    model = Net()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert intake.takes(model, X, torch.device("cpu"))
    assert not intake.takes(model, IMAGES, torch.device("cpu"))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert model.training and torch.get_rng_state().equal(state)


def endless():
    while True:
        yield from PAIR


@pytest.mark.parametrize(
    "batches", [DataLoader(Stream(), 4), endless(), PAIR * 9], ids=["stream", "generator", "list"]
)
def test_batches_without_a_length_are_counted(batches):
    history = run(batches=batches, steps_per_epoch=2, epochs=3)
    assert len(history.train) == 3 and history.shares.shape == (6, 4)


def test_a_stream_that_ends_before_its_epoch_does_is_told():
    with pytest.raises(ValueError, match="epoch 1: there were 2 batches in place of 3"):
        run(batches=DataLoader(Stream(), 4), steps_per_epoch=3)


def test_a_validation_without_a_length_and_a_generator_for_one_epoch_work():
    assert run(val_batches=DataLoader(Stream(), 4)).best_epoch
    assert run(val_batches=iter(PAIR), epochs=1).best_epoch


def test_whole_numbers_of_numpy_work():
    assert len(run(epochs=np.int64(2), patience=np.int32(5), val_batches=PAIR).train) == 2


def test_a_tuple_in_evaluation_starts_with_the_logits_too():
    two = Net(lambda z: (z, z.sum(1)))
    assert predict(two, PAIR)[0].equal(predict(Net(), PAIR)[0])


# --- evaluate and predict


EVALUATIONS = {
    "no batch": (Net(), [], "the evaluation has no batches; check"),
    "a used iterator": (Net(), iter([]), "the evaluation has no batches; check"),
    "a tensor": (Net(), X, "batches is float32 (8, 3, 4, 4); pass a DataLoader"),
    "a dict": (Net(), [{"x": X}], "batch 1 of the evaluation is a dict with the keys x"),
    "grey images": (Net(), [(X[:, :1], Y)], "give grey images three channels"),
    "labels too large": (Net(), [(X, Y + 4)], "targets run from 4 to 7 but the model has 4"),
    "soft labels": (Net(), [(X, torch.rand(8, 3))], "soft targets have shape (8, 3)"),
    "a model that answers a dict": (
        Net(lambda z: {"a": z}),
        PAIR,
        "returns a dict with the keys a",
    ),
    "a model that answers classes": (
        Net(lambda z: z[:, 0]),
        PAIR,
        "the model returns float32 (8,)",
    ),
}


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_evaluations_that_cannot_be(kind):
    model, batches, message = EVALUATIONS[kind]
    with pytest.raises((TypeError, ValueError)) as error:
        evaluate(model, batches)
    assert message in one_sentence(error)
    assert model.training


# --- NaN that somebody hears


class Jump(torch.optim.SGD):
    """Its last step leads to infinity, after the last loss was looked at."""

    left = 4

    def step(self, closure=None):
        super().step()
        self.left -= 1
        if self.left == 0:
            self.param_groups[0]["params"][0].data[0] = NAN


def test_nan_in_the_very_last_step_is_heard():
    model = Net()
    with pytest.raises(NonFiniteLossError, match=r"layers.0.weight became NaN .* in epoch 4.*rate"):
        run(model, epochs=4, optimizer=Jump(model.parameters(), lr=0.01), val_batches=PAIR)
    assert all(p.isfinite().all() for p in model.parameters()), "the best weights come back"


def test_a_running_variance_that_overflows_is_heard():
    """The loss is finite all the time: BatchNorm makes any images alike, in training."""
    with pytest.raises(NonFiniteLossError, match="running_var became NaN or infinite in epoch 1"):
        run(batches=[*PAIR, (1e25 * X, Y)], loss_fn=lambda z, y: z.nan_to_num().clamp(-1, 1).sum())


def test_a_validation_of_nan_chooses_no_epoch_and_says_so():
    spoiled = X.clone()
    spoiled[3, 0, 0, 0] = NAN
    model = Net()
    history = run(model, epochs=3, val_batches=[(spoiled, Y)], monitor="loss")
    assert history.best_epoch == 0 and "therefore cannot be chosen" in history.warning
    assert "validation's loss is NaN or infinite in epoch 3" in repr(history)
    assert "last weights kept" in repr(history)
    other = Net()
    run(other, epochs=3)
    assert all(a.equal(b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_one_nan_image_is_said_whatever_is_monitored():
    spoiled = X.clone()
    spoiled[3, 0, 0, 0] = NAN
    history = run(val_batches=[(spoiled, Y)])
    assert history.best_epoch and "validation's loss is NaN or infinite" in history.warning
    with pytest.warns(UserWarning, match="the loss of the evaluation is nan: .*look for NaN in"):
        evaluate(Net(), [(spoiled, Y)])


def test_a_monitor_of_nan_is_said_and_patience_ends_it():
    history = run(epochs=9, val_batches=PAIR, monitor=lambda confusion: NAN, patience=2)
    assert "monitored figure is NaN" in history.warning
    assert history.stopped == "early" and len(history.train) == 2


def test_a_checkpoint_of_a_training_without_a_best_epoch_goes_on(tmp_path):
    options = {"val_batches": PAIR, "monitor": lambda c: NAN, "checkpoint": tmp_path / "run.pt"}
    run(epochs=2, **options)
    assert len(run(epochs=2, resume=True, **options).train) == 2


# --- interruption at an awkward moment


class Stopped:
    """Ends pass `at` with an error after its first batch."""

    def __init__(self, at, error):
        self.at, self.error, self.passes = at, error, 0

    def __len__(self):
        return 2

    def __iter__(self):
        self.passes += 1
        yield PAIR[0]
        if self.passes == self.at:
            raise self.error
        yield PAIR[0]


@pytest.mark.parametrize("at", [1, 2])
def test_ctrl_c_in_a_validation_gives_a_history_that_prints(at):
    model = Net()
    history = run(model, epochs=3, val_batches=Stopped(at, KeyboardInterrupt()))
    assert history.stopped == "interrupted" and len(history.train) == at
    assert history.shares.shape == (at, 4) and history.seconds > 0
    assert "interrupted" in repr(history) and "interrupted" in history._repr_html_()
    assert model.training, "predict puts it back into the mode it came in"
    assert history.best_epoch == at - 1


def test_ctrl_c_in_the_first_epoch_gives_a_history_that_prints():
    history = run(batches=Stopped(1, KeyboardInterrupt()))
    assert repr(history).startswith("interrupted after 0 epochs") and history.seconds > 0


def test_an_error_of_the_validation_goes_on_to_the_caller():
    with pytest.raises(OSError, match="image 7 is truncated"):
        run(val_batches=Stopped(2, OSError("image 7 is truncated")))


# --- checkpoints


def test_a_full_disk_is_told_as_a_full_disk(tmp_path, monkeypatch):
    write, written = Path.write_bytes, []

    def full(path, data):
        if len(data) > 100:  # not the trial before the training
            written.append(path)
            write(path, data[:50])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="the disk is full, so this file was not written") as error:
        run(checkpoint=tmp_path / "run.pt")
    assert error.value.errno == errno.ENOSPC and "run.pt" in str(error.value)
    assert written and list(tmp_path.iterdir()) == []


def test_the_trial_of_a_checkpoint_leaves_an_old_one_alone(tmp_path):
    file = tmp_path / "run.pt"
    file.write_bytes(b"old")
    with pytest.raises(ValueError):
        run(batches=[{}], checkpoint=file)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]


# --- stages


def two_halves():
    torch.manual_seed(1)
    return Classifier(nn.Flatten(), 48, 4)


@pytest.mark.parametrize(
    "late, message",
    [
        ({"late_batches": []}, "train_batches is empty"),
        ({"late_batches": iter(PAIR)}, "a generator is used up"),
        ({"late_loss_fn": "focal"}, "loss_fn is 'focal'"),
        ({"val_batches": []}, "val_batches is empty"),
        ({"monitor": "acuracy"}, "no figure 'acuracy'"),
        ({"switch": 1.5}, "switch is 1.5"),
        ({"epochs": 2.5}, "epochs is 2.5"),
    ],
)
def test_a_second_part_that_cannot_be_is_told_before_the_first(late, message):
    model = two_halves()
    options = {"batches": PAIR, "late_batches": PAIR, "epochs": 3, "switch": 1} | late
    call = lambda: stages.deferred(model, show_progress=False, **options)  # noqa: E731
    assert message in leave_the_model(call, model)


@pytest.mark.parametrize("stage", [stages.retrain_classifier, stages.learn_class_scales])
@pytest.mark.parametrize(
    "batches, options, message",
    [([(X, Y + 1)], {}, "targets run from 1"), ([{}], {}, "each batch must be a pair"),
     (PAIR, {"lr": NAN}, "lr is nan"), (PAIR, {"lr": "high"}, "lr is 'high'"),
     (PAIR, {"epochs": 0}, "epochs is 0")],
)  # fmt: skip
def test_a_stage_that_fails_leaves_the_model_its_classifier(stage, batches, options, message):
    model = two_halves()
    old = model.classifier
    options = {"epochs": 1, "show_progress": False} | options
    assert message in leave_the_model(lambda: stage(model, batches, **options), model)
    assert model.classifier is old


# --- losses, decisions, priors

Z, PROBABILITIES = torch.randn(6, 3), torch.full((4, 2), 0.5)
CALLS = {
    "gamma as text": (lambda: losses.FocalLoss("2"), "gamma is '2'; it must be 0 or more"),
    "no gamma": (lambda: losses.FocalLoss(None), "gamma is None"),
    "gamma of two": (lambda: losses.FocalLoss([1, 2]), "gamma is a list of 2"),
    "gamma of NaN": (lambda: losses.SigmoidFocalLoss(NAN), "gamma is nan"),
    "tau of NaN": (lambda: losses.LogitAdjustedLoss([3, 4], NAN), "tau is nan"),
    "tau below 0": (lambda: losses.LogitAdjustedLoss([3, 4], -1), "tau is -1"),
    "tau of 1e300": (lambda: losses.LogitAdjustedLoss([3, 4], 1e300), "above 1e+18 the loss is"),
    "margin of NaN": (lambda: losses.LDAMLoss([3, 4], NAN), "max_margin is nan"),
    "margin as text": (lambda: losses.LDAMLoss([3, 4], "0.5"), "max_margin is '0.5'"),
    "scale of 0": (lambda: losses.LDAMLoss([3, 4], scale=0), "scale is 0; it must be above 0"),
    "scale of 1e300": (lambda: losses.LDAMLoss([3, 4], scale=1e300), "above 1e+18"),
    "clip as text": (lambda: losses.AsymmetricLoss(clip="x"), "clip is 'x'; it must be"),
    "alpha as text": (lambda: losses.SigmoidFocalLoss(alpha="x"), "alpha is 'x'; it must be"),
    "smoothing as text": (lambda: losses.FocalLoss(label_smoothing="x"), "label_smoothing must be"),
    "an index as text": (lambda: losses.FocalLoss(ignore_index="x"), "ignore_index is 'x'; give"),
    "half an index": (lambda: losses.FocalLoss(ignore_index=1.5), "ignore_index is 1.5; give the"),
    "weights as text": (lambda: losses.WeightedCrossEntropy("a"), "weight is 'a'; give one number"),
    "a missing weight": (lambda: losses.WeightedCrossEntropy([1, None]), "weight is a list of 2"),
    "weights that overflow": (lambda: losses.FocalLoss(weight=[3e38, 3e38]), "must be finite"),
    "pos_weight as text": (lambda: losses.AsymmetricLoss(pos_weight="a"), "pos_weight is 'a'"),
    "logits in an array": (lambda: losses.FocalLoss()(Z.numpy(), Y), "logits are a ndarray; use"),
    "targets in a list": (lambda: losses.FocalLoss()(Z, [0] * 6), "targets are a list; use torch"),
    "no targets": (lambda: losses.LDAMLoss([1, 2, 3])(Z, None), "targets are a NoneType; use"),
    "a tuple as logits": (lambda: losses.FocalLoss()((Z, Z), Y), "of a model's tuple the logits"),
    "classes as logits": (lambda: losses.FocalLoss()(Z.long(), Y), "these are torch.int64; give"),
    "labels in a list, sigmoid": (lambda: losses.AsymmetricLoss()(Z, [1]), "targets are a list"),
    "decide by NaN": (lambda: decisions.decide(PROBABILITIES * NAN), "of image 0 are NaN, so"),
    "decide by one NaN": (
        lambda: decisions.decide([[0.5, 0.5], [0.5, NAN]], 1, 0.5), "of image 1 are NaN"
    ),
    "decide of one row": (lambda: decisions.decide([0.5, 0.5]), "are of shape (2,); give numbers"),
    "a threshold alone": (lambda: decisions.decide(PROBABILITIES, threshold=0.5), "needs costly="),
    "recall of NaN": (
        lambda: decisions.recall_threshold([0.5, NAN], [True, True], 0.5), "give one finite prob"
    ),
    "recall of two lengths": (
        lambda: decisions.recall_threshold([0.5, 0.5], [True], 0.5), "is_class (1,); give one"
    ),
    "recall of class numbers": (
        lambda: decisions.recall_threshold([0.5, 0.5], [1, 2], 0.5), "labels == the_class."
    ),
    "costs of NaN": (lambda: decisions.mean_cost([0], [1], 1, NAN, 1), "the costs are nan and 1"),
    "cost of no image": (lambda: decisions.mean_cost([], [], 1, 1, 1), "labels are float64 of"),
    "cost of class -1": (lambda: decisions.mean_cost([0], [1], -1, 1, 1), "costly is -1; give"),
    "temperature of floats": (
        lambda: decisions.fit_temperature(Z, torch.rand(6)), "labels are float32 of shape"
    ),
    "temperature of one column": (
        lambda: decisions.fit_temperature(Z[:, :1], [0] * 6), "logits have one column"
    ),
    "a tau that overflows": (lambda: priors.adjust_logits(Z, [9, 1, 1], tau=1e300), "to infinity"),
    "a prior that overflows": (lambda: priors.adjust_logits(Z, [1e308] * 3), "must be finite"),
    "tau-normalised by NaN": (lambda: stages.tau_normalized(nn.Linear(2, 2), NAN), "tau is nan"),
    "recall of no class": (lambda: metrics.recall_of([]), "name at least one class number"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CALLS)
def test_calls_that_cannot_be(kind):
    call, message = CALLS[kind]
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert message in one_sentence(error)


JUNK = [None, "x", True, 0, -1, 2.5, NAN, [], {}, [1, 2], [NAN], ["a"], [[1, 2], [3, 4]],
        [[1], [1, 2]], torch.zeros(0, 3), Z, Z.half(), np.zeros((3, 3)), torch.tensor(3), object(),
        torch.zeros(2, 2, 2), len, NAN * Z, np.array([0, 1, 2, 0])]  # fmt: skip
FUNCTIONS = [
    getattr(room, name)
    for room in (metrics, decisions, priors)
    for name in room.__all__
    if inspect.isfunction(getattr(room, name))
]


@pytest.mark.filterwarnings("ignore:the temperature")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_whatever_a_figure_is_given_it_says_what_is_wrong(function):
    draw, parameters = random.Random(0), inspect.signature(function).parameters.values()
    needed = sum(p.default is p.empty for p in parameters)
    refused = 0
    for _ in range(100):
        given = [draw.choice(JUNK) for _ in range(draw.randint(needed, len(parameters)))]
        try:
            function(*given)
        except (TypeError, ValueError) as error:
            assert str(error).endswith(".") and "\n" not in str(error), (given, error)
            refused += 1
    assert refused


def test_a_class_without_weights_cannot_be_normalised():
    empty = nn.Linear(2, 2)
    nn.init.zeros_(empty.weight)
    with pytest.raises(ValueError, match=r"class 0 has the length 0e.00, which cannot be made 1"):
        stages.tau_normalized(empty)


def test_a_large_tau_is_still_exact():
    adjusted = priors.adjust_logits(torch.zeros(1, 2), [99, 1], tau=500)  # 99^500 would overflow
    assert float(adjusted[0, 1] - adjusted[0, 0]) == pytest.approx(500 * math.log(99), rel=1e-5)


def test_logits_in_an_array_are_adjusted():
    expected = priors.adjust_logits(Z, [3, 2, 1])
    assert priors.adjust_logits(Z.numpy(), [3, 2, 1]).equal(expected)


def test_the_monitor_takes_losses_as_numbers_and_labels_as_lists():
    monitor = CollapseMonitor()
    for _ in range(50):
        monitor(Z, [0, 1, 2, 0, 1, 2], 1.0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(50):
            monitor(Z, [0, 1, 2, 0, 1, 2], NAN)
    assert "not finite" in str(said[0].message)


OF_TORCH = {
    "cross-entropy": lambda: losses.WeightedCrossEntropy([1.0, 2.0, 3.0]),
    "focal": losses.FocalLoss,
    "adjusted": lambda: losses.LogitAdjustedLoss([5, 4, 3]),
    "balanced": lambda: losses.BalancedSoftmaxLoss([5, 4, 3]),
    "margins": lambda: losses.LDAMLoss([5, 4, 3]),
    "sigmoid focal": losses.SigmoidFocalLoss,
    "asymmetric": losses.AsymmetricLoss,
}


@pytest.mark.parametrize("kind", OF_TORCH)
def test_a_loss_is_compiled_whole_and_stays_the_same(kind):
    loss = OF_TORCH[kind]()
    targets = torch.arange(6) % 3
    if "sigmoid" in kind or "asym" in kind:
        targets = F.one_hot(targets, 3).float()
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(Z, targets), loss(Z, targets))


@pytest.mark.parametrize("kind", OF_TORCH)
def test_a_loss_of_no_image_is_0_and_of_float16_is_float32(kind):
    loss = OF_TORCH[kind]()
    soft = "sigmoid" in kind or "asym" in kind
    targets = F.one_hot(torch.arange(6) % 3, 3).float() if soft else torch.arange(6) % 3
    empty = Z[:0].clone().requires_grad_()
    value = loss(empty, targets[:0])
    value.backward()
    assert value == 0 and empty.grad.shape == (0, 3)
    with torch.autocast("cpu", dtype=torch.float16):
        half = loss(Z.half(), targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(Z.half().float(), targets))
