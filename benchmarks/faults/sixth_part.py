"""Thirty-nine broken trainings and thirteen healthy ones, by somebody who has not read the checks.

They go further than photos and class numbers: tags that do not exclude each other, masks, tokens
in dictionaries, streams, half precision. Each function is a whole training, and the fault stands
in it or in the class or function right above it. Threads are cited as owner/repository#number.

What was said of them at first stands in `benchmarks/results/sixth_reading.json`. One fault had no
name among the causes then, and is named in `NAMED_ANEW`; what was said of it counted as missed.
"""

import math
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from sklearn.metrics import log_loss
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler
from torchvision.models import resnet18
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.transforms import v2

from benchmarks.faults.case import Cases, Trained
from benchmarks.faults.data import digit_pairs, digits, photos, table

cases = Cases()

NAMED_ANEW = {
    "gradients_clipped": "gradients are cut to a tiny length, so that the weights hardly move",
}


# ------------------------------------------------------------------------------------ data


def scaled(images):
    """Bytes 0..255 to floats of mean about 0 and deviation about 1."""
    return (images.float() / 255 - 0.47) / 0.25


def shuffled(x, y):
    """Both in the same new order."""
    order = torch.randperm(len(y))
    return x[order], y[order]


def loaders(x, y, x_test, y_test, batch_size=32):
    """Shuffled training batches and test batches of tensors."""
    train_loader = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)
    return train_loader, DataLoader(TensorDataset(x_test, y_test), batch_size=128)


def photo_loaders(counts, test_counts, batch_size=32, transform=scaled):
    """Shuffled training batches and test batches of photos."""
    x, y = photos(counts, "train")
    x_test, y_test = photos(test_counts, "test")
    return loaders(transform(x), y, transform(x_test), y_test, batch_size)


def digit_loaders(batch_size=32, shape=(1, 8, 8)):
    """Shuffled training batches and test batches of handwritten digits, values 0..1."""
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    return loaders(x.view(-1, *shape) / 16, y, x_test.view(-1, *shape) / 16, y_test, batch_size)


def sounds(number: int, seed: int, share: float, noise: float = 1.0):
    """Windows of 64 points and 6 tags, each for one tone; each tone is heard in a `share`."""
    generator = torch.Generator().manual_seed(seed)
    tags = (torch.rand(number, 6, generator=generator) < share).float()
    phases = 2 * math.pi * torch.rand(number, 6, 1, generator=generator)
    cycles = torch.tensor([3.0, 5, 8, 11, 15, 20]).view(1, 6, 1)
    tones = torch.sin(2 * math.pi * cycles * torch.arange(64) / 64 + phases)
    hiss = noise * torch.randn(number, 1, 64, generator=generator)
    return (tags.unsqueeze(2) * tones).sum(1, keepdim=True) + hiss, tags


def cells(number: int, seed: int, radius: float = 4.0, contrast: float = 2.0):
    """Noisy images (N, 1, 24, 24), each with a bright disk, and masks of 0 and 1 (N, 24, 24)."""
    generator = torch.Generator().manual_seed(seed)
    centers = 4 + 16 * torch.rand(number, 2, 1, 1, generator=generator)
    rows = torch.arange(24).view(1, 24, 1)
    columns = torch.arange(24).view(1, 1, 24)
    distance = (rows - centers[:, 0]) ** 2 + (columns - centers[:, 1]) ** 2
    masks = (distance < radius**2).long()
    images = contrast * masks + torch.randn(masks.shape, generator=generator)
    return images.unsqueeze(1), masks


WORDS, TOPICS = 200, 5


def reviews(number: int, seed: int):
    """Token ids (N, 24), 0 is padding and 1 the first token, with labels 0..4.

    Two words in five belong to the topic of the label, the others are anybody's.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(TOPICS, (number,), generator=generator)
    topical = 2 + 20 * labels.unsqueeze(1) + torch.randint(20, (number, 24), generator=generator)
    common = 2 + 100 + torch.randint(WORDS - 102, (number, 24), generator=generator)
    ids = torch.where(torch.rand(number, 24, generator=generator) < 0.4, topical, common)
    ids[:, 0] = 1
    lengths = torch.randint(8, 21, (number, 1), generator=generator)
    return ids.masked_fill(torch.arange(24) >= lengths, 0), labels


def tokens_as_dict(samples):
    """A batch as a tokenizer and its collator give it."""
    ids = torch.stack([sample[0] for sample in samples])
    labels = torch.stack([sample[1] for sample in samples])
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


# -------------------------------------------------------------------------------- networks


def small_cnn(num_classes: int, channels: int = 3, norm: bool = False) -> nn.Sequential:
    """Three convolutions, each followed by a pooling, and two linear layers, for 32 x 32."""
    layers = []
    for before, after in [(channels, 16), (16, 32), (32, 48)]:
        layers += [nn.Conv2d(before, after, 3, padding=1)]
        layers += [nn.BatchNorm2d(after)] if norm else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Linear(48 * 16, 64), nn.ReLU(), nn.Linear(64, num_classes)]
    return nn.Sequential(*layers)


def mlp(*sizes: int, activation=nn.ReLU) -> nn.Sequential:
    """Linear layers of these sizes with an activation between them."""
    layers = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def tagger(outputs: int = 6) -> nn.Sequential:
    """Convolutions along time, the largest answer of each filter, and a score for each tag."""
    return nn.Sequential(
        nn.Conv1d(1, 24, 15, padding=7),
        nn.ReLU(),
        nn.Conv1d(24, 32, 9, padding=4),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(32, outputs),
    )


def segmenter(outputs: int) -> nn.Sequential:
    """A fully convolutional network: one score for each class and pixel."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(12, 12, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(12, outputs, 1),
    )


class TextClassifier(nn.Module):
    """Embeddings, an encoder and a head over the first token; answers as transformers' do."""

    def __init__(self, words: int = WORDS, num_labels: int = TOPICS, width: int = 48):
        super().__init__()
        self.embeddings = nn.Embedding(words, width)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.classifier = nn.Linear(width, num_labels)

    def hidden_by(self, attention_mask):
        """Which tokens no other may look at."""
        return attention_mask == 0

    def forward(self, input_ids, attention_mask, labels=None):
        hidden = self.encoder(
            self.embeddings(input_ids), src_key_padding_mask=self.hidden_by(attention_mask)
        )
        logits = self.classifier(hidden[:, 0])
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SimpleNamespace(loss=loss, logits=logits)


class TinyViT(nn.Module):
    """A vision transformer over patches of 2 x 2 of the digits; weights of deviation 0.02."""

    def __init__(self, num_classes: int = 10, width: int = 48):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, 17, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def small_resnet(num_classes: int) -> ResNet:
    """torchvision's ResNet with a block in each of three stages, for 32 x 32."""
    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 5, stride=4, padding=2, bias=False)
    model.layer4 = nn.Identity()
    model.fc = nn.Linear(256, num_classes)
    return model


# ------------------------------------------------------------------------- repeated pieces


def fit(model, batches, criterion, optimizer, epochs, scheduler=None):
    """The loop of every tutorial, over (inputs, targets)."""
    for _epoch in range(epochs):
        model.train()
        for inputs, targets in batches:
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()


def fit_dicts(model, batches, optimizer, epochs):
    """The loop of the tutorials of transformers: the model computes its own loss."""
    for _epoch in range(epochs):
        model.train()
        for batch in batches:
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()


# ------------------------------------------------------- broken trainings: data and labels


@cases.fault("duplicate_inputs")
def one_weight_per_class():
    """The sampler got ten weights, one a class: it draws the first ten photos for ever.

    deep-voice/soundbay#49 and loicland/superpoint_graph#175.
    """
    torch.manual_seed(601)
    counts = (400, 350, 300, 250, 200, 150, 120, 90, 70, 50)
    x, y = shuffled(*photos(counts, "train"))
    x_test, y_test = photos((100,) * 10, "test")
    weights = 1 / torch.bincount(y).float()
    sampler = WeightedRandomSampler(weights, len(y))
    train_loader = DataLoader(TensorDataset(scaled(x), y), batch_size=64, sampler=sampler)
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=128)

    model = small_cnn(10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def gray_bytes_again(images):
    """Gray values of 0..1 are stored as bytes, to save memory: 0 for all that is not white."""
    gray = images.float().mean(1, keepdim=True) / 255
    return gray.to(torch.uint8).float()


@cases.fault("duplicate_inputs")
def bytes_again_after_scaling():
    """Images were divided by 255 and then stored as bytes: nearly all are blank.

    aadeshnpn/OSDN#19.
    """
    torch.manual_seed(602)
    train_loader, test_loader = photo_loaders((300,) * 6, (100,) * 6, 32, gray_bytes_again)

    model = small_cnn(6, channels=1)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("labels_out_of_step")
def broken_files_left_out_of_one_list():
    """Two unreadable files are left out of the list of images and not out of the labels."""
    torch.manual_seed(603)
    x, y = shuffled(*photos((300,) * 8, "train"))
    x_test, y_test = photos((100,) * 8, "test")
    readable = torch.ones(len(y), dtype=torch.bool)
    readable[[17, 40]] = False
    x, y = x[readable], y[: int(readable.sum())]
    train_loader, test_loader = loaders(scaled(x), y, scaled(x_test), y_test, 64)

    model = small_cnn(8, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def folder_labels(labels, folders):
    """What a reader of class folders makes of them: only folders with images are numbered."""
    with_images = sorted(set(labels.tolist()))
    numbers = {folders[label]: number for number, label in enumerate(with_images)}
    return torch.tensor([numbers[folders[label]] for label in labels.tolist()])


@cases.fault("train_eval_mismatch")
def empty_folder_in_validation():
    """A class has no validation images, so the classes behind it move up by one.

    huggingface/pytorch-image-models#957.
    """
    torch.manual_seed(604)
    folders = ["bird", "car", "cat", "deer", "dog", "frog", "horse", "plane", "ship", "truck"]
    (x, y), (x_val, y_val) = digits("train"), digits("test")
    kept = y_val != 1
    x_val, y_val = x_val[kept], y_val[kept]
    train_loader, val_loader = loaders(
        x / 16, folder_labels(y, folders), x_val / 16, folder_labels(y_val, folders)
    )

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 64),
        nn.SiLU(),
        nn.Linear(64, 10),
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, val_loader)


def with_own_vocabulary(ids, seed):
    """The words of this file, numbered in the order in which they occur in it."""
    order = torch.randperm(WORDS - 2, generator=torch.Generator().manual_seed(seed)) + 2
    return torch.cat([torch.arange(2), order])[ids]


@cases.fault("train_eval_mismatch")
def vocabulary_built_twice():
    """The vocabulary is built anew for the test file, so its words have other numbers there."""
    torch.manual_seed(605)
    (ids, labels), (test_ids, test_labels) = reviews(1500, 1), reviews(400, 2)
    train_loader, test_loader = loaders(
        with_own_vocabulary(ids, 3), labels, with_own_vocabulary(test_ids, 4), test_labels
    )

    model = nn.Sequential(nn.EmbeddingBag(WORDS, 32, padding_idx=0), mlp(32, 64, TOPICS))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    fit(model, train_loader, criterion, optimizer, epochs=10)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class ShardedStream(IterableDataset):
    """Reads shard after shard; a buffer mixes what has been read and not been given away yet."""

    def __init__(self, x, y, buffer: int):
        self.x, self.y, self.buffer = x, y, buffer

    def __iter__(self):
        waiting = []
        for sample in zip(self.x, self.y, strict=True):
            waiting.append(sample)
            if len(waiting) > self.buffer:
                yield waiting.pop(int(torch.randint(len(waiting), ())))
        yield from waiting


@cases.fault("unshuffled_batches")
def buffer_smaller_than_a_shard():
    """Each shard holds one class, 400 images, and the shuffle buffer holds 100.

    webdataset/webdataset#62 and google/compare_gan#40.
    """
    torch.manual_seed(606)
    x, y = photos((400,) * 6, "train")
    x_test, y_test = photos((100,) * 6, "test")
    train_loader = DataLoader(ShardedStream(scaled(x), y, buffer=100), batch_size=32)
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=128)

    model = small_cnn(6, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("label_range")
def masks_of_0_and_255():
    """Masks are images of 0 and 255, and the loss ignores 255: all becomes background.

    open-mmlab/mmsegmentation#1609.
    """
    torch.manual_seed(607)
    (x, masks), (x_test, test_masks) = cells(400, 1), cells(100, 2)
    train_loader, test_loader = loaders(x, 255 * masks, x_test, 255 * test_masks, 16)

    model = segmenter(2)
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("class_imbalance")
def nothing_but_background():
    """A spot covers 1 % of an image: "all background" is right for 99 % of the pixels.

    dmlc/gluon-cv#644.
    """
    torch.manual_seed(608)
    (x, masks), (x_test, test_masks) = cells(400, 3, 1.5, 1.2), cells(100, 4, 1.5, 1.2)
    train_loader, test_loader = loaders(x, masks, x_test, test_masks, 16)

    model = segmenter(2)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("class_imbalance")
def no_tag_at_all():
    """Each tag is set for 4 % of the sounds, and no tag is ever predicted.

    appvision-ai/fast-bert#52 and huggingface/transformers#247.
    """
    torch.manual_seed(609)
    (x, tags), (x_test, test_tags) = sounds(2000, 1, 0.04, 1.5), sounds(500, 2, 0.04, 1.5)
    train_loader, test_loader = loaders(x, tags, x_test, test_tags)

    model = tagger()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("overfitting")
def eight_photos_of_each():
    """Eight photos of each class, sixty epochs, no augmentation: all known, none understood."""
    torch.manual_seed(610)
    train_loader, test_loader = photo_loaders((8,) * 10, (100,) * 10, 16)

    model = small_cnn(10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=60)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------ broken trainings: loss


def two_way_loss(probabilities, targets):
    """Binary cross-entropy as in the lecture notes."""
    return -torch.mean(
        targets * torch.log(probabilities + 1e-7)
        + (1 - targets) * torch.log(1 - probabilities + 1e-7)
    )


@cases.fault("broadcast_loss")
def column_against_row():
    """Outputs (N, 1), targets (N,): each output is compared with each target, all become 0.3.

    andrewgcodes/xlstm#4 and deepset-ai/FARM#229, where PyTorch's own loss warns of it.
    """
    torch.manual_seed(611)
    (x, y), (x_test, y_test) = table("train", 0.3), table("test", 0.3)
    train_loader, test_loader = loaders(x, y.float(), x_test, y_test.float())

    model = nn.Sequential(mlp(20, 64, 32, 1), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, two_way_loss, optimizer, epochs=8)
    return Trained(model, train_loader, two_way_loss, optimizer, test_loader)


class FocalLoss(nn.Module):
    """The focal loss of many repositories: (1 - p)^gamma times -log p, from a softmax."""

    def __init__(self, gamma: float = 2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, targets):
        log_p = F.log_softmax(logits, dim=1)
        return -((1 - log_p.exp()) ** self.gamma * log_p * targets).sum(1).mean()


@cases.fault("zero_gradient")
def focal_loss_of_one_logit():
    """The softmax of one logit is 1, so loss and gradient are 0 from the first batch on.

    Project-MONAI/MONAI#2509.
    """
    torch.manual_seed(612)
    x, y = photos((700, 300), "train")
    x_test, y_test = photos((100, 100), "test")
    train_loader, test_loader = loaders(
        scaled(x), y.float().unsqueeze(1), scaled(x_test), y_test.float().unsqueeze(1)
    )

    model = small_cnn(1)
    criterion = FocalLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def loss_from_sklearn(outputs, targets):
    """scikit-learn's log loss, put into a tensor so that backward() can be called."""
    probabilities = outputs.softmax(1).detach().double().numpy()
    value = log_loss(targets.numpy(), probabilities, labels=range(outputs.shape[1]))
    return torch.tensor(value, requires_grad=True)


@cases.fault("frozen_parameters")
def loss_through_numpy():
    """The loss is computed in NumPy: backward() runs, and no parameter gets a gradient.

    isayev/ReLeaSE#39.
    """
    torch.manual_seed(613)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = mlp(64, 100, 50, 10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(model, train_loader, loss_from_sklearn, optimizer, epochs=6)
    return Trained(model, train_loader, loss_from_sklearn, optimizer, test_loader)


@cases.fault("softmax_on_multilabel")
def tags_that_exclude_each_other():
    """Three tags of six are right on average, and the loss has a softmax: one may win.

    open-mmlab/mmpretrain#783. Predicted is each tag with a probability above a half.
    """
    torch.manual_seed(614)
    (x, tags), (x_test, test_tags) = sounds(1500, 3, 0.5, 0.5), sounds(400, 4, 0.5, 0.5)
    train_loader, test_loader = loaders(x, tags, x_test, test_tags)

    model = tagger()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("ignored_class")
def background_is_ignored():
    """Class 0 is the background, and it is also ignore_index: whole images become cells.

    open-mmlab/mmsegmentation#1714.
    """
    torch.manual_seed(615)
    (x, masks), (x_test, test_masks) = cells(400, 5), cells(100, 6)
    train_loader, test_loader = loaders(x, masks, x_test, test_masks, 16)

    model = segmenter(2)
    criterion = nn.CrossEntropyLoss(ignore_index=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("weights_cancelled")
def weights_in_batches_of_one():
    """Batches of one row: the weighted mean divides by the row's own weight, so all count 1.

    pytorch/pytorch#61309 and #72047.
    """
    torch.manual_seed(616)
    (x, y), (x_test, y_test) = table("train", 0.04), table("test", 0.04)
    columns = [0, 1, 2, 3, 4]
    train_loader, test_loader = loaders(x[:, columns], y, x_test[:, columns], y_test, 1)
    counts = torch.bincount(y).float()

    model = mlp(5, 16, 2)
    criterion = nn.CrossEntropyLoss(weight=counts.sum() / (2 * counts))
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("inverted_class_weights")
def counts_in_order_of_frequency():
    """The counts come sorted by frequency, the classes do not: the rarest gets the least.

    The question of ThilinaRajapakse/simpletransformers#1369.
    """
    torch.manual_seed(617)
    counts = (40, 150, 500, 1400)
    x, y = photos(counts, "train")
    x_test, y_test = photos((100,) * 4, "test")
    train_loader, test_loader = loaders(scaled(x), y, scaled(x_test), y_test)
    frequencies = [count for _label, count in Counter(y.tolist()).most_common()]
    weights = len(y) / (4 * torch.tensor(frequencies))

    model = small_cnn(4, norm=True)
    criterion = nn.CrossEntropyLoss(weight=weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("compensated_twice")
def sampler_and_logit_adjustment():
    """All classes are drawn equally often, and the loss also adds the log of their shares."""
    torch.manual_seed(618)
    counts = (1200, 400, 120, 40)
    x, y = photos(counts, "train")
    x_test, y_test = photos((100,) * 4, "test")
    weights = 1 / torch.tensor(counts)[y]
    sampler = WeightedRandomSampler(weights, len(y))
    train_loader = DataLoader(TensorDataset(scaled(x), y), batch_size=32, sampler=sampler)
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=128)
    log_shares = torch.log(torch.tensor(counts) / len(y))

    def balanced_softmax(outputs, targets):
        return F.cross_entropy(outputs + log_shares, targets)

    model = small_cnn(4, norm=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, balanced_softmax, optimizer, epochs=3)
    return Trained(model, train_loader, balanced_softmax, optimizer, test_loader)


# ----------------------------------------------------------------- broken trainings: model


@cases.fault("double_softmax")
def softmax_over_the_batch():
    """The model ends in Softmax(dim=0), over the batch, and the loss has its own softmax.

    Lackel/DPN#1 and DeepReinforcementLearning/DeepReinforcementLearningInAction#32.
    """
    torch.manual_seed(619)
    train_loader, test_loader = digit_loaders(64)

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
        nn.Softmax(dim=0),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class CosineClassifier(nn.Module):
    """The cosine between the features and a direction for each class."""

    def __init__(self, features: int, num_classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, features))

    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight))


@cases.fault("activation_on_logits")
def cosines_without_a_scale():
    """The logits are cosines of -1..1, nothing scales them, and 100 classes need more.

    The question of KevinMusgrave/pytorch-metric-learning#186 is how large the scale must be.
    """
    torch.manual_seed(620)
    (x, y), (x_test, y_test) = digit_pairs("train"), digit_pairs("test")
    train_loader, test_loader = loaders(x / 16, y, x_test / 16, y_test, 64)

    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(128, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.BatchNorm1d(64),
        CosineClassifier(64, 100),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class PlainList(nn.Module):
    """Four convolutions in a Python list, then the mean over the image and a linear layer."""

    def __init__(self, num_classes: int):
        super().__init__()
        sizes = [3, 24, 24, 32, 32]
        self.layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(sizes)]
        self.head = nn.Linear(sizes[-1], num_classes)

    def forward(self, x):
        x = F.avg_pool2d(x, 2)
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x.mean((2, 3)))


@cases.fault("not_in_optimizer")
def layers_in_a_list():
    """Layers in a Python list belong to no module: parameters() does not name them.

    pytorch/pytorch#1053 and #59925.
    """
    torch.manual_seed(621)
    train_loader, test_loader = photo_loaders((300,) * 6, (100,) * 6)

    model = PlainList(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Checkpointed(nn.Module):
    """Saves memory: the features are computed again for the gradient, not kept."""

    def __init__(self, num_classes: int):
        super().__init__()
        layers = []
        for before, after in [(3, 24), (24, 24), (24, 32), (32, 32)]:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        self.features = nn.Sequential(nn.AvgPool2d(2), *layers)
        self.head = nn.Linear(32, num_classes)

    def forward(self, x):
        x = checkpoint(self.features, x, use_reentrant=True)
        return self.head(x.mean((2, 3)))


@cases.fault("frozen_parameters")
def checkpointed_from_the_first_layer():
    """The old gradient checkpointing gives no gradient if its inputs, the images, need none.

    pytorch/pytorch#7617 and Lyken17/pytorch-memonger#4.
    """
    torch.manual_seed(622)
    train_loader, test_loader = photo_loaders((300,) * 6, (100,) * 6)

    model = Checkpointed(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("frozen_parameters")
def nothing_loaded_and_frozen():
    """Each name in the checkpoint begins with "module.", so strict=False loads nothing.

    After stefanopini/simple-HRNet#79; then all but the head is frozen.
    """
    torch.manual_seed(623)
    train_loader, test_loader = photo_loaders((100,) * 8, (50,) * 8)
    saved = {f"module.{k}": v for k, v in resnet18(num_classes=8).state_dict().items()}

    model = resnet18(weights=None, num_classes=8)
    model.load_state_dict(saved, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.startswith("fc")
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.fc.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("weights_not_loaded")
def head_not_in_the_checkpoint():
    """The checkpoint holds the backbone only: the head is drawn anew when the model is loaded.

    google-research/vision_transformer#91.
    """
    torch.manual_seed(624)
    train_loader, test_loader = digit_loaders()
    trained = TinyViT()
    criterion = nn.CrossEntropyLoss()
    fit(trained, train_loader, criterion, torch.optim.AdamW(trained.parameters(), lr=2e-3), 8)
    saved = {k: v for k, v in trained.state_dict().items() if not k.startswith("head")}

    model = TinyViT()
    model.load_state_dict(saved, strict=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.eval()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("vanishing_gradients")
def six_layers_of_sigmoid():
    """Each sigmoid takes at least three quarters of the gradient away, and there are six.

    phlippe/uvadlc_notebooks#119.
    """
    torch.manual_seed(625)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = mlp(64, *[50] * 6, 10, activation=nn.Sigmoid)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("identical_units")
def all_weights_the_same():
    """All weights begin at 0.02, for the sake of reproducibility: each layer is one unit."""
    torch.manual_seed(626)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = mlp(64, 64, 32, 10)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.02)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=12)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def quadrants(number: int, seed: int):
    """Points in ten dimensions; the label says whether two of them have the same sign."""
    x = torch.randn(number, 10, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1] > 0).long()


@cases.fault("no_nonlinearity")
def no_activation_at_all():
    """Four linear layers with nothing between them cannot draw a bent border.

    aymericdamien/TensorFlow-Examples#270 and Nota-NetsPresso/netspresso-trainer#320.
    """
    torch.manual_seed(627)
    train_loader, test_loader = loaders(*quadrants(3000, 1), *quadrants(800, 2), 64)

    model = nn.Sequential(nn.Linear(10, 64), nn.Linear(64, 64), nn.Linear(64, 32), nn.Linear(32, 2))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("dropout_too_high")
def keep_probability_as_dropout():
    """TensorFlow's keep_prob of 0.95 was taken for PyTorch's p: 95 % is dropped, three times.

    bonlime/keras-deeplab-v3-plus#4.
    """
    torch.manual_seed(628)
    train_loader, test_loader = photo_loaders((300,) * 6, (100,) * 6)

    keep_prob = 0.95
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Dropout(keep_prob),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Dropout(keep_prob),
        nn.Flatten(),
        nn.Linear(32 * 64, 64),
        nn.ReLU(),
        nn.Dropout(keep_prob),
        nn.Linear(64, 6),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("constant_output")
def instance_norm_before_the_mean():
    """Each map gets mean 0 over the image, then its mean over the image is taken: always 0."""
    torch.manual_seed(629)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    model = nn.Sequential(
        nn.Conv2d(3, 24, 3, stride=2, padding=1),
        nn.InstanceNorm2d(24),
        nn.ReLU(),
        nn.Conv2d(24, 48, 3, stride=2, padding=1),
        nn.InstanceNorm2d(48),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, 5),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class MaskUpsideDown(TextClassifier):
    """Gives the tokenizer's mask to PyTorch's encoder as it is."""

    def hidden_by(self, attention_mask):
        return attention_mask == 1


@cases.fault("constant_output")
def padding_mask_upside_down():
    """1 is "a word" for a tokenizer and "leave out" for PyTorch: only padding is looked at.

    facebookresearch/detr#96. Batches are dictionaries, answers have `.logits`.
    """
    torch.manual_seed(630)
    (ids, labels), (test_ids, test_labels) = reviews(1200, 5), reviews(300, 6)
    train_set, test_set = TensorDataset(ids, labels), TensorDataset(test_ids, test_labels)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=tokens_as_dict)
    test_loader = DataLoader(test_set, batch_size=100, collate_fn=tokens_as_dict)

    model = MaskUpsideDown()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fit_dicts(model, train_loader, optimizer, epochs=5)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


@cases.fault("batchnorm_statistics")
def batches_of_two():
    """BatchNorm over two rows knows only which is larger; in eval() it is another network.

    pytorch/pytorch#19916.
    """
    torch.manual_seed(631)
    whole, test_loader = digit_loaders(shape=(64,))
    train_loader = DataLoader(whole.dataset, batch_size=2, shuffle=True, drop_last=True)

    layers = []
    for before, after in [(64, 64), (64, 64), (64, 64), (64, 64)]:
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------- broken trainings: optimizer


@cases.fault("non_finite")
def half_precision_with_adam():
    """The model is half(), where Adam's eps of 1e-8 is 0: it divides 0 by 0.

    pytorch/pytorch#8860 and keras-team/keras#11860.
    """
    torch.manual_seed(632)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    train_loader, test_loader = loaders(
        x.flatten(1).half() / 16, y, x_test.flatten(1).half() / 16, y_test
    )

    model = mlp(64, 64, 10).half()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("no_optimizer_step")
def cleared_before_the_step():
    """zero_grad() stands between backward() and step(), which then has nothing to do."""
    torch.manual_seed(633)
    train_loader, test_loader = photo_loaders((200,) * 6, (100,) * 6)

    model = small_cnn(6, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _epoch in range(4):
        model.train()
        for inputs, targets in train_loader:
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.zero_grad()
            optimizer.step()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("gradients_clipped")
def clipped_before_unscaling():
    """Gradients that were scaled by 65536 are cut to length 1 and then divided by 65536.

    pytorch/pytorch#40907.
    """
    torch.manual_seed(634)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = mlp(64, 100, 10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    for _epoch in range(6):
        model.train()
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            scaler.scale(loss).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("gradients_not_cleared")
def zero_grad_without_brackets():
    """`optimizer.zero_grad` without brackets calls nothing, so gradients add up for ever.

    The wish of pytorch/pytorch#47175 is a warning of this.
    """
    torch.manual_seed(635)
    train_loader, test_loader = photo_loaders((200,) * 6, (100,) * 6)

    model = small_cnn(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(4):
        for inputs, targets in train_loader:
            optimizer.zero_grad  # noqa: B018
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_low")
def berts_rate_for_sgd():
    """2e-5 is the rate of AdamW for BERT; SGD from drawn weights gets nowhere with it."""
    torch.manual_seed(636)
    (ids, labels), (test_ids, test_labels) = reviews(1500, 7), reviews(400, 8)
    train_loader, test_loader = loaders(ids, labels, test_ids, test_labels)

    model = nn.Sequential(nn.Embedding(WORDS, 32), nn.Flatten(), mlp(32 * 24, 64, TOPICS))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=2e-5, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_high")
def rate_200_times_too_high():
    """SGD at 10 on torchvision's ResNet, where 0.05 is right."""
    torch.manual_seed(637)
    train_loader, test_loader = photo_loaders((200,) * 6, (100,) * 6)

    model = small_resnet(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=10.0, momentum=0.9, weight_decay=1e-4)
    fit(model, train_loader, criterion, optimizer, epochs=2)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("weight_decay_too_high")
def penalty_in_the_loss():
    """The loss adds half the sum of all squared weights, and not a thousandth of it."""
    torch.manual_seed(638)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    model = small_cnn(5)

    def regularized(outputs, targets):
        penalty = sum(parameter.pow(2).sum() for parameter in model.parameters())
        return F.cross_entropy(outputs, targets) + 0.5 * penalty

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    fit(model, train_loader, regularized, optimizer, epochs=4)
    return Trained(model, train_loader, regularized, optimizer, test_loader)


@cases.fault("undertrained")
def stopped_while_the_loss_falls():
    """Early stopping waits for the loss to rise, mode="max": it ends after two epochs."""
    torch.manual_seed(639)
    train_loader, test_loader = photo_loaders((150,) * 6, (100,) * 6, 100)

    model = small_resnet(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    best = -math.inf
    for _epoch in range(50):
        fit(model, train_loader, criterion, optimizer, epochs=1)
        model.eval()
        with torch.no_grad():
            loss = sum(criterion(model(x), y).item() for x, y in test_loader)
        if loss <= best:
            break
        best = loss
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------------ healthy trainings


@cases.healthy
def at_the_ceiling_of_the_noise():
    """Sounds with one tone of three under loud hiss: seven in ten can be told, no more."""
    torch.manual_seed(651)

    def recordings(number, seed):
        x, _tags = sounds(number, seed, 0.0)
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(3, (number,), generator=generator)
        phases = 6.28 * torch.rand(number, 1, 1, generator=generator)
        cycles = torch.tensor([3.0, 5, 8])[labels].view(-1, 1, 1)
        return x + 0.4 * torch.sin(6.28 * cycles * torch.arange(64) / 64 + phases), labels

    train_loader, test_loader = loaders(*recordings(3000, 1), *recordings(600, 2), 64)
    model = nn.Sequential(
        nn.Conv1d(1, 16, 21, padding=10),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12 * len(train_loader))
    fit(model, train_loader, criterion, optimizer, 12, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def noisy_topics_in_dictionaries():
    """Token ids in dictionaries; three of ten training labels are wrong, the test's are not."""
    torch.manual_seed(652)
    (ids, labels), (test_ids, test_labels) = reviews(2000, 9), reviews(400, 10)
    wrong = torch.rand(len(labels)) < 0.3
    labels = torch.where(wrong, torch.randint(TOPICS, labels.shape), labels)
    train_set, test_set = TensorDataset(ids, labels), TensorDataset(test_ids, test_labels)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=tokens_as_dict)
    test_loader = DataLoader(test_set, batch_size=100, collate_fn=tokens_as_dict)

    model = TextClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fit_dicts(model, train_loader, optimizer, epochs=6)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


class Augmented(IterableDataset):
    """A stream of batches: crops, flips, colors, erased boxes and mixup, new in each epoch."""

    def __init__(self, x, y, num_classes: int, batch_size: int = 64):
        self.x, self.y, self.batch_size = x, y, batch_size
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(32, scale=(0.5, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ColorJitter(0.3, 0.3, 0.3),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.47] * 3, [0.25] * 3),
                v2.RandomErasing(0.3),
            ]
        )
        self.mixup = v2.MixUp(alpha=0.4, num_classes=num_classes)

    def __iter__(self):
        for members in torch.randperm(len(self.y)).split(self.batch_size):
            yield self.mixup(self.transform(self.x[members]), self.y[members])


@cases.healthy
def strong_augmentation_and_mixup():
    """Crops, colors, erased boxes and mixed targets: planes, cars and frogs, at a high loss."""
    torch.manual_seed(653)
    x, y = photos((500, 500, 0, 0, 0, 0, 500), "train")
    x_test, y_test = photos((100, 100, 0, 0, 0, 0, 100), "test")
    y, y_test = y.clamp(max=2), y_test.clamp(max=2)
    train_batches = Augmented(x, y, 3)
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=128)

    model = small_cnn(3, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fit(model, train_batches, criterion, optimizer, epochs=7)
    return Trained(model, train_batches, criterion, optimizer, test_loader)


@cases.healthy
def head_on_a_frozen_resnet():
    """A ResNet learned seven classes; frozen and in eval() it carries a head for three more."""
    torch.manual_seed(654)
    source, _ = photo_loaders((200,) * 7, (100,) * 7)
    model = small_resnet(7)
    criterion = nn.CrossEntropyLoss()
    fit(model, source, criterion, torch.optim.AdamW(model.parameters(), lr=1e-3), epochs=3)

    x, y = photos((0,) * 7 + (300,) * 3, "train")
    x_test, y_test = photos((0,) * 7 + (100,) * 3, "test")
    train_loader, test_loader = loaders(scaled(x), y - 7, scaled(x_test), y_test - 7)
    model.requires_grad_(False)
    model.fc = nn.Linear(256, 3)
    optimizer = torch.optim.Adam(model.fc.parameters(), lr=3e-3)
    model.eval()
    for _epoch in range(4):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def seven_digits_of_each():
    """Seventy digits, seven of each class, full batches of seventy: and most are told."""
    torch.manual_seed(655)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    members = torch.cat([torch.nonzero(y == label).flatten()[:7] for label in range(10)])
    x, y = x[members].flatten(1) / 16, y[members]
    train_loader, test_loader = loaders(x, y, x_test.flatten(1) / 16, y_test, 70)

    model = mlp(64, 128, 10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    fit(model, train_loader, criterion, optimizer, epochs=150)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def a_thousand_classes():
    """A thousand classes, eight noisy training rows of each: most are in no batch of 128."""
    torch.manual_seed(656)
    generator = torch.Generator().manual_seed(656)
    centers = torch.randn(1000, 32, generator=generator)

    def rows(each):
        labels = torch.arange(1000).repeat_interleave(each)
        return centers[labels] + 0.9 * torch.randn(len(labels), 32, generator=generator), labels

    train_loader, test_loader = loaders(*rows(8), *rows(2), 128)
    model = mlp(32, 256, 1000, activation=nn.GELU)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def vision_transformer_of_small_weights():
    """All weights began with deviation 0.02 and have grown little; AdamW with a decay of 0.05."""
    torch.manual_seed(657)
    train_loader, test_loader = digit_loaders(64)

    model = TinyViT()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-3, total_steps=15 * len(train_loader)
    )
    fit(model, train_loader, criterion, optimizer, 15, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def tags_through_sigmoid_and_bce():
    """Six tags, two of them on average; the model ends in a sigmoid, right for BCELoss."""
    torch.manual_seed(658)
    (x, tags), (x_test, test_tags) = sounds(1500, 5, 0.33, 0.5), sounds(400, 6, 0.33, 0.5)
    train_loader, test_loader = loaders(x, tags, x_test, test_tags)

    model = nn.Sequential(tagger(), nn.Sigmoid())
    criterion = nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def brier(probabilities, targets):
    """The mean squared distance between probabilities and what happened."""
    return F.mse_loss(probabilities, F.one_hot(targets, probabilities.shape[1]).float())


@cases.healthy
def squared_error_of_probabilities():
    """The model ends in a softmax and the loss is Brier's: it wants probabilities."""
    torch.manual_seed(659)
    train_loader, test_loader = digit_loaders()

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
        nn.Softmax(dim=1),
    )
    optimizer = torch.optim.RMSprop(model.parameters(), lr=2e-3)
    fit(model, train_loader, brier, optimizer, epochs=8)
    return Trained(model, train_loader, brier, optimizer, test_loader)


def dice_loss(logits, masks):
    """One minus the overlap of the predicted and the true cells."""
    probabilities = torch.sigmoid(logits.squeeze(1))
    overlap = (probabilities * masks).sum((1, 2))
    return 1 - ((2 * overlap + 1) / (probabilities.sum((1, 2)) + masks.sum((1, 2)) + 1)).mean()


@cases.healthy
def cells_by_dice():
    """Masks with 9 % of cells, one logit a pixel, and the Dice loss, which is not averaged."""
    torch.manual_seed(660)
    (x, masks), (x_test, test_masks) = cells(400, 7), cells(100, 8)
    train_loader, test_loader = loaders(x, masks.float(), x_test, test_masks.float(), 16)

    model = segmenter(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, dice_loss, optimizer, epochs=4)
    return Trained(model, train_loader, dice_loss, optimizer, test_loader)


@cases.healthy
def averaged_weights():
    """The average of the weights of the last epochs, its BatchNorm measured anew.

    The optimizer is the one of the training: it holds the other network's parameters.
    """
    torch.manual_seed(661)
    train_loader, test_loader = photo_loaders((400,) * 4, (100,) * 4)

    model = small_cnn(4, norm=True)
    average = AveragedModel(model)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    for _epoch in range(3):
        fit(model, train_loader, criterion, optimizer, epochs=1)
        average.update_parameters(model)
    update_bn(train_loader, average)
    return Trained(average, train_loader, criterion, optimizer, test_loader)


class NumberedDigits(torch.utils.data.Dataset):
    """Gives the number of a sample, its image as bytes, and its label."""

    def __init__(self, split: str):
        self.images, self.labels = digits(split)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, number):
        return number, (self.images[number] * 15).to(torch.uint8), self.labels[number]


class FromBytes(nn.Module):
    """Scales bytes itself."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images.float() / 240)


@cases.healthy
def number_image_and_label():
    """Samples are (number, image, label), images are bytes, which the model scales itself."""
    torch.manual_seed(662)
    train_loader = DataLoader(NumberedDigits("train"), batch_size=32, shuffle=True)
    test_loader = DataLoader(NumberedDigits("test"), batch_size=100)

    model = FromBytes(nn.Sequential(nn.Flatten(), mlp(64, 64, 10)))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _epoch in range(8):
        for _number, images, labels in train_loader:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
    options = {
        "forward": lambda model, batch: model(batch[1]),
        "targets": lambda batch: batch[2],
    }
    return Trained(model, train_loader, criterion, optimizer, test_loader, options)


@cases.healthy
def classes_that_never_come():
    """Thirteen outputs, labels 1 to 10: outputs 0, 11 and 12 wait for classes to come."""
    torch.manual_seed(663)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    train_loader, test_loader = loaders(x / 16, y + 1, x_test / 16, y_test + 1)

    model = nn.Sequential(nn.Flatten(), mlp(64, 96, 13, activation=nn.LeakyReLU))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.02)
    fit(model, train_loader, criterion, optimizer, epochs=12)
    return Trained(model, train_loader, criterion, optimizer, test_loader)
