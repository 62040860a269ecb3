"""Batches made on the device: the images stay there as uint8 and are augmented there, a batch
at a time. Derived in lesson 02."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from imbalkit.data.images import ImageSet
from imbalkit.device import memory_format, pick_device

Augmentation = Callable[[Tensor, Tensor, torch.Generator | None], tuple[Tensor, Tensor]]


class Batches:
    """Iterate over ``(images, targets)`` batches of an ImageSet, ready for a model.

    images: float32, (B, 3, H, W), in channels_last memory format, normalised per channel.
    targets: int64, (B,); an augmentation that mixes images may make them float, (B, C).

    sampler: any torch ``Sampler`` (or iterable) of indices; without one the order is random when
        `shuffle`, else that of the set.
    augment: functions ``(uint8 images, targets, generator) -> (images, targets)``, run in order
        before normalisation, on the device. They see the targets, so a policy may depend on the
        class, and they may mix images.
    mean, std: one number a channel, in units of [0, 1] pixels; `channel_statistics` finds them.

    Each random pass draws its seed from torch's global generator, as torch's own samplers do: one
    ``torch.manual_seed`` repeats a whole training.
    """

    def __init__(
        self,
        image_set: ImageSet,
        batch_size: int = 128,
        *,
        mean: Iterable[float],
        std: Iterable[float],
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        augment: Iterable[Augmentation] = (),
        device: torch.device | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; use at least 1.")
        if shuffle and sampler is not None:
            raise ValueError("give either shuffle=True or a sampler: a sampler sets the order.")
        self.device = device or pick_device()
        self.images = image_set.images.to(self.device)
        self.labels = image_set.labels.to(self.device)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.sampler = sampler
        self.augment = tuple(augment)
        self.scale, self.shift = (x.to(self.device) for x in scale_and_shift(mean, std))

    def __len__(self) -> int:
        images = len(self.labels) if self.sampler is None else len(self.sampler)
        return -(-images // self.batch_size)

    def __iter__(self):
        generator = self._generator()
        for indices in self._order(generator).split(self.batch_size):
            images = self.images.index_select(0, indices)
            images = images.permute(0, 3, 1, 2)  # a view: NHWC is channels_last
            targets = self.labels[indices]
            for function in self.augment:
                images, targets = function(images, targets, generator)
            images = torch.addcmul(self.shift, images.float(), self.scale)
            yield images.contiguous(memory_format=memory_format(self.device)), targets

    def _generator(self) -> torch.Generator | None:
        if not (self.shuffle or self.augment):
            return None  # evaluating a model must not change the training that follows
        seed = int(torch.empty((), dtype=torch.int64).random_())
        if self.device.type == "meta":  # has shapes but no numbers, so nothing to draw
            return None
        return torch.Generator(self.device).manual_seed(seed)

    def _order(self, generator: torch.Generator | None) -> Tensor:
        if self.sampler is not None:
            return torch.tensor(list(self.sampler), dtype=torch.int64, device=self.device)
        if self.shuffle:
            return torch.randperm(len(self.labels), generator=generator, device=self.device)
        return torch.arange(len(self.labels), device=self.device)


def scale_and_shift(mean: Iterable[float], std: Iterable[float]) -> tuple[Tensor, Tensor]:
    """Normalisation as one multiplication and one addition: scale and shift, float32 (3, 1, 1).

    With them ``images * scale + shift`` is ``(images / 255 - mean) / std`` for images (N, 3, H, W).
    """
    mean, std = torch.tensor(list(mean)), torch.tensor(list(std))
    if not (std > 0).all():
        raise ValueError(f"std is {std.tolist()}; every channel needs a positive number.")
    return (1 / (255 * std)).view(3, 1, 1), (-mean / std).view(3, 1, 1)


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, over all pixels of all images.

    images: uint8, (N, H, W, 3). Returns two lists of three numbers in units of [0, 1] pixels, as
    ``Normalize`` wants them. One pass, exact: a channel has only 256 values, so their counts hold
    everything. Derived in lesson 02.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.cpu().unbind(-1):
        counts = torch.zeros(256, dtype=torch.float64)
        for chunk in channel.split(5000):  # bincount needs int64 copies: keep them small
            counts += torch.bincount(chunk.flatten().long(), minlength=256)
        share = counts / counts.sum()
        mean = (share * values).sum()
        means.append(mean.item())
        stds.append((share * (values - mean) ** 2).sum().sqrt().item())
    return means, stds


class RandomCrop:
    """Shift each image by up to `padding` pixels each way; the border is filled by reflection."""

    def __init__(self, padding: int = 4):
        self.padding = padding

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator | None):
        n, channels, height, width = images.shape
        rows = self._shifted(n, height, images.device, generator)
        columns = self._shifted(n, width, images.device, generator)
        first = torch.arange(n, device=images.device).view(n, 1, 1) * height
        source = (first + rows[:, :, None]) * width + columns[:, None, :]  # (N, H, W)
        pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
        # index_select copies whole pixels: three times as fast as pixels[source].
        cropped = pixels.index_select(0, source.flatten()).view(n, height, width, channels)
        return cropped.permute(0, 3, 1, 2), targets

    def _shifted(self, n: int, size: int, device: torch.device, generator) -> Tensor:
        """For each of n images the source line of each of `size` lines: (n, size)."""
        shape, high = (n, 1), 2 * self.padding + 1
        shift = torch.randint(high, shape, generator=generator, device=device) - self.padding
        line = (torch.arange(size, device=device) + shift).abs()  # reflect at the first line
        return torch.where(line < size, line, 2 * (size - 1) - line)  # and at the last


class RandomFlip:
    """Mirror each image left to right with probability one half."""

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator | None):
        shape = (len(images), 1, 1, 1)
        flip = torch.rand(shape, generator=generator, device=images.device) < 0.5
        return torch.where(flip, images.flip(3), images), targets


class Cutout:
    """Blacken one square of `size` pixels a side per image, its centre drawn uniformly.

    DeVries and Taylor 2017, "Improved regularization of convolutional neural networks with
    cutout"; as there, the square may reach over the border.
    """

    def __init__(self, size: int = 8):
        self.size = size

    def __call__(self, images: Tensor, targets: Tensor, generator: torch.Generator | None):
        n, _, height, width = images.shape
        inside = self._inside(n, height, images.device, generator)[:, None, :, None]
        inside = inside & self._inside(n, width, images.device, generator)[:, None, None, :]
        return images.masked_fill(inside, 0), targets

    def _inside(self, n: int, length: int, device: torch.device, generator) -> Tensor:
        centre = torch.randint(length, (n, 1), generator=generator, device=device)
        start = centre - self.size // 2
        line = torch.arange(length, device=device)
        return (line >= start) & (line < start + self.size)
