"""Public threads about trainings that failed, re-created, and what `diagnose` says of each.

python -m benchmarks.faults.threads                 all of them
python -m benchmarks.faults.threads --write         the same, and write results/threads.json
python -m benchmarks.faults.threads NAME [NAME...]  these, with their reports

Each thread was chosen, and its cause taken from its answer, before `diagnose` saw the re-creation,
and none was left out afterwards. The code is ours: a small network, on the data of the fault bench,
that has the fault and shows the symptom. With `mended` the same training does what the answer
advises; how much better it then becomes shows that the fault is really there.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import md5
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, WeightedRandomSampler

from benchmarks.faults import bench
from benchmarks.faults.case import Case, Trained
from benchmarks.faults.data import digit_pairs, digits, photos, source
from benchmarks.faults.sixth_part import (
    TextClassifier,
    TinyViT,
    cells,
    digit_loaders,
    fit,
    fit_dicts,
    loaders,
    mlp,
    photo_loaders,
    reviews,
    scaled,
    small_cnn,
    tokens_as_dict,
)
from imbalkit.device import describe
from imbalkit.files import atomic_path

RESULTS = Path(__file__).parents[1] / "results" / "threads.json"
VERDICTS = ("right", "half", "wrong")


@dataclass(frozen=True)
class Thread:
    """A public thread and its re-creation.

    thread, url: where it stands. title: the fault in a few words. symptom, cause: what the author
    saw and what the answer was, in our words. accepted: the findings that name the cause; none if
    `diagnose` has no name for it. near: findings that are a consequence of it and lead its author
    to the right lines. train: the training, with the fault or `mended`.
    """

    name: str
    thread: str
    url: str
    title: str
    symptom: str
    cause: str
    accepted: tuple[str, ...]
    near: tuple[str, ...]
    train: Callable[[bool], Trained]


@dataclass
class Reading:
    """What was said of a thread, and how well the training went with the fault and without."""

    name: str
    thread: str
    url: str
    title: str
    symptom: str
    cause: str
    accepted: list[str]
    near: list[str]
    findings: list[str]
    verdict: str
    changed: list[str]
    recall: float
    lowest: float
    recall_mended: float
    lowest_mended: float
    training_seconds: float
    diagnosis_seconds: float


THREADS: dict[str, Thread] = {}

# Chosen as the others were, and not read: here the fault does no harm that could be found.
WITHOUT_HARM = {
    "wkentaro/pytorch-fcn#57": "a model that stays in eval() from a validation to the end of its "
    "epoch was as good as one that does not",
    "fastino-ai/GLiNER2#155": "a clamp that rounds to 1 in half precision gave no NaN with this "
    "release of torch on a CPU",
}


def thread(where: str, title: str, symptom: str, cause: str, accepted=(), near=()):
    """Register the decorated function as the re-creation of the thread owner/repository#number."""
    repository, number = where.split("#")
    url = f"https://github.com/{repository}/issues/{number}"

    def register(train):
        name = train.__name__
        THREADS[name] = Thread(name, where, url, title, symptom, cause, accepted, near, train)
        return train

    return register


def verdict(findings: list[str], accepted, near) -> str:
    """Right if the cause stands first; half if it stands further down or a consequence is first."""
    if findings[0] in accepted:
        return "right"
    return "half" if set(findings) & set(accepted) or findings[0] in near else "wrong"


# --------------------------------------------------------------------------- losses and outputs


@thread(
    "illiterate/BertClassifier#2",
    "A softmax was left in the model",
    "The loss falls very slowly, and with few, imbalanced texts the model leans to the class that "
    "has most.",
    "The model ends in a softmax and nn.CrossEntropyLoss applies another one.",
    accepted=("double_softmax",),
)
def softmax_left_in(mended: bool) -> Trained:
    torch.manual_seed(701)
    train_loader, test_loader = photo_loaders((500, 200, 80, 80), (100,) * 4)

    model = small_cnn(4)
    if not mended:
        model.append(nn.Softmax(dim=1))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "pytorch/examples#117",
    "A rectifier before the softmax",
    "The network of the MNIST example converges badly.",
    "The last layer is followed by a ReLU, so that no score can be negative and many get no "
    "gradient.",
    accepted=("activation_on_logits",),
    near=("dead_units",),
)
def rectifier_before_the_softmax(mended: bool) -> Trained:
    torch.manual_seed(1)  # with many others no score dies
    train_loader, test_loader = digit_loaders()

    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 50),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(50, 10),
    )
    if not mended:
        model.append(nn.ReLU())
    model.append(nn.LogSoftmax(dim=1))
    criterion = nn.NLLLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    fit(model, train_loader, criterion, optimizer, epochs=12)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "pytorch/pytorch#16045",
    "Outputs (n, 1) and targets (n,)",
    "A model with one output and nn.MSELoss trains without an error and learns nothing.",
    "Outputs have the shape (n, 1) and targets (n,), so the loss compares each with each.",
    accepted=("broadcast_loss",),
    near=("constant_output",),
)
def squared_error_of_two_shapes(mended: bool) -> Trained:
    torch.manual_seed(703)
    (x, y), (x_test, y_test) = photos((500, 500), "train"), photos((100, 100), "test")
    x, x_test = scaled(x), scaled(x_test)
    y, y_test = y.float(), y_test.float()
    if mended:
        y, y_test = y.unsqueeze(1), y_test.unsqueeze(1)
    train_loader, test_loader = loaders(x, y, x_test, y_test)

    model = small_cnn(1)
    criterion = nn.MSELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ------------------------------------------------------------------------------- data and labels


def labels_by(folders: list[str], y: Tensor) -> Tensor:
    """Numbers of the classes as somebody who lists the folders in this order counts them."""
    names = ["airplane", "automobile", "bird", "cat", "deer"]
    return torch.tensor([folders.index(names[label]) for label in y.tolist()])


@thread(
    "uzh-rpg/rpg_event_representation_learning#2",
    "Classes numbered as the folders happen to be listed",
    "The accuracy on the validation set is far lower than expected.",
    "The classes are numbered in the order of os.listdir, which differs between the training and "
    "the test folder.",
    accepted=("train_eval_mismatch",),
)
def classes_numbered_by_listdir(mended: bool) -> Trained:
    torch.manual_seed(705)
    (x, y), (x_test, y_test) = photos((300,) * 5, "train"), photos((100,) * 5, "test")
    listed = ["deer", "airplane", "bird", "automobile", "cat"]
    listed_test = ["bird", "cat", "airplane", "deer", "automobile"]
    if mended:
        listed, listed_test = sorted(listed), sorted(listed_test)
    y, y_test = labels_by(listed, y), labels_by(listed_test, y_test)
    train_loader, test_loader = loaders(scaled(x), y, scaled(x_test), y_test)

    model = small_cnn(5, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "pytorch/pytorch#22566",
    "Folder numbers sorted as text",
    "The loader reports a high accuracy, and single images are mostly named wrong.",
    "ImageFolder sorts the folders 0 to 101 as text, 10 before 2; the author took the number of "
    "the output for the number of the folder.",
    accepted=("train_eval_mismatch",),
)
def folders_sorted_as_text(mended: bool) -> Trained:
    torch.manual_seed(706)
    (x, y), (x_test, y_test) = digit_pairs("train"), digit_pairs("test")
    folders = sorted(str(number) for number in range(100))
    number_of = torch.tensor([folders.index(str(number)) for number in range(100)])
    y = number_of[y]
    if mended:
        y_test = number_of[y_test]
    train_loader, test_loader = loaders(x / 16, y, x_test / 16, y_test, 64)

    model = nn.Sequential(nn.Flatten(), mlp(128, 256, 100))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=12)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def listing(number: int) -> Tensor:
    """The order in which a file system gives the names 000000.jpg, 000001.jpg and so on."""
    names = [f"{i:06d}.jpg" for i in range(number)]
    return torch.tensor(sorted(range(number), key=lambda i: md5(names[i].encode()).digest()))


@thread(
    "NoahVl/Explaining-In-Style-Reproducibility-Study#9",
    "Images listed unsorted, labels sorted",
    "The classifier stays at chance although images and labels can both be read.",
    "The images come in the order of os.listdir, the labels in the order of their file; sorting "
    "the list of images mends it.",
    accepted=("labels_out_of_step",),
)
def images_listed_unsorted(mended: bool) -> Trained:
    torch.manual_seed(707)
    (x, y), (x_test, y_test) = photos((300,) * 5, "train"), photos((100,) * 5, "test")
    if not mended:
        x, x_test = x[listing(len(x))], x_test[listing(len(x_test))]
    train_loader, test_loader = loaders(scaled(x), y, scaled(x_test), y_test)

    model = small_cnn(5, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def one_hot_or_nothing(numbers: Tensor, depth: int) -> Tensor:
    """One-hot rows; a number that is no column gives a row of zeros, as in TensorFlow."""
    return (numbers.unsqueeze(1) == torch.arange(depth)).float()


@thread(
    "tensorflow/models#1247",
    "One-hot rows of labels that begin at 1",
    "A new data set with three classes does not converge; the author searched for hours.",
    "The labels are 1 to 3, as 0 is kept for the background. One-hot rows of three columns "
    "leave class 3 without a 1, and no row has one in the first column.",
    accepted=("label_range",),
    near=("ignored_class",),
)
def one_hot_of_labels_from_one(mended: bool) -> Trained:
    torch.manual_seed(708)
    (x, y), (x_test, y_test) = photos((300,) * 3, "train"), photos((100,) * 3, "test")
    first = 0 if mended else 1
    y, y_test = one_hot_or_nothing(y + first, 3), one_hot_or_nothing(y_test + first, 3)
    train_loader, test_loader = loaders(scaled(x), y, scaled(x_test), y_test)

    model = small_cnn(3, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def tagged(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sentences of 20 words (N, 20), all of one length, and a tag 0..3 for each word."""
    generator = torch.Generator().manual_seed(seed)
    tags = torch.randint(4, (number, 20), generator=generator)
    words = 30 * tags + torch.randint(30, tags.shape, generator=generator)
    other = torch.randint(120, tags.shape, generator=generator)
    return torch.where(torch.rand(tags.shape, generator=generator) < 0.1, other, words), tags


class Tagger(nn.Sequential):
    """A score for each tag and word: (N, 20) to (N, 4, 20)."""

    def __init__(self):
        super().__init__(nn.Embedding(120, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, words):
        return super().forward(words).transpose(1, 2)


@thread(
    "nyu-mll/jiant#925",
    "The number of the padding is a class",
    "Some taggers give odd results: class 0 is not learned.",
    "The loss ignores the number of the padding, 0, and 0 is a class of these data as well.",
    accepted=("ignored_class",),
)
def padding_is_a_class(mended: bool) -> Trained:
    torch.manual_seed(709)
    train_loader, test_loader = loaders(*tagged(1500, 1), *tagged(300, 2))

    model = Tagger()
    criterion = nn.CrossEntropyLoss(ignore_index=-100 if mended else 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "PaddlePaddle/Paddle#29716",
    "Reshaped instead of transposed",
    "The image classifier of a tutorial reaches 40 %, where 70 % are usual.",
    "Images (height, width, channels) are reshaped to (channels, height, width), which scrambles "
    "the pixels; they must be transposed.",
    near=("not_learning",),
)
def reshaped_instead_of_transposed(mended: bool) -> Trained:
    torch.manual_seed(710)

    def prepared(images):
        rows = images.permute(0, 2, 3, 1)
        return scaled(images if mended else rows.reshape(-1, 3, 32, 32))

    train_loader, test_loader = photo_loaders((400,) * 6, (100,) * 6, transform=prepared)
    model = small_cnn(6, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "calmiLovesAI/YOLOv3_TensorFlow2#21",
    "Divided by 255 twice when it is used",
    "The trained model finds nothing in a single image.",
    "The function that resizes already divides by 255, and the script for one image does it again.",
    accepted=("train_eval_mismatch",),
    near=("input_range",),
)
def divided_twice_in_use(mended: bool) -> Trained:
    torch.manual_seed(711)
    (x, y), (x_test, y_test) = photos((300,) * 5, "train"), photos((100,) * 5, "test")
    x_test = x_test.float() / 255
    if not mended:
        x_test = x_test / 255
    train_loader, test_loader = loaders(x.float() / 255, y, x_test, y_test)

    model = small_cnn(5, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Prepared(Dataset):
    """Images in memory, normalized when they are asked for."""

    def __init__(self, images, labels, of_a_copy: bool):
        self.images, self.labels, self.of_a_copy = images.float() / 255, labels, of_a_copy

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, number):
        image = self.images[number]
        if self.of_a_copy:
            image = image.clone()
        image -= 0.47
        image /= 0.25
        return image, self.labels[number]


@thread(
    "facebookresearch/pycls#21",
    "Images normalized in place",
    "With the data read in the main process the model fails to train after about three epochs; "
    "with worker processes all is well.",
    "The data set normalizes its stored images in place, so that each epoch normalizes them once "
    "more. Workers start from a fresh copy.",
    accepted=("input_range", "non_finite"),
)
def normalized_in_place(mended: bool) -> Trained:
    torch.manual_seed(712)
    train_set = Prepared(*photos((300,) * 5, "train"), mended)
    test_set = Prepared(*photos((100,) * 5, "test"), mended)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=100)

    model = small_cnn(5)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# -------------------------------------------------------------------------------- class imbalance


@thread(
    "mlcommons/GaNDLF#209",
    "The weights are the shares",
    "The penalties of the classes grow with their counts; the frequent class has nearly all.",
    "The function returns the share of each class where its complement is meant.",
    accepted=("inverted_class_weights",),
    near=("class_imbalance",),
)
def weights_are_the_shares(mended: bool) -> Trained:
    torch.manual_seed(713)
    counts = (600, 150, 60)
    train_loader, test_loader = photo_loaders(counts, (100,) * 3)
    share = torch.tensor(counts) / sum(counts)

    model = small_cnn(3, norm=True)
    criterion = nn.CrossEntropyLoss(weight=1 - share if mended else share)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "IndicoDataSolutions/finetune#181",
    "A logarithm gives the largest class the weight 0",
    "The most frequent class is not learned at all.",
    "The weight of a class is the logarithm of the largest count divided by its own, which is 0 "
    "for the largest; the mended version adds 1.",
    accepted=("ignored_class",),
    near=("class_imbalance", "inverted_class_weights", "compensated_twice"),
)
def weight_zero_for_the_largest(mended: bool) -> Trained:
    torch.manual_seed(714)
    counts = (600, 300, 100)
    train_loader, test_loader = photo_loaders(counts, (100,) * 3)
    ratio = max(counts) / torch.tensor(counts)

    model = small_cnn(3, norm=True)
    criterion = nn.CrossEntropyLoss(weight=ratio.log() + (1 if mended else 0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Focal(nn.Module):
    """Focal loss of two classes; `alpha` weighs each."""

    def __init__(self, alpha: Tensor):
        super().__init__()
        self.register_buffer("alpha", alpha)

    def forward(self, logits, labels):
        loss = F.cross_entropy(logits, labels, reduction="none")
        return (self.alpha[labels] * (1 - torch.exp(-loss)) ** 2 * loss).mean()


@thread(
    "abdubakr77/dental-xray-ai#20",
    "More than balanced, and weighted as well",
    "The model calls nearly everything diseased.",
    "Oversampling made the rare class larger than the other one, and the focal loss favored it "
    "once more.",
    accepted=("compensated_twice",),
    near=("class_imbalance", "inverted_class_weights"),
)
def more_than_balanced(mended: bool) -> Trained:
    torch.manual_seed(715)
    # Cats and dogs are hard to tell apart, so the weights decide.
    counts = (0, 0, 0, 900, 0, 300)
    (x, y), (x_test, y_test) = photos(counts, "train"), photos((0, 0, 0, 100, 0, 100), "test")
    y, y_test = (y == 5).long(), (y_test == 5).long()
    rare = 3.0 if mended else 6.0
    sampler = WeightedRandomSampler(torch.where(y == 1, rare, 1.0), len(y))
    train_loader = DataLoader(TensorDataset(scaled(x), y), batch_size=32, sampler=sampler)
    test_loader = DataLoader(TensorDataset(scaled(x_test), y_test), batch_size=100)

    model = small_cnn(2)
    criterion = Focal(torch.tensor([1.0, 1.0] if mended else [0.25, 0.75]))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# ---------------------------------------------------------------------- loops and optimizers


class RowReader(nn.Module):
    """Reads an image of a digit row by row."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(8, 48, batch_first=True)
        self.head = nn.Linear(48, 10)

    def forward(self, x):
        return self.head(self.rnn(x.squeeze(1))[0][:, -1])


@thread(
    "spro/practical-pytorch#9",
    "The optimizer of the first model",
    "With optimizer.step() the loss is high and goes up and down; with a hand-written step it "
    "falls.",
    "The notebook makes the network twice, and the optimizer between the two: it steps the first.",
    accepted=("not_in_optimizer",),
)
def optimizer_of_the_first_model(mended: bool) -> Trained:
    torch.manual_seed(716)
    train_loader, test_loader = digit_loaders()

    model = RowReader()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    if not mended:
        model = RowReader()
    criterion = nn.CrossEntropyLoss()
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def without_units(first: nn.Linear, second: nn.Linear, number: int):
    """Both layers with only the units in between that weigh most, in new, smaller modules."""
    kept = second.weight.abs().sum(0).topk(number).indices
    smaller = nn.Linear(first.in_features, number), nn.Linear(number, second.out_features)
    with torch.no_grad():
        smaller[0].weight.copy_(first.weight[kept])
        smaller[0].bias.copy_(first.bias[kept])
        smaller[1].weight.copy_(second.weight[:, kept])
        smaller[1].bias.copy_(second.bias)
    return smaller


@thread(
    "microsoft/nni#4521",
    "The optimizer from before the pruning",
    "The pruned model is fine-tuned and its weights do not change.",
    "Pruning replaces the layers by smaller ones, and the optimizer still holds the old ones.",
    accepted=("not_in_optimizer",),
)
def optimizer_from_before_the_pruning(mended: bool) -> Trained:
    torch.manual_seed(717)
    train_loader, test_loader = digit_loaders()

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    model[1], model[3] = without_units(model[1], model[3], 12)
    if mended:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "matteo-dunnhofer/imagenet#10",
    "The learning rate is cut at every step",
    "The loss has not changed after three epochs.",
    "A change of the code divides the learning rate by 10 at every step instead of every ten "
    "epochs.",
    accepted=("learning_rate_too_low",),
    near=("no_optimizer_step",),
)
def rate_cut_at_every_step(mended: bool) -> Trained:
    torch.manual_seed(718)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    model = small_cnn(5, norm=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    every = 10 * len(train_loader) if mended else 1
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=0.1)
    fit(model, train_loader, criterion, optimizer, 5, scheduler)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "pytorch/pytorch#3814",
    "scheduler.step() instead of optimizer.step()",
    "Nothing works, until the author looks at the weights: they never change.",
    "The loop calls scheduler.step() and takes it for a step of the optimizer within.",
    accepted=("no_optimizer_step",),
)
def scheduler_steps_instead(mended: bool) -> Trained:
    torch.manual_seed(719)
    train_loader, test_loader = digit_loaders()

    model = nn.Sequential(nn.Flatten(), mlp(64, 64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1000)
    model.train()
    for _epoch in range(5):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            if mended:
                optimizer.step()
            scheduler.step()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "IBM/aihwkit#446",
    "zero_grad() is missing",
    "In an example of ten steps the loss falls and then rises again.",
    "The loop never calls zero_grad(), so each step repeats all earlier gradients.",
    accepted=("gradients_not_cleared",),
    near=("learning_rate_too_high",),
)
def gradients_never_cleared(mended: bool) -> Trained:
    torch.manual_seed(720)
    train_loader, test_loader = digit_loaders()

    model = nn.Sequential(nn.Flatten(), mlp(64, 64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _epoch in range(5):
        for inputs, targets in train_loader:
            criterion(model(inputs), targets).backward()
            optimizer.step()
            if mended:
                optimizer.zero_grad()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class PostNorm(TextClassifier):
    """Six layers with the norms behind the sums, as BERT has them."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(48, 4, 96, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)


@thread(
    "huggingface/transformers#735",
    "A rate of 0.01 for a transformer",
    "The fine-tuned encoder gives the same output for every text.",
    "The learning rate is 0.01; with 5e-5 it works.",
    accepted=("learning_rate_too_high",),
    near=("constant_output",),
)
def transformer_at_a_hundredth(mended: bool) -> Trained:
    torch.manual_seed(721)
    train_set, test_set = TensorDataset(*reviews(1500, 21)), TensorDataset(*reviews(300, 22))
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, collate_fn=tokens_as_dict)
    test_loader = DataLoader(test_set, batch_size=100, collate_fn=tokens_as_dict)

    model = PostNorm()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4 if mended else 1e-2)
    fit_dicts(model, train_loader, optimizer, epochs=3)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


@thread(
    "ThilinaRajapakse/simpletransformers#234",
    "The new head has the rate of the encoder",
    "After fine-tuning, all texts get nearly the same probabilities.",
    "A rate of 4e-5 suits the pretrained encoder and is too small for the new layer; with 1e-3 for "
    "that layer the predictions are good.",
    accepted=("learning_rate_too_low",),
    near=("undertrained",),
)
def head_at_the_rate_of_the_encoder(mended: bool) -> Trained:
    torch.manual_seed(722)
    (ids, y), (test_ids, y_test) = reviews(1500, 23), reviews(300, 24)
    encoder = _trained_encoder(ids, y)
    train_loader = DataLoader(
        TensorDataset(ids[:600], (y[:600] + 2) % 5),
        batch_size=32,
        shuffle=True,
        collate_fn=tokens_as_dict,
    )
    test_set = TensorDataset(test_ids, (y_test + 2) % 5)
    test_loader = DataLoader(test_set, batch_size=100, collate_fn=tokens_as_dict)

    model = copy.deepcopy(encoder)
    model.classifier = nn.Linear(48, 5)
    nn.init.normal_(model.classifier.weight, std=0.02)
    head = model.classifier.parameters()
    rest = [*model.embeddings.parameters(), *model.encoder.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": rest}, {"params": head, "lr": 1e-3 if mended else 4e-5}], lr=4e-5
    )
    fit_dicts(model, train_loader, optimizer, epochs=3)
    return Trained(model, train_loader, F.cross_entropy, optimizer, test_loader)


def _trained_encoder(ids, y) -> TextClassifier:
    """An encoder that has learned these texts."""
    data = TensorDataset(ids, y)
    batches = DataLoader(data, batch_size=32, shuffle=True, collate_fn=tokens_as_dict)
    model = TextClassifier()
    fit_dicts(model, batches, torch.optim.AdamW(model.parameters(), lr=1e-3), epochs=4)
    return model


# ---------------------------------------------------------------------- modes and normalization


@thread(
    "Cadene/pretrained-models.pytorch#5",
    "BatchNorm with momentum 0",
    "Trained on another data set, the model is good in training mode and bad in eval().",
    "The BatchNorm layers of the pretrained model have momentum=0, so their averages stay those "
    "of the first data set.",
    accepted=("batchnorm_statistics",),
)
def momentum_zero(mended: bool) -> Trained:
    torch.manual_seed(724)
    photos_loader, _ = photo_loaders((200,) * 5, (100,) * 5)
    model = small_cnn(5, norm=True)
    criterion = nn.CrossEntropyLoss()
    fit(model, photos_loader, criterion, torch.optim.Adam(model.parameters(), lr=1e-3), epochs=2)

    (x, y), (x_test, y_test) = digits("train"), digits("test")
    x, x_test = (
        F.interpolate(images / 16, scale_factor=4).repeat(1, 3, 1, 1) for images in (x, x_test)
    )
    train_loader, test_loader = loaders(x, y, x_test, y_test)
    model[-1] = nn.Linear(64, 10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not mended:
            module.momentum = 0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=3)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def lit_cells(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Cells on images whose brightness and contrast differ from image to image."""
    images, masks = cells(number, seed, contrast=3.0)
    generator = torch.Generator().manual_seed(seed)
    gain, offset = torch.rand(2, number, 1, 1, 1, generator=generator)
    return images * (0.2 + 2 * gain) + 6 * offset - 3, masks


@thread(
    "wolny/pytorch-3dunet#53",
    "BatchNorm over a batch of one",
    "The predictions of a U-Net make no sense in eval(), and are fine in training mode.",
    "The network has BatchNorm, and its batches hold one image.",
    accepted=("batchnorm_statistics",),
)
def batch_of_one(mended: bool) -> Trained:
    torch.manual_seed(725)
    train_loader, test_loader = loaders(*lit_cells(250, 25), *lit_cells(60, 26), 1)

    def norm(channels):
        return nn.GroupNorm(1, channels) if mended else nn.BatchNorm2d(channels)

    layers = [nn.Conv2d(1, 12, 5, padding=2), norm(12), nn.ReLU()]
    layers += [nn.Conv2d(12, 12, 5, padding=2), norm(12), nn.ReLU(), nn.Conv2d(12, 2, 1)]
    model = nn.Sequential(*layers)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=4)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "hassony2/kinetics_i3d_pytorch#6",
    "The share to keep, given to nn.Dropout",
    "No symptom was reported; a reader saw that the layer is told dropout_keep_prob=1, to keep "
    "everything.",
    "torch's nn.Dropout takes the share to drop: everything is set to zero in training.",
    accepted=("dropout_too_high",),
    near=("zero_gradient", "constant_output"),
)
def share_to_keep(mended: bool) -> Trained:
    torch.manual_seed(726)
    train_loader, test_loader = photo_loaders((300,) * 5, (100,) * 5)

    keep = 1.0
    model = small_cnn(5, norm=True)
    model.insert(len(model) - 1, nn.Dropout(1 - keep if mended else keep))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    fit(model, train_loader, criterion, optimizer, epochs=5)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# -------------------------------------------------------------------- networks and their weights


class GatedLayers(nn.Module):
    """Three layers; the head reads their sum, each weighed by a gate that sees the image."""

    def __init__(self, zeros: bool):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(3))
        gate = nn.Linear(64, 3, bias=False)
        nn.init.zeros_(gate.weight) if zeros else nn.init.normal_(gate.weight, std=0.02)
        self.gate = nn.Sequential(nn.LayerNorm(64), gate, nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        outputs, gates = [], self.gate(x)
        for layer in self.layers:
            x = F.relu(layer(x))
            outputs.append(x)
        return self.head((gates.unsqueeze(2) * torch.stack(outputs, 1)).sum(1))


@thread(
    "lucidrains/deep-cross-attention#2",
    "A ReLU behind weights of zero",
    "The part that gathers the layers does nothing, for ever.",
    "It has weights of zero, no bias and a ReLU, whose gradient at 0 is 0, so it never leaves "
    "zero; the mended version starts from small random weights.",
    accepted=("dead_units", "identical_units"),
    near=("zero_gradient", "constant_output", "vanishing_gradients"),
)
def rectifier_behind_zeros(mended: bool) -> Trained:
    torch.manual_seed(727)
    train_loader, test_loader = digit_loaders()

    model = GatedLayers(zeros=not mended)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=6)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


def signs(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of 6 numbers; the label says whether the first two have the same sign."""
    x = torch.randn(number, 6, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] * x[:, 1] > 0).long()


@thread(
    "YujiaBao/ls#1",
    "No activation in the MLP",
    "No symptom was reported; a reader compared the code with the paper.",
    "Nothing stands between the linear layers of the MLP; the paper, and the mended version, have "
    "ReLUs.",
    accepted=("no_nonlinearity",),
)
def no_activation_in_the_mlp(mended: bool) -> Trained:
    torch.manual_seed(728)
    train_loader, test_loader = loaders(*signs(2000, 28), *signs(400, 29))

    model = mlp(6, 48, 48, 2, activation=nn.ReLU if mended else nn.Identity)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Wrapped(nn.Module):
    """A network that stands in `self.model`, as in the package that publishes its weights."""

    def __init__(self, network):
        super().__init__()
        self.model = network

    def forward(self, x):
        return self.model(x)


@thread(
    "torchgeo/torchgeo#4036",
    "No name of the checkpoint fits",
    "A model that should be pretrained has random weights; nothing says so.",
    "All names of the checkpoint lack a prefix that the model has, and strict=False drops them "
    "without a word.",
    accepted=("weights_not_loaded",),
    near=("frozen_parameters",),
)
def no_name_fits(mended: bool) -> Trained:
    torch.manual_seed(729)
    known, _ = photo_loaders((300,) * 7, (100,) * 7)
    pretrained = small_cnn(7, norm=True)
    optimizer = torch.optim.Adam(pretrained.parameters(), lr=1e-3)
    criterion = nn.CrossEntropyLoss()
    fit(pretrained, known, criterion, optimizer, epochs=4)
    checkpoint = pretrained[:-1].state_dict()
    if mended:
        checkpoint = {f"model.{name}": weights for name, weights in checkpoint.items()}

    trunk = Wrapped(small_cnn(7, norm=True)[:-1])
    trunk.load_state_dict(checkpoint, strict=False)
    trunk.requires_grad_(False)
    x, y = photos((0,) * 7 + (300,) * 3, "train")
    x_test, y_test = photos((0,) * 7 + (100,) * 3, "test")
    train_loader, test_loader = loaders(scaled(x), y - 7, scaled(x_test), y_test - 7)
    model = nn.Sequential(trunk, nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model[1].parameters(), lr=3e-3)
    model.eval()  # a linear probe: the trunk stays as it was loaded
    for _epoch in range(4):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            criterion(model(inputs), targets).backward()
            optimizer.step()
    return Trained(model, train_loader, criterion, optimizer, test_loader)


class Extractor(nn.Module):
    """Keeps what the layer before the head gives, by a hook."""

    def __init__(self, network, detached: bool):
        super().__init__()
        self.network, self.detached, self.kept = network, detached, None
        network.norm.register_forward_hook(self.keep)

    def keep(self, _module, _inputs, output):
        self.kept = output.clone().detach() if self.detached else output.clone()

    def forward(self, x):
        self.network(x)
        return self.kept[:, 0]


@thread(
    "lucidrains/CoCa-pytorch#6",
    "The extractor detaches the features",
    "A reader of the code saw that the image encoder of the model cannot be trained.",
    "The class that reads the encoder's features by a hook detaches them, so no gradient comes "
    "back to the encoder.",
    accepted=("frozen_parameters",),
    near=("zero_gradient", "not_in_optimizer"),
)
def extractor_detaches(mended: bool) -> Trained:
    torch.manual_seed(730)
    train_loader, test_loader = digit_loaders(64)

    model = nn.Sequential(Extractor(TinyViT(), detached=not mended), nn.Linear(48, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


@thread(
    "pytorch/vision#2164",
    "First layers frozen as they were drawn",
    "A detector trained from scratch has a poor precision, and it took a while to find out why.",
    "The function freezes the first layers of the backbone although it is not pretrained.",
    accepted=("frozen_parameters",),
)
def first_layers_frozen(mended: bool) -> Trained:
    torch.manual_seed(731)
    train_loader, test_loader = photo_loaders((400,) * 6, (100,) * 6)

    first = [nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()]
    first += [nn.Conv2d(4, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU()]
    then = [nn.Conv2d(4, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU()]
    then += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(192, 6)]
    model = nn.Sequential(*first, *then)
    if not mended:
        model[:6].requires_grad_(False)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    fit(model, train_loader, criterion, optimizer, epochs=8)
    return Trained(model, train_loader, criterion, optimizer, test_loader)


# --------------------------------------------------------------------------------------- running


def predicted(outputs: Tensor) -> Tensor:
    """Numbers of classes; one output is a probability, or a number fitted to 0 and 1."""
    if outputs.ndim == 1 or outputs.shape[1] == 1:
        return (outputs.flatten() > 0.5).long()
    return outputs.argmax(1).flatten()


def answers(trained: Trained) -> Iterator[tuple[Tensor, Tensor]]:
    """What the model in eval() says of each test batch, and what its author holds for the truth."""
    for batch in trained.eval_batches:
        if isinstance(batch, dict):
            yield trained.model(**batch).logits, batch["labels"]
        else:
            yield trained.model(batch[0]), batch[1]


def recalls(trained: Trained) -> Tensor:
    """The recall of each class, as the author of the training measures it."""
    training = trained.model.training
    trained.model.eval()
    said, truth = [], []
    with torch.no_grad():
        for outputs, targets in answers(trained):
            said.append(predicted(outputs))
            one_hot = targets.ndim == 2 and targets.is_floating_point() and targets.shape[1] > 1
            truth.append(targets.argmax(1) if one_hot else targets.flatten().long())
    trained.model.train(training)
    said, truth = torch.cat(said), torch.cat(truth)
    return torch.stack([(said[truth == c] == c).float().mean() for c in truth.unique()])


def read(thread: Thread, seconds: float = 20) -> tuple[Reading, object]:
    """Train with the fault, let `diagnose` look at it, and train without the fault too."""
    kept = []

    def train() -> Trained:
        kept.append(thread.train(False))
        return kept[-1]

    case = Case(thread.name, thread.accepted, train)
    outcome, diagnosis = bench.run(case, "threads", seconds)
    ours, mended = recalls(kept[-1]), recalls(thread.train(True))
    reading = Reading(
        **without_training(thread),
        findings=outcome.faults,
        verdict=verdict(outcome.faults, thread.accepted, thread.near),
        changed=outcome.changed,
        recall=round(ours.mean().item(), 3),
        lowest=round(ours.min().item(), 3),
        recall_mended=round(mended.mean().item(), 3),
        lowest_mended=round(mended.min().item(), 3),
        training_seconds=round(outcome.training_seconds, 1),
        diagnosis_seconds=round(outcome.diagnosis_seconds, 1),
    )
    return reading, diagnosis


def without_training(thread: Thread) -> dict:
    """What is known of a thread before it is read, as JSON has it."""
    fields = {k: v for k, v in vars(thread).items() if k != "train"}
    return fields | {"accepted": list(thread.accepted), "near": list(thread.near)}


def line(reading: Reading) -> str:
    return (
        f"{reading.verdict:5}  {reading.name:34} {' or '.join(reading.accepted) or 'no name'} -> "
        f"{', '.join(reading.findings)}  (recall {reading.recall:.2f}, mended "
        f"{reading.recall_mended:.2f}; {reading.training_seconds:.0f} + "
        f"{reading.diagnosis_seconds:.0f} s)"
        + (f"  CHANGED {reading.changed}" * bool(reading.changed))
    )


def counts(readings: list[Reading]) -> dict[str, int]:
    """How many of each verdict."""
    return {v: sum(reading.verdict == v for reading in readings) for v in VERDICTS}


def commit_of_the_doctor() -> str:
    """The commit that last changed the checks; nothing outside a checkout."""
    command = ["git", "log", "-1", "--format=%h", "--", "imbalkit/doctor"]
    root = Path(__file__).parents[2]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def write(readings: list[Reading], started: float) -> None:
    """Write what was said as JSON, with what it was measured on."""
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit_of_the_doctor(),
        "data": source(),
        "torch": torch.__version__.split("+")[0],
        "device": describe(torch.device("cpu")),
        "minutes": round((time.perf_counter() - started) / 60, 1),
        "verdicts": counts(readings),
        "without_harm": WITHOUT_HARM,
        "threads": [asdict(reading) for reading in readings],
    }
    with atomic_path(RESULTS) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="read only these and print their reports")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    started, readings = time.perf_counter(), []
    for name, thread in THREADS.items():
        if options.names and name not in options.names:
            continue
        reading, diagnosis = read(thread)
        readings.append(reading)
        print(line(reading), flush=True)
        if options.names:
            print(diagnosis)
    print(counts(readings))
    if options.write:
        write(readings, started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
