"""Seventeen broken trainings and seven healthy ones, written without sight of the checks.

Each function is a whole training with a loop of its own and keeps nothing from the others. The
faults come about in other ways than in the first part, and stand in the function itself or in the
class right above it.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler
from torchvision.models import VisionTransformer, resnet18
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks.faults.case import Cases, Trained
from benchmarks.faults.data import digit_pairs, digits, photos, table

cases = Cases()


# ---------------------------------------------------------------------------------- networks


def vgg(num_outputs: int, norm: bool = False, dropout: float = 0.0) -> nn.Sequential:
    """Four convolutions and two linear layers; with `norm`, a BatchNorm after each convolution."""
    layers = []
    channels = 3
    for width in (16, 32, 48, 64):
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if norm:
            layers.append(nn.BatchNorm2d(width))
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    layers += [nn.Flatten(), nn.Linear(256, 96), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(96, num_outputs))


class Mixer(nn.Module):
    """A depthwise convolution inside a shortcut, then a pointwise one, each with a BatchNorm."""

    def __init__(self, width: int):
        super().__init__()
        self.space = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2, groups=width), nn.GELU(), nn.BatchNorm2d(width)
        )
        self.channels = nn.Sequential(nn.Conv2d(width, width, 1), nn.GELU(), nn.BatchNorm2d(width))

    def forward(self, x):
        return self.channels(x + self.space(x))


class ConvMixer(nn.Module):
    """Patches of 4x4 pixels, mixed three times, then averaged."""

    def __init__(self, num_classes: int, width: int = 48):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.GELU(), nn.BatchNorm2d(width))
        self.mixers = nn.Sequential(*[Mixer(width) for _ in range(3)])
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.classifier(self.mixers(self.stem(x)).mean((2, 3)))


class ColumnTransformer(nn.Module):
    """A transformer that reads an image of one channel column by column."""

    def __init__(self, height: int, columns: int, num_classes: int, width: int = 64):
        super().__init__()
        self.embed = nn.Linear(height, width)
        self.position = nn.Parameter(0.1 * torch.randn(columns, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(columns * width, num_classes)

    def forward(self, x):
        tokens = self.embed(x.squeeze(1).transpose(1, 2)) + self.position
        return self.head(self.encoder(tokens).flatten(1))


# ------------------------------------------------------------------------- repeated pieces


def scale(images):
    """Bytes 0..255 to floats of -1..1."""
    return images.float() / 127.5 - 1


def prepared(counts, split):
    images, labels = photos(counts, split)
    return scale(images), labels


def shuffled(inputs, targets, size: int = 32):
    return DataLoader(TensorDataset(inputs, targets), size, shuffle=True)


def in_order(inputs, targets, size: int = 50):
    """A list of batches, in the order of the data."""
    return list(zip(inputs.split(size), targets.split(size), strict=True))


# -------------------------------------------------------------------------- broken trainings


@cases.fault("learning_rate_too_high")
def loss_summed_over_batch():
    """The loss is summed over 64 images instead of averaged, the rate is one for averages."""
    torch.manual_seed(1)
    train_batches = shuffled(*prepared((450,) * 5, "train"), size=64)
    test_batches = in_order(*prepared((100,) * 5, "test"))

    net = vgg(5, norm=True)
    criterion = nn.CrossEntropyLoss(reduction="sum")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.03, momentum=0.9)
    for _epoch in range(4):
        net.train()
        for x, y in train_batches:
            loss = criterion(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Trained(net, train_batches, criterion, optimizer, test_batches)


@cases.fault("learning_rate_too_low")
def warm_up_counted_in_epochs():
    """A warm-up of 5000 steps is stepped once an epoch, so the rate stays near 1e-6."""
    torch.manual_seed(2)
    x_train, y_train = digits("train")
    x_test, y_test = digits("test")
    train_batches = shuffled(x_train / 16, y_train)
    test_batches = in_order(x_test / 16, y_test)

    model = ColumnTransformer(8, 8, 10)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    warm_up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 5000))
    for _epoch in range(8):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        warm_up.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("class_imbalance")
def long_tail_of_seven_classes():
    """From 1200 images a class down to 3, and neither sampler nor weights."""
    torch.manual_seed(3)
    counts = (1200, 700, 300, 10, 6, 4, 3)
    train_batches = shuffled(*prepared(counts, "train"))
    test_batches = in_order(*prepared((100,) * 7, "test"))

    model = ConvMixer(7)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    for _epoch in range(5):
        model.train()
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        model.eval()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("double_softmax")
def sigmoid_before_bce_with_logits():
    """The network ends in a sigmoid, BCEWithLogitsLoss applies another: no output is below 0."""
    torch.manual_seed(4)
    images, labels = photos((700, 500), "train")
    test_images, test_labels = photos((100, 100), "test")
    train_batches = shuffled(scale(images), labels.float())
    test_batches = in_order(scale(test_images), test_labels.float())

    model = nn.Sequential(vgg(1, norm=True), nn.Sigmoid(), nn.Flatten(0))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(4):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
    return Trained(model, train_batches, criterion, optimizer, test_batches)


class PhotoFiles(Dataset):
    """Photos as they come from files; `transform` makes tensors of them."""

    def __init__(self, split, transform):
        self.images, self.labels = photos((400,) * 4, split)
        self.transform = transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index].float() / 255), int(self.labels[index])


@cases.fault("input_range")
def divided_by_255_twice():
    """The data set has divided by 255, the transform does it again: inputs of 0 to 0.004."""
    torch.manual_seed(5)
    train_batches = DataLoader(PhotoFiles("train", lambda image: image / 255), 32, shuffle=True)
    test_batches = DataLoader(PhotoFiles("test", lambda image: image / 255), 32)

    model = nn.Sequential(
        nn.Conv2d(3, 24, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(24, 48, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48 * 8 * 8, 4),
    )
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _epoch in range(6):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("train_eval_mismatch")
def folders_numbered_as_strings():
    """Training classes are numbered as strings sort, "0", "1", "10", ...; test classes 0, 1, 2."""
    torch.manual_seed(6)
    x_train, numbers = digit_pairs("train")
    folders = sorted(str(number) for number in range(100))
    class_of_folder = {folder: index for index, folder in enumerate(folders)}
    y_train = torch.tensor([class_of_folder[str(number.item())] for number in numbers])
    x_test, y_test = digit_pairs("test")
    train_batches = shuffled(x_train / 16, y_train, 64)
    test_batches = in_order(x_test / 16, y_test)

    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1),
        nn.BatchNorm2d(24),
        nn.LeakyReLU(0.1),
        nn.Conv2d(24, 32, 3, stride=2, padding=1),
        nn.BatchNorm2d(32),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(32 * 4 * 8, 100),
    )
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4)
    for _epoch in range(4):
        model.train()
        for x, y in train_batches:
            optimizer.zero_grad(set_to_none=True)
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("batchnorm_statistics")
def speed_measured_in_train_mode():
    """Then its speed was measured in train() mode with blank images, which BatchNorm averages."""
    torch.manual_seed(7)
    train_batches = shuffled(*prepared((250,) * 4, "train"))
    test_batches = in_order(*prepared((100,) * 4, "test"))

    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    for _epoch in range(3):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()

    blank = torch.zeros(8, 3, 32, 32)
    with torch.no_grad():
        for _repeat in range(50):
            model(blank)
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


def negative_weights(module):
    """Somebody's initialisation: a normal distribution with the mean at -0.1."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, mean=-0.1, std=0.05)
        nn.init.zeros_(module.bias)


@cases.fault("dead_units")
def negative_weights_on_positive_pixels():
    """Pixels are 0 or more and initial weights mostly negative, so no ReLU ever opens."""
    torch.manual_seed(8)
    images, labels = photos((400,) * 5, "train")
    test_images, test_labels = photos((100,) * 5, "test")
    train_batches = shuffled(images / 255, labels)
    test_batches = in_order(test_images / 255, test_labels)

    model = vgg(5)
    model.apply(negative_weights)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(4):
        for x, y in train_batches:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


class ClassByClass:
    """Batches that hold one class each: a class drawn at random, then six batches of it."""

    def __init__(self, images, labels, size: int = 32, rounds: int = 40):
        self.members = [images[labels == label] for label in labels.unique()]
        self.size = size
        self.rounds = rounds

    def __iter__(self):
        for _round in range(self.rounds):
            label = torch.randint(len(self.members), ()).item()
            for _batch in range(6):
                rows = torch.randint(len(self.members[label]), (self.size,))
                yield self.members[label][rows], torch.full((self.size,), label)


@cases.fault("unshuffled_batches")
def one_class_in_each_batch():
    """The generator draws a class, then whole batches of it, so each batch has a single class."""
    torch.manual_seed(9)
    train_batches = ClassByClass(*prepared((400,) * 4, "train"))
    test_batches = in_order(*prepared((100,) * 4, "test"))

    model = vgg(4)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(2):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


def bce_by_hand(output, target):
    """Binary cross-entropy as in the textbook: 0 * log(0) as soon as an output rounds to 1."""
    p = torch.sigmoid(output).squeeze(1)
    return -(target * torch.log(p) + (1 - target) * torch.log(1 - p)).mean()


@cases.fault("non_finite")
def logarithm_of_zero():
    """A hand-made cross-entropy takes log(1 - p) where p has become exactly 1."""
    torch.manual_seed(10)
    rows, labels = table("train", rare=0.4)
    test_rows, test_labels = table("test", rare=0.4)
    train_batches = shuffled(rows, labels.float(), 64)
    test_batches = in_order(test_rows, test_labels.float(), 100)

    model = nn.Sequential(
        nn.Linear(20, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _epoch in range(25):
        for x, y in train_batches:
            optimizer.zero_grad()
            bce_by_hand(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, bce_by_hand, optimizer, test_batches)


class ThriftyTransformer(ColumnTransformer):
    """The same transformer, with an encoder that is spared the memory for gradients."""

    def forward(self, x):
        with torch.no_grad():
            tokens = self.embed(x.squeeze(1).transpose(1, 2)) + self.position
            features = self.encoder(tokens).mean(1)
        return self.head(features)


@cases.fault("frozen_parameters")
def encoder_under_no_grad():
    """The encoder runs under no_grad() in forward, so that only the head can learn."""
    torch.manual_seed(11)
    x_train, y_train = digits("train")
    x_test, y_test = digits("test")
    train_batches = shuffled(x_train / 16, y_train)
    test_batches = in_order(x_test / 16, y_test)

    model = ThriftyTransformer(8, 8, 10)
    model.head = nn.Linear(64, 10)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(10):
        model.train()
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("not_in_optimizer")
def head_replaced_after_optimizer():
    """The optimizer was given the head; then the head was replaced by one for the new classes."""
    torch.manual_seed(12)
    loss_fn = nn.CrossEntropyLoss()
    model = ConvMixer(6)
    images, labels = prepared((300,) * 6, "train")
    pretraining = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _epoch in range(4):
        for x, y in shuffled(images, labels):
            pretraining.zero_grad()
            loss_fn(model(x), y).backward()
            pretraining.step()

    images, labels = prepared((0,) * 6 + (300,) * 4, "train")
    test_images, test_labels = prepared((0,) * 6 + (100,) * 4, "test")
    train_batches = shuffled(images, labels - 6)
    test_batches = in_order(test_images, test_labels - 6)
    optimizer = torch.optim.Adam(model.classifier.parameters(), lr=1e-2)
    model.classifier = nn.Linear(48, 4)
    for _epoch in range(4):
        for x, y in train_batches:
            model.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("undertrained")
def break_left_from_debugging():
    """A break, left over from debugging, ends each of the three epochs after its first batch."""
    torch.manual_seed(13)
    train_batches = shuffled(*prepared((500,) * 8, "train"))
    test_batches = in_order(*prepared((100,) * 8, "test"))

    model = VisionTransformer(
        32, 8, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=8
    )
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(3):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
            break
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("gradients_not_cleared")
def cleared_before_the_loop_only():
    """zero_grad() stands before the loop, so each step adds up all gradients since the start."""
    torch.manual_seed(14)
    train_batches = shuffled(*prepared((350,) * 6, "train"))
    test_batches = in_order(*prepared((100,) * 6, "test"))

    model = ConvMixer(6)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    optimizer.zero_grad()
    for _epoch in range(4):
        for x, y in train_batches:
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("label_range")
def targets_of_minus_one_and_one():
    """Targets are -1 and +1, as for a support vector machine; the loss wants 0 and 1."""
    torch.manual_seed(15)
    images, labels = photos((600, 600), "train")
    test_images, test_labels = photos((100, 100), "test")
    train_batches = shuffled(scale(images), labels.float().unsqueeze(1) * 2 - 1)
    test_batches = in_order(scale(test_images), test_labels.float().unsqueeze(1) * 2 - 1)

    model = vgg(1)
    loss_fn = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(6):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


class TokenTransformer(nn.Module):
    """A vision transformer that reads the class off a token of its own, the first of them."""

    def __init__(self, num_classes: int, width: int = 64):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 17, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.position
        return self.head(self.encoder(x)[:, 0])


@cases.fault("constant_output")
def batch_first_forgotten():
    """Without batch_first, attention mixes images, not patches: the class token sees no patch."""
    torch.manual_seed(16)
    train_batches = shuffled(*prepared((500,) * 4, "train"))
    test_batches = in_order(*prepared((100,) * 4, "test"))

    model = TokenTransformer(4)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    for _epoch in range(6):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.fault("class_imbalance", "train_eval_mismatch")
def rare_classes_and_wrong_constants():
    """Two of four classes are rare; test images of 0..1 get the mean and deviation for bytes."""
    torch.manual_seed(17)
    images, labels = photos((1000, 1000, 10, 10), "train")
    test_images, test_labels = photos((100,) * 4, "test")
    train_batches = shuffled((images.float() - 120) / 64, labels)
    test_batches = in_order((test_images / 255 - 120) / 64, test_labels)

    model = vgg(4)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _epoch in range(5):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


# ------------------------------------------------------------------------- healthy trainings


@cases.healthy
def long_tail_with_balanced_sampler():
    """Ten images of the first class for each of the last, but all are drawn equally often."""
    torch.manual_seed(18)
    images, labels = photos((1000, 500, 250, 100), "train")
    test_images, test_labels = photos((100,) * 4, "test")
    weights = 1 / torch.bincount(labels)[labels]
    sampler = WeightedRandomSampler(weights, 2000)
    train_batches = DataLoader(TensorDataset(scale(images), labels), 32, sampler=sampler)
    test_batches = in_order(scale(test_images), test_labels)

    model = ConvMixer(4)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _epoch in range(4):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.healthy
def gradients_of_four_batches():
    """Gradients of four small batches are added up on purpose, and cleared after each step."""
    torch.manual_seed(19)
    train_batches = shuffled(*prepared((500,) * 4, "train"), size=16)
    test_batches = in_order(*prepared((100,) * 4, "test"))

    model = vgg(4)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    for _epoch in range(8):
        optimizer.zero_grad()
        for step, (x, y) in enumerate(train_batches, start=1):
            loss = loss_fn(model(x), y) / 4
            loss.backward()
            if step % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.healthy
def sigmoid_with_bce_loss():
    """The network ends in a sigmoid, which is right for BCELoss; a quarter is positive."""
    torch.manual_seed(20)
    rows, labels = table("train", rare=0.25)
    test_rows, test_labels = table("test", rare=0.25)
    train_batches = shuffled(rows, labels.float().view(-1, 1), 64)
    test_batches = in_order(test_rows, test_labels.float().view(-1, 1), 100)

    model = nn.Sequential(
        nn.Linear(20, 48),
        nn.BatchNorm1d(48),
        nn.Tanh(),
        nn.Linear(48, 24),
        nn.Tanh(),
        nn.Linear(24, 1),
        nn.Sigmoid(),
    )
    criterion = nn.BCELoss()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    for _epoch in range(10):
        model.train()
        for x, y in train_batches:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, criterion, optimizer, test_batches)


class RandomBatches:
    """90 batches drawn at random, of images with fresh noise; it cannot tell its length."""

    def __init__(self, inputs, targets, size: int = 64):
        self.inputs = inputs
        self.targets = targets
        self.size = size

    def __iter__(self):
        for _batch in range(90):
            rows = torch.randint(len(self.inputs), (self.size,))
            yield with_noise(self.inputs[rows]), self.targets[rows]


def with_noise(images):
    return images + 1.0 * torch.randn_like(images)


@cases.healthy
def hundred_classes_half_learned():
    """A hundred classes of noisy images, smoothed labels: under half can be told apart."""
    torch.manual_seed(21)
    x_train, y_train = digit_pairs("train")
    x_test, y_test = digit_pairs("test")
    train_batches = RandomBatches(x_train / 8 - 1, y_train)
    test_batches = in_order(with_noise(x_test / 8 - 1), y_test)

    model = ColumnTransformer(8, 16, 100, width=32)
    loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _epoch in range(5):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


class FocalLoss(nn.Module):
    """Cross-entropy that counts the less, the surer the network is of the right class."""

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, targets):
        cross_entropy = F.cross_entropy(logits, targets, reduction="none")
        return ((1 - torch.exp(-cross_entropy)) ** self.gamma * cross_entropy).mean()


@cases.healthy
def focal_loss_and_dropout():
    """A hand-made focal loss, dropout, weight decay, and a model left in eval() mode."""
    torch.manual_seed(22)
    train_batches = shuffled(*prepared((900, 600, 400), "train"))
    test_batches = in_order(*prepared((100,) * 3, "test"))

    model = vgg(3, norm=True, dropout=0.5)
    loss_fn = FocalLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    for _epoch in range(5):
        model.train()
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        model.eval()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


@cases.healthy
def small_rate_wide_network():
    """Adam at 3e-5 on raw pixels of 0 to 16, which is enough for so wide a network."""
    torch.manual_seed(23)
    x_train, y_train = digits("train")
    x_test, y_test = digits("test")
    train_batches = shuffled(x_train, y_train, 16)
    test_batches = in_order(x_test, y_test)

    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU()
    )
    model.append(nn.Linear(512, 10))
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-5)
    for _epoch in range(6):
        for x, y in train_batches:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)


class DigitResNet(nn.Module):
    """torchvision's ResNet-18; it gives probabilities in eval() mode, scores while it learns."""

    def __init__(self):
        super().__init__()
        self.resnet = resnet18(weights=None, num_classes=10)

    def forward(self, x):
        x = F.interpolate(x, size=28, mode="bilinear").expand(-1, 3, -1, -1)
        scores = self.resnet(x)
        return scores if self.training else scores.softmax(dim=1)


@cases.healthy
def softmax_in_eval_mode_only():
    """One epoch, inputs of 0..1 as they are, and a softmax that is off while the network learns."""
    torch.manual_seed(24)
    x_train, y_train = digits("train")
    x_test, y_test = digits("test")
    train_batches = shuffled(x_train / 16, y_train, 16)
    test_batches = in_order(x_test / 16, y_test)

    model = DigitResNet()
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    for x, y in train_batches:
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
    return Trained(model, train_batches, loss_fn, optimizer, test_batches)
