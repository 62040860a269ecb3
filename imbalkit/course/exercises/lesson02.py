"""The exercises of lesson 02, normalization."""

import numpy as np
import torch
from PIL import Image

from imbalkit.course.exercises.base import (
    Choice,
    Exercise,
    NotYet,
    call,
    close,
    kind,
    number,
    numbers,
    recognise,
)

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]  # CIFAR-10, as in the statement
PARTS = ("within", "between")


class WhichConstants(Choice):
    """Constants for a frozen network from elsewhere."""

    right = "b"
    wrong = {
        "a": "These standardise your images. But who learned from images with these constants?",
        "c": "BatchNorm forgives a factor where it uses the batch. In evaluation mode it does not.",
        "d": "Statistics of the deployed images change with each delivery, and the network does "
        "not. They are never computed anew from the images in use.",
    }
    hints = (
        "To whom do the statistics belong?",
        "BatchNorm in evaluation mode subtracts averages of another training. How were the images "
        "of that training prepared?",
    )
    answer = 'choice = "b"'
    why = (
        "The statistics belong to the model. Frozen, with BatchNorm in evaluation mode, only "
        "ImageNet's are right: the stored averages belong to inputs prepared that way. Were all "
        "layers fine-tuned, both would work. ImageNet's would be the safer start, since the first "
        "layers then see inputs of the scale that they know."
    )


class DeviationOfDeviations(Exercise):
    """The variance of all pixels, split into within images and between images."""

    hints = (
        "Each row is one image. One number needs the variance of each row, the other its mean.",
        "The two must add up to images.var(correction=0), so every variance here divides by the "
        "number of values, not by one less.",
        "within is a mean of variances; between is a variance of means.",
    )
    answer = """
        def split_variance(images):
            within = images.var(1, correction=0).mean()
            between = images.mean(1).var(correction=0)
            return within, between
    """
    afterwards = """
        red = lab.full.images[::10, :, :, 0].flatten(1) / 255
        within, between = split_variance(red)
        print(f"variance of all pixels {red.var(correction=0):.5f}")
        print(f"within {within:.5f} + between {between:.5f} = {within + between:.5f}")
        print(f"roots: {red.std(correction=0):.4f} of all, {within**0.5:.4f} within")
        print(f"mean of the images' deviations: {red.std(1, correction=0).mean():.4f}")
    """
    why = (
        "The sum is the variance of all pixels. The constant 0.2023 that many copy drops the part "
        "between images. It is smaller still than the root of the part within, because it averages "
        "deviations, not variances."
    )

    def examine(self, split_variance):
        for images in self.hidden():
            parts = call(split_variance, images)
            if isinstance(parts, dict):
                raise NotYet("Return two numbers, within and between, without names.")
            try:
                within, between = parts
            except (TypeError, ValueError):
                raise NotYet("Return two numbers: within, between.") from None
            self.compare(number(within), number(between), images.double())

    def hidden(self):
        generator = torch.Generator().manual_seed(2)
        for count, pixels in ((5, 40), (2, 3), (30, 4), (12, 12)):
            brightness = 0.2 + 0.5 * torch.rand(count, 1, generator=generator)
            contrast = 0.05 + 0.3 * torch.rand(count, 1, generator=generator)
            yield brightness + contrast * (torch.rand(count, pixels, generator=generator) - 0.5)

    def compare(self, within, between, x):
        right = [x.var(1, correction=0).mean().item(), x.mean(1).var(correction=0).item()]
        got, total = [within, between], x.var(correction=0).item()
        if close(got, right, 1e-3):
            return
        where = f"For {x.shape[0]} images of {x.shape[1]} pixels"
        if close(got, right[::-1], 1e-3):
            raise NotYet("The two are swapped: within images first.")
        by_pixel = [x.var(0, correction=0).mean().item(), x.mean(0).var(correction=0).item()]
        if close(got, by_pixel, 1e-3) or close(got, by_pixel[::-1], 1e-3):
            raise NotYet(
                "This splits by the place in the image: columns instead of rows. Each row of "
                "the input is one image."
            )
        unbiased = [x.var(1).mean().item(), x.mean(1).var().item()]
        if close(got, unbiased[::-1], 1e-3):
            raise NotYet("The two are swapped, and divide by the number of values less one.")
        if close(got, np.sqrt(right), 1e-3) or close(got, np.sqrt(unbiased), 1e-3):
            raise NotYet("These are standard deviations. Only variances add up.")
        for part, value, biased, other in zip(PARTS, got, right, unbiased, strict=True):
            if not close(value, biased, 1e-3) and close(value, other, 1e-3):
                raise NotYet(
                    f"{part} divides by the number of values less one, as torch does unless you "
                    "say correction=0. The parts then do not add up."
                )
        if close(within, total, 1e-3):
            raise NotYet("within is the variance of all pixels together. Take each image alone.")
        deviation = x.std(1, correction=0).mean().item()
        if close(within, deviation, 1e-3) or close(within, deviation**2, 1e-3):
            raise NotYet("within averages the deviations of the images. Average their variances.")
        for part, value, good in zip(PARTS, got, right, strict=True):
            if close(value, good, 1e-3):
                raise NotYet(
                    f"{part} is right. {where} the variance of all pixels is {total:.5f}, and your "
                    f"two numbers add up to {within + between:.5f}."
                )
        if close(within + between, total, 1e-3):
            raise NotYet("The sum is right, the parts are not: how is one image told from another?")
        raise NotYet(
            f"{where} you return {within:.5f} and {between:.5f}. Their sum should be {total:.5f}, "
            "the variance of all pixels."
        )


class RepairThePipeline(Exercise):
    """Two faults in a torchvision pipeline that runs without an error."""

    hints = (
        "Follow one pixel from 0..255 through the four transforms. Which range does each expect?",
        "Normalize expects 0..1, and ColorJitter clamps floats to 0..1.",
        "ToImage, ColorJitter, ToDtype with scale=True, Normalize.",
    )
    answer = """
        cifar_mean, cifar_std = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
        repaired = v2.Compose(
            [
                v2.ToImage(),
                v2.ColorJitter(0.2),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(cifar_mean, cifar_std),
            ]
        )
    """
    afterwards = """
        x = repaired(pixels)
        print(f"mean {x.mean():.2f}  std {x.std():.2f}")
    """
    why = (
        "ToDtype lacked scale=True, and ColorJitter stood behind Normalize, where it clamps to "
        "[0, 1]. The deviation is now near 1 on images like those of the constants, and the mean "
        "near 0, up to the brightness that ColorJitter happens to draw."
    )
    blank = "Replace None by a pipeline, then run the cell again."

    def examine(self, repaired):
        if isinstance(repaired, list | tuple):
            raise NotYet("This is a list of transforms. v2.Compose makes a pipeline of it.")
        if isinstance(repaired, type) or not callable(repaired):
            raise NotYet(f"A pipeline is wanted here, such as v2.Compose, not {kind(repaired)}.")
        factors = []
        with torch.random.fork_rng(devices=[]):  # leave the learner's random numbers alone
            torch.manual_seed(0)
            for image in self.hidden():
                y = numbers(call(repaired, Image.fromarray(image)), (3, *image.shape[:2]))
                factors.append(self.brightness(image.transpose(2, 0, 1) / 255, y))
        if np.ptp(factors) < 0.01:
            raise NotYet("The values are right, but nothing is random now. Keep ColorJitter(0.2).")

    def hidden(self):
        """Eight images, (H, W, 3), each with a black and a white row."""
        generator = np.random.default_rng(5)
        for height, width in [(32, 32), (20, 28)] * 4:
            image = generator.integers(1, 256, (height, width, 3), dtype=np.uint8)
            image[0], image[1] = 0, 255
            yield image

    def brightness(self, x, y):
        """The factor that the jitter drew, from an image in 0..1 and what became of it."""
        if np.isin(y, np.arange(256)).all() and y.max() > 1:
            raise NotYet("The result still has whole numbers from 0 to 255.")
        if y.max() > 100:
            raise NotYet(
                f"The largest value is {y.max():.0f}, as if Normalize had got pixels from 0 to "
                "255. It expects 0 to 1."
            )
        if y.min() >= 0 and y.max() <= 1:
            if self.fitted(x, y) > 0.5:
                raise NotYet("These are pixels from 0 to 1: scaled, but not normalised.")
            raise NotYet(
                "No value is below 0 or above 1, as if something had clamped the normalised values."
            )
        factor = self.fitted(x, y * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1)))
        if 0.78 < factor < 1.22:
            return factor
        if 0 <= factor < 0.05:
            raise NotYet("White came out nearly as dark as black: divided by 255 twice?")
        x_again = y * np.reshape(STD, (3, 1, 1)) + np.reshape(MEAN, (3, 1, 1))
        if (np.abs(x_again[x > 0.02] - 1) < 0.01).all():
            raise NotYet(
                "Every pixel that is not black came out white. ColorJitter clamps floats to 0 to "
                "1. Which range does it get here?"
            )
        if factor > 0:
            raise NotYet(
                f"The brightness was changed by the factor {factor:.2f}. ColorJitter(0.2) stays "
                "between 0.8 and 1.2."
            )
        black, wanted = y[:, 0].mean(1), -np.array(MEAN) / STD
        if not np.allclose(black, wanted, atol=0.02):
            raise NotYet(
                f"Black became {black.round(2).tolist()} in the three channels. By the constants "
                f"of the exercise it should be {wanted.round(2).tolist()}."
            )
        raise NotYet(
            "Black becomes what it should, other pixels do not. They should be those of the image "
            "times one brightness, normalised, each in its place."
        )

    def fitted(self, x, y):
        """The one factor that makes `y` of `x`, clamped and up to rounding; -1 if none does."""
        unclamped = x < 0.75  # also if made brighter by a third
        factor = (x * y)[unclamped].sum() / (x**2)[unclamped].sum()
        return factor if np.abs(y - np.clip(factor * x, 0, 1)).max() < 3 / 255 else -1


class InTheDeployedProgram(Exercise):
    """Prepare OpenCV's images for a model, as its training images were prepared."""

    hints = (
        "Three things differ: the place of the channels, their order, and the range.",
        "permute(0, 3, 1, 2) moves the channels, flip turns their order, and mean and std need the "
        "shape (3, 1, 1).",
        "Turn the colours first. mean and std are in the order red, green, blue.",
    )
    answer = """
        def prepare(images, mean, std):
            x = images.flip(3).permute(0, 3, 1, 2) / 255  # red, green, blue, in front
            mean = torch.tensor(mean).reshape(3, 1, 1)
            std = torch.tensor(std).reshape(3, 1, 1)
            return (x - mean) / std
    """
    afterwards = """
        seen = prepare(lab.test.images[:1000].flip(3), lab.mean, lab.std)  # as OpenCV reads them
        used, _ = next(iter(lab.eval_batches(lab.test)))
        n = min(len(seen), len(used))
        print(f"largest difference: {(seen[:n] - used[:n].cpu()).abs().max():.1e}")
    """
    why = (
        "Same range, same order of colours, same constants: what the model saw in training. The "
        "swapped colours are the fault to fear, since nothing stops and no class takes everything."
    )

    def examine(self, prepare):
        generator = torch.Generator().manual_seed(4)
        settings = (
            ((4, 6, 5, 3), MEAN, STD),
            ((1, 3, 4, 3), [0.2, 0.5, 0.7], [0.1, 0.2, 0.4]),
            ((3, 7, 7, 3), [0.4, 0.1, 0.3], [0.5, 0.3, 0.2]),
        )
        for shape, mean, std in settings:
            images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
            n, height, width, _ = shape
            result = call(prepare, images, mean, std)
            got = numbers(result, (n, 3, height, width))
            right = normalised(images.flip(3), mean, std)
            if np.abs(got - right).max() > 0.1 / 255 / min(std):  # a tenth of a grey level
                self.name_mistake(got, right, images, mean, std)

    def name_mistake(self, got, right, images, mean, std):
        turned = images.flip(3)
        x = turned.permute(0, 3, 1, 2).double().numpy() / 255
        m, s = np.reshape(mean, (3, 1, 1)), np.reshape(std, (3, 1, 1))
        unturned = normalised(images, mean, std)
        mistakes = (
            (unturned, "Blue and red are swapped: the model would see blue where it knows red."),
            (
                unturned[:, ::-1],
                "Red is standardised with blue's constants. Turn the colours first, and "
                "leave mean and std as they are.",
            ),
            (
                right[:, ::-1],
                "The right numbers in the order blue, green, red. Were the constants "
                "turned, and not the images?",
            ),
            ((255 * x - m) / s, "The pixels run from 0 to 255. The constants are for 0 to 1."),
            (255 * x, "These are pixels from 0 to 255, in the right order: not yet normalised."),
            (x, "Scaled to 0 to 1, but not normalised: are mean and std used?"),
            (x - m, "The mean is subtracted. The division by std is missing."),
            (x / s, "Divided by std. The mean is not subtracted."),
            (x / s - m, "Subtract the mean first, then divide the difference by std."),
            ((x - m) * s, "This multiplies by std."),
            ((x + m) / s, "This adds the mean."),
            ((x - m) / s**2, "This divides by the variance."),
            (normalised(turned, MEAN, STD), "mean and std are passed. Use those, not CIFAR-10's."),
            ((x * 255 / 256 - m) / s, "White is 255, so divide by 255, not by 256."),
        )
        recognise(got, mistakes, 1e-4)
        for source in (images, turned):
            scrambled = source.contiguous().reshape(right.shape).double().numpy() / 255
            if close(got, (scrambled - m) / s, 1e-4):
                raise NotYet(
                    "The shape is right and the pixels are scrambled: reshape and view keep the "
                    "order in memory. Which function moves a dimension?"
                )
        if got.any() and (np.abs(got.mean((0, 2, 3))) < 1e-3).all():
            raise NotYet(
                "Each channel has the mean 0, as if the statistics were computed anew from these "
                "images. Use the two that are passed."
            )
        blue, green, red = images[0, 0, 0].tolist()
        raise NotYet(
            f"With mean {mean} and std {std} the first pixel, blue {blue}, green {green}, red "
            f"{red}, became {got[0, :, 0, 0].round(3).tolist()}; the model learned from "
            f"{right[0, :, 0, 0].round(3).tolist()}."
        )


def normalised(images, mean, std):
    """uint8 (N, H, W, 3), with the constants in the order of its channels, as (N, 3, H, W)."""
    x = images.permute(0, 3, 1, 2).double().numpy() / 255
    return (x - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))


class SmallerStep(Choice):
    """Raw pixels and a thousandth of the learning rate."""

    right = "c"
    wrong = {
        "a": "The gradient of the first layer is far larger with raw pixels than with the others, "
        "as the first table shows. So even a small step moves it.",
        "b": "At 0.05 the first steps were so wild that the convolutions lost their gradient. Does "
        "a step of a thousandth do that?",
        "d": "One rate serves all layers. What becomes of those that needed no smaller one?",
    }
    hints = (
        "Why did the raw pixels end at the prior: because of the pixels, or because of the first "
        "steps?",
        "Look at the gradients of raw and own in the first table. Then ask which parts of the "
        "network a rate of 5e-5 suits.",
    )
    answer = 'choice = "c"'
    afterwards = """
        torch.manual_seed(0)
        slow = plain_cnn(width=lab.profile.width)
        batches = lab.train_batches(**scalings["raw"])
        history = fit(slow, batches, 5, optimizer=sgd(slow, lr=5e-5), show_progress=False)
        print(f"loss {history.train[-1]['loss']:.2f}, entropy of the prior {entropy:.2f}")
        print(f"own statistics, lr 0.05, epoch 5: {plain_losses['own'][:5][-1]:.2f}")
    """
    why = (
        "It learns, a little. On CIFAR-10 the loss came to about 1.41 in five epochs on both seeds "
        "that we tried: below the entropy of the prior, 1.64, and far above what standardised "
        "pixels reach. The input scale and the learning rate of the first layer act together. That "
        'is why "divide the rate by ten" and "normalise" both end a collapse. But the small rate '
        "also slows the layers that were fine. Normalising does not."
    )


q1 = WhichConstants()
q2 = DeviationOfDeviations()
q3 = RepairThePipeline()
q4 = InTheDeployedProgram()
q5 = SmallerStep()
