"""What every measurement needs beside the model: how it is called, what it answers, how long."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from imbalkit.doctor.calling import REFUSALS, Calling
from imbalkit.doctor.losses import Loss
from imbalkit.doctor.outputs import first_line
from imbalkit.doctor.picking import pick_scores
from imbalkit.doctor.reading import Clock, Sample
from imbalkit.doctor.tasks import Task
from imbalkit.doctor.trees import leaves

# Images in the passes by which the time of a pass is judged; the last one where there is time.
FIRST_SIZE, NEXT_SIZES = 2, (16, 4)
SHARES = (0.5, 0.1)  # of the time left, for the smaller and the larger one
BELIEVED = 8
STEP = 4.0  # a step of training takes at most so many times as long as a pass without gradients
# A larger model or image may not fit into the memory in larger batches than the caller's.
LIGHT_PARAMETERS, LIGHT_IMAGE = 5_000_000, 2**16


class Pace:
    """How long a forward pass takes; what would end too late is not begun.

    Two passes of different sizes tell what an image adds to it. That is believed for up to eight
    times as many images as were measured; beyond, and after one pass, all of it grows with them.
    """

    def __init__(self, clock: Clock):
        self.clock = clock
        self.images, self.time = 1, 0.0
        self.image_time: float | None = None

    def note(self, images: int, seconds: float) -> None:
        """A pass of so many images took so long."""
        if images < self.images:
            return
        if self.time and images >= 2 * self.images:
            self.image_time = max(seconds - self.time, 0.0) / (images - self.images)
        self.images, self.time = images, seconds

    def seconds(self, images: int) -> float:
        """How long a pass of so many images should take."""
        if self.image_time is None:
            return self.time * max(1.0, images / self.images)
        if images <= self.images:
            fewer = self.time - self.image_time * (self.images - images)
            return max(fewer, self.time * images / self.images)
        known = min(images, BELIEVED * self.images)
        return (self.time + self.image_time * (known - self.images)) * max(1.0, images / known)

    def fitting(self, most: int, share: float, times: float = 1.0) -> int:
        """How many images, up to `most`, fit into a share of the budget that is still there.

        A pass counts `times`. One that takes longer may have as many images as cost nothing more;
        0 if not even that fits into what is left.
        """
        there = min(share * self.clock.seconds, self.clock.left()) / times
        sizes = [most // 2**k for k in range(most.bit_length()) if most // 2**k >= 2] or [most]
        fitting = [n for n in sizes if self.seconds(n) <= there]
        if fitting:
            return fitting[0]
        free = [n for n in sizes if self.seconds(n) <= 1.1 * self.seconds(sizes[-1])]
        return free[0] if times * self.seconds(free[0]) <= self.clock.left() else 0


@dataclass
class Setup:
    """How a model is examined.

    Attributes:
        device: where it lies.
        calling: how it is called.
        loss: how the loss is called.
        pace: how long a pass takes.
        task: what is classified, known after the first pass.
        largest: the largest label that was read.
        largest_batch: the most images in a pass that the memory is known to hold.
        broadcasts: how the loss mixes up outputs and targets, or "".
        no_trials: why nothing may be trained, or "".
        accumulate: batches to each step of the optimizer.
        left_out: checks that lack a measurement, and why.
    """

    device: torch.device
    calling: Calling
    loss: Loss
    pace: Pace
    task: Task = field(default_factory=lambda: Task(2, False))
    largest: int = 0
    largest_batch: int = 256
    broadcasts: str = ""
    no_trials: str = ""
    accumulate: int = 1
    left_out: dict[str, str] = field(default_factory=dict)

    def outputs(self, model: nn.Module, batch: Any, images: int = 0) -> Any:
        """The model's outputs.

        Raises:
            ValueError: the model refuses the batch; the sentence names its dtype and shape.
        """
        started = time.perf_counter()
        try:
            outputs = self.calling.outputs(model, batch, self.device)
        except REFUSALS as error:
            raise ValueError(
                f"the model refuses {described_inputs(batch)} on {self.device}: "
                f"{type(error).__name__}: {first_line(error)}{_about_bytes(batch)}"
            ) from error
        if images and not torch.is_grad_enabled():
            self.pace.note(images, time.perf_counter() - started)
        return outputs

    def scores(self, outputs: Any, targets: Tensor) -> Tensor:
        """The tensor of scores in the outputs."""
        return pick_scores(outputs, targets, self.largest)

    def measure_pace(self, model: nn.Module, sample: Sample) -> Any:
        """Call the model on a few images, to know how long a pass takes.

        Returns:
            The outputs of the first pass, in training mode, where no time is left for another.
        """
        outputs = self._timed(model, sample, FIRST_SIZE, training=True)
        if self.pace.seconds(FIRST_SIZE) > self.pace.clock.left():
            return outputs
        for size in NEXT_SIZES:
            size = min(size, self.largest_batch)
            if self.pace.seconds(size) < SHARES[size > 4] * self.pace.clock.left():
                self._timed(model, sample, size, training=False)
                break
        return None

    def _timed(self, model: nn.Module, sample: Sample, images: int, training: bool) -> Any:
        """The outputs for so many images, None where the model refuses them: it says so later."""
        images = min(images, len(sample.targets))
        model.train(training)
        switch_dropout_off(model)
        started = time.perf_counter()
        with buffers_kept(model), torch.set_grad_enabled(training):
            try:
                outputs = self.outputs(model, sample.rows(slice(0, images)))
            except ValueError:
                return None
        self.pace.note(images, time.perf_counter() - started)
        return outputs

    def size(self, most: int, share: float, times: float = 1.0) -> int:
        """How many images to take in a pass: what time and memory allow."""
        return self.pace.fitting(min(most, self.largest_batch), share, times)

    def leave_out(self, *checks: str) -> None:
        """These checks lack a measurement for which there was no time."""
        clock = self.pace.clock
        reason = f"no time was left; a pass of {self.pace.images} images takes "
        reason += f"{self.pace.time:.2g} s: give more than seconds={clock.seconds:g}"
        self.left_out.update(dict.fromkeys(checks, reason))


def switch_dropout_off(model: nn.Module) -> None:
    """In a model in training mode, too: it is noise, not a difference of modes."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put the running averages back at the end."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers() if not is_lazy(buffer)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def described_inputs(batch: Any) -> str:
    """What the model gets, in a few words."""
    tensors = [leaf for _, leaf in leaves(batch) if isinstance(leaf, Tensor)]
    first = tensors[0]
    more = f" and {len(tensors) - 1} more" if len(tensors) > 1 else ""
    return f"{first.dtype} inputs of shape {tuple(first.shape)}{more}"


def _about_bytes(batch: Any) -> str:
    if not any(isinstance(t, Tensor) and t.dtype == torch.uint8 for _, t in leaves(batch)):
        return ""
    return "; if your loop converts them, pass forward=lambda model, batch: model(batch[0] / 255)"


def largest_batch(model: nn.Module, sample: Sample) -> int:
    """How many images a pass may have: any number of small ones, else the caller's own."""
    parameters = sum(p.numel() for p in model.parameters())
    image = sample.inputs[0].numel() * sample.inputs.element_size()
    if parameters <= LIGHT_PARAMETERS and image <= LIGHT_IMAGE:
        return 256
    return max(2, sample.batch)


def new_setup(
    device: torch.device, calling: Calling | None, loss_fn: Callable, clock: Clock
) -> Setup:
    """A setup for batches that are read as `calling` says, or for plain pairs."""
    calling = calling or Calling(nn.Identity())
    inside = calling.way is not None and calling.way.inside
    inside = inside or (calling.forward is not None and calling.wants_loss)
    return Setup(device, calling, Loss(loss_fn, inside), Pace(clock))
