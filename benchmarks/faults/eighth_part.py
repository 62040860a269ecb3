"""Healthy trainings only, each with something about it that invites a wrong accusation.

Their author has not read the checks. What tempts stands in each docstring, and why it is no fault.
Each has come more than half of the way from guessing to perfect on its test batches, with CIFAR-10;
`python -m benchmarks.faults.mended` shows the balanced accuracies behind the seventh part's.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2

from benchmarks.faults.case import Cases, Trained
from benchmarks.faults.data import digits, photos
from benchmarks.faults.seventh_part import Transformed
from benchmarks.faults.sixth_part import (
    TinyViT,
    digit_loaders,
    fit,
    loaders,
    mlp,
    scaled,
    small_cnn,
)
from imbalkit import BalancedSoftmaxLoss

cases = Cases()

PLANE, CAR, BIRD, DEER, FROG, HORSE, SHIP = 0, 1, 2, 4, 6, 7, 8


def chosen(classes: tuple[int, ...], each: int, split: str):
    """`each` photos of these classes, numbered anew from 0 in their old order."""
    images, labels = photos(tuple(each * (label in classes) for label in range(10)), split)
    return images, torch.searchsorted(torch.tensor(sorted(classes)), labels)


def chosen_loaders(classes: tuple[int, ...], each: int, batch_size: int = 32):
    """Shuffled training batches and test batches of these classes."""
    (x, y), (x_test, y_test) = chosen(classes, each, "train"), chosen(classes, 100, "test")
    return loaders(scaled(x), y, scaled(x_test), y_test, batch_size)


# ----------------------------------------------------------------- rates, schedules and steps


@cases.healthy
def careful_rate_for_three_epochs():
    """A wide network on raw photos, Adam at 3e-5 for three epochs: the loss is high, and falls.

    Tempting: a rate too low. It is right for so wide a network: at ten or thirty times the rate,
    the score at test is no better.
    """
    torch.manual_seed(801)
    train_loader, test_loader = chosen_loaders((PLANE, CAR, FROG, HORSE), 500)

    model = nn.Sequential(nn.Flatten(), mlp(3072, 1024, 768, 512, 4))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-5)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def another_scanner(images):
    """The same digits, paler and with the grain of another scanner."""
    generator = torch.Generator().manual_seed(int(images.sum()))
    return 0.3 + 0.5 * images / 16 + 0.12 * torch.randn(images.shape, generator=generator)


@cases.healthy
def fine_tuning_for_another_scanner():
    """A transformer that knows clean digits is tuned whole for those of another scanner, at 5e-5.

    Tempting: weights that hardly move, and a loss that begins low. So it is meant: most is known.
    """
    torch.manual_seed(802)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    train_loader, test_loader = loaders(another_scanner(x), y, another_scanner(x_test), y_test, 16)
    source, _ = digit_loaders()

    model = TinyViT()
    criterion = nn.CrossEntropyLoss()
    fit(model, source, criterion, torch.optim.AdamW(model.parameters(), lr=2e-3), epochs=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class InvertedResidual(nn.Module):
    """Wide inside, narrow outside, as in MobileNet."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, 3 * width, 1, bias=False),
            nn.BatchNorm2d(3 * width),
            nn.ReLU6(),
            nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False),
            nn.BatchNorm2d(3 * width),
            nn.ReLU6(),
            nn.Conv2d(3 * width, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x):
        return x + self.layers(x)


@cases.healthy
def cosine_at_its_end():
    """A warm-up and then half a cosine, down to a rate of exactly 0, and a loss of nearly 0.

    Tempting: a rate of 0, weights that stand still, gradients of nearly 0. The training is over.
    """
    torch.manual_seed(803)
    train_loader, test_loader = digit_loaders()

    model = nn.Sequential(
        *[nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU()],
        *[InvertedResidual(24), nn.MaxPool2d(2), InvertedResidual(24)],
        *[nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10)],
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
    steps = 10 * len(train_loader)
    phases = [LinearLR(optimizer, 0.1, total_iters=40), CosineAnnealingLR(optimizer, steps - 40)]
    scheduler = SequentialLR(optimizer, phases, milestones=[40])
    fit(model, train_loader, criterion, optimizer, 10, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def eight_batches_of_four():
    """Only four photos fit in the memory: eight batches make a step, whose gradient is cut to 1.

    Tempting: batches too small and noisy, gradients that are not cleared, and clipped ones.
    """
    torch.manual_seed(804)
    train_loader, test_loader = chosen_loaders((CAR, DEER, SHIP), 500, 4)

    model = nn.Sequential(
        *[nn.Conv2d(3, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.SiLU(), nn.MaxPool2d(2)],
        *[nn.Conv2d(24, 40, 3, padding=1), nn.GroupNorm(4, 40), nn.SiLU(), nn.MaxPool2d(4)],
        *[nn.Flatten(), nn.Linear(640, 3)],
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    for _epoch in range(6):
        optimizer.zero_grad()
        for number, (images, labels) in enumerate(train_loader, start=1):
            (criterion(model(images), labels) / 8).backward()
            if number % 8 == 0 or number == len(train_loader):
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
    options = {"accumulate": 8}
    return Trained(model, train_loader, criterion, optimizer, test_loader, options)


class Lion(torch.optim.Optimizer):
    """Every weight moves by the rate, in the direction of the sign of the averaged gradient."""

    def __init__(self, params, lr: float, betas=(0.9, 0.99), weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            short, long = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("average", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * torch.lerp(p.grad, average, short).sign())
                average.lerp_(p.grad, 1 - long)
        return loss


@cases.healthy
def signs_of_gradients():
    """A hand-written Lion, at 3e-4 and with a weight decay of 1, in double precision.

    Tempting: an optimizer that nobody knows, a rate that is low for SGD and a decay that is high
    for AdamW. Lion wants a third of Adam's rate and three to ten times its decay.
    """
    torch.manual_seed(805)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    x, x_test = x.flatten(1).double() / 8 - 1, x_test.flatten(1).double() / 8 - 1
    train_loader, test_loader = loaders(x, y, x_test, y_test, 32)

    model = mlp(64, 128, 64, 10, activation=nn.Mish).double()
    criterion = nn.CrossEntropyLoss()
    optimizer = Lion(model.parameters(), lr=3e-4, weight_decay=1.0)
    fit(model, train_loader, criterion, optimizer, epochs=12)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------ networks that came trained


class Probe(nn.Module):
    """A head on features through which no gradient goes; they are standardised, as for MAE."""

    def __init__(self, encoder, features: int, num_classes: int):
        super().__init__()
        self.encoder = encoder
        self.norm = nn.BatchNorm1d(features, affine=False)
        self.head = nn.Linear(features, num_classes)

    def forward(self, x):
        with torch.no_grad():
            features = self.encoder(x)
        return self.head(self.norm(features))


@cases.healthy
def probe_of_features_without_labels():
    """A frozen encoder, trained to take noise away, never for classes; a linear head learns.

    Tempting: 99 of 100 weights get no gradient and are in no optimizer. That is what a probe is.
    """
    torch.manual_seed(806)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    train_loader, test_loader = loaders(x / 16, y, x_test / 16, y_test)

    encoder = nn.Sequential(
        *[nn.Conv2d(1, 32, 3, padding=1), nn.GELU(), nn.Conv2d(32, 64, 3, 2, 1), nn.GELU()],
        *[nn.Flatten(), nn.Linear(1024, 96), nn.GELU()],
    )
    decoder = mlp(96, 128, 64)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    pretraining = torch.optim.AdamW(parameters, lr=1e-3)
    for _epoch in range(8):
        for images, _labels in train_loader:
            pretraining.zero_grad()
            noisy = images + 0.3 * torch.randn_like(images)
            F.mse_loss(decoder(encoder(noisy)), images.flatten(1)).backward()
            pretraining.step()

    model = Probe(encoder.requires_grad_(False), 96, 10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.05, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Adapted(nn.Module):
    """A frozen linear layer and beside it a product of two thin ones, 0 at the beginning."""

    def __init__(self, layer: nn.Linear, rank: int = 4):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + 2 * self.up(self.down(x))


@cases.healthy
def thin_layers_beside_frozen_ones():
    """Low-rank adapters teach a network of the digits 0 to 5 the digits 6 to 9.

    Tempting: most weights are frozen, and a matrix of each adapter began at 0, which for two
    matrices would have been a fault.
    """
    torch.manual_seed(807)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    x, x_test = x.flatten(1) / 16, x_test.flatten(1) / 16
    source, _ = loaders(x[y < 6], y[y < 6], x_test, y_test)
    criterion = nn.CrossEntropyLoss()
    model = mlp(64, 192, 192, 6)
    fit(model, source, criterion, torch.optim.Adam(model.parameters(), lr=2e-3), epochs=6)

    model[0], model[2], model[4] = Adapted(model[0]), Adapted(model[2]), nn.Linear(192, 4)
    known = x_test[y_test >= 6], y_test[y_test >= 6] - 6
    train_loader, test_loader = loaders(x[y >= 6], y[y >= 6] - 6, *known, 16)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def copy_that_follows():
    """What is kept is a slow copy of the network: in eval(), and no weight of it wants a gradient.

    Tempting: everything is frozen, and the optimizer holds none of it; it holds the weights of the
    network that the copy followed.
    """
    torch.manual_seed(808)
    train_loader, test_loader = chosen_loaders((PLANE, FROG, HORSE), 500)

    model = small_cnn(3)
    follower = copy.deepcopy(model).eval().requires_grad_(False)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _epoch in range(6):
        model.train()
        for images, labels in train_loader:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
            with torch.no_grad():
                pairs = zip(follower.parameters(), model.parameters(), strict=True)
                for slow, fast in pairs:
                    slow.lerp_(fast, 0.03)
    return Trained(follower, train_loader, criterion, optimizer, test_loader)


# --------------------------------------------------------------------------- data and targets


@cases.healthy
def harder_in_training_than_at_test():
    """Crops, flips, erased boxes, and mixup or CutMix for each batch, smoothed on top.

    Tempting: in training, three in four are right and the loss stays above 0.8; at test, four in
    five. Training is made harder on purpose.
    """
    torch.manual_seed(811)
    classes = (PLANE, CAR, FROG)
    (x, y), (x_test, y_test) = chosen(classes, 450, "train"), chosen(classes, 100, "test")
    augment = v2.Compose(
        [
            v2.RandomResizedCrop(32, scale=(0.4, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.47] * 3, [0.25] * 3),
            v2.RandomErasing(0.5),
        ]
    )
    mix = v2.RandomChoice([v2.MixUp(alpha=0.8, num_classes=3), v2.CutMix(num_classes=3)])
    train_loader = DataLoader(
        Transformed(x, y, lambda image, label: (augment(image), label)),
        batch_size=32,
        shuffle=True,
        collate_fn=lambda samples: mix(*default_collate(samples)),
    )
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=128)

    model = small_cnn(3, norm=True)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def generalised_cross_entropy(logits, targets):
    """(1 - p^0.7) / 0.7, which stops to believe labels that stay unlikely."""
    right = logits.softmax(1).gather(1, targets.unsqueeze(1))
    return ((1 - right**0.7) / 0.7).mean()


@cases.healthy
def three_in_ten_are_the_next_class():
    """Three labels in ten are one too high, as a tired typist's; the loss is made for that.

    Tempting: labels that do not belong to their images, and an accuracy in training below that at
    test. Seven in ten are right, and the network has learned those.
    """
    torch.manual_seed(812)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    y = (y + (torch.rand(len(y)) < 0.3)) % 10
    train_loader, test_loader = loaders(x / 16, y, x_test / 16, y_test)

    model = nn.Sequential(
        *[nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()],
        mlp(384, 64, 10),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    fit(model, train_loader, generalised_cross_entropy, optimizer, epochs=12)
    return Trained(model, train_loader, generalised_cross_entropy, optimizer, test_loader)


@cases.healthy
def forty_eight_images():
    """Twelve images of each of four digits are all that there is; with grain that is new each time.

    Tempting: six batches make an epoch, and all is right in training. So is nearly all at test.
    """
    torch.manual_seed(813)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    members = torch.cat([torch.nonzero(y == label).flatten()[:12] for label in range(4)])

    def grainy(image, label):
        return image + 0.1 * torch.randn_like(image), label

    train_set = Transformed(x[members] / 16, y[members], grainy)
    train_loader = DataLoader(train_set, batch_size=8, shuffle=True)
    test_set = TensorDataset(x_test[y_test < 4] / 16, y_test[y_test < 4])
    test_loader = DataLoader(test_set, batch_size=64)

    model = nn.Sequential(
        *[nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, 4)],
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    fit(model, train_loader, criterion, optimizer, epochs=40)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def numbers_of_three_digits(split: str, each: int):
    """Images (N, 1, 8, 24) of the numbers 000 to 999, `each` of every number."""
    images, labels = digits(split)
    generator = torch.Generator().manual_seed(each)
    members = [torch.nonzero(labels == digit).flatten() for digit in range(10)]
    numbers = torch.arange(1000).repeat_interleave(each)
    parts = []
    for place in (100, 10, 1):
        draws = torch.randint(10_000, (len(numbers),), generator=generator)
        wanted = (numbers // place % 10).tolist()
        drawn = [members[d][n % len(members[d])] for d, n in zip(wanted, draws, strict=True)]
        parts.append(images[torch.stack(drawn)])
    return torch.cat(parts, dim=3) / 16, numbers


@cases.healthy
def numbers_up_to_999():
    """A thousand classes, six images of each, told by the three digits in them.

    Tempting: batches of 100, which lack nine classes in ten, and far fewer images of a class than
    there are classes. Nine in ten numbers that were never seen are read right.
    """
    torch.manual_seed(814)
    train_loader, test_loader = loaders(
        *numbers_of_three_digits("train", 6), *numbers_of_three_digits("test", 2), 100
    )

    model = nn.Sequential(
        *[nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Flatten(), nn.Linear(24 * 48, 192), nn.BatchNorm1d(192), nn.ReLU()],
        nn.Linear(192, 1000),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def tones(counts: tuple[int, ...], seed: int):
    """Windows of 64 points, one tone in each, and the number of the tone as the label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    cycles = torch.tensor([3.0, 5, 8, 11, 15, 20])[labels].view(-1, 1, 1)
    phases = 2 * math.pi * torch.rand(len(labels), 1, 1, generator=generator)
    hiss = 1.15 * torch.randn(len(labels), 1, 64, generator=generator)
    return torch.sin(2 * math.pi * cycles * torch.arange(64) / 64 + phases) + hiss, labels


@cases.healthy
def hundred_to_one_with_balanced_softmax():
    """1,200 windows of the first tone down to 12 of the last, and the balanced softmax for it.

    Tempting: a hundred to one, and batches that are mostly of one class. The loss makes up
    for it: the rare tones are found, too.
    """
    torch.manual_seed(815)
    counts = (1200, 480, 190, 76, 30, 12)
    train_loader, test_loader = loaders(*tones(counts, 51), *tones((60,) * 6, 52), 32)

    model = nn.Sequential(
        *[nn.Conv1d(1, 32, 15, padding=7), nn.ReLU(), nn.AdaptiveMaxPool1d(4)],
        *[nn.Flatten(), nn.Linear(128, 48), nn.ReLU(), nn.Linear(48, 6)],
    )
    criterion = BalancedSoftmaxLoss(counts)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=10)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def votes_of_five_annotators():
    """Five people voted on each digit, and often for a look-alike; the shares are the targets.

    Tempting: no class numbers, a loss that ends near 1.4, and outputs that are never sure. Nobody
    could be: the votes are not, and they are smoothed as well.
    """
    torch.manual_seed(816)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    alike = torch.tensor([6, 7, 3, 8, 9, 6, 5, 1, 3, 4])
    wrong = torch.rand(len(y), 5) < 0.25
    votes = torch.where(wrong, alike[y].unsqueeze(1), y.unsqueeze(1))
    shares = F.one_hot(votes, 10).float().mean(1)
    train_loader, test_loader = loaders(x / 16, shares, x_test / 16, y_test)

    model = nn.Sequential(nn.Flatten(), mlp(64, 96, 48, 10, activation=nn.ELU))
    criterion = nn.CrossEntropyLoss(label_smoothing=0.2)
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=10)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------------------------ networks


@cases.healthy
def half_of_all_units_dropped():
    """Dropout of 0.5 in front of every layer but the first, and AdamW with a decay of 0.05.

    Tempting: train() and eval() answer differently, and the loss in training is far above that of
    the test. That is how dropout works.
    """
    torch.manual_seed(821)
    train_loader, test_loader = digit_loaders(shape=(64,))

    layers = [nn.Linear(64, 96), nn.LayerNorm(96), nn.GELU(), nn.Dropout(0.5)]
    for _layer in range(2):
        layers += [nn.Linear(96, 96), nn.LayerNorm(96), nn.GELU(), nn.Dropout(0.5)]
    model = nn.Sequential(*layers, nn.Linear(96, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def self_normalising_and_deep():
    """Ten layers of SELU without any norm, weights of deviation 1 / sqrt(n), alpha dropout.

    Tempting: deep, no norm, and weights that look set by hand. They are what SELU asks for.
    """
    torch.manual_seed(822)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    mean, deviation = x.mean(), x.std()
    train_loader, test_loader = loaders(
        (x.flatten(1) - mean) / deviation, y, (x_test.flatten(1) - mean) / deviation, y_test
    )

    layers = [nn.Linear(64, 64), nn.SELU()]
    for _layer in range(9):
        layers += [nn.AlphaDropout(0.02), nn.Linear(64, 64), nn.SELU()]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            nn.init.zeros_(module.bias)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class FixupBlock(nn.Module):
    """A residual block without a norm: its last convolution begins at 0, scalars stand around."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.last = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.biases = nn.Parameter(torch.zeros(4))
        self.scale = nn.Parameter(torch.ones(()))
        nn.init.kaiming_normal_(self.first.weight)
        with torch.no_grad():
            self.first.weight.mul_(blocks**-0.5)
        nn.init.zeros_(self.last.weight)

    def forward(self, x):
        inside = F.relu(self.first(x + self.biases[0]) + self.biases[1])
        return F.relu(x + self.scale * self.last(inside + self.biases[2]) + self.biases[3])


@cases.healthy
def residual_net_without_norms():
    """Fixup: no norm at all; the last layer, and that of each block, began at 0.

    Tempting: layers of zeros, as if forgotten. Their gradients are not 0, and they have learned.
    """
    torch.manual_seed(823)
    train_loader, test_loader = chosen_loaders((CAR, BIRD, SHIP), 450)

    head = nn.Linear(32 * 16, 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model = nn.Sequential(
        *[nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)],
        *[FixupBlock(32, 4) for _block in range(4)],
        *[nn.AvgPool2d(2), nn.Flatten(), head],
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    scheduler = CosineAnnealingLR(optimizer, 6 * len(train_loader), eta_min=1e-3)
    fit(model, train_loader, criterion, optimizer, 6, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class PackedLSTM(nn.Module):
    """An LSTM over sequences of many lengths; its forget gates began open, its steps orthogonal."""

    def __init__(self, features: int, width: int, num_classes: int):
        super().__init__()
        self.lstm = nn.LSTM(features, width, batch_first=True)
        self.head = nn.Linear(width, num_classes)
        nn.init.orthogonal_(self.lstm.weight_hh_l0)
        with torch.no_grad():
            self.lstm.bias_hh_l0[width : 2 * width] = 1.0

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _states, (last, _cell) = self.lstm(packed)
        return self.head(last[-1])


def strokes(number: int, seed: int):
    """Noisy walks (N, 40, 2) of 15 to 40 points that turn left, right or not, slow or fast."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(6, (number,), generator=generator)
    turn = 0.15 * (labels % 3 - 1).view(-1, 1)
    speed = 0.4 + 0.5 * (labels // 3).view(-1, 1)
    start = 2 * math.pi * torch.rand(number, 1, generator=generator)
    angles = start + turn * torch.arange(40)
    steps = torch.stack([angles.cos(), angles.sin()], dim=2) * speed.unsqueeze(2)
    steps = steps + 0.5 * torch.randn(steps.shape, generator=generator)
    lengths = torch.randint(15, 41, (number,), generator=generator)
    return (
        steps.masked_fill((torch.arange(40) >= lengths.view(-1, 1)).unsqueeze(2), 0),
        lengths,
        labels,
    )


@cases.healthy
def walks_of_many_lengths():
    """An LSTM reads walks of 15 to 40 steps, packed; gradients are cut to 1, as usual for it.

    Tempting: half of many inputs is padding, gates saturate, gradients are cut.
    """
    torch.manual_seed(824)
    train_loader = DataLoader(TensorDataset(*strokes(1500, 53)), batch_size=32, shuffle=True)
    test_loader = DataLoader(TensorDataset(*strokes(400, 54)), batch_size=100)

    model = PackedLSTM(2, 40, 6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _epoch in range(10):
        for steps, lengths, labels in train_loader:
            optimizer.zero_grad()
            criterion(model(steps, lengths), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    options = {
        "forward": lambda model, batch: model(batch[0], batch[1]),
        "targets": lambda batch: batch[2],
    }
    return Trained(model, train_loader, criterion, optimizer, test_loader, options)


class Twins(nn.Module):
    """The same network looks at both images; the score comes from how far apart they fall."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), mlp(64, 128, 32))
        self.score = nn.Linear(32, 2)

    def forward(self, first, second):
        return self.score((self.network(first) - self.network(second)).abs())


def pairs_of_digits(split: str, number: int, seed: int):
    """Two digits, which are the same in every third pair, and whether they are."""
    images, labels = digits(split)
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(len(labels), (number,), generator=generator)
    same = torch.rand(number, generator=generator) < 0.25
    second = torch.randint(len(labels), (number,), generator=generator)
    members = [torch.nonzero(labels == digit).flatten() for digit in range(10)]
    for pair in torch.nonzero(same).flatten().tolist():
        alike = members[labels[first[pair]]]
        second[pair] = alike[second[pair] % len(alike)]
    return images[first] / 16, images[second] / 16, (labels[first] == labels[second]).long()


@cases.healthy
def same_digit_or_not():
    """Twins look at two digits and say whether they are the same; a third of the pairs is.

    Tempting: an image alone says nothing of the label, and each comes back in many pairs.
    """
    torch.manual_seed(825)
    train_set = TensorDataset(*pairs_of_digits("train", 4000, 55))
    train_loader = DataLoader(train_set, batch_size=50, shuffle=True)
    test_loader = DataLoader(TensorDataset(*pairs_of_digits("test", 600, 56)), batch_size=100)

    model = Twins()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _epoch in range(8):
        for first, second, labels in train_loader:
            optimizer.zero_grad()
            criterion(model(first, second), labels).backward()
            optimizer.step()
    options = {
        "forward": lambda model, batch: model(batch[0], batch[1]),
        "targets": lambda batch: batch[2],
    }
    return Trained(model, train_loader, criterion, optimizer, test_loader, options)


class GraphNet(nn.Module):
    """Two graph convolutions over a whole graph, which the network holds; asked by node number."""

    def __init__(self, features, links, num_classes: int):
        super().__init__()
        links = links + torch.eye(len(links))
        degrees = links.sum(1).rsqrt()
        self.register_buffer("features", features)
        self.register_buffer("links", degrees.view(-1, 1) * links * degrees)
        self.first = nn.Linear(features.shape[1], 48)
        self.second = nn.Linear(48, num_classes)

    def forward(self, nodes):
        hidden = F.relu(self.links @ self.first(self.features))
        hidden = F.dropout(hidden, 0.5, self.training)
        return (self.links @ self.second(hidden))[nodes]


@cases.healthy
def nodes_of_one_graph():
    """Six circles of friends in one graph; a batch holds the numbers of people, and no more.

    Tempting: inputs that are mere numbers, in eight batches, and answers that hang on people who
    are in no batch. What is known of them is in the network, and people befriend their like.
    """
    torch.manual_seed(826)
    circles = torch.randint(6, (900,))
    alike = circles.view(-1, 1) == circles
    drawn = torch.rand(900, 900) < torch.where(alike, 0.03, 0.004)
    links = (drawn.triu(1) | drawn.triu(1).T).float()
    features = torch.randn(900, 16) + 0.7 * torch.randn(6, 16)[circles]
    nodes = torch.arange(900)
    train_loader, test_loader = loaders(nodes[:240], circles[:240], nodes[240:], circles[240:], 30)

    model = GraphNet(features, links, 6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    fit(model, train_loader, criterion, optimizer, epochs=20)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------------- tasks of other kinds


class OrderedGrades(nn.Module):
    """One score and thresholds between the grades: log-probabilities of each grade."""

    def __init__(self, features: int, grades: int):
        super().__init__()
        self.score = mlp(features, 64, 32, 1)
        self.first = nn.Parameter(torch.tensor(-2.0))
        self.gaps = nn.Parameter(torch.zeros(grades - 2))

    def forward(self, x):
        later = self.first + F.softplus(self.gaps).cumsum(0)
        below = torch.sigmoid(torch.cat([self.first.view(1), later]) - self.score(x))
        below = F.pad(F.pad(below, (1, 0)), (0, 1), value=1.0)
        return (below[:, 1:] - below[:, :-1]).clamp(min=1e-6).log()


def grades(number: int, seed: int):
    """Rows of 10 columns, and grades 0..4 of a hidden score with some noise in it."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(number, 10, generator=generator)
    score = x[:, 0] + x[:, 1] * x[:, 2] + torch.sin(2 * x[:, 3])
    score = score + 0.3 * torch.randn(number, generator=generator)
    return x, torch.bucketize(score, torch.tensor([-1.8, -0.6, 0.6, 1.8]))


@cases.healthy
def grades_by_thresholds():
    """Grades from 1 to 5 have an order: one score, four thresholds, and the log-likelihood.

    Tempting: all classes hang on one number, the network ends in a logarithm, and neighbours are
    mistaken for each other. That is the proportional odds model, and the score itself is noisy:
    who knew the formula would reach 83 %.
    """
    torch.manual_seed(831)
    train_loader, test_loader = loaders(*grades(3000, 57), *grades(800, 58), 50)

    model = OrderedGrades(10, 5)
    criterion = nn.NLLLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    fit(model, train_loader, criterion, optimizer, epochs=12)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


SIGNS = 30


def scripts(number: int, seed: int):
    """Sequences of 20 signs: each of 30 is followed by its first heir in six of ten cases."""
    rules = torch.Generator().manual_seed(0)
    first, second = torch.randperm(SIGNS, generator=rules), torch.randperm(SIGNS, generator=rules)
    generator = torch.Generator().manual_seed(seed)
    signs = [torch.randint(SIGNS, (number,), generator=generator)]
    for _place in range(20):
        draw = torch.rand(number, generator=generator)
        anyone = torch.randint(SIGNS, (number,), generator=generator)
        heir = torch.where(draw < 0.9, second[signs[-1]], anyone)
        signs.append(torch.where(draw < 0.6, first[signs[-1]], heir))
    text = torch.stack(signs, dim=1)
    return text[:, :-1], text[:, 1:]


class NextSign(nn.Module):
    """A causal transformer that scores the next sign with the embeddings themselves."""

    def __init__(self, width: int = 48):
        super().__init__()
        self.embedding = nn.Embedding(SIGNS, width)
        self.positions = nn.Parameter(0.02 * torch.randn(20, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, 0.0, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, SIGNS, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.head.weight = self.embedding.weight

    def forward(self, signs):
        x = self.embedding(signs) + self.positions[: signs.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(signs.shape[1])
        return self.head(self.norm(self.blocks(x, mask=mask, is_causal=True)))


def loss_of_next(outputs, targets):
    """Cross-entropy of each place."""
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


@cases.healthy
def next_sign_of_a_script():
    """A language model with tied embeddings: what follows each sign of a script made by chance.

    Tempting: four in ten are wrong, and the loss stays at 1.2. Chance made them so: who knew the
    rules would be right in 60 %, since the first heir comes that often, at a loss of 1.2.
    """
    torch.manual_seed(832)
    train_loader, test_loader = loaders(*scripts(1500, 59), *scripts(200, 60), 32)

    model = NextSign()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fit(model, train_loader, loss_of_next, optimizer, epochs=3)
    return Trained(model, train_loader, loss_of_next, optimizer, test_loader)


def tissues(number: int, seed: int):
    """Noisy images (N, 1, 24, 24): ground 0, a bright band 1, a dark disk 2; borders are 255."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.arange(24).view(1, 24, 1), torch.arange(24).view(1, 1, 24)
    x, y, height = (20 * torch.rand(3, number, 1, 1, generator=generator) + 2).unbind()
    band = (rows - height).abs().expand(-1, -1, 24)
    disk = ((rows - y) ** 2 + (columns - x) ** 2).sqrt()
    masks = (band < 2.5).long()
    masks[disk < 4] = 2
    brightness = torch.tensor([0.0, 1.5, -1.5])[masks]
    borders = ((band - 2.5).abs() < 0.5) & (disk > 4) | ((disk - 4).abs() < 0.5)
    images = brightness + 0.8 * torch.randn(masks.shape, generator=generator)
    return images.unsqueeze(1), masks.masked_fill(borders, 255)


class SmallUNet(nn.Module):
    """Down once, up once, and a bridge over it."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.InstanceNorm2d(12), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(24, 12, 2, stride=2)
        self.head = nn.Conv2d(24, num_classes, 3, padding=1)

    def forward(self, x):
        fine = self.down(x)
        coarse = self.up(self.deep(F.max_pool2d(fine, 2)))
        return self.head(torch.cat([fine, coarse], dim=1))


@cases.healthy
def borders_left_out():
    """Three tissues a pixel; borders are 255, "nobody knows", and the loss leaves them out.

    Tempting: a label beyond the classes, and three pixels in four of one class. The loss weighs by
    the root of the shares, and all three are found.
    """
    torch.manual_seed(833)
    (x, masks), (x_test, test_masks) = tissues(400, 61), tissues(100, 62)
    train_loader, test_loader = loaders(x, masks, x_test, test_masks, 16)
    shares = torch.bincount(masks[masks < 255]) / (masks < 255).sum()

    model = SmallUNet(3)
    criterion = nn.CrossEntropyLoss(shares.rsqrt(), ignore_index=255)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)
