import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, SubsetRandomSampler, WeightedRandomSampler

from imbalkit.data import (
    Batches,
    ImageDataset,
    ImageSet,
    RandomCrop,
    RandomFlip,
    channel_statistics,
    standard_transform,
)

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
CPU = torch.device("cpu")
PLAIN = {"mean": [0, 0, 0], "std": [1 / 255] * 3, "device": CPU}  # gives back 0..255


def numbered(n, classes=3):
    """n images, each filled with its own number, so that a batch shows which ones it holds."""
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 32, 32, 3)
    labels = torch.arange(n) % classes
    return ImageSet(images, labels, tuple("abcdefghij"[:classes]), "numbered")


def seen(batches):
    return torch.cat([images[:, 0, 0, 0].round().long() for images, _ in batches])


def random_images(n=8):
    return torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8)


def test_the_fast_and_the_standard_way_give_the_same_pixels(tiny_set):
    fast = Batches(tiny_set, 16, mean=MEAN, std=STD, device=CPU)
    standard = DataLoader(ImageDataset(tiny_set, standard_transform(MEAN, STD)), batch_size=16)
    for (a, la), (b, lb) in zip(fast, standard, strict=True):
        torch.testing.assert_close(a, b, atol=2e-6, rtol=0)
        assert la.equal(lb)


def test_the_standard_way_augments_only_when_asked(tiny_set):
    plain = ImageDataset(tiny_set, standard_transform(MEAN, STD))
    augmented = ImageDataset(tiny_set, standard_transform(MEAN, STD, augment=True))
    assert plain[0][0].equal(plain[0][0])
    assert any(not augmented[0][0].equal(plain[0][0]) for _ in range(5))
    assert augmented[0][0].shape == (3, 32, 32) and augmented[0][1] == 0


def test_batches_are_channels_last_float_and_keep_order():
    batches = Batches(numbered(50), 16, **PLAIN)
    images, targets = next(iter(batches))
    assert images.dtype == torch.float32 and images.shape == (16, 3, 32, 32)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert targets.dtype == torch.int64
    assert seen(batches).tolist() == list(range(50))
    assert len(batches) == len(list(batches)) == 4


def test_shuffling_visits_each_image_once_and_differs_each_pass():
    batches = Batches(numbered(50), 16, shuffle=True, **PLAIN)
    first, second = seen(batches), seen(batches)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(50))
    assert not first.equal(second)


def test_one_seed_repeats_order_and_augmentation(tiny_set):
    def run():
        torch.manual_seed(3)
        augment = [RandomCrop(), RandomFlip()]
        batches = Batches(
            tiny_set, 16, mean=MEAN, std=STD, shuffle=True, augment=augment, device=CPU
        )
        return torch.cat([images for _ in range(2) for images, _ in batches])

    assert run().equal(run())


def test_evaluating_does_not_change_the_training_that_follows(tiny_set):
    def draw(evaluate_first):
        torch.manual_seed(3)
        if evaluate_first:
            list(Batches(tiny_set, 16, mean=MEAN, std=STD, device=CPU))
        return next(iter(Batches(numbered(50), 16, shuffle=True, **PLAIN)))[1]

    assert draw(evaluate_first=True).equal(draw(evaluate_first=False))


@pytest.mark.parametrize(
    "sampler",
    [
        SubsetRandomSampler([4, 5, 6, 7]),
        WeightedRandomSampler([0.0] * 4 + [1.0] * 4 + [0.0] * 42, 20),
    ],
)
def test_any_torch_sampler_sets_the_order(sampler):
    batches = Batches(numbered(50), 16, sampler=sampler, **PLAIN)
    assert set(seen(batches).tolist()) == {4, 5, 6, 7}
    assert len(batches) == len(list(batches))


def test_shuffle_and_sampler_exclude_each_other():
    with pytest.raises(ValueError, match="either shuffle=True or a sampler"):
        Batches(numbered(9), shuffle=True, sampler=[1, 2], **PLAIN)


def test_batch_size_and_std_are_checked():
    with pytest.raises(ValueError, match="batch_size is 0"):
        Batches(numbered(9), 0, **PLAIN)
    with pytest.raises(ValueError, match="positive"):
        Batches(numbered(9), mean=MEAN, std=[0.2, 0, 0.2], device=CPU)


def test_random_crop_is_a_shift_of_the_reflected_image():
    images = random_images()
    cropped, _ = RandomCrop(4)(images, None, None)
    padded = torch.nn.functional.pad(images.float(), (4, 4, 4, 4), mode="reflect").byte()
    windows = padded.unfold(2, 32, 1).unfold(3, 32, 1)  # (N, 3, 9, 9, 32, 32)
    shifts = set()
    for i in range(len(images)):
        match = (windows[i] == cropped[i][:, None, None]).flatten(3).all(-1).all(0)
        assert match.any(), "not a window of the reflected image"
        shifts.add(tuple(match.nonzero()[0].tolist()))
    assert len(shifts) > 1


def test_random_crop_reaches_every_shift():
    ramp = torch.arange(32, dtype=torch.uint8).expand(1, 3, 32, 32).repeat(400, 1, 1, 1)
    cropped, _ = RandomCrop(4)(ramp, None, torch.Generator().manual_seed(0))
    assert set((cropped[:, 0, 16, 16].int() - 16).tolist()) == set(range(-4, 5))


def test_random_flip_mirrors_about_half():
    images = random_images(400)
    flipped, _ = RandomFlip()(images, None, torch.Generator().manual_seed(0))
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 160 < mirrored.sum() < 240


def test_augmentations_see_the_targets_and_may_mix_them(tiny_set):
    def blacken_class_2(images, targets, generator):
        return images.masked_fill((targets == 2).view(-1, 1, 1, 1), 0), targets

    def mix_with_neighbour(images, targets, generator):
        soft = torch.nn.functional.one_hot(targets, 3).float()
        return (images.float() + images.roll(1, 0)) / 2, (soft + soft.roll(1, 0)) / 2

    batches = Batches(tiny_set, 60, augment=[blacken_class_2], **PLAIN)
    images, targets = next(iter(batches))
    assert (images[targets == 2] == 0).all() and (images[targets == 1] > 0).any()

    batches = Batches(tiny_set, 60, augment=[mix_with_neighbour], **PLAIN)
    images, targets = next(iter(batches))
    assert targets.shape == (60, 3) and targets[30].tolist() == [0.5, 0.5, 0]
    mixed = (tiny_set.images[30].float() + tiny_set.images[29]) / 2
    torch.testing.assert_close(images[30], mixed.permute(2, 0, 1), atol=1e-3, rtol=0)


def test_channel_statistics_are_those_of_all_pixels(tiny_set):
    mean, std = channel_statistics(tiny_set.images)
    pixels = tiny_set.images.double() / 255
    torch.testing.assert_close(
        torch.tensor(mean).double(), pixels.mean((0, 1, 2)), rtol=1e-6, atol=0
    )
    expected = pixels.std((0, 1, 2), correction=0)
    torch.testing.assert_close(torch.tensor(std).double(), expected, rtol=1e-6, atol=0)


def test_normalised_training_images_have_mean_0_and_std_1(tiny_set):
    mean, std = channel_statistics(tiny_set.images)
    images, _ = next(iter(Batches(tiny_set, 60, mean=mean, std=std, device=CPU)))
    assert images.mean((0, 2, 3)).abs().max() < 1e-4
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-4


def test_image_set_refuses_what_does_not_fit(tiny_set):
    images, labels, classes = tiny_set.images, tiny_set.labels, tiny_set.classes
    with pytest.raises(ValueError, match="uint8 of shape"):
        ImageSet(images.float(), labels, classes, "x")
    with pytest.raises(ValueError, match="uint8 of shape"):
        ImageSet(images.permute(0, 3, 1, 2), labels, classes, "x")
    with pytest.raises(ValueError, match="59 labels"):
        ImageSet(images, labels[:-1], classes, "x")
    with pytest.raises(ValueError, match=r"int64 of shape \(N,\)"):
        ImageSet(images, labels.float(), classes, "x")
    with pytest.raises(ValueError, match="from 1 to 3 but there are 3 classes"):
        ImageSet(images, labels + 1, classes, "x")
    with pytest.raises(ValueError, match="from -1 to 1"):
        ImageSet(images, labels - 1, classes, "x")
    with pytest.raises(ValueError, match="no image"):
        tiny_set.subset([])


def test_class_counts_include_a_class_without_images(tiny_set):
    assert tiny_set.subset(range(50)).class_counts().tolist() == [30, 20, 0]


# --- pixels of another image, and orders that are none


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 5), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_a_crop_takes_pixels_of_its_own_image_or_refuses(height, width, padding, n):
    own = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 3, height, width)
    if padding >= min(height, width):
        with pytest.raises(ValueError, match=f"images of {height} x {width} pixels are too small"):
            RandomCrop(padding)(own, None, None)
    else:
        assert RandomCrop(padding)(own, None, None)[0].equal(own)


@pytest.mark.parametrize("padding", [-1, 4.0, True, "4"])
def test_a_padding_is_a_whole_number(padding):
    with pytest.raises(ValueError, match="give a whole number of pixels"):
        RandomCrop(padding)


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.5] * 3, [0.2, math.inf, 0.2]),
        ([0.5] * 3, [0.2, math.nan, 0.2]),
        ([0.5, math.nan, 0.5], [0.2] * 3),
        ([0.5], [0.2] * 3),
        ([0.5] * 3, [0.2] * 4),
    ],
)
def test_a_mean_and_a_std_are_three_finite_numbers(mean, std):
    with pytest.raises(ValueError, match=r"is .*; give one finite number for each of 3 channels"):
        Batches(numbered(9), mean=mean, std=std, device=CPU)


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        ([], "gives no index"),
        ([0.0, 1.7], "gives 0.0; it must give one whole number at a time"),
        (torch.tensor([0.5, 1.0]), "one whole number at a time"),
        ([True, False, True], "gives True; it must"),
        ([[0, 1], [2, 3]], r"gives \[0, 1\]; it must"),
        ([[0, 1], [2]], r"gives \[0, 1\]; it must"),
        (["a"], "gives 'a'; it must"),
        ([3, -1], "indices from -1 to 3 for 9 images"),
        ([0, 9], "indices from 0 to 9 for 9 images"),
    ],
)
def test_a_sampler_gives_indices_of_the_images(sampler, words):
    with pytest.raises(ValueError, match=words):
        list(Batches(numbered(9), sampler=sampler, **PLAIN))


@pytest.mark.parametrize("kind", [list, torch.tensor, np.array, lambda x: list(np.array(x))])
def test_a_sampler_may_give_whole_numbers_of_any_kind(kind):
    assert seen(Batches(numbered(9), 2, sampler=kind([7, 1, 1]), **PLAIN)).tolist() == [7, 1, 1]
