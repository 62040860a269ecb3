"""Fifteen broken trainings and five healthy ones, held out: nobody tuned the checks on them.

They are written as students, participants of competitions and engineers post them: each function
is a whole training, and the fault stands in it or in the class or function right above it.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks.faults.case import Cases, Trained
from benchmarks.faults.data import digit_pairs, digits, photos, table

cases = Cases()


# ---------------------------------------------------------------------------------- networks


class LeNet(nn.Module):
    """The network of PyTorch's CIFAR-10 tutorial, somewhat narrower at the end."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 5)
        self.conv2 = nn.Conv2d(12, 24, 5)
        self.fc1 = nn.Linear(24 * 5 * 5, 96)
        self.fc2 = nn.Linear(96, 64)
        self.fc3 = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


def conv_block(channels: int, width: int, norm: bool) -> nn.Sequential:
    """A convolution, a ReLU, and half the height and width; with `norm`, also a BatchNorm."""
    layers = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    if norm:
        layers.insert(1, nn.BatchNorm2d(width))
    return nn.Sequential(*layers)


def keras_like_cnn(num_classes: int, norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """Conv, pool, conv, pool, conv, pool, flatten, dense, dropout, dense."""
    return nn.Sequential(
        conv_block(3, 12, norm),
        conv_block(12, 24, norm),
        conv_block(24, 48, norm),
        nn.Flatten(),
        nn.Linear(48 * 16, 64),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(64, num_classes),
    )


class Res1d(nn.Module):
    """Two convolutions along time, each with a BatchNorm, and a shortcut around them."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x):
        return F.relu(x + self.body(x))


class CharTransformer(nn.Module):
    """A transformer over 16 words, the columns of an image of 8 x 16 pixels."""

    def __init__(self, num_classes: int, width: int = 64):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.register_buffer("position", self.sinusoids(16, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16 * width, num_classes)

    @staticmethod
    def sinusoids(length: int, width: int):
        """Positions as sines and cosines, as in "Attention is all you need"."""
        time = torch.arange(length).unsqueeze(1)
        rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000) / width))
        return torch.cat([torch.sin(time * rate), torch.cos(time * rate)], dim=1)

    def forward(self, x):
        words = self.embed(x.squeeze(1).transpose(1, 2)) + self.position
        return self.head(self.encoder(words).flatten(1))


# ------------------------------------------------------------------------- repeated pieces


def norm(images):
    """ToTensor() and Normalize(0.5, 0.25)."""
    return (images.float() / 255 - 0.5) / 0.25


def photo_loaders(counts, test_counts, batch_size: int = 32, transform=norm):
    """Shuffled training batches and test batches of photos."""
    x, y = photos(counts, "train")
    x_test, y_test = photos(test_counts, "test")
    return make_loaders(transform(x), y, transform(x_test), y_test, batch_size)


def make_loaders(x, y, x_test, y_test, batch_size: int = 32):
    """Shuffled training batches and test batches of tensors."""
    train_loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=100)
    return train_loader, test_loader


def train_one_epoch(model, loader, criterion, optimizer, scheduler=None):
    model.train()
    for inputs, labels in loader:
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


# -------------------------------------------------------------------------- broken trainings


@cases.fault("learning_rate_too_high")
def rmsprop_at_five_hundredths():
    """RMSprop at 0.05 on the tutorial's LeNet: each weight moves by 0.05 in each step."""
    torch.manual_seed(501)
    train_loader, test_loader = photo_loaders((300,) * 10, (100,) * 10)

    net = LeNet(10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(net.parameters(), lr=0.05)
    for _epoch in range(4):
        train_one_epoch(net, train_loader, criterion, optimizer)
    return Trained(net, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_high")
def fine_tuned_at_one():
    """A pretrained ResNet is fine-tuned on new, unevenly frequent classes with AdamW at 1."""
    torch.manual_seed(502)
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=6)
    model.conv1 = nn.Conv2d(3, 64, 5, stride=4, padding=2, bias=False)
    model.layer4 = nn.Identity()
    model.fc = nn.Linear(256, 6)
    criterion = nn.CrossEntropyLoss()
    pretrain_loader, _ = photo_loaders((150,) * 6, (100,) * 6)
    train_one_epoch(
        model, pretrain_loader, criterion, torch.optim.AdamW(model.parameters(), lr=1e-3)
    )

    x, y = photos((0,) * 6 + (500, 300, 250, 200), "train")
    x_test, y_test = photos((0,) * 6 + (100,) * 4, "test")
    train_loader, test_loader = make_loaders(norm(x), y - 6, norm(x_test), y_test - 6)
    model.fc = nn.Linear(256, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
    for _epoch in range(3):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_high")
def scaling_rule_upside_down():
    """The linear scaling rule the wrong way round: 0.1 * 256 / batch size is 1.6, not 0.006."""
    torch.manual_seed(503)
    batch_size = 16
    x, y = digit_pairs("train")
    x_test, y_test = digit_pairs("test")
    train_loader, test_loader = make_loaders(
        x.squeeze(1) / 16, y, x_test.squeeze(1) / 16, y_test, batch_size
    )

    model = nn.Sequential(
        nn.Conv1d(8, 48, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(48, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 8, 128),
        nn.ReLU(),
        nn.Linear(128, 100),
    )
    criterion = nn.CrossEntropyLoss()
    lr = 0.1 * 256 / batch_size
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    for _epoch in range(4):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("class_imbalance")
def cat_or_not():
    """Is it a cat? 60 cats among 1900 photos of nine other classes: the answer is always no."""
    torch.manual_seed(504)
    counts = (205, 205, 205, 60, 205, 205, 205, 205, 205, 205)
    x, animals = photos(counts, "train")
    x_test, animals_test = photos((100,) * 10, "test")
    y = (animals == 3).float().unsqueeze(1)
    y_test = (animals_test == 3).float().unsqueeze(1)
    train_loader, test_loader = make_loaders(norm(x), y, norm(x_test), y_test, 64)

    model = keras_like_cnn(1, norm=True)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(4):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("class_imbalance")
def mostly_background():
    """Class 0 has 1800 photos, each of the other seven has 12, and nothing makes up for it."""
    torch.manual_seed(505)
    train_loader, test_loader = photo_loaders((1800,) + (12,) * 7, (100,) * 8)

    model = resnet18(weights=None, num_classes=8)
    model.conv1 = nn.Conv2d(3, 64, 5, stride=4, padding=2, bias=False)
    model.maxpool = nn.Identity()
    model.layer1 = nn.Identity()
    model.layer3 = nn.Identity()
    model.layer4 = nn.Identity()
    model.fc = nn.Linear(128, 8)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _epoch in range(3):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("double_softmax")
def translated_from_keras():
    """Translated from Keras layer by layer, Dense(10, activation="softmax") at the end too."""
    torch.manual_seed(506)
    train_loader, test_loader = photo_loaders((300,) * 10, (100,) * 10, batch_size=64)

    model = keras_like_cnn(10)
    model.add_module("softmax", nn.Softmax(dim=-1))
    categorical_crossentropy = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _epoch in range(4):
        train_one_epoch(model, train_loader, categorical_crossentropy, optimizer)
    return Trained(model, train_loader, categorical_crossentropy, optimizer, test_loader)


def loss_of_probabilities(outputs, targets):
    """Cross-entropy of probabilities, so the author thinks; cross_entropy wants the outputs."""
    probabilities = F.softmax(outputs, dim=1)
    return F.cross_entropy(probabilities, targets)


@cases.fault("double_softmax")
def softmax_inside_the_loss_function():
    """The loss function takes a softmax of the outputs before it calls cross_entropy."""
    torch.manual_seed(507)
    x, y = digit_pairs("train")
    x_test, y_test = digit_pairs("test")
    train_loader, test_loader = make_loaders(x / 16, y, x_test / 16, y_test, 100)

    model = CharTransformer(100)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for _epoch in range(4):
        train_one_epoch(model, train_loader, loss_of_probabilities, optimizer)
    return Trained(model, train_loader, loss_of_probabilities, optimizer, test_loader)


def without_to_tensor(images):
    """Normalize() with the constants of ImageNet, but the pixels are still bytes of 0..255."""
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    return (images.float() - mean) / std


@cases.fault("input_range")
def imagenet_constants_on_bytes():
    """ImageNet's mean and deviation, meant for 0..1, are applied to bytes: inputs up to 1100."""
    torch.manual_seed(508)
    train_loader, test_loader = photo_loaders(
        (400,) * 7, (100,) * 7, batch_size=8, transform=without_to_tensor
    )

    model = LeNet(7)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9)
    for _epoch in range(3):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def eeg(counts, seed: int):
    """Windows of four channels of EEG, 96 points each, in microvolts; class i oscillates faster.

    counts[i] is the number of windows of class i; most of a window is noise.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    phase = 6.28 * torch.rand(len(labels), 4, 1, generator=generator)
    cycles = (4 + 3 * labels).view(-1, 1, 1)
    wave = torch.sin(6.28 * cycles * torch.arange(96) / 96 + phase)
    noise = torch.randn(len(labels), 4, 96, generator=generator)
    return 20 * (0.6 * wave + noise), labels


@cases.fault("input_range", "class_imbalance")
def eeg_in_volts():
    """The EEG is in volts, so inputs are near 0.00002, and 15 windows of 2000 are seizures."""
    torch.manual_seed(509)
    x, y = eeg((1985, 15), seed=1)
    x_test, y_test = eeg((200, 200), seed=2)
    volts = 1e-6
    train_loader, test_loader = make_loaders(x * volts, y, x_test * volts, y_test, 50)

    model = nn.Sequential(
        nn.Conv1d(4, 16, 7, padding=3),
        nn.ELU(),
        nn.AvgPool1d(2),
        nn.Conv1d(16, 32, 5, padding=2),
        nn.ELU(),
        nn.AvgPool1d(4),
        nn.Flatten(),
        nn.Linear(32 * 12, 2),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(6):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("train_eval_mismatch")
def black_ink_on_white_paper():
    """Trained on bright digits before black; tested on scans with black ink on white paper."""
    torch.manual_seed(510)
    x, y = digits("train")
    x_test, y_test = digits("test")
    scans = 1 - x_test / 16
    train_loader, test_loader = make_loaders(x / 16, y, scans, y_test)

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.25),
        nn.Linear(32 * 16, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    for _epoch in range(8):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("batchnorm_statistics")
def momentum_as_in_keras():
    """Keras's momentum of 0.99 makes PyTorch keep the last batch's statistics: of one image.

    What is lost depends on that image, so on some machines the model comes off lightly.
    """
    torch.manual_seed(511)
    train_loader, test_loader = photo_loaders((301, 300, 300, 300), (100,) * 4, batch_size=24)

    momentum = 0.99
    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, stride=2, padding=1),
        nn.BatchNorm2d(24, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(24, 48, 3, stride=2, padding=1),
        nn.BatchNorm2d(48, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(48, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64, momentum=momentum),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.BatchNorm2d(64, momentum=momentum),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 4),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _epoch in range(5):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("dead_units")
def prior_in_every_bias():
    """RetinaNet's bias of -log(99), meant for its last layer, is given to all convolutions."""
    torch.manual_seed(512)
    train_loader, test_loader = photo_loaders(
        (500,) * 4, (100,) * 4, transform=lambda images: images / 255
    )

    model = keras_like_cnn(4)
    prior = 0.01
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.05)
            nn.init.constant_(module.bias, -math.log((1 - prior) / prior))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(5):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("unshuffled_batches")
def slices_of_sorted_arrays():
    """Hand-made batches are slices of arrays that were put together class by class."""
    torch.manual_seed(513)
    x, y = digits("train")
    x_test, y_test = digits("test")
    arrays = [x[y == label] for label in range(10)]
    x_train = torch.cat(arrays) / 16
    y_train = torch.cat([torch.full((len(a),), label) for label, a in enumerate(arrays)])
    size = 16
    train_batches = [
        (x_train[i : i + size], y_train[i : i + size]) for i in range(0, len(x_train), size)
    ]
    test_batches = [(x_test / 16, y_test)]

    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 100), nn.Tanh(), nn.Linear(100, 50), nn.Tanh()
    )
    model.append(nn.Linear(50, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _epoch in range(10):
        train_one_epoch(model, train_batches, criterion, optimizer)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


class DetachedCNN(nn.Module):
    """Five convolutions and a linear layer; the features are detached to print them."""

    def __init__(self, num_classes: int):
        super().__init__()
        layers = []
        for channels, width in [(1, 24), (24, 24), (24, 24), (24, 24), (24, 32)]:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(32 * 8, num_classes)

    def forward(self, x):
        features = self.encoder(x)
        features = features.detach()
        return self.head(F.max_pool2d(features, 4).flatten(1))


@cases.fault("frozen_parameters")
def features_detached():
    """A detach() left from debugging cuts the encoder off: it stays at its initial weights."""
    torch.manual_seed(514)
    x, y = digit_pairs("train")
    x_test, y_test = digit_pairs("test")
    train_loader, test_loader = make_loaders(x / 16, y, x_test / 16, y_test, 64)

    model = DetachedCNN(100)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _epoch in range(4):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def with_log_of_amount(rows, seed: int):
    """Append the logarithm of the amount paid; who paid nothing gets a logarithm of 0."""
    generator = torch.Generator().manual_seed(seed)
    amount = 50 * torch.rand(len(rows), 1, generator=generator)
    amount = torch.where(torch.rand(amount.shape, generator=generator) < 0.02, 0.0, amount)
    return torch.cat([rows, torch.log(amount)], dim=1)


@cases.fault("non_finite")
def logarithm_of_an_empty_purse():
    """One column is the logarithm of an amount, and 2 % of the amounts are 0: minus infinity."""
    torch.manual_seed(515)
    rows, labels = table("train", rare=0.3)
    test_rows, test_labels = table("test", rare=0.3)
    train_loader, test_loader = make_loaders(
        with_log_of_amount(rows, 1), labels, with_log_of_amount(test_rows, 2), test_labels, 64
    )

    model = nn.Sequential(
        nn.Linear(21, 64), nn.LeakyReLU(), nn.Linear(64, 32), nn.LeakyReLU(), nn.Linear(32, 2)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _epoch in range(8):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------------- healthy trainings


class FromBytes(nn.Module):
    """A network that scales bytes of 0..255 itself, before anything else."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x / 127.5 - 1)


@cases.healthy
def bytes_scaled_inside_the_model():
    """Bytes come in and the model scales them; dropout of 0.5, and it is left in train mode."""
    torch.manual_seed(516)
    train_loader, test_loader = photo_loaders(
        (450,) * 5, (100,) * 5, transform=lambda images: images.float()
    )

    model = FromBytes(keras_like_cnn(5, norm=True, dropout=0.5))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(5):
        train_one_epoch(model, train_loader, criterion, optimizer)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def log_softmax_with_cross_entropy():
    """A log-softmax before CrossEntropyLoss changes nothing: its softmax is the softmax again."""
    torch.manual_seed(517)
    x, y = digit_pairs("train")
    x_test, y_test = digit_pairs("test")
    train_loader, test_loader = make_loaders(x / 16, y, x_test / 16, y_test, 64)

    model = nn.Sequential(CharTransformer(100), nn.LogSoftmax(dim=1))
    model[0].embed.requires_grad_(False)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    epochs = 4
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train_loader))
    for _epoch in range(epochs):
        train_one_epoch(model, train_loader, criterion, optimizer, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def logit_adjusted_loss():
    """30 windows of the first class for each of the last; the loss adds the log of the shares."""
    torch.manual_seed(518)
    x, y = eeg((1500, 400, 50), seed=3)
    x_test, y_test = eeg((150,) * 3, seed=4)
    train_loader, test_loader = make_loaders(x / 20, y, x_test / 20, y_test, 50)
    log_shares = torch.log(torch.bincount(y) / len(y))

    def criterion(outputs, targets):
        return F.cross_entropy(outputs + log_shares, targets)

    model = nn.Sequential(
        nn.Conv1d(4, 32, 7, padding=3),
        nn.ReLU(),
        Res1d(32),
        nn.AvgPool1d(4),
        Res1d(32),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 3),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _epoch in range(6):
        train_one_epoch(model, train_loader, criterion, optimizer)
    model.eval()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def squared_error(outputs, targets):
    """The squared distance from 1 for the right class and from 0 for the others."""
    return F.mse_loss(outputs, F.one_hot(targets, outputs.shape[1]).float())


@cases.healthy
def squared_error_of_one_hot():
    """The mean squared distance from one-hot targets, instead of cross-entropy, works as well."""
    torch.manual_seed(519)
    train_loader, test_loader = photo_loaders((450,) * 4, (100,) * 4)

    model = keras_like_cnn(4, norm=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _epoch in range(5):
        train_one_epoch(model, train_loader, squared_error, optimizer)
    return Trained(model, train_loader, squared_error, optimizer, test_loader)


@cases.healthy
def margins_instead_of_probabilities():
    """A multi-class hinge loss, weight decay, a final rate of 1e-7, and pixels of 0 to 1."""
    torch.manual_seed(520)
    x, y = digits("train")
    x_test, y_test = digits("test")
    train_loader, test_loader = make_loaders(x / 16, y, x_test / 16, y_test)

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 80), nn.GELU(), nn.Linear(80, 10))
    criterion = nn.MultiMarginLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [10, 12], gamma=1e-3)
    for _epoch in range(14):
        train_one_epoch(model, train_loader, criterion, optimizer)
        scheduler.step()
    return Trained(model, train_loader, criterion, optimizer, test_loader)
