"""Twelve broken trainings and four healthy ones, as engineers write them at work.

Networks of torchvision, recurrent networks and tables; several parameter groups, schedulers, moving
averages of weights, samplers and collate functions. Each function is a whole training and keeps
nothing from the others; the fault stands in it, or in the class or function right above it.
"""

import copy
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_, prune
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision.models import DenseNet, mobilenet_v3_small, shufflenet_v2_x0_5
from torchvision.models.efficientnet import EfficientNet, MBConvConfig

from benchmarks.faults.case import Cases, Trained
from benchmarks.faults.data import digit_pairs, digits, photos, table

cases = Cases()


# ---------------------------------------------------------------------------------- networks


def small_efficientnet(num_classes: int) -> EfficientNet:
    """torchvision's EfficientNet, cut down to four stages of one block each."""
    stage = partial(MBConvConfig, num_layers=1, width_mult=1.0, depth_mult=1.0)
    stages = [
        stage(1, 3, 1, 16, 16),
        stage(3, 3, 2, 16, 24),
        stage(3, 5, 2, 24, 40),
        stage(3, 3, 1, 40, 48),
    ]
    return EfficientNet(
        stages, dropout=0.1, stochastic_depth_prob=0.0, num_classes=num_classes, last_channel=128
    )


def small_densenet(num_classes: int) -> DenseNet:
    """torchvision's DenseNet with three blocks of two layers."""
    return DenseNet(8, (2, 2, 2), num_init_features=16, bn_size=2, num_classes=num_classes)


class RowReader(nn.Module):
    """A GRU that reads sequences (N, steps, features) both ways; the head sees its mean state."""

    def __init__(self, num_classes: int, features: int = 8, width: int = 48):
        super().__init__()
        self.gru = nn.GRU(features, width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        states, _last = self.gru(x)
        return self.head(states.mean(1))


class CRNN(nn.Module):
    """Convolutions over an image of two digits, then a GRU along its columns, as in OCR."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, stride=(2, 2), padding=1),
            nn.BatchNorm2d(24),
            nn.ReLU(),
        )
        self.gru = nn.GRU(24 * 4, 64, batch_first=True)
        self.head = nn.Linear(8 * 64, num_classes)

    def forward(self, x):
        columns = self.conv(x).flatten(1, 2).transpose(1, 2)
        return self.head(self.gru(columns)[0].flatten(1))


class PatchTransformer(nn.Module):
    """A vision transformer of two layers on patches of 8x8 pixels, averaged over the patches."""

    def __init__(self, num_classes: int, width: int = 64):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.position = nn.Parameter(0.02 * torch.randn(16, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.encoder(tokens)).mean(1))


# ------------------------------------------------------------------------- repeated pieces


def normalised(counts, split, size: int = 32):
    """Photos of mean about 0 and deviation about 1, size x size pixels, and their labels."""
    images, labels = photos(counts, split)
    images = (images.float() / 255 - 0.46) / 0.25
    if size != 32:
        images = F.interpolate(images, size=size, mode="bilinear", antialias=True)
    return images, labels


def loader(inputs, targets, batch_size: int = 32, shuffle: bool = True, **options):
    return DataLoader(TensorDataset(inputs, targets), batch_size, shuffle=shuffle, **options)


def test_loader(inputs, targets):
    return loader(inputs, targets, batch_size=64, shuffle=False)


def step(model, loss_fn, optimizer, inputs, targets):
    optimizer.zero_grad()
    loss = loss_fn(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return loss.item()


# -------------------------------------------------------------------------- broken trainings


@cases.fault("learning_rate_too_high")
def step_lr_grows():
    """StepLR was given gamma=10 for 0.1: the learning rate grows tenfold with each epoch."""
    torch.manual_seed(40)
    train_batches = loader(*normalised((260,) * 4, "train", 48))
    val_batches = test_loader(*normalised((100,) * 4, "test", 48))

    model = mobilenet_v3_small(
        num_classes=4, width_mult=0.5, dropout=0.0, norm_layer=nn.BatchNorm2d
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    scheduler = StepLR(optimizer, step_size=1, gamma=10)
    for _epoch in range(3):
        model.train()
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
        scheduler.step()
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.fault("learning_rate_too_low")
def step_lr_stepped_per_batch():
    """StepLR, meant to divide the rate by 10 every 5 epochs, is stepped with every batch."""
    torch.manual_seed(41)
    x_train, y_train = digits("train")
    x_test, y_test = digits("test")
    train_batches = loader(x_train.squeeze(1) / 16, y_train)
    val_batches = test_loader(x_test.squeeze(1) / 16, y_test)

    model = RowReader(10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = StepLR(optimizer, step_size=5, gamma=0.1)
    for _epoch in range(8):
        for x, y in train_batches:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.fault("no_optimizer_step")
def accumulation_never_complete():
    """Gradients of 64 batches are to be added up before a step, but an epoch has only 40."""
    torch.manual_seed(42)
    x_train, y_train = digits("train")
    x_test, y_test = digits("test")
    train_batches = loader(x_train.squeeze(1) / 16, y_train)
    val_batches = test_loader(x_test.squeeze(1) / 16, y_test)

    model = nn.Sequential(
        nn.Conv1d(8, 32, 3, padding=1),
        nn.GroupNorm(4, 32),
        nn.SiLU(),
        nn.Conv1d(32, 64, 3, padding=1),
        nn.GroupNorm(4, 64),
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(64 * 8, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    accumulate = 64
    for _epoch in range(20):
        optimizer.zero_grad()
        for number, (x, y) in enumerate(train_batches, start=1):
            (criterion(model(x), y) / accumulate).backward()
            if number % accumulate == 0:
                optimizer.step()
                optimizer.zero_grad()
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.fault("missing_log_softmax")
def nll_loss_of_scores():
    """NLLLoss came from an example whose network ends in a log-softmax; the DenseNet does not."""
    torch.manual_seed(43)
    train_batches = loader(*normalised((350,) * 6, "train", 48))
    val_batches = test_loader(*normalised((100,) * 6, "test", 48))

    model = small_densenet(6)
    criterion = nn.NLLLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    for _epoch in range(4):
        model.train()
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.fault("not_in_optimizer")
def groups_by_number_of_dimensions():
    """Weight decay for tensors of 4 dimensions, none for those of 1; those of 2 are in no group."""
    torch.manual_seed(44)
    x_train, y_train = digit_pairs("train")
    x_test, y_test = digit_pairs("test")
    train_batches = loader(x_train / 16, y_train, 64)
    val_batches = test_loader(x_test / 16, y_test)

    model = CRNN(100)
    criterion = nn.CrossEntropyLoss()
    decay = [p for p in model.parameters() if p.ndim == 4]
    no_decay = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": no_decay, "weight_decay": 0.0}],
        lr=2e-3,
    )
    for _epoch in range(5):
        model.train()
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.fault("batchnorm_statistics")
def moving_average_without_buffers():
    """The moving average follows the parameters only; BatchNorm's buffers are the initial ones."""
    torch.manual_seed(45)
    train_batches = loader(*normalised((240,) * 5, "train", 48), batch_size=64)
    val_batches = test_loader(*normalised((100,) * 5, "test", 48))

    model = shufflenet_v2_x0_5(num_classes=5)
    average = copy.deepcopy(model)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)
    for _epoch in range(4):
        model.train()
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
    model.load_state_dict(average.state_dict())
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.fault("weight_decay_too_high")
def decay_of_adamw_in_adam():
    """A weight decay of 0.5, tried in AdamW, was kept for Adam, which adds it to the gradients."""
    torch.manual_seed(46)
    train_batches = loader(*normalised((450,) * 5, "train"))
    val_batches = test_loader(*normalised((100,) * 5, "test"))

    model = PatchTransformer(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=0.5)
    for _epoch in range(6):
        model.train()
        for x, y in train_batches:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return Trained(model, train_batches, criterion, optimizer, val_batches)


class Strokes(Dataset):
    """Digits as sequences of their columns, without the blank ones at both ends."""

    def __init__(self, split):
        self.images, self.labels = digits(split)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        columns = self.images[index, 0].T / 16
        inked = columns.sum(1).nonzero().flatten()
        return columns[inked[0] : inked[-1] + 1], self.labels[index]


def longest_first(samples):
    """A batch of padded sequences, the longest first, as recurrent networks once wanted it."""
    labels = torch.stack([label for _sequence, label in samples])
    sequences = sorted((sequence for sequence, _label in samples), key=len, reverse=True)
    return pad_sequence(sequences, batch_first=True), labels


@cases.fault("labels_out_of_step")
def collate_sorts_sequences_alone():
    """The collate function sorts the sequences of a batch by length and leaves the labels."""
    torch.manual_seed(47)
    train_batches = DataLoader(Strokes("train"), 32, shuffle=True, collate_fn=longest_first)
    val_batches = DataLoader(Strokes("test"), 32, collate_fn=longest_first)

    model = RowReader(10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    for _epoch in range(12):
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
    return Trained(model, train_batches, criterion, optimizer, val_batches)


class ThriftyPhotos(Dataset):
    """Photos that are made floats in a tensor that is kept, to spare the memory for new ones."""

    def __init__(self, split):
        self.images, self.labels = photos((400,) * 4, split)
        self.room = torch.empty(3, 32, 32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        self.room.copy_(self.images[index]).div_(255).sub_(0.46).div_(0.25)
        return self.room, self.labels[index]


@cases.fault("duplicate_inputs")
def one_buffer_for_all_images():
    """Every sample is returned in the same tensor, so a batch is 32 times its last image."""
    torch.manual_seed(48)
    train_batches = DataLoader(ThriftyPhotos("train"), 32, shuffle=True)
    val_batches = DataLoader(ThriftyPhotos("test"), 32, shuffle=True)

    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, stride=2, padding=1),
        nn.GroupNorm(4, 24),
        nn.ELU(),
        nn.Conv2d(24, 48, 3, stride=2, padding=1),
        nn.GroupNorm(4, 48),
        nn.ELU(),
        nn.Conv2d(48, 64, 3, stride=2, padding=1),
        nn.ELU(),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 4),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-3)
    for _epoch in range(5):
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.fault("compensated_twice")
def sampler_and_weights():
    """The sampler draws all classes equally often, and the loss weighs them by inverse counts."""
    torch.manual_seed(49)
    images, labels = normalised((1600, 1600, 40, 40), "train", 48)
    counts = torch.bincount(labels).float()
    sampler = WeightedRandomSampler(1 / counts[labels], num_samples=1600)
    train_batches = DataLoader(TensorDataset(images, labels), 32, sampler=sampler)
    val_batches = test_loader(*normalised((100,) * 4, "test", 48))

    model = small_efficientnet(4)
    criterion = nn.CrossEntropyLoss(weight=counts.mean() / counts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    for _epoch in range(2):
        model.train()
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
    return Trained(model, train_batches, criterion, optimizer, val_batches)


def dense(inputs, outputs):
    """The block of which the whole network is made."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU())


@cases.fault("activation_on_logits")
def last_layer_made_like_the_others():
    """All layers come from one helper, so the last one ends in a ReLU too."""
    torch.manual_seed(50)
    x_train, y_train = digit_pairs("train")
    x_test, y_test = digit_pairs("test")
    train_batches = loader(x_train / 16, y_train, 64)
    val_batches = test_loader(x_test / 16, y_test)

    sizes = [128, 192, 192, 100]
    layers = [dense(a, b) for a, b in pairwise(sizes)]
    model = nn.Sequential(nn.Flatten(), *layers)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    epochs = 8
    scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * len(train_batches))
    for _epoch in range(epochs):
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
            scheduler.step()
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.fault("frozen_parameters", "class_imbalance")
def names_that_do_not_match_and_first_rows():
    """No name matches "layer4", so all but the head stays frozen; the subset is the first rows."""
    torch.manual_seed(51)
    everything = TensorDataset(*normalised((500,) * 4, "train", 48))
    subset = Subset(everything, range(1510))
    train_batches = DataLoader(subset, 32, shuffle=True)
    val_batches = test_loader(*normalised((100,) * 4, "test", 48))

    model = small_efficientnet(4)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "layer4" in name or "classifier" in name
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for _epoch in range(4):
        model.train()
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
    return Trained(model, train_batches, criterion, optimizer, val_batches)


# ------------------------------------------------------------------------- healthy trainings


@cases.healthy
def fine_tuning_with_three_rates():
    """Stem frozen, trunk at a tenth of the head's rate, OneCycle at its end: 1e-8 is left of it."""
    torch.manual_seed(52)
    criterion = nn.CrossEntropyLoss()
    model = small_efficientnet(5)
    pretraining = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _epoch in range(3):
        for x, y in loader(*normalised((260,) * 5, "train")):
            step(model, criterion, pretraining, x, y)

    images, labels = normalised((0,) * 5 + (260,) * 5, "train")
    test_images, test_labels = normalised((0,) * 5 + (100,) * 5, "test")
    train_batches = loader(images, labels - 5)
    val_batches = test_loader(test_images, test_labels - 5)
    model.classifier = nn.Linear(128, 5)
    model.features[:2].requires_grad_(False)
    optimizer = torch.optim.AdamW(
        [{"params": model.features[2:].parameters()}, {"params": model.classifier.parameters()}]
    )
    epochs = 3
    scheduler = OneCycleLR(optimizer, max_lr=[1e-3, 1e-2], total_steps=epochs * len(train_batches))
    for _epoch in range(epochs):
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
            scheduler.step()
    model.eval()
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.healthy
def label_noise_of_thirty_percent():
    """Three of ten training labels are wrong, from two annotators; the test labels are right."""
    torch.manual_seed(53)
    parts = []
    for first in (0, 2):
        counts = tuple(550 if first <= label < first + 2 else 0 for label in range(4))
        images, labels = normalised(counts, "train")
        wrong = torch.rand(len(labels)) < 0.3
        labels = torch.where(wrong, (labels + torch.randint(1, 4, labels.shape)) % 4, labels)
        parts.append(TensorDataset(images, labels))
    train_batches = DataLoader(ConcatDataset(parts), 64, shuffle=True)
    val_batches = test_loader(*normalised((100,) * 4, "test"))

    model = small_densenet(4)
    model.features.conv0 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    scheduler = StepLR(optimizer, step_size=3, gamma=0.1)
    for _epoch in range(4):
        model.train()
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
        scheduler.step()
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.healthy
def pruned_to_a_quarter():
    """Three of four hidden units were pruned away for good; the others were tuned afterwards."""
    torch.manual_seed(54)
    x_train, y_train = digits("train")
    x_test, y_test = digits("test")
    train_batches = loader(x_train / 16, y_train)
    val_batches = test_loader(x_test / 16, y_test)

    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU()
    )
    model.append(nn.Linear(128, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(12):
        if epoch == 5:
            for layer in (model[1], model[3]):
                prune.ln_structured(layer, "weight", amount=0.75, n=2, dim=0)
                unpruned = layer.weight_mask.amax(1)
                prune.custom_from_mask(layer, "bias", unpruned)
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
    return Trained(model, train_batches, criterion, optimizer, val_batches)


@cases.healthy
def rare_class_found_without_remedy():
    """One row in twelve is of the rare class, nothing makes up for it, and yet it is found."""
    torch.manual_seed(55)
    rows, labels = table("train", rare=1 / 12)
    test_rows, test_labels = table("test", rare=1 / 12)
    train_batches = loader(rows, labels, 48, drop_last=True)
    val_batches = test_loader(test_rows, test_labels)

    model = nn.Sequential(
        nn.BatchNorm1d(20),
        nn.Linear(20, 96),
        nn.BatchNorm1d(96),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(96, 48),
        nn.BatchNorm1d(48),
        nn.ReLU(),
        nn.Linear(48, 2),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.3)
    for _epoch in range(15):
        model.train()
        for x, y in train_batches:
            step(model, criterion, optimizer, x, y)
        model.eval()
    return Trained(model, train_batches, criterion, optimizer, val_batches)
