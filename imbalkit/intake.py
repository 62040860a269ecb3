"""How a training reads its batches: as tensors, as the model takes them. Used in lesson 12.

`fit` and `predict` read every batch through an `Intake`. It makes tensors of lists and arrays, and
the first batch shows whether the model can take such images at all. What cannot be used is told in
one sentence.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbalkit.checks import described
from imbalkit.device import autocast, to_device
from imbalkit.randomness import random_state_kept

CHANNELS = (1, 3, 4)  # of grey, coloured and transparent images
LARGEST = 1e18  # the square of a larger number is infinite in float32
OF_TORCH = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)
PAIR = "each batch must be a pair (images, targets)"
Change = Callable[[Tensor], Tensor]


def length_of(batches: Any) -> int | None:
    """How many batches there are; None where they cannot tell, as an IterableDataset cannot."""
    try:
        return len(batches)
    except (TypeError, NotImplementedError):
        return None


def one_pass(batches: Iterable, steps: int | None, name: str, cut: bool = False) -> Iterator[Any]:
    """The batches of one pass, which must be as many as were promised. Used in lesson 12.

    An iterable that is used up, and a data set that raises StopIteration, end a pass early.

    Args:
        batches: any iterable of them.
        steps: how many there must be; None for any number.
        name: "train_batches, epoch 2", for the sentence.
        cut: end the pass after so many, where there are more.

    Yields:
        the batches.

    Raises:
        ValueError: there are fewer, or more.

    Example:
        >>> list(one_pass("abc", 2, "train_batches, epoch 1", cut=True))
        ['a', 'b']
    """
    done = 0
    for batch in itertools.islice(batches, steps) if cut else batches:
        done += 1
        if steps is not None and done > steps:
            raise ValueError(
                f"{name}: there are more batches than its length {steps} says; mend __len__, or "
                "say how many make an epoch with steps_per_epoch=."
            )
        yield batch
    if steps is not None and done < steps:
        raise ValueError(
            f"{name}: there were {done} batches in place of {steps}; an iterator is used up after "
            "one pass, and a data set that raises StopIteration ends it: pass a DataLoader, "
            "Batches or a list."
        )


class Intake:
    """Reads batches as pairs of tensors, in the form that the model takes. Used in lesson 12.

    Lists and arrays become tensors, and whole numbers as targets int64. The first batch decides
    about the images: where the model cannot take them as they are, bytes are divided by 255 and a
    channel that comes last is put first, and a warning says so.

    Args:
        model: it is asked with two images, in evaluation mode, where there is a doubt.
        device: where it computes.
        name: "train_batches" or "val_batches", for the sentences.

    Example:
        >>> intake = Intake(nn.Linear(3, 2), torch.device("cpu"), "train_batches")
        >>> images, targets = intake(([[0.0, 1.0, 2.0]], [1]))
        >>> images.dtype, targets
        (torch.float32, tensor([1]))
    """

    def __init__(self, model: nn.Module, device: torch.device, name: str):
        self.model, self.device, self.name = model, device, name
        self.read = 0
        self.change: Change = unchanged
        self.shapes: set[tuple] = set()
        floats = {p.dtype for p in model.parameters() if p.is_floating_point()}
        self.no_double = bool(floats) and torch.float64 not in floats

    def __call__(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The images and targets of a batch, each with the image number first.

        Raises:
            ValueError: it is no such pair, or is empty.
        """
        self.read += 1
        images, targets = as_pair(batch, f"batch {self.read} of {self.name}")
        if images.dtype == torch.float64 and self.no_double:
            images = images.float()  # numpy's and Python's floats
        if self.read == 1:
            self.change = form_for(self.model, images, self.device, self.name)
        return self.change(images), targets

    @contextmanager
    def explained(self, images: Tensor, targets: Tensor) -> Iterator[None]:
        """An error of the first step on such a batch, as one sentence that says what was given."""
        shapes = (images.shape, images.dtype, targets.shape, targets.dtype)
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except OF_TORCH as error:
            if shapes in self.shapes:  # the same kind of batch went well before
                raise
            words = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise ValueError(
                f"batch {self.read} of {self.name}, images {described(images)} and targets "
                f"{described(targets)}, does not work: {words}{hint(images, words)}."
            ) from error
        self.shapes.add(shapes)


def unchanged(images: Tensor) -> Tensor:
    """The images as they are."""
    return images


def divided(images: Tensor) -> Tensor:
    """Bytes as floats from 0 to 1."""
    return images.float() / 255


def channel_first(images: Tensor) -> Tensor:
    """Images (N, H, W, C) as (N, C, H, W)."""
    return images.permute(0, 3, 1, 2)


def both(images: Tensor) -> Tensor:
    """Bytes (N, H, W, C) as floats (N, C, H, W) from 0 to 1."""
    return divided(channel_first(images))


WORDS = {
    divided: "divided by 255",
    channel_first: "with the channel first, (N, C, H, W)",
    both: "divided by 255 and with the channel first, (N, C, H, W)",
}


def form_for(model: nn.Module, images: Tensor, device: torch.device, name: str) -> Change:
    """What to do with such images so that the model takes them; nothing unless it is needed."""
    is_bytes = images.dtype == torch.uint8
    shape = images.shape
    is_last = images.ndim == 4 and shape[3] in CHANNELS and shape[1] not in CHANNELS
    doubts = [divided] * is_bytes + [channel_first] * is_last + [both] * (is_bytes and is_last)
    if not doubts or takes(model, images, device):
        return unchanged
    for change in doubts:
        if takes(model, change(images), device):
            warnings.warn(
                f"{name} gives images {described(images)}, which the model does not take; it gets "
                f"them {WORDS[change]}.",
                stacklevel=4,
            )
            return change
    return unchanged


def takes(model: nn.Module, images: Tensor, device: torch.device) -> bool:
    """Can the model compute with such images? It stays as it was."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), autocast(device), random_state_kept():
            model(to_device(images[:2], device))
    except OF_TORCH:
        return False
    finally:
        for part, mode in modes:
            part.training = mode
    return True


def as_pair(batch: Any, where: str) -> tuple[Tensor, Tensor]:
    """A batch as a tensor of images and one of targets, or what is wrong with it."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        hint = " of your keys" if isinstance(batch, Mapping) else ""
        raise ValueError(f"{where} is {described(batch)}; {PAIR}: make one{hint} in collate_fn.")
    images = as_tensor(batch[0], f"{where}: the images are")
    targets = as_tensor(batch[1], f"{where}: the targets are")
    if images.ndim == 0 or targets.ndim == 0:
        raise ValueError(
            f"{where} is one image and not a batch: its target is {described(targets)}; wrap the "
            "data set in torch.utils.data.DataLoader(data, batch_size=64)."
        )
    if len(images) == 0 or len(targets) == 0:
        raise ValueError(f"{where} is empty; leave it out.")
    if not (targets.is_floating_point() or targets.is_complex()):
        targets = targets.long()
    elif not isinstance(batch[1], Tensor) or targets.dtype == torch.float64:
        targets = targets.float()  # as the logits are
    return images, targets


def as_tensor(value: Any, what: str) -> Tensor:
    """Numbers in a list, an array or a tensor as a tensor, or what is wrong with them."""
    if isinstance(value, Tensor):
        return value
    try:
        if isinstance(value, tuple | list) and value and isinstance(value[0], Tensor):
            return torch.stack(list(value))
        array = np.asarray(value)
    except OF_TORCH:  # torch and numpy each raise others
        raise ValueError(
            f"{what} of different shapes or kinds; bring them to one, for example with "
            "torchvision's Resize."
        ) from None
    if array.dtype.kind not in "biuf":
        text = "; number the classes from 0" if array.dtype.kind in "US" else ""
        raise ValueError(f"{what} {described(value)}{text}; give numbers in a tensor or an array.")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))


def check_values(images: Tensor) -> None:
    """Raise ValueError for images that no training survives: NaN, infinite or far too large.

    It waits for the device, so `fit` asks it of the first batch alone.
    """
    if not has_numbers(images) or not images.is_floating_point():
        return
    largest = float(images.abs().amax()) if images.numel() else 0.0
    if not largest <= LARGEST:
        raise ValueError(
            f"the first images hold NaN, infinite or far too large numbers (up to {largest:.0e}); "
            "look at what reads and normalises them."
        )


def scores_of(outputs: Any) -> Tensor:
    """The first tensor of what a model returns, or what is wrong with it."""
    scores = outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs
    if not isinstance(scores, Tensor):
        raise ValueError(
            f"the model returns {described(outputs)}; it must return logits, a tensor (N, C), or a "
            "tuple that starts with them."
        )
    return scores


def logits_of(outputs: Any) -> Tensor:
    """The logits (N, C) in what a model returns, or what is wrong with it."""
    logits = scores_of(outputs)
    if logits.ndim != 2 or not logits.is_floating_point():
        raise ValueError(
            f"the model returns {described(logits)}; it must return logits, floats (N, C), one "
            "for each image and class."
        )
    return logits


def check_softmax(loss_fn: Callable, logits: Tensor) -> None:
    """Raise ValueError for torch's cross-entropy of one output: it is always 0."""
    softmax = loss_fn is F.cross_entropy or isinstance(loss_fn, nn.CrossEntropyLoss)
    if softmax and logits.shape[1] == 1:
        raise ValueError(
            "the model has one output, and the softmax of one is always 1: give it one for each "
            "class, two for two classes."
        )


def check_loss(loss: Any) -> None:
    """Raise ValueError unless the loss is one number that a gradient can be taken of."""
    if not isinstance(loss, Tensor):
        raise ValueError(
            f"loss_fn returns {described(loss)}; it must return a tensor of one number."
        )
    if loss.numel() != 1:
        raise ValueError(
            f"loss_fn returns {described(loss)}; it must return one number, as with "
            "reduction='mean'."
        )
    if not loss.requires_grad:
        raise ValueError(
            "the loss has no gradient: something on the way from the parameters to it is detached "
            "(detach, no_grad, argmax, numpy), or none of them has requires_grad=True."
        )


def has_numbers(tensor: Tensor) -> bool:
    """Does a tensor have values? Those of the meta device and of lazy layers have none yet."""
    return tensor.device.type != "meta" and not nn.parameter.is_lazy(tensor)


def hint(images: Tensor, words: str) -> str:
    """What to do about torch's words, where one can know it."""
    if "more than 1 value per channel" in words:
        return "; BatchNorm needs two images in a batch: use drop_last=True or another batch size"
    if images.ndim == 4 and images.shape[1] == 1 and "channels" in words:
        return "; give grey images three channels, for example with images.expand(-1, 3, -1, -1)"
    if images.ndim == 3 and "input" in words:
        return "; give images (N, channels, H, W)"
    if "tuple" in words:
        return "; where the model returns a tuple, loss_fn gets the whole of it"
    if not images.is_floating_point() and "type" in words:
        return "; give the images as floats"
    return ""


__all__ = ["Intake", "one_pass"]
