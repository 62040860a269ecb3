"""A training that goes on has the numbers of one that never stopped, or a sentence says why not."""

import copy
import io
import random
import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import Interrupted
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from imbalkit import checkpoint, sealed
from imbalkit.checkpoint import Parts, load_checkpoint
from imbalkit.data import Batches
from imbalkit.sampling import CountSampler, ProgressiveSampler
from imbalkit.training import NonFiniteLossError, constant, fit, sgd, warmup_linear
from tests.fuzz.readers import new_parts, sealed_file, state_of

CPU = torch.device("cpu")
N, BATCH, EPOCHS = 24, 8, 4
LABELS = torch.arange(N) % 3
VECTORS = torch.randn(N, 5, generator=torch.Generator().manual_seed(5)) + LABELS[:, None]


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def everything():
    return TensorDataset(VECTORS, LABELS)


class Noisy(Dataset):
    """Adds noise from a generator of numpy or of Python, one of its own or the global one."""

    def __init__(self, draw):
        self.draw = draw

    def __len__(self):
        return N

    def __getitem__(self, i):
        return VECTORS[i] + self.draw(), LABELS[i]


class Draw:
    def __init__(self, generator):
        self.generator = generator

    def __call__(self):
        return float(self.generator.random())


class Shaken:
    """An augmentation with a generator of its own."""

    def __init__(self):
        self.generator = seeded()

    def __call__(self, images, targets, generator):
        noise = torch.randint(50, images.shape, generator=self.generator, dtype=torch.uint8)
        return images // 2 + noise, targets


def shuffled(data, **options):
    return DataLoader(data, BATCH, shuffle=True, **options)


def sampled(sampler):
    return DataLoader(everything(), BATCH, sampler=sampler)


LOADERS = {
    "torch's own": lambda: shuffled(everything()),
    "of the loader": lambda: shuffled(everything(), generator=seeded()),
    "of a weighted sampler": lambda: sampled(
        WeightedRandomSampler([1.0 + i for i in range(N)], N, generator=seeded())
    ),
    "of a count sampler": lambda: sampled(CountSampler(LABELS, [9, 8, 7], generator=seeded())),
    "of a mix that changes": lambda: sampled(
        ProgressiveSampler(LABELS, EPOCHS, generator=seeded())
    ),
    "in a batch sampler": lambda: DataLoader(
        everything(),
        batch_sampler=BatchSampler(RandomSampler(everything(), generator=seeded()), BATCH, False),
    ),
    "numpy's": lambda: shuffled(Noisy(np.random.random)),
    "Python's": lambda: shuffled(Noisy(random.random)),
    "of numpy in a data set": lambda: shuffled(Noisy(Draw(np.random.default_rng(3)))),
    "of the old numpy": lambda: shuffled(Noisy(Draw(np.random.RandomState(3)))),
    "of Python in a part of a data set": lambda: shuffled(
        Subset(Noisy(Draw(random.Random(3))), range(N))
    ),
}


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(5, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 3)
    )


def cut_after(epochs):
    """A figure to monitor that stops a training in the epoch after these."""
    left = iter(range(epochs))

    def monitor(confusion):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return 0.5

    return monitor


def train(make, monitor=lambda confusion: 0.5, make_model=network, make_loss=None, **options):
    """Train with new objects, as a new process would have them; the weights, and those of the
    loss."""
    model, loss = make_model(), make_loss() if make_loss else F.cross_entropy
    parameters = [*model.parameters(), *(loss.parameters() if make_loss else ())]
    options = {"val_batches": [(VECTORS, LABELS)], "monitor": monitor, "epochs": EPOCHS} | options
    options = {"optimizer": torch.optim.SGD(parameters, lr=0.1, momentum=0.9)} | options
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    random.seed(2)
    history = fit(model, make(), loss_fn=loss, device=CPU, show_progress=False, **options)
    weights = model.state_dict() | ({f"loss.{k}": v for k, v in loss.state_dict().items()}
                                    if make_loss else {})  # fmt: skip
    return weights, history


def assert_resumed_exactly(file, make, **options):
    options["val_batches"] = None
    whole, expected = train(make, **options)
    options |= {"checkpoint": file}
    stopped = train(lambda: Interrupted(make(), 2 * N // BATCH), **options)[1]
    assert stopped.stopped == "interrupted" and len(stopped.train) == 2
    torch.rand(7), np.random.random(7), random.random()  # noqa: NPY002
    resumed, history = train(make, resume=True, **options)
    assert history.train == expected.train and history.shares.equal(expected.shares)
    for name, value in whole.items():
        assert value.equal(resumed[name]), name


@pytest.mark.parametrize("kind", LOADERS)
def test_every_random_generator_goes_on(tmp_path, kind):
    assert_resumed_exactly(tmp_path / "run.pt", LOADERS[kind])


def test_the_generator_of_an_augmentation_goes_on(tmp_path, tiny_set):
    def batches():
        images = tiny_set.subset(range(N))
        return Batches(images, BATCH, mean=[0.5] * 3, std=[0.3] * 3, augment=[Shaken()], device=CPU)

    def model():
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 3))

    assert_resumed_exactly(tmp_path / "run.pt", batches, make_model=model)


class Learned(torch.nn.Module):
    """A loss that learns, counts, and draws."""

    def __init__(self):
        super().__init__()
        self.temperature = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("steps", torch.zeros(()))
        self.generator = seeded()

    def forward(self, logits, targets):
        self.steps += 1
        noise = 0.1 * torch.rand(1, generator=self.generator)
        return F.cross_entropy(logits * self.temperature / (1 + 0.01 * self.steps) + noise, targets)


def test_the_state_of_the_loss_goes_on(tmp_path):
    make = LOADERS["torch's own"]
    assert_resumed_exactly(tmp_path / "run.pt", make, make_loss=Learned)


def test_a_training_that_stops_in_its_validation_goes_on_with_its_best_weights(tmp_path):
    file, make = tmp_path / "run.pt", LOADERS["of the loader"]
    whole, expected = train(make)
    train(make, cut_after(2), checkpoint=file)
    resumed, history = train(make, checkpoint=file, resume=True)
    assert history.validation == expected.validation and history.best_epoch == 1
    assert all(value.equal(resumed[name]) for name, value in whole.items())


# --- what does not fit


def plain(images=N, batch=BATCH):
    return DataLoader(TensorDataset(VECTORS[:images], LABELS[:images]), batch)


@pytest.fixture(scope="module")
def half_way(tmp_path_factory):
    file = tmp_path_factory.mktemp("checkpoint") / "run.pt"
    train(plain, cut_after(2), checkpoint=file)
    return file.read_bytes()


@pytest.fixture
def written(tmp_path, half_way):
    """The checkpoint of a training that was cut off after two epochs."""
    (tmp_path / "run.pt").write_bytes(half_way)
    return tmp_path / "run.pt"


def wide():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, 3))


OTHER_TRAININGS = {
    "epochs": ({"epochs": 6}, "epochs: 4 there and 6 here"),
    "fewer epochs": ({"epochs": 1}, "epochs: 4 there and 1 here"),
    "steps": ({"make": lambda: plain(16)}, "steps an epoch: 3 there and 2 here"),
    "batch size": (
        {"make": lambda: plain(12, 4)}, r"another training \(images a batch: 8 there and 4 here\)"
    ),
    "size of a batch sampler": (
        {"make": lambda: DataLoader(everything(), batch_sampler=[range(9)] * 3)}, None
    ),
    "model": ({"make_model": wide}, "model lacks '3.weight'|model has '3.weight'"),
    "loss": ({"make_loss": Learned}, "loss lacks 'temperature'"),
    "generators": (
        {"make": lambda: shuffled(everything(), generator=seeded())},
        "0 random generators of the batches and the loss were kept, and there are 1 now",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_TRAININGS)
def test_another_training_is_told_in_a_sentence_before_the_model_is_touched(written, kind):
    change, message = OTHER_TRAININGS[kind]
    model = change.get("make_model", network)()
    before = copy.deepcopy(model.state_dict())
    options = {"make": plain, **change, "make_model": lambda: model}
    if message is None:  # batches that do not tell their size fit any
        train(**options, checkpoint=written, resume=True, epochs=EPOCHS)
        return
    with pytest.raises(ValueError, match=message) as error:
        train(**options, checkpoint=written, resume=True)
    assert "run.pt: cannot be resumed from: " in str(error.value)
    assert "\n" not in str(error.value)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("make_optimizer", "message"),
    [
        (lambda m: torch.optim.Adam(m.parameters()), "optimizer: 'SGD' there and 'Adam' here"),
        (
            lambda m: torch.optim.SGD(m[1].parameters()),
            "params has 4 entries, and must have at most 2",
        ),
        (
            lambda m: torch.optim.SGD([{"params": [p]} for p in m.parameters()], momentum=0.9),
            "param_groups has 1 entries, and must have 4 or more",
        ),
    ],
)
def test_another_optimizer_is_told_before_it_is_touched(written, make_optimizer, message):
    model = network()
    optimizer = make_optimizer(model)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    with pytest.raises(ValueError, match=message):
        train(
            plain,
            make_model=lambda: model,
            optimizer=optimizer,
            checkpoint=written,
            resume=True,
        )
    assert before[1] == optimizer.state_dict()["state"] == {}
    assert all(value.equal(before[0][name]) for name, value in model.state_dict().items())


def test_no_rate_is_asked_for_beyond_the_end_of_the_schedule(written):
    """A smaller number of steps once let the schedule run past its end, to negative rates."""
    asked = []

    def schedule(share):
        asked.append(share)
        return warmup_linear(share)

    with pytest.raises(ValueError, match="steps an epoch"):
        train(lambda: plain(16), schedule=schedule, checkpoint=written, resume=True)
    train(plain, schedule=schedule, checkpoint=written, resume=True)
    assert max(asked[:-1]) < 1


# --- a damaged file


def parts_of(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, constant)
    batches = (plain(), [(VECTORS, LABELS)])
    return Parts(model, F.cross_entropy, optimizer, scheduler, batches, EPOCHS, N // BATCH, CPU)


@pytest.fixture
def untouched():
    """``(file) -> error`` of an attempt that must leave the parts and the generators alone."""
    parts = parts_of(network())
    before = copy.deepcopy((parts.model.state_dict(), parts.optimizer.state_dict()))
    states = torch.get_rng_state(), random.getstate()

    def attempt(file):
        with pytest.raises(ValueError, match=r"run\.pt: cannot be resumed from: ") as error:
            load_checkpoint(file, parts)
        assert "\n" not in str(error.value)
        model, optimizer = before
        assert all(value.equal(model[name]) for name, value in parts.model.state_dict().items())
        assert parts.optimizer.state_dict() == optimizer
        assert torch.get_rng_state().equal(states[0]) and random.getstate() == states[1]
        return str(error.value)

    return attempt


def test_a_whole_file_is_accepted(written):
    fields, best_weights = load_checkpoint(written, parts_of(network()))
    assert len(fields["train"]) == 2 and best_weights


def test_one_changed_bit_anywhere_is_noticed(written, tmp_path, untouched):
    whole, draw = written.read_bytes(), np.random.default_rng(0)
    for place in map(int, [*draw.integers(0, len(whole), 40), *range(-90, 0, 3), 0, 1]):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(draw.integers(8))
        (tmp_path / "run.pt").write_bytes(changed)
        assert "it is damaged" in untouched(tmp_path / "run.pt")


def test_a_file_that_was_cut_off_or_is_none_is_named(written, tmp_path, untouched):
    whole = written.read_bytes()
    for content in (b"", b"not a checkpoint", whole[: len(whole) // 2], whole[:-1], whole + b"x"):
        (tmp_path / "run.pt").write_bytes(content)
        assert "has no digest" in untouched(tmp_path / "run.pt")


FIELDS = [
    "format", "key", "device", "model", "loss", "optimizer", "scheduler", "history",
    "best_weights", "random",
]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_that_is_missing_or_of_another_type_is_named(written, tmp_path, untouched, field):
    content, file = torch.load(written, weights_only=True), tmp_path / "run.pt"
    assert set(content) == set(FIELDS)
    sealed.write(file, {name: value for name, value in content.items() if name != field})
    assert field in untouched(file) or "holds no" in untouched(file)
    for junk in (3, "x", [1], {"x": 1}, torch.zeros(2)):
        if (field, junk) not in [("device", "x"), ("loss", {})]:
            sealed.write(file, content | {field: junk})
            assert field in untouched(file) or "holds no" in untouched(file)


def at(content, path):
    for key in path:
        content = content[key]
    return content


NAN = torch.tensor(float("nan"))
SPOILED = [
    (["model", "1.weight"], NAN.expand(8, 5), "model.1.weight holds NaN"),
    (["model", "1.weight"], torch.zeros(8, 5).double(), "must be float32 of shape"),
    (["best_weights", "1.weight"], NAN.expand(8, 5), "best_weights.1.weight holds NaN"),
    (["best_weights"], None, "best_weights does not fit"),
    (["optimizer", "state", 0, "momentum_buffer"], NAN, "holds NaN"),
    (["optimizer", "state", 0, "momentum_buffer"], torch.zeros(1), "of shape .1,., and must be"),
    (["optimizer", "state", 0, "momentum_buffer"], 3.0, "is 3.0, and must be a plain tensor"),
    (["optimizer", "state", 0, "step"], torch.zeros(2), "step is a Tensor, and must be a number"),
    (["optimizer", "state", 0, "step"], torch.tensor(-1.0), "step is -1.0, and must be"),
    (["optimizer", "state", 0], [], "must be a table"),
    (["optimizer", "state", 9], {}, "is 9, and must be of a parameter"),
    (["optimizer", "param_groups", 0, "lr"], float("nan"), "param_groups.*lr"),
    (["optimizer", "param_groups", 0, "lr"], "0.1", "param_groups.*lr"),
    (["scheduler", "last_epoch"], None, "scheduler.last_epoch is None"),
    (["history", "train", 0, "accuracy"], "<b>", "train.0..accuracy is '<b>'"),
    (["history", "train", 0, "accuracy"], 1.5, "train.0..accuracy is 1.5"),
    (["history", "validation"], [], "not of the same|best_epoch"),
    (["history", "best_epoch"], 9, "best_epoch is 9"),
    (["history", "best_score"], float("nan"), "best_score is nan"),
    (["history", "shares"], torch.zeros(2, 3), "not of the same 2 epochs"),
    (["history", "warning"], None, "warning is None"),
    (["history", "seconds"], -1.0, "seconds is -1.0"),
    (["random", "cpu"], torch.zeros(3), "random generator cannot be put back"),
    (["random", "python"], [3, [1], None], "random generator cannot be put back"),
    (["random", "numpy", "state"], {}, "random generator cannot be put back"),
]


@pytest.mark.parametrize("path, value, message", SPOILED, ids=lambda x: None)
def test_a_value_that_cannot_be_right_is_named(written, tmp_path, untouched, path, value, message):
    content = torch.load(written, weights_only=True)
    at(content, path[:-1])[path[-1]] = value
    sealed.write(tmp_path / "run.pt", content)
    assert re.search(message, untouched(tmp_path / "run.pt"))


EXAMPLES = 15
JUNK = [None, True, 0, -1, 10**30, 0.5, float("nan"), float("inf"), "", "x", [], {}, [[[[]]]],
        {"x": 1}, torch.zeros(2), NAN]  # fmt: skip


def places(content, path=()):
    """The paths to all fields, and to all fields in them."""
    if path:
        yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def test_whatever_stands_in_a_field_is_refused_in_a_sentence_or_trained_on(half_way, tmp_path):
    draw, file = np.random.default_rng(0), tmp_path / "run.pt"
    for _ in range(EXAMPLES):
        content = torch.load(io.BytesIO(half_way), weights_only=True)
        paths = [p for p in places(content) if len(p) < 5]
        path, junk = paths[draw.integers(len(paths))], JUNK[draw.integers(len(JUNK))]
        at(content, path[:-1])[path[-1]] = junk
        sealed.write(file, content)
        try:
            train(plain, checkpoint=file, resume=True)
        except NonFiniteLossError:
            continue  # of a weight decay of 1e30, say: there is no range for what others named
        except UserWarning:
            assert path == ("device",)  # another one is told
        except Exception as error:
            assert isinstance(error, ValueError), (path, junk)
            assert "run.pt: cannot be resumed from: " in str(error) and "\n" not in str(error)


# --- what cannot be exact


def test_persistent_workers_are_told_once(written):
    train(plain, checkpoint=written, resume=True)  # to the end: no worker has to start
    loader = DataLoader(everything(), BATCH, num_workers=1, persistent_workers=True)
    with pytest.warns(UserWarning, match=r"may differ .* persistent workers start anew") as said:
        train(lambda: loader, checkpoint=written, resume=True)
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(plain, checkpoint=written, resume=True)


def test_another_device_is_told(written, tmp_path):
    content = torch.load(written, weights_only=True) | {"device": "cuda"}
    sealed.write(tmp_path / "run.pt", content)
    with pytest.warns(UserWarning, match="may differ .* began on cuda and goes on on cpu"):
        load_checkpoint(tmp_path / "run.pt", parts_of(network()))


def test_a_score_that_is_no_number_is_beaten_by_one_that_is():
    scores = iter([float("nan"), 0.3, float("nan"), 0.2])
    _, history = train(plain, lambda confusion: next(scores))
    assert history.best_epoch == 2 and history.best_score == 0.3


def test_the_default_optimizer_is_resumed_too(tmp_path):
    file = tmp_path / "run.pt"
    for resume in (False, True):
        model = network()
        fit(model, plain(), 2, optimizer=sgd(model), checkpoint=file, resume=resume,
            show_progress=False)  # fmt: skip
    assert torch.load(file, weights_only=True)["format"] == checkpoint.FORMAT


@pytest.mark.parametrize("change", [{"lr_lambdas": [3]}, {"lr_lambdas": [[3]]}, {"get_lr": 3}])
def test_a_schedule_that_cannot_be_put_back_changes_nothing(tmp_path, change):
    parts = new_parts()
    before = state_of(parts)
    content = torch.load(sealed_file(tmp_path / "run.pt", "checkpoint"), weights_only=True)
    content["scheduler"] |= change
    sealed.write(tmp_path / "run.pt", content)
    if "get_lr" in change:  # no part of its state: it is left where it is
        load_checkpoint(tmp_path / "run.pt", parts)
        assert callable(parts.scheduler.get_lr)
        return
    with pytest.raises(ValueError, match=r"or its schedule cannot be put back \(TypeError\)"):
        load_checkpoint(tmp_path / "run.pt", parts)
    assert state_of(parts) == before
