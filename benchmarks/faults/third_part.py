"""Twelve broken trainings and four healthy ones, re-created from public threads about failures.

Each function is what somebody with that thread's code would have written in plain PyTorch; the
docstring names the thread. The fault stands in the function itself or in the class or function
right above it. The data are this bench's own.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.faults.case import Cases, Trained
from benchmarks.faults.data import digit_pairs, digits, photos, table

cases = Cases()


# ------------------------------------------------------------------------- repeated pieces


def to_floats(images):
    """Bytes 0..255 to floats of about -2..2."""
    return (images.float() - 115) / 62


def batches_of(inputs, targets, batch_size, shuffle=True):
    return DataLoader(TensorDataset(inputs, targets), batch_size, shuffle=shuffle)


def photo_batches(counts, test_counts, batch_size=32):
    """Training and test batches of photos."""
    images, labels = photos(counts, "train")
    test_images, test_labels = photos(test_counts, "test")
    return (
        batches_of(to_floats(images), labels, batch_size),
        batches_of(to_floats(test_images), test_labels, 100, shuffle=False),
    )


def digit_batches(batch_size=32):
    """Training and test batches of handwritten digits, values 0..1."""
    images, labels = digits("train")
    test_images, test_labels = digits("test")
    return (
        batches_of(images / 16, labels, batch_size),
        batches_of(test_images / 16, test_labels, 100, shuffle=False),
    )


def fit(network, batches, criterion, optimizer, epochs):
    for _ in range(epochs):
        network.train()
        for data, target in batches:
            optimizer.zero_grad()
            output = network(data)
            loss = criterion(output, target)
            loss.backward()
            optimizer.step()


# -------------------------------------------------------------------------- broken trainings


class RowTransformer(nn.Module):
    """Reads a photo row by row, as a sentence of 32 words, with PyTorch's own encoder layers."""

    def __init__(self, num_labels: int, width: int = 64):
        super().__init__()
        self.embedding = nn.Linear(3 * 32, width)
        self.positions = nn.Parameter(0.02 * torch.randn(32, width))
        layer = nn.TransformerEncoderLayer(width, 4, 128, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.classifier = nn.Linear(width, num_labels)

    def forward(self, pixel_values):
        rows = pixel_values.permute(0, 2, 1, 3).flatten(2)
        hidden = self.encoder(self.embedding(rows) + self.positions)
        return self.classifier(hidden.mean(dim=1))


@cases.fault("learning_rate_too_high")
def transformer_at_rate_of_cnn():
    """AdamW at 0.1 on a transformer: a rate for CNNs (NielsRogge/Transformers-Tutorials#31)."""
    torch.manual_seed(31)
    train_batches, test_batches = photo_batches((300,) * 5, (100,) * 5)

    model = RowTransformer(num_labels=5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    fit(model, train_batches, criterion, optimizer, epochs=4)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


def customers(number: int, seed: int, share: float):
    """Customers with 60 columns each, none of which says much; a `share` of them buys."""
    generator = torch.Generator().manual_seed(seed)
    buys = (torch.rand(number, generator=generator) < share).float()
    columns = torch.randn(number, 60, generator=generator)
    columns[:, :12] += 0.45 * buys.unsqueeze(1)
    return columns, buys


@cases.fault("class_imbalance")
def learns_the_bias_only():
    """4 % positives: the network says "negative" to everything (datascience.SE 19283)."""
    torch.manual_seed(19283)
    train_batches = batches_of(*customers(8000, seed=1, share=0.04), 128)
    test_batches = batches_of(*customers(2000, seed=2, share=0.04), 500, shuffle=False)

    model = nn.Sequential(
        nn.Linear(60, 8),
        nn.ReLU(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Linear(8, 8),
        nn.ReLU(),
        nn.Linear(8, 1),
        nn.Flatten(0),
    )
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_batches, criterion, optimizer, epochs=12)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


class PairConvNet(nn.Module):
    """LeNet with tanh for two digits side by side."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.fc1 = nn.Linear(24 * 4 * 8, 120)
        self.fc2 = nn.Linear(120, 100)

    def forward(self, x):
        x = torch.tanh(self.conv1(x))
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), 2)
        x = torch.tanh(self.fc1(x.flatten(1)))
        return torch.sigmoid(self.fc2(x))


@cases.fault("double_softmax")
def sigmoid_before_cross_entropy():
    """The last layer of a 100-class network is a sigmoid, the loss wants logits (keras#5992)."""
    torch.manual_seed(5992)
    images, labels = digit_pairs("train")
    test_images, test_labels = digit_pairs("test")
    train_batches = batches_of(images / 16, labels, 50)
    test_batches = batches_of(test_images / 16, test_labels, 100, shuffle=False)

    model = PairConvNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    fit(model, train_batches, criterion, optimizer, epochs=5)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


def with_salary(rows, seed: int):
    """Append the yearly salary and the balance of the account, in cents, as the database has it."""
    generator = torch.Generator().manual_seed(seed)
    salary = 5e6 + 2e6 * torch.randn(len(rows), 1, generator=generator)
    balance = 1e6 * torch.randn(len(rows), 1, generator=generator)
    return torch.cat([rows, salary, balance], dim=1)


@cases.fault("input_range")
def no_standard_scaler():
    """Two columns of millions next to twenty of about 1, and no StandardScaler (keras#2975)."""
    torch.manual_seed(2975)
    rows, labels = table("train")
    test_rows, test_labels = table("test")
    train_batches = batches_of(with_salary(rows, seed=1), labels, 25)
    test_batches = batches_of(with_salary(test_rows, seed=2), test_labels, 100, shuffle=False)

    model = nn.Sequential(
        nn.Linear(22, 40), nn.ELU(), nn.Dropout(0.1), nn.Linear(40, 20), nn.ELU(), nn.Linear(20, 2)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_batches, criterion, optimizer, epochs=10)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


class FireNet(nn.Module):
    """A small SqueezeNet: 1x1 convolutions squeeze, 1x1 and 3x3 ones expand."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, stride=2, padding=1)
        self.squeeze = nn.ModuleList([nn.Conv2d(24, 12, 1), nn.Conv2d(48, 16, 1)])
        self.narrow = nn.ModuleList([nn.Conv2d(12, 24, 1), nn.Conv2d(16, 32, 1)])
        self.wide = nn.ModuleList(
            [nn.Conv2d(12, 24, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)]
        )
        self.classifier = nn.Linear(64 * 4 * 4, num_classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for squeeze, narrow, wide in zip(self.squeeze, self.narrow, self.wide, strict=True):
            x = F.relu(squeeze(x))
            x = F.max_pool2d(F.relu(torch.cat([narrow(x), wide(x)], dim=1)), 2)
        return self.classifier(x.flatten(1))


@cases.fault("train_eval_mismatch")
def reshaped_instead_of_transposed():
    """Inference reshapes (32, 32, 3) to (3, 32, 32) instead of transposing it (onnx#1440)."""
    torch.manual_seed(1440)
    images, labels = photos((450,) * 4, "train")
    files, test_labels = photos((100,) * 4, "test")
    files = files.permute(0, 2, 3, 1).contiguous()  # as an image library reads them
    test_images = files.reshape(-1, 3, 32, 32)
    train_batches = batches_of(to_floats(images), labels, 32)
    test_batches = batches_of(to_floats(test_images), test_labels, 50, shuffle=False)

    model = FireNet(4)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_batches, criterion, optimizer, epochs=6)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


def conv_bn(channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


def conv_bn_net(num_classes: int) -> nn.Sequential:
    """Five convolutions, each with a BatchNorm, and a linear head."""
    return nn.Sequential(
        conv_bn(3, 16, 1),
        conv_bn(16, 32, 2),
        conv_bn(32, 32, 1),
        conv_bn(32, 64, 2),
        conv_bn(64, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


@cases.fault("batchnorm_statistics")
def checkpoint_without_statistics():
    """Weights restored without BatchNorm's averages, BatchNorm then frozen (keras#9214)."""
    torch.manual_seed(9214)
    images, labels = photos((400,) * 4, "train")
    test_images, test_labels = photos((100,) * 4, "test")
    train_batches = batches_of(images / 255, labels, 32)
    test_batches = batches_of(test_images / 255, test_labels, 100, shuffle=False)

    criterion = nn.CrossEntropyLoss()
    model = conv_bn_net(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_batches, criterion, optimizer, epochs=4)
    checkpoint = dict(model.named_parameters())

    model = conv_bn_net(4)
    model.load_state_dict(checkpoint, strict=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    model.eval()  # fine-tuning, so BatchNorm must not change
    for data, target in train_batches:
        optimizer.zero_grad()
        criterion(model(data), target).backward()
        optimizer.step()
    return Trained(model, train_batches, criterion, optimizer, test_batches)


class ReluScores(nn.Module):
    """Every layer is followed by a ReLU, the last one too."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 8, 128)
        self.fc2 = nn.Linear(128, 100)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return x


@cases.fault("activation_on_logits")
def relu_on_the_scores():
    """A ReLU after the last layer too: most scores die at 0 (discuss.pytorch 43814)."""
    torch.manual_seed(43814)
    images, labels = digit_pairs("train")
    test_images, test_labels = digit_pairs("test")
    train_batches = batches_of(images / 8 - 1, labels, 32)
    test_batches = batches_of(test_images / 8 - 1, test_labels, 100, shuffle=False)

    model = ReluScores()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_batches, criterion, optimizer, epochs=4)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


def mean_over_classes(scores, targets):
    """The mean loss of each class, then their mean, so that no class counts for more."""
    losses = F.cross_entropy(scores, targets, reduction="none")
    members = F.one_hot(targets, scores.shape[1]).float()
    return (losses @ members / members.sum(dim=0)).mean()


@cases.fault("non_finite")
def class_missing_in_batch():
    """The loss takes each class's mean, which is 0 / 0 if a batch lacks a class (deepmedic#66)."""
    torch.manual_seed(66)
    train_batches, test_batches = digit_batches(batch_size=16)

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.Hardswish(), nn.Conv2d(16, 32, 3), nn.Hardswish(), nn.Flatten()
    )
    model.append(nn.Linear(32 * 4 * 4, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fit(model, train_batches, mean_over_classes, optimizer, epochs=4)
    return Trained(model, train_batches, mean_over_classes, optimizer, test_batches)


class Bottleneck(nn.Module):
    """A trunk named `backbone`, and a `classifier` of two layers."""

    def __init__(self, num_labels: int):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 32, 4, 4),
            nn.GroupNorm(4, 32),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.GroupNorm(4, 64),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(64 * 16, 48), nn.SiLU(), nn.Linear(48, num_labels)
        )

    def forward(self, x):
        return self.classifier(self.backbone(x))


@cases.fault("frozen_parameters")
def only_norms_left_trainable():
    """All is frozen but the norms of the trunk, the new head too (transformers#9374)."""
    torch.manual_seed(9374)
    criterion = nn.CrossEntropyLoss()
    model = Bottleneck(5)
    pretraining, _ = photo_batches((300,) * 5, (100,) * 5)
    fit(model, pretraining, criterion, torch.optim.Adam(model.parameters(), lr=1e-3), epochs=3)

    images, labels = photos((0,) * 5 + (300,) * 5, "train")
    test_images, test_labels = photos((0,) * 5 + (100,) * 5, "test")
    train_batches = batches_of(to_floats(images), labels - 5, 32)
    test_batches = batches_of(to_floats(test_images), test_labels - 5, 100, shuffle=False)
    model.classifier = Bottleneck(5).classifier
    for parameter in model.parameters():
        parameter.requires_grad = parameter.ndim == 1 and len(parameter) == 32
    optimizer = torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=2e-3)
    fit(model, train_batches, criterion, optimizer, epochs=5)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


@cases.fault("undertrained")
def batch_size_of_800():
    """Batches of 800 out of 2400 images and two epochs make six steps in all (keras#6447)."""
    torch.manual_seed(6447)
    train_batches, test_batches = photo_batches((400,) * 6, (100,) * 6, batch_size=800)

    model = FireNet(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-3)
    fit(model, train_batches, criterion, optimizer, epochs=2)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


def sgd(parameters, lr):
    """Gradient descent from scratch."""
    with torch.no_grad():
        for parameter in parameters:
            parameter -= lr * parameter.grad


@cases.fault("gradients_not_cleared")
def sgd_from_scratch():
    """The hand-written sgd() never sets gradients to zero (dive_into_deep_learning#6)."""
    torch.manual_seed(6)
    train_batches, test_batches = photo_batches((400,) * 5, (100,) * 5, batch_size=64)

    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2), nn.Tanh(), nn.Conv2d(16, 32, 3, stride=2), nn.Tanh()
    )
    net.extend([nn.Flatten(), nn.Linear(32 * 7 * 7, 5)])
    loss = nn.CrossEntropyLoss()
    num_epochs, lr = 8, 0.1
    for _epoch in range(num_epochs):
        for X, y in train_batches:
            loss(net(X), y).backward()
            sgd(net.parameters(), lr)
    return Trained(net, train_batches, loss, None, test_batches)


@cases.fault("inverted_class_weights")
def pos_weight_upside_down():
    """pos_weight is positives / negatives instead of the inverse (discuss.pytorch 145203)."""
    torch.manual_seed(145203)
    columns, buys = customers(5000, seed=3, share=0.2)
    test_columns, test_buys = customers(1000, seed=4, share=0.2)
    train_batches = batches_of(columns, buys.unsqueeze(1), 40)
    test_batches = batches_of(test_columns, test_buys.unsqueeze(1), 40, shuffle=False)

    model = nn.Sequential(
        nn.Linear(60, 32), nn.BatchNorm1d(32), nn.GELU(), nn.Dropout(0.3), nn.Linear(32, 1)
    )
    positives = buys.sum()
    negatives = len(buys) - positives
    criterion = nn.BCEWithLogitsLoss(pos_weight=positives / negatives)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
    fit(model, train_batches, criterion, optimizer, epochs=5)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


# ------------------------------------------------------------------------- healthy trainings


class DigitLSTM(nn.Module):
    """Reads an image of one channel row by row."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        _, (hidden, _) = self.lstm(x.squeeze(1))
        return self.head(hidden[-1])


@cases.healthy
def one_zero_among_eighty():
    """Is it a zero? One digit in 80 is, but zeros are easy to tell (after datascience.SE 16840)."""
    torch.manual_seed(16840)
    images, labels = digits("train")
    test_images, test_labels = digits("test")
    others = torch.nonzero(labels != 0).flatten()
    zeros = torch.nonzero(labels == 0).flatten()[:14]
    kept = torch.cat([others, zeros])
    train_batches = batches_of(images[kept] / 16, (labels[kept] == 0).long(), 32)
    test_batches = batches_of(test_images / 16, (test_labels == 0).long(), 100, shuffle=False)

    model = DigitLSTM(2)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_batches, criterion, optimizer, epochs=30)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


@cases.healthy
def loss_stays_above_one():
    """Smoothing of 0.4 keeps the loss above 1.4; the digits are right (after keras#6447)."""
    torch.manual_seed(64470)
    train_batches, test_batches = digit_batches()

    model = DigitLSTM(10)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.4)
    optimizer = torch.optim.Adamax(model.parameters(), lr=5e-3)
    fit(model, train_batches, criterion, optimizer, epochs=12)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


@cases.healthy
def learning_rate_of_one():
    """SGD at a learning rate of 1, which a small network of sigmoids needs (after keras#2975)."""
    torch.manual_seed(29750)
    train_batches, test_batches = digit_batches()

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.Sigmoid(), nn.Linear(30, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    fit(model, train_batches, criterion, optimizer, epochs=15)
    return Trained(model, train_batches, criterion, optimizer, test_batches)


@cases.healthy
def batchnorm_with_batches_of_six():
    """BatchNorm over batches of six photos; its averages still fit (after keras#9214)."""
    torch.manual_seed(92140)
    train_batches, test_batches = photo_batches((400,) * 3, (100,) * 3, batch_size=6)

    model = conv_bn_net(3)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_batches, criterion, optimizer, epochs=4)
    return Trained(model, train_batches, criterion, optimizer, test_batches)
