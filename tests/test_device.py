"""The meta device has shapes and no numbers: it refuses a tensor made elsewhere and any look at a
value. A step that runs there runs on a GPU without waiting for it."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import WeightedRandomSampler

from imbalkit import device as devices
from imbalkit import fast, models
from imbalkit.course import profiles
from imbalkit.data import Batches, RandomCrop, RandomFlip
from imbalkit.losses import (
    AsymmetricLoss,
    BalancedSoftmaxLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    SigmoidFocalLoss,
    WeightedCrossEntropy,
)
from imbalkit.multitask import DifficultyLoss, RotationLoss, WithDifficulty, WithRotation
from imbalkit.training import Tally, sgd, train_step

META, CPU = torch.device("meta"), torch.device("cpu")
WEIGHT, COUNTS = torch.linspace(0.5, 5, 10), list(range(10, 110, 10))


def cosine_net():
    net = models.plain_cnn()
    net.classifier = models.CosineClassifier(net.classifier.in_features, 10)
    return net


def scaled_net():
    net = models.plain_cnn()
    net.classifier = models.ScaledClassifier(net.classifier)
    return net


def scaled_net_trained_together():
    net = scaled_net()
    net.classifier.requires_grad_(True)
    return net


def with_second_head(wrap):
    net = models.small_net()
    return wrap(net.features, net.classifier.in_features, 10)


NETS = {
    "plain_cnn": models.plain_cnn,
    "plain_cnn with BatchNorm": lambda: models.plain_cnn(batchnorm=True),
    "small_net": models.small_net,
    "resnet8": lambda: models.resnet(8),
    "resnet32": lambda: models.resnet(32),
    "cosine classifier": cosine_net,
    "scaled classifier": scaled_net,
    "scaled classifier, trained together": scaled_net_trained_together,
}
# Made on the CPU and moved, as `fit` does: what a loss holds has to move with it.
LOSSES = {
    "cross_entropy": F.cross_entropy,
    "CrossEntropyLoss": torch.nn.CrossEntropyLoss(WEIGHT).to(META),
    "WeightedCrossEntropy": WeightedCrossEntropy().to(META),
    "WeightedCrossEntropy, weight": WeightedCrossEntropy(WEIGHT).to(META),
    "WeightedCrossEntropy, by images": WeightedCrossEntropy(WEIGHT, divide_by="images").to(META),
    "FocalLoss, weight": FocalLoss(weight=WEIGHT).to(META),
    "LogitAdjustedLoss": LogitAdjustedLoss(COUNTS).to(META),
    "LDAMLoss, weight": LDAMLoss(COUNTS, weight=WEIGHT).to(META),
    "BalancedSoftmaxLoss, smoothed": BalancedSoftmaxLoss(
        COUNTS, WEIGHT, "images", reduction="sum", label_smoothing=0.1
    ).to(META),
}
SIGMOID_LOSSES = {
    "SigmoidFocalLoss": SigmoidFocalLoss().to(META),
    "SigmoidFocalLoss, weight": SigmoidFocalLoss(2.0, None, WEIGHT, label_smoothing=0.1).to(META),
    "AsymmetricLoss": AsymmetricLoss().to(META),
    "AsymmetricLoss, weight": AsymmetricLoss(2.0, 0.0, 0.0, WEIGHT, ignore_index=-1).to(META),
}
TWO_TASKS = {
    "difficulty": (WithDifficulty, DifficultyLoss()),
    "difficulty, hard first": (WithDifficulty, DifficultyLoss(hard_first=True)),
    "rotation": (WithRotation, RotationLoss()),
}


def meta_batches(tiny_set, **options):
    options = {"shuffle": True, "augment": [RandomCrop(), RandomFlip()], **options}
    return Batches(tiny_set, 16, mean=[0.5] * 3, std=[0.25] * 3, device=META, **options)


def train_on_the_meta_device(tiny_set, model, loss):
    model = model.to(META)
    optimizer, tally = sgd(model), Tally()
    for images, targets in meta_batches(tiny_set):
        tally.add(*train_step(model, loss, optimizer, images, targets, META))
    assert tally.steps == 4 and tally.hits.device == META
    assert all(p.grad.device == META for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("net", NETS)
def test_a_training_step_of_every_net_runs_on_the_meta_device(tiny_set, net):
    train_on_the_meta_device(tiny_set, NETS[net](), F.cross_entropy)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_training_step_with_every_loss_runs_on_the_meta_device(tiny_set, loss):
    train_on_the_meta_device(tiny_set, cosine_net(), LOSSES[loss])


def test_a_step_of_the_fast_recipe_runs_on_the_meta_device(tiny_set):
    model = fast.fast_net(tiny_set, width=4).to(META)
    augment = [RandomCrop(), fast.Resize(24)]
    images, targets = next(iter(meta_batches(tiny_set, augment=augment)))
    optimizer, loss = fast.muon_and_sgd(model), LogitAdjustedLoss([5, 4, 3]).to(META)
    for _ in range(2):  # the second step also has a momentum
        value, _, _ = train_step(model, loss, optimizer, images, targets, META)
    assert images.shape[2:] == (24, 24) and value.device == META


@pytest.mark.parametrize("task", TWO_TASKS)
def test_a_step_of_two_tasks_runs_on_the_meta_device(tiny_set, task):
    wrap, loss = TWO_TASKS[task]
    train_on_the_meta_device(tiny_set, with_second_head(wrap), loss.to(META))


@pytest.mark.parametrize(
    "loss",
    [
        *(name for name in LOSSES if not name.startswith(("cross_", "LDAM"))),
        *SIGMOID_LOSSES,
    ],
)
def test_a_step_with_soft_targets_runs_on_the_meta_device(loss):
    model, images = models.plain_cnn().to(META), torch.zeros(16, 3, 32, 32, device=META)
    targets = torch.full((16, 10), 0.1, device=META)
    loss_fn = {**LOSSES, **SIGMOID_LOSSES}[loss]
    value, _, _ = train_step(model, loss_fn, sgd(model), images, targets, META)
    assert value.device == META and value.dtype == torch.float32


def test_sampled_batches_are_made_on_the_meta_device(tiny_set):
    sampler = WeightedRandomSampler(torch.ones(60), 30)
    images, targets = next(iter(meta_batches(tiny_set, shuffle=False, sampler=sampler)))
    assert images.device == targets.device == META


@pytest.mark.parametrize(
    "bad_loss",
    [
        lambda logits, targets: F.cross_entropy(logits, targets) * torch.ones(1),
        lambda logits, targets: logits.sum() * logits.max().item(),
    ],
    ids=["a tensor made on the CPU", "a hidden synchronisation"],
)
def test_the_meta_device_catches_what_would_fail_or_wait_on_a_gpu(tiny_set, bad_loss):
    model = models.plain_cnn().to(META)
    images, targets = next(iter(meta_batches(tiny_set)))
    with pytest.raises((RuntimeError, NotImplementedError)):
        train_step(model, bad_loss, sgd(model), images, targets, META)


def test_bfloat16_only_where_the_processor_has_it(monkeypatch):
    def product():
        with devices.autocast(CPU):
            return torch.nn.Linear(4, 4)(torch.ones(1, 4)).dtype

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert product() == torch.bfloat16
    assert "bfloat16" in devices.describe(CPU)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert product() == torch.float32
    assert "float32" in devices.describe(CPU)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert product() == torch.float32


def test_the_tests_compute_on_the_cpu():
    assert devices.pick_device() == CPU


def test_the_device_order_is_cuda_then_mps_then_cpu(monkeypatch):
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert devices.pick_device().type == expected


def test_the_profile_follows_the_device_unless_named(monkeypatch):
    monkeypatch.delenv("IMBALKIT_PROFILE", raising=False)
    assert profiles.current_profile(CPU).name == "cpu"
    assert profiles.current_profile(torch.device("cuda")).name == "gpu"
    monkeypatch.setenv("IMBALKIT_PROFILE", "gpu")
    assert profiles.current_profile(CPU).name == "gpu"
    monkeypatch.setenv("IMBALKIT_PROFILE", "huge")
    with pytest.raises(ValueError, match="'huge', which is no profile; set it to one of cpu, gpu"):
        profiles.current_profile(CPU)


def test_images_that_are_not_four_dimensional_pass_through():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert devices.to_device(torch.ones(5, 7), CPU).shape == (5, 7)
