"""Right answers in several styles, and every mistake that lesson 08's exercises expect."""

import random

import numpy as np
import pytest
import torch
from helpers import expect_not_yet
from torchvision.transforms import v2

from imbalkit.augmentation import Remix
from imbalkit.course.exercises import lesson08 as ex
from imbalkit.course.exercises.base import Outcome

# --- labels by hand

BY_HAND_WRONG = [
    ((0.6, 0.4, 1, 0.1875), "Give the rare one's"),
    ((0.5, 0.4, 1, 0.1875), "shares of the pixels"),
    ((40, 0.4, 1, 0.1875), "per cent"),
    ((0.4, 1, 1, 0.1875), "Both conditions must hold"),
    ((0.4, 0.6, 1, 0.1875), "share of the frequent class"),
    ((0.4, 0, 1, 0.1875), "gives 0, 1 or lambda"),
    ((0.4, 0.4, 0.6, 0.1875), "mixup's share"),
    ((0.4, 0.4, 0, 0.1875), "To which of the two"),
    ((0.4, 0.4, 0.4, 0.1875), "frequent class's share of the pixels"),
    ((0.4, 0.4, 0.9, 0.1875), "gives 0, 1 or lambda"),
    ((0.4, 0.4, 1, 0.25), "cannot be seen"),
    ((0.4, 0.4, 1, 0.8125), "share of the background"),
    ((0.4, 0.4, 1, 0.75), "visible part of the box"),
    ((0.4, 0.4, 1, 0.3), "divided by pixels"),
]


@pytest.mark.parametrize(
    "right", [(0.4, 0.4, 1, 0.1875), (0.4, 0.4, 1.0, 0.188), (2 / 5, 1 - 0.6, True * 1, 3 / 16)]
)
def test_labels_by_hand(right):
    assert ex.q1.feedback(*right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("answer", "message"), BY_HAND_WRONG)
def test_labels_by_hand_mistakes(answer, message):
    expect_not_yet(ex.q1, answer, message)


def test_labels_by_hand_has_the_numbers_of_the_package():
    remix = Remix([900, 100])
    frequent, rare = torch.tensor([0, 0]), torch.tensor([1, 1])
    own = remix.label_share(torch.tensor([0.6, 0.4]), frequent, rare)
    assert ex.q1.feedback(0.4, *(1 - own), 3 / 16).outcome is Outcome.CORRECT


# --- paste


def with_a_mask(background, foreground, top, left, side):
    rows = torch.arange(background.shape[1])[:, None]
    columns = torch.arange(background.shape[2])
    box = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    return torch.where(box, foreground, background), box.float().mean()


def with_loops(background, foreground, top, left, side):
    image, seen = background.numpy().copy(), 0
    _, height, width = image.shape
    for row in range(top, top + side):
        for column in range(left, left + side):
            if 0 <= row < height and 0 <= column < width:
                image[:, row, column] = foreground.numpy()[:, row, column]
                seen += 1
    return [image, np.float32(seen / (height * width))]


def with_limits(background, foreground, top, left, side, area=None):
    bottom, end = min(top + side, background.shape[1]), min(left + side, background.shape[2])
    top, left = max(top, 0), max(left, 0)
    image = background.clone()
    image[:, top:bottom, left:end] = foreground[:, top:bottom, left:end]
    return image, (area or (bottom - top) * (end - left)) / background[0].numel()


def not_cut(background, foreground, top, left, side):
    image = background.clone()
    box = slice(top, top + side), slice(left, left + side)
    image[:, box[0], box[1]] = foreground[:, box[0], box[1]]
    return image, side**2 / background[0].numel()


def from_its_corner(background, foreground, top, left, side):
    image, part = with_limits(background, foreground, top, left, side)
    rows, columns = (image != background).any(0).any(1), (image != background).any(0).any(0)
    small = foreground[:, : rows.sum(), : columns.sum()]
    first, start = rows.int().argmax(), columns.int().argmax()
    image[:, first : first + small.shape[1], start : start + small.shape[2]] = small
    return image, part


def in_place(background, foreground, top, left, side):
    image, part = with_limits(background, foreground, top, left, side)
    return background.copy_(image), part


def rows_and_columns_swapped(background, foreground, top, left, side):
    return with_limits(background, foreground, left, top, side)


def one_row_short(background, foreground, top, left, side):
    image, part = with_limits(background, foreground, top, left, side)
    bottom = min(top + side, background.shape[1]) - 1
    image[:, bottom] = background[:, bottom]
    return image, part


PASTE_WRONG = [
    (not_cut, "Does a slice start below 0"),
    (from_its_corner, "same place"),
    (in_place, "Work on a copy"),
    (rows_and_columns_swapped, "outside the box"),
    (one_row_short, "only a part"),
    (lambda b, f, t, le, s: with_limits(b, f, t, le, s, area=s * s), "too high"),
    (lambda b, f, t, le, s: with_limits(b, f, t, le, s, area=1), "are pasted"),
    (lambda b, f, t, le, s: (with_limits(b, f, t, le, s)[0], 1 - with_limits(b, f, t, le, s)[1]),
     "share of the background"),
    (lambda b, f, t, le, s: with_limits(b, f, t, le, s)[0], "Return two things"),
    (lambda b, f, t, le, s: (b, 0.5), "nothing has been pasted"),
    (lambda b, f, t, le, s: (with_limits(b, f, t, le, s)[0][None], 0.5), "shape"),
    (lambda b, f, t, le, s: with_limits(b, f, t, le, s) and None, "returned None"),
]  # fmt: skip


@pytest.mark.parametrize("right", [with_a_mask, with_loops, with_limits])
def test_paste(right):
    assert ex.q2.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), PASTE_WRONG)
def test_paste_mistakes(function, message):
    expect_not_yet(ex.q2, [function], message)


# --- turn left


@pytest.mark.parametrize(
    ("letter", "message"), [("a", "wrong label"), ("b", "worth more"), ("d", "both signs")]
)
def test_turn_left(letter, message):
    expect_not_yet(ex.q3, [letter], message)
    assert ex.q3.feedback("c").outcome is Outcome.CORRECT


# --- a policy


def with_random(image, label, policy, standard):
    if label in policy:
        for probability, transform in policy[label]:
            image = transform(image) if random.random() < probability else image
    return standard(image)


def with_bernoulli(image, label, policy, standard):
    steps = policy.get(label) or []
    chosen = torch.bernoulli(torch.tensor([probability for probability, _ in steps]))
    for use, (_, transform) in zip(chosen.bool(), steps, strict=True):
        if use:
            image = transform(image)
    return standard(image)


def on_a_tensor(image, label, policy, standard):
    pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
    for probability, transform in policy.get(label, ()):
        if np.random.default_rng().random() < probability:
            pixels = transform(pixels)
    return standard(pixels).numpy()


def with_torchvision(image, label, policy, standard):
    steps = [v2.RandomApply([Call(t)], p=p) for p, t in policy.get(label, [])]
    return standard(v2.Compose([*steps, v2.Identity()])(image))


class Call(torch.nn.Module):
    def __init__(self, transform):
        super().__init__()
        self.transform = transform

    def forward(self, image):
        return self.transform(image)


def standard_first(image, label, policy, standard):
    image = standard(image)
    for probability, transform in policy.get(label, []):
        if torch.rand(()) < probability:
            image = transform(image)
    return image


def always(image, label, policy, standard):
    for _, transform in policy.get(label, []):
        image = transform(image)
    return standard(image)


def never(image, label, policy, standard):
    return standard(image)


def turned_around(image, label, policy, standard):
    for probability, transform in policy.get(label, []):
        if torch.rand(()) > probability:
            image = transform(image)
    return standard(image)


def one_draw(image, label, policy, standard):
    draw = torch.rand(())
    for probability, transform in policy.get(label, []):
        if draw < probability:
            image = transform(image)
    return standard(image)


def backwards(image, label, policy, standard):
    for probability, transform in reversed(policy.get(label, [])):
        if torch.rand(()) < probability:
            image = transform(image)
    return standard(image)


def one_of_them(image, label, policy, standard):
    if label in policy:
        probability, transform = random.choice(policy[label])
        if torch.rand(()) < probability:
            image = transform(image)
    return standard(image)


def returns_after_the_first(image, label, policy, standard):
    for probability, transform in policy.get(label, []):
        if torch.rand(()) < probability:
            return standard(transform(image))
    return standard(image)


def of_class_2(image, label, policy, standard):
    return with_random(image, 2, policy, standard)


def of_two_classes(image, label, policy, standard):
    return with_random(image, max(label, 1), policy, standard)


def class_2_or_nothing(image, label, policy, standard):
    return with_random(image, label if label == 2 else 0, policy, standard)


def no_default(image, label, policy, standard):
    return with_random(image, label, {label: policy[label]}, standard)


def without_standard(image, label, policy, standard):
    return with_random(image, label, policy, lambda x: x)


def standard_twice(image, label, policy, standard):
    return standard(with_random(image, label, policy, standard))


POLICY_WRONG = [
    (standard_first, "normalised already"),
    (standard_twice, "normalised already"),
    (always, "first transform was applied in 100%"),
    (never, "first transform was applied in 0%"),
    (turned_around, "was applied in 0%"),
    (one_draw, "Draw a random number for each"),
    (backwards, "Keep the order"),
    (one_of_them, "transform was applied in"),
    (returns_after_the_first, "second transform was applied in 0%"),
    (of_class_2, "not in the policy"),
    (of_two_classes, "not in the policy"),
    (class_2_or_nothing, "holds one transform"),
    (no_default, "KeyError"),
    (without_standard, "without `standard`"),
    (lambda image, label, policy, standard: standard(image) + 1, "not what"),
    (lambda image, label, policy, standard: standard(image)[0], "shape"),
]


@pytest.mark.parametrize("right", [with_random, with_bernoulli, on_a_tensor, with_torchvision])
def test_policy(right):
    state = torch.get_rng_state()
    assert ex.q4.feedback(right).outcome is Outcome.CORRECT
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("function", "message"), POLICY_WRONG)
def test_policy_mistakes(function, message):
    expect_not_yet(ex.q4, [function], message)
