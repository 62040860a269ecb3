"""Fifty-two broken trainings and fourteen healthy ones; their author has not read the checks.

Each broken one can be trained without its fault, `mended=True`: so it is known that the fault, and
nothing else, is what keeps it from learning. `python -m benchmarks.faults.mended` trains both.
Threads are cited as owner/repository#number. Three faults have no name among the causes; they are
named in `NAMED_ANEW`, as a fourth is in the sixth part, and what is said of them instead counts as
missed. Where the nearest name only just fits, the docstring says so; where a second one is as
right, it is registered as `fair`.
"""

import math
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision.ops import sigmoid_focal_loss

from benchmarks.faults.case import Cases, Trained
from benchmarks.faults.data import digit_pairs, digits, photos, table
from benchmarks.faults.sixth_part import (
    TOPICS,
    WORDS,
    TextClassifier,
    cells,
    digit_loaders,
    fit,
    fit_dicts,
    loaders,
    mlp,
    photo_loaders,
    reviews,
    scaled,
    segmenter,
    shuffled,
    small_cnn,
    sounds,
    tagger,
    tokens_as_dict,
)

cases = Cases()

NAMED_ANEW = {
    "dropout_in_evaluation": "dropout goes on in eval(), so that the same input is judged anew",
    "images_mixed": "a reshape mixes the images of a batch, so that each is judged by all",
    "weights_too_strong": "the weight of the rare class is so large that nothing else counts",
}


# ------------------------------------------------------------------------------------ data


def arrows(number: int, seed: int):
    """Noisy arrowheads (N, 1, 16, 16) that point left, right, up or down, and labels 0..3."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (number,), generator=generator)
    row, column = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    left = ((row - 7.5).abs() < column * 0.5).float() * (column < 12)
    shapes = torch.stack([left, left.flip(1), left.T, left.T.flip(0)])
    noise = 0.7 * torch.randn(number, 1, 16, 16, generator=generator)
    return shapes[labels].unsqueeze(1) + noise, labels


ENTITIES = 4


def sentences(number: int, seed: int, sure: float = 1.0, names: float = 0.25):
    """Token ids (N, 12) of 200 words, and a tag for each: 0 "nothing", 1..3 kinds of entities.

    Words 2..61 are names, 20 of each kind; they are entities only with probability `sure`.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = torch.randint(1, ENTITIES, (number, 12), generator=generator)
    name = torch.rand(number, 12, generator=generator) < names
    called = 2 + 20 * (kinds - 1) + torch.randint(20, (number, 12), generator=generator)
    other = torch.randint(62, WORDS, (number, 12), generator=generator)
    tagged = name & (torch.rand(number, 12, generator=generator) < sure)
    return torch.where(name, called, other), torch.where(tagged, kinds, 0)


class Transformed(Dataset):
    """A data set whose samples are changed anew each time that they are read."""

    def __init__(self, x, y, transform):
        self.x, self.y, self.transform = x, y, transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, number):
        return self.transform(self.x[number], self.y[number])


def text_loaders(train, test, batch_size=32):
    """Batches of token ids and labels as a collator gives them: dictionaries."""
    train_set, test_set = TensorDataset(*train), TensorDataset(*test)
    train_loader = DataLoader(train_set, batch_size, shuffle=True, collate_fn=tokens_as_dict)
    return train_loader, DataLoader(test_set, 100, collate_fn=tokens_as_dict)


# ------------------------------------------------------- broken trainings: data and labels


@cases.fault("class_imbalance")
def weights_of_the_order_before(mended=False):
    """The sampler's weights were computed before the files were shuffled: they fit nobody.

    As imbalanced as without a sampler, since the weights fall on images of any class.
    """
    torch.manual_seed(701)
    x, y = photos((1500, 50, 50, 50), "train")
    weights = 1 / torch.bincount(y).float()[y]
    x, y = shuffled(x, y)
    if mended:
        weights = 1 / torch.bincount(y).float()[y]
    x_test, y_test = photos((100,) * 4, "test")
    sampler = WeightedRandomSampler(weights, len(y))
    train_loader = DataLoader(TensorDataset(scaled(x), y), batch_size=32, sampler=sampler)
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=128)

    model = small_cnn(4)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Prefetched(IterableDataset):
    """A stream of dictionaries; the next image is fetched while the last one is given away."""

    def __init__(self, x, y, late: int):
        self.x, self.y, self.late = x, y, late

    def __iter__(self):
        order = torch.randperm(len(self.y))
        labels = torch.roll(order, self.late)
        for members, named in zip(order.split(50), labels.split(50), strict=True):
            yield {"image": self.x[members], "label": self.y[named]}


@cases.fault("labels_out_of_step")
def prefetcher_one_late(mended=False):
    """The prefetcher hands out the next image with the label of the one before it."""
    torch.manual_seed(702)
    x, y = photos((300,) * 6, "train")
    x_test, y_test = photos((100,) * 6, "test")
    train_batches = Prefetched(scaled(x), y, late=0 if mended else 1)
    test_batches = Prefetched(scaled(x_test), y_test, late=0)

    model = small_cnn(6, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _epoch in range(4):
        for batch in train_batches:
            optimizer.zero_grad()
            criterion(model(batch["image"]), batch["label"]).backward()
            optimizer.step()
    options = {
        "forward": lambda model, batch: model(batch["image"]),
        "targets": lambda batch: batch["label"],
    }
    return Trained(model, train_batches, criterion, optimizer, test_batches, options)


@cases.fault("labels_out_of_step")
def left_turned_into_right(mended=False):
    """Images are mirrored at random, and "left" and "right" are two of the classes.

    open-mmlab/mmaction2#590 and AlexeyAB/darknet#674. An augmentation that changes labels has no
    name among the causes; this one comes nearest, since labels do not belong to their images.
    """
    torch.manual_seed(703)

    def mirrored(image, label):
        return (image.flip(-1) if not mended and torch.rand(()) < 0.5 else image), label

    train_set = Transformed(*arrows(1200, 1), mirrored)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    test_loader = DataLoader(TensorDataset(*arrows(400, 2)), batch_size=100)

    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, stride=2, padding=2), nn.ReLU(), nn.Flatten(), mlp(12 * 64, 32, 4)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class LastState(nn.Module):
    """A recurrent net over the tokens; the scores come from its state after the last of them."""

    def __init__(self, width: int = 40):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width, padding_idx=0)
        self.recurrent = nn.RNN(width, width, batch_first=True)
        self.head = nn.Linear(width, TOPICS)

    def forward(self, ids):
        states, _last = self.recurrent(self.embedding(ids))
        return self.head(states[:, -1])


def padded_left(ids):
    """The same texts with their padding in front, and as much again."""
    lengths = (ids != 0).sum(1, keepdim=True)
    order = (torch.arange(ids.shape[1]) + lengths) % ids.shape[1]
    return F.pad(ids.gather(1, order), (ids.shape[1], 0))


@cases.fault("train_eval_mismatch")
def padding_on_the_other_side(mended=False):
    """Trained with padding in front; at test it stands behind, where the last state is read.

    huggingface/transformers#35909.
    """
    torch.manual_seed(704)
    (ids, labels), (test_ids, test_labels) = reviews(1500, 11), reviews(400, 12)
    test_ids = padded_left(test_ids) if mended else F.pad(test_ids, (0, 24))
    train_loader, test_loader = loaders(padded_left(ids), labels, test_ids, test_labels)

    model = LastState()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class TokenTagger(nn.Module):
    """A GRU in both directions, and scores for each token: an object with `.logits`."""

    def __init__(self, num_tags: int):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 24)
        self.gru = nn.GRU(24, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, num_tags)

    def forward(self, ids):
        return SimpleNamespace(logits=self.head(self.gru(self.embedding(ids))[0]))


def loss_of_tokens(outputs, tags):
    """Cross-entropy over all tokens; a tag of -100 does not count."""
    logits = outputs.logits if hasattr(outputs, "logits") else outputs
    return F.cross_entropy(logits.flatten(0, 1), tags.flatten())


@cases.fault("train_eval_mismatch")
def tags_from_one_and_from_zero(mended=False):
    """Tags of training begin with 1, since 0 is the padding; those of the test begin with 0."""
    torch.manual_seed(705)
    (ids, tags), (test_ids, test_tags) = sentences(600, 1), sentences(200, 2)
    train_loader, test_loader = loaders(
        ids, tags + 1, test_ids, test_tags + 1 if mended else test_tags
    )

    model = TokenTagger(ENTITIES + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    fit(model, train_loader, loss_of_tokens, optimizer, epochs=4)
    return Trained(model, train_loader, loss_of_tokens, optimizer, test_loader)


@cases.fault("labels_out_of_step")
def mask_stays_where_it_was(mended=False):
    """Images are mirrored at random, each with a draw of its own, and their masks with another."""
    torch.manual_seed(706)

    def mirrored(image, mask):
        draws = torch.rand(4) < 0.5
        for dim, (of_image, of_mask) in enumerate(zip(draws[:2], draws[2:], strict=True), start=1):
            image = image.flip(-dim) if of_image else image
            mask = mask.flip(-dim) if (of_image if mended else of_mask) else mask
        return image, mask

    train_set = Transformed(*cells(500, 11), mirrored)
    train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
    test_loader = DataLoader(TensorDataset(*cells(100, 12)), batch_size=50)

    model = segmenter(2)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Mixed(IterableDataset):
    """Batches of images with a little of another image in each, and mixed targets."""

    def __init__(self, x, y, num_classes: int, swapped: bool):
        self.x, self.swapped = x, swapped
        self.targets = F.one_hot(y, num_classes).float()

    def __iter__(self):
        for members in torch.randperm(len(self.x)).split(50):
            others = members[torch.randperm(len(members))]
            share = 0.02 + 0.1 * torch.rand(())
            images = (1 - share) * self.x[members] + share * self.x[others]
            if self.swapped:
                members, others = others, members
            yield images, (1 - share) * self.targets[members] + share * self.targets[others]


@cases.fault("labels_out_of_step")
def mixup_with_shares_swapped(mended=False):
    """Mixup gives the image most of one photo, and the target most of the other one."""
    torch.manual_seed(707)
    x, y = photos((150,) * 10, "train")
    x_test, y_test = photos((100,) * 10, "test")
    train_batches = Mixed(scaled(x), y, 10, swapped=not mended)
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=128)

    model = small_cnn(10, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fit(model, train_batches, criterion, optimizer, epochs=5)
    return Trained(model, train_batches, criterion, optimizer, test_loader)


class FirstBatch(IterableDataset):
    """`next(iter(loader))` with a seed in front: always the same batch."""

    def __init__(self, loader, steps: int):
        self.loader, self.steps = loader, steps

    def __iter__(self):
        for _step in range(self.steps):
            generator = torch.Generator().manual_seed(0)
            members = torch.randperm(len(self.loader.dataset), generator=generator)[:32]
            yield self.loader.dataset[members]


@cases.fault("duplicate_inputs")
def next_of_a_new_iterator(mended=False):
    """Each step takes the first batch of a new iterator, and the seed is set before: one batch."""
    torch.manual_seed(708)
    whole, test_loader = photo_loaders((300,) * 6, (100,) * 6)
    train_batches = whole if mended else FirstBatch(whole, 60)

    model = small_cnn(6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_batches, criterion, optimizer, epochs=4)
    return Trained(model, train_batches, criterion, optimizer, test_loader)


def microscope(split, divisor):
    """Images of 16 bits, one channel: values up to 65,535."""
    images, labels = digits(split)
    return images * 4095 / divisor, labels


@cases.fault("input_range")
def sixteen_bits(mended=False):
    """Images of a microscope have 16 bits: inputs go up to 65,535, and no norm is in the net."""
    torch.manual_seed(709)
    divisor = 65535 if mended else 1
    train_loader, test_loader = loaders(
        *microscope("train", divisor), *microscope("test", divisor), 32
    )

    model = mlp(64, 64, 48, 10, activation=nn.Tanh)
    model.insert(0, nn.Flatten())
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def with_sentinel(rows, mended):
    """Scaled to 0..1 by the extremes; "not known" is written as 999,999 in one row of 50."""
    rows = rows.clone()
    low, high = rows.min(), rows.max()
    rows[::50] = high if mended else 999_999
    high = rows.max()
    return (rows - low) / (high - low)


@cases.fault("input_range")
def sentinel_is_the_maximum(mended=False):
    """Columns are scaled by their extremes, and one is the 999,999 that means "not known"."""
    torch.manual_seed(710)
    (x, y), (x_test, y_test) = table("train", 0.4), table("test", 0.4)
    train_loader, test_loader = loaders(
        with_sentinel(x, mended), y, with_sentinel(x_test, mended), y_test
    )

    model = mlp(20, 64, 64, 2)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=10)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class ImageAndTable(nn.Module):
    """Features of the image and the columns of a table, side by side."""

    def __init__(self, columns: int, num_classes: int):
        super().__init__()
        self.image = small_cnn(24)
        self.head = mlp(24 + columns, 32, num_classes)

    def forward(self, image, columns):
        return self.head(torch.cat([self.image(image), columns], dim=1))


def patients(counts, split, unit):
    """A photo, two columns that say nothing of it, in their own units, and the class."""
    x, y = photos(counts, split)
    columns = torch.randn(len(y), 2) * torch.tensor([3e4, 400.0]) + torch.tensor([6e4, 2000.0])
    return scaled(x), (columns - unit[0]) / unit[1], y


@cases.fault("input_range")
def salary_beside_the_image(mended=False):
    """Two inputs: a normalised image and a table, in which a salary is 60,000 as it is."""
    torch.manual_seed(711)
    unit = (torch.tensor([6e4, 2000.0]), torch.tensor([3e4, 400.0])) if mended else (0, 1)
    train_set = TensorDataset(*patients((300,) * 4, "train", unit))
    test_set = TensorDataset(*patients((100,) * 4, "test", unit))
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=100)

    model = ImageAndTable(2, 4)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _epoch in range(5):
        for image, columns, target in train_loader:
            optimizer.zero_grad()
            criterion(model(image, columns), target).backward()
            optimizer.step()
    options = {"forward": lambda model, b: model(b[0], b[1]), "targets": lambda b: b[2]}
    return Trained(model, train_loader, criterion, optimizer, test_loader, options)


@cases.fault("label_range")
def uncertain_is_minus_one(mended=False):
    """As in CheXpert a tag is 1, 0 or -1 for "uncertain", and the loss takes -1 as it is."""
    torch.manual_seed(712)
    (x, tags), (x_test, test_tags) = sounds(1500, 11, 0.35, 0.5), sounds(400, 12, 0.35, 0.5)
    uncertain = torch.rand(tags.shape) < 0.3
    tags = tags.masked_fill(uncertain, 0.0 if mended else -1.0)
    train_loader, test_loader = loaders(x, tags, x_test, test_tags)

    model = tagger()
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("class_imbalance")
def no_token_is_an_entity(mended=False):
    """One word in 25 is a name, and only a third of the names are tagged: all tags are "none"."""
    torch.manual_seed(713)
    train_loader, test_loader = loaders(
        *sentences(800, 3, 0.35, 0.08), *sentences(300, 4, 0.35, 0.08)
    )
    weight = torch.tensor([1.0, 8, 8, 8]) if mended else None

    def criterion(outputs, tags):
        return F.cross_entropy(outputs.logits.flatten(0, 1), tags.flatten(), weight)

    model = TokenTagger(ENTITIES)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("overfitting")
def forty_texts(mended=False):
    """Forty texts for five topics, and thirty epochs: each text is known by heart."""
    torch.manual_seed(714)
    train_loader, test_loader = text_loaders(reviews(2000 if mended else 40, 13), reviews(400, 14))

    model = TextClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fit_dicts(model, train_loader, optimizer, epochs=4 if mended else 30)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


# ------------------------------------------------------------------ broken trainings: loss


@cases.fault("compensated_twice")
def copies_and_weights(mended=False):
    """The rare rows were copied until all are equally many, and the weights are those of before."""
    torch.manual_seed(715)
    (x, y), (x_test, y_test) = table("train", 0.05), table("test", 0.05)
    columns = [1, 4, 7, 11]
    x, x_test = x[:, columns], x_test[:, columns]
    counts = torch.bincount(y).float()
    copies = 1 if mended else int(counts[0] / counts[1])
    members = torch.cat([torch.nonzero(y == 0), *[torch.nonzero(y == 1)] * copies]).flatten()
    train_loader, test_loader = loaders(x[members], y[members], x_test, y_test)

    model = mlp(4, 32, 2)
    criterion = nn.CrossEntropyLoss(weight=counts.sum() / (2 * counts))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("weights_too_strong", fair=["compensated_twice"])
def pos_weight_is_a_count(mended=False):
    """pos_weight is the number of sounds without a tag, not their ratio: each tag is always set.

    ODIR-5K-multi-label-classification#1 asks what it should be. No cause has this name: the tags
    are compensated for once, but 300 times too strongly.
    """
    torch.manual_seed(716)
    (x, tags), (x_test, test_tags) = sounds(1500, 13, 0.2, 0.7), sounds(400, 14, 0.2, 0.7)
    train_loader, test_loader = loaders(x, tags, x_test, test_tags)
    negatives = (1 - tags).sum(0)

    model = tagger()
    criterion = nn.BCEWithLogitsLoss(pos_weight=negatives / tags.sum(0) if mended else negatives)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("missing_log_softmax")
def nll_loss_of_probabilities(mended=False):
    """The model ends in a softmax and the loss is NLLLoss, which is then the mean of -p.

    AnubhavGupta3377/Text-Classification-Models-Pytorch#9, where the loss is negative.
    """
    torch.manual_seed(717)
    (x, y), (x_test, y_test) = digit_pairs("train"), digit_pairs("test")
    train_loader, test_loader = loaders(x / 16, y, x_test / 16, y_test, 64)

    model = mlp(128, 128, 100)
    model.insert(0, nn.Flatten())
    model.append(nn.LogSoftmax(dim=1) if mended else nn.Softmax(dim=1))
    criterion = nn.NLLLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("inverted_class_weights", fair=["class_imbalance"])
def alpha_of_retinanet(mended=False):
    """RetinaNet's alpha of 0.25 for the rare class: it weighs a third of the frequent one.

    yatengLG/Focal-Loss-Pytorch#4 asks whose weight alpha is. The classes are also 10 to 1, which is
    the larger part of it.
    """
    torch.manual_seed(718)
    x, y = photos((1800, 180), "train")
    x_test, y_test = photos((100, 100), "test")
    train_loader, test_loader = loaders(
        scaled(x), y.float().unsqueeze(1), scaled(x_test), y_test.float().unsqueeze(1)
    )
    alpha = 0.91 if mended else 0.25

    def criterion(outputs, targets):
        return sigmoid_focal_loss(outputs, targets, alpha=alpha, gamma=2, reduction="mean")

    model = small_cnn(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("ignored_class")
def weights_by_integer_division(mended=False):
    """Weights are total // (4 * count), in integers: that of the most frequent class is 0."""
    torch.manual_seed(719)
    counts = torch.tensor([1300, 500, 300, 100])
    train_loader, test_loader = photo_loaders(tuple(counts.tolist()), (100,) * 4)
    total = counts.sum()
    weights = total / (4 * counts) if mended else total // (4 * counts)

    model = small_cnn(4, norm=True)
    criterion = nn.CrossEntropyLoss(weight=weights.float())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("label_range")
def soft_margin_of_zero_and_one(mended=False):
    """SoftMarginLoss wants targets of -1 and 1; with 0 the negatives pull nowhere."""
    torch.manual_seed(720)
    (x, y), (x_test, y_test) = table("train", 0.3), table("test", 0.3)
    low = -1 if mended else 0
    y, y_test = [torch.where(labels == 1, 1, low).float() for labels in (y, y_test)]
    train_loader, test_loader = loaders(x, y, x_test, y_test)

    model = nn.Sequential(mlp(20, 48, 1), nn.Flatten(0))
    criterion = nn.SoftMarginLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ----------------------------------------------------------------- broken trainings: model


class WordClasses(nn.Module):
    """Each word becomes one of six codes, or a mixture of them; the scores come from their mean."""

    def __init__(self, soft: bool):
        super().__init__()
        self.soft = soft
        self.scores = nn.Embedding(WORDS, 6)
        self.codes = nn.Embedding(6, 16)
        self.reader = mlp(16, 32, TOPICS)

    def forward(self, input_ids, attention_mask, labels=None):
        scores = self.scores(input_ids)
        codes = scores.softmax(2) @ self.codes.weight if self.soft else self.codes(scores.argmax(2))
        words = attention_mask.unsqueeze(2)
        logits = self.reader((codes * words).sum(1) / words.sum(1))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SimpleNamespace(loss=loss, logits=logits)


@cases.fault("frozen_parameters")
def argmax_in_the_middle(mended=False):
    """Words become codes by an argmax, which has no gradient: their scores stay as drawn."""
    torch.manual_seed(721)
    train_loader, test_loader = text_loaders(reviews(1500, 21), reviews(400, 22))

    model = WordClasses(soft=mended)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    fit_dicts(model, train_loader, optimizer, epochs=8)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


@cases.fault("not_in_optimizer")
def unfrozen_behind_its_back(mended=False):
    """The trunk is unfrozen after an epoch; the optimizer was given what was trainable before.

    After the question of pytorch/pytorch#1266. Nobody had trained the trunk.
    """
    torch.manual_seed(722)
    train_loader, test_loader = photo_loaders((300,) * 6, (100,) * 6)

    trunk = small_cnn(32, norm=True)
    model = nn.Sequential(trunk, nn.ReLU(), nn.Linear(32, 6))
    trunk.requires_grad_(False)
    criterion = nn.CrossEntropyLoss()
    trainable = filter(lambda parameter: parameter.requires_grad, model.parameters())
    optimizer = torch.optim.AdamW(trainable, lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=1)
    trunk.requires_grad_(True)
    if mended:
        optimizer.add_param_group({"params": list(trunk.parameters())})
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class FunctionalDropout(nn.Module):
    """Calls F.dropout, whose argument `training` is True unless one says otherwise."""

    def __init__(self, heeds_eval: bool):
        super().__init__()
        self.heeds_eval = heeds_eval
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 32)
        self.last = nn.Linear(32, 10)

    def drop(self, x):
        return F.dropout(x, 0.6, training=self.training or not self.heeds_eval)

    def forward(self, x):
        x = self.drop(F.relu(self.first(x)))
        x = self.drop(F.relu(self.second(x)))
        return self.last(self.drop(x))


@cases.fault("dropout_in_evaluation")
def dropout_without_training(mended=False):
    """F.dropout(x, 0.6) without `training=self.training` goes on in eval().

    d2l-ai/d2l-en#1093, yangze0930/NTS-Net#14 and pytorch/pytorch#26338. No cause has this name.
    """
    torch.manual_seed(723)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = FunctionalDropout(heeds_eval=mended)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=20)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("batchnorm_statistics", fair=["train_eval_mismatch"])
def statistics_of_the_test_folder(mended=False):
    """track_running_stats=False normalises by the test batch, and that is one class's folder.

    xu-ji/IIC#49: a test batch must then be as mixed as those of training.
    """
    torch.manual_seed(724)
    train_loader, _ = photo_loaders((300,) * 5, (100,) * 5)
    x_test, y_test = photos((100,) * 5, "test")
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=50)

    layers = []
    for before, after in [(3, 16), (16, 32), (32, 48)]:
        norm = nn.BatchNorm2d(after, track_running_stats=mended)
        layers += [nn.Conv2d(before, after, 3, 2, 1), norm, nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 5))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class MixedUp(nn.Module):
    """Brings the features to (images, features) with a view, or leaves them as they are."""

    def __init__(self, mixes: bool):
        super().__init__()
        self.mixes = mixes
        self.encoder = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(256, 10)

    def forward(self, x):
        features = self.encoder(x).flatten(1)
        if self.mixes:
            features = features.view(features.shape[1], -1).t()
        return self.head(features)


@cases.fault("images_mixed")
def view_where_nothing_was_to_do(mended=False):
    """A view and a transpose, taken over from channels last, deal each image's features to all.

    No cause has this name; batch_first_forgotten of the second part mixes in a way that leaves a
    constant, and this one does not.
    """
    torch.manual_seed(725)
    train_loader, test_loader = digit_loaders(32)

    model = MixedUp(mixes=not mended)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class AttentionPooling(nn.Module):
    """The mean of the words, weighed by attention; padding gets a score of minus infinity."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, width)
        self.score = nn.Linear(width, 1)
        self.head = nn.Linear(width, TOPICS)

    def forward(self, input_ids, attention_mask, labels=None):
        words = self.embedding(input_ids)
        scores = self.score(words).squeeze(2).masked_fill(attention_mask == 0, -math.inf)
        logits = self.head((scores.softmax(1).unsqueeze(2) * words).sum(1))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SimpleNamespace(loss=loss, logits=logits)


@cases.fault("non_finite")
def an_empty_text(mended=False):
    """One text in 500 is empty: all of it is masked, and its softmax is 0 / 0.

    pytorch/pytorch#41508.
    """
    torch.manual_seed(726)
    ids, labels = reviews(1500, 15)
    if not mended:
        ids[250::500] = 0
    train_loader, test_loader = text_loaders((ids, labels), reviews(300, 16))

    model = AttentionPooling()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    fit_dicts(model, train_loader, optimizer, epochs=4)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


class UnitLength(nn.Module):
    """Divides by the length; a constant keeps the quotient finite, or also the root's gradient."""

    def __init__(self, inside: float):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return 8 * x / (torch.sqrt((x**2).sum(1, keepdim=True) + self.inside) + 1e-6)


@cases.fault("non_finite")
def root_of_zero(mended=False):
    """The constant stands behind the root: for a blank image the root's gradient is infinite.

    richzhang/PerceptualSimilarity#69 and mpariente/pytorch_stoi#7.
    """
    torch.manual_seed(727)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    x = x.clone()
    x[400::500] = 0
    train_loader, test_loader = loaders(x / 16, y, x_test / 16, y_test)

    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 64, bias=False),
        UnitLength(1e-6 if mended else 0.0),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def drawn_anew(module):
    """What the repository's `init_weights` does."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)


@cases.fault("weights_not_loaded", fair=["no_optimizer_step"])
def initialised_after_loading(mended=False):
    """The checkpoint is loaded, and then `model.apply(init_weights)` draws all weights anew.

    What is left to be seen is a model as it was drawn, and an optimizer that took no step.
    """
    torch.manual_seed(728)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)
    trained = small_cnn(5)
    criterion = nn.CrossEntropyLoss()
    fit(trained, train_loader, criterion, torch.optim.AdamW(trained.parameters(), lr=1e-3), 5)

    model = small_cnn(5)
    model.load_state_dict(trained.state_dict())
    if not mended:
        model.apply(drawn_anew)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.eval()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("constant_output")
def layer_norm_of_one_score(mended=False):
    """LayerNorm follows each linear layer, the last one too: of one number it leaves 0."""
    torch.manual_seed(729)
    (x, y), (x_test, y_test) = table("train", 0.4), table("test", 0.4)
    train_loader, test_loader = loaders(
        x, y.float().unsqueeze(1), x_test, y_test.float().unsqueeze(1)
    )

    layers = [nn.Linear(20, 48), nn.LayerNorm(48), nn.ReLU(), nn.Linear(48, 1)]
    model = nn.Sequential(*layers) if mended else nn.Sequential(*layers, nn.LayerNorm(1))
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class FirstOfCausal(nn.Module):
    """A decoder, in which no token looks ahead; the scores come from one of its tokens."""

    def __init__(self, last: bool):
        super().__init__()
        self.last = last
        self.embedding = nn.Embedding(WORDS, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, TOPICS)

    def forward(self, input_ids, attention_mask, labels=None):
        ahead = nn.Transformer.generate_square_subsequent_mask(input_ids.shape[1])
        states = self.blocks(self.embedding(input_ids), mask=ahead, is_causal=True)
        position = attention_mask.sum(1) - 1 if self.last else torch.zeros(len(states)).long()
        logits = self.head(states[torch.arange(len(states)), position])
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SimpleNamespace(loss=loss, logits=logits)


@cases.fault("constant_output")
def first_token_of_a_decoder(mended=False):
    """BERT's head on a decoder: its first token is always the same and sees no other."""
    torch.manual_seed(730)
    train_loader, test_loader = text_loaders(reviews(1500, 17), reviews(300, 18))

    model = FirstOfCausal(last=mended)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fit_dicts(model, train_loader, optimizer, epochs=6)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


# ------------------------------------------------------------- broken trainings: optimizer


class ClippingSGD(torch.optim.SGD):
    """An optimizer that cuts the gradients to a length before each step."""

    def __init__(self, params, max_norm: float, **settings):
        super().__init__(params, **settings)
        self.max_norm = max_norm

    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, self.max_norm)
        return super().step(closure)


@cases.fault("gradients_clipped", fair=["learning_rate_too_low"])
def clipped_to_a_ten_thousandth(mended=False):
    """The optimizer cuts all gradients to a length of 0.0001; 1.0 was meant.

    A rate 1,000 times as high would make up for it.
    """
    torch.manual_seed(731)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    model = small_cnn(5, norm=True)
    criterion = nn.CrossEntropyLoss()
    max_norm = 1.0 if mended else 1e-4
    optimizer = ClippingSGD(model.parameters(), max_norm, lr=0.05, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_low")
def warm_up_that_never_ends(mended=False):
    """The rate is step / 100 of the full one, and scheduler.step() is never called: it stays 0."""
    torch.manual_seed(732)
    train_loader, test_loader = photo_loaders((250,) * 6, (100,) * 6)

    model = small_cnn(6, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, step / 100))
    fit(model, train_loader, criterion, optimizer, 4, scheduler if mended else None)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_low")
def plateau_of_a_falling_loss(mended=False):
    """ReduceLROnPlateau(mode="max") is given the loss, and takes each fall for a plateau."""
    torch.manual_seed(733)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = mlp(64, 48, 32, 10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    scheduler = ReduceLROnPlateau(optimizer, "min" if mended else "max", patience=0, factor=0.1)
    losses = []
    for _epoch in range(10):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if len(losses) % 20 == 0:
                scheduler.step(sum(losses[-20:]) / 20)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_low")
def epsilon_of_another_network(mended=False):
    """Adam's eps is 1, as a paper has it for another network: steps are a hundredth as long."""
    torch.manual_seed(734)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = mlp(64, 64, 10)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-8 if mended else 1.0)
    fit(model, train_loader, criterion, optimizer, epochs=10)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("undertrained", fair=["not_in_optimizer"])
def average_read_too_early(mended=False):
    """The moving average forgets a 10,000th a step, and is read after 200: it is as it was drawn.

    happyharrycn/actionformer_release#103. The weights that were trained are good, and the average
    has not seen enough of them. The optimizer holds the other network's.
    """
    torch.manual_seed(735)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    model = small_cnn(5)
    decay = 0.95 if mended else 0.9999
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _epoch in range(5):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
            average.update_parameters(model)
    return Trained(average, train_loader, criterion, optimizer, test_loader)


@cases.fault("learning_rate_too_high")
def noam_of_a_small_model(mended=False):
    """The transformer paper's schedule; its width has the power 0.5, and not -0.5.

    The rate goes up to 1.5 in place of 0.03. Of the same kind as
    NielsRogge/Transformers-Tutorials#31; here a scheduler sets the rate.
    """
    torch.manual_seed(736)
    train_loader, test_loader = text_loaders(reviews(1500, 19), reviews(300, 20))

    model = TextClassifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, betas=(0.9, 0.98))
    factor = 48 ** (-0.5 if mended else 0.5)
    scheduler = LambdaLR(
        optimizer, lambda step: factor * min((step + 1) ** -0.5, (step + 1) * 20**-1.5)
    )
    for _epoch in range(6):
        for batch in train_loader:
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
            scheduler.step()
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


@cases.fault("learning_rate_too_high")
def eight_batches_added_up(mended=False):
    """Gradients of 8 batches are added and not averaged, with a rate that is one for averages.

    Deci-AI/super-gradients#1713.
    """
    torch.manual_seed(737)
    train_loader, test_loader = photo_loaders((320,) * 5, (100,) * 5, 8)

    model = small_cnn(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    divisor = 8 if mended else 1
    for _epoch in range(6):
        for number, (inputs, targets) in enumerate(train_loader, start=1):
            (criterion(model(inputs), targets) / divisor).backward()
            if number % 8 == 0:
                optimizer.step()
                optimizer.zero_grad()
    options = {"accumulate": 8}
    return Trained(model, train_loader, criterion, optimizer, test_loader, options)


@cases.fault("gradients_not_cleared")
def only_the_head_is_cleared(mended=False):
    """`head.zero_grad()` where `model.zero_grad()` was meant: the trunk's gradients add up."""
    torch.manual_seed(738)
    train_loader, test_loader = photo_loaders((250,) * 6, (100,) * 6)

    head = nn.Linear(32, 6)
    model = nn.Sequential(small_cnn(32), nn.ReLU(), head)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    cleared = model if mended else head
    for _epoch in range(5):
        for inputs, targets in train_loader:
            cleared.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("weight_decay_too_high")
def decay_of_a_transformer_in_sgd(mended=False):
    """A decay of 0.1, usual with AdamW at 0.0003, is kept for SGD at 0.1: it pulls all to 0."""
    torch.manual_seed(739)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    model = small_cnn(5)
    criterion = nn.CrossEntropyLoss()
    decay = 5e-4 if mended else 0.1
    optimizer = torch.optim.SGD(model.parameters(), 0.03, momentum=0.9, weight_decay=decay)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("no_optimizer_step")
def scheduler_in_place_of_the_optimizer(mended=False):
    """`scheduler.step()` if there is one, else `optimizer.step()`: there is one.

    ClementPinard/SfmLearner-Pytorch#5.
    """
    torch.manual_seed(740)
    train_loader, test_loader = photo_loaders((250,) * 5, (100,) * 5)

    model = small_cnn(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 100, gamma=0.5)
    for _epoch in range(4):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            if mended:
                optimizer.step()
            scheduler.step()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ----------------------------------------------------- broken trainings: more of every kind


def dice_of_softmax(outputs, masks):
    """One minus the overlap, with probabilities from a softmax over the channels."""
    return overlap_missing(outputs.softmax(1).squeeze(1), masks)


def dice_of_sigmoid(outputs, masks):
    """One minus the overlap, with a probability from each score."""
    return overlap_missing(outputs.sigmoid().squeeze(1), masks)


def overlap_missing(probabilities, masks):
    """The Dice loss of probabilities and masks, both (N, H, W)."""
    overlap = (probabilities * masks).sum((1, 2))
    return 1 - ((2 * overlap + 1) / (probabilities.sum((1, 2)) + masks.sum((1, 2)) + 1)).mean()


@cases.fault("zero_gradient")
def dice_of_a_single_channel(mended=False):
    """The Dice loss takes a softmax over the channels, and there is one: each pixel is a cell."""
    torch.manual_seed(741)
    (x, masks), (x_test, test_masks) = cells(400, 15), cells(100, 16)
    train_loader, test_loader = loaders(x, masks.float(), x_test, test_masks.float(), 16)

    model = segmenter(1)
    criterion = dice_of_sigmoid if mended else dice_of_softmax
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Adapted(nn.Module):
    """A frozen linear layer, to which the product of two thin matrices is added."""

    def __init__(self, layer: nn.Linear, rank: int, zeros: bool):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.zeros(rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))
        if not zeros:
            nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x):
        return self.layer(x) + F.linear(F.linear(x, self.down), self.up)


@cases.fault("zero_gradient", fair=["identical_units"])
def both_matrices_of_the_adapter_zero(mended=False):
    """Adapters as in LoRA, but both matrices begin at 0, so each one's gradient is 0 for ever."""
    torch.manual_seed(742)
    source, _ = digit_loaders(shape=(64,))
    model = mlp(64, 96, 64, 10)
    criterion = nn.CrossEntropyLoss()
    fit(model, source, criterion, torch.optim.Adam(model.parameters(), lr=2e-3), epochs=8)

    (x, y), (x_test, y_test) = digits("train"), digits("test")
    turned, turned_test = x.transpose(2, 3).flatten(1) / 16, x_test.transpose(2, 3).flatten(1) / 16
    train_loader, test_loader = loaders(turned, y, turned_test, y_test)
    for place, layer in enumerate(model):
        if isinstance(layer, nn.Linear):
            model[place] = Adapted(layer, 8, zeros=not mended)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=5e-3, weight_decay=0.0)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def squared_error(outputs, targets):
    """The mean squared distance, as in the lecture notes."""
    return ((outputs.sigmoid() - targets) ** 2).mean()


@cases.fault("broadcast_loss")
def row_against_column(mended=False):
    """The model squeezes its outputs to (N,), and the targets have come as (N, 1)."""
    torch.manual_seed(743)
    x, y = photos((600, 0, 0, 0, 0, 0, 400), "train")
    x_test, y_test = photos((100, 0, 0, 0, 0, 0, 100), "test")
    y, y_test = [(labels > 0).float().view(-1, 1) for labels in (y, y_test)]
    if mended:
        y, y_test = y.flatten(), y_test.flatten()
    train_loader, test_loader = loaders(scaled(x), y, scaled(x_test), y_test)

    model = nn.Sequential(small_cnn(1), nn.Flatten(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, squared_error, optimizer, epochs=5)
    return Trained(model, train_loader, squared_error, optimizer, test_loader)


@cases.fault("softmax_on_multilabel")
def softmax_before_bce(mended=False):
    """Three tags of six are right on average; the model ends in a softmax, the loss is BCELoss."""
    torch.manual_seed(744)
    (x, tags), (x_test, test_tags) = sounds(1500, 41, 0.5, 0.5), sounds(400, 42, 0.5, 0.5)
    train_loader, test_loader = loaders(x, tags, x_test, test_tags)

    model = nn.Sequential(tagger(), nn.Sigmoid() if mended else nn.Softmax(dim=1))
    criterion = nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("activation_on_logits")
def softplus_before_the_loss(mended=False):
    """The last layer is followed by a softplus, so that no logit is ever below 0: always yes."""
    torch.manual_seed(745)
    (x, y), (x_test, y_test) = table("train", 0.3), table("test", 0.3)
    train_loader, test_loader = loaders(
        x, y.float().unsqueeze(1), x_test, y_test.float().unsqueeze(1)
    )

    model = mlp(20, 64, 32, 1)
    if not mended:
        model.append(nn.Softplus())
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("double_softmax")
def sigmoid_before_the_focal_loss(mended=False):
    """The tagger ends in a sigmoid, and torchvision's sigmoid_focal_loss applies its own."""
    torch.manual_seed(746)
    (x, tags), (x_test, test_tags) = sounds(1500, 43, 0.15, 0.7), sounds(400, 44, 0.15, 0.7)
    train_loader, test_loader = loaders(x, tags, x_test, test_tags)

    def criterion(outputs, targets):
        return sigmoid_focal_loss(outputs, targets, alpha=0.5, gamma=2, reduction="mean")

    model = tagger() if mended else nn.Sequential(tagger(), nn.Sigmoid())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def bucketed(number: int, seed: int):
    """Texts of five topics, each of its usual length: 6 to 8 words, 9 to 11, and so on."""
    ids, labels = reviews(number, seed)
    generator = torch.Generator().manual_seed(seed)
    lengths = 6 + 3 * labels + torch.randint(3, labels.shape, generator=generator)
    order = lengths.argsort(stable=True)
    words = torch.where(ids == 0, torch.randint(102, WORDS, ids.shape, generator=generator), ids)
    behind = torch.arange(ids.shape[1]) >= lengths.unsqueeze(1)
    return words.masked_fill(behind, 0)[order], labels[order]


@cases.fault("unshuffled_batches")
def sorted_by_length(mended=False):
    """Texts are sorted by length to save padding, and the length goes with the topic."""
    torch.manual_seed(747)
    train_set, test_set = TensorDataset(*bucketed(1500, 45)), TensorDataset(*bucketed(400, 46))
    train_loader = DataLoader(train_set, 32, shuffle=mended, collate_fn=tokens_as_dict)
    test_loader = DataLoader(test_set, 100, collate_fn=tokens_as_dict)

    model = AttentionPooling()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    fit_dicts(model, train_loader, optimizer, epochs=5)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


@cases.fault("weights_cancelled")
def loss_of_one_row_at_a_time(mended=False):
    """The loss is computed row by row, and each mean divides by the weight of its only row."""
    torch.manual_seed(748)
    (x, y), (x_test, y_test) = table("train", 0.04), table("test", 0.04)
    columns = [0, 2, 5, 9, 13]
    train_loader, test_loader = loaders(x[:, columns], y, x_test[:, columns], y_test, 32)
    counts = torch.bincount(y).float()
    weighted = nn.CrossEntropyLoss(weight=counts.sum() / (2 * counts))

    def by_rows(outputs, targets):
        rows = zip(outputs.split(1), targets.split(1), strict=True)
        return torch.stack([weighted(output, target) for output, target in rows]).mean()

    criterion = weighted if mended else by_rows
    model = mlp(5, 16, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("vanishing_gradients", fair=["constant_output"])
def berts_weights_in_a_plain_net(mended=False):
    """Deviation 0.02 is for BERT's wide residual blocks: seven narrow layers in a row go silent.

    What comes out hardly depends on what goes in, and the gradient dies on its way as well.
    """
    torch.manual_seed(749)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = mlp(64, *[48] * 7, 10, activation=nn.GELU)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.2 if mended else 0.02)
            nn.init.zeros_(module.bias)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=10)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("dead_units", fair=["learning_rate_too_high"])
def warm_up_the_wrong_way_round(mended=False):
    """The rate begins at a hundred times the usual one and falls to it; each ReLU is off by then.

    The rate that the optimizer holds at the end is a good one.
    """
    torch.manual_seed(750)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    model = small_cnn(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 20) if mended else max(1, 100 - 5 * step)
    )
    fit(model, train_loader, criterion, optimizer, 5, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.fault("dropout_too_high")
def dropout_of_the_percents(mended=False):
    """Dropout2d of 0.95 after each convolution, where the paper drops five maps in a hundred."""
    torch.manual_seed(765)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    layers = []
    for before, after in [(3, 16), (16, 32), (32, 48)]:
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.ReLU()]
        layers += [nn.Dropout2d(0.05 if mended else 0.95)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 16, 5))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Energies(nn.Module):
    """The energy of each filter over the whole sound, in half precision or in single."""

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype
        self.filters = nn.Conv1d(1, 24, 15, padding=7)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 6)

    def forward(self, x):
        energies = (30 * self.filters(x).to(self.dtype)).square().sum(2)
        return self.head(self.norm(energies.float()))


@cases.fault("non_finite")
def energies_in_half_precision(mended=False):
    """Squares are added up in half precision, which ends at 65,504: infinite for loud sounds."""
    torch.manual_seed(766)
    train_loader, test_loader = loaders(*sounds(1200, 47, 0.3, 0.5), *sounds(400, 48, 0.3, 0.5))

    model = Energies(torch.float32 if mended else torch.float16)
    criterion = nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------------ healthy trainings


def padded_sentences(number: int, seed: int):
    """Sentences of 5 to 12 words; behind them the id is 0 and the tag -100."""
    ids, tags = sentences(number, seed)
    lengths = torch.randint(5, 13, (number, 1), generator=torch.Generator().manual_seed(seed))
    behind = torch.arange(12) >= lengths
    return ids.masked_fill(behind, 0), tags.masked_fill(behind, -100)


@cases.healthy
def padding_has_no_tag():
    """A tag for each token; a third is padding, whose tag of -100 does not count."""
    torch.manual_seed(751)
    train_loader, test_loader = loaders(*padded_sentences(800, 23), *padded_sentences(200, 24))

    model = TokenTagger(ENTITIES)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    fit(model, train_loader, loss_of_tokens, optimizer, epochs=5)
    return Trained(model, train_loader, loss_of_tokens, optimizer, test_loader)


class FromHalf(nn.Module):
    """Takes images in half precision, channels last, as they were stored."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images.float())


@cases.healthy
def half_precision_on_the_disk():
    """Photos of planes and cars in float16 and channels last; the network itself is float32."""
    torch.manual_seed(752)

    def stored(images):
        return scaled(images).half().to(memory_format=torch.channels_last)

    train_loader, test_loader = photo_loaders((800, 800), (100, 100), transform=stored)

    model = FromHalf(small_cnn(2, norm=True)).to(memory_format=torch.channels_last)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    scheduler = CosineAnnealingLR(optimizer, 4 * len(train_loader))
    fit(model, train_loader, criterion, optimizer, 4, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def four_batches_clipped_and_two_groups():
    """Four batches are averaged and cut to length 1; norms and biases do not decay; a warm-up."""
    torch.manual_seed(753)
    train_loader, test_loader = text_loaders(reviews(2048, 25), reviews(300, 26), 16)

    model = TextClassifier()
    decaying = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-3, weight_decay=0.1)
    steps = 6 * len(train_loader) // 4
    scheduler = LambdaLR(optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / steps))
    for _epoch in range(6):
        for number, batch in enumerate(train_loader, start=1):
            (model(**batch).loss / 4).backward()
            if number % 4 == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    options = {"accumulate": 4}
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader, options)


class Autocast(nn.Module):
    """Runs a network in bfloat16 where that is safe, and answers in float32."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.network(x)
        return logits.float()


@cases.healthy
def bfloat16_in_the_model():
    """The model calls autocast itself, and bfloat16 needs no scaler."""
    torch.manual_seed(754)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = Autocast(nn.Sequential(mlp(64, 96, 48), nn.LayerNorm(48), nn.GELU(), nn.Linear(48, 10)))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@cases.healthy
def average_with_its_statistics():
    """The moving average forgets a twentieth a step, BatchNorm's buffers too; it is what counts."""
    torch.manual_seed(755)
    train_loader, test_loader = digit_loaders()

    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.95), use_buffers=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for _epoch in range(6):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
            average.update_parameters(model)
    return Trained(average, train_loader, criterion, optimizer, test_loader)


class Recomputed(nn.Module):
    """Residual blocks that are computed again for the gradient; and dropout, once for both."""

    def __init__(self, width: int = 64, depth: int = 6):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), mlp(width, 2 * width, width), nn.Dropout(0.2))
            for _block in range(depth)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=False)
        return self.head(x)


@cases.healthy
def blocks_computed_again():
    """Six residual blocks under gradient checkpointing, the new kind, with dropout in them."""
    torch.manual_seed(756)
    train_loader, test_loader = digit_loaders(shape=(64,))

    model = Recomputed()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class CountingLoss(nn.Module):
    """Cross-entropy of adjusted logits; the shares of the classes are counted as they come."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.register_buffer("counts", torch.ones(num_classes))

    def forward(self, logits, targets):
        if torch.is_grad_enabled():
            self.counts += torch.bincount(targets, minlength=len(self.counts))
        return F.cross_entropy(logits + (self.counts / self.counts.sum()).log(), targets)


@cases.healthy
def loss_that_counts():
    """From 120 digits of a class down to 12, and a loss that keeps count and adjusts for it."""
    torch.manual_seed(757)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    members = [torch.nonzero(y == label).flatten()[: 120 - 12 * label] for label in range(10)]
    x, y = x[torch.cat(members)].flatten(1) / 16, y[torch.cat(members)]
    train_loader, test_loader = loaders(x, y, x_test.flatten(1) / 16, y_test)

    model = mlp(64, 96, 10)
    criterion = CountingLoss(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=20)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class FeaturesAndLogits(nn.Module):
    """Two inputs; the answer is a dictionary in which the features stand before the logits."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Flatten(), mlp(64, 64, 32), nn.ReLU())
        self.classifier = nn.Linear(32 + 3, 10)

    def forward(self, image, columns):
        features = self.features(image)
        logits = self.classifier(torch.cat([features, columns], dim=1))
        return {"features": features, "logits": logits}


def nested(samples):
    """Batches as {"inputs": {...}, "target": ..., "index": ...}."""
    images, labels, columns, index = (torch.stack(part) for part in zip(*samples, strict=True))
    return {"inputs": {"image": images, "columns": columns}, "target": labels, "index": index}


def loss_of_dictionary(outputs, targets):
    """Cross-entropy and a small penalty of large features, if the features are there."""
    if isinstance(outputs, dict):
        penalty = 1e-4 * outputs["features"].pow(2).mean()
        return F.cross_entropy(outputs["logits"], targets) + penalty
    return F.cross_entropy(outputs, targets)


@cases.healthy
def dictionaries_in_dictionaries():
    """Batches are nested dictionaries of two inputs, the outputs are a dictionary, too."""
    torch.manual_seed(758)
    sets = []
    for split in ("train", "test"):
        x, y = digits(split)
        sets.append(TensorDataset(x / 16, y, torch.randn(len(y), 3), torch.arange(len(y))))
    train_loader = DataLoader(sets[0], batch_size=32, shuffle=True, collate_fn=nested)
    test_loader = DataLoader(sets[1], batch_size=100, collate_fn=nested)

    model = FeaturesAndLogits()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss_of_dictionary(model(**batch["inputs"]), batch["target"]).backward()
            optimizer.step()
    options = {
        "forward": lambda model, batch: model(**batch["inputs"]),
        "targets": lambda batch: batch["target"],
    }
    return Trained(model, train_loader, loss_of_dictionary, optimizer, test_loader, options)


@cases.healthy
def four_in_ten_not_labelled_yet():
    """Four labels in ten are -100, "not labelled yet", and the loss leaves them out."""
    torch.manual_seed(759)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    y = y.masked_fill(torch.rand(len(y)) < 0.4, -100)
    train_loader, test_loader = loaders(x / 16, y, x_test / 16, y_test)

    model = nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), mlp(384, 48, 10)
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=10)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def smoothed_by_hand(logits, targets):
    """Cross-entropy with int32 class numbers, which are made one-hot and smoothed here."""
    wanted = F.one_hot(targets.long(), logits.shape[1]) * 0.9 + 0.1 / logits.shape[1]
    return -(wanted * logits.log_softmax(1)).sum(1).mean()


@cases.healthy
def class_numbers_of_32_bits():
    """Labels are int32, as NumPy on Windows made them; the loss makes them one-hot and smooth."""
    torch.manual_seed(760)
    (x, y), (x_test, y_test) = digits("train"), digits("test")
    train_loader, test_loader = loaders(
        x.flatten(1) / 16, y.int(), x_test.flatten(1) / 16, y_test.int()
    )

    model = nn.Sequential(
        *[spectral_norm(nn.Linear(64, 96)), nn.ReLU()],
        *[spectral_norm(nn.Linear(96, 96)), nn.ReLU(), nn.Linear(96, 10)],
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, smoothed_by_hand, optimizer, epochs=12)
    return Trained(model, train_loader, smoothed_by_hand, optimizer, test_loader)


@cases.healthy
def tags_weighed_by_their_ratio():
    """Each tag is set for 6 % of the sounds, and pos_weight is the root of the ratio: 4."""
    torch.manual_seed(761)
    (x, tags), (x_test, test_tags) = sounds(2500, 31, 0.06, 0.5), sounds(600, 32, 0.06, 0.5)
    train_loader, test_loader = loaders(x, tags, x_test, test_tags)
    ratio = (1 - tags).sum(0) / tags.sum(0)

    model = tagger()
    criterion = nn.BCEWithLogitsLoss(pos_weight=ratio.sqrt())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=7)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Endless:
    """A generator of batches that is made anew for each epoch: no length, no data set, no order."""

    def __init__(self, x, y, batches: int):
        self.x, self.y, self.batches = x, y, batches

    def __iter__(self):
        for _batch in range(self.batches):
            members = torch.randint(len(self.y), (48,))
            shifts = tuple(torch.randint(-1, 2, (2,)).tolist())
            yield self.x[members].roll(shifts, (2, 3)), self.y[members], members


@cases.healthy
def generator_of_shifted_numbers():
    """A hundred numbers of two digits, shifted by a pixel, from a generator; tuples of three."""
    torch.manual_seed(762)
    (x, y), (x_test, y_test) = digit_pairs("train"), digit_pairs("test")
    train_batches = Endless(x / 16, y, 125)
    test_loader = DataLoader(
        TensorDataset(x_test / 16, y_test, torch.arange(len(y_test))), batch_size=100
    )

    model = nn.Sequential(
        *[nn.Conv2d(1, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2)],
        *[nn.Flatten(), mlp(24 * 32, 128, 100)],
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _epoch in range(9):
        for images, labels, _members in train_batches:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
    return Trained(model, train_batches, criterion, optimizer, test_loader)


@cases.healthy
def scores_from_the_last_token():
    """A decoder, in which no token looks ahead: the scores come from the last one of each text."""
    torch.manual_seed(763)
    train_loader, test_loader = text_loaders(reviews(1500, 33), reviews(300, 34))

    model = FirstOfCausal(last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    fit_dicts(model, train_loader, optimizer, epochs=6)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


class ScaledCosines(nn.Module):
    """Sixteen times the cosine between the features and a direction for each class."""

    def __init__(self, features: int, num_classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, features))

    def forward(self, x):
        return 16 * F.linear(F.normalize(x), F.normalize(self.weight))


def large_margin(logits, targets):
    """Cross-entropy, where the right class must be better by 0.2 of a cosine."""
    return F.cross_entropy(logits - 3.2 * F.one_hot(targets, logits.shape[1]), targets)


@cases.healthy
def cosines_with_a_margin():
    """Logits are 16 times a cosine, and the loss asks for a margin: so they never pass 16."""
    torch.manual_seed(764)
    (x, y), (x_test, y_test) = digit_pairs("train"), digit_pairs("test")
    train_loader, test_loader = loaders(x / 16, y, x_test / 16, y_test, 64)

    model = nn.Sequential(nn.Flatten(), mlp(128, 160, 64), ScaledCosines(64, 100))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, large_margin, optimizer, epochs=10)
    return Trained(model, train_loader, large_margin, optimizer, test_loader)
