"""Read batches of any kind without leaving a trace, and say in a sentence what cannot be read."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from imbalkit.checks import class_labels
from imbalkit.doctor.calling import Calling
from imbalkit.doctor.tasks import Task
from imbalkit.doctor.trees import MAIN, can_be_joined, joined, leaves, padded, taken

# The standard error of a share measured on 2,048 images is at most 1.1 %.
MOST_IMAGES = 2048
# 445 images of 3 x 224 x 224 in float32; what is measured of them takes a few times as much.
MOST_BYTES = 2**28


class Clock:
    """Counts down a budget of seconds; parts of the examination ask for shares of it."""

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.started = time.perf_counter()

    def spent(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def left(self) -> float:
        """Seconds of the budget that remain."""
        return self.seconds - self.spent()

    def after(self, share: float) -> float:
        """The moment at which `share` of the whole budget will have gone by from now."""
        return time.perf_counter() + share * self.seconds


@dataclass(frozen=True)
class Repeats:
    """How many of the inputs read are different, and which share also comes with another label."""

    read: int
    different: int
    contradicted: float


@dataclass(frozen=True)
class Sampler:
    """What a DataLoader's sampler says of itself: its weights, and the images of the data set."""

    weights: int
    images: int


@dataclass(frozen=True, eq=False)
class Sample:
    """What was read of one iterable of batches.

    Attributes:
        name: "training" or "evaluation".
        inputs: (N, ...), as the batches hold them, on the CPU; several inputs stand side by side
            in one row.
        targets: (N, ...), as the batches hold them, on the CPU.
        target_batches: the targets of every batch read, also of those whose inputs were not kept.
        consumed: a sentence for the report.
        exhausted: were all batches read?
        sampler: where a DataLoader draws by weights.
        left_out: images at the end that a DataLoader leaves out each time.
        batches: all else that the model is called with, joined, `MAIN` where the inputs stand.
        labels: int64 (N,), the classes of the inputs kept, as they are, also where no such class
            exists. This and what follows is there after `with_classes`.
        class_batches: the classes of every batch read, those that exist.
        class_counts: int64 (C,): of images, or of pixels, tokens or labels.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    target_batches: list[Tensor]
    consumed: str
    exhausted: bool
    sampler: Sampler | None = None
    left_out: int = 0
    batches: Any = MAIN
    labels: Tensor | None = None
    class_batches: tuple[Tensor, ...] = ()
    class_counts: Tensor | None = None

    @property
    def batch(self) -> int:
        """The size of a batch."""
        return len(self.target_batches[0])

    @property
    def classes_read(self) -> int:
        """How many classes have an image in the batches read."""
        return int((self.class_counts > 0).sum())

    @cached_property
    def repeats(self) -> Repeats:
        """Which inputs come more than once."""
        flat = self.inputs.reshape(len(self.inputs), -1)
        unique, which = flat.unique(dim=0, return_inverse=True)
        low = torch.full((len(unique),), 10**9).scatter_reduce(0, which, self.labels, "amin")
        high = torch.full((len(unique),), -(10**9)).scatter_reduce(0, which, self.labels, "amax")
        share = (low < high)[which].float().mean().item()
        return Repeats(len(flat), len(unique), share)

    @cached_property
    def blank(self) -> float:
        """Share of the inputs, of sixteen numbers or more, all of whose numbers are the same."""
        flat = self.inputs.reshape(len(self.inputs), -1)
        if flat.shape[1] < 16 or not flat.is_floating_point():
            return 0.0
        return (flat.amax(1) == flat.amin(1)).float().mean().item()

    def rows(self, index: Tensor | slice, inputs: Tensor | None = None) -> Any:
        """What the model is called with, for these rows; `inputs` in place of the sample's."""
        inputs = self.inputs if inputs is None else inputs
        return taken(self.batches, index, len(self.targets), inputs[index])

    @property
    def one_input(self) -> bool:
        """Is it one tensor that the model gets as inputs?"""
        return any(leaf is MAIN for _, leaf in leaves(self.batches))

    def with_classes(self, task: Task) -> "Sample":
        """The same sample with its targets turned into classes, whose number is known now."""
        if task.dense or task.several:
            return self._with_votes(task)
        read = [class_labels(targets, task.binary) for targets in self.target_batches]
        existing = tuple(y[(y >= 0) & (y < task.classes)] for y in read)
        return replace(
            self,
            labels=class_labels(self.targets, task.binary),
            class_batches=existing,
            class_counts=torch.bincount(torch.cat(existing), minlength=task.classes),
        )

    def _with_votes(self, task: Task) -> "Sample":
        counts = sum(task.votes(targets).sum(0) for targets in self.target_batches)
        read = [task.image_labels(targets, counts) for targets in self.target_batches]
        return replace(
            self,
            labels=task.image_labels(self.targets, counts),
            class_batches=tuple(y[(y >= 0) & (y < task.classes)] for y in read),
            class_counts=counts,
        )


def read(batches: Iterable, name: str, until: float, calling: Calling | None = None) -> Sample:
    """Read up to 2,048 images, or until the moment `until`, but at least one batch.

    While every label so far is the same, labels are read on: only the batches behind can tell
    whether that is the order of the data or all there is.

    Raises:
        TypeError, ValueError: these are no batches that can be read.
    """
    argument = f"{'train' if name == 'training' else 'eval'}_batches"
    if isinstance(batches, (Tensor, dict, str)) or not isinstance(batches, Iterable):
        raise TypeError(
            f"{argument} is a {type(batches).__name__}; pass an iterable of (inputs, targets) "
            "batches: a DataLoader, a list, a generator."
        )
    calling = calling or Calling(nn.Identity())
    inputs, targets, trees, target_batches, others, exhausted = [], [], [], [], 0, True
    for batch in batches:
        x, y, tree = calling.read(batch, argument)
        check_batch(x, y, argument)
        if target_batches and not can_be_joined(y, target_batches[0]):
            raise ValueError(
                f"{argument} yields targets of shape {tuple(y.shape)} after "
                f"{tuple(target_batches[0].shape)}; give all batches the same kind of targets."
            )
        target_batches.append(y.detach().cpu())
        alike = not inputs or _can_be_joined(tree, x, trees[0], inputs[0])
        others += not alike
        if alike and _room(inputs, targets):
            inputs.append(x.detach().cpu())
            targets.append(target_batches[-1])
            trees.append(tree)
        enough = not _room(inputs, targets) and not _all_alike(target_batches)
        if enough or time.perf_counter() > until:
            exhausted = False
            break
    if not inputs:
        raise ValueError(
            f"{argument} is empty; a generator that has been used up yields nothing: make it anew; "
            "nor does drop_last where the images make no whole batch."
        )
    read_text = f"{len(target_batches)} {name} batches, {sum(map(len, target_batches)):,} images"
    if others:
        read_text += f"; the inputs of {others} batches were left out, they have another shape"
    if isinstance(batches, Iterator):
        read_text += "; it is a generator, and these batches are gone"
    sizes = [len(y) for y in targets]
    path = calling.way.targets if calling.way is not None else None
    return Sample(
        name,
        padded(inputs)[:MOST_IMAGES],
        padded(targets, _fill(targets[0]))[:MOST_IMAGES],
        target_batches,
        read_text,
        exhausted,
        sampler_of(batches),
        left_out_of(batches),
        taken(joined(trees, sizes, path), slice(0, MOST_IMAGES), sum(sizes), MAIN),
    )


def sampler_of(batches: Iterable) -> Sampler | None:
    """What there is to read of a DataLoader that draws by weights, before any batch is drawn."""
    sampler = getattr(batches, "sampler", None)
    weights, images = getattr(sampler, "weights", None), getattr(batches, "dataset", None)
    try:
        return Sampler(len(weights), len(images))
    except TypeError:  # no weights, or a stream whose length nobody knows
        return None


def left_out_of(batches: Iterable) -> int:
    """How many images `drop_last` leaves out where a DataLoader reads in order: the last ones."""
    in_order = isinstance(getattr(batches, "sampler", None), SequentialSampler)
    if not isinstance(batches, DataLoader) or not in_order or not batches.drop_last:
        return 0
    return len(batches.sampler) % (batches.batch_size or 1)


def _room(inputs: list[Tensor], targets: list[Tensor]) -> bool:
    """May more be kept?"""
    used = sum(t.numel() * t.element_size() for t in [*inputs, *targets])
    return sum(map(len, inputs)) < MOST_IMAGES and used < MOST_BYTES


def _can_be_joined(tree: Any, x: Tensor, first_tree: Any, first: Tensor) -> bool:
    if not can_be_joined(x, first):
        return False
    pairs = zip(leaves(tree), leaves(first_tree), strict=False)
    return all(a[0] == b[0] and can_be_joined(a[1], b[1]) for a, b in pairs)


def _fill(targets: Tensor) -> int:
    """What stands behind shorter rows of targets: a label that losses ignore."""
    return 0 if targets.is_floating_point() else -100


def _all_alike(target_batches: list[Tensor]) -> bool:
    first = target_batches[0].flatten()[:1]
    return all(bool((batch == first).all()) for batch in target_batches)


def check_batch(inputs: Any, targets: Any, argument: str) -> None:
    """Are these inputs and targets that can be read?

    Raises:
        TypeError, ValueError: they are something else; the sentence says what.
    """
    for what, value in (("inputs", inputs), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"the {what} of {argument} are a {type(value).__name__}; they must be a torch "
                "Tensor."
            )
        if value.ndim == 0 or len(value) == 0:
            raise ValueError(
                f"the {what} of {argument} have shape {tuple(value.shape)}; the first dimension "
                "counts the images and cannot be 0."
            )
    if len(inputs) != len(targets):
        raise ValueError(
            f"{argument} yields {len(inputs)} inputs with {len(targets)} targets; a batch "
            "needs one target for each input."
        )
