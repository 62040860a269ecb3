"""Read batches of any kind without leaving a trace, and say in a sentence what cannot be read."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from imbalkit.checks import class_labels

# The standard error of a share measured on 2,048 images is at most 1.1 %.
MOST_IMAGES = 2048


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
        inputs, targets: (N, ...), as the batches hold them, on the CPU.
        target_batches: the targets of every batch read, also of those whose inputs were not kept.
        consumed: a sentence for the report.
        exhausted: were all batches read?
        sampler: where a DataLoader draws by weights.
        labels: int64 (N,), the classes of the inputs kept, as they are, also where no such class
            exists. This and what follows is there after `with_classes`.
        class_batches: the classes of every batch read, those that exist.
        class_counts: int64 (C,).
    """

    name: str
    inputs: Tensor
    targets: Tensor
    target_batches: list[Tensor]
    consumed: str
    exhausted: bool
    sampler: Sampler | None = None
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

    def with_classes(self, classes: int, binary: bool) -> "Sample":
        """The same sample with its targets turned into classes, whose number is known now."""
        read = [class_labels(targets, binary) for targets in self.target_batches]
        existing = tuple(y[(y >= 0) & (y < classes)] for y in read)
        return replace(
            self,
            labels=class_labels(self.targets, binary),
            class_batches=existing,
            class_counts=torch.bincount(torch.cat(existing), minlength=classes),
        )


def read(batches: Iterable, name: str, until: float) -> Sample:
    """Read up to 2,048 images, or until the moment `until`, but at least one batch.

    While every label so far is the same, labels are read on: only the batches behind can tell
    whether that is the order of the data or all there is.

    Raises:
        TypeError, ValueError: these are no batches of ``(inputs, targets)``.
    """
    argument = f"{'train' if name == 'training' else 'eval'}_batches"
    if isinstance(batches, (Tensor, dict, str)) or not isinstance(batches, Iterable):
        raise TypeError(
            f"{argument} is a {type(batches).__name__}; pass an iterable of (inputs, targets) "
            "batches: a DataLoader, a list, a generator."
        )
    inputs, targets, target_batches, others, exhausted = [], [], [], 0, True
    for batch in batches:
        x, y = check_batch(batch, argument)
        if target_batches and y.shape[1:] != target_batches[0].shape[1:]:
            raise ValueError(
                f"{argument} yields targets of shape {tuple(y.shape)} after "
                f"{tuple(target_batches[0].shape)}; give all batches the same kind of targets."
            )
        target_batches.append(y.detach().cpu())
        alike = not inputs or _can_be_joined(x, inputs[0])
        others += not alike
        if alike and sum(map(len, inputs)) < MOST_IMAGES:
            inputs.append(x.detach().cpu())
            targets.append(target_batches[-1])
        enough = sum(map(len, inputs)) >= MOST_IMAGES and not _all_alike(target_batches)
        if enough or time.perf_counter() > until:
            exhausted = False
            break
    if not inputs:
        raise ValueError(
            f"{argument} is empty; a generator that has been used up yields nothing: make it anew."
        )
    read_text = f"{len(target_batches)} {name} batches, {sum(map(len, target_batches)):,} images"
    if others:
        read_text += f"; the inputs of {others} batches were left out, they have another shape"
    if isinstance(batches, Iterator):
        read_text += "; it is a generator, and these batches are gone"
    return Sample(
        name,
        _padded(inputs)[:MOST_IMAGES],
        torch.cat(targets)[:MOST_IMAGES],
        target_batches,
        read_text,
        exhausted,
        sampler_of(batches),
    )


def sampler_of(batches: Iterable) -> Sampler | None:
    """What there is to read of a DataLoader that draws by weights, before any batch is drawn."""
    sampler = getattr(batches, "sampler", None)
    weights, images = getattr(sampler, "weights", None), getattr(batches, "dataset", None)
    try:
        return Sampler(len(weights), len(images))
    except TypeError:  # no weights, or a stream whose length nobody knows
        return None


def _can_be_joined(x: Tensor, first: Tensor) -> bool:
    """Of one shape, or sequences: they are padded batch by batch, and can be padded further."""
    sequences = x.ndim == first.ndim == 3 or (
        x.ndim == first.ndim == 2 and not first.is_floating_point()
    )
    return sequences or x.shape[1:] == first.shape[1:]


def _padded(batches: list[Tensor]) -> Tensor:
    """All batches in one tensor, with zeros behind the sequences that are shorter."""
    longest = [max(sizes) for sizes in zip(*(x.shape[1:] for x in batches), strict=True)]
    padded = []
    for x in batches:
        missing = []
        for axis in range(x.ndim - 1, 0, -1):  # the last axis first, as F.pad wants it
            missing += [0, longest[axis - 1] - x.shape[axis]]
        padded.append(F.pad(x, missing) if any(missing) else x)
    return torch.cat(padded)


def _all_alike(target_batches: list[Tensor]) -> bool:
    first = target_batches[0].flatten()[:1]
    return all(bool((batch == first).all()) for batch in target_batches)


def check_batch(batch: Any, argument: str) -> tuple[Tensor, Tensor]:
    """Return ``(inputs, targets)``.

    Raises:
        TypeError, ValueError: the batch is something else; the sentence says what.
    """
    if isinstance(batch, dict):
        keys = ", ".join(repr(key) for key in batch)
        raise TypeError(
            f"{argument} yields dicts with the keys {keys}; pass pairs instead, for example "
            "[(b['image'], b['label']) for b in batches]."
        )
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(
            f"{argument} yields a {type(batch).__name__}; each batch must be a pair (inputs, "
            "targets)."
        )
    inputs, targets = batch[0], batch[1]
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
    return inputs, targets
