"""diagnose takes batches, outputs and losses of all usual structures, healthy and broken."""

import copy
import socket
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import two_processes
from test_diagnose import Adam, X, Y, batches, mlp, names, trained
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from imbalkit import diagnose
from imbalkit.doctor.copies import proven_copies

PAIRS = batches()


def broken():
    """Softmax before the loss."""
    return nn.Sequential(mlp(), nn.Softmax(1))


def check(make, data, **options):
    """The healthy model is found healthy, and the broken one with its fault first."""
    good, bad = make(trained()[0]), make(broken())
    report = diagnose(good, data, **options)
    assert report.healthy and report.learned > 0.9, report
    assert diagnose(bad, data, **options).cause == "double_softmax"


def same(model):
    return model


# ---- batches ----


@dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor


INDEX = torch.arange(32)
BATCHES = {
    "dicts": [{"image": x, "label": y} for x, y in PAIRS],
    "dicts with more": [{"id": INDEX, "path": ["a"] * 32, "img": x, "target": y} for x, y in PAIRS],
    "nested dicts": [{"data": {"image": x}, "annotation": {"label": y}} for x, y in PAIRS],
    "unnamed dicts": [{"picture": x, "number": y} for x, y in PAIRS],
    "a dict of targets": [(x, {"label": y}) for x, y in PAIRS],
    "a dict of inputs": [({"image": x}, y) for x, y in PAIRS],
    "image, label, path": [(x, y, ["a.png"] * 32) for x, y in PAIRS],
    "image, label, index": [(x, y, INDEX) for x, y in PAIRS],
    "index, image, label": [(INDEX, x, y) for x, y in PAIRS],
    "path, image, label": [(["a.png"] * 32, x, y) for x, y in PAIRS],
    "objects": [Batch(x, y) for x, y in PAIRS],
    "lists": [[x, y] for x, y in PAIRS],
}


@pytest.mark.parametrize("kind", BATCHES)
def test_batches_of_any_usual_structure(kind):
    check(same, BATCHES[kind])
    report = diagnose(trained()[0], BATCHES[kind], eval_batches=BATCHES[kind])
    assert report.healthy and "2 evaluation" not in report.consumed[0]


class Sum(nn.Module):
    """Wants two inputs."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, first, second):
        return self.network(first + second)


SEVERAL = {
    "in a tuple": [((x / 2, x / 2), y) for x, y in PAIRS],
    "in a row": [(x / 2, x / 2, y) for x, y in PAIRS],
    "by name": [{"first": x / 2, "second": x / 2, "label": y} for x, y in PAIRS],
    "in a dict": [({"first": x / 2, "second": x / 2}, y) for x, y in PAIRS],
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_inputs(kind):
    check(Sum, SEVERAL[kind])


ODD = [{"a": {"b": [x, y.float() + 5, y]}} for x, y in PAIRS]


def test_two_arguments_say_what_cannot_be_found():
    options = {
        "forward": lambda model, batch: model(batch["a"]["b"][0]),
        "targets": lambda batch: batch["a"]["b"][2],
    }
    check(same, ODD, **options)
    check(same, ODD, **options, eval_batches=ODD)


def test_targets_alone_can_be_said():
    check(same, [(x, (y + 1) % 3, y) for x, y in PAIRS], targets=lambda batch: batch[2])


@pytest.mark.parametrize(
    "data", [[{"image": X, "n": 3}], [(X, ["a"] * 256, "b")], [{"a": X[:, :5], "label": Y}]]
)
def test_what_cannot_be_found_gets_the_sentence_that_names_them(data):
    with pytest.raises(TypeError, match=r"forward=lambda model, batch: .* targets=lambda") as error:
        diagnose(trained()[0], data)
    assert "\n" not in str(error.value)


def test_batches_that_change_their_structure_get_a_sentence():
    data = [{"image": X, "label": Y}, {"image": X, "target": Y}]
    with pytest.raises(TypeError, match="different structures"):
        diagnose(trained()[0], data)


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


def test_streams_and_generators_of_unknown_length():
    check(same, DataLoader(Stream(), 32))
    assert diagnose(trained()[0], (pair for pair in PAIRS)).healthy


class Scales(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x.float() / 16 - 4)


def test_bytes_that_the_model_scales_and_bytes_that_the_loop_scales():
    data = batches((16 * (X + 4)).clamp(0, 255).to(torch.uint8))
    check(Scales, data)
    check(same, data, forward=lambda model, batch: model(batch[0].float() / 16 - 4))
    with pytest.raises(ValueError, match=r"refuses torch.uint8 inputs.*forward=lambda"):
        diagnose(trained()[0], data)


def test_half_precision_inputs():
    check(same, batches(X.half()))


def pictures(channels=1):
    images = 0.3 * torch.randn(256, channels, 8, 8) + Y[:, None, None, None] - 1
    return images


def convolutional(channels=1, last=None):
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 3), *([last] if last else []))


def fitted(model, data, loss=lambda out, y: F.cross_entropy(out, y), steps=40, lr=0.03):
    optimizer = Adam(model.parameters(), lr)
    for step in range(steps):
        x, y = data[step % len(data)]
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_channel_and_channels_last(format, channels):
    data = batches(pictures(channels).to(memory_format=format))
    model, optimizer = fitted(convolutional(channels).to(memory_format=format), data)
    assert diagnose(model, data, optimizer=optimizer).healthy
    bad = convolutional(channels, nn.Softmax(1)).to(memory_format=format)
    assert diagnose(bad, data).cause == "double_softmax"


# ---- outputs ----


class Returns(nn.Module):
    def __init__(self, network, function):
        super().__init__()
        self.network, self.function = network, function

    def forward(self, x):
        return self.function(self.network(x), x)


WIDE = torch.ones(1, 40)
OUTPUTS = {
    "an object": lambda logits, x: SimpleNamespace(logits=logits, hidden=x),
    "a dict": lambda logits, x: {"features": x @ torch.ones(8, 3), "logits": logits},
    "an unnamed dict": lambda logits, x: {"f": x @ WIDE[:, :20].expand(8, 20), "z": logits},
    "features, logits": lambda logits, x: (x, logits),
    "logits, features": lambda logits, x: (logits, x),
    "logits, one number": lambda logits, x: (logits, x[:, 0]),
    "nested": lambda logits, x: ((logits, x), None),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_outputs_of_any_usual_structure(kind):
    check(lambda network: Returns(network, OUTPUTS[kind]), PAIRS)


# ---- the loss inside the model ----


class Inside(nn.Module):
    def __init__(self, alone, network=None):
        super().__init__()
        self.network, self.alone = network or mlp(), alone

    def forward(self, x, y):
        logits = self.network(x)
        if y is None:
            return logits
        loss = F.cross_entropy(logits, y)
        return loss if self.alone else {"loss": loss, "logits": logits}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_a_loss_inside_the_model(alone, named):
    data = [{"x": x, "y": y} for x, y in PAIRS] if named else PAIRS
    model = Inside(alone)
    optimizer = Adam(model.parameters(), 0.02)
    assert diagnose(model, data, optimizer=optimizer, seconds=4).learned < 0.5
    for _ in range(8):
        for x, y in PAIRS:
            loss = model(x, y) if alone else model(x, y)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    report = diagnose(model, data, optimizer=optimizer)
    assert report.healthy and report.learned > 0.9
    assert "computes it itself" in report.not_checked["softmax before the loss"]


# ---- losses and trainings of all kinds ----


def test_a_loss_with_a_state_and_one_with_more_arguments():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(()))

        def forward(self, outputs, targets):
            loss = F.cross_entropy(outputs, targets)
            self.mean.lerp_(loss.detach(), 0.1)
            return loss

    loss = Running()
    check(same, PAIRS, loss_fn=loss)
    assert loss.mean == 0
    with pytest.raises(ValueError, match=r"pass loss_fn=lambda outputs, targets: your_loss"):
        diagnose(trained()[0], PAIRS, loss_fn=lambda o, y, epoch: F.cross_entropy(o, y))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_labels_of_other_types(dtype):
    check(same, batches(X, Y.to(dtype)))


def test_labels_in_a_column():
    check(same, batches(X, Y[:, None]))


def test_one_hot_labels():
    check(same, batches(X, F.one_hot(Y, 3)))


def test_accumulated_gradients():
    model, optimizer = mlp(), None
    optimizer = Adam(model.parameters(), 0.02)
    for step in range(96):
        x, y = PAIRS[step % 8]
        F.cross_entropy(model(x), y).backward()  # not divided, as many write it
        if step % 32 == 31 and step < 90:
            optimizer.step()
            optimizer.zero_grad()
    assert "gradients_not_cleared" in names(diagnose(model, PAIRS, optimizer=optimizer))
    report = diagnose(model, PAIRS, optimizer=optimizer, accumulate=32)
    assert "gradients_not_cleared" not in names(report)


def scaled(model, optimizer, x, y):
    scaler = torch.amp.GradScaler("cpu")
    with torch.autocast("cpu", torch.bfloat16):
        loss = F.cross_entropy(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def clipped(model, optimizer, x, y):
    F.cross_entropy(model(x), y, label_smoothing=0.1).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


@pytest.mark.parametrize("step", [scaled, clipped])
def test_scaled_and_clipped_gradients_with_groups_and_a_schedule(step):
    model = mlp()
    groups = [{"params": model[0].parameters(), "lr": 0.01}, {"params": model[2].parameters()}]
    optimizer = torch.optim.AdamW(groups, 0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.01, 0.03], total_steps=80)
    for number in range(79):
        optimizer.zero_grad()
        step(model, optimizer, *PAIRS[number % 8])
        schedule.step()
    report = diagnose(model, PAIRS, optimizer=optimizer)
    assert report.healthy and report.learned > 0.9, report


def test_averaged_weights_are_no_fault_of_the_optimizer():
    model, optimizer = trained()
    average = torch.optim.swa_utils.AveragedModel(model)
    report = diagnose(average, PAIRS, optimizer=optimizer)
    assert report.healthy and "average" in report.not_checked["optimizer"]


def test_averaged_weights_by_themselves_are_no_fault_either():
    model, optimizer = trained()
    average = torch.optim.swa_utils.AveragedModel(model).module
    assert diagnose(average, PAIRS, optimizer=optimizer).healthy


def test_gradient_checkpointing():
    class Checkpointed(nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.network, x, use_reentrant=False)

    report = diagnose(Checkpointed(trained()[0]), PAIRS)
    assert report.healthy
    assert report.healthy_checks["frozen parameters"] == "every parameter gets a gradient"


def test_mixed_up_targets():
    other = torch.randperm(256)
    soft = 0.7 * F.one_hot(Y, 3).float() + 0.3 * F.one_hot(Y[other], 3)
    data = batches(0.7 * X + 0.3 * X[other], soft)
    model, optimizer = fitted(mlp(), data)
    assert diagnose(model, data, optimizer=optimizer).healthy
    assert diagnose(broken(), data).cause == "double_softmax"


# ---- two classes, several labels, pixels, tokens ----


def test_two_classes_with_one_logit_or_two():
    y = (Y == 1).long()
    two, optimizer = fitted(mlp(2), batches(X, y))
    assert diagnose(two, batches(X, y), optimizer=optimizer).healthy
    loss = nn.BCEWithLogitsLoss()
    for targets in (y.float()[:, None], y.float(), y):  # the loop's own float() and squeeze()
        one, optimizer = fitted(mlp(1), batches(X, y.float()[:, None]), loss)
        report = diagnose(one, batches(X, targets), loss_fn=loss, optimizer=optimizer)
        assert report.healthy and report.learned > 0.9, report


@pytest.mark.parametrize("loss", [nn.MSELoss(), lambda z, t: (F.softplus(z) - z * t).mean()])
def test_outputs_and_targets_of_shapes_that_broadcast_are_named(loss):
    y = (Y == 1).float()
    report = diagnose(mlp(1), batches(X, y), loss_fn=loss)
    assert "compares each output with each target" in str(report.findings[0].numbers)
    report = diagnose(mlp(1), batches(X, y[:, None]), loss_fn=loss)
    assert "each target" not in str([f.numbers for f in report.findings])


# Some have two of these labels, some none.
TAGS = torch.stack([X[:, 0] > 0.5, X[:, 1] > 1, X[:, 3] > 0.3], 1).float()
BCE = nn.BCEWithLogitsLoss()


def tagged():
    return batches(X, TAGS)


def test_several_labels_an_image():
    model, optimizer = fitted(mlp(3), tagged(), BCE, steps=150)
    report = diagnose(model, tagged(), loss_fn=BCE, optimizer=optimizer)
    assert report.healthy and report.learned > 0.7, report
    assert report.figures["train_counts"] == TAGS.sum(0).tolist()
    report = diagnose(nn.Sequential(mlp(3), nn.Sigmoid()), tagged(), loss_fn=BCE)
    assert report.cause == "double_softmax"


def test_that_no_label_is_ever_said_is_nothing_learned():
    model = mlp(3)
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.fill_(-3)
    report = diagnose(model, tagged(), loss_fn=BCE)
    assert report.learned < 0.1 and not report.healthy


PIXELS = torch.randn(48, 3, 8, 8)
CLASSES = (PIXELS[:, 0] > 0.5).long() + (PIXELS[:, 0] > 1).long()


def pixels(targets, inputs=PIXELS):
    return list(zip(inputs.split(8), targets.split(8), strict=True))


def segmenter(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, classes, 1))


@pytest.mark.parametrize("ignored", [None, -100, 255])
def test_segmentation(ignored):
    targets = CLASSES.clone()
    loss = F.cross_entropy
    if ignored is not None:
        targets[:, 0] = ignored
        loss = nn.CrossEntropyLoss(ignore_index=ignored)
    data = pixels(targets)
    model, optimizer = fitted(segmenter(), data, loss, steps=120)
    report = diagnose(model, data, loss_fn=loss, optimizer=optimizer, eval_batches=data)
    assert report.healthy and report.learned > 0.7, report
    counted = targets[targets < 3]
    assert report.figures["train_counts"] == counted[counted >= 0].bincount().tolist()
    assert diagnose(nn.Sequential(segmenter(), nn.Softmax(1)), data, loss_fn=loss).cause == (
        "double_softmax"
    )
    assert diagnose(segmenter(), pixels(targets + 1), loss_fn=loss).cause == "label_range"


def test_segmentation_in_a_dict_and_all_background():
    model = Returns(segmenter(), lambda logits, x: {"out": logits, "aux": logits})
    with torch.no_grad():
        model.network[2].bias.copy_(torch.tensor([50.0, 0, 0]))
    data = [{"image": x, "mask": y} for x, y in pixels(CLASSES)]
    report = diagnose(model, data)
    assert report.figures["predicted_share"][0] == 1 and report.learned < 0.1
    assert not report.healthy


def test_segmentation_of_one_class_against_the_rest():
    targets = (CLASSES > 0).float()[:, None]
    model, optimizer = fitted(segmenter(1), pixels(targets), BCE, steps=120)
    report = diagnose(model, pixels(targets), loss_fn=BCE, optimizer=optimizer)
    assert report.healthy and report.learned > 0.7, report


WORDS = torch.randint(20, (64, 7))


def tokens(targets):
    return list(zip(WORDS.split(16), targets.split(16), strict=True))


def tagger():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 3))


def by_token(outputs, targets):
    return F.cross_entropy(outputs.reshape(-1, 3), targets.reshape(-1))


@pytest.mark.parametrize("loss", [by_token, F.cross_entropy])
def test_a_class_for_each_token(loss):
    targets = WORDS % 3
    targets[:, 5:] = -100
    model, optimizer = fitted(tagger(), tokens(targets), by_token, steps=120)
    report = diagnose(model, tokens(targets), loss_fn=loss, optimizer=optimizer)
    assert report.healthy and report.learned > 0.9, report
    bad = nn.Sequential(tagger(), nn.Softmax(2))
    assert diagnose(bad, tokens(targets), loss_fn=loss).cause == "double_softmax"


def test_rows_of_tokens_of_different_lengths():
    targets = WORDS % 3
    model, optimizer = fitted(tagger(), tokens(targets), by_token, steps=120)
    data = [*tokens(targets), (WORDS[:16, :4], targets[:16, :4])]
    assert diagnose(model, data, optimizer=optimizer).healthy


def test_a_class_for_a_row_of_tokens():
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head = nn.EmbeddingBag(20, 16), nn.Linear(16, 3)

        def forward(self, input_ids, attention_mask):
            return SimpleNamespace(logits=self.head(self.words(input_ids)))

    targets = (WORDS[:, 0] > 6).long() + (WORDS[:, 0] > 12).long()
    words = WORDS[:, :1].repeat(1, 7)
    rows = [{"input_ids": w, "attention_mask": w * 0 + 1, "labels": y}
            for w, y in zip(words.split(16), targets.split(16), strict=True)]  # fmt: skip
    model = Text()
    optimizer = Adam(model.parameters(), 0.03)
    for step in range(80):
        row = rows[step % 4]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(row["input_ids"], row["attention_mask"]).logits, row["labels"])
        loss.backward()
        optimizer.step()
    assert diagnose(model, rows, optimizer=optimizer).healthy
    assert diagnose(model, rows, optimizer=optimizer).learned > 0.9


def test_regression_and_embeddings_get_a_sentence():
    with pytest.raises(ValueError, match="as of a regression"):
        diagnose(mlp(1), batches(X, X[:, :1] * 3), loss_fn=nn.MSELoss())
    embeds = Returns(mlp(16), lambda out, x: F.normalize(out))
    with pytest.raises(ValueError, match=r"as embeddings are.* pass the classifier"):
        diagnose(embeds, PAIRS)


# ---- wrappers ----


def test_compiled_and_parallel_models_are_examined_inside():
    """Nothing is compiled: it would take longer than the examination."""
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]  # by other tests
    check(torch.compile, PAIRS)
    check(lambda model: nn.Sequential(torch.compile(model), nn.Identity()), PAIRS)
    check(nn.DataParallel, PAIRS)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


def test_a_copy_waits_for_no_other_process():
    model = proven_copies(nn.SyncBatchNorm(8), None, F.cross_entropy).model
    assert model(X).shape == X.shape  # which torch's own refuses without a GPU


def test_sharded_weights_get_a_sentence():
    class FullyShardedDataParallel(nn.Module):
        pass

    with pytest.raises(TypeError, match="sharded over processes"):
        diagnose(FullyShardedDataParallel(), PAIRS)


@pytest.mark.notebooks  # slow: its processes import torch
def test_rank_0_of_two_processes_answers(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(two_processes.work, (port, tmp_path / "answer"), nprocs=2)
    assert (tmp_path / "answer").read_text()


# ---- the libraries themselves ----


def test_transformers():
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=20, intermediate_size=32, num_labels=3, **sizes)
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    words, y = WORDS[:, :1].repeat(1, 7), WORDS[:, 0] % 3
    rows = [{"input_ids": w, "attention_mask": w * 0 + 1, "labels": t}
            for w, t in zip(words.split(16), y.split(16), strict=True)]  # fmt: skip
    optimizer = Adam(model.parameters(), 0.01)
    for step in range(100):
        optimizer.zero_grad()
        model(**rows[step % 4]).loss.backward()
        optimizer.step()
    report = diagnose(model, rows, optimizer=optimizer)
    assert report.healthy and report.learned > 0.9, report
    tagger = transformers.BertForTokenClassification(config)
    rows = [row | {"labels": row["input_ids"] % 3} for row in rows]
    assert diagnose(tagger, rows, optimizer=Adam(tagger.parameters())).learned < 0.5


def test_timm():
    timm = pytest.importorskip("timm", reason="needs timm")
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=3)
    images = pictures(3).repeat(1, 1, 4, 4)[:64]
    data = list(zip(images.split(16), Y[:64].split(16), strict=True))
    optimizer = Adam(model.parameters(), 1e-3)
    average = timm.utils.ModelEmaV2(model)
    for step in range(12):
        optimizer.zero_grad()
        F.cross_entropy(model(data[step % 4][0]), data[step % 4][1]).backward()
        optimizer.step()
    before = copy.deepcopy(model.state_dict())
    diagnose(model, data, optimizer=optimizer, seconds=4)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert (
        "average"
        in diagnose(average, data, optimizer=optimizer, seconds=3).not_checked["optimizer"]
    )
