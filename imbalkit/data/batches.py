"""Batches made on the device. Derived in lesson 02.

The images stay there as uint8 and are augmented there, a batch at a time.
"""

import reprlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from imbalkit.checks import check_whole
from imbalkit.data.images import ImageSet
from imbalkit.device import memory_format, pick_device

Augmentation = Callable[[Tensor, Tensor, torch.Generator | None], tuple[Tensor, Tensor]]


class Batches:
    """Iterate over ``(images, targets)`` batches of an ImageSet, ready for a model.

    Images come as float32, (B, 3, H, W), in channels_last memory format, normalised per channel;
    targets as int64, (B,), or float (B, C) where an augmentation mixes images. Each random pass
    draws its seed from torch's global generator, as torch's own samplers do: one
    ``torch.manual_seed`` repeats a whole training. Derived in lesson 02.

    Args:
        image_set: where the images come from; they are kept on the device.
        batch_size: 1 or more; the last batch of a pass may be smaller.
        mean: one number a channel, in units of [0, 1] pixels; `channel_statistics` finds it.
        std: likewise, above 0.
        shuffle: a random order, another one in each pass.
        sampler: any torch ``Sampler`` (or iterable) of indices, whole numbers, in place of
            `shuffle`.
        augment: functions ``(uint8 images, targets, generator) -> (images, targets)``, run in order
            before normalisation, on the device. They see the targets, so a policy may depend on the
            class, and they may mix images.
        device: the best there is unless given.

    Raises:
        ValueError: a batch size below 1, a mean or std that is no usable number, or both `shuffle`
            and a sampler; in a pass, a sampler that gives nothing, or no indices of the images.

    Example:
        >>> images = torch.randint(256, (5, 8, 8, 3), dtype=torch.uint8)
        >>> image_set = ImageSet(images, torch.tensor([0, 0, 0, 1, 1]), ("cat", "dog"), "noise")
        >>> batches = Batches(image_set, batch_size=2, mean=[0.5] * 3, std=[0.25] * 3)
        >>> [tuple(images.shape) for images, targets in batches]
        [(2, 3, 8, 8), (2, 3, 8, 8), (1, 3, 8, 8)]
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
        check_whole(batch_size, "batch_size")
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
        order = self.labels if self.sampler is None else self.sampler
        return -(-len(order) // self.batch_size)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
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
            return sampled(self.sampler, len(self.labels)).to(self.device)
        if self.shuffle:
            return torch.randperm(len(self.labels), generator=generator, device=self.device)
        return torch.arange(len(self.labels), device=self.device)


def sampled(sampler: Iterable[int], images: int) -> Tensor:
    """The indices that a sampler gives, int64 (M,), on the CPU, where they are checked.

    Raises:
        ValueError: it gives none, or others than of so many images.
    """
    drawn = list(sampler)
    if not drawn:
        raise ValueError("the sampler gives no index; check its weights and its length.")
    try:
        indices = torch.tensor(drawn)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        indices = torch.tensor([])  # text, None, or lists of several lengths
    if indices.ndim != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
        raise ValueError(
            f"the sampler gives {reprlib.repr(drawn[0])}; it must give one whole number at a time, "
            "the index of an image."
        )
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= images:
        raise ValueError(
            f"the sampler gives indices from {low} to {high} for {images} images; make it for the "
            "images of these batches."
        )
    return indices.long()


def scale_and_shift(mean: Iterable[float], std: Iterable[float]) -> tuple[Tensor, Tensor]:
    """Normalisation as one multiplication and one addition.

    With them ``images * scale + shift`` is ``(images / 255 - mean) / std`` for images (N, 3, H, W).

    Args:
        mean: one number a channel, in units of [0, 1] pixels.
        std: likewise, above 0.

    Returns:
        scale and shift, float32 (3, 1, 1).

    Raises:
        ValueError: not one finite number a channel, or a std that is not above 0.

    Example:
        >>> scale, shift = scale_and_shift(mean=[0.5] * 3, std=[0.25] * 3)
        >>> round(float(255 * scale[0] + shift[0]), 4)  # white: (1 - 0.5) / 0.25
        2.0
    """
    means, stds = torch.tensor(list(mean)), torch.tensor(list(std))
    for name, numbers in (("mean", means), ("std", stds)):
        if numbers.shape != (3,) or not numbers.isfinite().all():
            raise ValueError(
                f"{name} is {numbers.tolist()}; give one finite number for each of 3 channels."
            )
    if not (stds > 0).all():
        raise ValueError(f"std is {stds.tolist()}; every channel needs a positive number.")
    return (1 / (255 * stds)).view(3, 1, 1), (-means / stds).view(3, 1, 1)


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, over all pixels of all images.

    One pass, exact: a channel has only 256 values, so their counts hold everything. Derived in
    lesson 02.

    Args:
        images: uint8, (N, H, W, 3).

    Returns:
        two lists of three numbers in units of [0, 1] pixels, as ``Normalize`` wants them.

    Raises:
        ValueError: images of another dtype or shape, or none.

    Example:
        >>> images = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1).expand(1, 1, 2, 3)
        >>> channel_statistics(images)
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not images.numel():
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 of shape "
            "(N, H, W, 3), one image or more."
        )
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
    """Shift each image by up to `padding` pixels each way; the border is filled by reflection.

    An augmentation for `Batches`. Derived in lesson 02.

    Args:
        padding: pixels, less than the side of the images.

    Raises:
        ValueError: a padding that is no whole number or negative; once called, images that are too
            small for it: a reflection has no more lines than the image.

    Example:
        >>> images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
        >>> RandomCrop(padding=0)(images, torch.tensor([0, 1]), None)[0].equal(images)
        True
    """

    def __init__(self, padding: int = 4):
        if type(padding) is not int or padding < 0:
            raise ValueError(f"padding is {padding!r}; give a whole number of pixels, 0 or more.")
        self.padding = padding

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        n, channels, height, width = images.shape
        if self.padding >= min(height, width):
            raise ValueError(
                f"images of {height} x {width} pixels are too small for RandomCrop(padding="
                f"{self.padding}); give less than {min(height, width)}."
            )
        rows = self._source_lines(n, height, images.device, generator)
        columns = self._source_lines(n, width, images.device, generator)
        first = torch.arange(n, device=images.device).view(n, 1, 1) * height
        source = (first + rows[:, :, None]) * width + columns[:, None, :]  # (N, H, W)
        pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
        # index_select copies whole pixels: three times as fast as pixels[source].
        cropped = pixels.index_select(0, source.flatten()).view(n, height, width, channels)
        return cropped.permute(0, 3, 1, 2), targets

    def _source_lines(
        self, n: int, size: int, device: torch.device, generator: torch.Generator | None
    ) -> Tensor:
        """For each of n images the source line of each of `size` lines: (n, size)."""
        shape, high = (n, 1), 2 * self.padding + 1
        shift = torch.randint(high, shape, generator=generator, device=device) - self.padding
        line = (torch.arange(size, device=device) + shift).abs()  # reflect at the first line
        return torch.where(line < size, line, 2 * (size - 1) - line)  # and at the last


class RandomFlip:
    """Mirror each image left to right with probability one half.

    An augmentation for `Batches`; wrong for digits and text. Derived in lesson 02.

    Example:
        >>> images = torch.randint(256, (1, 3, 8, 8), dtype=torch.uint8)
        >>> flipped, targets = RandomFlip()(images, torch.tensor([0]), None)
        >>> flipped.equal(images) or flipped.equal(images.flip(3))
        True
    """

    def __call__(
        self, images: Tensor, targets: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        shape = (len(images), 1, 1, 1)
        flip = torch.rand(shape, generator=generator, device=images.device) < 0.5
        return torch.where(flip, images.flip(3), images), targets


__all__ = [
    "Augmentation",
    "Batches",
    "RandomCrop",
    "RandomFlip",
    "channel_statistics",
    "scale_and_shift",
]
