"""Right answers in several styles, and every mistake that lesson 02's exercises expect."""

import random

import numpy as np
import pytest
import torch
from helpers import expect_not_yet
from PIL import ImageEnhance
from torch import nn
from torchvision.transforms import v2

from imbalkit.course.exercises import lesson02 as ex
from imbalkit.course.exercises.base import Outcome
from imbalkit.data import channel_statistics

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


@pytest.mark.parametrize(
    ("exercise", "letter", "message"),
    [
        (ex.q1, "a", "who learned"),
        (ex.q1, "c", "In evaluation mode it does not"),
        (ex.q1, "d", "never computed anew"),
        (ex.q5, "a", "gradient of the first layer is far larger"),
        (ex.q5, "b", "a step of a thousandth"),
        (ex.q5, "d", "serves all layers"),
    ],
)
def test_choices(exercise, letter, message):
    expect_not_yet(exercise, [letter], message)
    assert exercise.feedback(exercise.right).outcome is Outcome.CORRECT


# --- within and between


def with_numpy(images):
    x = np.asarray(images, dtype=np.float64)
    return np.array([x.var(axis=1).mean(), x.mean(axis=1).var()])


def with_a_loop(images):
    rows = images.tolist()
    means = [sum(row) / len(row) for row in rows]
    pairs = list(zip(rows, means, strict=True))
    variances = [sum((x - m) ** 2 for x in row) / len(row) for row, m in pairs]
    grand = sum(means) / len(means)
    return [sum(variances) / len(rows), sum((m - grand) ** 2 for m in means) / len(rows)]


def one_from_the_other(images):
    total = images.var(unbiased=False)
    between = (images.double().mean(1) ** 2).mean() - images.double().mean() ** 2
    return total - between, between.item()


def in_one_tensor(images):
    var, mean = torch.var_mean(images, 1, correction=0)
    return torch.stack([var.mean(), var.new_tensor(mean.numpy().var())])


def parts(images, within=None, between=None):
    good = with_numpy(images)
    return (good[0] if within is None else within, good[1] if between is None else between)


SPLIT_WRONG = [
    (lambda x: with_numpy(x)[::-1].copy(), "swapped"),
    (lambda x: with_numpy(x.T), "place in the image"),
    (lambda x: with_numpy(x) ** 0.5, "standard deviations"),
    (lambda x: (x.var(1).mean(), x.mean(1).var()), "within divides"),
    (lambda x: parts(x, between=x.mean(1).var()), "between divides"),
    (lambda x: parts(x, within=x.var(1).mean()), "within divides"),
    (lambda x: parts(x, within=x.var(correction=0)), "all pixels together"),
    (lambda x: parts(x, within=x.std(1, correction=0).mean()), "averages the deviations"),
    (lambda x: parts(x, within=x.std(1, correction=0).mean() ** 2), "averages the deviations"),
    (lambda x: parts(x, between=0), "within is right"),
    (lambda x: parts(x, between=x.mean(1).std(correction=0)), "within is right"),
    (lambda x: parts(x, within=0.5), "between is right"),
    (lambda x: (x.var(correction=0) / 2, x.var(correction=0) / 2), "sum is right"),
    (lambda x: (1, 2), "Their sum should be"),
    (lambda x: (x.var(1, correction=0), x.mean(1)), "One number"),
    (lambda x: x.var(1, correction=0).mean(), "two numbers"),
    (lambda x: {"within": 1, "between": 2}, "without names"),
    (lambda x: with_numpy(x).sum(), "two numbers"),
]


@pytest.mark.parametrize("right", [with_numpy, with_a_loop, one_from_the_other, in_one_tensor])
def test_split_variance(right):
    assert ex.q2.feedback(right).outcome is Outcome.CORRECT
    x = torch.rand(7, 9) + torch.rand(7, 1)
    assert sum(map(float, right(x))) == pytest.approx(x.var(correction=0).item(), rel=1e-4)


@pytest.mark.parametrize(("function", "message"), SPLIT_WRONG)
def test_split_variance_mistakes(function, message):
    expect_not_yet(ex.q2, [function], message)


# --- the pipeline

TO_IMAGE, JITTER, NORMALIZE = v2.ToImage(), v2.ColorJitter(0.2), v2.Normalize(MEAN, STD)
SCALED, UNSCALED = v2.ToDtype(torch.float32, scale=True), v2.ToDtype(torch.float32)


def by_hand(image):
    x = np.asarray(image) / 255 * random.uniform(0.8, 1.2)
    return ((x.clip(0, 1) - MEAN) / STD).transpose(2, 0, 1)


def with_pillow(image):
    image = ImageEnhance.Brightness(image).enhance(0.8 + 0.4 * torch.rand(1).item())
    return v2.functional.normalize(v2.functional.to_dtype(TO_IMAGE(image), scale=True), MEAN, STD)


PIPELINES = [
    v2.Compose([TO_IMAGE, JITTER, SCALED, NORMALIZE]),
    v2.Compose([JITTER, TO_IMAGE, SCALED, NORMALIZE]),
    v2.Compose([TO_IMAGE, SCALED, JITTER, NORMALIZE]),
    v2.Compose([v2.PILToTensor(), v2.ColorJitter(brightness=(0.8, 1.2)), SCALED, NORMALIZE]),
    v2.Compose([TO_IMAGE, JITTER, UNSCALED, v2.Lambda(lambda x: x / 255), NORMALIZE]),
    v2.Compose([TO_IMAGE, JITTER, UNSCALED, v2.Normalize([255 * m for m in MEAN],
                                                         [255 * s for s in STD])]),
    v2.Compose([TO_IMAGE, JITTER, v2.ToDtype(torch.float64, scale=True), NORMALIZE]),
    nn.Sequential(TO_IMAGE, JITTER, SCALED, NORMALIZE),
    lambda image: NORMALIZE(SCALED(JITTER(TO_IMAGE(image)))).tolist(),
    by_hand,
    with_pillow,
]  # fmt: skip
IMAGENET = v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
PIPELINES_WRONG = [
    ([TO_IMAGE, UNSCALED, NORMALIZE, JITTER], "clamped"),
    ([TO_IMAGE, SCALED, NORMALIZE, JITTER], "clamped"),
    ([TO_IMAGE, JITTER, UNSCALED, NORMALIZE], "from 0 to 255. It expects"),
    ([TO_IMAGE, UNSCALED, NORMALIZE], "from 0 to 255. It expects"),
    ([TO_IMAGE, JITTER, SCALED], "not normalised"),
    ([TO_IMAGE, JITTER], "whole numbers"),
    ([TO_IMAGE, JITTER, UNSCALED], "whole numbers"),
    ([TO_IMAGE, SCALED, NORMALIZE], "nothing is random"),
    ([TO_IMAGE, JITTER, SCALED, v2.Lambda(lambda x: x / 255), NORMALIZE], "divided by 255 twice"),
    ([TO_IMAGE, v2.ColorJitter((1.3, 1.3)), SCALED, NORMALIZE], "by the factor 1."),
    ([TO_IMAGE, JITTER, SCALED, IMAGENET], "Black became"),
    ([TO_IMAGE, JITTER, SCALED, v2.Normalize(MEAN, [1, 1, 1])], "Black became"),
    ([TO_IMAGE, JITTER, SCALED, NORMALIZE, NORMALIZE], "Black became"),
    ([TO_IMAGE, JITTER, SCALED, v2.RandomHorizontalFlip(1), NORMALIZE], "each in its place"),
    ([TO_IMAGE, v2.Lambda(lambda x: x.flip(0)), JITTER, SCALED, NORMALIZE], "each in its place"),
    ([TO_IMAGE, JITTER, NORMALIZE, SCALED], "TypeError"),
    ([JITTER, SCALED, NORMALIZE], "TypeError"),
    ([JITTER], "shape"),
    ([TO_IMAGE, JITTER, SCALED, NORMALIZE, v2.Resize(8)], "shape"),
]


@pytest.mark.parametrize("right", PIPELINES)
def test_pipeline(right):
    state = torch.get_rng_state()
    assert ex.q3.feedback(right).outcome is Outcome.CORRECT
    assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize(("steps", "message"), PIPELINES_WRONG)
def test_pipeline_mistakes(steps, message):
    expect_not_yet(ex.q3, [v2.Compose(steps)], message)


@pytest.mark.parametrize(
    ("answer", "message"),
    [([TO_IMAGE, JITTER], "list of transforms"), (v2.Compose, "pipeline is wanted"),
     (torch.ones(3, 32, 32), "pipeline is wanted")],
)  # fmt: skip
def test_what_is_no_pipeline_is_said_so(answer, message):
    expect_not_yet(ex.q3, [answer], message)


# --- OpenCV's images


def shaped(values):
    return torch.tensor(values)[:, None, None]


def in_numpy(images, mean, std):
    x = images.numpy()[..., ::-1].astype(np.float32) / 255
    return ((x - mean) / std).transpose(0, 3, 1, 2)


def with_torchvision(images, mean, std):
    x = images[..., [2, 1, 0]].movedim(-1, 1)
    return v2.Normalize(mean, std)(v2.ToDtype(torch.float32, scale=True)(x))


def image_by_image(images, mean, std):
    result = []
    for image in images:
        blue, green, red = image.double().unbind(2)
        channels = zip((red, green, blue), mean, std, strict=True)
        result.append(torch.stack([(c / 255 - m) / s for c, m, s in channels]))
    return result


def multiplied_out(images, mean, std):
    x = images.permute(0, 3, 1, 2)[:, [2, 1, 0]].half()
    return (x - 255 * shaped(mean)) / (255 * shaped(std))


def rgb(images):
    return images.flip(3).permute(0, 3, 1, 2) / 255


def normal(x, mean, std):
    return (x - shaped(mean)) / shaped(std)


def anew(images, mean, std):
    x = rgb(images)
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


def bgr(images):
    return images.permute(0, 3, 1, 2) / 255


PREPARE_WRONG = [
    (lambda x, m, s: normal(bgr(x), m, s), "Blue and red"),
    (lambda x, m, s: normal(bgr(x), m, s).flip(1), "blue's constants"),
    (lambda x, m, s: normal(255 * rgb(x), m, s), "from 0 to 255. The constants"),
    (lambda x, m, s: 255 * rgb(x), "not yet normalised"),
    (lambda x, m, s: rgb(x), "are mean and std used"),
    (lambda x, m, s: rgb(x) - shaped(m), "division by std is missing"),
    (lambda x, m, s: rgb(x) / shaped(s), "mean is not subtracted"),
    (lambda x, m, s: rgb(x) / shaped(s) - shaped(m), "Subtract the mean first"),
    (lambda x, m, s: (rgb(x) - shaped(m)) * shaped(s), "multiplies"),
    (lambda x, m, s: (rgb(x) + shaped(m)) / shaped(s), "adds the mean"),
    (lambda x, m, s: (rgb(x) - shaped(m)) / shaped(s) ** 2, "by the variance"),
    (lambda x, m, s: normal(rgb(x), MEAN, STD), "Use those"),
    (lambda x, m, s: normal(rgb(x) * 255 / 256, m, s), "not by 256"),
    (
        lambda x, m, s: normal((x.flip(3) / 255).reshape(len(x), 3, *x.shape[1:3]), m, s),
        "scrambled",
    ),
    (lambda x, m, s: normal((x / 255).view(len(x), 3, *x.shape[1:3]), m, s), "scrambled"),
    (lambda x, m, s: normal(x.flip(3).permute(0, 3, 2, 1) / 255, m, s), "shape"),
    (lambda x, m, s: in_numpy(x, m, s).transpose(0, 2, 3, 1), "shape"),
    (lambda x, m, s: (rgb(x) - torch.tensor(m)) / torch.tensor(s), "RuntimeError"),
    (lambda x, m, s: x - m, "TypeError"),
    (anew, "computed anew"),
    (lambda x, m, s: 0 * rgb(x), "the model learned from"),
    (lambda x, m, s: bgr(x), "the model learned from"),
    (lambda x, m, s: 2 * normal(rgb(x), m, s), "the model learned from"),
]


@pytest.mark.parametrize(
    "right", [in_numpy, with_torchvision, image_by_image, multiplied_out,
              lambda x, m, s: normal(rgb(x), m, s)],
)  # fmt: skip
def test_prepare(right):
    assert ex.q4.feedback(right).outcome is Outcome.CORRECT


@pytest.mark.parametrize(("function", "message"), PREPARE_WRONG)
def test_prepare_mistakes(function, message):
    expect_not_yet(ex.q4, [function], message)


def test_prepared_images_of_a_set_have_mean_0_and_deviation_1():
    images = torch.randint(256, (50, 6, 6, 3), dtype=torch.uint8)
    x = in_numpy(images.flip(3), *channel_statistics(images))
    assert np.allclose(x.mean((0, 2, 3)), 0, atol=1e-5) and np.allclose(x.std((0, 2, 3)), 1)
