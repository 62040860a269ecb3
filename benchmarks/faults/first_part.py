"""Fifteen broken trainings and six healthy ones, written as people write them in forums.

Each function is a whole training and keeps nothing from the others. The networks are this file's
own or torchvision's, the loop is the usual one, and every fault stands in the function itself.
Where a docstring names a public thread, the case is modelled on it.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import models
from torchvision.transforms import v2

from benchmarks.faults.case import Cases, Trained
from benchmarks.faults.data import digit_pairs, digits, photos, table

cases = Cases()


# ---------------------------------------------------------------------------------- networks


class PlainCNN(nn.Module):
    """Three convolutions without normalisation, then two linear layers."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.max_pool2d(F.relu(self.conv3(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class ResidualBlock(nn.Module):
    """Two normalised convolutions and a shortcut around them; halves height and width."""

    def __init__(self, channels: int, out_channels: int, momentum: float):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels, momentum=momentum)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels, momentum=momentum)
        self.shortcut = nn.Conv2d(channels, out_channels, 1, stride=2, bias=False)

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class SmallResNet(nn.Module):
    """A ResNet of three blocks for 32x32 images: a trunk and a linear head."""

    def __init__(self, num_classes: int, momentum: float = 0.1):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16, momentum=momentum),
            nn.ReLU(),
            ResidualBlock(16, 24, momentum),
            ResidualBlock(24, 48, momentum),
            ResidualBlock(48, 96, momentum),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(96, num_classes)

    def forward(self, x):
        return self.head(self.trunk(x))


class MLP(nn.Module):
    """Two hidden layers of ReLUs on flattened inputs."""

    def __init__(self, inputs: int, num_outputs: int, hidden: int = 128, dropout: float = 0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_outputs),
        )

    def forward(self, x):
        return self.layers(x)


class AttentionBlock(nn.Module):
    """Self-attention and a small MLP, each after a LayerNorm and inside a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class SmallViT(nn.Module):
    """A vision transformer of three blocks: 8x8 patches of a 32x32 image are its words."""

    def __init__(self, num_classes: int, width: int = 64):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 8, stride=8)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.blocks = nn.Sequential(*[AttentionBlock(width) for _ in range(3)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


# ------------------------------------------------------------------------- repeated pieces


def standardise(images):
    """Bytes 0..255 to floats of mean about 0 and standard deviation about 1."""
    return (images.float() / 255 - 0.45) / 0.25


def load(inputs, targets, shuffle: bool = True, batch_size: int = 32):
    return DataLoader(TensorDataset(inputs, targets), batch_size=batch_size, shuffle=shuffle)


def load_test(inputs, targets):
    return load(inputs, targets, shuffle=False, batch_size=100)


def train(model, loader, loss_fn, optimizer, epochs, scheduler=None):
    model.train()
    for _ in range(epochs):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(inputs), targets)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()


# -------------------------------------------------------------------------- broken trainings


@cases.fault("learning_rate_too_high")
def cnn_sgd_learning_rate():
    """SGD with momentum at a learning rate of 0.2 (keras#2975)."""
    torch.manual_seed(0)
    images, labels = photos((500,) * 5, "train")
    test_images, test_labels = photos((100,) * 5, "test")
    train_loader = load(standardise(images), labels)
    test_loader = load_test(standardise(test_images), test_labels)

    model = PlainCNN(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_high")
def vit_adam_learning_rate():
    """Adam at 0.3 on a vision transformer: a rate taken over from SGD."""
    torch.manual_seed(0)
    images, labels = photos((400,) * 6, "train")
    test_images, test_labels = photos((100,) * 6, "test")
    train_loader = load(standardise(images), labels)
    test_loader = load_test(standardise(test_images), test_labels)

    model = SmallViT(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("class_imbalance")
def rare_class_never_predicted():
    """99 images of one class for each of the other, and no remedy (simpletransformers#280)."""
    torch.manual_seed(0)
    images, labels = photos((1980, 20), "train")
    test_images, test_labels = photos((100, 100), "test")
    train_loader = load(standardise(images), labels)
    test_loader = load_test(standardise(test_images), test_labels)

    model = PlainCNN(2)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("double_softmax")
def softmax_before_cross_entropy():
    """The network ends in a softmax, CrossEntropyLoss applies another (discuss.pytorch 43814)."""
    torch.manual_seed(0)
    images, labels = digit_pairs("train")
    test_images, test_labels = digit_pairs("test")
    train_loader = load(images / 16, labels, batch_size=64)
    test_loader = load_test(test_images / 16, test_labels)

    model = nn.Sequential(MLP(8 * 16, 100, hidden=256), nn.Softmax(dim=1))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=10)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("input_range")
def raw_bytes_into_cnn():
    """Pixels of 0 to 255 go into a network without normalisation (keras#2975)."""
    torch.manual_seed(0)
    images, labels = photos((400,) * 6, "train")
    test_images, test_labels = photos((100,) * 6, "test")
    train_loader = load(images.float(), labels)
    test_loader = load_test(test_images.float(), test_labels)

    model = PlainCNN(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("train_eval_mismatch")
def test_images_not_standardised():
    """The training images are standardised, the test images only turned into floats."""
    torch.manual_seed(0)
    images, labels = photos((400,) * 4, "train")
    test_images, test_labels = photos((100,) * 4, "test")
    images = F.interpolate(standardise(images), size=64, mode="bilinear")
    test_images = F.interpolate(test_images.float(), size=64, mode="bilinear")
    train_loader = load(images, labels)
    test_loader = load_test(test_images, test_labels)

    model = models.shufflenet_v2_x0_5(weights=None, num_classes=4)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("batchnorm_statistics")
def batchnorm_momentum():
    """BatchNorm's momentum of 0.001 keeps its averages near their start (discuss.pytorch 7146)."""
    torch.manual_seed(0)
    images, labels = photos((400,) * 5, "train")
    test_images, test_labels = photos((100,) * 5, "test")
    train_loader = load(images / 255, labels)
    test_loader = load_test(test_images / 255, test_labels)

    model = SmallResNet(5, momentum=0.001)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("dead_units")
def biases_far_below_zero():
    """Biases that start at -10, meant for sparse features, switch every ReLU off for good."""
    torch.manual_seed(0)
    images, labels = digits("train")
    test_images, test_labels = digits("test")
    train_loader = load(images / 16, labels)
    test_loader = load_test(test_images / 16, test_labels)

    model = MLP(64, 10)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            nn.init.constant_(module.bias, -10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("unshuffled_batches")
def images_in_folder_order():
    """The images come class after class, as the folders list them (google-research/bert#154)."""
    torch.manual_seed(0)
    images, labels = photos((500,) * 5, "train")
    test_images, test_labels = photos((100,) * 5, "test")
    train_set = TensorDataset(standardise(images), labels)
    test_set = TensorDataset(standardise(test_images), test_labels)
    train_loader = DataLoader(train_set, batch_size=32)
    test_loader = DataLoader(test_set, batch_size=32)

    model = SmallViT(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("non_finite")
def black_images_divide_by_zero():
    """Each image is divided by its own standard deviation, which is 0 for three black images."""
    torch.manual_seed(0)
    images, labels = photos((300,) * 5, "train")
    test_images, test_labels = photos((100,) * 5, "test")
    images = images.float() / 255
    images[[31, 415, 926]] = 0  # files that could not be read
    images = (images - images.mean((1, 2, 3), True)) / images.std((1, 2, 3), keepdim=True)
    test_images = test_images.float() / 255
    test_images = test_images - test_images.mean((1, 2, 3), True)
    test_images = test_images / test_images.std((1, 2, 3), keepdim=True)
    train_loader = load(images, labels)
    test_loader = load_test(test_images, test_labels)

    model = SmallResNet(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("frozen_parameters")
def frozen_trunk_without_pretraining():
    """The fine-tuning recipe freezes the trunk, but nobody has trained it (transformers#9374)."""
    torch.manual_seed(0)
    images, labels = photos((600,) * 4, "train")
    test_images, test_labels = photos((100,) * 4, "test")
    images = F.interpolate(standardise(images), size=48, mode="bilinear")
    test_images = F.interpolate(standardise(test_images), size=48, mode="bilinear")
    train_loader = load(images, labels)
    test_loader = load_test(test_images, test_labels)

    model = models.mobilenet_v2(weights=None, width_mult=0.25)
    for parameter in model.parameters():
        parameter.requires_grad = False
    model.classifier[1] = nn.Linear(model.last_channel, 4)
    criterion = nn.CrossEntropyLoss()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trainable, lr=2e-3)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("not_in_optimizer")
def new_model_for_each_fold():
    """Each fold gets a fresh model, but the optimizer still holds the first (transformers#9374)."""
    torch.manual_seed(0)
    rows, labels = table("train")
    test_rows, test_labels = table("test")
    test_loader = load_test(test_rows, test_labels)

    model = MLP(20, 2)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for fold in range(3):
        model = MLP(20, 2)
        kept = torch.arange(len(rows)) % 3 != fold
        train_loader = load(rows[kept], labels[kept])
        train(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("inverted_class_weights")
def weights_grow_with_counts():
    """The loss weighs each class by its count, not by the inverse (discuss.pytorch 145203)."""
    torch.manual_seed(0)
    images, labels = photos((1200, 300, 150, 150), "train")
    test_images, test_labels = photos((100,) * 4, "test")
    train_loader = load(standardise(images), labels)
    test_loader = load_test(standardise(test_images), test_labels)

    counts = torch.bincount(labels).float()
    weights = counts / counts.sum() * len(counts)
    model = SmallResNet(4)
    criterion = nn.CrossEntropyLoss(weight=weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("labels_out_of_step")
def labels_shuffled_alone():
    """Images and labels of the training set are each shuffled, in different orders."""
    torch.manual_seed(0)
    images, labels = photos((500,) * 5, "train")
    test_images, test_labels = photos((100,) * 5, "test")
    images = images[torch.randperm(len(images))]
    labels = labels[torch.randperm(len(labels))]
    train_loader = load(standardise(images), labels)
    test_loader = load_test(standardise(test_images), test_labels)

    model = PlainCNN(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("input_range", "double_softmax")
def raw_bytes_and_softmax():
    """Pixels of 0 to 255, and a softmax before CrossEntropyLoss: either alone does harm."""
    torch.manual_seed(0)
    images, labels = photos((300,) * 10, "train")
    test_images, test_labels = photos((100,) * 10, "test")
    train_loader = load(images.float(), labels)
    test_loader = load_test(test_images.float(), test_labels)

    model = nn.Sequential(PlainCNN(10), nn.Softmax(dim=1))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------------- healthy trainings


@cases.healthy
def balanced_weights_cope():
    """Eight images of the first class for each of the last; class weights make up for it."""
    torch.manual_seed(0)
    images, labels = photos((1000, 500, 250, 125), "train")
    test_images, test_labels = photos((100,) * 4, "test")
    train_loader = load(standardise(images), labels)
    test_loader = load_test(standardise(test_images), test_labels)

    counts = torch.bincount(labels).float()
    weights = counts.sum() / (len(counts) * counts)
    model = SmallResNet(4)
    criterion = nn.CrossEntropyLoss(weight=weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def frozen_trunk_after_pretraining():
    """The trunk is frozen and in no optimizer, but it was trained before, on other classes."""
    torch.manual_seed(0)
    criterion = nn.CrossEntropyLoss()
    images, labels = photos((400,) * 6, "train")
    model = SmallResNet(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train(model, load(standardise(images), labels), criterion, optimizer, epochs=3)

    images, labels = photos((0,) * 6 + (300,) * 4, "train")
    test_images, test_labels = photos((0,) * 6 + (100,) * 4, "test")
    train_loader = load(standardise(images), labels - 6)
    test_loader = load_test(standardise(test_images), test_labels - 6)
    model.trunk.requires_grad_(False)
    model.head = nn.Linear(96, 4)
    optimizer = torch.optim.Adam(model.head.parameters(), lr=5e-3)
    train(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class AugmentedPhotos(Dataset):
    """Photos that are cropped, dimmed and partly erased anew each time they are read."""

    def __init__(self, images, labels):
        self.images = images
        self.labels = labels
        self.transform = v2.Compose(
            [
                v2.RandomCrop(32, padding=3, padding_mode="reflect"),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.45] * 3, [0.25] * 3),
                v2.RandomErasing(p=0.5, scale=(0.05, 0.2)),
            ]
        )

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.images[index]), self.labels[index]


@cases.healthy
def learning_rate_decayed_to_zero():
    """A scheduler has brought the learning rate to 0 by the end, and the batches are augmented."""
    torch.manual_seed(0)
    images, labels = photos((600,) * 4, "train")
    test_images, test_labels = photos((100,) * 4, "test")
    train_loader = DataLoader(AugmentedPhotos(images, labels), batch_size=32, shuffle=True)
    test_loader = load_test(standardise(test_images), test_labels)

    epochs = 5
    model = SmallViT(4)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train_loader))
    train(model, train_loader, criterion, optimizer, epochs, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def raw_bytes_into_batchnorm():
    """Pixels of 0 to 255, but the first layer is a BatchNorm that standardises them."""
    torch.manual_seed(0)
    images, labels = photos((400,) * 5, "train")
    test_images, test_labels = photos((100,) * 5, "test")
    train_loader = load(images.float(), labels)
    test_loader = load_test(test_images.float(), test_labels)

    model = nn.Sequential(nn.BatchNorm2d(3), PlainCNN(5))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    train(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def one_output_for_two_classes():
    """One output and targets of shape (N, 1) for a class of 15 %; dropout is still switched on."""
    torch.manual_seed(0)
    rows, labels = table("train", rare=0.15)
    test_rows, test_labels = table("test", rare=0.15)
    train_loader = load(rows, labels.float().unsqueeze(1))
    test_loader = load_test(test_rows, test_labels.float().unsqueeze(1))

    model = MLP(20, 1, dropout=0.3)
    negatives, positives = torch.bincount(labels).float()
    criterion = nn.BCEWithLogitsLoss(pos_weight=negatives / positives)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class PairNet(nn.Module):
    """A small CNN for two digits side by side that ends in log-probabilities."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32 * 4 * 8, 100)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.log_softmax(self.fc(F.max_pool2d(x, 2).flatten(1)), dim=1)


@cases.healthy
def log_softmax_with_nll():
    """A hundred classes; the network ends in a log-softmax, which is right for NLLLoss."""
    torch.manual_seed(0)
    images, labels = digit_pairs("train")
    test_images, test_labels = digit_pairs("test")
    train_loader = load(images / 16, labels, batch_size=64)
    test_loader = load_test(test_images / 16, test_labels)

    model = PairNet()
    criterion = nn.NLLLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    train(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)
